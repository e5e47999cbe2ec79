"""Which images are taken."""

from __future__ import annotations

import numpy as np
import pytest

from cifar_core.subsets import split_validation, subset_indices

LABELS = np.random.default_rng(3).choice(4, 1000, p=[0.1, 0.2, 0.3, 0.4])


@pytest.mark.parametrize("count", [1, 7, 100, 333, 999])
def test_subset_has_the_same_share_of_every_class(count):
    chosen = subset_indices(LABELS, count, seed=5)
    assert len(set(chosen.tolist())) == len(chosen) == count
    assert np.array_equal(chosen, np.sort(chosen))
    exact = np.bincount(LABELS) * count / len(LABELS)
    assert (np.abs(np.bincount(LABELS[chosen], minlength=4) - exact) < 1).all()


def test_subset_of_everything_or_more_is_everything():
    for count in (1000, 5000):
        assert np.array_equal(subset_indices(LABELS, count, 0), np.arange(1000))
    with pytest.raises(ValueError, match="count must be at least 1, but is 0"):
        subset_indices(LABELS, 0, 0)


def test_balanced_subset_of_balanced_classes_is_exact():
    labels = np.tile(np.arange(10), 500)
    assert np.bincount(labels[subset_indices(labels, 1000, 0)]).tolist() == [100] * 10


@pytest.mark.parametrize("fraction", [0.01, 0.1, 0.5, 0.99])
def test_validation_takes_its_share_of_every_class_and_every_image_once(fraction):
    train, validation = split_validation(LABELS, fraction, seed=1)
    assert np.array_equal(np.sort(np.concatenate([train, validation])), np.arange(1000))
    assert np.array_equal(train, np.sort(train))
    assert np.array_equal(validation, np.sort(validation))
    for k, count in enumerate(np.bincount(LABELS)):
        assert abs((LABELS[validation] == k).sum() - fraction * count) <= 1


def test_small_classes_are_on_both_sides_where_they_can():
    labels = np.array([0, 1, 1, 2, 2, 2, 3])
    for fraction in (0.01, 0.99):
        train, validation = split_validation(labels, fraction, 0)
        assert set(labels[train]) == {0, 1, 2, 3}
        assert set(labels[validation]) == {1, 2}


@pytest.mark.parametrize("fraction", [0, 1, -0.1, float("nan")])
def test_validation_fraction_out_of_range_is_refused(fraction):
    with pytest.raises(ValueError, match="fraction must be above 0 and below 1"):
        split_validation(LABELS, fraction, 0)


def test_choices_are_fixed_by_the_seed_on_every_machine():
    labels = np.arange(12) % 3
    assert subset_indices(labels, 6, seed=1).tolist() == [0, 2, 4, 5, 7, 9]
    assert split_validation(labels, 0.25, seed=1)[1].tolist() == [2, 4, 9]
    assert len({tuple(subset_indices(LABELS, 50, seed).tolist()) for seed in range(20)}) == 20
