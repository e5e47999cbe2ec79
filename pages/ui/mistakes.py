"""Mistakes of the Evaluate page: the worst and the most confident ones, and what flips and shifts make of images."""

from __future__ import annotations

import numpy as np
import pandas as pd
import streamlit as st
from numpy.typing import NDArray

from cifar_core import job
from cifar_core.evaluation import Evaluation, EvaluationError
from cifar_core.invariance import PIXELS, VIEWS, Views
from pages import ui
from pages.ui import charts, loaders, looked, reference
from pages.ui.looked import Looked

PICTURES = 24

ORDERS = {
    "loss": "Greatest loss first",
    "confidence": "Most confident first",
    "close": "Closest call first",
}

VIEW_NAMES = {
    "as it is": "As it is",
    "flipped": "Flipped left to right",
    **{name: f"Shifted {PIXELS} pixels {name}" for name in ("left", "right", "up", "down")},
}


def worst(subject: Looked) -> None:
    """The wrongly predicted images in an order of choice."""
    evaluation, pictures = subject.evaluation, subject.pictures
    st.subheader("Worst mistakes", anchor=False)
    mistakes = evaluation.mistakes()
    if mistakes.empty:
        st.caption(f"None: all {len(evaluation):,} {pictures.noun}s are predicted correctly.")
        return
    order = st.selectbox(
        "Order of the mistakes",
        list(ORDERS),
        format_func=ORDERS.__getitem__,
        key="mistake_order",
        bind="query-params",
        label_visibility="collapsed",
        width=240,
    )
    if order == "confidence":
        mistakes = mistakes.sort_values("probability_predicted", ascending=False, kind="stable")
    elif order == "close":
        gaps = mistakes["probability_predicted"] - mistakes["probability_true"]
        mistakes = mistakes.loc[gaps.sort_values(kind="stable").index]
    meaning = {
        "loss": "those first in which the network gives the least probability to the true class (the greatest loss)",
        "confidence": "those first in which it is surest of the wrong class",
        "close": "those first in which the true class is nearly as probable",
    }[order]
    st.caption(
        (
            f"One of the {len(evaluation):,} {pictures.noun}s is predicted wrongly. Below it: "
            if len(mistakes) == 1
            else f"The {len(mistakes):,} wrongly predicted of {len(evaluation):,} {pictures.noun}s, {meaning}. Some "
            "are mislabelled or hard for people too. Below each: "
        )
        + "its number, the true class and its probability → the predicted class and its probability, as the softmax "
        "gives them; Explain shows calibrated ones."
    )
    places = mistakes["index"].to_numpy()
    shown = looked.one_page(places, PICTURES, f"mistakes-{order}")
    rows = mistakes.set_index("index").loc[shown]
    captions = [
        f"#{pictures.numbers[row.Index]} {charts.brief(row.true)} {charts.percent(row.probability_true)} → "
        f"{charts.brief(row.predicted)} {charts.percent(row.probability_predicted)}"
        for row in rows.itertuples()
    ]
    looked.offer(subject.info, pictures, places, f"mistakes; {subject.about()}", "select-mistakes")
    looked.gallery(subject, shown, captions, "mistakes")


def flips_and_shifts(subject: Looked) -> None:
    """Which images a flip or a shift of some pixels makes wrong, and whether a vote of all views helps."""
    st.subheader("Flips and shifts", anchor=False)
    if subject.info is not None and not reference.here(subject.info):
        reference.pictures_missing("Fetch them to see which answers a flip or a shift changes.", "flips")
        return
    if subject.info is not None and (other := reference.copied_from(subject.info)):
        st.info(
            ui.plain(
                f"Flips and shifts are looked at on the very images of the figures above, {subject.info.name}; what is "
                f"here is {other.name}. Fork or train a network on it, and look at that one."
            )
        )
        return
    if subject.info is None or subject.evaluation.facts["split"] != "test" or subject.checkpoint is None:
        st.info("Flips and shifts are looked at for the test images, by weights that are kept; choose those above.")
        return
    folder, task = job.views_task(subject.run, subject.checkpoint, subject.info)
    path = folder.path / "views.npz"
    if not path.exists() and not folder.alive:
        st.markdown(
            f"The network looks at every test image {len(VIEWS)} times: as it is, flipped, and shifted by {PIXELS} "
            "pixels each way. Nothing of what is on an image changes by that, so the answer should not either. It is "
            "computed once, in the background, and kept."
        )
    if not ui.background(folder, task, path.exists(), start="Look at flips and shifts"):
        return
    try:
        views = loaders.views(path, loaders.version(path))
    except EvaluationError as error:
        st.error(ui.plain(str(error)))
        if st.button("Look again", type="primary"):
            path.unlink(missing_ok=True)
            st.rerun()
        return
    if subject.chosen:
        views = views.some(subject.chosen.places)
    _table(subject, views)
    _changed(subject, views)


