"""Labelled images from every place, and from places that hold something else."""

from __future__ import annotations

import errno
import hashlib
import http.client
import io
import itertools
import json
import os
import pickle
import shutil
import socket
import ssl
import tarfile
import threading
import time
from functools import partial
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

from cifar_core.datasets import ID_PATTERN, DataInfo, open_dataset
from cifar_core.photos import read_photo, to_input
from cifar_core.sources import ARCHIVE, CIFAR10_CLASSES, DataError, download, downloaded, find

CLASSES = ("cat", "dog", "zebra")
BATCH_NAMES = [f"data_batch_{i}" for i in range(1, 6)]


def pixels(count: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (count, 3, 32, 32), dtype=np.uint8)


def encoded(image: np.ndarray, kind: str = "PNG") -> bytes:
    file = io.BytesIO()
    Image.fromarray(image.transpose(1, 2, 0)).save(file, kind)
    return file.getvalue()


def three_classes() -> dict[str, tuple[np.ndarray, np.ndarray]]:
    """Fifteen training and six test images, sorted by class as folders are."""
    return {
        "train": (pixels(15), np.repeat([0, 1, 2], 5)),
        "test": (pixels(6, 1), np.repeat([0, 1, 2], 2)),
    }


def write_batches(
    folder: Path, data: Any = None, classes: Any = CLASSES, protocol: int = 2, list_of: Any = int
) -> Path:
    data = data or three_classes()
    folder.mkdir(parents=True)
    for i, name in enumerate([*BATCH_NAMES, "test_batch"]):
        images, labels = data["test"] if name == "test_batch" else [a[3 * i : 3 * i + 3] for a in data["train"]]
        values = {b"data": images.reshape(-1, 3072), b"labels": [list_of(v) for v in labels], b"batch_label": b"x"}
        (folder / name).write_bytes(pickle.dumps(values, protocol))
    (folder / "batches.meta").write_bytes(pickle.dumps({"label_names": list(classes)}, protocol))
    return folder


def write_archive(path: Path, batches: Path) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    with tarfile.open(path, "w:gz") as archive:
        for name in ["test_batch", "data_batch_4", "batches.meta", *sorted(set(BATCH_NAMES) - {"data_batch_4"})]:
            archive.add(batches / name, f"cifar-10-batches-py/{name}")
    return path


def write_parquet(
    path: Path, contents: list[bytes | None], labels: Any, classes: Any = CLASSES, image: str = "img"
) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    structs = pa.array(
        [{"bytes": content, "path": None} for content in contents],
        pa.struct({"bytes": pa.binary(), "path": pa.string()}),
    )
    table = pa.table({image: structs, "label": pa.array(labels, pa.int64())})
    if classes:
        features = {"label": {"names": list(classes), "_type": "ClassLabel"}}
        table = table.replace_schema_metadata({"huggingface": json.dumps({"info": {"features": features}})})
    pq.write_table(table, path)
    return path


def write_shards(folder: Path, data: Any = None, **options: Any) -> Path:
    for split, (images, labels) in (data or three_classes()).items():
        write_parquet(folder / f"{split}-00000-of-00001.parquet", list(map(encoded, images)), labels, **options)
    return folder


def write_folders(folder: Path, data: Any = None, classes: Any = CLASSES) -> Path:
    for split, (images, labels) in (data or three_classes()).items():
        for i, (image, label) in enumerate(zip(images, labels, strict=True)):
            path = folder / split / classes[label] / f"{i:05}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(encoded(image))
    return folder


def write_flat(folder: Path, counts: dict[str, int]) -> Path:
    for k, (name, count) in enumerate(counts.items()):
        (folder / name).mkdir(parents=True)
        for i, image in enumerate(pixels(count, k)):
            (folder / name / f"{i}.png").write_bytes(encoded(image))
    return folder


SOURCES = {
    "batches": lambda root: write_batches(root / "cifar-10-batches-py"),
    "parquet": lambda root: write_shards(root / "shards"),
    "folder": lambda root: write_folders(root / "pictures"),
}


def refusal(source: Path | str, empty_cache: Path) -> str:
    """The message of a source that is refused; it is one sentence, and nothing stays in the cache."""
    with pytest.raises(DataError) as error:
        open_dataset(source, empty_cache)
    text = str(error.value)
    assert text.endswith(".")
    assert "\n" not in text
    assert not empty_cache.exists() or not list(empty_cache.iterdir())
    return text


# The sources -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", SOURCES)
def test_every_source_gives_the_same_arrays(kind, tmp_path, empty_cache):
    data = open_dataset(SOURCES[kind](tmp_path), empty_cache)
    for split, (images, labels) in three_classes().items():
        assert np.array_equal(getattr(data, split).images, images)
        assert np.array_equal(getattr(data, split).labels, labels)
        assert getattr(data, split).labels.dtype == np.int64
    assert data.info.classes == CLASSES
    assert data.info.kind == kind
    assert data.info.train_counts == (5, 5, 5)
    assert data.info.test_counts == (2, 2, 2)
    assert (data.info.train_images, data.info.test_images) == (15, 6)
    assert ID_PATTERN.fullmatch(data.info.id)


