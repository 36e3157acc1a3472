"""`--robot ros2`: Twists on a topic, heard by another participant."""

from __future__ import annotations

import contextlib
import subprocess
import sys
from pathlib import Path

import pytest
from dds_peer import Peer
from lively import jpeg

from vla_edge.bench.proof.dds.world import loopback_alone
from vla_edge.runtime.control.command import Command, stop_for
from vla_edge.runtime.drive.robots import open_robot
from vla_edge.runtime.errors import InputError
from vla_edge.runtime.ros2.dds.endpoints import LATEST_COMMAND, Writer
from vla_edge.runtime.ros2.dds.messages import Twist
from vla_edge.runtime.ros2.dds.robot import TwistRobot
from vla_edge.runtime.ros2.topics import Topics

NAMES, UNITS = ("linear_x", "linear_y"), ("m/s", "m/s")


@pytest.fixture(autouse=True)
def _alone(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in loopback_alone().items():
        monkeypatch.setenv(name, value)


def test_commands_are_velocities_and_stops_are_zero() -> None:
    with contextlib.closing(open_robot("ros2:/base/cmd_vel", NAMES, UNITS, 200.0)) as robot:
        assert isinstance(robot, TwistRobot)
        with contextlib.closing(Peer(Topics(velocity="/base/cmd_vel"), robot._participant)) as peer:
            robot.send(Command(NAMES, (0.25, -0.5), False, "", None, 1.0))
            peer.wait_for(lambda: len(peer.velocities) == 1, "nothing came")
            robot.send(stop_for(NAMES, "why"))
            peer.wait_for(lambda: len(peer.velocities) == 2, "no stop came")
    assert [velocity[1:] for velocity in peer.velocities] == [(0.25, -0.5), (0.0, 0.0)]


@pytest.mark.parametrize("said", ["ros2:", "ros2:cmd_vel", "ros2:/a b"])
def test_what_is_no_topic_is_refused(said: str) -> None:
    with pytest.raises(InputError, match="is no name of a topic"):
        open_robot(said, NAMES, UNITS, 200.0)


def test_an_action_that_turns_is_refused() -> None:
    with pytest.raises(InputError, match="angular_z in rad/s"):
        open_robot("ros2", ("linear_x", "angular_z"), ("m/s", "rad/s"), 200.0)


def test_a_process_may_join_again_after_it_has_left() -> None:
    for _ in range(2):
        robot = open_robot("ros2", NAMES, UNITS, 200.0)
        assert isinstance(robot, TwistRobot)
        Writer(robot._participant, "/another", Twist, LATEST_COMMAND).close()
        robot.close()


def test_vla_drive_moves_it_and_stands_at_the_end(pristine_bundle: Path, tmp_path: Path) -> None:
    for at in range(20):
        (tmp_path / f"frame{at}.jpg").write_bytes(jpeg(at))
    command = [
        sys.executable,
        "-m",
        "vla_edge.runtime.drive.cli",
        str(pristine_bundle),
        "--camera",
        str(tmp_path),
    ]
    command += ["--robot", "ros2", "--rate", "20", "--deadline", "3000", "--threads", "1"]
    with contextlib.closing(Peer()) as peer:
        done = subprocess.run(command, capture_output=True, timeout=60, check=False)
        assert done.returncode == 0
        peer.wait_for(lambda: peer.velocities and not peer.moves, "no stop")
    assert any(velocity[1:] != (0.0, 0.0) for velocity in peer.velocities)
