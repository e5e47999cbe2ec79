"""Start the dashboard and drive it in a headless Chromium; used by the browser tests and the benchmarks."""

from __future__ import annotations

import platform
import shutil
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from playwright.sync_api import Browser, Page, sync_playwright

ROOT = Path(__file__).resolve().parent.parent

FLAGS = (
    *("--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run"),
    *("--disable-background-networking", "--disable-component-update", "--disable-sync"),
    # Maps are drawn with WebGL, which without a graphics card needs a software renderer.
    *("--use-angle=swiftshader", "--enable-unsafe-swiftshader"),
)

IDLE = "[data-testid=stApp][data-test-connection-state=CONNECTED][data-test-script-state=notRunning]"


def chromium() -> str | None:
    """The system's Chromium or Chrome, if there is one."""
    return next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)


def processor() -> str:
    with open("/proc/cpuinfo") as file:  # noqa: PTH123
        for line in file:
            if line.startswith("model name"):
                return line.split(":", 1)[1].strip()
    return platform.processor() or platform.machine()


@dataclass
class Server:
    """A dashboard under way."""

    process: subprocess.Popen[bytes]
    port: int
    log: Path

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def stop(self, number: int = signal.SIGTERM) -> None:
        if self.process.poll() is None:
            self.process.send_signal(number)
        try:
            self.process.wait(10)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def serve(arguments: Sequence[str], log: Path, port: int | None = None) -> Server:
    """Start the dashboard with these words behind `--` and wait until it answers."""
    port = port or free_port()
    command = [sys.executable, "-m", "streamlit", "run", str(ROOT / "dashboard.py"), "--server.headless", "true"]
    with log.open("ab") as output:
        process = subprocess.Popen(
            [*command, "--server.port", str(port), "--", *arguments], cwd=ROOT, stdout=output, stderr=subprocess.STDOUT
        )
    server = Server(process, port, log)
    limit = time.monotonic() + 60
    while time.monotonic() < limit and process.poll() is None:
        with suppress(OSError), urllib.request.urlopen(f"{server.url}/_stcore/health", timeout=1) as answer:
            if answer.status == 200:
                return server
        time.sleep(0.05)
    server.stop()
    raise RuntimeError(f"The dashboard did not start; its log says:\n{log.read_text()[-2000:]}")


@contextmanager
def browser() -> Iterator[Browser]:
    """A headless Chromium."""
    path = chromium()
    if path is None:
        raise FileNotFoundError("There is no Chromium here; install Debian's chromium.")
    with sync_playwright() as playwright:
        started = playwright.chromium.launch(executable_path=path, args=FLAGS)
        try:
            yield started
        finally:
            started.close()


def settle(page: Page, seconds: float = 30) -> None:
    """Wait until the script of the page has run and everything of it is drawn; not for pages that poll."""
    page.wait_for_selector(IDLE, timeout=seconds * 1000)
    page.wait_for_function("document.querySelectorAll('[data-testid=stSkeleton]').length === 0", timeout=seconds * 1000)


def open_page(page: Page, url: str, heading: str, seconds: float = 30) -> None:
    """Go to an address and wait for the heading of its page."""
    page.goto(url)
    page.get_by_role("heading", name=heading, exact=True, level=1).wait_for(timeout=seconds * 1000)
