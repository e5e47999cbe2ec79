"""What a run says about itself: small records, one JSON line each."""

from __future__ import annotations

import dataclasses
import json
import math
import time
from dataclasses import dataclass, field
from typing import Any, ClassVar


@dataclass(frozen=True, kw_only=True)
class Event:
    """Something that happened; `time` is seconds since 1970."""

    kind: ClassVar[str] = ""
    time: float = field(default_factory=time.time)


@dataclass(frozen=True, kw_only=True)
class Boot(Event):
    """A worker process is being started or has begun; nothing heavy is imported yet."""

    kind: ClassVar[str] = "boot"
    pid: int
    host: str


@dataclass(frozen=True, kw_only=True)
class Waiting(Event):
    """Another run holds the device."""

    kind: ClassVar[str] = "waiting"
    device: str


@dataclass(frozen=True, kw_only=True)
class Start(Event):
    """Data and model are ready and training begins, or goes on from `step`."""

    kind: ClassVar[str] = "start"
    step: int
    steps_per_epoch: int
    device: str
    precision: str
    compute_reason: str
    data_name: str
    data_fingerprint: str
    classes: tuple[str, ...]
    train_images: int
    validation_images: int
    parameters: int
    versions: dict[str, str]
    processes: int = 1
    """That train together, each on a device of this kind."""

    def __post_init__(self) -> None:
        object.__setattr__(self, "classes", tuple(self.classes))


@dataclass(frozen=True, kw_only=True)
class Progress(Event):
    """A sign of life between two epochs; loss and accuracy are means over the images since the last one."""

    kind: ClassVar[str] = "progress"
    phase: str
    """"training" or "validation"."""
    epoch: float
    """Epochs done, with a fraction."""
    step: int
    train_loss: float | None
    train_accuracy: float | None
    learning_rate: float
    images_per_second: float
    seconds_left: float | None


@dataclass(frozen=True, kw_only=True)
class Epoch(Event):
    """One pass over the training images and the validation after it.

    Training loss and accuracy are means over the augmented batches while the weights were changing;
    the validation ones are of the weights at the end of the epoch.
    """

    kind: ClassVar[str] = "epoch"
    epoch: int
    step: int
    train_loss: float
    train_accuracy: float
    validation_loss: float
    validation_accuracy: float
    learning_rate: float
    images_per_second: float
    seconds: float
    """Training seconds since the first step, pauses and validation excluded."""
    seconds_left: float
    best: bool
    """Whether no earlier epoch had a higher validation accuracy."""


PROBED = 256
"""Validation images, spread evenly, that tell whether a unit is ever active; fewer where there are fewer."""


@dataclass(frozen=True, kw_only=True)
class Inspected(Event):
    """What the network looked like at the end of an epoch; see `cifar_core.watching` for how each figure is made."""

    kind: ClassVar[str] = "inspected"
    epoch: int
    step: int
    class_accuracy: list[float | None]
    """Of the validation images of each class; None for a class that has none."""
    layers: list[dict[str, Any]]
    """Of each layer with weights `name`, `weight_norm` and `gradient_norm` (None where there was no gradient), and of
    some also `weights` and `gradients`: a histogram with `low`, `high` and `counts` of bins of equal width."""
    dead: list[dict[str, Any]]
    """Of each layer that can switch units off `name`, `rule`, `units` and `dead`, numbers of units."""
    samples: list[dict[str, Any]]
    """Of a few validation images, always the same, `index` in the training split, `label`, `predicted` and
    `probability`."""
    seconds: dict[str, float]
    """Training seconds of this epoch that went into `data`, `forward`, `backward` and `step`."""
    timed_steps: int
    """Of how many steps these are; where steps overlap, only some are timed."""
    memory: int
    """Most bytes the process has held in main memory so far."""
    device_memory: int | None
    """Most bytes it has held on the device so far; None where that is the same memory."""


@dataclass(frozen=True, kw_only=True)
class Changed(Event):
    """Settings that were changed while the run trained; in force from this step on."""

    kind: ClassVar[str] = "changed"
    epoch: float
    step: int
    values: dict[str, Any]
    before: dict[str, Any]
    reason: str = ""
    """Why, in a sentence, where the program changed them by itself."""


