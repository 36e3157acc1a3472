"""The process that shows a drive: it reads updates until there are none, and may hang or fail without harm."""

from __future__ import annotations

import json
import os
import socket
import sys
import time
from urllib.parse import urlsplit

from vla_edge.runtime.foreign import words_of

from .messages import Beginning, Place, Update, unpacked
from .recording import Recording

_FLUSH_EVERY_S = 1.0  # what a power cut costs at most
_CONNECT_S = 3.0
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
    _require_listener(beginning.place)
    recording = Recording(beginning)
    flushed_s = float("-inf")
    while (update := unpacked(read, Update)) is not None:
        recording.add(update)
        if time.monotonic() - flushed_s >= _FLUSH_EVERY_S:
            recording.flush()
            flushed_s = time.monotonic()
    recording.end()


def _require_listener(place: Place) -> None:
    """Refuse an address at which nobody is: Rerun would wait for him for ever."""
    if place.kind == "address":
        parts = urlsplit(place.where)
        socket.create_connection((parts.hostname or "", parts.port or 0), _CONNECT_S).close()
