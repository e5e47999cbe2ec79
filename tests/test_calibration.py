"""Calibration agrees with scikit-learn, with plain loops, and with what is known by construction."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn.calibration import calibration_curve
from sklearn.metrics import log_loss

from cifar_core.calibration import (
    HOTTEST,
    confidence_histogram,
    fitted_temperature,
    kept_above,
    negative_log_likelihood,
    reliability,
)
from cifar_core.evaluation import softmax


def said(images: int = 3000, sharpness: float = 1.0, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Logits whose probabilities are true but for a factor: labels are drawn from the softmax of logits / factor."""
    random = np.random.default_rng(seed)
    logits = random.normal(0, 2, (images, 5))
    labels = (softmax(logits).cumsum(axis=1) > random.random((images, 1))).argmax(axis=1)
    return logits * sharpness, labels


def test_bins_hold_what_a_loop_puts_into_them_and_what_scikit_learn_finds() -> None:
    logits, labels = said()
    probabilities = softmax(logits)
    sure, right = probabilities.max(axis=1).astype(np.float64), probabilities.argmax(axis=1) == labels
    found = reliability(sure, right)
    error = 0.0
    for i in range(15):
        inside = (sure > i / 15) & (sure <= (i + 1) / 15)
        assert found.images[i] == inside.sum()
        if inside.any():
            error += inside.mean() * abs(right[inside].mean() - sure[inside].mean())
    assert found.ece == pytest.approx(error)
    accuracy, confidence = calibration_curve(right, sure, n_bins=15)
    there = found.images > 0
    assert found.accuracy[there] == pytest.approx(accuracy)
    assert found.confidence[there] == pytest.approx(confidence)
    assert found.largest_error == pytest.approx(np.abs(accuracy - confidence).max())


def test_certainty_lies_in_the_last_bin_and_none_in_the_first() -> None:
    found = reliability(np.array([1.0, 0.0]), np.array([True, False]))
    assert (found.images[0], found.images[-1], found.ece) == (1, 1, 0.0)


def test_the_loss_is_that_of_scikit_learn_at_any_temperature() -> None:
    logits, labels = said()
    for temperature in (0.5, 1.0, 3.0):
        expected = log_loss(labels, softmax(logits, temperature).astype(np.float64), labels=range(5))
        assert negative_log_likelihood(logits, labels, temperature) == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize("sharpness", [0.4, 1.0, 2.5])
def test_the_fitted_temperature_is_what_the_logits_were_sharpened_by(sharpness: float) -> None:
    logits, labels = said(20_000, sharpness)
    fitted = fitted_temperature(logits, labels)
    assert fitted == pytest.approx(sharpness, rel=0.03)
    best = negative_log_likelihood(logits, labels, fitted)
    for near in (0.99, 1.01):
        assert best <= negative_log_likelihood(logits, labels, fitted * near)


def test_a_network_without_a_mistake_is_made_as_sure_as_can_be_and_one_that_guesses_as_unsure() -> None:
    labels = np.array([0, 1, 2])
    assert fitted_temperature(np.eye(3), labels) == pytest.approx(0.02, rel=1e-3)
    assert fitted_temperature(np.eye(3)[[1, 2, 0]], labels) == pytest.approx(HOTTEST, rel=1e-3)


def test_histograms_count_every_image_once() -> None:
    sure, right = np.array([0.05, 0.051, 0.5, 1.0]), np.array([True, False, False, True])
    hits, misses = confidence_histogram(sure, right)
    assert hits.nonzero()[0].tolist() == [0, 19]
    assert misses.nonzero()[0].tolist() == [1, 9]


def test_answers_above_a_threshold_are_told_with_their_share() -> None:
    sure, right = np.array([0.2, 0.5, 0.7, 0.9]), np.array([False, False, True, True])
    assert kept_above(sure, right, 0.5) == (0.75, pytest.approx(2 / 3))
    share, accuracy = kept_above(sure, right, 0.95)
    assert share == 0
    assert np.isnan(accuracy)
