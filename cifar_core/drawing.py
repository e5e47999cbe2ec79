"""Shapes drawn in whole numbers, many pictures at once: no rounding differs between computers, so no byte does.

Arrays hold one value per picture: (N,) int64. Shapes are closed outlines (N or 1, V, 2) of points (x, y), y downwards.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

Whole = NDArray[np.int64]
Number = Whole | int
"""One for each picture, or the same for all."""

Colour = tuple[int, int, int]

SIDE = 32
"""Pixels."""

UNIT = 64
"""Steps of a coordinate per pixel."""

FULL = 256
"""Coverage of a pixel that is covered wholly, and an opacity that hides all below."""

_ROWS = 4
"""Lines per pixel along which outlines are met; between left and right coverage is exact."""

_SCALE = 1 << 14

# fmt: off
_QUARTER = (
    0, 286, 572, 857, 1143, 1428, 1713, 1997, 2280, 2563, 2845, 3126, 3406, 3686, 3964, 4240, 4516, 4790, 5063, 5334,
    5604, 5872, 6138, 6402, 6664, 6924, 7182, 7438, 7692, 7943, 8192, 8438, 8682, 8923, 9162, 9397, 9630, 9860, 10087,
    10311, 10531, 10749, 10963, 11174, 11381, 11585, 11786, 11982, 12176, 12365, 12551, 12733, 12911, 13085, 13255,
    13421, 13583, 13741, 13894, 14044, 14189, 14330, 14466, 14598, 14726, 14849, 14968, 15082, 15191, 15296, 15396,
    15491, 15582, 15668, 15749, 15826, 15897, 15964, 16026, 16083, 16135, 16182, 16225, 16262, 16294, 16322, 16344,
    16362, 16374, 16382, 16384,
)
# fmt: on
_SINES: Whole = np.array(
    (*_QUARTER, *_QUARTER[89::-1], *(-s for s in _QUARTER[1:]), *(-s for s in _QUARTER[89:0:-1])), np.int64
)
"""Of 0 to 359 degrees, times 2**14. Written down, as libraries of mathematics differ in their last digits."""


def sine(degrees: Number) -> Whole:
    """Times 2**14."""
    return _SINES[np.asarray(degrees) % 360]


class Chance:
    """Whole numbers drawn for each picture from a row of its own, so that no picture depends on another.

    PCG64's raw stream is among what numpy promises never to change; what its generators make of it is not.
    """

    def __init__(self, raw: NDArray[np.uint64]) -> None:
        """raw: (N, D), enough for D draws per picture."""
        self._raw = (raw >> np.uint64(32)).astype(np.int64)
        self._next = 0

    def between(self, low: Number, high: Number) -> Whole:
        """Each whole number from low to high, both among them, equally likely."""
        raw = self._raw[:, self._next]
        self._next += 1
        many: Whole = np.asarray(high, np.int64) - low + 1
        return low + (raw * many >> 32)

    def percent(self, share: Number) -> NDArray[np.bool_]:
        """True for so many of a hundred pictures."""
        return self.between(0, 99) < share

    def pick(self, colours: Sequence[Colour], spread: int = 12) -> Whole:
        """(N, 3) one of some colours, in [0, 255], its channels changed by up to `spread`."""
        chosen = np.array(colours)[self.between(0, len(colours) - 1)]
        change = np.stack([self.between(-spread, spread) for _ in range(3)], axis=1)
        return np.clip(chosen + change, 0, 255)

    def hue(self, saturation: Number, brightness: Number) -> Whole:
        """(N, 3) any hue; saturation and brightness in [0, 255]."""
        turn = self.between(0, 6 * 256 - 1)
        ramps = [np.clip(abs((turn + shift) % 1536 - 768) - 256, 0, 255) for shift in (0, 1024, 512)]
        return np.stack([np.asarray(brightness) * (255 - (255 - r) * saturation // 255) // 255 for r in ramps], axis=1)


GLASS = ((120, 170, 205), (70, 95, 125), (180, 210, 225), (40, 50, 66))
PAINT = (
    (200, 40, 36),
    (30, 84, 170),
    (236, 190, 40),
    (240, 240, 236),
    (40, 44, 52),
    (50, 130, 80),
    (150, 156, 164),
    (224, 120, 40),
    (120, 190, 220),
    (130, 40, 60),
)
FUR = (
    (120, 78, 44),
    (184, 126, 70),
    (226, 190, 140),
    (70, 50, 40),
    (48, 46, 48),
    (150, 146, 142),
    (236, 230, 220),
    (206, 120, 50),
)

BLACK, WHITE = np.array((22, 22, 26)), np.array((244, 244, 240))


def mix(one: Whole, other: Whole | Colour, share: Number) -> Whole:
    """(N, 3) so many percent of the other colour."""
    much: Whole = np.reshape(np.asarray(share, np.int64), (-1, 1))
    return (one * (100 - much) + np.asarray(other, np.int64) * much) // 100


def darker(colour: Whole, percent: Number = 30) -> Whole:
    """So much of black in it."""
    return mix(colour, BLACK, percent)


def lighter(colour: Whole, percent: Number = 40) -> Whole:
    """So much of white in it."""
    return mix(colour, WHITE, percent)


# Shapes ------------------------------------------------------------------------------------------------------------


def outline(*points: tuple[Number, Number], rounds: int = 0) -> Whole:
    """A closed outline through points, its corners cut off so many times (Chaikin, 1974): two make it look round."""
    corners = np.stack([np.stack(np.broadcast_arrays(x, y), -1) for x, y in _alike(points)], 1)
    for _ in range(rounds):
        following = np.roll(corners, -1, axis=1)
        cut = np.stack([3 * corners + following, corners + 3 * following], axis=2) + 2 >> 2
        corners = cut.reshape(len(corners), -1, 2)
    return corners


def ellipse(x: Number, y: Number, across: Number, down: Number, turn: Number = 0) -> Whole:
    """With half its width and height, turned by degrees, clockwise."""
    around = np.arange(0, 360, 20)
    flat, steep = sine(around + 90), sine(around)
    x, y, across, down, turn = (np.reshape(v, (-1, 1)) for v in (x, y, across, down, turn))
    right, below = across * flat >> 6, down * steep >> 6  # times 2**8
    cos, sin = sine(turn + 90), sine(turn)
    along = (right * cos - below * sin >> 14) + 128 >> 8
    aside = (right * sin + below * cos >> 14) + 128 >> 8
    return np.stack(np.broadcast_arrays(x + along, y + aside), -1)


def limb(x0: Number, y0: Number, wide0: Number, x1: Number, y1: Number, wide1: Number) -> Whole:
    """From one round end to the other; `wide0` and `wide1` are the ends' radii."""
    around = np.arange(0, 360, 30)
    flat, steep = sine(around + 90), sine(around)
    x0, y0, wide0, x1, y1, wide1 = (np.reshape(v, (-1, 1)) for v in (x0, y0, wide0, x1, y1, wide1))
    far = (x1 - x0) * flat + (y1 - y0) * steep > 0
    wide = np.where(far, wide1, wide0)
    across, down = (wide * way + _SCALE // 2 >> 14 for way in (flat, steep))
    return np.stack([np.where(far, x1, x0) + across, np.where(far, y1, y0) + down], -1)


def box(left: Number, top: Number, right: Number, bottom: Number) -> Whole:
    """A rectangle."""
    return outline((left, top), (right, top), (right, bottom), (left, bottom))


def _alike(points: Sequence[tuple[Number, Number]]) -> list[tuple[Whole, Whole]]:
    count = max(np.size(value) for point in points for value in point)
    return [(np.broadcast_to(x, (count,)), np.broadcast_to(y, (count,))) for x, y in points]


# Painting ----------------------------------------------------------------------------------------------------------


def _blend(pixels: NDArray[np.int32], colour: Whole, strength: NDArray[np.int32]) -> None:
    target = np.reshape(colour, (-1, 3, 1, 1)).astype(np.int32) << 8
    change = target - pixels
    change >>= 4
    change *= strength[:, None]
    change >>= 4
    pixels += change


class Canvas:
    """Pictures that are painted together, layer upon layer.

    Attributes:
        pixels: (N, 3, 32, 32) int64 in [0, 255 * 256].
        covered: (N, 32, 32) in [0, 256], by what was painted since `begin_subject`.
    """

    def __init__(self, count: int) -> None:
        self.pixels = np.zeros((count, 3, SIDE, SIDE), np.int32)
        self.covered = np.zeros((count, SIDE, SIDE), np.int32)
        self.water = np.zeros((count, 3), np.int64)
        self.place(SIDE // 2 * FULL, SIDE // 2 * UNIT, SIDE // 2 * UNIT, 0)

    def place(
        self, size: Number, x: Number, y: Number, turn: Number, mirrored: Number = 0, squeeze: Number = 0
    ) -> None:
        """Where the shapes to come lie.

        Args:
            size: Pixels that 100 of their units take, times 256.
            x: Where their origin lies, in steps (64 per pixel) from the top left corner; likewise y.
            turn: Degrees, clockwise.
            mirrored: 1 where left and right change places.
            squeeze: Percent by which they are lower than wide.
        """
        count = len(self.pixels)
        size, x, y, turn, mirrored, squeeze = (
            np.broadcast_to(v, (count,)).reshape(-1, 1).astype(np.int64) for v in (size, x, y, turn, mirrored, squeeze)
        )
        cos, sin = sine(turn + 90) * size, sine(turn) * size
        flip = 1 - 2 * mirrored
        low = 100 - squeeze
        self._origin = x, y
        # Steps per unit of a shape, times 2**20: size / 2**8 pixels / 100 units * 64 steps * 2**14 of the sine.
        self._matrix = tuple(
            v * UNIT // (100 * 4) for v in (cos * flip, -sin * low // 100, sin * flip, cos * low // 100)
        )

    def fill(self, top: Whole, bottom: Whole, begin: Number = 0, end: Number = SIDE) -> None:
        """Colour rows from `begin` up to `end`, from one colour (N, 3) at the top to another at the bottom."""
        rows = np.arange(SIDE)
        begin, end = (np.reshape(v, (-1, 1)) for v in (begin, end))
        share = np.clip((rows - begin) * 256 // np.maximum(end - begin - 1, 1), 0, 256)[:, None, :, None]
        colour = top[:, :, None, None] * (256 - share) + bottom[:, :, None, None] * share
        inside = ((rows >= begin) & (rows < end))[:, None, :, None]
        np.copyto(self.pixels, colour.astype(np.int32), where=inside)

    def paint(
        self,
        shapes: Sequence[Whole],
        colour: Whole,
        opacity: Number = FULL,
        where: NDArray[np.bool_] | None = None,
        within: NDArray[np.int32] | None = None,
    ) -> NDArray[np.int32]:
        """Paint shapes of one colour as one layer, so that no seam shows where they overlap.

        Args:
            colour: (N, 3) or (3,) in [0, 255].
            opacity: Up to `FULL`.
            where: In which pictures.
            within: Only on what another layer covers.

        Returns:
            (N, 32, 32) what the layer covers, in [0, `FULL`].
        """
        cover, rows, columns = self._cover(shapes, where)
        window = np.s_[:, rows, columns]
        if within is not None:
            cover = cover * within[window] >> 8
        covered = self.covered[window]
        np.maximum(covered, cover, out=covered)
        strength = cover * np.reshape(opacity, (-1, 1, 1)).astype(np.int32) >> 8
        _blend(self.pixels[:, :, rows, columns], colour, strength)
        whole = np.zeros_like(self.covered)
        whole[window] = cover
        return whole

    def blend(self, colour: Whole, strength: NDArray[np.int32]) -> None:
        """Mix a colour in, (N, 32, 32) in [0, 256] of it."""
        _blend(self.pixels, colour, strength)

    def begin_subject(self) -> None:
        """Forget what is covered so far, the background."""
        self.covered[:] = 0

    def _cover(
        self, shapes: Sequence[Whole], where: NDArray[np.bool_] | None
    ) -> tuple[NDArray[np.int32], slice, slice]:
        """Coverage (N, h, w) in [0, 256] of some rows and columns, beyond which nothing is covered.

        Along each line, an outline that goes down adds all to its right, one that goes up takes it away again.
        """
        count = len(self.pixels)
        parts = [self._edges(shape, where) for shape in shapes]
        x0, y0, x1, y1, picture, way = (np.concatenate([part[i] for part in parts]) for i in range(6))
        step = UNIT // _ROWS
        # Lines lie in the middle between steps; each edge meets those from y0 on, y1 not among them.
        first = np.clip((y0 + step // 2 - 1) // step, 0, SIDE * _ROWS)
        last = np.clip((y1 + step // 2 - 1) // step, 0, SIDE * _ROWS)
        meets = last - first
        slope = (x1 - x0 << 16) // (y1 - y0)
        start = (x0 << 16) + (first * step + step // 2 - y0) * slope
        further = np.arange(meets.sum()) - np.repeat(np.cumsum(meets) - meets, meets)
        row = (np.repeat(first, meets) + further) // _ROWS
        x = np.clip(np.repeat(start, meets) + further * np.repeat(slope * step, meets) >> 16, 0, SIDE * UNIT)
        column, past = x // UNIT, x % UNIT
        if not len(row):
            return np.zeros((count, 0, 0), np.int32), slice(0, 0), slice(0, 0)
        top, left = int(row.min()), int(column.min())
        high, wide = int(row.max()) + 1 - top, min(int(column.max()) + 1, SIDE) - left
        place = (np.repeat(picture, meets) * high + row - top) * (wide + 2) + column - left
        weight, size = np.repeat(way, meets), count * high * (wide + 2)
        # Sums of whole numbers far below 2**53 are exact in floating point.
        change = np.bincount(place, weight * (UNIT - past), size) + np.bincount(place + 1, weight * past, size)
        inside = change.reshape(count, high, wide + 2)[:, :, :wide].astype(np.int32)
        for right in range(1, wide):
            inside[:, :, right] += inside[:, :, right - 1]
        cover = np.minimum(np.abs(inside), FULL)
        return cover, slice(top, top + high), slice(left, left + wide)

    def _edges(self, shape: Whole, where: NDArray[np.bool_] | None) -> tuple[Whole, ...]:
        """Edges (x0, y0, x1, y1) with y0 < y1, the picture they are in, and 1 where the outline goes down, else -1."""
        a, b, c, d = self._matrix
        x = (shape[..., 0] * a + shape[..., 1] * b >> 20) + self._origin[0]
        y = (shape[..., 0] * c + shape[..., 1] * d >> 20) + self._origin[1]
        x1, y1 = np.roll(x, -1, axis=1), np.roll(y, -1, axis=1)
        # All outlines of a layer turn the same way, so that those that overlap add up.
        turns = np.sign(np.sum(x * y1 - x1 * y, axis=1, keepdims=True))
        keep = y != y1
        if where is not None:
            keep &= where[:, None]
        down = y < y1
        picture = np.broadcast_to(np.arange(len(x))[:, None], x.shape)
        way = np.where(down, 1, -1) * turns
        edges = (
            np.where(down, x, x1),
            np.minimum(y, y1),
            np.where(down, x1, x),
            np.maximum(y, y1),
            picture,
            way,
        )
        return tuple(value[keep] for value in edges)

    # Light and dirt

    def rim(self, strength: Number) -> None:
        """Darken what is just beside the subject, of 256 by so much, as a pen would."""
        wide = np.pad(self.covered, ((0, 0), (1, 1), (1, 1)))
        near = np.maximum.reduce([wide[:, 1:-1, :-2], wide[:, 1:-1, 2:], wide[:, :-2, 1:-1], wide[:, 2:, 1:-1]])
        beside = np.maximum(near - self.covered, 0)
        self.blend(np.zeros(3, np.int64), beside * np.reshape(strength, (-1, 1, 1)).astype(np.int32) >> 8)

    def expose(
        self, gain: Whole, slope: tuple[Whole, Whole], haze: Whole, grain: Whole, noise: NDArray[np.uint8]
    ) -> None:
        """Take the picture.

        Args:
            gain: (N, 3) brightness of each channel, 10,000 for unchanged.
            slope: By how many 256ths it is brighter at the right and the lower edge than at the middle.
            haze: So many 256ths of grey in it.
            grain: Strength of the noise, levels times 256 / 15.
            noise: (N, 3, 32, 32) any bytes.
        """
        self.blend(np.array((128, 128, 128)), np.broadcast_to(haze[:, None, None], self.covered.shape).astype(np.int32))
        across = np.arange(1 - SIDE, SIDE, 2)
        right, below = (np.reshape(way, (-1, 1, 1, 1)) for way in slope)
        light = 256 + (right * across[None, None, None, :] + below * across[None, None, :, None]) // SIDE
        lit = self.pixels * (gain[:, :, None, None] * light // 10_000) >> 8
        # The halves of a byte add up to something with a peak at the middle, as noise has.
        speckle = (noise & 15).astype(np.int32) + (noise >> 4) - 15
        lit += speckle * grain[:, None, None, None]
        self.pixels = np.clip(lit, 0, 65_535).astype(np.int32)
