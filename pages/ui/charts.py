"""Tables and arrays in, figures and pictures out; imports no Streamlit.

Live curves and clickable matrices are Vega-Lite specifications, which stay the same while their data change, so that a
chart keeps its zoom. Figures that only change when somebody asks are Plotly's.
"""

from __future__ import annotations

import base64
import html
import io
import json
import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from PIL import Image

from cifar_core.attributes import BINS, ColourMap
from cifar_core.events import Epoch, Tried
from cifar_core.events import brief as brief
from cifar_core.runs import Run, RunError
from cifar_core.suggestions import FIXED_NORM_RULE, RULES, Suggestion

if TYPE_CHECKING:
    from plotly.graph_objects import Figure

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
    "#A0522D",
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

MOST_POINTS = 600
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


def run_name(run: Run) -> str:
    """What a run is called everywhere: its own name or its model and when it began, and what its id ends with."""
    if run.read_only:
        return f"Reference · {run.model}"
    day, clock, model, tail = run.id.split("-", 3)
    name = run.about.name
    return f"{name} · {tail}" if name else f"{model} · {_when(day, clock)} · {tail}"


def usual_epoch(run: Run) -> Epoch | None:
    """The epoch that a run is shown at: its best one, or the last one where only the last weights come with it."""
    return run.epochs[-1] if run.read_only and run.epochs and "best" not in run.checkpoints() else run.best


def run_label(run: Run) -> str:
    """The name of a run with its best accuracy, to choose it by; starred ones with a star."""
    about, best = run.about, usual_epoch(run)
    accuracy = f" · {best.validation_accuracy:.1%} validation" if best else ""
    if run.read_only:
        return f"{run_name(run)}{accuracy} · comes with the program"
    day, clock, model, tail = run.id.split("-", 3)
    star, archived = "★ " if about.starred else "", " · archived" if about.archived else ""
    return f"{star}{about.name or model}{accuracy} · {_when(day, clock)} · {tail}{archived}"


