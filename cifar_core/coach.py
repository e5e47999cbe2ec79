"""Fixed rules that read a run's figures and say in plain words what is wrong with it and what to try.

Each rule is a function of rows that says nothing, or one `Advice` with its evidence. Its thresholds are the constants
above it, each with its reason. None speaks before there is evidence of `FEWEST_EPOCHS` epochs, except where the figures
within one epoch are evidence enough.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import fmean
from typing import Any

from cifar_core.config import TrainConfig
from cifar_core.events import PROBED, Inspected

FEWEST_EPOCHS = 3
"""Of two epochs one cannot tell a direction from chance."""

SEVERITIES = ("problem", "warning", "hint")
"""The training is lost without a change; its result will be worse than it could be; something could be better."""


@dataclass(frozen=True)
class Advice:
    """What one rule has found."""

    rule: str
    severity: str
    """One of `SEVERITIES`."""
    sentence: str
    evidence: str
    """The figures behind the sentence."""
    try_this: str


@dataclass(frozen=True)
class Evidence:
    """What the rules read."""

    history: Sequence[dict[str, Any]]
    """As `Run.history` gives it."""
    looks: Sequence[Inspected]
    """As `Run.inspections` gives it."""
    config: TrainConfig
    """The settings in force."""
    classes: Sequence[str]
    validation_images: int = PROBED
    """That are held out."""

    @property
    def epochs(self) -> list[dict[str, Any]]:
        """The rows of whole epochs."""
        return [row for row in self.history if row["whole_epoch"]]

    @property
    def chance_loss(self) -> float:
        """Cross-entropy of saying every class, or without labels every view, is equally probable."""
        if self.config.objective == "simclr":
            return math.log(2 * self.config.batch_size - 1)
        return math.log(max(len(self.classes), 2))

    @property
    def mixes(self) -> bool:
        """Whether it trains on blends or views, whose loss and accuracy say little about single images."""
        return bool(self.config.mixup or self.config.cutmix) or self.config.objective == "simclr"


def probed(validation_images: int) -> str:
    """On which images units are called dead, in words."""
    return (
        f"on {'each' if validation_images <= PROBED else f'some {PROBED}'} of {validation_images:,} validation images"
    )


def advise(
    history: Sequence[dict[str, Any]],
    looks: Sequence[Inspected],
    config: TrainConfig,
    classes: Sequence[str],
    validation_images: int = PROBED,
) -> list[Advice]:
    """All that the rules find, the gravest first.

    Args:
        history: As `Run.history` gives it.
        looks: As `Run.inspections` gives it.
        config: The settings in force.
        classes: Names of the classes.
        validation_images: That are held out.
    """
    evidence = Evidence(history, looks, config, classes, validation_images)
    diverging = rate_diverges(evidence)
    # Where the loss runs away, every other figure is bad too, and for no other reason.
    rules = (rate_too_high, rate_too_low, over_fitting, under_fitting, dead_units, class_stuck, slow_data)
    found = [diverging] if diverging else [advice for rule in rules if (advice := rule(evidence))]
    if any(advice.rule in EXPLAIN_STANDSTILL for advice in found):
        found = [advice for advice in found if advice.rule != "under-fitting"]
    return sorted(found, key=lambda advice: SEVERITIES.index(advice.severity))


EXPLAIN_STANDSTILL = ("rate too high", "rate too low", "dead units")
"""Rules beside which a standstill needs no other reason."""

RISE_TO_DIVERGE = 1.5
"""Times the lowest loss so far. The loss within an epoch swings by a tenth or two; half as much again is no chance."""

MOMENTS = 3
"""Signs of life whose mean counts, so that one bad batch does not."""


def rate_diverges(about: Evidence) -> Advice | None:
    """The training loss has left its lowest level far behind, and chance level too."""
    losses = [row["train_loss"] for row in about.history if row["train_loss"] is not None]
    if len(losses) < 2 * MOMENTS:
        return None
    levels = [fmean(losses[i : i + MOMENTS]) for i in range(len(losses) - MOMENTS + 1)]
    lowest, now = min(levels), levels[-1]
    if now < RISE_TO_DIVERGE * lowest or now < about.chance_loss:
        return None
    return Advice(
        "diverging",
        "problem",
        "The training is diverging: the loss grows instead of falling.",
        f"Training loss {now:.3g}, the mean of the last {MOMENTS} figures; it was {lowest:.3g} at its lowest, and "
        f"{about.chance_loss:.3g} is what guessing gives.",
        f"Lower the learning rate to a tenth ({_rate(about) / 10:.2g}), or clip the gradients to norm 1; "
        "go on from the last good epoch rather than from here.",
    )


NOUGHT = 1e-3
"""Losses below are as good as 0: a network that has learnt a few images by heart goes up and down among them."""

SWINGS = 2
SWING_EPOCHS = 5
SWING = 1.03
"""A rise of the mean training loss of a whole epoch by 3 %: it falls in every epoch of a sound training, and its
standard error over thousands of images is below 1 %. Two such rises within five steps from epoch to epoch."""

BLOWN_UP = 1.1
"""Times the loss of guessing. No sound start is worse than that once the first steps are over."""


def rate_too_high(about: Evidence) -> Advice | None:
    """The loss of whole epochs goes up and down, or the first steps threw the network to where it learns nothing."""
    epochs = about.epochs
    if len(epochs) < FEWEST_EPOCHS:
        return None
    losses = [row["train_loss"] for row in epochs][-SWING_EPOCHS - 1 :]
    rises = [new / old for old, new in itertools.pairwise(losses) if new > SWING * max(old, NOUGHT)]
    try_this = f"Divide the learning rate by 3 to 10 (it is {_rate(about):.2g}), or add a warm-up."
    if len(rises) >= SWINGS and len(losses) > FEWEST_EPOCHS:
        return Advice(
            "rate too high",
            "warning",
            "The learning rate looks too high: the training loss goes up and down from epoch to epoch.",
            f"Training loss of the last {len(losses)} epochs: {_list(losses)}; it rose {len(rises)} times, by up to "
            f"{max(rises) - 1:.0%}.",
            try_this,
        )
    worst = max(row["train_loss"] for row in about.history)
    if min(losses[-FEWEST_EPOCHS:]) > NOTHING_LEARNT * about.chance_loss and worst > BLOWN_UP * about.chance_loss:
        return Advice(
            "rate too high",
            "problem",
            "The learning rate looks too high: the first steps went so far that the network only guesses since.",
            f"Training loss up to {worst:.3g} at first, and {losses[-1]:.3g} now, where guessing gives "
            f"{about.chance_loss:.3g}.",
            try_this,
        )
    return None


NOTHING_LEARNT = 0.98
"""Share of the loss of guessing above which a network has learnt nothing to speak of."""

LITTLE_LEARNT = 0.85
"""Likewise, above which it has learnt little. Even one convolution is below it after its first epoch on CIFAR-10."""

CREEP = 0.05
"""Share by which the loss falls per epoch at most where it creeps; a sound one falls several times as fast there."""

FLAT = 0.01
"""Share by which chance may raise the mean loss of an epoch that changes nothing."""


def rate_too_low(about: Evidence) -> Advice | None:
    """The loss does not rise, but has hardly left the level of guessing."""
    epochs = about.epochs[-FEWEST_EPOCHS:]
    if len(epochs) < FEWEST_EPOCHS or about.mixes:
        return None
    losses, rates = [row["train_loss"] for row in epochs], [row["learning_rate"] for row in epochs]
    falls = [1 - new / max(old, NOUGHT) for old, new in itertools.pairwise(losses)]
    warming_up = rates[-1] > 1.05 * rates[0]
    if warming_up or losses[-1] < LITTLE_LEARNT * about.chance_loss or not all(-FLAT < fall < CREEP for fall in falls):
        return None
    if max(row["train_loss"] for row in about.history) > BLOWN_UP * about.chance_loss:
        return None
    return Advice(
        "rate too low",
        "warning",
        "The learning rate looks too low: the loss hardly falls.",
        f"Training loss of the last {len(losses)} epochs: {_list(losses)}; guessing gives {about.chance_loss:.3g}.",
        f"Multiply the learning rate by 3 to 10 (it is {rates[-1]:.2g}).",
    )


GAP = 0.08
"""By which share the validation loss lies above the training loss, mean of three epochs. Three convolutions without
regularisation are at 10 to 15 % after ten epochs of CIFAR-10; with dropout they stay below 3 %."""

WIDE_GAP = 0.2

SLOW = 0.04
"""Share by which the validation loss still falls per epoch. Where it falls faster, the gap does no harm yet."""

RISE = 1.05
"""Times the lowest validation loss. Its own swing from epoch to epoch is 2 to 4 % on 5,000 images; means of two
epochs swing less."""


def over_fitting(about: Evidence) -> Advice | None:
    """The training loss falls, and the validation loss follows no more or rises."""
    epochs = about.epochs
    if len(epochs) < FEWEST_EPOCHS + 1 or about.mixes:
        return None
    train, held_out = ([row[f"{part}_loss"] for row in epochs] for part in ("train", "validation"))
    # A training loss is the mean of an epoch, as of its middle; a line through two of them tells that at its end.
    at_end = [new - (old - new) / 2 for old, new in itertools.pairwise(train)]
    gap = fmean(new / max(old, NOUGHT) - 1 for old, new in zip(at_end[-3:], held_out[-3:], strict=True))
    earlier, lately = fmean(held_out[-4:-2]), fmean(held_out[-2:])
    fell = fmean(train[-4:-2]) - fmean(train[-2:])
    lowest = min(held_out)
    best = epochs[held_out.index(lowest)]
    rose = lately > RISE * lowest and held_out.index(lowest) < len(held_out) - 2
    if gap < GAP or fell <= 0 or 1 - lately / max(earlier, NOUGHT) > 2 * SLOW:
        return None
    now = epochs[-1]
    evidence = (
        f"Over the last three epochs the validation loss was {gap:.0%} above the training loss (as at the end of each "
        f"epoch). In the last two the training loss fell by {fell:.3f}, the validation loss "
        f"{'fell' if lately < earlier else 'rose'} by {abs(earlier - lately):.3f}. "
        f"Accuracy: training {now['train_accuracy']:.1%}, validation {now['validation_accuracy']:.1%}."
    )
    if rose:
        evidence += (
            f" The validation loss was lowest in epoch {best['epoch']:.0f}: {lowest:.3f}; now {held_out[-1]:.3f}."
        )
    grave = rose or gap > WIDE_GAP
    return Advice(
        "over-fitting",
        "warning" if grave else "hint",
        "The network over-fits: it learns its training images by heart, and what it learns does not hold for others."
        if grave
        else "Over-fitting begins: what the network learns about its training images holds less and less for others.",
        evidence,
        _regularise(about.config),
    )


def _regularise(config: TrainConfig) -> str:
    ways = []
    if not config.dropout:
        ways.append("dropout of 0.3 to 0.5")
    if not (config.flip and config.crop_padding):
        ways.append("flips and crops (Augmentation)")
    elif not config.cutout:
        ways.append("cutout, MixUp or CutMix")
    if not config.weight_decay:
        ways.append("weight decay of 0.0005")
    ways.append("a narrower network" if len(ways) > 1 else "weaker training: fewer epochs or a narrower network")
    stop = "" if config.stop_patience else ", and let early stopping end it (patience 3)"
    return f"Try {', '.join(ways[:-1])} or {ways[-1]}{stop}. The best epoch is kept in any case."


STANDSTILL = 0.01
"""By which the training accuracy grows at most over three epochs that stand still."""

FITTED = 0.8
"""Training accuracy from which on a network is not called under-fitted: it tells its own images apart."""


def under_fitting(about: Evidence) -> Advice | None:
    """The training accuracy stands still at a low level, and validation is as good: the network cannot do better."""
    epochs = about.epochs
    if len(epochs) < 2 * FEWEST_EPOCHS or about.mixes:
        return None
    accuracy = [row["train_accuracy"] for row in epochs]
    growth = fmean(accuracy[-3:]) - fmean(accuracy[-6:-3])
    now = epochs[-1]
    learnt = now["train_loss"] < LITTLE_LEARNT * about.chance_loss
    gap = fmean(row["train_accuracy"] - row["validation_accuracy"] for row in epochs[-3:])
    if not learnt or accuracy[-1] > FITTED or not -FITTED < growth < STANDSTILL or gap > 0.02:
        return None
    config = about.config
    weaker = [
        name
        for name, strong in (
            ("dropout", (config.dropout or 0) > 0.2),
            ("weight decay", config.weight_decay > 1e-3),
            ("augmentation", bool(config.rotation or config.cutout)),
        )
        if strong
    ]
    return Advice(
        "under-fitting",
        "hint",
        "The network under-fits: it has stopped getting better even on its own training images.",
        f"Training accuracy {accuracy[-1]:.1%}, {growth * 100:+.1f} points in three epochs; validation "
        f"{now['validation_accuracy']:.1%}, so it is not over-fitting.",
        f"Try a wider network or a deeper one{', less ' + ' and '.join(weaker) if weaker else ''}, or a lower learning "
        "rate for the last epochs.",
    )


MANY_DEAD = 0.4
"""Share of a layer's units. A tenth to a quarter is usual for a layer behind ReLUs and costs nothing."""

