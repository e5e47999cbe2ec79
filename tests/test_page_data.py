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

import numpy as np
import pytest
from PIL import Image

from cifar_core import job
from cifar_core.datasets import DataInfo, Split, cached, find_cached, open_cached, open_dataset
from cifar_core.events import Boot, End, TaskProgress
from cifar_core.pixels import summarise
from cifar_core.sources import DataError
from cifar_core.transforms import normalisation, normalise
from pages import ui
from pages.ui import batches, charts, images
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


def test_bars_show_counts_or_shares_of_each_split(dashboard: Callable[..., Any]) -> None:
    app = dashboard(PAGE)

    def bars() -> dict[str, list[float]]:
        # The other traces are the grey ones of the legend.
        traces = json.loads(app.get("plotly_chart")[0].proto.spec)["data"]
        return {trace["name"]: trace["y"] for trace in traces if trace["name"] in ("training", "test")}

    assert bars() == {"training": [60] * 3, "test": [20] * 3}
    app.toggle(key="shares").set_value(True).run()
    assert bars() == {"training": [1 / 3] * 3, "test": [1 / 3] * 3}


def test_every_bar_has_its_name_as_it_is_or_shortened() -> None:
    names = ['"quoted"', *(f"a rather long name of class {k}" for k in range(19))]
    figure = charts.class_distribution(names, [2] * 20, [1] * 20, False)
    ticks = figure.layout.xaxis.ticktext
    assert len(ticks) == 20
    assert ticks[0] == '"quoted"'
    assert max(map(len, ticks)) <= 16
    assert len(set(ticks)) == 20
    assert figure.layout.xaxis.ticklabeloverflow == "allow"


def test_the_index_below_a_picture_is_its_index_in_the_split(dashboard: Callable[..., Any], tiny: Tiny) -> None:
    app = dashboard(PAGE, split="Test")
    data, found = open_cached(tiny.info.id, tiny.cache).test, shown_images(app)
    assert len(found) == 60
    for pixels, alt, caption in found:
        name, index = caption.split()
        np.testing.assert_array_equal(pixels, data.images[int(index)])
        assert tiny.info.classes[data.labels[int(index)]] == name
        assert alt == f"{name}, test index {index}"
    assert sorted(int(caption.split()[1]) for *_, caption in found) == list(range(60))


def test_the_pages_of_the_gallery_show_every_image_once(dashboard: Callable[..., Any]) -> None:
    captions = []
    for page in ("1", "2", "3"):
        captions += [caption for *_, caption in shown_images(dashboard(PAGE, page=page))]
    assert len(captions) == len(set(captions)) == 180


def test_the_same_seed_shows_the_same_sample_and_another_seed_another(dashboard: Callable[..., Any]) -> None:
    def sample(**query: str) -> list[str]:
        return [caption for *_, caption in shown_images(dashboard(PAGE, **query))]

    assert sample(seed="3") == sample(seed="3")
    assert sample(seed="3") != sample(seed="4")
    assert [int(caption.split()[1]) for caption in sample(shuffled="false")] == list(range(images.PER_PAGE))


def test_the_gallery_shows_only_the_chosen_classes(dashboard: Callable[..., Any]) -> None:
    app = dashboard(PAGE)
    app.multiselect(key="classes").set_value(["square", "stripes"]).run()
    assert {caption.split()[0] for *_, caption in shown_images(app)} == {"square", "stripes"}
    assert "120 training images" in texts(app)


def test_a_filter_with_fewer_pages_begins_with_the_first(dashboard: Callable[..., Any]) -> None:
    app = dashboard(PAGE, page="3")
    app.multiselect(key="classes").set_value(["square", "circle"]).run()
    assert not app.exception
    assert "these are 1 to 88" in texts(app)


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
    assert all(caption.startswith("a *b* &lt;i&gt;") for *_, caption in shown_images(app))


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
    assert app.query_params["data"] == find_cached(source, cache).id != tiny.info.id
    assert app.metric


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


def test_a_download_that_failed_says_what_else_can_be_done(dashboard: Callable[..., Any], cache: Path) -> None:
    folder, task = job.data_task(cache.parent, None)
    (folder.path / "task.json").write_text(json.dumps(task))
    folder.append(Boot(pid=1, host="elsewhere"))
    app = dashboard(PAGE)
    beside_the_button = texts(app).count("Behind a firewall")
    folder.append(End(outcome="failed", message="It cannot be reached."))
    app = dashboard(PAGE, opening=folder.path.name)
    assert (beside_the_button, texts(app).count("Behind a firewall")) == (1, 2)


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
