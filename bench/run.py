"""The bench from end to end: find bundles, run each backend in its own process, put the report together."""

from __future__ import annotations

import datetime
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, Protocol

import msgspec

from vla_edge.runtime.bundle import Bundle, find_bundles
from vla_edge.runtime.errors import InputError, VlaError
from vla_edge.runtime.version import VERSION

from .backends import BACKEND_NAMES, GRAPH_SUFFIX, TORCH_NAMES, engines_of
from .checkpoints import CheckpointFinder, Search
from .jobs import Job, Measured, Phase
from .machine import describe_machine
from .measure import summarise
from .memory import DeviceMemory, MemoryWatch, open_nvml
from .parity import missed_gate
from .process import DEFAULT_WORKER, Outcome, run_job
from .report import BundleReport, ColdStart, Options, Refused, Report, Row, Status

FRAME = (480, 640)  # height and width of a small camera's picture


@dataclass(frozen=True)
class BenchOptions:
    """What `vla-bench` was asked for.

    Attributes:
        engines: a bundle, or a folder of bundles.
        device: where every backend runs.
        threads: of each backend on the CPU.
        runs, seconds, warmup: see `measure.Budget`.
        time_limit_s: for one backend's process, from its start to its end.
        backends: names to run; empty for all.
        checkpoints: files given by the user.
        worker: the command that runs one backend.
    """

    engines: Path
    device: Literal["cpu", "cuda"]
    threads: int
    runs: int | None = None
    seconds: float = 8.0
    warmup: int | None = None
    time_limit_s: float = 900.0
    backends: tuple[str, ...] = ()
    checkpoints: tuple[Path, ...] = ()
    worker: Sequence[str] = DEFAULT_WORKER


class Progress(Protocol):
    """Is told what happens, in this order for each row."""

    def begin(self, bundle: str, backend: str) -> None: ...

    def phase(self, phase: Phase) -> None: ...

    def end(self, row: Row) -> None: ...


@dataclass(frozen=True)
class _Planned:
    """A sound bundle, and where its checkpoint is."""

    bundle: Bundle
    checkpoint: Search


def run_bench(options: BenchOptions, progress: Progress) -> Report:
    """Measure every bundle.

    Raises:
        InputError: no bundle there, or a checkpoint that belongs to none.
    """
    planned, refused = _plan(options)
    with open_nvml() as nvml:
        return Report(
            schema_version=2,
            tool=f"vla-edge {VERSION}",
            created_utc=datetime.datetime.now(datetime.timezone.utc).isoformat(timespec="seconds"),
            machine=describe_machine(),
            options=_reported(options),
            bundles=tuple(_bench_bundle(item, options, nvml, progress) for item in planned),
            refused=tuple(refused),
        )


def has_failure(report: Report) -> bool:
    """Whether an engine is wrong, a backend failed, or a bundle was refused.

    PyTorch in plain FP16 may be wrong: that is what the islands of the engines are for, and a finding.
    """
    rows = [row for bundle in report.bundles for row in bundle.rows]
    wrong = any(row.status == "wrong" and not row.backend.startswith("torch-fp16") for row in rows)
    return wrong or bool(report.refused) or any(row.status == "failed" for row in rows)


def _plan(options: BenchOptions) -> tuple[list[_Planned], list[Refused]]:
    """Open every bundle and find its checkpoint, before the first minute is spent on measuring."""
    finder = CheckpointFinder(options.checkpoints)
    planned: list[_Planned] = []
    refused: list[Refused] = []
    wants_torch = bool(set(TORCH_NAMES).intersection(options.backends or BACKEND_NAMES))
    for folder in _folders(options.engines):
        try:
            bundle = Bundle.open(folder, verify="size")
        except VlaError as error:
            refused.append(Refused(path=str(folder), reason=error.problem))
            continue
        found = finder.find(bundle.folder, bundle.manifest.source) if wants_torch else Search(None)
        planned.append(_Planned(bundle, found))
    if wants_torch:
        finder.refuse_unused()
    return planned, refused


def _folders(engines: Path) -> list[Path]:
    mend = f"Make one with: vla-export --ckpt policy.pth --fp16 -o {engines}"
    if not engines.is_dir():
        raise InputError(f"there is no folder {engines} with bundles.", mend)
    folders = find_bundles(engines)
    if not folders:
        raise InputError(f"no bundle found in {engines}.", mend)
    return folders


def _bench_bundle(
    item: _Planned, options: BenchOptions, nvml: Any | None, progress: Progress
) -> BundleReport:
    manifest = item.bundle.manifest
    rows = []
    for name in options.backends or _default_backends(item, options):
        progress.begin(manifest.name, name)
        rows.append(_bench_backend(name, item, options, nvml, progress))
        progress.end(rows[-1])
    return BundleReport(
        name=manifest.name,
        path=str(item.bundle.folder),
        manifest_sha256=item.bundle.manifest_sha256,
        layout=manifest.source.layout,
        parameters=manifest.source.parameters,
        precision=manifest.precision.achieved,
        source_file=manifest.source.file,
        weights_origin=manifest.source.weights_origin,
        frame=FRAME,
        rows=_with_speedups(rows),
    )


