"""Squares of an image erased, blurred or exchanged, and the fewest that change a network's answer."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageFilter

GRID = 8
"""Rows and columns of squares."""

WAYS = {
    "erase": "Erase (zero for the network)",
    "blur": "Blur",
    "swap": "Swap among themselves",
}

BLUR_RADIUS = 0.1
"""Deviation of the blur, as a share of the image's side."""

Answer = Callable[[NDArray[np.uint8]], NDArray[np.float32]]
"""Logits (M, K) of images (M, 3, H, W)."""


def erase(
    pixels: NDArray[np.uint8], squares: NDArray[np.bool_], how: str, colour: tuple[float, float, float]
) -> NDArray[np.uint8]:
    """An image with some squares changed.

    Args:
        pixels: (3, H, W).
        squares: (GRID, GRID), which to change.
        how: One of `WAYS`. Squares that are swapped move on to the next one chosen, row by row, the last to the first.
        colour: What "erase" fills with, red, green and blue in [0, 1]: the mean of the training images says least.

    Returns:
        (3, H, W).

    Raises:
        ValueError: There is no such way, or the squares are of another shape.
    """
    if how not in WAYS:
        raise ValueError(f"how must be one of {', '.join(WAYS)}, but is {how!r}.")
    if squares.shape != (GRID, GRID):
        raise ValueError(f"squares must be ({GRID}, {GRID}), but are {squares.shape}.")
    if how == "swap":
        return _swapped(pixels, squares)
    if how == "erase":
        filling = np.broadcast_to(np.round(np.array(colour) * 255)[:, None, None], pixels.shape)
    else:
        picture = Image.fromarray(np.ascontiguousarray(pixels.transpose(1, 2, 0)))
        soft = picture.filter(ImageFilter.GaussianBlur(BLUR_RADIUS * pixels.shape[2]))
        filling = np.asarray(soft).transpose(2, 0, 1)
    return np.where(_mask(squares, pixels.shape[1:]), filling, pixels).astype(np.uint8)


@dataclass(frozen=True, eq=False)
class Erasure:
    """What it took to change an answer.

    Args:
        squares: (GRID, GRID), which were changed.
        answer: The class after it; the one before where nothing changed it.
        changed: Whether the answer is another one.
        tried: How many images the network was asked about.
    """

    squares: NDArray[np.bool_]
    answer: int
    changed: bool
    tried: int


def smallest_erasure(
    pixels: NDArray[np.uint8], answer: Answer, how: str, colour: tuple[float, float, float]
) -> Erasure:
    """Few squares whose change gives another answer, found greedily.

    One square after another is changed, each time the one that brings the lead of the present answer down most; then
    those that turn out not to be needed are put back. There may be fewer that do it together: to be sure of the fewest,
    all 2^64 choices would have to be tried.

    Args:
        pixels: (3, H, W).
        answer: What to ask; called with at most GRID² images at once.
        how, colour: As for `erase`; "swap" is not offered, since a square alone cannot be swapped.
    """
    if how == "swap":
        raise ValueError("how must be erase or blur for the smallest erasure: a square alone cannot be swapped.")
    squares = np.zeros((GRID, GRID), bool)
    before = int(answer(pixels[None])[0].argmax())
    tried, now = 1, before
    while now == before and not squares.all():
        left = np.argwhere(~squares)
        logits = answer(np.stack([erase(pixels, _with(squares, place, True), how, colour) for place in left]))
        tried += len(left)
        best = int(lead(logits, before).argmin())
        squares = _with(squares, left[best], True)
        now = int(logits[best].argmax())
    if now == before:
        return Erasure(squares, before, False, tried)
    for place in np.argwhere(squares):
        fewer = _with(squares, place, False)
        logits = answer(erase(pixels, fewer, how, colour)[None])[0]
        tried += 1
        if int(logits.argmax()) != before:
            squares, now = fewer, int(logits.argmax())
    return Erasure(squares, now, True, tried)


def lead(logits: NDArray[np.floating], of: int) -> NDArray[np.floating]:
    """(M,) how far a class's logit is above the largest of the others (M, K); below 0 where it is not first."""
    others = np.delete(logits, of, axis=1)
    return logits[:, of] - others.max(axis=1)


def _with(squares: NDArray[np.bool_], place: NDArray[np.int64], value: bool) -> NDArray[np.bool_]:
    changed = squares.copy()
    changed[tuple(place)] = value
    return changed


def _mask(squares: NDArray[np.bool_], size: tuple[int, ...]) -> NDArray[np.bool_]:
    height, width = size
    return squares[np.arange(height) * GRID // height][:, np.arange(width) * GRID // width]


def _swapped(pixels: NDArray[np.uint8], squares: NDArray[np.bool_]) -> NDArray[np.uint8]:
    chosen = np.argwhere(squares)
    high, wide = (side // GRID for side in pixels.shape[1:])
    result = pixels.copy()
    for (row, column), (to_row, to_column) in zip(chosen, np.roll(chosen, -1, axis=0), strict=True):
        piece = pixels[:, row * high : (row + 1) * high, column * wide : (column + 1) * wide]
        result[:, to_row * high : (to_row + 1) * high, to_column * wide : (to_column + 1) * wide] = piece
    return result
