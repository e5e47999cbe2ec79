"""The settings of the next run: a form made from the fields of `TrainConfig`, and what they amount to."""

from __future__ import annotations

import dataclasses
import math
from typing import Any

import pandas as pd
import streamlit as st
from streamlit.delta_generator import DeltaGenerator

from cifar_core import selections
from cifar_core.config import FIELD_TYPES, FIELDS, GROUPS, MODELS, RECIPES, TrainConfig, label
from cifar_core.datasets import DataInfo, cached
from cifar_core.events import Start
from cifar_core.runs import Run, RunError, family_of, has_seen_labels, list_runs, seen_epochs
from cifar_core.schedules import planned, steps_of, unforeseen
from cifar_core.subsets import chosen_classes, class_names, info_of_classes, listed_classes
from pages import ui
from pages.ui import address, charts, loaders, ranging, series

PIPELINE = tuple(
    name
    for name, field in FIELDS.items()
    if field.metadata["group"] == "Augmentation" and name not in ("augmentation_strength", "early_size", "early_share")
)
"""What is done to an image, in the order in which it is; without what scales it or holds for a part of a training."""

RARER = tuple(name for name in PIPELINE if not name.startswith(("flip", "crop_padding", "cutout", "mixup", "cutmix")))
"""Transforms that most trainings do without, in the order of the form; they stand in a part of their own."""

MORE = "more_transforms"
"""Whether that part is open at first, as some of them is on."""

KEPT = "kept_settings"
"""What the form showed last, for when one comes back to it from another page."""

HANDED = "use"
"""The parameter of the URL by which another page hands settings to the form for the next new run."""


def beginning(run: Run | None) -> tuple[Run | None, str]:
    """What the next run begins with: fresh weights (None), or those of a checkpoint of some run (a fork).

    Args:
        run: The one on the page, which is offered first, and then its family.
    """
    if run is None:
        return None, "last"
    everything = list_runs(run.root)
    near = [run, *(member for _, member in family_of(run, everything) if member.id != run.id)]
    others = [other for other in everything if other not in near and not other.about.archived]
    offered = {other.id: other for other in [*near, *others] if other.checkpoints()}
    if not offered:
        return None, "last"

    def called(name: str) -> str:
        if name == "fresh":
            return "Fresh weights"
        return f"{'This run: ' if name == run.id else ''}{charts.run_label(offered[name])}"

    if HANDED in st.query_params:
        # For a new run, whatever was to be forked before.
        st.query_params.pop("begin", None)
        st.session_state[f"beginning-{run.id}"] = "fresh"
    # As a reload or a copied link says it: once, as later the widgets know better.
    asked, _, weights_asked = st.query_params.get("begin", "").partition(":")
    asked = "" if "begin_read" in st.session_state else asked
    st.session_state["begin_read"] = True
    if asked in offered:
        st.session_state[f"beginning-{run.id}"] = asked
        if weights_asked in offered[asked].checkpoints():
            st.session_state[f"weights-{asked}"] = weights_asked
    elif asked:
        st.warning(ui.plain(f"Run {asked[:80]!r} of this link has no weights here to begin with."))
    chosen = st.selectbox(
        "Begin with",
        ["fresh", *offered],
        format_func=called,
        key=f"beginning-{run.id}",
        help="A fork goes on from the weights of another run, with settings of its own; its epochs count those of its "
        "parent, unless it has another objective or freezes other layers. The run on this page and its family come "
        "first.",
    )
    if chosen == "fresh":
        st.query_params.pop("begin", None)
        return None, "last"
    parent = offered[chosen]
    steps = parent.start.steps_per_epoch if parent.start else 0
    best = f" ({parent.best.epoch})" if parent.best else ""
    weights = st.selectbox(
        "Weights",
        list(parent.checkpoints()),
        format_func=lambda name: ui.checkpoint_label(name, steps) + (best if name == "best" else ""),
        key=f"weights-{parent.id}",
    )
    st.query_params["begin"] = f"{parent.id}:{weights}"
    return parent, weights


def _going_on(parent: Run, checkpoint: str) -> TrainConfig:
    """The settings of a fork to begin with: the parent's at that checkpoint, with epochs left to train."""
    settings = parent.settings_of(checkpoint)
    try:
        done = seen_epochs(parent.checkpoints()[checkpoint])
    except RunError:
        # Start will say what is wrong with it.
        return settings
    more = min(done + math.ceil(settings.epochs / 2), int(FIELDS["epochs"].metadata["high"]))
    return settings if settings.epochs > done else settings.changed({"epochs": more})


