"""Which images of a data set to take, with the same share of every class."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from cifar_core.config import TrainConfig
    from cifar_core.datasets import DataSet


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


def training_indices(config: TrainConfig, data: DataSet) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Which images of the training split a run trains on and which it validates on.

    Returns:
        Indices, sorted.

    Raises:
        ValueError: There are too few images for the settings.
    """
    labels = np.asarray(data.train.labels)
    kept, held_out = split_validation(labels, config.validation_fraction, seed=0)
    if config.train_images:
        if config.train_images > len(kept):
            raise ValueError(
                f"train_images must be at most {len(kept)}, what is left of the training split of {data.info.name} "
                f"after holding out {len(held_out)} for validation, but is {config.train_images}."
            )
        kept = kept[subset_indices(labels[kept], config.train_images, seed=config.seed)]
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
