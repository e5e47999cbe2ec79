"""Two models on the same images: how far apart they are, whether that is more than chance, and where they differ.

All of it rests on pairs: both models have answered to every image, and only the images on which one is right and the
other wrong tell them apart.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from cifar_core.config import TrainConfig
from cifar_core.evaluation import Evaluation

RESAMPLES = 10_000
LEVEL = 0.95

GROUPS = ("only_first", "only_second", "both_wrong")
"""The images that one model alone gets right, the other alone, and none."""

NO_DIFFERENCE = ("device", "compile", "images_at_once", "keep_every", "keep_logits", "tensorboard")
"""Settings that say where a training is computed and what is kept of it."""

MOST_DISCORDANT_COUNTED = 20_000
"""Above so many discordant images the exact sum of binomial terms is left to its normal approximation."""


@dataclass(frozen=True)
class McNemar:
    """Whether two models err equally often (McNemar, 1947), from the images that only one of them gets right.

    Args:
        only_first: Images that only the first gets right.
        only_second: Images that only the second gets right.
    """

    only_first: int
    only_second: int

    @property
    def discordant(self) -> int:
        return self.only_first + self.only_second

    @property
    def exact(self) -> float:
        """Two-sided p-value of a fair coin, which each discordant image then is; 1 where there is none."""
        tosses, fewer = self.discordant, min(self.only_first, self.only_second)
        if tosses > MOST_DISCORDANT_COUNTED:
            return self.approximate
        term = total = 1
        for k in range(fewer):
            term = term * (tosses - k) // (k + 1)
            total += term
        # Whole numbers until here, as the terms are far beyond what a float can hold.
        return min(1.0, 2 * total / (1 << tosses)) if tosses < 1000 else min(1.0, _quotient(2 * total, tosses))

    @property
    def chi_squared(self) -> float:
        """The statistic with the continuity correction of Edwards (1948), of one degree of freedom."""
        if not self.discordant:
            return 0.0
        return max(abs(self.only_first - self.only_second) - 1, 0) ** 2 / self.discordant

    @property
    def approximate(self) -> float:
        """p-value of `chi_squared`; close to `exact` from some 25 discordant images on."""
        return math.erfc(math.sqrt(self.chi_squared / 2))


def _quotient(number: int, power: int) -> float:
    """number / 2^power, where both are too large for floats."""
    shift = max(number.bit_length() - 64, 0)
    return math.ldexp(float(number >> shift), shift - power)


def bootstrap_interval(
    only_first: int, only_second: int, images: int, seed: int = 0, resamples: int = RESAMPLES, level: float = LEVEL
) -> tuple[float, float]:
    """The paired bootstrap interval of the accuracy of the second less that of the first (Efron, 1979; percentiles).

    The images are drawn anew with replacement, each with the answers of both. Only three kinds of images are told
    apart (second alone right, first alone right, neither), so the numbers of each in a resample are one draw of a
    multinomial distribution, which is the very same thing and takes no loop over images.

    Args:
        images: All of them, discordant or not; at least 1.

    Returns:
        Lower and upper end, as shares in [-1, 1].
    """
    shares = np.array([only_second, only_first, images - only_first - only_second]) / images
    drawn = np.random.default_rng(seed).multinomial(images, shares, size=resamples)
    differences = (drawn[:, 0] - drawn[:, 1]) / images
    low, high = np.quantile(differences, [(1 - level) / 2, (1 + level) / 2])
    return float(low), float(high)


@dataclass(frozen=True, eq=False)
class Comparison:
    """The second model beside the first, on the same images.

    Raises:
        ValueError: They were not evaluated on the same images of the same classes.
    """

    first: Evaluation
    second: Evaluation

    def __post_init__(self) -> None:
        one, other = self.first, self.second
        if one.classes != other.classes:
            raise ValueError("The two models tell different classes apart, so there are no pairs of answers.")
        same = one.facts.get("fingerprint") == other.facts.get("fingerprint")
        if not same or not np.array_equal(one.labels, other.labels):
            raise ValueError("The two models were evaluated on different images, so there are no pairs of answers.")

    @property
    def images(self) -> int:
        return len(self.first)

    @property
    def difference(self) -> float:
        """Accuracy of the second less that of the first, as a share."""
        return self.second.accuracy - self.first.accuracy

    @cached_property
    def test(self) -> McNemar:
        right, other = self.first.correct, self.second.correct
        return McNemar(int((right & ~other).sum()), int((other & ~right).sum()))

    @cached_property
    def interval(self) -> tuple[float, float]:
        """The 95 % paired bootstrap interval of `difference`; always the same for the same answers."""
        return bootstrap_interval(self.test.only_first, self.test.only_second, self.images)

    def group(self, name: str) -> NDArray[np.int64]:
        """Indices of the images of one of `GROUPS`, those first on which the probabilities of the true class differ
        most; for images that both get wrong, those first that both give the least probability."""
        right, other = self.first.correct, self.second.correct
        chosen = {"only_first": right & ~other, "only_second": other & ~right, "both_wrong": ~right & ~other}[name]
        rows = np.arange(self.images)
        one, two = (each.probabilities[rows, each.labels].astype(np.float64) for each in (self.first, self.second))
        order = one + two if name == "both_wrong" else -np.abs(one - two)
        indices = np.flatnonzero(chosen)
        return indices[np.argsort(order[indices], kind="stable")].astype(np.int64)

    def per_class(self) -> pd.DataFrame:
        """The accuracy on the images of each class, and how far apart the two are.

        Returns:
            One row per class that has images: first, second, difference, low, high (of the 95 % paired bootstrap
            interval of the difference), images, only_first, only_second.
        """
        rows = {}
        right, other = self.first.correct, self.second.correct
        for k, name in enumerate(self.first.classes):
            there = self.first.labels == k
            images = int(there.sum())
            if not images:
                continue
            only_first = int((right & ~other & there).sum())
            only_second = int((other & ~right & there).sum())
            low, high = bootstrap_interval(only_first, only_second, images)
            rows[name] = {
                "first": float(right[there].mean()),
                "second": float(other[there].mean()),
                "difference": (only_second - only_first) / images,
                "low": low,
                "high": high,
                "images": images,
                "only_first": only_first,
                "only_second": only_second,
            }
        table = pd.DataFrame.from_dict(rows, orient="index")
        table.index.name = "class"
        return table

    def sentence(self, first: str = "A", second: str = "B") -> str:
        """What a person may take from it, e.g. "B is better by 1.2 points (95 % interval 0.6 to 1.8)"."""
        if not self.test.discordant:
            return f"{first} and {second} are right on exactly the same images."
        low, high = self.interval
        # Of a few images on which they differ the bootstrap cannot see both sides; the exact test can.
        if (low > 0 or high < 0) and self.test.exact < 1 - LEVEL:
            better = second if low > 0 else first
            reach = sorted((abs(low), abs(high)))
            gap = abs(self.difference)
            return f"{better} is better by {_points(gap)} (95 % interval {_number(reach[0])} to {_number(reach[1])})."
        return (
            f"{first} and {second} cannot be told apart on these images: {second} less {first} is "
            f"{_signed(self.difference)} points (95 % interval {_signed(low)} to {_signed(high)}), which may be chance."
        )


def _number(share: float) -> str:
    """In percentage points, with a second digit where the first says nothing."""
    points = 100 * share
    return f"{points:.1f}" if points == 0 or abs(points) >= 0.095 else f"{points:.2f}"


def _points(share: float) -> str:
    number = _number(share)
    return f"{number} point" if number == "1.0" else f"{number} points"


def _signed(share: float) -> str:
    number = _number(abs(share))
    return number if float(number) == 0 else f"{'−' if share < 0 else '+'}{number}"


def holm(p_values: Sequence[float]) -> list[float]:
    """p-values of several tests, so raised that all of them together err as seldom as one (Holm, 1979)."""
    order = sorted(range(len(p_values)), key=p_values.__getitem__)
    raised, highest = [0.0] * len(p_values), 0.0
    for place, index in enumerate(order):
        highest = max(highest, min(1.0, (len(p_values) - place) * p_values[index]))
        raised[index] = highest
    return raised


def same_but_for_the_seed(settings: Mapping[str, TrainConfig]) -> list[list[str]]:
    """Names of trainings that differ in nothing but the seed, in groups of at least two seeds.

    Args:
        settings: Of each training by its name.

    Returns:
        Groups in the order of their first members. Settings without effect, and where and how fast it is computed, are
        no difference.
    """
    groups: dict[str, list[str]] = {}
    for name, config in settings.items():
        values = {
            field: value
            for field, value in dataclasses.asdict(config).items()
            if field not in ("seed", *NO_DIFFERENCE) and config.used(field)
        }
        groups.setdefault(repr(sorted(values.items())), []).append(name)
    return [names for names in groups.values() if len({settings[name].seed for name in names}) > 1]


def smoothed(values: Sequence[float], weight: float) -> list[float]:
    """The exponential moving average of a curve, without its bias towards zero at the beginning, as in TensorBoard.

    Args:
        weight: Of the past, in [0, 1); 0 leaves the curve as it is. What is no number is left out of the average.
    """
    average, mass, result = 0.0, 0.0, []
    for value in values:
        if math.isfinite(value):
            average = weight * average + (1 - weight) * value
            mass = weight * mass + (1 - weight)
        result.append(average / mass if mass else value)
    return result


def best_so_far(values: Sequence[float], rising: bool) -> list[float]:
    """The best of all values up to each.

    Args:
        rising: Whether more is better.
    """
    numbers = np.asarray(values, np.float64)
    return (np.fmax if rising else np.fmin).accumulate(numbers).tolist() if len(numbers) else []
