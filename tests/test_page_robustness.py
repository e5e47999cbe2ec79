"""The panels of robustness on the Evaluate page."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from cifar_core import job
from cifar_core.corruptions import CORRUPTIONS, SEVERITIES
from cifar_core.evaluation import Evaluation
from cifar_core.robustness import MISSING, Robustness
from cifar_core.runs import Run
from tests.conftest import Tiny

PAGE = "pages/evaluate.py"


@pytest.fixture
def evaluated(trained_run: Run, tiny: Tiny) -> Run:
    """Whose page does not begin with background work."""
    labels = np.repeat(np.arange(3), 20)
    folder, _ = job.evaluation_task(trained_run, "best", tiny.info)
    facts = {
        "run": trained_run.id,
        "checkpoint": "best",
        "epoch": 2.0,
        "data": "shapes",
        "split": "test",
        "fingerprint": tiny.info.fingerprint,
        "split_images": 60,
    }
    Evaluation(labels, np.eye(3, dtype=np.float32)[labels], tiny.info.classes, facts).save(
        folder.path / "evaluation.npz"
    )
    return trained_run


def keep(run: Run, tiny: Tiny, checkpoint: str, lost: int, missing: bool = False) -> Robustness:
    """Results of all 60 images; `lost` of them wrong under any corruption."""
    labels = np.repeat(np.arange(3), 20)
    wrong = labels.copy()
    wrong[:lost] = (wrong[:lost] + 1) % 3
    predictions = np.broadcast_to(wrong, (len(CORRUPTIONS), 5, 60)).astype(np.int16).copy()
    if missing:
        predictions[3:] = MISSING
    facts = {
        "run": run.id,
        "checkpoint": checkpoint,
        "epoch": 2.0,
        "data": "shapes",
        "split": "test",
        "fingerprint": tiny.info.fingerprint,
    }
    result = Robustness(
        np.arange(60),
        labels,
        labels.astype(np.int16),
        predictions,
        tuple(CORRUPTIONS),
        SEVERITIES,
        tiny.info.classes,
        facts,
    )
    folder, _ = job.corruption_task(run, checkpoint, tiny.info, 60)
    result.save(folder.path / "corruptions.npz")
    return result


def opened(dashboard: Callable[..., Any], panel: str, **query: str) -> Any:
    app = dashboard(PAGE, view="Robustness", **query)
    app.session_state[f"robust-{panel}"] = True
    app.run()
    assert not app.exception
    return app


def said(app: Any) -> str:
    return " ".join(each.value for each in (*app.caption, *app.markdown)).replace("\\", "")


def test_nothing_is_computed_before_it_is_asked_for(evaluated: Run, dashboard: Callable[..., Any]) -> None:
    app = opened(dashboard, "corrupted")
    assert any(button.label.startswith("Measure on 60 images") for button in app.button)
    assert not list(evaluated.path.glob("tasks/corrupt-*/lock"))


def test_accuracies_are_shown_with_what_they_are_of(evaluated: Run, tiny: Tiny, dashboard: Callable[..., Any]) -> None:
    keep(evaluated, tiny, "best", 15)
    app = opened(dashboard, "corrupted")
    metrics = {metric.label: metric.value for metric in app.metric}
    assert metrics["Untouched"] == "100.0%"
    assert metrics["Corrupted, mean"] == "75.0%"
    assert f"Run {evaluated.id}, best weights, after epoch 2; shapes, test split, 60 images of 3 classes." in said(app)
    app.selectbox(key="corruption").set_value("fog").run()
    assert not app.exception
    assert "Lost by it" in str(app.get("button_group")) or "of 15 images, truth → prediction" in said(app)
    assert any(each.proto.body.count("<img") == 15 for each in app.get("html"))


def test_the_corruption_error_is_relative_to_a_chosen_run(
    evaluated: Run, tiny: Tiny, dashboard: Callable[..., Any]
) -> None:
    keep(evaluated, tiny, "best", 15)
    keep(evaluated, tiny, "last", 30)
    app = opened(dashboard, "corrupted")
    reference = app.selectbox(key="corruption_reference")
    assert len(reference.options) == 1
    reference.select_index(0).run()
    metrics = {metric.label: metric.value for metric in app.metric}
    assert metrics["Mean corruption error"] == "50.0%"
    assert metrics["Relative mCE"] == "50.0%"


def test_a_stopped_measurement_shows_what_it_has(evaluated: Run, tiny: Tiny, dashboard: Callable[..., Any]) -> None:
    keep(evaluated, tiny, "best", 15, missing=True)
    app = opened(dashboard, "corrupted")
    assert "15 of 75 parts are there" in said(app)
    assert any(button.label.startswith("Measure on 60 images") for button in app.button)


def test_the_smallest_change_of_one_image_is_found_on_a_click(evaluated: Run, dashboard: Callable[..., Any]) -> None:
    app = opened(dashboard, "attacked")
    assert "Epsilon" not in said(app).replace("epsilon", "")
    app.number_input(key="flip_image").set_value(7)
    next(button for button in app.button if button.label == "Find it").click().run()
    assert not app.exception
    text = said(app)
    assert "found by halving" in text or "No change of up to 64 grey levels" in text
