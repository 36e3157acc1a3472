"""`Controller.run` with its threads: it drives, and stops for hangs, signals and a parent that dies."""

from __future__ import annotations

import os
import re
import signal
import threading
import time
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from loop_parts import NAMES, Robot

from vla_edge.runtime import Controller, ControllerOptions, InputError, Policy
from vla_edge.runtime.control.causes import Cause
from vla_edge.runtime.control.loop.health import State
from vla_edge.runtime.control.loop.options import RunOptions

RATE_HZ = 50.0


class Camera:
    """A frame every 10 ms; ends after `frames`."""

    def __init__(self, frames: int = 30, then: Callable[[], Any] = lambda: None) -> None:
        self.left, self.then = frames, then
        self._rng = np.random.default_rng(0)

    def read(self) -> tuple[np.ndarray, float] | None:
        time.sleep(0.01)
        self.left -= 1
        if self.left < 0:
            return self.then()
        return self._rng.integers(0, 256, (48, 64, 3), dtype=np.uint8), time.monotonic()


def controller_of(act: Callable[..., Any] | None = None, **options: Any) -> Controller:
    action = SimpleNamespace(names=NAMES, values=(0.5, -0.5), chunk=((0.5, -0.5),))
    spec = SimpleNamespace(names=NAMES, limit=(1.0, 1.0), units=("m/s", "m/s"))
    policy: Any = SimpleNamespace(
        manifest=SimpleNamespace(action=spec, name="tiny"),
        act=act or (lambda frame, instruction=None: action),
        reset=lambda: None,
    )
    return Controller(policy, ControllerOptions(**{"deadline_ms": 300.0} | options))


def test_it_drives_from_the_first_stop_to_the_last(pristine_bundle: Any) -> None:
    robot = Robot()
    with Policy.load(pristine_bundle, threads=1) as policy:
        policy.warmup()
        controller = Controller(policy, ControllerOptions(deadline_ms=1000.0))
        health = controller.run(Camera(), robot, RATE_HZ)
    assert robot.sent[0].stopped
    assert robot.sent[-1].stopped
    assert robot.moving > 5
    assert all(not command.stopped for command in robot.sent if command.action)
    assert (health.state, health.reason, health.cause) == (State.ENDED, "the camera has ended.", Cause.END)
    assert (health.frames, health.commands, health.moving_commands) == (30, len(robot.sent), robot.moving)
    assert health.latency_p99_ms is not None
    assert "onnxruntime" in health.engine
    assert health.bundle == "tiny"
    assert controller.health() is not None


def test_another_run_stands_until_the_end_of_the_one_before_is_reset() -> None:
    controller, robot = controller_of(), Robot()
    controller.run(Camera(), robot, RATE_HZ)
    moved = robot.moving
    assert moved > 0
    assert controller.run(Camera(10), robot, RATE_HZ).reason == "the camera has ended."
    assert robot.moving == moved
    controller.reset()
    controller.run(Camera(), robot, RATE_HZ)
    assert robot.moving > moved


def test_a_camera_that_writes_where_the_engine_reads_is_refused(make_bundle: Callable[..., Path]) -> None:
    robot = Robot()
    with Policy.load(make_bundle(camera=(48, 64, "rgb")), threads=1) as policy:

        class Driver(Camera):
            def read(self) -> tuple[np.ndarray, float] | None:
                shot = super().read()
                if shot is None:
                    return None
                policy.frame[0] = shot[0]
                return policy.frame[0], shot[1]

        health = Controller(policy).run(Driver(), robot, RATE_HZ)
    assert robot.moving == 0
    assert health.cause is Cause.CAMERA
    assert "the camera gives policy.frame, which the engine reads" in health.reason


def test_a_policy_that_never_returns_is_stopped_by_the_loop() -> None:
    let_go = threading.Event()
    robot, turns = Robot(), iter(range(100))
    action = SimpleNamespace(names=NAMES, values=(0.5, -0.5))

    def act(frame: Any, instruction: str | None = None) -> Any:
        if next(turns) >= 5:
            let_go.wait(20)
        return action

    controller = controller_of(act)
    health = controller.run(Camera(1000), robot, RATE_HZ, RunOptions(end_on_fault=True))
    let_go.set()
    assert health.cause is Cause.HANG
    assert "has not answered for" in health.reason
    assert robot.moving
    assert robot.sent[-1].stopped


