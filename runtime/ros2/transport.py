"""What stands between the node and a network: one small protocol each way. No transport knows what a policy is."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Protocol

# Levels of diagnostic_msgs/DiagnosticStatus.
OK, WARN, ERROR = 0, 1, 2


@dataclass(frozen=True)
class Diagnosis:
    """One diagnostic_msgs/DiagnosticStatus.

    Attributes:
        level: `OK`, `WARN` or `ERROR`.
        name: of what is diagnosed.
        message: in a few words.
        values: figures, as text.
    """

    level: int
    name: str
    message: str
    values: Mapping[str, str]


class Hearing(Protocol):
    """What a transport tells the node, from whatever thread it has. Nothing of it waits, decodes or raises."""

    def hear_image(self, data: bytes, stamp_ns: int, received_s: float) -> None:
        """A compressed image: its bytes, its header's stamp in nanoseconds (0 where unset), and the monotonic
        seconds at which it came."""

    def hear_task(self, text: str) -> None: ...

    def hear_control(self, text: str) -> None: ...

    def hear_failure(self, problem: str) -> None:
        """The transport itself has failed: nothing can be heard any more."""


class Transport(Protocol):
    """What the node says. Nothing of it waits for whoever hears it; what cannot be sent raises."""

    def begin(self, hearing: Hearing) -> None:
        """Tell what comes from now on."""

    def send_velocity(self, x: float, y: float) -> None:
        """geometry_msgs/Twist: m/s forward and to the left; all else is zero."""

    def send_status(self, text: str) -> None: ...

    def send_result(self, text: str) -> None: ...

    def send_diagnosis(self, diagnosis: Diagnosis) -> None: ...

    def close(self) -> None:
        """Wait a moment until what was said has come through, then leave."""
