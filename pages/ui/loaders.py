"""What pages keep in memory between reruns, keyed by names and versions and never by big arrays.

A file's version is its modification time: a checkpoint that is written anew is loaded anew.
"""

from __future__ import annotations

import io
import json
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
import streamlit as st
from numpy.typing import NDArray
from PIL import Image

from cifar_core import logits as kept_logits
from cifar_core import runs, selections, spread
from cifar_core.attributes import THUMB, Attributes
from cifar_core.biography import biographies
from cifar_core.config import FIELDS, MODELS, TrainConfig
from cifar_core.datasets import DataInfo, DataSet, Split, find_cached, open_cached
from cifar_core.evaluation import Evaluation, EvaluationError, softmax
from cifar_core.invariance import Views
from cifar_core.logits import Logits, Temperature
from cifar_core.pixels import PixelSummary, summarise
from cifar_core.runs import Run, RunError, description
from cifar_core.selections import Selection
from cifar_core.sources import DRAWN_NAME, DataError
from cifar_core.subsets import chosen_classes, renumbered, split_of_classes, training_indices
from cifar_core.suspects import details
from cifar_core.timeline import Timeline, timeline
from pages.ui import charts

if TYPE_CHECKING:
    from cifar_core.activations import Filters
    from cifar_core.networks import Network


def version(path: Path) -> int:
    """Changes whenever the file is written."""
    return path.stat().st_mtime_ns


@st.cache_resource(max_entries=4, show_spinner=False)
def data_set(data_id: str, fingerprint: str, cache: Path) -> DataSet:
    """The memory-mapped arrays of a data set; shared and read-only."""
    return open_cached(data_id, cache)


@st.cache_resource(max_entries=4, show_spinner=False)
def test_split(data_id: str, fingerprint: str, cache: Path, classes: tuple[str, ...]) -> Split:
    """The test images of some classes, or of all, with labels that number these; shared and read-only."""
    opened = data_set(data_id, fingerprint, cache)
    test = opened.test
    if opened.info.fingerprint != fingerprint:
        # Another copy of the images of the run that comes with the program, perhaps in another order.
        places = places_in_copy(data_id, opened.info.fingerprint, cache)
        test = test if places is None else Split(test.images[places], test.labels[places])
    return split_of_classes(test, opened.info.classes, classes)


@st.cache_resource(max_entries=4, show_spinner="Looking for the pictures")
def places_in_copy(data_id: str, fingerprint: str, cache: Path) -> NDArray[np.int64] | None:
    """Where the test images of the run that comes with the program are in another data set; None if it lacks some."""
    from cifar_core.reference import found_again

    try:
        return found_again(runs.REFERENCE / "pictures.npz", data_set(data_id, fingerprint, cache).test)
    except (DataError, OSError, ValueError, KeyError):
        return None


@st.cache_data(max_entries=2, show_spinner=False)
def known_data(folder: Path, version: int) -> DataInfo:
    """What is known of the data set of the run that comes with the program.

    Raises:
        RunError: It cannot be read.
    """
    from cifar_core.reference import known_data

    try:
        return known_data(folder)
    except (OSError, ValueError) as error:
        raise RunError(f"What is known of the images of the reference run cannot be read: {error}") from None


@st.cache_data(max_entries=4, ttl=20, show_spinner=False)
def disk_use(ids: tuple[str, ...], _runs: Sequence[Run]) -> dict[str, int]:
    """Bytes by run; hundreds of runs have too many files to be looked at every two seconds."""
    return {run.id: run.disk_use().total for run in _runs}


@st.cache_data(max_entries=32, ttl=60, show_spinner=False)
def prepared(source: str, cache: Path, known: tuple[str, ...]) -> DataInfo | None:
    """What the cache holds of a source as it was within the last minute; None also where the source cannot be read.

    Args:
        known: Ids of all sets in the cache, so that the answer is new when one comes or goes.
    """
    try:
        info = find_cached(source, cache)
    except DataError:
        return None
    return info if info and info.id in known else None


