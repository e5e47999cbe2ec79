"""The first minute of somebody who has just cloned this: `make first-minute`.

In an empty folder: a clone, `make run`, the first page, the heat map of an example picture, and the first training to
its end, in a headless Chromium. The packages are those that pip has downloaded before or finds on the disk. With
`--write` the table goes into the README.
"""

from __future__ import annotations

import argparse
import os
import platform
import shutil
import signal
import statistics
import subprocess
import tempfile
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import NamedTuple

from playwright.sync_api import Browser, Page

from benchmarks.driving import ROOT, browser, free_port, processor

README = ROOT / "README.md"
BEGIN, END = "<!-- first minute -->\n", "<!-- /first minute -->"

START = "Train a first network"


class Trial(NamedTuple):
    """Seconds from `make run` to each of these."""

    first_page: float
    heat_map: float
    training: float
    again: float


ROWS = {
    "first_page": ("the first page; most of it is the installation into `.venv`", 0),
    "heat_map": ("the first heat map, of an example picture", 2),
    "training": ("the end of the first training, on the drawn sample", 1),
    "again": ("the first page, when all is installed", 0),
}
"""What is reached, and after how many clicks."""


@contextmanager
def running(clone: Path, chrome: Browser) -> Iterator[tuple[Page, float]]:
    """Call `make run` and open what answers; gives the Overview and the seconds from the call until it is ready."""
    port = free_port()
    surroundings = {name: value for name, value in os.environ.items() if name not in ("DISPLAY", "WAYLAND_DISPLAY")}
    log = clone.with_name("log")
    began = time.perf_counter()
    with log.open("wb") as output:
        process = subprocess.Popen(
            ["make", "run"],
            cwd=clone,
            env={**surroundings, "STREAMLIT_SERVER_PORT": str(port)},
            stdout=output,
            stderr=output,
            start_new_session=True,
        )
    context = chrome.new_context(viewport={"width": 1280, "height": 900})
    page = context.new_page()
    page.set_default_timeout(300_000)
    try:
        while True:
            if process.poll() is not None:
                raise RuntimeError(f"`make run` ended; it said:\n{log.read_text()[-2000:]}")
            with suppress(OSError), urllib.request.urlopen(f"http://127.0.0.1:{port}/_stcore/health", timeout=1):
                break
            time.sleep(0.1)
        page.goto(f"http://127.0.0.1:{port}")
        page.get_by_test_id("stMain").get_by_text("Try a photo").wait_for()
        yield page, time.perf_counter() - began
    finally:
        context.close()
        os.killpg(process.pid, signal.SIGTERM)
        process.wait()


def heat_map(page: Page) -> float:
    """Seconds for the two clicks from the first page to the heat map of an example."""
    began = time.perf_counter()
    page.get_by_test_id("stMain").get_by_text("Try a photo").click()
    page.get_by_test_id("stMain").get_by_role("button", name="Ship", exact=True).click()
    page.wait_for_function(
        """() => {
            const shown = document.querySelector("img[alt^='Heat map']");
            return shown && shown.complete && shown.naturalWidth > 0;
        }"""
    )
    return time.perf_counter() - began


def training(page: Page) -> float:
    """Seconds for the one click on the first page to a training that says it has finished."""
    began = time.perf_counter()
    page.get_by_role("button", name=START).click()
    page.locator(".stMarkdownBadge", has_text="finished").first.wait_for()
    return time.perf_counter() - began


def trial(chrome: Browser) -> Trial:
    """A clone in an empty folder, used for the first time twice."""
    with tempfile.TemporaryDirectory() as scratch:
        clone = Path(scratch) / "clone"
        subprocess.run(["git", "clone", "--quiet", str(ROOT), str(clone)], check=True)
        with running(clone, chrome) as (page, first_page):
            to_heat_map = heat_map(page)
        # Nobody has been here: neither pictures nor the answer about the device are made yet.
        shutil.rmtree(clone / "data")
        with running(clone, chrome) as (page, again):
            to_training = training(page)
    return Trial(first_page, first_page + to_heat_map, first_page + to_training, again)


def table(trials: list[Trial], load: float) -> str:
    """What was measured, as Markdown.

    Args:
        load: How many processes were at work on the machine before.
    """
    rows = [
        "| From `make run` in a fresh clone to | Clicks | Seconds, median | All trials |",
        "| --- | --- | --- | --- |",
    ]
    for field, (name, clicks) in ROWS.items():
        seconds = [getattr(one, field) for one in trials]
        each = ", ".join(f"{second:.1f}" for second in seconds)
        rows.append(f"| {name} | {clicks} | {statistics.median(seconds):.1f} | {each} |")
    machine = f"{processor()}, {os.cpu_count()} cores, Python {platform.python_version()}, no GPU"
    beside = f" Other work ran beside it (load {load:.1f}), so these are upper bounds." if load > 0.3 else ""
    rows += ["", f"{len(trials)} trials of `make first-minute` on {machine}, packages downloaded before.{beside}"]
    return "\n".join(rows)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--trials", type=int, default=3)
    parser.add_argument("--write", action="store_true", help="put the table into the README")
    options = parser.parse_args()
    load = os.getloadavg()[0]
    with browser() as chrome:
        trials = []
        for _ in range(options.trials):
            trials.append(trial(chrome))
            print(trials[-1], flush=True)
    print(table(trials, load))
    if options.write:
        before, _, rest = README.read_text("utf-8").partition(BEGIN)
        _, _, after = rest.partition(END)
        README.write_text(f"{before}{BEGIN}{table(trials, load)}\n{END}{after}", "utf-8")


if __name__ == "__main__":
    main()
