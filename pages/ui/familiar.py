"""How a picture compares with the images a network knows: is it out of the ten, and which of them shaped the answer?"""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

import numpy as np
import streamlit as st
from numpy.typing import NDArray

from cifar_core import job
from cifar_core.datasets import cached
from cifar_core.familiarity import FALSE_ALARMS, NEIGHBOURS, FamiliarityError, Known, pulled_most
from cifar_core.runs import RunError
from pages import ui
from pages.ui import charts, loaders
from pages.ui.explaining import Case

SHOWN = 8


class Seen(NamedTuple):
    """What a network makes of one image: features (D,), energy, and distance to what it knows."""

    feature: NDArray[np.float32]
    energy: float
    distance: float


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
def seen(table: Path, table_version: int, path: Path, version: int, pixels: NDArray[np.uint8]) -> Seen:
    """Where one image lies among what a network knows."""
    import torch

    from cifar_core.familiarity import distances, energy

    network = loaders.network(path, version)
    feature = next(iter(network.embeddings(pixels[None])))
    with torch.inference_mode():
        logits = network.model.head(feature.to(network.device)).float().cpu().numpy()
    far = np.concatenate(list(distances(known(table, table_version).directions, feature.numpy())))
    return Seen(feature.numpy()[0], float(energy(logits)[0]), float(far[0]))


def verdict(case: Case) -> None:
    """One sentence beside the answer where the picture is unlike all that the network knows; nothing else."""
    if (found := _table(case)) is None:
        return
    path, table = found
    place = seen(path, loaders.version(path), case.path, case.version, case.pixels)
    if table.foreign(np.array([place.energy]), np.array([place.distance]))[0]:
        best = case.classes[case.predicted]
        st.warning(
            ui.plain(
                f"Unlike anything it was trained on: do not take “{best}, {charts.percent(case.answer.max())}” at its "
                "word. See “Is it one of the classes at all?” below."
            ),
            icon=":material/help_center:",
        )


def out_of_the_classes(case: Case) -> None:
    """Energy and distance of the picture as percentiles of the test images, and whether it is foreign."""
    if (found := _asked_for(case)) is None:
        return
    path, table = found
    place = seen(path, loaders.version(path), case.path, case.version, case.pixels)
    energies, far = np.array([place.energy]), np.array([place.distance])
    foreign = bool(table.foreign(energies, far)[0])
    test = len(table.energies["test"])
    ranks = [
        float((table.energies["test"] < place.energy).mean()),
        float((table.distances["test"] < place.distance).mean()),
    ]
    if foreign:
        st.markdown("**Unlike anything it was trained on.** Whatever class it names, take it for a guess.")
    else:
        st.markdown(
            f"**Like the images it was trained on**, as far as these two measures see. It may be one of the "
            f"{len(case.classes)} classes."
        )
    with st.container(horizontal=True, gap="large"):
        st.metric(
            "Energy",
            f"{place.energy:.2f}",
            f"higher than {ranks[0]:.1%} of the test images",
            delta_color="off",
            delta_arrow="off",
            width="content",
            help="Minus the logarithm of the sum of the exponentials of the logits (Liu et al., 2020): high where no "
            "logit is large.",
        )
        st.metric(
            f"Distance to the {NEIGHBOURS}th nearest training image",
            f"{place.distance:.3f}",
            f"farther than {ranks[1]:.1%} of the test images",
            delta_color="off",
            delta_arrow="off",
            width="content",
            help="Between the features before the last layer, with length 1 (Sun et al., 2022): from 0 to 2.",
        )
    promise = (
        f"chosen on {len(table.energies['validation']):,} validation images for at most {FALSE_ALARMS:.0%} false alarms"
        if table.promised
        else f"the strangest of {len(table.energies['validation']):,} validation images, too few to promise a rate"
    )
    st.caption(
        ui.plain(
            f"A picture is called foreign where one of the two is stranger than a threshold, {promise}. Measured on "
            f"the test split: {table.false_alarms:.1%} of {test:,} test images are called foreign by mistake. A "
            "foreign picture that happens to look like a class passes. " + _origin(case, table)
        )
    )
    rows, cosines = table.nearest(place.feature, SHOWN)
    st.markdown("**The nearest training images** by the features before the last layer")
    _show_images(case, table, rows, [f"cosine {cosine:.3f}" for cosine in cosines])


def influence(case: Case) -> None:
    """The training images that pulled this answer most towards a class, and away from it."""
    if (found := _asked_for(case)) is None:
        return
    path, table = found
    predicted = "What it predicts"
    named = st.selectbox("Towards", [predicted, *case.classes], key="pull_to", bind="query-params", width=200)
    wanted = case.classes.index(named) if named in case.classes else case.predicted
    place = seen(path, loaders.version(path), case.path, case.version, case.pixels)
    pulls = table.influence(place.feature, case.answer, wanted)
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


def _table(case: Case) -> tuple[Path, Known] | None:
    """What is kept of these weights, where it has been computed."""
    start = case.run.start
    for info in cached(ui.place().cache):
        if start and info.fingerprint == start.data_fingerprint:
            folder, _ = job.familiarity_task(case.run, case.checkpoint, info)
            path = folder.path / "known.npz"
            return (path, known(path, loaders.version(path))) if path.exists() else None
    return None


def _asked_for(case: Case) -> tuple[Path, Known] | None:
    """The same; where it is not there yet, a button that has it computed."""
    if (info := ui.data_of(case.run)) is None:
        return None
    folder, task = job.familiarity_task(case.run, case.checkpoint, info)
    path = folder.path / "known.npz"
    if not path.exists() and not folder.alive:
        st.markdown(
            f"For this the network looks once at all of its training images and at the {info.test_images:,} test "
            "images of its data set, in the background; the result is kept with the run."
        )
    if not ui.background(folder, task, path.exists(), start="Look at all images"):
        return None
    return path, known(path, loaders.version(path))


def _show_images(case: Case, table: Known, rows: NDArray[np.int64] | list[int], told: list[str]) -> None:
    if (info := ui.data_of(case.run)) is None:
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
