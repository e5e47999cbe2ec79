"""Train: choose settings, start a run, watch it learn, steer or stop it."""

import streamlit as st

from cifar_core import job
from cifar_core.runs import Run, RunError
from pages import ui
from pages.ui import keeping, live, selecting, series, settings, tour


def about(run: Run) -> None:
    """What the run is called, and what can be done with it as a whole."""
    with st.container(horizontal=not run.read_only, vertical_alignment="center"):
        keeping.manage(run)
        ui.link("Augment", "Open its pipeline", pipeline=run.id)


ui.page("Train")
guided = tour.show("Train")
selecting.note()

# The run comes first, so that on a narrow screen it is not below all the settings.
progress, choices = st.columns([5, 2], gap="large")
with progress:
    st.subheader("Run", anchor=False)
    run = ui.choose_run()
    # Somebody on the tour is told to watch the curves, which then come first.
    if run and not guided:
        about(run)
with choices:
    st.subheader("New run", anchor=False)
    parent, checkpoint = settings.beginning(run)
    # Beside the button, which is above all the settings.
    trouble = st.container()
    try:
        if config := settings.form(parent, checkpoint):
            place = ui.place()
            kind, count = series.chosen()
            begin = {"parent": parent, "checkpoint": checkpoint}
            if kind:
                new = job.start_series(config, kind, count, place.runs, place.cache, **begin)[0]
            else:
                new = job.start_run(config, place.runs, place.cache, **begin)
            st.query_params["run"] = new.id
            st.rerun()
    except RunError as error:
        trouble.error(ui.plain(str(error)))
if run:
    with progress:
        live.watch(run, curves_first=guided)
        if guided:
            about(run)
        series.show(run)
keeping.deletion()
