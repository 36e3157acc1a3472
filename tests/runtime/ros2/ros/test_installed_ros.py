"""Both transports against ROS 2's own rclpy, where `make ros` has installed one: real nodes, real Fast DDS."""

from __future__ import annotations

import base64
import contextlib
import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest
from lively import jpeg
from ros_python import ROOT, ROS_PYTHON

pytestmark = pytest.mark.ros

_PATIENCE_S = 40.0
PARAMETERS = """
vla_edge:
  ros__parameters:
    rate_hz: 20.0
    deadline_ms: 3000.0
    camera_ms: 400.0
"""
NODES = {
    "dds": [sys.executable, "-m", "vla_edge.runtime.ros2.cli"],
    "rclpy": [str(ROS_PYTHON), "-m", "vla_edge.runtime.ros2.cli", "--transport", "rclpy"],
}


@pytest.fixture(autouse=True)
def _alone(monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest) -> None:
    """A domain of its own for each test, on loopback: Fast DDS knows no tags."""
    at = int.from_bytes(os.urandom(2), "big")
    monkeypatch.setenv("ROS_DOMAIN_ID", str(101 + at % 100))
    monkeypatch.setenv("ROS_AUTOMATIC_DISCOVERY_RANGE", "LOCALHOST")
    monkeypatch.delenv("CYCLONEDDS_URI", raising=False)