def _default_backends(item: _Planned, options: BenchOptions) -> tuple[str, ...]:
    torch_names = [
        name for name in TORCH_NAMES if options.device == "cuda" or not name.endswith(GRAPH_SUFFIX)
    ]
    return (*torch_names, *engines_of(item.bundle))


def _bench_backend(
    name: str, item: _Planned, options: BenchOptions, nvml: Any | None, progress: Progress
) -> Row:
    origin = item.bundle.manifest.source.weights_origin
    obstacle = _obstacle(name, item, options)
    if obstacle:
        return Row(backend=name, status="skipped", reason=obstacle, weights_origin=origin)
    job = Job(
        backend=name,
        bundle=str(item.bundle.folder),
        checkpoint=str(item.checkpoint.path) if name in TORCH_NAMES else None,
        device=options.device,
        threads=options.threads,
        frame=FRAME,
        runs=options.runs,
        seconds=options.seconds,
        warmup=options.warmup,
    )
    device = DeviceMemory(nvml, 0) if nvml is not None and options.device == "cuda" else None
    outcome = run_job(
        job,
        time_limit_s=options.time_limit_s,
        watch=MemoryWatch(device),
        worker=options.worker,
        on_phase=progress.phase,
    )
    return _row(name, item, outcome)


def _obstacle(name: str, item: _Planned, options: BenchOptions) -> str:
    """Why a backend is not even tried, or ""."""
    if name in TORCH_NAMES and item.checkpoint.path is None:
        return item.checkpoint.reason
    if name not in (*TORCH_NAMES, *engines_of(item.bundle)):
        return f"the bundle has no plan for it: vla-build {item.bundle.folder} --backend {name}"
    if name.endswith(GRAPH_SUFFIX) and options.device == "cpu":
        return "a CUDA graph needs --device cuda"
    if name.startswith("tensorrt") and options.device == "cpu":
        return "a TensorRT plan needs --device cuda"
    return ""


def _row(name: str, item: _Planned, outcome: Outcome) -> Row:
    manifest, measured = item.bundle.manifest, outcome.result
    origin = manifest.source.weights_origin
    if not isinstance(measured, Measured):
        return Row(
            backend=name,
            status="failed",
            reason=measured.reason,
            weights_origin=origin,
            memory=outcome.memory,
        )
    missed = missed_gate(measured.parity, manifest.parity.gates)
    status: Status = "wrong" if missed else "ok"
    start = (measured.interpreter_s, measured.import_s, measured.load_s, measured.first_call_s)
    return Row(
        backend=name,
        status=status,
        reason=missed,
        weights_origin=origin,
        identity=measured.identity,
        step=summarise(measured.samples.step_ms),
        act=summarise(measured.samples.act_ms),
        device=summarise(measured.samples.device_ms),
        parity=measured.parity,
        cold_start=ColdStart(
            interpreter_s=start[0],
            import_s=start[1],
            load_s=start[2],
            first_call_s=start[3],
            total_s=sum(start),
        ),
        memory=outcome.memory,
        warmup=measured.warmup,
        samples=measured.samples,
        notes=_notes(name, item, measured),
    )


def _notes(name: str, item: _Planned, measured: Measured) -> tuple[str, ...]:
    notes = list(measured.notes)
    if name in TORCH_NAMES and item.checkpoint.note:
        notes.append(item.checkpoint.note)
    if not any(gate.stage == "action" for gate in item.bundle.manifest.parity.gates):
        notes.append("the manifest has no gate for the action: only checked to be finite")
    return tuple(notes)


def _with_speedups(rows: Sequence[Row]) -> tuple[Row, ...]:
    """Put each row's p50 beside PyTorch's; a wrong row gains nothing."""
    p50_ms = {row.backend: row.step.p50_ms for row in rows if row.step}

    def ratio(row: Row, baseline: str) -> float | None:
        if row.step is None or row.status != "ok" or baseline not in p50_ms:
            return None
        return p50_ms[baseline] / row.step.p50_ms

    return tuple(
        msgspec.structs.replace(
            row,
            speedup_over_torch_fp32=ratio(row, "torch-fp32"),
            speedup_over_torch_fp16=ratio(row, "torch-fp16"),
        )
        for row in rows
    )


def _reported(options: BenchOptions) -> Options:
    return Options(
        device=options.device,
        threads=options.threads,
        runs=options.runs,
        seconds=options.seconds,
        warmup=options.warmup,
        time_limit_s=options.time_limit_s,
        backends=options.backends,
    )
