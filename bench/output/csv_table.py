"""The report as CSV: one line for each row, flat columns whose names carry their units."""

from __future__ import annotations

import csv
import io

from vla_edge.bench.report.types import (
    Agreement,
    BundleReport,
    Energy,
    FloorDistance,
    Growth,
    Latency,
    Memory,
    Paced,
    Parity,
    Report,
    Row,
    StandinRow,
)

from .format import clipped, computes, printable

Cell = str | float | int | bool | None
# a spreadsheet would run a text that begins so as a formula
FORMULA_STARTS = ("=", "+", "-", "@", "\uff1d", "\uff0b", "\uff0d", "\uff20")
# a spreadsheet's cell holds 32,767 letters; the rest of a longer one would go into the next lines
CELL_LIMIT = 32_000
# what was run; the last is of the stand-in only
PLACE_COLUMNS = (
    "workload",
    "protocol",
    "bundle",
    "manifest_sha256",
    "layout",
    "parameters",
    "precision",
    "batch",
    "prompt_length_tokens",
    "explained_memory_mib",
)


def to_csv(report: Report) -> str:
    """One line for each backend of each bundle, then those of the stand-in.

    The columns are the same for every report, in the same order; a missing figure is an empty cell, a truth
    value is "true" or "false". Texts are put on one line; one that a spreadsheet would take for a formula has
    an apostrophe before it.
    """
    run = _run(report)
    lines = [{**run, **_bundle(bundle), **_row(row)} for bundle in report.bundles for row in bundle.rows]
    if report.standin:
        lines += [
            {**run, **_standin(item, report.standin.parameters), **_row(item.row)}
            for item in report.standin.rows
        ]
    nothing = Row(backend="", status="skipped", reason="", weights_origin="")
    file = io.StringIO()
    writer = csv.DictWriter(file, (*run, *PLACE_COLUMNS, *_row(nothing)), lineterminator="\n", restval="")
    writer.writeheader()
    writer.writerows({name: _written(value) for name, value in line.items()} for line in lines)
    return file.getvalue()


def _written(value: Cell) -> Cell:
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, str):
        text = clipped(printable(value), CELL_LIMIT)
        return f"'{text}" if text.lstrip().startswith(FORMULA_STARTS) else text
    return value


def _run(report: Report) -> dict[str, Cell]:
    return {
        "created_utc": report.created_utc,
        "tool": report.tool,
        "device": report.options.device,
        "gpu": report.machine.gpus[0].name if report.machine.gpus else None,
        "cpu": report.machine.cpu,
        "threads": report.options.threads,
    }


def _bundle(bundle: BundleReport) -> dict[str, Cell]:
    values = ("policy", None, bundle.name, bundle.manifest_sha256, bundle.layout, bundle.parameters)
    more = (bundle.precision, bundle.batch, bundle.prompt_length, None)
    return dict(zip(PLACE_COLUMNS, (*values, *more), strict=True))


def _standin(item: StandinRow, parameters: int) -> dict[str, Cell]:
    return {
        "workload": "stand-in",
        "protocol": item.protocol,
        "parameters": parameters,
        "explained_memory_mib": item.explained_mib,
    }


def _row(row: Row) -> dict[str, Cell]:
    """What is known of a row, and None for what is not: always the same columns."""
    return {
        **_result(row),
        **_latency("step", row.step),
        "speedup_over_torch_fp32": row.speedup_over_torch_fp32,
        "speedup_over_torch_fp16": row.speedup_over_torch_fp16,
        **_latency("device", row.device),
        **_latency("act", row.act),
        **_latency("preprocess", row.preprocess),
        **_parity(row.parity),
        **_memory(row.memory),
        **_start(row),
        **_paced(row.paced),
        **_energy(row.energy),
        **_growth(row.growth),
        **_floor(row.floor),
        **_agreement(row.agreement),
    }


def _result(row: Row) -> dict[str, Cell]:
    return {
        "backend": row.backend,
        "status": row.status,
        "reason": row.reason,
        "weights_origin": row.weights_origin,
        "doubts": "; ".join(f"{doubt.kind}: {doubt.text}" for doubt in row.doubts),
        "backend_version": row.identity.version if row.identity else None,
        "computes": computes(row) if row.identity else None,
    }


def _latency(prefix: str, latency: Latency | None) -> dict[str, Cell]:
    names = ("p50_ms", "p90_ms", "p99_ms", "max_ms", "mean_ms", "std_ms", "fps", "runs")
    return {f"{prefix}_{name}": getattr(latency, name) if latency else None for name in names}


def _parity(parity: Parity | None) -> dict[str, Cell]:
    return {
        "error_finite": parity.finite if parity else None,
        "error_max_mps": parity.max_abs_mps if parity else None,
        "error_relative_l2": parity.relative_l2 if parity else None,
    }


def _start(row: Row) -> dict[str, Cell]:
    start, warmup = row.cold_start, row.warmup
    return {
        "interpreter_s": start.interpreter_s if start else None,
        "import_s": start.import_s if start else None,
        "load_s": start.load_s if start else None,
        "first_call_s": start.first_call_s if start else None,
        "cold_start_s": start.total_s if start else None,
        "compile_s": row.compile_s,
        "warmup_calls": warmup.calls if warmup else None,
        "warmup_stable": warmup.stable if warmup else None,
    }


def _growth(growth: Growth | None) -> dict[str, Cell]:
    return {
        "growth_steps": growth.steps if growth else None,
        "growth_host_anonymous_mib": growth.host_anonymous_mib if growth else None,
        "growth_device_mib": growth.device_mib if growth else None,
    }


def _agreement(agreement: Agreement | None) -> dict[str, Cell]:
    return {
        "frames": agreement.frames if agreement else None,
        "frames_error_max_mps": agreement.max_mps if agreement else None,
        "frames_error_mean_mps": agreement.mean_mps if agreement else None,
    }


def _memory(memory: Memory | None) -> dict[str, Cell]:
    names = ("host_peak_mib", "host_anonymous_peak_mib", "device_peak_mib", "device_method")
    return {name: getattr(memory, name) if memory else None for name in (*names, "torch_allocator_peak_mib")}


def _paced(paced: Paced | None) -> dict[str, Cell]:
    return {
        "paced_rate_hz": paced.rate_hz if paced else None,
        "paced_deadline_ms": paced.deadline_ms if paced else None,
        "paced_p50_ms": paced.latency.p50_ms if paced else None,
        "paced_p99_ms": paced.latency.p99_ms if paced else None,
        "paced_wake_p99_ms": paced.wake.p99_ms if paced else None,
        "paced_ticks": paced.ticks if paced else None,
        "paced_misses": paced.misses if paced else None,
        "paced_longest_run_of_misses": paced.longest_run_of_misses if paced else None,
    }


def _energy(energy: Energy | None) -> dict[str, Cell]:
    return {
        "energy_per_step_j": energy.joules_per_step if energy else None,
        "mean_power_w": energy.mean_power_w if energy else None,
        "energy_method": energy.method if energy else None,
    }


def _floor(floor: FloorDistance | None) -> dict[str, Cell]:
    return {
        "floor_bytes": floor.bytes_read if floor else None,
        "floor_operations": floor.operations if floor else None,
        "floor_memory_ms": floor.memory_ms if floor else None,
        "floor_compute_ms": floor.compute_ms if floor else None,
        "floor_ms": floor.ms if floor else None,
        "times_floor": floor.times_floor if floor else None,
    }
