"""Break a driving policy in every way, again and again, and count what still moves: it has to be nothing.

    python -m vla_edge.bench.proof.faults BUNDLE --minutes 30

A process drives on a real policy (`vla_edge.bench.proof.fault_drive`) and is broken from within; in the end it is
ended from outside by SIGTERM, SIGINT, SIGHUP, SIGKILL or its parent's death, and a new one is started. This process
is the robot: it gets the commands as datagrams, by the sender's clock, which on one machine is its own, too.

Of each fault it tells the longest time to the stop, and counts moving commands between the first stop and the
reset, and those that came later than the fault's limit. Memory is that of the driving process.
"""

from __future__ import annotations

import itertools
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
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any

import click
import psutil
from msgspec import Struct

from vla_edge.runtime.command.console import COMMAND_SETTINGS, run_command
from vla_edge.runtime.command.finite import FiniteFloat
from vla_edge.runtime.command.json_text import json_text

from .fault_drive import CAMERA_MS, DEADLINE_MS, FAULTS, HOLD_MS

ENDINGS = ("SIGTERM", "SIGINT", "SIGHUP", "SIGKILL", "parent killed")
_SLACK_MS = 150.0  # of a busy machine
_QUIET_S = 0.3
_PATIENCE_S = 120.0
_BYTES_PER_MIB = 1 << 20
_FLAT_MIB = 8.0
_JUDGED_S = 60.0  # a shorter life tells nothing of memory


class Found(Struct, frozen=True, kw_only=True):
    """Of one kind of fault.

    Attributes:
        times: that it was put in.
        stop_ms: from the fault to the first stop, the longest; None where nothing could send one.
        limit_ms: that it has to keep.
        moving_after: commands that moved after the first stop, or after the limit, before the reset.
        causes: that the controller told.
    """

    times: int
    stop_ms: float | None
    limit_ms: float
    moving_after: int
    causes: list[str]


class Report(Struct, frozen=True, kw_only=True):
    """What was found.

    Attributes:
        seconds: that it took.
        commands, moving: that the robot got.
        faults: by kind.
        memory_growth_mib: of the driving process from a fifth of its life to its end, the largest; None where none
            lived for a minute.
        unforeseen: stops of another reason, as on a busy machine; they were reset.
        failures: in words; none where nothing was found.
    """

    seconds: float
    commands: int
    moving: int
    faults: dict[str, Found]
    memory_growth_mib: float | None
    unforeseen: list[str]
    failures: list[str]


@dataclass
class Life:
    """One driving process: what it sent and told, by the machine's monotonic clock."""

    sent: list[tuple[float, bool, str]] = field(default_factory=list)
    told: list[dict[str, Any]] = field(default_factory=list)
    resident: list[tuple[float, int]] = field(default_factory=list)
    ending: str = ""
    ended_s: float = 0.0


def limit_ms(fault: str, rate_hz: float) -> float:
    """The longest time from a fault to its stop: what the options allow, a tick, and a busy machine's slack."""
    tick_ms = 1e3 / rate_hz
    most = {
        "camera silent": max(HOLD_MS, CAMERA_MS),
        "frozen": 500.0 + 4 * tick_ms,  # repeats_ms, of frames that the policy was given
        "engine slow": tick_ms + DEADLINE_MS,
        "engine hangs": tick_ms + DEADLINE_MS,
        "SIGKILL": HOLD_MS,
    }
    return most.get(fault, 2 * tick_ms) + tick_ms + _SLACK_MS


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
    command = [sys.executable, "-m", "vla_edge.bench.proof.fault_drive", *arguments]
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


def judge(lives: Sequence[Life], rate_hz: float, seconds: float) -> Report:
    """What the robot got, held against what was done."""
    found: dict[str, list[tuple[float | None, int, str]]] = {}
    failures: list[str] = []
    for life in lives:
        failures += [str(line["failed"]) for line in life.told if "failed" in line]
        if not any("done" in line for line in life.told):
            failures.append(f"the process that was to end by {life.ending} ended before")
        for fault, begin_s, end_s, cause in _spans(life):
            found.setdefault(fault, []).append((*_stopped(life, fault, begin_s, end_s, rate_hz), cause))
    faults = {
        fault: Found(
            times=len(seen),
            stop_ms=max((each[0] for each in seen if each[0] is not None), default=None),
            limit_ms=limit_ms(fault, rate_hz),
            moving_after=sum(each[1] for each in seen),
            causes=sorted({each[2] for each in seen if each[2]}),
        )
        for fault, seen in found.items()
    }
    for fault, each in faults.items():
        if each.moving_after:
            failures.append(f"{fault}: {each.moving_after} commands moved after it")
        if (each.stop_ms is None) != (fault == "SIGKILL") or (each.stop_ms or 0) > each.limit_ms:
            stop = "never" if each.stop_ms is None else f"after {each.stop_ms:.0f} ms"
            failures.append(f"{fault}: stopped {stop}, {each.limit_ms:.0f} ms are allowed")
    growth = _growth_mib(lives)
    if growth is not None and growth > _FLAT_MIB:
        failures.append(f"memory grew by {growth:.1f} MiB")
    sent = list(itertools.chain.from_iterable(life.sent for life in lives))
    return Report(
        seconds=seconds,
        commands=len(sent),
        moving=sum(moving for _, moving, _ in sent),
        faults=faults,
        memory_growth_mib=growth,
        unforeseen=[line["unforeseen"] for life in lives for line in life.told if "unforeseen" in line],
        failures=failures,
    )


