"""Two processes that train together do what one does; and torchrun's are started anew when one is killed."""

from __future__ import annotations

import dataclasses
import itertools
import multiprocessing
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from cifar_core import job, training
from cifar_core.compute import choose
from cifar_core.config import TrainConfig
from cifar_core.datasets import open_cached
from cifar_core.distributed import ALONE, Pace, SharedNorms, Team, joined, memory
from cifar_core.events import Boot, Changed, Epoch, Inspected, Paused, Progress, Resumed, Start
from cifar_core.models import create
from cifar_core.networks import load_tensors
from cifar_core.runs import Run, create_run
from cifar_core.training import Training, even_part_sizes, material
from cifar_core.transforms import Augmentation, augment, generator_for
from tests.conftest import ROOT, Tiny, tiny_config

CPU = choose("cpu", "float32")
PATIENCE_SECONDS = 120.0

AUGMENTED = {"crop_padding": 2, "rotation": 10.0, "cutout": 6, "label_smoothing": 0.1}

# The last batch of 162 images is too small to share, the others leave an odd number of images to each process.
CASES: dict[str, dict[str, Any]] = {
    "norms": {
        **AUGMENTED,
        "model": "guide_cnn_optimised",
        "width": 0.125,
        "dropout": 0.0,
        "batch_size": 14,
        "optimizer": "sgd",
        "learning_rate": 0.05,
        "clip_norm": 1.0,
        "sync_batchnorm": True,
        "schedule": "plateau",
        "patience": 0,
    },
    "mixed": {
        **AUGMENTED,
        "model": "airbench",
        "width": 0.125,
        "batch_size": 23,
        "optimizer": "muon",
        "learning_rate": 0.01,
        "fixed_norm": True,
        "ema": 0.9,
        "mixup": 0.5,
        "cutmix": 0.5,
        "early_size": 16,
        "sync_batchnorm": True,
    },
    "dropped": {"model": "guide_cnn_optimised", "width": 0.125, "batch_size": 14, "optimizer": "adamw", "l1": 1e-4},
    "views": {
        **AUGMENTED,
        "objective": "simclr",
        "model": "guide_cnn_optimised",
        "width": 0.125,
        "dropout": 0.0,
        "batch_size": 13,
        "optimizer": "sgd",
        "learning_rate": 0.01,
        "validation_fraction": 0.3,
        "sync_batchnorm": True,
    },
    "tiny batches": {"model": "single_conv", "batch_size": 3, "train_images": 10, "optimizer": "sgd"},
}

LOST: dict[str, Any] = {
    **AUGMENTED,
    "model": "guide_cnn_optimised",
    "width": 0.125,
    "optimizer": "adamw",
    "batch_size": 14,
    "epochs": 30,
}
"""Of the run whose processes are killed."""


CHANGED_AT: dict[int, dict[str, Any]] = {17: {"weight_decay": 0.001}}


def begin(
    config: TrainConfig, cache: Path, data: str, team: Team = ALONE, planned: dict[int, dict[str, Any]] | None = None
) -> Training:
    opened = open_cached(data, cache)
    torch.manual_seed(0)
    model = create(config.model, len(opened.info.classes), width=config.width, dropout=config.dropout)
    return Training(config, model, material(config, opened, CPU.device), CPU, planned, team)


def trained(start: Training) -> dict[str, Any]:
    """Train to the end; what came out, on this process."""
    events = list(start.events())
    weights = {name: tensor.clone() for name, tensor in start.judged.state_dict().items()}
    figures = [
        (e.train_loss, e.train_accuracy, e.validation_loss, e.validation_accuracy)
        for e in events
        if isinstance(e, Epoch)
    ]
    return {"weights": weights, "figures": torch.tensor(figures), "events": [(e.kind, e.step) for e in events]}


