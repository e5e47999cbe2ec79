"""The Train page: settings that matter are shown, Start makes the run that was asked for, and runs in every state."""

from __future__ import annotations

import errno
import json
import re
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from cifar_core import job, runs
from cifar_core.config import FIELD_TYPES, FIELDS, MODELS, RECIPES, TrainConfig, label
from cifar_core.events import Boot, Changed, End, Refused, TaskProgress, duration
from cifar_core.runs import Held, Run, RunError, list_runs, write_whole
from cifar_core.suggestions import suggestions, tried
from pages.ui import live, settings
from tests.conftest import Tiny, epoch_event, progress_event, start_event, tiny_config

PAGE = "pages/train.py"

Open = Callable[..., Any]

RULED = {other for field in FIELDS.values() for other in field.metadata["used_by"]}


@pytest.fixture(autouse=True)
def launched(monkeypatch: pytest.MonkeyPatch) -> list[Run]:
    """Runs that a worker would have been started for."""
    runs: list[Run] = []
    monkeypatch.setattr(job, "launch", lambda run, cache: runs.append(run))
    return runs


def texts(app: Any) -> str:
    kinds = (app.markdown, app.caption, app.info, app.warning, app.error)
    return "\n".join(str(element.value) for kind in kinds for element in kind).replace("\\", "")


def widgets(app: Any) -> dict[str, Any]:
    """The settings of the form by their names."""
    kinds = ("selectbox", "multiselect", "slider", "select_slider", "number_input", "toggle")
    shown = [widget for kind in kinds for widget in app.get(kind) if (widget.key or "").startswith("set_")]
    return {widget.key.removeprefix("set_"): widget for widget in shown}


def start(app: Any) -> Any:
    return next(button for button in app.button if button.label == "Start training")


def labels(app: Any) -> list[str]:
    return [button.label for button in app.button]


def change(app: Any, **values: Any) -> Any:
    for name, value in values.items():
        widgets(app)[name].set_value(value).run()
        assert not app.exception, app.exception
    return app


# The form ------------------------------------------------------------------------------------------------------------


def test_without_data_and_runs_it_leads_to_both(dashboard: Open, cache: Path) -> None:
    shutil.rmtree(cache)
    app = dashboard(PAGE)
    assert "No images here yet" in texts(app)
    assert "No runs yet" in texts(app)
    assert start(app).disabled


def test_with_data_a_start_is_possible(dashboard: Open) -> None:
    app = dashboard(PAGE)
    assert not start(app).disabled
    assert "No runs yet" in texts(app)
    assert "Choose settings and press Start training" in texts(app)
    assert "Start a training" not in [link.proto.label for link in app.get("page_link")], "a link to the page itself"
    assert "Trains on **Images in shapes**." in texts(app)
    assert not app.error


@pytest.mark.parametrize("name", sorted(RULED))
def test_each_choice_shows_the_settings_that_matter_and_hides_the_others(dashboard: Open, name: str) -> None:
    app = dashboard(PAGE)
    about, plain = FIELDS[name].metadata, FIELD_TYPES[name][0]
    numbers = (0, 2, 10) if name == "folds" else (plain(about["low"]), plain(about["high"]))
    for choice in about["choices"] or numbers:
        change(app, **{name: choice})
        config = TrainConfig.from_values({other: widgets(app)[other].value for other in RULED})
        assert set(widgets(app)) == {setting for setting in FIELDS if config.used(setting)}, choice
        assert not app.error


@pytest.mark.parametrize(
    ("name", "names"),
    [
        ("optimizer", ["SGD", "Adam", "AdamW", "Adagrad", "RMSprop", "Muon"]),
        ("schedule", ["Constant", "Step", "Linear", "Cosine", "One-cycle", "Plateau", "Exponential"]),
        ("initialisation", ["Default", "He", "Xavier", "Orthogonal", "Dirac"]),
        ("device", ["Auto", "CUDA", "MPS", "CPU"]),
    ],
)
def test_choices_are_called_what_people_call_them(dashboard: Open, name: str, names: list[str]) -> None:
    assert list(widgets(dashboard(PAGE))[name].options) == names


