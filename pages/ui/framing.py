"""The square of a photo, moved and sized on the photo itself."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import streamlit as st

from cifar_core.photos import Box

_HERE = Path(__file__)

_mount = st.components.v2.component(
    "framing",
    html=(
        '<div class="frame"><img draggable="false"><div class="square" tabindex="0" role="slider" '
        'aria-label="The square that the network gets: arrow keys move it, plus and minus size it" aria-valuemin="0" '
        'aria-valuemax="100" aria-valuenow="50">'
        + "".join(f'<span class="corner" data-corner="{corner}"></span>' for corner in ("nw", "ne", "sw", "se"))
        + "</div></div>"
    ),
    css=_HERE.with_suffix(".css").read_text(),
    js=_HERE.with_suffix(".js").read_text(),
)


def frame(
    photo: str,
    width: int,
    height: int,
    box: Box,
    name: str,
    shown: tuple[int, int],
    alt: str,
    on_box: Callable[[Box], None],
) -> None:
    """Show a photo with its square.

    Args:
        photo: As a data URL.
        width: Of the photo itself, in pixels; its height likewise.
        name: Of the photo; what is said of another one is not listened to.
        shown: Width and height on the page at most, in CSS pixels.
        on_box: Is told where the square was put.
    """

    def told() -> None:
        said = st.session_state["framing"].box
        if said and said["name"] == name:
            parts = (
                min(max(float(said[part]), low), 1.0) for part, low in (("size", 0.01), ("across", 0), ("down", 0))
            )
            on_box(Box(*parts))

    _mount(
        key="framing",
        data={
            "photo": photo,
            "width": width,
            "height": height,
            "box": {"size": box.size, "across": box.across, "down": box.down},
            "name": name,
            "shown": list(shown),
            "alt": alt,
        },
        on_box_change=told,
    )
