"""Labelled images from the places people have them, decoded once into arrays on disk."""

from __future__ import annotations

import contextlib
import errno
import fcntl
import hashlib
import io
import json
import os
import pickle
import re
import shutil
import tarfile
import tempfile
import time
import zlib
from collections.abc import Callable, Generator, Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import IO, Any

import numpy as np
from numpy.typing import NDArray

from cifar_core.photos import PHOTO_FORMATS, PhotoError, read_photo, to_input

SCHEMA_VERSION = 1

ID_PATTERN = re.compile(r"[a-z0-9][a-z0-9-]{0,39}-[0-9a-f]{8}")
"""The only form of a data set's id that is accepted, as ids also come from URLs."""

CIFAR10_CLASSES = ("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck")

ARCHIVE = "cifar-10-python.tar.gz"
BATCHES = "cifar-10-batches-py"

TEST_FRACTION = 0.2
"""Share of `<class>/*` that becomes the test split, in (0, 1)."""

SPLIT_SEED = 0

MAX_CLASSES = 1000

_SPLITS = ("train", "test")
_TRAIN_BATCHES = tuple(f"data_batch_{i}" for i in range(1, 6))
_BATCH_FILES = (*_TRAIN_BATCHES, "test_batch", "batches.meta")
_MAX_BATCH_BYTES = 1_000_000_000
_SUFFIXES = (".png", ".jpg", ".jpeg", ".webp", ".bmp")
_SHARD = re.compile(r"(train|test)(?:[-_.].*)?\.parquet")
_TEMPORARY = re.compile(r"\..+?\.(\d+)(?:\.\w+)?\.tmp")
_IMAGE_SHAPE = (3, 32, 32)
_BYTES_PER_IMAGE = 3 * 32 * 32 + 8
_LAYOUTS = (
    f"{BATCHES}/ or {ARCHIVE}, Parquet files train-*.parquet and test-*.parquet, "
    "or folders of images train/<class>/ and test/<class>/ or <class>/"
)


class DataError(ValueError):
    """One sentence for the user: what is wrong with the data and what to do."""