def test_batches_are_found_from_their_parent_and_archive_alike(tmp_path, empty_cache):
    batches = write_batches(tmp_path / "here" / "cifar-10-batches-py")
    archive = write_archive(tmp_path / "there" / "cifar-10-python.tar.gz", batches)
    assert open_dataset(tmp_path / "here", empty_cache).info.id == open_dataset(batches, empty_cache).info.id
    assert open_dataset(archive.parent, empty_cache).info.id == open_dataset(archive, empty_cache).info.id
    assert open_dataset(archive, empty_cache).info.fingerprint == open_dataset(batches, empty_cache).info.fingerprint
    assert sorted(path.name for path in archive.parent.iterdir()) == [archive.name]


@pytest.mark.parametrize("list_of", [int, np.int64])
@pytest.mark.parametrize("protocol", [0, 2, 4, 5])
def test_batches_of_every_pickle_protocol_are_read(protocol, list_of, tmp_path, empty_cache):
    data = open_dataset(write_batches(tmp_path / "b", protocol=protocol, list_of=list_of), empty_cache)
    assert np.array_equal(data.train.images, three_classes()["train"][0])


def test_batches_written_by_python_2_are_read(tmp_path, empty_cache):
    """The original's form: texts as bytes of unknown encoding, arrays with numpy.core names."""
    folder = write_batches(tmp_path / "b")
    images = three_classes()["train"][0][:3].reshape(-1)
    raw = images.tobytes()
    array = b"cnumpy.core.multiarray\n_reconstruct\nq\x03cnumpy\nndarray\nq\x04K\x00\x85U\x01b\x87Rq\x05"
    head = b"\x80\x02}q\x01(U\x04dataq\x02" + array
    dtype = b"cnumpy\ndtype\nq\x06U\x02u1K\x00K\x01\x87Rq\x07"
    filled = b"(K\x03U\x01|NNN" + 2 * b"J\xff\xff\xff\xff" + b"K\x00tb"
    state = b"(K\x01K\x03M\x00\x0c\x86" + dtype + filled + b"\x89"
    text = b"T" + len(raw).to_bytes(4, "little") + raw + b"tb"
    (folder / "data_batch_1").write_bytes(head + state + text + b"U\x06labelsq\x08](K\x00K\x00K\x00eu.")
    assert np.array_equal(open_dataset(folder, empty_cache).train.images, three_classes()["train"][0])


def test_array_in_fortran_order_is_read(tmp_path, empty_cache):
    data = three_classes()
    folder = write_batches(tmp_path / "b", data)
    images, labels = (a[:3] for a in data["train"])
    values = {"data": np.asfortranarray(images.reshape(3, -1)), "labels": labels.tolist()}
    (folder / "data_batch_1").write_bytes(pickle.dumps(values, 2))
    assert np.array_equal(open_dataset(folder, empty_cache).train.images, data["train"][0])


@pytest.mark.parametrize("below", ["", "plain_text", "data", "anything"])
def test_parquet_is_found_from_its_folder_its_parent_and_each_file(below, tmp_path, empty_cache):
    folder = write_shards(tmp_path / "cifar" / below)
    ids = {open_dataset(path, empty_cache).info.id for path in (tmp_path / "cifar", folder, *folder.iterdir())}
    assert len(ids) == 1


def test_parquet_converted_by_hugging_face_is_found(tmp_path, empty_cache):
    for split, (images, labels) in three_classes().items():
        write_parquet(tmp_path / "plain_text" / split / "0000.parquet", list(map(encoded, images)), labels)
    found = {
        open_dataset(p, empty_cache).info.id for p in (tmp_path, tmp_path / "plain_text" / "train" / "0000.parquet")
    }
    assert len(found) == 1


def test_link_to_a_parquet_file_keeps_its_name(tmp_path, empty_cache):
    blobs = write_shards(tmp_path / "blobs")
    (tmp_path / "snapshot").mkdir()
    for i, path in enumerate(sorted(blobs.iterdir())):
        blob = path.rename(blobs / f"{i}")
        (tmp_path / "snapshot" / path.name).symlink_to(blob)
    assert open_dataset(tmp_path / "snapshot" / path.name, empty_cache).info.train_images == 15


def test_shards_of_a_split_follow_one_another(tmp_path, empty_cache):
    (images, labels), (test_images, test_labels) = three_classes().values()
    for i in range(3):
        part = slice(5 * i, 5 * i + 5)
        write_parquet(tmp_path / f"train-{i:05}-of-00003.parquet", list(map(encoded, images[part])), labels[part])
    write_parquet(tmp_path / "test.parquet", list(map(encoded, test_images)), test_labels)
    data = open_dataset(tmp_path, empty_cache)
    assert np.array_equal(data.train.images, images)


