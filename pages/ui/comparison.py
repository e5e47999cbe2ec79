"""Runs beside each other: a table of all, curves over one another, settings that differ; without Streamlit."""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import pandas as pd

from cifar_core.comparing import best_so_far, same_but_for_the_seed, smoothed
from cifar_core.config import FIELDS, TrainConfig, label
from cifar_core.events import End
from cifar_core.runs import Run, RunError
from cifar_core.series import spread
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

AXES = {
    "Epochs": "Epochs",
    "Steps": "Steps",
    "Images seen": "Images seen",
    "Training time": "Training time (s)",
}


@dataclass(frozen=True)
class Look:
    """How curves are drawn.

    Args:
        smoothing: Weight of the past in the moving average, in [0, 1); 0 for none.
        best: Also the best of all epochs up to each.
        log_x: A scale of powers of ten along the axis, from which what is at 0 falls out.
        log_y: Likewise, upwards.
        grouped: Runs that differ in the seed alone as one curve, their mean, in a band from the lowest to the highest.
    """

    smoothing: float = 0.0
    best: bool = False
    log_x: bool = False
    log_y: bool = False
    grouped: bool = False


PLAIN = Look()

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


def seed_groups(runs: Sequence[Run]) -> list[list[Run]]:
    """Those of the runs that differ in the seed alone, in groups."""
    known = {run.id: run for run in runs}
    settings = {name: config for name, run in known.items() if (config := settings_of(run))}
    return [[known[name] for name in names] for names in same_but_for_the_seed(settings)]


def entries(runs: Sequence[Run], look: Look) -> dict[str, list[Run]]:
    """What has a curve of its own: each run by its name, or the seeds of a training as one."""
    grouped = seed_groups(runs) if look.grouped else []
    group_of = {run.id: group for group in grouped for run in group}
    found: dict[str, list[Run]] = {}
    for run in runs:
        group = group_of.get(run.id, [run])
        name = run_name(run) if len(group) == 1 else f"{len(group)} seeds of {run_name(group[0])}"
        found.setdefault(name, group)
    return found


Point = tuple[float, float, float]
"""Place on the axis, value, epoch."""


def curves(runs: Sequence[Run], figure: str, axis: str, look: Look = PLAIN) -> pd.DataFrame:
    """The curves of runs over one another.

    Args:
        figure: A key of `FIGURES`.
        axis: A key of `AXES`.

    Returns:
        Columns run, x, value, epoch, kind, low, high. Kinds: `epoch` for the figure of a whole epoch, `moment` for one
        between two or what was there before it was smoothed, `smoothed`, `best` for the best so far, `mean` for that
        of several runs, which alone has low and high.
        Seconds are known at the end of an epoch only; of validation there is nothing in between either.
    """
    rows: list[tuple[str, float, float, float, str, float, float]] = []
    shown = entries(runs, look)
    most = MOST_POINTS // max(len(shown), 1)
    rising = "accuracy" in FIGURES[figure].column

    def add(name: str, points: Sequence[Point], kind: str) -> None:
        rows.extend((name, *point, kind, point[1], point[1]) for point in points)

    for name, members in shown.items():
        lines = [_points(run, figure, axis) for run in members]
        if len(members) > 1:
            wholes = _mean(name, [wholes for wholes, _ in lines], rows)
            moments: list[Point] = []
        else:
            wholes, moments = lines[0]
            if look.smoothing:
                fine = moments or wholes
                add(name, thinned(fine, most), "moment")
                softer = smoothed([value for _, value, _ in fine], look.smoothing)
                add(
                    name,
                    thinned([(x, y, epoch) for (x, _, epoch), y in zip(fine, softer, strict=True)], most),
                    "smoothed",
                )
            else:
                add(name, thinned(moments, most), "moment")
                add(name, wholes, "epoch")
        if look.best:
            best = best_so_far([value for _, value, _ in wholes], rising)
            add(name, [(x, y, epoch) for (x, _, epoch), y in zip(wholes, best, strict=True)], "best")
    frame = pd.DataFrame(rows, columns=["run", "x", "value", "epoch", "kind", "low", "high"]).dropna()
    if look.log_x:
        frame = frame[frame["x"] > 0]
    return frame[frame["low"] > 0] if look.log_y else frame


def _points(run: Run, figure: str, axis: str) -> tuple[list[Point], list[Point]]:
    """The figures of whole epochs, and those in between."""
    start = run.start
    seconds = {float(epoch.epoch): epoch.seconds for epoch in run.epochs}
    wholes, moments = [], []
    for row in run.history():
        x = {
            "Epochs": row["epoch"],
            "Steps": row["epoch"] * start.steps_per_epoch if start else None,
            "Images seen": row["epoch"] * start.train_images if start else None,
            "Training time": seconds.get(row["epoch"]) if row["whole_epoch"] else None,
        }[axis]
        value = row[FIGURES[figure].column]
        if x is not None and value is not None:
            (wholes if row["whole_epoch"] else moments).append((x, value, row["epoch"]))
    return wholes, moments