def selection(text: str, fingerprint: str, folder: Path) -> Selection:
    """A selection; read-only.

    Raises:
        SelectionError: There is none of that data set.
    """
    # A name alone may come to mean something else; what is pinned or listed cannot.
    if "." not in text:
        return selections.find(text, fingerprint, folder)
    # Its images cannot, but its name may be given, taken away or given to others.
    try:
        named = version(folder / fingerprint / f"{text.partition('.')[0]}.name")
    except (OSError, ValueError):
        named = 0
    return _pinned(text, fingerprint, folder, named)


@st.cache_resource(max_entries=64, show_spinner=False)
def _pinned(text: str, fingerprint: str, folder: Path, named: int) -> Selection:
    return selections.find(text, fingerprint, folder)


def places(
    data_id: str,
    fingerprint: str,
    cache: Path,
    split: str,
    classes: tuple[str, ...],
    indices: NDArray[np.int64],
) -> NDArray[np.int64]:
    """Where in the whole split the images are that `indices` number among those of some classes."""
    opened = data_set(data_id, fingerprint, cache)
    if classes == opened.info.classes:
        return indices
    labels = getattr(opened, split).labels
    return np.flatnonzero(renumbered(labels, opened.info.classes, classes) >= 0)[indices]


@st.cache_resource(max_entries=8, show_spinner="Counting pixels")
def pixel_summary(
    data_id: str, fingerprint: str, cache: Path, split: str, digest: str, _indices: NDArray[np.int64] | None
) -> PixelSummary:
    """The pixels of a split, or of those of its images whose selection has the digest, counted; read-only."""
    opened = data_set(data_id, fingerprint, cache)
    whole = getattr(opened, split)
    if _indices is not None:
        whole = Split(whole.images[_indices], whole.labels[_indices])
    return summarise(whole, len(opened.info.classes))


def training_counts(config: TrainConfig, info: DataInfo, cache: Path) -> tuple[int, ...]:
    """How many images of each class a training with these settings would train on; empty where it could not."""
    names = [name for name, field in FIELDS.items() if field.metadata["group"] == "Data"]
    try:
        # Only what decides it, and by texts that always mean the same.
        config = selections.pinned(config, _whole(info, cache), selections.folder_of(cache))
        settings = {name: getattr(config, name) for name in (*names, "seed")}
        return _training_counts(settings, info.id, info.fingerprint, cache)
    except ValueError:
        return ()


@st.cache_data(max_entries=64, show_spinner=False)
def _training_counts(settings: dict[str, Any], data_id: str, fingerprint: str, cache: Path) -> tuple[int, ...]:
    config, opened = TrainConfig(**settings), data_set(data_id, fingerprint, cache)
    allowed = selections.allowed(config, opened.info, selections.folder_of(cache))
    kept, _ = training_indices(config, opened, allowed)
    known = opened.info.classes
    classes = chosen_classes(config.classes, known)
    numbers = renumbered(opened.train.labels, known, classes)[kept]
    return tuple(np.bincount(numbers, minlength=len(classes)).tolist())


def _whole(info: DataInfo, cache: Path) -> DataInfo:
    return data_set(info.id, info.fingerprint, cache).info


@st.cache_resource(max_entries=16, show_spinner=False)
def gallery_order(
    data_id: str, fingerprint: str, cache: Path, split: str, classes: tuple[int, ...], seed: int | None
) -> NDArray[np.int64]:
    """Indices of a split's images of some classes (of all, if none is named), as stored or shuffled by a seed."""
    labels = getattr(data_set(data_id, fingerprint, cache), split).labels
    chosen = np.flatnonzero(np.isin(labels, classes)) if classes else np.arange(len(labels))
    return chosen if seed is None else np.random.default_rng(seed).permutation(chosen)


@st.cache_resource(max_entries=6, show_spinner=False)
def attributes(path: Path, version: int) -> Attributes:
    """What was measured of the images of a split; shared and read-only."""
    return Attributes.load(path)


@st.cache_resource(max_entries=2, show_spinner="Comparing images")
def small_views(train: Path, train_version: int, test: Path, test_version: int) -> NDArray[np.float32]:
    """What sets each image of both splits apart, to compare it with others by; shared and read-only."""
    thumbs = [attributes(train, train_version).thumbs, attributes(test, test_version).thumbs]
    return details(np.concatenate(thumbs), THUMB)


