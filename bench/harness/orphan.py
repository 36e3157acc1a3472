"""A measuring process ends with the one that waits for it."""

from __future__ import annotations

import os
import threading


def end_with_parent() -> None:
    """Watch standard input, which the parent holds open while it lives; end this process when it closes.

    A killed parent cannot kill its workers, and a worker that nobody waits for would hold the device.
    """
    threading.Thread(target=_end_at_end_of_input, daemon=True).start()


def _end_at_end_of_input() -> None:
    # not through `sys.stdin`: its lock, held by this thread, would make an ordinary end of the process fail
    while os.read(0, 4096):
        pass
    os._exit(1)
