"""A run as it happens: state, controls and curves, drawn anew every second while its worker lives."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pandas as pd
import streamlit as st

from cifar_core import job
from cifar_core.config import FIELDS, TrainConfig, label
from cifar_core.events import Changed, Epoch, Refused, TaskProgress, duration
from cifar_core.runs import Run, RunError
from pages import ui
from pages.ui import charts
from pages.ui import settings as form

TICK_SECONDS = 1.0


def watch(run: Run) -> None:
    """Show a run and what can be done with it; polls only while there is something to wait for."""
    alive = run.alive
    # The fragment keeps the arguments of the last full run, so it gets the folder and asks that for the rest.
    started = run.start is not None
    st.fragment(_watch, run_every=TICK_SECONDS if alive else None)(str(run.path), alive, started)
    _facts(run)


def _watch(path: str, was_alive: bool, had_started: bool) -> None:
    run = Run(Path(path))
    # What lies outside this fragment, and does not change from tick to tick, follows at these moments only.
    if run.alive != was_alive or (run.start is not None) != had_started:
        st.rerun()
    try:
        settings = run.settings
    except RunError as error:
        st.error(ui.plain(str(error)))
        return
    _controls(run)
    _say_how_it_stands(run)
    _figures(run, settings)
    _curves(run)
    if settings.objective == "simclr":
        st.caption(
            "This run learns without labels (SimCLR). Its loss is that of recognising two augmented views of one image "
            "among those of its batch; training accuracy is the share of views that are recognised. Validation "
            "accuracy is that of a linear classifier fitted to the features of training images after each epoch. Fork "
            "it with the objective Classify: with a frozen body for a linear probe, else for fine-tuning."
        )
    if run.alive:
        _steering(run, settings)
    elif run.state in ("finished", "stopped"):
        _afterwards(run, settings)


def _controls(run: Run) -> None:
    state = run.state
    stopping = run.alive and run.requested("stop")
    with st.container(horizontal=True, vertical_alignment="center"):
        ui.state_badge(state)
        if run.alive:
            if state == "paused" or run.requested("pause"):
                st.button("Resume", icon=":material/play_arrow:", on_click=run.withdraw, args=("pause",))
            else:
                st.button(
                    "Pause", icon=":material/pause:", on_click=run.request, args=("pause",), disabled=state != "running"
                )
            st.button(
                "Stopping" if stopping else "Stop and keep",
                icon=":material/stop:",
                on_click=run.request,
                args=("stop",),
                disabled=stopping,
                help="Ends the training after the current step and keeps the weights. It can be resumed later.",
            )
        elif state in ("stopped", "interrupted", "failed", "ready") and st.button(
            "Start" if state == "ready" else "Resume", icon=":material/play_arrow:", key="relaunch"
        ):
            try:
                job.launch(run, ui.place().cache)
            except RunError as error:
                st.error(ui.plain(str(error)))
            else:
                st.rerun()


def _say_how_it_stands(run: Run) -> None:
    state, end = run.state, run.last_end
    if state == "failed" and end:
        st.error(ui.plain(end.message), icon=":material/error:")
        if log := run.log_tail():
            with st.expander("The worker's log"):
                st.code(log, language=None)
    elif state == "interrupted":
        st.warning(
            "The worker ended without a word: the machine was switched off, or something killed it. "
            "Resume goes on from the last checkpoint, or from the start where there is none.",
            icon=":material/power_off:",
        )
    elif state == "waiting":
        st.info("Another run uses the device; this one begins when it is free.", icon=":material/hourglass_empty:")
    elif state == "starting":
        reading = next((event for event in reversed(run.events()) if isinstance(event, TaskProgress)), None)
        if reading and reading.done < reading.total:
            st.progress(
                reading.done / max(reading.total, 1), text=f"{reading.what}: {reading.done:,} of {reading.total:,}"
            )
        else:
            st.info("The worker is loading the images and the network.", icon=":material/hourglass_top:")
    elif end:
        st.caption(ui.plain(end.message))


def _figures(run: Run, settings: TrainConfig) -> None:
    epochs = settings.epochs
    latest, best, state = run.latest, run.best, run.state
    if latest is None:
        return
    done = min(latest.epoch / epochs, 1.0)
    doing = "validating" if not isinstance(latest, Epoch) and latest.phase == "validation" else "training"
    st.progress(done, text=f"Epoch {latest.epoch:.2f} of {epochs}" + (f", {doing}" if state == "running" else ""))
    left = duration(latest.seconds_left) if state == "running" and latest.seconds_left is not None else "–"
    start = run.start
    held_out = f"of {start.validation_images:,} held-out training images" if start else "of the held-out images"
    with st.container(horizontal=True):
        st.metric(
            "Best validation accuracy",
            f"{best.validation_accuracy:.1%}" if best else "–",
            help=f"Share {held_out} that is classified correctly, at the best epoch"
            + (f" ({best.epoch})" if best else "")
            + (", by a linear classifier fitted to the features." if settings.objective == "simclr" else "."),
        )
        st.metric("Images per second", f"{latest.images_per_second:,.0f}", help="Training images, validation excluded.")
        st.metric("Time left", left, help="At the present pace, validation included.")
        st.metric("Learning rate", f"{latest.learning_rate:.3g}", help="In force at the last step.")


def _curves(run: Run) -> None:
    history = run.history()
    if not history:
        return
    for figure, spec in (("loss", charts.LOSS_CURVES), ("accuracy", charts.ACCURACY_CURVES)):
        st.vega_lite_chart(
            charts.learning_curves(history, figure, {change.epoch: _told(change) for change in run.changes}),
            spec,
            key=f"{figure}-{run.id}",
            # Not for its answer: Streamlit resets a zoom that is no selection whenever the data change.
            on_select="rerun",
            selection_mode="zoom",
            alt=f"Training and validation {figure} by epoch",
        )
    st.caption(
        "Training values are measured on augmented images while the weights change; the mean of an epoch is drawn at "
        "its end, so it lies behind the live curve. Validation values are of held-out images after each epoch. "
        "Scroll to zoom, drag to move, double-click to reset."
    )


def _steering(run: Run, settings: TrainConfig) -> None:
    """Settings that can be changed now, filled in with what is in force."""
    # Its many sliders are only made while somebody looks, as they are made anew at every tick.
    panel = st.expander("Change while it trains", icon=":material/tune:", on_change="rerun", key=f"steer-{run.id}")
    if not panel.open:
        return
    with panel:
        changes = run.changes
        # Filled in anew after each change, so that it never shows a value that is not in force.
        values = form.live(settings, f"{run.id}-{len(changes)}")
        wanted = {name: value for name, value in values.items() if value != getattr(settings, name)}
        with st.container(horizontal=True, vertical_alignment="center"):
            if st.button("Put in force", icon=":material/check:", type="primary", disabled=not wanted):
                run.request("change", wanted)
            if st.button("One more epoch", icon=":material/add:"):
                run.request("change", {"epochs": settings.epochs + 1})
            if st.button(
                "Save now", icon=":material/save:", help="Keeps the present weights, to go back to or to fork from."
            ):
                run.request("save")
            if run.requested("change"):
                st.caption("Asked for; in force with the next step.")
        for change in changes:
            st.caption(f"From epoch {change.epoch:.2f} (step {change.step:,}): {_told(change)}.")
        steps = run.start.steps_per_epoch if run.start else 0
        if kept := [ui.checkpoint_label(name, steps) for name in run.checkpoints() if name.startswith("step-")]:
            st.caption(f"Kept by hand: {', '.join(kept)}.")
        refused = next((event for event in reversed(run.events()) if isinstance(event, Changed | Refused)), None)
        if isinstance(refused, Refused):
            st.warning(ui.plain(refused.message))


def _told(change: Changed) -> str:
    return ", ".join(f"{label(name)} {change.before.get(name)} → {value}" for name, value in change.values.items())


def _afterwards(run: Run, settings: TrainConfig) -> None:
    """What can still be made of a run that has ended."""
    with st.container(horizontal=True, vertical_alignment="bottom"):
        more = st.number_input("More epochs", 1, 1000, 1, key=f"more-{run.id}", width=150)
        if st.button(
            "Train on", icon=":material/play_arrow:", help="Goes on from the last step with a longer schedule."
        ):
            _start(lambda: _extend(run, settings.epochs + more))
        if st.button(
            "Repeat exactly",
            icon=":material/replay:",
            help="A new run with the same settings and seed, and the same changes at the same steps.",
        ):
            _start(lambda: job.repeat(run, ui.place().runs, ui.place().cache))


def _extend(run: Run, epochs: int) -> Run:
    run.request("change", {"epochs": epochs})
    job.launch(run, ui.place().cache)
    return run


def _start(action: Callable[[], Run]) -> None:
    try:
        st.query_params["run"] = action().id
    except RunError as error:
        st.error(ui.plain(str(error)))
    else:
        st.rerun()


def _facts(run: Run) -> None:
    start = run.start
    if start:
        st.caption(
            f"{ui.plain(start.data_name)}: {start.train_images:,} training and {start.validation_images:,} validation "
            f"images, {len(start.classes)} classes. {start.parameters:,} parameters. {start.compute_reason}"
        )
        with st.container(horizontal=True):
            ui.link("Evaluate", "Evaluate", run=run.id)
            ui.link("Features", "Map of the features", run=run.id)
            ui.link("Explain", "Heat maps", run=run.id)
            ui.link("Compare", "Compare with other runs", run=run.id)
    with st.expander("Settings of this run"):
        try:
            config = run.config
        except RunError as error:
            st.error(ui.plain(str(error)))
            return
        used = [name for name in FIELDS if config.used(name)]
        st.dataframe(
            pd.DataFrame(
                {
                    "Setting": [label(name) for name in used],
                    "Value": [str(getattr(config, name)) for name in used],
                    "Meaning": [FIELDS[name].metadata["help"] for name in used],
                }
            ),
            hide_index=True,
            alt="Settings of this run",
        )
        born = f", forked from the {run.parent[1]} weights of run {run.parent[0]}" if run.parent else ""
        st.caption(f"Run {run.id}{born}, in {run.path}")
