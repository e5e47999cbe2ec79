"""One HTML file that tells all about a run, or about several beside each other, and needs nothing else to be read.

Figures are Plotly's, written as plain data; its JavaScript, which the dashboard has installed anyway, is put into the
file once. Tables can be had as CSV from the page itself.
"""

from __future__ import annotations

import base64
import dataclasses
import html
import importlib.util
import json
import math
import shlex
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from cifar_core.comparing import Comparison, holm, same_but_for_the_seed
from cifar_core.config import FIELDS, TrainConfig, label
from cifar_core.evaluation import Evaluation, EvaluationError
from cifar_core.events import duration
from cifar_core.runs import Run, RunError
from cifar_core.series import spread

COLOURS = ("#0072B2", "#E69F00", "#009E73", "#CC79A7", "#56B4E9", "#D55E00", "#8C6BB1", "#7F7F7F", "#B5A300", "#A0522D")
DASHES = ("solid", "dash", "dot", "dashdot", "longdash", "longdashdot")

PAIRS = 15
"""Most confused pairs that are listed."""

MOST_CLASSES = 40
"""Of a confusion matrix that is drawn."""

STYLE = """
:root{color-scheme:light dark;--line:#8884;--soft:#8881}
body{font:15px/1.5 system-ui,sans-serif;max-width:1080px;margin:0 auto;padding:16px}
h1{font-size:1.6rem;margin:.2em 0}
h2{font-size:1.2rem;margin:2em 0 .4em;border-top:1px solid var(--line);padding-top:1em}
p.facts{font-size:.85rem;opacity:.8;margin:.3em 0 1em}
.figure{min-height:240px}.wide{overflow-x:auto}
table{border-collapse:collapse;font-size:.85rem}
th,td{padding:3px 10px;border-bottom:1px solid var(--line);text-align:left}
tr>:first-child{min-width:9em}
td.n,th.n{text-align:right;font-variant-numeric:tabular-nums}thead th{background:var(--soft)}
pre{background:var(--soft);padding:10px;overflow-x:auto;border-radius:4px}
a.csv{font-size:.8rem}
@media print{.figure{break-inside:avoid}}
"""


@dataclass(frozen=True)
class Material:
    """What is known of a run when its report is written.

    Args:
        name: What the run is called.
        evaluation: Of its weights on the test split, if there is one.
    """

    run: Run
    name: str
    evaluation: Evaluation | None = None


def material(run: Run) -> Material:
    """A run with its name, or its model and when it began, and the evaluation that is kept of it: on its own data set
    before any other, of its best weights before others, and of the same ones the latest."""
    if run.read_only:
        name = f"Reference · {run.model}"
    else:
        day, clock, model, tail = run.id.split("-", 3)
        name = f"{run.about.name or f'{model} · {day[:4]}-{day[4:6]}-{day[6:]} {clock[:2]}:{clock[2:4]}'} · {tail}"
    found = []
    folders = dict.fromkeys((run.tasks, run.path / "tasks"))
    for path in (path for folder in folders for path in folder.glob("evaluate-*/evaluation.npz")):
        # A damaged one is as good as none.
        with suppress(OSError, EvaluationError):
            evaluation = Evaluation.load(path)
            facts = evaluation.facts
            own = run.start is not None and facts.get("fingerprint") == run.start.data_fingerprint
            order = (own, facts.get("checkpoint") == "best", facts.get("epoch", 0.0), path.stat().st_mtime_ns)
            found.append((order, evaluation))
    return Material(run, name, max(found, key=lambda pair: pair[0])[1] if found else None)


