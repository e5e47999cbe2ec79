"""The pictures drawn by code: the same everywhere, and neither too easy nor too hard."""

from __future__ import annotations

import hashlib
import math
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from cifar_core import cartoon, drawing
from cifar_core.datasets import DataSet, cached, open_dataset
from cifar_core.drawing import FULL, SIDE, Canvas, Chance, box, ellipse, limb, outline
from cifar_core.sources import CIFAR10_CLASSES, DRAWN_NAME, DataError
from tests.conftest import ROOT

PIXELS = "04acbe24d2efe132e1de30f0a57c6a61b4585ec8d60e77a16d287c7018ac59f2"
"""SHA-256 of all training images and all test images."""

SOME = "a3760a1dc3314a506f366f279e596ba8ab1814610ae796e713cc8505f2ab2239"
"""SHA-256 of 120 pictures."""

WHITE = np.array((255, 255, 255))


@pytest.fixture(scope="module")
def drawn(tmp_path_factory: pytest.TempPathFactory) -> DataSet:
    return open_dataset("cartoon10", tmp_path_factory.mktemp("cache"))


def some() -> str:
    digest = hashlib.sha256()
    for which, pixels, labels in cartoon.draw(120, seed=3):
        for array in (which.astype("<i8"), pixels, labels.astype("<i8")):
            digest.update(np.ascontiguousarray(array).tobytes())
    return digest.hexdigest()


def covered(*shapes: np.ndarray) -> np.ndarray:
    """Coverage of the pixels of one picture, one unit of the shapes per pixel."""
    canvas = Canvas(1)
    canvas.place(100 * FULL, 0, 0, 0)
    return canvas.paint(shapes, WHITE)[0]


# Shapes ------------------------------------------------------------------------------------------------------------


def test_sines_are_those_of_the_library() -> None:
    expected = [round(math.sin(math.radians(k)) * 2**14) for k in range(360)]
    assert drawing.sine(np.arange(360)).tolist() == expected
    assert drawing.sine(np.array([-90, 450])).tolist() == [-(2**14), 2**14]


def test_box_covers_exactly_its_pixels() -> None:
    cover = covered(box(3, 5, 7, 6))
    assert np.argwhere(cover == FULL).tolist() == [[5, 3], [5, 4], [5, 5], [5, 6]]
    assert cover.sum() == 4 * FULL


