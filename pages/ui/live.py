"""A run as it happens: state, controls and curves, drawn anew every few seconds while its worker lives."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pandas as pd
import streamlit as st

from cifar_core import job
from cifar_core.config import FIELDS, TrainConfig, label
from cifar_core.events import Boot, Changed, Epoch, Notice, Progress, Refused, Start, TaskProgress, duration
from cifar_core.runs import Run, RunError
from pages import ui
from pages.ui import charts, insight, keeping
from pages.ui import settings as form

TICKS = {0.0: 1.0, 60.0: 3.0, 300.0: 5.0}
"""Seconds between two looks at a run, by the seconds that it lasts in all, from these on. A browser draws on the cores
that train: a look takes a tenth of a second of one, which every second would cost a training on two cores 7 %."""

WORD_SECONDS = 0.8
"""How long a click waits for the worker's word before the next tick shows it."""

SLOW_STEP_SECONDS = 0.5
"""Steps longer than this delay a change so much that people are told."""

MOST_EPOCHS = int(FIELDS["epochs"].metadata["high"])

FAMILY_SECONDS = 5.0
"""How often the table of a training run's family is brought up to date."""

HANGING_SECONDS = 8.0
"""How long a worker that was asked to stop may go on before the page offers to end its process."""


def watch(run: Run, curves_first: bool = False) -> None:
    """Show a run and what can be done with it; polls only while there is something to wait for.

    Args:
        curves_first: Before what steers it and its figures, and not after them.
    """
    alive = run.alive
    # The fragment keeps the arguments of the last full run, so it gets the folder and asks that for the rest.
    outside = _outside(run)
    tick = _tick(run)
    st.fragment(_watch, run_every=tick if alive else None)(str(run.path), alive, outside, tick, curves_first)
    _facts(run)


def _outside(run: Run) -> tuple[bool, int]:
    """What the part of the page tells that is not drawn at each tick: whether it has begun, and changes of settings."""
    return run.start is not None, len(run.changes)


def _watch(path: str, was_alive: bool, outside: tuple[bool, int], tick: float, curves_first: bool = False) -> None:
    run = Run(Path(path))
    # What lies outside this fragment, and does not change from tick to tick, follows at these moments only. A tick only
    # grows, or an estimate beside a limit would have the page drawn again and again.
    if run.alive != was_alive or _outside(run) != outside or (run.alive and _tick(run) > tick):
        st.rerun()
    try:
        settings = run.settings
    except RunError as error:
        st.error(ui.plain(str(error)))
        return
    if curves_first:
        _progress(run, settings)
        _curves(run, settings.objective)
    _controls(run, settings)
    _say_how_it_stands(run)
    if not curves_first:
        _progress(run, settings)
    _figures(run, settings)
    if run.alive:
        _steering(run, settings)
    if not curves_first:
        _curves(run, settings.objective)
    if settings.objective == "simclr":
        st.caption(
            "This run learns without labels (SimCLR). Its loss is that of recognising two augmented views of one image "
            "among those of its batch; training accuracy is the share of views that are recognised. Validation "
            "accuracy is that of a linear classifier fitted to the features of training images after each epoch. Fork "
            "it with the objective Classify: with a frozen body for a linear probe, else for fine-tuning."
        )
    insight.show(run)
    if run.state in ("finished", "stopped"):
        _afterwards(run, settings)


def _tick(run: Run) -> float:
    """Seconds until the next look: the longer a run, the more."""
    latest = run.latest
    try:
        epochs = run.settings.epochs
    except RunError:
        return TICKS[0.0]
    # The first steps take longer and promise too long a run.
    if latest is None or latest.seconds_left is None or not 0.02 * epochs <= latest.epoch < epochs:
        return TICKS[0.0]
    seconds = latest.seconds_left * epochs / (epochs - latest.epoch)
    return max(tick for least, tick in TICKS.items() if seconds >= least)


