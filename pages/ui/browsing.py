"""Thousands of images of a data set: filtered, sorted, looked at one by one."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import pandas as pd
import streamlit as st
from numpy.typing import NDArray

from cifar_core import job
from cifar_core.attributes import MEASURES, Attributes, AttributesError
from cifar_core.config import FIELDS
from cifar_core.datasets import DataInfo, DataSet
from cifar_core.runs import Run, list_runs
from cifar_core.suspects import most_alike
from pages import ui
from pages.ui import charts, loaders, selecting, sheet

PAGE_SIZES = (200, 500, 2000)
SIDES = {"Small": 32, "Medium": 48, "Large": 64}
NEAREST = 12

NOBODY = "none"
"""In the URL, where no run is chosen."""

PICTURE = "picture"
"""The parameter of the URL that names the image in the large view, such as train.17."""


def attributes(info: DataInfo) -> dict[str, Attributes] | None:
    """What was measured of the images of both splits; else it is measured in the background, and said how far it is."""
    folder, task = job.attributes_task(ui.place().downloads, info)
    paths = {split: folder.path / f"{split}.npz" for split in ui.SPLITS}
    if not all(path.exists() for path in paths.values()):
        ui.background(folder, task, done=False)
        return None
    try:
        return {split: loaders.attributes(path, loaders.version(path)) for split, path in paths.items()}
    except AttributesError as error:
        st.error(ui.plain(str(error)))
        if st.button("Measure again"):
            for path in paths.values():
                path.unlink(missing_ok=True)
            st.rerun()
        return None


def choose_run(
    info: DataInfo, label: str, nobody: str, key: str = "judge", begin_with_the_best: bool = False
) -> Run | None:
    """A run that knows the data set and has weights, or none.

    Args:
        begin_with_the_best: Whether the run that validates best, if there is one, is chosen by default.
    """
    runs = {run.id: run for run in list_runs(ui.place().runs) if _knows(run, info)}
    offered = [NOBODY, *runs]
    ranks = [run.best.validation_accuracy if run.best else 0.0 for run in runs.values()] if begin_with_the_best else []
    default = offered[1 + ranks.index(max(ranks))] if ranks else NOBODY
    chosen = st.selectbox(
        label,
        offered,
        key=ui.remembered(key, offered, default),
        format_func=lambda name: charts.run_label(runs[name]) if name in runs else nobody,
        width=420,
        help="Runs on this data set, all of its classes. Their best weights are used.",
    )
    if chosen != NOBODY or key in st.query_params or default != NOBODY:
        ui.remember(key, chosen)
    return runs.get(chosen)


def choose_judge(info: DataInfo, split: str) -> loaders.Known | None:
    """A run whose predictions are shown, filtered and sorted by; they are made in the background and kept."""
    run = choose_run(info, "Predictions of run", "None")
    return judged(run, info, split) if run else None


def judged(run: Run, info: DataInfo, split: str) -> loaders.Known | None:
    """What a run's best weights say of a split, or a way to find out."""
    checkpoint = next(iter(run.checkpoints()))
    folder, task = job.known_task(run, checkpoint, info, split)
    result = folder.path / "known.npz"
    images = info.train_images if split == "train" else info.test_images
    if not ui.background(folder, task, result.exists(), start=f"Predict all {images:,} {ui.SPLITS[split]} images"):
        return None
    try:
        return loaders.known(result, loaders.version(result))
    except loaders.Damaged as error:
        ui.damaged(error, error.path)
        return None


def _knows(run: Run, info: DataInfo) -> bool:
    start = run.start
    return bool(
        start
        and start.data_fingerprint == info.fingerprint
        and tuple(start.classes) == info.classes
        and run.checkpoints()
    )


