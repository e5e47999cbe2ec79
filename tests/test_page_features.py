"""The page Features: a map of the images by their features, and the images behind its points."""

from __future__ import annotations

import base64
import io
import json
import re
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from cifar_core import job
from cifar_core.datasets import open_cached
from cifar_core.features import Mapping
from cifar_core.runs import Run, WorkFolder, description, write_whole
from pages.ui import atlas, charts, mapping, sheet

PAGE = "pages/features.py"


def text_of(app: Any) -> str:
    kinds = (app.markdown, app.caption, app.info, app.warning, app.error)
    return "\n".join(element.value for kind in kinds for element in kind).replace("\\", "")


def mapped(run: Run, info: Any, cache: Path, checkpoint: str = "best", over: Any = (), **settings: Any) -> WorkFolder:
    """Have the map made that the page asks for at first, in this process."""
    how = Mapping(**{"images": 60, "perplexity": 59 / 3, **settings})
    folder, task = job.map_task(run, checkpoint, info, how, over)
    write_whole(folder.path / "task.json", json.dumps(task).encode())
    with folder.held():
        list(job.execute_task(folder, cache))
    assert folder.last_end is not None
    assert folder.last_end.outcome == "finished", folder.last_end.message
    return folder


def numbers(text: str, kind: type) -> np.ndarray[Any, Any]:
    return np.frombuffer(base64.b64decode(text), kind)


def given(app: Any) -> dict[str, Any]:
    """What the component was given, its story decoded."""
    (element,) = app.get("bidi_component")
    data = json.loads(element.proto.json)
    return {**data, "story": json.loads(data["story"])}


def groups(app: Any, colouring: str) -> dict[str, list[int]]:
    """The test images of each group of a colouring, by its label."""
    story = given(app)["story"]
    (one,) = [one for one in story["colourings"] if one["name"] == colouring]
    codes, images = numbers(one["codes"][0][-1], np.uint8), numbers(story["numbers"], np.uint32)
    return {group["label"]: images[codes == k].tolist() for k, group in enumerate(one["groups"])}


def chosen(info: Any, indices: list[int], split: str = "test") -> str:
    """A selection as a URL names it."""
    return ".".join([split, info.fingerprint[:8], *map(str, indices)])


def gallery(app: Any) -> list[tuple[str, np.ndarray[Any, Any]]]:
    """Caption and pixels (3, H, W) of each image in the gallery."""
    page = "".join(element.proto.body for element in app.get("html"))
    found = re.findall(
        r'<img src="data:image/png;base64,([^"]+)".*?<figcaption[^>]*>(.*?)</figcaption>', page, re.DOTALL
    )
    return [
        (caption, np.asarray(Image.open(io.BytesIO(base64.b64decode(data)))).transpose(2, 0, 1))
        for data, caption in found
    ]


def test_without_runs_the_way_to_a_first_one_is_shown(dashboard: Callable[..., Any]) -> None:
    assert "No runs yet" in text_of(dashboard(PAGE))


@pytest.mark.parametrize("state", ["ready", "running", "failed", "interrupted"])
def test_runs_without_weights_are_not_offered(
    dashboard: Callable[..., Any], run_in_state: Callable[..., Run], state: str
) -> None:
    run_in_state(state)
    assert "No run has weights yet" in text_of(dashboard(PAGE))


def test_without_the_images_of_the_run_it_says_so(dashboard: Callable[..., Any], trained_run: Run, cache: Path) -> None:
    for path in sorted(cache.rglob("*"), reverse=True):
        path.rmdir() if path.is_dir() else path.unlink()
    assert "are not here" in text_of(dashboard(PAGE))


