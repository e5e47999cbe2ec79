"""How the pixels of a split are distributed."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from cifar_core.datasets import Split

CHUNK_IMAGES = 1000


@dataclass(frozen=True)
class PixelSummary:
    """Exact counts and means over all images of a split.

    Args:
        histograms: (3, 256) int64, how many pixels of each channel have each value.
        class_images: (K,) int64, images of each class.
        class_means: (K, 3, H, W) float32 in [0, 255], the mean image of each class; zero for a class without images.
    """

    histograms: NDArray[np.int64]
    class_images: NDArray[np.int64]
    class_means: NDArray[np.float32]
    class_deviations: NDArray[np.float32]
    """(K, 3, H, W) float32 in [0, 127.5], how far the pixels of a class are from their mean; zero likewise."""

    @property
    def mean(self) -> NDArray[np.float64]:
        """(3,) in [0, 1], of each channel over all pixels."""
        return self._moment(1)

    @property
    def std(self) -> NDArray[np.float64]:
        """(3,) in [0, 1], likewise; the deviation of the population."""
        return np.sqrt(np.maximum(self._moment(2) - self.mean**2, 0))

    def _moment(self, power: int) -> NDArray[np.float64]:
        values = (np.arange(256) / 255) ** power
        return self.histograms @ values / self.histograms.sum(axis=1)


def summarise(split: Split, classes: int) -> PixelSummary:
    """Count the pixels of a split; about 0.7 s for 50,000 images of 32 pixels.

    Raises:
        ValueError: The split has no images.
    """
    images, labels = split.images, split.labels
    if not len(images):
        raise ValueError("A split without images has no pixels to count.")
    counts = np.bincount(labels, minlength=classes)
    means = np.zeros((classes, *images.shape[1:]), np.float32)
    deviations = np.zeros_like(means)
    for k in np.flatnonzero(counts):
        total = np.zeros(images.shape[1:], np.int64)
        squares = np.zeros(images.shape[1:], np.int64)
        places = np.flatnonzero(labels == k)
        for start in range(0, len(places), CHUNK_IMAGES):
            part = images[places[start : start + CHUNK_IMAGES]].astype(np.uint16)
            total += part.sum(axis=0, dtype=np.uint32)
            squares += np.einsum("n...,n...->...", part, part, dtype=np.uint32)
        means[k] = total / counts[k]
        deviations[k] = np.sqrt(np.maximum(squares / counts[k] - (total / counts[k]) ** 2, 0))
    return PixelSummary(_histograms(images), counts, means, deviations)


def _histograms(images: NDArray[np.uint8]) -> NDArray[np.int64]:
    # Bytes are counted in pairs: `bincount` makes its input int64, which takes five times longer with single bytes.
    pairs = np.zeros((images.shape[1], 256 * 256), np.int64)
    odd = np.zeros((images.shape[1], 256), np.int64)
    for start in range(0, len(images), CHUNK_IMAGES):
        for channel in range(images.shape[1]):
            values = np.ascontiguousarray(images[start : start + CHUNK_IMAGES, channel]).reshape(-1)
            even = len(values) // 2 * 2
            pairs[channel] += np.bincount(values[:even].view(np.uint16), minlength=256 * 256)
            odd[channel] += np.bincount(values[even:], minlength=256)
    square = pairs.reshape(-1, 256, 256)
    return square.sum(axis=1) + square.sum(axis=2) + odd
