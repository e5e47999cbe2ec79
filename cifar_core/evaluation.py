"""What a model says about every image of a split, kept once; everything else is derived from it."""

from __future__ import annotations

import io
import json
import math
import os
import uuid
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

FORMAT_VERSION = 1
SUM_TOLERANCE = 1e-3
"""How far the probabilities of an image may be from 1 together; a softmax in float16 is off by about this much."""


class EvaluationError(ValueError):
    """A saved evaluation cannot be read."""


@dataclass(frozen=True, eq=False)
class Evaluation:
    """Labels and predicted probabilities of a split.

    Args:
        labels: (N,) int64 in [0, K).
        probabilities: (N, K) float32 in [0, 1], each row with sum 1.
        classes: The K names.
        facts: What was evaluated (run, checkpoint, data and so on), as JSON can hold it.
        nats: (N,) float32 cross-entropy, from the logits; without it, it comes from the probabilities, of which one
            below 1e-38 is 0.

    Raises:
        ValueError: The values do not fit together; the message names the first that does not.
    """

    labels: NDArray[np.int64]
    probabilities: NDArray[np.float32]
    classes: tuple[str, ...]
    facts: dict[str, Any] = field(default_factory=dict)
    nats: NDArray[np.float32] | None = None

    def __post_init__(self) -> None:
        labels, probabilities = np.asarray(self.labels), np.asarray(self.probabilities)
        object.__setattr__(self, "classes", tuple(self.classes))
        _check(labels, probabilities, self.classes)
        _check_facts(self.facts)
        # Own read-only copies: the derived values below are computed once and must stay true.
        own: list[tuple[str, NDArray[Any], Any]] = [
            ("labels", labels, np.int64),
            ("probabilities", probabilities, np.float32),
        ]
        if self.nats is not None:
            nats = np.asarray(self.nats)
            if nats.shape != labels.shape or not (np.isfinite(nats) & (nats >= 0)).all():
                raise ValueError(f"nats must be ({len(labels)},) finite numbers of at least 0.")
            own.append(("nats", nats, np.float32))
        for name, values, kind in own:
            copy = values.astype(kind)
            copy.flags.writeable = False
            object.__setattr__(self, name, copy)

    @classmethod
    def of_logits(
        cls, labels: NDArray[np.int64], logits: NDArray[Any], classes: Sequence[str], facts: dict[str, Any]
    ) -> Evaluation:
        """From the (N, K) logits of the images."""
        return cls(labels, softmax(logits), tuple(classes), facts, cross_entropy(logits, labels).astype(np.float32))

    def __len__(self) -> int:
        return len(self.labels)

    @cached_property
    def predictions(self) -> NDArray[np.int64]:
        """(N,) the most probable class; the first of several."""
        return self.probabilities.argmax(axis=1).astype(np.int64)

    @cached_property
    def confidences(self) -> NDArray[np.float32]:
        """(N,) the probability of the predicted class."""
        return self.probabilities.max(axis=1)

    @cached_property
    def losses(self) -> NDArray[np.float64]:
        """(N,) cross-entropy in nats; from probabilities, one of 0 counts as the smallest normal float32."""
        if self.nats is not None:
            return self.nats.astype(np.float64)
        true = self.probabilities[np.arange(len(self)), self.labels].astype(np.float64)
        return -np.log(np.clip(true, float(np.finfo(np.float32).tiny), 1))

    @cached_property
    def correct(self) -> NDArray[np.bool_]:
        """(N,) whether the prediction is the label."""
        return self.predictions == self.labels

    @property
    def accuracy(self) -> float:
        """Share of the images that are predicted correctly."""
        return float(self.correct.mean())

    @property
    def loss(self) -> float:
        """Mean cross-entropy in nats."""
        return float(self.losses.mean())

    def accuracy_interval(self) -> tuple[float, float]:
        """The 95 % confidence interval of the accuracy (Wilson, 1927), if the images were drawn independently."""
        images, share, z = len(self), self.accuracy, 1.959963984540054
        middle = (share + z**2 / (2 * images)) / (1 + z**2 / images)
        reach = z / (1 + z**2 / images) * math.sqrt(share * (1 - share) / images + z**2 / (4 * images**2))
        return max(0.0, middle - reach), min(1.0, middle + reach)

    def bootstrap(self, resamples: int = 2000, seed: int = 0) -> pd.DataFrame:
        """The 95 % percentile intervals of the bootstrap (Efron, 1979): the figures of samples of as many images, drawn
        from these with replacement.

        Figures that follow from the confusion matrix need no drawing of images: the cells of a sample are multinomial.

        Args:
            resamples: How many samples are drawn; of many classes fewer, as each is a whole matrix.

        Returns:
            One row per figure, `low` and `high`: accuracy, and macro and weighted precision, recall and f1, named such
            as `macro f1`.
        """
        count, images = len(self.classes), len(self)
        samples = min(resamples, max(20_000_000 // count**2, 100))
        random = np.random.default_rng(seed)
        cells = random.multinomial(images, self.confusion().ravel() / images, samples).reshape(samples, count, count)
        hits, of_class, predicted = cells.diagonal(axis1=1, axis2=2), cells.sum(axis=2), cells.sum(axis=1)
        figures = {"accuracy": hits.sum(axis=1) / images}
        seen = (of_class + predicted) > 0
        for name, part, whole in (
            ("precision", hits, predicted),
            ("recall", hits, of_class),
            ("f1", 2 * hits, of_class + predicted),
        ):
            each = np.divide(part, whole, out=np.zeros(part.shape), where=whole > 0)
            figures[f"macro {name}"] = (each * seen).sum(axis=1) / seen.sum(axis=1)
            figures[f"weighted {name}"] = (each * of_class).sum(axis=1) / images
        ends = {name: np.quantile(values, [0.025, 0.975]) for name, values in figures.items()}
        return pd.DataFrame.from_dict(ends, orient="index", columns=["low", "high"])

    def confusion(self) -> NDArray[np.int64]:
        """(K, K) number of images by true class (row) and predicted class (column)."""
        count = len(self.classes)
        cells = np.bincount(self.labels * count + self.predictions, minlength=count**2)
        return cells.reshape(count, count).astype(np.int64)

    def confusion_shares(self) -> NDArray[np.float64]:
        """(K, K) share of the images of a class (row) that is predicted as another; NaN in a row without images."""
        counts = self.confusion()
        images = counts.sum(axis=1, keepdims=True)
        return np.divide(counts, images, out=np.full(counts.shape, np.nan), where=images > 0)

    def report(self) -> pd.DataFrame:
        """Precision, recall, F1 and number of images of each class.

        Returns:
            One row per class, named by it, in the order of the classes. A ratio with nothing to divide by is 0, as in
            scikit-learn with zero_division=0.
        """
        counts = self.confusion()
        hits, images, predicted = np.diag(counts), counts.sum(axis=1), counts.sum(axis=0)
        return pd.DataFrame(
            {
                "precision": _ratio(hits, predicted),
                "recall": _ratio(hits, images),
                "f1": _ratio(2 * hits, images + predicted),
                "images": images,
            },
            index=pd.Index(self.classes, name="class"),
        )

    def macro(self) -> dict[str, float]:
        """Mean precision, recall and F1 over the classes that have images or are predicted, each with equal weight."""
        report = self.report()
        seen = (self.confusion().sum(axis=0) + self.confusion().sum(axis=1)) > 0
        return {name: float(report.loc[seen, name].mean()) for name in ("precision", "recall", "f1")}

    def weighted(self) -> dict[str, float]:
        """Mean precision, recall and F1 over the classes, each weighted by its images."""
        report = self.report()
        return {
            name: float((report[name] * report["images"]).sum() / len(self)) for name in ("precision", "recall", "f1")
        }

    @cached_property
    def margins(self) -> NDArray[np.float32]:
        """(N,) how far the probability of the own class is above that of the strongest other one; negative in
        [-1, 0] where another one is predicted."""
        rows = np.arange(len(self))
        others = self.probabilities.copy()
        own = others[rows, self.labels]
        others[rows, self.labels] = -1
        return own - others.max(axis=1)

    def top_k(self, k: int) -> float:
        """Share of the images whose class is among the k most probable; of equal ones the first come first.

        Raises:
            ValueError: k is not in [1, K].
        """
        if not 1 <= k <= len(self.classes):
            raise ValueError(f"k must be from 1 to {len(self.classes)}, the number of classes, but is {k}.")
        order = np.argsort(-self.probabilities, axis=1, kind="stable")[:, :k]
        return float((order == self.labels[:, None]).any(axis=1).mean())

    def mistakes(self, limit: int | None = None) -> pd.DataFrame:
        """The wrongly predicted images, worst loss first.

        Returns:
            index (of the image in the split), true, predicted (names), probability_true, probability_predicted, loss.
        """
        wrong = np.flatnonzero(~self.correct)
        wrong = wrong[np.argsort(-self.losses[wrong], kind="stable")][:limit]
        return pd.DataFrame(
            {
                "index": wrong,
                "true": self._names(self.labels[wrong]),
                "predicted": self._names(self.predictions[wrong]),
                "probability_true": self.probabilities[wrong, self.labels[wrong]],
                "probability_predicted": self.confidences[wrong],
                "loss": self.losses[wrong],
            }
        )

    def cell(self, true: int, predicted: int) -> NDArray[np.int64]:
        """Indices of the images in a cell of the confusion matrix, the surest prediction first.

        Raises:
            ValueError: A class is not in [0, K).
        """
        for name, place in (("true", true), ("predicted", predicted)):
            if not 0 <= place < len(self.classes):
                raise ValueError(f"{name} must be a class from 0 to {len(self.classes) - 1}, but is {place}.")
        images = np.flatnonzero((self.labels == true) & (self.predictions == predicted))
        return images[np.argsort(-self.confidences[images], kind="stable")].astype(np.int64)

    def most_confused(self, limit: int | None = None) -> pd.DataFrame:
        """The pairs of classes that are mistaken, most images first.

        Returns:
            true, predicted (names), images, share_of_true (of the images of the true class); no pair without images.
        """
        counts = self.confusion()
        shares = self.confusion_shares()
        np.fill_diagonal(counts, 0)
        rows, columns = np.nonzero(counts)
        order = np.lexsort((-shares[rows, columns], -counts[rows, columns]))[:limit]
        rows, columns = rows[order], columns[order]
        return pd.DataFrame(
            {
                "true": self._names(rows),
                "predicted": self._names(columns),
                "images": counts[rows, columns],
                "share_of_true": shares[rows, columns],
            }
        )

    def some(self, places: NDArray[np.int64]) -> Evaluation:
        """The same of some of the images."""
        facts = {**self.facts, "selected_of": len(self)}
        nats = None if self.nats is None else self.nats[places]
        return Evaluation(self.labels[places], self.probabilities[places], self.classes, facts, nats)

    def scope(self) -> str:
        """How much of its split this is: all of it, the images of the classes that the network tells apart, or some."""
        images, count = len(self), len(self.classes)
        if of := self.facts.get("selected_of"):
            return f"the {images:,} selected of {of:,} images"
        whole = self.facts.get("split_images", images)
        if images == whole:
            return f"all {images:,} images of {count} classes"
        listed = f" ({', '.join(self.classes)})" if count <= 5 else ""
        return f"{images:,} of {whole:,} images, those of the {count} classes it tells apart{listed}"

    def summary(self) -> dict[str, Any]:
        """Everything that fits on a page, as JSON can hold it."""
        low, high = self.accuracy_interval()
        report = self.report()
        return {
            "facts": self.facts,
            "images": len(self),
            "classes": list(self.classes),
            "accuracy": self.accuracy,
            "accuracy_interval": [low, high],
            "loss": self.loss,
            "macro": self.macro(),
            "per_class": [
                {"class": name, "precision": precision, "recall": recall, "f1": f1, "images": images}
                for name, precision, recall, f1, images in zip(
                    self.classes, *(report[column].tolist() for column in report), strict=True
                )
            ],
            "confusion": self.confusion().tolist(),
        }

    def save(self, path: Path) -> None:
        """Write to an .npz file, whole or not at all.

        Raises:
            OSError: The file cannot be written, e.g. because the disk is full; what was there before is still there.
        """
        about = {"format_version": FORMAT_VERSION, "classes": self.classes, "facts": self.facts}
        content = io.BytesIO()
        arrays: dict[str, Any] = {
            "labels": self.labels,
            "probabilities": self.probabilities,
            "about": np.frombuffer(json.dumps(about).encode(), dtype=np.uint8),
        }
        if self.nats is not None:
            arrays["nats"] = self.nats
        np.savez_compressed(content, **arrays)
        aside = path.with_name(f".{path.name}.{uuid.uuid4().hex}")
        try:
            with aside.open("xb") as file:
                file.write(content.getbuffer())
                file.flush()
                os.fsync(file.fileno())
            aside.replace(path)
        finally:
            aside.unlink(missing_ok=True)

    @classmethod
    def load(cls, path: Path) -> Evaluation:
        """Read what `save` wrote.

        Raises:
            FileNotFoundError: There is no such file.
            PermissionError: The file may not be read.
            EvaluationError: The file is damaged, of another version or no evaluation at all.
        """
        again = "Evaluate the model again"
        try:
            with np.load(path, allow_pickle=False) as file:
                about = json.loads(file["about"].tobytes().decode())
                version = about["format_version"]
                if version != FORMAT_VERSION:
                    raise EvaluationError(
                        f"{path} has format version {version}; this program reads version {FORMAT_VERSION}. {again}."
                    )
                nats = file.get("nats")
                return cls(file["labels"], file["probabilities"], tuple(about["classes"]), about["facts"], nats)
        except (FileNotFoundError, PermissionError, EvaluationError):
            raise
        # Damage shows itself in any way, from zlib.error to MemoryError for a shape that was never written.
        except Exception as error:
            raise EvaluationError(f"{path} is damaged or not an evaluation ({_brief(error)}). {again}.") from error

    def _names(self, places: NDArray[np.int64]) -> list[str]:
        return [self.classes[place] for place in places]


def clustered(confusion: NDArray[np.int64]) -> NDArray[np.int64]:
    """An order of the classes in which those that are mistaken for each other stand together.

    By the second eigenvector of the Laplacian of the confusions (Fiedler, 1973), which puts classes on a line such that
    the squared distances of confused ones are least. The end with the first class comes first.

    Args:
        confusion: (K, K).

    Returns:
        (K,) numbers of the classes.
    """
    shares = confusion / np.maximum(confusion.sum(axis=1, keepdims=True), 1)
    alike = shares + shares.T
    np.fill_diagonal(alike, 0)
    # A little of everything, so that classes without a mistake hang together too.
    alike += 1e-6
    scale = 1 / np.sqrt(alike.sum(axis=1))
    vectors = np.linalg.eigh(np.eye(len(alike)) - scale[:, None] * alike * scale)[1]
    place = vectors[:, 1] * scale
    order = np.argsort(place.round(9), kind="stable")
    return order if np.flatnonzero(order == 0)[0] * 2 < len(order) else order[::-1].copy()


def _check(labels: NDArray[Any], probabilities: NDArray[Any], classes: tuple[str, ...]) -> None:
    if len(classes) < 2:
        raise ValueError(f"There must be at least two classes, but there is {len(classes)}.")
    if len(set(classes)) != len(classes):
        raise ValueError("Every class must have its own name.")
    if labels.ndim != 1 or not np.issubdtype(labels.dtype, np.integer):
        raise ValueError(f"labels must be (N,) integers, but are {labels.shape} {labels.dtype}.")
    if not len(labels):
        raise ValueError("There must be at least one image.")
    if probabilities.shape != (len(labels), len(classes)):
        raise ValueError(
            f"probabilities must be ({len(labels)}, {len(classes)}), for {len(labels)} labels and {len(classes)} "
            f"classes, but are {probabilities.shape}."
        )
    outside = np.flatnonzero((labels < 0) | (labels >= len(classes)))
    if len(outside):
        raise ValueError(
            f"labels must be from 0 to {len(classes) - 1}, but that of image {outside[0]} is {labels[outside[0]]}."
        )
    if not np.issubdtype(probabilities.dtype, np.floating):
        raise ValueError(f"probabilities must be floating-point numbers, but are {probabilities.dtype}.")
    infinite = np.flatnonzero(~np.isfinite(probabilities).all(axis=1))
    if len(infinite):
        raise ValueError(f"probabilities must be finite, but those of image {infinite[0]} are not.")
    impossible = np.flatnonzero(((probabilities < 0) | (probabilities > 1 + SUM_TOLERANCE)).any(axis=1))
    if len(impossible):
        raise ValueError(f"probabilities must be from 0 to 1, but those of image {impossible[0]} are not.")
    sums = probabilities.sum(axis=1, dtype=np.float64)
    uneven = np.flatnonzero(abs(sums - 1) > SUM_TOLERANCE)
    if len(uneven):
        raise ValueError(
            f"The probabilities of an image must have the sum 1, but those of image {uneven[0]} have "
            f"{sums[uneven[0]]:.4g}."
        )


def _check_facts(facts: Mapping[str, Any]) -> None:
    try:
        json.dumps(facts, allow_nan=False)
    except (TypeError, ValueError) as error:
        raise ValueError(f"facts must be what JSON can hold: {error}.") from None


def _ratio(part: NDArray[np.int64], whole: NDArray[np.int64]) -> NDArray[np.float64]:
    return np.divide(part, whole, out=np.zeros(len(part)), where=whole > 0)


def _brief(error: Exception) -> str:
    return str(error).splitlines()[0].rstrip(".") if str(error) else type(error).__name__


def softmax(values: NDArray[Any], temperature: float = 1.0) -> NDArray[np.float32]:
    """(..., C) probabilities of logits, each divided by a temperature first."""
    scaled = values.astype(np.float32) / np.float32(temperature)
    powers = np.exp(scaled - scaled.max(axis=-1, keepdims=True))
    return powers / powers.sum(axis=-1, keepdims=True)


def cross_entropy(logits: NDArray[Any], labels: NDArray[np.int64]) -> NDArray[np.float64]:
    """(..., N) cross-entropy in nats of (..., N, K) logits, exact where the probability itself is too small to hold."""
    values = logits.astype(np.float64)
    values -= values.max(axis=-1, keepdims=True)
    own = np.take_along_axis(values, np.broadcast_to(labels[:, None], (*values.shape[:-1], 1)), axis=-1)[..., 0]
    # A tiny bit below 0 is rounding.
    return np.maximum(np.log(np.exp(values).sum(axis=-1)) - own, 0.0)
