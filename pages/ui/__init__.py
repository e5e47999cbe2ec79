"""What the pages share: the frame of a page, the choice of data and run, settings, background work, empty states."""

from __future__ import annotations

import argparse
import math
import re
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd
import streamlit as st

from cifar_core import job
from cifar_core.config import FIELD_TYPES, FIELDS, GROUPS, MODELS, RECIPES, TrainConfig
from cifar_core.datasets import DataInfo, cached
from cifar_core.events import TaskProgress
from cifar_core.runs import Run, RunError, WorkFolder, list_runs
from cifar_core.schedules import planned
from pages.ui import charts, loaders

PRODUCT = "CIFAR Explorer"


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
    data = str(Path(options.data).expanduser().resolve()) if options.data else None
    cache = options.cache.resolve()
    return Place(options.runs.resolve(), cache, cache.parent, data)


def page(title: str) -> None:
    """Begin a page: window title, menu, heading and the question it answers. Must be called first."""
    entry = next(entry for entry in MENU if entry.title == title)
    # Streamlit forgets the widgets a page does not show; the settings of the next run must survive a visit.
    for key in [key for key in st.session_state if str(key).startswith(("set_", "recipe_choice"))]:
        st.session_state[key] = st.session_state[key]
    st.set_page_config(
        page_title=f"{title} · {PRODUCT}", page_icon=entry.icon, layout="wide", initial_sidebar_state=210
    )
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
    """The run and the data that every link hands on: those in the URL, or those just chosen, which get there later."""
    kept = {}
    for name in ("run", "data"):
        value = st.query_params.get(name)
        if value is not None and value == st.session_state.get(f"{name}_in_url"):
            value = st.session_state.get(f"{name}_choice", value)
        if value is not None:
            kept[name] = value
    return kept


def remembered(name: str, options: Sequence[str], default: str) -> str:
    """The key of a widget whose choice is always in the URL, set to what the URL says.

    Streamlit's own binding leaves the default out of the URL; here the default (the newest run, the data set opened
    last) changes with time, and a copied link must not.
    """
    key = f"{name}_choice"
    asked = st.query_params.get(name)
    if asked is not None and asked not in options:
        st.warning(f"There is no {name} {asked[:80]!r} here any more; this is {default}.", icon=":material/link_off:")
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
    infos = {info.id: info for info in cached(place().cache)}
    if not infos:
        no_data()
        return None
    key = remembered("data", list(infos), next(iter(infos)))
    if len(infos) > 1:
        st.selectbox("Data set", list(infos), key=key, format_func=lambda name: infos[name].name, width=480)
    chosen = infos[st.session_state[key]]
    remember("data", chosen.id)
    return chosen


def no_data() -> None:
    """The empty state of a page that needs images."""
    with st.container(border=True):
        st.markdown("**No images here yet.** Open a data set you have, or fetch the original CIFAR-10 (170 MB).")
        link("Data", "Open a data set")


def choose_run(needs_weights: bool = False) -> Run | None:
    """The run to look at: from the URL, or the newest. With none, a way to a first one is shown.

    Args:
        needs_weights: Offer only runs that have a checkpoint.
    """
    runs = {run.id: run for run in list_runs(place().runs) if not needs_weights or run.checkpoints()}
    if not runs:
        with st.container(border=True):
            if list_runs(place().runs):
                st.markdown("**No run has weights yet.** They are kept at the end of each epoch and at a stop.")
                link("Train", "Watch it train")
            else:
                st.markdown("**No runs yet.** Train a network first; one epoch is enough to look at everything.")
                link("Train", "Start a training")
        return None
    key = remembered("run", list(runs), next(iter(runs)))
    st.selectbox("Run", list(runs), key=key, format_func=lambda name: run_label(runs[name]), width=640)
    chosen = runs[st.session_state[key]]
    remember("run", chosen.id)
    return chosen


def run_label(run: Run) -> str:
    """One line that tells a run from the others: model, best accuracy, state, time."""
    best = run.best
    accuracy = f"{best.validation_accuracy:.1%} validation" if best else "no epoch finished"
    day, clock, model, tail = run.id.split("-", 3)
    when = f"{day[:4]}-{day[4:6]}-{day[6:]} {clock[:2]}:{clock[2:4]}:{clock[4:]}"
    return f"{model} · {accuracy} · {run.state} · {when} · {tail}"


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
    """Which weights of the run: the best by validation accuracy, or the last."""
    names = list(run.checkpoints())
    if not names:
        st.info("This run has no weights yet. They are kept at the end of each epoch and at a stop.")
        return None
    labels = {"best": "Best epoch", "last": "Last step"}
    chosen = st.segmented_control(
        "Weights", names, format_func=labels.get, key="checkpoint", default=names[0], bind="query-params", required=True
    )
    return chosen or names[0]


