"""Augmentation and normalisation against torchvision and closed forms."""

from __future__ import annotations

import dataclasses
import math

import pytest
import torch
from torchvision.transforms import InterpolationMode, v2
from torchvision.transforms.v2 import functional as reference

from cifar_core.config import TrainConfig
from cifar_core.policies import AUTOAUGMENT, OPERATIONS
from cifar_core.transforms import (
    CUTOUT_GREY,
    Augmentation,
    apply,
    augment,
    draw,
    generator_for,
    mix,
    normalisation,
    normalise,
    shrunk,
    turns_of,
)

EVERYTHING = Augmentation(
    flip=0.5,
    crop_padding=4,
    rotation=30,
    translation=0.2,
    scaling=0.3,
    crop_scale=0.2,
    colour_jitter=0.5,
    grey=0.3,
    blur=1.0,
    cutout=9,
    erasing=0.4,
)
EARLIER = Augmentation(flip=0.5, crop_padding=4, rotation=30, crop_scale=0.2, colour_jitter=0.5, grey=0.3, cutout=9)
"""What there was before the other transforms."""

WITH_PROBABILITY = tuple(
    field.name.removesuffix("_probability")
    for field in dataclasses.fields(Augmentation)
    if field.name.endswith("_probability")
)


def photos(count: int = 64, height: int = 32, width: int = 32) -> torch.Tensor:
    return torch.randint(0, 256, (count, 3, height, width), dtype=torch.uint8, generator=generator_for(1, 2))


def referred(image: torch.Tensor, how: Augmentation, drawn, place: int) -> torch.Tensor:
    """One image through torchvision, one transform after the other."""
    height, width = image.shape[1:]
    image = image.float() / 255
    if drawn.flip[place]:
        image = reference.horizontal_flip(image)
    top, left = drawn.offset[place].tolist()
    padded = reference.pad(image, [how.crop_padding], padding_mode=how.crop_padding_mode)
    image = reference.crop(padded, top, left, height, width)
    if how.rotation or how.translation or how.scaling:
        # torchvision counts the angle of this one clockwise.
        angle, shift = -drawn.angle[place].item(), drawn.shift[place].tolist()
        image = reference.affine(image, angle, shift, drawn.scale[place].item(), [0.0, 0.0], InterpolationMode.BILINEAR)
    if how.crop_scale < 1:
        image = reference.resized_crop(image, *drawn.box[place].tolist(), [height, width])
    if how.colour_jitter:
        brightness, contrast, saturation = drawn.factors[place].tolist()
        image = reference.adjust_brightness(image, brightness)
        image = reference.adjust_contrast(image, contrast)
        image = reference.adjust_saturation(image, saturation)
        image = reference.adjust_hue(image, drawn.hue[place].item())
    if how.grey and drawn.grey[place]:
        image = reference.rgb_to_grayscale(image, num_output_channels=3).clone()
    if how.blur and drawn.sigma[place] > 0:
        side = 2 * min(math.ceil(3 * how.blur), height - 1, width - 1) + 1
        image = reference.gaussian_blur(image, [side, side], [drawn.sigma[place].item()] * 2)
    if how.cutout and drawn.cut[place]:
        row, column = drawn.centre[place].tolist()
        first_row, first_column = row - how.cutout // 2, column - how.cutout // 2
        for y in range(max(first_row, 0), min(first_row + how.cutout, height)):
            for x in range(max(first_column, 0), min(first_column + how.cutout, width)):
                image[:, y, x] = CUTOUT_GREY
    top, left, height, width = drawn.erased[place].tolist()
    if height:
        image = reference.erase(image, top, left, height, width, torch.tensor(CUTOUT_GREY))
    return image


def test_nothing_enabled_is_exactly_the_image_divided_by_255():
    images = photos()
    changed = augment(images, Augmentation(), generator_for(0, 0))
    assert changed.dtype == torch.float32
    assert torch.equal(changed, images / 255)


@pytest.mark.parametrize("size", [(32, 32), (24, 40)])
@pytest.mark.parametrize(
    "how",
    [
        Augmentation(flip=0.5),
        Augmentation(flip=1.0),
        Augmentation(crop_padding=4),
        Augmentation(crop_padding=16),
        Augmentation(flip=0.5, crop_padding=16, crop_padding_mode="reflect"),
        Augmentation(flip=0.5, crop_padding=4),
        Augmentation(flip=0.5, crop_padding=3, cutout=8),
        Augmentation(cutout=1),
        Augmentation(cutout=7),
    ],
)
def test_flip_crop_and_cutout_equal_torchvision_exactly(how, size):
    images = photos(32, *size)
    drawn = draw(how, 32, *size, generator_for(3, 4))
    expected = torch.stack([referred(image, how, drawn, place) for place, image in enumerate(images)])
    assert torch.equal(apply(images, drawn), expected)


