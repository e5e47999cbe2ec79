"""What the Train page shows of a run's network: the coach with its evidence, and panels that are built while open."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable
from typing import Any

import pytest

from cifar_core.coach import advise
from cifar_core.events import Inspected
from cifar_core.runs import Run
from pages.ui import insight_charts
from tests.conftest import epoch_event

PAGE = "pages/train.py"

Open = Callable[..., Any]

PANELS = ("Classes", "Layers", "Time and memory", "Sample predictions")


def texts(app: Any) -> str:
    kinds = (app.markdown, app.caption, app.info, app.warning, app.error)
    return "\n".join(str(element.value) for kind in kinds for element in kind).replace("\\", "")


def charts_of(app: Any) -> list[dict[str, Any]]:
    return [json.loads(chart.proto.spec) for chart in app.get("vega_lite_chart")]


def titles(app: Any) -> set[str]:
    return {chart["encoding"]["y"].get("title") or "" for chart in charts_of(app) if "encoding" in chart}


def opened(dashboard: Open, run: Run, *panels: str) -> Any:
    app = dashboard(PAGE, run=run.id)
    for panel in panels:
        app.session_state[f"{panel}-{run.id}"] = True
    app.run()
    assert not app.exception, app.exception
    return app


def look(epoch: int, **figures: Any) -> Inspected:
    bins = {"low": -1.0, "high": 1.0, "counts": [1, 2, 1]}
    row = {"name": "conv1", "weight_norm": 2.0 * epoch, "gradient_norm": 0.1, "weights": bins, "gradients": bins}
    usual: dict[str, Any] = {
        "step": 11 * epoch,
        "class_accuracy": [0.5, 0.75, 1.0],
        "layers": [row, {**row, "name": "head", "gradient_norm": None, "gradients": None}],
        "dead": [{"name": "relu1", "rule": "zero", "units": 8, "dead": 2}],
        "samples": [{"index": 0, "label": 0, "predicted": 2, "probability": 0.75}],
        "seconds": {"data": 1.0, "forward": 1.0, "backward": 2.0, "step": 0.0},
        "timed_steps": 11,
        "memory": 3 * 2**30,
        "device_memory": None,
    }
    return Inspected(epoch=epoch, **{**usual, **figures})


def test_the_coach_is_quiet_where_it_has_nothing_to_say(trained_run: Run, dashboard: Open) -> None:
    app = opened(dashboard, trained_run)
    assert "The coach speaks once there are 3 epochs to read." in texts(app)
    last = trained_run.epochs[-1]
    better = {"train_loss": 0.8 * last.train_loss, "validation_loss": 0.8 * last.validation_loss}
    trained_run.append(dataclasses.replace(last, epoch=3, step=33, **better))
    app = opened(dashboard, trained_run)
    assert "The coach has nothing to remark." in texts(app)
    assert "What to try" not in " ".join(warning.value for warning in app.warning)


def test_the_coach_says_what_is_wrong_with_its_evidence_and_what_to_try(
    run_in_state: Callable[..., Run], dashboard: Open
) -> None:
    run = run_in_state("running")
    for epoch, (train, held_out) in enumerate(zip((0.9, 0.7, 0.5, 0.3), (0.9, 0.95, 1.1, 1.2), strict=True), start=2):
        run.append(epoch_event(epoch, train_loss=train, validation_loss=held_out))
    (advice,) = advise(run.history(), run.inspections(), run.settings, run.start.classes)
    app = opened(dashboard, run)
    said = app.warning[0].value.replace("\\", "")
    for words in (advice.sentence, advice.evidence, advice.try_this):
        assert words in said


def test_learning_rate_and_speed_have_curves(trained_run: Run, dashboard: Open) -> None:
    assert {"Learning rate", "Images per second"} <= titles(opened(dashboard, trained_run))


def test_panels_are_built_only_while_they_are_open(trained_run: Run, dashboard: Open) -> None:
    closed = opened(dashboard, trained_run)
    labels = [expander.label for expander in closed.expander]
    assert set(PANELS) <= set(labels)
    few = len(charts_of(closed))
    everything = opened(dashboard, trained_run, *PANELS)
    assert len(charts_of(everything)) == few + 1 + 4 + 1
    assert {"Validation accuracy", "Gradient norm", "Weight norm", "Share of the time"} <= titles(everything)
    assert "No dead units" in texts(everything)


def test_that_no_unit_is_dead_is_said_in_words_where_a_chart_would_look_empty(
    run_in_state: Callable[..., Run], dashboard: Open
) -> None:
    run = run_in_state("finished")
    none = [{"name": "relu1", "rule": "zero", "units": 8, "dead": 0}]
    run.append(look(1, dead=none))
    app = opened(dashboard, run, "Layers")
    assert "Dead units" not in titles(app)
    assert "No dead units:** 0 % in each of 1 layer with an activation, after 1 epoch." in texts(app)
    run.append(look(2))
    assert "Dead units" in titles(opened(dashboard, run, "Layers"))


def test_the_axis_of_a_run_without_labels_names_its_own_loss(run_in_state: Callable[..., Run], dashboard: Open) -> None:
    assert "Loss (cross-entropy)" in titles(opened(dashboard, run_in_state("finished")))
    shown = titles(opened(dashboard, run_in_state("finished", objective="simclr")))
    assert "Loss (contrastive, NT-Xent)" in shown
    assert "Loss (cross-entropy)" not in shown


def test_samples_are_shown_with_what_they_are_and_what_they_are_taken_for(trained_run: Run, dashboard: Open) -> None:
    app = opened(dashboard, trained_run, "Sample predictions")
    latest = trained_run.inspections()[-1]
    shown = next(html.proto.body for html in app.get("html") if "<figure" in html.proto.body)
    assert shown.count("<figure") == len(latest.samples) == 12
    right = sum(sample["label"] == sample["predicted"] for sample in latest.samples)
    assert shown.count("✓") == right
    assert shown.count("✗") == 12 - right
    assert f"{right} of 12 right" in texts(app)
    first = latest.samples[0]
    classes = trained_run.start.classes
    assert f"{classes[first['label']]}, predicted {classes[first['predicted']]} with probability" in shown


def test_time_and_memory_are_in_words_too(run_in_state: Callable[..., Run], dashboard: Open) -> None:
    run = run_in_state("running")
    run.append(look(1))
    app = opened(dashboard, run, "Time and memory")
    metrics = {metric.label: metric.value for metric in app.metric}
    assert metrics["Main memory, at most"] == "3.00 GiB"
    assert (metrics["Data"], metrics["Backward"]) == ("25%", "50%")


def test_a_run_without_looks_has_no_panels(run_in_state: Callable[..., Run], dashboard: Open) -> None:
    """As runs of earlier versions are."""
    app = opened(dashboard, run_in_state("finished"))
    assert not set(PANELS) & {expander.label for expander in app.expander}
    assert "Learning rate" in titles(app)


@pytest.mark.parametrize("count", [1, 3])
def test_specifications_stay_the_same_while_rows_are_added(count: int) -> None:
    looks = [look(epoch) for epoch in range(1, count + 1)]
    frame = insight_charts.norm_lines(looks, "weight_norm")
    assert insight_charts.line_names(frame) == ("conv1", "head")
    assert frame["value"].max() == 2.0 * count
    spec = insight_charts.lines_spec(("conv1", "head"), "Weight norm", "~g", powers=True)
    assert spec is insight_charts.lines_spec(("conv1", "head"), "Weight norm", "~g", powers=True)
    assert set(insight_charts.norm_lines(looks, "gradient_norm")["line"]) == {"conv1"}, "no gradient is no point"


def test_of_many_classes_those_are_drawn_that_are_worst_now() -> None:
    looks = [
        look(1, class_accuracy=[k / 30 for k in range(30)]),
        look(2, class_accuracy=[1 - k / 30 for k in range(30)]),
    ]
    frame = insight_charts.class_lines(looks, [f"class {k}" for k in range(30)])
    assert insight_charts.line_names(frame) == tuple(f"class {k}" for k in range(20, 30))


def test_histograms_are_of_the_first_and_the_latest_epoch() -> None:
    looks = [look(1), look(2)]
    rows = insight_charts.histogram_rows(looks, "conv1", "weights")
    assert rows.groupby("when")["share"].sum().to_dict() == {insight_charts.THEN: 1.0, insight_charts.NOW: 1.0}
    assert rows["value"].tolist()[:3] == pytest.approx([-2 / 3, 0, 2 / 3])
    assert set(insight_charts.histogram_rows(looks[:1], "conv1", "weights")["when"]) == {insight_charts.NOW}
    assert insight_charts.histogram_rows(looks, "head", "gradients").empty