def data_of(run: Run) -> DataInfo | None:
    """The very images the run was trained and is tested on, or a sentence about why they are not here."""
    start = run.start
    if start is None:
        st.info("This run has not begun yet.")
        return None
    for info in cached(place().cache):
        if info.fingerprint == start.data_fingerprint:
            return info
    st.warning(f"The images of this run ({start.data_name}) are not here. Open them again to see the run on them.")
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
        _task_progress(str(folder.path))
        return False
    end = folder.last_end
    # A result that was there and no longer fits is made anew, as if for the first time.
    again = folder.state in ("failed", "stopped", "interrupted")
    if end and end.outcome == "failed":
        st.error(end.message, icon=":material/error:")
    elif again:
        st.info("This was stopped before it was done." if end else "This was interrupted.", icon=":material/info:")
    label = "Try again" if again else start
    if label is None or st.button(label, type="primary", key=f"start-{folder.path.name}"):
        try:
            job.start_task(folder, task, place().cache)
        except RunError as error:
            st.error(str(error))
            return False
        st.rerun()
    return False


@st.fragment(run_every=0.5)
def _task_progress(path: str) -> None:
    folder = WorkFolder(Path(path))
    if not folder.alive:
        st.rerun()
    progress = next((event for event in reversed(folder.events()) if isinstance(event, TaskProgress)), None)
    with st.container(horizontal=True, vertical_alignment="bottom"):
        if progress:
            text = progress.what
            if progress.total > 1:
                text += f": {progress.done:,} of {progress.total:,}"
            if progress.seconds_left is not None:
                text += f", {duration(progress.seconds_left)} left"
            st.progress(min(progress.done / max(progress.total, 1), 1.0), text=text)
        else:
            st.progress(0.0, text="Starting")
        if st.button("Stop", icon=":material/stop:", key=f"stop-{folder.path.name}"):
            folder.request("stop")


def duration(seconds: float | None) -> str:
    """A time span as people say it: 42 s, 3 min 5 s, 2 h 10 min."""
    if seconds is None:
        return "–"
    seconds = round(seconds)
    if seconds < 60:
        return f"{seconds} s"
    if seconds < 3600:
        return f"{seconds // 60} min {seconds % 60} s"
    return f"{seconds // 3600} h {seconds % 3600 // 60} min"


def literal(text: str) -> str:
    """A name as it is, such as that of a class made from a folder: nothing in it is read as Markdown."""
    return re.sub(r"([!-/:-@\[-`{-~])", r"\\\1", text)


def plain(text: str) -> str:
    """Text as it is, where Streamlit would read Markdown: names of classes and files may hold any character."""
    return re.sub(r"([\\`*_{}\[\]()<>#+\-.!|~$:])", r"\\\1", text)


def gallery(images: Any, captions: Sequence[str], alts: Sequence[str], size: int = 72) -> None:
    """Small pictures with a line each, in one message; enlarged without smoothing."""
    st.html(charts.gallery(images, captions, alts, size))


def settings_form() -> TrainConfig | None:
    """All settings of a training with help and bounds; a configuration once Start is pressed."""
    infos = {info.source: info.name for info in cached(place().cache)}
    recipe = st.selectbox(
        "Recipe",
        list(RECIPES),
        format_func=lambda name: RECIPES[name].title,
        key=remembered("recipe", list(RECIPES), next(iter(RECIPES))),
        help="A named set of settings. Everything below can be changed afterwards.",
    )
    remember("recipe", recipe)
    st.caption(f"{RECIPES[recipe].summary} *{RECIPES[recipe].source}.*")
    if st.session_state.get("filled_with") != recipe:
        _fill_in(recipe)
    # The button comes before the settings on the page and after them in the script.
    top = st.container()
    values: dict[str, Any] = {}
    for group in GROUPS:
        with st.expander(group, expanded=group in ("Model", "Optimiser", "Learning rate")):
            for name, field in FIELDS.items():
                if field.metadata["group"] == group and _matters(name, values):
                    values[name] = _setting(name, field.metadata, infos)
    try:
        config = TrainConfig.from_values(values)
    except (ValueError, TypeError) as error:
        top.error(str(error))
        return None
    _preview(config, infos)
    if not infos:
        with top:
            no_data()
    if top.button("Start training", type="primary", icon=":material/play_arrow:", width="stretch", disabled=not infos):
        return config
    return None


