"""One class against the rest at every threshold: ROC and precision-recall curves, and the areas under them."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from cifar_core.evaluation import Evaluation


@dataclass(frozen=True, eq=False)
class OneAgainstRest:
    """A class told from all others by a threshold on its probability, at each threshold that makes a difference.

    Args:
        thresholds: (T,) falling; an image is said to be of the class from this probability on. The first, infinity,
            takes none.
        hits: (T,) int64, images of the class among those taken.
        false_alarms: (T,) int64, other images among them.
        positives: Images of the class.
        negatives: All others.
    """

    thresholds: NDArray[np.float64]
    hits: NDArray[np.int64]
    false_alarms: NDArray[np.int64]
    positives: int
    negatives: int

    @property
    def recall(self) -> NDArray[np.float64]:
        """(T,) share of the images of the class that are taken; NaN where there are none."""
        return self.hits / (self.positives or np.nan)

    @property
    def false_positive_rate(self) -> NDArray[np.float64]:
        """(T,) share of the other images that are taken; NaN where there are none."""
        return self.false_alarms / (self.negatives or np.nan)

    @property
    def precision(self) -> NDArray[np.float64]:
        """(T,) share of those taken that are of the class; 1 where none is taken, as in scikit-learn."""
        taken = self.hits + self.false_alarms
        return np.divide(self.hits, taken, out=np.ones(len(taken)), where=taken > 0)

    @cached_property
    def auc(self) -> float:
        """Area under the ROC curve: how often an image of the class has a higher probability of it than another image
        (Hanley and McNeil, 1982); NaN where one of the two does not exist."""
        return float(np.trapezoid(self.recall, self.false_positive_rate))

    @cached_property
    def average_precision(self) -> float:
        """Mean of the precisions, weighted by the steps of recall; NaN where the class has no image."""
        return float((np.diff(self.recall) * self.precision[1:]).sum()) if self.positives else float("nan")

    def place(self, threshold: float) -> int:
        """Where a threshold lies on the curves: the last place at which no image below it is taken."""
        return int((self.thresholds >= threshold).sum()) - 1

    def thinned(self, most: int) -> NDArray[np.int64]:
        """Places that draw the curves alike with few points, evenly along their course; first and last among them."""
        if len(self.thresholds) <= most:
            return np.arange(len(self.thresholds))
        way = self.hits / max(self.positives, 1) + self.false_alarms / max(self.negatives, 1)
        chosen = np.searchsorted(way, np.linspace(0, way[-1], most))
        return np.unique(np.concatenate([[0], chosen, [len(way) - 1]]))


def one_against_rest(evaluation: Evaluation, place: int) -> OneAgainstRest:
    """The curves of a class (its number in [0, K))."""
    scores = evaluation.probabilities[:, place]
    order = np.argsort(-scores, kind="stable")
    falling = scores[order].astype(np.float64)
    of_class = evaluation.labels[order] == place
    # Images of one and the same probability are taken together or not at all.
    ends = np.flatnonzero(np.append(np.diff(falling) != 0, True))
    hits = np.cumsum(of_class)[ends]
    return OneAgainstRest(
        np.concatenate([[np.inf], falling[ends]]),
        np.concatenate([[0], hits]).astype(np.int64),
        np.concatenate([[0], ends + 1 - hits]).astype(np.int64),
        int(of_class.sum()),
        int((~of_class).sum()),
    )


def macro_auc(curves: list[OneAgainstRest]) -> float:
    """Mean area under the ROC curves, each class with equal weight; classes without one do not count."""
    areas = [curve.auc for curve in curves if curve.positives and curve.negatives]
    return float(np.mean(areas)) if areas else float("nan")


def macro_average_precision(curves: list[OneAgainstRest]) -> float:
    """Mean average precision over the classes that have images."""
    precisions = [curve.average_precision for curve in curves if curve.positives]
    return float(np.mean(precisions)) if precisions else float("nan")
