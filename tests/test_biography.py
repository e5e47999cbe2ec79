"""What became of each image, and the figures of all epochs at once."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from sklearn.metrics import confusion_matrix, log_loss

from cifar_core import logits
from cifar_core.biography import NEVER, biographies
from cifar_core.evaluation import Evaluation
from cifar_core.logits import Images, Logits
from cifar_core.timeline import timeline

EPOCHS = (1, 2, 4, 8)


def story(right: list[list[int]]) -> Logits:
    """Two classes, all images of the first; `right` says of each image at which epochs it is right."""
    held = np.array(right, bool).T
    values = np.where(held[:, :, None], [0.0, -2.0], [-1.0, 0.0]).astype(np.float16)
    images = Images(np.zeros(len(right), np.int64), np.arange(len(right)) + 100, ("a", "b"), {})
    return Logits(images, np.array(EPOCHS), values)


def test_a_worked_example_is_told_as_by_hand() -> None:
    told = biographies(story([[0, 0, 0, 0], [1, 1, 1, 1], [0, 1, 0, 1], [1, 0, 1, 0], [0, 0, 1, 1]]))
    assert told["index"].tolist() == [100, 101, 102, 103, 104]
    assert told["learned"].tolist() == [NEVER, 1, 2, 1, 4]
    assert told["for_good"].tolist() == [NEVER, 1, 8, NEVER, 4]
    assert told["forgotten"].tolist() == [0, 0, 1, 2, 0]
    assert told["correctness"].tolist() == [0, 1, 0.5, 0.5, 0.5]
    assert told["right"].tolist() == [False, True, True, False, True]
    sure, unsure = 1 / (1 + np.exp(-2)), 1 / (1 + np.exp(1))
    assert told["confidence"].tolist() == pytest.approx([unsure, sure, *[(sure + unsure) / 2] * 3], rel=1e-5)
    assert told["variability"].tolist() == pytest.approx([0, 0, *[(sure - unsure) / 2] * 3], rel=1e-5, abs=1e-7)


def test_one_epoch_has_no_forgetting() -> None:
    one = story([[1, 0, 0, 0], [0, 0, 0, 0]])
    told = biographies(Logits(one.images, one.epochs[:1], one.values[:1]))
    assert told["learned"].tolist() == [1, NEVER]
    assert told["for_good"].tolist() == [1, NEVER]
    assert told["forgotten"].tolist() == [0, 0]
    assert told["variability"].tolist() == [0, 0]


def test_all_epochs_at_once_say_what_each_says_alone(tmp_path: Path) -> None:
    random = np.random.default_rng(3)
    labels = random.integers(0, 4, 300)
    logits.begin(tmp_path, Images(labels, np.arange(300), ("a", "b", "c", "d"), {}))
    for epoch in (1, 2, 3):
        logits.keep(tmp_path, epoch, random.normal(0, 1, (300, 4)) + epoch * np.eye(4)[labels])
    read = logits.read(tmp_path)
    told = timeline(read, worst=5)
    for place, epoch in enumerate((1, 2, 3)):
        alone = read.at(epoch)
        assert (told.confusion[place] == confusion_matrix(labels, alone.predictions)).all()
        assert told.loss[place] == pytest.approx(
            log_loss(labels, alone.probabilities.astype(np.float64), labels=range(4)), rel=1e-4
        )
        worst = alone.mistakes(5)
        assert told.worst[place].tolist() == worst["index"].tolist()
        assert told.worst_true[place].tolist() == pytest.approx(worst["probability_true"].tolist())
        assert told.worst_confidence[place].tolist() == pytest.approx(worst["probability_predicted"].tolist())
        images, confidence, accuracy = told.bins[place].T
        there = images > 0
        assert images.sum() == 300
        assert (confidence[there] @ images[there]) / 300 == pytest.approx(alone.confidences.mean(), rel=1e-5)
        assert (accuracy[there] @ images[there]) / 300 == pytest.approx(alone.accuracy)


def test_losses_of_hopeless_images_are_exact_and_order_the_mistakes(tmp_path: Path) -> None:
    """Where the probability itself is too small for float32."""
    depths = np.array([150.0, 300.0, 200.0, 90.0])
    logits.begin(tmp_path, Images(np.zeros(4, np.int64), np.arange(4), ("a", "b"), {}))
    logits.keep(tmp_path, 1, np.stack([-depths, np.zeros(4)], axis=1))
    read = logits.read(tmp_path)
    told, alone = timeline(read, worst=4), read.at(1)
    assert told.loss[0] == pytest.approx(depths.mean(), rel=1e-3)
    assert told.worst[0].tolist() == [1, 2, 0, 3]
    assert alone.losses == pytest.approx(depths, rel=1e-3)
    assert alone.mistakes(4)["index"].tolist() == [1, 2, 0, 3]
    alone.save(tmp_path / "evaluation.npz")
    assert Evaluation.load(tmp_path / "evaluation.npz").losses == pytest.approx(depths, rel=1e-3)
    assert alone.some(np.array([1])).losses == pytest.approx([300], rel=1e-3)


def test_where_little_is_wrong_the_rest_is_marked_as_missing() -> None:
    told = timeline(story([[1, 1, 1, 1], [0, 1, 1, 1]]), worst=3)
    assert told.worst.tolist() == [[1, -1, -1], *[[-1, -1, -1]] * 3]
