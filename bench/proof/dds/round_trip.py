"""A node on DDS driven on frames, then stopped in each way; this process is its camera, operator and base."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from vla_edge.runtime.errors import VlaError

from .report import Report, Stop, Trip, judge

if TYPE_CHECKING:
    from .world import World

CAMERA_MS = 500.0
SIZES = ((640, 480), (1280, 720))
_TIMES = 5  # that the camera is lost
_WATCHED_S = 0.5
_SETTLE_S = 1.0
_SLACK_MS = 150.0  # of a busy machine
_DAMAGED = b"\xff\xd8\xff\xe0 no picture"


def run(
    bundle: Path, seconds: float, rate_hz: float, camera_hz: float, deadline_ms: float, times: int = _TIMES
) -> Report:
    """Drive on frames of each size for so long, then stop it in each way, so often.

    Raises:
        VlaError: the node does not run, or does not move.
    """
    from .world import World

    with _alone(), contextlib.closing(World()) as world, _node(bundle, rate_hz, deadline_ms) as process:
        if not world.wait_for(lambda: world.heard.status or process.poll() is not None):
            raise VlaError("the node says nothing.", "Run vla-node on the bundle to see why.")
        if process.poll() is not None:
            raise VlaError("the node has ended.", "What it said stands above.")
        trips = [_trip(world, size, seconds, camera_hz) for size in SIZES]
        stops = _stops(world, process, rate_hz, camera_hz, times)
    return judge(Report(
        bundle=bundle.name, rate_hz=rate_hz, camera_hz=camera_hz, trips=trips, stops=stops, failures=[]
    ))  # fmt: skip


@contextlib.contextmanager
def _alone() -> Iterator[None]:
    from .world import loopback_alone

    before = dict(os.environ)
    os.environ.update(loopback_alone())
    try:
        yield
    finally:
        os.environ.clear()
        os.environ.update(before)


@contextlib.contextmanager
def _node(bundle: Path, rate_hz: float, deadline_ms: float) -> Iterator[subprocess.Popen[bytes]]:
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "node.yaml"
        values = {"rate_hz": rate_hz, "deadline_ms": deadline_ms, "camera_ms": CAMERA_MS}
        lines = [f"    {name}: {float(value)!r}\n" for name, value in values.items()]
        file.write_text("vla_edge:\n  ros__parameters:\n" + "".join(lines), encoding="utf-8")
        command = [sys.executable, "-m", "vla_edge.runtime.ros2.cli", str(bundle), "--params", str(file)]
        with subprocess.Popen(command) as process:
            try:
                yield process
            finally:
                process.kill()


def _set_off(world: World, scenes: list[bytes], camera_hz: float) -> None:
    """Moving, whatever was before."""
    world.say("reset")
    with world.filming(scenes, camera_hz):
        ready = world.wait_for(lambda: world.heard.status.get("state") == "stopped")
        world.say("start")
        if not (ready and world.wait_for(lambda: world.moves)):
            raise VlaError(
                f"the node does not move: {world.heard.status.get('reason')}", "Give a longer deadline."
            )


def _trip(world: World, size: tuple[int, int], seconds: float, camera_hz: float) -> Trip:
    from .world import pictures

    scenes = pictures(*size)
    _set_off(world, scenes, camera_hz)
    world.film(scenes, camera_hz, _SETTLE_S)
    heard = world.heard
    begin_s = time.monotonic()
    end_s = world.film(scenes, camera_hz, seconds)
    time.sleep(_WATCHED_S / 2)  # for what is under way
    shown = {stamp: at_s for stamp, at_s in heard.shown.items() if begin_s <= at_s <= end_s}
    answered = [(heard.commands[stamp], at_s) for stamp, at_s in shown.items() if stamp in heard.commands]
    if not answered:
        raise VlaError(f"no frame of {size[0]}x{size[1]} got a command: {heard.status.get('reason')}")
    came = [each for each in heard.velocities if begin_s <= each[0] <= end_s]
    came_s = [at_s for at_s, _ in came]
    whole = np.percentile([(command_s - at_s) * 1e3 for (command_s, _), at_s in answered], (50, 99))
    inside = np.percentile([latency_ms for (_, latency_ms), _ in answered], (50, 99))
    return Trip(
        width=size[0],
        height=size[1],
        frame_bytes=sum(map(len, scenes)) // len(scenes),
        frames=len(shown),
        commands=len(answered),
        velocity_hz=len(came_s) / (end_s - begin_s),
        unforeseen_stops=sum(not moves for _, moves in came),
        p50_ms=float(whole[0]),
        p99_ms=float(whole[1]),
        node_p50_ms=float(inside[0]),
        node_p99_ms=float(inside[1]),
        longest_gap_ms=float(np.diff(came_s).max(initial=0.0)) * 1e3,
    )


def _stops(
    world: World, process: subprocess.Popen[bytes], rate_hz: float, camera_hz: float, times: int
) -> dict[str, Stop]:
    from .world import pictures

    scenes = pictures(*SIZES[0])
    tick_ms = 1e3 / rate_hz
    lost, damaged = [], []
    for _ in range(times):
        _set_off(world, scenes, camera_hz)
        lost.append(_until_zero(world, world.film(scenes, camera_hz, _WATCHED_S), scenes, camera_hz))
    for _ in range(times):
        _set_off(world, scenes, camera_hz)
        world.film(scenes, camera_hz, _WATCHED_S)
        damaged_s = time.monotonic()
        world.show(_DAMAGED)
        damaged.append(_until_zero(world, damaged_s, scenes, camera_hz))
    _set_off(world, scenes, camera_hz)
    world.film(scenes, camera_hz, _WATCHED_S)
    ended_s = time.monotonic()
    process.send_signal(signal.SIGTERM)
    ended = [_until_zero(world, ended_s, scenes, camera_hz)]
    return {
        "camera lost": _stop(lost, CAMERA_MS + tick_ms + _SLACK_MS),
        "JPEG damaged": _stop(damaged, tick_ms + _SLACK_MS),
        "SIGTERM": _stop(ended, tick_ms + _SLACK_MS),
    }


def _until_zero(world: World, since_s: float, scenes: list[bytes], camera_hz: float) -> tuple[float, int]:
    """Milliseconds to the first zero velocity, and how many moved after it, though frames come again."""
    velocities = world.heard.velocities
    world.wait_for(lambda: any(at_s >= since_s and not moves for at_s, moves in list(velocities)))
    world.film(scenes, camera_hz, _WATCHED_S)
    zero_s = next((at_s for at_s, moves in velocities if at_s >= since_s and not moves), float("inf"))
    return (zero_s - since_s) * 1e3, sum(moves for at_s, moves in velocities if at_s > zero_s)


def _stop(found: Sequence[tuple[float, int]], limit_ms: float) -> Stop:
    return Stop(
        times=len(found),
        stop_ms=max(stop_ms for stop_ms, _ in found),
        limit_ms=limit_ms,
        moving_after=sum(moved for _, moved in found),
    )
