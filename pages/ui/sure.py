"""How sure a network is of a photo: calibrated probabilities, and a table of several photos."""

from __future__ import annotations

import csv
import io
from pathlib import Path

import pandas as pd
import streamlit as st

from cifar_core.runs import Run
from pages import ui
from pages.ui import loaders, photos


def calibrated_by(temperature: loaders.Temperature) -> str:
    """What probabilities on the page are, in a sentence."""
    if temperature.why_not:
        return f"Softmax of the outputs as they are, not calibrated: {temperature.why_not}."
    return (
        f"Calibrated: the outputs are divided by the temperature {temperature.value:.3f} before the softmax, fitted on "
        f"{temperature.images:,} validation images of this run at the same epoch (Guo et al., 2017)."
    )


def table_of_photos(run: Run, checkpoint: str, path: Path, version: int, fit: str) -> None:
    """What the network says of each photo of this visitor, where there are several."""
    uploads = photos.kept()
    if len(uploads) < 2:
        return
    network = loaders.network(path, version)
    temperature = loaders.temperature(run, network.metadata["epoch"])
    rows, whole = [], []
    for upload in uploads:
        cut = photos.small(upload.digest, fit, upload.box, upload.content)
        if isinstance(cut, str):
            rows.append((upload.name, "cannot be read", None, cut))
            whole.append([upload.name, "", "", cut])
            continue
        answer = loaders.probabilities(path, version, cut.pixels, temperature.value)
        best = int(answer.argmax())
        rows.append((upload.name, network.classes[best], float(answer[best]), ""))
        whole.append([upload.name, network.classes[best], f"{answer[best]:.6f}", "", *(f"{p:.6f}" for p in answer)])
    st.subheader(f"All {len(uploads)} photos", anchor=False)
    frame = pd.DataFrame(rows, columns=["Photo", "Top class", "Probability", "Why not"])
    if not frame["Why not"].any():
        frame = frame.drop(columns="Why not")
    st.dataframe(
        frame,
        hide_index=True,
        width="stretch",
        column_config={
            "Photo": st.column_config.TextColumn(width=120),
            "Top class": st.column_config.TextColumn(width=100),
            "Probability": st.column_config.ProgressColumn(width=110, format="percent", min_value=0.0, max_value=1.0),
        },
    )
    made_by = f"Run {run.id} · {checkpoint} weights, epoch {network.metadata['epoch']:.3g}"
    st.caption(
        ui.plain(
            f"{calibrated_by(temperature)} {made_by} · {len(uploads)} photos of yours, {photos.FITS[fit].lower()}."
        )
    )
    facts = [run.id, checkpoint, f"{network.metadata['epoch']:g}", f"{temperature.value:.4f}"]
    st.download_button(
        "Download as CSV",
        data=csv_of(whole, facts, network.classes),
        file_name=f"photos-{run.id}-{checkpoint}.csv",
        mime="text/csv",
        on_click="ignore",
        icon=":material/download:",
    )


def csv_of(rows: list[list[str]], facts: list[str], classes: tuple[str, ...]) -> str:
    """The table with the probability of each class, and of which weights it is."""
    file = io.StringIO()
    writer = csv.writer(file, lineterminator="\n")
    about = ["run", "weights", "epoch", "temperature"]
    writer.writerow(["photo", "top class", "probability", "why not", *about, *(f"p({name})" for name in classes)])
    for photo, best, probability, why_not, *each in rows:
        # A spreadsheet takes what begins so for a formula.
        name = f"'{photo}" if photo.startswith(("=", "+", "-", "@")) else photo
        writer.writerow([name, best, probability, why_not, *facts, *each])
    return file.getvalue()
