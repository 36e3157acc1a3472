"""The report as one HTML page: no script, no network, plots inside, readable on a phone, light and dark."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from vla_edge.bench.output.plots.drawable import not_drawn, standin_not_drawn
from vla_edge.bench.output.plots.plots import bundle_plots
from vla_edge.bench.output.plots.standin_plots import standin_plots
from vla_edge.bench.output.tables.other_grids import claims_grid, forecast_grids, standin_grid
from vla_edge.bench.output.tables.sections import bundle_grids, summary_grid
from vla_edge.bench.report.types import BASELINE, BundleReport, Report, Row, StandinReport
from vla_edge.export.page.templates import environment

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
    formatted,
    has_trained_weights,
    known,
    plain_error,
    printable,
    significant,
    times,
    unit_word,
    weights_word,
)
from .marks import GENERATOR
from .remarks import row_remarks

TEMPLATES = Path(__file__).parent / "templates"
TEMPLATE = "report.html.j2"
MAX_TILES = 5
# nobody scrolls past so many
DRAWN_BUNDLES = 12
BUNDLE_NOT_DRAWN = (
    f"Not drawn: a page has the drawings of its first {DRAWN_BUNDLES} bundles. All figures are in the tables."
)
PHASES_NOT_DRAWN = f"{PHASES.capitalize()} is not in this summary; the peaks are."
SAMPLES = "Every sample was kept, none removed; all of them are in the JSON report beside this page."


class Badge(NamedTuple):
    """Where weights come from: said once at the top, and again only where it is not so."""

    text: str
    real: bool


def to_page(report: Report) -> str:
    """The page as HTML: the same text for the same report."""
    badges = {badge_of(bundle.weights_origin) for bundle in report.bundles}
    badge = badges.pop() if len(badges) == 1 else None
    values = {
        "device": device_name(report),
        "created": report.created_utc.replace("T", " ")[:16],
        "badge": badge,
        "tool": report.tool,
        "generator": GENERATOR,
        "headline": _unbroken(headline(report), report.bundles),
        "bundles": [_bundle_view(report, at, badge) for at in range(len(report.bundles))],
        "standin": report.standin and _standin_view(report.standin, badge),
        "forecasts": forecast_grids(report.forecasts),
        "quick": QUICK if report.options.quick else "",
        "rates": rates_line(report.rates) if report.rates else "",
        "alarms": alarms(report),
        "facts": machine_facts(report.machine, report.options),
        "versions": sorted(report.machine.versions.items()),
        "command": reproducing_command(report),
        "samples": summary_line(report.summarised) if report.summarised else SAMPLES,
    }
    return environment(TEMPLATES, _finalize).get_template(TEMPLATE).render(values)


def _finalize(value: Any) -> Any:
    """No control or direction character of a name reaches the page, and no endless one; drawings are markup already."""
    return printable(clipped(value, TEXT_LIMIT)) if type(value) is str else value


def _unbroken(sentence: str, bundles: Iterable[BundleReport]) -> str:
    """The same with each figure and its unit on one line."""
    units = {unit_word(row.parity.unit) for bundle in bundles for row in bundle.rows if row.parity}
    listed_units = "|".join(map(re.escape, ("ms", *sorted(units))))
    return re.sub(rf"(?<=\d) (?=(?:{listed_units})(?!\w))", "\N{NO-BREAK SPACE}", sentence)


def badge_of(origin: str) -> Badge:
    """What a person must know of weights before reading any figure of theirs."""
    real = has_trained_weights(origin)
    return Badge("trained weights" if real else "generated weights", real)


def _bundle_view(report: Report, at: int, of_page: Badge | None) -> dict[str, object]:
    """What the page shows of a bundle, number `at` of the report."""
    bundle = report.bundles[at]
    rows, origin = bundle.rows, bundle.weights_origin
    badge, tiles, drawn = badge_of(origin), _tiles(rows), at < DRAWN_BUNDLES
    missing = [not_drawn(rows, "backends"), PHASES_NOT_DRAWN * bool(report.summarised)]
    return {
        "name": clipped(bundle.name),
        "line": bundle_line(bundle),
        "headline": _unbroken(bundle_headline(bundle), (bundle,)),
        # None where the page's own says it
        "badge": None if badge == of_page else badge,
        "others": _other_weights(bundle),
        "tiles": tiles,
        # in a line, so that two lines are about equally long
        "columns": len(tiles) if len(tiles) <= MAX_TILES else (len(tiles) + 1) // 2,
        "summary": summary_grid(rows).without_weights(origin),
        # of each of the summary's lines
        "remarks": [tuple(row_remarks(row)) for row in rows],
        "plots": bundle_plots(bundle) if drawn else (),
        # what of the bundle has no drawing, and why
        "not_drawn": " ".join(filter(None, missing)) if drawn else BUNDLE_NOT_DRAWN,
        "grids": [grid.without_weights(origin) for grid in bundle_grids(bundle)],
    }


def _other_weights(bundle: BundleReport) -> str:
    """Which backends had other weights than the bundle, such as random ones where no checkpoint was found."""
    names: dict[str, list[str]] = {}
    for row in bundle.rows:
        word = weights_word(row.weights_origin)
        if word != weights_word(bundle.weights_origin):
            kind = f"{'trained' if has_trained_weights(row.weights_origin) else word} weights"
            names.setdefault(kind, []).append(backend_label(row))
    return "; ".join(f"{kind}: {listed(list(dict.fromkeys(labels)))}" for kind, labels in names.items())


def _tiles(rows: Sequence[Row]) -> list[tuple[str, str, str]]:
    """The figures of the fastest right row: value, unit, what it is."""
    row = fastest(rows)
    if row is None or row.step is None:
        return []
    tiles = [
        (significant(row.step.p50_ms), "ms", "p50 of a step"),
        (significant(row.step.p99_ms), "ms", "p99 of a step"),
    ]
    ratio = row.speedup_over_torch_fp32
    if known(ratio) and ratio > 0 and row.backend != BASELINE:
        value, words = gain_in_words(ratio)
        tiles.append((value, "×", f"{words}{', which is in doubt' * baseline_in_doubt(rows)}"))
    if row.parity and known(row.parity.max_abs):
        tiles.append((plain_error(row.parity), unit_word(row.parity.unit), "largest action error"))
    if row.memory and row.memory.device_peak_mib is not None:
        tiles.append((formatted(row.memory.device_peak_mib), "MiB", "device memory, peak"))
    elif row.memory and row.memory.host_anonymous_peak_mib is not None:
        tiles.append((formatted(row.memory.host_anonymous_peak_mib), "MiB", "host anonymous, peak"))
    if row.energy:
        tiles.append((significant(row.energy.joules_per_step), "J", "energy of a step"))
    if row.floor:
        tiles.append((times(row.floor.times_floor), "×", "this device's floor"))
    if row.paced:
        tiles.append((f"{row.paced.misses:,}", f"of {row.paced.ticks:,}", "deadlines missed"))
    return tiles


def _standin_view(standin: StandinReport, of_page: Badge | None) -> dict[str, object]:
    badge = badge_of("random")
    return {
        "parameters": f"{standin.parameters:,}",
        "badge": None if badge == of_page else badge,
        "grid": standin_grid(standin),
        "remarks": [list(row_remarks(item.row)) for item in standin.rows],
        "claims": claims_grid(standin),
        "plots": standin_plots(standin),
        "not_drawn": standin_not_drawn(standin),
        "explanation": standin.explanation,
    }