def test_edge_through_a_pixel_covers_its_share() -> None:
    canvas = Canvas(1)
    canvas.place(50 * FULL, 0, 0, 0)  # half a pixel per unit
    assert canvas.paint([box(1, 2, 4, 4)], WHITE)[0, 1, :3].tolist() == [FULL // 2, FULL, 0]


@pytest.mark.parametrize(
    ("shape", "area"),
    [
        (ellipse(160, 160, 90, 50), math.pi * 4500),
        (ellipse(160, 160, 90, 50, 40), math.pi * 4500),
        (limb(80, 160, 40, 240, 160, 40), 160 * 80 + math.pi * 1600),
        (outline((40, 40), (280, 40), (40, 280)), 240 * 240 / 2),
    ],
)
def test_shape_covers_its_area(shape: np.ndarray, area: float) -> None:
    """But for what its straight edges leave out of a round one."""
    canvas = Canvas(1)
    canvas.place(10 * FULL, 0, 0, 0)  # ten units per pixel
    assert canvas.paint([shape], WHITE).sum() / FULL == pytest.approx(area / 100, rel=0.06)


def test_shapes_of_one_layer_cover_what_they_share_once() -> None:
    clockwise, other_way = box(4, 4, 12, 12), box(8, 4, 16, 12)[:, ::-1]
    assert covered(clockwise, other_way).sum() == 12 * 8 * FULL
    assert covered(clockwise, other_way).max() == FULL


def test_what_lies_outside_the_picture_is_cut_off() -> None:
    assert covered(box(-50, -50, 50, 50)).tolist() == np.full((SIDE, SIDE), FULL).tolist()
    assert covered(box(40, 0, 50, 10)).sum() == 0
    assert covered(box(-50, 10, 4, 11)).sum() == 4 * FULL


def test_mirrored_shape_is_the_mirror_image() -> None:
    canvas = Canvas(2)
    canvas.place(np.array([1000, 1000]), 16 * 64, 16 * 64, 0, np.array([0, 1]))
    one, other = canvas.paint([outline((-60, -20), (90, 10), (-10, 70))], WHITE)
    assert abs(one - other[:, ::-1]).max() <= 8


def test_layer_stays_within_another() -> None:
    canvas = Canvas(1)
    canvas.place(100 * FULL, 0, 0, 0)
    inner = canvas.paint([box(4, 4, 8, 8)], WHITE)
    assert canvas.paint([box(0, 6, 32, 32)], WHITE, within=inner).sum() == 8 * FULL


def test_numbers_drawn_lie_within_their_bounds_and_reach_them() -> None:
    chance = Chance(np.random.PCG64(0).random_raw(4000).reshape(1000, 4))
    numbers = chance.between(-2, 3)
    assert sorted(set(numbers.tolist())) == [-2, -1, 0, 1, 2, 3]
    assert chance.percent(30).mean() == pytest.approx(0.3, abs=0.05)


# The data set ------------------------------------------------------------------------------------------------------


def test_every_byte_is_the_same_everywhere(drawn: DataSet) -> None:
    digest = hashlib.sha256()
    for split in (drawn.train, drawn.test):
        digest.update(np.ascontiguousarray(split.images).tobytes())
    assert digest.hexdigest() == PIXELS


def test_no_byte_depends_on_what_the_processor_can_do() -> None:
    from numpy._core._multiarray_umath import __cpu_dispatch__  # type: ignore[import-not-found]

    code = "from tests.test_cartoon import some; print(some())"
    plain = {**os.environ, "NPY_DISABLE_CPU_FEATURES": " ".join(__cpu_dispatch__)}
    answer = subprocess.run([sys.executable, "-c", code], cwd=ROOT, env=plain, capture_output=True, text=True)
    assert answer.stdout.strip() == some() == SOME, answer.stderr


def test_other_seed_other_pictures() -> None:
    one, other = (next(cartoon.draw(120, seed))[1] for seed in (3, 4))
    assert one.shape != other.shape or (one != other).any()


def test_a_few_pictures_are_drawn_where_some_views_have_none() -> None:
    drawn_ones = np.concatenate([which for which, _, _ in cartoon.draw(20, seed=0)])
    assert sorted(drawn_ones.tolist()) == list(range(20))


def test_splits_share_no_picture_and_classes_are_even(drawn: DataSet) -> None:
    assert drawn.info.classes == CIFAR10_CLASSES
    assert (drawn.info.train_counts, drawn.info.test_counts) == ((600,) * 10, (100,) * 10)
    pictures = {image.tobytes() for split in (drawn.train, drawn.test) for image in split.images}
    assert len(pictures) == 7000
    assert len(set(drawn.train.labels[:50].tolist())) > 5


def test_its_name_says_that_it_is_not_cifar_10(drawn: DataSet) -> None:
    assert drawn.info.name == DRAWN_NAME
    assert "drawn by code, not CIFAR-10" in drawn.info.name
    assert (drawn.info.source, drawn.info.kind) == ("cartoon10", "drawn")


@pytest.mark.filterwarnings("ignore:lbfgs")
def test_linear_model_stays_below_60_percent(drawn: DataSet) -> None:
    from sklearn.linear_model import LogisticRegression

    train, test = (
        split.images.reshape(len(split.labels), -1).astype(np.float32) / 255 for split in (drawn.train, drawn.test)
    )
    model = LogisticRegression(C=0.01, max_iter=60).fit(train, drawn.train.labels)
    assert 0.2 < model.score(test, drawn.test.labels) < 0.6


def test_it_comes_after_all_other_data(drawn: DataSet, tmp_path: Path, tiny_source: Path) -> None:
    open_dataset(tiny_source, tmp_path)
    open_dataset("cartoon10", tmp_path)
    assert [info.kind for info in cached(tmp_path)] == ["folder", "drawn"]


def test_folder_of_its_name_is_named_by_a_path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(DataError, match="There is no file or folder"):
        open_dataset("./cartoon10", tmp_path / "cache")
