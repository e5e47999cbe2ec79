"""What can be measured of each image by itself: brightness, contrast, saturation, sharpness and mean colour."""

from __future__ import annotations

import io
from collections.abc import Iterator
from dataclasses import dataclass, fields
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from cifar_core.datasets import Split

CHUNK_IMAGES = 1000

LUMA = np.array([0.299, 0.587, 0.114], np.float32)
"""Weights of red, green and blue in the brightness of a pixel (ITU-R BT.601)."""

MEASURES = {
    "brightness": "Mean brightness of the pixels: 0 is black, 1 is white.",
    "contrast": "Standard deviation of the brightness of the pixels: 0 is one tone, 0.5 is half black, half white.",
    "saturation": "Mean of how colourful the pixels are (as in HSV): 0 is grey, 1 is pure colour.",
    "sharpness": "Mean difference in brightness of neighbouring pixels: 0 is one tone; blurred images have little.",
}
"""The attributes that images are filtered and sorted by."""

THUMB = 8
"""Side of the smallest view of an image that is kept, to compare images by."""


class AttributesError(ValueError):
    """A file of attributes cannot be read."""


@dataclass(frozen=True, eq=False)
class Attributes:
    """The attributes of the N images of a split.

    Args:
        brightness, contrast, saturation, sharpness: (N,) float32 in [0, 1]; see `MEASURES`.
        colours: (N, 3) uint8, mean of each channel.
        thumbs: (N, 3, 8, 8) uint8, each the mean of 4 x 4 pixels.
    """

    brightness: NDArray[np.float32]
    contrast: NDArray[np.float32]
    saturation: NDArray[np.float32]
    sharpness: NDArray[np.float32]
    colours: NDArray[np.uint8]
    thumbs: NDArray[np.uint8]

    def __len__(self) -> int:
        return len(self.brightness)

    def to_bytes(self) -> bytes:
        """The content of an .npz file; not compressed, as it is to be read at once."""
        content = io.BytesIO()
        np.savez(content, **{each.name: getattr(self, each.name) for each in fields(self)})
        return content.getvalue()

    @classmethod
    def load(cls, path: Path) -> Attributes:
        """Read what `to_bytes` gave.

        Raises:
            AttributesError: The file is damaged.
        """
        try:
            with np.load(path, allow_pickle=False) as file:
                found = cls(**{each.name: file[each.name] for each in fields(cls)})
        # Damage shows itself in any way, from zlib.error to KeyError.
        except Exception:
            raise AttributesError(f"The attributes in {path} are damaged; measure the images again.") from None
        for each in fields(cls):
            getattr(found, each.name).flags.writeable = False
        return found


def measured(split: Split) -> Iterator[Attributes]:
    """The attributes of a split, part by part in order; about 3 s for 60,000 images."""
    for start in range(0, len(split.images), CHUNK_IMAGES):
        yield of_images(np.asarray(split.images[start : start + CHUNK_IMAGES]))


def joined(parts: list[Attributes]) -> Attributes:
    """One of several parts."""
    return Attributes(*(np.concatenate([getattr(part, each.name) for part in parts]) for each in fields(Attributes)))


def of_images(images: NDArray[np.uint8]) -> Attributes:
    """The attributes of (N, 3, H, W) images, H and W multiples of 8."""
    values = images.astype(np.float32) / np.float32(255)
    luma = np.tensordot(values, LUMA, (1, 0)) if len(values) else values[:, 0]
    highest, lowest = values.max(1), values.min(1)
    saturation = np.divide(highest - lowest, highest, out=np.zeros_like(highest), where=highest > 0)
    down, right = np.abs(np.diff(luma, axis=1)), np.abs(np.diff(luma, axis=2))
    return Attributes(
        luma.mean((1, 2)),
        luma.std((1, 2)),
        saturation.mean((1, 2)),
        (down.mean((1, 2)) + right.mean((1, 2))) / 2,
        (values.mean((2, 3)) * 255).round().astype(np.uint8),
        (pooled(values, THUMB) * 255).round().astype(np.uint8),
    )


BINS = 40
"""Of the map of colours, along each of its sides."""


@dataclass(frozen=True, eq=False)
class ColourMap:
    """Images by their mean colour: from green to red and from blue to yellow, as the eye tells colours apart.

    Args:
        cells: (N,) place of each image, row * BINS + column; rows grow from blue to yellow, columns from green to red.
        colours: (BINS**2, 3) uint8, mean colour of the images of each place.
        counts: (BINS**2,) images there.
    """

    cells: NDArray[np.int64]
    colours: NDArray[np.uint8]
    counts: NDArray[np.int64]


def colour_map(colours: NDArray[np.uint8]) -> ColourMap:
    """Arrange mean colours (N, 3) by the opponent colours of OKLab (Ottosson, 2020), whatever their brightness."""
    linear = colours.astype(np.float64) / 255
    linear = np.where(linear <= 0.04045, linear / 12.92, ((linear + 0.055) / 1.055) ** 2.4)
    cones = np.cbrt(linear @ _TO_CONES.T)
    opponents = (cones @ _TO_OPPONENTS.T)[:, ::-1]
    # Photos are mostly near grey, so that the middle is drawn larger.
    stretched = np.sign(opponents) * np.sqrt(np.abs(opponents) / 0.35)
    row, column = np.clip(((stretched + 1) / 2 * BINS).astype(np.int64), 0, BINS - 1).T
    cells = row * BINS + column
    counts = np.bincount(cells, minlength=BINS**2)
    sums = [np.bincount(cells, weights=colours[:, k], minlength=BINS**2) for k in range(3)]
    means = np.stack(sums, axis=1) / np.maximum(counts, 1)[:, None]
    return ColourMap(cells, means.round().astype(np.uint8), counts)


_TO_CONES = np.array(
    [
        [0.4122214708, 0.5363325363, 0.0514459929],
        [0.2119034982, 0.6806995451, 0.1073969566],
        [0.0883024619, 0.2817188376, 0.6299787005],
    ]
)
_TO_OPPONENTS = np.array([[1.9779984951, -2.4285922050, 0.4505937099], [0.0259040371, 0.7827717662, -0.8086757660]])
"""Rows: from green to red, from blue to yellow."""


def pooled(images: NDArray[np.float32], side: int) -> NDArray[np.float32]:
    """Images (N, C, H, W) made (N, C, side, side), each pixel the mean of a square of them."""
    count, channels, height, width = images.shape
    return images.reshape(count, channels, side, height // side, side, width // side).mean((3, 5))
