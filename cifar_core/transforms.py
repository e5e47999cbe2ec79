"""What happens to images on their way into a network: batch in, batch out, on any device."""

from __future__ import annotations

import dataclasses
import itertools
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from cifar_core import policies
from cifar_core.config import FLIPS, PADDINGS, POLICIES, TrainConfig
from cifar_core.policies import LUMA

Channels = tuple[float, float, float]

CUTOUT_GREY = 0.5
"""What cutout leaves behind. DeVries and Taylor (2017) blank with the mean of the data set; mid-grey is close to it
for photographs and needs no statistics."""


CROP_RATIOS = (3 / 4, 4 / 3)
"""Width to height of a random resized crop (Szegedy et al., 2015)."""

JITTER = (0.8, 0.8, 0.8, 0.2)
"""Largest change of brightness, contrast and saturation, and of the hue in turns, at strength 1 (Chen et al., 2020)."""

LEAST_BLUR = 0.1
"""Smallest width of a blur in pixels, with which nothing is seen of it (Chen et al., 2020)."""


@dataclass(frozen=True)
class Augmentation:
    """Random changes of a training image, each drawn for every image on its own; the default changes nothing.

    They are applied in the order of the fields. Rotation, translation and scaling are one map about the centre, as
    torchvision's RandomAffine. A field that ends with `_probability` is the probability in [0, 1] of what it is named
    after.

    Args:
        flip: Probability in [0, 1] of mirroring left to right.
        flip_mode: "random", or "alternating" where it depends on the epoch; then `draw` is to be given the turns.
        crop_padding: Pixels added on every side before a random crop back to the size.
        crop_padding_mode: "constant" for black ones, "reflect" for the image mirrored at its border.
        policy: "none", "randaugment", "trivialaugment" or "autoaugment"; see `cifar_core.policies`.
        policy_operations: Of RandAugment: operations for an image.
        policy_magnitude: Of RandAugment: from 0 to 30.
        rotation: Largest angle to either side, in degrees.
        translation: Largest shift as a share of the side, in [0, 1], by whole pixels.
        scaling: Largest change of the size as a share of it, in [0, 1).
        crop_scale: Smallest share of the area that a random resized crop keeps, in (0, 1]; 1 crops none. As
            torchvision's RandomResizedCrop, but a drawn side that does not fit is cut off rather than drawn again.
        colour_jitter: Strength in [0, 1] of random changes of brightness, contrast, saturation and hue, in this order.
        grey: Probability in [0, 1] of turning the image grey.
        blur: Largest sigma in pixels of a Gaussian, which is cut off at three times that; as GaussianBlur.
        cutout: Side in pixels of a square that is blanked (DeVries and Taylor, 2017). Its centre lies anywhere in the
            image, so that near a border only a part of the square is seen.
        erasing: Probability in [0, 1] of blanking a rectangle inside the image, of which the share of the area is from
            `erasing_from` to `erasing_to` and the ratio of the sides at most `erasing_ratio` (Zhong et al., 2020). As
            torchvision's RandomErasing, but a drawn side that does not fit is cut off rather than drawn again.

    Raises:
        ValueError: A setting is out of its range.
    """

    flip: float = 0.0
    flip_mode: str = "random"
    crop_padding: int = 0
    crop_padding_mode: str = "constant"
    crop_padding_probability: float = 1.0
    policy: str = "none"
    policy_operations: int = 2
    policy_magnitude: int = 9
    policy_probability: float = 1.0
    rotation: float = 0.0
    rotation_probability: float = 1.0
    translation: float = 0.0
    translation_probability: float = 1.0
    scaling: float = 0.0
    scaling_probability: float = 1.0
    crop_scale: float = 1.0
    crop_scale_probability: float = 1.0
    colour_jitter: float = 0.0
    colour_jitter_probability: float = 1.0
    grey: float = 0.0
    blur: float = 0.0
    blur_probability: float = 1.0
    cutout: int = 0
    cutout_probability: float = 1.0
    erasing: float = 0.0
    erasing_from: float = 0.02
    erasing_to: float = 0.33
    erasing_ratio: float = 3.3

    def __post_init__(self) -> None:
        if self.policy not in POLICIES:
            raise ValueError(f"policy must be one of {', '.join(POLICIES)}, but is {self.policy!r}.")
        for name, choices in (("flip_mode", FLIPS), ("crop_padding_mode", PADDINGS)):
            if getattr(self, name) not in choices:
                raise ValueError(f"{name} must be one of {', '.join(choices)}, but is {getattr(self, name)!r}.")
        for name, value in dataclasses.asdict(self).items():
            if name in ("flip", "grey", "erasing") or name.endswith("_probability"):
                if not 0 <= value <= 1:
                    raise ValueError(f"{name} must be a probability from 0 to 1, but is {value}.")
            elif name in ("colour_jitter", "translation") and not 0 <= value <= 1:
                raise ValueError(f"{name} must be from 0 to 1, but is {value}.")
            elif name == "crop_scale" and not 0 < value <= 1:
                raise ValueError(f"{name} must be above 0 and at most 1, but is {value}.")
            elif name == "scaling" and not 0 <= value < 1:
                raise ValueError(f"{name} must be at least 0 and below 1, but is {value}.")
            elif name not in ("policy", "flip_mode", "crop_padding_mode") and not (math.isfinite(value) and value >= 0):
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
        operations: (B, R) int64, numbers of `policies.OPERATIONS`, in order; 0 does nothing.
        magnitudes: (B, R) float64, as of `policies.choose`.
        angle: (B,) float64, degrees counter-clockwise.
        shift: (B, 2) float64, whole pixels to the right and downwards.
        scale: (B,) float64, factor of the size.
        box: (B, 4) int64, top, left, height and width of what is enlarged to the size of the image.
        factors: (B, 3) float64, of brightness, contrast and saturation.
        hue: (B,) float64, shift in turns.
        grey: (B,) bool, whether the image is turned grey.
        sigma: (B,) float64, of the blur, in pixels; 0 blurs nothing.
        cut: (B,) bool, whether a square is blanked.
        centre: (B, 2) int64, row and column of the centre of that square.
        erased: (B, 4) int64, top, left, height and width of what is erased; without height where nothing is.
    """

    how: Augmentation
    flip: Tensor
    offset: Tensor
    operations: Tensor
    magnitudes: Tensor
    angle: Tensor
    shift: Tensor
    scale: Tensor
    box: Tensor
    factors: Tensor
    hue: Tensor
    grey: Tensor
    sigma: Tensor
    cut: Tensor
    centre: Tensor
    erased: Tensor

    def part(self, rows: slice | Tensor) -> Draw:
        """What was decided for some of the images."""
        values = {field.name: getattr(self, field.name) for field in dataclasses.fields(self)}
        parts: dict[str, Any] = {name: value[rows] for name, value in values.items() if isinstance(value, Tensor)}
        return dataclasses.replace(self, **parts)


def draw(
    how: Augmentation, images: int, height: int, width: int, generator: torch.Generator, turns: Tensor | None = None
) -> Draw:
    """Decide how each image is changed.

    The same numbers are drawn whatever is enabled, image after image: a setting that changes leaves the other
    transforms as they were, and the first images of a larger batch are changed like those of a smaller one.

    Args:
        images: How many images there are.
        generator: On the CPU, so that a seed means the same on every device.
        turns: (B,) float64 in [0, 1), what decides of each image whether it is mirrored, in place of a drawn number;
            see `turns_of`.
    """
    chance = torch.rand(images, 15, generator=generator, dtype=torch.float64)

    @cache
    def further() -> Tensor:
        """What came later draws from a source of its own, which the first number decides: so all that is drawn from
        the generator, here and afterwards, is what it was before."""
        own = torch.Generator().manual_seed(_mixed(int(chance[:1, 0].sum() * 2**53)))
        return torch.rand(images, 18 + policies.CHANCES, generator=own, dtype=torch.float64)

    def happens(column: int, name: str) -> Tensor:
        """(B,) bool."""
        often = getattr(how, f"{name}_probability")
        return torch.ones(images, dtype=torch.bool) if often == 1 else further()[:, column] < often

    def alike(*values: float) -> Tensor:
        """The same for each image."""
        return torch.tensor(values, dtype=torch.float64).expand(images, -1)

    # What is switched off is not worked out, which would take as long as all the rest.
    offset, angle, shift, scale = alike(0, 0).long(), alike(0)[:, 0], alike(0, 0), alike(1)[:, 0]
    whole = torch.tensor([0, 0, height, width])
    box, erased, jitter, sigma = whole.expand(images, 4), alike(0, 0, 0, 0).long(), alike(0, 0, 0, 0), alike(0)[:, 0]
    operations, magnitudes = alike().long(), alike()
    if how.crop_padding:
        if how.crop_padding_mode == "reflect" and how.crop_padding >= min(height, width):
            raise ValueError(
                f"crop_padding must be smaller than the images' {min(height, width)} pixels where they are mirrored, "
                f"but is {how.crop_padding}."
            )
        offset = (chance[:, 1:3] * (2 * how.crop_padding + 1)).long()
        offset = torch.where(happens(0, "crop_padding")[:, None], offset, how.crop_padding)
    if how.rotation:
        angle = torch.where(happens(1, "rotation"), (2 * chance[:, 3] - 1) * how.rotation, 0.0)
    if how.translation:
        shift = ((2 * further()[:, 8:10] - 1) * how.translation * torch.tensor([width, height])).round()
        shift = torch.where(happens(2, "translation")[:, None], shift, 0.0)
    if how.scaling:
        scale = torch.where(happens(3, "scaling"), 1 + (2 * further()[:, 10] - 1) * how.scaling, 1.0)
    if how.crop_scale < 1:
        box = _boxes(chance[:, 6:10], (how.crop_scale, 1.0), CROP_RATIOS, height, width)
        box = torch.where(happens(4, "crop_scale")[:, None], box, whole)
    if how.colour_jitter:
        jitter = (2 * chance[:, 10:14] - 1) * how.colour_jitter * torch.tensor(JITTER, dtype=torch.float64)
        jitter = torch.where(happens(5, "colour_jitter")[:, None], jitter, 0.0)
    if how.blur:
        least = min(LEAST_BLUR, how.blur)
        sigma = torch.where(happens(6, "blur"), least + (how.blur - least) * further()[:, 11], 0.0)
    if how.policy != "none":
        operations, magnitudes = policies.choose(
            how.policy, how.policy_operations, how.policy_magnitude, further()[:, 18:], height, width
        )
        operations = torch.where(happens(7, "policy")[:, None], operations, 0)
    if how.erasing:
        ratio = max(how.erasing_ratio, 1.0)
        erased = _boxes(further()[:, 14:18], (how.erasing_from, how.erasing_to), (1 / ratio, ratio), height, width)
        erased = torch.where(further()[:, 13:14] < how.erasing, erased, 0)
    return Draw(
        how,
        flip=(chance[:, 0] if turns is None else turns) < how.flip,
        offset=offset,
        operations=operations,
        magnitudes=magnitudes,
        angle=angle,
        shift=shift,
        scale=scale,
        box=box,
        factors=1 + jitter[:, :3],
        hue=jitter[:, 3],
        grey=chance[:, 14] < how.grey,
        sigma=sigma,
        cut=happens(12, "cutout"),
        centre=(chance[:, 4:6] * torch.tensor([height, width])).long(),
        erased=erased,
    )


def _boxes(chance: Tensor, areas: tuple[float, float], ratios: tuple[float, float], height: int, width: int) -> Tensor:
    """Where rectangles lie: even over the area, over the logarithm of width to height, and over the places.

    Args:
        chance: (B, 4) in [0, 1).
        areas: Smallest and largest share of the image.

    Returns:
        (B, 4) int64: top, left, height, width.
    """
    least, most = areas
    area = (least + (most - least) * chance[:, 0]) * height * width
    low, high = map(math.log, ratios)
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
    for numbers, magnitudes in zip(drawn.operations.T, drawn.magnitudes.T, strict=True):
        images = policies.operate(images, numbers, magnitudes)
    changed = images.float().div_(255)
    if how.rotation or how.translation or how.scaling:
        changed = _mapped(changed, drawn)
    if how.crop_scale < 1:
        changed = _enlarge(changed, drawn.box)
    if how.colour_jitter:
        changed = _jitter(changed, drawn.factors, drawn.hue)
    if how.grey:
        changed = torch.where(drawn.grey.to(changed.device).view(-1, 1, 1, 1), _luma(changed), changed)
    if how.blur:
        changed = _blurred(changed, drawn.sigma, how.blur)
    if how.cutout:
        changed = _cut_out(changed, drawn)
    if how.erasing:
        changed = _erased(changed, drawn.erased)
    return changed


def augment(
    images: Tensor,
    how: Augmentation,
    generator: torch.Generator,
    rows: slice | Tensor = slice(None),
    turns: Tensor | None = None,
) -> Tensor:
    """Change each image at random.

    Args:
        images: (B, 3, H, W) uint8 on any device.
        generator: On the CPU, usually from `generator_for`.
        rows: Only these are computed and returned, changed as they are among all of them.
        turns: As for `draw`.

    Returns:
        (B, 3, H, W) float32 in [0, 1], not yet normalised; exactly images / 255 where nothing is enabled.
    """
    drawn = draw(how, len(images), images.shape[2], images.shape[3], generator, turns)
    return apply(images[rows], drawn.part(rows))


def _flip_and_crop(images: Tensor, drawn: Draw) -> Tensor:
    batch, channels, height, width = images.shape
    padding, device = drawn.how.crop_padding, images.device
    flip, offset = drawn.flip.to(device), drawn.offset.to(device)
    # One gather does both: a mirrored image is read from right to left, through the same window of the mirrored frame.
    rows = offset[:, :1] + torch.arange(height, device=device)
    columns = offset[:, 1:] + torch.arange(width, device=device)
    columns = torch.where(flip[:, None], width + 2 * padding - 1 - columns, columns)
    if drawn.how.crop_padding_mode == "reflect":
        padded, along = images, width
        rows, columns = _mirrored(rows - padding, height), _mirrored(columns - padding, width)
    else:
        padded, along = F.pad(images, (padding,) * 4), width + 2 * padding
    places = rows[:, :, None] * along + columns[:, None, :]
    index = places.view(batch, 1, -1).expand(-1, channels, -1)
    return padded.reshape(batch, channels, -1).gather(2, index).view(batch, channels, height, width)


def _mirrored(places: Tensor, side: int) -> Tensor:
    """Places beyond a border, of which the pixels are not repeated, counted back into the image."""
    return (side - 1) - ((side - 1) - places.abs()).abs()


def _mapped(images: Tensor, drawn: Draw) -> Tensor:
    """Turned about the centre, made larger or smaller, then shifted; bilinear."""
    height, width = images.shape[2:]
    radians, scale = drawn.angle.deg2rad(), drawn.scale
    cosine, sine = radians.cos(), radians.sin()
    right, down = drawn.shift.unbind(1)
    # From output to input, in coordinates from -1 to 1; these have another scale in each direction unless H equals W.
    x = torch.stack((cosine, -sine * height / width, (sine * down - cosine * right) * 2 / width), dim=1)
    y = torch.stack((sine * width / height, cosine, (-sine * right - cosine * down) * 2 / height), dim=1)
    inverse = (torch.stack((x, y), dim=1) / scale.view(-1, 1, 1)).float().to(images.device)
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


def _blurred(images: Tensor, sigma: Tensor, largest: float) -> Tensor:
    """Each image through a Gaussian of its own; beyond the border the image is mirrored."""

    def weights(side: int) -> Tensor:
        """(B, side, side), from old to new places along a side."""
        radius = min(math.ceil(3 * largest), side - 1)
        away = torch.arange(-radius, radius + 1)
        # As wide as no pixel where nothing is blurred.
        kernels = (-((away / sigma.clamp(min=1e-3)[:, None]) ** 2) / 2).softmax(1)
        places = _mirrored(torch.arange(side)[:, None] + away, side)
        # A sum of products, as additions at random places have no fixed order on a GPU.
        table = F.one_hot(places, side).double().transpose(0, 1).reshape(len(away), -1)
        return (kernels @ table).view(-1, side, side).float().to(images.device)

    return weights(images.shape[2])[:, None] @ images @ weights(images.shape[3]).transpose(1, 2)[:, None]


def _cut_out(images: Tensor, drawn: Draw) -> Tensor:
    side = drawn.how.cutout
    batch, channels, height, width = images.shape
    images, first, within = images.contiguous(), drawn.centre - side // 2, torch.arange(side)
    # The centre is inside, so what is outside can lie on the nearest pixel, which is blanked anyway.
    rows = (first[:, :1] + within).clamp_(0, height - 1)
    columns = (first[:, 1:] + within).clamp_(0, width - 1)
    places = (rows[:, :, None] * width + columns[:, None, :]).view(batch, 1, -1)
    # Only these pixels are touched, several times faster than a mask of the whole image.
    if bool(drawn.cut.all()):
        images.view(batch, channels, -1).scatter_(2, places.to(images.device).expand(-1, channels, -1), CUTOUT_GREY)
        return images
    chosen = drawn.cut.nonzero().flatten()
    if len(chosen):
        members = chosen.to(images.device)
        images[members] = _cut_out(images[members], drawn.part(chosen))
    return images


def _erased(images: Tensor, boxes: Tensor) -> Tensor:
    height, width = images.shape[2:]
    top, left, down, right = boxes.to(images.device).T[:, :, None]
    rows, columns = torch.arange(height, device=images.device) - top, torch.arange(width, device=images.device) - left
    inside_rows, inside_columns = (rows >= 0) & (rows < down), (columns >= 0) & (columns < right)
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
    # The share last: how many numbers it takes depends on alpha, and with the same seed the others are to stay.
    coin, row, column = torch.rand(3, generator=generator).tolist()
    partner = torch.randperm(len(images), generator=generator).to(images.device)
    pasting = bool(cutmix) and (not mixup or coin < 0.5)
    share = _beta(cutmix if pasting else mixup, generator)
    others = labels[partner]
    if not pasting:
        return Mixed(images.lerp(images[partner], 1 - share), labels, others, share)
    height, width = images.shape[-2:]
    side = math.sqrt(1 - share)
    row, column = int(row * height), int(column * width)
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


def turns_of(images: int, epoch: int, generator: torch.Generator) -> Tensor:
    """When each image is mirrored, where that alternates from epoch to epoch (Jordan, 2024, section 3.6).

    Each image has a number by chance, which goes on by a half with every epoch, from 1 to 0 again; the image is
    mirrored while it is below the probability. With a probability of 0.5 it is so in every other epoch.

    Args:
        images: How many images there are.
        epoch: Counted from 0.
        generator: The same in each epoch.

    Returns:
        (N,) float64 in [0, 1).
    """
    return (torch.rand(images, generator=generator, dtype=torch.float64) + epoch / 2) % 1


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
