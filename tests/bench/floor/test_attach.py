"""Floors and predictions put beside what was measured."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import msgspec
import pytest
from bench_examples import example_report

from vla_edge.bench.floor.attach import with_floors
from vla_edge.bench.report.types import Row
from vla_edge.runtime.bundle.bundle import Bundle


@pytest.mark.parametrize("ran", [True, False])
def test_only_what_ran_has_predictions(bundle_of: Callable[..., Path], ran: bool) -> None:
    report = example_report()
    entry = report.bundles[0]
    if not ran:
        rows = tuple(Row(row.backend, "failed", "no", row.weights_origin) for row in entry.rows)
        entry = msgspec.structs.replace(entry, rows=rows)
    report = msgspec.structs.replace(report, bundles=(entry,), forecasts=())
    found = with_floors(report, [Bundle.open(bundle_of("pure"))])
    assert [each.bundle for each in found.forecasts] == ([entry.name] if ran else [])
