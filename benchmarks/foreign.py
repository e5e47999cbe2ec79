"""How many pictures that show none of the classes does a network call foreign, and how many test images by mistake?

    python -m benchmarks.foreign [RUN] [--cache DIR] [--checkpoint best] [--images 200]

Foreign pictures are drawn here by a seed, as photos of some hundred pixels, and go the way that a visitor's photo goes.
The threshold is chosen on validation images alone; it has never seen a test image or a foreign one. What is measured
(`cifar_core.strangeness`) was chosen with an eye on the kinds in `SEEN`; those in `UNSEEN` were drawn afterwards and
decided nothing. Without RUN it is the network that comes with the program, which needs no images for this.
"""

from __future__ import annotations

import argparse
import json
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFilter, ImageFont

from cifar_core import job
from cifar_core.datasets import cached
from cifar_core.photos import to_input
from cifar_core.runs import REFERENCE, Run, write_whole
from cifar_core.strangeness import FALSE_ALARMS, Strangeness

SIDE = 320

Random = np.random.Generator
Colour = tuple[int, int, int]


# Kinds that the measures were chosen with ----------------------------------------------------------------------------


def font(name: str, size: float) -> ImageFont.FreeTypeFont | ImageFont.ImageFont:
    """A font that matplotlib or the system brings; Pillow's own where there is neither."""
    try:
        from matplotlib import get_data_path

        return ImageFont.truetype(str(Path(get_data_path()) / "fonts" / "ttf" / name), size)
    except (ImportError, OSError):
        return ImageFont.load_default(size)


def colour(random: np.random.Generator, low: int = 0, high: int = 256) -> Colour:
    red, green, blue = (int(value) for value in random.integers(low, high, 3))
    return red, green, blue


def words(random: np.random.Generator, letters: int) -> str:
    """Made-up words of so many letters in all."""
    text = ""
    while len(text) < letters:
        syllables = random.choice(["ta", "ren", "o", "mi", "sel", "ka", "dor", "vi", "un", "pa"], random.integers(1, 5))
        text += "".join(syllables) + " "
    return text[:letters]


def text_page(random: Random) -> Image.Image:
    """Dark letters in lines on a light page."""
    page = Image.new("RGB", (SIDE, SIDE), tuple(int(value) for value in random.integers(225, 256, 3)))
    draw, font = ImageDraw.Draw(page), ImageFont.load_default(float(random.integers(11, 26)))
    ink = tuple(int(value) for value in random.integers(0, 70, 3))
    line, margin = int(font.size * 1.4), int(random.integers(8, 40))
    for top in range(margin, SIDE - margin, line):
        letters = "".join(random.choice(list("abcdefghijklmnopqrstuvwxyz    "), int(random.integers(20, 60))))
        draw.text((margin, top), letters, fill=ink, font=font)
    return page


def face(random: Random) -> Image.Image:
    """A drawn face: head, hair, eyes, nose and mouth before an even ground."""
    picture = Image.new("RGB", (SIDE, SIDE), tuple(int(value) for value in random.integers(60, 256, 3)))
    draw = ImageDraw.Draw(picture)
    shade = float(random.uniform(0.35, 1))
    skin = tuple(int(part * shade) for part in (255, 215, 185))
    middle, radius = SIDE / 2 + random.uniform(-20, 20), random.uniform(85, 125)
    top = SIDE / 2 - radius * 1.2
    hair = tuple(int(value) for value in random.integers(10, 120, 3))
    draw.ellipse((middle - radius * 1.1, top - 15, middle + radius * 1.1, top + radius * 1.7), fill=hair)
    draw.ellipse((middle - radius, top, middle + radius, top + radius * 2.4), fill=skin)
    eye = radius * random.uniform(0.14, 0.2)
    for side in (-1, 1):
        x, y = middle + side * radius * 0.4, top + radius
        draw.ellipse((x - eye * 1.5, y - eye, x + eye * 1.5, y + eye), fill="white")
        draw.ellipse((x - eye * 0.7, y - eye * 0.7, x + eye * 0.7, y + eye * 0.7), fill=hair)
        draw.line((x - eye * 1.6, y - eye * 2, x + eye * 1.6, y - eye * 2), fill=hair, width=7)
    draw.line((middle, top + radius * 1.1, middle - 8, top + radius * 1.5), fill=hair, width=4)
    mouth = radius * random.uniform(0.3, 0.5)
    draw.arc(
        (middle - mouth, top + radius * 1.5, middle + mouth, top + radius * 2), 20, 160, fill=(170, 60, 60), width=9
    )
    return picture.filter(ImageFilter.GaussianBlur(1.5))


