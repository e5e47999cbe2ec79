"""Train: choose settings, start a run, watch it learn, steer or stop it."""

import streamlit as st

from cifar_core import job
from cifar_core.runs import RunError
from pages import ui
from pages.ui import live, settings

ui.page("Train")

# The run comes first, so that on a narrow screen it is not below all the settings.
progress, choices = st.columns([5, 2], gap="large")
with choices:
    st.subheader("New run", anchor=False)
    if config := settings.form():
        try:
            st.query_params["run"] = job.start_run(config, ui.place().runs, ui.place().cache).id
            st.rerun()
        except RunError as error:
            st.error(str(error))
with progress:
    st.subheader("Run", anchor=False)
    if run := ui.choose_run():
        live.watch(run)
