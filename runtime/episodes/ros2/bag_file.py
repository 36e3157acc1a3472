"""One file of a bag: its messages in the order in which they were written, and each again by its place."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, NamedTuple, Protocol

MAX_MESSAGE_BYTES = 64 << 20  # also of a chunk that is unpacked: one is held at a time
MAX_MESSAGES = 20_000_000
MAX_TOPICS = 10_000


class Topic(NamedTuple):
    """A topic, and the type of its messages, such as "geometry_msgs/msg/Twist"."""

    name: str
    kind: str


class Stored(NamedTuple):
    """A message as it is stored.

    Attributes:
        topic: that it was published on.
        log_ns: when it was recorded, nanoseconds.
        data: its bytes, CDR.
        place: by which `BagFile.again` finds it.
    """

    topic: Topic
    log_ns: int
    data: bytes
    place: Any


class BagFile(Protocol):
    """A file of messages, open until `close`."""

    def messages(self) -> Iterator[Stored]:
        """All of the kinds that are read."""

    def again(self, place: Any) -> bytes:
        """The bytes of a message that `messages` gave."""

    def close(self) -> None:
        """No use after it."""
