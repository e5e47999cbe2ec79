"""How a model does on images that were spoilt or changed to mislead it, kept once; without torch."""

from __future__ import annotations

import io
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from cifar_core.runs import write_whole

MISSING = -1
"""In place of a prediction that has not been made."""


class RobustnessError(ValueError):
    """A kept result cannot be read, or two do not compare."""


@dataclass(frozen=True, eq=False)
class Robustness:
    """Predictions of one model for the same images, untouched and under a grid of conditions.

    Args:
        indices: (N,) int64 of the images in the test split of the model's classes, ascending.
        labels: (N,) int64 in [0, K).
        clean: (N,) int16, predictions of the untouched images.
        predictions: (R, C, N) int16: row R, e.g. a corruption or an attack, column C, e.g. a severity or an epsilon;
            `MISSING` where it was not computed yet.
        rows: The R names.
        columns: The C values, ascending.
        classes: The K names.
        facts: Run, checkpoint, epoch, data, split, as an evaluation's.
    """

    indices: NDArray[np.int64]
    labels: NDArray[np.int64]
    clean: NDArray[np.int16]
    predictions: NDArray[np.int16]
    rows: tuple[str, ...]
    columns: tuple[float, ...]
    classes: tuple[str, ...]
    facts: dict[str, Any]

    def __len__(self) -> int:
        return len(self.labels)

    @property
    def done(self) -> NDArray[np.bool_]:
        """(R, C) whether all images were predicted there."""
        return (self.predictions != MISSING).all(axis=2)

    @property
    def finished(self) -> bool:
        return bool(self.done.all())

    @property
    def clean_accuracy(self) -> float:
        return float((self.clean == self.labels).mean())

    def accuracy(self) -> pd.DataFrame:
        """Share of the images told right: a row each, a column each; NaN where it was not computed."""
        shares = (self.predictions == self.labels).mean(axis=2)
        table = pd.DataFrame(np.where(self.done, shares, np.nan), index=list(self.rows), columns=list(self.columns))
        table.index.name = "condition"
        return table

    def mean_accuracy(self) -> float:
        """Over all rows and columns; NaN until all are there."""
        return float(self.accuracy().to_numpy().mean())

    def save(self, path: Path) -> None:
        """Write to an .npz file, whole or not at all.

        Raises:
            OSError: The file cannot be written.
        """
        about = {"rows": self.rows, "columns": self.columns, "classes": self.classes, "facts": self.facts}
        content = io.BytesIO()
        np.savez_compressed(
            content,
            indices=self.indices,
            labels=self.labels,
            clean=self.clean,
            predictions=self.predictions,
            about=np.array(json.dumps(about)),
        )
        write_whole(path, content.getvalue())

    @classmethod
    def load(cls, path: Path) -> Robustness:
        """Read what `save` wrote.

        Raises:
            FileNotFoundError: There is no such file.
            RobustnessError: The file is damaged.
        """
        try:
            with np.load(path, allow_pickle=False) as file:
                about = json.loads(str(file["about"]))
                arrays = {name: file[name] for name in ("indices", "labels", "clean", "predictions")}
            kept = {name: tuple(about[name]) for name in ("rows", "columns", "classes")}
            result = cls(**arrays, **kept, facts=about["facts"])  # type: ignore[arg-type]
            if result.predictions.shape != (len(result.rows), len(result.columns), len(result)):
                raise ValueError("its parts do not fit together")
            return result
        except FileNotFoundError:
            raise
        # Damage shows itself in any way, from zlib.error to KeyError.
        except Exception as error:
            raise RobustnessError(f"The results in {path} are damaged ({error}); measure again.") from None


def corruption_errors(model: Robustness, reference: Robustness) -> pd.DataFrame:
    """The corruption error of a model relative to a reference (Hendrycks and Dietterich, 2019, section 4).

    Their reference is AlexNet; here it is any run. The errors of all severities of a corruption are added up and
    divided by the reference's; the relative one subtracts the error on untouched images from each first, so that it
    tells how much is lost rather than how much is left.

    Returns:
        A row each corruption: error, reference_error (means over the severities), ce, relative_ce (1 is the
        reference). NaN where the reference makes no error, or loses nothing.

    Raises:
        RobustnessError: They were not measured on the same images and conditions.
    """
    same = (
        model.facts.get("fingerprint") == reference.facts.get("fingerprint")
        and model.classes == reference.classes
        and (model.rows, model.columns) == (reference.rows, reference.columns)
        and np.array_equal(model.indices, reference.indices)
    )
    if not same:
        raise RobustnessError("The two runs were measured on different images, so their errors do not compare.")
    ours, theirs = (1 - result.accuracy().to_numpy() for result in (model, reference))
    lost, theirs_lost = ours - (1 - model.clean_accuracy), theirs - (1 - reference.clean_accuracy)
    with np.errstate(divide="ignore", invalid="ignore"):
        ce = ours.sum(axis=1) / theirs.sum(axis=1)
        relative = lost.sum(axis=1) / theirs_lost.sum(axis=1)
    relative[theirs_lost.sum(axis=1) <= 0] = np.nan
    ce[theirs.sum(axis=1) == 0] = np.nan
    return pd.DataFrame(
        {"error": ours.mean(axis=1), "reference_error": theirs.mean(axis=1), "ce": ce, "relative_ce": relative},
        index=pd.Index(model.rows, name="corruption"),
    )
