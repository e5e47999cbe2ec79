"""What a run is asked to do: one flat, frozen, checked set of settings, and the published recipes."""

from __future__ import annotations

import dataclasses
import difflib
import json
import math
import types
import typing
from collections.abc import Container, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

SCHEMA_VERSION = 1

BEGINS_ANEW = ("objective", "frozen")
"""A fork with another one of these is a training of its own: it takes the weights and begins at epoch 0."""

SMALLEST_EARLY_SIZE = 12
"""Pixels; of less, three poolings leave nothing."""

GROUPS = ("Data", "Model", "Optimiser", "Learning rate", "Augmentation", "Machine")

FLIPS = ("random", "alternating")
"""Which images are mirrored in an epoch: any by chance, or those that were not in the one before."""

PADDINGS = ("constant", "reflect")
"""What padding shows, by torchvision's names: black, or the image mirrored at its border."""

POLICIES = ("none", "randaugment", "trivialaugment", "autoaugment")

STRONGEST_MAGNITUDE, MOST_OPERATIONS = 30, 4
"""Of RandAugment, whose magnitudes are counted in steps from 0 as in torchvision."""


@dataclass(frozen=True)
class AnyBut:
    """All values but one, with which a transform does nothing."""

    value: Any

    def __contains__(self, value: object) -> bool:
        return value != self.value


@dataclass(frozen=True)
class ModelCard:
    """What can be said of a model without importing torch."""

    summary: str
    dropout: float
    """Dropout rate of the published model, fraction in [0, 1)."""
    pretrained: bool = False
    fixed_size: bool = False
    """Whether it takes images of 32 pixels only."""


MODELS: dict[str, ModelCard] = {
    "resnet9": ModelCard(
        "Nine layers with two residual blocks; the usual fast and accurate network for 32 pixels.", 0.0
    ),
    "airbench": ModelCard(
        "A whitening layer and three residual blocks of three convolutions each, for longer trainings.", 0.0
    ),
    "airbench94": ModelCard(
        "A whitening layer and six convolutions; of all networks here the quickest to a good accuracy.", 0.0
    ),
    "resnet18": ModelCard("ResNet-18 with a 3x3 stem and no first pooling, as is usual for 32 pixels.", 0.0),
    "resnet18_transfer": ModelCard("ResNet-18 pretrained on ImageNet, fed images enlarged to 224 pixels.", 0.0, True),
    "mobilenet_v2": ModelCard("MobileNetV2: inverted residual blocks of depthwise convolutions, made for phones.", 0.2),
    "shufflenet_v2": ModelCard("ShuffleNetV2: channels split, worked on and shuffled, made for speed on phones.", 0.0),
    "vit": ModelCard(
        "A small vision transformer: patches of 4x4 pixels, six blocks of attention, no convolution between them.", 0.0
    ),
    "conv_transformer": ModelCard(
        "Three convolutions, then four blocks of attention: local features first, the whole image after.", 0.0
    ),
    "three_conv": ModelCard(
        "Three convolutions and two linear layers, 122,570 parameters; the over-fitting lesson.", 0.0, fixed_size=True
    ),
    "guide_cnn": ModelCard("Two convolutions and two linear layers; a first complete network.", 0.0, fixed_size=True),
    "guide_cnn_optimised": ModelCard("The guide CNN with batch norm and dropout.", 0.5, fixed_size=True),
    "single_conv": ModelCard(
        "One convolution and one linear layer; the smallest network worth looking at.", 0.0, fixed_size=True
    ),
}


def setting(
    default: Any,
    help: str,
    group: str,
    *,
    low: float | None = None,
    high: float | None = None,
    unit: str = "",
    choices: Iterable[str] | None = None,
    log: bool = False,
    live: bool = False,
    used_by: Mapping[str, Container[Any]] | None = None,
    label: str = "",
) -> Any:
    """A field of TrainConfig with what the form, the command line and the README say of it.

    Args:
        low: Smallest allowed value, included.
        high: Largest allowed value, included.
        log: The value is best chosen on a logarithmic scale.
        live: The value can be changed while a run trains.
        used_by: Where the setting has an effect, e.g. {"optimizer": ("sgd",)}; elsewhere it is ignored.
        label: What a form calls it, where its name does not say it well.
    """
    metadata = {
        "help": help,
        "group": group,
        "low": low,
        "high": high,
        "unit": unit,
        "choices": tuple(choices) if choices else None,
        "log": log,
        "live": live,
        "used_by": dict(used_by or {}),
        "label": label,
    }
    return field(default=default, metadata=metadata)


