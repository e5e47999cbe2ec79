"""Images of shapes, drawn by code, that a small network learns; for tests and benchmarks."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

CLASSES = ("circle", "square", "stripes")


def drawing(kind: str, random: np.random.Generator) -> np.ndarray[Any, np.dtype[np.uint8]]:
    """(32, 32, 3) uint8: a bright shape of any colour, about the middle of a dark ground of any colour, with noise.

    Hard enough that a network trained for two epochs makes a few mistakes.
    """
    ground, colour = random.uniform(0, 90, 3), random.uniform(100, 255, 3)
    down, right = np.mgrid[:32, :32] - (15.5 + random.uniform(-4, 4, (2, 1, 1)))
    side = random.uniform(6, 9)
    match kind:
        case "circle":
            inside = np.abs(np.hypot(down, right) - side) < 2
        case "square":
            inside = np.maximum(np.abs(down), np.abs(right)) < side
        case _:
            inside = (down + 30) % 8 < 3
    pixels = np.where(inside[..., None], colour, ground) + random.normal(0, 50, (32, 32, 3))
    return pixels.clip(0, 255).astype(np.uint8)


def drawn_folder(folder: Path, train: int, test: int, seed: int) -> Path:
    """Fill a folder with `train/<class>/*.png` and `test/<class>/*.png`, so many of each class; the same for a seed."""
    random = np.random.default_rng(seed)
    for split, count in (("train", train), ("test", test)):
        for name in CLASSES:
            (folder / split / name).mkdir(parents=True)
            for i in range(count):
                Image.fromarray(drawing(name, random)).save(folder / split / name / f"{i:03}.png", compress_level=1)
    return folder
