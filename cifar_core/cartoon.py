"""cartoon10: the ten classes of CIFAR-10 drawn by code, to have pictures before any data set is there.

Every picture shows one subject in a pose, size, colour, light and place of its own, with noise over it and often with
something before it. All of it follows from the seed and the picture's number, to the last bit.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from cifar_core.drawing import FULL, SIDE, UNIT, Canvas, Chance
from cifar_core.scenery import before, blur, land, pond, room, sea, sky, street
from cifar_core.subjects import (
    airliner,
    car,
    car_from_the_front,
    cat_face,
    container_ship,
    deer,
    deer_face,
    dog_face,
    fire_engine,
    flying_bird,
    frog_from_the_front,
    frog_from_the_side,
    horse,
    horse_head,
    perched_bird,
    plane_from_above,
    propeller_plane,
    sailing_ship,
    sitting_cat,
    standing_dog,
    steamer,
    tipper,
    truck,
    walking_cat,
)

COUNTS = {"train": 6000, "test": 1000}
"""Pictures."""

VERSION = 1
"""Changes whenever the pictures do."""

DRAWS = 400
"""Numbers drawn for a picture, noise apart."""

Scene = Callable[[Canvas, Chance], None]


@dataclass(frozen=True)
class View:
    """One way to show a class."""

    label: int
    draw: Scene
    scenes: tuple[Scene, ...]
    share: int
    """Of the class's pictures, in percent."""
    size: tuple[int, int] = (115, 150)
    """Tenths of a pixel that 100 units take."""
    tilt: int = 8
    """Degrees to either side."""
    lower: int = 0
    """Pixels below the middle."""


_ANYWHERE = (land, room, blur, street, room)

VIEWS = (
    View(0, airliner, (sky, sky, sky, land, sea), 45, (105, 145), 26),
    View(0, plane_from_above, (sky, sky, land, sea, blur), 32, (105, 145), 80),
    View(0, propeller_plane, (sky, sky, land, street), 23, (105, 140), 20),
    View(1, car, (street, street, land, blur, room), 66, (105, 140), 6),
    View(1, car_from_the_front, (street, street, land, blur), 34, (120, 165), 5),
    View(2, perched_bird, (land, blur, sky, pond, street), 58, (105, 145), 18),
    View(2, flying_bird, (sky, sky, land, sea, blur), 42, (100, 145), 24),
    View(3, sitting_cat, _ANYWHERE, 40, (115, 150), 7),
    View(3, cat_face, _ANYWHERE, 30, (115, 150), 14),
    View(3, walking_cat, _ANYWHERE, 30, (110, 145), 7),
    View(4, deer, (land, land, land, blur), 68, (100, 126), 6, 2),
    View(4, deer_face, (land, land, blur), 32, (112, 135), 10, 3),
    View(5, standing_dog, _ANYWHERE, 58, (105, 138), 7),
    View(5, dog_face, _ANYWHERE, 42, (118, 155), 14),
    View(6, frog_from_the_front, (pond, pond, land, blur), 55, (110, 150), 9),
    View(6, frog_from_the_side, (pond, pond, land, blur), 45, (110, 145), 12),
    View(7, horse, (land, land, land, street, blur), 70, (108, 138), 7),
    View(7, horse_head, (land, land, blur, street), 30, (115, 145), 8),
    View(8, steamer, (sea,), 36, (105, 140), 6),
    View(8, sailing_ship, (sea,), 38, (108, 138), 9),
    View(8, container_ship, (sea,), 26, (105, 140), 5),
    View(9, truck, (street, street, land, blur), 42, (105, 138), 6),
    View(9, tipper, (street, street, land, blur), 33, (105, 138), 6),
    View(9, fire_engine, (street, street, land), 25, (105, 138), 6),
)
"""Their labels are CIFAR-10's."""

THREADS = 2
"""That draw at the same time; more of them would hold more of the pictures in memory at once."""