FEWEST_UNITS = 8


def dead_units(about: Evidence) -> Advice | None:
    """A large part of a layer is off for every image, and gets no gradient that could bring it back."""
    if len(about.looks) < FEWEST_EPOCHS:
        return None
    layers = [row for row in about.looks[-1].dead if row["rule"] == "zero" and row["units"] >= FEWEST_UNITS]
    bad = [row for row in layers if row["dead"] >= MANY_DEAD * row["units"]]
    if not bad:
        return None
    worst = max(bad, key=lambda row: row["dead"] / row["units"])
    all_off = worst["dead"] == worst["units"]
    return Advice(
        "dead units",
        "problem" if all_off else "warning",
        f"All units of {worst['name']} are dead: no image gets through to the output."
        if all_off
        else f"Many units of {worst['name']} are dead: zero for every image looked at, they learn nothing.",
        "; ".join(f"{row['name']}: {row['dead']} of {row['units']} ({row['dead'] / row['units']:.0%})" for row in bad)
        + f", {probed(about.validation_images)}.",
        f"Start again with a lower learning rate (it is {_rate(about):.2g}) or a warm-up, He initialisation, or a "
        "network with batch norm; dead units do not come back.",
    )


STUCK = 0.25
"""Share of the mean accuracy of all classes. The hardest class of CIFAR-10 keeps above half of it."""