def form(parent: Run | None = None, checkpoint: str = "last") -> TrainConfig | None:
    """All settings of a training with help and bounds; a configuration once Start is pressed.

    Args:
        parent: The run to fork; the form begins with its settings.
        checkpoint: The weights of it that the fork begins with.
    """
    infos = {info.source: info for info in cached(ui.place().cache)}
    if parent:
        source = f"{parent.id} {checkpoint}"
        base = _going_on(parent, checkpoint)
    else:
        filled = st.session_state.get("filled_with", "")
        recipe = st.selectbox(
            "Recipe",
            list(RECIPES),
            format_func=lambda name: RECIPES[name].title,
            key=ui.remembered("recipe", list(RECIPES), filled if filled in RECIPES else next(iter(RECIPES))),
            help="A named set of settings. Everything below can be changed afterwards.",
        )
        ui.remember("recipe", recipe)
        about = RECIPES[recipe]
        differs = f" Not as published: {about.differs}" if about.differs else ""
        st.caption(f"{about.summary} *{about.source[0].upper()}{about.source[1:]}.*{differs}")
        source, base = recipe, TrainConfig.from_values(about.settings)
    if st.session_state.get("filled_with") != source:
        _begin(base, source, infos)
    _bring_back()
    handed = _handed(infos)
    # The button comes before the settings on the page and after them in the script.
    top = st.container()
    values: dict[str, Any] = {}
    for group in GROUPS:
        with st.expander(group, expanded=group in ("Model", "Optimiser", "Learning rate")):
            usual = st.container()
            more = st.expander("More transforms", expanded=st.session_state[MORE]) if group == "Augmentation" else usual
            for name, field in FIELDS.items():
                if field.metadata["group"] == group and _matters(name, values):
                    with more if name in RARER else usual:
                        values[name] = _setting(name, field.metadata, infos, f"set_{name}")
    st.session_state[KEPT] |= {name: st.session_state[f"set_{name}"] for name in values}
    _keep_in_url(values, base, infos)
    try:
        config = TrainConfig.from_values(values)
        info = infos.get(config.data)
        info = info and info_of_classes(info, chosen_classes(config.classes, info.classes))
    except (ValueError, TypeError) as error:
        top.error(ui.plain(str(error)))
        return None
    above = top.container()
    with top:
        # The weights of a parent were trained on the images that other folds hold out.
        series.choose(folds=parent is None or not has_seen_labels(parent))
    kind, count = series.chosen()
    # Of the first of the runs; the others differ from it in their seed or fold alone.
    first = series.first(config)
    _preview(first, info)
    if info:
        ranging.find(first, info, parent, checkpoint)
    if not infos:
        with above:
            ui.no_data()
    elif info:
        # In full, which the narrow list below may not show.
        above.markdown(f"Trains on **{ui.plain(info.name)}**.")
        if parent and parent.read_only and parent.start and info.kind != "drawn":
            _warn_of_other_images(above, info, parent.start)
    if handed and all(values.get(name, value) == value for name, value in handed.items()):
        what = "Augmentation and normalisation" if set(PIPELINE) <= set(handed) else ", ".join(map(label, handed))
        above.caption(f"Taken over from another page: {ui.plain(what)}.")
    if kind:
        said = f"Start {count} {'forks' if parent else 'trainings'}"
    else:
        said = "Fork the run" if parent else "Start training"
    if top.button(
        said,
        # In the tour the way on is the one that stands out.
        type="secondary" if "tour" in st.query_params else "primary",
        icon=":material/play_arrow:",
        width="stretch",
        disabled=not infos,
    ):
        return config
    return None


def _warn_of_other_images(place: DeltaGenerator, info: DataInfo, start: Start) -> None:
    """Say what a fork of the reference holds out, where its images are not the very ones of its parent."""
    if info.fingerprint != start.data_fingerprint:
        place.caption(
            ui.plain(
                f"The weights were trained on {start.data_name}. Where {info.name} shows the same pictures, they have "
                "seen most of what is held out here, and validation accuracy is too good."
            )
        )


QUICK = ("learning_rate", "dropout", "weight_decay", "momentum", "augmentation_strength")
"""What people change most while a run trains."""

FACTORS = (0.01, 0.02, 0.05, 0.1, 0.2, 0.3, 0.5, 0.7, 0.8, 0.9, 1.0, 1.1, 1.25, 1.5, 2.0, 3.0, 5.0, 10.0)
"""Of the learning rate, close to each other where small steps matter."""


def live(config: TrainConfig, rate: float, version: str) -> dict[str, Any]:
    """Widgets for what can be changed while a run trains, filled in with what is in force; all values by name.

    Args:
        config: The settings in force.
        rate: The learning rate in force at the last step.
        version: Changes whenever they are to be filled in anew.
    """
    names = [name for name, field in FIELDS.items() if field.metadata["live"] and config.used(name)]
    first = [name for name in QUICK if name in names]
    values = _live_widgets(config, rate, version, first)
    if st.toggle("More settings", key=f"more-settings-{version}"):
        values |= _live_widgets(config, rate, version, [name for name in names if name not in first])
    return values