_SCENES = (sky, land, street, sea, room, blur, pond)


def draw(count: int, seed: int) -> Iterator[tuple[NDArray[np.intp], NDArray[np.uint8], NDArray[np.int64]]]:
    """Draw pictures, the same share of every class, view after view.

    Yields:
        Which of the pictures (B,), their pixels (B, 3, 32, 32) and their labels (B,) in [0, 10).
    """
    raw = np.random.PCG64(seed).random_raw(count * DRAWS).reshape(count, DRAWS)
    grain = np.random.PCG64([seed, 1]).random_raw(count * 3 * SIDE * SIDE // 8)
    noise = grain.astype("<u8").view(np.uint8).reshape(count, 3, SIDE, SIDE)
    labels = np.empty(count, np.int64)
    labels[np.argsort(raw[:, 0], kind="stable")] = np.arange(count) * 10 // count
    first = Chance(raw[:, 1:5])
    luck, odd, usual, any_ = first.between(0, 99), first.percent(12), first.between(0, 59), first.between(0, 6)
    views, scenes = np.empty(count, np.int64), np.empty(count, np.int64)
    for label in range(10):
        end = 0
        for number, view in enumerate(VIEWS):
            if view.label == label:
                which = (labels == label) & (end <= luck) & (luck < end + view.share)
                end += view.share
                views[which] = number
                known = np.array([_SCENES.index(scene) for scene in view.scenes])
                scenes[which] = np.where(odd & (label != 8), any_, known[usual % len(known)])[which]
    behind = np.empty((count, 3, SIDE, SIDE), np.uint16)
    water = np.zeros((count, 3), np.int64)

    def paint_behind(number: int) -> None:
        if len(which := np.flatnonzero(scenes == number)):
            canvas = Canvas(len(which))
            _SCENES[number](canvas, Chance(raw[which, 5:125]))
            behind[which], water[which] = canvas.pixels, canvas.water

    def paint(number: int) -> tuple[NDArray[np.intp], NDArray[np.uint8], NDArray[np.int64]]:
        which = np.flatnonzero(views == number)
        canvas = Canvas(len(which))
        canvas.pixels[:], canvas.water[:] = behind[which], water[which]
        return which, _finished(canvas, VIEWS[number], Chance(raw[which, 125:]), noise[which]), labels[which]

    # NumPy lets go of the interpreter while it calculates, so two at a time take less than one after the other.
    pool = ThreadPoolExecutor(THREADS)
    try:
        list(pool.map(paint_behind, range(len(_SCENES))))
        yield from pool.map(paint, [number for number in range(len(VIEWS)) if (views == number).any()])
    finally:
        pool.shutdown(cancel_futures=True)


def _finished(canvas: Canvas, view: View, chance: Chance, noise: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Put the subject before its background, something before it, and light and noise over all."""
    middle = SIDE // 2 * UNIT
    size = chance.between(*view.size) * chance.between(68, 100) * FULL // 1000
    x, y = (middle + chance.between(-5 * UNIT, 5 * UNIT) for _ in range(2))
    canvas.place(
        size,
        x,
        y + view.lower * UNIT,
        chance.between(-view.tilt, view.tilt) * 3 // 2,
        chance.between(0, 1),
        chance.between(-6, 14),
    )
    pen = chance.between(0, 170)
    canvas.begin_subject()
    view.draw(canvas, chance)
    canvas.rim(pen)
    canvas.place(SIDE // 2 * FULL, middle, middle, 0)
    before(canvas, chance, 80)
    before(canvas, chance, 40)
    canvas.expose(
        gain=np.stack([chance.between(86, 112) for _ in range(3)], axis=1) * chance.between(74, 120)[:, None],
        slope=(chance.between(-70, 70), chance.between(-70, 70)),
        haze=chance.between(0, 80),
        grain=chance.between(60, 540),
        noise=noise,
    )
    return (canvas.pixels >> 8).astype(np.uint8)
