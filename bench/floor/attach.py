"""Put floors beside a report's rows, and predictions for other devices beside its bundles."""

from __future__ import annotations

import logging
from collections.abc import Sequence

import msgspec

from vla_edge.bench.report.types import BundleReport, FloorDistance, Forecast, Rates, Report, Row
from vla_edge.runtime.bundle.bundle import Bundle
from vla_edge.runtime.errors import VlaError

from .devices import forecast
from .distance import arithmetic_of, floor_distance, row_work
from .work import Work, work_of

logger = logging.getLogger(__name__)


def with_floors(report: Report, bundles: Sequence[Bundle]) -> Report:
    """The report with `Row.floor`, where the device's rates are known, and `forecasts` of what ran at all.

    Args:
        report: as measured.
        bundles: those of `report.bundles`, in the same order.
    """
    forecasts: list[Forecast] = []
    measured: list[BundleReport] = []
    for entry, bundle in zip(report.bundles, bundles, strict=True):
        try:
            work = work_of(bundle)
        except VlaError as error:
            logger.warning("no floor for %s: %s", entry.name, error.problem)
            measured.append(entry)
            continue
        rows = entry.rows if report.rates is None else _floored(entry.rows, work, report.rates)
        measured.append(msgspec.structs.replace(entry, rows=rows))
        if any(row.step for row in rows):
            forecasts.append(forecast(entry.name, work, _best_engine(rows)))
    return msgspec.structs.replace(report, bundles=tuple(measured), forecasts=tuple(forecasts))


def _floored(rows: Sequence[Row], work: Work, rates: Rates) -> tuple[Row, ...]:
    return tuple(msgspec.structs.replace(row, floor=_floor_of(work, rates, row)) for row in rows)


def _floor_of(work: Work, rates: Rates, row: Row) -> FloorDistance | None:
    """Of the time on the device alone where it is known, else of the step with its copies.

    What was measured stands, whatever the floor does not know: then None.
    """
    latency = row.device or row.step
    if latency is None or row.identity is None:
        return None
    try:
        precision = arithmetic_of(row.identity, row.backend)
        return floor_distance(row_work(work, row.identity, row.backend), rates, precision, latency.p50_ms)
    except VlaError as error:
        logger.warning("no floor for the row %s: %s", row.backend, error.problem)
        return None


def _best_engine(rows: Sequence[Row]) -> float | None:
    """How far the best right FP16 engine on a GPU is from its floor: what other devices may be expected to reach."""
    distances = [
        row.floor.times_floor
        for row in rows
        if row.floor
        and row.identity
        and row.status == "ok"
        and row.identity.backend != "torch"
        and row.identity.device.startswith("cuda")
        and arithmetic_of(row.identity, row.backend) == "fp16"
    ]
    return min(distances, default=None)
