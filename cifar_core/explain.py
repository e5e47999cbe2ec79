"""What in an image speaks for a class: class-activation maps and attributions to pixels, and their drawing."""

from __future__ import annotations

import copy
import difflib
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor, nn
from torch.nn import functional as F

from cifar_core.models import Classifier, Enlarge

COLOURS = (
    "#000004", "#1b0c41", "#4a0c6b", "#781c6d", "#a52c60", "#cf4446", "#ed6925", "#fb9b06", "#f7d13d", "#fcffa4",
)  # fmt: skip
"""Evenly spaced from heat 0 to 1: "inferno" of van der Walt and Smith (2015), whose brightness rises with the heat, so
that it reads the same for every kind of colour vision and in grey."""

COLD_COLOURS = ("#000004", "#0b2447", "#13487d", "#1c6eb4", "#3f95dd", "#7fbcf0", "#b9dcf9", "#eaf6ff")
"""Evenly spaced from heat 0 to -1, for what speaks against a class; blue against yellow is told apart by all."""

AT_ONCE = 128
"""Changed copies of an image that go through a network together."""

PATH_STEPS = 50
NOISY_COPIES = 50
NOISE = 0.15
"""Deviation of SmoothGrad's noise as a share of the image's range; Smilkov et al. (2017) advise 0.1 to 0.2."""

WINDOW, STRIDE = 8, 4
"""Side of what occlusion covers and how far it moves, in pixels."""


@dataclass(frozen=True)
class Method:
    """A way to say what speaks for a class.

    Args:
        of_layer: Whether it looks at the feature maps of a layer; else at the pixels themselves.
        signed: Whether there are values below 0, which speak against the class.
        of_class: Whether the map depends on the class that is asked for.
    """

    title: str
    source: str
    says: str
    of_layer: bool = True
    signed: bool = False
    of_class: bool = True


METHODS = {
    "grad_cam": Method(
        "Grad-CAM",
        "Selvaraju et al., 2017",
        "Each feature map counts as much as the logit rises with it on average.",
    ),
    "grad_cam_pp": Method(
        "Grad-CAM++",
        "Chattopadhay et al., 2018",
        "As Grad-CAM, with the places of a feature map weighed so that several small objects count like one large.",
    ),
    "layer_cam": Method(
        "LayerCAM",
        "Jiang et al., 2021",
        "Each place of each feature map counts by its own gradient; sharp in early layers too.",
    ),
    "eigen_cam": Method(
        "Eigen-CAM",
        "Muhammad and Yeasin, 2020",
        "What varies most among the places of a layer; it asks for no class, so it is the same for each.",
        of_class=False,
    ),
    "score_cam": Method(
        "Score-CAM",
        "Wang et al., 2020",
        "Each feature map counts by the logit of the image seen through it; no gradients, many forward passes.",
    ),
    "integrated_gradients": Method(
        "Integrated gradients",
        "Sundararajan et al., 2017",
        "Shares the rise of the logit from a picture that is zero for it to this one out to the pixels, exactly.",
        of_layer=False,
        signed=True,
    ),
    "occlusion": Method(
        "Occlusion",
        "Zeiler and Fergus, 2014",
        f"How far the logit falls when {WINDOW}×{WINDOW} pixels are covered with what is zero for it.",
        of_layer=False,
        signed=True,
    ),
    "smooth_grad": Method(
        "SmoothGrad",
        "Smilkov et al., 2017",
        f"How sensitive the logit is to a pixel: the mean gradient over {NOISY_COPIES} noisy copies, without its sign.",
        of_layer=False,
    ),
    "guided_grad_cam": Method(
        "Guided Grad-CAM",
        "Selvaraju et al., 2017",
        "Guided backpropagation (Springenberg et al., 2015), where Grad-CAM is warm. Looks sharp even for a network "
        "that knows little, so check it below.",
    ),
}
"""By name, in the order in which a page offers them."""