def _when(day: str, clock: str) -> str:
    return f"{day[:4]}-{day[4:6]}-{day[6:]} {clock[:2]}:{clock[2:4]}"


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
        images: (B, 3, H, W) uint8, or pictures of one size.
        captions: One line below each image; may be empty.
        alts: What a screen reader says of each image.
        size: Height of a picture on the page, in CSS pixels.
    """
    wide = size
    if len(images):
        first = images[0]
        across, down = first.size if isinstance(first, Image.Image) else np.shape(first)[:0:-1]
        wide = round(size * across / down)
    cells = "".join(
        f'<figure style="margin:0;width:{wide}px;min-width:0">'
        f'<img src="{png_uri(image)}" alt="{html.escape(alt, quote=True)}" width="{wide}" height="{size}" '
        f'style="image-rendering:pixelated;border-radius:4px;display:block">'
        f'<figcaption style="font-size:0.75rem;line-height:1.2;padding-top:2px;overflow-wrap:anywhere">'
        f"{html.escape(caption)}</figcaption></figure>"
        for image, caption, alt in zip(images, captions, alts, strict=True)
    )
    columns = f"repeat(auto-fill,minmax({wide}px,1fr))"
    return f'<div style="display:grid;grid-template-columns:{columns};gap:10px;justify-items:start">{cells}</div>'


def heat_rows(images: Any, predicted: Any, true: Any, captions: Sequence[str], alts: Sequence[str]) -> str:
    """Images, each with its heat maps for two classes on its right, as HTML.

    Args:
        images: (B, 3, H, W) uint8.
        predicted: (B, 3, h, w) uint8, the heat for the predicted class drawn over the image.
        true: Likewise, for the true class.
    """
    rows = []
    for *three, caption, alt in zip(images, predicted, true, captions, alts, strict=True):
        said = (alt, f"Evidence for the predicted class. {alt}", f"Evidence for the true class. {alt}")
        pictures = "".join(
            f'<img src="{png_uri(image)}" alt="{html.escape(text, quote=True)}" width="84" height="84" '
            'style="image-rendering:pixelated;border-radius:4px">'
            for image, text in zip(three, said, strict=True)
        )
        rows.append(
            f'<figure style="margin:0"><div style="display:flex;gap:4px">{pictures}</div>'
            f'<figcaption style="font-size:0.75rem;line-height:1.3">{html.escape(caption)}</figcaption></figure>'
        )
    return f'<div style="display:flex;flex-wrap:wrap;gap:12px">{"".join(rows)}</div>'


def sample_rows(rows: Sequence[tuple[Any, Sequence[str], Sequence[str]]], size: int) -> str:
    """Galleries one below the other with a line between; each row is images, captions and alternative texts."""
    between = "border-top:1px solid rgba(128,128,128,0.3);padding-top:10px;margin-top:10px"
    return "".join(f'<div style="{between if i else ""}">{gallery(*row, size)}</div>' for i, row in enumerate(rows))


def strip(rows: Sequence[tuple[Any, Sequence[str]]], heads: Sequence[str], smallest: int = 52) -> str:
    """Rows of pictures below common heads, which on a narrow screen are scrolled sideways; as HTML.

    Args:
        rows: Each (V, 3, H, W) uint8 and V alternative texts.
        heads: V lines.
        smallest: Side of a picture on the page, in CSS pixels, at the least.
    """
    style = f"display:grid;grid-template-columns:repeat({len(heads)},minmax({smallest}px,120px));gap:4px"
    named = "".join(f'<div style="font-size:0.75rem;text-align:center">{html.escape(head)}</div>' for head in heads)
    cells = "".join(
        f'<img src="{png_uri(image)}" alt="{html.escape(alt, quote=True)}" '
        'style="image-rendering:pixelated;width:100%;border-radius:4px;display:block">'
        for pictures, alts in rows
        for image, alt in zip(pictures, alts, strict=True)
    )
    return f'<div style="overflow-x:auto"><div style="{style}">{named}{cells}</div></div>'


def class_rows(classes: Sequence[str], series: Mapping[str, Sequence[int]], now: str) -> pd.DataFrame:
    """The rows of `class_bars`.

    Args:
        series: Images of each class, by what they are of.
        now: What is selected at present, so that a second click on a bar is another event than the first.
    """
    rows = []
    for filled, (name, counts) in zip(BAR_LOOKS["opacity"], series.items(), strict=False):
        total = max(sum(counts), 1)
        for k, (label, count) in enumerate(zip(classes, counts, strict=True)):
            rows.append((label, name, int(count), count / total, class_colour(k), filled, now))
    return pd.DataFrame(rows, columns=["class", "of", "images", "share", "colour", "filled", "now"])


BAR_LOOKS: dict[str, Any] = {"opacity": (1.0, 0.15, 0.55, 0.4), "dash": ((1, 0), (1, 0), (5, 3), (2, 2))}
"""Filling and edge of the first, second and further series, so that none is told by colour alone."""


def class_bars(classes: Sequence[str], series: Sequence[str], shares: bool) -> dict[str, Any]:
    """Bars of each class side by side, one for each series; a click on one is the point selection `bar`."""
    names = [brief(name, 16) for name in classes]
    sparse = math.ceil(len(classes) / 40)
    label = f"{json.dumps(names)}[indexof({json.dumps(list(classes))}, datum.value)]"
    return {
        "height": 240,
        "params": [{"name": "bar", "select": {"type": "point", "fields": ["class", "of", "now"]}}],
        "mark": {"type": "bar", "cursor": "pointer", "strokeWidth": 1.5, "cornerRadiusEnd": 2},
        "encoding": {
            "x": {
                "field": "class",
                "type": "nominal",
                "sort": list(classes),
                "title": None,
                "axis": {
                    "labelExpr": label
                    if sparse == 1
                    else f"indexof({json.dumps(list(classes))}, datum.value) % {sparse} ? '' : {label}",
                    "labelAngle": 0 if sum(map(len, names)) <= 30 else -45,
                    "labelOverlap": False,
                    "labelLimit": 0,
                    "ticks": False,
                },
            },
            "xOffset": {"field": "of", "type": "nominal", "sort": list(series)},
            "y": {
                "field": "share" if shares else "images",
                "type": "quantitative",
                "title": "Share" if shares else "Images",
                "axis": {"format": ".0%" if shares else ",d", "tickCount": 5},
            },
            "color": {"field": "colour", "type": "nominal", "scale": None, "legend": None},
            "stroke": {"field": "colour", "type": "nominal", "scale": None, "legend": None},
            "fillOpacity": {"field": "filled", "type": "quantitative", "scale": None, "legend": None},
            "strokeDash": {
                "field": "of",
                "type": "nominal",
                "sort": list(series),
                "scale": {"domain": list(series), "range": [list(dash) for dash in BAR_LOOKS["dash"][: len(series)]]},
                "legend": None,
            },
            "tooltip": [
                {"field": "class", "title": "Class"},
                {"field": "of", "title": "Of"},
                {"field": "images", "type": "quantitative", "format": ",", "title": "Images"},
                {"field": "share", "type": "quantitative", "format": ".2%", "title": "Share"},
            ],
        },
    }


def colour_rows(found: ColourMap) -> pd.DataFrame:
    """The rows of `COLOUR_MAP`: a place with images each."""
    there = np.flatnonzero(found.counts)
    return pd.DataFrame(
        {
            "cell": there,
            "x": there % BINS,
            "y": there // BINS,
            "images": found.counts[there],
            "colour": [f"#{red:02X}{green:02X}{blue:02X}" for red, green, blue in found.colours[there]],
        }
    )


COLOUR_MAP: dict[str, Any] = {
    "height": 420,
    "params": [{"name": "place", "select": {"type": "point", "fields": ["cell"]}}],
    "mark": {"type": "square", "opacity": 1, "cursor": "pointer", "stroke": "#808080", "strokeWidth": 0.5},
    "encoding": {
        "x": {
            "field": "x",
            "type": "quantitative",
            "scale": {"domain": [0, BINS], "zero": False},
            "title": "Green to red",
            "axis": {"labels": False, "ticks": False, "grid": False},
        },
        "y": {
            "field": "y",
            "type": "quantitative",
            "scale": {"domain": [0, BINS], "zero": False},
            "title": "Blue to yellow",
            "axis": {"labels": False, "ticks": False, "grid": False},
        },
        "size": {"field": "images", "type": "quantitative", "scale": {"range": [12, 190]}, "legend": None},
        "color": {"field": "colour", "type": "nominal", "scale": None, "legend": None},
        "tooltip": [
            {"field": "images", "type": "quantitative", "format": ",", "title": "Images"},
            {"field": "colour", "title": "Mean colour"},
        ],
    },
}


FOUND_CURVE: dict[str, Any] = {
    "height": 260,
    "mark": {"type": "line", "strokeWidth": 2, "interpolate": "step-after"},
    "encoding": {
        "x": {"field": "place", "type": "quantitative", "title": "Looked at, from the top of the list"},
        "y": {
            "field": "share",
            "type": "quantitative",
            "title": "Planted errors found",
            "scale": {"domain": [0, 1]},
            "axis": {"format": ".0%"},
        },
        "color": {
            "field": "list",
            "type": "nominal",
            "title": None,
            "legend": {"orient": "top"},
            "scale": {"range": [CLASS_COLOURS[0], CLASS_COLOURS[5]]},
        },
        "strokeDash": {"field": "list", "type": "nominal", "title": None, "legend": None},
        "tooltip": [
            {"field": "list", "title": "List"},
            {"field": "place", "title": "Looked at"},
            {"field": "share", "type": "quantitative", "format": ".0%", "title": "Found"},
        ],
    },
}


CHANNELS = (("red", "#D62728", "solid"), ("green", "#2CA02C", "dash"), ("blue", "#1F77B4", "dot"))
"""Name, colour and stroke of each colour channel; the stroke tells them apart without colour."""


def channel_histograms(histograms: NDArray[np.int64]) -> Figure:
    """How often each channel has each value; (3, 256) counts in, shares of the channel's pixels drawn."""
    from plotly.graph_objects import Figure, Scatter

    figure = Figure()
    for counts, (name, colour, dash) in zip(histograms, CHANNELS, strict=True):
        figure.add_trace(
            Scatter(
                x=np.arange(256, dtype=np.int16),
                y=(counts / counts.sum()).astype(np.float32),
                customdata=counts,
                name=name,
                mode="lines",
                line={"color": colour, "width": 2, "dash": dash, "shape": "hvh"},
                hovertemplate="%{y:.2%} (%{customdata:,} pixels)",
            )
        )
    figure.update_layout(
        height=300,
        margin={"l": 0, "r": 0, "t": 8, "b": 0},
        hovermode="x unified",
        xaxis={"title": "Value of the channel", "range": [-1, 256], "tickvals": [*range(0, 255, 32), 255]},
        yaxis={"title": "Share of pixels", "tickformat": ".1%", "rangemode": "tozero"},
        legend={"orientation": "h", "y": 1.02, "yanchor": "bottom", "x": 0, "title": None},
    )
    return figure


