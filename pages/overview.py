"""Overview: what is here, on what it computes, which runs there are, and what to do next."""

import time

import streamlit as st

from cifar_core import job
from cifar_core.datasets import DataInfo, cached
from cifar_core.runs import Run, list_runs, read_json
from pages import ui
from pages.ui import charts

ui.page("Overview")

place = ui.place()
infos, runs = cached(place.cache), list_runs(place.runs)


def what_next(infos: list[DataInfo], runs: list[Run]) -> None:
    """The ways on from here, the most useful first."""
    st.subheader("What to do next", anchor=False)
    alive = next((run for run in runs if run.alive), None)
    done = next((run for run in runs if run.checkpoints()), None)
    with st.container(horizontal=True, border=True):
        if not infos and not runs:
            ui.link("Data", "Open a data set, or fetch CIFAR-10")
        if infos and not runs:
            ui.link("Data", "Look at the images")
            ui.link("Augment", "See what augmentation does")
            ui.link("Train", "Train a first network")
        if alive:
            ui.link("Train", "Watch the run under way", run=alive.id)
        if done:
            ui.link("Evaluate", "See where the newest network is wrong", run=done.id)
            ui.link("Features", "See how it groups the images", run=done.id)
            ui.link("Explain", "Try it on a photo", run=done.id)
        if infos and runs:
            ui.link("Train", "Train another network")


def where_runs_stand(was_alive: bool) -> None:
    """The table of runs; drawn anew while one of them lives."""
    runs = list_runs(place.runs)
    if any(run.alive for run in runs) != was_alive:
        st.rerun()
    st.subheader("Runs", anchor=False)
    if not runs:
        st.caption("The first run will appear here, started on the Train page or by `python -m cifar_core train`.")
        return
    chosen = st.dataframe(
        charts.run_table(runs),
        hide_index=True,
        placeholder="–",
        column_config={
            "Best validation accuracy": st.column_config.ProgressColumn(format="percent", min_value=0, max_value=1)
        },
        on_select="rerun",
        selection_mode="single-row",
        key="runs",
        alt="Runs with their state and best accuracy; choosing a row opens the run",
    ).selection.rows
    if chosen and chosen[0] < len(runs):
        st.switch_page("pages/train.py", query_params={"run": runs[chosen[0]].id})
    st.caption(
        f"{len(runs)} run{'s' if len(runs) != 1 else ''} in {ui.plain(str(place.runs))}; choose one to open it. "
        "Accuracy is that of the best epoch on images held out from the training split; the test split is used on the "
        "Evaluate page only."
    )


what_next(infos, runs)
data, device = st.columns(2, gap="large")
with data:
    st.subheader("Data", anchor=False)
    for info in infos[:5]:
        with st.container(border=True):
            st.markdown(f"**{ui.plain(info.name)}**")
            st.caption(
                f"{info.train_images:,} training and {info.test_images:,} test images in {len(info.classes)} classes, "
                f"from {ui.plain(info.source)}"
            )
            ui.link("Data", "Look at it", data=info.id)
    if not infos:
        ui.no_data()
with device:
    st.subheader("Device", anchor=False)
    folder, task = job.device_task(place.downloads)
    answer = folder.path / "device.json"
    # Asked again once a day: a driver may have come or gone.
    known = read_json(answer) if answer.exists() and time.time() - answer.stat().st_mtime < 86_400 else None
    if ui.background(folder, task, done=known is not None) and known:
        with st.container(border=True):
            st.markdown(f"**{known['name']}**")
            st.caption(known["reason"])
            st.caption(f"torch {known['torch']}, Python {known['python']}, {known['cores']} cores")
busy = any(run.alive for run in runs)
st.fragment(where_runs_stand, run_every=2.0 if busy else None)(busy)