class World:
    """A process on rclpy that is camera, operator and base."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        self._process = process
        self.heard: dict[str, list[Any]] = defaultdict(list)
        self._filming = threading.Event()
        self._over = threading.Event()
        self._orders = threading.Lock()
        for work in (self._listen, self._film):
            threading.Thread(target=work, daemon=True).start()

    def order(self, order: str, value: Any) -> None:
        with self._orders:
            assert self._process.stdin is not None
            self._process.stdin.write(json.dumps({"order": order, "value": value}) + "\n")
            self._process.stdin.flush()

    def show(self, data: bytes) -> None:
        self.order("image", base64.b64encode(data).decode())

    def shows_no_picture(self) -> bool:
        """Whether the node is in a fault; if not, one more damaged image: a newer one may have replaced the last."""
        if self.last("status").get("state") == "fault":
            return True
        self.show(b"\xff\xd8\xff no picture")
        return False

    @contextlib.contextmanager
    def filming(self) -> Iterator[None]:
        self._filming.set()
        try:
            yield
        finally:
            self._filming.clear()

    def wait_for(self, what: Callable[[], object], why: str) -> None:
        end_s = time.monotonic() + _PATIENCE_S
        while not what():
            assert time.monotonic() < end_s, f"{why}: {self.heard['status'][-1:]}"
            time.sleep(0.01)

    def wait_for_state(self, state: str) -> dict[str, Any]:
        self.wait_for(lambda: self.last("status").get("state") == state, f"never {state}")
        found: dict[str, Any] = self.last("status")
        return found

    def last(self, kind: str) -> Any:
        return self.heard[kind][-1] if self.heard[kind] else {}

    @property
    def moves(self) -> bool:
        return any(self.last("velocity") or [])

    def set_off(self) -> None:
        """It moves, whatever was before."""
        self.order("control", "reset")
        self.wait_for_state("stopped")
        self.order("control", "start")
        self.wait_for(lambda: self.moves, "it does not move")

    def change(self, transition: str) -> bool:
        """Ask for a transition of the lifecycle; whether it succeeded."""
        before = len(self.heard["transition"])
        self.order("transition", transition)
        self.wait_for(lambda: len(self.heard["transition"]) > before, f"no answer to {transition}")
        name, success = self.last("transition")
        assert name == transition
        return bool(success)

    def _listen(self) -> None:
        assert self._process.stdout is not None
        for line in self._process.stdout:
            told = json.loads(line)
            self.heard[told["kind"]].append(told["value"])

    def _film(self) -> None:
        seed = 0
        while not self._over.wait(0.03):
            if self._filming.is_set():
                seed += 1
                self.show(jpeg(seed))

    def close(self) -> None:
        self._over.set()
        self._process.kill()


@contextlib.contextmanager
def world(*arguments: str) -> Iterator[World]:
    command = [str(ROS_PYTHON), str(ROOT / "tests" / "support" / "ros_peer.py"), *arguments]
    with (
        subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process,
        contextlib.closing(World(process)) as found,
    ):
        found.wait_for(lambda: found.heard["ready"], "rclpy does not come up")
        yield found


@contextlib.contextmanager
def node(command: Sequence[str]) -> Iterator[subprocess.Popen[bytes]]:
    with subprocess.Popen(command) as process:
        try:
            yield process
        finally:
            process.kill()


@pytest.fixture
def parameters(tmp_path: Path) -> Path:
    file = tmp_path / "node.yaml"
    file.write_text(PARAMETERS)
    return file


@pytest.mark.parametrize("transport", NODES)
def test_a_real_ros_2_drives_it_and_is_driven(
    transport: str, pristine_bundle: Path, parameters: Path
) -> None:
    options = [str(pristine_bundle), "--params", str(parameters), "--threads", "1"]
    with world() as ros, node([*NODES[transport], *options]) as process:
        assert ros.wait_for_state("stopped")["reason"] == "waits for start."
        with ros.filming():
            ros.set_off()
            ros.wait_for(lambda: ros.last("result"), "no result")
            assert ros.last("result")["stamp"]["sec"] > 1.7e9
            ros.order("task", "go to the cup")
            ros.wait_for(lambda: ros.last("result")["instruction"] == "go to the cup", "no task")
            ros.wait_for(lambda: ros.last("diagnosis") == [0, "moving"], "not well")
            ros.wait_for(lambda: ros.shows_no_picture(), "no fault")
            assert ros.last("status")["cause"] == "frame"
            ros.set_off()
        assert ros.wait_for_state("fault")["cause"] == "camera"
        with ros.filming():
            ros.set_off()
            process.send_signal(signal.SIGTERM)
            assert process.wait(_PATIENCE_S) == 128 + signal.SIGTERM
        ros.wait_for(lambda: not ros.moves, "the last command moves")
        assert {tuple(velocity[2:]) for velocity in ros.heard["velocity"]} == {(0.0, 0.0, 0.0, 0.0)}


def test_the_lifecycle_of_ros_2_begins_and_ends_it(pristine_bundle: Path, parameters: Path) -> None:
    remapping = ["-r", "/cmd_vel:=/base/cmd_vel"]
    command = [str(ROS_PYTHON), "-m", "vla_edge.runtime.ros2.ros.start", "--ros-args", *remapping]
    command += ["--params-file", str(parameters), "-p", f"bundle:={pristine_bundle}", "-p", "autostart:=true"]
    with world("--ros-args", *remapping) as ros, node(command) as process, ros.filming():
        assert ros.change("configure")
        for _ in range(2):
            assert ros.change("activate")
            ros.wait_for(lambda: ros.moves, "it does not move")
            assert ros.change("deactivate")
            ros.wait_for(lambda: not ros.moves, "it moves on")
            begin = len(ros.heard["velocity"])
            time.sleep(0.3)
            assert not any(any(velocity) for velocity in ros.heard["velocity"][begin:])
        assert ros.change("cleanup")
        assert ros.change("configure")
        assert ros.change("activate")
        ros.wait_for(lambda: ros.moves, "it does not move again")
        assert ros.change("active_shutdown")
        assert process.wait(_PATIENCE_S) == 0
        ros.wait_for(lambda: not ros.moves, "the last command moves")


def test_a_parameter_that_is_not_known_is_told() -> None:
    command = [str(ROS_PYTHON), "-m", "vla_edge.runtime.ros2.ros.start", "--ros-args", "-p", "deadline:=5.0"]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as process:
        assert process.stderr is not None
        assert "there is no parameter deadline: it does nothing." in process.stderr.readline()
        process.kill()


def test_a_parameter_of_another_type_is_told(pristine_bundle: Path) -> None:
    command = [str(ROS_PYTHON), "-m", "vla_edge.runtime.ros2.ros.start", "--ros-args", "-p", "rate_hz:=ten"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=_PATIENCE_S, check=False)
    assert done.returncode == 2
    assert "ROS refuses its arguments or a parameter" in done.stderr
    assert "Traceback" not in done.stderr
