"""Another process than the node's on DDS: it publishes frames, tasks and words, and hears what the node says."""

# cyclonedds reads the annotations of its types when they are made
import json
import os
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from cyclonedds.domain import DomainParticipant
from cyclonedds.idl import IdlStruct
from cyclonedds.idl.types import float64
from cyclonedds.pub import DataWriter
from cyclonedds.topic import Topic
from lively import jpeg

from vla_edge.runtime.ros2.dds import messages
from vla_edge.runtime.ros2.dds.endpoints import SENSOR, TEXTS, Writer, reader
from vla_edge.runtime.ros2.dds.participant import Participant
from vla_edge.runtime.ros2.topics import Topics, dds_name

PATIENCE_S = 30.0
_MOST_BYTES = 64 << 20


def image(data: bytes, stamp_ns: int | None = None) -> messages.CompressedImage:
    stamp = messages.time_of(time.time_ns() if stamp_ns is None else stamp_ns)
    return messages.CompressedImage(messages.Header(stamp, "camera"), "jpeg", data)


@dataclass
class _Lie(IdlStruct, typename="sensor_msgs.msg.dds_.CompressedImage_"):
    number: float64
    text: str


class Peer:
    """Joined by the variables of this process's environment.

    Attributes:
        velocities: (when it came, linear x, linear y) of each Twist; other fields are asserted to be zero.
        statuses, results: the JSON of each.
        diagnoses: (level, message) of each.
    """

    def __init__(self, topics: Topics | None = None, participant: Participant | None = None) -> None:
        names = topics or Topics()
        self._image_topic = names.image
        self._joined = None if participant else Participant(_MOST_BYTES)
        self._participant = self.participant = participant or self._joined
        self._images = Writer(self._participant, names.image, messages.CompressedImage, SENSOR)
        self._tasks = Writer(self._participant, names.task, messages.String, TEXTS)
        self._controls = Writer(self._participant, names.control, messages.String, TEXTS)
        self.velocities: list[tuple[float, float, float]] = []
        self.statuses: list[dict[str, Any]] = []
        self.results: list[dict[str, Any]] = []
        self.diagnoses: list[tuple[int, str]] = []
        self._readers = [
            (reader(self._participant, names.velocity, messages.Twist, TEXTS), self._velocity),
            (reader(self._participant, names.status, messages.String, TEXTS), self._status),
            (reader(self._participant, names.result, messages.String, TEXTS), self._result),
            (reader(self._participant, names.diagnostics, messages.DiagnosticArray, TEXTS), self._diagnosis),
        ]
        self._closing = threading.Event()
        self._pumping = threading.Event()
        self._numbers = iter(range(1 << 30))
        self._thread = threading.Thread(target=self._live, daemon=True)
        self._thread.start()

    def _live(self) -> None:
        # a prime: however many the node leaves out, none comes back soon, as a frozen camera's would
        pictures = [jpeg(seed) for seed in range(31)]
        while not self._closing.wait(0.02):
            if self._pumping.is_set():
                self.show(pictures[next(self._numbers) % len(pictures)])
            for each, take in self._readers:
                for message in each.take(N=100):
                    if message.sample_info.valid_data:
                        take(message)

    def show(self, data: bytes, stamp_ns: int | None = None) -> None:
        self._images.say(image(data, stamp_ns))

    def fault_of(self, data: bytes) -> dict[str, Any]:
        """The status of the fault that such images lead to: again and again, since a newer one may replace any."""
        begin = len(self.statuses)

        def found() -> dict[str, Any] | None:
            self.show(data)
            return next((each for each in self.statuses[begin:] if each["state"] == "fault"), None)

        self.wait_for(found, "no fault")
        return next(each for each in self.statuses[begin:] if each["state"] == "fault")

    def say(self, word: str) -> None:
        self._controls.say(messages.String(word))

    def set_task(self, text: str) -> None:
        self._tasks.say(messages.String(text))

    @contextmanager
    def pumping(self) -> Iterator[None]:
        """Frames meanwhile, thirty or so a second."""
        self._pumping.set()
        try:
            yield
        finally:
            self._pumping.clear()

    @contextmanager
    def liar(self) -> Iterator[Callable[[], None]]:
        """What publishes, under the name of the image's type, something of another layout."""
        entity = DomainParticipant(int(os.environ["ROS_DOMAIN_ID"]))
        writer = DataWriter(entity, Topic(entity, dds_name(self._image_topic), _Lie), SENSOR)
        yield lambda: writer.write(_Lie(1.0, "no picture"))

    def wait_for(self, what: Callable[[], object], why: str) -> None:
        """Until it is so."""
        end_s = time.monotonic() + PATIENCE_S
        while not what():
            if time.monotonic() > end_s:
                raise AssertionError(f"{why}: the last status is {self.statuses[-1:]}")
            time.sleep(0.01)

    def wait_for_state(self, state: str) -> dict[str, Any]:
        """A status of this state that comes from now on."""
        begin = len(self.statuses)
        self.wait_for(lambda: any(each["state"] == state for each in self.statuses[begin:]), f"never {state}")
        return next(each for each in self.statuses[begin:] if each["state"] == state)

    @property
    def moves(self) -> bool:
        return bool(self.velocities) and self.velocities[-1][1:] != (0.0, 0.0)

    def _velocity(self, message: Any) -> None:
        rest = (message.linear.z, message.angular.x, message.angular.y, message.angular.z)
        assert rest == (0.0, 0.0, 0.0, 0.0)
        self.velocities.append((time.monotonic(), message.linear.x, message.linear.y))

    def _status(self, message: Any) -> None:
        self.statuses.append(json.loads(message.data))

    def _result(self, message: Any) -> None:
        self.results.append(json.loads(message.data))

    def _diagnosis(self, message: Any) -> None:
        (status,) = message.status
        self.diagnoses.append((status.level, status.message))

    def close(self) -> None:
        self._closing.set()
        self._thread.join()
        self._readers.clear()
        for writer in (self._images, self._tasks, self._controls):
            writer.close()
        if self._joined is not None:
            self._joined.close()
