"""The Data page: opening and removing data sets, and what is shown of one."""

from __future__ import annotations

import base64
import dataclasses
import io
import json
import os
import re
import shutil
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl

import numpy as np
import pytest
from PIL import Image

from cifar_core import job, selections
from cifar_core.attributes import BINS, MEASURES, colour_map, of_images
from cifar_core.datasets import DataInfo, Split, cached, find_cached, open_cached, open_dataset
from cifar_core.events import Boot, End, TaskProgress
from cifar_core.invariance import VIEWS, Views
from cifar_core.networks import load_network
from cifar_core.pixels import summarise
from cifar_core.runs import Run
from cifar_core.sources import DataError
from cifar_core.transforms import normalisation, normalise
from pages import ui
from pages.ui import batches, browsing, charts, images
from tests.conftest import Tiny

PAGE = "pages/data.py"

FIGURE = re.compile(r'<img src="data:image/png;base64,([^"]+)" alt="([^"]*)".*?<figcaption[^>]*>([^<]*)<', re.DOTALL)


def shown_images(app: Any, gallery: int = 0) -> list[tuple[np.ndarray, str, str]]:
    """Pixels (3, H, W), alternative text and caption of each picture in a gallery of the page."""
    bodies = [element.proto.body for element in app.get("html")]
    found = FIGURE.findall([body for body in bodies if "<figure" in body][gallery])
    return [
        (np.asarray(Image.open(io.BytesIO(base64.b64decode(png)))).transpose(2, 0, 1), alt, caption)
        for png, alt, caption in found
    ]


def sheets(app: Any) -> list[dict[str, Any]]:
    """What each sheet of images on the page was given."""
    return [json.loads(element.proto.json) for element in app.get("bidi_component")]


def on_sheet(app: Any, place: int = 0) -> list[tuple[np.ndarray, str, str]]:
    """Pixels (3, H, W), alternative text and caption of each image on a sheet."""
    given = sheets(app)[place]
    whole = np.asarray(Image.open(io.BytesIO(base64.b64decode(given["picture"]))))
    found = []
    for n, (alt, caption) in enumerate(zip(given["alts"], given["captions"], strict=True)):
        row, column = divmod(n, given["columns"])
        pixels = whole[32 * row : 32 * row + 32, 32 * column : 32 * column + 32].transpose(2, 0, 1)
        found.append((pixels, alt, caption))
    return found


def texts(app: Any) -> str:
    kinds = (app.markdown, app.caption, app.info, app.warning, app.error, app.subheader)
    return "\n".join(str(element.value) for kind in kinds for element in kind)


def run_until(app: Any, found: Callable[[Any], bool], seconds: float = 30) -> Any:
    """Rerun the page as the browser's timer would."""
    until = time.monotonic() + seconds
    while not found(app):
        assert time.monotonic() < until, texts(app)
        time.sleep(0.1)
        app.run()
        assert not app.exception, app.exception
    return app


def open_path(app: Any, path: str) -> Any:
    app.text_input[0].set_value(path)
    return next(button for button in app.button if button.label == "Open").click().run()


def press(app: Any, label: str) -> Any:
    return next(button for button in app.button if button.label == label).click().run()


# What the page asks of the core ---------------------------------------------------------------------------------------


def test_a_source_is_found_in_the_cache_only_as_it_is_now(tiny_source: Path, tmp_path: Path) -> None:
    source, cache = Path(shutil.copytree(tiny_source, tmp_path / "shapes")), tmp_path / "cache"
    assert find_cached(source, cache) is None
    info = open_dataset(source, cache).info
    assert find_cached(source, cache) == info
    os.utime(next((source / "train" / "circle").iterdir()), (1, 1))
    assert find_cached(source, cache) is None


def test_looking_for_a_path_that_is_not_there_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="There is no file or folder"):
        find_cached(tmp_path / "nowhere", tmp_path / "cache")


@pytest.mark.parametrize("count", [1, 7, 1003])
def test_pixels_are_counted_as_a_histogram_counts_them(count: int) -> None:
    random = np.random.default_rng(count)
    # An odd number of pixels, which cannot be counted in pairs alone.
    split = Split(random.integers(0, 256, (count, 3, 5, 3), np.uint8), random.integers(0, 3, count))
    summary = summarise(split, 4)
    for channel in range(3):
        reference, _ = np.histogram(split.images[:, channel], bins=np.arange(257))
        np.testing.assert_array_equal(summary.histograms[channel], reference)
    np.testing.assert_allclose(summary.mean, split.images.mean((0, 2, 3)) / 255)
    np.testing.assert_allclose(summary.std, split.images.std((0, 2, 3)) / 255)
    for k in range(4):
        members = split.images[split.labels == k]
        assert summary.class_images[k] == len(members)
        np.testing.assert_allclose(
            summary.class_means[k], members.mean(0) if len(members) else np.zeros((3, 5, 3)), rtol=1e-6
        )
        np.testing.assert_allclose(
            summary.class_deviations[k], members.std(0) if len(members) else np.zeros((3, 5, 3)), atol=1e-3
        )


def test_the_training_split_counted_gives_the_statistics_of_the_normalisation(tiny: Tiny) -> None:
    summary = summarise(open_cached(tiny.info.id, tiny.cache).train, 3)
    np.testing.assert_allclose(summary.mean, tiny.info.mean)
    np.testing.assert_allclose(summary.std, tiny.info.std)


def test_a_split_without_images_has_no_pixels_to_count() -> None:
    with pytest.raises(ValueError, match="without images"):
        summarise(Split(np.zeros((0, 3, 32, 32), np.uint8), np.zeros(0, np.int64)), 2)


