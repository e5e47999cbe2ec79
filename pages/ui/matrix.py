"""The clickable confusion matrix and the chart of its classes; tables in, figures out, without Streamlit.

A cell that is clicked travels to the page as the point selection `cell`. What the page shows at that moment (`now`)
travels with it, so that a second click on the same cell is another event than the first and can take it back.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from cifar_core.evaluation import Evaluation
from pages.ui.charts import CLASS_COLOURS

MOST_CLASSES = 40
"""More rows than this cannot be told apart on a screen."""

RIGHT, WRONG = CLASS_COLOURS[0], CLASS_COLOURS[5]
"""Blue and vermilion, which people with any colour vision tell apart."""

GROUND = {"light": "#FFFFFF", "dark": "#191918"}
"""What lies behind a chart."""

FAINTEST = 0.14
"""Strength of the colour of a cell with a single image, so that it differs from an empty one."""


def shown_classes(evaluation: Evaluation) -> NDArray[np.int64]:
    """The classes a matrix has room for, in their order: all, or those with the most mistakes."""
    mistakes = evaluation.confusion()
    np.fill_diagonal(mistakes, 0)
    most = np.argsort(-(mistakes.sum(axis=0) + mistakes.sum(axis=1)), kind="stable")[:MOST_CLASSES]
    return np.sort(most).astype(np.int64)


NUMBERS = ("Images", "Percent of the true class", "Percent of the predicted class", "Percent of all images")
"""What the numbers in the cells can be."""


def shares(confusion: NDArray[np.int64], numbers: str) -> NDArray[np.float64]:
    """(K, K) a confusion matrix in one of `NUMBERS`, in images or as shares in [0, 1]; 0 where there is no whole."""
    if numbers == "Images":
        return confusion.astype(float)
    axis = {"Percent of the true class": 1, "Percent of the predicted class": 0, "Percent of all images": None}[numbers]
    whole = confusion.sum(axis=axis, keepdims=True)
    return confusion / np.maximum(whole, 1)


def cells(
    evaluation: Evaluation,
    numbers: str,
    theme: str,
    true: str | None = None,
    predicted: str | None = None,
    errors_only: bool = False,
    other: NDArray[np.int64] | None = None,
) -> pd.DataFrame:
    """A row for each cell of the matrix: what it says, and how it looks.

    The strength of a colour goes with the number shown; hits and mistakes have scales of their own, because a good
    network makes so few mistakes that on one scale they would all look alike. Of a difference, blue is what is better
    here (more hits, fewer mistakes) and orange what is worse.

    Args:
        numbers: One of `NUMBERS`.
        theme: "light" or "dark".
        true: Rows to mark; None stands for all of them, where a column is named.
        predicted: Likewise, columns.
        errors_only: Leave out what is right, so that shares are of the mistakes.
        other: (K, K) a confusion matrix that is taken off.

    Returns:
        true, predicted, images, share, text, fill, ink, chosen, now.
    """
    kept = shown_classes(evaluation)
    matrices = [evaluation.confusion()] + ([other.copy()] if other is not None else [])
    portions = np.nan_to_num(evaluation.confusion_shares()[np.ix_(kept, kept)])
    if errors_only:
        for confusion in matrices:
            np.fill_diagonal(confusion, 0)
    counts = matrices[0][np.ix_(kept, kept)]
    values = shares(matrices[0], numbers)[np.ix_(kept, kept)]
    if other is not None:
        values = values - shares(matrices[1], numbers)[np.ix_(kept, kept)]
    diagonal = np.eye(len(kept), dtype=bool)
    good = np.where(diagonal, values, -values) >= 0 if other is not None else diagonal
    strengths = np.zeros(values.shape)
    for which in (diagonal, ~diagonal):
        top = np.abs(values[which]).max(initial=0)
        if top > 0:
            strengths[which] = FAINTEST + (1 - FAINTEST) * np.abs(values[which]) / top
    strengths[values == 0] = 0
    names = [evaluation.classes[k] for k in kept]
    marked = true is not None or predicted is not None
    rows = []
    for i, row in enumerate(names):
        for j, column in enumerate(names):
            strength = strengths[i, j]
            fill = _blended(RIGHT if good[i, j] else WRONG, GROUND[theme], strength) if strength else "transparent"
            rows.append(
                {
                    "true": row,
                    "predicted": column,
                    "images": int(counts[i, j]),
                    "share": float(portions[i, j]),
                    "text": _written(values[i, j], numbers == "Images", other is not None),
                    "fill": fill,
                    "ink": _ink(fill) if strength else "transparent",
                    "chosen": marked and true in (None, row) and predicted in (None, column),
                    "now": f"{true}\n{predicted}" if marked else "",
                }
            )
    return pd.DataFrame(rows)


def short_names(names: Sequence[str], longest: int = 14) -> dict[str, str]:
    """What to write for each name: long ones without their middle, and with their number where that is not enough."""
    half = (longest - 1) // 2
    short = {name: name if len(name) <= longest else f"{name[:half]}…{name[-half:]}" for name in names}
    alike = Counter(short.values())
    return {
        name: text if alike[text] == 1 else f"{place} {text}" for place, (name, text) in enumerate(short.items(), 1)
    }


def matrix_chart(classes: Sequence[str], theme: str) -> dict[str, Any]:
    """The specification of the matrix; the same whatever is chosen in it and however it is counted.

    Args:
        classes: Names in the order of rows and columns.
        theme: "light" or "dark".
    """
    count = len(classes)
    labels = short_names(classes)
    longest = max(map(len, labels.values()))
    # Not left to the chart, which would cut off the ends of names, even where it is only there that they differ.
    label = f"{json.dumps(labels)}[datum.label]"
    square = {"light": "#000000", "dark": "#FFFFFF"}[theme]
    # What a text of four digits leaves of a cell; too small to read is not worth drawing.
    room = f"(width / {count} - 2) / 2.4"
    return {
        # Of a cell, not of the whole, from which long labels would take what few rows have.
        "height": {"step": max(15, min(56, 440 // count))},
        "encoding": {
            "x": {
                "field": "predicted",
                "type": "nominal",
                "sort": list(classes),
                "title": "Predicted class",
                "axis": {
                    "orient": "top",
                    "labelExpr": label,
                    "labelAngle": 0 if count * longest <= 40 else -45,
                    "labelLimit": 0,
                    # Else the first and the last label move inwards, onto their neighbours.
                    "labelFlush": False,
                    "labelOverlap": False,
                    "ticks": False,
                    "domain": False,
                    "grid": False,
                },
                "scale": {"padding": 0},
            },
            "y": {
                "field": "true",
                "type": "nominal",
                "sort": list(classes),
                "title": "True class",
                "axis": {
                    "labelExpr": label,
                    "labelLimit": 0,
                    "labelFlush": False,
                    "labelOverlap": False,
                    "ticks": False,
                    "domain": False,
                    "grid": False,
                },
                "scale": {"padding": 0},
            },
            "tooltip": [
                {"field": "true", "title": "True class"},
                {"field": "predicted", "title": "Predicted class"},
                {"field": "images", "type": "quantitative", "format": ",", "title": "Images"},
                {"field": "share", "type": "quantitative", "format": ".1%", "title": "Share of the true class"},
            ],
        },
        "layer": [
            {
                "mark": {
                    "type": "rect",
                    "stroke": "#808080",
                    "strokeOpacity": 0.25,
                    "strokeWidth": 0.5,
                    "aria": False,
                },
                "encoding": {"color": {"field": "fill", "type": "nominal", "scale": None, "legend": None}},
            },
            {
                "mark": {
                    "type": "text",
                    "fontSize": {"expr": f"clamp({room}, 5, 13)"},
                    "opacity": {"expr": f"{room} < 6 ? 0 : 1"},
                    "aria": False,
                },
                "encoding": {
                    "text": {"field": "text"},
                    "color": {"field": "ink", "type": "nominal", "scale": None, "legend": None},
                },
            },
            # On top of the numbers, which would otherwise catch the clicks meant for their cells.
            {
                "params": [
                    {"name": "cell", "select": {"type": "point", "fields": ["true", "predicted", "now"]}},
                ],
                "mark": {"type": "rect", "fill": "transparent", "cursor": "pointer", "strokeWidth": 2.5},
                "encoding": {
                    "stroke": {"condition": {"test": "datum.chosen", "value": square}, "value": "transparent"},
                },
            },
        ],
    }


FIGURES = ("precision", "recall", "f1")
FIGURE_NAMES = {"precision": "Precision", "recall": "Recall", "f1": "F1"}


def class_rows(report: pd.DataFrame) -> pd.DataFrame:
    """The report of an evaluation as the rows of `class_chart`."""
    long = report.reset_index().melt(["class", "images"], list(FIGURES), "figure", "value")
    return long.assign(figure=long["figure"].map(FIGURE_NAMES))


def class_chart(report: pd.DataFrame) -> dict[str, Any]:
    """Precision, recall and F1 of each class on one line, the class with the lowest F1 first."""
    names = list(FIGURE_NAMES.values())
    return {
        "height": {"step": 26},
        "encoding": {
            "y": {
                "field": "class",
                "type": "nominal",
                "sort": list(report.sort_values("f1", kind="stable").index),
                "title": None,
                "axis": {"labelLimit": 110, "grid": True, "ticks": False, "domain": False},
            },
            "x": {
                "field": "value",
                "type": "quantitative",
                "title": None,
                "scale": {"domain": [0, 1]},
                "axis": {"format": ".0%", "tickCount": 5},
            },
        },
        "layer": [
            {
                "mark": {
                    "type": "point",
                    "filled": True,
                    "size": 90,
                    "opacity": 0.9,
                },
                "encoding": {
                    "color": {
                        "field": "figure",
                        "type": "nominal",
                        "title": None,
                        "scale": {"domain": names, "range": [CLASS_COLOURS[0], CLASS_COLOURS[1], CLASS_COLOURS[2]]},
                        "legend": {"orient": "top"},
                    },
                    "shape": {
                        "field": "figure",
                        "type": "nominal",
                        "title": None,
                        "scale": {"domain": names, "range": ["circle", "square", "diamond"]},
                        "legend": {"orient": "top"},
                    },
                    "tooltip": [
                        {"field": "class", "title": "Class"},
                        {"field": "figure", "title": "Metric"},
                        {"field": "value", "type": "quantitative", "format": ".1%", "title": "Value"},
                        {"field": "images", "type": "quantitative", "format": ",", "title": "Images of the class"},
                    ],
                },
            }
        ],
    }


def _written(value: float, images: bool, difference: bool) -> str:
    if value == 0:
        return ""
    sign = "" if not difference else "+" if value > 0 else "−"
    size = abs(value) if images else 100 * abs(value)
    if not images and size < 1:
        return f"{sign}<1"
    if not images and 99 < size < 100:
        return f"{sign}>99"
    return f"{sign}{size:.0f}" if size < 10_000 else f"{sign}{size / 1000:.0f}k"


def _channels(colour: str) -> NDArray[np.float64]:
    return np.array([int(colour[i : i + 2], 16) for i in (1, 3, 5)], float)


def _blended(colour: str, ground: str, strength: float) -> str:
    mixed = strength * _channels(colour) + (1 - strength) * _channels(ground)
    return "#" + "".join(f"{round(channel):02X}" for channel in mixed)


def _ink(fill: str) -> str:
    """Black or white, whichever has more contrast with the fill (WCAG 2.2, relative luminance)."""
    return "#000000" if luminance(fill) > 0.179 else "#FFFFFF"


def luminance(colour: str) -> float:
    """Relative luminance in [0, 1] of a colour like #0072B2 (WCAG 2.2)."""
    channels = _channels(colour) / 255
    linear = np.where(channels <= 0.04045, channels / 12.92, ((channels + 0.055) / 1.055) ** 2.4)
    return float(linear @ [0.2126, 0.7152, 0.0722])
