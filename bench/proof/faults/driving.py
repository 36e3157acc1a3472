"""The driven side of `vla_edge.bench.proof.faults`: a real policy in `Controller.run`, and faults put in around it.

    python -m vla_edge.bench.proof.faults.driving BUNDLE --port PORT --rate 10 --fault nan --fault dark

Commands go to that UDP port of this machine. What was done and when is told on stdout, a JSON object a line, by the
machine's monotonic clock: `{"fault": "nan", "at_s": 12.3}`, `{"reset": "nan", "at_s": 14.0}`, `{"done": 2}`.
"""

from __future__ import annotations

import io
import itertools
import json
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import click
import numpy as np
from PIL import Image

from vla_edge.runtime.action import Action
from vla_edge.runtime.bundle.manifest import Manifest
from vla_edge.runtime.command.console import COMMAND_SETTINGS, run_command
from vla_edge.runtime.control.command import Command
from vla_edge.runtime.control.controller import Controller, ControllerOptions
from vla_edge.runtime.control.loop.options import RunOptions
from vla_edge.runtime.control.loop.protocols import Captured
from vla_edge.runtime.drive.udp_robot import UdpRobot
from vla_edge.runtime.engines.session import EngineIdentity
from vla_edge.runtime.images.reading import decode_image
from vla_edge.runtime.policy import Policy

FAULTS = (
    "camera raises",
    "camera silent",
    "frozen",
    "dark",
    "corrupt jpeg",
    "nan",
    "engine raises",
    "engine slow",
    "engine hangs",
    "clock back",
    "clock ahead",
    "driver raises",
)
DEADLINE_MS = 150.0
HOLD_MS = 300.0
CAMERA_MS = 500.0
FRAMES_HZ = 30.0
_HEIGHT, _WIDTH = 120, 160
_DRIVEN, _STOPPED_TICKS = 4, 5
_PATIENCE_S = 30.0
_RESET_S = 1.0  # longer than a reset takes


class Plan:
    """Which fault is in now, for all that misbehaves.

    Attributes:
        now: the fault, or "".
        let_go: set while nothing hangs.
        moved: moving commands that were sent.
        asked_s: when a reset was asked for last.
    """

    def __init__(self) -> None:
        self.now = ""
        self.let_go = threading.Event()
        self.let_go.set()
        self.moved = 0
        self.asked_s = 0.0
        self._offset_s = 0.0

    def clock(self) -> float:
        return time.monotonic() + self._offset_s

    def begin(self, fault: str) -> None:
        if fault in ("engine hangs", "camera silent"):
            self.let_go.clear()
        self._offset_s += {"clock back": -3.0, "clock ahead": 10.0}.get(fault, 0.0)
        self.now = fault

    def end(self) -> None:
        self.now = ""
        self.let_go.set()


