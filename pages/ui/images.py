"""A data set looked at: how much there is, its classes, images and pixels, and what a network gets of them."""

from __future__ import annotations

import numpy as np
import pandas as pd
import streamlit as st
from numpy.typing import NDArray

from cifar_core.attributes import colour_map
from cifar_core.config import FIELDS
from cifar_core.datasets import DataInfo, DataSet
from cifar_core.selections import Selection
from cifar_core.subsets import class_shares, imbalanced_counts
from pages import ui
from pages.ui import batches, browsing, charts, loaders, selecting, settings

BATCH = 64

SPLITS = ui.SPLITS


def choose_split(help: str) -> str:
    """Training or test images."""
    return st.segmented_control(
        "Split",
        list(SPLITS),
        default="train",
        format_func=lambda name: SPLITS[name].capitalize(),
        key="split",
        bind="query-params",
        required=True,
        help=help,
    )


def facts(info: DataInfo, data: DataSet) -> None:
    """How much there is, and where it is from."""
    size = sum(split.images.nbytes + split.labels.nbytes for split in (data.train, data.test))
    with st.container(horizontal=True, gap="large"):
        st.metric("Training images", f"{info.train_images:,}", width="content")
        st.metric("Test images", f"{info.test_images:,}", width="content")
        st.metric("Classes", f"{len(info.classes):,}", width="content")
        st.metric("Arrays on disk", f"{size / 1e6:,.3g} MB", width="content")
    st.caption(
        f"{ui.plain(info.name)}, read from {ui.plain(info.source)}. Each image is 3 × 32 × 32 bytes. Fingerprint "
        f"`{info.fingerprint}`: data sets with equal images, labels and classes have the same."
    )
    if info.left_out:
        st.info(ui.plain(info.left_out), icon=":material/filter_alt:")


def distribution(info: DataInfo, data: DataSet) -> None:
    """How many images each class has; a click on a bar selects them. And what an imbalance would leave of them."""
    with st.container(horizontal=True, vertical_alignment="center", horizontal_alignment="distribute"):
        st.subheader("Classes", anchor=False, width="content")
        shares = st.toggle("As shares of the split", key="shares", bind="query-params")
    kind, left = _imbalance(info)
    series = {"training": info.train_counts, "test": info.test_counts}
    if kind != "none":
        series["training, imbalanced"] = tuple(left)
    selected = selecting.current(info)
    if selected is not None and selecting.follows():
        labels = getattr(data, selected.split).labels[selected.indices]
        series["selected"] = tuple(np.bincount(labels, minlength=len(info.classes)).tolist())
    rows = charts.class_rows(info.classes, series, st.query_params.get(selecting.PARAMETER, ""))
    verdict, reason = balance(info)
    what = "Share of the images of each split" if shares else "Number of images"
    st.vega_lite_chart(
        rows,
        charts.class_bars(info.classes, list(series), shares),
        key="distribution",
        on_select=lambda: _take_clicked_bar(info, data),
        selection_mode="bar",
        alt=f"{what} of each class. {verdict}: {reason}",
    )
    looks = ("filled", "light", "half filled and dashed", "dotted")
    told = ", ".join(f"{name} ({look})" for name, look in zip(series, looks, strict=False))
    st.caption(f"Of each class, from left to right: {told}. A click on a bar of a split selects its images.")
    st.markdown(f"**{verdict}:** {ui.plain(reason)}")


def _take_clicked_bar(info: DataInfo, data: DataSet) -> None:
    """Select the images of a clicked bar; a click on the bar of what is selected takes it back."""
    clicked = st.session_state["distribution"]["selection"].get("bar")
    if not clicked or clicked[0]["of"] not in SPLITS.values() or clicked[0]["class"] not in info.classes:
        return
    split = next(name for name, said in SPLITS.items() if said == clicked[0]["of"])
    labels = getattr(data, split).labels
    images = np.flatnonzero(labels == info.classes.index(clicked[0]["class"]))
    selecting.toggle(Selection(info.fingerprint, split, images, f"class {clicked[0]['class']}"))


