"""Compare: which run was better, and what was different about it."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import streamlit as st

from cifar_core.runs import Run, in_families, list_runs
from pages import ui
from pages.ui import charts, comparison, keeping, loaders, series

TICK_SECONDS = 2.0
SHOWN_AT_FIRST = 4

ui.page("Compare")


def run_table(runs: Sequence[Run]) -> None:
    tests = {}
    for run in runs:
        # The best weights are what a run is judged by; of the same weights the latest evaluation is the right one.
        stored = sorted(loaders.stored_evaluations(run), key=lambda stored: stored.checkpoint != "best")
        if stored:
            tests[run.id] = (stored[0].accuracy, f"{stored[0].checkpoint}, epoch {stored[0].epoch:.4g}")
    number, text = st.column_config.NumberColumn, st.column_config.TextColumn
    st.dataframe(
        comparison.run_rows(in_families(runs), tests),
        hide_index=True,
        column_config={
            "run": text("Run", pinned=True, width=ui.NAME_WIDTH, help="Model, day and time it began, end of its id."),
            "state": text("State"),
            "model": text("Model"),
            "best": number(
                "Best", format="%.2f%%", width=ui.BEST_WIDTH, help="Accuracy on the held-out images at the best epoch."
            ),
            "best_epoch": number("Best epoch"),
            "test": number("Test", format="%.2f%%", help="Accuracy on the test split, where it has been evaluated."),
            "test_weights": text("Tested weights", width=120, help="The weights whose test accuracy it is."),
            "train_loss": number("Training loss", format="%.4f", help="Mean over the last finished epoch."),
            "epochs": number("Epochs done", format="%.2f"),
            "asked": number("Epochs asked for"),
            "images_per_second": number("Images/s", format="%d", help="Training images per second."),
            "seconds": number("Seconds", format="%.1f", help="Training time, without pauses and validation."),
            "optimizer": text("Optimiser"),
            "learning_rate": number("Learning rate", format="%g"),
            "schedule": text("Schedule"),
            "batch_size": number("Batch size"),
            "width": number("Width", format="%g"),
            "dropout": number("Dropout", format="%g"),
            "train_images": number("Training images", format="localized"),
        },
        placeholder="–",
        alt="All runs with their state, accuracy, speed and main settings",
    )
    st.caption(
        f"{len(runs)} run{'s' if len(runs) != 1 else ''}; forks stand below their parents. Click a heading to sort. "
        "Best is the validation accuracy of the best epoch. Validation accuracy is of images "
        "held out from the training split, test accuracy of the test split."
    )


def choose_runs(runs: dict[str, Run]) -> list[Run]:
    """The runs to lay over one another, kept in the URL; at first the newest that have got anywhere."""
    asked = tuple(st.query_params.get_all("runs"))
    known = [name for name in asked if name in runs]
    if len(known) < len(asked):
        st.warning("Some runs of this link are not here any more.", icon=":material/link_off:")
    if asked != st.session_state.get("runs_in_url") and known:
        st.session_state["runs_choice"] = known
    if "runs_choice" not in st.session_state:
        st.session_state["runs_choice"] = [name for name in runs if runs[name].epochs][:SHOWN_AT_FIRST]
    st.session_state["runs_choice"] = [name for name in st.session_state["runs_choice"] if name in runs]
    chosen = st.multiselect(
        "Runs to compare",
        list(runs),
        format_func=lambda name: charts.run_name(runs[name]),
        key="runs_choice",
        placeholder="Choose two or more",
    )
    st.session_state["runs_in_url"] = tuple(chosen)
    if chosen != list(asked):
        st.query_params["runs"] = chosen
    return [runs[name] for name in chosen]


def curves(paths: Sequence[str], alive: Sequence[str], figure: str, axis: str) -> None:
    """The part that is drawn anew while a run lives; a fragment keeps its arguments, so it gets folders."""
    runs = [Run(Path(path)) for path in paths]
    if [path for path, run in zip(paths, runs, strict=True) if run.alive] != list(alive):
        # One has ended or begun: the table and the pace of this change with it.
        st.rerun()
    frame = comparison.curves(runs, figure, axis)
    if not frame.empty:
        st.vega_lite_chart(
            frame,
            comparison.curve_chart(runs, figure, axis),
            key="comparison",
            alt=f"{figure} of {len(runs)} runs by {axis.lower()}",
        )
    drawn = set(frame["run"])
    for run in runs:
        if charts.run_name(run) not in drawn:
            st.caption(ui.plain(f"{charts.run_name(run)} has no curve here yet. {comparison.ended_how(run)}"))


def laid_over(runs: Sequence[Run]) -> None:
    st.subheader("Curves", anchor=False)
    with st.container(horizontal=True):
        figure = st.segmented_control(
            "Metric",
            list(comparison.FIGURES),
            key="figure",
            default="Validation accuracy",
            required=True,
            bind="query-params",
            wrap=True,
        )
        axis = st.segmented_control(
            "Against", list(comparison.AXES), key="against", default="Epochs", required=True, bind="query-params"
        )
    alive = [str(run.path) for run in runs if run.alive]
    st.fragment(curves, run_every=TICK_SECONDS if alive else None)([str(run.path) for run in runs], alive, figure, axis)
    note = "Validation is on held-out images, after each epoch. "
    if figure.startswith("Training"):
        note = "Training figures are measured on augmented images while the weights change. "
        note += "Thick lines are means of whole epochs" + (
            ", thin ones of moments. " if axis != "Training time" else ". "
        )
    if axis == "Training time":
        note += "Time is without pauses and validation. "
    st.caption(note + "Scroll to zoom, drag to move, double-click to reset.")
    if not comparison.judged_alike(runs):
        st.warning(
            "These runs were validated on different images, so their validation figures do not compare exactly.",
            icon=":material/balance:",
        )


def differences(runs: Sequence[Run]) -> None:
    st.subheader("Settings that differ", anchor=False)
    every = st.toggle("Show all settings", key="all_settings", bind="query-params")
    for run in runs:
        if comparison.settings_of(run) is None:
            st.caption(ui.plain(f"The settings of {charts.run_name(run)} cannot be read."))
    if len(runs) < 2 and not every:
        st.caption("Choose two or more runs to see what differs between them.")
        return
    table = comparison.settings_table(runs, every)
    if table.empty:
        st.caption("Nothing: all settings of these runs are the same.")
        return
    st.dataframe(
        table,
        column_config={"setting": st.column_config.TextColumn("Setting", width=160, pinned=True)},
        height="content",
        alt="Settings of the chosen runs",
    )
    st.caption("– stands for a setting that has no effect in a run.")


def deletion(runs: dict[str, Run]) -> None:
    st.subheader("Delete a run", anchor=False)
    with st.container(horizontal=True, vertical_alignment="bottom"):
        name = st.selectbox(
            "Run to delete",
            [name for name, run in runs.items() if not run.read_only],
            index=None,
            placeholder="Choose a run",
            format_func=lambda name: charts.run_name(runs[name]),
            key="to_delete",
            width=400,
        )
        if st.button("Delete…", icon=":material/delete:", disabled=name is None) and name:
            keeping.ask_before_deleting([runs[name]])
    keeping.deletion()


everything = list_runs(ui.place().runs)
archived = [run for run in everything if run.about.archived]
asked_for = st.query_params.get_all("runs")
if archived and len(archived) < len(everything):
    with_archive = st.toggle(f"Archived runs too ({len(archived)})", key="archived_too")
    everything = [run for run in everything if with_archive or run not in archived or run.id in asked_for]
runs = {run.id: run for run in everything}
if not runs:
    with st.container(border=True):
        st.markdown("**No runs yet.** Two trainings with one setting changed make the first comparison.")
        ui.link("Train", "Start a training")
else:
    run_table(list(runs.values()))
    series.table(list(runs.values()))
    chosen = choose_runs(runs)
    if chosen:
        laid_over(chosen)
        differences(chosen)
    elif not any(run.epochs for run in runs.values()):
        st.caption("No run has finished an epoch yet; curves begin there.")
    if any(not run.read_only for run in everything):
        deletion(runs)
