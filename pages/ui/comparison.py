"""Runs beside each other: a table of all, curves over one another, settings that differ; without Streamlit."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import pandas as pd

from cifar_core.config import FIELDS, TrainConfig, label
from cifar_core.events import End
from cifar_core.runs import Run, RunError
from pages.ui.charts import CLASS_COLOURS, MOST_POINTS, indented, run_name, thinned

UNREADABLE, UNKNOWN = "unreadable", "not known yet"


@dataclass(frozen=True)
class Figure:
    """Something of a training that has a curve."""

    title: str
    column: str
    format: str


FIGURES = {
    "Validation accuracy": Figure("Validation accuracy", "validation_accuracy", ".1%"),
    "Validation loss": Figure("Validation loss", "validation_loss", ".3f"),
    "Training accuracy": Figure("Training accuracy", "train_accuracy", ".1%"),
    "Training loss": Figure("Training loss", "train_loss", ".3f"),
}

AXES = {"Epochs": "Epochs", "Images seen": "Images seen", "Training time": "Training time (s)"}

DASHES = ([1, 0], [8, 3], [2, 2], [8, 3, 2, 3], [14, 4], [4, 4, 1, 4], [3, 1])
"""Seven and ten have no common divisor, so that 70 runs have looks of their own."""


def settings_of(run: Run) -> TrainConfig | None:
    """The settings of a run, as they are in force after all changes, or None where they cannot be read."""
    try:
        return run.settings
    except RunError:
        return None


def run_rows(runs: Sequence[tuple[int, Run]], tests: Mapping[str, tuple[float, str]]) -> pd.DataFrame:
    """A row for each run, with numbers as numbers, so that a table sorts by them.

    Args:
        runs: Each with its depth in the tree of forks, as `in_families` gives them.
        tests: By run id its accuracy on the test split, and in words of which weights.
    """
    rows = []
    for depth, run in runs:
        config, best, latest = settings_of(run), run.best, run.latest
        epochs = run.epochs
        last = epochs[-1] if epochs else None
        accuracy, weights = tests.get(run.id, (None, None))
        rows.append(
            {
                "run": indented(depth, run),
                "best": 100 * best.validation_accuracy if best else None,
                "test": None if accuracy is None else 100 * accuracy,
                "state": run.state if config else UNREADABLE,
                "model": run.model,
                "best_epoch": best.epoch if best else None,
                "test_weights": weights,
                "train_loss": last.train_loss if last else None,
                "epochs": float(latest.epoch) if latest else 0.0,
                "asked": config.epochs if config else None,
                "images_per_second": last.images_per_second if last else latest.images_per_second if latest else None,
                "seconds": last.seconds if last else None,
                "optimizer": config.optimizer if config else None,
                "learning_rate": config.learning_rate if config else None,
                "schedule": config.schedule if config else None,
                "batch_size": config.batch_size if config else None,
                "width": config.width if config else None,
                "dropout": config.dropout if config else None,
                "train_images": run.start.train_images if run.start else None,
            }
        )
    return pd.DataFrame(rows)


def curves(runs: Sequence[Run], figure: str, axis: str) -> pd.DataFrame:
    """The curves of runs over one another.

    Args:
        figure: A key of `FIGURES`.
        axis: A key of `AXES`.

    Returns:
        Columns run, x, value, epoch, kind: `epoch` for the figure of a whole epoch, `moment` for one between two.
        Seconds are known at the end of an epoch only; of validation there is nothing in between either.
    """
    rows: list[tuple[str, float, float, float, str]] = []
    for run in runs:
        start = run.start
        seconds = {float(epoch.epoch): epoch.seconds for epoch in run.epochs}
        column = FIGURES[figure].column
        history = [row for row in run.history() if row[column] is not None]
        wholes = [row for row in history if row["whole_epoch"]]
        moments = [row for row in history if not row["whole_epoch"]] if axis != "Training time" else []
        for row in (*thinned(moments, MOST_POINTS // max(len(runs), 1)), *wholes):
            x = {
                "Epochs": row["epoch"],
                "Images seen": row["epoch"] * start.train_images if start else None,
                "Training time": seconds.get(row["epoch"]),
            }[axis]
            if x is not None:
                kind = "epoch" if row["whole_epoch"] else "moment"
                rows.append((run_name(run), x, row[column], row["epoch"], kind))
    return pd.DataFrame(rows, columns=["run", "x", "value", "epoch", "kind"]).dropna()


def curve_chart(runs: Sequence[Run], figure: str, axis: str) -> dict[str, Any]:
    """The specification for `curves`; the same for the same choice, however far the runs are."""
    names = [run_name(run) for run in runs]
    about = FIGURES[figure]
    colour = {
        "field": "run",
        "type": "nominal",
        "title": None,
        "scale": {"domain": names, "range": [CLASS_COLOURS[i % len(CLASS_COLOURS)] for i in range(len(names))]},
        "legend": {
            "orient": "top",
            "direction": "vertical",
            "columns": {"expr": "max(1, floor(width / 290))"},
            "symbolType": "stroke",
            "symbolSize": 600,
            "symbolStrokeWidth": 2.5,
            # Else as pale as the thin lines, which come first.
            "symbolOpacity": 1,
            "labelLimit": 280,
        },
    }
    dash = {
        "field": "run",
        "type": "nominal",
        "title": None,
        "scale": {"domain": names, "range": [DASHES[i % len(DASHES)] for i in range(len(names))]},
        "legend": colour["legend"],
    }
    x = {
        "field": "x",
        "type": "quantitative",
        "title": AXES[axis],
        "scale": {"zero": True, "nice": False, "padding": 8},
        "axis": {"format": "~s" if axis == "Images seen" else ",~r", "tickMinStep": 1},
    }
    y = {
        "field": "value",
        "type": "quantitative",
        "title": _title(about, runs),
        "axis": {"format": ".0%" if "accuracy" in about.column else "~g"},
        "scale": {"zero": False, "padding": 8},
    }
    tooltip = [
        {"field": "run", "title": "Run"},
        {"field": "epoch", "type": "quantitative", "format": ".2~f", "title": "Epoch"},
        {"field": "value", "type": "quantitative", "format": about.format, "title": about.title},
    ]
    encoding = {"x": x, "y": y, "color": colour, "tooltip": tooltip}
    return {
        "height": 340,
        "layer": [
            {
                "params": [{"name": "zoom", "select": "interval", "bind": "scales"}],
                "transform": [{"filter": "datum.kind == 'moment'"}],
                "mark": {"type": "line", "strokeWidth": 1, "opacity": 0.4, "aria": False},
                "encoding": {"x": x, "y": y, "color": colour},
            },
            {
                "transform": [{"filter": "datum.kind == 'epoch'"}],
                "mark": {"type": "line", "strokeWidth": 2.5},
                "encoding": {**encoding, "strokeDash": dash},
            },
            # A single epoch is a point, which a line alone would not show.
            {
                "transform": [{"filter": "datum.kind == 'epoch'"}],
                "mark": {"type": "point", "filled": True, "size": 30, "opacity": 1, "aria": False},
                "encoding": encoding,
            },
        ],
    }


def _title(figure: Figure, runs: Sequence[Run]) -> str:
    """What the axis says; a loss is that of what the runs were asked to learn."""
    if not figure.column.endswith("loss"):
        return figure.title
    losses = {"simclr": "contrastive", "classify": "cross-entropy"}
    named = {losses.get(config.objective, config.objective) for run in runs if (config := settings_of(run))}
    return f"{figure.title} ({' and '.join(sorted(named)) or losses['classify']})"


def settings_table(runs: Sequence[Run], every: bool) -> pd.DataFrame:
    """Settings and facts by run, as text; a row each, a column per run.

    Args:
        every: Also those that are the same in all runs.
    """
    columns = {}
    for run in runs:
        config, start = settings_of(run), run.start
        if config:
            # A setting without effect beside the others is no difference between two runs.
            said = {name: _text(getattr(config, name)) if config.used(name) else "–" for name in FIELDS}
            said["train_images"] = f"{config.train_images:,}" if config.train_images else "all"
        else:
            said = dict.fromkeys(FIELDS, UNREADABLE)
        facts = {
            "Images": f"{start.data_name} ({start.data_fingerprint[:8]})" if start else UNKNOWN,
            "Training images, used": f"{start.train_images:,}" if start else UNKNOWN,
            "Validation images, used": f"{start.validation_images:,}" if start else UNKNOWN,
            "Parameters": f"{start.parameters:,}" if start else UNKNOWN,
            "Computed on": start.device if start else UNKNOWN,
            "Number format": start.precision if start else UNKNOWN,
            "torch": start.versions.get("torch", UNKNOWN) if start else UNKNOWN,
        }
        # How many were asked for, and below how many it came to.
        titles = {name: label(name) for name in FIELDS} | {"train_images": "Training images, asked for"}
        columns[run_name(run)] = {**{titles[name]: value for name, value in said.items()}, **facts}
    table = pd.DataFrame(columns)
    table.index.name = "setting"
    # What is not known of a run is no difference from the others.
    known = table.where(~table.isin([UNREADABLE, UNKNOWN]))
    return table if every else table[known.nunique(axis=1) > 1]


def judged_alike(runs: Sequence[Run]) -> bool:
    """Whether the runs validate on the same images; only then do their accuracies compare."""
    starts = [run.start for run in runs]
    return len({(start.data_fingerprint, start.validation_images) for start in starts if start}) <= 1


def ended_how(run: Run) -> str:
    """Why there is nothing of the run to draw."""
    end = next((event for event in reversed(run.events()) if isinstance(event, End)), None)
    return end.message if end else f"It is {run.state}."


def _text(value: Any) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    return f"{value:g}" if isinstance(value, float) else str(value)
