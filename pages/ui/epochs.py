"""The epoch time machine of the Evaluate page, and the images of a cell at the epoch at which it rests."""

from __future__ import annotations

from contextlib import suppress

import numpy as np
import streamlit as st

from cifar_core import logits
from cifar_core.datasets import DataInfo
from cifar_core.events import size
from cifar_core.logits import Logits
from cifar_core.runs import Run
from cifar_core.timeline import Timeline
from pages import ui
from pages.ui import charts, confusion, looked, reference, time_machine
from pages.ui.looked import Chosen, Looked, Pictures

CELL_PICTURES = 24

AT = "at"
"""What the epoch at which the slider rests is called in the address."""


def show(run: Run, info: DataInfo | None, split: str, there: Logits, pictures: Pictures, chosen: Chosen | None) -> None:
    """The slider with all that it moves, and what of it takes how much room."""
    figures = looked.kept_figures(run, split, chosen)
    story = _story(run, split, there, figures, pictures, chosen.digest if chosen else "")
    # Where it rested is in the address: what Streamlit keeps of it may outlive it in the browser, or not.
    begin = _asked(run, there)
    _machine(run, info, split, there, pictures, story, begin)
    if pictures.images is None and info is not None:
        reference.pictures_missing(
            "Fetch them to see the worst mistakes of each epoch, and some images through all epochs.", "epochs"
        )
    folder = run.logits(split)
    taken = 0
    for path in folder.glob("*.npz"):
        with suppress(OSError):  # A training lets go of some as it goes on.
            taken += path.stat().st_size
    done = run.epochs[-1].epoch if run.epochs else int(there.epochs[-1])
    room = (
        "; it comes with those of every few epochs alone, to be small"
        if run.read_only
        else f" of the {run.config.keep_logits} MB that keep_logits allows"
        if split == "validation"
        else "; of test images those are kept whose weights are"
    )
    st.caption(
        ui.plain(
            f"Run {run.id}; {looked.data_name(there)}, {split} split, {len(there.images.labels):,} "
            f"{'selected ' if chosen else ''}images. {len(there.epochs):,} of {done:,} epochs are kept (float16 logits"
            f"{', of all images of the split' if chosen else ''}), which takes "
            f"{size(taken)}{room}."
        )
    )


def _story(run: Run, split: str, there: Logits, figures: Timeline, pictures: Pictures, digest: str) -> str:
    folder = run.logits(split)
    scope = f"{len(there.images.labels):,} {'selected ' if digest else ''}{pictures.noun}s of {looked.data_name(there)}"
    identity = f"{run.id} {split} {digest}" + (" without pictures" if pictures.images is None else "")
    return _told(identity, logits.version(folder), scope, there, figures, pictures)


@st.cache_data(max_entries=3, show_spinner="Drawing every epoch")
def _told(
    identity: str,
    version: tuple[tuple[int, int], ...],
    scope: str,
    _there: Logits,
    _figures: Timeline,
    _pictures: Pictures,
) -> str:
    return time_machine.told(_there, _figures, _pictures.images, _pictures.numbers, identity, _pictures.noun, scope)


def _asked(run: Run, there: Logits) -> int:
    """The kept epoch nearest to the one in the address, or the usual one; where that is another, it is said."""
    asked = st.query_params.get(AT)
    if asked is None:
        return _usual(run, there)
    try:
        epoch = there.nearest(float(asked))
    except (ValueError, OverflowError):
        epoch = _usual(run, there)
    if asked != f"{epoch}":
        st.warning(ui.plain(f"Nothing is kept of epoch {asked[:20]!r}; this is {epoch}."), icon=":material/link_off:")
    return epoch


def _usual(run: Run, there: Logits) -> int:
    usual = charts.usual_epoch(run)
    return there.nearest(usual.epoch) if usual else int(there.epochs[-1])


@st.fragment
def _machine(
    run: Run, info: DataInfo | None, split: str, there: Logits, pictures: Pictures, story: str, begin: int
) -> None:
    epoch, cell = time_machine.slide(story, begin, key=f"machine-{run.id}-{split}")
    epoch = there.nearest(epoch)
    if epoch != begin or AT in st.query_params:
        st.query_params[AT] = f"{epoch}"
    checkpoint = looked.weights_of(run, epoch)
    subject = Looked(run, info, there.at(epoch), pictures, checkpoint)
    if cell is None or not set(cell) <= set(there.images.classes):
        st.caption("Click a cell of the matrix to see its images at this epoch.")
        return
    true, predicted = cell
    images = confusion.images_of(subject.evaluation, true, predicted, "farthest")
    what = f"{true}, predicted as {predicted}, after epoch {epoch}"
    st.markdown(ui.plain(f"{len(images):,} {pictures.noun}s of {what}, the farthest from right first"))
    if not len(images):
        return
    shown = looked.one_page(images, CELL_PICTURES, f"machine-{true}-{predicted}")
    looked.offer(info, pictures, images, f"run {run.id}: {what}", "select-machine")
    looked.gallery(subject, np.asarray(shown), looked.captions(subject, shown), "machine")
