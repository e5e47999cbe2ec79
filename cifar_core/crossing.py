"""Predictions for every training image by a network that has not seen it: a small cross-validation."""

from __future__ import annotations

import math
from collections.abc import Iterator

import numpy as np
import torch
from numpy.typing import NDArray

from cifar_core.compute import Compute
from cifar_core.config import RECIPES, TrainConfig
from cifar_core.datasets import DataSet
from cifar_core.models import create, initialise
from cifar_core.networks import Network
from cifar_core.training import Training, material

FOLDS = 3
"""Networks; more would each have more images to learn from, and take longer."""

STEPS = 500
"""A training of fewer steps than about this many learns too little, so that few images are seen more often."""


def settings(images: int, fold: int, folds: int = FOLDS) -> TrainConfig:
    """A small, quick training on all but one fold: the recipe `quick`, longer and in smaller batches for few images."""
    seen = images * (folds - 1) // folds
    batch = min(max(2 ** round(math.log2(max(seen / 40, 2))), 16), 250)
    epochs = min(max(round(STEPS * batch / max(seen, 1)), 2), 16)
    quick = {**RECIPES["quick"].settings, "batch_size": batch, "epochs": epochs, "folds": folds, "fold": fold}
    # Smaller batches are less sure of where to go.
    quick["learning_rate"] *= math.sqrt(batch / 250)
    return TrainConfig.from_values(quick)


def out_of_fold(
    data: DataSet, compute: Compute, probabilities: NDArray[np.float32], folds: int = FOLDS
) -> Iterator[tuple[int, int, str]]:
    """Fill in what networks predict for images they were not trained on.

    Args:
        probabilities: (N, K), of all training images; written fold by fold.

    Returns:
        Steps done, of how many, and in words.
    """
    info = data.info
    for fold in range(folds):
        config = settings(len(data.train.labels), fold, folds)
        torch.manual_seed(config.seed)
        model = create(config.model, len(info.classes), width=config.width, dropout=config.dropout, pretrained=False)
        initialise(model, config.initialisation)
        images = material(config, data, compute.device)
        training = Training(config, model, images, compute)
        steps = config.epochs * training.steps_per_epoch
        what = f"Training small networks, {fold + 1} of {folds}, step"
        yield 0, steps, what
        for _ in training.events():
            yield min(training.step, steps), steps, what
        network = Network(training.judged.eval(), info.classes, images.mean, images.std, {})
        held_out = np.asarray(images.validation_indices)
        # Together with the mirrored images a network is less often surely wrong, which ranks wrong labels better.
        unseen = images.validation_images
        both = network.probabilities(unseen) + network.probabilities(unseen.flip(3))
        probabilities[held_out] = both.numpy() / 2
