"""Explain: where does a model look, on a test image or on a photo of your own?"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import streamlit as st
from numpy.typing import NDArray
from streamlit.delta_generator import DeltaGenerator

from cifar_core import job
from cifar_core.datasets import DataInfo
from cifar_core.evaluation import EvaluationError
from cifar_core.runs import Run, RunError
from cifar_core.sources import DataError
from pages import ui
from pages.ui import charts, erasing, explaining, familiar, foreign, loaders, reference, selecting, sure, tour
from pages.ui.photos import Subject, choose_photo

if TYPE_CHECKING:
    from cifar_core.networks import Network

TEST, PHOTO, CAMERA = SOURCES = ("Test image", reference.PHOTO, "Camera")
PREDICTED = "What it predicts"
WIDEST = 480  # CSS pixels of a picture, where there is room


@dataclass(frozen=True)
class Weights:
    """The weights that are asked, and what is known of them without loading them."""

    run: Run
    checkpoint: str
    path: Path
    version: int


def show_picture(content: bytes, widest: int, alt: str, kind: str = "PNG") -> None:
    """A picture as it is, at most `widest` CSS pixels wide: given a width itself, Streamlit would shrink the file."""
    with st.container(width=widest):
        st.image(content, width="stretch", output_format=kind, alt=alt)


def pick(candidates: Sequence[int]) -> None:
    """Go to one of these test images by chance."""
    st.session_state["image"] = int(np.random.default_rng().choice(candidates))


def mistakes(weights: Weights, info: DataInfo) -> NDArray[np.int64] | None:
    """Test images the network is known to be wrong on; None before it was evaluated on them."""
    folder, _ = job.evaluation_task(weights.run, weights.checkpoint, info)
    path = folder.path / "evaluation.npz"
    if not path.exists():
        return None
    try:
        return np.flatnonzero(~loaders.evaluation(path, loaders.version(path)).correct)
    except EvaluationError:
        return None


def choose_test_image(weights: Weights, row: DeltaGenerator) -> Subject | None:
    """A test image by its number, or one by chance, among all or among the mistakes."""
    if (info := reference.tested_on(weights.run)) is None:
        return None
    if not reference.here(info):
        reference.pictures_missing(
            f"Fetch them to see where the network looks on any of the {info.test_images:,} test images; a photo of "
            "yours needs none of them.",
            "test",
        )
        return None
    split = loaders.test_split(info.id, info.fingerprint, ui.place().cache, info.classes)
    total = len(split.labels)
    wrong = mistakes(weights, info)
    asked = st.query_params.get("image")
    if asked is not None and not ui.is_below(asked, total):
        st.warning(ui.plain(f"There is no test image {asked[:20]!r} here; this is 0."), icon=":material/link_off:")
    with row:
        index = ui.whole_number(
            "Test image",
            0,
            total - 1,
            key="image",
            width=150,
            help=f"Its place in the test split, from 0 to {total - 1:,}.",
        )
        of = st.selectbox("By chance from", ["Any class", *info.classes], key="random_class", width=160)
        allowed = split.labels == info.classes.index(of) if of in info.classes else np.ones(total, bool)
        there = np.flatnonzero(allowed)
        st.button("Random image", icon=":material/shuffle:", on_click=pick, args=(there,), disabled=not len(there))
        missed = np.zeros(0, np.int64) if wrong is None else wrong[allowed[wrong]]
        why = "Evaluate these weights first, on the Evaluate page." if wrong is None else "There is none."
        st.button(
            "Random mistake",
            icon=":material/error_outline:",
            on_click=pick,
            args=(missed,),
            disabled=not len(missed),
            help=f"One of the {len(missed):,} test images this network is wrong on." if len(missed) else why,
        )
    true = int(split.labels[index])
    st.markdown(f"Test image **{index:,}** of {total:,} of {ui.plain(info.name)}: **{ui.plain(info.classes[true])}**")
    pixels = np.array(split.images[index])
    picture = charts.enlarged(pixels)
    return Subject(f"test image {index}", hashlib.sha256(pixels).hexdigest(), picture, lambda: picture, pixels, true)


def show_answer(weights: Weights, case: explaining.Case, verdict_place: DeltaGenerator) -> Callable[[], object]:
    """What the network says, and how sure it is.

    Args:
        verdict_place: Where the one class stands that it says: beside a photo, else above all pictures.

    Returns:
        What adds the ranges: the network looks many times for them, and the answer need not wait for that.
    """
    classes = case.classes
    temperature = loaders.temperature(weights.run, loaders.network(case.path, case.version).metadata["epoch"])
    answer = case.answer
    st.subheader("What it answers", anchor=False)
    best = int(answer.argmax())
    verdict = ""
    if case.true is not None:
        right = best == case.true
        verdict = " :green-badge[:material/check: right]" if right else " :red-badge[:material/close: wrong]"
    with verdict_place:
        if not foreign.headline(case, verdict):
            st.markdown(f"**{ui.plain(classes[best])}**, {ui.plain(charts.percent(answer[best]))}{verdict}")
        if case.true is None and loaders.knows_drawings_alone(weights.run):
            st.caption(":material/draw: This network has seen only pictures drawn by code; of a photo it guesses.")
    bars = st.empty()
    bars.html(charts.prediction_bars(classes, answer, case.true))
    with_ranges = sure.wants_ranges()
    if len(classes) > 10:
        st.caption(f"The first 10 of {len(classes)} classes.")
    listed = ", ".join(map(ui.plain, classes[:12])) + (", …" if len(classes) > 12 else "")
    st.caption(
        f"{sure.calibrated_by(temperature)} A network can only answer with the {len(classes)} classes it was trained "
        f"on ({listed}); whatever else is in a picture is called one of these, sometimes with much confidence."
    )

    def add_ranges() -> None:
        if with_ranges:
            ranges = sure.ranges(case.path, case.version, case.pixels, temperature.value)
            bars.html(charts.prediction_bars(classes, answer, case.true, ranges=ranges))

    return add_ranges


def choose_heat(network: Network, answer: NDArray[np.float32]) -> tuple[int, str, float]:
    """The class to find evidence for, the layer to look at, and how strongly to draw."""
    layers = network.model.layers
    named = st.selectbox("Evidence for", [PREDICTED, *network.classes], key="heat_class", bind="query-params")
    layer = st.selectbox(
        "Layer",
        layers,
        index=len(layers) - 1,
        key="layer",
        bind="query-params",
        help="Late layers know what a thing is; early ones see edges and colours, at a finer resolution.",
    )
    opacity = st.slider("Opacity", 0, 100, 60, step=5, format="%d%%", key="opacity", bind="query-params")
    wanted = network.classes.index(named) if named in network.classes else int(answer.argmax())
    return wanted, layer if layer in layers else layers[-1], min(max(opacity, 0), 100) / 100


def show_heat(weights: Weights, subject: Subject, name: str, wanted: int, layer: str, opacity: float) -> None:
    """Where the network finds evidence for a class."""
    st.subheader("Where it looks", anchor=False)
    found = loaders.heat_map(weights.path, weights.version, subject.pixels, wanted, layer)
    said = ui.plain(name)
    if not found.heat.any():
        st.warning(
            f"Nothing in {ui.plain(layer)} speaks for {said}: what is found there speaks against it or not at all, "
            "so there is no heat to draw. Try another class or layer.",
            icon=":material/visibility_off:",
        )
        return
    # Each pixel of a test image stays as it is; a photo is seen sooner.
    kind = "JPEG" if subject.true is None else "PNG"
    picture = loaders.overlay(subject.digest, found.heat, opacity, kind, subject.picture)
    alt = f"Heat map of the evidence for {name} in {layer} over {subject.name}"
    show_picture(picture, WIDEST, alt, kind)
    st.html(charts.heat_scale(found.colours))
    height, width = found.heat.shape
    rows, columns = found.cells
    how = "enlarged to" if rows < height else "reduced to" if rows > height else "as many as the"
    st.caption(
        f"Grad-CAM of {ui.plain(layer)} for {said}: {rows}×{columns} cells, {how} {height}×{width} pixels. The "
        f"brighter a place, the more what is found there speaks for {said}. The brightest place always has full heat, "
        "so pictures compare in shape, not in strength."
    )
    st.download_button(
        "Download the overlay",
        data=lambda: charts.png(loaders.drawn(subject.whole(), found.heat, opacity)),
        file_name=f"grad-cam-{weights.run.id}-{re.sub(r'[^a-zA-Z0-9]+', '-', subject.name)}-{layer}.png",
        mime="image/png",
        on_click="ignore",
        icon=":material/download:",
    )


def show(weights: Weights, subject: Subject) -> Callable[[], object]:
    """What goes in, where the network looks, what comes out.

    Returns:
        What shows the rest, for which nobody need wait.
    """
    network = loaders.network(weights.path, weights.version)
    temperature = loaders.temperature(weights.run, network.metadata["epoch"])
    answer = loaders.probabilities(weights.path, weights.version, subject.pixels, temperature.value)
    verdict_place = subject.verdict_place or st.container()
    entering, looking, answering = st.columns([3, 5, 4], gap="medium")
    with entering:
        st.subheader("What it sees", anchor=False)
        _, height, width = subject.pixels.shape
        sharp = charts.png(charts.enlarged(subject.pixels, 512))
        show_picture(sharp, 256, f"The {width} by {height} pixels the network sees of {subject.name}")
        st.caption(f"All the network gets: {width}×{height} pixels, enlarged here without smoothing.")
        wanted, layer, opacity = choose_heat(network, answer)
    with looking:
        show_heat(weights, subject, network.classes[wanted], wanted, layer, opacity)
    case = explaining.Case(
        weights.run,
        weights.checkpoint,
        weights.path,
        weights.version,
        subject.name,
        subject.pixels,
        subject.picture,
        network.classes,
        answer,
        subject.true,
        temperature.value,
    )
    with answering:
        add_ranges = show_answer(weights, case, verdict_place)
    st.caption(
        f"Run {weights.run.id} · {weights.checkpoint} weights, epoch {network.metadata['epoch']:.3g} · trained on "
        f"{ui.plain(network.metadata['data_name'])} · {ui.plain(subject.name)}"
    )

    def show_more() -> None:
        # First what is long computed without a word to the browser, which draws the answer meanwhile.
        add_ranges()
        if subject.draw_rest:
            subject.draw_rest()
        explaining.look_closer(case, CLOSER)

    return show_more


CLOSER = (
    ("Is it one of the classes at all?", ":material/help_center:", foreign.panel),
    ("Do several runs agree?", ":material/groups:", sure.agreement),
    ("Training images that shaped the answer", ":material/school:", familiar.influence),
    ("Patch eraser", ":material/ink_eraser:", erasing.eraser),
)

ui.page("Explain")
tour.show("Explain")
selecting.note(whole=True)

try:
    # One below the other on a narrow screen.
    of_run, of_weights = st.columns([3, 2], vertical_alignment="bottom")
    with of_run:
        run = ui.choose_run(needs_weights=True)
    with of_weights:
        checkpoint = ui.choose_checkpoint(run) if run else None
    if run and checkpoint:
        path = run.checkpoints()[checkpoint]
        weights = Weights(run, checkpoint, path, loaders.version(path))
        # What belongs to the source stands beside it.
        row = st.container(horizontal=True, vertical_alignment="bottom")
        info = reference.tested_on(run) if run.read_only else None
        if info:
            reference.notice(run, info)
        # Without test images a photo is what can be looked at.
        first = PHOTO if info and not reference.here(info) else TEST
        source = row.segmented_control(
            "Picture", SOURCES, default=first, key="source", bind="query-params", required=True
        )
        show_more, fit = None, "crop"
        with loaders.turns().first():
            if source == TEST:
                subject = choose_test_image(weights, row)
            else:
                subject, fit = choose_photo(camera=source == CAMERA)
            if subject:
                show_more = show(weights, subject)
            elif source != TEST:
                # While a photo is looked for, so that the answer is there as soon as it is.
                loaders.warm(weights.path, weights.version)
        if show_more:
            show_more()
        if source != TEST:
            sure.table_of_photos(weights.run, weights.checkpoint, weights.path, weights.version, fit)
except (DataError, RunError) as error:
    st.error(ui.plain(str(error)))
