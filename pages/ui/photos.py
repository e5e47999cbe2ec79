"""Photos of the visitor's own: bring some, choose one of them, and cut the square that the network gets.

They are kept in the visitor's session alone: in its state, and in caches with the scope of a session.
"""

from __future__ import annotations

import base64
import hashlib
import io
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import NamedTuple
from urllib.parse import unquote, urlsplit

import numpy as np
import streamlit as st
from numpy.typing import NDArray
from PIL import Image, ImageDraw
from streamlit.delta_generator import DeltaGenerator

from cifar_core import fetching
from cifar_core.photos import (
    CENTRE,
    GREY,
    MAX_JPEG_PIXELS,
    MAX_PIXELS,
    Box,
    PhotoError,
    read_photo,
    region,
    square,
    stored_size,
    to_input,
)
from pages import ui
from pages.ui import charts, examples, framing, loaders

FITS = {"crop": "Crop", "pad": "Keep all, add bars"}

MOST, MOST_BYTES = 24, 100_000_000
"""So many photos of a visitor are kept, and no more than this of their files together."""

SHOWN_SIDE = 512
"""Pixels of a side of a photo on a page, where it takes at most 480 units: sharp enough, quick to draw and to send."""

PREVIEW = (480, 320)
"""Pixels that the whole photo takes at most."""

GRABBED, HIGHEST, SLIVER = 120, 480, 24
"""CSS pixels of its width from which its square is easily moved, of its height where it is made wider for that, and of
either side at least."""

EXAMPLE = 80  # CSS pixels of the width of an example: all four beside each other on the narrowest screens.
THUMB = 104
"""Likewise of one of several photos, whose names are longer."""

CLICKABLE = f"""<style>
[class*=st-key-card-] [data-testid=stElementToolbar] {{ display: none; }}
[class*=st-key-card-]:has(img) button {{ position: relative; }}
[class*=st-key-card-]:has(img) button::before {{
  content: ""; position: absolute; inset: calc(-{EXAMPLE}px - 1rem) 0 0; cursor: pointer;
}}
</style>"""
"""A picture chooses as its button does, which reaches over it."""

OUTLINE = (230, 159, 0)


@dataclass(frozen=True, eq=False)
class Subject:
    """What the network is asked about.

    Args:
        name: What captions and screen readers call it.
        digest: Stands for `picture` in caches.
        picture: Square, RGB; what the heat is drawn over on the page.
        whole: Gives the same, as large as there is, for the download.
        pixels: (3, H, W), what the network sees.
        true: Its class in [0, K), where it is known.
        draw_rest: Draws what nobody waits for, once there is an answer.
        verdict_place: Where the answer in a word belongs, where that is beside the picture.
    """

    name: str
    digest: str
    picture: Image.Image
    whole: Callable[[], Image.Image]
    pixels: NDArray[np.uint8]
    true: int | None = None
    draw_rest: Callable[[], object] | None = None
    verdict_place: DeltaGenerator | None = None


@dataclass(frozen=True)
class Upload:
    """A file that a visitor brought.

    Args:
        source: Where it comes from: "camera", "example", or empty for all others.
        box: The square that is cut from it.
    """

    name: str
    content: bytes = field(repr=False)
    source: str = ""
    box: Box = CENTRE

    @cached_property
    def digest(self) -> str:
        return hashlib.sha256(self.content).hexdigest()


@dataclass(frozen=True, eq=False)
class Views:
    """What is shown of a photo.

    Args:
        width, height: Of all of it, pixels.
        square: The part the network gets, large enough for a screen.
        pixels: (3, 32, 32), what the network sees.
    """

    width: int
    height: int
    square: Image.Image
    pixels: NDArray[np.uint8]


@st.cache_resource(max_entries=2, show_spinner=False, scope="session")
def decoded(digest: str, _content: bytes, _name: str = "the file") -> Image.Image:
    """A photo of this visitor.

    Raises:
        PhotoError: The content cannot be read as a picture.
    """
    return read_photo(_content, _name)


