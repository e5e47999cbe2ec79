"""Settings are checked when they are made, say what is wrong, and survive a trip through a file."""

from __future__ import annotations

import dataclasses
import json
import math
import re
from typing import Any

import pytest

from cifar_core.config import FIELD_TYPES, FIELDS, GROUPS, MODELS, RECIPES, SCHEMA_VERSION, TrainConfig, label

BOUNDED = [
    (name, side, FIELDS[name].metadata[side])
    for name in FIELDS
    for side in ("low", "high")
    if FIELDS[name].metadata[side] is not None
]


def just_outside(name: str, side: str, bound: float) -> Any:
    plain, _ = FIELD_TYPES[name]
    outward = -1 if side == "low" else 1
    return bound + outward if plain is int else math.nextafter(bound, outward * math.inf)


@pytest.mark.parametrize(("name", "side", "bound"), BOUNDED)
def test_a_bound_itself_is_allowed(name: str, side: str, bound: float) -> None:
    plain, _ = FIELD_TYPES[name]
    beside = {"folds": 10} if name == "fold" else {}
    assert getattr(TrainConfig.from_values({**beside, name: plain(bound)}), name) == bound


@pytest.mark.parametrize(("name", "side", "bound"), BOUNDED)
def test_a_value_just_outside_a_bound_is_refused_with_field_bound_and_value(name: str, side: str, bound: float) -> None:
    value = just_outside(name, side, bound)
    words = "at least" if side == "low" else "at most"
    unit = f" {FIELDS[name].metadata['unit']}".removesuffix(" fraction").rstrip()
    with pytest.raises(ValueError, match=rf"^{name} must be {words} ") as caught:
        TrainConfig.from_values({name: value})
    bound_said, _, value_said = str(caught.value).removeprefix(f"{name} must be {words} ").partition(", but is ")
    assert float(bound_said.removesuffix(unit)) == bound
    assert unit in bound_said
    assert float(value_said.removesuffix(".")) == value, "the value is not the one that was given"


@pytest.mark.parametrize("name", [name for name, (plain, _) in FIELD_TYPES.items() if plain is float])
@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_what_is_not_a_finite_number_is_refused(name: str, value: float) -> None:
    with pytest.raises(ValueError, match=rf"^{name} must be a finite number, but is {value}\.$"):
        TrainConfig.from_values({name: value})


WRONG = {
    int: ([1.0, "3", True, None], "a whole number"),
    float: (["0.1", True, [0.1]], "a number"),
    bool: ([1, 0, "true", None], "true or false"),
    str: ([3, None, b"cpu"], "text"),
}


@pytest.mark.parametrize(("name", "value"), [(n, v) for n, (plain, _) in FIELD_TYPES.items() for v in WRONG[plain][0]])
def test_a_wrong_type_is_refused_with_field_type_and_value(name: str, value: Any) -> None:
    with pytest.raises(TypeError) as caught:
        TrainConfig.from_values({name: value})
    assert str(caught.value) == f"{name} must be {WRONG[FIELD_TYPES[name][0]][1]}, but is {value!r}."


def test_a_label_says_its_unit_once() -> None:
    for name, field in FIELDS.items():
        unit = field.metadata["unit"]
        assert label(name)[0].isupper()
        assert label(name).lower().count(unit) == 1 if unit in ("images", "epochs", "pixels", "degrees") else True
        assert not label(name).endswith(("(fraction)", "(times)"))
    assert label("train_images") == "Training images"
    assert label("batch_size") == "Batch size (images)"
    assert label("optimizer") == "Optimiser"
    assert label("gamma") == "Reduction factor"


@pytest.mark.parametrize("name", ["weight_decay", "learning_rate", "width", "rotation", "flip", "dropout", "gamma"])
def test_a_whole_number_is_a_number(name: str) -> None:
    value = getattr(TrainConfig.from_values({name: 0 if FIELDS[name].metadata["low"] == 0 else 1}), name)
    assert type(value) is float


