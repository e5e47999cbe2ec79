"""Learning-rate schedules as pure functions of the step: drawn, tested and resumed without state."""

from __future__ import annotations

import math
from collections.abc import Sequence

from cifar_core.config import TrainConfig

ONE_CYCLE_START = 1 / 25
"""First learning rate of one-cycle relative to its peak."""
ONE_CYCLE_END = 1 / 25 / 1e4
"""Last learning rate of one-cycle relative to its peak."""


def learning_rate(
    config: TrainConfig, step: int, steps_per_epoch: int, validation_losses: Sequence[float] = ()
) -> float:
    """The learning rate of one training step.

    The values are those of torch's StepLR, ExponentialLR, and CosineAnnealingLR and LinearLR (towards 0 at the end),
    of OneCycleLR (Smith and Topin, 2018; cosine annealing, without its cycling of the momentum) and of
    ReduceLROnPlateau(mode="min", threshold=1e-4, eps=0). All but one-cycle, which has a rise of its own, are multiplied
    by a linear warm-up (Goyal et al., 2017) that reaches 1 after `warmup_epochs`.

    Args:
        step: Training steps done before this one, in [0, epochs * steps_per_epoch).
        validation_losses: One per finished epoch; only `plateau` looks at them.
    """
    peak = config.learning_rate
    total = config.epochs * steps_per_epoch
    if config.schedule == "one_cycle":
        top = max(config.warmup_fraction * total - 1, 0)
        if step <= top and top > 0:
            return peak * _cosine(ONE_CYCLE_START, 1, step / top)
        # A single step has no way down.
        return peak * _cosine(1, ONE_CYCLE_END, (step - top) / (total - 1 - top) if total > 1 else 0)
    warmup_steps = config.warmup_epochs * steps_per_epoch
    peak *= min((step + 1) / warmup_steps, 1) if warmup_steps > 0 else 1
    match config.schedule:
        case "step":
            return peak * config.gamma ** (step // steps_per_epoch // config.step_epochs)
        case "exponential":
            return peak * config.decay ** (step // steps_per_epoch)
        case "cosine":
            return peak * (1 + math.cos(math.pi * step / total)) / 2
        case "linear":
            return peak * (1 - step / total)
        case "plateau":
            return peak * config.gamma ** _reductions(validation_losses, config.patience)
    return peak


def steps_of(images: int, batch_size: int) -> int:
    """Steps of an epoch: a last batch of one image, which has no variance for batch norm to train on, is left out."""
    batch = min(batch_size, images)
    return images // batch if images % batch == 1 else math.ceil(images / batch)


def planned(config: TrainConfig, steps_per_epoch: int, points: int = 200) -> list[tuple[float, float]]:
    """The schedule before the start, as (epoch, learning rate) at evenly spread steps.

    A plateau cannot be foreseen; its plan is what happens while the validation loss keeps falling.
    """
    total = config.epochs * steps_per_epoch
    steps = sorted({round(i * (total - 1) / max(points - 1, 1)) for i in range(points)})
    return [(step / steps_per_epoch, learning_rate(config, step, steps_per_epoch)) for step in steps]


def unforeseen(config: TrainConfig) -> list[str]:
    """What may make the course of the learning rate other than `planned`, in sentences."""
    said = []
    if config.schedule == "plateau":
        epochs = f"{config.patience} epoch{'s' if config.patience != 1 else ''}"
        said.append(
            f"Drawn as if the validation loss fell in every epoch. Whenever it has not become better for more than "
            f"{epochs}, the learning rate is multiplied by {config.gamma:g}."
        )
    if config.stop_patience:
        epochs = f"{config.stop_patience} epoch{'s' if config.stop_patience != 1 else ''}"
        sentence = f"The training ends early once the validation loss has not become better for {epochs}"
        if config.schedule in ("one_cycle", "cosine", "linear"):
            sentence += "; the learning rate has then not come down as far as drawn"
        said.append(sentence + ".")
    if config.used("warmup_epochs") and config.warmup_epochs >= config.epochs:
        said.append(
            "The warm-up lasts as long as the training, so that the full learning rate comes at its end if at all."
        )
    return said


def _cosine(start: float, end: float, fraction: float) -> float:
    return end + (start - end) * (1 + math.cos(math.pi * fraction)) / 2


def _reductions(losses: Sequence[float], patience: int) -> int:
    best, waited, reductions = math.inf, 0, 0
    for loss in losses:
        if loss < best * (1 - 1e-4):
            best, waited = loss, 0
        else:
            waited += 1
        if waited > patience:
            waited, reductions = 0, reductions + 1
    return reductions