class Damaged(RunError):
    """A kept result that cannot be read."""

    def __init__(self, path: Path, what: str) -> None:
        super().__init__(f"The {what} in {path} are damaged.")
        self.path = path


@dataclass(frozen=True, eq=False)
class Known:
    """What a network says of all images of a split.

    Args:
        probabilities: (N, K).
        labels: (N,) in [0, K).
        neighbours: (N, n) places of the images whose features are nearest, nearest first.
        distances: (N, n) of these, 1 less the cosine.
        facts: Run, checkpoint, epoch, data, split.
    """

    probabilities: NDArray[np.float32]
    labels: NDArray[np.int64]
    neighbours: NDArray[np.int32]
    distances: NDArray[np.float32]
    facts: dict[str, Any]

    @property
    def predictions(self) -> NDArray[np.int64]:
        """(N,) the most probable class."""
        return self.probabilities.argmax(1)

    @property
    def said(self) -> str:
        """Whose it is."""
        facts = self.facts
        return f"run {facts['run']}, {facts['checkpoint']} weights, epoch {facts['epoch']:.3g}"


@st.cache_resource(max_entries=4, show_spinner=False)
def known(path: Path, version: int) -> Known:
    """A stored one; shared and read-only.

    Raises:
        RunError: The file is damaged.
    """
    names = ("probabilities", "labels", "neighbours", "distances")
    try:
        with np.load(path, allow_pickle=False) as file:
            return Known(**{name: file[name] for name in names}, facts=json.loads(str(file["facts"])))
    # Damage shows itself in any way, from zlib.error to KeyError.
    except Exception:
        raise Damaged(path, "predictions") from None


@st.cache_resource(max_entries=6, show_spinner=False)
def arrays(path: Path, version: int) -> dict[str, NDArray[Any]]:
    """What a task has kept in an .npz file; shared and read-only.

    Raises:
        RunError: The file is damaged.
    """
    try:
        with np.load(path, allow_pickle=False) as file:
            return {name: file[name] for name in file.files}
    except Exception:
        raise Damaged(path, "results") from None


@st.cache_resource(max_entries=3, show_spinner="Loading the network")
def network(path: Path, version: int) -> Network:
    """A network in eval mode; shared by all visitors, so nobody may change it.

    Raises:
        RunError: The weights cannot be used. Not the core's own error, which a page could not name without torch.
    """
    return _loaded(path)


def _loaded(path: Path) -> Network:
    # torch takes seconds to import, which only a page that computes should pay for.
    from cifar_core.compute import choose
    from cifar_core.networks import NetworkError, load_network

    try:
        return load_network(path, choose("auto", "float32").device)
    except NetworkError as error:
        raise RunError(str(error)) from None


@st.cache_resource(max_entries=8, show_spinner=False)
def evaluation(path: Path, version: int) -> Evaluation:
    """A stored evaluation; shared and read-only."""
    return Evaluation.load(path)


@st.cache_resource(max_entries=4, show_spinner="Reading what was said of every epoch")
def logits(
    folder: Path, version: tuple[tuple[int, int], ...], digest: str = "", _places: NDArray[np.int64] | None = None
) -> Logits:
    """All logits kept in a folder, or those of some of the images; shared and read-only.

    Args:
        version: Of `cifar_core.logits.version`.
        digest: Stands for the places of the images.

    Raises:
        LogitsError: There are none.
    """
    return kept_logits.read(folder) if _places is None else logits(folder, version).some(_places)


@st.cache_resource(max_entries=3, show_spinner="Counting every epoch")
def epoch_figures(
    folder: Path,
    version: tuple[tuple[int, int], ...],
    worst: int,
    digest: str = "",
    _places: NDArray[np.int64] | None = None,
) -> Timeline:
    """The figures of all kept epochs at once; images as for `logits`."""
    return timeline(logits(folder, version, digest, _places), worst)


