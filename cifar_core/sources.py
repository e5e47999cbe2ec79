"""Labelled images from the places people have them, and drawn ones where there are none."""

from __future__ import annotations

import contextlib
import errno
import fcntl
import io
import json
import os
import pickle
import queue
import re
import shutil
import tarfile
import tempfile
import threading
import time
import zlib
from collections import Counter
from collections.abc import Callable, Generator, Iterable, Iterator, Mapping, Set
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any, TypeVar
from urllib.parse import urlsplit

import numpy as np
from numpy.typing import NDArray

from cifar_core import cartoon
from cifar_core.events import brief
from cifar_core.photos import PHOTO_FORMATS, PhotoError, read_photo, to_input
from cifar_core.subsets import split_validation

CIFAR10_CLASSES = ("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck")

ARCHIVE = "cifar-10-python.tar.gz"

LONGEST_PATH = 200
"""Characters of a path in a sentence, for which a screen has room."""

DRAWN = "cartoon10"
"""Names the pictures that are drawn by code, wherever a source is named; a folder of that name is `./cartoon10`."""

DRAWN_NAME = f"{DRAWN} (drawn by code, not CIFAR-10)"

ARCHIVE_BYTES = 170_498_071

SMALLEST_ANSWER = ARCHIVE_BYTES // 100
"""Fewer bytes are no archive with an error in it but some other page."""

SPLITS = ("train", "test")

IMAGE_SHAPE = (3, 32, 32)

_TEST_FRACTION = 0.2
"""Share of `<class>/*` that becomes the test split, in (0, 1)."""

_SPLIT_SEED = 0

_MAX_CLASSES = 1000

_BATCHES = "cifar-10-batches-py"
_BATCH_SPLITS = {**{f"data_batch_{i}": "train" for i in range(1, 6)}, "test_batch": "test"}
_BATCH_FILES = (*_BATCH_SPLITS, "batches.meta")
_MAX_BATCH_BYTES = 1_000_000_000
_PARQUET_FOLDERS = ("plain_text", "data", "default")
_SHARD = re.compile(r"(train|test)(?:[-_.].*)?\.parquet")
_SUFFIXES = (".png", ".jpg", ".jpeg", ".webp", ".bmp")
_NO_IMAGES = ("thumbs.db", "desktop.ini")
"""What Windows puts into folders of images."""
_TEMPORARY = re.compile(r"\..+?\.(\d+)(?:\.\w+)?\.tmp")
_LAYOUTS = (
    f"{_BATCHES}/ or {ARCHIVE}, Parquet files train-*.parquet and test-*.parquet, "
    "or folders of images train/<class>/ and test/<class>/ or <class>/"
)


_OTHERWISE = (
    f"otherwise put {ARCHIVE} of another site, the Parquet files or a folder of images on this disk and give its path"
)


_NO_ARCHIVE = (
    "What {url} sent is no archive but {what}, perhaps the sign-in page of a network; sign in there and try again, "
    f"{_OTHERWISE}."
)


class DataError(ValueError):
    """One sentence for the user: what is wrong with the data and what to do."""


@dataclass(frozen=True)
class Progress:
    """How far a long task has come; `unit` is "bytes", or empty where images are counted."""

    done: int
    total: int
    what: str
    unit: str = ""


@dataclass(frozen=True)
class Block:
    """Some images (B, 3, 32, 32) of one split, with their labels (B,) in [0, K)."""

    split: str
    images: NDArray[np.uint8]
    labels: NDArray[np.int64]


@dataclass(frozen=True)
class Contents:
    """What a source holds; its images come block by block, in the order in which they are to be kept."""

    classes: tuple[str, ...]
    name: str
    counts: Mapping[str, int]
    """Images per split."""
    blocks: Iterator[Block]
    reported: int = 0
    """Images whose reading was already told as progress."""


Reading = Generator[Progress, None, Contents]


