"""Whether probabilities mean what they say, and the one number that makes them mean it better."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

BINS = 15
"""Of equal width, as in Guo et al. (2017)."""

COOLEST, HOTTEST = 0.02, 50.0
"""Between these a temperature is looked for."""


@dataclass(frozen=True, eq=False)
class Reliability:
    """Images by the confidence of their prediction, in bins of equal width that hold their upper end.

    Args:
        images: (B,) int64.
        confidence: (B,) mean in each bin; NaN in an empty one.
        accuracy: (B,) share predicted correctly; likewise.
    """

    images: NDArray[np.int64]
    confidence: NDArray[np.float64]
    accuracy: NDArray[np.float64]

    @property
    def ece(self) -> float:
        """Expected calibration error (Guo et al., 2017, equation 3): mean distance of confidence and accuracy."""
        there = self.images > 0
        distance = np.abs(self.confidence[there] - self.accuracy[there])
        return float((distance * self.images[there]).sum() / self.images.sum())

    @property
    def largest_error(self) -> float:
        """Maximum calibration error: the greatest distance in a bin (Guo et al., 2017, equation 5)."""
        return float(np.nanmax(np.abs(self.confidence - self.accuracy)))


def reliability(confidences: NDArray[np.floating], correct: NDArray[np.bool_], bins: int = BINS) -> Reliability:
    """How often predictions of each confidence are right.

    Args:
        confidences: (N,) in [0, 1].
        correct: (N,).
    """
    sure = confidences.astype(np.float64)
    which = np.clip(np.ceil(sure * bins).astype(np.int64) - 1, 0, bins - 1)
    images = np.bincount(which, minlength=bins)
    with np.errstate(invalid="ignore"):
        confidence = np.bincount(which, sure, bins) / images
        accuracy = np.bincount(which, correct, bins) / images
    return Reliability(images, confidence, accuracy)


def confidence_histogram(
    confidences: NDArray[np.floating], correct: NDArray[np.bool_], bins: int = 20
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """(bins,) right and (bins,) wrong images by confidence, in equal bins of [0, 1] that hold their upper end."""
    which = np.clip(np.ceil(confidences.astype(np.float64) * bins).astype(np.int64) - 1, 0, bins - 1)
    return np.bincount(which[correct], minlength=bins), np.bincount(which[~correct], minlength=bins)


def kept_above(confidences: NDArray[np.floating], correct: NDArray[np.bool_], threshold: float) -> tuple[float, float]:
    """What happens if the network may say "I do not know" below a confidence.

    Returns:
        Share of the images that are still answered, and the accuracy on these; NaN where there are none.
    """
    kept = confidences >= threshold
    return float(kept.mean()), float(correct[kept].mean()) if kept.any() else float("nan")


def negative_log_likelihood(logits: NDArray[np.floating], labels: NDArray[np.int64], temperature: float = 1.0) -> float:
    """Mean cross-entropy in nats of logits (N, C) divided by a temperature."""
    scaled = logits.astype(np.float64) / temperature
    top = scaled.max(axis=1)
    total = top + np.log(np.exp(scaled - top[:, None]).sum(axis=1))
    return float((total - scaled[np.arange(len(labels)), labels]).mean())


def fitted_temperature(logits: NDArray[np.floating], labels: NDArray[np.int64]) -> float:
    """The temperature with the least cross-entropy (Guo et al., 2017, section 4.2).

    The loss is convex in the inverse temperature, so that its slope is halved in on. To be fitted on images that are
    not those it is judged on.

    Args:
        logits: (N, C).
        labels: (N,) in [0, C).

    Returns:
        In [COOLEST, HOTTEST]; an end of it where the loss falls up to there, as for a network without a mistake.
    """
    values = logits.astype(np.float64)
    values -= values.max(axis=1, keepdims=True)
    own = values[np.arange(len(labels)), labels].mean()

    def slope(inverse: float) -> float:
        powers = np.exp(values * inverse)
        return float(((powers * values).sum(axis=1) / powers.sum(axis=1)).mean() - own)

    low, high = np.log(1 / HOTTEST), np.log(1 / COOLEST)
    for _ in range(40):
        middle = (low + high) / 2
        low, high = (middle, high) if slope(np.exp(middle)) < 0 else (low, middle)
    return float(np.exp(-(low + high) / 2))
