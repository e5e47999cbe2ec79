"""Tables and arrays in, figures and pictures out; imports no Streamlit.

Live curves and clickable matrices are Vega-Lite specifications, which stay the same while their data change, so that a
chart keeps its zoom. Figures that only change when somebody asks are Plotly's.
"""

from __future__ import annotations

import base64
import html
import io
import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd
from PIL import Image

CLASS_COLOURS = (
    "#0072B2",
    "#E69F00",
    "#009E73",
    "#CC79A7",
    "#56B4E9",
    "#D55E00",
    "#8C6BB1",
    "#7F7F7F",
    "#B5A300",
    "#8B4513",
)
"""Okabe and Ito's colours, which people with any colour vision tell apart, and three more for ten classes."""

CLASS_SYMBOLS = (
    "circle",
    "square",
    "diamond",
    "cross",
    "x",
    "triangle-up",
    "triangle-down",
    "star",
    "hexagon",
    "pentagon",
)
"""Shapes beside the colours, so that no class is told by colour alone."""

MOST_POINTS = 2000
"""More points than a curve's pixels only make it slow."""


def class_colour(index: int) -> str:
    return CLASS_COLOURS[index % len(CLASS_COLOURS)]


def class_symbol(index: int) -> str:
    """Goes round more slowly than the colours, so that the eleventh class differs from the first."""
    return CLASS_SYMBOLS[(index + index // len(CLASS_COLOURS)) % len(CLASS_SYMBOLS)]


def round_numbers(low: float, high: float, *also: float) -> list[float]:
    """The numbers 1, 2, 3, 5, 7 times powers of ten in [low, high], zero where it is allowed, and those in `also`."""
    smallest = low if low > 0 else 1e-6
    exponents = range(math.floor(math.log10(smallest)), math.ceil(math.log10(high)) + 1)
    numbers = {float(f"{digit}e{exponent}") for exponent in exponents for digit in (1, 2, 3, 5, 7)}
    if float(low).is_integer() and float(high).is_integer() and low >= 1:
        numbers |= {float(2**k) for k in range(1, 13)}
        numbers = {number for number in numbers if number.is_integer()}
    kept = {number for number in numbers if low <= number <= high} | {float(number) for number in also}
    return sorted(kept | ({0.0} if low == 0 else set()))


def png_uri(image: Any) -> str:
    """An image as a data URI; (3, H, W) or (H, W, 3) uint8, or a Pillow image."""
    if isinstance(image, np.ndarray):
        image = Image.fromarray(np.ascontiguousarray(image.transpose(1, 2, 0) if image.shape[0] == 3 else image))
    buffer = io.BytesIO()
    image.save(buffer, format="PNG", compress_level=1)
    return "data:image/png;base64," + base64.b64encode(buffer.getvalue()).decode()


def gallery(images: Any, captions: Sequence[str], alts: Sequence[str], size: int = 72) -> str:
    """A grid of small images that fits any width, as HTML with the images inside.

    Args:
        images: (B, 3, H, W) uint8.
        captions: One line below each image; may be empty.
        alts: What a screen reader says of each image.
        size: Side of a picture on the page, in CSS pixels.
    """
    cells = "".join(
        f'<figure style="margin:0;width:{size}px;min-width:0">'
        f'<img src="{png_uri(image)}" alt="{html.escape(alt, quote=True)}" width="{size}" height="{size}" '
        f'style="image-rendering:pixelated;border-radius:4px;display:block">'
        f'<figcaption style="font-size:0.75rem;line-height:1.2;padding-top:2px;overflow-wrap:anywhere">'
        f"{html.escape(caption)}</figcaption></figure>"
        for image, caption, alt in zip(images, captions, alts, strict=True)
    )
    columns = f"repeat(auto-fill,minmax({size}px,1fr))"
    return f'<div style="display:grid;grid-template-columns:{columns};gap:10px;justify-items:start">{cells}</div>'


SERIES = {"training, now": "training (last moments)", "training": "training (epoch)", "validation": "validation"}
"""Names of the three lines of a learning curve: noisy moments, epoch means, and the held-out images."""


def learning_curves(history: Sequence[dict[str, Any]], figure: str) -> pd.DataFrame:
    """The history of a run as the rows of a curve chart.

    Args:
        history: What `Run.history` gives.
        figure: "loss" or "accuracy".

    Returns:
        Columns `epoch`, `value`, `series`; at most about `MOST_POINTS` rows, whole epochs never left out.
    """
    moments = [row for row in history if not row["whole_epoch"]]
    wholes = [row for row in history if row["whole_epoch"]]
    moments = thinned(moments, MOST_POINTS)
    rows = [(row["epoch"], row[f"train_{figure}"], SERIES["training, now"]) for row in moments]
    rows += [(row["epoch"], row[f"train_{figure}"], SERIES["training"]) for row in wholes]
    rows += [(row["epoch"], row[f"validation_{figure}"], SERIES["validation"]) for row in wholes]
    return pd.DataFrame(rows, columns=["epoch", "value", "series"]).dropna()


def thinned(rows: Sequence[Any], most: int) -> Sequence[Any]:
    """Every k-th row, so that at most `most` are left; the last one always is."""
    stride = math.ceil(len(rows) / most) if rows else 1
    return [row for i, row in enumerate(rows) if (len(rows) - 1 - i) % stride == 0]


def _curve_spec(title: str, value_format: str) -> dict[str, Any]:
    names = list(SERIES.values())
    return {
        "height": 260,
        "params": [{"name": "zoom", "select": "interval", "bind": "scales"}],
        "mark": {"type": "line", "interpolate": "linear"},
        "encoding": {
            "x": {"field": "epoch", "type": "quantitative", "title": "Epoch", "scale": {"zero": True, "nice": False}},
            "y": {
                "field": "value",
                "type": "quantitative",
                "title": title,
                "axis": {"format": value_format},
                "scale": {"zero": False},
            },
            "color": {
                "field": "series",
                "type": "nominal",
                "title": None,
                "scale": {"domain": names, "range": ["#8FB8D6", CLASS_COLOURS[0], CLASS_COLOURS[1]]},
                "legend": {"orient": "top", "symbolStrokeWidth": 3, "labelLimit": 220, "columns": 3},
            },
            "strokeDash": {
                "field": "series",
                "type": "nominal",
                "scale": {"domain": names, "range": [[1, 0], [1, 0], [6, 3]]},
                "legend": None,
            },
            "strokeWidth": {
                "field": "series",
                "type": "nominal",
                "scale": {"domain": names, "range": [1, 2.5, 2.5]},
                "legend": None,
            },
            "tooltip": [
                {"field": "series", "title": "Curve"},
                {"field": "epoch", "type": "quantitative", "format": ".2f", "title": "Epoch"},
                {"field": "value", "type": "quantitative", "format": value_format, "title": title},
            ],
        },
    }


LOSS_CURVES = _curve_spec("Loss (cross-entropy)", ".3f")
ACCURACY_CURVES = _curve_spec("Accuracy", ".1%")

SCHEDULE_CURVE: dict[str, Any] = {
    "height": 120,
    "mark": {"type": "line", "color": CLASS_COLOURS[2]},
    "encoding": {
        "x": {"field": "epoch", "type": "quantitative", "title": "Epoch"},
        "y": {"field": "learning rate", "type": "quantitative", "title": "Learning rate", "axis": {"format": "~g"}},
        "tooltip": [
            {"field": "epoch", "type": "quantitative", "format": ".2f"},
            {"field": "learning rate", "type": "quantitative", "format": ".3g"},
        ],
    },
}
