"""What happens to images on their way into a network: batch in, batch out, on any device."""

from __future__ import annotations

import dataclasses
import itertools
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from cifar_core.config import TrainConfig

Channels = tuple[float, float, float]

CUTOUT_GREY = 0.5
"""What cutout leaves behind. DeVries and Taylor (2017) blank with the mean of the data set; mid-grey is close to it
for photographs and needs no statistics."""


CROP_RATIOS = (3 / 4, 4 / 3)
"""Width to height of a random resized crop (Szegedy et al., 2015)."""

JITTER = (0.8, 0.8, 0.8, 0.2)
"""Largest change of brightness, contrast and saturation, and of the hue in turns, at strength 1 (Chen et al., 2020)."""

LUMA = (0.2989, 0.587, 0.114)
"""Shares of red, green and blue in what the eye takes for brightness (ITU-R BT.601), as torchvision has them."""


@dataclass(frozen=True)
class Augmentation:
    """Random changes of a training image, each drawn for every image on its own; the default changes nothing.

    They are applied in the order of the fields.

    Args:
        flip: Probability in [0, 1] of mirroring left to right.
        crop_padding: Black pixels added on every side before a random crop back to the size.
        rotation: Largest angle to either side, in degrees.
        crop_scale: Smallest share of the area that a random resized crop keeps, in (0, 1]; 1 crops none. As
            torchvision's RandomResizedCrop, but a drawn side that does not fit is cut off rather than drawn again.
        colour_jitter: Strength in [0, 1] of random changes of brightness, contrast, saturation and hue, in this order.
        grey: Probability in [0, 1] of turning the image grey.
        cutout: Side in pixels of a square that is blanked (DeVries and Taylor, 2017). Its centre lies anywhere in the
            image, so that near a border only a part of the square is seen.

    Raises:
        ValueError: A setting is out of its range.
    """

    flip: float = 0.0
    crop_padding: int = 0
    rotation: float = 0.0
    crop_scale: float = 1.0
    colour_jitter: float = 0.0
    grey: float = 0.0
    cutout: int = 0

    def __post_init__(self) -> None:
        for name in ("flip", "grey"):
            if not 0 <= getattr(self, name) <= 1:
                raise ValueError(f"{name} must be a probability from 0 to 1, but is {getattr(self, name)}.")
        if not 0 < self.crop_scale <= 1:
            raise ValueError(f"crop_scale must be above 0 and at most 1, but is {self.crop_scale}.")
        if not 0 <= self.colour_jitter <= 1:
            raise ValueError(f"colour_jitter must be from 0 to 1, but is {self.colour_jitter}.")
        for name in ("crop_padding", "rotation", "cutout"):
            value = getattr(self, name)
            if not (math.isfinite(value) and value >= 0):
                raise ValueError(f"{name} must be a finite number of at least 0, but is {value}.")

    @classmethod
    def from_config(cls, config: TrainConfig) -> Augmentation:
        return cls(**{field.name: config.amount(field.name) for field in dataclasses.fields(cls)})


@dataclass(frozen=True)
class Draw:
    """What chance decided for each image of a batch; small tensors on the CPU.

    Args:
        how: What the values were drawn for.
        flip: (B,) bool, whether the image is mirrored.
        offset: (B, 2) int64 in [0, 2 * crop_padding], top and left corner of the crop in the padded image.
        angle: (B,) float64, degrees counter-clockwise.
        box: (B, 4) int64, top, left, height and width of what is enlarged to the size of the image.
        factors: (B, 3) float64, of brightness, contrast and saturation.
        hue: (B,) float64, shift in turns.
        grey: (B,) bool, whether the image is turned grey.
        centre: (B, 2) int64, row and column of the centre of the blanked square.
    """

    how: Augmentation
    flip: Tensor
    offset: Tensor
    angle: Tensor
    box: Tensor
    factors: Tensor
    hue: Tensor
    grey: Tensor
    centre: Tensor

    def part(self, rows: slice | Tensor) -> Draw:
        """What was decided for some of the images."""
        values = {field.name: getattr(self, field.name) for field in dataclasses.fields(self)}
        parts: dict[str, Any] = {name: value[rows] for name, value in values.items() if isinstance(value, Tensor)}
        return dataclasses.replace(self, **parts)


def draw(how: Augmentation, images: int, height: int, width: int, generator: torch.Generator) -> Draw:
    """Decide how each image is changed.

    The same numbers are drawn whatever is enabled, image after image: a setting that changes leaves the other
    transforms as they were, and the first images of a larger batch are changed like those of a smaller one.

    Args:
        images: How many images there are.
        generator: On the CPU, so that a seed means the same on every device.
    """
    chance = torch.rand(images, 15, generator=generator, dtype=torch.float64)
    jitter = (2 * chance[:, 10:14] - 1) * how.colour_jitter * torch.tensor(JITTER, dtype=torch.float64)
    return Draw(
        how,
        flip=chance[:, 0] < how.flip,
        offset=(chance[:, 1:3] * (2 * how.crop_padding + 1)).long(),
        angle=(2 * chance[:, 3] - 1) * how.rotation,
        box=_boxes(chance[:, 6:10], how.crop_scale, height, width),
        factors=1 + jitter[:, :3],
        hue=jitter[:, 3],
        grey=chance[:, 14] < how.grey,
        centre=(chance[:, 4:6] * torch.tensor([height, width])).long(),
    )


