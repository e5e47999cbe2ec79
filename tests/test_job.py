"""Runs and tasks as they are really done: in processes of their own, which are stopped, killed and started again."""

from __future__ import annotations

import dataclasses
import json
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from urllib.error import URLError

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor

from cifar_core import compute, job, networks
from cifar_core.datasets import open_cached, open_dataset
from cifar_core.evaluation import Evaluation
from cifar_core.events import (
    Boot,
    Changed,
    End,
    Epoch,
    Event,
    Inspected,
    Paused,
    Progress,
    Resumed,
    Start,
    TaskProgress,
    Waiting,
    to_line,
)
from cifar_core.features import Mapping
from cifar_core.networks import load_network, load_tensors, save_tensors
from cifar_core.runs import Held, Run, WorkFolder, create_run, write_whole
from cifar_core.sources import Progress as Read
from cifar_core.subsets import split_validation
from tests.conftest import ROOT, Tiny, start_event, tiny_config, work
from tests.shapes import drawing

PATIENCE_SECONDS = 120.0
"""Far more than anything here takes on an idle machine."""

CHANCE = {
    "model": "guide_cnn_optimised",
    "width": 0.125,
    "crop_padding": 2,
    "rotation": 5.0,
    "cutout": 4,
    "optimizer": "adamw",
}
"""Settings with dropout, batch norm, augmentation and an optimiser with a memory."""


def until(wanted: Callable[[], object], what: str) -> None:
    limit = time.monotonic() + PATIENCE_SECONDS
    while not wanted():
        assert time.monotonic() < limit, f"waited in vain until {what}"
        time.sleep(0.01)


def until_state(run: WorkFolder, *states: str) -> None:
    until(lambda: run.state in states, f"{run.path.name} is {' or '.join(states)}; it is {run.state}\n{run.log_tail()}")


def until_gone(run: WorkFolder) -> None:
    until(lambda: not run.alive, f"the worker of {run.path.name} has exited")


def worker_of(run: WorkFolder) -> int:
    """The process id of the worker that has begun last."""
    return next(event.pid for event in reversed(run.events()) if isinstance(event, Boot))


def exists(process: int) -> bool:
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    return True


def step_of(run: Run) -> int:
    return run.latest.step if run.latest else 0


def weights(run: Run, name: str = "last") -> dict[str, Tensor]:
    return load_tensors(run.checkpoints()[name])[0]


def same(one: dict[str, Tensor], other: dict[str, Tensor]) -> bool:
    return one.keys() == other.keys() and all(torch.equal(one[name], other[name]) for name in one)


def figures(run: Run) -> list[tuple[float, ...]]:
    """What the epochs say, but for times."""
    return [
        (e.epoch, e.step, e.train_loss, e.train_accuracy, e.validation_loss, e.validation_accuracy, e.best)
        for e in run.epochs
    ]


def is_one_sentence(message: str) -> bool:
    return "\n" not in message and message.endswith(".") and "Traceback" not in message and len(message) < 400


@pytest.fixture
def workers(runs_root: Path) -> Iterator[None]:
    """Ends what a failed test leaves running."""
    yield
    folders = [Run(path.parent) for path in runs_root.glob("*/config.json")]
    for folder in [*folders, *(WorkFolder(path) for path in runs_root.glob("*/tasks/*"))]:
        if folder.alive:
            folder.request("stop")
            limit = time.monotonic() + 10
            while folder.alive and time.monotonic() < limit:
                time.sleep(0.05)
            if folder.alive:
                os.kill(worker_of(folder), signal.SIGKILL)


# Detached workers ----------------------------------------------------------------------------------------------------


@pytest.mark.usefixtures("workers")
def test_a_started_run_finishes_by_itself_as_it_would_in_this_process(tiny: Tiny, runs_root: Path) -> None:
    config = tiny_config(tiny, epochs=2)
    run = job.start_run(config, runs_root, tiny.cache)
    assert run.state == "starting", "there is no moment at which a started run looks dead"
    until_state(run, "running", "finished")
    worker = worker_of(run)
    assert worker != os.getpid()
    until_state(run, "finished")
    until_gone(run)
    until(lambda: not exists(worker), "nothing is left of it in the process table")
    assert run.log_tail() == ""
    assert [epoch.epoch for epoch in run.epochs] == [1, 2]
    best = run.best
    assert best is not None
    assert run.last_end is not None
    assert run.last_end.message == (
        f"Finished 2 epochs; best validation accuracy {best.validation_accuracy:.2%} in epoch {best.epoch}."
    )
    here = work(create_run(config, runs_root), tiny.cache)
    assert figures(run) == figures(here)
    assert same(weights(run), weights(here))


START = """
import signal, sys, time
from pathlib import Path
from cifar_core import job
from cifar_core.config import TrainConfig
# Ignored where the tests themselves run in the background of a shell.
signal.signal(signal.SIGINT, signal.default_int_handler)
print(job.start_run(TrainConfig.from_json(sys.argv[1]), Path(sys.argv[2]), Path(sys.argv[3])).path, flush=True)
time.sleep(600)
"""


