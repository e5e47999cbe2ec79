"""Nothing that happens loses a run: damaged files, dying workers, losses without a number, jumping clocks."""

from __future__ import annotations

import math
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file

from cifar_core import job
from cifar_core.__main__ import main
from cifar_core.config import FIELDS
from cifar_core.events import Boot, Changed, End, Epoch, Event, Notice, Progress, Start
from cifar_core.networks import load_tensors, save_tensors
from cifar_core.runs import Run, RunError, create_run, list_runs, write_whole
from tests.conftest import ROOT, Tiny, tiny_config, work

CHANCE = {"model": "guide_cnn_optimised", "width": 0.125, "crop_padding": 2, "optimizer": "adamw"}
"""Settings with dropout, batch norm, augmentation and an optimiser with a memory."""


@pytest.fixture(autouse=True)
def often(monkeypatch: pytest.MonkeyPatch) -> None:
    """A sign of life after every step, so that a test can do something between any two."""
    from cifar_core import training

    monkeypatch.setattr(training, "PROGRESS_SECONDS", 0.0)


def weights(run: Run, name: str = "last") -> dict[str, torch.Tensor]:
    return load_tensors(run.checkpoints()[name])[0]


def same(one: dict[str, torch.Tensor], other: dict[str, torch.Tensor]) -> bool:
    return one.keys() == other.keys() and all(torch.equal(one[name], other[name]) for name in one)


def equals(run: Run, whole: Run) -> None:
    """The run is bit for bit what the uninterrupted one is: weights, what the optimiser remembers, and curves."""
    for name in ("best", "last"):
        assert same(weights(run, name), weights(whole, name)), name
    assert rows(run) == rows(whole)


def rows(run: Run) -> list[tuple[float, ...]]:
    return [(row["epoch"], row["train_loss"], row["validation_loss"]) for row in run.history() if row["whole_epoch"]]


def broken_off(run: Run, cache: Path, wanted: Callable[[Event], bool]) -> Run:
    """Work on a run until it says something, and die at that moment."""
    with run.held():
        events = job.execute(run, cache)
        next(event for event in events if wanted(event))
        del events
    assert run.state == "interrupted"
    return run


def at_step(step: int) -> Callable[[Event], bool]:
    return lambda event: isinstance(event, Progress) and event.step == step and event.phase == "training"


def notices(run: Run) -> list[str]:
    return [event.message for event in run.events() if isinstance(event, Notice)]


# Checkpoints ---------------------------------------------------------------------------------------------------------