@pytest.mark.parametrize("often", [0.2, 0.5])
def test_mirroring_alternates_from_epoch_to_epoch(often):
    """With an even chance each image is mirrored in every other epoch; a rarer one stays as rare, and seldom twice."""
    epochs = torch.stack([turns_of(20_000, epoch, generator_for(3, -5)) < often for epoch in range(4)])
    assert torch.equal(epochs[0], epochs[2])
    assert torch.equal(epochs[1], epochs[3])
    assert not (epochs[0] & epochs[1]).any()
    assert epochs[0].float().mean() == pytest.approx(often, abs=0.02)
    if often == 0.5:
        assert (epochs[0] ^ epochs[1]).all()


def test_turns_decide_what_is_mirrored_and_nothing_else():
    how = Augmentation(flip=0.5, crop_padding=4, cutout=8, policy="trivialaugment")
    turns = torch.tensor([0.0, 0.49, 0.5, 0.99], dtype=torch.float64)
    free, told = (draw(how, 4, 32, 32, generator_for(0, 0), given) for given in (None, turns))
    assert told.flip.tolist() == [True, True, False, False]
    for field in dataclasses.fields(free):
        if field.name not in ("how", "flip"):
            assert torch.equal(getattr(free, field.name), getattr(told, field.name)), field.name


def test_images_too_small_for_mirrored_padding_are_refused_in_words():
    how = Augmentation(crop_padding=8, crop_padding_mode="reflect")
    with pytest.raises(ValueError, match="crop_padding must be smaller than the images' 8 pixels"):
        augment(photos(2, 8, 12), how, generator_for(0, 0))


@pytest.mark.parametrize("size", [(32, 32), (24, 40)])
@pytest.mark.parametrize(
    "how",
    [
        Augmentation(crop_scale=0.05),
        Augmentation(crop_scale=0.5),
        Augmentation(colour_jitter=0.3),
        Augmentation(colour_jitter=1.0),
        Augmentation(grey=1.0),
        Augmentation(crop_scale=0.2, colour_jitter=0.5, grey=0.2),
        Augmentation(blur=0.05),
        Augmentation(blur=3.0),
        Augmentation(erasing=1.0),
        Augmentation(erasing=0.5, erasing_from=0.3, erasing_to=1.0, erasing_ratio=1.0, cutout=5),
    ],
)
def test_resized_crops_colours_blur_and_erasing_equal_torchvision(how, size):
    images = photos(32, *size)
    # Grey, black and white pixels have no hue of their own.
    images[:4, 1:] = images[:4, :1]
    images[4], images[5] = 0, 255
    drawn = draw(how, 32, *size, generator_for(3, 4))
    expected = torch.stack([referred(image, how, drawn, place) for place, image in enumerate(images)])
    torch.testing.assert_close(apply(images, drawn), expected, atol=2e-5, rtol=0)


def test_a_resized_crop_of_everything_is_the_image():
    images = photos(8)
    drawn = draw(Augmentation(crop_scale=0.5), 8, 32, 32, generator_for(0, 0))
    drawn.box[:] = torch.tensor([0, 0, 32, 32])
    torch.testing.assert_close(apply(images, drawn), images / 255)


def test_boxes_of_resized_crops_follow_torchvisions_distribution():
    """Below half of the area nothing needs to be cut off, and the rule is torchvision's exactly."""
    count = 20_000
    drawn = draw(Augmentation(crop_scale=0.25), count, 400, 400, generator_for(0, 0))
    top, left, height, width = drawn.box.double().T
    area = height * width / 400**2
    fits = area < 0.5
    ratio = (width / height).log()[fits]
    bound = math.log(4 / 3)
    assert abs(fits.double().mean() - (0.5 - 0.25) / 0.75) < 4 * 0.5 / count**0.5
    assert area.min() > 0.245
    assert abs(area[fits].mean() - 0.375) < 4 * 0.25 / 12**0.5 / fits.sum() ** 0.5
    assert abs(ratio.mean()) < 4 * bound / 3**0.5 / fits.sum() ** 0.5
    assert ratio.abs().max() < bound + 0.01
    assert abs(ratio.square().mean() - bound**2 / 3) < 0.002
    for first, side in ((top, height), (left, width)):
        assert (first + side).max() <= 400
        place = first / (400 - side).clamp(min=1)
        assert abs(place[fits].mean() - 0.5) < 4 / 12**0.5 / fits.sum() ** 0.5
    assert draw(Augmentation(crop_scale=0.05), count, 4, 4, generator_for(0, 0)).box[:, 2:].min() == 1


