"""The README's robot code runs as it stands."""

from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

README = Path(__file__).parents[2] / "README.md"
NAME = "best_simple_clip_lstm_model-fp16"

# What a robot brings: a camera that calls the scene of the test's choice, and wheels that write into a file.
STAND_INS = """
import os, sys, time
import numpy as np

log = os.open("robot", os.O_WRONLY | os.O_CREAT | os.O_APPEND)

class Robot:
    def move(self, linear_x, linear_y):
        os.write(log, f"{linear_x} {linear_y}\\n".encode())

class Camera:
    def __init__(self, scene):
        self.scene, self.frames, self.rng = scene, 0, np.random.default_rng(0)

    def read(self):
        global running
        self.frames += 1
        time.sleep(0.005)
        if self.frames > (21 if self.scene == "late" else 40) and self.scene != "for ever":
            running = False
        if self.frames > 20:
            if self.scene == "unplugged":
                raise OSError("the camera is gone")
            if self.scene == "covered":
                return np.zeros((480, 640, 3), np.uint8)
            if self.scene == "late":
                time.sleep(1.1)
        return self.rng.integers(0, 256, (480, 640, 3), dtype=np.uint8)

robot, camera, running = Robot(), Camera(sys.argv[1]), True
"""


def robot_code() -> str:
    blocks = re.findall(r"```python\n(.*?)```", README.read_text(encoding="utf-8"), re.DOTALL)
    return next(block for block in blocks if "robot.move" in block)


@pytest.fixture
def home(tmp_path: Path, pristine_bundle: Path) -> Path:
    """A folder in which the code's path leads to a bundle."""
    shutil.copytree(pristine_bundle, tmp_path / "engines" / NAME)
    return tmp_path


def start(home: Path, scene: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-c", STAND_INS + robot_code() + "\nprint(controller.fault)", scene],
        cwd=home,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def moves(home: Path) -> list[bool]:
    """Whether each command of the robot moved it."""
    path = home / "robot"
    lines = path.read_text().splitlines() if path.exists() else []
    return [line != "0.0 0.0" for line in lines]


def test_it_drives_and_stops_at_its_end(home: Path) -> None:
    process = start(home, "lively")
    out, errors = process.communicate(timeout=60)
    assert (process.returncode, errors) == (0, "")
    assert moves(home) == [True] * 41 + [False]
    assert "leaves the block" in out


@pytest.mark.parametrize(
    ("scene", "reason"), [("covered", "the frame shows nothing"), ("late", "1000 ms are allowed")]
)
def test_a_fault_stops_it_for_good(home: Path, scene: str, reason: str) -> None:
    process = start(home, scene)
    out, _ = process.communicate(timeout=60)
    assert process.returncode == 0
    assert reason in out
    driven = moves(home)
    assert driven[:20] == [True] * 20
    assert not any(driven[20:])


def test_an_error_of_the_camera_stops_it(home: Path) -> None:
    process = start(home, "unplugged")
    _, errors = process.communicate(timeout=60)
    assert process.returncode == 1
    assert "OSError: the camera is gone" in errors
    assert moves(home) == [True] * 20 + [False]


@pytest.mark.parametrize("name", ["SIGTERM", "SIGINT", "SIGHUP"])
def test_a_signal_stops_it(home: Path, name: str) -> None:
    process = start(home, "for ever")
    while len(moves(home)) < 5:
        assert process.poll() is None, process.communicate()[1]
        time.sleep(0.005)
    os.kill(process.pid, signal.Signals[name])
    process.communicate(timeout=60)
    number = signal.Signals[name]
    assert process.returncode == (-number if name == "SIGINT" else 128 + number)
    driven = moves(home)
    assert driven[:5] == [True] * 5
    assert not driven[-1]
