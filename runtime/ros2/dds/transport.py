"""The node's transport on DDS itself: one thread hears, whoever says something writes."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from typing import Any

from cyclonedds.core import GuardCondition, InstanceState, ReadCondition, SampleState, ViewState, WaitSet
from cyclonedds.util import duration

from vla_edge.runtime.foreign import words_of
from vla_edge.runtime.ros2.topics import Topics
from vla_edge.runtime.ros2.transport import Diagnosis, Hearing

from . import messages
from .endpoints import LAST_STATUS, LATEST_COMMAND, SENSOR, TEXTS, Writer, reader
from .participant import Participant

_LOOK_S = 0.5
_JOIN_S = 1.0
_AT_ONCE = 16
_ANY = SampleState.Any | ViewState.Any | InstanceState.Any


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
        self._ears: _Ears | None = None
        self._closed = False
        self.send_velocity(0.0, 0.0)

    def begin(self, hearing: Hearing) -> None:
        self._ears = _Ears(self._participant, self._topics, hearing)

    def send_velocity(self, x: float, y: float) -> None:
        self._velocity.say(twist(x, y))

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
        if self._ears is not None:
            self._ears.close()
        for writer in (self._velocity, self._status, self._result, self._diagnostics):
            writer.close()
        self._participant.close()


def twist(x: float, y: float) -> messages.Twist:
    """m/s forward and to the left; no rotation."""
    return messages.Twist(messages.Vector3(x, y, 0.0), messages.Vector3(0.0, 0.0, 0.0))


class _Ears:
    """A thread that takes what comes and passes it on."""

    def __init__(self, participant: Participant, topics: Topics, hearing: Hearing) -> None:
        self._hearing = hearing
        self._readers: list[tuple[Any, Callable[[Any, float], object]]] = [
            (reader(participant, topics.image, messages.CompressedImage, SENSOR), self._image),
            (reader(participant, topics.task, messages.String, TEXTS), self._task),
            (reader(participant, topics.control, messages.String, TEXTS), self._control),
        ]
        self._over = GuardCondition(participant.entity)
        self._waiting = WaitSet(participant.entity)
        self._conditions = [ReadCondition(each, _ANY) for each, _ in self._readers]
        for condition in (self._over, *self._conditions):
            self._waiting.attach(condition)
        self._closing = False
        self._thread = threading.Thread(target=self._listen, name="dds", daemon=True)
        self._thread.start()

    def close(self) -> None:
        self._closing = True
        self._over.set(True)
        self._thread.join(_JOIN_S)
        for condition in (self._over, *self._conditions):
            self._waiting.detach(condition)
        self._conditions.clear()
        self._readers.clear()

    def _listen(self) -> None:
        try:
            while not self._closing:
                self._waiting.wait(duration(seconds=_LOOK_S))
                for each, tell in self._readers:
                    self._take(each, tell)
        except BaseException as error:  # whatever it is: nothing is heard any more
            self._hearing.hear_failure(f"nothing can be heard any more: {words_of(error)}")

    def _take(self, each: Any, tell: Callable[[Any, float], object]) -> None:
        found = each.take(N=_AT_ONCE)
        came_s = time.monotonic()
        for message in found:
            if message.sample_info.valid_data:  # else a writer has left
                tell(message, came_s)

    def _image(self, message: Any, came_s: float) -> None:
        stamp_ns = messages.nanoseconds_of(message.header.stamp)
        self._hearing.hear_image(message.data, stamp_ns, came_s)

    def _task(self, message: Any, came_s: float) -> None:
        self._hearing.hear_task(message.data)

    def _control(self, message: Any, came_s: float) -> None:
        self._hearing.hear_control(message.data)
