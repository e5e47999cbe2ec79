"""Data sets: labelled images of any source, decoded once into arrays on disk."""

from __future__ import annotations

import contextlib
import errno
import hashlib
import json
import os
import re
import shutil
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import IO, Any

import numpy as np
from numpy.typing import NDArray

from cifar_core.sources import (
    IMAGE_SHAPE,
    SPLITS,
    Contents,
    DataError,
    Found,
    Progress,
    find,
    inside_sentence,
    resolve,
    temporary_folder,
)

SCHEMA_VERSION = 1

ID_PATTERN = re.compile(r"[a-z0-9][a-z0-9-]{0,39}-[0-9a-f]{8}")
"""The only form of a data set's id that is accepted, as ids also come from URLs."""

SAVING = "Saving the images"

_BYTES_PER_IMAGE = 3 * 32 * 32 + 8


@dataclass(frozen=True)
class Split:
    """Images (N, 3, 32, 32) uint8, perhaps memory-mapped and read-only, with their labels (N,) int64 in [0, K)."""

    images: NDArray[np.uint8]
    labels: NDArray[np.int64]


@dataclass(frozen=True)
class DataInfo:
    """Everything about a data set but its pixels."""

    id: str
    """Its folder in the cache."""
    name: str
    """What pages call it."""
    source: str
    """Absolute path it was read from."""
    kind: str
    """batches, parquet, folder or drawn."""
    fingerprint: str
    """16 hexadecimal digits over images, labels and classes of both splits; equal content, equal fingerprint."""
    classes: tuple[str, ...]
    train_counts: tuple[int, ...]
    """Images per class."""
    test_counts: tuple[int, ...]
    mean: tuple[float, float, float]
    """Per channel over all pixels of the training split, in [0, 1]."""
    std: tuple[float, float, float]
    """Likewise, of the population; a channel without any variation has 0."""
    left_out: str = ""
    """What of the source was not read, in one sentence; empty where all was."""

    @property
    def train_images(self) -> int:
        return sum(self.train_counts)

    @property
    def test_images(self) -> int:
        return sum(self.test_counts)

    def to_json(self) -> str:
        """Indented JSON with a schema version."""
        return json.dumps({"schema_version": SCHEMA_VERSION, **asdict(self)}, indent=2) + "\n"

    @classmethod
    def from_json(cls, text: str) -> DataInfo:
        """Read what `to_json` wrote.

        Raises:
            ValueError: The text is not JSON, of another version, or lacks a field.
        """
        values: Any = json.loads(text)
        if not isinstance(values, dict) or values.pop("schema_version", None) != SCHEMA_VERSION:
            raise ValueError(f"The description of the data set is not of schema version {SCHEMA_VERSION}.")
        fields: dict[str, Any] = {name: tuple(v) if isinstance(v, list) else v for name, v in values.items()}
        try:
            info = cls(**fields)
        except TypeError as error:
            raise ValueError(f"The description of the data set is incomplete: {error}.") from None
        lengths = {len(info.classes), len(info.train_counts), len(info.test_counts)}
        if not ID_PATTERN.fullmatch(info.id) or len(lengths) > 1:
            raise ValueError("The description of the data set contradicts itself.")
        return info


@dataclass(frozen=True)
class DataSet:
    info: DataInfo
    train: Split
    test: Split


# Opening and keeping -----------------------------------------------------------------------------------------------


def prepare(source: Path | str, cache: Path) -> Iterator[Progress]:
    """Decode a source into the cache, telling how many images are done; nothing to do where that happened before.

    Closing the generator early, or any error, leaves nothing half-written. Two processes may prepare the same source
    at once: the first to finish wins and both succeed.

    Args:
        source: `cifar-10-batches-py/` or its archive, the Hugging Face Parquet layout, a folder of images, a folder
            holding one of these, a folder of the cache, or `cartoon10`, which is drawn.

    Raises:
        DataError: The source cannot be read, or the cache cannot be written.
    """
    folder, found = _locate(source, cache)
    if found and not _intact(folder):
        yield from _decode(found, folder)


def open_dataset(source: Path | str, cache: Path) -> DataSet:
    """The data of a source, memory-mapped from the cache, decoded first if need be.

    Raises:
        DataError: As `prepare`.
    """
    folder, found = _locate(source, cache)
    if found and not _intact(folder):
        for _ in _decode(found, folder):
            pass
    return _open(folder)


def open_cached(id: str, cache: Path) -> DataSet:
    """A data set that was prepared before, whether or not its source still exists.

    Raises:
        DataError: The id has not the form of an id, or there is no such data set, or its files are damaged.
    """
    folder = _cached_folder(id, cache)
    if not folder.is_dir():
        raise DataError(f"There is no data set {id} in {cache}; open its source again.")
    return _open(folder)