def _boxes(chance: Tensor, least: float, height: int, width: int) -> Tensor:
    """Where crops lie: even over the area from `least` to 1, over the logarithm of the ratio, and over the places.

    Args:
        chance: (B, 4) in [0, 1).

    Returns:
        (B, 4) int64: top, left, height, width.
    """
    area = (least + (1 - least) * chance[:, 0]) * height * width
    low, high = map(math.log, CROP_RATIOS)
    ratio = (low + (high - low) * chance[:, 1]).exp()
    sides = torch.stack(((area / ratio).sqrt(), (area * ratio).sqrt()), dim=1).round()
    whole = torch.tensor([height, width])
    sides = torch.minimum(sides.clamp(min=1), whole)
    return torch.cat((chance[:, 2:] * (whole - sides + 1), sides), dim=1).long()


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
    if how.crop_scale < 1:
        changed = _enlarge(changed, drawn.box)
    if how.colour_jitter:
        changed = _jitter(changed, drawn.factors, drawn.hue)
    if how.grey:
        changed = torch.where(drawn.grey.to(changed.device).view(-1, 1, 1, 1), _luma(changed), changed)
    if how.cutout:
        changed = _cut_out(changed, drawn.centre, how.cutout)
    return changed


def augment(
    images: Tensor,
    how: Augmentation,
    generator: torch.Generator,
    rows: slice | Tensor = slice(None),
) -> Tensor:
    """Change each image at random.

    Args:
        images: (B, 3, H, W) uint8 on any device.
        generator: On the CPU, usually from `generator_for`.
        rows: Only these are computed and returned, changed as they are among all of them.

    Returns:
        (B, 3, H, W) float32 in [0, 1], not yet normalised; exactly images / 255 where nothing is enabled.
    """
    drawn = draw(how, len(images), images.shape[2], images.shape[3], generator)
    return apply(images[rows], drawn.part(rows))


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


def _enlarge(images: Tensor, box: Tensor) -> Tensor:
    """A part of each image brought to the size of the whole, bilinear."""
    box = box.to(images.device)

    def weights(first: Tensor, length: Tensor, side: int) -> Tensor:
        places = torch.arange(side, device=images.device)
        # Between the centres of the pixels of the part, and never beyond its outermost ones.
        at = ((places + 0.5) * (length / side)[:, None] - 0.5).clamp(min=0).minimum(length[:, None] - 1) + first[
            :, None
        ]
        return (1 - (at[:, :, None] - places).abs()).clamp(min=0)

    top, left, height, width = box.unbind(1)
    rows, columns = weights(top, height, images.shape[2]), weights(left, width, images.shape[3])
    return rows[:, None] @ images @ columns.transpose(1, 2)[:, None]


def _luma(images: Tensor) -> Tensor:
    """(B, 1, H, W), the brightness of each pixel."""
    return (images * images.new_tensor(LUMA).view(3, 1, 1)).sum(1, keepdim=True)


def _jitter(images: Tensor, factors: Tensor, hue: Tensor) -> Tensor:
    brightness, contrast, saturation = factors.float().to(images.device).T.reshape(3, -1, 1, 1, 1)
    changed = (images * brightness).clamp_(0, 1)
    changed = torch.lerp(_luma(changed).mean((2, 3), keepdim=True), changed, contrast).clamp_(0, 1)
    changed = torch.lerp(_luma(changed), changed, saturation).clamp_(0, 1)
    return _turn_hue(changed, hue.float().to(images.device))


def _turn_hue(images: Tensor, turns: Tensor) -> Tensor:
    """Turn the hue of all pixels of an image about the axis of greys of the HSV cone (Smith, 1978)."""
    red, green, blue = images.unbind(1)
    value = images.amax(1)
    chroma = value - images.amin(1)
    divisor = torch.where(chroma > 0, chroma, 1.0)
    sixths = torch.where(
        value == red,
        (green - blue) / divisor,
        torch.where(value == green, (blue - red) / divisor + 2, (red - green) / divisor + 4),
    )
    sixths = sixths + 6 * turns.view(-1, 1, 1)
    distances = (((sixths + start) % 6) for start in (5, 3, 1))
    return torch.stack([value - chroma * torch.minimum(k, 4 - k).clamp(0, 1) for k in distances], dim=1)


