"""The report for a terminal, as tables; a pipe gets Markdown."""

from __future__ import annotations

from collections.abc import Mapping

from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

from ..report import BundleReport, Report, StandinReport
from .facts import UNFINISHED, bundle_line, device_name, rates_line
from .markdown import OPEN_GRIDS, to_markdown
from .sections import (
    Grid,
    Remark,
    bundle_grids,
    claims_grid,
    forecast_grid,
    remarks,
    standin_grid,
)

TERMINAL_GRIDS = (*OPEN_GRIDS, "energy", "agreement")
STYLES = {"ok": "", "wrong": "bold red", "failed": "red", "skipped": "dim", "": ""}


def print_report(report: Report, console: Console) -> None:
    """Print what matters most on a terminal, everything into a pipe."""
    if not console.is_terminal:
        _say(to_markdown(report).rstrip("\n"), console)
        return
    _say(f"{report.options.device}: {device_name(report)}", console)
    if report.rates:
        _say(rates_line(report.rates), console)
    if not report.complete:
        _say(f"unfinished: {UNFINISHED}", console, STYLES["failed"])
    for bundle in report.bundles:
        _print_bundle(bundle, console)
    if report.standin:
        _print_standin(report.standin, console)
    for forecast in report.forecasts:
        _print_grid(forecast_grid(forecast), console)
    for refused in report.refused:
        _say(f"\n{refused.path} refused: {refused.reason}", console, STYLES["failed"])


def _print_bundle(bundle: BundleReport, console: Console) -> None:
    _say(f"\n{bundle.name}: {bundle_line(bundle)}", console, "bold")
    for grid in bundle_grids(bundle):
        if grid.key in TERMINAL_GRIDS:
            _print_grid(grid, console)
    for remark in remarks(bundle.rows):
        _print_remark(remark, console)


def _print_standin(standin: StandinReport, console: Console) -> None:
    _say(f"\nThe stand-in, {standin.parameters:,} random parameters: none of the policies", console, "bold")
    for grid in (standin_grid(standin), claims_grid(standin)):
        _print_grid(grid, console)
    for remark in remarks(item.row for item in standin.rows):
        _print_remark(remark, console)
    for text in standin.explanation:
        _say(text, console)


def _print_grid(grid: Grid, console: Console) -> None:
    _say(f"\n{grid.caption}", console)
    console.print(rich_table(grid, STYLES))


def rich_table(grid: Grid, styles: Mapping[str, str]) -> Table:
    """The table as a terminal shows it, each line in the style of its status, if it has one."""
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    for at, heading in enumerate(grid.headings):
        table.add_column(heading, no_wrap=True, justify="left" if at < len(grid.words) else "right")
    for line in grid.lines:
        table.add_row(*map(Text, line.cells), style=styles.get(line.status, ""))
    return table


def _print_remark(remark: Remark, console: Console) -> None:
    _say(f"- {remark.backend} {remark.kind}: {remark.text}", console, "yellow" if remark.grave else "")


def _say(text: str, console: Console, style: str = "") -> None:
    console.print(Text(text, style=style), soft_wrap=True)