def indented(depth: int, run: Run) -> str:
    """The name of a run in a list in which forks stand below their parents."""
    return "\u2003" * (depth - 1) + ("↳ " if depth else "") + run_name(run)


def said(value: Any) -> str:
    """The value of a setting as people write it."""
    if isinstance(value, bool):
        return "yes" if value else "no"
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def run_table(runs: Sequence[tuple[int, Run]], disk: Mapping[str, int] | None = None) -> pd.DataFrame:
    """A row a run: what it is, how far and how good, and what it takes.

    Args:
        runs: Each with its depth in the tree of forks, as `in_families` gives them.
        disk: Bytes by the run's id; looked up where not given.
    """
    rows = []
    for depth, run in runs:
        best, latest, start, about = run.best, run.latest, run.start, run.about
        try:
            config = run.settings
        except RunError:
            config = None
        rows.append(
            # What matters most comes first, as a narrow screen shows no more.
            {
                "Run": ("★ " if about.starred else "") + indented(depth, run),
                "Best validation accuracy": 100 * best.validation_accuracy if best else None,
                "Data": start.data_name if start else "–",
                "State": run.state + (", archived" if about.archived else ""),
                "Best epoch": best.epoch if best else None,
                "Epochs": f"{latest.epoch if latest else 0:.3g} of {config.epochs if config else '?'}",
                "Model": config.model if config else "unreadable",
                "Disk (MB)": (disk[run.id] if disk else run.disk_use().total) / 1e6,
                "Note": about.note,
            }
        )
    return pd.DataFrame(rows)


