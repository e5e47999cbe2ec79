"""The Augment page: samples of images, and what the network is fed."""

from __future__ import annotations

import dataclasses
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl

import numpy as np
import pytest
import torch
from test_page_data import press, shown_images, texts

from cifar_core import job
from cifar_core.config import FIELDS
from cifar_core.datasets import open_cached, open_dataset
from cifar_core.networks import load_network
from cifar_core.runs import Run
from cifar_core.transforms import (
    Augmentation,
    Draw,
    apply,
    augment,
    draw,
    generator_for,
    mix,
    normalisation,
    normalise,
)
from pages.ui import augmenting, batches, charts, opinion
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


def test_draws_alternate_where_the_epochs_of_a_training_do(tiny: Tiny) -> None:
    found = batches.augmented(
        *(tiny.info.id, tiny.info.fingerprint, tiny.cache, "train", tuple(range(8)), 4),
        (("flip", 0.5), ("flip_mode", "alternating")),
        *(0, "statistics"),
    )
    said = [["mirrored" in words for words in row] for row in found.captions]
    assert all(row[0] == row[2] != row[1] == row[3] for row in said)
    assert len({row[0] for row in said}) == 2, "not all images at once"


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
    moved = one(
        how=Augmentation(translation=0.2, scaling=0.2, blur=1, erasing=1), shift=(3.0, -2.0), scale=1.1, sigma=0.7
    )
    assert batches.describe(moved, 0) == "2 up · 3 right · size 110 % · blur 0.7"
    policy = one(how=Augmentation(policy="randaugment"), operations=(5, 10), magnitudes=(-12.0, 4.0))
    assert batches.describe(policy, 0) == "rotate 12° right · posterize to 4 bits"
    assert batches.describe(one(how=Augmentation(erasing=1.0), erased=(1, 2, 9, 5)), 0) == "9×5 erased"
    assert batches.describe(coloured, 0, signs=True) == "☀120 ◐75 ◍90 ◔-18° ○"


def test_sliders_say_what_the_settings_of_a_training_say(dashboard: Callable[..., Any]) -> None:
    assert tuple(field.name for field in dataclasses.fields(Augmentation)) == augmenting.TRANSFORMS
    assert {name for names in augmenting.PARTS.values() for name in names} == {
        name for name in augmenting.PIPELINE if not name.endswith("_probability")
    }
    app = dashboard(PAGE, policy="RandAugment", erasing="0.5")
    shown = {slider.key: slider for slider in app.slider}
    for name in augmenting.PIPELINE:
        about = FIELDS[name].metadata
        if about["choices"] or (name.endswith("_probability") and name not in shown):
            continue
        assert (shown[name].min, shown[name].max) == (about["low"], about["high"])
        assert shown[name].help == about["help"]
    assert {name for name in shown if name.endswith("_probability")} == {
        "crop_padding_probability",
        "policy_probability",
    }
    app.slider(key="rotation").set_value(20.0).run()
    assert app.slider(key="rotation_probability").value == 1


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


def test_many_images_of_a_class_are_shown_from_the_chosen_one_on(dashboard: Callable[..., Any], tiny: Tiny) -> None:
    app = dashboard(PAGE, view=augmenting.IMAGES, **{"class": "square"}, image="115", many="16", flip="1.0")
    found = shown_images(app)
    expected = [*range(115, 120), *range(60, 71)]
    assert [caption.split(":")[0] for *_, caption in found] == [f"square {i}" for i in expected]
    stored = open_cached(tiny.info.id, tiny.cache).train.images
    for (pixels, *_), index in zip(found, expected, strict=True):
        np.testing.assert_array_equal(pixels[:, :, :32], stored[index])
        assert pixels.shape == (3, 32, 66)
    assert app.dataframe[0].value["shape"][0] == "(16, 3, 32, 32)"


def test_what_is_held_stands_beside_what_is_done_now_at_the_same_draws(dashboard: Callable[..., Any]) -> None:
    app = dashboard(PAGE, samples="3", crop_padding="0", flip="0.0", rotation="20")
    before = [pixels for pixels, *_ in shown_images(app)[1:]]
    press(app, "Hold as before")
    app.slider(key="rotation").set_value(60.0).run()
    found = shown_images(app)
    assert [caption.split(":")[0] for *_, caption in found] == ["original"] + 3 * ["before"] + 3 * ["now"]
    for old, (pixels, *_) in zip(before, found[1:4], strict=True):
        np.testing.assert_array_equal(pixels, old)
    turns = [float(caption.split(": ")[1].split("°")[0]) for *_, caption in found[1:]]
    assert turns[3:] == pytest.approx([3 * turn for turn in turns[:3]], abs=2)
    press(app, "Let go")
    assert len(shown_images(app)) == 4


