"""The page Explain: prediction and heat map of a test image or of an uploaded photo."""

from __future__ import annotations

import base64
import html
import io
import json
import re
import shutil
import struct
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import streamlit as st
from PIL import Image
from streamlit.delta_generator import DeltaGenerator

from cifar_core import job
from cifar_core.datasets import open_cached
from cifar_core.photos import read_photo
from cifar_core.runs import Run, write_whole
from pages.ui import photos

PAGE = "pages/explain.py"
PHOTO = {"source": "Your photo"}
WHOLE = "The whole photo; what the network does not get is dimmed"


def text_of(app: Any) -> str:
    kinds = (app.markdown, app.caption, app.info, app.warning, app.error)
    return "\n".join(element.value for kind in kinds for element in kind).replace("\\", "")


def words(element: Any) -> str:
    """What is read where Markdown signs are escaped."""
    return re.sub(r"\\(.)", r"\1", element.value)


def bars(app: Any) -> dict[str, str]:
    """What is written beside the bars, by class and in their order."""
    page = "".join(element.proto.body for element in app.get("html"))
    rows = re.findall(r'anywhere">(?:<b>)?([^<]+)(?:</b>)?<span.*?tabular-nums">([^<]+)<', page)
    return {name: html.unescape(share) for name, share in rows}


@pytest.fixture
def pictures(monkeypatch: pytest.MonkeyPatch) -> dict[str, bytes]:
    """The files of the pictures shown since, by what a screen reader says of them."""
    shown: dict[str, bytes] = {}
    plain = DeltaGenerator.image

    def image(self: DeltaGenerator, content: bytes, *args: Any, **how: Any) -> Any:
        # Else Streamlit makes a picture of another kind of it.
        assert how["output_format"] == Image.open(io.BytesIO(content)).format
        shown[how["alt"]] = content
        return plain(self, content, *args, **how)

    monkeypatch.setattr(DeltaGenerator, "image", image)
    monkeypatch.setattr(st, "image", st._main.image)
    return shown


def decoded(content: bytes) -> np.ndarray[Any, Any]:
    """(3, H, W) of a PNG file."""
    picture = Image.open(io.BytesIO(content))
    assert picture.format == "PNG"
    return np.asarray(picture).transpose(2, 0, 1)


def seen(pictures: dict[str, bytes]) -> np.ndarray[Any, Any]:
    """(3, 32, 32), what the network is said to see."""
    (content,) = [content for alt, content in pictures.items() if alt.startswith("The 32 by 32 pixels")]
    return decoded(content)[:, 8::16, 8::16]


def file_of(picture: Image.Image, kind: str, **options: Any) -> bytes:
    buffer = io.BytesIO()
    picture.save(buffer, kind, **options)
    return buffer.getvalue()


