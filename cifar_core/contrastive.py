"""Learning without labels: SimCLR (Chen et al., 2020), and a linear classifier that shows what came of it."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from cifar_core.models import named

PROJECTION_HIDDEN = 512
PROJECTION_SIZE = 128

SHRINKAGE = 0.1
"""Of the covariance towards a multiple of the identity: as many features as images make it nearly singular."""


def projection(features: int) -> nn.Sequential:
    """The two layers between features and what is compared (Chen et al., 2020, section 2.1)."""
    return named(
        hidden=nn.Linear(features, PROJECTION_HIDDEN),
        relu=nn.ReLU(),
        output=nn.Linear(PROJECTION_HIDDEN, PROJECTION_SIZE),
    )


def nt_xent(projected: Tensor, temperature: float) -> tuple[Tensor, Tensor]:
    """The normalised, temperature-scaled cross-entropy of recognising each view's twin (Chen et al., 2020, equation 1).

    Args:
        projected: (2B, P); rows i and B + i are the two views of one image.
        temperature: Above 0.

    Returns:
        The loss, mean over all views, and the share of views that resemble their twin more than any other view.
    """
    count = len(projected)
    directions = F.normalize(projected.float(), dim=1)
    itself = torch.eye(count, dtype=torch.bool, device=projected.device)
    similarities = (directions @ directions.T / temperature).masked_fill(itself, -torch.inf)
    twins = torch.arange(count, device=projected.device).roll(count // 2)
    found = (similarities.argmax(1) == twins).float().mean()
    return F.cross_entropy(similarities, twins), found


def discriminant(features: Tensor, labels: Tensor, classes: int) -> tuple[Tensor, Tensor]:
    """The linear classifier for classes that are normal with one covariance (Hastie et al., 2009, section 4.3).

    Linear discriminant analysis: in closed form, hence quick and without settings, and its logits are those of
    probabilities. The covariance within the classes is shrunk by `SHRINKAGE`.

    Args:
        features: (N, D).
        labels: (N,) int64 in [0, K).
        classes: K; one without images is taken for an average one that is rare.

    Returns:
        Weight (K, D) and bias (K,) of a linear layer, float32 on the device of the features.
    """
    # On the CPU, as not every device has float64.
    values, which = features.detach().cpu().double(), labels.cpu()
    member = F.one_hot(which, classes).double()
    counts = member.sum(0)
    means = torch.where(counts[:, None] > 0, member.T @ values / counts.clamp(min=1)[:, None], values.mean(0))
    within = values - means[which]
    covariance = within.T @ within / len(values)
    ground = torch.full_like(covariance[0], covariance.trace().item() / len(covariance)).clamp(min=1e-12)
    shrunk = (1 - SHRINKAGE) * covariance + SHRINKAGE * ground.diag()
    weight = torch.linalg.solve(shrunk, means.T).T
    bias = (counts.clamp(min=0.5) / len(values)).log() - (weight * means).sum(1) / 2
    return weight.to(features.device, torch.float32), bias.to(features.device, torch.float32)
