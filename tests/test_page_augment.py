"""The Augment page: samples of images, and what the network is fed."""

from __future__ import annotations

import dataclasses
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from test_page_data import press, shown_images, texts

from cifar_core.config import FIELDS
from cifar_core.datasets import open_cached, open_dataset
from cifar_core.runs import Run
from cifar_core.transforms import (
    Augmentation,
    Draw,
    apply,
    augment,
    draw,
    generator_for,
    normalisation,
    normalise,
)
from pages.ui import augmenting, batches
from tests.conftest import Tiny

PAGE = "pages/augment.py"

LIVELY = {"flip": 0.5, "crop_padding": 4, "rotation": 20.0, "crop_scale": 0.4, "colour_jitter": 0.4, "cutout": 8}

NOTHING_DRAWN: dict[str, Any] = {
    "flip": False,
    "offset": (0, 0),
    "angle": 0.0,
    "box": (0, 0, 32, 32),
    "factors": (1.0, 1.0, 1.0),
    "hue": 0.0,
    "grey": False,
    "centre": (0, 0),
    "operations": (),
    "magnitudes": (),
    "shift": (0.0, 0.0),
    "scale": 1.0,
    "sigma": 0.0,
    "cut": True,
    "erased": (0, 0, 0, 0),
}


def made(tiny: Tiny, indices: tuple[int, ...], samples: int, seed: int = 0, **how: float) -> batches.Samples:
    settings = tuple({**LIVELY, **how}.items())
    return batches.augmented(
        tiny.info.id, tiny.info.fingerprint, tiny.cache, "train", indices, samples, settings, seed, "statistics"
    )


def test_samples_are_what_a_training_makes_of_the_images(tiny: Tiny) -> None:
    pixels = torch.from_numpy(open_cached(tiny.info.id, tiny.cache).train.images[[3, 100]])
    batch = augment(pixels.repeat(5, 1, 1, 1), Augmentation(**LIVELY), generator_for(7, 0))
    fed = normalise(batch, *normalisation("statistics", tiny.info.mean, tiny.info.std))
    found = made(tiny, (3, 100), 5, seed=7)
    assert found.samples.shape == (2, 5, 3, 32, 32)
    expected = (batch.view(5, 2, 3, 32, 32).transpose(0, 1) * 255).round().numpy()
    np.testing.assert_array_equal(found.samples, expected)
    assert (found.fed.low, found.fed.high) == (fed.min().item(), fed.max().item())
    after = found.table.iloc[1]
    assert (after["shape"], after["dtype"]) == ("(10, 3, 32, 32)", "float32")
    assert after["mean"] == f"{fed.mean().item():.3f}"


def test_what_is_said_of_a_sample_is_what_was_drawn_for_it(tiny: Tiny) -> None:
    drawn = draw(Augmentation(**LIVELY), 10, 32, 32, generator_for(0, 0))
    found = made(tiny, (3, 100), 5)
    for i, j in np.ndindex(2, 5):
        alone = {name: getattr(drawn, name)[2 * j + i][None] for name in NOTHING_DRAWN}
        assert found.captions[i][j] == batches.describe(Draw(drawn.how, **alone), 0)
        assert found.marks[i][j] == batches.describe(Draw(drawn.how, **alone), 0, signs=True)


def test_more_samples_leave_the_first_ones_as_they_are(tiny: Tiny) -> None:
    np.testing.assert_array_equal(made(tiny, (3, 100), 9).samples[:, :4], made(tiny, (3, 100), 4).samples)


def test_seeds_decide_the_samples(tiny: Tiny) -> None:
    assert (made(tiny, (3,), 4, seed=1).samples != made(tiny, (3,), 4, seed=2).samples).any()
    assert made(tiny, (3,), 4, seed=1).captions != made(tiny, (3,), 4, seed=2).captions


def one(**drawn: Any) -> Draw:
    """A draw for a single image."""
    how = drawn.pop("how")
    values = {**NOTHING_DRAWN, **drawn}
    return Draw(how, **{name: torch.tensor([values[name]]) for name in NOTHING_DRAWN})


def brightest(images: torch.Tensor) -> tuple[int, int]:
    row, column = divmod(int(images[0, 0].argmax()), images.shape[3])
    return row, column


