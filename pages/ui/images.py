"""A data set looked at: how much there is, its classes, images and pixels, and what a network gets of them."""

from __future__ import annotations

import math

import numpy as np
import pandas as pd
import streamlit as st

from cifar_core.config import FIELDS
from cifar_core.datasets import DataInfo, DataSet
from pages import ui
from pages.ui import batches, charts, loaders, selecting

PER_PAGE = 88
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


def distribution(info: DataInfo) -> None:
    """How many images each class has."""
    with st.container(horizontal=True, vertical_alignment="center", horizontal_alignment="distribute"):
        st.subheader("Classes", anchor=False, width="content")
        shares = st.toggle("As shares of the split", key="shares", bind="query-params")
    figure = charts.class_distribution(info.classes, info.train_counts, info.test_counts, shares)
    verdict, reason = balance(info)
    what = "Share of the images of each split" if shares else "Number of images"
    st.plotly_chart(
        figure,
        config={"displayModeBar": False},
        alt=f"{what} of each class. {verdict}: {reason}",
    )
    st.markdown(f"**{verdict}:** {ui.plain(reason)}")


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


def gallery(info: DataInfo, data: DataSet, split: str) -> None:
    """The images of a split, page by page."""
    with st.container(horizontal=True, vertical_alignment="bottom"):
        chosen = st.multiselect(
            "Only these classes",
            info.classes,
            key="classes",
            bind="query-params",
            placeholder="All classes",
            width=360,
        )
        shuffled = st.toggle("Random sample", True, key="shuffled", bind="query-params", help="Otherwise as stored.")
        seed = st.number_input(
            "Seed",
            0,
            FIELDS["seed"].metadata["high"],
            key="seed",
            bind="query-params",
            width=140,
            disabled=not shuffled,
            help="Another seed, another sample; the same seed shows the same images again.",
        )
    order = loaders.gallery_order(
        info.id,
        info.fingerprint,
        ui.place().cache,
        split,
        tuple(info.classes.index(name) for name in chosen),
        seed if shuffled else None,
    )
    selected = selecting.images_of(info, split)
    if selected is not None:
        order = order[np.isin(order, selected)]
    if not len(order):
        of = f" of {ui.plain(', '.join(chosen))}" if chosen else ""
        where = "The selection" if selected is not None else f"The {SPLITS[split]} split"
        st.info(f"{where} has no image{of}.")
        return
    pages = math.ceil(len(order) / PER_PAGE)
    # The pages come below the images, but decide what these are.
    pictures = st.container()
    page = st.pagination(pages, key="page", bind="query-params")
    shown = order[(page - 1) * PER_PAGE : page * PER_PAGE]
    source = getattr(data, split)
    names = [info.classes[label] for label in source.labels[shown]]
    with pictures:
        st.caption(
            f"{len(order):,} {'selected ' if selected is not None else ''}{SPLITS[split]} images"
            f"{' in random order' if shuffled else ''}; these are "
            f"{(page - 1) * PER_PAGE + 1:,} to {(page - 1) * PER_PAGE + len(shown):,}. "
            "The number below an image is its index in the split."
        )
        ui.gallery(
            source.images[shown],
            [f"{charts.brief(name)} {i}" for name, i in zip(names, shown, strict=True)],
            [f"{name}, {SPLITS[split]} index {i}" for name, i in zip(names, shown, strict=True)],
        )


def pixels(info: DataInfo, split: str) -> None:
    """Histograms, means and mean images over a split or the selected images of it."""
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


def preprocessing(info: DataInfo, data: DataSet, split: str) -> None:
    """One batch as stored, and as a network gets it at test time."""
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
