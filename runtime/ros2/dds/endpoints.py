"""Writers and readers of ROS 2's topics, with ROS 2's qualities of service."""

from __future__ import annotations

import logging
from typing import Any

from cyclonedds.core import DDSException, Policy, Qos
from cyclonedds.pub import DataWriter
from cyclonedds.sub import DataReader
from cyclonedds.topic import Topic
from cyclonedds.util import duration

from vla_edge.runtime.ros2 import qualities
from vla_edge.runtime.ros2.qualities import Quality
from vla_edge.runtime.ros2.topics import dds_name

from .mismatches import Mismatches
from .participant import DdsError, Participant

_log = logging.getLogger(__name__)

_BLOCKED_MS = 10  # at most, where a reliable reader does not keep up; the loop waits with it
_ACKNOWLEDGED_MS = 500


def _qos(quality: Quality) -> Qos:
    blocked = duration(milliseconds=_BLOCKED_MS)
    return Qos(
        Policy.DataRepresentation(use_cdrv0_representation=True),  # plain CDR, as ROS 2 has it
        Policy.History.KeepLast(quality.depth),
        Policy.Reliability.Reliable(blocked) if quality.reliable else Policy.Reliability.BestEffort,
        Policy.Durability.TransientLocal if quality.lasting else Policy.Durability.Volatile,
    )


LATEST_COMMAND, TEXTS, LAST_STATUS, SENSOR = map(
    _qos, (qualities.LATEST_COMMAND, qualities.TEXTS, qualities.LAST_STATUS, qualities.SENSOR)
)


class Writer:
    """Says messages of one type on one topic.

    Args:
        participant: joined.
        topic: of ROS 2.
        kind: a class of `messages`.
        qos: one of the above.

    Raises:
        DdsError: it cannot be made.
    """

    def __init__(self, participant: Participant, topic: str, kind: type[Any], qos: Qos) -> None:
        self._topic = topic
        try:
            entity = participant.entity
            self._writer: Any = DataWriter(entity, Topic(entity, dds_name(topic), kind), qos)
        except DDSException as error:
            raise DdsError(
                f"{topic} cannot be written to: {error}", "Is another type in use there?"
            ) from error

    def say(self, message: Any) -> None:
        """Raises DdsError where it cannot be sent."""
        try:
            self._writer.write(message)
        except DDSException as error:
            raise DdsError(f"{self._topic} cannot be written to: {error}", "Look at the network.") from error

    def watched_by(self, mismatches: Mismatches) -> None:
        """Have it told of those that cannot hear."""
        mismatches.watch_writer(self._topic, self._writer)

    def close(self) -> None:
        """Wait a moment until every reliable reader has got it all, then leave."""
        try:
            there = self._writer.wait_for_acks(duration(milliseconds=_ACKNOWLEDGED_MS))
        except DDSException:
            there = False
        if not there:
            _log.warning("%s: not every reader has taken the last message", self._topic)
        self._writer = None


def reader(participant: Participant, topic: str, kind: type[Any], qos: Qos) -> Any:
    """A `cyclonedds.sub.DataReader` of one topic.

    Raises:
        DdsError: it cannot be made.
    """
    try:
        return DataReader(participant.entity, Topic(participant.entity, dds_name(topic), kind), qos)
    except DDSException as error:
        raise DdsError(f"{topic} cannot be read: {error}", "Is another type in use there?") from error
