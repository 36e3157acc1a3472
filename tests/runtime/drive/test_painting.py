"""A screen is drawn by a thread of its own, which may fail or hang alone."""

from __future__ import annotations

import sys
import threading
import time

import pytest
from loop_parts import NAMES

from vla_edge.runtime.control.command import stop_for
from vla_edge.runtime.drive.painting import Painter
from vla_edge.runtime.drive.watching import Sent


class Drawn(list[Sent]):
    """A screen that remembers; the terminal of `gone` was closed, that of `stuck` takes nothing more."""

    def __init__(self, gone: bool = False, stuck: threading.Event | None = None) -> None:
        self.gone, self.stuck, self.ended = gone, stuck, 0

    def __call__(self, sent: Sent) -> None:
        self.append(sent)
        if self.gone:
            raise OSError(5, "Input/output error")
        if self.stuck is not None:
            self.stuck.wait(60)

    def end(self) -> None:
        self.ended += 1


def sent(at: int) -> Sent:
    return Sent(float(at), stop_for(NAMES, "a reason."))


def test_the_newest_is_drawn_and_the_last() -> None:
    screen = Drawn()
    with Painter(screen) as painter:
        for at in range(1000):
            painter(sent(at))
    assert screen[-1] == sent(999)
    assert len(screen) < 1000
    assert (screen.ended, painter.error) == (1, None)


def test_a_screen_that_fails_is_asked_no_more() -> None:
    screen = Drawn(gone=True)
    with Painter(screen) as painter:
        painter(sent(0))
        while painter.error is None:
            time.sleep(0.01)
        painter(sent(1))
    assert (len(screen), screen.ended) == (1, 1)


def test_one_that_hangs_is_left_and_so_is_standard_output_whose_lock_it_may_hold(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(sys, "stdout", sys.stdout)  # put back
    before, stuck = sys.stdout, threading.Event()
    with Painter(Drawn(stuck=stuck)) as painter:
        painter(sent(0))
        time.sleep(0.2)
    assert sys.stdout is not before
    sys.stdout.close()
    stuck.set()
