"""The settings of the next run: a form made from the fields of `TrainConfig`, and what they amount to."""

from __future__ import annotations

import math
from typing import Any

import pandas as pd
import streamlit as st

from cifar_core.config import FIELD_TYPES, FIELDS, GROUPS, MODELS, RECIPES, TrainConfig, label
from cifar_core.datasets import DataInfo, cached
from cifar_core.runs import Run
from cifar_core.schedules import planned
from cifar_core.subsets import chosen_classes, class_names, info_of_classes, listed_classes
from pages import ui
from pages.ui import charts, loaders


def beginning(run: Run | None) -> tuple[Run | None, str]:
    """What the next run begins with: fresh weights (None), or those of a checkpoint of the run on the page (a fork)."""
    if run is None or not run.checkpoints():
        return None, "last"
    steps = run.start.steps_per_epoch if run.start else 0
    names = {"fresh": "Fresh weights"} | {
        name: f"{ui.checkpoint_label(name, steps)} of this run" for name in run.checkpoints()
    }
    chosen = st.selectbox(
        "Begin with",
        ["fresh", *run.checkpoints()],
        format_func=lambda name: names[name],
        key=f"beginning-{run.id}",
        help="A fork goes on from the weights of the run shown here, with settings of its own; its epochs count those "
        "of its parent, unless it has another objective or freezes other layers.",
    )
    return (run, chosen) if chosen in run.checkpoints() else (None, "last")


def form(parent: Run | None = None) -> TrainConfig | None:
    """All settings of a training with help and bounds; a configuration once Start is pressed.

    Args:
        parent: The run to fork; the form begins with its settings.
    """
    infos = {info.source: info for info in cached(ui.place().cache)}
    if parent:
        if st.session_state.get("filled_with") != parent.id:
            _fill_in(parent.settings, parent.id)
    else:
        recipe = st.selectbox(
            "Recipe",
            list(RECIPES),
            format_func=lambda name: RECIPES[name].title,
            key=ui.remembered("recipe", list(RECIPES), next(iter(RECIPES))),
            help="A named set of settings. Everything below can be changed afterwards.",
        )
        ui.remember("recipe", recipe)
        st.caption(f"{RECIPES[recipe].summary} *{RECIPES[recipe].source}.*")
        if st.session_state.get("filled_with") != recipe:
            _fill_in(TrainConfig.from_values(RECIPES[recipe].settings), recipe)
    # The button comes before the settings on the page and after them in the script.
    top = st.container()
    values: dict[str, Any] = {}
    for group in GROUPS:
        with st.expander(group, expanded=group in ("Model", "Optimiser", "Learning rate")):
            for name, field in FIELDS.items():
                if field.metadata["group"] == group and _matters(name, values):
                    values[name] = _setting(name, field.metadata, infos, f"set_{name}")
    try:
        config = TrainConfig.from_values(values)
        info = infos.get(config.data)
        info = info and info_of_classes(info, chosen_classes(config.classes, info.classes))
    except (ValueError, TypeError) as error:
        top.error(ui.plain(str(error)))
        return None
    _preview(config, info)
    if not infos:
        with top:
            ui.no_data()
    elif info:
        # In full, which the narrow list below may not show.
        top.markdown(f"Trains on **{ui.plain(info.name)}**.")
    if top.button(
        "Fork the run" if parent else "Start training",
        type="primary",
        icon=":material/play_arrow:",
        width="stretch",
        disabled=not infos,
    ):
        return config
    return None


def live(config: TrainConfig, version: str) -> dict[str, Any]:
    """Widgets for what can be changed while a run trains, filled in with what is in force.

    Args:
        version: Changes whenever they are to be filled in anew.
    """
    names = [name for name, field in FIELDS.items() if field.metadata["live"] and config.used(name)]
    columns = st.columns(3)
    values = {}
    for place, name in enumerate(names):
        key = f"live-{version}-{name}"
        st.session_state.setdefault(key, getattr(config, name))
        with columns[place % 3]:
            values[name] = _setting(name, FIELDS[name].metadata, {}, key)
    return values


