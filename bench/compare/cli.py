"""`vla-bench compare`: the command."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import click

from vla_edge.bench.output.format import NOTHING
from vla_edge.runtime.command.console import COMMAND_SETTINGS, verbose_option
from vla_edge.runtime.command.extras import require
from vla_edge.runtime.command.json_text import json_text
from vla_edge.runtime.command.wrapping import for_terminal
from vla_edge.runtime.version import VERSION

if TYPE_CHECKING:
    from rich.console import Console

    from vla_edge.bench.output.tables.grid import Grid

    from .rows import Comparison, Ratio, RowComparison

EPILOG = """\b
Examples:
  vla-bench compare before/ after/
  vla-bench compare before.json after.json --threshold 3% --json

Exit codes: 0 nothing got worse; 1 a regression; 2 wrong use, or not a report.
"""
STYLES = {"regression": "bold red", "gone": "bold red", "improvement": "green"}


class PartType(click.ParamType):
    """A part of 1 that says what it is: "5%", or "0.05". A bare 5 could mean either, so it is refused."""

    name = "percent"

    def convert(self, value: object, param: click.Parameter | None, ctx: click.Context | None) -> float:
        if isinstance(value, float):
            return value
        text = str(value).strip()
        number, percent = text.removesuffix("%").rstrip(), text.endswith("%")
        try:
            part = float(number) / (100 if percent else 1)
        except ValueError:
            self.fail(f"{text!r} is no percentage: write 5% or 0.05.", param, ctx)
        if not percent and 1 <= part < float("inf"):
            words = (
                f"{text!r} could mean {number}% or {part:.0%}: write {number}%, or a part of 1 such as 0.05."
            )
            self.fail(words, param, ctx)
        if not 0 <= part < 10:
            self.fail(f"{text!r} is not between 0% and 1000%: write 5% or 0.05.", param, ctx)
        return part


@click.command(
    "compare",
    context_settings=COMMAND_SETTINGS,
    epilog=EPILOG,
)
@click.argument("before", type=click.Path(path_type=Path))
@click.argument("after", type=click.Path(path_type=Path))
@click.option(
    "--threshold",
    type=PartType(),
    default="5%",
    show_default=True,
    help="How much p50, peak memory and action error may grow: 5% or 0.05.",
)
@click.option(
    "--tail-threshold",
    type=PartType(),
    default="25%",
    show_default=True,
    help="How much p99 may grow: 25% or 0.25.",
)
@click.option("--json", "as_json", is_flag=True, help="Print the comparison as JSON.")
@verbose_option
@click.version_option(VERSION)
def command(before: Path, after: Path, threshold: float, tail_threshold: float, as_json: bool) -> int:
    """Tell what got worse from report BEFORE to AFTER, each a file that a bench wrote, or its folder.

    A slower p50 or p99 counts only if the whole 95 % interval of its ratio is past the threshold. Growth of
    memory or error, a worse result and a missing row count too.
    """
    require("bench", "scipy")
    from rich.console import Console

    from vla_edge.bench.report.file import read_report

    from .rows import compare

    comparison = compare(read_report(before), read_report(after), threshold, tail_threshold)
    for warning in comparison.warnings:
        click.echo(for_terminal(f"warning: {_plain(warning)}", sys.stderr), err=True)
    if as_json:
        click.echo(json_text(comparison))
    else:
        print_comparison(comparison, Console())
    return int(comparison.regressed)


def print_comparison(comparison: Comparison, console: Console) -> None:
    """The verdict, a table and a line for each finding; plain text where the console is not a terminal."""
    from vla_edge.bench.output.tables.table import print_grid, print_text

    worse = sum(bool(row.regressions) for row in comparison.rows)
    verdict = f"{worse} of {len(comparison.rows)} rows regressed" if worse else "no regression"
    allowed = f"allowed: {_percent(comparison.threshold)}, for p99 {_percent(comparison.tail_threshold)}"
    doubted = sum(bool(row.doubts) for row in comparison.rows)
    doubt = f"; the figures of {doubted} row{'s' * (doubted > 1)} are in doubt" if doubted else ""
    print_text(f"{verdict} ({allowed}){doubt}", console, "bold red" if worse else "bold")
    print_text("", console)
    print_grid(comparison_grid(comparison), console, STYLES)
    for line in _findings(comparison):
        print_text(f"- {_plain(line)}", console)


def comparison_grid(comparison: Comparison) -> Grid:
    """The comparison as a table: what was, what is, and what came of it."""
    from vla_edge.bench.output.format import printable, status_word
    from vla_edge.bench.output.tables.grid import Grid, Line

    def cells(row: RowComparison) -> tuple[str, ...]:
        states = (status_word(state) if state else NOTHING for state in (row.status_before, row.status_after))
        return (
            printable(row.workload),
            printable(row.backend),
            *states,
            row.verdict.upper() if row.regressions else row.verdict,
            *_speed(row.p50),
            _change(row.p99.ratio if row.p99 else None),
            _number(row.p_value, ".2g"),
            _number(row.host_anonymous_mib, "+,.0f"),
            _number(row.device_mib, "+,.0f"),
            _number(row.error_mps, "+.4f"),
        )

    words = ("workload", "backend", "was", "is", "verdict")
    figures = ("p50 was", "is", "change", "95 % from", "to", "p99", "U test p", "host", "device", "error")
    lines = tuple(Line(cells(row), row.verdict) for row in comparison.rows)
    caption = "p50 of one step, ms; memory, MiB; action error, m/s; each after against before"
    return Grid("comparison", caption, words, figures, lines)


def _speed(ratio: Ratio | None) -> tuple[str, ...]:
    from vla_edge.bench.output.format import significant

    if ratio is None:
        return (NOTHING,) * 5
    times = (significant(ratio.before_ms), significant(ratio.after_ms))
    return (*times, *map(_change, (ratio.ratio, ratio.low, ratio.high)))


def _percent(part: float) -> str:
    return f"{100 * part:.3g}%"


def _change(ratio: float | None) -> str:
    return _number(None if ratio is None else ratio - 1, "+.1%")


def _number(value: float | None, form: str) -> str:
    return NOTHING if value is None else format(value, form)


def _findings(comparison: Comparison) -> Iterator[str]:
    for row in comparison.rows:
        doubt = " (in doubt)" if row.doubts else ""
        for kind, texts in (("REGRESSION", row.regressions), ("improvement", row.improvements)):
            yield from (f"{kind}{doubt}: {row.workload}, {row.backend}: {text}" for text in texts)


def _plain(text: str) -> str:
    from vla_edge.bench.output.format import printable

    return printable(text)