def probability(of: str, what: str, neutral: Any = 0, label: str = "") -> Any:
    """A field with the probability of a transform whose strength is another setting.

    Args:
        of: The name of that setting.
        what: What happens to a training image.
        neutral: Of that setting, with which nothing happens.
        label: As for `setting`.
    """
    return setting(
        1.0,
        f"Probability that a training image is {what}.",
        "Augmentation",
        low=0,
        high=1,
        live=True,
        used_by={of: AnyBut(neutral)},
        label=label or f"Probability of {of.replace('_', ' ')}",
    )


@dataclass(frozen=True)
class TrainConfig:
    """Everything that decides a training, checked on construction.

    Raises:
        ValueError: A setting is out of its bounds or not one of its choices; the message names the setting, the
            bound, the value and, for a misspelt name, the nearest known one.
        TypeError: A setting has the wrong type.
    """

    data: str = setting(
        "",
        "Path of the data set: CIFAR-10 batches or archive, Parquet files, a folder of images, or cartoon10, which is "
        "drawn by code and taken where no other data is there.",
        "Data",
    )
    train_images: int = setting(
        0,
        "Use only this many training images, the same share of every class; 0 uses all.",
        "Data",
        low=0,
        unit="images",
        label="Training images",
    )
    classes: str = setting(
        "",
        "Names of the classes to train on and to tell apart, separated by commas; empty for all.",
        "Data",
    )
    only_selection: str = setting(
        "",
        "Train on the images of this selection alone: a kept one's name, or a text as in the URL of the dashboard. "
        "Validation images stay the same.",
        "Data",
    )
    without_selection: str = setting(
        "",
        "Train without the images of this selection, for example suspected label errors; otherwise likewise.",
        "Data",
    )
    imbalance: str = setting(
        "none",
        "Keep the fewer training images of a class the later it comes, by a constant factor from class to class "
        "(exponential), or few of the second half of the classes (step). Validation images stay the same.",
        "Data",
        choices=("none", "exponential", "step"),
    )
    imbalance_ratio: float = setting(
        10.0,
        "How many times rarer the rarest class becomes.",
        "Data",
        low=1,
        high=1000,
        unit="times",
        log=True,
        used_by={"imbalance": ("exponential", "step")},
    )
    folds: int = setting(
        0,
        "In how many parts the training split is cut for cross-validation, stratified by class and always the same. "
        "A run validates on one of them and trains on the others. 0 holds out a share instead.",
        "Data",
        low=0,
        high=10,
    )
    fold: int = setting(
        0,
        "The part that validates, counted from 0.",
        "Data",
        low=0,
        high=9,
        used_by={"folds": tuple(range(2, 11))},
    )
    validation_fraction: float = setting(
        0.1,
        "Share of the training split held out, stratified by class, to choose the best checkpoint. "
        "The test split is never used for that.",
        "Data",
        low=0.02,
        high=0.5,
        unit="fraction",
        used_by={"folds": (0,)},
    )
    normalisation: str = setting(
        "statistics",
        "How pixels are scaled: by mean and deviation of the training split (statistics), "
        "by 0.5 and 0.5 to [-1, 1] (half), or only to [0, 1] (unit).",
        "Data",
        choices=("statistics", "half", "unit"),
    )

    model: str = setting("resnet9", "The network to train.", "Model", choices=MODELS)
    width: float = setting(
        1.0, "Number of channels relative to the published network.", "Model", low=0.125, high=4, unit="times"
    )
    dropout: float | None = setting(
        None,
        "Share of the features before the output that is dropped in each training step; "
        "left out, the published rate of the model.",
        "Model",
        low=0,
        high=0.9,
        unit="fraction",
        live=True,
    )

    initialisation: str = setting(
        "default",
        "How the weights of convolutions and linear layers begin: as torch does (default), by He, by Xavier, "
        "orthogonal, or with convolutions that at first pass their input on (dirac).",
        "Model",
        choices=("default", "he", "xavier", "orthogonal", "dirac"),
    )

    objective: str = setting(
        "classify",
        "What is learned: to tell the classes apart (classify), or without labels to recognise two augmented views of "
        "one image (SimCLR), from which a fork can learn the classes. SimCLR is validated by a linear classifier that "
        "is fitted to the features after each epoch.",
        "Model",
        choices=("classify", "simclr"),
    )
    temperature: float = setting(
        0.5,
        "What the similarities of views are divided by: the smaller, the more the most similar images count.",
        "Model",
        low=0.05,
        high=2,
        used_by={"objective": ("simclr",)},
    )
    frozen: bool = setting(
        False,
        "Keep all layers before the output as they are and train the output alone: a linear probe of pretrained "
        "weights.",
        "Model",
        used_by={"objective": ("classify",)},
        label="Frozen body",
    )

    epochs: int = setting(
        10, "How often the network sees the whole training split.", "Optimiser", low=1, high=1000, live=True
    )
    batch_size: int = setting(
        128, "Images in one training step.", "Optimiser", low=2, high=4096, unit="images", log=True
    )
    optimizer: str = setting(
        "sgd",
        "The rule that turns gradients into steps.",
        "Optimiser",
        choices=("sgd", "adam", "adamw", "adagrad", "rmsprop", "muon"),
        label="Optimiser",
    )
    momentum: float = setting(
        0.9,
        "Share of the last step that is carried into the next one.",
        "Optimiser",
        low=0,
        high=0.999,
        used_by={"optimizer": ("sgd", "rmsprop", "muon")},
        live=True,
    )
    nesterov: bool = setting(
        True, "Look ahead along the momentum (Nesterov).", "Optimiser", used_by={"optimizer": ("sgd", "muon")}
    )
    fixed_norm: bool = setting(
        False,
        "Let hidden weights keep the norm they begin with; the learning rate is then the share of it by which a step "
        "turns them.",
        "Optimiser",
        used_by={"optimizer": ("muon",)},
    )
    weight_decay: float = setting(
        5e-4,
        "Strength of the pull of the weights towards zero (L2).",
        "Optimiser",
        low=0,
        high=0.1,
        log=True,
        live=True,
    )
    l1: float = setting(
        0.0,
        "Strength of a constant pull of every weight towards zero (L1), which makes small ones vanish.",
        "Optimiser",
        low=0,
        high=0.01,
        log=True,
        live=True,
        label="L1 strength",
    )
    clip_norm: float = setting(
        0.0,
        "Longest gradient that is followed as it is; longer ones are shortened to it. 0 clips none.",
        "Optimiser",
        low=0,
        high=100,
        log=True,
        live=True,
    )
    ema: float = setting(
        0.0,
        "Share of the old average that each step keeps in a running average of the weights, which is then what is "
        "validated and kept as best. 0 averages nothing.",
        "Optimiser",
        low=0,
        high=0.9999,
        unit="fraction",
        label="EMA of the weights",
    )
    stop_patience: int = setting(
        0,
        "Epochs without a better validation loss after which the training stops by itself. 0 lets it run to the end.",
        "Optimiser",
        low=0,
        high=100,
        unit="epochs",
        live=True,
        label="Early-stopping patience",
    )
    label_smoothing: float = setting(
        0.0,
        "Share of the target probability that is spread over all classes.",
        "Optimiser",
        low=0,
        high=0.5,
        used_by={"objective": ("classify",)},
        live=True,
    )

    learning_rate: float = setting(
        0.1, "Size of the steps; with one-cycle its peak.", "Learning rate", low=1e-6, high=10, log=True, live=True
    )
    schedule: str = setting(
        "one_cycle",
        "How the learning rate changes during the training.",
        "Learning rate",
        choices=("constant", "step", "linear", "cosine", "one_cycle", "plateau", "exponential"),
    )
    warmup_fraction: float = setting(
        0.25,
        "Share of the training during which the learning rate rises to its peak.",
        "Learning rate",
        low=0,
        high=0.9,
        used_by={"schedule": ("one_cycle",)},
    )
    warmup_epochs: float = setting(
        0.0,
        "Epochs during which the learning rate rises to what the schedule says.",
        "Learning rate",
        low=0,
        high=50,
        unit="epochs",
        used_by={"schedule": ("constant", "step", "linear", "cosine", "plateau", "exponential")},
    )
    step_epochs: int = setting(
        30,
        "Epochs between two reductions of the learning rate.",
        "Learning rate",
        low=1,
        high=1000,
        unit="epochs",
        used_by={"schedule": ("step",)},
        label="Epochs between reductions",
    )
    patience: int = setting(
        3,
        "Epochs without a better validation loss after which the learning rate is reduced.",
        "Learning rate",
        low=0,
        high=100,
        unit="epochs",
        used_by={"schedule": ("plateau",)},
    )
    gamma: float = setting(
        0.1,
        "Factor of one reduction of the learning rate.",
        "Learning rate",
        low=0.01,
        high=1,
        used_by={"schedule": ("step", "plateau")},
        label="Reduction factor",
    )

    decay: float = setting(
        0.95,
        "Factor of the learning rate from one epoch to the next.",
        "Learning rate",
        low=0.1,
        high=1,
        used_by={"schedule": ("exponential",)},
        label="Decay per epoch",
    )

    augmentation_strength: float = setting(
        1.0,
        "Factor of all of it below, from none to twice as much. Pixels are rounded; flips and grey scale go no further "
        "than an even chance, beyond which they would be less random. Of erasing and of a policy it is the "
        "probability that changes.",
        "Augmentation",
        low=0,
        high=2,
        unit="times",
        live=True,
    )
    flip: float = setting(
        0.5, "Probability that a training image is mirrored left to right.", "Augmentation", low=0, high=1, live=True
    )
    flip_mode: str = setting(
        "random",
        "Which images are mirrored in an epoch: any by chance (random), or those that were not in the epoch before "
        "(alternating; Jordan, 2024), so that two epochs show both sides of each.",
        "Augmentation",
        choices=FLIPS,
        live=True,
        used_by={"flip": AnyBut(0), "objective": ("classify",)},
    )
    crop_padding: int = setting(
        4,
        "Pixels added on every side before a random crop back to the size.",
        "Augmentation",
        low=0,
        high=16,
        unit="pixels",
        live=True,
    )
    crop_padding_mode: str = setting(
        "constant",
        "What the added pixels show: black (constant), or the image mirrored at its border (reflect).",
        "Augmentation",
        choices=PADDINGS,
        live=True,
        used_by={"crop_padding": AnyBut(0)},
    )
    crop_padding_probability: float = probability("crop_padding", "cropped so", label="Probability of a crop")
    policy: str = setting(
        "none",
        "A published choice of operations, of which each image gets other ones: RandAugment (any, at one magnitude), "
        "TrivialAugment (a single one, at any magnitude) or the policy that AutoAugment found for CIFAR-10.",
        "Augmentation",
        choices=POLICIES,
        live=True,
    )
    policy_operations: int = setting(
        2,
        "How many operations an image gets, one after the other.",
        "Augmentation",
        low=1,
        high=MOST_OPERATIONS,
        live=True,
        used_by={"policy": ("randaugment",)},
        label="Operations of the policy",
    )
    policy_magnitude: int = setting(
        9,
        "How strong the operations are: a turn by 30 degrees, for instance, at the strongest.",
        "Augmentation",
        low=0,
        high=STRONGEST_MAGNITUDE,
        live=True,
        used_by={"policy": ("randaugment",)},
        label="Magnitude of the policy",
    )
    policy_probability: float = probability(
        "policy", "changed by the policy", "none", label="Probability of the policy"
    )
    rotation: float = setting(
        0.0,
        "Largest angle of a random rotation to either side.",
        "Augmentation",
        low=0,
        high=180,
        unit="degrees",
        live=True,
    )
    rotation_probability: float = probability("rotation", "rotated")
    translation: float = setting(
        0.0,
        "Largest random shift along each side, as a share of it; what comes in is black.",
        "Augmentation",
        low=0,
        high=0.5,
        unit="fraction",
        live=True,
    )
    translation_probability: float = probability("translation", "shifted")
    scaling: float = setting(
        0.0,
        "Largest random change of the size about the centre: 0.2 is from 0.8 to 1.2 times the size.",
        "Augmentation",
        low=0,
        high=0.9,
        live=True,
    )
    scaling_probability: float = probability("scaling", "made larger or smaller")
    crop_scale: float = setting(
        1.0,
        "Smallest share of the image's area that is cut out at a random place, in a random shape, and enlarged to the "
        "full size (random resized crop). 1 cuts none.",
        "Augmentation",
        low=0.05,
        high=1,
        unit="fraction",
        live=True,
        label="Resized crop from",
    )
    crop_scale_probability: float = probability(
        "crop_scale", "cropped and enlarged", 1, label="Probability of a resized crop"
    )
    colour_jitter: float = setting(
        0.0,
        "Strength of random changes of brightness, contrast, saturation and hue.",
        "Augmentation",
        low=0,
        high=1,
        live=True,
    )
    colour_jitter_probability: float = probability("colour_jitter", "changed in its colours")
    grey: float = setting(
        0.0,
        "Probability that a training image loses its colours.",
        "Augmentation",
        low=0,
        high=1,
        live=True,
        label="Grey scale",
    )
    blur: float = setting(
        0.0,
        "Largest width (sigma) of a random Gaussian blur.",
        "Augmentation",
        low=0,
        high=3,
        unit="pixels",
        live=True,
    )
    blur_probability: float = probability("blur", "blurred")
    cutout: int = setting(
        0,
        "Side of a square that is blanked at a random place.",
        "Augmentation",
        low=0,
        high=32,
        unit="pixels",
        live=True,
    )
    cutout_probability: float = probability("cutout", "blanked in a square")
    erasing: float = setting(
        0.0,
        "Probability that a rectangle of random size, shape and place is blanked, wholly inside the image (random "
        "erasing).",
        "Augmentation",
        low=0,
        high=1,
        live=True,
        label="Random erasing",
    )
    erasing_from: float = setting(
        0.02,
        "Smallest share of the area that is erased.",
        "Augmentation",
        low=0.01,
        high=0.3,
        unit="fraction",
        live=True,
        used_by={"erasing": AnyBut(0)},
        label="Erased area from",
    )
    erasing_to: float = setting(
        0.33,
        "Largest share of the area that is erased.",
        "Augmentation",
        low=0.02,
        high=1,
        unit="fraction",
        live=True,
        used_by={"erasing": AnyBut(0)},
        label="Erased area to",
    )
    erasing_ratio: float = setting(
        3.3,
        "Most that the longer side of what is erased is as long as the shorter one; 1 erases squares.",
        "Augmentation",
        low=1,
        high=10,
        unit="times",
        live=True,
        used_by={"erasing": AnyBut(0)},
        label="Erased shape up to",
    )
    mixup: float = setting(
        0.0,
        "Evenness of blending two images and their labels (alpha of MixUp): 0 blends none, 1 blends any share.",
        "Augmentation",
        low=0,
        high=2,
        used_by={"objective": ("classify",)},
        live=True,
        label="MixUp",
    )
    cutmix: float = setting(
        0.0,
        "Evenness of pasting a part of one image into another, labels in proportion (alpha of CutMix): 0 pastes none, "
        "1 pastes any size.",
        "Augmentation",
        low=0,
        high=2,
        used_by={"objective": ("classify",)},
        live=True,
        label="CutMix",
    )

    early_size: int = setting(
        0,
        "Height and width to which training images are made smaller in the early part of a training, where detail is "
        "not learned yet and every step is quicker (progressive resizing). 0 trains on the full size throughout.",
        "Augmentation",
        low=0,
        high=32,
        unit="pixels",
    )
    early_share: float = setting(
        0.6,
        "Share of the training that sees the smaller images.",
        "Augmentation",
        low=0,
        high=1,
        unit="fraction",
    )

    seed: int = setting(
        0,
        "Decides initial weights, order and augmentation; the same seed repeats a run.",
        "Machine",
        low=0,
        high=2**31 - 1,
    )
    images_at_once: int = setting(
        0,
        "Images of a step that are computed together; of more parts than one the gradients are added up, which takes "
        "less memory. 0 computes the whole batch at once. Halved by itself where the memory does not suffice. "
        "Batch norm sees one part at a time.",
        "Machine",
        low=0,
        high=4096,
        unit="images",
        live=True,
        used_by={"objective": ("classify",)},
    )
    keep_every: int = setting(
        10,
        "Epochs between weights that are kept beside the best and the last ones, to go back to or to fork from. "
        "0 keeps none; of a long run at most thirty stay, evenly spread.",
        "Machine",
        low=0,
        high=1000,
        unit="epochs",
        label="Keep weights every",
    )
    keep_logits: int = setting(
        50,
        "Room for what the network says of every validation image after each epoch, with which Evaluate goes back to "
        "any of them. Where it is full, only every second, fourth, ... epoch stays. 0 keeps none.",
        "Machine",
        low=0,
        high=10_000,
        unit="MB",
        label="Keep predictions up to",
    )
    device: str = setting(
        "auto",
        "Where to compute; auto takes the fastest that is there.",
        "Machine",
        choices=("auto", "cuda", "mps", "cpu"),
    )
    precision: str = setting(
        "auto",
        "Number format of the convolutions; the weights stay float32. auto takes the fastest that works well.",
        "Machine",
        choices=("auto", "float32", "bfloat16", "float16"),
    )
    compile: bool = setting(
        False,
        "Let torch.compile build kernels for this network first: it can pay in a long training on a GPU; on the CPU it "
        "takes half a minute and gains nothing.",
        "Machine",
        used_by={"objective": ("classify",)},
        label="Compile the network",
    )
    tensorboard: bool = setting(
        False,
        "Write files for TensorBoard too, in the folder `tensorboard` of the run: loss, accuracy, learning rate, "
        "images per second and the filters of the first layer after each epoch.",
        "Machine",
        label="TensorBoard files",
    )
    sync_batchnorm: bool = setting(
        False,
        "Where several processes train together, let batch norm take its statistics over the images of all of them, as "
        "one process would; otherwise each takes its own. Without effect in one process.",
        "Machine",
        label="Synchronised batch norm",
    )

    def __post_init__(self) -> None:
        for name, wanted in FIELD_TYPES.items():
            object.__setattr__(self, name, _checked(name, wanted, getattr(self, name)))
        if self.dropout is None:
            object.__setattr__(self, "dropout", MODELS[self.model].dropout)
        if self.folds == 1:
            raise ValueError("folds must be 0 or at least 2, but is 1.")
        if self.folds and self.fold >= self.folds:
            raise ValueError(f"fold must be below folds, which is {self.folds}, but is {self.fold}.")
        if MODELS[self.model].pretrained and self.width != 1:
            raise ValueError(
                f"width must be 1 for {self.model}, whose pretrained weights have one size, but is {self.width:g}."
            )
        if self.erasing_from > self.erasing_to:
            raise ValueError(
                f"erasing_from must be at most erasing_to, which is {self.erasing_to:g}, but is {self.erasing_from:g}."
            )
        if 0 < self.early_size < SMALLEST_EARLY_SIZE:
            raise ValueError(
                f"early_size must be 0 or at least {SMALLEST_EARLY_SIZE} pixels, but is {self.early_size}."
            )
        if self.early_size and MODELS[self.model].fixed_size:
            raise ValueError(
                f"early_size must be 0 for {self.model}, which takes images of one size only, but is {self.early_size}."
            )
        if MODELS[self.model].pretrained and self.initialisation != "default":
            raise ValueError(
                f"initialisation must be default for {self.model}, whose weights are pretrained, "
                f"but is {self.initialisation}."
            )

    def to_json(self) -> str:
        """The settings as indented JSON with a schema version."""
        return json.dumps({"schema_version": SCHEMA_VERSION, **dataclasses.asdict(self)}, indent=2) + "\n"

    @classmethod
    def from_json(cls, text: str) -> TrainConfig:
        """Read what `to_json` wrote; unknown names and versions are refused.

        Raises:
            ValueError: The text is not JSON, not of a known version, or holds an unknown or a bad setting.
        """
        try:
            values = json.loads(text)
        except json.JSONDecodeError as error:
            raise ValueError(f"The settings are not valid JSON: {error}.") from None
        if not isinstance(values, dict):
            raise ValueError("The settings must be a JSON object.")
        version = values.pop("schema_version", None)
        if version != SCHEMA_VERSION:
            raise ValueError(
                f"The settings have schema version {version}; this program reads version {SCHEMA_VERSION}."
            )
        return cls.from_values(values)

    @classmethod
    def from_values(cls, values: Mapping[str, Any]) -> TrainConfig:
        """Settings by name; what is not named keeps its default.

        Raises:
            ValueError: A name is unknown (the nearest known one is suggested) or a value is bad.
        """
        for name in values:
            if name not in FIELD_TYPES:
                raise ValueError(f"There is no setting {name!r}{nearest(name, FIELD_TYPES)}")
        return cls(**values)

    def used(self, name: str) -> bool:
        """Whether the setting has an effect beside the other settings, e.g. momentum only with SGD."""
        used_by = FIELDS[name].metadata["used_by"]
        return all(getattr(self, other) in values for other, values in used_by.items())

    def amount(self, name: str) -> Any:
        """An augmentation as it is done: the setting times `augmentation_strength`, within its bounds.

        Pixels are rounded to whole ones, and of `crop_scale` it is the share that is cut away that grows. A strength
        above 1 takes the probability of a flip or of grey no further than to 0.5, where it is most random, or than the
        setting itself. What only describes another setting stays as it is.
        """
        value, strength = getattr(self, name), self.augmentation_strength
        if strength == 1 or name not in SCALED:
            return value
        low, high = FIELDS[name].metadata["low"], FIELDS[name].metadata["high"]
        if name in ("flip", "grey"):
            high = max(value, 0.5)
        scaled = 1 - (1 - value) * strength if name == "crop_scale" else value * strength
        plain = FIELD_TYPES[name][0]
        return plain(min(max(scaled + (0.5 if plain is int else 0), low), high))

    def changed(self, values: Mapping[str, Any]) -> TrainConfig:
        """The settings with some changed as a run that trains can change them.

        Raises:
            ValueError: A setting is unknown, cannot be changed while a run trains, or its value is bad.
        """
        for name in values:
            if name not in FIELD_TYPES:
                raise ValueError(f"There is no setting {name!r}{nearest(name, FIELD_TYPES)}")
            if not FIELDS[name].metadata["live"]:
                raise ValueError(f"{name} cannot be changed while a run trains; start or fork a run for that.")
        return dataclasses.replace(self, **values)