def test_without_the_lock_each_change_draws_anew(dashboard: Callable[..., Any]) -> None:
    app = dashboard(PAGE)
    app.slider(key="rotation").set_value(20.0).run()
    assert app.number_input(key="seed").value == 0
    app.toggle(key="locked").set_value(False).run()
    app.slider(key="rotation").set_value(30.0).run()
    assert app.number_input(key="seed").value == 1


@pytest.mark.parametrize(("view", "count"), [(augmenting.DRAWS, 3), (augmenting.IMAGES, 4)])
def test_mixed_images_are_those_of_a_training_with_their_labels(
    dashboard: Callable[..., Any], tiny: Tiny, view: str, count: int
) -> None:
    app = dashboard(PAGE, view=view, samples="3", many="4", image="58", cutmix="1.0", seed="5")
    found = shown_images(app, 1)
    assert len(found) == count
    split = open_cached(tiny.info.id, tiny.cache).train
    members = list(range(58, 58 + (augmenting.BATCH if count == 3 else 4)))
    pixels, labels = torch.from_numpy(split.images[members]), torch.from_numpy(np.array(split.labels[members]))
    how = Augmentation(flip=0.5, crop_padding=4)
    for place, (picture, _, caption) in enumerate(found):
        generator = generator_for(5, place if count == 3 else 0)
        made = mix(augment(pixels, how, generator), labels, 0.0, 1.0, generator)
        row = 0 if count == 3 else place
        np.testing.assert_array_equal(picture, (made.images[row] * 255).round().numpy())
        one, other = (tiny.info.classes[int(which[row])] for which in (made.labels, made.others))
        share = 100 * made.share
        said = f"{one} {share:.0f} % + {other} {100 - share:.0f} %" if one != other else f"{one} 100 %"
        assert caption == said


def test_mixed_images_are_mirrored_as_the_samples_above_are(dashboard: Callable[..., Any], tiny: Tiny) -> None:
    """Alternately: another epoch is another draw."""
    alike = {"view": augmenting.IMAGES, "many": "16", "image": "58", "flip_mode": "Alternating", "crop_padding": "0"}
    split, compared = open_cached(tiny.info.id, tiny.cache).train, 0
    for seed in range(4):
        # Of so small an alpha one image of two is nearly all there is.
        app = dashboard(PAGE, mixup="0.01", seed=str(seed), **alike)
        assert app.selectbox(key="flip_mode").value == "alternating"
        for place, (sample, mixed) in enumerate(zip(shown_images(app, 0), shown_images(app, 1), strict=True)):
            image = split.images[58 + place].astype(int)
            alone, blended = (
                [int(np.abs(view - shown[0][..., -32:]).sum()) for view in (image, image[..., ::-1])]
                for shown in (sample, mixed)
            )
            if min(blended) < 0.2 * image.size:
                compared += 1
                assert np.argmin(alone) == np.argmin(blended)
    assert compared >= 8


@pytest.mark.parametrize("view", [augmenting.DRAWS, augmenting.IMAGES])
def test_the_network_is_fed_the_mixed_batch_after_normalisation(
    dashboard: Callable[..., Any], tiny: Tiny, view: str
) -> None:
    app = dashboard(PAGE, view=view, samples="3", many="4", image="58", mixup="1.0", seed="5", normalisation="Half")
    members = list(range(58, 58 + (augmenting.BATCH if view == augmenting.DRAWS else 4)))
    split = open_cached(tiny.info.id, tiny.cache).train
    pixels, labels = torch.from_numpy(split.images[members]), torch.from_numpy(np.array(split.labels[members]))
    generator = generator_for(5, 0)
    made = mix(augment(pixels, Augmentation(flip=0.5, crop_padding=4), generator), labels, 1.0, 0.0, generator)
    fed = normalise(made.images, *normalisation("half", tiny.info.mean, tiny.info.std))
    row = app.dataframe[0].value.iloc[1]
    assert (row["shape"], row["dtype"]) == (f"({len(members)}, 3, 32, 32)", "float32")
    assert (row["smallest"], row["largest"]) == (f"{fed.min().item():.3f}", f"{fed.max().item():.3f}")
    found = shown_images(app, 2)
    drawn = ((fed - fed.min()) / (fed.max() - fed.min()) * 255).round().byte().numpy()
    for place, (picture, alt, caption) in enumerate(found):
        np.testing.assert_array_equal(picture, drawn[place])
        names = {tiny.info.classes[int(which[place])] for which in (made.labels, made.others)}
        assert names == {name for name in tiny.info.classes if name in caption}
        assert caption in alt
    assert len(found) == len(members)


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


