"""How messages are sent and kept, whatever the transport: ROS 2's qualities of service, each decided once."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Quality:
    """Of a topic.

    Attributes:
        depth: how many messages are kept, the newest.
        reliable: whether one that is lost is sent again.
        lasting: whether who comes later gets the last ones.
    """

    depth: int
    reliable: bool = True
    lasting: bool = False


LATEST_COMMAND = Quality(1)  # a command is the latest one or none
TEXTS = Quality(10)  # as rclpy's default
LAST_STATUS = Quality(1, lasting=True)
SENSOR = Quality(1, reliable=False)