def _controls(run: Run, settings: TrainConfig) -> None:
    state = run.state
    stopping = run.alive and run.requested("stop")
    with st.container(horizontal=True, vertical_alignment="center"):
        ui.state_badge(state)
        if run.alive:
            if state == "paused" or run.requested("pause"):
                st.button("Resume", icon=":material/play_arrow:", on_click=ui.take_back, args=(run, "pause"))
            else:
                st.button(
                    "Pause", icon=":material/pause:", on_click=ui.ask, args=(run, "pause"), disabled=state != "running"
                )
            st.button(
                "Stopping" if stopping else "Cancel" if state == "waiting" else "Stop and keep",
                icon=":material/stop:",
                on_click=ui.ask,
                args=(run, "stop"),
                disabled=stopping,
                help="Takes the run out of the line; it can be started later."
                if state == "waiting"
                else "Ends the training after the current step and keeps the weights. It can be resumed later.",
            )
            if state in ("running", "paused") and not stopping:
                if settings.epochs < MOST_EPOCHS:
                    _longer(run, settings)
                st.button(
                    "Save now",
                    icon=":material/save:",
                    on_click=_ask,
                    args=(run, "save"),
                    help="Keeps the present weights, to go back to or to fork from.",
                )
            if stopping:
                _hanging(run)
        elif state in ("stopped", "interrupted", "failed", "ready"):
            if st.button("Start" if state == "ready" else "Resume", icon=":material/play_arrow:", key="relaunch"):
                _launch(run)
            end = run.last_end
            if end and end.reason == "diverged":
                _calmer(run, settings.learning_rate / 10)
    if run.alive:
        _say_who_started(run)


def _calmer(run: Run, rate: float) -> None:
    """Go on with a lower learning rate, where there is a lower one."""
    if rate < FIELDS["learning_rate"].metadata["low"]:
        return
    if st.button(f"Resume with learning rate {rate:g}", icon=":material/trending_down:", key="calmer"):
        _launch(run, {"learning_rate": rate})


def _launch(run: Run, values: dict[str, Any] | None = None) -> None:
    """Set a worker to the run, with other settings if any are given."""
    try:
        if values:
            run.request("change", values)
        job.launch(run, ui.place().cache)
    except (RunError, OSError) as error:
        st.error(ui.plain(str(error)))
    else:
        st.rerun()


def _say_who_started(run: Run) -> None:
    """An orphan's origin: this dashboard did not start it, yet it can be steered and stopped like any other run."""
    launched = job.launched(run)
    if launched and not launched.still_there:
        since = time.strftime("%d %b, %H:%M", time.localtime(launched.time))
        st.caption(
            f":material/link_off: Started on {since} by an earlier dashboard or terminal, which has ended. Its worker "
            "goes on by itself and obeys the buttons above."
        )


def _hanging(run: Run) -> None:
    """A way to end a worker that does not stop when asked."""
    waited = run.asked_since("stop")
    if waited is None or waited < HANGING_SECONDS:
        return
    if st.button(
        "End the process",
        icon=":material/dangerous:",
        help="The worker has not stopped yet. Ending its process loses what it did after its last checkpoint; the run "
        "can be resumed from there.",
    ):
        try:
            job.end_process(run)
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
        keeping.place_in_line(run)
    elif state == "starting":
        reading = next((event for event in reversed(run.events()) if isinstance(event, Boot | TaskProgress)), None)
        if isinstance(reading, TaskProgress) and reading.done < reading.total:
            st.progress(
                reading.done / max(reading.total, 1), text=f"{reading.what}: {reading.done:,} of {reading.total:,}"
            )
        else:
            st.info("The worker is loading the images and the network.", icon=":material/hourglass_top:")
    elif end:
        st.caption(ui.plain(end.message))
    for message in _since_boot(run):
        st.warning(ui.plain(message), icon=":material/build:")


def _since_boot(run: Run) -> list[str]:
    """What went otherwise than planned since the last worker began."""
    said: list[str] = []
    for event in reversed(run.events()):
        if isinstance(event, Boot):
            break
        if isinstance(event, Notice):
            said.append(event.message)
        elif isinstance(event, Changed) and event.reason:
            said.append(event.reason)
        elif isinstance(event, Refused) and not run.alive:
            # While it trains, this is said where it was asked.
            said.append(event.message)
    return said[::-1]


def _progress(run: Run, settings: TrainConfig) -> None:
    latest, epochs = run.latest, settings.epochs
    if latest is None:
        return
    doing = "validating" if not isinstance(latest, Epoch) and latest.phase == "validation" else "training"
    text = f"Epoch {latest.epoch:.2f} of {epochs}" + (f", {doing}" if run.state == "running" else "")
    st.progress(min(latest.epoch / epochs, 1.0), text=text)


def _figures(run: Run, settings: TrainConfig) -> None:
    latest, best, state = run.latest, run.best, run.state
    if latest is None:
        return
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
        # What is over must not look as if it went on.
        pace, rate = ("", "") if run.alive else (", at the end", ", last step")
        st.metric(
            f"Images per second{pace}",
            f"{latest.images_per_second:,.0f}",
            help=f"Training images, validation excluded; of epoch {math.ceil(latest.epoch)}.",
        )
        if run.alive:
            st.metric("Time left", left, help="At the present pace, validation included.")
        st.metric(f"Learning rate{rate}", f"{latest.learning_rate:.3g}", help=f"In force at step {latest.step:,}.")


