"""The text that a person reads."""

from __future__ import annotations

import io

import msgspec
import pytest
from bench_examples import example_report, full_report, measured_row
from rich.console import Console

from vla_edge.bench.measure import summarise
from vla_edge.bench.output.format import COLUMNS
from vla_edge.bench.output.markdown import to_markdown
from vla_edge.bench.output.table import print_report
from vla_edge.bench.report import Report


def printed(report: Report | None = None, **console: object) -> str:
    file = io.StringIO()
    print_report(report or example_report(), Console(file=file, **{"width": COLUMNS, **console}))  # type: ignore[arg-type]
    return file.getvalue()


def on_terminal(report: Report | None = None) -> str:
    return printed(report, force_terminal=True, no_color=True)


@pytest.mark.parametrize("report", [example_report(), full_report()])
def test_a_pipe_gets_the_markdown_as_it_is(report: Report) -> None:
    assert printed(report, width=40) == to_markdown(report)


def test_a_terminal_gets_the_same_figures() -> None:
    shown = on_terminal()
    for figure in ("41.0", "1.05", "952", "39.05", "4.2e-03", "NaN/inf", "418", "1,234", "4.94"):
        assert figure in shown.split() or f"{figure}\x1b" in shown, figure


def test_a_terminal_is_told_of_everything_that_speaks_against_a_row() -> None:
    shown = on_terminal(full_report())
    rows = [row for bundle in full_report().bundles for row in bundle.rows]
    for text in [doubt.text for row in rows for doubt in row.doubts]:
        assert text in shown
    for row in rows:
        assert row.reason in shown


def test_what_was_refused_is_told() -> None:
    assert "/robot/engines/torn refused: model.onnx.data is truncated" in on_terminal()


def test_a_prediction_is_called_one() -> None:
    assert "PREDICTION" in on_terminal(full_report())


def test_every_line_with_a_figure_says_where_the_weights_are_from() -> None:
    rows = [
        line
        for line in printed().splitlines()
        if line.startswith("| ") and "| weights |" not in line and "checkpoint |" not in line
    ]
    assert len(rows) >= 15
    assert all("| sample  |" in line for line in rows)


def cells_of(shown: str, backend: str) -> dict[str, str]:
    """The first table's row of a backend, by the heading of each column."""
    lines = [
        [cell.strip() for cell in line.strip("|").split("|")]
        for line in shown.splitlines()
        if line[:1] == "|"
    ]
    headings = lines[0]
    return next(dict(zip(headings, line, strict=True)) for line in lines if line[0] == backend)


def test_every_figure_stands_under_its_own_heading() -> None:
    report = example_report()
    row = measured_row("torch-fp16", (8.0,) * 100, device=summarise((7.5,)), speedup_over_torch_fp32=1.5)
    bundle = msgspec.structs.replace(report.bundles[0], rows=(row,))
    assert cells_of(printed(msgspec.structs.replace(report, bundles=(bundle,))), "torch-fp16") == {
        "backend": "torch-fp16",
        "result": "ok",
        "weights": "sample",
        "p50": "8.00",
        "p90": "8.00",
        "p99": "8.00",
        "max": "8.00",
        "std": "0.000",
        "FPS": "125",
        "GPU p50": "7.50",
        "x FP32": "1.50",
    }


def test_real_weights_are_called_checkpoint() -> None:
    report = example_report()
    row = measured_row("onnxruntime", (1.0, 1.0), weights_origin="checkpoint")
    bundle = msgspec.structs.replace(report.bundles[0], rows=(row,), weights_origin="checkpoint")
    shown = printed(msgspec.structs.replace(report, bundles=(bundle,)))
    assert "| checkpoint |" in shown
    assert "sample" not in shown