@st.cache_resource(max_entries=3, show_spinner="Following every image")
def image_biographies(
    folder: Path, version: tuple[tuple[int, int], ...], digest: str = "", _places: NDArray[np.int64] | None = None
) -> pd.DataFrame:
    """What became of each image, these as for `logits`; shared, so nobody may change it."""
    return biographies(logits(folder, version, digest, _places))


@st.cache_resource(max_entries=2, show_spinner=False)
def train_images(data_id: str, fingerprint: str, cache: Path, indices: tuple[int, ...]) -> NDArray[np.uint8]:
    """Some images of the training split; shared and read-only."""
    chosen = np.array(indices, np.int64)
    images = data_set(data_id, fingerprint, cache).train.images
    return images if len(chosen) == len(images) else images[chosen]


@st.cache_resource(max_entries=4, show_spinner=False)
def views(path: Path, version: int) -> Views:
    """What was said of flipped and shifted images; shared and read-only."""
    return Views.load(path)


def checkpoint_epochs(run: Run) -> dict[float, str]:
    """The checkpoints by the epochs they are of; of several of one epoch the first."""
    found: dict[float, str] = {}
    for name, path in run.checkpoints().items():
        found.setdefault(description(path).get("epoch", -1.0), name)
    return found


@st.cache_data(max_entries=64, show_spinner="Computing heat maps")
def heat_pairs(
    path: Path, version: int, pixels: NDArray[np.uint8], predicted: tuple[int, ...], true: tuple[int, ...]
) -> NDArray[np.uint8]:
    """Where the last layer finds evidence for two classes in each of a few images, by Grad-CAM, drawn over them.

    Args:
        pixels: (B, 3, H, W), few enough to be the key themselves.

    Returns:
        (2, B, 3, 3 H, 3 W), for the predicted and for the true classes.
    """
    import torch

    from cifar_core.explain import grad_cam

    loaded = network(path, version)
    images = loaded.normalise(torch.from_numpy(np.array(pixels)))
    photos = [charts.enlarged(image, 3 * image.shape[1]) for image in pixels]
    pair = []
    for classes in (predicted, true):
        heats = grad_cam(loaded.model, images, torch.tensor(classes, device=loaded.device)).cpu().numpy()
        pair.append([np.asarray(drawn(*both, 0.65)).transpose(2, 0, 1) for both in zip(photos, heats, strict=True)])
    return np.array(pair)


@st.cache_data(max_entries=64, show_spinner="Building the network")
def layers(model: str, width: float, dropout: float | None, classes: int) -> pd.DataFrame:
    """A row a layer: name, kind, output shape without the batch, number of parameters."""
    from cifar_core.models import create, layer_table

    rows = layer_table(create(model, classes, width=width, dropout=dropout, pretrained=False))
    return pd.DataFrame(
        {
            "layer": [row.name for row in rows],
            "kind": [row.kind for row in rows],
            "output": [" × ".join(map(str, row.output_shape)) for row in rows],
            "parameters": [row.parameters for row in rows],
        }
    )


@dataclass(frozen=True, eq=False)
class FeatureMap:
    """Maps of the same images by a layer's features, one for each of some weights; mostly one.

    Args:
        points: (F, N, d) float32, in arbitrary units.
        indices: (N,) of the images in the split, among those of the run's classes.
        labels: (N,) in [0, K).
        predictions: (F, N) likewise.
        confidences: (F, N) probability of the prediction, in [0, 1].
        trustworthiness: (F,) in [0, 1], as `cifar_core.features.trustworthiness`.
        votes, votes_on_map: (F,) accuracy of the nearest neighbours' votes among the features and on the map.
        neighbours: (F, N, k) places of the nearest images among the features, nearest first.
        kept: (F, N) how many of them are among the k nearest on the map.
        epochs: (F,) of the weights.
        facts: What was mapped: run, checkpoint, epoch, data, split, features and settings.
    """

    points: NDArray[np.float32]
    indices: NDArray[np.int64]
    labels: NDArray[np.int64]
    predictions: NDArray[np.int16]
    confidences: NDArray[np.float32]
    trustworthiness: NDArray[np.float64]
    votes: NDArray[np.float64]
    votes_on_map: NDArray[np.float64]
    neighbours: NDArray[np.uint16]
    kept: NDArray[np.uint8]
    epochs: NDArray[np.float64]
    facts: dict[str, Any]

    @property
    def accuracies(self) -> NDArray[np.float64]:
        """(F,) share of the images that the network tells right."""
        return (self.predictions == self.labels).mean(axis=1)


