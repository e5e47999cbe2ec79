"""A guided first run: one button trains a small network, and four steps look at what came of it.

Which step a visitor is at stands in the URL (`tour`), beside the run; how far the tour has come is kept on disk too, so
that it can be left and taken up again.
"""

from __future__ import annotations

import json
import threading
from dataclasses import dataclass
from pathlib import Path

import streamlit as st

from cifar_core import job
from cifar_core.config import RECIPES, TrainConfig
from cifar_core.datasets import DataInfo
from cifar_core.runs import Run, RunError, list_runs, own_runs, read_json, write_whole
from pages import ui

SHOWN_IMAGES = 24_000
"""So many images, counted anew in each epoch, teach the quick recipe most of what there is in a small data set."""

LARGE = 20_000
"""Training images from which on the recipe's own two epochs are enough."""


START_SECONDS = 6
"""Until the first step of a training."""

IMAGES_PER_SECOND = 1000
"""The pace of the quick recipe on two cores, with its validation."""

_ASKED_FOR = "tour_asked_for"

_BEGINNING = threading.Lock()
"""Two tabs in which it is begun at the same moment are led through one training."""


@dataclass(frozen=True)
class Step:
    page: str
    title: str
    sentence: str


STEPS = (
    Step(
        "Train",
        "Watch it learn",
        "The loss says how wrong the network is: it falls, and the accuracy on images it never trains on rises.",
    ),
    Step(
        "Evaluate",
        "See where it is wrong",
        "In the confusion matrix a row is what an image shows and a column what the network says, so all beside the "
        "diagonal are mistakes: click one to see its images.",
    ),
    Step(
        "Features",
        "See what it finds alike",
        "Each point of the map is a test image, near to those whose features are like its own: a class that is told "
        "apart well is an island.",
    ),
    Step(
        "Explain",
        "See where it looks",
        "The heat map is warm where the image speaks for the answer: see whether that is the thing itself or, as often "
        "with a network of a few epochs, what is around it.",
    ),
    Step(
        "Overview",
        "Go on by yourself",
        "You have trained a network and seen where it is right, wrong and why; next change one setting on the Train "
        "page and compare the two runs, or open other images on the Data page.",
    ),
)


def settings(info: DataInfo) -> TrainConfig:
    """Recipe quick on these images; for more epochs where they are few."""
    epochs = RECIPES["quick"].settings["epochs"]
    if info.train_images < LARGE:
        epochs = min(max(round(SHOWN_IMAGES / info.train_images), epochs), 30)
    return TrainConfig.from_values({**RECIPES["quick"].settings, "data": info.source, "epochs": epochs})


def offer(infos: list[DataInfo]) -> None:
    """On the Overview: the beginning of the tour while there is no run of one's own, or the way back to it."""
    if "tour" in st.query_params:
        show("Overview")
        return
    if st.session_state.pop(_ASKED_FOR, False) and infos:
        _begin(infos[0])
    runs = own_runs(ui.place().runs)
    run, step, _ = _kept()
    if run is not None:
        with st.container(border=True):
            st.markdown(
                f"**The guided first run waits at step {step} of {len(STEPS)}:** {STEPS[step - 1].title.lower()}."
            )
            with st.container(horizontal=True):
                if st.button("Go on with the tour", type="primary", icon=":material/tour:"):
                    _go(run, step)
                st.button("Forget it", on_click=_forget)
    elif runs:
        if infos:
            st.button(
                f"Guided run on {ui.plain(infos[0].name)}",
                type="tertiary",
                icon=":material/tour:",
                help=f"Trains a small network, which takes {time_of(infos[0])} on two cores, and looks at it in "
                f"{len(STEPS)} steps.",
                on_click=_ask_for_it,
            )
    else:
        with st.container(border=True):
            about, time = "as soon as there are images", ""
            if infos:
                about, time = f"on {ui.plain(infos[0].name)}", f", which takes {time_of(infos[0])} on two cores"
            st.markdown(
                f"**New here?** Train a first small network {about}{time}, and look at it in {len(STEPS)} steps."
            )
            st.button(
                "Train a first network",
                type="primary",
                icon=":material/tour:",
                disabled=not infos,
                on_click=_ask_for_it,
            )


def _ask_for_it() -> None:
    # Not the button itself, which is not drawn again where the tour was begun in another tab.
    st.session_state[_ASKED_FOR] = True


def time_of(info: DataInfo) -> str:
    seconds = START_SECONDS + settings(info).epochs * info.train_images / IMAGES_PER_SECOND
    if seconds < 45:
        return "about half a minute"
    return "about a minute" if seconds < 90 else f"about {round(seconds / 60)} minutes"