def explain(
    model: Classifier,
    images: Tensor,
    method: str = "grad_cam",
    classes: Tensor | None = None,
    against: Tensor | None = None,
    layer: str | None = None,
) -> Tensor:
    """What speaks for a class by any of the `METHODS`, in the method's own unit.

    Args:
        model: In eval mode. Its parameters receive no gradient.
        images: (B, 3, H, W) float32, normalised, on the model's device.
        classes: (B,) int64 in [0, K); by default what the model predicts for each image.
        against: (B,) likewise: what speaks for the one and not for the other, by the difference of their logits.
        layer: One of `conv_layers`; by default the last. Without effect where the method looks at pixels.

    Returns:
        (B, H, W) float32; at least 0, or of both signs where the method says so. All zero where nothing speaks for the
        class. Of a gradient's three channels the strongest counts, as with Simonyan et al. (2014); shares of a logit
        are summed.

    Raises:
        ValueError: There is no such method or layer, the classes are none of each image, or the model is in training
            mode, where batch norm would mix the images.
    """
    if method not in METHODS:
        close = difflib.get_close_matches(method, METHODS, n=1)
        hint = f"did you mean {close[0]!r}?" if close else f"known are {', '.join(METHODS)}."
        raise ValueError(f"There is no method {method!r}; {hint}")
    _must_be_evaluating(model)
    if method == "integrated_gradients":
        return integrated_gradients(model, images, classes, against).sum(1)
    if method == "occlusion":
        return occlusion(model, images, classes, against)
    if method == "smooth_grad":
        return smooth_grad(model, images, classes, against).abs().amax(1)
    if method == "guided_grad_cam":
        return guided_grad_cam(model, images, classes, against, layer).abs().amax(1)
    seen = _look(model, images, classes, against, layer, gradients=method not in ("eigen_cam", "score_cam"))
    heat = {
        "grad_cam": _grad_cam,
        "grad_cam_pp": _grad_cam_pp,
        "layer_cam": _layer_cam,
        "eigen_cam": _eigen_cam,
        "score_cam": _score_cam,
    }[method](seen)
    return _enlarged(heat.relu(), images)


def grad_cam(model: Classifier, images: Tensor, classes: Tensor | None = None, layer: str | None = None) -> Tensor:
    """Heat maps of the evidence for a class (Selvaraju et al., 2017, equations 1 and 2).

    Each feature map of a layer is weighted by the mean gradient of the class logit over that map; the rectified sum is
    enlarged to the image and scaled so that its peak is 1. The paper leaves the scale open; ours makes images
    comparable in shape, not in strength. The model is left as it is and may be shared between threads.

    Args:
        model: In eval mode. Its parameters receive no gradient.
        images: (B, 3, H, W) float32, normalised, on the model's device.
        classes: (B,) int64 in [0, K); by default what the model predicts for each image.
        layer: One of `conv_layers`; by default the last.

    Returns:
        (B, H, W) float32 in [0, 1]; all zero where nothing speaks for the class.

    Raises:
        ValueError: The model is in training mode, where batch norm would mix the images; the layer is unknown; or the
            classes are not one of [0, K) for each image.
    """
    return peaked(explain(model, images, "grad_cam", classes, layer=layer))


def peaked(maps: Tensor) -> Tensor:
    """Maps (B, H, W) scaled so that the largest magnitude of each is 1; empty ones stay empty."""
    peak = maps.abs().amax((1, 2), keepdim=True)
    return torch.where(peak > 0, maps / peak, 0.0)


def is_empty(maps: Tensor) -> Tensor:
    """Which heat maps show nothing, because no feature speaks for the class.

    Args:
        maps: (B, H, W) as `explain` gives them.

    Returns:
        (B,) bool.
    """
    return (maps == 0).all(2).all(1)


def conv_layers(model: Classifier) -> tuple[str, ...]:
    """What can be looked at, in the order of use: the children of the body, and the convolutions within them.

    A convolution inside a child is named by its path, such as "residual2.0.conv".
    """
    names = []
    for name, child in model.body.named_children():
        if isinstance(child, Enlarge):
            continue
        names += [f"{name}.{path}" for path, part in child.named_modules() if path and isinstance(part, nn.Conv2d)]
        names.append(name)
    return tuple(names)


