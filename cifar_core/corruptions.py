"""The 15 corruptions of CIFAR-10-C at five severities, made on the fly: batch in, batch out (Hendrycks and
Dietterich, 2019).

The parameters are those of the authors' published program for CIFAR-10-C (github.com/hendrycks/robustness,
ImageNet-C/create_c/make_cifar_c.py); the code is written anew for batches of torch, without OpenCV, scikit-image and
ImageMagick. What is drawn at random is drawn by another generator, so that images are like those of CIFAR-10-C, not
equal to them. Three corruptions stand in for what cannot be had here:

- motion blur and the streaks of snow follow the description of ImageMagick's method (a one-sided Gaussian along a line,
  at whole pixels), as its library is not used;
- frost is laid over from a texture drawn by a formula (edges of random cells over a plasma), where the original cuts
  pieces from six photographs of frosted glass. Accuracies under frost compare between runs here, not with papers.
"""

from __future__ import annotations

import hashlib
import io
import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Generator, Tensor
from torch.nn import functional as F

SEVERITIES = (1, 2, 3, 4, 5)

BLOCK = 250
"""Images that are corrupted together, by random numbers of their own, so that any one of them can be made again."""

FROST_CELLS = 14
FROST_TINT = (0.86, 0.93, 1.0)


@dataclass(frozen=True)
class Corruption:
    """One way to spoil images.

    Args:
        group: Noise, blur, weather or digital, as in the paper.
        says: What it does, in a few words.
        apply: Takes (B, 3, H, W) float32 in [0, 1], the severity from 0 and a generator; gives the same shape.
    """

    name: str
    group: str
    says: str
    apply: Callable[[Tensor, int, Generator], Tensor]

    @property
    def title(self) -> str:
        return {"jpeg_compression": "JPEG compression"}.get(self.name) or self.name.replace("_", " ").capitalize()


def corrupt(images: Tensor, name: str, severity: int, random: Generator) -> Tensor:
    """Images spoilt by one corruption.

    Args:
        images: (B, 3, 32, 32) uint8 on the CPU.
        name: A key of `CORRUPTIONS`.
        severity: One of `SEVERITIES`.

    Returns:
        (B, 3, 32, 32) uint8; fractions of a grey level are cut off, as in the published program.

    Raises:
        ValueError: There is no such corruption or severity.
    """
    if name not in CORRUPTIONS:
        raise ValueError(f"There is no corruption {name!r}; there are {', '.join(CORRUPTIONS)}.")
    if severity not in SEVERITIES:
        raise ValueError(f"The severity of a corruption is from 1 to 5, but is {severity}.")
    spoilt = CORRUPTIONS[name].apply(images.float() / 255, severity - 1, random)
    # What should be a whole number must not fall below it by rounding.
    return (spoilt.clamp(0, 1) * 255 + 1e-3).floor().to(torch.uint8)


def corrupted(
    images: NDArray[np.uint8] | Tensor, name: str, severity: int, seed: int = 0
) -> Iterator[tuple[int, Tensor]]:
    """All images of a split spoilt, block by block.

    Args:
        images: (N, 3, 32, 32); may be memory-mapped.

    Yields:
        The place of the block's first image, and the block; the same each time for the same images and seed.
    """
    for first in range(0, len(images), BLOCK):
        yield first, _block(images, name, severity, seed, first)


