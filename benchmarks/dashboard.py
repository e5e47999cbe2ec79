"""How quick the dashboard is: `make bench [DATA=path]`.

Prints medians of repeated trials in a headless Chromium: the first page after a start, a warm page switch, a photo to
its heat map, a step of the epoch slider, and the training's images per second with nobody watching against with the
Train page open, in turns.
"""

from __future__ import annotations

import argparse
import base64
import io
import json
import os
import platform
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from playwright.sync_api import Browser, Page

from benchmarks.driving import IDLE, ROOT, browser, open_page, serve, settle
from benchmarks.pictures import PICTURES
from cifar_core.datasets import open_cached
from tests.shapes import drawn_folder

PAGES = ("Overview", "Data", "Augment", "Train", "Compare", "Evaluate", "Features", "Explain")


def command_line(*words: str) -> dict[str, Any]:
    """Run a command of `python -m cifar_core` and read its JSON."""
    done = subprocess.run(
        [sys.executable, "-m", "cifar_core", *words, "--json"], cwd=ROOT, capture_output=True, text=True, check=True
    )
    return json.loads(done.stdout)


def report(what: str, trials: list[float], unit: str = "s", target: str = "") -> None:
    values = f"median {statistics.median(trials):.3f} {unit}, from {min(trials):.3f} to {max(trials):.3f}"
    print(f"{what}: {values}, {len(trials)} trials{f' (target: {target})' if target else ''}", flush=True)


def timed(action: Callable[[], object]) -> float:
    began = time.perf_counter()
    action()
    return time.perf_counter() - began


def first_page(chrome: Browser, words: list[str], log: Path) -> float:
    """From the start command to the first page drawn."""
    began = time.perf_counter()
    server = serve(words, log)
    page = chrome.new_context().new_page()
    try:
        open_page(page, server.url, "Overview")
        page.get_by_role("heading", name="Runs", exact=True).wait_for()
        return time.perf_counter() - began
    finally:
        page.context.close()
        server.stop()


def switch(page: Page, title: str) -> float:
    """From a click in the menu to the page's script having run and everything being drawn."""
    began = time.perf_counter()
    page.get_by_test_id("stSidebar").get_by_text(title, exact=True).click()
    page.get_by_role("heading", name=title, exact=True, level=1).wait_for()
    settle(page)
    return time.perf_counter() - began


def gallery(page: Page, url: str) -> float:
    """From asking for the address of the Data page, in a window of its own, to its images being drawn."""
    page.goto("about:blank")
    began = time.perf_counter()
    open_page(page, f"{url}/data", "Data")
    page.wait_for_selector(".sheet button")
    settle(page)
    return time.perf_counter() - began


def photo(cache: Path, name: str, index: int) -> bytes:
    """A test image as a large photo; of each the network is asked for the first time."""
    image = open_cached(name, cache).test.images[index]
    buffer = io.BytesIO()
    Image.fromarray(np.ascontiguousarray(image.transpose(1, 2, 0))).resize((1600, 1200 + index)).save(
        buffer, format="JPEG"
    )
    return buffer.getvalue()


def upload(page: Page, content: bytes) -> float:
    """From choosing a file to its heat map, or the sentence that there is none, being drawn."""
    height = Image.open(io.BytesIO(content)).height
    began = time.perf_counter()
    page.get_by_test_id("stFileUploaderDropzoneInput").set_input_files(
        [{"name": "photo.jpg", "mimeType": "image/jpeg", "buffer": content}]
    )
    # Every photo has a height of its own, which the page says once it has read it.
    page.get_by_text(f"1,600 × {height:,} pixels").wait_for()
    page.wait_for_selector(IDLE)
    page.wait_for_function(
        """() => {
            const shown = document.querySelector("img[alt^='Heat map'], [data-testid=stAlert]");
            return shown && (shown.tagName !== 'IMG' || (shown.complete && shown.naturalWidth > 0));
        }""",
        polling=5,
    )
    return time.perf_counter() - began


def first_photos(chrome: Browser, trials: int, home: Path) -> None:
    """A newcomer's photo to the prediction and heat map of the network that comes with the program: no run, no data."""
    cold, warm = [], []
    files = photos_of_visitor(0, 1, trials + 1)
    for _ in range(trials):
        server = serve(["--runs", str(home / "none"), "--cache", str(home / "nothing")], home / "log")
        page = chrome.new_context(viewport={"width": 1280, "height": 900}).new_page()
        try:
            page.goto(f"{server.url}/explain")
            # As soon as there is something to drop it on.
            page.get_by_test_id("stFileUploaderDropzoneInput").wait_for(state="attached")
            page.evaluate(PHOTOS_IN_THE_PAGE, files)
            took = []
            for index in range(len(files)):
                took.append(page.evaluate(DROPPED, index))
                settle(page)
            cold.append(took[0])
            warm += took[1:]
        finally:
            page.context.close()
            server.stop()
    report_photos(cold, "cold server, no run of one's own", target=3)
    report_photos(warm, "the network in the box, warm", target=0.3)


