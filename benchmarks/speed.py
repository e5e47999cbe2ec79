"""How fast a good network is reached: `make speed DATA=path`.

Times of training alone, as shares of the time T that a tutorial's own loop (`benchmarks/tutorial.py`) takes for its 15
epochs in the same run of this script. Ours trains on all training images, from scratch, and is judged by its accuracy
on the test split, each image seen once as it is. Then the epoch's images per second beside those of the bare forward,
backward and optimiser step on a batch that is already there, what the look at the network after each epoch costs, and
where the time of a step goes.
"""

from __future__ import annotations

import argparse
import dataclasses
import platform
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from benchmarks import tutorial
from cifar_core.compute import Compute, choose, prepare_device
from cifar_core.config import RECIPES, TrainConfig
from cifar_core.datasets import DataSet, find_cached, open_cached, prepare
from cifar_core.models import count_parameters, create, initialise
from cifar_core.training import Material, Training
from cifar_core.transforms import normalisation

TARGETS = (
    ("quick", {"epochs": 1, "early_size": 20, "early_share": 0.8}, 0.703, 1 / 20),
    ("quick", {}, 0.80, 1 / 9),
    ("good", {}, 0.895, 1.15),
    ("best", {}, 0.92, 3.0),
)
"""Recipe, what is changed in it, the test accuracy to reach, and in which share of T."""


def all_images(config: TrainConfig, data: DataSet, device: torch.device) -> Material:
    """All of the training split, and the test split where validation images would be: nothing is chosen by it here."""
    mean, std = normalisation(config.normalisation, data.info.mean, data.info.std)

    def tensor(array: np.ndarray) -> Tensor:
        return torch.from_numpy(np.array(array)).to(device)

    train, test = data.train, data.test
    return Material(tensor(train.images), tensor(train.labels), tensor(test.images), tensor(test.labels), mean, std)


def training(config: TrainConfig, data: DataSet, compute: Compute) -> Training:
    torch.manual_seed(config.seed)
    model = create(config.model, len(data.info.classes), width=config.width, dropout=config.dropout)
    initialise(model, config.initialisation)
    return Training(config, model, all_images(config, data, compute.device), compute)


def reach(config: TrainConfig, data: DataSet, compute: Compute) -> tuple[float, float, int]:
    """Seconds of training alone, test accuracy of the last epoch, and parameters."""
    run = training(config, data, compute)
    accuracy = seconds = 0.0
    for event in run.events():
        accuracy = getattr(event, "validation_accuracy", accuracy)
        seconds = run.seconds
    return seconds, accuracy, count_parameters(run.model)


def epoch_speed(config: TrainConfig, data: DataSet, compute: Compute, steps: int) -> float:
    """Images per second of an epoch cut short after some steps, with all that an epoch does."""
    run = training(dataclasses.replace(config, epochs=1000), data, compute)
    began, count = 0.0, 0
    for _ in run.events():
        if began == 0.0:
            began, count = time.perf_counter(), run.step
        elif run.step - count >= steps:
            break
    return (run.step - count) * config.batch_size / (time.perf_counter() - began)


def bare_speed(config: TrainConfig, data: DataSet, compute: Compute, steps: int) -> float:
    """Images per second of forward, backward and optimiser step on one batch that stays where it is."""
    run = training(config, data, compute)
    size = config.early_size or 32
    batch = torch.randn(config.batch_size, 3, size, size, device=compute.device)
    batch = batch.contiguous(memory_format=compute.memory_format)
    labels = torch.arange(config.batch_size, device=compute.device) % len(data.info.classes)
    run.model.train()
    began = 0.0
    for step in range(steps + 1):
        if step == 1:
            began = time.perf_counter()
        with compute.autocast():
            logits = run.model(batch)
        loss = F.cross_entropy(logits.float(), labels, label_smoothing=config.label_smoothing)
        run.optimizer.zero_grad(set_to_none=True)
        loss.backward()
        run.optimizer.step()
    return steps * config.batch_size / (time.perf_counter() - began)


def looking_share(
    config: TrainConfig, data: DataSet, compute: Compute, steps: int, looks: int = 5
) -> tuple[float, float]:
    """Seconds of the look at the network after an epoch (median), and their share of an epoch's training."""
    run = training(config, data, compute)
    epoch = len(run.images.train_labels) / epoch_speed(config, data, compute, steps)
    # Gradients as the last step leaves them; of how many images makes no difference to a look.
    batch = run.images.train_images[:2].float().contiguous(memory_format=compute.memory_format)
    with compute.autocast():
        logits = run.model(batch)
    F.cross_entropy(logits.float(), run.images.train_labels[:2]).backward()
    times = []
    for _ in range(looks):
        began = time.perf_counter()
        run.inspected(run.images.validation_labels)
        times.append(time.perf_counter() - began)
    seconds = statistics.median(times)
    return seconds, seconds / epoch


