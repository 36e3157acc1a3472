"""The kept results are reports of today's schema and name no folder of the machine that made them."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from vla_edge.bench.report.types import decode

RESULTS = sorted((Path(__file__).parents[3] / "bench" / "results").glob("*.json"))


def test_there_are_results() -> None:
    assert RESULTS


@pytest.mark.parametrize("path", RESULTS, ids=lambda path: path.name)
def test_a_kept_result_can_be_read(path: Path) -> None:
    data = path.read_bytes()
    report = decode(data, path.name)
    rows = [row for bundle in report.bundles for row in bundle.rows]
    rows += [item.row for item in report.standin.rows] if report.standin else []
    ran = [row for row in rows if row.status != "failed"]
    assert ran
    assert all(row.step and row.samples and len(row.samples.step_ms) == row.step.runs for row in ran)
    assert all(row.reason for row in rows if row.status == "failed")
    assert not re.search(rb'"/(home|root|tmp|work|Users)/', data)
