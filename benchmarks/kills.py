"""Kill workers with SIGKILL at random moments and see that nothing is lost: `make kills`, with CIFAR-10 `DATA=path`.

After each kill the run is looked at through its folder and on the Train page, and gone on with by a new worker. At the
end every tensor of its checkpoints, their descriptions and the rows of its curves are compared bit for bit with those
of a run that nobody disturbed. Some workers are killed from outside after a random time, as any process can be; others
kill themselves in the middle of something that takes too short for that to be met by chance.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import signal
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NoReturn

# Networks this small are slower with more threads, and a fork copes with one only.
os.environ["OMP_NUM_THREADS"] = "1"

import torch
from streamlit.testing.v1 import AppTest

from cifar_core import job, training
from cifar_core.config import TrainConfig
from cifar_core.datasets import prepare
from cifar_core.events import Boot, Changed, Start
from cifar_core.networks import load_tensors
from cifar_core.runs import Run, WorkFolder, create_run, list_runs
from tests.conftest import ROOT
from tests.shapes import drawn_folder

TIMES = ("seconds", "epoch_seconds", "validation_seconds")
"""Counters of a checkpoint that tell how long it took, which no two runs have in common."""

CHANCE = {"model": "guide_cnn_optimised", "width": 0.125, "rotation": 5.0, "cutout": 4, "keep_every": 1}

SETTINGS: tuple[dict[str, Any], ...] = (
    {**CHANCE, "optimizer": "adamw", "ema": 0.9},
    {**CHANCE, "optimizer": "muon", "momentum": 0.9, "mixup": 0.4, "schedule": "one_cycle"},
    {**CHANCE, "optimizer": "sgd", "schedule": "plateau", "patience": 0, "images_at_once": 7},
    {**CHANCE, "optimizer": "rmsprop", "learning_rate": 0.001, "cutmix": 1.0, "precision": "bfloat16"},
)

CHANGES = (
    Changed(step=5, epoch=0.5, values={"learning_rate": 0.002}, before={}),
    Changed(step=16, epoch=1.5, values={"dropout": 0.2, "flip": 0.1}, before={}),
)

EPOCHS = 4


def die() -> NoReturn:
    os.kill(os.getpid(), signal.SIGKILL)
    raise AssertionError("One does not come back from that.")


def dying(count: int, do: Callable[..., Any]) -> Callable[..., Any]:
    """A function that dies in place of its n-th call."""

    def instead(*arguments: Any, **named: Any) -> Any:
        nonlocal count
        count -= 1
        return do(*arguments, **named) if count else die()

    return instead


def half_a_line(count: int) -> Callable[..., None]:
    append = WorkFolder.append

    def instead(folder: WorkFolder, event: Any) -> None:
        nonlocal count
        count -= 1
        if count:
            return append(folder, event)
        whole = (folder.path / "events.jsonl").read_bytes()
        append(folder, event)
        with (folder.path / "events.jsonl").open("ab") as file:
            file.truncate(len(whole) + 30)
        die()

    return instead


def in_place_of(owner: Any, name: str) -> Callable[[int], None]:
    return lambda count: setattr(owner, name, dying(count, getattr(owner, name)))


MOMENTS: dict[str, tuple[Callable[[int], None], int]] = {
    "before the first step": (in_place_of(job, "_restored"), 1),
    "in a step, gradients there": (in_place_of(torch.nn.utils, "clip_grad_norm_"), 20),
    "after a step": (in_place_of(training.Training, "_totals"), 15),
    "in a validation": (in_place_of(training.F, "cross_entropy"), 60),
    "between epoch and checkpoint": (in_place_of(job, "_keep"), 5),
    "writing a checkpoint": (in_place_of(os, "fsync"), 9),
    "between two renames": (in_place_of(Path, "replace"), 7),
    "thinning checkpoints": (in_place_of(job, "_keep_last"), 2),
    "in the middle of an event": (lambda count: setattr(WorkFolder, "append", half_a_line(count)), 12),
}
"""What lets this process kill itself at the n-th occasion, and the largest n."""

OUTSIDE = ("starting, by chance", "training, by chance", "paused")


def forked(run: Run, cache: Path, prepare_to_die: Callable[[], None]) -> int:
    """Work on the run in a process that may kill itself; returns the signal it died of, 0 if it came to the end."""
    child = os.fork()
    if child == 0:
        try:
            training.PROGRESS_SECONDS = 0.0
            for request in ("pause", "stop"):
                run.withdraw(request)
            with run.held():
                prepare_to_die()
                for _ in job.execute(run, cache):
                    pass
        finally:
            os._exit(0)
    _, status = os.waitpid(child, 0)
    return os.WTERMSIG(status) if os.WIFSIGNALED(status) else 0


def undisturbed(run: Run, cache: Path) -> Run:
    forked(run, cache, lambda: None)
    check(run.state == "finished", f"{run.id} is {run.state}: {run.last_end}")
    return run


def check(true: object, complaint: str) -> None:
    if not true:
        raise AssertionError(complaint)


def killed(run: Run, cache: Path, moment: str, chance: random.Random) -> bool:
    """Set a worker to the run and kill it; returns whether it was met before its end."""
    if moment in MOMENTS:
        prepare_to_die, most = MOMENTS[moment]
        return forked(run, cache, lambda: prepare_to_die(chance.randint(1, most))) == signal.SIGKILL
    job.launch(run, cache)
    if moment == "starting, by chance":
        time.sleep(chance.uniform(0, 1.5))
    else:
        started = sum(isinstance(event, Start) for event in run.events())
        wait(lambda: sum(isinstance(event, Start) for event in run.events()) > started or not run.alive)
        if moment == "paused":
            run.request("pause")
            wait(lambda: run.state == "paused" or not run.alive)
        time.sleep(chance.uniform(0, 0.3))
    # Before its first word the last one is of this process, which has launched it.
    worker = next(event.pid for event in reversed(run.events()) if isinstance(event, Boot))
    if worker == os.getpid():
        worker = int(next(iter(children())))
    met = run.alive and run.last_end is None
    try:
        os.kill(worker, signal.SIGKILL)
    except ProcessLookupError:
        met = False
    wait(lambda: not run.alive)
    return met


def children() -> list[str]:
    return Path(f"/proc/{os.getpid()}/task/{os.getpid()}/children").read_text().split()


def wait(wanted: Callable[[], object]) -> None:
    limit = time.monotonic() + 120
    while not wanted():
        check(time.monotonic() < limit, "waited in vain")
        time.sleep(0.005)


def look(run: Run, pages: bool) -> None:
    """After a kill the run is there, says so and can be gone on with."""
    check(run.state == "interrupted", f"{run.id} is shown as {run.state} after a kill")
    check(run.id in [other.id for other in list_runs(run.path.parent)], f"{run.id} is not listed")
    epochs = [row["epoch"] for row in run.history()]
    check(epochs == sorted(set(epochs)), f"the curve of {run.id} goes back: {epochs}")
    for path in run.restorable():
        load_tensors(path)
    if pages:
        app = AppTest.from_file(ROOT / "dashboard.py", default_timeout=60).switch_page("pages/train.py")
        app.query_params["run"] = run.id
        app.run()
        check(not app.exception, f"the page of {run.id} fails: {app.exception}")
        said = " ".join(warning.value for warning in app.warning)
        check("ended without a word" in said, f"the page of {run.id} does not say that it was interrupted: {said}")
        check("relaunch" in [button.key for button in app.button], f"the page of {run.id} offers no resume")


def differences(run: Run, whole: Run) -> Iterator[str]:
    """Whatever is not bit for bit the same in both runs."""
    if list(run.checkpoints()) != list(whole.checkpoints()):
        yield f"checkpoints {list(run.checkpoints())} instead of {list(whole.checkpoints())}"
    for name in run.checkpoints().keys() & whole.checkpoints().keys():
        (ours, about), (theirs, about_whole) = (load_tensors(each.checkpoints()[name]) for each in (run, whole))
        if ours.keys() != theirs.keys():
            yield f"tensors of {name}"
        for tensor in ours.keys() & theirs.keys():
            if not torch.equal(ours[tensor], theirs[tensor]):
                yield f"{tensor} of {name}"
        for description in (about, about_whole):
            del description["run"]
            for counter in TIMES:
                del description["training"][counter]
        if about != about_whole:
            yield f"description of {name}"
    if rows(run) != rows(whole):
        yield "curve"
    if [(c.step, c.values) for c in run.changes] != [(c.step, c.values) for c in whole.changes]:
        yield "changes"


def rows(run: Run) -> list[dict[str, Any]]:
    return [
        {name: value for name, value in row.items() if name != "images_per_second"}
        for row in run.history()
        if row["whole_epoch"]
    ]


def campaign(runs: Path, cache: Path, wholes: list[Run], kills: int, moments: list[str], pages: bool) -> Counter[str]:
    """Kill workers of copies of the given runs; each copy is killed a few times and then finished and compared.

    Returns:
        How many workers were killed by moment.
    """
    chance = random.Random(0)
    counts: Counter[str] = Counter()
    queue = [moments[i % len(moments)] for i in range(kills)]
    chance.shuffle(queue)
    copies = 0
    while queue:
        whole = wholes[copies % len(wholes)]
        parent = Run(runs / whole.parent[0]) if whole.parent else None
        run = create_run(
            whole.config, runs, whole.changes, parent=parent, checkpoint=whole.parent[1] if whole.parent else "last"
        )
        copies += 1
        for _ in range(6):
            if not queue:
                break
            moment = queue.pop()
            if killed(run, cache, moment, chance):
                counts[moment] += 1
                look(run, pages)
                continue
            # It came to its end before that: another run for this moment.
            queue.insert(0, moment)
            break
        if run.state != "finished":
            undisturbed(run, cache)
        wrong = list(differences(run, whole))
        check(not wrong, f"{run.id} is not what it would have been undisturbed: {', '.join(wrong)}")
        print(f"run {copies}, {sum(counts.values())} of {kills} kills, the same bit for bit", flush=True)
    return counts


def begin(config: dict[str, Any], data: Path, runs: Path, cache: Path) -> Run:
    for _ in prepare(data, cache):
        pass
    common = {"data": str(data), "epochs": EPOCHS, "batch_size": 16, "clip_norm": 5.0, "device": "cpu"}
    settings = TrainConfig.from_values({"precision": "float32", "learning_rate": 0.003, **common, **config})
    return create_run(settings, runs, CHANGES)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--kills", type=int, default=50)
    parser.add_argument("--data", type=Path, help="CIFAR-10; a few more kills are then on it")
    parser.add_argument("--cache", type=Path)
    parser.add_argument("--no-pages", action="store_true", help="look at the folders only")
    parser.add_argument("--inside", action="store_true", help="only moments inside of a worker, which takes less time")
    options = parser.parse_args()
    torch.set_num_threads(1)
    os.chdir(ROOT)
    with tempfile.TemporaryDirectory() as aside:
        runs, cache = Path(aside) / "runs", options.cache or Path(aside) / "cache"
        sys.argv = ["dashboard.py", "--runs", str(runs), "--cache", str(cache)]
        shapes = drawn_folder(Path(aside) / "shapes", train=60, test=20, seed=0)
        wholes = [undisturbed(begin(settings, shapes, runs, cache), cache) for settings in SETTINGS]
        config = TrainConfig.from_json(wholes[0].config.to_json().replace('"adamw"', '"adam"'))
        wholes.append(undisturbed(create_run(config, runs, parent=wholes[0], checkpoint="epoch-2"), cache))
        moments = [*MOMENTS] + ([] if options.inside else [*OUTSIDE])
        counts = campaign(runs, cache, wholes, options.kills, moments, not options.no_pages)
        if options.data:
            few = {**CHANCE, "train_images": 2000, "batch_size": 128, "optimizer": "muon", "momentum": 0.9}
            whole = undisturbed(begin(few, options.data, runs, cache), cache)
            more = campaign(runs, cache, [whole], 8, ["starting, by chance", "training, by chance"], True)
            counts.update({f"CIFAR-10, {moment}": count for moment, count in more.items()})
    width = max(map(len, counts))
    for moment, count in sorted(counts.items()):
        print(f"{moment:{width}}  {count:3}")
    print(f"{'killed, none lost, all the same in the end':{width}}  {sum(counts.values()):3}")
    print(json.dumps(counts))


if __name__ == "__main__":
    main()