CHOICES = [name for name in FIELDS if FIELDS[name].metadata["choices"]]


def test_the_choices_that_there_are() -> None:
    assert CHOICES == [
        "imbalance",
        "normalisation",
        "model",
        "initialisation",
        "objective",
        "optimizer",
        "schedule",
        "flip_mode",
        "crop_padding_mode",
        "policy",
        "device",
        "precision",
    ]


@pytest.mark.parametrize("name", CHOICES)
def test_every_choice_is_allowed(name: str) -> None:
    for choice in FIELDS[name].metadata["choices"]:
        assert getattr(TrainConfig.from_values({name: choice}), name) == choice


@pytest.mark.parametrize(
    ("name", "value", "nearest"),
    [
        ("model", "resnet19", "resnet9"),
        ("model", "guidecnn", "guide_cnn"),
        ("optimizer", "adamm", "adam"),
        ("optimizer", "rmspropp", "rmsprop"),
        ("optimizer", "moun", "muon"),
        ("schedule", "onecycle", "one_cycle"),
        ("schedule", "exponentiall", "exponential"),
        ("initialisation", "orthogonl", "orthogonal"),
        ("normalisation", "statistic", "statistics"),
        ("device", "quantum", None),
        ("precision", "float16 ", "float16"),
    ],
)
def test_an_unknown_choice_is_refused_with_all_choices_and_the_nearest(
    name: str, value: str, nearest: str | None
) -> None:
    with pytest.raises(ValueError, match=f"^{name} must be one of ") as caught:
        TrainConfig.from_values({name: value})
    hint = f"; did you mean {nearest!r}?" if nearest else "."
    choices = ", ".join(FIELDS[name].metadata["choices"])
    assert str(caught.value) == f"{name} must be one of {choices}, but is {value!r}{hint}"


@pytest.mark.parametrize(
    ("name", "hint"),
    [("learning_rat", "; did you mean 'learning_rate'?"), ("epoch", "; did you mean 'epochs'?"), ("zzz", ".")],
)
def test_an_unknown_setting_is_refused_with_the_nearest_name(name: str, hint: str) -> None:
    with pytest.raises(ValueError, match=r"^There is no setting") as caught:
        TrainConfig.from_values({name: 1})
    assert str(caught.value) == f"There is no setting {name!r}{hint}"


@pytest.mark.parametrize(
    ("values", "said"),
    [
        ({"folds": 1}, "folds must be 0 or at least 2, but is 1."),
        ({"folds": 5, "fold": 5}, "fold must be below folds, which is 5, but is 5."),
    ],
)
def test_folds_that_cannot_be_are_refused(values: dict[str, int], said: str) -> None:
    with pytest.raises(ValueError, match=f"^{said}$"):
        TrainConfig.from_values(values)


def test_pretrained_weights_have_one_width() -> None:
    with pytest.raises(ValueError, match=r"^width must be 1 for resnet18_transfer, .* but is 0\.5\.$"):
        TrainConfig(model="resnet18_transfer", width=0.5)


@pytest.mark.parametrize("model", MODELS)
@pytest.mark.parametrize("how", FIELDS["initialisation"].metadata["choices"])
def test_pretrained_weights_begin_as_they_are(model: str, how: str) -> None:
    if MODELS[model].pretrained and how != "default":
        with pytest.raises(
            ValueError, match=rf"^initialisation must be default for {model}, .* pretrained, but is {how}\.$"
        ):
            TrainConfig(model=model, initialisation=how)
    else:
        assert TrainConfig(model=model, initialisation=how).initialisation == how


def test_what_is_not_asked_for_is_off() -> None:
    config = TrainConfig()
    off = ("l1", "clip_norm", "ema", "stop_patience", "warmup_epochs", "mixup", "cutmix")
    assert [getattr(config, name) for name in off] == [0] * len(off)
    assert config.initialisation == "default"