@dataclass
class _Page:
    """The parts of the file in the order in which they are read."""

    title: str
    parts: list[str] = field(default_factory=list)
    figures: list[dict[str, Any]] = field(default_factory=list)

    def heading(self, text: str) -> None:
        self.parts.append(f"<h2>{html.escape(text)}</h2>")

    def text(self, text: str) -> None:
        self.parts.append(f"<p>{html.escape(text)}</p>")

    def facts(self, text: str) -> None:
        self.parts.append(f'<p class="facts">{html.escape(text)}</p>')

    def code(self, lines: Sequence[str]) -> None:
        self.parts.append(f"<pre>{html.escape(chr(10).join(lines))}</pre>")

    def figure(self, traces: Sequence[dict[str, Any]], layout: dict[str, Any], alt: str, facts: str) -> None:
        """A figure with what a screen reader says of it, and what it is of."""
        place = len(self.figures)
        self.figures.append({"data": list(traces), "layout": layout})
        self.parts.append(
            f'<div class="figure" id="figure-{place}" role="img" aria-label="{html.escape(alt, quote=True)}"></div>'
        )
        self.facts(facts)

    def table(self, table: pd.DataFrame, name: str, formats: Mapping[str, str] | None = None) -> None:
        """A table, and a link that holds it as CSV; the index is its first column."""
        shown = table.reset_index()
        formats = formats or {}
        numeric = {column for column in shown if pd.api.types.is_numeric_dtype(shown[column])}

        def cell(column: Any, value: Any) -> str:
            if value is None or (isinstance(value, float) and math.isnan(value)):
                text = "–"
            else:
                text = _written(value, formats.get(column, ""))
            return f"<td{' class=n' if column in numeric else ''}>{html.escape(text)}</td>"

        head = "".join(f"<th{' class=n' if c in numeric else ''}>{html.escape(str(c))}</th>" for c in shown)
        rows = "".join(
            f"<tr>{''.join(cell(column, value) for column, value in zip(shown, row, strict=True))}</tr>"
            for row in shown.itertuples(index=False, name=None)
        )
        content = base64.b64encode(table.to_csv().encode()).decode()
        self.parts.append(
            f'<div class="wide"><table><thead><tr>{head}</tr></thead><tbody>{rows}</tbody></table></div>'
            f'<a class="csv" download="{html.escape(name, quote=True)}.csv" href="data:text/csv;base64,{content}">'
            f"This table as CSV</a>"
        )

    def written(self) -> str:
        # "</" inside a script would end it.
        figures = json.dumps(self.figures, allow_nan=False).replace("</", "<\\/")
        draw = (
            "const dark=matchMedia('(prefers-color-scheme: dark)').matches,ink=dark?'#EEE':'#222';"
            f"const figures={figures};"
            "figures.forEach((f,i)=>Plotly.newPlot('figure-'+i,f.data,Object.assign({paper_bgcolor:'rgba(0,0,0,0)',"
            "plot_bgcolor:'rgba(0,0,0,0)',font:{color:ink}},f.layout),{responsive:true,displaylogo:false}));"
        )
        script = f"<script>{plotly_js()}</script><script>{draw}</script>" if self.figures else ""
        return (
            '<!doctype html><html lang="en"><head><meta charset="utf-8">'
            '<meta name="viewport" content="width=device-width,initial-scale=1">'
            f"<title>{html.escape(self.title)}</title><style>{STYLE}</style></head><body>"
            f"<h1>{html.escape(self.title)}</h1>{''.join(self.parts)}{script}</body></html>"
        )


def _written(value: Any, form: str) -> str:
    if form == "p":
        return "< 0.0001" if value < 0.0001 else f"{value:.4f}"
    return format(value, form) if form else str(value)


def plotly_js() -> str:
    """Plotly's JavaScript as the installed package holds it, found without importing the package.

    Raises:
        ValueError: Plotly is not installed.
    """
    found = importlib.util.find_spec("plotly")
    path = Path(found.origin).parent / "package_data" / "plotly.min.js" if found and found.origin else None
    if path is None or not path.exists():
        raise ValueError("The figures of a report need Plotly; install it with pip install plotly.")
    return path.read_text(encoding="utf-8").replace("</script", "<\\/script")


def report(runs: Sequence[Run]) -> str:
    """The report of a run or, of several, of their comparison, as one HTML file.

    Raises:
        RunError: The settings of a run cannot be read.
        ValueError: There is no run to report on.
    """
    if not runs:
        raise ValueError("A report needs at least one run.")
    materials = [material(run) for run in runs]
    page = _run_page(materials[0]) if len(materials) == 1 else _comparison_page(materials)
    page.facts(f"Written by CIFAR Explorer on {time.strftime('%Y-%m-%d at %H:%M')}.")
    return page.written()


# One run -----------------------------------------------------------------------------------------------------------


