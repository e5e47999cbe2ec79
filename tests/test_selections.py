"""Selections: what a text names, what is kept, and how selections are combined and taken away."""

from __future__ import annotations

import csv
import io
import zipfile
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from cifar_core import job
from cifar_core.datasets import open_cached
from cifar_core.runs import RunError
from cifar_core.selections import (
    FEW,
    WAYS,
    Selection,
    SelectionError,
    allowed,
    combined,
    find,
    folder_of,
    forget,
    free_name,
    inverted,
    keep,
    kept,
    refer,
    slug,
    to_csv,
    to_zip,
)
from cifar_core.subsets import training_indices
from tests.conftest import Tiny, tiny_config, work

PRINT, OTHER = "1a2b3c4d5e6f7081", "ffff3c4d5e6f7081"


def some(*indices: int, split: str = "train", fingerprint: str = PRINT, about: str = "") -> Selection:
    return Selection(fingerprint, split, np.array(indices, np.int64), about)


def test_indices_are_sorted_and_each_there_once() -> None:
    chosen = some(7, 3, 7, 0)
    assert chosen.indices.tolist() == [0, 3, 7]
    assert len(chosen) == 3
    with pytest.raises(ValueError, match="read-only"):
        chosen.indices[0] = 1


def test_bad_selections_are_refused_in_a_sentence() -> None:
    with pytest.raises(SelectionError, match="must be train or test, but is 'validation'"):
        some(1, split="validation")
    with pytest.raises(SelectionError, match="numbered from 0, but a selection names -2"):
        some(1, -2)


def test_few_images_are_listed_in_the_text_and_need_no_file(tmp_path: Path) -> None:
    text = refer(some(17, 3), tmp_path)
    assert text == "train.1a2b3c4d.3.17"
    assert not list(tmp_path.iterdir())
    assert find(text, PRINT, tmp_path).indices.tolist() == [3, 17]
    assert find(refer(some(), tmp_path), PRINT, tmp_path).indices.tolist() == []


def test_many_images_are_found_again_with_how_they_were_chosen(tmp_path: Path) -> None:
    many = some(*range(0, 500, 7), split="test", about="Cat predicted as dog, run 20260101-x")
    text = refer(many, tmp_path)
    assert text == f"cat-predicted-as-dog-run-20260101-x.{many.digest}"
    found = find(text, PRINT, tmp_path)
    assert (found.split, found.about, found.name) == ("test", many.about, "")
    assert found.indices.tolist() == many.indices.tolist()
    assert refer(found, tmp_path) == text


def test_a_name_means_what_was_kept_last_and_a_pinned_text_what_it_meant(tmp_path: Path) -> None:
    first = refer(keep(some(1, 2), "hard-cats", tmp_path), tmp_path)
    keep(some(5), "hard-cats", tmp_path)
    assert find("hard-cats", PRINT, tmp_path).indices.tolist() == [5]
    assert find(first, PRINT, tmp_path).indices.tolist() == [1, 2]
    assert [(one.name, len(one)) for one in kept(PRINT, tmp_path)] == [("hard-cats", 1)]
    forget("hard-cats", PRINT, tmp_path)
    assert not kept(PRINT, tmp_path)
    assert find(first, PRINT, tmp_path).indices.tolist() == [1, 2], "a run may rest on it"


@pytest.mark.parametrize("name", ["", "Cats", "a/b", "..", "-a", "a" * 41, "a.b", "a\n"])
def test_what_is_no_name_is_refused_and_writes_nothing(name: str, tmp_path: Path) -> None:
    with pytest.raises(SelectionError, match="small letters, digits and hyphens"):
        keep(some(1), name, tmp_path)
    assert not list(tmp_path.rglob("*"))


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("train.ffff3c4d.1", "is of another data set"),
        ("hard-cat", "has no selection hard-cat; did you mean 'hard-cats'?"),
        ("hard-cats.000000000000", "is not here"),
        ("../../etc/passwd", "names no selection"),
        ("val.1a2b3c4d.1", "names no selection"),
        ("train.1a2b3c4d.1.x", "names no selection"),
        ("x" * 5000, "names no selection"),
    ],
)
def test_a_text_that_names_nothing_gets_one_sentence(text: str, said: str, tmp_path: Path) -> None:
    keep(some(1, 2), "hard-cats", tmp_path)
    with pytest.raises(SelectionError) as caught:
        find(text, PRINT, tmp_path)
    assert said in str(caught.value)
    assert len(str(caught.value)) < 200


def test_selections_of_another_data_set_are_not_found(tmp_path: Path) -> None:
    text = refer(keep(some(1, 2), "hard-cats", tmp_path), tmp_path)
    for wanted in (text, "hard-cats"):
        with pytest.raises(SelectionError):
            find(wanted, OTHER, tmp_path)


@pytest.mark.parametrize("content", ["", "{}", "[1]", '{"schema_version": 1, "split": "train", "indices": [1]}'])
def test_a_damaged_file_is_said_to_be_damaged(content: str, tmp_path: Path) -> None:
    many = some(*range(FEW + 1))
    text = refer(many, tmp_path)
    (tmp_path / PRINT / f"{many.digest}.json").write_text(content)
    with pytest.raises(SelectionError, match="cannot be read"):
        find(text, PRINT, tmp_path)


def test_a_file_with_other_images_than_its_name_says_is_refused(tmp_path: Path) -> None:
    many = some(*range(FEW + 1))
    text = refer(many, tmp_path)
    path = tmp_path / PRINT / f"{many.digest}.json"
    path.write_text(path.read_text().replace("[0, 1", "[0, 99"))
    with pytest.raises(SelectionError, match="damaged"):
        find(text, PRINT, tmp_path)


