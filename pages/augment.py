"""Augment: what augmentation does to an image, what a network thinks of it, and what it is really fed."""

import streamlit as st

from cifar_core.runs import RunError
from cifar_core.sources import DataError
from pages import ui
from pages.ui import augmenting, batches, loaders, opinion, selecting, tour

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

selecting.bar(info, restricts=True)
view = augmenting.choose_view()
# The pictures come first, so that on a narrow screen they are not below all the sliders.
result, controls = st.columns([5, 2], gap="large")
with controls:
    subject = augmenting.choose_images(info, data, view)
    samples, seed = augmenting.choose_draw(view)
    opened = augmenting.open_run()
    how = augmenting.choose_pipeline()
if subject is None:
    st.stop()
with result:
    # The kind decides what "Use for training" hands over, and stands where it is shown.
    head, shown, fed = st.container(), st.container(), st.container()
    with fed:
        st.subheader("What the network is fed", anchor=False)
        kind = batches.choose_normalisation()
    with head:
        augmenting.show_pipeline(how, kind, opened)
        if augmenting.is_off(how):
            st.info("Every transform is switched off, so each sample is the original.", icon=":material/info:")
    if view == augmenting.STRIP:
        with shown:
            strip = augmenting.show_strip(info, subject, samples, how, seed)
            try:
                opinion.show(info, data, subject, strip, seed)
            except (DataError, RunError) as error:
                st.error(ui.plain(str(error)))
    made = augmenting.augmented(info, subject, samples, how, seed, kind)
    blended = augmenting.mixed(info, subject, how, samples, seed, kind)
    if view != augmenting.STRIP:
        with shown:
            before = augmenting.hold(how)
            held = augmenting.augmented(info, subject, samples, before, seed, kind) if before else None
            augmenting.show_samples(info, subject, made, held)
            if blended:
                augmenting.show_mixed(subject, blended)
    with fed:
        augmenting.show_fed(subject, made, blended, kind)
