"""What was sent, for a file and a screen: written by a thread of its own, so that no disk holds the robot up."""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable
from types import TracebackType
from typing import Any, NamedTuple, Protocol

from vla_edge.runtime.control.command import Command
from vla_edge.runtime.control.loop.protocols import Robot

_MOST_WAITING = 10_000  # commands: minutes of a disk that hangs
_REDRAW_S = 0.1


class Sent(NamedTuple):
    """A command, and when it was sent: monotonic seconds."""

    time_s: float
    command: Command

    def as_fields(self) -> dict[str, Any]:
        """In JSON's own types."""
        command = self.command
        fields: dict[str, Any] = {
            "time_s": self.time_s,
            "moving": not command.stopped,
            "reason": command.reason,
            "values": dict(zip(command.names, command.values, strict=True)),
            "latency_ms": command.latency_ms,
        }
        if command.action is not None:
            fields |= {"instruction": command.action.instruction, "raw": list(command.action.raw)}
        return fields


class Redrawn(Protocol):
    """What shows the latest command."""

    def __call__(self, sent: Sent, /) -> object: ...

    def end(self) -> object: ...


class Watched:
    """A robot whose commands are kept. Entered, it writes them; left, it has written all.

    Args:
        robot: gets each command first.
        write: called with each `Sent`, by the other thread.
        screen: called ten times a second with the latest one, by the other thread, and ended by it.
        show: called with each as well, also where none can be written; must not wait.

    Attributes:
        dropped: commands that were not written, since the file was too slow.
        error: that ended the writing.
        unseen: that ended the showing on the screen, as of a terminal that is gone; the writing goes on.
    """

    def __init__(
        self,
        robot: Robot,
        write: Callable[[Sent], object],
        screen: Redrawn,
        show: Callable[[Sent], object] = lambda sent: None,
    ) -> None:
        self._robot, self._write, self._screen, self._show = robot, write, screen, show
        self._waiting: deque[Sent] = deque()
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._work, name="watching", daemon=True)
        self.dropped = 0
        self.error: Exception | None = None
        self.unseen: Exception | None = None

    def send(self, command: Command) -> None:
        """To the robot; what it raises is the loop's."""
        self._robot.send(command)
        if len(self._waiting) < _MOST_WAITING:
            self._waiting.append(Sent(time.monotonic(), command))
        else:
            self.dropped += 1

    def __enter__(self) -> Watched:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._over.set()
        self._thread.join()

    def _work(self) -> None:
        latest: Sent | None = None
        while True:
            over = self._over.wait(_REDRAW_S)  # before the last look: what was sent until then is there
            latest = self._write_all() or latest
            self._redraw(latest, over)
            if over:
                return

    def _redraw(self, latest: Sent | None, over: bool) -> None:
        try:
            if latest is not None and self.unseen is None:
                self._screen(latest)
            if over:
                self._screen.end()
        except Exception as error:  # nobody may see it any more, but the file is whole
            self.unseen = self.unseen or error

    def _write_all(self) -> Sent | None:
        latest = None
        while self._waiting:
            latest = self._waiting.popleft()
            self._show(latest)
            if self.error is None:
                self._write_one(latest)
        return latest

    def _write_one(self, sent: Sent) -> None:
        try:
            self._write(sent)
        except Exception as error:  # a full disk is told at the end; the robot drives on
            self.error = error
