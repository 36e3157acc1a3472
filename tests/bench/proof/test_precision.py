"""`.half()` beside the bundle's graph."""

from __future__ import annotations

import json
import math
import subprocess
import sys
from pathlib import Path

import pytest

from vla_edge.bench.proof.precision import PrecisionReport, StageComparison, compare_precision, render
from vla_edge.runtime.command.json_text import json_text
from vla_edge.runtime.errors import InputError


def test_every_stage_is_measured_both_ways(bundle: Path, checkpoint_of) -> None:
    report = compare_precision(checkpoint_of("pure", "none"), bundle, samples=2)
    assert [row.stage for row in report.stages] == ["vision", "text", "action"]
    assert report.samples == 2
    for row in report.stages:
        # the graph is FP32 here, so that only .half() is off
        assert row.graph_relative_l2 < 1e-4 < row.half_relative_l2
    assert report.graph_max_abs < 1e-3


def test_another_checkpoint_is_refused(bundle: Path, checkpoint_of) -> None:
    with pytest.raises(InputError, match="no bundle was exported from"):
        compare_precision(checkpoint_of("hybrid-a", "transformers"), bundle)


REPORT = PrecisionReport(
    bundle="policy-fp16 0123456789ab",
    weights_origin="sample: tiny",
    samples=8,
    stages=(
        StageComparison(
            stage="text",
            half_relative_l2=math.inf,
            half_max_abs=math.inf,
            graph_relative_l2=0.00123,
            graph_max_abs=0.5,
        ),
    ),
    unit="m/s",
    half_max_abs=math.inf,
    graph_max_abs=0.0042,
)


def test_overflow_is_shown_as_such() -> None:
    assert render(REPORT).splitlines() == [
        "policy-fp16 0123456789ab: errors against PyTorch FP32 over 8 samples; weights: sample: tiny",
        "",
        "| stage  | .half() relative | .half() max abs | graph relative | graph max abs |",
        "|--------|-----------------:|----------------:|---------------:|--------------:|",
        "| text   |          NaN/inf |         NaN/inf |       1.23e-03 |      5.00e-01 |",
        "",
        "action, m/s: NaN/inf with .half(), 4.20e-03 in the graph",
    ]


def test_a_report_is_plain_json() -> None:
    assert json.loads(json_text(REPORT))["stages"][0]["half_relative_l2"] is None


def test_the_command_prints_errors_without_a_traceback(tmp_path: Path) -> None:
    arguments = [sys.executable, "-m", "vla_edge.bench.proof.precision", "policy.pth", str(tmp_path)]
    done = subprocess.run(arguments, capture_output=True, text=True, timeout=60)
    assert done.returncode == 2
    assert done.stderr.startswith("error: ")
    assert "Traceback" not in done.stderr