@pytest.mark.parametrize("name", ["SIGTERM", "SIGINT", "SIGHUP"])
def test_a_signal_stops_it(name: str) -> None:
    robot = Robot()
    controller = controller_of()
    camera = Camera(20, then=lambda: os.kill(os.getpid(), signal.Signals[name]) or time.sleep(20))
    with pytest.raises((SystemExit, KeyboardInterrupt)):
        controller.run(camera, robot, RATE_HZ)
    health = controller.health()
    assert health is not None
    assert (health.state, health.cause) == (State.ENDED, Cause.SIGNAL)
    assert f"told to end by {name}" in health.reason
    assert robot.moving
    assert robot.sent[-1].stopped


def test_a_camera_that_fails_is_read_again_and_drives_on_after_a_reset() -> None:
    robot = Robot()
    fails = iter([True] * 3)
    camera = Camera(15)

    def then() -> None:
        if next(fails, False):
            camera.left = 15
            threading.Timer(0.05, controller.ask_reset).start()
            raise OSError("unplugged")

    camera.then = then
    controller = controller_of()
    health = controller.run(camera, robot, RATE_HZ)
    assert health.stops[Cause.CAMERA] == 3
    assert health.resets == 3
    stops = [command.reason for command in robot.sent if command.stopped]
    assert any("the camera failed: OSError: unplugged" in reason for reason in stops)


@pytest.mark.parametrize("found", ["frame", (1, "now"), (1, float("nan"))])
def test_what_is_no_frame_with_a_time_is_a_fault_of_the_camera(found: object) -> None:
    health = controller_of().run(
        Camera(5, then=lambda: found), Robot(), RATE_HZ, RunOptions(end_on_fault=True)
    )
    assert health.cause is Cause.CAMERA


@pytest.mark.parametrize(
    ("rate_hz", "options", "words"),
    [
        (0, {}, "rate_hz=0 is no rate"),
        (float("nan"), {}, "rate_hz=nan"),
        (1.0, {}, "leaves 1000 ms between two commands, and a command holds for 600 ms"),
        (10.0, {"camera_ms": 0}, "camera_ms=0"),
        (10.0, {"smoothing_ms": -1}, "smoothing_ms=-1"),
        (10.0, {"chunk_step_ms": 0}, "chunk_step_ms=0"),
        (10.0, {"acceleration": {"angular_z": 1}}, "no component 'angular_z'"),
        (10.0, {"acceleration": {"linear_x": 0}}, "the acceleration of linear_x=0"),
    ],
)
def test_what_cannot_be_kept_is_refused_before_anything_is_sent(
    rate_hz: float, options: dict[str, Any], words: str
) -> None:
    robot = Robot()
    with pytest.raises(InputError) as refused:
        controller_of().run(Camera(), robot, rate_hz, RunOptions(**options))
    assert words in str(refused.value)
    assert robot.sent == []


def test_the_code_of_its_page_drives() -> None:
    page = Path(__file__).parents[4] / "docs" / "control.md"
    code = re.findall(r"```python\n(.*?)```", page.read_text(encoding="utf-8"), re.DOTALL)[0]
    camera, moves = Camera(1000), []

    def grab() -> np.ndarray:
        found = camera.read()
        if found is None:
            raise OSError("unplugged")
        return found[0]

    def move(*values: float) -> None:
        moves.append(values)
        if len(moves) > 6 and values == (0.5, -0.5):
            raise SystemExit

    names = {"time": time, "grab": grab, "controller": controller_of(), "robot": SimpleNamespace(move=move)}
    with pytest.raises(SystemExit):
        exec(code, names)
    assert (0.5, -0.5) in moves
    assert moves[0] == moves[-1] == (0.0, 0.0)