def map_size(model: Classifier, layer: str | None = None, size: int = 32) -> tuple[int, int]:
    """Height and width of a layer's feature maps: the true resolution of its heat maps.

    Args:
        model: In eval mode.
        layer: One of `conv_layers`; by default the last.
        size: Height and width of the images in pixels.

    Raises:
        ValueError: The model is in training mode or the layer is unknown.
    """
    _must_be_evaluating(model)
    images = model.head.weight.new_zeros(1, 3, size, size)
    height, width = _look(model, images, None, None, layer, gradients=False).maps.shape[2:]
    return height, width


def resolution(model: Classifier, method: str, layer: str | None = None, size: int = 32) -> tuple[int, int]:
    """Rows and columns that a method really tells apart, however large its map is drawn."""
    if METHODS[method].of_layer and method != "guided_grad_cam":
        return map_size(model, layer, size)
    if method == "occlusion":
        places = len(_places(size))
        return places, places
    return size, size


def guided_layers(model: Classifier) -> int:
    """How many activations guided backpropagation guides: ReLU alone; all others pass plain gradients."""
    return sum(isinstance(layer, nn.ReLU) for layer in model.modules())


def integrated_gradients(
    model: Classifier, images: Tensor, classes: Tensor | None = None, against: Tensor | None = None
) -> Tensor:
    """Shares of the rise of a logit from an image of zeros to this one (Sundararajan et al., 2017, equation 1).

    The integral is taken by Gauss and Legendre's rule with `PATH_STEPS` points. The shares sum to the rise, up to the
    error of that rule.

    Args, Raises:
        As for `explain`.

    Returns:
        (B, 3, H, W) float32, of both signs.
    """
    nodes, weights = np.polynomial.legendre.leggauss(PATH_STEPS)
    images, classes, against = _asked(model, images, classes, against)
    total = torch.zeros_like(images)
    for node, weight in zip((nodes + 1) / 2, weights / 2, strict=True):
        total += float(weight) * _input_gradient(model, float(node) * images, classes, against)
    return total * images


def smooth_grad(
    model: Classifier, images: Tensor, classes: Tensor | None = None, against: Tensor | None = None, seed: int = 0
) -> Tensor:
    """The mean gradient of a logit over noisy copies of the image (Smilkov et al., 2017).

    The noise is Gaussian, the same for every image up to its range.

    Args, Raises:
        As for `explain`.

    Returns:
        (B, 3, H, W) float32, of both signs.
    """
    images, classes, against = _asked(model, images, classes, against)
    generator = torch.Generator().manual_seed(seed)
    noise = torch.randn(NOISY_COPIES, *images.shape[1:], generator=generator).to(images.device)
    spread = NOISE * (images.amax((1, 2, 3), keepdim=True) - images.amin((1, 2, 3), keepdim=True))
    total = torch.zeros_like(images)
    for sample in noise:
        total += _input_gradient(model, images + spread * sample, classes, against)
    return total / NOISY_COPIES


def occlusion(
    model: Classifier, images: Tensor, classes: Tensor | None = None, against: Tensor | None = None
) -> Tensor:
    """How far a logit falls when a window is covered with what is zero for it (Zeiler and Fergus, 2014, section 4.2).

    A pixel gets the mean fall over the windows that cover it.

    Args, Raises:
        As for `explain`.

    Returns:
        (B, H, W) float32, of both signs.
    """
    images, classes, against = _asked(model, images, classes, against)
    whole = _score(model, images, classes, against)
    falls, cover = torch.zeros_like(images[:, 0]), torch.zeros_like(images[0, 0])
    for top in _places(images.shape[2]):
        for left in _places(images.shape[3]):
            window = (slice(top, top + WINDOW), slice(left, left + WINDOW))
            covered = images.clone()
            covered[:, :, *window] = 0
            falls[:, *window] += (whole - _score(model, covered, classes, against))[:, None, None]
            cover[window] += 1
    return falls / cover


