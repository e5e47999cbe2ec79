"""The one selection of the dashboard: any page fills it, shows it, and can be restricted to it.

It is named by the URL's `selection`, which links between pages hand on.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import streamlit as st
from numpy.typing import NDArray

from cifar_core import selections
from cifar_core.datasets import DataInfo, cached
from cifar_core.selections import Selection, SelectionError
from cifar_core.sources import DataError
from pages import ui
from pages.ui import loaders, settings

PARAMETER = "selection"

BEFORE = "selection_before"
"""In the state of a session: the text of the selection whose place the present one took."""

WAYS = {
    "new": ":material/check_box: Select these alone",
    "or": ":material/add: Add to the selection",
    "and": ":material/join_inner: Keep only those in both",
    "minus": ":material/remove: Take out of the selection",
}
"""What can be done with images beside those selected already."""


def current(info: DataInfo) -> Selection | None:
    """What is selected of a data set; None too where that is of another one or cannot be had."""
    text = st.query_params.get(PARAMETER)
    if not text:
        return None
    try:
        found = loaders.selection(text, info.fingerprint, _folder())
    except SelectionError:
        return None
    images = _images(info)[found.split]
    return found if not len(found) or found.indices[-1] < images else None


def images_of(info: DataInfo, split: str) -> NDArray[np.int64] | None:
    """The selected images of a split that panels are restricted to, or None where they show all."""
    selected = current(info)
    return selected.indices if selected is not None and selected.split == split and follows() else None


def say_elsewhere(info: DataInfo, split: str, noun: str = "") -> None:
    """Where panels follow the selection, but this split is not the one it is of: that they show all of it.

    Args:
        noun: What an image of theirs is called where the page has no such choice of splits, e.g. "test image".
    """
    selected = current(info)
    if selected is None or selected.split == split or not follows():
        return
    theirs, here = ui.SPLITS[selected.split], ui.SPLITS[split]
    if noun:
        st.info(
            f"The selection is of {theirs} images and does not apply here: these are all {noun}s.",
            icon=":material/info:",
        )
        return
    with st.container(horizontal=True, vertical_alignment="center"):
        st.info(
            f"The selection is of {theirs} images and does not apply here: these are all {here} images.",
            icon=":material/info:",
            width="stretch",
        )
        st.button(f"Show the {theirs} images", key="selection-split", on_click=_to_split, args=(selected.split,))


def _to_split(split: str) -> None:
    st.session_state["split"] = split


def follows() -> bool:
    """Whether panels show the selected images alone."""
    return st.session_state.get("follow", True) is not False


def select(selection: Selection) -> None:
    """Put a selection into the URL; to be called by what a click calls, before the page is drawn."""
    try:
        _replace(selections.refer(selection, _folder()))
    except SelectionError as error:
        st.session_state["selection_trouble"] = str(error)


def _replace(text: str) -> None:
    """Put a selection into the URL; the one it takes the place of can be had again."""
    before = st.query_params.get(PARAMETER)
    if before != text:
        st.session_state[BEFORE] = before
    st.query_params[PARAMETER] = text


def toggle(selection: Selection) -> None:
    """Select these images, or none if they are what is selected."""
    try:
        text = selections.refer(selection, _folder())
    except SelectionError as error:
        st.session_state["selection_trouble"] = str(error)
        return
    if st.query_params.get(PARAMETER) == text:
        clear()
    else:
        _replace(text)


def offer(
    info: DataInfo, split: str, indices: Sequence[int] | NDArray[np.int64], about: str, key: str, label: str = ""
) -> None:
    """A button that selects images, and ways to combine them with those selected already.

    Args:
        info: Of the data set, or of some of its classes, whose images `indices` then number.
        about: How the images were chosen, in words, with the run, checkpoint and epoch if they rest on one.
        key: Of the button; one for each place.
        label: Of the button; by default how many images it selects.
    """
    if not len(indices):
        return
    whole = loaders.places(info.id, info.fingerprint, ui.place().cache, split, info.classes, np.asarray(indices))
    chosen = Selection(info.fingerprint, split, whole, about)
    label = label or f"Select {'this image' if len(chosen) == 1 else f'these {len(chosen):,} images'}"
    before = current(info)
    if before is None or not len(before):
        st.button(label, key=key, icon=":material/check_box:", on_click=select, args=(chosen,))
        return
    ways, help = WAYS, None
    if before.split != split:
        those = f"the {len(before):,} {ui.SPLITS[before.split]} images"
        ways = {"new": f":material/check_box: Select these in place of {those}"}
        if not before.name:
            ways["keep"] = f":material/bookmark_add: Keep {those} under a name, then select these"
        help = f"A selection holds images of one split, so that these cannot be added to {those}."

    def apply() -> None:
        way = st.session_state[key]
        if way in ("new", "keep"):
            if way == "keep":
                _keep_as_it_is(before)
            select(chosen)
        elif way in ways:
            select(selections.combined(before, chosen, way))

    st.menu_button(
        label, list(ways), key=key, icon=":material/check_box:", on_click=apply, format_func=ways.__getitem__, help=help
    )


def _keep_as_it_is(selection: Selection) -> None:
    try:
        selections.keep(selection, selections.free_name(selection, _folder()), _folder())
    except SelectionError as error:
        st.session_state["selection_trouble"] = str(error)


def note(whole: bool = False) -> None:
    """What is selected, on a page whose own images may be of another data set, or that shows none.

    Args:
        whole: Whether all that can be done with it is offered, as on a page that can fill it.
    """
    text = st.session_state["selection_seen"] = st.query_params.get(PARAMETER)
    infos = cached(ui.place().cache)
    if not text or not infos:
        return
    named = st.query_params.get("data")
    infos = sorted(infos, key=lambda info: info.id != named)
    info = next((info for info in infos if _is_there(info)), infos[0])
    try:
        if whole:
            bar(info)
            return
        selected = current(info)
        if selected is None:
            _say_why_not(text, info)
            return
        _pin(text, selected)
        with st.container(border=True, horizontal=True, vertical_alignment="center", key="selection-bar"):
            _say(selected, info)
            ui.link("Data", "Look at them", data=info.id)
            st.button("Clear", key="selection-clear", type="tertiary", icon=":material/close:", on_click=clear)
    except DataError as error:
        st.error(ui.plain(str(error)))


def _is_there(info: DataInfo) -> bool:
    try:
        return current(info) is not None
    except DataError:
        return False


def _say(selected: Selection, info: DataInfo) -> None:
    name = selected.name or selected.about or "chosen images"
    st.markdown(
        f":material/check_box: **{len(selected):,}** of {_images(info)[selected.split]:,} {ui.SPLITS[selected.split]} "
        f"images of {ui.plain(info.name)} selected: {ui.plain(name)}",
        width="stretch",
    )


def _pin(text: str | None, selected: Selection) -> None:
    """Make a link by name one to what is kept under it now, which stays true when the name is forgotten or moves on."""
    if text == selected.name:
        st.query_params[PARAMETER] = selections.refer(selected, _folder())


def bar(info: DataInfo, restricts: bool = False) -> Selection | None:
    """What is selected, and what can be done with it; nothing where nothing is selected nor kept.

    Args:
        restricts: Whether the page has panels that follow the selection.
    """
    if trouble := st.session_state.pop("selection_trouble", ""):
        st.error(ui.plain(trouble))
    selected, kept = current(info), selections.kept(info.fingerprint, _folder())
    if selected is not None:
        _pin(st.query_params.get(PARAMETER), selected)
    text = st.query_params.get(PARAMETER)
    if restricts and selected and text != st.session_state.get("selection_seen"):
        # A page that shows one split at a time shows that of a new selection.
        st.session_state["split"] = selected.split
    st.session_state["selection_seen"] = text
    if selected is None:
        if text:
            _say_why_not(text, info)
        elif kept:
            with st.container(horizontal=True, vertical_alignment="center"):
                _open_kept(kept)
        return None
    whole = _images(info)[selected.split]
    with st.container(border=True, key="selection-bar"):
        with st.container(horizontal=True, vertical_alignment="center"):
            _say(selected, info)
            if restricts:
                st.toggle(
                    "Show only these",
                    True,
                    key="follow",
                    bind="query-params",
                    help="All panels of this page are then about the selected images alone.",
                )
        with st.container(horizontal=True, vertical_alignment="center"):
            _keep(selected)
            _combine(selected, kept)
            others = selections.inverted(selected, whole, kept)
            st.button(
                "Invert",
                key="selection-invert",
                type="tertiary",
                icon=":material/invert_colors:",
                help=f"Select the other {len(others):,} {ui.SPLITS[selected.split]} images.",
                on_click=select,
                args=(others,),
            )
            _export(selected, info)
            _open_kept(kept)
            if selected.split == "train" and len(selected):
                _train(selected, info)
            _back(selected, info)
            st.button("Clear", key="selection-clear", type="tertiary", icon=":material/close:", on_click=clear)
    return selected


def _back(selected: Selection, info: DataInfo) -> None:
    """The way back to the selection whose place the present one took."""
    text = st.session_state.get(BEFORE)
    if not text or text == st.query_params.get(PARAMETER):
        return
    try:
        before = loaders.selection(text, info.fingerprint, _folder())
    except SelectionError:
        return
    those = f"{len(before):,} {ui.SPLITS[before.split]} images"
    why = f"Instead of these {len(selected):,} images, select the {those} that were selected before."
    if before.split != selected.split:
        st.caption(f"A selection holds images of one split: this one took the place of {those}.", width="content")
    st.button(
        f"Back to {those}",
        key="selection-back",
        type="tertiary",
        icon=":material/undo:",
        help=why,
        on_click=_replace,
        args=(text,),
    )


def catch_up() -> None:
    """Draw the whole page anew where only a part of it knows of a new selection; to be called below the bar."""
    if st.query_params.get(PARAMETER) != st.session_state.get("selection_seen"):
        st.rerun()


def clear() -> None:
    """Select nothing."""
    st.query_params.pop(PARAMETER, None)


def _keep(selected: Selection) -> None:
    with st.popover("Keep", icon=":material/bookmark_add:", type="tertiary"):
        with st.form("selection-keep", border=False):
            # A field of its own for each, or the name proposed for the one before would stand there still.
            key = f"selection-name-{selected.digest}-{selected.name}"
            name = st.text_input("Name", selected.name or selections.slug(selected.about), key=key)
            st.caption("Small letters, digits and hyphens. What was kept under this name before is replaced.")
            pressed = st.form_submit_button("Keep under this name", type="primary")
        if pressed:
            try:
                kept = selections.keep(selected, name.strip(), _folder())
                st.query_params[PARAMETER] = selections.refer(kept, _folder())
            except SelectionError as error:
                st.error(ui.plain(str(error)))
            else:
                st.rerun()


def _combine(selected: Selection, kept: Sequence[Selection]) -> None:
    others = {other.name: other for other in kept if other.split == selected.split and other.name != selected.name}
    with st.popover("Combine", icon=":material/join:", type="tertiary", disabled=not others):
        if not others:
            return
        way = st.segmented_control("The selection", selections.WAYS, default="or", key="selection-way", required=True)
        name = st.selectbox("a kept one", list(others), key="selection-other")
        if way and name:
            result = selections.combined(selected, others[name], way)
            st.button(
                f"Select these {len(result):,} images",
                key="selection-combine",
                type="primary",
                on_click=select,
                args=(result,),
            )


def _export(selected: Selection, info: DataInfo) -> None:
    with st.popover("Export", icon=":material/download:", type="tertiary", disabled=not len(selected)):
        cache, name = ui.place().cache, selected.name or selections.slug(selected.about)

        def table() -> str:
            return selections.to_csv(selected, loaders.data_set(info.id, info.fingerprint, cache))

        def pictures() -> bytes:
            return selections.to_zip(selected, loaders.data_set(info.id, info.fingerprint, cache))

        st.download_button("Table (CSV)", table, f"{name}.csv", "text/csv", on_click="ignore", key="selection-csv")
        st.download_button(
            "Folder of PNG files (zip)",
            pictures,
            f"{name}.zip",
            "application/zip",
            on_click="ignore",
            key="selection-zip",
            help="One folder for each class, as this program reads it too.",
        )


def _train(selected: Selection, info: DataInfo) -> None:
    with st.popover("Train", icon=":material/model_training:", type="tertiary"):
        text = selections.refer(selected, _folder())
        for name, other, said in (
            ("without_selection", "only_selection", "Without these images"),
            ("only_selection", "without_selection", "On these images alone"),
        ):
            settings.hand_over(said, {name: text, other: ""}, info)
        st.caption("Opens the form of a new run with this setting.")


def _open_kept(kept: Sequence[Selection]) -> None:
    if not kept:
        return
    with st.popover(f"Kept ({len(kept)})", icon=":material/bookmarks:", type="tertiary"):
        by_name = {one.name: one for one in kept}
        name = st.selectbox(
            "Kept selection",
            list(by_name),
            key="selection-kept",
            format_func=lambda name: f"{name} ({len(by_name[name]):,} {ui.SPLITS[by_name[name].split]})",
        )
        one = by_name[name]
        st.caption(ui.plain(f"Chosen as: {one.about}."))
        with st.container(horizontal=True):
            st.button("Select", key="selection-open", type="primary", on_click=select, args=(one,))
            st.button(
                "Forget the name",
                key="selection-forget",
                on_click=selections.forget,
                args=(name, one.fingerprint, _folder()),
                help="Runs that were trained with it still know its images.",
            )


def _say_why_not(text: str, info: DataInfo) -> None:
    try:
        found = loaders.selection(text, info.fingerprint, _folder())
        why = f"The selection names image {found.indices[-1]}, but the {ui.SPLITS[found.split]} split has fewer."
    except SelectionError as error:
        why = str(error)
    with st.container(horizontal=True, vertical_alignment="center"):
        st.info(ui.plain(f"{why} Nothing is selected of {info.name}."), icon=":material/link_off:")
        st.button("Clear", key="selection-clear", on_click=clear)


def _folder() -> Any:
    return selections.folder_of(ui.place().cache)


def _images(info: DataInfo) -> dict[str, int]:
    """How many images each whole split has, also where `info` is of some classes alone."""
    data = loaders.data_set(info.id, info.fingerprint, ui.place().cache)
    return {"train": data.info.train_images, "test": data.info.test_images}
