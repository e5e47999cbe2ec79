"""The colours of the theme can be read: Web Content Accessibility Guidelines 2.2, 1.4.3."""

from __future__ import annotations

import tomllib

import pytest

from pages import ui
from tests.conftest import ROOT

GROUND = {"light": "#ffffff"}
"""Streamlit's own, where the theme names none."""


def luminance(colour: str) -> float:
    """Relative luminance of an sRGB colour as `#rrggbb`, in [0, 1]."""
    shares = [int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5)]
    linear = [share / 12.92 if share <= 0.04045 else ((share + 0.055) / 1.055) ** 2.4 for share in shares]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


def contrast(one: str, other: str) -> float:
    """In [1, 21]."""
    dark, bright = sorted((luminance(one), luminance(other)))
    return (bright + 0.05) / (dark + 0.05)


THEME = tomllib.loads((ROOT / ".streamlit" / "config.toml").read_text())["theme"]


def ground(base: str) -> str:
    return str(THEME[base].get("backgroundColor", GROUND.get(base, "")))


@pytest.mark.parametrize("base", ["light", "dark"])
def test_the_primary_colour_is_seen_on_the_ground_and_below_white_text(base: str) -> None:
    primary = THEME[base]["primaryColor"]
    assert contrast(primary, ground(base)) >= 3, "lines and bars"
    assert contrast(primary, "#ffffff") >= 4.5, "main buttons"


def test_what_is_written_in_the_accent_colour_can_be_read() -> None:
    assert THEME["light"]["primaryColor"] == ui.PRIMARY
    assert f"light-dark({ui.PRIMARY}, {ui.BRIGHT})" in ui.ACCENT
    assert contrast(ui.PRIMARY, ground("light")) >= 4.5
    for behind in (ground("dark"), THEME["dark"]["secondaryBackgroundColor"]):
        assert contrast(ui.BRIGHT, behind) >= 4.5


@pytest.mark.parametrize("colour", THEME["chartCategoricalColors"])
def test_colours_of_classes_are_seen_on_the_dark_ground(colour: str) -> None:
    assert contrast(colour, ground("dark")) >= 3
