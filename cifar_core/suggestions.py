"""Learning rates that the curve of a range test speaks for; pure functions, which need no torch."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from cifar_core.config import FIELDS, TrainConfig
from cifar_core.events import Boot, Event, Tried

Curve = NDArray[np.float64]

FEWEST_POINTS = 15
"""Of fewer points nothing is read."""

SMALLEST_FALL = 0.01
"""Share of the loss by which it must fall somewhere; less is noise."""

SLOPE_DECADES = 0.5

SLIDE_SPACING = 8 / 99
"""Decades between two points of fastai's test, 100 of them from 1e-7 to 10, for which the numbers below were found."""
SLIDE_POINTS = 15
SLIDE_THRESHOLD = 0.005


@dataclass(frozen=True)
class Suggestion:
    """A learning rate to use, or None where the curve offers none, and the reason in a sentence."""

    name: str
    learning_rate: float | None
    sentence: str


def rates(config: TrainConfig) -> tuple[float, float]:
    """The smallest and the largest learning rate worth trying with an optimiser.

    Steps of Adam's kind have the size of the rate itself, those of SGD that of the gradient too; with fixed norms the
    rate is the share of its norm by which a weight turns, of which more than all makes no sense.
    """
    if config.optimizer == "muon" and config.fixed_norm:
        return 1e-4, 2.0
    return (1e-6, 1.0) if config.optimizer in ("adam", "adamw", "rmsprop", "muon") else (1e-5, 10.0)


def tried(events: Sequence[Event]) -> list[Tried]:
    """The points of the last range test in a log."""
    points: list[Tried] = []
    for event in events:
        if isinstance(event, Boot):
            points = []
        elif isinstance(event, Tried):
            points.append(event)
    return points


def suggestions(points: Sequence[Tried], fixed_norm: bool = False) -> list[Suggestion]:
    """What the four rules say to a curve, in the order minimum/10, steepest, valley, slide.

    Args:
        fixed_norm: The steps turn weights of fixed norm, and a fifth rule says more than those, which are for SGD.

    As fastai does it, the first tenth of the points and the last five are left out: there the mean has not settled,
    or the loss has broken already. All rules look at the smoothed loss.
    """
    kept = [point for point in points[len(points) // 10 : -5] if np.isfinite(point.smoothed)]
    rate = np.array([point.learning_rate for point in kept])
    loss = np.array([point.smoothed for point in kept])
    if len(kept) < FEWEST_POINTS:
        return [Suggestion(name, None, "The test has too few points to read a rate from.") for name in RULES]
    if loss[0] - loss.min() < SMALLEST_FALL * loss[0]:
        return [Suggestion(name, None, "The loss did not fall at any rate that was tried.") for name in RULES]
    found = []
    for name, (rule, why, why_not) in (RULES | FIXED_NORM_RULE if fixed_norm else RULES).items():
        asked = rule(rate, loss)
        found.append(Suggestion(name, None, why_not) if asked is None else Suggestion(name, _usable(asked), why))
    return found


def _usable(rate: float) -> float:
    """Two digits, as more are chance, within what the setting allows."""
    about = FIELDS["learning_rate"].metadata
    return float(f"{min(max(rate, about['low']), about['high']):.2g}")


def minimum(rate: Curve, loss: Curve) -> float | None:
    """A tenth of the rate with the lowest loss, which itself is on the verge of breaking."""
    lowest = int(loss.argmin())
    return float(rate[lowest]) / 10 if lowest else None


def lowest(rate: Curve, loss: Curve) -> float | None:
    """The rate with the lowest loss."""
    place = int(loss.argmin())
    return float(rate[place]) if place else None


def steepest(rate: Curve, loss: Curve) -> float | None:
    """Where the loss falls fastest with the logarithm of the rate.

    A slope is taken over half a decade, as that between neighbouring points is mostly noise of their batches.
    """
    decades = np.log10(rate)
    reach = max(round(SLOPE_DECADES / 2 / (decades[1] - decades[0])), 1)
    if len(rate) <= 2 * reach:
        return None
    slopes = loss[2 * reach :] - loss[: -2 * reach]
    return float(rate[reach + slopes.argmin()]) if slopes.min() < 0 else None


def valley(rate: Curve, loss: Curve) -> float | None:
    """The middle of the longest valley, as in fastai (`valley` in callback/schedule.py, by ESRI).

    The valley is the longest falling subsequence of the losses; it is taken to end where that ends and to have as many
    points. A third and a half of a third from its beginning, each rounded down, is the point to use.
    """
    lengths = np.ones(len(loss), np.int64)
    for i in range(1, len(loss)):
        lengths[i] += lengths[:i][loss[:i] > loss[i]].max(initial=0)
    end = int(lengths.argmax())
    length = int(lengths[end])
    if length < FEWEST_POINTS // 3:
        return None
    return float(rate[max(end - length, 0) + int(length / 3) + int(length / 6)])


def slide(rate: Curve, loss: Curve) -> float | None:
    """Left of the break, by the interval slide rule, as in fastai (`slide` in callback/schedule.py, by Chang).

    An interval slides down from the highest rate for as long as the slopes at its two ends differ by more than a
    threshold; the rate at its lower end is the one to use. The slopes are differences between neighbouring points, so
    the curve is first brought to the spacing of fastai's points. None where the interval cannot even begin to slide,
    or finds no rest.
    """
    decades = np.log10(rate)
    even = np.arange(decades[0], decades[-1], SLIDE_SPACING)
    if len(even) <= SLIDE_POINTS + 1:
        return None
    slopes = np.gradient(np.interp(even, decades, loss))
    differ = np.abs(slopes[SLIDE_POINTS:] - slopes[:-SLIDE_POINTS]) > SLIDE_THRESHOLD
    calm = np.flatnonzero(~differ)
    if not len(calm) or calm[-1] == len(differ) - 1:
        return None
    return float(10 ** even[calm[-1] + 1])


RULES: dict[str, tuple[Callable[[Curve, Curve], float | None], str, str]] = {
    "minimum/10": (
        minimum,
        "A tenth of the rate at which the loss was lowest: safe, as that rate itself is about to break.",
        "The loss was lowest at the smallest rate.",
    ),
    "steepest": (
        steepest,
        "Where the loss fell fastest: much is learned there by each step.",
        "The loss falls nowhere.",
    ),
    "valley": (
        valley,
        "The middle of the longest stretch over which the loss kept falling.",
        "There is no stretch over which the loss kept falling.",
    ),
    "slide": (
        slide,
        "The highest rate before the slope of the curve changes towards its break.",
        "The slope does not change towards the right end as it does before a break.",
    ),
}
"""By name the rule, why its rate is a good one, and why there is none."""

FIXED_NORM_RULE: dict[str, tuple[Callable[[Curve, Curve], float | None], str, str]] = {
    "lowest": (
        lowest,
        "Where the loss was lowest: weights of fixed norm cannot grow too large, so that a rate which the rules above, "
        "made for SGD, shun is the best for a short training.",
        "The loss was lowest at the smallest rate.",
    )
}
"""For Muon with fixed norms. The rate of the recipe quick, found by trials, is 0.17, and the loss of its range test is
lowest at 0.12 to 0.14; at the rates of the other rules it learns far less in its two epochs."""
