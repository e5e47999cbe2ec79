"""Selections: sets of images of one split of a data set, short enough for a URL, kept beside the cache.

A text names a selection: `train.1a2b3c4d.3.17` lists images of the data set whose fingerprint begins so;
`hard-cats` is what is kept under that name now; `hard-cats.0123456789ab` is what was kept under it, once and for all.
"""

from __future__ import annotations

import csv
import hashlib
import io
import itertools
import json
import re
import zipfile
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from cifar_core.config import nearest
from cifar_core.runs import write_whole
from cifar_core.sources import SPLITS, inside_sentence

if TYPE_CHECKING:
    from cifar_core.config import TrainConfig
    from cifar_core.datasets import DataInfo, DataSet

SCHEMA_VERSION = 1

FEW = 12
"""Images that are listed in a URL; of more, a file is kept."""

NAME = re.compile(r"[a-z0-9][a-z0-9-]{0,39}")

_LISTED = re.compile(rf"({'|'.join(SPLITS)})\.([0-9a-f]{{8}})((?:\.[0-9]{{1,9}})*)")
_KEPT = re.compile(r"([a-z0-9-]{1,40})\.([0-9a-f]{12})")

_INVERSE = re.compile(r"not \((.*)\)", re.DOTALL)

WAYS = ("or", "and", "minus")
"""How two selections are combined."""


class SelectionError(ValueError):
    """A selection cannot be had, or not be used as asked."""


@dataclass(frozen=True, eq=False)
class Selection:
    """Images of one split of one data set.

    Args:
        fingerprint: Of the data set.
        split: train or test.
        indices: (n,) int64, of images in the split; sorted, each once.
        about: How they were chosen, in words.
        name: Under which they are kept, if they are.

    Raises:
        SelectionError: There is no such split, or an index is negative.
    """

    fingerprint: str
    split: str
    indices: NDArray[np.int64] = field(repr=False)
    about: str = ""
    name: str = ""

    def __post_init__(self) -> None:
        if self.split not in SPLITS:
            raise SelectionError(f"The split of a selection must be train or test, but is {self.split!r}.")
        indices = np.unique(np.asarray(self.indices, np.int64))
        if len(indices) and indices[0] < 0:
            raise SelectionError(f"Images are numbered from 0, but a selection names {indices[0]}.")
        indices.flags.writeable = False
        object.__setattr__(self, "indices", indices)

    def __len__(self) -> int:
        return len(self.indices)

    @property
    def digest(self) -> str:
        """12 hexadecimal digits over what it holds and how that was chosen."""
        whole = hashlib.sha256(f"{self.fingerprint}\0{self.split}\0{self.about}\0".encode())
        whole.update(self.indices.tobytes())
        return whole.hexdigest()[:12]

    @property
    def listed(self) -> str:
        """A text that lists the images themselves."""
        return ".".join([self.split, self.fingerprint[:8], *map(str, self.indices)])


def combined(first: Selection, second: Selection, way: str) -> Selection:
    """The images of either (or), of both (and), or of the first alone (minus).

    Raises:
        SelectionError: They are of different images, so that their numbers mean different things.
    """
    if first.fingerprint != second.fingerprint:
        raise SelectionError("Two selections of different data sets cannot be combined.")
    if first.split != second.split:
        raise SelectionError(
            f"One selection is of the {first.split} split, the other of the {second.split} split; "
            "only selections of one split can be combined."
        )
    work: dict[str, Callable[..., NDArray[np.int64]]] = {
        "or": np.union1d,
        "and": np.intersect1d,
        "minus": np.setdiff1d,
    }
    if way not in work:
        raise SelectionError(f"Selections are combined by {', '.join(WAYS)}, not by {way!r}.")
    about = f"({first.name or first.about}) {way} ({second.name or second.about})"
    return replace(first, indices=work[way](first.indices, second.indices), about=about, name="")