def test_every_setting_has_a_name_with_its_unit_and_help(dashboard: Open) -> None:
    shown = widgets(dashboard(PAGE))
    assert {name: widget.label for name, widget in shown.items()} == {name: settings.label(name) for name in shown}
    assert "EMA" in shown["ema"].label
    assert shown["mixup"].label == "MixUp"
    assert shown["batch_size"].label == "Batch size (images)"
    assert {name: widget.help for name, widget in shown.items()} == {
        name: FIELDS[name].metadata["help"] for name in shown
    }


@pytest.mark.parametrize("recipe", RECIPES)
def test_a_recipe_in_the_link_fills_in_its_settings(dashboard: Open, recipe: str) -> None:
    app = dashboard(PAGE, recipe=recipe)
    wanted = TrainConfig.from_values(RECIPES[recipe].settings)
    shown = {name: widget.value or "" if name == "classes" else widget.value for name, widget in widgets(app).items()}
    shown.pop("data")
    assert shown == {name: getattr(wanted, name) for name in shown}
    assert app.query_params["recipe"] == recipe
    assert RECIPES[recipe].summary in texts(app)
    assert not app.warning


def test_an_unknown_recipe_in_the_link_is_said(dashboard: Open) -> None:
    app = dashboard(PAGE, recipe="cake")
    assert "There is no recipe 'cake' here" in texts(app)
    assert app.selectbox(key="recipe_choice").value == next(iter(RECIPES))


def test_another_recipe_replaces_the_settings_and_the_link(dashboard: Open) -> None:
    app = change(dashboard(PAGE), momentum=0.5, epochs=33)
    app.selectbox(key="recipe_choice").set_value("single_conv").run()
    assert app.query_params["recipe"] == "single_conv"
    assert widgets(app)["momentum"].value == 0.9
    assert widgets(app)["epochs"].value == 10
    assert widgets(app)["model"].value == "single_conv"


def test_a_reload_keeps_the_form(dashboard: Open) -> None:
    app = change(dashboard(PAGE, recipe="single_conv"), epochs=7, learning_rate=0.3, classes=["circle", "stripes"])
    assert app.query_params["set"] == "classes:circle%2Cstripes,epochs:7,lr:0.3"
    again = dashboard(PAGE, **app.query_params)
    assert {name: widget.value for name, widget in widgets(again).items()} == {
        name: widget.value for name, widget in widgets(app).items()
    }
    assert not again.warning
    change(again, epochs=10, learning_rate=0.01, classes=[])
    assert "set" not in again.query_params


def test_a_bad_value_in_the_link_is_ignored_with_a_sentence(dashboard: Open) -> None:
    app = dashboard(PAGE, recipe="single_conv", set="epochs:0,seed:3")
    assert [warning.value.replace("\\", "") for warning in app.warning] == [
        "Ignored in this link: epochs must be at least 1, but is 0."
    ]
    assert (widgets(app)["epochs"].value, widgets(app)["seed"].value) == (10, 3)
    assert app.query_params["set"] == "seed:3"


def test_a_reload_keeps_what_a_fork_begins_with(dashboard: Open, trained_run: Run) -> None:
    app = dashboard(PAGE)
    app.selectbox(key=f"beginning-{trained_run.id}").set_value(trained_run.id).run()
    app.selectbox(key=f"weights-{trained_run.id}").set_value("last").run()
    change(app, epochs=9)
    again = dashboard(PAGE, **app.query_params)
    assert again.selectbox(key=f"beginning-{trained_run.id}").value == trained_run.id
    assert again.selectbox(key=f"weights-{trained_run.id}").value == "last"
    assert widgets(again)["epochs"].value == 9
    assert "Fork the run" in labels(again)
    again.selectbox(key=f"beginning-{trained_run.id}").set_value("fresh").run()
    assert "begin" not in again.query_params


def test_a_pretrained_model_takes_the_settings_it_needs_with_it(dashboard: Open) -> None:
    app = change(dashboard(PAGE), width=0.5, initialisation="he")
    pretrained = next(name for name in MODELS if MODELS[name].pretrained)
    change(app, model=pretrained)
    assert not app.error
    assert widgets(app)["width"].value == 1
    assert widgets(app)["initialisation"].value == "default"
    change(app, initialisation="xavier")
    assert "initialisation must be default" in app.error[0].value
    assert "Start training" not in labels(app)