@pytest.mark.parametrize("flip", [False, True])
@pytest.mark.parametrize("offset", [(0, 0), (1, 7), (4, 4), (6, 2), (8, 8)])
def test_the_shift_in_words_is_the_one_in_the_picture(flip: bool, offset: tuple[int, int]) -> None:
    image = torch.zeros(1, 3, 32, 32, dtype=torch.uint8)
    image[0, :, 15, 12] = 255
    drawn = one(how=Augmentation(flip=0.5, crop_padding=4), flip=flip, offset=offset)
    row, column = brightest(apply(image, drawn))
    said = batches.describe(drawn, 0)
    assert ("mirrored" in said) == flip
    down, right = row - 15, column - (31 - 12 if flip else 12)
    assert ("down" in said, "up" in said) == (down > 0, down < 0), said
    assert ("right" in said, "left" in said) == (right > 0, right < 0), said
    for moved in (down, right):
        assert not moved or f"{abs(moved)} " in said


def test_a_turn_to_the_left_brings_the_right_side_up() -> None:
    image = torch.zeros(1, 3, 32, 32, dtype=torch.uint8)
    image[0, :, 15:17, 28:30] = 255
    drawn = one(how=Augmentation(rotation=90), angle=90.0)
    row, column = brightest(apply(image, drawn))
    assert row < 5
    assert 14 <= column <= 17
    assert batches.describe(drawn, 0) == "90° left"
    assert batches.describe(drawn, 0, signs=True) == "↺90°"


def test_what_is_switched_off_is_not_told() -> None:
    drawn = draw(Augmentation(), 1, 32, 32, generator_for(0, 0))
    assert batches.describe(drawn, 0) == "unchanged"
    hole = one(how=Augmentation(cutout=4), centre=(3, 30))
    assert batches.describe(hole, 0) == "hole at 3, 30"
    assert batches.describe(hole, 0, signs=True) == "▢3,30"
    crop = one(how=Augmentation(crop_scale=0.2), box=(3, 4, 20, 17))
    assert batches.describe(crop, 0) == "20×17 enlarged"
    assert batches.describe(crop, 0, signs=True) == "⛶20×17"
    coloured = one(how=Augmentation(colour_jitter=0.5, grey=0.5), factors=(1.2, 0.75, 0.9), hue=-0.05, grey=True)
    assert batches.describe(coloured, 0) == ("brightness 120 % · contrast 75 % · saturation 90 % · hue -18° · grey")
    assert batches.describe(coloured, 0, signs=True) == "☀120 ◐75 ◍90 ◔-18° ○"


def test_sliders_say_what_the_settings_of_a_training_say(dashboard: Callable[..., Any]) -> None:
    app = dashboard(PAGE)
    assert tuple(field.name for field in dataclasses.fields(Augmentation)) == augmenting.TRANSFORMS
    for name in (name for name in augmenting.TRANSFORMS if name != "policy"):
        slider, about = app.slider(key=name), FIELDS[name].metadata
        assert (slider.min, slider.max, slider.value) == (about["low"], about["high"], FIELDS[name].default)
        assert slider.help == about["help"]


def test_an_original_stands_before_its_samples(dashboard: Callable[..., Any], tiny: Tiny) -> None:
    app = dashboard(PAGE, image="100", samples="5", **{name: str(value) for name, value in LIVELY.items()})
    found = shown_images(app)
    np.testing.assert_array_equal(found[0][0], open_cached(tiny.info.id, tiny.cache).train.images[100])
    assert found[0][2] == "original: square 100"
    assert [caption for *_, caption in found[1:]] == made(tiny, (100,), 5).captions[0]
    for (pixels, *_), expected in zip(found[1:], made(tiny, (100,), 5).samples[0], strict=True):
        np.testing.assert_array_equal(pixels, expected)
    fed = shown_images(app, 1)
    assert [caption for *_, caption in fed] == [f"square 100 #{i}" for i in range(1, 6)]


def test_sixteen_images_of_a_class_are_shown_from_the_chosen_one_on(dashboard: Callable[..., Any]) -> None:
    app = dashboard(PAGE, how_many="Sixteen", **{"class": "square"}, image="115", samples="2")
    originals = [caption for *_, caption in shown_images(app) if caption.startswith("original")]
    expected = [*range(115, 120), *range(60, 71)]
    assert originals == [f"original: square {i}" for i in expected]
    assert app.dataframe[0].value["shape"][0] == "(32, 3, 32, 32)"