def two_halves(width: int, height: int) -> Image.Image:
    """Red above, blue below."""
    picture = Image.new("RGB", (width, height), (255, 0, 0))
    picture.paste((0, 0, 255), (0, height // 2, width, height))
    return picture


def upload(app: Any, name: str, content: bytes) -> Any:
    app.file_uploader[0].upload(name, content).run()
    assert not app.exception, app.exception
    return app


def press(app: Any, label: str) -> Any:
    next(button for button in app.button if button.label.replace("\\", "") == label).click().run()
    assert not app.exception, app.exception
    return app


def test_without_runs_the_way_to_a_first_one_is_shown(dashboard: Callable[..., Any]) -> None:
    assert "No runs yet" in text_of(dashboard(PAGE))


@pytest.mark.parametrize("state", ["ready", "running", "failed", "interrupted"])
def test_runs_without_weights_are_not_offered(
    dashboard: Callable[..., Any], run_in_state: Callable[..., Run], state: str
) -> None:
    run_in_state(state)
    assert "No run has weights yet" in text_of(dashboard(PAGE))


def test_damaged_weights_are_said_in_a_sentence(dashboard: Callable[..., Any], trained_run: Run) -> None:
    trained_run.checkpoints()["best"].write_bytes(b"no weights")
    (error,) = dashboard(PAGE).error
    assert "is damaged, or no safetensors file at all" in error.value.replace("\\", "")


def test_the_bars_are_the_calibrated_probabilities_of_the_network(
    dashboard: Callable[..., Any], trained_run: Run, tiny: Any, cache: Path
) -> None:
    from cifar_core.calibration import fitted_temperature
    from cifar_core.evaluation import softmax
    from cifar_core.logits import keep, read
    from cifar_core.networks import load_network

    split = open_cached(tiny.info.id, cache).test
    network = load_network(trained_run.checkpoints()["best"])
    # As few mistakes as in the tiny run's validation images would make no temperature.
    folder, epoch = trained_run.logits("validation"), int(network.metadata["epoch"])
    values = np.random.default_rng(0).normal(size=(18, 3))
    keep(folder, epoch, values)
    temperature = fitted_temperature(read(folder, only=epoch).values[0], read(folder).images.labels)
    for index in (0, 33):
        said = next(network.logits(split.images[index][None]))[0].numpy()
        expected = softmax(said, temperature)
        app = dashboard(PAGE, image=str(index))
        found = bars(app)
        for name, p in zip(network.classes, expected, strict=True):
            if 0.001 <= p <= 0.999:
                assert found[name] == f"{100 * p:.1f}%"
            else:
                assert found[name] == ("<0.1%" if p < 0.5 else ">99.9%")
        assert list(found) == [network.classes[k] for k in np.argsort(-expected)]
        page = "".join(element.proto.body for element in app.get("html"))
        assert page.count("✓ true class") == 1
        assert re.search(rf"<b>{tiny.info.classes[split.labels[index]]}</b>[^/]*✓ true class", page)
        assert f"divided by the temperature {temperature:.3f} before the softmax, fitted on 18 valid" in text_of(app)


def test_without_kept_logits_probabilities_are_said_not_to_be_calibrated(
    dashboard: Callable[..., Any], trained_run: Run
) -> None:
    shutil.rmtree(trained_run.logits("validation"))
    app = dashboard(PAGE)
    assert bars(app)
    assert "not calibrated: nothing is kept" in text_of(app)


def test_validation_images_without_a_mistake_give_no_temperature(
    dashboard: Callable[..., Any], trained_run: Run
) -> None:
    from cifar_core.logits import files, keep, read_images

    folder = trained_run.logits("validation")
    for epoch in files(folder):
        keep(folder, epoch, np.eye(3)[read_images(folder).labels])
    assert "not calibrated: all of the 18 validation images are told right" in text_of(dashboard(PAGE))


def test_a_true_class_that_is_hardly_predicted_is_shown_beyond_the_first_ten() -> None:
    from pages.ui import charts

    page = charts.prediction_bars([f"kind {k}" for k in range(20)], np.linspace(0.09, 0.01, 20, dtype="f4"), true=19)
    shown = re.findall(r"kind \d+", page)
    assert shown == [f"kind {k}" for k in range(10)] + ["kind 19"]


def test_names_of_classes_are_no_markup() -> None:
    from pages import ui
    from pages.ui import charts

    page = charts.prediction_bars(["<img src=x onerror=alert(1)>", "b"], np.array([0.9, 0.1], "f4"))
    assert "<img" not in page
    assert ui.plain("*a* [b](c) $x$") == r"\*a\* \[b\]\(c\) \$x\$"


def test_the_picture_shown_is_what_the_network_gets(
    dashboard: Callable[..., Any], trained_run: Run, tiny: Any, cache: Path, pictures: dict[str, bytes]
) -> None:
    dashboard(PAGE, image="41")
    assert (seen(pictures) == open_cached(tiny.info.id, cache).test.images[41]).all()


def test_the_overlay_is_the_heat_of_grad_cam_over_the_picture(
    dashboard: Callable[..., Any], trained_run: Run, tiny: Any, cache: Path, pictures: dict[str, bytes]
) -> None:
    import torch

    from cifar_core.explain import grad_cam, overlay
    from cifar_core.networks import load_network

    network = load_network(trained_run.checkpoints()["best"])
    pixels = open_cached(tiny.info.id, cache).test.images[5].copy()
    images = network.normalise(torch.from_numpy(pixels)[None])
    layer = network.model.layers[0]
    # Not the class that is explained when nobody chooses one.
    others = network.model(images)[0].argsort()[:2].tolist()
    index = next(k for k in others if grad_cam(network.model, images, torch.tensor([k]), layer).any())
    app = dashboard(PAGE, image="5", heat_class=network.classes[index], layer=layer, opacity="80")
    heat = grad_cam(network.model, images, torch.tensor([index]), layer)[0].numpy()
    big = Image.fromarray(pixels.transpose(1, 2, 0)).resize((640, 640), Image.Resampling.NEAREST)
    shown = pictures[f"Heat map of the evidence for {network.classes[index]} in {layer} over test image 5"]
    assert (decoded(shown) == np.asarray(overlay(big, heat, 0.8)).transpose(2, 0, 1)).all()
    height, width = network.model.body[:1](images).shape[2:]
    assert f"Grad-CAM of {layer} for {network.classes[index]}: {height}×{width} cells" in text_of(app)
    assert "Download the overlay" in [button.proto.label for button in app.get("download_button")]


def test_an_empty_heat_map_is_a_warning_and_no_picture(
    dashboard: Callable[..., Any], trained_run: Run, pictures: dict[str, bytes], monkeypatch: pytest.MonkeyPatch
) -> None:
    from pages.ui import loaders

    nothing = loaders.HeatMap(np.zeros((32, 32), np.float32), (4, 4), ("#000000", "#ffffff"))
    monkeypatch.setattr(loaders, "heat_map", lambda *_: nothing)
    app = dashboard(PAGE, heat_class="circle")
    (warning,) = app.warning
    assert "speaks for circle" in warning.value
    assert not [alt for alt in pictures if alt.startswith("Heat map")]
    assert bars(app)


@pytest.mark.parametrize("asked", ["60", "-1", "many", "1e9", "1e400", "nan", "5.5"])
def test_an_image_that_is_not_there_becomes_the_first(
    dashboard: Callable[..., Any], trained_run: Run, asked: str
) -> None:
    app = dashboard(PAGE, image=asked)
    assert app.number_input(key="image").value == 0
    (warning,) = app.warning
    assert words(warning) == f"There is no test image {asked!r} here; this is 0."
    app.number_input(key="image").set_value(7).run()
    assert not app.exception
    assert not app.warning


def test_an_image_that_is_there_needs_no_word(dashboard: Callable[..., Any], trained_run: Run) -> None:
    app = dashboard(PAGE, image="59")
    assert app.number_input(key="image").value == 59
    assert not app.warning


def test_a_link_to_a_run_without_weights_says_so_and_offers_another(
    dashboard: Callable[..., Any], trained_run: Run, run_in_state: Callable[..., Run]
) -> None:
    young = run_in_state("running")
    app = dashboard(PAGE, run=young.id)
    (info,) = app.info
    assert words(info) == f"This run has no weights yet ({young.id}); this is {trained_run.id}."
    assert not app.warning
    assert bars(app)


def test_an_image_beyond_a_smaller_data_set_becomes_the_first(dashboard: Callable[..., Any], trained_run: Run) -> None:
    """What is left in a session after a visit to a run on a larger one."""
    app = dashboard(PAGE)
    app.session_state["image"] = 500
    app.run()
    assert not app.exception
    assert app.number_input(key="image").value == 0


def test_a_layer_or_class_that_is_not_there_becomes_the_usual_one(
    dashboard: Callable[..., Any], trained_run: Run
) -> None:
    app = dashboard(PAGE, layer="layer9", heat_class="unicorn")
    assert app.selectbox(key="layer").value == app.selectbox(key="layer").options[-1]
    assert app.selectbox(key="heat_class").value == "What it predicts"


def test_going_to_a_run_with_other_layers_keeps_the_page_whole(
    dashboard: Callable[..., Any], trained_run: Run, make_run: Callable[..., Run]
) -> None:
    other = make_run(model="guide_cnn", width=0.25, train_images=32)
    app = dashboard(PAGE, run=other.id)
    options = app.selectbox(key="layer").options
    app.selectbox(key="layer").select(options[-2]).run()
    app.selectbox(key="run_choice").set_value(trained_run.id).run()
    assert not app.exception
    assert app.selectbox(key="layer").value in app.selectbox(key="layer").options
    assert bars(app)


def test_a_random_image_is_of_the_class_asked_for(
    dashboard: Callable[..., Any], trained_run: Run, tiny: Any, cache: Path
) -> None:
    labels = open_cached(tiny.info.id, cache).test.labels
    app = dashboard(PAGE)
    app.selectbox(key="random_class").select("stripes").run()
    picked = set()
    for _ in range(4):
        next(button for button in app.button if button.label == "Random image").click().run()
        assert not app.exception
        picked.add(app.number_input(key="image").value)
    assert {tiny.info.classes[labels[index]] for index in picked} == {"stripes"}
    assert len(picked) > 1


def test_a_random_mistake_needs_an_evaluation_and_is_one(
    dashboard: Callable[..., Any], trained_run: Run, tiny: Any, cache: Path
) -> None:
    from cifar_core.networks import load_network

    def button(app: Any) -> Any:
        return next(button for button in app.button if button.label == "Random mistake")

    assert button(dashboard(PAGE)).disabled
    folder, task = job.evaluation_task(trained_run, "best", tiny.info)
    write_whole(folder.path / "task.json", json.dumps(task).encode())
    with folder.held():
        list(job.execute_task(folder, cache))
    split = open_cached(tiny.info.id, cache).test
    told = load_network(trained_run.checkpoints()["best"]).probabilities(split.images).argmax(1).numpy()
    wrong = np.flatnonzero(told != split.labels)
    assert len(wrong)
    app = dashboard(PAGE, image=str(np.flatnonzero(told == split.labels)[0]))
    assert ":material/check: right" in "".join(element.value for element in app.markdown)
    button(app).click().run()
    assert not app.exception
    assert app.number_input(key="image").value in wrong
    assert ":material/close: wrong" in "".join(element.value for element in app.markdown)


def test_a_photo_needs_no_images_of_the_run(
    dashboard: Callable[..., Any], trained_run: Run, cache: Path, pictures: dict[str, bytes]
) -> None:
    for path in sorted(cache.rglob("*"), reverse=True):
        path.rmdir() if path.is_dir() else path.unlink()
    assert "are not here" in text_of(dashboard(PAGE))
    app = upload(dashboard(PAGE, **PHOTO), "photo.png", file_of(two_halves(90, 90), "PNG"))
    assert set(bars(app)) == {"circle", "square", "stripes"}
    assert "✓ true class" not in "".join(element.proto.body for element in app.get("html"))
    assert "can only answer with the 3 classes" in text_of(app)


def frame(app: Any) -> dict[str, Any]:
    """What the photo with its square was given."""
    (element,) = app.get("bidi_component")
    return json.loads(element.proto.json)


def test_a_photo_is_turned_upright(dashboard: Callable[..., Any], trained_run: Run, pictures: dict[str, bytes]) -> None:
    turned = Image.Exif()
    turned[0x0112] = 6
    # Stored with red at the left; turned a quarter clockwise, red is above.
    stored = two_halves(96, 128).transpose(Image.Transpose.ROTATE_90)
    app = upload(dashboard(PAGE, **PHOTO), "turned.jpg", file_of(stored, "JPEG", quality=95, exif=turned))
    top, bottom = seen(pictures)[:, 4, 16].astype(int), seen(pictures)[:, 27, 16].astype(int)
    assert top[0] > 200 > 60 > top[2]
    assert bottom[2] > 200 > 60 > bottom[0]
    assert (frame(app)["width"], frame(app)["height"]) == (96, 128)
    whole = Image.open(io.BytesIO(base64.b64decode(frame(app)["photo"].partition(",")[2])))
    assert whole.size == (96, 128)
    red, _, blue = whole.getpixel((48, 10))
    assert red > 200 > 60 > blue


def test_transparency_is_laid_on_white(
    dashboard: Callable[..., Any], trained_run: Run, pictures: dict[str, bytes]
) -> None:
    upload(dashboard(PAGE, **PHOTO), "clear.png", file_of(Image.new("RGBA", (40, 40), (0, 0, 0, 0)), "PNG"))
    assert (seen(pictures) == 255).all()


def test_a_grey_photo_becomes_three_equal_channels(
    dashboard: Callable[..., Any], trained_run: Run, pictures: dict[str, bytes]
) -> None:
    upload(dashboard(PAGE, **PHOTO), "grey.png", file_of(Image.new("L", (50, 70), 77), "PNG"))
    assert (seen(pictures) == 77).all()


def test_a_huge_photo_is_shown_no_larger_than_a_screen_needs(
    dashboard: Callable[..., Any], trained_run: Run, pictures: dict[str, bytes]
) -> None:
    app = upload(dashboard(PAGE, **PHOTO), "huge.jpg", file_of(two_halves(6000, 4000), "JPEG"))
    assert bars(app)
    assert all(max(Image.open(io.BytesIO(content)).size) <= 640 for content in pictures.values())


def test_the_overlay_of_a_photo_is_the_heat_over_it_as_exactly_as_a_jpeg_is(
    dashboard: Callable[..., Any], trained_run: Run, pictures: dict[str, bytes]
) -> None:
    import torch

    from cifar_core.explain import grad_cam, overlay
    from cifar_core.networks import load_network
    from cifar_core.photos import to_input

    photo = two_halves(300, 300)
    upload(dashboard(PAGE, **PHOTO, opacity="70"), "photo.png", file_of(photo, "PNG"))
    network = load_network(trained_run.checkpoints()["best"])
    images = network.normalise(torch.from_numpy(to_input(photo))[None])
    heat = grad_cam(network.model, images, network.model(images).argmax(1), network.model.layers[-1])[0].numpy()
    (shown,) = [content for alt, content in pictures.items() if alt.startswith("Heat map")]
    difference = np.asarray(Image.open(io.BytesIO(shown))).astype(float) - np.asarray(overlay(photo, heat, 0.7))
    assert heat.any()
    assert np.abs(difference).mean() < 2


def test_cropping_cuts_the_sides_and_padding_keeps_them(
    dashboard: Callable[..., Any], trained_run: Run, pictures: dict[str, bytes]
) -> None:
    wide = Image.new("RGB", (192, 64), (0, 255, 0))
    wide.paste((255, 0, 255), (0, 0, 64, 64))
    content = file_of(wide, "PNG")
    upload(dashboard(PAGE, **PHOTO, fit="Crop"), "wide.png", content)
    assert (seen(pictures)[:, :, 4] == [[0], [255], [0]]).all()
    pictures.clear()
    upload(dashboard(PAGE, **PHOTO, fit="Keep all, add bars"), "wide.png", content)
    assert (seen(pictures)[:, 2, :] == 128).all()
    assert (seen(pictures)[:, 16, 4] == [255, 0, 255]).all()


def _bomb() -> bytes:
    def chunk(kind: bytes, body: bytes) -> bytes:
        return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))

    header = struct.pack(">IIBBBBB", 30_000, 30_000, 8, 2, 0, 0, 0)
    body = chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(bytes(100_000), 9)) + chunk(b"IEND", b"")
    return b"\x89PNG\r\n\x1a\n" + body