_File = tuple[str, int, int]
"""Name below the root, size in bytes and time of the last change in nanoseconds."""


@dataclass(frozen=True)
class Found:
    """A source whose layout is known and whose files are listed, but not read."""

    kind: str
    """batches, parquet, folder or drawn."""
    root: Path
    title: str
    files: list[_File]
    read: Callable[[], Reading]
    """Raises DataError, while the contents are read as well as while their blocks are."""
    left_out: str = ""
    """What looks like part of it but is not read, in one sentence; empty where there is no such thing."""


# Which layout a path holds -----------------------------------------------------------------------------------------


def resolve(source: Path | str) -> Path:
    """The absolute path of a source that exists, whatever it is.

    Raises:
        DataError: The source is no path, or nothing is there.
    """
    if str(source) == DRAWN:
        return Path(DRAWN)
    if not str(source).strip() or "\0" in str(source):
        raise DataError(f"{str(source)!r} is no path; give the path of {_LAYOUTS}.")
    # A path that was made of it has lost a slash.
    if address := re.search(r"(?:^|/)(https?|ftp|s3|gs|hf):/+(.*)", str(source)):
        raise DataError(
            f"{address[1]}://{address[2]} is an address, and data are read from the disk; download CIFAR-10 by the "
            "button or by `python -m cifar_core data --download`, or fetch it yourself and give the path of "
            f"{_LAYOUTS}."
        )
    path = Path(source)
    try:
        path = path.expanduser()
        # A link to a file keeps its own name: Hugging Face's cache links train-*.parquet to files named by checksum.
        path = path.parent.resolve() / path.name if path.is_file() else path.resolve()
        if path.exists():
            return path
        parent = next(p for p in path.parents if p.exists())
    except (OSError, RuntimeError) as error:
        raise _unreadable(error, path) from None
    raise DataError(f"There is no file or folder {path}; the nearest folder that exists is {parent}.")


def absolute(source: str) -> str:
    """What names a source in any working folder.

    Raises:
        RuntimeError: A path begins with the home of somebody unknown.
    """
    return source if source == DRAWN else str(Path(source).expanduser().absolute())


def find(source: Path | str) -> Found:
    """The layout of a source: a file or folder of one, or a folder that holds one.

    Raises:
        DataError: Nothing there can be read as labelled images.
    """
    path = resolve(source)
    if str(path) == DRAWN:
        files = [(split, cartoon.COUNTS[split], cartoon.VERSION) for split in SPLITS]
        return Found("drawn", path, DRAWN, files, _draw)
    try:
        found = _find_in_folder(path) if path.is_dir() else _find_file(path)
    except OSError as error:
        raise _unreadable(error, path) from None
    if found is None:
        raise DataError(f"{path} holds no data set that can be read; looked for {_LAYOUTS}.")
    return found


def _find_file(path: Path) -> Found | None:
    if path.name.endswith((".tar.gz", ".tgz", ".tar")):
        return _find_archive(path)
    if path.suffix == ".parquet":
        folder = path.parent.parent if path.parent.name in SPLITS and not _SHARD.fullmatch(path.name) else path.parent
        shards = _shards(folder)
        if path not in [shard for split in SPLITS for shard in shards[split]]:
            raise DataError(f"{path.name} names no split; rename the files train-*.parquet and test-*.parquet.")
        return _find_parquet(folder, shards)
    return None


def _find_in_folder(folder: Path) -> Found | None:
    archive = folder / ARCHIVE
    for batches in (folder, folder / _BATCHES):
        missing = [name for name in _BATCH_FILES if not (batches / name).is_file()]
        if not missing or (len(missing) < len(_BATCH_FILES) and not archive.is_file()):
            return _find_batches(batches, missing)
    if archive.is_file():
        return _find_archive(archive)
    subfolders = _subfolders(folder)
    for place in (folder, *sorted(subfolders, key=lambda path: (path.name not in _PARQUET_FOLDERS, path.name))):
        shards = _shards(place)
        if any(shards.values()):
            return _find_parquet(place, shards)
    return _find_images(folder, subfolders)


