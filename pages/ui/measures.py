"""Figures of the Evaluate page beyond accuracy: averages with intervals, curves against a threshold, calibration."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
import streamlit as st

from cifar_core.calibration import (
    confidence_histogram,
    fitted_temperature,
    kept_above,
    negative_log_likelihood,
    reliability,
)
from cifar_core.curves import OneAgainstRest, macro_auc, macro_average_precision, one_against_rest
from cifar_core.evaluation import Evaluation, softmax
from cifar_core.logits import LogitsError
from pages import ui
from pages.ui import looked
from pages.ui.charts import CLASS_COLOURS
from pages.ui.looked import Looked

CURVE_POINTS = 120
"""Of one curve; more cannot be told apart on a screen."""

ALL, CHOSEN, AT = "the other classes", "chosen class", "threshold"
BLUE, ORANGE = CLASS_COLOURS[0], CLASS_COLOURS[5]


def show(subject: Looked) -> None:
    """All figures and curves of the answers."""
    figures(subject)
    curves(subject)
    calibration(subject)


def figures(subject: Looked) -> None:
    """Accuracy, top-k and averages with their intervals."""
    evaluation = subject.evaluation
    st.subheader("Figures", anchor=False)
    bounds = evaluation.bootstrap()
    macro, weighted = evaluation.macro(), evaluation.weighted()
    wilson = evaluation.accuracy_interval()
    rows: list[tuple[str, float, float | None, float | None, str]] = [
        ("Accuracy", evaluation.accuracy, *bounds.loc["accuracy"], "bootstrap"),
        ("Accuracy", evaluation.accuracy, *wilson, "Wilson"),
    ]
    ks = [k for k in (2, 3, 5) if k < len(evaluation.classes)]
    rows += [(f"Top-{k} accuracy", evaluation.top_k(k), None, None, "") for k in ks]
    for kind, values in (("Macro", macro), ("Weighted", weighted)):
        for name, value in values.items():
            label = f"{kind} {name if name != 'f1' else 'F1'}"
            rows.append((label, value, *bounds.loc[f"{kind.lower()} {name}"], "bootstrap"))
    table = pd.DataFrame(rows, columns=["figure", "value", "low", "high", "interval"])
    st.dataframe(
        table.assign(**{name: 100 * table[name].astype(float) for name in ("value", "low", "high")}),
        hide_index=True,
        placeholder="–",
        column_config={
            "figure": "Figure",
            "value": st.column_config.NumberColumn("Value", format="%.2f%%"),
            "low": st.column_config.NumberColumn("95% from", format="%.2f%%"),
            "high": st.column_config.NumberColumn("to", format="%.2f%%"),
            "interval": "Interval by",
        },
        height="content",
        alt="Accuracy, top-k accuracy and mean precision, recall and F1 with 95 % intervals",
    )
    st.caption(
        "Macro means give every class the same weight, weighted ones every image. The intervals cover the chance in "
        "which images were drawn, not the chance in training: the bootstrap draws 2,000 samples of as many images from "
        "these, with replacement; Wilson's is a formula. " + ui.plain(subject.about())
    )


@st.cache_resource(max_entries=4, show_spinner=False)
def _curves(key: str, _evaluation: Evaluation) -> list[OneAgainstRest]:
    return [one_against_rest(_evaluation, place) for place in range(len(_evaluation.classes))]


def _key(subject: Looked) -> str:
    """Stands for the answers in caches: two with the same words and the same figures are the same."""
    evaluation = subject.evaluation
    return f"{subject.about()} {evaluation.loss!r} {evaluation.accuracy!r} {float(evaluation.margins.sum())!r}"


def curves(subject: Looked) -> None:
    """ROC and precision-recall curves of each class against the rest, with a threshold on both."""
    st.subheader("One class against the rest", anchor=False)
    evaluation = subject.evaluation
    found = _curves(_key(subject), evaluation)
    _curves_at_threshold(subject, found)
    areas = pd.DataFrame(
        {
            "class": evaluation.classes,
            "auc": [curve.auc for curve in found],
            "average precision": [curve.average_precision for curve in found],
            "images": [curve.positives for curve in found],
        }
    )
    with st.expander("Areas under the curves of every class"):
        st.dataframe(
            areas,
            hide_index=True,
            column_config={
                "class": st.column_config.TextColumn("Class", pinned=True),
                "auc": st.column_config.NumberColumn("Area under ROC", format="%.4f"),
                "average precision": st.column_config.NumberColumn("Average precision", format="%.4f"),
                "images": st.column_config.NumberColumn("Images", format="localized"),
            },
            height="content" if len(areas) <= 20 else "auto",
            alt="Area under the ROC curve and average precision of each class",
        )


@st.fragment
def _curves_at_threshold(subject: Looked, found: list[OneAgainstRest]) -> None:
    evaluation = subject.evaluation
    with st.container(horizontal=True, vertical_alignment="bottom"):
        name = st.selectbox("Class", evaluation.classes, key="curve_class", bind="query-params", width=240)
        threshold = st.slider(
            "Threshold",
            0.0,
            1.0,
            0.5,
            0.01,
            key="threshold",
            bind="query-params",
            width=320,
            help="An image is said to be of the class where its probability of it is at least this.",
        )
    place = evaluation.classes.index(name)
    curve = found[place]
    if not curve.positives or not curve.negatives:
        st.info(ui.plain(f"There are no images of {name}, or of nothing else, so that there is no curve."))
        return
    at = curve.place(threshold)
    hits, alarms = int(curve.hits[at]), int(curve.false_alarms[at])
    rows = curve_rows(found, evaluation.classes, place, threshold)
    left, right = st.columns(2, gap="large")
    for column, chart, title, alt in (
        (left, ROC, "ROC", f"ROC curve of {name}, area {curve.auc:.3f}"),
        (right, PRECISION_RECALL, "Precision and recall", f"Precision-recall curve of {name}"),
    ):
        with column:
            st.markdown(f"**{title}**")
            st.vega_lite_chart(rows, chart, key=f"curve-{title}", alt=f"{alt}; the threshold {threshold:.2f} is marked")
    st.markdown(
        ui.plain(
            f"At {threshold:.2f}, {hits + alarms:,} images are taken for {name}: {hits:,} of the {curve.positives:,} "
            f"that are (recall {curve.recall[at]:.1%}), and {alarms:,} of the {curve.negatives:,} others (false "
            f"positive rate {curve.false_positive_rate[at]:.2%}); precision "
            + (f"{curve.precision[at]:.1%}." if hits + alarms else "–, as none is taken.")
        )
    )
    st.caption(
        ui.plain(
            f"Area under the ROC curve: {name} {curve.auc:.4f}, mean of all classes (macro) {macro_auc(found):.4f}. "
            f"Average precision: {curve.average_precision:.4f}, mean {macro_average_precision(found):.4f}. Grey: "
            f"{f'the first {OTHERS}' if len(found) > OTHERS + 1 else 'the'} other classes. {subject.about()}"
        )
    )


OTHERS = 20
"""Curves of other classes that are drawn."""


def curve_rows(found: list[OneAgainstRest], classes: tuple[str, ...], place: int, threshold: float) -> pd.DataFrame:
    """The curves as the rows of `ROC` and `PRECISION_RECALL`: the chosen class last, then its threshold."""
    parts = []
    order = [*[k for k in range(len(found)) if k != place][:OTHERS], place]
    for k in order:
        curve = found[k]
        if not curve.positives or not curve.negatives:
            continue
        chosen = curve.thinned(CURVE_POINTS if k == place else CURVE_POINTS // 2)
        parts.append(_points(curve, chosen, classes[k], CHOSEN if k == place else ALL))
    at = np.array([found[place].place(threshold)])
    parts.append(_points(found[place], at, classes[place], AT).assign(threshold=threshold))
    return pd.concat(parts, ignore_index=True)


def _points(curve: OneAgainstRest, chosen: Any, name: str, what: str) -> pd.DataFrame:
    return pd.DataFrame(
        {
            "class": name,
            "what": what,
            "order": np.arange(len(chosen)),
            "recall": curve.recall[chosen].round(5),
            "false positive rate": curve.false_positive_rate[chosen].round(5),
            "precision": curve.precision[chosen].round(5),
            "threshold": np.minimum(curve.thresholds[chosen], 1).round(5),
        }
    )


def _against(x: str, y: str) -> dict[str, Any]:
    def side(name: str) -> dict[str, Any]:
        return {
            "field": name,
            "type": "quantitative",
            "title": name.capitalize(),
            "scale": {"domain": [0, 1]},
            "axis": {"format": ".0%", "tickCount": 5},
        }

    tooltip = [
        {"field": "class", "title": "Class"},
        *({"field": name, "type": "quantitative", "format": ".2%", "title": name.capitalize()} for name in (x, y)),
        {"field": "threshold", "type": "quantitative", "format": ".3f", "title": "Threshold"},
    ]
    base = {"x": side(x), "y": side(y), "order": {"field": "order", "type": "quantitative"}, "tooltip": tooltip}
    return {
        "height": 300,
        "layer": [
            {
                "transform": [{"filter": {"field": "what", "equal": ALL}}],
                "mark": {"type": "line", "strokeWidth": 1, "color": "#808080", "opacity": 0.5},
                "encoding": {**base, "detail": {"field": "class"}},
            },
            {
                "transform": [{"filter": {"field": "what", "equal": CHOSEN}}],
                "mark": {"type": "line", "strokeWidth": 2.5, "color": BLUE},
                "encoding": base,
            },
            {
                "transform": [{"filter": {"field": "what", "equal": AT}}],
                "mark": {"type": "point", "filled": True, "size": 130, "color": ORANGE, "shape": "diamond"},
                "encoding": base,
            },
            {
                "transform": [{"filter": {"field": "what", "equal": AT}}],
                "mark": {"type": "text", "dx": 10, "dy": 14, "align": "left", "color": ORANGE},
                "encoding": {**base, "text": {"field": "threshold", "type": "quantitative", "format": ".2f"}},
            },
        ],
    }


ROC = _against("false positive rate", "recall")
PRECISION_RECALL = _against("recall", "precision")


def calibration(subject: Looked) -> None:
    """Whether confidences mean what they say, before and after one temperature; and what a threshold on them does."""
    st.subheader("Calibration", anchor=False)
    evaluation = subject.evaluation
    before = reliability(evaluation.confidences, evaluation.correct)
    temperature, why_not = _temperature(subject)
    rows = reliability_rows(evaluation, 1.0, "as it is")
    if temperature is not None:
        cooled = _cooled(evaluation, temperature)
        after = reliability(cooled.confidences, cooled.correct)
        rows = pd.concat([rows, reliability_rows(cooled, temperature, "with the temperature")], ignore_index=True)
    _threshold_on_confidence(subject, rows)
    if temperature is not None:
        values = np.log(np.maximum(evaluation.probabilities, np.finfo(np.float32).tiny))
        losses = [negative_log_likelihood(values, evaluation.labels, t) for t in (1.0, temperature)]
        st.markdown(
            f"Expected calibration error (ECE) **{before.ece:.2%}**, largest in a bin {before.largest_error:.1%}. With "
            f"the temperature **{temperature:.3f}**, fitted on {_fitted_on(subject):,} validation images of the same "
            f"epoch: ECE **{after.ece:.2%}**, cross-entropy {losses[0]:.4f} → {losses[1]:.4f}. Predictions stay as "
            "they are."
        )
        if subject.evaluation.facts["split"] == "validation":
            st.caption("These are the very images that the temperature was fitted on; look at the test images too.")
    else:
        st.markdown(
            f"Expected calibration error (ECE) **{before.ece:.2%}**, largest in a bin {before.largest_error:.1%}."
        )
        st.caption(why_not)
    st.caption(
        "15 bins of equal width, as in Guo et al. (2017). Logits are divided by the temperature before the softmax: "
        "above 1 makes answers less sure, below 1 surer. " + ui.plain(subject.about())
    )


def _temperature(subject: Looked) -> tuple[float | None, str]:
    """Fitted on the validation images of the same epoch, or why it cannot be."""
    epoch = subject.evaluation.facts["epoch"]
    try:
        there = looked.kept(subject.run, "validation")
    except LogitsError:
        return None, "No temperature: nothing is kept of what this run said of the validation images."
    places = np.flatnonzero(there.epochs == epoch)
    if not len(places):
        return None, (
            f"No temperature: of epoch {epoch:.4g}, nothing is kept of what this run said of the validation images."
        )
    if there.correct[places[0]].all():
        # The likelihood then only grows as the temperature falls.
        return None, (
            f"No temperature: all of the {len(there.images.labels):,} validation images are told right, which fits "
            "none."
        )
    return fitted_temperature(there.values[places[0]], there.images.labels), ""


def _fitted_on(subject: Looked) -> int:
    return len(looked.kept(subject.run, "validation").images.labels)


def _cooled(evaluation: Evaluation, temperature: float) -> Evaluation:
    values = np.log(np.maximum(evaluation.probabilities, np.finfo(np.float32).tiny))
    return Evaluation(evaluation.labels, softmax(values, temperature), evaluation.classes, evaluation.facts)


def reliability_rows(evaluation: Evaluation, temperature: float, what: str) -> pd.DataFrame:
    """A row for each bin with images."""
    found = reliability(evaluation.confidences, evaluation.correct)
    rows = pd.DataFrame(
        {"confidence": found.confidence, "accuracy": found.accuracy, "images": found.images, "what": what}
    )
    return rows[rows["images"] > 0]


@st.fragment
def _threshold_on_confidence(subject: Looked, rows: pd.DataFrame) -> None:
    evaluation = subject.evaluation
    threshold = st.slider(
        "Answer only where the confidence is at least",
        0.0,
        1.0,
        0.5,
        0.01,
        key="confident",
        bind="query-params",
        width=360,
        help="Below it the network says that it does not know.",
    )
    hits, misses = confidence_histogram(evaluation.confidences, evaluation.correct)
    edges = np.arange(len(hits)) / len(hits)
    bars = pd.concat(
        [
            pd.DataFrame({"from": edges, "to": edges + 1 / len(hits), "images": counts, "what": what})
            for counts, what in ((hits, "Right"), (misses, "Wrong"))
        ],
        ignore_index=True,
    )
    mark = pd.DataFrame({"threshold": [threshold], "what": ["threshold"]})
    left, right = st.columns(2, gap="large")
    with left:
        st.markdown("**Reliability**: accuracy of the predictions by their confidence")
        st.vega_lite_chart(
            pd.concat([rows, mark], ignore_index=True),
            RELIABILITY,
            key="reliability",
            alt="Accuracy by confidence in 15 bins; on the diagonal both are equal",
        )
    with right:
        st.markdown("**Confidence** of right and wrong predictions")
        st.vega_lite_chart(
            pd.concat([bars, mark], ignore_index=True),
            CONFIDENCES,
            key="confidences",
            alt="Number of right and of wrong predictions by confidence",
        )
    share, accuracy = kept_above(evaluation.confidences, evaluation.correct, threshold)
    if np.isnan(accuracy):
        st.markdown(f"No image is answered with a confidence of at least {threshold:.2f}.")
    else:
        st.markdown(
            f"At {threshold:.2f}, {share:.1%} of the {len(evaluation):,} images are answered, with an accuracy of "
            f"{accuracy:.2%} instead of {evaluation.accuracy:.2%}."
        )


_THRESHOLD = {
    "transform": [{"filter": "datum.what === 'threshold'"}],
    "mark": {"type": "rule", "color": ORANGE, "strokeWidth": 2, "strokeDash": [5, 3]},
    "encoding": {
        "x": {"field": "threshold", "type": "quantitative"},
        "tooltip": [{"field": "threshold", "type": "quantitative", "format": ".2f", "title": "Threshold"}],
    },
}

RELIABILITY: dict[str, Any] = {
    "height": 320,
    "layer": [
        {
            "data": {"values": [{"a": 0, "b": 0}, {"a": 1, "b": 1}]},
            "mark": {"type": "line", "strokeDash": [5, 4], "color": "#808080", "strokeWidth": 1.5},
            "encoding": {"x": {"field": "a", "type": "quantitative"}, "y": {"field": "b", "type": "quantitative"}},
        },
        {
            "transform": [{"filter": "datum.what !== 'threshold'"}],
            "mark": {"type": "line", "point": {"size": 60, "filled": True}},
            "encoding": {
                "x": {
                    "field": "confidence",
                    "type": "quantitative",
                    "title": "Confidence",
                    "scale": {"domain": [0, 1]},
                    "axis": {"format": ".0%", "tickCount": 5},
                },
                "y": {
                    "field": "accuracy",
                    "type": "quantitative",
                    "title": "Accuracy",
                    "scale": {"domain": [0, 1]},
                    "axis": {"format": ".0%", "tickCount": 5},
                },
                "color": {
                    "field": "what",
                    "type": "nominal",
                    "title": None,
                    "scale": {"domain": ["as it is", "with the temperature"], "range": [BLUE, CLASS_COLOURS[2]]},
                    "legend": {"orient": "top", "symbolType": "stroke", "symbolSize": 600},
                },
                "strokeDash": {
                    "field": "what",
                    "type": "nominal",
                    "title": None,
                    "scale": {"domain": ["as it is", "with the temperature"], "range": [[1, 0], [6, 3]]},
                    "legend": {"orient": "top", "symbolType": "stroke", "symbolSize": 600},
                },
                "tooltip": [
                    {"field": "what", "title": "Answers"},
                    {"field": "confidence", "type": "quantitative", "format": ".1%", "title": "Mean confidence"},
                    {"field": "accuracy", "type": "quantitative", "format": ".1%", "title": "Accuracy"},
                    {"field": "images", "type": "quantitative", "format": ",", "title": "Images"},
                ],
            },
        },
        _THRESHOLD,
    ],
}

CONFIDENCES: dict[str, Any] = {
    "height": 320,
    "layer": [
        {
            "transform": [{"filter": "datum.what !== 'threshold'"}],
            "mark": {"type": "bar", "stroke": "#808080", "strokeWidth": 0.5},
            "encoding": {
                "x": {
                    "field": "from",
                    "type": "quantitative",
                    "bin": {"binned": True},
                    "title": "Confidence",
                    "scale": {"domain": [0, 1]},
                    "axis": {"format": ".0%", "tickCount": 5},
                },
                "x2": {"field": "to"},
                "y": {"field": "images", "type": "quantitative", "title": "Images", "stack": "zero"},
                "color": {
                    "field": "what",
                    "type": "nominal",
                    "title": None,
                    "scale": {"domain": ["Right", "Wrong"], "range": [BLUE, ORANGE]},
                    "legend": {"orient": "top"},
                },
                "opacity": {"value": 0.75},
                "tooltip": [
                    {"field": "what", "title": "Predictions"},
                    {"field": "from", "type": "quantitative", "format": ".0%", "title": "Confidence above"},
                    {"field": "to", "type": "quantitative", "format": ".0%", "title": "up to"},
                    {"field": "images", "type": "quantitative", "format": ",", "title": "Images"},
                ],
            },
        },
        _THRESHOLD,
    ],
}
