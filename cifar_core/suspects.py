"""Images that deserve a second look: near-duplicates, likely label errors and outliers."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cifar_core.attributes import THUMB, pooled
from cifar_core.datasets import Split
from cifar_core.subsets import subset_indices

# Near-duplicates ---------------------------------------------------------------------------------------------------

BLOCK = 500
"""Images that are compared with all others at once."""

AXES = 64
"""Numbers by which it is found out which small views can be alike at all; three times as quick as by all of them."""

LIKELY = 0.75
"""Similarity of the small views from which a pair is looked at in detail."""

ALIKE = 0.7
"""Similarity in detail from which a pair is listed."""

SIDE = 16
"""Pixels of a side at which a pair is looked at: photos can still be told apart, and noise has been averaged out."""

SHIFTS = tuple((down, right) for down in (-1, 0, 1) for right in (-1, 0, 1))
"""By how many pixels one of a pair is moved to find out how alike they are: half a pixel at `SIDE` tells a lot."""

FLATTEST = 1e-3
"""Norm of the details of an image in [0, 1] below which there is nothing to compare."""


@dataclass(frozen=True, eq=False)
class Pairs:
    """Pairs of images that are alike.

    Args:
        first, second: (P,) int64, first below second; places in the training split and, after it, in the test split.
        mirrored: (P,) whether one is the other left to right.
        scores: (P,) float32, similarity in [-1, 1].
    """

    first: NDArray[np.int64]
    second: NDArray[np.int64]
    mirrored: NDArray[np.bool_]
    scores: NDArray[np.float32]

    def __len__(self) -> int:
        return len(self.first)

    def ranked(self) -> Pairs:
        """The same, most alike first; of a pair that is alike either way only the better one."""
        order = np.lexsort((self.second, self.first, -self.scores))
        keys = np.stack([self.first[order], self.second[order]], axis=1)
        _, once = np.unique(keys, axis=0, return_index=True)
        return self.at(order[np.sort(once)])

    def at(self, which: NDArray[np.int64] | NDArray[np.bool_]) -> Pairs:
        """Some of them."""
        return Pairs(self.first[which], self.second[which], self.mirrored[which], self.scores[which])


def join_pairs(parts: Sequence[Pairs]) -> Pairs:
    """All pairs of several parts."""
    empty = Pairs(np.empty(0, np.int64), np.empty(0, np.int64), np.empty(0, bool), np.empty(0, np.float32))
    names = ("first", "second", "mirrored", "scores")
    return Pairs(*(np.concatenate([getattr(part, name) for part in (empty, *parts)]) for name in names))


def details(images: NDArray[np.uint8], side: int) -> NDArray[np.float32]:
    """What sets an image apart from its blurred version, in few numbers: (N, 3 * side**2), each row of norm 1.

    The image is made `side` pixels wide, and one of a quarter of that is taken away. The product of two rows is then
    the correlation of the two images' details, which brightness and contrast do not change. Rows of images without
    any detail are 0.
    """
    values = pooled(images.astype(np.float32) / np.float32(255), side)
    coarse = pooled(values, side // 4)
    values -= coarse.repeat(4, axis=2).repeat(4, axis=3)
    flat = values.reshape(len(values), -1)
    norms = np.linalg.norm(flat, axis=1, keepdims=True)
    return np.divide(flat, norms, out=np.zeros_like(flat), where=norms > FLATTEST)


def alike_pairs(thumbs: NDArray[np.uint8], images: Sequence[NDArray[np.uint8]]) -> Iterator[tuple[int, int, Pairs]]:
    """Look for near-duplicates among all images of several splits, also mirrored ones; the pairs found block by block.

    Args:
        thumbs: (N, 3, 8, 8), of the images of all splits, one split after the other.
        images: (n, 3, H, W) of each split, perhaps memory-mapped.

    Returns:
        Images compared so far, of how many, and what is new.
    """
    small = details(thumbs, THUMB)
    mirrored = details(thumbs[..., ::-1], THUMB)
    axes: NDArray[Any] = np.linalg.eigh(small.T @ small)[1][:, -AXES:]
    short, short_mirrored = _shortened(small, axes), _shortened(mirrored, axes)
    total = len(small)
    # Of all images at once, as most are looked at again and again; 16 bits are exact enough and take half the room.
    views = np.empty((total, 3 * SIDE**2), np.float16)
    starts = np.cumsum([0, *(len(split) for split in images)])
    for start, split in zip(starts, images, strict=False):
        for place in range(0, len(split), BLOCK):
            part = np.asarray(split[place : place + BLOCK])
            views[start + place : start + place + len(part)] = details(part, SIDE)
    for start in range(0, total, BLOCK):
        block = slice(start, start + BLOCK)
        found = []
        moved = _moved(_gathered(np.arange(total)[block], images, starts))
        for flip, others, shorts in ((False, small, short), (True, mirrored, short_mirrored)):
            rows, columns = np.nonzero(short[block] @ shorts[start:].T >= LIKELY)
            rows, columns = rows[columns > rows], columns[columns > rows] + start
            near: NDArray[Any] = np.concatenate(
                [np.empty(0, bool), *(part >= LIKELY for part in _products(small[block], others, rows, columns))]
            )
            rows, columns = rows[near], columns[near]
            scores = _looked_at(moved, views, rows, columns, flip)
            alike = scores >= ALIKE
            flips = np.full(int(alike.sum()), flip)
            found.append(Pairs(rows[alike] + start, columns[alike], flips, scores[alike]))
        yield min(start + BLOCK, total), total, join_pairs(found)


def _shortened(views: NDArray[np.float32], axes: NDArray[Any]) -> NDArray[Any]:
    """Fewer numbers, whose products are never below those of the views (Cauchy and Schwarz), and soon had."""
    along: NDArray[Any] = views @ axes
    rest: NDArray[Any] = np.sqrt(np.maximum((views**2).sum(1) - (along**2).sum(1), 0))
    # A little more, as the sums are rounded.
    return np.concatenate([along, rest[:, None] + np.float32(1e-3)], axis=1)


def _products(
    ones: NDArray[np.float32], others: NDArray[np.float32], rows: NDArray[np.int64], columns: NDArray[np.int64]
) -> Iterator[NDArray[np.float32]]:
    for start in range(0, len(rows), 20 * BLOCK):
        part = slice(start, start + 20 * BLOCK)
        yield np.einsum("nd,nd->n", ones[rows[part]], others[columns[part]])


def _moved(images: NDArray[np.uint8]) -> NDArray[np.float32]:
    """(N, shifts, 3 * SIDE**2) the details of images (N, 3, H, W) moved by each of `SHIFTS`; what moves in repeats."""
    height, width = images.shape[2:]
    wider = np.pad(images, ((0, 0), (0, 0), (1, 1), (1, 1)), mode="edge")
    moved = [wider[..., 1 + down : 1 + down + height, 1 + right : 1 + right + width] for down, right in SHIFTS]
    return np.stack([details(each, SIDE) for each in moved], axis=1)


def _looked_at(
    moved: NDArray[np.float32],
    views: NDArray[np.float16],
    rows: NDArray[np.int64],
    columns: NDArray[np.int64],
    flip: bool,
) -> NDArray[np.float32]:
    """(P,) how alike the images of each pair are where one is moved, and mirrored, so that they are most so.

    Args:
        moved: Of `_moved`, of the images that `rows` number; these grow.
        views: (N, 3 * SIDE**2) details of the images that `columns` number.
    """
    scores = np.empty(len(rows), np.float32)
    ends = np.searchsorted(rows, np.arange(len(moved) + 1))
    for row in np.flatnonzero(np.diff(ends)):
        pairs = slice(ends[row], ends[row + 1])
        others = views[columns[pairs]].astype(np.float32)
        if flip:
            others = others.reshape(len(others), -1, SIDE)[..., ::-1].reshape(len(others), -1)
        scores[pairs] = (others @ moved[row].T).max(1)
    return scores


def _gathered(
    places: NDArray[np.int64], images: Sequence[NDArray[np.uint8]], starts: NDArray[np.int64]
) -> NDArray[np.uint8]:
    taken = np.empty((len(places), *images[0].shape[1:]), np.uint8)
    for k, split in enumerate(images):
        here = (places >= starts[k]) & (places < starts[k + 1])
        taken[here] = split[places[here] - starts[k]]
    return taken


def leaked(pairs: Pairs, train_images: int) -> NDArray[np.int64]:
    """The test images, as numbered in their split, that have a near-duplicate in the training split."""
    across = (pairs.first < train_images) & (pairs.second >= train_images)
    return np.unique(pairs.second[across]) - train_images


# Label errors ------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, eq=False)
class Confidence:
    """Confident learning (Northcutt et al., 2021) from predictions that were made without having seen the labels.

    Args:
        labels: (N,) int64 in [0, K), as given.
        probabilities: (N, K), held out or out of fold.
    """

    labels: NDArray[np.int64]
    probabilities: NDArray[np.float32]

    @property
    def thresholds(self) -> NDArray[np.float64]:
        """(K,) the mean probability of a class over the images that are labelled so (equation 2); 1 without any."""
        count = self.probabilities.shape[1]
        images = np.bincount(self.labels, minlength=count)
        given = self.probabilities[np.arange(len(self.labels)), self.labels].astype(np.float64)
        sums = np.bincount(self.labels, weights=given, minlength=count)
        return np.divide(sums, images, out=np.ones(count), where=images > 0)

    @property
    def guesses(self) -> NDArray[np.int64]:
        """(N,) the most probable of the classes whose threshold is reached (equation 1), or -1 where none is."""
        reached = self.probabilities >= self.thresholds[None] - 1e-6
        best = np.where(reached, self.probabilities, -1).argmax(1)
        return np.where(reached.any(1), best, -1)

    @property
    def joint(self) -> NDArray[np.int64]:
        """(K, K) images by label (row) and guess (column), those without a guess left out: the confident joint."""
        count, known = self.probabilities.shape[1], self.guesses >= 0
        cells = np.bincount(self.labels[known] * count + self.guesses[known], minlength=count**2)
        return cells.reshape(count, count).astype(np.int64)

    @property
    def errors_expected(self) -> float:
        """How many labels are wrong: the joint with its rows made to add up to the images of each label (equation 3).

        Rows without a guess count as right.
        """
        joint = self.joint.astype(np.float64)
        rows = joint.sum(1)
        images = np.bincount(self.labels, minlength=len(joint))
        wrong = rows - np.diag(joint)
        return float((np.divide(wrong, rows, out=np.zeros_like(rows), where=rows > 0) * images).sum())

    @property
    def confident(self) -> NDArray[np.int64]:
        """The images that are confidently another class than their label says, in their order."""
        return np.flatnonzero((self.guesses >= 0) & (self.guesses != self.labels))

    @property
    def given(self) -> NDArray[np.float32]:
        """(N,) the probability of the label (self-confidence); it ranks wrong labels better than the margin does."""
        return self.probabilities[np.arange(len(self.labels)), self.labels]

    def suspects(self) -> NDArray[np.int64]:
        """The images that are predicted as another class than their label says, the least likely label first."""
        wrong = np.flatnonzero(self.probabilities.argmax(1) != self.labels)
        return wrong[np.argsort(self.given[wrong], kind="stable")]


def most_alike(views: NDArray[np.float32], place: int, count: int) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
    """The images whose rows of `details` are most like that of one image, most alike first; not the image itself.

    Returns:
        Places (count,) and likenesses (count,) in [-1, 1].
    """
    likeness = views @ views[place]
    likeness[place] = -np.inf
    count = min(count, len(views) - 1)
    best = np.argpartition(-likeness, max(count - 1, 0))[:count]
    best = best[np.argsort(-likeness[best], kind="stable")]
    return best.astype(np.int64), likeness[best]


NEIGHBOURS = 10
"""Nearest images that are kept of each."""


def nearest(
    embeddings: NDArray[np.float32], count: int
) -> Iterator[tuple[int, int, NDArray[np.int64], NDArray[np.float32]]]:
    """The images nearest to each by the angle between embeddings, block by block.

    Args:
        embeddings: (N, D), N above `count`.

    Returns:
        Images done, of how many, and of the new ones: places (n, count) of their neighbours, nearest first, and the
        distances (n, count), 1 less the cosine.
    """
    norms = np.linalg.norm(embeddings, axis=1, keepdims=True)
    units = np.divide(embeddings, norms, out=np.zeros_like(embeddings), where=norms > 0)
    total = len(units)
    for start in range(0, total, BLOCK):
        near = units[start : start + BLOCK] @ units.T
        rows = np.arange(len(near))
        near[rows, rows + start] = -np.inf
        places = np.argpartition(-near, count - 1, axis=1)[:, :count]
        values = np.take_along_axis(near, places, 1)
        order = np.argsort(-values, axis=1, kind="stable")
        places, values = np.take_along_axis(places, order, 1), np.take_along_axis(values, order, 1)
        yield min(start + BLOCK, total), total, places, 1 - values


# Test of truth -----------------------------------------------------------------------------------------------------

WRONG_SHARE, DUPLICATES = 0.03, 100
"""What is planted: the share of labels made wrong, and the number of images copied."""


@dataclass(frozen=True, eq=False)
class Planted:
    """A part of a training split with errors put into it, whose places are known.

    Args:
        split: The images, of which the copies come last.
        wrong: Places of the images whose label was made wrong; a copy of one has that label, too.
        originals, copies: (n,) places of the images that were copied, and of their altered copies.
    """

    split: Split
    wrong: NDArray[np.int64]
    originals: NDArray[np.int64]
    copies: NDArray[np.int64]


def planted(split: Split, classes: int, images: int, seed: int) -> Planted:
    """Take some images of a split, make 3 % of their labels wrong and add 100 altered copies.

    A copy is mirrored, shifted by a pixel, brighter or darker, and noisy, each by chance. Its label is its original's.
    Of few images, at most a tenth is copied, and at least one.
    """
    random = np.random.default_rng(seed)
    chosen = subset_indices(np.asarray(split.labels), min(images, len(split.labels)), seed)
    pictures, truth = np.array(split.images[chosen]), np.array(split.labels[chosen])
    copied = np.sort(random.choice(len(chosen), min(DUPLICATES, max(len(chosen) // 10, 1)), replace=False))
    wrong = np.sort(random.choice(len(chosen), round(WRONG_SHARE * len(chosen)), replace=False))
    labels = truth.copy()
    labels[wrong] = (truth[wrong] + random.integers(1, classes, len(wrong))) % classes
    altered = np.stack([_altered(image, random) for image in pictures[copied]])
    whole = Split(np.concatenate([pictures, altered]), np.concatenate([labels, labels[copied]]))
    return Planted(whole, wrong, copied, np.arange(len(chosen), len(whole.labels)))


def wrong_with_copies(
    wrong: NDArray[np.int64], originals: NDArray[np.int64], copies: NDArray[np.int64]
) -> NDArray[np.int64]:
    """Places of all images with a wrong label: those of `Planted.wrong` and the copies of them."""
    return np.union1d(wrong, copies[np.isin(originals, wrong)])


def _altered(image: NDArray[np.uint8], random: np.random.Generator) -> NDArray[np.uint8]:
    values: NDArray[Any] = image.astype(np.float32)
    if random.random() < 0.5:
        values = values[..., ::-1]
    if random.random() < 0.5:
        down, right = random.integers(-1, 2, 2)
        padded = np.pad(values, ((0, 0), (1, 1), (1, 1)), mode="edge")
        values = padded[:, 1 + down : 1 + down + image.shape[1], 1 + right : 1 + right + image.shape[2]]
    values = values * random.uniform(0.8, 1.2) + random.normal(0, 4, image.shape)
    return values.round().clip(0, 255).astype(np.uint8)


def found_share(ranking: NDArray[np.int64], wanted: NDArray[np.int64]) -> NDArray[np.float64]:
    """(n,) the share of what is wanted that is among the first 1, 2, ..., n of a ranking."""
    hits = np.isin(ranking, wanted)
    return np.cumsum(hits) / max(len(wanted), 1)
