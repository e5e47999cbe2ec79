"""How a new image compares with those a network knows: near which, how unusual, and which of them shaped its answer."""

from __future__ import annotations

import io
import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

NEIGHBOURS = 50
"""Of which the last one's distance counts (Sun et al., 2022, section 4.1, for 50,000 images)."""

FALSE_ALARMS = 0.05
"""The most images like those it was trained on that may be called foreign, fraction."""

CONFIDENCE = 0.99
"""How sure it is that the threshold keeps to `FALSE_ALARMS` on further images, fraction."""

ROWS_AT_ONCE = 500

MOST_VALUES = 30_000_000
"""Features of training images that are kept; of networks with very many of them, fewer images."""


class FamiliarityError(ValueError):
    """A file of what a network knows cannot be read."""


@dataclass(frozen=True, eq=False)
class Known:
    """What a network makes of the images it was trained on, and of others like them.

    Args:
        features: (N, D) float16, what the last layer sees of each training image.
        probabilities: (N, K) float32 of the training images.
        labels: (N,) int64 in [0, K) of the training images.
        indices: (N,) int64, their places in the training split.
        energies: Of "validation" and of "test" images, (V,) and (T,); the larger, the stranger.
        distances: Likewise, as `distances` gives them.
        biased: Whether the last layer has a bias.
        facts: Run, checkpoint, data and so on, as JSON can hold it.
    """

    features: NDArray[np.float16]
    probabilities: NDArray[np.float32]
    labels: NDArray[np.int64]
    indices: NDArray[np.int64]
    energies: dict[str, NDArray[np.float32]]
    distances: dict[str, NDArray[np.float32]]
    biased: bool
    facts: dict[str, Any]

    @cached_property
    def directions(self) -> NDArray[np.float32]:
        """(N, D) features with length 1."""
        return unit(self.features.astype(np.float32))

    @cached_property
    def lengths(self) -> NDArray[np.float32]:
        """(N,) of the features."""
        return np.linalg.norm(self.features.astype(np.float32), axis=1)

    def strangeness(self, energies: NDArray[np.floating], distances: NDArray[np.floating]) -> NDArray[np.float64]:
        """The larger of the two ranks among the validation images, in [0, 1]; 1 is stranger than all of them."""
        ranks = [
            shares_below(self.energies["validation"], energies),
            shares_below(self.distances["validation"], distances),
        ]
        return np.maximum(*ranks)

    @cached_property
    def threshold(self) -> float:
        """The strangeness above which an image is called foreign, from the validation images alone.

        Chosen so that with `CONFIDENCE` at most `FALSE_ALARMS` of further images like them are above it. With fewer
        than some ninety validation images no threshold can promise that; it is then the strangest of them.
        """
        own = np.sort(self.strangeness(self.energies["validation"], self.distances["validation"]))
        return float(own[len(own) - 1 - allowed_alarms(len(own))])

    @property
    def promised(self) -> bool:
        """Whether there are validation images enough for the promise of `threshold`."""
        return allowed_alarms(len(self.energies["validation"]), fewest=-1) >= 0

    def foreign(self, energies: NDArray[np.floating], distances: NDArray[np.floating]) -> NDArray[np.bool_]:
        """Which images are unlike anything the network was trained on."""
        return self.strangeness(energies, distances) > self.threshold

    @cached_property
    def false_alarms(self) -> float:
        """Share of the test images that are called foreign."""
        return float(self.foreign(self.energies["test"], self.distances["test"]).mean())

    def nearest(self, feature: NDArray[np.floating], count: int) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
        """The training images whose features point most nearly where this one's (D,) do.

        Returns:
            (count,) rows of this table, the nearest first, and their cosines.
        """
        cosines = self.directions @ unit(feature.astype(np.float32))
        rows = np.argsort(-cosines, kind="stable")[:count]
        return rows, cosines[rows]

    def influence(
        self, feature: NDArray[np.floating], probabilities: NDArray[np.floating], wanted: int
    ) -> NDArray[np.float64]:
        """How much a step on each training image moves an image towards a class (TracIn; Pruthi et al., 2020).

        Of the last layer alone, at these weights, for plain gradient descent on the cross-entropy: the dot product of
        its gradients for the two images, which for a linear layer is (p - y)·(p' - y') (f·f' + 1), the 1 for the bias.

        Args:
            feature: (D,) of the image.
            probabilities: (K,) of the image.
            wanted: The class in [0, K).

        Returns:
            (N,) in units of loss per learning rate; above 0 pulled towards the class, below 0 away from it.
        """
        errors = self.probabilities.astype(np.float64)
        errors[np.arange(len(errors)), self.labels] -= 1
        error = probabilities.astype(np.float64).copy()
        error[wanted] -= 1
        alike = (self.directions @ feature.astype(np.float32)) * self.lengths
        return (errors @ error) * (alike + float(self.biased))

    def content(self) -> bytes:
        """What `load` reads, as an .npz file."""
        file = io.BytesIO()
        arrays: dict[str, Any] = {
            "features": self.features,
            "probabilities": self.probabilities,
            "labels": self.labels,
            "indices": self.indices,
            "biased": self.biased,
            "facts": json.dumps(self.facts),
        }
        arrays |= {f"energies_{split}": values for split, values in self.energies.items()}
        arrays |= {f"distances_{split}": values for split, values in self.distances.items()}
        np.savez(file, **arrays)
        return file.getvalue()

    @classmethod
    def load(cls, path: Path) -> Known:
        """Read what `content` gave.

        Raises:
            FamiliarityError: The file is missing or damaged.
        """
        try:
            with np.load(path, allow_pickle=False) as file:
                names = ("features", "probabilities", "labels", "indices")
                return cls(
                    **{name: file[name] for name in names},
                    energies={split: file[f"energies_{split}"] for split in ("validation", "test")},
                    distances={split: file[f"distances_{split}"] for split in ("validation", "test")},
                    biased=bool(file["biased"]),
                    facts=json.loads(str(file["facts"])),
                )
        # Damage shows itself in any way, from zlib.error to KeyError.
        except Exception:
            raise FamiliarityError(f"{path.name} is missing or damaged; compute it again.") from None


