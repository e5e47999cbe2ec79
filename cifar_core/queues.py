"""Which of the runs that wait for a device has it next.

They have it in the order in which they were made, unless somebody moves one; what was moved is in a file beside the
lock of the device. A run waits as long as its worker says so: one that was killed, stopped or frozen keeps nobody.
"""

from __future__ import annotations

import json
import os
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

from cifar_core.events import Waiting
from cifar_core.runs import Run, RunError, WorkFolder, alone, own_runs, read_json, write_whole

ANSWER_SECONDS = 5.0
"""A worker that has not said for so long that it waits is passed by the others."""

MOVES = ("first", "up", "down", "last")


def device_folder(root: Path, device: str) -> WorkFolder:
    """Whose lock a run holds that computes on the device; made if needed."""
    folder = root / ".devices" / device
    folder.mkdir(parents=True, exist_ok=True)
    return WorkFolder(folder)


def waiting_for(run: Run) -> str | None:
    """The device that a run waits for; None where it does not wait."""
    if run.state != "waiting":
        return None
    return next((event.device for event in reversed(run.landmarks()) if isinstance(event, Waiting)), None)


def queue(root: Path, device: str) -> list[Run]:
    """The runs that wait for a device, the next one first."""
    waiting = [run for run in own_runs(root) if waiting_for(run) == device]
    return sorted(waiting, key=_order(root, device))


def queues(root: Path) -> dict[str, list[Run]]:
    """The queue of each device that somebody waits for."""
    devices = {device for run in own_runs(root) if (device := waiting_for(run))}
    return {device: queue(root, device) for device in sorted(devices)}


def move(run: Run, to: str) -> None:
    """Let a waiting run have its device earlier or later than others.

    Args:
        to: One of `MOVES`.

    Raises:
        RunError: The run does not wait (any more), or the order cannot be written.
    """
    if to not in MOVES:
        raise RunError(f"A run can be moved {', '.join(MOVES)}, but not {to!r}.")
    root, device = run.path.parent, waiting_for(run)
    if device is None:
        raise RunError(f"Run {run.id} does not wait; it is {run.state}.")
    folder = device_folder(root, device).path
    try:
        # Two tabs may move runs at once.
        with alone(folder):
            names = [other.id for other in queue(root, device)]
            if run.id not in names:
                raise RunError(f"Run {run.id} does not wait any more.")
            place = names.index(run.id)
            names.remove(run.id)
            names.insert({"first": 0, "up": max(place - 1, 0), "down": place + 1, "last": len(names)}[to], run.id)
            write_whole(folder / "order.json", json.dumps(names).encode())
    except OSError as error:
        raise RunError(f"The queue in {folder} cannot be changed: {error.strerror}.") from None


def is_next(run: Run, device: str) -> bool:
    """Whether the run has the device before all others that wait for it; it may not have said yet that it waits."""
    order = _order(run.path.parent, device)
    return not any(order(other) < order(run) and answers(other) for other in queue(run.path.parent, device))


def holder(root: Path, device: str) -> Run | None:
    """The run that computes on a device now; None where nobody does, or it did not say so."""
    folder = device_folder(root, device)
    name = read_json(folder.path / "holder.json") if folder.alive else None
    return next((run for run in own_runs(root) if run.id == name), None)


def take(run: Run, folder: Path) -> None:
    """Say that the run computes on the device whose folder this is; its lock is what counts."""
    with suppress(OSError):
        write_whole(folder / "holder.json", json.dumps(run.id).encode())


def keep_place(run: Run) -> None:
    """Say that the worker of a waiting run is awake; from time to time, or others pass it."""
    with suppress(OSError):
        os.utime(run.path / "lock")


def answers(run: Run) -> bool:
    """Whether the worker of a waiting run is awake."""
    try:
        return abs(time.time() - (run.path / "lock").stat().st_mtime) < ANSWER_SECONDS
    except OSError:
        return False


def _order(root: Path, device: str) -> Callable[[Run], tuple[int, str]]:
    known = read_json(root / ".devices" / device / "order.json")
    places = {name: place for place, name in enumerate(known)} if isinstance(known, list) else {}
    return lambda run: (places.get(run.id, len(places)), run.id)
