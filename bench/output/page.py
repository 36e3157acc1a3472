"""The report as one HTML page: no script, no network, plots inside, readable on a phone, light and dark."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from vla_edge.runtime.atomic import write_atomically

from ..report import BundleReport, Report, Row
from ..rows import may_be_wrong
from .facts import UNFINISHED, bundle_line, device_name, machine_facts, rates_line, reproducing_command
from .format import (
    backend_label,
    fixed,
    has_trained_weights,
    metres_per_second,
    printable,
    significant,
    times,
    weights_word,
)
from .plots import bundle_plots
from .sections import (
    Grid,
    Remark,
    bundle_grids,
    claims_grid,
    forecast_grid,
    row_remarks,
    standin_grid,
    summary_grid,
)
from .standin_plots import standin_plots
from .svg import Drawing, render

if TYPE_CHECKING:
    from jinja2 import Environment

TEMPLATES = Path(__file__).parent / "templates"
TEMPLATE = "report.html.j2"
BASELINE = "torch-fp32"
MAX_TILES = 5


@dataclass(frozen=True)
class Tile:
    """One figure at the top of a bundle."""

    value: str
    unit: str
    label: str


@dataclass(frozen=True)
class Badge:
    """Where weights come from, said at every table and plot."""

    word: str
    text: str
    real: bool


@dataclass(frozen=True)
class BundleView:
    name: str
    line: str
    headline: str
    badge: Badge
    origin: str
    tiles: tuple[Tile, ...]
    summary: Grid
    # of each of the summary's lines
    remarks: tuple[tuple[Remark, ...], ...]
    drawings: tuple[Drawing, ...]
    grids: tuple[Grid, ...]

    @property
    def columns(self) -> int:
        """Tiles in a line, so that two lines are about equally long."""
        count = len(self.tiles)
        return count if count <= MAX_TILES else (count + 1) // 2


@dataclass(frozen=True)
class StandinView:
    parameters: str
    badge: Badge
    grid: Grid
    remarks: tuple[tuple[Remark, ...], ...]
    claims: Grid
    drawings: tuple[Drawing, ...]
    explanation: tuple[str, ...]


def write_page(report: Report, path: Path) -> None:
    """Write the page as a whole or not at all.

    Raises:
        OSError: the file cannot be written.
    """
    page = to_page(report).encode()
    write_atomically(path, lambda file: file.write(page))


def to_page(report: Report) -> str:
    """The page as HTML: the same text for the same report."""
    bundles = tuple(_bundle_view(bundle, f"b{at}") for at, bundle in enumerate(report.bundles))
    standin = _standin_view(report)
    return (
        _environment()
        .get_template(TEMPLATE)
        .render(
            device=device_name(report),
            created=report.created_utc.replace("T", " ")[:16],
            tool=report.tool,
            headline=headline(report),
            bundles=bundles,
            standin=standin,
            forecasts=tuple(forecast_grid(forecast) for forecast in report.forecasts),
            rates=rates_line(report.rates) if report.rates else "",
            alarms=alarms(report),
            facts=machine_facts(report.machine, report.options),
            versions=sorted(report.machine.versions.items()),
            command=reproducing_command(report),
            generated=any(not has_trained_weights(bundle.weights_origin) for bundle in report.bundles),
        )
    )


def _environment() -> Environment:
    from jinja2 import Environment, FileSystemLoader, StrictUndefined

    return Environment(
        loader=FileSystemLoader(TEMPLATES),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        finalize=_finalize,
    )


def _finalize(value: Any) -> Any:
    """No control or direction character of a name reaches the page; drawings are markup already."""
    return printable(value) if type(value) is str else value


def headline(report: Report) -> str:
    """The result in one sentence: of the only bundle, or of all in short."""
    if not report.bundles:
        return "No bundle was measured"
    if len(report.bundles) == 1:
        return bundle_headline(report.bundles[0])
    best = [(bundle, fastest(bundle.rows)) for bundle in report.bundles]
    right = [row for _, row in best if row is not None and row.step is not None]
    if len(right) < len(best):
        return f"{len(right)} of {len(best)} bundles have a right engine on {device_name(report)}"
    answers = _listed([significant(row.step.p50_ms) for row in right if row.step])
    names = _listed(list(dict.fromkeys(backend_label(row) for row in right)))
    doubt = ", with reasons to doubt it" if any(row.doubts for row in right) else ""
    return f"{names}: {answers} ms a step for {len(best)} bundles{doubt}"


def alarms(report: Report) -> tuple[Remark, ...]:
    """What must not be overlooked below a good headline: a report that is not complete, engines that are wrong or
    failed, bundles refused.

    PyTorch in half precision may be wrong: that is a finding about `.half()`, and stands at its row.
    """
    early = [] if report.complete else [Remark("this report", "unfinished", UNFINISHED)]
    found = [
        Remark(f"{backend_label(row)} of {bundle.name}", row.status, row.reason)
        for bundle in report.bundles
        for row in bundle.rows
        if row.status == "failed" or (row.status == "wrong" and not may_be_wrong(row))
    ]
    return (*early, *found, *(Remark(refused.path, "refused", refused.reason) for refused in report.refused))


def _listed(words: Sequence[str]) -> str:
    return " and ".join(filter(None, (", ".join(words[:-1]), words[-1])))


def fastest(rows: Sequence[Row]) -> Row | None:
    """The fastest row whose actions were compared and are right; its speed is the only one worth a headline."""
    right = [row for row in rows if row.status == "ok" and row.step is not None and row.parity is not None]
    return min(right, key=lambda row: row.step.p50_ms if row.step else float("inf"), default=None)


def bundle_headline(bundle: BundleReport) -> str:
    """What the fastest right row gains; the doubts of it are part of the sentence."""
    row = fastest(bundle.rows)
    if row is None or row.step is None:
        wrong = [backend_label(other) for other in bundle.rows if other.status == "wrong"]
        return f"No backend is right: {_listed(wrong)} wrong" if wrong else "No backend gave a result"
    sentence = f"{backend_label(row)} answers in {significant(row.step.p50_ms)} ms"
    clauses = []
    if row.speedup_over_torch_fp32 and row.backend != BASELINE:
        clauses.append(f"{times(row.speedup_over_torch_fp32)} × PyTorch FP32")
    if row.parity and row.parity.max_abs_mps is not None and row.backend != BASELINE:
        clauses.append(f"within {metres_per_second(row.parity.max_abs_mps)}")
    if row.doubts:
        clauses.append("with reasons to doubt it")
    return f"{sentence}: {', '.join(clauses)}" if clauses else sentence


def badge_of(origin: str) -> Badge:
    """Weights that were not trained are named so wherever a figure of theirs stands."""
    if has_trained_weights(origin):
        return Badge(weights_word(origin), "trained weights", True)
    return Badge(weights_word(origin), "generated weights", False)


def _bundle_view(bundle: BundleReport, prefix: str) -> BundleView:
    return BundleView(
        name=bundle.name,
        line=bundle_line(bundle),
        headline=bundle_headline(bundle),
        badge=badge_of(bundle.weights_origin),
        origin=bundle.weights_origin,
        tiles=_tiles(bundle.rows),
        summary=summary_grid(bundle.rows),
        remarks=tuple(tuple(row_remarks(row)) for row in bundle.rows),
        drawings=tuple(render(plot, prefix) for plot in bundle_plots(bundle)),
        grids=bundle_grids(bundle),
    )


def _tiles(rows: Sequence[Row]) -> tuple[Tile, ...]:
    """The figures of the fastest right row."""
    row = fastest(rows)
    if row is None or row.step is None:
        return ()
    tiles = [
        Tile(significant(row.step.p50_ms), "ms", "p50 of a step"),
        Tile(significant(row.step.p99_ms), "ms", "p99 of a step"),
    ]
    if row.speedup_over_torch_fp32 and row.backend != BASELINE:
        tiles.append(Tile(times(row.speedup_over_torch_fp32), "×", "PyTorch FP32"))
    if row.parity and row.parity.max_abs_mps is not None:
        value, unit = metres_per_second(row.parity.max_abs_mps).split(" ")
        tiles.append(Tile(value, unit, "largest action error"))
    if row.memory and row.memory.device_peak_mib is not None:
        tiles.append(Tile(fixed(row.memory.device_peak_mib, 0), "MiB", "device memory, peak"))
    elif row.memory and row.memory.host_anonymous_peak_mib is not None:
        tiles.append(Tile(fixed(row.memory.host_anonymous_peak_mib, 0), "MiB", "host memory, peak"))
    if row.energy:
        tiles.append(Tile(significant(row.energy.joules_per_step), "J", "energy of a step"))
    if row.floor:
        tiles.append(Tile(times(row.floor.times_floor), "×", "this device's floor"))
    if row.paced:
        tiles.append(Tile(f"{row.paced.misses:,}", f"of {row.paced.ticks:,}", "deadlines missed"))
    return tuple(tiles)


def _standin_view(report: Report) -> StandinView | None:
    standin = report.standin
    if standin is None:
        return None
    return StandinView(
        parameters=f"{standin.parameters:,}",
        badge=badge_of("random"),
        grid=standin_grid(standin),
        remarks=tuple(tuple(row_remarks(item.row)) for item in standin.rows),
        claims=claims_grid(standin),
        drawings=tuple(render(plot, "standin") for plot in standin_plots(standin)),
        explanation=standin.explanation,
    )