def energy(logits: NDArray[np.floating]) -> NDArray[np.float32]:
    """The energy of logits (M, K): minus the log of the sum of their exponentials (Liu et al., 2020, equation 4)."""
    top = logits.max(axis=1, keepdims=True)
    return -(np.log(np.exp(logits - top).sum(axis=1)) + top[:, 0]).astype(np.float32)


def distances(
    directions: NDArray[np.float32], features: NDArray[np.floating], neighbours: int = NEIGHBOURS
) -> Iterator[NDArray[np.float32]]:
    """How far images are from their k-th nearest training image, both on the unit sphere (Sun et al., 2022).

    Args:
        directions: (N, D) of the training images, of length 1; with fewer than k of them the last one counts.
        features: (M, D).

    Yields:
        (m,) for `ROWS_AT_ONCE` images after another, in [0, 2].
    """
    place = min(neighbours, len(directions)) - 1
    for start in range(0, len(features), ROWS_AT_ONCE):
        cosines = unit(features[start : start + ROWS_AT_ONCE].astype(np.float32)) @ directions.T
        nearest = np.partition(-cosines, place, axis=1)[:, place]
        yield np.sqrt(np.clip(2 + 2 * nearest, 0, 4)).astype(np.float32)


def unit(vectors: NDArray[np.float32]) -> NDArray[np.float32]:
    """Vectors (..., D) with length 1; those without a direction stay 0."""
    length = np.linalg.norm(vectors, axis=-1, keepdims=True)
    return np.divide(vectors, length, out=np.zeros_like(vectors), where=length > 0)


def shares_below(known: NDArray[np.floating], values: NDArray[np.floating]) -> NDArray[np.float64]:
    """(M,) share of the known values (N,) that are below each of the values (M,)."""
    return np.searchsorted(np.sort(known), values, side="left") / max(len(known), 1)


def allowed_alarms(images: int, fewest: int = 0) -> int:
    """How many of so many validation images may lie above a threshold that keeps its promise on others.

    The share of further images above the (m + 1)-th largest of n is distributed as Beta(m + 1, n - m) (Wilks, 1941).

    Returns:
        The most that do; `fewest` where even none would promise too much.
    """
    from scipy.stats import beta

    counts = np.arange(int(images * FALSE_ALARMS) + 1)
    kept = beta.ppf(CONFIDENCE, counts + 1, images - counts) <= FALSE_ALARMS
    return int(counts[kept].max()) if kept.any() else fewest


def pulled_most(influence: NDArray[np.floating], count: int) -> tuple[Sequence[int], Sequence[int]]:
    """Rows of the training images that pulled towards a class and away from it, the strongest first."""
    order = np.argsort(influence, kind="stable")
    away = [int(row) for row in order[:count] if influence[row] < 0]
    towards = [int(row) for row in order[::-1][:count] if influence[row] > 0]
    return towards, away
