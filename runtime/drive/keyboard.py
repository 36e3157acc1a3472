"""Enter on the terminal resets a robot that a fault has stopped."""

from __future__ import annotations

import os
import select
import sys
import threading
import time
from typing import Protocol

_LOOK_S = 0.2


class Resettable(Protocol):
    """What Enter needs of a `Controller`."""

    @property
    def fault(self) -> str | None: ...

    def ask_reset(self) -> None: ...


def reset_on_enter(controller: Resettable) -> bool:
    """Watch for Enter from now on, in a thread of its own; whether there is a terminal to press it on."""
    try:
        terminal = sys.stdin.fileno()
        there = os.isatty(terminal)
    except (OSError, ValueError):  # replaced, or closed
        return False
    if there:
        threading.Thread(target=_watch, args=(controller, terminal), name="keyboard", daemon=True).start()
    return there


def _watch(controller: Resettable, terminal: int) -> None:
    while True:
        ready, _, _ = select.select([terminal], [], [], _LOOK_S)
        if not ready or _in_background(terminal):
            time.sleep(_LOOK_S if ready else 0)
            continue
        if not _read(terminal):
            return
        if controller.fault is not None:
            controller.ask_reset()


def _read(terminal: int) -> bytes:
    """What was typed; nothing where the terminal is gone."""
    try:
        return os.read(terminal, 4096)
    except OSError:
        return b""


def _in_background(terminal: int) -> bool:
    """Whether reading would have the kernel send SIGTTIN, which would end the drive."""
    try:
        return os.tcgetpgrp(terminal) != os.getpgrp()
    except OSError:  # not the terminal of this session, so nobody's background
        return False