def _imbalance(info: DataInfo) -> tuple[str, list[int]]:
    """An imbalance to try: its kind, and how many training images of each class it leaves."""
    about = FIELDS["imbalance"].metadata
    # Decided once: an expander whose beginning changed would close while somebody works in it.
    opened = st.session_state.setdefault("imbalance_opened", "imbalance" in st.query_params)
    with st.expander("Make the training set imbalanced", icon=":material/balance:", expanded=opened):
        with st.container(horizontal=True, vertical_alignment="bottom"):
            kind = st.segmented_control(
                "Imbalance",
                about["choices"],
                default="none",
                format_func=str.capitalize,
                key="imbalance",
                bind="query-params",
                required=True,
                help=about["help"],
            )
            ratio = st.select_slider(
                "Most frequent to rarest",
                (2, 3, 5, 10, 20, 50, 100, 200, 500, 1000),
                10,
                format_func=lambda ratio: f"{ratio} : 1",
                key="imbalance_ratio",
                bind="query-params",
                disabled=kind == "none",
                width=360,
            )
        left = imbalanced_counts(info.train_counts, class_shares(kind, ratio, len(info.classes)))
        if kind == "none":
            st.caption("Of a real collection of images some classes are rare; here one can see what that does.")
            return kind, left
        most, least = (k(range(len(left)), key=left.__getitem__) for k in (max, min))
        st.markdown(
            f"Keeps {sum(left):,} of {info.train_images:,} training images: {left[most]:,} of "
            f"{ui.plain(info.classes[most])} to {left[least]:,} of {ui.plain(info.classes[least])}, before images are "
            f"held out for validation, which stay as they are. A network that always answers "
            f"{ui.plain(info.classes[most])} is right on {left[most] / sum(left):.0%} of the images it trains on, but "
            f"on {info.test_counts[most] / info.test_images:.0%} of the test images: after such a training look at the "
            "recall of each class on the Evaluate page."
        )
        settings.hand_over("Use for training", {"imbalance": kind, "imbalance_ratio": float(ratio)}, info)
    return kind, left


def balance(info: DataInfo) -> tuple[str, str]:
    """Whether the classes are equally frequent: the verdict, and what it rests on."""
    most, least = (k(range(len(info.classes)), key=info.train_counts.__getitem__) for k in (max, min))
    high, low = info.train_counts[most], info.train_counts[least]
    test = set(info.test_counts)
    if high == low:
        word, said = "Balanced", f"every class has {high:,} training images"
        said += f" and {info.test_counts[0]:,} test images." if len(test) == 1 else "."
    else:
        word = "Nearly balanced" if high / low < 1.25 else "Imbalanced"
        said = (
            f"the most frequent class, {info.classes[most]}, has {high:,} training images, "
            f"{high / low:.3g} times as many as the rarest, {info.classes[least]}, with {low:,}."
        )
        if word == "Imbalanced":
            said += " Accuracy alone then says little about rare classes; look at each class on the Evaluate page."
    missing = [name for name, count in zip(info.classes, info.test_counts, strict=True) if not count]
    if missing:
        said += f" Without any test image: {', '.join(missing[:10])}{', ...' if len(missing) > 10 else ''}."
    return word, said


def pixels(info: DataInfo, split: str) -> None:
    """Histograms, means and mean images over a split or the selected images of it."""
    selecting.say_elsewhere(info, split)
    selected = selecting.current(info) if selecting.images_of(info, split) is not None else None
    if selected is not None and not len(selected):
        st.info("The selection has no image.")
        return
    summary = loaders.pixel_summary(
        info.id,
        info.fingerprint,
        ui.place().cache,
        split,
        selected.digest if selected else "",
        selected.indices if selected else None,
    )
    images = int(summary.class_images.sum())
    which = "the" if selected else "all"
    picked = "selected " if selected else ""
    st.markdown(f"**Values of the three channels** over {which} {images:,} {picked}{SPLITS[split]} images")
    st.plotly_chart(
        charts.channel_histograms(summary.histograms),
        config={"displayModeBar": False},
        alt=f"Histogram of the red, green and blue values from 0 to 255 in the {SPLITS[split]} split",
    )
    total = summary.histograms.sum(axis=1)
    st.dataframe(
        pd.DataFrame(
            {
                "channel": [name.capitalize() for name, *_ in charts.CHANNELS],
                "mean (0 to 1)": summary.mean,
                "deviation (0 to 1)": summary.std,
                "mean (0 to 255)": summary.mean * 255,
                "deviation (0 to 255)": summary.std * 255,
                "value 0": summary.histograms[:, 0] / total,
                "value 255": summary.histograms[:, 255] / total,
            }
        ),
        hide_index=True,
        column_config={
            "channel": "Channel",
            **{
                f"{what} (0 to {most})": st.column_config.NumberColumn(
                    f"{what.capitalize()} (0 to {most})", format=f"%.{digits}f"
                )
                for what in ("mean", "deviation")
                for most, digits in ((1, 4), (255, 1))
            },
            "value 0": st.column_config.NumberColumn("Pixels at 0", format="percent"),
            "value 255": st.column_config.NumberColumn("Pixels at 255", format="percent"),
        },
        alt="Mean and deviation of each channel",
    )
    if split == "train" and not selected:
        st.caption("The normalisation `statistics` uses the means and deviations (0 to 1) of this split.")
    st.markdown("**Mean image of each class**, each pixel averaged over all images of the class")
    there = np.flatnonzero(summary.class_images)
    ui.gallery(
        summary.class_means[there].round().astype(np.uint8),
        [f"{charts.brief(info.classes[k])} ({summary.class_images[k]:,})" for k in there],
        [f"Mean of {summary.class_images[k]:,} {SPLITS[split]} images of {info.classes[k]}" for k in there],
        size=96,
    )
    st.markdown(
        "**Deviation image of each class**: the brighter a pixel, the more it differs from image to image (twice the "
        "standard deviation, so that 127.5, the most there can be, is white)"
    )
    ui.gallery(
        (2 * summary.class_deviations[there]).round().clip(0, 255).astype(np.uint8),
        [f"{charts.brief(info.classes[k])} ({summary.class_images[k]:,})" for k in there],
        [f"Deviation of {summary.class_images[k]:,} {SPLITS[split]} images of {info.classes[k]}" for k in there],
        size=96,
    )
    colours(info, split, selected.indices if selected else None)


