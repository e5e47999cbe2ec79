"""The run that comes with the program: read by everybody, changed by nobody, and known without its images."""

from __future__ import annotations

import dataclasses
import io
import json
import os
import re
import shutil
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from benchmarks import reference as making
from cifar_core import job, logits, reference, runs
from cifar_core.datasets import Split, open_dataset
from cifar_core.evaluation import Evaluation
from cifar_core.features import Mapping
from cifar_core.networks import load_network, load_tensors
from cifar_core.photos import read_photo, to_input
from cifar_core.runs import Run, RunError, find_run, in_families, list_runs, own_runs
from cifar_core.strangeness import Strangeness
from pages.ui import charts, examples, loaders, photos
from tests.conftest import ROOT, Tiny, tiny_config, work

Open = Callable[..., Any]

BOX = ROOT / "cifar_core" / "reference"

LARGEST = 12_000_000
"""Bytes that all there is at a first start may take in the repository."""


@pytest.fixture(scope="module")
def packed(tiny: Tiny, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A reference run on the tiny data set, made from an ordinary run."""
    folder = tmp_path_factory.mktemp("box")
    settings = dataclasses.asdict(tiny_config(tiny, epochs=2, keep_every=2))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(making, "SETTINGS", settings)
        patch.setattr(making, "CHANGES", ({"epochs": 3, "policy_probability": 0.7}, {"epochs": 5}))
        run = making.trained(tiny.source, folder / "runs", tiny.cache)
        patch.setattr(runs, "REFERENCE", folder / "reference")
        patch.setattr(making, "DRAWN", 2)
        making.pack(run, open_dataset(tiny.source, tiny.cache), tiny.cache, stand_in=True)
    return folder / "reference"


@pytest.fixture
def box(packed: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """The reference run of these tests, in place of the one that comes with the program."""
    before = {path: path.read_bytes() for path in packed.rglob("*") if path.is_file()}
    monkeypatch.setattr(runs, "REFERENCE", packed)
    yield packed
    assert {path: path.read_bytes() for path in packed.rglob("*") if path.is_file()} == before, "somebody wrote into it"


@pytest.fixture
def built_in(box: Path, runs_root: Path) -> Run:
    return find_run("reference", runs_root)


def texts(app: Any) -> str:
    kinds = (app.markdown, app.caption, app.info, app.warning, app.error)
    return "\n".join(str(element.value) for kind in kinds for element in kind).replace("\\", "")


# Among the runs ------------------------------------------------------------------------------------------------------


def test_it_is_listed_after_the_visitors_own_runs(built_in: Run, runs_root: Path, trained_run: Run) -> None:
    assert list_runs(runs_root) == [trained_run, built_in]
    assert own_runs(runs_root) == [trained_run]
    assert list_runs(runs_root / "none") == [built_in]
    assert built_in.state == "finished"
    assert [epoch.epoch for epoch in built_in.epochs] == [1, 2, 3, 4, 5]


def test_nothing_of_it_can_be_changed(built_in: Run, cache: Path) -> None:
    for change in (
        lambda: built_in.describe(name="mine"),
        lambda: built_in.describe(archived=True),
        lambda: built_in.delete(),
        lambda: built_in.free(kept=True),
        lambda: built_in.request("change", {"epochs": 9}),
        lambda: built_in.append(built_in.events()[0]),
        lambda: job.launch(built_in, cache),
    ):
        with pytest.raises(RunError, match="comes with the program and can only be read"):
            change()


def test_what_is_made_of_it_lies_beside_the_visitors_runs(built_in: Run, runs_root: Path, tiny: Tiny) -> None:
    folder, task = job.map_task(built_in, "best", tiny.info, Mapping(30, 5.0))
    assert folder.path.parent == runs_root / ".tasks" / "reference"
    (folder.path / "task.json").write_text(json.dumps(task))
    with folder.held():
        *_, end = job.execute_task(folder, tiny.cache)
    assert end.outcome == "finished", end
    assert built_in.disk_use().results == sum(p.stat().st_size for p in folder.path.rglob("*") if p.is_file())
    built_in.free(results=True)
    assert not folder.path.exists()
    assert [run.id for run in list_runs(runs_root)] == ["reference"]


def test_a_fork_of_it_is_a_run_of_the_visitors_own(built_in: Run, runs_root: Path, tiny: Tiny) -> None:
    config = tiny_config(tiny, epochs=4, learning_rate=1e-6)
    fork = work(job.new_run(config, runs_root, tiny.cache, parent=built_in, checkpoint="best"), tiny.cache)
    assert fork.state == "finished", fork.last_end
    assert fork.parent_run == built_in
    assert [row["epoch"] for row in fork.history() if row["whole_epoch"]] == [1, 2, 3, 4]
    # The box keeps each second, to be small.
    assert [look.epoch for look in built_in.inspections()] == [2, 4]
    assert [look.epoch for look in fork.inspections()] == [2, 3, 4]
    ours, theirs = (load_network(run.checkpoints()["best"]).model.state_dict() for run in (fork, built_in))
    assert (
        max(float((ours[name] - theirs[name]).abs().max()) for name in ours if ours[name].dtype.is_floating_point)
        < 1e-2
    )
    assert [(depth, run.id) for depth, run in in_families(list_runs(runs_root))] == [(0, "reference"), (1, fork.id)]


def test_a_fork_of_it_on_fewer_images_trains_whole_epochs(
    built_in: Run, runs_root: Path, cache: Path, tiny_source: Path, tmp_path: Path, dashboard: Open
) -> None:
    other = shutil.copytree(tiny_source, tmp_path / "fewer")
    for folder in (other / "train").iterdir():
        for picture in sorted(folder.iterdir())[15:]:
            picture.unlink()
    info = open_dataset(other, cache).info
    config = making.TrainConfig.from_values({**built_in.config.__dict__, "data": str(other), "epochs": 4})
    fork = work(job.new_run(config, runs_root, cache, parent=built_in, checkpoint="best"), cache)
    assert fork.state == "finished", fork.last_end
    assert fork.start is not None
    assert built_in.best is not None
    assert fork.start.steps_per_epoch < 11
    assert [epoch.epoch for epoch in fork.epochs] == list(range(built_in.best.epoch + 1, 5))
    app = dashboard("pages/train.py", data=info.id, begin="reference:best", run="reference")
    app.selectbox(key="set_data").set_value(str(other)).run()
    assert "Where Images in fewer shows the same pictures, they have seen most of what is held out here" in texts(app)


def test_a_fork_of_it_on_its_own_images_holds_out_what_it_did(built_in: Run, runs_root: Path, tiny: Tiny) -> None:
    config = tiny_config(tiny, epochs=3, validation_fraction=0.5)
    with pytest.raises(RunError, match="validation_fraction of a fork must be at most"):
        job.new_run(config, runs_root, tiny.cache, parent=built_in, checkpoint="best")


def test_the_command_line_reads_the_images_before_it_forks_it(
    built_in: Run, runs_root: Path, tiny_source: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """As only these tell what it may hold out."""
    from cifar_core.__main__ import main

    where = ["--data", str(tiny_source), "--cache", str(tmp_path / "another cache"), "--runs", str(runs_root)]
    asked = ["--fork", "reference", "--checkpoint", "best", "--epochs", "3", "--validation-fraction", "0.5"]
    assert main(["train", *asked, *where]) == 1
    assert "validation_fraction of a fork must be at most" in capsys.readouterr().err
    assert not own_runs(runs_root)


def test_a_fork_of_it_must_know_the_same_classes(
    built_in: Run, runs_root: Path, cache: Path, tiny_source: Path, tmp_path: Path
) -> None:
    other = shutil.copytree(tiny_source, tmp_path / "other")
    for split in ("train", "test"):
        (other / split / "circle").rename(other / split / "disc")
    open_dataset(other, cache)
    config = making.TrainConfig.from_values({**built_in.config.__dict__, "data": str(other), "epochs": 5})
    with pytest.raises(RunError, match=r"the same classes apart \(circle, square, stripes\), but .* has others"):
        job.new_run(config, runs_root, cache, parent=built_in, checkpoint="best")


def test_it_is_repeated_on_the_images_that_are_here(
    built_in: Run, runs_root: Path, tiny: Tiny, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(job, "launch", lambda run, cache: None)
    again = work(job.repeat(built_in, runs_root, cache), cache)
    assert again.path.parent == runs_root
    figures = [[epoch.validation_accuracy for epoch in run.epochs] for run in (again, built_in)]
    assert figures[0] == figures[1]
    shutil.rmtree(cache)
    with pytest.raises(RunError, match="The images of run reference are not here; fetch them on the Data page first"):
        job.repeat(built_in, runs_root, cache)


def test_the_command_line_knows_it_by_its_name(
    built_in: Run, runs_root: Path, empty_cache: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    from cifar_core.__main__ import main
    from pages.ui import examples

    def said(*words: object) -> dict[str, Any]:
        assert main([*map(str, words), "--runs", str(runs_root), "--cache", str(empty_cache), "--json"]) == 0
        return json.loads(capsys.readouterr().out)

    assert [run["run"] for run in said("runs")["runs"]] == ["reference"]
    (result,) = built_in.path.glob("tasks/evaluate-*/evaluation.npz")
    assert said("evaluate", "reference")["accuracy"] == Evaluation.load(result).accuracy
    (tmp_path / "ship.png").write_bytes(examples.content("Ship"))
    assert said("predict", built_in.path, tmp_path / "ship.png")["run"] == "reference"
    refused = ("runs delete", "runs delete --yes", "resume", "resume --epochs 200", "change --learning-rate 0.1")
    for words in refused:
        command, *more = words.split(" --")[0].split()
        options = words.split()[1 + len(more) :]
        assert main([command, *more, "reference", *options, "--runs", str(runs_root)]) == 1
        assert "comes with the program and can only be read" in capsys.readouterr().err, words


# What is in the box --------------------------------------------------------------------------------------------------


def test_its_weights_are_kept_in_half_precision_and_read_in_single(built_in: Run, tiny: Tiny) -> None:
    path = built_in.checkpoints()["best"]
    content = path.read_bytes()
    assert b'"F16"' in content[: int.from_bytes(content[:8], "little")]
    tensors, metadata = load_tensors(path)
    assert {str(t.dtype) for t in tensors.values() if t.dtype.is_floating_point} == {"torch.float32"}
    assert metadata["run"] == "reference"


def test_its_evaluation_is_what_its_weights_say(built_in: Run, tiny: Tiny) -> None:
    folder, _ = job.evaluation_task(built_in, "best", tiny.info)
    kept = Evaluation.load(folder.path / "evaluation.npz")
    test = open_dataset(tiny.source, tiny.cache).test
    said = load_network(built_in.checkpoints()["best"]).probabilities(np.asarray(test.images)).numpy()
    assert np.allclose(kept.probabilities, said, atol=2e-3)
    assert np.array_equal(kept.labels, test.labels)
    assert built_in.best
    assert kept.facts["epoch"] == built_in.best.epoch
    for split in ("validation", "test"):
        said_of_each = logits.read(built_in.logits(split))
        assert said_of_each.epochs.tolist() == sorted({2, 4, built_in.best.epoch})
    assert np.array_equal(said_of_each.at(built_in.best.epoch).probabilities, kept.probabilities)


def test_it_is_trained_on_after_its_end_with_what_is_changed(built_in: Run) -> None:
    assert built_in.config.epochs == 2
    assert built_in.settings.epochs == len(built_in.epochs) == 5
    assert [change.epoch for change in built_in.changes] == [2, 3]
    card = (built_in.path / "card.md").read_text()
    assert "| Training | 5 epochs in " in card
    assert "| Changed | after epoch 2: epochs 2 to 3, policy probability 1 to 0.7 |" in card
    assert "| Changed | after epoch 3: epochs 3 to 5 |" in card


def test_what_is_said_of_it_names_neither_machine_nor_path(box: Path, tiny: Tiny) -> None:
    for path in box.rglob("*"):
        if path.is_file():
            content = path.read_bytes()
            for private in (str(tiny.source), str(tiny.cache), os.uname().nodename + '"', str(Path.home()) + "/"):
                assert private.encode() not in content, path


def test_the_box_holds_no_more_than_it_may_and_no_image() -> None:
    files = [*BOX.rglob("*"), *(ROOT / "pages" / "ui" / "examples").glob("*"), ROOT / "cifar_core" / "cartoon.py"]
    assert sum(path.stat().st_size for path in files if path.is_file()) <= LARGEST
    kinds = {path.suffix for path in BOX.rglob("*") if path.is_file()}
    assert kinds <= {".json", ".jsonl", ".md", ".npz", ".safetensors"}


def test_the_box_is_whole() -> None:
    run = Run(BOX)
    assert run.state == "finished"
    (weights,) = run.checkpoints().values()
    epoch = runs.description(weights)["epoch"]
    for split in ("validation", "test"):
        kept = {int(path.stem[6:]) for path in (BOX / "logits" / split).glob("epoch-*.npz")}
        often, seldom = range(6, making.SPARSE_AFTER + 1, 6), range(making.SPARSE_AFTER + 12, len(run.epochs) + 1, 12)
        assert kept == {*often, *seldom, epoch}, "the README says so"
    assert run.start is not None
    assert reference.known_data(BOX).fingerprint == run.start.data_fingerprint
    if not reference.made(BOX)["stand_in"]:
        asked = {name: getattr(run.config, name) for name in making.SETTINGS}
        assert asked == making.SETTINGS, "`make reference` would train another one"
        changes = tuple(change.values for change in run.changes)
        assert changes == making.CHANGES, "`make reference` would train another one"


def test_lists_name_it_with_the_accuracy_of_the_weights_that_come_with_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(runs, "REFERENCE", BOX)
    run = Run(BOX)
    (weights,) = run.checkpoints().values()
    epoch = run.epochs[int(runs.description(weights)["epoch"]) - 1]
    assert f" · {epoch.validation_accuracy:.1%} validation · " in charts.run_label(run)


@pytest.mark.parametrize(
    ("name", "meant"), [("ship", "ship"), ("car", "automobile"), ("frog", "frog"), ("plane", "airplane")]
)
def test_the_example_pictures_are_answered_rightly_and_none_is_foreign(name: str, meant: str) -> None:
    """They are the first that a newcomer sees of it."""
    (weights,) = Run(BOX).checkpoints().values()
    network = load_network(weights)
    pixels = to_input(read_photo(examples.content(name), f"{name}.png"))[None]
    assert network.classes[int(network.probabilities(pixels)[0].argmax())] == meant
    (kept,) = (BOX / "tasks").glob("strangeness-*/strangeness.npz")
    strange = Strangeness.load(kept)
    assert not strange.foreign(strange.measure(network, pixels))[0]


def test_the_model_card_and_the_readme_say_what_the_files_say() -> None:
    card = making.card(Run(BOX))
    assert (BOX / "card.md").read_text() == card
    written = making.MARKED.search((ROOT / "README.md").read_text())
    assert written
    assert written[0] == f"{written[1]}{card}{written[2]}"
    (result,) = BOX.glob("tasks/evaluate-*/evaluation.npz")
    assert f"{Evaluation.load(result).accuracy:.2%} of 10,000 test images" in card
    (strange,) = BOX.glob("tasks/strangeness-*/strangeness.npz")
    known = Strangeness.load(strange)
    assert f"{known.false_alarms:.2%} of 10,000 test images are called unlike anything it was trained on" in card
    assert all(f"{name} {share:.1%}" in card for name, share in known.facts["detected"]["shares"].items())


# Pictures ------------------------------------------------------------------------------------------------------------


def again_as_jpeg(images: np.ndarray[Any, Any], quality: int) -> np.ndarray[Any, Any]:
    out = []
    for image in images:
        buffer = io.BytesIO()
        Image.fromarray(np.ascontiguousarray(image.transpose(1, 2, 0))).save(buffer, "JPEG", quality=quality)
        out.append(np.asarray(Image.open(buffer)).transpose(2, 0, 1))
    return np.stack(out)


def test_images_are_found_again_in_another_order_and_compression(tiny: Tiny, tmp_path: Path) -> None:
    test = open_dataset(tiny.source, tiny.cache).test
    reference.save_pictures(tmp_path / "pictures.npz", test)
    order = np.random.default_rng(1).permutation(len(test.labels))
    copy = Split(again_as_jpeg(np.asarray(test.images)[order], 80), test.labels[order])
    places = reference.found_again(tmp_path / "pictures.npz", copy)
    assert places is not None
    assert np.array_equal(order[places], np.arange(len(order)))


def test_other_images_are_not_taken_for_them(tiny: Tiny, tmp_path: Path) -> None:
    data = open_dataset(tiny.source, tiny.cache)
    reference.save_pictures(tmp_path / "pictures.npz", data.test)
    other = np.concatenate([np.flatnonzero(data.train.labels == k)[:20] for k in range(3)])
    assert (
        reference.found_again(tmp_path / "pictures.npz", Split(data.train.images[other], data.train.labels[other]))
        is None
    )
    assert reference.found_again(tmp_path / "pictures.npz", data.train) is None


# On the pages --------------------------------------------------------------------------------------------------------


def test_without_images_evaluate_shows_all_figures_and_says_what_is_missing(
    built_in: Run, dashboard: Open, cache: Path
) -> None:
    shutil.rmtree(cache)
    app = dashboard("pages/evaluate.py")
    said = texts(app)
    assert "all 60 images of 3 classes" in said
    assert len(app.get("vega_lite_chart")) >= 1
    assert "The pictures are not here" in said
    assert [button.label for button in app.button].count("Download CIFAR-10 (170 MB)") == 1
    assert not app.error


def test_without_images_the_map_that_is_kept_is_shown_and_others_are_not_offered(
    built_in: Run, dashboard: Open, cache: Path
) -> None:
    shutil.rmtree(cache)
    app = dashboard("pages/features.py")
    assert app.get("bidi_component")
    app = dashboard("pages/features.py", perplexity="10")
    assert not app.get("bidi_component")
    assert "The pictures are not here" in texts(app)


def test_without_images_explain_asks_for_a_photo_and_answers_at_once(
    built_in: Run, dashboard: Open, cache: Path
) -> None:
    shutil.rmtree(cache)
    app = dashboard("pages/explain.py")
    (ship,) = [button for button in app.button if button.label == "Ship"]
    ship.click().run()
    assert not app.exception
    assert "What it answers" in [heading.value for heading in app.subheader]
    assert "Run reference" in texts(app)
    app = dashboard("pages/explain.py", source="Test image")
    assert "The pictures are not here" in texts(app)


def test_a_photo_may_come_from_the_camera(built_in: Run, dashboard: Open) -> None:
    app = dashboard("pages/explain.py", source="Camera")
    assert app.get("camera_input")
    assert "Remove photo" not in [button.label for button in app.button]


@pytest.mark.parametrize(
    ("source", "label"), [("Your photo", "Remove photo"), ("Camera", "Remove photo"), ("Camera", "Remove all")]
)
def test_a_photo_from_the_camera_can_be_removed(built_in: Run, dashboard: Open, source: str, label: str) -> None:
    """Its field would hold it on, so that it is another, empty one then."""
    app = dashboard("pages/explain.py", source=source)
    taken = photos.Upload("From the camera", examples.content("Car"), "camera")
    app.session_state["kept_photos"] = [photos.Upload("Frog.png", examples.content("Frog"), ""), taken]
    app.session_state["chosen_photo"] = taken.digest
    app.run()
    fields = [field.proto.id for field in app.get("camera_input")]
    next(button for button in app.button if button.label == label).click().run()
    assert not app.exception
    assert taken not in app.session_state["kept_photos"]
    assert len(app.session_state["kept_photos"]) == (label == "Remove photo")
    if source == "Camera":
        assert [field.proto.id for field in app.get("camera_input")] != fields


def test_a_picture_that_is_taken_replaces_the_one_before(built_in: Run, dashboard: Open, tmp_path: Path) -> None:
    app = dashboard("pages/explain.py", source="Your photo")
    for name in ("Car", "Frog"):
        next(button for button in app.button if button.label == name).click().run()
        assert not app.exception
        assert f"{name}.png" in texts(app)
    next(button for button in app.button if button.label == "Remove photo").click().run()
    assert "What it answers" not in [heading.value for heading in app.subheader]


def test_another_copy_of_the_images_gives_the_pictures_in_the_order_of_the_figures(
    built_in: Run, dashboard: Open, cache: Path, tiny_source: Path, tmp_path: Path
) -> None:
    shutil.rmtree(cache)
    copy = tmp_path / "copy"
    for path in tiny_source.rglob("*.png"):
        place = copy / path.relative_to(tiny_source)
        place.parent.mkdir(parents=True, exist_ok=True)
        # Backwards, and with loss.
        Image.open(path).save(place.with_name(f"{999 - int(path.stem):03}.jpg"), quality=85)
    open_dataset(copy, cache)
    app = dashboard("pages/evaluate.py")
    said = texts(app)
    assert "The pictures are not here" not in said
    assert "Pictures are those of" in said
    app = dashboard("pages/explain.py", source="Test image", image="3")
    assert "What it answers" in [heading.value for heading in app.subheader]
    assert "Test image **3** of 60" in texts(app)


def test_with_runs_of_ones_own_the_newest_of_them_is_shown_first(
    built_in: Run, trained_run: Run, dashboard: Open
) -> None:
    app = dashboard("pages/evaluate.py")
    box = app.selectbox(key="run_choice")
    assert box.value == trained_run.id
    assert len(box.options) == 2
    assert box.options[1].startswith("Reference · ")


def test_the_overview_offers_a_photo_before_there_is_a_run(built_in: Run, dashboard: Open) -> None:
    app = dashboard("pages/overview.py")
    assert "Try a photo" in [link.proto.label for link in app.get("page_link")]
    (row,) = app.dataframe[0].value.to_dict("records")
    assert row["Run"].startswith("Reference")
    assert "The first run of yours will appear here" in texts(app)


def test_its_page_shows_curves_and_card_and_nothing_that_would_change_it(built_in: Run, dashboard: Open) -> None:
    app = dashboard("pages/train.py")
    labels = [button.label for button in app.button]
    assert "Repeat exactly" in labels
    assert not {"Train on", "Star", "Archive", "Delete…", "Resume"} & set(labels)
    assert "A stand-in" in texts(app)
    assert len(app.get("vega_lite_chart")) >= 2


def test_it_is_compared_with_its_test_accuracy(built_in: Run, trained_run: Run, dashboard: Open) -> None:
    app = dashboard("pages/compare.py")
    rows = {row["run"]: row for row in app.dataframe[0].value.to_dict("records")}
    row = rows[next(name for name in rows if name.startswith("Reference"))]
    (result,) = built_in.path.glob("tasks/evaluate-*/evaluation.npz")
    assert row["test"] == pytest.approx(100 * Evaluation.load(result).accuracy)
    offered = app.selectbox(key="to_delete").options
    assert not any(re.match("Reference", name) for name in offered)


def test_its_answers_can_be_set_against_those_of_ones_own_runs(
    built_in: Run, trained_run: Run, tiny: Tiny, dashboard: Open
) -> None:
    (result,) = built_in.path.glob("tasks/evaluate-*/evaluation.npz")
    found = Evaluation.load(result)
    folder, _ = job.evaluation_task(trained_run, "best", tiny.info)
    replace(found, facts={**found.facts, "run": trained_run.id}).save(folder.path / "evaluation.npz")
    app = dashboard("pages/evaluate.py", run="reference")
    offered = app.selectbox(key="versus").options
    assert any(charts.run_name(trained_run) in name for name in offered), offered


def test_a_photo_is_shown_to_a_network_that_has_seen_photos(
    built_in: Run, trained_run: Run, dashboard: Open, monkeypatch: pytest.MonkeyPatch
) -> None:
    def photo_link() -> str:
        (link,) = [
            link.proto for link in dashboard("pages/overview.py").get("page_link") if "photo" in link.proto.label
        ]
        assert "source=Your" in link.query_string
        return str(link.query_string)

    assert f"run={trained_run.id}" in photo_link()
    monkeypatch.setattr(loaders, "knows_drawings_alone", lambda run: not run.read_only)
    assert "run=reference" in photo_link()
    app = dashboard("pages/explain.py", run=trained_run.id, source="Your photo")
    next(button for button in app.button if button.label == "Ship").click().run()
    assert "has seen only pictures drawn by code" in texts(app)
    assert "drawn example Ship" in texts(app)


def test_a_fork_has_seen_what_its_parent_has(trained_run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    assert not loaders.knows_drawings_alone(trained_run)
    assert trained_run.start is not None
    monkeypatch.setattr(loaders, "DRAWN_NAME", trained_run.start.data_name)
    assert loaders.knows_drawings_alone(trained_run)
    (trained_run.path / "parent.json").write_text(json.dumps({"run": "reference", "checkpoint": "last"}))
    assert not loaders.knows_drawings_alone(trained_run)