def _find_batches(folder: Path, missing: list[str]) -> Found:
    if missing:
        raise DataError(f"{folder} lacks {_and(missing)}; extract {ARCHIVE} again.")
    files = [_file(folder / name, name) for name in _BATCH_FILES]
    return Found(
        "batches",
        folder,
        "cifar-10",
        files,
        lambda: _read_batches(folder, ((name, _content(folder / name)) for name in _BATCH_FILES)),
    )


def _find_archive(path: Path) -> Found:
    files = [_file(path, path.name)]
    return Found("batches", path, "cifar-10", files, lambda: _read_batches(path, _members_of(path)))


def _shards(folder: Path) -> dict[str, list[Path]]:
    """Parquet files per split: train-*.parquet, or train/*.parquet as Hugging Face names files it converted."""
    shards: dict[str, list[Path]] = {split: [] for split in SPLITS}
    for name in _parquet_names(folder):
        if match := _SHARD.fullmatch(name):
            shards[match[1]].append(folder / name)
    for split in SPLITS:
        if not shards[split] and (folder / split).is_dir():
            shards[split] = [folder / split / name for name in _parquet_names(folder / split)]
    return shards


def _parquet_names(folder: Path) -> list[str]:
    # Plain names, because this also looks into folders of many thousand images.
    return sorted(name for name in os.listdir(folder) if name.endswith(".parquet") and not name.startswith("."))  # noqa: PTH208


def _find_parquet(folder: Path, shards: dict[str, list[Path]]) -> Found:
    for split in SPLITS:
        if not shards[split]:
            raise DataError(f"{folder} has no {split} split; put {split}-*.parquet beside the other Parquet file.")
    title = folder.parent.name if folder.name in _PARQUET_FOLDERS else folder.name
    files = [_file(path, str(path.relative_to(folder))) for split in SPLITS for path in shards[split]]
    return Found("parquet", folder, title, files, lambda: _read_parquet(folder, title, shards))


def _file(path: Path, name: str) -> _File:
    stat = path.stat()
    return name, stat.st_size, stat.st_mtime_ns


def _subfolders(folder: Path) -> list[Path]:
    return sorted(p for p in folder.iterdir() if p.is_dir() and not p.name.startswith(".") and p.name != "__MACOSX")


def _images_in(folder: Path, root: Path) -> list[_File]:
    """A folder's images; scandir, because a data set has 60,000 of them."""
    below = folder.relative_to(root)
    files = []
    with os.scandir(folder) as entries:
        for entry in entries:
            name = entry.name
            if name.lower().endswith(_SUFFIXES) and not name.startswith(".") and entry.is_file():
                stat = entry.stat()
                files.append((f"{below}/{name}", stat.st_size, stat.st_mtime_ns))
    return sorted(files)


def _find_images(folder: Path, subfolders: list[Path]) -> Found | None:
    # A folder train/ that holds pictures itself is a class (of railways), not a split.
    splits = {path.name: below for path in subfolders if path.name in SPLITS and (below := _subfolders(path))}
    for split in SPLITS:
        if splits and split not in splits:
            raise DataError(
                f"{folder} has {min(splits)}/<class>/ but no {split} split; add {split}/<class>/ beside it."
            )
    groups = [(split, path) for split in SPLITS for path in splits[split]] if splits else [("", p) for p in subfolders]
    listing = {(split, path.name): _images_in(path, folder) for split, path in groups}
    if not splits and not any(listing.values()):
        if not _images_in(folder, folder):
            return None
        raise DataError(f"The images in {folder} have no classes; sort them into one folder per class.")
    for (split, name), files in listing.items():
        if split == "test" and ("train", name) not in listing:
            raise DataError(f"The class {name} is in {folder / 'test'} but not in train; add images or remove it.")
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
    left_out = _left_out(folder, [path for _, path in groups], {name for name, *_ in files})
    return Found("folder", folder, folder.name, files, lambda: _read_images(folder, listing), left_out)


