"""The report as CSV: one line for each row, flat columns whose names carry their units."""

from __future__ import annotations

import csv
import io
from collections.abc import Mapping

from vla_edge.bench.report.types import Report

from .format import clipped, printable
from .tables.grid import held

Cell = str | float | int
# a spreadsheet would run a text that begins so as a formula
FORMULA_STARTS = ("=", "+", "-", "@", "\uff1d", "\uff0b", "\uff0d", "\uff20")
# a spreadsheet's cell holds 32,767 letters; the rest of a longer one would go into the next lines
CELL_LIMIT = 32_000


def _same(part: str, *names: str, prefix: str = "") -> dict[str, str]:
    """Columns that are called as the fields are in the report."""
    return {f"{prefix}{name}": f"{part}{name}" for name in names}


def _latency(part: str) -> dict[str, str]:
    names = ("p50_ms", "p90_ms", "p99_ms", "max_ms", "mean_ms", "std_ms", "fps", "runs")
    return _same(f"{part}.", *names, prefix=f"{part}_")


# column -> where a report, a bundle, a row of the stand-in and any row have its value, as for `held`
_RUN = {
    **_same("", "created_utc", "tool"),
    "device": "options.device",
    "gpu": "machine.gpu.name",
    "cpu": "machine.cpu",
    "threads": "options.threads",
}
_BUNDLE = {
    "bundle": "name",
    **_same("", "manifest_sha256", "layout", "parameters", "precision", "batch", "camera"),
    "prompt_length_tokens": "prompt_length",
}
_STANDIN = {"protocol": "protocol", "explained_memory_mib": "explained_mib"}
_ROW = {
    **_same("", "backend", "status", "reason", "weights_origin", "doubts"),
    "backend_version": "identity.version",
    "computes": "identity.computes",
    **_latency("step"),
    **_same("", "speedup_over_torch_fp32", "speedup_over_torch_fp16"),
    **_latency("device"),
    **_latency("act"),
    **_latency("preprocess"),
    "error_finite": "parity.finite",
    "error_max": "parity.max_abs",
    "error_unit": "parity.unit",
    "error_relative_l2": "parity.relative_l2",
    **_same("memory.", "host_peak_mib", "host_anonymous_peak_mib", "device_peak_mib", "device_method"),
    **_same("memory.", "torch_allocator_peak_mib"),
    **_same("cold_start.", "interpreter_s", "import_s", "load_s", "first_call_s"),
    "cold_start_s": "cold_start.total_s",
    "compile_s": "compile_s",
    **_same("warmup.", "calls", "stable", prefix="warmup_"),
    **_same("paced.", "rate_hz", "deadline_ms", prefix="paced_"),
    **_same("paced.latency.", "p50_ms", "p99_ms", prefix="paced_"),
    "paced_wake_p99_ms": "paced.wake.p99_ms",
    **_same("paced.", "ticks", "misses", "longest_run_of_misses", prefix="paced_"),
    "energy_per_step_j": "energy.joules_per_step",
    "mean_power_w": "energy.mean_power_w",
    "energy_method": "energy.method",
    **_same("growth.", "steps", "host_anonymous_mib", "device_mib", prefix="growth_"),
    "floor_bytes": "floor.bytes_read",
    **_same("floor.", "operations", "memory_ms", "compute_ms", "ms", prefix="floor_"),
    "times_floor": "floor.times_floor",
    "frames": "agreement.frames",
    "frames_error_max": "agreement.max_abs",
    "frames_error_mean": "agreement.mean_abs",
}
COLUMNS = (*_RUN, "workload", "protocol", *_BUNDLE, "explained_memory_mib", *_ROW)


def to_csv(report: Report) -> str:
    """One line for each backend of each bundle, then those of the stand-in.

    The columns are the same for every report, in the same order; a missing figure is an empty cell, a truth
    value is "true" or "false". Texts are put on one line; one that a spreadsheet would take for a formula has
    an apostrophe before it.
    """
    file = io.StringIO()
    writer = csv.DictWriter(file, COLUMNS, lineterminator="\n")
    writer.writeheader()
    run = _cells(report, _RUN)
    for bundle in report.bundles:
        place = {**run, "workload": "policy", **_cells(bundle, _BUNDLE)}
        writer.writerows({**place, **_cells(row, _ROW)} for row in bundle.rows)
    if report.standin:
        place = {**run, "workload": "stand-in", "parameters": report.standin.parameters}
        writer.writerows(
            {**place, **_cells(item, _STANDIN), **_cells(item.row, _ROW)} for item in report.standin.rows
        )
    return file.getvalue()


def _cells(item: object, columns: Mapping[str, str]) -> dict[str, Cell]:
    return {name: _written(held(item, path)) for name, path in columns.items()}


def _written(value: object) -> Cell:
    if value is None:
        return ""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, tuple):  # of doubts
        value = "; ".join(f"{doubt.kind}: {doubt.text}" for doubt in value)
    if isinstance(value, str):
        text = clipped(printable(value), CELL_LIMIT)
        return f"'{text}" if text.lstrip().startswith(FORMULA_STARTS) else text
    assert isinstance(value, int | float)
    return value
