"""Compare: which run was better, and what was different about it."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import streamlit as st

from cifar_core.runs import Run, in_families, list_runs
from pages import ui
from pages.ui import charts, comparison, keeping, pairs, reports, selecting, series, tour

TICK_SECONDS = 2.0
SHOWN_AT_FIRST = 4

ui.page("Compare")
tour.show("Compare")
selecting.note(whole=True)


def tested(runs: Sequence[Run]) -> dict[str, tuple[float, str]]:
    """The test accuracy of the runs that were evaluated, and in words of which weights."""
    found = {run.id: pairs.kept(run) for run in runs}
    return {
        name: (stored.accuracy, f"{stored.checkpoint}, epoch {stored.epoch:.4g}")
        for name, stored in found.items()
        if stored
    }


def run_table(runs: Sequence[Run]) -> None:
    number, text = st.column_config.NumberColumn, st.column_config.TextColumn
    st.dataframe(
        comparison.run_rows(in_families(runs), tested(runs)),
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
    known = [name for name in dict.fromkeys(asked) if name in runs]
    if not runs.keys() >= set(asked):
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


def curves(paths: Sequence[str], alive: Sequence[str], figure: str, axis: str, look: comparison.Look) -> None:
    """The part that is drawn anew while a run lives; a fragment keeps its arguments, so it gets folders."""
    runs = [Run(Path(path)) for path in paths]
    if [path for path, run in zip(paths, runs, strict=True) if run.alive] != list(alive):
        # One has ended or begun: the table and the pace of this change with it.
        st.rerun()
    frame = comparison.curves(runs, figure, axis, look)
    if not frame.empty:
        st.vega_lite_chart(
            frame,
            comparison.curve_chart(runs, figure, axis, look),
            key="comparison",
            alt=f"{figure} of {len(runs)} runs by {axis.lower()}",
        )
        st.download_button(
            "Curves as CSV",
            # Only when it is asked for, as this part is drawn again and again.
            lambda: frame.to_csv(index=False).encode(),
            "curves.csv",
            "text/csv",
            key="curves_csv",
            icon=":material/download:",
            on_click="ignore",
        )
    drawn = set(frame["run"])
    for name, members in comparison.entries(runs, look).items():
        if name not in drawn:
            st.caption(ui.plain(f"{name} has no curve here yet. {comparison.ended_how(members[0])}"))


def choose_look(runs: Sequence[Run]) -> comparison.Look:
    """How the curves are drawn; all of it is in the URL."""
    with st.container(horizontal=True, vertical_alignment="bottom"):
        smoothing = st.slider(
            "Smoothing",
            0.0,
            0.99,
            0.0,
            0.01,
            key="smoothing",
            bind="query-params",
            width=200,
            help="Weight of the past in an exponential moving average, without its bias at the beginning (as in "
            "TensorBoard). What was measured stays as a thin line.",
        )
        grouped = bool(comparison.seed_groups(runs)) and st.toggle(
            "Group repeated seeds",
            key="grouped",
            bind="query-params",
            help="Runs that differ in the seed alone as one curve: their mean, in a band from the lowest to the "
            "highest, as far as all of them have got.",
        )
        return comparison.Look(
            smoothing,
            st.toggle("Best so far", key="best", bind="query-params", help="A stepped line beside each curve."),
            st.toggle("Log axis →", key="log_x", bind="query-params", help="Powers of ten along the axis."),
            st.toggle("Log axis ↑", key="log_y", bind="query-params", help="Powers of ten upwards."),
            grouped,
        )


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
    look = choose_look(runs)
    alive = [str(run.path) for run in runs if run.alive]
    ticking = st.fragment(curves, run_every=TICK_SECONDS if alive else None)
    ticking([str(run.path) for run in runs], alive, figure, axis, look)
    held_out = dict.fromkeys(f"{run.start.validation_images:,} of {run.start.data_name}" for run in runs if run.start)
    note = f"Validation is on images held out of the training split ({'; '.join(held_out)}), after each epoch. "
    if figure.startswith("Training"):
        note = "Training figures are measured on augmented images while the weights change. "
        if not look.smoothing:
            note += "Thick lines are means of whole epochs" + (
                ", thin ones of moments. " if axis != "Training time" else ". "
            )
    if look.smoothing:
        note += "Thick lines are smoothed, thin ones are as measured"
        note += ", but for the means of seeds, which are not smoothed. " if look.grouped else ". "
    if look.grouped:
        note += "Bands go from the lowest to the highest of the seeds. "
    if axis == "Training time":
        note += "Time is without pauses and validation. "
    st.caption(ui.plain(note) + "Scroll to zoom, drag to move, double-click to reset.")
    if not comparison.judged_alike(runs):
        sets = {run.start.data_fingerprint: run.start.data_name for run in runs if run.start}
        how = (
            f"on images of different data sets ({', '.join(sets.values())}), so their validation figures do not compare"
            if len(sets) > 1
            else "on different images, so their validation figures compare only roughly"
        )
        st.warning(ui.plain(f"These runs were validated {how}."), icon=":material/balance:")


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
    first = "Those that differ come first. " if every else ""
    st.caption(f"{first}– stands for a setting that has no effect in a run.")
    st.download_button(
        "Settings as CSV",
        table.to_csv().encode(),
        "settings.csv",
        "text/csv",
        icon=":material/download:",
        on_click="ignore",
    )


def repeated_seeds(runs: Sequence[Run]) -> None:
    groups = comparison.seed_groups(runs)
    if not groups:
        return
    st.subheader("Repeated seeds", anchor=False)
    number, text = st.column_config.NumberColumn, st.column_config.TextColumn
    columns = {"training": text("Training", pinned=True), "seeds": text("Seeds"), "runs": number("Runs")}
    for name, title in (("best", "Best validation"), ("last", "Last validation"), ("test", "Test")):
        columns[f"{name}_mean"] = number(f"{title}, mean", format="%.2f%%")
        columns[f"{name}_deviation"] = number("Deviation", format="%.2f%%", help="Standard deviation with n - 1.")
        columns[f"{name}_range"] = text("Range (runs)")
    table = comparison.seed_table(groups, tested(runs))
    st.dataframe(
        table,
        hide_index=True,
        column_config=columns,
        placeholder="–",
        height="content",
        alt="Trainings repeated with other seeds, with mean and spread of their accuracies",
    )
    st.caption("Of the chosen runs, those that differ in nothing but the seed.")


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
        repeated_seeds(chosen)
        pairs.head_to_head(chosen)
        st.subheader("Report", anchor=False)
        reports.download(chosen, "report")
    elif not any(run.epochs for run in runs.values()):
        st.caption("No run has finished an epoch yet; curves begin there.")
    if any(not run.read_only for run in everything):
        deletion(runs)
