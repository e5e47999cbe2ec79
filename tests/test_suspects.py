"""Near-duplicates, label errors and outliers; and that planted ones are found."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from cifar_core import job
from cifar_core.attributes import of_images
from cifar_core.config import TrainConfig
from cifar_core.datasets import Split, open_cached, open_dataset
from cifar_core.runs import Run
from cifar_core.suspects import (
    Confidence,
    Pairs,
    alike_pairs,
    details,
    found_share,
    join_pairs,
    leaked,
    nearest,
    planted,
    wrong_with_copies,
)
from tests.conftest import Tiny, tiny_config
from tests.shapes import drawn_folder

RANDOM = np.random.default_rng(0)


def pictures(count: int, seed: int = 0, rough: int = 8) -> np.ndarray:
    """Smooth random images, as photos are, unlike each other; the rougher, the sharper."""
    drawn = np.random.default_rng(seed).integers(0, 256, (count, rough, rough, 3), np.uint8)
    smooth = [Image.fromarray(image).resize((32, 32), Image.Resampling.BICUBIC) for image in drawn]
    return np.stack([np.asarray(image) for image in smooth]).transpose(0, 3, 1, 2)


def pairs_of(*splits: np.ndarray) -> Pairs:
    thumbs = np.concatenate([of_images(split).thumbs for split in splits])
    return join_pairs([pairs for _, _, pairs in alike_pairs(thumbs, splits)]).ranked()


# Near-duplicates ------------------------------------------------------------------------------------------------------


def test_the_likeness_is_the_correlation_of_details() -> None:
    images = pictures(2)
    first, second = (image.reshape(3, 16, 2, 16, 2).mean((2, 4)) for image in images / 255)
    rough = [view - view.reshape(3, 4, 4, 4, 4).mean((2, 4)).repeat(4, 1).repeat(4, 2) for view in (first, second)]
    wanted = np.corrcoef(rough[0].ravel(), rough[1].ravel())[0, 1]
    one, other = details(images, 16)
    assert one @ other == pytest.approx(wanted, abs=1e-5)
    assert one @ one == pytest.approx(1, abs=1e-5)


@pytest.mark.parametrize("change", ["none", "brighter", "noise", "mirror", "shift"])
def test_an_altered_copy_is_found_and_nothing_else(change: str) -> None:
    images = pictures(80)
    copy = images[7].astype(np.float32)
    if change == "brighter":
        copy = copy * 0.6 + 60
    elif change == "noise":
        copy = copy + RANDOM.normal(0, 6, copy.shape)
    elif change == "mirror":
        copy = copy[..., ::-1]
    elif change == "shift":
        copy = np.roll(copy, 1, axis=2)
    test = np.stack([images[3] // 2 + pictures(1, 9)[0] // 2, copy.clip(0, 255).astype(np.uint8)])
    found = pairs_of(images, test)
    assert (found.first[0], found.second[0], found.mirrored[0]) == (7, 81, change == "mirror")
    assert not set(found.second[1:]) - {80}, "the mixture with image 3 may be like it"
    assert leaked(found.at(np.array([0])), 80).tolist() == [1]


@pytest.mark.parametrize("mirrored", [False, True])
def test_a_shift_by_a_pixel_costs_hardly_any_likeness(mirrored: bool) -> None:
    """At half of the sides it would be half a pixel, which smears all that is sharp."""
    images = pictures(40, rough=16)
    copy = np.roll(images[7:8], (1, -1), axis=(2, 3))
    found = pairs_of(images, copy[..., ::-1] if mirrored else copy)
    assert (found.first[0], found.second[0], found.mirrored[0]) == (7, 40, mirrored)
    # All but the edge, where other pixels have moved in.
    assert found.scores[0] > 0.9


def test_pairs_within_a_split_leak_nothing() -> None:
    images = pictures(10)
    found = pairs_of(np.concatenate([images, images[:1]]), pictures(3, 5))
    assert (found.first.tolist(), found.second.tolist()) == ([0], [10])
    assert not len(leaked(found, 11))


def test_images_of_one_tone_are_no_duplicates_of_each_other() -> None:
    tones = np.full((5, 3, 32, 32), 100, np.uint8)
    assert not len(pairs_of(tones))


def test_pairs_are_ranked_and_each_is_there_once() -> None:
    pairs = Pairs(*(np.array(column) for column in ([1, 1, 0], [2, 2, 5], [False, True, False], [0.8, 0.9, 0.85])))
    ranked = pairs.ranked()
    assert list(zip(ranked.first, ranked.second, ranked.mirrored, strict=True)) == [(1, 2, True), (0, 5, False)]


# Label errors ---------------------------------------------------------------------------------------------------------


def noisy(images: int = 600, classes: int = 4, seed: int = 1) -> tuple[np.ndarray, np.ndarray]:
    """Labels of which some are wrong, and predictions that mostly know better."""
    random = np.random.default_rng(seed)
    truth = random.choice(classes, images, p=[0.4, 0.3, 0.2, 0.1])
    logits = random.normal(0, 1, (images, classes))
    logits[np.arange(images), truth] += 2.5
    labels = np.where(random.random(images) < 0.1, random.integers(0, classes, images), truth)
    probabilities = np.exp(logits) / np.exp(logits).sum(1, keepdims=True)
    return labels, probabilities.astype(np.float32)


def test_confident_learning_counts_as_the_paper_says() -> None:
    """Written once more from Northcutt et al. (2021), image by image."""
    labels, probabilities = noisy(200)
    thresholds = [np.mean([p[j] for p, y in zip(probabilities, labels, strict=True) if y == j]) for j in range(4)]
    joint = np.zeros((4, 4), int)
    for p, y in zip(probabilities, labels, strict=True):
        confident = [j for j in range(4) if p[j] >= thresholds[j]]
        if confident:
            joint[y, max(confident, key=lambda j: p[j])] += 1
    found = Confidence(labels, probabilities)
    np.testing.assert_allclose(found.thresholds, thresholds, rtol=1e-5)
    np.testing.assert_array_equal(found.joint, joint)


def test_confident_learning_agrees_with_cleanlab() -> None:
    count = pytest.importorskip("cleanlab.count")
    rank = pytest.importorskip("cleanlab.rank")
    labels, probabilities = noisy()
    found = Confidence(labels, probabilities)
    joint, issues = count.compute_confident_joint(
        labels, probabilities, calibrate=False, return_indices_of_off_diagonals=True
    )
    # cleanlab counts every class at least once on the diagonal, which is so here.
    np.testing.assert_array_equal(found.joint, joint)
    assert found.confident.tolist() == sorted(issues)
    np.testing.assert_allclose(found.given, rank.get_self_confidence_for_each_label(labels, probabilities), atol=1e-6)
    calibrated = count.calibrate_confident_joint(joint, labels)
    off_diagonal = calibrated.sum() - np.trace(calibrated)
    assert found.errors_expected == pytest.approx(off_diagonal, rel=0.03)


def test_suspects_begin_with_the_least_likely_label() -> None:
    labels, probabilities = noisy()
    found = Confidence(labels, probabilities)
    suspects = found.suspects()
    assert (np.diff(found.given[suspects]) >= 0).all()
    assert (probabilities[suspects].argmax(1) != labels[suspects]).all()
    assert set(found.confident) <= set(suspects)


def test_a_class_without_images_is_nobodys_guess() -> None:
    labels = np.array([0, 0, 1, 1])
    probabilities = np.array([[0.6, 0.1, 0.3], [0.2, 0.1, 0.7], [0.1, 0.8, 0.1], [0.3, 0.6, 0.1]], np.float32)
    assert 2 not in Confidence(labels, probabilities).guesses


# Outliers -------------------------------------------------------------------------------------------------------------


def test_the_nearest_are_those_of_an_exhaustive_search() -> None:
    from sklearn.neighbors import NearestNeighbors

    embeddings = RANDOM.normal(0, 1, (1203, 8)).astype(np.float32)
    blocks = list(nearest(embeddings, 5))
    assert [block[0] for block in blocks] == [500, 1000, 1203]
    distances = np.concatenate([block[3] for block in blocks])
    places = np.concatenate([block[2] for block in blocks])
    wanted, _ = NearestNeighbors(n_neighbors=6, metric="cosine").fit(embeddings).kneighbors(embeddings)
    np.testing.assert_allclose(distances, wanted[:, 1:], atol=1e-5)
    assert not (places == np.arange(1203)[:, None]).any(), "an image is no neighbour of itself"


# Test of truth --------------------------------------------------------------------------------------------------------


def test_what_is_planted_is_what_is_said_to_be(tiny: Tiny) -> None:
    data = open_cached(tiny.info.id, tiny.cache)
    put = planted(data.train, 3, 100, seed=4)
    again = planted(data.train, 3, 100, seed=4)
    np.testing.assert_array_equal(put.split.images, again.split.images)
    assert (len(put.split.labels), len(put.wrong), len(put.copies)) == (110, 3, 10)
    truth = np.array([0] * 34 + [1] * 33 + [2] * 33)
    assert np.flatnonzero(put.split.labels[:100] != truth).tolist() == put.wrong.tolist()
    np.testing.assert_array_equal(put.split.labels[put.copies], put.split.labels[put.originals])


def test_among_few_images_one_is_copied(tiny: Tiny) -> None:
    put = planted(open_cached(tiny.info.id, tiny.cache).train, 3, 8, seed=0)
    assert len(put.copies) == len(put.originals) == 1
    assert len(put.split.images) == 9


def test_the_copy_of_a_wrongly_labelled_image_has_a_wrong_label_too(tiny: Tiny) -> None:
    data = open_cached(tiny.info.id, tiny.cache)
    put = next(put for put in (planted(data.train, 3, 150, seed) for seed in range(20))
               if np.isin(put.originals, put.wrong).any())  # fmt: skip
    truth = np.repeat(np.arange(3), 50)
    truth = np.concatenate([truth, truth[put.originals]])
    found = wrong_with_copies(put.wrong, put.originals, put.copies)
    assert found.tolist() == np.flatnonzero(put.split.labels != truth).tolist()
    assert len(found) > len(put.wrong)


def test_the_share_found_grows_along_the_ranking() -> None:
    assert found_share(np.array([4, 1, 9, 2]), np.array([1, 2, 3, 4])).tolist() == [0.25, 0.5, 0.5, 0.75]


def done(folder: job.WorkFolder, task: dict, cache: Path) -> None:
    """Do a task in this process."""
    (folder.path / "task.json").write_text(json.dumps(task))
    with folder.held():
        assert [event for event in job.execute_task(folder, cache)][-1].outcome == "finished", folder.log_tail()


def test_at_least_four_fifths_of_planted_copies_are_at_the_top_of_the_list() -> None:
    """The top is as many pairs as copies were planted."""
    put = planted(Split(pictures(1000), np.arange(1000) % 10), 10, 1000, seed=1)
    assert len(put.copies) == 100
    found = pairs_of(put.split.images)
    wanted = set(zip(put.originals.tolist(), put.copies.tolist(), strict=True))
    top = set(list(zip(found.first.tolist(), found.second.tolist(), strict=True))[:100])
    assert len(wanted & top) >= 95


@pytest.fixture
def quick_crossing(monkeypatch: pytest.MonkeyPatch, tiny: Tiny) -> None:
    """Out-of-fold networks that learn drawn shapes in seconds."""

    def settings(images: int, fold: int, folds: int = 3) -> TrainConfig:
        return tiny_config(tiny, epochs=5, folds=folds, fold=fold, flip=0.0)

    monkeypatch.setattr("cifar_core.crossing.settings", settings)


def test_at_least_four_fifths_of_planted_wrong_labels_are_at_the_top_of_the_list(
    tmp_path: Path, quick_crossing: None
) -> None:
    """The demonstration of the Data page on drawn images; the top is twice as many as were planted."""
    cache = tmp_path / "data" / "cache"
    info = open_dataset(drawn_folder(tmp_path / "shapes", train=200, test=3, seed=1), cache).info
    folder, task = job.demonstration_task(cache.parent, info, 600)
    done(folder, task, cache)
    with np.load(folder.path / "demonstration.npz") as found:
        assert (len(found["wrong"]), len(found["copies"]), int(found["images"])) == (18, 60, 660)
        share = found_share(found["suspects"], found["wrong"])
        assert share[min(36, len(share)) - 1] >= 0.8, (float(found["agreement"]), share)


def test_with_a_run_errors_are_planted_into_the_test_images_it_has_not_seen(
    tiny: Tiny, trained_run: Run, tmp_path: Path
) -> None:
    folder, task = job.demonstration_task(tmp_path, tiny.info, 60, trained_run)
    done(folder, task, tiny.cache)
    with np.load(folder.path / "demonstration.npz") as found:
        assert json.loads(str(found["facts"]))["split"] == "test"
        assert int(found["images"]) == 66


def test_predictions_and_neighbours_of_a_split_are_kept_with_what_they_are_of(tiny: Tiny, trained_run: Run) -> None:
    folder, task = job.known_task(trained_run, "best", tiny.info, "train")
    done(folder, task, tiny.cache)
    with np.load(folder.path / "known.npz") as known:
        facts = json.loads(str(known["facts"]))
        assert (facts["run"], facts["split"], facts["split_images"]) == (trained_run.id, "train", 180)
        assert known["probabilities"].shape == (180, 3)
        assert known["neighbours"].shape == known["distances"].shape == (180, 10)


def test_duplicates_across_splits_are_kept(tmp_path: Path, tiny: Tiny) -> None:
    data = open_cached(tiny.info.id, tiny.cache)
    leaking = Split(np.concatenate([data.test.images[:-1], data.train.images[5:6]]), data.test.labels)
    pairs = pairs_of(data.train.images, leaking.images)
    assert 59 in leaked(pairs, 180)
    assert dataclasses.is_dataclass(pairs)
