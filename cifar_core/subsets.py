"""Which images of a data set to take: some of its classes, and of these the same share of each."""

from __future__ import annotations

import csv
import dataclasses
import io
import math
from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from cifar_core.config import nearest

if TYPE_CHECKING:
    from cifar_core.config import TrainConfig
    from cifar_core.datasets import DataInfo, DataSet, Split


def subset_indices(labels: NDArray[np.int64], count: int, seed: int) -> NDArray[np.int64]:
    """Which images make a smaller data set with the same share of every class.

    Shares are rounded by largest remainder, so they add up to `count`. The choice depends on seed and labels alone.

    Returns:
        (min(count, N),) sorted.

    Raises:
        ValueError: `count` is below 1.
    """
    if count < 1:
        raise ValueError(f"count must be at least 1, but is {count}.")
    if count >= len(labels):
        return np.arange(len(labels))
    groups = _shuffled_classes(labels, seed)
    take = [count * len(group) // len(labels) for group in groups]
    rest = [count * len(group) % len(labels) for group in groups]
    by_remainder = sorted(range(len(groups)), key=lambda k: (-rest[k], k))
    for k in by_remainder[: count - sum(take)]:
        take[k] += 1
    return np.sort(np.concatenate([group[:n] for group, n in zip(groups, take, strict=True)]))


def split_validation(
    labels: NDArray[np.int64], fraction: float, seed: int
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Which images train and which validate, with the same share of every class.

    A class of two or more images has at least one on either side; a single image trains.

    Args:
        fraction: Share that validates, in (0, 1).

    Returns:
        Indices to train on and to validate on, sorted; together every index once.

    Raises:
        ValueError: `fraction` is out of range.
    """
    if not 0 < fraction < 1:
        raise ValueError(f"fraction must be above 0 and below 1, but is {fraction}.")
    train, validation = [np.empty(0, np.int64)], [np.empty(0, np.int64)]
    for group in _shuffled_classes(labels, seed):
        cut = min(max(round(fraction * len(group)), 1), len(group) - 1)
        validation.append(group[:cut])
        train.append(group[cut:])
    return np.sort(np.concatenate(train)), np.sort(np.concatenate(validation))


def stratified_folds(labels: NDArray[np.int64], folds: int, seed: int) -> NDArray[np.int64]:
    """The fold each image validates in, for cross-validation (Kohavi, 1995).

    The folds are of one size but for an image, and so are the shares of every class in them.

    Returns:
        (N,) in [0, folds).

    Raises:
        ValueError: `folds` is below 2 or above the number of images.
    """
    if not 2 <= folds <= len(labels):
        raise ValueError(f"folds must be at least 2 and at most {len(labels)}, the number of images, but is {folds}.")
    dealt = np.empty(len(labels), np.int64)
    # Dealt out like cards, going on from one class to the next, so that no fold gets the odd image of every class.
    dealt[np.concatenate(_shuffled_classes(labels, seed))] = np.arange(len(labels)) % folds
    return dealt


def class_shares(kind: str, ratio: float, classes: int) -> NDArray[np.float64]:
    """The share of its images that each class keeps in an imbalanced training set.

    Exponential as in Cui et al. (2019): class k keeps ratio^(-k / (K - 1)). Step as in Buda et al. (2018), with the
    second half of the classes rare. The classes are in the order of the data set, whose first stays whole.

    Args:
        kind: none, exponential or step.
        ratio: At least 1; how many times rarer the rarest becomes.

    Returns:
        (K,) in (0, 1].
    """
    places = np.arange(classes)
    if kind == "exponential":
        return np.asarray(ratio ** (-places / max(classes - 1, 1)))
    rare = places >= math.ceil(classes / 2) if kind == "step" else np.zeros(classes, bool)
    return np.where(rare, 1 / ratio, 1.0)


def imbalanced_counts(counts: Sequence[int], shares: NDArray[np.float64]) -> list[int]:
    """How many images of each class remain of so many; at least one of each that has any."""
    return [max(round(share * count), 1) if count else 0 for count, share in zip(counts, shares, strict=True)]


def imbalanced_indices(labels: NDArray[np.int64], shares: NDArray[np.float64], seed: int) -> NDArray[np.int64]:
    """Which images remain where each class keeps its share; at least one of each that has any.

    With the same seed a smaller share is a part of a larger one.

    Returns:
        Sorted.
    """
    groups = _shuffled_classes(labels, seed)
    counts = imbalanced_counts([len(group) for group in groups], shares[[labels[group[0]] for group in groups]])
    kept = [group[:count] for group, count in zip(groups, counts, strict=True)]
    return np.sort(np.concatenate([np.empty(0, np.int64), *kept]))


def class_names(listed: str) -> tuple[str, ...]:
    """The names in a list separated by commas; one that holds a comma stands in double quotes.

    Raises:
        ValueError: The text is no such list.
    """
    try:
        row = next(csv.reader([listed], skipinitialspace=True), [])
    except csv.Error as error:
        raise ValueError(f"classes must be names separated by commas, but is {listed[:80]!r} ({error}).") from None
    return tuple(name.strip() for name in row if name.strip())


def listed_classes(names: Sequence[str]) -> str:
    """What `class_names` reads."""
    text = io.StringIO()
    csv.writer(text, lineterminator="").writerow(names)
    return text.getvalue()


def chosen_classes(listed: str, known: Sequence[str]) -> tuple[str, ...]:
    """The classes that a run tells apart, in the order of the data set, which is also that of their numbers.

    Args:
        listed: The setting `classes`; empty for all.

    Raises:
        ValueError: A name is unknown (the nearest known one is suggested), or less than two are named.
    """
    names = class_names(listed)
    for name in names:
        if name not in known:
            raise ValueError(f"classes names {name!r}, which the data set has not{nearest(name, known)}")
    if len(set(names)) == 1:
        raise ValueError(f"classes must name at least two, to tell them apart, but names only {names[0]!r}.")
    return tuple(name for name in known if name in names) if names else tuple(known)


def info_of_classes(info: DataInfo, classes: Sequence[str]) -> DataInfo:
    """What is known of a data set with only some of its classes; mean and deviation stay those of all."""
    if tuple(classes) == info.classes:
        return info
    numbers = [info.classes.index(name) for name in classes]
    train, test = (tuple(counts[k] for k in numbers) for counts in (info.train_counts, info.test_counts))
    which = ", ".join(classes) if len(classes) <= 3 else f"{len(classes)} of {len(info.classes)} classes"
    return dataclasses.replace(
        info, name=f"{info.name} ({which})", classes=tuple(classes), train_counts=train, test_counts=test
    )


def split_of_classes(split: Split, known: Sequence[str], classes: Sequence[str]) -> Split:
    """The images of some classes alone, copied, with labels that number these classes.

    Args:
        known: The classes that the labels of `split` number.
        classes: Some of them, in their order.
    """
    if tuple(classes) == tuple(known):
        return split
    numbers = renumbered(split.labels, known, classes)
    chosen = np.flatnonzero(numbers >= 0)
    return dataclasses.replace(split, images=split.images[chosen], labels=numbers[chosen])


def renumbered(labels: NDArray[np.int64], known: Sequence[str], classes: Sequence[str]) -> NDArray[np.int64]:
    """Labels that number `classes` in place of `known`; -1 for images of other classes."""
    numbers = np.full(len(known), -1, np.int64)
    numbers[[list(known).index(name) for name in classes]] = np.arange(len(classes))
    return numbers[labels]


def training_indices(
    config: TrainConfig, data: DataSet, allowed: NDArray[np.bool_] | None = None
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Which images of the training split a run trains on and which it validates on.

    The latter are drawn from all classes, of which those of the run are then taken: runs on other classes, with other
    seeds, selections or with fewer training images are judged on the same images.

    Args:
        allowed: (N,) which images of the training split may be trained on, where a selection says so.

    Returns:
        Indices, sorted.

    Raises:
        ValueError: There are too few images for the settings.
    """
    labels = np.asarray(data.train.labels)
    if config.folds:
        fold = stratified_folds(labels, config.folds, seed=0)
        kept, held_out = np.flatnonzero(fold != config.fold), np.flatnonzero(fold == config.fold)
    else:
        kept, held_out = split_validation(labels, config.validation_fraction, seed=0)
    known = data.info.classes
    if len(classes := chosen_classes(config.classes, known)) < len(known):
        ours = renumbered(labels, known, classes) >= 0
        kept, held_out = kept[ours[kept]], held_out[ours[held_out]]
    if allowed is not None:
        kept = kept[allowed[kept]]
    if config.imbalance != "none":
        numbers = renumbered(labels, known, classes)[kept]
        shares = class_shares(config.imbalance, config.imbalance_ratio, len(classes))
        kept = kept[imbalanced_indices(numbers, shares, seed=config.seed)]
    if config.train_images:
        if config.train_images > len(kept):
            raise ValueError(
                f"train_images must be at most {len(kept)}, what is left of the training split of {data.info.name} "
                f"after holding out {len(held_out)} for validation, but is {config.train_images}."
            )
        kept = kept[subset_indices(labels[kept], config.train_images, seed=config.seed)]
    if len(kept) < 2 and allowed is not None:
        raise ValueError(
            f"only_selection and without_selection leave {len(kept)} training images of {data.info.name}, as those "
            "held out for validation are not trained on; choose a larger selection."
        )
    if len(kept) < 2 or len(held_out) < 1:
        raise ValueError(f"{data.info.name} has too few training images to hold some out for validation.")
    return kept, held_out


def _shuffled_classes(labels: NDArray[np.int64], seed: int) -> list[NDArray[np.int64]]:
    """Indices per class in random order. Sorted by raw draws of PCG64, which NumPy promises never to change, whereas
    the stream behind `Generator.permutation` may differ between its versions."""
    draws = np.random.PCG64(seed).random_raw(len(labels))
    order = np.lexsort((draws, labels)).astype(np.int64)
    sizes = np.unique(labels, return_counts=True)[1]
    return np.split(order, np.cumsum(sizes)[:-1]) if len(labels) else []
