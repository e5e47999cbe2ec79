"""UMAP (McInnes, Healy and Melville, 2018) as a generator of layouts, so that a map can be shown while it forms.

The graph is that of the reference implementation, edge for edge. The layout departs from it in three ways: it begins
with principal components instead of eigenvectors of the graph; edges are drawn in batches, of which no image has more
than a few, instead of one by one; and up to 10,000 images take 300 rounds instead of 500.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from scipy.sparse import coo_array

NEGATIVES = 5
"""Images that each drawn edge pushes its first end away from."""

STEEPEST = 4.0
EXTENT = 10.0
ROUNDS, ROUNDS_OF_MANY, MANY = 300, 200, 10_000
WARM_RATE = 0.25
"""Learning rate at which a map goes on that begins with another one; a fresh one begins with 1."""


def graph(distances: NDArray[Any], neighbours: NDArray[Any]) -> coo_array:
    """How surely images are joined, from the distances to their neighbours (section 3.1, algorithms 2 and 3).

    Args:
        distances: (N, k) ascending, without the image itself.
        neighbours: (N, k) of the same.

    Returns:
        (N, N) symmetric, weights in [0, 1].
    """
    from scipy.sparse import coo_array

    count, k = distances.shape
    values = distances.astype(np.float64)
    nearest = np.where(values > 0, values, np.inf).min(axis=1)
    nearest = np.where(np.isfinite(nearest), nearest, 0)
    beyond = np.maximum(values - nearest[:, None], 0)
    low, high, width = np.zeros(count), np.full(count, np.inf), np.ones(count)
    target = np.log2(k + 1)
    for _ in range(64):
        reached = np.where(beyond > 0, np.exp(-beyond / width[:, None]), 1).sum(axis=1)
        done = np.abs(reached - target) < 1e-5
        over = reached > target
        high = np.where(over & ~done, width, high)
        low = np.where(~over & ~done, width, low)
        wider = np.where(np.isinf(high), width * 2, (low + high) / 2)
        width = np.where(done, width, wider)
    # The image itself counts among its neighbours there.
    own, mean = values.sum(axis=1) / (k + 1), values.sum() / (values.size + count)
    width = np.maximum(width, 1e-3 * np.where(nearest > 0, own, mean))
    weights = np.where((beyond > 0) & (width[:, None] > 0), np.exp(-beyond / np.maximum(width, 1e-300)[:, None]), 1)
    rows = np.repeat(np.arange(count), k)
    one_way = coo_array((weights.ravel(), (rows, neighbours.ravel())), shape=(count, count)).tocsr()
    other_way = one_way.T.tocsr()
    return (one_way + other_way - one_way.multiply(other_way)).tocoo()


def curve(min_distance: float) -> tuple[float, float]:
    """a and b of 1 / (1 + a d^(2b)), fitted to a plateau up to `min_distance` and an exponential fall after it."""
    from scipy.optimize import curve_fit

    d = np.linspace(0, 3, 300)
    wanted = np.where(d < min_distance, 1.0, np.exp(-(d - min_distance)))
    (a, b), _ = curve_fit(lambda x, a, b: 1 / (1 + a * x ** (2 * b)), d, wanted)
    return float(a), float(b)


def rounds(count: int) -> int:
    """How many rounds a fresh map of so many images takes."""
    return ROUNDS if count <= MANY else ROUNDS_OF_MANY


def layouts(
    joined: coo_array, begin: NDArray[Any], min_distance: float, *, seed: int, warm: bool = False
) -> Iterator[tuple[int, int, NDArray[np.float32]]]:
    """Pull joined images together and push others apart (algorithm 5).

    Args:
        joined: As `graph` gives it.
        begin: (N, d) where the images begin.
        min_distance: From which on joined images attract each other, in units of the map.
        warm: Whether `begin` is a map itself, which is to move no more than it must.

    Yields:
        Rounds done, of how many, and the layout (N, d), which changes with the next one.
    """
    random = np.random.default_rng(seed)
    count = len(begin)
    total = rounds(count) // 2 if warm else rounds(count)
    points = begin.astype(np.float32) if warm else _spread(begin, random)
    shares = joined.data / max(joined.data.max(initial=0), 1e-300)
    drawn = shares >= 1 / total
    heads, tails, shares = joined.row[drawn], joined.col[drawn], shares[drawn]
    phases = random.random(len(shares))
    a, b = curve(min_distance)
    yield 0, total, points
    for now in range(total):
        rate = np.float32((WARM_RATE if warm else 1.0) * (1 - now / total))
        due = np.flatnonzero(np.floor((now + 1) * shares + phases) > np.floor(now * shares + phases))
        random.shuffle(due)
        for start in range(0, len(due), max(count, 256)):
            batch = due[start : start + max(count, 256)]
            _move(points, heads[batch], tails[batch], a, b, rate, random)
        yield now + 1, total, points


def _spread(begin: NDArray[Any], random: np.random.Generator) -> NDArray[np.float32]:
    values = begin - begin.min(axis=0)
    values = values * (EXTENT / max(float(values.max()), 1e-300)) + random.normal(0, 1e-3, begin.shape)
    return values.astype(np.float32)


def _move(
    points: NDArray[np.float32],
    heads: NDArray[Any],
    tails: NDArray[Any],
    a: float,
    b: float,
    rate: np.float32,
    random: np.random.Generator,
) -> None:
    count, dimensions = points.shape
    apart = points[heads] - points[tails]
    squares = np.einsum("ed,ed->e", apart, apart)
    power = squares**b
    pull = np.where(squares > 0, -2 * a * b * power / np.maximum(squares, 1e-12) / (a * power + 1), 0)
    pulled = (apart * pull[:, None].astype(np.float32)).clip(-STEEPEST, STEEPEST)
    from_all = np.repeat(heads, NEGATIVES)
    others = random.integers(0, count, len(from_all))
    apart = points[from_all] - points[others]
    squares = np.einsum("ed,ed->e", apart, apart)
    push = np.where(squares > 0, 2 * b / ((0.001 + squares) * (a * squares**b + 1)), 0)
    pushed = (apart * push[:, None].astype(np.float32)).clip(-STEEPEST, STEEPEST)
    for axis in range(dimensions):
        moved = np.bincount(heads, pulled[:, axis], count) - np.bincount(tails, pulled[:, axis], count)
        moved += np.bincount(from_all, pushed[:, axis], count)
        points[:, axis] += rate * moved.astype(np.float32)
