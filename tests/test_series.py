"""Runs that belong together: made at once, done one after the other, summed up honestly."""

from __future__ import annotations

import json
import os
import signal
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from cifar_core import job, series
from cifar_core.config import TrainConfig
from cifar_core.events import Boot
from cifar_core.runs import Run, RunError, list_runs
from cifar_core.series import Series
from tests.conftest import Tiny, epoch_event, tiny_config, work

PATIENCE_SECONDS = 120.0


def until(wanted: Callable[[], object], what: str) -> None:
    limit = time.monotonic() + PATIENCE_SECONDS
    while not wanted():
        assert time.monotonic() < limit, f"waited in vain until {what}"
        time.sleep(0.02)


def test_a_run_belongs_to_its_series_from_the_moment_it_appears(
    tiny: Tiny, runs_root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    appears, known = Path.rename, []

    def noted(folder: Path, to: Path) -> Path:
        known.append(series.series_of(Run(folder)))
        return appears(folder, to)

    monkeypatch.setattr(Path, "rename", noted)
    runs = job.new_series(tiny_config(tiny), "folds", 2, runs_root, tiny.cache)
    assert known == [series.series_of(run) for run in runs]
    assert None not in known


def test_seeds_count_up_and_folds_are_each_done_once() -> None:
    config = TrainConfig(seed=7, epochs=3)
    seeds = series.configs(config, "seeds", 3)
    assert [each.seed for each in seeds] == [7, 8, 9]
    folds = series.configs(config, "folds", 4)
    assert [(each.folds, each.fold, each.seed) for each in folds] == [(4, fold, 7) for fold in range(4)]
    assert {each.epochs for each in (*seeds, *folds)} == {3}


@pytest.mark.parametrize(
    ("kind", "count", "said"),
    [
        ("seeds", 1, "Repeats over seeds must be at least 2 and at most 20, but are 1."),
        ("folds", 11, "The folds of a cross-validation must be at least 2 and at most 10, but are 11."),
        ("days", 3, "A series is of seeds or folds, but 'days' was asked for."),
    ],
)
def test_a_series_that_cannot_be_is_one_sentence_and_no_run(
    tiny: Tiny, runs_root: Path, kind: str, count: int, said: str
) -> None:
    with pytest.raises(RunError) as caught:
        job.new_series(tiny_config(tiny), kind, count, runs_root, tiny.cache)
    assert str(caught.value) == said
    assert not list_runs(runs_root)


def test_what_keeps_the_last_run_of_a_series_from_being_made_leaves_none(tiny: Tiny, runs_root: Path) -> None:
    with pytest.raises(RunError, match="seed must be at most"):
        job.new_series(tiny_config(tiny, seed=2**31 - 2), "seeds", 3, runs_root, tiny.cache)
    assert not list_runs(runs_root)


@pytest.mark.parametrize("values", [[0.5], [0.5, 0.7], [0.91, 0.93, 0.92, 0.94, 0.905]])
def test_mean_and_deviation_are_those_of_numpy(values: list[float]) -> None:
    found = series.spread(values)
    assert found.mean == pytest.approx(np.mean(values))
    if len(values) > 1:
        assert found.deviation == pytest.approx(np.std(values, ddof=1))
    else:
        assert found.deviation is None
    assert series.spread([]).mean is None


def test_only_finished_runs_have_a_say(run_in_state: Callable[..., Run]) -> None:
    runs = [run_in_state(state) for state in ("finished", "running", "failed", "finished", "ready")]
    for index, run in enumerate(runs):
        for name, content in series.file_of(Series("0123456789ab", "seeds", index, 6)).items():
            (run.path / name).write_bytes(content)
    # The second one is a little better.
    runs[3].append(epoch_event(3, validation_accuracy=0.9))
    runs[3].append(runs[0].last_end)  # type: ignore[arg-type]
    known = series.series_of(runs[0])
    assert known
    found = series.summary(known, series.members(known, runs[0].path.parent))
    assert (found.finished, found.count) == (2, 6)
    assert found.last.values == (pytest.approx(0.8), 0.9)
    assert found.last.deviation == pytest.approx(np.std([0.8, 0.9], ddof=1))


@pytest.mark.parametrize(
    "content", ["", "[]", "{}", '{"id": "../x", "kind": "seeds", "index": 0, "count": 2}', '{"id": 1, "kind": "seeds"}']
)
def test_a_damaged_note_makes_it_a_run_of_its_own(run_in_state: Callable[..., Run], content: str) -> None:
    run = run_in_state("ready")
    (run.path / "series.json").write_text(content)
    assert series.series_of(run) is None
    assert series.all_series([run]) == {}


def test_a_cross_validation_validates_on_every_image_once(tiny: Tiny, runs_root: Path) -> None:
    runs = job.new_series(tiny_config(tiny), "folds", 3, runs_root, tiny.cache)
    for run in runs:
        work(run, tiny.cache)
    starts = [run.start for run in runs]
    assert [start and start.validation_images for start in starts] == [60, 60, 60]
    assert [start and start.train_images for start in starts] == [120, 120, 120]
    known = series.series_of(runs[0])
    assert known
    assert known.said == "cross-validation with 3 folds"
    assert [run.id for run in series.members(known, runs_root)] == [run.id for run in runs]
    found = series.summary(known, runs)
    assert found.last.mean == pytest.approx(np.mean([run.epochs[-1].validation_accuracy for run in runs]))


def test_a_killed_and_a_stopped_member_keep_none_of_the_others(tiny: Tiny, runs_root: Path) -> None:
    """Five processes on one device, of which one is killed and one stopped while they wait or train."""
    config = tiny_config(tiny, epochs=3)
    runs = job.start_series(config, "seeds", 5, runs_root, tiny.cache)
    killed, stopped = runs[3], runs[1]
    until(lambda: sum(isinstance(event, Boot) for event in killed.events()) > 1, "its worker has begun")
    boots = [event for event in killed.events() if isinstance(event, Boot)]
    os.kill(boots[-1].pid, signal.SIGKILL)
    stopped.request("stop")
    until(lambda: not any(run.alive for run in runs), "all have ended")
    assert [run.state for run in runs if run not in (killed, stopped)] == ["finished"] * 3
    assert killed.state in ("interrupted", "finished")
    assert stopped.state in ("stopped", "finished")
    known = series.series_of(killed)
    assert known
    found = series.summary(known, series.members(known, runs_root))
    assert found.count == 5
    assert found.finished == sum(run.state == "finished" for run in runs)


def test_a_series_is_written_down_in_the_folder_of_each_run(tiny: Tiny, runs_root: Path) -> None:
    runs = job.new_series(tiny_config(tiny), "seeds", 2, runs_root, tiny.cache)
    notes: list[dict[str, Any]] = [json.loads((run.path / "series.json").read_text()) for run in runs]
    assert notes[0]["id"] == notes[1]["id"]
    assert [(note["kind"], note["index"], note["count"]) for note in notes] == [("seeds", 0, 2), ("seeds", 1, 2)]
