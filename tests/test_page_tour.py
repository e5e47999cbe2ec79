"""The guided first run: where it begins, where it leads, and how it is left and taken up again."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from cifar_core import job
from cifar_core.config import RECIPES
from cifar_core.events import Boot
from cifar_core.runs import Run, list_runs
from pages import ui
from pages.ui import tour
from tests.conftest import Tiny

OVERVIEW = "pages/overview.py"

Open = Callable[..., Any]


@pytest.fixture(autouse=True)
def device_is_known(cache: Path) -> None:
    folder, _ = job.device_task(cache.parent)
    (folder.path / "device.json").write_text(
        json.dumps({"name": "CPU", "reason": "", "torch": "2", "python": "3", "cores": 2})
    )


def said(app: Any) -> str:
    return " ".join(element.value for element in [*app.markdown, *app.caption])


def labels(app: Any) -> list[str]:
    return [button.label for button in app.button]


def asked(app: Any, name: str) -> str:
    """What the URL says; a list where a link has put it there."""
    value = app.query_params[name]
    return str(value if isinstance(value, str) else value[0])


def press(app: Any, label: str) -> Any:
    return next(button for button in app.button if button.label == label).click().run()


def test_overview_without_runs_trains_a_first_network_with_one_button(
    dashboard: Open, runs_root: Path, cache: Path, tiny: Tiny, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(job, "launch", lambda *_: None)
    app = press(dashboard(OVERVIEW), "Train a first network")
    (run,) = list_runs(runs_root)
    assert run.about.name == "Guided first run"
    assert run.config == tour.settings(tiny.info)
    assert run.config.model == RECIPES["quick"].settings["model"]
    assert asked(app, "run") == run.id
    assert asked(app, "tour") == "1"


def test_two_tabs_that_begin_at_the_same_moment_are_led_through_one_training(
    trained_run: Run, tiny: Tiny, runs_root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    begun: list[Run] = []
    led: list[tuple[Run, int]] = []

    def start(*_: Any) -> Run:
        time.sleep(0.2)
        begun.append(trained_run)
        return trained_run

    def go(run: Run, step: int) -> None:
        tour._keep(run, step)
        led.append((run, step))

    monkeypatch.setattr(job, "start_run", start)
    monkeypatch.setattr(tour, "_go", go)
    monkeypatch.setattr(ui, "place", lambda: SimpleNamespace(runs=runs_root, cache=tiny.cache))
    tabs = [threading.Thread(target=tour._begin, args=(tiny.info,)) for _ in range(2)]
    for tab in tabs:
        tab.start()
    for tab in tabs:
        tab.join()
    assert len(begun) == 1
    assert [(run.id, step) for run, step in led] == [(trained_run.id, 1)] * 2


def test_a_tab_in_which_it_is_begun_a_little_later_is_led_to_the_same_training(
    dashboard: Open, runs_root: Path, tiny: Tiny, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(job, "launch", lambda *_: None)
    later = dashboard(OVERVIEW)
    run = job.start_run(tour.settings(tiny.info), runs_root, tiny.cache)
    (runs_root / ".tour.json").write_text(json.dumps({"run": run.id, "step": 1}))
    later = press(later, "Train a first network")
    assert [other.id for other in list_runs(runs_root)] == [run.id]
    assert (asked(later, "run"), asked(later, "tour")) == (run.id, "1")


@pytest.mark.parametrize("state", ["stopped", "finished"])
def test_a_training_that_was_stopped_is_said_to_have_been(
    dashboard: Open, run_in_state: Callable[..., Run], state: str
) -> None:
    run = run_in_state(state)
    (run.path / "checkpoints").mkdir(exist_ok=True)
    (run.path / "checkpoints" / "best.safetensors").touch()
    app = dashboard("pages/train.py", tour="1", run=run.id)
    assert not app.button(key="tour-next").disabled
    assert ("resume it on the Train page for a network that has learnt more" in said(app)) == (state == "stopped")


def test_few_images_are_shown_for_more_epochs(tiny: Tiny) -> None:
    many = replace(tiny.info, train_counts=(50_000, 0, 0))
    some = replace(tiny.info, train_counts=(6_000, 0, 0))
    assert [tour.settings(info).epochs for info in (many, some, tiny.info)] == [2, 4, 30]


def test_the_next_step_waits_for_weights(dashboard: Open, run_in_state: Callable[..., Run]) -> None:
    run = run_in_state("running")
    app = dashboard("pages/train.py", tour="1", run=run.id)
    assert "Step 1 of 5: Watch it learn" in said(app)
    assert app.button(key="tour-next").disabled


def test_the_next_step_waits_for_the_end_of_the_training(dashboard: Open, trained_run: Run) -> None:
    """Its first weights are there after an epoch."""
    with trained_run.held():
        trained_run.append(Boot(pid=1, host="elsewhere"))
        app = dashboard("pages/train.py", tour="1", run=trained_run.id)
        assert trained_run.checkpoints()
        assert app.button(key="tour-next").disabled
        assert "The next step opens when the training has ended." in said(app)


def test_a_guided_run_can_be_begun_where_there_are_runs(
    dashboard: Open, trained_run: Run, tiny: Tiny, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(job, "launch", lambda *_: None)
    app = press(dashboard(OVERVIEW), f"Guided run on {ui.plain(tiny.info.name)}")
    assert asked(app, "tour") == "1"
    assert asked(app, "run") != trained_run.id


def test_the_time_said_goes_with_the_images(tiny: Tiny) -> None:
    sizes = {6_000: "about half a minute", 50_000: "about 2 minutes", 500_000: "about 17 minutes"}
    for images, words in sizes.items():
        assert tour.time_of(replace(tiny.info, train_counts=(images,))) == words


def test_the_last_step_can_be_left_on_another_page(dashboard: Open, trained_run: Run) -> None:
    app = press(dashboard("pages/compare.py", tour="5", run=trained_run.id), "Leave the tour")
    assert "tour" not in app.query_params


def test_a_training_that_died_before_its_first_weights_is_to_be_resumed(
    dashboard: Open, run_in_state: Callable[..., Run]
) -> None:
    run = run_in_state("interrupted")
    app = dashboard("pages/train.py", tour="1", run=run.id)
    assert app.button(key="tour-next").disabled
    assert "It has stopped: resume it on the Train page." in said(app)
    assert "Resume" in labels(app)


@pytest.mark.parametrize(("number", "page"), [(n + 1, step.page) for n, step in enumerate(tour.STEPS)])
def test_each_step_stands_on_its_page_with_one_sentence(
    dashboard: Open, trained_run: Run, number: int, page: str
) -> None:
    app = dashboard(f"pages/{page.lower()}.py", tour=str(number), run=trained_run.id)
    step = tour.STEPS[number - 1]
    assert f"**Step {number} of 5: {step.title}.** {step.sentence}" in said(app)
    keys = {button.key for button in app.button}
    assert ("tour-back" in keys, "tour-next" in keys, "tour-finish" in keys) == (number > 1, number < 5, number == 5)


def test_next_leads_to_the_page_of_the_next_step_and_is_remembered(dashboard: Open, trained_run: Run) -> None:
    app = dashboard("pages/train.py", tour="1", run=trained_run.id)
    app.button(key="tour-next").click().run()
    assert asked(app, "tour") == "2"
    assert app.title[0].value == "Evaluate"
    assert json.loads((trained_run.root / ".tour.json").read_text()) == {"run": trained_run.id, "step": 2}


def test_tour_that_was_left_is_taken_up_on_the_overview(dashboard: Open, trained_run: Run, cache: Path) -> None:
    app = dashboard("pages/features.py", tour="3", run=trained_run.id)
    app.button(key="tour-back").click().run()
    press(app, "Leave the tour")
    assert "tour" not in app.query_params
    assert "Step" not in said(app)
    again = dashboard(OVERVIEW)
    assert "waits at step 2 of 5" in said(again)
    press(again, "Go on with the tour")
    assert asked(again, "tour") == "2"
    assert asked(again, "run") == trained_run.id


def test_another_page_leads_back_to_the_step(dashboard: Open, trained_run: Run) -> None:
    app = dashboard("pages/compare.py", tour="3", run=trained_run.id)
    assert "Step 3 of 5" in said(app)
    app.button(key="tour-return").click().run()
    assert app.title[0].value == "Features"


@pytest.mark.parametrize("left", ["1", "2", "4", "5"])
def test_a_page_of_the_tour_is_at_its_own_step_whatever_came_after_it(
    dashboard: Open, trained_run: Run, left: str
) -> None:
    app = dashboard("pages/features.py", tour=left, run=trained_run.id)
    assert "Step 3 of 5" in said(app)
    assert not app.warning
    assert "tour-next" in {button.key for button in app.button}


def test_finished_tour_is_not_offered_again(dashboard: Open, trained_run: Run, runs_root: Path) -> None:
    (runs_root / ".tour.json").write_text(json.dumps({"run": trained_run.id, "step": 5}))
    app = dashboard(OVERVIEW, tour="5", run=trained_run.id)
    press(app, "Finish the tour")
    assert "Step 5" not in said(app)
    assert "Go on with the tour" not in labels(app)
    assert "Train a first network" not in labels(app)
    assert not (runs_root / ".tour.json").exists()


def test_tour_of_a_network_that_is_gone_says_so(dashboard: Open) -> None:
    app = dashboard("pages/train.py", tour="2", run="20260101-000000-none-0000")
    assert "network of this tour is not here any more" in said(app)
    press(app, "Leave the tour")
    assert "tour" not in app.query_params


def test_another_network_does_not_slip_into_the_place_of_the_one_that_is_gone(
    dashboard: Open, trained_run: Run, runs_root: Path
) -> None:
    (runs_root / ".tour.json").write_text(json.dumps({"run": "20260101-000000-none-0000", "step": 3}))
    app = dashboard("pages/features.py", tour="3", run=trained_run.id)
    assert "network of this tour is not here any more" in said(app)
    assert "Step 3" not in said(app)
    press(app, "Leave the tour")
    assert "tour" not in app.query_params
    assert not (runs_root / ".tour.json").exists()


def test_another_run_on_the_page_of_a_step_leads_back_to_that_of_the_tour(dashboard: Open, trained_run: Run) -> None:
    tour._keep(trained_run, 1)
    app = dashboard("pages/train.py", tour="1", run="reference")
    assert "tour-next" not in {button.key for button in app.button}
    app.button(key="tour-return").click().run()
    assert asked(app, "run") == trained_run.id


@pytest.mark.parametrize("step", ["0", "-1", "77", "x"])
def test_a_step_that_is_not_there_becomes_the_one_that_waits(dashboard: Open, trained_run: Run, step: str) -> None:
    tour._keep(trained_run, 2)
    app = dashboard("pages/evaluate.py", tour=step, run=trained_run.id)
    assert "Step 2 of 5" in said(app)
    assert f"The tour has no step {step!r}; this is 2." in [ui_said.value.replace("\\", "") for ui_said in app.warning]


@pytest.mark.parametrize(("guided", "first"), [(True, "vega_lite_chart"), (False, "button")])
def test_who_is_told_to_watch_sees_the_curves_before_the_controls(
    dashboard: Open, run_in_state: Callable[..., Run], guided: bool, first: str
) -> None:
    run = run_in_state("running")
    app = dashboard("pages/train.py", run=run.id, **({"tour": "1"} if guided else {}))
    kinds = [
        node.type
        for node in app.main
        if node.type.endswith("vega_lite_chart") or (node.type == "button" and node.label == "Stop and keep")
    ]
    assert kinds[0].endswith(first)


@pytest.mark.parametrize("kept", ["{", "[]", '{"run": 3, "step": 99}', '{"run": "../x", "step": 2}'])
def test_damaged_memory_is_no_memory(dashboard: Open, runs_root: Path, kept: str) -> None:
    runs_root.mkdir(exist_ok=True)
    (runs_root / ".tour.json").write_text(kept)
    assert "Train a first network" in labels(dashboard(OVERVIEW))