def test_image_column_may_be_called_image_and_classes_be_unnamed(tmp_path, empty_cache):
    info = open_dataset(write_shards(tmp_path / "shards", classes=None, image="image"), empty_cache).info
    assert info.classes == ("class 0", "class 1", "class 2")
    assert info.name == "shards (Parquet)"


def test_cifar_10_is_recognised_by_its_classes(tmp_path, empty_cache):
    data = {split: (pixels(10), np.arange(10)) for split in ("train", "test")}
    data["train"] = (pixels(15), np.arange(15) % 10)
    assert (
        open_dataset(write_shards(tmp_path / "mine", data, classes=CIFAR10_CLASSES), empty_cache).info.name
        == "CIFAR-10 (Parquet) mine"
    )
    batches = write_batches(tmp_path / "b", data, classes=CIFAR10_CLASSES)
    assert open_dataset(batches, empty_cache).info.name == "CIFAR-10 (original batches)"


def test_images_of_any_size_mode_and_format_are_converted(tmp_path, empty_cache):
    rng = np.random.default_rng(0)
    pictures = {
        "a.png": Image.fromarray(rng.integers(0, 256, (50, 40, 3), dtype=np.uint8)),
        "b.JPG": Image.fromarray(rng.integers(0, 256, (20, 64), dtype=np.uint8)),
        "c.webp": Image.fromarray(rng.integers(0, 256, (33, 32, 4), dtype=np.uint8), "RGBA"),
        "d.bmp": Image.fromarray(rng.integers(0, 256, (32, 32, 3), dtype=np.uint8)),
        "e.jpeg": Image.new("CMYK", (9, 9)),
    }
    for name in ("one", "two"):
        (tmp_path / "p" / name).mkdir(parents=True)
        for file, picture in pictures.items():
            picture.save(tmp_path / "p" / name / file)
        (tmp_path / "p" / name / ".hidden.png").write_bytes(b"junk")
        (tmp_path / "p" / name / "notes.txt").write_bytes(b"junk")
    (tmp_path / "p" / ".thumbnails").mkdir()
    data = open_dataset(tmp_path / "p", empty_cache)
    assert (data.info.train_counts, data.info.test_counts) == ((4, 4), (1, 1))
    formats = ("PNG", "JPEG", "WebP", "BMP")
    expected = [
        to_input(read_photo(p.read_bytes(), formats=formats)) for p in sorted((tmp_path / "p" / "one").glob("[a-e].*"))
    ]
    seen = np.concatenate([data.train.images[data.train.labels == 0], data.test.images[data.test.labels == 0]])
    assert sorted(image.tobytes() for image in seen) == sorted(image.tobytes() for image in expected)


def test_flat_folders_are_split_four_to_one_and_always_alike(tmp_path, empty_cache):
    folder = write_flat(tmp_path / "p", {"b": 20, "a": 10})
    first = open_dataset(folder, empty_cache)
    again = open_dataset(shutil.copytree(folder, tmp_path / "q"), empty_cache)
    assert first.info.classes == ("a", "b")
    assert (first.info.train_counts, first.info.test_counts) == ((8, 16), (2, 4))
    assert first.info.fingerprint == again.info.fingerprint
    everything = {image.tobytes() for split in (first.train, first.test) for image in np.asarray(split.images)}
    assert everything == {image.tobytes() for k, n in ((0, 20), (1, 10)) for image in pixels(n, k)}


def test_files_of_a_folder_that_are_not_read_are_told(tmp_path, empty_cache):
    folder = write_folders(tmp_path / "some")
    assert open_dataset(folder, empty_cache).info.left_out == ""
    assert find(folder).left_out == ""
    one, *_ = CLASSES
    for name in ("a.gif", "b.GIF", "c.tif", "README"):
        (folder / "train" / one / name).write_bytes(b"...")
    for name in (".DS_Store", "Thumbs.db"):
        (folder / "train" / one / name).write_bytes(b"...")
    (folder / "train" / one / "more").mkdir()
    (folder / "train" / one / "more" / "deep.png").write_bytes(encoded(pixels(1)[0]))
    (folder / "val" / one).mkdir(parents=True)
    (folder / "val" / one / "a.png").write_bytes(encoded(pixels(1)[0]))
    (folder / "labels.csv").write_text("beside the images, as is usual")
    said = "6 files were left out: 2 .gif, 2 in other folders, 1 .tif and 1 without a suffix."
    info = open_dataset(folder, empty_cache).info
    assert info.left_out == said
    assert DataInfo.from_json(info.to_json()) == info


def test_description_from_before_files_left_out_were_told_is_read(tmp_path, empty_cache):
    info = open_dataset(write_folders(tmp_path / "some"), empty_cache).info
    values = json.loads(info.to_json())
    del values["left_out"]
    assert DataInfo.from_json(json.dumps(values)) == info


def test_class_called_train_is_a_class(tmp_path, empty_cache):
    assert open_dataset(write_flat(tmp_path / "p", {"car": 3, "train": 3}), empty_cache).info.classes == (
        "car",
        "train",
    )