@pytest.mark.parametrize("way", WAYS)
def test_selections_are_combined_as_sets_are(way: str) -> None:
    first, second = some(1, 2, 3, about="a"), some(3, 4, about="b")
    wanted = {"or": {1, 2, 3} | {3, 4}, "and": {1, 2, 3} & {3, 4}, "minus": {1, 2, 3} - {3, 4}}[way]
    both = combined(first, second, way)
    assert set(both.indices.tolist()) == wanted
    assert both.about == f"(a) {way} (b)"


def test_the_inverse_is_all_other_images_of_the_split() -> None:
    assert inverted(some(1, 3), 5).indices.tolist() == [0, 2, 4]


def test_inverting_twice_gives_back_the_first_with_its_name_and_writes_one_file(tmp_path: Path) -> None:
    for first in (some(*range(20), about="a lasso"), keep(some(*range(30), about="by hand"), "odd-ones", tmp_path)):
        refer(first, tmp_path)
        now, texts = first, []
        for _ in range(6):
            now = inverted(now, 60, kept(PRINT, tmp_path))
            texts.append(refer(now, tmp_path))
        assert (now.digest, now.name, now.about) == (first.digest, first.name, first.about)
        assert len(set(texts)) == 2
    assert len(list((tmp_path / PRINT).glob("*.json"))) == 4


def test_a_free_name_is_nobodys(tmp_path: Path) -> None:
    one = some(1, about="A lasso " + "of very many images" * 3)
    names = []
    for index in range(4):
        names.append(free_name(one, tmp_path))
        keep(some(index), names[-1], tmp_path)
    assert len(set(names)) == 4


def test_images_of_different_splits_or_data_sets_are_not_combined() -> None:
    with pytest.raises(SelectionError, match="of the train split, the other of the test split"):
        combined(some(1), some(1, split="test"), "or")
    with pytest.raises(SelectionError, match="different data sets"):
        combined(some(1), some(1, fingerprint=OTHER), "or")


def test_a_slug_is_always_a_name(tmp_path: Path) -> None:
    for text in ("", "Cat → dog!", "é", "a" * 39 + " b", "--"):
        keep(some(1), slug(text), tmp_path)


def test_the_table_names_each_image_with_its_class_and_data_set(tiny: Tiny) -> None:
    data = open_cached(tiny.info.id, tiny.cache)
    chosen = some(3, 59, 21, split="test", fingerprint=tiny.info.fingerprint)
    rows = list(csv.DictReader(io.StringIO(to_csv(chosen, data))))
    assert [int(row["index"]) for row in rows] == [3, 21, 59]
    assert [row["class"] for row in rows] == [data.info.classes[data.test.labels[i]] for i in (3, 21, 59)]
    assert {(row["split"], row["data"], row["fingerprint"]) for row in rows} == {
        ("test", tiny.info.name, tiny.info.fingerprint)
    }


def test_the_folder_holds_the_very_pixels(tiny: Tiny) -> None:
    data = open_cached(tiny.info.id, tiny.cache)
    chosen = some(0, 179, fingerprint=tiny.info.fingerprint)
    with zipfile.ZipFile(io.BytesIO(to_zip(chosen, data))) as archive:
        assert archive.testzip() is None
        names = [name for name in archive.namelist() if name.endswith(".png")]
        assert names == ["circle/train-00000.png", "stripes/train-00179.png"]
        for name, index in zip(names, (0, 179), strict=True):
            pixels = np.asarray(Image.open(io.BytesIO(archive.read(name)))).transpose(2, 0, 1)
            np.testing.assert_array_equal(pixels, data.train.images[index])
        assert archive.read("selection.csv").decode() == to_csv(chosen, data)


# Training with one ----------------------------------------------------------------------------------------------------


def test_a_run_trains_on_the_selection_it_was_given_whatever_its_name_means_later(
    tiny: Tiny, cache: Path, runs_root: Path
) -> None:
    folder = folder_of(cache)
    config = tiny_config(tiny, without_selection="suspects")
    keep(some(*range(0, 180, 2), fingerprint=tiny.info.fingerprint), "suspects", folder)
    run = job.new_run(config, runs_root, cache)
    assert run.config.without_selection.startswith("suspects.")
    keep(some(1, fingerprint=tiny.info.fingerprint), "suspects", folder)
    forget("suspects", tiny.info.fingerprint, folder)
    work(run, cache)
    assert run.state == "finished", run.last_end
    kept, _ = training_indices(config, open_cached(tiny.info.id, cache))
    assert run.start.train_images == int((kept % 2 == 1).sum())


def test_only_and_without_are_both_kept_to(tiny: Tiny, tmp_path: Path) -> None:
    keep(some(*range(50), fingerprint=tiny.info.fingerprint), "firsts", tmp_path)
    config = tiny_config(tiny, only_selection="firsts", without_selection=f"train.{tiny.info.fingerprint[:8]}.3.170")
    may = allowed(config, tiny.info, tmp_path)
    assert np.flatnonzero(may).tolist() == [i for i in range(50) if i != 3]
    assert allowed(tiny_config(tiny), tiny.info, tmp_path) is None


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("nobody", "only_selection cannot be used with"),
        ("train.{}.1000", "only_selection names image 1000, which"),
        ("test.{}.1", "only_selection must be of training images"),
        ("train.{}.1", "leave"),
    ],
)
def test_a_selection_that_cannot_be_trained_with_is_refused_before_the_run_is_made(
    text: str, said: str, tiny: Tiny, cache: Path, runs_root: Path
) -> None:
    config = tiny_config(tiny, only_selection=text.format(tiny.info.fingerprint[:8]))
    with pytest.raises(RunError, match=said):
        job.new_run(config, runs_root, cache)
    assert not runs_root.exists() or not list(runs_root.iterdir())
