"""Two models on the same images: the tests against closed forms and SciPy, and what is said of them."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy import stats

from cifar_core.comparing import (
    Comparison,
    McNemar,
    best_so_far,
    bootstrap_interval,
    holm,
    same_but_for_the_seed,
    smoothed,
)
from cifar_core.config import TrainConfig
from cifar_core.evaluation import Evaluation

CLASSES = ("cat", "dog")


def answers(correct: list[bool], labels: list[int] | None = None, sure: float = 0.9, **facts: str) -> Evaluation:
    truth = np.array(labels or [i % 2 for i in range(len(correct))])
    guess = np.where(correct, truth, 1 - truth)
    probabilities = np.full((len(truth), 2), 1 - sure, np.float32)
    probabilities[np.arange(len(truth)), guess] = sure
    return Evaluation(truth, probabilities, CLASSES, {"fingerprint": "f", **facts})


def of_counts(both: int, only_first: int, only_second: int, neither: int) -> Comparison:
    first = [True] * (both + only_first) + [False] * (only_second + neither)
    second = [True] * both + [False] * only_first + [True] * only_second + [False] * neither
    return Comparison(answers(first), answers(second))


@pytest.mark.parametrize(("first", "second"), [(0, 0), (1, 0), (3, 12), (25, 25), (101, 121), (700, 640), (2000, 1700)])
def test_the_exact_test_is_the_binomial_test(first: int, second: int) -> None:
    expected = stats.binomtest(first, first + second, 0.5).pvalue if first + second else 1.0
    assert McNemar(first, second).exact == pytest.approx(expected, rel=1e-9)


def test_the_corrected_statistic_is_that_of_the_textbook() -> None:
    """(|b - c| - 1)^2 / (b + c), as in statsmodels' mcnemar(exact=False, correction=True)."""
    test = McNemar(59, 6)
    assert test.chi_squared == pytest.approx((53 - 1) ** 2 / 65)
    assert test.approximate == pytest.approx(stats.chi2.sf(52**2 / 65, 1))
    assert McNemar(5, 5).approximate == 1
    assert McNemar(0, 0).approximate == 1


def test_the_bootstrap_is_that_of_images_drawn_one_by_one() -> None:
    """The multinomial shortcut against the loop it stands for."""
    pairs = np.array([1] * 60 + [-1] * 30 + [0] * 210)
    random = np.random.default_rng(1)
    drawn = pairs[random.integers(0, len(pairs), (10_000, len(pairs)))].mean(axis=1)
    expected = np.quantile(drawn, [0.025, 0.975])
    assert bootstrap_interval(30, 60, 300) == pytest.approx(expected, abs=0.004)


def test_the_interval_is_the_same_each_time_and_close_to_the_normal_one() -> None:
    comparison = of_counts(8000, 400, 520, 1080)
    low, high = comparison.interval
    assert (low, high) == of_counts(8000, 400, 520, 1080).interval
    deviation = math.sqrt((920 - 120**2 / 10_000) / 10_000**2)
    assert (low, high) == pytest.approx((0.012 - 1.96 * deviation, 0.012 + 1.96 * deviation), abs=0.0004)


def test_a_difference_is_said_in_words() -> None:
    said = of_counts(8000, 400, 520, 1080).sentence()
    assert said == "B is better by 1.2 points (95 % interval 0.6 to 1.8)."
    assert of_counts(8000, 520, 400, 1080).sentence("wide", "deep").startswith("wide is better by 1.2 points")


@pytest.mark.parametrize("differing", range(1, 13))
def test_none_is_called_better_where_the_exact_test_says_chance(differing: int) -> None:
    """The bootstrap never draws what was not seen, and so is too sure of a few images."""
    for first in range(differing + 1):
        comparison = of_counts(995, first, differing - first, 1)
        if "is better" in comparison.sentence():
            assert comparison.test.exact < 0.05
    assert "cannot be told apart" in of_counts(995, 0, 4, 1).sentence()


