"""The training loop against a loop written by hand, and against itself after it was broken off."""

from __future__ import annotations

import copy
import dataclasses
import functools
import math
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from cifar_core import training
from cifar_core.compute import choose
from cifar_core.config import FIELDS, TrainConfig
from cifar_core.datasets import DataInfo, DataSet, Split, open_cached
from cifar_core.events import Changed, Epoch, Inspected, Progress
from cifar_core.models import Classifier, create
from cifar_core.networks import load_network, load_tensors, save_tensors
from cifar_core.runs import Run, create_run, repeat_run
from cifar_core.schedules import learning_rate
from cifar_core.training import Diverged, TooLarge, Training, material
from cifar_core.transforms import Augmentation, augment, generator_for, mix, normalise
from tests.conftest import Tiny, work
from tests.shapes import CLASSES

CPU = choose("cpu", "float32")

Event = Progress | Epoch


class Untouchable:
    """What may not even be looked at."""

    def __getattribute__(self, name: str) -> Any:
        raise AssertionError(f"The test split was touched ({name}).")

    def __len__(self) -> int:
        raise AssertionError("The test split was counted.")

    def __getitem__(self, index: Any) -> Any:
        raise AssertionError("A test image was taken.")

    def __array__(self, *_: Any, **__: Any) -> Any:
        raise AssertionError("The test split was read.")


UNTOUCHABLE: Any = Untouchable()


@pytest.fixture(scope="module")
def data(tiny: Tiny) -> DataSet:
    """The tiny data set, whose test images may not be touched."""
    return dataclasses.replace(open_cached(tiny.info.id, tiny.cache), test=Split(UNTOUCHABLE, UNTOUCHABLE))


def numbered(counts: tuple[int, ...]) -> DataSet:
    """Classes of some sizes; the first two pixels of an image are its number."""
    total = sum(counts)
    images = np.full((total, 3, 32, 32), 100, np.uint8)
    images[:, 0, 0, 0], images[:, 0, 0, 1] = np.divmod(np.arange(total), 256)
    labels = np.random.default_rng(0).permutation(np.repeat(np.arange(len(counts)), counts))
    names = tuple(f"class {k}" for k in range(len(counts)))
    info = DataInfo(
        id="numbers-00000000",
        name="Numbers",
        source="/nowhere",
        kind="folder",
        fingerprint="0" * 16,
        classes=names,
        train_counts=counts,
        test_counts=counts,
        mean=(0.4, 0.4, 0.4),
        std=(0.1, 0.1, 0.1),
    )
    return DataSet(info, Split(images, labels), Split(UNTOUCHABLE, UNTOUCHABLE))


def numbers(images: Tensor) -> list[int]:
    return (images[:, 0, 0, 0].int() * 256 + images[:, 0, 0, 1].int()).tolist()


def settings(**changes: Any) -> TrainConfig:
    """Everything that chance has a part in: dropout, batch norm, augmentation."""
    values: dict[str, Any] = {
        "model": "guide_cnn_optimised",
        "width": 0.125,
        "epochs": 2,
        "batch_size": 32,
        "optimizer": "sgd",
        "learning_rate": 0.05,
        "schedule": "plateau",
        "patience": 0,
        "gamma": 0.5,
        "flip": 0.5,
        "crop_padding": 2,
        "rotation": 10.0,
        "cutout": 6,
        "label_smoothing": 0.1,
        "seed": 3,
    }
    return TrainConfig.from_values({**values, **changes})


def begin(config: TrainConfig, data: DataSet, weights: int = 0, planned: Any = None) -> Training:
    """A training that has not begun; the initial weights are drawn with their own seed."""
    torch.manual_seed(weights)
    model = create(config.model, len(data.info.classes), width=config.width, dropout=config.dropout)
    return Training(config, model, material(config, data, CPU.device), CPU, planned)


@pytest.fixture(scope="module", autouse=True)
def several_validation_batches() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(training, "VALIDATION_BATCH", 5)
        yield


@pytest.fixture
def every_step(monkeypatch: pytest.MonkeyPatch) -> None:
    """A sign of life after each step and after each few validation images."""
    monkeypatch.setattr(training, "PROGRESS_SECONDS", 0.0)


def epochs_of(events: list[Event]) -> list[Epoch]:
    return [event for event in events if isinstance(event, Epoch)]


def without_times(epoch: Epoch) -> Epoch:
    return dataclasses.replace(epoch, time=0.0, images_per_second=0.0, seconds=0.0, seconds_left=0.0)


def weights_of(training: Training) -> dict[str, Tensor]:
    return {name: tensor.clone() for name, tensor in training.model.state_dict().items()}


def same(one: dict[str, Tensor], other: dict[str, Tensor]) -> bool:
    return one.keys() == other.keys() and all(torch.equal(one[name], other[name]) for name in one)


# Against a loop written by hand --------------------------------------------------------------------------------------


class Sgd:
    """As in the documentation of torch.optim.SGD."""

    def __init__(self, config: TrainConfig, model: Classifier) -> None:
        self.momentum, self.nesterov, self.decay = config.momentum, config.nesterov, config.weight_decay
        self.velocity: dict[int, Tensor] = {}

    def update(self, index: int, weight: Tensor, gradient: Tensor, rate: float) -> None:
        gradient = gradient + self.decay * weight
        velocity = self.velocity.get(index)
        velocity = gradient if velocity is None else self.momentum * velocity + gradient
        self.velocity[index] = velocity
        weight -= rate * (gradient + self.momentum * velocity if self.nesterov else velocity)


class Adam:
    """Algorithm 1 of Kingma and Ba (2015); decoupled: algorithm 2 of Loshchilov and Hutter (2019)."""

    def __init__(self, config: TrainConfig, model: Classifier) -> None:
        self.decay, self.decoupled = config.weight_decay, config.optimizer != "adam"
        self.moments: dict[int, tuple[Tensor, Tensor, int]] = {}

    def update(self, index: int, weight: Tensor, gradient: Tensor, rate: float) -> None:
        if self.decoupled:
            weight *= 1 - rate * self.decay
        else:
            gradient = gradient + self.decay * weight
        zero = torch.zeros_like(weight)
        first, second, count = self.moments.get(index, (zero, zero, 0))
        first, second, count = 0.9 * first + 0.1 * gradient, 0.999 * second + 0.001 * gradient**2, count + 1
        self.moments[index] = first, second, count
        weight -= rate * (first / (1 - 0.9**count)) / ((second / (1 - 0.999**count)).sqrt() + 1e-8)