def noise(random: Random) -> Image.Image:
    """Every pixel by chance, in grains of one to thirty pixels."""
    grains = SIDE // int(random.choice([1, 4, 10, 30]))
    values = random.integers(0, 256, (grains, grains, 3), dtype=np.uint8)
    return Image.fromarray(values).resize((SIDE, SIDE), Image.Resampling.NEAREST)


def checkerboard(random: Random) -> Image.Image:
    """Two colours in squares, turned by any angle."""
    rows, columns = np.mgrid[:SIDE, :SIDE]
    angle, square = random.uniform(0, np.pi / 2), random.uniform(20, 80)
    across = columns * np.cos(angle) + rows * np.sin(angle)
    down = rows * np.cos(angle) - columns * np.sin(angle)
    odd = (np.floor(across / square) + np.floor(down / square)) % 2 > 0
    one, other = random.integers(0, 256, (2, 3))
    return Image.fromarray(np.where(odd[..., None], one, other).astype(np.uint8))


def waves(random: Random) -> Image.Image:
    """A texture: three waves of any direction added up in each channel."""
    rows, columns = np.mgrid[:SIDE, :SIDE] / SIDE
    total = np.zeros((SIDE, SIDE, 3))
    for channel in range(3):
        for _ in range(3):
            x, y = random.uniform(-60, 60, 2)
            total[..., channel] += np.sin(columns * x + rows * y + random.uniform(0, 7))
    return Image.fromarray(((total / 6 + 0.5) * 255).clip(0, 255).astype(np.uint8))


def chart(random: Random) -> Image.Image:
    """A bar chart with axes, as in a report."""
    picture = Image.new("RGB", (SIDE, SIDE), "white")
    draw, bars = ImageDraw.Draw(picture), int(random.integers(4, 10))
    colour = tuple(int(value) for value in random.integers(0, 200, 3))
    width = (SIDE - 60) / bars
    for bar in range(bars):
        left, height = 40 + bar * width, random.uniform(20, SIDE - 80)
        draw.rectangle((left + 4, SIDE - 40 - height, left + width - 4, SIDE - 40), fill=colour)
    draw.line((40, 20, 40, SIDE - 40, SIDE - 15, SIDE - 40), fill="black", width=3)
    return picture


def printed_page(random: Random) -> Image.Image:
    """A photographed page of a book: a heading, paragraphs with serifs, tilted, lit from one side, a little blurred."""
    page = Image.new("L", (480, 480), 240)
    draw, size = ImageDraw.Draw(page), float(random.integers(14, 30))
    draw.text((50, 40), words(random, 14).title(), fill=30, font=font("DejaVuSerif.ttf", size * 1.7))
    top = 50 + size * 2.6
    while top < 460:
        ends = random.random() < 0.2
        draw.text((50, top), words(random, int((180 if ends else 380) / size * 1.9)), 40, font("DejaVuSerif.ttf", size))
        top += size * (2.2 if ends else 1.4)
    page = page.rotate(random.uniform(-12, 12), Image.Resampling.BICUBIC, fillcolor=int(random.integers(60, 230)))
    light = np.linspace(random.uniform(0.6, 1), random.uniform(0.6, 1), 480)
    tint = np.array([1, random.uniform(0.93, 1), random.uniform(0.8, 1)])
    pixels = np.asarray(page)[..., None] * light[:, None, None] * tint
    pixels = pixels + random.normal(0, 4, pixels.shape)
    photo = Image.fromarray(pixels.clip(0, 255).astype(np.uint8))
    return photo.filter(ImageFilter.GaussianBlur(random.uniform(0, 1.5))).crop((80, 60, 400, 380))


def terminal(random: Random) -> Image.Image:
    """A screen full of code: coloured letters of equal width on a dark ground."""
    screen = Image.new("RGB", (SIDE, SIDE), colour(random, 0, 50))
    draw, size, indent = ImageDraw.Draw(screen), float(random.integers(10, 20)), 0
    inks = [colour(random, 120, 256) for _ in range(4)]
    for top in np.arange(6, SIDE, size * 1.35):
        indent = int(np.clip(indent + random.integers(-1, 2), 0, 4))
        left = 6 + indent * size * 1.2
        for _ in range(int(random.integers(0, 5))):
            word = words(random, int(random.integers(2, 10)))
            draw.text((left, top), word, inks[random.integers(4)], font("DejaVuSansMono.ttf", size))
            left += (len(word) + 1) * size * 0.6
    return screen


