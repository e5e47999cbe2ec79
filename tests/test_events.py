"""What a run says survives its file, whatever else is in that file."""

from __future__ import annotations

import json
import math
import time

import pytest

from cifar_core.events import (
    Boot,
    Changed,
    End,
    Epoch,
    Event,
    Inspected,
    Notice,
    Paused,
    Progress,
    Refused,
    Resumed,
    Start,
    TaskProgress,
    Tried,
    Waiting,
    from_line,
    to_line,
)

ONE_OF_EACH = [
    Boot(pid=7, host="a host", time=1.5),
    Waiting(device="cuda", time=2.0),
    Start(
        step=3,
        steps_per_epoch=11,
        device="cpu",
        precision="bfloat16",
        compute_reason="CPU: as asked.",
        data_name='Images in "ünï\u2028code"\n',
        data_fingerprint="0123456789abcdef",
        classes=("a", "b\x85", "ç"),
        train_images=162,
        validation_images=18,
        parameters=11_251,
        versions={"torch": "2.9"},
        time=1_795_336_726.238_335_4,
    ),
    Progress(
        phase="training",
        epoch=1 / 3,
        step=4,
        train_loss=0.1 + 0.2,
        train_accuracy=None,
        learning_rate=1e-9,
        images_per_second=1e6,
        seconds_left=None,
    ),
    Epoch(
        epoch=1,
        step=11,
        train_loss=2 / 3,
        train_accuracy=0.5,
        validation_loss=1e300,
        validation_accuracy=5 / 9,
        learning_rate=0.1,
        images_per_second=12.5,
        seconds=3.25,
        seconds_left=0.0,
        best=True,
    ),
    Inspected(
        epoch=1,
        step=11,
        class_accuracy=[0.5, None, 1.0],
        layers=[{"name": "conv1", "weight_norm": 1.5, "gradient_norm": None, "weights": {"low": 0, "counts": [1, 2]}}],
        dead=[{"name": "relu1", "rule": "zero", "units": 8, "dead": 1}],
        samples=[{"index": 3, "label": 0, "predicted": 2, "probability": 0.75}],
        seconds={"data": 0.1, "forward": 0.2},
        timed_steps=11,
        memory=2**40,
        device_memory=None,
    ),
    Changed(epoch=0.5, step=6, values={"dropout": 0.3, "epochs": 4}, before={"dropout": 0.0, "epochs": 3}),
    Refused(message="model cannot be changed while a run trains."),
    Notice(message="The run goes on from the weights kept before."),
    Paused(),
    Resumed(),
    End(outcome="failed", message="The disk is full.", epoch=1.25, step=14),
    TaskProgress(done=3, total=9, what="Predicting test images", seconds_left=0.5),
    Tried(learning_rate=0.01, loss=2.3, smoothed=2.25),
]

KINDS = pytest.mark.parametrize("event", ONE_OF_EACH, ids=lambda event: event.kind)


def test_there_is_one_of_each_kind() -> None:
    assert {type(event) for event in ONE_OF_EACH} == set(Event.__subclasses__())
    assert len({event.kind for event in ONE_OF_EACH}) == len(ONE_OF_EACH)


@KINDS
def test_an_event_survives_its_line(event: Event) -> None:
    again = from_line(to_line(event))
    assert again == event
    assert type(again) is type(event)


@KINDS
def test_a_line_is_one_line_of_strict_json(event: Event) -> None:
    line = to_line(event)
    assert line.endswith("\n")
    assert len(line.splitlines()) == 1, "a reader would take it for several lines"

    def refuse(name: str) -> None:
        raise AssertionError(f"{name} is no JSON")

    assert json.loads(line, parse_constant=refuse)["kind"] == event.kind


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_a_number_that_is_not_finite_is_null_in_the_file_and_nan_when_read(value: float) -> None:
    epoch = {name: 1.0 for name in ("train_accuracy", "validation_accuracy", "learning_rate", "images_per_second")}
    line = to_line(
        Epoch(
            epoch=1, step=1, train_loss=value, validation_loss=value, seconds=1.0, seconds_left=0.0, best=True, **epoch
        )
    )
    assert json.loads(line)["train_loss"] is None
    again = from_line(line)
    assert isinstance(again, Epoch)
    assert math.isnan(again.train_loss)
    assert math.isnan(again.validation_loss)
    assert again.train_accuracy == 1.0


def test_an_unknown_number_that_may_be_left_out_stays_none() -> None:
    again = from_line(to_line(ONE_OF_EACH[3]))
    assert isinstance(again, Progress)
    assert again.train_accuracy is None
    assert again.seconds_left is None


def test_an_event_knows_when_it_happened() -> None:
    before = time.time()
    assert before <= Paused().time <= time.time()
    assert from_line(to_line(Paused(time=12.0))) == Paused(time=12.0)


@KINDS
def test_every_beginning_of_a_line_is_damaged(event: Event) -> None:
    line = to_line(event).rstrip("\n")
    for length in range(len(line)):
        assert from_line(line[:length]) is None


@pytest.mark.parametrize(
    "line",
    [
        "",
        "\n",
        "null",
        "3",
        '"boot"',
        "[]",
        '["kind"]',
        "{}",
        '{"kind": null}',
        '{"kind": ["boot"]}',
        '{"kind": "birth", "time": 1.0}',
        '{"kind": "boot", "time": 1.0, "pid": 7}',
        '{"pid": 7, "host": "x"}',
        "\x00\x00\x00\x00",
        "�{",
    ],
)
def test_a_line_that_says_no_event_is_ignored(line: str) -> None:
    assert from_line(line) is None


def test_a_field_of_a_later_version_is_ignored() -> None:
    line = json.dumps({"kind": "paused", "time": 1.0, "reason": "lunch"})
    assert from_line(line) == Paused(time=1.0)