def test_colours_are_drawn_evenly_and_as_strongly_as_in_simclr():
    count = 20_000
    drawn = draw(Augmentation(colour_jitter=0.5, grey=0.2), count, 32, 32, generator_for(0, 0))
    together = torch.cat((drawn.factors - 1, drawn.hue[:, None]), dim=1)
    bounds = torch.tensor([0.4, 0.4, 0.4, 0.1], dtype=torch.float64)
    assert (together.abs().amax(0) <= bounds).all()
    assert (together.abs().amax(0) > 0.995 * bounds).all()
    assert (together.mean(0).abs() < 4 * bounds / 3**0.5 / count**0.5).all()
    assert (torch.corrcoef(together.T) - torch.eye(4)).abs().max() < 0.03
    assert abs(drawn.grey.double().mean() - 0.2) < 4 * (0.2 * 0.8 / count) ** 0.5


@pytest.mark.parametrize("size", [(32, 32), (24, 40)])
@pytest.mark.parametrize(
    "how",
    [
        Augmentation(rotation=15),
        Augmentation(rotation=180),
        Augmentation(translation=0.5),
        Augmentation(scaling=0.9),
        Augmentation(rotation=45, translation=0.3, scaling=0.5),
        EARLIER,
        EVERYTHING,
        dataclasses.replace(EVERYTHING, **{f"{name}_probability": 0.5 for name in WITH_PROBABILITY}),
    ],
)
def test_rotation_translation_and_scaling_equal_torchvision_in_sign_size_and_interpolation(how, size):
    images = photos(32, *size)
    drawn = draw(how, 32, *size, generator_for(3, 4))
    expected = torch.stack([referred(image, how, drawn, place) for place, image in enumerate(images)])
    torch.testing.assert_close(apply(images, drawn), expected, atol=1e-4, rtol=0)


def test_a_quarter_turn_is_counter_clockwise():
    images = photos(1)
    drawn = draw(Augmentation(rotation=90), 1, 32, 32, generator_for(0, 0))
    drawn.angle.fill_(90)
    torch.testing.assert_close(apply(images, drawn), torch.rot90(images / 255, 1, (2, 3)), atol=1e-4, rtol=0)


def test_augment_applies_what_the_generator_draws_and_leaves_the_images_alone():
    images = photos()
    before = images.clone()
    changed = augment(images, EVERYTHING, generator_for(5, 6))
    assert torch.equal(changed, apply(images, draw(EVERYTHING, 64, 32, 32, generator_for(5, 6))))
    assert torch.equal(images, before)
    assert not torch.equal(changed, augment(images, EVERYTHING, generator_for(5, 7)))
    assert changed.min() >= 0
    assert changed.max() <= 1


def test_images_in_any_memory_layout_are_changed_alike():
    images = photos()
    rearranged = images.contiguous(memory_format=torch.channels_last)
    for how in (Augmentation(), EVERYTHING, Augmentation(flip=0.5), Augmentation(crop_padding=2)):
        assert torch.equal(augment(rearranged, how, generator_for(0, 0)), augment(images, how, generator_for(0, 0)))


def test_draws_cover_their_ranges_evenly_and_each_image_has_its_own():
    count = 20_000
    drawn = draw(Augmentation(flip=0.3, crop_padding=2, rotation=20, cutout=4), count, 32, 16, generator_for(0, 0))
    four_sigma = 4 * (0.3 * 0.7 / count) ** 0.5
    assert abs(drawn.flip.double().mean() - 0.3) < four_sigma
    for axis in (0, 1):
        shares = drawn.offset[:, axis].bincount(minlength=5) / count
        assert len(shares) == 5
        assert (shares - 0.2).abs().max() < 4 * (0.2 * 0.8 / count) ** 0.5
    assert drawn.angle.abs().max() <= 20
    assert drawn.angle.abs().max() > 19.9
    assert abs(drawn.angle.mean()) < 4 * 20 / 3**0.5 / count**0.5
    assert drawn.centre.amin(0).tolist() == [0, 0]
    assert drawn.centre.amax(0).tolist() == [31, 15]
    together = torch.stack((drawn.flip.double(), *drawn.offset.double().T, drawn.angle, *drawn.centre.double().T))
    assert (torch.corrcoef(together) - torch.eye(6)).abs().max() < 0.03


@pytest.mark.parametrize(("flip", "mirrored"), [(0.0, 0), (1.0, 1000)])
def test_a_flip_that_is_impossible_or_certain_is_so(flip, mirrored):
    assert draw(Augmentation(flip=flip), 1000, 32, 32, generator_for(0, 0)).flip.sum() == mirrored


def test_enabling_one_transform_leaves_the_draws_of_the_others():
    some = draw(Augmentation(flip=0.5, crop_padding=4), 16, 32, 32, generator_for(0, 0))
    more = draw(EVERYTHING, 16, 32, 32, generator_for(0, 0))
    assert torch.equal(some.flip, more.flip)
    assert torch.equal(some.offset, more.offset)
    crops = draw(Augmentation(crop_scale=0.2), 16, 32, 32, generator_for(0, 0))
    assert torch.equal(crops.box, more.box)