def test_the_plan_of_the_learning_rate_has_the_steps_of_the_data(dashboard: Open) -> None:
    app = change(dashboard(PAGE), epochs=7, batch_size=16)
    # Of 180 training images a tenth is held out: 162 images in batches of 16.
    assert "77 steps, 11 an epoch." in texts(app)


# Start ---------------------------------------------------------------------------------------------------------------

CHOSEN: dict[str, dict[str, Any]] = {
    "nothing": {},
    "muon": {"optimizer": "muon", "momentum": 0.95, "nesterov": False, "schedule": "exponential", "decay": 0.5},
    "rmsprop": {"optimizer": "rmsprop", "schedule": "step", "warmup_epochs": 3.0, "step_epochs": 2, "gamma": 0.5},
    "adagrad": {"optimizer": "adagrad", "schedule": "cosine", "initialisation": "orthogonal", "learning_rate": 0.01},
    "everything new": {
        "initialisation": "dirac",
        "l1": 0.0001,
        "clip_norm": 1.0,
        "ema": 0.999,
        "stop_patience": 4,
        "mixup": 0.4,
        "cutmix": 1.0,
        "seed": 5,
        "normalisation": "half",
    },
}


@pytest.mark.parametrize("chosen", CHOSEN)
def test_start_makes_a_run_with_exactly_the_chosen_settings(
    dashboard: Open, tiny: Tiny, runs_root: Path, launched: list[Run], chosen: str
) -> None:
    app = change(dashboard(PAGE), **CHOSEN[chosen])
    assert not list_runs(runs_root)
    start(app).click().run()
    assert not app.exception
    (run,) = list_runs(runs_root)
    assert [other.id for other in launched] == [run.id]
    recipe = RECIPES[next(iter(RECIPES))].settings
    wanted = TrainConfig.from_values({**recipe, **CHOSEN[chosen], "data": str(tiny.source)})
    # What has no effect beside the other settings is left at its default, not taken from the recipe.
    assert run.config == TrainConfig.from_values({n: getattr(wanted, n) for n in FIELDS if wanted.used(n)})
    assert app.query_params["run"] == run.id
    assert app.selectbox(key="run_choice").value == run.id
    # The button is not pressed any more.
    app.run()
    assert len(list_runs(runs_root)) == 1


def test_some_classes_and_a_fold_of_them_can_be_chosen(dashboard: Open, runs_root: Path) -> None:
    app = change(dashboard(PAGE), classes=["stripes", "circle"], folds=4, fold=3)
    assert "Trains on **Images in shapes (circle, stripes)**." in texts(app)
    # Three quarters of 120 images, in one batch.
    assert f"{TrainConfig.from_values(RECIPES['quick'].settings).epochs} steps, 1 an epoch." in texts(app)
    start(app).click().run()
    (run,) = list_runs(runs_root)
    assert (run.config.classes, run.config.folds, run.config.fold) == ("stripes,circle", 4, 3)


def test_a_single_class_is_said_to_be_too_few(dashboard: Open) -> None:
    app = change(dashboard(PAGE), classes=["circle"])
    assert "must name at least two" in texts(app)
    assert "Start training" not in labels(app)


@pytest.mark.parametrize("optimizer", FIELDS["optimizer"].metadata["choices"])
def test_a_setting_without_effect_is_not_taken_from_what_was_chosen_before(
    dashboard: Open, runs_root: Path, optimizer: str
) -> None:
    app = change(dashboard(PAGE), momentum=0.5, optimizer=optimizer)
    start(app).click().run()
    (run,) = list_runs(runs_root)
    assert run.config.momentum == (0.5 if run.config.used("momentum") else TrainConfig().momentum)


def test_what_keeps_a_run_from_starting_is_said(
    dashboard: Open, monkeypatch: pytest.MonkeyPatch, runs_root: Path
) -> None:
    def refuse(*_: Any) -> None:
        raise RunError("No worker can be started in /here: No space left on device.")

    monkeypatch.setattr(job, "launch", refuse)
    app = dashboard(PAGE)
    start(app).click().run()
    assert not app.exception
    assert "No space left on device" in app.error[0].value


# Runs ----------------------------------------------------------------------------------------------------------------

STATES = {
    "ready": (["Start"], ""),
    "running": (["Pause", "Stop and keep"], ""),
    "paused": (["Resume", "Stop and keep"], ""),
    "finished": ([], "Finished 3 epochs."),
    "stopped": (["Resume"], "Stopped after 1.45 epochs"),
    "failed": (["Resume"], "stopped being a number in epoch 2"),
    "interrupted": (["Resume"], "The worker ended without a word"),
}