def guided_grad_cam(
    model: Classifier,
    images: Tensor,
    classes: Tensor | None = None,
    against: Tensor | None = None,
    layer: str | None = None,
) -> Tensor:
    """Guided backpropagation (Springenberg et al., 2015) times Grad-CAM (Selvaraju et al., 2017, section 3.2).

    Only ReLU layers are guided, that is, pass back no negative gradient: with GELU or ReLU6 the paper's idea, that a
    unit is either on or off, has no meaning, and the plain gradient is passed; `guided_layers` counts them.

    Args, Raises:
        As for `explain`.

    Returns:
        (B, 3, H, W) float32, of both signs.
    """
    images, classes, against = _asked(model, images, classes, against)
    heat = explain(model, images, "grad_cam", classes, against, layer)
    guided = private(model)
    for parent in list(guided.modules()):
        for name, child in parent.named_children():
            if isinstance(child, nn.ReLU):
                setattr(parent, name, _GuidedReLU())
    return _input_gradient(guided, images, classes, against) * heat[:, None]


class _Guided(torch.autograd.Function):
    @staticmethod
    def forward(context: torch.autograd.function.FunctionCtx, inputs: Tensor) -> Tensor:
        outputs = inputs.relu()
        context.save_for_backward(outputs)
        return outputs

    @staticmethod
    def backward(context: torch.autograd.function.FunctionCtx, gradient: Tensor) -> Tensor:
        (outputs,) = context.saved_tensors  # type: ignore[attr-defined]
        return gradient.relu() * (outputs > 0)


class _GuidedReLU(nn.Module):
    def forward(self, maps: Tensor) -> Tensor:
        return _Guided.apply(maps)


@dataclass(frozen=True, eq=False)
class _Seen:
    """What a layer gives for some images.

    Args:
        maps: (B, C, h, w).
        gradients: The same, of the logit in question; None where it was not asked for.
        score: Gives the logit in question (b,) for images and the row of `maps` that they stand for.
    """

    images: Tensor
    maps: Tensor
    gradients: Tensor | None
    score: Callable[[Tensor, int], Tensor]


def _look(
    model: Classifier,
    images: Tensor,
    classes: Tensor | None,
    against: Tensor | None,
    layer: str | None,
    gradients: bool,
) -> _Seen:
    name = _known(model, layer)
    model = private(model)
    kept: list[Tensor] = []

    def keep(module: nn.Module, inputs: object, output: Tensor) -> Tensor:
        maps = output.detach().clone().requires_grad_(gradients)
        kept.append(maps)
        # A copy, because what follows may work in place.
        return maps.clone()

    handle = model.body.get_submodule(name).register_forward_hook(keep)
    # The caller may be inside inference mode or autocast; gradients need neither.
    with (
        torch.inference_mode(False),
        torch.autocast(images.device.type, enabled=False),
        torch.set_grad_enabled(gradients),
    ):
        images = images.clone()
        # A copy here too, as a layer may hand its input on and the next one work in place.
        logits = model(images.clone())
        handle.remove()
        chosen, other = _chosen(logits, classes, against)
        slopes = torch.autograd.grad(_evidence(logits, chosen, other).sum(), kept[-1])[0] if gradients else None

    def score(changed: Tensor, row: int) -> Tensor:
        rows = torch.full((len(changed),), row, device=changed.device)
        return _score(model, changed, chosen[rows], None if other is None else other[rows])

    return _Seen(images, kept[-1].detach(), slopes, score)


def _grad_cam(seen: _Seen) -> Tensor:
    assert seen.gradients is not None
    return (seen.gradients.mean((2, 3), keepdim=True) * seen.maps).sum(1)