def _run_page(of: Material) -> _Page:
    run, evaluation = of.run, of.evaluation
    config, best, start = run.settings, run.best, run.start
    page = _Page(f"Run {of.name}")
    end = run.last_end
    page.text(f"Run {run.id} is {run.state}. {end.message if end else ''}".strip())
    if run.about.note:
        page.text(run.about.note)
    if best:
        page.text(
            f"Best validation accuracy {best.validation_accuracy:.2%} after epoch {best.epoch}"
            + (f", on {start.validation_images:,} held-out images." if start else ".")
        )
    if evaluation:
        low, high = evaluation.accuracy_interval()
        page.text(
            f"Test accuracy {evaluation.accuracy:.2%} (95 % Wilson interval {low:.2%} to {high:.2%}); "
            f"{_evaluation_facts(evaluation)}."
        )
    else:
        page.text("It has not been evaluated on the test split yet, so nothing is said of test images.")
    page.heading("Training")
    _training_figures(page, [of])
    if evaluation:
        _evaluation_parts(page, evaluation)
    _settings_part(page, [of])
    _environment_part(page, [of])
    page.heading("How to repeat it")
    page.code(commands(run, config))
    return page


def _evaluation_facts(evaluation: Evaluation) -> str:
    facts = evaluation.facts
    return (
        f"run {facts.get('run', '–')}, {facts.get('checkpoint', '–')} weights after epoch "
        f"{facts.get('epoch', math.nan):.4g}, {facts.get('data', '–')}, {facts.get('split', 'test')} split, "
        f"{evaluation.scope()}"
    )


def _training_facts(material: Material) -> str:
    start = material.run.start
    if start is None:
        return f"Run {material.run.id}, which has not begun."
    return (
        f"Run {material.run.id}, {len(material.run.epochs)} epochs; {start.data_name}: {start.train_images:,} training "
        f"and {start.validation_images:,} validation images (cut from the training split)"
    )


def _layout(x: str, y: str, **more: Any) -> dict[str, Any]:
    axis = {"gridcolor": "rgba(128,128,128,.25)", "zeroline": False, "automargin": True}
    return {
        "margin": {"l": 60, "r": 20, "t": 20, "b": 50},
        "height": 360,
        "xaxis": {"title": {"text": x}, **axis, **more.pop("xaxis", {})},
        "yaxis": {"title": {"text": y}, **axis, **more.pop("yaxis", {})},
        "legend": {"orientation": "h", "y": 1.02, "yanchor": "bottom", "x": 0},
        "hovermode": "x unified",
        **more,
    }


def _line(name: str, x: Sequence[float], y: Sequence[Any], place: int, dash: str) -> dict[str, Any]:
    return {
        "type": "scatter",
        "mode": "lines+markers",
        "name": _escaped(name),
        "x": list(x),
        "y": [value if value is not None and math.isfinite(value) else None for value in y],
        "line": {"color": COLOURS[place % len(COLOURS)], "dash": dash, "width": 2},
        "marker": {"size": 4},
    }


def _escaped(name: str) -> str:
    """Plotly reads its texts as HTML."""
    return html.escape(name, quote=False)


def _training_figures(page: _Page, materials: Sequence[Material]) -> None:
    single = len(materials) == 1
    facts = ". ".join(_training_facts(material) for material in materials)
    for what, title, percent in (("accuracy", "Accuracy", True), ("loss", "Loss (cross-entropy)", False)):
        traces = []
        for place, material in enumerate(materials):
            rows = [row for row in material.run.history() if row["whole_epoch"]]
            x = [row["epoch"] for row in rows]
            name = "" if single else f"{material.name} · "
            if not x:
                continue
            validation = [row[f"validation_{what}"] for row in rows]
            dash = "solid" if single else DASHES[place % len(DASHES)]
            traces.append(_line(f"{name}validation", x, validation, place, dash))
            if single:
                traces.append(
                    _line("training (augmented images)", x, [row[f"train_{what}"] for row in rows], 1, "dash")
                )
        if traces:
            layout = _layout("Epoch", title)
            layout["yaxis"]["tickformat"] = ".0%" if percent else ""
            page.figure(traces, layout, f"{title} by epoch", f"{title} after each epoch. {facts}.")
    if single:
        rows = [row for row in materials[0].run.history() if row["learning_rate"] is not None]
        if rows:
            line = _line("learning rate", [r["epoch"] for r in rows], [r["learning_rate"] for r in rows], 2, "solid")
            page.figure(
                [{**line, "mode": "lines"}],
                _layout("Epoch", "Learning rate", height=240),
                "Learning rate by epoch",
                f"Learning rate. {facts}.",
            )


