"""The one place that joins run folders with the work done in them, and starts that work in processes of its own."""

from __future__ import annotations

import dataclasses
import errno
import hashlib
import importlib.metadata
import json
import math
import os
import platform
import signal
import subprocess
import sys
import threading
import time
import traceback
from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cifar_core import selections, series
from cifar_core.board import Board
from cifar_core.config import FIELDS, TrainConfig
from cifar_core.events import (
    Boot,
    Changed,
    End,
    Epoch,
    Event,
    Inspected,
    Notice,
    Paused,
    Progress,
    Refused,
    Resumed,
    Start,
    TaskProgress,
    Tried,
    Waiting,
)
from cifar_core.queues import device_folder, is_next, keep_place, take
from cifar_core.runs import (
    Held,
    Run,
    RunError,
    WorkFolder,
    check_held_out,
    checksum,
    create_run,
    description,
    kept_epochs,
    read_json,
    repeat_run,
    work_folder,
    write_whole,
)

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from cifar_core.compute import Compute
    from cifar_core.datasets import DataInfo, DataSet, Split
    from cifar_core.distributed import Team
    from cifar_core.evaluation import Evaluation
    from cifar_core.features import Mapping as MapSettings
    from cifar_core.models import Classifier
    from cifar_core.robustness import Robustness
    from cifar_core.suspects import Pairs
    from cifar_core.training import Training

PROGRAM = Path(__file__).resolve().parent.parent
"""The folder that holds the dashboard and, unless told otherwise, its runs and data."""

RUNS = PROGRAM / "runs"
CACHE = PROGRAM / "data" / "cache"
DOWNLOADS = PROGRAM / "data"

POLL_SECONDS = 0.2

CURVE_POINTS = 2000
"""About how many signs of life a run writes down before it begins to write fewer."""

NO_DATA = (
    "The run names no data set; give its path with --data (--data cartoon10 for drawn pictures) or choose one on the "
    "Data page."
)

SPINS = "1000"
"""How often a thread of GNU's OpenMP looks for work before it sleeps. By default it looks for milliseconds, which takes
the core from the thread that it waits for wherever something else runs too: a training then crawls."""

POLITE_SECONDS = 2.0
"""How long a process that is to be ended has to end by itself."""

EXIT_SECONDS = 10.0
"""How long a worker that has said its last word may take to exit."""


def start_run(
    config: TrainConfig,
    runs: Path,
    cache: Path,
    changes: Sequence[Changed] = (),
    parent: Run | None = None,
    checkpoint: str = "last",
) -> Run:
    """Make a run (see `new_run`) and set a process of its own to work on it.

    Raises:
        RunError: The settings cannot be trained with, the folder cannot be written, or the settings do not fit the
            parent's weights.
    """
    run = new_run(config, runs, cache, changes, parent, checkpoint)
    launch(run, cache)
    return run


def repeat(run: Run, runs: Path, cache: Path) -> Run:
    """Make a run that does again what another one has done (see `repeat_run`), and set a process to work on it.

    Raises:
        RunError: As `start_run`, or a fork of an older version did not keep what it began with, or the images of the
            reference run are not here.
    """
    again = repeat_run(run, runs, images_of(run, cache))
    launch(again, cache)
    return again


def images_of(run: Run, cache: Path) -> str:
    """Where the images of a run are; of one that does not say so, where those or such of the same classes and numbers
    are here.

    Raises:
        RunError: They are not here.
    """
    from cifar_core.datasets import cached

    if run.config.data:
        return run.config.data
    start = run.start
    known = read_json(run.path / "data.json") or {}
    counts = [known.get(name) for name in ("classes", "train_counts", "test_counts")]

    def alike(info: DataInfo) -> bool:
        return [list(info.classes), list(info.train_counts), list(info.test_counts)] == counts

    infos = [info for info in cached(cache) if start and info.fingerprint == start.data_fingerprint]
    infos += [info for info in cached(cache) if alike(info)]
    if not infos:
        raise RunError(f"The images of run {run.id} are not here; fetch them on the Data page first.")
    return infos[0].source


def new_run(
    config: TrainConfig,
    runs: Path,
    cache: Path,
    changes: Sequence[Changed] = (),
    parent: Run | None = None,
    checkpoint: str = "last",
    files: Mapping[str, bytes] | None = None,
) -> Run:
    """Make a run (see `create_run`), unless it is known already that it would fail.

    Raises:
        RunError: As `start_run`.
    """
    try:
        config = _checked(config, cache, parent)
    except ValueError as error:
        raise RunError(str(error)) from None
    return create_run(config, runs, changes, parent, checkpoint, files)


def new_series(
    config: TrainConfig,
    kind: str,
    count: int,
    runs: Path,
    cache: Path,
    parent: Run | None = None,
    checkpoint: str = "last",
) -> list[Run]:
    """Make the runs of a series: the same training with several seeds, or on each fold of a cross-validation.

    Args:
        kind: One of `series.KINDS`.
        count: Of runs.

    Raises:
        RunError: As `start_run`, or there are too many or too few. Then none is made.
    """
    made: list[Run] = []
    try:
        name = series.new_id()
        for index, each in enumerate(series.configs(config, kind, count)):
            files = series.file_of(series.Series(name, kind, index, count))
            made.append(new_run(each, runs, cache, parent=parent, checkpoint=checkpoint, files=files))
    except (ValueError, OSError) as error:
        for run in made:
            with suppress(RunError):
                run.delete()
        if isinstance(error, OSError):
            raise RunError(f"No run can be made in {runs}: {error.strerror}.") from None
        raise RunError(str(error)) from None
    return made


def start_series(
    config: TrainConfig,
    kind: str,
    count: int,
    runs: Path,
    cache: Path,
    parent: Run | None = None,
    checkpoint: str = "last",
) -> list[Run]:
    """Make the runs of a series (see `new_series`) and set a process to each; they wait for the device in turn.

    Each waits by itself, so that one that is killed, stopped or fails keeps none of the others.

    Raises:
        RunError: As `new_series`.
    """
    made = new_series(config, kind, count, runs, cache, parent, checkpoint)
    for run in made:
        launch(run, cache)
    return made


def _checked(config: TrainConfig, cache: Path, parent: Run | None = None) -> TrainConfig:
    """The settings, with texts that name the same selections for ever."""
    from cifar_core.datasets import find_cached, open_cached
    from cifar_core.subsets import chosen_classes, training_indices

    if not config.data:
        raise ValueError(NO_DATA)
    # Only what may be refused, as asking takes the seconds that importing torch takes.
    if config.device not in ("auto", "cpu") or config.precision not in ("auto", "float32"):
        from cifar_core.compute import choose

        choose(config.device, config.precision)
    # Images that were not read yet are not counted before the run reads them.
    if info := find_cached(config.data, cache):
        kept = selections.folder_of(cache)
        config = selections.pinned(config, info, kept)
        training_indices(config, open_cached(info.id, cache), selections.allowed(config, info, kept))
        start = parent.start if parent and parent.read_only else None
        if start and chosen_classes(config.classes, info.classes) != start.classes:
            raise ValueError(
                f"A fork of the reference run tells the same classes apart ({', '.join(start.classes)}), but "
                f"{info.name} has others."
            )
        if start and parent and start.data_fingerprint == info.fingerprint:
            check_held_out(config, parent)
    return config


def launch(folder: WorkFolder, cache: Path) -> None:
    """Start a worker that outlives this process, its terminal and every browser tab.

    The lock is taken here and inherited by the worker, so that there is no moment at which a started run looks dead.

    Raises:
        Held: A worker is already there.
        RunError: The folder cannot be written.
    """
    _await_exit(folder)
    try:
        with folder.held() as lock, folder.log_path.open("ab") as log:
            for request in ("stop", "pause"):
                folder.withdraw(request)
            # From here on nobody takes the last worker's last word for that of the new one.
            folder.append(Boot(pid=os.getpid(), host=platform.node()))
            worker = subprocess.Popen(
                [sys.executable, "-m", "cifar_core.job", str(folder.path.resolve()), str(cache.resolve()), str(lock)],
                cwd=PROGRAM,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
                pass_fds=(lock,),
            )
        # Its end is awaited, or it would stay in the process table as long as this process lives.
        threading.Thread(target=worker.wait, daemon=True).start()
    except OSError as error:
        raise RunError(f"No worker can be started in {folder.path}: {error.strerror}.") from None


@dataclass(frozen=True)
class Launched:
    """Who set a run's worker going, and when, in seconds since 1970."""

    time: float
    still_there: bool


def launched(run: WorkFolder) -> Launched | None:
    """Where the last worker came from; None where its process was not started by another one."""
    events = run.events()
    # A launch says so directly before the worker does; work in a process of one's own is said by itself alone.
    said = worker = None
    for before, event in pairwise([None, *events]):
        if isinstance(event, Boot):
            said, worker = before, event
    if not isinstance(said, Boot) or not worker or said.pid == worker.pid or said.host != platform.node():
        return None
    return Launched(said.time, said.pid == os.getpid() or _exists(said.pid))


def _exists(process: int) -> bool:
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        pass
    return True


