"""What a network says of images that are flipped or shifted a little, which changes nothing of what is on them."""

from __future__ import annotations

import io
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cifar_core.evaluation import EvaluationError, softmax
from cifar_core.runs import write_whole

PIXELS = 2
"""Of a shift; what moves in at the edge is a reflection, as nothing is known of it."""

VIEWS = {
    "as it is": (False, 0, 0),
    "flipped": (True, 0, 0),
    "left": (False, 0, -PIXELS),
    "right": (False, 0, PIXELS),
    "up": (False, -PIXELS, 0),
    "down": (False, PIXELS, 0),
}
"""Ways to look at an image: whether it is flipped, and how far it is moved down and to the right."""


def view(images: NDArray[np.uint8], name: str) -> NDArray[np.uint8]:
    """Images looked at in one of `VIEWS`.

    Args:
        images: (B, C, H, W).
    """
    flipped, down, right = VIEWS[name]
    turned = images[..., ::-1] if flipped else images
    height, width = images.shape[-2:]
    padded = np.pad(turned, ((0, 0), (0, 0), (PIXELS, PIXELS), (PIXELS, PIXELS)), "reflect")
    top, left = PIXELS - down, PIXELS - right
    return np.ascontiguousarray(padded[..., top : top + height, left : left + width])


@dataclass(frozen=True, eq=False)
class Views:
    """What was said of the same images in every view.

    Args:
        labels: (N,) int64 in [0, K).
        logits: (V, N, K) float16, in the order of `VIEWS`.
        classes: The K names.
        facts: What was looked at, as JSON can hold it.
    """

    labels: NDArray[np.int64]
    logits: NDArray[np.float16]
    classes: tuple[str, ...]
    facts: dict[str, Any]

    def probabilities(self, *names: str) -> NDArray[np.float32]:
        """(N, K) mean over some views, by default all of them."""
        chosen = [list(VIEWS).index(name) for name in names or VIEWS]
        return softmax(self.logits[chosen]).mean(axis=0)

    def correct(self, *names: str) -> NDArray[np.bool_]:
        """(N,) whether the mean probability over some views (by default all) is greatest for the label."""
        return self.probabilities(*names).argmax(axis=1) == self.labels

    def some(self, places: NDArray[np.int64]) -> Views:
        """The same of some of the images."""
        return Views(self.labels[places], self.logits[:, places], self.classes, self.facts)

    def each(self) -> NDArray[np.bool_]:
        """(V, N) whether each view alone is predicted correctly."""
        return self.logits.argmax(axis=2) == self.labels

    def save(self, path: Path) -> None:
        """Write to an .npz file, whole or not at all.

        Raises:
            OSError: The file cannot be written.
        """
        about = json.dumps({"classes": self.classes, "facts": self.facts}).encode()
        content = io.BytesIO()
        np.savez_compressed(content, labels=self.labels, logits=self.logits, about=np.frombuffer(about, dtype=np.uint8))
        write_whole(path, content.getvalue())

    @classmethod
    def load(cls, path: Path) -> Views:
        """Read what `save` wrote.

        Raises:
            EvaluationError: The file is missing or damaged.
        """
        try:
            with np.load(path, allow_pickle=False) as file:
                about = json.loads(file["about"].tobytes().decode())
                found = cls(file["labels"], file["logits"], tuple(about["classes"]), about["facts"])
            if found.logits.shape != (len(VIEWS), len(found.labels), len(found.classes)):
                raise ValueError("its shape does not fit")
        # Damage shows itself in any way.
        except Exception as error:
            raise EvaluationError(f"{path} is damaged ({type(error).__name__}). Look at the images again.") from error
        return found
