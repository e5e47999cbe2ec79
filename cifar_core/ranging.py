"""LR range test (Smith, 2017, section 3.3): train a copy with a growing rate, see where the loss falls and breaks."""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import suppress

from torch import Tensor

from cifar_core.compute import Compute
from cifar_core.config import TrainConfig
from cifar_core.events import Tried
from cifar_core.models import Classifier
from cifar_core.suggestions import rates
from cifar_core.training import Material, Training
from cifar_core.transforms import Mixed

STEPS = 200

SMOOTHING = 0.9
"""Share of the old mean that each loss leaves; about ten steps, which are a third of a decade of the rate."""

BROKEN = 4.0
"""Smoothed loss, relative to its lowest, above which there is nothing left to see; as in fastai."""


class _Over(Exception):
    """There is nothing left to see."""


class RangeTest(Training):
    """A training whose learning rate grows exponentially from one step to the next.

    Everything but the rate is the training's own: batches, augmentation, optimiser and number format. It trains its
    model in place, so it gets one to throw away; the rates are those of `suggestions.rates`.
    """

    def __init__(self, config: TrainConfig, model: Classifier, images: Material, compute: Compute) -> None:
        super().__init__(config, model, images, compute)
        self._tried: list[Tried] = []
        self._mean = 0.0

    def points(self) -> Iterator[Tried]:
        """A point for each step, some at once; at most `STEPS`, fewer where the loss breaks before."""
        said = 0
        for _ in self._epochs():
            yield from self._tried[said:]
            said = len(self._tried)

    def _epochs(self) -> Iterator[None]:
        with suppress(_Over):
            while True:
                for _ in self._train_epoch():
                    yield
        yield

    def _rate(self) -> float:
        low, high = rates(self.config)
        return float(low * (high / low) ** (len(self._tried) / (STEPS - 1)))

    def _learn(self, batch: Tensor, mixed: Mixed, seed: int) -> None:
        rate, before = self._rate(), self._seen
        self._sums.zero_()
        super()._learn(batch, mixed, seed)
        loss = self._sums[0].item() / (self._seen - before)
        if not math.isfinite(loss):
            raise _Over
        self._mean += (1 - SMOOTHING) * (loss - self._mean)
        smoothed = self._mean / (1 - SMOOTHING ** (len(self._tried) + 1))
        self._tried.append(Tried(learning_rate=rate, loss=loss, smoothed=smoothed))
        if len(self._tried) == STEPS or smoothed > BROKEN * min(point.smoothed for point in self._tried):
            raise _Over
