"""Runs that belong together, summed up: mean and spread over seeds or folds, and each of them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import suppress

import pandas as pd
import streamlit as st

from cifar_core import series
from cifar_core.config import TrainConfig
from cifar_core.runs import Run, RunError
from cifar_core.series import Series, Spread
from pages import ui

KINDS = {"": "No repeats", "seeds": "Several seeds", "folds": "Cross-validation"}


def choose(folds: bool = True) -> None:
    """Whether the next start is of one run or of a series, and of how many; `chosen` tells what was chosen.

    Args:
        folds: Whether a cross-validation is offered.
    """
    kinds = [kind for kind in KINDS if folds or kind != "folds"]
    if st.session_state.get("series_kind", "") not in kinds:
        st.session_state["series_kind"] = ""
    kind = st.selectbox(
        "Repeats",
        kinds,
        format_func=lambda kind: KINDS[kind],
        key="series_kind",
        # A reload of the page keeps it.
        bind="query-params",
        help="Repeat the training with seeds that count up from the one below, or on each fold of a cross-validation. "
        "The runs wait for the device in turn; their mean and standard deviation are shown.",
    )
    if kind:
        what, usual = ("seeds", 3) if kind == "seeds" else ("folds", 5)
        ui.whole_number(f"Number of {what}", 2, series.most_runs(kind), value=usual, key=f"series_{what}")


def chosen() -> tuple[str, int]:
    """The kind of series and the number of its runs; an empty kind and 1 for a single run."""
    kind = st.session_state.get("series_kind", "")
    return (kind, int(st.session_state[f"series_{kind}"])) if kind else ("", 1)


def first(config: TrainConfig) -> TrainConfig:
    """The settings of the first run of what was chosen; those alone where Start will refuse it."""
    kind, count = chosen()
    with suppress(ValueError):
        return series.configs(config, kind, count)[0] if kind else config
    return config


def show(run: Run) -> None:
    """The series of the run on the page, drawn anew while one of its members lives; nothing for a run of its own."""
    known = series.series_of(run)
    if known is None:
        return
    alive = any(member.alive for member in series.members(known, ui.place().runs))
    with st.expander(f"One of {known.said}", expanded=True, icon=":material/stacks:"):
        st.fragment(_show, run_every=3.0 if alive else None)(known)


def _show(known: Series) -> None:
    runs = series.members(known, ui.place().runs)
    found = series.summary(known, runs)
    with st.container(horizontal=True):
        st.metric("Finished", f"{found.finished} of {found.count}")
        st.metric("Mean, best epochs", percent(found.best.mean), help="Of the finished runs alone.")
        st.metric("Mean, last epochs", percent(found.last.mean), help="Of the finished runs alone.")
        st.metric(
            "Standard deviation",
            percent(found.last.deviation, 2),
            help="Of the last epochs, with n - 1; from two finished runs on.",
        )
    st.dataframe(
        member_rows(known, runs),
        hide_index=True,
        height="content",
        column_config={
            "best": st.column_config.NumberColumn("Best validation", format="%.2f%%"),
            "last": st.column_config.NumberColumn("Last validation", format="%.2f%%"),
            "which": st.column_config.NumberColumn("Seed" if known.kind == "seeds" else "Fold"),
            "run": st.column_config.TextColumn("Run"),
            "state": st.column_config.TextColumn("State"),
        },
        placeholder="–",
        alt="The runs of the series with their state and validation accuracies",
    )
    gone = known.count - len(runs)
    lost = f" {gone} of its runs {'is' if gone == 1 else 'are'} not here any more." if gone else ""
    st.caption(
        "Validation accuracy; of the best epochs it is a little too good, as they were chosen by the same images."
        + lost
    )


def member_rows(known: Series, runs: Sequence[Run]) -> pd.DataFrame:
    """A row a run, in the order of their seeds or folds."""
    rows = []
    for run in runs:
        mine = series.series_of(run)
        done = run.epochs
        which = None
        with suppress(RunError):
            which = run.config.seed if known.kind == "seeds" else mine and mine.index
        rows.append(
            {
                "which": which,
                "state": run.state,
                "best": 100 * run.best.validation_accuracy if run.best else None,
                "last": 100 * done[-1].validation_accuracy if done else None,
                "run": run.id,
            }
        )
    return pd.DataFrame(rows)


def group_rows(groups: Mapping[str, Sequence[Run]]) -> pd.DataFrame:
    """A row a series, with mean and spread in percent over its finished runs."""
    rows = []
    for members in groups.values():
        known = series.series_of(members[0])
        if known is None:
            continue
        found = series.summary(known, members)
        rows.append(
            {
                "series": f"{members[0].id.split('-')[2]} · {known.said}",
                "finished": f"{found.finished} of {found.count}",
                **_columns("best", found.best),
                **_columns("last", found.last),
                "runs": ", ".join(run.id[-4:] for run in members),
            }
        )
    return pd.DataFrame(rows)


def table(runs: Sequence[Run]) -> None:
    """All series among the runs, a row each; nothing where there is none."""
    rows = group_rows(series.all_series(runs))
    if rows.empty:
        return
    st.subheader("Series", anchor=False)
    number, text = st.column_config.NumberColumn, st.column_config.TextColumn
    st.dataframe(
        rows,
        hide_index=True,
        column_config={
            "series": text("Series", pinned=True),
            "finished": text("Finished", help="Only these count in the figures beside."),
            "best_mean": number("Best validation, mean", format="%.2f%%"),
            "best_deviation": number("Deviation", format="%.2f%%", help="Standard deviation with n - 1."),
            "last_mean": number("Last validation, mean", format="%.2f%%"),
            "last_deviation": number("Deviation", format="%.2f%%", help="Standard deviation with n - 1."),
            "runs": text("Ends of the runs' ids"),
        },
        placeholder="–",
        alt="Series of runs with mean and standard deviation of their validation accuracies",
    )


def _columns(name: str, found: Spread) -> dict[str, float | None]:
    return {
        f"{name}_mean": None if found.mean is None else 100 * found.mean,
        f"{name}_deviation": None if found.deviation is None else 100 * found.deviation,
    }


def percent(share: float | None, digits: int = 1) -> str:
    return "–" if share is None else f"{share:.{digits}%}"
