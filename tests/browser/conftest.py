"""A running dashboard and a real Chromium. Without a Chromium the tests are skipped, unless REQUIRE_BROWSER says no."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Browser, Page, expect

from benchmarks.driving import Server, browser, chromium, serve
from cifar_core.runs import own_runs
from tests.shapes import drawn_folder

HERE = Path(__file__).parent

# A busy machine is slow, which is no fault of the page.
expect.set_options(timeout=45_000)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if HERE in Path(item.path).parents:
            item.add_marker(pytest.mark.browser)
            # One server and one Chromium for all of them, where tests run in several processes.
            item.add_marker(pytest.mark.xdist_group("browser"))


@pytest.fixture(scope="session")
def chrome() -> Iterator[Browser]:
    if chromium() is None:
        if os.environ.get("REQUIRE_BROWSER"):
            pytest.fail("REQUIRE_BROWSER is set, but there is no Chromium here.")
        pytest.skip("there is no Chromium here; install Debian's chromium")
    with browser() as started:
        yield started


@pytest.fixture(scope="session")
def shapes(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Enough images of three kinds of shape that a training lasts long enough to be watched."""
    return drawn_folder(tmp_path_factory.mktemp("pictures") / "shapes", train=400, test=60, seed=1)


@pytest.fixture(scope="session")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where this dashboard keeps its runs and data."""
    return tmp_path_factory.mktemp("home")


def words(home: Path, data: Path | None = None) -> list[str]:
    """What stands behind `--` on the dashboard's command line."""
    chosen = ["--data", str(data)] if data else []
    return ["--runs", str(home / "runs"), "--cache", str(home / "data" / "cache"), *chosen]


@pytest.fixture(scope="session")
def server(home: Path, shapes: Path) -> Iterator[Server]:
    started = serve(words(home, shapes), home / "server.log")
    yield started
    started.stop()
    # A training outlives its dashboard by design; after the tests it must not.
    for run in own_runs(home / "runs"):
        if run.alive:
            run.request("stop")


@pytest.fixture
def page(chrome: Browser, server: Server) -> Iterator[Page]:
    context = chrome.new_context(viewport={"width": 1280, "height": 1000}, base_url=server.url)
    opened = context.new_page()
    opened.set_default_timeout(30_000)
    yield opened
    context.close()
