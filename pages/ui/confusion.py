"""The confusion matrix of the Evaluate page, what it is compared with, and the images behind its cells."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import streamlit as st
from numpy.typing import NDArray

from cifar_core.evaluation import Evaluation, clustered
from cifar_core.logits import LogitsError
from cifar_core.runs import list_runs
from pages import ui
from pages.ui import charts, loaders, looked, matrix
from pages.ui.looked import Looked

CELL_PICTURES = 12  # Shown at once.
BESIDE_THE_MATRIX = 12  # With more classes than this, the matrix needs the whole width.
CELL = ("true", "predicted")
"""The boxes beside the matrix, and the parameters of the URL that hold what they say."""

ORDERS = {
    "farthest": "Farthest from right first",
    "closest": "Closest call first",
    "surest": "Surest prediction first",
}
"""By the margin between the true class and the strongest other one, or by the confidence."""


def take_cell_of_url(classes: Sequence[str]) -> None:
    """Fill the boxes from the URL where that is another than the page has put there: a link, or a step back."""
    asked = tuple(st.query_params.get(name) for name in CELL)
    if asked != st.session_state.get("cell_in_url", (None, None)):
        st.session_state["cell_in_url"] = asked
        for name, value in zip(CELL, asked, strict=True):
            st.session_state[name] = value
    for name in CELL:
        # Of a bad link, or left over from a run with other classes. Set even where it is so already: on another page
        # Streamlit forgets what a box said.
        value = st.session_state.get(name)
        st.session_state[name] = value if value in classes else None


def put_cell_into_url() -> None:
    """Both names at once, so that a click is one step of the browser's history; a binding of each would make two."""
    cell = tuple(st.session_state[name] for name in CELL)
    if cell != tuple(st.query_params.get(name) for name in CELL):
        st.query_params.update({name: [] if value is None else value for name, value in zip(CELL, cell, strict=True)})
    st.session_state["cell_in_url"] = cell


def take_clicked_cell() -> None:
    """Name the clicked cell in the boxes beside the matrix; a click on the same cell or beside it takes it back."""
    clicked = st.session_state["matrix"]["selection"].get("cell")
    cell = (clicked[0]["true"], clicked[0]["predicted"]) if clicked else (None, None)
    if cell == (st.session_state.get("true"), st.session_state.get("predicted")):
        cell = (None, None)
    st.session_state["true"], st.session_state["predicted"] = cell


def others(subject: Looked) -> dict[str, Callable[[], Evaluation]]:
    """What the answers can be compared with, by name: those of other weights, epochs and runs about the same images."""
    run, own = subject.run, subject.evaluation.facts
    split = own["split"]
    found: dict[str, Callable[[], Evaluation]] = {}
    for other in list_runs(run.root):
        name = "this run" if other.id == run.id else charts.run_name(other)
        if split == "test":
            for stored in loaders.stored_evaluations(other, fingerprint=own["fingerprint"]):
                if (other.id, stored.checkpoint, stored.epoch) == (own["run"], own.get("checkpoint"), own["epoch"]):
                    continue
                label = f"{name}, {stored.checkpoint} weights, epoch {stored.epoch:.4g}"
                found.setdefault(label, lambda path=stored.path: loaders.evaluation(path, loaders.version(path)))  # type: ignore[misc]
        if other.id != run.id and split == "test":
            continue
        try:
            there = looked.kept(other, split)
        except LogitsError:
            continue
        images, asked = there.images, subject.evaluation
        # Validation images are known by their place in the training split, test images by their order.
        told, wanted = (images.labels, asked.labels) if split == "test" else (images.indices, subject.pictures.numbers)
        same = images.facts.get("fingerprint") == own.get("fingerprint") and images.classes == asked.classes
        if not same or not np.array_equal(_those(subject, told), wanted):
            continue
        usual = charts.usual_epoch(other)
        best = there.nearest(usual.epoch) if usual else int(there.epochs[-1])
        for epoch in [best] if other.id != run.id else there.epochs.tolist():
            if other.id != run.id or epoch != own["epoch"]:
                found.setdefault(f"{name}, epoch {epoch}", lambda there=there, epoch=epoch: there.at(epoch))  # type: ignore[misc]
    return found


