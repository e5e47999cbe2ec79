"""How a new image compares with those a network was trained on: near which, and which of them shaped its answer."""

from __future__ import annotations

import io
import json
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

MOST_VALUES = 30_000_000
"""Features of training images that are kept; of networks with very many of them, fewer images."""


class FamiliarityError(ValueError):
    """A file of what a network knows cannot be read."""


@dataclass(frozen=True, eq=False)
class Known:
    """What a network makes of the images it was trained on.

    Args:
        features: (N, D) float16, what the last layer sees of each training image.
        probabilities: (N, K) float32 of the training images.
        labels: (N,) int64 in [0, K) of the training images.
        indices: (N,) int64, their places in the training split.
        biased: Whether the last layer has a bias.
        facts: Run, checkpoint, data and so on, as JSON can hold it.
    """

    features: NDArray[np.float16]
    probabilities: NDArray[np.float32]
    labels: NDArray[np.int64]
    indices: NDArray[np.int64]
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
                    biased=bool(file["biased"]),
                    facts=json.loads(str(file["facts"])),
                )
        # Damage shows itself in any way, from zlib.error to KeyError.
        except Exception:
            raise FamiliarityError(f"{path.name} is missing or damaged; compute it again.") from None


def unit(vectors: NDArray[np.float32]) -> NDArray[np.float32]:
    """Vectors (..., D) with length 1; those without a direction stay 0."""
    length = np.linalg.norm(vectors, axis=-1, keepdims=True)
    return np.divide(vectors, length, out=np.zeros_like(vectors), where=length > 0)


def pulled_most(influence: NDArray[np.floating], count: int) -> tuple[Sequence[int], Sequence[int]]:
    """Rows of the training images that pulled towards a class and away from it, the strongest first."""
    order = np.argsort(influence, kind="stable")
    away = [int(row) for row in order[:count] if influence[row] < 0]
    towards = [int(row) for row in order[::-1][:count] if influence[row] > 0]
    return towards, away
