"""Maps of images as a component that holds all there is to draw: pointing, colouring and scrubbing ask nobody."""

from __future__ import annotations

import base64
import io
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import streamlit as st
from numpy.typing import NDArray
from PIL import Image
from streamlit import runtime

from pages.ui import charts

PER_SHEET, COLUMNS, PIXELS = 256, 16, 32
"""Pictures of images are sent by the sheet, when one of it is looked at first."""

MOST_GROUPS = 256

STEPS = ("#414487", "#2A788E", "#22A884", "#7AD151", "#BFCF1B")
"""From little to much, told apart with any colour vision and on both grounds; after viridis."""

UNKNOWN = "#999999"

_HERE = Path(__file__)

_mount = st.components.v2.component(
    "atlas",
    html='<div class="atlas"></div>\n<!-- Filled by the script. -->',
    css=_HERE.with_suffix(".css").read_text(),
    js=_HERE.with_suffix(".js").read_text(),
)


@dataclass(frozen=True)
class Colouring:
    """What colours and symbols mean.

    Args:
        groups: Label, colour and symbol of each.
        codes: For each pane, or once for all, and for each of its frames, or once for all: (N,) the group of each.
        tells: Whether the group of the image in hand is worth saying beside its class and prediction.
    """

    name: str
    help: str
    groups: Sequence[tuple[str, str, str]]
    codes: Sequence[Sequence[NDArray[Any]]] = field(repr=False)
    tells: bool = False


@dataclass(frozen=True, eq=False)
class Frame:
    """One map of a pane.

    Args:
        points: (N, 2) or (N, 3).
        title: Which one it is, on the slider.
        note: What is to be said of it.
        predictions, confidences, neighbours: (N,), (N,) in [0, 1], (N, k); None while the map forms.
    """

    points: NDArray[np.float32]
    title: str = ""
    note: str = ""
    predictions: NDArray[Any] | None = None
    confidences: NDArray[Any] | None = None
    neighbours: NDArray[Any] | None = None


@dataclass(frozen=True, eq=False)
class Pane:
    """One of the maps side by side, with a frame for each epoch."""

    title: str
    alt: str
    frames: Sequence[Frame]


def told(
    identity: str,
    family: str,
    panes: Sequence[Pane],
    labels: NDArray[Any],
    numbers: NDArray[Any],
    classes: Sequence[str],
    colourings: Sequence[Colouring],
    noun: str,
    order: NDArray[Any] | None = None,
) -> str:
    """All that the component draws, as JSON.

    Args:
        identity: Of what is shown; it comes back with what is picked.
        family: Maps of one family are of the same images, which move when one map follows the other.
        labels: (N,) in [0, K).
        numbers: (N,) under which each image is known.
        noun: What one of the images is called.
        order: (N,) the place of each image on the sheets of pictures; None where there are none.
    """
    places = [frame.points for pane in panes for frame in pane.frames]
    low, high = np.min([p.min(0) for p in places], axis=0), np.max([p.max(0) for p in places], axis=0)
    middle, reach = (low + high) / 2, max(float((high - low).max()) / 2, 1e-12)
    extent = np.maximum((high - low) / 2 / reach, 0.2)
    near = panes[0].frames[0].neighbours
    return json.dumps(
        {
            "id": identity,
            "family": family,
            "count": len(labels),
            "dimensions": places[0].shape[1],
            "extent": [round(float(value), 4) for value in extent[:2]],
            "neighbours": near.shape[1] if near is not None else 0,
            "forming": near is None,
            "labels": packed(labels, np.uint16),
            "numbers": packed(numbers, np.uint32),
            "classes": [charts.brief(name) for name in classes],
            "noun": noun[0].upper() + noun[1:],
            "order": "" if order is None else packed(order, np.uint16),
            "per": PER_SHEET,
            "columns": COLUMNS,
            "panes": [
                {
                    "title": pane.title,
                    "alt": pane.alt,
                    "frames": [_frame(frame, middle, reach) for frame in pane.frames],
                }
                for pane in panes
            ],
            "colourings": [
                {
                    "name": one.name,
                    "help": one.help,
                    "tells": one.tells,
                    "groups": [
                        {"label": label, "colour": colour, "symbol": symbol}
                        for label, colour, symbol in one.groups[:MOST_GROUPS]
                    ],
                    "codes": [
                        [packed(np.minimum(codes, MOST_GROUPS - 1), np.uint8) for codes in frames]
                        for frames in one.codes
                    ],
                }
                for one in colourings
            ],
        },
        separators=(",", ":"),
    )


def _frame(frame: Frame, middle: NDArray[Any], reach: float) -> dict[str, str]:
    scaled = ((frame.points - middle) / reach + 1) * 32767.5
    said = {"points": packed(scaled.round().clip(0, 65535), np.uint16), "title": frame.title, "note": frame.note}
    if frame.predictions is not None and frame.confidences is not None and frame.neighbours is not None:
        said["predictions"] = packed(frame.predictions, np.uint16)
        said["confidences"] = packed((frame.confidences * 255).round(), np.uint8)
        said["neighbours"] = packed(frame.neighbours, np.uint16)
    return said