@pytest.mark.parametrize("state", STATES)
def test_a_run_in_each_state_has_its_word_and_its_buttons(
    run_in_state: Callable[..., Run], dashboard: Open, state: str
) -> None:
    run = run_in_state(state)
    app = dashboard(PAGE)
    buttons, words = STATES[state]
    assert app.query_params["run"] == run.id
    assert {"Start", "Pause", "Resume", "Stop and keep"} & set(labels(app)) == set(buttons)
    assert state in texts(app)
    assert words in texts(app)
    metrics = {metric.label: metric.value for metric in app.metric}
    if state == "ready":
        assert not metrics
    else:
        assert metrics["Best validation accuracy"] == ("80.0%" if state == "finished" else "40.0%")
        # What is over says that its figures are of its end.
        alive = state in ("running", "paused")
        left = {"running": duration(12.0), "paused": "–"}
        assert metrics.get("Time left") == left.get(state)
        assert ("Learning rate" in metrics) == alive
        assert ("Learning rate, last step" in metrics) != alive
        assert f"Run {run.id}, in {run.path}" in texts(app)


@pytest.mark.parametrize(("seconds", "tick"), [(20.0, 1.0), (100.0, 3.0), (1000.0, 5.0)])
def test_a_long_run_is_looked_at_less_often(run_in_state: Callable[..., Run], seconds: float, tick: float) -> None:
    """Each look is drawn by a browser on the cores that train."""
    run = run_in_state("running")
    epochs, step = run.settings.epochs, 22
    left = seconds * (1 - step / 11 / epochs)
    run.append(progress_event(step, seconds_left=left))
    assert live._tick(run) == tick
    # The first step prepares the kernels and promises too much.
    run.append(progress_event(0, seconds_left=5000.0))
    assert live._tick(run) == 1.0


@pytest.mark.parametrize("state", ["ready", "stopped", "failed", "interrupted"])
def test_a_run_that_rests_can_be_set_going(
    run_in_state: Callable[..., Run], dashboard: Open, launched: list[Run], state: str
) -> None:
    run = run_in_state(state)
    app = dashboard(PAGE)
    app.button(key="relaunch").click().run()
    assert not app.exception
    assert [other.id for other in launched] == [run.id]


def test_a_run_that_somebody_else_has_set_going_says_so(
    run_in_state: Callable[..., Run], dashboard: Open, monkeypatch: pytest.MonkeyPatch
) -> None:
    run_in_state("stopped")

    def refuse(*_: Any) -> None:
        raise Held("A worker is there already.")

    monkeypatch.setattr(job, "launch", refuse)
    app = dashboard(PAGE)
    app.button(key="relaunch").click().run()
    assert not app.exception
    assert "A worker is there already." in texts(app)


def test_pause_and_stop_are_asked_for(run_in_state: Callable[..., Run], dashboard: Open) -> None:
    run = run_in_state("running")
    app = dashboard(PAGE)
    next(button for button in app.button if button.label == "Pause").click().run()
    assert run.requested("pause")
    next(button for button in app.button if button.label == "Resume").click().run()
    assert not run.requested("pause")
    next(button for button in app.button if button.label == "Stop and keep").click().run()
    assert run.requested("stop")
    assert next(button for button in app.button if button.label == "Stopping").disabled


def test_a_link_opens_its_run_and_a_lost_one_is_said(run_in_state: Callable[..., Run], dashboard: Open) -> None:
    # Of two runs of one second, chance decides which is the newer one.
    older, newer = sorted((run_in_state("finished"), run_in_state("stopped")), key=lambda run: run.id)
    assert dashboard(PAGE, run=older.id).selectbox(key="run_choice").value == older.id
    app = dashboard(PAGE, run="20200101-000000-gone")
    assert app.selectbox(key="run_choice").value == newer.id
    assert "There is no run '20200101-000000-gone' here any more" in texts(app)


