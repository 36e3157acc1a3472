"""A summary of a report is small and shows the same figures; what it has lost it says."""

from __future__ import annotations

import csv
import io
import json
import re
from pathlib import Path
from typing import Any

import jsonschema
import msgspec
import numpy as np
import pytest
from bench_examples import example_report, full_report, measured_row
from click.testing import CliRunner, Result
from rich.console import Console

from vla_edge.bench.compare.rows import compare
from vla_edge.bench.output.csv_table import to_csv
from vla_edge.bench.output.markdown import to_markdown
from vla_edge.bench.output.page import to_page
from vla_edge.bench.output.plots.plots import latency_plot
from vla_edge.bench.output.terminal import print_report
from vla_edge.bench.report.codec import decode, encode
from vla_edge.bench.report.types import Report, Row, json_schema
from vla_edge.bench.summary.cli import command
from vla_edge.bench.summary.thinning import MOST_SAMPLES_KEPT, UNSHOWN_SERIES, summary_of
from vla_edge.runtime.errors import InputError

FULL = decode(encode(full_report()), "full")
SUMMARY = summary_of(FULL)


def with_steps(*series: tuple[float, ...]) -> Report:
    rows = tuple(measured_row(f"b{at}", samples) for at, samples in enumerate(series))
    report = example_report()
    return msgspec.structs.replace(report, bundles=(msgspec.structs.replace(report.bundles[0], rows=rows),))


def steps(report: Report) -> tuple[float, ...]:
    samples = report.bundles[0].rows[0].samples
    assert samples is not None
    return samples.step_ms


def drawn(mean: float, seed: int, count: int = 2000) -> tuple[float, ...]:
    return tuple(float(value) for value in np.random.default_rng(seed).normal(mean, 0.5, count))


def all_text(report: Report) -> str:
    """What a pipe gets of a report."""
    file = io.StringIO()
    print_report(report, Console(file=file, width=200), full=True)
    return file.getvalue()


def to_digits(cell: str, digits: int) -> str:
    is_figure = re.fullmatch(r"-?\d+(\.\d+)?(e[-+]\d+)?", cell) and not cell.isdigit()
    return str(float(f"{float(cell):.{digits}g}")) if is_figure else cell


# what is shown stays


def test_every_table_of_a_summary_is_that_of_the_report() -> None:
    untold = msgspec.structs.replace(SUMMARY, summarised=None)
    assert to_markdown(untold) == to_markdown(FULL)
    assert all_text(untold) == all_text(FULL)


def test_every_table_and_tile_of_its_page_is_that_of_the_report() -> None:
    shown = re.compile(r"<table.*?</table>|<dl.*?</dl>|<h1.*?</h1>|<h2.*?</h2>", re.DOTALL)
    ours, theirs = (shown.findall(to_page(report)) for report in (SUMMARY, FULL))
    assert ours == theirs
    assert len(ours) > 10


def test_the_csv_of_a_summary_has_the_same_figures_to_its_digits() -> None:
    assert SUMMARY.summarised is not None
    digits = SUMMARY.summarised.digits
    ours, theirs = (list(csv.reader(io.StringIO(to_csv(report)))) for report in (SUMMARY, FULL))
    assert ours == [[to_digits(cell, digits) for cell in line] for line in theirs]


def test_a_figure_that_six_digits_would_round_up_keeps_more() -> None:
    report = with_steps((8.3749996,) * 20)
    summary = summary_of(report)
    assert summary.summarised is not None
    assert summary.summarised.digits == 8
    assert "8.37 |" in to_markdown(summary)
    assert "8.38" not in to_markdown(summary)


def test_a_summary_is_a_report_of_the_published_schema_and_comes_back_as_it_was() -> None:
    written = encode(SUMMARY)
    jsonschema.Draft202012Validator(json_schema()).validate(json.loads(written))
    assert decode(written, "summary") == SUMMARY