def _longer(run: Run, settings: TrainConfig) -> None:
    stretched = (
        ""
        if settings.schedule in ("constant", "plateau", "exponential", "step")
        else (" The learning rate's course is stretched to the new length.")
    )
    st.button(
        "One more epoch",
        icon=":material/add:",
        on_click=_ask,
        args=(run, "change", {"epochs": settings.epochs + 1}),
        disabled=settings.epochs >= MOST_EPOCHS,
        help=f"Trains {settings.epochs + 1} epochs in all." + stretched,
    )
    with st.popover("Longer", icon=":material/more_time:", disabled=settings.epochs >= MOST_EPOCHS):
        most = MOST_EPOCHS - settings.epochs
        more = st.number_input("More epochs", 1, most, min(5, most), key=f"longer-{run.id}")
        st.button(
            f"Train {settings.epochs + more} epochs in all",
            on_click=_ask,
            args=(run, "change", {"epochs": settings.epochs + more}),
        )
        st.caption(f"It is {settings.epochs} now." + stretched)


def _ask(run: Run, what: str, values: dict[str, Any] | None = None) -> None:
    """Ask the worker for something, and wait a moment for it, so that the page mostly shows what came of it at once."""
    if what == "change":
        st.session_state[f"asked-{run.id}"] = len(_words(run))
    if not ui.ask(run, what, values):
        st.session_state.pop(f"asked-{run.id}", None)
        return
    limit = time.monotonic() + WORD_SECONDS
    while run.state == "running" and time.monotonic() < limit:
        if not run.requested(what) and (what != "change" or _answer(run)):
            break
        time.sleep(0.05)


def _words(run: Run) -> list[Changed | Refused]:
    return [event for event in run.landmarks() if isinstance(event, Changed | Refused)]


def _answer(run: Run) -> Changed | Refused | None:
    """What the worker said to the last change that was asked for on this page."""
    asked = st.session_state.get(f"asked-{run.id}")
    words = _words(run)
    return words[-1] if asked is not None and len(words) > asked else None


def _curves(run: Run, objective: str) -> None:
    history = run.history()
    if not history:
        return
    marks = _marks(run)
    loss = charts.CONTRASTIVE_LOSS_CURVES if objective == "simclr" else charts.LOSS_CURVES
    for figure, spec in (("loss", loss), ("accuracy", charts.ACCURACY_CURVES)):
        st.vega_lite_chart(
            charts.learning_curves(history, figure, [(epoch, what, few) for epoch, _, what, few in marks]),
            spec,
            key=f"{figure}-{run.id}",
            # Not for its answer: Streamlit resets a zoom that is no selection whenever the data change.
            on_select="rerun",
            selection_mode="zoom",
            alt=f"Training and validation {figure} by epoch"
            + (f", with {len(marks)} marks, which are listed below" if marks else ""),
        )
    if marks:
        lines = [f"{number}. {ui.plain(f'{when}: {what}')}" for number, (_, when, what, _) in enumerate(marks, 1)]
        st.markdown("**Marks on the curves**\n" + "\n".join(lines))
    st.caption(
        "Training values are measured on augmented images while the weights change; the mean of an epoch is drawn at "
        "its end, so it lies behind the live curve. Validation values are of held-out images after each epoch. "
        "Scroll to zoom, drag to move, double-click to reset."
    )


def _marks(run: Run) -> list[tuple[float, str, str, str]]:
    """What is marked on the curves: at which epoch, when in words, what happened, and that in two words."""
    marks = [
        (
            change.epoch,
            f"Epoch {change.epoch:.2f}, step {change.step:,}",
            _told(change),
            f"{len(change.values)} settings" if len(change.values) > 1 else label(next(iter(change.values))),
        )
        for change in run.changes
        if change.values
    ]
    if run.parent:
        name, checkpoint = run.parent
        # Short, as it stands on the curve; the family below tells more.
        parent = run.parent_run.about.name if run.parent_run else ""
        parent = parent or name.split("-", 2)[-1]
        begun = max((row["epoch"] for row in run.history() if row["inherited"]), default=0.0)
        weights = ui.checkpoint_label(checkpoint, 0).lower()
        marks.insert(0, (begun, f"Epoch {begun:g}", f"Forked from {parent}, {weights}", "forked"))
    return marks