@pytest.mark.parametrize(
    ("name", "content", "said"),
    [
        ("text.png", b"This is a letter, not a picture.", "is not a picture"),
        ("cut.jpg", file_of(two_halves(400, 400), "JPEG")[:2000], "truncated or damaged"),
        ("bomb.png", _bomb(), "30,000 by 30,000 pixels"),
        ("empty.png", b"", "is empty"),
        ("film.png", file_of(Image.new("P", (9, 9)), "GIF"), "is a GIF file"),
    ],
)
def test_what_cannot_be_read_gets_one_sentence(
    dashboard: Callable[..., Any], trained_run: Run, name: str, content: bytes, said: str
) -> None:
    app = upload(dashboard(PAGE, **PHOTO), name, content)
    (error,) = app.error
    assert said in words(error)
    assert not bars(app)


def test_a_refused_photo_takes_the_answer_to_the_last_one_away(dashboard: Callable[..., Any], trained_run: Run) -> None:
    app = upload(dashboard(PAGE, **PHOTO), "photo.png", file_of(two_halves(48, 48), "PNG"))
    assert bars(app)
    app = upload(app, "film.gif", file_of(Image.new("P", (9, 9)), "GIF"))
    (error,) = app.error
    assert "is a GIF file; save it as PNG, JPEG or WebP and try again." in words(error)
    assert not bars(app)