def test_a_class_leads_to_its_first_image_and_an_index_to_its_own_class(dashboard: Callable[..., Any]) -> None:
    app = dashboard(PAGE)
    app.selectbox(key="class").set_value(2).run()
    assert app.number_input(key="image").value == 120
    app.number_input(key="image").set_value(3).run()
    assert app.selectbox(key="class").value == augmenting.ANY_CLASS
    assert shown_images(app)[0][2] == "original: circle 3"


def test_a_class_that_another_data_set_lacks_is_let_go(
    dashboard: Callable[..., Any], cache: Path, tiny: Tiny, tmp_path: Path
) -> None:
    source = Path(shutil.copytree(tiny.source, tmp_path / "others"))
    for split in ("train", "test"):
        shutil.rmtree(source / split / "stripes")
    other = open_dataset(source, cache).info
    app = dashboard(PAGE, data=tiny.info.id, **{"class": "stripes"}, image="170")
    app.selectbox(key="data_choice").set_value(other.id).run()
    assert not app.exception
    assert app.selectbox(key="class").value == augmenting.ANY_CLASS
    assert app.number_input(key="image").value == 119


def test_another_image_is_of_the_chosen_class(dashboard: Callable[..., Any]) -> None:
    app = dashboard(PAGE, **{"class": "stripes"})
    assert app.number_input(key="image").value == 120
    press(app, "Another")
    assert 120 < app.number_input(key="image").value < 180


def test_an_index_beyond_the_other_split_still_shows_an_image(dashboard: Callable[..., Any]) -> None:
    app = dashboard(PAGE, image="170")
    app.segmented_control(key="split").set_value("test").run()
    assert not app.exception
    assert app.number_input(key="image").value == 59


def test_a_new_draw_is_the_next_seed(dashboard: Callable[..., Any]) -> None:
    app = dashboard(PAGE)
    before = [caption for *_, caption in shown_images(app)]
    press(app, "New draw")
    assert app.number_input(key="seed").value == 1
    assert app.query_params["seed"] == "1"
    assert [caption for *_, caption in shown_images(app)] != before
    app.number_input(key="seed").set_value(0).run()
    assert [caption for *_, caption in shown_images(app)] == before


def test_a_setting_that_may_change_the_label_is_warned_of(dashboard: Callable[..., Any]) -> None:
    app = dashboard(PAGE)
    assert not app.warning
    app.slider(key="rotation").set_value(90.0).run()
    assert "further than 45°" in app.warning[0].value
    assert "cutout" not in app.warning[0].value
    app.slider(key="crop_scale").set_value(0.1).run()
    assert "less than 0.2 of the area" in app.warning[0].value


def test_with_everything_off_the_page_says_so(dashboard: Callable[..., Any]) -> None:
    app = dashboard(PAGE, flip="0.0", crop_padding="0")
    assert "switched off" in texts(app)
    pixels = [pixels for pixels, *_ in shown_images(app)]
    assert all((sample == pixels[0]).all() for sample in pixels[1:])


def test_settings_are_taken_over_from_a_run(dashboard: Callable[..., Any], run_in_state: Callable[..., Run]) -> None:
    colours = {"crop_scale": 0.3, "colour_jitter": 0.4, "grey": 0.1}
    run = run_in_state("finished", flip=0.25, crop_padding=3, rotation=12.0, cutout=6, normalisation="half", **colours)
    app = dashboard(PAGE)
    app.selectbox(key="settings_of").set_value(run.id).run()
    wanted = {"flip": 0.25, "crop_padding": 3, "rotation": 12.0, "cutout": 6, **colours}
    assert {name: app.slider(key=name).value for name in wanted} == wanted
    assert app.segmented_control(key="normalisation").value == "half"
    assert app.dataframe[0].value["batch"][1] == "after half"


def test_a_run_whose_settings_are_damaged_gets_a_sentence(
    dashboard: Callable[..., Any], run_in_state: Callable[..., Run]
) -> None:
    run = run_in_state("failed")
    (run.path / "config.json").write_text("{")
    app = dashboard(PAGE)
    app.selectbox(key="settings_of").set_value(run.id).run()
    assert not app.exception
    assert "cannot be read" in app.error[0].value


def test_without_data_the_page_points_to_some(dashboard: Callable[..., Any], cache: Path) -> None:
    shutil.rmtree(cache)
    app = dashboard(PAGE)
    assert "No images here yet" in texts(app)
    assert not app.slider