def counted(info: DataInfo, train: tuple[int, ...], test: tuple[int, ...]) -> DataInfo:
    return dataclasses.replace(info, train_counts=train, test_counts=test)


def test_balance_is_said_in_words(tiny: Tiny) -> None:
    assert images.balance(counted(tiny.info, (9, 9, 9), (3, 3, 3))) == (
        "Balanced",
        "every class has 9 training images and 3 test images.",
    )
    word, reason = images.balance(counted(tiny.info, (90, 30, 60), (3, 0, 3)))
    assert word == "Imbalanced"
    assert "circle, has 90 training images, 3 times as many as the rarest, square, with 30" in reason
    assert reason.endswith("Without any test image: square.")
    assert images.balance(counted(tiny.info, (100, 95, 90), (3, 3, 3)))[0] == "Nearly balanced"


# A data set looked at -------------------------------------------------------------------------------------------------


def test_the_head_says_what_the_data_set_is(dashboard: Callable[..., Any], tiny: Tiny) -> None:
    app = dashboard(PAGE)
    assert [(metric.label, metric.value) for metric in app.metric] == [
        ("Training images", "180"),
        ("Test images", "60"),
        ("Classes", "3"),
        ("Arrays on disk", "0.739 MB"),
    ]
    assert tiny.info.fingerprint in texts(app)
    assert str(tiny.source) in texts(app).replace("\\", "")
    assert "**Balanced:** every class has 60 training images and 20 test images" in texts(app).replace("\\", "")


def bars_shown(app: Any) -> dict[tuple[str, str], dict[str, Any]]:
    """The rows of the chart of the classes, by class and what they are of."""
    import pyarrow

    chart = next(chart for chart in app.get("vega_lite_chart") if '"bar"' in chart.proto.spec)
    data = chart.proto.data.data or chart.proto.datasets[0].data.data
    return {(row["class"], row["of"]): row for row in pyarrow.ipc.open_stream(data).read_all().to_pylist()}


def test_bars_show_counts_and_shares_of_each_split(dashboard: Callable[..., Any]) -> None:
    app = dashboard(PAGE)
    rows = bars_shown(app)
    for split, count in (("training", 60), ("test", 20)):
        for name in ("circle", "square", "stripes"):
            assert (rows[name, split]["images"], rows[name, split]["share"]) == (count, 1 / 3)
    assert json.loads(app.get("vega_lite_chart")[0].proto.spec)["encoding"]["y"]["field"] == "images"
    app.toggle(key="shares").set_value(True).run()
    assert json.loads(app.get("vega_lite_chart")[0].proto.spec)["encoding"]["y"]["field"] == "share"


def test_an_imbalance_is_shown_and_handed_to_the_next_training(dashboard: Callable[..., Any], tiny: Tiny) -> None:
    app = dashboard(PAGE, imbalance="Exponential", imbalance_ratio="5 : 1")
    rows = bars_shown(app)
    assert [rows[name, "training, imbalanced"]["images"] for name in tiny.info.classes] == [60, 27, 12]
    assert "Keeps 99 of 180 training images" in texts(app)
    app = dashboard("pages/train.py", **handed(app, "Use for training"))
    assert app.selectbox(key="set_data").value == tiny.info.source
    assert app.selectbox(key="set_imbalance").value == "exponential"
    assert app.select_slider(key="set_imbalance_ratio").value == 5
    assert "Taken over from another page: Imbalance" in texts(app)


def test_a_link_with_an_imbalance_opens_where_it_is_chosen(dashboard: Callable[..., Any]) -> None:
    def opened(app: Any) -> bool:
        return next(one for one in app.expander if one.label.startswith("Make the training set")).proto.expanded

    assert not opened(dashboard(PAGE))
    app = dashboard(PAGE, imbalance="Step")
    assert opened(app)
    app.segmented_control(key="imbalance").set_value("none").run()
    assert opened(app), "it does not close while somebody works in it"


def test_settings_handed_over_are_for_a_new_run_and_what_fits_none_is_said(
    dashboard: Callable[..., Any], trained_run: Run
) -> None:
    app = dashboard("pages/train.py", run=trained_run.id, begin=f"{trained_run.id}:best")
    assert app.selectbox(key=f"beginning-{trained_run.id}").value == trained_run.id
    app.query_params["use"] = "imbalance:step,cake:1"
    app.run()
    assert app.selectbox(key=f"beginning-{trained_run.id}").value == "fresh"
    assert app.selectbox(key="set_imbalance").value == "step"
    assert "There is no setting 'cake'" in texts(app).replace("\\", "")


def handed(app: Any, label: str) -> dict[str, str]:
    """The settings that a link of this label hands to the Train page."""
    (link,) = [entry.proto for entry in app.get("page_link") if entry.proto.label == label]
    return {
        name: value for name, value in parse_qsl(link.query_string, keep_blank_values=True) if name in ("use", "of")
    }


@pytest.mark.parametrize(
    ("label", "setting", "other"),
    [
        ("Without these images", "without_selection", "only_selection"),
        ("On these images alone", "only_selection", "without_selection"),
    ],
)
def test_a_selection_is_handed_to_the_next_training(
    dashboard: Callable[..., Any], tiny: Tiny, cache: Path, label: str, setting: str, other: str
) -> None:
    some = selections.Selection(tiny.info.fingerprint, "train", np.arange(40), "some")
    text = selections.refer(some, selections.folder_of(cache))
    app = dashboard("pages/train.py", **handed(dashboard(PAGE, selection=text), label))
    assert (app.selectbox(key=f"set_{setting}").value, app.selectbox(key=f"set_{other}").value) == (text, "")