def _preview(config: TrainConfig, data: dict[str, str]) -> None:
    """What the settings amount to, before anything is started: the network's layers and the learning rate's course."""
    info = next((info for info in cached(place().cache) if info.source == config.data), None)
    images = config.train_images or round((info.train_images if info else 50_000) * (1 - config.validation_fraction))
    steps_per_epoch = max(math.ceil(images / config.batch_size), 1)
    with st.expander("Course of the learning rate"):
        frame = pd.DataFrame(planned(config, steps_per_epoch), columns=["epoch", "learning rate"])
        st.vega_lite_chart(frame, charts.SCHEDULE_CURVE, key="schedule", alt="Planned learning rate by epoch")
        st.caption(f"{config.epochs * steps_per_epoch:,} steps, {steps_per_epoch:,} an epoch.")
    layers = st.expander("Layers of the network", on_change="rerun", key="layers")
    if layers.open:
        classes = len(info.classes) if info else 10
        table = loaders.layers(config.model, config.width, config.dropout, classes)
        layers.dataframe(table, hide_index=True, alt="Layers with output shape and number of parameters")
        total = table["parameters"].sum()
        layers.caption(f"{total:,} parameters for {classes} classes. Shapes are channels × height × width.")


def _matters(name: str, values: dict[str, Any]) -> bool:
    """Whether the setting has an effect beside those chosen above it."""
    return all(values.get(other) in wanted for other, wanted in FIELDS[name].metadata["used_by"].items())


def _fill_in(recipe: str) -> None:
    """Set every widget to what the recipe says."""
    st.session_state["filled_with"] = recipe
    config = TrainConfig.from_values(RECIPES[recipe].settings)
    for name in FIELDS:
        if name != "data":
            st.session_state[f"set_{name}"] = getattr(config, name)


def spoken(choice: str) -> str:
    """The name of a choice as people write it."""
    names = {"sgd": "SGD", "adam": "Adam", "adamw": "AdamW", "one_cycle": "One-cycle", "cuda": "CUDA", "mps": "MPS"}
    return names.get(choice, "CPU" if choice == "cpu" else choice.capitalize())


def _published_dropout() -> None:
    st.session_state["set_dropout"] = MODELS[st.session_state["set_model"]].dropout
    if MODELS[st.session_state["set_model"]].pretrained:
        st.session_state["set_width"] = 1.0


def setting_label(name: str) -> str:
    """What a form calls a setting, with its unit."""
    unit = FIELDS[name].metadata["unit"]
    return name.replace("_", " ").capitalize() + (f" ({unit})" if unit else "")


def _setting(name: str, about: Any, data: dict[str, str]) -> Any:
    """The widget that fits a setting: its type, bounds, unit and choices are in the field itself."""
    key = f"set_{name}"
    label = setting_label(name)
    plain, _ = FIELD_TYPES[name]
    if name == "data":
        if st.session_state.get(key) not in data:
            st.session_state.pop(key, None)
        return st.selectbox(label, list(data), format_func=data.get, key=key, help=about["help"]) or ""
    if name == "model":
        chosen = st.selectbox(label, about["choices"], key=key, help=about["help"], on_change=_published_dropout)
        st.caption(MODELS[chosen].summary)
        return chosen
    if about["choices"]:
        return st.selectbox(label, about["choices"], format_func=spoken, key=key, help=about["help"])
    if plain is bool:
        return st.toggle(label, key=key, help=about["help"])
    low, high = about["low"], about["high"]
    if about["log"]:
        steps = charts.round_numbers(low, high, st.session_state[key])
        return plain(
            st.select_slider(label, steps, key=key, format_func=lambda value: f"{value:g}", help=about["help"])
        )
    if plain is int:
        if high is not None and high <= 1000 and name != "seed":
            shown = min(int(high), 200) if name == "epochs" else int(high)
            return st.slider(label, int(low), max(shown, st.session_state[key]), key=key, help=about["help"])
        return st.number_input(label, int(low), None if high is None else int(high), key=key, help=about["help"])
    step = 0.125 if name == "width" else 1.0 if high > 10 else 0.01
    return st.slider(label, float(low), float(high), step=step, key=key, help=about["help"])
