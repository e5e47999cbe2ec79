"""What the pages share: the frame of a page, the choice of data and run, background work, empty states."""

from __future__ import annotations

import argparse
import re
import sys
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import streamlit as st

from cifar_core import job
from cifar_core.datasets import DataInfo, cached
from cifar_core.events import Boot, TaskProgress, done_of, duration
from cifar_core.runs import Run, RunError, WorkFolder, list_runs
from cifar_core.sources import DRAWN, DRAWN_NAME, absolute
from cifar_core.subsets import info_of_classes
from pages.ui import charts

PRODUCT = "CIFAR Explorer"

NAME_WIDTH, BEST_WIDTH = 240, 75
"""Pixels of the two columns of a table of runs that a narrow screen shows: a whole name, and how good it was."""

ICON = Path(__file__).with_name("icon.png")
"""Of the window. A file, as the browser would fetch an icon given by its name from another site."""


PRIMARY, BRIGHT = "#0072B2", "#5AB0EE"
"""In which sliders and choices are written, light and dark: the dark theme's primary colour is too dim to read."""

ACCENT = f"""<style>
[data-testid=stSliderThumbValue] p, [data-variant=segmented_control][data-selected=true] p {{
  color: light-dark({PRIMARY}, {BRIGHT});
}}
</style>"""


@dataclass(frozen=True)
class Entry:
    file: str
    title: str
    icon: str
    question: str


MENU = (
    Entry("pages/overview.py", "Overview", ":material/home:", "What is here, and where to go next?"),
    Entry("pages/data.py", "Data", ":material/photo_library:", "What is in the data set?"),
    Entry("pages/augment.py", "Augment", ":material/auto_fix_high:", "What does augmentation do to an image?"),
    Entry("pages/train.py", "Train", ":material/model_training:", "Choose settings, start, watch it learn, stop."),
    Entry("pages/compare.py", "Compare", ":material/compare_arrows:", "Which run was better, and what differed?"),
    Entry("pages/evaluate.py", "Evaluate", ":material/grid_on:", "Where is a model right, and where wrong?"),
    Entry("pages/features.py", "Features", ":material/bubble_chart:", "How does a model group the images?"),
    Entry("pages/explain.py", "Explain", ":material/visibility:", "Where does a model look?"),
)

SPLITS = {"train": "training", "test": "test"}
"""How the splits are called in a sentence."""


@dataclass(frozen=True)
class Place:
    """Where this dashboard keeps things; decided by the words behind `--` on its command line."""

    runs: Path
    cache: Path
    downloads: Path
    data: str | None


def place() -> Place:
    """Read `streamlit run dashboard.py -- [--data PATH] [--runs DIR] [--cache DIR]`."""
    parser = argparse.ArgumentParser(add_help=False, exit_on_error=False, allow_abbrev=False)
    parser.add_argument("--data")
    parser.add_argument("--runs", type=Path, default=job.RUNS)
    parser.add_argument("--cache", type=Path, default=job.CACHE)
    try:
        options, _ = parser.parse_known_args(sys.argv[1:])
    except argparse.ArgumentError:
        options = parser.parse_args([])
    data = absolute(options.data) if options.data else None
    cache = options.cache.resolve()
    return Place(options.runs.resolve(), cache, cache.parent, data)


def page(title: str) -> None:
    """Begin a page: window title, menu, heading and the question it answers. Must be called first."""
    entry = next(entry for entry in MENU if entry.title == title)
    st.set_page_config(page_title=f"{title} · {PRODUCT}", page_icon=str(ICON), layout="wide", initial_sidebar_state=210)
    st.html(ACCENT)
    kept = _kept()
    with st.sidebar:
        st.markdown(f"**{PRODUCT}**")
        for other in MENU:
            st.page_link(other.file, label=other.title, icon=other.icon, query_params=kept, width="stretch")
    st.title(title, anchor=False)
    st.caption(entry.question)


def link(title: str, label: str, **query: str) -> None:
    """A link to another page, e.g. with `run=run.id`."""
    entry = next(entry for entry in MENU if entry.title == title)
    st.page_link(entry.file, label=label, icon=entry.icon, query_params={**_kept(), **query})