def test_how_photos_are_cut_is_no_choice_of_one_that_cannot_be_read_and_stays_for_others(
    dashboard: Callable[..., Any], trained_run: Run
) -> None:
    app = upload(dashboard(PAGE, **PHOTO, fit="Keep all, add bars"), "photo.png", file_of(two_halves(48, 48), "PNG"))
    (fit,) = [group for group in app.get("button_group") if group.label == "Make it square"]
    assert fit.value == "pad"
    app = upload(app, "film.gif", file_of(Image.new("P", (9, 9)), "GIF"))
    assert app.error
    assert not [group for group in app.get("button_group") if group.label == "Make it square"]
    app = press(app, "photo.png")
    (fit,) = [group for group in app.get("button_group") if group.label == "Make it square"]
    assert fit.value == "pad"
    assert not app.warning


def test_a_photo_is_still_there_after_a_visit_to_another_page(
    dashboard: Callable[..., Any], trained_run: Run, pictures: dict[str, bytes]
) -> None:
    app = upload(dashboard(PAGE, **PHOTO), "my *own*.png", file_of(two_halves(48, 48), "PNG"))
    answer = bars(app)
    app.switch_page("pages/compare.py").run()
    app.switch_page(PAGE)
    app.query_params["source"] = PHOTO["source"]
    app.run()
    assert not app.exception
    assert bars(app) == answer
    assert "my *own*.png" in text_of(app)
    next(button for button in app.button if button.label == "Remove photo").click().run()
    assert not bars(app)
    assert "Remove photo" not in [button.label for button in app.button]