def curve(random: np.random.Generator, points: int) -> list[tuple[float, float]]:
    """A smooth line through the picture."""
    times = np.linspace(0, 1, points)
    x, y = random.uniform(0.1, 0.9, (2, 1)) + sum(
        random.normal(0, 0.3 / k, (2, 1)) * np.sin(np.pi * (k * times + random.uniform(0, 2, (2, 1))))
        for k in range(1, 4)
    )
    return list(zip(x * SIDE, y * SIDE, strict=True))


def pencil_face(random: Random) -> Image.Image:
    """A face in outline alone, as one sketches it on paper."""
    paper = colour(random, 225, 256)
    picture = Image.new("RGB", (SIDE, SIDE), paper)
    draw, ink, width = ImageDraw.Draw(picture), colour(random, 0, 90), int(random.integers(3, 8))
    x, y = random.uniform(130, 190), random.uniform(140, 180)
    wide, tall = random.uniform(70, 110), random.uniform(100, 135)
    draw.ellipse((x - wide, y - tall, x + wide, y + tall), outline=ink, width=width)
    for side in (-1, 1):
        at, eye = x + side * wide * 0.42, wide * random.uniform(0.12, 0.2)
        draw.ellipse((at - eye, y - eye * 1.4, at + eye, y), outline=ink, width=width)
        draw.ellipse((at - 4, y - eye - 4, at + 4, y - eye + 4), fill=ink)
        draw.arc((at - eye * 1.5, y - eye * 3, at + eye * 1.5, y), 200, 340, fill=ink, width=width)
        ear = x + side * wide
        draw.arc((ear - 14, y - 22, ear + 14, y + 22), 0, 360, fill=ink, width=width)
    draw.line((x, y + 5, x - 10, y + tall * 0.35, x + 6, y + tall * 0.38), fill=ink, width=width)
    draw.arc((x - wide * 0.45, y + tall * 0.3, x + wide * 0.45, y + tall * 0.72), 20, 160, fill=ink, width=width)
    for _ in range(int(random.integers(10, 50))):
        start, long = random.uniform(-1, 1), random.uniform(10, 50)
        root = y - tall * np.sqrt(1 - start**2)
        draw.line((x + start * wide, root, x + start * (wide + long), root - long * 0.4), fill=ink, width=2)
    return picture


def portrait(random: Random) -> Image.Image:
    """A face as light models it: round, lit from one side, with hair and shoulders before a blurred room."""
    rows, columns = np.mgrid[:SIDE, :SIDE] / SIDE
    small = random.uniform(30, 220, (4, 4, 3)).astype(np.uint8)
    room = Image.fromarray(small).resize((SIDE, SIDE), Image.Resampling.BICUBIC)
    picture = np.asarray(room).astype(float)
    x, y = random.uniform(0.42, 0.58), random.uniform(0.42, 0.52)
    wide, tall = random.uniform(0.2, 0.28), random.uniform(0.27, 0.36)
    skin = np.array([235, 190, 160]) * random.uniform(0.35, 1) * np.array([1, random.uniform(0.92, 1.05), 1])
    hair = np.array(colour(random, 10, 110)) * np.array([1.2, 1, 0.8])
    cloth = np.array(colour(random))
    light = random.uniform(-1, 1)

    def paint(where: np.ndarray, paint_colour: np.ndarray, soft: np.ndarray | float = 1.0) -> None:
        nonlocal picture
        shaded = paint_colour * np.asarray(soft)[..., None]
        picture = np.where(where[..., None], shaded, picture)

    def inside(a: float, b: float, w: float, h: float) -> np.ndarray:
        return ((columns - a) / w) ** 2 + ((rows - b) / h) ** 2

    paint(inside(x, 1.05, wide * 2.2, 0.25) < 1, cloth, 0.8 + 0.4 * (columns - x) * light)
    paint(inside(x, y - 0.06, wide * 1.2, tall * 1.1) < 1, hair, 0.8 + 0.5 * np.sin(columns * 90) * 0.2)
    if random.random() < 0.5:
        paint((abs(columns - x) < wide * 1.2) & (rows > y - 0.06) & (rows < y + tall), hair)
    paint((abs(columns - x) < wide * 0.45) & (rows > y) & (rows < y + tall + 0.1), skin * 0.8)
    face = inside(x, y, wide, tall)
    paint(face < 1, skin, 1.05 - 0.35 * face + 0.5 * light * (columns - x) / wide * 0.5)
    for side in (-1, 1):
        a, b = x + side * wide * 0.42, y - tall * 0.12
        paint(inside(a, b, 0.06, 0.035) < 1, skin * 0.75)
        paint(inside(a, b, 0.038, 0.018) < 1, np.array([230.0, 228, 225]))
        paint(inside(a, b, 0.017, 0.018) < 1, hair * 0.6)
        paint(inside(a, b - 0.06, 0.06, 0.012) < 1, hair)
    paint(inside(x, y + tall * 0.22, 0.03, 0.055) < 1, skin * 0.88)
    paint(inside(x, y + tall * 0.55, wide * 0.38, 0.022) < 1, skin * np.array([0.85, 0.55, 0.55]))
    picture = picture + random.normal(0, 5, picture.shape)
    return Image.fromarray(picture.clip(0, 255).astype(np.uint8)).filter(ImageFilter.GaussianBlur(2))