def end_process(folder: WorkFolder) -> None:
    """End the worker of a folder, politely at first; what it did since its last checkpoint is lost.

    Raises:
        RunError: Its process cannot be found with certainty, or not be ended.
    """
    boot = next((event for event in reversed(folder.events()) if isinstance(event, Boot)), None)
    if boot is None or boot.host != platform.node() or not _holds_lock(boot.pid, folder):
        raise RunError(
            f"The process that works on {folder.path.name} cannot be told with certainty, so none is ended; it may be "
            "on another machine or another user's."
        )
    try:
        for number in (signal.SIGTERM, signal.SIGKILL):
            os.kill(boot.pid, number)
            limit = time.monotonic() + POLITE_SECONDS
            while folder.alive and time.monotonic() < limit:
                time.sleep(0.05)
            if not folder.alive:
                return
    except ProcessLookupError:
        return
    except PermissionError:
        raise RunError(f"The process {boot.pid} belongs to another user and cannot be ended.") from None
    raise RunError(f"The process {boot.pid} did not end; the system may be waiting for a disk or a device.")


def _holds_lock(process: int, folder: WorkFolder) -> bool:
    """Whether this very process has the folder's lock open; the number alone may be that of another one by now."""
    if process == os.getpid() or not folder.alive:
        return False
    try:
        lock = (folder.path / "lock").stat()
        opened = [entry.stat() for entry in os.scandir(f"/proc/{process}/fd")]
    except FileNotFoundError:
        return _command_names(process, folder)
    except OSError:
        return False
    return any((one.st_dev, one.st_ino) == (lock.st_dev, lock.st_ino) for one in opened)


def _command_names(process: int, folder: WorkFolder) -> bool:
    """Where the system has no /proc: whether the process was started for this folder."""
    said = subprocess.run(["ps", "-o", "command=", "-p", str(process)], capture_output=True, text=True, check=False)
    return "cifar_core.job" in said.stdout and folder.path.name in said.stdout


def _await_exit(folder: WorkFolder) -> None:
    limit = time.monotonic() + EXIT_SECONDS
    while folder.last_end and folder.alive and time.monotonic() < limit:
        time.sleep(0.02)


def execute(run: Run, cache: Path, team: Team | None = None) -> Iterator[Event]:
    """Do a run in this process, which must hold its lock: from the start, or on from its last checkpoint.

    Every event is in the run's folder before it is yielded. Errors become an `End` event.

    Args:
        team: Processes that train together, of which this one leads; by default this process alone.

    Raises:
        MemberLost: Another process of the team has ended. Nothing is said, so that the run counts as interrupted until
            it is started anew.
    """
    try:
        run.sweep()
        yield _said(run, Boot(pid=os.getpid(), host=platform.node()))
        yield from _train(run, cache, team)
    except ConnectionAbortedError:
        raise
    except Exception as error:
        yield _last_word(run, _failure(run, error))


def start_task(folder: WorkFolder, task: dict[str, Any], cache: Path) -> None:
    """Set a process to a piece of work on stored data; `task` names it and its arguments.

    Starting what is already under way does nothing.

    Raises:
        RunError: The folder cannot be written, or no process can be started.
    """
    try:
        folder.path.mkdir(parents=True, exist_ok=True)
        _await_exit(folder)
        with suppress(Held):
            with folder.held():
                write_whole(folder.path / "task.json", json.dumps(task, indent=2).encode())
            launch(folder, cache)
    except OSError as error:
        raise RunError(f"{folder.path.parent} cannot be written: {error.strerror}.") from None


def evaluation_task(run: Run, checkpoint: str, info: DataInfo) -> tuple[WorkFolder, dict[str, Any]]:
    """Where the evaluation of a checkpoint on a test split is kept, and the task that makes it.

    The folder's name is derived from the checkpoint's file and the data set's content, so that a result is never
    shown for other weights or other images, and never computed twice. The result is `evaluation.npz` in it.
    """
    return run.task(f"evaluate-{_identity(run, checkpoint, info)}"), evaluation_work(run, checkpoint, info)


def evaluation_work(run: Run, checkpoint: str, info: DataInfo) -> dict[str, Any]:
    """The task alone, for a result that is kept elsewhere or not at all."""
    return {"task": "evaluate", "run": str(run.path.resolve()), "checkpoint": checkpoint, "data": info.id}


def logits_task(run: Run, split: str, info: DataInfo) -> tuple[WorkFolder, dict[str, Any]]:
    """Where it is reported how the networks of `unseen_checkpoints` look at a split, and the task that lets them.

    What they say is kept in `run.logits(split)` beside what is there already.

    Args:
        split: "validation" or "test".
    """
    folder = run.task(f"logits-{split}-{info.fingerprint[:16]}")
    return folder, {"task": "logits", "run": str(run.path.resolve()), "split": split, "data": info.id}


def views_task(run: Run, checkpoint: str, info: DataInfo) -> tuple[WorkFolder, dict[str, Any]]:
    """Where it is kept what a checkpoint says of flipped and shifted test images (`views.npz`; see
    `cifar_core.invariance`), and the task that makes it. As for `evaluation_task`, never computed twice."""
    folder = run.task(f"views-{_identity(run, checkpoint, info)}")
    return folder, {**evaluation_work(run, checkpoint, info), "task": "views"}


def unseen_checkpoints(run: Run, split: str) -> dict[int, str]:
    """The checkpoints of whole epochs of which nothing is kept for a split, by epoch."""
    from cifar_core import logits

    there = logits.files(run.logits(split))
    found: dict[int, str] = {}
    for name, path in run.checkpoints().items():
        epoch = description(path).get("epoch", 0.5)
        if epoch == int(epoch) and int(epoch) not in there:
            found.setdefault(int(epoch), name)
    return dict(sorted(found.items()))


def map_task(
    run: Run, checkpoint: str, info: DataInfo, how: MapSettings, over: Sequence[str] = ()
) -> tuple[WorkFolder, dict[str, Any]]:
    """Where the map of a layer's features of images is kept (`map.npz`), and the task that makes it.

    While it forms, what there is of it is in `forming.npz`.

    Args:
        over: Checkpoints that are mapped one after the other, each map beginning with the one before; by default
            `checkpoint` alone.
    """
    identities = [_identity(run, name, info) for name in over]
    task = {"task": "map", "run": str(run.path.resolve()), "checkpoint": checkpoint, "data": info.id}
    identity = _identity(run, checkpoint, info, sorted(how.what_matters.items()), *identities)
    return run.task(f"map-{identity}"), {**task, "how": dataclasses.asdict(how), "over": list(over)}


def strongest_task(
    run: Run, checkpoint: str, info: DataInfo, split: str, images: int
) -> tuple[WorkFolder, dict[str, Any]]:
    """Where it is kept which images excite each channel of each layer most (`strongest.npz`), and the task for it."""
    task = {"task": "strongest", "run": str(run.path.resolve()), "checkpoint": checkpoint, "data": info.id}
    folder = run.task(f"strongest-{_identity(run, checkpoint, info, split, images)}")
    return folder, {**task, "split": split, "images": images}


def corruption_task(run: Run, checkpoint: str, info: DataInfo, images: int) -> tuple[WorkFolder, dict[str, Any]]:
    """Where the predictions of corrupted test images are kept (`corruptions.npz`), and the task that makes them.

    What a stopped one has come to is kept, and the next one goes on from there.
    """
    task = {"task": "corrupt", "run": str(run.path.resolve()), "checkpoint": checkpoint, "data": info.id}
    return run.task(f"corrupt-{_identity(run, checkpoint, info, images)}"), {**task, "images": images}


def attack_task(run: Run, checkpoint: str, info: DataInfo, images: int) -> tuple[WorkFolder, dict[str, Any]]:
    """Where the predictions of test images changed by FGSM and PGD are kept (`attacks.npz`), and the task that makes
    them; as `corruption_task`."""
    task = {"task": "attack", "run": str(run.path.resolve()), "checkpoint": checkpoint, "data": info.id}
    return run.task(f"attack-{_identity(run, checkpoint, info, images)}"), {**task, "images": images}


def sensitivity_task(
    run: Run,
    checkpoint: str,
    info: DataInfo,
    pipeline: dict[str, Any],
    along: str,
    values: Sequence[float],
    images: int,
    seed: int,
) -> tuple[WorkFolder, dict[str, Any]]:
    """Where it is kept how sure a checkpoint is of test images while a transform grows (`curve.npz`), and the task.

    Args:
        pipeline: The other settings of `cifar_core.transforms.Augmentation`.
        along: The setting that takes the values, one after the other.
    """
    settings = {"pipeline": pipeline, "along": along, "values": list(values), "images": images, "seed": seed}
    task = {
        "task": "sensitivity",
        "run": str(run.path.resolve()),
        "checkpoint": checkpoint,
        "data": info.id,
        **settings,
    }
    return run.task(f"sensitivity-{_identity(run, checkpoint, info, json.dumps(settings, sort_keys=True))}"), task


def familiarity_task(run: Run, checkpoint: str, info: DataInfo) -> tuple[WorkFolder, dict[str, Any]]:
    """Where it is kept what a checkpoint makes of the images it knows (`known.npz`), and the task that finds out."""
    task = {"task": "familiarity", "run": str(run.path.resolve()), "checkpoint": checkpoint, "data": info.id}
    return run.task(f"familiarity-{_identity(run, checkpoint, info)}"), task


def strangeness_folder(run: Run, checkpoint: str, fingerprint: str) -> WorkFolder:
    """Where it is kept what is strange to a checkpoint (`strangeness.npz`), on images with this fingerprint."""
    return run.task(f"strangeness-{_identity_on(run, checkpoint, fingerprint)}")


def strangeness_found(run: Run, checkpoint: str) -> Path | None:
    """What is kept of that on a run's own images, where it has been found out; the images need not be here."""
    if run.start is None:
        return None
    path = strangeness_folder(run, checkpoint, run.start.data_fingerprint).path / "strangeness.npz"
    return path if path.exists() else None