def test_settings_of_an_older_file_that_lacks_the_newer_ones_are_read() -> None:
    newer = ("initialisation", "l1", "clip_norm", "ema", "stop_patience", "warmup_epochs", "decay", "mixup", "cutmix")
    old = {name: value for name, value in json.loads(TrainConfig().to_json()).items() if name not in newer}
    assert TrainConfig.from_json(json.dumps(old)) == TrainConfig()


@pytest.mark.parametrize("model", MODELS)
def test_dropout_left_out_is_the_published_rate(model: str) -> None:
    assert TrainConfig(model=model).dropout == MODELS[model].dropout
    assert TrainConfig(model=model, dropout=None).dropout == MODELS[model].dropout
    assert TrainConfig(model=model, dropout=0.3).dropout == 0.3


def test_no_dropout_is_not_the_published_rate() -> None:
    assert MODELS["guide_cnn_optimised"].dropout == 0.5
    assert TrainConfig(model="guide_cnn_optimised", dropout=0.0).dropout == 0.0
    assert TrainConfig(model="guide_cnn_optimised", dropout=0).dropout == 0.0


def test_settings_survive_json() -> None:
    config = TrainConfig(
        data="/a folder/ünï", model="three_conv", width=0.1 + 0.2, dropout=0.4, nesterov=False, learning_rate=1 / 3
    )
    assert TrainConfig.from_json(config.to_json()) == config


@pytest.mark.parametrize("name", FIELDS)
def test_every_single_setting_survives_json(name: str) -> None:
    meta, (plain, _) = FIELDS[name].metadata, FIELD_TYPES[name]
    usual = getattr(TrainConfig(), name)
    if meta["choices"]:
        other = next(choice for choice in meta["choices"] if choice != usual)
    elif plain is bool:
        other = not usual
    elif plain is str:
        other = "something else"
    else:
        other = plain(meta["low"] if meta["high"] == usual else 12_345 if meta["high"] is None else meta["high"])
    config = TrainConfig.from_values({name: other})
    assert getattr(TrainConfig.from_json(config.to_json()), name) == other != usual


def test_json_says_its_version_and_every_setting() -> None:
    values = json.loads(TrainConfig().to_json())
    assert values.pop("schema_version") == SCHEMA_VERSION
    assert values == dataclasses.asdict(TrainConfig())


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ({"schema_version": 2}, "The settings have schema version 2; this program reads version 1."),
        ({"schema_version": None}, "The settings have schema version None; this program reads version 1."),
        ({"lerning_rate": 0.1}, "There is no setting 'lerning_rate'; did you mean 'learning_rate'?"),
        ({"epochs": 0}, "epochs must be at least 1, but is 0."),
    ],
)
def test_a_file_of_another_version_or_with_other_settings_is_refused(change: dict[str, Any], sentence: str) -> None:
    text = json.dumps({**json.loads(TrainConfig().to_json()), **change})
    with pytest.raises(ValueError, match=r"^(The settings|There|epochs)") as caught:
        TrainConfig.from_json(text)
    assert str(caught.value) == sentence


@pytest.mark.parametrize(
    ("text", "words"), [("", "not valid JSON"), ("{", "not valid JSON"), ("[1]", "must be a JSON object")]
)
def test_what_is_not_a_json_object_is_refused(text: str, words: str) -> None:
    with pytest.raises(ValueError, match=r"^The settings (are|must be) .*\.$") as caught:
        TrainConfig.from_json(text)
    assert words in str(caught.value)


def test_a_setting_cannot_be_changed_afterwards() -> None:
    with pytest.raises(dataclasses.FrozenInstanceError):
        TrainConfig().epochs = 3  # type: ignore[misc]


