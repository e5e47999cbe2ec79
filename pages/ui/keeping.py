"""Runs as things that are kept: names and stars, the archive, deletion, families of forks, and queues."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import pandas as pd
import streamlit as st

from cifar_core import job, queues
from cifar_core.config import FIELDS, label
from cifar_core.events import size
from cifar_core.runs import NAME_LENGTH, NOTE_LENGTH, Run, RunError, family_of, list_runs
from pages import ui
from pages.ui import charts, reference


def manage(run: Run) -> None:
    """What can be said of a run and done with it as a whole."""
    if run.read_only:
        reference.about(run)
        return
    about = run.about
    with st.popover("Name, star, archive, delete", icon=":material/edit:"):
        with st.form(f"about-{run.id}", border=False):
            name = st.text_input("Name", about.name, max_chars=NAME_LENGTH, placeholder=charts.run_name(run))
            note = st.text_input("Note", about.note, max_chars=NOTE_LENGTH)
            if st.form_submit_button("Keep name and note", icon=":material/check:"):
                _do(lambda: run.describe(name=name, note=note))
        with st.container(horizontal=True):
            if st.button("Remove star" if about.starred else "Star", icon=":material/star:"):
                _do(lambda: run.describe(starred=not about.starred))
            if st.button("Back from the archive" if about.archived else "Archive", icon=":material/archive:"):
                _do(lambda: run.describe(archived=not about.archived))
            if st.button("Delete…", icon=":material/delete:", disabled=run.alive):
                ask_before_deleting([run])
                st.rerun()
        use = run.disk_use()
        st.caption(
            f"{size(use.total)} on the disk: weights {size(use.weights)}, weights kept on purpose {size(use.kept)}, "
            f"evaluations and maps {size(use.results)}, predictions of each epoch {size(use.logits)}. "
            "An archived run is only hidden from lists and choices."
        )
        with st.container(horizontal=True):
            if use.results and st.button("Remove evaluations and maps", help="They can be made again."):
                _do(lambda: run.free(results=True))
            if use.kept and st.button("Remove weights kept on purpose", help="The best and the last ones stay."):
                _do(lambda: run.free(kept=True))
            if use.logits and st.button(
                "Remove predictions of each epoch", help="Evaluate then knows only epochs whose weights are kept."
            ):
                _do(lambda: run.free(logits=True))


def _do(action: Callable[[], None]) -> None:
    try:
        action()
    except RunError as error:
        st.error(ui.plain(str(error)))
    else:
        st.rerun()


def ask_before_deleting(runs: Sequence[Run]) -> None:
    """Let `deletion` ask at the next full run of the page; kept until then, as the page may be drawn anew meanwhile."""
    st.session_state["deleting"] = [run.id for run in runs]


def deletion() -> None:
    """The question before runs are deleted, while there is one."""
    root = ui.place().runs
    runs = [run for run in list_runs(root) if run.id in st.session_state.get("deleting", [])]
    if runs:
        _confirm_deletion(runs)


def _leave() -> None:
    st.session_state.pop("deleting", None)


@st.dialog("Delete for ever?", on_dismiss=_leave)
def _confirm_deletion(runs: Sequence[Run]) -> None:
    for run in runs:
        epochs = round(run.latest.epoch) if run.latest else 0
        st.markdown(
            ui.plain(
                f"{charts.run_name(run)}: {epochs} epoch{'s' if epochs != 1 else ''}, {size(run.disk_use().total)}."
            )
        )
    st.markdown(
        "Weights, evaluations and maps are deleted too. This cannot be undone. Forks of a deleted run stay as they are."
    )
    with st.container(horizontal=True):
        if st.button("Delete for ever", type="primary", icon=":material/delete:"):
            try:
                for run in runs:
                    run.delete()
            except (RunError, OSError) as error:
                st.error(ui.plain(str(error)))
            else:
                _leave()
                st.rerun()
        if st.button("Keep it"):
            _leave()
            st.rerun()


def family(run: Run) -> None:
    """The run's ancestors and forks with what differed, if it has any; choosing a row opens that run."""
    members = family_of(run, list_runs(run.root))
    parent = run.parent
    if parent and parent[0] not in {member.id for _, member in members}:
        st.caption(f"Its parent, run {parent[0]}, is not here any more; its part of the curve is kept.")
    if len(members) < 2:
        return
    st.subheader("Family", anchor=False)
    rows = [
        {
            "Run": charts.indented(depth, member) + (" (this one)" if member.id == run.id else ""),
            "Best validation accuracy": 100 * member.best.validation_accuracy if member.best else None,
            "Differs from its parent in": differences(member),
            "Begins with": _begins_with(member),
            "State": member.state,
        }
        for depth, member in members
    ]
    chosen = st.dataframe(
        pd.DataFrame(rows),
        hide_index=True,
        placeholder="–",
        column_config={
            "Run": st.column_config.TextColumn(pinned=True, width=ui.NAME_WIDTH),
            "Best validation accuracy": st.column_config.NumberColumn("Best", format="%.2f%%", width=ui.BEST_WIDTH),
            "Differs from its parent in": st.column_config.TextColumn(width=250),
        },
        on_select="rerun",
        selection_mode="single-row",
        key=f"family-{run.id}-{len(members)}",
        alt="This run's ancestors and forks, with what each was begun with and its best accuracy",
    ).selection.rows
    mine = differences(run)
    st.caption(
        "Forks stand below their parents. Choose a row to open that run."
        + (ui.plain(f" This one differs from its parent in {mine}.") if mine else "")
    )
    if chosen and members[chosen[0]][1].id != run.id:
        st.query_params["run"] = members[chosen[0]][1].id
        st.rerun()