def strangeness_task(run: Run, checkpoint: str, info: DataInfo) -> tuple[WorkFolder, dict[str, Any]]:
    """The same place, and the task that finds out."""
    task = {"task": "strangeness", "run": str(run.path.resolve()), "checkpoint": checkpoint, "data": info.id}
    return strangeness_folder(run, checkpoint, info.fingerprint), task


def range_task(
    config: TrainConfig, data: Path, info: DataInfo, parent: Run | None = None, checkpoint: str = "last"
) -> tuple[WorkFolder, dict[str, Any]]:
    """Where the LR range test of a run with these settings is kept (the events of its log), and the task that does it.

    The folder's name is derived from the settings that matter to it, the images, and the weights it begins with.

    Args:
        data: The folder of downloads and background work.
        parent: The run whose weights are begun with; without one, fresh ones.
    """
    with suppress(selections.SelectionError):  # the task will say what is wrong with it
        config = selections.pinned(config, info, data / "selections")
    matters = {
        name: value
        for name, value in dataclasses.asdict(config).items()
        if config.used(name)
        and FIELDS[name].metadata["group"] != "Learning rate"
        and name not in ("data", "ema", "stop_patience")
        # How long a training is matters to smaller images at first alone.
        and (config.early_size or name not in ("epochs", "early_share"))
    }
    weights = parent.checkpoints()[checkpoint] if parent else None
    identity = _identity(parent, checkpoint, info) if parent else info.fingerprint
    digest = hashlib.sha256(repr((sorted(matters.items()), identity)).encode()).hexdigest()[:16]
    folder = work_folder(data / "tasks" / f"range-{digest}")
    task = {"task": "range", "config": dataclasses.asdict(config), "data": info.id}
    return folder, {**task, "weights": weights and str(weights.resolve())}


def attributes_task(data: Path, info: DataInfo) -> tuple[WorkFolder, dict[str, Any]]:
    """Where the attributes of all images are kept (`train.npz`, `test.npz`), and the task that measures them."""
    return _task_on(data, "attributes", info)


def duplicates_task(data: Path, info: DataInfo) -> tuple[WorkFolder, dict[str, Any]]:
    """Where the near-duplicates of both splits are kept (`pairs.npz`), and the task that looks for them."""
    return _task_on(data, "duplicates", info)


def crossed_task(data: Path, info: DataInfo) -> tuple[WorkFolder, dict[str, Any]]:
    """Where out-of-fold predictions of the training split are kept (`crossed.npz`), and the task that makes them."""
    return _task_on(data, "crossed", info)


def demonstration_task(
    data: Path, info: DataInfo, images: int, run: Run | None = None, checkpoint: str = "best"
) -> tuple[WorkFolder, dict[str, Any]]:
    """Where it is kept which of planted errors are found (`demonstration.npz`), and the task that plants and looks.

    Args:
        run: Whose predictions tell the wrong labels, planted into the test split; without one, small networks are
            trained on a part of the training split.
    """
    task = {"task": "demonstration", "data": info.id, "images": images, "run": None, "checkpoint": None}
    if run:
        about = {"run": str(run.path.resolve()), "checkpoint": checkpoint}
        return run.task(f"demonstration-{_identity(run, checkpoint, info, images)}"), {**task, **about}
    return work_folder(data / "tasks" / f"demonstration-{info.fingerprint}-{images}"), task


def known_task(run: Run, checkpoint: str, info: DataInfo, split: str) -> tuple[WorkFolder, dict[str, Any]]:
    """Where predictions and nearest images of a whole split are kept (`known.npz`), and the task that makes them."""
    task = {"task": "known", "run": str(run.path.resolve()), "checkpoint": checkpoint, "data": info.id, "split": split}
    return run.task(f"known-{_identity(run, checkpoint, info, split)}"), task


def _task_on(data: Path, name: str, info: DataInfo) -> tuple[WorkFolder, dict[str, Any]]:
    return work_folder(data / "tasks" / f"{name}-{info.fingerprint}"), {"task": name, "data": info.id}


def data_task(data: Path, source: str | None) -> tuple[WorkFolder, dict[str, Any]]:
    """Where the reading of a data set is reported, and the task for it; without a source, CIFAR-10 is downloaded."""
    name = hashlib.sha256(source.encode()).hexdigest()[:12] if source else "download"
    return work_folder(data / "tasks" / name), {"task": "data", "source": source, "downloads": str(data)}


def device_task(data: Path) -> tuple[WorkFolder, dict[str, Any]]:
    """Where it is kept what this machine computes on and why (`device.json`), and the task that finds out."""
    about = (platform.node(), os.cpu_count(), importlib.metadata.version("torch"))
    folder = work_folder(data / "tasks" / f"device-{hashlib.sha256(repr(about).encode()).hexdigest()[:12]}")
    return folder, {"task": "device"}


def known_device(cache: Path) -> str | None:
    """What this machine computes on by itself, as far as somebody has found out; without torch."""
    folder, _ = device_task(cache.parent)
    answer = read_json(folder.path / "device.json") or {}
    return answer.get("device")


def _identity(run: Run, checkpoint: str, info: DataInfo, *more: Any) -> str:
    return _identity_on(run, checkpoint, info.fingerprint, *more)


def _identity_on(run: Run, checkpoint: str, fingerprint: str, *more: Any) -> str:
    weights = run.checkpoints()[checkpoint]
    file = weights.stat()
    # When it was written differs from one copy of the program to the next.
    written = checksum(weights) if run.read_only else file.st_mtime_ns
    parts = (checkpoint, written, file.st_size, fingerprint, *more)
    return hashlib.sha256(repr(parts).encode()).hexdigest()[:16]


def _said(folder: WorkFolder, event: Event) -> Event:
    folder.append(event)
    return event


def _last_word(folder: WorkFolder, end: End) -> End:
    """Say how it ended where there is room for it; on a full disk the silence itself says that it was interrupted."""
    with suppress(OSError):
        folder.append(end)
    return end


def _failure(folder: WorkFolder, error: Exception) -> End:
    """An end with a sentence for the user; what is not foreseen goes to the log as well."""
    if not isinstance(error, ValueError | ArithmeticError | ConnectionError):
        # Not to the standard error, which is a person's where no worker was launched.
        with suppress(OSError), folder.log_path.open("a") as log:
            traceback.print_exception(error, file=log)
        # Only where torch is there, as it may be what failed to be imported.
        if isinstance(error, MemoryError) or ("torch" in sys.modules and _found_no_room(error)):
            return End(outcome="failed", message="There is not enough memory; choose a smaller batch size or width.")
        if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT):
            again = "resume the run" if isinstance(folder, Run) else "try again"
            message = f"The disk is full: {error.filename or folder.path} could not be written; free some space, then"
            return End(outcome="failed", message=f"{message} {again}.")
        if isinstance(error, OSError) and error.strerror:
            return End(outcome="failed", message=f"{error.strerror}: {error.filename or 'a file of the run'}.")
        first_line = (str(error).splitlines() or [""])[0].rstrip(".")
        return End(outcome="failed", message=f"{type(error).__name__}: {first_line}. The worker's log says more.")
    reason = "diverged" if type(error).__name__ == "Diverged" else ""
    return End(outcome="failed", message=str(error), reason=reason)


def _found_no_room(error: Exception) -> bool:
    from cifar_core.compute import is_out_of_memory

    return is_out_of_memory(error)


@dataclass(frozen=True)
class _Task:
    """What the members of a team must know to train along."""

    config: TrainConfig
    plan: dict[int, dict[str, Any]]
    device: str
    precision: str
    data_fingerprint: str
    allowed: Any
    """Images that may be trained on, as `material` takes them; the others have no selections of their own."""


@dataclass(frozen=True)
class _Order:
    """What the leader of a team asks of the others at a moment at which all meet."""

    change: dict[str, Any] | None = None
    wait: bool = False
    """Another order follows."""
    stop: bool = False


def follow(team: Team, cache: Path) -> None:
    """Train along in this process, which is in a team and does not lead it: nothing is read but images, and nothing is
    written.

    Raises:
        MemberLost: Another process of the team has ended.
        ValueError: This process cannot do its part; the message says why.
    """
    if _obeyed(team):
        return
    task: _Task = team.told(None)

    from cifar_core.compute import choose, prepare_device
    from cifar_core.datasets import open_dataset
    from cifar_core.distributed import check_devices
    from cifar_core.models import create
    from cifar_core.subsets import chosen_classes
    from cifar_core.training import Training, material

    config = task.config
    compute = choose(task.device, task.precision)
    check_devices(team, compute.device.type)
    prepare_device(compute)
    data = open_dataset(config.data, cache)
    if data.info.fingerprint != task.data_fingerprint:
        raise ValueError(f"The images at {config.data} are others on {platform.node()} than where the run is kept.")
    classes = chosen_classes(config.classes, data.info.classes)
    model = create(config.model, len(classes), width=config.width, dropout=config.dropout, pretrained=False)
    images = material(config, data, compute.device, task.allowed)
    training = Training(config, model, images, compute, task.plan, team)
    state: tuple[dict[str, Any], dict[str, Any]] = team.told(None)
    training.restore(*state)
    stopped = _obeyed(team, training)
    for _ in training.events():
        if stopped := stopped or _obeyed(team, training):
            return


def dismiss(team: Team) -> None:
    """Let the others of a team, who `follow`, go home."""
    team.told(_Order(stop=True))


