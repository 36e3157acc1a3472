"""From what a user writes for a robot to one."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol
from urllib.parse import urlsplit

from vla_edge.runtime.control.command import Command
from vla_edge.runtime.errors import InputError
from vla_edge.runtime.printable import one_line

from .udp_robot import UdpRobot


class OpenedRobot(Protocol):
    """A robot that is closed after its last stop."""

    def send(self, command: Command) -> object: ...

    def close(self) -> None: ...


class NoRobot:
    """Commands that are shown, and go nowhere."""

    def send(self, command: Command) -> None: ...

    def close(self) -> None: ...


def open_robot(said: str, names: Sequence[str], hold_ms: float) -> OpenedRobot:
    """The robot that is meant.

    Args:
        said: "print", or `udp://host:port`.
        names: of the components.
        hold_ms: how long one command may be followed.

    Raises:
        InputError: it is neither, or cannot be reached.
    """
    if said == "print":
        return NoRobot()
    wanted = InputError(f"{one_line(said)} is no robot.", "Give print, or udp://host:port.")
    try:
        parts = urlsplit(said)
        host, port = parts.hostname, parts.port
    except ValueError as error:
        raise wanted from error
    if parts.scheme != "udp" or not host or not port or parts.path or parts.query or parts.username:
        raise wanted
    return UdpRobot(host, port, names, hold_ms)