@st.cache_resource(max_entries=8, show_spinner=False, scope="session")
def views(digest: str, fit: str, box: Box, _content: bytes) -> Views:
    """What is shown of a photo of this visitor.

    Raises:
        PhotoError: The content cannot be read as a picture.
    """
    photo = decoded(digest, _content)
    shown = square(photo, fit, box)
    shown.thumbnail((SHOWN_SIDE, SHOWN_SIDE), reducing_gap=1.1)
    return Views(*photo.size, shown, to_input(photo, fit=fit, box=box))


@st.cache_data(max_entries=8, show_spinner=False, scope="session")
def preview(digest: str, fit: str, box: Box, _content: bytes) -> bytes:
    """All of a photo of this visitor, small, with the square drawn in, as a PNG file."""
    return charts.png(framed(decoded(digest, _content), fit, box))


@st.cache_data(max_entries=8, show_spinner=False, scope="session")
def small_copy(digest: str, _content: bytes) -> tuple[str, tuple[int, int]]:
    """All of a photo of this visitor, small, as a data URL, with the width and height at which it is shown.

    A narrow one is shown larger, as far as the page stays short; of a sliver neither side is less than can be seen.
    """
    photo = decoded(digest, _content)
    factor = min(*(most / length for most, length in zip(PREVIEW, photo.size, strict=True)), 1)
    size = max(round(photo.width * factor), 1), max(round(photo.height * factor), 1)
    file = io.BytesIO()
    photo.resize(size, reducing_gap=1.5).convert("RGB").save(file, "JPEG", quality=85)
    return f"data:image/jpeg;base64,{base64.b64encode(file.getvalue()).decode()}", shown_at(*size)


def shown_at(width: int, height: int) -> tuple[int, int]:
    """CSS pixels at which a small copy of this size is shown."""
    factor = max(min(GRABBED / width, HIGHEST / height), 1)
    return max(round(width * factor), SLIVER), max(round(height * factor), SLIVER)


class Small(NamedTuple):
    """One of several photos: (3, 32, 32), what the network sees of it, and its square as a PNG file for the strip."""

    pixels: NDArray[np.uint8]
    thumbnail: bytes


@st.cache_data(max_entries=2 * MOST, show_spinner="Reading the photos", scope="session")
def small(digest: str, fit: str, box: Box, _content: bytes) -> Small | str:
    """A photo of this visitor, which is not kept in memory in full; or why it cannot be read."""
    try:
        cut = square(read_photo(_content), fit, box)
    except PhotoError as error:
        return str(error)
    pixels = to_input(cut)
    cut.thumbnail((THUMB, THUMB))
    return Small(pixels, charts.png(cut))


def framed(photo: Image.Image, fit: str, box: Box) -> Image.Image:
    """All of a photo, small, with the bars that its square adds; what the network does not get is dimmed."""
    left, top, side = region(*photo.size, fit, box)
    factor = min(*(most / length for most, length in zip(PREVIEW, photo.size, strict=True)), 1)
    small_size = max(round(photo.width * factor), 1), max(round(photo.height * factor), 1)
    shown = photo.resize(small_size, reducing_gap=1.5)
    scale = shown.width / photo.width
    x, y, length = (round(value * scale) for value in (left, top, side))
    before, above = max(-x, 0), max(-y, 0)
    board = Image.new("RGB", (max(shown.width, x + length) + before, max(shown.height, y + length) + above), GREY)
    board.paste(shown, (before, above))
    x, y = x + before, y + above
    if (length, length) == board.size:
        return board
    dimmed = Image.blend(board, Image.new("RGB", board.size), 0.55)
    dimmed.paste(board.crop((x, y, x + length, y + length)), (x, y))
    ImageDraw.Draw(dimmed).rectangle((x, y, x + length - 1, y + length - 1), outline=OUTLINE, width=3)
    return dimmed


def kept() -> list[Upload]:
    """The photos of this visitor, in the order in which they came."""
    found: list[Upload] = st.session_state.get("kept_photos", [])
    return found


