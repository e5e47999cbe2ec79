"""A picture looked at a little differently."""

from __future__ import annotations

import numpy as np

from cifar_core.spread import COUNT, looks


def picture() -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (3, 32, 32), dtype=np.uint8)


def test_the_first_look_is_the_picture_and_each_has_its_mirror_image() -> None:
    pixels = picture()
    found = looks(pixels)
    assert found.shape == (COUNT, 3, 32, 32)
    assert found.dtype == np.uint8
    assert (found[0] == pixels).all()
    assert (found[COUNT // 2 :] == found[: COUNT // 2, ..., ::-1]).all()


def test_no_two_looks_are_alike() -> None:
    found = looks(picture()).reshape(COUNT, -1).astype(int)
    apart = np.abs(found[:, None] - found[None]).sum(axis=2)
    assert (apart + np.eye(COUNT) > 0).all()


def test_a_shift_moves_by_two_pixels_and_a_crop_shows_its_corner_larger() -> None:
    pixels = np.zeros((3, 32, 32), np.uint8)
    pixels[:, 2:6, 2:6] = 255
    found = looks(pixels)
    assert (found[1][:, 2:6, 0:4] == 255).all()
    corner = found[6]  # The crop at the top left begins where the picture does.
    assert corner[0, 4, 4] == 255
    assert (corner[0] > 128).sum() > 16
    # That at the bottom right begins at the fifth pixel, which leaves half of the square.
    assert 0 < (found[9][0] > 128).sum() < 16


def test_a_picture_of_one_colour_looks_the_same_however_it_is_looked_at() -> None:
    assert (looks(np.full((3, 32, 32), 77, np.uint8)) == 77).all()
