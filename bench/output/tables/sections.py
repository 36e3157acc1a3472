"""The tables of a bundle: what stands in each, and where a row of the report has it."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from functools import partial
from typing import NamedTuple

from vla_edge.bench.output.format import (
    exponent,
    giga,
    largest_error,
    last_error,
    name,
    plain_error,
    relative_error,
    share,
    significant,
    status_word,
    units_of,
    weights_word,
)
from vla_edge.bench.report.types import BundleReport, LayerTime, PromptTime, Row, StageTime

from .grid import WEIGHTS, Column, Grid, in_units, label, marked_label, table_of

LAYERS_SHOWN = 10
PROMPTS_SHOWN = 12

_RESULT = (
    Column("backend", "", label),
    Column("result", "status", status_word),
    Column(WEIGHTS, "weights_origin", weights_word),
)
_BACKEND = (Column("backend", "", marked_label), Column(WEIGHTS, "weights_origin", weights_word))
_PART = (
    Column("backend", "row", marked_label),
    Column(WEIGHTS, "row.weights_origin", weights_word),
    Column("stage", "part.stage", name),
)
_OVER_FP32 = Column("x FP32", "speedup_over_torch_fp32", ".2f")
_PART_TIMES = (Column("mean", "part.ms"), Column("of profile", "part.share", share))

_SUMMARY = (
    Column("p50 ms", "step.p50_ms"),
    _OVER_FP32,
    Column("error {unit}", "parity", plain_error),
    Column("p99 ms", "step.p99_ms"),
    Column("device MiB", "memory.device_peak_mib", ",.0f"),
    Column("host MiB", "memory.host_anonymous_peak_mib", ",.0f"),
    Column("J a step", "energy.joules_per_step"),
)
_LATENCY = (
    Column("p50", "step.p50_ms"),
    Column("p90", "step.p90_ms"),
    Column("p99", "step.p99_ms"),
    Column("max", "step.max_ms"),
    Column("std", "step.std_ms"),
    Column("FPS", "step.fps"),
    Column("GPU p50", "device.p50_ms"),
    _OVER_FP32,
    Column("x FP16", "speedup_over_torch_fp16", ".2f"),
)
_CHECKS = (
    Column("max {unit}", "parity", largest_error),
    Column("relative", "parity", relative_error),
    Column("host anonymous", "memory.host_anonymous_peak_mib", ",.0f"),
    Column("host resident", "memory.host_peak_mib", ",.0f"),
    Column("device", "memory.device_peak_mib", ",.0f"),
)
_START = (
    Column("act p50", "act.p50_ms"),
    Column("act p99", "act.p99_ms"),
    Column("preprocess p50", "preprocess.p50_ms"),
    Column("interpreter", "cold_start.interpreter_s", ",.2f"),
    Column("import", "cold_start.import_s", ",.2f"),
    Column("load", "cold_start.load_s", ",.2f"),
    Column("first step", "cold_start.first_call_s", ",.2f"),
    Column("total", "cold_start.total_s", ",.2f"),
    Column("of it compile", "compile_s", ",.2f"),
)
_PACED = (
    Column("rate Hz", "paced.rate_hz", "g"),
    Column("deadline", "paced.deadline_ms"),
    Column("p50", "paced.latency.p50_ms"),
    Column("p99", "paced.latency.p99_ms"),
    Column("woken late p99", "paced.wake.p99_ms"),
    Column("ticks", "paced.ticks", ","),
    Column("misses", "paced.misses", ","),
    Column("longest run", "paced.longest_run_of_misses", ","),
)
_ENERGY = (Column("J a step", "energy.joules_per_step"), Column("mean W", "energy.mean_power_w"))
_FLOOR = (
    Column("GB read", "floor.bytes_read", giga),
    Column("GFLOP", "floor.operations", giga),
    Column("memory", "floor.memory_ms"),
    Column("compute", "floor.compute_ms"),
    Column("floor", "floor.ms"),
    Column("measured p50", "floor.p50_ms"),
    Column("x floor", "floor.times_floor", ".2f"),
)
_AGREEMENT = (
    Column("frames", "agreement.frames", ","),
    Column("max", "agreement.max_abs", exponent),
    Column("mean", "agreement.mean_abs", exponent),
    Column("last frame", "agreement.errors", last_error),
)
_GROWTH = (
    Column("steps", "growth.steps", ","),
    Column("host anonymous", "growth.host_anonymous_mib", ",.1f"),
    Column("device", "growth.device_mib", ",.1f"),
)


class Part(NamedTuple):
    """A stage or a layer of a row's profile."""

    row: Row
    part: StageTime | LayerTime


