"""The newest command on a screen, drawn by a thread of its own: a terminal that takes nothing keeps nobody waiting."""

from __future__ import annotations

import os
import sys
import threading
from types import TracebackType
from typing import Protocol

from .watching import Sent

_REDRAW_S = 0.1
_LAST_S = 0.5  # for the last lines


class Screen(Protocol):
    """What shows a command."""

    def __call__(self, sent: Sent, /) -> object: ...

    def end(self) -> object: ...


class Painter:
    """Draws on a screen, ten times a second at most, from entering to leaving.

    Args:
        screen: called and ended by the other thread alone.

    Attributes:
        error: that ended the drawing, as of a terminal that is gone.
    """

    def __init__(self, screen: Screen) -> None:
        self._screen = screen
        self._newest: Sent | None = None
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._work, name="painter", daemon=True)
        self.error: Exception | None = None

    def __call__(self, sent: Sent) -> None:
        """Keep the newest; never waits."""
        self._newest = sent

    def __enter__(self) -> Painter:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._over.set()
        self._thread.join(_LAST_S)
        if self._thread.is_alive():
            # It hangs in standard output, as in `| less`, and holds its lock: whoever flushes that would hang, too.
            sys.stdout = open(os.devnull, "w")  # noqa: SIM115  for the rest of the program

    def _work(self) -> None:
        try:
            try:
                self._draw()
            finally:
                self._screen.end()
        except Exception as error:  # nobody may see it any more; the robot drives on, and the file is whole
            self.error = error

    def _draw(self) -> None:
        over = False
        while not over:
            over = self._over.wait(_REDRAW_S)  # before the last look: what came until then is drawn
            newest = self._newest
            if newest is not None:
                self._screen(newest)
