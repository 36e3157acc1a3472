"""From what a user writes for a robot to one."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol
from urllib.parse import urlsplit

from vla_edge.runtime.command.extras import require
from vla_edge.runtime.control.command import Command
from vla_edge.runtime.errors import InputError
from vla_edge.runtime.printable import one_line
from vla_edge.runtime.ros2.topics import Topics

from .udp_robot import UdpRobot


class OpenedRobot(Protocol):
    """A robot that is closed after its last stop."""

    def send(self, command: Command) -> object: ...

    def close(self) -> None: ...


class NoRobot:
    """Commands that are shown, and go nowhere."""

    def send(self, command: Command) -> None: ...

    def close(self) -> None: ...


def open_robot(said: str, names: Sequence[str], units: Sequence[str], hold_ms: float) -> OpenedRobot:
    """The robot that is meant.

    Args:
        said: "print", `udp://host:port`, "ros2" for a Twist on /cmd_vel, or `ros2:/another/topic`.
        names, units: of the components.
        hold_ms: how long one command may be followed.

    Raises:
        InputError: it is none of these, cannot be reached, or cannot do what the components say.
        DdsError: the network of `ros2` cannot be joined.
        MissingPackageError: the extra [ros2] is not installed.
    """
    if said == "print":
        return NoRobot()
    scheme, colon, topic = said.partition(":")
    if scheme == "ros2":
        return _on_topic(topic if colon else Topics().velocity, names, units)
    wanted = InputError(f"{one_line(said)} is no robot.", "Give print, udp://host:port, or ros2:/cmd_vel.")
    try:
        parts = urlsplit(said)
        host, port = parts.hostname, parts.port
    except ValueError as error:
        raise wanted from error
    if parts.scheme != "udp" or not host or not port or parts.path or parts.query or parts.username:
        raise wanted
    return UdpRobot(host, port, names, hold_ms)


def _on_topic(topic: str, names: Sequence[str], units: Sequence[str]) -> OpenedRobot:
    require("ros2", "cyclonedds")
    from vla_edge.runtime.ros2.dds.robot import TwistRobot

    return TwistRobot(topic, names, units)
