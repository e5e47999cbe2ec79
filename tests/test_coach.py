"""The coach speaks where a training goes wrong, with its evidence, and is silent where it does not."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from cifar_core import coach
from cifar_core.coach import Advice, advise
from cifar_core.config import RECIPES, TrainConfig
from cifar_core.datasets import open_dataset
from cifar_core.events import Inspected
from cifar_core.runs import Run, create_run
from tests.conftest import Tiny, tiny_config, work
from tests.shapes import drawn_folder

CLASSES = [f"class {k}" for k in range(10)]
CHANCE = math.log(10)

RECORDED = json.loads(Path(__file__).with_name("recorded_histories.json").read_text())
"""Loss and accuracy of training and validation after each epoch on CIFAR-10, 45,000 images to train on."""


def rows(
    train_loss: Sequence[float],
    validation_loss: Sequence[float] | None = None,
    train_accuracy: Sequence[float] | None = None,
    validation_accuracy: Sequence[float] | None = None,
    rates: Sequence[float] | None = None,
) -> list[dict[str, Any]]:
    count = len(train_loss)
    guessed = [1 - min(loss, 0.9 * CHANCE) / CHANCE for loss in train_loss]
    figures = {
        "train_loss": train_loss,
        "validation_loss": validation_loss or train_loss,
        "train_accuracy": train_accuracy or guessed,
        "validation_accuracy": validation_accuracy or train_accuracy or guessed,
        "learning_rate": rates or [0.01] * count,
    }
    return [
        {"epoch": i + 1.0, "whole_epoch": True, **{name: values[i] for name, values in figures.items()}}
        for i in range(count)
    ]


def look(epoch: int, **figures: Any) -> Inspected:
    usual: dict[str, Any] = {
        "step": 10 * epoch,
        "class_accuracy": [0.7] * 10,
        "layers": [],
        "dead": [],
        "samples": [],
        "seconds": {"data": 0.2, "forward": 3.0, "backward": 6.0, "step": 0.5},
        "timed_steps": 10,
        "memory": 2**30,
        "device_memory": None,
    }
    return Inspected(epoch=epoch, **{**usual, **figures})


def rules(
    history: list[dict[str, Any]], looks: Sequence[Inspected] = (), classes: Sequence[str] = CLASSES, **settings: Any
) -> dict[str, Advice]:
    said = advise(history, looks, TrainConfig(**settings), classes)
    return {advice.rule: advice for advice in said}


SOUND = [1.65, 1.31, 1.17, 1.08, 1.01, 0.95]


def test_a_sound_training_hears_nothing() -> None:
    looks = [look(epoch) for epoch in range(1, 7)]
    for count in range(len(SOUND) + 1):
        assert not rules(rows(SOUND[:count]), looks[:count])


@pytest.mark.parametrize("count", [0, 1, 2])
def test_nothing_is_said_of_too_few_epochs(count: int) -> None:
    dead = [{"name": "relu1", "rule": "zero", "units": 16, "dead": 16}]
    looks = [look(epoch, dead=dead, class_accuracy=[0.0] + [0.9] * 9) for epoch in range(1, count + 1)]
    assert not rules(rows([1.0, 3.0][:count], [2.0, 4.0][:count]), looks)


def test_every_severity_is_known_and_the_gravest_comes_first() -> None:
    dead = [{"name": "relu1", "rule": "zero", "units": 16, "dead": 16}]
    slow = {"data": 5.0, "forward": 3.0, "backward": 1.0, "step": 0.5}
    looks = [look(epoch, dead=dead, seconds=slow) for epoch in range(1, 7)]
    said = advise(rows([1.0, 1.2, 1.0, 1.2, 1.0, 1.2]), looks, TrainConfig(), CLASSES)
    assert [advice.severity for advice in said] == ["problem", "warning", "hint"]
    assert [advice.rule for advice in said] == ["dead units", "rate too high", "slow data"]
    assert all(text.endswith(".") for advice in said for text in (advice.sentence, advice.evidence, advice.try_this))


# Over-fitting --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("run", RECORDED, ids=lambda run: f"{run['recipe']}-{run['seed']}-{run['precision']}")
def test_the_over_fitting_lesson_is_recognised_and_its_cure_too(run: dict[str, Any]) -> None:
    """Recipe three_conv over-fits within its ten epochs; three_conv_dropout never does in its fifteen."""
    train_loss, train_accuracy, validation_loss, validation_accuracy = map(list, zip(*run["epochs"], strict=True))
    settings = RECIPES[run["recipe"]].settings
    for count in range(1, len(train_loss) + 1):
        part = rows(*(v[:count] for v in (train_loss, validation_loss, train_accuracy, validation_accuracy)))
        said = rules(part, **settings)
        if count <= 5 or run["recipe"] == "three_conv_dropout":
            assert not said, f"epoch {count}"
        if count >= 10 and run["recipe"] == "three_conv":
            assert list(said) == ["over-fitting"]
            assert "dropout" in said["over-fitting"].try_this
            assert f"{train_accuracy[count - 1]:.1%}" in said["over-fitting"].evidence


def test_a_network_on_few_images_over_fits(tiny: Tiny, runs_root: Path, tmp_path: Path) -> None:
    """A real training: more weights than pixels, and labels that nothing in the images tells."""
    source = drawn_folder(tmp_path / "few", 60, 1, seed=3)
    random = np.random.default_rng(0)
    files = sorted((source / "train").rglob("*.png"))
    for place, file in zip(random.permutation(len(files)), files, strict=True):
        file.rename(file.parent.parent / files[place].parent.name / f"new-{file.parent.name}-{file.name}")
    cache = tmp_path / "cache"
    open_dataset(source, cache)
    settings = {"model": "guide_cnn", "width": 0.5, "flip": 0.0, "epochs": 12, "learning_rate": 0.002}
    run = work(create_run(tiny_config(tiny, data=str(source), validation_fraction=0.4, **settings), runs_root), cache)
    assert run.state == "finished", run.last_end
    said = {a.rule: a for a in advise(run.history(), run.inspections(), run.settings, run.start.classes)}
    assert said["over-fitting"].severity == "warning"


def test_over_fitting_is_graver_once_the_validation_loss_rises() -> None:
    begins = rules(rows([1.5, 1.1, 1.0, 0.92, 0.86], [1.4, 1.1, 1.04, 1.0, 0.97]))["over-fitting"]
    assert begins.severity == "hint"
    assert "lowest" not in begins.evidence
    train = [1.5, 1.1, 0.9, 0.7, 0.5, 0.35]
    grave = rules(rows(train, [1.4, 1.1, 0.95, 0.98, 1.08, 1.2]))["over-fitting"]
    assert grave.severity == "warning"
    assert "lowest in epoch 3: 0.950; now 1.200" in grave.evidence


@pytest.mark.parametrize(
    ("train", "held_out"),
    [
        # Better and better on both, as in the last epochs of a one-cycle schedule.
        ([1.5, 1.0, 0.7, 0.5, 0.3, 0.15], [1.4, 1.0, 0.75, 0.6, 0.45, 0.36]),
        # Augmentation makes the training images the harder ones.
        ([1.9, 1.6, 1.4, 1.3, 1.25, 1.2], [1.6, 1.3, 1.1, 1.0, 1.0, 1.05]),
        # It has learnt all it can, without a gap.
        ([1.2, 1.1, 1.05, 1.04, 1.03, 1.03], [1.25, 1.1, 1.08, 1.09, 1.08, 1.09]),
    ],
)
def test_what_is_no_over_fitting(train: list[float], held_out: list[float]) -> None:
    assert "over-fitting" not in rules(rows(train, held_out))


def test_blended_images_say_nothing_about_over_or_under_fitting() -> None:
    history = rows([1.5, 1.1, 0.9, 0.7, 0.5, 0.35], [1.4, 1.1, 0.95, 0.98, 1.08, 1.2])
    assert rules(history)
    assert not rules(history, mixup=0.5)
    assert not rules(history, cutmix=0.5)


def test_the_cures_are_those_that_are_not_in_force_yet() -> None:
    history = rows([1.5, 1.1, 0.9, 0.7, 0.5, 0.35], [1.4, 1.1, 0.95, 0.98, 1.08, 1.2])
    bare = rules(history, flip=0.0, crop_padding=0, weight_decay=0.0)["over-fitting"].try_this
    assert all(word in bare for word in ("dropout", "flips and crops", "weight decay", "early stopping"))
    much = rules(history, dropout=0.5, cutout=8, stop_patience=3)["over-fitting"].try_this
    assert not any(word in much for word in ("dropout", "flips", "cutout", "weight decay", "early stopping"))


# Under-fitting -------------------------------------------------------------------------------------------------------


def test_under_fitting_is_a_standstill_at_a_low_level_on_both_sides() -> None:
    losses, accuracies = [1.3, 1.2, 1.18, 1.17, 1.17, 1.16, 1.16], [0.55, 0.58, 0.592, 0.594, 0.595, 0.596, 0.597]
    advice = rules(rows(losses, losses, accuracies, accuracies), dropout=0.5)["under-fitting"]
    assert "59.7%" in advice.evidence
    assert "dropout" in advice.try_this
    assert not rules(rows(losses[:5], losses[:5], accuracies[:5], accuracies[:5]))


@pytest.mark.parametrize(
    ("accuracies", "held_out"),
    [
        ([0.45, 0.5, 0.55, 0.58, 0.6, 0.62], [0.45, 0.5, 0.55, 0.58, 0.6, 0.62]),
        ([0.9, 0.92, 0.925, 0.925, 0.925, 0.925], [0.9, 0.92, 0.925, 0.925, 0.925, 0.925]),
        ([0.55, 0.58, 0.592, 0.594, 0.595, 0.596], [0.5, 0.5, 0.5, 0.5, 0.5, 0.5]),
    ],
    ids=["still learning", "learnt", "a gap"],
)
def test_what_is_no_under_fitting(accuracies: list[float], held_out: list[float]) -> None:
    losses = [1.2] * 6
    assert "under-fitting" not in rules(rows(losses, losses, accuracies, held_out))


# Learning rate -------------------------------------------------------------------------------------------------------


def moments(*losses: float) -> list[dict[str, Any]]:
    return [{**row, "whole_epoch": False, "epoch": row["epoch"] / 20} for row in rows(losses)]


def test_a_loss_that_runs_away_is_diverging_and_nothing_else_is_said() -> None:
    dead = [{"name": "relu1", "rule": "zero", "units": 16, "dead": 16}]
    looks = [look(epoch, dead=dead) for epoch in range(1, 5)]
    said = rules([*rows([1.6, 1.4, 1.5]), *moments(4.0, 5.0, 6.0)], looks)
    assert list(said) == ["diverging"]
    assert said["diverging"].severity == "problem"
    assert "Training loss 5" in said["diverging"].evidence
    assert "0.001" in said["diverging"].try_this


@pytest.mark.parametrize(
    "losses",
    [
        pytest.param([3.5, 2.6, 2.2, 2.0, 1.8, 1.7], id="a bad start"),
        pytest.param([2.3, 2.0, 1.6, 1.5, 4.0, 1.5], id="one bad moment"),
        pytest.param([0.3, 0.1, 0.1, 0.1, 0.3, 0.4], id="worse, but far from lost"),
        pytest.param([2.3, 9.0], id="too little to go by"),
    ],
)
def test_what_is_no_divergence(losses: list[float]) -> None:
    assert not rules(moments(*losses))


def test_a_rate_is_too_high_where_the_loss_goes_up_and_down() -> None:
    advice = rules(rows([1.5, 1.3, 1.4, 1.25, 1.35, 1.3]))["rate too high"]
    assert "it rose 2 times, by up to 8%" in advice.evidence
    assert "rate too high" not in rules(rows([1.5, 1.3, 1.31, 1.25, 1.26, 1.2]))
    assert "rate too high" not in rules(rows([1.5, 1.3, 1.4, 1.25, 1.2, 1.1]))


def test_a_rate_is_too_high_where_the_first_steps_end_all_learning() -> None:
    thrown = [*moments(8.0), *rows([2.9, 2.31, 2.303])]
    assert rules(thrown)["rate too high"].severity == "problem"
    assert "rate too low" not in rules(thrown)
    assert "rate too high" not in rules(rows([2.303, 2.303, 2.303]))


def test_a_rate_is_too_low_where_the_loss_creeps() -> None:
    advice = rules(rows([2.29, 2.27, 2.25], rates=[1e-5] * 3))["rate too low"]
    assert "2.29, 2.27, 2.25" in advice.evidence
    assert "1e-05" in advice.try_this
    assert "rate too low" not in rules(rows([2.25, 2.0, 1.9])), "it is quick enough"
    assert "rate too low" not in rules(rows([1.2, 1.19, 1.18])), "it has learnt before"
    assert "rate too low" not in rules(rows([2.29, 2.27, 2.25], rates=[1e-5, 2e-5, 3e-5])), "it warms up"


@pytest.mark.parametrize(("rate", "rule"), [(1e-6, "rate too low"), (0.003, None), (3.0, "rate too high")])
def test_real_trainings_with_good_and_bad_rates(make_run: Callable[..., Run], rate: float, rule: str | None) -> None:
    run = make_run(epochs=5, learning_rate=rate, optimizer="sgd" if rate < 1 else "adam", model="guide_cnn", width=0.25)
    assert run.state in ("finished", "failed")
    said = [a.rule for a in advise(run.history(), run.inspections(), run.settings, run.start.classes)]
    if rule:
        assert {rule, "diverging"} & set(said)
    else:
        assert not {"rate too low", "rate too high", "diverging"} & set(said)


@pytest.mark.parametrize("losses", [[0.0] * 6, [0.0, 1e-7] * 3, [2.0, 0.5, 0.0, 0.0, 0.0, 0.0]])
def test_a_loss_of_nought_is_no_trouble(losses: list[float]) -> None:
    """As of a network that has learnt a few images by heart."""
    said = rules(rows(losses, train_accuracy=[1.0] * 6, validation_loss=[3.0] * 6))
    assert "rate too high" not in said
    assert "rate too low" not in said


# Units, classes, data ------------------------------------------------------------------------------------------------


def test_dead_units_are_told_of_where_they_are_many_and_cannot_come_back() -> None:
    layers = [
        {"name": "relu1", "rule": "zero", "units": 32, "dead": 3},
        {"name": "relu2", "rule": "zero", "units": 64, "dead": 40},
        {"name": "gelu1", "rule": "never above zero", "units": 64, "dead": 64},
        {"name": "relu3", "rule": "zero", "units": 2, "dead": 2},
    ]
    looks = [look(epoch, dead=layers) for epoch in (1, 2, 3)]
    advice = rules(rows(SOUND[:3]), looks)["dead units"]
    assert advice.evidence == "relu2: 40 of 64 (62%), on each of 256 validation images."
    (advice,) = advise(rows(SOUND[:3]), looks, TrainConfig(), CLASSES, 5000)
    assert advice.evidence == "relu2: 40 of 64 (62%), on some 256 of 5,000 validation images."
    assert advice.severity == "warning"
    layers[1]["dead"] = 64
    assert rules(rows(SOUND[:3]), looks)["dead units"].severity == "problem"
    layers[1]["dead"] = 20
    assert not rules(rows(SOUND[:3]), looks)


def test_a_class_is_stuck_that_is_hardly_ever_told_right_three_times_in_a_row() -> None:
    def course(*shares: float | None) -> list[Inspected]:
        return [look(i + 1, class_accuracy=[share, *[0.6] * 9]) for i, share in enumerate(shares)]

    advice = rules(rows(SOUND[:4]), course(0.5, 0.02, 0.03, 0.04))["class stuck"]
    assert "One class is hardly ever told right: class 0." in advice.sentence
    assert "class 0: 2%, 3%, 4%" in advice.evidence
    for fine in ((0.02, 0.03, 0.3), (0.3, 0.02, 0.01), (None, None, None), (0.35, 0.35, 0.35)):
        assert not rules(rows(SOUND[:3]), course(*fine))
    guessing = [look(epoch, class_accuracy=[1.0, *[0.0] * 9]) for epoch in (1, 2, 3)]
    assert "class stuck" not in rules(rows(SOUND[:3]), guessing), "a network that guesses knows no class"


def test_making_batches_is_the_bottleneck_from_a_third_of_the_time_on() -> None:
    def after(data: float, other: float) -> dict[str, Advice]:
        return rules(
            rows(SOUND[:1]),
            [look(1, seconds={"data": data, "forward": other, "backward": 0.0, "step": 0.0})],
            rotation=15.0,
        )

    advice = after(4.0, 6.0)["slow data"]
    assert "40% goes into the batch (forward 60%" in advice.evidence
    assert "less rotation" in advice.try_this
    assert not after(3.0, 7.0)
    assert not after(0.4, 0.2), "too short to tell"


def test_thresholds_are_in_words_a_person_can_check() -> None:
    source = Path(coach.__file__).read_text()
    for name in ("RISE_TO_DIVERGE", "SWING", "CREEP", "GAP", "STANDSTILL", "MANY_DEAD", "STUCK", "SLOW_DATA"):
        assert f"\n{name} = " in source
        assert source.split(f"\n{name} = ")[1].split("\n")[1].startswith('"""'), f"{name} has no reason"
