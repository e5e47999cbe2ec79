"""Data sets in the cache: whole or not there at all, found again, told apart, let go."""

from __future__ import annotations

import errno
import multiprocessing
import os
import shutil
import subprocess
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from test_sources import (
    CLASSES,
    SOURCES,
    encoded,
    pixels,
    refusal,
    three_classes,
    write_batches,
    write_flat,
    write_folders,
    write_parquet,
    write_shards,
)

from cifar_core import sources
from cifar_core.datasets import DataInfo, cached, find_cached, forget, open_cached, open_dataset, prepare
from cifar_core.sources import CIFAR10_CLASSES, DataError, Progress

SHARED = Path(os.environ.get("CIFAR_SHARED_DATA", Path(__file__).parents[2] / "shared" / "data" / "cifar10-jpeg"))


# What is told of them ----------------------------------------------------------------------------------------------


def test_equal_content_has_an_equal_fingerprint_and_other_content_another(tmp_path, empty_cache):
    same = {open_dataset(make(tmp_path), empty_cache).info.fingerprint for make in SOURCES.values()}
    assert len(same) == 1
    data = three_classes()
    data["test"][0][0, 0, 0, 0] ^= 1
    other_pixel = open_dataset(write_shards(tmp_path / "a", data), empty_cache).info.fingerprint
    other_names = open_dataset(
        write_shards(tmp_path / "b", classes=("cat", "dog", "yak")), empty_cache
    ).info.fingerprint
    data = three_classes()
    data["train"][1][:] = np.roll(data["train"][1], 1)
    other_labels = open_dataset(write_shards(tmp_path / "c", data), empty_cache).info.fingerprint
    assert len(same | {other_pixel, other_names, other_labels}) == 4


def test_statistics_are_those_of_all_training_pixels(tmp_path, empty_cache):
    info = open_dataset(write_shards(tmp_path / "shards"), empty_cache).info
    images = three_classes()["train"][0] / 255
    assert np.allclose(info.mean, images.mean(axis=(0, 2, 3)), rtol=1e-12)
    assert np.allclose(info.std, images.std(axis=(0, 2, 3)), rtol=1e-12)


def test_constant_channel_has_no_deviation(tmp_path, empty_cache):
    data = three_classes()
    data["train"][0][:, 1] = 77
    assert open_dataset(write_shards(tmp_path / "shards", data), empty_cache).info.std[1] == 0


# What is refused ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("write", [write_shards, write_batches])
def test_class_without_training_image_is_named(write, tmp_path, empty_cache):
    assert "The class yak of" in refusal(write(tmp_path / "x", classes=(*CLASSES, "yak")), empty_cache)


def test_single_class_is_refused(tmp_path, empty_cache):
    assert "only the class a" in refusal(write_flat(tmp_path / "p", {"a": 5}), empty_cache)
    data = {split: (pixels(2), np.zeros(2, int)) for split in ("train", "test")}
    assert "only the class class 0" in refusal(write_shards(tmp_path / "shards", data, classes=None), empty_cache)
    assert "only the class cat" in refusal(write_batches(tmp_path / "b", classes=("cat",)), empty_cache)


def test_classes_of_one_name_are_refused(tmp_path, empty_cache):
    assert "names the class cat twice" in refusal(
        write_shards(tmp_path / "x", classes=("cat", "cat", "dog")), empty_cache
    )


def test_empty_split_is_refused(tmp_path, empty_cache):
    folder = write_shards(tmp_path / "shards")
    write_parquet(folder / "test-00000-of-00001.parquet", [], [])
    assert "The test split of" in refusal(folder, empty_cache)


# Whole or not at all -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", SOURCES)
@pytest.mark.parametrize("steps", [1, 2, 3])
def test_closing_early_leaves_nothing(kind, steps, tmp_path, empty_cache, monkeypatch):
    monkeypatch.setattr(time, "monotonic", iter(np.arange(0, 1e4)).__next__)  # every image is a step of its own
    progress = prepare(SOURCES[kind](tmp_path), empty_cache)
    for _ in range(steps):
        next(progress)
    assert list(empty_cache.iterdir())
    progress.close()
    assert list(empty_cache.iterdir()) == []


@pytest.mark.parametrize("kind", SOURCES)
def test_progress_counts_every_image_and_never_backwards(kind, tmp_path, empty_cache, monkeypatch):
    monkeypatch.setattr(time, "monotonic", iter(np.arange(0, 1e4)).__next__)
    source = SOURCES[kind](tmp_path)
    steps = list(prepare(source, empty_cache))
    assert steps[-1] == Progress(21, 21, "Saving the images")
    assert all(step.done == 21 for step in steps if step.what == "Saving the images")
    done = [step.done for step in steps]
    assert done == sorted(done)
    assert len(steps) >= 6
    assert list(prepare(source, empty_cache)) == []


