"""The whole journey in a real browser: open, look, train, watch, refresh, stop, evaluate, select, upload a photo.

The steps build on each other and run in the order of the file, as a visitor would go.
"""

from __future__ import annotations

import io
import os
import re
import signal
import time
from collections.abc import Callable
from pathlib import Path
from urllib.parse import urljoin, urlsplit

import numpy as np
import pytest
from PIL import Image
from playwright.sync_api import Browser, Page, expect

from benchmarks.driving import Server, serve, settle
from cifar_core.runs import Run, own_runs
from tests.browser.conftest import words
from tests.shapes import CLASSES, drawing

PAGES = ("overview", "data", "augment", "train", "compare", "evaluate", "features", "explain")


def heading(page: Page, name: str) -> None:
    expect(page.get_by_role("heading", name=name, level=1, exact=True)).to_be_visible(timeout=30_000)


def stands_at(page: Page, state: str) -> None:
    """Wait for the badge that says the state of the run."""
    expect(page.locator(".stMarkdownBadge", has_text=state)).to_be_visible(timeout=60_000)


def wait_until(true: Callable[[], bool], what: str, seconds: float = 60) -> None:
    limit = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < limit, f"{what} did not happen in {seconds} s"
        time.sleep(0.2)


def no_error(page: Page) -> None:
    expect(page.get_by_test_id("stException")).to_have_count(0)
    expect(page.get_by_text("Traceback")).to_have_count(0)


@pytest.fixture(scope="module")
def run(home: Path) -> Callable[[], Run]:
    """The newest run of this dashboard."""
    return lambda: own_runs(home / "runs")[0]


def test_the_data_set_named_on_the_command_line_is_read_and_shown(page: Page):
    page.goto("/data")
    heading(page, "Data")
    expect(page.get_by_text(re.compile(r"Images in shapes|shapes")).first).to_be_visible(timeout=60_000)
    pictures = page.get_by_role("button", name=re.compile(r"(circle|square|stripes), training index \d+"))
    expect(pictures.first).to_be_visible(timeout=60_000)
    assert pictures.count() >= 30
    painted = pictures.first.evaluate("cell => getComputedStyle(cell.querySelector('i')).backgroundImage")
    assert painted.startswith('url("blob:')
    assert any(name in (pictures.first.get_attribute("aria-label") or "") for name in CLASSES)
    no_error(page)


def test_the_overview_says_what_is_here(page: Page):
    page.goto("/")
    heading(page, "Overview")
    expect(page.get_by_text("1,200 training and 180 test images in 3 classes")).to_be_visible()
    expect(
        page.get_by_text(re.compile(r"no CUDA or MPS device here|the fastest device here|faster than the CPU"))
    ).to_be_visible()
    no_error(page)


def test_augmented_samples_of_one_image_are_shown(page: Page):
    page.goto("/augment")
    heading(page, "Augment")
    expect(page.locator("figure img").first).to_be_visible()
    settle(page)
    assert page.locator("figure img").count() >= 5
    no_error(page)


def points(page: Page) -> int:
    """How many points the first curve has."""
    return page.locator("[data-testid=stVegaLiteChart]").first.evaluate(
        "chart => [...chart.querySelectorAll('.mark-line path')]"
        ".reduce((sum, path) => sum + (path.getAttribute('d') || '').split('L').length, 0)"
    )


def test_a_training_is_started_and_its_curve_grows_without_being_drawn_anew(page: Page, run: Callable[[], Run]):
    page.goto("/train?recipe=guide_cnn")
    heading(page, "Train")
    expect(page.get_by_text("Two convolutions and two linear layers with flips and rotations.")).to_be_visible()
    epochs = page.locator(".st-key-set_epochs input[type=range]")
    epochs.focus()
    epochs.press("End")
    expect(page.get_by_test_id("stSliderThumbValue").filter(has_text="200").first).to_be_visible()
    page.get_by_role("button", name="Start training").click()
    stands_at(page, "running")
    assert f"run={run().id}" in page.url
    assert run().config.model == "guide_cnn"
    assert run().config.epochs == 200
    chart = page.locator("[data-testid=stVegaLiteChart]").first
    expect(chart.locator("svg.marks")).to_be_visible(timeout=60_000)
    wait_until(lambda: len(run().epochs) >= 2, "the second epoch")
    chart.locator("svg.marks").evaluate("drawing => { drawing.dataset.first = 'yes' }")
    before = points(page)
    wait_until(lambda: points(page) > before + 4, "a growing curve")
    assert chart.locator("svg.marks").get_attribute("data-first") == "yes", "the chart was drawn anew"
    no_error(page)