def _steering(run: Run, settings: TrainConfig) -> None:
    """Settings that can be changed now, filled in with what is in force."""
    # Its many sliders are only made while somebody looks, as they are made anew at every tick.
    panel = st.expander("Change while it trains", icon=":material/tune:", on_change="rerun", key=f"steer-{run.id}")
    if not panel.open:
        return
    latest = run.latest
    with panel:
        if latest is None:
            st.caption("As soon as it trains.")
            return
        # Filled in anew after each change, so that it never shows a value that is not in force.
        values = form.live(settings, latest.learning_rate, f"{run.id}-{len(run.changes)}")
        wanted = {name: value for name, value in values.items() if value != getattr(settings, name)}
        with st.container(horizontal=True, vertical_alignment="center"):
            st.button(
                "Put in force",
                icon=":material/check:",
                type="primary",
                disabled=not wanted,
                on_click=_ask,
                args=(run, "change", wanted),
            )
            _say_what_is_in_force(run, settings)


def _say_what_is_in_force(run: Run, settings: TrainConfig) -> None:
    """What the worker has said last, and what it has still to do."""
    latest, answer = run.latest, _answer(run)
    step = settings.batch_size / latest.images_per_second if latest and latest.images_per_second else 0.0
    if run.requested("change") or (f"asked-{run.id}" in st.session_state and answer is None):
        when = "when the run goes on" if run.state == "paused" else "with the next training step"
        if isinstance(latest, Progress) and latest.phase == "validation":
            when += ", after the validation"
        if step > SLOW_STEP_SECONDS:
            when += f"; a step takes about {duration(step)}"
        st.caption(f"Asked for; in force {when}.")
    elif isinstance(answer, Refused):
        st.warning(ui.plain(answer.message))
    elif answer:
        st.caption(ui.plain(f"In force since step {answer.step:,}: {_told(answer)}."))
    elif step > SLOW_STEP_SECONDS:
        st.caption(f"A step takes about {duration(step)} here; a change is in force with the next one.")


def _told(change: Changed) -> str:
    return ", ".join(
        f"{label(name)} {charts.said(change.before.get(name))} → {charts.said(value)}"
        for name, value in change.values.items()
    )


def _afterwards(run: Run, settings: TrainConfig) -> None:
    """What can still be made of a run that has ended."""
    with st.container(horizontal=True, vertical_alignment="bottom"):
        most = MOST_EPOCHS - settings.epochs
        if not run.read_only and most > 0:
            more = st.number_input("More epochs", 1, most, 1, key=f"more-{run.id}", width=150)
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


def _together(run: Run) -> str:
    """How many processes trained together at last, where they were several."""
    start = next(event for event in reversed(run.events()) if isinstance(event, Start))
    return f" {start.processes} processes on {start.device}." if start.processes > 1 else ""


def _facts(run: Run) -> None:
    start = run.start
    if start:
        st.caption(
            f"{ui.plain(start.data_name)}: {start.train_images:,} training and {start.validation_images:,} validation "
            f"images, {len(start.classes)} classes. {start.parameters:,} parameters. {start.compute_reason}"
            f"{_together(run)}"
        )
        with st.container(horizontal=True):
            ui.link("Evaluate", "Evaluate", run=run.id)
            ui.link("Features", "Map of the features", run=run.id)
            ui.link("Explain", "Heat maps", run=run.id)
            ui.link("Compare", "Compare with other runs", run=run.id)
    with st.expander("Settings of this run"):
        try:
            began, config = run.config, run.settings
        except RunError as error:
            st.error(ui.plain(str(error)))
            return
        used = [name for name in FIELDS if config.used(name)]

        def value(name: str) -> str:
            now, then = getattr(config, name), getattr(began, name)
            return str(now) if now == then else f"{now} (began with {then})"

        st.dataframe(
            pd.DataFrame(
                {
                    "Setting": [label(name) for name in used],
                    "Value": [value(name) for name in used],
                    "Meaning": [FIELDS[name].metadata["help"] for name in used],
                }
            ),
            hide_index=True,
            alt="Settings of this run",
        )
        born = f", forked from the {run.parent[1]} weights of run {run.parent[0]}" if run.parent else ""
        st.caption(f"Run {run.id}{born}, in {run.path}")
    # Its members may be training, so that what they came to changes while the page is open.
    st.fragment(keeping.family, run_every=FAMILY_SECONDS if run.alive else None)(run)
