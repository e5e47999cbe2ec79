"""What is seen of a network is true, and looking at it changes nothing."""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from cifar_core import training, watching
from cifar_core.compute import choose
from cifar_core.datasets import DataSet, open_cached
from cifar_core.events import Epoch, Event, Inspected, to_line
from cifar_core.models import REGISTRY, create, named
from cifar_core.networks import load_network
from cifar_core.runs import Run, create_run
from cifar_core.subsets import training_indices
from cifar_core.training import Training, material
from tests.conftest import Tiny, tiny_config, work

CPU = choose("cpu", "float32")


@pytest.fixture(scope="module")
def data(tiny: Tiny) -> DataSet:
    return open_cached(tiny.info.id, tiny.cache)


def begin(tiny: Tiny, data: DataSet, **settings: Any) -> Training:
    config = tiny_config(tiny, **settings)
    torch.manual_seed(0)
    model = create(config.model, len(data.info.classes), width=config.width, dropout=config.dropout)
    return Training(config, model, material(config, data, CPU.device), CPU)


def looks_of(events: Iterator[Event]) -> list[Inspected]:
    return [event for event in events if isinstance(event, Inspected)]


# Looking changes nothing ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("model", ["guide_cnn_optimised", "airbench"])
def test_a_training_that_is_looked_at_is_the_same_bit_for_bit(
    tiny: Tiny, data: DataSet, monkeypatch: pytest.MonkeyPatch, model: str
) -> None:
    settings = {"model": model, "width": 0.125, "epochs": 2, "dropout": 0.3, "crop_padding": 2, "cutmix": 1.0}
    watched = begin(tiny, data, **settings)
    assert len(looks_of(watched.events())) == 2
    monkeypatch.setattr(Training, "inspected", lambda self, predictions: None)
    unwatched = begin(tiny, data, **settings)
    assert not looks_of(unwatched.events())
    one, other = watched.state()[0], unwatched.state()[0]
    assert one.keys() == other.keys()
    assert all(torch.equal(one[name], other[name]) for name in one)


def test_no_random_number_is_drawn_and_no_hook_stays(tiny: Tiny, data: DataSet) -> None:
    watched = begin(tiny, data)
    list(watched.events())
    before = torch.get_rng_state()
    watched.inspected(watched.images.validation_labels)
    assert torch.equal(torch.get_rng_state(), before)
    assert not any(module._forward_hooks for module in watched.model.modules())


# Classes and samples --------------------------------------------------------------------------------------------------


def test_the_accuracy_of_a_class_is_the_share_of_its_images_that_is_told_right() -> None:
    labels = torch.tensor([0, 0, 0, 0, 2, 2])
    predictions = torch.tensor([0, 1, 0, 0, 2, 0])
    assert watching.class_accuracy(predictions, labels, 4) == [0.75, None, 0.5, None]


def test_classes_and_samples_are_those_of_the_network_that_is_kept(tiny: Tiny, data: DataSet, runs_root: Any) -> None:
    run = work(create_run(tiny_config(tiny, epochs=2, ema=0.5), runs_root), tiny.cache)
    look = run.inspections()[-1]
    _, held_out = training_indices(run.config, data)
    network = load_network(run.checkpoints()["last"])
    images, labels = np.asarray(data.train.images), np.asarray(data.train.labels)
    right = network.probabilities(images[held_out]).argmax(1).numpy() == labels[held_out]
    assert look.class_accuracy == pytest.approx([right[labels[held_out] == k].mean() for k in range(3)], abs=1e-3)
    assert np.average(look.class_accuracy, weights=np.bincount(labels[held_out])) == pytest.approx(
        run.epochs[-1].validation_accuracy, abs=1e-3
    )
    indices = [sample["index"] for sample in look.samples]
    assert set(indices) <= set(held_out.tolist())
    assert len(set(indices)) == watching.SAMPLES
    assert [sample["label"] for sample in look.samples] == labels[indices].tolist()
    sure, said = network.probabilities(images[indices]).max(1)
    assert [sample["predicted"] for sample in look.samples] == said.tolist()
    assert [sample["probability"] for sample in look.samples] == pytest.approx(sure.tolist(), abs=1e-3)


def test_the_samples_are_always_the_same_and_of_every_class_in_turn() -> None:
    labels = torch.tensor([0] * 50 + [1] * 50 + [2])
    assert watching.sample_positions(labels, 6) == [0, 50, 100, 1, 51, 2]
    assert watching.sample_positions(labels[:2]) == [0, 1]


# Layers ---------------------------------------------------------------------------------------------------------------


