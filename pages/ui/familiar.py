"""The training images that are nearest to a picture, and those that shaped the answer."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import streamlit as st
from numpy.typing import NDArray

from cifar_core import job
from cifar_core.familiarity import FamiliarityError, Known, pulled_most
from cifar_core.runs import RunError
from pages import ui
from pages.ui import charts, loaders, reference
from pages.ui.explaining import Case

SHOWN = 8


@st.cache_resource(max_entries=2, show_spinner="Reading what the network knows")
def known(path: Path, version: int) -> Known:
    """A stored table; shared and read-only.

    Raises:
        RunError: The file is damaged.
    """
    try:
        return Known.load(path)
    except FamiliarityError as error:
        raise RunError(str(error)) from None


@st.cache_data(max_entries=256, show_spinner=False, scope="session")
def feature_of(path: Path, version: int, pixels: NDArray[np.uint8]) -> NDArray[np.float32]:
    """What the last layer sees of an image, (D,)."""
    return next(iter(loaders.network(path, version).embeddings(pixels[None]))).numpy()[0]


def influence(case: Case) -> None:
    """The training images that pulled this answer most towards a class, and away from it."""
    if (found := _asked_for(case)) is None:
        return
    _, table = found
    feature = feature_of(case.path, case.version, case.pixels)
    rows, cosines = table.nearest(feature, SHOWN)
    st.markdown("**Nearest** by the features before the last layer")
    _show_images(case, table, rows, [f"cosine {cosine:.3f}" for cosine in cosines])
    predicted = "What it predicts"
    named = st.selectbox("Towards", [predicted, *case.classes], key="pull_to", bind="query-params", width=200)
    wanted = case.classes.index(named) if named in case.classes else case.predicted
    # Uncalibrated, as those of the training images: what the loss of the training saw.
    pulls = table.influence(feature, loaders.probabilities(case.path, case.version, case.pixels), wanted)
    towards, away = pulled_most(pulls, SHOWN)
    name = ui.plain(case.classes[wanted])
    if not towards and not away:
        st.info("No training image pulls at this answer any more: the network fits all of them perfectly.")
        return
    total = np.abs(pulls).sum()
    for title, rows in ((f"**Pulled most towards {name}**", towards), (f"**Pulled most away from {name}**", away)):
        st.markdown(title)
        if rows:
            _show_images(case, table, rows, [f"{abs(pulls[row]) / total:.2%} of all pull" for row in rows])
        else:
            st.caption("None.")
    st.caption(
        ui.plain(
            "TracIn (Pruthi et al., 2020) of the last layer at these weights: how much a step of gradient descent on a "
            "training image would lower (or raise) the loss of that class for this picture. The gradient of the last "
            "layer is (p − y) times the features, so images pull that the network still gets wrong, or that lie near. "
            "The paper sums over the checkpoints of a training; this is one of them, the layers below are left out, "
            "and images are as stored, without augmentation. " + _origin(case, table)
        )
    )


def _asked_for(case: Case) -> tuple[Path, Known] | None:
    """What is kept of these weights; where it is not there yet, a button that has it computed."""
    if (info := reference.training_images_of(case.run)) is None:
        return None
    folder, task = job.familiarity_task(case.run, case.checkpoint, info)
    path = folder.path / "known.npz"
    if not path.exists() and not folder.alive:
        st.markdown(
            f"For this the network looks once at all of its training images, among the {info.train_images:,} of its "
            "data set, in the background; the result is kept with the run."
        )
    if not ui.background(folder, task, path.exists(), start="Look at all images"):
        return None
    try:
        return path, known(path, loaders.version(path))
    except RunError as error:
        ui.damaged(error, path, "Compute it again")
        return None


def _show_images(case: Case, table: Known, rows: NDArray[np.int64] | list[int], told: list[str]) -> None:
    if (info := reference.training_images_of(case.run)) is None:
        return
    split = loaders.data_set(info.id, info.fingerprint, ui.place().cache).train
    places = table.indices[rows]
    names = [case.classes[label] for label in table.labels[rows]]
    answers = [case.classes[best] for best in table.probabilities[rows].argmax(axis=1)]
    captions = [
        f"{charts.brief(name)}{'' if name == answer else f' → {charts.brief(answer)}'} · {words}"
        for name, answer, words in zip(names, answers, told, strict=True)
    ]
    alts = [f"Training image {place}, {name}, {words}" for place, name, words in zip(places, names, told, strict=True)]
    ui.gallery(np.stack([split.images[place] for place in places]), captions, alts, 96)


def _origin(case: Case, table: Known) -> str:
    facts = table.facts
    used, whole = facts["training_images"], facts["of_training_images"]
    images = f"{used:,} training images" if used == whole else f"{used:,} of {whole:,} training images"
    return (
        f"Run {facts['run']} · {facts['checkpoint']} weights, epoch {facts['epoch']:.3g} · "
        f"{images} of {facts['data']} · {case.name}."
    )
