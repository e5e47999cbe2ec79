"""Evaluate: what a trained network gets right and wrong on the test split, image by image."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd
import streamlit as st
from numpy.typing import NDArray

from cifar_core import job
from cifar_core.datasets import DataInfo, Split
from cifar_core.evaluation import Evaluation, EvaluationError
from cifar_core.runs import ALIVE, Run, RunError, WorkFolder
from cifar_core.sources import DataError
from pages import ui
from pages.ui import charts, loaders, matrix, reference

CELL_PICTURES, MISTAKE_PICTURES = 12, 24  # Shown at once.
BESIDE_THE_MATRIX = 12  # With more classes than this, the matrix needs the whole width.

ui.page("Evaluate")


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


def headline(evaluation: Evaluation) -> None:
    low, high = evaluation.accuracy_interval()
    macro = evaluation.macro()
    with st.container(horizontal=True):
        st.metric("Accuracy", f"{evaluation.accuracy:.1%}", help="Share of the test images classified correctly.")
        st.metric(
            "95% interval",
            f"{low:.1%} – {high:.1%}",
            help="Where the accuracy on ever new images of this kind would lie (Wilson interval). It covers the chance "
            "in which images were drawn, not the chance in training.",
        )
        for name, help in (
            ("precision", "Of the images predicted as a class, the share that is of it; mean over the classes."),
            ("recall", "Of the images of a class, the share that is predicted as it; mean over the classes."),
            ("f1", "Harmonic mean of precision and recall of a class; mean over the classes."),
        ):
            st.metric(f"Macro {name if name != 'f1' else 'F1'}", f"{macro[name]:.1%}", help=help)
    facts = evaluation.facts
    st.caption(
        ui.plain(
            f"Run {facts['run']}, {facts['checkpoint']} weights, after epoch {facts['epoch']:.4g}; {facts['data']}, "
            f"{facts['split']} split, {evaluation.scope()}."
        )
    )


CELL = ("true", "predicted")
"""The boxes beside the matrix, and the parameters of the URL that hold what they say."""


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


def confusion(evaluation: Evaluation, test: Split | None) -> None:
    st.subheader("Confusion matrix", anchor=False)
    take_cell_of_url(evaluation.classes)
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
        cell_images(evaluation, test, true, predicted)
    with left:
        unit = st.segmented_control(
            "Numbers in the cells",
            ["Images", "Percent of the true class"],
            key="cells",
            default="Images",
            required=True,
            bind="query-params",
        )
        theme = st.context.theme.type or "light"
        kept = [evaluation.classes[k] for k in matrix.shown_classes(evaluation)]
        st.vega_lite_chart(
            matrix.cells(evaluation, unit != "Images", theme, true, predicted),
            matrix.matrix_chart(kept, theme),
            key="matrix",
            on_select=take_clicked_cell,
            alt=f"Confusion matrix of {len(kept)} classes, {evaluation.accuracy:.1%} of the images on the diagonal; "
            "the boxes “True class” and “Predicted class” choose a cell by keyboard",
        )
        st.caption(
            "Rows are true classes, columns predicted ones. Blue is right, orange is wrong; each is strongest at its "
            "own greatest number. Click a cell to see its images, and again to leave it."
        )
        if len(kept) < len(evaluation.classes):
            st.caption(f"The {len(kept)} of {len(evaluation.classes)} classes with the most mistakes are shown.")


def images_of(evaluation: Evaluation, true: str | None, predicted: str | None) -> NDArray[np.int64]:
    """Test images of a cell, or of a whole row or column, the surest prediction first."""
    rows = [evaluation.classes.index(true)] if true is not None else range(len(evaluation.classes))
    columns = [evaluation.classes.index(predicted)] if predicted is not None else range(len(evaluation.classes))
    images = np.concatenate([evaluation.cell(row, column) for row in rows for column in columns])
    return images[np.argsort(-evaluation.confidences[images], kind="stable")]


def cell_images(evaluation: Evaluation, test: Split | None, true: str | None, predicted: str | None) -> None:
    if true is None and predicted is None:
        st.caption("Click a cell of the matrix, or choose a class here, to see its images.")
        return
    whole = true is None or predicted is None
    wrong_only = whole and st.toggle("Only mistakes", key="mistakes", bind="query-params")
    images = images_of(evaluation, true, predicted)
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
        st.caption(ui.plain(f"There are no {what} among the {len(evaluation):,} test images."))
        return
    order = ", the surest prediction first" if len(images) > 1 else ""
    st.caption(
        ui.plain(
            f"{len(images):,} {what}{order}. Below each: its number in the test split, truth → prediction, and the "
            "probability of the prediction."
        )
    )
    shown = one_page(images, CELL_PICTURES, f"cell-{true}-{predicted}-{wrong_only}")
    captions = [
        f"#{i} {charts.brief(evaluation.classes[evaluation.labels[i]])} → "
        f"{charts.brief(evaluation.classes[evaluation.predictions[i]])} {charts.percent(evaluation.confidences[i])}"
        for i in shown
    ]
    pictures(evaluation, test, shown, captions, "cell")


def one_page(images: NDArray[np.int64], most: int, key: str) -> NDArray[np.int64]:
    """The images of the page that is chosen where there are many."""
    pages = -(-len(images) // most)
    if pages <= 1:
        return images
    page = min(st.pagination(pages, key=f"page-{key}"), pages)
    first = (page - 1) * most
    st.caption(f"{first + 1:,} to {min(first + most, len(images)):,} of {len(images):,}")
    return images[first : first + most]


def pictures(
    evaluation: Evaluation, test: Split | None, images: NDArray[np.int64], captions: list[str], key: str
) -> None:
    """A gallery of test images, and the way from one of them to its heat map."""
    if test is None:
        reference.pictures_missing(f"Fetch them to see the {len(images):,} that belong here.", key)
        return
    alts = [
        f"Test image {i}: {evaluation.classes[evaluation.labels[i]]}, predicted as "
        f"{evaluation.classes[evaluation.predictions[i]]} with {charts.percent(evaluation.confidences[i])}"
        for i in images
    ]
    ui.gallery(test.images[images], captions, alts, size=84)
    with st.container(horizontal=True, vertical_alignment="bottom"):
        image = st.selectbox(
            "Look closer at",
            images.tolist(),
            format_func=lambda i: (
                f"#{i}: {charts.brief(evaluation.classes[evaluation.labels[i]])} → "
                f"{charts.brief(evaluation.classes[evaluation.predictions[i]])}"
            ),
            key=f"closer-{key}",
            width=300,
        )
        ui.link("Explain", "See where the network looks", run=evaluation.facts["run"], image=str(image))


def by_class(evaluation: Evaluation, file: str) -> None:
    st.subheader("By class", anchor=False)
    report = evaluation.report()
    confused = evaluation.most_confused()
    form = st.segmented_control(
        "Show as",
        ["Table", "Chart"],
        key="classes",
        default="Table",
        required=True,
        bind="query-params",
        label_visibility="collapsed",
    )
    if form == "Chart":
        st.vega_lite_chart(
            matrix.class_rows(report),
            matrix.class_chart(report),
            key="class-chart",
            alt=f"Precision, recall and F1 of each class, lowest F1 for {report['f1'].idxmin()}",
        )
    else:
        worst = confused.drop_duplicates("true").set_index("true")
        st.dataframe(
            report.assign(
                **{name: 100 * report[name] for name in matrix.FIGURES},
                mistaken=[
                    f"{worst.loc[name, 'predicted']} ({worst.loc[name, 'images']:,})" if name in worst.index else "–"
                    for name in report.index
                ],
            ),
            column_config={
                "class": st.column_config.TextColumn("Class", width="medium", pinned=True),
                **{
                    name: st.column_config.ProgressColumn(label, format="%.1f%%", min_value=0, max_value=100)
                    for name, label in matrix.FIGURE_NAMES.items()
                },
                "images": st.column_config.NumberColumn("Images", format="localized", help="In the test split."),
                "mistaken": st.column_config.TextColumn("Most often taken for (images)"),
            },
            height="content" if len(report) <= 20 else "auto",
            alt="Precision, recall, F1 and number of test images of each class",
        )
    counts = pd.DataFrame(evaluation.confusion(), index=report.index.rename("true class"), columns=evaluation.classes)
    with st.container(horizontal=True):
        st.download_button(
            "Table as CSV",
            report.to_csv().encode(),
            f"{file}-classes.csv",
            "text/csv",
            icon=":material/download:",
            on_click="ignore",
        )
        st.download_button(
            "Confusion matrix as CSV",
            counts.to_csv().encode(),
            f"{file}-confusion.csv",
            "text/csv",
            icon=":material/download:",
            on_click="ignore",
            help="Numbers of images; rows are true classes, columns predicted ones.",
        )


def most_confused(evaluation: Evaluation) -> None:
    st.subheader("Most confused pairs", anchor=False)
    pairs = evaluation.most_confused(10)
    if pairs.empty:
        st.caption(f"None: all {len(evaluation):,} test images are predicted correctly.")
        return
    st.dataframe(
        pairs.assign(share_of_true=100 * pairs["share_of_true"]),
        hide_index=True,
        column_config={
            "true": st.column_config.TextColumn("True class"),
            "predicted": st.column_config.TextColumn("Predicted as"),
            "images": st.column_config.NumberColumn("Images", format="localized"),
            "share_of_true": st.column_config.NumberColumn("Of the class", format="%.1f%%"),
        },
        height="content",
        alt="Pairs of classes that are mistaken for each other, most images first",
    )


def worst_mistakes(evaluation: Evaluation, test: Split | None) -> None:
    st.subheader("Worst mistakes", anchor=False)
    mistakes = evaluation.mistakes()
    if mistakes.empty:
        st.caption(f"None: all {len(evaluation):,} test images are predicted correctly.")
        return
    st.caption(
        f"One of the {len(evaluation):,} test images is predicted wrongly. Below it: "
        if len(mistakes) == 1
        else f"The {len(mistakes):,} wrongly predicted of {len(evaluation):,} test images, those first in which the "
        "network gives the least probability to the true class (the greatest loss). Some are mislabelled or hard for "
        "people too. Below each: "
        "its number in the test split, the true class and its probability → the predicted class and its probability."
    )
    shown = one_page(mistakes["index"].to_numpy(), MISTAKE_PICTURES, "mistakes")
    rows = mistakes.set_index("index").loc[shown]
    captions = [
        f"#{row.Index} {charts.brief(row.true)} {charts.percent(row.probability_true)} → "
        f"{charts.brief(row.predicted)} {charts.percent(row.probability_predicted)}"
        for row in rows.itertuples()
    ]
    pictures(evaluation, test, shown, captions, "mistakes")


def opened(info: DataInfo) -> Split | None:
    if not reference.here(info):
        return None
    try:
        return loaders.test_split(info.id, info.fingerprint, ui.place().cache, info.classes)
    except DataError as error:
        st.error(ui.plain(str(error)))
        return None


def show(evaluation: Evaluation, test: Split | None) -> None:
    headline(evaluation)
    confusion(evaluation, test)
    by_class(evaluation, f"{evaluation.facts['run']}-{evaluation.facts['checkpoint']}")
    pairs, mistakes = st.columns([2, 3], gap="large")
    with pairs:
        most_confused(evaluation)
    with mistakes:
        worst_mistakes(evaluation, test)


with st.container(horizontal=True, vertical_alignment="bottom"):
    run = ui.choose_run(needs_weights=True)
    checkpoint = ui.choose_checkpoint(run) if run else None
info = reference.tested_on(run) if run and checkpoint else None
if run and checkpoint and info:
    reference.notice(run, info)
    reference.card(run)
    if evaluation := evaluated(run, checkpoint, info):
        show(evaluation, opened(info))