def test_norms_are_those_of_the_weights_and_of_the_last_gradient(tiny: Tiny, data: DataSet) -> None:
    watched = begin(tiny, data, model="guide_cnn", width=0.125)
    (look,) = looks_of(watched.events())
    layers = {row["name"]: row for row in look.layers}
    assert list(layers) == ["conv1", "conv2", "linear1", "head"]
    for path, layer in watched.model.named_modules():
        if isinstance(layer, nn.Conv2d | nn.Linear):
            row = layers[path.rpartition(".")[2]]
            assert row["weight_norm"] == pytest.approx(layer.weight.norm().item(), rel=1e-3)
            assert row["gradient_norm"] == pytest.approx(layer.weight.grad.norm().item(), rel=1e-3)
            assert sum(row["weights"]["counts"]) == sum(row["gradients"]["counts"]) == layer.weight.numel()


def test_scaled_gradients_are_told_of_as_they_are() -> None:
    model = nn.Sequential(nn.Linear(2, 3))
    model[0].weight.grad = torch.full((3, 2), 512.0)
    assert watching.layer_rows(model, 1024.0)[0]["gradient_norm"] == pytest.approx(0.5 * 6**0.5, rel=1e-3)


def test_a_frozen_layer_and_a_resumed_epoch_have_no_gradient() -> None:
    (row,) = watching.layer_rows(nn.Sequential(nn.Linear(2, 3).requires_grad_(False)))
    assert row["gradient_norm"] is None
    assert row["gradients"] is None
    assert row["weight_norm"] > 0


def test_a_histogram_counts_every_value_and_its_ends_hold_what_lies_farther_out() -> None:
    values = torch.cat([torch.linspace(-1, 1, 3001), torch.tensor([50.0, -60.0])])
    drawn = watching.histogram(values)
    assert drawn
    assert sum(drawn["counts"]) == 3003
    mean, deviation = values.mean().item(), values.std(correction=0).item()
    assert drawn["low"] == pytest.approx(mean - 4 * deviation, rel=1e-3)
    assert drawn["high"] == pytest.approx(mean + 4 * deviation, rel=1e-3)
    inner = watching.histogram(torch.linspace(-1, 1, 30_001))
    assert inner
    assert (inner["low"], inner["high"]) == (-1, 1)
    reference, _ = np.histogram(np.linspace(-1, 1, 30_001), watching.BINS, (-1, 1))
    assert np.abs(np.subtract(inner["counts"], reference)).max() <= 1


@pytest.mark.parametrize("value", [0.0, 2.5])
def test_values_that_are_all_alike_are_in_one_bin(value: float) -> None:
    drawn = watching.histogram(torch.full((7,), value))
    assert drawn
    assert drawn["low"] == drawn["high"] == value
    assert drawn["counts"] == [7] + [0] * (watching.BINS - 1)


def test_what_is_not_finite_has_no_histogram_and_no_norm() -> None:
    layer = nn.Linear(2, 2)
    with torch.no_grad():
        layer.weight[0, 0] = torch.inf
    (row,) = watching.layer_rows(nn.Sequential(layer))
    assert row["weights"] is None
    assert row["weight_norm"] is None


# Units ----------------------------------------------------------------------------------------------------------------


