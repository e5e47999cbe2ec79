"""The Compare page: all runs in a table, chosen ones over one another, what differs, and deleting with care."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from typing import Any

import numpy as np
import pandas as pd
import pytest

from cifar_core import job
from cifar_core.evaluation import Evaluation
from cifar_core.events import End
from cifar_core.reporting import material
from cifar_core.runs import Run, create_run, description
from cifar_core.selections import Selection, folder_of, refer
from pages import ui
from pages.ui import charts, comparison, pairs
from tests.conftest import Tiny, epoch_event, progress_event, start_event, tiny_config

PAGE = "pages/compare.py"


def captions(app: Any) -> str:
    return " ".join(element.value for element in (*app.caption, *app.markdown)).replace("\\", "")


def table(app: Any, place: int = 0) -> pd.DataFrame:
    return app.dataframe[place].value


def chosen(app: Any) -> list[str]:
    return app.multiselect(key="runs_choice").value


def test_without_runs_it_leads_to_training(dashboard: Callable[..., Any]) -> None:
    app = dashboard(PAGE)
    assert "No runs yet" in captions(app)
    assert not app.dataframe


def test_every_state_has_its_row(run_in_state: Callable[..., Run], dashboard: Callable[..., Any]) -> None:
    states = ("ready", "running", "finished", "stopped", "failed", "interrupted")
    runs = {charts.run_name(run_in_state(state)): state for state in states}
    rows = table(dashboard(PAGE)).set_index("run")
    assert rows["state"].to_dict() == runs
    done = rows[rows["state"] == "finished"].iloc[0]
    assert done["best"] == pytest.approx(80)
    assert done["best_epoch"] == 3
    assert done["train_loss"] == pytest.approx(1 / 3)
    assert done["epochs"] == 3
    assert done["asked"] == 3
    assert done["seconds"] == pytest.approx(0.6)


def test_forks_stand_indented_below_their_parents_and_what_matters_most_comes_first(
    trained_run: Run, tiny: Tiny, dashboard: Callable[..., Any]
) -> None:
    fork = create_run(tiny_config(tiny, epochs=5), trained_run.path.parent, parent=trained_run)
    rows = table(dashboard(PAGE))
    assert list(rows["run"]) == [charts.run_name(trained_run), f"↳ {charts.run_name(fork)}"]
    assert list(rows.columns[:2]) == ["run", "best"]


def test_a_run_with_unreadable_settings_is_listed_and_can_be_chosen(
    run_in_state: Callable[..., Run], dashboard: Callable[..., Any]
) -> None:
    broken, whole = run_in_state("finished"), run_in_state("finished")
    (broken.path / "config.json").write_bytes(b"\xff{")
    app = dashboard(PAGE)
    states = table(app).set_index("run")["state"]
    assert states[charts.run_name(broken)] == "unreadable"
    assert states[charts.run_name(whole)] == "finished"
    assert set(chosen(app)) == {broken.id, whole.id}
    assert f"The settings of {charts.run_name(broken)} cannot be read." in captions(app)
    assert len(app.dataframe) == 1, "What cannot be read is no difference."
    app.toggle(key="all_settings").set_value(True).run()
    assert table(app, 1)[charts.run_name(broken)]["Momentum"] == "unreadable"


def test_at_first_the_newest_runs_with_epochs_are_chosen_and_the_link_holds_them(
    run_in_state: Callable[..., Run], dashboard: Callable[..., Any]
) -> None:
    with_epochs = [run_in_state("finished") for _ in range(5)]
    run_in_state("ready")
    app = dashboard(PAGE)
    newest = sorted((run.id for run in with_epochs), reverse=True)[:4]
    assert chosen(app) == newest
    assert app.query_params["runs"] == newest


def test_a_run_that_a_link_names_twice_is_compared_once(
    run_in_state: Callable[..., Run], dashboard: Callable[..., Any]
) -> None:
    run = run_in_state("finished")
    app = dashboard(PAGE, runs=[run.id, run.id])
    assert chosen(app) == [run.id]
    assert not app.warning


def test_a_link_opens_its_runs_and_says_which_are_gone(
    run_in_state: Callable[..., Run], dashboard: Callable[..., Any]
) -> None:
    runs = [run_in_state("finished") for _ in range(3)]
    app = dashboard(PAGE, runs=[runs[1].id, "../../etc"])
    assert chosen(app) == [runs[1].id]
    assert "not here any more" in app.warning[0].value
    app.multiselect(key="runs_choice").set_value([runs[0].id, runs[2].id]).run()
    assert not app.exception
    assert app.query_params["runs"] == [runs[0].id, runs[2].id]
    assert not app.warning


def test_a_crashed_run_without_epochs_has_no_curve_but_a_reason(
    run_in_state: Callable[..., Run], dashboard: Callable[..., Any]
) -> None:
    ready, failed = run_in_state("ready"), run_in_state("failed")
    (failed.path / "events.jsonl").write_text(failed.path.joinpath("events.jsonl").read_text().splitlines()[-1] + "\n")
    app = dashboard(PAGE)
    assert chosen(app) == []
    assert "No run has finished an epoch yet" in captions(app)
    app = dashboard(PAGE, runs=[ready.id, failed.id])
    assert "It is ready." in captions(app)
    assert "stopped being a number" in captions(app)
    assert not app.get("vega_lite_chart")


def test_only_settings_with_an_effect_and_a_difference_are_listed(
    run_in_state: Callable[..., Run], dashboard: Callable[..., Any]
) -> None:
    run_in_state("finished", learning_rate=0.01)
    # Momentum has no effect with Adam.
    run_in_state("finished", learning_rate=0.02, momentum=0.5)
    app = dashboard(PAGE)
    assert list(table(app, 1).index) == ["Learning rate"]
    assert sorted(table(app, 1).loc["Learning rate"]) == ["0.01", "0.02"]
    app.toggle(key="all_settings").set_value(True).run()
    assert {"Momentum", "Optimiser", "Batch size (images)", "torch"} <= set(table(app, 1).index)


def test_equal_runs_and_a_single_run_say_that_nothing_differs(
    run_in_state: Callable[..., Run], dashboard: Callable[..., Any]
) -> None:
    run = run_in_state("finished")
    assert "Choose two or more runs" in captions(dashboard(PAGE))
    run_in_state("finished")
    app = dashboard(PAGE)
    assert "all settings of these runs are the same" in captions(app)
    assert run.id in chosen(app)


def test_runs_judged_on_different_images_are_not_compared_silently(
    tiny: Any, run_in_state: Callable[..., Run], dashboard: Callable[..., Any]
) -> None:
    run_in_state("finished")
    assert not dashboard(PAGE).warning
    other = run_in_state("ready")
    other.append(start_event(tiny, validation_images=90))
    other.append(epoch_event(1))
    app = dashboard(PAGE)
    assert "validated on different images" in app.warning[0].value


def test_runs_that_tell_other_classes_apart_are_not_judged_alike(
    tiny: Any, run_in_state: Callable[..., Run], dashboard: Callable[..., Any]
) -> None:
    run_in_state("finished")
    other = run_in_state("ready")
    other.append(start_event(tiny, classes=tiny.info.classes[:2]))
    other.append(epoch_event(1))
    assert "validated on different images" in dashboard(PAGE).warning[0].value


def test_test_accuracy_is_of_the_best_weights_and_says_so(
    trained_run: Run, tiny: Any, dashboard: Callable[..., Any]
) -> None:
    labels = np.repeat(np.arange(3), 20)
    for checkpoint, wrong in (("last", 30), ("best", 6)):
        guesses = labels.copy()
        guesses[:wrong] = (guesses[:wrong] + 1) % 3
        folder, _ = job.evaluation_task(trained_run, checkpoint, tiny.info)
        facts = {"checkpoint": checkpoint, "epoch": 2.0, "fingerprint": tiny.info.fingerprint, "data": "shapes"}
        Evaluation(labels, np.eye(3, dtype=np.float32)[guesses], tiny.info.classes, facts).save(
            folder.path / "evaluation.npz"
        )
    row = table(dashboard(PAGE)).iloc[0]
    assert row["test"] == pytest.approx(90)
    assert row["test_weights"] == "best, epoch 2"


def test_a_living_run_is_not_deleted_and_the_page_says_why(
    run_in_state: Callable[..., Run], dashboard: Callable[..., Any]
) -> None:
    run = run_in_state("running")
    app = dashboard(PAGE)
    app.selectbox(key="to_delete").set_value(run.id).run()
    press(app, "Delete…")
    press(app, "Delete for ever")
    assert f"Run {run.id} is running; stop it before deleting it." in [
        error.value.replace("\\", "") for error in app.error
    ]
    assert run.path.exists()


def test_a_run_is_deleted_only_after_confirmation(
    run_in_state: Callable[..., Run], dashboard: Callable[..., Any]
) -> None:
    kept, gone = run_in_state("finished"), run_in_state("failed")
    app = dashboard(PAGE)
    app.selectbox(key="to_delete").set_value(gone.id).run()
    press(app, "Delete…")
    assert gone.path.exists()
    press(app, "Keep it")
    assert gone.path.exists()
    press(app, "Delete…")
    press(app, "Delete for ever")
    assert not gone.path.exists()
    assert kept.path.exists()
    assert list(table(app)["run"]) == [charts.run_name(kept)]
    assert chosen(app) == [kept.id]


def press(app: Any, label: str) -> None:
    next(button for button in app.button if button.label == label).click().run()
    assert not app.exception


def test_a_run_that_vanishes_while_the_page_is_open_is_no_error(
    run_in_state: Callable[..., Run], dashboard: Callable[..., Any]
) -> None:
    kept, gone = run_in_state("finished"), run_in_state("finished")
    app = dashboard(PAGE)
    shutil.rmtree(gone.path)
    app.run()
    assert not app.exception
    assert chosen(app) == [kept.id]


@pytest.mark.parametrize(
    ("axis", "expected"), [("Epochs", [1, 2, 3]), ("Images seen", [162, 324, 486]), ("Training time", [0.2, 0.4, 0.6])]
)
def test_a_curve_lies_where_its_axis_says(axis: str, expected: list[float], run_in_state: Callable[..., Run]) -> None:
    run = run_in_state("finished")
    frame = comparison.curves([run], "Validation accuracy", axis)
    assert list(frame["x"]) == pytest.approx(expected)
    assert list(frame["value"]) == pytest.approx([0.4, 0.7, 0.8])


def test_training_figures_are_there_before_the_first_epoch_ends(run_in_state: Callable[..., Run], tiny: Any) -> None:
    run = run_in_state("ready")
    run.append(start_event(tiny))
    run.append(progress_event(4, train_loss=2.0))
    frame = comparison.curves([run], "Training loss", "Epochs")
    assert frame[["x", "value", "kind"]].to_numpy().tolist() == [[4 / 11, 2.0, "moment"]]
    assert comparison.curves([run], "Validation loss", "Epochs").empty


def test_no_two_curves_look_alike(run_in_state: Callable[..., Run]) -> None:
    runs = [run_in_state("ready") for _ in range(24)]
    encoding = comparison.curve_chart(runs, "Training loss", "Epochs")["layer"][1]["encoding"]
    looks = {
        (colour, tuple(dash))
        for colour, dash in zip(
            encoding["color"]["scale"]["range"], encoding["strokeDash"]["scale"]["range"], strict=True
        )
    }
    assert len(looks) == 24


def test_a_run_has_one_name_whatever_has_become_of_it(run_in_state: Callable[..., Run]) -> None:
    run = run_in_state("running")
    day, clock, model, tail = run.id.split("-")
    name = f"{model} · {day[:4]}-{day[4:6]}-{day[6:]} {clock[:2]}:{clock[2:4]} · {tail}"
    assert charts.run_name(run) == name
    assert charts.run_label(run) == name.replace(" · ", " · 40.0% validation · ", 1)
    run.append(End(outcome="failed", message="It broke."))
    assert charts.run_name(run) == name
    assert "failed" not in charts.run_label(run)


def test_the_specification_stays_the_same_while_a_run_goes_on(run_in_state: Callable[..., Run]) -> None:
    """Or the chart would be built anew at every tick and lose its zoom."""
    run = run_in_state("running")
    before = comparison.curve_chart([run], "Training loss", "Epochs")
    run.append(epoch_event(2))
    assert comparison.curve_chart([run], "Training loss", "Epochs") == before


def keep_evaluation(run: Run, tiny: Any, wrong: int, **facts: Any) -> None:
    labels = np.repeat(np.arange(3), 20)
    guesses = labels.copy()
    guesses[:wrong] = (guesses[:wrong] + 1) % 3
    known = {"run": run.id, "checkpoint": "best", "epoch": 3.0, "fingerprint": tiny.info.fingerprint, "data": "shapes"}
    path = run.task("evaluate-0123456789abcdef").path / "evaluation.npz"
    Evaluation(labels, np.eye(3, dtype=np.float32)[guesses], tiny.info.classes, {**known, **facts}).save(path)


def test_a_run_is_judged_on_its_own_images_before_any_other(tiny: Any, run_in_state: Callable[..., Run]) -> None:
    run = run_in_state("finished")
    keep_evaluation(run, tiny, 6)
    path = run.task("evaluate-0123456789abcdef").path / "evaluation.npz"
    # Of later weights, of another name and written later.
    keep_evaluation(run, tiny, 30, fingerprint="another", epoch=9.0)
    other = run.task("evaluate-fedcba9876543210").path / "evaluation.npz"
    path.replace(other)
    keep_evaluation(run, tiny, 6)
    stored = pairs.kept(run)
    assert stored is not None
    assert stored.path == path
    assert material(run).evaluation.accuracy == pytest.approx(0.9)


def test_two_runs_are_tested_on_the_same_images(
    tiny: Any, run_in_state: Callable[..., Run], dashboard: Callable[..., Any]
) -> None:
    runs = [run_in_state("finished") for _ in range(2)]
    for run, wrong in zip(runs, (30, 6), strict=True):
        keep_evaluation(run, tiny, wrong)
    app = dashboard(PAGE, runs=[run.id for run in runs])
    said = " ".join(each.value.replace("\\", "") for each in app.markdown)
    assert "B is better by 40.0 points (95 % interval" in said
    metrics = {each.label: each.value for each in app.metric}
    assert metrics["Accuracy of A"] == "50.00%"
    assert metrics["B less A"] == "+40.00 points"
    assert metrics["McNemar's p, exact"] == "< 0.0001"
    assert "Only A is right on 0 images, only B on 24." in captions(app).replace("\\", "")
    assert "60 images" in captions(app)
    assert "Choose one to see its images." in captions(app)


def test_a_verdict_on_replaced_weights_says_so_and_offers_the_present_ones(
    tiny: Any, trained_run: Run, run_in_state: Callable[..., Run], dashboard: Callable[..., Any]
) -> None:
    other = run_in_state("finished")
    keep_evaluation(other, tiny, 6)
    now = description(trained_run.checkpoints()["best"])["epoch"]
    keep_evaluation(trained_run, tiny, 30, epoch=now)
    app = dashboard(PAGE, runs=[other.id, trained_run.id])
    assert not app.warning
    keep_evaluation(trained_run, tiny, 30, epoch=now - 0.5)
    app = dashboard(PAGE, runs=[other.id, trained_run.id])
    said = app.warning[0].value.replace("\\", "")
    assert f"best weights as they were after epoch {now - 0.5:.4g}; they are now those of epoch {now:.4g}." in said
    assert any(button.label.startswith("Evaluate the present weights") for button in app.button)


def test_the_images_on_which_two_runs_differ_are_shown_on_a_click(
    tiny: Any, run_in_state: Callable[..., Run], dashboard: Callable[..., Any]
) -> None:
    runs = [run_in_state("finished") for _ in range(2)]
    for run, wrong in zip(runs, (30, 6), strict=True):
        keep_evaluation(run, tiny, wrong)
    app = dashboard(PAGE, runs=[run.id for run in runs], pair_images="Only B is right")
    shown = [each for each in app.get("html") if "<figure" in each.proto.body]
    assert len(shown) == 1
    assert shown[0].proto.body.count("<img") == 24
    assert "24 of 24 test images" in captions(app)

    folder = folder_of(tiny.cache)
    text = refer(Selection(tiny.info.fingerprint, "test", np.array([3]), "by hand"), folder)
    app = dashboard(PAGE, runs=[run.id for run in runs], pair_images="Only B is right", selection=text)
    assert not app.exception, "the selection is said once, whoever else shows images"
    assert "24 of 24 test images" in captions(app)
    assert [button.key for button in app.button].count("selection-clear") == 1


def test_runs_on_other_images_are_not_paired_and_missing_tests_are_offered(
    tiny: Any, run_in_state: Callable[..., Run], trained_run: Run, dashboard: Callable[..., Any]
) -> None:
    other = run_in_state("finished")
    keep_evaluation(other, tiny, 6, fingerprint="another")
    app = dashboard(PAGE, runs=[other.id, trained_run.id])
    assert "has not been evaluated on the test split yet" in captions(app).replace("\\", "")
    assert any(button.label == f"Evaluate {charts.run_name(trained_run)}" for button in app.button)
    keep_evaluation(trained_run, tiny, 6)
    app = dashboard(PAGE, runs=[other.id, trained_run.id])
    assert any("different images" in warning.value for warning in app.warning)


def test_runs_of_different_data_sets_do_not_compare_and_their_data_are_named(
    tiny: Any, run_in_state: Callable[..., Run], dashboard: Callable[..., Any]
) -> None:
    one, other = run_in_state("finished"), run_in_state("ready", data="")
    other.append(start_event(tiny, data_fingerprint="f" * 16, data_name="drawings"))
    other.append(epoch_event(1))
    app = dashboard(PAGE, runs=[one.id, other.id])
    name = ui.plain(f"different data sets ({tiny.info.name}, drawings)")
    assert f"{name}\\, so their validation figures do not compare" in app.warning[0].value
    table = comparison.settings_table([one, other], False)
    assert table.loc["Data", charts.run_name(other)] == "drawings"


def test_repeated_seeds_are_one_row_and_one_curve_if_asked(
    run_in_state: Callable[..., Run], dashboard: Callable[..., Any]
) -> None:
    runs = [run_in_state("finished", seed=seed) for seed in (1, 2)]
    alone = run_in_state("finished", seed=1, learning_rate=0.5)
    app = dashboard(PAGE)
    rows = next(frame.value for frame in app.dataframe if "seeds" in frame.value)
    assert rows["runs"].tolist() == [2]
    assert rows["best_mean"].tolist() == pytest.approx([80])
    assert rows["best_deviation"].tolist() == pytest.approx([0])
    frame = comparison.curves([*runs, alone], "Validation accuracy", "Epochs", comparison.Look(grouped=True))
    assert frame["kind"].value_counts().to_dict() == {"mean": 3, "epoch": 3}
    app.toggle(key="grouped").set_value(True).run()
    assert not app.exception


def test_the_mean_of_seeds_lies_between_the_lowest_and_the_highest(tiny: Any, run_in_state: Callable[..., Run]) -> None:
    runs = []
    for seed, accuracy in ((1, 0.5), (2, 0.9)):
        runs.append(run_in_state("ready", seed=seed))
        runs[-1].append(start_event(tiny))
        runs[-1].append(epoch_event(1, validation_accuracy=accuracy))
    runs[0].append(epoch_event(2, validation_accuracy=0.6))
    frame = comparison.curves(runs, "Validation accuracy", "Steps", comparison.Look(grouped=True))
    assert frame[["x", "value", "low", "high"]].to_numpy().tolist() == [[11, pytest.approx(0.7), 0.5, 0.9]]


def test_curves_are_smoothed_beside_what_was_measured_and_the_best_never_falls(
    tiny: Any, run_in_state: Callable[..., Run]
) -> None:
    run = run_in_state("ready")
    run.append(start_event(tiny))
    for epoch, accuracy in enumerate((0.2, 0.6, 0.4), 1):
        run.append(epoch_event(epoch, validation_accuracy=accuracy))
    look = comparison.Look(smoothing=0.5, best=True, log_x=True, log_y=True)
    frame = comparison.curves([run], "Validation accuracy", "Steps", look).set_index("kind")
    assert frame.loc["moment", "value"].tolist() == [0.2, 0.6, 0.4]
    assert frame.loc["smoothed", "value"].tolist() == pytest.approx([0.2, 0.35 / 0.75, 0.375 / 0.875])
    assert frame.loc["best", "value"].tolist() == [0.2, 0.6, 0.6]
    assert frame.loc["best", "x"].tolist() == [11, 22, 33]
    scales = comparison.curve_chart([run], "Validation accuracy", "Steps", look)["layer"][1]["encoding"]
    assert (scales["x"]["scale"]["type"], scales["y"]["scale"]["type"]) == ("log", "log")


def test_all_settings_begin_with_those_that_differ(run_in_state: Callable[..., Run]) -> None:
    runs = [run_in_state("ready", batch_size=size) for size in (16, 32)]
    table = comparison.settings_table(runs, every=True)
    assert table.index[0] == "Batch size (images)"
    assert len(table) > 30
