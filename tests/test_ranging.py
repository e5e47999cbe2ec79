"""An LR range test takes the very steps of a training, at growing rates, and leaves everything as it was."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
import torch

from cifar_core import job, ranging
from cifar_core.compute import choose
from cifar_core.datasets import open_cached
from cifar_core.events import Epoch, TaskProgress, Tried
from cifar_core.models import create, initialise
from cifar_core.runs import Run, WorkFolder, create_run, write_whole
from cifar_core.suggestions import rates, suggestions, tried
from cifar_core.training import Training, material
from tests.conftest import Tiny, tiny_config, work

CHANCE = {
    "model": "guide_cnn_optimised",
    "width": 0.125,
    "crop_padding": 2,
    "rotation": 5.0,
    "mixup": 0.4,
    "clip_norm": 1,
}


def made(kind: type[Training], tiny: Tiny, **settings: Any) -> Any:
    config = tiny_config(tiny, **settings)
    torch.manual_seed(config.seed)
    model = create(config.model, 3, width=config.width, dropout=config.dropout)
    initialise(model, config.initialisation)
    compute = choose(config.device, config.precision)
    return kind(config, model, material(config, open_cached(tiny.info.id, tiny.cache), compute.device), compute)


def do(folder: WorkFolder, task: dict[str, Any], cache: Path) -> Iterator[Any]:
    with folder.held():
        write_whole(folder.path / "task.json", json.dumps(task).encode())
        yield from job.execute_task(folder, cache)


@pytest.mark.parametrize("optimizer", ["sgd", "adam", "muon"])
@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
def test_at_one_rate_it_is_the_training_bit_for_bit(
    tiny: Tiny, monkeypatch: pytest.MonkeyPatch, optimizer: str, precision: str
) -> None:
    """Two epochs, as a training with a constant rate does them."""
    settings = {**CHANCE, "optimizer": optimizer, "precision": precision, "epochs": 2}
    monkeypatch.setattr(ranging, "rates", lambda config: (config.learning_rate, config.learning_rate))
    monkeypatch.setattr(ranging, "STEPS", 22)
    training, test = made(Training, tiny, **settings), made(ranging.RangeTest, tiny, **settings)
    for _ in training.events():
        pass
    assert len(list(test.points())) == 22
    ours, theirs = test.model.state_dict(), training.model.state_dict()
    # Validation leaves weights alone.
    assert all(torch.equal(ours[name], theirs[name]) for name in theirs)


def test_the_rate_grows_by_one_factor_and_the_losses_are_those_of_the_batches(tiny: Tiny) -> None:
    test = made(ranging.RangeTest, tiny)
    points = list(test.points())
    low, high = rates(test.config)
    asked = [point.learning_rate for point in points]
    assert asked[0] == low
    ratios = [later / earlier for earlier, later in pairwise(asked)]
    assert ratios == pytest.approx([(high / low) ** (1 / (ranging.STEPS - 1))] * len(ratios))
    # At the smallest rates nothing is learned yet: three classes by chance.
    assert points[0].loss == pytest.approx(1.1, abs=0.3)
    mean = 0.0
    for count, point in enumerate(points, 1):
        mean = ranging.SMOOTHING * mean + (1 - ranging.SMOOTHING) * point.loss
        assert point.smoothed == pytest.approx(mean / (1 - ranging.SMOOTHING**count))


def test_it_ends_where_the_loss_breaks(tiny: Tiny) -> None:
    points = list(made(ranging.RangeTest, tiny, optimizer="sgd").points())
    assert len(points) < ranging.STEPS
    lowest = math.inf
    for point in points[:-1]:
        lowest = min(lowest, point.smoothed)
        assert point.smoothed <= ranging.BROKEN * lowest


def test_the_rate_of_the_steepest_fall_learns(tiny: Tiny) -> None:
    found = {one.name: one.learning_rate for one in suggestions(list(made(ranging.RangeTest, tiny).points()))}
    training = made(Training, tiny, epochs=3, learning_rate=found["steepest"])
    losses = [event.train_loss for event in training.events() if isinstance(event, Epoch)]
    assert losses[-1] < 0.8 < losses[0], (found, losses)


@pytest.mark.parametrize("optimizer", ["rmsprop", "adagrad", "muon"])
@pytest.mark.parametrize("fixed_norm", [False, True])
def test_every_optimiser_is_tested_within_its_own_rates(tiny: Tiny, optimizer: str, fixed_norm: bool) -> None:
    test = made(
        ranging.RangeTest, tiny, model="guide_cnn_optimised", width=0.125, optimizer=optimizer, fixed_norm=fixed_norm
    )
    points = list(test.points())
    assert len(points) > 50
    assert min(point.smoothed for point in points) < 0.97 * points[0].smoothed


def test_a_fork_is_tested_from_its_weights_which_stay_as_they_are(tiny: Tiny, make_run: Any, tmp_path: Path) -> None:
    settings = {**CHANCE, "epochs": 2, "mixup": 0.0}
    parent = make_run(**settings)
    before = {path.name: path.read_bytes() for path in (parent.path / "checkpoints").iterdir()}
    config = tiny_config(tiny, **{**settings, "epochs": 4})
    folder, task = job.range_task(config, tmp_path, tiny.info, parent, "last")
    said = list(do(folder, task, tiny.cache))
    assert folder.state == "finished", folder.last_end
    points = tried(folder.events())
    assert [event for event in said if isinstance(event, Tried)] == points
    assert any(isinstance(event, TaskProgress) and event.total == ranging.STEPS for event in said)
    fresh = list(made(ranging.RangeTest, tiny, **settings).points())
    assert sum(p.loss for p in points[:10]) < sum(p.loss for p in fresh[:10])
    assert {path.name: path.read_bytes() for path in (parent.path / "checkpoints").iterdir()} == before
    # And what is trained afterwards is what would have been trained anyway.
    runs = parent.path.parent
    forks = [work(create_run(config, runs, parent=parent), tiny.cache)]
    list(do(folder, task, tiny.cache))
    forks.append(work(create_run(config, runs, parent=parent), tiny.cache))
    one, other = ([epoch.validation_loss for epoch in fork.epochs] for fork in forks)
    assert one == other


def test_what_does_not_matter_to_the_test_does_not_repeat_it(tiny: Tiny, tmp_path: Path, trained_run: Run) -> None:
    def place(**settings: Any) -> Path:
        return job.range_task(tiny_config(tiny, **settings), tmp_path, tiny.info)[0].path

    usual = place()
    for same in ({"learning_rate": 0.5}, {"schedule": "cosine"}, {"epochs": 9}, {"stop_patience": 3}, {"ema": 0.9}):
        assert place(**same) == usual, same
    for other in ({"optimizer": "sgd"}, {"batch_size": 32}, {"seed": 1}, {"flip": 0.0}, {"classes": "circle,square"}):
        assert place(**other) != usual, other
    assert job.range_task(tiny_config(tiny), tmp_path, tiny.info, trained_run, "last")[0].path != usual


def test_it_can_be_stopped_and_done_again(tiny: Tiny, tmp_path: Path) -> None:
    folder, task = job.range_task(tiny_config(tiny), tmp_path, tiny.info)
    for event in do(folder, task, tiny.cache):
        if isinstance(event, Tried):
            folder.request("stop")
    assert folder.state == "stopped"
    assert len(tried(folder.events())) < ranging.STEPS
    folder.withdraw("stop")
    list(do(folder, task, tiny.cache))
    assert folder.state == "finished"
    points = tried(folder.events())
    assert points[0].learning_rate == rates(tiny_config(tiny))[0]
