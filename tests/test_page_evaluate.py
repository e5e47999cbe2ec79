"""The Evaluate page: every figure says what it is of, a click on a cell shows its images, and no state breaks it."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from cifar_core import job, logits
from cifar_core.calibration import fitted_temperature, reliability
from cifar_core.curves import one_against_rest
from cifar_core.evaluation import Evaluation
from cifar_core.invariance import VIEWS
from cifar_core.runs import Run, create_run, write_whole
from cifar_core.selections import Selection, folder_of, refer
from pages.ui import matrix
from tests.conftest import progress_event, refuse_folders, tiny_config, work

PAGE = "pages/evaluate.py"


@pytest.fixture
def answers(tiny: Any) -> Evaluation:
    """Random answers about the tiny test split, a third of them wrong."""
    random = np.random.default_rng(3)
    labels = np.repeat(np.arange(3), 20)
    guesses = np.where(random.random(60) < 0.34, random.integers(0, 3, 60), labels)
    probabilities = random.uniform(0.01, 0.2, (60, 3))
    probabilities[np.arange(60), guesses] += random.uniform(0.4, 2, 60)
    probabilities /= probabilities.sum(axis=1, keepdims=True)
    return Evaluation(labels, probabilities.astype(np.float32), tiny.info.classes)


@pytest.fixture
def evaluated_run(trained_run: Run, tiny: Any, answers: Evaluation) -> Run:
    """A finished run whose best weights are evaluated already, with these answers."""
    keep(trained_run, tiny, answers, epoch=2.0)
    return trained_run


def keep(run: Run, tiny: Any, answers: Evaluation, epoch: float) -> Path:
    folder, _ = job.evaluation_task(run, "best", tiny.info)
    facts = {
        "run": run.id,
        "checkpoint": "best",
        "epoch": epoch,
        "data": tiny.info.name,
        "fingerprint": tiny.info.fingerprint,
        "split": "test",
    }
    path = folder.path / "evaluation.npz"
    Evaluation(answers.labels, answers.probabilities, answers.classes, facts).save(path)
    return path


@pytest.fixture
def started(monkeypatch: pytest.MonkeyPatch) -> list[dict[str, Any]]:
    """The background tasks a page starts, which are noted and not done."""
    tasks: list[dict[str, Any]] = []

    def note(folder: Any, task: dict[str, Any], cache: Path) -> None:
        if len(tasks) > 3:
            raise RuntimeError("The page starts the task again and again.")
        tasks.append(task)
        folder.append(job.End(outcome="failed", message="Not done in this test."))

    monkeypatch.setattr(job, "start_task", note)
    return tasks


def captions(app: Any) -> str:
    return " ".join(element.value for element in (*app.caption, *app.markdown)).replace("\\", "")


def galleries(app: Any) -> list[str]:
    return [element.proto.body for element in app.get("html") if "<style>" not in element.proto.body]


def cells_shown(app: Any) -> dict[tuple[str, str], dict[str, Any]]:
    """The rows of the chart of the matrix, by true and predicted class."""
    import pyarrow

    chart = next(chart for chart in app.get("vega_lite_chart") if "datum.chosen" in chart.proto.spec)
    data = chart.proto.data.data or chart.proto.datasets[0].data.data
    rows = pyarrow.ipc.open_stream(data).read_all().to_pylist()
    return {(row["true"], row["predicted"]): row for row in rows}


def test_without_runs_it_leads_to_training(dashboard: Callable[..., Any]) -> None:
    app = dashboard(PAGE)
    assert "No runs yet" in captions(app)
    assert not app.metric


@pytest.mark.parametrize("state", ["ready", "running", "failed", "interrupted"])
def test_runs_without_weights_are_not_offered(
    state: str, run_in_state: Callable[..., Run], dashboard: Callable[..., Any]
) -> None:
    run_in_state(state)
    app = dashboard(PAGE)
    assert "No run has weights yet" in captions(app)


@pytest.mark.parametrize("file", ["evaluate", "features", "explain", "data"])
def test_a_folder_that_cannot_be_written_is_a_sentence(
    file: str, trained_run: Run, dashboard: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    refuse_folders(monkeypatch, "tasks")
    app = dashboard(f"pages/{file}.py", run=trained_run.id)
    if file == "evaluate":
        assert app.error[0].value.replace("\\", "") == f"{trained_run.path}/tasks cannot be written: Permission denied."


def test_without_its_images_it_says_which_are_missing(
    evaluated_run: Run, cache: Path, dashboard: Callable[..., Any]
) -> None:
    shutil.rmtree(cache)
    app = dashboard(PAGE, run=evaluated_run.id)
    assert "are not here" in app.warning[0].value


def test_the_figures_are_those_of_the_evaluation_and_say_what_they_are_of(
    evaluated_run: Run, tiny: Any, answers: Evaluation, dashboard: Callable[..., Any]
) -> None:
    app = dashboard(PAGE, run=evaluated_run.id)
    shown = {metric.label: metric.value for metric in app.metric}
    low, high = answers.accuracy_interval()
    assert shown["Accuracy"] == f"{answers.accuracy:.1%}"
    assert shown["95% interval"] == f"{low:.1%} – {high:.1%}"
    assert shown["Macro F1"] == f"{answers.macro()['f1']:.1%}"
    said = captions(app)
    assert f"Run {evaluated_run.id}, best weights, after epoch 2; {tiny.info.name}, test split, all 60 images" in said


def test_the_matrix_holds_every_cell_once(
    evaluated_run: Run, tiny: Any, answers: Evaluation, dashboard: Callable[..., Any]
) -> None:
    shown = cells_shown(dashboard(PAGE, run=evaluated_run.id))
    names = tiny.info.classes
    for i, true in enumerate(names):
        for j, predicted in enumerate(names):
            count = int(((answers.labels == i) & (answers.predictions == j)).sum())
            assert shown[true, predicted]["images"] == count
            assert shown[true, predicted]["text"] == (str(count) if count else "")


def test_a_linked_cell_shows_exactly_its_images_by_their_margin_beside_two_heat_maps(
    evaluated_run: Run, tiny: Any, answers: Evaluation, dashboard: Callable[..., Any]
) -> None:
    true, predicted = np.argwhere(answers.confusion() - np.diag(np.diag(answers.confusion())) > 0)[0]
    names = tiny.info.classes
    app = dashboard(PAGE, run=evaluated_run.id, true=names[true], predicted=names[predicted])
    expected = np.flatnonzero((answers.labels == true) & (answers.predictions == predicted))
    expected = sorted(expected, key=lambda i: answers.margins[i])
    gallery = galleries(app)[0]
    places = [gallery.find(f"#{i} {names[true]} → {names[predicted]}") for i in expected]
    assert -1 not in places
    assert places == sorted(places)
    assert gallery.count("<img") == 3 * len(expected)
    assert gallery.count('alt="Evidence for the true class.') == len(expected)
    app.toggle(key="heats").set_value(False).run()
    assert galleries(app)[0].count("<img") == len(expected)
    assert cells_shown(app)[names[true], names[predicted]]["chosen"]
    assert sum(row["chosen"] for row in cells_shown(app).values()) == 1


def test_answers_of_weights_that_were_replaced_get_no_heat_maps_of_later_ones(
    trained_run: Run, tiny: Any, answers: Evaluation, started: list[dict[str, Any]], dashboard: Callable[..., Any]
) -> None:
    keep(trained_run, tiny, answers, epoch=1.0)
    there = trained_run.checkpoints()
    shutil.copy(there["last"], there["best"])
    with trained_run.held():
        trained_run.append(progress_event(22))
        app = dashboard(PAGE, run=trained_run.id, true=tiny.info.classes[0])
    assert "of earlier weights" in app.info[0].value
    gallery = galleries(app)[0]
    assert gallery.count("<img") == gallery.count("<figcaption") > 0
    assert not any("Why" in button.label for button in app.button)


def test_a_whole_column_can_be_narrowed_to_its_mistakes(
    evaluated_run: Run, tiny: Any, answers: Evaluation, dashboard: Callable[..., Any]
) -> None:
    app = dashboard(PAGE, run=evaluated_run.id, predicted=tiny.info.classes[0], mistakes="true")
    wrong = int(((answers.predictions == 0) & (answers.labels != 0)).sum())
    assert f"{wrong} wrongly predicted images predicted as {tiny.info.classes[0]}" in captions(app)
    assert galleries(app)[0].count("<figcaption") == min(wrong, 12)


def test_one_image_is_not_called_images(
    trained_run: Run, tiny: Any, answers: Evaluation, dashboard: Callable[..., Any]
) -> None:
    guesses = answers.labels.copy()
    guesses[0] = 1
    keep(trained_run, tiny, Evaluation(answers.labels, np.eye(3, dtype=np.float32)[guesses], answers.classes), 2.0)
    app = dashboard(PAGE, run=trained_run.id, true=tiny.info.classes[0], predicted=tiny.info.classes[1])
    assert "1 image of circle predicted as square. Below each" in captions(app)
    whole = "One of the 60 test images is predicted wrongly. Below it: its number, the true class and its probability"
    assert whole in captions(app)


def test_the_chosen_cell_is_in_the_url_and_a_step_back_leaves_it(
    evaluated_run: Run, tiny: Any, dashboard: Callable[..., Any]
) -> None:
    first, second = tiny.info.classes[:2]
    app = dashboard(PAGE, run=evaluated_run.id)
    app.selectbox(key="true").set_value(first)
    app.selectbox(key="predicted").set_value(second).run()
    assert app.query_params["true"] == first
    assert app.query_params["predicted"] == second
    assert cells_shown(app)[first, second]["chosen"]
    app.run()
    assert app.selectbox(key="true").value == first
    # What the browser's Back does: the URL as it was, all else as it is.
    for name in ("true", "predicted"):
        del app.query_params[name]
    app.run()
    assert app.selectbox(key="true").value is None
    assert not any(row["chosen"] for row in cells_shown(app).values())
    app.query_params["predicted"] = second
    app.run()
    assert (app.selectbox(key="true").value, app.selectbox(key="predicted").value) == (None, second)


def test_a_cell_taken_back_leaves_the_url(evaluated_run: Run, tiny: Any, dashboard: Callable[..., Any]) -> None:
    first, second = tiny.info.classes[:2]
    app = dashboard(PAGE, run=evaluated_run.id, true=first, predicted=second)
    app.selectbox(key="true").set_value(None)
    app.selectbox(key="predicted").set_value(None).run()
    assert not app.query_params.get("true")
    assert not app.query_params.get("predicted")
    assert app.query_params["run"] == evaluated_run.id
    app.run()
    assert app.selectbox(key="true").value is None


def test_an_empty_cell_says_so(trained_run: Run, tiny: Any, answers: Evaluation, dashboard: Callable[..., Any]) -> None:
    perfect = Evaluation(answers.labels, np.eye(3, dtype=np.float32)[answers.labels], answers.classes)
    keep(trained_run, tiny, perfect, epoch=2.0)
    app = dashboard(PAGE, run=trained_run.id, true=tiny.info.classes[0], predicted=tiny.info.classes[1])
    assert "There are no images of circle predicted as square among the 60 test images" in captions(app)
    assert captions(app).count("all 60 test images are predicted correctly") == 2


def test_a_cell_of_a_class_the_run_does_not_know_is_left_out(evaluated_run: Run, dashboard: Callable[..., Any]) -> None:
    app = dashboard(PAGE, run=evaluated_run.id, true="no such class", predicted="<script>")
    assert app.selectbox(key="true").value is None
    assert app.selectbox(key="predicted").value is None
    assert app.metric


def test_the_worst_mistake_comes_first_with_both_probabilities_named(
    evaluated_run: Run, tiny: Any, answers: Evaluation, dashboard: Callable[..., Any]
) -> None:
    app = dashboard(PAGE, run=evaluated_run.id)
    gallery = galleries(app)[-1]
    wrong = np.flatnonzero(answers.predictions != answers.labels)
    worst = min(wrong, key=lambda i: answers.probabilities[i, answers.labels[i]])
    true, predicted = (tiny.info.classes[k] for k in (answers.labels[worst], answers.predictions[worst]))
    chances = answers.probabilities[worst]
    sure, unsure = chances[answers.predictions[worst]], chances[answers.labels[worst]]
    caption = f"#{worst} {true} {unsure:.1%} → {predicted} {sure:.1%}"
    assert gallery.split("<figcaption")[1].split(">", 1)[1].startswith(caption)
    assert gallery.count("<img") == len(wrong)


def test_shares_are_of_the_true_class(
    evaluated_run: Run, tiny: Any, answers: Evaluation, dashboard: Callable[..., Any]
) -> None:
    app = dashboard(PAGE, run=evaluated_run.id, cells="Percent of the true class")
    name = tiny.info.classes[1]
    hits = ((answers.labels == 1) & (answers.predictions == 1)).sum()
    assert cells_shown(app)[name, name]["text"] == f"{100 * hits / 20:.0f}"


def test_a_finished_run_is_evaluated_without_asking(
    trained_run: Run, started: list[dict[str, Any]], dashboard: Callable[..., Any]
) -> None:
    app = dashboard(PAGE, run=trained_run.id)
    assert [task["checkpoint"] for task in started] == ["best"]
    assert "Not done in this test." in app.error[0].value.replace("\\", "")


def test_a_run_in_training_is_evaluated_only_when_asked(
    trained_run: Run, started: list[dict[str, Any]], dashboard: Callable[..., Any]
) -> None:
    with trained_run.held():
        trained_run.append(progress_event(22))
        app = dashboard(PAGE, run=trained_run.id)
        assert not started
        assert "still training" in app.info[0].value
        app.button[0].click().run()
    assert len(started) == 1


def test_a_run_whose_worker_has_said_its_last_word_is_evaluated_at_once(
    trained_run: Run, started: list[dict[str, Any]], dashboard: Callable[..., Any]
) -> None:
    with trained_run.held():
        dashboard(PAGE, run=trained_run.id)
    assert started


def test_while_training_goes_on_the_evaluation_of_earlier_weights_is_shown(
    evaluated_run: Run, started: list[dict[str, Any]], answers: Evaluation, dashboard: Callable[..., Any]
) -> None:
    best = evaluated_run.checkpoints()["best"]
    best.write_bytes(best.read_bytes() + b" ")
    with evaluated_run.held():
        evaluated_run.append(progress_event(22))
        app = dashboard(PAGE, run=evaluated_run.id)
    assert not started
    assert "of earlier weights" in app.info[0].value
    assert app.metric[0].value == f"{answers.accuracy:.1%}"


def test_a_damaged_evaluation_is_named_and_can_be_made_anew(
    evaluated_run: Run, tiny: Any, started: list[dict[str, Any]], dashboard: Callable[..., Any]
) -> None:
    folder, _ = job.evaluation_task(evaluated_run, "best", tiny.info)
    (folder.path / "evaluation.npz").write_bytes(b"no such thing")
    app = dashboard(PAGE, run=evaluated_run.id)
    assert "damaged" in app.error[0].value
    next(button for button in app.button if button.label == "Evaluate again").click().run()
    assert len(started) >= 1
    assert not app.exception


@pytest.mark.parametrize("count", [2, 20])
@pytest.mark.parametrize("theme", ["light", "dark"])
def test_numbers_stand_out_from_their_cells(count: int, theme: str) -> None:
    random = np.random.default_rng(0)
    probabilities = random.dirichlet(np.full(count, 0.3), 600).astype(np.float32)
    classes = tuple(f"a rather long name of class {k}" for k in range(count))
    frame = matrix.cells(Evaluation(random.integers(0, count, 600), probabilities, classes), "Images", theme)
    assert len(frame) == count**2
    for row in frame[frame["images"] > 0].itertuples():
        bright, dim = sorted((matrix.luminance(row.fill), matrix.luminance(row.ink)), reverse=True)
        assert (bright + 0.05) / (dim + 0.05) >= 4.5


def test_the_specification_is_the_same_whatever_is_chosen() -> None:
    spec = matrix.matrix_chart(("a", "b"), "light")
    assert json.loads(json.dumps(spec)) == matrix.matrix_chart(("a", "b"), "light")
    assert spec["layer"][-1]["params"][0]["name"] == "cell"


def test_long_names_of_classes_stay_tellable() -> None:
    names = ["cat", *(f"a long name that ends in {place}" for place in range(29))]
    short = matrix.short_names(names)
    assert short["cat"] == "cat"
    assert short[names[4]] == "a long…s in 3"
    assert len(set(short.values())) == len(names)
    alike = ["abcdef one ghijkl", "abcdef two ghijkl", "other"]
    assert list(matrix.short_names(alike).values()) == ["1 abcdef…ghijkl", "2 abcdef…ghijkl", "other"]


@pytest.mark.parametrize(("count", "least", "most"), [(2, 40, 60), (10, 40, 60), (30, 14, 20)])
def test_a_cell_is_as_high_as_its_number_needs_whatever_stands_above(count: int, least: int, most: int) -> None:
    spec = matrix.matrix_chart([f"class {place}" for place in range(count)], "light")
    assert least <= spec["height"]["step"] <= most
    assert [spec["encoding"][side]["axis"]["labelFlush"] for side in "xy"] == [False, False]


def test_of_very_many_classes_those_with_mistakes_are_shown() -> None:
    count = matrix.MOST_CLASSES + 20
    labels = np.arange(count)
    guesses = labels.copy()
    guesses[[50, 55]] = 55, 50
    answers = Evaluation(labels, np.eye(count, dtype=np.float32)[guesses], tuple(map(str, labels)))
    kept = matrix.shown_classes(answers)
    assert len(kept) == matrix.MOST_CLASSES
    assert {50, 55} <= set(kept)
    assert pd.Index(kept).is_monotonic_increasing


def test_a_run_on_some_classes_is_shown_on_their_images_alone(
    tiny: Any, runs_root: Path, dashboard: Callable[..., Any]
) -> None:
    run = work(create_run(tiny_config(tiny, classes="circle,stripes"), runs_root), tiny.cache)
    folder, task = job.evaluation_task(run, "best", tiny.info)
    with folder.held():
        write_whole(folder.path / "task.json", json.dumps(task).encode())
        assert list(job.execute_task(folder, tiny.cache))
    app = dashboard(PAGE, run=run.id, true="stripes")
    said = "\n".join(element.value for element in app.caption).replace("\\", "")
    assert "test split, 40 of 60 images, those of the 2 classes it tells apart (circle, stripes)." in said
    assert "20 images of stripes" in said
    for page in ("pages/features.py", "pages/explain.py"):
        app = dashboard(page, run=run.id)
        assert not app.error
    said = " ".join(element.value for element in app.markdown).replace("\\", "")
    assert "of 40 of Images in shapes (circle, stripes)" in said


# Validation images, epochs, curves, biographies, flips ----------------------------------------------------------------


def test_the_validation_images_are_looked_at_at_any_kept_epoch(
    evaluated_run: Run, dashboard: Callable[..., Any]
) -> None:
    there = logits.read(evaluated_run.logits("validation"))
    for epoch in (1, 2):
        app = dashboard(PAGE, run=evaluated_run.id, images="Validation", epoch=str(epoch))
        assert app.selectbox(key="epoch").value == epoch
        shown = {metric.label: metric.value for metric in app.metric}
        assert shown["Accuracy"] == f"{there.at(epoch).accuracy:.1%}"
        assert f"after epoch {epoch}; Images in shapes, validation split, all 18 images of 3 classes" in captions(app)


def test_an_epoch_that_is_not_kept_is_named(evaluated_run: Run, dashboard: Callable[..., Any]) -> None:
    app = dashboard(PAGE, run=evaluated_run.id, images="Validation", epoch="999")
    (warning,) = app.warning
    shown = app.selectbox(key="epoch").value
    assert warning.value.replace("\\", "") == f"Nothing is kept here of epoch '999'; this is {shown}."


def test_a_difference_is_told_from_another_epoch(evaluated_run: Run, dashboard: Callable[..., Any]) -> None:
    there = logits.read(evaluated_run.logits("validation"))
    app = dashboard(PAGE, run=evaluated_run.id, images="Validation", epoch="2")
    app.selectbox(key="versus").set_value("this run, epoch 1").run()
    assert not app.exception
    change = there.at(2).confusion() - there.at(1).confusion()
    names = there.images.classes
    for i, true in enumerate(names):
        for j, predicted in enumerate(names):
            text = f"{change[i, j]:+d}".replace("-", "−") if change[i, j] else ""
            assert cells_shown(app)[true, predicted]["text"] == text
    assert "points from" in captions(app)


def test_a_difference_is_offered_to_runs_that_were_asked_about_the_same_images_only(
    evaluated_run: Run, dashboard: Callable[..., Any]
) -> None:
    other = Run(Path(shutil.copytree(evaluated_run.path, evaluated_run.path.with_name("20260101-000000-other-0000"))))

    def offered() -> list[str]:
        app = dashboard(PAGE, run=evaluated_run.id, images="Validation", epoch="2")
        return [option for option in app.selectbox(key="versus").options if not option.startswith("this run")]

    assert len(offered()) == 1
    folder = other.logits("validation")
    there = logits.read(folder)
    said = there.at(2).probabilities
    shutil.rmtree(folder)
    # The labels are the same, one by one, but not the images.
    logits.begin(folder, replace(there.images, indices=there.images.indices[::-1].copy()))
    logits.keep(folder, 2, np.log(said))
    assert offered() == []


def test_errors_only_leave_the_diagonal_empty(
    evaluated_run: Run, answers: Evaluation, dashboard: Callable[..., Any]
) -> None:
    shown = cells_shown(dashboard(PAGE, run=evaluated_run.id, errors="true", clustered="true"))
    assert all(row["text"] == "" for (true, predicted), row in shown.items() if true == predicted)
    assert sum(row["images"] for row in shown.values()) == (~answers.correct).sum()


@pytest.mark.parametrize("numbers", matrix.NUMBERS)
def test_shares_add_up_to_their_whole(numbers: str) -> None:
    confusion = np.array([[4, 1, 0], [2, 0, 0], [1, 1, 1]])
    found = matrix.shares(confusion, numbers)
    axis = {"Percent of the true class": 1, "Percent of the predicted class": 0, "Percent of all images": None}
    if numbers == "Images":
        assert (found == confusion).all()
    else:
        assert found.sum(axis=axis[numbers]) == pytest.approx(1)


@pytest.mark.parametrize(
    ("share", "text"), [(0.005, "<1"), (0.004, "<1"), (0.01, "1"), (0.995, ">99"), (1.0, "100"), (0.0, "")]
)
def test_a_share_is_never_rounded_to_none_or_all(share: float, text: str) -> None:
    assert matrix._written(share, images=False, difference=False) == text


def story_of(app: Any) -> dict[str, Any]:
    return json.loads(json.loads(app.get("bidi_component")[0].proto.json)["story"])


def test_the_time_machine_holds_every_epoch_and_computes_none(
    evaluated_run: Run, tiny: Any, dashboard: Callable[..., Any]
) -> None:
    app = dashboard(PAGE, run=evaluated_run.id, images="Validation", view="Epoch by epoch")
    story, there = story_of(app), logits.read(evaluated_run.logits("validation"))
    assert story["epochs"] == [1, 2]
    for place, epoch in enumerate((1, 2)):
        alone = there.at(epoch)
        assert story["confusion"][place] == alone.confusion().tolist()
        assert story["accuracy"][place] == pytest.approx(alone.accuracy, abs=1e-5)
        report = alone.report()
        expected = report[["precision", "recall", "f1"]].to_numpy()
        assert np.array(story["report"][place]) == pytest.approx(expected, abs=1e-4)
        worst = alone.mistakes(12)
        told = [entry for entry in story["worst"][place] if entry[0] >= 0]
        assert [story["numbers"][entry[0]] for entry in told] == there.images.indices[worst["index"]].tolist()
    assert story["sprite"].startswith("data:image/jpeg;base64,")
    assert "2 of 2 epochs are kept" in captions(app)
    assert "of the 50 MB that keep_logits allows" in captions(app)


def test_the_time_machine_begins_with_the_epoch_of_the_address(
    evaluated_run: Run, dashboard: Callable[..., Any]
) -> None:
    def begins(**asked: str) -> tuple[int, list[str]]:
        app = dashboard(PAGE, run=evaluated_run.id, images="Validation", view="Epoch by epoch", **asked)
        assert not app.exception
        (machine,) = [json.loads(element.proto.json) for element in app.get("bidi_component")]
        return machine["epoch"], [warning.value.replace("\\", "") for warning in app.warning]

    assert evaluated_run.best
    usual = evaluated_run.best.epoch
    assert begins(at=str(3 - usual)) == (3 - usual, [])
    assert begins() == (usual, [])
    assert begins(at="first") == (usual, [f"Nothing is kept of epoch 'first'; this is {usual}."])
    assert begins(at="99") == (2, ["Nothing is kept of epoch '99'; this is 2."])
    assert begins(at="9" * 30) == (2, [f"Nothing is kept of epoch '{'9' * 20}'; this is 2."])
    assert begins(at="-inf")[0] == 1


def test_a_selection_of_the_other_split_is_said_not_to_apply(
    evaluated_run: Run, tiny: Any, cache: Path, dashboard: Callable[..., Any]
) -> None:
    text = refer(Selection(tiny.info.fingerprint, "train", np.array([3, 70]), "by hand"), folder_of(cache))
    app = dashboard(PAGE, run=evaluated_run.id, selection=text)
    said = "The selection is of training images and does not apply here: these are all test images."
    assert said in [box.value for box in app.info]
    app.toggle(key="follow").set_value(False).run()
    assert said not in [box.value for box in app.info], "nobody expects it to apply"


def test_weights_that_have_not_predicted_yet_can_be_let_to(
    evaluated_run: Run, started: list[dict[str, Any]], dashboard: Callable[..., Any]
) -> None:
    app = dashboard(PAGE, run=evaluated_run.id, view="Epoch by epoch")
    assert not started
    next(button for button in app.button if "predict the test images" in button.label).click().run()
    assert (started[0]["task"], started[0]["split"]) == ("logits", "test")


def test_curves_and_calibration_say_what_the_core_says(
    evaluated_run: Run, answers: Evaluation, dashboard: Callable[..., Any]
) -> None:
    app = dashboard(PAGE, run=evaluated_run.id, view="Curves and calibration", curve_class="square", threshold="0.4")
    assert not app.exception
    curve = one_against_rest(answers, answers.classes.index("square"))
    taken = answers.probabilities[:, 1] >= 0.4
    assert f"At 0.40, {taken.sum()} images are taken for square" in captions(app)
    assert f"square {curve.auc:.4f}" in captions(app)
    error = reliability(answers.confidences, answers.correct).ece
    assert f"(ECE) **{error:.2%}**" in captions(app)
    folder = evaluated_run.logits("validation")
    values = np.array(logits.read(folder).values[1], np.float32)
    assert "No temperature: all of the 18 validation images are told right, which fits none." in captions(app)
    assert "temperature **" not in captions(app)
    values[0] = np.roll(values[0], 1)
    logits.keep(folder, 2, values)
    there = logits.read(folder)
    app = dashboard(PAGE, run=evaluated_run.id, view="Curves and calibration", curve_class="square", threshold="1")
    assert f"temperature **{fitted_temperature(there.values[1], there.images.labels):.3f}**" in captions(app)
    assert "At 1.00, 0 images are taken for square" in captions(app)
    assert "precision –, as none is taken." in captions(app)
    assert "fitted on 18 validation images of the same epoch" in captions(app)


def test_biographies_show_the_images_of_a_group(evaluated_run: Run, dashboard: Callable[..., Any]) -> None:
    app = dashboard(PAGE, run=evaluated_run.id, images="Validation", view="Image by image", group="Never learned")
    assert not app.exception
    there = logits.read(evaluated_run.logits("validation"))
    never = np.flatnonzero(~there.correct.any(axis=0))
    assert {metric.label: metric.value for metric in app.metric}["Never learned"] == str(len(never))
    if len(never):
        assert galleries(app)[0].count("<img") == min(len(never), 24)
    assert "Counted at the" not in captions(app), "every epoch is kept"
    logits.files(evaluated_run.logits("validation"))[2].rename(evaluated_run.logits("validation") / "epoch-4.npz")
    app = dashboard(PAGE, run=evaluated_run.id, images="Validation", view="Image by image")
    assert "Counted at the 2 epochs that are kept of 4: what was forgotten" in captions(app)


def test_flips_and_shifts_are_looked_at_when_asked_and_told_with_what_they_help(
    evaluated_run: Run, tiny: Any, dashboard: Callable[..., Any]
) -> None:
    app = dashboard(PAGE, run=evaluated_run.id, view="Flips and shifts")
    assert [button.label for button in app.button if "flips" in button.label] == ["Look at flips and shifts"]
    folder, task = job.views_task(evaluated_run, "best", tiny.info)
    write_whole(folder.path / "task.json", json.dumps(task).encode())
    with folder.held():
        assert list(job.execute_task(folder, tiny.cache))
    app = dashboard(PAGE, run=evaluated_run.id, view="Flips and shifts")
    assert not app.exception
    table = app.dataframe[0].value
    assert len(table) == len(VIEWS) + 2
    plain = table["accuracy"].iloc[0]
    assert table["accuracy"].tolist() == pytest.approx((plain + (table["helps"] - table["hurts"]) / 0.6).tolist())


def test_what_is_kept_is_shown_without_the_images(
    evaluated_run: Run, cache: Path, dashboard: Callable[..., Any]
) -> None:
    shutil.rmtree(cache)
    for view in ("Overview", "Epoch by epoch", "Image by image", "Curves and calibration", "Flips and shifts"):
        app = dashboard(PAGE, run=evaluated_run.id, images="Validation", view=view)
        assert not app.exception
        assert "are not here" in app.warning[0].value
        assert not app.error
    assert "validation split" in captions(dashboard(PAGE, run=evaluated_run.id, images="Validation"))


def test_the_best_epoch_is_only_called_so_where_it_is_kept(evaluated_run: Run, dashboard: Callable[..., Any]) -> None:
    best = evaluated_run.best
    assert best is not None

    def label() -> str:
        app = dashboard(PAGE, run=evaluated_run.id, images="Validation")
        return str(app.selectbox(key="epoch").label)

    assert label() == f"Epoch (the best is {best.epoch})"
    logits.files(evaluated_run.logits("validation"))[best.epoch].unlink()
    near = logits.read(evaluated_run.logits("validation")).nearest(best.epoch)
    assert label() == f"Epoch ({near} is next to the best, {best.epoch})"
