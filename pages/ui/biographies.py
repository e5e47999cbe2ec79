"""What became of each image over the epochs, as a scatter that selects images, and one image's probabilities."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
import streamlit as st
from numpy.typing import NDArray

from cifar_core.biography import NEVER
from cifar_core.datasets import DataInfo
from cifar_core.evaluation import softmax
from cifar_core.logits import Logits
from cifar_core.runs import Run
from pages import ui
from pages.ui import charts, looked, reference
from pages.ui.looked import Chosen, Pictures

SHOWN = 24

GROUPS = {
    "easy": "Easy to learn: high confidence, low variability",
    "ambiguous": "Ambiguous: high variability",
    "hard": "Hard to learn: low confidence, low variability",
    "forgotten": "Forgotten most often",
    "never": "Never learned",
    "late": "Learned last",
}

MOST_OFFERED = 500
"""Images in a list to choose one from; any other is named by its number."""


def show(run: Run, info: DataInfo | None, split: str, there: Logits, pictures: Pictures, chosen: Chosen | None) -> None:
    """The scatter, the images chosen in it or by a group, and one of them epoch by epoch."""
    if len(there.epochs) < 2:
        st.info("A biography needs at least two epochs; only one is kept.")
        return
    told = looked.kept_biographies(run, split, chosen)
    _overview(told, there)
    _scatter(run, info, there, pictures, told, chosen.digest if chosen else "")
    st.caption(
        ui.plain(
            f"Run {run.id}; {looked.data_name(there)}, {split} split, {len(told):,} "
            f"{'selected ' if chosen else ''}images, "
            f"{len(there.epochs)} epochs from {there.epochs[0]} to {there.epochs[-1]}. Forgetting events as in "
            "Toneva et al. (2019), confidence and variability as in Swayamdipta et al. (2020), here of images that "
            "were not trained on."
        )
    )


def _overview(told: pd.DataFrame, there: Logits) -> None:
    never = int((told["learned"] == NEVER).sum())
    if len(there.epochs) < there.epochs[-1]:
        st.caption(
            f"Counted at the {len(there.epochs)} epochs that are kept of {there.epochs[-1]}: what was forgotten and "
            "learned again in between is not seen."
        )
    with st.container(horizontal=True):
        st.metric("Never learned", f"{never:,}", help="Wrong at every kept epoch.")
        st.metric("Learned", f"{len(told) - never:,}", help="Right at one kept epoch at least.")
        st.metric(
            "Never forgotten",
            f"{int(((told['forgotten'] == 0) & (told['learned'] != NEVER)).sum()):,}",
            help="Learned, and right at every kept epoch since.",
        )
        st.metric(
            "Forgetting events",
            f"{int(told['forgotten'].sum()):,}",
            help="Right at one kept epoch, wrong at the next one.",
        )
        median = told.loc[told["learned"] != NEVER, "learned"].median()
        st.metric(
            "Learned by half",
            f"epoch {median:.0f}" if median == median else "–",
            help=f"Of those learned at all, at the latest; the first kept epoch is {there.epochs[0]}.",
        )


@st.fragment
def _scatter(
    run: Run, info: DataInfo | None, there: Logits, pictures: Pictures, told: pd.DataFrame, digest: str
) -> None:
    key = f"biographies-{run.id}-{there.images.facts.get('split')}{digest}"
    plot, beside = st.columns([3, 2], gap="large")
    with plot:
        event = st.plotly_chart(
            _figure(key, len(there.epochs), int(there.epochs[-1]), told, there.images.classes),
            key=key,
            on_select="rerun",
            selection_mode=("points", "box", "lasso"),
            config={"displaylogo": False, "modeBarButtonsToRemove": ["zoomIn2d", "zoomOut2d", "toImage"]},
            alt=f"{len(told):,} images by variability and mean confidence of their own class; colour tells how often "
            "each was right",
        )
        st.caption("Drag around points to select them; double-click to let go.")
    places = sorted({int(np.ravel(point["customdata"])[0]) for point in event["selection"]["points"]})
    with beside:
        group = st.selectbox(
            "Or a group", list(GROUPS), index=None, format_func=GROUPS.__getitem__, key="group", bind="query-params",
            placeholder="None",
        )  # fmt: skip
        if not places and group in GROUPS:
            places = members(told, group).tolist()
        what = "chosen in the scatter" if event["selection"]["points"] else GROUPS.get(group or "", "")
        if places:
            _chosen(run, info, there, pictures, told, np.array(places), what)
        else:
            st.caption("Choose images in the scatter or by a group to see them here.")
    if places:
        _one(there, pictures, told, places)


def members(told: pd.DataFrame, group: str) -> NDArray[np.int64]:
    """Places of the images of one of `GROUPS`, the clearest cases first; of the regions of a map a tenth each."""
    tenth = max(len(told) // 10, 1)
    confidence, variability = told["confidence"].to_numpy(), told["variability"].to_numpy()
    match group:
        case "easy":
            return np.argsort(variability - confidence, kind="stable")[:tenth]
        case "ambiguous":
            return np.argsort(-variability, kind="stable")[:tenth]
        case "hard":
            return np.argsort(confidence + variability, kind="stable")[:tenth]
        case "forgotten":
            order = np.argsort(-told["forgotten"].to_numpy(), kind="stable")[:tenth]
            return order[told["forgotten"].to_numpy()[order] > 0]
        case "never":
            never = np.flatnonzero(told["learned"] == NEVER)
            return never[np.argsort(confidence[never], kind="stable")]
        case _:
            learned = np.flatnonzero(told["learned"] != NEVER)
            return learned[np.argsort(-told["learned"].to_numpy()[learned], kind="stable")][:tenth]


@st.cache_resource(max_entries=4, show_spinner=False)
def _figure(key: str, epochs: int, last: int, _told: pd.DataFrame, classes: tuple[str, ...]) -> Any:
    """The very same on every rerun, or the browser would drop the selection."""
    from plotly.graph_objects import Figure, Scattergl

    names = np.array([charts.brief(name) for name in classes])[_told["label"]]
    said = [
        f"{name} #{index}<br>right at {share:.0%} of the kept epochs, forgotten {forgotten}×"
        for name, index, share, forgotten in zip(
            names, _told["index"], _told["correctness"], _told["forgotten"], strict=True
        )
    ]
    figure = Figure(
        Scattergl(
            x=_told["variability"].to_numpy(np.float32),
            y=_told["confidence"].to_numpy(np.float32),
            customdata=np.arange(len(_told), dtype=np.int32),
            text=said,
            mode="markers",
            marker={
                "color": _told["correctness"].to_numpy(np.float32),
                # Seen on a light and on a dark ground.
                "colorscale": [[0, "#D55E00"], [0.5, "#999999"], [1, "#0072B2"]],
                "cmin": 0,
                "cmax": 1,
                "size": 5,
                "opacity": 0.8,
                "colorbar": {"title": {"text": "Right at"}, "tickformat": ".0%", "thickness": 12},
            },
            unselected={"marker": {"opacity": 0.15}},
            hovertemplate="%{text}<br>confidence %{y:.2f}, variability %{x:.2f}<extra></extra>",
        )
    )
    figure.update_layout(
        height=460,
        margin={"l": 0, "r": 0, "t": 8, "b": 0},
        dragmode="lasso",
        hovermode="closest",
        xaxis={"title": {"text": "Variability (standard deviation over the epochs)"}, "range": [-0.01, 0.52]},
        yaxis={"title": {"text": "Mean confidence in the true class"}, "range": [-0.02, 1.02]},
        showlegend=False,
    )
    return figure


def _chosen(
    run: Run,
    info: DataInfo | None,
    there: Logits,
    pictures: Pictures,
    told: pd.DataFrame,
    places: NDArray[np.int64],
    what: str,
) -> None:
    rows = told.iloc[places]
    st.markdown(
        f"**{len(places):,}** of {len(told):,} images {ui.plain(f'({what})')}: right at "
        f"{rows['correctness'].mean():.0%} of the kept epochs, forgotten {rows['forgotten'].mean():.1f} times on "
        "average."
    )
    about = f"run {run.id}, epochs {there.epochs[0]} to {there.epochs[-1]}: {what}"
    looked.offer(info, pictures, places, about, "select-biography")
    if pictures.images is None:
        reference.pictures_missing(f"Fetch them to see the {len(places):,} that belong here.", "biography")
        return
    shown = looked.one_page(places, SHOWN, f"biography-{what}")
    captions, alts = [], []
    for place in shown:
        row = told.iloc[place]
        learned = f"epoch {row['learned']}" if row["learned"] != NEVER else "never"
        name = charts.brief(there.images.classes[row["label"]])
        captions.append(f"#{pictures.numbers[place]} {name}: {learned}, {row['forgotten']}×")
        alts.append(
            f"{pictures.noun.capitalize()} {pictures.numbers[place]}: {name}, learned {learned}, forgotten "
            f"{row['forgotten']} times"
        )
    st.caption(
        "Below each: its number, its class, the first kept epoch at which it was right, and how often it was forgotten."
    )
    with st.container(height=420 if len(shown) > 12 else "content", border=False):
        ui.gallery(pictures.images[shown], captions, alts)


def _one(there: Logits, pictures: Pictures, told: pd.DataFrame, places: list[int]) -> None:
    classes = there.images.classes
    with st.container(horizontal=True, vertical_alignment="bottom"):
        place = st.selectbox(
            "One image over the epochs",
            places[:MOST_OFFERED],
            format_func=lambda place: f"#{pictures.numbers[place]} {charts.brief(classes[told['label'].iloc[place]])}",
            key="one_image",
            width=280,
        )
        if len(there.images.labels) > MOST_OFFERED:
            numbers = {int(number): k for k, number in enumerate(pictures.numbers)}
            number = st.number_input(
                "Or the one with number", min_value=0, value=None, step=1, key="one_number", width=200
            )
            if number is not None and number not in numbers:
                st.caption(f"There is no {pictures.noun} with number {number}.")
            place = numbers.get(number, place)
    picture, curve = st.columns([1, 4], gap="large")
    label = int(there.images.labels[place])
    if pictures.images is not None:
        with picture:
            row = told.iloc[place]
            ui.gallery(
                pictures.images[[place]],
                [f"{charts.brief(classes[label])}, mean {row['confidence']:.2f} ± {row['variability']:.2f}"],
                [f"{pictures.noun.capitalize()} {pictures.numbers[place]}: {classes[label]}"],
                size=128,
            )
    with curve:
        st.vega_lite_chart(
            probability_rows(there, place),
            PROBABILITIES,
            key="one-image-probabilities",
            alt=f"Probability of each class for {pictures.noun} {pictures.numbers[place]}, a {classes[label]}, at "
            f"{len(there.epochs)} epochs",
        )


def probability_rows(there: Logits, place: int, most: int = 5) -> pd.DataFrame:
    """What an image was given over the epochs: its own class, and those that were ever the most probable ones."""
    probabilities = softmax(there.values[:, place])
    label = int(there.images.labels[place])
    others = [k for k in np.argsort(-probabilities.max(axis=0), kind="stable").tolist() if k != label][: most - 1]
    rows = []
    for rank, k in enumerate([label, *others]):
        name = charts.brief(there.images.classes[k]) + (" (its own)" if k == label else "")
        rows += [
            {"epoch": int(epoch), "probability": round(float(chance), 4), "class": name, "rank": rank}
            for epoch, chance in zip(there.epochs, probabilities[:, k], strict=True)
        ]
    return pd.DataFrame(rows)


PROBABILITIES: dict[str, Any] = {
    "height": 300,
    "mark": {"type": "line", "point": {"size": 30, "filled": True}},
    "encoding": {
        "x": {
            "field": "epoch",
            "type": "quantitative",
            "title": "Epoch",
            "scale": {"nice": False},
            "axis": {"format": "d", "tickMinStep": 1},
        },
        "y": {
            "field": "probability",
            "type": "quantitative",
            "title": "Probability",
            "scale": {"domain": [0, 1]},
            "axis": {"format": ".0%", "tickCount": 5},
        },
        "color": {
            "field": "class",
            "type": "nominal",
            "title": None,
            "sort": {"field": "rank"},
            "legend": {"orient": "top", "labelLimit": 200},
        },
        "strokeDash": {
            "field": "rank",
            "type": "ordinal",
            "legend": None,
            "scale": {"domain": [0, 1, 2, 3, 4], "range": [[1, 0], [6, 3], [3, 3], [8, 3, 2, 3], [2, 2]]},
        },
        "tooltip": [
            {"field": "class", "title": "Class"},
            {"field": "epoch", "title": "Epoch"},
            {"field": "probability", "type": "quantitative", "format": ".1%", "title": "Probability"},
        ],
    },
}