def _grad_cam_pp(seen: _Seen) -> Tensor:
    """Equations 11, 13 and 19 of Chattopadhay et al. (2018), for the exponential of the logit."""
    slopes = seen.gradients
    assert slopes is not None
    total = seen.maps.sum((2, 3), keepdim=True)
    # The paper divides 0 by 0 where a gradient vanishes; the small number is that of pytorch-grad-cam.
    shares = slopes**2 / (2 * slopes**2 + total * slopes**3 + 1e-6)
    weights = (torch.where(slopes != 0, shares, 0) * slopes.relu()).sum((2, 3), keepdim=True)
    return (weights * seen.maps).sum(1)


def _layer_cam(seen: _Seen) -> Tensor:
    """Equations 5 and 6 of Jiang et al. (2021)."""
    assert seen.gradients is not None
    return (seen.gradients.relu() * seen.maps).sum(1)


def _eigen_cam(seen: _Seen) -> Tensor:
    """The first principal component of a layer's places.

    The paper does not say which sign it has: here the larger end is the warm one (Chung and Ying, 2025, equation 13).
    The places are centred, as in pytorch-grad-cam.
    """
    places = seen.maps.flatten(2).transpose(1, 2)
    places = places - places.mean(1, keepdim=True)
    directions = torch.linalg.svd(places, full_matrices=False).Vh[:, 0]
    heat = torch.einsum("bpc,bc->bp", places, directions).unflatten(1, seen.maps.shape[2:])
    larger_below = heat.amin((1, 2)).abs() > heat.amax((1, 2)).abs()
    return torch.where(larger_below[:, None, None], -heat, heat)


def _score_cam(seen: _Seen) -> Tensor:
    """Algorithm 1 of Wang et al. (2020); their baseline changes nothing, as the softmax takes away what all share.

    Masks are enlarged with corners aligned, as in pytorch-grad-cam.
    """
    heat = torch.zeros_like(seen.maps[:, 0])
    with torch.no_grad():
        for row, (image, maps) in enumerate(zip(seen.images, seen.maps, strict=True)):
            masks = F.interpolate(maps[:, None], image.shape[1:], mode="bilinear", align_corners=True)
            low, high = (masks.amin((2, 3), keepdim=True), masks.amax((2, 3), keepdim=True))
            masks = (masks - low) / (high - low + 1e-8)
            scores = torch.cat([seen.score(image * part, row) for part in masks.split(AT_ONCE)])
            heat[row] = (scores.softmax(0)[:, None, None] * maps).sum(0)
    return heat


def _enlarged(heat: Tensor, images: Tensor) -> Tensor:
    # Antialiasing matters only where the maps are larger than the image, as those of enlarged images are.
    size = (images.shape[2], images.shape[3])
    return F.interpolate(heat[:, None], size, mode="bilinear", align_corners=False, antialias=True)[:, 0]


def private(model: Classifier) -> Classifier:
    """The same weights in modules of one's own, whose hooks and changes no other thread meets."""
    shared: dict[int, object] = {id(tensor): tensor for tensor in (*model.parameters(), *model.buffers())}
    return copy.deepcopy(model, shared)


def _must_be_evaluating(model: Classifier) -> None:
    if model.training:
        raise ValueError("The model must be in eval mode: in training mode batch norm would mix the images.")


def _known(model: Classifier, layer: str | None) -> str:
    name, names = layer or model.layers[-1], conv_layers(model)
    if name not in names:
        close = difflib.get_close_matches(name, names, n=1)
        hint = f"did you mean {close[0]!r}?" if close else f"known are {', '.join(model.layers)}."
        raise ValueError(f"There is no layer {name!r}; {hint}")
    return name


def _asked(
    model: Classifier, images: Tensor, classes: Tensor | None, against: Tensor | None
) -> tuple[Tensor, Tensor, Tensor | None]:
    """An ordinary copy of the images, and which logits are asked for."""
    _must_be_evaluating(model)
    with torch.inference_mode(False), torch.no_grad(), torch.autocast(images.device.type, enabled=False):
        images = images.clone()
        return images, *_chosen(model(images.clone()), classes, against)