def photos_of_visitor(visitor: int, visitors: int, number: int) -> list[list[str]]:
    """Photos as base64, each with a name of its own, which what the page says of it ends in."""
    pictures = [np.asarray(draw()) for draw in PICTURES.values()]
    files: list[list[str]] = []
    for index in range(number):
        height, buffer = 1200 + visitors * index + visitor, io.BytesIO()
        Image.fromarray(pictures[index % len(pictures)]).resize((1600, height)).save(buffer, format="JPEG")
        files.append([base64.b64encode(buffer.getvalue()).decode(), f"{height}.jpg"])
    return files


def report_photos(took: list[list[float]], what: str, target: float) -> None:
    """Of each photo the seconds to its prediction and heat map, and to everything."""
    answered, ready = ([one[part] for one in took] for part in (0, 1))
    report(f"photo to prediction and Grad-CAM, {what}", answered, target=f"at most {target:g} s")
    print(f"    95th percentile {np.percentile(answered, 95):.3f} s", flush=True)
    report(f"photo to everything, with the ranges, {what}", ready)


PHOTOS_IN_THE_PAGE = """(files) => {
  const decode = (text) => Uint8Array.from(atob(text), (letter) => letter.charCodeAt(0))
  window.photos = files.map(([text, name]) => new File([decode(text)], name, { type: "image/jpeg" }))
}"""

DROPPED = """(index) => new Promise((done, failed) => {
  const file = window.photos[index], transfer = new DataTransfer()
  const input = document.querySelector("[data-testid=stFileUploaderDropzoneInput]")
  transfer.items.add(file)
  input.files = transfer.files
  const began = performance.now()
  input.dispatchEvent(new Event("change", { bubbles: true }))
  const seconds = () => (performance.now() - began) / 1000
  // Text is read without having it laid out, or looking would take the time of what is looked at.
  const fresh = (found) => found && !found.closest("[data-stale=true]")
  const heated = () => {
    const heat = document.querySelector(`img[alt^='Heat map'][alt$='${file.name}']`)
    return heat ? heat.complete && heat.naturalWidth > 0 : fresh(document.querySelector("[data-testid=stAlert]"))
  }
  const drawings = () => [...document.querySelectorAll("[data-testid=stHtml]")]
  const said = () => fresh(drawings().find((each) => each.textContent.includes("predicted")))
  const app = document.querySelector("[data-testid=stApp]")
  let answered = null
  const look = () => {
    if (answered === null && heated() && said()) answered = seconds()
    if (answered !== null && app.dataset.testScriptState === "notRunning") done([answered, seconds()])
    else if (seconds() > 30) failed(new Error("no answer within 30 seconds"))
    else setTimeout(look, 5)
  }
  look()
})"""


def photos_together(chrome: Browser, visitors: int, trials: int, home: Path) -> None:
    """Several visitors who drop a photo at the same moment, warm: to each one's prediction and heat map."""
    server = serve(["--runs", str(home / "none"), "--cache", str(home / "nothing")], home / "log")
    try:
        pages = []
        for visitor in range(visitors):
            page = chrome.new_context(viewport={"width": 1280, "height": 900}).new_page()
            page.goto(f"{server.url}/explain?source=Your+photo")
            page.get_by_test_id("stFileUploaderDropzoneInput").wait_for(state="attached")
            settle(page)
            files = photos_of_visitor(visitor, visitors, trials + 2)
            page.evaluate(PHOTOS_IN_THE_PAGE, files)
            pages.append(page)
        counted = []
        for trial in range(trials + 2):
            # Begun in each before any is waited for.
            for page in pages:
                page.evaluate(f"index => {{ window.took = ({DROPPED})(index) }}", trial)
            took = [page.evaluate("window.took") for page in pages]
            if trial >= 2:
                counted += took
            # Each visitor looks at one photo.
            for page in pages:
                page.get_by_role("button", name="Remove photo").click()
                page.get_by_role("heading", name="What it answers").wait_for(state="detached")
                settle(page)
        report_photos(counted, f"{visitors} visitors at once, warm", target=0.3)
    finally:
        server.stop()


STEPS = """async (machine) => {
  const slider = machine.querySelector("input[type=range]"), times = []
  for (let i = 0; i < 40; i++) {
    slider.value = i % (Number(slider.max) + 1)
    const began = performance.now()
    slider.dispatchEvent(new Event("input", { bubbles: true }))
    // After the next frame is drawn.
    await new Promise((done) => requestAnimationFrame(() => setTimeout(done)))
    times.push((performance.now() - began) / 1000)
  }
  return times
}"""


