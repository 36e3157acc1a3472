"""The kept results are summaries of today's schema, small, and name no folder of the machine that made them."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from vla_edge.bench.report.codec import decode
from vla_edge.bench.summary.thinning import MOST_SAMPLES_KEPT

FOLDER = Path(__file__).parents[3] / "bench" / "results"
RESULTS = sorted(FOLDER.glob("*.json"))
# of all files together: whoever clones the repository gets every version of them
LARGEST_BYTES = 200_000


def test_there_are_results() -> None:
    assert RESULTS


def test_the_kept_results_are_small_together() -> None:
    sizes = {path.name: path.stat().st_size for path in FOLDER.iterdir()}
    assert sum(sizes.values()) < LARGEST_BYTES, f"keep what vla-bench summary writes: {sizes}"


@pytest.mark.parametrize("path", RESULTS, ids=lambda path: path.name)
def test_a_kept_result_can_be_read(path: Path) -> None:
    data = path.read_bytes()
    report = decode(data, path.name)
    assert report.summarised
    rows = [row for bundle in report.bundles for row in bundle.rows]
    rows += [item.row for item in report.standin.rows] if report.standin else []
    ran = [row for row in rows if row.status != "failed"]
    assert ran
    for row in ran:
        assert row.step
        assert row.samples
        assert len(row.samples.step_ms) == min(row.step.runs, MOST_SAMPLES_KEPT)
    assert all(row.reason for row in rows if row.status == "failed")
    assert not re.search(rb'"/(home|root|tmp|work|Users)/', data)