class Adagrad:
    """Duchi et al. (2011), with the constant of torch.optim.Adagrad."""

    def __init__(self, config: TrainConfig, model: Classifier) -> None:
        self.decay = config.weight_decay
        self.squares: dict[int, Tensor] = {}

    def update(self, index: int, weight: Tensor, gradient: Tensor, rate: float) -> None:
        gradient = gradient + self.decay * weight
        self.squares[index] = self.squares.get(index, torch.zeros_like(weight)) + gradient**2
        weight -= rate * gradient / (self.squares[index].sqrt() + 1e-10)


class RmsProp:
    """Hinton's lecture 6e, with the momentum and the constants of torch.optim.RMSprop."""

    def __init__(self, config: TrainConfig, model: Classifier) -> None:
        self.decay, self.momentum = config.weight_decay, config.momentum
        self.kept: dict[int, tuple[Tensor, Tensor]] = {}

    def update(self, index: int, weight: Tensor, gradient: Tensor, rate: float) -> None:
        gradient = gradient + self.decay * weight
        zero = torch.zeros_like(weight)
        square, velocity = self.kept.get(index, (zero, zero))
        square = 0.99 * square + 0.01 * gradient**2
        velocity = self.momentum * velocity + gradient / (square.sqrt() + 1e-8)
        self.kept[index] = square, velocity
        weight -= rate * velocity


class TorchsMuon:
    """torch.optim.Muon on the matrix that each hidden weight is, and AdamW on the rest."""

    def __init__(self, config: TrainConfig, model: Classifier) -> None:
        self.config, self.rest = config, Adam(config, model)
        rest = {*model.head.parameters()}
        self.hidden = [weight.ndim > 1 and weight not in rest for weight in model.parameters()]
        self.rules: dict[int, torch.optim.Muon] = {}

    def update(self, index: int, weight: Tensor, gradient: Tensor, rate: float) -> None:
        if not self.hidden[index]:
            self.rest.update(index, weight, gradient, rate)
            return
        if index not in self.rules:
            config = self.config
            matrix = nn.Parameter(weight.detach().view(len(weight), -1))
            self.rules[index] = torch.optim.Muon(
                [matrix], rate, config.weight_decay, config.momentum, config.nesterov, adjust_lr_fn="match_rms_adamw"
            )
        (matrix,) = self.rules[index].param_groups[0]["params"]
        matrix.grad = gradient.reshape(matrix.shape)
        self.rules[index].step()


BY_HAND = {"sgd": Sgd, "adam": Adam, "adamw": Adam, "adagrad": Adagrad, "rmsprop": RmsProp, "muon": TorchsMuon}


def by_hand(
    config: TrainConfig, model: Classifier, images: Tensor, labels: Tensor, mean: Tensor, std: Tensor
) -> Iterator[tuple[float, float, int]]:
    """A plain loop: loss, hits and images of each step."""
    rule = BY_HAND[config.optimizer](config, model)
    weights = list(model.parameters())
    model.train()
    step = 0
    for epoch in range(config.epochs):
        order = torch.randperm(len(images), generator=generator_for(config.seed, -1 - epoch))
        for begin in range(0, len(images), config.batch_size):
            chosen = order[begin : begin + config.batch_size]
            batch, target = images[chosen] / 255, F.one_hot(labels[chosen], len(CLASSES)).float()
            if config.mixup or config.cutmix:
                draws = generator_for(config.seed, step)
                mixed = mix(
                    augment(images[chosen], Augmentation(), draws), labels[chosen], config.mixup, config.cutmix, draws
                )
                other = F.one_hot(mixed.others, len(CLASSES)).float()
                batch, target = mixed.images, mixed.share * target + (1 - mixed.share) * other
            logits = model((batch - mean) / std)
            soft = (1 - config.label_smoothing) * target + config.label_smoothing / len(CLASSES)
            loss = -(soft * logits.log_softmax(1)).sum(1).mean()
            pull = config.l1 * sum(weight.abs().sum() for weight in weights)
            gradients = torch.autograd.grad(loss + pull, weights)
            length = sum(gradient.square().sum() for gradient in gradients).sqrt()  # type: ignore[union-attr]
            if config.clip_norm and length > config.clip_norm:
                gradients = tuple(gradient * (config.clip_norm / length) for gradient in gradients)
            with torch.no_grad():
                for index, (weight, gradient) in enumerate(zip(weights, gradients, strict=True)):
                    rule.update(index, weight, gradient, config.learning_rate)
            step += 1
            hits = target[torch.arange(len(chosen)), logits.argmax(1)].sum().item()
            yield loss.item(), hits, len(chosen)


LOOPS = {
    "sgd": {"optimizer": "sgd", "learning_rate": 0.01, "weight_decay": 0.01},
    "plain sgd": {"optimizer": "sgd", "learning_rate": 0.05, "momentum": 0.0, "weight_decay": 0.0},
    "heavy ball": {"optimizer": "sgd", "learning_rate": 0.01, "nesterov": False, "label_smoothing": 0.2},
    "adam": {"optimizer": "adam", "learning_rate": 0.001, "weight_decay": 0.01},
    "adamw": {"optimizer": "adamw", "learning_rate": 0.001, "weight_decay": 0.1},
    "adagrad": {"optimizer": "adagrad", "learning_rate": 0.003, "weight_decay": 0.01},
    "rmsprop": {"optimizer": "rmsprop", "learning_rate": 1e-4, "weight_decay": 0.01},
    "plain rmsprop": {"optimizer": "rmsprop", "learning_rate": 0.001, "momentum": 0.0, "weight_decay": 0.0},
    "muon": {"optimizer": "muon", "learning_rate": 0.003, "weight_decay": 0.1},
    "heavy muon": {"optimizer": "muon", "learning_rate": 0.003, "momentum": 0.8, "nesterov": False},
    "l1": {"optimizer": "sgd", "learning_rate": 0.01, "l1": 0.01},
    "clipped": {"optimizer": "sgd", "learning_rate": 0.02, "clip_norm": 0.5},
    "l1 and clipped": {"optimizer": "adam", "learning_rate": 0.001, "l1": 0.01, "clip_norm": 0.5},
    "mixup": {"optimizer": "sgd", "learning_rate": 0.01, "mixup": 0.4, "label_smoothing": 0.1},
    "cutmix": {"optimizer": "sgd", "learning_rate": 0.01, "cutmix": 1.0},
    "both mixed": {"optimizer": "sgd", "learning_rate": 0.01, "mixup": 1.0, "cutmix": 1.0},
}


