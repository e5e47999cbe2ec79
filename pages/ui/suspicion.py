"""Images that deserve a second look: near-duplicates, likely label errors, outliers; and how well such lists work."""

from __future__ import annotations

import json

import numpy as np
import pandas as pd
import streamlit as st
from numpy.typing import NDArray

from cifar_core import job
from cifar_core.datasets import DataInfo, DataSet
from cifar_core.evaluation import EvaluationError
from cifar_core.invariance import Views
from cifar_core.runs import RunError
from cifar_core.suspects import ALIKE, WRONG_SHARE, Confidence, Pairs, found_share, leaked, wrong_with_copies
from pages import ui
from pages.ui import browsing, charts, loaders, selecting

LISTS = ("Near-duplicates", "Label errors", "Outliers", "Do such lists work?")

SHOWN = 120
"""Images of a list that are shown at once."""

DEMONSTRATION_IMAGES = 5000

FEWEST_PLANTED = 40
"""Images of which a share of 3 % is at least one, and a tenth are some."""


def show(info: DataInfo, data: DataSet, split: str) -> None:
    """One of the lists."""
    chosen = st.segmented_control("List", LISTS, default=LISTS[0], key="list", bind="query-params", required=True)
    try:
        if chosen == LISTS[0]:
            duplicates(info, data)
        elif chosen == LISTS[1]:
            label_errors(info, data, split)
        elif chosen == LISTS[2]:
            outliers(info, data, split)
        else:
            demonstration(info)
    except loaders.Damaged as error:
        ui.damaged(error, error.path)
    except (EvaluationError, RunError) as error:
        st.error(ui.plain(str(error)))


