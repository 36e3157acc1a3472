"""The report as one HTML page: no script, no network, plots inside, readable on a phone, light and dark."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from vla_edge.bench.output.plots.drawable import rows_not_drawn, standin_not_drawn
from vla_edge.bench.output.plots.plots import bundle_plots
from vla_edge.bench.output.plots.standin_plots import standin_plots
from vla_edge.bench.output.plots.svg import Drawing, render
from vla_edge.bench.output.tables.grid import Grid
from vla_edge.bench.output.tables.other_grids import claims_grid, forecast_grids, standin_grid
from vla_edge.bench.output.tables.sections import bundle_grids, summary_grid
from vla_edge.bench.report.types import BASELINE, BundleReport, Report, Row

from .answer import alarms, baseline_in_doubt, bundle_headline, fastest, gain_in_words, headline, listed
from .document import QUICK
from .facts import (
    PHASES,
    bundle_line,
    device_name,
    machine_facts,
    rates_line,
    reproducing_command,
    summary_line,
)
from .format import (
    TEXT_LIMIT,
    backend_label,
    clipped,
    fixed,
    has_trained_weights,
    known,
    metres_per_second,
    other_weights,
    printable,
    significant,
    times,
    weights_name,
)
from .marks import GENERATOR
from .remarks import Remark, row_remarks

if TYPE_CHECKING:
    from jinja2 import Environment

TEMPLATES = Path(__file__).parent / "templates"
TEMPLATE = "report.html.j2"
MAX_TILES = 5
# a drawing takes a tenth of a second, and nobody scrolls past so many
DRAWN_BUNDLES = 12
BUNDLE_NOT_DRAWN = (
    f"Not drawn: a page has the drawings of its first {DRAWN_BUNDLES} bundles. All figures are in the tables."
)
PHASES_NOT_DRAWN = f"{PHASES.capitalize()} is not in this summary; the peaks are."
SAMPLES = "Every sample was kept, none removed; all of them are in the JSON report beside this page."


@dataclass(frozen=True)
class Tile:
    """One figure at the top of a bundle."""

    value: str
    unit: str
    label: str


@dataclass(frozen=True)
class Badge:
    """Where weights come from: said once at the top, and again only where it is not so."""

    text: str
    real: bool


@dataclass(frozen=True)
class BundleView:
    name: str
    line: str
    headline: str
    # None where the page's own says it
    badge: Badge | None
    # whose weights are of another kind than the bundle's; "" for none
    others: str
    tiles: tuple[Tile, ...]
    summary: Grid
    # of each of the summary's lines
    remarks: tuple[tuple[Remark, ...], ...]
    drawings: tuple[Drawing, ...]
    # what of the bundle has no drawing, and why; "" where all has
    not_drawn: str
    grids: tuple[Grid, ...]

    @property
    def columns(self) -> int:
        """Tiles in a line, so that two lines are about equally long."""
        count = len(self.tiles)
        return count if count <= MAX_TILES else (count + 1) // 2


@dataclass(frozen=True)
class StandinView:
    parameters: str
    badge: Badge | None
    grid: Grid
    remarks: tuple[tuple[Remark, ...], ...]
    claims: Grid
    drawings: tuple[Drawing, ...]
    not_drawn: str
    explanation: tuple[str, ...]


def to_page(report: Report) -> str:
    """The page as HTML: the same text for the same report."""
    badges = {badge_of(bundle.weights_origin) for bundle in report.bundles}
    badge = badges.pop() if len(badges) == 1 else None
    bundles = tuple(
        _bundle_view(bundle, f"b{at}", badge, drawn=at < DRAWN_BUNDLES, summarised=bool(report.summarised))
        for at, bundle in enumerate(report.bundles)
    )
    return (
        _environment()
        .get_template(TEMPLATE)
        .render(
            device=device_name(report),
            created=report.created_utc.replace("T", " ")[:16],
            badge=badge,
            tool=report.tool,
            generator=GENERATOR,
            headline=_unbroken(headline(report)),
            bundles=bundles,
            standin=_standin_view(report, badge),
            forecasts=forecast_grids(report.forecasts),
            quick=QUICK if report.options.quick else "",
            rates=rates_line(report.rates) if report.rates else "",
            alarms=alarms(report),
            facts=machine_facts(report.machine, report.options),
            versions=sorted(report.machine.versions.items()),
            command=reproducing_command(report),
            samples=summary_line(report.summarised) if report.summarised else SAMPLES,
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
    """No control or direction character of a name reaches the page, and no endless one; drawings are markup already."""
    return printable(clipped(value, TEXT_LIMIT)) if type(value) is str else value


def _unbroken(sentence: str) -> str:
    """The same with each figure and its unit on one line."""
    return re.sub(r"(?<=\d) (?=(?:ms|m/s)\b)", "\N{NO-BREAK SPACE}", sentence)


def badge_of(origin: str) -> Badge:
    """What a person must know of weights before reading any figure of theirs."""
    return Badge(weights_name(origin), has_trained_weights(origin))


def _bundle_view(
    bundle: BundleReport, prefix: str, of_page: Badge | None, *, drawn: bool, summarised: bool
) -> BundleView:
    badge, origin = badge_of(bundle.weights_origin), bundle.weights_origin
    not_drawn = [rows_not_drawn(bundle.rows), PHASES_NOT_DRAWN * summarised] if drawn else [BUNDLE_NOT_DRAWN]
    return BundleView(
        name=clipped(bundle.name),
        line=bundle_line(bundle),
        headline=_unbroken(bundle_headline(bundle)),
        badge=None if badge == of_page else badge,
        others=_other_weights(bundle),
        tiles=_tiles(bundle.rows),
        summary=summary_grid(bundle.rows).without_weights(origin),
        remarks=tuple(tuple(row_remarks(row)) for row in bundle.rows),
        drawings=tuple(render(plot, prefix) for plot in bundle_plots(bundle)) if drawn else (),
        not_drawn=" ".join(filter(None, not_drawn)),
        grids=tuple(grid.without_weights(origin) for grid in bundle_grids(bundle)),
    )


def _other_weights(bundle: BundleReport) -> str:
    """Which backends had other weights than the bundle, such as random ones where no checkpoint was found."""
    names: dict[str, list[str]] = {}
    for row in bundle.rows:
        if other := other_weights(row.weights_origin, bundle.weights_origin):
            names.setdefault(other, []).append(backend_label(row))
    return "; ".join(f"{other}: {listed(list(dict.fromkeys(labels)))}" for other, labels in names.items())


def _tiles(rows: Sequence[Row]) -> tuple[Tile, ...]:
    """The figures of the fastest right row."""
    row = fastest(rows)
    if row is None or row.step is None:
        return ()
    tiles = [
        Tile(significant(row.step.p50_ms), "ms", "p50 of a step"),
        Tile(significant(row.step.p99_ms), "ms", "p99 of a step"),
    ]
    ratio = row.speedup_over_torch_fp32
    if known(ratio) and ratio > 0 and row.backend != BASELINE:
        value, words = gain_in_words(ratio)
        tiles.append(Tile(value, "×", f"{words}{', which is in doubt' * baseline_in_doubt(rows)}"))
    if row.parity and known(row.parity.max_abs_mps):
        value, unit = metres_per_second(row.parity.max_abs_mps).split(" ")
        tiles.append(Tile(value, unit, "largest action error"))
    if row.memory and row.memory.device_peak_mib is not None:
        tiles.append(Tile(fixed(row.memory.device_peak_mib, 0), "MiB", "device memory, peak"))
    elif row.memory and row.memory.host_anonymous_peak_mib is not None:
        tiles.append(Tile(fixed(row.memory.host_anonymous_peak_mib, 0), "MiB", "host anonymous, peak"))
    if row.energy:
        tiles.append(Tile(significant(row.energy.joules_per_step), "J", "energy of a step"))
    if row.floor:
        tiles.append(Tile(times(row.floor.times_floor), "×", "this device's floor"))
    if row.paced:
        tiles.append(Tile(f"{row.paced.misses:,}", f"of {row.paced.ticks:,}", "deadlines missed"))
    return tuple(tiles)


def _standin_view(report: Report, of_page: Badge | None) -> StandinView | None:
    standin, badge = report.standin, badge_of("random")
    if standin is None:
        return None
    return StandinView(
        parameters=f"{standin.parameters:,}",
        badge=None if badge == of_page else badge,
        grid=standin_grid(standin),
        remarks=tuple(tuple(row_remarks(item.row)) for item in standin.rows),
        claims=claims_grid(standin),
        drawings=tuple(render(plot, "standin") for plot in standin_plots(standin)),
        not_drawn=standin_not_drawn(standin),
        explanation=standin.explanation,
    )