def broken_off(
    config: TrainConfig, cache: Path, data: str, team: Team, planned: dict[int, dict[str, Any]] | None = None
) -> dict[str, Any]:
    """Train to the end, but broken off in the middle, at a change if one is planned, and gone on with from what the
    leader knew."""
    first = begin(config, cache, data, team, planned)
    for event in first.events():
        if isinstance(event, Changed) if planned else getattr(event, "step", 0) == 17:
            break
    tensors, counters = first.state()
    state = team.told(({name: tensor.clone() for name, tensor in tensors.items()}, counters))
    second = begin(config, cache, data, team)
    second.restore(*state)
    return trained(second)


def normed(team: Team) -> dict[str, Tensor]:
    """A shared norm in training: outputs, gradients and running statistics for rows of a whole that all draw alike."""
    torch.manual_seed(1)
    whole, wanted = torch.randn(2, 7, 4, 5, 5) * 3 + 2
    layer = nn.BatchNorm2d(4)
    nn.init.normal_(layer.weight)
    if team.size > 1:
        SharedNorms(layer, team)
    rows = team.rows(len(whole))
    images = whole[rows].clone().requires_grad_()
    output = layer(images)
    (output * wanted[rows]).sum().backward()
    assert images.grad is not None
    assert layer.weight.grad is not None
    assert layer.bias.grad is not None
    team.add_up([layer.weight.grad, layer.bias.grad])
    about = {"output": output.detach(), "gradient": images.grad, "weight": layer.weight.grad, "bias": layer.bias.grad}
    return {**about, **{name: value.clone() for name, value in layer.named_buffers()}}


def steered(team: Team, cache: Path, run: Run) -> None:
    """Train as a run that is changed, paused and stopped."""
    if not team.leads:
        job.follow(team, cache)
        return
    asked = False
    with run.held():
        run.request("change", {"weight_decay": 0.01})
        for event in job.execute(run, cache, team):
            if isinstance(event, Paused):
                run.withdraw("pause")
            elif isinstance(event, Resumed):
                run.request("change", {"learning_rate": 0.001})
            elif isinstance(event, Changed) and "learning_rate" in event.values:
                run.request("stop")
            elif isinstance(event, Progress) and event.step > 20 and not asked:
                asked = True
                run.request("change", {"nesterov": True})  # Refused.
                run.request("pause")


def undisturbed(team: Team, cache: Path, run: Run) -> None:
    if not team.leads:
        job.follow(team, cache)
        return
    with run.held():
        for _ in job.execute(run, cache, team):
            pass


def member(rank: int, size: int, port: int, out: Path, cache: Path, data: str, configs: dict[str, TrainConfig]) -> None:
    """What each process of the team does."""
    torch.set_num_threads(1)
    training.PROGRESS_SECONDS = 0.0
    # As torchrun tells it, whose store the test itself plays.
    told = {"RANK": rank, "WORLD_SIZE": size, "LOCAL_RANK": rank, "LOCAL_WORLD_SIZE": size, "MASTER_PORT": port}
    os.environ.update({name: str(value) for name, value in told.items()})
    os.environ.update({"MASTER_ADDR": "127.0.0.1", "TORCHELASTIC_USE_AGENT_STORE": "True"})
    with joined(os.environ) as team:
        found: dict[str, Any] = {name: trained(begin(configs[name], cache, data, team)) for name in CASES}
        found["broken off"] = broken_off(configs["norms"], cache, data, team)
        training.PROGRESS_SECONDS = 1e9  # They meet at the ends of epochs alone.
        found["changed"] = trained(begin(configs["norms"], cache, data, team, CHANGED_AT))
        found["broken off at a change"] = broken_off(configs["norms"], cache, data, team, CHANGED_AT)
        training.PROGRESS_SECONDS = 0.0
        found["one norm"] = normed(team)
        for run, led in (("steered", steered), ("whole", undisturbed)):
            led(team, cache, Run(next((out / run).glob("2*"))))
        remembered = memory(os.environ)
        assert remembered is not None
        found["remembered"] = remembered.get("told before").decode()
        torch.save(found, out / f"{rank}.pt")


