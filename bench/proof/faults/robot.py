"""The robot's side of the proof: starts the driving process, gets its commands, ends it, starts the next."""

from __future__ import annotations

import json
import math
import os
import queue
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import IO

import psutil

from .driving import FAULTS
from .report import Life, Report, judge

ENDINGS = ("SIGTERM", "SIGINT", "SIGHUP", "SIGKILL", "parent killed")
_QUIET_S = 0.3
_PATIENCE_S = 120.0


def run(bundle: Path, rate_hz: float, minutes: float) -> Report:
    """Break it for so long; 0 minutes: each fault once."""
    began_s = time.monotonic()
    with _signals_as_usual():
        if minutes:
            share_s = minutes * 60 / len(ENDINGS)
            lives = [_live(bundle, rate_hz, FAULTS, share_s, ending, at) for at, ending in enumerate(ENDINGS)]
        else:
            few = math.ceil(len(FAULTS) / len(ENDINGS))
            lives = [
                _live(bundle, rate_hz, FAULTS[at * few : (at + 1) * few], 0.0, ending, at)
                for at, ending in enumerate(ENDINGS)
            ]
    return judge(lives, rate_hz, time.monotonic() - began_s)


@contextmanager
def _signals_as_usual() -> Iterator[None]:
    """Start the driving process as from a terminal.

    `nohup` and a shell's `&` leave signals ignored; it would inherit that, and rightly not end by them.
    """
    ignored = [
        number
        for number in (signal.SIGINT, signal.SIGHUP, signal.SIGTERM)
        if signal.getsignal(number) == signal.SIG_IGN
    ]
    for number in ignored:
        signal.signal(number, signal.SIG_DFL)
    try:
        yield
    finally:
        for number in ignored:
            signal.signal(number, signal.SIG_IGN)


def _live(
    bundle: Path, rate_hz: float, faults: Sequence[str], seconds: float, ending: str, seed: int
) -> Life:
    life = Life(ending=ending)
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as wire:
        wire.bind(("127.0.0.1", 0))
        wire.settimeout(0.02)
        options = ["--port", str(wire.getsockname()[1]), "--rate", str(rate_hz), "--seed", str(seed)]
        options += ["--seconds", str(seconds)]
        for fault in faults:
            options += ["--fault", fault]
        with _process([str(bundle), *options], with_parent=ending == "parent killed") as (
            driving,
            above,
            told,
        ):
            _receive(life, wire, told, driving, until_done=True)
            _end(life, above if ending == "parent killed" else driving)
            _receive(life, wire, told, driving, until_done=False)
    return life


@contextmanager
def _process(
    arguments: list[str], *, with_parent: bool
) -> Iterator[tuple[psutil.Process, psutil.Process, queue.SimpleQueue[str | None]]]:
    """The driving process, the one that was started, and the lines that come from it."""
    command = [sys.executable, "-m", "vla_edge.bench.proof.faults.driving", *arguments]
    if with_parent:
        command = [sys.executable, "-c", f"import subprocess; subprocess.run({command!r})"]
    lines: queue.SimpleQueue[str | None] = queue.SimpleQueue()
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True) as process:
        above = psutil.Process(process.pid)
        driving = above
        try:
            threading.Thread(target=_read, args=(process.stdout, lines), daemon=True).start()
            end_s = time.monotonic() + _PATIENCE_S
            while with_parent and driving is above and time.monotonic() < end_s:
                driving = next(iter(above.children()), above)
            yield driving, above, lines
        finally:
            for each in {driving, above}:
                if each.is_running():
                    each.kill()


def _read(stream: IO[str], lines: queue.SimpleQueue[str | None]) -> None:
    for line in stream:
        lines.put(line)
    lines.put(None)


def _receive(
    life: Life,
    wire: socket.socket,
    told: queue.SimpleQueue[str | None],
    driving: psutil.Process,
    *,
    until_done: bool,
) -> None:
    """Take what comes: until all faults are done and it drives again; or until it has ended and all is quiet."""
    end_s = time.monotonic() + _PATIENCE_S * (60 if until_done else 1)
    quiet_s = looked_s = time.monotonic()
    moved_after = 0
    done = False
    while time.monotonic() < end_s:
        try:
            said = json.loads(wire.recv(2048))
            life.sent.append((said["time_s"], not said["stop"], said["reason"]))
            quiet_s = time.monotonic()
            moved_after += done and not said["stop"]
        except TimeoutError:
            if not until_done and time.monotonic() - quiet_s > _QUIET_S and not _lives(driving):
                return
        while not told.empty() and (line := told.get()) is not None:
            life.told.append(json.loads(line))
            done = done or "done" in life.told[-1]
        if until_done and (moved_after >= 3 or not _lives(driving) or "failed" in (life.told or [{}])[-1]):
            return
        if time.monotonic() - looked_s > 0.2 and until_done and life.sent:
            looked_s = time.monotonic()
            life.resident.append((looked_s, _resident(driving)))


def _lives(process: psutil.Process) -> bool:
    try:
        return process.is_running() and process.status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def _resident(process: psutil.Process) -> int:
    try:
        return int(process.memory_info().rss)
    except psutil.NoSuchProcess:
        return 0


def _end(life: Life, process: psutil.Process) -> None:
    life.ended_s = time.monotonic()
    number = signal.SIGKILL if life.ending == "parent killed" else signal.Signals[life.ending]
    os.kill(process.pid, number)
