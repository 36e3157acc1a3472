"""Qualities of service that do not fit are told, both ways: what is said or heard so would just be lost."""

from __future__ import annotations

import contextlib
import time

import pytest
from cyclonedds.core import Policy, Qos
from cyclonedds.util import duration
from dds_peer import PATIENCE_S

from vla_edge.bench.proof.dds.world import loopback_alone
from vla_edge.runtime.ros2.dds import messages
from vla_edge.runtime.ros2.dds.endpoints import LATEST_COMMAND, SENSOR, TEXTS, Writer, reader
from vla_edge.runtime.ros2.dds.mismatches import Mismatches
from vla_edge.runtime.ros2.dds.participant import Participant

PLAIN_CDR = Policy.DataRepresentation(use_cdrv0_representation=True)
LASTING = Qos(
    Policy.Reliability.Reliable(max_blocking_time=duration(milliseconds=10)),
    Policy.Durability.TransientLocal,
    PLAIN_CDR,
)


def test_who_is_not_heard_and_who_does_not_hear_is_told_once(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    for name, value in loopback_alone().items():
        monkeypatch.setenv(name, value)
    found = Mismatches()
    with contextlib.closing(Participant(1 << 20)) as participant:
        ours = [reader(participant, "/word", messages.String, TEXTS)]
        velocity = Writer(participant, "/cmd_vel", messages.Twist, LATEST_COMMAND)
        found.watch_reader("/word", ours[0])
        velocity.watched_by(found)
        theirs = [
            Writer(participant, "/word", messages.String, SENSOR),
            reader(participant, "/cmd_vel", messages.Twist, LASTING),
        ]
        end_s = time.monotonic() + PATIENCE_S
        while len(caplog.messages) < 2 and time.monotonic() < end_s:
            found.look()
            time.sleep(0.05)
        found._next_s = 0.0
        found.look()
        found.close()
        ours.clear()
        theirs.clear()
        velocity.close()
    assert sorted(caplog.messages) == [
        "a publisher on /word is not heard: its quality of service does not fit (reliability); see docs/ros2.md",
        "a subscriber on /cmd_vel does not hear this node: its quality of service does not fit (durability); "
        "see docs/ros2.md",
    ]
