"""Features: how does a model group the images?"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

import numpy as np
import streamlit as st
from streamlit.delta_generator import DeltaGenerator

from cifar_core import job
from cifar_core.datasets import DataInfo
from cifar_core.features import FEWEST_IMAGES
from cifar_core.runs import Run, RunError
from cifar_core.sources import DataError
from pages import ui
from pages.ui import charts, loaders, reference, selecting, tour

MAP_SIZES = (1000, 2000, 5000, 10_000)
MOST_SHOWN = 60  # Nobody looks at more small images, and each of them is sent.


def choose_map(info: DataInfo, many: DeltaGenerator, near: DeltaGenerator) -> tuple[int, float]:
    """How many images, and how many neighbours each attends to."""
    total = min(info.test_images, MAP_SIZES[-1])
    sizes = [size for size in MAP_SIZES if size < total] + [total]
    with many:
        chosen = st.segmented_control(
            "Test images",
            sizes,
            default=MAP_SIZES[1] if MAP_SIZES[1] in sizes else total,
            format_func=lambda size: f"{size:,}",
            key="map_images",
            bind="query-params",
            required=True,
            help="Drawn by a fixed seed with the same share of every class. More take longer: about in proportion.",
        )
    images = int(chosen) if chosen in sizes else total
    with near:
        asked = st.slider(
            "Perplexity",
            5,
            100,
            30,
            step=5,
            key="perplexity",
            bind="query-params",
            help="About how many neighbours each image attends to. Start with 30. Small values show fine groups and "
            "may tear large ones apart; large values show the broad arrangement.",
        )
    perplexity = min(float(asked), (images - 1) / 3)
    if perplexity < asked:
        near.caption(f"With {images:,} images, {perplexity:.3g} is the most that can be used.")
    return images, perplexity


def show_map(found: loaders.FeatureMap, figure: object, name: str, total: int) -> list[int]:
    """The map with what it is; the test images that are selected on it, in their order in the split."""
    facts = found.facts
    event = st.plotly_chart(
        figure,  # type: ignore[arg-type]
        key=name,
        on_select="rerun",
        selection_mode=("points", "box", "lasso"),
        config={"displaylogo": False, "modeBarButtonsToRemove": ["zoomIn2d", "zoomOut2d", "toImage"]},
        alt=f"Map of {len(found.points):,} test images by the features of the network; near points have like features.",
    )
    st.caption(
        "Drag around points to select them, with Shift held to add more; double-click to let go. To pick single "
        "points, choose Pan in the chart's toolbar and click. In the legend, a click hides a group and a double-click "
        "shows it alone. Directions and units mean nothing here, so there are no axes: only who is near whom counts, "
        "and the distance between far groups says little."
    )
    st.caption(
        f"t-SNE of the {facts['features']:,} features before the output · run {facts['run']} · {facts['checkpoint']} "
        f"weights, epoch {facts['epoch']:.3g} · {len(found.points):,} of {total:,} test images of "
        f"{ui.plain(facts['data'])} · perplexity {facts['perplexity']:.3g} · trustworthiness "
        f"{found.trustworthiness:.3f} (how far neighbours on the map are neighbours among the features too: 1 where "
        "all are, about 0.5 by chance)"
    )
    # Not the point's number, which counts within its trace.
    return sorted({int(np.ravel(point["customdata"])[0]) for point in event["selection"]["points"]})


def show_selection(run: Run, info: DataInfo, found: loaders.FeatureMap, selected: Sequence[int]) -> None:
    """The selected images themselves, and how the network did on them."""
    st.subheader("Selected images", anchor=False)
    places = np.searchsorted(found.indices, selected)
    labels, predictions = found.labels[places], found.predictions[places]
    names = [info.classes[k] for k in range(len(info.classes))]
    common = Counter(labels.tolist()).most_common(3)
    listed = ", ".join(f"{count:,} {ui.plain(charts.brief(names[k]))}" for k, count in common)
    rest = len(selected) - sum(count for _, count in common)
    one = len(selected) == 1
    st.markdown(
        f"**{len(selected):,}** of {len(found.points):,}: {listed}{f', {rest:,} other' if rest else ''}. "
        f"The network is right on {(labels == predictions).mean():.0%} of them."
        if not one
        else f"**1** of {len(found.points):,}: test image {selected[0]}."
    )
    shown = list(selected[:MOST_SHOWN])
    captions, alts = [], []
    for index, true, predicted in zip(shown, labels, predictions, strict=False):
        told = charts.brief(names[true]) + (" ✓" if true == predicted else f" → {charts.brief(names[predicted])}")
        captions.append(f"{index}: {told}")
        alts.append(f"Test image {index}, {names[true]}, predicted {names[predicted]}")
    few = "" if len(shown) == len(selected) else f"The first {len(shown)} are shown. "
    st.caption(f"{few}Test image: truth → prediction; ✓ where they agree.")
    with st.container(height=430 if len(shown) > 12 else "content", border=False):
        if reference.here(info):
            test = loaders.test_split(info.id, info.fingerprint, ui.place().cache, info.classes)
            ui.gallery(test.images[shown], captions, alts)
        else:
            st.caption(" · ".join(map(ui.plain, captions)))
            reference.pictures_missing("Fetch them to see what is selected.", "selected")
    if reference.exact(info):
        facts = found.facts
        about = f"chosen on the map of run {facts['run']}, {facts['checkpoint']} weights, epoch {facts['epoch']:.3g}"
        selecting.offer(info, "test", selected, about, "select-lasso")
    index = shown[0] if one else st.selectbox("Look closer at test image", shown, width=240)
    kept = {"checkpoint": st.query_params["checkpoint"]} if "checkpoint" in st.query_params else {}
    ui.link("Explain", f"Where does the network look on test image {index}?", image=str(index), **kept)


def show(run: Run, checkpoint: str, info: DataInfo) -> None:
    """Choose a map, have it made, look at it."""
    if info.test_images < FEWEST_IMAGES:
        st.info(f"A map needs at least {FEWEST_IMAGES} test images; {ui.plain(info.name)} has {info.test_images}.")
        return
    many, near, colours = st.columns([5, 5, 5], gap="medium")
    images, perplexity = choose_map(info, many, near)
    folder, task = job.map_task(run, checkpoint, info, images, perplexity)
    if not (folder.path / "map.npz").exists() and (copy := reference.copied_from(info)):
        # What is computed here is of the images that are here.
        info = copy
        folder, task = job.map_task(run, checkpoint, info, images, perplexity)
    result = folder.path / "map.npz"
    if not result.exists() and not reference.here(info):
        reference.pictures_missing(
            "Only the map of 2,000 test images with a perplexity of 30 comes with the program; others are computed "
            "from the images.",
            "map",
        )
        return
    if not result.exists() and not folder.alive:
        st.markdown(
            f"The network's features of {images:,} test images are laid out in two dimensions (t-SNE) so that images "
            "it finds alike come to lie together. It is computed once, in the background, and kept."
        )
        if run.alive:
            st.caption("This run is still training: new weights will need a new map.")
    if not ui.background(folder, task, result.exists(), start="Compute the map"):
        return
    try:
        found = loaders.feature_map(result, loaders.version(result))
    except RunError as error:
        st.error(ui.plain(str(error)))
        if st.button("Compute it again", type="primary"):
            result.unlink(missing_ok=True)
            st.rerun()
        return
    colouring = colours.segmented_control(
        "Colour by",
        charts.MAP_COLOURINGS,
        default="class",
        format_func=str.capitalize,
        key="colour",
        bind="query-params",
        required=True,
    )
    colouring = colouring if colouring in charts.MAP_COLOURINGS else "class"
    figure = loaders.map_figure(result, loaders.version(result), info.classes, colouring)
    name = f"{folder.path.name}-{colouring}"
    # Known before the map is drawn, which has all the width until there is something to show beside it. There are two
    # columns either way: in another place of the page the map would be another one, without its selection.
    begun = bool(st.session_state.get(name, {}).get("selection", {}).get("points"))
    if not begun:
        st.info("Select points on the map to see their images.", icon=":material/gesture_select:")
    else:
        st.empty()
    on_map, images_there = st.columns([3, 2] if begun else [999, 1], gap="medium")
    with on_map:
        selected = show_map(found, figure, name, info.test_images)
    with images_there:
        if selected:
            show_selection(run, info, found, selected)


ui.page("Features")
tour.show("Features")

try:
    with st.container(horizontal=True, vertical_alignment="bottom"):
        run = ui.choose_run(needs_weights=True)
        checkpoint = ui.choose_checkpoint(run) if run else None
    if run and checkpoint and (info := reference.tested_on(run)):
        reference.notice(run, info)
        if reference.exact(info):
            selecting.bar(info)
        show(run, checkpoint, info)
except (DataError, RunError) as error:
    st.error(ui.plain(str(error)))