@st.cache_resource(max_entries=8, show_spinner=False)
def feature_map(path: Path, version: int) -> FeatureMap:
    """A stored map; shared and read-only.

    Raises:
        RunError: The file is damaged.
    """
    names = [field.name for field in fields(FeatureMap) if field.name != "facts"]
    try:
        with np.load(path, allow_pickle=False) as file:
            return FeatureMap(**{name: file[name] for name in names}, facts=json.loads(str(file["facts"])))
    # Damage shows itself in any way, from zlib.error to KeyError.
    except Exception:
        raise RunError(f"The map in {path.name} is damaged; compute it again.") from None


def map_layers(path: Path, version: int) -> tuple[str, ...]:
    """The layers of a network whose outputs are feature maps.

    Raises:
        RunError: The weights cannot be used.
    """
    return network(path, version).model.layers


@st.cache_resource(max_entries=16, show_spinner="Looking at the image", scope="session")
def activations(path: Path, version: int, pixels: NDArray[np.uint8]) -> dict[str, NDArray[np.float32]]:
    """The feature maps (C, h, w) of each layer for one image (3, H, W); shared and read-only."""
    from cifar_core.activations import layer_maps

    return layer_maps(network(path, version), pixels)


@st.cache_resource(max_entries=4, show_spinner=False)
def first_filters(path: Path, version: int) -> Filters | None:
    """The filters that see the image itself, where there are some; shared and read-only."""
    from cifar_core.activations import first_filters

    return first_filters(network(path, version).model)


@st.cache_resource(max_entries=3, show_spinner=False)
def picture_sheets(
    data_id: str,
    fingerprint: str,
    cache: Path,
    classes: tuple[str, ...],
    split: str,
    path: Path,
    version: int,
    _indices: NDArray[np.int64],
    _order: NDArray[np.int64],
) -> list[bytes]:
    """Pictures of the images of a stored map, as `atlas.sheets` makes them."""
    from pages.ui import atlas

    if split == "test":
        images = test_split(data_id, fingerprint, cache, classes).images[_indices]
    else:
        images = data_set(data_id, fingerprint, cache).train.images[
            places(data_id, fingerprint, cache, split, classes, _indices)
        ]
    return atlas.sheets(images, _order)


@st.cache_data(max_entries=256, show_spinner=False, scope="session")
def said_of(path: Path, version: int, pixels: NDArray[np.uint8]) -> NDArray[np.float32]:
    """The logits (K,) of one image.

    Args:
        pixels: (3, H, W), as the network sees them; small enough to be the key themselves. What is made of them stays
            with the visitor, as they may be of a photo.
    """
    from cifar_core.compute import one_core

    loaded = network(path, version)
    with one_core():
        return next(loaded.logits(pixels[None]))[0].numpy()


def probabilities(path: Path, version: int, pixels: NDArray[np.uint8], temperature: float = 1.0) -> NDArray[np.float32]:
    """What a network answers to one image: (K,) in [0, 1], with sum 1."""
    return softmax(said_of(path, version, pixels), temperature)


class Turns:
    """What can wait gives way to what somebody waits for, among all visitors: two cores answer one after another."""

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._waited_for = 0

    @contextmanager
    def first(self) -> Iterator[None]:
        """While somebody waits for what is done inside."""
        with self._changed:
            self._waited_for += 1
        try:
            yield
        finally:
            with self._changed:
                self._waited_for -= 1
                self._changed.notify_all()

    @contextmanager
    def aside(self) -> Iterator[None]:
        """Inside `first`, while it is another computer that is waited for."""
        with self._changed:
            self._waited_for -= 1
            self._changed.notify_all()
        try:
            yield
        finally:
            with self._changed:
                self._waited_for += 1

    def give_way(self, seconds: float = 2.0) -> None:
        """Wait until nobody waits, but no longer than this."""
        with self._changed:
            self._changed.wait_for(lambda: self._waited_for == 0, seconds)


