"""Where data sets come from and go: opening a path, fetching CIFAR-10, seeing to it until done, and letting go."""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path
from typing import Any

import streamlit as st

from cifar_core import job
from cifar_core.datasets import DataInfo, cached, forget
from cifar_core.events import brief
from cifar_core.runs import RunError, WorkFolder, read_json
from cifar_core.sources import ARCHIVE, ARCHIVE_BYTES, DRAWN, DRAWN_NAME, LONGEST_PATH, DataError, absolute, downloaded
from pages import ui
from pages.ui import loaders

LAYOUTS = (
    "One of: the folder `cifar-10-batches-py` or the archive `cifar-10-python.tar.gz`; Parquet files "
    "`train-*.parquet` and `test-*.parquet`, or their folder; a folder of images `train/<class>/*` and "
    "`test/<class>/*`, or `<class>/*`, of which a fifth becomes the test split. Images of any size are made 32 x 32. "
    "`cartoon10` names pictures drawn by code."
)


def offer() -> None:
    """A field for a path, and a button for the original."""
    with st.form("open_path", border=False), st.container(horizontal=True, vertical_alignment="bottom"):
        path = st.text_input(
            "Path on this computer", placeholder="/home/me/cifar-10-batches-py", help=LAYOUTS, width=520
        )
        asked = st.form_submit_button("Open", type="primary", icon=":material/folder_open:")
    st.caption(LAYOUTS)
    fetch("data")
    if asked and path.strip():
        _begin(_absolute(path))
    elif asked:
        st.warning("Type the path of a file or a folder first.", icon=":material/edit:")


def fetch(key: str) -> None:
    """A button that downloads CIFAR-10, and what to do where that cannot be; how far it is, `see_to_reading` shows.

    Args:
        key: Tells the places of a page apart.
    """
    fetch_button(key)
    with st.expander("If the site cannot be reached", icon=":material/wifi_off:", expanded=let_down()):
        firewall()


def let_down() -> bool:
    """Whether CIFAR-10 could not be fetched for this visitor, who wants to know what else can be done."""
    folder, _ = job.data_task(ui.place().downloads, None)
    asked = folder.path.name in (st.query_params.get("opening"), st.session_state.get("opening"))
    return asked and folder.state == "failed"


def fetch_button(key: str) -> None:
    """The button alone; while it is under way, a word about that."""
    downloads = ui.place().downloads
    if job.data_task(downloads, None)[0].alive:
        st.caption("CIFAR-10 is being fetched; how far that is stands at the top of the page.")
        return
    there = downloaded(downloads) / 1e6
    label = "Download CIFAR-10 (170 MB)"
    if (downloads / ARCHIVE).exists():
        label = "Open CIFAR-10 (its archive is there)"
    elif there >= 1:
        label = f"Go on with the download of CIFAR-10 ({there:,.0f} of 170 MB are there)"
    if st.button(
        label,
        icon=":material/download:",
        key=f"fetch-{key}",
        help=f"From the site of its authors into {ui.plain(str(downloads))}; the checksum is verified. It can be "
        "stopped, and goes on from there.",
    ):
        _begin(None)


def firewall() -> None:
    """What to do where a firewall or the lack of a network keeps CIFAR-10 away."""
    st.markdown(
        f"Behind a firewall, or without a network, any of these does. Bring it here on a disk or from a computer that "
        "may, put it anywhere, and open its path on the Data page:\n"
        f"- the same file `{ARCHIVE}` from a mirror or a colleague ({ARCHIVE_BYTES:,} bytes); in "
        f"`{ui.place().downloads}` it is found by the download button too, which then checks it and fetches nothing,\n"
        "- the two Parquet files of Hugging Face, `train-00000-of-00001.parquet` and `test-00000-of-00001.parquet` "
        "from the folder `plain_text` of huggingface.co/datasets/uoft-cs/cifar10,\n"
        "- a folder of pictures, one folder per class, of CIFAR-10 or of anything else.\n\n"
        "If the site answers slowly or not at all, stop the download and go on later: what has come is kept. A proxy "
        "is used where the environment variable `https_proxy` names one."
    )


