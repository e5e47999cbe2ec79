"""The epochs of a run as one thing to slide through: a component that holds all of them and draws each by itself.

What changes with the epoch is computed once for all epochs and sent to the browser once. A step is then a matter of
some milliseconds there, however busy the server is; only the images of a chosen cell are asked for.
"""

from __future__ import annotations

import base64
import io
import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import streamlit as st
from numpy.typing import NDArray
from PIL import Image

from cifar_core.evaluation import softmax
from cifar_core.logits import Logits
from cifar_core.timeline import Timeline

SAMPLE = 24
"""Pictures of images that are the same at each epoch."""

MOST_CLASSES = 40
COLUMNS = 32
"""Pictures in a row of the one that holds all."""

_HERE = Path(__file__)

_mount = st.components.v2.component(
    "time_machine",
    html='<div class="machine"></div>\n<!-- Filled by the script. -->',
    css=_HERE.with_suffix(".css").read_text(),
    js=_HERE.with_suffix(".js").read_text(),
)


def slide(story: str, epoch: int, key: str) -> tuple[int, tuple[str, str] | None]:
    """Show the epochs, and what is looked at.

    Args:
        story: Of `told`.
        epoch: Where to begin.

    Returns:
        The epoch at which the slider rests, and the cell chosen last, true and predicted class.
    """
    result = _mount(
        key=key,
        data={"story": story, "epoch": epoch},
        default={"epoch": epoch, "cell": None},
        on_epoch_change=_nothing,
        on_cell_change=_nothing,
    )
    cell = result.cell
    return int(result.epoch), (str(cell[0]), str(cell[1])) if cell else None


def _nothing() -> None:
    """Without a callback the component has no such state."""


def told(
    logits: Logits,
    figures: Timeline,
    images: NDArray[np.uint8] | None,
    numbers: NDArray[np.int64],
    identity: str,
    noun: str,
    scope: str,
) -> str:
    """All that the component draws, as JSON.

    Args:
        images: (N, 3, 32, 32), in the order of the logits; None where they are not here.
        numbers: (N,) under which each image is known.
        identity: Of what is shown; with another one it begins anew.
        noun: What one of the images is called.
        scope: Which images these are, in words.
    """
    names = logits.images.classes
    shown = _most_mistaken(figures.confusion[-1])
    sample = sampled(logits.images.labels, len(names))
    used = np.unique(np.concatenate([figures.worst[figures.worst >= 0], sample]))
    place_of = {int(image): place for place, image in enumerate(used)}
    sure = np.stack([softmax(values[sample]).max(axis=1) for values in logits.values])
    story: dict[str, Any] = {
        "id": identity,
        "scope": scope,
        "noun": noun.capitalize(),
        "epochs": figures.epochs.tolist(),
        "classes": [names[k] for k in shown],
        "classNames": names,
        "accuracy": logits.correct.mean(axis=1).round(5).tolist(),
        "loss": figures.loss.round(6).tolist(),
        "ece": figures.ece.round(5).tolist(),
        "images": figures.confusion[0].sum(axis=1)[shown].tolist(),
        "confusion": figures.confusion[:, shown][:, :, shown].tolist(),
        "report": _report(figures.confusion)[:, shown].round(6).tolist(),
        "bins": [[[_number(value) for value in bin] for bin in bins] for bins in figures.bins.tolist()],
        "sprite": _sprite(images[used]) if images is not None else "",
        "columns": COLUMNS,
        "numbers": numbers[used].tolist(),
        "worst": [
            [
                [place_of.get(image, -1), int(logits.images.labels[image]), said, round(own, 6), round(other, 6)]
                for image, said, own, other in zip(*epoch, strict=True)
            ]
            for epoch in zip(
                figures.worst.tolist(),
                figures.worst_predicted.tolist(),
                figures.worst_true.tolist(),
                figures.worst_confidence.tolist(),
                strict=True,
            )
        ],
        "sample": [
            [
                place_of[int(image)],
                int(logits.images.labels[image]),
                logits.predictions[:, image].tolist(),
                sure[:, k].round(6).tolist(),
            ]
            for k, image in enumerate(sample)
        ],
    }
    return json.dumps(story, separators=(",", ":"))


def sampled(labels: NDArray[np.int64], classes: int) -> NDArray[np.int64]:
    """Places of a few images, of each class the first ones, class by class."""
    each = max(SAMPLE // classes, 1)
    return np.concatenate([np.flatnonzero(labels == k)[:each] for k in range(classes)])[: 2 * SAMPLE]


def _most_mistaken(confusion: NDArray[np.int64]) -> NDArray[np.int64]:
    mistakes = confusion.copy()
    np.fill_diagonal(mistakes, 0)
    return np.sort(np.argsort(-(mistakes.sum(axis=0) + mistakes.sum(axis=1)), kind="stable")[:MOST_CLASSES])


def _report(confusion: NDArray[np.int64]) -> NDArray[np.float64]:
    """(E, K, 3) precision, recall and F1; 0 where there is nothing to divide by."""
    hits = confusion.diagonal(axis1=1, axis2=2)
    predicted, of_class = confusion.sum(axis=1), confusion.sum(axis=2)
    pairs = ((hits, predicted), (hits, of_class), (2 * hits, predicted + of_class))
    return np.stack([part / np.maximum(whole, 1) for part, whole in pairs], axis=2)


def _number(value: float) -> float | None:
    return None if math.isnan(value) else round(value, 4)


def _sprite(images: NDArray[np.uint8]) -> str:
    """(S, 3, 32, 32) side by side as a data URI; JPEG with all of its colours, a third of what PNG takes."""
    rows = -(-len(images) // COLUMNS)
    sheet = np.zeros((rows * COLUMNS, 3, 32, 32), np.uint8)
    sheet[: len(images)] = images
    pixels = sheet.reshape(rows, COLUMNS, 3, 32, 32).transpose(0, 3, 1, 4, 2).reshape(rows * 32, COLUMNS * 32, 3)
    content = io.BytesIO()
    Image.fromarray(pixels).save(content, "JPEG", quality=92, subsampling=0)
    return "data:image/jpeg;base64," + base64.b64encode(content.getvalue()).decode()
