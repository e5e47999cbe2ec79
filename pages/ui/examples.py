"""Pictures to try a network on, drawn by `benchmarks/pictures.py`; none is a photo and none is of CIFAR-10."""

from __future__ import annotations

from functools import cache
from pathlib import Path

FOLDER = Path(__file__).with_name("examples")

ALL = {
    "Ship": "A drawing of a ship with two funnels on a blue sea",
    "Car": "A drawing of a red car on a road, seen from its side",
    "Frog": "A drawing of a green frog that sits on the ground",
    "Plane": "A drawing of an airliner in the sky",
}
"""What is on each, for those who do not see it."""


@cache
def content(name: str) -> bytes:
    """The file of a picture."""
    return (FOLDER / f"{name.lower()}.png").read_bytes()