def see_to_reading() -> bool:
    """Show what is being read, until it is there and chosen; gives whether something is.

    What this visitor asked for is named in the URL, so that it is found again after a refresh.
    """
    _welcome()
    under_way = False
    place = ui.place()
    known = tuple(info.id for info in cached(place.cache))
    tasks = _tasks(place.downloads)
    asked = st.query_params.get("opening") or st.session_state.get("opening", "")
    own = _of_command_line(known)
    if own and asked not in tasks:
        asked, tasks = own[0].path.name, {**tasks, own[0].path.name: own}
    for name in [*({asked} & set(tasks)), *(name for name in tasks if name != asked)]:
        folder, task = tasks[name]
        # What is drawn where nothing else is there is shown by the empty state alone, even if it was asked for.
        if (task["source"] == DRAWN and not known) or (name != asked and not folder.alive):
            continue
        source = task["source"] or str(Path(task["downloads"]) / ARCHIVE)
        if name == asked and not folder.alive:
            info = loaders.prepared(source, place.cache, known)
            ended = folder.state == "finished" and not (own and own[0].path == folder.path)
            if info or ended:
                _drop()
                if info:
                    st.session_state["opened"] = info.name
                    # Of the next training, too.
                    st.session_state["set_data"] = info.source
                    if st.query_params.get("data") != info.id:
                        st.query_params["data"] = info.id
                        # The menu above has been drawn, and leads to the images that were looked at before.
                        st.rerun()
                    _welcome()
                else:
                    st.warning(
                        ui.plain(
                            f"{source} is not in the cache {place.cache}. If it is a prepared data set of another "
                            "cache, open what that was made from; else open it again."
                        )
                    )
                continue
        if name == asked:
            _remember(name)
        under_way |= folder.alive or not folder.events()
        with st.container(border=True):
            begun = folder.alive or folder.last_end is None
            what = (
                ui.plain(DRAWN_NAME if source == DRAWN else brief(source, LONGEST_PATH))
                if task["source"]
                else "CIFAR-10"
            )
            doing = "Reading" if task["source"] else "Fetching"
            over = "Not opened:" if task["source"] else "Not fetched:"
            st.markdown(f"{doing if begun else over} {what}")
            ui.background(folder, task, done=False)
            if name == asked and not own and not folder.alive and st.button("Dismiss", type="tertiary"):
                _drop()
                st.rerun()
    return under_way


def _welcome() -> None:
    """Say once that a data set is open."""
    if opened := st.session_state.pop("opened", None):
        st.toast(f"{ui.plain(opened)} is open.", icon=":material/check:")


def let_go(info: DataInfo) -> None:
    """A way to remove a data set from the cache, on second thought."""
    place = ui.place()
    with st.popover("Remove from the cache", icon=":material/delete:", type="tertiary"):
        st.markdown(
            f"Removes the prepared arrays of **{ui.plain(info.name)}**. The source {ui.plain(info.source)} and all "
            "runs stay as they are; opening the source again brings the arrays back."
        )
        if st.button("Remove", type="primary", key=f"forget-{info.id}"):
            known = tuple(other.id for other in cached(place.cache))
            try:
                own = place.data and loaders.prepared(place.data, place.cache, known)
                forget(info.id, place.cache)
            except DataError as error:
                st.error(ui.plain(str(error)))
                return
            if own and own.id == info.id:
                ui.unwanted().add(str(place.data))
            # Else the files' disk space stays taken for as long as they are mapped.
            loaders.data_set.clear()
            st.query_params.pop("data", None)
            st.rerun()


def _of_command_line(known: tuple[str, ...]) -> tuple[WorkFolder, dict[str, Any]] | None:
    """The task for the path of the command line, while there is something to do."""
    place = ui.place()
    if not place.data or place.data in ui.unwanted() or loaders.prepared(place.data, place.cache, known):
        return None
    return job.data_task(place.downloads, place.data)


def _tasks(downloads: Path) -> dict[str, tuple[WorkFolder, dict[str, Any]]]:
    """All readings of data that were ever begun, by the names of their folders."""
    found = {}
    with suppress(OSError):
        for path in sorted((downloads / "tasks").iterdir()):
            task = read_json(path / "task.json")
            if isinstance(task, dict) and task.get("task") == "data":
                found[path.name] = WorkFolder(path), task
    return found


def _begin(source: str | None) -> None:
    place = ui.place()
    folder, task = job.data_task(place.downloads, source)
    try:
        job.start_task(folder, task, place.cache)
    except RunError as error:
        st.error(ui.plain(str(error)))
    else:
        ui.unwanted().discard(str(source))
        _remember(folder.path.name)
        st.rerun()


def _absolute(typed: str) -> str:
    """The worker has a working folder of its own, so a path must not depend on it."""
    plain = typed.strip().strip("\"'")
    try:
        return absolute(plain)
    except RuntimeError:
        return plain


def _remember(name: str) -> None:
    st.session_state["opening"] = name
    if st.query_params.get("opening") != name:
        st.query_params["opening"] = name


def _drop() -> None:
    st.session_state.pop("opening", None)
    st.query_params.pop("opening", None)
