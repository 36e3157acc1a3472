"""A folder of bundles in one table: on a terminal of 80 columns too."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from rich.table import Table

from vla_edge.export.build import view as build_view
from vla_edge.export.bundle.gates import judgements
from vla_edge.export.screen import gates as gate_view
from vla_edge.export.screen.screen import escape, one_line, plain_table, result_console, say, size
from vla_edge.runtime.bundle.manifest import ACTION_STAGE
from vla_edge.runtime.engines.registry import ENGINES

from .bundle import BundleReport
from .bundle_view import print_problems
from .plans.lines import PlanLine

_WIDE = 160  # in a pipe: a line a bundle
_UNBOUNDED = 10_000


def print_list(folder: Path, reports: Sequence[BundleReport], links: Mapping[str, str]) -> None:
    """A line for each bundle of a folder, or a few where they are too wide; then what is wrong with any.

    Args:
        folder: as the user wrote it.
        reports: of its bundles.
        links: "current" and "previous" of a robot's folder, each with the name of the folder that it leads to.
    """
    console = result_console(_WIDE)
    count = f"{len(reports)} bundle{'s' if len(reports) > 1 else ''}"
    say(console, f"[bold]{escape(str(folder))}[/]: {count}")
    table = _table(reports, links)
    if console.measure(table, options=console.options.update(width=_UNBOUNDED)).maximum > console.width:
        table = _narrow_table(reports, links)
    console.print(table)
    for report in reports:
        print_problems(console, report)


def _table(reports: Sequence[BundleReport], links: Mapping[str, str]) -> Table:
    marked = ("",) if links else ()
    titles = ("bundle", *marked, "policy", "action error", "size", "runs here", "plans")
    table = plain_table(titles, right=("action error", "size"))
    for report in reports:
        mark = (_mark(report, links),) if links else ()
        cells = (
            _name(report),
            *mark,
            _policy(report),
            _error(report),
            _size(report),
            _runs(report),
            _plans(report),
        )
        table.add_row(*cells, style="red" if report.all_problems else "")
    return table


def _narrow_table(reports: Sequence[BundleReport], links: Mapping[str, str]) -> Table:
    """The answers in columns; the rest in lines below each name."""
    titles = ("bundle", "action error", "runs here")
    table = plain_table(titles, right=titles[1:2])
    for column in table.columns[1:]:
        column.no_wrap = True  # so that names are what is folded
    for report in reports:
        runs = _runs(report).replace(": ", ":\n")
        cell = "\n  ".join([f"[bold]{_name(report)}[/]", *_below(report, links)])
        table.add_row(cell, _error(report), runs, style="red" if report.all_problems else "")
    return table


def _below(report: BundleReport, links: Mapping[str, str]) -> list[str]:
    """Such as "current, pure fp16, 3.05 GiB", and a line for each plan, or that there is none."""
    none = "no plan" if report.bundle and not report.plans else ""
    first = ", ".join(text for text in (_mark(report, links), _policy(report), _size(report), none) if text)
    return [first, *(f"plan {_plan(line)}" for line in report.plans)] if first else []


def _name(report: BundleReport) -> str:
    return one_line(report.folder.name or str(report.folder))


def _mark(report: BundleReport, links: Mapping[str, str]) -> str:
    names = [link for link, name in links.items() if name == report.folder.name]
    return f"[bold green]{', '.join(names)}[/]" if names else ""


def _policy(report: BundleReport) -> str:
    manifest = report.bundle.manifest if report.bundle else None
    return one_line(f"{manifest.source.layout} {manifest.precision.achieved}") if manifest else ""


def _error(report: BundleReport) -> str:
    """Such as "0.0053 of 0.02 m/s": the export's, and what is allowed."""
    if report.bundle is None:
        return ""
    found = judgements(report.bundle.manifest)
    judged = next((each for each in found if each.gate.stage == ACTION_STAGE), None)
    if judged is None:
        return "no gate"
    return f"{gate_view.error(judged).removesuffix(one_line(judged.suffix))} of {gate_view.limit(judged)}"


def _size(report: BundleReport) -> str:
    return size(sum(line.size_bytes for line in report.files)) if report.bundle else ""


def _runs(report: BundleReport) -> str:
    """The engine that takes it, or that does when it is named."""
    if report.here is None:
        return "damaged"
    if report.here.default:
        return ENGINES[report.here.default].label
    return f"if asked: {ENGINES[report.here.asked].label}" if report.here.asked else "no"


def _plans(report: BundleReport) -> str:
    return "; ".join(map(_plan, report.plans)) or ("none" if report.bundle else "")


def _plan(line: PlanLine) -> str:
    """The GPU of a plan, and what is to be known before it is relied on."""
    if line.record is None:
        return "not usable"
    if line.rejected:
        state = " rejected"
    elif line.problem:
        state = ", not usable"
    else:
        state = ", not checked" if line.record.verification.passed is None else ""
    parts = f" in {len(line.parts)} parts" if len(line.parts) > 1 else ""
    return f"SM {build_view.dotted(line.record.machine.sm)}{parts}{state}"