# What is refused ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "source", ["https://example.org/cifar-10.tar.gz", "/home/me/https:/example.org/cifar-10.tar.gz"]
)
def test_an_address_is_no_path(source, empty_cache):
    """As a field on a page gives it, a path has been made of it."""
    text = refusal(source, empty_cache)
    assert text.startswith("https://example.org/cifar-10.tar.gz is an address, and data are read from the disk; ")


def test_path_that_does_not_exist_is_named_with_its_nearest_folder(tmp_path, empty_cache):
    text = refusal(tmp_path / "no" / "where", empty_cache)
    assert str(tmp_path / "no" / "where") in text
    assert text.endswith(f"the nearest folder that exists is {tmp_path}.")


@pytest.mark.parametrize("source", ["", "  ", "a\0b"])
def test_what_is_no_path_is_refused(source, empty_cache):
    assert "is no path" in refusal(source, empty_cache)


def test_overlong_path_is_refused(empty_cache):
    refusal("/" + "x" * 5000, empty_cache)


def test_unknown_layout_tells_what_was_looked_for(tmp_path, empty_cache):
    (tmp_path / "p" / "sub").mkdir(parents=True)
    (tmp_path / "p" / "notes.txt").write_text("hello")
    for path in (tmp_path / "p", tmp_path / "p" / "notes.txt"):
        text = refusal(path, empty_cache)
        assert all(word in text for word in (str(path), "cifar-10-batches-py", "train-*.parquet", "train/<class>/"))


def test_images_without_classes_are_refused(tmp_path, empty_cache):
    (tmp_path / "p").mkdir()
    (tmp_path / "p" / "a.png").write_bytes(encoded(pixels(1)[0]))
    assert "one folder per class" in refusal(tmp_path / "p", empty_cache)


def test_missing_batches_are_named(tmp_path, empty_cache):
    folder = write_batches(tmp_path / "b")
    (folder / "data_batch_3").unlink()
    (folder / "batches.meta").unlink()
    assert "lacks data_batch_3 and batches.meta" in refusal(folder, empty_cache)


def test_archive_beside_incomplete_batches_is_used(tmp_path, empty_cache):
    folder = write_batches(tmp_path / "x" / "cifar-10-batches-py")
    write_archive(tmp_path / "x" / "cifar-10-python.tar.gz", folder)
    (folder / "test_batch").unlink()
    assert open_dataset(tmp_path / "x", empty_cache).info.test_images == 6


def test_missing_batches_of_an_archive_are_named(tmp_path, empty_cache):
    folder = write_batches(tmp_path / "b")
    archive = tmp_path / "cifar-10-python.tar.gz"
    with tarfile.open(archive, "w:gz") as file:
        for name in BATCH_NAMES:
            file.add(folder / name, name)
    assert "lacks test_batch and batches.meta" in refusal(archive, empty_cache)


@pytest.mark.parametrize("part", [0, 0.001, 0.5, 0.99])
def test_incomplete_archive_is_refused(part, tmp_path, empty_cache):
    archive = write_archive(tmp_path / "x" / "cifar-10-python.tar.gz", write_batches(tmp_path / "b"))
    content = archive.read_bytes()
    archive.write_bytes(content[: int(part * len(content))])
    text = refusal(archive, empty_cache)
    assert str(archive) in text
    assert "again" in text


class Malicious:
    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self):
        return os.mkdir, (str(self.path),)


@pytest.mark.parametrize("name", ["data_batch_2", "batches.meta"])
def test_malicious_pickle_is_refused_and_not_run(name, tmp_path, empty_cache):
    folder = write_batches(tmp_path / "b")
    (folder / name).write_bytes(pickle.dumps({"data": Malicious(tmp_path / "owned")}))
    text = refusal(folder, empty_cache)
    assert name in text
    assert "mkdir" in text
    assert not (tmp_path / "owned").exists()
    assert pickle.loads((folder / name).read_bytes())  # it would have run
    assert (tmp_path / "owned").exists()


@pytest.mark.parametrize(
    "asked",
    [
        "builtins eval",
        "builtins getattr",
        "os system",
        "numpy load",
        "numpy._core.multiarray set_string_function",
        "numpy ndarray.__class__",
    ],
)
def test_pickle_may_ask_for_nothing_but_arrays(asked, tmp_path, empty_cache):
    folder = write_batches(tmp_path / "b")
    module, name = asked.split()
    code = (
        b"\x80\x04\x8c"
        + bytes([len(module)])
        + module.encode()
        + b"\x8c"
        + bytes([len(name)])
        + name.encode()
        + b"\x93."
    )
    (folder / "test_batch").write_bytes(code)
    assert f"asks for {module}.{name}" in refusal(folder, empty_cache)