class Twice(nn.Module):
    """Uses one activation twice."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 4, 1)
        self.relu = nn.ReLU(inplace=True)
        self.linear = nn.Linear(4, 5)

    def forward(self, images: Tensor) -> Tensor:
        maps = self.relu(self.conv(images))
        return self.relu(self.linear(maps.mean((2, 3))))


def test_a_unit_is_dead_that_no_image_makes_active_in_any_use_of_its_layer() -> None:
    model = Twice().eval()
    with torch.no_grad():
        model.conv.weight.zero_()
        model.conv.bias.copy_(torch.tensor([-1.0, -1.0, 1.0, 0.0]))
        # Channel 1 only sees what one of the batches holds.
        model.conv.weight[1, 0] = 2.0
        model.linear.weight.zero_()
        model.linear.bias.copy_(torch.tensor([1.0, 1.0, 1.0, 1.0, -1.0]))
    batches = [torch.zeros(2, 3, 8, 8), torch.ones(3, 3, 8, 8)]
    _, other_way_round = watching.probe(model, batches[::-1], CPU)  # type: ignore[arg-type]
    probabilities, rows = watching.probe(model, batches, CPU)  # type: ignore[arg-type]
    assert probabilities.shape == (5, 5)
    assert rows == [
        {"name": "relu", "rule": "zero", "units": 4, "dead": 2},
        {"name": "relu (2)", "rule": "zero", "units": 5, "dead": 1},
    ]
    assert other_way_round == rows


def test_units_of_tokens_are_their_channels_and_other_nonlinearities_say_their_rule() -> None:
    model = named(flatten=nn.Flatten(2), gelu=nn.GELU(), pool=nn.AdaptiveAvgPool1d(1), out=nn.Flatten()).eval()
    _, rows = watching.probe(model, [-torch.ones(2, 3, 4, 4)], CPU)  # type: ignore[arg-type]
    assert rows == [{"name": "gelu", "rule": "never above zero", "units": 16, "dead": 16}]


@pytest.mark.parametrize("name", REGISTRY)
def test_every_network_can_be_looked_at_and_its_line_stays_small(name: str) -> None:
    model = create(name, 10, pretrained=False).eval()
    for parameter in model.parameters():
        parameter.grad = torch.zeros_like(parameter)
    probabilities, dead = watching.probe(model, [torch.zeros(1, 3, 32, 32)], CPU)
    assert probabilities.sum().item() == pytest.approx(1)
    assert dead, "no nonlinearity is known"
    rows = watching.layer_rows(model)
    assert rows[-1]["name"] == "head"
    look = Inspected(
        epoch=1,
        step=1,
        class_accuracy=[0.1234] * 10,
        layers=rows,
        dead=dead,
        samples=watching.sample_rows(
            torch.full((12, 10), 0.1), torch.zeros(12, dtype=torch.long), range(40_000, 40_012)
        ),
        seconds=dict.fromkeys(watching.PARTS, 123.4567),
        timed_steps=1000,
        memory=2**31,
        device_memory=None,
    )
    assert len(to_line(look)) < 14_000


# Time and memory ------------------------------------------------------------------------------------------------------


def test_the_parts_of_the_steps_add_up_to_the_time_of_training(tiny: Tiny, data: DataSet) -> None:
    watched = begin(tiny, data, model="guide_cnn", width=0.25, epochs=3)
    events = list(watched.events())
    looks = looks_of(iter(events))
    seconds = [event.seconds for event in events if isinstance(event, Epoch)]
    for look, total in zip(looks[1:], np.diff(seconds), strict=True):
        assert list(look.seconds) == list(watching.PARTS)
        assert look.timed_steps == watched.steps_per_epoch
        assert 0.8 * total < sum(look.seconds.values()) <= 1.01 * total


@pytest.mark.parametrize("part", ["data", "forward", "step"])
def test_time_is_counted_to_the_part_that_takes_it(
    tiny: Tiny, data: DataSet, monkeypatch: pytest.MonkeyPatch, part: str
) -> None:
    watched = begin(tiny, data)

    def slowly(action: Any) -> Any:
        def slow(*args: Any, **kwargs: Any) -> Any:
            time.sleep(0.01)
            return action(*args, **kwargs)

        return slow

    if part == "data":
        monkeypatch.setattr(training, "augment", slowly(training.augment))
    elif part == "forward":
        monkeypatch.setattr(watched.model, "embed", slowly(watched.model.embed))
    else:
        monkeypatch.setattr(watched.optimizer, "step", slowly(watched.optimizer.step))
    (look,) = looks_of(watched.events())
    assert max(look.seconds, key=lambda name: look.seconds[name]) == part
    assert look.seconds[part] >= 0.01 * watched.steps_per_epoch


def test_beside_a_device_only_some_steps_are_timed_and_the_first_never() -> None:
    stopwatch = watching.Stopwatch(torch.device("meta"))
    for step in range(102):
        stopwatch.begin(step)
        stopwatch.lap("data")
    assert stopwatch.timed_steps == 3
    assert stopwatch.seconds["data"] > 0


def test_memory_is_the_most_the_process_has_held() -> None:
    before, on_device = watching.memory(torch.device("cpu"))
    block = np.ones(60_000_000, np.uint8)
    after, _ = watching.memory(torch.device("cpu"))
    assert on_device is None
    assert before > 50_000_000
    assert after >= before
    assert block.sum() == 60_000_000


# Where it is kept -----------------------------------------------------------------------------------------------------


def test_a_run_keeps_a_look_for_each_epoch_and_a_fork_begins_with_its_parents(tiny: Tiny, trained_run: Run) -> None:
    assert [look.epoch for look in trained_run.inspections()] == [1, 2]
    child = work(create_run(tiny_config(tiny, epochs=3), trained_run.path.parent, parent=trained_run), tiny.cache)
    assert [look.epoch for look in child.inspections()] == [1, 2, 3]
    assert child.inspections()[:2] == trained_run.inspections()


def test_of_an_epoch_that_is_repeated_the_later_look_counts(trained_run: Run) -> None:
    first, second = trained_run.inspections()
    trained_run.append(dataclasses.replace(second, memory=2))
    assert [look.memory for look in trained_run.inspections()] == [first.memory, 2]
    trained_run.append(dataclasses.replace(trained_run.start, step=first.step))
    assert [look.epoch for look in trained_run.inspections()] == [1]
    trained_run.append(dataclasses.replace(second, memory=1))
    assert [look.memory for look in trained_run.inspections()][1:] == [1]


def test_items_are_spread_with_first_and_last() -> None:
    assert watching.spread(range(100), 4) == [0, 33, 66, 99]
    assert watching.spread([1, 2], 4) == [1, 2]