FIELDS = {f.name: f for f in dataclasses.fields(TrainConfig)}

SCALED = (
    *("flip", "crop_padding", "policy_probability", "rotation", "translation", "scaling", "crop_scale"),
    *("colour_jitter", "grey", "blur", "cutout", "erasing", "mixup", "cutmix"),
)
"""What `augmentation_strength` is a factor of."""


def label(name: str) -> str:
    """What people read in place of a setting's name, with its unit where that says something more."""
    about = FIELDS[name].metadata
    said = about["label"] or name.replace("_", " ").capitalize()
    unit = about["unit"]
    known = unit in ("", "fraction", "times") or unit in said.lower()
    return said if known else f"{said} ({unit})"


def _plain_type(hint: Any) -> tuple[type, bool]:
    """The type of a field and whether None is allowed."""
    if isinstance(hint, types.UnionType):
        plain = next(t for t in typing.get_args(hint) if t is not type(None))
        return plain, True
    return hint, False


FIELD_TYPES = {name: _plain_type(hint) for name, hint in typing.get_type_hints(TrainConfig).items()}


def nearest(name: str, known: Iterable[str]) -> str:
    """The end of a sentence about an unknown name."""
    close = difflib.get_close_matches(name, list(known), n=1)
    return f"; did you mean {close[0]!r}?" if close else "."