def test_a_summary_has_a_line_for_each_row_and_no_field_without_a_value() -> None:
    lines = encode(SUMMARY).decode().splitlines()
    rows = [line for line in lines if line.startswith('    {"backend":')]
    assert len(rows) == sum(len(bundle.rows) for bundle in FULL.bundles)
    assert '"speedup_over_torch_fp16":null' in encode(FULL).decode().replace(" ", "")
    assert '"speedup_over_torch_fp16":null' not in "".join(rows)


def test_names_of_any_letters_come_back() -> None:
    bundle = msgspec.structs.replace(FULL.bundles[0], name='],{"backend": \u202e \x1b[2J \n é')
    summary = summary_of(msgspec.structs.replace(FULL, bundles=(bundle,)))
    assert decode(encode(summary), "odd") == summary


# what goes


def test_of_a_long_series_a_sample_of_each_stretch_is_kept_in_order() -> None:
    kept = steps(summary_of(with_steps(tuple(map(float, range(1, 1001))))))
    assert len(kept) == MOST_SAMPLES_KEPT
    assert all(at * 10 < sample <= at * 10 + 10 for at, sample in enumerate(kept))


def test_samples_of_frames_that_take_turns_are_kept_of_every_frame() -> None:
    kept = steps(summary_of(with_steps(tuple(float(1 + at % 10) for at in range(2000)))))
    assert {kept.count(float(1 + frame)) > 3 for frame in range(10)} == {True}


def test_a_short_series_is_kept_whole_to_four_digits() -> None:
    assert steps(summary_of(with_steps((1.23456, 0.00098765, 123.456)))) == (1.235, 0.0009877, 123.5)


def test_the_same_report_gives_the_same_summary() -> None:
    assert encode(summary_of(FULL)) == encode(SUMMARY)


def test_what_nothing_shows_is_left_out() -> None:
    rows = [*SUMMARY.bundles[0].rows, *(item.row for item in SUMMARY.standin.rows if SUMMARY.standin)]
    for row in rows:
        assert row.samples is None or not any(getattr(row.samples, name) for name in UNSHOWN_SERIES)
        assert row.memory is None or row.memory.phases == ()
        assert row.profile is None or len(row.profile.layers) <= 10


def test_an_empty_report_has_a_summary() -> None:
    empty = msgspec.structs.replace(example_report(), bundles=())
    assert decode(encode(summary_of(empty)), "empty").bundles == ()


# and is told


def test_a_summary_says_how_many_samples_it_has_and_what_it_has_not() -> None:
    told = SUMMARY.summarised
    assert told is not None
    assert 0 < told.samples_kept < told.of
    line = f"A summary: {told.samples_kept:,} of {told.of:,} samples are here, at most 100 of a series"
    assert line in to_markdown(SUMMARY)
    assert line in to_page(SUMMARY)
    assert line in all_text(SUMMARY)
    assert "Every sample was kept" not in to_page(SUMMARY)
    assert "Memory by phase is not in this summary" in to_page(SUMMARY)
    assert "Memory by phase is not" not in to_page(FULL)


def test_the_drawing_of_the_latencies_says_how_many_samples_it_shows() -> None:
    plot = latency_plot(summary_of(with_steps(drawn(10, 1, 600), drawn(12, 2, 50))).bundles[0].rows)
    assert plot is not None
    assert plot.caption.startswith("150 of 650 samples of one policy step.")


def test_the_marks_of_a_summary_s_drawing_are_of_all_samples() -> None:
    series = (*drawn(10, 1, 999), 99.0)
    whole = with_steps(series)
    for report in (whole, summary_of(whole)):
        plot = latency_plot(report.bundles[0].rows)
        assert plot is not None
        (lane,) = plot.lanes
        assert [shape.left for row in lane.rows for shape in row if shape.kind == "end"] == [99.0]


def test_a_summary_of_a_summary_is_refused() -> None:
    with pytest.raises(InputError, match="is a summary already") as caught:
        summary_of(SUMMARY)
    assert caught.value.hint


# comparing


