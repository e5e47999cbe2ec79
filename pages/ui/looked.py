"""What the Evaluate page looks at: answers about images of a split, and the images themselves."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
import streamlit as st
from numpy.typing import NDArray

from cifar_core import job, logits
from cifar_core.datasets import DataInfo
from cifar_core.evaluation import Evaluation, EvaluationError
from cifar_core.logits import Logits, LogitsError
from cifar_core.runs import ALIVE, Run, RunError, WorkFolder
from cifar_core.sources import DataError
from cifar_core.timeline import Timeline
from pages import ui
from pages.ui import charts, loaders, reference, selecting

MISTAKES = 12
"""Worst ones that are shown of each epoch."""

SPLITS = ("test", "validation")


@dataclass(frozen=True, eq=False)
class Pictures:
    """The images of a split that a run is asked about.

    Args:
        images: (N, 3, 32, 32) uint8, in the order of the answers; None where they are not here.
        numbers: (N,) under which each is known: in the test split of the run's classes, or in the training split.
        noun: What one of them is called: "test image", or "validation image".
        split: The stored split that the numbers count in.
    """

    images: NDArray[np.uint8] | None
    numbers: NDArray[np.int64]
    noun: str
    split: str

    def some(self, places: NDArray[np.int64]) -> Pictures:
        """Some of them."""
        images = None if self.images is None else self.images[places]
        return Pictures(images, self.numbers[places], self.noun, self.split)


@dataclass(frozen=True, eq=False)
class Chosen:
    """Images that the page is restricted to: their places among the answers, and what stands for these in caches."""

    places: NDArray[np.int64]
    digest: str


@dataclass(frozen=True, eq=False)
class Looked:
    """The answers of a run's weights, or of an epoch of it.

    Args:
        info: Of the data set, where it is here.
        checkpoint: The weights, where there are some that have answered so.
        chosen: Which of all answers these are, where the page is restricted to some.
    """

    run: Run
    info: DataInfo | None
    evaluation: Evaluation
    pictures: Pictures
    checkpoint: str | None
    chosen: Chosen | None = None

    @property
    def file(self) -> str:
        """How files made of it begin."""
        facts = self.evaluation.facts
        weights = facts.get("checkpoint") or f"epoch-{facts['epoch']:g}"
        return f"{facts['run']}-{weights}-{facts['split']}{'-selected' if self.chosen else ''}"

    def about(self) -> str:
        """Run, weights, epoch, data, split and images, in words."""
        facts = self.evaluation.facts
        weights = f"{facts['checkpoint']} weights, " if "checkpoint" in facts else ""
        return (
            f"Run {facts['run']}, {weights}after epoch {facts['epoch']:.4g}; {facts['data']}, {facts['split']} split, "
            f"{self.evaluation.scope()}."
        )


def choose_split() -> str:
    """The test images, or those held out of the training images."""
    chosen = st.segmented_control(
        "Images",
        [split.capitalize() for split in SPLITS],
        default="Test",
        key="images",
        bind="query-params",
        required=True,
        help="The validation images are training images that no weight has learned from, but by which the best epoch "
        "was chosen. The test images have decided nothing.",
    )
    return (chosen or "Test").lower()


def epochs_of(run: Run, split: str) -> int:
    """Of how many epochs it is kept what the network said of a split."""
    return len(logits.files(run.logits(split)))


def pictures_of(run: Run, info: DataInfo | None, split: str) -> Pictures:
    """The images of a split as a run is asked about them; without pixels where the data set is not here."""
    cache = ui.place().cache
    if split == "validation":
        numbers = kept(run, split).images.indices
    else:
        numbers = np.arange(sum(info.test_counts)) if info else kept(run, split).images.indices
    images: NDArray[np.uint8] | None = None
    # Of another copy of the reference run's images only the test images are known one by one.
    if info and (reference.here(info) if split == "test" else reference.exact(info)):
        try:
            if split == "test":
                images = loaders.test_split(info.id, info.fingerprint, cache, info.classes).images
            else:
                images = loaders.train_images(info.id, info.fingerprint, cache, tuple(numbers.tolist()))
        except DataError as error:
            st.error(ui.plain(str(error)))
    return Pictures(images, numbers, f"{split} image", "test" if split == "test" else "train")


def selected(info: DataInfo | None, pictures: Pictures) -> Chosen | None:
    """Which of the images are selected, where the page is restricted to these."""
    if info is None or not reference.exact(info):
        return None
    place = ui.place()
    whole = loaders.data_set(info.id, info.fingerprint, place.cache).info
    selection = selecting.current(whole)
    indices = selecting.images_of(whole, pictures.split)
    if selection is None or indices is None:
        return None
    numbers = pictures.numbers
    if pictures.split == "test":
        numbers = loaders.places(info.id, info.fingerprint, place.cache, "test", info.classes, numbers)
    return Chosen(np.flatnonzero(np.isin(numbers, indices)), selection.digest)


def kept(run: Run, split: str, chosen: Chosen | None = None) -> Logits:
    """All logits that the run keeps of a split, or of some images of it.

    Raises:
        LogitsError: There are none.
    """
    folder = run.logits(split)
    return loaders.logits(folder, logits.version(folder), *_of(chosen))


def _of(chosen: Chosen | None) -> tuple[str, NDArray[np.int64] | None]:
    return (chosen.digest, chosen.places) if chosen else ("", None)


def data_name(there: Logits) -> str:
    """What the data set is called that logits are of."""
    return str(there.images.facts.get("data", "a data set without a name"))


def kept_figures(run: Run, split: str, chosen: Chosen | None = None) -> Timeline:
    """The figures of all epochs kept of a split, or of some images of it."""
    folder = run.logits(split)
    return loaders.epoch_figures(folder, logits.version(folder), MISTAKES, *_of(chosen))


def kept_biographies(run: Run, split: str, chosen: Chosen | None = None) -> pd.DataFrame:
    """What became of each image of a split, or of some of them."""
    folder = run.logits(split)
    return loaders.image_biographies(folder, logits.version(folder), *_of(chosen))


def made_ready(run: Run, split: str, info: DataInfo | None, more: str) -> Logits | None:
    """The logits of a split; where there are none, or kept weights have not looked yet, they can be made to.

    Args:
        more: What it is good for that further weights look too, as a sentence.
    """
    there: Logits | None = None
    try:
        there = kept(run, split)
    except LogitsError as error:
        if logits.files(run.logits(split)):
            st.error(ui.plain(str(error)))
    if there is not None and there.damaged:
        st.warning(ui.plain(f"Epochs that cannot be read are left out: {', '.join(there.damaged)}."))
    may = info and not run.read_only and (there is None or split == "test")
    if info and may and _let_predict(run, split, info, more):
        return there
    if there is None:
        st.info(
            f"Nothing is kept of what this run said of the {split} images. A training keeps it of every epoch of the "
            "validation images, up to the room that the setting keep_logits gives them."
        )
    return there


def _let_predict(run: Run, split: str, info: DataInfo, more: str) -> bool:
    """Offer to let weights predict that have not yet; whether there are some that can."""
    unseen = job.unseen_checkpoints(run, split)
    if not unseen:
        return False
    folder, task = job.logits_task(run, split, info)
    if not os.access(folder.path, os.W_OK):
        return False  # A run that may only be read.
    if not folder.alive:
        which = f"epoch{'s' if len(unseen) > 1 else ''} {', '.join(map(str, unseen))}"
        st.caption(f"{more} Not asked about the {split} images yet: the weights of {which}.")
    ui.background(folder, task, done=False, start=f"Let them predict the {split} images")
    return True


def evaluated(run: Run, checkpoint: str, info: DataInfo) -> Evaluation | None:
    """The evaluation of the weights; made in the background where there is none, and an older one shown meanwhile."""
    folder, task = job.evaluation_task(run, checkpoint, info)
    path = folder.path / "evaluation.npz"
    if not path.exists():
        # A training replaces its weights while they are evaluated; what is under way is still worth waiting for.
        under_way = (WorkFolder(path) for path in run.tasks.glob("evaluate-*"))
        folder = next((other for other in under_way if other.alive), folder)
        earlier = (stored.path for stored in loaders.stored_evaluations(run, checkpoint, info.fingerprint))
        path = next(earlier, path)
        # By its state: a worker that has said its last word lives for another moment.
        training = run.state in ALIVE
        if training:
            st.info(
                "This run is still training. "
                + ("The figures below are of earlier weights; the" if path.exists() else "The")
                + " evaluation of the present ones slows the training a little.",
                icon=":material/info:",
            )
        elif path.exists():
            st.info("The figures below are of earlier weights of this run.", icon=":material/history:")
        ui.background(folder, task, done=False, start="Evaluate the present weights" if training else None)
        if not path.exists():
            return None
    try:
        return loaders.evaluation(path, loaders.version(path))
    except (EvaluationError, OSError) as error:
        st.error(ui.plain(str(error)))
        if st.button("Evaluate again", type="primary"):
            try:
                path.unlink(missing_ok=True)
                job.start_task(folder, task, ui.place().cache)
            except (RunError, OSError) as problem:
                st.error(ui.plain(str(problem)))
            else:
                st.rerun()
    return None


def choose_epoch(run: Run, there: Logits) -> int:
    """One of the kept epochs, by default the one that the run is shown at, or the nearest to it."""
    epochs = there.epochs.tolist()
    usual = charts.usual_epoch(run)
    nearest = there.nearest(usual.epoch) if usual else epochs[-1]
    name = "Epoch"
    if usual and usual == run.best:
        name += (
            f" (the best is {nearest})"
            if nearest == usual.epoch
            else f" ({nearest} is next to the best, {usual.epoch})"
        )
    if (asked := st.query_params.get("epoch")) not in (None, *map(str, epochs)):
        st.warning(
            ui.plain(f"Nothing is kept here of epoch {asked[:20]!r}; this is {nearest}."), icon=":material/link_off:"
        )
    chosen = st.selectbox(name, epochs, index=epochs.index(nearest), key="epoch", bind="query-params", width=200)
    return int(chosen)


def weights_of(run: Run, epoch: float) -> str | None:
    """The checkpoint of an epoch, if its weights are kept."""
    return loaders.checkpoint_epochs(run).get(epoch)


def gallery(looked: Looked, places: NDArray[np.int64], captions: Sequence[str], key: str, size: int = 84) -> None:
    """Images of a split, and the way from one of them to its heat map."""
    pictures = looked.pictures
    if pictures.images is None:
        st.dataframe(pd.DataFrame({"Image": captions}), hide_index=True, height=min(36 * (len(captions) + 1), 300))
        reference.pictures_missing(f"Fetch them to see the {len(places):,} that belong here.", key)
        return
    ui.gallery(pictures.images[places], captions, [alt(looked, place) for place in places], size=size)
    closer(looked, places, key)


def closer(looked: Looked, places: NDArray[np.int64], key: str) -> None:
    """The way from one of some images to why it is predicted so."""
    pictures, evaluation = looked.pictures, looked.evaluation
    if pictures.split != "test":
        st.caption("Of test images, Explain shows where the network looks; choose their split above.")
        return
    with st.container(horizontal=True, vertical_alignment="bottom"):
        place_of = dict(zip(pictures.numbers[places].tolist(), places.tolist(), strict=True))
        image = st.selectbox(
            "Look closer at",
            list(place_of),
            format_func=lambda i: f"#{i}: {arrow(evaluation, place_of[i])}",
            key=f"closer-{key}",
            width=300,
        )
        with_weights: dict[str, Any] = {"checkpoint": looked.checkpoint} if looked.checkpoint else {}
        ui.link("Explain", "See where the network looks", run=looked.run.id, image=str(image), **with_weights)


def offer(info: DataInfo | None, pictures: Pictures, places: NDArray[np.int64], about: str, key: str) -> None:
    """A button that puts images into the selection of the dashboard."""
    if info is None or not reference.exact(info):
        return
    selecting.catch_up()
    if pictures.split == "train":
        # Their numbers count in all of the training split, also for a run on some of its classes.
        info = loaders.data_set(info.id, info.fingerprint, ui.place().cache).info
    selecting.offer(info, pictures.split, pictures.numbers[places], about, key)


def captions(looked: Looked, places: NDArray[np.int64]) -> list[str]:
    """Number, truth, prediction and its probability of each image."""
    evaluation = looked.evaluation
    return [
        f"#{looked.pictures.numbers[i]} {arrow(evaluation, i)} {charts.percent(evaluation.confidences[i])}"
        for i in places
    ]


def alt(looked: Looked, place: int) -> str:
    """What a screen reader says of an image."""
    evaluation, pictures = looked.evaluation, looked.pictures
    return (
        f"{pictures.noun.capitalize()} {pictures.numbers[place]}: {evaluation.classes[evaluation.labels[place]]}, "
        f"predicted as {evaluation.classes[evaluation.predictions[place]]} with "
        f"{charts.percent(evaluation.confidences[place])}"
    )


def arrow(evaluation: Evaluation, place: int) -> str:
    """Truth and prediction of an image."""
    true, predicted = evaluation.labels[place], evaluation.predictions[place]
    return f"{charts.brief(evaluation.classes[true])} → {charts.brief(evaluation.classes[predicted])}"


def one_page(images: NDArray[np.int64], most: int, key: str) -> NDArray[np.int64]:
    """The images of the page that is chosen where there are many."""
    pages = -(-len(images) // most)
    if pages <= 1:
        return images
    page = min(st.pagination(pages, key=f"page-{key}"), pages)
    first = (page - 1) * most
    st.caption(f"{first + 1:,} to {min(first + most, len(images)):,} of {len(images):,}")
    return images[first : first + most]