def test_an_unreadable_run_is_one_sentence_and_the_form_stays(
    run_in_state: Callable[..., Run], dashboard: Open
) -> None:
    run = run_in_state("finished")
    (run.path / "config.json").write_bytes(b"\xff{")
    app = dashboard(PAGE)
    assert app.error
    for error in app.error:
        assert f"The settings of run {run.id} cannot be read: " in error.value.replace("\\", "")
        assert "\n" not in error.value
    assert not start(app).disabled


@pytest.mark.parametrize("line", ['{"kind": "fut', '{"kind": "future"}\n', "\x00\x00\x00"])
def test_a_broken_last_event_does_not_matter(run_in_state: Callable[..., Run], dashboard: Open, line: str) -> None:
    run = run_in_state("interrupted")
    with (run.path / "events.jsonl").open("a") as file:
        file.write(line)
    app = dashboard(PAGE)
    assert not app.error
    assert app.metric[0].value == "40.0%"


def test_the_settings_of_a_run_are_those_with_an_effect(run_in_state: Callable[..., Run], dashboard: Open) -> None:
    run = run_in_state("finished", optimizer="muon", schedule="exponential", decay=0.7)
    table = dashboard(PAGE).dataframe[0].value.set_index("Setting")["Value"]
    assert set(table.index) == {label(name) for name in FIELDS if run.config.used(name)}
    assert table[label("decay")] == "0.7"
    assert label("warmup_fraction") not in table.index


# What is said of a run and done with it ------------------------------------------------------------------------------


def pressed(app: Any, label: str) -> Any:
    next(button for button in app.button if button.label == label).click().run()
    assert not app.exception, app.exception
    return app


def test_a_run_is_named_starred_and_archived(run_in_state: Callable[..., Run], dashboard: Open) -> None:
    run, other = run_in_state("finished"), run_in_state("stopped")
    app = dashboard(PAGE, run=run.id)
    name = next(field for field in app.text_input if field.label == "Name")
    name.set_value("small steps")
    pressed(app, "Keep name and note")
    assert run.about.name == "small steps"
    pressed(app, "Star")
    assert run.about.starred
    chosen = app.selectbox(key="run_choice")
    assert any(option.startswith("★ small steps · 80.0% validation") for option in chosen.options)
    pressed(app, "Archive")
    assert run.about.archived
    assert app.selectbox(key="run_choice").value == run.id, "the page stays at its run"
    fresh = dashboard(PAGE)
    assert [option for option in fresh.selectbox(key="run_choice").options] == [
        option for option in fresh.selectbox(key="run_choice").options if other.id[-4:] in option
    ]
    fresh.toggle(key="archived_too").set_value(True).run()
    assert len(fresh.selectbox(key="run_choice").options) == 2


def test_a_name_with_markup_is_refused_in_a_sentence(run_in_state: Callable[..., Run], dashboard: Open) -> None:
    run = run_in_state("finished")
    app = dashboard(PAGE)
    next(field for field in app.text_input if field.label == "Name").set_value("<b>")
    pressed(app, "Keep name and note")
    assert "may not hold '<'" in app.error[0].value.replace("\\", "")
    assert run.about.name == ""


def test_a_run_is_deleted_after_a_question(run_in_state: Callable[..., Run], dashboard: Open) -> None:
    run = run_in_state("finished")
    app = pressed(dashboard(PAGE), "Delete…")
    assert run.path.exists()
    pressed(app, "Delete for ever")
    assert not run.path.exists()
    assert "No runs yet" in texts(app)


# Forks ---------------------------------------------------------------------------------------------------------------


def test_a_fork_may_begin_with_any_weights_of_any_run(
    dashboard: Open, tiny: Tiny, trained_run: Run, run_in_state: Callable[..., Run], launched: list[Run]
) -> None:
    shutil.copyfile(
        trained_run.checkpoints()["last"], trained_run.checkpoints()["last"].with_name("epoch-2.safetensors")
    )
    shown = run_in_state("stopped")
    app = dashboard(PAGE, run=shown.id)
    begin = app.selectbox(key=f"beginning-{shown.id}")
    assert begin.options[0] == "Fresh weights"
    begin.set_value(trained_run.id).run()
    weights = app.selectbox(key=f"weights-{trained_run.id}")
    assert [option.split(" (")[0] for option in weights.options] == ["Best epoch", "Last step", "Epoch 2"]
    weights.set_value("epoch-2").run()
    change(app, epochs=4, momentum=0.7) if "momentum" in widgets(app) else change(app, epochs=4)
    pressed(app, "Fork the run")
    (fork,) = launched
    assert fork.parent == (trained_run.id, "epoch-2")
    assert app.query_params["run"] == fork.id
    family = next(table.value for table in app.dataframe if "Begins with" in table.value)
    assert family["Begins with"].tolist() == ["fresh weights", "its parent's epoch 2"]
    assert family["Run"].iloc[1].endswith("(this one)")
    assert "Epochs 2 → 4" in family["Differs from its parent in"].iloc[1]
    trained_run.delete()
    app = dashboard(PAGE, run=fork.id)
    assert "is not here any more; its part of the curve is kept" in texts(app)


