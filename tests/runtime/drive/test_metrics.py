"""A loop's health as Prometheus reads it."""

from __future__ import annotations

import socket
import urllib.request

import pytest
from loop_parts import Bench
from prometheus_client.parser import text_string_to_metric_families

from vla_edge.runtime.control.causes import Cause
from vla_edge.runtime.control.loop.health import Health, State
from vla_edge.runtime.drive.metrics import prometheus_text, served
from vla_edge.runtime.errors import InputError

HEALTH = Health(
    state=State.FAULT,
    reason="the camera failed.",
    cause=Cause.CAMERA,
    rate_hz=10.0,
    ticks=100,
    missed_ticks=2,
    frames=300,
    dropped_frames=200,
    actions=90,
    commands=110,
    moving_commands=90,
    failed_sends=0,
    resets=1,
    stops={Cause.CAMERA: 2},
    latency_p50_ms=20.0,
    latency_p99_ms=40.0,
    running_s=10.0,
    engine='a "quoted"\nengine',
    bundle="tiny",
)


def values(text: str) -> dict[str, float]:
    found = {}
    for family in text_string_to_metric_families(text):
        for sample in family.samples:
            labels = "".join(f"[{value}]" for name, value in sample.labels.items() if name != "engine")
            found[sample.name + labels] = sample.value
    return found


def test_every_figure_is_there() -> None:
    found = values(prometheus_text(lambda: HEALTH))
    assert found["vla_missed_ticks_total"] == 2
    assert found["vla_stops_total[camera]"] == 2
    assert found["vla_stops_total[hang]"] == 0
    assert found["vla_state[fault]"] == 1
    assert found["vla_state[moving]"] == 0
    assert found["vla_latency_seconds[0.99]"] == 0.04
    assert found["vla_info[tiny]"] == 1


def test_before_a_loop_there_is_nothing() -> None:
    assert prometheus_text(lambda: None) == ""


def free_port() -> int:
    with socket.socket() as wire:
        wire.bind(("127.0.0.1", 0))
        return int(wire.getsockname()[1])


def test_it_is_served_on_this_machine_while_the_block_lasts() -> None:
    port = free_port()
    with served(port, lambda: HEALTH):
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=10) as answer:
            assert values(answer.read().decode())["vla_ticks_total"] == 100
        with pytest.raises(InputError, match=f"port {port} of 127"), served(port, lambda: HEALTH):
            pass
    with socket.socket() as wire:
        assert wire.connect_ex(("127.0.0.1", port)) != 0


def test_counts_stay_of_fixed_size() -> None:
    bench = Bench()
    for at in range(30):
        bench.controller.halt(f"reason {at}.")
        bench.turn()
        bench.machine.inbox.ask_reset()
        bench.turn()
    assert bench.machine.counts.stops[Cause.HALT] == 30
    assert len(bench.machine.counts.stops) == len(Cause)