def add(uploads: Iterable[Upload]) -> None:
    """Keep photos and go to the last of them that can be read; one that is there already is not kept twice."""
    photos = {upload.digest: upload for upload in kept()}
    left_out, twice, taken = 0, [], []
    for upload in uploads:
        if (known := photos.get(upload.digest)) and known.source == upload.source == "":
            twice.append((upload.name, known.name))
        size = sum(len(other.content) for other in photos.values()) + len(upload.content)
        if upload.digest not in photos and (len(photos) >= MOST or size > MOST_BYTES):
            left_out += 1
            continue
        photos.setdefault(upload.digest, upload)
        taken.append(photos[upload.digest])
    if taken:
        st.session_state["chosen_photo"] = next(filter(_readable, reversed(taken)), taken[-1]).digest
    st.session_state["kept_photos"] = list(photos.values())
    st.session_state["photos_left_out"] = left_out
    st.session_state["photos_twice"] = twice


def _readable(upload: Upload) -> bool:
    try:
        decoded(upload.digest, upload.content, upload.name)
    except PhotoError:
        return False
    return True


def take_files(key: str) -> None:
    """Take over what was dropped on the field; it is another, empty one then, as the photos are listed below it."""
    files = st.session_state.get(key) or []
    add(Upload(file.name, file.getvalue()) for file in files)
    st.session_state["photo_fields"] = st.session_state.get("photo_fields", 0) + 1


def take_camera(key: str) -> None:
    """The picture in the camera's field, in place of the one before."""
    shot = st.session_state.get(key)
    st.session_state["kept_photos"] = [photo for photo in kept() if photo.source != "camera"]
    if shot:
        add([Upload("From the camera", shot.getvalue(), "camera")])


def take_example(name: str) -> None:
    """A drawn picture in place of the one before."""
    st.session_state["kept_photos"] = [photo for photo in kept() if photo.source != "example"]
    add([Upload(f"{name}.png", examples.content(name), "example")])


def choose(digest: str) -> None:
    """Look at this one."""
    st.session_state["chosen_photo"] = digest


def remove(digest: str = "") -> None:
    """Forget a photo, or all of them; the camera's field, which would hold its picture on, is another one then."""
    before = kept()
    st.session_state["kept_photos"] = [photo for photo in before if digest and photo.digest != digest]
    if any(photo.source == "camera" and photo not in kept() for photo in before):
        st.session_state["camera_fields"] = st.session_state.get("camera_fields", 0) + 1
    st.session_state["photos_left_out"], st.session_state["photos_twice"] = 0, []


def move_box(digest: str, key: str) -> None:
    """Take the square of a photo from the sliders."""
    size, across, down = (st.session_state[f"{key}-{part}"] / 100 for part in ("size", "across", "down"))
    put_box(digest, Box(size, across, down))


def put_box(digest: str, box: Box) -> None:
    st.session_state["kept_photos"] = [replace(photo, box=box) if photo.digest == digest else photo for photo in kept()]


def chosen() -> Upload | None:
    """The photo to look at: the one asked for, or the last."""
    photos = {photo.digest: photo for photo in kept()}
    asked = photos.get(st.session_state.get("chosen_photo", ""))
    return asked or next(reversed(photos.values()), None)