@dataclasses.dataclass(frozen=True)
class Found:
    """What the processes of a team of two found, and what one process finds."""

    members: list[dict[str, Any]]
    alone: dict[str, Any]
    steered: Run
    whole: Run
    """Done by the team without trouble."""


@pytest.fixture(scope="module")
def found(tiny: Tiny, tmp_path_factory: pytest.TempPathFactory) -> Found:
    out = tmp_path_factory.mktemp("team")
    configs = {name: tiny_config(tiny, epochs=3, **case) for name, case in CASES.items()}
    steered_config = tiny_config(tiny, epochs=50, model="guide_cnn_optimised", width=0.125, sync_batchnorm=True)
    run = create_run(steered_config, out / "steered")
    whole = create_run(tiny_config(tiny, **LOST), out / "whole")
    store = torch.distributed.TCPStore("127.0.0.1", 0, is_master=True, wait_for_workers=False)
    store.set("told before", "yes")
    spawn = multiprocessing.get_context("spawn")
    processes = [
        spawn.Process(target=member, args=(rank, 2, store.port, out, tiny.cache, tiny.info.id, configs))
        for rank in range(2)
    ]
    try:
        for process in processes:
            process.start()
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(training, "PROGRESS_SECONDS", 0.0)
            alone = {name: trained(begin(config, tiny.cache, tiny.info.id)) for name, config in configs.items()}
        for process in processes:
            process.join(PATIENCE_SECONDS)
            assert process.exitcode == 0
    finally:
        for process in processes:
            process.kill()
    return Found(
        [torch.load(out / f"{rank}.pt") for rank in range(2)], {**alone, "one norm": normed(ALONE)}, run, whole
    )


# One team of two, in processes of their own ---------------------------------------------------------------------------


@pytest.mark.parametrize("case", ["norms", "mixed", "views", "tiny batches"])
def test_two_processes_train_as_one_does(found: Found, case: str) -> None:
    """With shared norms, within the rounding of sums in another order."""
    one, two = found.alone[case], found.members[0][case]
    assert torch.allclose(two["figures"][0], one["figures"][0], rtol=0, atol=1e-5)
    # Rounding grows from step to step, most where steps are large, until a held-out image is told otherwise.
    assert torch.allclose(two["figures"][:, 0], one["figures"][:, 0], rtol=1e-3, atol=0)
    assert one["weights"].keys() == two["weights"].keys()
    if case in ("norms", "tiny batches"):
        for name, weight in one["weights"].items():
            assert (two["weights"][name] - weight).abs().max() <= 1e-3 * weight.abs().max() + 1e-4, name


@pytest.mark.parametrize("case", CASES)
def test_all_processes_end_with_the_same_weights_bit_for_bit(found: Found, case: str) -> None:
    one, other = (member[case] for member in found.members)
    assert all(torch.equal(other["weights"][name], weight) for name, weight in one["weights"].items())
    assert torch.equal(one["figures"], other["figures"])
    assert one["events"] == other["events"]


@pytest.mark.parametrize(("whole", "resumed"), [("norms", "broken off"), ("changed", "broken off at a change")])
def test_a_team_that_was_broken_off_repeats_itself_bit_for_bit(found: Found, whole: str, resumed: str) -> None:
    for member in found.members:
        one, other = member[whole], member[resumed]
        assert all(torch.equal(other["weights"][name], weight) for name, weight in one["weights"].items())
        assert torch.allclose(other["figures"], one["figures"][-len(other["figures"]) :])


@pytest.mark.parametrize("processes", [2, 3, 5])
def test_every_process_has_as_many_parts_of_a_batch_where_norms_are_shared(processes: int) -> None:
    for total in range(2 * processes, 300, 7):
        team_parts = [Team(rank, processes).rows(total) for rank in range(processes)]
        counts = [rows.stop - rows.start for rows in team_parts]
        for at_once in range(1, 41):
            parts = [even_part_sizes(count, total, processes, at_once) for count in counts]
            assert [sum(sizes) for sizes in parts] == counts
            assert len({len(sizes) for sizes in parts}) == 1, "or one would wait for the others for ever"
            assert min(map(min, parts)) >= 1
            assert max(map(max, parts)) <= max(at_once, 2) + 1