def _begins_with(run: Run) -> str:
    if run.parent is None:
        return "fresh weights"
    rows = [row["epoch"] for row in run.history() if row["inherited"]]
    weights = ui.checkpoint_label(run.parent[1], 0).lower()
    return f"its parent's {weights}" + (f" ({max(rows):g})" if rows and run.parent[1] in ("best", "last") else "")


def differences(run: Run) -> str:
    """What was set otherwise in a fork than in its parent, in words; empty where nothing is known."""
    try:
        ours, theirs = run.config, run.settings_inherited
    except RunError:
        return ""
    if theirs is None:
        return ""
    return ", ".join(
        f"{label(name)} {charts.said(getattr(theirs, name))} → {charts.said(getattr(ours, name))}"
        for name in FIELDS
        if getattr(ours, name) != getattr(theirs, name) and (ours.used(name) or theirs.used(name))
    )


def place_in_line(run: Run) -> None:
    """Where a waiting run stands, and ways to let it have its device earlier or later."""
    device = queues.waiting_for(run)
    if device is None:
        return
    line = queues.queue(run.path.parent, device)
    place = line.index(run) if run in line else 0
    first = queues.holder(run.path.parent, device)
    used = f"which {ui.plain(charts.run_name(first))} uses" if first else "which another run uses"
    st.info(
        f"{ordinal(place + 1)} of {len(line)} in line for {device.upper()}, {used}. "
        f"It {'begins when that is free' if place == 0 else 'waits for those before it too'}.",
        icon=":material/hourglass_empty:",
    )
    if len(line) > 1:
        with st.container(horizontal=True):
            _moves(run, place, len(line))


def waiting_lines() -> None:
    """The queue of each device, with ways to reorder it and to cancel what waits."""
    for device, line in queues.queues(ui.place().runs).items():
        st.subheader(f"In line for {device.upper()}", anchor=False)
        for place, run in enumerate(line):
            with st.container(horizontal=True, vertical_alignment="center"):
                silent = "" if queues.answers(run) else " (does not answer; the others pass it)"
                st.markdown(f"{place + 1}\\. {ui.plain(charts.run_name(run))}{silent}", width=320)
                _moves(run, place, len(line))
                st.button(
                    "Cancel",
                    icon=":material/close:",
                    key=f"cancel-{run.id}",
                    on_click=ui.ask,
                    args=(run, "stop"),
                    disabled=run.requested("stop"),
                    help="It can be resumed later.",
                )


def orphans(runs: Sequence[Run]) -> None:
    """Runs at work whose dashboard or terminal has ended, with a way to each and to stop it."""
    left = [run for run in runs if run.alive and (origin := job.launched(run)) and not origin.still_there]
    if not left:
        return
    st.caption(
        ":material/link_off: Started by an earlier dashboard or terminal, which has ended; the workers go on by "
        "themselves:"
    )
    for run in left:
        with st.container(horizontal=True, vertical_alignment="center"):
            st.markdown(ui.plain(f"{charts.run_name(run)}, {run.state}"), width=320)
            ui.link("Train", "Open", run=run.id)
            st.button(
                "Stop and keep",
                icon=":material/stop:",
                key=f"stop-{run.id}",
                on_click=ui.ask,
                args=(run, "stop"),
                disabled=run.requested("stop"),
                help="Its weights are kept, and it can be resumed later.",
            )


def _moves(run: Run, place: int, waiting: int) -> None:
    for to, title, icon, useless in (
        ("first", "First", ":material/vertical_align_top:", place == 0),
        ("up", "Earlier", ":material/arrow_upward:", place == 0),
        ("down", "Later", ":material/arrow_downward:", place == waiting - 1),
    ):
        st.button(title, icon=icon, key=f"{to}-{run.id}", on_click=_move, args=(run, to), disabled=useless)


def _move(run: Run, to: str) -> None:
    try:
        queues.move(run, to)
    except RunError as error:
        # It has begun, or was stopped, since the page was drawn.
        st.toast(ui.plain(str(error)), icon=":material/info:")


def ordinal(number: int) -> str:
    """1st, 2nd, 3rd, 4th, 11th."""
    ending = "th" if number % 100 in (11, 12, 13) else {1: "st", 2: "nd", 3: "rd"}.get(number % 10, "th")
    return f"{number}{ending}"