@st.cache_resource(show_spinner=False)
def turns() -> Turns:
    """The one that all visitors share."""
    return Turns()


@st.cache_data(max_entries=64, show_spinner=False, scope="session")
def said_of_looks(path: Path, version: int, pixels: NDArray[np.uint8]) -> NDArray[np.float32]:
    """The logits (V, K) of one image (3, H, W) in each way of `cifar_core.spread.looks`, when nobody waits for more."""
    from cifar_core.compute import one_core

    turns().give_way()
    # The browser draws the answer meanwhile.
    with one_core():
        return next(network(path, version).logits(spread.looks(pixels))).numpy()


@st.cache_data(max_entries=256, show_spinner=False, scope="session")
def said_once(path: Path, version: int, pixels: NDArray[np.uint8]) -> NDArray[np.float32]:
    """The logits (K,) of one image by weights that are looked at once and not kept in memory.

    Raises:
        RunError: The weights cannot be used.
    """
    return next(_loaded(path).logits(pixels[None]))[0].numpy()


def knows_drawings_alone(run: Run) -> bool:
    """Whether a run was trained on pictures drawn by code, and did not begin with weights that had seen others."""
    card = MODELS.get(run.model)
    begun_fresh = run.parent is None and not (card and card.pretrained)
    return begun_fresh and run.start is not None and run.start.data_name == DRAWN_NAME


def temperature(run: Run, epoch: float) -> Temperature:
    """As `logits.temperature`, fitted once."""
    folder = run.logits("validation")
    written = 0
    with suppress(KeyError, OSError):
        written = version(kept_logits.files(folder)[int(epoch)])
    return _temperature(folder, epoch, written)


@st.cache_data(max_entries=256, show_spinner=False)
def _temperature(folder: Path, epoch: float, version: int) -> Temperature:
    return kept_logits.temperature(folder, epoch)


@st.cache_resource(max_entries=3, show_spinner="Loading the network")
def warm(path: Path, version: int) -> None:
    """Let a network look at something once, as it takes its time for the first picture."""
    loaded = network(path, version)
    nothing = np.zeros((3, 32, 32), np.uint8)
    heat_map(path, version, nothing, int(probabilities(path, version, nothing).argmax()), loaded.model.layers[-1])


@dataclass(frozen=True, eq=False)
class HeatMap:
    """A class-activation map of one image.

    Args:
        heat: (H, W) float32 in [0, 1]; all zero where nothing speaks for the class.
        cells: Height and width of the layer's maps, which is the true resolution.
        colours: Of heat from 0 to 1, evenly spaced, as `overlay` draws them.
    """

    heat: NDArray[np.float32]
    cells: tuple[int, int]
    colours: tuple[str, ...]


@st.cache_data(max_entries=256, show_spinner=False, scope="session")
def heat_map(path: Path, version: int, pixels: NDArray[np.uint8], wanted: int, layer: str) -> HeatMap:
    """Where in one image a layer finds evidence for a class, by Grad-CAM.

    Args:
        pixels: (3, H, W), as for `probabilities`.
        wanted: The class, in [0, K).
    """
    import torch

    from cifar_core.compute import one_core
    from cifar_core.explain import COLOURS, grad_cam

    loaded = network(path, version)
    with one_core():
        images = loaded.normalise(torch.from_numpy(np.array(pixels[None])))
        heat = grad_cam(loaded.model, images, torch.tensor([wanted], device=loaded.device), layer)[0]
    return HeatMap(heat.cpu().numpy(), cells(path, version, layer, pixels.shape[1]), COLOURS)


@st.cache_data(max_entries=256, show_spinner=False)
def cells(path: Path, version: int, layer: str, side: int) -> tuple[int, int]:
    """Height and width of a layer's maps of images with such a side."""
    from cifar_core.explain import map_size

    return map_size(network(path, version).model, layer, side)