def show(page: str) -> bool:
    """On every page: the step the visitor is at, with the ways back, on and out; nothing outside the tour.

    Returns:
        Whether it is the step of this page, and the page's run that of the tour.
    """
    asked = st.query_params.get("tour")
    if asked is None:
        return False
    run, step, gone = _asked(asked)
    known = str(step) == asked
    # On the way back the browser passes a page under the step of the one that followed.
    step = next((place for place, other in enumerate(STEPS[:-1], 1) if other.page == page), step)
    named = st.query_params.get("run")
    if run is None and not gone and named in (None, *(other.id for other in list_runs(ui.place().runs))):
        # A link of a tour that is over.
        _leave()
        return False
    with st.container(border=True):
        if run is None:
            st.markdown("**The network of this tour is not here any more.**")
            st.button("Leave the tour", on_click=_forget if gone else _leave, key="tour-leave")
            return False
        if not known:
            st.warning(ui.plain(f"The tour has no step {asked[:20]!r}; this is {step}."), icon=":material/link_off:")
        here = STEPS[step - 1]
        there = page == here.page and named in (None, run.id)
        st.markdown(f"**Step {step} of {len(STEPS)}: {here.title}.** {here.sentence}")
        ready = bool(run.checkpoints()) and not (step == 1 and run.alive)
        with st.container(horizontal=True, vertical_alignment="center"):
            if not there:
                if st.button(f"Back to {here.page}", type="primary", icon=":material/tour:", key="tour-return"):
                    _go(run, step)
            else:
                if step > 1 and st.button("Back", icon=":material/arrow_back:", key="tour-back"):
                    _go(run, step - 1)
                if step == len(STEPS):
                    if st.button("Finish the tour", type="primary", icon=":material/check:", key="tour-finish"):
                        _forget()
                        st.rerun()
                elif st.button(
                    "Next", type="primary", icon=":material/arrow_forward:", key="tour-next", disabled=not ready
                ):
                    _go(run, step + 1)
            if step < len(STEPS) or not there:
                st.button("Leave the tour", type="tertiary", on_click=_leave, key="tour-leave")
            if ready and (end := run.last_end) and end.outcome == "stopped" and not run.alive:
                st.caption(
                    f"Its training was stopped after {end.epoch:.3g} of {run.settings.epochs} epochs: resume it on the "
                    "Train page for a network that has learnt more."
                )
            if not ready:
                waits = "The next step opens when the training has ended."
                st.caption(waits if run.alive else f"{waits} It has stopped: resume it on the Train page.")
    return there


def _begin(info: DataInfo) -> None:
    place = ui.place()
    with _BEGINNING:
        run, step, _ = _kept()
        if run is None:
            try:
                run, step = job.start_run(settings(info), place.runs, place.cache), 1
                run.describe(name="Guided first run")
            except RunError as error:
                st.error(ui.plain(str(error)))
                return
        # Else it was begun in another tab since this one was drawn.
        _go(run, step)


def _go(run: Run, step: int) -> None:
    _keep(run, step)
    page = next(entry.file for entry in ui.MENU if entry.title == STEPS[step - 1].page)
    st.switch_page(page, query_params={"run": run.id, "tour": str(step)})


def _leave() -> None:
    """The place on disk stays, for the Overview to lead back to it."""
    st.query_params.pop("tour", None)


def _forget() -> None:
    _leave()
    try:
        _memory().unlink(missing_ok=True)
    except OSError as error:
        st.toast(ui.plain(f"{_memory()} cannot be removed: {error.strerror}."), icon=":material/error:")


def _memory() -> Path:
    # Beside the runs that it speaks of.
    return ui.place().runs / ".tour.json"


def _keep(run: Run, step: int) -> None:
    try:
        write_whole(_memory(), json.dumps({"run": run.id, "step": step}).encode())
    except OSError as error:
        st.toast(ui.plain(f"{_memory()} cannot be written: {error.strerror}."), icon=":material/error:")


def _kept() -> tuple[Run | None, int, bool]:
    """The run and the step that were kept, as far as they make sense, and whether that run is not here any more."""
    kept = read_json(_memory())
    if not isinstance(kept, dict) or kept.get("step") not in range(1, len(STEPS) + 1):
        return None, 1, False
    run = _run(kept.get("run"))
    return run, int(kept["step"]), run is None


def _asked(step: str) -> tuple[Run | None, int, bool]:
    """The run of the tour, the step that the URL names, or else the one that was kept, and whether its run is gone."""
    run, kept, gone = _kept()
    if ui.is_below(step, len(STEPS) + 1) and step != "0":
        kept = int(step)
    # Another run than the one that was taken away must not slip into its place.
    return None if gone else _run(st.query_params.get("run")) or run, kept, gone


def _run(id: object) -> Run | None:
    return next((run for run in own_runs(ui.place().runs) if run.id == id), None)
