"""The process that shows a drive: it reads updates until there are none, and may hang or fail without harm."""

from __future__ import annotations

import json
import os
import signal
import socket
import sys
import time
from collections.abc import Callable
from urllib.parse import urlsplit

from vla_edge.runtime.foreign import words_of

from .messages import Beginning, Place, Update, unpacked
from .recording import Recording

_FLUSH_EVERY_S = 1.0  # what a power cut costs at most
_CONNECT_S = 3.0
# Longest for a beginning, and for an update: whoever would kill it may have ended.
_BEGIN_S, _STUCK_S = 60, 20
_NICE = 10  # the policy comes first


def main() -> None:
    """Entry point; what it was told stands in its standard input, why it failed in its standard output."""
    os.nice(_NICE)
    ours = os.dup(1)
    os.dup2(2, 1)  # whatever a library prints
    try:
        _show()
    except BaseException as error:
        os.write(ours, json.dumps(words_of(error).strip().partition("\n")[0]).encode("ascii"))
        # not by the interpreter's tidying up, which waits for a viewer that hangs
        os._exit(1)
    os._exit(0)


def _show() -> None:
    read = sys.stdin.buffer.read
    beginning = unpacked(read, Beginning)
    if beginning is None:
        return
    # by the kernel: Rerun waits where no other thread of Python's comes to its turn
    signal.signal(signal.SIGALRM, signal.SIG_DFL)
    signal.alarm(_BEGIN_S)
    _require_listener(beginning.place)
    recording = Recording(beginning)
    flushed_s = float("-inf")
    while (update := _next(read)) is not None:
        recording.add(update)
        if time.monotonic() - flushed_s >= _FLUSH_EVERY_S:
            recording.flush()
            flushed_s = time.monotonic()
    recording.end()


def _next(read: Callable[[int], bytes]) -> Update | None:
    """The next update, however late it comes; from here on the time runs in which it has to be shown."""
    signal.alarm(0)
    try:
        return unpacked(read, Update)
    finally:
        signal.alarm(_STUCK_S)


def _require_listener(place: Place) -> None:
    """Refuse an address at which nobody is: Rerun would wait for him for ever."""
    if place.kind == "address":
        parts = urlsplit(place.where)
        socket.create_connection((parts.hostname or "", parts.port or 0), _CONNECT_S).close()
