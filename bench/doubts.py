"""Reasons not to trust a row's figures as they are."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import msgspec
import numpy as np

from .gpu_watch import GpuWatch
from .report import Doubt, Growth, Latency, Row, Warmup

SPREAD_LIMIT = 0.25  # standard deviation over mean
FEW_RUNS = 100  # p99 of fewer rests on a single sample
DRIFT_LIMIT = 0.10  # between the first and the last third of the samples
DRIFT_MIN_RUNS = 15
# of the step, on the GPU itself: below it the host's calls decide the latency
HOST_BOUND_SHARE = 0.7
# a step of a policy leaks nothing; allocators of libraries settle by a few MiB
LEAK_MIB = 16.0
LEAK_KIB_PER_STEP = 64.0
BUSY_LOAD_PER_CORE = 0.5


def doubts_of(
    *,
    step: Latency,
    step_ms: Sequence[float],
    device: Latency | None,
    warmup: Warmup | None,
    growth: Growth | None,
    gpu: GpuWatch | None = None,
    load_per_core: float | None = None,
) -> tuple[Doubt, ...]:
    """Everything that speaks against a row.

    Args:
        step, step_ms: latency of the step, and its samples in the order taken.
        device: the GPU's part of it.
        warmup, growth: of the worker's process.
        gpu: what the GPU did meanwhile.
        load_per_core: share of the cores that other work took before the process was started, 0 to 1.
    """
    return (
        *_of_samples(step, step_ms, warmup),
        *_of_device(step, device, gpu),
        *_of_growth(growth),
        *_of_host(load_per_core),
    )


def with_host_doubts(rows: Sequence[Row]) -> tuple[Row, ...]:
    """Doubt eager rows that their own CUDA graph outruns: events around eager calls hold the host's gaps, too.

    Args:
        rows: of one bundle; `torch-fp16-graph` runs the same kernels as `torch-fp16`.
    """
    graphs = {row.backend.removesuffix("-graph"): row for row in rows if row.backend.endswith("-graph")}
    return tuple(_outrun(row, graphs.get(row.backend)) for row in rows)


def _outrun(row: Row, graph: Row | None) -> Row:
    if row.step is None or graph is None or graph.step is None:
        return row
    if graph.step.p50_ms >= HOST_BOUND_SHARE * row.step.p50_ms:
        return row
    text = (
        f"the same kernels take {_ms(graph.step.p50_ms)} ms in one CUDA graph: the host decides, another host "
        "will give another figure"
    )
    return msgspec.structs.replace(row, doubts=(*row.doubts, Doubt(kind="host-bound", text=text)))


def drift_of(samples_ms: Sequence[float]) -> float:
    """How much slower the last third of the samples is than the first, by their medians; 0.1 is 10 %.

    Medians, so that single pauses are no drift; the order matters, so shuffled samples have none.
    """
    third = len(samples_ms) // 3
    if len(samples_ms) < DRIFT_MIN_RUNS:
        return 0.0
    first, last = np.median(samples_ms[:third]), np.median(samples_ms[-third:])
    return float(last / first - 1) if first > 0 else 0.0


def _of_samples(step: Latency, step_ms: Sequence[float], warmup: Warmup | None) -> Iterator[Doubt]:
    if warmup and not warmup.stable:
        yield Doubt(kind="cold", text=f"still not steady after {warmup.calls} warm-up calls")
    if step.std_ms > SPREAD_LIMIT * step.mean_ms:
        spread = step.std_ms / step.mean_ms
        yield Doubt(
            kind="spread", text=f"samples spread by {spread:.0%} of their mean; was the machine busy?"
        )
    drift = drift_of(step_ms)
    if abs(drift) > DRIFT_LIMIT:
        word = "slower" if drift > 0 else "faster"
        text = f"the last third of the samples is {abs(drift):.0%} {word} than the first: did clocks change?"
        yield Doubt(kind="drift", text=text)
    if step.runs < FEW_RUNS:
        yield Doubt(kind="few-runs", text=f"p99 of {step.runs} runs is little but the maximum")


def _of_device(step: Latency, device: Latency | None, gpu: GpuWatch | None) -> Iterator[Doubt]:
    if device and device.p50_ms < HOST_BOUND_SHARE * step.p50_ms:
        text = (
            f"the GPU works {_ms(device.p50_ms)} of {_ms(step.p50_ms)} ms: the host decides, another host "
            "will give another figure"
        )
        yield Doubt(kind="host-bound", text=text)
    if gpu is None:
        return
    if gpu.slowdowns:
        yield Doubt(kind="throttled", text=f"the GPU lowered its clocks: {', '.join(sorted(gpu.slowdowns))}")
    if gpu.other_processes:
        count = gpu.other_processes
        yield Doubt(kind="shared-device", text=f"{count} other process{'es' * (count > 1)} on the GPU")


def _of_growth(growth: Growth | None) -> Iterator[Doubt]:
    if growth is None:
        return
    for name, mib in (("host", growth.host_anonymous_mib), ("device", growth.device_mib)):
        if mib is not None and mib > max(LEAK_MIB, LEAK_KIB_PER_STEP * growth.steps / 1024):
            yield Doubt(kind="leak", text=f"{name} memory grew by {mib:.0f} MiB over {growth.steps} steps")


def _of_host(load_per_core: float | None) -> Iterator[Doubt]:
    if load_per_core is not None and load_per_core > BUSY_LOAD_PER_CORE:
        text = f"other work took {load_per_core:.0%} of the cores when this backend was started"
        yield Doubt(kind="busy-host", text=text)


def _ms(value: float) -> str:
    return f"{value:.3g}"