def _obeyed(team: Team, training: Training | None = None) -> bool:
    """Do what the leader says until all may go on; whether the training is to stop."""
    order = _Order(wait=True)
    while order.wait:
        order = team.told(order)
        if order.change and training:
            # What cannot be done is said by the leader.
            with suppress(ValueError, TypeError):
                training.change(order.change)
    return order.stop


def _train(run: Run, cache: Path, team: Team | None) -> Iterator[Event]:
    config = run.config
    before = run.start
    with ExitStack() as stack:
        # Where it can be known without torch, it is waited for without the half gigabyte that torch takes.
        device = before.device if before else known_device(cache) if config.device == "auto" else config.device
        while True:
            if device and not (yield from _awaited(run, device, stack, team)):
                yield _said(run, End(outcome="stopped", message="Stopped before it began."))
                return
            from cifar_core.compute import choose

            # A run goes on as it began, even where another choice would be made today.
            compute = _chosen_before(before) if before else choose(config.device, config.precision)
            if compute.device.type == device:
                break
            if device is None and config.precision == "auto":
                _keep_device(device_task(cache.parent)[0], compute)
            stack.close()
            device = compute.device.type

        import torch

        from cifar_core.distributed import ALONE, check_devices
        from cifar_core.subsets import chosen_classes

        team = team or ALONE
        check_devices(team, compute.device.type)
        for progress in _prepared(config.data, cache):
            yield _said(run, progress)
            if _is_called_off(run, team):
                yield _said(run, End(outcome="stopped", message="Stopped while the images were being read."))
                return
        team.told(_Order())
        training, data = _set_up(run, cache, compute, team)
        yield from _restored(run, training, data)
        _begin_logits(run, training, data)
        if team.size > 1:
            tensors, counters = training.state()
            team.told(({name: tensor.detach().cpu() for name, tensor in tensors.items()}, counters))
        yield _said(
            run,
            Start(
                step=training.step,
                steps_per_epoch=training.steps_per_epoch,
                device=compute.device.type,
                precision=str(compute.dtype).removeprefix("torch."),
                compute_reason=compute.reason,
                data_name=data.info.name,
                data_fingerprint=data.info.fingerprint,
                classes=chosen_classes(config.classes, data.info.classes),
                train_images=len(training.images.train_labels),
                validation_images=len(training.images.validation_labels),
                parameters=sum(p.numel() for p in training.model.parameters()),
                versions={"python": platform.python_version(), "torch": str(torch.__version__)},
                processes=team.size,
            ),
        )
        yield from _steered(run, training, data, stack)


def _chosen_before(start: Start) -> Compute:
    from cifar_core.compute import choose

    try:
        return dataclasses.replace(choose(start.device, start.precision), reason=start.compute_reason)
    except ValueError:
        raise ValueError(
            f"The run began on {start.device} in {start.precision}, which this machine does not offer, and goes on as "
            "it began; resume it where it ran, or fork it to train on with another device."
        ) from None


def _awaited(run: Run, device: str, stack: ExitStack, team: Team | None) -> Generator[Event, None, bool]:
    """Wait until the device is free and it is this run's turn; False where it is stopped before."""
    said_waiting = False
    while not _take_device(run, device, stack):
        if _is_called_off(run, team):
            return False
        if not said_waiting:
            yield _said(run, Waiting(device=device))
            said_waiting = True
        time.sleep(POLL_SECONDS)
    return True


def _is_called_off(run: Run, team: Team | None) -> bool:
    """Whether the run is to stop before it trains; else the others of the team wait on."""
    stop = run.requested("stop")
    if team:
        team.told(_Order(wait=not stop, stop=stop))
    return stop


def _take_device(run: Run, device: str, stack: ExitStack) -> bool:
    """Whether this run may compute now: the device is free and no run that waits for it comes first."""
    keep_place(run)
    folder = device_folder(run.path.parent, device)
    # The queue is only looked at when it matters, as that takes a look at every run.
    if folder.alive or not is_next(run, device):
        return False
    try:
        stack.enter_context(folder.held())
    except Held:
        return False
    take(run, folder.path)
    return True


def _prepared(source: str, cache: Path) -> Iterator[TaskProgress]:
    from cifar_core.datasets import prepare

    if not source:
        raise ValueError(NO_DATA)
    yield from _timed(((p.done, p.total, p.what) for p in prepare(source, cache)), parts=False)


def _set_up(run: Run, cache: Path, compute: Compute, team: Team) -> tuple[Training, DataSet]:
    from cifar_core.compute import prepare_device
    from cifar_core.datasets import open_dataset
    from cifar_core.training import Training, material

    config = run.config
    data = open_dataset(config.data, cache)
    before = run.start
    if before and before.data_fingerprint != data.info.fingerprint:
        raise ValueError(
            f"The images at {config.data} have changed since the run began, so it cannot go on; start a new run."
        )
    prepare_device(compute)
    precision = str(compute.dtype).removeprefix("torch.")
    allowed = selections.allowed(config, data.info, selections.folder_of(cache))
    team.told(_Task(config, run.plan, compute.device.type, precision, data.info.fingerprint, allowed))
    model = _fresh(config, data, pretrained=not run.restorable())
    training = Training(config, model, material(config, data, compute.device, allowed), compute, run.plan, team)
    return training, data


def _fresh(config: TrainConfig, data: DataSet, pretrained: bool) -> Classifier:
    """The network as a run begins with it."""
    import torch

    from cifar_core.models import create, initialise
    from cifar_core.subsets import chosen_classes

    torch.manual_seed(config.seed)
    classes = len(chosen_classes(config.classes, data.info.classes))
    model = create(config.model, classes, width=config.width, dropout=config.dropout, pretrained=pretrained)
    initialise(model, config.initialisation)
    return model


def _restored(run: Run, training: Training, data: DataSet) -> Iterator[Event]:
    """Bring the training to where the run was, by the latest checkpoint that is whole and fits."""
    from cifar_core.networks import load_tensors

    trouble: list[tuple[ValueError, Path]] = []
    for path in run.restorable():
        try:
            tensors, metadata = load_tensors(path)
            # A fork begins with its parent's weights, but with settings of its own.
            if run.parent and not run.start:
                training.fork(tensors, metadata.get("training", {}))
            else:
                training.restore(tensors, metadata.get("training", {}))
        except ValueError as error:
            trouble.append((error, path))
            continue
        break
    else:
        if trouble:
            raise trouble[0][0]
        return
    if path.stem == "best" and run.start:
        # The worker may have died before it came to keep the weights of that epoch under its number too.
        _keep_now_and_then(run, training, data)
    if run.parent and not run.start:
        # Its predecessor would be the parent's, with the parent's settings.
        _keep(run, training, data, "last")
    elif trouble:
        why, _ = trouble[0]
        for number, (_, damaged) in enumerate(trouble):
            # Out of the way, so that nothing takes them for what their names say.
            damaged.replace(damaged.with_name(f"damaged{f'-{damaged.stem}' if number else ''}.safetensors"))
        _mend_best(run)
        message = (
            f"{why} The run goes on from the weights kept before, of epoch {training.epoch:.4g}; what came after "
            "is trained again, and the file that could not be used is now damaged.safetensors."
        )
        yield _said(run, Notice(message=message))


def _mend_best(run: Run) -> None:
    """Where the best weights are damaged, put those in their place that were kept of the same epoch, if they were."""
    from cifar_core.networks import load_tensors

    best = run.path / "checkpoints" / "best.safetensors"
    try:
        load_tensors(best)
    except ValueError:
        if best.exists():
            best.replace(best.with_name("damaged-best.safetensors"))
        same = run.checkpoints().get(f"epoch-{run.best.epoch}") if run.best else None
        if same:
            write_whole(best, same.read_bytes())


def _steered(run: Run, training: Training, data: DataSet, stack: ExitStack) -> Iterator[Event]:
    """Train, keep checkpoints, and do what is asked through the run's control folder."""
    kept = training.step
    said = 0.0
    board = Board(run.path / "tensorboard", training.step) if training.config.tensorboard else None
    yield from _change(run, training)
    training.team.told(_Order())
    for event in training.events():
        if _is_dispossessed(run, stack):
            training.team.told(_Order(stop=True))
            return
        # A long run says less often how far it is, or its log would be slow to read in the end.
        pause = min(training.seconds / CURVE_POINTS, 10.0)
        if isinstance(event, Epoch):
            # Before its event: what is said of an epoch is there as soon as the epoch is.
            _keep_logits(run, training, event)
        is_told = not isinstance(event, Progress) or time.monotonic() - said >= pause
        if is_told:
            yield _said(run, event)
            said = time.monotonic()
        if isinstance(event, Changed | Refused):
            # After its event: on a full disk it is asked for again when the run is resumed.
            run.fulfilled("change")
        if isinstance(event, Epoch):
            if board:
                board.write(event, training.judged.state_dict())
            # After its event: a worker that dies in between repeats the epoch and says the same again.
            if event.best:
                _keep(run, training, data, "best")
            _keep_now_and_then(run, training, data)
            _keep_last(run, training, data)
            kept = training.step
        yield from _change(run, training)
        if run.taken("save") is not None:
            _keep(run, training, data, f"step-{training.step}")
            _keep_last(run, training, data)
            run.fulfilled("save")
            kept = training.step
        # Neither between the look at the network after an epoch and what that came to, which follows at once.
        whole = not isinstance(event, Inspected)
        if run.requested("pause") and not run.requested("stop") and whole:
            _keep_last(run, training, data)
            kept = training.step
            if not is_told:
                yield _said(run, event)
            yield _said(run, Paused())
            while run.requested("pause") and not run.requested("stop"):
                training.team.told(_Order(wait=True))
                time.sleep(POLL_SECONDS)
            if not run.requested("stop"):
                yield _said(run, Resumed())
        if training.team.told(_Order(stop=run.requested("stop") and whole)).stop:
            if training.step != kept:
                _keep_last(run, training, data)
            message = f"Stopped after {training.epoch:.2f} epochs; the weights are kept."
            yield _said(run, End(outcome="stopped", message=message, epoch=training.epoch, step=training.step))
            return
    best = run.best
    epochs = round(training.epoch)
    message = f"Finished {epochs} epoch{'s' if epochs != 1 else ''}"
    if training.has_stalled and epochs < training.config.epochs:
        message += f", as the validation loss was no better for {training.config.stop_patience}"
    if best:
        message += f"; best validation accuracy {best.validation_accuracy:.2%} in epoch {best.epoch}"
    yield _said(run, End(outcome="finished", message=message + ".", epoch=training.epoch, step=training.step))


