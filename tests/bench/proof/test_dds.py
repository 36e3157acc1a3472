"""The round trip on DDS: a short run of it finds nothing, and what it would find is found."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from msgspec.structs import replace
from no_dds import why_no_dds

from vla_edge.bench.proof.dds.report import Report, Stop, Trip, judge, print_report
from vla_edge.bench.proof.dds.round_trip import SIZES, run

TRIP = Trip(
    width=640,
    height=480,
    frame_bytes=1,
    frames=10,
    commands=10,
    velocity_hz=10.0,
    unforeseen_stops=0,
    p50_ms=1.0,
    p99_ms=2.0,
    node_p50_ms=1.0,
    node_p99_ms=2.0,
    longest_gap_ms=100.0,
)
STOP = Stop(times=1, stop_ms=500.0, limit_ms=750.0, moving_after=0)
REPORT = Report(
    bundle="b", rate_hz=10.0, camera_hz=30.0, trips=[TRIP], stops={"camera lost": STOP}, failures=[]
)


def test_frames_become_velocities_and_stops_are_kept(bundle_of: Callable[..., Path]) -> None:
    if (why := why_no_dds()) is not None:
        pytest.skip(why)
    report = run(bundle_of("pure"), 1.0, 10.0, 20.0, 5000.0, times=1)
    assert [(trip.width, trip.height) for trip in report.trips] == list(SIZES)
    assert all(trip.commands > 4 and 0 < trip.node_p50_ms < trip.p50_ms for trip in report.trips)
    assert sum(trip.unforeseen_stops for trip in report.trips) == 0
    assert set(report.stops) == {"camera lost", "JPEG damaged", "SIGTERM"}
    assert sum(stop.moving_after for stop in report.stops.values()) == 0


def test_nothing_is_found_where_nothing_is() -> None:
    assert judge(REPORT).failures == []


def test_what_fails_is_told() -> None:
    late = replace(STOP, stop_ms=800.0, moving_after=2)
    found = judge(
        replace(REPORT, trips=[replace(TRIP, velocity_hz=5.0, unforeseen_stops=3)], stops={"SIGTERM": late})
    )
    assert found.failures == [
        "640x480: 5.0 velocities per second",
        "640x480: 3 velocities did not move",
        "SIGTERM: zero after 800 ms, 750 ms are allowed",
        "SIGTERM: 2 velocities moved after zero",
    ]


def test_the_first_line_is_the_answer(capsys: pytest.CaptureFixture[str]) -> None:
    stops = dict.fromkeys(("camera lost", "JPEG damaged", "SIGTERM"), STOP)
    print_report(replace(REPORT, stops=stops))
    first = capsys.readouterr().out.splitlines()[0]
    assert first == (
        "A frame of 640x480 becomes a velocity in 1 ms (p99 2); a lost camera stops it within 500 ms; "
        "0 moved after a stop."
    )
