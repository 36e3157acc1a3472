"""Four messages of ROS 2, from the bytes of a bag (CDR).

Their layouts are fixed, so definitions that a bag carries are not asked, and no code is made from them; bags in
SQLite carry none. Every length is compared with what is there before it is used.
"""

from __future__ import annotations

import struct

import numpy as np

from vla_edge.runtime.errors import EpisodeError
from vla_edge.runtime.images.reading import check_size, decode_image

IMAGES = ("sensor_msgs/msg/CompressedImage", "sensor_msgs/msg/Image")
COMMANDS = ("geometry_msgs/msg/Twist", "geometry_msgs/msg/TwistStamped")

# Bytes a pixel, and where red, green and blue stand in it.
_ENCODINGS = {
    "rgb8": (3, (0, 1, 2)),
    "bgr8": (3, (2, 1, 0)),
    "rgba8": (4, (0, 1, 2)),
    "bgra8": (4, (2, 1, 0)),
    "mono8": (1, (0, 0, 0)),
    "8UC3": (3, (2, 1, 0)),  # OpenCV's, whose arrays are BGR
}
_ENCAPSULATION_BYTES = 4
_NS = 1_000_000_000


def stamp_ns(kind: str, data: bytes, name: str) -> int | None:
    """The header's stamp, nanoseconds; None of a message without one, and where it was never set.

    Raises:
        EpisodeError: the message is cut short or of an encoding not read.
    """
    return None if kind == COMMANDS[0] else _Message(data, name).header()


def velocities(kind: str, data: bytes, name: str) -> tuple[float, float, float]:
    """Of a command: linear x and y in m/s, angular z in rad/s.

    Raises:
        EpisodeError: as `stamp_ns`.
    """
    message = _Message(data, name)
    if kind == COMMANDS[1]:
        message.header()
    values = message.numbers("d", 6)
    return values[0], values[1], values[5]


def frame(kind: str, data: bytes, name: str) -> np.ndarray:
    """The picture in a message, uint8 RGB [height, width, 3].

    Raises:
        EpisodeError: as `stamp_ns`; or an encoding that is not 8-bit RGB, BGR or grey.
        ImageError: a compressed one that cannot be decoded.
    """
    message = _Message(data, name)
    message.header()
    if kind == IMAGES[0]:
        message.text()  # its format; the content tells
        return np.asarray(decode_image(bytes(message.sequence()), name))
    height, width = message.numbers("I", 2)
    encoding = message.text()
    message.numbers("B", 1)  # whether numbers are big-endian: bytes have no order
    (step,) = message.numbers("I", 1)
    pixels = message.sequence()
    if encoding not in _ENCODINGS:
        raise EpisodeError(
            f"{name} is encoded as {encoding[:32]!r}, which is not read.",
            f"Known are compressed images and {', '.join(_ENCODINGS)}.",
        )
    check_size(int(width), int(height), name)
    channels, order = _ENCODINGS[encoding]
    if step < width * channels or len(pixels) != step * height:
        raise EpisodeError(
            f"{name} has {len(pixels)} bytes for {width}x{height} pixels in rows of {step}.",
            "The message is damaged: leave the recording out.",
        )
    rows = np.frombuffer(pixels, np.uint8).reshape(height, step)[:, : width * channels]
    return np.ascontiguousarray(rows.reshape(height, width, channels)[:, :, list(order)])


class _Message:
    """Reads the fields of a message in turn, each aligned to its size as plain CDR has it."""

    def __init__(self, data: bytes, name: str) -> None:
        self._data, self._name, self._at = memoryview(data), name, _ENCAPSULATION_BYTES
        begin = bytes(data[:2])
        if begin not in (b"\0\0", b"\0\1"):
            raise EpisodeError(
                f"{name} is not plain CDR, but {begin.hex()}.", "Record it with rosbag2's default."
            )
        self._order = "<" if begin == b"\0\1" else ">"

    def header(self) -> int | None:
        """Nanoseconds of a std_msgs/Header; None where they are zero."""
        (seconds,) = self.numbers("i", 1)
        (nanoseconds,) = self.numbers("I", 1)
        self.text()
        return seconds * _NS + nanoseconds or None

    def numbers(self, code: str, count: int) -> tuple[int, ...]:
        size = struct.calcsize(f"<{code}")
        self._at += -(self._at - _ENCAPSULATION_BYTES) % size
        return struct.unpack(f"{self._order}{count}{code}", self._take(size * count))

    def sequence(self) -> memoryview:
        """Of bytes."""
        (count,) = self.numbers("I", 1)
        return self._take(count)

    def text(self) -> str:
        return bytes(self.sequence()).rstrip(b"\0").decode("utf-8", "replace")

    def _take(self, size_bytes: int) -> memoryview:
        taken = self._data[self._at : self._at + size_bytes]
        if len(taken) < size_bytes:
            raise EpisodeError(f"{self._name} is cut short.", "It is damaged: leave the recording out.")
        self._at += size_bytes
        return taken