def _evaluation_parts(page: _Page, evaluation: Evaluation) -> None:
    facts = _evaluation_facts(evaluation)
    page.heading("Test split")
    report_table, macro = evaluation.report(), evaluation.macro()
    page.text(
        f"Macro precision {macro['precision']:.2%}, recall {macro['recall']:.2%}, F1 {macro['f1']:.2%}; mean "
        f"cross-entropy {evaluation.loss:.4f}."
    )
    names = [_escaped(name) for name in evaluation.classes]
    shares, counts = evaluation.confusion_shares(), evaluation.confusion()
    if len(names) <= MOST_CLASSES:
        written = [[f"{count:,}" if count else "" for count in row] for row in counts.tolist()]
        page.figure(
            [
                {
                    "type": "heatmap",
                    "x": names,
                    "y": names,
                    "z": np.nan_to_num(shares).round(5).tolist(),
                    "text": written,
                    "texttemplate": "%{text}" if len(names) <= 20 else "",
                    "colorscale": [[0, "#FFFFFF"], [1, COLOURS[0]]],
                    "zmin": 0,
                    "zmax": 1,
                    "colorbar": {"tickformat": ".0%", "title": {"text": "of the class"}},
                    "hovertemplate": "true %{y}<br>predicted %{x}<br>%{text} images, %{z:.1%}<extra></extra>",
                }
            ],
            _layout(
                "Predicted class",
                "True class",
                height=max(380, min(760, 120 + 34 * len(names))),
                hovermode="closest",
                # Names of classes that are numbers are names all the same.
                yaxis={
                    "type": "category",
                    "autorange": "reversed",
                    "title": {"text": "True class"},
                    "automargin": True,
                },
                xaxis={"type": "category", "title": {"text": "Predicted class"}, "automargin": True},
            ),
            f"Confusion matrix, {evaluation.accuracy:.1%} on the diagonal",
            f"Confusion matrix: numbers of images, shaded by the share of the true class; {facts}.",
        )
    page.figure(
        [
            {
                "type": "bar",
                "name": name,
                "x": names,
                "y": report_table[name].round(5).tolist(),
                "marker": {"color": COLOURS[place], "pattern": {"shape": ("", "/", ".")[place]}},
            }
            for place, name in enumerate(("precision", "recall", "f1"))
        ],
        _layout(
            "Class",
            "Share",
            barmode="group",
            xaxis={"type": "category", "title": {"text": "Class"}},
            yaxis={"tickformat": ".0%", "title": {"text": "Share"}},
        ),
        f"Precision, recall and F1 of each class, lowest F1 for {report_table['f1'].idxmin()}",
        f"Precision, recall and F1 by class; {facts}.",
    )
    sure = np.linspace(0, 1, 21)
    page.figure(
        [
            {
                "type": "bar",
                "name": name,
                "x": ((sure[1:] + sure[:-1]) / 2).round(4).tolist(),
                "y": np.histogram(evaluation.confidences[which], sure)[0].tolist(),
                "marker": {"color": COLOURS[place], "pattern": {"shape": ("", "/")[place]}},
            }
            for place, (name, which) in enumerate((("right", evaluation.correct), ("wrong", ~evaluation.correct)))
        ],
        _layout("Probability of the predicted class", "Images", barmode="stack"),
        "How sure the predictions are, right and wrong ones",
        f"Probability of the predicted class, in bins of 5 %; {facts}.",
    )
    shown = report_table.rename(columns={"f1": "F1"})
    page.table(shown, "classes", {"precision": ".2%", "recall": ".2%", "F1": ".2%", "images": ","})
    page.heading("Most confused pairs")
    pairs = evaluation.most_confused(PAIRS).set_index("true")
    if len(pairs):
        page.table(pairs, "confused", {"share_of_true": ".2%", "images": ","})
        page.facts(f"Of {facts}.")
    else:
        page.text("None: all images are predicted correctly.")


def _settings_part(page: _Page, materials: Sequence[Material]) -> None:
    columns, defaults = {}, TrainConfig()
    for material in materials:
        config = material.run.settings
        columns[material.name] = {
            label(name): _said(getattr(config, name)) if config.used(name) else "–" for name in FIELDS
        }
        # The run that comes with the program names no place where they lie.
        if not config.data and material.run.start:
            columns[material.name][label("data")] = material.run.start.data_name
    table = pd.DataFrame(columns)
    table.index.name = "setting"
    if len(materials) == 1:
        page.heading("Settings")
        table.columns = ["value"]
        table["default"] = [_said(getattr(defaults, name)) for name in FIELDS]
        page.table(table, "settings")
        changes = materials[0].run.changes
        if changes:
            page.text("Changed while it trained:")
            page.table(
                pd.DataFrame(
                    [
                        {"epoch": round(change.epoch, 3), "step": change.step, "values": json.dumps(change.values)}
                        for change in changes
                    ]
                ).set_index("epoch"),
                "changes",
            )
        return
    page.heading("Settings, those that differ first")
    differs = table.nunique(axis=1) > 1
    page.table(pd.concat([table[differs], table[~differs]]), "settings")
    page.facts(f"{int(differs.sum())} of {len(table)} settings differ; – stands for one without effect.")


