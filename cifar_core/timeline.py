"""What an evaluation says, for all epochs at once, so that a page goes from one to another without computing."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from cifar_core.calibration import reliability
from cifar_core.evaluation import cross_entropy, softmax
from cifar_core.logits import Logits


@dataclass(frozen=True, eq=False)
class Timeline:
    """Figures of each kept epoch.

    Args:
        epochs: (E,) int64, ascending.
        confusion: (E, K, K) int64, images by true class (row) and predicted one.
        loss: (E,) mean cross-entropy in nats.
        ece: (E,) expected calibration error.
        bins: (E, B, 3): images, mean confidence and accuracy by confidence; NaN in empty bins.
        worst: (E, W) int64, places of the wrong images with the greatest loss, that first; -1 where there are no more.
        worst_true: (E, W) probability of their own class.
        worst_predicted: (E, W) class that is predicted.
        worst_confidence: (E, W) its probability.
    """

    epochs: NDArray[np.int64]
    confusion: NDArray[np.int64]
    loss: NDArray[np.float64]
    ece: NDArray[np.float64]
    bins: NDArray[np.float64]
    worst: NDArray[np.int64]
    worst_true: NDArray[np.float32]
    worst_predicted: NDArray[np.int64]
    worst_confidence: NDArray[np.float32]


def timeline(logits: Logits, worst: int = 24) -> Timeline:
    """All epochs of the logits; an epoch of 10,000 images and ten classes takes some milliseconds."""
    labels, count = logits.images.labels, len(logits.images.classes)
    rows = np.arange(len(labels))
    confusions, losses, eces, bins = [], [], [], []
    places = np.full((len(logits.epochs), worst), -1, np.int64)
    true, sure = np.zeros(places.shape, np.float32), np.zeros(places.shape, np.float32)
    said = np.zeros(places.shape, np.int64)
    for epoch, values in enumerate(logits.values):
        probabilities, predictions = softmax(values), logits.predictions[epoch].astype(np.int64)
        confusions.append(np.bincount(labels * count + predictions, minlength=count**2).reshape(count, count))
        own, confidences = probabilities[rows, labels], probabilities[rows, predictions]
        nats = cross_entropy(values, labels)
        losses.append(nats.mean())
        found = reliability(confidences, predictions == labels)
        eces.append(found.ece)
        bins.append(np.stack([found.images, found.confidence, found.accuracy], axis=1))
        wrong = np.flatnonzero(predictions != labels)
        wrong = wrong[np.argsort(-nats[wrong], kind="stable")][:worst]
        places[epoch, : len(wrong)], true[epoch, : len(wrong)] = wrong, own[wrong]
        said[epoch, : len(wrong)], sure[epoch, : len(wrong)] = predictions[wrong], confidences[wrong]
    return Timeline(
        logits.epochs,
        np.stack(confusions).astype(np.int64),
        np.array(losses),
        np.array(eces),
        np.stack(bins),
        places,
        true,
        said,
        sure,
    )