def test_array_of_objects_is_refused(tmp_path, empty_cache):
    folder = write_batches(tmp_path / "b")
    (folder / "test_batch").write_bytes(pickle.dumps({"data": np.array([None, "x"], object), "labels": [0, 1]}))
    assert "an array of object" in refusal(folder, empty_cache)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ([1, 2], "no dictionary"),
        ({"data": np.zeros((1, 3072), np.uint8)}, "has no entry labels"),
        ({"data": np.zeros((1, 3071), np.uint8), "labels": [0]}, "N by 3072 bytes"),
        ({"data": np.zeros((1, 3072), np.int32), "labels": [0]}, "N by 3072 bytes"),
        ({"data": np.zeros((1, 3072), np.uint8), "labels": [0, 1]}, "1 images but 2 labels"),
        ({"data": np.zeros((1, 3072), np.uint8), "labels": ["x"]}, "whole numbers"),
        ({"data": np.zeros((2, 3072), np.uint8), "labels": [[0], [1, 2]]}, "whole numbers"),
    ],
)
def test_batch_of_another_shape_is_refused(values, message, tmp_path, empty_cache):
    folder = write_batches(tmp_path / "b")
    (folder / "data_batch_4").write_bytes(pickle.dumps(values))
    text = refusal(folder, empty_cache)
    assert message in text
    assert "data_batch_4" in text


def test_damaged_batch_is_named(tmp_path, empty_cache):
    folder = write_batches(tmp_path / "b")
    content = (folder / "data_batch_2").read_bytes()
    for damaged in (b"", content[:500], b"hello", content[:-1]):
        (folder / "data_batch_2").write_bytes(damaged)
        assert "data_batch_2 is damaged" in refusal(folder, empty_cache)


@pytest.mark.parametrize("split", ["train", "test"])
def test_missing_parquet_split_is_named(split, tmp_path, empty_cache):
    folder = write_shards(tmp_path / "shards")
    (folder / f"{split}-00000-of-00001.parquet").unlink()
    for path in (folder, next(folder.iterdir())):
        assert f"has no {split} split" in refusal(path, empty_cache)


def test_parquet_file_that_names_no_split_is_refused(tmp_path, empty_cache):
    write_parquet(tmp_path / "cats.parquet", [encoded(pixels(1)[0])], [0])
    assert "rename the files train-*.parquet" in refusal(tmp_path / "cats.parquet", empty_cache)


@pytest.mark.parametrize(
    ("columns", "missing"),
    [
        ({"label": [0]}, "img (or image)"),
        ({"img": [b"x"], "fine_label": [0]}, "label"),
        ({"x": [1]}, "img (or image) and label"),
    ],
)
def test_missing_parquet_columns_are_named(columns, missing, tmp_path, empty_cache):
    folder = write_shards(tmp_path / "shards")
    pq.write_table(pa.table(columns), folder / "test-00000-of-00001.parquet")
    text = refusal(folder, empty_cache)
    assert f"lacks the column {missing}; it has {' and '.join(columns)}" in text


@pytest.mark.parametrize(
    "columns", [{"img": [1], "label": [0]}, {"img": [b"x"], "label": ["cat"]}, {"img": [b"x"], "label": [0.5]}]
)
def test_parquet_columns_of_another_type_are_refused(columns, tmp_path, empty_cache):
    folder = write_shards(tmp_path / "shards")
    pq.write_table(pa.table(columns), folder / "test-00000-of-00001.parquet")
    assert "test-00000-of-00001.parquet holds" in refusal(folder, empty_cache)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"junk", "is not a picture"),
        (encoded(pixels(1)[0])[:900], "truncated"),
        (None, "no image bytes"),
        (b"", "is empty"),
    ],
)
def test_corrupt_parquet_image_is_named_by_file_and_row(content, message, tmp_path, empty_cache):
    folder = write_shards(tmp_path / "shards")
    contents = [encoded(image) for image in pixels(6)]
    write_parquet(folder / "test-00000-of-00001.parquet", [*contents[:4], content, contents[5]], [0, 0, 1, 1, 2, 2])
    text = refusal(folder, empty_cache)
    assert text.startswith("Row 4 (counted from 0) of test-00000-of-00001.parquet ")
    assert message in text


def test_null_parquet_row_is_named(tmp_path, empty_cache):
    folder = write_shards(tmp_path / "shards")
    kind = pa.struct({"bytes": pa.binary(), "path": pa.string()})
    images = pa.array([{"bytes": encoded(pixels(1)[0]), "path": ""}, None], kind)
    pq.write_table(pa.table({"img": images, "label": [0, 1]}), folder / "test-00000-of-00001.parquet")
    assert refusal(folder, empty_cache).startswith("Row 1 (counted from 0) of test")
    write_parquet(folder / "test-00000-of-00001.parquet", [encoded(pixels(1)[0])] * 2, [0, None])
    assert "Row 1 (counted from 0) of test-00000-of-00001.parquet has no label" in refusal(folder, empty_cache)


@pytest.mark.parametrize("bad", [3, -1, 2**40])
@pytest.mark.parametrize("kind", ["parquet", "batches"])
def test_label_out_of_range_is_named_with_value_file_and_row(kind, bad, tmp_path, empty_cache):
    data = three_classes()
    data["train"][1][1] = bad
    if kind == "parquet":
        text = refusal(write_shards(tmp_path / "shards", data), empty_cache)
        assert text.startswith(f"Row 1 (counted from 0) of train-00000-of-00001.parquet has the label {bad},")
    else:
        text = refusal(write_batches(tmp_path / "b", data), empty_cache)
        assert text.startswith(f"Row 1 (counted from 0) of data_batch_1 has the label {bad},")
    assert "0 to 2" in text


