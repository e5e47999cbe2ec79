"""One folder per run, written by its worker and read by everybody else; nothing about it is kept anywhere else.

A folder holds what was asked (`config.json`), what happened (`events.jsonl`), what is wanted of it now (`control/`),
a lock that its worker holds for as long as it lives, its checkpoints and its worker's log. The state is derived from
these at every look, so two readers never disagree and nothing has to be cleaned up after a crash.
"""

from __future__ import annotations

import fcntl
import json
import math
import os
import re
import secrets
import shutil
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass, field, fields, replace
from operator import itemgetter
from pathlib import Path
from typing import Any

from cifar_core.config import BEGINS_ANEW, TrainConfig
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
    from_line,
    to_line,
)

ID_PATTERN = re.compile(r"[0-9]{8}-[0-9]{6}-[a-z0-9_]{1,40}-[0-9a-f]{4}")

REFERENCE = Path(__file__).resolve().parent / "reference"
"""The run that comes with the program: a network trained on all of CIFAR-10, to look at before any other is there. It
can be read, forked and repeated; nobody changes it. Its id is its folder's name."""

CHECKPOINT_PATTERN = re.compile(r"best|last|(epoch|step)-(0|[1-9][0-9]{0,9})")
"""Names of checkpoints: two that are written anew again and again, and those kept on purpose."""

KEPT_EPOCHS = 30
"""How many checkpoints `keep_every` leaves at most, which bounds the disk space of a run."""

_HALF_WRITTEN = re.compile(r"\..+\.(\d+(\.\d+)?\.tmp|\d+\.\d+\.partial|npz\.[0-9a-f]{32})")
"""Files beside their place: of `write_whole`, `networks.save_tensors` and `Evaluation.save`."""

LONGEST_HEADER = 100_000_000
"""Bytes; as in the safetensors library."""

_ABANDONED = re.compile(r"\.(.+)\.(new|deleted)")
_ABANDONED_SECONDS = 3600.0

KEPT = ("epoch-", "step-")
"""How the names of checkpoints begin that are kept on purpose."""

INHERITED_ROWS = 600
"""Moments of the parent's curve that a fork keeps, beside all its whole epochs."""

STATES = ("ready", "starting", "waiting", "running", "paused", "finished", "stopped", "failed", "interrupted")
ALIVE = ("starting", "waiting", "running", "paused")


class RunError(ValueError):
    """One sentence about a run that cannot be found, read or asked something."""


class Held(RunError):
    """Another process already works in this folder."""


