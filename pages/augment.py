"""Augment: what augmentation does to an image, and what the network is really fed."""

import streamlit as st

from cifar_core.sources import DataError
from pages import ui
from pages.ui import augmenting, batches, loaders, tour

ui.page("Augment")
tour.show("Augment")

info = ui.choose_data()
if info is None:
    st.stop()
try:
    data = loaders.data_set(info.id, info.fingerprint, ui.place().cache)
except DataError as error:
    st.error(ui.plain(str(error)))
    st.stop()

settings, result = st.columns([2, 5], gap="large")
with settings:
    subject = augmenting.choose_images(info, data)
    augmenting.take_over()
    how = augmenting.choose_transforms()
    samples, seed = augmenting.choose_draw()
if subject is None:
    st.stop()
with result:
    st.subheader("Samples", anchor=False)
    if augmenting.is_off(how):
        st.info("Every transform is switched off, so each sample is the original.", icon=":material/info:")
    shown = st.container()
    st.subheader("What the network is really fed", anchor=False)
    kind = batches.choose_normalisation()
    made = augmenting.augmented(info, subject, samples, how, seed, kind)
    with shown:
        augmenting.show_samples(info, subject, made)
    augmenting.show_fed(subject, made, kind)