def inverted(selection: Selection, images: int, kept: Sequence[Selection] = ()) -> Selection:
    """All other images of the split, which has so many; of what was inverted already, what it was before.

    Args:
        kept: Selections that have names, under which they are given back.
    """
    others = np.setdiff1d(np.arange(images), selection.indices)
    before = _INVERSE.fullmatch(selection.about) if not selection.name else None
    about = before[1] if before else f"not ({selection.name or selection.about})"
    found = replace(selection, indices=others, about=about, name="")
    for one in kept:
        if one.split == found.split and about in (one.name, one.about) and np.array_equal(one.indices, others):
            return one
    return found


# Keeping and finding -----------------------------------------------------------------------------------------------


def folder_of(cache: Path) -> Path:
    """Where selections are kept: beside the cache, as they are nothing that could be made anew."""
    return cache.parent / "selections"


def slug(text: str) -> str:
    """A name made of a text, as `NAME` allows it."""
    return re.sub(r"[^a-z0-9]+", "-", text.lower()).strip("-")[:40].strip("-") or "images"


def refer(selection: Selection, folder: Path) -> str:
    """A short text that `find` understands; of more than a few images a file is kept for it.

    Raises:
        SelectionError: The file cannot be written.
    """
    if len(selection) <= FEW and not selection.name:
        return selection.listed
    path = folder / selection.fingerprint / f"{selection.digest}.json"
    if not path.exists():
        content = {
            "schema_version": SCHEMA_VERSION,
            "split": selection.split,
            "about": selection.about,
            "indices": selection.indices.tolist(),
        }
        _written(path, json.dumps(content))
    return f"{selection.name or slug(selection.about)}.{selection.digest}"


def keep(selection: Selection, name: str, folder: Path) -> Selection:
    """Keep a selection under a name, in place of what was kept under it before; texts that pin that stay true.

    Raises:
        SelectionError: The name is none, or the file cannot be written.
    """
    if not NAME.fullmatch(name):
        raise SelectionError(
            "A selection's name is made of small letters, digits and hyphens, begins with a letter or digit and has "
            f"at most 40 of them; {name[:80]!r} is none."
        )
    named = replace(selection, name=name)
    refer(named, folder)
    _written(folder / selection.fingerprint / f"{name}.name", named.digest)
    return named


def free_name(selection: Selection, folder: Path) -> str:
    """A name after how a selection was chosen, under which nothing else is kept."""
    first = slug(selection.about)
    for count in itertools.count(1):
        name = first if count == 1 else f"{first[:34].strip('-')}-{count}"
        if not (folder / selection.fingerprint / f"{name}.name").exists():
            break
    return name


def forget(name: str, fingerprint: str, folder: Path) -> None:
    """Let go of a name; what texts pin stays, as a run may rest on it."""
    if NAME.fullmatch(name):
        (folder / fingerprint / f"{name}.name").unlink(missing_ok=True)


def kept(fingerprint: str, folder: Path) -> list[Selection]:
    """The selections of a data set that have names, by name."""
    found = []
    with suppress(OSError):
        for path in sorted((folder / fingerprint).glob("*.name")):
            with suppress(SelectionError):
                found.append(find(path.stem, fingerprint, folder))
    return found


def find(text: str, fingerprint: str, folder: Path) -> Selection:
    """The selection of a data set that a text names.

    Raises:
        SelectionError: There is none, it is of another data set, or its file is damaged.
    """
    if listed := _LISTED.fullmatch(text):
        split, of, numbers = listed.groups()
        if not fingerprint.startswith(of):
            raise SelectionError(f"The selection {_short(text)} is of another data set.")
        return Selection(fingerprint, split, np.array(numbers.split(".")[1:], np.int64), "listed images")
    place = folder / fingerprint
    if pinned := _KEPT.fullmatch(text):
        name, digest = pinned.groups()
    elif NAME.fullmatch(text):
        name = text
        if not (digest := _digest_under(name, place)):
            known = [path.stem for path in place.glob("*.name")]
            raise SelectionError(f"This data set has no selection {name}{nearest(name, known)}")
    else:
        raise SelectionError(
            f"{_short(text)} names no selection; that is a kept one's name, or a list such as train.1a2b3c4d.3.17."
        )
    found = _read(place / f"{digest}.json", name, digest, fingerprint)
    # What was kept under that name since is another one.
    return replace(found, name=name if _digest_under(name, place) == digest else "")


