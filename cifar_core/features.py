"""How a model groups images: maps of its embeddings in two or three dimensions, and how far they can be trusted."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

METHODS = ("t-SNE", "UMAP", "PCA")

LAST_LAYER = "embedding"
"""What the head sees; the other layers are those of `Classifier.layers`."""

FEWEST_IMAGES = 5
MOST_IMAGES = 50_000

TRUE_NEIGHBOURS = 10
"""Neighbours of an image among the embeddings that its map is measured by."""

VOTERS = 10
"""Neighbours that vote for the class of an image."""

BLOCK = 500
"""Images whose distances to all others are computed at once."""

SMALLEST = float(np.finfo(np.float32).tiny)

PRINCIPAL_COMPONENTS = 50
EARLY_ITERATIONS = 250
WARM_ITERATIONS = 250
"""Of a map that begins with another one."""

SLICE = 25
TRUSTED_SAMPLE = 10_000
INITIAL_DEVIATION = 1e-4
CELL, NODES = 2, 4
"""Width of the cells of interpolated repulsion, in units of the map, and nodes in each. They are twice as wide as usual
and have a node more, which takes half of the time for maps that are as good (benchmarks/maps.py)."""

INTERPOLATED_FROM = 4000
"""Images from which interpolated repulsion is faster than the Barnes-Hut tree."""


@dataclass(frozen=True)
class Mapping:
    """Which map is asked for.

    Args:
        images: How many, drawn by the seed with the same share of each class.
        perplexity: Of t-SNE: about how many neighbours each image attends to.
        neighbours: Of UMAP: how many each image is joined with.
        min_distance: Of UMAP: how close joined images may come, in units of the map.
        split: train or test.
        layer: `LAST_LAYER` or one of `Classifier.layers`.
        method: One of `METHODS`.
        dimensions: 2 or 3.

    Raises:
        ValueError: A setting is out of its range.
    """

    images: int
    perplexity: float = 30.0
    neighbours: int = 15
    min_distance: float = 0.1
    split: str = "test"
    layer: str = LAST_LAYER
    method: str = METHODS[0]
    dimensions: int = 2
    seed: int = 0

    def __post_init__(self) -> None:
        if self.method not in METHODS:
            raise ValueError(f"method must be {', '.join(METHODS[:-1])} or {METHODS[-1]}, but is {self.method!r}.")
        if self.dimensions not in (2, 3):
            raise ValueError(f"dimensions must be 2 or 3, but is {self.dimensions}.")
        if not FEWEST_IMAGES <= self.images <= MOST_IMAGES:
            raise ValueError(f"images must be from {FEWEST_IMAGES} to {MOST_IMAGES:,}, but is {self.images:,}.")

    @property
    def what_matters(self) -> dict[str, Any]:
        """The settings without those that the method does not use."""
        unused = {
            "t-SNE": ("neighbours", "min_distance"),
            "UMAP": ("perplexity",),
            "PCA": ("perplexity", "neighbours", "min_distance"),
        }
        return {name: value for name, value in asdict(self).items() if name not in unused[self.method]}

    def attended(self, count: int) -> int:
        """How many neighbours of each of `count` images have to be known."""
        wanted = {"t-SNE": int(3 * min(self.perplexity, (count - 1) / 3)), "UMAP": self.neighbours - 1, "PCA": 0}
        return min(max(wanted[self.method], TRUE_NEIGHBOURS, VOTERS), count - 1)


@dataclass(frozen=True, eq=False)
class Neighbours:
    """The nearest images of each by the distance between embeddings (Euclid), nearest first, without itself.

    Args:
        indices: (N, k) int32.
        distances: (N, k) float32.
    """

    indices: NDArray[np.int32]
    distances: NDArray[np.float32]

    def first(self, count: int) -> Neighbours:
        """The nearest `count` of them."""
        return Neighbours(self.indices[:, :count], self.distances[:, :count])


def neighbours_of(embeddings: NDArray[Any], count: int) -> Iterator[tuple[int, int, Neighbours]]:
    """Find the nearest images of each among all others, exactly, block by block.

    Args:
        embeddings: (N, D), N above `count`.

    Returns:
        Images done, of how many, and the neighbours of the new ones.
    """
    values, spread = _centred(embeddings)
    total = len(values)
    for rows, far in _distances(embeddings):
        near = np.argpartition(far, count - 1, axis=1)[:, :count]
        # Anew and exactly, as the difference of large squares says little of small distances.
        apart = values[near] - values[rows][:, None]
        distances = np.sqrt(np.einsum("nkd,nkd->nk", apart, apart))
        order = np.lexsort((near, distances), axis=1)
        near, distances = np.take_along_axis(near, order, 1), np.take_along_axis(distances, order, 1)
        yield (
            int(rows[-1]) + 1,
            total,
            Neighbours(near.astype(np.int32), (distances.astype(np.float64) * spread).astype(np.float32)),
        )


def _centred(embeddings: NDArray[Any]) -> tuple[NDArray[np.float32], float]:
    """Embeddings around 0 with numbers up to 1, and by what they were divided for that."""
    # The squares of numbers around their mean lose less to rounding, and those of very large ones would be none.
    centred = embeddings - embeddings.mean(axis=0, dtype=np.float64)
    spread = max(float(np.abs(centred).max()), SMALLEST)
    return (centred / spread).astype(np.float32), spread


def _distances(embeddings: NDArray[Any]) -> Iterator[tuple[NDArray[np.int64], NDArray[np.float32]]]:
    """Squared distances, up to a factor, of a block of images to all: their places (b,), and (b, N)."""
    values, _ = _centred(embeddings)
    squares = np.einsum("nd,nd->n", values, values)
    for start in range(0, len(values), BLOCK):
        rows = np.arange(start, min(start + BLOCK, len(values)))
        far = squares - 2 * (values[rows] @ values.T)
        far[np.arange(len(rows)), rows] = np.inf
        yield rows, far


def joined(parts: Iterable[Neighbours]) -> Neighbours:
    """The neighbours of the images of several blocks."""
    every = list(parts)
    return Neighbours(*(np.concatenate([getattr(part, name) for part in every]) for name in ("indices", "distances")))


@dataclass(frozen=True, eq=False)
class Layout:
    """A map as it is after some of its iterations.

    Args:
        iteration: In [0, total]; 0 is the initial layout.
        total: The iteration of the finished map.
        points: (N, 2) or (N, 3) float32, in arbitrary units; the initial layout is tiny.
    """

    iteration: int
    total: int
    points: NDArray[np.float32]


def laid_out(
    embeddings: NDArray[np.float32],
    how: Mapping,
    near: Neighbours,
    *,
    begin: NDArray[np.float32] | None = None,
    threads: int = 1,
) -> Iterator[Layout]:
    """Lay out embeddings by the method that is asked for, shown while the map forms.

    Args:
        embeddings: (N, D), N at least 5.
        near: At least `how.attended(N)` neighbours of each.
        begin: (N, d) a map of the same images to begin with, so that images move no farther than they must.

    Returns:
        As `project`.
    """
    if how.method == "t-SNE":
        return project(
            embeddings,
            perplexity=how.perplexity,
            iterations=750 if begin is None else WARM_ITERATIONS,
            seed=how.seed,
            threads=threads,
            dimensions=how.dimensions,
            near=near,
            begin=begin,
        )
    values = _checked(embeddings)
    if how.method == "UMAP":
        return _joined_layouts(values, how, near, begin)
    points = _padded(_principal_components(values, how.seed), how.dimensions)
    placed = points.astype(np.float32) if begin is None else aligned(points, begin, "own")
    return iter([Layout(1, 1, placed)])


def project(
    embeddings: NDArray[np.float32],
    *,
    perplexity: float = 30,
    iterations: int = 750,
    seed: int = 0,
    threads: int = 1,
    dimensions: int = 2,
    near: Neighbours | None = None,
    begin: NDArray[np.float32] | None = None,
) -> Iterator[Layout]:
    """Lay out embeddings by t-SNE (van der Maaten and Hinton, 2008), shown while it forms.

    Neighbours are exact, and the layout begins with the first principal components, which keeps the large structure
    (Kobak and Berens, 2019). The first third of the iterations, at most 250, exaggerates attraction twelvefold, unless
    the layout begins with a map. With one thread the same seed gives the same map.

    Args:
        embeddings: (N, D), N at least 5.
        perplexity: About how many neighbours each image attends to; at most (N - 1) / 3 is used.
        iterations: Of gradient descent, in all.
        threads: Of the gradient descent; the preparation may use more.
        dimensions: Of the map, 2 or 3.
        near: At least three times the perplexity of neighbours of each image, if they are known already.
        begin: (N, dimensions) a map of the same images to begin with.

    Returns:
        The initial layout at once, then one every 25 iterations, and the finished map last. To stop, ask no more.

    Raises:
        ValueError: An argument is out of its range or the embeddings are not finite; raised before the first layout.
    """
    values = _checked(embeddings)
    for name, value, low in (("perplexity", perplexity, 1), ("iterations", iterations, 1), ("threads", threads, 1)):
        if not (np.isfinite(value) and value >= low):
            raise ValueError(f"{name} must be at least {low}, but is {value}.")
    return _layouts(values, min(perplexity, (len(values) - 1) / 3), iterations, seed, threads, dimensions, near, begin)


def trustworthiness(
    embeddings: NDArray[np.float32], points: NDArray[np.float32], neighbours: int = 10, *, seed: int = 0
) -> float:
    """How far neighbours on the map are neighbours among the embeddings too (Venna and Kaski, 2001).

    It is measured on 10,000 images drawn by the seed where there are more, because its cost grows with their square:
    ten neighbours among these stand for a fivefold larger neighbourhood among 50,000.

    Args:
        embeddings: (N, D), N at least 5.
        points: (N, 2) or (N, 3) of the same images.
        neighbours: Fewer than half of the images are used, as the measure demands.

    Returns:
        A number in [0, 1]; 1 where every neighbour is one, about 0.5 for a map by chance.

    Raises:
        ValueError: The shapes do not fit or a value is not finite.
    """
    values, places = _checked(embeddings), _checked(points)
    if len(values) != len(places):
        raise ValueError(f"There are {len(values)} embeddings, but {len(places)} points.")
    if neighbours < 1:
        raise ValueError(f"neighbours must be at least 1, but is {neighbours}.")
    count = len(values)
    if count > TRUSTED_SAMPLE:
        sample = np.random.default_rng(seed).choice(count, TRUSTED_SAMPLE, replace=False)
        values, places, count = values[sample], places[sample], TRUSTED_SAMPLE
    k = min(neighbours, (count - 1) // 2)
    around, strangers = on_map(places.astype(np.float32), k), 0
    for rows, far in _distances(values):
        shown = np.take_along_axis(far, around[rows], axis=1)
        for one in range(k):
            # How many are nearer than it, of which k may be.
            strangers += int(np.maximum((far < shown[:, one : one + 1]).sum(axis=1) + 1 - k, 0).sum())
    return 1 - strangers * 2 / (count * k * (2 * count - 3 * k - 1))


def on_map(points: NDArray[np.float32], count: int) -> NDArray[np.int32]:
    """(N, count) the nearest images of each on a map (N, d), nearest first, without itself."""
    from scipy.spatial import KDTree

    _, found = KDTree(points).query(points, count + 1)
    own = found == np.arange(len(points))[:, None]
    # Among images at one place it may not be the first, or not be found at all.
    own[~own.any(axis=1), -1] = True
    return found[~own].reshape(len(points), count).astype(np.int32)


def vote_accuracy(labels: NDArray[Any], neighbours: NDArray[Any]) -> float:
    """Share of images whose class most of their neighbours have; of classes with as many votes the first counts.

    Args:
        labels: (N,) in [0, K).
        neighbours: (N, k) indices of images.
    """
    votes = labels[neighbours]
    counts = np.stack([(votes == k).sum(axis=1) for k in range(int(labels.max()) + 1)], axis=1)
    return float((counts.argmax(axis=1) == labels).mean())


def kept_neighbours(true: NDArray[Any], shown: NDArray[Any]) -> NDArray[np.uint8]:
    """(N,) how many of the k true neighbours (N, k) of each image are among the k that are nearest on the map."""
    return (true[:, :, None] == shown[:, None, :]).any(axis=2).sum(axis=1).astype(np.uint8)


def aligned(points: NDArray[Any], onto: NDArray[Any], size: str = "fitted") -> NDArray[np.float32]:
    """Move, turn, mirror and scale a map so that it comes closest to another one of the same images (Procrustes).

    The least squares of Schönemann (1966); who is near whom does not change.

    Args:
        points, onto: (N, d).
        size: Of the result: "fitted" by least squares, which shrinks a map that has little in common with the other
            one; "same" spread as the other one; or its "own".
    """
    middle, there = points.mean(axis=0, dtype=np.float64), onto.mean(axis=0, dtype=np.float64)
    ours, theirs = points - middle, onto - there
    left, sizes, right = np.linalg.svd(ours.T @ theirs)
    spread = max(float((ours**2).sum()), 1e-300)
    scales = {"fitted": sizes.sum() / spread, "same": np.sqrt((theirs**2).sum() / spread), "own": 1.0}
    scale = scales[size]
    return (scale * ours @ left @ right + there).astype(np.float32)


def disparity(points: NDArray[Any], onto: NDArray[Any]) -> float:
    """What is left between two maps of the same images when they are aligned, in [0, 1]; as `scipy.spatial.procrustes`.

    Args:
        points, onto: (N, d).
    """
    left = aligned(points, onto) - onto
    return float((left**2).sum() / max(float(((onto - onto.mean(axis=0)) ** 2).sum()), 1e-300))


def shares_of_variance(embeddings: NDArray[Any], dimensions: int) -> NDArray[np.float64]:
    """(dimensions,) the share of the variance along each of the first principal components, in [0, 1]."""
    values = _checked(embeddings)
    centred = values - values.mean(axis=0)
    whole = float((centred**2).sum())
    along = _principal_components(values, 0)
    spread = float(np.abs(centred).max())
    return _padded((along**2).sum(axis=0)[None] * spread**2 / max(whole, 1e-300), dimensions)[0]


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


def _joined_layouts(
    values: NDArray[np.float64], how: Mapping, near: Neighbours, begin: NDArray[np.float32] | None
) -> Iterator[Layout]:
    from cifar_core import umap

    few = near.first(min(how.neighbours, len(values)) - 1)
    joined = umap.graph(few.distances, few.indices)
    start = _padded(_principal_components(values, how.seed), how.dimensions) if begin is None else begin
    for done, total, points in umap.layouts(joined, start, how.min_distance, seed=how.seed, warm=begin is not None):
        yield Layout(done, total, points.copy())


def _layouts(
    values: NDArray[np.float64],
    perplexity: float,
    iterations: int,
    seed: int,
    threads: int,
    dimensions: int,
    near: Neighbours | None,
    begin: NDArray[np.float32] | None,
) -> Iterator[Layout]:
    if begin is None:
        points = _initial_points(_principal_components(values, seed), seed, dimensions)
    else:
        points = begin.astype(np.float64)
    yield Layout(0, iterations, points.astype(np.float32))

    # Slow to import, and a page that only shows a finished map needs none of it.
    import openTSNE

    count = len(values)
    attended = min(count - 1, max(int(3 * perplexity), 1))
    if near is None:
        near = joined(part for *_, part in neighbours_of(values, attended))
    few = near.first(attended)
    # The scale means nothing to t-SNE, and squares of very small or large values would not be numbers.
    spread = max(float(few.distances.max()), SMALLEST)
    known = openTSNE.nearest_neighbors.PrecomputedNeighbors(
        few.indices.astype(np.int64), few.distances.astype(np.float64) / spread
    )
    affinities = openTSNE.affinity.PerplexityBasedNN(
        knn_index=known, perplexity=perplexity, n_jobs=threads, random_state=seed
    )
    embedding = openTSNE.TSNEEmbedding(
        points,
        affinities,
        # Interpolation is for two dimensions alone.
        negative_gradient_method="fft" if count >= INTERPOLATED_FROM and dimensions == 2 else "bh",
        ints_in_interval=CELL,
        n_interpolation_points=NODES,
        random_state=seed,
        n_jobs=threads,
    )
    early = 0 if begin is not None else min(EARLY_ITERATIONS, iterations // 3)
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


def _initial_points(components: NDArray[np.float64], seed: int, dimensions: int) -> NDArray[np.float64]:
    points = _padded(components, dimensions)
    deviation = points[:, 0].std()
    chance = np.random.default_rng(seed).normal(0, INITIAL_DEVIATION, points.shape)
    if deviation == 0:
        return chance
    # Equal embeddings must begin apart, or the gradient never parts them.
    return points / deviation * INITIAL_DEVIATION + chance / 100


def _padded(components: NDArray[np.float64], dimensions: int) -> NDArray[np.float64]:
    """The first of them; where there are too few, the others are 0."""
    points = np.zeros((len(components), dimensions))
    points[:, : components.shape[1]] = components[:, :dimensions]
    return points