@dataclass(frozen=True)
class Progress:
    """How far a long task has come, in images or bytes."""

    done: int
    total: int
    what: str


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
    """batches, parquet or folder."""
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
            holding one of these, or a folder of the cache.

    Raises:
        DataError: The source cannot be read, or the cache cannot be written.
    """
    yield from _prepare(_find(source), cache)


def open_dataset(source: Path | str, cache: Path) -> DataSet:
    """The data of a source, memory-mapped from the cache, decoded first if need be.

    Raises:
        DataError: As `prepare`.
    """
    found = _find(source)
    for _ in _prepare(found, cache):
        pass
    return _open(_folder(found, cache))


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
    """The data sets in the cache, most recently opened first; damaged ones are left out."""
    dated = []
    with contextlib.suppress(OSError):
        for folder in cache.iterdir():
            if ID_PATTERN.fullmatch(folder.name):
                with contextlib.suppress(OSError, ValueError):
                    info = _read_info(folder)
                    if info.id == folder.name:
                        dated.append((folder.stat().st_mtime_ns, info))
    return [info for _, info in sorted(dated, key=lambda pair: (-pair[0], pair[1].id))]


def find_cached(source: Path | str, cache: Path) -> DataInfo | None:
    """What `prepare` has made of a source as it is now, or None where there still is work to do.

    Raises:
        DataError: The source cannot be read.
    """
    folder = _folder(_find(source), cache)
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
        with _temporary(cache, id) as aside:
            folder.rename(aside / id)  # so that it is gone at once, even if deleting its files is interrupted
    except OSError as error:
        raise DataError(f"The data set {id} cannot be deleted from {cache}: {error.strerror}.") from None


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
        for split, counts in zip(_SPLITS, (info.train_counts, info.test_counts), strict=True):
            images = np.load(folder / f"{split}_images.npy", mmap_mode="r", allow_pickle=False)
            labels = np.load(folder / f"{split}_labels.npy", allow_pickle=False)
            shapes = (sum(counts), *_IMAGE_SHAPE), (sum(counts),)
            if (images.shape, labels.shape) != shapes or (images.dtype, labels.dtype) != (np.uint8, np.int64):
                raise ValueError(f"the {split} split has another shape than info.json says")
            splits[split] = Split(images, labels)
    except (OSError, ValueError, EOFError) as error:
        raise DataError(
            f"The prepared data in {folder} is damaged ({_inside_sentence(error)}); "
            "delete that folder and open its source again."
        ) from None
    with contextlib.suppress(OSError):
        os.utime(folder)
    return DataSet(info, splits["train"], splits["test"])


def _inside_sentence(error: BaseException) -> str:
    text = (error.strerror if isinstance(error, OSError) else None) or str(error) or type(error).__name__
    return text.splitlines()[0].rstrip(".")


# Which layout a path holds -----------------------------------------------------------------------------------------


_File = tuple[str, int, int]
"""Name below the root, size in bytes and time of the last change in nanoseconds."""


@dataclass(frozen=True)
class _Found:
    """A source whose layout is known and whose files are listed, but not read."""

    kind: str
    root: Path
    title: str
    id: str
    read: Callable[[], _Reading]


@dataclass(frozen=True)
class _Block:
    """Some images of one split in a row, and where they stand for messages about their labels."""

    split: str
    images: NDArray[np.uint8]
    labels: NDArray[np.int64]
    places: Callable[[int], str]


@dataclass(frozen=True)
class _Contents:
    classes: tuple[str, ...]
    name: str
    counts: Mapping[str, int]
    blocks: Iterator[_Block]
    reported: int = 0
    """Images whose reading was already told as progress."""


_Reading = Generator[Progress, None, _Contents]


def _found(kind: str, root: Path, title: str, files: Iterable[_File], read: Any) -> _Found:
    """The id changes with the place, the names, the sizes and the times of the files, so a changed source is new."""
    digest = hashlib.sha256(f"{SCHEMA_VERSION}\0{kind}\0{root}".encode("utf-8", "surrogateescape"))
    digest.update(repr(list(files)).encode("utf-8", "surrogateescape"))
    slug = re.sub(r"[^a-z0-9]+", "-", title.lower()).strip("-")[:40].strip("-") or "data"
    return _Found(kind, root, title, f"{slug}-{digest.hexdigest()[:8]}", read)


def _find(source: Path | str) -> _Found:
    if not str(source).strip() or "\0" in str(source):
        raise DataError(f"{str(source)!r} is no path; give the path of {_LAYOUTS}.")
    path = Path(source)
    try:
        path = path.expanduser()
        # A link to a file keeps its own name: Hugging Face's cache links train-*.parquet to files named by checksum.
        path = path.parent.resolve() / path.name if path.is_file() else path.resolve()
        if not path.exists():
            parent = next(p for p in path.parents if p.exists())
            raise DataError(f"There is no file or folder {path}; the nearest folder that exists is {parent}.")
        found = _find_in_folder(path) if path.is_dir() else _find_file(path)
    except (OSError, RuntimeError) as error:
        raise _unreadable(error, path) from None
    if found is None:
        raise DataError(f"{path} holds no data set that can be read; looked for {_LAYOUTS}.")
    return found


def _find_file(path: Path) -> _Found | None:
    if path.name.endswith((".tar.gz", ".tgz", ".tar")):
        return _find_archive(path)
    if path.suffix == ".parquet":
        folder = path.parent.parent if path.parent.name in _SPLITS and not _SHARD.fullmatch(path.name) else path.parent
        shards = _shards(folder)
        if path not in [shard for split in _SPLITS for shard in shards[split]]:
            raise DataError(f"{path.name} names no split; rename the files train-*.parquet and test-*.parquet.")
        return _find_parquet(folder, shards)
    return None


def _find_in_folder(folder: Path) -> _Found | None:
    if (folder / "info.json").is_file() and (folder / "train_images.npy").is_file():
        try:
            info = _read_info(folder)
        except ValueError:
            raise DataError(
                f"{folder} looks like a prepared data set, but its info.json is damaged; delete it."
            ) from None
        return _Found("prepared", folder, info.name, info.id, lambda: _nothing(info))
    archive = folder / ARCHIVE
    for batches in (folder, folder / BATCHES):
        present = [name for name in _BATCH_FILES if (batches / name).is_file()]
        if present and (len(present) == len(_BATCH_FILES) or not archive.is_file()):
            return _find_batches(batches, present)
    if archive.is_file():
        return _find_archive(archive)
    subfolders = _subfolders(folder)
    for place in (folder, *sorted(subfolders, key=lambda p: (p.name not in ("plain_text", "data", "default"), p.name))):
        shards = _shards(place)
        if any(shards.values()):
            return _find_parquet(place, shards)
    return _find_images(folder, subfolders)


def _find_batches(folder: Path, present: list[str]) -> _Found:
    missing = [name for name in _BATCH_FILES if name not in present]
    if missing:
        raise DataError(f"{folder} lacks {_and(missing)}; extract {ARCHIVE} again.")
    files = [_file(folder / name, name) for name in _BATCH_FILES]
    return _found("batches", folder, "cifar-10", files, lambda: _read_batches(folder, _files_of(folder)))


def _find_archive(path: Path) -> _Found:
    return _found("batches", path, "cifar-10", [_file(path, path.name)], lambda: _read_batches(path, _members_of(path)))


def _shards(folder: Path) -> dict[str, list[Path]]:
    """Parquet files per split: train-*.parquet, or train/*.parquet as Hugging Face names files it converted."""
    shards: dict[str, list[Path]] = {split: [] for split in _SPLITS}
    for name in _parquet_names(folder):
        if match := _SHARD.fullmatch(name):
            shards[match[1]].append(folder / name)
    for split in _SPLITS:
        if not shards[split] and (folder / split).is_dir():
            shards[split] = [folder / split / name for name in _parquet_names(folder / split)]
    return shards


def _parquet_names(folder: Path) -> list[str]:
    # Plain names, because this also looks into folders of many thousand images.
    return sorted(name for name in os.listdir(folder) if name.endswith(".parquet") and not name.startswith("."))  # noqa: PTH208


def _find_parquet(folder: Path, shards: dict[str, list[Path]]) -> _Found:
    for split in _SPLITS:
        if not shards[split]:
            raise DataError(f"{folder} has no {split} split; put {split}-*.parquet beside the other Parquet file.")
    title = folder.parent.name if folder.name in ("plain_text", "data", "default") else folder.name
    paths = [shard for split in _SPLITS for shard in shards[split]]
    files = [_file(path, str(path.relative_to(folder))) for path in paths]
    return _found("parquet", folder, title, files, lambda: _read_parquet(folder, title, shards))


def _listed(folder: Path) -> list[Path]:
    return sorted(path for path in folder.iterdir() if not path.name.startswith("."))


def _subfolders(folder: Path) -> list[Path]:
    return [path for path in _listed(folder) if path.is_dir() and path.name != "__MACOSX"]


def _file(path: Path, name: str) -> _File:
    stat = path.stat()
    return name, stat.st_size, stat.st_mtime_ns


def _images_in(folder: Path, prefix: str) -> list[_File]:
    """A folder's images; scandir, because a data set has 60,000 of them."""
    files = []
    with os.scandir(folder) as entries:
        for entry in entries:
            name = entry.name
            if name.lower().endswith(_SUFFIXES) and not name.startswith(".") and entry.is_file():
                stat = entry.stat()
                files.append((f"{prefix}/{name}", stat.st_size, stat.st_mtime_ns))
    files.sort()
    return files


def _find_images(folder: Path, subfolders: list[Path]) -> _Found | None:
    parts = {path.name: path for path in subfolders}
    # A folder train/ that holds pictures itself is a class (of railways), not a split.
    splits = [split for split in _SPLITS if split in parts and _subfolders(parts[split])]
    if splits:
        for split in _SPLITS:
            if split not in splits:
                raise DataError(
                    f"{folder} has {splits[0]}/<class>/ but no {split} split; add {split}/<class>/ beside it."
                )
        listing = {
            (split, path.name): _images_in(path, f"{split}/{path.name}")
            for split in _SPLITS
            for path in _subfolders(parts[split])
        }
        classes = sorted({name for _, name in listing})
        for name in classes:
            if ("train", name) not in listing:
                raise DataError(f"The class {name} is in {folder / 'test'} but not in train; add images or remove it.")
    else:
        listing = {("", path.name): _images_in(path, path.name) for path in subfolders}
        if not any(listing.values()):
            if not _images_in(folder, ""):
                return None
            raise DataError(f"The images in {folder} have no classes; sort them into one folder per class.")
        classes = sorted(parts)
    for (split, name), files in listing.items():
        if not files:
            raise DataError(
                f"The class {name} is empty: {folder / split / name} holds no {', '.join(_SUFFIXES)} file; "
                "add images or remove the folder."
            )
        if not splits and len(files) < 2:
            raise DataError(
                f"The class {name} has one image, but two are needed to split it into train and test; add images."
            )
    files = [file for group in listing.values() for file in group]
    return _found("folder", folder, folder.name, files, lambda: _read_images(folder, tuple(classes), listing))


def _and(names: Iterable[str]) -> str:
    *most, last = names
    return f"{', '.join(most)} and {last}" if most else last


def _unreadable(error: BaseException, path: Path) -> DataError:
    name = getattr(error, "filename", None) or path
    if isinstance(error, PermissionError):
        return DataError(f"{name} may not be read; change its permissions or choose another path.")
    return DataError(f"{name} cannot be read: {_inside_sentence(error)}.")


# Reading each layout -----------------------------------------------------------------------------------------------


def _nothing(info: DataInfo) -> _Reading:
    yield from ()
    return _Contents(info.classes, info.name, {}, iter(()))


def _files_of(folder: Path) -> Iterator[tuple[str, bytes | None]]:
    for name in _BATCH_FILES:
        yield name, (folder / name).read_bytes()


def _members_of(path: Path) -> Iterator[tuple[str, bytes | None]]:
    """The batches in an archive, in its order, read in one pass and never extracted.

    Yields:
        Name and content; None in place of the content while more of it is to come, as a sign of life.
    """
    try:
        with tarfile.open(path, "r|*") as archive:
            for member in archive:
                name = Path(member.name).name
                if name in _BATCH_FILES and member.isfile() and member.size <= _MAX_BATCH_BYTES:
                    file = archive.extractfile(member)
                    content = bytearray()
                    while file is not None and (part := file.read(1 << 22)):
                        content += part
                        yield name, None
                    yield name, bytes(content)
    except (tarfile.TarError, EOFError, zlib.error) as error:
        raise DataError(
            f"The archive {path} is damaged or incomplete ({_inside_sentence(error)}); download it again."
        ) from None


def _read_batches(source: Path, files: Iterator[tuple[str, bytes | None]]) -> _Reading:
    batches: dict[str, tuple[NDArray[np.uint8], NDArray[np.int64]]] = {}
    classes: tuple[str, ...] | None = None
    done = 0
    for name, content in files:
        if content is not None:
            values = _unpickle(content, f"{source / name}")
            if name == "batches.meta":
                classes = _label_names(values, f"{source / name}")
            else:
                batches[name] = _batch(values, f"{source / name}")
                done += len(batches[name][1])
        yield Progress(done, max(done, 10_000 * (len(_BATCH_FILES) - 1)), f"Reading {name}")
    missing = [name for name in _BATCH_FILES if name != "batches.meta" and name not in batches]
    if classes is None:
        missing.append("batches.meta")
    if missing or classes is None:
        raise DataError(f"{source} lacks {_and(missing)}; download {ARCHIVE} again.")

    def blocks() -> Iterator[_Block]:
        for name in (*_TRAIN_BATCHES, "test_batch"):
            images, labels = batches.pop(name)
            split = "test" if name == "test_batch" else "train"
            yield _Block(split, images, labels, f"Row {{}} (counted from 0) of {name}".format)

    counts = {"train": sum(len(batches[name][1]) for name in _TRAIN_BATCHES), "test": len(batches["test_batch"][1])}
    name = "CIFAR-10" if classes == CIFAR10_CLASSES else source.parent.name
    return _Contents(classes, f"{name} (original batches)", counts, blocks(), done)


def _latin1(text: str, encoding: str) -> bytes:
    """How Python 3 writes bytes in old pickles; the real function would look up any codec by name."""
    if encoding != "latin1":
        raise pickle.UnpicklingError(f"encoding {encoding}")
    return text.encode("latin1")


def _plain_array(content: Any, dtype: Any, shape: Any, order: str = "C") -> NDArray[Any]:
    data = content.encode("latin1") if isinstance(content, str) else content
    return np.frombuffer(data, dtype.value).reshape(shape, order="F" if order == "F" else "C")


def _plain_number(dtype: Any, content: Any) -> int:
    return int(_plain_array(content, dtype, ())[()])


class _Dtype:
    """Stands in for numpy.dtype, whose own way of unpickling trusts what it is told about pointers and flags."""

    def __init__(self, code: str, *_: object) -> None:
        self.value = np.dtype(code)
        if self.value.kind not in "iub":
            raise _RefusedError(f"an array of {self.value}")

    def __setstate__(self, state: tuple[Any, ...]) -> None:
        self.value = self.value.newbyteorder(state[1])


class _Array:
    """Stands in for numpy.ndarray while it is unpickled, for the same reason."""

    def __init__(self, *_: object) -> None:
        self.value: NDArray[Any] = np.empty(0)

    def __setstate__(self, state: tuple[Any, ...]) -> None:
        _, shape, dtype, fortran, content = state
        self.value = _plain_array(content, dtype, shape, "F" if fortran else "C")


_ALLOWED: dict[tuple[str, str], Any] = {
    ("_codecs", "encode"): _latin1,
    ("numpy", "dtype"): _Dtype,
    ("numpy", "ndarray"): _Array,
    ("numpy._core.multiarray", "_reconstruct"): _Array,
    ("numpy._core.multiarray", "scalar"): _plain_number,
    ("numpy._core.numeric", "_frombuffer"): _plain_array,
}


class _BatchUnpickler(pickle.Unpickler):
    """Builds arrays, numbers, texts and containers; whatever else a pickle asks for is refused, as it could be code."""

    def find_class(self, module: str, name: str) -> Any:
        try:
            return _ALLOWED[module.replace("numpy.core.", "numpy._core."), name]
        except KeyError:
            raise _RefusedError(f"{module}.{name}") from None


class _RefusedError(Exception):
    pass


def _unpickle(content: bytes, name: str) -> dict[str, Any]:
    try:
        # latin1, because the original batches were written by Python 2, whose texts were bytes
        values = _BatchUnpickler(io.BytesIO(content), encoding="latin1").load()
    except _RefusedError as error:
        raise DataError(
            f"{name} asks for {error}, which is no image data; it was not run, so use another copy."
        ) from None
    except Exception as error:  # damaged pickles raise anything, from UnpicklingError to MemoryError
        raise DataError(f"{name} is damaged ({_inside_sentence(error)}); extract {ARCHIVE} again.") from None
    if not isinstance(values, dict):
        raise DataError(f"{name} is no CIFAR batch: it holds no dictionary.")
    return {
        key.decode("latin1") if isinstance(key, bytes) else str(key): value.value
        if isinstance(value, _Array)
        else value
        for key, value in values.items()
    }


def _label_names(values: dict[str, Any], name: str) -> tuple[str, ...]:
    names = values.get("label_names")
    if not isinstance(names, list) or not all(isinstance(text, str | bytes) for text in names):
        raise DataError(f"{name} holds no list label_names.")
    return tuple(text.decode("utf-8", "replace") if isinstance(text, bytes) else text for text in names)


def _batch(values: dict[str, Any], name: str) -> tuple[NDArray[np.uint8], NDArray[np.int64]]:
    for key in ("data", "labels"):
        if key not in values:
            raise DataError(f"{name} has no entry {key}; it has {_and(sorted(values)) if values else 'none'}.")
    images = values["data"]
    if not isinstance(images, np.ndarray) or images.dtype != np.uint8 or images.ndim != 2 or images.shape[1] != 3072:
        raise DataError(f"The entry data of {name} is not an array of N by 3072 bytes.")
    try:
        labels = np.asarray(values["labels"])
        if labels.ndim != 1 or (labels.size and labels.dtype.kind not in "iu"):
            raise TypeError
    except (TypeError, ValueError):
        raise DataError(f"The entry labels of {name} is not a list of whole numbers.") from None
    if len(labels) != len(images):
        raise DataError(f"{name} has {len(images)} images but {len(labels)} labels.")
    return images.reshape(-1, *_IMAGE_SHAPE), labels.astype(np.int64)


def _read_parquet(folder: Path, title: str, shards: dict[str, list[Path]]) -> _Reading:
    yield from ()
    import pyarrow as pa
    import pyarrow.parquet as pq

    columns: dict[Path, tuple[str, str]] = {}
    counts = dict.fromkeys(_SPLITS, 0)
    classes: tuple[str, ...] = ()
    largest = -1
    for split in _SPLITS:
        for path in shards[split]:
            try:
                with pq.ParquetFile(path) as file:
                    columns[path] = _columns(file.schema_arrow, path)
                    counts[split] += file.metadata.num_rows
                    classes = classes or _named_classes(file.schema_arrow, columns[path][1])
                    if not classes:
                        labels = file.read(columns=[columns[path][1]]).column(0)
                        largest = max([largest, *(v for v in labels.unique().to_pylist() if v is not None)])
            except (pa.ArrowException, OSError) as error:
                raise _damaged_parquet(error, path) from None
    if not classes:
        if largest >= MAX_CLASSES:
            raise DataError(
                f"A label in {folder} is {largest}; without class names, labels must be below {MAX_CLASSES}."
            )
        classes = tuple(f"class {i}" for i in range(largest + 1))

    def rows() -> Iterator[tuple[str, NDArray[np.uint8], int, str]]:
        for split in _SPLITS:
            for path in shards[split]:
                image, label = columns[path]
                row = 0
                try:
                    with pq.ParquetFile(path) as file:
                        for batch in file.iter_batches(batch_size=256, columns=[image, label]):
                            contents = _bytes_of(batch.column(image)).to_pylist()
                            for content, value in zip(contents, batch.column(label).to_pylist(), strict=True):
                                place = f"Row {row} (counted from 0) of {path.name}"
                                yield split, _image(content, place), _label(value, place), place
                                row += 1
                except (pa.ArrowException, OSError) as error:
                    raise _damaged_parquet(error, path) from None

    name = f"CIFAR-10 (Parquet) {title}" if classes == CIFAR10_CLASSES else f"{title} (Parquet)"
    return _Contents(classes, name, counts, _blocks(rows()))


def _columns(schema: Any, path: Path) -> tuple[str, str]:
    """Names of the image and the label column."""
    import pyarrow as pa

    image = next((name for name in ("img", "image") if name in schema.names), None)
    if image is None or "label" not in schema.names:
        missing = [*(["img (or image)"] if image is None else []), *(["label"] if "label" not in schema.names else [])]
        raise DataError(
            f"{path} lacks the column {_and(missing)}; it has {_and(schema.names) if schema.names else 'none'}."
        )
    kind = schema.field(image).type
    if pa.types.is_struct(kind) and kind.get_field_index("bytes") >= 0:
        kind = kind.field("bytes").type
    if not (pa.types.is_binary(kind) or pa.types.is_large_binary(kind)):
        raise DataError(f"The column {image} of {path} holds {kind}, not image files as struct<bytes, path>.")
    if not pa.types.is_integer(schema.field("label").type):
        raise DataError(f"The column label of {path} holds {schema.field('label').type}, not whole numbers.")
    return image, "label"


def _named_classes(schema: Any, label: str) -> tuple[str, ...]:
    try:
        names = json.loads(schema.metadata[b"huggingface"])["info"]["features"][label]["names"]
    except (KeyError, TypeError, ValueError):
        return ()
    return tuple(map(str, names)) if isinstance(names, list) else ()


def _bytes_of(column: Any) -> Any:
    import pyarrow as pa
    import pyarrow.compute as pc

    # struct_field, because StructArray.field would ignore that a row itself is null
    return pc.struct_field(column, "bytes") if pa.types.is_struct(column.type) else column


def _damaged_parquet(error: BaseException, path: Path) -> DataError:
    if isinstance(error, PermissionError):
        return _unreadable(error, path)
    return DataError(f"{path} is no intact Parquet file ({_inside_sentence(error)}); download it again.")


def _read_images(folder: Path, classes: tuple[str, ...], listing: Mapping[tuple[str, str], list[_File]]) -> _Reading:
    yield from ()
    number = {name: i for i, name in enumerate(classes)}
    files: dict[str, list[tuple[str, int]]] = {split: [] for split in _SPLITS}
    for (split, name), group in sorted(listing.items()):
        files[split or "all"] = files.get(split or "all", []) + [(file, number[name]) for file, *_ in group]
    if "all" in files:
        everything = files.pop("all")
        labels = np.array([label for _, label in everything])
        for split, indices in zip(_SPLITS, split_validation(labels, TEST_FRACTION, SPLIT_SEED), strict=True):
            files[split] = [everything[i] for i in indices]

    def rows() -> Iterator[tuple[str, NDArray[np.uint8], int, str]]:
        for split in _SPLITS:
            for file, label in files[split]:
                try:
                    content = (folder / file).read_bytes()
                except OSError as error:
                    raise _unreadable(error, folder / file) from None
                yield split, _image(content, str(folder / file)), label, file

    counts = {split: len(files[split]) for split in _SPLITS}
    return _Contents(classes, f"Images in {folder.name}", counts, _blocks(rows()))


def _image(content: bytes | None, place: str) -> NDArray[np.uint8]:
    if content is None:
        raise DataError(f"{place} has no image bytes; it may only refer to a file elsewhere.")
    try:
        return to_input(read_photo(content, place, (*PHOTO_FORMATS, "BMP")))
    except PhotoError as error:
        raise DataError(str(error)) from None


def _label(value: int | None, place: str) -> int:
    if value is None:
        raise DataError(f"{place} has no label.")
    return min(value, 2**63 - 1)  # an unsigned label beyond int64 is out of range all the same


def _blocks(rows: Iterator[tuple[str, NDArray[np.uint8], int, str]]) -> Iterator[_Block]:
    """Rows gathered by number and by time, so that progress is told a few times per second whatever their size."""
    gathered: list[tuple[str, NDArray[np.uint8], int, str]] = []
    due = time.monotonic() + 0.2

    def block() -> _Block:
        places = [place for *_, place in gathered]
        labels = np.array([label for _, _, label, _ in gathered], dtype=np.int64)
        return _Block(gathered[0][0], np.stack([image for _, image, _, _ in gathered]), labels, places.__getitem__)

    for row in rows:
        if gathered and (row[0] != gathered[0][0] or len(gathered) >= 512 or time.monotonic() > due):
            yield block()
            gathered = []
            due = time.monotonic() + 0.2
        gathered.append(row)
    if gathered:
        yield block()


# Writing into the cache --------------------------------------------------------------------------------------------


def _folder(found: _Found, cache: Path) -> Path:
    return found.root if found.kind == "prepared" else cache / found.id


def _prepare(found: _Found, cache: Path) -> Iterator[Progress]:
    folder = _folder(found, cache)
    if found.kind == "prepared" or _intact(folder):
        return
    images = 0
    try:
        with _temporary(cache, found.id) as temporary:
            try:
                contents = yield from found.read()
            except OSError as error:
                raise _unreadable(error, found.root) from None
            images = sum(contents.counts.values())
            _check_contents(contents, found)
            _check_room(images, cache)
            yield from _write(contents, found, temporary)
            _publish(temporary, folder)
    except OSError as error:
        raise _unwritable(error, images, cache) from None


def _intact(folder: Path) -> bool:
    if not folder.is_dir():
        return False
    try:
        _open(folder)
    except DataError:
        return False
    return True


def _check_contents(contents: _Contents, found: _Found) -> None:
    if len(contents.classes) < 2:
        only = f"only the class {contents.classes[0]}" if contents.classes else "no class"
        raise DataError(f"{found.root} has {only}; at least two classes are needed to tell them apart.")
    if len(set(contents.classes)) < len(contents.classes):
        twice = next(name for name in contents.classes if contents.classes.count(name) > 1)
        raise DataError(f"{found.root} names the class {twice} twice; give every class its own name.")
    for split in _SPLITS:
        if not contents.counts[split]:
            raise DataError(f"The {split} split of {found.root} is empty; it needs images.")


def _check_room(images: int, cache: Path) -> None:
    needed = images * _BYTES_PER_IMAGE
    if shutil.disk_usage(cache).free < needed:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


def _unwritable(error: OSError, images: int, cache: Path) -> DataError:
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        size = f"{max(1, round(images * _BYTES_PER_IMAGE / 1e6)):,} MB" if images else "room"
        return DataError(f"The disk is full: {size} needed in {cache}; free some space or choose another cache folder.")
    if error.errno in (errno.EACCES, errno.EPERM, errno.EROFS):
        return DataError(f"The cache folder {cache} may not be written; change its permissions or choose another one.")
    return DataError(f"Preparing the data in {cache} failed: {error.filename or ''} {_inside_sentence(error)}.")


def _write(contents: _Contents, found: _Found, folder: Path) -> Iterator[Progress]:
    classes = contents.classes
    total = sum(contents.counts.values())
    done = 0
    counts = {split: np.zeros(len(classes), np.int64) for split in _SPLITS}
    hashes = {split: (hashlib.sha256(), hashlib.sha256()) for split in _SPLITS}
    sums = np.zeros((2, 3))
    with contextlib.ExitStack() as stack:
        files = {}
        for split in _SPLITS:
            # Written, not memory-mapped: on a full disk a map kills the process where a write raises.
            images = stack.enter_context((folder / f"{split}_images.npy").open("wb"))
            labels = stack.enter_context((folder / f"{split}_labels.npy").open("wb"))
            _write_header(images, np.dtype(np.uint8), (contents.counts[split], *_IMAGE_SHAPE))
            _write_header(labels, np.dtype(np.int64), (contents.counts[split],))
            files[split] = images, labels
        yield Progress(contents.reported, total, "Decoding images")
        for block in contents.blocks:
            _check_labels(block, classes)
            for target, digest, array in zip(
                files[block.split], hashes[block.split], (block.images, block.labels), strict=True
            ):
                data = np.ascontiguousarray(array).data
                target.write(data)
                digest.update(data)
            counts[block.split] += np.bincount(block.labels, minlength=len(classes))
            if block.split == "train":
                sums += _channel_sums(block.images)
            done += len(block.labels)
            yield Progress(max(done, contents.reported), total, "Decoding images")
        for file in (file for pair in files.values() for file in pair):
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
    for digest in (digest for split in _SPLITS for digest in hashes[split]):
        fingerprint.update(digest.digest())
    info = DataInfo(
        id=found.id,
        name=contents.name,
        source=str(found.root),
        kind=found.kind,
        fingerprint=fingerprint.hexdigest()[:16],
        classes=classes,
        train_counts=tuple(counts["train"].tolist()),
        test_counts=tuple(counts["test"].tolist()),
        mean=tuple((mean / 255).tolist()),
        std=tuple((std / 255).tolist()),
    )
    (folder / "info.json").write_text(info.to_json(), "utf-8")


def _write_header(file: IO[bytes], dtype: np.dtype[Any], shape: tuple[int, ...]) -> None:
    header = {"descr": np.lib.format.dtype_to_descr(dtype), "fortran_order": False, "shape": shape}
    np.lib.format.write_array_header_1_0(file, header)


def _check_labels(block: _Block, classes: tuple[str, ...]) -> None:
    bad = np.flatnonzero((block.labels < 0) | (block.labels >= len(classes)))
    if bad.size:
        row = int(bad[0])
        raise DataError(
            f"{block.places(row)} has the label {block.labels[row]}, but the {len(classes)} classes are numbered "
            f"0 to {len(classes) - 1}."
        )


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
            with _temporary(folder.parent, folder.name) as aside, contextlib.suppress(FileNotFoundError):
                folder.rename(aside / folder.name)
        else:
            return
    raise OSError(errno.EEXIST, os.strerror(errno.EEXIST), str(folder))


@contextlib.contextmanager
def _temporary(parent: Path, name: str) -> Iterator[Path]:
    """A folder beside the one to be made, gone afterwards unless renamed; also removes those of dead processes."""
    parent.mkdir(parents=True, exist_ok=True)
    for entry in parent.iterdir():
        if (match := _TEMPORARY.fullmatch(entry.name)) and _abandoned(entry, int(match[1])):
            shutil.rmtree(entry, ignore_errors=True)
    folder = Path(tempfile.mkdtemp(prefix=f".{name}.{os.getpid()}.", suffix=".tmp", dir=parent))
    folder.chmod(0o755)
    lock = os.open(folder, os.O_RDONLY)
    try:
        with contextlib.suppress(OSError):  # some network disks lock no folders
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        yield folder
    finally:
        os.close(lock)
        shutil.rmtree(folder, ignore_errors=True)


def _abandoned(folder: Path, pid: int) -> bool:
    """Whether no one works in it. The pid alone could lie: it may be taken again, or be another container's."""
    try:
        try:
            os.kill(pid, 0)
            alive = True
        except (ProcessLookupError, OverflowError):
            alive = False
        except PermissionError:
            alive = True
        if alive and time.time() - folder.stat().st_mtime < 60:
            return False  # made a moment ago and perhaps not locked yet
        lock = os.open(folder, os.O_RDONLY)
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        finally:
            os.close(lock)
    except OSError:
        return False
    return True


# Fetching CIFAR-10 -------------------------------------------------------------------------------------------------


def download(folder: Path) -> Iterator[Progress]:
    """Fetch the original CIFAR-10 archive into a folder, whole or not at all, telling the bytes so far.

    Address, name and checksum are torchvision's; the transfer is not, as torchvision's has no timeout, tells progress
    on standard error only and cannot be stopped. An archive that is there with the right checksum is kept.

    Raises:
        DataError: The server cannot be reached, what came is incomplete or altered, or the folder cannot be written.
    """
    import http.client
    import urllib.error
    import urllib.request

    from torchvision.datasets import CIFAR10
    from torchvision.datasets.utils import check_integrity

    archive = folder / CIFAR10.filename
    done, total = 0, 170_498_071
    otherwise = f"otherwise put {ARCHIVE}, the Parquet files or a folder of images on this disk and give its path"
    try:
        if check_integrity(archive, CIFAR10.tgz_md5):
            return
        with _temporary(folder, "download") as temporary:
            part = temporary / CIFAR10.filename
            request = urllib.request.Request(CIFAR10.url, headers={"User-Agent": "cifar-explorer"})
            with urllib.request.urlopen(request, timeout=30) as response, part.open("wb") as file:
                expected = response.length
                total = expected or total
                while chunk := response.read1(1 << 18):
                    file.write(chunk)
                    done += len(chunk)
                    yield Progress(done, max(done, total), f"Downloading {CIFAR10.filename}")
            if expected is not None and done < expected:
                raise DataError(f"The connection broke after {done:,} of {total:,} bytes; try again, {otherwise}.")
            if not check_integrity(part, CIFAR10.tgz_md5):
                raise DataError(f"What {CIFAR10.url} sent has a wrong checksum; try again, {otherwise}.")
            part.replace(archive)
    except urllib.error.HTTPError as error:
        raise DataError(
            f"{CIFAR10.url} answered {error.code} ({error.reason}); try again later, {otherwise}."
        ) from None
    except (urllib.error.URLError, http.client.HTTPException, TimeoutError, ConnectionError) as error:
        cause = getattr(error, "reason", None)  # what a URLError wraps
        reason = _inside_sentence(cause if isinstance(cause, OSError) else error)
        raise DataError(f"{CIFAR10.url} cannot be reached ({reason}); go online and try again, {otherwise}.") from None
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise DataError(f"The disk is full: the archive needs {total / 1e6:,.0f} MB in {folder}.") from None
        raise DataError(f"The archive cannot be saved in {folder}: {_inside_sentence(error)}.") from None


# Choosing images ---------------------------------------------------------------------------------------------------


def subset_indices(labels: NDArray[np.int64], count: int, seed: int) -> NDArray[np.int64]:
    """Which images make a smaller data set with the same share of every class.

    Shares are rounded by largest remainder, so they add up to `count`. The choice depends on seed and labels alone.

    Returns:
        (min(count, N),) sorted.

    Raises:
        ValueError: `count` is below 1.
    """
    if count < 1:
        raise ValueError(f"count must be at least 1, but is {count}.")
    if count >= len(labels):
        return np.arange(len(labels))
    groups = _shuffled_classes(labels, seed)
    take = [count * len(group) // len(labels) for group in groups]
    rest = [count * len(group) % len(labels) for group in groups]
    by_remainder = sorted(range(len(groups)), key=lambda k: (-rest[k], k))
    for k in by_remainder[: count - sum(take)]:
        take[k] += 1
    return np.sort(np.concatenate([group[:n] for group, n in zip(groups, take, strict=True)]))


def split_validation(
    labels: NDArray[np.int64], fraction: float, seed: int
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Which images train and which validate, with the same share of every class.

    A class of two or more images has at least one on either side; a single image trains.

    Args:
        fraction: Share that validates, in (0, 1).

    Returns:
        Indices to train on and to validate on, sorted; together every index once.

    Raises:
        ValueError: `fraction` is out of range.
    """
    if not 0 < fraction < 1:
        raise ValueError(f"fraction must be above 0 and below 1, but is {fraction}.")
    train, validation = [np.empty(0, np.int64)], [np.empty(0, np.int64)]
    for group in _shuffled_classes(labels, seed):
        cut = min(max(round(fraction * len(group)), 1), len(group) - 1)
        validation.append(group[:cut])
        train.append(group[cut:])
    return np.sort(np.concatenate(train)), np.sort(np.concatenate(validation))


def _shuffled_classes(labels: NDArray[np.int64], seed: int) -> list[NDArray[np.int64]]:
    """Indices per class in random order. Sorted by raw draws of PCG64, which NumPy promises never to change, whereas
    the stream behind `Generator.permutation` may differ between its versions."""
    draws = np.random.PCG64(seed).random_raw(len(labels))
    order = np.lexsort((draws, labels)).astype(np.int64)
    sizes = np.unique(labels, return_counts=True)[1]
    return np.split(order, np.cumsum(sizes)[:-1]) if len(labels) else []