def bundle_grids(bundle: BundleReport) -> tuple[Grid, ...]:
    """The tables of a bundle that have something to show; latency is always the first."""
    rows = bundle.rows
    profiles = [(row, row.profile) for row in rows if row.profile]
    stages = [Part(row, stage) for row, profile in profiles for stage in profile.stages]
    layers = [Part(row, layer) for row, profile in profiles for layer in profile.layers[:LAYERS_SHOWN]]
    height, width = bundle.frame
    start = f"Policy.act from a {width}x{height} frame, ms; from process start to the first step, s"
    paced = "A loop at a fixed rate that sleeps in between, from tick to answer, ms"
    methods = ", ".join(sorted({row.energy.method for row in rows if row.energy}))
    energy = f"Energy of the whole device while steps were timed, idle power included ({methods})"
    floor = (
        "The least time that this device could take, by its measured rates, ms; "
        "measured is the GPU alone where it was timed, else the step"
    )
    profile = "Where one step's time goes, ms; measured apart, since profiling slows it"
    computes = Column("computes", "identity.computes", name)
    source, layer = Column("measured by", "row.profile.source", name), Column("layer", "part.name", name)
    against = Column("against", "agreement.reference", name)
    checks = "Error against the golden actions; peak memory, MiB"
    grids = (
        latency_grid(rows, seeing=bundle.camera is not None),
        table_of("checks", checks, rows, (*_BACKEND, computes), in_units(_CHECKS, rows)),
        table_of("start", start, rows, _BACKEND, _START),
        _grid("paced", paced, rows, _PACED),
        _grid("energy", energy, rows, _ENERGY),
        _grid("floor", floor, rows, _FLOOR),
        table_of("stages", profile, stages, (*_PART, source), _PART_TIMES, kind="row.status"),
        table_of(
            "layers",
            "Slowest layers, mean ms a step",
            layers,
            (*_PART, layer),
            _PART_TIMES,
            kind="row.status",
        ),
        _grid("prompts", "One step by the instruction's length, p50 in ms", rows, _prompt_columns(rows)),
        _grid(
            "agreement",
            f"Actions on your own frames, difference in {units_of(rows)}",
            rows,
            _AGREEMENT,
            against,
        ),
        _grid("growth", "What the process held more after the timed steps than before, MiB", rows, _GROWTH),
    )
    filled = (grid.without_empty() for grid in grids if grid.lines)
    return tuple(grid for grid in filled if grid.figures)


def summary_grid(rows: Sequence[Row]) -> Grid:
    """What matters most of each backend, in one line."""
    caption = "One policy step; host: anonymous memory"
    return table_of("summary", caption, rows, _RESULT, in_units(_sound(_SUMMARY, rows), rows)).without_empty()


def latency_grid(rows: Sequence[Row], seeing: bool = False) -> Grid:
    """All of a step; `seeing`: engines take frames as they are."""
    given = "a frame as it is, of PyTorch on pixels that are prepared" if seeing else "preprocessed input"
    caption = f"One policy step on {given}, ms"
    return table_of("latency", caption, rows, _RESULT, _sound(_LATENCY, rows))


def _sound(figures: Iterable[Column], rows: Iterable[Row]) -> list[Column]:
    """The figures without ratios to a PyTorch that is wrong, which a report of an older version may have."""
    wrong = {f"speedup_over_{row.backend.replace('-', '_')}" for row in rows if row.status == "wrong"}
    return [column for column in figures if column.path not in wrong]


def _grid(key: str, caption: str, rows: Iterable[Row], figures: Sequence[Column], *words: Column) -> Grid:
    """A table with a line for each row that has what the table is called after."""
    return table_of(key, caption, [row for row in rows if getattr(row, key)], (*_BACKEND, *words), figures)


def _prompt_columns(rows: Iterable[Row]) -> list[Column]:
    lengths = sorted({prompt.tokens for row in rows for prompt in row.prompts})[:PROMPTS_SHOWN]
    return [Column(f"{length} tokens", "prompts", partial(_p50_of, length)) for length in lengths]


def _p50_of(tokens: int, prompts: Iterable[PromptTime]) -> str:
    return significant(next((prompt.p50_ms for prompt in prompts if prompt.tokens == tokens), None))
