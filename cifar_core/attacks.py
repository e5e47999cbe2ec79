"""Changes of an image, too small to see, that are chosen to mislead a network: FGSM and PGD.

Distances are the largest change of any value, with pixels in [0, 1]; people write 8/255 for eight grey levels.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Generator, Tensor
from torch.nn import functional as F

from cifar_core.networks import Network

EPSILONS = (0.0, 0.25, 0.5, 1.0, 2.0, 4.0, 8.0, 16.0)
"""Grey levels of 255 at which accuracy is measured."""

METHODS = ("fgsm", "pgd")

STEPS = 10
"""Of PGD."""

REACH = 2.5
"""How far all steps of PGD together could go, in epsilons, as in Madry's published program for CIFAR-10's challenge
(20 steps of 2 within 8 have 5; 7 steps have 1.75)."""

FARTHEST = 64.0
"""Grey levels beyond which no smallest epsilon is sought; the change is plain to see long before."""

HALVINGS = 10


def _gradient(network: Network, images: Tensor, labels: Tensor) -> Tensor:
    """The gradient of each image's cross-entropy by its pixels in [0, 1]."""
    # The weights of a loaded network take no gradient, so that only the images get one.
    pixels = images.detach().requires_grad_(True)
    with torch.enable_grad():
        loss = F.cross_entropy(network.model(network.normalise(pixels)), labels, reduction="sum")
        (gradient,) = torch.autograd.grad(loss, pixels)
    return gradient


def fgsm(network: Network, images: Tensor, labels: Tensor, epsilon: float) -> Tensor:
    """One step along the sign of the gradient (Goodfellow et al., 2015).

    Args:
        images: (B, 3, H, W) float32 in [0, 1], on the network's device.
        labels: (B,) int64, from which the images are to be led away.
        epsilon: Largest change of a value, in [0, 1].

    Returns:
        (B, 3, H, W) in [0, 1].
    """
    return (images + epsilon * _gradient(network, images, labels).sign()).clamp(0, 1)


def pgd(network: Network, images: Tensor, labels: Tensor, epsilon: float, steps: int = STEPS, seed: int = 0) -> Tensor:
    """Several steps along the sign of the gradient, each brought back into reach, from a random start (Madry et al.,
    2018).

    Args, returns: As `fgsm`.
    """
    if epsilon == 0:
        return images
    random = Generator().manual_seed(seed)
    start = (torch.rand(images.shape, generator=random) * 2 - 1).to(images.device) * epsilon
    low, high = (images - epsilon).clamp(min=0), (images + epsilon).clamp(max=1)
    moved = torch.clamp(images + start, low, high)
    for _ in range(steps):
        step = REACH * epsilon / steps * _gradient(network, moved, labels).sign()
        moved = torch.clamp(moved + step, low, high)
    return moved


ATTACKS: dict[str, Callable[[Network, Tensor, Tensor, float], Tensor]] = {"fgsm": fgsm, "pgd": pgd}


@dataclass(frozen=True, eq=False)
class Flip:
    """The smallest change that was found to turn a prediction.

    Args:
        epsilon: In grey levels of 255.
        below: The largest epsilon tried at which the prediction still stood; what is sought lies in between.
        image: (3, H, W) float32 in [0, 1], the changed image.
        before: The class predicted of the image as it is.
        after: Of the changed one.
    """

    epsilon: float
    below: float
    image: Tensor
    before: int
    after: int


@torch.no_grad()
def predicted(network: Network, images: Tensor) -> Tensor:
    """(B,) classes of images in [0, 1]."""
    return network.model(network.normalise(images)).argmax(1)


def smallest_flip(network: Network, image: Tensor, method: str) -> Flip | None:
    """The smallest epsilon at which an attack turns the prediction of one image: up by doubling until it does, then
    halving the gap between the last that did not and the first that did.

    An attack that succeeds at some epsilon may fail at a larger one, so that this is the end of the first gap that
    doubling meets, and a stronger attack may need less.

    Args:
        image: (3, H, W) float32 in [0, 1], on the network's device.
        method: One of `METHODS`.

    Returns:
        None where no epsilon up to `FARTHEST` does.
    """
    batch = image[None]
    label = predicted(network, batch)

    def tried(epsilon: float) -> tuple[Tensor, int]:
        moved = ATTACKS[method](network, batch, label, epsilon / 255)
        return moved[0], int(predicted(network, moved)[0])

    before, below, epsilon = int(label[0]), 0.0, FARTHEST / 1024
    while True:
        moved, after = tried(epsilon)
        if after != before:
            break
        if epsilon >= FARTHEST:
            return None
        below, epsilon = epsilon, 2 * epsilon
    for _ in range(HALVINGS):
        middle = (below + epsilon) / 2
        image_there, there = tried(middle)
        if there == before:
            below = middle
        else:
            epsilon, moved, after = middle, image_there, there
    return Flip(epsilon, below, moved.cpu(), before, after)
