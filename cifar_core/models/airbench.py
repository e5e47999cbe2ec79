"""The layout of airbench (Jordan, 2024), made for the shortest training on 32 pixels."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable
from torch.nn.grad import conv2d_input

from cifar_core.compute import has_matrix_units
from cifar_core.models import Classifier, Dropout, named, register, scaled
from cifar_core.models.resnet import GlobalMaxPool, Residual

SMOOTHING = 5e-4
"""Added to the variances, so that directions with next to none are not blown up (Jordan, 2024, section 3.2)."""


SMALL_MAP = 49
"""Maps of fewer pixels are small."""


class Whitening(nn.Module):
    """A fixed 2x2 convolution after which the values of natural patches are uncorrelated and of equal variance.

    Its 24 filters are the 12 eigenvectors of the covariance of 2x2 patches, each divided by its deviation, and their
    negatives (Jordan, 2024, section 3.2). He learns offsets after it for three epochs; here nothing in it is learned,
    so that no gradient has to come this far, which saves a tenth of each step. Until `fit` it is a random convolution.
    """

    weight: Tensor

    def __init__(self) -> None:
        super().__init__()
        # Not a parameter, as nothing learns it, but kept with the weights.
        self.register_buffer("weight", nn.Conv2d(3, 24, 2).weight.detach())

    @torch.no_grad()
    def fit(self, images: Tensor) -> None:
        """Take the filters from images.

        Args:
            images: (N, 3, H, W) float, normalised as they will be.
        """
        patches = images.unfold(2, 2, 1).unfold(3, 2, 1).permute(0, 2, 3, 1, 4, 5).reshape(-1, 12).cpu().double()
        variances, directions = torch.linalg.eigh(patches.T @ patches / len(patches))
        # An eigenvector's sign is a matter of chance; with one sign for all, the same images give the same filters.
        directions = directions * directions.sum(0).sign()
        filters = (directions / (variances + SMOOTHING).sqrt()).T.flip(0).reshape(12, 3, 2, 2)
        self.weight.copy_(torch.cat([filters, -filters]))

    def forward(self, images: Tensor) -> Tensor:
        return nn.functional.conv2d(images, self.weight)


def fit_whitening(model: nn.Module, images: Tensor) -> None:
    """Take the filters of a model's whitening layers, if it has any, from normalised images (N, 3, H, W)."""
    for layer in model.modules():
        if isinstance(layer, Whitening):
            layer.fit(images)


class ShiftNorm(nn.BatchNorm2d):
    """Batch norm that learns an offset but no scale, and forgets old batches quickly, as short trainings need."""

    def __init__(self, channels: int) -> None:
        super().__init__(channels, momentum=0.4)
        del self.weight
        self.register_buffer("weight", torch.ones(channels))


class Scale(nn.Module):
    """A fixed factor."""

    def __init__(self, factor: float) -> None:
        super().__init__()
        self.factor = factor

    def forward(self, features: Tensor) -> Tensor:
        return features * self.factor


class SmallMapConvolution(nn.Conv2d):
    """A 3x3 convolution with a padding of 1 whose weights' gradient on small maps is one product of matrices.

    On a CPU with matrix units (AMX) oneDNN's own kernel for that gradient runs at 100 to 200 GFLOP/s on maps of fewer
    than 7x7 pixels, and the product over all patches at 300 to 500, though they must first be written side by side.
    The gradients are the same but for rounding.
    """

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__(inputs, outputs, 3, padding=1, bias=False)

    def forward(self, features: Tensor) -> Tensor:
        if not (torch.is_grad_enabled() and self.weight.requires_grad and gains_by_patches(features)):
            return super().forward(features)
        weight = self.weight.to(torch.bfloat16, memory_format=torch.channels_last)
        return _Patches.apply(features.to(torch.bfloat16, memory_format=torch.channels_last), weight)


def gains_by_patches(features: Tensor) -> bool:
    """Whether features (N, C, H, W) are such that the gradient is faster as a product over patches."""
    return (
        features.device.type == "cpu"
        and features.shape[2] * features.shape[3] < SMALL_MAP
        and torch.is_autocast_enabled("cpu")
        and torch.get_autocast_dtype("cpu") == torch.bfloat16
        and has_matrix_units()
    )


class _Patches(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, features: Tensor, weight: Tensor) -> Tensor:
        ctx.save_for_backward(features, weight)
        return nn.functional.conv2d(features, weight, padding=1)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, Tensor]:
        features, weight = ctx.saved_tensors
        to_features = None
        if ctx.needs_input_grad[0]:
            to_features = conv2d_input(features.shape, weight, gradient, padding=1)
        pixels = nn.functional.pad(features.permute(0, 2, 3, 1), (0, 0, 1, 1, 1, 1))
        # (N, H, W, C, 3, 3), of which the copy has a row of all three rows and columns for each pixel.
        patches = pixels.unfold(1, 3, 1).unfold(2, 3, 1).permute(0, 1, 2, 4, 5, 3).flatten(3).flatten(0, 2)
        product = gradient.permute(0, 2, 3, 1).flatten(0, 2).T @ patches
        return to_features, product.unflatten(1, (3, 3, -1)).permute(0, 3, 1, 2)


def _conv(inputs: int, outputs: int, *, pool: bool = False) -> nn.Sequential:
    children: dict[str, nn.Module] = {"conv": SmallMapConvolution(inputs, outputs)}
    if pool:
        # Before the norm, which then has a quarter of the work.
        children["pool"] = nn.MaxPool2d(2)
    return named(**children, norm=ShiftNorm(outputs), gelu=nn.GELU())


def _block(inputs: int, outputs: int) -> nn.Sequential:
    return named(
        enter=_conv(inputs, outputs, pool=True), residual=Residual(_conv(outputs, outputs), _conv(outputs, outputs))
    )


def _pair(inputs: int, outputs: int) -> nn.Sequential:
    return named(enter=_conv(inputs, outputs, pool=True), second=_conv(outputs, outputs))


def _entry() -> dict[str, nn.Module]:
    return {"whiten": Whitening(), "gelu": nn.GELU()}


def _classifier(body: nn.Sequential, features: int, classes: int) -> Classifier:
    pooled = named(pool=GlobalMaxPool(), dropout1=Dropout(), scale=Scale(1 / 9))
    model = Classifier(body, pooled, nn.Linear(features, classes))
    nn.init.normal_(model.head.weight)
    return model


@register("airbench")
def airbench(classes: int, width: float, pretrained: bool) -> Classifier:
    """A whitening layer and three residual blocks, for longer trainings.

    After airbench96 (Jordan, 2024): fixed whitening filters, pooling before the norm, norms without scale, GELU,
    logits divided by 9; it is made for the initialisation "dirac". The channels double from block to block here, and
    the head has a bias.
    """
    a, b, c = (scaled(channels, width) for channels in (64, 128, 256))
    body = named(**_entry(), block1=_block(24, a), block2=_block(a, b), block3=_block(b, c))
    return _classifier(body, c, classes)


@register("airbench94")
def airbench94(classes: int, width: float, pretrained: bool) -> Classifier:
    """A whitening layer and six convolutions; of all networks here the quickest to a good accuracy.

    After airbench94 (Jordan, 2024), with its depth and widths; what is said of `airbench` holds here too. Most of the
    weights work on small maps, where they cost little.
    """
    a, b = (scaled(channels, width) for channels in (64, 256))
    body = named(**_entry(), block1=_pair(24, a), block2=_pair(a, b), block3=_pair(b, b))
    return _classifier(body, b, classes)
