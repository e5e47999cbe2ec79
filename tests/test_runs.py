"""A run's folder: what is read from it, while others write to it and die in the middle."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from cifar_core import runs
from cifar_core.config import TrainConfig
from cifar_core.events import Boot, Changed, End, Event, Paused, Resumed, TaskProgress, Waiting, to_line
from cifar_core.runs import (
    ALIVE,
    STATES,
    About,
    Held,
    Run,
    RunError,
    WorkFolder,
    create_run,
    family_of,
    find_run,
    in_families,
    list_runs,
    write_whole,
)
from tests.conftest import ROOT, Tiny, epoch_event, progress_event, start_event, tiny_config

BOOT = Boot(pid=1, host="elsewhere")


@pytest.fixture
def run(runs_root: Path) -> Run:
    return create_run(TrainConfig(model="single_conv"), runs_root)


def lines(run: Run) -> list[bytes]:
    return (run.path / "events.jsonl").read_bytes().splitlines(keepends=True)


# Its state -----------------------------------------------------------------------------------------------------------


def end(outcome: str) -> End:
    return End(outcome=outcome, message=f"It {outcome}.")


def situations(tiny: Any) -> list[tuple[str, list[Event], str, str]]:
    """What is in the log, and the state with a living and with a dead worker."""
    start, progress, epoch = start_event(tiny), progress_event(3), epoch_event(1)
    reading = TaskProgress(done=1, total=9, what="Decoding images", seconds_left=None)
    waiting, paused, resumed = Waiting(device="cpu"), Paused(), Resumed()
    begun = [BOOT, start, progress]
    return [
        ("nothing was said", [], "starting", "ready"),
        ("it has begun", [BOOT], "starting", "interrupted"),
        ("another run has the device", [BOOT, waiting], "waiting", "interrupted"),
        ("images are read", [BOOT, reading], "starting", "interrupted"),
        ("images are read after waiting", [BOOT, waiting, reading], "starting", "interrupted"),
        ("training begins", [BOOT, start], "running", "interrupted"),
        ("it trains", begun, "running", "interrupted"),
        ("an epoch is done", [*begun, epoch], "running", "interrupted"),
        ("it is paused", [*begun, paused], "paused", "interrupted"),
        ("it goes on", [*begun, paused, resumed], "running", "interrupted"),
        ("it is over", [*begun, epoch, end("finished")], "finished", "finished"),
        ("it was stopped", [*begun, end("stopped")], "stopped", "stopped"),
        ("it failed", [BOOT, end("failed")], "failed", "failed"),
        ("a second worker begins", [*begun, end("stopped"), BOOT], "starting", "interrupted"),
        ("a second worker waits", [*begun, end("stopped"), BOOT, waiting], "waiting", "interrupted"),
        ("a second worker trains", [*begun, end("failed"), BOOT, start], "running", "interrupted"),
        ("a second worker ends", [*begun, end("stopped"), BOOT, start, end("finished")], "finished", "finished"),
        ("a second worker after a kill", [*begun, BOOT], "starting", "interrupted"),
    ]


def test_the_state_follows_from_the_lock_and_the_last_events(runs_root: Path, tiny: Any) -> None:
    seen = set()
    for what, events, living, dead in situations(tiny):
        run = create_run(TrainConfig(model="single_conv"), runs_root)
        for event in events:
            run.append(event)
        assert run.state == dead, f"dead: {what}"
        with run.held():
            assert run.state == living, f"living: {what}"
        assert run.state == dead, f"dead again: {what}"
        seen |= {living, dead}
    assert seen == set(STATES)


def test_between_launch_and_its_first_word_a_started_again_run_is_starting(run: Run, tiny: Any) -> None:
    for event in (BOOT, start_event(tiny), end("stopped")):
        run.append(event)
    with run.held():
        assert run.state == "stopped", "a worker that has just said its last word still holds the lock for a moment"


@pytest.mark.parametrize("state", ["ready", "running", "paused", "finished", "stopped", "failed", "interrupted"])
def test_a_run_is_alive_in_just_the_living_states(run_in_state: Callable[..., Run], state: str) -> None:
    run = run_in_state(state)
    assert run.state == state
    assert run.alive == (state in ALIVE)


def test_the_last_end_is_of_the_last_worker(run: Run) -> None:
    assert run.last_end is None
    run.append(BOOT)
    run.append(end("stopped"))
    assert run.last_end is not None
    assert run.last_end.outcome == "stopped"
    run.append(BOOT)
    assert run.last_end is None


# Its id and its folder -----------------------------------------------------------------------------------------------


def test_a_new_run_is_found_by_its_id(run: Run, runs_root: Path) -> None:
    assert find_run(run.id, runs_root) == run
    assert list_runs(runs_root) == [run]
    assert run.state == "ready"
    assert run.events() == []
    assert run.checkpoints() == {}
    assert run.config == TrainConfig(model="single_conv")


TRICKS = [
    "",
    ".",
    "..",
    "../{id}",
    "{id}/",
    "{id}/..",
    "./{id}",
    "/{id}",
    "{root}/{id}",
    "{id}\n",
    "\n{id}",
    "{id}\x00",
    " {id}",
    "{id}.deleted",
    ".{id}.new",
    "{ID}",
    "20260101-000000-../../x-0000",
    "20260101-000000-a\\b-0000",
    "２0260101-000000-single_conv-0000",
]


@pytest.mark.parametrize("trick", TRICKS)
def test_nothing_but_an_id_names_a_run(run: Run, runs_root: Path, trick: str) -> None:
    name = trick.format(id=run.id, ID=run.id.upper(), root=runs_root)
    with pytest.raises(RunError, match=r"is not the id of a run\.$"):
        find_run(name, runs_root)


@pytest.mark.parametrize("trick", ["{id}.deleted", ".{id}.new", "20260101-000000-x"])
def test_a_folder_with_another_name_is_no_run(run: Run, runs_root: Path, trick: str) -> None:
    shutil.copytree(run.path, runs_root / trick.format(id=run.id))
    assert list_runs(runs_root) == [run]


def test_what_was_half_made_or_half_deleted_long_ago_is_removed_with_the_next_run(run: Run, runs_root: Path) -> None:
    old, new, own = (runs_root / name for name in (f".{run.id}.new", f".{run.id}.deleted", ".notes.new"))
    for folder in (old, new, own):
        (folder / "checkpoints").mkdir(parents=True)
    for folder in (old, own):
        os.utime(folder, (0, 0))
    create_run(TrainConfig(), runs_root)
    assert [path.exists() for path in (old, new, own)] == [False, True, True]


def test_an_id_without_a_run_is_said_so(run: Run, runs_root: Path) -> None:
    other = run.id[:-4] + ("0000" if not run.id.endswith("0000") else "0001")
    with pytest.raises(RunError, match=f"^There is no run {other} in "):
        find_run(other, runs_root)


def test_runs_are_listed_newest_first(runs_root: Path) -> None:
    names = ["20260101-000000-a-0000", "20251231-235959-z-ffff", "20260101-000001-a-0000"]
    for name in names:
        (runs_root / name).mkdir(parents=True)
        (runs_root / name / "config.json").write_text(TrainConfig().to_json())
    (runs_root / "20270101-000000-a-0000").mkdir()
    assert [run.id for run in list_runs(runs_root)] == [names[2], names[0], names[1]]


def test_where_nothing_is_there_are_no_runs(tmp_path: Path) -> None:
    assert list_runs(tmp_path / "nowhere") == []


def test_many_runs_made_at_once_are_all_different(runs_root: Path) -> None:
    ids = {create_run(TrainConfig(model="resnet9"), runs_root).id for _ in range(50)}
    assert len(ids) == 50
    assert {run.id for run in list_runs(runs_root)} == ids


def test_a_run_appears_whole(runs_root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever lists the folder at any moment sees a run with its settings, or none."""
    seen = []

    def watched(path: Path, content: bytes) -> None:
        seen.append(list_runs(runs_root))
        write_whole(path, content)
        seen.append(list_runs(runs_root))

    monkeypatch.setattr(runs, "write_whole", watched)
    run = create_run(TrainConfig(), runs_root)
    assert seen == [[], []]
    assert {path.name for path in run.path.iterdir()} == {"config.json", "checkpoints", "control"}


