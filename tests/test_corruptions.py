"""Corruptions against independent programs: SciPy, Pillow, colorsys and loops that take one pixel at a time."""

from __future__ import annotations

import colorsys
import io

import numpy as np
import pytest
import torch
from PIL import Image
from scipy import ndimage

from cifar_core import corruptions
from cifar_core.corruptions import BLOCK, CORRUPTIONS, SEVERITIES, corrupt, corrupted, corrupted_at


@pytest.fixture(scope="module")
def images() -> torch.Tensor:
    """(6, 3, 32, 32) uint8: smooth shapes with some noise, so that a blur shows."""
    random = np.random.default_rng(0)
    smooth = ndimage.zoom(random.uniform(0, 255, (6, 3, 6, 6)), (1, 1, 32 / 6, 32 / 6), order=1)
    return torch.from_numpy((smooth + random.normal(0, 12, smooth.shape)).clip(0, 255).astype(np.uint8))


def random(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def pillow(image: torch.Tensor) -> Image.Image:
    return Image.fromarray(image.permute(1, 2, 0).numpy())


@pytest.mark.parametrize("name", CORRUPTIONS)
def test_every_corruption_keeps_shape_and_kind_and_grows_with_severity(name: str, images: torch.Tensor) -> None:
    changes = []
    for severity in SEVERITIES:
        spoilt = corrupt(images, name, severity, random())
        assert spoilt.shape == images.shape
        assert spoilt.dtype is torch.uint8
        changes.append(float((spoilt.float() - images.float()).abs().mean()))
    assert changes[0] > 0
    # Of elastic the first part fades as the others grow; frost covers more of the picture and so brightens it less.
    assert changes[-1] > changes[0] or name in ("elastic_transform", "frost")


def test_there_are_the_fifteen_of_the_paper() -> None:
    groups = [corruption.group for corruption in CORRUPTIONS.values()]
    assert {group: groups.count(group) for group in groups} == {"noise": 3, "blur": 4, "weather": 4, "digital": 4}


@pytest.mark.parametrize("sigma", [0.25, 0.4, 1.3])
@pytest.mark.parametrize(("mode", "theirs", "truncate"), [("replicate", "nearest", 4.0), ("symmetric", "reflect", 3.0)])
def test_the_gaussian_blur_is_scipys(
    sigma: float, mode: str, theirs: str, truncate: float, images: torch.Tensor
) -> None:
    x = images.float() / 255
    expected = ndimage.gaussian_filter(x.numpy(), (0, 0, sigma, sigma), mode=theirs, truncate=truncate)
    assert corruptions.gaussian_blur(x, sigma, truncate, mode).numpy() == pytest.approx(expected, abs=1e-5)


@pytest.mark.parametrize("severity", SEVERITIES)
def test_defocus_is_a_correlation_with_a_blurred_disk(severity: int, images: torch.Tensor) -> None:
    radius, alias = ((0.3, 0.4), (0.4, 0.5), (0.5, 0.6), (1, 0.2), (1.5, 0.1))[severity - 1]
    at = np.arange(-8, 9)
    hard = (at[:, None] ** 2 + at**2 <= radius**2).astype(float)
    side = np.exp(-1 / (2 * alias**2))
    weights = np.array([side, 1, side]) / (1 + 2 * side)
    kernel = ndimage.correlate(hard / hard.sum(), np.outer(weights, weights), mode="constant")
    expected = ndimage.correlate(images.numpy() / 255, kernel[None, None], mode="mirror")
    ours = corrupt(images, "defocus_blur", severity, random()).numpy()
    assert np.abs(ours - np.floor(expected.clip(0, 1) * 255)).max() <= 1


def test_glass_blur_is_the_published_loop_over_pixels(images: torch.Tensor) -> None:
    """One pixel after the other, from the last, each overwritten by a neighbour above or to the left."""
    x = images[:2].float() / 255
    ours = corruptions.CORRUPTIONS["glass_blur"].apply(x, 3, random(5))
    expected = np.floor(ndimage.gaussian_filter(x.numpy(), (0, 0, 0.25, 0.25), mode="nearest") * 255 + 1e-3)
    drawn = random(5)
    for _ in range(2):
        up, left = (torch.randint(0, 2, (2, 32, 32), generator=drawn).numpy() for _ in range(2))
        for h in range(31, 1, -1):
            for w in range(31, 1, -1):
                for b in range(2):
                    expected[b, :, h, w] = expected[b, :, h - up[b, h, w], w - left[b, h, w]].copy()
    expected = ndimage.gaussian_filter(expected / 255, (0, 0, 0.25, 0.25), mode="nearest")
    # Where a blurred value is nearly a whole number, the two may cut it off differently.
    assert np.abs(ours.numpy() - expected).max() < 1.05 / 255
    assert np.mean(np.abs(ours.numpy() - expected) > 1e-5) < 0.005


@pytest.mark.parametrize("factor", [1.0, 1.03, 1.25, 1.75, 2.25])
def test_zoom_is_scipys(factor: float, images: torch.Tensor) -> None:
    part = int(np.ceil(32 / factor))
    top = (32 - part) // 2
    middle = images.numpy()[:, :, top : top + part, top : top + part] / 255
    larger = ndimage.zoom(middle, (1, 1, factor, factor), order=1)
    trim = (larger.shape[2] - 32) // 2
    expected = larger[:, :, trim : trim + 32, trim : trim + 32]
    assert corruptions.clipped_zoom(images.float() / 255, factor).numpy() == pytest.approx(expected, abs=1e-4)


def test_motion_blur_along_a_row_is_a_one_sided_gaussian(images: torch.Tensor) -> None:
    x = images.float() / 255
    weights = np.exp(-(np.arange(13) ** 2) / (2 * 1.5**2))
    weights /= weights.sum()
    padded = np.pad(x.numpy(), ((0, 0), (0, 0), (0, 0), (0, 12)), mode="edge")
    expected = sum(weight * padded[..., i : i + 32] for i, weight in enumerate(weights))
    level = corruptions.motion_blur(x, 6, 1.5, torch.zeros(len(x)))
    assert level.numpy() == pytest.approx(expected, abs=1e-5)
    down = corruptions.motion_blur(x.transpose(2, 3), 6, 1.5, torch.full((len(x),), 90.0))
    assert down.transpose(2, 3).numpy() == pytest.approx(expected, abs=1e-5)


def test_brightness_is_more_value_at_the_same_hue_and_saturation(images: torch.Tensor) -> None:
    image = images[:1].clone()
    image[0, :, 0, 0] = 0
    ours = corruptions.CORRUPTIONS["brightness"].apply(image.float() / 255, 3, random())[0]
    for row, column in ((0, 0), (4, 9), (31, 31), (17, 2)):
        hue, saturation, value = colorsys.rgb_to_hsv(*(image[0, :, row, column].numpy() / 255))
        expected = colorsys.hsv_to_rgb(hue, saturation, min(value + 0.2, 1))
        assert ours[:, row, column].tolist() == pytest.approx(expected, abs=1e-5)


def test_contrast_shrinks_towards_the_mean_of_each_channel(images: torch.Tensor) -> None:
    x = images.float() / 255
    ours = corruptions.CORRUPTIONS["contrast"].apply(x, 4, random())
    assert ours.mean((2, 3)).numpy() == pytest.approx(x.mean((2, 3)).numpy(), abs=1e-5)
    assert ours.std((2, 3)).numpy() == pytest.approx(0.15 * x.std((2, 3)).numpy(), abs=1e-5)


@pytest.mark.parametrize("severity", SEVERITIES)
def test_pixelate_and_jpeg_are_pillows(severity: int, images: torch.Tensor) -> None:
    side = int(32 * (0.95, 0.9, 0.85, 0.75, 0.65)[severity - 1])
    quality = (80, 65, 58, 50, 40)[severity - 1]
    pixelated = corrupt(images, "pixelate", severity, random())
    compressed = corrupt(images, "jpeg_compression", severity, random())
    for i, image in enumerate(images):
        box = pillow(image).resize((side, side), Image.Resampling.BOX).resize((32, 32), Image.Resampling.BOX)
        assert np.array_equal(pixelated[i].permute(1, 2, 0).numpy(), np.asarray(box))
        content = io.BytesIO()
        pillow(image).save(content, "JPEG", quality=quality)
        assert np.array_equal(compressed[i].permute(1, 2, 0).numpy(), np.asarray(Image.open(content)))


def test_noise_has_the_mean_and_spread_it_is_said_to_have() -> None:
    grey = torch.full((40, 3, 32, 32), 128, dtype=torch.uint8)
    x = grey.float() / 255
    for name, expected in (("gaussian_noise", 0.08), ("shot_noise", (0.502 / 100) ** 0.5)):
        noisy = CORRUPTIONS[name].apply(x, 2, random())
        assert float(noisy.std()) == pytest.approx(expected, rel=0.02)
        assert float(noisy.mean()) == pytest.approx(float(x.mean()), abs=0.001)
    struck = CORRUPTIONS["impulse_noise"].apply(x, 4, random())
    assert float((struck == 1).float().mean()) == pytest.approx(0.035, abs=0.002)
    assert float((struck == 0).float().mean()) == pytest.approx(0.035, abs=0.002)


def test_an_elastic_displacement_is_that_of_map_coordinates(images: torch.Tensor) -> None:
    x = images.float() / 255
    moves = (torch.rand(len(x), 32, 32, 2, generator=random()) - 0.5) * 6
    rows, columns = np.mgrid[:32, :32].astype(np.float32)
    places = torch.from_numpy(np.stack([columns, rows], -1)) + moves
    for corners, mode in ((False, "reflect"), (True, "mirror")):
        ours = corruptions._sampled(x, places, corners)
        for b, c in ((0, 0), (3, 2)):
            at = [places[b, ..., 1].numpy(), places[b, ..., 0].numpy()]
            expected = ndimage.map_coordinates(x[b, c].numpy(), at, order=1, mode=mode)
            assert ours[b, c].numpy() == pytest.approx(expected, abs=1e-4)


def test_clouds_fill_the_range_and_more_decay_makes_them_smoother() -> None:
    rough, smooth = (corruptions.plasma(20, 32, decay, random()) for decay in (1.75, 3.0))
    for clouds in (rough, smooth):
        assert clouds.amin((1, 2)).tolist() == [0] * 20
        assert clouds.amax((1, 2)).tolist() == [1] * 20
    assert float(rough.diff(dim=2).abs().mean()) > 1.2 * float(smooth.diff(dim=2).abs().mean())


def test_any_image_can_be_made_again_alone() -> None:
    images = torch.randint(0, 256, (BLOCK + 7, 3, 32, 32), generator=random(), dtype=torch.uint8)
    whole = torch.cat([block for _, block in corrupted(images.numpy(), "snow", 3)])
    assert len(whole) == len(images)
    places = np.array([BLOCK + 3, 2, BLOCK - 1])
    assert np.array_equal(corrupted_at(images.numpy(), places, "snow", 3), whole[places].numpy())
    assert not np.array_equal(corrupted_at(images.numpy(), places, "snow", 3, seed=1), whole[places].numpy())


def test_what_does_not_exist_is_named(images: torch.Tensor) -> None:
    with pytest.raises(ValueError, match="no corruption 'rain'; there are gaussian_noise"):
        corrupt(images, "rain", 1, random())
    with pytest.raises(ValueError, match="from 1 to 5, but is 6"):
        corrupt(images, "fog", 6, random())
