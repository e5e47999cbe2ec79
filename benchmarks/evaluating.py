"""What an evaluation costs beside the bare forward passes: `python -m benchmarks.evaluating --data PATH`.

The whole task is timed (reading the weights, predicting every test image, keeping logits and evaluation on the disk,
and the figures of the page), and in turn with it the forward passes alone on normalised batches that are there already.
"""

from __future__ import annotations

import argparse
import json
import platform
import statistics
import tempfile
import time
from pathlib import Path

import numpy as np
import torch

from cifar_core import job
from cifar_core.config import TrainConfig
from cifar_core.datasets import DataSet, find_cached, open_cached, prepare
from cifar_core.evaluation import Evaluation
from cifar_core.models import create, initialise
from cifar_core.networks import load_network, model_tensors, network_metadata, save_tensors
from cifar_core.runs import Run, create_run, write_whole

MOST = 1.3
"""Times the bare forward passes."""


def untrained(config: TrainConfig, data: DataSet, root: Path) -> Run:
    """A run whose best weights are fresh ones: what they say takes as long as what trained ones do."""
    run = create_run(config, root)
    model = create(config.model, len(data.info.classes), width=config.width, dropout=0.0)
    initialise(model, config.initialisation)
    metadata = network_metadata(
        model_name=config.model,
        width=config.width,
        dropout=0.0,
        classes=data.info.classes,
        mean=data.info.mean,
        std=data.info.std,
        epoch=1.0,
    )
    save_tensors(run.path / "checkpoints" / "best.safetensors", model_tensors(model), metadata)
    return run


def whole(run: Run, data: DataSet, cache: Path) -> float:
    """Seconds of the task and of what the page then shows."""
    began = time.perf_counter()
    folder, task = job.evaluation_task(run, "best", data.info)
    write_whole(folder.path / "task.json", json.dumps(task).encode())
    with folder.held():
        *_, end = job.execute_task(folder, cache)
    if end.outcome != "finished":
        raise SystemExit(end.message)
    evaluation = Evaluation.load(folder.path / "evaluation.npz")
    evaluation.summary()
    evaluation.bootstrap()
    return time.perf_counter() - began


def bare(run: Run, data: DataSet) -> float:
    """Seconds of the forward passes alone."""
    network = load_network(run.checkpoints()["best"])
    images = torch.from_numpy(np.array(data.test.images))
    batches = [network.normalise(part) for part in images.split(500)]
    seconds = 0.0
    with torch.inference_mode():
        network.model(batches[0])
        for batch in batches:
            began = time.perf_counter()
            network.model(batch)
            seconds += time.perf_counter() - began
    return seconds


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split(":")[0])
    parser.add_argument("--data", required=True)
    parser.add_argument("--cache", type=Path, default=job.CACHE)
    parser.add_argument("--trials", type=int, default=3)
    parser.add_argument("--model", default="resnet9")
    parser.add_argument("--width", type=float, default=1.0, help="of a narrower network all else weighs more")
    options = parser.parse_args()
    for _ in prepare(Path(options.data), options.cache):
        pass
    info = find_cached(options.data, options.cache)
    if info is None:
        raise SystemExit(f"There are no images at {options.data}.")
    data = open_cached(info.id, options.cache)
    config = TrainConfig.from_values(
        {"data": options.data, "model": options.model, "width": options.width, "device": "cpu"}
    )
    ratios = []
    for trial in range(options.trials):
        with tempfile.TemporaryDirectory() as root:
            run = untrained(config, data, Path(root))
            # In turn, so that a machine that slows down slows both.
            alone, all_of_it = bare(run, data), whole(run, data, options.cache)
            ratios.append(all_of_it / alone)
            print(f"trial {trial + 1}: {all_of_it:.1f} s, forward passes alone {alone:.1f} s, ratio {ratios[-1]:.3f}")
    print(
        f"{options.model} of width {options.width:g}, {len(data.test.labels):,} test images, "
        f"{torch.get_num_threads()} threads, torch {torch.__version__}, {platform.machine()}: median ratio "
        f"{statistics.median(ratios):.3f} of {len(ratios)} trials (at most {MOST})"
    )


if __name__ == "__main__":
    main()
