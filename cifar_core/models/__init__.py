"""The contract every network keeps, the registry of networks, and tables of their layers.

A network is three parts in a row, so that class-activation maps and embeddings need no hooks:

    images (B, 3, H, W) --body--> maps (B, C, h, w) --embedding--> features (B, D) --head--> logits (B, K)
"""

from __future__ import annotations

import copy
import difflib
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from cifar_core.config import MODELS


class Dropout(nn.Dropout):
    """Dropout whose rate is a fixed share of the rate of the whole model."""

    def __init__(self, share: float = 1.0) -> None:
        super().__init__(p=0.0)
        self.share = share


class Enlarge(nn.Module):
    """Bilinear enlargement of the images to a square of fixed size."""

    def __init__(self, size: int) -> None:
        super().__init__()
        self.size = size

    def forward(self, images: Tensor) -> Tensor:
        return nn.functional.interpolate(images, size=(self.size, self.size), mode="bilinear", align_corners=False)


class Classifier(nn.Module):
    """A convolutional body, an embedding of its last feature maps, and a linear head.

    The body's children are named; a name is what a user picks as "layer". No child changes its input in place, so
    the output of each can be kept while the next one runs.

    Args:
        body: Named children that each take and give feature maps.
        embedding: From the last maps (B, C, h, w) to features (B, D): pooling, hidden linear layers, dropout.
        head: From features to logits (B, K).
    """

    def __init__(self, body: nn.Sequential, embedding: nn.Sequential, head: nn.Linear) -> None:
        super().__init__()
        self.body = body
        self.embedding = embedding
        self.head = head
        self.projection: nn.Module | None = None
        """From features to what is compared while learning without labels; no part of a network in use."""
        self._dropout = 0.0
        self._frozen = False

    def feature_maps(self, images: Tensor) -> Tensor:
        """The last feature maps.

        Args:
            images: (B, 3, H, W) float, normalised.

        Returns:
            (B, C, h, w).
        """
        return self.body(images)

    def embed(self, maps: Tensor) -> Tensor:
        """What the head sees of feature maps.

        Args:
            maps: (B, C, h, w) as `feature_maps` gives them.

        Returns:
            (B, D).
        """
        return self.embedding(maps)

    def forward(self, images: Tensor) -> Tensor:
        """Logits (B, K) of images (B, 3, H, W)."""
        return self.head(self.embed(self.feature_maps(images)))

    def project(self, images: Tensor) -> Tensor:
        """Projected features (B, P) of images (B, 3, H, W), for a network that has a projection."""
        assert self.projection is not None
        return self.projection(self.embed(self.feature_maps(images)))

    def freeze(self) -> None:
        """Train the head alone from now on: the body gets no gradients, and its norms keep their statistics."""
        self._frozen = True
        self.body.requires_grad_(False)
        self.embedding.requires_grad_(False)
        self.train(self.training)

    def train(self, mode: bool = True) -> Classifier:
        """Training mode or not; a frozen body is always in eval mode."""
        super().train(mode)
        if self._frozen:
            self.body.eval()
        return self

    @property
    def layers(self) -> tuple[str, ...]:
        """Children of the body whose outputs are feature maps; the last one gives `feature_maps` itself."""
        return tuple(name for name, child in self.body.named_children() if not isinstance(child, Enlarge))

    @property
    def dropout(self) -> float:
        """Rate of the dropout before the output, fraction in [0, 1)."""
        return self._dropout

    def set_dropout(self, rate: float) -> None:
        """Change the dropout, also in the middle of a training; several dropouts keep their ratio.

        Args:
            rate: Fraction in [0, 1).

        Raises:
            ValueError: The rate is out of its range.
        """
        if not 0 <= rate < 1:
            raise ValueError(f"dropout must be at least 0 and below 1, but is {rate:g}.")
        self._dropout = float(rate)
        for module in self.modules():
            if isinstance(module, Dropout):
                module.p = self._dropout * module.share


Builder = Callable[[int, float, bool], Classifier]

REGISTRY: dict[str, Builder] = {}


def register(name: str) -> Callable[[Builder], Builder]:
    """Make a builder known to `create`; it takes the number of classes, the width and whether to fetch weights."""

    def add(builder: Builder) -> Builder:
        if name in REGISTRY:
            raise ValueError(f"There are two models named {name!r}.")
        REGISTRY[name] = builder
        return builder

    return add


def create(
    name: str, classes: int, *, width: float = 1.0, dropout: float | None = None, pretrained: bool = True
) -> Classifier:
    """A fresh network, the same for the same `torch.manual_seed`.

    Args:
        classes: K, at least 1.
        width: Number of channels relative to the published network, above 0.
        dropout: Fraction in [0, 1); None takes the published rate.
        pretrained: Fetch published weights where the model has some; without them only the structure is built.

    Raises:
        ValueError: The model is unknown, or a number is out of its range.
        WeightsUnavailable: Published weights cannot be fetched or read.
    """
    if name not in REGISTRY:
        close = difflib.get_close_matches(name, REGISTRY, n=1)
        hint = f"did you mean {close[0]!r}?" if close else f"known are {', '.join(REGISTRY)}."
        raise ValueError(f"There is no model {name!r}; {hint}")
    if classes < 1:
        raise ValueError(f"classes must be at least 1, but is {classes}.")
    if not width > 0:
        raise ValueError(f"width must be above 0, but is {width:g}.")
    model = REGISTRY[name](classes, width, pretrained)
    model.set_dropout(MODELS[name].dropout if dropout is None else dropout)
    return model


