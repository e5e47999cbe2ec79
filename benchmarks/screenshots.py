"""The pictures of the README: `make screenshots`.

Trains a first network on the drawn sample, as the guided first run does, and takes pictures of the pages in a headless
Chromium. No data set but the drawn sample is there, so that none of them shows an image of CIFAR-10.
"""

from __future__ import annotations

import io
import tempfile
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

from PIL import Image
from playwright.sync_api import Browser, Page

from benchmarks.driving import ROOT, browser, open_page, serve, settle
from benchmarks.first_minute import START

DOCS = ROOT / "docs"

SIZE = {"width": 1280, "height": 1000}

COLOURS = 128
"""Of each picture: enough for what pages are made of, at a third of the bytes."""


def take(page: Page, name: str) -> None:
    """Write what is seen of the page."""
    page.mouse.move(0, 0)
    # What has just been drawn may still move to its place.
    page.wait_for_timeout(2000)
    picture = Image.open(io.BytesIO(page.screenshot())).convert("RGB")
    path = DOCS / f"{name}.png"
    picture.quantize(COLOURS, dither=Image.Dither.NONE).save(path, optimize=True)
    print(f"{path.relative_to(ROOT)}: {path.stat().st_size / 1e3:.0f} kB", flush=True)


def train(page: Page, url: str) -> str:
    """The Overview before anything was done, and a training under way; gives the run once it has finished."""
    open_page(page, url, "Overview", 60)
    start = page.get_by_role("button", name=START).and_(page.locator(":enabled"))
    start.wait_for()
    settle(page, 60)
    take(page, "overview")
    start.click()
    page.get_by_role("button", name="Leave the tour").click()
    page.get_by_text("Epoch 3").first.wait_for()
    # The curves, too.
    page.get_by_test_id("stMain").evaluate("main => main.scrollTo(0, 180)")
    take(page, "train")
    page.locator(".stMarkdownBadge", has_text="finished").first.wait_for()
    return parse_qs(urlsplit(page.url).query)["run"][0]


def evaluate(page: Page, url: str, run: str) -> None:
    """The epoch time machine."""
    open_page(page, f"{url}/evaluate?run={run}&images=Validation&view=Epoch+by+epoch", "Evaluate", 60)
    page.locator(".machine").scroll_into_view_if_needed()
    take(page, "evaluate")


def features(page: Page, url: str, run: str) -> None:
    """A map of the features, which is computed first."""
    open_page(page, f"{url}/features?run={run}", "Features", 60)
    page.get_by_role("button", name="Compute the map").click()
    page.get_by_role("button", name="Correctness").wait_for()
    settle(page, 60)
    page.locator(".atlas .stage").scroll_into_view_if_needed()
    take(page, "features")


def augment(page: Page, url: str) -> None:
    open_page(page, f"{url}/augment", "Augment", 60)
    settle(page, 60)
    take(page, "augment")


def explain(page: Page, url: str) -> None:
    """An example picture, under the eyes of the network that comes with the program."""
    open_page(page, f"{url}/explain?run=reference&source=Your+photo", "Explain", 60)
    page.get_by_test_id("stMain").get_by_role("button", name="Ship", exact=True).click()
    heat = page.locator("img[alt^='Heat map']").first
    heat.wait_for()
    settle(page, 60)
    heat.scroll_into_view_if_needed()
    take(page, "explain")


def shoot(chrome: Browser, scratch: Path) -> None:
    server = serve(["--runs", str(scratch / "runs"), "--cache", str(scratch / "data" / "cache")], scratch / "log")
    try:
        light = chrome.new_context(viewport=SIZE, color_scheme="light").new_page()  # type: ignore[arg-type]
        dark = chrome.new_context(viewport=SIZE, color_scheme="dark").new_page()  # type: ignore[arg-type]
        for page in (light, dark):
            page.set_default_timeout(120_000)
        run = train(light, server.url)
        evaluate(light, server.url, run)
        augment(light, server.url)
        features(dark, server.url, run)
        explain(dark, server.url)
    finally:
        server.stop()


def main() -> None:
    with browser() as chrome, tempfile.TemporaryDirectory() as scratch:
        shoot(chrome, Path(scratch))


if __name__ == "__main__":
    main()