def class_stuck(about: Evidence) -> Advice | None:
    """One class is hardly ever told right, while the others are learnt."""
    looks = about.looks[-FEWEST_EPOCHS:]
    if len(looks) < FEWEST_EPOCHS:
        return None
    shares = [[share for share in look.class_accuracy if share is not None] for look in looks]
    means = [fmean(share) if share else 0.0 for share in shares]
    if not shares[-1] or means[-1] < 2 / len(shares[-1]):
        return None
    stuck = []
    for k, name in enumerate(about.classes):
        course = [look.class_accuracy[k] for look in looks]
        known = [share for share in course if share is not None]
        if len(known) == len(looks) and all(s < STUCK * mean for s, mean in zip(known, means, strict=True)):
            stuck.append((name, known))
    if not stuck:
        return None
    names = ", ".join(name for name, _ in stuck[:5])
    return Advice(
        "class stuck",
        "warning",
        f"{'One class is' if len(stuck) == 1 else f'{len(stuck)} classes are'} hardly ever told right: {names}.",
        "; ".join(f"{name}: {', '.join(f'{s:.0%}' for s in known)}" for name, known in stuck[:5])
        + f" in the last {len(looks)} epochs, where the mean of all classes is {means[-1]:.0%}.",
        "Look at its images and labels on the Data page, and at what it is taken for on the Evaluate page; with few "
        "images of it, add more.",
    )