def test_the_first_images_of_a_larger_batch_are_changed_alike():
    images = photos(40)
    few = augment(images[:7], EVERYTHING, generator_for(0, 0))
    torch.testing.assert_close(augment(images, EVERYTHING, generator_for(0, 0))[:7], few)


def test_the_same_seed_and_step_repeat_and_neighbours_share_nothing():
    first = {
        (seed, step): torch.rand(8, generator=generator_for(seed, step)).tolist()
        for seed in range(40)
        for step in range(40)
    }
    assert first[3, 5] == torch.rand(8, generator=generator_for(3, 5)).tolist()
    assert len({value[0] for value in first.values()}) > 1590
    # Uniform and unrelated over seeds and over steps, which a plain sum of seed and step would not be.
    numbers = torch.tensor([[first[seed, step] for step in range(40)] for seed in range(40)]) - 0.5
    for one, other in (
        (numbers[1:], numbers[:-1]),
        (numbers[:, 1:], numbers[:, :-1]),
        (numbers[1:, :-1], numbers[:-1, 1:]),
    ):
        assert abs((one * other).mean() * 12) < 4 / one.numel() ** 0.5


@pytest.mark.parametrize(("seed", "step"), [(2**31 - 1, 2**40), (0, -1), (2**31 - 1, -(2**40))])
def test_any_seed_and_step_are_allowed(seed, step):
    assert torch.rand(1, generator=generator_for(seed, step)).item() < 1


def test_the_generator_is_on_the_cpu():
    assert generator_for(0, 0).device == torch.device("cpu")


def test_normalised_bytes_and_fractions_agree_and_have_mean_zero_and_deviation_one():
    images = photos(256)
    fractions = images / 255
    mean, std = fractions.mean((0, 2, 3)).tolist(), fractions.std((0, 2, 3)).tolist()
    normalised = normalise(images, mean, std)
    assert normalised.dtype == torch.float32
    assert torch.equal(normalised, normalise(fractions, mean, std))
    torch.testing.assert_close(normalised.mean((0, 2, 3)), torch.zeros(3), atol=1e-5, rtol=0)
    torch.testing.assert_close(normalised.std((0, 2, 3)), torch.ones(3), atol=1e-5, rtol=0)
    torch.testing.assert_close(normalised, reference.normalize(fractions, mean, std))
    assert torch.equal(fractions, images / 255)


def test_the_kinds_of_normalisation_mean_what_their_help_says():
    mean, std = (0.49, 0.48, 0.45), (0.25, 0.24, 0.0)
    extremes = torch.tensor([0, 255], dtype=torch.uint8).view(1, 1, 1, 2).expand(1, 3, 1, 2)
    assert normalisation("statistics", mean, std) == (mean, (0.25, 0.24, 1.0))
    assert normalise(extremes, *normalisation("half", mean, std))[0, :, 0].tolist() == [[-1, 1]] * 3
    assert normalise(extremes, *normalisation("unit", mean, std))[0, :, 0].tolist() == [[0, 1]] * 3
    with pytest.raises(ValueError, match="one of statistics, half, unit, but is 'mean'"):
        normalisation("mean", mean, std)


def test_augmentation_is_off_unless_asked_for():
    usual = ("flip", "crop_padding")
    names = [field.name for field in dataclasses.fields(Augmentation) if field.name not in usual]
    assert all(getattr(TrainConfig(), name) == getattr(Augmentation(), name) for name in names)


def test_the_settings_of_a_run_are_taken_over():
    wanted = {"flip": 0.25, "crop_padding": 3, "rotation": 10.0, "crop_scale": 0.3, "colour_jitter": 0.4, "grey": 0.1}
    wanted |= {"crop_padding_mode": "reflect"}
    wanted |= {"cutout": 8, "translation": 0.1, "scaling": 0.2, "blur": 1.5, "erasing": 0.3, "erasing_to": 0.5}
    wanted |= {"policy": "randaugment", "policy_operations": 3, "policy_magnitude": 5, "policy_probability": 0.6}
    assert Augmentation.from_config(TrainConfig(**wanted)) == Augmentation(**wanted)


@pytest.mark.parametrize(
    ("settings", "name"),
    [
        ({"flip": 1.5}, "flip"),
        ({"crop_padding": -1}, "crop_padding"),
        ({"rotation": float("nan")}, "rotation"),
        ({"crop_scale": 0.0}, "crop_scale"),
        ({"crop_scale": 1.1}, "crop_scale"),
        ({"colour_jitter": -0.1}, "colour_jitter"),
        ({"grey": 2.0}, "grey"),
        ({"translation": 1.5}, "translation"),
        ({"scaling": 1.0}, "scaling"),
        ({"blur": -1.0}, "blur"),
        ({"erasing": 1.2}, "erasing"),
        ({"rotation_probability": -0.1}, "rotation_probability"),
        ({"policy": "magic"}, "policy"),
        ({"crop_padding_mode": "magic"}, "crop_padding_mode"),
    ],
)
def test_an_impossible_setting_is_named(settings, name):
    with pytest.raises(ValueError, match=f"^{name} must be"):
        Augmentation(**settings)


