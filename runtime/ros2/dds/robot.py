"""`/cmd_vel` alone, for a loop that has a camera of its own: `vla-drive --robot ros2`."""

from __future__ import annotations

from collections.abc import Sequence

from vla_edge.runtime.control.command import Command
from vla_edge.runtime.ros2.topics import check_topic
from vla_edge.runtime.ros2.wheels import check_components, velocity_of

from .endpoints import LATEST_COMMAND, Writer
from .messages import Twist, twist
from .participant import Participant

_MOST_BYTES = 1 << 16  # it reads nothing


class TwistRobot:
    """Sends each command as a geometry_msgs/Twist.

    Args:
        topic: of ROS 2.
        names, units: of the components.

    Raises:
        InputError: no name of a topic, an action that a Twist without rotation does not hold, or an environment
            variable that cannot be used.
        DdsError: the domain cannot be joined.
    """

    def __init__(self, topic: str, names: Sequence[str], units: Sequence[str]) -> None:
        check_topic(topic)
        check_components(names, units)
        self._participant = Participant(_MOST_BYTES)
        self._writer = Writer(self._participant, topic, Twist, LATEST_COMMAND)

    def send(self, command: Command) -> None:
        """Raises DdsError where it cannot be sent."""
        self._writer.say(twist(*velocity_of(command)))

    def close(self) -> None:
        """Wait a moment until the last one has come through."""
        self._writer.close()
        self._participant.close()
