"""The tables that are no bundle's: the stand-in, what was published of it, and other devices."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

from vla_edge.bench.output.format import (
    NOTHING,
    TEXT_LIMIT,
    clipped,
    error_cells,
    factor,
    fixed,
    memory_cells,
    printable,
    significant,
    status_word,
)
from vla_edge.bench.report.types import Forecast, Prediction, StandinReport, StandinRow

from .grid import Grid, Line, row_line
from .sections import GIGA


def standin_grid(standin: StandinReport) -> Grid:
    """The stand-in: what PyTorch's allocator held beside what the bytes of its shapes explain."""
    figures = ("p50", "p99", "FPS", "x FP32", "max m/s", "allocator", "explained", "off by", "device")

    def cells(item: StandinRow) -> tuple[str, ...]:
        row, step, memory = item.row, item.row.step, item.row.memory
        allocated_mib = memory.torch_allocator_peak_mib if memory else None
        return (
            row.backend,
            item.protocol,
            status_word(row.status),
            *((significant(step.p50_ms), significant(step.p99_ms), significant(step.fps)) if step else "---"),
            factor(row.speedup_over_torch_fp32),
            error_cells(row.parity)[0],
            fixed(allocated_mib, 0),
            fixed(item.explained_mib, 0),
            _off_by(allocated_mib, item.explained_mib),
            memory_cells(memory)[2],
        )

    lines = tuple(row_line(item.row, cells(item), marked=False) for item in standin.rows)
    caption = "The random stand-in, one step, ms; peak memory of PyTorch's allocator and of the device, MiB"
    return Grid("standin", caption, ("backend", "protocol", "result"), figures, lines).without_empty()


def _off_by(measured: float | None, explained: float | None) -> str:
    return NOTHING if measured is None or not explained else f"{measured / explained - 1:+.1%}"


def claims_grid(standin: StandinReport) -> Grid:
    """The published table, with its speed-up beside the one measured here."""
    lines = tuple(
        Line(
            (
                printable(clipped(claim.model)),
                significant(claim.fp32_ms),
                significant(claim.fp16_ms),
                factor(claim.fp32_ms / claim.fp16_ms if claim.fp16_ms else None),
                fixed(claim.fp32_memory_mb, 0),
                fixed(claim.fp16_memory_mb, 0),
            )
        )
        for claim in standin.claims
    )
    caption = "Published for this stand-in under the names of models; not measured here"
    figures = ("FP32 ms", "FP16 ms", "FP32 / FP16", "FP32 MB", "FP16 MB")
    return Grid("claims", caption, ("published as",), figures, lines)


def forecast_grids(forecasts: Sequence[Forecast]) -> tuple[Grid, ...]:
    """What other devices could do: what is predicted first, then from what.

    The sources are footnotes of the last table, numbered through all.
    """
    sources = tuple(dict.fromkeys(_source(row) for forecast in forecasts for row in forecast.rows))
    number = {source: at for at, source in enumerate(sources, 1)}
    grids = [_forecast_grid(forecast, number) for forecast in forecasts]
    return tuple(
        replace(grid, footnotes=sources if grid is grids[-1] else ()).without_empty() for grid in grids
    )


def _source(row: Prediction) -> str:
    return printable(clipped(row.source, TEXT_LIMIT))


def _forecast_grid(forecast: Forecast, number: Mapping[str, int]) -> Grid:
    lines = tuple(
        Line(
            (
                f"{printable(clipped(row.device))} [{number[_source(row)]}]",
                significant(row.expected_ms),
                significant(row.floor_ms),
                significant(row.memory_gb_s),
                significant(row.fp16_tflops),
            )
        )
        for row in forecast.rows
    )
    caption = (
        f"PREDICTION for {printable(clipped(forecast.bundle))}, ms a step, from published figures; measured on none "
        f"of these ({significant(forecast.bytes_read / GIGA)} GB read, "
        f"{significant(forecast.operations / GIGA)} GFLOP)"
    )
    figures = ("predicted ms", "at least ms", "GB/s", "FP16 TFLOPS")
    return Grid("forecast", caption, ("device",), figures, lines)
