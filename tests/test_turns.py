"""What can wait gives way to what somebody waits for, which is computed on one core."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from cifar_core import compute
from pages.ui import loaders
from pages.ui.loaders import Turns


def test_what_can_wait_waits_until_the_last_one_has_an_answer() -> None:
    turns, done = Turns(), []
    with turns.first():
        with turns.first():
            waiting = threading.Thread(target=lambda: (turns.give_way(5), done.append("rest")))
            waiting.start()
            time.sleep(0.05)
            assert not done
        time.sleep(0.05)
        assert not done
        done.append("answers")
    waiting.join(5)
    assert done == ["answers", "rest"]


def test_it_waits_for_nobody_where_nobody_waits_and_not_for_ever_where_somebody_does() -> None:
    turns = Turns()
    turns.give_way(5)
    with turns.first():
        began = time.monotonic()
        turns.give_way(0.05)
        assert 0.04 < time.monotonic() - began < 2


def test_who_leaves_in_anger_is_waited_for_no_longer() -> None:
    turns = Turns()
    with pytest.raises(ValueError, match="away"), turns.first():
        raise ValueError("away")
    began = time.monotonic()
    turns.give_way(5)
    assert time.monotonic() - began < 1


def test_who_waits_for_another_computer_keeps_nobody_waiting() -> None:
    turns = Turns()
    with turns.first():
        with turns.aside():
            began = time.monotonic()
            turns.give_way(5.0)
            assert time.monotonic() - began < 1
        began = time.monotonic()
        turns.give_way(0.2)
        assert time.monotonic() - began >= 0.2


def test_a_visitors_image_is_computed_on_one_core_and_what_follows_on_all(monkeypatch: pytest.MonkeyPatch) -> None:
    image, path = np.zeros((3, 32, 32), np.uint8), Path("best.safetensors")
    on: list[int] = []

    class Stub:
        def logits(self, images: NDArray[np.uint8]) -> Iterator[torch.Tensor]:
            on.append(torch.get_num_threads())
            yield torch.zeros(len(images), 3)

    before = torch.get_num_threads()
    monkeypatch.setattr(compute, "CORES", 3)
    monkeypatch.setattr(loaders, "network", lambda *_: Stub())
    try:
        # As where another visitor's image is being computed.
        torch.set_num_threads(1)
        assert loaders.said_of.__wrapped__(path, 0, image).tolist() == [0, 0, 0]
        assert on == [1]
        assert torch.get_num_threads() == 3
        monkeypatch.undo()
        torch.set_num_threads(3)
        monkeypatch.setattr(loaders, "network", lambda *_: Stub())
        loaders.said_of.__wrapped__(path, 0, image)
        assert on == [1, 1]
    finally:
        torch.set_num_threads(before)
