"""Data: what is in the data set, and what a network gets of it."""

import streamlit as st

from cifar_core.datasets import cached
from cifar_core.sources import DataError
from pages import ui
from pages.ui import browsing, images, loaders, selecting, sources, suspicion, tour

ui.page("Data")
tour.show("Data")
under_way = sources.see_to_reading()

if not cached(ui.place().cache):
    if not under_way:
        ui.no_data(reads=False)
    st.subheader("Open a data set", anchor=False)
    sources.offer()
    st.stop()

info = ui.choose_data()
only_drawn = all(one.kind == "drawn" for one in cached(ui.place().cache))
with st.expander("Open another data set", icon=":material/folder_open:", expanded=only_drawn or sources.let_down()):
    sources.offer()
if info is None:
    st.stop()
try:
    data = loaders.data_set(info.id, info.fingerprint, ui.place().cache)
except DataError as error:
    st.error(ui.plain(str(error)))
    st.stop()

images.facts(info, data)
selecting.bar(info, restricts=True)
images.distribution(info, data)

split = images.choose_split("What the images, pixels and the batch below are of.")
images_tab, suspects_tab, pixels_tab, preprocessing_tab = st.tabs(
    ["Images", "Suspects", "Pixels", "Preprocessing"], key="view", on_change="rerun", bind="query-params"
)
if images_tab.open:
    with images_tab:
        browsing.gallery(info, data, split)
if suspects_tab.open:
    with suspects_tab:
        suspicion.show(info, data, split)
if pixels_tab.open:
    with pixels_tab:
        images.pixels(info, split)
if preprocessing_tab.open:
    with preprocessing_tab:
        images.preprocessing(info, data, split)
if not only_drawn:
    # Where nothing else is left, it would be drawn again at once.
    st.divider()
    sources.let_go(info)
