"""Learning rates are those of torch's own schedulers, step by step."""

from __future__ import annotations

import dataclasses
import itertools
import math
import random
from collections.abc import Iterator

import pytest
import torch
from torch.optim import SGD, Optimizer
from torch.optim.lr_scheduler import (
    CosineAnnealingLR,
    ExponentialLR,
    LinearLR,
    LRScheduler,
    OneCycleLR,
    ReduceLROnPlateau,
    StepLR,
)

from cifar_core.config import FIELDS, TrainConfig
from cifar_core.schedules import ONE_CYCLE_END, ONE_CYCLE_START, learning_rate, planned, unforeseen

SCHEDULES = FIELDS["schedule"].metadata["choices"]
LENGTHS = [(1, 7), (3, 1), (5, 11), (40, 3)]
"""Epochs and steps per epoch."""


def optimizer(peak: float) -> SGD:
    return SGD([torch.nn.Parameter(torch.zeros(1))], lr=peak)


def stepped(optimizer: Optimizer, scheduler: LRScheduler, epochs: int, steps: int, every: int) -> Iterator[float]:
    """The learning rate of each training step when the scheduler moves after `every` of them."""
    for step in range(epochs * steps):
        yield optimizer.param_groups[0]["lr"]
        optimizer.step()
        if (step + 1) % every == 0 and step + 1 < epochs * steps:
            scheduler.step()


def ours(config: TrainConfig, steps: int) -> list[float]:
    return [learning_rate(config, step, steps) for step in range(config.epochs * steps)]


@pytest.mark.parametrize(("epochs", "steps"), LENGTHS)
@pytest.mark.parametrize(("every", "gamma"), [(1, 0.5), (2, 0.1), (30, 0.1), (3, 1.0)])
def test_step_is_steplr(epochs: int, steps: int, every: int, gamma: float) -> None:
    config = TrainConfig(schedule="step", epochs=epochs, step_epochs=every, gamma=gamma, learning_rate=0.3)
    reference = optimizer(0.3)
    wanted = stepped(reference, StepLR(reference, every, gamma), epochs, steps, every=steps)
    assert ours(config, steps) == pytest.approx(list(wanted), rel=1e-9)


@pytest.mark.parametrize(("epochs", "steps"), LENGTHS)
@pytest.mark.parametrize("decay", [0.1, 0.95, 1.0])
def test_exponential_is_exponentiallr(epochs: int, steps: int, decay: float) -> None:
    config = TrainConfig(schedule="exponential", epochs=epochs, decay=decay, learning_rate=0.3)
    reference = optimizer(0.3)
    wanted = stepped(reference, ExponentialLR(reference, decay), epochs, steps, every=steps)
    assert ours(config, steps) == pytest.approx(list(wanted), rel=1e-9)


@pytest.mark.parametrize(("epochs", "steps"), LENGTHS)
@pytest.mark.parametrize("peak", [0.1, 1e-6])
def test_cosine_is_cosineannealinglr(epochs: int, steps: int, peak: float) -> None:
    config = TrainConfig(schedule="cosine", epochs=epochs, learning_rate=peak)
    reference = optimizer(peak)
    wanted = stepped(reference, CosineAnnealingLR(reference, epochs * steps), epochs, steps, every=1)
    # Theirs is a recurrence, which gathers rounding errors.
    assert ours(config, steps) == pytest.approx(list(wanted), rel=1e-6, abs=1e-9 * peak)


@pytest.mark.parametrize(("epochs", "steps"), LENGTHS)
def test_linear_is_linearlr(epochs: int, steps: int) -> None:
    config = TrainConfig(schedule="linear", epochs=epochs, learning_rate=0.3)
    reference = optimizer(0.3)
    scheduler = LinearLR(reference, start_factor=1.0, end_factor=0.0, total_iters=epochs * steps)
    wanted = stepped(reference, scheduler, epochs, steps, every=1)
    assert ours(config, steps) == pytest.approx(list(wanted), rel=1e-6, abs=1e-9)


