"""The Overview page: what is here, what it computes on, which runs there are, and where to go next."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from cifar_core import job
from cifar_core.events import Boot, End, TaskProgress
from cifar_core.runs import STATES, Run, WorkFolder
from cifar_core.sources import DRAWN
from pages.ui import charts
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
    assert "cartoon10 (drawn by code, not CIFAR-10) is being made" in everything(app).replace("\\", "")
    assert "The first run of yours will appear here" in everything(app)


@pytest.fixture
def begun(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[Path]]:
    """Folders of the work that was begun and is under way from then on, without a worker."""
    folders = []

    def launch(folder: WorkFolder, cache: Path) -> None:
        holder.enter_context(folder.held())
        folders.append(folder.path)

    with ExitStack() as holder:
        monkeypatch.setattr(job, "launch", launch)
        yield folders


def test_cifar_10_is_fetched_by_one_click_with_progress_in_megabytes_and_a_way_to_stop(
    dashboard: Open, cache: Path, begun: list[Path]
) -> None:
    shutil.rmtree(cache)
    app = dashboard(PAGE)
    next(button for button in app.button if button.label == "Download CIFAR-10 (170 MB)").click().run()
    folder, _ = job.data_task(cache.parent, None)
    assert folder.path in begun
    at = {"done": 43_000_000, "total": 170_498_071, "unit": "bytes"}
    folder.append(TaskProgress(**at, what="Downloading", seconds_left=75.0))
    app.run()
    assert "Downloading: 43 of 170 MB, 1 min 15 s left" in [bar.proto.text for bar in app.get("progress")]
    assert "Stop" in [button.label for button in app.button]


@pytest.mark.parametrize("page", [PAGE, "pages/data.py", "pages/augment.py"])
def test_what_the_command_line_names_is_read_and_nothing_is_drawn(
    page: str,
    dashboard: Open,
    cache: Path,
    runs_root: Path,
    tiny_source: Path,
    begun: list[Path],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    shutil.rmtree(cache)
    words = ["dashboard.py", "--runs", str(runs_root), "--cache", str(cache), "--data", str(tiny_source)]
    monkeypatch.setattr("sys.argv", words)
    assert not dashboard(page).exception
    assert begun == [job.data_task(cache.parent, str(tiny_source))[0].path]


@pytest.mark.parametrize("page", [PAGE, "pages/data.py"])
@pytest.mark.parametrize("label", ["Stop", "Try again"])
@pytest.mark.usefixtures("begun")
def test_a_drawing_that_the_command_line_names_is_shown_once(
    page: str, label: str, dashboard: Open, cache: Path, runs_root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shutil.rmtree(cache)
    words = ["dashboard.py", "--runs", str(runs_root), "--cache", str(cache), "--data", DRAWN]
    monkeypatch.setattr("sys.argv", words)
    folder, task = job.data_task(cache.parent, DRAWN)
    (folder.path / "task.json").write_text(json.dumps(task))
    folder.append(Boot(pid=1, host="elsewhere"))
    with ExitStack() as under_way:
        if label == "Stop":
            under_way.enter_context(folder.held())
        else:
            folder.append(End(outcome="stopped", message="Stopped."))
        app = dashboard(page).run()
        assert not app.exception
        # The device is looked for, too.
        theirs = [button for button in app.button if button.label == label and folder.path.name in str(button.key)]
        assert len(theirs) == 1


@pytest.mark.parametrize("page", [PAGE, "pages/data.py", "pages/augment.py"])
def test_where_what_the_command_line_names_is_missing_pictures_are_drawn_all_the_same(
    page: str,
    dashboard: Open,
    cache: Path,
    runs_root: Path,
    tmp_path: Path,
    begun: list[Path],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    shutil.rmtree(cache)
    wrong = str(tmp_path / "none")
    folder, task = job.data_task(cache.parent, wrong)
    (folder.path / "task.json").write_text(json.dumps(task))
    folder.append(Boot(pid=1, host="elsewhere"))
    folder.append(End(outcome="failed", message="There is no such folder."))
    monkeypatch.setattr("sys.argv", ["dashboard.py", "--runs", str(runs_root), "--cache", str(cache), "--data", wrong])
    app = dashboard(page)
    assert [error.value.replace("\\", "") for error in app.error] == ["There is no such folder."]
    assert begun == [job.data_task(cache.parent, "cartoon10")[0].path]


def test_with_data_and_no_runs_it_leads_to_a_first_training(dashboard: Open, tiny: Tiny) -> None:
    app = dashboard(PAGE)
    assert ways_on(app)[:3] == ["Look at the images", "See what augmentation does", "Choose the settings of a training"]
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
        assert row["Best validation accuracy"] == 100 * best.validation_accuracy
    assert ("Watch the run under way" in ways_on(app)) == (state in ("running", "paused"))


def test_a_trained_run_leads_on_to_its_results(dashboard: Open, trained_run: Run) -> None:
    app = dashboard(PAGE)
    assert ways_on(app)[:3] == [
        "See where the newest network is wrong",
        "See how it groups the images",
        "Try a photo",
    ]
    (row,) = app.dataframe[0].value.to_dict("records")
    best = trained_run.best
    assert best
    assert (row["Best validation accuracy"], row["Best epoch"]) == (100 * best.validation_accuracy, best.epoch)
    assert row["Epochs"] == "2 of 2"


def test_a_run_that_cannot_be_read_is_listed_as_such(dashboard: Open, trained_run: Run) -> None:
    (trained_run.path / "config.json").write_text("{")
    app = dashboard(PAGE)
    (row,) = app.dataframe[0].value.to_dict("records")
    assert row["Model"] == "unreadable"


# What can be done with runs ------------------------------------------------------------------------------------------


def named(app: Any, label: str) -> Any:
    return next(button for button in app.button if button.label == label)


def test_names_stars_and_notes_are_in_the_table(dashboard: Open, trained_run: Run) -> None:
    trained_run.describe(name="wide one", note="for the figure", starred=True)
    (row,) = dashboard(PAGE).dataframe[0].value.to_dict("records")
    assert row["Run"] == f"★ wide one · {trained_run.id[-4:]}"
    assert row["Note"] == "for the figure"
    assert row["Disk (MB)"] == pytest.approx(trained_run.disk_use().total / 1e6)


def test_forks_stand_below_their_parents(dashboard: Open, tiny: Tiny, trained_run: Run) -> None:
    from cifar_core.runs import create_run
    from tests.conftest import tiny_config

    fork = create_run(tiny_config(tiny, epochs=5), trained_run.path.parent, parent=trained_run)
    rows = dashboard(PAGE).dataframe[0].value["Run"].tolist()
    assert [row.startswith("↳ ") for row in rows] == [False, True]
    assert rows[1].endswith(fork.id[-4:])


def test_archived_runs_are_hidden_until_asked_for(dashboard: Open, trained_run: Run) -> None:
    trained_run.describe(archived=True)
    app = dashboard(PAGE)
    assert not app.dataframe
    assert "No run is like that." in everything(app)
    app.toggle(key="archived_too").set_value(True).run()
    assert app.dataframe[0].value["State"].tolist() == ["finished, archived"]


def test_runs_are_found_by_words(dashboard: Open, run_in_state: Callable[..., Run]) -> None:
    runs = [run_in_state("finished") for _ in range(9)]
    runs[4].describe(name="wide and slow")
    app = dashboard(PAGE)
    app.text_input(key="find").set_value("SLOW finished").run()
    (row,) = app.dataframe[0].value.to_dict("records")
    assert row["Run"].startswith("wide and slow")
    app.text_input(key="find").set_value("fast").run()
    assert not app.dataframe


def test_what_waits_is_listed_in_order_and_can_be_moved_and_cancelled(
    dashboard: Open, run_in_state: Callable[..., Run]
) -> None:
    from cifar_core import queues
    from cifar_core.events import Waiting

    runs = sorted((run_in_state("running") for _ in range(3)), key=lambda run: run.id)
    for run in runs:
        run.append(Waiting(device="cpu"))
        queues.keep_place(run)
    root = runs[0].path.parent
    app = dashboard(PAGE)
    assert app.button(key=f"first-{runs[0].id}").disabled
    assert app.button(key=f"down-{runs[2].id}").disabled
    app.button(key=f"first-{runs[2].id}").click().run()
    assert queues.queue(root, "cpu") == [runs[2], runs[0], runs[1]]
    app.button(key=f"down-{runs[2].id}").click().run()
    assert queues.queue(root, "cpu") == [runs[0], runs[2], runs[1]]
    app.button(key=f"cancel-{runs[1].id}").click().run()
    assert runs[1].requested("stop")
    assert not app.exception
    app = dashboard("pages/train.py", run=runs[2].id)
    assert "2nd of 3 in line for CPU" in everything(app)
    assert "which another run uses" in everything(app)
    app.button(key=f"up-{runs[2].id}").click().run()
    assert "1st of 3 in line for CPU" in everything(app)


def test_a_waiting_run_names_the_run_that_it_waits_for(dashboard: Open, run_in_state: Callable[..., Run]) -> None:
    from cifar_core import queues
    from cifar_core.events import Waiting

    first, second = run_in_state("running"), run_in_state("running")
    second.append(Waiting(device="cpu"))
    folder = queues.device_folder(first.path.parent, "cpu")
    with folder.held():
        queues.take(first, folder.path)
        app = dashboard("pages/train.py", run=second.id)
        assert f"1st of 1 in line for CPU, which {charts.run_name(first)} uses." in everything(app).replace("\\", "")
    assert queues.holder(first.path.parent, "cpu") is None


def test_a_chosen_row_is_told_whole_for_screens_that_do_not_show_it(run_in_state: Callable[..., Run]) -> None:
    run = run_in_state("finished")
    run.describe(name="baseline", note="for the figure")
    assert charts.run_facts(run) == (
        f"{charts.run_name(run)} · finished · best 80.0%, epoch 3 · 3 of 3 epochs · single_conv · Images in shapes · "
        "for the figure"
    )
    assert "no epoch yet" in charts.run_facts(run_in_state("ready"))


def test_a_run_that_has_begun_meanwhile_is_not_moved_and_the_page_goes_on(
    dashboard: Open, run_in_state: Callable[..., Run]
) -> None:
    from cifar_core.events import Waiting
    from tests.conftest import progress_event

    one, two = run_in_state("running"), run_in_state("running")
    for run in (one, two):
        run.append(Waiting(device="cpu"))
    app = dashboard(PAGE)
    later = max(one, two, key=lambda run: run.id)
    later.append(progress_event(3))
    app.button(key=f"first-{later.id}").click().run()
    assert not app.exception
    assert "does not wait" in app.toast[0].value.replace("\\", "")


@pytest.mark.parametrize(
    ("number", "word"), [(1, "1st"), (2, "2nd"), (3, "3rd"), (4, "4th"), (11, "11th"), (22, "22nd"), (113, "113th")]
)
def test_places_are_counted_as_people_do(number: int, word: str) -> None:
    from pages.ui import keeping

    assert keeping.ordinal(number) == word


def test_what_was_archived_just_now_can_be_taken_back(dashboard: Open, trained_run: Run) -> None:
    trained_run.describe(archived=True)
    app = dashboard(PAGE)
    app.session_state["just_archived"] = [trained_run.id]
    app.run()
    named(app, "Undo").click().run()
    assert not app.exception
    assert not trained_run.about.archived
    assert len(app.dataframe) == 1