def gallery(info: DataInfo, data: DataSet, split: str) -> None:
    """The images of a split, or the selected ones, as filtered and sorted."""
    source = getattr(data, split)
    selecting.say_elsewhere(info, split)
    measured = attributes(info)
    order, known, sorting = _filtered(info, split, source.labels, measured[split] if measured else None)
    look(info, data, measured, known, asked=split)
    if not len(order):
        st.info("No image of the selection or split passes the filters above.")
        return
    with st.container(horizontal=True, vertical_alignment="bottom"):
        per_page = st.segmented_control(
            "Images on a page", PAGE_SIZES, default=200, key="per_page", bind="query-params", required=True
        )
        size = st.segmented_control(
            "Size", list(SIDES), default="Medium", key="size", bind="query-params", required=True
        )
        pages = math.ceil(len(order) / per_page)
        page = st.pagination(pages, key="page", bind="query-params") if pages > 1 else 1
    shown = order[(page - 1) * per_page : page * per_page]
    picked = "selected " if selecting.images_of(info, split) is not None else ""
    st.caption(
        f"{len(order):,} {picked}{ui.SPLITS[split]} images {sorting}; these are {(page - 1) * per_page + 1:,} to "
        f"{(page - 1) * per_page + len(shown):,}. Click an image to see it large; click with Shift or Ctrl to mark "
        "several." + (f" Framed where {known.said}, is wrong." if known else "")
    )
    show_sheet(info, data, [(split, int(i)) for i in shown], "gallery", SIDES[size], known)
    selecting.offer(info, split, order, f"filtered on the Data page: {sorting}", "select-filtered")


def show_sheet(
    info: DataInfo,
    data: DataSet,
    places: Sequence[tuple[str, int]],
    key: str,
    side: int = 64,
    known: loaders.Known | None = None,
    notes: Sequence[str] | None = None,
    most: int = 640,
    together: int = 1,
) -> None:
    """Images that open in the large view when they are clicked, and can be marked and selected.

    Args:
        known: Whose predictions are told and framed where they are wrong.
        notes: A few signs below each, in place of its class and index.
        together: How many after each other stay in one row.
    """
    captions, alts, wrong = [], [], []
    for n, (split, index) in enumerate(places):
        name = info.classes[getattr(data, split).labels[index]]
        alt = f"{name}, {ui.SPLITS[split]} index {index}"
        is_wrong = False
        if known and known.facts["split"] == split:
            predicted = info.classes[known.predictions[index]]
            is_wrong = predicted != name
            alt += f", predicted {predicted}{' (wrong)' if is_wrong else ''}"
        # A word that does not fit would be broken anywhere.
        short = name if side >= 64 or len(name) <= 8 else f"{name[:6]}…"
        captions.append(notes[n] if notes else f"{charts.brief(short, 10)} {index}")
        alts.append(alt)
        wrong.append(is_wrong)
    marked = f"{key}-marked"

    def mark(chosen: list[int]) -> None:
        st.session_state[marked] = name, [places[n] for n in chosen]

    name = sheet.show(
        info.id,
        info.fingerprint,
        ui.place().cache,
        tuple(places),
        captions if notes or side >= 48 else [],
        alts,
        key,
        label=f"{len(places):,} images",
        side=side,
        most=most,
        together=together,
        wrong=wrong,
        on_pick=lambda n: _open(*places[n]),
        on_mark=mark,
    )
    # In another sheet, of other images or with other captions, nothing is marked.
    sheet_then, chosen = st.session_state.get(marked, ("", []))
    chosen = chosen if sheet_then == name else []
    for split in ui.SPLITS:
        indices = [index for of, index in chosen if of == split]
        selecting.offer(info, split, indices, "marked by hand on the Data page", f"{key}-select-{split}",
                        f"Select the {len(indices):,} marked {ui.SPLITS[split]} images")  # fmt: skip


def _open(split: str, index: int) -> None:
    st.query_params[PICTURE] = f"{split}.{index}"


def _close() -> None:
    st.query_params.pop(PICTURE, None)