def test_huge_label_makes_no_million_classes(tmp_path, empty_cache):
    data = three_classes()
    data["train"][1][4] = 10**9
    assert "1000000000" in refusal(write_shards(tmp_path / "shards", data, classes=None), empty_cache)


@pytest.mark.parametrize("name", ["train-00000-of-00001.parquet", "test-00000-of-00001.parquet"])
@pytest.mark.parametrize("part", [0, 0.5, 0.95])
def test_damaged_parquet_file_is_named(name, part, tmp_path, empty_cache):
    path = write_shards(tmp_path / "shards") / name
    content = path.read_bytes()
    path.write_bytes(content[: int(part * len(content))])
    text = refusal(path.parent, empty_cache)
    assert f"{path} is no intact Parquet file" in text


def test_parquet_file_with_damaged_pages_is_refused(tmp_path, empty_cache):
    path = write_shards(tmp_path / "shards") / "train-00000-of-00001.parquet"
    content = bytearray(path.read_bytes())
    content[4:200] = b"\xff" * 196
    path.write_bytes(content)
    assert "train-00000-of-00001.parquet" in refusal(path.parent, empty_cache)


def test_corrupt_image_file_is_named(tmp_path, empty_cache):
    folder = write_folders(tmp_path / "p")
    bad = folder / "train" / "dog" / "00007.png"
    bad.write_bytes(bad.read_bytes()[:700])
    assert refusal(folder, empty_cache).startswith(f"{bad} is a PNG picture that is truncated or damaged")


@pytest.mark.parametrize("split", ["train", "test"])
def test_missing_folder_split_is_named(split, tmp_path, empty_cache):
    folder = write_folders(tmp_path / "p")
    shutil.rmtree(folder / split)
    assert f"no {split} split" in refusal(folder, empty_cache)


def test_empty_class_folder_is_named(tmp_path, empty_cache):
    folder = write_folders(tmp_path / "p")
    (folder / "train" / "yak").mkdir()
    assert refusal(folder, empty_cache).startswith("The class yak is empty")
    flat = write_flat(tmp_path / "q", {"a": 3, "b": 3})
    (flat / "c").mkdir()
    (flat / "c" / "notes.txt").write_text("no image")
    assert refusal(flat, empty_cache).startswith("The class c is empty")


def test_class_that_only_the_test_split_has_is_named(tmp_path, empty_cache):
    folder = write_folders(tmp_path / "p")
    shutil.copytree(folder / "test" / "cat", folder / "test" / "yak")
    assert refusal(folder, empty_cache).startswith("The class yak is in ")


def test_class_with_a_single_image_cannot_be_split(tmp_path, empty_cache):
    assert "The class b has one image" in refusal(write_flat(tmp_path / "p", {"a": 5, "b": 1}), empty_cache)


def test_unreadable_source_is_named(tmp_path, empty_cache, monkeypatch):
    """Permissions bind no superuser, so the refusal of the system is played."""
    folders = write_folders(tmp_path / "p")
    batches = write_batches(tmp_path / "b")

    def refuse(self):
        raise PermissionError(errno.EACCES, "Permission denied", str(self))

    monkeypatch.setattr(Path, "read_bytes", refuse)
    assert f"{folders / 'train' / 'cat' / '00000.png'} may not be read" in refusal(folders, empty_cache)
    assert f"{batches / 'data_batch_1'} may not be read" in refusal(batches, empty_cache)


# The download ------------------------------------------------------------------------------------------------------


class _Archive(BaseHTTPRequestHandler):
    """A server that can be as unreliable as the real ones.

    Attributes:
        cut: Bytes after which each connection ends, whatever was promised; None for none.
        ranges: Whether it sends the part that is asked for, or always everything.
        begins: From which byte on it was asked, request for request.
        kind: Of what it says that it sends.
        has_length: Whether it says how much it sends.
        stalls: What it waits for before it sends; None for nothing.
    """

    content = b""
    cut: int | None = None
    ranges = True
    status = 200
    begins: ClassVar[list[int]] = []
    kind = "application/gzip"
    has_length = True
    stalls: threading.Event | None = None

    def do_GET(self):
        asked = self.headers.get("Range")
        begin = int(asked.removeprefix("bytes=").removesuffix("-")) if asked and self.ranges else 0
        self.begins.append(begin)
        if self.status != 200:
            self.send_response(self.status)
            self.end_headers()
            return
        if begin >= len(self.content):
            self.send_response(416)
            self.end_headers()
            return
        self.send_response(206 if asked and self.ranges else 200)
        if asked and self.ranges:
            self.send_header("Content-Range", f"bytes {begin}-{len(self.content) - 1}/{len(self.content)}")
        self.send_header("Content-Type", self.kind)
        if self.has_length:
            self.send_header("Content-Length", str(len(self.content) - begin))
        self.end_headers()
        if self.stalls:
            self.stalls.wait(20)
        self.wfile.write(self.content[begin:][: self.cut])

    def log_message(self, *_):
        pass