def _environment_part(page: _Page, materials: Sequence[Material]) -> None:
    page.heading("Environment")
    columns = {}
    for material in materials:
        run, start = material.run, material.run.start
        epochs = run.epochs
        columns[material.name] = {
            "run": run.id,
            **({} if start is None else _environment(start)),
            "training time": duration(epochs[-1].seconds) if epochs else "–",
            "training images per second": f"{epochs[-1].images_per_second:,.0f}" if epochs else "–",
            "forked from": "{} ({})".format(*run.parent) if run.parent else "–",
        }
    table = pd.DataFrame(columns)
    table.index.name = "fact"
    page.table(table.rename(columns={materials[0].name: "value"}) if len(materials) == 1 else table, "environment")


def _environment(start: Any) -> dict[str, str]:
    return {
        "data set": start.data_name,
        "fingerprint of the data": start.data_fingerprint,
        "classes": ", ".join(start.classes),
        "training images": f"{start.train_images:,}",
        "validation images": f"{start.validation_images:,}",
        "parameters": f"{start.parameters:,}",
        "device": start.device,
        "number format": start.precision,
        "why": start.compute_reason,
        "processes": str(start.processes),
        **{f"version of {name}": version for name, version in start.versions.items()},
    }


def commands(run: Run, config: TrainConfig) -> list[str]:
    """What to type to train the same again and to measure it; settings that are as by default, or of a fork as in its
    parent, are left out."""
    where = (
        ""
        if run.root == Path(__file__).resolve().parent.parent / "runs" or run.read_only
        else f" --runs {shlex.quote(str(run.root))}"
    )
    words = [f"python -m cifar_core train{where}"]
    inherited = run.settings_inherited if run.parent else None
    if run.parent:
        words.append(f"--fork {run.parent[0]} --checkpoint {run.parent[1]}")
    elif not config.data:
        words.append("--data PATH")
    base = inherited or TrainConfig()
    for name in FIELDS:
        value = getattr(config, name)
        if value == getattr(base, name) or not config.used(name):
            continue
        flag = name.replace("_", "-")
        if isinstance(value, bool):
            words.append(f"--{flag}" if value else f"--no-{flag}")
        elif value is not None:
            words.append(f"--{flag} {shlex.quote(str(value))}")
    said = [" \\\n    ".join(words)]
    if run.changes:
        said.append("# Settings were changed by hand while it trained; this makes the same changes at the same steps:")
        said.append(f"python -m cifar_core repeat {run.id}{where}")
    return [
        *said,
        f"python -m cifar_core evaluate {run.id}{where}",
        f"python -m cifar_core report {run.id}{where} --output report.html",
    ]


def _said(value: Any) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    if value in ("", None):
        return "–"
    return f"{value:g}" if isinstance(value, float) else str(value)


# Several runs ------------------------------------------------------------------------------------------------------


def _comparison_page(materials: Sequence[Material]) -> _Page:
    materials = _named_apart(materials)
    page = _Page(f"{len(materials)} runs compared")
    rows = {}
    for material in materials:
        run, evaluation = material.run, material.evaluation
        best, epochs = run.best, run.epochs
        rows[material.name] = {
            "state": run.state,
            "epochs": len(epochs),
            "best validation": best.validation_accuracy if best else math.nan,
            "best epoch": str(best.epoch) if best else "–",
            "test": evaluation.accuracy if evaluation else math.nan,
            "tested weights": f"{evaluation.facts.get('checkpoint')}, epoch {evaluation.facts.get('epoch'):.4g}"
            if evaluation
            else "–",
            "seconds": epochs[-1].seconds if epochs else math.nan,
        }
    table = pd.DataFrame.from_dict(rows, orient="index")
    table.index.name = "run"
    page.table(table, "runs", {"best validation": ".2%", "test": ".2%", "seconds": ",.0f"})
    page.heading("Training")
    _training_figures(page, materials)
    _pairs_part(page, materials)
    _seeds_part(page, materials)
    _settings_part(page, materials)
    _environment_part(page, materials)
    page.heading("How to repeat them")
    for material in materials:
        page.text(material.name)
        page.code(commands(material.run, material.run.settings))
    return page


