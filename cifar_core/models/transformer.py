"""Networks in which every place looks at all others: a small vision transformer, and one with convolutions first."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from cifar_core.models import Classifier, Dropout, named, register, scaled

HEAD_CHANNELS = 32
"""The fewest that one head of attention looks at."""

GRID = 8
"""Places on each side for an image of 32 pixels; positions on grids of other sizes are told in units of this one."""

LONGEST_WAVE = 100.0
"""Of the positions, relative to the shortest; the paper's 10,000 is made for sentences, and wasted on 8 places."""


class Positions(nn.Module):
    """Adds what tells the places of a grid apart: sines and cosines of row and column (Beyer et al., 2022).

    Fixed waves instead of learned vectors: they need no weights and fit any size of image.
    """

    def forward(self, maps: Tensor) -> Tensor:
        channels, height, width = maps.shape[1:]
        count = -(-channels // 4)
        waves = LONGEST_WAVE ** -(torch.arange(count, device=maps.device) / max(count - 1, 1))
        rows, columns = (
            ((torch.arange(side, device=maps.device) + 0.5) * (GRID / side)).outer(waves) for side in (height, width)
        )
        down = torch.cat((rows.sin(), rows.cos()), dim=1)[:, None].expand(-1, width, -1)
        across = torch.cat((columns.sin(), columns.cos()), dim=1)[None].expand(height, -1, -1)
        return maps + torch.cat((down, across), dim=2)[..., :channels].permute(2, 0, 1).to(maps.dtype)


class Attention(nn.Module):
    """Every place takes from all places what it asks for (Vaswani et al., 2017, section 3.2); (B, N, C) to the same.

    Queries, keys and values are layers of their own, so that initialisation and Muon see three matrices, not one.
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        most = max(channels // HEAD_CHANNELS, 1)
        self.heads = max(heads for heads in range(1, most + 1) if channels % heads == 0)
        self.query = nn.Linear(channels, channels)
        # A bias would raise all scores of a query alike, which changes nothing.
        self.key = nn.Linear(channels, channels, bias=False)
        self.value = nn.Linear(channels, channels)
        self.output = nn.Linear(channels, channels)

    def forward(self, tokens: Tensor) -> Tensor:
        query, key, value = (
            part(tokens).unflatten(2, (self.heads, -1)).transpose(1, 2) for part in (self.query, self.key, self.value)
        )
        return self.output(F.scaled_dot_product_attention(query, key, value).transpose(1, 2).flatten(2))


class Block(nn.Module):
    """Attention and a two-layer network, each added to its normalised input; takes and gives feature maps.

    The order of Dosovitskiy et al. (2021, equations 2 and 3).
    """

    def __init__(self, channels: int, hidden: int) -> None:
        super().__init__()
        self.norm1 = nn.LayerNorm(channels)
        self.attention = Attention(channels)
        self.norm2 = nn.LayerNorm(channels)
        self.mlp = named(expand=nn.Linear(channels, hidden), gelu=nn.GELU(), reduce=nn.Linear(hidden, channels))

    def forward(self, maps: Tensor) -> Tensor:
        # Without a copy where the maps are channels-last.
        tokens = maps.flatten(2).transpose(1, 2)
        tokens = tokens + self.attention(self.norm1(tokens))
        tokens = tokens + self.mlp(self.norm2(tokens))
        return tokens.transpose(1, 2).unflatten(2, maps.shape[2:])


class PlaceNorm(nn.LayerNorm):
    """Layer norm over the channels of each place of feature maps."""

    def forward(self, maps: Tensor) -> Tensor:
        return super().forward(maps.permute(0, 2, 3, 1)).permute(0, 3, 1, 2)


@register("vit")
def vit(classes: int, width: float, pretrained: bool) -> Classifier:
    """A small vision transformer: patches of 4x4 pixels, six blocks of attention, no convolution between them.

    Dosovitskiy et al. (2021) with the mean of all places instead of a class token and with fixed positions, as Beyer et
    al. (2022) found better; 2.7 million parameters.
    """
    channels, hidden = scaled(192, width), scaled(768, width)
    blocks = {f"block{number}": Block(channels, hidden) for number in range(1, 7)}
    return Classifier(
        named(patches=nn.Conv2d(3, channels, 4, stride=4), positions=Positions(), **blocks, norm=PlaceNorm(channels)),
        named(pool=nn.AdaptiveAvgPool2d(1), flatten=nn.Flatten(), dropout1=Dropout()),
        nn.Linear(channels, classes),
    )


def _conv(inputs: int, outputs: int, *, pool: bool = False) -> nn.Sequential:
    children: dict[str, nn.Module] = {
        "conv": nn.Conv2d(inputs, outputs, 3, padding=1, bias=False),
        "norm": nn.BatchNorm2d(outputs),
        "relu": nn.ReLU(inplace=True),
    }
    if pool:
        children["pool"] = nn.MaxPool2d(2)
    return named(**children)


@register("conv_transformer")
def conv_transformer(classes: int, width: float, pretrained: bool) -> Classifier:
    """Three convolutions, then four blocks of attention: local features first, the whole image after.

    In the manner of the compact convolutional transformer (Hassani et al., 2021) and CoAtNet (Dai et al., 2021), which
    learn from few images what a plain transformer needs many for. Positions are those that the borders of convolutions
    leave behind; the mean of all places stands in for the former's pooling by attention.
    """
    first, second, channels, hidden = (scaled(count, width) for count in (64, 128, 192, 384))
    blocks = {f"block{number}": Block(channels, hidden) for number in range(1, 5)}
    return Classifier(
        named(
            stem=_conv(3, first),
            conv1=_conv(first, second, pool=True),
            conv2=_conv(second, channels, pool=True),
            **blocks,
            norm=PlaceNorm(channels),
        ),
        named(pool=nn.AdaptiveAvgPool2d(1), flatten=nn.Flatten(), dropout1=Dropout()),
        nn.Linear(channels, classes),
    )
