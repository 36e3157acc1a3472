"""Commands as datagrams, and a receiver that stops by itself when they cease."""

from __future__ import annotations

import json
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from vla_edge.runtime.control.command import Command, stop_for
from vla_edge.runtime.drive.robots import open_robot
from vla_edge.runtime.drive.udp_robot import MAX_BYTES, UdpRobot, datagram
from vla_edge.runtime.errors import InputError

NAMES, UNITS = ("linear_x", "linear_y"), ("m/s", "m/s")
RECEIVER = Path(__file__).parents[3] / "examples" / "06_udp_robot" / "receiver.py"
MOVING = Command(NAMES, (0.25, -0.5), False, "", None, 12.0)


@pytest.fixture
def listening() -> Iterator[socket.socket]:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as wire:
        wire.bind(("127.0.0.1", 0))
        wire.settimeout(10)
        yield wire


def free_port() -> int:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as wire:
        wire.bind(("127.0.0.1", 0))
        return int(wire.getsockname()[1])


def test_a_datagram_says_what_to_do_until_when_and_why(listening: socket.socket) -> None:
    robot = open_robot(f"udp://127.0.0.1:{listening.getsockname()[1]}", NAMES, UNITS, 200.0)
    robot.send(stop_for(NAMES, "no command yet."))
    robot.send(MOVING)
    first, second = (json.loads(listening.recv(2048)) for _ in range(2))
    robot.close()
    assert first | {"run": "", "time_s": 0} == {
        "v": 1,
        "run": "",
        "seq": 1,
        "time_s": 0,
        "hold_ms": 200.0,
        "stop": True,
        "values": {"linear_x": 0.0, "linear_y": 0.0},
        "reason": "no command yet.",
    }
    assert (second["seq"], second["stop"], second["values"]) == (
        2,
        False,
        {"linear_x": 0.25, "linear_y": -0.5},
    )
    assert second["run"] == first["run"]
    assert 0 <= time.monotonic() - second["time_s"] < 10


def test_no_text_makes_it_too_long() -> None:
    stop = stop_for(NAMES, "컵" * 10_000)
    assert len(datagram(stop, "0" * 16, 10**15, 1e6, 1e9)) < MAX_BYTES


def test_nobody_listening_is_told_by_the_next_moving_command_and_stops_are_sent_on() -> None:
    robot = UdpRobot("127.0.0.1", free_port(), NAMES, 200.0)
    for _ in range(3):
        robot.send(stop_for(NAMES, "no command yet."))
    with pytest.raises(ConnectionRefusedError, match="nobody listens at udp://"):
        robot.send(MOVING)
    robot.send(stop_for(NAMES, "the robot's driver failed."))
    robot.close()


@pytest.mark.parametrize(
    "said",
    [
        "",
        "udp://",
        "udp://host",
        "udp://host:0",
        "udp://host:70000",
        "tcp://host:1",
        "udp://h:1/path",
    ],
)
def test_what_is_no_robot_is_refused(said: str) -> None:
    with pytest.raises(InputError, match="is no robot"):
        open_robot(said, NAMES, UNITS, 200.0)


def test_a_host_that_is_not_there_is_refused() -> None:
    with pytest.raises(InputError, match="cannot be sent to"):
        open_robot("udp://no-such-host.invalid:5005", NAMES, UNITS, 200.0)


def test_more_components_than_fit_are_refused() -> None:
    with pytest.raises(InputError, match="64 components do not fit"):
        UdpRobot("127.0.0.1", 5005, [f"a_component_of_a_long_name_{at}" for at in range(64)], 200.0)


class TestTheReceiver:
    @pytest.fixture
    def port(self) -> int:
        return free_port()

    @pytest.fixture
    def receiver(self, port: int) -> Iterator[subprocess.Popen[str]]:
        with subprocess.Popen(
            [sys.executable, RECEIVER, str(port)], stdout=subprocess.PIPE, text=True
        ) as process:
            yield process
            process.kill()

    def lines(self, process: subprocess.Popen[str], count: int) -> list[str]:
        assert process.stdout is not None
        return [process.stdout.readline().rstrip("\n") for _ in range(count)]

    def test_it_follows_and_stops_by_itself_when_datagrams_cease(
        self, port: int, receiver: subprocess.Popen[str]
    ) -> None:
        wait_for(port)
        robot = UdpRobot("127.0.0.1", port, NAMES, 100.0)
        robot.send(MOVING)
        robot.close()
        assert self.lines(receiver, 2) == [
            "move linear_x=+0.250 linear_y=-0.500 ",
            "move STOP: no datagram came in time",
        ]

    def test_late_ones_and_second_senders_are_passed_over(
        self, port: int, receiver: subprocess.Popen[str]
    ) -> None:
        wait_for(port)
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as wire:
            wire.connect(("127.0.0.1", port))
            stop = stop_for(NAMES, "a fault.")
            for command, run, number in (
                (MOVING, "a", 5),
                (stop, "a", 7),
                (MOVING, "a", 6),
                (MOVING, "b", 1),
            ):
                wire.send(datagram(command, run, number, 400.0, 0.0))
            assert self.lines(receiver, 3)[1:] == ["move a fault.", "move STOP: no datagram came in time"]
            wire.send(datagram(MOVING, "b", 1, 100.0, 0.0))
            assert "linear_x=+0.250" in self.lines(receiver, 1)[0]


def wait_for(port: int) -> None:
    """Until somebody listens at a port."""
    entry = f":{port:04X} "
    deadline_s = time.monotonic() + 20
    while entry not in Path("/proc/net/udp").read_text():
        assert time.monotonic() < deadline_s
        time.sleep(0.01)