def test_a_click_on_a_bar_selects_its_images_and_a_second_one_lets_go(
    dashboard: Callable[..., Any], tiny: Tiny, cache: Path
) -> None:
    from streamlit.testing.v1 import AppTest

    def script(info, cache, name):  # type: ignore[no-untyped-def]  # it is read as text, where no name is known
        import streamlit as st

        from cifar_core.datasets import open_cached
        from pages.ui import images

        st.session_state["distribution"] = {"selection": {"bar": [{"class": name, "of": "test"}]}}
        images._take_clicked_bar(info, open_cached(info.id, cache))

    app = AppTest.from_function(script, args=(tiny.info, cache, "square"), default_timeout=60).run()
    text = app.query_params["selection"]
    found = selections.find("".join(text), tiny.info.fingerprint, selections.folder_of(cache))
    assert (found.split, found.indices.tolist()) == ("test", list(range(20, 40)))
    assert "selection" not in app.run().query_params


def test_every_bar_has_its_name_as_it_is_or_shortened() -> None:
    names = ['"quoted"', *(f"a rather long name of class {k}" for k in range(19))]
    rows = charts.class_rows(names, {"training": [2] * 20}, "")
    assert list(rows["class"]) == names
    axis = charts.class_bars(names, ["training"], False)["encoding"]["x"]["axis"]
    shown = json.loads(axis["labelExpr"].partition("][")[0] + "]")
    assert shown[0] == '"quoted"'
    assert max(map(len, shown)) <= 16
    assert len(set(shown)) == 20


def test_the_index_below_a_picture_is_its_index_in_the_split(dashboard: Callable[..., Any], tiny: Tiny) -> None:
    app = dashboard(PAGE, split="Test")
    data, found = open_cached(tiny.info.id, tiny.cache).test, on_sheet(app)
    assert len(found) == 60
    for pixels, alt, caption in found:
        name, index = caption.split()
        np.testing.assert_array_equal(pixels, data.images[int(index)])
        assert tiny.info.classes[data.labels[int(index)]] == name
        assert alt == f"{name}, test index {index}"
    assert sorted(int(caption.split()[1]) for *_, caption in found) == list(range(60))


