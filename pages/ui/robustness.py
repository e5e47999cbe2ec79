"""How a run does on spoilt images (15 corruptions) and on images changed to mislead it (FGSM and PGD)."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import streamlit as st
from numpy.typing import NDArray

from cifar_core import job
from cifar_core.datasets import DataInfo, Split
from cifar_core.robustness import Robustness, RobustnessError, corruption_errors
from cifar_core.runs import ALIVE, Run, WorkFolder, list_runs
from cifar_core.sources import DataError
from pages import ui
from pages.ui import charts, loaders, reference, selecting

COUNTS = (500, 1000, 2000, 10_000)
ATTACKED = (100, 250, 500, 1000)
PICTURES = 16

RAMP = ("#F7FBFF", "#08306B")
"""From no error to all wrong; the numbers are written in the cells as well."""


def show(run: Run, info: DataInfo, checkpoint: str) -> None:
    """Two panels, each computed in the background when asked for.

    Args:
        info: Of the classes that the run tells apart.
    """
    st.subheader("Robustness", anchor=False)
    if not reference.here(info):
        reference.pictures_missing("Fetch them to measure how the network fares where they are spoilt.", "robustness")
        return
    if other := reference.copied_from(info):
        st.caption(ui.plain(f"What follows is measured on {other.name}."))
        info = other
    try:
        test = loaders.test_split(info.id, info.fingerprint, ui.place().cache, info.classes)
    except DataError as error:
        st.error(ui.plain(str(error)))
        return
    for title, icon, key, body in (
        ("Corrupted images", ":material/foggy:", "corrupted", _corruptions),
        ("Adversarial images", ":material/psychology_alt:", "attacked", _attacks),
    ):
        panel = st.expander(title, icon=icon, key=f"robust-{key}", on_change="rerun")
        if panel.open:
            with panel:
                body(run, checkpoint, info, test)


@st.cache_resource(max_entries=16, show_spinner=False)
def measured(path: Path, version: int) -> Robustness:
    """A kept result; shared and read-only.

    Raises:
        RobustnessError: The file is damaged.
    """
    return Robustness.load(path)


def _images_choice(key: str, counts: tuple[int, ...], whole: int) -> int:
    offered = [count for count in counts if count < whole] + [whole]
    return st.selectbox(
        "Test images",
        offered,
        format_func=lambda count: f"all {count:,}" if count == whole else f"{count:,}",
        key=key,
        width=180,
        help="Drawn evenly from the classes, always the same ones. Fewer are quicker, more are surer.",
    )


def _result(run: Run, folder: WorkFolder, task: dict[str, Any], file: str, label: str) -> Robustness | None:
    """What is kept, and the way to what is missing; a part is shown while the rest is computed."""
    path = folder.path / file
    result = None
    try:
        if path.exists():
            result = measured(path, loaders.version(path))
    except (RobustnessError, OSError) as error:
        ui.damaged(error, path, "Measure again")
        return None
    slower = ", which slows its training a little" if run.state in ALIVE else ""
    ui.background(folder, task, done=bool(result and result.finished), start=f"{label}{slower}")
    if result and not result.done.any():
        return None
    return result


def _facts(result: Robustness) -> str:
    facts = result.facts
    return (
        f"Run {facts['run']}, {facts['checkpoint']} weights, after epoch {facts['epoch']:.4g}; {facts['data']}, "
        f"{facts['split']} split, {len(result):,} images of {len(result.classes)} classes"
    )


# Corruptions -------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Known:
    """What the page needs to know of the corruptions; the core module itself imports torch."""

    titles: dict[str, str]
    groups: dict[str, str]
    says: dict[str, str]


@st.cache_resource(show_spinner=False)
def _known() -> Known:
    from cifar_core.corruptions import CORRUPTIONS

    return Known(
        {name: one.title for name, one in CORRUPTIONS.items()},
        {name: one.group for name, one in CORRUPTIONS.items()},
        {name: one.says for name, one in CORRUPTIONS.items()},
    )


def _corruptions(run: Run, checkpoint: str, info: DataInfo, test: Split) -> None:
    st.caption(
        "The 15 corruptions of CIFAR-10-C at five severities (Hendrycks and Dietterich, 2019), made here on the fly "
        "with the parameters of the published program. Motion blur and snow use a stand-in for ImageMagick's blur, and "
        "frost a drawn texture in place of photographs, so those three compare between runs, not with papers."
    )
    images = _images_choice("corrupt_images", COUNTS, info.test_images)
    folder, task = job.corruption_task(run, checkpoint, info, images)
    result = _result(run, folder, task, "corruptions.npz", f"Measure on {images:,} images under 75 corruptions")
    if result is None:
        return
    known = _known()
    _corruption_figures(run, result)
    table = result.accuracy()
    left, right = st.columns([3, 2], gap="large")
    with right:
        boxes = st.columns([3, 2])
        kind = boxes[0].selectbox(
            "Corruption",
            result.rows,
            index=None,
            placeholder="Click a cell, or choose",
            format_func=known.titles.__getitem__,
            key="corruption",
        )
        st.session_state.setdefault("severity", 3)
        severity = boxes[1].selectbox("Severity", [int(s) for s in result.columns], key="severity")
        if kind is None:
            st.caption("Click a cell of the chart, or choose a corruption here, to see its images.")
        else:
            _examples(result, info, test, kind, severity)
    with left:
        theme = st.context.theme.type or "light"
        st.vega_lite_chart(
            _cells(result, kind, severity),
            corruption_chart([known.titles[name] for name in result.rows], theme),
            key="corruption-cells",
            on_select=_take_cell,
            alt=f"Accuracy under 15 corruptions at five severities, at least {np.nanmin(table.to_numpy()):.0%}; "
            "the boxes “Corruption” and “Severity” choose a cell by keyboard",
        )
        st.caption(ui.plain(f"Accuracy in per cent; {result.clean_accuracy:.1%} untouched. {_facts(result)}."))
        st.download_button(
            "Accuracies as CSV",
            table.rename(columns=lambda s: f"severity {s}").rename_axis("corruption").to_csv().encode(),
            f"{run.id}-{checkpoint}-corruptions.csv",
            "text/csv",
            icon=":material/download:",
            on_click="ignore",
        )


def _take_cell() -> None:
    clicked = st.session_state["corruption-cells"]["selection"].get("cell")
    if clicked:
        st.session_state["corruption"] = clicked[0]["name"]
        st.session_state["severity"] = int(clicked[0]["severity"])


def _cells(result: Robustness, chosen: str | None, severity: int) -> pd.DataFrame:
    titles, groups = _known().titles, _known().groups
    rows = []
    for name, line in result.accuracy().iterrows():
        for column, share in line.items():
            there = bool(np.isfinite(share))
            rows.append(
                {
                    "name": name,
                    "corruption": titles[str(name)],
                    "group": groups[str(name)],
                    "severity": int(column),
                    "accuracy": share if there else None,
                    "text": f"{100 * share:.0f}" if there else "·",
                    "lost": result.clean_accuracy - share if there else None,
                    "chosen": name == chosen and column == severity,
                }
            )
    return pd.DataFrame(rows)


def corruption_chart(titles: list[str], theme: str) -> dict[str, Any]:
    """The specification of the grid; the same whatever is chosen in it."""
    outline = {"light": "#000000", "dark": "#FFFFFF"}[theme]
    return {
        "height": {"step": 26},
        "encoding": {
            "x": {
                "field": "severity",
                "type": "ordinal",
                "title": "Severity",
                "axis": {"labelAngle": 0, "orient": "top", "ticks": False, "domain": False},
                "scale": {"padding": 0},
            },
            "y": {
                "field": "corruption",
                "type": "nominal",
                "sort": titles,
                "title": None,
                "axis": {
                    "labelLimit": 0,
                    "labelFlush": False,
                    "labelOverlap": False,
                    "ticks": False,
                    "domain": False,
                },
                "scale": {"padding": 0},
            },
            "tooltip": [
                {"field": "corruption", "title": "Corruption"},
                {"field": "group", "title": "Kind"},
                {"field": "severity", "title": "Severity"},
                {"field": "accuracy", "type": "quantitative", "format": ".1%", "title": "Accuracy"},
                {"field": "lost", "type": "quantitative", "format": ".1%", "title": "Lost to untouched"},
            ],
        },
        "layer": [
            {
                "mark": {"type": "rect", "stroke": "#808080", "strokeOpacity": 0.25, "strokeWidth": 0.5},
                "encoding": {
                    "color": {
                        "field": "accuracy",
                        "type": "quantitative",
                        "title": "Accuracy",
                        "scale": {"domain": [0, 1], "range": list(reversed(RAMP))},
                        "legend": None,
                    }
                },
            },
            {
                "mark": {"type": "text", "fontSize": 12, "aria": False},
                "encoding": {
                    "text": {"field": "text"},
                    "color": {
                        "condition": {"test": "datum.accuracy === null || datum.accuracy >= 0.5", "value": "#101010"},
                        "value": "#FFFFFF",
                    },
                },
            },
            {
                "params": [{"name": "cell", "select": {"type": "point", "fields": ["name", "severity"]}}],
                "mark": {"type": "rect", "fill": "transparent", "cursor": "pointer", "strokeWidth": 2.5},
                "encoding": {
                    "stroke": {"condition": {"test": "datum.chosen", "value": outline}, "value": "transparent"}
                },
            },
        ],
    }


def _others(run: Run, result: Robustness) -> dict[str, tuple[str, Robustness]]:
    """Finished results of other runs or weights on the same images, by their file."""
    found = {}
    for other in list_runs(ui.place().runs):
        folders = dict.fromkeys((other.tasks, other.path / "tasks"))
        for path in sorted(path for folder in folders for path in folder.glob("corrupt-*/corruptions.npz")):
            with suppress(RobustnessError, OSError, KeyError):
                there = measured(path, loaders.version(path))
                facts = there.facts
                mine = (facts["run"], facts["checkpoint"], facts["epoch"])
                if (
                    there.finished
                    and mine != tuple(result.facts[name] for name in ("run", "checkpoint", "epoch"))
                    and facts["fingerprint"] == result.facts["fingerprint"]
                    and there.classes == result.classes
                    and np.array_equal(there.indices, result.indices)
                ):
                    label = f"{charts.run_name(other)}, {facts['checkpoint']}, epoch {facts['epoch']:.4g}"
                    found[str(path)] = (label, there)
    return found


def _corruption_figures(run: Run, result: Robustness) -> None:
    if not result.finished:
        done = int(result.done.sum())
        st.caption(f"{done} of {result.done.size} parts are there; what is missing is a dot in the chart.")
        return
    others = _others(run, result)
    reference = None
    if others:
        chosen = st.selectbox(
            "Relative to",
            list(others),
            index=None,
            format_func=lambda path: others[path][0],
            placeholder="Choose a reference run",
            key="corruption_reference",
            width=480,
            help="A run that was measured on the same images. The paper's own reference is AlexNet.",
        )
        reference = others[chosen][1] if chosen in others else None
    with st.container(horizontal=True):
        st.metric("Untouched", f"{result.clean_accuracy:.1%}")
        st.metric("Corrupted, mean", f"{result.mean_accuracy():.1%}", help="Over 15 corruptions and 5 severities.")
        st.metric("Mean error", f"{1 - result.mean_accuracy():.1%}", help="As often reported for CIFAR-10-C.")
        if reference:
            table = corruption_errors(result, reference)
            for column, title, help in (
                (
                    "ce",
                    "Mean corruption error",
                    "Errors of all severities over the reference's, mean over corruptions.",
                ),
                ("relative_ce", "Relative mCE", "The same of what is lost compared with untouched images."),
            ):
                values = table[column].to_numpy()
                left_out = int(np.isnan(values).sum())
                said = "–" if left_out == len(values) else f"{100 * np.nanmean(values):.1f}%"
                more = f" {left_out} corruptions on which the reference loses nothing are left out." if left_out else ""
                st.metric(title, said, help=f"{help} 100% is the reference.{more}")
    if reference:
        with st.expander("Corruption errors by corruption"):
            st.dataframe(
                (100 * table).rename(index=_known().titles),
                column_config={
                    "error": st.column_config.NumberColumn("Error", format="%.1f%%"),
                    "reference_error": st.column_config.NumberColumn("Error of the reference", format="%.1f%%"),
                    "ce": st.column_config.NumberColumn("Corruption error", format="%.1f%%"),
                    "relative_ce": st.column_config.NumberColumn("Relative", format="%.1f%%"),
                },
                height="content",
                alt="Corruption errors relative to the reference run",
            )
    elif not others:
        st.caption("Measure another run on the same images to see the mean corruption error relative to it.")


def _examples(result: Robustness, info: DataInfo, test: Split, kind: str, severity: int) -> None:
    known = _known()
    row, column = result.rows.index(kind), result.columns.index(severity)
    st.caption(f"{known.titles[kind]} ({known.groups[kind]}): {known.says[kind]}.")
    if not result.done[row, column]:
        st.caption("Not measured yet.")
        return
    said = result.predictions[row, column]
    right, before = said == result.labels, result.clean == result.labels
    ways = {
        "Lost by it": np.flatnonzero(before & ~right),
        "Still right": np.flatnonzero(before & right),
        "Gained by it": np.flatnonzero(~before & right),
    }
    way = st.segmented_control(
        "Which images",
        list(ways),
        format_func=lambda name: f"{name} ({len(ways[name]):,})",
        default="Lost by it",
        required=True,
        wrap=True,
        key="corruption_ways",
        label_visibility="collapsed",
    )
    places = ways[way][:PICTURES]
    if not len(places):
        st.caption("There is no such image.")
        return
    spoilt = _spoilt_of(result, kind, severity, places, test)
    names = result.classes
    captions = [
        f"#{result.indices[i]} {charts.brief(names[result.labels[i]], 12)} → {charts.brief(names[said[i]], 12)}"
        for i in places
    ]
    alts = [
        f"Test image {result.indices[i]} with {known.titles[kind].lower()}: {names[result.labels[i]]}, predicted as "
        f"{names[said[i]]}"
        for i in places
    ]
    ui.gallery(spoilt, captions, alts, size=72)
    facts = result.facts
    about = (
        f"{way.lower()}: {known.titles[kind].lower()}, severity {severity}, run {facts['run']}, {facts['checkpoint']} "
        f"weights, epoch {facts['epoch']:.4g}"
    )
    selecting.offer(info, "test", result.indices[ways[way]], about, "select-corrupted")
    st.caption(
        ui.plain(
            f"{len(places)} of {len(ways[way]):,} images, truth → prediction with the {result.facts['checkpoint']} "
            f"weights. Accuracy here {right.mean():.1%}, {result.clean_accuracy:.1%} untouched."
        )
    )


def _spoilt_of(
    result: Robustness, kind: str, severity: int, places: NDArray[np.int64], test: Split
) -> NDArray[np.uint8]:
    digest = f"{result.facts['fingerprint']}-{len(result)}-{','.join(result.classes)}"
    return _corrupted_pictures(digest, kind, severity, tuple(places.tolist()), result, test)


@st.cache_data(max_entries=64, show_spinner="Corrupting images")
def _corrupted_pictures(
    digest: str, kind: str, severity: int, places: tuple[int, ...], _result: Robustness, _test: Split
) -> NDArray[np.uint8]:
    """The very images that were predicted.

    Args:
        digest: Stands for the images of the result.
    """
    from cifar_core.corruptions import corrupted_at

    return corrupted_at(_test.images[_result.indices], np.array(places), kind, severity)


# Attacks -----------------------------------------------------------------------------------------------------------

METHOD_NAMES = {"fgsm": "FGSM (one step)", "pgd": "PGD (10 steps)"}

ATTACK_CHART: dict[str, Any] = {
    "height": 340,
    "mark": {"type": "line", "strokeWidth": 2.5, "point": {"size": 50, "filled": True}},
    "encoding": {
        "x": {
            "field": "epsilon",
            "type": "quantitative",
            "title": "Largest change of a value (grey levels of 255)",
            "scale": {"type": "symlog", "constant": 0.5},
            "axis": {"values": [0, 0.25, 0.5, 1, 2, 4, 8, 16], "format": ".3~g"},
        },
        "y": {
            "field": "accuracy",
            "type": "quantitative",
            "title": "Accuracy",
            "axis": {"format": ".0%"},
            "scale": {"domain": [0, 1]},
        },
        "color": {
            "field": "attack",
            "type": "nominal",
            "title": None,
            "scale": {
                "domain": list(METHOD_NAMES.values()),
                "range": [charts.CLASS_COLOURS[0], charts.CLASS_COLOURS[5]],
            },
            "legend": {"orient": "top", "symbolType": "stroke", "symbolSize": 600},
        },
        "strokeDash": {
            "field": "attack",
            "type": "nominal",
            "title": None,
            "scale": {"domain": list(METHOD_NAMES.values()), "range": [[1, 0], [6, 3]]},
            "legend": {"orient": "top", "symbolType": "stroke", "symbolSize": 600},
        },
        "tooltip": [
            {"field": "attack", "title": "Attack"},
            {"field": "epsilon", "title": "Epsilon (of 255)"},
            {"field": "accuracy", "title": "Accuracy", "format": ".1%"},
        ],
    },
}


def _attacks(run: Run, checkpoint: str, info: DataInfo, test: Split) -> None:
    st.caption(
        "Changes that are chosen with the network's own gradient to mislead it, with no value changed by more than "
        "epsilon: FGSM in one step (Goodfellow et al., 2015), PGD in ten from a random start (Madry et al., 2018)."
    )
    images = _images_choice("attack_images", ATTACKED, info.test_images)
    folder, task = job.attack_task(run, checkpoint, info, images)
    result = _result(run, folder, task, "attacks.npz", f"Attack {images:,} images")
    if result is not None:
        table = result.accuracy()
        rows = table.rename(index=METHOD_NAMES).rename_axis("attack").reset_index()
        frame = rows.melt("attack", var_name="epsilon", value_name="accuracy").dropna()
        frame["epsilon"] = frame["epsilon"].astype(float)
        st.vega_lite_chart(
            frame,
            ATTACK_CHART,
            key="attack-chart",
            alt=f"Accuracy by epsilon under FGSM and PGD, from {result.clean_accuracy:.0%} without a change",
        )
        st.caption(ui.plain(f"{_facts(result)}. A stronger attack may lower the accuracy further."))
        st.download_button(
            "Accuracies by epsilon as CSV",
            frame.to_csv(index=False).encode(),
            f"{run.id}-{checkpoint}-attacks.csv",
            "text/csv",
            icon=":material/download:",
            on_click="ignore",
        )
    _one_image(run, checkpoint, test)


@dataclass(frozen=True, eq=False)
class Turned:
    """The smallest change found for one image, as a page shows it."""

    epsilon: float
    below: float
    pixels: NDArray[np.uint8]
    difference: NDArray[np.uint8]
    before: int
    after: int
    before_probability: float
    after_probability: float


@st.cache_data(max_entries=64, show_spinner="Looking for the smallest change")
def _turned(path: Path, version: int, pixels: NDArray[np.uint8], method: str) -> Turned | None:
    import torch

    from cifar_core.attacks import smallest_flip

    network = loaders.network(path, version)
    image = torch.from_numpy(np.array(pixels)).float().to(network.device) / 255
    found = smallest_flip(network, image, method)
    if found is None:
        return None
    change = (found.image - image.cpu()) / (2 * max(found.epsilon, 1e-9) / 255) + 0.5
    before, after = network.probabilities(torch.stack([image.cpu(), found.image]))
    return Turned(
        found.epsilon,
        found.below,
        (found.image * 255).round().clamp(0, 255).to(torch.uint8).numpy(),
        (change.clamp(0, 1) * 255).to(torch.uint8).numpy(),
        found.before,
        found.after,
        float(before[found.before]),
        float(after[found.after]),
    )


def _one_image(run: Run, checkpoint: str, test: Split) -> None:
    st.markdown("**The smallest change that flips one image**")
    with st.container(horizontal=True, vertical_alignment="bottom"):
        place = st.number_input("Test image", 0, len(test.labels) - 1, 0, key="flip_image", width=160)
        method = st.segmented_control(
            "Attack",
            list(METHOD_NAMES),
            format_func=METHOD_NAMES.__getitem__,
            default="pgd",
            required=True,
            key="flip_method",
        )
        asked = st.button("Find it", icon=":material/search:", key="flip")
    wanted = (run.id, checkpoint, place, method)
    if asked:
        st.session_state["flip_asked"] = wanted
    if st.session_state.get("flip_asked") != wanted:
        return
    path = run.checkpoints()[checkpoint]
    network = loaders.network(path, loaders.version(path))
    found = _turned(path, loaders.version(path), test.images[place], method)
    if found is None:
        st.caption("No change of up to 64 grey levels flips it with this attack.")
        return
    names = network.classes
    before, after = names[found.before], names[found.after]
    ui.gallery(
        np.stack([test.images[place], found.pixels, found.difference]),
        [
            f"As it is: {charts.brief(before)} {charts.percent(found.before_probability)}",
            f"Changed: {charts.brief(after)} {charts.percent(found.after_probability)}",
            "The change, stretched to its full range around grey",
        ],
        [f"Test image {place}", f"Test image {place}, changed by {found.epsilon:.3g} grey levels", "The change"],
        size=128,
    )
    st.caption(
        ui.plain(
            f"Run {run.id}, {checkpoint} weights, test image {place}: epsilon {found.epsilon:.3g}/255, found by "
            f"halving to within {max(found.epsilon - found.below, 0.001):.1g}; the true class is "
            f"{names[test.labels[place]]}. Below one or two grey levels the change is smaller than what a stored "
            "picture can hold, so the picture shown is rounded."
        )
    )