def _live_widgets(config: TrainConfig, rate: float, version: str, names: list[str]) -> dict[str, Any]:
    columns = st.columns(3)
    values = {}
    for place, name in enumerate(names):
        key = f"live-{version}-{name}"
        with columns[place % 3]:
            if name == "learning_rate":
                values[name] = _scaled_rate(config, rate, key)
            else:
                values[name] = _setting(name, FIELDS[name].metadata, {}, key, getattr(config, name))
    return values


def _scaled_rate(config: TrainConfig, rate: float, key: str) -> float:
    """A learning rate chosen as a multiple of what it is, so that it follows the schedule as before."""
    limits = FIELDS["learning_rate"].metadata
    peak = config.learning_rate
    fitting = [factor for factor in FACTORS if factor == 1 or limits["low"] <= peak * factor <= limits["high"]]
    factor = st.select_slider(
        "Learning rate",
        fitting,
        value=1.0,
        key=key,
        # The numbers of the steps to come, as the rate itself goes on falling or rising.
        format_func=lambda factor: f"× {factor:g}",
        help=f"Multiplies the whole course of the schedule from the next step on; its setting is {peak:g} now.",
    )
    if factor == 1:
        st.caption(f"{rate:.3g} now")
        return peak
    st.caption(f"{rate:.3g} → {rate * factor:.3g} now")
    return float(f"{peak * factor:.4g}")


def _preview(config: TrainConfig, info: DataInfo | None) -> None:
    """What the settings amount to, before anything is started: the network's layers and the learning rate's course.

    Args:
        info: Of the images to train on, with the classes of the run alone; None where there are none yet.
    """
    held_out = 1 / config.folds if config.folds else config.validation_fraction
    images = config.train_images or round((info.train_images if info else 50_000) * (1 - held_out))
    if info and (any(getattr(config, name) for name in selections.SETTINGS) or config.imbalance != "none"):
        counts = loaders.training_counts(config, info, ui.place().cache)
        images = sum(counts) or images
        st.caption(
            f"Trains on {sum(counts):,} images: {min(counts):,} of the rarest class and {max(counts):,} of the most "
            "frequent."
            if sum(counts)
            else "These settings leave no training images; Start says why."
        )
    steps_per_epoch = steps_of(max(images, 1), config.batch_size)
    with st.expander("Course of the learning rate"):
        frame = pd.DataFrame(planned(config, steps_per_epoch), columns=["epoch", "learning rate"])
        st.vega_lite_chart(frame, charts.SCHEDULE_CURVE, key="schedule", alt="Planned learning rate by epoch")
        st.caption(f"{config.epochs * steps_per_epoch:,} steps, {steps_per_epoch:,} an epoch.")
        for sentence in unforeseen(config):
            st.caption(sentence)
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


def hand_over(label: str, values: dict[str, Any], info: DataInfo | None = None) -> None:
    """A link to the form for the next new run, which then has these settings; all others stay as they are.

    A link rather than a button, so that it can be copied, and opened beside the page.

    Args:
        info: Of the data set to train on, where the settings are about its images.
    """
    of = {"of": info.id} if info else {}
    ui.link("Train", label, **{HANDED: address.listed(values)}, **of)


def _handed(infos: dict[str, DataInfo]) -> dict[str, Any]:
    """What another page handed over last; put into the form when it comes."""
    text = st.query_params.get(HANDED)
    if text is not None:
        # The form may be changed afterwards, and survives a reload by itself.
        del st.query_params[HANDED]
        values, refused = address.named(text)
        if refused:
            st.warning(ui.plain(f"Ignored in this link: {' '.join(refused)}"), icon=":material/link_off:")
        st.session_state["handed"] = values
        source = {info.id: info.source for info in infos.values()}.get(st.query_params.get("of", ""))
        for name, value in {**values, **({"data": source} if source else {})}.items():
            st.session_state[f"set_{name}"] = list(class_names(value)) if name == "classes" else value
        st.session_state[MORE] |= _has_more(values)
    handed: dict[str, Any] = st.session_state.get("handed", {})
    return handed


def _begin(base: TrainConfig, source: str, infos: dict[str, DataInfo]) -> None:
    """Fill in the form; at the beginning of a visit with what the URL says differs from the recipe or the parent."""
    config = base
    if "filled_with" not in st.session_state:
        config, refused = address.read(st.query_params.get("set", ""), base)
        if refused:
            st.warning(ui.plain(f"Ignored in this link: {' '.join(refused)}"), icon=":material/link_off:")
        data = {info.id: info.source for info in infos.values()}.get(st.query_params.get("of", ""))
        config = dataclasses.replace(config, data=data) if data else config
    _fill_in(config, source)


