"""Which images are taken."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from cifar_core import job
from cifar_core.config import TrainConfig
from cifar_core.datasets import DataInfo, DataSet, Split, open_cached
from cifar_core.evaluation import Evaluation
from cifar_core.networks import load_network
from cifar_core.runs import Run, RunError, create_run, list_runs, write_whole
from cifar_core.subsets import (
    chosen_classes,
    class_names,
    class_shares,
    imbalanced_indices,
    info_of_classes,
    listed_classes,
    split_of_classes,
    split_validation,
    stratified_folds,
    subset_indices,
    training_indices,
)
from tests.conftest import Tiny, tiny_config, work

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


# Folds ---------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("folds", [2, 3, 5, 10])
def test_folds_are_as_even_as_those_of_scikit_learn(folds):
    """Every image validates once, and no fold has over an image more than another, nor over one more of a class."""
    from sklearn.model_selection import StratifiedKFold

    fold = stratified_folds(LABELS, folds, seed=0)
    ours = [np.bincount(LABELS[fold == k], minlength=4) for k in range(folds)]
    theirs = [
        np.bincount(LABELS[held_out], minlength=4)
        for _, held_out in StratifiedKFold(folds, shuffle=True, random_state=0).split(LABELS, LABELS)
    ]
    for counts in (ours, theirs):
        assert np.sum(counts, axis=0).tolist() == np.bincount(LABELS).tolist()
        assert np.ptp(counts, axis=0).max() <= 1
        assert np.ptp(np.sum(counts, axis=1)) <= 1


def test_folds_are_the_same_for_a_seed_and_not_in_the_order_of_the_images():
    assert stratified_folds(np.arange(12) % 2, 3, seed=1).tolist() == [2, 2, 0, 1, 1, 2, 2, 1, 0, 0, 1, 0]
    assert not np.array_equal(stratified_folds(LABELS, 5, 0), stratified_folds(LABELS, 5, 1))


@pytest.mark.parametrize("folds", [1, 4])
def test_more_folds_than_images_are_refused(folds):
    with pytest.raises(ValueError, match=f"at least 2 and at most 3, the number of images, but is {folds}"):
        stratified_folds(np.zeros(3, np.int64), folds, 0)


def data_of(labels, classes):
    """A data set with these training labels; every image holds its own number in its first pixels."""
    images = np.zeros((len(labels), 3, 32, 32), np.uint8)
    images[:, 0, 0, 0], images[:, 0, 0, 1] = np.divmod(np.arange(len(labels)), 256)
    counts = tuple(np.bincount(labels, minlength=len(classes)).tolist())
    info = DataInfo("x-01234567", "X", "/x", "folder", "f", classes, counts, counts, (0.5,) * 3, (0.2,) * 3)
    return DataSet(info, Split(images, labels), Split(images, labels))


LETTERS = ("a", "b", "c", "d")
DATA = data_of(LABELS.astype(np.int64), LETTERS)


def test_runs_on_the_folds_validate_on_every_image_once():
    parts = [training_indices(TrainConfig(folds=4, fold=fold), DATA) for fold in range(4)]
    assert np.array_equal(np.sort(np.concatenate([held_out for _, held_out in parts])), np.arange(1000))
    for kept, held_out in parts:
        assert np.array_equal(np.sort(np.concatenate([kept, held_out])), np.arange(1000))


def test_seed_share_and_number_of_images_leave_the_fold_as_it_is():
    _, wanted = training_indices(TrainConfig(folds=4, fold=2), DATA)
    for other in ({"seed": 9}, {"validation_fraction": 0.4}, {"train_images": 50}):
        assert np.array_equal(training_indices(TrainConfig(folds=4, fold=2, **other), DATA)[1], wanted)


# Classes -------------------------------------------------------------------------------------------------------------


def test_all_classes_validate_on_the_images_they_always_did():
    for listed in ("", "d,c,b,a"):
        kept, held_out = training_indices(TrainConfig(classes=listed), DATA)
        train, validation = split_validation(LABELS, 0.1, seed=0)
        assert np.array_equal(kept, train)
        assert np.array_equal(held_out, validation)


@pytest.mark.parametrize("more", [{}, {"folds": 3, "fold": 1}])
def test_some_classes_train_and_validate_on_their_part_of_what_all_do(more):
    kept, held_out = training_indices(TrainConfig(classes="d, b", **more), DATA)
    for ours, of_all in zip((kept, held_out), training_indices(TrainConfig(**more), DATA), strict=True):
        assert np.array_equal(ours, of_all[np.isin(LABELS[of_all], (1, 3))])


def test_classes_are_in_the_order_of_the_data_set_and_every_one_once():
    assert chosen_classes("d, b,d ,", LETTERS) == ("b", "d")
    assert chosen_classes("", LETTERS) == chosen_classes(" ", LETTERS) == LETTERS


@pytest.mark.parametrize(
    ("listed", "said"),
    [
        ("cat, dgo", "classes names 'dgo', which the data set has not; did you mean 'dog'?"),
        ("cat, zebra", "classes names 'zebra', which the data set has not."),
        ("cat", "classes must name at least two, to tell them apart, but names only 'cat'."),
        ("cat,cat", "classes must name at least two, to tell them apart, but names only 'cat'."),
    ],
)
def test_classes_that_cannot_be_told_apart_are_refused_with_the_nearest_name(listed, said):
    with pytest.raises(ValueError, match=r"^classes ") as caught:
        chosen_classes(listed, ("cat", "dog", "frog"))
    assert str(caught.value) == said


def test_a_list_over_several_lines_is_refused():
    with pytest.raises(ValueError, match="classes must be names separated by commas"):
        class_names("cat\ndog")


def test_any_name_survives_in_a_list():
    names = ("a, b", 'say "c"', "d e", "f's")
    assert class_names(listed_classes(names)) == names
    assert class_names("a, b,c") == ("a", "b", "c")
    assert listed_classes(()) == ""


def test_images_of_some_classes_keep_their_order_and_get_new_numbers():
    split = split_of_classes(DATA.test, LETTERS, ("b", "d"))
    numbers = split.images[:, 0, 0, 0].astype(int) * 256 + split.images[:, 0, 0, 1]
    assert np.array_equal(numbers, np.flatnonzero(np.isin(LABELS, (1, 3))))
    assert np.array_equal(np.array([1, 3])[split.labels], LABELS[numbers])
    assert split_of_classes(DATA.test, LETTERS, LETTERS) is DATA.test, "a copy of what is mapped from disk"


def test_what_is_known_of_some_classes_says_so():
    info = info_of_classes(DATA.info, ("b", "d"))
    assert (info.name, info.classes) == ("X (b, d)", ("b", "d"))
    assert info.train_counts == tuple(np.bincount(LABELS)[[1, 3]].tolist())
    assert (info.id, info.fingerprint, info.mean) == (DATA.info.id, DATA.info.fingerprint, DATA.info.mean)
    assert info_of_classes(DATA.info, LETTERS) is DATA.info
    many = data_of(np.arange(6), tuple("abcdef")).info
    assert info_of_classes(many, tuple("abcd")).name == "X (4 of 6 classes)"


# A run on some classes -----------------------------------------------------------------------------------------------


def test_a_run_on_some_classes_is_about_these_alone(tiny: Tiny, runs_root: Path) -> None:
    run = work(create_run(tiny_config(tiny, classes="stripes,circle"), runs_root), tiny.cache)
    start = run.start
    assert start
    assert start.classes == ("circle", "stripes")
    assert (start.train_images, start.validation_images) == (108, 12)
    network = load_network(run.checkpoints()["best"])
    assert network.classes == ("circle", "stripes")
    assert network.model.head.out_features == 2

    folder, task = job.evaluation_task(run, "best", tiny.info)
    with folder.held():
        write_whole(folder.path / "task.json", json.dumps(task).encode())
        for _ in job.execute_task(folder, tiny.cache):
            pass
    evaluation = Evaluation.load(folder.path / "evaluation.npz")
    assert evaluation.scope() == "40 of 60 images, those of the 2 classes it tells apart (circle, stripes)"
    assert evaluation.confusion().sum(axis=1).tolist() == [20, 20]
    assert evaluation.accuracy > 0.6, "the labels are not those of the classes"
    # Circle, square, stripes: 20 each, in this order.
    test = open_cached(tiny.info.id, tiny.cache).test
    theirs = np.isin(test.labels, (0, 2))
    assert np.allclose(evaluation.probabilities, network.probabilities(test.images[theirs]), atol=1e-5)


def test_a_misspelt_class_is_refused_before_a_run_is_made(tiny: Tiny, runs_root: Path) -> None:
    with pytest.raises(RunError, match="did you mean 'square'"):
        job.new_run(tiny_config(tiny, classes="circle,sqare"), runs_root, tiny.cache)
    assert not list_runs(runs_root)


def test_a_fork_keeps_the_classes(tiny: Tiny, trained_run: Run, runs_root: Path) -> None:
    with pytest.raises(RunError, match="keeps the classes of its parent, which is all, but circle,stripes was asked"):
        job.new_run(tiny_config(tiny, classes="circle,stripes", epochs=5), runs_root, tiny.cache, parent=trained_run)


# Imbalance and selections ---------------------------------------------------------------------------------------------


def test_exponential_shares_fall_by_a_constant_factor_to_the_ratio() -> None:
    shares = class_shares("exponential", 100.0, 10)
    assert shares[0] == 1
    assert shares[-1] == pytest.approx(1 / 100)
    np.testing.assert_allclose(shares[1:] / shares[:-1], 100 ** (-1 / 9))


def test_long_tailed_cifar_10_has_the_published_number_of_images() -> None:
    """12,406 of 50,000 at ratio 100 (Cui et al., 2019), who round down where this rounds to the nearest."""
    labels = np.repeat(np.arange(10), 5000)
    kept = imbalanced_indices(labels, class_shares("exponential", 100.0, 10), seed=0)
    assert abs(len(kept) - 12_406) <= 10
    assert np.bincount(labels[kept]).tolist()[::9] == [5000, 50]


def test_a_step_makes_the_second_half_rare() -> None:
    assert class_shares("step", 4.0, 5).tolist() == [1, 1, 1, 0.25, 0.25]
    assert class_shares("none", 4.0, 3).tolist() == [1, 1, 1]


def test_each_class_keeps_at_least_an_image_and_a_smaller_share_is_part_of_a_larger() -> None:
    labels = np.repeat(np.arange(3), 20)
    few = imbalanced_indices(labels, class_shares("exponential", 1000.0, 3), seed=3)
    many = imbalanced_indices(labels, class_shares("exponential", 10.0, 3), seed=3)
    assert np.bincount(labels[few]).tolist() == [20, 1, 1]
    assert set(few) < set(many)


def test_imbalance_and_selections_leave_the_validation_images_as_they_are() -> None:
    kept, held_out = training_indices(TrainConfig(), DATA)
    allowed = np.zeros(len(DATA.train.labels), bool)
    allowed[kept[::2]] = True
    fewer, same = training_indices(TrainConfig(imbalance="step", imbalance_ratio=5), DATA)
    assert np.array_equal(held_out, same)
    assert set(fewer) < set(kept)
    chosen, same = training_indices(TrainConfig(), DATA, allowed)
    assert np.array_equal(held_out, same)
    assert np.array_equal(chosen, kept[::2])
    with pytest.raises(ValueError, match="leave 0 training images"):
        training_indices(TrainConfig(), DATA, np.zeros_like(allowed))