def cached(cache: Path) -> list[DataInfo]:
    """The data sets in the cache, most recently opened first, but drawn pictures last; damaged ones are left out."""
    dated = []
    with contextlib.suppress(OSError):
        for folder in cache.iterdir():
            if ID_PATTERN.fullmatch(folder.name):
                with contextlib.suppress(OSError, ValueError):
                    info = _read_info(folder)
                    if info.id == folder.name:
                        dated.append((folder.stat().st_mtime_ns, info))
    return [info for _, info in sorted(dated, key=lambda pair: (pair[1].kind == "drawn", -pair[0], pair[1].id))]


def find_cached(source: Path | str, cache: Path) -> DataInfo | None:
    """What `prepare` has made of a source as it is now, or None where there still is work to do.

    Raises:
        DataError: The source cannot be read.
    """
    folder, _ = _locate(source, cache)
    return _read_info(folder) if _intact(folder) else None


def forget(id: str, cache: Path) -> None:
    """Delete a data set from the cache; its source stays.

    Raises:
        DataError: The id has not the form of an id, or there is no such data set, or it may not be deleted.
    """
    folder = _cached_folder(id, cache)
    if not folder.is_dir():
        raise DataError(f"There is no data set {id} in {cache}.")
    try:
        with temporary_folder(cache, id) as aside:
            folder.rename(aside / id)  # so that it is gone at once, even if deleting its files is interrupted
    except OSError as error:
        raise DataError(f"The data set {id} cannot be deleted from {cache}: {error.strerror}.") from None


def _locate(source: Path | str, cache: Path) -> tuple[Path, Found | None]:
    """The folder of a source's arrays, and what to make them from; None where the source is such a folder itself."""
    path = resolve(source)
    with contextlib.suppress(OSError):  # `find` tells what may not be read
        if path.is_absolute() and (path / "info.json").is_file() and (path / "train_images.npy").is_file():
            _open(path)
            return path, None
    found = find(path)
    # It changes with the place, names, sizes and times of the files, so a changed source is new.
    identity = f"{SCHEMA_VERSION}\0{found.kind}\0{found.root}{found.files}{found.left_out}"
    digest = hashlib.sha256(identity.encode("utf-8", "surrogateescape")).hexdigest()
    slug = re.sub(r"[^a-z0-9]+", "-", found.title.lower()).strip("-")[:40].strip("-") or "data"
    return cache / f"{slug}-{digest[:8]}", found


def _cached_folder(id: str, cache: Path) -> Path:
    if not ID_PATTERN.fullmatch(id):
        raise DataError(f"{id!r} is not the id of a data set; ids look like cifar-10-0123abcd.")
    return cache / id


def _read_info(folder: Path) -> DataInfo:
    return DataInfo.from_json((folder / "info.json").read_text("utf-8"))


def _open(folder: Path) -> DataSet:
    try:
        info = _read_info(folder)
        splits = {}
        for split, counts in zip(SPLITS, (info.train_counts, info.test_counts), strict=True):
            images = np.load(folder / f"{split}_images.npy", mmap_mode="r", allow_pickle=False)
            labels = np.load(folder / f"{split}_labels.npy", allow_pickle=False)
            shapes = (sum(counts), *IMAGE_SHAPE), (sum(counts),)
            if (images.shape, labels.shape) != shapes or (images.dtype, labels.dtype) != (np.uint8, np.int64):
                raise ValueError(f"the {split} split has another shape than info.json says")
            splits[split] = Split(images, labels)
    except (OSError, ValueError, EOFError) as error:
        raise DataError(
            f"The prepared data in {folder} is damaged ({inside_sentence(error)}); "
            "delete that folder and open its source again."
        ) from None
    with contextlib.suppress(OSError):
        os.utime(folder)
    return DataSet(info, splits["train"], splits["test"])


# Writing into the cache --------------------------------------------------------------------------------------------


def _decode(found: Found, folder: Path) -> Iterator[Progress]:
    cache = folder.parent
    images = 0
    try:
        with temporary_folder(cache, folder.name) as temporary:
            contents = yield from found.read()
            images = sum(contents.counts.values())
            _check(contents, found.root)
            if shutil.disk_usage(cache).free < images * _BYTES_PER_IMAGE:
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
            yield from _write(contents, found, folder.name, temporary)
            _publish(temporary, folder)
    except OSError as error:
        raise _unwritable(error, images, cache) from None


def _intact(folder: Path) -> bool:
    try:
        _open(folder)
    except DataError:
        return False
    return True


def _check(contents: Contents, root: Path) -> None:
    if len(contents.classes) < 2:
        only = f"only the class {contents.classes[0]}" if contents.classes else "no class"
        raise DataError(f"{root} has {only}; at least two classes are needed to tell them apart.")
    if len(set(contents.classes)) < len(contents.classes):
        twice = next(name for name in contents.classes if contents.classes.count(name) > 1)
        raise DataError(f"{root} names the class {twice} twice; give every class its own name.")
    for split in SPLITS:
        if not contents.counts[split]:
            raise DataError(f"The {split} split of {root} is empty; it needs images.")