@pytest.fixture
def exact_muon(monkeypatch: pytest.MonkeyPatch) -> None:
    """torch's Muon without its rounding to bfloat16, which would be all the difference."""
    monkeypatch.setattr(torch.Tensor, "bfloat16", lambda matrix: matrix.float().clone())


@pytest.mark.usefixtures("every_step", "exact_muon")
@pytest.mark.parametrize(
    ("model", "how"),
    [
        *((model, how) for model in ("single_conv", "guide_cnn") for how in LOOPS),
        # Batch norm makes rounding errors grow, and Adam makes steps of them: only slow and steady can be compared.
        ("guide_cnn_optimised", "heavy ball"),
    ],
)
def test_every_step_is_that_of_a_loop_written_by_hand(data: DataSet, model: str, how: str) -> None:
    plain = {"flip": 0.0, "crop_padding": 0, "rotation": 0.0, "cutout": 0, "label_smoothing": 0.0, "dropout": 0.0}
    config = settings(**{**plain, "model": model, "schedule": "constant", **LOOPS[how]})
    ours = begin(config, data)
    model_by_hand = copy.deepcopy(ours.model).to(memory_format=torch.contiguous_format)
    pixels = torch.from_numpy(np.array(data.train.images)).double() / 255
    mean, std = pixels.mean((0, 2, 3)).float(), pixels.std((0, 2, 3), unbiased=False).float()
    images, labels = ours.images.train_images, ours.images.train_labels
    steps = list(by_hand(config, model_by_hand, images, labels, mean.view(3, 1, 1), std.view(3, 1, 1)))

    events = list(ours.events())
    said = [event for event in events if isinstance(event, Progress) and event.phase == "training"]
    assert [event.step for event in said] == list(range(1, len(steps) + 1))
    # What is summed over an epoch in float32 is said as differences of sums.
    assert [event.train_loss for event in said] == pytest.approx([loss for loss, _, _ in steps], rel=2e-4, abs=1e-5)
    assert [event.train_accuracy for event in said] == pytest.approx([hits / count for _, hits, count in steps])
    for epoch, first in zip(epochs_of(events), range(0, len(steps), ours.steps_per_epoch), strict=True):
        part = steps[first : first + ours.steps_per_epoch]
        assert sum(count for _, _, count in part) == len(labels)
        assert epoch.train_loss == pytest.approx(sum(loss * count for loss, _, count in part) / len(labels), rel=1e-4)
        assert epoch.train_accuracy == pytest.approx(sum(hits for _, hits, _ in part) / len(labels))
    for (name, weight), wanted in zip(ours.model.named_parameters(), model_by_hand.parameters(), strict=True):
        torch.testing.assert_close(weight, wanted, rtol=2e-3, atol=2e-5, msg=lambda text, name=name: f"{name}: {text}")