def line_drawing(random: Random) -> Image.Image:
    """Some curves of a pen on paper."""
    picture = Image.new("RGB", (SIDE, SIDE), colour(random, 215, 256))
    draw, ink = ImageDraw.Draw(picture), colour(random, 0, 120)
    for _ in range(int(random.integers(3, 12))):
        draw.line(curve(random, 60), fill=ink, width=int(random.integers(2, 9)), joint="curve")
    return picture


def gradient(random: Random) -> Image.Image:
    """One colour that goes over into another in any direction."""
    rows, columns = np.mgrid[:SIDE, :SIDE] / SIDE
    angle = random.uniform(0, 2 * np.pi)
    way = columns * np.cos(angle) + rows * np.sin(angle)
    way = (way - way.min()) / np.ptp(way)
    one, other = random.integers(0, 256, (2, 3))
    return Image.fromarray((one + (other - one) * way[..., None]).astype(np.uint8))


def square_code(random: Random) -> Image.Image:
    """Black and white modules as in a QR code, with its three corners."""
    modules = int(random.choice([21, 25, 29]))
    code = random.random((modules, modules)) < 0.5
    for row, column in ((0, 0), (0, modules - 7), (modules - 7, 0)):
        code[row : row + 7, column : column + 7] = True
        code[row + 1 : row + 6, column + 1 : column + 6] = False
        code[row + 2 : row + 5, column + 2 : column + 5] = True
    picture = Image.fromarray(np.where(np.pad(code, 2), 0, 255).astype(np.uint8)).convert("RGB")
    return picture.resize((SIDE, SIDE), Image.Resampling.NEAREST)


def icon(random: Random) -> Image.Image:
    """A flat sign on a coloured tile."""
    picture = Image.new("RGB", (SIDE, SIDE), colour(random, 180, 256))
    draw, edge = ImageDraw.Draw(picture), int(random.integers(10, 50))
    draw.rounded_rectangle((edge, edge, SIDE - edge, SIDE - edge), int(random.integers(5, 80)), fill=colour(random))
    sign, x, y = colour(random, 150, 256), SIDE / 2, SIDE / 2
    size, what = random.uniform(50, 95), random.integers(4)
    if what == 0:
        draw.polygon([(x - size * 0.7, y - size), (x + size, y), (x - size * 0.7, y + size)], fill=sign)
    elif what == 1:
        corners = int(random.integers(3, 8))
        angles = np.arange(2 * corners) * np.pi / corners - np.pi / 2
        radii = np.where(np.arange(2 * corners) % 2, 0.45, 1) * size
        draw.polygon(list(zip(x + radii * np.cos(angles), y + radii * np.sin(angles), strict=True)), fill=sign)
    elif what == 2:
        draw.rectangle((x - size, y - size * 0.25, x + size, y + size * 0.25), fill=sign)
        draw.rectangle((x - size * 0.25, y - size, x + size * 0.25, y + size), fill=sign)
    else:
        draw.ellipse((x - size, y - size, x + size * 0.5, y + size * 0.5), outline=sign, width=22)
        draw.line((x + size * 0.3, y + size * 0.3, x + size, y + size), fill=sign, width=28)
    return picture