def profile(config: TrainConfig, data: DataSet, compute: Compute, rows: int = 12) -> str:
    """The costliest operations of some steps of an epoch."""
    run = training(config, data, compute)
    events = run.events()
    next(events)
    with torch.profiler.profile() as watched:
        next(events)
        next(events)
    return watched.key_averages().table(sort_by="self_cpu_time_total", row_limit=rows, max_name_column_width=50)


def worker_memory(data: Path, cache: Path) -> float:
    """GiB of memory at its highest of a process that trains recipe quick for an epoch on all of the data."""
    with tempfile.TemporaryDirectory() as runs:
        words = ["train", "--data", str(data), "--cache", str(cache), "--runs", runs, "--recipe", "quick"]
        subprocess.run(
            [sys.executable, "-m", "cifar_core", *words, "--epochs", "1", "--json"],
            check=True,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
    # In kilobytes, but on macOS in bytes.
    unit = 2**30 if sys.platform == "darwin" else 2**20
    return resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss / unit


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="CIFAR-10 in any layout the program reads")
    parser.add_argument("--cache", type=Path, default=Path("data/cache"))
    parser.add_argument("--seeds", type=int, default=3, help="trials of each target")
    parser.add_argument("--targets", default="0,1,2,3", help="which of the table's rows, from 0")
    parser.add_argument("--tutorial-epochs", type=int, default=15, help="fewer are scaled up to 15, and said to be")
    options = parser.parse_args()
    for _ in prepare(options.data, options.cache):
        pass
    info = find_cached(str(options.data), options.cache)
    assert info
    data = open_cached(info.id, options.cache)
    compute = choose()
    prepare_device(compute)
    print(f"{platform.processor() or platform.machine()}, {compute.reason} torch {torch.__version__}, {info.name}")

    # Before anything else, as what counts is the largest process that this one has started.
    print(f"memory of a worker: {worker_memory(options.data, options.cache):.2f} GiB at most (target: 2 GiB)\n")

    for seconds, accuracy in tutorial.train(data.train, data.test, options.tutorial_epochs):
        print(f"tutorial: {seconds:.1f} s, {accuracy:.2%}", file=sys.stderr, flush=True)
    whole = seconds * 15 / options.tutorial_epochs
    scaled = "" if options.tutorial_epochs == 15 else f", scaled up from {options.tutorial_epochs} epochs"
    print(f"T = {whole:.1f} s (tutorial, 15 epochs{scaled}; {accuracy:.2%} of {len(data.test.labels):,} test images)\n")

    print("| recipe | reach | in at most | median time | ratio to T | median test accuracy | all | reached |")
    print("| --- | --- | --- | --- | --- | --- | --- | --- |")
    for row in map(int, options.targets.split(",")):
        name, changes, goal, share = TARGETS[row]
        trials = []
        for seed in range(options.seeds):
            settings = {**RECIPES[name].settings, **changes, "seed": seed}
            trials.append(reach(TrainConfig.from_values(settings), data, compute))
        times, accuracies, _ = zip(*trials, strict=True)
        time_taken, accuracy = statistics.median(times), statistics.median(accuracies)
        done = accuracy >= goal and time_taken <= share * whole
        each = ", ".join(f"{a:.2%} in {t:.0f} s" for t, a, _ in trials)
        changed = "".join(f", {key} {value}" for key, value in changes.items())
        print(
            f"| {name}{changed} | {goal:.1%} | {share:.3f} T = {share * whole:.0f} s | {time_taken:.1f} s "
            f"| {time_taken / whole:.3f} | {accuracy:.2%} | {each} | {'yes' if done else 'no'} |",
            flush=True,
        )

    print("\nEfficiency: a whole epoch's images per second over those of the bare step, in turns")
    for name in ("quick", "good", "best"):
        config = TrainConfig.from_values({**RECIPES[name].settings})
        ratios = []
        for _ in range(5):
            bare = bare_speed(config, data, compute, 20)
            ratios.append((epoch_speed(config, data, compute, 20) / bare, bare))
        ratio, bare = statistics.median(r for r, _ in ratios), statistics.median(b for _, b in ratios)
        spread = f"from {min(ratios)[0]:.3f} to {max(ratios)[0]:.3f}"
        print(f"{name}: median {ratio:.3f} ({spread}, 5 pairs), bare {bare:,.0f} images/s", flush=True)
    print("\nThe look at the network after each epoch: its median time, and its share of an epoch (target: 1 %)")
    for name, steps in (("quick", 20), ("resnet9", 5)):
        seconds, share = looking_share(TrainConfig.from_values({**RECIPES[name].settings}), data, compute, steps)
        print(f"{name}: {seconds:.3f} s, {share:.2%}", flush=True)
    for name in ("quick", "good"):
        print(f"\nWhere the time of {name} goes")
        print(profile(TrainConfig.from_values({**RECIPES[name].settings}), data, compute))


if __name__ == "__main__":
    main()
