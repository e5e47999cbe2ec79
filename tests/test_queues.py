"""Runs that wait for a device: their order, who moves them, and that nobody who is gone keeps the others."""

from __future__ import annotations

import os
import signal
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from cifar_core import job, queues
from cifar_core.events import Boot, Waiting
from cifar_core.runs import Run, RunError, create_run, list_runs
from tests.conftest import Tiny, tiny_config

PATIENCE_SECONDS = 60.0


def until(true: Callable[[], object], what: str) -> None:
    limit = time.monotonic() + PATIENCE_SECONDS
    while not true():
        assert time.monotonic() < limit, what
        time.sleep(0.05)


@pytest.fixture
def line(tiny: Tiny, runs_root: Path) -> Iterator[Callable[..., list[Run]]]:
    """Runs that look as if they waited for a device, oldest first; the test stands in for their workers."""
    with ExitStack() as alive:

        def make(count: int, device: str = "cpu") -> list[Run]:
            made = []
            for _ in range(count):
                run = create_run(tiny_config(tiny), runs_root)
                run = Run(run.path.rename(run.path.with_name(f"20260101-00000{len(list_runs(runs_root))}-x-0000")))
                alive.enter_context(run.held())
                run.append(Boot(pid=1, host="elsewhere"))
                run.append(Waiting(device=device))
                queues.keep_place(run)
                made.append(run)
            return made

        yield make


def test_who_was_made_first_comes_first_and_each_device_has_a_line_of_its_own(
    line: Callable[..., list[Run]], runs_root: Path
) -> None:
    first, second = line(2)
    (other,) = line(1, "cuda")
    assert queues.queue(runs_root, "cpu") == [first, second]
    assert queues.queues(runs_root) == {"cpu": [first, second], "cuda": [other]}
    assert [queues.is_next(run, "cpu") for run in (first, second)] == [True, False]
    assert queues.is_next(other, "cuda")


@pytest.mark.parametrize(
    ("who", "to", "order"),
    [
        (2, "first", [2, 0, 1, 3]),
        (2, "up", [0, 2, 1, 3]),
        (0, "up", [0, 1, 2, 3]),
        (0, "down", [1, 0, 2, 3]),
        (3, "down", [0, 1, 2, 3]),
        (1, "last", [0, 2, 3, 1]),
    ],
)
def test_a_run_is_moved(line: Callable[..., list[Run]], runs_root: Path, who: int, to: str, order: list[int]) -> None:
    runs = line(4)
    queues.move(runs[who], to)
    assert queues.queue(runs_root, "cpu") == [runs[place] for place in order]
    assert [queues.is_next(run, "cpu") for run in runs] == [order[0] == place for place in range(4)]


def test_what_comes_later_is_behind_those_that_were_moved(line: Callable[..., list[Run]], runs_root: Path) -> None:
    runs = line(3)
    queues.move(runs[0], "last")
    (newest,) = line(1)
    assert queues.queue(runs_root, "cpu") == [runs[1], runs[2], runs[0], newest]


def test_two_who_move_at_once_both_count(line: Callable[..., list[Run]], runs_root: Path) -> None:
    import threading

    runs = line(6)
    threads = [threading.Thread(target=queues.move, args=(run, "last")) for run in runs[:3]]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert queues.queue(runs_root, "cpu")[:3] == runs[3:]
    assert set(queues.queue(runs_root, "cpu")[3:]) == set(runs[:3])


def test_a_damaged_order_is_that_of_the_making(line: Callable[..., list[Run]], runs_root: Path) -> None:
    runs = line(2)
    queues.move(runs[1], "first")
    (runs_root / ".devices" / "cpu" / "order.json").write_text("[{}, 3")
    assert queues.queue(runs_root, "cpu") == runs
    (runs_root / ".devices" / "cpu" / "order.json").write_text('{"a": 1}')
    assert queues.queue(runs_root, "cpu") == runs


def test_a_run_that_does_not_wait_is_not_moved(
    line: Callable[..., list[Run]], run_in_state: Callable[..., Run]
) -> None:
    with pytest.raises(RunError, match="does not wait; it is finished"):
        queues.move(run_in_state("finished"), "first")
    with pytest.raises(RunError, match="can be moved first, up, down, last, but not 'sideways'"):
        queues.move(line(1)[0], "sideways")


def test_a_worker_that_does_not_answer_is_passed(line: Callable[..., list[Run]]) -> None:
    frozen, awake = line(2)
    assert not queues.is_next(awake, "cpu")
    long_ago = time.time() - 2 * queues.ANSWER_SECONDS
    os.utime(frozen.path / "lock", (long_ago, long_ago))
    assert queues.is_next(awake, "cpu")


def memory_megabytes(run: Run) -> float:
    pid = [event.pid for event in run.events() if isinstance(event, Boot)][-1]
    status = Path(f"/proc/{pid}/status").read_text()
    return int(status.split("VmRSS:")[1].split()[0]) / 1024


def worker(run: Run) -> int:
    return [event.pid for event in run.events() if isinstance(event, Boot)][-1]


def test_five_workers_wait_lightly_and_go_in_the_order_they_are_put_in(tiny: Tiny, runs_root: Path) -> None:
    """The first is frozen, the second killed, the third stopped; the last is moved before the fourth."""
    with queues.device_folder(runs_root, "cpu").held():
        runs = [job.start_run(tiny_config(tiny), runs_root, tiny.cache) for _ in range(5)]
        runs.sort(key=lambda run: run.id)
        until(lambda: all(run.state == "waiting" for run in runs), "all wait")
        assert queues.queue(runs_root, "cpu") == runs
        if sys.platform == "linux":
            assert max(map(memory_megabytes, runs)) < 60, "torch alone takes some 300 MB"
        frozen, killed, stopped, fourth, last = runs
        os.kill(worker(frozen), signal.SIGSTOP)
        os.kill(worker(killed), signal.SIGKILL)
        stopped.request("stop")
        queues.move(last, "first")
        until(lambda: (killed.state, stopped.state) == ("interrupted", "stopped"), "both are gone")
        until(lambda: not queues.answers(frozen), "the frozen one does not answer")
    until(lambda: (fourth.state, last.state) == ("finished", "finished"), "the others train")
    begun = {run.id: run.start.time for run in (fourth, last) if run.start}
    assert begun[last.id] < begun[fourth.id]
    os.kill(worker(frozen), signal.SIGCONT)
    until(lambda: frozen.state == "finished", "the frozen one goes on when it can")


def test_a_device_that_is_known_is_waited_for_without_torch(tiny: Tiny, cache: Path, runs_root: Path) -> None:
    """Without an answer the worker looks itself, and keeps it for the next one."""
    assert job.known_device(cache) is None
    with queues.device_folder(runs_root, "cpu").held():
        run = create_run(tiny_config(tiny, device="auto", precision="auto"), runs_root)
        with run.held():
            for event in job.execute(run, cache):
                if isinstance(event, Waiting):
                    run.request("stop")
        assert [event.device for event in run.events() if isinstance(event, Waiting)] == ["cpu"]
    assert job.known_device(cache) == "cpu"