def test_a_run_that_cannot_be_made_leaves_nothing(runs_root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(path: Path, content: bytes) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(runs, "write_whole", full)
    with pytest.raises(RunError, match=r"^No run can be made in .*: No space left on device\.$"):
        create_run(TrainConfig(), runs_root)
    assert list(runs_root.iterdir()) == []


def test_no_run_can_be_made_where_a_file_is(tmp_path: Path) -> None:
    (tmp_path / "runs").write_text("")
    with pytest.raises(RunError, match=r"^No run can be made in .*runs: File exists\.$"):
        create_run(TrainConfig(), tmp_path / "runs")


@pytest.mark.parametrize("text", ["", "{", '{"schema_version": 9}', '{"schema_version": 1, "epochs": "many"}'])
def test_damaged_settings_are_one_sentence(run: Run, text: str) -> None:
    (run.path / "config.json").write_text(text)
    with pytest.raises(RunError, match=rf"^The settings of run {run.id} cannot be read: .*\.$"):
        _ = run.config


def test_a_file_is_written_whole_or_not_at_all(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "a.json"
    write_whole(path, b"old")

    def fail(descriptor: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", fail)
    with pytest.raises(OSError, match="No space"):
        write_whole(path, b"new")
    assert path.read_bytes() == b"old"
    assert list(tmp_path.iterdir()) == [path]


# Its log -------------------------------------------------------------------------------------------------------------


def test_what_is_appended_is_read(run: Run) -> None:
    said: list[Event] = []
    for step in range(1, 6):
        said.append(progress_event(step))
        run.append(said[-1])
        assert run.events() == said
        assert Run(run.path).events() == said


def test_only_what_is_new_is_read_again(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    parsed = []
    monkeypatch.setattr(runs, "from_line", lambda line: parsed.append(line) or progress_event(len(parsed)))
    for step in range(1, 4):
        run.append(progress_event(step))
        assert len(run.events()) == step
        assert len(run.events()) == step
    assert len(parsed) == 3


def test_what_was_read_before_does_not_change_under_its_reader(run: Run) -> None:
    run.append(BOOT)
    before = run.events()
    run.append(Paused())
    run.events()
    assert before == [BOOT]


def test_a_torn_last_line_is_ignored_until_it_is_whole(run: Run) -> None:
    run.append(BOOT)
    line = to_line(progress_event(1, train_loss=1.25)).encode()
    for length in range(1, len(line)):
        with (run.path / "events.jsonl").open("ab") as file:
            file.write(line[length - 1 : length])
        if length % 20 == 0:
            assert run.events() == [BOOT]
    assert run.events() == [BOOT]
    with (run.path / "events.jsonl").open("ab") as file:
        file.write(b"\n")
    assert len(run.events()) == 2


def test_a_torn_last_line_is_healed_by_the_next_event(run: Run) -> None:
    run.append(BOOT)
    with (run.path / "events.jsonl").open("ab") as file:
        file.write(to_line(progress_event(1)).encode()[:-7])
    assert run.events() == [BOOT]
    later = [Boot(pid=2, host="elsewhere"), progress_event(1)]
    for event in later:
        run.append(event)
    assert run.events() == [BOOT, *later]
    assert Run(run.path).events() == [BOOT, *later]
    assert len(lines(run)) == 4, "the torn line is closed once and nothing else is added"


def test_a_line_that_is_damaged_in_the_middle_costs_only_itself(run: Run) -> None:
    run.append(BOOT)
    with (run.path / "events.jsonl").open("ab") as file:
        file.write(b"\xff\xfe\x00 nonsense\n\n")
    run.append(Paused(time=1.0))
    assert run.events() == [BOOT, Paused(time=1.0)]


def test_a_replaced_log_is_read_from_its_beginning(run: Run) -> None:
    for step in range(1, 4):
        run.append(progress_event(step))
    assert len(run.events()) == 3
    other = [progress_event(step, time=1.0) for step in range(7, 27)]
    write_whole(run.path / "events.jsonl", "".join(map(to_line, other)).encode())
    assert run.events() == other


def test_a_truncated_log_is_read_from_its_beginning(run: Run) -> None:
    for step in range(1, 4):
        run.append(progress_event(step))
    assert len(run.events()) == 3
    (run.path / "events.jsonl").write_text(to_line(BOOT))
    assert run.events() == [BOOT]


def test_a_log_that_is_gone_says_nothing(run: Run) -> None:
    run.append(BOOT)
    assert run.events() == [BOOT]
    (run.path / "events.jsonl").unlink()
    assert run.events() == []
    run.append(Paused(time=1.0))
    assert run.events() == [Paused(time=1.0)]


def test_readers_in_many_threads_never_miss_or_repeat_an_event(run: Run) -> None:
    count, failures = 300, []

    def read() -> None:
        known = 0
        while known < count and not failures:
            steps = [event.step for event in run.events()]  # type: ignore[attr-defined]
            if steps != list(range(1, len(steps) + 1)) or len(steps) < known:
                failures.append(steps)
            known = len(steps)

    readers = [threading.Thread(target=read) for _ in range(4)]
    for reader in readers:
        reader.start()
    for step in range(1, count + 1):
        run.append(progress_event(step))
    for reader in readers:
        reader.join()
    assert not failures


# What the log tells --------------------------------------------------------------------------------------------------


def test_history_has_a_row_for_each_epoch_and_for_the_moments_between(run: Run, tiny: Any) -> None:
    for event in (
        BOOT,
        start_event(tiny),
        progress_event(1, train_loss=2.0),
        progress_event(11, phase="validation"),
        epoch_event(1),
        Paused(),
        Resumed(),
        progress_event(16, train_accuracy=None),
        epoch_event(2),
    ):
        run.append(event)
    rows = run.history()
    assert [row["epoch"] for row in rows] == [1 / 11, 1.0, 16 / 11, 2.0]
    assert [row["whole_epoch"] for row in rows] == [False, True, False, True]
    assert rows[0] == {
        "epoch": 1 / 11,
        "train_loss": 2.0,
        "train_accuracy": 0.5,
        "validation_loss": None,
        "validation_accuracy": None,
        "learning_rate": 0.003,
        "images_per_second": 1000.0,
        "whole_epoch": False,
        "inherited": False,
    }
    assert rows[1]["validation_loss"] == 1.1
    assert rows[1]["validation_accuracy"] == 0.4
    assert rows[2]["train_accuracy"] is None


def test_history_drops_what_a_killed_worker_said_after_its_last_checkpoint(run: Run, tiny: Any) -> None:
    before = [
        start_event(tiny),
        progress_event(5),
        epoch_event(1),
        progress_event(14),
        progress_event(20, train_loss=9.0),
    ]
    after = [start_event(tiny, step=14), progress_event(17, train_loss=3.0)]
    for event in (BOOT, *before, BOOT, *after):
        run.append(event)
    rows = run.history()
    assert [round(row["epoch"] * 11) for row in rows] == [5, 11, 14, 17]
    assert [row["train_loss"] for row in rows] == [1.0, 1.0, 1.0, 3.0]


def test_history_keeps_an_epoch_that_the_next_worker_goes_on_from(run: Run, tiny: Any) -> None:
    steps = 7  # Thirds and sevenths have no exact floating-point numbers.
    for event in (
        start_event(tiny, steps_per_epoch=steps),
        *(epoch_event(epoch, steps_per_epoch=steps) for epoch in range(1, 4)),
        start_event(tiny, step=3 * steps, steps_per_epoch=steps),
    ):
        run.append(event)
    assert [row["epoch"] for row in run.history()] == [1.0, 2.0, 3.0]


def test_a_repeated_epoch_counts_once_and_as_it_was_last(run: Run, tiny: Any) -> None:
    for event in (
        start_event(tiny),
        epoch_event(1),
        epoch_event(2, validation_accuracy=0.99),
        BOOT,
        start_event(tiny, step=11),
        epoch_event(2, validation_accuracy=0.7),
    ):
        run.append(event)
    assert [(epoch.epoch, epoch.validation_accuracy) for epoch in run.epochs] == [(1, 0.4), (2, 0.7)]
    assert [row["validation_accuracy"] for row in run.history()] == [0.4, 0.7]


def test_the_best_epoch_is_the_earliest_of_the_most_accurate(run: Run) -> None:
    assert run.best is None
    for epoch, accuracy in enumerate((0.5, 0.8, 0.7, 0.8), 1):
        run.append(epoch_event(epoch, validation_accuracy=accuracy))
    assert run.best is not None
    assert run.best.epoch == 2


def test_start_and_latest_are_the_first_start_and_the_newest_progress(run: Run, tiny: Any) -> None:
    assert run.start is None
    assert run.latest is None
    for event in (
        BOOT,
        start_event(tiny),
        epoch_event(1),
        BOOT,
        start_event(tiny, step=11),
        progress_event(13),
        Paused(),
    ):
        run.append(event)
    assert run.start is not None
    assert run.start.step == 0
    assert run.latest == progress_event(13, time=run.latest.time if run.latest else 0)


def test_the_best_weights_come_first_then_the_last_then_the_latest(run: Run, tiny: Any) -> None:
    run.append(start_event(tiny))  # Eleven steps an epoch.
    kept = ("last", "epoch-2", "step-5", "best", "step-23", "epoch-10")
    for name in (*kept, "other", "epoch-02", "epoch-", "step-1.5", ".step-7"):
        (run.path / "checkpoints" / f"{name}.safetensors").write_bytes(b"")
    assert list(run.checkpoints()) == ["best", "last", "epoch-10", "step-23", "epoch-2", "step-5"]


def test_the_log_tail_is_the_last_lines_of_any_file(run: Run) -> None:
    assert run.log_tail() == ""
    run.log_path.write_bytes(b"\xff first\n" + b"".join(b"line %d\n" % i for i in range(10_000)))
    assert run.log_tail(2) == "line 9998\nline 9999"
    assert len(run.log_tail().splitlines()) == 30


# What is asked of it -------------------------------------------------------------------------------------------------


def test_asking_twice_is_asking_once_and_can_be_taken_back(run: Run) -> None:
    assert not run.requested("stop")
    run.withdraw("stop")
    run.request("stop")
    run.request("stop")
    assert run.requested("stop")
    assert not run.requested("pause")
    run.withdraw("stop")
    assert not run.requested("stop")


def test_a_task_folder_can_be_asked_too(run: Run) -> None:
    task = run.task("evaluate-0123")
    task.request("stop")
    assert run.task("evaluate-0123").requested("stop")
    assert not run.requested("stop")


def test_a_living_run_is_not_deleted(run_in_state: Callable[..., Run]) -> None:
    for state in ("running", "paused"):
        run = run_in_state(state)
        with pytest.raises(RunError, match=f"^Run {run.id} is {state}; stop it before deleting it\\.$"):
            run.delete()
        assert run.state == state


def test_a_deleted_run_is_gone(run_in_state: Callable[..., Run], runs_root: Path) -> None:
    for state in ("ready", "finished", "interrupted"):
        run_in_state(state).delete()
    assert list(runs_root.iterdir()) == []


# Its lock ------------------------------------------------------------------------------------------------------------


def test_only_one_works_in_a_folder(run: Run) -> None:
    with run.held():
        with pytest.raises(Held, match=f"^{run.id} is already being worked on by another process\\.$"), run.held():
            pass
        assert run.alive
    assert not run.alive
    with run.held():
        assert run.alive


def test_a_folder_that_is_gone_is_not_alive(tmp_path: Path) -> None:
    assert not WorkFolder(tmp_path / "nowhere").alive


def test_the_lock_ends_with_work_that_raises(run: Run) -> None:
    with pytest.raises(KeyError), run.held():
        raise KeyError
    assert not run.alive


def test_looking_never_gives_a_dead_run_life_nor_keeps_a_worker_out(run: Run) -> None:
    """Readers must not take each other for a worker, nor stand in the way of one."""
    with run.held():
        pass
    over, wrong = threading.Event(), []

    def look() -> None:
        while not over.is_set():
            if run.alive:
                wrong.append("a dead run looked alive")
                over.set()

    readers = [threading.Thread(target=look) for _ in range(6)]
    for reader in readers:
        reader.start()
    time.sleep(1.0)
    over.set()
    for reader in readers:
        reader.join()
    assert not wrong

    over.clear()
    looks = [0]

    def look_on() -> None:
        while not over.is_set():
            _ = run.alive
            looks[0] += 1

    readers = [threading.Thread(target=look_on) for _ in range(6)]
    for reader in readers:
        reader.start()
    try:
        turns, limit = 0, time.monotonic() + 30
        while turns < 50 or (looks[0] <= 100 and time.monotonic() < limit):
            with run.held():
                assert run.alive
            turns += 1
    finally:
        over.set()
        for reader in readers:
            reader.join()
    assert looks[0] > 100


HOLD = """
import sys, time
from pathlib import Path
from cifar_core.runs import WorkFolder
with WorkFolder(Path(sys.argv[1])).held():
    print("held", flush=True)
    time.sleep(60)
"""


def test_the_lock_ends_with_a_killed_process(run: Run) -> None:
    worker = subprocess.Popen([sys.executable, "-c", HOLD, run.path], cwd=ROOT, stdout=subprocess.PIPE, text=True)
    try:
        assert worker.stdout is not None
        assert worker.stdout.readline() == "held\n"
        run.append(BOOT)
        assert run.alive
        assert run.state == "starting"
        worker.send_signal(signal.SIGKILL)
        # Not waited for: a zombie, whose process id still exists, holds no lock.
        limit = time.monotonic() + 10
        while run.alive and time.monotonic() < limit:
            time.sleep(0.01)
        os.kill(worker.pid, 0)
        assert not run.alive
        assert run.state == "interrupted"
        with run.held():
            assert run.alive
    finally:
        worker.kill()
        worker.communicate()


def test_a_tiny_run_can_be_made_from_its_settings(runs_root: Path, tiny: Any) -> None:
    config = tiny_config(tiny, epochs=3)
    assert create_run(config, runs_root).config == config


# What people say of it -----------------------------------------------------------------------------------------------


def test_a_new_run_has_no_name_and_no_star(run: Run) -> None:
    assert run.about == About()


def test_what_is_said_of_a_run_is_kept_and_the_rest_stays(run: Run) -> None:
    run.describe(name="  wide, no dropout ")
    run.describe(starred=True)
    run.describe(archived=True, note="Only for the figure in chapter 3.")
    assert run.about == About("wide, no dropout", "Only for the figure in chapter 3.", True, True)
    assert Run(run.path).id == run.id, "the id stays"
    run.describe(name="")
    assert run.about.name == ""


@pytest.mark.parametrize(
    ("said", "why"),
    [
        ({"name": "x" * 61}, "may have 60 characters, but this one has 61"),
        ({"note": "x" * 201}, "may have 200 characters"),
        ({"name": "<b>bold"}, "may not hold '<'"),
        ({"name": "a\nb"}, r"may not hold '\\n'"),
        ({"note": "see [this](http://x)"}, r"may not hold '\['"),
    ],
)
def test_names_are_short_and_hold_no_markup(run: Run, said: dict[str, str], why: str) -> None:
    run.describe(name="before")
    with pytest.raises(RunError, match=why):
        run.describe(**said)
    assert run.about == About("before")


@pytest.mark.parametrize("content", ["", "{", "[1]", '{"name": "<script>"}', '{"name": 7, "later": 1}', "null"])
def test_a_damaged_or_newer_file_of_what_is_said_does_not_matter(run: Run, content: str) -> None:
    (run.path / "about.json").write_text(content)
    assert run.about in (About(), About("7"))
    run.describe(starred=True)
    assert run.about.starred


def test_two_who_say_something_at_once_are_both_heard(run: Run) -> None:
    sayings: list[dict[str, Any]] = [{"name": "n"}, {"note": "o"}, {"starred": True}, {"archived": True}]
    threads = [threading.Thread(target=run.describe, kwargs=said) for said in sayings]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert run.about == About("n", "o", True, True)


# Many of them --------------------------------------------------------------------------------------------------------


def test_the_landmarks_are_all_events_but_the_old_signs_of_life(run: Run, tiny: Any) -> None:
    reading = TaskProgress(done=1, total=9, what="Decoding images", seconds_left=None)
    said = [BOOT, reading, reading, start_event(tiny)]
    said += [progress_event(1), progress_event(5), epoch_event(1), progress_event(13)]
    for event in said:
        run.append(event)
    assert run.landmarks() == [said[0], said[2], said[3], said[6], said[7]]
    run.append(progress_event(14))
    run.append(Paused())
    assert [event.kind for event in run.landmarks()] == ["boot", "task", "start", "epoch", "progress", "paused"]
    assert run.landmarks()[-2] == run.latest == progress_event(14, time=run.landmarks()[-2].time)


def test_a_damaged_sign_of_life_leaves_the_one_before(run: Run, tiny: Any) -> None:
    for event in (BOOT, start_event(tiny), progress_event(5)):
        run.append(event)
    with (run.path / "events.jsonl").open("ab") as file:
        file.write(b'{"kind": "progress", "epo\n')
    assert run.latest is None or run.latest.step == 5
    assert run.state == "interrupted"


def forked(root: Path, name: str, parent: str | None = None) -> Run:
    run = create_run(TrainConfig(model="single_conv"), root)
    run = Run(run.path.rename(root / name))
    if parent:
        (run.path / "parent.json").write_text(f'{{"run": "{parent}", "checkpoint": "best"}}')
    return run


def test_only_weights_that_have_seen_no_label_may_be_validated_on_any_image(runs_root: Path, tiny: Any) -> None:
    def run(objective: str, parent: Run | None = None) -> Run:
        made = create_run(tiny_config(tiny, objective=objective, epochs=2), runs_root)
        if parent:
            (made.path / "parent.json").write_text(json.dumps({"run": parent.id, "checkpoint": "last"}))
        return made

    views = run("simclr")
    more = run("simclr", views)
    told = run("classify")
    after = run("simclr", told)
    assert [runs.has_seen_labels(each) for each in (views, more, told, after)] == [False, False, True, True]
    (told.path / "config.json").write_bytes(b"{")
    assert runs.has_seen_labels(after), "where nobody knows"
    shutil.rmtree(views.path)
    assert runs.has_seen_labels(more), "nor here"
    (more.path / "parent.json").write_text(json.dumps({"run": more.id, "checkpoint": "last"}))
    assert runs.has_seen_labels(more), "its own ancestor"


def test_forks_are_below_their_parents_and_the_newest_family_comes_first(runs_root: Path) -> None:
    a, b, c, d, e = (f"2026010{n}-000000-x-0000" for n in range(1, 6))
    for name, parent in ((a, None), (b, None), (c, a), (d, b), (e, c)):
        forked(runs_root, name, parent)
    runs = list_runs(runs_root)
    assert [(depth, run.id) for depth, run in in_families(runs)] == [(0, a), (1, c), (2, e), (0, b), (1, d)]
    for name in (a, c, e):
        assert [run.id for _, run in family_of(find_run(name, runs_root), runs)] == [a, c, e]
    assert [run.id for _, run in family_of(find_run(b, runs_root), runs)] == [b, d]


def test_a_fork_whose_parent_is_gone_or_says_nonsense_stands_alone(runs_root: Path) -> None:
    a, b, c = (f"2026010{n}-000000-x-0000" for n in range(1, 4))
    forked(runs_root, a, c)
    forked(runs_root, b, "20200101-000000-x-0000")
    forked(runs_root, c, a)
    assert [(depth, run.id) for depth, run in in_families(list_runs(runs_root))] == [(0, a), (1, c), (0, b)]


def test_disk_use_is_told_by_what_it_is_for_and_can_be_freed(run: Run) -> None:
    run.describe(name="x")
    records = run.disk_use().records
    for path, size in (
        ("checkpoints/best.safetensors", 1000),
        ("checkpoints/last.safetensors", 2000),
        ("checkpoints/epoch-3.safetensors", 400),
        ("tasks/evaluate-1/evaluation.npz", 30),
        ("tasks/map-1/map.npz", 7),
    ):
        (run.path / path).parent.mkdir(parents=True, exist_ok=True)
        (run.path / path).write_bytes(b"x" * size)
    use = run.disk_use()
    assert (use.weights, use.kept, use.results, use.records) == (3000, 400, 37, records)
    assert use.total == 3437 + records
    with WorkFolder(run.path / "tasks" / "map-1").held():
        run.free(results=True)
    assert run.disk_use().results == 7, "what is being made stays"
    run.free(results=True, kept=True)
    assert (run.disk_use().results, run.disk_use().kept, run.disk_use().weights) == (0, 0, 3000)


def test_three_hundred_runs_are_looked_at_in_under_a_second(runs_root: Path, tiny: Any) -> None:
    """Each with as many signs of life as a long run has."""
    first = create_run(tiny_config(tiny, epochs=3), runs_root)
    words = [BOOT, start_event(tiny), *(progress_event(n % 33) for n in range(2000))]
    words += [epoch_event(1), epoch_event(2), epoch_event(3), end("finished")]
    (first.path / "events.jsonl").write_text("".join(map(to_line, words)))
    for number in range(299):
        shutil.copytree(first.path, runs_root / f"20260101-{number:06}-x-0000")
    began = time.process_time()
    facts = [(run.state, run.best, run.latest, run.settings, run.about, run.parent) for run in list_runs(runs_root)]
    spent = time.process_time() - began
    assert len(facts) == 300
    assert all(fact[0] == "finished" and fact[1].validation_accuracy == 0.8 for fact in facts if fact[1])
    assert spent < 1


# Changes by hand -----------------------------------------------------------------------------------------------------


def change(step: int, before: float, after: float, name: str = "learning_rate") -> Changed:
    return Changed(step=step, epoch=step / 11, before={name: before}, values={name: after})


def test_a_change_made_at_the_step_that_is_gone_on_from_stays_known(run: Run, tiny: Tiny) -> None:
    """The weights of a pause are of after the change, so that nothing makes it again."""
    made = change(5, 0.1, 0.01)
    for event in (start_event(tiny), made, Paused(), start_event(tiny, step=5)):
        run.append(event)
    assert run.changes == [made]
    assert run.settings.learning_rate == 0.01


def test_a_change_that_is_made_again_is_known_once(run: Run, tiny: Tiny) -> None:
    """The weights of the end of an epoch are of before a change at the next one's first step."""
    first, again = change(11, 0.1, 0.01), change(11, 0.1, 0.01)
    for event in (start_event(tiny), first, change(12, 0.01, 0.001), start_event(tiny, step=11), again):
        run.append(event)
    assert run.changes == [again]


def test_two_changes_at_one_step_are_both_known(run: Run, tiny: Tiny) -> None:
    one, other, third = change(5, 0.1, 0.01), change(5, 0.0, 0.3, "dropout"), change(5, 0.01, 0.5)
    for event in (start_event(tiny), one, other, start_event(tiny, step=5), third):
        run.append(event)
    assert run.changes == [one, other, third]
    assert (run.settings.learning_rate, run.settings.dropout) == (0.5, 0.3)