def compared(subject: Looked) -> Evaluation | None:
    """The answers chosen to be taken off, if any."""
    there = others(subject)
    if not there:
        return None
    chosen = st.selectbox(
        "Difference to",
        list(there),
        index=None,
        placeholder="Nothing: the matrix itself",
        key="versus",
        width=420,
        help="Other weights, epochs or runs that were asked about the same images.",
    )
    if chosen is None:
        return None
    other = there[chosen]()
    if subject.chosen and subject.chosen.places[-1] < len(other):
        other = other.some(subject.chosen.places)
    if other.classes == subject.evaluation.classes and len(other) == len(subject.evaluation):
        return other
    st.info(
        "Those answers tell other classes apart, so that there is no difference to show: this is the matrix itself."
    )
    return None


def _those(subject: Looked, labels: NDArray[np.int64]) -> NDArray[np.int64]:
    """The labels of the images that are looked at, of those of all."""
    if subject.chosen is None or subject.chosen.places[-1] >= len(labels):
        return labels
    return labels[subject.chosen.places]


def show(subject: Looked) -> None:
    """The matrix with its controls, and beside it the images of the chosen cell."""
    evaluation = subject.evaluation
    st.subheader("Confusion matrix", anchor=False)
    take_cell_of_url(evaluation.classes)
    with st.container(horizontal=True, vertical_alignment="bottom"):
        numbers = st.segmented_control(
            "Numbers in the cells",
            matrix.NUMBERS,
            key="cells",
            default="Images",
            required=True,
            bind="query-params",
            wrap=True,
        )
        other = compared(subject)
        errors_only = st.toggle("Errors only", key="errors", bind="query-params", help="Leave out what is right.")
        by_likeness = st.toggle(
            "Similar classes together",
            key="clustered",
            bind="query-params",
            help="Order the classes so that those that are mistaken for each other stand side by side.",
        )
    if len(evaluation.classes) <= BESIDE_THE_MATRIX:
        left, right = st.columns([3, 2], gap="large")
    else:
        left, right = st.container(), st.container()
    with right:
        boxes = st.columns(2)
        any_class = {"index": None, "placeholder": "Any class"}
        true = boxes[0].selectbox("True class", evaluation.classes, key="true", **any_class)
        predicted = boxes[1].selectbox("Predicted class", evaluation.classes, key="predicted", **any_class)
        put_cell_into_url()
        cell_images(subject, true, predicted)
    with left:
        theme = st.context.theme.type or "light"
        kept = matrix.shown_classes(evaluation)
        ordered = kept[clustered(evaluation.confusion()[np.ix_(kept, kept)])] if by_likeness else kept
        names = [evaluation.classes[k] for k in ordered]
        off = other.confusion() if other else None
        st.vega_lite_chart(
            matrix.cells(evaluation, numbers or "Images", theme, true, predicted, errors_only, off),
            matrix.matrix_chart(names, theme),
            key="matrix",
            on_select=take_clicked_cell,
            alt=f"Confusion matrix of {len(kept)} classes, {evaluation.accuracy:.1%} of the images on the diagonal; "
            "the boxes “True class” and “Predicted class” choose a cell by keyboard",
        )
        what = (
            "A number is this less the other; blue is better here, orange worse."
            if other
            else "Blue is right, orange is wrong; each is strongest at its own greatest number."
        )
        st.caption(
            f"Rows are true classes, columns predicted ones. {what} Click a cell to see its images, and again to "
            "leave it."
        )
        if other:
            gain = 100 * (evaluation.accuracy - other.accuracy)
            st.caption(
                ui.plain(f"Accuracy {evaluation.accuracy:.2%}, {gain:+.2f} points from {other.accuracy:.2%}: ")
                + ui.plain(Looked(subject.run, subject.info, other, subject.pictures, None).about())
            )
        if len(kept) < len(evaluation.classes):
            st.caption(f"The {len(kept)} of {len(evaluation.classes)} classes with the most mistakes are shown.")