@st.cache_data(max_entries=32, show_spinner=False, scope="session")
def overlay(digest: str, heat: NDArray[np.float32], opacity: float, kind: str, _picture: Image.Image) -> bytes:
    """Heat drawn over a picture, as a file.

    Args:
        digest: Stands for the picture's content.
        kind: "PNG", or "JPEG", which is made and shown sooner.
    """
    picture = drawn(_picture, heat, opacity)
    if kind == "PNG":
        return charts.png(picture)
    file = io.BytesIO()
    picture.save(file, kind, quality=92, subsampling=0)
    return file.getvalue()


def drawn(picture: Image.Image, heat: NDArray[np.float32], opacity: float) -> Image.Image:
    """Heat over a picture of any size, kept nowhere."""
    from cifar_core.explain import overlay

    return overlay(picture, heat, opacity)


@dataclass(frozen=True, eq=False)
class Answers:
    """How sure a network is of the true class along a slider, (V, N), whether that is its answer, and of what."""

    probabilities: NDArray[np.float32]
    right: NDArray[np.bool_]
    facts: dict[str, Any]


@st.cache_resource(max_entries=16, show_spinner=False)
def invariance(path: Path, version: int) -> Answers:
    """A stored curve; shared and read-only.

    Raises:
        RunError: The file is damaged.
    """
    try:
        with np.load(path, allow_pickle=False) as file:
            return Answers(file["probabilities"], file["right"], json.loads(str(file["facts"])))
    except Exception:
        raise RunError(f"The curve in {path.name} is damaged; compute it again.") from None


@st.cache_resource(max_entries=32, show_spinner="Asking the network")
def answers(
    path: Path,
    version: int,
    pixels: NDArray[np.uint8],
    true: int,
    draws: int,
    how: tuple[tuple[str, Any], ...],
    along: str,
    values: tuple[float, ...],
    seed: int,
) -> Answers:
    """What a network says of several draws of one image along a slider.

    Args:
        pixels: (3, H, W), the image as it is stored; small enough to be a key.
        true: Its class among the network's.
        how: The other settings of `cifar_core.transforms.Augmentation`.
    """
    import torch

    from cifar_core.sensitivity import answers
    from cifar_core.transforms import Augmentation

    loaded = network(path, version)
    images, labels = torch.from_numpy(np.array([pixels] * draws)), torch.full((draws,), true)
    pipelines = [Augmentation(**{**dict(how), along: value}) for value in values]
    found = list(answers(loaded, images, labels, pipelines, seed))
    sure, right = (torch.stack([pair[k] for pair in found]).numpy() for k in (0, 1))
    return Answers(sure, right, {"epoch": loaded.metadata["epoch"]})


@dataclass(frozen=True)
class Stored:
    """A finished evaluation of a run and its main figures."""

    path: Path
    checkpoint: str
    epoch: float
    fingerprint: str
    data: str
    accuracy: float
    images: int


def stored_evaluations(run: Run, checkpoint: str | None = None, fingerprint: str | None = None) -> list[Stored]:
    """The evaluations kept in a run's folder, also of weights that training has since replaced; the latest first.

    Args:
        checkpoint: Only those of `best` or `last` weights.
        fingerprint: Only those on this data set.
    """
    found = []
    # Those that come with the reference run lie in its own folder, those made of it beside the other runs.
    folders = dict.fromkeys((run.tasks, run.path / "tasks"))
    for path in (path for folder in folders for path in folder.glob("evaluate-*/evaluation.npz")):
        # One that is damaged, or just being deleted with its run, is as good as none.
        with suppress(OSError, EvaluationError, KeyError):
            stored = _stored(path, version(path))
            if checkpoint in (None, stored.checkpoint) and fingerprint in (None, stored.fingerprint):
                found.append((stored.epoch, version(path), stored))
    return [stored for _, _, stored in sorted(found, key=lambda entry: entry[:2], reverse=True)]


@st.cache_data(max_entries=1000, show_spinner=False)
def _stored(path: Path, version: int) -> Stored:
    evaluation = Evaluation.load(path)
    facts = evaluation.facts
    return Stored(
        path,
        facts["checkpoint"],
        facts["epoch"],
        facts["fingerprint"],
        facts["data"],
        evaluation.accuracy,
        len(evaluation),
    )