class Eye:
    """A camera of noisy JPEG frames."""

    def __init__(self, plan: Plan, seed: int) -> None:
        self._plan, self._rng = plan, np.random.default_rng(seed)
        self._last: np.ndarray | None = None

    def read(self) -> Captured:
        time.sleep(1 / FRAMES_HZ)
        fault = self._plan.now
        if fault == "camera raises":
            raise OSError("the camera was unplugged")
        if fault == "camera silent":
            self._plan.let_go.wait()
        captured_s = self._plan.clock()
        if fault == "dark":
            return Captured(np.zeros((_HEIGHT, _WIDTH, 3), np.uint8), captured_s)
        if fault == "frozen" and self._last is not None:
            return Captured(self._last, captured_s)
        data = io.BytesIO()
        pixels = self._rng.integers(0, 256, (_HEIGHT, _WIDTH, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(data, "JPEG")
        whole = data.getvalue()
        content = whole[: len(whole) // 2] if fault == "corrupt jpeg" else whole
        self._last = np.asarray(decode_image(content, "a frame of the camera"))
        return Captured(self._last, captured_s)


class Brain:
    """The policy, with faults around its `act`."""

    def __init__(self, policy: Policy, plan: Plan) -> None:
        self._policy, self._plan = policy, plan

    @property
    def manifest(self) -> Manifest:
        return self._policy.manifest

    @property
    def identity(self) -> EngineIdentity:
        return self._policy.identity

    def act(self, frame: Any, instruction: str | None = None) -> Action:
        action = self._policy.act(frame, instruction)
        fault = self._plan.now
        if fault == "engine raises":
            raise RuntimeError("CUDA error: an illegal memory access was encountered")
        if fault == "engine slow":
            time.sleep(2 * DEADLINE_MS / 1e3)
        if fault == "engine hangs":
            self._plan.let_go.wait()
        if fault == "nan":
            return replace(action, values=(float("nan"),) * len(action.values))
        return action

    def reset(self) -> None:
        self._policy.reset()


class Wheels:
    """The UDP robot, with a driver that can fail."""

    def __init__(self, robot: UdpRobot, plan: Plan) -> None:
        self._robot, self._plan = robot, plan

    def send(self, command: Command) -> None:
        if self._plan.now == "driver raises" and not command.stopped:
            raise OSError("no such bus")
        self._robot.send(command)
        self._plan.moved += not command.stopped


def _tell(**fields: Any) -> None:
    click.echo(json.dumps({**fields, "at_s": time.monotonic()}))


def _rounds(faults: Sequence[str], seconds: float) -> Iterator[str]:
    """Each once, and then again and again while there is time."""
    end_s = time.monotonic() + seconds
    yield from faults
    yield from itertools.takewhile(lambda _: time.monotonic() < end_s, itertools.cycle(faults))


def _put_in(
    faults: Sequence[str], seconds: float, plan: Plan, controller: Controller, rate_hz: float
) -> None:
    """One after another: drive, break, see it stopped, mend, reset."""
    done = 0
    for fault in _rounds(faults, seconds):
        _drive(plan, controller, f"it does not drive before {fault}")
        _tell(fault=fault)
        plan.begin(fault)
        _wait(lambda: controller.fault is not None, f"{fault} stops nothing")
        time.sleep(_STOPPED_TICKS / rate_hz)
        _tell(reset=fault, reason=controller.fault, cause=controller.cause)
        plan.end()
        plan.asked_s = time.monotonic()
        controller.ask_reset()
        done += 1
    _tell(done=done)


def _drive(plan: Plan, controller: Controller, words: str) -> None:
    """Until some commands have moved; a stop that nobody planned, as of a busy machine, is told and reset."""
    wanted = plan.moved + _DRIVEN

    def driven() -> bool:
        if (reason := controller.fault) is not None and time.monotonic() > plan.asked_s + _RESET_S:
            plan.asked_s = time.monotonic()
            _tell(unforeseen=reason)
            controller.ask_reset()
        return plan.moved >= wanted

    _wait(driven, words)


def _wait(until: Callable[[], bool], words: str) -> None:
    end_s = time.monotonic() + _PATIENCE_S
    while not until():
        if time.monotonic() > end_s:
            _tell(failed=words)
            raise RuntimeError(words)
        time.sleep(0.002)


@click.command(context_settings=COMMAND_SETTINGS)
@click.argument("bundle", type=click.Path(path_type=Path))
@click.option("--port", type=click.IntRange(1, 65535), required=True, help="UDP port of this machine.")
@click.option("--rate", "rate_hz", type=float, default=10.0, show_default=True, help="Commands per second.")
@click.option(
    "--fault",
    "faults",
    multiple=True,
    metavar="NAME",
    type=click.Choice(FAULTS),
    help=f"In this order: {', '.join(FAULTS)}.",
)
@click.option(
    "--seconds", type=float, default=0.0, help="Round after round for so long. [default: one round]"
)
@click.option("--seed", type=int, default=0, help="Of the frames.")
def command(
    bundle: Path, port: int, rate_hz: float, faults: tuple[str, ...], seconds: float, seed: int
) -> int:
    """Drive on BUNDLE for ever, with faults put in.

    \b
    Examples:
      python -m vla_edge.bench.proof.faults.driving BUNDLE --port 5005 \\
        --fault nan
    """
    plan = Plan()
    with Policy.load(bundle) as policy:
        policy.warmup()
        options = ControllerOptions(deadline_ms=DEADLINE_MS, hold_ms=HOLD_MS)
        controller = Controller(Brain(policy, plan), options, plan.clock)
        wheels = Wheels(UdpRobot("127.0.0.1", port, policy.manifest.action.names, HOLD_MS), plan)
        director = (faults, seconds, plan, controller, rate_hz)
        threading.Thread(target=_put_in, args=director, name="director", daemon=True).start()
        controller.run(Eye(plan, seed), wheels, rate_hz, RunOptions(camera_ms=CAMERA_MS))
    return 0


def main() -> None:
    """Entry point."""
    run_command(command)


if __name__ == "__main__":
    main()
