"""What tests share: a small data set that a small network learns, runs in every state, and pages to open."""

from __future__ import annotations

import os
import shutil
import signal
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from cifar_core import job
from cifar_core.config import TrainConfig
from cifar_core.datasets import DataInfo, open_dataset
from cifar_core.events import Boot, End, Epoch, Paused, Progress, Start
from cifar_core.runs import Run, create_run
from tests.shapes import drawn_folder

# The networks here are so small that threads spend their time waiting for each other, all the more where several
# tests run at once. Workers inherit it.
os.environ.setdefault("OMP_NUM_THREADS", "1")

ROOT = Path(__file__).resolve().parent.parent

TRAIN_PER_CLASS, TEST_PER_CLASS = 60, 20


class Tiny(NamedTuple):
    """A prepared data set; shared by all tests, who only read it."""

    cache: Path
    info: DataInfo
    source: Path


@pytest.fixture(scope="session")
def tiny_source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of images `train/<class>/*.png` and `test/<class>/*.png`, always the same."""
    return drawn_folder(tmp_path_factory.mktemp("source") / "shapes", TRAIN_PER_CLASS, TEST_PER_CLASS, seed=0)


@pytest.fixture(scope="session")
def tiny(tiny_source: Path, tmp_path_factory: pytest.TempPathFactory) -> Tiny:
    cache = tmp_path_factory.mktemp("cache")
    return Tiny(cache, open_dataset(tiny_source, cache).info, tiny_source)


def tiny_config(tiny: Tiny, **settings: Any) -> TrainConfig:
    """A training of a second on the tiny data set, the same bit for bit each time; `settings` change single ones."""
    quick = {
        "data": str(tiny.source),
        "model": "single_conv",
        "epochs": 1,
        "batch_size": 16,
        "optimizer": "adam",
        "learning_rate": 0.003,
        "weight_decay": 0.0,
        "schedule": "constant",
        "crop_padding": 0,
        "device": "cpu",
        "precision": "float32",
    }
    return TrainConfig.from_values({**quick, **settings})


def work(run: Run, cache: Path) -> Run:
    """Do the run in this process, to its end."""
    with run.held():
        for _ in job.execute(run, cache):
            pass
    return run


@pytest.fixture
def runs_root(tmp_path: Path) -> Path:
    """Where the runs of one test are; not made yet."""
    return tmp_path / "runs"


@pytest.fixture
def cache(tiny: Tiny, tmp_path: Path) -> Path:
    """A cache of this test alone with the tiny data set in it, whose images have been measured."""
    copy = Path(shutil.copytree(tiny.cache, tmp_path / "data" / "cache"))
    folder, task = job.attributes_task(copy.parent, tiny.info)
    for _ in job._attributes(folder, copy, task["data"]):
        pass
    return copy


@pytest.fixture
def empty_cache(tmp_path: Path) -> Path:
    """Where the cache of one test is; not made yet."""
    return tmp_path / "cache"


@pytest.fixture
def make_run(tiny: Tiny, runs_root: Path) -> Callable[..., Run]:
    """Make a run with some settings and do it to its end."""

    def make(**settings: Any) -> Run:
        return work(create_run(tiny_config(tiny, **settings), runs_root), tiny.cache)

    return make


@pytest.fixture(scope="session")
def finished_run(tiny: Tiny, tmp_path_factory: pytest.TempPathFactory) -> Run:
    """Two epochs, after which most test images are told right, not all. Shared: only to be read; else `trained_run`."""
    run = work(create_run(tiny_config(tiny, epochs=2), tmp_path_factory.mktemp("finished")), tiny.cache)
    assert run.state == "finished", run.last_end
    return run


@pytest.fixture
def trained_run(finished_run: Run, runs_root: Path) -> Run:
    """A copy of `finished_run` among the runs of this test, which may change it."""
    return Run(Path(shutil.copytree(finished_run.path, runs_root / finished_run.id)))


def start_event(tiny: Tiny, **facts: Any) -> Start:
    """How a run on the tiny data set begins."""
    usual: dict[str, Any] = {
        "step": 0,
        "steps_per_epoch": 11,
        "device": "cpu",
        "precision": "float32",
        "compute_reason": "CPU (1 thread): as asked; float32 as asked.",
        "data_name": tiny.info.name,
        "data_fingerprint": tiny.info.fingerprint,
        "classes": tiny.info.classes,
        "train_images": 162,
        "validation_images": 18,
        "parameters": 11_251,
        "versions": {"python": "3", "torch": "2"},
    }
    return Start(**{**usual, **facts})


def refuse_folders(patch: pytest.MonkeyPatch, within: str) -> None:
    """Let no folder be made in one of this name, as where somebody else's may only be read."""
    mkdir = Path.mkdir

    def refuse(path: Path, *arguments: Any, **named: Any) -> None:
        if within in path.parts and not path.exists():
            raise PermissionError(13, "Permission denied", str(path))
        mkdir(path, *arguments, **named)

    patch.setattr(Path, "mkdir", refuse)