@pytest.mark.parametrize("code", [errno.ENOSPC, errno.EDQUOT])
def test_full_disk_while_writing_leaves_nothing(code, tmp_path, empty_cache, monkeypatch):
    def fail(_):
        raise OSError(code, os.strerror(code))

    monkeypatch.setattr(os, "fsync", fail)
    text = refusal(write_shards(tmp_path / "shards"), empty_cache)
    assert text == f"The disk is full: 1 MB needed in {empty_cache}; free some space or choose another cache folder."


def test_disk_that_will_not_hold_the_data_is_refused_before_decoding(tmp_path, empty_cache, monkeypatch):
    monkeypatch.setattr(shutil, "disk_usage", lambda _: shutil._ntuple_diskusage(100, 90, 10))
    monkeypatch.setattr(sources, "_image", lambda *_: pytest.fail("decoded"))
    assert "The disk is full: 1 MB needed" in refusal(write_shards(tmp_path / "shards"), empty_cache)


def test_cache_that_cannot_be_made_is_named(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(DataError, match=r"The cache folder .*file/cache cannot be made"):
        open_dataset(write_shards(tmp_path / "shards"), tmp_path / "file" / "cache")


def test_abandoned_folders_of_dead_processes_are_removed_and_living_ones_stay(tmp_path, empty_cache):
    dead = subprocess.Popen(["true"])
    dead.wait()
    empty_cache.mkdir()
    gone = empty_cache / f".cifar-10-0123abcd.{dead.pid}.tmp"
    kept = empty_cache / f".cifar-10-0123abcd.{os.getpid()}.abcdefgh.tmp"
    for folder in (gone, kept):
        folder.mkdir()
        (folder / "train_images.npy").write_bytes(b"x")
    open_dataset(write_shards(tmp_path / "shards"), empty_cache)
    assert not gone.exists()
    assert kept.exists()


def _open_at_once(source: Path, cache: Path, barrier: Any, results: Any) -> None:
    barrier.wait()
    results.put(open_dataset(source, cache).info.fingerprint)


def test_two_processes_preparing_at_once_both_succeed(tmp_path, empty_cache):
    source = write_shards(tmp_path / "shards")
    context = multiprocessing.get_context("spawn")
    barrier, results = context.Barrier(2), context.Queue()
    workers = [context.Process(target=_open_at_once, args=(source, empty_cache, barrier, results)) for _ in range(2)]
    for worker in workers:
        worker.start()
    prints = {results.get(timeout=30) for _ in workers}
    for worker in workers:
        worker.join()
    assert prints == {open_dataset(source, empty_cache).info.fingerprint}
    assert len(list(empty_cache.iterdir())) == 1


def test_second_to_finish_keeps_what_the_first_made(tmp_path, empty_cache):
    source = write_shards(tmp_path / "shards")
    slow = prepare(source, empty_cache)
    next(slow)
    fast = open_dataset(source, empty_cache)
    assert list(slow)[-1].done == 21
    assert [path.name for path in empty_cache.iterdir()] == [fast.info.id]
    assert np.array_equal(fast.train.images, open_dataset(source, empty_cache).train.images)


# The cache ---------------------------------------------------------------------------------------------------------


def test_second_opening_decodes_nothing_and_maps_the_files(tmp_path, empty_cache, monkeypatch):
    source = write_folders(tmp_path / "p")
    open_dataset(source, empty_cache)
    monkeypatch.setattr(sources, "_image", lambda *_: pytest.fail("decoded"))
    again = open_dataset(source, empty_cache)
    assert isinstance(again.train.images, np.memmap)
    assert not again.train.images.flags.writeable


def test_changed_source_is_decoded_again(tmp_path, empty_cache):
    source = write_folders(tmp_path / "p")
    first = open_dataset(source, empty_cache).info
    (source / "train" / "cat" / "new.png").write_bytes(encoded(pixels(1, 9)[0]))
    second = open_dataset(source, empty_cache).info
    assert second.id != first.id
    assert second.train_counts == (6, 5, 5)


def test_cache_lists_the_most_recently_opened_first(tmp_path, empty_cache):
    assert cached(empty_cache) == []
    infos = {name: open_dataset(write_shards(tmp_path / name), empty_cache).info for name in ("a", "b", "c")}
    for name in ("a", "c", "b"):
        time.sleep(0.01)
        open_cached(infos[name].id, empty_cache)
    assert [info.source for info in cached(empty_cache)] == [str(tmp_path / name) for name in ("b", "c", "a")]
    (empty_cache / infos["c"].id / "info.json").write_text("{")
    assert cached(empty_cache) == [infos["b"], infos["a"]]


def test_data_opens_by_its_id_when_its_source_is_gone(tmp_path, empty_cache):
    first = open_dataset(write_shards(tmp_path / "shards"), empty_cache)
    shutil.rmtree(tmp_path / "shards")
    assert open_cached(first.info.id, empty_cache).info == first.info


def test_prepared_folder_is_a_source(tmp_path, empty_cache):
    first = open_dataset(write_shards(tmp_path / "shards"), empty_cache)
    again = open_dataset(empty_cache / first.info.id, tmp_path / "another cache")
    assert again.info == first.info
    assert np.array_equal(again.test.images, first.test.images)
    assert list(prepare(empty_cache / first.info.id, empty_cache)) == []


@pytest.mark.parametrize(("file", "content"), [("info.json", b"{"), ("train_images.npy", b"junk")])
def test_damaged_prepared_folder_is_no_source(file, content, tmp_path, empty_cache):
    folder = empty_cache / open_dataset(write_shards(tmp_path / "shards"), empty_cache).info.id
    (folder / file).write_bytes(content)
    for use in (open_dataset, find_cached, lambda *paths: list(prepare(*paths))):
        with pytest.raises(DataError, match=r"The prepared data in .* is damaged .*delete that folder"):
            use(folder, tmp_path / "another cache")


@pytest.mark.parametrize(
    "id", ["../etc", "", "a-0123abcd/..", "a-0123abcd\n", "A-0123abcd", ".a-0123abcd", "a" * 41 + "-0123abcd"]
)
def test_ids_of_another_form_are_refused(id, empty_cache):
    for use in (open_cached, forget):
        with pytest.raises(DataError, match="is not the id of a data set"):
            use(id, empty_cache)


def test_unknown_id_is_refused(empty_cache):
    for use in (open_cached, forget):
        with pytest.raises(DataError, match="There is no data set a-0123abcd"):
            use("a-0123abcd", empty_cache)
    assert not empty_cache.exists()


def test_forgotten_data_is_gone_and_its_source_stays(tmp_path, empty_cache):
    source = write_shards(tmp_path / "shards")
    info = open_dataset(source, empty_cache).info
    forget(info.id, empty_cache)
    assert list(empty_cache.iterdir()) == []
    assert open_dataset(source, empty_cache).info == info


def damage_shorten(folder: Path) -> None:
    os.truncate(folder / "train_images.npy", 5000)


def damage_remove(folder: Path) -> None:
    (folder / "test_labels.npy").unlink()


def damage_swap(folder: Path) -> None:
    shutil.copy(folder / "test_images.npy", folder / "train_images.npy")


def damage_version(folder: Path) -> None:
    (folder / "info.json").write_text(
        (folder / "info.json").read_text().replace('"schema_version": 1', '"schema_version": 0')
    )


@pytest.mark.parametrize("damage", [damage_shorten, damage_remove, damage_swap, damage_version])
def test_damaged_cache_is_told_by_id_and_mended_from_the_source(damage, tmp_path, empty_cache):
    source = write_shards(tmp_path / "shards")
    first = open_dataset(source, empty_cache)
    damage(empty_cache / first.info.id)
    with pytest.raises(DataError, match=r"The prepared data in .* is damaged") as error:
        open_cached(first.info.id, empty_cache)
    assert str(error.value).endswith("open its source again.")
    assert np.array_equal(open_dataset(source, empty_cache).train.images, three_classes()["train"][0])
    assert [path.name for path in empty_cache.iterdir()] == [first.info.id]


def test_description_survives_json(tmp_path, empty_cache):
    info = open_dataset(write_shards(tmp_path / "shards"), empty_cache).info
    assert DataInfo.from_json(info.to_json()) == info
    for bad in ("[]", "{}", '{"schema_version": 1}', info.to_json().replace('"mean"', '"average"')):
        with pytest.raises(ValueError, match="description of the data set"):
            DataInfo.from_json(bad)


# The real thing ----------------------------------------------------------------------------------------------------


@pytest.mark.skipif(
    not SHARED.is_dir(), reason="the Parquet copy of CIFAR-10 is not here; set CIFAR_SHARED_DATA to its folder"
)
def test_cifar_10_is_balanced_and_opens_in_half_a_second(tmp_path):
    data = open_dataset(SHARED, tmp_path)
    assert data.info.classes == CIFAR10_CLASSES
    assert data.info.train_counts == (5000,) * 10
    assert data.info.test_counts == (1000,) * 10
    assert data.train.images.shape == (50_000, 3, 32, 32)
    assert np.array_equal(np.bincount(data.test.labels), [1000] * 10)
    seconds = []
    for _ in range(3):
        start = time.perf_counter()
        open_dataset(SHARED, tmp_path)
        seconds.append(time.perf_counter() - start)
    assert min(seconds) <= 0.5
