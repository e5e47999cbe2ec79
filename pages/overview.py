"""Overview: what is here, on what it computes, which runs there are, and what to do next."""

import time

import streamlit as st

from cifar_core import job
from cifar_core.datasets import DataInfo, cached
from cifar_core.events import size
from cifar_core.runs import Run, RunError, in_families, list_runs, own_runs, read_json
from cifar_core.runs import reference as built_in
from cifar_core.sources import DRAWN
from pages import ui
from pages.ui import charts, keeping, loaders, reference, selecting, sources, tour

FEW = 8
"""So many runs are found without looking for them."""

ui.page("Overview")
selecting.note()

place = ui.place()
infos, runs = cached(place.cache), own_runs(place.runs)


def what_next(infos: list[DataInfo], runs: list[Run]) -> None:
    """The ways on from here, the most useful first."""
    st.subheader("What to do next", anchor=False)
    alive = next((run for run in runs if run.alive), None)
    done = next((run for run in runs if run.checkpoints()), None)
    with st.container(horizontal=True, border=True):
        ready = built_in(place.runs)
        if ready and not done:
            ui.link("Explain", "Try a photo", run=ready.id, source=reference.PHOTO)
        if not infos and not runs:
            ui.link("Data", "Open a data set, or fetch CIFAR-10")
        if infos and not runs:
            ui.link("Data", "Look at the images")
            ui.link("Augment", "See what augmentation does")
            ui.link("Train", "Choose the settings of a training")
        if alive:
            ui.link("Train", "Watch the run under way", run=alive.id)
        if ready and not done:
            ui.link("Evaluate", "See where a trained network is wrong", run=ready.id)
            ui.link("Features", "See how it groups the images", run=ready.id)
        if done:
            ui.link("Evaluate", "See where the newest network is wrong", run=done.id)
            ui.link("Features", "See how it groups the images", run=done.id)
            # A network of drawings has nothing to say of a photo.
            asked = ready if ready and loaders.knows_drawings_alone(done) else done
            ui.link("Explain", "Try a photo", run=asked.id, source=reference.PHOTO)
        if infos and runs:
            ui.link("Train", "Train another network")


def where_runs_stand(was_alive: bool) -> None:
    """The queues and the table of runs; drawn anew while one of them lives."""
    runs = list_runs(place.runs)
    own = [run for run in runs if not run.read_only]
    if any(run.alive for run in own) != was_alive:
        st.rerun()
    keeping.waiting_lines()
    keeping.orphans(own)
    st.subheader("Runs", anchor=False)
    if not own:
        st.caption(
            "The first run of yours will appear here, started on the Train page or by `python -m cifar_core train`."
        )
    if not runs:
        return
    disk = loaders.disk_use(tuple(run.id for run in runs), runs)
    shown = chosen_runs(runs)
    offer_undo(runs)
    if not shown:
        st.caption("No run is like that.")
        return
    families = in_families(shown)
    # Another key for other rows: a choice is kept by its place, and must never mean another run.
    key = f"runs-{hash(tuple(run.id for _, run in families))}"
    picked = st.dataframe(
        charts.run_table(families, disk),
        hide_index=True,
        placeholder="–",
        column_config={
            # Both are on a narrow screen together.
            "Run": st.column_config.TextColumn(pinned=True, width=ui.NAME_WIDTH),
            "Best validation accuracy": st.column_config.NumberColumn(
                "Best", format="%.2f%%", width=ui.BEST_WIDTH, help="Validation accuracy of the best epoch."
            ),
            "Disk (MB)": st.column_config.NumberColumn(format="%.1f"),
        },
        on_select="rerun",
        selection_mode="multi-row",
        key=key,
        alt="Runs with their state and best accuracy; below it stands what can be done with the chosen ones",
    ).selection.rows
    actions([families[row][1] for row in picked if row < len(families)])
    total = size(sum(disk[run.id] for run in own))
    besides = " The reference run comes with the program." if len(own) < len(runs) else ""
    st.caption(
        f"{len(own)} run{'s' if len(own) != 1 else ''} in {ui.plain(str(place.runs))}, {total} on the disk.{besides} "
        "Forks stand below their parents. Accuracy is that of the best epoch on images held out from the training "
        "split, and compares only between runs on the same data; no test image is used to train or to choose weights."
    )


