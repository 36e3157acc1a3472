"""A drive as it is shown: what camera and robot say is kept for a thread that may wait, as they may not.

Nothing here grows: one frame, the newest; so many commands, the newest; what there is no time for is counted.
"""

from __future__ import annotations

import os
import sys
import threading
import time
import uuid
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from vla_edge.runtime.control.loop.health import Health, State
from vla_edge.runtime.control.loop.protocols import Camera, Captured
from vla_edge.runtime.foreign import words_of
from vla_edge.runtime.printable import one_line

from .jpeg import jpeg
from .messages import Beginning, Frame, Place, Told, Update
from .process import PATIENCE_S, GoneError, ShowProcess

if TYPE_CHECKING:
    from vla_edge.runtime.control.command import Command

EVERY_S = 0.1  # at most ten frames a second
LONGEST_PX, QUALITY = 480, 75  # of a frame as a JPEG
_AGAIN_S, _LAST_S = 5.0, 2.0
_MOST_COMMANDS = 10_000
_FRAMES_KNOWN = 256  # their numbers: seconds of a fast camera
_NICE = 10
_LOST, _NO_PICTURE = "lost", "no picture"  # what is noted once each


class Sent(Protocol):
    """A command, and when it was sent: monotonic seconds."""

    @property
    def time_s(self) -> float: ...

    @property
    def command(self) -> Command: ...


@dataclass(frozen=True)
class Drive:
    """What is shown of a drive from its beginning.

    Attributes:
        names, units, limits: of the action's components.
        deadline_ms: from a frame's capture to its command.
        about: lines on what drives.
    """

    names: tuple[str, ...]
    units: tuple[str, ...]
    limits: tuple[float, ...]
    deadline_ms: float
    about: Sequence[str] = ()


