"""Learning rates read from curves whose shape is known."""

from __future__ import annotations

import math

import numpy as np
import pytest

from cifar_core.config import FIELDS, TrainConfig
from cifar_core.events import Boot, TaskProgress, Tried
from cifar_core.suggestions import minimum, rates, slide, steepest, suggestions, tried, valley

RATES = np.logspace(-6, 1, 141)
"""Twenty to a decade."""
DECADES = np.log10(RATES)


def curve(losses):
    return [Tried(learning_rate=float(r), loss=float(y), smoothed=float(y)) for r, y in zip(RATES, losses, strict=True)]


def bowl(at):
    """A parabola over the logarithm of the rate."""
    return 1 + (DECADES - at) ** 2 / 10


def stairs(middle, width=0.25):
    """A logistic fall from 2.3 to 0.3, steepest in the middle."""
    return 0.3 + 2 / (1 + np.exp((DECADES - middle) / width))


@pytest.mark.parametrize("at", [-3.0, -1.5, 0.5])
def test_minimum_is_a_tenth_of_the_rate_with_the_lowest_loss(at):
    assert minimum(RATES, bowl(at)) == pytest.approx(10 ** (at - 1))


@pytest.mark.parametrize("middle", [-4.0, -2.5, -1.0])
def test_steepest_is_where_a_logistic_curve_has_its_middle(middle):
    found = steepest(RATES, stairs(middle))
    assert abs(math.log10(found) - middle) <= 0.05


def test_steepest_counts_by_decades_not_by_rates():
    # By rates the steep part is the early one, where a decade is a small step.
    losses = 3 - 0.2 * DECADES - 0.8 * np.clip(DECADES, 0, None)
    assert steepest(RATES, losses) >= 1


def reference_valley(rates, losses):
    """The definition, step by step: the longest falling subsequence by comparing every pair."""
    best = [1] * len(losses)
    for i in range(len(losses)):
        for j in range(i):
            if losses[j] > losses[i]:
                best[i] = max(best[i], best[j] + 1)
    end = best.index(max(best))
    return rates[end - max(best) + int(max(best) / 3) + int(max(best) / 6)]


def test_valley_is_the_middle_of_a_fall_between_two_flats():
    falling = (DECADES > -4) & (DECADES <= -2)
    losses = np.where(falling, 2 - (DECADES + 4), np.where(DECADES > -2, 5.0, 2.0))
    found = math.log10(valley(RATES, losses))
    assert abs(found + 3) <= 0.1


@pytest.mark.parametrize("seed", range(5))
def test_valley_of_a_noisy_curve_is_that_of_the_definition(seed):
    losses = stairs(-2.0) + np.random.default_rng(seed).normal(0, 0.05, len(RATES))
    assert valley(RATES, losses) == reference_valley(RATES, losses)


def reference_slide(rates, losses, points=15, threshold=0.005):
    """The rule as it is told: an interval slides down from the right end."""
    slopes = np.gradient(losses)
    right, left = len(losses) - 1, len(losses) - 1 - points
    found = None
    while left >= 0 and abs(slopes[right] - slopes[left]) > threshold:
        found = rates[left]
        right, left = right - 1, left - 1
    return found if left >= 0 else None


@pytest.mark.parametrize("at", [-2.0, -1.0, 0.0])
def test_slide_stops_where_the_interval_has_one_slope_at_both_ends(at):
    spaced = 10 ** np.arange(-6, 1, 8 / 99)
    # Flat, then ever steeper.
    losses = 2 + np.clip(np.log10(spaced) - at, 0, None) ** 2
    found = slide(spaced, losses)
    assert found == pytest.approx(reference_slide(spaced, losses))
    # The upper end of the interval is about where the curve bends, the lower one fifteen points below.
    assert abs(math.log10(found) - (at - 15 * 8 / 99)) < 0.25


def test_slide_does_not_depend_on_how_many_rates_were_tried():
    found = []
    for count in (100, 200, 400):
        spaced = np.logspace(-6, 1, count)
        found.append(slide(spaced, 2 + np.clip(np.log10(spaced) + 1, 0, None) ** 2))
    assert max(found) / min(found) < 1.3


