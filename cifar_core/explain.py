"""Where a network looks: class-activation maps, and their drawing over a photo."""

from __future__ import annotations

import difflib

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor
from torch.nn import functional as F

from cifar_core.models import Classifier

COLOURS = (
    "#000004", "#1b0c41", "#4a0c6b", "#781c6d", "#a52c60", "#cf4446", "#ed6925", "#fb9b06", "#f7d13d", "#fcffa4",
)  # fmt: skip
"""Evenly spaced from heat 0 to 1: "inferno" of van der Walt and Smith (2015), whose brightness rises with the heat, so
that it reads the same for every kind of colour vision and in grey."""


def grad_cam(model: Classifier, images: Tensor, classes: Tensor | None = None, layer: str | None = None) -> Tensor:
    """Heat maps of the evidence for a class (Selvaraju et al., 2017, equations 1 and 2).

    Each feature map of a layer is weighted by the mean gradient of the class logit over that map; the rectified sum is
    enlarged to the image and scaled so that its peak is 1. The paper leaves the scale open; ours makes images
    comparable in shape, not in strength. The model is left as it is and may be shared between threads.

    Args:
        model: In eval mode. Its parameters receive no gradient.
        images: (B, 3, H, W) float32, normalised, on the model's device.
        classes: (B,) int64 in [0, K); by default what the model predicts for each image.
        layer: One of `model.layers`; by default the last.

    Returns:
        (B, H, W) float32 in [0, 1]; all zero where nothing speaks for the class.

    Raises:
        ValueError: The model is in training mode, where batch norm would mix the images; the layer is unknown; or the
            classes are not one of [0, K) for each image.
    """
    cut = _place(model, layer) + 1
    # The caller may be inside inference mode or autocast; gradients need neither.
    with torch.inference_mode(False), torch.autocast(images.device.type, enabled=False):
        with torch.no_grad():
            maps = model.body[:cut](images).clone()
        with torch.enable_grad():
            maps.requires_grad_()
            # A copy, because what follows may work in place.
            logits = model.head(model.embed(model.body[cut:](maps.clone())))
            chosen = logits.argmax(1) if classes is None else _checked(classes, logits)
            gradients = torch.autograd.grad(logits.gather(1, chosen[:, None]).sum(), maps)[0]
        with torch.no_grad():
            weights = gradients.mean((2, 3), keepdim=True)
            heat = (weights * maps).sum(1, keepdim=True).relu()
            # Antialiasing matters only where the maps are larger than the image, as those of enlarged images are.
            size = (images.shape[2], images.shape[3])
            heat = F.interpolate(heat, size, mode="bilinear", align_corners=False, antialias=True)[:, 0]
            peak = heat.amax((1, 2), keepdim=True)
            return torch.where(peak > 0, heat / peak, 0.0)


def is_empty(maps: Tensor) -> Tensor:
    """Which heat maps show nothing, because no feature speaks for the class.

    Args:
        maps: (B, H, W) as `grad_cam` gives them.

    Returns:
        (B,) bool.
    """
    return (maps == 0).all(2).all(1)


def map_size(model: Classifier, layer: str | None = None, size: int = 32) -> tuple[int, int]:
    """Height and width of a layer's feature maps: the true resolution of its heat maps.

    Args:
        model: In eval mode.
        layer: One of `model.layers`; by default the last.
        size: Height and width of the images in pixels.

    Raises:
        ValueError: The model is in training mode or the layer is unknown.
    """
    cut = _place(model, layer) + 1
    with torch.no_grad():
        height, width = model.body[:cut](model.head.weight.new_zeros(1, 3, size, size)).shape[2:]
    return height, width


def heat_colours(heat: NDArray[np.floating]) -> NDArray[np.uint8]:
    """Colours of heat, for an overlay and the scale beside it.

    Args:
        heat: Of any shape (...), in [0, 1].

    Returns:
        (..., 3), red, green and blue.
    """
    anchors = np.array([[int(colour[place : place + 2], 16) for place in (1, 3, 5)] for colour in COLOURS])
    steps = np.linspace(0, 1, len(anchors))
    table = np.stack([np.interp(np.linspace(0, 1, 256), steps, anchors[:, channel]) for channel in range(3)], axis=1)
    return table.round().astype(np.uint8)[(np.clip(heat, 0, 1) * 255).round().astype(np.uint8)]


def overlay(photo: Image.Image, heat: NDArray[np.floating], opacity: float) -> Image.Image:
    """Draw heat over a photo; where there is little, the photo shows through.

    Args:
        photo: RGB of any size, W by H.
        heat: (h, w) in [0, 1], enlarged smoothly to the photo.
        opacity: Of the hottest place, fraction in [0, 1]; 0 gives the photo itself.

    Returns:
        RGB of the size of the photo.

    Raises:
        ValueError: The opacity or the heat is out of its range, or the heat has not two dimensions.
    """
    if not 0 <= opacity <= 1:
        raise ValueError(f"opacity must be from 0 to 1, but is {opacity}.")
    if heat.ndim != 2 or not heat.size:
        raise ValueError(f"heat must be (h, w), but is {heat.shape}.")
    if not (np.isfinite(heat).all() and heat.min() >= 0 and heat.max() <= 1):
        raise ValueError("heat must be from 0 to 1.")
    smooth = Image.fromarray(heat.astype(np.float32)).resize(photo.size, Image.Resampling.BICUBIC)
    # Bicubic curves overshoot a little.
    enlarged = np.clip(np.asarray(smooth), 0, 1)
    base = np.asarray(photo.convert("RGB"), dtype=np.float32)
    # The root keeps the dark shoulder of a peak visible, without which its edge is lost on a bright photo.
    share = opacity * np.sqrt(enlarged)[:, :, None]
    return Image.fromarray((base + share * (heat_colours(enlarged) - base)).round().astype(np.uint8))


def _place(model: Classifier, layer: str | None) -> int:
    if model.training:
        raise ValueError("The model must be in eval mode: in training mode batch norm would mix the images.")
    name = layer or model.layers[-1]
    if name not in model.layers:
        close = difflib.get_close_matches(name, model.layers, n=1)
        hint = f"did you mean {close[0]!r}?" if close else f"known are {', '.join(model.layers)}."
        raise ValueError(f"There is no layer {name!r}; {hint}")
    return [child for child, _ in model.body.named_children()].index(name)


def _checked(classes: Tensor, logits: Tensor) -> Tensor:
    images, count = logits.shape
    if classes.shape != (images,) or classes.dtype != torch.int64:
        kind = str(classes.dtype).removeprefix("torch.")
        raise ValueError(f"classes must be ({images},) int64, but are {tuple(classes.shape)} {kind}.")
    outside = classes[(classes < 0) | (classes >= count)]
    if len(outside):
        raise ValueError(f"classes must be from 0 to {count - 1}, but one is {int(outside[0])}.")
    return classes.to(logits.device)