def _left_out(root: Path, classes: list[Path], read: Set[str]) -> str:
    """A sentence on the files not read: images elsewhere below the root, and whatever else is in a class's folder."""
    kinds: Counter[str] = Counter()
    inside = {str(path) for path in classes}
    for folder, below, names in os.walk(root):
        below[:] = [name for name in below if not name.startswith(".") and name != "__MACOSX"]
        place = os.path.relpath(folder, root)
        for name in names:
            if f"{place}/{name}" in read or name.startswith(".") or name.lower() in _NO_IMAGES:
                continue
            if name.lower().endswith(_SUFFIXES):
                kinds["in other folders"] += 1
            elif folder in inside:
                kinds[Path(name).suffix.lower() or "without a suffix"] += 1
    count = kinds.total()
    if not count:
        return ""
    listed = _and(f"{kinds[kind]:,} {kind}" for kind in sorted(kinds, key=lambda kind: (-kinds[kind], kind)))
    were = "file was" if count == 1 else "files were"
    return f"{count:,} {were} left out: {listed}."


def _and(names: Iterable[str]) -> str:
    *most, last = names
    return f"{', '.join(most)} and {last}" if most else last


def _unreadable(error: BaseException, path: Path) -> DataError:
    name = brief(str(getattr(error, "filename", None) or path), LONGEST_PATH)
    if isinstance(error, PermissionError):
        return DataError(f"{name} may not be read; change its permissions or choose another path.")
    return DataError(f"{name} cannot be read: {inside_sentence(error)}.")


def inside_sentence(error: BaseException) -> str:
    """What an error says, to be put into a sentence of ours."""
    text = (error.strerror if isinstance(error, OSError) else None) or str(error) or type(error).__name__
    return text.splitlines()[0].rstrip(".")


# Reading each layout -----------------------------------------------------------------------------------------------


def _content(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise _unreadable(error, path) from None


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
            f"The archive {path} is damaged or incomplete ({inside_sentence(error)}); download it again."
        ) from None
    except OSError as error:
        raise _unreadable(error, path) from None


def _read_batches(source: Path, files: Iterator[tuple[str, bytes | None]]) -> Reading:
    blocks: dict[str, Block] = {}
    classes: tuple[str, ...] | None = None
    done = 0
    for name, content in files:
        if content is not None:
            place = str(source / name)
            values = _unpickle(content, place)
            if name == "batches.meta":
                classes = _label_names(values, place)
            else:
                blocks[name] = _batch(values, place, _BATCH_SPLITS[name])
                done += len(blocks[name].labels)
        yield Progress(done, max(done, 10_000 * len(_BATCH_SPLITS)), f"Reading {name}")
    missing = [name for name in _BATCH_SPLITS if name not in blocks]
    if classes is None:
        missing.append("batches.meta")
    if missing or classes is None:
        raise DataError(f"{source} lacks {_and(missing)}; download {ARCHIVE} again.")
    counts = {split: sum(len(block.labels) for block in blocks.values() if block.split == split) for split in SPLITS}
    name = "CIFAR-10" if classes == CIFAR10_CLASSES else source.parent.name
    return Contents(classes, f"{name} (original batches)", counts, _in_order(blocks, classes), done)


def _in_order(blocks: dict[str, Block], classes: tuple[str, ...]) -> Iterator[Block]:
    for name in _BATCH_SPLITS:
        block = blocks.pop(name)
        outside = (block.labels < 0) | (block.labels >= len(classes))
        if outside.any():
            row = int(outside.argmax())
            raise _unknown_label(block.labels[row], f"Row {row} (counted from 0) of {name}", classes)
        yield block


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
        raise DataError(f"{name} is damaged ({inside_sentence(error)}); extract {ARCHIVE} again.") from None
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


