"""A report that is written and downloaded by one click."""

from __future__ import annotations

from collections.abc import Sequence

import streamlit as st

from cifar_core.reporting import report
from cifar_core.runs import Run


def download(runs: Sequence[Run], key: str) -> None:
    """A button for the report of a run, or of several beside each other; nothing is computed before it is pressed."""
    name = runs[0].id if len(runs) == 1 else f"comparison-{'-'.join(run.id[-4:] for run in runs)}"
    st.download_button(
        "Report as HTML",
        lambda: _written(runs),
        f"{name}.html",
        "text/html",
        key=key,
        icon=":material/description:",
        on_click="ignore",
        help="One file with figures, settings, environment and the commands to repeat it; it needs no network.",
    )


def _written(runs: Sequence[Run]) -> bytes:
    try:
        return report(runs).encode()
    except (ValueError, OSError) as error:
        # What a download can say; the page has long been drawn.
        return f"<!doctype html><title>No report</title><p>The report could not be written: {error}".encode()