@pytest.mark.parametrize("name", FIELDS)
def test_every_setting_says_what_it_is_for(name: str) -> None:
    meta = FIELDS[name].metadata
    assert meta["help"].endswith(".")
    assert meta["group"] in GROUPS
    assert meta["low"] is None or FIELD_TYPES[name][0] in (int, float)


@pytest.mark.parametrize(
    ("name", "where", "elsewhere"),
    [
        ("momentum", {"optimizer": "sgd"}, {"optimizer": "adam"}),
        ("momentum", {"optimizer": "muon"}, {"optimizer": "adamw"}),
        ("momentum", {"optimizer": "rmsprop"}, {"optimizer": "adagrad"}),
        ("nesterov", {"optimizer": "sgd"}, {"optimizer": "adamw"}),
        ("nesterov", {"optimizer": "muon"}, {"optimizer": "rmsprop"}),
        ("fixed_norm", {"optimizer": "muon"}, {"optimizer": "sgd"}),
        ("warmup_fraction", {"schedule": "one_cycle"}, {"schedule": "cosine"}),
        ("warmup_epochs", {"schedule": "cosine"}, {"schedule": "one_cycle"}),
        ("decay", {"schedule": "exponential"}, {"schedule": "step"}),
        ("step_epochs", {"schedule": "step"}, {"schedule": "plateau"}),
        ("patience", {"schedule": "plateau"}, {"schedule": "step"}),
        ("temperature", {"objective": "simclr"}, {"objective": "classify"}),
        ("frozen", {"objective": "classify"}, {"objective": "simclr"}),
        ("mixup", {"objective": "classify"}, {"objective": "simclr"}),
        ("fold", {"folds": 2}, {"folds": 0}),
        ("validation_fraction", {"folds": 0}, {"folds": 5}),
    ],
)
def test_a_setting_knows_where_it_has_an_effect(name: str, where: dict[str, Any], elsewhere: dict[str, Any]) -> None:
    assert TrainConfig.from_values(where).used(name)
    assert not TrainConfig.from_values(elsewhere).used(name)


def test_one_setting_may_have_an_effect_in_several_places() -> None:
    used = {s for s in FIELDS["schedule"].metadata["choices"] if TrainConfig(schedule=s).used("gamma")}
    assert used == {"step", "plateau"}


NO_AUGMENTATION = {"flip": 0.0, "crop_padding": 0, "rotation": 0.0, "cutout": 0}
ADAM = {"optimizer": "adam", "learning_rate": 0.001, "weight_decay": 0.0, "schedule": "constant"}

PUBLISHED: dict[str, dict[str, Any]] = {
    # Recipe 1: Adam 0.001, batch 64, 5 epochs, 0.5 and 0.5, flip and a crop of 32 with padding 4.
    "transfer": {
        **NO_AUGMENTATION,
        **ADAM,
        "model": "resnet18_transfer",
        "width": 1.0,
        "batch_size": 64,
        "epochs": 5,
        "normalisation": "half",
        "flip": 0.5,
        "crop_padding": 4,
        "label_smoothing": 0.0,
    },
    # Recipe 2: one convolution 3 to 16, plain SGD, mean and deviation, nothing augmented, no dropout.
    "single_conv": {
        **NO_AUGMENTATION,
        "model": "single_conv",
        "width": 1.0,
        "dropout": 0.0,
        "optimizer": "sgd",
        "nesterov": False,
        "weight_decay": 0.0,
        "schedule": "constant",
        "normalisation": "statistics",
        "label_smoothing": 0.0,
    },
    # Recipe 3: flip, 15 degrees, 0.5 and 0.5, 80/20, Adam 0.001 with weight decay 1e-4, plateau with patience 3.
    "guide_cnn": {
        **NO_AUGMENTATION,
        **ADAM,
        "model": "guide_cnn",
        "width": 1.0,
        "dropout": 0.0,
        "weight_decay": 1e-4,
        "schedule": "plateau",
        "patience": 3,
        "gamma": 0.1,
        "epochs": 10,
        "normalisation": "half",
        "flip": 0.5,
        "rotation": 15.0,
        "validation_fraction": 0.2,
        "label_smoothing": 0.0,
    },
    # Recipe 4: pixels in [0, 1], Adam with its defaults, batch 32, 10 epochs; cured by dropout 0.4 and 15 epochs.
    "three_conv": {
        **NO_AUGMENTATION,
        **ADAM,
        "model": "three_conv",
        "width": 1.0,
        "dropout": 0.0,
        "batch_size": 32,
        "epochs": 10,
        "normalisation": "unit",
        "label_smoothing": 0.0,
    },
}
PUBLISHED["guide_cnn_optimised"] = {**PUBLISHED["guide_cnn"], "model": "guide_cnn_optimised", "dropout": 0.5}
PUBLISHED["three_conv_dropout"] = {**PUBLISHED["three_conv"], "dropout": 0.4, "epochs": 15}


