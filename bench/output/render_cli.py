"""`vla-bench render`: the command."""

from __future__ import annotations

from pathlib import Path

import click

from vla_edge.runtime.console import verbose_option

EPILOG = """\b
Example:
  vla-bench render report.json --out pages/
"""


@click.command(
    "render",
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110},
    epilog=EPILOG,
)
@click.argument("report_path", metavar="REPORT", type=click.Path(path_type=Path))
@click.option(
    "--out",
    type=click.Path(path_type=Path),
    default=Path("."),
    show_default=True,
    help="Folder for report.json, report.csv, report.md and report.html.",
)
@verbose_option
def command(report_path: Path, out: Path) -> int:
    """Write the page, Markdown and CSV of a report that was measured before."""
    from ..report_file import read_report
    from .writers import prepare_folder, write_outputs

    report = read_report(report_path)
    prepare_folder(out)
    for path in write_outputs(report, out):
        click.echo(path)
    return 0