@pytest.mark.parametrize(("epochs", "steps"), [(1, 7), (5, 11), (40, 3), (3, 101)])
@pytest.mark.parametrize("warmup", [0.25, 0.3, 0.9])
@pytest.mark.parametrize("peak", [0.1, 3.0])
def test_one_cycle_is_onecyclelr(epochs: int, steps: int, warmup: float, peak: float) -> None:
    config = TrainConfig(schedule="one_cycle", epochs=epochs, warmup_fraction=warmup, learning_rate=peak)
    reference = optimizer(peak)
    scheduler = OneCycleLR(reference, peak, total_steps=epochs * steps, pct_start=warmup, cycle_momentum=False)
    wanted = list(stepped(reference, scheduler, epochs, steps, every=1))
    assert ours(config, steps) == pytest.approx(wanted, rel=1e-9)
    assert wanted[0] == pytest.approx(peak * ONE_CYCLE_START)
    assert wanted[-1] == pytest.approx(peak * ONE_CYCLE_END)


@pytest.mark.parametrize(("epochs", "steps", "warmup"), [(2, 5, 0.0), (2, 5, 0.1), (2, 2, 0.2)])
def test_one_cycle_without_a_step_to_warm_up_begins_at_its_peak(epochs: int, steps: int, warmup: float) -> None:
    """torch divides by zero there, or begins beyond the peak."""
    rates = ours(TrainConfig(schedule="one_cycle", epochs=epochs, warmup_fraction=warmup, learning_rate=0.5), steps)
    assert rates[0] == 0.5
    assert rates == sorted(rates, reverse=True)
    assert rates[-1] == pytest.approx(0.5 * ONE_CYCLE_END)


def losses(kind: str) -> list[float]:
    draw = random.Random(1)
    match kind:
        case "falling":
            return [1 / epoch for epoch in range(1, 25)]
        case "rising":
            return [float(epoch) for epoch in range(1, 25)]
        case "noisy":
            return [1 / epoch + draw.gauss(0, 0.2) ** 2 for epoch in range(1, 25)]
        case "barely falling":
            # Less than the threshold of 1e-4 each time, more than it in two.
            return [1 - 0.9e-4 * epoch for epoch in range(24)]
        case _:
            return [1.0, 0.5, math.nan, math.nan, 0.4, math.inf, math.nan, 0.4, 0.4, 0.4, 0.3, 0.3]


@pytest.mark.parametrize("kind", ["falling", "rising", "noisy", "barely falling", "broken"])
@pytest.mark.parametrize(("patience", "gamma"), [(0, 0.5), (1, 0.1), (3, 0.1), (10, 0.9)])
def test_plateau_is_reducelronplateau(kind: str, patience: int, gamma: float) -> None:
    config = TrainConfig(schedule="plateau", epochs=30, patience=patience, gamma=gamma, learning_rate=0.2)
    reference = optimizer(0.2)
    # Its eps keeps tiny rates from becoming tinier, which makes no difference that could be seen.
    scheduler = ReduceLROnPlateau(reference, mode="min", factor=gamma, patience=patience, threshold=1e-4, eps=0)
    said = losses(kind)
    for epoch in range(len(said) + 1):
        rate = reference.param_groups[0]["lr"]
        for step in (3 * epoch, 3 * epoch + 2):
            assert learning_rate(config, step, 3, said[:epoch]) == pytest.approx(rate, rel=1e-9), f"epoch {epoch}"
        if epoch < len(said):
            scheduler.step(said[epoch])


def test_the_plateau_of_each_kind_of_losses_is_another() -> None:
    """Else the comparison above would say little."""
    config = TrainConfig(schedule="plateau", epochs=30, patience=1, gamma=0.5, learning_rate=1.0)
    ends = [learning_rate(config, 24, 1, losses(kind)) for kind in ("falling", "noisy", "rising")]
    assert ends[0] == 1.0
    assert 1.0 > ends[1] > 2.0**-11
    assert ends[2] == 2.0**-11


def test_constant_is_constant() -> None:
    assert set(ours(TrainConfig(schedule="constant", epochs=4, learning_rate=0.7), 3)) == {0.7}


RISING = [schedule for schedule in SCHEDULES if schedule != "one_cycle"]


