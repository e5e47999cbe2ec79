"""Maps of what a layer makes of images: chosen, made in the background, shown while they form, and looked at."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import streamlit as st
from numpy.typing import NDArray

from cifar_core import features, job, logits
from cifar_core.biography import NEVER
from cifar_core.datasets import DataInfo
from cifar_core.features import LAST_LAYER, METHODS, Mapping
from cifar_core.runs import Run, RunError, WorkFolder, description
from cifar_core.selections import Selection, combined
from pages import ui
from pages.ui import atlas, charts, loaders, reference, selecting

SIZES = (1000, 2000, 5000, 10_000, 20_000, 50_000)
USUAL_SIZE = 2000

MOST_SHOWN = 60  # Nobody looks at more small images, and each of them is sent.

ADVICE = {
    "t-SNE": "Shows who is near whom. How large a group is and how far two groups are apart says little.",
    "UMAP": "Groups come out denser than with t-SNE, and their arrangement says a little more; distances still do not "
    "mean much.",
    "PCA": "The directions along which the features differ most. Distances are true as far as they go, but most "
    "directions are left out; it is done at once.",
}

BINS = (0.5, 0.7, 0.9, 0.99)


@dataclass(frozen=True, eq=False)
class Made:
    """A map that is there, with what it is of."""

    path: Path
    version: int
    run: Run
    checkpoint: str
    info: DataInfo
    how: Mapping
    found: loaders.FeatureMap

    @property
    def noun(self) -> str:
        return f"{ui.SPLITS[self.how.split]} image"

    @property
    def whole(self) -> NDArray[np.int64]:
        """(N,) the images as the whole split numbers them."""
        if not reference.exact(self.info):
            return self.found.indices
        place = ui.place()
        return loaders.places(
            self.info.id, self.info.fingerprint, place.cache, self.how.split, self.info.classes, self.found.indices
        )


def choose(run: Run, checkpoint: str, info: DataInfo) -> Mapping:
    """Which map, with plain advice."""
    available = reference.here(info)
    with st.container(horizontal=True, gap="medium", key="map-settings"):
        split = _pick("Images", list(ui.SPLITS), "test", "map_split", lambda name: ui.SPLITS[name].capitalize(),
                      "Training images were learned by heart to some degree; test images tell more.")  # fmt: skip
        total = min(info.test_images if split == "test" else info.train_images, features.MOST_IMAGES)
        sizes = [size for size in SIZES if size < total] + [total]
        images = _pick("How many", sizes, USUAL_SIZE if USUAL_SIZE in sizes else total, "map_images",
                       lambda size: f"{size:,}",
                       "Drawn by a fixed seed with the same share of every class. 2,000 take some seconds, 10,000 well "
                       "under a minute, 50,000 several minutes.")  # fmt: skip
        dimensions = _pick("Dimensions", (2, 3), 2, "dimensions", str,
                           "Three can be turned and keep more neighbours; two are easier to read.")  # fmt: skip
        method = _pick("Method", METHODS, METHODS[0], "method", str, " ".join(
            f"{name}: {said}" for name, said in ADVICE.items()))  # fmt: skip
        layer = LAST_LAYER
        if available:
            path = run.checkpoints()[checkpoint]
            layer = choose_layer(loaders.map_layers(path, loaders.version(path)), "layer")
        perplexity, neighbours, least = 30.0, 15, 0.1
        if method == "t-SNE":
            perplexity = min(
                float(
                    st.slider(
                        "Perplexity", 5, 100, 30, step=5, key="perplexity", bind="query-params", width=220,
                        help="About how many neighbours each image attends to. Start with 30. Small values show fine "
                        "groups and may tear large ones apart; large values show the broad arrangement.",
                    )
                ),
                (images - 1) / 3,
            )  # fmt: skip
        elif method == "UMAP":
            neighbours = int(
                st.slider(
                    "Neighbours", 5, 100, 15, step=5, key="neighbours", bind="query-params", width=220,
                    help="With how many others each image is joined, itself counted. Start with 15. Few show fine "
                    "groups, many the broad arrangement.",
                )
            )  # fmt: skip
            least = float(
                st.slider(
                    "Least distance", 0.0, 0.9, 0.1, step=0.1, key="min_distance", bind="query-params", width=220,
                    help="How close joined images may come. Small values pack groups tightly, large ones spread them.",
                )
            )  # fmt: skip
    if method == "t-SNE" and perplexity < st.session_state.get("perplexity", 30):
        st.caption(f"With {images:,} images, a perplexity of {perplexity:.3g} is the most that can be used.")
    return Mapping(int(images), perplexity, neighbours, least, split, layer, method, int(dimensions))


def _pick(label: str, options: Sequence[Any], default: Any, key: str, named: Any, help: str) -> Any:
    chosen = st.segmented_control(
        label, options, default=default, format_func=named, key=key, bind="query-params", required=True, help=help
    )
    return chosen if chosen in options else default


def choose_layer(layers: Sequence[str], key: str) -> str:
    """What the head sees, or a layer of the body."""
    options = [LAST_LAYER, *reversed(layers)]
    return st.selectbox(
        "Layer",
        options,
        format_func=lambda name: "Features before the output" if name == LAST_LAYER else f"Layer {name}",
        key=key,
        bind="query-params",
        width=220,
        help="Of a layer of feature maps each channel is averaged over all its places (global average pooling), so "
        "that an image has as many features as the layer has channels.",
    )


def ready(
    run: Run, checkpoint: str, info: DataInfo, how: Mapping, over: Sequence[str] = (), name: str = "the map"
) -> Made | None:
    """The map, if it is there; else it is offered, or shown while it forms."""
    folder, task = job.map_task(run, checkpoint, info, how, over)
    if not (folder.path / "map.npz").exists() and (copy := reference.copied_from(info)):
        # What is computed here is of the images that are here.
        info = copy
        folder, task = job.map_task(run, checkpoint, info, how, over)
    result = folder.path / "map.npz"
    if not result.exists() and not reference.here(info):
        reference.pictures_missing(
            "Only the map of 2,000 test images with a perplexity of 30 comes with the program; others are computed "
            "from the images.",
            "map",
        )
        return None
    if not result.exists() and not folder.alive:
        _offer(run, how, over)
    if not ui.background(folder, task, result.exists(), start=None if "tour" in st.query_params else f"Compute {name}"):
        if folder.alive:
            _forming(str(folder.path), info.classes, how.split)
        return None
    try:
        version = loaders.version(result)
        return Made(result, version, run, checkpoint, info, how, loaders.feature_map(result, version))
    except RunError as error:
        ui.damaged(error, result, "Compute it again")
        return None


def _offer(run: Run, how: Mapping, over: Sequence[str]) -> None:
    what = "the features before the output" if how.layer == LAST_LAYER else f"layer {how.layer}"
    many = f", once for each of {len(over)} epochs" if over else ""
    st.markdown(
        f"What the network makes of {how.images:,} {ui.SPLITS[how.split]} images ({ui.plain(what)}) is laid out by "
        f"{how.method} in {how.dimensions} dimensions{many}, so that images it finds alike come to lie together. It is "
        "computed once, in the background, and kept; you see it form."
    )
    if run.alive:
        st.caption("This run is still training: new weights will need a new map.")


@st.fragment(run_every=1.0)
def _forming(path: str, classes: tuple[str, ...], split: str) -> None:
    """What there is of a map that is being made; a pure reader of its folder."""
    folder = WorkFolder(Path(path))
    try:
        with np.load(folder.path / "forming.npz", allow_pickle=False) as file:
            points, labels, numbers = file["points"], file["labels"], file["indices"]
    except (OSError, ValueError, KeyError):
        return
    name = folder.path.name
    by_class = atlas.classes_colouring("Class", "", classes, [[labels]])
    pane = atlas.Pane("", f"Map of {len(labels):,} images while it forms", [atlas.Frame(points)])
    story = atlas.told(
        f"{name}-forming", name, [pane], labels, numbers, classes, [by_class], f"{ui.SPLITS[split]} image"
    )
    atlas.show(story, [], None, key=f"forming-{name}")


# What is shown -----------------------------------------------------------------------------------------------------


def show(maps: Sequence[Made], titles: Sequence[str]) -> None:
    """One map, or two of the same images side by side, with what can be said of them and what is selected."""
    first = maps[0]
    found = first.found
    order = atlas.beside_each_other(found.points[-1])
    place = ui.place()
    here = reference.here(first.info)
    identity = hashlib.sha256(repr([(str(one.path), one.version) for one in maps]).encode()).hexdigest()[:16]
    one_run = all(one.run.path == first.run.path for one in maps)
    learned = _learned(first) if one_run else None
    story = _story(identity, _learned_version(first), maps, titles, order if here else None, learned)
    pictures: list[bytes] = []
    if here:
        pictures = loaders.picture_sheets(
            first.info.id, first.info.fingerprint, place.cache, first.info.classes, first.how.split, first.path,
            first.version, found.indices, order,
        )  # fmt: skip
    elsewhere = selecting.current(first.info) if reference.exact(first.info) else None
    if elsewhere is not None and elsewhere.split != first.how.split:
        elsewhere = None
    own = st.session_state.get(f"chosen-{identity}")
    if elsewhere is not None:
        selected = np.isin(first.whole, elsewhere.indices)
    else:
        selected = np.zeros(len(found.labels), bool)
        if not reference.exact(first.info) and own is not None:
            selected[own] = True

    def pick(places: NDArray[np.int64], way: str) -> None:
        if not reference.exact(first.info):
            st.session_state[f"chosen-{identity}"] = places
            return
        if way == "none" or not len(places):
            selecting.clear()
            return
        facts = found.facts
        about = f"chosen on the map of run {facts['run']}, {facts['checkpoint']} weights, epoch {facts['epoch']:.3g}"
        chosen = Selection(first.info.fingerprint, first.how.split, first.whole[places], about)
        if way in ("or", "minus") and elsewhere is not None:
            chosen = combined(elsewhere, chosen, way)
        selecting.select(chosen)

    def colour(name: str) -> None:
        st.query_params["colour"] = name

    atlas.show(
        story, pictures, selected, f"atlas-{len(maps)}", colouring=st.query_params.get("colour", "Class"),
        on_pick=pick, on_colour=colour,
    )  # fmt: skip
    st.caption(
        "Drag to select images for the whole dashboard, with Shift held to add, with Alt to take away; a click selects "
        "one, Escape none. Once the map is clicked the wheel zooms; a double-click shows "
        "all. In the legend, a click shows a group alone. "
        "Lines lead to the true nearest neighbours of the image in hand: solid where the map keeps them near, dashed "
        "where it does not. Directions and units mean nothing, so there are no axes."
    )
    if not here:
        reference.pictures_missing("Fetch them to see the image in hand and what is selected.", "hand")
    if len(maps) > 1:
        _compared(maps)
    for one, title in zip(maps, titles, strict=True):
        told(one, title if len(maps) > 1 else "")
    if not one_run:
        st.caption("“Epoch learned” is of one run, so that it is no colouring of two runs side by side.")
    elif learned is None:
        st.caption(_how_to_learn(first))
    if elsewhere is not None and len(elsewhere) and not selected.any():
        st.info(f"None of the {len(elsewhere):,} selected images is on this map of {len(selected):,}.")
    if selected.any():
        show_selection(
            first, np.flatnonzero(selected), len(elsewhere) if elsewhere is not None else int(selected.sum())
        )


@st.cache_data(max_entries=6, show_spinner=False)
def _story(
    identity: str,
    learned_version: Any,
    _maps: Sequence[Made],
    titles: Sequence[str],
    _order: NDArray[np.int64] | None,
    _learned: tuple[list[str], NDArray[np.int64]] | None,
) -> str:
    maps, first = _maps, _maps[0]
    panes, onto = [], first.found.points[-1]
    for one, title in zip(maps, titles, strict=True):
        points = one.found.points
        if one is not first:
            # All frames alike, so that they stay as they lie to each other.
            points = np.stack([features.aligned(frame, onto, "same") for frame in points])
        panes.append(atlas.Pane(title if len(maps) > 1 else "", _alt(one), _frames(one, points)))
    return atlas.told(
        identity,
        f"{first.found.facts['data']} {first.how.split} {len(first.found.indices)}",
        panes,
        first.found.labels,
        first.found.indices,
        first.info.classes,
        _colourings(maps, _learned),
        first.noun,
        _order,
    )


def _alt(made: Made) -> str:
    return (
        f"Map of {len(made.found.indices):,} {made.noun}s by {made.how.method}; near points have like features. Arrow "
        "keys go from image to image, Enter selects the one in hand."
    )


def _frames(made: Made, points: NDArray[np.float32]) -> list[atlas.Frame]:
    found, several = made.found, len(made.found.points) > 1
    return [
        atlas.Frame(
            points[k],
            f"Epoch {found.epochs[k]:.4g}",
            f"Epoch {found.epochs[k]:.4g}: {_judged(made, k)}" if several else "",
            found.predictions[k],
            found.confidences[k],
            found.neighbours[k],
        )
        for k in range(len(points))
    ]


def _judged(made: Made, k: int) -> str:
    found = made.found
    return (
        f"accuracy {found.accuracies[k]:.1%}; trustworthiness {found.trustworthiness[k]:.3f}; neighbours name the "
        f"class of {found.votes[k]:.1%} among the features, of {found.votes_on_map[k]:.1%} on the map"
    )


def _colourings(maps: Sequence[Made], learned: tuple[list[str], NDArray[np.int64]] | None) -> list[atlas.Colouring]:
    first = maps[0]
    classes, labels = first.info.classes, first.found.labels
    each = [one.found for one in maps]
    k = first.found.neighbours.shape[2]
    steps = min(k, 5)
    limits = [round(k * step / steps) for step in range(steps + 1)]
    colourings = [
        atlas.classes_colouring("Class", "What the images are labelled as", classes, [[labels]]),
        atlas.classes_colouring(
            "Prediction", "What the network says", classes, [list(found.predictions) for found in each]
        ),
        atlas.Colouring(
            "Correctness",
            "Whether the network is right",
            [("Right", charts.CLASS_COLOURS[0], "circle"), ("Wrong", charts.CLASS_COLOURS[5], "x")],
            [[(said != labels).astype(np.uint8) for said in found.predictions] for found in each],
        ),
        atlas.steps_colouring(
            "Confidence",
            "Probability of the prediction",
            ["below 50%", "50 to 70%", "70 to 90%", "90 to 99%", "99% and more"],
            [[np.searchsorted(BINS, sure, side="right") for sure in found.confidences] for found in each],
        ),
        atlas.steps_colouring(
            "Neighbours kept",
            f"How many of its {k} true nearest neighbours are among its {k} nearest on the map",
            [f"{low + (step > 0)} to {high} of {k}" for step, (low, high) in enumerate(pairwise(limits))],
            [[np.searchsorted(limits[1:-1], kept, side="left") for kept in found.kept] for found in each],
        ),
    ]
    if learned is not None:
        names, codes = learned
        colourings.append(
            atlas.steps_colouring(
                "Epoch learned",
                "First kept epoch after which the network was right",
                names[:-2],
                [[codes]],
                names[-2:],
                tells=True,
            )
        )
    return colourings


def _learned_folder(made: Made) -> Path:
    return made.run.logits("test" if made.how.split == "test" else "validation")


def _learned_version(made: Made) -> Any:
    return logits.version(_learned_folder(made)) if logits.files(_learned_folder(made)) else ()


def _learned(made: Made) -> tuple[list[str], NDArray[np.int64]] | None:
    """Names of groups of epochs, then of never and not known; and the group of each image; None if nothing is known."""
    folder = _learned_folder(made)
    start = made.run.start
    if not start or start.data_fingerprint != made.found.facts["fingerprint"] or len(logits.files(folder)) < 2:
        return None
    told = loaders.image_biographies(folder, logits.version(folder))
    by_image = dict(zip(told["index"].tolist(), told["learned"].tolist(), strict=True))
    values = np.array([by_image.get(image, NEVER - 1) for image in made.whole.tolist()], np.int64)
    epochs = values[values > NEVER]
    if not len(epochs):
        return None
    edges = np.unique(np.quantile(epochs, [0.2, 0.4, 0.6, 0.8], method="lower"))
    groups = np.searchsorted(edges, values, side="left")
    first = min(logits.files(folder))
    names = []
    for group in range(len(edges) + 1):
        those = epochs[np.searchsorted(edges, epochs, side="left") == group]
        if len(those):
            low, high = int(those.min()), int(those.max())
            # What was right at the first epoch that is kept may have been so before.
            unseen = low == first > 1
            names.append(f"by epoch {high}" if unseen else f"epoch {low}" if low == high else f"epochs {low} to {high}")
    codes = np.where(
        values == NEVER, len(names), np.where(values < NEVER, len(names) + 1, np.minimum(groups, len(names) - 1))
    )
    return [*names, "never", "not known"], codes


def _how_to_learn(made: Made) -> str:
    if made.how.split == "test":
        return (
            "The colouring “Epoch learned” comes once it is kept what the network says of the test images after each "
            "epoch: on the Evaluate page, have the kept epochs look at the test split."
        )
    return (
        "The colouring “Epoch learned” needs images that are looked at after each epoch; of training images those are "
        "the validation images, and this run has kept no answers about them."
    )


def _compared(maps: Sequence[Made]) -> None:
    """How far each of two maps can be trusted, measure by measure."""
    k = maps[0].found.neighbours.shape[2]
    rows = {
        "Trustworthiness": [f"{one.found.trustworthiness[-1]:.3f}" for one in maps],
        f"Neighbours kept, of {k}": [f"{one.found.kept[-1].mean():.1f}" for one in maps],
        f"{k}-NN accuracy among the features": [f"{one.found.votes[-1]:.1%}" for one in maps],
        f"{k}-NN accuracy on the map": [f"{one.found.votes_on_map[-1]:.1%}" for one in maps],
        "Network's accuracy": [f"{one.found.accuracies[-1]:.1%}" for one in maps],
    }
    table = pd.DataFrame([[name, *values] for name, values in rows.items()], columns=["measure", "left", "right"])
    st.dataframe(
        table,
        hide_index=True,
        width=520,
        column_config={"measure": "Of these images", "left": "Left", "right": "Right"},
        alt="How far each of the two maps can be trusted",
    )


def told(made: Made, title: str) -> None:
    """What a map is of, and how far it can be trusted."""
    found, facts, how = made.found, made.found.facts, made.how
    k = found.neighbours.shape[2]
    if len(found.points) == 1 and not title:
        with st.container(horizontal=True, gap="large"):
            st.metric("Trustworthiness", f"{found.trustworthiness[0]:.3f}", width="content",
                      help="How far neighbours on the map are neighbours among the features too (Venna and Kaski, "
                      "2001): 1 where all are, about 0.5 by chance. Measured on at most 10,000 images.")  # fmt: skip
            st.metric("Neighbours kept", f"{found.kept[0].mean():.1f} of {k}", width="content",
                      help=f"Of the {k} true nearest neighbours of an image, how many are among its {k} nearest on the "
                      "map, on average.")  # fmt: skip
            st.metric(f"{k}-NN accuracy, features", f"{found.votes[0]:.1%}", width="content",
                      help=f"How often the {k} nearest other images among the features, by majority, have its class."
                      )  # fmt: skip
            st.metric(f"{k}-NN accuracy, map", f"{found.votes_on_map[0]:.1%}", width="content",
                      help="The same with the nearest images on the map. Where it is lower, the map mixes classes that "
                      "the network keeps apart; where it is higher, it parts them more clearly than the network does."
                      )  # fmt: skip
            st.metric("Network's accuracy", f"{found.accuracies[0]:.1%}", width="content",
                      help="On these images, by its own output.")  # fmt: skip
            if variance := facts.get("variance"):
                st.metric("Variance shown", f"{sum(variance):.1%}", width="content",
                          help="Of each axis: " + ", ".join(f"{share:.1%}" for share in variance))  # fmt: skip
    over = f"epochs {found.epochs[0]:.4g} to {found.epochs[-1]:.4g}" if len(found.points) > 1 else (
        f"{facts['checkpoint']} weights, epoch {facts['epoch']:.4g}"
    )  # fmt: skip
    st.caption(
        f"{ui.plain(title)}{': ' if title else ''}{_method(facts)} of {_features(facts)} · "
        f"run {ui.plain(facts['run'])} · {over} · {len(found.indices):,} of "
        f"{facts['split_images']:,} {made.noun}s of {ui.plain(facts['data'])} · {ADVICE[how.method]}"
    )


def _method(facts: dict[str, Any]) -> str:
    dimensions = f"{facts['dimensions']} dimensions"
    if facts["method"] == "t-SNE":
        return f"t-SNE (perplexity {facts['perplexity']:.3g}, {dimensions})"
    if facts["method"] == "UMAP":
        return f"UMAP ({facts['neighbours']} neighbours, least distance {facts['min_distance']:g}, {dimensions})"
    return f"The first {facts['dimensions']} principal components"


def _features(facts: dict[str, Any]) -> str:
    reduced = (
        f" (projected at random onto {facts['reduced']:,}, which nearly keeps distances)" if facts["reduced"] else ""
    )
    if facts["layer"] == LAST_LAYER:
        return f"the {facts['features']:,} features before the output{reduced}"
    return f"layer {ui.plain(facts['layer'])}: {facts['features']:,} channels, each averaged over its places{reduced}"


def show_selection(made: Made, places: NDArray[np.int64], selected: int) -> None:
    """The selected images themselves, and how the network did on them."""
    found, info = made.found, made.info
    st.subheader("Selected images", anchor=False)
    st.caption(ui.plain(f"Answers of run {made.run.id}, {made.checkpoint} weights, epoch {found.epochs[-1]:.4g}."))
    labels, predictions, numbers = found.labels[places], found.predictions[-1][places], found.indices[places]
    names = info.classes
    common = Counter(labels.tolist()).most_common(3)
    listed = ", ".join(f"{count:,} {ui.plain(charts.brief(names[k]))}" for k, count in common)
    rest = len(places) - sum(count for _, count in common)
    if len(places) == 1:
        said = f"**1** of {len(found.indices):,}: {made.noun} {numbers[0]}."
    else:
        said = (
            f"**{len(places):,}** of {len(found.indices):,}: {listed}{f', {rest:,} other' if rest else ''}. "
            f"The network is right on {(labels == predictions).mean():.0%} of them."
        )
    if selected > len(places):
        said += f" The other {selected - len(places):,} selected images are not on this map."
    st.markdown(said)
    shown = numbers[:MOST_SHOWN].tolist()
    captions, alts = [], []
    for number, true, predicted in zip(shown, labels, predictions, strict=False):
        answer = charts.brief(names[true]) + (" ✓" if true == predicted else f" → {charts.brief(names[predicted])}")
        captions.append(f"{number}: {answer}")
        alts.append(f"{made.noun.capitalize()} {number}, {names[true]}, predicted {names[predicted]}")
    few = "" if len(shown) == len(places) else f"The first {len(shown)} are shown. "
    st.caption(f"{few}{made.noun.capitalize()}: truth → prediction; ✓ where they agree.")
    if reference.here(info):
        ui.gallery(_pictures(made, places[:MOST_SHOWN]), captions, alts)
    else:
        st.caption(" · ".join(map(ui.plain, captions)))
    if made.how.split == "test":
        index = shown[0] if len(shown) == 1 else st.selectbox("Look closer at test image", shown, width=240)
        ui.link(
            "Explain",
            f"Where does the network look on test image {index}?",
            image=str(index),
            checkpoint=made.checkpoint,
        )


def _pictures(made: Made, places: NDArray[np.int64]) -> NDArray[np.uint8]:
    info, cache, indices = made.info, ui.place().cache, made.found.indices[places]
    if made.how.split == "test":
        return loaders.test_split(info.id, info.fingerprint, cache, info.classes).images[indices]
    data = loaders.data_set(info.id, info.fingerprint, cache)
    return data.train.images[loaders.places(info.id, info.fingerprint, cache, "train", info.classes, indices)]


# Several -----------------------------------------------------------------------------------------------------------


def one(run: Run, checkpoint: str, info: DataInfo) -> None:
    """A map of some weights."""
    how = choose(run, checkpoint, info)
    if made := ready(run, checkpoint, info, how):
        show([made], [""])


def kept_over_time(run: Run) -> dict[str, float]:
    """Checkpoints and their epochs, ascending, each epoch once."""
    found: dict[float, str] = {}
    # Those that stay first: the best and the last may be of another epoch soon.
    for name, path in reversed(run.checkpoints().items()):
        epoch = float(description(path).get("epoch", -1))
        if epoch >= 0:
            found.setdefault(epoch, name)
    return {found[epoch]: epoch for epoch in sorted(found)}


def over_epochs(run: Run, checkpoint: str, info: DataInfo) -> None:
    """A map for each kept epoch, each begun with the one before, to scrub through."""
    kept = kept_over_time(run)
    if len(kept) < 2:
        st.info(
            "A map over the epochs needs weights of at least two epochs. This run comes with the program, with those "
            "of one to be small; choose a run of your own that kept some on the way."
            if run.read_only
            else "A map over the epochs needs weights of at least two epochs; of this run there are those of "
            f"{len(kept)}. Train with “Keep weights every” set to keep some on the way."
        )
        return
    how = choose(run, checkpoint, info)
    st.caption(
        f"{len(kept)} kept epochs: {', '.join(f'{epoch:.4g}' for epoch in kept.values())}. Each map begins with the "
        "one before, so that images move no farther than they must, and is turned to lie over it (Procrustes)."
    )
    last = list(kept)[-1]
    if made := ready(run, last, info, how, tuple(kept), name="the maps"):
        show([made], [""])


def side_by_side(run: Run, checkpoint: str, info: DataInfo, runs: Sequence[Run]) -> None:
    """Two runs, two epochs or two layers beside each other, of the same images."""
    others = [
        other for other in runs
        if other.checkpoints() and other.start and run.start
        and other.start.data_fingerprint == run.start.data_fingerprint and other.start.classes == run.start.classes
    ]  # fmt: skip
    how = choose(run, checkpoint, info)
    with st.container(horizontal=True, gap="medium"):
        ids = [other.id for other in others]
        named = {other.id: charts.run_name(other) for other in others}
        default = next((id for id in ids if id != run.id), run.id)
        chosen = st.selectbox("Beside it: run", ids, key=ui.remembered("beside", ids, default),
                              format_func=named.__getitem__, width=320)  # fmt: skip
        ui.remember("beside", chosen)
        other = next(one for one in others if one.id == chosen)
        names = list(other.checkpoints())
        if other.id == run.id and len(names) > 1:
            names = [*[name for name in names if name != checkpoint], checkpoint]
        steps = other.start.steps_per_epoch if other.start else 0
        weights = st.selectbox("its weights", names, format_func=lambda name: ui.checkpoint_label(name, steps),
                               key=f"beside_weights_{other.id}", bind="query-params", width=200)  # fmt: skip
        layer = how.layer
        if reference.here(info):
            path = other.checkpoints()[weights]
            layer = choose_layer(loaders.map_layers(path, loaders.version(path)), "beside_layer")
    there = Mapping(**{**{name: getattr(how, name) for name in how.__dataclass_fields__}, "layer": layer})
    left = ready(run, checkpoint, info, how, name="the left map")
    right = ready(other, weights, info, there, name="the right map") if left else None
    if not left or not right:
        return
    if left.path == right.path:
        st.info("Both are the same map; choose another run, other weights or another layer.")
        return
    if not np.array_equal(left.found.indices, right.found.indices):
        st.error("The two maps are of different images and cannot be laid beside each other.")
        return
    rest = features.disparity(right.found.points[-1], left.found.points[-1])
    titles = [
        f"{charts.run_name(one.run)}, {ui.checkpoint_label(one.checkpoint, 0)}, {_layer_name(one)}"
        for one in (left, right)
    ]
    show([left, right], titles)
    st.caption(
        "The right map is moved, turned and mirrored to lie as near to the left one as it can, and drawn as large "
        f"as it (Procrustes). The best fit leaves {rest:.0%} of the spread of the left map unexplained: 0% where "
        "both are the same, near 100% where they have nothing in common. Pointing, selecting "
        "and isolating work on both at once."
    )


def _layer_name(made: Made) -> str:
    return "before the output" if made.how.layer == LAST_LAYER else f"layer {made.how.layer}"
