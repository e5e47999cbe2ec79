"""What a run shows of its network while it trains: a coach that reads the figures, and panels built on demand."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import streamlit as st

from cifar_core.coach import FEWEST_EPOCHS, Advice, advise, probed
from cifar_core.events import Inspected, Start
from cifar_core.runs import Run, RunError
from pages import ui
from pages.ui import charts, loaders, reference
from pages.ui import insight_charts as drawn

_LOOKS: dict[str, tuple[Callable[..., object], str]] = {
    "problem": (st.error, ":material/error:"),
    "warning": (st.warning, ":material/warning:"),
    "hint": (st.info, ":material/lightbulb:"),
}


def show(run: Run) -> None:
    """The coach, two small curves, and closed panels; whatever a run does not have yet is left out."""
    history, looks, start = run.history(), run.inspections(), run.start
    if not history or not start:
        return
    try:
        found = advise(history, looks, run.settings, start.classes, start.validation_images)
        _coach(found, sum(row["whole_epoch"] for row in history))
    except RunError as error:
        st.error(ui.plain(str(error)))
    rate, speed = st.columns(2)
    with rate:
        st.vega_lite_chart(
            drawn.small_curve(history, "learning_rate"),
            drawn.RATE_CURVE,
            key=f"rate-{run.id}",
            alt="Learning rate by epoch",
        )
    with speed:
        st.vega_lite_chart(
            drawn.small_curve(history, "images_per_second"),
            drawn.SPEED_CURVE,
            key=f"speed-{run.id}",
            alt="Training images per second by epoch",
        )
    if not looks:
        return
    panels: dict[str, tuple[str, Callable[[Run, Start, Sequence[Inspected]], None]]] = {
        "Classes": (":material/category:", _classes),
        "Layers": (":material/layers:", _layers),
        "Time and memory": (":material/timer:", _time_and_memory),
        "Sample predictions": (":material/imagesmode:", _samples),
    }
    for title, (icon, body) in panels.items():
        panel = st.expander(title, icon=icon, on_change="rerun", key=f"{title}-{run.id}")
        # Built while somebody looks only, as it is built anew at every tick.
        if panel.open:
            with panel:
                body(run, start, looks)


def _coach(said: Sequence[Advice], epochs: int) -> None:
    for advice in said:
        box, icon = _LOOKS[advice.severity]
        sentence, evidence, try_this = map(ui.plain, (advice.sentence, advice.evidence, advice.try_this))
        box(f"**{sentence}** {evidence}\n\n**What to try:** {try_this}", icon=icon)
    if not said:
        st.caption(
            ":material/check: The coach has nothing to remark."
            if epochs >= FEWEST_EPOCHS
            else f"The coach speaks once there are {FEWEST_EPOCHS} epochs to read."
        )


def _classes(run: Run, start: Start, looks: Sequence[Inspected]) -> None:
    frame = drawn.class_lines(looks, start.classes)
    names = drawn.line_names(frame)
    st.vega_lite_chart(
        frame,
        drawn.lines_spec(names, "Validation accuracy", ".0%"),
        # The lines of other classes are another chart.
        key=f"classes-{run.id}-{hash(names)}",
        alt="Validation accuracy of each class by epoch",
    )
    which = (
        f"The {len(names)} classes that are worst now of {len(start.classes)}. "
        if len(names) < len(start.classes)
        else ""
    )
    st.caption(f"{which}Share of the validation images of a class that is told right, after each epoch.")


def _layers(run: Run, start: Start, looks: Sequence[Inspected]) -> None:
    # One below the other, as the names of the layers need the full width.
    for norm, title in (("gradient_norm", "Gradient norm"), ("weight_norm", "Weight norm")):
        frame = drawn.norm_lines(looks, norm)
        st.vega_lite_chart(
            frame,
            drawn.lines_spec(drawn.line_names(frame), title, ".3~g", powers=True),
            key=f"{norm}-{run.id}",
            alt=f"{title} of each layer by epoch, on a scale of powers of ten",
        )
    st.caption(
        "Euclidean norms of the weights of a layer after each epoch, and of the gradient of its last step. Norms that "
        "shrink from layer to layer towards the input mean that the first layers hardly learn."
    )
    if layers := drawn.histogram_layers(looks[-1]):
        layer = st.selectbox("Layer", layers, key=f"layer-{run.id}", width=320)
        left, right = st.columns(2)
        for place, which, spec in (
            (left, "weights", drawn.WEIGHT_HISTOGRAM),
            (right, "gradients", drawn.GRADIENT_HISTOGRAM),
        ):
            with place:
                st.vega_lite_chart(
                    drawn.histogram_rows(looks, layer, which),
                    spec,
                    key=f"{which}-{run.id}",
                    alt=f"Histogram of the {which} of {layer} after the first and the latest epoch",
                )
        st.caption("The outermost bins hold what lies farther than four deviations from the mean.")
    if looks[-1].dead:
        frame = drawn.dead_lines(looks)
        if any(row["dead"] for look in looks for row in look.dead):
            st.vega_lite_chart(
                frame,
                drawn.lines_spec(drawn.line_names(frame), "Dead units", ".0%"),
                key=f"dead-{run.id}",
                alt="Share of dead units of each layer by epoch",
            )
        else:
            uses, epochs = len(looks[-1].dead), len(looks)
            st.markdown(
                f":material/check: **No dead units:** 0 % in each of {uses} layer{'s' if uses != 1 else ''} with an "
                f"activation, after {'each of ' if epochs > 1 else ''}{epochs} epoch{'s' if epochs != 1 else ''}."
            )
        rules = " or ".join(sorted({row["rule"] for row in looks[-1].dead}))
        st.caption(
            f"Share of an activation's channels or outputs that are {rules} {probed(start.validation_images)}. Behind "
            "a ReLU such a unit gets no gradient and stays dead."
        )


def _time_and_memory(run: Run, start: Start, looks: Sequence[Inspected]) -> None:
    latest = looks[-1]
    st.vega_lite_chart(
        drawn.time_rows(looks),
        drawn.TIME_BARS,
        key=f"time-{run.id}",
        alt="Where the training time went by epoch: data, forward, backward, step",
    )
    timed = "every step" if start.device == "cpu" else f"{latest.timed_steps} steps of the latest epoch"
    st.caption(
        f"Measured on {timed}. Data: choosing, augmenting and normalising a batch; forward: network and loss; "
        "backward: gradients; step: what the optimiser does with them."
    )
    with st.container(horizontal=True):
        st.metric("Main memory, at most", _gibibytes(latest.memory), help="Held by the worker, images included.")
        if latest.device_memory is not None:
            st.metric("Device memory, at most", _gibibytes(latest.device_memory), help="Held by tensors on the device.")
        total = sum(latest.seconds.values())
        for part, name in drawn.PARTS.items():
            if total:
                st.metric(name, f"{latest.seconds[part] / total:.0%}", help="Share of the latest epoch's steps.")


def _gibibytes(size: int) -> str:
    return f"{size / 2**30:.2f} GiB"


def _samples(run: Run, start: Start, looks: Sequence[Inspected]) -> None:
    info = reference.training_images_of(run)
    if info is None:
        return
    latest = looks[-1]
    born = run.parent_run and run.parent_run.start
    if born and not run.epochs and born.data_fingerprint != start.data_fingerprint:
        # Until its first epoch ends, the looks of a fork are its parent's.
        st.caption("After the first epoch on these images; its parent was trained on others.")
        return
    images = loaders.data_set(info.id, info.fingerprint, ui.place().cache).train.images
    captions, alts = [], []
    for sample in latest.samples:
        true, said = start.classes[sample["label"]], start.classes[sample["predicted"]]
        sure = charts.percent(sample["probability"])
        right = true == said
        captions.append(
            f"✓ {charts.brief(true)} {sure}" if right else f"✗ {charts.brief(said)} {sure}, is {charts.brief(true)}"
        )
        alts.append(f"{true}, predicted {said} with probability {sure}: {'right' if right else 'wrong'}")
    ui.gallery(images[[sample["index"] for sample in latest.samples]], captions, alts, size=88)
    right = sum(sample["label"] == sample["predicted"] for sample in latest.samples)
    st.caption(
        f"After epoch {latest.epoch}: {right} of {len(latest.samples)} right. Always the same validation images, with "
        "the predicted class and its probability."
    )
