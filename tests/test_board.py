"""What a run writes for TensorBoard is what TensorBoard's own reader finds, after a resume and a kill too."""

from __future__ import annotations

import io
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from cifar_core import job
from cifar_core.board import KERNELS, kernel_grid
from cifar_core.events import Epoch
from cifar_core.networks import load_network
from cifar_core.runs import Run, create_run
from tests.conftest import ROOT, Tiny, tiny_config, work

TAGS = {
    "loss/training": "train_loss",
    "loss/validation": "validation_loss",
    "accuracy/training": "train_accuracy",
    "accuracy/validation": "validation_accuracy",
    "learning_rate": "learning_rate",
    "images_per_second": "images_per_second",
}


def read(run: Run) -> Any:
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    board = EventAccumulator(str(run.path / "tensorboard"))
    board.Reload()
    return board


def check(run: Run) -> None:
    """TensorBoard's reader finds each epoch of the run once, with its values."""
    board = read(run)
    assert set(board.Tags()["scalars"]) == set(TAGS)
    for tag, name in TAGS.items():
        found = [(scalar.step, scalar.wall_time, scalar.value) for scalar in board.Scalars(tag)]
        assert [step for step, _, _ in found] == [epoch.step for epoch in run.epochs], tag
        for (_, time, value), epoch in zip(found, run.epochs, strict=True):
            assert value == pytest.approx(getattr(epoch, name), rel=1e-6)
            assert time == epoch.time


def begun(tiny: Tiny, runs_root: Path, epochs: int = 3) -> Run:
    return create_run(tiny_config(tiny, epochs=epochs, tensorboard=True), runs_root)


def test_scalars_and_kernels_are_those_of_the_run(tiny: Tiny, runs_root: Path) -> None:
    run = work(begun(tiny, runs_root, epochs=2), tiny.cache)
    check(run)
    pictures = read(run).Images(KERNELS)
    assert [picture.step for picture in pictures] == [epoch.step for epoch in run.epochs]
    shown = np.asarray(Image.open(io.BytesIO(pictures[-1].encoded_image_string)))
    weights = load_network(run.checkpoints()["last"]).model.body[0].weight.numpy()
    assert np.array_equal(shown, kernel_grid(weights))


def test_without_the_setting_nothing_is_written_or_imported(finished_run: Run) -> None:
    assert not finished_run.config.tensorboard
    assert not (finished_run.path / "tensorboard").exists()
    code = "import sys, cifar_core.job, cifar_core.board, cifar_core.training; print('tensorboardX' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"


def test_a_resumed_run_has_each_epoch_once(tiny: Tiny, runs_root: Path) -> None:
    run = begun(tiny, runs_root)
    with run.held():
        for event in job.execute(run, tiny.cache):
            if isinstance(event, Epoch):
                run.request("stop")
    assert run.state == "stopped"
    run.withdraw("stop")
    work(run, tiny.cache)
    check(run)
    assert len(list((run.path / "tensorboard").iterdir())) == 2


@pytest.mark.parametrize("torn", [0, 5, 400])
def test_a_worker_killed_before_its_checkpoint_leaves_no_epoch_twice(
    tiny: Tiny, runs_root: Path, monkeypatch: pytest.MonkeyPatch, torn: int
) -> None:
    """Epoch 2 is in the file, or half of it is, but in no checkpoint; it is done again."""
    run = begun(tiny, runs_root)
    with run.held(), monkeypatch.context() as patch:
        for event in job.execute(run, tiny.cache):
            if isinstance(event, Epoch) and event.epoch == 1:
                patch.setattr(job, "_keep", kill)
    assert "killed" in run.last_end.message
    (file,) = (run.path / "tensorboard").iterdir()
    if torn:
        file.write_bytes(file.read_bytes()[:-torn])
    work(run, tiny.cache)
    assert run.state == "finished"
    check(run)


def kill(*_: Any) -> None:
    raise RuntimeError("killed")


def test_a_run_that_trains_on_goes_on_in_its_files(tiny: Tiny, runs_root: Path, make_run: Callable[..., Run]) -> None:
    run = make_run(epochs=1, tensorboard=True)
    run.request("change", {"epochs": 3})
    work(run, tiny.cache)
    check(run)


def test_filters_are_drawn_in_order_and_colour() -> None:
    kernels = np.zeros((5, 3, 2, 2), np.float32)
    kernels[1, 0, 0, 1] = 1.0
    kernels[4] = -1.0
    grid = kernel_grid(kernels)
    assert grid.shape == (2 * 17 + 1, 3 * 17 + 1, 3)
    assert grid[0, 0].tolist() == [128, 128, 128]
    assert grid[1, 18 + 8].tolist() == [255, 128, 128], "the second filter's upper right weight is red"
    assert grid[18, 18].tolist() == [0, 0, 0], "the fifth filter, in the second row"
    assert grid[18, 35].tolist() == [128, 128, 128], "there is no sixth"