def run_facts(run: Run) -> str:
    """The row of a run in words, for screens that do not show all of its columns."""
    ((_, row),) = run_table([(0, run)]).iterrows()
    best = f"best {row['Best validation accuracy']:.1f}%, epoch {row['Best epoch']:g}" if run.best else "no epoch yet"
    facts = [row["Run"], row["State"], best, f"{row['Epochs']} epochs", row["Model"], row["Data"], row["Note"]]
    return " · ".join(fact for fact in facts if fact)


def matches(run: Run, wanted: str) -> bool:
    """Whether all words are in what a table says of a run."""
    start, about = run.start, run.about
    text = " ".join((run.id, run_name(run), about.note, run.state, start.data_name if start else "")).lower()
    return all(word in text for word in wanted.lower().split())


MARK, PARENT = "mark", "parent"

SERIES = {"training, now": "Training (live)", "training": "Training (epoch)", "validation": "Validation"}
"""Names of the three lines of a learning curve: noisy moments, epoch means, and the held-out images."""

LANES = 6
"""Lines of text at the top of a curve for what its marks say."""

_NARROW, _SIGN = 300.0, 6.2
"""Pixels: width of a chart on a phone, for which the lanes are chosen, and mean width of a letter of a label."""


def learning_curves(
    history: Sequence[dict[str, Any]], figure: str, marks: Sequence[tuple[float, str, str]] = ()
) -> pd.DataFrame:
    """The history of a run as the rows of a curve chart.

    Args:
        history: What `Run.history` gives.
        figure: "loss" or "accuracy".
        marks: Epochs at which something happened, in order, what, and the same in two words for where there is no
            room; numbered from 1.

    Returns:
        Columns `epoch`, `value`, `series`; `part` ("own" or "parent"); for marks `note`, `label`, `short` and `lane`.
        At most about `MOST_POINTS` rows, whole epochs never left out.
    """
    rows = []
    for part in ("parent", "own"):
        of_part = [row for row in history if row.get("inherited", False) == (part == "parent")]
        wholes = [row for row in of_part if row["whole_epoch"]]
        if part == "own":
            # A fork's lines begin where its parent's end.
            wholes = [row for row in history if row["whole_epoch"] and row.get("inherited")][-1:] + wholes
        moments = thinned([row for row in of_part if not row["whole_epoch"]], MOST_POINTS)
        rows += [(row["epoch"], row[f"train_{figure}"], SERIES["training, now"], part) for row in moments]
        rows += [(row["epoch"], row[f"train_{figure}"], SERIES["training"], part) for row in wholes]
        rows += [(row["epoch"], row[f"validation_{figure}"], SERIES["validation"], part) for row in wholes]
    frame = pd.DataFrame(rows, columns=["epoch", "value", "series", "part"]).dropna()
    last = max((row["epoch"] for row in history), default=0.0)
    told = pd.DataFrame(
        [(epoch, MARK, note, *place) for (epoch, note, _), place in zip(marks, _lanes(marks, last), strict=True)],
        columns=["epoch", "series", "note", "label", "short", "lane"],
    )
    if any(row.get("inherited") for row in history):
        told.loc[len(told)] = [min(row["epoch"] for row in history), PARENT, "", "parent", "parent", 0]
    return pd.concat([frame, told]) if len(told) else frame.assign(note="", label="", short="", lane=0)