def flip_a_bit(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 4
    path.write_bytes(content)


def reshape(path: Path) -> None:
    tensors, metadata = load_tensors(path)
    save_tensors(path, {name: torch.zeros(2, 2) for name in tensors}, metadata)


DAMAGES: dict[str, Callable[[Path], Any]] = {
    "zero length": lambda path: path.write_bytes(b""),
    "truncated": lambda path: path.write_bytes(path.read_bytes()[:-1]),
    "a wrong bit": flip_a_bit,
    "wrong shapes": reshape,
    "foreign": lambda path: save_file({"x": torch.zeros(1)}, path),
}


@pytest.fixture(scope="module")
def whole(tiny: Tiny, tmp_path_factory: pytest.TempPathFactory) -> Run:
    """Three epochs without any trouble."""
    return work(create_run(tiny_config(tiny, epochs=3, **CHANCE), tmp_path_factory.mktemp("whole")), tiny.cache)


@pytest.fixture
def halfway(tiny: Tiny, runs_root: Path) -> Run:
    """The same training, which died in its third epoch."""
    return broken_off(create_run(tiny_config(tiny, epochs=3, **CHANCE), runs_root), tiny.cache, at_step(25))


@pytest.mark.parametrize("damage", DAMAGES)
def test_with_a_damaged_checkpoint_a_run_goes_on_from_the_one_before(
    tiny: Tiny, whole: Run, halfway: Run, damage: str
) -> None:
    DAMAGES[damage](halfway.checkpoints()["last"])
    work(halfway, tiny.cache)
    assert halfway.state == "finished", halfway.last_end
    (said,) = notices(halfway)
    assert "last.safetensors" in said or "does not fit the settings" in said
    assert "goes on from the weights kept before, of epoch 1; " in said
    assert [event.step for event in halfway.events() if isinstance(event, Start)] == [0, 11]
    assert (halfway.path / "checkpoints" / "damaged.safetensors").exists()
    assert list(halfway.checkpoints()) == ["best", "last"]
    equals(halfway, whole)


def test_a_worker_killed_between_two_renames_leaves_the_one_before(tiny: Tiny, whole: Run, halfway: Run) -> None:
    halfway.checkpoints()["last"].unlink()
    work(halfway, tiny.cache)
    assert notices(halfway) == []
    equals(halfway, whole)


def test_without_both_the_best_weights_are_gone_on_from(tiny: Tiny, whole: Run, halfway: Run) -> None:
    for path in halfway.restorable()[:2]:
        path.write_bytes(b"")
    work(halfway, tiny.cache)
    assert halfway.state == "finished"
    assert len(notices(halfway)) == 1
    equals(halfway, whole)


def test_damaged_best_weights_are_replaced_by_those_kept_of_the_same_epoch(tiny: Tiny, runs_root: Path) -> None:
    config = tiny_config(tiny, epochs=4, keep_every=1, learning_rate=1e-6)
    run = broken_off(create_run(config, runs_root), tiny.cache, at_step(35))
    assert run.best is not None
    assert run.best.epoch == 1, "no later epoch is better where nothing is learned"
    for path in (*run.restorable()[:2], run.checkpoints()["best"], run.checkpoints()["epoch-3"]):
        path.write_bytes(b"")
    broken_off(run, tiny.cache, at_step(25))
    assert [event.step for event in run.events() if isinstance(event, Start)] == [0, 22]
    assert load_tensors(run.checkpoints()["best"])[1]["step"] == 11
    assert {path.stem for path in (run.path / "checkpoints").glob("damaged*")} >= {"damaged", "damaged-previous"}


def test_never_is_there_a_moment_without_whole_weights(
    tiny: Tiny, halfway: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whatever call to the file system it dies in."""
    replace, seen = Path.replace, 0

    def watched(path: Path, target: Path) -> Path:
        nonlocal seen
        for moment in (lambda: None, lambda: replace(path, target)):
            moment()
            if path.parent.name == "checkpoints":
                assert any(load_tensors(file)[1]["step"] > 0 for file in halfway.restorable()[:2])
                seen += 1
        return target

    monkeypatch.setattr(Path, "replace", watched)
    work(halfway, tiny.cache)
    assert seen >= 4


# Changes -------------------------------------------------------------------------------------------------------------


def test_a_change_survives_a_worker_that_dies_twice_before_it_comes_to_it_again(tiny: Tiny, runs_root: Path) -> None:
    def steered(run: Run, steps: int) -> None:
        with run.held():
            for event in job.execute(run, tiny.cache):
                if isinstance(event, Progress) and event.step == 16:
                    run.request("change", {"learning_rate": 0.0005})
                if isinstance(event, Progress) and event.step == steps:
                    return

    config = tiny_config(tiny, epochs=3, **CHANCE)
    undisturbed = create_run(config, runs_root)
    steered(undisturbed, 100)
    assert [change.step for change in undisturbed.changes] == [16]
    run = create_run(config, runs_root)
    steered(run, 19)
    broken_off(run, tiny.cache, at_step(13))
    work(run, tiny.cache)
    assert [change.step for change in run.changes] == [16]
    equals(run, undisturbed)


def test_what_is_changed_after_going_back_takes_the_place_of_what_came_later(tiny: Tiny, run_in_state: Any) -> None:
    run = run_in_state("interrupted")
    for step, values in ((5, {"momentum": 0.5}), (14, {"learning_rate": 9.0, "dropout": 0.1}), (12, {"dropout": 0.1})):
        run.append(Changed(step=step, epoch=step / 11, values=values, before={}))
    assert run.plan == {5: {"momentum": 0.5}, 12: {"dropout": 0.1}, 14: {"learning_rate": 9.0}}
    run.append(Changed(step=12, epoch=12 / 11, values={"learning_rate": 0.01, "dropout": 0.1}, before={}))
    assert run.plan == {5: {"momentum": 0.5}, 12: {"dropout": 0.1, "learning_rate": 0.01}, 14: {}}
    run.append(Changed(step=5, epoch=5 / 11, values={"momentum": 0.5}, before={}))
    assert run.plan[12] == {"dropout": 0.1, "learning_rate": 0.01}, "a repetition changes nothing"


def test_what_was_asked_and_not_done_yet_is_asked_again(tiny: Tiny, runs_root: Path) -> None:
    run = create_run(tiny_config(tiny, epochs=2), runs_root)
    run.request("change", {"learning_rate": 0.001, "dropout": 0.2})
    run.taken("change")
    run.request("change", {"dropout": 0.3})
    work(run, tiny.cache)
    assert [change.values for change in run.changes] == [{"learning_rate": 0.001, "dropout": 0.3}]
    assert list((run.path / "control").iterdir()) == [], "once it is in force it is not asked any more"


# Numbers that are none -----------------------------------------------------------------------------------------------


@pytest.fixture
def diverged(tiny: Tiny, runs_root: Path) -> Run:
    """An epoch that went well, and a second one with steps that are much too large."""
    config = tiny_config(tiny, epochs=2, optimizer="sgd", momentum=0.0, learning_rate=0.01, keep_every=1)
    run = create_run(config, runs_root)
    with run.held():
        for event in job.execute(run, tiny.cache):
            if isinstance(event, Progress) and event.step == 12:
                run.request("change", {"learning_rate": 10.0, "weight_decay": 0.1})
    if run.state == "finished":
        pytest.fail("it did not diverge")
    return run


def finite(run: Run) -> bool:
    return all(tensor.isfinite().all() for path in run.restorable() for tensor in load_tensors(path)[0].values())


def spoil(run: Run, cache: Path, step: int, ask: str = "") -> None:
    """Let the weights stop being numbers after a step, and ask for something at that moment."""
    with run.held():
        events = job.execute(run, cache)
        for event in events:
            if isinstance(event, Progress) and event.step == step:
                training = events.gi_yieldfrom.gi_yieldfrom.gi_frame.f_locals["training"]  # type: ignore[attr-defined]
                with torch.no_grad():
                    training.model.head.weight.fill_(math.nan)
                if ask:
                    run.request(ask)


@pytest.mark.parametrize("ask", ["", "stop", "pause", "save"])
def test_weights_that_are_no_numbers_are_never_kept(tiny: Tiny, runs_root: Path, ask: str) -> None:
    run = create_run(tiny_config(tiny, epochs=2, keep_every=1), runs_root)
    spoil(run, tiny.cache, 14, ask)
    assert run.state == "failed"
    assert run.last_end is not None
    assert run.last_end.reason == "diverged"
    assert "stopped being" in run.last_end.message
    assert list(run.checkpoints()) == ["best", "last", "epoch-1"]
    assert finite(run)


def test_validation_images_of_one_class_without_a_number_stop_the_run(
    tiny: Tiny, runs_root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from cifar_core.models import Classifier

    forward = Classifier.forward

    def blind(self: Classifier, images: torch.Tensor) -> torch.Tensor:
        logits = forward(self, images)
        return logits if self.training else torch.where(logits.argmax(1, keepdim=True) == 1, math.nan, logits)

    monkeypatch.setattr(Classifier, "forward", blind)
    run = work(create_run(tiny_config(tiny), runs_root), tiny.cache)
    assert run.state == "failed"
    assert run.last_end is not None
    assert run.last_end.message.startswith("The validation loss is not a number after epoch 1: ")
    assert run.best is None
    assert "best" not in run.checkpoints()


def test_a_run_that_diverged_is_resumed_with_a_lower_rate_on_the_command_line(
    tiny: Tiny, diverged: Run, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert finite(diverged)
    monkeypatch.setattr(job, "launch", lambda run, cache: work(run, tiny.cache))
    words = ["resume", str(diverged.path), "--learning-rate"]
    assert main([*words, "20"]) != 0
    assert "learning_rate must be at most 10" in capsys.readouterr().err
    assert main([*words, "0.001", "--clip-norm", "1"]) == 0
    assert diverged.state == "finished"
    assert (diverged.settings.learning_rate, diverged.settings.clip_norm) == (0.001, 1)
    assert [change.values for change in diverged.changes] == [
        {"learning_rate": 0.001, "clip_norm": 1.0},
        {"weight_decay": 0.1},
    ], "the rate that made it diverge is not put in force again, what had nothing to do with it is"


# Older versions ------------------------------------------------------------------------------------------------------


@pytest.fixture(params=["first", "without-checksums"])
def older(request: pytest.FixtureRequest, tiny: Tiny, runs_root: Path) -> Run:
    """A run that an older version of the program wrote and stopped after two of three epochs, as its files are."""
    shutil.copytree(ROOT / "tests" / "older" / request.param, runs_root)
    (run,) = list_runs(runs_root)
    for name, placeholder, value in (
        ("config.json", "DATA", str(tiny.source)),
        ("events.jsonl", "FINGERPRINT", tiny.info.fingerprint),
    ):
        file = run.path / name
        file.write_text(file.read_text().replace(placeholder, value))
    return run


def test_a_run_of_an_older_version_opens_is_shown_and_goes_on(
    tiny: Tiny, older: Run, dashboard: Callable[..., Any]
) -> None:
    assert older.state == "stopped"
    assert older.config.keep_every == FIELDS["keep_every"].default, "what was unknown then has its default"
    assert [epoch.epoch for epoch in older.epochs] == [1, 2]
    assert list(older.checkpoints()) == ["best", "last"]
    for page in ("train", "compare", "evaluate", "features", "explain", "overview"):
        app = dashboard(f"pages/{page}.py", run=older.id)
        assert not app.error, page
    with (older.path / "events.jsonl").open("a") as log:
        log.write('{"kind": "of a later version", "time": 1}\n')
    work(older, tiny.cache)
    assert older.state == "finished", older.last_end
    assert [epoch.epoch for epoch in older.epochs] == [1, 2, 3]
    assert notices(older) == []


def test_a_run_of_an_older_version_can_be_forked(tiny: Tiny, older: Run, runs_root: Path) -> None:
    fork = work(create_run(older.config, runs_root, parent=older, checkpoint="last"), tiny.cache)
    assert fork.state == "finished", fork.last_end
    assert [epoch.epoch for epoch in fork.epochs] == [3]


# Events and clocks ---------------------------------------------------------------------------------------------------


def test_a_log_that_a_power_cut_filled_with_nothing_costs_only_what_was_there(
    tiny: Tiny, whole: Run, halfway: Run
) -> None:
    log = halfway.path / "events.jsonl"
    lines = log.read_bytes().splitlines(keepends=True)
    middle = len(lines) // 2
    content = b"".join([*lines[:middle], b"\xff\x00garbage\n", *lines[middle:-1]]) + bytes(4096)
    write_whole(log, content)
    assert len(halfway.events()) == len(lines) - 1
    assert halfway.state == "interrupted"
    work(halfway, tiny.cache)
    assert halfway.state == "finished"
    equals(halfway, whole)


def test_of_two_ends_the_later_one_counts(run_in_state: Callable[..., Run]) -> None:
    run = run_in_state("stopped")
    run.append(End(outcome="failed", message="The disk is full."))
    assert run.state == "failed"
    assert run.last_end is not None
    assert run.last_end.message == "The disk is full."


@pytest.mark.parametrize("jump", [-86_400.0, 365 * 86_400.0])
def test_a_clock_that_jumps_changes_neither_order_nor_state_nor_result(
    tiny: Tiny, whole: Run, runs_root: Path, monkeypatch: pytest.MonkeyPatch, jump: float
) -> None:
    run = create_run(tiny_config(tiny, epochs=3, **CHANCE), runs_root)
    now, ahead = time.time, 0.0
    monkeypatch.setattr(time, "time", lambda: now() + ahead)
    lefts = []
    with run.held():
        for event in job.execute(run, tiny.cache):
            if isinstance(event, Epoch):
                ahead += jump
            if isinstance(event, Progress):
                lefts.append(event.seconds_left)
            assert not isinstance(event, Progress) or run.state == "running"
    assert run.state == "finished"
    equals(run, whole)
    assert all(left is not None and 0 <= left < 60 for left in lefts)


def test_runs_made_while_the_clock_goes_back_are_all_there_under_names_of_their_own(
    tiny: Tiny, runs_root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = []
    for stamp in ("20261125-120000", "20261124-120000", "20261124-120000", "20271125-120000"):
        monkeypatch.setattr(time, "strftime", lambda *_, stamp=stamp: stamp)
        made.append(create_run(tiny_config(tiny), runs_root).id)
    assert len(set(made)) == 4
    assert [run.id for run in list_runs(runs_root)] == sorted(made, reverse=True)


# Read-only folders ---------------------------------------------------------------------------------------------------


NOBODY = 65534


def test_a_folder_that_may_only_be_read_is_said(tiny: Tiny, halfway: Run) -> None:
    # Nothing is read-only for root, who is somebody else meanwhile, in a folder that others may enter.
    is_root = os.geteuid() == 0
    with tempfile.TemporaryDirectory() as place:
        Path(place).chmod(0o755)
        run = Run(Path(shutil.copytree(halfway.path, Path(place) / halfway.id)))
        run.path.chmod(0o555)
        if is_root:
            os.seteuid(NOBODY)
        try:
            with pytest.raises(RunError, match=r"No worker can be started in .*: Permission denied"):
                job.launch(run, tiny.cache)
            assert run.state == "interrupted"
        finally:
            if is_root:
                os.seteuid(0)
            run.path.chmod(0o700)


# Locks, folders and processes ----------------------------------------------------------------------------------------


def test_a_worker_whose_lock_was_removed_takes_it_again(tiny: Tiny, runs_root: Path) -> None:
    run = create_run(tiny_config(tiny, epochs=2), runs_root)
    with run.held():
        events = job.execute(run, tiny.cache)
        next(event for event in events if at_step(3)(event))
        (run.path / "lock").unlink()
        assert not run.alive
        next(events)
        assert run.alive
        for _ in events:
            pass
    assert run.state == "finished"
    assert not run.alive


def test_a_worker_that_was_replaced_says_and_keeps_nothing_more(tiny: Tiny, runs_root: Path) -> None:
    run = create_run(tiny_config(tiny, epochs=2), runs_root)
    with run.held():
        events = job.execute(run, tiny.cache)
        next(event for event in events if at_step(13)(event))
        (run.path / "lock").unlink()
        with run.held():
            run.append(Boot(pid=os.getpid() + 1, host="elsewhere"))
            count, kept = len(run.events()), run.checkpoints()["last"].read_bytes()
            assert list(events) == []
    assert len(run.events()) == count
    assert run.checkpoints()["last"].read_bytes() == kept


def test_a_folder_that_is_deleted_ends_its_worker(tiny: Tiny, runs_root: Path) -> None:
    run = create_run(tiny_config(tiny, epochs=2), runs_root)
    with run.held():
        events = job.execute(run, tiny.cache)
        next(event for event in events if at_step(13)(event))
        run.path.rename(runs_root / "elsewhere")
        (end,) = events
    assert isinstance(end, End)
    assert end.outcome == "failed"
    assert end.message.startswith("No such file or directory: ")
    assert not run.path.exists(), "nothing is made anew in its place"


LAUNCH = """
import sys
from pathlib import Path
from cifar_core import job
from cifar_core.runs import Run
job.launch(Run(Path(sys.argv[1])), Path(sys.argv[2]))
"""


@pytest.fixture
def orphan(tiny: Tiny, runs_root: Path) -> Iterator[Run]:
    """A run whose worker lives, for minutes more, and whose starter is gone."""
    run = create_run(tiny_config(tiny, epochs=1000, batch_size=2), runs_root)
    subprocess.run([sys.executable, "-c", LAUNCH, run.path, tiny.cache], cwd=ROOT, check=True)
    limit = time.monotonic() + 60
    while run.state != "running" and time.monotonic() < limit:
        time.sleep(0.02)
    assert run.state == "running", run.log_tail()
    worker = next(event.pid for event in reversed(run.events()) if isinstance(event, Boot))
    yield run
    if run.alive:
        os.kill(worker, signal.SIGKILL)


def test_an_orphan_is_found_and_ended_even_where_it_does_not_listen(orphan: Run, dashboard: Callable[..., Any]) -> None:
    launched = job.launched(orphan)
    assert launched is not None
    assert not launched.still_there
    overview = dashboard("pages/overview.py")
    assert "Started by an earlier dashboard or terminal, which has ended" in " ".join(c.value for c in overview.caption)
    assert not overview.button(key=f"stop-{orphan.id}").disabled
    worker = next(event.pid for event in reversed(orphan.events()) if isinstance(event, Boot))
    # From here on, as the names of runs that the page offers tell how accurate they are.
    os.kill(worker, signal.SIGSTOP)
    app = dashboard("pages/train.py", run=orphan.id)
    assert any("by an earlier dashboard or terminal, which has ended" in caption.value for caption in app.caption)
    assert "End the process" not in [button.label for button in app.button]

    orphan.request("stop")
    os.utime(orphan.path / "control" / "stop", (time.time() - 60, time.time() - 60))
    app.run()
    next(button for button in app.button if button.label == "End the process").click().run()
    assert not app.exception
    assert not orphan.alive
    assert orphan.state == "interrupted"


def test_only_a_launch_directly_before_the_worker_tells_who_set_it_going(run_in_state: Callable[..., Run]) -> None:
    run, here, gone = run_in_state("stopped"), job.platform.node(), 2**22 + 1
    run.append(Boot(pid=gone, host=here))
    run.append(End(outcome="stopped", message="Stopped."))
    run.append(Boot(pid=os.getpid(), host=here))
    assert job.launched(run) is None, "in a terminal, twice: nobody launched the second one"
    run.append(Boot(pid=gone, host=here))
    run.append(Boot(pid=os.getpid(), host=here))
    assert job.launched(run) == job.Launched(run.events()[-2].time, still_there=False)


def test_a_folder_that_cannot_be_written_is_said_by_the_overview(
    cache: Path, dashboard: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(path: Path, *_: Any, **__: Any) -> None:
        raise PermissionError(13, "Permission denied", str(path))

    monkeypatch.setattr(Path, "mkdir", refuse)
    app = dashboard("pages/overview.py")
    assert not app.exception
    said = " ".join(error.value for error in app.error).replace("\\", "")
    assert f"{cache.parent / 'tasks'} cannot be written: Permission denied." in said


def test_a_process_that_is_not_the_worker_is_never_ended(run_in_state: Callable[..., Run]) -> None:
    run = run_in_state("running")
    stranger = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"])
    try:
        for host in ("elsewhere", job.platform.node()):
            run.append(Boot(pid=stranger.pid, host=host))
            with pytest.raises(RunError, match="cannot be told with certainty, so none is ended"):
                job.end_process(run)
        assert stranger.poll() is None
    finally:
        stranger.kill()
        stranger.wait()


def test_a_run_that_diverged_offers_a_lower_rate_on_its_page(
    run_in_state: Callable[..., Run], dashboard: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    run = run_in_state("failed", learning_rate=0.5)
    assert "calmer" not in [button.key for button in dashboard("pages/train.py").button]
    run.append(End(outcome="failed", message="The training loss stopped being a number.", reason="diverged"))
    launched: list[Run] = []
    monkeypatch.setattr(job, "launch", lambda run, cache: launched.append(run))
    dashboard("pages/train.py").button(key="calmer").click().run()
    assert [other.id for other in launched] == [run.id]
    assert run.taken("change") == {"learning_rate": 0.05}


def test_what_went_otherwise_than_planned_is_said_on_the_page(
    run_in_state: Callable[..., Run], dashboard: Callable[..., Any]
) -> None:
    run = run_in_state("running")
    run.append(Notice(message="The last weights were damaged."))
    run.append(
        Changed(step=3, epoch=0.3, values={"images_at_once": 8}, before={"images_at_once": 0}, reason="Out of memory.")
    )
    said = [warning.value.replace("\\", "") for warning in dashboard("pages/train.py").warning]
    assert said == ["The last weights were damaged.", "Out of memory."]


def test_weights_of_an_epoch_are_kept_by_its_number_though_the_worker_died_after_the_best(
    tiny: Tiny, runs_root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Died(BaseException):
        pass

    def die(*_: Any) -> None:
        raise Died

    config = tiny_config(tiny, epochs=2, keep_every=1)
    whole, run = (create_run(config, runs_root) for _ in range(2))
    work(whole, tiny.cache)
    with monkeypatch.context() as patch:
        patch.setattr(job, "_keep_now_and_then", die)
        with pytest.raises(Died):
            work(run, tiny.cache)
    assert list(run.checkpoints()) == ["best"]
    work(run, tiny.cache)
    assert list(run.checkpoints()) == list(whole.checkpoints())
    equals(run, whole)