def initialise(model: nn.Module, how: str) -> None:
    """Begin the weights of convolutions and linear layers anew, and their biases at 0; "default" leaves torch's.

    Args:
        how: "he" (He et al., 2015, normal, fan-out for convolutions as in ResNet), "xavier" (Glorot and Bengio, 2010,
            uniform), "orthogonal" (Saxe et al., 2014), or "dirac": as many channels as a convolution takes are passed
            on unchanged (Jordan, 2024), the further ones and linear layers begin as torch does.

    Raises:
        ValueError: There is no such way.
    """
    if how not in ("default", "he", "xavier", "orthogonal", "dirac"):
        raise ValueError(f"initialisation must be default, he, xavier, orthogonal or dirac, but is {how!r}.")
    for layer in model.modules():
        if how == "default" or not isinstance(layer, nn.Conv2d | nn.Linear):
            continue
        if how == "he":
            if isinstance(layer, nn.Conv2d):
                nn.init.kaiming_normal_(layer.weight, mode="fan_out", nonlinearity="relu")
            else:
                nn.init.kaiming_normal_(layer.weight, nonlinearity="relu")
        elif how == "xavier":
            nn.init.xavier_uniform_(layer.weight)
        elif how == "orthogonal":
            nn.init.orthogonal_(layer.weight)
        elif isinstance(layer, nn.Conv2d):
            nn.init.dirac_(layer.weight.data[: layer.in_channels], layer.groups)
        if layer.bias is not None and (how != "dirac" or isinstance(layer, nn.Conv2d)):
            nn.init.zeros_(layer.bias)


class WeightsUnavailable(ConnectionError):
    """Published weights could not be fetched or read."""


def scaled(channels: int, width: float) -> int:
    """A number of channels times the width, at least 1."""
    return max(1, round(channels * width))


def named(**children: nn.Module) -> nn.Sequential:
    """Modules in a row, each with its name."""
    return nn.Sequential(OrderedDict(children))


def output_size(size: int, kernel: int, stride: int = 1, padding: int = 0, dilation: int = 1) -> int:
    """Height or width after a convolution or pooling, in pixels.

    floor((size + 2 padding - dilation (kernel - 1) - 1) / stride + 1), as in the documentation of `torch.nn.Conv2d`.
    """
    return (size + 2 * padding - dilation * (kernel - 1) - 1) // stride + 1


def count_parameters(model: nn.Module) -> int:
    """Number of trainable and frozen weights."""
    return sum(parameter.numel() for parameter in model.parameters())


@dataclass(frozen=True)
class LayerRow:
    """One use of one layer in a forward pass."""

    name: str
    kind: str
    """Such as "Conv2d 3x3, stride 1"."""
    output_shape: tuple[int, ...]
    """Without the batch."""
    parameters: int
    """0 where a layer is used again."""


def layer_table(model: Classifier, size: int = 32) -> list[LayerRow]:
    """Every layer in the order of use, with its output shape and number of parameters.

    Only shapes are worked out, on a copy without weights: the model stays as it is and nothing is computed.

    Args:
        size: Height and width of the images in pixels.

    Raises:
        ValueError: The model cannot take images of this size.
    """
    # Standing in for the weights beforehand keeps deepcopy from copying them.
    stand_ins: dict[int, object] = {id(p): nn.Parameter(torch.empty_like(p, device="meta")) for p in model.parameters()}
    stand_ins |= {id(b): torch.empty_like(b, device="meta") for b in model.buffers()}
    shell = copy.deepcopy(model, stand_ins).eval()

    rows: list[LayerRow] = []
    seen: set[nn.Module] = set()

    def note(name: str, layer: nn.Module, output: Tensor) -> None:
        parameters = 0 if layer in seen else count_parameters(layer)
        seen.add(layer)
        rows.append(LayerRow(name, _kind(layer), tuple(output.shape[1:]), parameters))

    for path, layer in shell.named_modules():
        if not any(layer.children()):
            name = path.removeprefix("body.").removeprefix("embedding.")
            layer.register_forward_hook(lambda layer, _, output, name=name: note(name, layer, output))
    try:
        with torch.no_grad():
            shell(torch.empty(1, 3, size, size, device="meta"))
    except RuntimeError:
        raise ValueError(f"The model cannot take images of {size}x{size} pixels.") from None
    return rows


def _kind(layer: nn.Module) -> str:
    name = type(layer).__name__
    if isinstance(layer, nn.Conv2d | nn.MaxPool2d):
        height, width = _pair(layer.kernel_size)
        padding = max(_pair(layer.padding))
        text = f"{name} {height}x{width}, stride {max(_pair(layer.stride))}"
        return f"{text}, padding {padding}" if padding else text
    if isinstance(layer, nn.Dropout):
        return f"{name} {layer.p:g}"
    if isinstance(layer, Enlarge):
        return f"{name} to {layer.size}x{layer.size}"
    return name


def _pair(value: object) -> tuple[int, int]:
    return value if isinstance(value, tuple) else (value, value)


# Last, because the families need what is defined above.
from cifar_core.models import airbench, mobile, plain, resnet, transformer  # noqa: E402, F401