def test_numbers_of_a_link_that_are_none_are_left_out(dashboard: Callable[..., Any]) -> None:
    app = dashboard(PAGE, image="1e400", seed="1e400")
    assert [app.number_input(key=key).value for key in ("image", "seed")] == [0, 0]
    assert not {"image", "seed"} & set(app.query_params)


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


LIKE_A_RUN: dict[str, Any] = {
    **{"flip": 0.25, "crop_padding": 3, "rotation": 12.0, "rotation_probability": 0.5, "cutout": 6, "mixup": 0.4},
    **{"crop_scale": 0.3, "colour_jitter": 0.4, "grey": 0.1, "policy": "trivialaugment", "erasing": 0.2},
}


def shown_pipeline(app: Any) -> dict[str, Any]:
    policy = {"policy": app.selectbox(key="policy").value}
    return {slider.key: slider.value for slider in app.slider if slider.key in FIELDS} | policy


def test_the_pipeline_of_a_run_is_opened_from_the_list(
    dashboard: Callable[..., Any], run_in_state: Callable[..., Run]
) -> None:
    run = run_in_state("finished", normalisation="half", **LIKE_A_RUN)
    app = dashboard(PAGE)
    app.selectbox(key="pipeline_choice").set_value(run.id).run()
    assert shown_pipeline(app).items() >= LIKE_A_RUN.items()
    assert app.query_params["pipeline"] == run.id
    assert app.segmented_control(key="normalisation").value == "half"
    assert app.dataframe[0].value["batch"][1] == "after half"
    assert "As in run" in texts(app)
    app.slider(key="cutout").set_value(8).run()
    assert "except for what is there Cutout" in texts(app).replace("\\", "")


def test_the_pipeline_of_a_run_is_opened_by_a_link_as_it_is_in_force(
    dashboard: Callable[..., Any], run_in_state: Callable[..., Run]
) -> None:
    run = run_in_state("finished", rotation=10.0, cutout=8, augmentation_strength=0.5)
    app = dashboard(PAGE, pipeline=run.id, cutout="12")
    assert shown_pipeline(app)["rotation"] == 5
    assert shown_pipeline(app)["cutout"] == 12, "What the link itself says goes first."
    app = dashboard(PAGE, pipeline="20250101-000000-none-0000")
    assert "no run" in texts(app)


def test_what_is_back_at_its_default_stays_so_in_the_address(
    dashboard: Callable[..., Any], run_in_state: Callable[..., Run]
) -> None:
    """As the address does not hold a slider that is at its default."""
    run = run_in_state("finished", rotation=10.0, cutout=8)
    app = dashboard(PAGE, pipeline=run.id)
    assert "unlike" not in app.query_params
    app.slider(key="rotation").set_value(0.0).run()
    assert app.query_params["unlike"] in ("rotation", ["rotation"])
    again = dashboard(PAGE, pipeline=run.id, unlike="rotation")
    assert shown_pipeline(again)["rotation"] == 0
    assert shown_pipeline(again)["cutout"] == 8
    assert "except for what is there Rotation" in texts(again).replace("\\", "")
    again.selectbox(key="pipeline_choice").set_value(None).run()
    assert "unlike" not in again.query_params


def test_a_run_whose_settings_are_damaged_gets_a_sentence(
    dashboard: Callable[..., Any], run_in_state: Callable[..., Run]
) -> None:
    run = run_in_state("failed")
    (run.path / "config.json").write_text("{")
    app = dashboard(PAGE)
    app.selectbox(key="pipeline_choice").set_value(run.id).run()
    assert not app.exception
    assert "cannot be read" in app.error[0].value


def test_the_pipeline_on_screen_is_used_for_a_training(dashboard: Callable[..., Any]) -> None:
    app = dashboard(PAGE, rotation="20", rotation_probability="0.5", policy="RandAugment", normalisation="Half")
    (link,) = [entry.proto for entry in app.get("page_link") if entry.proto.label == "Use for training"]
    query = dict(parse_qsl(link.query_string))
    assert set(query["use"].split(",")) >= {
        *("normalisation:half", "policy:randaugment", "rotation:20", "rotation_probability:0.5", "cutout:0")
    }
    app = dashboard("pages/train.py", use=query["use"])
    wanted = {"rotation": 20.0, "rotation_probability": 0.5, "policy": "randaugment", "normalisation": "half"}
    wanted |= {"flip": 0.5, "crop_padding": 4, "cutout": 0}
    assert {name: app.session_state[f"set_{name}"] for name in wanted} == wanted
    assert "Augmentation and normalisation" in texts(app)
    assert "use" not in app.query_params
    app.slider(key="set_rotation").set_value(30.0).run()
    assert "Augmentation and normalisation" not in texts(app)
    assert app.session_state["set_rotation"] == 30