def _spans(life: Life) -> Iterator[tuple[str, float, float, str]]:
    """Each fault, from when to when it stood, and the cause that was told."""
    begun = {}
    for line in life.told:
        if "fault" in line:
            begun[line["fault"]] = line["at_s"]
        elif "reset" in line:
            yield line["reset"], begun.pop(line["reset"]), line["at_s"], line["cause"]
    for fault, at_s in begun.items():
        yield fault, at_s, math.inf, ""
    if life.ended_s:
        yield life.ending, life.ended_s, math.inf, ""


def _stopped(
    life: Life, fault: str, begin_s: float, end_s: float, rate_hz: float
) -> tuple[float | None, int]:
    """How long after a fault the first stop came, ms, and how many commands moved where none may."""
    within = [each for each in life.sent if begin_s <= each[0] <= end_s]
    stop_s = next((sent_s for sent_s, moving, _ in within if not moving), None)
    last_s = begin_s + limit_ms(fault, rate_hz) / 1e3
    after_s = last_s if stop_s is None else min(stop_s, last_s)
    moved = sum(moving for sent_s, moving, _ in within if sent_s > after_s)
    return None if stop_s is None else (stop_s - begin_s) * 1e3, moved


def _growth_mib(lives: Sequence[Life]) -> float | None:
    grown = []
    for life in lives:
        if not life.resident or life.resident[-1][0] - life.resident[0][0] < _JUDGED_S:
            continue
        settled_s = life.resident[0][0] + (life.resident[-1][0] - life.resident[0][0]) / 5
        settled = next(size for at_s, size in life.resident if at_s >= settled_s)
        grown.append((life.resident[-1][1] - settled) / _BYTES_PER_MIB)
    return max(grown, default=None)


def _print(report: Report) -> None:
    click.echo(f"{'fault':<16}{'times':>6}{'to the stop, ms':>17}{'allowed':>9}{'moved after':>13}  cause")
    for fault, each in report.faults.items():
        stop = "no sender" if each.stop_ms is None else f"{each.stop_ms:.0f}"
        causes = ", ".join(each.causes)
        click.echo(
            f"{fault:<16}{each.times:>6}{stop:>17}{each.limit_ms:>9.0f}{each.moving_after:>13}  {causes}".rstrip()
        )
    grown = "-" if report.memory_growth_mib is None else f"{report.memory_growth_mib:+.1f} MiB"
    after = sum(each.moving_after for each in report.faults.values())
    click.echo(f"{report.commands} commands in {report.seconds:.0f} s, {report.moving} of them moving")
    click.echo(
        f"moving after a fault: {after}; memory {grown}; stops that were not planned: {len(report.unforeseen)}"
    )
    for failure in report.failures:
        click.echo(f"FAILED: {failure}", err=True)


@click.command(context_settings=COMMAND_SETTINGS)
@click.argument("bundle", type=click.Path(path_type=Path))
@click.option(
    "--minutes",
    type=FiniteFloat(min=0),
    default=0.0,
    metavar="M",
    help="How long. [default: each fault once, half a minute]",
)
@click.option(
    "--rate",
    "rate_hz",
    type=FiniteFloat(min=4, max=100),
    default=10.0,
    show_default=True,
    metavar="HZ",
    help="Commands per second.",
)
@click.option("--json", "as_json", is_flag=True, help="Print JSON instead of a table.")
def command(bundle: Path, minutes: float, rate_hz: float, as_json: bool) -> int:
    """Break a driving policy in every way, and count what still moves.

    BUNDLE is a small one, on the CPU. Exit code 1 when anything moved after a fault, a stop came too late, or memory
    grew.

    \b
    Examples:
      python -m vla_edge.bench.proof.faults engines/tiny-fp16 --minutes 30
    """
    report = run(bundle, rate_hz, minutes)
    if as_json:
        click.echo(json_text(report))
    else:
        _print(report)
    return 1 if report.failures else 0


def main() -> None:
    """Entry point."""
    run_command(command)


if __name__ == "__main__":
    main()