def epoch_steps(page: Page, url: str, run: str) -> list[float]:
    """From a move of the epoch slider to everything being drawn at that epoch, in seconds."""
    open_page(page, f"{url}/evaluate?run={run}&images=Validation&view=Epoch+by+epoch", "Evaluate")
    machine = page.locator(".machine")
    machine.locator("input[type=range]").wait_for()
    settle(page)
    return list(machine.evaluate(STEPS))


def watching(chrome: Browser, words: list[str], train: list[str], info: dict[str, Any], home: Path) -> None:
    """What it costs the training that somebody watches, in turns with nobody watching."""
    server = serve(words, home / "log")
    page = chrome.new_context(viewport={"width": 1280, "height": 900}).new_page()
    # Long enough that opening the page does not count.
    train[-1] = str(min(20_000, int(0.8 * sum(info["train_counts"]))))
    train[-3] = "4"
    alone, watched = [], []
    for _ in range(3):
        page.goto("about:blank")
        alone.append(float(str(command_line(*train)["images_per_second"])))
        page.goto(f"{server.url}/train")
        page.get_by_text("Settings of this run").wait_for()
        worker = subprocess.Popen(
            [sys.executable, "-m", "cifar_core", *train, "--json"], cwd=ROOT, stdout=subprocess.PIPE, text=True
        )
        time.sleep(1)
        page.goto(f"{server.url}/train")
        answer, _ = worker.communicate()
        watched.append(float(json.loads(answer)["images_per_second"]))
    report("training, nobody watching", alone, "images/s")
    report("training, Train page open", watched, "images/s")
    ratios = [b / a for a, b in zip(alone, watched, strict=True)]
    report("watched / alone", ratios, "of the speed", target="at least 0.97")
    server.stop()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, help="a data set; left out, shapes are drawn")
    parser.add_argument("--trials", type=int, default=5)
    parser.add_argument("--watching", action="store_true", help="measure only what watching costs")
    parser.add_argument("--photos", action="store_true", help="measure only a newcomer's photo")
    parser.add_argument("--visitors", type=int, help="with --photos: so many who drop a photo at the same moment")
    options = parser.parse_args()
    print(f"{platform.processor() or platform.machine()}, {os.cpu_count()} cores, Python {platform.python_version()}, "
          f"torch {torch.__version__}")  # fmt: skip
    with tempfile.TemporaryDirectory() as scratch, browser() as chrome:
        home = Path(scratch)
        if options.photos and options.visitors:
            photos_together(chrome, options.visitors, options.trials, home)
            return
        if not options.watching:
            first_photos(chrome, options.trials, home)
        if options.photos:
            return
        data = str(
            options.data.resolve() if options.data else drawn_folder(home / "shapes", train=1500, test=100, seed=0)
        )
        places = ["--runs", str(home / "runs"), "--cache", str(home / "cache")]
        info = command_line("data", "--data", data, "--cache", str(home / "cache"))
        print(f"data: {info['name']}")
        train = ["train", "--data", data, *places, "--recipe", "quick", "--epochs", "2", "--train-images", "4000"]
        run = Path(str(command_line(*train)["run"]))
        command_line("evaluate", str(run), "--cache", str(home / "cache"))

        words = [*places, "--data", data]
        if options.watching:
            watching(chrome, words, train, info, home)
            return
        first_page(chrome, words, home / "log")
        starts = [first_page(chrome, words, home / "log") for _ in range(options.trials)]
        report("second start to first page drawn", starts, target="at most 3 s")

        server = serve(words, home / "log")
        page = chrome.new_context(viewport={"width": 1280, "height": 900}).new_page()
        open_page(page, server.url, "Overview")
        settle(page)
        for title in PAGES[1:]:
            switch(page, title)
        for title in PAGES:
            switch(page, PAGES[(PAGES.index(title) + 1) % len(PAGES)])
            trials = []
            for _ in range(options.trials):
                trials.append(switch(page, title))
                switch(page, PAGES[(PAGES.index(title) + 1) % len(PAGES)])
            report(f"warm switch to {title}", trials)

        gallery(page, server.url)
        images = sum(info["train_counts"]) + sum(info["test_counts"])
        trials = [gallery(page, server.url) for _ in range(options.trials)]
        report(f"Data page of {images:,} images, warm", trials, target="at most 1 s")

        open_page(page, f"{server.url}/explain?run={run.name}&source=Your+photo", "Explain")
        settle(page)
        photos = [photo(home / "cache", str(info["id"]), index) for index in range(2 * options.trials)]
        upload(page, photos[0])
        report("photo to heat map, warm", [upload(page, content) for content in photos[1:]])

        report("step of the epoch slider", epoch_steps(page, server.url, run.name), target="at most 0.15 s")

        server.stop()
        watching(chrome, words, train, info, home)


if __name__ == "__main__":
    main()
