"""Explanations of one answer: several maps side by side, whether to trust them, and the map over a training."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
import streamlit as st
from numpy.typing import NDArray
from PIL import Image

from cifar_core.evaluation import softmax
from cifar_core.runs import Run, RunError, description, list_runs
from pages import ui
from pages.ui import charts, loaders

if TYPE_CHECKING:
    from cifar_core.trust import Curves, Randomised

PREDICTED, NOTHING = "What it predicts", "nothing else"
FIRST_METHODS = ("grad_cam", "layer_cam", "integrated_gradients", "occlusion")
KINDS = ("Methods", "Layers", "Runs")
SIDE = 200  # CSS pixels of a picture in a row of several
MOST_MAPS = 12


@dataclass(frozen=True, eq=False)
class Case:
    """One answer of one network.

    Args:
        checkpoint: Of the run, such as "best".
        path, version: The file of weights, and when it was written.
        name: What captions and screen readers call the picture.
        pixels: (3, H, W), what the network sees.
        picture: What maps are drawn over; square.
        classes: K names.
        answer: (K,) probabilities, calibrated.
        true: Its class in [0, K), where it is known.
        temperature: By which they were.
    """

    run: Run
    checkpoint: str
    path: Path
    version: int
    name: str
    pixels: NDArray[np.uint8] = field(repr=False)
    picture: Image.Image = field(repr=False)
    classes: tuple[str, ...]
    answer: NDArray[np.float32] = field(repr=False)
    true: int | None = None
    temperature: float = 1.0

    @property
    def predicted(self) -> int:
        return int(self.answer.argmax())


@dataclass(frozen=True, eq=False)
class Map:
    """One map of one image.

    Args:
        values: (H, W) in the method's own unit; all zero where nothing speaks for the class.
        cells: Rows and columns that the method tells apart.
        guided: How many layers guided backpropagation guides, for the method that does.
    """

    values: NDArray[np.float32]
    cells: tuple[int, int]
    guided: int


@st.cache_data(max_entries=512, show_spinner="Explaining", scope="session")
def computed(
    path: Path,
    version: int,
    pixels: NDArray[np.uint8],
    method: str,
    wanted: int,
    against: int | None,
    layer: str | None,
) -> Map:
    """What speaks for a class (and not for another), by any method.

    Raises:
        RunError: The weights cannot be used.
    """
    return _map_of(loaders.network(path, version), pixels, method, wanted, against, layer)


@st.cache_data(max_entries=512, show_spinner=False, scope="session")
def seen_by(
    _run: Run, path: Path, version: int, pixels: NDArray[np.uint8], method: str, wanted: int, layer: str | None
) -> tuple[Map, NDArray[np.float32]]:
    """A map and the calibrated answer (K,) of weights of a run that are looked at once and not kept in memory.

    Raises:
        RunError: The weights cannot be used.
    """
    from cifar_core.compute import choose
    from cifar_core.networks import NetworkError, load_network

    try:
        network = load_network(path, choose("auto", "float32").device)
    except NetworkError as error:
        raise RunError(str(error)) from None
    found = _map_of(network, pixels, method, wanted, None, layer)
    logits = next(network.logits(pixels[None]))[0].numpy()
    return found, softmax(logits, loaders.temperature(_run, network.metadata["epoch"]).value)


def _map_of(
    network: Any, pixels: NDArray[np.uint8], method: str, wanted: int, against: int | None, layer: str | None
) -> Map:
    import torch

    from cifar_core.explain import explain, guided_layers, resolution

    images = network.normalise(torch.from_numpy(np.array(pixels[None])))
    classes, others = (
        None if which is None else torch.tensor([which], device=network.device) for which in (wanted, against)
    )
    values = explain(network.model, images, method, classes, others, layer)[0].cpu().numpy()
    cells = resolution(network.model, method, layer, pixels.shape[1])
    return Map(values, cells, guided_layers(network.model))


@st.cache_data(max_entries=64, show_spinner="Taking pixels away and giving them back", scope="session")
def deletion_and_insertion(
    path: Path,
    version: int,
    pixels: NDArray[np.uint8],
    values: NDArray[np.float32],
    cells: tuple[int, int],
    wanted: int,
) -> Curves:
    """Curves of a map (the first) and of maps by chance that are as coarse."""
    import torch

    from cifar_core.trust import curves, random_maps

    network = loaders.network(path, version)
    image = network.normalise(torch.from_numpy(np.array(pixels[None])))[0]
    height, width = values.shape
    maps = torch.cat([torch.from_numpy(values)[None], random_maps(cells, (height, width))])
    return curves(network.model, image, maps, wanted)


@st.cache_data(max_entries=32, show_spinner="Drawing the weights anew, layer by layer", scope="session")
def drawn_anew(
    path: Path,
    version: int,
    pixels: NDArray[np.uint8],
    method: str,
    wanted: int,
    against: int | None,
    layer: str | None,
) -> list[Randomised]:
    """The map after each further layer that loses what it learnt."""
    import torch

    from cifar_core.trust import randomised

    network = loaders.network(path, version)
    image = network.normalise(torch.from_numpy(np.array(pixels[None])))[0]
    return list(randomised(network.model, image, method, wanted, against, layer))


def look_closer(case: Case, more: Sequence[tuple[str, str, Callable[[Case], None]]] = ()) -> None:
    """Closed panels below an answer; each is built while it is open only.

    Args:
        more: Title, icon and body of further ones.
    """
    st.subheader("Look closer", anchor=False)
    panels = (
        ("Maps side by side", ":material/compare:", side_by_side),
        ("Can the map be trusted?", ":material/fact_check:", trust),
        ("The map over training", ":material/timeline:", over_training),
        *more,
    )
    for title, icon, body in panels:
        panel = st.expander(title, icon=icon, on_change="rerun", key=f"panel_{title}")
        if panel.open:
            with panel:
                try:
                    body(case)
                except RunError as error:
                    st.error(ui.plain(str(error)))


UNREADABLE = (RunError, OSError, LookupError)
"""What the weights of a run end with that are damaged or not there any more."""


def weights_of(run: Run, case: Case) -> Path:
    """Of the run in hand the weights in hand; of another one its first.

    Raises:
        RunError: It has none any more.
    """
    path = case.path if run.id == case.run.id else next(iter(run.checkpoints().values()), None)
    if path is None:
        raise RunError(f"Run {run.id} has no weights any more.")
    return path


def left_out(run: Run) -> str:
    return f"The weights of {charts.run_name(run)} cannot be read, so it is left out."


def side_by_side(case: Case) -> None:
    """Several methods, layers or runs, drawn on one scale."""
    from cifar_core.explain import METHODS

    names = _layers(case)
    with st.container(horizontal=True, vertical_alignment="bottom"):
        kind = st.segmented_control(
            "Compare", KINDS, default=KINDS[0], key="side_kind", bind="query-params", required=True
        )
        wanted, against = choose_classes(case, "side")
        one_scale = st.toggle(
            "One scale for all",
            True,
            key="one_scale",
            bind="query-params",
            help="Brightness is then how many times the mean of its own map a place has, with one scale for all "
            "pictures: a map that points at one place is bright there, one that is even is dim throughout. Otherwise "
            "the brightest place of each map has full heat.",
        )
    maps: list[tuple[str, Map]] = []
    if kind == "Layers":
        with st.container(horizontal=True, vertical_alignment="bottom"):
            method = choose_method("side_method", of_layer=True)
            whole = [name for name in names if "." not in name]
            layers = st.multiselect(
                "Layers", names, default=whole[-4:], key="side_layers", max_selections=MOST_MAPS, width=480
            )
        maps += [
            (layer, computed(case.path, case.version, case.pixels, method, wanted, against, layer)) for layer in layers
        ]
        told = f"{METHODS[method].title} ({METHODS[method].source})"
    elif kind == "Runs":
        others = {case.run.id: case.run} | {
            run.id: run for run in list_runs(ui.place().runs) if run.checkpoints() and _same_classes(run, case)
        }
        with st.container(horizontal=True, vertical_alignment="bottom"):
            method = choose_method("side_method")
            chosen = st.multiselect(
                "Runs",
                list(others),
                default=[case.run.id, *[name for name in others if name != case.run.id][:2]],
                format_func=lambda name: charts.run_label(others[name]),
                key=f"side_runs_{case.run.id}",
                max_selections=MOST_MAPS,
                width=640,
                help="Runs that tell the same classes apart. Each is asked with its best weights, at its last layer.",
            )
        for name in chosen:
            try:
                path = weights_of(others[name], case)
                found, answer = seen_by(others[name], path, loaders.version(path), case.pixels, method, wanted, None)
                if against is not None:
                    found = computed(path, loaders.version(path), case.pixels, method, wanted, against, None)
            except UNREADABLE:
                if name == case.run.id:
                    raise
                st.warning(ui.plain(left_out(others[name])))
                continue
            best = int(answer.argmax())
            label = (
                f"{charts.run_label(others[name])}, {path.stem}: {case.classes[best]} {charts.percent(answer[best])}"
            )
            maps.append((label, found))
        told = f"{METHODS[method].title} ({METHODS[method].source}), each run at its last layer"
    else:
        with st.container(horizontal=True, vertical_alignment="bottom"):
            methods = st.multiselect(
                "Methods",
                list(METHODS),
                default=list(FIRST_METHODS),
                format_func=lambda name: METHODS[name].title,
                key="side_methods",
                width=640,
            )
            layer = choose_layer(names, "side_layer")
        for method in methods:
            about = METHODS[method]
            at = layer if about.of_layer else None
            title = about.title + ("" if about.of_class else " (of no class)")
            maps.append((title, computed(case.path, case.version, case.pixels, method, wanted, against, at)))
        told = f"Maps of layers at {layer}; " + " ".join(
            f"{METHODS[method].title} ({METHODS[method].source}): {METHODS[method].says}" for method in methods
        )
        if "guided_grad_cam" in methods:
            told += _about_guidance(maps)
    if not maps:
        st.info("Choose something to compare.")
        return
    show_maps(case, maps, one_scale, asked_for(case, wanted, against))
    st.caption(ui.plain(f"{told} {_origin(case)}"))


def choose_classes(case: Case, key: str) -> tuple[int, int | None]:
    """For which class evidence is sought, and which other one it must not speak for."""
    wanted = st.selectbox("Why", [PREDICTED, *case.classes], key=f"{key}_why", bind="query-params", width=200)
    chosen = case.classes.index(wanted) if wanted in case.classes else case.predicted
    others = [name for place, name in enumerate(case.classes) if place != chosen]
    other = st.selectbox(
        "And not",
        [NOTHING, *others],
        key=f"{key}_not",
        bind="query-params",
        width=200,
        help="With a class here, the maps are of the difference of the two logits: what speaks for the one and not "
        "for the other.",
    )
    return chosen, case.classes.index(other) if other in others else None


def choose_method(key: str, of_layer: bool = False) -> str:
    """One of the methods; with `of_layer`, one that looks at a layer."""
    from cifar_core.explain import METHODS

    names = [name for name, about in METHODS.items() if about.of_layer or not of_layer]
    chosen = st.selectbox(
        "Method",
        names,
        format_func=lambda name: f"{METHODS[name].title} ({METHODS[name].source})",
        key=key,
        bind="query-params",
        width=320,
    )
    return chosen if chosen in names else names[0]


def choose_layer(names: Sequence[str], key: str) -> str:
    """One of the layers; the last one unless another is chosen."""
    chosen = st.selectbox(
        "Layer",
        names,
        index=len(names) - 1,
        key=key,
        width=220,
        help="Names with dots are single convolutions inside a block.",
    )
    return chosen if chosen in names else names[-1]


def asked_for(case: Case, wanted: int, against: int | None) -> str:
    """The question in words, such as "cat and not dog"."""
    return case.classes[wanted] + ("" if against is None else f" and not {case.classes[against]}")


def show_maps(case: Case, maps: Sequence[tuple[str, Map]], one_scale: bool, question: str) -> None:
    """A row of pictures with heat, and a sentence about those that are empty."""
    strengths = [np.abs(found.values).mean() if one_scale else np.abs(found.values).max() for _, found in maps]
    scaled = [
        found.values / strength if strength > 0 else found.values
        for (_, found), strength in zip(maps, strengths, strict=True)
    ]
    # Of the middle map: beside a single bright pixel of one, all others would be dark.
    top = float(np.median([np.abs(values).max() for values in scaled if values.any()] or [1.0]))
    base = case.picture.resize((SIDE * 2, SIDE * 2), Image.Resampling.NEAREST)
    pictures, captions, alts, empty = [], [], [], []
    for (title, found), values in zip(maps, scaled, strict=True):
        rows, columns = found.cells
        nothing = not values.any()
        if nothing:
            empty.append(title)
        pictures.append(base if nothing else loaders.drawn(base, np.clip(values / top, -1, 1), 0.7))
        told = "empty: nothing speaks for it" if nothing else f"{rows}×{columns} cells"
        captions.append(f"{title} · {told}")
        alts.append(f"{title} of the evidence for {question} over {case.name}" + (", empty" if nothing else ""))
    st.html(charts.gallery(pictures, captions, alts, SIDE))
    if empty:
        st.warning(
            ui.plain(
                f"Nothing speaks for {question} by {', '.join(empty)}: what is found speaks against it or not at all, "
                "so the picture is shown without heat."
            ),
            icon=":material/visibility_off:",
        )
    height, width = case.pixels.shape[1:]
    scale = (
        f"Full heat is {top:.3g} times the mean strength of a map, or more, in all pictures"
        if one_scale
        else "Full heat is each map's own strongest place"
    )
    st.caption(
        ui.plain(
            f"What speaks for {question}. {scale}. Yellow speaks for it; blue, in methods that have a sign, speaks "
            f"against it. Cells are what a map really tells apart, enlarged to {height}×{width} pixels."
        )
    )


def trust(case: Case) -> None:
    """Deletion, insertion, and what is left of a map without what the network learnt."""
    from cifar_core.explain import METHODS

    with st.container(horizontal=True, vertical_alignment="bottom"):
        method = choose_method("trust_method")
        layer = choose_layer(_layers(case), "trust_layer") if METHODS[method].of_layer else None
        wanted, against = choose_classes(case, "trust")
    found = computed(case.path, case.version, case.pixels, method, wanted, against, layer)
    question = asked_for(case, wanted, against)
    rows, columns = found.cells
    height, width = found.values.shape
    st.markdown(
        ui.plain(
            f"{METHODS[method].title} tells {rows}×{columns} cells apart"
            + (f", enlarged to {height}×{width} pixels." if (rows, columns) != (height, width) else ", each pixel.")
        )
    )
    if not found.values.any():
        st.warning(
            ui.plain(f"This map is empty: nothing speaks for {question}. There is nothing to trust or to doubt."),
            icon=":material/visibility_off:",
        )
        return
    _show_curves(case, found, wanted)
    if against is not None:
        st.caption(
            ui.plain(
                f"The map says why {question}; the curves follow the probability of {case.classes[wanted]} alone (the "
                "softmax as it is, not calibrated), as deletion and insertion are defined."
            )
        )
    _show_sanity(case, method, layer, wanted, against)
    st.caption(ui.plain(f"{METHODS[method].title} for {question}{f' at {layer}' if layer else ''}. {_origin(case)}"))


def _show_curves(case: Case, found: Map, wanted: int) -> None:
    result = deletion_and_insertion(case.path, case.version, case.pixels, found.values, found.cells, wanted)
    name = case.classes[wanted]
    frames = []
    for kind, values in (("Deletion", result.deletion), ("Insertion", result.insertion)):
        frames.append(pd.DataFrame({"share": result.shares, "probability": values[0], "by": "this map", "kind": kind}))
        chance = values[1:].mean(axis=0)
        frames.append(pd.DataFrame({"share": result.shares, "probability": chance, "by": "chance", "kind": kind}))
    deletion, insertion = result.areas
    st.markdown(f"**Does the answer hang on what is marked?** The probability of {ui.plain(name)}")
    st.vega_lite_chart(
        pd.concat(frames),
        TRUST_CURVES,
        key="trust_curves",
        alt=f"Probability of {name} while pixels are deleted and inserted, by this map and by chance",
    )
    better = int((deletion[0] < deletion[1:]).sum()), int((insertion[0] > insertion[1:]).sum())
    count = len(deletion) - 1
    st.markdown(
        ui.plain(
            f"Area under the deletion curve {deletion[0]:.3f}, by chance {deletion[1:].mean():.3f} (lower is better; "
            f"better than {better[0]} of {count} random maps). Area under the insertion curve {insertion[0]:.3f}, by "
            f"chance {insertion[1:].mean():.3f} (higher is better; better than {better[1]} of {count})."
        )
    )
    if doubt := doubts(better[0] < count * 0.9, better[1] < count * 0.9):
        st.warning(doubt, icon=":material/warning:")
    st.caption(
        "The places a map marks most come first. Deletion turns them to the colour that is zero for the network (the "
        "mean of the training images, black or grey, by the run's normalisation), insertion brings them back into a "
        "blurred picture (Petsiuk et al., 2018). Probabilities are as the softmax has them, not calibrated. Chance is "
        "the mean of ten random maps that are as coarse. "
        "Pictures with holes are unlike all training images, so a single curve says little; compare the two."
    )


def doubts(by_deletion: bool, by_insertion: bool) -> str:
    """What follows where a map is hardly better than chance by one measure or by both; nothing where by none."""
    if by_deletion and by_insertion:
        return (
            "By deletion and insertion, this map is hardly better than chance for this picture: the answer does not "
            "hang on what it marks."
        )
    if not (by_deletion or by_insertion):
        return ""
    weak, other = ("deletion", "insertion") if by_deletion else ("insertion", "deletion")
    return (
        f"By {weak}, this map is hardly better than chance for this picture; by {other} it is better. The two "
        "disagree, so whether the answer hangs on what it marks stays open."
    )


def left_over(correlation: float) -> tuple[str, bool]:
    """What follows from the rank correlation of a map with that of weights drawn anew, and whether that is suspect."""
    if np.isnan(correlation):
        return "With all weights new the map is empty or flat: it lives from what was learnt.", False
    said = f"(rank correlation {correlation:.2f})"
    if abs(correlation) < 0.3:
        return f"With all weights new hardly anything of the map is left {said}.", False
    how = "still alike" if correlation > 0 else "turned round"
    return (
        f"With all weights new the map is {how} {said}: in part it shows the picture itself, or the shape of the "
        "network, not what was learnt.",
        True,
    )


def _show_sanity(case: Case, method: str, layer: str | None, wanted: int, against: int | None) -> None:
    steps = drawn_anew(case.path, case.version, case.pixels, method, wanted, against, layer)
    table = pd.DataFrame(
        {
            "step": range(len(steps)),
            "layer": ["none", *[step.layer for step in steps[1:]]],
            "correlation": [None if np.isnan(step.correlation) else step.correlation for step in steps],
        }
    )
    st.markdown("**Does it depend on what was learnt?** Weights drawn anew, from the output down")
    st.vega_lite_chart(
        table,
        SANITY_CURVE,
        key="sanity_curve",
        alt="Rank correlation of the map with the original one, by the number of layers with new weights",
    )
    shown = [0, 1, *np.unique(np.linspace(2, len(steps) - 1, 5).round().astype(int)).tolist()]
    base = case.picture.resize((SIDE, SIDE), Image.Resampling.NEAREST)
    pictures, captions, alts = [], [], []
    for place in dict.fromkeys(number for number in shown if number < len(steps)):
        step = steps[place]
        top = float(step.map.max())
        pictures.append(loaders.drawn(base, step.map / top, 0.7) if top > 0 else base)
        what = f"{place} new, down to {step.layer}" if place else "as learnt"
        told = "empty" if top <= 0 else "flat" if np.isnan(step.correlation) else f"correlation {step.correlation:.2f}"
        captions.append(f"{what}: {told}")
        alts.append(f"Map with {what}, {told}")
    st.html(charts.gallery(pictures, captions, alts, 120))
    told, is_suspect = left_over(steps[-1].correlation)
    if is_suspect:
        st.warning(told, icon=":material/warning:")
    else:
        st.markdown(told)
    st.caption(
        "Spearman's rank correlation of the maps with learnt and with new weights (Adebayo et al., 2018), one draw. "
        "Norms forget their statistics too. A trustworthy map changes as soon as upper layers are new."
    )


def over_training(case: Case) -> None:
    """The same picture at each kept checkpoint of the run."""
    from cifar_core.explain import METHODS

    kept = sorted(
        (
            (float(epoch), name, path)
            for name, path in case.run.checkpoints().items()
            if (epoch := description(path).get("epoch")) is not None
        ),
        key=lambda entry: (entry[0], entry[1] != "best"),
    )
    epochs = {epoch: (name, path) for epoch, name, path in reversed(kept)}
    if len(epochs) < 2:
        st.info(
            "This run comes with the program, with the weights of a single moment to be small. Choose one of your own "
            "that kept some on the way: a fork of this one, or a training on the Train page."
            if case.run.read_only
            else "This run kept the weights of a single moment. Set “keep_every” to 1 before a training, or press Save "
            "now while it runs, to see how the map forms."
        )
        return
    with st.container(horizontal=True, vertical_alignment="bottom"):
        method = choose_method("over_method")
        layer = choose_layer(_layers(case), "over_layer") if METHODS[method].of_layer else None
        named = st.selectbox("Why", [PREDICTED, *case.classes], key="over_why", bind="query-params", width=200)
    wanted = case.classes.index(named) if named in case.classes else case.predicted
    maps = []
    progress = st.progress(0.0, text="Looking with the weights of each moment")
    for number, epoch in enumerate(sorted(epochs)):
        _, path = epochs[epoch]
        try:
            found, answer = seen_by(case.run, path, loaders.version(path), case.pixels, method, wanted, layer)
        except UNREADABLE:
            # Damaged, or taken away meanwhile by a training that keeps fewer of them as it goes on.
            continue
        best = int(answer.argmax())
        said = f"epoch {epoch:.3g}: {case.classes[best]} {charts.percent(answer[best])}"
        if best != wanted:
            said += f", {case.classes[wanted]} {charts.percent(answer[wanted])}"
        maps.append((said, found))
        progress.progress((number + 1) / len(epochs), text="Looking with the weights of each moment")
    progress.empty()
    if not maps:
        st.info("None of the kept weights can be read any more.")
        return
    show_maps(case, maps, False, case.classes[wanted])
    st.caption(
        ui.plain(
            f"{METHODS[method].title} ({METHODS[method].source}){f' at {layer}' if layer else ''} for "
            f"{case.classes[wanted]}, at the {len(maps)} moments whose weights run {case.run.id} kept."
        )
    )


def _about_guidance(maps: Sequence[tuple[str, Map]]) -> str:
    count = maps[0][1].guided
    if count:
        return f" Guided backpropagation guides the {count} ReLU layers of this network, and no others."
    return (
        " This network has no ReLU, which alone is guided: its guided backpropagation is the plain gradient, and "
        "Guided Grad-CAM the gradient where Grad-CAM is warm."
    )


@st.cache_data(max_entries=64, show_spinner=False)
def _layers_of(path: Path, version: int) -> tuple[str, ...]:
    from cifar_core.explain import conv_layers

    return conv_layers(loaders.network(path, version).model)


def _layers(case: Case) -> tuple[str, ...]:
    return _layers_of(case.path, case.version)


def _same_classes(run: Run, case: Case) -> bool:
    return run.start is not None and run.start.classes == case.classes


def _origin(case: Case) -> str:
    epoch = float(description(case.path).get("epoch", 0))
    return f"Run {case.run.id} · {case.checkpoint} weights, epoch {epoch:.3g} · {case.name}."


_AXIS = {"labelFontSize": 12, "titleFontSize": 12}

TRUST_CURVES: dict[str, Any] = {
    # One legend below the other, or on a narrow screen the second is cut.
    "config": {"legend": {"layout": {"bottom": {"direction": "vertical", "anchor": "start"}}}},
    "width": "container",
    "height": 300,
    "mark": {"type": "line", "point": False, "strokeWidth": 2.5},
    "encoding": {
        "x": {
            "field": "share",
            "type": "quantitative",
            "title": "Share of the pixels changed",
            "axis": {"format": "%", **_AXIS},
        },
        "y": {
            "field": "probability",
            "type": "quantitative",
            "title": "Probability",
            "scale": {"domain": [0, 1]},
            "axis": {"format": "%", **_AXIS},
        },
        "color": {
            "field": "kind",
            "type": "nominal",
            "title": None,
            "scale": {"domain": ["Deletion", "Insertion"], "range": ["#D55E00", "#0072B2"]},
            "legend": {"orient": "bottom"},
        },
        "strokeDash": {
            "field": "by",
            "type": "nominal",
            "title": None,
            "scale": {"domain": ["this map", "chance"], "range": [[1, 0], [5, 4]]},
            "legend": {"orient": "bottom"},
        },
        "tooltip": [
            {"field": "kind", "title": "Curve"},
            {"field": "by", "title": "By"},
            {"field": "share", "title": "Pixels changed", "format": ".0%"},
            {"field": "probability", "title": "Probability", "format": ".1%"},
        ],
    },
}

SANITY_CURVE: dict[str, Any] = {
    "width": "container",
    "height": 250,
    "mark": {"type": "line", "point": True, "strokeWidth": 2.5, "color": "#0072B2"},
    "encoding": {
        "x": {
            "field": "step",
            "type": "quantitative",
            "title": "Layers with new weights, from the output down",
            "axis": {"tickMinStep": 1, **_AXIS},
        },
        "y": {
            "field": "correlation",
            "type": "quantitative",
            "title": "Rank correlation",
            "scale": {"domain": [-1, 1]},
            "axis": _AXIS,
        },
        "tooltip": [
            {"field": "layer", "title": "Last one drawn"},
            {"field": "correlation", "title": "Rank correlation", "format": ".2f"},
        ],
    },
}
