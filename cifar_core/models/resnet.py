"""Residual networks (He et al., 2016): two for 32 pixels and one pretrained on ImageNet."""

from __future__ import annotations

import pickle
import sys
from contextlib import redirect_stdout
from pathlib import Path
from typing import Any
from urllib.error import URLError

import torch
from torch import Tensor, nn

from cifar_core.models import Classifier, Dropout, Enlarge, WeightsUnavailable, named, register, scaled


class Residual(nn.Sequential):
    """The input plus what the children make of it."""

    def forward(self, maps: Tensor) -> Tensor:
        result = maps
        for child in self:
            result = child(result)
        return maps + result


class GlobalMaxPool(nn.Module):
    """The largest value of each feature map."""

    def forward(self, maps: Tensor) -> Tensor:
        # Unlike AdaptiveMaxPool2d, amax has a deterministic gradient on every device.
        return maps.amax(dim=(2, 3))


def _conv(inputs: int, outputs: int, *, pool: bool = False) -> nn.Sequential:
    children: dict[str, nn.Module] = {
        "conv": nn.Conv2d(inputs, outputs, 3, padding=1, bias=False),
        "norm": nn.BatchNorm2d(outputs),
        "relu": nn.ReLU(inplace=True),
    }
    if pool:
        children["pool"] = nn.MaxPool2d(2)
    return named(**children)


def _residual(channels: int) -> Residual:
    return Residual(_conv(channels, channels), _conv(channels, channels))


@register("resnet9")
def resnet9(classes: int, width: float, pretrained: bool) -> Classifier:
    """Nine layers with two residual blocks; the usual fast and accurate network for 32 pixels.

    The layout of David Page's "How to train your ResNet" (2018), without his scaling of the logits.
    """
    a, b, c, d = (scaled(channels, width) for channels in (64, 128, 256, 512))
    return Classifier(
        named(
            prep=_conv(3, a),
            layer1=_conv(a, b, pool=True),
            residual1=_residual(b),
            layer2=_conv(b, c, pool=True),
            layer3=_conv(c, d, pool=True),
            residual2=_residual(d),
        ),
        named(pool=GlobalMaxPool(), dropout1=Dropout()),
        nn.Linear(d, classes),
    )


@register("resnet18")
def resnet18(classes: int, width: float, pretrained: bool) -> Classifier:
    """ResNet-18 with a 3x3 stem and no first pooling, as is usual for 32 pixels.

    Convolutions start from He's normal distribution over the outgoing connections, as torchvision's do.
    """
    a, b, c, d = (scaled(channels, width) for channels in (64, 128, 256, 512))
    model = Classifier(
        named(
            conv1=nn.Conv2d(3, a, 3, padding=1, bias=False),
            norm1=nn.BatchNorm2d(a),
            relu1=nn.ReLU(),
            layer1=_stage(a, a, stride=1),
            layer2=_stage(a, b, stride=2),
            layer3=_stage(b, c, stride=2),
            layer4=_stage(c, d, stride=2),
        ),
        named(pool=nn.AdaptiveAvgPool2d(1), flatten=nn.Flatten(), dropout1=Dropout()),
        nn.Linear(d, classes),
    )
    for module in model.modules():
        if isinstance(module, nn.Conv2d):
            nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")
    return model


def _stage(inputs: int, outputs: int, stride: int) -> nn.Sequential:
    # torchvision takes about a second to import, and the other models do without it.
    from torchvision.models.resnet import BasicBlock

    shortcut = None
    if stride != 1 or inputs != outputs:
        shortcut = nn.Sequential(nn.Conv2d(inputs, outputs, 1, stride, bias=False), nn.BatchNorm2d(outputs))
    return nn.Sequential(BasicBlock(inputs, outputs, stride, shortcut), BasicBlock(outputs, outputs))


@register("resnet18_transfer")
def resnet18_transfer(classes: int, width: float, pretrained: bool) -> Classifier:
    """ResNet-18 pretrained on ImageNet, fed images enlarged to 224 pixels, with a fresh last layer.

    The enlargement is the first child of the body, so that data and augmentation stay at 32 pixels as for every
    other model and only one batch at a time is large. Tutorials enlarge the stored image before normalising it.
    Both give the same, because bilinear weights sum to 1 and so commute with a scale and shift per channel; only
    the rounding of enlarged pixels to whole numbers is absent here.

    Raises:
        ValueError: The width is not 1.
        WeightsUnavailable: The weights cannot be fetched or read.
    """
    if width != 1:
        raise ValueError(f"width must be 1 for resnet18_transfer, whose weights have one size, but is {width:g}.")
    from torchvision.models import resnet18 as imagenet_resnet18

    network = imagenet_resnet18(weights=None)
    if pretrained:
        _load_imagenet_weights(network)
    return Classifier(
        named(
            enlarge=Enlarge(224),
            conv1=network.conv1,
            norm1=network.bn1,
            # Not torchvision's own, which would overwrite the output of norm1.
            relu1=nn.ReLU(),
            pool1=network.maxpool,
            layer1=network.layer1,
            layer2=network.layer2,
            layer3=network.layer3,
            layer4=network.layer4,
        ),
        named(pool=nn.AdaptiveAvgPool2d(1), flatten=nn.Flatten(), dropout1=Dropout()),
        nn.Linear(network.fc.in_features, classes),
    )


def _load_imagenet_weights(network: nn.Module) -> None:
    from torchvision.models import ResNet18_Weights

    weights = ResNet18_Weights.IMAGENET1K_V1
    file = Path(torch.hub.get_dir()) / "checkpoints" / Path(weights.url).name
    try:
        # Only tensors are unpickled, because the file may have been placed by hand.
        # What torch.hub says about a download is none of a command's results.
        with redirect_stdout(sys.stderr):
            state: dict[str, Any] = weights.get_state_dict(
                progress=False, check_hash=True, weights_only=True, map_location="cpu"
            )
        network.load_state_dict(state)
    except (OSError, RuntimeError, EOFError, pickle.UnpicklingError) as error:
        advice = f"place {file.name} from {weights.url} at {file} by hand, or choose another model."
        if file.exists():
            raise WeightsUnavailable(
                f"The ImageNet weights in {file} cannot be read; delete the file and {advice}"
            ) from error
        why = error.reason if isinstance(error, URLError) else error
        raise WeightsUnavailable(f"The ImageNet weights of ResNet-18 could not be fetched ({why}); {advice}") from error