def _kept() -> dict[str, str]:
    """What every link hands on: the run, data, selection and step of the tour of the URL, or just chosen for it."""
    kept = {}
    for name in ("run", "data", "selection", "tour"):
        value = st.query_params.get(name)
        if value is not None and value == st.session_state.get(f"{name}_in_url"):
            value = st.session_state.get(f"{name}_choice", value)
        if value is not None:
            kept[name] = value
    return kept


def remembered(name: str, options: Sequence[str], default: str, unfit: Mapping[str, str] | None = None) -> str:
    """The key of a widget whose choice is always in the URL, set to what the URL says.

    Streamlit's own binding leaves the default out of the URL; here the default (the newest run, the data set opened
    last) changes with time, and a copied link must not.

    Args:
        unfit: What is there but cannot be chosen here, and why.
    """
    key = f"{name}_choice"
    asked = st.query_params.get(name)
    if asked is not None and unfit and asked in unfit:
        st.info(f"{unfit[asked]} ({asked}); this is {default}.", icon=":material/hourglass_empty:")
        asked = None
    elif asked is not None and asked not in options:
        st.warning(
            plain(f"There is no {name} {asked[:80]!r} here any more; this is {default}."), icon=":material/link_off:"
        )
        asked = None
    value = st.session_state.get(key, asked)
    if asked is not None and asked != st.session_state.get(f"{name}_in_url"):
        value = asked
    # Set even where it is so already: on another page the widget is another one, and would begin with its default.
    st.session_state[key] = value if value in options else default
    return key


def remember(name: str, chosen: str) -> None:
    """Put a choice into the URL."""
    st.session_state[f"{name}_in_url"] = chosen
    if st.query_params.get(name) != chosen:
        st.query_params[name] = chosen


def choose_data() -> DataInfo | None:
    """The data set to look at: from the URL, or the one opened last. With none, a way to one is shown."""
    infos = {info.id: info for info in _each_once(cached(place().cache))}
    if not infos:
        no_data()
        return None
    key = remembered("data", list(infos), next(iter(infos)))
    if len(infos) > 1:
        names = [info.name for info in infos.values()]
        labels = {
            info.id: info.name if names.count(info.name) == 1 else f"{info.name} ({info.fingerprint[:8]})"
            for info in infos.values()
        }
        st.selectbox("Data set", list(infos), key=key, format_func=labels.__getitem__, width=480)
    chosen = infos[st.session_state[key]]
    remember("data", chosen.id)
    return chosen


def _each_once(infos: Sequence[DataInfo]) -> list[DataInfo]:
    """Of data sets with the same fingerprint the one that the URL names, or else the first."""
    asked = st.query_params.get("data")
    found: dict[str, DataInfo] = {}
    for info in infos:
        if info.fingerprint not in found or info.id == asked:
            found[info.fingerprint] = info
    return list(found.values())


@st.cache_resource(show_spinner=False)
def unwanted() -> set[str]:
    """What the command line names but somebody has removed since; it does not come back by itself."""
    return set()


def no_data(reads: bool = True) -> None:
    """The empty state of a page that needs images: what the command line names is read.

    Without it, or where it cannot be read, some are drawn, to have a beginning before any data set is there.

    Args:
        reads: False where the page sees to reading by itself, and nothing is under way.
    """
    named = place().data
    if reads and named and named not in unwanted() and named != DRAWN:
        with st.container(border=True):
            st.markdown(f"**No images here yet.** Those of {plain(named)} are being read.")
            folder, task = job.data_task(place().downloads, named)
            background(folder, task, done=False)
        if folder.alive:
            return
    with st.container(border=True):
        folder, task = job.data_task(place().downloads, DRAWN)
        refused = None
        # By itself but once, not where it was stopped, and without a rerun, which would wipe off what was just said.
        if "drawing_begun" not in st.session_state and folder.state not in ("stopped", "failed") and not folder.alive:
            st.session_state["drawing_begun"] = True
            try:
                job.start_task(folder, task, place().cache)
            except RunError as error:
                refused = str(error)
        st.markdown(
            f"**No images here yet.** {plain(DRAWN_NAME)} {'is being' if folder.alive else 'can be'} made, ten classes "
            "to look at and to train on. Or open a data set you have, or fetch the original CIFAR-10 (170 MB)."
        )
        if refused:
            st.error(plain(refused))
        else:
            background(folder, task, done=False, start="Draw them")
        link("Data", "Open a data set")


