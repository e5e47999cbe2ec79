"""RandAugment, TrivialAugment and AutoAugment: what chance chooses for each image, and the operations themselves.

The meaning of each operation and the range of its magnitude are torchvision's (transforms.v2), on bytes as there, with
nearest pixels and black where nothing was. Here all images of a batch that get the same operation are changed at once.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor
from torch.nn import functional as F

from cifar_core.config import MOST_OPERATIONS, STRONGEST_MAGNITUDE

LUMA = (0.2989, 0.587, 0.114)
"""Shares of red, green and blue in what the eye takes for brightness (ITU-R BT.601), as torchvision has them."""

OPERATIONS = (
    *("identity", "shear x", "shear y", "translate x", "translate y", "rotate"),
    *("brightness", "colour", "contrast", "sharpness"),
    *("posterize", "solarize", "autocontrast", "equalize", "invert"),
)
"""By their numbers; all but the last are those of RandAugment and TrivialAugment."""

SHEAR_X, SHEAR_Y, SHIFT_X, SHIFT_Y, ROTATE, BRIGHTNESS, COLOUR, CONTRAST, SHARPNESS = range(1, 10)
POSTERIZE, SOLARIZE, AUTOCONTRAST, EQUALIZE, INVERT = range(10, 15)

AUTOAUGMENT = (
    (("invert", 0.1, 0), ("contrast", 0.2, 6)),
    (("rotate", 0.7, 2), ("translate x", 0.3, 9)),
    (("sharpness", 0.8, 1), ("sharpness", 0.9, 3)),
    (("shear y", 0.5, 8), ("translate y", 0.7, 9)),
    (("autocontrast", 0.5, 0), ("equalize", 0.9, 0)),
    (("shear y", 0.2, 7), ("posterize", 0.3, 7)),
    (("colour", 0.4, 3), ("brightness", 0.6, 7)),
    (("sharpness", 0.3, 9), ("brightness", 0.7, 9)),
    (("equalize", 0.6, 0), ("equalize", 0.5, 0)),
    (("contrast", 0.6, 7), ("sharpness", 0.6, 5)),
    (("colour", 0.7, 7), ("translate x", 0.5, 8)),
    (("equalize", 0.3, 0), ("autocontrast", 0.4, 0)),
    (("translate y", 0.4, 3), ("sharpness", 0.2, 6)),
    (("brightness", 0.9, 6), ("colour", 0.2, 8)),
    (("solarize", 0.5, 2), ("invert", 0.0, 0)),
    (("equalize", 0.2, 0), ("autocontrast", 0.6, 0)),
    (("equalize", 0.2, 0), ("equalize", 0.6, 0)),
    (("colour", 0.9, 9), ("equalize", 0.6, 0)),
    (("autocontrast", 0.8, 0), ("solarize", 0.2, 8)),
    (("brightness", 0.1, 3), ("colour", 0.7, 0)),
    (("solarize", 0.4, 5), ("autocontrast", 0.9, 0)),
    (("translate y", 0.9, 9), ("translate y", 0.7, 9)),
    (("autocontrast", 0.9, 0), ("solarize", 0.8, 3)),
    (("equalize", 0.8, 0), ("invert", 0.1, 0)),
    (("translate y", 0.7, 9), ("autocontrast", 0.9, 0)),
)
"""What was found for CIFAR-10 (Cubuk et al., 2019): pairs of operation, probability and magnitude from 0 to 9."""

CHANCES = 3 * MOST_OPERATIONS
"""Random numbers for each image, whatever the policy."""


def choose(
    policy: str, operations: int, magnitude: int, chance: Tensor, height: int, width: int
) -> tuple[Tensor, Tensor]:
    """Which operations each image gets, in order.

    Args:
        policy: As in `TrainConfig.policy`.
        operations: Of RandAugment: how many.
        magnitude: Of RandAugment: from 0 to 30.
        chance: (B, CHANCES) in [0, 1).

    Returns:
        (B, R) int64, numbers of `OPERATIONS`, and (B, R) float64, each in the units of its operation: shears as
        tangents, shifts in pixels, turns in degrees counter-clockwise, colours as differences of the factor from 1,
        bits, and thresholds in [0, 1]; no rounds for the policy "none".
    """
    batch = len(chance)
    which, how_strong, sign = chance.view(batch, MOST_OPERATIONS, 3).unbind(2)
    side = torch.where(sign < 0.5, -1.0, 1.0).double()
    if policy == "randaugment":
        numbers = (which[:, :operations] * (len(OPERATIONS) - 1)).long()
        share = torch.full(numbers.shape, magnitude / STRONGEST_MAGNITUDE, dtype=torch.float64)
    elif policy == "trivialaugment":
        numbers = (which[:, :1] * (len(OPERATIONS) - 1)).long()
        share = (how_strong[:, :1] * (STRONGEST_MAGNITUDE + 1)).floor() / STRONGEST_MAGNITUDE
    elif policy == "autoaugment":
        pairs = [[(OPERATIONS.index(name), least, at / 9) for name, least, at in pair] for pair in AUTOAUGMENT]
        chosen = torch.tensor(pairs, dtype=torch.float64)[(which[:, 0] * len(pairs)).long()]
        numbers = torch.where(how_strong[:, :2] < chosen[:, :, 1], chosen[:, :, 0], 0).long()
        share = chosen[:, :, 2]
    else:
        return torch.zeros(batch, 0, dtype=torch.int64), torch.zeros(batch, 0, dtype=torch.float64)
    return numbers, _magnitudes(policy, numbers, share, side[:, : numbers.shape[1]], height, width)


def _magnitudes(policy: str, numbers: Tensor, share: Tensor, side: Tensor, height: int, width: int) -> Tensor:
    """Magnitudes in the units of their operations, from shares in [0, 1] of the largest."""
    wide = policy == "trivialaugment"
    shear, colour = (0.99, 0.99) if wide else (0.3, 0.9)
    across, down = (32.0, 32.0) if wide else (150 / 331 * width, 150 / 331 * height)
    turn, bits = (135.0, 6) if wide else (30.0, 4)
    largest = torch.tensor([0, shear, shear, across, down, turn, *[colour] * 4, 0, 0, 0, 0, 0], dtype=torch.float64)
    signed = largest[numbers] * share * side
    # Shifts are by whole pixels, towards none.
    signed = torch.where((numbers == SHIFT_X) | (numbers == SHIFT_Y), signed.trunc(), signed)
    signed = torch.where(numbers == POSTERIZE, 8 - (share * bits).round(), signed)
    return torch.where(numbers == SOLARIZE, 1 - share, signed)


def operate(images: Tensor, numbers: Tensor, magnitudes: Tensor) -> Tensor:
    """One round: each image through its own operation.

    Args:
        images: (B, 3, H, W) uint8.
        numbers: (B,) int64 on the CPU.
        magnitudes: (B,) float64 on the CPU.
    """
    changed = images.clone()
    turned = (numbers >= SHEAR_X) & (numbers <= ROTATE)
    groups = [(0, turned), *((number, numbers == number) for number in range(BRIGHTNESS, INVERT + 1))]
    for number, members in groups:
        places = members.nonzero().flatten()
        if not len(places):
            continue
        rows, strengths = places.to(images.device), magnitudes[places]
        some = images[rows]
        if number == 0:
            new = _moved(some, numbers[places], strengths)
        elif number in (BRIGHTNESS, COLOUR, CONTRAST, SHARPNESS):
            new = _coloured(some, number, strengths)
        elif number == POSTERIZE:
            masks = 256 - 2 ** (8 - strengths.long())
            new = some & masks.to(images.device, torch.uint8).view(-1, 1, 1, 1)
        elif number == SOLARIZE:
            least = (255 * strengths).float().to(images.device).view(-1, 1, 1, 1)
            new = torch.where(some >= least, 255 - some, some)
        elif number == AUTOCONTRAST:
            new = _stretched(some)
        elif number == EQUALIZE:
            new = _equalized(some)
        else:
            new = 255 - some
        changed[rows] = new
    return changed


def _moved(images: Tensor, numbers: Tensor, magnitudes: Tensor) -> Tensor:
    """Shears, whole shifts and turns: where each pixel is read, in pixels from the centre."""
    height, width = images.shape[2:]

    def of(number: int) -> Tensor:
        return torch.where(numbers == number, magnitudes, 0.0)

    radians, across, down = of(ROTATE).deg2rad(), of(SHEAR_X), of(SHEAR_Y)
    # A shear keeps the top row or the left column where it is.
    x = torch.stack((radians.cos(), across - radians.sin(), across * height / 2 - of(SHIFT_X)), dim=1)
    y = torch.stack((down + radians.sin(), radians.cos(), down * width / 2 - of(SHIFT_Y)), dim=1)
    inverse = torch.stack((x, y), dim=2).float() / torch.tensor([width / 2, height / 2])
    rows, columns = torch.meshgrid(
        torch.arange(height) - (height - 1) / 2, torch.arange(width) - (width - 1) / 2, indexing="ij"
    )
    places = torch.stack((columns, rows, torch.ones_like(rows)), dim=2).view(1, -1, 3)
    grid = places.expand(len(images), -1, -1).bmm(inverse).view(-1, height, width, 2)
    moved = F.grid_sample(images.float(), grid.to(images.device), "nearest", "zeros", align_corners=False)
    return moved.to(torch.uint8)


def _grey(images: Tensor) -> Tensor:
    """(B, 1, H, W) float, the brightness of each pixel."""
    red, green, blue = (images[:, k : k + 1].float() * share for k, share in enumerate(LUMA))
    return red + green + blue


def _coloured(images: Tensor, number: int, strengths: Tensor) -> Tensor:
    """Further from, or nearer to, an image without brightness, colour, contrast or sharpness."""
    pixels = images.float()
    factor, rest = (share.float().to(images.device).view(-1, 1, 1, 1) for share in (1 + strengths, -strengths))
    if number == BRIGHTNESS:
        without = torch.zeros_like(factor)
    elif number == SHARPNESS:
        without = pixels.clone()
        kernel = torch.ones(3, 1, 3, 3, device=images.device)
        kernel[:, :, 1, 1] = 5
        # Pixels at the border stay as they are.
        without[:, :, 1:-1, 1:-1] = F.conv2d(pixels, kernel / 13, groups=3).round()
        return (pixels + (without - pixels) * rest).clamp_(0, 255).to(torch.uint8)
    else:
        without = _grey(images).floor()
        if number == CONTRAST:
            without = without.mean((1, 2, 3), keepdim=True)
    return (pixels * factor + without * rest).clamp_(0, 255).to(torch.uint8)


def _stretched(images: Tensor) -> Tensor:
    """The darkest value of each channel becomes 0 and the brightest 255."""
    pixels = images.float()
    low, high = pixels.amin((2, 3), keepdim=True), pixels.amax((2, 3), keepdim=True)
    flat = low == high
    scale = torch.where(flat, 1.0, (high - low) * (1 / 255))
    return ((pixels - torch.where(flat, 0.0, low)) / scale).clamp_(0, 255).to(torch.uint8)


def _equalized(images: Tensor) -> Tensor:
    """Each channel by a table that makes its values about equally frequent, as Pillow makes it."""
    flat = images.flatten(2).long()
    counts = torch.zeros(*flat.shape[:2], 256, dtype=torch.int64, device=images.device)
    counts.scatter_add_(2, flat, torch.ones_like(flat))
    sums = counts.cumsum(2)
    brightest = counts.gather(2, flat.amax(2, keepdim=True))
    step = (flat.shape[2] - brightest) // 255
    table = ((sums + step // 2) // step.clamp(min=1)).clamp_(0, 255).roll(1, 2)
    table[:, :, 0] = 0
    changed = table.gather(2, flat).to(torch.uint8).view(images.shape)
    return torch.where((step == 0).unsqueeze(3), images, changed)


def said(number: int, magnitude: float) -> str:
    """What was done to an image, such as "rotate 12° left"."""
    name = OPERATIONS[number]
    if number in (SHEAR_X, SHEAR_Y):
        return f"{name} {math.degrees(math.atan(magnitude)):+.0f}°"
    if number in (SHIFT_X, SHIFT_Y):
        return f"{name} {magnitude:+.0f} px"
    if number == ROTATE:
        return f"{name} {abs(magnitude):.0f}° {'left' if magnitude > 0 else 'right'}"
    if BRIGHTNESS <= number <= SHARPNESS:
        return f"{name} {100 * (1 + magnitude):.0f} %"
    if number == POSTERIZE:
        return f"{name} to {magnitude:.0f} bits"
    return f"{name} from {255 * magnitude:.0f}" if number == SOLARIZE else name