# Steering ------------------------------------------------------------------------------------------------------------


def steering(app: Any, run: Run) -> Any:
    app.session_state[f"steer-{run.id}"] = True
    app.run()
    assert not app.exception, app.exception
    return app


def live_widgets(app: Any) -> dict[str, Any]:
    kinds = ("selectbox", "slider", "select_slider", "number_input")
    shown = [widget for kind in kinds for widget in app.get(kind) if (widget.key or "").startswith("live-")]
    return {widget.key.rsplit("-", 1)[1]: widget for widget in shown}


def test_what_is_in_force_is_what_the_worker_says(run_in_state: Callable[..., Run], dashboard: Open) -> None:
    run = run_in_state("running", optimizer="sgd", momentum=0.5)
    app = steering(dashboard(PAGE), run)
    assert set(live_widgets(app)) == set(settings.QUICK)
    assert live_widgets(app)["momentum"].value == 0.5
    live_widgets(app)["momentum"].set_value(0.7).run()
    pressed(app, "Put in force")
    assert run.taken("change") == {"momentum": 0.7}
    assert "Asked for; in force with the next training step." in texts(app)
    app.run()
    assert live_widgets(app)["momentum"].value == 0.7, "still what is asked for"
    # The worker has the last word, and another tab may have asked for something else.
    run.append(Changed(epoch=1.5, step=17, values={"momentum": 0.6}, before={"momentum": 0.5}))
    app.run()
    assert live_widgets(app)["momentum"].value == 0.6
    assert "In force since step 17: Momentum 0.5 → 0.6." in texts(app)
    assert "1. Epoch 1.50, step 17: Momentum 0.5 → 0.6" in texts(app)
    assert next(button for button in app.button if button.label == "Put in force").disabled


def test_the_learning_rate_is_scaled_along_its_schedule(run_in_state: Callable[..., Run], dashboard: Open) -> None:
    run = run_in_state("running", learning_rate=0.02, schedule="cosine")
    app = steering(dashboard(PAGE), run)
    live_widgets(app)["learning_rate"].set_value(0.5).run()
    assert "0.003 → 0.0015 now" in texts(app)
    pressed(app, "Put in force")
    assert run.taken("change") == {"learning_rate": 0.01}


def test_other_settings_are_behind_a_switch(run_in_state: Callable[..., Run], dashboard: Open) -> None:
    run = run_in_state("running")
    app = steering(dashboard(PAGE), run)
    assert "momentum" not in live_widgets(app), "Adam has none"
    next(toggle for toggle in app.toggle if toggle.label == "More settings").set_value(True).run()
    live = {name for name, field in FIELDS.items() if field.metadata["live"] and run.config.used(name)}
    assert set(live_widgets(app)) == live


def test_a_run_is_made_longer_and_saved(run_in_state: Callable[..., Run], dashboard: Open) -> None:
    run = run_in_state("running")
    app = pressed(dashboard(PAGE), "One more epoch")
    assert run.taken("change") == {"epochs": 4}
    pressed(app, "Train 8 epochs in all")
    assert run.taken("change") == {"epochs": 8}
    pressed(app, "Save now")
    assert run.taken("save") == {}


@pytest.mark.parametrize(("state", "epochs"), [("running", 998), ("finished", 998), ("finished", 1000)])
def test_no_run_is_made_longer_than_can_be(
    run_in_state: Callable[..., Run], dashboard: Open, state: str, epochs: int
) -> None:
    run = run_in_state(state, epochs=epochs)
    app = dashboard(PAGE, run=run.id)
    assert not app.exception
    limits = [number.max for number in app.number_input if number.label == "More epochs"]
    assert limits == ([1000 - epochs] if epochs < 1000 else [])
    assert ("Train on" in labels(app)) == (state == "finished" and epochs < 1000)