def _lanes(marks: Sequence[tuple[float, str, str]], last: float) -> list[tuple[str, str, int]]:
    """For each mark what is written beside it, whole and in short, and in which line: no text lies on another.

    A text stands to the right of its mark, in the chart's right part to the left. It is the whole one where that takes
    no more than half the width of the chart, else the short one; where all lines but the last are taken it is the
    mark's number alone, or nothing where there is no room.
    """
    ends: list[list[tuple[float, float]]] = [[] for _ in range(LANES)]
    placed = []
    for number, (epoch, note, few) in enumerate(marks, 1):
        place = _NARROW * epoch / max(last, epoch, 1e-9)
        whole, short, alone = f"{number}: {note}", f"{number}: {few}", str(number)
        short = short if len(short) * _SIGN <= _NARROW / 2 else alone
        for text, little, lanes in ((whole, short, range(LANES - 1)), (alone, alone, [LANES - 1])):
            width = max(min(len(text) * _SIGN, _NARROW / 2), len(little) * _SIGN) + 6
            begin, end = (place - width, place) if place > SWITCH * _NARROW else (place, place + width)
            lane = next((k for k in lanes if all(end <= a or begin >= b for a, b in ends[k])), None)
            if lane is not None:
                ends[lane].append((begin, end))
                placed.append((text, little, lane))
                break
        else:
            placed.append(("", "", LANES - 1))
    return placed


SWITCH = 0.55
"""From this share of a chart's width on, texts stand to the left of their marks."""


def thinned(rows: Sequence[Any], most: int) -> Sequence[Any]:
    """Every k-th row, so that at most `most` are left; the last one always is."""
    stride = math.ceil(len(rows) / most) if rows else 1
    return [row for i, row in enumerate(rows) if (len(rows) - 1 - i) % stride == 0]


def _curve_spec(title: str, value_format: str, rising: bool) -> dict[str, Any]:
    # What marks say stands where the curves do not go in the end: below a rising one.
    edge, far, inwards = ("height", 0, -1) if rising else (0, "height", 1)
    names = list(SERIES.values())
    by_series = {"field": "series", "type": "nominal", "title": None}
    encoding = {
        "x": {
            "field": "epoch",
            "type": "quantitative",
            "title": "Epoch",
            # Room for half a point at the right edge.
            "scale": {"zero": True, "nice": False, "padding": 8},
        },
        "y": {
            "field": "value",
            "type": "quantitative",
            "title": title,
            "axis": {"format": value_format},
            "scale": {"zero": False},
        },
        "color": {
            **by_series,
            "scale": {"domain": names, "range": ["#7FA9C9", CLASS_COLOURS[0], CLASS_COLOURS[1]]},
            "legend": {
                "orient": "top",
                "direction": "vertical",
                "columns": {"expr": "max(1, floor(width / 130))"},
                "symbolType": "stroke",
                "symbolStrokeWidth": 3,
                "labelLimit": 220,
            },
        },
        "strokeDash": {**by_series, "scale": {"domain": names, "range": [[1, 0], [1, 0], [6, 3]]}, "legend": None},
        "tooltip": [
            {"field": "series", "title": "Curve"},
            {"field": "epoch", "type": "quantitative", "format": ".2f", "title": "Epoch"},
            {"field": "value", "type": "quantitative", "format": value_format, "title": title},
        ],
    }
    # A line over the whole height, in neither of the curves' colours.
    mark: dict[str, Any] = {"y": {"value": edge}, "color": {"value": "#808080"}, "strokeDash": {"value": [2, 2]}}
    written: dict[str, Any] = {"type": "text", "fontSize": 11, "aria": False}
    live, own = f"datum.series === {names[0]!r}", "datum.part === 'own'"
    curve = f"({' || '.join(f'datum.series === {name!r}' for name in names[1:])})"
    right = f"scale('x', datum.epoch) > {SWITCH} * width"
    fitting = f"length(datum.label) * {_SIGN} > width / 2 ? datum.short : datum.label"
    return {
        "height": 330,
        "encoding": encoding,
        "layer": [
            {
                "transform": [{"filter": f"{live} && {own}"}],
                "mark": {"type": "line", "strokeWidth": 1},
                "params": [{"name": "zoom", "select": "interval", "bind": "scales"}],
            },
            # A first epoch is a single point, which a line alone would not show.
            {
                "transform": [{"filter": f"{curve} && {own}"}],
                "mark": {"type": "line", "strokeWidth": 2.5, "point": {"size": 40, "filled": True}},
            },
            # What a fork has from its parent is dotted, whatever its line is.
            {
                "transform": [{"filter": f"({live} || {curve}) && !({own})"}],
                "mark": {"type": "line", "strokeWidth": 1.5, "opacity": 0.75},
                "encoding": {"strokeDash": {"value": [1.5, 3]}, "detail": {"field": "series"}},
            },
            {
                "transform": [{"filter": f"datum.series === {MARK!r}"}],
                "mark": {"type": "rule", "strokeWidth": 1.5, "strokeDash": [2, 2]},
                "encoding": {
                    **mark,
                    # From its own text on, so that it crosses none above.
                    "y": {"value": {"expr": f"{edge} + {inwards * 14} * datum.lane"}},
                    "y2": {"value": far},
                    "tooltip": [
                        {"field": "note", "title": "What happened"},
                        {"field": "epoch", "type": "quantitative", "format": ".2f", "title": "Epoch"},
                    ],
                },
            },
            {
                "transform": [{"filter": f"datum.series === {MARK!r}"}],
                "mark": {
                    **written,
                    "align": {"expr": f"{right} ? 'right' : 'left'"},
                    "dx": {"expr": f"{right} ? -4 : 4"},
                    "dy": {"expr": f"{inwards} * (8 + 14 * datum.lane)"},
                },
                "encoding": {**mark, "text": {"value": {"expr": fitting}}, "tooltip": {"field": "note"}},
            },
            {
                "transform": [{"filter": f"datum.series === {PARENT!r}"}],
                "mark": {**written, "align": "left", "dx": 4, "dy": inwards * -10, "fontStyle": "italic"},
                "encoding": {**mark, "y": {"value": far}, "text": {"field": "label"}, "tooltip": {"value": None}},
            },
        ],
    }