# From weak to strong -------------------------------------------------------------------------------------------------


def test_a_strip_is_one_setting_from_weak_to_strong_at_the_same_draw(tiny: Tiny) -> None:
    how = {"flip": 0.0, "rotation": 5.0}
    values = (0.0, 30.0, 60.0)
    key = tiny.info.id, tiny.info.fingerprint, tiny.cache
    found = batches.strip(*key, "train", 3, 2, tuple(how.items()), "rotation", values, 9)
    image = torch.from_numpy(open_cached(tiny.info.id, tiny.cache).train.images[[3, 3]])
    for place, value in enumerate(values):
        expected = augment(image, Augmentation(rotation=value), generator_for(9, 0))
        np.testing.assert_array_equal(found[:, place], (expected * 255).round().numpy())
    np.testing.assert_array_equal(found[0, 0], image[0])


def test_every_strip_begins_with_the_image_itself_and_can_be_drawn(dashboard: Callable[..., Any], tiny: Tiny) -> None:
    for name in augmenting.along():
        values = augmenting.values_along(name)
        assert len(values) == augmenting.STEPS
        assert len(set(values)) == augmenting.STEPS
        Augmentation(**{name: values[-1]})
        if name not in ("policy_magnitude", "policy_probability"):
            unchanged = augment(
                torch.zeros(2, 3, 32, 32, dtype=torch.uint8), Augmentation(**{name: values[0]}), generator_for(0, 0)
            )
            assert unchanged.max() == 0
    app = dashboard(PAGE, view=augmenting.STRIP, along="Cutout (pixels)", rows="2")
    assert "Cutout (pixels) from 0 to 32" in texts(app).replace("\\", "")
    assert "No runs yet" in texts(app)


def test_the_models_opinion_of_an_image_is_what_its_network_says(
    dashboard: Callable[..., Any], trained_run: Run, tiny: Tiny
) -> None:
    app = dashboard(PAGE, view=augmenting.STRIP, run=trained_run.id, image="100", seed="3")
    split = open_cached(tiny.info.id, tiny.cache).train
    network = load_network(trained_run.checkpoints()["best"], torch.device("cpu"))
    images = torch.from_numpy(split.images[[100] * opinion.DRAWS])
    label = int(split.labels[100])
    means = [
        network.probabilities(augment(images, Augmentation(rotation=turn), generator_for(3, 0)))[:, label].mean().item()
        for turn in (0.0, 180.0)
    ]
    said = texts(app).replace("\\", "")
    assert f"from **{means[0]:.1%}** to **{means[1]:.1%}**" in said
    assert f"train{'ing'} image 100" in said
    assert "best epoch weights" in said


def test_the_labels_of_the_slider_stand_apart() -> None:
    """A step of 10 from 0 to 180 would be 19 labels of up to three digits."""
    axis = charts.INVARIANCE_CURVE["encoding"]["x"]["axis"]
    assert axis["tickCount"] <= 8
    assert axis["labelSeparation"] >= 6


def test_the_opinion_of_many_test_images_is_asked_in_the_background(
    dashboard: Callable[..., Any], trained_run: Run, tiny: Tiny, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[Any] = []
    monkeypatch.setattr(job, "launch", lambda folder, cache: asked.append(folder))
    app = dashboard(PAGE, view=augmenting.STRIP, run=trained_run.id, over=opinion.MANY, along="Cutout (pixels)")
    assert "The model's opinion" in texts(app)
    press(app, "Ask about 200 test images")
    (folder,) = asked
    with folder.held():
        assert [event for event in job.execute_task(folder, tiny.cache)][-1].outcome == "finished"
    app.run()
    split = open_cached(tiny.info.id, tiny.cache).test
    network = load_network(trained_run.checkpoints()["best"], torch.device("cpu"))
    labels = torch.from_numpy(np.array(split.labels))
    changed = augment(torch.from_numpy(np.array(split.images)), Augmentation(cutout=32), generator_for(0, 0))
    last = network.probabilities(changed).gather(1, labels[:, None]).mean().item()
    said = texts(app).replace("\\", "")
    assert f"to **{last:.1%}**" in said
    assert f"{len(labels)} test images" in said
    assert trained_run.id[-4:] in said


def test_without_data_the_page_points_to_some(dashboard: Callable[..., Any], cache: Path) -> None:
    shutil.rmtree(cache)
    app = dashboard(PAGE)
    assert "No images here yet" in texts(app)
    assert not app.slider
