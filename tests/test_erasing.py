"""Squares of an image erased, blurred and exchanged; the fewest that change an answer."""

from __future__ import annotations

import numpy as np
import pytest

from cifar_core.erasing import GRID, erase, lead, smallest_erasure

COLOUR = (0.5, 0.25, 1.0)


def picture() -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (3, 32, 32), dtype=np.uint8)


def squares(*places: tuple[int, int]) -> np.ndarray:
    chosen = np.zeros((GRID, GRID), bool)
    for place in places:
        chosen[place] = True
    return chosen


def test_erased_squares_have_the_colour_and_all_else_stays():
    pixels = picture()
    erased = erase(pixels, squares((1, 2)), "erase", COLOUR)
    assert (erased[:, 4:8, 8:12] == np.array([128, 64, 255])[:, None, None]).all()
    erased[:, 4:8, 8:12] = pixels[:, 4:8, 8:12]
    np.testing.assert_array_equal(erased, pixels)


def test_blurred_squares_are_softer_and_all_else_stays():
    pixels = picture()
    blurred = erase(pixels, squares((3, 3)), "blur", COLOUR)
    assert blurred[:, 12:16, 12:16].std() < 0.3 * pixels[:, 12:16, 12:16].std()
    blurred[:, 12:16, 12:16] = pixels[:, 12:16, 12:16]
    np.testing.assert_array_equal(blurred, pixels)


def test_swapped_squares_move_on_to_the_next_and_the_last_to_the_first():
    pixels = picture()
    swapped = erase(pixels, squares((0, 0), (2, 5), (7, 7)), "swap", COLOUR)
    np.testing.assert_array_equal(swapped[:, 8:12, 20:24], pixels[:, 0:4, 0:4])
    np.testing.assert_array_equal(swapped[:, 28:, 28:], pixels[:, 8:12, 20:24])
    np.testing.assert_array_equal(swapped[:, 0:4, 0:4], pixels[:, 28:, 28:])
    np.testing.assert_array_equal(np.sort(swapped, axis=None), np.sort(pixels, axis=None))
    np.testing.assert_array_equal(erase(pixels, squares((1, 1)), "swap", COLOUR), pixels)


def test_nothing_chosen_changes_nothing_and_the_image_of_the_caller_stays():
    pixels = picture()
    for how in ("erase", "blur", "swap"):
        np.testing.assert_array_equal(erase(pixels, squares(), how, COLOUR), pixels)
        erase(pixels, squares((0, 0), (1, 1)), how, COLOUR)
    np.testing.assert_array_equal(pixels, picture())


def bright(images: np.ndarray) -> np.ndarray:
    """Class 1 while some of two marked squares is white, weighed 3 and 1; else class 0."""
    white = (images > 250).all(1)
    one, two = white[:, 0:4, 0:4].mean((1, 2)), white[:, 8:12, 8:12].mean((1, 2))
    return np.stack([np.full(len(images), 0.5), 3 * one + two], 1).astype(np.float32)


def test_the_smallest_erasure_finds_just_the_squares_that_matter():
    pixels = np.zeros((3, 32, 32), np.uint8)
    pixels[:, 0:4, 0:4] = pixels[:, 8:12, 8:12] = 255
    found = smallest_erasure(pixels, bright, "erase", (0, 0, 0))
    assert found.changed
    assert found.answer == 0
    np.testing.assert_array_equal(found.squares, squares((0, 0), (2, 2)))
    assert found.tried == 1 + 64 + 63 + 2


def test_squares_that_turn_out_not_to_be_needed_are_put_back():
    """The first square is the best one alone, but the two after it suffice without it."""

    def answer(images: np.ndarray) -> np.ndarray:
        gone = (images == 0).all(1)[:, ::4, ::4]
        one, two, three = gone[:, 0, 0], gone[:, 0, 1], gone[:, 0, 2]
        lead = 1 - 0.5 * one - 0.45 * two - 0.4 * three - 2.0 * (two & three)
        return np.stack([lead, np.zeros(len(images))], 1).astype(np.float32)

    found = smallest_erasure(np.full((3, 32, 32), 200, np.uint8), answer, "erase", (0, 0, 0))
    np.testing.assert_array_equal(found.squares, squares((0, 1), (0, 2)))
    assert found.changed


def test_an_answer_that_nothing_changes_is_said_to_stay():
    found = smallest_erasure(picture(), lambda images: np.tile([1.0, 0.0], (len(images), 1)), "erase", COLOUR)
    assert not found.changed
    assert found.answer == 0
    assert found.squares.all()


def test_the_lead_is_over_the_best_of_the_others():
    np.testing.assert_allclose(lead(np.array([[1.0, 3.0, 2.5], [4.0, 1.0, 0.0]]), 1), [0.5, -3.0])


def test_what_cannot_be_done_is_named():
    with pytest.raises(ValueError, match="how must be one of erase, blur, swap, but is 'melt'"):
        erase(picture(), squares(), "melt", COLOUR)
    with pytest.raises(ValueError, match=r"squares must be \(8, 8\), but are \(4, 4\)"):
        erase(picture(), np.zeros((4, 4), bool), "erase", COLOUR)
    with pytest.raises(ValueError, match="a square alone cannot be swapped"):
        smallest_erasure(picture(), bright, "swap", COLOUR)