def _batch(values: dict[str, Any], name: str, split: str) -> Block:
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
    return Block(split, images.reshape(-1, *IMAGE_SHAPE), labels.astype(np.int64))


def _draw() -> Reading:
    blocks = []
    total = sum(cartoon.COUNTS.values())
    done = 0
    for split, count in cartoon.COUNTS.items():
        images = np.empty((count, *IMAGE_SHAPE), np.uint8)
        labels = np.empty(count, np.int64)
        for which, pixels, classes in cartoon.draw(count, seed=SPLITS.index(split)):
            images[which], labels[which] = pixels, classes
            done += len(which)
            yield Progress(done, total, f"Drawing {DRAWN_NAME}")
        blocks.append(Block(split, images, labels))
    return Contents(CIFAR10_CLASSES, DRAWN_NAME, cartoon.COUNTS, iter(blocks), total)


def _read_parquet(folder: Path, title: str, shards: dict[str, list[Path]]) -> Reading:
    yield from ()
    images: dict[Path, str] = {}
    counts = dict.fromkeys(SPLITS, 0)
    classes: tuple[str, ...] = ()
    largest = -1
    for split in SPLITS:
        for path in shards[split]:
            with _parquet(path) as file:
                images[path] = _image_column(file.schema_arrow, path)
                counts[split] += file.metadata.num_rows
                classes = classes or _named_classes(file.schema_arrow)
                if not classes:
                    labels = file.read(columns=["label"]).column(0)
                    largest = max([largest, *(v for v in labels.unique().to_pylist() if v is not None)])
    if not classes:
        if largest >= _MAX_CLASSES:
            raise DataError(
                f"A label in {folder} is {largest}; without class names, labels must be below {_MAX_CLASSES}."
            )
        classes = tuple(f"class {i}" for i in range(largest + 1))

    def rows() -> Iterator[_Row]:
        for split in SPLITS:
            for path in shards[split]:
                row = 0
                with _parquet(path) as file:
                    for batch in file.iter_batches(batch_size=256, columns=[images[path], "label"]):
                        contents = _bytes_of(batch.column(images[path])).to_pylist()
                        for content, label in zip(contents, batch.column("label").to_pylist(), strict=True):
                            place = f"Row {row} (counted from 0) of {path.name}"
                            image = _image(content, place)
                            if label is None:
                                raise DataError(f"{place} has no label.")
                            if not 0 <= label < len(classes):
                                raise _unknown_label(label, place, classes)
                            yield split, image, label
                            row += 1

    name = f"CIFAR-10 (Parquet) {title}" if classes == CIFAR10_CLASSES else f"{title} (Parquet)"
    return Contents(classes, name, counts, _blocks(rows()))