def test_processes_drop_different_features(found: Found) -> None:
    assert not torch.allclose(found.members[0]["dropped"]["figures"], found.alone["dropped"]["figures"], rtol=1e-4)


def test_a_shared_norm_is_the_norm_of_the_whole_batch(found: Found) -> None:
    one, halves = found.alone["one norm"], [member["one norm"] for member in found.members]
    assert [len(half["output"]) for half in halves] == [3, 4]
    for name in ("output", "gradient"):
        assert torch.allclose(torch.cat([half[name] for half in halves]), one[name], atol=1e-5), name
    for name in ("weight", "bias", "running_mean", "running_var", "num_batches_tracked"):
        for half in halves:
            assert torch.allclose(half[name].double(), one[name].double(), atol=1e-5), name


def test_a_team_is_steered_like_any_other_run(found: Found) -> None:
    run = found.steered
    kinds = [event.kind for event in run.events() if not isinstance(event, Progress | Epoch | Inspected)]
    assert kinds[-7:] == ["start", "changed", "refused", "paused", "resumed", "changed", "end"]
    assert run.start is not None
    assert run.start.processes == 2
    assert run.state == "stopped"
    assert [change.values for change in run.changes] == [{"weight_decay": 0.01}, {"learning_rate": 0.001}]
    assert run.changes[-1].step <= run.last_end.step <= run.changes[-1].step + 1  # type: ignore[union-attr]
    assert load_tensors(run.checkpoints()["last"])[1]["step"] == run.last_end.step  # type: ignore[union-attr]


def test_torchruns_store_is_found_by_its_processes(found: Found) -> None:
    assert [member["remembered"] for member in found.members] == ["yes", "yes"]
    assert memory({"WORLD_SIZE": "2"}) is None


# What a process of a team computes ------------------------------------------------------------------------------------


@pytest.mark.parametrize("size", [1, 2, 3, 8])
@pytest.mark.parametrize("count", [1, 2, 3, 6, 16, 17, 31, 500])
def test_the_rows_of_all_processes_are_the_batch(size: int, count: int) -> None:
    teams = [Team(rank, size) for rank in range(size)]
    parts = [list(range(count))[team.part(count)] for team in teams]
    assert list(itertools.chain(*parts)) == list(range(count))
    assert max(map(len, parts)) - min(map(len, parts)) <= 1
    rows = [list(range(count))[team.rows(count)] for team in teams]
    assert rows == (parts if teams[0].shares(count) else [list(range(count))] * size)
    assert all(len(some) >= min(2, count) for some in rows)
    # Each image counts the same in the mean.
    weights = [0.0] * count
    for team, some in zip(teams, rows, strict=True):
        for row in some:
            weights[row] += team.weight(count) / len(some)
    assert weights == pytest.approx([1 / count] * count)


def test_rows_are_augmented_as_they_are_in_the_whole_batch() -> None:
    images = torch.randint(0, 256, (9, 3, 32, 32), dtype=torch.uint8)
    how = Augmentation(flip=0.5, crop_padding=3, rotation=15.0, crop_scale=0.5, colour_jitter=0.5, grey=0.3, cutout=7)
    how = dataclasses.replace(how, policy="randaugment", translation=0.2, blur=1.0, erasing=0.5, cutout_probability=0.5)
    whole = augment(images, how, generator_for(0, 0))
    part = augment(images, how, generator_for(0, 0), slice(2, 6))
    assert torch.allclose(part, whole[2:6], atol=1e-6)


def test_a_team_meets_about_as_often_as_asked_for() -> None:
    class Led(Team):
        """Two processes that need not be there."""

        def told(self, value: Any) -> Any:
            return value

    pace = Pace(Led(0, 2))
    due = []
    for _ in range(60):
        time.sleep(0.002)
        due.append(pace.due(0.02))
    assert due[0]
    gaps = [len(list(group)) for meets, group in itertools.groupby(due) if not meets]
    assert all(gap <= 10 for gap in gaps)
    assert max(gaps) >= 3


