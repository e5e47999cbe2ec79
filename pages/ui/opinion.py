"""What a run's network thinks of an image, or of many, while one transform grows stronger."""

from __future__ import annotations

import numpy as np
import streamlit as st

from cifar_core import job
from cifar_core.datasets import DataInfo, DataSet
from pages import ui
from pages.ui import augmenting, charts, loaders

ONE, MANY = "This image", "200 test images"
IMAGES = 200
DRAWS = 16


def show(info: DataInfo, data: DataSet, subject: augmenting.Subject, strip: augmenting.Strip, seed: int) -> None:
    """The probability of the true class along the strip: an invariance curve."""
    st.subheader("The model's opinion", anchor=False)
    with st.container(horizontal=True, vertical_alignment="bottom"):
        run = ui.choose_run(needs_weights=True)
        checkpoint = ui.choose_checkpoint(run) if run else None
        over = st.segmented_control("Over", (ONE, MANY), default=ONE, key="over", bind="query-params", required=True)
    if run is None or checkpoint is None:
        return
    if run.start is None or run.start.data_fingerprint != info.fingerprint:
        st.info(
            "This run was trained on other images than these; choose another run, or its data set above.",
            icon=":material/info:",
        )
        return
    if over == MANY:
        folder, task = job.sensitivity_task(
            run, checkpoint, info, dict(strip.how), strip.along, strip.values, IMAGES, seed
        )
        path = folder.path / "curve.npz"
        if not ui.background(folder, task, path.exists(), f"Ask about {IMAGES} test images"):
            return
        found = loaders.invariance(path, loaders.version(path))
        count = found.probabilities.shape[1]
        what = (
            f"{count} test images of {ui.plain(info.name)}, as many of each class as there are by share, one draw each"
        )
        band = "the middle 80 % of the images"
    else:
        path = run.checkpoints()[checkpoint]
        index, name = subject.indices[0], subject.names[0]
        if name not in run.start.classes:
            st.info(f"This run does not know the class {ui.plain(name)}.", icon=":material/info:")
            return
        pixels = np.array(getattr(data, subject.split).images[index])
        found = loaders.answers(
            path,
            loaders.version(path),
            pixels,
            run.start.classes.index(name),
            DRAWS,
            strip.how,
            strip.along,
            strip.values,
            seed,
        )
        what = f"{ui.SPLITS[subject.split]} image {index:,} of {ui.plain(info.name)} ({ui.plain(name)}), {DRAWS} draws"
        band = "the middle 80 % of the draws"
        if subject.split == "train":
            what += "; the run may have been trained on this image"
    frame = charts.invariance_curve(strip.values, found.probabilities, found.right)
    st.vega_lite_chart(
        frame,
        charts.INVARIANCE_CURVE,
        key="invariance",
        alt=f"Probability of the true class and share of right answers by {augmenting.called(strip.along)}",
    )
    means = found.probabilities.mean(1)
    st.markdown(
        f"With **{ui.plain(augmenting.called(strip.along))}** from {strip.values[0]:g} to {strip.values[-1]:g} the "
        f"probability of the true class goes from **{means[0]:.1%}** to **{means[-1]:.1%}**."
    )
    steps = run.start.steps_per_epoch
    st.caption(
        f"Run {ui.plain(charts.run_name(run))} · {ui.checkpoint_label(checkpoint, steps).lower()} weights, epoch "
        f"{found.facts['epoch']:.3g} · {what}, alike at every setting but for their strength · other transforms "
        f"{strip.others}. The band holds {band}. A flat line means that the network does not mind the transform."
    )
