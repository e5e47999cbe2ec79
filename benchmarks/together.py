"""What training together costs: `python -m benchmarks.together --data PATH`.

Recipe `quick` on the CPU: two processes of one thread each, started by torchrun, beside one process of two threads, in
turn. Where there are two cores, both use all of the machine, so that the ratio is what splitting the batch and adding
up the gradients cost, less what threads lose by waiting for each other. It says nothing of GPUs.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
ALONE: tuple[str, ...] = ()
TOGETHER = ("torch.distributed.run", "--standalone", "--nproc-per-node", "2", "-m")


def images_per_second(launcher: tuple[str, ...], threads: int, words: list[str]) -> float:
    """Of the last epoch of a training."""
    done = subprocess.run(
        [sys.executable, "-m", *launcher, "cifar_core", "train", *words, "--json"],
        cwd=ROOT,
        env={**os.environ, "OMP_NUM_THREADS": str(threads)},
        stdout=subprocess.PIPE,
        text=True,
        check=True,
    )
    return float(json.loads(done.stdout)["images_per_second"])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", required=True)
    parser.add_argument("--cache", type=Path, default=ROOT / "data" / "cache")
    parser.add_argument("--images", type=int, default=10_000, help="training images of an epoch (default: 10000)")
    parser.add_argument("--trials", type=int, default=3)
    options = parser.parse_args()
    ways = {
        "one process, two threads": (ALONE, 2, []),
        "two processes, one thread each": (TOGETHER, 1, []),
        "the same with shared batch norm": (TOGETHER, 1, ["--sync-batchnorm"]),
    }
    speeds: dict[str, list[float]] = {way: [] for way in ways}
    with tempfile.TemporaryDirectory() as runs:
        words = ["--data", options.data, "--cache", str(options.cache), "--runs", runs, "--recipe", "quick"]
        words += ["--train-images", str(options.images), "--epochs", "2", "--device", "cpu", "--early-size", "0"]
        for _ in range(options.trials):
            for way, (launcher, threads, more) in ways.items():
                speeds[way].append(images_per_second(launcher, threads, words + more))
    base = statistics.median(speeds["one process, two threads"])
    for way, found in speeds.items():
        each = ", ".join(f"{speed:,.0f}" for speed in found)
        print(f"{way:32} {statistics.median(found) / base:5.2f} times as fast ({each} images/s)")


if __name__ == "__main__":
    main()
