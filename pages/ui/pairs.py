"""Two runs on the same test images: which is better and how sure that is, by class, and the images they differ on."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pandas as pd
import streamlit as st

from cifar_core import job
from cifar_core.comparing import Comparison, holm
from cifar_core.datasets import DataInfo
from cifar_core.runs import ALIVE, Run, description
from cifar_core.sources import DataError
from pages import ui
from pages.ui import charts, loaders, reference, selecting

PICTURES = 24  # Shown at once.

WAYS = {"Only A is right": "only_first", "Only B is right": "only_second", "Both are wrong": "both_wrong"}


def kept(run: Run) -> loaders.Stored | None:
    """The evaluation a run is judged by: on its own data set before any other, of its best weights before others, and
    of the same ones the latest."""
    own = run.start.data_fingerprint if run.start else ""
    return min(
        loaders.stored_evaluations(run),
        key=lambda stored: (stored.fingerprint != own, stored.checkpoint != "best"),
        default=None,
    )


@st.cache_resource(max_entries=32, show_spinner=False)
def compared(first: Path, first_version: int, second: Path, second_version: int) -> Comparison:
    """Two kept evaluations beside each other; shared and read-only.

    Raises:
        ValueError: They are of different images.
    """
    return Comparison(loaders.evaluation(first, first_version), loaders.evaluation(second, second_version))


def pair(first: loaders.Stored, second: loaders.Stored) -> Comparison:
    """As `compared`."""
    return compared(first.path, loaders.version(first.path), second.path, loaders.version(second.path))


def head_to_head(runs: Sequence[Run]) -> None:
    """The tests, the classes and the galleries of two of the runs, which are chosen here."""
    st.subheader("Head to head", anchor=False)
    if len(runs) < 2:
        st.caption("Choose two or more runs to test which one is better.")
        return
    names = {run.id: charts.run_name(run) for run in runs}
    with st.container(horizontal=True):
        first = _choice("A", "run_a", names, 0)
        second = _choice("B", "run_b", names, 1)
    if first == second:
        st.caption("A and B are the same run; choose another one.")
        return
    chosen = {run.id: run for run in runs}
    stored = {name: _evaluated(chosen[name]) for name in (first, second)}
    one, two = stored[first], stored[second]
    if one is None or two is None:
        return
    try:
        comparison = pair(one, two)
    except (ValueError, OSError) as error:
        st.warning(ui.plain(str(error)), icon=":material/balance:")
        return
    _verdict(comparison, one, two)
    if len(runs) > 2:
        _against(chosen, first, one)
    _classes(comparison)
    info = reference.tested_on(chosen[first])
    if info is None:
        return
    if not reference.exact(info):
        reference.pictures_missing("The very images of both runs are needed to show where they differ.", "pairs")
    elif (info.fingerprint, info.classes) == (comparison.first.facts["fingerprint"], comparison.first.classes):
        _galleries(comparison, info, names[first], names[second])


def _choice(label: str, key: str, names: dict[str, str], default: int) -> str:
    return st.selectbox(
        f"Run {label}",
        list(names),
        index=default,
        format_func=names.__getitem__,
        key=key,
        bind="query-params",
        width=420,
    )


def _evaluated(run: Run) -> loaders.Stored | None:
    """What is kept of a run, or the way to it."""
    if stored := kept(run):
        _renew(run, stored)
        return stored
    name = ui.plain(charts.run_name(run))
    if not run.checkpoints():
        st.info(f"{name} has no weights yet, so nothing can be tested.", icon=":material/info:")
        return None
    info = reference.tested_on(run)
    if info is None:
        return None
    if not reference.exact(info):
        st.caption(f"{name} can be evaluated where its images are; open them on the Data page.")
        return None
    st.caption(f"{name} has not been evaluated on the test split yet.")
    folder, task = job.evaluation_task(run, next(iter(run.checkpoints())), info)
    slower = " (slows its training a little)" if run.state in ALIVE else ""
    ui.background(folder, task, done=False, start=f"Evaluate {charts.run_name(run)}{slower}")
    return None


def _renew(run: Run, stored: loaders.Stored) -> None:
    """Where the weights of an evaluation have been replaced since, say so, with the way to one of the present ones."""
    path = run.checkpoints().get(stored.checkpoint)
    now = description(path).get("epoch") if path else None
    if now in (None, stored.epoch) or not (info := reference.tested_on(run)) or not reference.exact(info):
        return
    name = charts.run_name(run)
    st.warning(
        ui.plain(
            f"{name} is judged by its {stored.checkpoint} weights as they were after epoch {stored.epoch:.4g}; they "
            f"are now those of epoch {now:.4g}."
        ),
        icon=":material/history:",
    )
    folder, task = job.evaluation_task(run, stored.checkpoint, info)
    ui.background(folder, task, done=False, start=f"Evaluate the present weights of {name}")


def _verdict(comparison: Comparison, one: loaders.Stored, two: loaders.Stored) -> None:
    st.markdown(f"**{ui.plain(comparison.sentence())}**")
    low, high = comparison.interval
    test = comparison.test
    with st.container(horizontal=True):
        st.metric("Accuracy of A", f"{comparison.first.accuracy:.2%}")
        st.metric("Accuracy of B", f"{comparison.second.accuracy:.2%}")
        st.metric("B less A", f"{100 * comparison.difference:+.2f} points")
        st.metric(
            "95% interval",
            f"{100 * low:+.2f} to {100 * high:+.2f}",
            help="Paired bootstrap: the images drawn anew 10,000 times, each with the answers of both. It covers the "
            "chance in which images were drawn, not the chance in training; repeated seeds tell that.",
        )
        st.metric(
            "McNemar's p, exact",
            _p(test.exact),
            help="How often the images that only one of the two gets right would be shared out so unevenly if both "
            "erred equally often.",
        )
        st.metric(
            "McNemar's p, chi-squared",
            _p(test.approximate),
            help=f"The same from the statistic with continuity correction, {test.chi_squared:.2f} with one degree of "
            "freedom.",
        )
    said = [
        f"{label} is {_about(evaluation.facts)}"
        for label, evaluation in (("A", comparison.first), ("B", comparison.second))
    ]
    st.caption(
        ui.plain(
            f"{'; '.join(said)}. {comparison.first.facts['data']}, test split, "
            f"{comparison.first.scope()}. Only A is right on {test.only_first:,} "
            f"images, only B on {test.only_second:,}."
        )
    )


def _about(facts: dict[str, Any]) -> str:
    return f"run {facts.get('run', '–')}, {facts['checkpoint']} weights, after epoch {facts['epoch']:.4g}"


def _p(value: float) -> str:
    return "< 0.0001" if value < 0.0001 else f"{value:.4f}" if value < 0.1 else f"{value:.2f}"


def _against(runs: dict[str, Run], first: str, one: loaders.Stored) -> None:
    """All other runs beside A, in a table."""
    rows = []
    for name, run in runs.items():
        stored = kept(run) if name != first else None
        if stored is None:
            continue
        try:
            comparison = pair(one, stored)
        except (ValueError, OSError):
            continue
        low, high = comparison.interval
        rows.append(
            {
                "run": charts.run_name(run),
                "accuracy": 100 * comparison.second.accuracy,
                "difference": 100 * comparison.difference,
                "interval": f"{100 * low:+.2f} to {100 * high:+.2f}",
                "p": comparison.test.exact,
            }
        )
    if len(rows) < 2:
        return
    table = pd.DataFrame(rows)
    # In words, as no table format knows how to say that a number is too small to be written.
    table["holm"] = [_p(value) for value in holm(table["p"].tolist())]
    table["p"] = [_p(value) for value in table["p"]]
    number, text = st.column_config.NumberColumn, st.column_config.TextColumn
    st.markdown("**All beside A**")
    st.dataframe(
        table,
        hide_index=True,
        column_config={
            "run": text("Run", pinned=True),
            "accuracy": number("Test accuracy", format="%.2f%%"),
            "difference": number("Less A (points)", format="%+.2f"),
            "interval": text("95% interval"),
            "p": text("McNemar's p"),
            "holm": text("p among all", help="Raised so that all tests together err as seldom as one (Holm)."),
        },
        height="content",
        alt="Each evaluated run beside run A: difference of the test accuracy, interval and p-value",
    )


def _classes(comparison: Comparison) -> None:
    table = comparison.per_class()
    st.markdown("**By class**")
    shown = st.segmented_control(
        "Classes as",
        ["Chart", "Table"],
        key="pair_classes",
        default="Chart",
        required=True,
        bind="query-params",
        label_visibility="collapsed",
    )
    if shown == "Chart":
        furthest = table["difference"].abs().idxmax()
        st.vega_lite_chart(
            table.reset_index().assign(better=["B" if gap > 0 else "A" for gap in table["difference"]]),
            class_chart(list(table.index)),
            key="pair-chart",
            alt=f"Accuracy of B less that of A on each class, farthest apart on {furthest}",
        )
        st.caption(
            "Accuracy on the images of a class, B less A, with 95 % paired bootstrap intervals. An interval that "
            "crosses zero may be chance; among many classes one in twenty misses by chance as well."
        )
    else:
        percent = st.column_config.NumberColumn
        st.dataframe(
            table.assign(**{name: 100 * table[name] for name in ("first", "second", "difference", "low", "high")}),
            column_config={
                "class": st.column_config.TextColumn("Class", pinned=True),
                "first": percent("A", format="%.1f%%"),
                "second": percent("B", format="%.1f%%"),
                "difference": percent("B less A", format="%+.1f"),
                "low": percent("from", format="%+.1f", help="Of the 95 % interval, in points."),
                "high": percent("to", format="%+.1f", help="Of the 95 % interval, in points."),
                "images": percent("Images", format="localized"),
                "only_first": percent("Only A right", format="localized"),
                "only_second": percent("Only B right", format="localized"),
            },
            height="content" if len(table) <= 20 else "auto",
            alt="Accuracy of A and B on each class",
        )
    st.download_button(
        "Classes as CSV",
        table.to_csv().encode(),
        "compared-classes.csv",
        "text/csv",
        icon=":material/download:",
        on_click="ignore",
    )


def class_chart(classes: Sequence[str]) -> dict[str, Any]:
    """Bars from zero to the difference on each class, with their intervals; the same for the same classes."""
    names = {
        "field": "class",
        "type": "nominal",
        "title": None,
        "sort": list(classes),
        "axis": {"labelLimit": 140},
    }
    return {
        "height": {"step": 22},
        "encoding": {
            "y": names,
            "tooltip": [
                {"field": "class", "title": "Class"},
                {"field": "first", "title": "A", "format": ".1%"},
                {"field": "second", "title": "B", "format": ".1%"},
                {"field": "difference", "title": "B less A", "format": "+.1%"},
                {"field": "low", "title": "from", "format": "+.1%"},
                {"field": "high", "title": "to", "format": "+.1%"},
                {"field": "images", "title": "Images", "format": ","},
            ],
        },
        "layer": [
            {
                "mark": {"type": "bar", "height": 12},
                "encoding": {
                    "x": {
                        "field": "difference",
                        "type": "quantitative",
                        "title": "B less A (← A better, B better →)",
                        "axis": {"format": "+.0%", "tickCount": 6},
                    },
                    "color": {
                        "field": "better",
                        "type": "nominal",
                        "title": "Better",
                        "scale": {"domain": ["A", "B"], "range": [charts.CLASS_COLOURS[0], charts.CLASS_COLOURS[1]]},
                        "legend": {"orient": "top"},
                    },
                },
            },
            {
                "mark": {"type": "rule", "strokeWidth": 1.5, "color": "#808080"},
                "encoding": {"x": {"field": "low", "type": "quantitative"}, "x2": {"field": "high"}},
            },
        ],
    }


def _galleries(comparison: Comparison, info: DataInfo, first: str, second: str) -> None:
    st.markdown("**Images they differ on**")
    way = st.segmented_control(
        "Images", list(WAYS), key="pair_images", bind="query-params", label_visibility="collapsed"
    )
    if way is None:
        counts = [f"{name}: {len(comparison.group(group)):,}" for name, group in WAYS.items()]
        st.caption(f"Choose one to see its images. {'; '.join(counts)}.")
        return
    images = comparison.group(WAYS[way])
    if not len(images):
        st.caption("There is no such image.")
        return
    try:
        test = loaders.test_split(info.id, info.fingerprint, ui.place().cache, info.classes)
    except DataError as error:
        st.error(ui.plain(str(error)))
        return
    pages = -(-len(images) // PICTURES)
    page = min(st.pagination(pages, key=f"pair-page-{WAYS[way]}"), pages) if pages > 1 else 1
    shown = images[(page - 1) * PICTURES : page * PICTURES]
    one, two = comparison.first, comparison.second
    captions, alts = [], []
    for i in shown:
        truth = one.classes[one.labels[i]]
        said = [
            f"{label}: {charts.brief(each.classes[each.predictions[i]], 12)} {charts.percent(each.confidences[i])}"
            for label, each in (("A", one), ("B", two))
        ]
        captions.append(f"#{i} {charts.brief(truth, 14)} · {' · '.join(said)}")
        alts.append(f"Test image {i}: {truth}; {'; '.join(said)}")
    order = (
        "those first on which both give the true class the least probability"
        if WAYS[way] == "both_wrong"
        else ("those first on which the probabilities of the true class differ most")
    )
    st.caption(
        f"{len(shown):,} of {len(images):,} test images, {order}. Below each: its number in the test split, its class, "
        "and what A and B predict with which probability."
    )
    ui.gallery(test.images[shown], captions, alts, size=92)
    about = f"{way.lower()}: A is {first}, B is {second}"
    selecting.offer(info, "test", images, about, key=f"pair-select-{WAYS[way]}")
