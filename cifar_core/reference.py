"""The run that comes with the program, and pictures for what is known of it: its own images are not in the box.

Its folder has besides what any run has: `data.json`, what is known of its data set; `pictures.npz`, enough to find each
of its test images again in another copy of CIFAR-10; `made.json`, how it was made; and `card.md`.
"""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from cifar_core.datasets import DataInfo, Split

FARTHEST = 6.0
"""Levels of 255 by which the mean colours of a picture may differ in two copies: JPEG moves them by less than two."""


def known_data(folder: Path) -> DataInfo:
    """What is known of the data set of a run that comes with the program; its source is empty.

    Raises:
        OSError: There is no such file.
        ValueError: It is damaged.
    """
    return DataInfo.from_json((folder / "data.json").read_text("utf-8"))


def about_data(info: DataInfo, name: str) -> str:
    """What `known_data` reads: all but the place the images were read from."""
    return dataclasses.replace(info, name=name, source="").to_json()


def made(folder: Path) -> dict[str, object]:
    """How the run was made: seconds, machine, versions, temperature, and whether it only stands in for a better one."""
    return dict(json.loads((folder / "made.json").read_text("utf-8")))


def signatures(images: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """(N, 12): the mean colours of the four quarters of images (N, 3, 32, 32)."""
    quarters = np.asarray(images).reshape(len(images), 3, 2, 16, 2, 16)
    return quarters.mean(axis=(3, 5)).round().astype(np.uint8).reshape(len(images), 12)


def save_pictures(path: Path, split: Split) -> None:
    """Write down how to find the images of a split again; without the images."""
    np.savez_compressed(path, signatures=signatures(split.images), labels=split.labels.astype(np.uint16))


def found_again(path: Path, split: Split) -> NDArray[np.int64] | None:
    """Where in another copy of a split each image of this one is, whatever its order and its compression.

    Each picture of a class goes with the one of the same class that its colours are nearest to, all of them together by
    least total distance (Kuhn, 1955).

    Args:
        path: What `save_pictures` wrote.
        split: The other copy.

    Returns:
        (N,) indices into `split`; None where it does not hold the same images.
    """
    with np.load(path, allow_pickle=False) as file:
        kept, labels = file["signatures"].astype(np.int16), file["labels"].astype(np.int64)
    if not np.array_equal(np.bincount(labels), np.bincount(split.labels)):
        return None

    from scipy.optimize import linear_sum_assignment

    theirs = signatures(split.images).astype(np.int16)
    places = np.zeros(len(labels), np.int64)
    for k in np.unique(labels):
        ours, others = np.flatnonzero(labels == k), np.flatnonzero(split.labels == k)
        distances = np.stack([np.abs(theirs[others] - kept[i]).mean(axis=1) for i in ours])
        rows, columns = linear_sum_assignment(distances)
        if distances[rows, columns].max() > FARTHEST:
            return None
        places[ours[rows]] = others[columns]
    return places
