"""A learning rate found by an LR range test with the settings of the form, and put into them by a click."""

from __future__ import annotations

from pathlib import Path

import streamlit as st

from cifar_core import job
from cifar_core.config import TrainConfig
from cifar_core.datasets import DataInfo
from cifar_core.runs import Run, RunError, WorkFolder
from cifar_core.suggestions import suggestions, tried
from pages import ui
from pages.ui import charts

TICK_SECONDS = 1.0


def find(config: TrainConfig, info: DataInfo, parent: Run | None, checkpoint: str) -> None:
    """An expander with the test of these settings: its start, its curve, and what it suggests.

    Args:
        parent: The run whose weights are begun with; without one, fresh ones.
    """
    box = st.expander("Find a learning rate", on_change="rerun", key="ranging")
    if not box.open:
        return
    with box:
        try:
            folder, task = job.range_task(config, ui.place().cache.parent, info, parent, checkpoint)
        except (OSError, KeyError) as error:
            st.error(ui.plain(f"The test cannot be kept or begun: {error}."))
            return
        done = folder.state == "finished"
        if not done and not folder.alive:
            st.caption(
                "Trains a copy with these settings for up to 200 steps at ever higher learning rates (LR range test, "
                "Smith, 2017). The copy is thrown away afterwards; no weights are changed."
            )
        alive = folder.alive
        fixed = config.optimizer == "muon" and config.fixed_norm
        st.fragment(_curve, run_every=TICK_SECONDS if alive else None)(str(folder.path), done, fixed)
        if ui.background(folder, task, done, start="Start the test"):
            _choices(folder, task, fixed)


def _curve(path: str, done: bool, fixed_norm: bool) -> None:
    points = tried(WorkFolder(Path(path)).events())
    if not points:
        return
    found = suggestions(points, fixed_norm) if done else []
    said = ", ".join(f"{one.name} {one.learning_rate:g}" for one in found if one.learning_rate is not None)
    st.vega_lite_chart(
        charts.range_curve(points, found),
        charts.RANGE_CURVE,
        key="range",
        alt=f"Loss by learning rate over {len(points)} steps" + (f"; suggested: {said}" if said else ""),
    )


def _choices(folder: WorkFolder, task: dict[str, object], fixed_norm: bool) -> None:
    for one in suggestions(tried(folder.events()), fixed_norm):
        if one.learning_rate is None:
            st.caption(f"No {one.name}: {one.sentence}")
            continue
        st.button(
            f"Use {one.learning_rate:g} ({one.name})",
            key=f"use-{one.name}",
            on_click=_use,
            args=(one.learning_rate,),
            help=one.sentence,
            width="stretch",
        )
    st.caption("A schedule takes the learning rate as its highest. Where the loss breaks, the curve is cut off.")
    if st.button("Test again", icon=":material/replay:", key="range-again"):
        try:
            job.start_task(folder, task, ui.place().cache)
        except RunError as error:
            st.error(ui.plain(str(error)))
        else:
            st.rerun()


def _use(rate: float) -> None:
    st.session_state["set_learning_rate"] = rate