def packed(values: NDArray[Any], kind: type[np.generic]) -> str:
    """Numbers as the component reads them."""
    return base64.b64encode(np.ascontiguousarray(values, np.dtype(kind)).tobytes()).decode()


def classes_colouring(
    name: str, help: str, classes: Sequence[str], codes: Sequence[Sequence[NDArray[Any]]]
) -> Colouring:
    """A group for each class."""
    groups = [(charts.brief(one), charts.class_colour(k), charts.class_symbol(k)) for k, one in enumerate(classes)]
    return Colouring(name, help, groups, codes)


def steps_colouring(
    name: str,
    help: str,
    labels: Sequence[str],
    codes: Sequence[Sequence[NDArray[Any]]],
    others: Sequence[str] = (),
    tells: bool = False,
) -> Colouring:
    """At most five groups from little to much, and others that are on no scale."""
    shown = [STEPS[round(k * (len(STEPS) - 1) / max(len(labels) - 1, 1))] for k in range(len(labels))]
    groups = [
        (label, colour, charts.class_symbol(k)) for k, (label, colour) in enumerate(zip(labels, shown, strict=True))
    ]
    groups += [
        (label, (charts.CLASS_COLOURS[5], UNKNOWN)[k % 2], ("x", "cross")[k % 2]) for k, label in enumerate(others)
    ]
    return Colouring(name, help, groups, codes, tells)


def beside_each_other(points: NDArray[Any]) -> NDArray[np.int64]:
    """(N,) places in an order in which images that are near on a map (N, d) come soon after each other (Morton)."""
    flat = points[:, :2]
    extent = np.maximum(np.ptp(flat, axis=0), 1e-12)
    cells = ((flat - flat.min(axis=0)) / extent * 1023).astype(np.int64)
    code = np.zeros(len(flat), np.int64)
    for bit in range(10):
        for axis in (0, 1):
            code |= ((cells[:, axis] >> bit) & 1) << (2 * bit + axis)
    places = np.empty(len(flat), np.int64)
    places[np.argsort(code, kind="stable")] = np.arange(len(flat))
    return places


def sheets(images: NDArray[np.uint8], order: NDArray[np.int64]) -> list[bytes]:
    """Pictures of images (N, 3, 32, 32) as JPEG files of `PER_SHEET` each, each image at its place (N,)."""
    placed = np.empty_like(images)
    placed[order] = images
    found = []
    for start in range(0, len(placed), PER_SHEET):
        some = placed[start : start + PER_SHEET]
        whole = np.zeros((PER_SHEET, 3, PIXELS, PIXELS), np.uint8)
        whole[: len(some)] = some
        whole = whole.reshape(-1, COLUMNS, 3, PIXELS, PIXELS).transpose(0, 3, 1, 4, 2)
        content = io.BytesIO()
        Image.fromarray(whole.reshape(-1, COLUMNS * PIXELS, 3)).save(content, "JPEG", quality=90, subsampling=0)
        found.append(content.getvalue())
    return found


def show(
    story: str,
    pictures: Sequence[bytes],
    selected: NDArray[np.bool_] | None,
    key: str,
    *,
    colouring: str = "",
    on_pick: Callable[[NDArray[np.int64], str], None] | None = None,
    on_colour: Callable[[str], None] | None = None,
) -> None:
    """Show maps.

    Args:
        story: Of `told`.
        pictures: Of `sheets`; none where there are no images.
        selected: (N,) which images are selected.
        colouring: Name of the one to begin with.
        on_pick: Is told places of images and what is to be done with them: new, or, minus; none takes all away.
        on_colour: Is told the name of the colouring that was chosen.
    """
    identity = story[7 : story.index('"', 7)]

    def picked() -> None:
        said = getattr(st.session_state[key], "picked", None)
        # Of another map, if the page has changed meanwhile.
        if on_pick and said and said["id"] == identity:
            on_pick(np.asarray(said["places"], np.int64), str(said["way"]))

    def coloured() -> None:
        said = getattr(st.session_state[key], "coloured", None)
        if on_colour and said:
            on_colour(str(said["name"]))

    _mount(
        key=key,
        data={
            "story": story,
            "sheets": _addresses(pictures, key),
            "selected": packed(np.packbits(selected), np.uint8) if selected is not None and selected.any() else "",
            "colouring": colouring,
        },
        on_picked_change=picked,
        on_coloured_change=coloured,
    )


def _addresses(pictures: Sequence[bytes], key: str) -> list[str]:
    """Where the browser fetches each sheet from, as it does pictures of `st.image`."""
    if not pictures or not runtime.exists():
        return []
    manager = runtime.get_instance().media_file_mgr
    return [manager.add(content, "image/jpeg", f"{key}-{n}") for n, content in enumerate(pictures)]
