"""How a model groups images: maps of its embeddings in two dimensions."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

FEWEST_IMAGES = 5
PRINCIPAL_COMPONENTS = 50
EARLY_ITERATIONS = 250
SLICE = 25
TRUSTED_SAMPLE = 2000
INITIAL_DEVIATION = 1e-4
INTERPOLATED_FROM = 4000
"""Images from which interpolated repulsion is faster than the Barnes-Hut tree."""


@dataclass(frozen=True, eq=False)
class Layout:
    """A map as it is after some of its iterations.

    Args:
        iteration: In [0, total]; 0 is the initial layout.
        total: The iteration of the finished map.
        points: (N, 2) float32, in arbitrary units; the initial layout is tiny.
    """

    iteration: int
    total: int
    points: NDArray[np.float32]


def project(
    embeddings: NDArray[np.float32],
    *,
    perplexity: float = 30,
    iterations: int = 750,
    seed: int = 0,
    threads: int = 1,
) -> Iterator[Layout]:
    """Lay out embeddings in two dimensions by t-SNE (van der Maaten and Hinton, 2008), shown while it forms.

    At most 50 principal components are kept, neighbours are exact, and the layout begins with the first two
    components, which keeps the large structure (Kobak and Berens, 2019). The first third of the iterations, at most
    250, exaggerates attraction twelvefold. With one thread the same seed gives the same map.

    Args:
        embeddings: (N, D), N at least 5.
        perplexity: About how many neighbours each image attends to; at most (N - 1) / 3 is used.
        iterations: Of gradient descent, in all.
        threads: Of the gradient descent; the preparation may use more.

    Returns:
        The initial layout at once, then one every 25 iterations, and the finished map last. To stop, ask no more.

    Raises:
        ValueError: An argument is out of its range or the embeddings are not finite; raised before the first layout.
    """
    values = _checked(embeddings)
    for name, value, low in (("perplexity", perplexity, 1), ("iterations", iterations, 1), ("threads", threads, 1)):
        if not (np.isfinite(value) and value >= low):
            raise ValueError(f"{name} must be at least {low}, but is {value}.")
    return _layouts(values, min(perplexity, (len(values) - 1) / 3), iterations, seed, threads)


def trustworthiness(
    embeddings: NDArray[np.float32], points: NDArray[np.float32], neighbours: int = 10, *, seed: int = 0
) -> float:
    """How far neighbours on the map are neighbours among the embeddings too (Venna and Kaski, 2001).

    It is measured on 2,000 images drawn by the seed where there are more, because its cost grows with their square:
    ten neighbours among these stand for a fivefold larger neighbourhood among 10,000.

    Args:
        embeddings: (N, D), N at least 5.
        points: (N, 2) of the same images.
        neighbours: At most half of the images are used, as the measure demands.

    Returns:
        A number in [0, 1]; 1 where every neighbour is one, about 0.5 for a map by chance.

    Raises:
        ValueError: The shapes do not fit or a value is not finite.
    """
    from sklearn import manifold

    values, places = _checked(embeddings), _checked(points)
    if len(values) != len(places):
        raise ValueError(f"There are {len(values)} embeddings, but {len(places)} points.")
    if neighbours < 1:
        raise ValueError(f"neighbours must be at least 1, but is {neighbours}.")
    count = len(values)
    if count > TRUSTED_SAMPLE:
        sample = np.random.default_rng(seed).choice(count, TRUSTED_SAMPLE, replace=False)
        values, places, count = values[sample], places[sample], TRUSTED_SAMPLE
    return float(manifold.trustworthiness(values, places, n_neighbors=min(neighbours, (count - 1) // 2)))


def _checked(embeddings: NDArray[Any]) -> NDArray[np.float64]:
    values = np.asarray(embeddings, dtype=np.float64)
    if values.ndim != 2 or not values.shape[1]:
        raise ValueError(f"Embeddings must be (N, D) with D at least 1, but are {values.shape}.")
    if len(values) < FEWEST_IMAGES:
        raise ValueError(f"A map needs at least {FEWEST_IMAGES} images, but there are {len(values)}.")
    broken = np.flatnonzero(~np.isfinite(values).all(axis=1))
    if len(broken):
        raise ValueError(f"Embeddings must be finite, but that of image {broken[0]} is not.")
    return values


def _layouts(
    values: NDArray[np.float64], perplexity: float, iterations: int, seed: int, threads: int
) -> Iterator[Layout]:
    components = _principal_components(values, seed)
    points = _initial_points(components, seed)
    yield Layout(0, iterations, points.astype(np.float32))

    # Slow to import, and a page that only shows a finished map needs none of it.
    import openTSNE

    count = len(values)
    affinities = openTSNE.affinity.PerplexityBasedNN(
        components, perplexity=perplexity, method="exact", n_jobs=threads, random_state=seed
    )
    embedding = openTSNE.TSNEEmbedding(
        points,
        affinities,
        negative_gradient_method="fft" if count >= INTERPOLATED_FROM else "bh",
        random_state=seed,
        n_jobs=threads,
    )
    early = min(EARLY_ITERATIONS, iterations // 3)
    done = 0
    while done < iterations:
        exaggeration, end = (12.0, early) if done < early else (1.0, iterations)
        steps = min(SLICE, end - done)
        # "auto" is N / exaggeration (Belkina et al., 2019), which held down to five images.
        embedding.optimize(steps, inplace=True, exaggeration=exaggeration, momentum=0.8, learning_rate="auto")
        done += steps
        yield Layout(done, iterations, np.array(embedding, dtype=np.float32))


def _principal_components(values: NDArray[np.float64], seed: int) -> NDArray[np.float64]:
    from sklearn.decomposition import PCA

    spread = np.abs(values - values.mean(axis=0)).max()
    if spread == 0:
        return np.zeros((len(values), 1))
    # The scale means nothing to t-SNE, and squares of very small or large values would not be numbers.
    scaled = (values - values.mean(axis=0)) / spread
    kept = min(PRINCIPAL_COMPONENTS, *scaled.shape)
    return np.ascontiguousarray(PCA(kept, random_state=seed).fit_transform(scaled))


def _initial_points(components: NDArray[np.float64], seed: int) -> NDArray[np.float64]:
    points = np.zeros((len(components), 2))
    points[:, : components.shape[1]] = components[:, :2]
    deviation = points[:, 0].std()
    chance = np.random.default_rng(seed).normal(0, INITIAL_DEVIATION, points.shape)
    if deviation == 0:
        return chance
    # Equal embeddings must begin apart, or the gradient never parts them.
    return points / deviation * INITIAL_DEVIATION + chance / 100
