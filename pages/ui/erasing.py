"""The patch eraser: change squares of a picture by clicks and see the answer move."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import streamlit as st
from numpy.typing import NDArray

from cifar_core.erasing import GRID, WAYS, Erasure, erase, smallest_erasure
from pages import ui
from pages.ui import charts, loaders
from pages.ui.explaining import Case

CELL = 36  # units of a square in the chart
NAMES = [f"{'ABCDEFGH'[column]}{row + 1}" for row in range(GRID) for column in range(GRID)]
"""As on a chess board, but from the top: letters from left to right, numbers down."""


@st.cache_data(max_entries=64, show_spinner="Looking for the smallest erasure that changes the answer", scope="session")
def fewest(path: Path, version: int, pixels: NDArray[np.uint8], how: str) -> Erasure:
    """The squares that a greedy search finds."""
    network = loaders.network(path, version)

    def answer(images: NDArray[np.uint8]) -> NDArray[np.float32]:
        return np.concatenate([batch.numpy() for batch in network.logits(images)])

    return smallest_erasure(pixels, answer, how, network.mean)


def take_click() -> None:
    """Change whether the clicked square is among the chosen ones."""
    clicked = st.session_state["eraser"]["selection"].get("square")
    if clicked:
        name = clicked[0]["name"]
        chosen = list(st.session_state.get("squares", []))
        st.session_state["squares"] = (
            [other for other in chosen if other != name] if name in chosen else [*chosen, name]
        )


def choose_none() -> None:
    """Take all changes back."""
    st.session_state["squares"] = []


def choose_fewest(case: Case, how: str) -> None:
    """Choose the squares that the greedy search finds."""
    found = fewest(case.path, case.version, case.pixels, how)
    st.session_state["squares"] = [NAMES[place] for place in np.flatnonzero(found.squares)] if found.changed else []
    st.session_state["fewest"] = (case.pixels.tobytes(), str(case.path), case.version, how)


def eraser(case: Case) -> None:
    """Squares to click, what the network sees then, and what it answers."""
    chart, answers = st.columns([4, 5], gap="medium")
    with answers:
        how = st.segmented_control(
            "Change squares by",
            list(WAYS),
            default="erase",
            format_func=WAYS.__getitem__,
            key="erase_how",
            bind="query-params",
            required=True,
        )
        how = how if how in WAYS else "erase"
        names = st.multiselect(
            "Squares",
            NAMES,
            key="squares",
            placeholder="None; click the picture or choose here",
            help="Letters from left to right, numbers from the top: A1 is the square at the top left.",
        )
        with st.container(horizontal=True):
            st.button("Take all back", icon=":material/undo:", on_click=choose_none, disabled=not names)
            st.button(
                "Smallest erasure that changes the answer",
                icon=":material/content_cut:",
                on_click=choose_fewest,
                args=(case, how),
                disabled=how == "swap",
                help="Greedy: one square after another, each time the one that brings the lead of the present answer "
                "down most; then those that were not needed are put back. There may be a smaller one."
                if how != "swap"
                else "A square alone cannot be swapped; choose Erase or Blur.",
            )
    squares = np.isin(NAMES, names).reshape(GRID, GRID)
    colour = loaders.network(case.path, case.version).mean
    changed = erase(case.pixels, squares, how, colour)
    answer = loaders.probabilities(case.path, case.version, changed, case.temperature)
    with chart, st.container(width=GRID * CELL + 20):
        st.vega_lite_chart(
            _rows(changed, names),
            BOARD,
            key="eraser",
            on_select=take_click,
            width="content",
            alt=f"{case.name} in {GRID}×{GRID} squares, of which {len(names)} are changed; the box “Squares” chooses "
            "them by keyboard",
        )
    with answers:
        before, after = case.predicted, int(answer.argmax())
        said = f"{case.classes[after]}, {charts.percent(answer[after])}"
        if after != before:
            st.markdown(
                f":material/published_with_changes: The answer is now **{ui.plain(said)}**, no longer "
                f"{ui.plain(case.classes[before])} ({ui.plain(charts.percent(case.answer[before]))} before, "
                f"{ui.plain(charts.percent(answer[before]))} now)."
            )
        else:
            st.markdown(
                f"The answer is **{ui.plain(said)}**"
                + (f" ({ui.plain(charts.percent(case.answer[before]))} before)." if names else ".")
            )
        if how == "swap" and len(names) == 1:
            st.caption("Choose a second square to swap with.")
        if st.session_state.get("fewest") == (case.pixels.tobytes(), str(case.path), case.version, how):
            _show_fewest(case, how)
        st.html(charts.prediction_bars(case.classes, answer, case.true))
    st.caption(
        "Click a square to change it, and again to take it back. Erasing fills with the colour that is zero for the "
        "network: the mean of the training images, black or grey, by the run's normalisation. "
        + ui.plain(f"Run {case.run.id} · {case.checkpoint} weights · {case.name}.")
    )


def _show_fewest(case: Case, how: str) -> None:
    found = fewest(case.path, case.version, case.pixels, how)
    if not found.changed:
        st.info("No square and no set of squares on the way to all 64 changes the answer.")
        return
    count = int(found.squares.sum())
    st.caption(
        ui.plain(
            f"{count} of {GRID * GRID} squares changed the answer from {case.classes[case.predicted]} to "
            f"{case.classes[found.answer]}, found greedily in {found.tried:,} trials; there may be a smaller set."
        )
    )


def _rows(pixels: NDArray[np.uint8], names: list[str]) -> pd.DataFrame:
    high, wide = (side // GRID for side in pixels.shape[1:])
    rows = []
    for place, name in enumerate(NAMES):
        row, column = divmod(place, GRID)
        tile = pixels[:, row * high : (row + 1) * high, column * wide : (column + 1) * wide]
        rows.append(
            {
                "name": name,
                "row": row,
                "column": column,
                "tile": charts.png_uri(charts.enlarged(tile, CELL)),
                "chosen": name in names,
                # So that a second click on the same square is another event than the first.
                "now": ",".join(names),
            }
        )
    return pd.DataFrame(rows)


_X = {"field": "column", "type": "ordinal", "axis": None, "scale": {"padding": 0}}
_Y = {"field": "row", "type": "ordinal", "axis": None, "scale": {"padding": 0}}

BOARD: dict[str, Any] = {
    "width": {"step": CELL},
    "height": {"step": CELL},
    "view": {"stroke": None},
    "encoding": {"x": _X, "y": _Y, "tooltip": {"field": "name", "type": "nominal", "title": "Square"}},
    "layer": [
        {
            "mark": {"type": "image", "width": CELL, "height": CELL, "aspect": False, "aria": False},
            "encoding": {"url": {"field": "tile", "type": "nominal"}},
        },
        {
            "params": [{"name": "square", "select": {"type": "point", "fields": ["name", "now"]}}],
            "mark": {"type": "rect", "fill": "transparent", "cursor": "pointer"},
            "encoding": {
                "stroke": {"condition": {"test": "datum.chosen", "value": "#E69F00"}, "value": "#808080"},
                "strokeWidth": {"condition": {"test": "datum.chosen", "value": 3}, "value": 0.5},
            },
        },
    ],
}