def test_a_map_is_only_computed_when_asked_for(
    dashboard: Callable[..., Any], trained_run: Run, tiny: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[dict[str, Any]] = []
    monkeypatch.setattr(job, "start_task", lambda folder, task, cache: asked.append(task))
    app = dashboard(PAGE, perplexity="10")
    assert not asked
    next(button for button in app.button if button.label == "Compute the map").click().run()
    assert not app.exception
    (task,) = asked
    assert task["checkpoint"] == "best"
    assert (task["run"], task["data"]) == (str(trained_run.path), tiny.info.id)
    assert Mapping(**task["how"]) == Mapping(60, 10.0)


def test_the_settings_are_those_of_the_method(dashboard: Callable[..., Any], trained_run: Run) -> None:
    def labels(method: str) -> set[str]:
        return {slider.label for slider in dashboard(PAGE, method=method).slider}

    assert labels("t-SNE") == {"Perplexity"}
    assert labels("UMAP") == {"Neighbours", "Least distance"}
    assert labels("PCA") == set()


def test_every_layer_of_the_network_can_be_chosen(
    dashboard: Callable[..., Any], trained_run: Run, tiny: Any, cache: Path
) -> None:
    from cifar_core.networks import load_network

    layers = load_network(trained_run.checkpoints()["best"]).model.layers
    app = dashboard(PAGE)
    assert app.selectbox(key="layer").options == [
        "Features before the output", *(f"Layer {name}" for name in reversed(layers))
    ]  # fmt: skip
    mapped(trained_run, tiny.info, cache, layer=layers[0])
    app.selectbox(key="layer").set_value(layers[0]).run()
    assert not app.exception
    assert f"layer {layers[0]}: 16 channels, each averaged over its places" in text_of(app)


def test_a_perplexity_beyond_what_the_images_allow_is_lowered_and_said(
    dashboard: Callable[..., Any], trained_run: Run
) -> None:
    assert "With 60 images, a perplexity of 19.7 is the most" in text_of(dashboard(PAGE, perplexity="30"))
    assert "is the most" not in text_of(dashboard(PAGE, perplexity="15"))


def test_every_point_is_in_the_group_of_its_class(
    dashboard: Callable[..., Any], trained_run: Run, tiny: Any, cache: Path
) -> None:
    mapped(trained_run, tiny.info, cache)
    labels = open_cached(tiny.info.id, cache).test.labels
    app = dashboard(PAGE)
    found = groups(app, "Class")
    assert found == {name: np.flatnonzero(labels == k).tolist() for k, name in enumerate(tiny.info.classes)}
    looks = given(app)["story"]["colourings"][0]["groups"]
    assert len({look["symbol"] for look in looks}) == len({look["colour"] for look in looks}) == 3


def test_colours_say_what_the_network_says(
    dashboard: Callable[..., Any], trained_run: Run, tiny: Any, cache: Path
) -> None:
    from cifar_core.networks import load_network

    mapped(trained_run, tiny.info, cache)
    split = open_cached(tiny.info.id, cache).test
    said = load_network(trained_run.checkpoints()["best"]).probabilities(split.images).numpy()
    app = dashboard(PAGE)
    right = said.argmax(1) == split.labels
    assert groups(app, "Correctness") == {
        "Right": np.flatnonzero(right).tolist(), "Wrong": np.flatnonzero(~right).tolist()
    }  # fmt: skip
    assert groups(app, "Prediction") == {
        name: np.flatnonzero(said.argmax(1) == k).tolist() for k, name in enumerate(tiny.info.classes)
    }
    assert groups(app, "Confidence")["below 50%"] == np.flatnonzero(said.max(1) < 0.5).tolist()


def test_the_points_and_true_neighbours_are_those_of_the_stored_map(
    dashboard: Callable[..., Any], trained_run: Run, tiny: Any, cache: Path
) -> None:
    folder = mapped(trained_run, tiny.info, cache)
    kept = np.load(folder.path / "map.npz")
    story = given(dashboard(PAGE))["story"]
    (frame,) = story["panes"][0]["frames"]
    shown = numbers(frame["points"], np.uint16).reshape(60, 2).astype(float)
    for axis in (0, 1):
        assert np.corrcoef(shown[:, axis], kept["points"][0][:, axis])[0, 1] > 0.99999
    ratio = np.ptp(shown, axis=0) / np.ptp(kept["points"][0], axis=0)
    assert ratio[0] == pytest.approx(ratio[1], rel=1e-3), "a distance means the same in both directions"
    assert (numbers(frame["neighbours"], np.uint16).reshape(60, 10) == kept["neighbours"][0]).all()


def test_the_epoch_at_which_each_image_was_learned_is_shown_once_it_is_known(
    dashboard: Callable[..., Any], trained_run: Run, tiny: Any, cache: Path
) -> None:
    from cifar_core import logits

    mapped(trained_run, tiny.info, cache)
    app = dashboard(PAGE)
    assert "Epoch learned" not in [one["name"] for one in given(app)["story"]["colourings"]]
    assert "“Epoch learned” comes once" in text_of(app)
    labels = open_cached(tiny.info.id, cache).test.labels
    facts = {"run": trained_run.id, "split": "test", "data": tiny.info.name, "fingerprint": tiny.info.fingerprint}
    logits.begin(trained_run.logits("test"), logits.Images(labels, np.arange(60), tiny.info.classes, facts))
    right = np.eye(3, dtype=np.float32)[labels] * 9
    early = right.copy()
    early[30:] = np.roll(early[30:], 1, axis=1)  # The second half is wrong at first.
    late = right.copy()
    late[50:] = np.roll(late[50:], 1, axis=1)
    logits.keep(trained_run.logits("test"), 1, early)
    logits.keep(trained_run.logits("test"), 2, late)
    assert groups(dashboard(PAGE), "Epoch learned") == {
        "epoch 1": list(range(30)), "epoch 2": list(range(30, 50)), "never": list(range(50, 60)), "not known": []
    }  # fmt: skip
    other = Run(Path(shutil.copytree(trained_run.path, trained_run.path.with_name("20260101-000000-other-0000"))))
    mapped(other, tiny.info, cache)
    app = dashboard(PAGE, view="Side by side", run=trained_run.id, beside=other.id)
    assert len(given(app)["story"]["panes"]) == 2
    assert "Epoch learned" not in [one["name"] for one in given(app)["story"]["colourings"]], "of which of the two?"
    assert "“Epoch learned” is of one run" in text_of(app)


def test_what_is_selected_elsewhere_is_marked_and_shown(
    dashboard: Callable[..., Any], trained_run: Run, tiny: Any, cache: Path
) -> None:
    mapped(trained_run, tiny.info, cache)
    split = open_cached(tiny.info.id, cache).test
    assert given(dashboard(PAGE))["selected"] == ""
    app = dashboard(PAGE, selection=chosen(tiny.info, [41, 3, 20, 59]))
    marks = np.unpackbits(numbers(given(app)["selected"], np.uint8))[:60]
    assert np.flatnonzero(marks).tolist() == [3, 20, 41, 59]
    shown = gallery(app)
    assert [caption.split(":")[0] for caption, _ in shown] == ["3", "20", "41", "59"]
    for (caption, pixels), index in zip(shown, [3, 20, 41, 59], strict=True):
        assert (pixels == split.images[index]).all()
        assert re.split(" ✓| → ", caption.split(": ")[1])[0] == tiny.info.classes[split.labels[index]]
    assert "4 of 60" in text_of(app).replace("*", "")
    epoch = description(trained_run.checkpoints()["best"])["epoch"]
    assert f"Answers of run {trained_run.id}, best weights, epoch {epoch:.4g}." in text_of(app)
    (link,) = [link for link in app.get("page_link") if "look on test image" in link.proto.label]
    assert "image=3" in link.proto.query_string
    app = dashboard(PAGE, selection=chosen(tiny.info, [1, 2], "train"))
    assert given(app)["selected"] == "", "training images are none of the test images"


@pytest.mark.parametrize(("way", "wanted"), [("new", [7, 9]), ("or", [3, 7, 9]), ("minus", [3]), ("none", None)])
def test_what_is_picked_on_the_map_is_selected_for_the_whole_dashboard(
    dashboard: Callable[..., Any],
    trained_run: Run,
    tiny: Any,
    cache: Path,
    monkeypatch: pytest.MonkeyPatch,
    way: str,
    wanted: list[int] | None,
) -> None:
    mapped(trained_run, tiny.info, cache)
    picks = [np.array([7, 9])]

    def show(*_: Any, on_pick: Callable[..., None], **__: Any) -> None:
        if picks:
            on_pick(picks.pop(), way)

    monkeypatch.setattr(atlas, "show", show)
    before = [3] if way != "minus" else [3, 7]
    app = dashboard(PAGE, selection=chosen(tiny.info, before)).run()
    assert app.query_params.get("selection") == (chosen(tiny.info, wanted) if wanted else None)


def test_pictures_are_on_the_sheets_where_the_map_looks_for_them(tiny: Any, cache: Path) -> None:
    images = np.repeat(np.asarray(open_cached(tiny.info.id, cache).test.images), 6, axis=0)
    places = atlas.beside_each_other(np.random.default_rng(0).normal(size=(len(images), 2)))
    assert sorted(places) == list(range(len(images)))
    sheets = [np.asarray(Image.open(io.BytesIO(content))) for content in atlas.sheets(images, places)]
    for image in (0, 123, 359):
        at, sheet = places[image] % atlas.PER_SHEET, sheets[places[image] // atlas.PER_SHEET]
        row, column = divmod(at, atlas.COLUMNS)
        shown = sheet[32 * row : 32 * row + 32, 32 * column : 32 * column + 32].transpose(2, 0, 1)
        assert np.abs(shown.astype(int) - images[image]).mean() < 12


def test_images_near_on_the_map_are_on_the_same_sheet() -> None:
    points = np.stack(np.meshgrid(np.arange(64), np.arange(64)), axis=-1).reshape(-1, 2)
    sheets = atlas.beside_each_other(points) // atlas.PER_SHEET
    for number in range(16):
        assert np.ptp(points[sheets == number], axis=0).max() < 32


def test_the_map_says_what_it_is(dashboard: Callable[..., Any], trained_run: Run, tiny: Any, cache: Path) -> None:
    folder = mapped(trained_run, tiny.info, cache)
    app = dashboard(PAGE)
    said = text_of(app)
    facts = (
        trained_run.id,
        "best weights",
        "60 of 60 test images",
        tiny.info.name,
        "perplexity 19.7",
        "3,600 features",
    )
    for fact in facts:
        assert fact in said
    shown = {metric.label: metric.value for metric in app.metric}
    kept = np.load(folder.path / "map.npz")
    assert shown["Trustworthiness"] == f"{kept['trustworthiness'][0]:.3f}"
    assert shown["10-NN accuracy, features"] == f"{kept['votes'][0]:.1%}"
    assert shown["10-NN accuracy, map"] == f"{kept['votes_on_map'][0]:.1%}"
    assert shown["Neighbours kept"] == f"{kept['kept'][0].mean():.1f} of 10"
    assert shown["Network's accuracy"] == f"{(kept['predictions'][0] == kept['labels']).mean():.1%}"


def test_a_map_of_principal_components_says_how_much_it_shows(
    dashboard: Callable[..., Any], trained_run: Run, tiny: Any, cache: Path
) -> None:
    mapped(trained_run, tiny.info, cache, method="PCA", dimensions=3)
    app = dashboard(PAGE, method="PCA", dimensions="3")
    assert "The first 3 principal components" in text_of(app)
    assert 0 < float({metric.label: metric.value for metric in app.metric}["Variance shown"].rstrip("%")) <= 100
    assert given(app)["story"]["dimensions"] == 3


def test_maps_of_two_weights_lie_beside_each_other_aligned(
    dashboard: Callable[..., Any], trained_run: Run, tiny: Any, cache: Path
) -> None:
    from scipy.spatial import procrustes

    one = mapped(trained_run, tiny.info, cache)
    other = mapped(trained_run, tiny.info, cache, "last", method="t-SNE")
    app = dashboard(PAGE, view="Side by side")
    story = given(app)["story"]
    assert len(story["panes"]) == 2
    left, right = (numbers(pane["frames"][0]["points"], np.uint16).reshape(60, 2) / 65535 for pane in story["panes"])
    maps = [np.load(folder.path / "map.npz")["points"][0] for folder in (one, other)]
    wanted = procrustes(*maps)[2]
    middle = left - left.mean(axis=0)
    # Of two maps of the same spread; that of scipy is of the best fit.
    rest = 2 - 2 * np.sqrt(1 - wanted)
    assert ((right - left) ** 2).sum() / (middle**2).sum() == pytest.approx(rest, abs=1e-3)
    assert f"leaves {wanted:.0%} of the spread" in text_of(app)
    table = app.dataframe[0].value.set_index("measure")
    for side, folder in (("left", one), ("right", other)):
        kept = np.load(folder.path / "map.npz")
        assert table.loc["Trustworthiness", side] == f"{kept['trustworthiness'][0]:.3f}"
        assert table.loc["10-NN accuracy on the map", side] == f"{kept['votes_on_map'][0]:.1%}"


def test_a_link_names_what_lies_beside(
    dashboard: Callable[..., Any], trained_run: Run, make_run: Callable[..., Run]
) -> None:
    others = [make_run(seed=seed) for seed in (1, 2)]
    for other in others:
        app = dashboard(PAGE, view="Side by side", run=trained_run.id, beside=other.id)
        assert app.selectbox(key="beside_choice").value == other.id
    app = dashboard(PAGE, view="Side by side", run=trained_run.id)
    assert app.query_params["beside"] == app.selectbox(key="beside_choice").value


def test_the_maps_of_kept_epochs_are_frames_of_one(
    dashboard: Callable[..., Any], make_run: Callable[..., Run], tiny: Any, cache: Path
) -> None:
    run = make_run(epochs=3, keep_every=1)
    app = dashboard(PAGE, view="Over the epochs")
    assert "3 kept epochs: 1, 2, 3" in text_of(app)
    over = tuple(mapping.kept_over_time(run))
    folder = mapped(run, tiny.info, cache, over[-1], over=over)
    kept = np.load(folder.path / "map.npz")
    assert kept["points"].shape == (3, 60, 2)
    assert kept["epochs"].tolist() == [1, 2, 3]
    frames = given(dashboard(PAGE, view="Over the epochs"))["story"]["panes"][0]["frames"]
    assert [frame["title"] for frame in frames] == ["Epoch 1", "Epoch 2", "Epoch 3"]
    for k, frame in enumerate(frames):
        assert f"trustworthiness {kept['trustworthiness'][k]:.3f}" in frame["note"]
        assert numbers(frame["predictions"], np.uint16).tolist() == kept["predictions"][k].tolist()


def sheet_of(app: Any) -> dict[str, Any]:
    (element,) = app.get("bidi_component")
    return json.loads(element.proto.json)


def test_activations_go_from_all_layers_to_one_channel(
    dashboard: Callable[..., Any], trained_run: Run, tiny: Any, cache: Path
) -> None:
    from cifar_core.activations import layer_maps
    from cifar_core.networks import load_network

    network = load_network(trained_run.checkpoints()["best"])
    image = open_cached(tiny.info.id, cache).test.images[7]
    maps = layer_maps(network, image)
    last = list(maps)[-1]
    app = dashboard(PAGE, view="Activations", image="7")
    shown = gallery(app)
    assert [caption.split(":")[0] for caption, _ in shown[: len(maps) + 1]] == ["Image", *maps]
    assert (shown[0][1][:, ::2, ::2] == image).all()
    assert len(sheet_of(app)["alts"]) == len(maps[last])
    peak = int(maps[last].max(axis=(1, 2)).argmax())
    assert app.number_input(key="channel").value == peak, "at first the channel that responds most"
    app.number_input(key="channel").set_value(3).run()
    said = text_of(app)
    assert f"Channel 3 of layer {last}" in said
    for fact in (trained_run.id, "test image 7 of 60", tiny.info.name):
        assert fact in said
    shape = maps[last].shape[1:]
    assert f"{shape[0]} × {shape[1]} cells" in said


def test_the_images_that_excite_a_channel_most_are_shown_and_can_be_selected(
    dashboard: Callable[..., Any], trained_run: Run, tiny: Any, cache: Path
) -> None:
    from cifar_core.networks import load_network

    folder, task = job.strongest_task(trained_run, "best", tiny.info, "test", 60)
    write_whole(folder.path / "task.json", json.dumps(task).encode())
    with folder.held():
        list(job.execute_task(folder, cache))
    network, split = load_network(trained_run.checkpoints()["best"]), open_cached(tiny.info.id, cache).test
    maps = network.model.feature_maps(network.normalise(torch.from_numpy(np.array(split.images))))
    layer = network.model.layers[-1]
    kept = np.load(folder.path / "strongest.npz")
    wanted = maps.amax((2, 3))[:, 3].argsort(descending=True).tolist()[:12]
    assert kept["indices"][kept[f"{layer}/images"][3]].tolist() == wanted
    app = dashboard(PAGE, view="Activations", image="7")
    app.number_input(key="channel").set_value(3).run()
    captions = [caption for caption, _ in gallery(app)][-12:]
    assert [caption.split()[0] for caption in captions] == [tiny.info.classes[split.labels[i]] for i in wanted]
    assert "among 60 test images" in text_of(app)
    next(button for button in app.button if button.label == "Select these 12 images").click().run()
    assert app.query_params["selection"] == chosen(tiny.info, sorted(wanted))

    dead = {name: kept[name].copy() for name in kept.files}
    dead[f"{layer}/values"][3] = 0
    np.savez(folder.path / "strongest.npz", **dead)
    app = dashboard(PAGE, view="Activations", image="7")
    app.number_input(key="channel").set_value(3).run()
    assert "Channel 3 is zero in each of the 60 test images" in " ".join(box.value for box in app.warning)
    assert "Select these 12 images" not in [button.label for button in app.button]


def test_damaged_strongest_images_can_be_found_anew(
    dashboard: Callable[..., Any], trained_run: Run, tiny: Any, cache: Path
) -> None:
    folder, _ = job.strongest_task(trained_run, "best", tiny.info, "test", 60)
    path = folder.path / "strongest.npz"
    path.write_bytes(b"x")
    app = dashboard(PAGE, view="Activations", image="7")
    assert "are damaged." in text_of(app)
    next(button for button in app.button if button.label == "Make it anew").click().run()
    assert not app.exception
    assert not path.exists()


def test_a_channel_that_another_layer_has_not_is_let_go_of(
    dashboard: Callable[..., Any], make_run: Callable[..., Run], tiny: Any
) -> None:
    make_run(model="three_conv", width=0.25)
    app = dashboard(PAGE, view="Activations")
    layers = app.selectbox(key="channel_layer").options
    app.number_input(key="channel").set_value(int(app.number_input(key="channel").max)).run()
    app.selectbox(key="channel_layer").set_value(layers[0]).run()
    assert not app.exception


def test_first_filters_are_shown_with_what_they_are_of(
    dashboard: Callable[..., Any], trained_run: Run, tiny: Any
) -> None:
    app = dashboard(PAGE, view="First filters")
    assert len(sheet_of(app)["alts"]) == 16
    said = text_of(app)
    assert "The 16 filters of the first layer" in said
    assert trained_run.id in said


def test_a_click_on_a_filter_shows_its_channel(
    dashboard: Callable[..., Any], trained_run: Run, tiny: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    import streamlit as st

    # A button in its place, as only a browser clicks on a component.
    monkeypatch.setattr(
        sheet, "show_pictures", lambda *_, on_pick, **__: st.button("filter 5", on_click=on_pick, args=(5,))
    )
    app = dashboard(PAGE, view="First filters")
    app.button[-1].click().run()
    assert not app.exception
    assert "Channel 5 of layer" in text_of(app)
    assert app.query_params["view"] == "Activations"


def test_the_map_stays_the_same_so_that_a_rerun_changes_nothing(
    dashboard: Callable[..., Any], trained_run: Run, tiny: Any, cache: Path
) -> None:
    mapped(trained_run, tiny.info, cache)
    app = dashboard(PAGE)
    (before,) = app.get("bidi_component")
    said = before.proto.json
    (after,) = app.run().get("bidi_component")
    assert json.loads(after.proto.json)["story"] == json.loads(said)["story"]


def test_colours_are_told_apart_by_their_symbols_too() -> None:
    one = atlas.steps_colouring("How far", "", ["a", "b", "c"], [[np.zeros(3)]], ["never", "not known"])
    assert len({symbol for _, _, symbol in one.groups}) == len(one.groups) == 5
    assert len(charts.CLASS_SYMBOLS) == len(set(charts.CLASS_SYMBOLS)) == 10


def test_a_damaged_map_can_be_computed_again(
    dashboard: Callable[..., Any], trained_run: Run, tiny: Any, cache: Path
) -> None:
    folder = mapped(trained_run, tiny.info, cache)
    (folder.path / "map.npz").write_bytes(b"PK no")
    app = dashboard(PAGE)
    assert "is damaged" in text_of(app)
    next(button for button in app.button if button.label == "Compute it again").click().run()
    assert not app.exception
    assert not (folder.path / "map.npz").exists()


def test_a_failed_map_says_why_and_can_be_tried_again(
    dashboard: Callable[..., Any], trained_run: Run, tiny: Any, cache: Path
) -> None:
    folder, task = job.map_task(trained_run, "best", tiny.info, Mapping(60, 59 / 3))
    write_whole(folder.path / "task.json", json.dumps({**task, "checkpoint": "none"}).encode())
    with folder.held():
        list(job.execute_task(folder, cache))
    app = dashboard(PAGE)
    assert "has no none checkpoint" in text_of(app)
    assert "Try again" in [button.label for button in app.button]