def test_chance_is_called_chance() -> None:
    said = of_counts(80, 5, 6, 9).sentence()
    assert said.startswith("A and B cannot be told apart on these images: B less A is +1.0 points")
    assert "may be chance" in said
    assert of_counts(8, 0, 0, 2).sentence() == "A and B are right on exactly the same images."


def test_images_are_grouped_by_who_is_right_and_the_widest_apart_come_first() -> None:
    truth = np.zeros(5, np.int64)
    one = np.array([[0.8, 0.2], [0.6, 0.4], [0.2, 0.8], [0.1, 0.9], [0.7, 0.3]], np.float32)
    two = np.array([[0.4, 0.6], [0.1, 0.9], [0.7, 0.3], [0.3, 0.7], [0.8, 0.2]], np.float32)
    facts = {"fingerprint": "f"}
    both = Comparison(Evaluation(truth, one, CLASSES, facts), Evaluation(truth, two, CLASSES, facts))
    assert both.group("only_first").tolist() == [1, 0]
    assert both.group("only_second").tolist() == [2]
    assert both.group("both_wrong").tolist() == [3]
    assert (both.test.only_first, both.test.only_second) == (2, 1)


def test_classes_add_up_to_the_whole() -> None:
    both = of_counts(40, 7, 12, 11)
    table = both.per_class()
    assert list(table.index) == list(CLASSES)
    assert table["images"].sum() == both.images
    assert (table["difference"] * table["images"]).sum() / both.images == pytest.approx(both.difference)
    assert (table["low"] <= table["difference"]).all()
    assert (table["difference"] <= table["high"]).all()


def test_models_without_common_images_are_not_compared() -> None:
    with pytest.raises(ValueError, match="different images"):
        Comparison(answers([True, False]), answers([True, False], fingerprint="g"))
    with pytest.raises(ValueError, match="different images"):
        Comparison(answers([True, False]), answers([True, False], labels=[1, 1]))
    other = Evaluation(np.array([0]), np.array([[0.5, 0.5]], np.float32), ("cat", "ship"), {"fingerprint": "f"})
    with pytest.raises(ValueError, match="different classes"):
        Comparison(answers([True]), other)


def test_several_tests_are_judged_together() -> None:
    """Holm's own procedure on the example of Wright (1992)."""
    assert holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])
    assert holm([0.6, 0.7]) == [1.0, 1.0]
    assert holm([]) == []


def test_trainings_are_grouped_where_only_the_seed_differs() -> None:
    base = TrainConfig(optimizer="adam")
    settings = {
        "a": base,
        "b": TrainConfig(optimizer="adam", seed=7),
        # Adam has no momentum.
        "c": TrainConfig(optimizer="adam", seed=8, momentum=0.5),
        "other": TrainConfig(optimizer="adam", seed=7, learning_rate=0.5),
        "copy": TrainConfig(optimizer="adam", seed=7, learning_rate=0.5),
    }
    assert same_but_for_the_seed(settings) == [["a", "b", "c"]]


def test_smoothing_is_that_of_tensorboard() -> None:
    """Its debiased average, written out by hand for three points."""
    w = 0.6
    x, y, z = 3.0, 5.0, 4.0
    expected = [
        x,
        (w * (1 - w) * x + (1 - w) * y) / (1 - w**2),
        (w**2 * (1 - w) * x + w * (1 - w) * y + (1 - w) * z) / (1 - w**3),
    ]
    assert smoothed([x, y, z], w) == pytest.approx(expected)
    assert smoothed([x, y, z], 0) == [x, y, z]
    assert smoothed([2.0] * 5, 0.99) == pytest.approx([2.0] * 5)
    assert smoothed([1.0, math.nan, 1.0], 0.5) == pytest.approx([1.0, 1.0, 1.0])


def test_the_best_so_far_never_gets_worse() -> None:
    assert best_so_far([0.2, 0.5, 0.4, math.nan, 0.6], rising=True) == [0.2, 0.5, 0.5, 0.5, 0.6]
    assert best_so_far([2.0, 3.0, 1.0], rising=False) == [2.0, 2.0, 1.0]
    assert best_so_far([], rising=True) == []
