"""What a network says of every image of a split, kept epoch by epoch in a run's folder and read as one array.

A folder holds `images.npz` (which images these are, with labels and classes) and an `epoch-<n>.npz` for each epoch,
every file whole or not at all, so that it can be read while a training writes it. Of each image the greatest logit is
taken off all of them, which changes no probability: next to zero float16 is finer than float32 is next to ten, so that
no rounding makes two classes equal and every accuracy is what the training has said.
"""

from __future__ import annotations

import io
import json
import re
import zipfile
import zlib
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from cifar_core.calibration import fitted_temperature
from cifar_core.evaluation import Evaluation, softmax
from cifar_core.runs import write_whole

LOWEST = float(np.finfo(np.float16).min)
"""A logit below this counts as this; its class has no probability that any number here could show."""

_EPOCH = re.compile(r"epoch-(0|[1-9][0-9]{0,9})\.npz")


class LogitsError(ValueError):
    """Kept logits cannot be read, or do not fit together."""


@dataclass(frozen=True, eq=False)
class Images:
    """Which images logits are of.

    Args:
        labels: (N,) int64 in [0, C).
        indices: (N,) int64, of the images in the stored split they are from: validation images are training images.
        classes: The C names.
        facts: What is known of them, e.g. `run`, `split`, `data` and `fingerprint`, as JSON can hold it.
    """

    labels: NDArray[np.int64]
    indices: NDArray[np.int64]
    classes: tuple[str, ...]
    facts: dict[str, Any]


@dataclass(frozen=True, eq=False)
class Logits:
    """The logits of all epochs that are kept.

    Args:
        images: Whose they are.
        epochs: (E,) int64, ascending.
        values: (E, N, C) float16; the greatest of an image in an epoch is 0.
        damaged: Names of files that cannot be read.
    """

    images: Images
    epochs: NDArray[np.int64]
    values: NDArray[np.float16]
    damaged: tuple[str, ...] = ()

    @cached_property
    def predictions(self) -> NDArray[np.uint16]:
        """(E, N) the most probable class; the first of several."""
        return self.values.argmax(axis=2).astype(np.uint16)

    @cached_property
    def true_probabilities(self) -> NDArray[np.float32]:
        """(E, N) what each image's own class was given, in [0, 1]."""
        rows = np.arange(len(self.images.labels))
        return np.stack([softmax(values)[rows, self.images.labels] for values in self.values])

    @cached_property
    def correct(self) -> NDArray[np.bool_]:
        """(E, N) whether the prediction is the label."""
        return self.predictions == self.images.labels

    def some(self, places: NDArray[np.int64]) -> Logits:
        """The same of some of the images."""
        images = self.images
        facts = {**images.facts, "selected_of": len(images.labels)}
        chosen = Images(images.labels[places], images.indices[places], images.classes, facts)
        return Logits(chosen, self.epochs, self.values[:, places], self.damaged)

    def nearest(self, epoch: float) -> int:
        """The kept epoch closest to another one; the earlier of two."""
        epoch = min(max(epoch, float(self.epochs[0])), float(self.epochs[-1]))
        return int(self.epochs[np.abs(self.epochs - epoch).argmin()])

    def at(self, epoch: int) -> Evaluation:
        """What the network said after an epoch, with all that is derived from it.

        Raises:
            LogitsError: Nothing is kept of that epoch.
        """
        places = np.flatnonzero(self.epochs == epoch)
        if not len(places):
            kept = ", ".join(map(str, self.epochs.tolist()))
            raise LogitsError(f"Nothing is kept of epoch {epoch}, but of {kept}.")
        images = self.images
        facts = {**images.facts, "epoch": int(epoch)}
        return Evaluation.of_logits(images.labels, self.values[places[0]], images.classes, facts)


def begin(folder: Path, images: Images, after: float = 0.0) -> None:
    """Make ready to keep logits of these images, and let go of what was kept after an epoch.

    A training that goes on from a checkpoint trains those epochs again. Logits of other images are all let go of.

    Raises:
        OSError: The folder cannot be written.
    """
    folder.mkdir(parents=True, exist_ok=True)
    content = _packed(
        labels=np.asarray(images.labels, np.int64),
        indices=np.asarray(images.indices, np.int64),
        about=np.frombuffer(json.dumps({"classes": images.classes, "facts": images.facts}).encode(), np.uint8),
    )
    there = folder / "images.npz"
    same = there.exists() and there.read_bytes() == content
    for epoch, path in files(folder).items():
        if epoch > after or not same:
            path.unlink(missing_ok=True)
    if not same:
        write_whole(there, content)


def keep(folder: Path, epoch: int, values: NDArray[Any]) -> None:
    """Write down the logits of an epoch, in place of those that were there.

    Args:
        values: (N, C), finite or not.

    Raises:
        OSError: The file cannot be written, and what was there is still there.
    """
    wide = np.asarray(values, np.float32)
    lowered = np.maximum(wide - wide.max(axis=1, keepdims=True), LOWEST).astype(np.float16)
    write_whole(folder / f"epoch-{epoch}.npz", _packed(planes=_planes(lowered)))