def colours(info: DataInfo, split: str, indices: NDArray[np.int64] | None) -> None:
    """Where the images lie by their mean colours; a click selects those of a place."""
    measured = browsing.attributes(info)
    if measured is None:
        return
    st.markdown(f"**Map of mean colours** of the {SPLITS[split]} images")
    found = colour_map(measured[split].colours if indices is None else measured[split].colours[indices])

    def take() -> None:
        clicked = st.session_state["colours"]["selection"].get("place")
        if clicked:
            here = np.flatnonzero(found.cells == clicked[0]["cell"])
            here = here if indices is None else indices[here]
            selecting.select(Selection(info.fingerprint, split, here, "one place of the map of mean colours"))

    st.vega_lite_chart(
        charts.colour_rows(found),
        charts.COLOUR_MAP,
        key="colours",
        on_select=take,
        selection_mode="place",
        width=560,
        alt="Map of the images' mean colours, from green to red and from blue to yellow",
    )
    st.caption(
        "Each square is filled with the mean colour of its images, and larger the more there are. From left to right "
        "from green to red, from below from blue to yellow (OKLab, middle drawn larger). A click selects its images."
    )


def preprocessing(info: DataInfo, data: DataSet, split: str) -> None:
    """One batch as stored, and as a network gets it at test time."""
    selecting.say_elsewhere(info, split)
    order = loaders.gallery_order(info.id, info.fingerprint, ui.place().cache, split, (), 0)
    selected = selecting.images_of(info, split)
    if selected is not None:
        order = order[np.isin(order, selected)]
    if not len(order):
        st.info("The selection has no image.")
        return
    indices = tuple(order[:BATCH].tolist())
    batch = batches.preprocessed(info.id, info.fingerprint, ui.place().cache, split, indices)
    st.markdown(
        f"**One batch of {len(indices)} {SPLITS[split]} images**, before and after each kind of normalisation. "
        "Shape is (images, channels, height, width)."
    )
    batches.show_table(batch.table, "Shape, number format and range of a batch before and after")
    kind = batches.choose_normalisation()
    fed, first = batch.fed[kind], indices[:12]
    names = [info.classes[label] for label in getattr(data, split).labels[list(first)]]
    alts = [f"{name}, {SPLITS[split]} index {i}" for name, i in zip(names, first, strict=True)]
    captions = [f"{charts.brief(name)} {i}" for name, i in zip(names, first, strict=True)]
    st.markdown("Before, as stored:")
    ui.gallery(batch.before[: len(first)], captions, alts, size=64)
    st.markdown(
        f"After, drawn so that the smallest number of the batch, {fed.low:.2f}, is black and the largest, "
        f"{fed.high:.2f}, is white (a network has no need of that; a screen has):"
    )
    ui.gallery(fed.pictures[: len(first)], captions, [f"{alt}, normalised" for alt in alts], size=64)
    if kind != "statistics":
        st.caption("All channels are scaled alike here, so that drawn again the pictures look as before.")