@contextlib.contextmanager
def _parquet(path: Path) -> Iterator[Any]:
    """An open Parquet file; whatever is wrong with it is a DataError."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        with pq.ParquetFile(path) as file:
            yield file
    except PermissionError as error:
        raise _unreadable(error, path) from None
    except (pa.ArrowException, OSError) as error:
        raise DataError(f"{path} is no intact Parquet file ({inside_sentence(error)}); download it again.") from None


def _image_column(schema: Any, path: Path) -> str:
    """Name of the column of images, beside which there is one of labels."""
    import pyarrow as pa

    image = "img" if "img" in schema.names else "image"
    missing = [told for name, told in ((image, "img (or image)"), ("label", "label")) if name not in schema.names]
    if missing:
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
    return image


def _named_classes(schema: Any) -> tuple[str, ...]:
    try:
        names = json.loads(schema.metadata[b"huggingface"])["info"]["features"]["label"]["names"]
    except (KeyError, TypeError, ValueError):
        return ()
    return tuple(map(str, names)) if isinstance(names, list) else ()


def _bytes_of(column: Any) -> Any:
    import pyarrow as pa
    import pyarrow.compute as pc

    # struct_field, because StructArray.field would ignore that a row itself is null
    return pc.struct_field(column, "bytes") if pa.types.is_struct(column.type) else column


def _unknown_label(label: int, place: str, classes: tuple[str, ...]) -> DataError:
    return DataError(
        f"{place} has the label {label}, but the {len(classes)} classes are numbered 0 to {len(classes) - 1}."
    )


def _read_images(folder: Path, listing: Mapping[tuple[str, str], list[_File]]) -> Reading:
    yield from ()
    classes = tuple(sorted({name for _, name in listing}))
    files: dict[str, list[tuple[str, int]]] = {split: [] for split in ("", *SPLITS)}
    for (split, name), group in listing.items():
        label = classes.index(name)
        files[split] += [(file, label) for file, *_ in group]
    if whole := files.pop(""):
        labels = np.array([label for _, label in whole])
        for split, indices in zip(SPLITS, split_validation(labels, _TEST_FRACTION, _SPLIT_SEED), strict=True):
            files[split] = [whole[i] for i in indices]

    def rows() -> Iterator[_Row]:
        for split in SPLITS:
            for file, label in files[split]:
                yield split, _image(_content(folder / file), str(folder / file)), label

    counts = {split: len(files[split]) for split in SPLITS}
    return Contents(classes, f"Images in {folder.name}", counts, _blocks(rows()))


def _image(content: bytes | None, place: str) -> NDArray[np.uint8]:
    if content is None:
        raise DataError(f"{place} has no image bytes; it may only refer to a file elsewhere.")
    try:
        return to_input(read_photo(content, place, (*PHOTO_FORMATS, "BMP")))
    except PhotoError as error:
        raise DataError(str(error)) from None


_Row = tuple[str, NDArray[np.uint8], int]
"""Split, image and label."""


def _blocks(rows: Iterator[_Row]) -> Iterator[Block]:
    """Rows gathered by number and by time, so that progress is told a few times per second whatever their size."""
    gathered: list[_Row] = []
    due = time.monotonic() + 0.2

    def block() -> Block:
        splits, images, labels = zip(*gathered, strict=True)
        return Block(splits[0], np.stack(images), np.array(labels, dtype=np.int64))

    for row in rows:
        if gathered and (row[0] != gathered[0][0] or len(gathered) >= 512 or time.monotonic() > due):
            yield block()
            gathered = []
            due = time.monotonic() + 0.2
        gathered.append(row)
    if gathered:
        yield block()


# Fetching CIFAR-10 -------------------------------------------------------------------------------------------------


def download(folder: Path) -> Iterator[Progress]:
    """Fetch the original CIFAR-10 archive into a folder, telling the bytes so far.

    What has come stays beside the archive as `cifar-10-python.tar.gz.part` when the download is stopped or breaks off,
    and the next one goes on from there; the archive itself appears whole, with the right checksum, or not at all. Lost
    connections are taken up again as long as each brings something. A wrong checksum is told, and all is fetched once
    more.

    Address, name and checksum are torchvision's; the transfer is not, as torchvision's has no timeout, tells progress
    on standard error only and cannot be stopped. An archive that is there with the right checksum is kept.

    Raises:
        DataError: The server cannot be reached, what came is incomplete or altered, or the folder cannot be written.
    """
    import http.client
    import urllib.error

    from torchvision.datasets import CIFAR10
    from torchvision.datasets.utils import check_integrity

    archive, part = folder / CIFAR10.filename, folder / f"{CIFAR10.filename}.part"
    damaged = ""
    try:
        if check_integrity(archive, CIFAR10.tgz_md5):
            return
        if archive.exists():
            damaged = f"The archive {archive} is damaged (its checksum is wrong)"
        folder.mkdir(parents=True, exist_ok=True)
        with part.open("ab") as file:
            _hold(file)
            what = f"Downloading {CIFAR10.filename}{' anew, as the one that is there is damaged' if damaged else ''}"
            yield from _fetch(CIFAR10.url, file, what)
            if (sent := part.stat().st_size) < SMALLEST_ANSWER:
                part.unlink()
                raise DataError(_NO_ARCHIVE.format(url=CIFAR10.url, what=f"{sent:,} bytes"))
            if not check_integrity(part, CIFAR10.tgz_md5):
                # A resumed file is of two answers, and the server may have changed its own between them.
                file.truncate(0)
                yield from _fetch(CIFAR10.url, file, f"The checksum was wrong; {what[0].lower()}{what[1:]} again")
            if not check_integrity(part, CIFAR10.tgz_md5):
                part.unlink()
                raise DataError(
                    f"What {CIFAR10.url} sent has a wrong checksum, twice, and was deleted; try again later, "
                    f"{_OTHERWISE}."
                )
            part.replace(archive)
    except BlockingIOError:
        raise DataError(f"The archive is being downloaded into {folder} already; wait for it or stop it.") from None
    except urllib.error.HTTPError as error:
        raise DataError(
            f"{CIFAR10.url} answered {error.code} ({error.reason}); try again later, {_OTHERWISE}."
        ) from None
    except (urllib.error.URLError, http.client.HTTPException, TimeoutError, ConnectionError) as error:
        cause = getattr(error, "reason", None)  # what a URLError wraps
        reason = inside_sentence(cause if isinstance(cause, OSError) else error)
        place = f"{damaged}, and {CIFAR10.url}" if damaged else CIFAR10.url
        raise DataError(
            f"{place} cannot be reached ({reason}); {_kept(part)}go online and try again, {_OTHERWISE}."
        ) from None
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise DataError(
                f"The disk is full: the archive needs {ARCHIVE_BYTES / 1e6:,.0f} MB in {folder}; free some space and "
                "download again, which goes on from what is there."
            ) from None
        raise DataError(f"The archive cannot be saved in {folder}: {inside_sentence(error)}.") from None


def _fetch(url: str, file: IO[bytes], what: str) -> Iterator[Progress]:
    """Append to a file what it lacks of what an address holds, over as many connections as each bring something.

    While nothing comes it says so twice a second, so that it can be stopped at any time.

    Raises:
        ConnectionError, TimeoutError, URLError, HTTPException: A connection brought nothing.
        DataError: What the address holds is no archive; what there is of the file stays.
        OSError: The file cannot be written.
    """
    import http.client
    import urllib.error

    most = file.seek(0, os.SEEK_END)
    while True:
        begin = done = file.seek(0, os.SEEK_END)
        total, lost = ARCHIVE_BYTES, False
        answered = known = False
        try:
            for came in _patient(_answer(url, begin)):
                if isinstance(came, _Head):
                    if came.is_other:
                        if not done:
                            Path(file.name).unlink()
                        raise DataError(_NO_ARCHIVE.format(url=url, what=came.what))
                    if begin and not came.goes_on:
                        # The server sends all of it, whatever was asked for.
                        file.truncate(0)
                        begin = done = 0
                    answered, known = True, came.length is not None
                    total = begin + came.length if came.length is not None else ARCHIVE_BYTES
                    continue
                if came:
                    file.write(came)
                    done += len(came)
                waits = "" if answered else f"; {urlsplit(url).hostname} has not answered yet"
                yield Progress(done, max(done, total), what + waits, "bytes")
        except urllib.error.HTTPError as error:
            if error.code == 416 and begin:
                # Nothing lies beyond what is there: it is whole or wrong, which the checksum tells.
                return
            raise
        except (http.client.HTTPException, TimeoutError, ConnectionError):
            if done <= most:
                raise
            lost = True
        finally:
            file.flush()
        if not lost and (not known or done >= total):
            return
        if done <= most:
            raise ConnectionResetError(errno.ECONNRESET, f"the connection broke after {done:,} bytes")
        most = done
        yield Progress(done, max(done, total), f"The connection was lost; {what[0].lower()}{what[1:]} goes on", "bytes")


@dataclass(frozen=True)
class _Head:
    """What a server says before it sends.

    Attributes:
        length: Bytes that it is about to send; None where it does not say.
        goes_on: Whether they are those that were asked for, and not all from the first on.
        kind: Of what it sends, like text/html.
    """

    length: int | None
    goes_on: bool
    kind: str

    @property
    def is_other(self) -> bool:
        """Whether it is no archive, with or without an error in it, but some other page."""
        is_short = self.length is not None and not self.goes_on and self.length < SMALLEST_ANSWER
        return is_short or self.kind == "text/html"

    @property
    def what(self) -> str:
        return f"{self.length:,} bytes" if self.length is not None else f"a page ({self.kind})"


def _answer(url: str, begin: int) -> Iterator[_Head | bytes]:
    """What an address holds from a byte on: first the head, then the bytes.

    Raises:
        ConnectionError, TimeoutError, URLError, HTTPException: Whatever happens to the connection.
    """
    import urllib.request

    headers = {"User-Agent": "cifar-explorer"} | ({"Range": f"bytes={begin}-"} if begin else {})
    with urllib.request.urlopen(urllib.request.Request(url, headers=headers), timeout=30) as response:
        # Of another part than was asked for nothing can be used: all is asked for, by the next connection.
        goes_on = response.status == 206 and response.headers.get("Content-Range", "").startswith(f"bytes {begin}-")
        if begin and response.status == 206 and not goes_on:
            yield from _answer(url, 0)
            return
        yield _Head(response.length, goes_on, response.headers.get_content_type())
        while chunk := _read(response):
            yield chunk


def _read(response: Any) -> bytes:
    try:
        return bytes(response.read1(1 << 18))
    except (TimeoutError, ConnectionError):
        raise
    except OSError as error:
        # Without a route, or with a broken encryption: of the network too, not of the disk.
        raise ConnectionError(error.errno, inside_sentence(error)) from error


_Item = TypeVar("_Item")


def _patient(items: Iterator[_Item], seconds: float = 0.5) -> Iterator[_Item | None]:
    """The items of a slow iterator, which runs in a thread of its own, and None whenever none comes for a while."""
    come: queue.Queue[tuple[_Item | None, BaseException | None] | None] = queue.Queue(maxsize=4)
    is_over = threading.Event()

    def hand_on(what: tuple[_Item | None, BaseException | None] | None) -> None:
        while not is_over.is_set():
            with contextlib.suppress(queue.Full):
                come.put(what, timeout=seconds)
                return

    def work() -> None:
        try:
            for item in items:
                hand_on((item, None))
                if is_over.is_set():
                    return
            hand_on(None)
        except BaseException as error:  # told where the items are waited for
            hand_on((None, error))

    # A daemon, as the end of the process must not wait for a server.
    threading.Thread(target=work, daemon=True).start()
    try:
        while True:
            try:
                got = come.get(timeout=seconds)
            except queue.Empty:
                yield None
                continue
            if got is None:
                return
            item, error = got
            if error:
                raise error
            yield item
    finally:
        is_over.set()


def downloaded(folder: Path) -> int:
    """Bytes of the archive that a download into the folder has brought and can go on from; 0 where there are none."""
    try:
        return (folder / f"{ARCHIVE}.part").stat().st_size
    except OSError:
        return 0


def _hold(file: IO[bytes]) -> None:
    """Keep others from writing a file, where the disk knows locks."""
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        raise
    except OSError:
        pass  # some network disks have none


def _kept(part: Path) -> str:
    size = downloaded(part.parent)
    return f"{size / 1e6:,.0f} of {ARCHIVE_BYTES / 1e6:,.0f} MB are there and are kept; " if size else ""


@contextlib.contextmanager
def temporary_folder(parent: Path, name: str) -> Iterator[Path]:
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
