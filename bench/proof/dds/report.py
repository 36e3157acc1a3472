"""What the proof of the round trip found: its types, what of it is a failure, and its table."""

from __future__ import annotations

import click
from msgspec import Struct


class Trip(Struct, frozen=True, kw_only=True):
    """Of frames of one size.

    Attributes:
        width, height: pixels.
        frame_bytes: of a JPEG, about.
        frames, commands: that were published, and those of them that got a command.
        velocity_hz: velocities per second, repeated ones too.
        unforeseen_stops: of these, those that did not move.
        p50_ms, p99_ms: from handing the frame to DDS to having its velocity.
        node_p50_ms, node_p99_ms: of these, from the frame's arrival in the node to its command.
        longest_gap_ms: between two velocities.
    """

    width: int
    height: int
    frame_bytes: int
    frames: int
    commands: int
    velocity_hz: float
    unforeseen_stops: int
    p50_ms: float
    p99_ms: float
    node_p50_ms: float
    node_p99_ms: float
    longest_gap_ms: float


class Stop(Struct, frozen=True, kw_only=True):
    """Of one way to end the frames.

    Attributes:
        times: that it was tried.
        stop_ms: to the first zero velocity, the longest.
        limit_ms: that it has to keep.
        moving_after: velocities after that, which moved.
    """

    times: int
    stop_ms: float
    limit_ms: float
    moving_after: int


class Report(Struct, frozen=True, kw_only=True):
    """What was found; `failures` in words, none where nothing was."""

    bundle: str
    rate_hz: float
    camera_hz: float
    trips: list[Trip]
    stops: dict[str, Stop]
    failures: list[str]


def judge(report: Report) -> Report:
    """The same with what failed."""
    failures = [
        f"{trip.width}x{trip.height}: {trip.velocity_hz:.1f} velocities per second"
        for trip in report.trips
        if trip.velocity_hz < 0.9 * report.rate_hz
    ]
    failures += [
        f"{trip.width}x{trip.height}: {trip.unforeseen_stops} velocities did not move"
        for trip in report.trips
        if trip.unforeseen_stops
    ]
    for name, stop in report.stops.items():
        if stop.stop_ms > stop.limit_ms:
            failures.append(f"{name}: zero after {stop.stop_ms:.0f} ms, {stop.limit_ms:.0f} ms are allowed")
        if stop.moving_after:
            failures.append(f"{name}: {stop.moving_after} velocities moved after zero")
    return Report(
        **{name: getattr(report, name) for name in report.__struct_fields__} | {"failures": failures}
    )


def print_report(report: Report) -> None:
    """A table; its first line is the answer."""
    first, lost = report.trips[0], report.stops["camera lost"]
    after = sum(stop.moving_after for stop in report.stops.values())
    click.echo(
        f"A frame of {first.width}x{first.height} becomes a velocity in {first.p50_ms:.0f} ms (p99 "
        f"{first.p99_ms:.0f}); a lost camera stops it within {lost.stop_ms:.0f} ms; {after} moved after a stop."
    )
    click.echo(f"{report.bundle}: {report.rate_hz:g} Hz, camera {report.camera_hz:g} Hz, on loopback")
    columns = (
        "frames",
        "JPEG, kB",
        "velocities",
        "p50, ms",
        "p99, ms",
        "in the node",
        "its p99",
        "longest gap, ms",
    )
    click.echo(f"{'':<12}" + "".join(f"{column:>{len(column) + 2}}" for column in columns))
    for trip in report.trips:
        values = (
            f"{trip.commands}/{trip.frames}",
            f"{trip.frame_bytes / 1e3:.0f}",
            f"{trip.velocity_hz:.1f}/s",
            f"{trip.p50_ms:.1f}",
            f"{trip.p99_ms:.1f}",
            f"{trip.node_p50_ms:.1f}",
            f"{trip.node_p99_ms:.1f}",
            f"{trip.longest_gap_ms:.0f}",
        )
        row = "".join(f"{value:>{len(column) + 2}}" for value, column in zip(values, columns, strict=True))
        click.echo(f"{f'{trip.width}x{trip.height}':<12}{row}")
    for name, stop in report.stops.items():
        click.echo(
            f"{name:<12}  {stop.times} times, zero after {stop.stop_ms:.0f} ms at most, {stop.limit_ms:.0f} allowed; "
            f"{stop.moving_after} moved after"
        )
    for failure in report.failures:
        click.echo(f"FAILED: {failure}", err=True)