def test_a_zoom_is_kept_while_the_curve_grows(page: Page):
    page.goto("/train")
    chart = page.locator("[data-testid=stVegaLiteChart]").first
    expect(chart.locator("svg.marks")).to_be_visible()
    page.get_by_text("Settings of this run").wait_for()

    def axis() -> list[str]:
        return chart.locator(".role-axis-label text").all_text_contents()

    def position() -> tuple[float, float]:
        box = chart.bounding_box()
        assert box
        return box["x"] + box["width"] / 2, box["y"] + box["height"] / 2

    wait_until(lambda: bool(axis()), "an axis")
    page.mouse.move(*position())
    page.wait_for_timeout(300)
    whole = axis()
    for _ in range(3):
        page.mouse.wheel(0, -400)
        page.wait_for_timeout(200)
    page.wait_for_timeout(500)
    zoomed, before = axis(), points(page)
    assert zoomed != whole
    wait_until(lambda: points(page) != before, "a growing curve")
    page.wait_for_timeout(1500)
    assert axis() == zoomed


def test_the_run_survives_a_refresh_and_a_second_tab_shows_it_too(page: Page, chrome: Browser, run: Callable[[], Run]):
    page.goto(f"/train?run={run().id}")
    stands_at(page, "running")
    page.reload()
    stands_at(page, "running")
    assert f"run={run().id}" in page.url
    step = run().latest.step
    wait_until(lambda: run().latest.step > step, "the next steps")
    second = chrome.new_context(base_url=page.url.split("/train")[0]).new_page()
    second.goto("/train")
    stands_at(second, "running")
    assert f"run={run().id}" in second.url
    second.context.close()


def test_the_form_is_as_it_was_when_one_comes_back_from_another_page(page: Page, run: Callable[[], Run]):
    """While a run trains, as the page is then drawn again and again, and Streamlit forgets the widgets of others."""

    def shown() -> str:
        return page.locator(".st-key-set_epochs [data-testid=stSliderThumbValue]").inner_text()

    page.goto(f"/train?run={run().id}")
    epochs = page.locator(".st-key-set_epochs input[type=range]")
    before = shown()
    epochs.focus()
    epochs.press("ArrowRight")
    wait_until(lambda: shown() != before, "another number of epochs")
    changed = shown()
    page.wait_for_timeout(1000)
    for name, stay in (("Augment", 600), ("Data", 1500), ("Compare", 2500)):
        page.get_by_test_id("stSidebar").get_by_role("link", name=name).click()
        heading(page, name)
        page.wait_for_timeout(stay)
        page.get_by_test_id("stSidebar").get_by_role("link", name="Train").click()
        heading(page, "Train")
        page.wait_for_timeout(2500)
        no_error(page)
        assert shown() == changed


def test_a_pause_holds_and_a_stop_keeps_the_weights(page: Page, run: Callable[[], Run]):
    page.goto("/train")
    page.get_by_role("button", name="Pause").click()
    stands_at(page, "paused")
    step = run().latest.step
    page.wait_for_timeout(1500)
    assert run().latest.step == step
    page.get_by_role("button", name="Resume").click()
    wait_until(lambda: run().latest.step > step, "the next step")
    page.get_by_role("button", name="Stop and keep").click()
    stands_at(page, "stopped")
    expect(page.get_by_text("the weights are kept").first).to_be_visible()
    assert {"best", "last"} <= set(run().checkpoints())
    wait_until(lambda: not run().alive, "the end of the worker")
    no_error(page)


def test_a_click_on_a_cell_of_the_confusion_matrix_shows_its_images(page: Page):
    page.goto("/evaluate")
    heading(page, "Evaluate")
    matrix = page.locator("[data-testid=stVegaLiteChart]").first
    expect(matrix.locator("svg.marks")).to_be_visible(timeout=60_000)
    expect(page.get_by_text(re.compile("all 180 images of 3 classes"))).to_be_visible()
    cells = matrix.locator(".mark-rect path")
    wait_until(lambda: cells.count() >= 9, "nine cells")
    cells.first.click(force=True)
    expect(page.get_by_text(re.compile(r"images of circle predicted as circle"))).to_be_visible()
    shown = page.locator("figure img")
    expect(shown.first).to_be_visible()
    assert (shown.first.get_attribute("alt") or "").count("circle") == 2
    assert "true=circle&predicted=circle" in page.url
    page.go_back()
    expect(page.get_by_text("Click a cell of the matrix, or choose a class here")).to_be_visible()
    assert "circle" not in page.url
    no_error(page)


