"""The node's transport on DDS itself: one thread hears, whoever says something writes."""

from __future__ import annotations

import time
from typing import Any

from vla_edge.runtime.ros2.topics import Topics
from vla_edge.runtime.ros2.transport import Diagnosis, Hearing

from . import messages
from .endpoints import LAST_STATUS, LATEST_COMMAND, SENSOR, TEXTS, Writer, reader
from .listening import Listening
from .mismatches import Mismatches
from .participant import Participant


class DdsTransport:
    """See `Transport`.

    Args:
        topics: their names.
        most_image_bytes: of one image; larger ones never reach this process's memory.

    Raises:
        InputError: an environment variable that cannot be used.
        DdsError: the domain cannot be joined.
    """

    def __init__(self, topics: Topics, most_image_bytes: int) -> None:
        self._topics = topics
        self._participant = Participant(most_image_bytes)
        make = self._participant
        self._velocity = Writer(make, topics.velocity, messages.Twist, LATEST_COMMAND)
        self._status = Writer(make, topics.status, messages.String, LAST_STATUS)
        self._result = Writer(make, topics.result, messages.String, TEXTS)
        self._diagnostics = Writer(make, topics.diagnostics, messages.DiagnosticArray, TEXTS)
        self._mismatches = Mismatches()
        for writer in (self._velocity, self._status, self._result, self._diagnostics):
            writer.watched_by(self._mismatches)
        self._listening: Listening | None = None
        self._closed = False
        self.send_velocity(0.0, 0.0)

    def begin(self, hearing: Hearing) -> None:
        topics = self._topics

        def image(message: Any, came_s: float) -> None:
            stamp_ns = messages.nanoseconds_of(message.header.stamp)
            hearing.hear_image(message.data, stamp_ns, came_s)

        def task(message: Any, came_s: float) -> None:
            hearing.hear_task(message.data)

        def control(message: Any, came_s: float) -> None:
            hearing.hear_control(message.data)

        heard = (
            (topics.image, messages.CompressedImage, SENSOR, image),
            (topics.task, messages.String, TEXTS, task),
            (topics.control, messages.String, TEXTS, control),
        )
        readers = [(reader(self._participant, name, kind, qos), tell) for name, kind, qos, tell in heard]
        for (name, *_), (each, _) in zip(heard, readers, strict=True):
            self._mismatches.watch_reader(name, each)
        self._listening = Listening(self._participant, readers, hearing.hear_failure, self._mismatches.look)

    def send_velocity(self, x: float, y: float) -> None:
        self._velocity.say(messages.twist(x, y))

    def send_status(self, text: str) -> None:
        self._status.say(messages.String(text))

    def send_result(self, text: str) -> None:
        self._result.say(messages.String(text))

    def send_diagnosis(self, diagnosis: Diagnosis) -> None:
        values = [messages.KeyValue(key, value) for key, value in diagnosis.values.items()]
        status = messages.DiagnosticStatus(diagnosis.level, diagnosis.name, diagnosis.message, "", values)
        header = messages.Header(messages.time_of(time.time_ns()), "")
        self._diagnostics.say(messages.DiagnosticArray(header, [status]))

    def close(self) -> None:
        """Also a second time."""
        if self._closed:
            return
        self._closed = True
        if self._listening is not None:
            self._listening.close()
        self._mismatches.close()
        for writer in (self._velocity, self._status, self._result, self._diagnostics):
            writer.close()
        self._participant.close()
