"""What a loop needs of a camera, a robot and a controller."""

from __future__ import annotations

from typing import Any, NamedTuple, Protocol

from vla_edge.runtime.control.causes import Cause
from vla_edge.runtime.control.command import Command


class Captured(NamedTuple):
    """A frame and its moment; a plain tuple of both does as well.

    Attributes:
        frame: as `Policy.act` takes it, uint8 RGB [height, width, 3]; the camera does not write to it any more.
        captured_s: when it was taken, by the controller's clock (`time.monotonic`).
    """

    frame: Any
    captured_s: float


class Camera(Protocol):
    """Called from one thread, which is not the one that sends commands."""

    def read(self) -> Captured | tuple[Any, float] | None:
        """Wait for the next frame. None: there will be none any more, as at the end of a file.

        What it raises is a fault. It is called again after that, so that a camera which can be opened anew is
        there when somebody resets.
        """


class Robot(Protocol):
    """Wheels, or what leads to them."""

    def send(self, command: Command) -> object:
        """Pass a command on; zeros where `command.stopped`. It must not wait: the loop waits with it.

        What it raises is a fault. Called from the loop's thread; the last stop may come from another one, where
        the loop's hangs.
        """


class Steered(Protocol):
    """What the loop needs of `Controller`."""

    @property
    def fault(self) -> str | None: ...

    @property
    def cause(self) -> Cause | None: ...

    def step(
        self, frame: Any, instruction: str | None = None, captured_s: float | None = None
    ) -> Command: ...

    def current(self) -> Command: ...

    def halt(self, reason: str, cause: Cause = Cause.HALT) -> None: ...

    def reset(self) -> None: ...
