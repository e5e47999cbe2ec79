"""Augmentation tried on some images: which ones, through which pipeline, and what comes out."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import streamlit as st
from numpy.typing import NDArray

from cifar_core.config import FIELD_TYPES, FIELDS, SCALED, TrainConfig, label
from cifar_core.datasets import DataInfo, DataSet
from cifar_core.runs import Run, RunError, find_run, list_runs
from pages import ui
from pages.ui import batches, charts, images, selecting, settings

DRAWS, IMAGES, STRIP = "One image, many draws", "Many images, one draw each", "From weak to strong"
VIEWS = (DRAWS, IMAGES, STRIP)

MIXING = ("mixup", "cutmix")

PIPELINE = settings.PIPELINE

TRANSFORMS = tuple(name for name in PIPELINE if name not in MIXING)
"""Those of `cifar_core.transforms.Augmentation`, which have the same names."""

PARTS = {
    "Geometry": (
        "flip",
        "flip_mode",
        "crop_padding",
        "crop_padding_mode",
        "rotation",
        "translation",
        "scaling",
        "crop_scale",
    ),
    "Policy": ("policy", "policy_operations", "policy_magnitude"),
    "Colour and blur": ("colour_jitter", "grey", "blur"),
    "Erasing": ("cutout", "erasing", "erasing_from", "erasing_to", "erasing_ratio"),
    "Mixing of images": MIXING,
}

NEUTRAL: dict[str, Any] = {"crop_scale": 1, "policy": "none"}
"""What does nothing, where that is not 0."""

FINE = {"erasing_from": 0.01, "erasing_to": 0.01, "blur": 0.1, "erasing_ratio": 0.1}

UNLIKE = "unlike"
"""Parameter of the URL: what is not as in the run whose pipeline is open, as no slider at its default is in the URL."""

ANY_CLASS = -1
MOST_SAMPLES = 48
MOST_IMAGES = 64
MOST_ROWS = 6
MOST_FED = 48
BATCH = 16
STEPS = 9

MILD = {"rotation": 45.0, "cutout": 20, "crop_padding": 10, "translation": 0.3, "scaling": 0.6, "crop_scale": 0.2}
"""Above these, and below that of a resized crop, an image of 32 pixels may no longer show what its label says."""

RISKS = {
    "rotation": "turned further than {}°, some things become others (a 6 a 9) or look as no photo does",
    "cutout": "a hole of more than {} of 32 pixels can hide the whole object",
    "crop_padding": "shifts by more than {} of 32 pixels can move the object out of the picture",
    "translation": "shifts by more than {} of the side can move the object out of the picture",
    "scaling": "changed by more than {} of its size, the object can be too small or too large to know",
    "crop_scale": "a crop of less than {} of the area can miss the object",
}


@dataclass(frozen=True)
class Strip:
    """One setting from weak to strong, and the others beside it.

    Args:
        how: All settings of `cifar_core.transforms.Augmentation`, as pairs.
        along: The setting that takes the values.
        values: From doing nothing to the strongest.
        others: What is done with the other transforms, in words.
    """

    how: tuple[tuple[str, Any], ...]
    along: str
    values: tuple[float, ...]
    others: str


@dataclass(frozen=True)
class Subject:
    """The images to augment: indices in a split, with their classes."""

    split: str
    indices: tuple[int, ...]
    names: tuple[str, ...]


def choose_view() -> str:
    """What is drawn many times: one image, many images, or one slider."""
    return st.segmented_control(
        "View", VIEWS, default=DRAWS, key="view", bind="query-params", required=True, label_visibility="collapsed"
    )


def choose_images(info: DataInfo, data: DataSet, view: str) -> Subject | None:
    """An image by its index, or with others after it; None where the split has none of the class."""
    split = images.choose_split("Only training images are augmented in a training; here test images may be, too.")
    labels: NDArray[np.int64] = getattr(data, split).labels
    selecting.say_elsewhere(info, split)
    selected = selecting.images_of(info, split)
    wanted = st.selectbox(
        "Class",
        [ANY_CLASS, *range(len(info.classes))],
        format_func=lambda k: "Any class" if k == ANY_CLASS else info.classes[k],
        key="class",
        bind="query-params",
        on_change=_first_of_class,
        args=(labels, selected),
    )
    pool = _members(labels, wanted, selected)
    if not len(pool):
        which = f"The {images.SPLITS[split]} split" if selected is None else "The selection"
        of = "" if wanted == ANY_CLASS else f" of {ui.plain(info.classes[wanted])}"
        st.info(f"{which} has no image{of}.")
        return None
    # A link, or another split, can ask for an index at which there is an image of another class.
    asked = str(st.session_state.get("image", st.query_params.get("image", 0)))
    nearest = int(pool[min(np.searchsorted(pool, int(asked) if ui.is_below(asked, 10**9) else 0), len(pool) - 1)])
    if asked != str(nearest):
        st.session_state["image"] = nearest
    with st.container(horizontal=True, vertical_alignment="bottom"):
        first = ui.whole_number(
            "Index in the split" if view != IMAGES else "First index",
            0,
            len(labels) - 1,
            key="image",
            on_change=_class_of_image,
            args=(labels,),
            help="As below the images on the Data page.",
            width=125,
        )
        st.button("Another", icon=":material/casino:", on_click=_another, args=(labels, selected))
    count = 1
    if view == IMAGES:
        count = st.slider("Images", 4, MOST_IMAGES, 24, step=4, key="many", bind="query-params")
    start = int(np.searchsorted(pool, first))
    chosen = np.take(pool, range(start, start + min(count, len(pool))), mode="wrap")
    return Subject(split, tuple(chosen.tolist()), tuple(info.classes[k] for k in labels[chosen]))


def _members(labels: NDArray[np.int64], wanted: int, selected: NDArray[np.int64] | None) -> NDArray[np.int64]:
    """The images of a class, of all or of those selected."""
    members = np.arange(len(labels)) if wanted == ANY_CLASS else np.flatnonzero(labels == wanted)
    return members if selected is None else np.intersect1d(members, selected)


def _first_of_class(labels: NDArray[np.int64], selected: NDArray[np.int64] | None) -> None:
    wanted = st.session_state["class"]
    members = _members(labels, wanted, selected)
    if wanted != ANY_CLASS and len(members):
        st.session_state["image"] = int(members[0])


def _class_of_image(labels: NDArray[np.int64]) -> None:
    if st.session_state["class"] not in (ANY_CLASS, labels[st.session_state["image"]]):
        st.session_state["class"] = ANY_CLASS


def _another(labels: NDArray[np.int64], selected: NDArray[np.int64] | None) -> None:
    members = _members(labels, st.session_state["class"], selected)
    others = members[members != st.session_state["image"]]
    if len(others):
        st.session_state["image"] = int(np.random.default_rng().choice(others))


# The pipeline --------------------------------------------------------------------------------------------------------


def choose_pipeline() -> dict[str, Any]:
    """A slider for each transform and one for its probability, with the bounds and the help of a training's settings.

    Returns:
        All settings of `PIPELINE`; one that has no effect beside the others has its default.
    """
    values = {name: FIELDS[name].default for name in PIPELINE}
    for part, names in PARTS.items():
        with st.expander(part, expanded=part == "Geometry"):
            for name in names:
                if not _matters(name, values):
                    continue
                values[name] = _widget(name)
                often = f"{name}_probability"
                if often in FIELDS and _matters(often, values):
                    values[often] = _widget(often)
    if values["erasing_from"] > values["erasing_to"]:
        st.warning(
            "The smallest erased area is above the largest; both are the largest now.", icon=":material/warning:"
        )
        values["erasing_from"] = values["erasing_to"]
    risks = [
        RISKS[name].format(f"{limit:g}")
        for name, limit in MILD.items()
        if (values[name] < limit if name == "crop_scale" else values[name] > limit)
    ]
    if risks:
        st.warning(f"The label may stop being true: {'; '.join(risks)}.", icon=":material/warning:")
    return values


def _matters(name: str, values: dict[str, Any]) -> bool:
    """Whether a setting has an effect beside the others; those of no pipeline are as usual."""
    return all(
        values.get(other, FIELDS[other].default) in wanted for other, wanted in FIELDS[name].metadata["used_by"].items()
    )


def _widget(name: str) -> Any:
    about, plain = FIELDS[name].metadata, FIELD_TYPES[name][0]
    given: dict[str, Any] = {"key": name, "bind": "query-params", "help": about["help"], "on_change": _draw_anew}
    if about["choices"]:
        first = about["choices"].index(FIELDS[name].default)
        return st.selectbox(label(name), about["choices"], first, format_func=settings.spoken, **given)
    step = 1 if plain is int else FINE.get(name) or (1.0 if about["high"] > 10 else 0.05)
    low, high, begin = plain(about["low"]), plain(about["high"]), plain(FIELDS[name].default)
    return st.slider(label(name), low, high, begin, step, "%d" if step >= 1 else "%.2f", **given)


def is_off(how: dict[str, Any]) -> bool:
    """Whether nothing is done to the images."""
    return how["policy"] == "none" and all(
        how[name] == NEUTRAL.get(name, 0) for name in PIPELINE if name in SCALED and name != "policy_probability"
    )


def is_mixed(how: dict[str, Any]) -> bool:
    """Whether images are mixed with others."""
    return any(how[name] for name in MIXING)


def in_words(how: dict[str, Any]) -> str:
    """A pipeline in a line: what is on, in the order in which it is applied."""
    said = []
    for name in PIPELINE:
        describes = name.endswith(("_probability", "_mode")) or name.startswith(("policy_", "erasing_"))
        if describes or how[name] == NEUTRAL.get(name, 0):
            continue
        value = settings.spoken(how[name]) if name == "policy" else f"{label(name)} {how[name]:g}"
        if name == "policy" and how[name] == "randaugment":
            value += f" {how['policy_operations']} × {how['policy_magnitude']}"
        mode = f"{name}_mode"
        if mode in how and how[mode] != FIELDS[mode].default:
            value += f" ({how[mode]})"
        if name == "erasing":
            value += f" of {how['erasing_from']:.0%} to {how['erasing_to']:.0%}"
        often = how.get(f"{name}_probability", 1)
        said.append(value if often == 1 else f"{value} ({often:.0%} of images)")
    return " → ".join(said) or "nothing"


def of_run(config: TrainConfig) -> dict[str, Any]:
    """The pipeline of a run as it is in force, its strength taken into account."""
    return {name: config.amount(name) for name in PIPELINE}


def open_run() -> tuple[Run, dict[str, Any]] | None:
    """A list of runs, whose pipeline and normalisation the sliders take over; also from a link with `pipeline=`.

    Returns:
        The run that was opened last, with its pipeline.
    """
    runs = {run.id: run for run in list_runs(ui.place().runs)}
    if not runs:
        return None
    asked = st.query_params.get("pipeline")
    # On another visit of the page its sliders have been forgotten.
    if asked is not None and (asked != st.session_state.get("pipeline_opened") or "flip" not in st.session_state):
        if asked in runs:
            st.session_state["pipeline_choice"] = asked
            _take_over({*st.query_params, *st.query_params.get(UNLIKE, "").split(".")})
        else:
            st.warning(ui.plain(f"There is no run {asked[:80]!r} here any more."), icon=":material/link_off:")
            del st.query_params["pipeline"]
    chosen = st.selectbox(
        "Open the pipeline of a run",
        list(runs),
        index=None,
        format_func=lambda name: charts.run_label(runs[name]),
        key="pipeline_choice",
        on_change=_take_over,
        placeholder="Choose a run",
    )
    if trouble := st.session_state.pop("pipeline_trouble", None):
        st.error(ui.plain(trouble))
    if chosen is None or st.session_state.get("pipeline_opened") != chosen:
        st.query_params.pop("pipeline", None)
        return None
    st.query_params["pipeline"] = chosen
    return runs[chosen], of_run(runs[chosen].settings)


def _take_over(given: set[str] | None = None) -> None:
    """Set the sliders to what a run does.

    Args:
        given: Names of what a link sets by itself.
    """
    chosen = st.session_state["pipeline_choice"]
    st.session_state.pop("pipeline_opened", None)
    if not chosen:
        st.query_params.pop("pipeline", None)
        return
    try:
        config = find_run(chosen, ui.place().runs).config
    except RunError as error:
        st.session_state["pipeline_trouble"] = str(error)
        return
    st.session_state["pipeline_opened"] = chosen
    for name, value in {**of_run(config), "normalisation": config.normalisation}.items():
        if name not in (given or ()):
            st.session_state[name] = value


def show_pipeline(how: dict[str, Any], kind: str, opened: tuple[Run, dict[str, Any]] | None) -> None:
    """The pipeline in words, whose it is, and the way to train with it."""
    st.markdown(f"**Pipeline:** {ui.plain(in_words(how))}")
    if opened is None:
        st.query_params.pop(UNLIKE, None)
    else:
        run, theirs = opened
        unlike = [name for name in PIPELINE if _matters(name, how) and how[name] != theirs[name]]
        other = [f"{label(name)} {charts.said(theirs[name])}" for name in unlike]
        unlike += ["normalisation"] if kind != run.settings.normalisation else []
        if unlike:
            st.query_params[UNLIKE] = ".".join(unlike)
        else:
            st.query_params.pop(UNLIKE, None)
        name = ui.plain(charts.run_name(run))
        st.caption(
            f"As in run {name}" + (f", except for what is there {ui.plain(', '.join(other))}." if other else ".")
        )
    settings.hand_over("Use for training", {**how, "augmentation_strength": 1.0, "normalisation": kind})
    st.caption("The form of a new run then has this pipeline and this normalisation.")


# What comes out ------------------------------------------------------------------------------------------------------


def choose_draw(view: str) -> tuple[int, int]:
    """How many samples of each image, and the seed they are drawn by."""
    if view == DRAWS:
        samples = st.slider("Draws of the image", 1, MOST_SAMPLES, 12, key="samples", bind="query-params")
    elif view == STRIP:
        samples = st.slider("Draws, one below the other", 1, MOST_ROWS, 3, key="rows", bind="query-params")
    else:
        samples = 1
    about = FIELDS["seed"].metadata
    with st.container(horizontal=True, vertical_alignment="bottom"):
        seed = ui.whole_number(
            "Seed",
            int(about["low"]),
            int(about["high"]),
            key="seed",
            help="The same seed gives the same samples again.",
            width=125,
        )
        st.button("New draw", icon=":material/refresh:", on_click=_new_draw, help="Goes on to the next seed.")
    st.toggle(
        "Lock the seed",
        True,
        key="locked",
        bind="query-params",
        help="Locked, a slider changes how strong a transform is and not what chance decides, so that before and after "
        "compare. Unlocked, each change draws anew.",
    )
    return samples, seed


def _draw_anew() -> None:
    if not st.session_state.get("locked", True):
        _new_draw()


def _new_draw() -> None:
    st.session_state["seed"] = (st.session_state.get("seed", 0) + 1) % (int(FIELDS["seed"].metadata["high"]) + 1)


def hold(how: dict[str, Any]) -> dict[str, Any] | None:
    """A pipeline that was put aside to compare with, if there is one."""
    with st.container(horizontal=True, vertical_alignment="center"):
        if st.button(
            "Hold as before",
            icon=":material/push_pin:",
            help="Keeps what is done now, to compare what follows with it.",
        ):
            st.session_state["before"] = how
        if "before" in st.session_state and st.button("Let go", icon=":material/close:"):
            del st.session_state["before"]
        if before := st.session_state.get("before"):
            st.markdown(f"Before: {ui.plain(in_words(before))}", width="content")
    return before


def augmented(
    info: DataInfo, subject: Subject, samples: int, how: dict[str, Any], seed: int, kind: str
) -> batches.Samples:
    """The samples, kept for as long as the settings come back."""
    key = tuple((name, how[name]) for name in TRANSFORMS)
    place = ui.place()
    return batches.augmented(
        info.id, info.fingerprint, place.cache, subject.split, subject.indices, samples, key, seed, kind
    )


def show_samples(info: DataInfo, subject: Subject, made: batches.Samples, before: batches.Samples | None) -> None:
    """What became of the images, and of one held before at the same draws."""
    count, samples = made.samples.shape[:2]
    split = images.SPLITS[subject.split]
    many = count > 1
    held = " Each is shown as it was held before, then as it is now." if before else ""
    what = (
        f"{count} {split} images of {ui.plain(info.name)}, each as it is and as one draw makes it"
        if many
        else f"One {split} image of {ui.plain(info.name)}, {samples} {'draws' if samples > 1 else 'draw'}"
    )
    st.caption(f"{what}. Transforms are applied in the order of the pipeline.{held} Below stands what chance decided.")
    if many:
        _show_many(subject, made, before)
        return
    name, index = subject.names[0], subject.indices[0]
    about = f"{name}, {split} index {index}"
    rows = [([made.originals[0]], [f"original: {charts.brief(name)} {index}"], [f"{about}, original"])]
    for title, which in (("before", before), ("now" if before else "", made)):
        if which:
            said = [f"{title}: {words}" if title else words for words in which.captions[0]]
            rows.append((which.samples[0], said, [f"{about}, augmented, {words}" for words in said]))
    if not before:
        (first, *_), second = rows
        rows = [(np.concatenate([first, second[0]]), [*rows[0][1], *second[1]], [*rows[0][2], *second[2]])]
    st.html(charts.sample_rows(rows, 96))


def _show_many(subject: Subject, made: batches.Samples, before: batches.Samples | None) -> None:
    """Original, what was held before, and draw, side by side for each image."""
    gap = np.full((len(made.originals), 3, made.originals.shape[2], 2), 128, np.uint8)
    columns = [made.originals, *([before.samples[:, 0]] if before else []), made.samples[:, 0]]
    wide = np.concatenate([part for column in columns for part in (gap, column)][1:], axis=3)
    said = "original, before and now" if before else "original and augmented"
    ui.gallery(
        wide,
        [
            f"{charts.brief(name, 12)} {i}: {m[0]}"
            for name, i, m in zip(subject.names, subject.indices, made.marks, strict=True)
        ],
        [
            f"{name}, {images.SPLITS[subject.split]} index {i}, {said}: {words[0]}"
            for name, i, words in zip(subject.names, subject.indices, made.captions, strict=True)
        ],
        size=72,
    )
    st.caption(f"Signs: {batches.SIGNS}.")


def called(name: str) -> str:
    """A setting in the middle of a sentence."""
    said = label(name)
    return said if said[1:2].isupper() else said[0].lower() + said[1:]


def along() -> list[str]:
    """What a strip can go along: all that has a strength."""
    return [name for name in TRANSFORMS if name in SCALED and name != "policy_probability"] + [
        "policy_magnitude",
        "policy_probability",
    ]


def values_along(name: str) -> tuple[float, ...]:
    """From doing nothing to the strongest, evenly; whole numbers where the setting is one."""
    about, plain = FIELDS[name].metadata, FIELD_TYPES[name][0]
    weak, strong = (1.0, about["low"]) if name == "crop_scale" else (about["low"], about["high"])
    return tuple(
        plain(round(weak + (strong - weak) * i / (STEPS - 1), None if plain is int else 6)) for i in range(STEPS)
    )


def show_strip(info: DataInfo, subject: Subject, draws: int, how: dict[str, Any], seed: int) -> Strip:
    """One image along one slider, a row for each draw."""
    with st.container(horizontal=True, vertical_alignment="bottom"):
        chosen = st.selectbox(
            "Along the slider",
            along(),
            index=along().index("rotation"),
            format_func=label,
            key="along",
            bind="query-params",
            width=260,
        )
        too = st.toggle(
            "The other transforms too",
            key="others",
            bind="query-params",
            help="Off, nothing but this transform is done; on, all others are done as the sliders say.",
        )
    base = {name: how[name] if too else FIELDS[name].default for name in TRANSFORMS}
    if not too:
        base |= {name: NEUTRAL.get(name, 0) for name in TRANSFORMS if name in SCALED and name != "policy_probability"}
        base |= {name: how[name] for name in TRANSFORMS if name.startswith((f"{chosen}_", "policy_"))}
        base["policy"] = how["policy"] if chosen == "policy_probability" else "none"
    if chosen == "policy_magnitude" or (chosen == "policy_probability" and base["policy"] == "none"):
        base["policy"] = "randaugment"
    values = values_along(chosen)
    place = ui.place()
    strip = Strip(tuple(base.items()), chosen, values, "as the sliders say" if too else "off")
    made = batches.strip(
        info.id,
        info.fingerprint,
        place.cache,
        subject.split,
        subject.indices[0],
        draws,
        strip.how,
        chosen,
        values,
        seed,
    )
    about = f"{subject.names[0]}, {images.SPLITS[subject.split]} index {subject.indices[0]}"
    rows = [
        (row, [f"{about}, draw {i + 1}, {called(chosen)} {value:g}" for value in values]) for i, row in enumerate(made)
    ]
    st.html(charts.strip(rows, [f"{value:.3g}" for value in values]))
    policy = f" Policy: {settings.spoken(base['policy'])}." if base["policy"] != "none" else ""
    st.caption(
        f"{ui.plain(about)} of {ui.plain(info.name)}. {label(chosen)} from {values[0]:g} to {values[-1]:g}, other "
        f"transforms {strip.others}.{policy} Each row is one draw: chance decides the same for all of it, and only the "
        "strength grows."
    )
    return strip


def mixed(
    info: DataInfo, subject: Subject, how: dict[str, Any], samples: int, seed: int, kind: str
) -> batches.MixedBatch | None:
    """What MixUp and CutMix make of the images, or None where they are off."""
    if not is_mixed(how):
        return None
    key = tuple((name, how[name]) for name in PIPELINE)
    place = ui.place()
    return batches.mixed(
        info.id, info.fingerprint, place.cache, subject.split, subject.indices, samples, BATCH, key, seed, kind
    )


def show_mixed(subject: Subject, made: batches.MixedBatch) -> None:
    """Mixed images, with the labels that are asked for then."""
    st.subheader("Mixed with others", anchor=False)
    if len(subject.indices) > 1:
        what = f"These {len(subject.indices)} images are one batch"
    else:
        what = (
            f"Each draw is a batch of its own: this image, which is shown, and {BATCH - 1} that follow it in the split"
        )
    st.caption(
        f"{what}. After its own transforms each is mixed with another one of its batch, with one share for the batch, "
        "as a training does it. The label is mixed in the same proportion: below stands what the network is asked for."
    )
    ui.gallery(made.pictures, made.targets, [f"Mixed image, target {target}" for target in made.targets], size=96)


def show_fed(subject: Subject, made: batches.Samples, blended: batches.MixedBatch | None, kind: str) -> None:
    """The batch in the numbers that go into the network, mixed where the pipeline mixes."""
    table, fed = (blended.table, blended.fed) if blended else (made.table, made.fed)
    batches.show_table(table, "Shape, number format and range of the batch")
    pictures = fed.pictures[:MOST_FED]
    part = "" if len(pictures) == len(fed.pictures) else f"the first {len(pictures)} of "
    mixed = ""
    if blended and len(subject.indices) > 1:
        mixed = " This is the mixed batch shown above, with the labels that are asked for; it is normalised last."
    elif blended:
        mixed = (
            f" This is the whole batch of the first draw above: its image and the {BATCH - 1} after it in the split, "
            "mixed, with the labels that are asked for; it is normalised last."
        )
    st.caption(
        f"The pictures are {part}these very numbers, drawn so that the smallest of the batch, {fed.low:.2f}, is "
        f"black and the largest, {fed.high:.2f}, is white. They are made by the functions a training calls; "
        "validation and test images are normalised only. A network pretrained at 224 pixels enlarges them itself."
        f"{mixed}"
    )
    if blended:
        ui.gallery(
            pictures,
            blended.asked[:MOST_FED],
            [f"Mixed image normalised by {kind}, target {target}" for target in blended.asked[:MOST_FED]],
            size=96,
        )
        return
    per_image = made.samples.shape[1]
    of = [(subject.names[i // per_image], subject.indices[i // per_image]) for i in range(len(pictures))]
    ui.gallery(
        pictures,
        [f"{charts.brief(name)} {index} #{i % per_image + 1}" for i, (name, index) in enumerate(of)],
        [
            f"{name}, {images.SPLITS[subject.split]} index {index}, augmented and normalised by {kind}"
            for name, index in of
        ],
        size=64,
    )
