"""What happens to images on their way into a network: batch in, batch out, on any device."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

from cifar_core.config import TrainConfig

Channels = tuple[float, float, float]

CUTOUT_GREY = 0.5
"""What cutout leaves behind. DeVries and Taylor (2017) blank with the mean of the data set; mid-grey is close to it
for photographs and needs no statistics."""


@dataclass(frozen=True)
class Augmentation:
    """Random changes of a training image, each drawn for every image on its own; the default changes nothing.

    They are applied in the order of the fields.

    Args:
        flip: Probability in [0, 1] of mirroring left to right.
        crop_padding: Black pixels added on every side before a random crop back to the size.
        rotation: Largest angle to either side, in degrees.
        cutout: Side in pixels of a square that is blanked (DeVries and Taylor, 2017). Its centre lies anywhere in the
            image, so that near a border only a part of the square is seen.

    Raises:
        ValueError: A setting is out of its range.
    """

    flip: float = 0.0
    crop_padding: int = 0
    rotation: float = 0.0
    cutout: int = 0

    def __post_init__(self) -> None:
        if not 0 <= self.flip <= 1:
            raise ValueError(f"flip must be a probability from 0 to 1, but is {self.flip}.")
        for name in ("crop_padding", "rotation", "cutout"):
            value = getattr(self, name)
            if not (math.isfinite(value) and value >= 0):
                raise ValueError(f"{name} must be a finite number of at least 0, but is {value}.")

    @classmethod
    def from_config(cls, config: TrainConfig) -> Augmentation:
        return cls(config.flip, config.crop_padding, config.rotation, config.cutout)


@dataclass(frozen=True)
class Draw:
    """What chance decided for each image of a batch; small tensors on the CPU.

    Args:
        how: What the values were drawn for.
        flip: (B,) bool, whether the image is mirrored.
        offset: (B, 2) int64 in [0, 2 * crop_padding], top and left corner of the crop in the padded image.
        angle: (B,) float64, degrees counter-clockwise.
        centre: (B, 2) int64, row and column of the centre of the blanked square.
    """

    how: Augmentation
    flip: Tensor
    offset: Tensor
    angle: Tensor
    centre: Tensor


def draw(how: Augmentation, images: int, height: int, width: int, generator: torch.Generator) -> Draw:
    """Decide how each image is changed.

    The same numbers are drawn whatever is enabled, image after image: a setting that changes leaves the other
    transforms as they were, and the first images of a larger batch are changed like those of a smaller one.

    Args:
        images: How many images there are.
        generator: On the CPU, so that a seed means the same on every device.
    """
    chance = torch.rand(images, 6, generator=generator, dtype=torch.float64)
    return Draw(
        how,
        flip=chance[:, 0] < how.flip,
        offset=(chance[:, 1:3] * (2 * how.crop_padding + 1)).long(),
        angle=(2 * chance[:, 3] - 1) * how.rotation,
        centre=(chance[:, 4:6] * torch.tensor([height, width])).long(),
    )


def apply(images: Tensor, drawn: Draw) -> Tensor:
    """Change the images as drawn.

    Args:
        images: (B, 3, H, W) uint8.

    Returns:
        (B, 3, H, W) float32 in [0, 1] on the device of the images; exactly images / 255 where nothing is enabled.

    Raises:
        ValueError: The images are not uint8 or not as many as drawn for.
    """
    if images.dtype != torch.uint8:
        raise ValueError(
            f"Images must be uint8 until they are augmented, but are {str(images.dtype).removeprefix('torch.')}."
        )
    if len(images) != len(drawn.flip):
        raise ValueError(f"The draw is for {len(drawn.flip)} images, but there are {len(images)}.")
    how = drawn.how
    if how.flip or how.crop_padding:
        images = _flip_and_crop(images, drawn)
    changed = images.float().div_(255)
    if how.rotation:
        changed = _rotate(changed, drawn.angle)
    if how.cutout:
        changed = _cut_out(changed, drawn.centre, how.cutout)
    return changed


def augment(images: Tensor, how: Augmentation, generator: torch.Generator) -> Tensor:
    """Change each image at random.

    Args:
        images: (B, 3, H, W) uint8 on any device.
        generator: On the CPU, usually from `generator_for`.

    Returns:
        (B, 3, H, W) float32 in [0, 1], not yet normalised; exactly images / 255 where nothing is enabled.
    """
    return apply(images, draw(how, len(images), images.shape[2], images.shape[3], generator))


def _flip_and_crop(images: Tensor, drawn: Draw) -> Tensor:
    batch, channels, height, width = images.shape
    padding, device = drawn.how.crop_padding, images.device
    flip, offset = drawn.flip.to(device), drawn.offset.to(device)
    # One gather does both: a mirrored image is read from right to left, through the same window of the mirrored frame.
    rows = offset[:, :1] + torch.arange(height, device=device)
    columns = offset[:, 1:] + torch.arange(width, device=device)
    columns = torch.where(flip[:, None], width + 2 * padding - 1 - columns, columns)
    places = rows[:, :, None] * (width + 2 * padding) + columns[:, None, :]
    index = places.view(batch, 1, -1).expand(-1, channels, -1)
    padded = F.pad(images, (padding,) * 4)
    return padded.reshape(batch, channels, -1).gather(2, index).view(batch, channels, height, width)


def _rotate(images: Tensor, degrees: Tensor) -> Tensor:
    height, width = images.shape[2:]
    radians = degrees.deg2rad()
    cosine, sine, zero = radians.cos(), radians.sin(), torch.zeros_like(radians)
    # From output to input, in coordinates from -1 to 1; these have another scale in each direction unless H equals W.
    across = torch.stack((cosine, -sine * height / width, zero), dim=1)
    down = torch.stack((sine * width / height, cosine, zero), dim=1)
    inverse = torch.stack((across, down), dim=1).float().to(images.device)
    grid = F.affine_grid(inverse, list(images.shape), align_corners=False)
    return F.grid_sample(images, grid, mode="bilinear", padding_mode="zeros", align_corners=False)


def _cut_out(images: Tensor, centre: Tensor, side: int) -> Tensor:
    height, width = images.shape[2:]
    first = (centre - side // 2).to(images.device)
    rows = torch.arange(height, device=images.device) - first[:, :1]
    columns = torch.arange(width, device=images.device) - first[:, 1:]
    inside_rows, inside_columns = (rows >= 0) & (rows < side), (columns >= 0) & (columns < side)
    return images.masked_fill_((inside_rows[:, :, None] & inside_columns[:, None, :])[:, None], CUTOUT_GREY)


def normalise(images: Tensor, mean: Sequence[float], std: Sequence[float]) -> Tensor:
    """Scale each channel to what a network is fed.

    Args:
        images: (B, 3, H, W), uint8 or float in [0, 1].
        mean: Of each channel, in the units of [0, 1].
        std: Likewise.

    Returns:
        (B, 3, H, W) float32, on the device of the images; these are left as they are.
    """
    scaled = images.float().div_(255) if images.dtype == torch.uint8 else images.to(torch.float32)
    centre, scale = (scaled.new_tensor(list(values)).view(-1, 1, 1) for values in (mean, std))
    return (scaled - centre).div_(scale)


def normalisation(kind: str, mean: Sequence[float], std: Sequence[float]) -> tuple[Channels, Channels]:
    """The mean and deviation to normalise with.

    A channel that never varies is only centred.

    Args:
        kind: "statistics", "half" or "unit", as in `TrainConfig.normalisation`.
        mean: Of each channel of the training split, in the units of [0, 1].
        std: Likewise.
    """
    if kind == "statistics":
        red, green, blue = (deviation or 1.0 for deviation in std)
        return (mean[0], mean[1], mean[2]), (red, green, blue)
    if kind == "half":
        return (0.5, 0.5, 0.5), (0.5, 0.5, 0.5)
    if kind == "unit":
        return (0.0, 0.0, 0.0), (1.0, 1.0, 1.0)
    raise ValueError(f"normalisation must be one of statistics, half, unit, but is {kind!r}.")


def generator_for(seed: int, step: int, device: torch.device | str = "cpu") -> torch.Generator:
    """The source of chance of one training step: a function of seed and step alone, so a resumed run repeats itself.

    Args:
        seed: Of the run.
        step: Counted from 0; other purposes may take negative numbers.
        device: Of the images. The generator is on the CPU all the same: every device has its own random numbers, and
            a seed shall mean the same on each.
    """
    # The generator keeps only the low 32 bits of its seed, so neighbouring pairs must differ there in every bit.
    return torch.Generator().manual_seed(_mixed(_mixed(seed) ^ step))


def _mixed(number: int) -> int:
    """A one-to-one scrambling of 64-bit integers (splitmix64; Steele et al., 2014)."""
    word = (number + 0x9E3779B97F4A7C15) % 2**64
    word = (word ^ word >> 30) * 0xBF58476D1CE4E5B9 % 2**64
    word = (word ^ word >> 27) * 0x94D049BB133111EB % 2**64
    return word ^ word >> 31