def _preview(config: TrainConfig, info: DataInfo | None) -> None:
    """What the settings amount to, before anything is started: the network's layers and the learning rate's course.

    Args:
        info: Of the images to train on, with the classes of the run alone; None where there are none yet.
    """
    held_out = 1 / config.folds if config.folds else config.validation_fraction
    images = config.train_images or round((info.train_images if info else 50_000) * (1 - held_out))
    steps_per_epoch = max(math.ceil(images / config.batch_size), 1)
    with st.expander("Course of the learning rate"):
        frame = pd.DataFrame(planned(config, steps_per_epoch), columns=["epoch", "learning rate"])
        st.vega_lite_chart(frame, charts.SCHEDULE_CURVE, key="schedule", alt="Planned learning rate by epoch")
        st.caption(f"{config.epochs * steps_per_epoch:,} steps, {steps_per_epoch:,} an epoch.")
    layers = st.expander("Layers of the network", on_change="rerun", key="layers")
    if layers.open:
        classes = len(info.classes) if info else 10
        table = loaders.layers(config.model, config.width, config.dropout, classes)
        heads = {"layer": "Layer", "kind": "Kind", "output": "Output shape", "parameters": "Parameters"}
        layers.dataframe(
            table, hide_index=True, column_config=heads, alt="Layers with output shape and number of parameters"
        )
        total = table["parameters"].sum()
        layers.caption(
            f"{total:,} parameters for {classes} classes. Shapes are channels × height × width; in attention, "
            "places × channels."
        )


def _matters(name: str, values: dict[str, Any]) -> bool:
    """Whether the setting has an effect beside those chosen above it."""
    return all(values.get(other) in wanted for other, wanted in FIELDS[name].metadata["used_by"].items())


def _fill_in(config: TrainConfig, source: str) -> None:
    """Set every widget to what a recipe or a parent says."""
    st.session_state["filled_with"] = source
    for name in FIELDS:
        if name != "data" or config.data:
            value = getattr(config, name)
            st.session_state[f"set_{name}"] = list(class_names(value)) if name == "classes" else value


def spoken(choice: str) -> str:
    """The name of a choice as people write it."""
    names = {"adamw": "AdamW", "rmsprop": "RMSprop", "simclr": "SimCLR", "one_cycle": "One-cycle"}
    return names.get(choice, choice.upper() if choice in ("sgd", "cpu", "cuda", "mps") else choice.capitalize())


def _published_dropout() -> None:
    st.session_state["set_dropout"] = MODELS[st.session_state["set_model"]].dropout
    if MODELS[st.session_state["set_model"]].pretrained:
        st.session_state["set_width"] = 1.0
        st.session_state["set_initialisation"] = "default"


def _setting(name: str, about: Any, data: dict[str, DataInfo], key: str) -> Any:
    """The widget that fits a setting: its type, bounds, unit and choices are in the field itself.

    Args:
        data: The data sets there are, by their sources.
    """
    title = label(name)
    plain, _ = FIELD_TYPES[name]
    if name == "data":
        if st.session_state.get(key) not in data:
            st.session_state.pop(key, None)
        named = st.selectbox(
            title, list(data), format_func=lambda source: data[source].name, key=key, help=about["help"]
        )
        return named or ""
    if name == "classes":
        info = data.get(st.session_state.get("set_data", ""))
        known = info.classes if info else ()
        st.session_state[key] = [one for one in st.session_state[key] if one in known]
        return listed_classes(
            st.multiselect(title, known, key=key, placeholder="All classes", help=about["help"], disabled=not known)
        )
    if name == "folds":
        several = [0, *range(2, int(about["high"]) + 1)]
        return st.select_slider(
            title, several, key=key, format_func=lambda folds: str(folds or "none"), help=about["help"]
        )
    if name == "fold":
        last = st.session_state["set_folds"] - 1
        st.session_state[key] = min(st.session_state[key], last)
        return st.slider(title, 0, last, key=key, help=about["help"])
    if name == "model":
        chosen = st.selectbox(title, about["choices"], key=key, help=about["help"], on_change=_published_dropout)
        st.caption(MODELS[chosen].summary)
        return chosen
    if about["choices"]:
        return st.selectbox(title, about["choices"], format_func=spoken, key=key, help=about["help"])
    if plain is bool:
        return st.toggle(title, key=key, help=about["help"])
    low, high = about["low"], about["high"]
    if about["log"]:
        steps = charts.round_numbers(low, high, st.session_state[key])
        return plain(
            st.select_slider(title, steps, key=key, format_func=lambda value: f"{value:g}", help=about["help"])
        )
    if plain is int:
        if high is not None and high <= 1000 and name != "seed":
            shown = min(int(high), 200) if name == "epochs" else int(high)
            return st.slider(title, int(low), max(shown, st.session_state[key]), key=key, help=about["help"])
        return st.number_input(title, int(low), None if high is None else int(high), key=key, help=about["help"])
    if name == "ema":
        # What counts is how far it is from 1.
        shares = {0.0, 0.5, 0.8, 0.9, 0.95, 0.98, 0.99, 0.995, 0.998, 0.999, 0.9995, 0.9998, 0.9999}
        return st.select_slider(title, sorted(shares | {st.session_state[key]}), key=key, help=about["help"])
    step = 0.125 if name == "width" else 1.0 if high > 10 else 0.01
    return st.slider(title, float(low), float(high), step=step, key=key, help=about["help"])
