"""Evaluate: what a trained network gets right and wrong, image by image, at every epoch that is kept."""

from __future__ import annotations

import pandas as pd
import streamlit as st

from cifar_core.datasets import DataInfo
from cifar_core.evaluation import Evaluation
from cifar_core.logits import LogitsError
from cifar_core.runs import Run, RunError, description
from cifar_core.sources import DataError
from pages import ui
from pages.ui import (
    biographies,
    confusion,
    epochs,
    looked,
    matrix,
    measures,
    mistakes,
    reference,
    reports,
    robustness,
    selecting,
    tour,
)
from pages.ui.looked import Looked

VIEWS = ("Overview", "Epoch by epoch", "Curves and calibration", "Image by image", "Flips and shifts", "Robustness")

ui.page("Evaluate")
tour.show("Evaluate")


def headline(subject: Looked) -> None:
    evaluation, noun = subject.evaluation, subject.pictures.noun
    low, high = evaluation.accuracy_interval()
    macro = evaluation.macro()
    with st.container(horizontal=True):
        st.metric("Accuracy", f"{evaluation.accuracy:.1%}", help=f"Share of the {noun}s classified correctly.")
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
    st.caption(ui.plain(subject.about()))


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
                "images": st.column_config.NumberColumn("Images", format="localized", help="Of the class."),
                "mistaken": st.column_config.TextColumn("Most often taken for (images)"),
            },
            height="content" if len(report) <= 20 else "auto",
            alt="Precision, recall, F1 and number of images of each class",
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


def most_confused(evaluation: Evaluation, noun: str) -> None:
    st.subheader("Most confused pairs", anchor=False)
    pairs = evaluation.most_confused(10)
    if pairs.empty:
        st.caption(f"None: all {len(evaluation):,} {noun}s are predicted correctly.")
        return
    st.dataframe(
        pairs.assign(share_of_true=100 * pairs["share_of_true"]),
        hide_index=True,
        key="pairs",
        on_select=lambda: take_chosen_pair(pairs),
        selection_mode="single-row",
        column_config={
            "true": st.column_config.TextColumn("True class", width=110),
            "predicted": st.column_config.TextColumn("Predicted", width=110),
            "images": st.column_config.NumberColumn("Images", format="localized", width=70),
            "share_of_true": st.column_config.NumberColumn("Of class", format="%.1f%%", width=75),
        },
        height="content",
        alt="Pairs of classes that are mistaken for each other, most images first",
    )
    st.caption("Tick a pair to list its images beside the matrix.")


def take_chosen_pair(pairs: pd.DataFrame) -> None:
    """Name the ticked pair in the boxes beside the matrix."""
    for row in st.session_state["pairs"]["selection"]["rows"]:
        st.session_state["true"], st.session_state["predicted"] = pairs["true"].iloc[row], pairs["predicted"].iloc[row]


def overview(subject: Looked) -> None:
    headline(subject)
    confusion.show(subject)
    by_class(subject.evaluation, subject.file)
    pairs, worst = st.columns([2, 3], gap="large")
    with pairs:
        most_confused(subject.evaluation, subject.pictures.noun)
    with worst:
        mistakes.worst(subject)


def chosen_subject(run: Run, info: DataInfo | None, split: str) -> Looked | None:
    """The answers that are looked at: those of weights about the test images, or of an epoch about the validation
    images; where they are not there yet, a way to them."""
    if split == "test":
        if info and run.checkpoints():
            checkpoint = ui.choose_checkpoint(run)
            evaluation = looked.evaluated(run, checkpoint, info) if checkpoint else None
            path = run.checkpoints().get(checkpoint or "")
            if evaluation and (path is None or description(path).get("epoch") != evaluation.facts["epoch"]):
                # The answers are of earlier weights, which are gone: nothing can be asked of them any more.
                checkpoint = None
            return restricted(run, info, evaluation, split, checkpoint) if evaluation else None
        more = "The test images can be looked at by weights that are kept."
    else:
        more = "The validation images can be looked at by weights that are kept."
    there = looked.made_ready(run, split, info, more)
    if there is None:
        return None
    epoch = looked.choose_epoch(run, there)
    weights = looked.weights_of(run, epoch)
    return restricted(run, info, there.at(epoch), split, weights)


def restricted(
    run: Run, info: DataInfo | None, evaluation: Evaluation, split: str, checkpoint: str | None
) -> Looked | None:
    """What is looked at: all of the answers, or those about the selected images."""
    pictures = looked.pictures_of(run, info, split)
    chosen = looked.selected(info, pictures)
    if chosen is None:
        return Looked(run, info, evaluation, pictures, checkpoint)
    if not len(chosen.places):
        st.info(f"None of the selected images is among the {len(evaluation):,} {pictures.noun}s of this run.")
        return None
    places = chosen.places
    return Looked(run, info, evaluation.some(places), pictures.some(places), checkpoint, chosen)


def show(run: Run, info: DataInfo | None) -> None:
    view = st.segmented_control("View", VIEWS, default=VIEWS[0], key="view", bind="query-params", required=True)
    if view == "Robustness":
        if info and (checkpoint := ui.choose_checkpoint(run)):
            if reference.exact(info):
                selecting.bar(info)
            robustness.show(run, info, checkpoint)
        return
    split = looked.choose_split()
    if info and reference.exact(info):
        selecting.bar(info, restricts=True)
        selecting.say_elsewhere(info, "test" if split == "test" else "train", f"{split} image")
    if view in ("Epoch by epoch", "Image by image"):
        more = "Each further epoch whose weights are kept is another step of the slider."
        if there := looked.made_ready(run, split, info, more):
            pictures = looked.pictures_of(run, info, split)
            chosen = looked.selected(info, pictures)
            if chosen and not len(chosen.places):
                st.info(f"None of the selected images is among the {len(pictures.numbers):,} {pictures.noun}s.")
                return
            if chosen:
                there, pictures = looked.kept(run, split, chosen), pictures.some(chosen.places)
            if split == "test" and len(there.epochs) < 2 and (more := looked.epochs_of(run, "validation")) > 1:
                st.info(
                    f"Of the test images there is what the network said after a single epoch; of the validation images "
                    f"there are {more} epochs: choose them above."
                )
            (epochs if view == "Epoch by epoch" else biographies).show(run, info, split, there, pictures, chosen)
        return
    if subject := chosen_subject(run, info, split):
        {"Curves and calibration": measures.show, "Flips and shifts": mistakes.flips_and_shifts}.get(
            view or "", overview
        )(subject)


try:
    run = ui.choose_run(needs_weights=True)
    info = reference.tested_on(run) if run else None
    if run and info:
        reference.notice(run, info)
        reference.card(run)
    # What is kept of a run can be looked at without its images.
    if run and (info or any(run.logits(split).exists() for split in looked.SPLITS)):
        show(run, info)
        reports.download([run], "report")
except (DataError, LogitsError, RunError) as error:
    st.error(ui.plain(str(error)))