@pytest.mark.parametrize(
    ("recipe", "name", "value"), [(r, name, value) for r, values in PUBLISHED.items() for name, value in values.items()]
)
def test_a_recipe_is_the_published_system(recipe: str, name: str, value: Any) -> None:
    config = TrainConfig.from_values(RECIPES[recipe].settings)
    assert config.used(name)
    assert getattr(config, name) == value


def test_every_recipe_is_valid_and_describes_itself() -> None:
    assert set(PUBLISHED) < set(RECIPES)
    for recipe in RECIPES.values():
        TrainConfig.from_values(recipe.settings)
        assert recipe.title
        assert recipe.summary.endswith(".")
        assert recipe.source


@pytest.mark.parametrize(
    ("values", "said"),
    [
        ({"early_size": 8}, "early_size must be 0 or at least 12 pixels, but is 8."),
        (
            {"early_size": 16, "model": "three_conv"},
            "early_size must be 0 for three_conv, which takes images of one size only, but is 16.",
        ),
    ],
)
def test_smaller_images_that_cannot_be_are_refused(values, said):
    with pytest.raises(ValueError, match=re.escape(said)):
        TrainConfig(**values)


@pytest.mark.parametrize(
    ("name", "value", "strength", "done"),
    [
        ("flip", 0.5, 2.0, 0.5),
        ("flip", 0.2, 2.0, 0.4),
        ("flip", 0.4, 2.0, 0.5),
        ("flip", 0.8, 2.0, 0.8),
        ("flip", 0.8, 0.5, 0.4),
        ("crop_padding", 3, 0.5, 2),
        ("crop_padding", 12, 2.0, 16),
        ("cutout", 5, 0.0, 0),
        ("rotation", 15.0, 1.5, 22.5),
        ("rotation", 120.0, 2.0, 180.0),
        ("mixup", 1.5, 2.0, 2.0),
        ("translation", 0.1, 0.5, 0.05),
        ("erasing", 0.4, 2.0, 0.8),
        ("policy_probability", 1.0, 0.5, 0.5),
        ("policy", "autoaugment", 0.5, "autoaugment"),
        ("rotation_probability", 0.5, 2.0, 0.5),
        ("erasing_to", 0.4, 2.0, 0.4),
    ],
)
def test_an_augmentation_is_done_as_strongly_as_asked_within_its_bounds(
    name: str, value: float, strength: float, done: float
) -> None:
    config = TrainConfig.from_values({name: value, "augmentation_strength": strength})
    assert config.amount(name) == pytest.approx(done)
    assert type(config.amount(name)) is type(value)
    assert TrainConfig.from_values({name: value}).amount(name) == value


def test_erased_areas_from_more_than_they_go_to_are_refused() -> None:
    with pytest.raises(ValueError, match=r"^erasing_from must be at most erasing_to, which is 0\.1, but is 0\.2\.$"):
        TrainConfig(erasing_from=0.2, erasing_to=0.1)
