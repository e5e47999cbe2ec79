"""Runs that belong together: one training repeated with other seeds, or on each fold of a cross-validation."""

from __future__ import annotations

import dataclasses
import json
import re
import secrets
import statistics
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from cifar_core.config import FIELDS, TrainConfig
from cifar_core.runs import Run, list_runs, read_json

KINDS = ("seeds", "folds")
MOST_SEEDS = 20

_ID = re.compile(r"[0-9a-f]{12}")


@dataclass(frozen=True)
class Series:
    """To which runs one belongs, and which of them it is."""

    id: str
    kind: str
    """One of `KINDS`."""
    index: int
    """From 0."""
    count: int

    @property
    def said(self) -> str:
        """What the runs of the series have in common, for people."""
        return f"{self.count} seeds" if self.kind == "seeds" else f"cross-validation with {self.count} folds"


def most_runs(kind: str) -> int:
    return MOST_SEEDS if kind == "seeds" else int(FIELDS["folds"].metadata["high"])


def configs(config: TrainConfig, kind: str, count: int) -> list[TrainConfig]:
    """The settings of each run of a series: seeds count up from that of `config`, folds from 0.

    Raises:
        ValueError: There are too many or too few, or a setting is out of its bounds.
    """
    if kind not in KINDS:
        raise ValueError(f"A series is of {' or '.join(KINDS)}, but {kind!r} was asked for.")
    most = most_runs(kind)
    if not 2 <= count <= most:
        what = "Repeats over seeds" if kind == "seeds" else "The folds of a cross-validation"
        raise ValueError(f"{what} must be at least 2 and at most {most}, but are {count}.")
    if kind == "seeds":
        return [dataclasses.replace(config, seed=config.seed + i) for i in range(count)]
    return [dataclasses.replace(config, folds=count, fold=i) for i in range(count)]


def new_id() -> str:
    return secrets.token_hex(6)


def file_of(series: Series) -> dict[str, bytes]:
    """The file in a run's folder that says to which series it belongs, by its name."""
    return {"series.json": json.dumps(dataclasses.asdict(series)).encode()}


def series_of(run: Run) -> Series | None:
    """The series a run belongs to; None for a run of its own, or where its file is damaged."""
    known = read_json(run.path / "series.json")
    try:
        series = Series(str(known["id"]), str(known["kind"]), int(known["index"]), int(known["count"]))
    except (LookupError, TypeError, ValueError):
        return None
    sound = _ID.fullmatch(series.id) and series.kind in KINDS and 0 <= series.index < series.count
    return series if sound else None


def all_series(runs: Iterable[Run]) -> dict[str, list[Run]]:
    """The series among some runs by their ids, the members of each in their order."""
    found: dict[str, list[tuple[int, Run]]] = {}
    for run in runs:
        if series := series_of(run):
            found.setdefault(series.id, []).append((series.index, run))
    return {
        id: [run for _, run in sorted(members, key=lambda pair: (pair[0], pair[1].id))] for id, members in found.items()
    }


def members(series: Series, root: Path) -> list[Run]:
    """The runs of a series that are still there, in their order."""
    return all_series(list_runs(root)).get(series.id, [])


@dataclass(frozen=True)
class Spread:
    """Mean and spread of a figure over runs."""

    values: tuple[float, ...]
    mean: float | None
    """None without values."""
    deviation: float | None
    """Standard deviation with n - 1; None with less than two values."""


def spread(values: Sequence[float]) -> Spread:
    mean = statistics.fmean(values) if values else None
    return Spread(tuple(values), mean, statistics.stdev(values) if len(values) > 1 else None)


@dataclass(frozen=True)
class Summary:
    """How the finished runs of a series have done."""

    count: int
    """Of runs that were asked for."""
    finished: int
    best: Spread
    """Validation accuracies of the best epochs: a little too good, as each epoch was chosen by the same images."""
    last: Spread
    """Validation accuracies after the last epoch."""


def summary(series: Series, runs: Sequence[Run]) -> Summary:
    """Mean and spread over the runs that have finished; a run that failed, was stopped or still trains has no say."""
    done = [run for run in runs if run.state == "finished" and run.epochs]
    return Summary(
        series.count,
        len(done),
        spread([run.best.validation_accuracy for run in done if run.best]),
        spread([run.epochs[-1].validation_accuracy for run in done]),
    )