def test_a_photo_that_is_taken_out_is_not_kept(dashboard: Callable[..., Any], trained_run: Run) -> None:
    app = upload(dashboard(PAGE, **PHOTO), "photo.png", file_of(two_halves(48, 48), "PNG"))
    assert bars(app)
    press(app, "Remove photo")
    assert not bars(app)
    assert not app.session_state["kept_photos"]


def test_the_same_visitor_gets_an_answer_to_the_photo_in_hand(
    dashboard: Callable[..., Any], trained_run: Run, pictures: dict[str, bytes]
) -> None:
    """Kept photos are found by their content, so one never stands for another, whatever it is called."""
    for colour in ((200, 30, 30), (30, 30, 200)):
        pictures.clear()
        upload(dashboard(PAGE, **PHOTO), "photo.png", file_of(Image.new("RGB", (48, 48), colour), "PNG"))
        assert (seen(pictures) == np.array(colour)[:, None, None]).all()


def several(app: Any, **files: bytes) -> Any:
    app.file_uploader[0].set_value([(f"{name}.png", content, "image/png") for name, content in files.items()]).run()
    assert not app.exception, app.exception
    return app


def test_several_photos_are_in_one_table_and_one_of_them_is_looked_at(
    dashboard: Callable[..., Any], trained_run: Run, pictures: dict[str, bytes]
) -> None:
    files = {name: file_of(Image.new("RGB", (40, 60), name), "PNG") for name in ("red", "lime", "blue")}
    app = several(dashboard(PAGE, **PHOTO), **files, broken=b"no picture")
    # The last that can be read is looked at.
    assert not app.error
    assert (seen(pictures) == np.array((0, 0, 255))[:, None, None]).all()
    press(app, "broken.png")
    assert words(app.error[0]) == "broken.png is not a picture; PNG, JPEG and WebP files can be read."
    for name, colour in (("red", (255, 0, 0)), ("lime", (0, 255, 0))):
        pictures.clear()
        press(app, f"{name}.png")
        assert (seen(pictures) == np.array(colour)[:, None, None]).all()
        (table,) = [frame.value for frame in app.dataframe if "Top class" in frame.value]
        assert list(table["Photo"]) == ["red.png", "lime.png", "blue.png", "broken.png"]
        best = next(iter(bars(app)))
        row = table[table["Photo"] == f"{name}.png"].iloc[0]
        assert row["Top class"] == best
        assert f"{row['Probability']:.1%}" == bars(app)[best]
    assert table.iloc[3]["Top class"] == "cannot be read"
    assert "is not a picture" in table.iloc[3]["Why not"]
    press(app, "Remove photo")
    assert [photo.name for photo in app.session_state["kept_photos"]] == ["red.png", "blue.png", "broken.png"]
    press(app, "Remove all")
    assert not bars(app)


