"""The tables that are no bundle's: the stand-in, what was published of it, and other devices."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from vla_edge.bench.output.format import (
    TEXT_LIMIT,
    clipped,
    giga,
    largest_error,
    name,
    status_word,
)
from vla_edge.bench.report.types import Forecast, Prediction, StandinReport

from .grid import Column, Grid, in_units, label, table_of

_STANDIN_WORDS = (
    Column("backend", "row", label),
    Column("protocol", "protocol_word", name),
    Column("result", "row.status", status_word),
)
_STANDIN = (
    Column("p50", "row.step.p50_ms"),
    Column("p99", "row.step.p99_ms"),
    Column("FPS", "row.step.fps"),
    Column("x FP32", "row.speedup_over_torch_fp32", ".2f"),
    Column("max {unit}", "row.parity", largest_error),
    Column("allocator", "allocated_mib", ",.0f"),
    Column("explained", "explained_mib", ",.0f"),
    Column("off by", "off_by", "+.1%"),
    Column("device", "row.memory.device_peak_mib", ",.0f"),
)
_CLAIMS = (
    Column("FP32 ms", "fp32_ms"),
    Column("FP16 ms", "fp16_ms"),
    Column("FP32 / FP16", "speedup", ".2f"),
    Column("FP32 MB", "fp32_memory_mb", ",.0f"),
    Column("FP16 MB", "fp16_memory_mb", ",.0f"),
)
_FORECAST = (
    Column("predicted ms", "expected_ms"),
    Column("at least ms", "floor_ms"),
    Column("GB/s", "memory_gb_s"),
    Column("FP16 TFLOPS", "fp16_tflops"),
)


def standin_grid(standin: StandinReport) -> Grid:
    """The stand-in: what PyTorch's allocator held beside what the bytes of its shapes explain."""
    caption = "The random stand-in, one step, ms; peak memory of PyTorch's allocator and of the device, MiB"
    return table_of(
        "standin",
        caption,
        standin.rows,
        _STANDIN_WORDS,
        in_units(_STANDIN, [item.row for item in standin.rows]),
        kind="row.status",
    ).without_empty()


def claims_grid(standin: StandinReport) -> Grid:
    """The published table, with its speed-up beside the one measured here."""
    caption = "Published for this stand-in under the names of models; not measured here"
    return table_of(
        "claims", caption, standin.claims, (Column("published as", "model", name),), _CLAIMS, kind=""
    )


def forecast_grids(forecasts: Sequence[Forecast]) -> tuple[Grid, ...]:
    """What other devices could do: what is predicted first, then from what.

    The sources are footnotes of the last table, numbered through all.
    """
    sources = tuple(dict.fromkeys(_source(row) for forecast in forecasts for row in forecast.rows))
    number = {source: at for at, source in enumerate(sources, 1)}
    device = Column("device", "", lambda row: f"{name(row.device)} [{number[_source(row)]}]")
    grids = [
        table_of("forecast", _caption(forecast), forecast.rows, (device,), _FORECAST, kind="").without_empty()
        for forecast in forecasts
    ]
    return (*grids[:-1], *(replace(grid, footnotes=sources) for grid in grids[-1:]))


def _source(row: Prediction) -> str:
    return clipped(row.source, TEXT_LIMIT)


def _caption(forecast: Forecast) -> str:
    return (
        f"PREDICTION for {name(forecast.bundle)}, ms a step, from published figures; measured on none of these "
        f"({giga(forecast.bytes_read)} GB read, {giga(forecast.operations)} GFLOP)"
    )
