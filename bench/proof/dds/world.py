"""What is around a node on DDS: a camera that publishes, a base that is driven, an operator; timed as they see it."""

from __future__ import annotations

import io
import json
import os
import threading
import time
import uuid
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import click
import numpy as np
from PIL import Image

from vla_edge.runtime.ros2.dds import messages
from vla_edge.runtime.ros2.dds.endpoints import SENSOR, TEXTS, Writer, reader
from vla_edge.runtime.ros2.dds.listening import Listening
from vla_edge.runtime.ros2.dds.participant import Participant
from vla_edge.runtime.ros2.topics import Topics

_MOST_BYTES = 64 << 20
_PICTURES = 31  # a prime: however many the node leaves out, none comes back soon, as a frozen camera's would
_PATIENCE_S = 60.0


def loopback_alone() -> dict[str, str]:
    """Variables by which processes hear each other on loopback, and nobody else does."""
    tag = f"<CycloneDDS><Domain><Discovery><Tag>{uuid.uuid4().hex}</Tag></Discovery></Domain></CycloneDDS>"
    return {
        "ROS_LOCALHOST_ONLY": "1",
        "ROS_DOMAIN_ID": str(1 + os.getpid() % 100),
        "CYCLONEDDS_URI": tag,
    }


def pictures(width: int, height: int) -> list[bytes]:
    """JPEGs of a scene with a camera's noise, no two alike; quality 80, as image_transport's default."""
    rng = np.random.default_rng(0)
    down, across = np.mgrid[0:height, 0:width]
    scene = np.stack([across * 200 // width, down * 200 // height, (across + down) % 200], axis=2)
    found = []
    for _ in range(_PICTURES):
        noise = rng.integers(0, 56, (height, width, 1))
        file = io.BytesIO()
        Image.fromarray((scene + noise).astype(np.uint8)).save(file, "JPEG", quality=80)
        found.append(file.getvalue())
    return found


@dataclass
class Heard:
    """Times are monotonic seconds of this process.

    Attributes:
        shown: when the frame of each stamp was handed to DDS.
        velocities: when each came, and whether it moves.
        commands: of each frame that was answered, by its stamp: when its velocity came, and the node's own latency
            from the frame's arrival, ms.
        status: the latest one.
    """

    shown: dict[int, float] = field(default_factory=dict)
    velocities: list[tuple[float, bool]] = field(default_factory=list)
    commands: dict[int, tuple[float, float]] = field(default_factory=dict)
    status: Mapping[str, Any] = field(default_factory=dict)


class World:
    """Joined by this process's environment.

    A command is matched with its frame like this: the node publishes, from one thread, a Twist and then the result that
    names the frame's stamp; so the frame's command is the last Twist whose source time is not after the result's.
    """

    def __init__(self) -> None:
        topics = Topics()
        self._participant = Participant(_MOST_BYTES)
        self._images = Writer(self._participant, topics.image, messages.CompressedImage, SENSOR)
        self._controls = Writer(self._participant, topics.control, messages.String, TEXTS)
        self.heard = Heard()
        self._twists: list[tuple[int, float]] = []  # source time, when it came
        heard = (  # in this order: a result's velocity came before it
            (topics.velocity, messages.Twist, self._velocity),
            (topics.result, messages.String, self._result),
            (topics.status, messages.String, self._status),
        )
        readers = [(reader(self._participant, name, kind, TEXTS), tell) for name, kind, tell in heard]
        self._listening = Listening(self._participant, readers, lambda problem: click.echo(problem, err=True))

    def say(self, word: str) -> None:
        """The operator's word."""
        self._controls.say(messages.String(word))

    def show(self, data: bytes) -> None:
        """One frame, stamped now."""
        stamp_ns = time.time_ns()
        header = messages.Header(messages.time_of(stamp_ns), "camera")
        self.heard.shown[stamp_ns] = time.monotonic()
        self._images.say(messages.CompressedImage(header, "jpeg", data))

    def film(self, scenes: list[bytes], rate_hz: float, seconds: float) -> float:
        """Frames at a fixed rate; when the last one was shown, monotonic seconds."""
        start_s = time.monotonic()
        for at in range(max(1, round(seconds * rate_hz))):
            time.sleep(max(0.0, start_s + at / rate_hz - time.monotonic()))
            self.show(scenes[at % len(scenes)])
        return time.monotonic()

    @contextmanager
    def filming(self, scenes: list[bytes], rate_hz: float) -> Iterator[None]:
        """Frames at a fixed rate meanwhile."""
        over = threading.Event()

        def film() -> None:
            at = 0
            while not over.wait(1.0 / rate_hz):
                self.show(scenes[at % len(scenes)])
                at += 1

        thread = threading.Thread(target=film, daemon=True)
        thread.start()
        try:
            yield
        finally:
            over.set()
            thread.join()

    def wait_for(self, what: Callable[[], object]) -> bool:
        """Whether it became so."""
        end_s = time.monotonic() + _PATIENCE_S
        while not what():
            if time.monotonic() > end_s:
                return False
            time.sleep(0.002)
        return True

    @property
    def moves(self) -> bool:
        """Whether the last command did."""
        return bool(self.heard.velocities) and self.heard.velocities[-1][1]

    def _velocity(self, twist: Any, came_s: float) -> None:
        moves = (twist.linear.x, twist.linear.y) != (0.0, 0.0)
        self.heard.velocities.append((came_s, moves))
        self._twists.append((twist.sample_info.source_timestamp, came_s))

    def _status(self, status: Any, came_s: float) -> None:
        self.heard.status = json.loads(status.data)

    def _result(self, result: Any, came_s: float) -> None:
        told = json.loads(result.data)
        stamp_ns = messages.nanoseconds_of(messages.Time(**told["stamp"]))
        said_ns = result.sample_info.source_timestamp
        sent_s = next((twist_s for at_ns, twist_s in reversed(self._twists) if at_ns <= said_ns), None)
        if sent_s is not None:
            self.heard.commands[stamp_ns] = (sent_s, told["latency_ms"])

    def close(self) -> None:
        """Leave."""
        self._listening.close()
        for writer in (self._images, self._controls):
            writer.close()
        self._participant.close()
