"""How sure a network is of the true class while one transform grows stronger."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import torch
from torch import Tensor

from cifar_core.networks import Network
from cifar_core.transforms import Augmentation, augment, generator_for


def answers(
    network: Network, images: Tensor, labels: Tensor, pipelines: Sequence[Augmentation], seed: int
) -> Iterator[tuple[Tensor, Tensor]]:
    """What a network says of the same images under one pipeline after another.

    Chance decides the same for an image under each of them, so that along pipelines of one growing strength the image
    itself changes steadily.

    Args:
        images: (N, 3, H, W) uint8.
        labels: (N,) int64, by the network's own classes.

    Yields:
        (N,) float32, the probability of the true class, and (N,) bool, whether it is the likeliest.
    """
    for how in pipelines:
        changed = augment(images, how, generator_for(seed, 0))
        probabilities = network.probabilities(changed)
        yield probabilities.gather(1, labels[:, None])[:, 0], torch.eq(probabilities.argmax(1), labels)
