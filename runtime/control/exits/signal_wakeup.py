"""News of signals while the main thread is inside native code, where Python's handlers wait.

Python writes the number of each signal that it handles into one file, the wakeup descriptor, in the moment in which
it comes. There is one for the whole program, and event loops want it too (asyncio's `add_signal_handler`, GUIs):
whoever sets it last would cut the others off. So the wire keeps it, and passes every byte on to who wanted it.
"""

from __future__ import annotations

import contextlib
import os
import signal
import threading
from collections.abc import Callable

_AT_ONCE = 512
_LAST_BYTE = b"\0"  # no signal has this number


class SignalWire:
    """Tells any number of listeners, from a thread of its own that lives as long as there is one.

    `connect`, `disconnect` and `leave_to_parent` belong to the main thread.
    """

    def __init__(self) -> None:
        self._listeners: tuple[
            Callable[[int], None], ...
        ] = ()  # replaced, never changed: two threads read it
        self._wanted_fd = -1  # where the bytes would go without the wire
        self._set_fd = signal.set_wakeup_fd

    def connect(self, tell: Callable[[int], None]) -> None:
        """Call `tell(number)` for each signal that Python handles, from another thread."""
        if not self._listeners:
            self._begin()
        self._listeners = (*self._listeners, tell)

    def disconnect(self, tell: Callable[[int], None]) -> None:
        """Tell this one nothing more; after the last one the descriptor goes back to whom it belongs."""
        if tell not in self._listeners:
            return
        self._listeners = tuple(listener for listener in self._listeners if listener != tell)
        if not self._listeners:
            self._give_back()
            with contextlib.suppress(OSError):
                os.write(self._writer, _LAST_BYTE)
            os.close(self._writer)

    def leave_to_parent(self) -> None:
        """In a forked child, where the thread did not come along."""
        if self._listeners:
            self._listeners = ()
            self._give_back()

    def _begin(self) -> None:
        reader, self._writer = os.pipe()
        os.set_blocking(self._writer, False)
        threading.Thread(target=self._listen, args=(reader,), name="signal-wire", daemon=True).start()
        self._set_fd = signal.set_wakeup_fd
        self._wanted_fd = self._set_fd(self._writer, warn_on_full_buffer=False)
        # Nobody but the main thread can set the descriptor, and nobody at all can ask who did: no other thread
        # could take it back while the main one hangs. So the function itself is stood in for.
        signal.set_wakeup_fd = self._instead

    def _instead(self, fd: int, /, *, warn_on_full_buffer: bool = True) -> int:
        """`signal.set_wakeup_fd` for everybody else."""
        if not self._listeners:
            return self._set_fd(fd, warn_on_full_buffer=warn_on_full_buffer)
        try:
            self._set_fd(fd, warn_on_full_buffer=warn_on_full_buffer)  # refuses what it always refuses
        finally:
            if threading.current_thread() is threading.main_thread():
                self._set_fd(self._writer, warn_on_full_buffer=False)
        before, self._wanted_fd = self._wanted_fd, fd
        return before

    def _give_back(self) -> None:
        if signal.set_wakeup_fd == self._instead:
            signal.set_wakeup_fd = self._set_fd
        fd = self._set_fd(-1)
        with contextlib.suppress(OSError, ValueError):  # closed meanwhile
            self._set_fd(self._wanted_fd if fd == self._writer else fd, warn_on_full_buffer=False)
        self._wanted_fd = -1

    def _listen(self, reader: int) -> None:
        try:
            while numbers := os.read(reader, _AT_ONCE):
                self._pass_on(numbers.rstrip(_LAST_BYTE))
                if numbers.endswith(_LAST_BYTE):
                    return
        finally:
            os.close(reader)

    def _pass_on(self, numbers: bytes) -> None:
        for number in numbers:
            for tell in self._listeners:
                tell(number)
        if numbers and self._wanted_fd != -1:
            with contextlib.suppress(OSError):  # full, so it has news enough; or closed
                os.write(self._wanted_fd, numbers)
