"""Augmentation tried on a few images: which ones, with which settings, and what comes out."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import streamlit as st
from numpy.typing import NDArray

from cifar_core.config import FIELD_TYPES, FIELDS, SCALED, label
from cifar_core.datasets import DataInfo, DataSet
from cifar_core.runs import RunError, find_run, list_runs
from pages import ui
from pages.ui import batches, charts, images, settings

OF_A_TRAINING = ("augmentation_strength", "mixup", "cutmix", "early_size", "early_share")
"""What scales the others, mixes the images of a batch, or holds for a part of a training: it has no part in what is
done to one image."""

TRANSFORMS = tuple(
    name for name, field in FIELDS.items() if field.metadata["group"] == "Augmentation" and name not in OF_A_TRAINING
)
"""The settings of `cifar_core.transforms.Augmentation`, which have the same names."""

ANY_CLASS = -1
SIXTEEN = 16
MOST_SAMPLES = 12
MOST_FED = 48

MILD = {"rotation": 45.0, "cutout": 20, "crop_padding": 10, "crop_scale": 0.2}
"""Above these, and below that of a resized crop, an image of 32 pixels may no longer show what its label says."""

RISKS = {
    "rotation": "turned further than {}°, some things become others (a 6 a 9) or look as no photo does",
    "cutout": "a hole of more than {} of 32 pixels can hide the whole object",
    "crop_padding": "shifts by more than {} of 32 pixels can move the object out of the picture",
    "crop_scale": "a crop of less than {} of the area can miss the object",
}


@dataclass(frozen=True)
class Subject:
    """The images to augment: indices in a split, with their classes."""

    split: str
    indices: tuple[int, ...]
    names: tuple[str, ...]


def choose_images(info: DataInfo, data: DataSet) -> Subject | None:
    """One image by its index, or sixteen from it on; None where the split has none of the class."""
    many = st.segmented_control(
        "Images",
        ["one", "sixteen"],
        default="one",
        format_func=str.capitalize,
        key="how_many",
        bind="query-params",
        required=True,
    )
    split = images.choose_split("Only training images are augmented in a training; here test images may be, too.")
    labels: NDArray[np.int64] = getattr(data, split).labels
    wanted = st.selectbox(
        "Class",
        [ANY_CLASS, *range(len(info.classes))],
        format_func=lambda k: "Any class" if k == ANY_CLASS else info.classes[k],
        key="class",
        bind="query-params",
        on_change=_first_of_class,
        args=(labels,),
    )
    pool = np.arange(len(labels)) if wanted == ANY_CLASS else np.flatnonzero(labels == wanted)
    if not len(pool):
        st.info(f"The {images.SPLITS[split]} split has no image of {ui.plain(info.classes[wanted])}.")
        return None
    # A link, or another split, can ask for an index at which there is an image of another class.
    asked = str(st.session_state.get("image", st.query_params.get("image", 0)))
    nearest = int(pool[min(np.searchsorted(pool, int(asked) if asked.isdecimal() else 0), len(pool) - 1)])
    if asked != str(nearest):
        st.session_state["image"] = nearest
    with st.container(horizontal=True, vertical_alignment="bottom"):
        first = st.number_input(
            "Index in the split",
            0,
            len(labels) - 1,
            key="image",
            bind="query-params",
            on_change=_class_of_image,
            args=(labels,),
            help="As below the images on the Data page.",
            width=125,
        )
        st.button("Another", icon=":material/casino:", on_click=_another, args=(labels,))
    start = int(np.searchsorted(pool, first))
    count = min(SIXTEEN, len(pool)) if many == "sixteen" else 1
    chosen = np.take(pool, range(start, start + count), mode="wrap")
    return Subject(split, tuple(chosen.tolist()), tuple(info.classes[k] for k in labels[chosen]))


def _first_of_class(labels: NDArray[np.int64]) -> None:
    wanted = st.session_state["class"]
    members = np.flatnonzero(labels == wanted)
    if wanted != ANY_CLASS and len(members):
        st.session_state["image"] = int(members[0])


def _class_of_image(labels: NDArray[np.int64]) -> None:
    if st.session_state["class"] not in (ANY_CLASS, labels[st.session_state["image"]]):
        st.session_state["class"] = ANY_CLASS


def _another(labels: NDArray[np.int64]) -> None:
    wanted = st.session_state["class"]
    members = np.arange(len(labels)) if wanted == ANY_CLASS else np.flatnonzero(labels == wanted)
    others = members[members != st.session_state["image"]]
    if len(others):
        st.session_state["image"] = int(np.random.default_rng().choice(others))


def choose_transforms() -> dict[str, Any]:
    """A slider for each transform, with the bounds and the help that a training's settings have."""
    values = {}
    for name in TRANSFORMS:
        about, plain = FIELDS[name].metadata, FIELD_TYPES[name][0]
        if about["choices"]:
            given = {"key": name, "bind": "query-params", "help": about["help"], "format_func": settings.spoken}
            values[name] = st.selectbox(label(name), about["choices"], **given)
            continue
        step = 1 if plain is int else 1.0 if about["high"] > 10 else 0.05
        values[name] = st.slider(
            label(name),
            plain(about["low"]),
            plain(about["high"]),
            plain(FIELDS[name].default),
            step,
            "%.2f" if step == 0.05 else "%d",
            key=name,
            bind="query-params",
            help=about["help"],
        )
    risks = [
        RISKS[name].format(f"{limit:g}")
        for name, limit in MILD.items()
        if (values[name] < limit if name == "crop_scale" else values[name] > limit)
    ]
    if risks:
        st.warning(f"The label may stop being true: {'; '.join(risks)}.", icon=":material/warning:")
    return values