class Show:
    """Shows a drive at a place, from entering to leaving.

    Args:
        place: where.
        drive: what.
        health: of the loop, from any thread.
        note: is told of a viewer that is not there, in a line; from another thread.
        start: begins the process that shows.
    """

    def __init__(
        self,
        place: Place,
        drive: Drive,
        health: Callable[[], Health | None],
        note: Callable[[str], object],
        start: Callable[[Beginning], ShowProcess] = ShowProcess,
    ) -> None:
        self._place, self._drive, self._health, self._note, self._start = place, drive, health, note, start
        self._began_s = time.monotonic()
        about = (*drive.about, f"time 0 is time_s {self._began_s:.6f} of -o")
        self._beginning = Beginning(
            place, str(uuid.uuid4()), drive.names, drive.units, drive.limits, drive.deadline_ms, about
        )
        self._newest: tuple[int, Captured] | None = None
        self._numbers: deque[tuple[float, int]] = deque(maxlen=_FRAMES_KNOWN)
        self._commands: deque[Sent] = deque(maxlen=_MOST_COMMANDS)
        self._action: object = None
        self._frame, self._instruction = 0, ""
        self._process: ShowProcess | None = None
        self._again_s = 0.0
        self._noted: set[str] = set()
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._work, name="show", daemon=True)
        self.frames = self.shown_frames = self.shown_commands = self.dropped_commands = 0

    def watching(self, camera: Camera) -> Camera:
        """The camera, whose frames are shown as well."""
        return _Watched(camera, self._saw)

    def sent(self, sent: Sent) -> None:
        """Keep a command to be shown; never waits."""
        self.dropped_commands += len(self._commands) == _MOST_COMMANDS
        self._commands.append(sent)

    def __enter__(self) -> Show:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        try:
            self._thread.join()
        except BaseException:  # a signal, at which nobody waits any longer
            process = self._process
            # a file's ends by itself, when it is written
            if process is not None and self._place.kind != "file":
                process.abandon()
            raise

    def summary(self) -> str:
        """What was shown, in a line."""
        text = f"shown: {self.shown_frames} of {self.frames} frames (at most {1 / EVERY_S:g} a second)"
        if self.dropped_commands:
            text += f", without {self.dropped_commands} commands, which nobody took in time"
        if self._place.kind == "file" and _LOST not in self._noted:
            size_mb = Path(self._place.where).stat().st_size / 1e6
            minutes = (time.monotonic() - self._began_s) / 60
            text += f"; {size_mb:.1f} MB, {size_mb / minutes:.1f} a minute, in {one_line(self._place.where)}"
        return text

    def _saw(self, captured: Any) -> None:
        """Of the camera's thread."""
        frame, captured_s = captured
        self.frames += 1
        self._numbers.append((captured_s, self.frames))
        self._newest = (self.frames, Captured(frame, captured_s))

    def _work(self) -> None:
        if sys.platform.startswith("linux"):
            os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), _NICE)  # of this thread alone
        while True:
            over = self._over.wait(EVERY_S)
            try:
                self._show(_LAST_S if over else PATIENCE_S)
                if over and self._process is not None:
                    self._process.end()
            except GoneError as error:
                self._lost(str(error))
            except Exception as error:  # a mistake of ours must not end in silence either
                self._lost(words_of(error))
            if over:
                return

    def _show(self, patience_s: float) -> None:
        """Take what came and pass it on; where nobody is, it is dropped."""
        update = self._taken()
        if self._process is None:
            if time.monotonic() < self._again_s:
                self.dropped_commands += len(update.commands)
                return
            self._process = self._start(self._beginning)
        self._process.send(update, patience_s)
        self.shown_frames += update.frame is not None
        self.shown_commands += len(update.commands)

    def _lost(self, why: str) -> None:
        process, self._process = self._process, None
        if process is not None:
            process.kill()
        again = self._place.kind == "address"
        self._again_s = time.monotonic() + (_AGAIN_S if again else float("inf"))
        more = f"it is tried every {_AGAIN_S:g} s" if again else "nothing more is shown"
        self._say(
            _LOST, f"{_FAILED[self._place.kind]}: {one_line(why).rstrip('.')}. The drive goes on; {more}."
        )

    def _say(self, what: str, text: str) -> None:
        """The first time that it is so; afterwards it is known that not all is shown."""
        if what not in self._noted:
            self._noted.add(what)
            self._note(text)

    def _taken(self) -> Update:
        newest, self._newest = self._newest, None
        frame = None if newest is None else self._encoded(*newest)
        commands = tuple(self._told(self._commands.popleft()) for _ in range(len(self._commands)))
        health = self._health()
        state = health.state.value if health else State.WAITING.value
        reason = health.reason if health else ""
        now_s, figures = time.monotonic() - self._began_s, _figures(health)
        return Update(now_s, commands, frame, state, reason, self._instruction, figures)

    def _encoded(self, number: int, captured: Captured) -> Frame | None:
        try:
            data = jpeg(captured.frame, LONGEST_PX, QUALITY)
        except Exception as error:  # no picture; whether the robot may go on is the controller's to say
            self._say(_NO_PICTURE, f"frame {number} cannot be shown: {words_of(error)}.")
            return None
        return Frame(number, captured.captured_s - self._began_s, data)

    def _told(self, sent: Sent) -> Told:
        command = sent.command
        time_s, action = sent.time_s - self._began_s, command.action
        if action is None:
            return Told(time_s, 0, command.values, None, None)
        first, self._action = action is not self._action, action
        if first:
            self._instruction = action.instruction or ""
            self._frame = self._number_at(sent.time_s - command.latency_ms / 1e3)
        return Told(time_s, self._frame, command.values, action.values, command.latency_ms if first else None)

    def _number_at(self, captured_s: float) -> int:
        """Of the newest frame that was taken by then: a command tells its frame's age, and not which it was."""
        known = [number for taken_s, number in tuple(self._numbers) if taken_s <= captured_s + 1e-3]
        return max(known, default=0)


class _Watched:
    """A camera whose frames somebody else sees, too."""

    def __init__(self, camera: Camera, saw: Callable[[Any], object]) -> None:
        self._camera, self._saw = camera, saw

    def read(self) -> Any:
        captured = self._camera.read()
        if captured is not None:
            self._saw(captured)
        return captured


_FAILED = {
    "viewer": "the viewer cannot be reached",
    "file": "the recording cannot be written",
    "address": "the viewer cannot be reached",
}


def _figures(health: Health | None) -> dict[str, float]:
    if health is None:
        return {}
    found = {
        "rate [Hz]": health.answered_hz,
        "ticks missed": float(health.missed_ticks),
        "frames not used": float(health.dropped_frames),
    }
    if health.latency_p50_ms is not None and health.latency_p99_ms is not None:
        found |= {"latency p50 [ms]": health.latency_p50_ms, "latency p99 [ms]": health.latency_p99_ms}
    return {name: round(value, 1) for name, value in found.items()}