LOSS_CURVES = _curve_spec("Loss (cross-entropy)", ".2f", rising=False)
CONTRASTIVE_LOSS_CURVES = _curve_spec("Loss (contrastive, NT-Xent)", ".2f", rising=False)
ACCURACY_CURVES = _curve_spec("Accuracy", ".1%", rising=True)

SCHEDULE_CURVE: dict[str, Any] = {
    "height": 190,
    "mark": {"type": "line", "color": CLASS_COLOURS[2]},
    "encoding": {
        "x": {"field": "epoch", "type": "quantitative", "title": "Epoch"},
        "y": {
            "field": "learning rate",
            "type": "quantitative",
            "title": "Learning rate",
            "axis": {"format": ".3~g", "tickCount": 4},
        },
        "tooltip": [
            {"field": "epoch", "type": "quantitative", "format": ".2f"},
            {"field": "learning rate", "type": "quantitative", "format": ".3g"},
        ],
    },
}


SURE, RIGHT = "Mean probability of the true class", "Share of answers that are right"

INVARIANCE_CURVE: dict[str, Any] = {
    "height": 340,
    "encoding": {
        "x": {
            "field": "strength",
            "type": "quantitative",
            "title": "Setting of the slider",
            "scale": {"zero": False},
            # Of three digits each, they would run together on a narrow screen.
            "axis": {"tickCount": 6, "labelSeparation": 8},
        }
    },
    "layer": [
        {
            "transform": [{"filter": f"datum.line == '{SURE}'"}],
            "mark": {"type": "area", "color": CLASS_COLOURS[0], "opacity": 0.18},
            "encoding": {"y": {"field": "low", "type": "quantitative"}, "y2": {"field": "high"}},
        },
        {
            "mark": {"type": "line", "point": True},
            "encoding": {
                "y": {
                    "field": "share",
                    "type": "quantitative",
                    "title": None,
                    "axis": {"format": "%"},
                    "scale": {"domain": [0, 1]},
                },
                "color": {
                    "field": "line",
                    "type": "nominal",
                    "scale": {"domain": [SURE, RIGHT], "range": [CLASS_COLOURS[0], CLASS_COLOURS[5]]},
                    "legend": {"orient": "bottom", "direction": "vertical", "title": None, "labelLimit": 400},
                },
                "strokeDash": {
                    "field": "line",
                    "type": "nominal",
                    "scale": {"domain": [SURE, RIGHT], "range": [[1, 0], [5, 4]]},
                    "legend": None,
                },
                "tooltip": [
                    {"field": "strength", "type": "quantitative", "title": "Slider", "format": ".3g"},
                    {"field": "line", "type": "nominal", "title": "Line"},
                    {"field": "share", "type": "quantitative", "title": "Share", "format": ".1%"},
                    {"field": "low", "type": "quantitative", "title": "Tenth lowest of 100", "format": ".1%"},
                    {"field": "high", "type": "quantitative", "title": "Tenth highest of 100", "format": ".1%"},
                ],
            },
        },
    ],
}


