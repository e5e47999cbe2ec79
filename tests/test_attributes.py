"""What is measured of each image."""

from __future__ import annotations

import colorsys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageFilter

from cifar_core.attributes import MEASURES, Attributes, AttributesError, joined, measured, of_images
from cifar_core.datasets import Split, open_cached
from tests.conftest import Tiny

RANDOM = np.random.default_rng(0)


def plain(red: int, green: int, blue: int) -> np.ndarray:
    """(1, 3, 32, 32) of one colour."""
    return np.broadcast_to(np.array([red, green, blue], np.uint8)[None, :, None, None], (1, 3, 32, 32))


def test_one_colour_has_its_brightness_and_saturation_and_nothing_else() -> None:
    for colour in ((0, 0, 0), (255, 255, 255), (200, 40, 90), (128, 128, 128)):
        found = of_images(plain(*colour))
        assert found.brightness[0] == pytest.approx(np.dot(colour, (0.299, 0.587, 0.114)) / 255, abs=1e-5)
        assert found.saturation[0] == pytest.approx(colorsys.rgb_to_hsv(*(c / 255 for c in colour))[1], abs=1e-5)
        assert found.contrast[0] == pytest.approx(0, abs=1e-5)
        assert found.sharpness[0] == pytest.approx(0, abs=1e-5)
        assert tuple(found.colours[0]) == colour


def test_black_and_white_halves_and_stripes_have_known_contrast_and_sharpness() -> None:
    halves = plain(0, 0, 0).copy()
    halves[..., 16:] = 255
    found = of_images(halves)
    assert found.contrast[0] == pytest.approx(0.5, abs=1e-5)
    assert found.sharpness[0] == pytest.approx(1 / 31 / 2, abs=1e-5)
    stripes = plain(0, 0, 0).copy()
    stripes[..., ::2] = 255
    assert of_images(stripes).sharpness[0] == pytest.approx(0.5, abs=1e-5)


def test_a_blurred_image_is_less_sharp_and_a_grey_one_less_saturated() -> None:
    noise = RANDOM.integers(0, 256, (32, 32, 3), np.uint8)
    picture = Image.fromarray(noise)
    three = [picture, picture.filter(ImageFilter.GaussianBlur(2)), picture.convert("L").convert("RGB")]
    found = of_images(np.stack([np.asarray(one).transpose(2, 0, 1) for one in three]))
    assert found.sharpness[1] < found.sharpness[0] / 2
    assert found.saturation[2] == 0 < found.saturation[0]


def test_a_split_is_measured_in_parts_as_at_once_and_kept(tiny: Tiny, tmp_path: Path) -> None:
    images = np.concatenate([open_cached(tiny.info.id, tiny.cache).train.images] * 6)
    split = Split(images, np.zeros(len(images), np.int64))
    parts = list(measured(split))
    assert len(parts) == 2
    path = tmp_path / "train.npz"
    path.write_bytes(joined(parts).to_bytes())
    kept, at_once = Attributes.load(path), of_images(images)
    assert len(kept) == len(images)
    for name in (*MEASURES, "colours", "thumbs"):
        np.testing.assert_array_equal(getattr(kept, name), getattr(at_once, name))
    path.write_bytes(path.read_bytes()[:5000])
    with pytest.raises(AttributesError, match="damaged"):
        Attributes.load(path)