@pytest.mark.usefixtures("workers")
def test_a_run_outlives_who_started_it_and_does_what_it_is_asked(tiny: Tiny, runs_root: Path) -> None:
    config = tiny_config(tiny, epochs=1000)
    starter = subprocess.Popen(
        [sys.executable, "-c", START, config.to_json(), runs_root, tiny.cache],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    try:
        assert starter.stdout is not None
        run = Run(Path(starter.stdout.readline().strip()))
        assert run.alive
        # What Ctrl-C in a terminal does: everything in the terminal's process group is interrupted.
        os.killpg(starter.pid, signal.SIGINT)
        assert starter.wait(PATIENCE_SECONDS) != 0
    finally:
        starter.kill()
        starter.communicate()
    until(lambda: run.epochs, "it has done an epoch")
    assert run.state == "running"
    with pytest.raises(Held, match="is already being worked on by another process"):
        job.launch(run, tiny.cache)

    run.request("pause")
    until_state(run, "paused")
    step, events = step_of(run), len(run.events())
    assert load_tensors(run.checkpoints()["last"])[1]["step"] == step, "a paused run can be looked at as it is"
    time.sleep(0.6)
    assert (run.state, step_of(run), len(run.events())) == ("paused", step, events)

    run.withdraw("pause")
    until(lambda: step_of(run) > step, "it goes on")
    assert run.state == "running"

    os.kill(worker_of(run), signal.SIGTERM)
    until_state(run, "stopped")
    until_gone(run)
    end = run.last_end
    assert end is not None
    assert end.message == f"Stopped after {end.epoch:.2f} epochs; the weights are kept."
    assert load_tensors(run.checkpoints()["last"])[1]["step"] == end.step > step
    network = load_network(run.checkpoints()["last"])
    assert network.classes == tiny.info.classes
    assert network.probabilities(open_cached(tiny.info.id, tiny.cache).test.images).shape == (60, 3)


@pytest.mark.usefixtures("workers")
def test_a_run_that_was_stopped_and_killed_ends_with_the_same_weights_bit_for_bit(tiny: Tiny, runs_root: Path) -> None:
    config = tiny_config(tiny, epochs=24, **CHANCE)
    run = job.start_run(config, runs_root, tiny.cache)
    until(lambda: len(run.epochs) >= 2, "it has done two epochs")
    run.request("stop")
    until_state(run, "stopped")

    job.launch(run, tiny.cache)
    assert run.state == "starting", "what the last worker said does not count any more"
    assert not run.requested("stop")
    stopped_at = load_tensors(run.checkpoints()["last"])[1]["step"]
    until(lambda: step_of(run) > stopped_at + 2 * 11 and run.state == "running", "it has gone on")
    os.kill(worker_of(run), signal.SIGKILL)
    until_gone(run)
    assert run.state == "interrupted"
    assert 0 < len(run.epochs) < 24

    job.launch(run, tiny.cache)
    until_state(run, "finished")
    starts = [event for event in run.events() if isinstance(event, Start)]
    assert len(starts) == 3
    assert starts[1].step == stopped_at
    assert starts[2].step > stopped_at

    whole = work(create_run(config, runs_root), tiny.cache)
    assert figures(run) == figures(whole)
    assert same(weights(run), weights(whole))
    assert same(weights(run, "best"), weights(whole, "best"))
    epochs = [row["epoch"] for row in run.history() if row["whole_epoch"]]
    assert epochs == list(range(1, 25))


def test_a_stop_waits_for_what_an_epoch_came_to(tiny: Tiny, runs_root: Path) -> None:
    run = create_run(tiny_config(tiny, epochs=3), runs_root)
    with run.held():
        for event in job.execute(run, tiny.cache):
            if isinstance(event, Inspected):
                run.request("stop")
    assert [event.kind for event in run.events()][-3:] == ["inspected", "epoch", "end"]
    assert run.state == "stopped"
    assert len(run.epochs) == 1


@pytest.mark.usefixtures("workers")
def test_of_two_started_at_once_one_waits_for_the_other(tiny: Tiny, runs_root: Path) -> None:
    config = tiny_config(tiny, epochs=1000)
    runs = [job.start_run(config, runs_root, tiny.cache) for _ in range(2)]
    until(lambda: {run.state for run in runs} == {"running", "waiting"}, "one runs and the other waits")
    first, second = sorted(runs, key=lambda run: run.state)
    until(lambda: first.epochs, "the first has done an epoch")
    assert second.state == "waiting"
    assert second.start is None
    first.request("stop")
    until_state(second, "running")
    second.request("stop")
    until_state(second, "stopped")
    assert first.last_end is not None
    assert second.start is not None
    assert first.last_end.time <= second.start.time
    assert [type(event) for event in second.events()[-1:]] == [End]
    assert sum(isinstance(event, Waiting) for event in second.events()) == 1


@pytest.mark.usefixtures("workers")
def test_tasks_are_done_in_the_background_and_found_again(tiny: Tiny, trained_run: Run) -> None:
    data = open_cached(tiny.info.id, tiny.cache)
    jobs = [
        job.evaluation_task(trained_run, "best", tiny.info),
        job.map_task(trained_run, "best", tiny.info, Mapping(40, 5.0)),
    ]
    for folder, task in jobs:
        job.start_task(folder, task, tiny.cache)
        job.start_task(folder, task, tiny.cache)  # What is under way is not started twice.
    for folder, _ in jobs:
        until_state(folder, "finished", "failed")
        assert folder.last_end is not None
        assert (folder.state, folder.last_end.message) == ("finished", "Done.")
        assert folder.log_tail() == ""
        until_gone(folder)

    evaluation = Evaluation.load(jobs[0][0].path / "evaluation.npz")
    network = load_network(trained_run.checkpoints()["best"])
    assert evaluation.labels.tolist() == data.test.labels.tolist()
    np.testing.assert_allclose(evaluation.probabilities, network.probabilities(data.test.images), atol=1e-5)
    assert evaluation.facts["run"] == trained_run.id
    assert evaluation.facts["checkpoint"] == "best"
    assert evaluation.facts["epoch"] == trained_run.best.epoch if trained_run.best else None
    assert evaluation.facts["fingerprint"] == tiny.info.fingerprint
    assert evaluation.facts["split"] == "test"

    content = np.load(jobs[1][0].path / "map.npz")
    chosen = content["indices"]
    assert content["points"].shape == (1, 40, 2)
    assert np.isfinite(content["points"]).all()
    assert len(set(chosen.tolist())) == 40
    assert content["labels"].tolist() == data.test.labels[chosen].tolist()
    assert np.bincount(content["labels"]).tolist() in ([14, 13, 13], [13, 14, 13], [13, 13, 14])
    wanted = network.probabilities(data.test.images[chosen])
    assert content["predictions"][0].tolist() == wanted.argmax(1).tolist()
    np.testing.assert_allclose(content["confidences"][0], wanted.max(1).values, atol=1e-5)
    assert 0 < content["trustworthiness"][0] <= 1
    assert not (jobs[1][0].path / "forming.npz").exists()
    facts = json.loads(str(content["facts"]))
    assert facts["features"] == 3600
    assert facts["perplexity"] == 5.0
    assert facts["run"] == trained_run.id


# One run in this process, event by event -----------------------------------------------------------------------------


@pytest.fixture
def steps(monkeypatch: pytest.MonkeyPatch) -> None:
    """An event after each training step, and no long sleeps."""
    from cifar_core import training

    monkeypatch.setattr(training, "PROGRESS_SECONDS", 0.0)
    monkeypatch.setattr(job, "POLL_SECONDS", 0.01)


def advance(events: Iterator[Event], wanted: Callable[[Event], bool]) -> Event:
    for event in events:
        if wanted(event):
            return event
    raise AssertionError("There was no such event.")


def test_a_run_says_what_it_works_on(tiny: Tiny, make_run: Callable[..., Run]) -> None:
    run = make_run(validation_fraction=0.2, train_images=60)
    assert [type(event) for event in run.events()][:2] == [Boot, Start]
    start = run.start
    assert start is not None
    assert start.data_name == tiny.info.name
    assert start.data_fingerprint == tiny.info.fingerprint
    assert start.classes == tiny.info.classes
    assert (start.train_images, start.validation_images, start.steps_per_epoch) == (60, 36, 4)
    assert start.parameters == (3 * 9 + 1) * 16 + 3600 * 3 + 3
    assert (start.device, start.precision, start.step) == ("cpu", "float32", 0)
    assert start.versions["torch"] == str(torch.__version__)


def test_images_are_read_first_where_that_was_not_done(tiny: Tiny, runs_root: Path, tmp_path: Path) -> None:
    run = work(create_run(tiny_config(tiny), runs_root), tmp_path / "empty cache")
    kinds = [type(event) for event in run.events()]
    assert kinds[:2] == [Boot, TaskProgress]
    assert kinds.index(Start) > kinds.index(TaskProgress)
    assert run.state == "finished"


def test_checkpoints_say_what_they_are(finished_run: Run, tiny: Tiny) -> None:
    best_tensors, best = load_tensors(finished_run.checkpoints()["best"])
    last_tensors, last = load_tensors(finished_run.checkpoints()["last"])
    assert finished_run.best is not None
    for facts in (best, last):
        assert facts["run"] == finished_run.id
        assert facts["classes"] == list(tiny.info.classes)
        assert facts["mean"] == pytest.approx(list(tiny.info.mean))
        assert facts["data_fingerprint"] == tiny.info.fingerprint
    assert best["checkpoint"] == "best"
    assert best["epoch"] == finished_run.best.epoch
    assert best["validation_accuracy"] == finished_run.best.validation_accuracy
    assert (last["checkpoint"], last["epoch"], last["step"]) == ("last", 2, 22)
    assert last["validation_accuracy"] == finished_run.epochs[-1].validation_accuracy
    # A fork goes on from any checkpoint, so each holds what the optimiser remembers too.
    assert {name.split(".")[0] for name in best_tensors} == {"model", "optimizer", "sums"}
    assert any(name.startswith("optimizer.") for name in last_tensors)
    # The pages judge a network by what the training said of it.
    network = load_network(finished_run.checkpoints()["best"])
    data = open_cached(tiny.info.id, tiny.cache)
    _, held_out = split_validation(data.train.labels, 0.1, seed=0)
    right = network.probabilities(data.train.images[held_out]).argmax(1).numpy() == data.train.labels[held_out]
    assert right.mean() == pytest.approx(finished_run.best.validation_accuracy)


@pytest.mark.usefixtures("steps")
def test_the_best_weights_stay_when_later_ones_are_worse(tiny: Tiny, runs_root: Path) -> None:
    # Soon no validation image is told wrong, and no later epoch can be better.
    run = create_run(tiny_config(tiny, epochs=4, learning_rate=0.02), runs_root)
    kept: dict[int, dict[str, Tensor]] = {}
    with run.held():
        for event in job.execute(run, tiny.cache):
            if isinstance(event, Progress) and run.epochs:
                kept.setdefault(run.epochs[-1].epoch, weights(run, "last"))
    best = run.best
    assert best is not None
    assert best.epoch < 4
    model = {name: tensor for name, tensor in kept[best.epoch].items() if name.startswith("model.")}
    best_weights = weights(run, "best")
    assert same({name: best_weights[name] for name in model}, model)
    assert not same({name: weights(run)[name] for name in model}, model)


@pytest.mark.usefixtures("steps")
def test_stop_takes_effect_after_one_step_and_keeps_that_step(tiny: Tiny, runs_root: Path) -> None:
    config = tiny_config(tiny, epochs=3, **CHANCE)
    run = create_run(config, runs_root)
    with run.held():
        events = job.execute(run, tiny.cache)
        advance(events, lambda event: isinstance(event, Progress) and event.step == 14)
        run.request("stop")
        end = next(events)
        assert next(events, None) is None
    assert isinstance(end, End)
    assert (end.outcome, end.step, end.epoch) == ("stopped", 14, 14 / 11)
    assert end.message == "Stopped after 1.27 epochs; the weights are kept."
    assert load_tensors(run.checkpoints()["last"])[1]["step"] == 14
    assert load_tensors(run.checkpoints()["last"])[1]["epoch"] == 14 / 11
    assert load_tensors(run.checkpoints()["last"])[1]["validation_accuracy"] is None
    assert load_tensors(run.checkpoints()["best"])[1]["step"] == 11

    run.withdraw("stop")
    work(run, tiny.cache)
    whole = work(create_run(config, runs_root), tiny.cache)
    assert figures(run) == figures(whole)
    assert same(weights(run), weights(whole))


@pytest.mark.usefixtures("steps")
def test_a_worker_that_dies_between_two_words_loses_only_what_was_not_kept(tiny: Tiny, runs_root: Path) -> None:
    """Wherever it dies, the next one repeats the rest bit for bit."""
    config = tiny_config(tiny, epochs=3, **CHANCE)
    whole = work(create_run(config, runs_root), tiny.cache)
    run = create_run(config, runs_root)
    for words in (4, 15, 20, 9, 17):
        with run.held():
            events = job.execute(run, tiny.cache)
            for _ in range(words):
                next(events, None)
            del events
        assert run.state == "interrupted"
    work(run, tiny.cache)
    assert figures(run) == figures(whole)
    assert same(weights(run), weights(whole))
    assert [row["epoch"] for row in run.history()] == [row["epoch"] for row in whole.history()]
    assert [row["train_loss"] for row in run.history() if row["whole_epoch"]] == [e.train_loss for e in whole.epochs]


@pytest.mark.usefixtures("steps")
def test_pause_is_said_and_so_is_going_on(tiny: Tiny, runs_root: Path) -> None:
    run = create_run(tiny_config(tiny, epochs=2), runs_root)
    with run.held():
        events = job.execute(run, tiny.cache)
        advance(events, lambda event: isinstance(event, Progress) and event.step == 3)
        run.request("pause")
        assert isinstance(next(events), Paused)
        assert run.state == "paused"
        assert load_tensors(run.checkpoints()["last"])[1]["step"] == 3
        run.withdraw("pause")
        assert isinstance(next(events), Resumed)
        assert run.state == "running"
        advance(events, lambda event: isinstance(event, Progress) and event.step == 7)
        run.request("pause")
        assert isinstance(next(events), Paused)
        run.request("stop")
        end = next(events)
    assert isinstance(end, End)
    assert (end.outcome, end.step) == ("stopped", 7)
    assert run.state == "stopped"


@pytest.mark.usefixtures("steps")
def test_a_finished_run_that_is_done_again_stays_as_it_is(tiny: Tiny, trained_run: Run) -> None:
    before = weights(trained_run)
    work(trained_run, tiny.cache)
    assert trained_run.state == "finished"
    assert same(weights(trained_run), before)


@pytest.mark.usefixtures("steps")
def test_a_run_goes_on_in_the_number_format_it_began_with(
    tiny: Tiny, runs_root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Measuring which is faster may end otherwise today."""
    asked = []
    choose = compute.choose
    monkeypatch.setattr(compute, "choose", lambda *what: asked.append(what) or choose("cpu", "bfloat16"))
    run = create_run(tiny_config(tiny, epochs=2, device="auto", precision="auto"), runs_root)
    with run.held():
        advance(job.execute(run, tiny.cache), lambda event: isinstance(event, Epoch))
    work(run, tiny.cache)
    assert run.state == "finished"
    first, then = asked[:-1], asked[-1]
    assert set(first) == {("auto", "auto")}
    assert then == ("cpu", "bfloat16")


# The device ----------------------------------------------------------------------------------------------------------


@pytest.mark.usefixtures("steps")
def test_a_run_that_waits_can_be_stopped(tiny: Tiny, runs_root: Path) -> None:
    run = create_run(tiny_config(tiny), runs_root)
    device = runs_root / ".devices" / "cpu"
    device.mkdir(parents=True)
    with WorkFolder(device).held(), run.held():
        events = job.execute(run, tiny.cache)
        assert isinstance(next(events), Boot)
        waiting = next(events)
        assert isinstance(waiting, Waiting)
        assert waiting.device == "cpu"
        assert run.state == "waiting"
        run.request("stop")
        end = next(events)
        assert isinstance(end, End)
        assert (end.outcome, end.message) == ("stopped", "Stopped before it began.")
    assert run.checkpoints() == {}


def named(run: Run, run_id: str) -> Run:
    return Run(run.path.rename(run.path.with_name(run_id)))


@pytest.mark.usefixtures("steps")
@pytest.mark.parametrize(
    ("older", "device", "alive", "waits"),
    [
        ("20200101-000000-x-0000", "cpu", True, True),
        ("29990101-000000-x-0000", "cpu", True, False),
        ("20200101-000000-x-0000", "cuda", True, False),
        ("20200101-000000-x-0000", "cpu", False, False),
    ],
)
def test_who_came_first_goes_first(
    tiny: Tiny, runs_root: Path, older: str, device: str, alive: bool, waits: bool
) -> None:
    other = named(create_run(tiny_config(tiny), runs_root), older)
    other.append(Boot(pid=1, host="elsewhere"))
    other.append(Waiting(device=device))
    run = create_run(tiny_config(tiny), runs_root)
    with run.held():
        events = job.execute(run, tiny.cache)
        next(events)
        if alive:
            with other.held():
                assert isinstance(next(events), Waiting) == waits
                other.append(start_event(tiny))
        rest = [type(event) for event in events]
    assert rest[-1] is End
    assert run.state == "finished"


def test_the_device_is_free_after_any_end(tiny: Tiny, make_run: Callable[..., Run]) -> None:
    assert make_run().state == "finished"
    assert make_run(data="/nowhere").state == "failed"
    again = make_run()
    assert again.state == "finished"
    assert not any(isinstance(event, Waiting) for event in again.events())


# What goes wrong -----------------------------------------------------------------------------------------------------


def failure(run: Run) -> str:
    assert run.state == "failed"
    end = run.last_end
    assert end is not None
    assert is_one_sentence(end.message), end.message
    return end.message


def test_missing_images_are_one_sentence(make_run: Callable[..., Run], tmp_path: Path) -> None:
    run = make_run(data=str(tmp_path / "nowhere"))
    assert str(tmp_path / "nowhere") in failure(run)
    assert run.log_tail() == ""


def test_no_images_at_all_are_one_sentence(make_run: Callable[..., Run]) -> None:
    assert failure(make_run(data="")).startswith("The run names no data set; give its path with --data")


def test_more_training_images_than_there_are_is_one_sentence(make_run: Callable[..., Run]) -> None:
    assert failure(make_run(train_images=163)).startswith("train_images must be at most 162, ")


def test_weights_that_cannot_be_fetched_are_one_sentence(
    make_run: Callable[..., Run], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    def offline(*_: Any, **__: Any) -> None:
        raise URLError("Name or service not known")

    monkeypatch.setattr(torch.hub, "get_dir", lambda: str(tmp_path / "hub"))
    monkeypatch.setattr(torch.hub, "download_url_to_file", offline)
    run = make_run(model="resnet18_transfer")
    message = failure(run)
    assert message.startswith("The ImageNet weights of ResNet-18 could not be fetched (Name or service not known); ")
    assert run.log_tail() == ""
    assert "Traceback" not in capfd.readouterr().err


def interrupted_copy(run: Run) -> Run:
    run.append(Boot(pid=1, host="elsewhere"))
    assert run.state == "interrupted"
    return run


def test_a_damaged_checkpoint_is_one_sentence(tiny: Tiny, trained_run: Run) -> None:
    for file in trained_run.restorable():
        file.write_bytes(file.read_bytes()[:1000])
    assert str(trained_run.checkpoints()["last"]) in failure(work(interrupted_copy(trained_run), tiny.cache))


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda run: without_counters(run.checkpoints()["last"]), "it has no 'step'"),
        (lambda run: rewrite(run, optimizer="sgd"), "its steps are of another optimiser"),
        (lambda run: rewrite(run, model="guide_cnn"), "its weights are of another model"),
    ],
)
def test_a_checkpoint_that_does_not_fit_is_one_sentence(
    tiny: Tiny, trained_run: Run, change: Callable[[Run], None], words: str
) -> None:
    for file in trained_run.restorable()[1:]:
        file.unlink()
    change(trained_run)
    message = failure(work(interrupted_copy(trained_run), tiny.cache))
    assert message == f"The checkpoint does not fit the settings of the run: {words}."


def without_counters(file: Path) -> None:
    """Leave only the network in a checkpoint."""
    tensors, metadata = load_tensors(file)
    del metadata["training"]
    save_tensors(file, tensors, metadata)


def rewrite(run: Run, **changes: Any) -> None:
    file = run.path / "config.json"
    file.write_text(json.dumps({**json.loads(file.read_text()), **changes}))


def test_damaged_settings_are_one_sentence(tiny: Tiny, trained_run: Run) -> None:
    rewrite(trained_run, epochs=0)
    assert failure(work(interrupted_copy(trained_run), tiny.cache)) == (
        f"The settings of run {trained_run.id} cannot be read: epochs must be at least 1, but is 0."
    )


def test_a_run_does_not_go_on_with_other_images(tiny: Tiny, trained_run: Run, tmp_path: Path) -> None:
    source = Path(shutil.copytree(tiny.source, tmp_path / "shapes"))
    Image.fromarray(drawing("circle", np.random.default_rng(9))).save(source / "train" / "circle" / "000.png")
    rewrite(trained_run, data=str(source))
    message = failure(work(interrupted_copy(trained_run), tmp_path / "other cache"))
    assert message == f"The images at {source} have changed since the run began, so it cannot go on; start a new run."


def test_a_full_disk_is_one_sentence(
    make_run: Callable[..., Run], monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    def full(path: Path, *_: Any) -> None:
        raise OSError(28, "No space left on device", str(path))

    monkeypatch.setattr(networks, "save_tensors", full)
    run = make_run()
    assert failure(run) == (
        f"The disk is full: {run.path}/checkpoints/best.safetensors could not be written; free some space, then "
        "resume the run."
    )
    assert "Traceback" in run.log_tail(), "the log tells developers where it happened"
    assert "Traceback" not in capfd.readouterr().err, "whoever trains in a terminal is no developer"


def test_a_change_that_could_not_be_written_down_is_asked_for_again(
    tiny: Tiny, runs_root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    append = WorkFolder.append

    def full(folder: WorkFolder, event: Event) -> None:
        if isinstance(event, Changed):
            raise OSError(28, "No space left on device")
        append(folder, event)

    monkeypatch.setattr(WorkFolder, "append", full)
    run = create_run(tiny_config(tiny, epochs=2), runs_root)
    run.request("change", {"learning_rate": 0.001})
    assert failure(work(run, tiny.cache)).startswith("The disk is full")
    assert run.settings.learning_rate == 0.003
    monkeypatch.undo()
    assert work(run, tiny.cache).state == "finished"
    assert [change.values for change in run.changes] == [{"learning_rate": 0.001}]


def test_a_change_that_was_written_down_is_not_asked_for_again(
    tiny: Tiny, runs_root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A worker may be killed between saying it and taking the request away."""
    from cifar_core import training

    class Killed(BaseException):
        pass

    def die(*_: Any) -> None:
        raise Killed

    monkeypatch.setattr(training, "PROGRESS_SECONDS", 0.0)
    run = create_run(tiny_config(tiny, epochs=3), runs_root)
    with suppress(Killed), run.held():
        for event in job.execute(run, tiny.cache):
            if isinstance(event, Progress) and event.step == 15:
                run.request("change", {"learning_rate": 0.001})
                monkeypatch.setattr(Run, "fulfilled", die)
    monkeypatch.undo()
    assert run.state == "interrupted"
    (change,) = run.changes
    assert change.step == 15
    assert work(run, tiny.cache).state == "finished"
    assert [other.step for other in run.changes] == [15], "from the weights of step 11 on it is repeated where it was"
    assert not list((run.path / "control").glob(".*.begun"))


TWICE = """
import os, signal, sys
from pathlib import Path
from cifar_core import job, runs
written = runs.write_whole
def interrupted(path, content):
    if not again:
        again.append(1)
        os.kill(os.getpid(), signal.SIGTERM)
    written(path, content)
again = []
runs.write_whole = interrupted
job.stop_on_signals(runs.Run(Path(sys.argv[1])))
os.kill(os.getpid(), signal.SIGTERM)
"""


def test_a_second_signal_while_the_first_is_answered_is_no_wait_for_ever(run_in_state: Callable[..., Run]) -> None:
    run = run_in_state("running")
    done = subprocess.run([sys.executable, "-c", TWICE, run.path], cwd=ROOT, timeout=60, check=False)
    assert done.returncode == 0
    assert run.requested("stop")


def test_what_many_ask_at_once_is_all_asked(run_in_state: Callable[..., Run]) -> None:
    run = run_in_state("running")

    def ask(name: str) -> None:
        for number in range(20):
            run.request("change", {name: number})

    threads = [threading.Thread(target=ask, args=(f"setting {i}",)) for i in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert run.taken("change") == {f"setting {i}": 19 for i in range(8)}
    assert not list((run.path / "control").glob("*.tmp"))


@pytest.mark.parametrize("device", ["cuda", "cpu"])
def test_a_run_goes_on_where_it_began_and_says_why(trained_run: Run, tiny: Tiny, device: str) -> None:
    assert trained_run.start is not None
    reason = "CPU (2 threads): the only device; float32, the fastest here."
    run = interrupted_copy(trained_run)
    told = [
        dataclasses.replace(e, device=device, compute_reason=reason) if isinstance(e, Start) else e
        for e in run.events()
    ]
    write_whole(run.path / "events.jsonl", "".join(map(to_line, told)).encode())
    if device == "cuda":
        assert failure(work(run, tiny.cache)) == (
            "The run began on cuda in float32, which this machine does not offer, and goes on as it began; resume it "
            "where it ran, or fork it to train on with another device."
        )
    else:
        assert work(run, tiny.cache).state == "finished"
        assert [e.compute_reason for e in run.events() if isinstance(e, Start)] == [reason, reason]


def test_a_disk_too_full_for_the_last_word_leaves_an_interrupted_run(
    tiny: Tiny, runs_root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    append = WorkFolder.append

    def full(folder: WorkFolder, event: Event) -> None:
        if not isinstance(event, Boot | TaskProgress | Start):
            raise OSError(28, "No space left on device")
        append(folder, event)

    monkeypatch.setattr(WorkFolder, "append", full)
    run = create_run(tiny_config(tiny), runs_root)
    with run.held():
        *_, last = job.execute(run, tiny.cache)
    assert isinstance(last, End), "whoever works on it in this process still hears it"
    assert last.message == f"The disk is full: {run.path} could not be written; free some space, then resume the run."
    assert run.state == "interrupted"
    monkeypatch.undo()
    assert work(run, tiny.cache).state == "finished"


@pytest.mark.parametrize("what", ["a run", "a task"])
def test_what_a_killed_worker_left_half_written_is_removed_by_the_next(tiny: Tiny, trained_run: Run, what: str) -> None:
    folder, task = trained_run, {}
    if what == "a task":
        folder, task = job.evaluation_task(trained_run, "best", tiny.info)
        (folder.path / "task.json").write_text(json.dumps(task))
    else:
        trained_run.request("change", {"epochs": 3})
    (folder.path / "control").mkdir(exist_ok=True)
    left = [
        folder.path / ".task.json.123.tmp",
        folder.path / ".evaluation.npz.0123456789abcdef0123456789abcdef",
        folder.path / "control" / ".stop.123.tmp",
    ]
    if what == "a run":
        left.append(folder.path / "checkpoints" / ".last.safetensors.123.456.partial")
    for path in left:
        path.write_bytes(b"half")
    os.utime(left[2], (0, 0))
    now = folder.path / "control" / ".pause.123.tmp"
    now.write_bytes(b"being written by somebody else")
    other = folder.path / ".notes"
    other.write_text("Somebody's own.")
    with folder.held():
        for _ in job.execute(folder, tiny.cache) if isinstance(folder, Run) else job.execute_task(folder, tiny.cache):
            pass
    assert folder.state == "finished", folder.last_end
    assert [path for path in left if path.exists()] == []
    assert now.exists()
    assert other.exists()


def test_weights_trained_on_another_device_are_evaluated_on_this_one(tiny: Tiny, trained_run: Run) -> None:
    rewrite(trained_run, device="cuda")
    folder, task = job.evaluation_task(trained_run, "best", tiny.info)
    (folder.path / "task.json").write_text(json.dumps(task))
    with folder.held():
        *_, last = job.execute_task(folder, tiny.cache)
    assert isinstance(last, End)
    assert last.outcome == "finished", last.message


def test_what_nobody_foresaw_is_one_sentence_and_a_log(
    make_run: Callable[..., Run], monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    def odd(*_: Any) -> None:
        raise RuntimeError("An odd thing happened.\n  with details\n  and more")

    monkeypatch.setattr(compute, "prepare_device", odd)
    run = make_run()
    assert failure(run) == "RuntimeError: An odd thing happened. The worker's log says more."
    assert "and more" in run.log_tail()
    assert "Traceback" not in capfd.readouterr().err


@pytest.mark.parametrize("error", [torch.OutOfMemoryError, MemoryError])
def test_too_little_memory_is_one_sentence_with_advice(
    make_run: Callable[..., Run], monkeypatch: pytest.MonkeyPatch, error: type[Exception]
) -> None:
    def too_much(*_: Any) -> None:
        raise error("CUDA out of memory. Tried to allocate 2.00 GiB.")

    monkeypatch.setattr(compute, "prepare_device", too_much)
    assert failure(make_run()) == "There is not enough memory; choose a smaller batch size or width."


def test_divergence_is_one_sentence(make_run: Callable[..., Run], monkeypatch: pytest.MonkeyPatch) -> None:
    from cifar_core.training import Training

    monkeypatch.setattr(Training, "_learn", lambda self, *_: self._sums.fill_(float("nan")))
    assert failure(make_run()).startswith("The training loss stopped being a number in epoch 1: ")


# Tasks ---------------------------------------------------------------------------------------------------------------


def do(folder: WorkFolder, task: dict[str, Any], cache: Path) -> WorkFolder:
    (folder.path / "task.json").write_text(json.dumps(task))
    with folder.held():
        for _ in job.execute_task(folder, cache):
            pass
    return folder


def test_a_result_belongs_to_its_weights_and_images(tiny: Tiny, trained_run: Run, tmp_path: Path) -> None:
    def place(info: Any = tiny.info, checkpoint: str = "best") -> Path:
        return job.evaluation_task(trained_run, checkpoint, info)[0].path

    first = place()
    assert place() == first, "else it would be computed again"
    assert place(checkpoint="last") != first
    source = Path(shutil.copytree(tiny.source, tmp_path / "shapes"))
    (source / "test" / "circle" / "000.png").unlink()
    assert place(open_dataset(source, tmp_path / "cache").info) != first
    file = trained_run.checkpoints()["best"]
    copy = tmp_path / "copy"
    shutil.copyfile(file, copy)
    copy.replace(file)  # Written anew, as training does.
    assert place() != first


def test_a_map_belongs_to_its_settings(tiny: Tiny, trained_run: Run) -> None:
    def place(over: tuple[str, ...] = (), **settings: Any) -> Path:
        return job.map_task(trained_run, "best", tiny.info, Mapping(**{"images": 40, **settings}), over)[0].path

    others = [
        {"images": 41},
        {"perplexity": 6.0},
        {"seed": 1},
        {"split": "train"},
        {"layer": "conv"},
        {"dimensions": 3},
    ]
    others += [{"method": "UMAP"}, {"method": "UMAP", "neighbours": 9}, {"method": "PCA"}, {"over": ("best", "last")}]
    places = {place(), *(place(**settings) for settings in others)}
    assert len(places) == 1 + len(others)
    assert place() in places
    assert place(neighbours=9) == place(), "t-SNE knows no such setting"


def test_a_task_can_be_stopped_and_leaves_no_half_result(tiny: Tiny, trained_run: Run) -> None:
    folder, task = job.evaluation_task(trained_run, "best", tiny.info)
    folder.request("stop")
    do(folder, task, tiny.cache)
    assert folder.state == "stopped"
    assert not (folder.path / "evaluation.npz").exists()
    folder.withdraw("stop")
    do(folder, task, tiny.cache)
    assert folder.state == "finished"
    assert len(Evaluation.load(folder.path / "evaluation.npz")) == 60


@pytest.mark.usefixtures("workers")
def test_a_long_task_in_the_background_can_be_stopped(tiny: Tiny, trained_run: Run) -> None:
    folder, task = job.map_task(trained_run, "best", tiny.info, Mapping(60, 5.0))
    job.start_task(folder, task, tiny.cache)
    assert folder.state == "starting"
    folder.request("stop")
    until_state(folder, "stopped", "finished", "failed")
    until_gone(folder)
    assert folder.state == "stopped"
    assert not (folder.path / "map.npz").exists()


def test_starting_what_is_under_way_does_nothing(tiny: Tiny, trained_run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    folder, task = job.evaluation_task(trained_run, "best", tiny.info)
    monkeypatch.setattr(subprocess, "Popen", lambda *_, **__: pytest.fail("a second worker was started"))
    with folder.held():
        job.start_task(folder, task, tiny.cache)
        with pytest.raises(Held):
            job.launch(folder, tiny.cache)


def test_a_worker_that_has_said_its_last_word_is_waited_for(
    tiny: Tiny, trained_run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Starting again at once must not fail because the last worker has not quite exited."""
    started = []

    def start(*what: Any, **_: Any) -> SimpleNamespace:
        started.append(what)
        return SimpleNamespace(wait=lambda: 0)

    monkeypatch.setattr(subprocess, "Popen", start)
    leaving = trained_run.held()
    leaving.__enter__()
    exiting = threading.Timer(0.5, leaving.__exit__, (None, None, None))
    exiting.start()
    job.launch(trained_run, tiny.cache)
    exiting.join()
    assert len(started) == 1


def test_a_worker_that_cannot_be_started_is_one_sentence(
    tiny: Tiny, runs_root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: Any, **__: Any) -> None:
        raise OSError(12, "Cannot allocate memory")

    monkeypatch.setattr(subprocess, "Popen", full)
    with pytest.raises(ValueError, match=r"^No worker can be started in .*: Cannot allocate memory\.$"):
        job.start_run(tiny_config(tiny), runs_root, tiny.cache)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"checkpoint": "other"}, "has no other checkpoint."),
        ({"data": "shapes-00000000"}, "There is no data set shapes-00000000 in "),
        ({"data": "../../etc"}, "is not the id of a data set"),
    ],
)
def test_a_task_that_cannot_be_done_is_one_sentence(
    tiny: Tiny, trained_run: Run, change: dict[str, str], words: str
) -> None:
    folder, task = job.evaluation_task(trained_run, "best", tiny.info)
    do(folder, {**task, **change}, tiny.cache)
    assert folder.state == "failed"
    assert folder.last_end is not None
    assert words in folder.last_end.message
    assert is_one_sentence(folder.last_end.message)


def test_images_of_other_classes_cannot_be_told_apart(tiny: Tiny, trained_run: Run, tmp_path: Path) -> None:
    source = Path(shutil.copytree(tiny.source, tmp_path / "others"))
    for split in ("train", "test"):
        (source / split / "circle").rename(source / split / "ring")
    cache = tmp_path / "cache"
    folder, task = job.evaluation_task(trained_run, "best", open_dataset(source, cache).info)
    do(folder, task, cache)
    assert folder.last_end is not None
    assert folder.last_end.message == (
        f"Run {trained_run.id} tells 3 classes (circle, square, stripes) apart, but the data set Images in others has "
        "3 classes (ring, square, stripes)."
    )


def test_a_data_set_is_read_by_a_task(tiny: Tiny, tmp_path: Path) -> None:
    folder, task = job.data_task(tmp_path / "data", str(tiny.source))
    assert job.data_task(tmp_path / "data", str(tiny.source)) == (folder, task)
    assert job.data_task(tmp_path / "data", "/elsewhere")[0] != folder
    do(folder, task, tmp_path / "cache")
    assert folder.state == "finished"
    said = [event for event in folder.events() if isinstance(event, TaskProgress)]
    assert (said[-1].done, said[-1].total) == (240, 240)
    assert open_cached(tiny.info.id, tmp_path / "cache").info.fingerprint == tiny.info.fingerprint


def test_a_download_without_a_connection_is_one_sentence(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def offline(*_: Any, **__: Any) -> None:
        raise URLError("Name or service not known")

    monkeypatch.setattr("urllib.request.urlopen", offline)
    folder, task = job.data_task(tmp_path / "data", None)
    do(folder, task, tmp_path / "cache")
    assert folder.state == "failed"
    assert folder.last_end is not None
    assert is_one_sentence(folder.last_end.message), folder.last_end.message
    assert folder.log_tail() == ""


def test_time_left_follows_from_the_pace_of_the_part_under_way(monkeypatch: pytest.MonkeyPatch) -> None:
    now = iter([0.0, 0.0, 2.0, 10.0, 11.0])
    monkeypatch.setattr(job.time, "monotonic", lambda: next(now))
    parts = [(0, 100, "reading"), (10, 100, "reading"), (5, 10, "writing"), (6, 10, "writing")]
    first, *rest = parts
    said = list(job._timed(iter([first, *rest])))
    assert [event.seconds_left for event in said[:1]] == [None]
    assert [(event.done, event.total, event.what) for event in said] == parts


def test_threads_of_a_worker_give_way_while_they_wait(monkeypatch: pytest.MonkeyPatch) -> None:
    """Else a training on all cores crawls as soon as anything else runs beside it; who sets it himself keeps that."""
    monkeypatch.delenv("GOMP_SPINCOUNT", raising=False)
    job.share_cores()
    assert 0 < int(os.environ["GOMP_SPINCOUNT"]) < 100_000
    monkeypatch.setenv("GOMP_SPINCOUNT", "5")
    job.share_cores()
    assert os.environ["GOMP_SPINCOUNT"] == "5"


def test_the_time_left_of_reading_stays_while_one_file_follows_another(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    clock = iter(range(100))
    steps = [Read(10 * place, 60, f"Reading file {place}") for place in range(6)]
    monkeypatch.setattr("cifar_core.datasets.prepare", lambda *_: iter(steps))
    monkeypatch.setattr(job.time, "monotonic", lambda: float(next(clock)))
    said = list(job._data(WorkFolder(tmp_path), tmp_path, "images", str(tmp_path)))
    assert [step.seconds_left for step in said] == [None, 5, 4, 3, 2, 1]