def images_of(evaluation: Evaluation, true: str | None, predicted: str | None, order: str) -> NDArray[np.int64]:
    """Places of the images of a cell, or of a whole row or column, in one of `ORDERS`."""
    inside = np.ones(len(evaluation), bool)
    if true is not None:
        inside &= evaluation.labels == evaluation.classes.index(true)
    if predicted is not None:
        inside &= evaluation.predictions == evaluation.classes.index(predicted)
    images = np.flatnonzero(inside)
    key = {
        "surest": -evaluation.confidences[images],
        "farthest": evaluation.margins[images],
        "closest": np.abs(evaluation.margins[images]),
    }[order]
    return images[np.argsort(key, kind="stable")]


def cell_images(subject: Looked, true: str | None, predicted: str | None) -> None:
    """The images of a cell, a row or a column, with heat maps for the predicted and the true class if asked."""
    if true is None and predicted is None:
        st.caption("Click a cell of the matrix, or choose a class here, to see its images.")
        return
    evaluation, pictures = subject.evaluation, subject.pictures
    whole = true is None or predicted is None
    with st.container(horizontal=True, vertical_alignment="bottom"):
        wrong_only = whole and st.toggle("Only mistakes", key="mistakes", bind="query-params")
        order = st.selectbox(
            "Order", list(ORDERS), format_func=ORDERS.__getitem__, key="order", bind="query-params", width=220
        )
        weights = subject.run.checkpoints().get(subject.checkpoint or "")
        heats = st.toggle(
            "Heat maps",
            weights is not None,
            key="heats",
            bind="query-params",
            disabled=weights is None,
            help="Grad-CAM of the last layer for the predicted and for the true class."
            if weights
            else "The weights of this epoch are not kept.",
        )
    images = images_of(evaluation, true, predicted, order)
    if wrong_only:
        images = images[~evaluation.correct[images]]
    noun = "image" if len(images) == 1 else "images"
    what = " ".join(
        part
        for part in (
            "wrongly predicted" if wrong_only else "",
            f"{noun} of {true}" if true is not None else noun,
            f"predicted as {predicted}" if predicted is not None else "",
        )
        if part
    )
    if not len(images):
        st.caption(ui.plain(f"There are no {what} among the {len(evaluation):,} {pictures.noun}s."))
        return
    told = {
        "surest": ", the surest prediction first",
        "farthest": ", first those whose own class lies farthest behind another",
        "closest": ", first those that are nearly another class",
    }[order]
    st.caption(
        ui.plain(
            f"{len(images):,} {what}{told if len(images) > 1 else ''}. Below each: its number in the {pictures.split} "
            "split, truth → prediction, and the probability of the prediction."
        )
    )
    shown = looked.one_page(images, CELL_PICTURES, f"cell-{true}-{predicted}-{wrong_only}-{order}")
    captions = looked.captions(subject, shown)
    looked.offer(subject.info, pictures, images, f"{what}; {subject.about()}", "select-cell")
    if heats and weights and pictures.images is not None:
        heat_rows(subject, shown, captions)
        looked.closer(subject, shown, "cell")
    else:
        looked.gallery(subject, shown, captions, "cell")


def heat_rows(subject: Looked, shown: NDArray[np.int64], captions: Sequence[str]) -> None:
    """Each image beside its heat maps for the predicted and for the true class."""
    evaluation, pictures = subject.evaluation, subject.pictures
    path = subject.run.checkpoints()[subject.checkpoint or ""]
    pixels = np.ascontiguousarray(pictures.images[shown])  # type: ignore[index]
    said, own = evaluation.predictions[shown], evaluation.labels[shown]
    alts = [looked.alt(subject, place) for place in shown]
    # The images are there at once, and give way when their maps are.
    place = st.empty()
    place.html(charts.gallery(pixels, captions, alts, 84))
    heats = loaders.heat_pairs(path, loaders.version(path), pixels, tuple(said.tolist()), tuple(own.tolist()))
    place.html(charts.heat_rows(pixels, *heats, captions, alts))
    st.caption("Each image, then where the network finds evidence for the predicted class, and for the true one.")