def choose_run(needs_weights: bool = False) -> Run | None:
    """The run to look at: from the URL, or the newest. With none, a way to a first one is shown.

    Args:
        needs_weights: Offer only runs that have a checkpoint.
    """
    everything = list_runs(place().runs)
    archived = {run.id for run in everything if run.about.archived}
    asked = st.query_params.get("run"), st.session_state.get("run_choice")
    with_archive = bool(archived) and (
        st.session_state.get("archived_too") or archived.issuperset(run.id for run in everything)
    )
    # A link to an archived run opens it all the same.
    shown = [run for run in everything if with_archive or run.id not in archived or run.id in asked]
    runs = {run.id: run for run in shown if not needs_weights or run.checkpoints()}
    if not runs:
        with st.container(border=True):
            if everything:
                st.markdown("**No run has weights yet.** They are kept at the end of each epoch and at a stop.")
                link("Train", "Watch it train")
            else:
                # Only the page that trains needs no weights, and a link to itself would be none.
                first = "Train a network first" if needs_weights else "Choose settings and press Start training"
                st.markdown(f"**No runs yet.** {first}; one epoch is enough to look at everything.")
                if needs_weights:
                    link("Train", "Start a training")
        return None
    without = {run.id: "This run has no weights yet" for run in everything if run.id not in runs}
    key = remembered("run", list(runs), next(iter(runs)), without)
    with st.container(horizontal=True, vertical_alignment="bottom"):
        st.selectbox("Run", list(runs), key=key, format_func=lambda name: charts.run_label(runs[name]), width=640)
        if archived:
            st.toggle("Archived too", key="archived_too")
    chosen = runs[st.session_state[key]]
    remember("run", chosen.id)
    return chosen


STATE_LOOKS = {
    "ready": ("gray", ":material/schedule:"),
    "starting": ("blue", ":material/hourglass_top:"),
    "waiting": ("orange", ":material/hourglass_empty:"),
    "running": ("blue", ":material/play_arrow:"),
    "paused": ("orange", ":material/pause:"),
    "finished": ("green", ":material/check:"),
    "stopped": ("gray", ":material/stop:"),
    "failed": ("red", ":material/error:"),
    "interrupted": ("red", ":material/power_off:"),
}


def state_badge(state: str) -> None:
    """The state in words, with an icon and a colour."""
    color, icon = STATE_LOOKS[state]
    st.badge(state, icon=icon, color=color)  # type: ignore[arg-type]


def choose_checkpoint(run: Run) -> str | None:
    """Which weights of the run: the best by validation accuracy, the last, or others that were kept."""
    names = list(run.checkpoints())
    if not names:
        st.info("This run has no weights yet. They are kept at the end of each epoch and at a stop.")
        return None
    steps = run.start.steps_per_epoch if run.start else 0
    labels = [checkpoint_label(name, steps) for name in names]
    if (asked := st.query_params.get("checkpoint")) in names:
        # Links name the file; the address that the widget keeps has its label.
        st.session_state["checkpoint"] = asked
    elif asked not in (None, *labels):
        st.warning(
            plain(f"There are no weights {asked[:40]!r} of this run here; these are: {labels[0]}."),
            icon=":material/link_off:",
        )
    chosen = st.segmented_control(
        "Weights",
        names,
        format_func=lambda name: checkpoint_label(name, steps),
        key="checkpoint",
        default=names[0],
        bind="query-params",
        required=True,
    )
    return chosen or names[0]


def checkpoint_label(name: str, steps_per_epoch: int) -> str:
    """The name of a checkpoint as people write it, such as "Step 1,234 (epoch 2.5)"."""
    kind, _, count = name.partition("-")
    if kind == "step":
        return f"Step {int(count):,}" + (f" (epoch {int(count) / steps_per_epoch:.3g})" if steps_per_epoch else "")
    return {"best": "Best epoch", "last": "Last step"}.get(name) or f"Epoch {count}"


def data_of(run: Run) -> DataInfo | None:
    """The images the run was trained and is tested on, of its classes, or a sentence about why they are not here."""
    start = run.start
    if start is None:
        st.info("This run has not begun yet.")
        return None
    for info in cached(place().cache):
        if info.fingerprint == start.data_fingerprint:
            return info_of_classes(info, start.classes)
    st.warning(
        f"The images of this run ({plain(start.data_name)}) are not here. Open them again to see the run on them."
    )
    link("Data", "Open a data set")
    return None