@pytest.fixture
def server(monkeypatch):
    """A server of a small archive at the address that torchvision knows."""
    torchvision = pytest.importorskip("torchvision.datasets")
    handler = type("Handler", (_Archive,), {"content": os.urandom(1_000_000), "begins": []})
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    thread = threading.Thread(target=partial(server.serve_forever, 0.01))
    thread.start()
    monkeypatch.setenv("no_proxy", "*")
    monkeypatch.setattr(torchvision.CIFAR10, "url", f"http://127.0.0.1:{server.server_port}/cifar-10-python.tar.gz")
    monkeypatch.setattr("cifar_core.sources.SMALLEST_ANSWER", 1000)
    monkeypatch.setattr(torchvision.CIFAR10, "tgz_md5", hashlib.md5(handler.content).hexdigest())
    yield handler
    server.shutdown()
    thread.join()
    server.server_close()


def failed_download(folder: Path) -> str:
    with pytest.raises(DataError) as error:
        list(download(folder))
    assert str(error.value).endswith(".")
    assert not (folder / ARCHIVE).exists()
    return str(error.value)


def test_a_sign_in_page_in_place_of_the_archive_is_said(server, tmp_path):
    server.content = b"<html>Welcome to the hotel's network</html>"
    said = failed_download(tmp_path)
    assert "is no archive but 43 bytes, perhaps the sign-in page of a network" in said
    assert not list(tmp_path.glob("*.part"))


def test_a_sign_in_page_leaves_what_has_come(server, tmp_path):
    """Such pages come with status 200, of any length and without one, to whatever part was asked for."""
    part = tmp_path / f"{ARCHIVE}.part"
    part.write_bytes(server.content[:400_000])
    whole, server.ranges = server.content, False
    server.content = b"<html>Welcome to the hotel's network</html>"
    assert "is no archive but 43 bytes" in failed_download(tmp_path)
    server.content, server.kind = b"<html>" * 100_000, "text/html; charset=utf-8"
    assert "is no archive but 600,000 bytes, perhaps the sign-in page" in failed_download(tmp_path)
    server.has_length = False
    assert "is no archive but a page (text/html), perhaps the sign-in page" in failed_download(tmp_path)
    assert part.read_bytes() == whole[:400_000]
    server.content, server.ranges, server.kind, server.has_length = whole, True, "application/gzip", True
    list(download(tmp_path))
    assert (tmp_path / ARCHIVE).read_bytes() == whole


def test_a_server_that_sends_nothing_is_waited_for_in_steps(server, tmp_path):
    """So that the download can be stopped at once."""
    server.stalls = threading.Event()
    progress = download(tmp_path)
    began = time.monotonic()
    steps = [next(progress), next(progress)]
    assert time.monotonic() - began < 5
    assert [step.done for step in steps] == [0, 0]
    assert not (tmp_path / ARCHIVE).exists()
    server.stalls.set()
    list(progress)
    assert (tmp_path / ARCHIVE).read_bytes() == server.content


@pytest.mark.parametrize("error", [OSError(errno.EHOSTUNREACH, "No route to host"), ssl.SSLError(1, "bad record mac")])
def test_a_network_that_goes_away_in_between_is_no_trouble_of_the_disk(server, tmp_path, monkeypatch, error):
    read1, reads = http.client.HTTPResponse.read1, itertools.count()

    def read(response, size):
        if next(reads) == 2:
            raise error
        return read1(response, size)

    monkeypatch.setattr(http.client.HTTPResponse, "read1", read)
    steps = list(download(tmp_path))
    assert any("connection was lost" in step.what for step in steps)
    assert (tmp_path / ARCHIVE).read_bytes() == server.content


def test_download_arrives_whole_and_tells_its_bytes(server, tmp_path):
    steps = list(download(tmp_path / "new"))
    assert (tmp_path / "new" / ARCHIVE).read_bytes() == server.content
    assert [path.name for path in (tmp_path / "new").iterdir()] == [ARCHIVE]
    assert (steps[-1].done, steps[-1].total) == (1_000_000, 1_000_000)
    assert len(steps) > 3


def test_archive_that_is_there_is_not_downloaded_again(server, tmp_path):
    (tmp_path / ARCHIVE).write_bytes(server.content)
    assert list(download(tmp_path)) == []
    assert server.begins == []


def test_damaged_archive_is_said_and_replaced(server, tmp_path):
    archive = tmp_path / ARCHIVE
    archive.write_bytes(b"half of it")
    server.cut = 0
    with pytest.raises(
        DataError, match=f"{archive} is damaged .its checksum is wrong., and http://.* cannot be reached"
    ):
        list(download(tmp_path))
    assert archive.read_bytes() == b"half of it"
    server.cut = None
    steps = list(download(tmp_path))
    assert steps[0].what == f"Downloading {ARCHIVE} anew, as the one that is there is damaged"
    assert (tmp_path / ARCHIVE).read_bytes() == server.content


