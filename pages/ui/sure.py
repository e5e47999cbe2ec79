"""How sure a network is of a photo: calibrated probabilities, their ranges, other runs, a table of several photos."""

from __future__ import annotations

import csv
import io
from pathlib import Path

import numpy as np
import pandas as pd
import streamlit as st
from numpy.typing import NDArray

from cifar_core import spread
from cifar_core.evaluation import softmax
from cifar_core.invariance import PIXELS
from cifar_core.logits import Temperature
from cifar_core.runs import Run, description, list_runs
from pages import ui
from pages.ui import charts, foreign, loaders, photos
from pages.ui.explaining import UNREADABLE, Case, left_out, weights_of

MOST_RUNS = 8


def calibrated_by(temperature: Temperature) -> str:
    """What probabilities on the page are, in a sentence."""
    if temperature.why_not:
        return f"Softmax of the outputs as they are, not calibrated: {temperature.why_not}."
    return (
        f"Calibrated: the outputs are divided by the temperature {temperature.value:.3f} before the softmax, fitted on "
        f"{temperature.images:,} validation images of this run at the same epoch (Guo et al., 2017)."
    )


def wants_ranges() -> bool:
    """Whether the answer is shown with how far it moves under small changes."""
    return st.toggle(
        "Ranges under small changes",
        True,
        key="ranges",
        bind="query-params",
        help="The line across a bar goes from the lowest to the highest probability in "
        f"{spread.COUNT} looks: as it is, shifted by {PIXELS} pixels, and five crops of {spread.CUT:.1%} of the side, "
        "each upright and flipped.",
    )


def ranges(
    path: Path, version: int, pixels: NDArray[np.uint8], temperature: float
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """The lowest and the highest probability of each class while the picture is looked at a little differently."""
    answers = softmax(loaders.said_of_looks(path, version, pixels), temperature)
    return answers.min(axis=0), answers.max(axis=0)


def agreement(case: Case) -> None:
    """What other runs with the same classes say of the picture, each calibrated by itself."""
    runs = {
        run.id: run
        for run in list_runs(ui.place().runs)
        if run.checkpoints() and run.start and run.start.classes == case.classes
    }
    others = [name for name in runs if name != case.run.id]
    drawn = loaders.knows_drawings_alone(case.run)
    chosen = st.multiselect(
        "Runs beside this one",
        others,
        # A network of drawings is no peer of one of photos.
        default=[name for name in others if loaders.knows_drawings_alone(runs[name]) is drawn][:4],
        format_func=lambda name: charts.run_label(runs[name]),
        key="agree_runs",
        max_selections=MOST_RUNS,
        width=640,
        help="Runs that tell the same classes apart. Each is asked with its best weights.",
        placeholder="Choose runs" if others else "There is no other run with these classes",
    )
    rows, answers = [], []
    for run in (case.run, *(runs[name] for name in chosen)):
        try:
            path = weights_of(run, case)
            version, epoch = loaders.version(path), description(path)["epoch"]
            temperature = loaders.temperature(run, epoch)
            said = loaders.said_of if run is case.run else loaders.said_once
            answer = softmax(said(path, version, case.pixels), temperature.value)
        except UNREADABLE:
            if run is case.run:
                raise
            st.warning(ui.plain(left_out(run)))
            continue
        best = int(answer.argmax())
        answers.append(best)
        rows.append(
            {
                "Run": charts.run_label(run),
                "Answer": case.classes[best],
                "Probability": float(answer[best]),
                f"Of {case.classes[case.predicted]}": float(answer[case.predicted]),
                "Trained on": run.start.data_name if run.start else "–",
                "Weights": f"{path.stem}, epoch {epoch:.3g}",
                "Temperature": "none" if temperature.why_not else f"{temperature.value:.3f}",
            }
        )
    same, name = answers.count(case.predicted), ui.plain(case.classes[case.predicted])
    say = "says" if same == 1 else "say"
    if len(rows) == 1:
        st.markdown(f"This run says **{name}**; choose others to compare it with.")
    elif same == len(rows):
        st.markdown(f"All {len(rows)} runs say **{name}**.")
    else:
        different = [best for best in answers if best != case.predicted]
        names = ", ".join(dict.fromkeys(ui.plain(case.classes[best]) for best in different))
        st.markdown(
            f"{same} of {len(rows)} runs {say} **{name}**; "
            + (f"the other says {names}." if len(different) == 1 else f"the others say {names}.")
        )
    bar = st.column_config.ProgressColumn(width=110, format="percent", min_value=0.0, max_value=1.0)
    st.dataframe(
        pd.DataFrame(rows),
        hide_index=True,
        width="stretch",
        column_config={
            "Run": st.column_config.TextColumn(width=ui.NAME_WIDTH),
            "Probability": bar,
            f"Of {case.classes[case.predicted]}": bar,
        },
    )
    st.caption(
        ui.plain(
            f"{case.name[0].upper()}{case.name[1:]} through each run's own normalisation. Probabilities are divided by "
            "each run's own temperature, fitted on its validation images of the same epoch; where it says none, they "
            "are the softmax as it is."
        )
    )


FOREIGN = "Foreign: unlike anything it was trained on. The class that it would name is a guess then. "


def table_of_photos(run: Run, checkpoint: str, path: Path, version: int, fit: str) -> None:
    """What the network says of each photo of this visitor, where there are several."""
    uploads = photos.kept()
    if len(uploads) < 2:
        return
    network = loaders.network(path, version)
    temperature = loaders.temperature(run, network.metadata["epoch"])
    rows: list[tuple[str, str, float | None, str]] = []
    whole, any_unlike = [], False
    for upload in uploads:
        cut = photos.small(upload.digest, fit, upload.box, upload.content)
        if isinstance(cut, str):
            rows.append((upload.name, "cannot be read", None, cut))
            whole.append([upload.name, "", "", cut])
            continue
        answer = loaders.probabilities(path, version, cut.pixels, temperature.value)
        best = int(answer.argmax())
        known = foreign.place(run, checkpoint, path, version, cut.pixels)
        probabilities = [f"{p:.6f}" for p in answer]
        if known and known[1].foreign:
            any_unlike = True
            rows.append((upload.name, f"foreign, else {network.classes[best]}", float(answer[best]), ""))
            whole.append([upload.name, "foreign", "", "", *probabilities])
        else:
            rows.append((upload.name, network.classes[best], float(answer[best]), ""))
            whole.append([upload.name, network.classes[best], probabilities[best], "", *probabilities])
    read = sum(probability is not None for _, _, probability, _ in rows)
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
            "Top class": st.column_config.TextColumn(width=150 if any_unlike else 100),
            "Probability": st.column_config.ProgressColumn(width=110, format="percent", min_value=0.0, max_value=1.0),
        },
    )
    made_by = f"Run {run.id} · {checkpoint} weights, epoch {network.metadata['epoch']:.3g}"
    st.caption(
        ui.plain(
            f"{FOREIGN if any_unlike else ''}"
            f"{calibrated_by(temperature)} {made_by} · {read} of {len(uploads)} pictures could be read, "
            f"{photos.FITS[fit].lower()}."
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