def test_one_photo_needs_no_table_and_the_same_one_is_not_kept_twice(
    dashboard: Callable[..., Any], trained_run: Run
) -> None:
    content = file_of(two_halves(48, 48), "PNG")
    app = several(dashboard(PAGE, **PHOTO), one=content, two=content)
    assert not [frame for frame in app.dataframe if "Top class" in frame.value]
    (note,) = app.info
    assert words(note) == "“two.png” is the same picture as “one.png”, which is here already."
    app = press(app, "Remove photo")
    assert not app.info


def test_more_photos_than_are_kept_are_left_out_with_a_word(
    dashboard: Callable[..., Any], trained_run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    from pages.ui import photos

    monkeypatch.setattr(photos, "MOST", 2)
    colours = ("red", "lime", "blue")
    app = several(
        dashboard(PAGE, **PHOTO), **{name: file_of(Image.new("RGB", (8, 8), name), "PNG") for name in colours}
    )
    assert "1 more was left out: up to 2 photos" in text_of(app)


def test_the_table_is_the_csv_and_no_name_of_a_file_is_a_formula() -> None:
    import csv

    from pages.ui import sure

    rows = [["=1+1.png", "ship", "0.900000", "", "0.100000", "0.900000"], ["b, c.png", "", "", "the file is empty"]]
    found = list(csv.DictReader(io.StringIO(sure.csv_of(rows, ["run-1", "best", "3", "1.2500"], ("car", "ship")))))
    assert [row["photo"] for row in found] == ["'=1+1.png", "b, c.png"]
    assert (found[0]["p(ship)"], found[0]["temperature"], found[1]["why not"]) == (
        "0.900000",
        "1.2500",
        found[1]["why not"],
    )


def test_the_square_is_moved_and_sized_on_the_photo(
    dashboard: Callable[..., Any], trained_run: Run, pictures: dict[str, bytes]
) -> None:
    app = upload(dashboard(PAGE, **PHOTO), "photo.png", file_of(two_halves(128, 64), "PNG"))
    sliders = {slider.label: slider for slider in app.slider}
    assert sliders["From top to bottom"].disabled
    sliders["Size of the square"].set_value(50).run()
    for where, colour in ((0, (255, 0, 0)), (100, (0, 0, 255))):
        pictures.clear()
        next(slider for slider in app.slider if slider.label == "From top to bottom").set_value(where).run()
        assert not app.exception
        assert (seen(pictures) == np.array(colour)[:, None, None]).all()
    assert frame(app)["box"] == {"size": 0.5, "across": 0.5, "down": 1.0}
    assert frame(app)["alt"] == WHOLE
    # With bars, the photo is a picture, dimmed outside of the square, which has an outline.
    app.segmented_control(key="fit").set_value("pad").run()
    preview = decoded(pictures[WHOLE])
    assert (preview == np.array((230, 159, 0))[:, None, None]).all(axis=0).any()
    app.segmented_control(key="fit").set_value("crop").run()
    app.switch_page("pages/compare.py").run()
    app.switch_page(PAGE)
    app.query_params["source"] = PHOTO["source"]
    app.run()
    assert {slider.label: slider.value for slider in app.slider}["From top to bottom"] == 100


def test_a_picture_is_fetched_from_an_address_and_a_refusal_is_one_sentence(
    dashboard: Callable[..., Any], trained_run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    from cifar_core import fetching

    monkeypatch.setattr(fetching, "online", lambda: True)
    app = dashboard(PAGE, **PHOTO)
    app.text_input(key="address").set_value("http://169.254.169.254/latest")
    press(app, "Fetch")
    (error,) = app.error
    assert "is a link-local address (169.254.169.254), from which nothing is fetched" in words(error)
    contents = {
        "https://example.org/some/red%20car.png": file_of(Image.new("RGB", (9, 9), "red"), "PNG"),
        "https://a.b": b"<p>",
    }
    monkeypatch.setattr(fetching, "fetch_picture", contents.__getitem__)
    app.text_input(key="address").set_value("https://a.b")
    press(app, "Fetch")
    assert "What is at this address is not a picture" in words(app.error[0])
    app.text_input(key="address").set_value("https://example.org/some/red%20car.png")
    press(app, "Fetch")
    assert not app.error
    assert bars(app)
    assert "red car.png" in text_of(app)
    # What was asked for is the visitor's own affair.
    assert "example.org" not in str(dict(app.query_params))


def test_without_a_network_no_address_is_asked_for(
    dashboard: Callable[..., Any], trained_run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    from cifar_core import fetching

    monkeypatch.setattr(fetching, "online", lambda: False)
    field = dashboard(PAGE, **PHOTO).text_input(key="address")
    assert field.disabled
    assert field.placeholder == "This server has no network"


def test_the_ranges_are_the_lowest_and_highest_answers_to_small_changes(
    dashboard: Callable[..., Any], trained_run: Run, tiny: Any, cache: Path
) -> None:
    from cifar_core.networks import load_network
    from cifar_core.spread import looks
    from pages.ui import charts

    shutil.rmtree(trained_run.logits("validation"))
    pixels = open_cached(tiny.info.id, cache).test.images[33]
    network = load_network(trained_run.checkpoints()["best"])
    answers = network.probabilities(looks(pixels)).numpy()
    app = dashboard(PAGE, image="33")
    page = html.unescape("".join(element.proto.body for element in app.get("html")))
    for low, high in zip(answers.min(0), answers.max(0), strict=True):
        if charts.percent(low) != charts.percent(high):
            assert f" ({charts.percent(low)} – {charts.percent(high)})<" in page
    app.toggle(key="ranges").set_value(False).run()
    assert " – " not in "".join(element.proto.body for element in app.get("html"))


def open_panel(app: Any, title: str) -> Any:
    app.session_state[f"panel_{title}"] = True
    app.run()
    assert not app.exception, app.exception
    return app


def test_several_runs_are_asked_and_agree_or_not_in_one_sentence(
    dashboard: Callable[..., Any], trained_run: Run, make_run: Callable[..., Run], tiny: Any, cache: Path
) -> None:
    from cifar_core.networks import load_network

    other = make_run(epochs=1, seed=5)
    split = open_cached(tiny.info.id, cache).test
    told = [load_network(run.checkpoints()["best"]).probabilities(split.images) for run in (trained_run, other)]
    first, second = (answers.argmax(1).numpy() for answers in told)
    alike, unlike = np.flatnonzero(first == second)[0], np.flatnonzero(first != second)[0]
    names = tiny.info.classes
    for index, said in (
        (alike, f"All 2 runs say **{names[first[alike]]}**."),
        (unlike, f"1 of 2 runs says **{names[first[unlike]]}**; the other says {names[second[unlike]]}."),
    ):
        app = open_panel(dashboard(PAGE, run=trained_run.id, image=str(index)), "Do several runs agree?")
        assert said in text_of(app)
        (table,) = [frame.value for frame in app.dataframe if "Answer" in frame.value]
        assert list(table["Answer"]) == [names[first[index]], names[second[index]]]


@pytest.mark.parametrize(
    ("asked", "shown"), [("last", "last"), ("Last step", "last"), ("best", "best"), ("gone", "best")]
)
def test_links_name_weights_by_their_file_or_their_label(
    dashboard: Callable[..., Any], trained_run: Run, asked: str, shown: str
) -> None:
    app = dashboard(PAGE, run=trained_run.id, checkpoint=asked)
    assert not app.exception
    assert app.segmented_control(key="checkpoint").value == shown
    told = ["There are no weights 'gone' of this run here; these are: Best epoch."] if asked == "gone" else []
    assert [words(warning) for warning in app.warning] == told
    app.segmented_control(key="checkpoint").set_value("last" if shown == "best" else "best").run()
    assert app.segmented_control(key="checkpoint").value != shown
    assert not app.warning


def test_without_data_the_nearest_training_images_say_so_in_place(
    dashboard: Callable[..., Any], trained_run: Run, cache: Path
) -> None:
    shutil.rmtree(cache)
    app = upload(dashboard(PAGE, **PHOTO), "photo.png", file_of(two_halves(48, 48), "PNG"))
    assert bars(app)
    open_panel(app, "Training images that shaped the answer")
    assert "are not here" in text_of(app)


@pytest.mark.parametrize(
    ("size", "shown"),
    [
        ((480, 320), (480, 320)),
        ((200, 300), (200, 300)),
        ((80, 160), (120, 240)),
        ((29, 320), (44, 480)),
        ((1, 320), (24, 480)),
        ((480, 1), (480, 24)),
    ],
)
def test_a_photo_of_any_shape_leaves_the_page_short_and_can_be_seen(
    size: tuple[int, int], shown: tuple[int, int]
) -> None:
    assert photos.shown_at(*size) == shown


@pytest.mark.parametrize(
    ("size", "sentence"),
    [
        ((300, 200), "300 × 200 pixels."),
        ((1, 3000), "1 × 3,000 pixels, worked on at 1 × 2,048 pixels."),
        ((3000, 1), "3,000 × 1 pixels, worked on at 2,048 × 1 pixels."),
    ],
)
def test_the_size_that_is_said_is_that_of_the_file(
    size: tuple[int, int], sentence: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Pillow's own limit is below ours.
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 100)
    file = io.BytesIO()
    Image.new("RGB", size).save(file, "PNG")
    worked_on = read_photo(file.getvalue()).size
    assert photos.size_of.__wrapped__("", file.getvalue(), *worked_on) == sentence