def test_stopped_download_goes_on_from_what_has_come(server, tmp_path):
    progress = download(tmp_path)
    while next(progress).done < 300_000:
        pass
    progress.close()
    assert not (tmp_path / ARCHIVE).exists()
    there = downloaded(tmp_path)
    assert 300_000 <= there < 1_000_000
    steps = list(download(tmp_path))
    assert server.begins == [0, there]
    assert steps[0].done > there
    assert steps[0].total == 1_000_000
    assert (tmp_path / ARCHIVE).read_bytes() == server.content
    assert downloaded(tmp_path) == 0


def test_cut_connections_are_taken_up_where_they_ended(server, tmp_path):
    server.cut = 300_000
    steps = list(download(tmp_path))
    assert server.begins == [0, 300_000, 600_000, 900_000]
    assert (tmp_path / ARCHIVE).read_bytes() == server.content
    assert any("connection was lost" in step.what for step in steps)


def test_server_that_ignores_what_is_asked_for_is_asked_from_the_beginning(server, tmp_path):
    (tmp_path / f"{ARCHIVE}.part").write_bytes(server.content[:400_000])
    server.ranges = False
    list(download(tmp_path))
    assert (tmp_path / ARCHIVE).read_bytes() == server.content


def test_server_that_cuts_and_always_sends_all_is_given_up(server, tmp_path):
    server.cut, server.ranges = 300_000, False
    assert "the connection broke after 300,000 bytes" in failed_download(tmp_path)
    assert len(server.begins) == 2


def test_wrong_bytes_of_an_earlier_download_are_fetched_again(server, tmp_path):
    (tmp_path / f"{ARCHIVE}.part").write_bytes(bytes(400_000))
    steps = list(download(tmp_path))
    assert server.begins == [400_000, 0]
    assert any("checksum was wrong" in step.what for step in steps)
    assert (tmp_path / ARCHIVE).read_bytes() == server.content


def test_part_that_is_too_long_is_fetched_again(server, tmp_path):
    (tmp_path / f"{ARCHIVE}.part").write_bytes(server.content + b"more")
    list(download(tmp_path))
    assert (tmp_path / ARCHIVE).read_bytes() == server.content


def test_part_that_is_whole_becomes_the_archive(server, tmp_path):
    (tmp_path / f"{ARCHIVE}.part").write_bytes(server.content)
    list(download(tmp_path))
    assert server.begins == [1_000_000]
    assert (tmp_path / ARCHIVE).read_bytes() == server.content


def test_altered_download_is_fetched_twice_and_refused(server, tmp_path):
    server.content = server.content[::-1]
    assert "sent has a wrong checksum, twice" in failed_download(tmp_path)
    assert server.begins == [0, 0]
    assert list(tmp_path.iterdir()) == []


def test_download_that_breaks_keeps_what_has_come_and_says_so(server, tmp_path, monkeypatch):
    monkeypatch.setattr("cifar_core.sources.ARCHIVE_BYTES", 20_000_000)
    (tmp_path / f"{ARCHIVE}.part").write_bytes(server.content[:500_000] * 20)
    server.content *= 20
    server.cut = 0
    assert "10 of 20 MB are there and are kept" in failed_download(tmp_path)
    assert downloaded(tmp_path) == 10_000_000


def test_answer_of_a_server_in_trouble_is_told(server, tmp_path):
    server.status = 503
    assert "answered 503" in failed_download(tmp_path)


def test_two_downloads_into_one_folder_do_not_mix(server, tmp_path):
    first = download(tmp_path)
    next(first)
    assert "is being downloaded" in failed_download(tmp_path)
    list(first)
    assert (tmp_path / ARCHIVE).read_bytes() == server.content


def test_offline_download_names_the_three_other_ways(tmp_path, monkeypatch):
    torchvision = pytest.importorskip("torchvision.datasets")
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{closed.getsockname()[1]}/cifar-10-python.tar.gz"
        monkeypatch.setattr(torchvision.CIFAR10, "url", url)
        monkeypatch.setenv("no_proxy", "*")
        text = failed_download(tmp_path)
    assert f"{url} cannot be reached (Connection refused)" in text
    assert all(way in text for way in ("cifar-10-python.tar.gz", "Parquet", "folder of images"))


def test_full_disk_ends_a_download(server, tmp_path, monkeypatch):
    def fail(*_):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(Path, "replace", fail)
    assert failed_download(tmp_path).startswith(f"The disk is full: the archive needs 170 MB in {tmp_path}; free")


def test_a_path_longer_than_any_screen_is_said_without_its_middle() -> None:
    long = "/" + "a" * 5000 + "/end"
    with pytest.raises(DataError) as refused:
        find(Path(long))
    said = str(refused.value)
    assert len(said) < 400
    assert said.startswith("/aaa")
    assert "/end" in said
