"""The report as CSV."""

from __future__ import annotations

import csv
import io

import msgspec
import pytest
from bench_examples import example_report, full_report, measured_row

from vla_edge.bench.output.csv_table import to_csv
from vla_edge.bench.report.types import Report


def read(report: Report) -> list[dict[str, str]]:
    return list(csv.DictReader(io.StringIO(to_csv(report), newline="")))


def with_row(**changes) -> Report:
    report = example_report()
    row = measured_row(changes.pop("backend", "onnxruntime"), (1.0, 2.0), **changes)
    return msgspec.structs.replace(report, bundles=(msgspec.structs.replace(report.bundles[0], rows=(row,)),))


def test_every_backend_and_every_stand_in_is_a_line() -> None:
    report = full_report()
    lines = read(report)
    assert [line["backend"] for line in lines if line["workload"] == "policy"] == [
        row.backend for row in report.bundles[0].rows
    ]
    assert [line["protocol"] for line in lines if line["workload"] == "stand-in"] == [
        item.protocol for item in report.standin.rows
    ]


def test_figures_come_back_as_they_were() -> None:
    report = full_report()
    for line, row in zip(read(report), report.bundles[0].rows, strict=False):
        if row.step is None:
            continue
        assert float(line["step_p50_ms"]) == row.step.p50_ms
        assert float(line["energy_per_step_j"]) == row.energy.joules_per_step
        assert float(line["times_floor"]) == row.floor.times_floor
        assert int(line["paced_misses"]) == row.paced.misses
        assert line["error_finite"] == "true"


def test_what_is_not_known_is_empty() -> None:
    failed = next(line for line in read(example_report()) if line["status"] == "failed")
    assert failed["step_p50_ms"] == failed["device_peak_mib"] == failed["error_finite"] == ""
    assert failed["reason"] == "killed by SIGSEGV in phase 'load'"


def test_columns_are_the_same_for_every_report() -> None:
    nothing = msgspec.structs.replace(example_report(), bundles=())
    heads = {to_csv(report).splitlines()[0] for report in (example_report(), full_report(), nothing)}
    assert len(heads) == 1
    names = heads.pop().split(",")
    assert len(names) == len(set(names))
    assert names[:4] == ["created_utc", "tool", "device", "gpu"]


def test_every_line_says_where_the_weights_are_from() -> None:
    assert all(line["weights_origin"] for line in read(full_report()))


@pytest.mark.parametrize("start", ["=", "+", "-", "@", " =", "\t=", "\r\n@", "\uff1d", "\u2028="])
def test_a_text_is_never_a_formula(start: str) -> None:
    shown = read(with_row(backend=f"{start}HYPERLINK(1)"))[0]["backend"]
    assert shown.startswith("'")
    assert shown.endswith(f"{start.strip()}HYPERLINK(1)")


def test_a_negative_figure_stays_a_figure() -> None:
    report = full_report()
    row = report.bundles[0].rows[0]
    shrunk = msgspec.structs.replace(row, growth=msgspec.structs.replace(row.growth, host_anonymous_mib=-3.5))
    bundle = msgspec.structs.replace(report.bundles[0], rows=(shrunk,))
    assert read(msgspec.structs.replace(report, bundles=(bundle,)))[0]["growth_host_anonymous_mib"] == "-3.5"


def test_commas_quotes_and_line_breaks_in_names_stay_in_their_cell() -> None:
    assert read(with_row(backend='a,"b"\nc\rd'))[0]["backend"] == 'a,"b" c d'


def test_a_text_fits_a_spreadsheets_cell_and_says_where_it_was_cut() -> None:
    shown = read(with_row(reason="r" * 100_000))[0]["reason"]
    assert len(shown) == 32_000
    assert shown.endswith("r…")


def test_a_direction_or_control_character_reaches_no_cell() -> None:
    shown = read(with_row(backend="a\u202eb\x1b[31mc\u2029d"))[0]["backend"]
    assert shown == "a\\u202eb\\x1b[31mc d"