def _chosen(logits: Tensor, classes: Tensor | None, against: Tensor | None) -> tuple[Tensor, Tensor | None]:
    chosen = logits.detach().argmax(1) if classes is None else _checked(classes, logits)
    return chosen, None if against is None else _checked(against, logits)


def _evidence(logits: Tensor, classes: Tensor, against: Tensor | None) -> Tensor:
    wanted = logits.gather(1, classes[:, None])[:, 0]
    return wanted if against is None else wanted - logits.gather(1, against[:, None])[:, 0]


def _score(model: Classifier, images: Tensor, classes: Tensor, against: Tensor | None) -> Tensor:
    with torch.inference_mode(False), torch.no_grad(), torch.autocast(images.device.type, enabled=False):
        return _evidence(model(images), classes, against)


def _input_gradient(model: Classifier, images: Tensor, classes: Tensor, against: Tensor | None) -> Tensor:
    with torch.inference_mode(False), torch.enable_grad(), torch.autocast(images.device.type, enabled=False):
        leaf = images.detach().clone().requires_grad_()
        return torch.autograd.grad(_evidence(model(leaf.clone()), classes, against).sum(), leaf)[0]


def _places(size: int) -> range:
    """Where windows begin; the last one may reach beyond the image."""
    return range(0, max(-(-(size - WINDOW) // STRIDE), 0) * STRIDE + 1, STRIDE)


def _checked(classes: Tensor, logits: Tensor) -> Tensor:
    images, count = logits.shape
    if classes.shape != (images,) or classes.dtype != torch.int64:
        kind = str(classes.dtype).removeprefix("torch.")
        raise ValueError(f"classes must be ({images},) int64, but are {tuple(classes.shape)} {kind}.")
    outside = classes[(classes < 0) | (classes >= count)]
    if len(outside):
        raise ValueError(f"classes must be from 0 to {count - 1}, but one is {int(outside[0])}.")
    return classes.to(logits.device)


def heat_colours(heat: NDArray[np.floating]) -> NDArray[np.uint8]:
    """Colours of heat, for an overlay and the scale beside it.

    Args:
        heat: Of any shape (...), in [-1, 1]; below 0 is what speaks against.

    Returns:
        (..., 3), red, green and blue.
    """
    places = (np.clip(np.abs(heat), 0, 1) * 255).round().astype(np.uint8)
    colours = _table(COLOURS)[places]
    below = np.asarray(heat) < 0
    colours[below] = _table(COLD_COLOURS)[places[below]]
    return colours


@cache
def _table(colours: tuple[str, ...]) -> NDArray[np.uint8]:
    anchors = np.array([[int(colour[place : place + 2], 16) for place in (1, 3, 5)] for colour in colours])
    steps = np.linspace(0, 1, len(anchors))
    table = np.stack([np.interp(np.linspace(0, 1, 256), steps, anchors[:, channel]) for channel in range(3)], axis=1)
    return table.round().astype(np.uint8)


def overlay(photo: Image.Image, heat: NDArray[np.floating], opacity: float) -> Image.Image:
    """Draw heat over a photo; where there is little, the photo shows through.

    Args:
        photo: RGB of any size, W by H.
        heat: (h, w) in [-1, 1], enlarged smoothly to the photo; below 0 is what speaks against, drawn in blue.
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
    if not (np.isfinite(heat).all() and heat.min() >= -1 and heat.max() <= 1):
        raise ValueError("heat must be from 0 to 1, or from -1 where it has a sign.")
    smooth = Image.fromarray(heat.astype(np.float32)).resize(photo.size, Image.Resampling.BICUBIC)
    # Bicubic curves overshoot a little, also below 0 where nothing speaks against.
    enlarged = np.clip(np.asarray(smooth), min(float(heat.min()), 0), 1)
    base = np.asarray(photo.convert("RGB"), dtype=np.float32)
    # The root keeps the dark shoulder of a peak visible, without which its edge is lost on a bright photo.
    share = opacity * np.sqrt(np.abs(enlarged))[:, :, None]
    return Image.fromarray((base + share * (heat_colours(enlarged) - base)).round().astype(np.uint8))
