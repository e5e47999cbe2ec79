"""What is seen of a network after each epoch, as rows and as Vega-Lite specifications; imports no Streamlit.

A specification is the same as long as the names of its lines are, while its rows grow.
"""

from __future__ import annotations

import functools
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
import pandas as pd

from cifar_core.events import Inspected
from pages.ui.charts import CLASS_COLOURS, MOST_POINTS, class_colour, thinned

PARTS = {"data": "Data", "forward": "Forward", "backward": "Backward", "step": "Step"}

MOST_LINES = 10
MOST_LAYERS = 6
"""More lines in one chart cannot be told apart."""

MOST_EPOCHS = 60
"""More bars, or more points of each line, are finer than the picture."""

_SHAPES = (
    *("circle", "square", "diamond", "cross", "triangle-up", "triangle-down", "triangle-left", "triangle-right"),
    *("M-1,-1L1,1M-1,1L1,-1", "M-1,0L1,0M0,-1L0,1"),
)
"""As many as there are colours, so that no line is told by colour alone; the last two are drawn as strokes."""

_EPOCH = {
    "field": "epoch",
    "type": "quantitative",
    "title": "Epoch",
    "axis": {"tickMinStep": 1},
    "scale": {"zero": True, "nice": False, "padding": 8},
}


def small_curve(history: Sequence[dict[str, Any]], figure: str) -> pd.DataFrame:
    """One figure of the history of a run, such as the learning rate; columns `epoch`, `value`, `whole`."""
    moments = thinned([row for row in history if not row["whole_epoch"]], MOST_POINTS)
    rows = [*moments, *(row for row in history if row["whole_epoch"])]
    frame = pd.DataFrame([(row["epoch"], row[figure], row["whole_epoch"]) for row in rows])
    return frame.set_axis(["epoch", "value", "whole"], axis=1).sort_values("epoch", kind="stable")


def _small_spec(title: str, value_format: str, zero: bool) -> dict[str, Any]:
    return {
        "height": 220,
        "encoding": {
            "x": _EPOCH,
            "y": {
                "field": "value",
                "type": "quantitative",
                "title": title,
                "axis": {"format": value_format, "tickCount": 4},
                "scale": {"zero": zero},
            },
            "tooltip": [
                {"field": "epoch", "type": "quantitative", "format": ".2f", "title": "Epoch"},
                {"field": "value", "type": "quantitative", "format": value_format, "title": title},
            ],
        },
        "layer": [
            {"mark": {"type": "line", "strokeWidth": 1.5, "color": CLASS_COLOURS[2]}},
            {
                "transform": [{"filter": "datum.whole"}],
                "mark": {"type": "point", "filled": True, "size": 30, "color": CLASS_COLOURS[2]},
            },
        ],
    }


RATE_CURVE = _small_spec("Learning rate", ".3~g", zero=True)
SPEED_CURVE = _small_spec("Images per second", ",.0f", zero=True)


def class_lines(looks: Sequence[Inspected], classes: Sequence[str]) -> pd.DataFrame:
    """Accuracy of each class over the epochs; with many classes, of those that are worst now."""
    latest = looks[-1].class_accuracy
    known = [k for k, share in enumerate(latest[: len(classes)]) if share is not None]
    shown = sorted(sorted(known, key=lambda k: latest[k])[:MOST_LINES])
    return _lines((look.epoch, classes[k], look.class_accuracy[k]) for look in _some(looks) for k in shown)


def norm_lines(looks: Sequence[Inspected], norm: str) -> pd.DataFrame:
    """A norm of the layers over the epochs, `weight_norm` or `gradient_norm`; of many layers some, spread in depth."""
    names = _spread([row["name"] for row in looks[-1].layers])
    rows = (
        (look.epoch, row["name"], row[norm]) for look in _some(looks) for row in look.layers if row["name"] in names
    )
    # A scale of powers of ten has no place for zero.
    return _lines((epoch, name, value) for epoch, name, value in rows if value)


def dead_lines(looks: Sequence[Inspected]) -> pd.DataFrame:
    """Share of dead units of the layers over the epochs."""
    names = _spread([row["name"] for row in looks[-1].dead])
    return _lines(
        (look.epoch, row["name"], row["dead"] / row["units"])
        for look in _some(looks)
        for row in look.dead
        if row["name"] in names
    )


def _lines(rows: Iterable[tuple[int, str, float | None]]) -> pd.DataFrame:
    return pd.DataFrame(list(rows), columns=["epoch", "line", "value"]).dropna()


def _some(looks: Sequence[Inspected]) -> Sequence[Inspected]:
    return thinned(looks, MOST_EPOCHS)


def _spread(names: Sequence[str]) -> list[str]:
    places = np.linspace(0, len(names) - 1, min(len(names), MOST_LAYERS)).round().astype(int)
    return [names[place] for place in places]


def line_names(frame: pd.DataFrame) -> tuple[str, ...]:
    """The lines of a chart in the order of their rows."""
    return tuple(dict.fromkeys(frame["line"]))


