"""What was sent, for a file and others: written by a thread of its own, so that no disk holds the robot up."""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from types import TracebackType
from typing import Any, NamedTuple

from vla_edge.runtime.control.command import Command
from vla_edge.runtime.control.loop.protocols import Robot

_MOST_WAITING = 10_000  # commands: minutes of a disk that hangs
_LOOK_S = 0.1


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


class Watched:
    """A robot whose commands are kept. Entered, it writes them; left, it has written all.

    Args:
        robot: gets each command first.
        write: called with each `Sent`, by the other thread.
        told: called with each as well, also where none can be written; must not wait.

    Attributes:
        dropped: commands that were not written, since the file was too slow.
        error: that ended the writing.
    """

    def __init__(
        self,
        robot: Robot,
        write: Callable[[Sent], object],
        told: Sequence[Callable[[Sent], object]] = (),
    ) -> None:
        self._robot, self._write, self._told = robot, write, told
        self._waiting: deque[Sent] = deque()
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._work, name="watching", daemon=True)
        self.dropped = 0
        self.error: Exception | None = None

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
        over = False
        while not over:
            over = self._over.wait(_LOOK_S)  # before the last look: what was sent until then is there
            self._write_all()

    def _write_all(self) -> None:
        while self._waiting:
            sent = self._waiting.popleft()
            for tell in self._told:
                tell(sent)
            if self.error is None:
                self._write_one(sent)

    def _write_one(self, sent: Sent) -> None:
        try:
            self._write(sent)
        except Exception as error:  # a full disk is told at the end; the robot drives on
            self.error = error