def is_off(how: dict[str, Any]) -> bool:
    """Whether nothing is done to the images."""
    neutral = {"crop_scale": 1, "policy": "none"}
    return all(
        how[name] == neutral.get(name, 0) for name in how if name in SCALED and name != "policy_probability"
    ) and (how["policy"] == "none")


def take_over() -> None:
    """A list of runs, whose augmentation and normalisation the sliders take over."""
    runs = {run.id: run for run in list_runs(ui.place().runs)}
    if runs:
        st.selectbox(
            "Take over the settings of a run",
            list(runs),
            index=None,
            format_func=lambda name: charts.run_label(runs[name]),
            key="settings_of",
            on_change=_take_over,
            placeholder="Choose a run",
        )


def _take_over() -> None:
    if not st.session_state["settings_of"]:
        return
    try:
        config = find_run(st.session_state["settings_of"], ui.place().runs).config
    except RunError as error:
        st.error(ui.plain(str(error)))
        return
    for name in (*TRANSFORMS, "normalisation"):
        st.session_state[name] = getattr(config, name)


def choose_draw() -> tuple[int, int]:
    """How many samples of each image, and the seed they are drawn by."""
    samples = st.slider("Samples of each image", 1, MOST_SAMPLES, 6, key="samples", bind="query-params")
    about = FIELDS["seed"].metadata
    with st.container(horizontal=True, vertical_alignment="bottom"):
        seed = st.number_input(
            "Seed",
            int(about["low"]),
            int(about["high"]),
            key="seed",
            bind="query-params",
            help="The same seed gives the same samples again.",
            width=125,
        )
        st.button("New draw", icon=":material/refresh:", on_click=_new_draw, help="Goes on to the next seed.")
    return samples, seed


def _new_draw() -> None:
    st.session_state["seed"] = (st.session_state["seed"] + 1) % (int(FIELDS["seed"].metadata["high"]) + 1)


def augmented(
    info: DataInfo, subject: Subject, samples: int, how: dict[str, Any], seed: int, kind: str
) -> batches.Samples:
    """The samples, kept for as long as the settings come back."""
    key = tuple(how.items())
    place = ui.place()
    return batches.augmented(
        info.id, info.fingerprint, place.cache, subject.split, subject.indices, samples, key, seed, kind
    )


def show_samples(info: DataInfo, subject: Subject, made: batches.Samples) -> None:
    """Each original, and beside it what became of it."""
    count, samples = made.samples.shape[:2]
    many = count > 1
    split = images.SPLITS[subject.split]
    st.caption(
        f"{f'{count} {split} images' if many else f'One {split} image'} of {ui.plain(info.name)}, "
        f"{samples} {'samples' if samples > 1 else 'sample'} each. Transforms are applied in the order of the sliders. "
        f"Below a sample stands what chance decided for it: {batches.SIGNS if many else batches.WORDS}."
    )
    rows = []
    for original, changed, said, marks, name, index in zip(
        made.originals, made.samples, made.captions, made.marks, subject.names, subject.indices, strict=True
    ):
        what = f"{name}, {split} index {index}"
        rows.append(
            (
                np.concatenate([original[None], changed]),
                [f"original: {charts.brief(name)} {index}", *(marks if many else said)],
                [f"{what}, original", *(f"{what}, augmented: {words}" for words in said)],
            )
        )
    st.html(charts.sample_rows(rows, 76 if many else 112))


def show_fed(subject: Subject, made: batches.Samples, kind: str) -> None:
    """The batch in the numbers that go into the network."""
    batches.show_table(made.table, "Shape, number format and range of the batch")
    pictures = made.fed.pictures[:MOST_FED]
    per_image = made.samples.shape[1]
    of = [(subject.names[i // per_image], subject.indices[i // per_image]) for i in range(len(pictures))]
    part = "" if len(pictures) == len(made.fed.pictures) else f"the first {len(pictures)} of "
    st.caption(
        f"The pictures are {part}these very numbers, drawn so that the smallest of the batch, {made.fed.low:.2f}, is "
        f"black and the largest, {made.fed.high:.2f}, is white. They are made by the functions a training calls; "
        "validation and test images are normalised only. A network pretrained at 224 pixels enlarges them itself."
    )
    ui.gallery(
        pictures,
        [f"{charts.brief(name)} {index} #{i % per_image + 1}" for i, (name, index) in enumerate(of)],
        [
            f"{name}, {images.SPLITS[subject.split]} index {index}, augmented and normalised by {kind}"
            for name, index in of
        ],
        size=64,
    )
