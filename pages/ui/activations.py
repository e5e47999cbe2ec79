"""What layers respond to: the maps of an image layer by layer, one channel with its strongest images, first filters."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pandas as pd
import streamlit as st
from numpy.typing import NDArray

from cifar_core import job
from cifar_core.datasets import DataInfo
from cifar_core.runs import Run
from pages import ui
from pages.ui import charts, loaders, reference, selecting, sheet

OVERVIEW, CHANNEL, LARGE = 96, 56, 288
"""Pixels of a side of a map on the page: of a layer, of a channel among others, and alone."""

SEARCHED = 10_000
"""Images among which the strongest are looked for."""


def show(run: Run, checkpoint: str, info: DataInfo) -> None:
    """The activation maps of an image, from the overview of all layers to one channel."""
    if not reference.here(info):
        reference.pictures_missing("Fetch them to see what each layer makes of a test image.", "activations")
        return
    path = run.checkpoints()[checkpoint]
    split = loaders.test_split(info.id, info.fingerprint, ui.place().cache, info.classes)
    image = _choose_image(info, len(split.labels))
    pixels = np.array(split.images[image])
    maps = loaders.activations(path, loaders.version(path), pixels)
    true = info.classes[split.labels[image]]
    steps = run.start.steps_per_epoch if run.start else 0
    about = (
        f"Run {run.id} · {ui.checkpoint_label(checkpoint, steps)} · test image {image:,} of {len(split.labels):,} of "
        f"{info.name}: {true}"
    )
    st.markdown(
        "**Every layer**, from the image on the left to the last maps: how strongly its channels respond, on average"
    )
    layers = list(maps)
    pictures = [pixels, *(coloured(np.abs(maps[name]).mean(axis=0)) for name in layers)]
    ui.gallery(
        np.stack([_sized(picture, 64) for picture in pictures]),
        ["Image", *(f"{name}: {_shape(maps[name])}" for name in layers)],
        [f"Test image {image}, {true}", *(f"Mean magnitude of layer {name}" for name in layers)],
        size=OVERVIEW,
    )
    with st.container(horizontal=True, vertical_alignment="bottom"):
        layer = st.selectbox(
            "Layer", layers, index=len(layers) - 1, key="channel_layer", bind="query-params", width=220
        )
        together = st.toggle(
            "One scale for all channels", True, key="one_scale", bind="query-params",
            help="So that channels can be compared. Without it each is stretched to its own range, which shows the "
            "shape of weak ones.",
        )  # fmt: skip
    chosen = maps[layer]
    low, high = float(chosen.min()), float(chosen.max())
    if "channel" in st.session_state and st.session_state["channel"] >= len(chosen):
        st.session_state["channel"] = 0
    drawn = [coloured(one, low if together else None, high if together else None) for one in chosen]
    st.markdown(f"**Layer {ui.plain(layer)}**: its {len(chosen):,} channels; a click shows one large")
    sheet.show_pictures(
        np.stack([_sized(one, 32) for one in drawn]),
        [str(k) for k in range(len(chosen))],
        [f"Channel {k}, from {one.min():.3g} to {one.max():.3g}" for k, one in enumerate(chosen)],
        "channel-sheet",
        label=f"Channels of layer {layer}",
        side=CHANNEL,
        most=320,
        on_pick=_pick,
    )
    scale = f"from {low:.3g} (dark) to {high:.3g} (bright)" if together else "each from its lowest to its highest value"
    st.caption(ui.plain(f"{about}. Values of the layer's output, {scale}."))
    _channel(run, checkpoint, info, layer, chosen, pixels)


def _pick(channel: int) -> None:
    st.session_state["channel"] = channel


def _choose_image(info: DataInfo, total: int) -> int:
    asked = st.query_params.get("image")
    if asked is not None and not ui.is_below(asked, total):
        st.warning(ui.plain(f"There is no test image {asked[:20]!r} here; this is 0."), icon=":material/link_off:")
    selected = selecting.current(info) if reference.exact(info) else None
    with st.container(horizontal=True, vertical_alignment="bottom"):
        image = int(
            st.number_input(
                "Test image", 0, total - 1, key="image", bind="query-params", width=150,
                help=f"Its place in the test split, from 0 to {total - 1:,}.",
            )
        )  # fmt: skip
        st.button("Random image", icon=":material/shuffle:", on_click=_draw, args=(np.arange(total),))
        if selected is not None and selected.split == "test" and len(selected):
            own = np.flatnonzero(np.isin(_whole(info, total), selected.indices))
            st.button("Random selected image", on_click=_draw, args=(own,), disabled=not len(own))
    return image


def _whole(info: DataInfo, total: int) -> NDArray[np.int64]:
    return loaders.places(info.id, info.fingerprint, ui.place().cache, "test", info.classes, np.arange(total))


def _draw(candidates: NDArray[np.int64]) -> None:
    st.session_state["image"] = int(np.random.default_rng().choice(candidates))


def _channel(
    run: Run, checkpoint: str, info: DataInfo, layer: str, maps: NDArray[np.float32], pixels: NDArray[np.uint8]
) -> None:
    """One channel large, and the images in which it responds most."""
    st.session_state.setdefault("channel", int(maps.max(axis=(1, 2)).argmax()))
    channel = int(
        st.number_input(
            "Channel",
            0,
            len(maps) - 1,
            key="channel",
            width=150,
            help=f"From 0 to {len(maps) - 1}; or click one above.",
        )
    )
    one = maps[channel]
    st.markdown(f"**Channel {channel} of layer {ui.plain(layer)}**, {one.shape[0]} × {one.shape[1]} cells")
    ui.gallery(
        np.stack([_sized(picture, LARGE) for picture in (pixels, coloured(one), _over(pixels, one))]),
        ["Image", f"From {one.min():.3g} to {one.max():.3g}", "Over the image"],
        ["The image", f"Map of channel {channel}", f"Map of channel {channel} over the image"],
        size=LARGE,
    )
    images = min(info.test_images, SEARCHED)
    folder, task = job.strongest_task(run, checkpoint, info, "test", images)
    result = folder.path / "strongest.npz"
    if not result.exists() and not folder.alive:
        st.markdown(
            f"Which of {images:,} test images excite each channel of each layer most is looked up once, in the "
            "background, and kept."
        )
    if not ui.background(folder, task, result.exists(), start="Find the most activating images"):
        return
    try:
        found = loaders.arrays(result, loaders.version(result))
    except loaders.Damaged as error:
        ui.damaged(error, error.path)
        return
    facts: dict[str, Any] = json.loads(str(found["facts"]))
    values, places = found[f"{layer}/values"][channel], found[f"{layer}/images"][channel]
    _strongest(info, facts, found, layer, channel, values, found["indices"][places])
    _preferred(info, facts, found[f"{layer}/by_class"][channel], float(found[f"{layer}/active"][channel]))


def _strongest(
    info: DataInfo,
    facts: dict[str, Any],
    found: dict[str, NDArray[Any]],
    layer: str,
    channel: int,
    values: NDArray[np.float32],
    numbers: NDArray[np.int64],
) -> None:
    from cifar_core.activations import marked

    if not values.any():
        st.warning(
            f"Channel {channel} is zero in each of the {facts['images']:,} test images looked at, so that none excites "
            "it more than another.",
            icon=":material/visibility_off:",
        )
        return
    split = loaders.test_split(info.id, info.fingerprint, ui.place().cache, info.classes)
    size = tuple(int(side) for side in found[f"{layer}/size"])
    pictures = marked(
        split.images[numbers],
        found[f"{layer}/rows"][channel].tolist(),
        found[f"{layer}/columns"][channel].tolist(),
        (size[0], size[1]),
    )
    names = [info.classes[label] for label in split.labels[numbers]]
    st.markdown("**The images in which it responds most**")
    ui.gallery(
        pictures,
        [f"{charts.brief(name)} {value:.3g}" for name, value in zip(names, values, strict=True)],
        [
            f"Test image {number}, {name}: {value:.3g}"
            for number, name, value in zip(numbers, names, values, strict=True)
        ],
        size=96,
    )
    st.caption(
        ui.plain(
            f"Run {facts['run']} · {facts['checkpoint']} weights, epoch {facts['epoch']:.4g} · among "
            f"{facts['images']:,} test images of {facts['data']}. Below each: its class and the largest value of the "
            "channel's map. The frame marks the cell of the map where that is; what the channel has seen is "
            "larger."
        )
    )
    if reference.exact(info):
        about = f"excite channel {channel} of layer {layer} of run {facts['run']} most"
        selecting.offer(info, "test", numbers, about, "select-strongest")


def _preferred(info: DataInfo, facts: dict[str, Any], by_class: NDArray[np.float32], active: float) -> None:
    order = np.argsort(-np.nan_to_num(by_class, nan=-np.inf), kind="stable")
    st.markdown(
        f"**How it responds to each class**: the mean of its largest value. It is above zero in {active:.0%} of "
        "the images."
    )
    st.dataframe(
        pd.DataFrame({"class": [info.classes[k] for k in order], "mean": by_class[order]}),
        hide_index=True,
        width=420,
        height="content" if len(order) <= 20 else 560,
        column_config={
            "class": "Class",
            "mean": st.column_config.ProgressColumn(
                "Mean of the largest value",
                format="%.3g",
                min_value=min(0.0, float(np.nanmin(by_class))),
                max_value=max(float(np.nanmax(by_class)), 1e-6),
            ),
        },
        alt=f"Mean response of the channel to each class, of {facts['images']:,} test images",
    )


def filters(run: Run, checkpoint: str) -> None:
    """The filters of the first layer, which see the image itself."""
    path = run.checkpoints()[checkpoint]
    found = loaders.first_filters(path, loaders.version(path))
    if found is None:
        st.info("No layer of this network sees the three channels of the image by a convolution.")
        return
    from cifar_core.activations import filter_pictures

    weights = found.weights
    norms = np.sqrt((weights**2).sum(axis=(1, 2, 3)))
    st.markdown(
        f"**The {len(weights)} filters of the first layer** ({ui.plain(found.layer)}), {weights.shape[2]} × "
        f"{weights.shape[3]} pixels of red, green and blue each"
    )

    def look(channel: int) -> None:
        st.session_state["view"] = "Activations"
        st.session_state["channel_layer"] = found.layer
        st.session_state["channel"] = channel

    sheet.show_pictures(
        np.stack([_sized(picture, 32) for picture in filter_pictures(weights)]),
        [f"{k}: {norm:.2g}" for k, norm in enumerate(norms)],
        [f"Filter {k}, norm {norm:.2g}" for k, norm in enumerate(norms)],
        "filter-sheet",
        label=f"Filters of layer {found.layer}",
        side=72,
        on_pick=look,
    )
    epoch = loaders.network(path, loaders.version(path)).metadata.get("epoch", 0)
    steps = run.start.steps_per_epoch if run.start else 0
    learned = (
        "Edges and patches of colour have been learned; filters that still look like noise have not."
        if found.learned
        else "These are not learned: they were taken from patches of the training images before the first step, so "
        "that what comes after sees values that are not correlated (whitening)."
    )
    st.caption(
        ui.plain(
            f"Run {run.id} · {ui.checkpoint_label(checkpoint, steps)}, epoch {epoch:.4g}. Grey is 0; brighter than "
            "grey adds, darker takes away, and colours tell red, green and blue apart. Each is stretched to its "
            f"largest weight; below each its number and its norm; a click shows its channel. {learned}"
        )
    )


# Pictures ----------------------------------------------------------------------------------------------------------


def coloured(values: NDArray[np.floating], low: float | None = None, high: float | None = None) -> NDArray[np.uint8]:
    """A map (h, w) as a picture (3, h, w), dark to bright from the lowest to the highest value."""
    from cifar_core.explain import heat_colours

    low = float(values.min()) if low is None else low
    high = float(values.max()) if high is None else high
    shares = (values - low) / max(high - low, 1e-12)
    return heat_colours(np.clip(shares, 0, 1)).transpose(2, 0, 1)


def _shape(maps: NDArray[np.floating]) -> str:
    return f"{maps.shape[0]} of {maps.shape[1]} × {maps.shape[2]}"


def _sized(picture: NDArray[np.uint8], side: int) -> NDArray[np.uint8]:
    """A picture (3, h, w) with its cells as squares, (3, side, side)."""
    rows = np.arange(side) * picture.shape[1] // side
    columns = np.arange(side) * picture.shape[2] // side
    return picture[:, rows][:, :, columns]


def _over(pixels: NDArray[np.uint8], values: NDArray[np.floating]) -> NDArray[np.uint8]:
    from cifar_core.explain import overlay

    low, high = float(values.min()), float(values.max())
    heat = ((values - low) / max(high - low, 1e-12)).clip(0, 1).astype(np.float32)
    return np.asarray(overlay(charts.enlarged(pixels, LARGE), heat, 0.7)).transpose(2, 0, 1)
