"""What a person is told of a report, in order: the answer, the tables, then what stands behind them."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Iterator
from dataclasses import dataclass, replace

from vla_edge.bench.output.tables.grid import Grid, Line
from vla_edge.bench.output.tables.other_grids import claims_grid, forecast_grids, standin_grid
from vla_edge.bench.output.tables.sections import bundle_grids, summary_grid
from vla_edge.bench.report.types import BundleReport, Report, StandinReport

from .answer import alarms, baseline_in_doubt, bundle_headline, fastest
from .facts import bundle_line, device_name, rates_line, reproducing_command, summary_line, versions_line
from .format import TEXT_LIMIT, clipped, has_trained_weights, printable
from .remarks import Remark, grouped, real_doubts, remarks

ANSWERS_SHOWN = 20
GENERATED = "Generated weights: times and memory are those of trained ones, errors are not."
SUMMARY = (
    "One policy step: p50 usual, p99 slow; x FP32: speed over PyTorch FP32's; error: against its actions; "
    "host: anonymous memory"
)
MORE = "More: all of it with --full, through a pipe, and in the files of --out"
QUICK = (
    "A short run (--quick): two seconds a backend, without compilers, profiles, the paced loop and this device's "
    "rates."
)


@dataclass(frozen=True)
class Words:
    """A paragraph; `style` is one of "answer", "doubted", "alarm", "title", "more", "caption", "quiet" or ""."""

    text: str
    style: str = ""
    indent: int = 0

    def __post_init__(self) -> None:
        object.__setattr__(self, "text", printable(self.text))


Block = Words | Grid
BLANK = Words("")


def document(report: Report, *, everything: bool) -> Iterator[Block]:
    """Yield the whole report.

    Args:
        everything: all tables and notes, as for a file; else the summary of each bundle, what speaks against its
            figures, and a line on what else there is.
    """
    yield from answers(report)
    told = grouped(alarms(report))
    for item in told:
        yield Words(f"{item.kind.upper()}: {item.backend}: {item.text}", "alarm")
    for bundle in report.bundles:
        yield from _summary(bundle, {(item.kind, item.text) for item in told})
    if report.standin and not everything:
        yield from _standin(report.standin, everything=False)
    yield from _everything(report) if everything else _what_else(report)
    yield from _behind(report)


def _everything(report: Report) -> Iterator[Block]:
    for bundle in report.bundles:
        yield from _details(bundle)
    if report.standin:
        yield from _standin(report.standin, everything=True)
    if report.forecasts:
        yield from (BLANK, Words("Other devices: PREDICTION", "title"))
    for grid in forecast_grids(report.forecasts):
        yield from table(grid)


def _what_else(report: Report) -> Iterator[Words]:
    """What is not on this screen, in a line for each kind, and where it is."""
    grids = (grid for bundle in report.bundles for grid in bundle_grids(bundle))
    captions = dict.fromkeys(re.split(r"[,;(]", grid.caption)[0].strip() for grid in grids)
    notes = [item for bundle in report.bundles for item in remarks(bundle.rows) if not item.grave]
    kinds = [*captions]
    kinds += [f"Notes on how the rows were measured ({len(notes)})"] if notes else []
    kinds += ["The stand-in's memory and what explains it"] if report.standin else []
    count = len(report.forecasts)
    kinds += [f"Other devices: PREDICTION ({count} bundle{'s' * (count > 1)})"] if count else []
    if kinds:
        yield from (BLANK, Words(MORE, "title"))
        yield from (Words(f"- {kind}", "quiet") for kind in kinds)


def answers(report: Report) -> Iterator[Words]:
    """The result of each bundle, and what it is worth."""
    where = device_name(report)
    for bundle in report.bundles[:ANSWERS_SHOWN]:
        row = fastest(bundle.rows)
        doubted = row and (real_doubts(row) or baseline_in_doubt(bundle.rows))
        yield Words(bundle_headline(bundle), "alarm" if row is None else "doubted" if doubted else "answer")
        yield Words(f"{clipped(bundle.name)} on {where}", "quiet", 2)
    if len(report.bundles) > ANSWERS_SHOWN:
        yield Words(f"and {len(report.bundles) - ANSWERS_SHOWN} bundles more, below", "quiet")
    if not report.bundles and report.standin:
        yield Words(f"Only the stand-in was timed, on {where}: it is none of the policies", "answer")
    elif not report.bundles:
        yield Words(f"No bundle was measured on {where}", "alarm")
    if any(not has_trained_weights(bundle.weights_origin) for bundle in report.bundles):
        yield Words(GENERATED, "quiet")


def _summary(bundle: BundleReport, told: Collection[tuple[str, str]]) -> Iterator[Block]:
    """The main figures of a bundle, and what speaks against them where it was not told above."""
    yield from (BLANK, Words(clipped(bundle.name), "title"), Words(bundle_line(bundle), "quiet"))
    grid = summary_grid(bundle.rows).without_weights(bundle.weights_origin)
    best = fastest(bundle.rows)
    lines = tuple(
        Line(line.cells, "best") if row is best else line
        for row, line in zip(bundle.rows, grid.lines, strict=True)
    )
    yield from table(replace(grid, lines=lines, caption=SUMMARY))
    yield from _remarks(
        item for item in remarks(bundle.rows) if item.grave and (item.kind, item.text) not in told
    )


def _details(bundle: BundleReport) -> Iterator[Block]:
    grids = bundle_grids(bundle)
    notes = [item for item in remarks(bundle.rows) if not item.grave]
    if grids or notes:
        yield from (BLANK, Words(f"{clipped(bundle.name)}: more figures", "more"))
    for grid in grids:
        yield from table(grid.without_weights(bundle.weights_origin))
    yield from _remarks(notes)


def _standin(standin: StandinReport, *, everything: bool) -> Iterator[Block]:
    """What was timed, and what speaks against it; what was published and what explains it, if asked for."""
    yield BLANK
    yield Words(f"The stand-in, {standin.parameters:,} random parameters: none of the policies", "title")
    for grid in (standin_grid(standin), *([claims_grid(standin)] if everything else [])):
        if grid.lines:
            yield from table(grid)
    found = tuple(remarks(item.row for item in standin.rows))
    yield from _remarks(item for item in found if item.grave)
    if everything:
        yield from _remarks(item for item in found if not item.grave)
        yield from (Words(f"- {clipped(text, TEXT_LIMIT)}", "quiet") for text in standin.explanation)


def table(grid: Grid) -> Iterator[Block]:
    yield from (BLANK, Words(grid.caption, "caption"), grid)
    yield from (Words(f"[{at}] {text}", "quiet") for at, text in enumerate(grid.footnotes, 1))


def _remarks(items: Iterable[Remark]) -> Iterator[Words]:
    shown = grouped(items)
    if shown:
        yield BLANK
    for item in shown:
        style = "quiet" if not item.grave else "alarm" if item.kind in ("wrong", "failed") else ""
        yield Words(f"- {item.backend}: {item.kind}: {item.text}", style)


def _behind(report: Report) -> Iterator[Words]:
    yield from (BLANK, Words("How this was measured", "title"))
    told = [
        QUICK if report.options.quick else "",
        summary_line(report.summarised) if report.summarised else "",
        rates_line(report.rates) if report.rates else "",
        versions_line(report),
        f"again: {reproducing_command(report)}",
    ]
    yield from (Words(text, "quiet") for text in told if text)