def chosen_runs(runs: list[Run]) -> list[Run]:
    """Those that are looked for, without the archived ones unless asked for."""
    archived = sum(run.about.archived for run in runs)
    wanted, all_too = "", False
    if len(runs) > FEW or archived:
        with st.container(horizontal=True, vertical_alignment="bottom"):
            if len(runs) > FEW:
                wanted = st.text_input(
                    "Find", key="find", placeholder="Words of a name, model, state, note or data set", width=400
                )
            if archived:
                all_too = st.toggle(f"Archived too ({archived})", key="archived_too")
    return [run for run in runs if (all_too or not run.about.archived) and charts.matches(run, wanted)]


def actions(runs: list[Run]) -> None:
    """What can be done with the rows that are chosen."""
    if not runs:
        st.caption("Choose a row to open the run, or to star, archive or delete one of yours.")
        return
    with st.container(horizontal=True, vertical_alignment="center"):
        if len(runs) == 1:
            if st.button("Open", type="primary", icon=":material/open_in_full:"):
                st.switch_page("pages/train.py", query_params={"run": runs[0].id})
        elif st.button("Compare", type="primary", icon=":material/compare_arrows:"):
            st.switch_page("pages/compare.py", query_params=[("runs", run.id) for run in runs])
        starred = all(run.about.starred for run in runs)
        kept = any(run.read_only for run in runs)
        why = "The reference run comes with the program and stays as it is." if kept else None
        st.button(
            "Remove star" if starred else "Star",
            icon=":material/star:",
            disabled=kept,
            help=why,
            on_click=describe,
            args=(runs,),
            kwargs={"starred": not starred},
        )
        archived = all(run.about.archived for run in runs)
        st.button(
            "Back from the archive" if archived else "Archive",
            icon=":material/archive:",
            disabled=kept,
            help=why,
            on_click=describe,
            args=(runs,),
            kwargs={"archived": not archived},
        )
        if st.button("Delete…", icon=":material/delete:", disabled=kept or any(run.alive for run in runs), help=why):
            keeping.ask_before_deleting(runs)
            st.rerun()
        st.caption(f"{len(runs)} chosen" if len(runs) > 1 else ui.plain(charts.run_facts(runs[0])))


def describe(runs: list[Run], **values: bool) -> None:
    try:
        for run in runs:
            run.describe(**values)
    except RunError as error:
        st.toast(ui.plain(str(error)), icon=":material/error:")
        return
    if values.get("archived"):
        st.session_state["just_archived"] = [run.id for run in runs]


def offer_undo(runs: list[Run]) -> None:
    """A way back for those archived last on this page."""
    gone = [run for run in runs if run.id in st.session_state.get("just_archived", []) and run.about.archived]
    if gone:
        with st.container(horizontal=True, vertical_alignment="center"):
            st.caption(
                ui.plain(f"Archived: {', '.join(charts.run_name(run) for run in gone[:3])}")
                + (f" and {len(gone) - 3} more" if len(gone) > 3 else "")
                + ".",
                # Or the button would stand under the tools of the table.
                width="content",
            )
            st.button("Undo", icon=":material/undo:", on_click=describe, args=(gone,), kwargs={"archived": False})


under_way = sources.see_to_reading()
tour.offer(infos)
what_next(infos, runs)
data, device = st.columns(2, gap="large")
with data:
    st.subheader("Data", anchor=False)
    for info in infos[:5]:
        with st.container(border=True):
            st.markdown(f"**{ui.plain(info.name)}**")
            st.caption(
                f"{info.train_images:,} training and {info.test_images:,} test images in {len(info.classes)} classes, "
                f"from {ui.plain(info.source)}"
            )
            ui.link("Data", "Look at it", data=info.id)
    # While something else is fetched, too, it is shown how far the drawing is.
    if not infos and (not under_way or job.data_task(place.downloads, DRAWN)[0].alive):
        ui.no_data(reads=False)
    if all(info.kind == "drawn" for info in infos):
        sources.fetch("overview")
with device:
    st.subheader("Device", anchor=False)
    folder, task = job.device_task(place.downloads)
    answer = folder.path / "device.json"
    # Asked again once a day: a driver may have come or gone.
    known = read_json(answer) if answer.exists() and time.time() - answer.stat().st_mtime < 86_400 else None
    if ui.background(folder, task, done=known is not None) and known:
        with st.container(border=True):
            st.markdown(f"**{known['name']}**")
            st.caption(known["reason"])
            st.caption(f"torch {known['torch']}, Python {known['python']}, {known['cores']} cores")
busy = any(run.alive for run in runs)
st.fragment(where_runs_stand, run_every=2.0 if busy else None)(busy)
keeping.deletion()
