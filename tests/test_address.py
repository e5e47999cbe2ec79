"""Settings in the address of a page: what is written is read back, and what does not fit is left out with a reason."""

from __future__ import annotations

import dataclasses

import pytest

from cifar_core.config import RECIPES, TrainConfig
from pages.ui import address

BASE = TrainConfig.from_values(RECIPES["quick"].settings)


@pytest.mark.parametrize("recipe", RECIPES)
def test_settings_read_from_an_address_are_those_written_to_it(recipe: str) -> None:
    wanted = TrainConfig.from_values(RECIPES[recipe].settings)
    wanted = dataclasses.replace(wanted, classes='cat,"sea, deep: blue"', learning_rate=1 / 3, seed=7)
    text = address.written(dataclasses.asdict(wanted), BASE)
    assert address.read(text, BASE) == (wanted, [])


def test_only_what_differs_is_written_and_shortly() -> None:
    other = dataclasses.replace(BASE, learning_rate=0.1, epochs=3)
    assert address.written(dataclasses.asdict(other), BASE) == "epochs:3,lr:0.1"
    assert address.written(dataclasses.asdict(BASE), BASE) == ""


def test_settings_that_are_handed_over_are_those_named_and_no_others() -> None:
    text = address.listed({"flip": 0.5, "learning_rate": 0.1, "only_selection": "cats.0123", "without_selection": ""})
    assert address.named(text) == (
        {"flip": 0.5, "learning_rate": 0.1, "only_selection": "cats.0123", "without_selection": ""},
        [],
    )
    values, (sentence,) = address.named("lr:99,epochs:3")
    assert values == {"epochs": 3}, "what does not fit is left out"
    assert "must be at most" in sentence
    values, (sentence,) = address.named("flip:0.1,rotation:many")
    assert values == {"flip": 0.1}
    assert "rotation" in sentence


@pytest.mark.parametrize(
    ("bad", "reason"),
    [
        ("lr:999", "learning_rate must be at most"),
        ("lr:nan", "finite"),
        ("epochs:2.5", "must be a whole number"),
        ("train_images:100000000000000000000", "too large"),
        ("optimizer:sdg", "did you mean 'sgd'"),
        ("nesterov:maybe", "yes or no"),
        ("cake:1", "no setting 'cake'"),
        ("data:x", "no setting 'data'"),
        ("folds:1", "folds must be"),
        ("classes:a%0Db%00", "classes must be"),
        (":", "no setting ''"),
    ],
)
def test_a_bad_value_is_left_out_with_its_reason_and_the_others_stay(bad: str, reason: str) -> None:
    config, (sentence,) = address.read(f"seed:4,{bad},batch_size:64", BASE)
    assert config == dataclasses.replace(BASE, seed=4, batch_size=64)
    assert reason in sentence
