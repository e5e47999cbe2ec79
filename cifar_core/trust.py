"""Can a heat map be trusted: does the answer hang on what it marks, and does it depend on what was learnt?"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional as F

from cifar_core.explain import METHODS, explain, private
from cifar_core.models import Classifier

STEPS = 32
RANDOM_MAPS = 10

BLUR_SIDE, BLUR_DEVIATION = 11, 5.0
"""Of the blurred image that insertion begins with, pixels; those of Petsiuk et al. (2018)."""


@dataclass(frozen=True, eq=False)
class Curves:
    """The probability of a class while an image is taken away or given, the places a map marks most first.

    Args:
        shares: (S+1,) of the pixels changed, from 0 to 1.
        deletion: (M, S+1) probabilities for M maps while pixels become 0; low is good.
        insertion: (M, S+1) while they come back into a blurred image; high is good.
    """

    shares: NDArray[np.float64]
    deletion: NDArray[np.float64]
    insertion: NDArray[np.float64]

    @property
    def areas(self) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """(M,) areas under the curves of deletion and of insertion, in [0, 1]."""
        deletion, insertion = (
            np.asarray(np.trapezoid(kind, self.shares, axis=1)) for kind in (self.deletion, self.insertion)
        )
        return deletion, insertion


def curves(model: Classifier, image: Tensor, maps: Tensor, wanted: int, *, steps: int = STEPS, seed: int = 0) -> Curves:
    """Deletion and insertion by several maps of one image (Petsiuk et al., 2018, section 3.2).

    Args:
        model: In eval mode.
        image: (3, H, W) float32, as the network takes it: 0 is the mean colour, black or grey, by its normalisation.
        maps: (M, H, W) of what speaks for the class; places of equal value come in an order drawn by the seed.
        wanted: The class, in [0, K).
        steps: S, how many parts the pixels are changed in.
    """
    count = maps[0].numel()
    places = [round(count * step / steps) for step in range(steps + 1)]
    chance = torch.rand(count, generator=torch.Generator().manual_seed(seed)).numpy()
    deletion, insertion = [], []
    blank, blurred = torch.zeros_like(image), blur(image[None])[0]
    for heat in maps.flatten(1).cpu().numpy():
        order = torch.from_numpy(np.lexsort((chance, -heat))).to(image.device)
        rank = torch.empty_like(order)
        rank[order] = torch.arange(count, device=image.device)
        changed = torch.stack([(rank < place).view(image.shape[1:]) for place in places])[:, None]
        deletion.append(_probability(model, torch.where(changed, blank, image), wanted))
        insertion.append(_probability(model, torch.where(changed, image, blurred), wanted))
    return Curves(np.array(places) / count, np.stack(deletion), np.stack(insertion))


def random_maps(cells: tuple[int, int], size: tuple[int, int], count: int = RANDOM_MAPS, *, seed: int = 0) -> Tensor:
    """Maps by chance that are as coarse as the one to compare with: finer ones would destroy an image sooner.

    Args:
        cells: Rows and columns that the other map tells apart.
        size: H and W.

    Returns:
        (count, H, W) in [0, 1].
    """
    coarse = torch.rand(count, 1, *cells, generator=torch.Generator().manual_seed(seed))
    return F.interpolate(coarse, size, mode="bilinear", align_corners=False, antialias=True)[:, 0]


def blur(images: Tensor) -> Tensor:
    """Images (B, 3, H, W) blurred by a Gaussian, mirrored at the border."""
    distance = torch.arange(BLUR_SIDE, dtype=images.dtype, device=images.device) - BLUR_SIDE // 2
    weights = (-(distance**2) / (2 * BLUR_DEVIATION**2)).exp()
    weights = (weights / weights.sum()).expand(images.shape[1], 1, 1, -1)
    margin = BLUR_SIDE // 2
    padded = F.pad(images, (margin, margin, margin, margin), mode="reflect")
    across = F.conv2d(padded, weights, groups=images.shape[1])
    return F.conv2d(across, weights.transpose(2, 3), groups=images.shape[1])


@dataclass(frozen=True)
class Randomised:
    """How alike a map still is once the weights of some last layers are drawn anew.

    Args:
        layer: The one that was drawn last, by its path in the network; "" for none.
        correlation: Spearman's, between the maps with learnt and with drawn weights; NaN where one is flat.
        map: (H, W) as drawn weights give it.
    """

    layer: str
    correlation: float
    map: NDArray[np.float32]


def randomised(
    model: Classifier,
    image: Tensor,
    method: str,
    wanted: int,
    against: int | None = None,
    layer: str | None = None,
    *,
    seed: int = 0,
) -> Iterator[Randomised]:
    """The sanity check of Adebayo et al. (2018, section 3.1): weights drawn anew, from the output down.

    A map that stays as it was shows the image, not what the network learnt of it. Norms forget what they counted, too;
    what is fixed from the start, such as whitening, stays. Values count by their magnitude where they have a sign.

    Args:
        model: In eval mode; left as it is.
        image: (3, H, W) float32, normalised.
        method, layer: As for `explain`.
        wanted, against: Classes in [0, K).

    Yields:
        The untouched network first, then one more layer each time.
    """

    def mapped(network: Classifier) -> NDArray[np.float32]:
        other = None if against is None else torch.tensor([against], device=image.device)
        heat = explain(network, image[None], method, torch.tensor([wanted], device=image.device), other, layer)[0]
        return (heat.abs() if METHODS[method].signed else heat).cpu().numpy()

    first = mapped(model)
    yield Randomised("", 1.0, first)
    drawn = private(model)
    for number, path in enumerate(reversed(learnt_layers(model))):
        _draw(drawn.get_submodule(path), seed + number)
        heat = mapped(drawn)
        yield Randomised(path, rank_correlation(first, heat), heat)


def learnt_layers(model: nn.Module) -> list[str]:
    """Paths of the layers that have weights of their own, in the order in which they are registered."""
    return [
        path
        for path, layer in model.named_modules()
        if hasattr(layer, "reset_parameters") and any(True for _ in layer.parameters(recurse=False))
    ]


def rank_correlation(one: NDArray[np.floating], other: NDArray[np.floating]) -> float:
    """Spearman's rank correlation of two maps of one size; NaN where one has a single value throughout."""
    from scipy.stats import rankdata

    ranks = [rankdata(heat) - (heat.size + 1) / 2 for heat in (one, other)]
    scale = float(np.sqrt((ranks[0] ** 2).sum() * (ranks[1] ** 2).sum()))
    return float((ranks[0] * ranks[1]).sum() / scale) if scale else float("nan")


def _draw(layer: nn.Module, seed: int) -> None:
    """Give a layer fresh weights, as torch begins with, in tensors of its own."""
    for name, weights in list(layer.named_parameters(recurse=False)):
        setattr(layer, name, nn.Parameter(weights.detach().clone(), requires_grad=False))
    for name, values in list(layer.named_buffers(recurse=False)):
        setattr(layer, name, values.clone())
    # Not the generator of a training that may run in this process.
    with torch.inference_mode(False), torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        layer.reset_parameters()  # type: ignore[operator]


def _probability(model: Classifier, images: Tensor, wanted: int) -> NDArray[np.float64]:
    with torch.inference_mode(False), torch.no_grad(), torch.autocast(images.device.type, enabled=False):
        return model(images).softmax(1)[:, wanted].cpu().double().numpy()
