"""The run that comes with the program: what there is to see of it without its images, and a way to get pictures."""

from __future__ import annotations

import dataclasses

import streamlit as st

from cifar_core import job
from cifar_core.datasets import DataInfo, cached
from cifar_core.runs import Run
from pages import ui
from pages.ui import loaders, sources

PHOTO = "Your photo"
"""The picture that Explain asks for where it has none of its own."""

WAITS = "They are being fetched; how far that is stands at the top of the page."


def tested_on(run: Run) -> DataInfo | None:
    """What the run is tested on. As `ui.data_of`, but of the run that comes with the program it is known in any case.

    Where its images are not here, `here` is false, and where there is another copy of them, pictures come from that.
    """
    if not run.read_only:
        return ui.data_of(run)
    place = ui.place()
    known = loaders.known_data(run.path, loaders.version(run.path / "data.json"))
    infos = cached(place.cache)
    if exact := next((info for info in infos if info.fingerprint == known.fingerprint), None):
        # Called as where the run says on what it was trained.
        return dataclasses.replace(exact, name=known.name)
    for info in infos:
        alike = (info.classes, info.test_counts) == (known.classes, known.test_counts)
        if alike and loaders.places_in_copy(info.id, info.fingerprint, place.cache) is not None:
            return dataclasses.replace(known, id=info.id, source=info.source)
    return known


def here(info: DataInfo) -> bool:
    """Whether there are pictures of these images."""
    return bool(info.source)


def copied_from(info: DataInfo) -> DataInfo | None:
    """The other copy that pictures come from, where it is one; what it is itself."""
    there = next((other for other in cached(ui.place().cache) if other.id == info.id), None)
    return there if here(info) and there and there.fingerprint != info.fingerprint else None


def exact(info: DataInfo) -> bool:
    """Whether these very images are here, so that their numbers mean the same on all pages."""
    return here(info) and copied_from(info) is None


def training_images_of(run: Run) -> DataInfo | None:
    """The very images that a run was trained on, or a sentence in place of them."""
    if not run.read_only:
        return ui.data_of(run)
    info = tested_on(run)
    if info and exact(info):
        return info
    known = loaders.known_data(run.path, loaders.version(run.path / "data.json"))
    st.info(
        ui.plain(
            f"This shows the very training images of this network, {known.name}, which did not come with it. Of a run "
            "of yours it shows those of your data."
        ),
        icon=":material/image_not_supported:",
    )
    return None


def notice(run: Run, info: DataInfo) -> None:
    """Says above everything where pictures come from, or how far they are from coming."""
    if not run.read_only:
        return
    if other := copied_from(info):
        st.caption(
            ui.plain(
                f"Pictures are those of {other.name}, the same images; the figures are of {info.name}, on which this "
                "network was trained."
            )
        )
    if not here(info):
        folder, _ = job.data_task(ui.place().downloads, None)
        if folder.alive:
            ui.progress_of(folder)


def pictures_missing(what: str, key: str) -> None:
    """Says in place of pictures that they are not here, with a button that fetches them.

    Args:
        what: What would be here, in a sentence.
        key: Tells the places of a page apart.
    """
    folder, _ = job.data_task(ui.place().downloads, None)
    with st.container(border=True):
        st.markdown(f":material/image_not_supported: **The pictures are not here.** {what}")
        if folder.alive:
            st.caption(WAITS)
            return
        # To whoever asked for it: others have not been let down.
        asked = st.session_state.get("opening") == folder.path.name
        if asked and (end := folder.last_end) and end.outcome == "failed":
            st.error(ui.plain(end.message), icon=":material/error:")
            with st.expander("Behind a firewall, or without a network"):
                sources.firewall()
        with st.container(horizontal=True, vertical_alignment="center"):
            sources.fetch_button(key)
            ui.link("Data", "Open a copy that you have")


def card(run: Run, expanded: bool = False) -> None:
    """The model card, for the run that comes with the program."""
    path = run.path / "card.md"
    if run.read_only and path.exists():
        with st.expander("Model card", icon=":material/id_card:", expanded=expanded):
            st.markdown(path.read_text("utf-8"))


def about(run: Run) -> None:
    """What can be done with the run that comes with the program, in place of what can be done with others."""
    st.caption(
        ":material/lock: This run comes with the program and can only be read. It can be forked (“Begin with”) and "
        "repeated; both make runs of your own."
    )
    card(run)
