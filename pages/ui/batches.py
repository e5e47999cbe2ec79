"""Batches as a training makes them, by its own functions, and what a page shows of them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
import streamlit as st
from numpy.typing import NDArray

from cifar_core.config import FIELDS, label
from pages.ui import loaders

if TYPE_CHECKING:
    from torch import Tensor

    from cifar_core.transforms import Draw

NORMALISATIONS: tuple[str, ...] = FIELDS["normalisation"].metadata["choices"]

FORMULAS = {
    "statistics": "(value / 255 − mean) / deviation, each channel by its own of the training split",
    "half": "(value / 255 − 0.5) / 0.5, which gives −1 to 1",
    "unit": "value / 255, which gives 0 to 1",
}


def choose_normalisation() -> str:
    """Which kind of normalisation, and what it does."""
    about = FIELDS["normalisation"]
    kind = st.segmented_control(
        label("normalisation"),
        NORMALISATIONS,
        default=about.default,
        format_func=str.capitalize,
        key="normalisation",
        bind="query-params",
        required=True,
        help=about.metadata["help"],
    )
    st.caption(f"{kind.capitalize()}: {FORMULAS[kind]}.")
    return kind


SIGNS = (
    "⇋ mirrored, ↓↑→← shifted by pixels, ↺↻ turned by degrees, ⛶ part that is enlarged (height×width), ☀ brightness, "
    "◐ contrast and ◍ saturation in percent, ◔ hue in degrees, ○ grey, ▢ centre of the hole (row, column), × size, "
    "≈ width of the blur in pixels, ▭ what is erased (height×width), ✦ operation of the policy"
)

WORDS = (
    "shifts in pixels, turns in degrees to the left or right, height and width of the part that is enlarged, "
    "size, brightness, contrast and saturation in percent, hue in degrees, row and column of the centre of the hole, "
    "width of the blur in pixels, operations of the policy"
)


@dataclass(frozen=True, eq=False)
class Fed:
    """A batch in the numbers a network gets, drawn so that the smallest is black and the largest white.

    Args:
        pictures: (B, 3, H, W) uint8.
        low: What is black.
        high: What is white.
    """

    pictures: NDArray[np.uint8]
    low: float
    high: float


@dataclass(frozen=True, eq=False)
class Preprocessed:
    """A batch before normalisation and after each kind of it; `table` has a row for each."""

    before: NDArray[np.uint8]
    fed: dict[str, Fed]
    table: pd.DataFrame


@dataclass(frozen=True, eq=False)
class Samples:
    """Images, each augmented several times.

    Args:
        originals: (I, 3, H, W) uint8.
        samples: (I, S, 3, H, W) uint8, augmented and rounded to whole values.
        captions: I times S descriptions of what was drawn, in words.
        marks: Likewise, in signs.
        fed: The whole batch of I * S as the network gets it, all samples of an image in a row.
        table: A row for the batch after augmentation and one after normalisation.
    """

    originals: NDArray[np.uint8]
    samples: NDArray[np.uint8]
    captions: list[list[str]]
    marks: list[list[str]]
    fed: Fed
    table: pd.DataFrame


def show_table(table: pd.DataFrame, alt: str) -> None:
    """The facts of batches, a row each."""
    heads = {name: "Number format" if name == "dtype" else name.capitalize() for name in table.columns}
    st.dataframe(table, hide_index=True, column_config=heads, alt=alt)


@st.cache_resource(max_entries=8, show_spinner="Preparing a batch")
def preprocessed(data_id: str, fingerprint: str, cache: Path, split: str, indices: tuple[int, ...]) -> Preprocessed:
    """Some images of a split without augmentation, as at validation and test."""
    import torch

    from cifar_core.transforms import normalisation, normalise

    data = loaders.data_set(data_id, fingerprint, cache)
    before = getattr(data, split).images[list(indices)]
    batch = torch.from_numpy(before)
    fed, rows = {}, [_facts("as stored", batch)]
    for kind in NORMALISATIONS:
        after = normalise(batch, *normalisation(kind, data.info.mean, data.info.std))
        fed[kind] = _drawn(after)
        rows.append(_facts(f"after {kind}", after))
    return Preprocessed(before, fed, pd.DataFrame(rows))


@st.cache_resource(max_entries=16, show_spinner="Drawing samples")
def augmented(
    data_id: str,
    fingerprint: str,
    cache: Path,
    split: str,
    indices: tuple[int, ...],
    samples: int,
    how: tuple[tuple[str, float], ...],
    seed: int,
    kind: str,
) -> Samples:
    """Each image several times through the augmentation and normalisation of a training.

    Chance is spent sample after sample, so that more samples leave the first ones as they are.

    Args:
        how: Settings of `cifar_core.transforms.Augmentation` by name.
        kind: Of the normalisation.
    """
    import torch

    from cifar_core.transforms import (
        Augmentation,
        apply,
        draw,
        generator_for,
        normalisation,
        normalise,
        turns_of,
    )

    data = loaders.data_set(data_id, fingerprint, cache)
    originals = getattr(data, split).images[list(indices)]
    settings: dict[str, Any] = dict(how)
    count, height, width = len(originals), originals.shape[2], originals.shape[3]
    changes, turns = Augmentation(**settings), None
    if changes.flip_mode == "alternating":
        # One draw after the other is as one epoch after the other.
        turns = torch.cat([turns_of(count, epoch, generator_for(seed, -1)) for epoch in range(samples)])
    drawn = draw(changes, samples * count, height, width, generator_for(seed, 0), turns)
    batch = apply(torch.from_numpy(originals).repeat(samples, 1, 1, 1), drawn)
    by_image = torch.arange(samples * count).view(samples, count).T.reshape(-1)
    changed = batch[by_image]
    after = normalise(changed, *normalisation(kind, data.info.mean, data.info.std))

    def each(signs: bool) -> list[list[str]]:
        return [[describe(drawn, j * count + i, signs) for j in range(samples)] for i in range(count)]

    return Samples(
        originals,
        (changed * 255).round().to(torch.uint8).view(count, samples, *originals.shape[1:]).numpy(),
        each(signs=False),
        each(signs=True),
        _drawn(after),
        pd.DataFrame([_facts("augmented", changed), _facts(f"after {kind}", after)]),
    )


@dataclass(frozen=True, eq=False)
class MixedBatch:
    """Images mixed with others of their batch.

    Args:
        pictures: (n, 3, H, W) uint8, before normalisation.
        targets: What is asked for each of them.
        fed: The whole first batch as the network gets it.
        asked: What is asked for each image of that batch.
        table: A row for that batch after mixing and one after normalisation.
    """

    pictures: NDArray[np.uint8]
    targets: list[str]
    fed: Fed
    asked: list[str]
    table: pd.DataFrame


@st.cache_resource(max_entries=16, show_spinner="Mixing images")
def mixed(
    data_id: str,
    fingerprint: str,
    cache: Path,
    split: str,
    indices: tuple[int, ...],
    draws: int,
    batch: int,
    how: tuple[tuple[str, Any], ...],
    seed: int,
    kind: str,
) -> MixedBatch:
    """Images as MixUp and CutMix leave them: several as one batch, or one in several batches with those after it.

    Args:
        batch: Images of a batch where there is one.
        how: Settings of `cifar_core.transforms.Augmentation` by name, `mixup` and `cutmix`.
        kind: Of the normalisation.
    """
    import torch

    from cifar_core.transforms import Augmentation, augment, generator_for, mix, normalisation, normalise, turns_of

    data = loaders.data_set(data_id, fingerprint, cache)
    whole: dict[str, Any] = dict(how)
    alphas = whole.pop("mixup"), whole.pop("cutmix")
    source = getattr(data, split)
    alone = len(indices) == 1
    members = [(indices[0] + i) % len(source.labels) for i in range(batch)] if alone else list(indices)
    pixels, labels = torch.from_numpy(source.images[members]), torch.from_numpy(np.array(source.labels[members]))
    shown = 1 if alone else len(members)
    drawn, asked = [], []
    changes, turns = Augmentation(**whole), None
    for step in range(draws if alone else 1):
        generator = generator_for(seed, step)
        if changes.flip_mode == "alternating":
            # As in `augmented`.
            turns = turns_of(len(members), step, generator_for(seed, -1))
        made = mix(augment(pixels, changes, generator, turns=turns), labels, *alphas, generator)
        drawn.append(made.images)
        classes = zip(made.labels.tolist(), made.others.tolist(), strict=True)
        asked.append([_target(data.info.classes[one], data.info.classes[other], made.share) for one, other in classes])
    after = normalise(drawn[0], *normalisation(kind, data.info.mean, data.info.std))
    return MixedBatch(
        (torch.cat([batch[:shown] for batch in drawn]) * 255).round().to(torch.uint8).numpy(),
        [target for targets in asked for target in targets[:shown]],
        _drawn(after),
        asked[0],
        pd.DataFrame([_facts("augmented and mixed", drawn[0]), _facts(f"after {kind}", after)]),
    )


def _target(one: str, other: str, share: float) -> str:
    if one == other:
        return f"{one} 100 %"
    return f"{one} {100 * share:.0f} % + {other} {100 * (1 - share):.0f} %"


@st.cache_resource(max_entries=16, show_spinner="Drawing the strip")
def strip(
    data_id: str,
    fingerprint: str,
    cache: Path,
    split: str,
    index: int,
    draws: int,
    how: tuple[tuple[str, Any], ...],
    along: str,
    values: tuple[float, ...],
    seed: int,
) -> NDArray[np.uint8]:
    """(draws, V, 3, H, W): an image with one setting from weak to strong, at the same draws for each value."""
    import torch

    from cifar_core.transforms import Augmentation, augment, generator_for

    data = loaders.data_set(data_id, fingerprint, cache)
    image = torch.from_numpy(getattr(data, split).images[[index] * draws])
    made = [augment(image, Augmentation(**{**dict(how), along: value}), generator_for(seed, 0)) for value in values]
    return (torch.stack(made, dim=1) * 255).round().to(torch.uint8).numpy()


def describe(drawn: Draw, i: int, signs: bool = False) -> str:
    """What chance decided for an image, of the transforms that are switched on.

    Args:
        signs: In the signs of `SIGNS` in place of words.
    """
    from cifar_core.policies import said as operation

    how, said = drawn.how, []
    if how.flip and bool(drawn.flip[i]):
        said.append("⇋" if signs else "mirrored")
    if how.crop_padding:
        # The crop moves over the padded image, so what is seen moves the other way.
        down, right = (how.crop_padding - int(place) for place in drawn.offset[i])
        said += [_moved(down, "↓↑" if signs else ("down", "up")), _moved(right, "→←" if signs else ("right", "left"))]
    for number, magnitude in zip(drawn.operations[i].tolist(), drawn.magnitudes[i].tolist(), strict=True):
        if number:
            said.append(f"{'✦' if signs else ''}{operation(number, magnitude)}")
    if how.rotation and float(drawn.angle[i]):
        angle = float(drawn.angle[i])
        turn = ("↺" if angle > 0 else "↻") if signs else ("left" if angle > 0 else "right")
        said.append(f"{turn}{abs(angle):.0f}°" if signs else f"{abs(angle):.0f}° {turn}")
    if how.translation:
        right, down = (int(pixels) for pixels in drawn.shift[i])
        said += [_moved(down, "↓↑" if signs else ("down", "up")), _moved(right, "→←" if signs else ("right", "left"))]
    if how.scaling and float(drawn.scale[i]) != 1:
        said.append(f"×{float(drawn.scale[i]):.2f}" if signs else f"size {100 * float(drawn.scale[i]):.0f} %")
    if how.crop_scale < 1:
        height, width = (int(side) for side in drawn.box[i, 2:])
        said.append(f"⛶{height}×{width}" if signs else f"{height}×{width} enlarged")
    if how.colour_jitter:
        light, contrast, saturation = (f"{100 * float(factor):.0f}" for factor in drawn.factors[i])
        hue = f"{360 * float(drawn.hue[i]):+.0f}°"
        said += (
            [f"☀{light}", f"◐{contrast}", f"◍{saturation}", f"◔{hue}"]
            if signs
            else [f"brightness {light} %", f"contrast {contrast} %", f"saturation {saturation} %", f"hue {hue}"]
        )
    if how.grey and bool(drawn.grey[i]):
        said.append("○" if signs else "grey")
    if how.blur and float(drawn.sigma[i]):
        said.append(f"≈{float(drawn.sigma[i]):.1f}" if signs else f"blur {float(drawn.sigma[i]):.1f}")
    if how.cutout and bool(drawn.cut[i]):
        row, column = (int(place) for place in drawn.centre[i])
        said.append(f"▢{row},{column}" if signs else f"hole at {row}, {column}")
    if how.erasing and int(drawn.erased[i, 2]):
        height, width = (int(side) for side in drawn.erased[i, 2:])
        said.append(f"▭{height}×{width}" if signs else f"{height}×{width} erased")
    return (" " if signs else " · ").join(part for part in said if part) or "unchanged"


def _moved(pixels: int, directions: Sequence[str]) -> str:
    """Empty where nothing moved; a sign stands before its number, a word after it."""
    direction = directions[0 if pixels > 0 else 1]
    return "" if not pixels else f"{direction}{abs(pixels)}" if len(direction) == 1 else f"{abs(pixels)} {direction}"


def _drawn(batch: Tensor) -> Fed:
    low, high = float(batch.min()), float(batch.max())
    pictures = ((batch - low) / ((high - low) or 1.0) * 255).round().byte()
    return Fed(pictures.numpy(), low, high)


def _facts(name: str, batch: Tensor) -> dict[str, Any]:
    values = batch.double()
    numbers: Sequence[float] = (values.min().item(), values.max().item(), values.mean().item(), values.std().item())
    whole = not batch.dtype.is_floating_point
    return {
        "batch": name,
        "shape": str(tuple(batch.shape)),
        "dtype": str(batch.dtype).removeprefix("torch."),
        "smallest": f"{numbers[0]:.0f}" if whole else f"{numbers[0]:.3f}",
        "largest": f"{numbers[1]:.0f}" if whole else f"{numbers[1]:.3f}",
        "mean": f"{numbers[2]:.3f}",
        "deviation": f"{numbers[3]:.3f}",
    }