def _mean(name: str, lines: Sequence[Sequence[Point]], rows: list[Any]) -> list[Point]:
    """The mean of several curves where all of them have got to, which is also put among the rows."""
    known = [{epoch: (x, value) for x, value, epoch in line} for line in lines]
    middle: list[Point] = []
    for epoch in sorted(set.intersection(*(set(line) for line in known))):
        values = [line[epoch][1] for line in known]
        x, value = statistics.fmean(line[epoch][0] for line in known), statistics.fmean(values)
        middle.append((x, value, epoch))
        rows.append((name, x, value, epoch, "mean", min(values), max(values)))
    return middle


def curve_chart(runs: Sequence[Run], figure: str, axis: str, look: Look = PLAIN) -> dict[str, Any]:
    """The specification for `curves`; the same for the same choice, however far the runs are."""
    names = list(entries(runs, look))
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
        "scale": {"type": "log", "nice": False} if look.log_x else {"zero": True, "nice": False, "padding": 8},
        "axis": {"format": "~s" if axis in ("Images seen", "Steps") else ",~r", "tickMinStep": 1},
    }
    y = {
        "field": "value",
        "type": "quantitative",
        "title": _title(about, runs),
        "axis": {"format": ".0%" if "accuracy" in about.column else ".3~g"},
        "scale": {"type": "log", "nice": False} if look.log_y else {"zero": False, "padding": 8},
    }
    tooltip = [
        {"field": "run", "title": "Run"},
        {"field": "epoch", "type": "quantitative", "format": ".2~f", "title": "Epoch"},
        {"field": "value", "type": "quantitative", "format": about.format, "title": about.title},
    ]
    encoding = {"x": x, "y": y, "color": colour, "tooltip": tooltip}
    return {
        # The names take their room from it, on a narrow screen one below the other.
        "height": 290 + 22 * min(len(names), 10),
        "layer": [
            {
                "params": [{"name": "zoom", "select": "interval", "bind": "scales"}],
                "transform": [{"filter": "datum.kind == 'moment'"}],
                "mark": {"type": "line", "strokeWidth": 1, "opacity": 0.4, "aria": False},
                "encoding": {"x": x, "y": y, "color": colour},
            },
            {
                "transform": [{"filter": "datum.kind == 'epoch' || datum.kind == 'smoothed' || datum.kind == 'mean'"}],
                "mark": {"type": "line", "strokeWidth": 2.5},
                "encoding": {**encoding, "strokeDash": dash},
            },
            # A single epoch is a point, which a line alone would not show.
            {
                "transform": [{"filter": "datum.kind == 'epoch'"}],
                "mark": {"type": "point", "filled": True, "size": 30, "opacity": 1, "aria": False},
                "encoding": encoding,
            },
            {
                "transform": [{"filter": "datum.kind == 'best'"}],
                "mark": {"type": "line", "interpolate": "step-after", "strokeWidth": 1.5, "aria": False},
                "encoding": {**encoding, "strokeDash": dash},
            },
            {
                "transform": [{"filter": "datum.kind == 'mean'"}],
                "mark": {"type": "area", "opacity": 0.2, "aria": False},
                "encoding": {
                    "x": x,
                    "y": {**y, "field": "low"},
                    "y2": {"field": "high"},
                    "color": colour,
                },
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
            # The run that comes with the program names no place where they lie.
            said["data"] = said["data"] or (start.data_name if start else UNKNOWN)
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
    differs = known.nunique(axis=1) > 1
    return pd.concat([table[differs], table[~differs]]) if every else table[differs]


def seed_table(groups: Sequence[Sequence[Run]], tests: Mapping[str, tuple[float, str]]) -> pd.DataFrame:
    """A row for each training that was repeated with other seeds: mean and spread in per cent.

    Args:
        tests: As for `run_rows`.
    """
    rows = []
    for group in groups:
        epochs = [run.epochs for run in group]
        figures = {
            "best": [run.best.validation_accuracy for run in group if run.best],
            "last": [done[-1].validation_accuracy for done in epochs if done],
            "test": [tests[run.id][0] for run in group if run.id in tests],
        }
        row: dict[str, Any] = {
            "training": run_name(group[0]).rpartition(" · ")[0],
            "seeds": ", ".join(map(str, sorted(config.seed for run in group if (config := settings_of(run))))),
            "runs": len(group),
        }
        for name, values in figures.items():
            found = spread(values)
            row[f"{name}_mean"] = None if found.mean is None else 100 * found.mean
            row[f"{name}_deviation"] = None if found.deviation is None else 100 * found.deviation
            row[f"{name}_range"] = f"{min(values):.2%} – {max(values):.2%} ({len(values)})" if values else None
        rows.append(row)
    return pd.DataFrame(rows)


def judged_alike(runs: Sequence[Run]) -> bool:
    """Whether the runs validate on the same images; only then do their accuracies compare."""
    held_out = set()
    for run in runs:
        if run.start:
            known = settings_of(run)
            fold = (known.folds, known.fold if known.folds else 0) if known else None
            held_out.add((run.start.data_fingerprint, run.start.classes, run.start.validation_images, fold))
    return len(held_out) <= 1


def ended_how(run: Run) -> str:
    """Why there is nothing of the run to draw."""
    end = next((event for event in reversed(run.events()) if isinstance(event, End)), None)
    return end.message if end else f"It is {run.state}."


def _text(value: Any) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    return f"{value:g}" if isinstance(value, float) else str(value)