def _filtered(
    info: DataInfo, split: str, labels: NDArray[np.int64], measured: Attributes | None
) -> tuple[NDArray[np.int64], loaders.Known | None, str]:
    """Which images of a split pass the filters, in the order asked for; whose predictions; and the order in words."""
    with st.container(horizontal=True, vertical_alignment="bottom"):
        chosen = st.multiselect(
            "Only these classes",
            info.classes,
            key="classes",
            bind="query-params",
            placeholder="All classes",
            width=300,
        )
        known = choose_judge(info, split)
        outcome = "Any"
        if known:
            outcome = st.segmented_control(
                "Predicted", ("Any", "Right", "Wrong"), default="Any", key="outcome", bind="query-params", required=True
            )
    with st.container(horizontal=True, vertical_alignment="bottom"):
        ways = ["random", "stored", *(MEASURES if measured else ()), *(("confidence", "loss") if known else ())]
        way = st.selectbox(
            "Sort by",
            ways,
            format_func=_called,
            key="sort",
            bind="query-params",
            width=200,
        )
        way = way if way in ways else "random"
        if way == "random":
            seed = ui.whole_number(
                "Seed",
                0,
                FIELDS["seed"].metadata["high"],
                key="seed",
                width=140,
                help="Another seed, another order; the same seed shows the same images again.",
            )
            falls = False
        else:
            seed = None
            falls = st.toggle("Highest first", True, key="falls", bind="query-params") if way != "stored" else False
        ranges = _ranges(measured)
    order = loaders.gallery_order(
        info.id,
        info.fingerprint,
        ui.place().cache,
        split,
        tuple(info.classes.index(name) for name in chosen),
        seed,
    )
    keep = np.ones(len(labels), bool)
    if (selected := selecting.images_of(info, split)) is not None:
        keep[:] = False
        keep[selected] = True
    for name, (low, high) in ranges.items():
        values = getattr(measured, name)
        keep &= (values >= low) & (values <= high)
    if known and outcome != "Any":
        keep &= (known.predictions == labels) == (outcome == "Right")
    order = order[keep[order]]
    if way not in ("random", "stored"):
        values = _values(way, measured, known, labels)[order]
        order = order[np.argsort(-values if falls else values, kind="stable")]
    words = {"random": "in random order", "stored": "as stored"}
    sorting = words.get(way) or f"by {way}, {'highest' if falls else 'lowest'} first"
    limits = [f"{name} {low:.2f} to {high:.2f}" for name, (low, high) in ranges.items()]
    narrowed = ([f"of {', '.join(chosen)}"] if chosen else []) + limits
    if known and outcome != "Any":
        narrowed.append(f"predicted {outcome.lower()} by {known.said}")
    return order, known, "; ".join([*narrowed, sorting])


def _called(way: str) -> str:
    return {"random": "Random", "stored": "As stored"}.get(way, way.capitalize())


def _values(
    way: str, measured: Attributes | None, known: loaders.Known | None, labels: NDArray[np.int64]
) -> NDArray[np.floating]:
    if way in MEASURES:
        return np.asarray(getattr(measured, way))
    assert known is not None
    if way == "confidence":
        return known.probabilities.max(1)
    return -np.log(np.clip(known.probabilities[np.arange(len(labels)), labels], 1e-30, 1))


def _ranges(measured: Attributes | None) -> dict[str, tuple[float, float]]:
    """The bounds of the attributes that are narrowed."""
    if measured is None:
        return {}
    found = {}
    with st.popover("Filter by look", icon=":material/tune:"):
        for name, help in MEASURES.items():
            most = 1.0 if name in ("brightness", "saturation") else 0.5
            low, high = st.slider(
                name.capitalize(), 0.0, most, (0.0, most), 0.01, key=f"range-{name}", bind="query-params", help=help
            )
            if (low, high) != (0.0, most):
                found[name] = (low, high if high < most else 1.0)
        st.caption("Of each image as stored, measured once.")
    return found


# One image ---------------------------------------------------------------------------------------------------------


def look(
    info: DataInfo,
    data: DataSet,
    measured: dict[str, Attributes] | None,
    known: loaders.Known | None = None,
    asked: str | None = None,
    chooses: bool = False,
) -> None:
    """The image that the URL names: large, with what is known of it and the images most like it.

    Args:
        known: What the chosen run says of a split, as far as the page shows it.
        asked: The split of which the page asks it above.
        chooses: Whether the run is chosen here, as the page has no other place for it.
    """
    text = st.query_params.get(PICTURE)
    if not text:
        return
    split, _, number = text.partition(".")
    count = {"train": info.train_images, "test": info.test_images}.get(split, 0)
    if not ui.is_below(number, count):
        st.info(ui.plain(f"There is no image {text[:40]} in {info.name}."), icon=":material/link_off:")
        _close()
        return
    index = int(number)
    label = getattr(data, split).labels[index]
    name = info.classes[label]
    with st.container(border=True):
        with st.container(horizontal=True, horizontal_alignment="distribute", vertical_alignment="center"):
            st.markdown(f"**{ui.plain(name)}**, {ui.SPLITS[split]} image {index} of {ui.plain(info.name)}")
            with st.container(horizontal=True, width="content"):
                selecting.offer(info, split, [index], f"{ui.SPLITS[split]} image {index}", "select-picture")
                st.button("Close", key="close-picture", icon=":material/close:", type="tertiary", on_click=_close)
        pixels = getattr(data, split).images[index]
        picture, table, predicted = st.columns([4, 4, 3], gap="medium")
        with picture:
            ui.gallery(pixels[None], [""], [f"{name}, {ui.SPLITS[split]} index {index}, enlarged"], size=256)
        if measured:
            with table:
                _attributes_of(measured[split], index, split)
        with predicted:
            run = choose_run(info, "Predictions of run", "None") if chooses else _chosen_run(info)
            known = known if known and known.facts["split"] == split else None
            if run and not known and split != asked:
                # Of the other split than the one shown; its predictions are asked for here.
                known = judged(run, info, split)
            if known:
                _predictions_of(known, index, info)
            elif run:
                st.caption(
                    ui.plain(
                        f"What run {charts.run_name(run)} says of it stands here once it has predicted all "
                        f"{ui.SPLITS[split]} images."
                    )
                )
            else:
                st.caption("What a run says of it stands here once “Predictions of run” names one.")
            if split == "test":
                ui.link("Explain", "Where does a network look?", image=str(index), source="Test image",
                        **({"run": run.id} if run else {}))  # fmt: skip
        if measured:
            _neighbours(info, data, split, index, known, run)


