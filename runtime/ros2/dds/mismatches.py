"""Who is on a topic and not heard, or does not hear, since the qualities of service do not fit: said in the log."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from typing import Any

_log = logging.getLogger(__name__)

_EVERY_S = 0.5
# Of DDS' policies those that ROS 2 lets a user choose.
_NAMES = {2: "durability", 4: "deadline", 6: "ownership", 8: "liveliness", 11: "reliability"}


class Mismatches:
    """rclpy warns of them by itself, DDS says nothing: a "stop" said by a best-effort publisher would just be lost."""

    def __init__(self) -> None:
        self._watched: list[tuple[str, Callable[[], Any]]] = []
        self._seen: dict[str, int] = {}
        self._next_s = 0.0

    def watch_reader(self, topic: str, reader: Any) -> None:
        """A `cyclonedds.sub.DataReader`."""
        words = f"a publisher on {topic} is not heard"
        self._watched.append((words, reader.get_requested_incompatible_qos_status))

    def watch_writer(self, topic: str, writer: Any) -> None:
        """A `cyclonedds.pub.DataWriter`."""
        words = f"a subscriber on {topic} does not hear this node"
        self._watched.append((words, writer.get_offered_incompatible_qos_status))

    def look(self) -> None:
        """Warn of those that have come since the last time; twice a second at most."""
        now_s = time.monotonic()
        if now_s < self._next_s:
            return
        self._next_s = now_s + _EVERY_S
        for words, status_of in self._watched:
            status = status_of()
            if status.total_count > self._seen.get(words, 0):
                policy = _NAMES.get(status.last_policy_id, f"policy {status.last_policy_id}")
                _log.warning("%s: its quality of service does not fit (%s); see docs/ros2.md", words, policy)
            self._seen[words] = status.total_count

    def close(self) -> None:
        """Let go of readers and writers."""
        self._watched.clear()