def _cut_out(images: Tensor, centre: Tensor, side: int) -> Tensor:
    height, width = images.shape[2:]
    first = (centre - side // 2).to(images.device)
    rows = torch.arange(height, device=images.device) - first[:, :1]
    columns = torch.arange(width, device=images.device) - first[:, 1:]
    inside_rows, inside_columns = (rows >= 0) & (rows < side), (columns >= 0) & (columns < side)
    return images.masked_fill_((inside_rows[:, :, None] & inside_columns[:, None, :])[:, None], CUTOUT_GREY)


@dataclass(frozen=True)
class Mixed:
    """Images of which each may hold some of another one, with the labels of both.

    Args:
        images: (B, 3, H, W) float32.
        labels: (B,) int64.
        others: (B,) int64, labels of what was mixed in.
        share: Of `labels` in the target, in [0, 1]; 1 where nothing was mixed.
    """

    images: Tensor
    labels: Tensor
    others: Tensor
    share: float

    def mean(self, figure: Callable[[Tensor], Tensor]) -> Tensor:
        """A figure that depends on the labels, weighted over both kinds of label."""
        if self.share == 1:
            return figure(self.labels)
        return self.share * figure(self.labels) + (1 - self.share) * figure(self.others)

    def part(self, rows: slice | Tensor) -> Mixed:
        """Some of the images with their labels."""
        return Mixed(self.images[rows], self.labels[rows], self.others[rows], self.share)

    def parts(self, sizes: Sequence[int]) -> list[Mixed]:
        """The images in order, so many in each part."""
        ends = [0, *itertools.accumulate(sizes)]
        return [self.part(slice(first, end)) for first, end in itertools.pairwise(ends)]


def mix(images: Tensor, labels: Tensor, mixup: float, cutmix: float, generator: torch.Generator) -> Mixed:
    """Blend each image with another one of its batch (MixUp: Zhang et al., 2018), or paste a rectangle of the other
    into it (CutMix: Yun et al., 2019, where the labels' share is that of the area); a coin chooses where both are on.

    One share is drawn for the batch from Beta(alpha, alpha), as in both papers' own programs.

    Args:
        images: (B, 3, H, W) float.
        labels: (B,) int64.
        mixup: Its alpha, at least 0; 0 is off.
        cutmix: Likewise.
        generator: On the CPU.
    """
    if not (mixup or cutmix):
        return Mixed(images, labels, labels, 1.0)
    pasting = bool(cutmix) and (not mixup or torch.rand((), generator=generator).item() < 0.5)
    alpha = cutmix if pasting else mixup
    share = _beta(alpha, generator)
    partner = torch.randperm(len(images), generator=generator).to(images.device)
    others = labels[partner]
    if not pasting:
        return Mixed(images.lerp(images[partner], 1 - share), labels, others, share)
    height, width = images.shape[-2:]
    side = math.sqrt(1 - share)
    row, column = (int(torch.randint(size, (), generator=generator)) for size in (height, width))
    down, right = round(height * side / 2), round(width * side / 2)
    top, bottom = max(row - down, 0), min(row + down, height)
    left, end = max(column - right, 0), min(column + right, width)
    pasted = images.clone()
    pasted[..., top:bottom, left:end] = images[partner][..., top:bottom, left:end]
    return Mixed(pasted, labels, others, 1 - (bottom - top) * (end - left) / (height * width))


def _beta(alpha: float, generator: torch.Generator) -> float:
    """A number from Beta(alpha, alpha): the share of one of two gammas, with a generator as torch's Beta has none.

    In logarithms, and through Gamma(alpha) = Gamma(alpha + 1) U^(1 / alpha) (Marsaglia and Tsang, 2000): of a small
    alpha both gammas are below all floats, and their shares would be even.
    """
    larger = torch._standard_gamma(torch.full((2,), alpha + 1, dtype=torch.float64), generator=generator)
    uniform = 1 - torch.rand(2, dtype=torch.float64, generator=generator)
    return float((larger.log() + uniform.log() / max(alpha, 1e-300)).softmax(0)[0])


def shrunk(images: Tensor, size: int) -> Tensor:
    """Images made smaller, bilinear and without aliasing; as torch's `interpolate` makes them.

    Args:
        images: (B, 3, H, W) float.
        size: h = w, in pixels.

    Returns:
        (B, 3, h, w).
    """

    # By two products of matrices, as not every device has interpolate with antialias.
    def weights(old: int) -> Tensor:
        each = torch.eye(old).view(1, 1, old, old)
        return F.interpolate(each, size=(size, old), mode="bilinear", antialias=True)[0, 0].to(images.device)

    return weights(images.shape[2]) @ images @ weights(images.shape[3]).T


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


def generator_for(seed: int, step: int) -> torch.Generator:
    """The source of chance of one training step: a function of seed and step alone, so a resumed run repeats itself.

    It is on the CPU whatever the images are on: every device has its own random numbers, and a seed shall mean the same
    on each.

    Args:
        seed: Of the run.
        step: Counted from 0; other purposes may take negative numbers.
    """
    # The generator keeps only the low 32 bits of its seed, so neighbouring pairs must differ there in every bit.
    return torch.Generator().manual_seed(_mixed(_mixed(seed) ^ step))


def _mixed(number: int) -> int:
    """A one-to-one scrambling of 64-bit integers (splitmix64; Steele et al., 2014)."""
    word = (number + 0x9E3779B97F4A7C15) % 2**64
    word = (word ^ word >> 30) * 0xBF58476D1CE4E5B9 % 2**64
    word = (word ^ word >> 27) * 0x94D049BB133111EB % 2**64
    return word ^ word >> 31