def _digest_under(name: str, place: Path) -> str:
    """The digest of what is kept under a name; empty where nothing is."""
    try:
        return (place / f"{name}.name").read_text("ascii").strip()
    except (OSError, ValueError):
        return ""


def _short(text: str) -> str:
    return repr(text if len(text) <= 60 else f"{text[:60]}...")


def _read(path: Path, name: str, digest: str, fingerprint: str) -> Selection:
    try:
        content = json.loads(path.read_text("utf-8"))
        if content["schema_version"] != SCHEMA_VERSION:
            raise ValueError(f"it has schema version {content['schema_version']}")
        found = Selection(fingerprint, content["split"], np.array(content["indices"], np.int64), content["about"], "")
    except FileNotFoundError:
        raise SelectionError(f"The selection {name} of this data set is not here (any more).") from None
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise SelectionError(f"The selection {name} cannot be read: {inside_sentence(error)}.") from None
    if found.digest != digest:
        raise SelectionError(f"The selection {name} is damaged; select its images again.")
    return found


def _written(path: Path, text: str) -> None:
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        write_whole(path, text.encode())
    except OSError as error:
        raise SelectionError(f"The selection cannot be kept in {path.parent}: {error.strerror}.") from None


# Training with one -------------------------------------------------------------------------------------------------

SETTINGS = ("only_selection", "without_selection")


def pinned(config: TrainConfig, info: DataInfo, folder: Path) -> TrainConfig:
    """The settings with texts that name the same selections whatever is kept under their names later.

    Raises:
        SelectionError: There is no such selection of the training split.
    """
    texts: dict[str, Any] = {}
    for name in SETTINGS:
        if text := getattr(config, name):
            texts[name] = refer(_of_training(name, text, info, folder), folder)
    return replace(config, **texts)


def allowed(config: TrainConfig, info: DataInfo, folder: Path) -> NDArray[np.bool_] | None:
    """(N,) which images of the training split may be trained on, or None where the settings name no selection.

    Raises:
        SelectionError: There is no such selection of the training split.
    """
    may = None
    for name in SETTINGS:
        if text := getattr(config, name):
            may = np.ones(info.train_images, bool) if may is None else may
            chosen = np.zeros(info.train_images, bool)
            chosen[_of_training(name, text, info, folder).indices] = True
            may &= chosen if name == "only_selection" else ~chosen
    return may


def _of_training(setting: str, text: str, info: DataInfo, folder: Path) -> Selection:
    try:
        found = find(text, info.fingerprint, folder)
    except SelectionError as error:
        raise SelectionError(f"{setting} cannot be used with {info.name}: {error}") from None
    if found.split != "train":
        raise SelectionError(f"{setting} must be of training images, but {text[:80]} is of test images.")
    if len(found) and found.indices[-1] >= info.train_images:
        raise SelectionError(f"{setting} names image {found.indices[-1]}, which {info.name} has not.")
    return found


# Taking away with one ----------------------------------------------------------------------------------------------


def to_csv(selection: Selection, data: DataSet) -> str:
    """A line for each image: its index, split, class, and the data set it is of."""
    labels = getattr(data, selection.split).labels
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(["index", "split", "class", "data", "fingerprint"])
    for index in selection.indices:
        name = data.info.classes[labels[index]]
        writer.writerow([index, selection.split, name, data.info.name, selection.fingerprint])
    return text.getvalue()


def to_zip(selection: Selection, data: DataSet) -> bytes:
    """A folder of PNG files `<class>/<split>-<index>.png`, with the table of `to_csv` beside them."""
    split = getattr(data, selection.split)
    buffer = io.BytesIO()
    # PNG is compressed already.
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_STORED) as archive:
        archive.writestr("selection.csv", to_csv(selection, data))
        for index in selection.indices:
            # A class may be called anything, a folder may not.
            place = re.sub(r"[^\w .-]|^\.+", "_", data.info.classes[split.labels[index]])
            picture = io.BytesIO()
            Image.fromarray(np.ascontiguousarray(split.images[index].transpose(1, 2, 0))).save(picture, format="PNG")
            archive.writestr(f"{place}/{selection.split}-{index:05}.png", picture.getvalue())
    return buffer.getvalue()