# torchrun -------------------------------------------------------------------------------------------------------------


def until(wanted: Callable[[], Any], what: str) -> Any:
    limit = time.monotonic() + PATIENCE_SECONDS
    while not (found := wanted()):
        assert time.monotonic() < limit, f"waited in vain for {what}"
        time.sleep(0.002)
    return found


def children(process: int) -> set[int]:
    listed = subprocess.run(["ps", "-A", "-o", "pid=,ppid="], capture_output=True, text=True, check=True).stdout
    return {int(pid) for pid, parent in map(str.split, listed.splitlines()) if int(parent) == process}


@pytest.fixture
def torchrun(tmp_path: Path) -> Iterator[Callable[..., subprocess.Popen[bytes]]]:
    """Start two processes with torchrun; all are ended with the test."""
    begun: list[subprocess.Popen[bytes]] = []

    def start(*words: object) -> subprocess.Popen[bytes]:
        launcher = ("torch.distributed.run", "--standalone", "--nproc-per-node", "2", "--max-restarts", "3")
        with (tmp_path / "torchrun.log").open("ab") as log:
            begun.append(
                subprocess.Popen(
                    [sys.executable, "-m", *launcher, "-m", "cifar_core", "train", *map(str, words)],
                    cwd=ROOT,
                    env={**os.environ, "OMP_NUM_THREADS": "1"},
                    stdout=log,
                    stderr=log,
                )
            )
        return begun[-1]

    yield start
    for process in begun:
        left = children(process.pid)
        process.kill()
        process.wait()
        for child in left:
            try:
                os.kill(child, signal.SIGKILL)
            except ProcessLookupError:
                continue


def test_a_run_survives_the_death_of_any_of_its_processes(
    found: Found, tiny: Tiny, torchrun: Callable[..., subprocess.Popen[bytes]], tmp_path: Path
) -> None:
    """Killed are one that follows, in the middle of an epoch, and the one that leads, while it writes a checkpoint."""
    settings = {**tiny_config(tiny, **LOST).__dict__, "data": tiny.source}
    named = ["model", "width", "optimizer", "learning_rate", "weight_decay", "schedule", "device", "precision"]
    named += ["batch_size", "epochs", *AUGMENTED]
    words = [word for name in ("data", *named) for word in ("--" + name.replace("_", "-"), settings[name])]
    runs = tmp_path / "runs"
    launcher = torchrun("--runs", runs, "--cache", tiny.cache, *words)
    run = until(lambda: next((Run(path) for path in runs.glob("2*")), None), "a run")

    def leaders() -> list[int]:
        return [event.pid for event in run.events() if isinstance(event, Boot)]

    until(lambda: len(run.epochs) >= 5, "the fifth epoch")
    (follower,) = children(launcher.pid) - {leaders()[-1]}
    os.kill(follower, signal.SIGKILL)
    until(lambda: len(leaders()) >= 2 and len(run.epochs) >= 12, "a restart")
    until(lambda: list((run.path / "checkpoints").glob(".*.partial")), "a checkpoint being written")
    os.kill(leaders()[-1], signal.SIGKILL)
    assert launcher.wait(PATIENCE_SECONDS) == 0, (tmp_path / "torchrun.log").read_text()

    assert len(leaders()) == 3, (tmp_path / "torchrun.log").read_text()
    assert run.state == "finished"
    assert len(list(runs.glob("2*"))) == 1
    assert [event.step > 0 for event in run.events() if isinstance(event, Start)] == [False, True, True]
    for name in ("last", "best"):
        ours, whole = (load_tensors(each.checkpoints()[name])[0] for each in (run, found.whole))
        assert ours.keys() == whole.keys()
        assert all(torch.equal(ours[tensor], whole[tensor]) for tensor in whole if tensor != "sums")
    assert [e.validation_loss for e in run.epochs] == [e.validation_loss for e in found.whole.epochs]
