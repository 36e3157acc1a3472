"""`vla-bench summary`: the command."""

from __future__ import annotations

from pathlib import Path

import click

from vla_edge.runtime.command.console import COMMAND_SETTINGS, ExamplesFirst, verbose_option
from vla_edge.runtime.errors import InputError
from vla_edge.runtime.version import VERSION

EPILOG = """\b
Examples:
  vla-bench summary report/            # report/report-summary.json
  vla-bench summary report.json --out kept/h100.json
"""


@click.command("summary", cls=ExamplesFirst, context_settings=COMMAND_SETTINGS, epilog=EPILOG)
@click.argument("report_path", metavar="REPORT", type=click.Path(path_type=Path))
@click.option(
    "-o",
    "--out",
    type=click.Path(path_type=Path),
    help="The JSON file to write. Default: NAME-summary.json beside NAME.json.",
)
@verbose_option
@click.version_option(VERSION)
def command(report_path: Path, out: Path | None) -> int:
    """Write a report small enough for git, which render and compare read like any other.

    Every figure stays, to as many digits as every table needs to remain as it is. Of each row's samples at
    most 100 are kept, from all parts of the run: compare gives wider intervals, and does not judge p99. Left out
    are samples that nothing shows, layers that no table shows, and memory by phase. The summary and its page
    say so.
    """
    from vla_edge.bench.output.marks import refuse_foreign
    from vla_edge.bench.output.writers import JSON_NAME
    from vla_edge.bench.report.file import check_writable, read_report, write

    from .thinning import summary_of

    report = read_report(report_path)
    source = report_path / JSON_NAME if report_path.is_dir() else report_path
    out = out or source.with_name(f"{source.stem}-summary.json")
    if out.suffix != ".json":
        raise InputError(f"{out} is no name of a report.", "Name a file that ends in .json with --out.")
    check_writable(out)
    if out.exists() and out.samefile(source):
        raise InputError(
            f"{out} is the report itself: its samples would be lost.", "Name another file with --out."
        )
    refuse_foreign(out)
    write(summary_of(report), out)
    click.echo(out)
    return 0