def _chosen_run(info: DataInfo) -> Run | None:
    """The run that `choose_run` has put into the URL."""
    asked = st.query_params.get("judge")
    return next((run for run in list_runs(ui.place().runs) if run.id == asked and _knows(run, info)), None)


def _attributes_of(measured: Attributes, index: int, split: str) -> None:
    rows = []
    for name in MEASURES:
        values = getattr(measured, name)
        rows.append((name.capitalize(), float(values[index]), float((values < values[index]).mean())))
    st.dataframe(
        pd.DataFrame(rows, columns=["Attribute", "Value", "Higher than"]),
        hide_index=True,
        column_config={
            "Value": st.column_config.NumberColumn(format="%.3f"),
            "Higher than": st.column_config.NumberColumn(format="percent"),
        },
        alt="Attributes of the image",
    )
    meanings = "; ".join(f"{name}: {said[0].lower()}{said[1:].rstrip('.')}" for name, said in MEASURES.items())
    st.caption(
        ui.plain(
            f"Higher than this share of the {len(values):,} {ui.SPLITS[split]} images. "
            f"{meanings[0].upper()}{meanings[1:]}."
        )
    )


def _predictions_of(known: loaders.Known, index: int, info: DataInfo) -> None:
    best = np.argsort(-known.probabilities[index], kind="stable")[:5]
    st.dataframe(
        pd.DataFrame(
            {
                "Class": [info.classes[k] + (" ✓ label" if k == known.labels[index] else "") for k in best],
                "Probability": known.probabilities[index][best],
            }
        ),
        hide_index=True,
        column_config={"Probability": st.column_config.ProgressColumn(format="percent", min_value=0.0, max_value=1.0)},
        alt="Most probable classes",
    )
    st.caption(ui.plain(f"Predicted by {known.said}."))


def _neighbours(
    info: DataInfo, data: DataSet, split: str, index: int, known: loaders.Known | None, run: Run | None
) -> None:
    if known:
        places = [(split, int(place)) for place in known.neighbours[index][:NEAREST]]
        notes = [f"{distance:.2f}" for distance in known.distances[index][:NEAREST]]
        said = f"the distance (1 less the cosine) of the features of {known.said}; of the {ui.SPLITS[split]} split"
    else:
        folder, _ = job.attributes_task(ui.place().downloads, info)
        train, test = folder.path / "train.npz", folder.path / "test.npz"
        views = loaders.small_views(train, loaders.version(train), test, loaders.version(test))
        found, likeness = most_alike(views, index if split == "train" else info.train_images + index, NEAREST)
        places = [
            ("train", int(place)) if place < info.train_images else ("test", int(place - info.train_images))
            for place in found
        ]
        notes = [f"{like:.2f}" for like in likeness]
        said = "the correlation of small views of both images; of both splits"
        if run:
            said += (
                f". By the features of run {charts.run_name(run)} once it has predicted all {ui.SPLITS[split]} images"
            )
    st.markdown("Nearest images")
    names = [info.classes[getattr(data, of).labels[place]] for of, place in places]
    notes = [f"{charts.brief(name, 10)} {note}" for name, note in zip(names, notes, strict=True)]
    show_sheet(info, data, places, "neighbours", 64, known, notes, most=220)
    st.caption(ui.plain(f"Below each its class and {said}."))