def test_slide_needs_a_bend():
    assert slide(RATES, 3 - 0.1 * DECADES) is None
    assert slide(RATES[:20], bowl(-5)[:20]) is None


def named(points):
    return {suggestion.name: suggestion.learning_rate for suggestion in suggestions(points)}


def broken(losses, at):
    """The curve up to a rate, and beyond it a loss that breaks."""
    return losses + np.where(at < DECADES, (DECADES - at) ** 2, 0)


def test_a_good_curve_has_four_suggestions_below_its_break():
    found = suggestions(curve(broken(stairs(-2.5, 0.4), -0.5)))
    assert [suggestion.name for suggestion in found] == ["minimum/10", "steepest", "valley", "slide"]
    for suggestion in found:
        assert suggestion.learning_rate
        assert 1e-4 < suggestion.learning_rate < 1
        assert suggestion.learning_rate == float(f"{suggestion.learning_rate:.2g}")
        assert suggestion.sentence.endswith(".")
    assert abs(math.log10(named(curve(broken(stairs(-2.5, 0.4), -0.5)))["steepest"]) + 2.5) < 0.1


def test_with_fixed_norms_the_rate_of_the_lowest_loss_is_suggested_too():
    points = curve(broken(stairs(-2.5, 0.4), -0.5))
    *usual, lowest = suggestions(points, fixed_norm=True)
    assert usual == suggestions(points)
    inner = points[len(points) // 10 : -5]
    wanted = min(inner, key=lambda point: point.smoothed).learning_rate
    assert lowest.name == "lowest"
    assert lowest.learning_rate == float(f"{wanted:.2g}")
    assert lowest.learning_rate == pytest.approx(10 * named(points)["minimum/10"], rel=0.05)


@pytest.mark.parametrize(
    ("losses", "why"),
    [
        (np.full(141, 2.3), "did not fall at any rate"),
        (2 + (DECADES + 6) / 5, "did not fall at any rate"),
        (2.3 + 0.005 * np.sin(np.arange(141)), "did not fall at any rate"),
    ],
    ids=["flat", "rising", "noise"],
)
def test_a_curve_that_does_not_fall_offers_nothing(losses, why):
    for suggestion in suggestions(curve(losses)):
        assert suggestion.learning_rate is None
        assert why in suggestion.sentence


@pytest.mark.parametrize("count", [0, 1, 5, 20])
def test_too_few_points_offer_nothing(count):
    for suggestion in suggestions(curve(stairs(-2.5))[:count]):
        assert suggestion.learning_rate is None
        assert "too few points" in suggestion.sentence


def test_the_first_tenth_and_the_last_five_points_do_not_count():
    losses = stairs(-2.5)
    usual = named(curve(losses))
    losses[:14], losses[-5:] = 0.001, 0.0005
    assert named(curve(losses)) == usual


def test_a_suggestion_can_be_set():
    about = FIELDS["learning_rate"].metadata
    low = named(
        [Tried(learning_rate=p.learning_rate * 1e-3, loss=p.loss, smoothed=p.smoothed) for p in curve(bowl(-4))]
    )
    assert low["minimum/10"] == about["low"]


@pytest.mark.parametrize("optimizer", FIELDS["optimizer"].metadata["choices"])
def test_the_rates_to_try_can_be_set_and_hold_the_usual_ones(optimizer):
    about = FIELDS["learning_rate"].metadata
    for fixed_norm in (False, True):
        low, high = rates(TrainConfig(optimizer=optimizer, fixed_norm=fixed_norm))
        assert about["low"] <= low < 1e-3
        assert 0.3 < high <= about["high"]


def test_the_last_test_of_a_log_counts():
    first, second = curve(bowl(-2))[:2]
    boot = Boot(pid=1, host="x")
    progress = TaskProgress(done=1, total=2, what="", seconds_left=None)
    assert tried([boot, first, first, boot, second, progress]) == [second]
    assert tried([boot, first, boot]) == []