def _checked(name: str, wanted: tuple[type[Any], bool], value: Any) -> Any:
    plain, optional = wanted
    if value is None and optional:
        return None
    if plain is float and isinstance(value, int) and not isinstance(value, bool):
        value = float(value)
    if type(value) is not plain:
        raise TypeError(f"{name} must be {_type_name(plain)}, but is {value!r}.")
    limits = FIELDS[name].metadata
    choices = limits["choices"]
    if choices and value not in choices:
        raise ValueError(f"{name} must be one of {', '.join(choices)}, but is {value!r}{nearest(value, choices)}")
    if plain in (int, float):
        # "At most 0.5 fraction" is no English.
        unit = f" {limits['unit']}" if limits["unit"] not in ("", "fraction") else ""
        if not math.isfinite(value):
            raise ValueError(f"{name} must be a finite number, but is {value}.")
        if limits["low"] is not None and value < limits["low"]:
            raise ValueError(f"{name} must be at least {_exact(limits['low'])}{unit}, but is {_exact(value)}.")
        if limits["high"] is not None and value > limits["high"]:
            raise ValueError(f"{name} must be at most {_exact(limits['high'])}{unit}, but is {_exact(value)}.")
    return value


def _exact(number: float) -> str:
    """All digits, so that a value just outside a bound does not look like the bound."""
    return str(int(number)) if float(number).is_integer() else repr(number)


