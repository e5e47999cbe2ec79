"""Many small images at once: one picture that holds them all, cut up by the browser, and a click that says which."""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import streamlit as st
from numpy.typing import NDArray
from PIL import Image

from pages.ui import charts, loaders

COLUMNS = 50
"""Images in a row of the picture that holds them all."""

_HTML = '<div class="sheet" role="group"></div>'

_CSS = """
.sheet {
  display: grid;
  gap: 4px;
  justify-items: center;
  align-items: start;
  font-family: var(--st-font);
  color: var(--st-text-color);
  max-height: var(--most);
  overflow-y: auto;
  padding: 3px;
}
.sheet button {
  all: unset;
  box-sizing: border-box;
  cursor: pointer;
  width: var(--side);
  min-width: 0;
  text-align: center;
  border-radius: 4px;
}
.sheet button:hover i, .sheet button:focus-visible i { outline: 2px solid var(--st-primary-color); }
.sheet button:focus-visible { outline: 2px solid var(--st-primary-color); outline-offset: 2px; }
.sheet i {
  display: block;
  width: var(--side);
  height: var(--side);
  image-rendering: pixelated;
  background-image: var(--picture);
  background-repeat: no-repeat;
  border-radius: 3px;
}
.sheet button.wrong i { box-shadow: 0 0 0 2px #D55E00; }
.sheet button[aria-pressed=true] i { outline: 3px solid var(--st-primary-color); outline-offset: -1px; }
.sheet span {
  display: block;
  font-size: 0.68rem;
  line-height: 1.15;
  padding-top: 1px;
  overflow: hidden;
  text-overflow: ellipsis;
  overflow-wrap: anywhere;
}
"""

_JS = """
const known = new WeakMap();

export default function (component) {
  const { data, parentElement, setTriggerValue } = component;
  const sheet = parentElement.querySelector(".sheet");
  const before = known.get(sheet);
  if (before && before.name === data.name) {
    before.watch();
    return before.leave;
  }
  if (before) before.leave();

  // A plain loop: a function called for each of half a million bytes takes tenths of a second on a busy machine.
  const signs = atob(data.picture), bytes = new Uint8Array(signs.length);
  for (let place = 0; place < signs.length; place++) bytes[place] = signs.charCodeAt(place);
  const url = URL.createObjectURL(new Blob([bytes], { type: "image/png" }));
  sheet.setAttribute("aria-label", data.label);
  sheet.style.setProperty("--side", data.side + "px");
  sheet.style.setProperty("--picture", `url(${url})`);
  sheet.style.setProperty("--most", data.most + "px");
  // Images that belong together stay in one row.
  const fit = () => {
    const columns = Math.floor((sheet.clientWidth - 2) / (data.side + 4));
    const whole = Math.max(columns - (columns % data.together), data.together);
    sheet.style.gridTemplateColumns = `repeat(${whole}, minmax(0, 1fr))`;
  };
  const resized = new ResizeObserver(fit);
  const watch = () => data.together > 1 && resized.observe(sheet);
  const leave = () => {
    resized.disconnect();
    URL.revokeObjectURL(url);
  };
  known.set(sheet, { name: data.name, watch, leave });
  if (data.together === 1) sheet.style.gridTemplateColumns = `repeat(auto-fill, minmax(${data.side}px, 1fr))`;
  watch();
  sheet.scrollTop = 0;
  const marked = new Set();
  const cells = data.alts.map((alt, place) => {
    const cell = document.createElement("button");
    cell.type = "button";
    cell.title = alt;
    cell.setAttribute("aria-label", alt);
    cell.tabIndex = place ? -1 : 0;
    if (data.wrong[place]) cell.className = "wrong";
    const image = document.createElement("i");
    const column = place % data.columns, row = Math.floor(place / data.columns);
    image.style.backgroundSize = `${data.columns * data.side}px auto`;
    image.style.backgroundPosition = `-${column * data.side}px -${row * data.side}px`;
    cell.append(image);
    if (data.captions.length) {
      const caption = document.createElement("span");
      caption.textContent = data.captions[place];
      cell.append(caption);
    }
    cell.onclick = (event) => {
      if (event.shiftKey || event.ctrlKey || event.metaKey) {
        marked.has(place) ? marked.delete(place) : marked.add(place);
        cell.setAttribute("aria-pressed", marked.has(place));
        setTriggerValue("marked", { name: data.name, places: [...marked] });
      } else {
        setTriggerValue("picked", { name: data.name, place });
      }
    };
    return cell;
  });
  const move = (from, by) => {
    const to = cells[Math.min(Math.max(from + by, 0), cells.length - 1)];
    cells[from].tabIndex = -1;
    to.tabIndex = 0;
    to.focus();
  };
  sheet.onkeydown = (event) => {
    const place = cells.indexOf(parentElement.activeElement ?? document.activeElement);
    const width = Math.max(getComputedStyle(sheet).gridTemplateColumns.split(" ").length, 1);
    const by = { ArrowRight: 1, ArrowLeft: -1, ArrowDown: width, ArrowUp: -width }[event.key];
    if (place < 0 || !by) return;
    event.preventDefault();
    move(place, by);
  };
  sheet.replaceChildren(...cells);
  return leave;
}
"""