def ratios(before: Report, after: Report) -> Any:
    (row,) = compare(before, after).rows
    return row


def test_a_summary_is_compared_by_the_figures_of_all_samples() -> None:
    before, after = with_steps(drawn(10, 1)), with_steps(drawn(11, 2))
    whole, small = ratios(before, after), ratios(summary_of(before), summary_of(after))
    assert small.verdict == whole.verdict == "regression"
    for name in ("p50", "p99"):
        assert getattr(small, name).ratio == pytest.approx(getattr(whole, name).ratio, rel=1e-5)
    assert small.p50.low <= small.p50.ratio <= small.p50.high
    assert small.p50.high - small.p50.low > 2 * (whole.p50.high - whole.p50.low)


def test_the_tail_of_a_summary_is_shown_and_not_judged() -> None:
    calm, tailed = drawn(10, 1), tuple(value + 10 * (at % 30 == 0) for at, value in enumerate(drawn(10, 1)))
    assert "p99" in ratios(with_steps(calm), with_steps(tailed)).regressions[0]
    small = ratios(summary_of(with_steps(calm)), with_steps(tailed))
    assert (small.regressions, small.p99.low, small.p99.high) == ((), None, None)
    assert small.p99.ratio > 1.5


def test_comparing_says_which_report_is_a_summary() -> None:
    warnings = compare(FULL, SUMMARY).warnings
    assert (
        sum("the report after is a summary with at most 100 samples of a row" in text for text in warnings)
        == 1
    )
    assert not any("the report before is a summary" in text for text in warnings)


def test_a_summary_compared_with_its_report_has_no_regression() -> None:
    assert not compare(FULL, SUMMARY).regressed
    assert not compare(SUMMARY, FULL).regressed


def test_a_summary_whose_figures_are_nothing_is_compared(tmp_path: Path) -> None:
    def changed(row: Row) -> Row:
        assert row.step is not None
        return msgspec.structs.replace(row, step=msgspec.structs.replace(row.step, p50_ms=0.0))

    small = summary_of(with_steps(drawn(10, 1)))
    rows = tuple(changed(row) for row in small.bundles[0].rows)
    odd = msgspec.structs.replace(small, bundles=(msgspec.structs.replace(small.bundles[0], rows=rows),))
    assert ratios(odd, small).p50.ratio == pytest.approx(1.0)


# the command


def summarised(*arguments: object) -> Result:
    return CliRunner().invoke(command, [*map(str, arguments)], standalone_mode=False)


@pytest.mark.parametrize(
    ("name", "given", "written"),
    [
        ("kept.json", "kept.json", "kept-summary.json"),
        ("report.json", ".", "report-summary.json"),
    ],
)
def test_a_summary_is_written_beside_its_report(tmp_path: Path, name: str, given: str, written: str) -> None:
    (tmp_path / name).write_bytes(encode(FULL))
    done = summarised(tmp_path / given)
    assert done.output.split() == [str(tmp_path / written)]
    assert (tmp_path / written).read_bytes() == encode(SUMMARY)
    assert (tmp_path / name).read_bytes() == encode(FULL)
    assert summarised(tmp_path / given).return_value == 0  # over its own


@pytest.mark.parametrize(
    ("out", "words"),
    [
        ("full.json", "is the report itself"),
        ("link.json", "is the report itself"),
        ("mine.json", "vla-bench did not write it"),
        ("small", "is no name of a report"),
        ("absent/small.json", "no writable folder"),
    ],
)
def test_a_place_that_would_cost_something_is_refused(tmp_path: Path, out: str, words: str) -> None:
    (tmp_path / "full.json").write_bytes(encode(FULL))
    (tmp_path / "link.json").symlink_to("full.json")
    (tmp_path / "mine.json").write_text('{"tool": "mine"}')
    before = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    done = summarised(tmp_path / "full.json", "--out", tmp_path / out)
    assert isinstance(done.exception, InputError)
    assert words in done.exception.problem
    assert done.exception.hint
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == before