@pytest.mark.usefixtures("every_step")
@pytest.mark.parametrize("optimizer", ["sgd", "muon"])
@pytest.mark.parametrize("warmup", [0.0, 1.5])
@pytest.mark.parametrize("schedule", FIELDS["schedule"].metadata["choices"])
def test_every_step_has_the_learning_rate_of_its_schedule(
    data: DataSet, schedule: str, warmup: float, optimizer: str
) -> None:
    config = settings(
        schedule=schedule,
        epochs=4,
        model="single_conv",
        step_epochs=1,
        patience=0,
        learning_rate=0.5,
        train_images=64,
        warmup_epochs=warmup,
        optimizer=optimizer,
    )
    ours = begin(config, data)
    used = []
    for event in ours.events():
        if isinstance(event, Inspected):
            continue
        losses = ours.validation_losses[: (event.step - 1) // ours.steps_per_epoch]
        wanted = learning_rate(config, event.step - 1, ours.steps_per_epoch, losses)
        assert {group["lr"] for group in ours.optimizer.param_groups} == {wanted}
        assert event.learning_rate == wanted, f"{event.kind} of step {event.step}"
        used.append(wanted)
    assert (len(set(used)) > 1) == (schedule != "constant" or warmup > 0)


def test_a_long_gradient_is_shortened_to_the_norm_and_a_short_one_stays(
    data: DataSet, monkeypatch: pytest.MonkeyPatch
) -> None:
    ours = begin(settings(clip_norm=1.5, epochs=3), data)
    before: list[float] = []
    used: list[float] = []
    plain = nn.utils.clip_grad_norm_

    def noted(weights: Iterator[nn.Parameter], limit: float) -> Tensor:
        before.append(plain(weights, limit).item())
        return torch.tensor(before[-1])

    def length(*_: Any) -> None:
        gradients = [weight.grad for weight in ours.model.parameters() if weight.grad is not None]
        used.append(torch.cat([gradient.flatten() for gradient in gradients]).norm().item())

    monkeypatch.setattr(nn.utils, "clip_grad_norm_", noted)
    ours.optimizer.register_step_pre_hook(length)
    list(ours.events())
    assert used == pytest.approx([min(norm, 1.5) for norm in before], rel=1e-5)
    assert len(used) == ours.step
    assert min(before) < 1.5 < max(before), "Only one of the two cases was seen."


# A running average, and an early end ---------------------------------------------------------------------------------


@pytest.mark.usefixtures("every_step")
@pytest.mark.parametrize("share", [0.3, 0.9, 0.9999])
def test_the_average_is_that_of_the_weights_after_each_step(data: DataSet, share: float) -> None:
    ours = begin(settings(ema=share), data)
    wanted = {name: tensor.double() for name, tensor in weights_of(ours).items()}
    assert ours.average is not None
    assert ours.judged is ours.average
    steps = 0
    for event in ours.events():
        if not isinstance(event, Progress) or event.phase == "validation":
            continue
        steps += 1
        # As in Tensorflow's ExponentialMovingAverage: at first hardly anything of the beginning is kept.
        kept = min(share, steps / (9 + steps))
        for name, tensor in ours.model.state_dict().items():
            whole = not tensor.is_floating_point()
            wanted[name] = tensor.double() if whole else kept * wanted[name] + (1 - kept) * tensor.double()
            torch.testing.assert_close(
                ours.average.state_dict()[name].double(), wanted[name], rtol=1e-5, atol=1e-6, msg=f"{name}, {steps}"
            )
    assert steps == ours.step > 10
    assert not same(weights_of(ours), dict(ours.average.state_dict()))


def test_an_average_does_not_change_the_training(data: DataSet) -> None:
    with_average, without = begin(settings(ema=0.9), data), begin(settings(), data)
    # The plateau looks at the validation, which is another one.
    with_average.config = dataclasses.replace(with_average.config, schedule="constant")
    without.config = dataclasses.replace(without.config, schedule="constant")
    averaged, plain = epochs_of(list(with_average.events())), epochs_of(list(without.events()))
    assert same(weights_of(with_average), weights_of(without))
    assert [epoch.train_loss for epoch in averaged] == [epoch.train_loss for epoch in plain]
    assert [epoch.validation_loss for epoch in averaged] != [epoch.validation_loss for epoch in plain]
    assert without.average is None
    assert without.judged is without.model


def test_the_kept_network_is_the_average_of_the_best_epoch(make_run: Callable[..., Run], data: DataSet) -> None:
    run = make_run(ema=0.9, epochs=3, optimizer="sgd", learning_rate=0.02)
    again = begin(run.config, data, weights=run.config.seed)
    averages: list[dict[str, Tensor]] = []
    for event in again.events():
        if isinstance(event, Epoch):
            assert again.average is not None
            averages.append({name: tensor.clone() for name, tensor in again.average.state_dict().items()})
    assert run.best is not None
    folder = run.path / "checkpoints"
    best, last = (load_network(folder / f"{name}.safetensors").model for name in ("best", "last"))
    assert same(dict(best.state_dict()), averages[run.best.epoch - 1])
    # Who opens the last checkpoint sees what was validated, and not the weights in training.
    assert same(dict(last.state_dict()), averages[-1])
    tensors, _ = load_tensors(folder / "last.safetensors")
    trained = {name.removeprefix("trained."): t for name, t in tensors.items() if name.startswith("trained.")}
    assert same(trained, weights_of(again))
    assert not same(trained, averages[-1])


def test_a_run_begins_with_the_weights_it_asks_for(make_run: Callable[..., Run]) -> None:
    # Steps so small that the weights are where they began.
    run = make_run(initialisation="orthogonal", learning_rate=1e-6, optimizer="sgd")
    first = next(iter(load_network(run.path / "checkpoints" / "last.safetensors").model.parameters()))
    matrix = first.detach().flatten(1)
    torch.testing.assert_close(matrix @ matrix.T, torch.eye(len(matrix)), rtol=0, atol=1e-3)


@pytest.mark.parametrize(
    ("losses", "patience", "stalled"),
    [
        ([], 1, False),
        ([3.0], 1, False),
        ([3.0, 2.0, 1.0], 1, False),
        ([1.0, 2.0], 1, True),
        ([1.0, 1.0], 1, True),
        ([1.0, 2.0], 2, False),
        ([1.0, 2.0, 1.5], 2, True),
        ([1.0, 2.0, 0.9], 2, False),
        ([1.0, 2.0, 0.9, 1.0, 1.0], 3, False),
        ([1.0, 2.0, 0.9, 1.0, 1.0, 1.0], 3, True),
        ([1.0] + 50 * [2.0], 0, False),
    ],
)
def test_patience_ends_after_as_many_epochs_without_a_better_loss(
    data: DataSet, losses: list[float], patience: int, stalled: bool
) -> None:
    ours = begin(settings(stop_patience=patience, epochs=100), data)
    ours.validation_losses = losses
    assert ours.has_stalled is stalled


@pytest.mark.parametrize("patience", [1, 3])
def test_a_run_that_gets_no_better_ends_and_says_so(make_run: Callable[..., Run], patience: int) -> None:
    run = make_run(epochs=60, stop_patience=patience, learning_rate=0.02, train_images=48)
    losses = [epoch.validation_loss for epoch in run.epochs]
    waited = [at - losses.index(min(losses[: at + 1])) for at in range(len(losses))]
    assert len(losses) < 60
    assert waited[-1] == patience
    assert max(waited[:-1]) < patience
    assert run.state == "finished"
    assert run.last_end is not None
    assert run.last_end.epoch == len(losses)
    assert run.last_end.message.startswith(
        f"Finished {len(losses)} epochs, as the validation loss was no better for {patience}; best validation accuracy "
    )


def test_patience_begins_anew_where_more_is_asked_for(make_run: Callable[..., Run], tiny: Tiny) -> None:
    run = make_run(epochs=60, stop_patience=1, learning_rate=0.02, train_images=48)
    done = len(run.epochs)
    assert done < 60
    fork = work(
        create_run(dataclasses.replace(run.config, learning_rate=0.003), run.path.parent, parent=run), tiny.cache
    )
    assert fork.epochs[0].epoch == done + 1
    run.request("change", {"epochs": 61})
    work(run, tiny.cache)
    assert len(run.epochs) > done
    again = work(repeat_run(run, run.path.parent), tiny.cache)
    assert [epoch.validation_loss for epoch in again.epochs] == [epoch.validation_loss for epoch in run.epochs]


def test_a_run_with_patience_enough_does_not_speak_of_it(make_run: Callable[..., Run]) -> None:
    run = make_run(epochs=2, stop_patience=5)
    assert run.last_end is not None
    assert run.last_end.message.startswith("Finished 2 epochs; best validation accuracy ")


# Images --------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("fraction", [0.02, 0.1, 0.5])
def test_validation_images_are_a_stratified_part_of_the_training_split(fraction: float) -> None:
    data = numbered((100, 300, 50))
    images = material(settings(validation_fraction=fraction), data, CPU.device)
    training, validation = numbers(images.train_images), numbers(images.validation_images)
    assert not set(training) & set(validation)
    assert sorted(training + validation) == list(range(450))
    assert images.validation_labels.bincount().tolist() == [round(fraction * count) for count in (100, 300, 50)]
    assert images.train_labels.tolist() == data.train.labels[training].tolist()
    assert images.validation_labels.tolist() == data.train.labels[validation].tolist()


def test_all_runs_are_judged_on_the_same_validation_images() -> None:
    data = numbered((100, 300, 50))
    judged = [
        numbers(material(settings(**changes), data, CPU.device).validation_images)
        for changes in ({}, {"seed": 9}, {"train_images": 30}, {"train_images": 30, "seed": 5})
    ]
    assert judged[0] == judged[1] == judged[2] == judged[3]


def test_fewer_training_images_are_a_stratified_part_that_the_seed_decides() -> None:
    data = numbered((100, 300, 50))
    everything = material(settings(), data, CPU.device)
    few, same_seed, other_seed = (
        material(settings(train_images=90, seed=seed), data, CPU.device) for seed in (1, 1, 2)
    )
    assert few.train_labels.bincount().tolist() == [20, 60, 10]
    assert set(numbers(few.train_images)) < set(numbers(everything.train_images))
    assert numbers(few.train_images) == numbers(same_seed.train_images) != numbers(other_seed.train_images)


def test_more_training_images_than_there_are_is_one_sentence() -> None:
    material(settings(train_images=405), numbered((100, 300, 50)), CPU.device)
    with pytest.raises(ValueError, match=r"^train_images must be at most 405, .* holding out 45 .*, but is 406\.$"):
        material(settings(train_images=406), numbered((100, 300, 50)), CPU.device)


def test_too_few_images_to_hold_some_out_is_one_sentence() -> None:
    with pytest.raises(ValueError, match=r"^Numbers has too few training images to hold some out for validation\.$"):
        material(settings(), numbered((1, 1)), CPU.device)


def test_the_smallest_data_set_trains() -> None:
    events = list(begin(settings(epochs=1), numbered((2, 2))).events())
    assert len(epochs_of(events)) == 1


@pytest.mark.parametrize(
    ("images", "batch", "steps", "seen"),
    [(33, 16, 2, 32), (34, 16, 3, 34), (32, 16, 2, 32), (17, 16, 1, 16), (3, 2, 1, 2), (7, 100, 1, 7), (2, 100, 1, 2)],
)
def test_a_last_batch_of_one_image_is_left_out(images: int, batch: int, steps: int, seen: int) -> None:
    """Batch norm cannot train on one image."""
    config = settings(train_images=images, batch_size=batch, epochs=2)
    ours = begin(config, numbered((40, 40)))
    sizes: list[int] = []
    ours.model.register_forward_pre_hook(lambda model, given: sizes.append(len(given[0])) if model.training else None)
    events = list(ours.events())
    assert ours.steps_per_epoch == steps
    assert ours.step == 2 * steps
    assert len(sizes) == 2 * steps
    assert sum(sizes) == 2 * seen
    assert min(sizes) > 1
    assert [epoch.epoch for epoch in epochs_of(events)] == [1, 2]


def test_every_epoch_sees_each_image_once_in_another_order(monkeypatch: pytest.MonkeyPatch) -> None:
    config = settings(epochs=2, batch_size=16)
    ours = begin(config, numbered((40, 40)))
    seen: list[list[int]] = []
    plain = training.augment
    monkeypatch.setattr(training, "augment", lambda batch, *rest: seen.append(numbers(batch)) or plain(batch, *rest))
    for _ in ours.events():
        pass
    first, second = (
        [number for batch in half for number in batch]
        for half in (seen[: ours.steps_per_epoch], seen[ours.steps_per_epoch :])
    )
    assert sorted(first) == sorted(second) == sorted(numbers(ours.images.train_images))
    assert first != second


# What it says --------------------------------------------------------------------------------------------------------


@pytest.mark.usefixtures("every_step")
@pytest.mark.parametrize("ema", [0.0, 0.8])
def test_validation_is_of_the_weights_at_the_end_of_the_epoch_in_use(data: DataSet, ema: float) -> None:
    """Dropout and batch statistics belong to training; each image counts once, whatever the batches."""
    ours = begin(settings(epochs=3, ema=ema, mixup=0.4), data)
    mean, std = (torch.tensor(values).view(3, 1, 1) for values in (ours.images.mean, ours.images.std))
    for event in ours.events():
        if isinstance(event, Epoch):
            model = copy.deepcopy(ours.average if ema else ours.model).eval()  # type: ignore[union-attr]
            with torch.no_grad():
                logits = model((ours.images.validation_images / 255 - mean) / std)
            loss = F.cross_entropy(logits, ours.images.validation_labels).item()
            right = (logits.argmax(1) == ours.images.validation_labels).float().mean().item()
            # Without label smoothing, which is a means of training and not of judging.
            assert event.validation_loss == pytest.approx(loss, rel=1e-5)
            assert event.validation_accuracy == pytest.approx(right)


@pytest.mark.usefixtures("every_step")
def test_the_time_left_knows_that_smaller_images_at_first_take_less_time(
    data: DataSet, monkeypatch: pytest.MonkeyPatch
) -> None:
    now = 0.0
    monkeypatch.setattr(training, "time", SimpleNamespace(perf_counter=lambda: now))
    ours = begin(settings(model="airbench94", epochs=4, early_size=16, early_share=0.5), data)
    learn = ours._learn

    def timed(fed: Tensor, *rest: Any) -> None:
        nonlocal now
        learn(fed, *rest)
        now += fed.shape[2] * fed.shape[3] / 1024

    monkeypatch.setattr(ours, "_learn", timed)
    said = ((now, event) for event in ours.events())
    lefts = [(then, event.seconds_left) for then, event in said if getattr(event, "phase", "") == "training"]
    steps = 4 * ours.steps_per_epoch
    assert now == pytest.approx(steps / 2 * 0.25 + steps / 2)
    assert len(lefts) == steps
    # Validations are guessed to take a third of a step's time an image; here they take none.
    for then, left in lefts:
        assert left == pytest.approx(now - then, abs=1)


@pytest.mark.usefixtures("every_step")
def test_progress_goes_up_and_time_left_ends_at_zero(data: DataSet) -> None:
    events = list(begin(settings(epochs=3), data).events())
    places = [event.epoch for event in events]
    assert places == sorted(places)
    assert [event.epoch for event in epochs_of(events)] == [1, 2, 3]
    assert {event.phase for event in events if isinstance(event, Progress)} == {"training", "validation"}
    moments = [event for event in events if isinstance(event, Progress | Epoch)]
    assert all(event.seconds_left >= 0 for event in moments if event.seconds_left is not None)
    assert epochs_of(events)[-1].seconds_left == 0
    assert epochs_of(events)[0].seconds_left > 0
    assert all(event.images_per_second > 0 for event in moments)
    seconds = [event.seconds for event in epochs_of(events)]
    assert seconds == sorted(seconds)


@pytest.mark.usefixtures("every_step")
@pytest.mark.parametrize("share", [0.0, 0.4, 1.0])
def test_the_early_part_sees_smaller_images_and_validation_never_does(data: DataSet, share: float) -> None:
    ours = begin(settings(model="airbench", width=0.125, epochs=5, early_size=16, early_share=share), data)
    trained, validated = [], []

    def note(model: nn.Module, inputs: tuple[Tensor]) -> None:
        (trained if model.training else validated).append(inputs[0].shape[-2:])

    ours.model.register_forward_pre_hook(note)
    for _ in ours.events():
        pass
    early = math.ceil(share * 5 * ours.steps_per_epoch)
    assert trained == [(16, 16)] * early + [(32, 32)] * (5 * ours.steps_per_epoch - early)
    assert set(validated) == {(32, 32)}


def test_alternating_mirroring_shows_both_sides_of_each_image_in_any_two_epochs(data: DataSet) -> None:
    plain = {"crop_padding": 0, "rotation": 0.0, "cutout": 0, "colour_jitter": 0.0, "mixup": 0.0, "cutmix": 0.0}
    config = settings(**plain, flip=0.5, flip_mode="alternating", epochs=3)
    ours = begin(config, data)
    images = ours.images
    upright = normalise(images.train_images.float() / 255, images.mean, images.std)
    mirrored: list[dict[int, bool]] = [{}, {}, {}]

    def note(model: nn.Module, inputs: tuple[Tensor]) -> None:
        if not model.training:
            return
        for fed in inputs[0]:
            errors = torch.stack([(side - fed).abs().flatten(1).amax(1) for side in (upright, upright.flip(3))])
            side, place = divmod(int(errors.argmin()), len(upright))
            assert errors.min() < 1e-5
            mirrored[ours.step // ours.steps_per_epoch][place] = bool(side)

    ours.model.register_forward_pre_hook(note)
    for _ in ours.events():
        pass
    first, second, third = mirrored
    everything = set(range(len(upright)))
    assert set(first) == set(second) == set(third) == everything
    assert all(first[place] != second[place] for place in everything)
    assert first == third
    assert 0.3 < sum(first.values()) / len(first) < 0.7


@pytest.mark.usefixtures("every_step")
def test_time_between_two_events_is_not_counted(data: DataSet) -> None:
    """That is how a caller pauses."""
    config = settings(epochs=1, model="single_conv")
    for _ in begin(config, data).events():  # Prepares the kernels.
        pass
    ours, began, slept = begin(config, data), time.perf_counter(), 0.0
    for _ in ours.events():
        time.sleep(0.2)
        slept += 0.2
    assert slept >= 1.4
    assert ours.seconds < time.perf_counter() - began - slept + 0.05


def test_the_best_epoch_is_better_than_all_before_it(data: DataSet) -> None:
    epochs = epochs_of(list(begin(settings(epochs=8, model="single_conv"), data).events()))
    highest = -1.0
    for epoch in epochs:
        assert epoch.best == (epoch.validation_accuracy > highest)
        highest = max(highest, epoch.validation_accuracy)
    assert epochs[0].best
    assert not all(epoch.best for epoch in epochs)


def test_it_learns(data: DataSet) -> None:
    config = settings(model="single_conv", optimizer="adam", learning_rate=0.003, epochs=3, batch_size=16, rotation=0.0)
    last = epochs_of(list(begin(config, data).events()))[-1]
    assert last.validation_accuracy > 0.7
    assert last.validation_loss < math.log(len(CLASSES))


def test_divergence_is_said_with_advice(data: DataSet) -> None:
    ours = begin(settings(learning_rate=10.0, model="guide_cnn", epochs=20), data)
    with torch.no_grad():
        for weight in ours.model.parameters():
            weight *= 1e8  # From here it is not far.
    with pytest.raises(
        Diverged,
        match=r"^The training loss stopped being a number in epoch \d+: the steps are too large\. "
        r"Try a learning rate below 10 or a clip norm of 1\.$",
    ):
        for _ in ours.events():
            pass


def test_divergence_in_the_very_last_step_is_said_too(data: DataSet) -> None:
    """Its loss is computed before its step, so only the validation can tell."""
    ours = begin(settings(epochs=1), data)
    learn = ours._learn

    def stumble(*step: Any) -> None:
        learn(*step)
        if ours.step == ours.steps_per_epoch - 1:
            with torch.no_grad():
                ours.model.head.weight.fill_(math.nan)

    ours._learn = stumble  # type: ignore[method-assign]
    with pytest.raises(Diverged, match=r"^The validation loss is not a number after epoch 1: .* below 0\.05 or a clip"):
        list(ours.events())


# Too little memory ---------------------------------------------------------------------------------------------------


def with_room_for(count: int, ours: Training, monkeypatch: pytest.MonkeyPatch) -> None:
    """Let the forward pass of more images than this fail as it does on a device without memory."""
    forward = type(ours.model).forward

    def narrow(self: Classifier, images: Tensor) -> Tensor:
        logits = forward(self, images)  # Fails late, with the running statistics of batch norm already updated.
        if self.training and len(images) > count:
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 1.00 GiB.")
        return logits

    monkeypatch.setattr(type(ours.model), "forward", narrow)


PLAIN = {"model": "three_conv", "dropout": 0.0, "width": 0.25, "epochs": 1}


def test_gradients_of_parts_add_up_to_that_of_the_batch(data: DataSet) -> None:
    """For a network without batch norm and dropout, to rounding."""
    gradients = []
    for at_once in (0, 32, 31, 10, 7, 1):
        ours = begin(settings(**PLAIN, images_at_once=at_once, mixup=0.4), data)
        batch = normalise(ours.images.train_images[:32], ours.images.mean, ours.images.std)
        mixed = mix(batch, ours.images.train_labels[:32], 0.4, 0.0, generator_for(1, 2))
        loss, hits = ours._gradients(mixed.images, mixed, seed=0)
        gradients.append([loss, hits, *(parameter.grad for parameter in ours.model.parameters())])
    for other in gradients[1:]:
        for tensor, whole in zip(other, gradients[0], strict=True):
            torch.testing.assert_close(tensor, whole, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("name", ["guide_cnn_optimised", "three_conv"])
def test_without_memory_for_a_batch_it_is_computed_in_parts_and_so_it_is_repeated(
    data: DataSet, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    config = settings(model=name, width=0.25, epochs=1)
    ours = begin(config, data)
    with monkeypatch.context() as patch:
        with_room_for(9, ours, patch)
        changes = [event for event in ours.events() if isinstance(event, Changed)]
    (change,) = changes
    assert (change.step, change.values, change.before) == (0, {"images_at_once": 8}, {"images_at_once": 0})
    normed = name == "guide_cnn_optimised"
    assert change.reason == (
        "There was not enough memory for 16 images at once, so from now on 8 are computed together and their gradients "
        "added up to the same step" + ("; batch norm sees only 8 images at a time." if normed else ".")
    )
    again = begin(config, data, planned={0: change.values})
    list(again.events())
    assert same(weights_of(ours), weights_of(again)), "with room for all it does in the same parts what was done then"


def test_memory_that_becomes_too_little_halves_what_is_computed_from_that_step_on(
    data: DataSet, monkeypatch: pytest.MonkeyPatch
) -> None:
    ours = begin(settings(epochs=1), data)
    monkeypatch.setattr(training, "PROGRESS_SECONDS", 0.0)
    changes = []
    for event in ours.events():
        if isinstance(event, Progress) and event.step == 2:
            with_room_for(16, ours, monkeypatch)
        if isinstance(event, Changed):
            changes.append((event.step, event.values))
            assert ours.step == 3, "what is kept at this moment has the step behind it"
    assert changes == [(2, {"images_at_once": 16})]


def test_where_not_even_the_smallest_part_fits_it_is_said(data: DataSet, monkeypatch: pytest.MonkeyPatch) -> None:
    for changes, fewest in (({}, "2 images"), (PLAIN, "1 image")):
        ours = begin(settings(**changes), data)
        with monkeypatch.context() as patch:
            with_room_for(0, ours, patch)
            with pytest.raises(TooLarge, match=rf"^There is not enough memory, even for {fewest} at once; choose"):
                list(ours.events())


def test_other_errors_are_not_taken_for_too_little_memory(data: DataSet, monkeypatch: pytest.MonkeyPatch) -> None:
    ours = begin(settings(), data)

    def fail(self: Classifier, images: Tensor) -> Tensor:
        raise RuntimeError("mat1 and mat2 shapes cannot be multiplied")

    monkeypatch.setattr(type(ours.model), "forward", fail)
    with pytest.raises(RuntimeError, match="mat1"):
        list(ours.events())


def test_no_part_has_a_single_image_unless_all_have() -> None:
    for count in range(2, 70):
        for at_once in range(1, 40):
            sizes = training.part_sizes(count, at_once)
            assert sum(sizes) == count
            assert max(sizes) <= at_once + 1
            assert min(sizes) > 1 or at_once == 1


# Repeating itself ----------------------------------------------------------------------------------------------------


def test_the_same_seed_repeats_a_training_and_another_does_not(data: DataSet) -> None:
    results = []
    for seed in (3, 3, 4):
        ours = begin(settings(seed=seed, epochs=1), data)
        events = list(ours.events())
        results.append((weights_of(ours), without_times(epochs_of(events)[0])))
    assert same(results[0][0], results[1][0])
    assert results[0][1] == results[1][1]
    assert not same(results[0][0], results[2][0])
    assert results[0][1] != results[2][1]


def test_chance_outside_does_not_matter(data: DataSet) -> None:
    quiet, disturbed = begin(settings(epochs=1), data), begin(settings(epochs=1), data)
    for _ in quiet.events():
        pass
    torch.manual_seed(999)
    for _ in disturbed.events():
        torch.rand(7)
    assert same(weights_of(quiet), weights_of(disturbed))


RULES = {
    "sgd": {"optimizer": "sgd"},
    "heavy ball": {"optimizer": "sgd", "nesterov": False},
    "plain sgd": {"optimizer": "sgd", "momentum": 0.0},
    "adam": {"optimizer": "adam", "learning_rate": 0.002},
    "adamw": {"optimizer": "adamw", "learning_rate": 0.002, "schedule": "one_cycle"},
    # Every optimiser and every schedule, with an average of the weights and without.
    "adagrad": {"optimizer": "adagrad", "learning_rate": 0.01, "schedule": "step", "step_epochs": 1},
    "rmsprop": {"optimizer": "rmsprop", "learning_rate": 0.001, "schedule": "exponential", "warmup_epochs": 1.5},
    "muon": {"optimizer": "muon", "learning_rate": 0.01, "schedule": "cosine", "mixup": 0.4, "cutmix": 1.0},
    "turning muon": {
        "model": "airbench",
        "width": 0.125,
        "optimizer": "muon",
        "fixed_norm": True,
        "early_size": 16,
        "learning_rate": 0.1,
        "schedule": "linear",
    },
    "frozen": {"optimizer": "sgd", "schedule": "plateau", "frozen": True},
    "without labels": {
        "objective": "simclr",
        "optimizer": "adam",
        "learning_rate": 0.002,
        "crop_scale": 0.3,
        "colour_jitter": 0.5,
        "grey": 0.2,
    },
    "policies": {
        "policy": "randaugment",
        "translation": 0.2,
        "scaling": 0.2,
        "blur": 1.0,
        "erasing": 0.5,
        "cutout": 8,
        "cutout_probability": 0.5,
        "mixup": 0.4,
        "schedule": "cosine",
        "ema": 0.8,
    },
    "averaged without labels": {"objective": "simclr", "optimizer": "muon", "learning_rate": 0.01, "ema": 0.8},
    "linear average": {"ema": 0.8, "schedule": "linear", "warmup_epochs": 0.5},
    "plain rmsprop": {"optimizer": "rmsprop", "learning_rate": 0.001, "momentum": 0.0, "schedule": "constant"},
    "averaged sgd": {"optimizer": "sgd", "ema": 0.8, "schedule": "exponential", "l1": 1e-4, "clip_norm": 1.0},
    "averaged adam": {"optimizer": "adam", "ema": 0.8, "learning_rate": 0.002, "schedule": "step", "step_epochs": 2},
    "averaged adamw": {"optimizer": "adamw", "ema": 0.8, "learning_rate": 0.002, "schedule": "cosine"},
    "averaged adagrad": {"optimizer": "adagrad", "ema": 0.8, "learning_rate": 0.01, "schedule": "one_cycle"},
    "averaged rmsprop": {"optimizer": "rmsprop", "ema": 0.8, "learning_rate": 0.001, "schedule": "constant"},
    "averaged muon": {"optimizer": "muon", "ema": 0.8, "learning_rate": 0.01, "schedule": "plateau", "mixup": 0.4},
}


@pytest.mark.parametrize("name", ["optimizer", "schedule"])
def test_the_rules_that_are_broken_off_below_are_all_there_are(name: str) -> None:
    kinds = [settings(**rule) for rule in RULES.values()]
    for choice in FIELDS[name].metadata["choices"]:
        assert {bool(config.ema) for config in kinds if getattr(config, name) == choice} == {True, False}, choice


@pytest.fixture(scope="module")
def uninterrupted(data: DataSet) -> Callable[[str], tuple[dict[str, Tensor], list[Epoch]]]:
    """Weights and epochs of a training from beginning to end, by rule."""

    @functools.cache
    def train(rule: str) -> tuple[dict[str, Tensor], list[Epoch]]:
        ours = begin(settings(**RULES[rule], epochs=3), data)
        events = list(ours.events())
        return everything(ours), [without_times(epoch) for epoch in epochs_of(events)]

    return train


def everything(training: Training) -> dict[str, Tensor]:
    """The weights, and their running average where there is one."""
    average = training.average.state_dict() if training.average else {}
    return weights_of(training) | {f"average {name}": tensor.clone() for name, tensor in average.items()}


def at_place(place: str, steps_per_epoch: int, event: Event) -> bool:
    match place:
        case "in the middle of an epoch":
            return event.step == steps_per_epoch + 2
        case "after the first step":
            return event.step == 1
        case "at the last step of an epoch":
            return event.step == 2 * steps_per_epoch and isinstance(event, Progress) and event.phase == "training"
        case "during a validation":
            return event.step == 2 * steps_per_epoch and isinstance(event, Progress) and event.phase == "validation"
        case "after an epoch":
            return isinstance(event, Epoch) and event.epoch == 2
        case _:
            return isinstance(event, Epoch) and event.epoch == 3


PLACES = (
    "after the first step",
    "in the middle of an epoch",
    "at the last step of an epoch",
    "during a validation",
    "after an epoch",
    "at the end",
)


@pytest.mark.parametrize("place", PLACES)
@pytest.mark.parametrize("rule", RULES)
def test_a_training_that_was_broken_off_goes_on_bit_for_bit(
    data: DataSet,
    uninterrupted: Callable[[str], tuple[dict[str, Tensor], list[Epoch]]],
    rule: str,
    place: str,
    tmp_path: Path,
    request: pytest.FixtureRequest,
) -> None:
    wanted, wanted_epochs = uninterrupted(rule)
    request.getfixturevalue("every_step")
    config = settings(**RULES[rule], epochs=3)
    first = begin(config, data)
    said = []
    for event in first.events():
        said.append(event)
        if at_place(place, first.steps_per_epoch, event):
            save_tensors(tmp_path / "last.safetensors", *first.state())
            break
    else:
        raise AssertionError(f"There is no such place: {place}.")

    second = begin(config, data, weights=77)
    assert not same(weights_of(second), weights_of(first))
    second.restore(*load_tensors(tmp_path / "last.safetensors"))
    assert second.step == first.step
    assert second.epoch == first.epoch
    said += second.events()
    assert [without_times(epoch) for epoch in epochs_of(said)] == wanted_epochs
    assert same(everything(second), wanted)
    assert epochs_of(said)[-1].seconds >= epochs_of(said)[0].seconds


@pytest.mark.parametrize("rule", RULES)
def test_a_training_that_was_kept_before_its_first_step_begins_as_it_would_have(
    data: DataSet, uninterrupted: Callable[[str], tuple[dict[str, Tensor], list[Epoch]]], rule: str
) -> None:
    wanted, _ = uninterrupted(rule)
    config = settings(**RULES[rule], epochs=3)
    first, second = begin(config, data), begin(config, data, weights=77)
    second.restore(*first.state())
    list(second.events())
    assert same(everything(second), wanted)


def test_looking_at_the_state_does_not_change_a_training(
    data: DataSet, uninterrupted: Callable[[str], tuple[dict[str, Tensor], list[Epoch]]]
) -> None:
    wanted, _ = uninterrupted("adam")
    ours = begin(settings(**RULES["adam"], epochs=3), data)
    for _ in ours.events():
        ours.state()
    assert same(weights_of(ours), wanted)


@pytest.mark.parametrize(
    "other",
    [
        {"model": "guide_cnn"},
        {"width": 0.25},
        {"optimizer": "adam"},
        {"optimizer": "adam", "momentum": 0.0},
        {"optimizer": "adagrad"},
        {"optimizer": "rmsprop"},
        {"optimizer": "muon"},
    ],
)
def test_a_state_of_another_model_or_optimiser_is_refused(data: DataSet, other: dict[str, Any]) -> None:
    for one, another in ((other, {}), ({}, other)):
        giver, taker = begin(settings(**one), data), begin(settings(**another), data)
        next(iter(giver.events()))
        with pytest.raises(ValueError, match=r"^The checkpoint does not fit the settings of the run: ") as caught:
            taker.restore(*giver.state())
        assert "\n" not in str(caught.value)


@pytest.mark.parametrize("lost", ["step", "seen", "validation_losses", "best_accuracy", "scaler"])
def test_a_state_with_something_missing_is_refused(data: DataSet, lost: str) -> None:
    giver, taker = begin(settings(), data), begin(settings(), data)
    next(iter(giver.events()))
    tensors, counters = giver.state()
    del counters[lost]
    with pytest.raises(ValueError, match=f"^The checkpoint does not fit the settings of the run: .*{lost}"):
        taker.restore(tensors, counters)


def test_a_network_is_compiled_on_request_and_its_weights_keep_their_names(
    data: DataSet, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls = []

    def compiled(model: nn.Module) -> Any:
        return lambda images: calls.append(len(images)) or model(images)

    monkeypatch.setattr(torch, "compile", compiled)
    plain, quick = begin(settings(), data), begin(settings(compile=True), data)
    for ours in (plain, quick):
        for _ in ours.events():
            pass
    assert len(calls) == quick.step
    assert plain.model.state_dict().keys() == quick.model.state_dict().keys()
    assert all(torch.equal(a, b) for a, b in zip(plain.state()[0].values(), quick.state()[0].values(), strict=True))
