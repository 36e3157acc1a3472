"""Errors are shown in the unit of the policy's actions, in every kind of report."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest
from bench_examples import full_report

from vla_edge.bench.output.csv_table import to_csv
from vla_edge.bench.output.markdown import to_markdown
from vla_edge.bench.output.page import to_page
from vla_edge.bench.report.types import Report, Row


def in_unit(unit: str) -> Report:
    """The full report of a policy whose actions are in another unit."""

    def changed(row: Row) -> Row:
        parts: dict[str, Any] = {
            name: msgspec.structs.replace(getattr(row, name), unit=unit)
            for name in ("parity", "agreement")
            if getattr(row, name)
        }
        return msgspec.structs.replace(row, **parts)

    report = full_report()
    bundles = tuple(
        msgspec.structs.replace(bundle, rows=tuple(map(changed, bundle.rows))) for bundle in report.bundles
    )
    return msgspec.structs.replace(report, bundles=bundles, standin=None)


@pytest.mark.parametrize("write", [to_markdown, to_page, to_csv], ids=["md", "html", "csv"])
def test_no_other_unit_stands_beside_them(write: Any) -> None:
    text = write(in_unit("rad"))
    assert "m/s" not in text.replace("0.02 m/s allowed", "").replace("off by 0.36 m/s", "")
    assert "rad" in text


def test_headings_and_sentences_have_it() -> None:
    text = to_markdown(in_unit("m/s or rad/s"))
    assert "max m/s or rad/s" in text
    assert "right within 0.014 m/s or rad/s" in text
    assert "difference in m/s or rad/s" in text


def test_a_unit_from_a_strange_report_commands_no_terminal_and_is_clipped() -> None:
    text = to_markdown(in_unit("\x1b[2J" + "x" * 400))
    assert "\x1b" not in text
    assert "x" * 50 not in text