@dataclass(frozen=True, kw_only=True)
class Refused(Event):
    """Something that was asked of the run and cannot be done; `message` says why in one sentence."""

    kind: ClassVar[str] = "refused"
    message: str


@dataclass(frozen=True, kw_only=True)
class Notice(Event):
    """Something went otherwise than planned, and the run goes on; `message` says it in one sentence."""

    kind: ClassVar[str] = "notice"
    message: str


@dataclass(frozen=True, kw_only=True)
class Paused(Event):
    kind: ClassVar[str] = "paused"


@dataclass(frozen=True, kw_only=True)
class Resumed(Event):
    kind: ClassVar[str] = "resumed"


@dataclass(frozen=True, kw_only=True)
class End(Event):
    """The worker is done: `outcome` is finished, stopped or failed, `message` says why in one sentence."""

    kind: ClassVar[str] = "end"
    outcome: str
    message: str
    epoch: float = 0.0
    step: int = 0
    reason: str = ""
    """"diverged" where it failed because the loss was not a number any more."""


@dataclass(frozen=True, kw_only=True)
class TaskProgress(Event):
    """How far a piece of background work is; `unit` is "bytes", or empty where `what` says what is counted."""

    kind: ClassVar[str] = "task"
    done: int
    total: int
    what: str
    seconds_left: float | None
    unit: str = ""


@dataclass(frozen=True, kw_only=True)
class Tried(Event):
    """A step of an LR range test: its learning rate, the loss of its batch before it, and the smoothed loss so far."""

    kind: ClassVar[str] = "tried"
    learning_rate: float
    loss: float
    smoothed: float


_KINDS: dict[str, type[Event]] = {
    event.kind: event
    for event in (
        *(Boot, Waiting, Start, Progress, Epoch, Inspected, Changed, Refused, Notice, Paused, Resumed, End),
        *(TaskProgress, Tried),
    )
}


def to_line(event: Event) -> str:
    """One JSON object and a newline; numbers that are not finite become null."""
    values = {name: _finite(value) for name, value in dataclasses.asdict(event).items()}
    return json.dumps({"kind": event.kind, **values}) + "\n"


def from_line(line: str) -> Event | None:
    """The event of a line, or None for a damaged line or a kind or field this version does not know."""
    try:
        values: dict[str, Any] = json.loads(line)
        kind = _KINDS[values.pop("kind")]
        known = {f.name for f in dataclasses.fields(kind)}
        numbers = {f.name for f in dataclasses.fields(kind) if f.type == "float"}
        kept = {k: math.nan if v is None and k in numbers else v for k, v in values.items() if k in known}
        return kind(**kept)
    except (ValueError, KeyError, TypeError, AttributeError):
        return None


def duration(seconds: float) -> str:
    """A time span as people say it: 42 s, 3 min 5 s, 2 h 10 min."""
    seconds = round(seconds)
    if seconds < 60:
        return f"{seconds} s"
    if seconds < 3600:
        return f"{seconds // 60} min {seconds % 60} s"
    return f"{seconds // 3600} h {seconds % 3600 // 60} min"


def size(count: int) -> str:
    """Bytes as people say them: 512 B, 3.4 MB, 1.2 GB."""
    number, unit = float(count), "B"
    for larger in ("kB", "MB", "GB", "TB"):
        if number < 999.5:
            break
        number, unit = number / 1000, larger
    return f"{number:.0f} {unit}" if unit == "B" or number >= 100 else f"{number:.2g} {unit}"


def brief(text: str, length: int = 24) -> str:
    """The name of a class, or a path, without its middle where it would leave no room for anything else."""
    half = (length - 1) // 2
    return text if len(text) <= length else f"{text[:half]}…{text[-half:]}"


def done_of(done: int, total: int, unit: str = "") -> str:
    """How much of something is done: 1,200 of 5,000, or of bytes 43 of 170 MB."""
    return f"{done / 1e6:.0f} of {total / 1e6:.0f} MB" if unit == "bytes" else f"{done:,} of {total:,}"


def _finite(value: Any) -> Any:
    if isinstance(value, dict):
        return {name: _finite(part) for name, part in value.items()}
    if isinstance(value, list):
        return [_finite(part) for part in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
