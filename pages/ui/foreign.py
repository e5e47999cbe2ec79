"""Is a picture one of the classes at all? Said in the headline of the answer, and with its figures in a panel."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

import numpy as np
import streamlit as st
from numpy.typing import NDArray

from cifar_core import job
from cifar_core.runs import Run, RunError
from cifar_core.strangeness import DISTANCE, ENERGY, FALSE_ALARMS, Strangeness, StrangenessError
from pages import ui
from pages.ui import charts, loaders, reference
from pages.ui.explaining import Case

UNLIKE = "Unlike anything it was trained on"


class Place(NamedTuple):
    """Where a picture lies among the test images: its measures, the rank of each in [0, 1], and both altogether."""

    foreign: bool
    measures: dict[str, float]
    ranks: dict[str, float]
    altogether: float
    rank: float


@st.cache_resource(max_entries=4, show_spinner=False)
def strangeness(path: Path, version: int) -> Strangeness:
    """What is kept of the images a network knows; shared and read-only.

    Raises:
        RunError: The file is damaged.
    """
    try:
        return Strangeness.load(path)
    except StrangenessError as error:
        raise RunError(str(error)) from None


def place(
    run: Run, checkpoint: str, weights: Path, version: int, pixels: NDArray[np.uint8]
) -> tuple[Strangeness, Place] | None:
    """What is known of these weights, and where a picture (3, H, W) lies there; None where nothing is kept of them."""
    if (path := job.strangeness_found(run, checkpoint)) is None:
        return None
    try:
        kept_at = loaders.version(path)
        kept = strangeness(path, kept_at)
    except (RunError, OSError):
        # As if never found out: the panel offers to do it, which replaces the file.
        return None
    return kept, _place(path, kept_at, weights, version, pixels)


@st.cache_data(max_entries=256, show_spinner=False, scope="session")
def _place(path: Path, path_version: int, weights: Path, version: int, pixels: NDArray[np.uint8]) -> Place:
    from cifar_core.compute import one_core

    kept, network = strangeness(path, path_version), loaders.network(weights, version)
    with one_core():
        measures = kept.measure(network, pixels[None])
    *ranks, rank = kept.ranks(measures)[0]
    return Place(
        bool(kept.foreign(measures)[0]),
        {name: float(value) for name, value in zip(kept.names, measures[0], strict=True)},
        {name: float(rank) for name, rank in zip(kept.names, ranks, strict=True)},
        float(kept.altogether(measures)[0]),
        float(rank),
    )


def _place_of(case: Case) -> tuple[Strangeness, Place] | None:
    return place(case.run, case.checkpoint, case.path, case.version, case.pixels)


def headline(case: Case, verdict: str = "") -> bool:
    """Where the picture is foreign, say so in place of a class; gives whether it is.

    Args:
        verdict: Markdown for whether the class is right, where that is known.
    """
    known = _place_of(case)
    if known is None or not known[1].foreign:
        return False
    kept, found = known
    best = case.classes[case.predicted]
    st.markdown(f":material/help_center: **{UNLIKE}**")
    st.caption(
        ui.plain(
            f"It is stranger to this network than {share(found.rank)} of {kept.facts['test_images']:,} test images. "
            f"Having to name one of its {len(case.classes)} classes, it would say “{best}”."
        )
        + verdict
    )
    return True


def panel(case: Case) -> None:
    """Energy, distance and layers of the picture as percentiles of the test images, and what follows from them."""
    known = _place_of(case)
    if known is None:
        _compute(case)
        return
    kept, found = known
    facts = kept.facts
    st.markdown(
        f"**{UNLIKE}.** Whatever class it names, take it for a guess."
        if found.foreign
        else f"**Like the images it was trained on**, as far as these measures see; it may still be none of the "
        f"{len(case.classes)} classes."
    )
    with st.container(horizontal=True, gap="large"):
        _metric(
            "Energy",
            f"{found.measures[ENERGY]:.2f}",
            found.ranks[ENERGY],
            "Minus the logarithm of the sum of the exponentials of the logits (Liu et al., 2020): high where no logit "
            "is large.",
        )
        _metric(
            "Distance in the embedding",
            f"{found.measures[DISTANCE]:.3f}",
            found.ranks[DISTANCE],
            f"From the nearest of {len(kept.prototypes)} prototypes of the training images, all of length 1: from 0 to "
            "2 (after Sun et al., 2022).",
        )
        _metric(
            "Altogether",
            f"{found.altogether:.1f}",
            found.rank,
            f"Fisher's sum: of the logarithms of the shares of validation images that are at least as strange, over "
            f"energy, distance and the layers below. Above {kept.threshold:.1f} a picture is called foreign.",
        )
    layers = ", ".join(f"{name} {share(found.ranks[name])}" for name in kept.layers)
    st.caption(
        ui.plain(
            f"Stranger than so many test images in each layer, by the means and deviations of its channels "
            f"(Mahalanobis distance; after Lee et al., 2018): {layers}."
        )
    )
    promise = (
        f"at most {FALSE_ALARMS:.0%} of images like those it knows are called foreign"
        if kept.promised
        else "none of them is called foreign; they are too few to promise a rate"
    )
    used, whole = facts["training_images"], facts["of_training_images"]
    trained = f"{used:,} training images" if used == whole else f"{used:,} of {whole:,} training images"
    st.caption(
        ui.plain(
            f"Percentiles are of the {facts['test_images']:,} test images of {facts['data']}. A picture is called "
            f"foreign above {kept.threshold:.1f} altogether; that was set on {facts['validation_images']:,} validation "
            f"images, so that {promise}; of the test images, "
            f"{kept.false_alarms:.1%} are called foreign by mistake. What is known comes from {trained}. The picture "
            "is measured as a JPEG of its pixels, so that it does not count how a picture was saved. "
            f"{_detected(kept)}A foreign picture that looks much like a class still passes. "
            f"Run {facts['run']} · {facts['checkpoint']} weights, epoch {facts['epoch']:.3g} · {case.name}."
        )
    )


def share(rank: float) -> str:
    """A rank in words, to stand before "of the test images"."""
    return "all" if rank >= 1 else "over 99.9%" if rank > 0.999 else charts.percent(rank)


def _metric(label: str, value: str, rank: float, about: str) -> None:
    st.metric(
        label,
        value,
        f"stranger than {share(rank)} of the test images",
        delta_color="off",
        delta_arrow="off",
        width="content",
        help=about,
    )


def _detected(kept: Strangeness) -> str:
    """How many pictures of each kind drawn by code are called foreign, where that was measured."""
    if not (found := kept.facts.get("detected")):
        return ""
    kinds = ", ".join(f"{name} {share:.0%}" for name, share in found["shares"].items())
    return f"Of {found['images']} pictures drawn by code of each kind it calls foreign: {kinds}. "


def _compute(case: Case) -> None:
    """A button that has it found out in the background."""
    if (info := reference.training_images_of(case.run)) is None:
        return
    folder, task = job.strangeness_task(case.run, case.checkpoint, info)
    if not folder.alive:
        st.markdown(
            "For this the network looks once at some of its training images, at its validation images and at the "
            f"{info.test_images:,} test images of its data set, in the background; the result is kept with the run. "
            "Foreign pictures are then named in the answer above at once."
        )
    ui.background(folder, task, done=False, start="Look at the images")
