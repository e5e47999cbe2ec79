"""The Overview page: what is here, what it computes on, which runs there are, and where to go next."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from cifar_core import job
from cifar_core.runs import STATES, Run
from tests.conftest import Tiny

PAGE = "pages/overview.py"

Open = Callable[..., Any]


@pytest.fixture(autouse=True)
def device_is_known(cache: Path) -> None:
    """What a worker would find out, so that no test has to wait for one."""
    folder, _ = job.device_task(cache.parent)
    known = {"name": "CPU, float32", "reason": "CPU: as asked.", "torch": "2.9", "python": "3.11", "cores": 2}
    (folder.path / "device.json").write_text(json.dumps(known))


def everything(app: Any) -> str:
    return " ".join(element.value for element in [*app.markdown, *app.caption, *app.info, *app.error])


def ways_on(app: Any) -> list[str]:
    menu = 8
    return [link.proto.label for link in app.get("page_link")][:-menu]


def test_without_data_and_runs_it_leads_to_the_data(dashboard: Open, cache: Path) -> None:
    shutil.rmtree(cache)
    app = dashboard(PAGE)
    assert ways_on(app)[0] == "Open a data set, or fetch CIFAR-10"
    assert "No images here yet" in everything(app)
    assert "The first run will appear here" in everything(app)


def test_with_data_and_no_runs_it_leads_to_a_first_training(dashboard: Open, tiny: Tiny) -> None:
    app = dashboard(PAGE)
    assert ways_on(app)[:3] == ["Look at the images", "See what augmentation does", "Train a first network"]
    assert "180 training and 60 test images in 3 classes" in everything(app)
    assert "CPU, float32" in everything(app)


@pytest.mark.parametrize("state", [state for state in STATES if state not in ("starting", "waiting")])
def test_a_run_in_each_state_is_listed(dashboard: Open, run_in_state: Callable[..., Run], state: str) -> None:
    run = run_in_state(state)
    app = dashboard(PAGE)
    (row,) = app.dataframe[0].value.to_dict("records")
    assert row["State"] == state
    assert row["Run"].endswith(run.id[-4:])
    best = run.best
    if best:
        assert row["Best validation accuracy"] == best.validation_accuracy
    assert ("Watch the run under way" in ways_on(app)) == (state in ("running", "paused"))


def test_a_trained_run_leads_on_to_its_results(dashboard: Open, trained_run: Run) -> None:
    app = dashboard(PAGE)
    assert ways_on(app)[:3] == [
        "See where the newest network is wrong",
        "See how it groups the images",
        "Try it on a photo",
    ]
    (row,) = app.dataframe[0].value.to_dict("records")
    best = trained_run.best
    assert best
    assert (row["Best validation accuracy"], row["Best epoch"]) == (best.validation_accuracy, best.epoch)
    assert row["Epochs"] == "2 of 2"


def test_a_run_that_cannot_be_read_is_listed_as_such(dashboard: Open, trained_run: Run) -> None:
    (trained_run.path / "config.json").write_text("{")
    app = dashboard(PAGE)
    (row,) = app.dataframe[0].value.to_dict("records")
    assert row["Model"] == "unreadable"
