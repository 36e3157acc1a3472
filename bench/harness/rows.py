"""From what a worker answered to a row of the report."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import msgspec
import numpy as np

from vla_edge.bench.measure.agreement import agreement_of
from vla_edge.bench.measure.jobs import Failed, Measured
from vla_edge.bench.measure.parity import missed_gate, missed_on_frames
from vla_edge.bench.report.types import BASELINE, Row
from vla_edge.bench.watch.gpu import GpuWatch
from vla_edge.bench.watch.memory import MemoryWatch
from vla_edge.bench.watch.phases import TIMED_PHASE
from vla_edge.runtime.bundle.manifest import ActionSpec, Gate, Manifest
from vla_edge.runtime.errors import InputError

from .doubts import brevity_of, doubts_of

HALF = "torch-fp16"


def row_of(
    name: str,
    origin: str,
    result: Measured | Failed,
    gates: Sequence[Gate] | None,
    memory: MemoryWatch,
    gpu: GpuWatch | None = None,
    load_per_core: float | None = None,
    notes: Sequence[str] = (),
) -> Row:
    """The worker's row with what was seen from outside, its verdict, and the reasons to doubt it.

    Args:
        name: of the backend.
        origin: of its weights.
        result: of its process.
        gates: of the bundle; None where there is no right answer, so that actions are not judged.
        memory, gpu: what was watched meanwhile.
        load_per_core: see `doubts_of`.
        notes: beside the worker's own.
    """
    if isinstance(result, Failed):
        if result.is_obstacle:
            return Row(backend=name, status="skipped", reason=result.reason, weights_origin=origin)
        row = Row(backend=name, status="failed", reason=result.reason, weights_origin=origin)
        return msgspec.structs.replace(row, memory=memory.summary())
    missed = missed_gate(result.row.parity, gates) if gates is not None and result.row.parity else ""
    steps = result.row.step.runs if result.row.step else 0
    row = msgspec.structs.replace(
        result.row,
        status="wrong" if missed else "ok",
        reason=missed,
        weights_origin=origin,
        parity=None if gates is None else result.row.parity,
        memory=memory.summary(result.host_memory, result.torch_allocator_peak_mib),
        growth=memory.growth(TIMED_PHASE, steps),
        energy=gpu.energy(steps) if gpu else None,
    )
    doubts = doubts_of(row, gpu, load_per_core)
    return msgspec.structs.replace(row, doubts=doubts, notes=(*row.notes, *notes, *brevity_of(row)))


def with_agreement(rows: Sequence[Row], actions: Mapping[str, list], manifest: Manifest) -> tuple[Row, ...]:
    """Compare each backend's actions on the user's frames with PyTorch FP32's; notes where that cannot be.

    What misses the manifest's gate for the action there is wrong as it would be on a golden sample, unless PyTorch
    FP32 is itself.

    Args:
        rows: of one bundle.
        actions: by backend, as `run_frames` returns them; empty where no frames were given, and of random weights.
        manifest: says how the graph's output becomes a command, in what units, and how far off it may be.
    """
    reference = actions.get(BASELINE)
    compared = [_agreeing(row, actions.get(row.backend), reference, manifest.action) for row in rows]
    if any(row.backend == BASELINE and row.status != "ok" for row in rows):
        return tuple(compared)
    return tuple(_judged(row, manifest) for row in compared)


def _judged(row: Row, manifest: Manifest) -> Row:
    if row.status != "ok" or row.agreement is None:
        return row
    missed = missed_on_frames(row.agreement, manifest.parity.gates, carried=bool(manifest.runtime.state))
    return msgspec.structs.replace(row, status="wrong", reason=missed) if missed else row


def _agreeing(row: Row, actions: list | None, reference: list | None, spec: ActionSpec) -> Row:
    if not actions:
        return row
    if not reference or not np.isfinite(reference).all():
        why = f"{BASELINE} gave some that are not finite" if reference else f"no row {BASELINE}"
        note = f"the frames' actions have nothing to be compared with: {why}"
        return msgspec.structs.replace(row, notes=(*row.notes, note))
    try:
        return msgspec.structs.replace(row, agreement=agreement_of(actions, reference, spec))
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

    return tuple(
        msgspec.structs.replace(
            row, speedup_over_torch_fp32=ratio(row, BASELINE), speedup_over_torch_fp16=ratio(row, HALF)
        )
        for row in rows
    )
