"""What the proof of stops found: its types, what of it is a failure, and its table."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import click
from msgspec import Struct

from .driving import CAMERA_MS, DEADLINE_MS, HOLD_MS

_SLACK_MS = 150.0  # of a busy machine
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


def print_report(report: Report) -> None:
    """A table, then what failed."""
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
