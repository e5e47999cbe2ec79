"""Networks made for phones, with the strides that suit 32 pixels: MobileNetV2 and ShuffleNetV2."""

from __future__ import annotations

from collections import OrderedDict

import torch
from torch import Tensor, nn

from cifar_core.models import Classifier, Dropout, named, register, scaled
from cifar_core.models.resnet import Residual

INVERTED_RESIDUALS = (
    (1, 16, 1, 1), (6, 24, 2, 1), (6, 32, 3, 2), (6, 64, 4, 2), (6, 96, 3, 1), (6, 160, 3, 2), (6, 320, 1, 1),
)  # fmt: skip
"""Expansion, channels, blocks and stride of the first block (Sandler et al., 2018, table 2). The paper has stride 2 in
the second stage as well, for images of 224 pixels."""

SHUFFLED = ((58, 4), (116, 8), (232, 4))
"""Half of the channels, and the units (Ma et al., 2018, table 5, at 1x)."""


def _conv(
    inputs: int, outputs: int, kernel: int = 1, *, stride: int = 1, groups: int = 1, relu: nn.Module | None = None
) -> nn.Sequential:
    children: dict[str, nn.Module] = {
        "conv": nn.Conv2d(inputs, outputs, kernel, stride, kernel // 2, groups=groups, bias=False),
        "norm": nn.BatchNorm2d(outputs),
    }
    if relu:
        children["relu"] = relu
    return named(**children)


def _relu() -> nn.Module:
    return nn.ReLU(inplace=True)


def _relu6() -> nn.Module:
    return nn.ReLU6(inplace=True)


def _inverted_residual(inputs: int, hidden: int, outputs: int, *, stride: int, adds: bool, expands: bool) -> nn.Module:
    children: dict[str, nn.Module] = {}
    if expands:
        children["expand"] = _conv(inputs, hidden, relu=_relu6())
    children["depthwise"] = _conv(hidden, hidden, 3, stride=stride, groups=hidden, relu=_relu6())
    # Without a ReLU, which would lose too much of so few channels (section 3.2).
    children["project"] = _conv(hidden, outputs)
    return (Residual if adds else nn.Sequential)(OrderedDict(children))


@register("mobilenet_v2")
def mobilenet_v2(classes: int, width: float, pretrained: bool) -> Classifier:
    """MobileNetV2: inverted residual blocks of depthwise convolutions, made for phones.

    As Sandler et al. (2018), with stride 1 instead of 2 in the stem and in the second stage, as is usual for 32 pixels:
    32 -> 16 -> 8 -> 4. Channels are not rounded to multiples of 8.
    """
    inputs = 32
    stages: dict[str, nn.Module] = {}
    for number, (expansion, outputs, blocks, stride) in enumerate(INVERTED_RESIDUALS, start=1):
        stage = nn.Sequential()
        for block in range(blocks):
            stage.append(
                _inverted_residual(
                    *(scaled(channels, width) for channels in (inputs, expansion * inputs, outputs)),
                    stride=stride if block == 0 else 1,
                    adds=block > 0,
                    expands=expansion > 1,
                )
            )
            inputs = outputs
        stages[f"stage{number}"] = stage
    last = scaled(1280, width)
    return Classifier(
        named(
            stem=_conv(3, scaled(32, width), 3, relu=_relu6()),
            **stages,
            last=_conv(scaled(inputs, width), last, relu=_relu6()),
        ),
        named(pool=nn.AdaptiveAvgPool2d(1), flatten=nn.Flatten(), dropout1=Dropout()),
        nn.Linear(last, classes),
    )


class ShuffleUnit(nn.Module):
    """Half of the channels pass or are made smaller, the other half is worked on, then the halves are interleaved.

    Ma et al. (2018), figure 3 (c) and, with stride 2, where both halves are made of all channels, (d).
    """

    def __init__(self, inputs: int, half: int, stride: int) -> None:
        super().__init__()
        self.stride = stride
        if stride == 2:
            self.shortcut = named(
                depthwise=_conv(inputs, inputs, 3, stride=2, groups=inputs),
                mix=_conv(inputs, half, relu=_relu()),
            )
        self.branch = named(
            enter=_conv(inputs if stride == 2 else half, half, relu=_relu()),
            depthwise=_conv(half, half, 3, stride=stride, groups=half),
            leave=_conv(half, half, relu=_relu()),
        )

    def forward(self, maps: Tensor) -> Tensor:
        passed, worked = (self.shortcut(maps), maps) if self.stride == 2 else maps.chunk(2, dim=1)
        return torch.stack((passed, self.branch(worked)), dim=2).flatten(1, 2)


@register("shufflenet_v2")
def shufflenet_v2(classes: int, width: float, pretrained: bool) -> Classifier:
    """ShuffleNetV2: channels split, worked on and shuffled, made for speed on phones.

    As Ma et al. (2018) at 1x, with stride 1 instead of 2 in the stem and no pooling after it, as is usual for 32
    pixels: 32 -> 16 -> 8 -> 4.
    """
    inputs = stem = scaled(24, width)
    stages: dict[str, nn.Module] = {}
    for number, (half, units) in enumerate(SHUFFLED, start=2):
        half = scaled(half, width)
        stages[f"stage{number}"] = nn.Sequential(
            *(ShuffleUnit(inputs, half, stride=2 if unit == 0 else 1) for unit in range(units))
        )
        inputs = 2 * half
    last = scaled(1024, width)
    return Classifier(
        named(
            stem=_conv(3, stem, 3, relu=_relu()),
            **stages,
            last=_conv(inputs, last, relu=_relu()),
        ),
        named(pool=nn.AdaptiveAvgPool2d(1), flatten=nn.Flatten(), dropout1=Dropout()),
        nn.Linear(last, classes),
    )