def _is_dispossessed(run: Run, stack: ExitStack) -> bool:
    """Whether another worker has taken over, which is possible only where somebody removed the lock's file."""
    if not run.alive:
        try:
            stack.enter_context(run.held())
        except Held:
            return True
    boot = next((event for event in reversed(run.events()) if isinstance(event, Boot)), None)
    return boot is not None and (boot.pid, boot.host) != (os.getpid(), platform.node())


def _change(run: Run, training: Training) -> Iterator[Event]:
    """Hand on what was asked to be changed; the training says so itself once it is in force."""
    if (wanted := run.taken("change")) is not None:
        training.team.told(_Order(change=wanted, wait=True))
        try:
            training.change(wanted)
        except (ValueError, TypeError) as error:
            run.fulfilled("change")
            yield _said(run, Refused(message=str(error)))


def _begin_logits(run: Run, training: Training, data: DataSet) -> None:
    """Make ready to keep what is said of the validation images, and let go of that on epochs that are trained again."""
    import numpy as np

    from cifar_core import logits
    from cifar_core.subsets import chosen_classes

    epochs = len(training.validation_losses)
    test = run.logits("test")
    for epoch, path in logits.files(test).items():
        if epoch > epochs:
            path.unlink(missing_ok=True)
    if training.config.keep_logits:
        labels = training.images.validation_labels.cpu().numpy()
        indices = training.images.validation_indices or range(len(labels))
        classes = chosen_classes(training.config.classes, data.info.classes)
        facts = _facts(run, data, "validation", len(labels))
        images = logits.Images(labels, np.asarray(indices, np.int64), classes, facts)
        logits.begin(run.logits("validation"), images, after=epochs)


def _keep_logits(run: Run, training: Training, epoch: Epoch) -> None:
    from cifar_core import logits

    if room := 1_000_000 * training.config.keep_logits:
        folder = run.logits("validation")
        logits.keep(folder, epoch.epoch, training.validation_logits.cpu().numpy())
        # Of epochs whose weights stay there are more things to ask.
        kept = set(kept_epochs(training.config.keep_every, epoch.epoch))
        best = None if epoch.best else run.best
        logits.thin(folder, room, kept | {best.epoch if best else epoch.epoch})


def _keep_last(run: Run, training: Training, data: DataSet) -> None:
    """Keep the present weights, and those kept before in case that the file is damaged."""
    _keep(run, training, data, "last", before=run.path / "checkpoints" / "previous.safetensors")


def _keep_now_and_then(run: Run, training: Training, data: DataSet) -> None:
    """Keep the weights of this epoch if the settings say so, and let go of those that were kept too densely."""
    epoch = round(training.epoch)
    staying = {f"epoch-{kept}" for kept in kept_epochs(training.config.keep_every, epoch)}
    if f"epoch-{epoch}" in staying:
        _keep(run, training, data, f"epoch-{epoch}")
    for name, path in run.checkpoints().items():
        if name.startswith("epoch-") and name not in staying:
            path.unlink(missing_ok=True)


def _keep(run: Run, training: Training, data: DataSet, name: str, before: Path | None = None) -> None:
    from cifar_core.networks import network_metadata, save_tensors
    from cifar_core.subsets import chosen_classes

    config = training.config
    tensors, counters = training.state()
    epoch = next((epoch for epoch in run.epochs if epoch.step == training.step), None)
    metadata = network_metadata(
        model_name=config.model,
        width=config.width,
        dropout=config.dropout or 0.0,
        classes=chosen_classes(config.classes, data.info.classes),
        mean=training.images.mean,
        std=training.images.std,
        run=run.id,
        checkpoint=name,
        epoch=training.epoch,
        step=training.step,
        validation_accuracy=epoch.validation_accuracy if epoch else None,
        data_name=data.info.name,
        data_fingerprint=data.info.fingerprint,
    )
    metadata["training"] = counters
    save_tensors(run.path / "checkpoints" / f"{name}.safetensors", tensors, metadata, before)


def execute_task(folder: WorkFolder, cache: Path) -> Iterator[Event]:
    """Do the task a folder describes, in this process, which must hold its lock."""
    try:
        folder.sweep()
        yield _said(folder, Boot(pid=os.getpid(), host=platform.node()))
        task = read_json(folder.path / "task.json") or {}
        works: dict[str, Callable[..., Iterator[Event]]] = {
            "evaluate": _evaluate,
            "logits": _logits,
            "views": _views,
            "map": _map,
            "strongest": _strongest,
            "corrupt": _corrupt,
            "attack": _attack,
            "sensitivity": _sensitivity,
            "familiarity": _familiarity,
            "strangeness": _strangeness,
            "range": _range,
            "data": _data,
            "device": _device,
            "attributes": _attributes,
            "duplicates": _duplicates,
            "crossed": _crossed,
            "demonstration": _demonstration,
            "known": _known,
        }
        work = works[task.pop("task")]
        shown = 0.0
        for progress in work(folder, cache, **task):
            if folder.requested("stop"):
                yield _said(folder, End(outcome="stopped", message="Stopped."))
                return
            if not isinstance(progress, TaskProgress):
                yield _said(folder, progress)
            elif time.monotonic() - shown > POLL_SECONDS or progress.done >= progress.total:
                yield _said(folder, progress)
                shown = time.monotonic()
        yield _said(folder, End(outcome="finished", message="Done."))
    except Exception as error:
        yield _last_word(folder, _failure(folder, error))


@dataclass(frozen=True)
class _Subject:
    """What evaluations and maps are about: a network, and images of a split with their indices in it."""

    network: Any
    images: Split
    indices: NDArray[np.int64]
    facts: dict[str, Any]


def _subject(run: str, checkpoint: str, data: str, cache: Path, split: str = "test") -> _Subject:
    import numpy as np

    from cifar_core.compute import choose
    from cifar_core.datasets import Split, open_cached
    from cifar_core.networks import load_network
    from cifar_core.subsets import renumbered, training_indices

    which = Run(Path(run))
    if checkpoint not in which.checkpoints():
        raise RunError(f"Run {which.id} has no {checkpoint} checkpoint.")
    network = load_network(which.checkpoints()[checkpoint], choose("auto", "float32").device)
    opened = open_cached(data, cache)
    known = opened.info.classes
    # A run on some of the classes is asked about their images alone.
    if network.classes != tuple(name for name in known if name in network.classes):
        raise ValueError(
            f"Run {which.id} tells {_counted(network.classes)} apart, but the data set {opened.info.name} has "
            f"{_counted(known)}."
        )
    stored = opened.test if split == "test" else opened.train
    labels = renumbered(np.asarray(stored.labels), known, network.classes)
    validates = split not in ("train", "test")
    indices = training_indices(which.config, opened)[1] if validates else np.flatnonzero(labels >= 0)
    if not len(indices):
        raise ValueError(f"The {split} split of {opened.info.name} has no image of {' or '.join(network.classes)}.")
    # All of them stay where they are, on the disk.
    images = stored.images if len(indices) == len(labels) else stored.images[indices]
    facts = {
        **_facts(which, opened, split, len(indices if validates else labels)),
        "checkpoint": checkpoint,
        "epoch": network.metadata["epoch"],
    }
    return _Subject(network, Split(images, labels[indices]), indices, facts)


def _facts(run: Run, data: DataSet, split: str, images: int) -> dict[str, Any]:
    """What evaluations say of themselves, whatever the weights."""
    return {
        "run": run.id,
        "data": data.info.name,
        "fingerprint": data.info.fingerprint,
        "split": split,
        "split_images": images,
    }


def _counted(classes: tuple[str, ...]) -> str:
    more = ", ..." if len(classes) > 3 else ""
    return f"{len(classes)} classes ({', '.join(classes[:3])}{more})"


def _evaluate(folder: WorkFolder, cache: Path, run: str, checkpoint: str, data: str) -> Iterator[TaskProgress]:
    about = _subject(run, checkpoint, data, cache)
    said: list[NDArray[np.float32]] = []
    yield from _timed(_predicted(about, said, 0, len(about.indices)))
    # A run that may only be read is evaluated all the same; a full disk is told by what follows.
    with suppress(OSError):
        _keep_said(Run(Path(run)), about, said[0])
    _evaluation(about, said[0]).save(folder.path / "evaluation.npz")


