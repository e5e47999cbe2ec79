"""What layers respond to: first filters, maps of one image, and the images that excite each channel most."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from cifar_core.models import Classifier
from cifar_core.networks import Network

STRONGEST = 12
"""Images that are kept of each channel."""


@dataclass(frozen=True, eq=False)
class Filters:
    """The filters that see the image itself.

    Args:
        weights: (F, 3, h, w).
        layer: The layer whose channels begin with them.
        learned: Whether training changes them.
    """

    weights: NDArray[np.float32]
    layer: str
    learned: bool


def first_filters(model: Classifier) -> Filters | None:
    """The first convolution of three channels; None where no layer is one."""
    for name, layer in model.body.named_modules():
        weight = getattr(layer, "weight", None)
        if isinstance(weight, Tensor) and weight.ndim == 4 and weight.shape[1] == 3:
            values = weight.detach().float().cpu().numpy()
            return Filters(values, name.partition(".")[0], "weight" in dict(layer.named_parameters(recurse=False)))
    return None


def filter_pictures(filters: NDArray[np.floating]) -> NDArray[np.uint8]:
    """Filters (F, 3, h, w) as pictures of red, green and blue: grey is 0, and the largest weight of each is full."""
    peak = np.abs(filters).max(axis=(1, 2, 3), keepdims=True)
    scaled = np.divide(filters, peak, out=np.zeros_like(filters), where=peak > 0)
    return (127.5 + 127.5 * scaled).round().astype(np.uint8)


def layer_maps(network: Network, image: NDArray[np.uint8]) -> dict[str, NDArray[np.float32]]:
    """The feature maps (C, h, w) of each layer for one image (3, H, W), in the order of the network."""
    found = {}
    with torch.inference_mode():
        for name, maps in _each(network, torch.from_numpy(np.array(image)[None])):
            found[name] = maps[0].float().cpu().numpy()
    return found


def _each(network: Network, pixels: Tensor) -> Iterator[tuple[str, Tensor]]:
    maps, layers = network.normalise(pixels), network.model.layers
    for name, child in network.model.body.named_children():
        maps = child(maps)
        if name in layers:
            yield name, maps


@dataclass(frozen=True, eq=False)
class Strongest:
    """Of each channel of a layer the images in which it responds most, and how it responds to each class.

    Args:
        values: (C, n) the largest value of the channel's map, greatest first.
        images: (C, n) places of the images.
        rows, columns: (C, n) the place of that value on the map.
        by_class: (C, K) the mean over the images of a class of the largest value; not a number without any.
        active: (C,) share of the images in which the channel is above zero anywhere.
        size: Height and width of the maps.
    """

    values: NDArray[np.float32]
    images: NDArray[np.int32]
    rows: NDArray[np.int16]
    columns: NDArray[np.int16]
    by_class: NDArray[np.float32]
    active: NDArray[np.float32]
    size: tuple[int, int]


def strongest(
    network: Network, images: NDArray[np.uint8], labels: NDArray[np.int64], count: int = STRONGEST, batch: int = 250
) -> Iterator[tuple[int, dict[str, Strongest]]]:
    """Look for the images that excite each channel of each layer most.

    Args:
        images: (N, 3, H, W).
        labels: (N,) in [0, K).

    Returns:
        Images looked at so far, and what is known by then.
    """
    classes = len(network.classes)
    best: dict[str, tuple[Tensor, Tensor, Tensor]] = {}
    sums: dict[str, Tensor] = {}
    above: dict[str, Tensor] = {}
    sizes: dict[str, tuple[int, int]] = {}
    seen = torch.zeros(classes)
    for start in range(0, len(images), batch):
        pixels = torch.from_numpy(np.array(images[start : start + batch]))
        which = torch.nn.functional.one_hot(torch.from_numpy(np.array(labels[start : start + batch])), classes).float()
        seen += which.sum(0)
        with torch.inference_mode():
            for name, maps in _each(network, pixels):
                sizes[name] = (maps.shape[2], maps.shape[3])
                # Not flatten, which keeps the order in memory of images that are stored channels last.
                peaks, places = maps.reshape(len(maps), maps.shape[1], -1).float().cpu().max(2)
                numbers = torch.arange(start, start + len(maps))[:, None].expand_as(peaks)
                now = [part.T for part in (peaks, numbers, places)]
                if name in best:
                    now = [torch.cat(pair, 1) for pair in zip(best[name], now, strict=True)]
                order = now[0].argsort(dim=1, descending=True, stable=True)[:, :count]
                best[name] = tuple(part.gather(1, order) for part in now)  # type: ignore[assignment]
                sums[name] = sums.get(name, torch.zeros(maps.shape[1], classes)) + peaks.T @ which
                above[name] = above.get(name, torch.zeros(maps.shape[1])) + (peaks > 0).sum(0)
        done = start + len(pixels)
        yield (
            done,
            {
                name: Strongest(
                    values.numpy(),
                    numbers.numpy().astype(np.int32),
                    (places // sizes[name][1]).numpy().astype(np.int16),
                    (places % sizes[name][1]).numpy().astype(np.int16),
                    (sums[name] / seen).numpy(),
                    (above[name] / done).numpy(),
                    sizes[name],
                )
                for name, (values, numbers, places) in best.items()
            },
        )


def marked(
    images: NDArray[np.uint8], rows: Sequence[int], columns: Sequence[int], size: tuple[int, int], times: int = 3
) -> NDArray[np.uint8]:
    """Images (N, 3, H, W) enlarged, with a frame around the cell of a map of some size that lies there.

    Returns:
        (N, 3, times * H, times * W).
    """
    large = images.repeat(times, axis=2).repeat(times, axis=3)
    height, width = large.shape[2:]
    for picture, row, column in zip(large, rows, columns, strict=True):
        top, left = (
            int(place * side / cells) for place, side, cells in ((row, height, size[0]), (column, width, size[1]))
        )
        # At least as large as is seen.
        bottom = min(max(top + 6, -(-(row + 1) * height // size[0])), height)
        right = min(max(left + 6, -(-(column + 1) * width // size[1])), width)
        top, left = min(top, bottom - 6), min(left, right - 6)
        for inset, value in ((0, 0), (1, 255)):
            for edge in (top + inset, bottom - 1 - inset):
                picture[:, edge, left + inset : right - inset] = value
            for edge in (left + inset, right - 1 - inset):
                picture[:, top + inset : bottom - inset, edge] = value
    return large
