"""`vla-bench render`: the command."""

from __future__ import annotations

from pathlib import Path

import click

from vla_edge.runtime.command.console import COMMAND_SETTINGS, ExamplesFirst, verbose_option
from vla_edge.runtime.version import VERSION

EPILOG = """\b
Examples:
  vla-bench render kept.json               # into kept-report/
  vla-bench render kept.json --out pages/
"""


@click.command(
    "render",
    context_settings=COMMAND_SETTINGS,
    cls=ExamplesFirst,
    epilog=EPILOG,
)
@click.argument("report_path", metavar="REPORT", type=click.Path(path_type=Path))
@click.option(
    "--out",
    type=click.Path(path_type=Path),
    help="Folder for report.json, report.csv, report.md and report.html. Default: the report's own folder where "
    "it is called report.json, else NAME-report/ beside NAME.json.",
)
@verbose_option
@click.version_option(VERSION)
def command(report_path: Path, out: Path | None) -> int:
    """Write the page, Markdown and CSV of a report that was measured before.

    A file that vla-bench did not write is never written over.
    """
    from vla_edge.bench.report.file import read_report

    from .writers import prepare_folder, write_outputs

    report = read_report(report_path)
    folder = out or default_folder(report_path)
    prepare_folder(folder)
    for path in write_outputs(report, folder):
        click.echo(path)
    return 0


def default_folder(report_path: Path) -> Path:
    """Where a report's other forms belong: beside it where it lies in a folder of its own, else in a new one."""
    from .writers import JSON_NAME

    if report_path.is_dir():
        return report_path
    if report_path.name == JSON_NAME:
        return report_path.parent
    return report_path.with_name(f"{report_path.stem}-report")