def test_points_selected_on_the_map_show_their_images(page: Page):
    page.goto("/features")
    heading(page, "Features")
    page.get_by_role("button", name="Compute the map").click()
    expect(page.get_by_role("button", name="Correctness")).to_be_visible(timeout=120_000)
    settle(page)
    stage = page.locator(".atlas .stage")
    stage.scroll_into_view_if_needed()
    page.wait_for_timeout(1000)
    box = stage.bounding_box()
    assert box
    stage.locator("[tabindex]").focus()
    page.keyboard.press("ArrowRight")
    expect(page.get_by_text("Its 10 true neighbours")).to_be_visible()
    page.get_by_role("button", name="Correctness").click()
    expect(page.get_by_role("button", name="Right (")).to_be_visible()
    page.mouse.move(box["x"] + 5, box["y"] + 5)
    page.mouse.down()
    # Round the whole plot, so that a lasso and a box both select all points.
    for right, down in ((0.5, 0.01), (0.99, 0.01), (0.99, 0.99), (0.01, 0.99), (0.01, 0.02), (0.98, 0.98)):
        page.mouse.move(box["x"] + box["width"] * right, box["y"] + box["height"] * down, steps=10)
    page.mouse.up()
    expect(page.get_by_role("heading", name="Selected images")).to_be_visible()
    expect(page.locator("figure img").first).to_be_visible()
    no_error(page)


def photo() -> bytes:
    """A photo-sized picture of a square."""
    pixels = drawing("square", np.random.default_rng(5))
    buffer = io.BytesIO()
    Image.fromarray(pixels).resize((800, 600)).save(buffer, format="JPEG")
    return buffer.getvalue()


def test_an_uploaded_photo_gets_a_prediction_and_a_heat_map(page: Page):
    page.goto("/explain?source=Your+photo")
    heading(page, "Explain")
    field = page.get_by_test_id("stFileUploaderDropzoneInput")
    field.wait_for(state="attached")
    field.set_input_files([{"name": "me.jpg", "mimeType": "image/jpeg", "buffer": photo()}])
    expect(page.get_by_role("heading", name="What it answers")).to_be_visible(timeout=60_000)
    settle(page)
    heat = page.get_by_alt_text(re.compile("Heat map of the evidence"))
    nothing = page.get_by_text("so there is no heat to draw")
    assert heat.count() + nothing.count() == 1
    no_error(page)


def test_the_square_is_dragged_sized_and_moved_by_keys_on_the_photo(page: Page):
    file = io.BytesIO()
    Image.new("RGB", (800, 400), (90, 140, 200)).save(file, "JPEG")
    page.goto("/explain?source=Your+photo")
    field = page.get_by_test_id("stFileUploaderDropzoneInput")
    field.wait_for(state="attached")
    field.set_input_files([{"name": "wide.jpg", "mimeType": "image/jpeg", "buffer": file.getvalue()}])
    square = page.locator(".square")
    expect(square).to_be_visible(timeout=60_000)
    settle(page)

    def sliders() -> list[int]:
        return [
            int(page.get_by_test_id("stSlider").filter(has_text=name).locator("input[type=range]").input_value())
            for name in ("Size of the square", "From left to right", "From top to bottom")
        ]

    def box() -> tuple[float, float, float]:
        found = square.bounding_box()
        assert found
        return found["x"], found["y"], found["width"]

    def drag(x: float, y: float, across: float, down: float) -> None:
        page.mouse.move(x, y)
        page.mouse.down()
        page.mouse.move(x + across, y + down, steps=4)
        page.mouse.up()

    assert sliders() == [100, 50, 50]
    left, top, side = box()
    drag(left + side / 2, top + side / 2, side / 4, 0)
    # The photo is twice as wide as its square, which has a whole side to go.
    wait_until(lambda: sliders() == [100, 75, 50], "the sliders follow the square")
    left, top, side = box()
    drag(left + side - 2, top + side - 2, -side / 2, -side / 2)
    wait_until(lambda: abs(sliders()[0] - 50) <= 1 and sliders()[2] == 0, "a smaller square in the same upper corner")
    at = box()[0]
    before = sliders()[1]
    square.press("ArrowLeft")
    wait_until(lambda: sliders()[1] < before and box()[0] < at, "a key moves it to the left")
    no_error(page)