def progress_event(step: int, steps_per_epoch: int = 11, **figures: Any) -> Progress:
    usual: dict[str, Any] = {
        "phase": "training",
        "epoch": step / steps_per_epoch,
        "step": step,
        "train_loss": 1.0,
        "train_accuracy": 0.5,
        "learning_rate": 0.003,
        "images_per_second": 1000.0,
        "seconds_left": 12.0,
    }
    return Progress(**{**usual, **figures})


def epoch_event(epoch: int, steps_per_epoch: int = 11, **figures: Any) -> Epoch:
    usual: dict[str, Any] = {
        "epoch": epoch,
        "step": epoch * steps_per_epoch,
        "train_loss": 1.0 / epoch,
        "train_accuracy": 1 - 0.5 / epoch,
        "validation_loss": 1.1 / epoch,
        "validation_accuracy": 1 - 0.6 / epoch,
        "learning_rate": 0.003,
        "images_per_second": 1000.0,
        "seconds": 0.2 * epoch,
        "seconds_left": 12.0,
        "best": True,
    }
    return Epoch(**{**usual, **figures})


@pytest.fixture
def run_in_state(tiny: Tiny, runs_root: Path) -> Iterator[Callable[..., Run]]:
    """A run that looks as in some state without having trained; the test itself stands in for a living worker.

    Such a run has events but no checkpoint: `ready` none at all, the others one epoch and a half of three.
    """
    with ExitStack() as alive:

        def make(state: str, **settings: Any) -> Run:
            run = create_run(tiny_config(tiny, **{"epochs": 3, **settings}), runs_root)
            if state == "ready":
                return run
            # The same lock a worker would hold: locks belong to an open file, not to a process.
            if state in ("running", "paused"):
                alive.enter_context(run.held())
            run.append(Boot(pid=1, host="elsewhere"))
            run.append(start_event(tiny))
            run.append(progress_event(1))
            run.append(epoch_event(1))
            run.append(progress_event(16))
            match state:
                case "running" | "interrupted":
                    pass
                case "paused":
                    run.append(Paused())
                case "finished":
                    run.append(epoch_event(2))
                    run.append(epoch_event(3))
                    run.append(End(outcome="finished", message="Finished 3 epochs.", epoch=3, step=33))
                case "stopped":
                    message = "Stopped after 1.45 epochs; the weights are kept."
                    run.append(End(outcome="stopped", message=message, epoch=16 / 11, step=16))
                case "failed":
                    message = "The training loss stopped being a number in epoch 2: the steps are too large."
                    run.append(End(outcome="failed", message=message))
                case _:
                    raise ValueError(f"There is no such state to be in: {state}.")
            assert run.state == state
            return run

        yield make


@pytest.fixture
def dashboard(monkeypatch: pytest.MonkeyPatch, runs_root: Path, cache: Path) -> Iterator[Callable[..., Any]]:
    """Open a page as a fresh visitor's first request, on the runs and the cache of this test.

    The function takes the page's file and the parameters of the URL, and returns the AppTest after its run.
    For a dashboard without images, remove the folder that the fixture `cache` gives.
    """
    import streamlit as st
    from streamlit.testing.v1 import AppTest

    monkeypatch.chdir(ROOT)
    monkeypatch.setattr("sys.argv", ["dashboard.py", "--runs", str(runs_root), "--cache", str(cache)])

    def forget_everything() -> None:
        # Kept per process, not per test.
        st.cache_data.clear()
        st.cache_resource.clear()

    def open_page(file: str, **query: str | list[str]) -> AppTest:
        app = AppTest.from_file(ROOT / "dashboard.py", default_timeout=60).switch_page(file)
        for name, value in query.items():
            app.query_params[name] = value
        app.run()
        assert not app.exception, app.exception
        return app

    forget_everything()
    yield open_page
    forget_everything()


@pytest.fixture(autouse=True)
def nothing_in_the_box(monkeypatch: pytest.MonkeyPatch) -> None:
    """Tests count runs, so that there is none but theirs; those of `test_reference.py` bring the one of the program."""
    monkeypatch.setattr("cifar_core.runs.REFERENCE", ROOT / "no box" / "reference")


@pytest.fixture(autouse=True)
def own_signals() -> Iterator[None]:
    """Commands called inside a test take over Ctrl-C; afterwards it means what it meant."""
    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    yield
    for number, handler in before.items():
        signal.signal(number, handler)