def test_images_that_are_not_bytes_or_not_as_many_as_drawn_are_refused():
    with pytest.raises(ValueError, match="must be uint8 until they are augmented, but are float32"):
        augment(photos(2).float(), Augmentation(), generator_for(0, 0))
    with pytest.raises(ValueError, match="draw is for 3 images, but there are 2"):
        apply(photos(2), draw(Augmentation(), 3, 32, 32, generator_for(0, 0)))


# What came later -----------------------------------------------------------------------------------------------------


def test_the_later_transforms_leave_the_earlier_ones_and_what_is_drawn_after_them():
    """The very numbers that were drawn before there were others, so that runs of then can be gone on with."""
    generator = generator_for(3, 7)
    chance = torch.rand(16, 15, generator=generator, dtype=torch.float64)
    state = generator.get_state()
    for how in (EARLIER, EVERYTHING, dataclasses.replace(EVERYTHING, policy="trivialaugment")):
        again = generator_for(3, 7)
        drawn = draw(how, 16, 32, 32, again)
        assert torch.equal(again.get_state(), state)
        assert torch.equal(drawn.flip, chance[:, 0] < 0.5)
        assert torch.equal(drawn.offset, (chance[:, 1:3] * 9).long())
        assert torch.equal(drawn.angle, (2 * chance[:, 3] - 1) * 30)
        assert torch.equal(drawn.centre, (chance[:, 4:6] * 32).long())
        assert torch.equal(drawn.grey, chance[:, 14] < 0.3)


def test_an_image_whose_transforms_are_not_drawn_stays_as_it_is():
    never = {f"{name}_probability": 0.0 for name in WITH_PROBABILITY}
    how = dataclasses.replace(EVERYTHING, flip=0.0, grey=0.0, erasing=0.0, policy="trivialaugment", **never)
    images = photos(32)
    torch.testing.assert_close(augment(images, how, generator_for(0, 0)), images / 255, atol=2e-5, rtol=0)


@pytest.mark.parametrize("name", WITH_PROBABILITY)
def test_a_transform_is_drawn_as_often_as_its_probability_says_and_alike_otherwise(name):
    count = 4000
    on = dataclasses.replace(EVERYTHING, policy="trivialaugment")
    sometimes = dataclasses.replace(on, **{f"{name}_probability": 0.3})
    shown = {"crop_padding": "offset", "policy": "operations", "rotation": "angle", "translation": "shift"}
    shown |= {"scaling": "scale", "crop_scale": "box", "colour_jitter": "hue", "blur": "sigma", "cutout": "cut"}
    always, some = (draw(how, count, 32, 32, generator_for(1, 1)) for how in (on, sometimes))
    never = draw(dataclasses.replace(on, **{f"{name}_probability": 0.0}), count, 32, 32, generator_for(1, 1))
    values = [getattr(drawn, shown[name]).view(count, -1) for drawn in (always, some, never)]
    kept, left = ((values[1] == other).all(1) for other in (values[0], values[2]))
    assert (kept | left).all()
    # Now and then a transform that is drawn does nothing, such as a shift by no pixel.
    idle = (values[0] == values[2]).all(1)
    share = (kept & ~idle).double().sum() / (~idle).sum()
    assert abs(share - 0.3) < 4 * (0.3 * 0.7 / count) ** 0.5 + 0.01
    for field in dataclasses.fields(always):
        one, other = getattr(always, field.name), getattr(some, field.name)
        own = (shown[name], "factors") if name == "colour_jitter" else (shown[name],)
        assert field.name in ("how", *own) or torch.equal(one, other), field.name


def test_shifts_sizes_blurs_and_erased_rectangles_are_drawn_evenly_over_their_ranges():
    count = 20_000
    how = Augmentation(translation=0.25, scaling=0.4, blur=2.0, erasing=0.6, erasing_from=0.02, erasing_to=0.2)
    drawn = draw(how, count, 400, 200, generator_for(0, 0))
    assert drawn.shift.abs().amax(0).tolist() == [50, 100]
    assert torch.equal(drawn.shift, drawn.shift.round())
    assert (drawn.shift.mean(0).abs() < 4 * torch.tensor([50, 100]) / 3**0.5 / count**0.5).all()
    assert 0.6 <= drawn.scale.min() < 0.601
    assert 1.399 < drawn.scale.max() <= 1.4
    assert abs(drawn.scale.mean() - 1) < 4 * 0.4 / 3**0.5 / count**0.5
    assert 0.1 <= drawn.sigma.min() < 0.102
    assert 1.998 < drawn.sigma.max() <= 2
    top, left, height, width = drawn.erased.double().T
    done = height > 0
    assert abs(done.double().mean() - 0.6) < 4 * (0.6 * 0.4 / count) ** 0.5
    assert (top + height)[done].max() == 400
    assert (left + width)[done].max() == 200
    area = (height * width)[done] / (400 * 200)
    assert area.min() > 0.0195
    assert area.max() < 0.203
    assert abs(area.mean() - 0.11) < 0.002
    # Below the width of the image nothing is cut off, and the ratio is torchvision's.
    ratio = (height / width)[done].log()
    assert ratio.abs().max() < math.log(3.3) + 0.03
    assert abs(ratio.mean()) < 0.02
    assert abs(ratio.square().mean() - math.log(3.3) ** 2 / 3) < 0.02