@functools.lru_cache(maxsize=64)
def lines_spec(names: tuple[str, ...], title: str, value_format: str, powers: bool = False) -> dict[str, Any]:
    """A line each with its colour and its kind of point.

    Args:
        powers: The scale is one of powers of ten.
    """
    domain = {"domain": list(names)}
    by_line: dict[str, Any] = {"field": "line", "type": "nominal", "title": None, "sort": list(names)}
    # A sign and a name; two short ones stand beside each other on the narrowest screen.
    wide = 45 + 7 * min(max(map(len, names), default=1), 24)
    legend = {
        "orient": "bottom",
        "direction": "vertical",
        "columns": {"expr": f"max({2 if wide <= 130 else 1}, floor(width / {wide}))"},
        "labelLimit": wide - 25,
    }
    return {
        "height": 420,
        "mark": {"type": "line", "strokeWidth": 2, "point": {"size": 45, "filled": False, "strokeWidth": 1.5}},
        "encoding": {
            "x": _EPOCH,
            "y": {
                "field": "value",
                "type": "quantitative",
                "title": title,
                "axis": {"format": value_format},
                "scale": {"type": "log"} if powers else {"zero": True},
            },
            "color": {
                **by_line,
                "scale": {**domain, "range": [class_colour(k) for k in range(len(names))]},
                "legend": legend,
            },
            "shape": {**by_line, "scale": {**domain, "range": [_SHAPES[k % len(_SHAPES)] for k in range(len(names))]}},
            "tooltip": [
                {"field": "line", "type": "nominal", "title": "Line"},
                {"field": "epoch", "type": "quantitative", "title": "Epoch"},
                {"field": "value", "type": "quantitative", "format": value_format, "title": title},
            ],
        },
    }


THEN, NOW = "First epoch", "Latest epoch"


def histogram_rows(looks: Sequence[Inspected], layer: str, which: str) -> pd.DataFrame:
    """The first and the latest histogram of a layer, as shares of its values; columns `value`, `share`, `when`.

    Args:
        which: "weights" or "gradients".
    """
    drawn = [row[which] for look in looks for row in look.layers if row["name"] == layer and row.get(which)]
    frames = []
    for when, bins in [(THEN, drawn[0]), (NOW, drawn[-1])][2 - min(len(drawn), 2) :] if drawn else []:
        counts = np.asarray(bins["counts"], float)
        edges = np.linspace(bins["low"], bins["high"], len(counts) + 1)
        middles = (edges[:-1] + edges[1:]) / 2
        frames.append(pd.DataFrame({"value": middles, "share": counts / counts.sum(), "when": when}))
    return pd.concat(frames) if frames else pd.DataFrame(columns=["value", "share", "when"])


def histogram_layers(look: Inspected) -> list[str]:
    """Names of the layers that have histograms."""
    return [row["name"] for row in look.layers if row.get("weights")]


def _histogram_spec(title: str) -> dict[str, Any]:
    by_time: dict[str, Any] = {"field": "when", "type": "nominal", "title": None}
    domain = {"domain": [THEN, NOW]}
    return {
        "height": 260,
        "mark": {"type": "line", "interpolate": "step", "strokeWidth": 2},
        "encoding": {
            "x": {"field": "value", "type": "quantitative", "title": title, "axis": {"format": ".3~g", "tickCount": 5}},
            "y": {
                "field": "share",
                "type": "quantitative",
                "title": "Share",
                "axis": {"format": ".0%", "tickCount": 4},
            },
            "color": {
                **by_time,
                "scale": {**domain, "range": ["#888888", CLASS_COLOURS[1]]},
                "legend": {"orient": "top", "symbolType": "stroke", "symbolStrokeWidth": 3},
            },
            "strokeDash": {**by_time, "scale": {**domain, "range": [[4, 3], [1, 0]]}, "legend": None},
            "tooltip": [
                {"field": "when", "title": "When"},
                {"field": "value", "type": "quantitative", "format": ".3g", "title": "Value"},
                {"field": "share", "type": "quantitative", "format": ".1%", "title": "Share"},
            ],
        },
    }


WEIGHT_HISTOGRAM = _histogram_spec("Weight")
GRADIENT_HISTOGRAM = _histogram_spec("Gradient of the last step")


def time_rows(looks: Sequence[Inspected]) -> pd.DataFrame:
    """Where the time of each epoch went, as shares; columns `epoch`, `part`, `share`, `order`."""
    rows = []
    for look in _some(looks):
        total = sum(look.seconds.values())
        for order, (part, name) in enumerate(PARTS.items()):
            if total:
                rows.append((look.epoch, name, look.seconds.get(part, 0.0) / total, order))
    return pd.DataFrame(rows, columns=["epoch", "part", "share", "order"])


TIME_BARS: dict[str, Any] = {
    "height": 320,
    "mark": {"type": "bar", "stroke": "#888888", "strokeWidth": 0.5},
    "encoding": {
        "x": {"field": "epoch", "type": "ordinal", "title": "Epoch", "axis": {"labelAngle": 0, "labelOverlap": True}},
        "y": {
            "field": "share",
            "type": "quantitative",
            "title": "Share of the time",
            "axis": {"format": ".0%"},
            "scale": {"domain": [0, 1]},
        },
        "color": {
            "field": "part",
            "type": "nominal",
            "title": None,
            "scale": {
                "domain": list(PARTS.values()),
                "range": [CLASS_COLOURS[1], CLASS_COLOURS[4], CLASS_COLOURS[0], CLASS_COLOURS[7]],
            },
            "legend": {"orient": "bottom"},
        },
        # From the bottom up in the order of a step.
        "order": {"field": "order", "type": "ordinal"},
        "tooltip": [
            {"field": "epoch", "title": "Epoch"},
            {"field": "part", "title": "Part"},
            {"field": "share", "type": "quantitative", "format": ".1%", "title": "Share"},
        ],
    },
}