def invariance_curve(
    values: Sequence[float], probabilities: NDArray[np.float32], right: NDArray[np.bool_]
) -> pd.DataFrame:
    """How sure a network is along a slider, as the rows of `INVARIANCE_CURVE`.

    Args:
        values: (V,) of the slider.
        probabilities: (V, N) of the true class.
        right: (V, N) whether it is the answer.
    """
    low, high = np.quantile(probabilities, (0.1, 0.9), axis=1)
    sure = pd.DataFrame({"strength": values, "line": SURE, "share": probabilities.mean(1), "low": low, "high": high})
    return pd.concat([sure, pd.DataFrame({"strength": values, "line": RIGHT, "share": right.mean(1)})])


EACH_STEP, SMOOTHED, ROOM = "each step", "smoothed", "room"

NAME_SHARE = 0.46
"""Of the width of a narrow chart, what the name of a suggestion takes."""


def range_curve(points: Sequence[Tried], found: Sequence[Suggestion]) -> pd.DataFrame:
    """The points of a range test and the rates suggested, as the rows of `RANGE_CURVE`.

    Returns:
        Columns `learning rate`, `loss`, `what`: one of the two curves, or the name of a suggestion; `lane`, the line of
        text of that name, the smaller its rate the higher, so that no mark crosses one. Losses far above the first ones
        are left out, beside which the fall would be flat.
    """
    smoothed = [point.smoothed for point in points]
    lowest, first = min(smoothed), max(smoothed[: len(smoothed) // 10 + 1])
    highest = first + max(0.6 * (first - lowest), 0.1 * first)
    rows = [(point.learning_rate, point.loss, EACH_STEP) for point in points]
    rows += [(point.learning_rate, point.smoothed, SMOOTHED) for point in points]
    rows = [row for row in rows if row[1] <= highest]
    frame = pd.DataFrame(rows, columns=["learning rate", "loss", "what"]).assign(lane=0)
    marks = sorted((one.learning_rate, lowest, one.name) for one in found if one.learning_rate is not None)
    for lane, mark in enumerate(marks):
        frame.loc[len(frame)] = [*mark, lane]
    if marks:
        # Room for the names, which stand to the right of their marks.
        first, last = math.log10(points[0].learning_rate), math.log10(marks[-1][0])
        frame.loc[len(frame)] = [10 ** (first + (last - first) / (1 - NAME_SHARE)), lowest, ROOM, 0]
    return frame


def _range_spec() -> dict[str, Any]:
    curves, marks = [EACH_STEP, SMOOTHED], [*RULES, *FIXED_NORM_RULE]
    x = {
        "field": "learning rate",
        "type": "quantitative",
        "title": "Learning rate",
        "scale": {"type": "log", "nice": False, "padding": 8},
        "axis": {"format": ".3~g", "labelOverlap": True, "grid": False},
    }
    y = {
        "field": "loss",
        "type": "quantitative",
        "title": "Loss",
        # The curves stand below the names.
        "scale": {"zero": False, "range": [{"expr": "height"}, 15 * len(marks) + 6]},
        # Its title lies above the numbers, as the chart is narrow where it stands beside others.
        "axis": {"format": ".3~f", "titleAngle": 0, "titleAlign": "left", "titleX": 0, "titleY": 15 * len(marks) - 8},
    }
    tooltip = [
        {"field": "what", "title": "Curve"},
        {"field": "learning rate", "type": "quantitative", "format": ".2g", "title": "Learning rate"},
        {"field": "loss", "type": "quantitative", "format": ".3f", "title": "Loss"},
    ]
    curve = {"field": "what", "type": "nominal", "title": None}
    legend = {"orient": "bottom", "direction": "vertical", "symbolType": "stroke", "symbolStrokeWidth": 3}
    # Their names stand one below the other, as the rates are often close together.
    line = "15 * datum.lane"
    names = {
        "transform": [{"filter": {"field": "what", "oneOf": [*marks, ROOM]}}],
        "mark": {
            "type": "text",
            "align": "left",
            "baseline": "top",
            "dx": 4,
            "fontSize": 12,
            "color": CLASS_COLOURS[5],
        },
        "encoding": {
            "x": x,
            "y": {"value": {"expr": line}},
            "text": {"value": {"expr": f"datum.what === {ROOM!r} ? '' : datum.what"}},
        },
    }
    return {
        "height": 440,
        "layer": [
            {
                "transform": [{"filter": {"field": "what", "oneOf": curves}}],
                "mark": {"type": "line"},
                "encoding": {
                    "x": x,
                    "y": y,
                    "tooltip": tooltip,
                    "color": {
                        **curve,
                        "scale": {"domain": curves, "range": ["#7FA9C9", CLASS_COLOURS[0]]},
                        "legend": legend,
                    },
                    "strokeWidth": {**curve, "scale": {"domain": curves, "range": [1, 2.5]}, "legend": None},
                },
            },
            {
                "transform": [{"filter": {"field": "what", "oneOf": marks}}],
                "mark": {"type": "rule", "strokeDash": [3, 3], "color": CLASS_COLOURS[5]},
                "encoding": {
                    "x": x,
                    # From its name on, so that it crosses none above.
                    "y": {"value": {"expr": line}},
                    "y2": {"value": "height"},
                    "tooltip": tooltip[:2],
                },
            },
            names,
        ],
    }


RANGE_CURVE = _range_spec()


def percent(probability: float) -> str:
    """A probability that never looks like certainty where it is not."""
    if 0 < probability < 0.001:
        return "<0.1%"
    if probability > 0.999:
        return ">99.9%"
    return f"{probability:.1%}"


def prediction_bars(
    classes: Sequence[str],
    probabilities: NDArray[np.float32],
    true: int | None = None,
    most: int = 10,
    ranges: tuple[NDArray[np.float32], NDArray[np.float32]] | None = None,
) -> str:
    """The most probable classes with a bar each, as HTML; the true class is always among them.

    Args:
        probabilities: (K,) in [0, 1].
        true: In [0, K); marked in words.
        most: How many classes are shown.
        ranges: (K,) lowest and (K,) highest probabilities, drawn as a line across each bar and written beside it.
    """
    order = np.argsort(-probabilities, kind="stable")
    shown = order[:most].tolist()
    if true is not None and true not in shown:
        shown.append(true)
    rows = []
    for place, k in enumerate(shown):
        marks = (["predicted"] if place == 0 else []) + (["✓ true class"] if k == true else [])
        colour = CLASS_COLOURS[0] if place == 0 else CLASS_COLOURS[2] if k == true else "rgba(128,128,128,0.7)"
        name = html.escape(classes[k])
        between = line = ""
        if ranges and percent(ranges[0][k]) != percent(ranges[1][k]):
            low, high = (float(end[k]) for end in ranges)
            between = (
                '<span style="opacity:0.75;font-size:0.85em;white-space:nowrap">'
                f" ({html.escape(percent(low))} – {html.escape(percent(high))})</span>"
            )
            line = (
                f'<div style="position:absolute;top:2px;height:3px;left:{100 * low:.2f}%;min-width:2px;'
                f'width:{100 * (high - low):.2f}%;background:currentColor;border-radius:2px"></div>'
            )
        rows.append(
            '<div style="margin-bottom:6px"><div style="display:flex;justify-content:space-between;gap:8px">'
            f'<span style="overflow-wrap:anywhere">{f"<b>{name}</b>" if marks else name}'
            f'<span style="opacity:0.75;font-size:0.85em">{" · " + " · ".join(marks) if marks else ""}</span></span>'
            f'<span style="text-align:right"><span style="font-variant-numeric:tabular-nums">'
            f"{html.escape(percent(probabilities[k]))}</span>{between}</span></div>"
            '<div style="position:relative;height:7px;border-radius:4px;background:rgba(128,128,128,0.18)">'
            f'<div style="height:7px;border-radius:4px;width:{100 * float(probabilities[k]):.2f}%;background:{colour}">'
            f"</div>{line}</div></div>"
        )
    return f'<div style="font-size:0.9rem;line-height:1.35">{"".join(rows)}</div>'


def heat_scale(colours: Sequence[str]) -> str:
    """What the colours of a heat map mean, as HTML."""
    return (
        '<div style="display:flex;align-items:center;gap:8px;font-size:0.8rem;max-width:480px">'
        f'<span>none</span><span style="flex:1;height:10px;border-radius:5px;background:linear-gradient(to right,'
        f'{",".join(colours)})"></span><span>most evidence</span></div>'
    )


def enlarged(image: NDArray[np.uint8], side: int = 640) -> Image.Image:
    """A small image with its pixels as squares, so that no browser smooths them.

    Args:
        image: (3, H, W).
        side: Height and width of the result; a whole multiple of the image's keeps all squares equal.
    """
    picture = Image.fromarray(np.ascontiguousarray(image.transpose(1, 2, 0)))
    return picture.resize((side, side), Image.Resampling.NEAREST)


def png(image: Image.Image) -> bytes:
    """An image as a PNG file, packed for speed rather than size."""
    buffer = io.BytesIO()
    image.save(buffer, format="PNG", compress_level=1)
    return buffer.getvalue()
