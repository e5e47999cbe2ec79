"""The kill campaign in short; `make kills` is the long one."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest

from tests.conftest import ROOT


@pytest.mark.skipif(not hasattr(__import__("os"), "fork"), reason="Workers are forked.")
def test_workers_that_are_killed_at_random_moments_lose_nothing() -> None:
    command = [sys.executable, "-m", "benchmarks.kills", "--kills", "9", "--inside", "--no-pages"]
    said = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=280, check=False)
    assert said.returncode == 0, said.stderr[-2000:]
    counts = json.loads(said.stdout.splitlines()[-1])
    assert sum(counts.values()) == 9
    assert len(counts) == 9, "every moment once"