def duplicates(info: DataInfo, data: DataSet) -> None:
    """Pairs of images that are alike, within and across splits."""
    folder, task = job.duplicates_task(ui.place().downloads, info)
    result = folder.path / "pairs.npz"
    total = info.train_images + info.test_images
    if not result.exists() and not folder.alive:
        st.markdown(
            f"Each of the {total:,} images of both splits is compared with all others, also mirrored. A test image "
            "that a network has met in training says little about it, so such leaks are counted."
        )
    if not ui.background(folder, task, result.exists(), start="Look for near-duplicates"):
        return
    kept = loaders.arrays(result, loaders.version(result))
    pairs = Pairs(*(kept[name] for name in ("first", "second", "mirrored", "scores")))
    chosen = _selected_places(info)
    if chosen is not None:
        pairs = pairs.at(np.isin(pairs.first, chosen) | np.isin(pairs.second, chosen))
    with st.container(horizontal=True, vertical_alignment="bottom"):
        least = st.slider(
            "Likeness at least",
            ALIKE,
            1.0,
            0.9,
            step=0.01,
            key="likeness",
            bind="query-params",
            width=320,
            help="1 is the same image up to brightness and contrast. From about 0.9 on nearly all pairs are copies; "
            "below 0.85 many only look alike from afar.",
        )
        where = st.segmented_control(
            "Pairs", ("All", "Across splits", "Within one"), default="All", key="where", bind="query-params",
            required=True,
        )  # fmt: skip
    pairs = pairs.at(pairs.scores >= least)
    across = (pairs.first < info.train_images) & (pairs.second >= info.train_images)
    leak = leaked(pairs, info.train_images)
    with st.container(horizontal=True, gap="large"):
        st.metric("Pairs", f"{len(pairs):,}", width="content")
        st.metric("Across the splits", f"{int(across.sum()):,}", width="content")
        st.metric("Leaked test images", f"{len(leak):,}", width="content",
                  help="Test images with a near-duplicate among the training images.")  # fmt: skip
        st.metric("Share of the test split", f"{len(leak) / info.test_images:.2%}", width="content")
        labels = np.concatenate([data.train.labels, data.test.labels])
        differ = labels[pairs.first] != labels[pairs.second]
        st.metric("With different labels", f"{int(differ.sum()):,}", width="content")
    if where != "All":
        pairs = pairs.at(across if where == "Across splits" else ~across)
    st.caption(
        "The score is the correlation of the two images' details (their pixels less a blurred version, at a quarter of "
        "the pixels), one of them moved by up to a pixel where that makes them more alike: 1 means the same image up "
        "to brightness and contrast. Most alike first, both images of a pair side by side; ⇄ where one is mirrored."
        + ("" if chosen is None else " Only pairs with a selected image.")
    )
    _look(info, data, chooses=True)
    if not len(pairs):
        st.info("No pair is as alike as that.")
        return
    places, notes = [], []
    for k in range(min(len(pairs), SHOWN // 2)):
        for place in (int(pairs.first[k]), int(pairs.second[k])):
            of = ("train", place) if place < info.train_images else ("test", place - info.train_images)
            places.append(of)
            name = charts.brief(info.classes[getattr(data, of[0]).labels[of[1]]], 10)
            notes.append(f"{name} {of[0]} {pairs.scores[k]:.2f}{' ⇄' if pairs.mirrored[k] else ''}")
    browsing.show_sheet(info, data, places, "duplicates", 64, notes=notes, together=2)
    _first_of(len(places) // 2, len(pairs), "pairs")
    about = f"of likeness at least {least:.2f}"
    with st.container(horizontal=True):
        selecting.offer(info, "test", leak, f"test images with a training image {about}", "select-leak",
                        f"Select the {len(leak):,} leaked test images")  # fmt: skip
        second = pairs.second[pairs.second < info.train_images]
        first = pairs.first[(pairs.first < info.train_images) & (pairs.second >= info.train_images)]
        copies = np.unique(np.concatenate([second, first]))
        selecting.offer(info, "train", copies, f"training images that repeat another image, {about}", "select-copies",
                        f"Select the {len(copies):,} training images that repeat another")  # fmt: skip


def _selected_places(info: DataInfo) -> NDArray[np.int64] | None:
    """The selected images, as pairs number those of both splits; None where all are shown."""
    for split, before in (("train", 0), ("test", info.train_images)):
        selected = selecting.images_of(info, split)
        if selected is not None:
            return selected + before
    return None


def _look(
    info: DataInfo,
    data: DataSet,
    known: loaders.Known | None = None,
    asked: str | None = None,
    chooses: bool = False,
) -> None:
    """The large view of an image of a list; what it needs is looked for only where it is open."""
    if browsing.PICTURE in st.query_params:
        browsing.look(info, data, browsing.attributes(info), known, asked, chooses)


def label_errors(info: DataInfo, data: DataSet, split: str) -> None:
    """Images that are confidently another class than their label says."""
    selecting.say_elsewhere(info, split)
    labels = np.asarray(getattr(data, split).labels)
    if split == "test":
        views = _views(info)
        if views is None:
            return
        facts = views.facts
        probabilities = views.probabilities()
        said = (
            f"run {facts['run']}, {facts['checkpoint']} weights, epoch {facts['epoch']:.3g}, the mean over each image "
            "as it is, flipped and shifted"
        )
    else:
        folder, task = job.crossed_task(ui.place().downloads, info)
        result = folder.path / "crossed.npz"
        if not result.exists() and not folder.alive:
            st.markdown(
                "A network believes the labels it was trained with. So three small networks are trained, each on two "
                f"thirds of the {info.train_images:,} training images, and each predicts the third it has not seen "
                "(out of fold). That takes minutes, happens in the background, and is kept."
            )
        if not ui.background(folder, task, result.exists(), start="Predict every training image unseen"):
            return
        probabilities = loaders.arrays(result, loaders.version(result))["probabilities"]
        said = f"three networks of recipe quick, out of fold, right on {(probabilities.argmax(1) == labels).mean():.1%}"
    confidence = Confidence(labels, probabilities)
    suspects = _selected_of(confidence.suspects(), info, split)
    confident = _selected_of(confidence.confident, info, split)
    with st.container(horizontal=True, gap="large"):
        st.metric("Suspects", f"{len(suspects):,}", width="content")
        st.metric(
            "Confidently another class",
            f"{len(confident):,}",
            width="content",
            help="Suspects whose probability of another class reaches the mean that class has where it is the label.",
        )
        whole = "" if selecting.images_of(info, split) is None else f" of all {len(labels):,}"
        st.metric(f"Wrong labels expected{whole}", f"{confidence.errors_expected:,.0f}", width="content",
                  help="From the confident joint of labels and predictions. Where the networks are often wrong "
                  "themselves, this is too many.")  # fmt: skip
        st.metric("Share of the split", f"{confidence.errors_expected / len(labels):.2%}", width="content")
    st.caption(
        ui.plain(
            "The score is the probability that the label is right, as the prediction says; listed is what is predicted "
            f"as another class, the least likely label first. Predictions of {said}; {info.name}, {ui.SPLITS[split]} "
            "split. How many are expected to be wrong, and which confidently so, is as in confident learning "
            "(Northcutt et al., 2021)."
        )
    )
    given, predicted = confidence.given, probabilities.argmax(1)
    notes = [
        f"{charts.brief(info.classes[labels[i]], 9)} → {charts.brief(info.classes[predicted[i]], 9)} {given[i]:.1%}"
        for i in suspects[:SHOWN]
    ]
    _look(info, data, chooses=split == "train")
    _list(info, data, split, suspects, notes, "label-errors", f"likely label errors by {said}")
    about = f"images that are confidently another class by {said}"
    selecting.offer(info, split, confident, about, "select-confident", f"Select the {len(confident):,} confident ones")


def _views(info: DataInfo) -> Views | None:
    """What a run says of the test images in several views, which is surer than what it says of them as they are."""
    run = browsing.choose_run(info, "Predictions of run", "None")
    if run is None:
        st.info(
            "Choose a run: its predictions of the test images, which it has not seen, say which labels to doubt. "
            "Without one, train a network first."
        )
        return None
    folder, task = job.views_task(run, next(iter(run.checkpoints())), info)
    path = folder.path / "views.npz"
    start = f"Predict all {info.test_images:,} test images as they are, flipped and shifted"
    if not ui.background(folder, task, path.exists(), start=start):
        return None
    return loaders.views(path, loaders.version(path))


def outliers(info: DataInfo, data: DataSet, split: str) -> None:
    """Images that are unlike all others to a run."""
    selecting.say_elsewhere(info, split)
    known = browsing.choose_judge(info, split)
    if known is None:
        st.info("Choose a run: how far an image is from all others is measured in its features. "
                "Without one, train a network first.")  # fmt: skip
        return
    scores = known.distances.mean(1)
    order = _selected_of(np.argsort(-scores, kind="stable"), info, split)
    st.caption(
        ui.plain(
            f"The score is the mean distance (1 less the cosine) to the {known.distances.shape[1]} nearest images in "
            f"the features of {known.said}: the higher, the more alone. {info.name}, {ui.SPLITS[split]} split. The "
            f"median is {np.median(scores):.3f}."
        )
    )
    if not len(order):
        st.info("There is none.")
        return
    notes = [f"{charts.brief(info.classes[known.labels[i]], 10)} {scores[i]:.3f}" for i in order[:SHOWN]]
    most = min(len(order), 2000)
    count = st.select_slider(
        "How many", [*(n for n in (10, 20, 50, 100, 200, 500, 1000) if n < most), most],
        key="outlier-count", bind="query-params", width=320,
    )  # fmt: skip
    _look(info, data, known, asked=split)
    _list(info, data, split, order[:count], notes[:count], "outliers", f"the {count} farthest outliers of {known.said}")


def _selected_of(order: NDArray[np.int64], info: DataInfo, split: str) -> NDArray[np.int64]:
    selected = selecting.images_of(info, split)
    return order if selected is None else order[np.isin(order, selected)]


def _list(
    info: DataInfo,
    data: DataSet,
    split: str,
    order: NDArray[np.int64],
    notes: list[str],
    key: str,
    about: str,
) -> None:
    if not len(order):
        st.info("There is none.")
        return
    browsing.show_sheet(info, data, [(split, int(i)) for i in order[:SHOWN]], key, 64, notes=notes)
    _first_of(min(len(order), SHOWN), len(order), "images")
    selecting.offer(info, split, order, about, f"select-{key}")


def _first_of(shown: int, total: int, what: str) -> None:
    if shown < total:
        st.caption(f"The first {shown:,} of {total:,} {what}; selecting takes all.")


def demonstration(info: DataInfo) -> None:
    """Errors are planted, and it is counted how many of them the lists bring up."""
    # A run is far better at it than networks of a minute, if there is one that has learned these classes.
    run = browsing.choose_run(
        info, "Wrong labels are found by", "Small networks, trained for it", key="finder", begin_with_the_best=True
    )
    images = info.test_images if run else min(DEMONSTRATION_IMAGES, info.train_images)
    if images < FEWEST_PLANTED:
        st.info(
            f"At least {FEWEST_PLANTED} {'test' if run else 'training'} images are needed to plant errors among; "
            f"{ui.plain(info.name)} has {images}."
        )
        return
    checkpoint = next(iter(run.checkpoints())) if run else "best"
    folder, task = job.demonstration_task(ui.place().downloads, info, images, run, checkpoint)
    result = folder.path / "demonstration.npz"
    if not result.exists() and not folder.alive:
        st.markdown(
            f"Of {images:,} {'test' if run else 'training'} images of {ui.plain(info.name)}, {WRONG_SHARE:.0%} get a "
            "wrong label, and altered copies of 100 others are added: mirrored, shifted, brighter or darker, noisy. "
            "Then both lists are made as above, without knowing what was planted, and it is counted how much of it "
            "they bring up. The data set itself stays as it is."
        )
    if not ui.background(folder, task, result.exists(), start="Plant errors and look for them"):
        return
    kept = loaders.arrays(result, loaders.version(result))
    wanted = set(zip(kept["originals"].tolist(), kept["copies"].tolist(), strict=True))
    hits = np.array([pair in wanted for pair in zip(kept["first"].tolist(), kept["second"].tolist(), strict=True)])
    copies = np.cumsum(hits) / len(wanted)
    # A copy has the label of its original, be it wrong.
    mislabelled = wrong_with_copies(kept["wrong"], kept["originals"], kept["copies"])
    wrong = found_share(kept["suspects"], mislabelled)
    rows = []
    for what, of, share, planted in (
        ("altered copies", "pairs", copies, len(wanted)),
        ("wrong labels", "images", wrong, len(mislabelled)),
    ):
        for length, which in (
            (planted, "as many as were planted"),
            (2 * planted, "twice as many"),
            (len(share), "all"),
        ):
            found = float(share[min(length, len(share)) - 1]) if len(share) and length else 0.0
            rows.append((what.capitalize(), planted, f"the first {length:,} {of} ({which})", found))
    st.dataframe(
        pd.DataFrame(rows, columns=["Planted", "How many", "Looked at of the list", "Found of them"]),
        hide_index=True,
        column_config={"Found of them": st.column_config.NumberColumn(format="percent")},
        height="content",
        alt="Share of the planted errors at the top of the lists",
    )
    facts = json.loads(str(kept["facts"]))
    if facts:
        who = (
            f"Run {facts['run']}, {facts['checkpoint']} weights, epoch {facts['epoch']:.3g}, which has not seen them "
            "(the mean over each image as it is, flipped and shifted), "
        )
    else:
        who = "Each of three small networks was trained on two thirds of them, wrong labels included, and "
    st.caption(
        ui.plain(
            f"Of {int(kept['images']):,} {'test' if facts else 'training'} images of {info.name}, copies included. "
            f"{who}agrees with the labels on {float(kept['agreement']):.1%} of what it was not trained on: the better, "
            "the fewer of its own mistakes stand between the wrong labels. Confident learning expects "
            f"{float(kept['expected']):,.0f} wrong labels, too many where the network is often wrong. Near-duplicates "
            f"that were there before count as misses here. {len(mislabelled) - len(kept['wrong'])} of the "
            f"{len(mislabelled)} wrong labels are of copies of images that got one."
        )
    )
    longest = 5 * max(len(wanted), len(mislabelled))
    frame = pd.concat(
        [
            pd.DataFrame({"place": np.arange(1, len(share) + 1)[:longest], "share": share[:longest], "list": name})
            for name, share in (("near-duplicates", copies), ("label errors", wrong))
        ]
    )
    st.vega_lite_chart(
        frame, charts.FOUND_CURVE, key="found-curve", alt="Share of the planted errors found along the lists"
    )