def _keep_in_url(values: dict[str, Any], base: TrainConfig, infos: dict[str, DataInfo]) -> None:
    """What differs from the recipe or the parent survives a reload of the page."""
    differs = address.written(values, base)
    source = values.get("data")
    # The data set that is chosen first changes with time, so it is left out like any value of the recipe.
    usual = base.data if base.data in infos else next(iter(infos), None)
    other = infos[source].id if source in infos and source != usual else ""
    for name, value in (("set", differs), ("of", other)):
        if not value:
            st.query_params.pop(name, None)
        elif st.query_params.get(name) != value:
            st.query_params[name] = value


def _fill_in(config: TrainConfig, source: str) -> None:
    """Set every widget to what a recipe or a parent says."""
    st.session_state["filled_with"] = source
    st.session_state[KEPT] = {}
    st.session_state[MORE] = _has_more(dataclasses.asdict(config))
    for name in FIELDS:
        if name != "data" or config.data:
            value = getattr(config, name)
            st.session_state[f"set_{name}"] = list(class_names(value)) if name == "classes" else value
            st.session_state[KEPT][name] = st.session_state[f"set_{name}"]


def _bring_back() -> None:
    """Set the widgets that Streamlit has forgotten, as it does with those a page does not show, to what they were.

    The others are set to what they are: else a browser that missed the run in which they were filled in, as another one
    followed at once, would show each at its beginning.
    """
    for name, value in st.session_state[KEPT].items():
        st.session_state[f"set_{name}"] = st.session_state.get(f"set_{name}", value)


def _has_more(values: dict[str, Any]) -> bool:
    return any(values.get(name, FIELDS[name].default) != FIELDS[name].default for name in RARER)


def spoken(choice: str) -> str:
    """The name of a choice as people write it."""
    names = {
        "adamw": "AdamW",
        "rmsprop": "RMSprop",
        "simclr": "SimCLR",
        "one_cycle": "One-cycle",
        "randaugment": "RandAugment",
        "trivialaugment": "TrivialAugment",
        "autoaugment": "AutoAugment",
    }
    return names.get(choice, choice.upper() if choice in ("sgd", "cpu", "cuda", "mps") else choice.capitalize())


def _published_dropout() -> None:
    st.session_state["set_dropout"] = MODELS[st.session_state["set_model"]].dropout
    if MODELS[st.session_state["set_model"]].pretrained:
        st.session_state["set_width"] = 1.0
        st.session_state["set_initialisation"] = "default"


def _selection(name: str, about: Any, key: str, info: DataInfo | None) -> str:
    """A kept selection of training images, the one another page has handed over, or none."""
    offered: dict[str, str] = {"": "All images" if name == "only_selection" else "None"}
    if info:
        folder = selections.folder_of(ui.place().cache)
        offered |= {one.name: one.name for one in selections.kept(info.fingerprint, folder) if one.split == "train"}
    value = st.session_state[key]
    # Of a parent run or another page: it is pinned.
    offered.setdefault(value, charts.brief(value))
    chosen = st.selectbox(label(name), list(offered), key=key, format_func=offered.__getitem__, help=about["help"])
    return chosen or ""


def _setting(name: str, about: Any, data: dict[str, DataInfo], key: str, begin: Any = None) -> Any:
    """The widget that fits a setting: its type, bounds, unit and choices are in the field itself.

    Args:
        data: The data sets there are, by their sources.
        begin: What it begins with, where the session does not hold it under the key.
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
    if name in selections.SETTINGS:
        return _selection(name, about, key, data.get(st.session_state.get("set_data", "")))
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
        first = 0 if begin is None else about["choices"].index(begin)
        return st.selectbox(title, about["choices"], first, format_func=spoken, key=key, help=about["help"])
    if plain is bool:
        return st.toggle(title, key=key, help=about["help"])
    low, high = about["low"], about["high"]
    given: dict[str, Any] = {"key": key, "help": about["help"]}
    if begin is None:
        begin = st.session_state[key]
    else:
        given["value"] = begin
    if about["log"]:
        steps = charts.round_numbers(low, high, begin)
        return plain(st.select_slider(title, steps, format_func=lambda value: f"{value:g}", **given))
    if plain is int:
        if high is not None and high <= 1000 and name != "seed":
            shown = min(int(high), 200) if name == "epochs" else int(high)
            return st.slider(title, int(low), max(shown, int(begin)), **given)
        return st.number_input(title, int(low), None if high is None else int(high), **given)
    if name == "ema":
        # What counts is how far it is from 1.
        shares = {0.0, 0.5, 0.8, 0.9, 0.95, 0.98, 0.99, 0.995, 0.998, 0.999, 0.9995, 0.9998, 0.9999}
        return st.select_slider(title, sorted(shares | {begin}), **given)
    step = 0.125 if name == "width" else 1.0 if high > 10 else 0.01
    return st.slider(title, float(low), float(high), step=step, **given)