SLOW_DATA = 0.35
"""Share of a step. Making the batch is a few per cent of it; from a third on the network waits for its images."""

FEWEST_SECONDS = 1.0


def slow_data(about: Evidence) -> Advice | None:
    """Making the batches takes a large part of the time."""
    if not about.looks:
        return None
    seconds = about.looks[-1].seconds
    total = sum(seconds.values())
    if total < FEWEST_SECONDS or seconds["data"] < SLOW_DATA * total:
        return None
    costly = [name for name in ("rotation", "cutout", "mixup", "cutmix") if getattr(about.config, name)]
    return Advice(
        "slow data",
        "hint",
        "Making the batches is the bottleneck: the network waits for its images.",
        f"Of each step {seconds['data'] / total:.0%} goes into the batch (forward {seconds['forward'] / total:.0%}, "
        f"backward {seconds['backward'] / total:.0%}, step {seconds['step'] / total:.0%}).",
        f"Try {'less ' + ' or '.join(costly) + ', or ' if costly else ''}a larger batch size. A larger network would "
        "cost less than it seems to here.",
    )


def _rate(about: Evidence) -> float:
    rates = [row["learning_rate"] for row in about.history]
    return float(rates[-1]) if rates else about.config.learning_rate


def _list(numbers: Sequence[float]) -> str:
    return ", ".join(f"{number:.3g}" for number in numbers)