def thin(folder: Path, most: int, always: Iterable[int] = ()) -> None:
    """Let go of epochs, evenly, where all of them take too much; see `staying`.

    Args:
        most: Bytes that they may take.
        always: Epochs that stay all the same.
    """
    kept = files(folder)
    largest = max((path.stat().st_size for path in kept.values()), default=1)
    there = staying(kept, most // largest, always)
    for epoch, path in kept.items():
        if epoch not in there:
            path.unlink(missing_ok=True)


def staying(epochs: Iterable[int], room: int, always: Iterable[int] = ()) -> set[int]:
    """Which epochs stay where there is room for so many: all, or each second, fourth, eighth and so on.

    The first and the last one stay in any case, and those of `always` unless there is no room for them alone; the last
    even where there is no room at all.
    """
    there = set(epochs)
    if not there:
        return there
    last = max(there)
    fixed = {min(there), last} | (there & set(always))
    if len(fixed) > room:
        return {last}
    every = 1
    # As if none had been let go of before, or the latest would lie closer together than the others.
    while last // every > room - len(fixed):
        every *= 2
    return fixed | {epoch for epoch in there if epoch % every == 0}


def files(folder: Path) -> dict[int, Path]:
    """What is kept of each epoch, in order."""
    named = ((path, _EPOCH.fullmatch(path.name)) for path in folder.glob("epoch-*.npz"))
    return dict(sorted((int(match[1]), path) for path, match in named if match))


def version(folder: Path) -> tuple[tuple[int, int], ...]:
    """Another one whenever something is kept or let go of: the epochs, and when each was written."""
    found = []
    for epoch, path in files(folder).items():
        try:
            found.append((epoch, path.stat().st_mtime_ns))
        except OSError:
            continue  # Let go of just now.
    return tuple(found)


def read_images(folder: Path) -> Images:
    """Which images the logits of a folder are of.

    Raises:
        LogitsError: There are none, or what is known of them is damaged.
    """
    path = folder / "images.npz"
    try:
        with np.load(path, allow_pickle=False) as file:
            about = json.loads(file["about"].tobytes().decode())
            images = Images(file["labels"], file["indices"], tuple(about["classes"]), dict(about["facts"]))
    except FileNotFoundError:
        raise LogitsError(f"Nothing is kept in {folder}.") from None
    # Damage shows itself in any way.
    except Exception as error:
        raise LogitsError(f"{path} is damaged ({type(error).__name__}); remove the folder it is in.") from error
    labels = images.labels
    if labels.ndim != 1 or images.indices.shape != labels.shape or not (labels >= 0).all():
        raise LogitsError(f"{path} is damaged; remove the folder it is in.")
    return images


def read(folder: Path, only: int | None = None) -> Logits:
    """All that is kept in a folder.

    Args:
        only: Of this epoch alone.

    Raises:
        LogitsError: That is nothing, or nothing that can be read.
    """
    images = read_images(folder)
    shape = (len(images.labels), len(images.classes))
    epochs: list[int] = []
    values: list[NDArray[np.float16]] = []
    damaged: list[str] = []
    for epoch, path in files(folder).items():
        if only not in (None, epoch):
            continue
        try:
            with np.load(path, allow_pickle=False) as file:
                # Before the planes they were kept as they are.
                one = file["logits"] if "logits" in file else _from_planes(file["planes"])
            if one.shape != shape or one.dtype != np.float16 or not np.isfinite(one).all():
                raise ValueError
        except FileNotFoundError:
            continue  # Let go of just now.
        except (OSError, ValueError, LookupError, EOFError, zipfile.BadZipFile, zlib.error):
            damaged.append(path.name)
            continue
        epochs.append(epoch)
        values.append(one)
    if not epochs:
        if damaged:
            raise LogitsError(f"What is kept in {folder} is damaged ({', '.join(damaged)}); remove it.")
        raise LogitsError(f"Nothing is kept in {folder} yet" + ("." if only is None else f" of epoch {only}."))
    stacked = np.stack(values)
    for array in (stacked, images.labels, images.indices):
        array.flags.writeable = False
    return Logits(images, np.array(epochs, np.int64), stacked, tuple(damaged))


class Temperature(NamedTuple):
    """By what logits are divided to give calibrated probabilities, and on how many validation images it was fitted.

    Where it could not be, it is 1 and there is a reason.
    """

    value: float
    images: int = 0
    why_not: str = ""


def temperature(folder: Path, epoch: float) -> Temperature:
    """Fitted on what a run said of its validation images after an epoch, which is kept in this folder."""
    why_not = "nothing is kept of what this run said of validation images at these weights"
    if epoch != int(epoch) or int(epoch) not in files(folder):
        return Temperature(1.0, why_not=why_not)
    try:
        kept = read(folder, only=int(epoch))
    except (OSError, LogitsError):
        return Temperature(1.0, why_not=why_not)
    images = len(kept.images.labels)
    if kept.correct.all() or not images:
        # The likelihood then only grows as the temperature falls.
        return Temperature(1.0, images, f"all of the {images:,} validation images are told right, which fits none")
    return Temperature(fitted_temperature(kept.values[0], kept.images.labels), images)


def _planes(values: NDArray[np.float16]) -> NDArray[np.uint8]:
    """(2, N, C), all low bytes and then all high ones: those of float16 are alike, and packed together take an eighth
    less than in pairs."""
    return np.moveaxis(values.astype("<f2")[..., None].view(np.uint8), -1, 0)


def _from_planes(planes: NDArray[np.uint8]) -> NDArray[np.float16]:
    """(N, C), exactly what the planes were made of."""
    return np.ascontiguousarray(np.moveaxis(planes, 0, -1)).view("<f2")[..., 0].astype(np.float16)


def _packed(**arrays: NDArray[Any]) -> bytes:
    content = io.BytesIO()
    np.savez_compressed(content, **arrays)  # type: ignore[arg-type]
    return content.getvalue()