_component = st.components.v2.component("cifar_sheet", html=_HTML, css=_CSS, js=_JS)


def show(
    data_id: str,
    fingerprint: str,
    cache: Path,
    places: Sequence[tuple[str, int]],
    captions: Sequence[str],
    alts: Sequence[str],
    key: str,
    *,
    label: str,
    side: int = 64,
    most: int = 640,
    together: int = 1,
    wrong: Sequence[bool] | None = None,
    on_pick: Callable[[int], None] | None = None,
    on_mark: Callable[[list[int]], None] | None = None,
) -> str:
    """Show images of a data set.

    Args:
        places: Split and index of each.
        captions: One line below each; none where there is no room.
        alts: What a screen reader says of each.
        label: What all of it is.
        side: Of an image on the page, in CSS pixels.
        most: Height from which it scrolls, likewise.
        together: How many images after each other belong together.
        wrong: Which are framed as wrong; what is framed must say so in its alt too.
        on_pick: Is told the place of the image that is clicked.
        on_mark: Is told the places of all that are marked by a click with Shift or Control.

    Returns:
        What stands for all that is shown: another sheet, in which nothing is marked, has another name.
    """
    splits, indices = tuple(split for split, _ in places), np.array([index for _, index in places], np.int64)
    picture = _picture(data_id, fingerprint, cache, splits, indices.tobytes())
    content = repr((data_id, fingerprint, places, captions, alts, side, most, together, wrong))
    return _mount(content, picture, captions, alts, key, label, side, most, together, wrong, on_pick, on_mark)


def show_pictures(
    pictures: NDArray[np.uint8],
    captions: Sequence[str],
    alts: Sequence[str],
    key: str,
    *,
    label: str,
    side: int = 64,
    most: int = 640,
    on_pick: Callable[[int], None] | None = None,
) -> None:
    """Show pictures (N, 3, H, W) that are of no data set; else as `show`."""
    picture = base64.b64encode(charts.png(Image.fromarray(montage(pictures)))).decode()
    content = hashlib.sha256(picture.encode()).hexdigest() + repr((captions, alts, side, most))
    _mount(content, picture, captions, alts, key, label, side, most, 1, None, on_pick, None)


def _mount(
    content: str,
    picture: str,
    captions: Sequence[str],
    alts: Sequence[str],
    key: str,
    label: str,
    side: int,
    most: int,
    together: int,
    wrong: Sequence[bool] | None,
    on_pick: Callable[[int], None] | None,
    on_mark: Callable[[list[int]], None] | None,
) -> str:
    name = hashlib.sha256(content.encode()).hexdigest()[:16]

    def told(what: str, listener: Callable[[Any], None] | None) -> Callable[[], None]:
        def tell() -> None:
            said = getattr(st.session_state[key], what)
            # Of another sheet, if the page has changed meanwhile.
            if listener and said and said["name"] == name:
                listener(said["place"] if what == "picked" else [int(place) for place in said["places"]])

        return tell

    _component(
        key=key,
        data={
            "name": name,
            "picture": picture,
            "columns": min(COLUMNS, max(len(alts), 1)),
            "captions": list(captions),
            "alts": list(alts),
            "wrong": list(wrong or [False] * len(alts)),
            "side": side,
            "most": most,
            "together": together,
            "label": label,
        },
        on_picked_change=told("picked", on_pick),
        on_marked_change=told("marked", on_mark),
    )
    return name


@st.cache_data(max_entries=24, show_spinner=False)
def _picture(data_id: str, fingerprint: str, cache: Path, splits: tuple[str, ...], indices: bytes) -> str:
    """All images in one PNG file, in base64."""
    data, places = loaders.data_set(data_id, fingerprint, cache), np.frombuffer(indices, np.int64)
    images = np.zeros((len(places), *data.train.images.shape[1:]), np.uint8)
    for split in ("train", "test"):
        here = np.array([one == split for one in splits], bool)
        # In the order on the disk, which a file that is not in memory yet is read in much faster.
        order = np.argsort(places[here], kind="stable")
        images[np.flatnonzero(here)[order]] = getattr(data, split).images[places[here][order]]
    return base64.b64encode(charts.png(Image.fromarray(montage(images)))).decode()


def montage(images: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Images (N, 3, H, W) side by side as one (rows * H, columns * W, 3), black where there is none."""
    count, channels, height, width = images.shape
    columns = min(COLUMNS, max(count, 1))
    rows = -(-max(count, 1) // columns)
    whole = np.zeros((rows * columns, channels, height, width), np.uint8)
    whole[:count] = images
    whole = whole.reshape(rows, columns, channels, height, width).transpose(0, 3, 1, 4, 2)
    return np.ascontiguousarray(whole.reshape(rows * height, columns * width, channels))