def background(folder: WorkFolder, task: dict[str, Any], done: bool, start: str | None = None) -> bool:
    """See to a piece of work in a process of its own, and show how far it is.

    Args:
        done: Whether its result is there already.
        start: The label of a button that starts it; without one it starts by itself.

    Returns:
        Whether the result is there.
    """
    if done:
        return True
    if folder.alive:
        progress_of(folder)
        return False
    end = folder.last_end
    # A result that was there and no longer fits is made anew, as if for the first time.
    again = folder.state in ("failed", "stopped", "interrupted")
    if end and end.outcome == "failed":
        st.error(plain(end.message), icon=":material/error:")
    elif again:
        st.info("This was stopped before it was done." if end else "This was interrupted.", icon=":material/info:")
    label = "Try again" if again else start
    if label is None or st.button(label, type="primary", key=f"start-{folder.path.name}"):
        try:
            job.start_task(folder, task, place().cache)
        except RunError as error:
            st.error(plain(str(error)))
            return False
        st.rerun()
    return False


def progress_of(folder: WorkFolder) -> None:
    """How far work under way is, until it has ended; then the page is drawn anew."""
    _task_progress(str(folder.path))


@st.fragment(run_every=0.5)
def _task_progress(path: str) -> None:
    folder = WorkFolder(Path(path))
    if not folder.alive:
        st.rerun()
    # What a worker before this one said is over.
    progress = next((event for event in reversed(folder.events()) if isinstance(event, Boot | TaskProgress)), None)
    with st.container(horizontal=True, vertical_alignment="bottom"):
        if isinstance(progress, TaskProgress):
            text = plain(progress.what)
            if progress.total > 1:
                text += f": {done_of(progress.done, progress.total, progress.unit)}"
            if progress.seconds_left is not None:
                text += f", {duration(progress.seconds_left)} left"
            st.progress(min(progress.done / max(progress.total, 1), 1.0), text=text)
        else:
            st.progress(0.0, text="Starting")
        stopping = folder.requested("stop")
        st.button(
            "Stopping" if stopping else "Stop",
            icon=":material/stop:",
            key=f"stop-{folder.path.name}",
            on_click=ask,
            args=(folder, "stop"),
            disabled=stopping,
        )


def ask(folder: WorkFolder, what: str, values: Mapping[str, Any] | None = None) -> bool:
    """Ask a worker for something, on a click; whether it could be."""
    return _said_if_not(lambda: folder.request(what, values))


def take_back(folder: WorkFolder, what: str) -> None:
    """Take back what a worker was asked for, on a click."""
    _said_if_not(lambda: folder.withdraw(what))


def _said_if_not(action: Callable[[], None]) -> bool:
    try:
        action()
    except RunError as error:
        # Of a run of another user, on a full disk, or deleted since the page was drawn.
        st.toast(plain(str(error)), icon=":material/error:")
        return False
    return True


def damaged(error: Exception, path: Path, again: str = "Make it anew") -> None:
    """Say that a kept result cannot be read, with the way to another one."""
    st.error(plain(str(error)))
    if st.button(again, type="primary", key=f"again-{path.parent.name}"):
        with suppress(OSError):
            path.unlink(missing_ok=True)
        st.rerun()


def is_below(text: str, count: int) -> bool:
    """Whether a text from an address is a whole number in [0, count)."""
    # Longer ones cannot even be read as a number.
    return text.isascii() and text.isdecimal() and len(text) < 20 and int(text) < count


def whole_number(label: str, low: int, high: int, *, key: str, **more: Any) -> int:
    """A field for a whole number that stands in the URL too.

    What else may stand there Streamlit would cut to a whole number, or end the page with, so it is left out.
    """
    asked = st.query_params.get(key)
    bound = asked is None or re.fullmatch(r"[+-]?[0-9]{1,18}", asked) is not None
    value = st.number_input(label, low, high, key=key, bind="query-params" if bound else None, **more)
    if not bound:
        st.query_params.pop(key, None)
    return int(value)


def plain(text: str) -> str:
    """Text as it is, where Streamlit would read Markdown: names of classes and files may hold any character."""
    return re.sub(r"([!-/:-@\[-`{-~])", r"\\\1", text)


def gallery(images: Any, captions: Sequence[str], alts: Sequence[str], size: int = 72) -> None:
    """Small pictures with a line each, in one message; enlarged without smoothing."""
    st.html(charts.gallery(images, captions, alts, size))
