"""How fast a map of 10,000 images is laid out, against scikit-learn's t-SNE: `python -m benchmarks.maps`.

Both lay out the same embeddings in two dimensions with the same perplexity, one after the other in one run,
scikit-learn with its defaults. Trustworthiness is measured alike. With --umap, UMAP and, where umap-learn is
installed, the reference implementation are timed too, without its first call, which compiles it.
"""

from __future__ import annotations

import argparse
import os
import platform
import statistics
import time
from importlib.metadata import version
from pathlib import Path

import numpy as np

from cifar_core.features import Mapping, joined, laid_out, neighbours_of, trustworthiness

GOAL = 0.45
"""Of scikit-learn's time, at most."""


def embeddings(images: int, cache: Path | None) -> tuple[np.ndarray, str]:
    """What the network that comes with the program makes of test images; without them, groups drawn by chance."""
    from cifar_core.datasets import cached, open_cached
    from cifar_core.networks import load_network
    from cifar_core.runs import REFERENCE, Run

    infos = [info for info in cached(cache) if len(info.classes) == 10] if cache else []
    if infos:
        network = load_network(next(iter(Run(REFERENCE).checkpoints().values())))
        taken = open_cached(infos[0].id, cache).test.images[:images]
        values = np.concatenate([batch.numpy() for batch in network.embeddings(taken)])
        return values, f"features of {len(values):,} test images of {infos[0].name} by the reference run"
    chance = np.random.default_rng(0)
    labels = np.arange(images) % 10
    values = chance.normal(size=(10, 320))[labels] * 0.8 + chance.normal(size=(images, 320))
    return values.astype(np.float32), f"{images:,} points in 10 groups drawn by chance"


def ours(values: np.ndarray, how: Mapping) -> np.ndarray:
    near = joined(some for *_, some in neighbours_of(values, how.attended(len(values))))
    *_, layout = laid_out(values, how, near)
    return layout.points


def theirs(values: np.ndarray) -> np.ndarray:
    from sklearn.manifold import TSNE

    return TSNE(perplexity=30, random_state=0).fit_transform(values)


def timed(make, values: np.ndarray) -> tuple[float, float]:
    """Seconds, and trustworthiness."""
    began = time.perf_counter()
    points = make(values)
    return time.perf_counter() - began, trustworthiness(values, points)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--images", type=int, default=10_000)
    parser.add_argument("--trials", type=int, default=3)
    parser.add_argument("--cache", type=Path, help="where prepared data sets are; without, points are drawn by chance")
    parser.add_argument("--umap", action="store_true", help="time UMAP too")
    options = parser.parse_args()
    values, what = embeddings(options.images, options.cache)
    how = Mapping(len(values), 30.0)
    print(f"{what}, {values.shape[1]} features each")
    print(f"{platform.processor() or platform.machine()}, {os.cpu_count()} cores; openTSNE {version('openTSNE')}, "
          f"scikit-learn {version('scikit-learn')}, numpy {version('numpy')}")  # fmt: skip
    # What is imported and compiled at first is no part of any of them.
    ours(values[:300], Mapping(300, 30.0)), theirs(values[:300])
    rows = []
    for trial in range(options.trials):
        (first, trusted), (second, trusted_there) = timed(lambda v: ours(v, how), values), timed(theirs, values)
        rows.append((first / second, trusted - trusted_there))
        print(f"trial {trial + 1}: t-SNE {first:.1f} s, trustworthiness {trusted:.4f}; scikit-learn {second:.1f} s, "
              f"{trusted_there:.4f}; {first / second:.2f} of its time", flush=True)  # fmt: skip
    ratio, gain = (statistics.median(column) for column in zip(*rows, strict=True))
    met = "met" if ratio <= GOAL and gain >= 0 else "missed"
    print(f"median of {len(rows)}: {ratio:.2f} of scikit-learn's time, trustworthiness {gain:+.4f}; goal at most "
          f"{GOAL} and not worse: {met}")  # fmt: skip
    if options.umap:
        seconds, trusted = timed(lambda v: ours(v, Mapping(len(v), method="UMAP")), values)
        print(f"UMAP {seconds:.1f} s, trustworthiness {trusted:.4f}")
        try:
            from umap import UMAP
        except ImportError:
            return
        UMAP(random_state=0).fit_transform(values[:300])
        seconds, trusted = timed(lambda v: UMAP(random_state=0).fit_transform(v), values)
        print(f"umap-learn {seconds:.1f} s, trustworthiness {trusted:.4f}")


if __name__ == "__main__":
    main()