def test_what_was_refused_after_the_end_is_said(run_in_state: Callable[..., Run], dashboard: Open) -> None:
    run = run_in_state("finished")
    run.append(Refused(message="epochs must be at most 1000."))
    assert "epochs must be at most 1000." in texts(dashboard(PAGE, run=run.id))


class Redrawn(Exception):
    """The whole page would be drawn anew."""


def test_the_settings_of_a_run_follow_what_is_changed(
    run_in_state: Callable[..., Run], dashboard: Open, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = run_in_state("running", learning_rate=0.02)
    outside = live._outside(run)
    run.append(Changed(step=16, epoch=1.45, values={"learning_rate": 0.01}, before={"learning_rate": 0.02}))

    def rerun() -> None:
        raise Redrawn

    real = live.st.rerun
    monkeypatch.setattr(live.st, "rerun", rerun)
    with pytest.raises(Redrawn):
        live._watch(str(run.path), True, outside, live._tick(run))
    monkeypatch.setattr(live.st, "rerun", real)
    app = dashboard(PAGE, run=run.id)
    table = next(frame.value for frame in app.dataframe if "Meaning" in frame.value.columns).set_index("Setting")
    assert table.loc["Learning rate", "Value"] == "0.01 (began with 0.02)"


@pytest.mark.parametrize("button", ["Pause", "Stop and keep", "Save now", "One more epoch"])
def test_a_full_disk_is_said_where_something_is_asked_for(
    run_in_state: Callable[..., Run], dashboard: Open, monkeypatch: pytest.MonkeyPatch, button: str
) -> None:
    run = run_in_state("running")
    app = dashboard(PAGE, run=run.id)
    monkeypatch.setattr(live, "WORD_SECONDS", 0.0)

    def full(path: Path, content: bytes) -> None:
        raise OSError(errno.ENOSPC, "No space left on device", str(path))

    monkeypatch.setattr(runs, "write_whole", full)
    pressed(app, button)
    assert f"asked-{run.id}" not in app.session_state
    assert f"{run.id} cannot be asked for anything: No space left on device." in app.toast[0].value.replace("\\", "")


def test_a_damaged_member_of_a_series_costs_its_own_row_alone(tiny: Tiny, runs_root: Path, dashboard: Open) -> None:
    made = job.new_series(tiny_config(tiny), "seeds", 2, runs_root, tiny.cache)
    (made[0].path / "config.json").write_bytes(b"{")
    app = dashboard(PAGE, run=made[1].id)
    assert not app.exception
    rows = next(frame.value for frame in app.dataframe if "which" in frame.value.columns)
    assert sorted(rows["which"].dropna()) == [made[1].config.seed]


def test_the_plan_of_a_cross_validation_is_that_of_its_folds(dashboard: Open, tiny: Tiny) -> None:
    app = dashboard(PAGE, recipe="single_conv", set="batch_size:16")
    alone = re.search(r"([\d,]+) an epoch", texts(app))
    app.selectbox(key="series_kind").set_value("folds").run()
    fold = re.search(r"([\d,]+) an epoch", texts(app))
    assert alone
    assert fold
    # 180 images, of which a tenth or a fifth is held out.
    assert (alone[1], fold[1]) == ("11", "9")


def test_a_long_step_is_said(run_in_state: Callable[..., Run], dashboard: Open) -> None:
    run = run_in_state("running", batch_size=32)
    run.append(progress_event(18, images_per_second=10.0))
    assert "A step takes about 3 s here; a change is in force with the next one." in texts(
        steering(dashboard(PAGE), run)
    )


# Learning rate and series --------------------------------------------------------------------------------------------


def test_a_range_test_is_shown_and_its_suggestions_fill_in_the_learning_rate(
    dashboard: Open, cache: Path, tiny: Tiny, monkeypatch: pytest.MonkeyPatch
) -> None:
    started: list[dict[str, Any]] = []
    monkeypatch.setattr(job, "start_task", lambda folder, task, cache: started.append(task))
    app = dashboard(PAGE, recipe="single_conv")
    assert "Start the test" not in labels(app), "it costs something while it is closed"
    app.session_state["ranging"] = True
    app.run()
    assert not app.exception, app.exception
    next(button for button in app.button if button.label == "Start the test").click().run()
    (task,) = started
    config = TrainConfig.from_values(task["config"])
    assert (config.model, config.data) == ("single_conv", str(tiny.source))
    folder, _ = job.range_task(config, cache.parent, tiny.info)
    with folder.held():
        write_whole(folder.path / "task.json", json.dumps(task).encode())
        assert list(job.execute_task(folder, cache))
    app.run()
    assert not app.exception, app.exception
    found = {one.name: one for one in suggestions(tried(folder.events()))}
    uses = [label for label in labels(app) if label.startswith("Use ")]
    assert uses == [f"Use {one.learning_rate:g} ({name})" for name, one in found.items() if one.learning_rate]
    app.button(key="use-minimum/10").click().run()
    assert not app.exception, app.exception
    assert widgets(app)["learning_rate"].value == found["minimum/10"].learning_rate
    # Another rate is no other test.
    assert [label for label in labels(app) if label.startswith("Use ")] == uses


def test_how_far_a_task_is_is_what_its_present_worker_says(dashboard: Open, cache: Path, tiny: Tiny) -> None:
    app = dashboard(PAGE, recipe="single_conv")
    config = TrainConfig.from_values({n: w.value for n, w in widgets(app).items()} | {"classes": ""})
    folder, _ = job.range_task(config, cache.parent, tiny.info)
    with folder.held():
        for event in (Boot(pid=1, host="x"), TaskProgress(what="Trying rates", done=150, total=200, seconds_left=None)):
            folder.append(event)
        app.session_state["ranging"] = True
        app.run()
        assert app.get("progress")[0].proto.text == "Trying rates: 150 of 200"
        folder.append(Boot(pid=2, host="x"))
        app.run()
        assert app.get("progress")[0].proto.text == "Starting"


def test_repeats_start_their_runs_at_once_and_show_them_together(
    dashboard: Open, runs_root: Path, launched: list[Run], tiny: Tiny
) -> None:
    app = dashboard(PAGE, recipe="single_conv")
    app.selectbox(key="series_kind").set_value("folds").run()
    app.number_input(key="series_folds").set_value(3).run()
    next(button for button in app.button if button.label == "Start 3 trainings").click().run()
    assert not app.exception, app.exception
    runs = list_runs(runs_root)
    assert sorted(run.config.fold for run in runs) == [0, 1, 2]
    assert {run.id for run in launched} == {run.id for run in runs}
    metrics = {metric.label: metric.value for metric in app.metric}
    assert metrics["Finished"] == "0 of 3"
    assert metrics["Standard deviation"] == "–"
    for fold, run in enumerate(launched):
        run.append(start_event(tiny))
        run.append(epoch_event(1, validation_accuracy=0.5 + fold / 10))
        if fold < 2:
            run.append(End(outcome="finished", message="Finished.", epoch=1, step=11))
    app = dashboard(PAGE, run=launched[0].id)
    metrics = {metric.label: metric.value for metric in app.metric}
    assert metrics["Finished"] == "2 of 3"
    assert metrics["Mean, last epochs"] == "55.0%"
    assert metrics["Standard deviation"] == "7.07%"
    table = next(frame.value for frame in app.dataframe if "which" in frame.value)
    assert table["which"].tolist() == [0, 1, 2]
    app = dashboard("pages/compare.py")
    table = next(frame.value for frame in app.dataframe if "series" in frame.value)
    assert table["series"].tolist() == ["single_conv · cross-validation with 3 folds"]
    assert table["finished"].tolist() == ["2 of 3"]
    assert table["last_mean"].tolist() == [pytest.approx(55)]


def test_rarer_transforms_are_out_of_the_way_unless_one_is_on(dashboard: Callable[..., Any]) -> None:
    def is_open(app: Any) -> bool:
        (part,) = [part for part in app.expander if part.label == "More transforms"]
        assert part.slider(key="set_rotation")
        assert [slider.key for slider in part.slider if slider.key == "set_flip"] == []
        return bool(part.proto.expanded)

    app = dashboard(PAGE)
    assert not is_open(app)
    app.selectbox(key="recipe_choice").set_value("guide_cnn").run()
    assert is_open(app), "its recipe rotates the images"
    assert is_open(dashboard(PAGE, use="blur:1"))
