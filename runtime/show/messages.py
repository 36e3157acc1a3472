"""What the process of `vla-drive` tells the one that shows it: one beginning, then updates, each with its length."""

from __future__ import annotations

import struct
from collections.abc import Callable
from typing import Literal, TypeVar

import msgspec

_LENGTH = struct.Struct(">I")
_Any = TypeVar("_Any")


class Place(msgspec.Struct, frozen=True):
    """Where it is shown.

    Attributes:
        kind: a viewer that is opened here, a file, or a viewer that runs already.
        where: the file's path, or the address.
    """

    kind: Literal["viewer", "file", "address"]
    where: str = ""


class Beginning(msgspec.Struct, frozen=True):
    """What stays the same.

    Attributes:
        place: where it is shown.
        recording: the same for all that belongs together.
        names, units, limits: of the action's components; a limit is the largest absolute value.
        deadline_ms: from a frame's capture to its command.
        about: lines on bundle, engine, camera, robot and instruction.
    """

    place: Place
    recording: str
    names: tuple[str, ...]
    units: tuple[str, ...]
    limits: tuple[float, ...]
    deadline_ms: float
    about: tuple[str, ...]


class Frame(msgspec.Struct, frozen=True):
    """A frame of the camera as a JPEG; its time in seconds since the beginning."""

    number: int
    time_s: float
    jpeg: bytes


class Told(msgspec.Struct, frozen=True):
    """A command that was sent.

    Attributes:
        time_s: since the beginning.
        frame: the number of the frame that it comes from; 0 where it comes from none.
        values: that were sent, each component in its unit.
        said: by the policy, before acceleration and smoothing; None of a stop.
        latency_ms: from capture to command, where this is the first command from its frame.
    """

    time_s: float
    frame: int
    values: tuple[float, ...]
    said: tuple[float, ...] | None
    latency_ms: float | None


class Update(msgspec.Struct, frozen=True):
    """What happened since the one before.

    Attributes:
        time_s: since the beginning.
        commands: in their order.
        frame: the newest one, if there is a new one.
        state: of the loop.
        reason: why the robot is stopped; empty while it moves.
        instruction: that was followed last.
        figures: of the loop, by names with their units.
    """

    time_s: float
    commands: tuple[Told, ...]
    frame: Frame | None
    state: str
    reason: str
    instruction: str
    figures: dict[str, float]


def packed(message: Beginning | Update) -> bytes:
    """A message with its length."""
    data = msgspec.msgpack.encode(message)
    return _LENGTH.pack(len(data)) + data


def unpacked(read: Callable[[int], bytes], kind: type[_Any]) -> _Any | None:
    """The next message; None at the end, also in the middle of one.

    Args:
        read: gives so many bytes, fewer at the end.
        kind: of the message.
    """
    head = read(_LENGTH.size)
    if len(head) < _LENGTH.size:
        return None
    (length,) = _LENGTH.unpack(head)
    data = read(length)
    return None if len(data) < length else msgspec.msgpack.decode(data, type=kind)