def _unwritable(error: OSError, images: int, cache: Path) -> DataError:
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        size = f"{max(1, round(images * _BYTES_PER_IMAGE / 1e6)):,} MB" if images else "room"
        return DataError(f"The disk is full: {size} needed in {cache}; free some space or choose another cache folder.")
    if error.errno in (errno.EACCES, errno.EPERM, errno.EROFS):
        return DataError(f"The cache folder {cache} may not be written; change its permissions or choose another one.")
    if not cache.is_dir():
        return DataError(f"The cache folder {cache} cannot be made: {inside_sentence(error)}; choose another one.")
    return DataError(f"Preparing the data in {cache} failed: {error.filename or ''} {inside_sentence(error)}.")


def _write(contents: Contents, found: Found, id: str, folder: Path) -> Iterator[Progress]:
    classes = contents.classes
    total = sum(contents.counts.values())
    done = 0
    counts = {split: np.zeros(len(classes), np.int64) for split in SPLITS}
    targets: dict[str, list[tuple[IO[bytes], Any]]] = {split: [] for split in SPLITS}
    sums = np.zeros((2, 3))
    with contextlib.ExitStack() as stack:
        for split in SPLITS:
            for part, dtype, shape in (("images", np.uint8, IMAGE_SHAPE), ("labels", np.int64, ())):
                # Written, not memory-mapped: on a full disk a map kills the process where a write raises.
                file: IO[bytes] = stack.enter_context((folder / f"{split}_{part}.npy").open("wb"))
                descr = np.lib.format.dtype_to_descr(np.dtype(dtype))
                header = {"descr": descr, "fortran_order": False, "shape": (contents.counts[split], *shape)}
                np.lib.format.write_array_header_1_0(file, header)
                targets[split].append((file, hashlib.sha256()))
        # Where all of them had to be read before the first could be kept, nothing but that is left.
        what = "Decoding images" if contents.reported < total else SAVING
        yield Progress(contents.reported, total, what)
        for block in contents.blocks:
            for (file, digest), array in zip(targets[block.split], (block.images, block.labels), strict=True):
                data = np.ascontiguousarray(array).data
                file.write(data)
                digest.update(data)
            counts[block.split] += np.bincount(block.labels, minlength=len(classes))
            if block.split == "train":
                sums += _channel_sums(block.images)
            done += len(block.labels)
            yield Progress(max(done, contents.reported), total, what)
        yield Progress(done, total, SAVING)
        for file, _ in (*targets["train"], *targets["test"]):
            file.flush()
            os.fsync(file.fileno())
    if done != total:
        raise DataError(f"{found.root} changed while it was read; open it again.")
    for name, count in zip(classes, counts["train"], strict=True):
        if not count:
            raise DataError(f"The class {name} of {found.root} has no training image; add some or remove the class.")
    pixels = contents.counts["train"] * 32 * 32
    mean = sums[0] / pixels
    std = np.sqrt(np.maximum(sums[1] / pixels - mean**2, 0))
    fingerprint = hashlib.sha256(json.dumps([classes, contents.counts]).encode())
    for _, digest in (*targets["train"], *targets["test"]):
        fingerprint.update(digest.digest())
    info = DataInfo(
        id=id,
        name=contents.name,
        source=str(found.root),
        kind=found.kind,
        fingerprint=fingerprint.hexdigest()[:16],
        classes=classes,
        train_counts=tuple(counts["train"].tolist()),
        test_counts=tuple(counts["test"].tolist()),
        mean=tuple((mean / 255).tolist()),
        std=tuple((std / 255).tolist()),
        left_out=found.left_out,
    )
    (folder / "info.json").write_text(info.to_json(), "utf-8")


def _channel_sums(images: NDArray[np.uint8]) -> NDArray[np.float64]:
    """(2, 3) sums of the values and of their squares; exact, as integers below 2**53 are in float64."""
    sums = np.zeros((2, 3))
    for start in range(0, len(images), 500):
        channels = images[start : start + 500].transpose(1, 0, 2, 3).reshape(3, -1).astype(np.float64)
        sums += np.stack([channels.sum(axis=1), np.einsum("cn,cn->c", channels, channels)])
    return sums


def _publish(temporary: Path, folder: Path) -> None:
    for _ in range(3):
        try:
            temporary.rename(folder)
        except OSError as error:
            if error.errno not in (errno.ENOTEMPTY, errno.EEXIST, errno.ENOTDIR):
                raise
            if _intact(folder):
                return  # another process was faster with the same content
            with temporary_folder(folder.parent, folder.name) as aside, contextlib.suppress(FileNotFoundError):
                folder.rename(aside / folder.name)
        else:
            return
    raise OSError(errno.EEXIST, os.strerror(errno.EEXIST), str(folder))