def choose_photo(camera: bool = False) -> tuple[Subject | None, str]:
    """A photo of the visitor's own, which stays until it is removed or the tab is closed, and how photos are cut."""
    given, shown = st.columns([3, 2], gap="medium")
    with given:
        if camera:
            key = f"camera-{st.session_state.get('camera_fields', 0)}"
            st.camera_input("A photo", key=key, on_change=take_camera, args=(key,))
        else:
            key = f"photo-{st.session_state.get('photo_fields', 0)}"
            # Of any type: the browser would refuse others without a word about what they are.
            st.file_uploader(
                "Photos (PNG, JPEG or WebP), one or several",
                key=key,
                accept_multiple_files=True,
                on_change=take_files,
                args=(key,),
                help=f"At most {MAX_PIXELS // 1_000_000} million pixels each, of JPEG {MAX_JPEG_PIXELS // 1_000_000} "
                "million.",
            )
            offer_examples()
            # Another one, and so folded again, once a picture has come.
            with st.expander("From an address", icon=":material/link:", key=f"from-address-{key}"):
                fetch()
        if left_out := st.session_state.get("photos_left_out"):
            st.warning(
                f"{left_out} more {'was' if left_out == 1 else 'were'} left out: up to {MOST} photos of together "
                f"{MOST_BYTES // 1_000_000} MB are kept.",
                icon=":material/photo_library:",
            )
        for name, known in st.session_state.get("photos_twice", []):
            same = f"“{name}” is" if name == known else f"“{name}” is the same picture as “{known}”, which is"
            st.info(ui.plain(f"{same} here already."), icon=":material/content_copy:")
        several, one = st.container(), st.container(horizontal=True, vertical_alignment="center")
    photo = chosen()
    if photo is None:
        given.caption(
            "Photos stay in the memory of this server until you remove them, or close or reload this tab, are never "
            "written to disk, and no other visitor sees them."
        )
        return None, "crop"
    with one:
        st.markdown(ui.plain(photo.name), width="content")
        st.button("Remove photo", icon=":material/delete:", on_click=remove, args=(photo.digest,))
        if len(kept()) > 1:
            st.button("Remove all", icon=":material/delete_sweep:", on_click=remove)
    with shown:
        verdict_place, whole_photo, below = st.container(), st.container(), st.container()

    def draw_strip() -> None:
        with several:
            strip(kept(), photo, fit)

    try:
        decoded(photo.digest, photo.content, photo.name)
    except PhotoError as error:
        given.error(ui.plain(str(error)), icon=":material/broken_image:")
        # What is chosen for others stays chosen, also while this one cannot be cut.
        fit = st.session_state["fit"] = _fit(st.session_state.get("fit"))
        draw_strip()
        return None, fit
    with below:
        fit = _fit(
            st.segmented_control(
                "Make it square",
                list(FITS),
                default="crop",
                format_func=FITS.__getitem__,
                key="fit",
                bind="query-params",
                required=True,
                label_visibility="collapsed",
            )
        )
    found = views(photo.digest, fit, photo.box, photo.content)

    def draw_rest() -> None:
        draw_strip()
        with below:
            st.caption(size_of(photo.digest, photo.content, found.width, found.height))
            with st.expander("Size and place of the square", icon=":material/crop:"):
                choose_box(photo, found, fit)
        if fit == "crop":
            with whole_photo:
                source, shown = small_copy(photo.digest, photo.content)
                framing.frame(
                    source, found.width, found.height, photo.box, photo.digest, shown,
                    "The whole photo; what the network does not get is dimmed",
                    lambda box: put_box(photo.digest, box),
                )  # fmt: skip
            return
        whole_photo.image(
            preview(photo.digest, fit, photo.box, photo.content),
            output_format="PNG",
            alt="The whole photo; what the network does not get is dimmed",
        )

    def whole() -> Image.Image:
        return square(decoded(photo.digest, photo.content), fit, photo.box)

    place = "-".join(f"{value:g}" for value in (photo.box.size, photo.box.across, photo.box.down))
    digest = f"{photo.digest}-{fit}-{place}"
    name = f"drawn example {photo.name.partition('.')[0]}" if photo.source == "example" else f"photo {photo.name}"
    return Subject(
        name, digest, found.square, whole, found.pixels, draw_rest=draw_rest, verdict_place=verdict_place
    ), fit


def _fit(asked: str | None) -> str:
    return asked if asked in FITS else "crop"


@st.cache_data(max_entries=MOST, show_spinner=False, scope="session")
def size_of(digest: str, _content: bytes, width: int, height: int) -> str:
    """How large a photo is, and what is worked on where that is less.

    Args:
        width, height: Of what is worked on, pixels.
    """
    whole = stored_size(_content)
    if (whole[0] > whole[1]) != (width > height):
        # As its orientation says.
        whole = whole[::-1]
    worked_on = f"{width:,} × {height:,} pixels"
    return (
        f"{worked_on}."
        if whole == (width, height)
        else f"{whole[0]:,} × {whole[1]:,} pixels, worked on at {worked_on}."
    )