def _logits(folder: WorkFolder, cache: Path, run: str, split: str, data: str) -> Iterator[TaskProgress]:
    from cifar_core.datasets import open_cached

    which, info = Run(Path(run)), open_cached(data, cache).info
    wanted = unseen_checkpoints(which, split)

    def steps() -> Iterator[tuple[int, int, str]]:
        for place, checkpoint in enumerate(wanted.values()):
            if checkpoint not in which.checkpoints():
                continue  # Of a training that goes on, some come and go.
            result = evaluation_task(which, checkpoint, info)[0].path / "evaluation.npz"
            about = _subject(run, checkpoint, data, cache, split)
            said = _answered(result) if split == "test" else []
            count = len(about.indices)
            if said:
                yield (place + 1) * count, len(wanted) * count, "Reading evaluations"
            else:
                yield from _predicted(about, said, place * count, len(wanted) * count)
            _keep_said(which, about, said[0])
            # The same weights, unless a training has replaced them meanwhile.
            if (
                split == "test"
                and not result.exists()
                and result == evaluation_task(which, checkpoint, info)[0].path / "evaluation.npz"
            ):
                _evaluation(about, said[0]).save(result)

    yield from _timed(steps())


def _answered(result: Path) -> list[NDArray[np.float32]]:
    """What a stored evaluation says, as logits; nothing where there is none that can be read."""
    import numpy as np

    from cifar_core.evaluation import Evaluation, EvaluationError

    with suppress(OSError, EvaluationError):
        return [np.log(np.maximum(Evaluation.load(result).probabilities, np.finfo(np.float32).tiny))]
    return []


def _views(folder: WorkFolder, cache: Path, run: str, checkpoint: str, data: str) -> Iterator[TaskProgress]:
    import numpy as np

    from cifar_core.invariance import VIEWS, Views, view

    about = _subject(run, checkpoint, data, cache)
    count = len(about.indices)
    said = np.zeros((len(VIEWS), count, len(about.network.classes)), np.float16)

    def steps() -> Iterator[tuple[int, int, str]]:
        for place, name in enumerate(VIEWS):
            for first in range(0, count, 500):
                batch = view(np.asarray(about.images.images[first : first + 500]), name)
                for answers in about.network.logits(batch):
                    values = answers.numpy()
                    said[place, first : first + 500] = np.maximum(values - values.max(1, keepdims=True), -60_000)
                done = place * count + min(first + 500, count)
                yield done, len(VIEWS) * count, f"Predicting test images, {name}"

    yield from _timed(steps())
    Views(about.images.labels, said, about.network.classes, about.facts).save(folder.path / "views.npz")


def _predicted(
    about: _Subject, said: list[NDArray[np.float32]], before: int, total: int
) -> Iterator[tuple[int, int, str]]:
    """Let the network look at the images, and add its logits (N, K) to `said`."""
    import numpy as np

    parts: list[NDArray[np.float32]] = []
    for batch in about.network.logits(about.images.images):
        parts.append(batch.numpy())
        yield before + sum(map(len, parts)), total, f"Predicting {about.facts['split']} images"
    said.append(np.concatenate(parts))


def _evaluation(about: _Subject, said: NDArray[np.float32]) -> Evaluation:
    from cifar_core.evaluation import Evaluation

    return Evaluation.of_logits(about.images.labels, said, about.network.classes, about.facts)


def _keep_said(run: Run, about: _Subject, said: NDArray[np.float32]) -> None:
    """Keep the logits of weights of a whole epoch among those of the other epochs."""
    from cifar_core import logits

    if run.read_only:
        return
    start, epoch = run.start, about.facts["epoch"]
    # Of other images there is nothing to compare them with.
    if start and start.data_fingerprint == about.facts["fingerprint"] and epoch == int(epoch):
        facts = {name: value for name, value in about.facts.items() if name not in ("checkpoint", "epoch")}
        images = logits.Images(about.images.labels, about.indices, about.network.classes, facts)
        folder = run.logits(about.facts["split"])
        logits.begin(folder, images, after=math.inf)
        logits.keep(folder, int(epoch), said)


FORMING_SECONDS = 1.0
"""After which a map that forms is shown anew."""

MOST_FEATURES, MOST_VALUES = 1024, 64_000_000
"""Features that are kept of an image where those of all images together are more than so many numbers."""


def _map(
    folder: WorkFolder, cache: Path, run: str, checkpoint: str, data: str, how: dict[str, Any], over: list[str]
) -> Iterator[TaskProgress]:
    import numpy as np

    from cifar_core import features
    from cifar_core.subsets import subset_indices

    settings = features.Mapping(**how)
    # Threads wait for each other, which on busy cores costs far more than a core less.
    threads = max((os.cpu_count() or 1) - 1, 1)
    frames: list[dict[str, Any]] = []
    points: Any = None
    forming = folder.path / "forming.npz"
    forming.unlink(missing_ok=True)
    for place, name in enumerate(over or [checkpoint]):
        about = _subject(run, name, data, cache, settings.split)
        labels = np.asarray(about.images.labels)
        chosen = subset_indices(labels, min(settings.images, len(labels)), seed=settings.seed)
        images = about.images.images[chosen]
        which = f"Epoch {about.facts['epoch']:.4g}, {place + 1} of {len(over)}: " if over else ""
        embedded, answers, full = yield from _embedded(about, images, settings, which)
        found: list[features.Neighbours] = []

        def comparing(
            embedded: Any = embedded, found: Any = found, which: str = which
        ) -> Iterator[tuple[int, int, str]]:
            for done, total, some in features.neighbours_of(embedded, settings.attended(len(embedded))):
                found.append(some)
                yield done, total, f"{which}Looking for the nearest images of each"

        yield from _timed(comparing())
        near = features.joined(found)
        began, shown, before = time.monotonic(), 0.0, points
        for layout in features.laid_out(embedded, settings, near, begin=points, threads=threads):
            points, now = layout.points, time.monotonic()
            if now - shown >= FORMING_SECONDS:
                _keep_arrays(forming, points=points, indices=chosen, labels=labels[chosen])
                shown = now
            done = layout.iteration
            left = (now - began) / done * (layout.total - done) if done else None
            yield TaskProgress(done=done, total=layout.total, what=f"{which}Arranging the map", seconds_left=left)
        if before is not None:
            # Only the drift of the whole; who moved is told by what is left.
            points = features.aligned(points, before, "own")
        yield TaskProgress(done=0, total=1, what=f"{which}Measuring how far the map can be trusted", seconds_left=None)
        true, there = near.first(min(features.TRUE_NEIGHBOURS, len(chosen) - 1)).indices, labels[chosen]
        around = features.on_map(points, true.shape[1])
        frames.append(
            {
                "points": points,
                "predictions": answers.argmax(1).astype(np.int16),
                "confidences": answers.max(1),
                "trustworthiness": features.trustworthiness(embedded, points),
                "votes": features.vote_accuracy(there, true),
                "votes_on_map": features.vote_accuracy(there, around),
                "neighbours": true.astype(np.uint16),
                "kept": features.kept_neighbours(true, around),
                "epochs": about.facts["epoch"],
            }
        )
        facts = {**about.facts, "features": full, "reduced": embedded.shape[1] if embedded.shape[1] < full else 0}
        if settings.method == "PCA":
            facts["variance"] = features.shares_of_variance(embedded, settings.dimensions).tolist()
    asked = {**settings.what_matters, "perplexity": min(settings.perplexity, (len(chosen) - 1) / 3)}
    asked["images"] = len(chosen)
    _keep_arrays(
        folder.path / "map.npz",
        **{name: np.stack([frame[name] for frame in frames]) for name in frames[0]},
        indices=chosen,
        labels=labels[chosen],
        facts=json.dumps({**facts, **asked, "over": over}),
    )
    forming.unlink(missing_ok=True)


def _embedded(
    about: _Subject, images: NDArray[np.uint8], how: MapSettings, which: str
) -> Generator[TaskProgress, None, tuple[Any, Any, int]]:
    """What a layer makes of images (N, D), the probabilities (N, K), and how many features there were at first."""
    import numpy as np
    import torch

    from cifar_core.features import LAST_LAYER

    features: list[torch.Tensor] = []
    logits: list[torch.Tensor] = []
    full = 0

    def looking() -> Iterator[tuple[int, int, str]]:
        nonlocal full
        smaller = None
        for taken, said in about.network.looked_at(images, None if how.layer == LAST_LAYER else how.layer):
            full = taken.shape[1]
            if full > MOST_FEATURES and full * len(images) > MOST_VALUES:
                # Projections onto random directions keep distances nearly (Johnson and Lindenstrauss, 1984).
                if smaller is None:
                    chance = np.random.default_rng(how.seed).normal(0, MOST_FEATURES**-0.5, (full, MOST_FEATURES))
                    smaller = torch.from_numpy(chance.astype(np.float32))
                taken = taken @ smaller
            features.append(taken)
            logits.append(said)
            yield sum(map(len, features)), len(images), f"{which}Computing features"

    yield from _timed(looking())
    return torch.cat(features).numpy(), torch.cat(logits).softmax(1).numpy(), full


def _strongest(
    folder: WorkFolder, cache: Path, run: str, checkpoint: str, data: str, split: str, images: int
) -> Iterator[TaskProgress]:
    import numpy as np

    from cifar_core.activations import Strongest, strongest
    from cifar_core.subsets import subset_indices

    about = _subject(run, checkpoint, data, cache, split)
    labels = np.asarray(about.images.labels)
    chosen = np.sort(subset_indices(labels, min(images, len(labels)), seed=0))
    found: dict[str, Strongest] = {}

    def looking() -> Iterator[tuple[int, int, str]]:
        nonlocal found
        for done, now in strongest(about.network, about.images.images[chosen], labels[chosen]):
            found = now
            yield done, len(chosen), f"Looking at {split} images"

    yield from _timed(looking())
    _keep_arrays(
        folder.path / "strongest.npz",
        **{f"{layer}/{name}": value for layer, one in found.items() for name, value in vars(one).items()},
        indices=chosen,
        facts=json.dumps({**about.facts, "images": len(chosen)}),
    )


