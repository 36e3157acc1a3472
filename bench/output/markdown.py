"""The report as Markdown, for a README or a pull request."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator

from vla_edge.bench.output.tables.grid import Grid
from vla_edge.bench.output.tables.other_grids import claims_grid, forecast_grids, standin_grid
from vla_edge.bench.output.tables.sections import bundle_grids
from vla_edge.bench.report.types import BundleReport, Report, StandinReport

from .answer import alarms, bundle_headline
from .document import ANSWERS_SHOWN, QUICK
from .facts import bundle_line, rates_line, reproducing_command, summary_line, versions_line
from .format import TEXT_LIMIT, clipped, has_trained_weights, printable
from .marks import MARKDOWN_MARK
from .remarks import Remark, remarks

# the first look; the others are folded
OPEN_GRIDS = ("latency", "checks", "start", "paced", "floor")
_SPECIAL = re.compile(r"([\\`*\[\]|~#$])")
# an underscore inside a word is one, at its edge it would be emphasis
_UNDERSCORE = re.compile(r"(?<!\w)_|_(?!\w)")


def to_markdown(report: Report) -> str:
    """The report without its samples, in GitHub's Markdown: the same text for the same report."""
    lines = [MARKDOWN_MARK, "", *_head(report)]
    for bundle in report.bundles:
        lines += _bundle(bundle)
    if report.standin:
        lines += _standin(report.standin)
    if report.forecasts:
        lines += ["## Other devices: PREDICTION", ""]
        for grid in forecast_grids(report.forecasts):
            lines += table_lines(grid)
    return "\n".join(lines).rstrip("\n") + "\n"


def escape(text: str) -> str:
    """Text of a report as text: no markup, no cell or line of its own."""
    shown = printable(text).replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
    return _UNDERSCORE.sub(r"\\_", _SPECIAL.sub(r"\\\1", shown))


def _head(report: Report) -> Iterator[str]:
    """The answers, what must not be overlooked beside them, and where they come from."""
    for bundle in report.bundles[:ANSWERS_SHOWN]:
        yield f"- {escape(clipped(bundle.name))}: **{escape(bundle_headline(bundle))}**"
    for item in alarms(report):
        yield f"- **{escape(item.kind.upper())}**: {escape(item.backend)}: {escape(item.text)}"
    yield ""
    yield from (escape(versions_line(report)), "")
    if report.options.quick:
        yield from (escape(QUICK), "")
    if report.summarised:
        yield from (escape(summary_line(report.summarised)), "")
    if report.rates:
        yield from (escape(rates_line(report.rates)), "")
    command = reproducing_command(report).replace("`", "'")
    yield from (f"`{command}`", "")


def _bundle(bundle: BundleReport) -> Iterator[str]:
    yield from (f"## {escape(clipped(bundle.name))}", "")
    generated = "" if has_trained_weights(bundle.weights_origin) else "**Generated weights.** "
    yield from (f"{generated}{escape(bundle_line(bundle))}", "")
    grids = bundle_grids(bundle)
    for grid in grids:
        if grid.key in OPEN_GRIDS:
            yield from table_lines(grid)
    yield from _remarks(remarks(bundle.rows))
    folded = [grid for grid in grids if grid.key not in OPEN_GRIDS]
    if folded:
        yield from ("<details><summary>More</summary>", "")
        for grid in folded:
            yield from table_lines(grid)
        yield from ("</details>", "")


def _standin(standin: StandinReport) -> Iterator[str]:
    yield from ("## The stand-in", "")
    yield (
        f"A random network of {standin.parameters:,} parameters that was once timed under the names of the "
        "policies. **It is none of them.**"
    )
    yield ""
    yield from table_lines(standin_grid(standin))
    if standin.claims:
        yield from table_lines(claims_grid(standin))
    yield from _remarks(remarks(item.row for item in standin.rows))
    for text in standin.explanation:
        yield from (escape(clipped(text, TEXT_LIMIT)), "")


def table_lines(grid: Grid) -> Iterator[str]:
    """A table padded to be read as it stands; figures are set right."""
    head = [escape(name) for name in grid.headings]
    body = [[escape(cell) for cell in line.cells] for line in grid.lines]
    widths = [max(map(len, column)) for column in zip(head, *body, strict=True)]
    words = len(grid.words)

    def line(cells: Iterable[str]) -> str:
        padded = [
            cell.ljust(width) if at < words else cell.rjust(width)
            for at, (cell, width) in enumerate(zip(cells, widths, strict=True))
        ]
        return f"| {' | '.join(padded)} |"

    rule = "|".join(
        "-" * (width + 2) if at < words else "-" * (width + 1) + ":" for at, width in enumerate(widths)
    )
    yield from (escape(grid.caption), "", line(head), f"|{rule}|", *map(line, body), "")
    if grid.footnotes:
        yield from (*(f"{at}. {escape(text)}" for at, text in enumerate(grid.footnotes, 1)), "")


def _remarks(items: Iterable[Remark]) -> Iterator[str]:
    shown = [
        f"- {'**' if item.grave else ''}{escape(item.backend)} {escape(item.kind)}{'**' if item.grave else ''}: "
        f"{escape(item.text)}"
        for item in items
    ]
    if shown:
        yield from (*shown, "")