def sample_photo(random: Random) -> Image.Image:
    """A part of one of the two photos that come with scikit-learn: a temple in China, and a dahlia."""
    from sklearn.datasets import load_sample_image

    photo = Image.fromarray(load_sample_image(str(random.choice(["china.jpg", "flower.jpg"]))))
    side = int(random.integers(160, photo.height + 1))
    left, top = int(random.integers(0, photo.width - side + 1)), int(random.integers(0, photo.height - side + 1))
    return photo.crop((left, top, left + side, top + side))


# Kinds drawn afterwards ----------------------------------------------------------------------------------------------


def newspaper(random: Random) -> Image.Image:
    """A page of a newspaper: a headline, columns of text, and a grey block for a picture."""
    page = Image.new("RGB", (SIDE, SIDE), colour(random, 205, 245))
    draw, ink, columns = ImageDraw.Draw(page), colour(random, 0, 60), int(random.integers(2, 5))
    draw.text((12, 6), words(random, 12).upper(), ink, font("DejaVuSerif-Bold.ttf", float(random.integers(24, 44))))
    wide, size = (SIDE - 20) / columns, float(random.integers(7, 13))
    block = int(random.integers(columns))
    for column in range(columns):
        top = 62.0
        if column == block:
            draw.rectangle((14 + column * wide, top, 4 + (column + 1) * wide, top + 70), fill=colour(random, 60, 170))
            top += 78
        while top < SIDE - 10:
            draw.text(
                (14 + column * wide, top), words(random, int(wide / size * 1.7)), ink, font("DejaVuSerif.ttf", size)
            )
            top += size * 1.25
    return page


def handwriting(random: Random) -> Image.Image:
    """Lines of joined loops on ruled paper."""
    page = Image.new("RGB", (SIDE, SIDE), colour(random, 225, 256))
    draw, ink, pen = ImageDraw.Draw(page), colour(random, 0, 110), int(random.integers(2, 5))
    line = int(random.integers(26, 48))
    for base in range(line, SIDE, line):
        draw.line((0, base, SIDE, base), fill=(170, 190, 220), width=1)
        left = 12.0
        while left < SIDE - 40:
            letters = int(random.integers(2, 8))
            times = np.linspace(0, letters * 2 * np.pi, letters * 14)
            heights = np.repeat(random.uniform(0.15, 0.7, letters), 14) * line
            x = left + times * line / 22 + np.cos(times) * line * 0.12
            y = base - heights * (0.5 - 0.5 * np.cos(times))
            draw.line(list(zip(x.tolist(), y.tolist(), strict=True)), fill=ink, width=pen)
            left = float(x[-1]) + line * 0.5
    return page


def smiley(random: Random) -> Image.Image:
    """A round face as in a chat, with one of several moods."""
    picture = Image.new("RGB", (SIDE, SIDE), colour(random, 150, 256))
    draw, x, y = ImageDraw.Draw(picture), random.uniform(140, 180), random.uniform(140, 180)
    size, dark = random.uniform(90, 135), colour(random, 20, 90)
    skin = (255, int(random.integers(180, 225)), int(random.integers(20, 110)))
    draw.ellipse((x - size, y - size, x + size, y + size), fill=skin, outline=dark, width=int(random.integers(0, 7)))
    mood = random.integers(3)
    for side in (-1, 1):
        at, eye = x + side * size * 0.38, size * random.uniform(0.1, 0.2)
        if mood == 2:
            draw.arc((at - eye * 1.5, y - size * 0.45, at + eye * 1.5, y - size * 0.05), 180, 360, dark, 9)
        else:
            draw.ellipse((at - eye, y - size * 0.45, at + eye, y - size * 0.45 + eye * 2.6), fill=dark)
    mouth = (x - size * 0.5, y - size * 0.1, x + size * 0.5, y + size * 0.65)
    if mood == 0:
        draw.chord(mouth, 0, 180, fill=(150, 30, 40))
    else:
        draw.arc(mouth, 20, 160, dark, 10)
    return picture


