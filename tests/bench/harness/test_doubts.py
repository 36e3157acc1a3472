"""Each reason to doubt a row is raised by what it names, and by nothing else."""

from __future__ import annotations

from collections.abc import Sequence
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from bench_examples import measured_row
from hypothesis import given
from hypothesis import strategies as st

from vla_edge.bench.harness.doubts import brevity_of, doubts_of, drift_of
from vla_edge.bench.measure.timing import summarise
from vla_edge.bench.report.types import Growth, Row, Warmup

STEADY = [10.0, 10.1, 9.9, 10.05] * 50


def row(samples: Sequence[float] = STEADY, **facts: Any) -> Row:
    return measured_row("tensorrt", tuple(samples), **{"warmup": None, **facts})


def kinds(
    samples: Sequence[float] = STEADY, gpu: Any = None, load_per_core: float | None = None, **facts: Any
) -> list[str]:
    return [doubt.kind for doubt in doubts_of(row(samples, **facts), gpu, load_per_core)]


def gpu(slowdowns: tuple[str, ...] = (), others: int = 0) -> Any:
    return SimpleNamespace(slowdowns=set(slowdowns), other_processes=others)


def test_a_steady_row_is_not_doubted() -> None:
    warmup = Warmup(calls=10, seconds=1.0, stable=True)
    growth = Growth(steps=200, host_anonymous_mib=1.0, device_mib=0.0)
    device = summarise([9.0] * 200)
    assert kinds(warmup=warmup, growth=growth, device=device, gpu=gpu(), load_per_core=0.1) == []


@pytest.mark.parametrize(
    ("facts", "kind"),
    [
        ({"samples": [10.0] * 100 + [20.0] * 100}, "drift"),
        ({"samples": ([10.0] * 3 + [40.0]) * 50}, "spread"),
        ({"warmup": Warmup(calls=200, seconds=9.0, stable=False)}, "cold"),
        ({"device": summarise([3.0] * 200)}, "host-bound"),
        ({"gpu": gpu(("temperature, by the driver",))}, "throttled"),
        ({"gpu": gpu(others=2)}, "shared-device"),
        ({"growth": Growth(steps=200, host_anonymous_mib=200.0, device_mib=None)}, "leak"),
        ({"growth": Growth(steps=200, host_anonymous_mib=None, device_mib=17.0)}, "leak"),
        ({"load_per_core": 0.9}, "busy-host"),
    ],
)
def test_each_doubt_is_raised_by_its_cause(facts: dict[str, Any], kind: str) -> None:
    assert kind in kinds(**facts)


@pytest.mark.parametrize(
    ("samples", "warmup", "note"),
    [
        (STEADY[:20], None, "p99 of 20 runs is little but the maximum"),
        (STEADY[:99], None, "p99 of 99 runs is little but the maximum"),
        (STEADY, (3, False), "3 warm-up calls are too few to tell whether the times were steady"),
        (STEADY, (9, False), "9 warm-up calls are too few to tell whether the times were steady"),
        (STEADY, (0, False), "0 warm-up calls are too few to tell whether the times were steady"),
    ],
)
def test_a_short_run_is_a_note_and_no_doubt(
    samples: Sequence[float], warmup: tuple[int, bool] | None, note: str
) -> None:
    warm = Warmup(calls=warmup[0], seconds=2.0, stable=warmup[1]) if warmup else None
    assert brevity_of(row(samples, warmup=warm)) == (note,)
    assert kinds(samples, warmup=warm) == []


@pytest.mark.parametrize("calls", [10, 200])
def test_a_warm_up_that_was_long_enough_and_unsteady_stays_a_doubt(calls: int) -> None:
    warm = Warmup(calls=calls, seconds=2.0, stable=False)
    assert kinds(warmup=warm) == ["cold"]
    assert brevity_of(row(warmup=warm)) == ()


def test_a_long_steady_run_has_neither() -> None:
    assert brevity_of(row(warmup=Warmup(calls=3, seconds=1.0, stable=True))) == ()


def test_memory_that_settles_over_many_steps_is_no_leak() -> None:
    assert kinds(growth=Growth(steps=2000, host_anonymous_mib=100.0, device_mib=0.0)) == []


@pytest.mark.parametrize(("queue_ms", "doubted"), [(9.3, True), (4.0, False)])
def test_a_gpu_that_waits_for_the_next_kernel_is_the_hosts(queue_ms: float, doubted: bool) -> None:
    device, queue = summarise([9.5] * 200), summarise([queue_ms] * 200)
    assert kinds(device=device, queue=queue) == ["host-bound"] * doubted


def test_a_row_that_is_the_hosts_in_both_ways_says_so_once() -> None:
    assert kinds(device=summarise([3.0] * 200), queue=summarise([3.0] * 200)) == ["host-bound"]


def test_a_few_long_pauses_are_no_drift() -> None:
    assert drift_of([10.0] * 50 + [900.0] * 3 + [10.0] * 50) == 0


@given(st.lists(st.floats(1, 100), min_size=15, max_size=60))
def test_drift_is_the_ratio_of_the_outer_thirds(samples: list[float]) -> None:
    third = len(samples) // 3
    expected = np.median(samples[-third:]) / np.median(samples[:third]) - 1
    assert drift_of(samples) == pytest.approx(expected)
    assert drift_of([2 * value for value in samples]) == pytest.approx(expected)
