"""ROC and precision-recall curves are those of scikit-learn."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn import metrics

from cifar_core.curves import macro_auc, macro_average_precision, one_against_rest
from cifar_core.evaluation import Evaluation

CLASSES = ("a", "b", "c", "d")


def answers(images: int = 400, ties: bool = False, seed: int = 0) -> Evaluation:
    random = np.random.default_rng(seed)
    labels = random.integers(0, 4, images)
    logits = random.normal(0, 1, (images, 4)) + 1.2 * np.eye(4)[labels]
    probabilities = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    if ties:
        probabilities = (probabilities * 4).round() + 0.5
        probabilities /= probabilities.sum(axis=1, keepdims=True)
    return Evaluation(labels, probabilities.astype(np.float32), CLASSES)


@pytest.mark.parametrize("ties", [False, True])
@pytest.mark.parametrize("place", range(4))
def test_both_curves_are_those_of_scikit_learn(place: int, ties: bool) -> None:
    evaluation = answers(ties=ties)
    curve = one_against_rest(evaluation, place)
    is_class, scores = evaluation.labels == place, evaluation.probabilities[:, place].astype(np.float64)
    false_rate, true_rate, thresholds = metrics.roc_curve(is_class, scores, drop_intermediate=False)
    assert curve.false_positive_rate == pytest.approx(false_rate)
    assert curve.recall == pytest.approx(true_rate)
    assert (curve.thresholds == thresholds).all()
    assert curve.auc == pytest.approx(metrics.roc_auc_score(is_class, scores))
    precision, recall, _ = metrics.precision_recall_curve(is_class, scores)
    assert curve.precision == pytest.approx(precision[::-1])
    assert curve.recall == pytest.approx(recall[::-1])
    assert curve.average_precision == pytest.approx(metrics.average_precision_score(is_class, scores))


def test_macro_areas_are_those_of_scikit_learn() -> None:
    evaluation = answers()
    curves = [one_against_rest(evaluation, place) for place in range(4)]
    probabilities = evaluation.probabilities.astype(np.float64)
    probabilities /= probabilities.sum(axis=1, keepdims=True)
    theirs = metrics.roc_auc_score(evaluation.labels, probabilities, multi_class="ovr", average="macro")
    assert macro_auc(curves) == pytest.approx(theirs, abs=1e-6)
    one_hot = np.eye(4)[evaluation.labels]
    expected = metrics.average_precision_score(one_hot, evaluation.probabilities, average="macro")
    assert macro_average_precision(curves) == pytest.approx(expected, abs=1e-6)


def test_a_threshold_lies_where_the_images_above_it_are_taken() -> None:
    evaluation = answers(ties=True)
    curve = one_against_rest(evaluation, 1)
    for threshold in (0.0, 0.1, 0.25, 0.5, 0.9, 1.0):
        taken = evaluation.probabilities[:, 1] >= threshold
        place = curve.place(threshold)
        assert curve.hits[place] == (taken & (evaluation.labels == 1)).sum()
        assert curve.false_alarms[place] == (taken & (evaluation.labels != 1)).sum()


def test_a_class_without_images_has_no_area_and_does_not_count() -> None:
    evaluation = answers()
    kept = evaluation.labels != 3
    without = Evaluation(evaluation.labels[kept], evaluation.probabilities[kept], CLASSES)
    curves = [one_against_rest(without, place) for place in range(4)]
    assert np.isnan(curves[3].auc)
    assert np.isnan(curves[3].average_precision)
    assert macro_auc(curves) == pytest.approx(np.mean([curve.auc for curve in curves[:3]]))
    assert macro_average_precision(curves) == pytest.approx(np.mean([c.average_precision for c in curves[:3]]))


def test_a_thinned_curve_has_the_same_area_but_for_little() -> None:
    curve = one_against_rest(answers(5000), 2)
    chosen = curve.thinned(100)
    assert len(chosen) <= 102
    assert {0, len(curve.thresholds) - 1} <= set(chosen.tolist())
    area = np.trapezoid(curve.recall[chosen], curve.false_positive_rate[chosen])
    assert area == pytest.approx(curve.auc, abs=1e-3)