# Policies -------------------------------------------------------------------------------------------------------------

NAMES = {
    "shear x": "ShearX",
    "shear y": "ShearY",
    "translate x": "TranslateX",
    "translate y": "TranslateY",
    "colour": "Color",
    "autocontrast": "AutoContrast",
}


def torchvisions(name: str) -> str:
    return NAMES.get(name, name.capitalize())


def operated(image: torch.Tensor, number: int, magnitude: float) -> torch.Tensor:
    """One image through torchvision's own operation."""
    name, kind = torchvisions(OPERATIONS[number]), v2.RandAugment()
    return kind._apply_image_or_video_transform(image, name, magnitude, InterpolationMode.NEAREST, {torch.Tensor: None})


@pytest.mark.parametrize("size", [(32, 32), (24, 40)])
@pytest.mark.parametrize("policy", ["randaugment", "trivialaugment", "autoaugment"])
def test_policies_equal_torchvisions_operations(policy, size):
    count = 400
    images = photos(count, *size)
    # Pictures with flat parts, few values and little contrast, too.
    images[:200] = images[:200] // 4 + 60
    images[:100, :, : size[0] // 2] = 77
    images[:5] = 200
    how = Augmentation(policy=policy, policy_magnitude=17)
    drawn = draw(how, count, *size, generator_for(3, 4))
    expected = images.clone()
    for place in range(count):
        for number, magnitude in zip(drawn.operations[place], drawn.magnitudes[place], strict=True):
            expected[place] = operated(expected[place], int(number), magnitude.item())
    found = (apply(images, drawn) * 255).round()
    off = (found - expected).abs()
    # Sums in another order round to the next whole number here and there, which a second operation can enlarge.
    assert (off > 0).double().mean() < 5e-3
    unused = {"shear x"} if policy == "autoaugment" else {"invert"}
    assert {OPERATIONS[k] for k in drawn.operations.unique()} >= set(OPERATIONS) - unused


def test_an_equalized_image_is_torchvisions_exactly():
    images = photos(60)
    images[:30] = images[:30] // 8 + 100
    images[:10] = 3
    drawn = draw(Augmentation(policy="trivialaugment"), 60, 32, 32, generator_for(0, 0))
    drawn.operations[:] = OPERATIONS.index("equalize")
    assert torch.equal((apply(images, drawn) * 255).round().byte(), reference.equalize(images))
    drawn.operations[:] = OPERATIONS.index("autocontrast")
    assert torch.equal((apply(images, drawn) * 255).round().byte(), reference.autocontrast(images))


@pytest.mark.parametrize(
    ("policy", "torchvision", "bins"),
    [
        ("randaugment", v2.RandAugment, 31),
        ("trivialaugment", v2.TrivialAugmentWide, 31),
        ("autoaugment", v2.AutoAugment, 10),
    ],
)
def test_operations_and_magnitudes_are_drawn_from_torchvisions_ranges(policy, torchvision, bins):
    space = torchvision._AUGMENTATION_SPACE
    allowed: dict[str, set[float]] = {}
    for name, (magnitudes, signed) in space.items():
        found = magnitudes(bins, 32, 32)
        values = [0.0] if found is None else [float(value) for value in found]
        # torchvision shifts by whole pixels, but of 16 it has 15.9999990, which it cuts off to 15.
        values = [float(int(value + 1e-5)) if name.startswith("Translate") else value for value in values]
        allowed[name] = {round(sign * value, 5) for value in values for sign in ((1, -1) if signed else (1,))}
    drawn = [
        draw(Augmentation(policy=policy, policy_magnitude=step), 3000, 32, 32, generator_for(2, step))
        for step in ((0, 9, 30) if policy == "randaugment" else (9,))
    ]
    seen: dict[str, set[float]] = {}
    for each in drawn:
        assert each.operations.shape[1] == {"randaugment": 2, "trivialaugment": 1, "autoaugment": 2}[policy]
        for number, magnitude in zip(each.operations.flatten(), each.magnitudes.flatten(), strict=True):
            seen.setdefault(torchvisions(OPERATIONS[int(number)]), set()).add(round(float(magnitude), 5) + 0.0)
    del seen["Identity"]
    assert set(seen) == set(space) - {"Identity", *(("ShearX",) if policy == "autoaugment" else ())}
    for name, magnitudes in seen.items():
        assert magnitudes <= {value + 0.0 for value in allowed[name]}, name
    if policy == "trivialaugment":
        counts = drawn[0].operations.flatten().bincount(minlength=14) / 3000
        assert (counts - 1 / 14).abs().max() < 4 * (1 / 14 / 3000) ** 0.5
        assert len(seen["Rotate"]) > 50


def test_autoaugments_policy_is_torchvisions_for_cifar_10():
    pairs = v2.AutoAugment(v2.AutoAugmentPolicy.CIFAR10)._policies
    ours = [tuple((torchvisions(name), often, at) for name, often, at in pair) for pair in AUTOAUGMENT]
    assert ours == [tuple((name, often, at or 0) for name, often, at in pair) for pair in pairs]


def test_operations_of_autoaugment_are_as_frequent_as_it_says():
    count = 30_000
    drawn = draw(Augmentation(policy="autoaugment"), count, 32, 32, generator_for(0, 0))
    for name in ("rotate", "equalize", "invert"):
        expected = sum(often for pair in AUTOAUGMENT for other, often, _ in pair if other == name) / len(AUTOAUGMENT)
        share = (drawn.operations == OPERATIONS.index(name)).sum() / count
        assert abs(share - expected) < 4 * (max(expected, 0.01) / count) ** 0.5, name


# Two images in one ---------------------------------------------------------------------------------------------------


def floats(count: int = 16, height: int = 32, width: int = 32) -> tuple[torch.Tensor, torch.Tensor]:
    """Images that can be told from each other at every pixel, each with a label of its own: its number."""
    return photos(count, height, width) / 255 + torch.arange(count).view(-1, 1, 1, 1), torch.arange(count)


def test_nothing_mixed_is_the_images_themselves_and_uses_up_no_chance():
    images, labels = floats()
    generator = generator_for(0, 0)
    before = generator.get_state()
    mixed = mix(images, labels, 0.0, 0.0, generator)
    assert mixed.images is images
    assert mixed.share == 1
    assert torch.equal(mixed.labels, labels)
    assert torch.equal(generator.get_state(), before)
    assert mixed.mean(lambda wanted: wanted.float().sum()) == labels.sum()


@pytest.mark.parametrize("alpha", [0.2, 1.0, 2.0])
def test_mixup_is_the_convex_combination_of_two_images(alpha):
    images, labels = floats()
    before = images.clone()
    for step in range(10):
        mixed = mix(images, labels, alpha, 0.0, generator_for(3, step))
        wanted = mixed.share * images + (1 - mixed.share) * images[mixed.others]
        torch.testing.assert_close(mixed.images, wanted, rtol=1e-5, atol=1e-5)
        assert torch.equal(mixed.labels, labels)
        assert mixed.others.sort().values.equal(labels), "An image was mixed in twice."
        assert not mixed.others.equal(labels)
        assert 0 <= mixed.share <= 1
    assert torch.equal(images, before)


@pytest.mark.parametrize("size", [(32, 32), (24, 40)])
@pytest.mark.parametrize("alpha", [0.5, 1.0])
def test_cutmix_pastes_a_rectangle_whose_area_is_the_share_of_its_label(alpha, size):
    images, labels = floats(16, *size)
    before = images.clone()
    shares = set()
    for step in range(40):
        mixed = mix(images, labels, 0.0, alpha, generator_for(4, step))
        pasted = (mixed.images != images)[mixed.others != labels]
        where = pasted[0, 0]
        assert (pasted == where).all(), "Not the same place in each image and channel."
        rows, columns = where.any(1).nonzero().flatten(), where.any(0).nonzero().flatten()
        area = len(rows) * len(columns)
        assert where.sum() == area
        assert not area or (rows[-1] - rows[0] + 1 == len(rows) and columns[-1] - columns[0] + 1 == len(columns))
        assert mixed.share == 1 - area / (size[0] * size[1])
        assert torch.equal(mixed.images, torch.where(where, images[mixed.others], images))
        assert torch.equal(mixed.labels, labels)
        shares.add(mixed.share)
    assert len(shares) > 20
    assert torch.equal(images, before)


@pytest.mark.parametrize("alpha", [1e-4, 0.01, 0.2, 1.0, 2.0])
def test_shares_follow_a_beta_distribution(alpha):
    count = 3000
    generator = generator_for(5, 6)
    images, labels = floats(2, 1, 1)
    shares = torch.tensor([mix(images, labels, alpha, 0.0, generator).share for _ in range(count)]).double() - 0.5
    # Central moments of Beta(alpha, alpha), from its closed form.
    variance = 1 / (4 * (2 * alpha + 1))
    fourth = variance**2 * (3 - 6 / (2 * alpha + 3))
    eighth = 0.5**8
    assert abs(shares.mean()) < 4 * math.sqrt(variance / count)
    assert abs(shares.square().mean() - variance) < 4 * math.sqrt(max(fourth - variance**2, 1e-9) / count)
    assert abs(shares.pow(4).mean() - fourth) < 4 * math.sqrt(eighth / count)


def test_the_rectangle_of_cutmix_is_anywhere_and_as_large_as_drawn_where_it_fits():
    generator = generator_for(7, 8)
    images, labels = floats(2)
    covered = torch.zeros(32, 32)
    areas = []
    for _ in range(2000):
        mixed = mix(images, labels, 0.0, 1.0, generator)
        covered += (mixed.images[0] != images[0])[0]
        areas.append(1 - mixed.share)
    row, column = divmod(int(covered.argmax()), 32)
    assert covered.min() > 0
    assert 8 <= row < 24
    assert 8 <= column < 24
    # Beta(1, 1) is even. Of a side s about an even centre s - s^2 / 4 lies inside on average; s^2 is the area drawn.
    drawn = (torch.arange(1000) + 0.5) / 1000
    assert sum(areas) / len(areas) == pytest.approx((drawn.sqrt() - drawn / 4).square().mean().item(), abs=0.02)


def test_with_both_on_a_coin_chooses():
    images, labels = floats(8)
    pasted = 0
    for step in range(400):
        mixed = mix(images, labels, 1.0, 1.0, generator_for(9, step))
        # Of a pasted image every pixel is one that there was.
        changed = mixed.images != images
        pasted += bool(torch.isin(mixed.images[changed], images).all())
    assert abs(pasted - 200) < 4 * math.sqrt(400 / 4)


@pytest.mark.parametrize(("mixup", "cutmix"), [(0.4, 0.0), (0.0, 1.0), (0.4, 1.0)])
def test_the_same_generator_mixes_alike_and_another_does_not(mixup, cutmix):
    images, labels = floats()
    one, same, other = (mix(images, labels, mixup, cutmix, generator_for(0, step)) for step in (1, 1, 2))
    assert torch.equal(one.images, same.images)
    assert torch.equal(one.others, same.others)
    assert one.share == same.share != other.share
    assert not torch.equal(one.images, other.images)


@pytest.mark.parametrize("seed", range(12))
def test_another_alpha_mixes_with_the_same_partners_at_the_same_place(seed):
    """So that a slider changes how strongly is mixed, and not what chance decides."""
    images, labels = torch.zeros(16, 3, 32, 32), torch.arange(16)
    images[:, :, ::2] = 1
    for on in ("mixup", "cutmix"):
        drawn = []
        for alpha in (0.05, 0.1, 0.3, 0.7, 1.0, 1.5, 2.0):
            alphas = {"mixup": 0.0, "cutmix": 0.0, on: alpha}
            drawn.append(mix(images, labels, **alphas, generator=generator_for(seed, 0)).others.tolist())
        assert all(others == drawn[0] for others in drawn)
    both = mix(images, labels, 0.2, 0.2, generator_for(seed, 0)).others.tolist()
    assert both == drawn[0], "nor does it where the other one is on as well"


@pytest.mark.parametrize(("mixup", "cutmix"), [(0.4, 0.0), (0.0, 1.0)])
def test_the_loss_of_mixed_images_is_that_of_the_mixed_labels(mixup, cutmix):
    images, labels = floats()
    mixed = mix(images, labels, mixup, cutmix, generator_for(1, 1))
    logits = torch.randn(16, 16, generator=generator_for(2, 2))
    one, other = (torch.nn.functional.one_hot(which, 16).float() for which in (mixed.labels, mixed.others))
    wanted = torch.nn.functional.cross_entropy(logits, mixed.share * one + (1 - mixed.share) * other)
    assert 0 < mixed.share < 1
    torch.testing.assert_close(mixed.mean(lambda which: torch.nn.functional.cross_entropy(logits, which)), wanted)


def test_mixing_and_normalising_commute():
    images, labels = floats()
    mean, std = (0.4, 0.5, 0.6), (0.2, 0.3, 0.4)
    for mixup, cutmix in ((0.4, 0.0), (0.0, 1.0)):
        first = normalise(mix(images, labels, mixup, cutmix, generator_for(1, 1)).images, mean, std)
        last = mix(normalise(images, mean, std), labels, mixup, cutmix, generator_for(1, 1)).images
        torch.testing.assert_close(first, last, rtol=1e-4, atol=1e-3)


@pytest.mark.parametrize("size", [12, 16, 24, 31, 32])
def test_smaller_images_are_those_of_torchs_own_resizing(size):
    images = photos(8).float() / 255
    expected = torch.nn.functional.interpolate(images, size=(size, size), mode="bilinear", antialias=True)
    torch.testing.assert_close(shrunk(images, size), expected, rtol=0, atol=1e-6)
