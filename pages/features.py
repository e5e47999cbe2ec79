"""Features: how does a model group the images, and what do its layers respond to?"""

from __future__ import annotations

import streamlit as st

from cifar_core.datasets import DataInfo
from cifar_core.features import FEWEST_IMAGES
from cifar_core.runs import Run, RunError, list_runs
from cifar_core.sources import DataError
from pages import ui
from pages.ui import activations, mapping, reference, selecting, tour

VIEWS = ("Map", "Side by side", "Over the epochs", "Activations", "First filters")


def show(run: Run, checkpoint: str, info: DataInfo) -> None:
    """One of the views."""
    view = st.segmented_control("Show", VIEWS, default=VIEWS[0], key="view", bind="query-params", required=True)
    if view == "Activations":
        activations.show(run, checkpoint, info)
    elif view == "First filters":
        activations.filters(run, checkpoint)
    elif min(info.test_images, info.train_images) < FEWEST_IMAGES:
        st.info(f"A map needs at least {FEWEST_IMAGES} test images; {ui.plain(info.name)} has {info.test_images}.")
    elif view == "Side by side":
        mapping.side_by_side(run, checkpoint, info, list_runs(ui.place().runs))
    elif view == "Over the epochs":
        mapping.over_epochs(run, checkpoint, info)
    else:
        mapping.one(run, checkpoint, info)


ui.page("Features")
tour.show("Features")

try:
    # One below the other on a narrow screen.
    of_run, of_weights = st.columns([3, 2], vertical_alignment="bottom")
    with of_run:
        run = ui.choose_run(needs_weights=True)
    with of_weights:
        checkpoint = ui.choose_checkpoint(run) if run else None
    if run and checkpoint and (info := reference.tested_on(run)):
        reference.notice(run, info)
        if reference.exact(info):
            selecting.bar(info)
        show(run, checkpoint, info)
except (DataError, RunError) as error:
    st.error(ui.plain(str(error)))
