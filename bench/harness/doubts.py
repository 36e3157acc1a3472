"""Reasons not to trust a row's figures as they are, and what a short run leaves open, which is none."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np

from vla_edge.bench.report.types import JUDGED_CALLS, Doubt, Growth, Latency, Row, Warmup
from vla_edge.bench.watch.gpu import GpuWatch

SPREAD_LIMIT = 0.25  # standard deviation over mean
FEW_RUNS = 100  # p99 of fewer rests on a single sample
DRIFT_LIMIT = 0.10  # between the first and the last third of the samples
DRIFT_MIN_RUNS = 15
# The GPU's share of a step, below which what the host does decides the latency; and of the time between events
# the share in which the host is still queueing kernels, above which the GPU waits for them.
HOST_BOUND_SHARE = 0.7
QUEUEING_SHARE = 0.9
# a step of a policy leaks nothing; allocators of libraries settle by a few MiB
LEAK_MIB = 16.0
LEAK_KIB_PER_STEP = 64.0
BUSY_LOAD_PER_CORE = 0.5

Reasons = Iterator[tuple[str, str]]  # kind and words


def doubts_of(row: Row, gpu: GpuWatch | None = None, load_per_core: float | None = None) -> tuple[Doubt, ...]:
    """Everything that speaks against a row that was measured.

    Args:
        row: with its samples, and what the process held more after them.
        gpu: what the GPU did meanwhile.
        load_per_core: share of the cores that other work took before the process was started, 0 to 1.
    """
    if row.step is None or row.samples is None:
        return ()
    found = (
        *_of_samples(row.step, row.samples.step_ms, row.warmup),
        *_of_launches(row.step, row.device, row.queue),
        *_of_gpu(gpu),
        *_of_growth(row.growth),
        *_of_host(load_per_core),
    )
    return tuple(Doubt(kind=kind, text=text) for kind, text in found)  # type: ignore[arg-type]


def brevity_of(row: Row) -> tuple[str, ...]:
    """Notes on what the figures of a short run cannot tell. It was asked for, so it is no reason to doubt them."""
    notes = []
    if row.step and row.step.runs < FEW_RUNS:
        notes.append(f"p99 of {row.step.runs} runs is little but the maximum")
    warmup = row.warmup
    if warmup and not warmup.stable and warmup.calls < JUDGED_CALLS:
        notes.append(f"{warmup.calls} warm-up calls are too few to tell whether the times were steady")
    return tuple(notes)


def drift_of(samples_ms: Sequence[float]) -> float:
    """How much slower the last third of the samples is than the first, by their medians; 0.1 is 10 %.

    Medians, so that single pauses are no drift; the order matters, so shuffled samples have none.
    """
    third = len(samples_ms) // 3
    if len(samples_ms) < DRIFT_MIN_RUNS:
        return 0.0
    first, last = np.median(samples_ms[:third]), np.median(samples_ms[-third:])
    return float(last / first - 1) if first > 0 else 0.0


def _of_samples(step: Latency, step_ms: Sequence[float], warmup: Warmup | None) -> Reasons:
    if warmup and not warmup.stable and warmup.calls >= JUDGED_CALLS:
        yield "cold", f"still not steady after {warmup.calls} warm-up calls"
    if step.std_ms > SPREAD_LIMIT * step.mean_ms:
        spread = step.std_ms / step.mean_ms
        yield "spread", f"samples spread by {spread:.0%} of their mean; was the machine busy?"
    drift = drift_of(step_ms)
    if abs(drift) > DRIFT_LIMIT:
        word = "slower" if drift > 0 else "faster"
        yield (
            "drift",
            f"the last third of the samples is {abs(drift):.0%} {word} than the first: did clocks change?",
        )


def _of_launches(step: Latency, device: Latency | None, queue: Latency | None) -> Reasons:
    """Of `device`, time between kernels that are queued one by one holds their gaps."""
    if device is None:
        return
    another = "the host decides, another host will give another figure"
    if queue and queue.p50_ms > QUEUEING_SHARE * device.p50_ms:
        took = f"the host takes {queue.p50_ms:.3g} of {step.p50_ms:.3g} ms to queue the kernels"
        yield "host-bound", f"{took}: {another}"
    elif device.p50_ms < HOST_BOUND_SHARE * step.p50_ms:
        yield "host-bound", f"the GPU works {device.p50_ms:.3g} of {step.p50_ms:.3g} ms: {another}"


def _of_gpu(gpu: GpuWatch | None) -> Reasons:
    if gpu and gpu.slowdowns:
        yield "throttled", f"the GPU lowered its clocks: {', '.join(sorted(gpu.slowdowns))}"
    if gpu and gpu.other_processes:
        count = gpu.other_processes
        yield "shared-device", f"{count} other process{'es' * (count > 1)} on the GPU"


def _of_growth(growth: Growth | None) -> Reasons:
    if growth is None:
        return
    for name, mib in (("host", growth.host_anonymous_mib), ("device", growth.device_mib)):
        if mib is not None and mib > max(LEAK_MIB, LEAK_KIB_PER_STEP * growth.steps / 1024):
            yield "leak", f"{name} memory grew by {mib:.0f} MiB over {growth.steps} steps"


def _of_host(load_per_core: float | None) -> Reasons:
    if load_per_core is not None and load_per_core > BUSY_LOAD_PER_CORE:
        yield "busy-host", f"other work took {load_per_core:.0%} of the cores when this backend was started"