@pytest.mark.parametrize("schedule", RISING)
@pytest.mark.parametrize(("epochs", "steps"), LENGTHS)
@pytest.mark.parametrize("warmup", [0.0, 0.5, 1.0, 2.5, 50.0])
def test_a_warmup_is_a_factor_that_rises_evenly_to_one(schedule: str, epochs: int, steps: int, warmup: float) -> None:
    config = TrainConfig(schedule=schedule, epochs=epochs, step_epochs=1, decay=0.8, warmup_epochs=warmup)
    said = [1.0, 0.5, *(50 * [0.6])]
    for step in range(epochs * steps):
        losses = said[: step // steps]
        without = learning_rate(dataclasses.replace(config, warmup_epochs=0.0), step, steps, losses)
        factor = 1 if step + 1 >= warmup * steps else (step + 1) / (warmup * steps)
        assert learning_rate(config, step, steps, losses) == pytest.approx(factor * without, rel=1e-12)


def test_a_warmup_is_linearlr() -> None:
    """Their factor counts from the one of the first step, here 1/10, to 1 after nine more."""
    config = TrainConfig(schedule="constant", epochs=5, warmup_epochs=2, learning_rate=0.3)
    reference = optimizer(0.3)
    wanted = stepped(reference, LinearLR(reference, start_factor=0.1, total_iters=9), 5, 5, every=1)
    assert ours(config, 5) == pytest.approx(list(wanted), rel=1e-9)


def test_one_cycle_has_no_second_warmup() -> None:
    config = TrainConfig(schedule="one_cycle", epochs=5)
    assert ours(dataclasses.replace(config, warmup_epochs=2.0), 7) == ours(config, 7)


@pytest.mark.parametrize("schedule", SCHEDULES)
@pytest.mark.parametrize(("epochs", "steps"), [(1, 1), (1, 2), (2, 1), (1, 3), (1000, 1)])
@pytest.mark.parametrize("warmup", [0.0, 0.25, 0.9])
def test_a_learning_rate_is_above_zero_and_at_most_its_peak(
    schedule: str, epochs: int, steps: int, warmup: float
) -> None:
    config = TrainConfig(schedule=schedule, epochs=epochs, warmup_fraction=warmup, learning_rate=0.1)
    rates = ours(config, steps)
    assert all(0 < rate <= 0.1 * (1 + 1e-12) for rate in rates)
    assert max(rates) == pytest.approx(0.1) or epochs * steps < 10


@pytest.mark.parametrize("schedule", SCHEDULES)
@pytest.mark.parametrize(("epochs", "steps"), [(1, 1), (2, 3), (10, 352), (1000, 1)])
def test_the_plan_goes_from_the_first_to_the_last_step(schedule: str, epochs: int, steps: int) -> None:
    config = TrainConfig(schedule=schedule, epochs=epochs)
    plan = planned(config, steps, points=50)
    total = epochs * steps
    assert plan[0] == (0.0, learning_rate(config, 0, steps))
    assert plan[-1] == ((total - 1) / steps, learning_rate(config, total - 1, steps))
    assert len(plan) == min(50, total)
    assert all(earlier[0] < later[0] for earlier, later in itertools.pairwise(plan))
    for epoch, rate in plan:
        assert rate == learning_rate(config, round(epoch * steps), steps)


def test_the_plan_of_a_plateau_is_that_nothing_happens() -> None:
    assert {rate for _, rate in planned(TrainConfig(schedule="plateau", learning_rate=0.3), 9)} == {0.3}


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        (
            {"schedule": "plateau", "patience": 1, "gamma": 0.5},
            ["more than 1 epoch, the learning rate is multiplied"],
        ),
        ({"schedule": "cosine", "stop_patience": 4}, ["better for 4 epochs; the learning rate has then not come down"]),
        ({"schedule": "constant", "stop_patience": 4}, ["better for 4 epochs."]),
        ({"schedule": "step", "warmup_epochs": 10.0, "epochs": 10}, ["The warm-up lasts as long as the training"]),
        ({"schedule": "one_cycle", "warmup_epochs": 10.0, "epochs": 10}, []),
        ({"schedule": "linear"}, []),
    ],
)
def test_what_a_plan_cannot_foresee_is_said(settings, words):
    said = unforeseen(TrainConfig(**settings))
    assert len(said) == len(words)
    for sentence, part in zip(said, words, strict=True):
        assert part in sentence