@dataclass(frozen=True)
class WorkFolder:
    """A folder in which one process at a time works and says what it does: a run, or a task in the background."""

    path: Path

    @property
    def log_path(self) -> Path:
        return self.path / "worker.log"

    def must_be_ours(self) -> None:
        """Refuse what would change a folder that is only to be read.

        Raises:
            RunError: It is the run that comes with the program.
        """

    @contextmanager
    def held(self) -> Iterator[int]:
        """Hold the folder's lock, and give its file descriptor for a child to inherit.

        A lock of the system, not a file with a process id: it ends with its last holder however that one dies.

        Raises:
            Held: Another process holds it.
        """
        self.must_be_ours()
        descriptor = os.open(self.path / "lock", os.O_RDWR | os.O_CREAT, 0o644)
        try:
            try:
                _lock(descriptor)
            except BlockingIOError:
                raise Held(f"{self.path.name} is already being worked on by another process.") from None
            yield descriptor
        finally:
            os.close(descriptor)

    @property
    def alive(self) -> bool:
        """Whether a process works here now."""
        try:
            descriptor = os.open(self.path / "lock", os.O_RDONLY)
        except OSError:
            return False
        try:
            # Shared, so that two readers who look at the same time do not take each other for a worker.
            fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except BlockingIOError:
            return True
        finally:
            os.close(descriptor)
        return False

    def append(self, event: Event) -> None:
        """Add an event in one write, after closing a line that a killed worker left open."""
        self.must_be_ours()
        with (self.path / "events.jsonl").open("ab+") as file:
            torn = b""
            if file.tell():
                file.seek(-1, os.SEEK_END)
                torn = b"" if file.read(1) == b"\n" else b"\n"
            file.write(torn + to_line(event).encode())

    def events(self) -> list[Event]:
        """All events so far. Only what is new since the last call is read; readers in all threads share that."""
        return _LOGS.read(self.path / "events.jsonl")

    def landmarks(self) -> list[Event]:
        """The events without those that say how far it is, of which only the newest of a kind is there.

        All that is asked of many runs at once comes from these: a log's thousands of signs of life are neither parsed
        nor kept for it.
        """
        return _LANDMARKS.read(self.path / "events.jsonl")

    def request(self, name: str, values: Mapping[str, Any] | None = None) -> None:
        """Ask the worker for something, e.g. `stop`; asking twice is asking once.

        Args:
            values: What exactly is wanted; JSON.

        Raises:
            RunError: The folder cannot be written, or the run comes with the program.
        """
        self.must_be_ours()
        control = self.path / "control"
        with self._asked_of():
            control.mkdir(exist_ok=True)
            with alone(self.path):
                # What was asked before and not yet taken stays asked.
                wanted = {**(read_json(control / name) or {}), **(values or {})}
                write_whole(control / name, json.dumps(wanted).encode())

    def withdraw(self, name: str) -> None:
        """Take a request back.

        Raises:
            RunError: The folder cannot be written.
        """
        with self._asked_of():
            (self.path / "control" / name).unlink(missing_ok=True)

    @contextmanager
    def _asked_of(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            raise RunError(f"{self.path.name} cannot be asked for anything: {error.strerror}.") from None

    def requested(self, name: str) -> bool:
        return (self.path / "control" / name).exists()

    def asked_since(self, name: str) -> float | None:
        """Seconds since the request was made; None where there is none."""
        with suppress(OSError):
            return max(time.time() - (self.path / "control" / name).stat().st_mtime, 0.0)
        return None

    def taken(self, name: str) -> dict[str, Any] | None:
        """What was asked under this name, which is thereby withdrawn; None where nothing was."""
        path = self.path / "control" / name
        if not path.exists():
            return None
        # Moved away first: what is asked from here on is another request.
        mine = path.with_name(f".{name}.begun")
        with suppress(OSError):
            path.replace(mine)
            return read_json(mine) or {}
        return None

    def fulfilled(self, name: str) -> None:
        """What was taken under this name is done; until then a worker that dies leaves it to the next one."""
        (self.path / "control" / f".{name}.begun").unlink(missing_ok=True)

    def sweep(self) -> None:
        """Remove what killed writers left half-written, and ask again what the last worker took and did not do.

        For the worker, which holds the lock.
        """
        for left in (self.path / "control").glob(".*.begun"):
            name = left.name.removeprefix(".").removesuffix(".begun")
            # What has been asked since then comes after it.
            with suppress(OSError):
                since = read_json(self.path / "control" / name)
                write_whole(left, json.dumps({**(read_json(left) or {}), **(since or {})}).encode())
                left.replace(left.with_name(name))
        for folder in (self.path, *(self.path / name for name in ("checkpoints", "control", "logits/validation"))):
            with suppress(OSError):
                for entry in os.scandir(folder):
                    # Requests are written by others, who may be at it now.
                    fresh = folder.name == "control" and time.time() - entry.stat().st_mtime < 60
                    if _HALF_WRITTEN.fullmatch(entry.name) and not fresh:
                        Path(entry).unlink(missing_ok=True)

    @property
    def last_end(self) -> End | None:
        """How the last worker ended, if it has."""
        for event in reversed(self.landmarks()):
            if isinstance(event, End):
                return event
            if isinstance(event, Boot):
                return None
        return None

    @property
    def state(self) -> str:
        """One of `STATES`, derived from the lock and the last events."""
        alive = self.alive
        for event in reversed(self.landmarks()):
            if isinstance(event, End):
                # Between its last word and its exit a worker still holds the lock.
                return event.outcome
            if isinstance(event, Paused):
                return "paused" if alive else "interrupted"
            if isinstance(event, Waiting):
                return "waiting" if alive else "interrupted"
            if isinstance(event, Start | Progress | Epoch | Resumed):
                return "running" if alive else "interrupted"
            if isinstance(event, Boot | TaskProgress):
                return "starting" if alive else "interrupted"
        return "starting" if alive else "ready"

    def log_tail(self, lines: int = 30) -> str:
        """The last lines of what the worker printed."""
        with suppress(OSError), self.log_path.open("rb") as file:
            file.seek(max(0, file.seek(0, os.SEEK_END) - 20_000))
            return "\n".join(file.read().decode(errors="replace").splitlines()[-lines:])
        return ""


def _lock(descriptor: int) -> None:
    """Take the lock for oneself; BlockingIOError where a worker has it."""
    while True:
        with suppress(BlockingIOError):
            return fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        # Sharing fails beside a worker. Beside readers it does not: they look for microseconds, so try again.
        fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
        fcntl.flock(descriptor, fcntl.LOCK_UN)
        time.sleep(0.001)


@dataclass(frozen=True)
class _Log:
    """What was read of an event file so far."""

    identity: tuple[int, int]
    offset: int = 0
    kept: tuple[tuple[int, Event], ...] = ()
    """With the bytes before them."""
    passing: Mapping[bytes, tuple[int, Event]] = field(default_factory=dict)
    events: list[Event] = field(default_factory=list)


class _Logs:
    """Event files read so far, each parsed once for the whole process.

    Args:
        passing: How the lines begin of which only the newest counts.
    """

    def __init__(self, *passing: bytes) -> None:
        self._guard = threading.Lock()
        self._passing = passing
        self._others = re.compile(rb"\n(?!" + b"|".join(map(re.escape, (b"\n", *passing))) + rb")(.+)").finditer
        self._read: dict[Path, _Log] = {}

    def forget(self, path: Path) -> None:
        with self._guard:
            self._read.pop(path, None)

    def read(self, path: Path) -> list[Event]:
        with self._guard:
            try:
                stat = path.stat()
            except OSError:
                self._read.pop(path, None)
                return []
            identity = (stat.st_dev, stat.st_ino)
            log = self._read.get(path, _Log(identity))
            if log.identity != identity or stat.st_size < log.offset:
                log = _Log(identity)
            if stat.st_size > log.offset:
                with path.open("rb") as file:
                    file.seek(log.offset)
                    new = file.read()
                # What follows the last newline is still being written.
                log = self._longer(log, new[: new.rfind(b"\n") + 1])
            self._read[path] = log
            return log.events

    def _longer(self, log: _Log, new: bytes) -> _Log:
        # Long runs have thousands of lines, and hundreds of runs are read at once: of what is passing only the newest
        # line is parsed.
        text = b"\n" + new
        numbered = (
            (log.offset + line.start(), from_line(line[1].decode(errors="replace"))) for line in self._others(text)
        )
        kept = [*log.kept, *((at, event) for at, event in numbered if event)]
        passing = dict(log.passing)
        for start in self._passing:
            at = text.rfind(b"\n" + start)
            if at >= 0 and (event := from_line(text[at + 1 : text.index(b"\n", at + 1)].decode(errors="replace"))):
                passing[start] = (log.offset + at, event)
        in_order = sorted([*kept, *passing.values()], key=itemgetter(0)) if passing else kept
        return _Log(log.identity, log.offset + len(new), tuple(kept), passing, [event for _, event in in_order])


_LOGS = _Logs()
_LANDMARKS = _Logs(*(f'{{"kind": "{kind}"'.encode() for kind in (Progress.kind, TaskProgress.kind, Inspected.kind)))


def _as_before(change: Changed, later: Changed) -> bool:
    """Whether the later change sets out from the same values, and so is the same change made again."""
    return all(name in later.before and later.before[name] == value for name, value in change.before.items())


NAME_LENGTH, NOTE_LENGTH = 60, 200
_MARKUP = frozenset('<>&`*[]{}$\\|~^"')
"""Signs that mean something to one of the places where names are shown, such as HTML and Markdown."""


@dataclass(frozen=True)
class About:
    """What people say of a run; the training does not depend on it.

    Raises:
        RunError: The name or the note is too long, or holds signs of markup or of control.
    """

    name: str = ""
    note: str = ""
    starred: bool = False
    archived: bool = False

    def __post_init__(self) -> None:
        for what in ("name", "note"):
            object.__setattr__(self, what, str(getattr(self, what)).strip())
        for what, text, longest in (("name", self.name, NAME_LENGTH), ("note", self.note, NOTE_LENGTH)):
            if len(text) > longest:
                raise RunError(f"The {what} of a run may have {longest} characters, but this one has {len(text)}.")
            wrong = next((sign for sign in text if sign in _MARKUP or not sign.isprintable()), None)
            if wrong:
                raise RunError(f"The {what} of a run may not hold {wrong!r}; use letters, digits and plain signs.")


@dataclass(frozen=True)
class DiskUse:
    """Bytes that a run takes, and what they are for."""

    weights: int
    """Of the best and the last checkpoint, and of what a fork began with."""
    kept: int
    """Of checkpoints kept on purpose."""
    results: int
    """Of evaluations and maps, which can be made again."""
    logits: int
    """Of what the network said of every image after each epoch."""
    records: int
    """All else: settings, events, logs."""

    @property
    def total(self) -> int:
        return self.weights + self.kept + self.results + self.logits + self.records


def work_folder(path: Path) -> WorkFolder:
    """The folder of a piece of work, made where that can be; where it cannot, starting the work says what is wrong."""
    with suppress(OSError):
        path.mkdir(parents=True, exist_ok=True)
    return WorkFolder(path)


@dataclass(frozen=True)
class Run(WorkFolder):
    """The folder of one training.

    Args:
        beside: The folder of runs it is shown among, where that is not the one it lies in, as for the run that comes
            with the program.
    """

    beside: Path | None = field(default=None, compare=False)

    @property
    def id(self) -> str:
        return self.path.name

    @property
    def root(self) -> Path:
        """The folder of the runs it is among, where forks of it go and what is made of it."""
        return self.beside or self.path.parent

    @property
    def read_only(self) -> bool:
        """Whether it is the run that comes with the program."""
        return self.path == REFERENCE

    def must_be_ours(self) -> None:
        if self.read_only:
            raise RunError("The reference run comes with the program and can only be read; fork or repeat it instead.")

    def sweep(self) -> None:
        # A worker that died between saying what it changed and taking the request away is not asked for it again.
        begun = self.path / "control" / ".change.begun"
        with suppress(OSError):
            asked, since = read_json(begun) or {}, begun.stat().st_mtime
            told = (event for event in self.landmarks() if isinstance(event, Changed) and event.time >= since)
            if any(asked.items() <= dict(event.values).items() for event in told):
                begun.unlink()
        super().sweep()

    @property
    def model(self) -> str:
        """The name of its network, also where its settings cannot be read."""
        return self.config.model if self.read_only else self.id.split("-")[2]

    @property
    def config(self) -> TrainConfig:
        """What was asked for.

        Raises:
            RunError: The settings cannot be read.
        """
        try:
            return TrainConfig.from_json((self.path / "config.json").read_text())
        except (OSError, ValueError, TypeError) as error:
            raise RunError(f"The settings of run {self.id} cannot be read: {error}") from None

    @property
    def about(self) -> About:
        """Name, note, star and archive; what cannot be read is as if nothing had been said."""
        known = read_json(self.path / "about.json")
        try:
            names = {f.name for f in fields(About)}
            return About(**{name: value for name, value in dict(known or {}).items() if name in names})
        except (TypeError, ValueError):
            return About()

    def describe(self, **values: Any) -> None:
        """Change something of what is said about the run, e.g. `name="wide"` or `archived=True`.

        Raises:
            RunError: What is said cannot stand, or the folder may not be changed.
        """
        self.must_be_ours()
        try:
            with alone(self.path):
                about = replace(self.about, **values)
                write_whole(self.path / "about.json", json.dumps(asdict(about)).encode())
        except OSError as error:
            raise RunError(f"Run {self.id} cannot be changed: {error.strerror}.") from None

    @property
    def start(self) -> Start | None:
        """The first start: the facts about data, device and model."""
        return next((event for event in self.landmarks() if isinstance(event, Start)), None)

    @property
    def latest(self) -> Progress | Epoch | None:
        """The newest sign of progress."""
        return next((event for event in reversed(self.landmarks()) if isinstance(event, Progress | Epoch)), None)

    @property
    def epochs(self) -> list[Epoch]:
        """The finished epochs in order; where a run went on from a checkpoint, the later record counts."""
        return list({event.epoch: event for event in self.landmarks() if isinstance(event, Epoch)}.values())

    @property
    def parent(self) -> tuple[str, str] | None:
        """The id of the run this one was forked from, and the checkpoint; None for a run of its own."""
        known = read_json(self.path / "parent.json")
        return (known["run"], known["checkpoint"]) if known else None

    @property
    def parent_run(self) -> Run | None:
        """The run this one was forked from, whose folder may be gone by now; None for a run of its own."""
        if self.parent is None:
            return None
        name, _ = self.parent
        if name == REFERENCE.name:
            return Run(REFERENCE, self.root)
        return Run(self.root / name) if ID_PATTERN.fullmatch(name) else None

    @property
    def changes(self) -> list[Changed]:
        """What was changed while it trained, in order; after a resume from a checkpoint, the later record counts."""
        kept: list[Changed] = []
        earlier: list[Changed] = []
        for event in self.landmarks():
            if isinstance(event, Start):
                # Of the very step the checkpoint may be of before the change, which is then made again, or of after it.
                kept = [change for change in kept if change.step <= event.step]
                earlier = list(kept)
            elif isinstance(event, Changed):
                again = [change for change in earlier if change.step == event.step and _as_before(change, event)]
                kept = [change for change in kept if change not in again] + [event]
        return kept

    @property
    def settings(self) -> TrainConfig:
        """The settings in force: what was asked for, with what was changed since.

        Raises:
            RunError: The settings cannot be read.
        """
        values: dict[str, Any] = {}
        for change in self.changes:
            values.update(change.values)
        config = self.config
        try:
            return config.changed(values)
        except (ValueError, TypeError) as error:
            raise RunError(f"The changes of run {self.id} cannot be read: {error}") from None

    def settings_of(self, checkpoint: str) -> TrainConfig:
        """The settings that were in force when the weights of a checkpoint were kept.

        Raises:
            RunError: The settings cannot be read.
        """
        path = self.checkpoints().get(checkpoint)
        return self.settings if checkpoint == "last" or path is None else _settings_in(path) or self.settings

    @property
    def settings_inherited(self) -> TrainConfig | None:
        """Those that were in force in its parent where this run was forked from it; None where that is not known.

        Raises:
            RunError: The settings cannot be read.
        """
        parent = self.parent_run
        if self.parent is None or parent is None:
            return None
        last = self.parent[1] == "last"
        return (None if last else _settings_in(self.path / "beginning.safetensors")) or parent.settings

    @property
    def plan(self) -> dict[int, dict[str, Any]]:
        """Changes to be made by the step from which they are in force: of the run this one repeats, and its own that
        lie behind its last checkpoint."""
        steps: dict[int, dict[str, Any]] = {}
        for step, values in read_json(self.path / "plan.json") or []:
            steps.setdefault(int(step), {}).update(values)
        # All of them, not `changes` alone: a worker may have died again before it came to repeat one.
        for change in (event for event in self.events() if isinstance(event, Changed)):
            planned = steps.setdefault(change.step, {})
            new = {name for name, value in change.values.items() if name not in planned or planned[name] != value}
            for later in (values for step, values in steps.items() if step > change.step):
                for name in new:
                    # What was changed by hand after going back takes the place of what once came later.
                    later.pop(name, None)
            planned.update(change.values)
        return steps

    @property
    def best(self) -> Epoch | None:
        """The epoch with the highest validation accuracy, the earliest of equals."""
        numbers = (epoch for epoch in self.epochs if math.isfinite(epoch.validation_accuracy))
        return max(numbers, key=lambda epoch: epoch.validation_accuracy, default=None)

    def history(self) -> list[dict[str, Any]]:
        """Rows for the curves: an epoch each, and between epochs the training so far.

        Returns:
            Rows with `epoch` (float), `train_loss`, `train_accuracy`, `validation_loss`, `validation_accuracy`,
            `learning_rate`, `images_per_second`, None where a row has no such figure; `whole_epoch`, and `inherited`
            for what a fork has from its parent.
        """
        rows: dict[float, dict[str, Any]] = {row["epoch"]: row for row in self._inherited()}
        for event in self.events():
            if isinstance(event, Start):
                # A resumed run repeats from its checkpoint; what the lost steps had said no longer holds.
                from_epoch = event.step / event.steps_per_epoch
                rows = {epoch: row for epoch, row in rows.items() if epoch <= from_epoch + 1e-9}
            elif isinstance(event, Epoch) or (isinstance(event, Progress) and event.phase == "training"):
                whole = isinstance(event, Epoch)
                rows[float(event.epoch)] = {
                    "epoch": float(event.epoch),
                    "train_loss": event.train_loss,
                    "train_accuracy": event.train_accuracy,
                    "validation_loss": event.validation_loss if isinstance(event, Epoch) else None,
                    "validation_accuracy": event.validation_accuracy if isinstance(event, Epoch) else None,
                    "learning_rate": event.learning_rate,
                    "images_per_second": event.images_per_second,
                    "whole_epoch": whole,
                    "inherited": False,
                }
        return [rows[epoch] for epoch in sorted(rows)]

    def inspections(self) -> list[Inspected]:
        """What the network looked like after each epoch, in order; a fork's begin with its parent's."""
        looks: dict[int, Inspected] = {}
        if parent := self.parent_run:
            looks = {look.epoch: look for look in parent.inspections()}
        for event in self.events():
            if isinstance(event, Start):
                # As in `history`.
                looks = {epoch: look for epoch, look in looks.items() if epoch <= event.step / event.steps_per_epoch}
            elif isinstance(event, Inspected):
                looks[event.epoch] = event
        return [looks[epoch] for epoch in sorted(looks)]

    def _inherited(self) -> list[dict[str, Any]]:
        """The parent's rows up to the fork, from this run's own copy: a parent may be deleted, or go on differently."""
        rows = read_json(self.path / "inherited.json")
        if rows is None and (parent := self.parent_run):
            # A fork of an older version has no copy.
            rows = parent.history()
        return [{**row, "inherited": True} for row in rows or []]

    def checkpoints(self) -> dict[str, Path]:
        """The files of weights that are there, the one to use by default first.

        `best`, `last`, and what was kept on purpose, the latest first: `epoch-<n>` as the settings say, `step-<n>` by
        hand.
        """
        there = {path.stem: path for path in (self.path / "checkpoints").glob("*.safetensors")}
        named = {name: match for name in there if (match := CHECKPOINT_PATTERN.fullmatch(name))}
        start = self.start if len(named) > 2 else None

        def order(name: str) -> tuple[int, int]:
            kind, count = named[name].groups()
            if kind is None:
                return (0 if name == "best" else 1, 0)
            return 2, -int(count) * (start.steps_per_epoch if start and kind == "epoch" else 1)

        return {name: there[name] for name in sorted(named, key=order)}

    def restorable(self) -> list[Path]:
        """The files from which the run can go on, the one to try first at the beginning."""
        folder = self.path / "checkpoints"
        rotating = [path for name in ("last", "previous") if (path := folder / f"{name}.safetensors").exists()]
        others = [path for name, path in self.checkpoints().items() if name != "last"]
        return rotating + sorted(others, key=lambda path: -description(path).get("step", 0))

    @property
    def tasks(self) -> Path:
        """Where pieces of work on it are; nothing is written into the program's own folder."""
        return self.root / ".tasks" / self.id if self.read_only else self.path / "tasks"

    def task(self, name: str) -> WorkFolder:
        """The folder of a piece of work on this run's results, e.g. an evaluation; made if needed.

        What comes with the reference run is done already; its folder is to be read only.
        """
        if self.read_only and (self.path / "tasks" / name).exists():
            return WorkFolder(self.path / "tasks" / name)
        return work_folder(self.tasks / name)

    def logits(self, split: str) -> Path:
        """The folder of what the network said of every image of a split, "validation" or "test", epoch by epoch; see
        `cifar_core.logits`. It need not be there."""
        return self.path / "logits" / split

    def disk_use(self) -> DiskUse:
        """What the run takes on the disk now."""
        sizes = {"weights": 0, "kept": 0, "results": 0, "logits": 0, "records": 0}
        # Results that come with the reference run are a part of it.
        elsewhere = os.walk(self.tasks) if self.read_only else ()
        for folder, _, names in [*os.walk(self.path), *elsewhere]:
            path = Path(folder)
            part = path.relative_to(self.path).parts[:1] if path.is_relative_to(self.path) else ()
            for name in names:
                with suppress(OSError):
                    size = (path / name).stat().st_size
                    if path.is_relative_to(self.tasks):
                        sizes["results"] += size
                    elif part == ("logits",):
                        sizes["logits"] += size
                    elif part == ("checkpoints",):
                        sizes["kept" if name.startswith(KEPT) else "weights"] += size
                    else:
                        sizes["weights" if name == "beginning.safetensors" else "records"] += size
        return DiskUse(**sizes)

    def free(self, results: bool = False, kept: bool = False, logits: bool = False) -> None:
        """Remove what the run can do without.

        Args:
            results: Evaluations and maps; what is being made just now stays.
            kept: Checkpoints kept on purpose; the best and the last one stay.
            logits: What the network said of every image; those of validation images cannot all be made again.

        Raises:
            RunError: The folder may not be changed.
        """
        if kept or logits:
            self.must_be_ours()
        try:
            if results and self.tasks.exists():
                for folder in self.tasks.iterdir():
                    with suppress(Held), WorkFolder(folder).held():
                        shutil.rmtree(folder)
            if kept:
                for path in (self.path / "checkpoints").glob("*.safetensors"):
                    if path.name.startswith(KEPT):
                        path.unlink(missing_ok=True)
            if logits:
                for path in (self.path / "logits").glob("*/epoch-*.npz"):
                    path.unlink(missing_ok=True)
        except OSError as error:
            raise RunError(f"Nothing of run {self.id} can be removed: {error.strerror}.") from None

    def delete(self) -> None:
        """Remove the folder and all in it.

        Raises:
            RunError: Its worker still lives, or the folder may not be changed.
        """
        self.must_be_ours()
        try:
            # Held, so that no worker begins in it now; renamed first, so that no reader sees half a run.
            with self.held():
                grave = self.path.with_name(f".{self.id}.deleted")
                self.path.rename(grave)
                shutil.rmtree(grave, ignore_errors=True)
            for logs in (_LOGS, _LANDMARKS):
                logs.forget(self.path / "events.jsonl")
        except Held:
            raise RunError(f"Run {self.id} is {self.state}; stop it before deleting it.") from None
        except OSError as error:
            raise RunError(f"Run {self.id} cannot be deleted: {error.strerror}.") from None


def create_run(
    config: TrainConfig,
    root: Path,
    changes: Sequence[Changed] = (),
    parent: Run | None = None,
    checkpoint: str = "last",
    files: Mapping[str, bytes] | None = None,
) -> Run:
    """Make the folder of a new run; it appears whole, with its settings in it.

    Args:
        changes: What is to be changed while it trains, to repeat a run that was steered by hand.
        parent: The run whose weights this one goes on from.
        checkpoint: Which of its checkpoints.
        files: What else is in it from the beginning, by name.

    Raises:
        RunError: The folder cannot be written, or the settings do not fit the parent's weights.
    """
    if parent:
        _check_fork(config, parent, checkpoint)

    def fill(folder: Path) -> None:
        if parent:
            weights = parent.checkpoints()[checkpoint]
            epochs = 0 if _begins_anew(config, parent) else seen_epochs(weights)
            # Weights of the middle of an epoch have seen a part of it; the first start cuts what is trained again.
            seen = max(epochs, description(weights).get("epoch", 0.0)) if epochs else 0
            rows = [row for row in parent.history() if row["epoch"] <= seen + 1e-9]
            moments = [row for row in rows if not row["whole_epoch"]]
            few = moments[:: len(moments) // INHERITED_ROWS + 1]
            rows = sorted([row for row in rows if row["whole_epoch"]] + few, key=lambda row: row["epoch"])
            shutil.copyfile(weights, folder / "beginning.safetensors")
            write_whole(folder / "inherited.json", json.dumps(rows).encode())
            about = {"run": parent.id, "checkpoint": checkpoint, "epoch": epochs}
            write_whole(folder / "parent.json", json.dumps(about).encode())
        for name, content in (files or {}).items():
            write_whole(folder / name, content)
        if changes:
            write_whole(folder / "plan.json", json.dumps([[c.step, c.values] for c in changes]).encode())

    return _make_run(config, root, fill)


def repeat_run(run: Run, root: Path, data: str | None = None) -> Run:
    """Make a run that does again what this one has done: the same settings, the same changes at the same steps and,
    for a fork, the same weights to begin with.

    Args:
        data: Where the images are, for a run that does not say so.

    Raises:
        RunError: The folder cannot be written, or a fork of an older version did not keep what it began with.
    """
    if run.parent and not (run.path / "beginning.safetensors").exists():
        raise RunError(f"Run {run.id} did not keep the weights it was forked from, so it cannot be repeated.")

    def fill(folder: Path) -> None:
        for name in ("beginning.safetensors", "inherited.json", "parent.json"):
            if (run.path / name).exists():
                shutil.copyfile(run.path / name, folder / name)
        steps = sorted(run.plan.items())
        if steps:
            write_whole(folder / "plan.json", json.dumps(steps).encode())

    return _make_run(run.config if data is None else replace(run.config, data=data), root, fill)


def _make_run(config: TrainConfig, root: Path, fill: Callable[[Path], None]) -> Run:
    made = None
    try:
        root.mkdir(parents=True, exist_ok=True)
        _sweep_runs(root)
        while True:
            run_id = f"{time.strftime('%Y%m%d-%H%M%S')}-{config.model}-{secrets.token_hex(2)}"
            if not (root / run_id).exists():
                break
        made = root / f".{run_id}.new"
        (made / "checkpoints").mkdir(parents=True)
        (made / "control").mkdir()
        write_whole(made / "config.json", config.to_json().encode())
        fill(made)
        if (made / "beginning.safetensors").exists():
            # One file under two names, until the first checkpoint takes the place of this one.
            os.link(made / "beginning.safetensors", made / "checkpoints" / "last.safetensors")
        made.rename(root / run_id)
    except OSError as error:
        if made:
            shutil.rmtree(made, ignore_errors=True)
        raise RunError(f"No run can be made in {root}: {error.strerror}.") from None
    return Run(root / run_id)


def seen_epochs(weights: Path) -> int:
    """How many whole epochs the weights in a checkpoint have seen.

    Raises:
        RunError: The file is damaged.
    """
    try:
        return len(description(weights)["training"]["validation_losses"])
    except (LookupError, TypeError):
        raise RunError(f"The weights in {weights} are damaged; choose others.") from None


def in_families(runs: Sequence[Run]) -> list[tuple[int, Run]]:
    """Runs with how many of their ancestors are among them: below a run its forks, oldest first; the family with the
    newest run first."""
    known = {run.id: run for run in runs}
    parents = {run.id: run.parent for run in runs}
    forks: dict[str, list[str]] = {}
    roots = []
    for run in sorted(known, key=_age):
        parent = parents[run]
        # A parent that is younger than its fork is none.
        if parent and parent[0] in known and _age(parent[0]) < _age(run):
            forks.setdefault(parent[0], []).append(run)
        else:
            roots.append(run)

    def family(run: str, depth: int) -> Iterator[tuple[int, Run]]:
        yield depth, known[run]
        for fork in forks.get(run, []):
            yield from family(fork, depth + 1)

    families = [list(family(root, 0)) for root in roots]
    families.sort(key=lambda members: max(_age(run.id) for _, run in members), reverse=True)
    return [member for members in families for member in members]


def _age(run_id: str) -> str:
    """Sorts ids from the oldest run to the newest: they begin with their time, and the reference was there before."""
    return "" if run_id == REFERENCE.name else run_id


def family_of(run: Run, runs: Sequence[Run]) -> list[tuple[int, Run]]:
    """The ancestors, siblings and descendants of a run among others, itself among them; as `in_families`."""
    members: list[tuple[int, Run]] = []
    for depth, other in in_families(runs):
        if depth == 0:
            if any(member.id == run.id for _, member in members):
                break
            members = []
        members.append((depth, other))
    return members if any(member.id == run.id for _, member in members) else [(0, run)]


def _sweep_runs(root: Path) -> None:
    """Remove folders of runs that were being made or deleted when somebody killed who did it."""
    with suppress(OSError):
        for entry in os.scandir(root):
            match = _ABANDONED.fullmatch(entry.name)
            if match and ID_PATTERN.fullmatch(match[1]) and time.time() - entry.stat().st_mtime > _ABANDONED_SECONDS:
                shutil.rmtree(entry, ignore_errors=True)


def _check_fork(config: TrainConfig, parent: Run, checkpoint: str) -> None:
    if checkpoint not in parent.checkpoints():
        raise RunError(f"Run {parent.id} has no {checkpoint} checkpoint to go on from.")
    for name in ("model", "width", "data", "classes"):
        if name == "data" and parent.read_only:
            # Nobody knows beforehand where its images are here.
            continue
        ours, theirs = getattr(config, name), getattr(parent.config, name)
        if ours != theirs:
            said = f"which is {theirs or 'all'}, but {ours or 'all'} was asked for."
            raise RunError(f"A fork keeps the {name} of its parent, {said}")
    if not parent.read_only:
        check_held_out(config, parent)
    try:
        done = seen_epochs(parent.checkpoints()[checkpoint])
    except RunError:
        raise RunError(
            f"Nothing can go on from the {checkpoint} checkpoint of run {parent.id}, which is damaged or of an older "
            "version; fork from another one."
        ) from None
    if config.epochs <= done and not _begins_anew(config, parent):
        raise RunError(f"epochs must be above the {done} that the parent's weights have seen, but is {config.epochs}.")


def has_seen_labels(run: Run) -> bool:
    """Whether the weights of a run, or those it began with, were trained with labels; so too where nobody knows."""
    seen: set[Path] = set()
    with suppress(RunError):
        # A run that is said to be its own ancestor has no beginning.
        while run.config.objective == "simclr" and run.path not in seen:
            seen.add(run.path)
            if run.parent is None:
                return False
            if (born := run.parent_run) is None:
                break
            run = born
    return True


def check_held_out(config: TrainConfig, parent: Run) -> None:
    """A fork on the images of its parent holds none out that its parent's weights were trained on.

    Raises:
        RunError: It would.
    """
    if not has_seen_labels(parent):
        return
    before = parent.config
    if (config.folds, config.fold if config.folds else 0) != (before.folds, before.fold if before.folds else 0):
        theirs = f"fold {before.fold} of {before.folds}" if before.folds else "a share"
        raise RunError(
            f"A fork holds out the images that its parent did ({theirs}), as its parent's weights were trained on the "
            "others: keep folds and fold as they are, or begin with fresh weights."
        )
    # A smaller share is a part of a larger one.
    if not config.folds and config.validation_fraction > before.validation_fraction:
        raise RunError(
            f"validation_fraction of a fork must be at most that of its parent ({before.validation_fraction:g}), whose "
            f"weights were trained on all other images, but is {config.validation_fraction:g}."
        )


def _begins_anew(config: TrainConfig, parent: Run) -> bool:
    """Whether a fork with these settings is a training of its own, whose epochs begin at none."""
    return any(getattr(config, name) != getattr(parent.config, name) for name in BEGINS_ANEW)


def find_run(name: str, root: Path) -> Run:
    """The run with this id; nothing else is accepted, whatever it may point to.

    Raises:
        RunError: The name is not an id, or there is no such run.
    """
    if name == REFERENCE.name and (run := reference(root)):
        return run
    if not ID_PATTERN.fullmatch(name):
        raise RunError(f"{name[:80]!r} is not the id of a run.")
    if not (root / name / "config.json").exists():
        raise RunError(f"There is no run {name} in {root}.")
    return Run(root / name)


def reference(root: Path) -> Run | None:
    """The run that comes with the program, among the runs of a folder; None where it was removed."""
    return Run(REFERENCE, root) if (REFERENCE / "config.json").exists() else None


def list_runs(root: Path) -> list[Run]:
    """All runs, the newest first and the one that comes with the program last."""
    built_in = reference(root)
    return own_runs(root) + ([built_in] if built_in else [])


def own_runs(root: Path) -> list[Run]:
    """The runs in a folder, the newest first."""
    try:
        names = [entry.name for entry in os.scandir(root) if ID_PATTERN.fullmatch(entry.name)]
    except OSError:
        return []
    return [Run(root / name) for name in sorted(names, reverse=True) if (root / name / "config.json").exists()]


def kept_epochs(every: int, done: int) -> range:
    """Of so many epochs done, those whose weights stay: one every few, each second of them where they become too many.

    Args:
        every: Epochs between two of them; 0 for none.
    """
    if every == 0:
        return range(0)
    while done // every > KEPT_EPOCHS:
        every *= 2
    return range(every, done + 1, every)


def description(path: Path) -> dict[str, Any]:
    """What a file of weights says of itself, found without reading the weights; empty where it is no such file."""
    try:
        described = json.loads(_header(path)["json"])
    except (ValueError, LookupError, TypeError):
        return {}
    return described if isinstance(described, dict) else {}


def _settings_in(weights: Path) -> TrainConfig | None:
    """The settings that a file of weights was trained with, if it says so."""
    try:
        return TrainConfig.from_values(description(weights)["training"]["config"])
    except (ValueError, LookupError, TypeError):
        return None


def checksum(path: Path) -> str:
    """That of the content of a file of weights, as the file itself says; empty where it is no such file."""
    return str(_header(path).get("sha256", ""))


def _header(path: Path) -> dict[str, Any]:
    try:
        with path.open("rb") as file:
            header = json.loads(file.read(min(int.from_bytes(file.read(8), "little"), LONGEST_HEADER)))
        return dict(header["__metadata__"])
    except (OSError, ValueError, LookupError, TypeError):
        return {}


@contextmanager
def alone(folder: Path) -> Iterator[None]:
    """Be the only one who changes something in a folder that several may change at once; waits for the others."""
    descriptor = os.open(folder / ".alone", os.O_RDWR | os.O_CREAT, 0o644)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)


def write_whole(path: Path, content: bytes) -> None:
    """Write a file so that it is there whole or not at all, even after a power cut."""
    aside = path.with_name(f".{path.name}.{os.getpid()}.{threading.get_ident()}.tmp")
    try:
        with aside.open("wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        aside.replace(path)
    except BaseException:
        aside.unlink(missing_ok=True)
        raise


def read_json(path: Path) -> Any:
    """The content of a JSON file, or None where it is missing or damaged."""
    try:
        return json.loads(path.read_text())
    except (OSError, ValueError):
        return None
