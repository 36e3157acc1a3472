"""Ends that come from outside: Ctrl-C, SIGTERM (systemd, `docker stop`), a closed terminal."""

from __future__ import annotations

import math
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any

ENDING_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
# Signals that come this soon after another are its echo: an impatient second Ctrl-C, a terminal that closes.
REPEAT_S = 1.0


@contextmanager
def uninterrupted() -> Iterator[None]:
    """Hold back what ends a process, for a block of a few moments; it arrives at the block's end.

    For steps that must not be torn apart, and for clean-up that a second Ctrl-C must not break. Only the
    main thread gets signals: elsewhere there is nothing to hold back. SIGKILL cannot be held.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    held: list[int] = []

    def hold(number: int, frame: FrameType | None) -> None:
        held.append(number)

    try:
        with handled_by(hold):
            yield
    finally:
        for number in dict.fromkeys(held):
            signal.raise_signal(number)


@contextmanager
def handled_by(handle: Callable[[int, FrameType | None], None]) -> Iterator[None]:
    """Give what ends a process to `handle` for a block; only in the main thread.

    A signal that is ignored stays so, and one that code outside Python handles is not ours to move.
    """
    previous: list[tuple[int, Any]] = []
    try:
        for number in ENDING_SIGNALS:
            handler = signal.getsignal(number)
            if handler not in (signal.SIG_IGN, None):
                previous.append((number, handler))
                signal.signal(number, handle)
        yield
    finally:
        _restore(previous)


def _restore(previous: list[tuple[int, Any]]) -> None:
    """Put all handlers back, also when one that is back already raises meanwhile."""
    try:
        while previous:
            signal.signal(*previous[-1])
            previous.pop()
    finally:
        if previous:
            _restore(previous)


class Interrupted(KeyboardInterrupt):
    """A signal asked this process to end; what is open cleans up on the way out.

    A KeyboardInterrupt, since that is what every library lets pass.

    Attributes:
        number: of the signal.
    """

    def __init__(self, number: int) -> None:
        self.number = number
        super().__init__(signal.Signals(number).name)

    @property
    def exit_code(self) -> int:
        """What a shell reports for a process that ended by this signal: 130 for Ctrl-C."""
        return 128 + self.number


class SignalsRaise:
    """Turns Ctrl-C, SIGTERM and SIGHUP into `Interrupted` in the main thread, also as process 1.

    The kernel gives process 1, as in a container, no default action for them. One that is ignored already,
    as `nohup` and a shell's `&` do, stays ignored.

    An exception can be lost: libraries have `except:` around what they try to import, and one out of a
    destructor goes nowhere. So it is raised again every second until the process is about to end.

    Attributes:
        received: the first signal that came; None so far.
    """

    def __init__(self) -> None:
        self.received: int | None = None
        self._ending = threading.Event()
        self._asking = threading.Lock()
        self._last_s = -math.inf
        self._previous: list[tuple[int, Any]] = []
        self._previous_hook = sys.unraisablehook

    def install(self) -> None:
        """Take the signals over. Only in the main thread."""
        for number in ENDING_SIGNALS:
            handler = signal.getsignal(number)
            if handler != signal.SIG_IGN:
                self._previous.append((number, signal.SIG_DFL if handler is None else handler))
                signal.signal(number, self._handle)
        self._previous_hook, sys.unraisablehook = sys.unraisablehook, self._tell_unraisable

    def release(self) -> None:
        """Give the signals back, when nothing is left to clean up."""
        self._ending.set()
        with self._asking:  # whatever is sent has been sent: the handler, still ours, drops it
            pass
        _restore(self._previous)
        sys.unraisablehook = self._previous_hook

    def _handle(self, number: int, frame: FrameType | None) -> None:
        if self._ending.is_set():
            return
        if self.received is None:
            self.received = number
            threading.Thread(target=self._ask_again, args=(number,), daemon=True).start()
        last_s, self._last_s = self._last_s, time.monotonic()
        if self._last_s - last_s >= REPEAT_S:
            raise Interrupted(number)

    def _ask_again(self, number: int) -> None:
        main = threading.main_thread().ident
        while main is not None and not self._ending.wait(1.1 * REPEAT_S):
            with self._asking:
                if not self._ending.is_set():
                    signal.pthread_kill(main, number)

    def _tell_unraisable(self, swallowed: sys.UnraisableHookArgs) -> None:
        if not isinstance(swallowed.exc_value, Interrupted):
            self._previous_hook(swallowed)