def test_what_is_no_image_gets_one_sentence(page: Page):
    page.goto("/explain?source=Your+photo")
    field = page.get_by_test_id("stFileUploaderDropzoneInput")
    field.wait_for(state="attached")
    field.set_input_files([{"name": "me.png", "mimeType": "image/png", "buffer": b"no picture at all"}])
    expect(page.get_by_test_id("stAlert")).to_be_visible()
    no_error(page)


@pytest.mark.parametrize("width", [1280, 390])
@pytest.mark.parametrize("name", PAGES)
def test_no_page_is_wider_than_the_screen_or_shows_an_error(chrome: Browser, server: Server, name: str, width: int):
    context = chrome.new_context(viewport={"width": width, "height": 844}, base_url=server.url)
    page = context.new_page()
    page.goto(f"/{name}")
    heading(page, name.capitalize())
    settle(page)
    main = page.get_by_test_id("stMain")
    assert main.evaluate("main => main.scrollWidth - main.clientWidth") <= 1
    no_error(page)
    context.close()


def test_no_page_asks_another_computer_for_anything(chrome: Browser, server: Server, run: Callable[[], Run]):
    context = chrome.new_context(viewport={"width": 1280, "height": 844}, base_url=server.url)
    page = context.new_page()
    asked: set[str] = set()
    page.on("request", lambda request: asked.add(request.url))
    for name in PAGES:
        page.goto(f"/{name}?run={run().id}")
        heading(page, name.capitalize())
        settle(page)
        icon = page.locator("link[rel~=icon]").first.get_attribute("href") or ""
        asked.add(urljoin(server.url, icon))
    elsewhere = {
        url for url in asked if not url.startswith(("data:", "blob:")) and urlsplit(url).hostname != "127.0.0.1"
    }
    assert elsewhere == set()
    assert any(".png" in url for url in asked), "the icon of the window"
    context.close()


def test_a_deep_link_is_whole_as_the_very_first_request_to_a_server(
    chrome: Browser, home: Path, run: Callable[[], Run], tmp_path: Path
):
    fresh = serve(words(home), tmp_path / "log")
    try:
        context = chrome.new_context(viewport={"width": 1280, "height": 900}, base_url=fresh.url)
        page = context.new_page()
        page.goto(f"/evaluate?run={run().id}&cells=Percent+of+the+true+class")
        heading(page, "Evaluate")
        for title in PAGES:
            expect(page.get_by_test_id("stSidebar").get_by_text(title.capitalize(), exact=True)).to_be_visible()
        expect(page.get_by_text(re.compile("all 180 images"))).to_be_visible()
        assert f"run={run().id}" in page.url
        page.get_by_test_id("stSidebar").get_by_text("Compare", exact=True).click()
        heading(page, "Compare")
        assert f"run={run().id}" in page.url
        context.close()
    finally:
        fresh.stop()


def test_a_training_outlives_the_server_that_started_it(chrome: Browser, home: Path, tmp_path: Path):
    first = serve(words(home), tmp_path / "log")
    page = chrome.new_context(base_url=first.url).new_page()
    page.goto("/train?recipe=guide_cnn")
    epochs = page.locator(".st-key-set_epochs input[type=range]")
    epochs.focus()
    epochs.press("End")
    page.wait_for_timeout(800)
    page.get_by_role("button", name="Start training").click()
    stands_at(page, "running")
    page.context.close()
    os.kill(first.process.pid, signal.SIGINT)
    first.stop(signal.SIGKILL)
    run = own_runs(home / "runs")[0]
    # It runs from its start on, which is before its first step.
    wait_until(lambda: run.latest is not None, "a first step")
    step = run.latest.step
    wait_until(lambda: run.latest.step > step, "the next steps without a server")
    second = serve(words(home), tmp_path / "log")
    try:
        page = chrome.new_context(base_url=second.url).new_page()
        page.goto("/train")
        stands_at(page, "running")
        page.get_by_role("button", name="Stop and keep").click()
        stands_at(page, "stopped")
        page.context.close()
    finally:
        second.stop()