def _corrupt(
    folder: WorkFolder, cache: Path, run: str, checkpoint: str, data: str, images: int
) -> Iterator[TaskProgress]:
    from cifar_core.corruptions import CORRUPTIONS, SEVERITIES, corrupted

    about = _subject(run, checkpoint, data, cache)
    path = folder.path / "corruptions.npz"
    result = _begun(path, about, images, tuple(CORRUPTIONS), SEVERITIES)
    pictures = about.images.images[result.indices]

    def steps() -> Iterator[tuple[int, int, str]]:
        total, done = len(result) * result.done.size, len(result) * int(result.done.sum())
        for row, name in enumerate(result.rows):
            for column, severity in enumerate(SEVERITIES):
                if result.done[row, column]:
                    continue
                found = result.predictions[row, column]
                for first, block in corrupted(pictures, name, severity):
                    for logits in about.network.logits(block):
                        found[first : first + len(logits)] = logits.argmax(1).numpy()
                        done += len(logits)
                        yield done, total, f"{CORRUPTIONS[name].title}, severity {severity}"
            result.save(path)

    yield from _timed(steps(), parts=False)


def _attack(
    folder: WorkFolder, cache: Path, run: str, checkpoint: str, data: str, images: int
) -> Iterator[TaskProgress]:
    import torch

    from cifar_core.attacks import ATTACKS, EPSILONS, METHODS, predicted

    about = _subject(run, checkpoint, data, cache)
    path = folder.path / "attacks.npz"
    result = _begun(path, about, images, METHODS, EPSILONS)
    network, size = about.network, 100
    pixels = torch.from_numpy(about.images.images[result.indices]).float() / 255
    labels = torch.from_numpy(result.labels)

    def steps() -> Iterator[tuple[int, int, str]]:
        total, done = len(result) * result.done.size, len(result) * int(result.done.sum())
        for row, method in enumerate(METHODS):
            for column, epsilon in enumerate(EPSILONS):
                if result.done[row, column]:
                    continue
                found = result.predictions[row, column]
                for first in range(0, len(result), size):
                    part = slice(first, first + size)
                    batch, truth = pixels[part].to(network.device), labels[part].to(network.device)
                    moved = ATTACKS[method](network, batch, truth, epsilon / 255)
                    found[part] = predicted(network, moved).cpu().numpy()
                    done += len(batch)
                    yield done, total, f"{method.upper()}, epsilon {epsilon:g}/255"
                result.save(path)

    yield from _timed(steps(), parts=False)


def _begun(path: Path, about: _Subject, images: int, rows: Sequence[str], columns: Sequence[float]) -> Robustness:
    """What was measured of this before, or a result with nothing in it but what is predicted of untouched images."""
    import numpy as np
    import torch

    from cifar_core.robustness import MISSING, Robustness, RobustnessError
    from cifar_core.subsets import subset_indices

    labels = np.asarray(about.images.labels)
    indices = np.sort(subset_indices(labels, min(images, len(labels)), seed=0))
    with suppress(OSError, RobustnessError):
        before = Robustness.load(path)
        # Of other weights where a training has replaced them since.
        if before.facts == about.facts and np.array_equal(before.indices, indices):
            return before
    clean = torch.cat(list(about.network.logits(about.images.images[indices]))).argmax(1).numpy().astype(np.int16)
    empty = np.full((len(rows), len(columns), len(indices)), MISSING, np.int16)
    return Robustness(
        indices, labels[indices], clean, empty, tuple(rows), tuple(columns), about.network.classes, about.facts
    )


def _sensitivity(
    folder: WorkFolder,
    cache: Path,
    run: str,
    checkpoint: str,
    data: str,
    pipeline: dict[str, Any],
    along: str,
    values: list[float],
    images: int,
    seed: int,
) -> Iterator[TaskProgress]:
    import io

    import numpy as np
    import torch

    from cifar_core.sensitivity import answers
    from cifar_core.subsets import subset_indices
    from cifar_core.transforms import Augmentation

    about = _subject(run, checkpoint, data, cache)
    labels = np.asarray(about.images.labels)
    chosen = subset_indices(labels, min(images, len(labels)), seed=0)
    pixels, true = torch.from_numpy(np.array(about.images.images[chosen])), torch.from_numpy(labels[chosen])
    pipelines = [Augmentation(**{**pipeline, along: value}) for value in values]
    sure, right = [], []

    def steps() -> Iterator[tuple[int, int, str]]:
        for probability, hit in answers(about.network, pixels, true, pipelines, seed):
            sure.append(probability.numpy())
            right.append(hit.numpy())
            yield len(sure), len(values), "Asking the network at each strength"

    yield from _timed(steps())
    content = io.BytesIO()
    np.savez_compressed(
        content,
        probabilities=np.stack(sure),
        right=np.stack(right),
        facts=json.dumps({**about.facts, "images": len(true)}),
    )
    write_whole(folder.path / "curve.npz", content.getvalue())


def _attributes(folder: WorkFolder, cache: Path, data: str) -> Iterator[TaskProgress]:
    from cifar_core.attributes import joined, measured
    from cifar_core.datasets import open_cached

    opened = open_cached(data, cache)
    total = opened.info.train_images + opened.info.test_images

    def steps() -> Iterator[tuple[int, int, str]]:
        done = 0
        for split in ("train", "test"):
            parts = []
            for part in measured(getattr(opened, split)):
                parts.append(part)
                done += len(part)
                yield done, total, "Measuring images"
            write_whole(folder.path / f"{split}.npz", joined(parts).to_bytes())

    yield from _timed(steps())


def _duplicates(folder: WorkFolder, cache: Path, data: str) -> Iterator[TaskProgress]:
    from cifar_core.datasets import open_cached

    opened = open_cached(data, cache)
    pairs = yield from _alike([opened.train, opened.test])
    _keep_arrays(folder.path / "pairs.npz", **dataclasses.asdict(pairs))


def _alike(splits: Sequence[Split]) -> Generator[TaskProgress, None, Pairs]:
    """The near-duplicates of several splits, ranked."""
    import numpy as np

    from cifar_core.attributes import measured
    from cifar_core.suspects import alike_pairs, join_pairs

    thumbs, found = [], []
    total = sum(len(split.labels) for split in splits)

    def looking() -> Iterator[tuple[int, int, str]]:
        done = 0
        for split in splits:
            for part in measured(split):
                thumbs.append(part.thumbs)
                done += len(part)
                yield done, total, "Making images small"

    def comparing() -> Iterator[tuple[int, int, str]]:
        for done, images, pairs in alike_pairs(np.concatenate(thumbs), [split.images for split in splits]):
            found.append(pairs)
            yield done, images, "Comparing each image with all others"

    yield from _timed(looking())
    yield from _timed(comparing())
    return join_pairs(found).ranked()


def _crossed(folder: WorkFolder, cache: Path, data: str) -> Iterator[TaskProgress]:
    from cifar_core.datasets import open_cached

    opened = open_cached(data, cache)
    probabilities = yield from _predicted_unseen(opened)
    _keep_arrays(folder.path / "crossed.npz", probabilities=probabilities)


def _predicted_unseen(data: DataSet) -> Generator[TaskProgress, None, Any]:
    """(N, K) probabilities of each training image by a network that has not seen it."""
    import numpy as np

    from cifar_core.compute import choose, prepare_device
    from cifar_core.crossing import out_of_fold

    compute = choose("auto", "auto")
    prepare_device(compute)
    probabilities = np.zeros((len(data.train.labels), len(data.info.classes)), np.float32)
    yield from _timed(out_of_fold(data, compute, probabilities))
    return probabilities


def _demonstration(
    folder: WorkFolder, cache: Path, data: str, images: int, run: str | None, checkpoint: str | None
) -> Iterator[TaskProgress]:
    import numpy as np

    from cifar_core.datasets import open_cached
    from cifar_core.invariance import VIEWS, view
    from cifar_core.suspects import Confidence, planted

    opened = open_cached(data, cache)
    about = _subject(run, checkpoint or "best", data, cache) if run else None
    # A run has not seen the test images, so that its predictions of these are held out.
    put = planted(about.images if about else opened.train, len(opened.info.classes), images, seed=0)
    pairs = yield from _alike([put.split])
    if about:
        probabilities = np.zeros((len(put.split.labels), len(opened.info.classes)), np.float32)

        def predicting() -> Iterator[tuple[int, int, str]]:
            done, total = 0, len(VIEWS) * len(put.split.labels)
            for name in VIEWS:
                for first in range(0, len(put.split.labels), 500):
                    part = slice(first, first + 500)
                    answers = about.network.probabilities(view(put.split.images[part], name)).numpy()
                    probabilities[part] += answers / len(VIEWS)
                    done += len(answers)
                    yield done, total, "Predicting images, as they are, flipped and shifted"

        yield from _timed(predicting())
    else:
        probabilities = yield from _predicted_unseen(dataclasses.replace(opened, train=put.split))
    confidence = Confidence(put.split.labels, probabilities)
    _keep_arrays(
        folder.path / "demonstration.npz",
        images=len(put.split.labels),
        agreement=(probabilities.argmax(1) == put.split.labels).mean(),
        wrong=put.wrong,
        suspects=confidence.suspects(),
        expected=confidence.errors_expected,
        originals=put.originals,
        copies=put.copies,
        first=pairs.first,
        second=pairs.second,
        facts=json.dumps(about.facts if about else {}),
    )