def test_the_pages_of_the_gallery_show_every_image_once(
    dashboard: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(browsing, "PAGE_SIZES", (100, 200))
    captions = []
    for page in ("1", "2"):
        captions += sheets(dashboard(PAGE, page=page, per_page="100"))[0]["captions"]
    assert len(captions) == len(set(captions)) == 180


def test_the_same_seed_shows_the_same_order_and_another_seed_another(dashboard: Callable[..., Any]) -> None:
    def sample(**query: str) -> list[str]:
        return sheets(dashboard(PAGE, **query))[0]["captions"]

    assert sample(seed="3") == sample(seed="3")
    assert sample(seed="3") != sample(seed="4")
    assert [int(caption.split()[1]) for caption in sample(sort="As stored")] == list(range(180))


def test_the_gallery_shows_only_the_chosen_classes(dashboard: Callable[..., Any]) -> None:
    app = dashboard(PAGE)
    app.multiselect(key="classes").set_value(["square", "stripes"]).run()
    assert {caption.split()[0] for caption in sheets(app)[0]["captions"]} == {"square", "stripes"}
    assert "120 training images" in texts(app)


def test_a_filter_with_fewer_pages_begins_with_the_first(
    dashboard: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(browsing, "PAGE_SIZES", (100, 200))
    app = dashboard(PAGE, page="2", per_page="100")
    app.multiselect(key="classes").set_value(["square"]).run()
    assert not app.exception
    assert "these are 1 to 60" in texts(app)


@pytest.mark.parametrize("name", MEASURES)
def test_images_are_sorted_and_filtered_by_what_was_measured_of_them(
    name: str, dashboard: Callable[..., Any], tiny: Tiny
) -> None:
    values = getattr(of_images(open_cached(tiny.info.id, tiny.cache).train.images), name)
    app = dashboard(PAGE, sort=name.capitalize())
    order = [int(caption.split()[1]) for caption in sheets(app)[0]["captions"]]
    assert (np.diff(values[order]) <= 0).all()
    low = round(float(np.median(values)), 2)
    most = 1.0 if name in ("brightness", "saturation") else 0.5
    app.slider(key=f"range-{name}").set_value((low, most)).run()
    order = [int(caption.split()[1]) for caption in sheets(app)[0]["captions"]]
    assert sorted(order) == np.flatnonzero(values >= low).tolist()


def test_a_link_keeps_the_filters_by_look_and_how_many_outliers_are_listed(
    dashboard: Callable[..., Any], trained_run: Run, tiny: Tiny, cache: Path
) -> None:
    values = of_images(open_cached(tiny.info.id, tiny.cache).train.images).brightness
    low = round(float(np.median(values)), 2)
    again = dashboard(PAGE, **{"range-brightness": [str(low), "1.0"]})
    assert again.slider(key="range-brightness").value == (low, 1.0)
    order = [int(caption.split()[1]) for caption in sheets(again)[0]["captions"]]
    assert sorted(order) == np.flatnonzero(values >= low).tolist()
    known_of(trained_run, tiny, cache, "train")
    again = dashboard(PAGE, **{"view": "Suspects", "list": "Outliers", "judge": trained_run.id, "outlier-count": "50"})
    assert again.select_slider(key="outlier-count").value == 50
    assert len(sheets(again)[0]["captions"]) == 50


def test_images_are_filtered_by_whether_a_run_is_right(
    dashboard: Callable[..., Any], trained_run: Run, tiny: Tiny, cache: Path
) -> None:
    app = dashboard(PAGE, split="Test")
    assert not [button for button in app.button if button.label.startswith("Predict all")]
    app.selectbox(key="judge_choice").set_value(trained_run.id).run()
    assert app.query_params["judge"] == trained_run.id, "a name can be of two runs"
    assert [button for button in app.button if button.label == "Predict all 60 test images"]
    folder, task = job.known_task(trained_run, "best", tiny.info, "test")
    (folder.path / "task.json").write_text(json.dumps(task))
    with folder.held():
        assert list(job.execute_task(folder, cache))[-1].outcome == "finished"
    app.run()
    right = (
        load_network(trained_run.checkpoints()["best"])
        .probabilities(open_cached(tiny.info.id, cache).test.images)
        .numpy()
        .argmax(1)
        == open_cached(tiny.info.id, cache).test.labels
    )
    app.segmented_control(key="outcome").set_value("Wrong").run()
    shown = sheets(app)[0]
    assert sorted(int(caption.split()[1]) for caption in shown["captions"]) == np.flatnonzero(~right).tolist()
    assert all(shown["wrong"])
    assert all("(wrong)" in alt for alt in shown["alts"])
    assert trained_run.id in texts(app).replace("\\", "")


def test_an_image_is_shown_large_with_its_attributes_and_the_images_most_like_it(
    dashboard: Callable[..., Any], tiny: Tiny
) -> None:
    app = dashboard(PAGE, picture="train.70")
    assert "**square**, training image 70" in texts(app)
    np.testing.assert_array_equal(shown_images(app)[0][0], open_cached(tiny.info.id, tiny.cache).train.images[70])
    assert list(app.dataframe[0].value["Attribute"]) == [name.capitalize() for name in MEASURES]
    assert len(sheets(app)) == 2
    assert len(sheets(app)[0]["alts"]) == 12
    app.button(key="close-picture").click().run()
    assert "picture" not in app.query_params
    assert len(sheets(app)) == 1


def test_an_image_of_the_other_split_is_told_of_by_the_run_that_knows_that_split(
    dashboard: Callable[..., Any], trained_run: Run, tiny: Tiny, cache: Path
) -> None:
    """The gallery is of test images; the large view, of a training image, asks the chosen run about those."""
    app = dashboard(PAGE, split="Test", judge=trained_run.id, picture="train.70")
    assert {button.label for button in app.button if button.label.startswith("Predict all")} == {
        "Predict all 60 test images",
        "Predict all 180 training images",
    }
    assert "once it has predicted all training images" in texts(app)
    known_of(trained_run, tiny, cache, "train")
    app.run()
    said = texts(app).replace("\\", "")
    assert "of the features of" in said
    assert "of the training split" in said
    assert "once “Predictions of run” names one" not in said
    assert [frame for frame in app.dataframe if "Probability" in frame.value]


def known_of(run: Run, tiny: Tiny, cache: Path, split: str) -> None:
    """What a run says of a split, as if it had been asked: the fifth image is the farthest from the others."""
    labels = getattr(open_cached(tiny.info.id, cache), split).labels
    distances = np.full((len(labels), 10), 0.1, np.float32)
    distances[[4, 50]] = [[0.9], [0.7]]
    kept_arrays(
        job.known_task(run, "best", tiny.info, split),
        "known.npz",
        probabilities=np.full((len(labels), 3), 1 / 3, np.float32),
        labels=labels,
        neighbours=np.zeros((len(labels), 10), np.int32),
        distances=distances,
        facts=json.dumps({"run": run.id, "checkpoint": "best", "epoch": 2, "split": split}),
    )


def doubted(tiny: Tiny, cache: Path) -> None:
    """Predictions of all training images that call two labels into question."""
    labels = open_cached(tiny.info.id, cache).train.labels
    probabilities = np.full((180, 3), 0.1, np.float32)
    probabilities[np.arange(180), labels] = 0.8
    probabilities[[7, 100]] = [[0.0, 0.05, 0.95], [0.85, 0.1, 0.05]]
    kept_arrays(job.crossed_task(cache.parent, tiny.info), "crossed.npz", probabilities=probabilities)


@pytest.mark.parametrize("wanted", ["Near-duplicates", "Label errors", "Outliers"])
def test_an_image_of_each_list_of_suspects_is_shown_large(
    wanted: str, dashboard: Callable[..., Any], trained_run: Run, tiny: Tiny, cache: Path
) -> None:
    two = {"first": np.array([3]), "second": np.array([180]), "mirrored": np.array([False])}
    pairs = job.duplicates_task(cache.parent, tiny.info)
    kept_arrays(pairs, "pairs.npz", **two, scores=np.array([0.99], np.float32))
    doubted(tiny, cache)
    known_of(trained_run, tiny, cache, "train")
    app = dashboard(PAGE, view="Suspects", list=wanted, judge=trained_run.id, picture="train.70")
    assert "**square**, training image 70" in texts(app)
    np.testing.assert_array_equal(shown_images(app)[0][0], open_cached(tiny.info.id, tiny.cache).train.images[70])
    assert len(sheets(app)) == 2, "the list is still there"
    assert [frame for frame in app.dataframe if "Probability" in frame.value]
    app.button(key="close-picture").click().run()
    assert len(sheets(app)) == 1


@pytest.mark.parametrize("text", ["train.999", "other.1", "x", "train.", "train.-1"])
def test_an_image_that_is_not_there_is_said_not_to_be(text: str, dashboard: Callable[..., Any]) -> None:
    assert "There is no image" in texts(dashboard(PAGE, picture=text))


def test_a_place_on_the_map_of_colours_is_the_mean_of_its_images(dashboard: Callable[..., Any], tiny: Tiny) -> None:
    colours = of_images(open_cached(tiny.info.id, tiny.cache).train.images).colours
    found = colour_map(colours)
    assert found.counts.sum() == 180
    for cell in np.unique(found.cells):
        np.testing.assert_allclose(found.colours[cell], colours[found.cells == cell].mean(0), atol=0.51)
    plain = colour_map(np.array([[255, 0, 0], [0, 255, 0], [0, 0, 255], [255, 255, 0], [128, 128, 128]], np.uint8))
    rows, columns = np.divmod(plain.cells, BINS)
    assert columns[0] > BINS // 2 > columns[1], "red is right of green"
    assert rows[3] > BINS // 2 > rows[2], "yellow is above blue"
    assert (rows[4], columns[4]) in [(BINS // 2 - a, BINS // 2 - b) for a in (0, 1) for b in (0, 1)]
    assert "Map of mean colours" in texts(dashboard(PAGE, view="Pixels"))


@pytest.mark.parametrize("wanted", ["Near-duplicates", "Label errors", "Outliers", "Do such lists work?"])
def test_each_list_of_suspects_says_what_it_is_before_it_is_made(
    wanted: str, dashboard: Callable[..., Any], cache: Path
) -> None:
    app = dashboard(PAGE, view="Suspects", list=wanted)
    said = {
        "Near-duplicates": "compared with all others",
        "Label errors": "three small networks are trained",
        "Outliers": "Choose a run",
        "Do such lists work?": "get a wrong label",
    }
    assert said[wanted] in texts(app)


def kept_arrays(task: tuple[Any, Any], name: str, **arrays: Any) -> None:
    """The result of a task as if it had been done."""
    np.savez(task[0].path / name, **arrays)


def test_duplicates_are_listed_in_pairs_with_the_leak_counted_and_can_be_selected(
    dashboard: Callable[..., Any], tiny: Tiny, cache: Path
) -> None:
    kept_arrays(
        job.duplicates_task(cache.parent, tiny.info),
        "pairs.npz",
        first=np.array([3, 5, 9]),
        second=np.array([180, 8, 181]),
        mirrored=np.array([False, True, False]),
        scores=np.array([0.99, 0.95, 0.8], np.float32),
    )
    app = dashboard(PAGE, view="Suspects")
    figures = {metric.label: metric.value for metric in app.metric}
    assert (figures["Pairs"], figures["Across the splits"], figures["Leaked test images"]) == ("2", "1", "1")
    assert sheets(app)[0]["captions"] == ["circle train 0.99", "circle test 0.99"] + ["circle train 0.95 ⇄"] * 2
    app.button(key="select-copies").click().run()
    found = selections.find(app.query_params["selection"], tiny.info.fingerprint, selections.folder_of(cache))
    assert found.indices.tolist() == [3, 8]
    some = selections.Selection(tiny.info.fingerprint, "test", np.array([0]), "one")
    app = dashboard(PAGE, view="Suspects", selection=selections.refer(some, selections.folder_of(cache)))
    assert sheets(app)[0]["captions"] == ["circle train 0.99", "circle test 0.99"]
    assert "Only pairs with a selected image" in texts(app)


def test_label_errors_are_ranked_and_can_be_excluded_from_a_training(
    dashboard: Callable[..., Any], tiny: Tiny, cache: Path
) -> None:
    doubted(tiny, cache)
    app = dashboard(PAGE, view="Suspects", list="Label errors")
    assert sheets(app)[0]["captions"] == ["circle → stripes 0.0%", "square → circle 10.0%"]
    app.button(key="select-label-errors").click().run()
    found = selections.find(app.query_params["selection"], tiny.info.fingerprint, selections.folder_of(cache))
    assert found.indices.tolist() == [7, 100]


def test_outliers_are_ranked_by_their_distance_to_their_neighbours(
    dashboard: Callable[..., Any], trained_run: Run, tiny: Tiny, cache: Path
) -> None:
    known_of(trained_run, tiny, cache, "test")
    app = dashboard(PAGE, view="Suspects", list="Outliers", split="Test")
    app.selectbox(key="judge_choice").set_value(trained_run.id).run()
    assert sheets(app)[0]["captions"][:2] == ["circle 0.900", "stripes 0.700"]


def test_a_short_list_of_outliers_is_shown_to_its_end(
    dashboard: Callable[..., Any], trained_run: Run, tiny: Tiny, cache: Path
) -> None:
    known_of(trained_run, tiny, cache, "test")
    for indices, most in ((list(range(15)), 15), ([], 0)):
        text = selections.refer(
            selections.Selection(tiny.info.fingerprint, "test", np.array(indices, np.int64), "by hand"),
            selections.folder_of(cache),
        )
        app = dashboard(PAGE, view="Suspects", list="Outliers", split="Test", selection=text)
        app.selectbox(key="judge_choice").set_value(trained_run.id).run()
        assert not app.exception
        if most:
            app.select_slider(key="outlier-count").set_value(most).run()
            assert len(sheets(app)[0]["captions"]) == most
        else:
            assert "There is none." in texts(app)


def test_too_few_images_to_plant_errors_among_are_said(
    dashboard: Callable[..., Any], tiny: Tiny, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("pages.ui.suspicion.FEWEST_PLANTED", 181)
    app = dashboard(PAGE, view="Suspects", list="Do such lists work?")
    assert "At least 181 training images are needed to plant errors among; Images in shapes has 180." in texts(app)
    assert "Plant errors and look for them" not in [button.label for button in app.button]


@pytest.mark.parametrize("place", ["train.999", "train.²", "train." + "9" * 5000])
def test_a_place_at_which_there_is_no_image_is_said(dashboard: Callable[..., Any], place: str) -> None:
    assert "There is no image" in texts(dashboard(PAGE, picture=place))


def test_a_damaged_result_can_be_made_anew(dashboard: Callable[..., Any], tiny: Tiny, cache: Path) -> None:
    folder, _ = job.duplicates_task(cache.parent, tiny.info)
    path = folder.path / "pairs.npz"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(b"x")
    app = dashboard(PAGE, view="Suspects")
    assert "are damaged." in texts(app).replace("\\", "")
    press(app, "Make it anew")
    assert not path.exists()
    assert "Look for near-duplicates" in [button.label for button in app.button]


def test_what_was_marked_in_another_sheet_is_not_marked_here(dashboard: Callable[..., Any], tiny: Tiny) -> None:
    app = dashboard(PAGE)
    app.session_state["gallery-marked"] = sheets(app)[0]["name"], [("train", 0), ("train", 1)]
    app.run()
    assert "Select the 2 marked training images" in [button.label for button in app.button]
    app.segmented_control(key="size").set_value("Large").run()
    assert not [button for button in app.button if "marked" in button.label], "the browser marks nothing there"


def test_the_demonstration_says_how_much_of_what_was_planted_is_found(
    dashboard: Callable[..., Any], tiny: Tiny, cache: Path
) -> None:
    kept_arrays(
        job.demonstration_task(cache.parent, tiny.info, 180),
        "demonstration.npz",
        images=190,
        agreement=0.9,
        wrong=np.array([1, 2]),
        suspects=np.array([2, 5, 7, 1]),
        expected=3.0,
        originals=np.array([0, 4]),
        copies=np.array([180, 181]),
        first=np.array([0, 4, 9]),
        second=np.array([180, 181, 10]),
        facts="{}",
    )
    app = dashboard(PAGE, view="Suspects", list="Do such lists work?")
    assert app.dataframe[0].value.to_numpy().tolist() == [
        ["Altered copies", 2, "the first 2 pairs (as many as were planted)", 1.0],
        ["Altered copies", 2, "the first 4 pairs (twice as many)", 1.0],
        ["Altered copies", 2, "the first 3 pairs (all)", 1.0],
        ["Wrong labels", 2, "the first 2 images (as many as were planted)", 0.5],
        ["Wrong labels", 2, "the first 4 images (twice as many)", 1.0],
        ["Wrong labels", 2, "the first 4 images (all)", 1.0],
    ]


def test_a_found_copy_of_a_wrongly_labelled_image_is_no_miss(
    dashboard: Callable[..., Any], tiny: Tiny, cache: Path
) -> None:
    kept_arrays(
        job.demonstration_task(cache.parent, tiny.info, 180),
        "demonstration.npz",
        images=190,
        agreement=0.9,
        wrong=np.array([1, 2]),
        suspects=np.array([2, 181, 1]),
        expected=3.0,
        originals=np.array([0, 2]),
        copies=np.array([180, 181]),
        first=np.array([0, 2]),
        second=np.array([180, 181]),
        facts="{}",
    )
    app = dashboard(PAGE, view="Suspects", list="Do such lists work?")
    assert ["Wrong labels", 3, "the first 3 images (as many as were planted)", 1.0] in (
        app.dataframe[0].value.to_numpy().tolist()
    )


def test_a_run_there_is_looks_for_planted_wrong_labels_unless_another_is_chosen(
    dashboard: Callable[..., Any], trained_run: Run, tiny: Tiny
) -> None:
    app = dashboard(PAGE, view="Suspects", list="Do such lists work?")
    assert app.selectbox(key="finder_choice").value == trained_run.id
    assert "Of 60 test images" in texts(app)


def test_label_errors_of_test_images_are_ranked_by_the_mean_over_their_views(
    dashboard: Callable[..., Any], trained_run: Run, tiny: Tiny, cache: Path
) -> None:
    labels = open_cached(tiny.info.id, cache).test.labels
    logits = np.zeros((len(VIEWS), 60, 3), np.float16)
    logits[:, np.arange(60), labels] = 4
    # Surely another class in one view alone, and somewhat less surely in all of them.
    logits[0, 5] = np.eye(3)[(labels[5] + 1) % 3] * 20
    logits[:, 9] = np.eye(3)[(labels[9] + 1) % 3] * 3
    folder, _ = job.views_task(trained_run, "best", tiny.info)
    facts = {"run": trained_run.id, "checkpoint": "best", "epoch": 2, "split": "test"}
    Views(labels, logits, tiny.info.classes, facts).save(folder.path / "views.npz")
    app = dashboard(PAGE, view="Suspects", list="Label errors", split="Test")
    app.selectbox(key="judge_choice").set_value(trained_run.id).run()
    assert len(sheets(app)[0]["captions"]) == 1
    assert "flipped and shifted" in texts(app)


def test_pixels_are_those_of_the_chosen_split(dashboard: Callable[..., Any], tiny: Tiny) -> None:
    app = dashboard(PAGE, view="Pixels", split="Test")
    data = open_cached(tiny.info.id, tiny.cache).test
    np.testing.assert_allclose(app.dataframe[0].value["mean (0 to 255)"], data.images.mean((0, 2, 3)))
    assert "all 60 test images" in texts(app)
    for k, (pixels, alt, caption) in enumerate(shown_images(app)):
        np.testing.assert_array_equal(pixels, data.images[data.labels == k].mean(0).round())
        assert caption == f"{tiny.info.classes[k]} (20)"
        assert alt == f"Mean of 20 test images of {tiny.info.classes[k]}"


def test_preprocessing_tells_shape_format_and_range_before_and_after(dashboard: Callable[..., Any]) -> None:
    app = dashboard(PAGE, view="Preprocessing")
    table = app.dataframe[0].value.set_index("batch")
    assert set(table["shape"]) == {"(64, 3, 32, 32)"}
    assert list(table["dtype"]) == ["uint8", "float32", "float32", "float32"]
    assert list(table.loc["as stored", ["smallest", "largest"]]) == ["0", "255"]
    assert list(table.loc["after half", ["smallest", "largest"]]) == ["-1.000", "1.000"]
    assert list(table.loc["after unit", ["smallest", "largest"]]) == ["0.000", "1.000"]
    assert "is black and the largest" in texts(app)


@pytest.mark.parametrize("kind", batches.NORMALISATIONS)
def test_a_normalised_batch_is_drawn_from_its_smallest_to_its_largest_number(tiny: Tiny, kind: str) -> None:
    import torch

    made = batches.preprocessed(tiny.info.id, tiny.info.fingerprint, tiny.cache, "train", (5, 70, 130))
    pixels = open_cached(tiny.info.id, tiny.cache).train.images[[5, 70, 130]]
    after = normalise(torch.from_numpy(pixels), *normalisation(kind, tiny.info.mean, tiny.info.std)).numpy()
    fed = made.fed[kind]
    assert (fed.low, fed.high) == (after.min(), after.max())
    np.testing.assert_allclose(fed.pictures / 255 * (fed.high - fed.low) + fed.low, after, atol=0.01)


def test_a_split_in_another_data_set_forgets_classes_it_does_not_have(
    dashboard: Callable[..., Any], cache: Path, tiny_source: Path, tmp_path: Path
) -> None:
    source = Path(shutil.copytree(tiny_source, tmp_path / "others"))
    for split in ("train", "test"):
        (source / split / "stripes").rename(source / split / "a *b* <i>")
    other = open_dataset(source, cache).info
    first = next(info for info in cached(cache) if info.id != other.id)
    app = dashboard(PAGE, data=first.id)
    app.multiselect(key="classes").set_value(["square", "stripes"]).run()
    app.selectbox(key="data_choice").set_value(other.id).run()
    assert not app.exception
    assert app.multiselect(key="classes").value == ["square"]
    assert app.query_params["data"] == other.id
    app.multiselect(key="classes").set_value(["a *b* <i>"]).run()
    assert all(alt.startswith("a *b* <i>") for alt in sheets(app)[0]["alts"])


# Opening and removing -------------------------------------------------------------------------------------------------


def test_without_data_the_page_is_about_opening_some(dashboard: Callable[..., Any], cache: Path) -> None:
    shutil.rmtree(cache)
    app = dashboard(PAGE)
    assert "Open a data set" in texts(app)
    assert {"Open", "Download CIFAR-10 (170 MB)"} <= {button.label for button in app.button}
    assert not app.metric
    open_path(app, "  ")
    assert "Type the path" in texts(app)


def test_a_path_is_read_in_the_background_and_then_chosen(
    dashboard: Callable[..., Any], cache: Path, tiny: Tiny, tmp_path: Path
) -> None:
    source = shutil.copytree(tiny.source, tmp_path / "others")
    app = open_path(dashboard(PAGE, data=tiny.info.id), f' "{source}" ')
    assert "opening" in app.query_params
    run_until(app, lambda app: "opening" not in app.query_params)
    id = find_cached(source, cache).id
    assert app.query_params["data"] == id != tiny.info.id
    assert app.metric
    menu = [link.proto.query_string for link in app.get("page_link")]
    assert menu
    assert all(f"data={id}" in query for query in menu), "the menu leads to what was looked at before"


def test_a_wrong_path_gets_one_sentence_and_can_be_dismissed(
    dashboard: Callable[..., Any], cache: Path, tmp_path: Path
) -> None:
    shutil.rmtree(cache)
    wrong = tmp_path / "no *such* <folder>"
    app = open_path(dashboard(PAGE), str(wrong))
    run_until(app, lambda app: bool(app.error))
    assert not re.search(r"(?<!\\)[*<]", app.error[0].value), "would be read as Markdown"
    assert [error.value.replace("\\", "") for error in app.error] == [
        f"There is no file or folder {wrong}; the nearest folder that exists is {tmp_path}."
    ]
    again = dashboard(PAGE, opening=app.query_params["opening"])
    assert again.error, "gone after a refresh"
    press(again, "Dismiss")
    assert not again.error


def test_a_reading_under_way_is_shown_to_whoever_comes(
    dashboard: Callable[..., Any], cache: Path, tiny_source: Path
) -> None:
    folder, task = job.data_task(cache.parent, str(tiny_source))
    (folder.path / "task.json").write_text(json.dumps(task))
    with folder.held():
        folder.append(Boot(pid=1, host="elsewhere"))
        folder.append(TaskProgress(done=30, total=240, what="Decoding images", seconds_left=75.0))
        app = dashboard(PAGE)
        assert [bar.proto.text for bar in app.get("progress")] == ["Decoding images: 30 of 240, 1 min 15 s left"]
        press(app, "Stop")
        assert folder.requested("stop")
        assert next(button for button in app.button if button.label == "Stopping").disabled
    assert app.metric, "the images that are there can be looked at meanwhile"


def test_removing_a_data_set_leaves_its_source(dashboard: Callable[..., Any], cache: Path, tiny: Tiny) -> None:
    app = press(dashboard(PAGE, data=tiny.info.id), "Remove")
    assert not cached(cache)
    assert any(tiny.source.rglob("*.png"))
    assert "Open a data set" in texts(app)
    assert "There is no data" not in texts(app)


def test_removing_one_data_set_leads_to_another(
    dashboard: Callable[..., Any], cache: Path, tiny: Tiny, tmp_path: Path
) -> None:
    other = open_dataset(shutil.copytree(tiny.source, tmp_path / "others"), cache).info
    app = press(dashboard(PAGE, data=other.id), "Remove")
    assert [info.id for info in cached(cache)] == [tiny.info.id]
    assert app.query_params["data"] == tiny.info.id
    assert not app.warning


def test_equal_data_sets_are_listed_once_and_others_of_one_name_told_apart(
    dashboard: Callable[..., Any], tiny_source: Path, cache: Path, tiny: Tiny, tmp_path: Path
) -> None:
    equal = open_dataset(Path(shutil.copytree(tiny_source, tmp_path / "again" / tiny_source.name)), cache).info
    assert (equal.fingerprint, equal.id == tiny.info.id) == (tiny.info.fingerprint, False)
    app = dashboard(PAGE)
    assert "data_choice" not in [box.key for box in app.selectbox]
    assert app.query_params["data"] == equal.id, "it was opened last"
    assert dashboard(PAGE, data=tiny.info.id).query_params["data"] == tiny.info.id
    fewer = Path(shutil.copytree(tiny_source, tmp_path / "fewer" / tiny_source.name))
    next((fewer / "train" / "circle").iterdir()).unlink()
    other = open_dataset(fewer, cache).info
    assert dashboard(PAGE).selectbox(key="data_choice").options == [
        f"{info.name} ({info.fingerprint[:8]})" for info in (other, equal)
    ]


def test_a_link_to_a_reading_whose_result_was_removed_does_not_read_again(
    dashboard: Callable[..., Any], cache: Path, tiny_source: Path
) -> None:
    shutil.rmtree(cache)
    folder, task = job.data_task(cache.parent, str(tiny_source))
    (folder.path / "task.json").write_text(json.dumps(task))
    folder.append(Boot(pid=1, host="elsewhere"))
    folder.append(End(outcome="finished", message="Done."))
    app = dashboard(PAGE, opening=folder.path.name)
    assert "open it again" in texts(app)
    assert not folder.alive
    assert "opening" not in app.query_params
    open_path(app, str(tiny_source))
    run_until(app, lambda app: bool(app.metric))


def test_the_path_of_the_command_line_is_read_by_itself_until_somebody_removes_it(
    dashboard: Callable[..., Any],
    cache: Path,
    runs_root: Path,
    tiny_source: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    shutil.rmtree(cache)
    words = ["dashboard.py", "--runs", str(runs_root), "--cache", str(cache), "--data", str(tiny_source)]
    monkeypatch.setattr("sys.argv", words)
    app = run_until(dashboard(PAGE), lambda app: bool(app.metric))
    assert ui.place().data == str(tiny_source)
    press(app, "Remove")
    app.run()
    assert not app.metric
    folder, _ = job.data_task(cache.parent, str(tiny_source))
    assert folder.state == "finished"
    # Between its last word and its exit the worker still holds the lock.
    limit = time.monotonic() + 20
    while folder.alive and time.monotonic() < limit:
        time.sleep(0.05)
    assert not folder.alive


def test_a_download_that_was_stopped_is_offered_to_go_on(dashboard: Callable[..., Any], cache: Path) -> None:
    with (cache.parent / "cifar-10-python.tar.gz.part").open("wb") as part:
        part.truncate(43_000_000)
    labels = [button.label for button in dashboard(PAGE).button]
    assert "Go on with the download of CIFAR-10 (43 of 170 MB are there)" in labels


def test_a_click_counts_though_a_reading_has_ended_meanwhile(
    dashboard: Callable[..., Any], cache: Path, tiny: Tiny
) -> None:
    folder, task = job.data_task(cache.parent, str(tiny.source))
    (folder.path / "task.json").write_text(json.dumps(task))
    with folder.held():
        folder.append(Boot(pid=1, host="elsewhere"))
        app = dashboard(PAGE, data=tiny.info.id, opening=folder.path.name)
        assert app.metric
        folder.append(End(outcome="finished", message="Done."))
    press(app, "Remove")
    assert not app.exception
    assert not (cache / tiny.info.id).exists()


def test_an_archive_that_is_there_is_not_offered_to_be_downloaded(dashboard: Callable[..., Any], cache: Path) -> None:
    (cache.parent / "cifar-10-python.tar.gz").write_bytes(b"brought here on a disk")
    labels = [button.label for button in dashboard(PAGE).button]
    assert "Open CIFAR-10 (its archive is there)" in labels
    assert "Download CIFAR-10 (170 MB)" not in labels


def test_a_download_that_failed_says_what_else_can_be_done(dashboard: Callable[..., Any], cache: Path) -> None:
    folder, task = job.data_task(cache.parent, None)
    (folder.path / "task.json").write_text(json.dumps(task))
    folder.append(Boot(pid=1, host="elsewhere"))

    def open_there(app: Any) -> list[bool]:
        """Whether what can be done is seen at once, and all around it."""
        assert texts(app).count("Behind a firewall") == 1
        around = ("Open another data set", "If the site cannot be reached")
        return [expander.proto.expanded for expander in app.expander if expander.label in around]

    assert open_there(dashboard(PAGE)) == [False, False]
    folder.append(End(outcome="failed", message="It cannot be reached."))
    assert open_there(dashboard(PAGE)) == [False, False]
    assert open_there(dashboard(PAGE, opening=folder.path.name)) == [True, True]


def test_pictures_drawn_for_want_of_others_say_so_and_lead_to_the_real_ones(
    dashboard: Callable[..., Any], cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from cifar_core import cartoon

    monkeypatch.setattr(cartoon, "COUNTS", {"train": 300, "test": 60})
    shutil.rmtree(cache)
    open_dataset("cartoon10", cache)
    app = dashboard(PAGE)
    assert app.expander[0].label == "Open another data set"
    assert app.expander[0].proto.expanded
    assert "Remove from the cache" not in [popover.label for popover in app.get("popover")]
    assert "drawn by code, not CIFAR-10" in texts(app).replace("\\", "")