def corrupted_at(
    images: NDArray[np.uint8] | Tensor, places: NDArray[np.int64], name: str, severity: int, seed: int = 0
) -> NDArray[np.uint8]:
    """Some of the images that `corrupted` makes, and only the blocks that hold them.

    Args:
        places: (n,) in [0, N).

    Returns:
        (n, 3, 32, 32) in the order of `places`.
    """
    blocks = {first: _block(images, name, severity, seed, first) for first in {int(i) // BLOCK * BLOCK for i in places}}
    found = [blocks[int(i) // BLOCK * BLOCK][int(i) % BLOCK] for i in places]
    return torch.stack(found).numpy() if found else np.zeros((0, 3, 32, 32), np.uint8)


def _block(images: NDArray[np.uint8] | Tensor, name: str, severity: int, seed: int, first: int) -> Tensor:
    digest = hashlib.sha256(repr((seed, name, severity, first // BLOCK)).encode()).digest()
    random = Generator().manual_seed(int.from_bytes(digest[:7], "little"))
    part = images[first : first + BLOCK]
    return corrupt(part if isinstance(part, Tensor) else torch.from_numpy(np.array(part)), name, severity, random)


# Noise -------------------------------------------------------------------------------------------------------------


def _gaussian_noise(x: Tensor, level: int, random: Generator) -> Tensor:
    return x + torch.randn(x.shape, generator=random) * (0.04, 0.06, 0.08, 0.09, 0.10)[level]


def _shot_noise(x: Tensor, level: int, random: Generator) -> Tensor:
    photons = (500, 250, 100, 75, 50)[level]
    return torch.poisson(x * photons, generator=random) / photons


def _impulse_noise(x: Tensor, level: int, random: Generator) -> Tensor:
    struck = torch.rand(x.shape, generator=random) < (0.01, 0.02, 0.03, 0.05, 0.07)[level]
    return torch.where(struck, (torch.rand(x.shape, generator=random) < 0.5).float(), x)


# Blur --------------------------------------------------------------------------------------------------------------


def gaussian_weights(sigma: float, radius: int) -> Tensor:
    """(2 radius + 1,) of a Gaussian at whole numbers, with sum 1; sigma 0 is a single peak."""
    at = torch.arange(-radius, radius + 1, dtype=torch.float64)
    weights = torch.exp(-(at**2) / (2 * sigma**2)) if sigma else (at == 0).double()
    return (weights / weights.sum()).float()


def gaussian_blur(x: Tensor, sigma: float, truncate: float = 4.0, mode: str = "replicate") -> Tensor:
    """A Gaussian blur with the edge repeated, or mirrored with it (`symmetric`), cut off after `truncate` deviations.

    Args:
        x: (B, C, H, W).
    """
    radius = int(truncate * sigma + 0.5)
    if not radius:
        return x
    weights = gaussian_weights(sigma, radius)
    for axis in (2, 3):
        length = x.shape[axis]
        at = torch.arange(-radius, length + radius)
        if mode == "replicate":
            at = at.clamp(0, length - 1)
        else:
            at = at % (2 * length)
            at = torch.where(at < length, at, 2 * length - 1 - at)
        padded = x.index_select(axis, at)
        x = sum(padded.narrow(axis, i, length) * float(weight) for i, weight in enumerate(weights))  # type: ignore[assignment]
    return x


def disk(radius: float, alias_blur: float) -> Tensor:
    """(17, 17): a disk blurred by a Gaussian of 3 × 3 pixels, with sum 1."""
    at = torch.arange(-8, 9)
    hard = ((at[:, None] ** 2 + at[None] ** 2) <= radius**2).float()
    soft = gaussian_weights(alias_blur, 1)
    return F.conv2d(hard[None, None] / hard.sum(), torch.outer(soft, soft)[None, None], padding=1)[0, 0]


def _defocus_blur(x: Tensor, level: int, random: Generator) -> Tensor:
    # Beyond three pixels to either side the disks of these severities are empty.
    kernel = disk(*((0.3, 0.4), (0.4, 0.5), (0.5, 0.6), (1.0, 0.2), (1.5, 0.1))[level])[5:12, 5:12]
    padded = F.pad(x, (3, 3, 3, 3), mode="reflect")
    return F.conv2d(padded, kernel.expand(x.shape[1], 1, 7, 7), groups=x.shape[1])


def _glass_blur(x: Tensor, level: int, random: Generator) -> Tensor:
    """The published program means to swap each pixel with a neighbour, but by a slip of NumPy's views it copies the
    neighbour over the pixel; CIFAR-10-C was made so, and so is this.

    It goes through the image from the end and takes from above or from the left only, which are not yet changed then,
    so that a pass over all pixels can be done at once.
    """
    sigma, passes = ((0.05, 1), (0.25, 1), (0.4, 1), (0.25, 2), (0.4, 2))[level]
    x = (gaussian_blur(x, sigma) * 255 + 1e-3).floor() / 255
    count, _, height, width = x.shape
    rows, columns = torch.meshgrid(torch.arange(height), torch.arange(width), indexing="ij")
    inside = ((rows >= 2) & (columns >= 2)).long()
    for _ in range(passes):
        up, left = (torch.randint(0, 2, (count, height, width), generator=random) * inside for _ in range(2))
        x = _picked(x, rows - up, columns - left)
    return gaussian_blur(x, sigma)


def _picked(x: Tensor, rows: Tensor, columns: Tensor) -> Tensor:
    """The pixels at whole places (B, H, W) of each image."""
    count, channels, _, width = x.shape
    at = (rows * width + columns).reshape(count, 1, -1).expand(-1, channels, -1)
    return x.reshape(count, channels, -1).gather(2, at).reshape(x.shape)


def motion_blur(x: Tensor, radius: int, sigma: float, angles: Tensor) -> Tensor:
    """A one-sided Gaussian along a line at whole pixels, the edge repeated, as ImageMagick describes its -motion-blur.

    Args:
        x: (B, C, H, W).
        angles: (B,) in degrees, clockwise from the right.
    """
    steps = torch.arange(2 * radius + 1)
    weights = torch.exp(-(steps.double() ** 2) / (2 * sigma**2))
    weights = (weights / weights.sum()).float()
    turned = torch.deg2rad(angles)
    _, _, height, width = x.shape
    rows, columns = torch.meshgrid(torch.arange(height), torch.arange(width), indexing="ij")
    result = torch.zeros_like(x)
    for step, weight in zip(steps.tolist(), weights.tolist(), strict=True):
        down = torch.ceil(step * turned.sin() - 0.5).long().view(-1, 1, 1)
        right = torch.ceil(step * turned.cos() - 0.5).long().view(-1, 1, 1)
        result += weight * _picked(x, (rows + down).clamp(0, height - 1), (columns + right).clamp(0, width - 1))
    return result


def _motion_blur(x: Tensor, level: int, random: Generator) -> Tensor:
    radius, sigma = ((6, 1.0), (6, 1.5), (6, 2.0), (8, 2.0), (9, 2.5))[level]
    return motion_blur(x, radius, sigma, torch.rand(len(x), generator=random) * 90 - 45)


def clipped_zoom(x: Tensor, factor: float) -> Tensor:
    """The middle of images enlarged to their size, linearly between the pixels."""
    side = x.shape[2]
    part = math.ceil(side / factor)
    top = (side - part) // 2
    middle = x[:, :, top : top + part, top : top + part]
    larger = F.interpolate(middle, size=(round(part * factor),) * 2, mode="bilinear", align_corners=True)
    trim = (larger.shape[2] - side) // 2
    return larger[:, :, trim : trim + side, trim : trim + side]


def _zoom_blur(x: Tensor, level: int, random: Generator) -> Tensor:
    # By the same call as the original, whose last factor hangs on how a sum of hundredths is rounded.
    factors = np.arange(1, (1.06, 1.11, 1.16, 1.21, 1.26)[level], 0.01).tolist()
    return (x + sum(clipped_zoom(x, factor) for factor in factors)) / (len(factors) + 1)


# Weather -----------------------------------------------------------------------------------------------------------


def _snow(x: Tensor, level: int, random: Generator) -> Tensor:
    mean, deviation, zoom, threshold, radius, sigma, share = (
        (0.1, 0.2, 1.0, 0.6, 8, 3.0, 0.95),
        (0.1, 0.2, 1.0, 0.5, 10, 4.0, 0.9),
        (0.15, 0.3, 1.75, 0.55, 10, 4.0, 0.9),
        (0.25, 0.3, 2.25, 0.6, 12, 6.0, 0.85),
        (0.3, 0.3, 1.25, 0.65, 14, 12.0, 0.8),
    )[level]
    count, _, height, width = x.shape
    layer = clipped_zoom(torch.randn(count, 1, height, width, generator=random) * deviation + mean, zoom)
    layer = torch.where(layer < threshold, 0.0, layer).clamp(0, 1)
    layer = motion_blur(layer, int(radius), sigma, torch.rand(count, generator=random) * 90 - 135)
    grey = (x * torch.tensor([0.299, 0.587, 0.114]).view(3, 1, 1)).sum(1, keepdim=True)
    return share * x + (1 - share) * torch.maximum(x, grey * 1.5 + 0.5) + layer + layer.flip(2, 3)


def frost_texture(count: int, side: int, random: Generator) -> Tensor:
    """(count, 3, side, side) in [0, 1]: bluish crystals, bright along the edges of random cells, over a plasma."""
    seeds = torch.rand(count, FROST_CELLS, 2, generator=random) * (side + 8) - 4
    at = torch.arange(side, dtype=torch.float32)
    distances = torch.hypot(at.view(1, 1, -1, 1) - seeds[..., :1, None], at.view(1, 1, 1, -1) - seeds[..., 1:, None])
    nearest = distances.topk(2, dim=1, largest=False).values
    edges = torch.exp(-(nearest[:, 1] - nearest[:, 0]) / 1.5)
    grain = torch.rand(count, side, side, generator=random)
    texture = 0.15 + 0.35 * plasma(count, side, 2.0, random) + 0.4 * edges + 0.1 * grain
    return (texture[:, None] * torch.tensor(FROST_TINT).view(3, 1, 1)).clamp(0, 1)


def _frost(x: Tensor, level: int, random: Generator) -> Tensor:
    kept, laid = ((1.0, 0.2), (1.0, 0.3), (0.9, 0.4), (0.85, 0.4), (0.75, 0.45))[level]
    return kept * x + laid * frost_texture(len(x), x.shape[2], random)


def plasma(count: int, side: int, decay: float, random: Generator) -> Tensor:
    """(count, side, side) clouds in [0, 1] by the diamond-square method on a torus; side is a power of two.

    Args:
        decay: How much less each halving of the step wobbles; more of it makes smoother clouds.
    """
    clouds = torch.zeros(count, side, side)
    step, wobble = side, 100.0

    def wobbled(total: Tensor) -> Tensor:
        return total / 4 + wobble**2 * (torch.rand(total.shape, generator=random) * 2 - 1)

    while step >= 2:
        half = step // 2
        corners = clouds[:, ::step, ::step]
        across = corners + corners.roll(-1, 1)
        clouds[:, half::step, half::step] = wobbled(across + across.roll(-1, 2))
        middles = clouds[:, half::step, half::step]
        clouds[:, ::step, half::step] = wobbled(middles + middles.roll(1, 1) + corners + corners.roll(-1, 2))
        clouds[:, half::step, ::step] = wobbled(middles + middles.roll(1, 2) + corners + corners.roll(-1, 1))
        step, wobble = half, wobble / decay
    clouds -= clouds.amin((1, 2), keepdim=True)
    return clouds / clouds.amax((1, 2), keepdim=True)


def _fog(x: Tensor, level: int, random: Generator) -> Tensor:
    amount, decay = ((0.2, 3.0), (0.5, 3.0), (0.75, 2.5), (1.0, 2.0), (1.5, 1.75))[level]
    brightest = x.amax((1, 2, 3), keepdim=True)
    foggy = x + amount * plasma(len(x), x.shape[2], decay, random)[:, None]
    return foggy * brightest / (brightest + amount)


def _brightness(x: Tensor, level: int, random: Generator) -> Tensor:
    """More of the value of hue, saturation and value, which scales all three channels alike."""
    value = x.amax(1, keepdim=True)
    brighter = (value + (0.05, 0.1, 0.15, 0.2, 0.3)[level]).clamp(max=1)
    return torch.where(value > 0, x * brighter / value.clamp(min=1e-9), brighter)


# Digital -----------------------------------------------------------------------------------------------------------


def _contrast(x: Tensor, level: int, random: Generator) -> Tensor:
    mean = x.mean((2, 3), keepdim=True)
    return (x - mean) * (0.75, 0.5, 0.4, 0.3, 0.15)[level] + mean


def _elastic_transform(x: Tensor, level: int, random: Generator) -> Tensor:
    """A random affine map of three points, then random displacements smoothed by a Gaussian."""
    count, _, height, width = x.shape
    strength, sigma, shift = (
        part * height
        for part in ((0, 0, 0.08), (0.05, 0.2, 0.07), (0.08, 0.06, 0.06), (0.1, 0.04, 0.05), (0.1, 0.03, 0.03))[level]
    )
    middle, reach = height // 2, height // 3
    before = torch.tensor([[1.0, 1.0], [1.0, -1.0], [-1.0, -1.0]]) * reach + middle
    after = before + (torch.rand(count, 3, 2, generator=random) * 2 - 1) * shift
    # From a place in the result to one in the image, which is what an inverse map is.
    back = torch.linalg.solve(torch.cat([after, torch.ones(count, 3, 1)], 2), before.expand(count, 3, 2))
    rows, columns = torch.meshgrid(
        torch.arange(height, dtype=torch.float32), torch.arange(width, dtype=torch.float32), indexing="ij"
    )
    places = torch.stack([columns, rows, torch.ones_like(rows)], -1).reshape(1, -1, 3) @ back
    x = _sampled(x, places.reshape(count, height, width, 2), corners=True)
    if not strength:
        return x
    moves = torch.rand(count, 2, height, width, generator=random) * 2 - 1
    moves = gaussian_blur(moves, sigma, truncate=3.0, mode="symmetric") * strength
    return _sampled(x, torch.stack([columns + moves[:, 0], rows + moves[:, 1]], -1), corners=False)


def _sampled(x: Tensor, places: Tensor, corners: bool) -> Tensor:
    """Images at places between their pixels, linearly.

    Args:
        places: (B, H, W, 2): column and row.
        corners: Whether what lies outside is mirrored at the middle of the outermost pixels, rather than at their
            edge.
    """
    sides = torch.tensor([x.shape[3], x.shape[2]], dtype=torch.float32)
    grid = places * 2 / (sides - 1) - 1 if corners else (places * 2 + 1) / sides - 1
    return F.grid_sample(x, grid, mode="bilinear", padding_mode="reflection", align_corners=corners)


def box_weights(before: int, after: int) -> Tensor:
    """(after, before): how Pillow's box filter makes pixels of others, rows with sum 1."""
    scale = before / after
    reach = max(scale, 1.0)
    middles = (torch.arange(after, dtype=torch.float64) + 0.5) * scale
    at = (torch.arange(before, dtype=torch.float64) + 0.5 - middles[:, None]) / reach
    weights = ((at > -0.5) & (at <= 0.5)).double()
    return (weights / weights.sum(1, keepdim=True)).float()


def _pixelate(x: Tensor, level: int, random: Generator) -> Tensor:
    side = x.shape[2]
    small = int(side * (0.95, 0.9, 0.85, 0.75, 0.65)[level])
    pixels = (x * 255).round()
    # Pillow goes along the rows first, and to whole numbers after each direction.
    for weights in (box_weights(side, small), box_weights(small, side)):
        pixels = (pixels @ weights.T + 0.5).floor()
        pixels = (weights @ pixels + 0.5).floor()
    return pixels / 255


def _jpeg_compression(x: Tensor, level: int, random: Generator) -> Tensor:
    """By Pillow's own encoder, as the original."""
    quality = (80, 65, 58, 50, 40)[level]
    pixels = (x * 255).round().to(torch.uint8).permute(0, 2, 3, 1).numpy()
    result = np.empty_like(pixels)
    for i, picture in enumerate(pixels):
        content = io.BytesIO()
        Image.fromarray(np.ascontiguousarray(picture)).save(content, "JPEG", quality=quality)
        result[i] = np.asarray(Image.open(content))
    return torch.from_numpy(result).permute(0, 3, 1, 2).float() / 255


CORRUPTIONS = {
    corruption.name: corruption
    for corruption in (
        Corruption("gaussian_noise", "noise", "as in poor light", _gaussian_noise),
        Corruption("shot_noise", "noise", "few photons", _shot_noise),
        Corruption("impulse_noise", "noise", "single values black or white", _impulse_noise),
        Corruption("defocus_blur", "blur", "out of focus", _defocus_blur),
        Corruption("glass_blur", "blur", "seen through frosted glass", _glass_blur),
        Corruption("motion_blur", "blur", "the camera moves (a stand-in for ImageMagick's)", _motion_blur),
        Corruption("zoom_blur", "blur", "the camera moves towards the object", _zoom_blur),
        Corruption("snow", "weather", "streaks of snow (blurred by a stand-in for ImageMagick's)", _snow),
        Corruption("frost", "weather", "crystals (a drawn texture stands in for photographs)", _frost),
        Corruption("fog", "weather", "plasma clouds", _fog),
        Corruption("brightness", "weather", "brighter daylight", _brightness),
        Corruption("contrast", "digital", "less contrast", _contrast),
        Corruption("elastic_transform", "digital", "small parts stretched", _elastic_transform),
        Corruption("pixelate", "digital", "enlarged from fewer pixels", _pixelate),
        Corruption("jpeg_compression", "digital", "blocks of strong compression", _jpeg_compression),
    )
}