def profile(random: Random) -> Image.Image:
    """The head of a person from the side, with neck, ear and hair, in shades that fade."""
    rows, columns = np.mgrid[:SIDE, :SIDE] / SIDE
    facing = columns if random.random() < 0.5 else 1 - columns
    low, high = np.array(colour(random, 60, 200)), np.array(colour(random, 120, 256))
    pixels = low + (high - low) * rows[..., None]
    outline = np.interp(
        rows, [0.15, 0.3, 0.42, 0.5, 0.57, 0.6, 0.66, 0.7, 0.78], [0.4, 0.27, 0.28, 0.19, 0.27, 0.25, 0.27, 0.26, 0.42]
    )
    outline = outline + random.normal(0, 0.01)
    skull = ((facing - 0.52) / random.uniform(0.24, 0.28)) ** 2 + ((rows - 0.4) / 0.28) ** 2 < 1
    head = (skull & (facing > outline)) | ((facing > outline) & (facing < 0.6) & (rows > 0.3) & (rows < 0.78))
    neck = (facing > 0.45) & (facing < 0.68) & (rows > 0.6)
    skin = np.array([240, 195, 165]) * random.uniform(0.35, 1)
    shade = 1.1 - 0.5 * facing
    pixels = np.where((head | neck)[..., None], skin * shade[..., None], pixels)
    hair = skull & ((facing > 0.52) | (rows < random.uniform(0.22, 0.3)))
    pixels = np.where(hair[..., None], np.array(colour(random, 10, 130)) * (1.2 - rows[..., None]), pixels)
    ear = ((facing - 0.52) / 0.04) ** 2 + ((rows - 0.46) / 0.07) ** 2 < 1
    eye = ((facing - 0.34) / 0.03) ** 2 + ((rows - 0.42) / 0.017) ** 2 < 1
    pixels = np.where(ear[..., None], skin * 0.75, np.where(eye[..., None], 40, pixels))
    pixels = np.where(((rows > 0.86) & (abs(facing - 0.57) < 0.35))[..., None], np.array(colour(random)), pixels)
    return Image.fromarray(pixels.clip(0, 255).astype(np.uint8)).filter(ImageFilter.GaussianBlur(1.5))


def street_map(random: Random) -> Image.Image:
    """Streets of three widths, parks and water from above."""
    picture = Image.new("RGB", (SIDE, SIDE), (240, 236, 228))
    draw = ImageDraw.Draw(picture)
    for tint in ((200, 228, 180), (170, 205, 235), (225, 215, 205)):
        x, y = random.uniform(0, SIDE, 2)
        corners = [(x + random.uniform(20, 90) * np.cos(a), y + random.uniform(20, 90) * np.sin(a))
                   for a in np.linspace(0, 6, 7)]  # fmt: skip
        draw.polygon(corners, fill=tint)
    turn = random.uniform(-0.5, 0.5)
    for width, tint, count in ((3, (255, 255, 255), 16), (7, (255, 240, 180), 4), (11, (245, 175, 110), 2)):
        for _ in range(count):
            x, y, angle = *random.uniform(0, SIDE, 2), turn + random.choice([0, np.pi / 2]) + random.normal(0, 0.05)
            along, up = 400 * np.cos(angle), 400 * np.sin(angle)
            draw.line((x - along, y - up, x + along, y + up), fill=tint, width=width)
    return picture


def sheet_music(random: Random) -> Image.Image:
    """Staves of five lines with notes."""
    page = Image.new("RGB", (SIDE, SIDE), colour(random, 232, 256))
    draw, gap = ImageDraw.Draw(page), int(random.integers(6, 12))
    for top in range(20, SIDE - 5 * gap, gap * 9):
        for line in range(5):
            draw.line((10, top + line * gap, SIDE - 10, top + line * gap), fill="black", width=2)
        left = 30.0
        while left < SIDE - 20:
            y = top + float(random.integers(-1, 9)) * gap / 2
            draw.ellipse((left - gap * 0.7, y - gap / 2, left + gap * 0.7, y + gap / 2), fill="black")
            draw.line((left + gap * 0.6, y, left + gap * 0.6, y - gap * 3), fill="black", width=2)
            left += float(random.uniform(1.8, 4) * gap)
    return page


Kind = Callable[[Random], Image.Image]

SEEN: dict[str, Kind] = {
    "text page": text_page,
    "printed page": printed_page,
    "code on a screen": terminal,
    "drawn face": face,
    "pencil face": pencil_face,
    "painted portrait": portrait,
    "pen drawing": line_drawing,
    "bar chart": chart,
    "square code": square_code,
    "icon": icon,
    "noise": noise,
    "checkerboard": checkerboard,
    "waves": waves,
    "gradient": gradient,
    "sample photo": sample_photo,
}

