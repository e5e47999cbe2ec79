"""How many pictures that show none of the classes does a network call foreign, and how many test images by mistake?

    python -m benchmarks.foreign RUN [--cache DIR] [--checkpoint best] [--images 200]

Foreign pictures are drawn here by a seed, as photos of some hundred pixels, and go the way that a visitor's photo goes.
The threshold is chosen on validation images alone; it has never seen a test image or a foreign one.
"""

from __future__ import annotations

import argparse
import json
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw, ImageFilter, ImageFont

from cifar_core import job
from cifar_core.datasets import cached
from cifar_core.familiarity import FALSE_ALARMS, NEIGHBOURS, Known, distances, energy
from cifar_core.photos import to_input
from cifar_core.runs import Run, write_whole

SIDE = 320


def text_page(random: np.random.Generator) -> Image.Image:
    """Dark letters in lines on a light page."""
    page = Image.new("RGB", (SIDE, SIDE), tuple(int(value) for value in random.integers(225, 256, 3)))
    draw, font = ImageDraw.Draw(page), ImageFont.load_default(float(random.integers(11, 26)))
    ink = tuple(int(value) for value in random.integers(0, 70, 3))
    line, margin = int(font.size * 1.4), int(random.integers(8, 40))
    for top in range(margin, SIDE - margin, line):
        letters = "".join(random.choice(list("abcdefghijklmnopqrstuvwxyz    "), int(random.integers(20, 60))))
        draw.text((margin, top), letters, fill=ink, font=font)
    return page


def face(random: np.random.Generator) -> Image.Image:
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


def noise(random: np.random.Generator) -> Image.Image:
    """Every pixel by chance, in grains of one to thirty pixels."""
    grains = SIDE // int(random.choice([1, 4, 10, 30]))
    values = random.integers(0, 256, (grains, grains, 3), dtype=np.uint8)
    return Image.fromarray(values).resize((SIDE, SIDE), Image.Resampling.NEAREST)


def checkerboard(random: np.random.Generator) -> Image.Image:
    """Two colours in squares, turned by any angle."""
    rows, columns = np.mgrid[:SIDE, :SIDE]
    angle, square = random.uniform(0, np.pi / 2), random.uniform(20, 80)
    across = columns * np.cos(angle) + rows * np.sin(angle)
    down = rows * np.cos(angle) - columns * np.sin(angle)
    odd = (np.floor(across / square) + np.floor(down / square)) % 2 > 0
    one, other = random.integers(0, 256, (2, 3))
    return Image.fromarray(np.where(odd[..., None], one, other).astype(np.uint8))


def waves(random: np.random.Generator) -> Image.Image:
    """A texture: three waves of any direction added up in each channel."""
    rows, columns = np.mgrid[:SIDE, :SIDE] / SIDE
    total = np.zeros((SIDE, SIDE, 3))
    for channel in range(3):
        for _ in range(3):
            x, y = random.uniform(-60, 60, 2)
            total[..., channel] += np.sin(columns * x + rows * y + random.uniform(0, 7))
    return Image.fromarray(((total / 6 + 0.5) * 255).clip(0, 255).astype(np.uint8))


def chart(random: np.random.Generator) -> Image.Image:
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


KINDS: dict[str, Callable[[np.random.Generator], Image.Image]] = {
    "text page": text_page,
    "drawn face": face,
    "noise": noise,
    "checkerboard": checkerboard,
    "waves": waves,
    "bar chart": chart,
}


def what_is_known(run: Run, checkpoint: str, cache: Path) -> Known:
    """What the task of the Explain page keeps; made here where it is not there yet."""
    info = next(info for info in cached(cache) if run.start and info.fingerprint == run.start.data_fingerprint)
    folder, task = job.familiarity_task(run, checkpoint, info)
    path = folder.path / "known.npz"
    if not path.exists():
        with folder.held():
            write_whole(folder.path / "task.json", json.dumps(task).encode())
            for _ in job.execute_task(folder, cache):
                pass
        if not path.exists():
            raise SystemExit(folder.last_end.message if folder.last_end else "The task did not finish.")
    return Known.load(path)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run", type=Path)
    parser.add_argument("--cache", type=Path, default=job.CACHE)
    parser.add_argument("--checkpoint", default="best")
    parser.add_argument("--images", type=int, default=200, help="of each kind")
    options = parser.parse_args()

    import torch

    from cifar_core.networks import load_network

    run = Run(options.run)
    known = what_is_known(run, options.checkpoint, options.cache)
    network = load_network(run.checkpoints()[options.checkpoint])

    def measured(pixels: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        features = torch.cat(list(network.embeddings(pixels)))
        with torch.inference_mode():
            logits = network.model.head(features).numpy()
        return logits, energy(logits), np.concatenate(list(distances(known.directions, features.numpy())))

    # Each measure alone, at the same share of validation images above it, for comparison.
    own = known.strangeness(known.energies["validation"], known.distances["validation"])
    share = float((own <= known.threshold).mean())
    limits = [float(np.quantile(values["validation"], share)) for values in (known.energies, known.distances)]
    facts = known.facts
    print(
        f"Run {facts['run']}, {facts['checkpoint']} weights, epoch {facts['epoch']:.3g}; {facts['data']}: "
        f"{facts['training_images']:,} training, {len(known.energies['validation']):,} validation and "
        f"{len(known.energies['test']):,} test images. Distance: {NEIGHBOURS}th nearest neighbour, cosine."
    )
    false = [
        float((values["test"] > limit).mean())
        for values, limit in zip((known.energies, known.distances), limits, strict=True)
    ]
    print(f"\n{'':16}{'foreign':>10}{'energy alone':>14}{'distance alone':>16}   mean confidence, most common answer")
    print(
        f"{'test images':16}{known.false_alarms:>10.1%}{false[0]:>14.1%}{false[1]:>16.1%}   "
        f"at most {FALSE_ALARMS:.0%} is the aim"
    )
    for kind, draw in KINDS.items():
        random = np.random.default_rng(sum(map(ord, kind)))
        pixels = np.stack([to_input(draw(random)) for _ in range(options.images)])
        logits, energies, far = measured(pixels)
        called = known.foreign(energies, far).mean()
        answers = Counter(network.classes[best] for best in logits.argmax(1)).most_common(1)[0]
        confidence = torch.from_numpy(logits).softmax(1).amax(1).mean()
        print(
            f"{kind:16}{called:>10.1%}{(energies > limits[0]).mean():>14.1%}"
            f"{(far > limits[1]).mean():>16.1%}   {confidence:.0%}, {answers[0]} {answers[1] / len(pixels):.0%}"
        )
    print(f"\n{options.images} pictures of each kind, drawn by a seed; one network.")


if __name__ == "__main__":
    main()
