"""`vla-bench compare`: the command."""

from __future__ import annotations

import sys
from pathlib import Path

import click

from vla_edge.runtime.command.console import COMMAND_SETTINGS, ExamplesFirst, verbose_option
from vla_edge.runtime.command.extras import require
from vla_edge.runtime.command.json_text import json_text
from vla_edge.runtime.command.wrapping import for_terminal
from vla_edge.runtime.version import VERSION

EPILOG = """\b
Examples:
  vla-bench compare before/ after/
  vla-bench compare before.json after.json --threshold 3% --json

Exit codes: 0 nothing got worse; 1 a regression; 2 wrong use, or not a report.
"""


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
    cls=ExamplesFirst,
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

    from vla_edge.bench.output.format import printable
    from vla_edge.bench.report.file import read_report

    from .rows import compare
    from .table import print_comparison

    comparison = compare(read_report(before), read_report(after), threshold, tail_threshold)
    for warning in comparison.warnings:
        click.echo(for_terminal(f"warning: {printable(warning)}", sys.stderr), err=True)
    if as_json:
        click.echo(json_text(comparison))
    else:
        print_comparison(comparison, Console())
    return int(comparison.regressed)