def _known(folder: WorkFolder, cache: Path, run: str, checkpoint: str, data: str, split: str) -> Iterator[TaskProgress]:
    import numpy as np
    import torch

    from cifar_core.suspects import NEIGHBOURS, nearest

    about = _subject(run, checkpoint, data, cache, split)
    images, total = about.images.images, len(about.images.labels)
    features: list[torch.Tensor] = []
    blocks: list[tuple[Any, Any]] = []

    def embedding() -> Iterator[tuple[int, int, str]]:
        for batch in about.network.embeddings(images):
            features.append(batch)
            yield sum(map(len, features)), total, f"Predicting {split} images"

    yield from _timed(embedding())
    embedded = torch.cat(features)
    with torch.inference_mode():
        head = about.network.model.head
        probabilities = head(embedded.to(about.network.device)).float().softmax(1).cpu().numpy()

    def comparing() -> Iterator[tuple[int, int, str]]:
        for done, images, places, distances in nearest(embedded.numpy(), min(NEIGHBOURS, total - 1)):
            blocks.append((places, distances))
            yield done, images, "Looking for the nearest images of each"

    yield from _timed(comparing())
    _keep_arrays(
        folder.path / "known.npz",
        probabilities=probabilities,
        labels=about.images.labels,
        neighbours=np.concatenate([places for places, _ in blocks]).astype(np.int32),
        distances=np.concatenate([distances for _, distances in blocks]).astype(np.float32),
        facts=json.dumps(about.facts),
    )


def _keep_arrays(path: Path, **arrays: Any) -> None:
    import io

    import numpy as np

    content = io.BytesIO()
    np.savez(content, **arrays)
    write_whole(path, content.getvalue())


def _familiarity(folder: WorkFolder, cache: Path, run: str, checkpoint: str, data: str) -> Iterator[TaskProgress]:
    import numpy as np
    import torch

    from cifar_core.datasets import open_cached
    from cifar_core.familiarity import MOST_VALUES, Known
    from cifar_core.subsets import renumbered, subset_indices

    about = _subject(run, checkpoint, data, cache)
    opened = open_cached(data, cache)
    trained, _ = _trained_and_held_out(run, opened, cache)
    labels = renumbered(np.asarray(opened.train.labels), opened.info.classes, about.network.classes)
    head = about.network.model.head
    of = len(trained)
    if (most := max(MOST_VALUES // head.in_features, 2)) < of:
        trained = trained[subset_indices(labels[trained], most, seed=0)]
    found: list[Any] = []

    def embedding() -> Iterator[tuple[int, int, str]]:
        done = 0
        for start in range(0, len(trained), 500):
            found.extend(about.network.embeddings(opened.train.images[trained[start : start + 500]]))
            done += len(found[-1])
            yield done, len(trained), "Computing features"

    yield from _timed(embedding())
    features = torch.cat(found)
    with torch.inference_mode():
        probabilities = head(features.to(about.network.device)).float().cpu().softmax(1).numpy()
    known = Known(
        features=features.numpy().astype(np.float16),
        probabilities=probabilities,
        labels=labels[trained],
        indices=trained,
        biased=head.bias is not None,
        facts={**about.facts, "training_images": len(trained), "of_training_images": of},
    )
    write_whole(folder.path / "known.npz", known.content())


def _trained_and_held_out(run: str, data: DataSet, cache: Path) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Which images of the training split a run was trained on and was validated on."""
    from cifar_core.subsets import training_indices

    config = Run(Path(run)).config
    return training_indices(config, data, selections.allowed(config, data.info, selections.folder_of(cache)))


def _strangeness(folder: WorkFolder, cache: Path, run: str, checkpoint: str, data: str) -> Iterator[TaskProgress]:
    import numpy as np

    from cifar_core.datasets import open_cached
    from cifar_core.strangeness import TRAINING_IMAGES, learn
    from cifar_core.subsets import renumbered, subset_indices

    about = _subject(run, checkpoint, data, cache)
    opened = open_cached(data, cache)
    trained, held_out = _trained_and_held_out(run, opened, cache)
    labels = renumbered(np.asarray(opened.train.labels), opened.info.classes, about.network.classes)
    some = trained[subset_indices(labels[trained], min(TRAINING_IMAGES, len(trained)), seed=0)]
    test = about.images.images
    parts = {
        "training": (opened.train.images, some),
        "validation": (opened.train.images, held_out),
        "test": (test, np.arange(len(test))),
    }
    facts = {
        **about.facts,
        **{f"{name}_images": len(chosen) for name, (_, chosen) in parts.items()},
        "of_training_images": len(trained),
    }
    found: list[Any] = []

    def learning() -> Iterator[tuple[int, int, str]]:
        found.append((yield from learn(about.network, parts, facts)))

    yield from _timed(learning(), parts=False)
    write_whole(folder.path / "strangeness.npz", found[0].content())


def _range(folder: WorkFolder, cache: Path, config: dict[str, Any], data: str, weights: str | None) -> Iterator[Event]:
    from cifar_core.compute import choose, prepare_device
    from cifar_core.datasets import open_cached
    from cifar_core.networks import load_tensors
    from cifar_core.ranging import STEPS, RangeTest
    from cifar_core.training import material

    settings = TrainConfig.from_values(config)
    compute = choose(settings.device, settings.precision)
    prepare_device(compute)
    opened = open_cached(data, cache)
    model = _fresh(settings, opened, pretrained=weights is None)
    allowed = selections.allowed(settings, opened.info, selections.folder_of(cache))
    test = RangeTest(settings, model, material(settings, opened, compute.device, allowed), compute)
    if weights:
        tensors, metadata = load_tensors(Path(weights))
        test.fork(tensors, metadata.get("training", {}))
    points: list[Tried] = []

    def steps() -> Iterator[tuple[int, int, str]]:
        for point in test.points():
            points.append(point)
            yield len(points), STEPS, "Trying learning rates"

    for progress in _timed(steps()):
        yield points[-1]
        yield progress


def _data(folder: WorkFolder, cache: Path, source: str | None, downloads: str) -> Iterator[TaskProgress]:
    from cifar_core.datasets import prepare
    from cifar_core.sources import download

    if source is None:
        yield from _timed(((p.done, p.total, p.what) for p in download(Path(downloads))), unit="bytes")
        source = str(Path(downloads) / "cifar-10-python.tar.gz")
    yield from _timed(((p.done, p.total, p.what) for p in prepare(source, cache)), parts=False)


def _device(folder: WorkFolder, cache: Path) -> Iterator[TaskProgress]:
    yield TaskProgress(done=0, total=1, what="Looking for the fastest device", seconds_left=None)

    from cifar_core.compute import choose

    _keep_device(folder, choose())


def _keep_device(folder: WorkFolder, compute: Compute) -> None:
    """Write down what an automatic choice came to."""
    answer = {
        "device": compute.device.type,
        "name": compute.describe(),
        "reason": compute.reason,
        "torch": importlib.metadata.version("torch"),
        "python": platform.python_version(),
        "cores": os.cpu_count(),
    }
    write_whole(folder.path / "device.json", json.dumps(answer).encode())


def _timed(steps: Iterator[tuple[int, int, str]], parts: bool = True, unit: str = "") -> Iterator[TaskProgress]:
    """Add an estimate of the time left, from the pace of the part under way.

    Args:
        parts: Whether each thing that is done counts for itself; else all of them together.
        unit: What is counted, as in `TaskProgress`.
    """
    what_now, began, first = "", time.monotonic(), 0
    for done, total, what in steps:
        now = time.monotonic()
        if what != what_now and (parts or not what_now):
            what_now, began, first = what, now, done
        pace = (now - began) / (done - first) if done > first else None
        left = pace and pace * (total - done)
        yield TaskProgress(done=done, total=total, what=what, seconds_left=left, unit=unit)


def stop_on_signals(folder: WorkFolder) -> None:
    """Let Ctrl-C and a polite kill mean: stop and keep what there is. A second Ctrl-C ends the process at once."""
    asked = False

    def stop(number: int, _: object) -> None:
        nonlocal asked
        if number == signal.SIGINT:
            signal.signal(number, signal.SIG_DFL)
        # Once: a signal that comes while this one is being answered would wait for it for ever.
        if not asked:
            asked = True
            folder.request("stop", {"signal": number})

    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, stop)


def share_cores() -> None:
    """Let threads of this process give way to other programs while they wait; to be called before torch is imported."""
    os.environ.setdefault("GOMP_SPINCOUNT", SPINS)


def was_stopped_by_signal(run: Run) -> bool:
    """Whether a signal to its worker, rather than a person at the controls, has asked the run to stop."""
    return "signal" in (read_json(run.path / "control" / "stop") or {})


def main() -> None:
    """The worker: `python -m cifar_core.job FOLDER CACHE LOCK`."""
    share_cores()
    folder, cache, lock = Path(sys.argv[1]), Path(sys.argv[2]), int(sys.argv[3])
    # The lock must end with this process, not with a child of it.
    os.set_inheritable(lock, False)
    with suppress(OSError):
        os.nice(10)  # The pages must stay quick on a machine with few cores.
    stop_on_signals(WorkFolder(folder))
    is_run = (folder / "config.json").exists()
    for _ in execute(Run(folder), cache) if is_run else execute_task(WorkFolder(folder), cache):
        pass


if __name__ == "__main__":
    main()
