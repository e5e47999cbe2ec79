"""What can wait gives way to what somebody waits for."""

from __future__ import annotations

import threading
import time

import pytest

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