UNSEEN: dict[str, Kind] = {
    "newspaper": newspaper,
    "handwriting": handwriting,
    "smiley": smiley,
    "face in profile": profile,
    "street map": street_map,
    "sheet music": sheet_music,
}


# What a network calls them -------------------------------------------------------------------------------------------


def what_is_strange(run: Run, checkpoint: str, cache: Path) -> Strangeness:
    """What the Explain page keeps; made here where it is not there yet."""
    if run.start is None:
        raise SystemExit(f"Run {run.id} has not begun.")
    if checkpoint not in run.checkpoints():
        raise SystemExit(
            f"Run {run.id} has no {checkpoint} checkpoint; it has {', '.join(run.checkpoints()) or 'none'}."
        )
    folder = job.strangeness_folder(run, checkpoint, run.start.data_fingerprint)
    path = folder.path / "strangeness.npz"
    if not path.exists():
        info = next((info for info in cached(cache) if info.fingerprint == run.start.data_fingerprint), None)
        if info is None:
            raise SystemExit(f"The images of run {run.id} are not in {cache}; name the right --cache.")
        folder, task = job.strangeness_task(run, checkpoint, info)
        with folder.held():
            write_whole(folder.path / "task.json", json.dumps(task).encode())
            for _ in job.execute_task(folder, cache):
                pass
        if not path.exists():
            raise SystemExit(folder.last_end.message if folder.last_end else "The task did not finish.")
    return Strangeness.load(path)


def drawn(name: str, kind: Kind, images: int, seed: int = 0) -> NDArray[np.uint8]:
    """(M, 3, 32, 32) pictures of a kind as a network gets them."""
    random = np.random.default_rng([seed, *name.encode()])
    return np.stack([to_input(kind(random)) for _ in range(images)])


def separation(ranks: NDArray[np.floating]) -> float:
    """Area under the ROC curve of foreign pictures against test images, from the ranks of the former among the latter.

    It is the chance that a foreign picture is stranger than a test image, which is what a mean rank is.
    """
    return float(ranks.mean())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run", type=Path, nargs="?", default=REFERENCE)
    parser.add_argument("--cache", type=Path, default=job.CACHE)
    parser.add_argument("--checkpoint", default="best")
    parser.add_argument("--images", type=int, default=200, help="of each kind")
    options = parser.parse_args()

    import torch

    from cifar_core.networks import load_network

    run = Run(options.run.resolve())
    kept = what_is_strange(run, options.checkpoint, options.cache)
    network = load_network(run.checkpoints()[options.checkpoint])
    facts: dict[str, Any] = kept.facts
    print(
        f"Run {facts['run']}, {facts['checkpoint']} weights, epoch {facts['epoch']:.3g}; {facts['data']}: "
        f"{facts['training_images']:,} training, {facts['validation_images']:,} validation and "
        f"{facts['test_images']:,} test images. Measures: {', '.join(kept.names)}."
    )
    print(
        f"False alarms: {kept.false_alarms:.2%} of {facts['test_images']:,} test images; at most {FALSE_ALARMS:.0%} is "
        "the aim. AUROC is against the test images."
    )
    titles = ("foreign", "AUROC", "energy", "distance")
    for group, kinds in (("Seen while choosing what to measure", SEEN), ("Drawn afterwards", UNSEEN)):
        print(f"\n{group:36}{''.join(f'{title:>10}' for title in titles)}   most common answer, mean confidence")
        for name, kind in kinds.items():
            pixels = drawn(name, kind, options.images)
            measures = kept.measure(network, pixels)
            ranks = kept.ranks(measures)
            areas = "".join(f"{separation(ranks[:, column]):>10.3f}" for column in (-1, 0, 1))
            said = torch.cat(list(network.logits(pixels))).softmax(1)
            answers = Counter(network.classes[int(best)] for best in said.argmax(1)).most_common(1)[0]
            print(
                f"  {name:34}{kept.foreign(measures).mean():>10.1%}{areas}   {answers[0]} "
                f"{answers[1] / len(pixels):.0%}, {said.amax(1).mean():.0%}"
            )
    print(
        f"\n{options.images} pictures of each kind, drawn by a seed; one network. energy, distance: their AUROC alone."
    )


if __name__ == "__main__":
    main()
