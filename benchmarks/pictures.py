"""Draw the pictures that Explain offers to begin with: `python -m benchmarks.pictures`.

Simple shapes with light, haze and grain, enough like a small photo that a network knows them.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw, ImageFilter

SIDE = 256
FINE = 2
"""Drawn so many times larger, then made smaller, for smooth edges."""

FOLDER = Path(__file__).resolve().parent.parent / "pages" / "ui" / "examples"

Colour = tuple[int, int, int]


class Scene:
    """A picture under way; all measures are shares of its side."""

    def __init__(self, top: Colour, bottom: Colour) -> None:
        side = SIDE * FINE
        down = np.linspace(0, 1, side)[:, None, None]
        shades = np.array(top) * (1 - down) + np.array(bottom) * down
        self.image = Image.fromarray(np.broadcast_to(shades, (side, side, 3)).astype(np.uint8).copy())

    def polygon(self, points: list[tuple[float, float]], colour: Colour, soft: float = 0.0) -> None:
        self._paint(
            lambda draw, scale: draw.polygon([(x * scale, y * scale) for x, y in points], fill=255), colour, soft
        )

    def ellipse(self, x: float, y: float, wide: float, high: float, colour: Colour, soft: float = 0.0) -> None:
        box = (x - wide / 2, y - high / 2, x + wide / 2, y + high / 2)
        self._paint(lambda draw, scale: draw.ellipse([edge * scale for edge in box], fill=255), colour, soft)

    def box(self, left: float, top: float, right: float, bottom: float, colour: Colour, soft: float = 0.0) -> None:
        self.polygon([(left, top), (right, top), (right, bottom), (left, bottom)], colour, soft)

    def _paint(self, shape: Callable[[ImageDraw.ImageDraw, int], None], colour: Colour, soft: float) -> None:
        side = self.image.width
        mask = Image.new("L", (side, side))
        shape(ImageDraw.Draw(mask), side)
        if soft:
            mask = mask.filter(ImageFilter.GaussianBlur(soft * side))
        self.image.paste(colour, (0, 0), mask)

    def finished(self, seed: int, grain: float = 6.0) -> Image.Image:
        """With a little grain, as of a camera."""
        small = self.image.resize((SIDE, SIDE), Image.Resampling.LANCZOS).filter(ImageFilter.GaussianBlur(0.6))
        noise = np.random.default_rng(seed).normal(0, grain, (SIDE // 2, SIDE // 2, 1)).repeat(2, 0).repeat(2, 1)
        return Image.fromarray((np.asarray(small) + noise).clip(0, 255).astype(np.uint8))


def ripples(scene: Scene, top: float, colour: Colour, seed: int, count: int = 90) -> None:
    random = np.random.default_rng(seed)
    for _ in range(count):
        x, y = random.uniform(0, 1), random.uniform(top, 1)
        wide = random.uniform(0.04, 0.16) * (0.4 + y)
        scene.ellipse(x, y, wide, 0.006, colour, soft=0.001)


def ship() -> Image.Image:
    scene = Scene((150, 185, 220), (205, 220, 230))
    scene.box(0, 0.6, 1, 1, (44, 84, 122), soft=0.002)
    ripples(scene, 0.62, (78, 120, 156), seed=1)
    scene.polygon([(0.06, 0.5), (0.95, 0.47), (0.86, 0.7), (0.14, 0.7)], (38, 44, 58))
    scene.polygon([(0.125, 0.665), (0.875, 0.665), (0.86, 0.71), (0.14, 0.71)], (150, 46, 40))
    scene.polygon([(0.06, 0.5), (0.95, 0.47), (0.945, 0.49), (0.065, 0.52)], (232, 232, 228))
    scene.box(0.24, 0.4, 0.76, 0.5, (238, 238, 234))
    scene.box(0.3, 0.32, 0.66, 0.41, (226, 228, 226))
    for x in np.arange(0.27, 0.75, 0.05):
        scene.box(x, 0.435, x + 0.024, 0.46, (60, 80, 100))
    for x in np.arange(0.33, 0.64, 0.05):
        scene.box(x, 0.35, x + 0.024, 0.372, (60, 80, 100))
    for x in (0.38, 0.54):
        scene.polygon([(x, 0.16), (x + 0.08, 0.16), (x + 0.085, 0.33), (x - 0.005, 0.33)], (196, 74, 50))
        scene.box(x - 0.001, 0.16, x + 0.081, 0.2, (34, 34, 38))
    scene.box(0.18, 0.2, 0.186, 0.5, (80, 70, 60))
    scene.box(0.84, 0.22, 0.846, 0.48, (80, 70, 60))
    scene.ellipse(0.36, 0.1, 0.22, 0.06, (190, 200, 208), soft=0.02)
    ripples(scene, 0.69, (200, 214, 224), seed=2, count=24)
    return scene.finished(1)


def car() -> Image.Image:
    scene = Scene((176, 200, 222), (222, 226, 222))
    scene.box(0, 0.42, 1, 0.66, (96, 116, 84), soft=0.02)
    scene.box(0, 0.62, 1, 1, (112, 112, 116), soft=0.003)
    scene.ellipse(0.5, 0.8, 0.94, 0.08, (58, 58, 62), soft=0.02)
    body = (140, 36, 40)
    scene.polygon(
        [(0.05, 0.6), (0.08, 0.53), (0.27, 0.5), (0.38, 0.36), (0.68, 0.35), (0.8, 0.5), (0.94, 0.54), (0.96, 0.7),
         (0.93, 0.76), (0.06, 0.76), (0.04, 0.7)], body)  # fmt: skip
    scene.polygon([(0.08, 0.545), (0.93, 0.555), (0.93, 0.585), (0.07, 0.58)], (198, 73, 78), soft=0.006)
    scene.polygon([(0.05, 0.68), (0.955, 0.68), (0.93, 0.76), (0.06, 0.76)], (86, 22, 24), soft=0.004)
    glass = (52, 66, 82)
    scene.polygon([(0.31, 0.5), (0.4, 0.39), (0.525, 0.385), (0.525, 0.5)], glass)
    scene.polygon([(0.55, 0.5), (0.55, 0.385), (0.665, 0.385), (0.755, 0.5)], glass)
    scene.polygon([(0.34, 0.5), (0.42, 0.4), (0.46, 0.4), (0.39, 0.5)], (120, 142, 162), soft=0.003)
    scene.box(0.534, 0.5, 0.538, 0.74, (86, 22, 24))
    scene.box(0.57, 0.55, 0.62, 0.56, (230, 210, 205))
    scene.ellipse(0.075, 0.6, 0.05, 0.05, (246, 240, 206))
    scene.ellipse(0.945, 0.61, 0.03, 0.05, (240, 150, 60))
    for x in (0.24, 0.77):
        scene.ellipse(x, 0.745, 0.2, 0.2, (86, 22, 24))
        scene.ellipse(x, 0.76, 0.17, 0.17, (24, 24, 26))
        scene.ellipse(x, 0.76, 0.095, 0.095, (186, 188, 192))
        scene.ellipse(x, 0.76, 0.035, 0.035, (80, 82, 86))
    return scene.finished(2)


def frog() -> Image.Image:
    scene = Scene((118, 100, 74), (150, 130, 96))
    random = np.random.default_rng(5)
    for _ in range(160):
        shade = int(random.uniform(-26, 26))
        x, y, wide = random.uniform(0, 1), random.uniform(0, 1), random.uniform(0.02, 0.1)
        scene.ellipse(x, y, wide, wide * 0.6, (128 + shade, 110 + shade, 80 + shade), soft=0.004)
    scene.ellipse(0.5, 0.83, 0.86, 0.14, (72, 60, 44), soft=0.03)
    dark, skin, light = (40, 90, 30), (80, 150, 60), (120, 190, 90)
    for side in (-1, 1):
        scene.ellipse(0.5 + side * 0.29, 0.68, 0.26, 0.34, dark)
        scene.ellipse(0.5 + side * 0.3, 0.66, 0.22, 0.28, skin, soft=0.006)
        scene.polygon([(0.5 + side * 0.2, 0.8), (0.5 + side * 0.46, 0.83), (0.5 + side * 0.44, 0.87),
                       (0.5 + side * 0.18, 0.87)], dark)  # fmt: skip
    scene.ellipse(0.5, 0.61, 0.5, 0.48, skin)
    scene.ellipse(0.5, 0.7, 0.36, 0.28, (188, 196, 140), soft=0.01)
    scene.ellipse(0.5, 0.42, 0.48, 0.3, skin)
    scene.ellipse(0.5, 0.37, 0.34, 0.14, light, soft=0.02)
    for side in (-1, 1):
        x = 0.5 + side * 0.16
        scene.ellipse(x, 0.3, 0.14, 0.15, skin)
        scene.ellipse(x, 0.295, 0.1, 0.11, (206, 168, 58))
        scene.ellipse(x, 0.295, 0.07, 0.045, (18, 18, 14))
        scene.ellipse(x - 0.015, 0.275, 0.02, 0.02, (250, 250, 240))
        foot = x + side * 0.03
        scene.polygon([(x - 0.02, 0.6), (x + 0.05, 0.6), (foot + 0.03, 0.84), (foot - 0.04, 0.84)], dark, soft=0.004)
        scene.ellipse(foot, 0.85, 0.14, 0.04, dark)
        scene.ellipse(0.5 + side * 0.03, 0.4, 0.012, 0.012, (40, 60, 24))
    scene.polygon([(0.29, 0.455), (0.5, 0.49), (0.71, 0.455), (0.5, 0.505)], (40, 62, 24))
    for _ in range(26):
        x, y = random.normal(0.5, 0.12), random.normal(0.55, 0.06)
        scene.ellipse(x, y, 0.03, 0.024, dark, soft=0.004)
    return scene.finished(3)


def plane() -> Image.Image:
    scene = Scene((86, 142, 202), (176, 206, 232))
    random = np.random.default_rng(7)
    for _ in range(14):
        x, y = random.uniform(0, 1), random.uniform(0.7, 0.98)
        scene.ellipse(x, y, random.uniform(0.15, 0.4), 0.07, (226, 234, 242), soft=0.025)
    white, shade = (236, 238, 240), (164, 172, 182)
    scene.polygon([(0.5, 0.45), (0.62, 0.44), (0.8, 0.22), (0.74, 0.22)], shade)
    scene.polygon([(0.8, 0.42), (0.9, 0.41), (0.97, 0.2), (0.91, 0.2)], (36, 74, 140))
    scene.ellipse(0.48, 0.48, 0.84, 0.13, white)
    scene.polygon([(0.6, 0.42), (0.93, 0.39), (0.95, 0.44), (0.62, 0.54)], white)
    scene.polygon([(0.1, 0.5), (0.86, 0.5), (0.8, 0.53), (0.5, 0.548), (0.16, 0.53)], shade, soft=0.006)
    scene.polygon([(0.82, 0.44), (0.9, 0.43), (0.99, 0.5), (0.93, 0.5)], (200, 206, 214))
    scene.polygon([(0.42, 0.5), (0.58, 0.5), (0.72, 0.78), (0.64, 0.78)], (204, 210, 216))
    scene.polygon([(0.42, 0.5), (0.5, 0.5), (0.67, 0.78), (0.64, 0.78)], shade, soft=0.004)
    for x, y in ((0.5, 0.6), (0.6, 0.72)):
        scene.ellipse(x - 0.03, y, 0.11, 0.05, (120, 128, 140))
        scene.ellipse(x - 0.075, y, 0.03, 0.045, (60, 66, 76))
    for x in np.arange(0.2, 0.8, 0.035):
        scene.ellipse(x, 0.463, 0.014, 0.016, (62, 78, 98))
    scene.polygon([(0.075, 0.465), (0.11, 0.45), (0.13, 0.465), (0.1, 0.475)], (40, 52, 68))
    return scene.finished(4, grain=4)


PICTURES = {"ship": ship, "car": car, "frog": frog, "plane": plane}


def main() -> None:
    FOLDER.mkdir(exist_ok=True)
    for name, draw in PICTURES.items():
        draw().save(FOLDER / f"{name}.png", optimize=True)


if __name__ == "__main__":
    main()