def _type_name(plain: type) -> str:
    return {int: "a whole number", float: "a number", bool: "true or false", str: "text"}[plain]


@dataclass(frozen=True)
class Recipe:
    """A named set of settings."""

    title: str
    summary: str
    source: str
    settings: dict[str, Any]
    differs: str = ""
    """What is not as published, in sentences; empty where nothing is known to be."""


_PLAIN = {"flip": 0.0, "crop_padding": 0, "rotation": 0.0, "cutout": 0, "label_smoothing": 0.0}
_ADAM = {"optimizer": "adam", "learning_rate": 0.001, "weight_decay": 0.0, "schedule": "constant"}
_SPRINT = {
    "model": "airbench94",
    "initialisation": "dirac",
    "optimizer": "muon",
    "fixed_norm": True,
    "momentum": 0.6,
    "learning_rate": 0.24,
    "schedule": "linear",
    "weight_decay": 0.0,
    "batch_size": 500,
    "label_smoothing": 0.2,
    "crop_padding": 2,
    "early_size": 24,
    "early_share": 0.6,
}

RECIPES: dict[str, Recipe] = {
    "quick": Recipe(
        "Quick start",
        "A small network of six convolutions: a good result in a minute or two, without a GPU too.",
        "after Jordan (2024), airbench",
        # So few epochs show no image often enough for shifts to help, and gain from more and smaller steps.
        {
            **_SPRINT,
            "width": 0.375,
            "epochs": 2,
            "batch_size": 250,
            "learning_rate": 0.17,
            "label_smoothing": 0.1,
            "crop_padding": 0,
            "early_share": 0.5,
        },
    ),
    "good": Recipe(
        "Good in minutes",
        "The same network at its published width: as accurate as a laptop makes it in about ten minutes.",
        "after Jordan (2024), airbench",
        {
            **_SPRINT,
            "learning_rate": 0.15,
            "epochs": 7,
            "flip_mode": "alternating",
            "crop_padding_mode": "reflect",
            "early_share": 0.25,
        },
    ),
    "best": Recipe(
        "As good as patience allows",
        "Trained for longer on images that are changed more, for half an hour, or minutes on a GPU.",
        "after Jordan (2024), airbench",
        # So many epochs learn the training images by heart, unless no two show an image alike.
        {
            **_SPRINT,
            "learning_rate": 0.15,
            "epochs": 20,
            "flip_mode": "alternating",
            "crop_padding": 3,
            "crop_padding_mode": "reflect",
            "cutout": 8,
            "early_share": 0.25,
        },
    ),
    "resnet9": Recipe(
        "ResNet-9, one-cycle",
        "The full network, for a GPU or a patient afternoon.",
        "He et al. (2016), Smith and Topin (2018)",
        {},
    ),
    "vit": Recipe(
        "Vision transformer",
        "Nothing tells it that neighbours belong together, so it needs more images and epochs for the same accuracy.",
        "Dosovitskiy et al. (2021), Beyer et al. (2022)",
        {
            "model": "vit",
            "optimizer": "adamw",
            "learning_rate": 0.001,
            "weight_decay": 0.05,
            "schedule": "cosine",
            "warmup_epochs": 3.0,
            "epochs": 50,
            "clip_norm": 1.0,
            "label_smoothing": 0.1,
            "cutmix": 1.0,
        },
    ),
    "simclr": Recipe(
        "SimCLR, without labels",
        "Learns what makes two views of one image alike; fork it to classify, with a frozen body or a free one.",
        "Chen et al. (2020)",
        {
            "objective": "simclr",
            "model": "resnet9",
            "width": 0.5,
            "optimizer": "adam",
            "learning_rate": 0.001,
            "weight_decay": 0.0,
            "schedule": "cosine",
            "warmup_epochs": 1.0,
            "epochs": 50,
            "batch_size": 256,
            "crop_padding": 0,
            "crop_scale": 0.2,
            "colour_jitter": 0.5,
            "grey": 0.2,
        },
    ),
    "transfer": Recipe(
        "Transfer learning at 224 pixels",
        "ResNet-18 with ImageNet weights, all layers trained for five epochs.",
        "published: 90.2 % test accuracy",
        {
            **_PLAIN,
            **_ADAM,
            "model": "resnet18_transfer",
            "batch_size": 64,
            "epochs": 5,
            "normalisation": "half",
            "flip": 0.5,
            "crop_padding": 4,
        },
        "A tenth of the training images is held out for validation; the best weights are kept beside the last ones.",
    ),
    "single_conv": Recipe(
        "One convolution",
        "3 to 16 channels, pooling, one linear layer: what a single layer can do.",
        "published: 60 % test accuracy",
        {
            **_PLAIN,
            "model": "single_conv",
            "optimizer": "sgd",
            "momentum": 0.9,
            "nesterov": False,
            "learning_rate": 0.01,
            "weight_decay": 0.0,
            "schedule": "constant",
            "batch_size": 64,
            "epochs": 10,
        },
        "Its optimiser's learning rate, batch size and epochs are not published; those here are usual ones. A tenth of "
        "the training images is held out for validation.",
    ),
    "guide_cnn": Recipe(
        "Guide CNN",
        "Two convolutions and two linear layers with flips and rotations.",
        "a practice guide, plain version",
        {
            **_PLAIN,
            **_ADAM,
            "model": "guide_cnn",
            "weight_decay": 1e-4,
            "schedule": "plateau",
            "patience": 3,
            "epochs": 10,
            "batch_size": 64,
            "normalisation": "half",
            "flip": 0.5,
            "rotation": 15.0,
            "validation_fraction": 0.2,
        },
        "The held-out fifth is the same share of every class. The best weights are kept beside the last ones.",
    ),
    "guide_cnn_optimised": Recipe(
        "Guide CNN, optimised",
        "The guide CNN with batch norm and dropout.",
        "a practice guide, optimised version",
        {
            **_PLAIN,
            **_ADAM,
            "model": "guide_cnn_optimised",
            "weight_decay": 1e-4,
            "schedule": "plateau",
            "patience": 3,
            "epochs": 10,
            "batch_size": 64,
            "normalisation": "half",
            "flip": 0.5,
            "rotation": 15.0,
            "validation_fraction": 0.2,
        },
        "The held-out fifth is the same share of every class. The best weights are kept beside the last ones.",
    ),
    "three_conv": Recipe(
        "Three conv layers",
        "No regularisation at all: watch it over-fit.",
        "published: 71.17 % test accuracy",
        {
            **_PLAIN,
            **_ADAM,
            "model": "three_conv",
            "dropout": 0.0,
            "batch_size": 32,
            "epochs": 10,
            "normalisation": "unit",
        },
        "A tenth of the training images is held out for validation; the published one trains on all and validates on "
        "the test images.",
    ),
    "three_conv_dropout": Recipe(
        "Three conv layers with dropout",
        "The same network cured by dropout 0.4.",
        "published: 73.29 % test accuracy",
        {
            **_PLAIN,
            **_ADAM,
            "model": "three_conv",
            "dropout": 0.4,
            "batch_size": 32,
            "epochs": 15,
            "normalisation": "unit",
        },
        "A tenth of the training images is held out for validation; the published one trains on all and validates on "
        "the test images.",
    ),
}