def _table(subject: Looked, views: Views) -> None:
    plain = views.each()[0]
    votes = {
        **{VIEW_NAMES[name]: right for name, right in zip(VIEWS, views.each(), strict=True)},
        "Mean of image and flip": views.correct("as it is", "flipped"),
        "Mean of all views": views.correct(),
    }
    rows = [
        (name, 100 * right.mean(), int((right & ~plain).sum()), int((plain & ~right).sum()))
        for name, right in votes.items()
    ]
    st.dataframe(
        pd.DataFrame(rows, columns=["view", "accuracy", "helps", "hurts"]),
        hide_index=True,
        column_config={
            "view": st.column_config.TextColumn("How the image is looked at", pinned=True),
            "accuracy": st.column_config.NumberColumn("Accuracy", format="%.2f%%"),
            "helps": st.column_config.NumberColumn("Wrong, now right", format="localized"),
            "hurts": st.column_config.NumberColumn("Right, now wrong", format="localized"),
        },
        height="content",
        alt="Accuracy of each view of the test images and of their means, with images that become right or wrong",
    )
    gain = 100 * (votes["Mean of all views"].mean() - plain.mean())
    verdict = "helps" if gain > 0 else "hurts" if gain < 0 else "changes nothing"
    unsteady = int((views.each().any(axis=0) & ~views.each().all(axis=0)).sum())
    st.markdown(
        f"Test-time augmentation over all {len(VIEWS)} views **{verdict}**: {gain:+.2f} points over "
        f"{len(plain):,} test images. {unsteady:,} of them are right in some views and wrong in others."
    )
    st.caption(
        "A mean is of probabilities; the class with the greatest one is predicted. At the edges, what moves in is "
        "mirrored. " + ui.plain(subject.about())
    )


def _changed(subject: Looked, views: Views) -> None:
    each, vote = views.each(), views.correct()
    plain = each[0]
    groups: dict[str, NDArray[np.bool_]] = {
        "Right as it is, wrong when flipped": plain & ~each[1],
        "Right as it is, wrong in some shift": plain & ~each[2:].all(axis=0),
        "Wrong as it is, right by the mean of all views": ~plain & vote,
        "Right as it is, wrong by the mean of all views": plain & ~vote,
        "Wrong in every view": ~each.any(axis=0),
    }
    chosen = st.selectbox(
        "Images that are",
        list(groups),
        format_func=lambda name: f"{name} ({int(groups[name].sum()):,})",
        key="views",
        width=480,
    )
    places = np.flatnonzero(groups[chosen])
    # The most fragile first.
    places = places[np.argsort(each[:, places].sum(axis=0), kind="stable")]
    if not len(places):
        st.caption("There are none.")
        return
    about = f"{chosen.lower()}; {subject.about()}"
    looked.offer(subject.info, subject.pictures, places, about, "select-views")
    shown = looked.one_page(places, PICTURES, f"views-{chosen}")
    st.caption(
        f"Below each: its number, truth → prediction as it is, and in how many of the {len(VIEWS)} views it is right."
    )
    evaluation: Evaluation = subject.evaluation
    captions = [
        f"#{subject.pictures.numbers[i]} {looked.arrow(evaluation, i)} {int(each[:, i].sum())}/{len(VIEWS)}"
        for i in shown
    ]
    looked.gallery(subject, shown, captions, "views")