def choose_box(photo: Upload, found: Views, fit: str) -> None:
    """Where the square lies and how large it is."""
    key = f"box-{photo.digest[:16]}"
    *_, side = region(found.width, found.height, fit, photo.box)
    parts = (
        ("size", "Size of the square", photo.box.size, 10, False),
        ("across", "From left to right", photo.box.across, 0, side == found.width),
        ("down", "From top to bottom", photo.box.down, 0, side == found.height),
    )
    for part, label, value, least, disabled in parts:
        st.session_state[f"{key}-{part}"] = round(100 * value)
        st.slider(
            label,
            least,
            100,
            format="%d%%",
            key=f"{key}-{part}",
            on_change=move_box,
            args=(photo.digest, key),
            disabled=disabled,
        )


def strip(photos: Sequence[Upload], photo: Upload, fit: str) -> None:
    """The photos that there are, to choose one."""
    if len(photos) > 1:
        with st.container(horizontal=True, gap="small"):
            for place, other in enumerate(photos, start=1):
                with st.container(width=THUMB):
                    if isinstance(cut := small(other.digest, fit, other.box, other.content), Small):
                        alt = f"Photo {place}: {other.name}"
                        st.image(cut.thumbnail, width="stretch", output_format="PNG", alt=alt)
                    else:
                        st.markdown(":material/broken_image: cannot be read")
                    st.button(
                        ui.plain(charts.brief(other.name)),
                        key=f"choose-{other.digest}",
                        on_click=choose,
                        args=(other.digest,),
                        type="primary" if other is photo else "secondary",
                        help=ui.plain(other.name),
                        width="stretch",
                    )


@st.cache_data(ttl=30, show_spinner=False)
def online() -> bool:
    """Whether this machine has a way to the internet."""
    return fetching.online()


def fetch() -> None:
    """A picture from an address, which the server fetches from the public internet alone."""
    there = online()
    with (
        st.form("address", border=False, enter_to_submit=True),
        st.container(horizontal=True, vertical_alignment="bottom"),
    ):
        url = st.text_input(
            "Or the address of a picture",
            placeholder="https://example.org/picture.jpg" if there else "This server has no network",
            max_chars=fetching.LONGEST,
            key="address",
            disabled=not there,
            help=f"http or https; at most {fetching.MOST_BYTES // 1_000_000} MB and {fetching.SECONDS:g} seconds. The "
            "server fetches it, from public addresses alone, and tells the other server nothing but its own address.",
        )
        asked = st.form_submit_button("Fetch", icon=":material/download:", disabled=not there)
    if not (asked and url.strip()):
        return
    try:
        with st.spinner("Fetching"), loaders.turns().aside():
            content = fetching.fetch_picture(url)
            read_photo(content, "what is at this address")
    except PhotoError as error:
        st.error(ui.plain(str(error)), icon=":material/link_off:")
        return
    parts = urlsplit(url.strip())
    name = unquote(parts.path.rpartition("/")[2]) or parts.hostname or "from an address"
    add([Upload(name[:80], content)])
    st.session_state["photo_fields"] = st.session_state.get("photo_fields", 0) + 1
    st.rerun()


def offer_examples() -> None:
    """Pictures to begin with, drawn by code; their names alone once there is a photo, whose answer comes below."""
    st.caption("Or one of these, drawn by code:")
    st.html(CLICKABLE)
    with st.container(horizontal=True, gap="xsmall"):
        for name, about in examples.ALL.items():
            with st.container(width=EXAMPLE, key=f"card-{name}"):
                if not kept():
                    st.image(examples.content(name), width="stretch", output_format="PNG", alt=about)
                st.button(name, key=f"example-{name}", on_click=take_example, args=(name,), width="stretch")
