"""From what a worker answered to a row of the report."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import msgspec
import numpy as np

from vla_edge.bench.measure.agreement import agreement_of
from vla_edge.bench.measure.jobs import Failed, Measured
from vla_edge.bench.measure.parity import missed_gate
from vla_edge.bench.measure.timing import summarise
from vla_edge.bench.report.types import BASELINE, ColdStart, Latency, Row, Status
from vla_edge.bench.watch.gpu import GpuWatch
from vla_edge.bench.watch.memory import MemoryWatch
from vla_edge.bench.watch.phases import TIMED_PHASE
from vla_edge.runtime.bundle.manifest import Gate
from vla_edge.runtime.errors import InputError

from .doubts import brevity_of, doubts_of
from .process import Outcome

BASELINES = (BASELINE, "torch-fp16")


def row_of(
    name: str,
    origin: str,
    outcome: Outcome,
    gates: Sequence[Gate] | None,
    memory: MemoryWatch,
    gpu: GpuWatch | None = None,
    load_per_core: float | None = None,
    notes: Sequence[str] = (),
) -> Row:
    """One row.

    Args:
        name: of the backend.
        origin: of its weights.
        outcome: of its process.
        gates: of the bundle; None where there is no right answer, so that actions are not judged.
        memory, gpu: what was watched meanwhile.
        load_per_core: see `doubts_of`.
        notes: beside the worker's own.
    """
    measured = outcome.result
    if isinstance(measured, Failed):
        status: Status = "skipped" if measured.is_obstacle else "failed"
        return Row(
            backend=name,
            status=status,
            reason=measured.reason,
            weights_origin=origin,
            memory=None if measured.is_obstacle else outcome.memory,
        )
    missed = "" if gates is None else missed_gate(measured.parity, gates)
    row = Row(
        backend=name,
        status="wrong" if missed else "ok",
        reason=missed,
        weights_origin=origin,
        identity=measured.identity,
        **_latencies(measured),  # type: ignore[arg-type]
        parity=None if gates is None else measured.parity,
        cold_start=_cold_start(measured),
        memory=outcome.memory,
        warmup=measured.warmup,
        samples=measured.samples,
        paced=measured.paced,
        profile=measured.profile,
        prompts=measured.prompts,
        compile_s=measured.compile_s,
        notes=(*measured.notes, *notes),
    )
    return _watched(row, memory, gpu, load_per_core)


def _latencies(measured: Measured) -> dict[str, Latency | None]:
    samples = measured.samples
    return {
        "step": summarise(samples.step_ms),
        "act": summarise(samples.act_ms),
        "device": summarise(samples.device_ms),
        "queue": summarise(samples.queue_ms),
        "preprocess": summarise(samples.preprocess_ms),
    }


def _cold_start(measured: Measured) -> ColdStart:
    parts = (measured.interpreter_s, measured.import_s, measured.load_s, measured.first_call_s)
    return ColdStart(
        interpreter_s=parts[0],
        import_s=parts[1],
        load_s=parts[2],
        first_call_s=parts[3],
        total_s=sum(parts),
        load_split_s=measured.load_split_s,
    )


def _watched(row: Row, memory: MemoryWatch, gpu: GpuWatch | None, load_per_core: float | None) -> Row:
    """Add what was seen from outside, and the reasons to doubt that follow from everything."""
    if row.step is None or row.samples is None:
        return row
    growth = memory.growth(TIMED_PHASE, row.step.runs)
    doubts = doubts_of(
        step=row.step,
        step_ms=row.samples.step_ms,
        device=row.device,
        queue=row.queue,
        warmup=row.warmup,
        growth=growth,
        gpu=gpu,
        load_per_core=load_per_core,
    )
    energy = gpu.energy(row.step.runs) if gpu else None
    notes = (*row.notes, *brevity_of(row.step, row.warmup))
    return msgspec.structs.replace(row, growth=growth, energy=energy, doubts=doubts, notes=notes)


def with_agreement(
    rows: Sequence[Row], actions: Mapping[str, list], scale: Sequence[float]
) -> tuple[Row, ...]:
    """Compare each backend's actions on the user's frames with PyTorch FP32's; notes where that cannot be.

    Args:
        rows: of one bundle.
        actions: by backend, as `run_frames` returns them; empty where no frames were given.
        scale: m/s per unit of action, per component.
    """
    reference = actions.get(BASELINE)
    return tuple(_agreeing(row, actions.get(row.backend), reference, scale) for row in rows)


def _agreeing(row: Row, actions: list | None, reference: list | None, scale: Sequence[float]) -> Row:
    if not actions:
        return row
    if reference and not np.isfinite(reference).all():
        note = (
            f"the frames' actions have nothing to be compared with: {BASELINE} gave some that are not finite"
        )
        return msgspec.structs.replace(row, notes=(*row.notes, note))
    if not reference:
        note = f"the frames' actions have nothing to be compared with: no row {BASELINE}"
        return msgspec.structs.replace(row, notes=(*row.notes, note))
    try:
        return msgspec.structs.replace(row, agreement=agreement_of(actions, reference, scale))
    except InputError as error:
        return msgspec.structs.replace(row, status="wrong", reason=error.problem)


def with_speedups(rows: Sequence[Row]) -> tuple[Row, ...]:
    """Put each row's p50 beside PyTorch's; a row that is wrong, or was not compared, gains nothing.

    Nor is there anything to gain over a PyTorch that is wrong: its speed is worth nothing.
    """
    p50_ms = {row.backend: row.step.p50_ms for row in rows if row.step and row.status == "ok"}

    def ratio(row: Row, baseline: str) -> float | None:
        if row.step is None or row.status != "ok" or baseline not in p50_ms:
            return None
        if row.parity is None and row.backend != BASELINE:
            return None
        return p50_ms[baseline] / row.step.p50_ms

    fp32, fp16 = BASELINES
    return tuple(
        msgspec.structs.replace(
            row,
            speedup_over_torch_fp32=ratio(row, fp32),
            speedup_over_torch_fp16=ratio(row, fp16),
        )
        for row in rows
    )