def _named_apart(materials: Sequence[Material]) -> list[Material]:
    names = [material.name for material in materials]
    return [
        dataclasses.replace(material, name=f"{material.name} ({material.run.id})")
        if names.count(material.name) > 1
        else material
        for material in materials
    ]


def _pairs_part(page: _Page, materials: Sequence[Material]) -> None:
    known = [material for material in materials if material.evaluation]
    if len(known) < 2:
        return
    page.heading("On the same test images")
    first = known[0]
    rows, compared = [], []
    for other in known[1:]:
        assert first.evaluation
        assert other.evaluation
        try:
            both = Comparison(first.evaluation, other.evaluation)
        except ValueError as error:
            page.text(f"{other.name}: {error}")
            continue
        page.text(f"{other.name} beside {first.name}: {both.sentence(first.name, other.name)}")
        compared.append(both)
        low, high = both.interval
        rows.append(
            {
                "run": other.name,
                "difference (points)": 100 * both.difference,
                "from": 100 * low,
                "to": 100 * high,
                "McNemar's p (exact)": both.test.exact,
                "p (chi-squared)": both.test.approximate,
                "only the first right": both.test.only_first,
                "only this one right": both.test.only_second,
            }
        )
        if len(known) == 2:
            classes = both.per_class()
            page.figure(
                [
                    {
                        "type": "bar",
                        "orientation": "h",
                        "y": [_escaped(name) for name in classes.index],
                        "x": classes["difference"].round(5).tolist(),
                        "error_x": {
                            "type": "data",
                            "symmetric": False,
                            "array": (classes["high"] - classes["difference"]).round(5).tolist(),
                            "arrayminus": (classes["difference"] - classes["low"]).round(5).tolist(),
                            "color": "#808080",
                        },
                        "marker": {"color": COLOURS[0]},
                    }
                ],
                _layout(
                    "Difference of the accuracy",
                    "",
                    height=max(300, 80 + 26 * len(classes)),
                    xaxis={
                        "tickformat": "+.1%",
                        "title": {"text": f"{_escaped(other.name)} less {_escaped(first.name)}"},
                    },
                    yaxis={"type": "category", "autorange": "reversed", "automargin": True},
                ),
                "Difference of the accuracy by class",
                f"Accuracy by class of {other.name} less {first.name}, with 95 % paired bootstrap intervals; "
                f"{_evaluation_facts(other.evaluation)}, against {_evaluation_facts(first.evaluation)}.",
            )
            page.table(
                classes,
                "classes",
                {name: "+.2%" for name in ("difference", "low", "high")} | {"first": ".2%", "second": ".2%"},
            )
    if rows:
        if len(rows) > 1:
            for row, p in zip(rows, holm([each.test.exact for each in compared]), strict=True):
                row["p among all (Holm)"] = float(p)
        numbers = {name: "+.2f" for name in ("difference (points)", "from", "to")}
        page.table(
            pd.DataFrame(rows).set_index("run"),
            "pairs",
            {**numbers, "McNemar's p (exact)": "p", "p (chi-squared)": "p", "p among all (Holm)": "p"},
        )
        page.facts(
            f"Each beside {first.name}: {_evaluation_facts(known[0].evaluation)}."  # type: ignore[arg-type]
            " Intervals by paired bootstrap (10,000 resamples), p-values by McNemar's test."
        )


def _seeds_part(page: _Page, materials: Sequence[Material]) -> None:
    by_name = {material.name: material for material in materials}
    settings = {}
    for material in materials:
        try:
            settings[material.name] = material.run.settings
        except RunError:
            continue
    rows = []
    for group in same_but_for_the_seed(settings):
        best = [best.validation_accuracy for name in group if (best := by_name[name].run.best)]
        test = [e.accuracy for name in group if (e := by_name[name].evaluation)]
        for what, values in (("best validation", best), ("test", test)):
            found = spread(values)
            if found.mean is not None:
                rows.append(
                    {
                        "training": group[0],
                        "accuracy": what,
                        "runs": len(values),
                        "mean": found.mean,
                        "deviation": math.nan if found.deviation is None else found.deviation,
                        "lowest": min(values),
                        "highest": max(values),
                    }
                )
    if rows:
        page.heading("Repeated seeds")
        percents = dict.fromkeys(("mean", "deviation", "lowest", "highest"), ".2%")
        page.table(pd.DataFrame(rows).set_index("training"), "seeds", percents)
        page.facts("Runs that differ in nothing but the seed; standard deviation with n - 1.")
