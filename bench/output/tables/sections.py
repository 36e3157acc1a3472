"""The tables of a bundle."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import replace

from vla_edge.bench.output.format import (
    NOTHING,
    agreement_cells,
    computes,
    error_cells,
    factor,
    fixed,
    floor_p50_ms,
    latency_cells,
    memory_cells,
    paced_cells,
    plain_error,
    share,
    significant,
    start_cells,
    status_word,
    weights_word,
)
from vla_edge.bench.report.types import BundleReport, Row

from .grid import WEIGHTS, Grid, row_line

GIGA = 1e9
BASELINE, HALF = "torch-fp32", "torch-fp16"
LAYERS_SHOWN = 10
PROMPTS_SHOWN = 12


def bundle_grids(bundle: BundleReport) -> tuple[Grid, ...]:
    """The tables of a bundle that have something to show; latency is always the first."""
    grids = (
        latency_grid(bundle.rows),
        checks_grid(bundle.rows),
        start_grid(bundle),
        _paced_grid(bundle.rows),
        _energy_grid(bundle.rows),
        _floor_grid(bundle.rows),
        _stage_grid(bundle.rows),
        _layer_grid(bundle.rows),
        _prompt_grid(bundle.rows),
        _agreement_grid(bundle.rows),
        _growth_grid(bundle.rows),
    )
    return tuple(grid.without_empty() for grid in grids if grid.lines)


def summary_grid(rows: Iterable[Row]) -> Grid:
    """What matters most of each backend, in one line."""

    rows = tuple(rows)
    compared = not any(row.backend == BASELINE and row.status == "wrong" for row in rows)

    def cells(row: Row) -> tuple[str, ...]:
        anonymous, _, device = memory_cells(row.memory)
        step = row.step
        return (
            row.backend,
            status_word(row.status),
            weights_word(row.weights_origin),
            significant(step.p50_ms if step else None),
            factor(row.speedup_over_torch_fp32 if compared else None),
            plain_error(row.parity),
            significant(step.p99_ms if step else None),
            device,
            anonymous,
            significant(row.energy.joules_per_step if row.energy else None),
        )

    figures = ("p50 ms", "x FP32", "error m/s", "p99 ms", "device MiB", "host MiB", "J a step")
    lines = tuple(row_line(row, cells(row), marked=False) for row in rows)
    words = ("backend", "result", WEIGHTS)
    return Grid("summary", "One policy step; host: anonymous memory", words, figures, lines).without_empty()


def latency_grid(rows: Iterable[Row]) -> Grid:
    figures = ("p50", "p90", "p99", "max", "std", "FPS", "GPU p50", "x FP32", "x FP16")
    rows = tuple(rows)
    # a report written by an older version may have a ratio to these
    wrong = {row.backend for row in rows if row.status == "wrong"}

    def cells(row: Row) -> tuple[str, ...]:
        on_gpu = significant(row.device.p50_ms) if row.device else NOTHING
        gains = ((BASELINE, row.speedup_over_torch_fp32), (HALF, row.speedup_over_torch_fp16))
        ratios = (NOTHING if name in wrong else factor(ratio) for name, ratio in gains)
        return (
            row.backend,
            status_word(row.status),
            weights_word(row.weights_origin),
            *latency_cells(row.step),
            on_gpu,
            *ratios,
        )

    lines = tuple(row_line(row, cells(row), marked=False) for row in rows)
    caption = "One policy step on preprocessed input, ms"
    return Grid("latency", caption, ("backend", "result", "weights"), figures, lines)


def checks_grid(rows: Iterable[Row]) -> Grid:
    figures = ("max m/s", "relative", "host anonymous", "host resident", "device")
    lines = tuple(
        row_line(
            row,
            (
                row.backend,
                weights_word(row.weights_origin),
                computes(row),
                *error_cells(row.parity),
                *memory_cells(row.memory),
            ),
        )
        for row in rows
    )
    caption = "Error against the golden actions; peak memory, MiB"
    return Grid("checks", caption, ("backend", "weights", "computes"), figures, lines)


def start_grid(bundle: BundleReport) -> Grid:
    height, width = bundle.frame
    figures = (
        "act p50",
        "act p99",
        "preprocess p50",
        "interpreter",
        "import",
        "load",
        "first step",
        "total",
        "of it compile",
    )

    def cells(row: Row) -> tuple[str, ...]:
        act = (row.act.p50_ms, row.act.p99_ms) if row.act else (None, None)
        return (
            *map(significant, (*act, row.preprocess.p50_ms if row.preprocess else None)),
            *start_cells(row.cold_start),
            fixed(row.compile_s, 2),
        )

    caption = f"Policy.act from a {width}x{height} frame, ms; from process start to the first step, s"
    return _grid("start", caption, figures, bundle.rows, cells)


def _grid(
    key: str,
    caption: str,
    figures: tuple[str, ...],
    rows: Iterable[Row],
    cells: Callable[[Row], tuple[str, ...]],
    has: Callable[[Row], object] = lambda row: True,
) -> Grid:
    """A table of backend, weights and figures, with a line for each row that `has` what it shows."""
    lines = tuple(
        row_line(row, (row.backend, weights_word(row.weights_origin), *cells(row)))
        for row in rows
        if has(row)
    )
    return Grid(key, caption, ("backend", "weights"), figures, lines)


def _paced_grid(rows: Iterable[Row]) -> Grid:
    figures = (
        "rate Hz",
        "deadline",
        "p50",
        "p99",
        "woken late p99",
        "ticks",
        "misses",
        "longest run",
    )
    caption = "A loop at a fixed rate that sleeps in between, from tick to answer, ms"
    return _grid(
        "paced",
        caption,
        figures,
        rows,
        lambda row: paced_cells(row.paced) if row.paced else (),
        lambda row: row.paced,
    )


def _energy_grid(rows: Iterable[Row]) -> Grid:
    def cells(row: Row) -> tuple[str, ...]:
        energy = row.energy
        return (significant(energy.joules_per_step), significant(energy.mean_power_w)) if energy else ()

    caption = "Energy of the whole device while steps were timed, idle power included"
    grid = _grid("energy", caption, ("J a step", "mean W"), rows, cells, lambda row: row.energy)
    methods = sorted({row.energy.method for row in rows if row.energy})
    return replace(grid, caption=f"{caption} ({', '.join(methods)})")


def _floor_grid(rows: Iterable[Row]) -> Grid:
    figures = ("GB read", "GFLOP", "memory", "compute", "floor", "measured p50", "x floor")

    def cells(row: Row) -> tuple[str, ...]:
        floor = row.floor
        if floor is None:
            return ()
        return (
            significant(floor.bytes_read / GIGA),
            significant(floor.operations / GIGA),
            *map(significant, (floor.memory_ms, floor.compute_ms, floor.ms)),
            significant(floor_p50_ms(floor)),
            factor(floor.times_floor),
        )

    caption = (
        "The least time that this device could take, by its measured rates, ms; "
        "measured is the GPU alone where it was timed, else the step"
    )
    return _grid("floor", caption, figures, rows, cells, lambda row: row.floor)


def _stage_grid(rows: Iterable[Row]) -> Grid:
    lines = tuple(
        row_line(
            row,
            (
                row.backend,
                weights_word(row.weights_origin),
                stage.stage,
                row.profile.source,
                significant(stage.ms),
                share(stage.share),
            ),
        )
        for row in rows
        if row.profile
        for stage in row.profile.stages
    )
    caption = "Where one step's time goes, ms; measured apart, since profiling slows it"
    return Grid(
        "stages", caption, ("backend", "weights", "stage", "measured by"), ("mean", "of profile"), lines
    )


def _layer_grid(rows: Iterable[Row]) -> Grid:
    lines = tuple(
        row_line(
            row,
            (
                row.backend,
                weights_word(row.weights_origin),
                layer.stage,
                layer.name,
                significant(layer.ms),
                share(layer.share),
            ),
        )
        for row in rows
        if row.profile
        for layer in row.profile.layers[:LAYERS_SHOWN]
    )
    caption = "Slowest layers, mean ms a step"
    return Grid("layers", caption, ("backend", "weights", "stage", "layer"), ("mean", "of profile"), lines)


def _prompt_grid(rows: Iterable[Row]) -> Grid:
    rows = tuple(rows)
    lengths = sorted({prompt.tokens for row in rows for prompt in row.prompts})[:PROMPTS_SHOWN]

    def cells(row: Row) -> tuple[str, ...]:
        p50_ms = {prompt.tokens: prompt.p50_ms for prompt in row.prompts}
        return tuple(significant(p50_ms.get(length)) for length in lengths)

    caption = "One step by the instruction's length, p50 in ms"
    figures = tuple(f"{length} tokens" for length in lengths)
    return _grid("prompts", caption, figures, rows, cells, lambda row: row.prompts)


def _agreement_grid(rows: Iterable[Row]) -> Grid:
    lines = tuple(
        row_line(row, (row.backend, weights_word(row.weights_origin), cells[1], cells[0], *cells[2:]))
        for row in rows
        if row.agreement
        for cells in (agreement_cells(row.agreement),)
    )
    caption = "Actions on your own frames, difference in m/s"
    return Grid(
        "agreement",
        caption,
        ("backend", "weights", "against"),
        ("frames", "max", "mean", "last frame"),
        lines,
    )


def _growth_grid(rows: Iterable[Row]) -> Grid:
    def cells(row: Row) -> tuple[str, ...]:
        growth = row.growth
        if growth is None:
            return ()
        return f"{growth.steps:,}", fixed(growth.host_anonymous_mib, 1), fixed(growth.device_mib, 1)

    caption = "What the process held more after the timed steps than before, MiB"
    return _grid(
        "growth", caption, ("steps", "host anonymous", "device"), rows, cells, lambda row: row.growth
    )
