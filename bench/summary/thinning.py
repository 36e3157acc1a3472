"""A report made small enough to be kept in git: what is only raw goes, what is shown stays as it was."""

from __future__ import annotations

import random
from collections.abc import Iterator
from itertools import pairwise
from typing import Any, TypeVar

import msgspec
from msgspec import Struct

from vla_edge.bench.output.facts import PHASES
from vla_edge.bench.output.markdown import to_markdown
from vla_edge.bench.output.tables.sections import LAYERS_SHOWN
from vla_edge.bench.report.types import Report, Row, Samples, Series, Summarised
from vla_edge.runtime.errors import InputError

# a p99 of fewer is little but the maximum, and `compare` asks for as many
MOST_SAMPLES_KEPT = 100
SAMPLE_DIGITS = 4
FEWEST_DIGITS, ALL_DIGITS = 6, 17
# of these no sample is drawn or compared; their statistics stay
UNSHOWN_SERIES = ("act_ms", "device_ms", "queue_ms", "preprocess_ms")
LEFT_OUT = (
    f"samples of {', '.join(UNSHOWN_SERIES)}",
    f"layers of a profile after the {LAYERS_SHOWN} slowest",
    PHASES,
)

Whole = TypeVar("Whole")


def summary_of(report: Report) -> Report:
    """The report without what no table, drawing or comparison shows.

    Every figure is that of all samples. Figures are rounded to as few digits, six at least, as leave the Markdown
    report the same text. Of a series of more than `MOST_SAMPLES_KEPT` samples one is kept from each of so many
    equal stretches, in order: a place in the stretch is drawn, since every n-th could be the same frame each time.
    The same report always gives the same summary.

    Raises:
        InputError: the report is a summary already.
    """
    if report.summarised:
        raise InputError("this report is a summary already.", "Name the report that the bench wrote.")
    thinned = _without_raw(report)
    whole, kept = (sum(map(len, _all_series(each))) for each in (report, thinned))
    small, digits = _rounded_unseen(thinned, report)
    summarised = Summarised(
        samples_kept=kept, of=whole, most_of_a_series=MOST_SAMPLES_KEPT, digits=digits, left_out=LEFT_OUT
    )
    return msgspec.structs.replace(small, summarised=summarised)


def _all_series(report: Report) -> Iterator[Series]:
    for row in report.rows:
        yield from msgspec.structs.astuple(row.samples) if row.samples else ()


def _without_raw(report: Report) -> Report:
    replace = msgspec.structs.replace
    bundles = tuple(
        replace(bundle, rows=tuple(_thin_row(row) for row in bundle.rows)) for bundle in report.bundles
    )
    standin = report.standin
    if standin:
        rows = tuple(replace(item, row=_thin_row(item.row)) for item in standin.rows)
        standin = replace(standin, rows=rows)
    return replace(report, bundles=bundles, standin=standin)


def _thin_row(row: Row) -> Row:
    replace, profile = msgspec.structs.replace, row.profile
    return replace(
        row,
        samples=_thin_samples(row.samples) if row.samples else None,
        memory=replace(row.memory, phases=()) if row.memory else None,
        profile=replace(profile, layers=profile.layers[:LAYERS_SHOWN]) if profile else None,
    )


def _thin_samples(samples: Samples) -> Samples:
    shown = {
        name: _thin_series(series)
        for name, series in msgspec.structs.asdict(samples).items()
        if name not in UNSHOWN_SERIES
    }
    return Samples(**shown)


def _thin_series(series: Series) -> Series:
    total, kept = len(series), min(len(series), MOST_SAMPLES_KEPT)
    chance = random.Random(total)  # noqa: S311
    edges = [at * total // kept for at in range(kept + 1)] if kept else []
    places = (chance.randrange(first, after) for first, after in pairwise(edges))
    return tuple(_rounded(series[place], SAMPLE_DIGITS) for place in places)


def _rounded_unseen(thinned: Report, report: Report) -> tuple[Report, int]:
    """The report with its figures rounded to so few digits that its text stays that of `report`; and how many."""
    shown = to_markdown(report)
    for digits in range(FEWEST_DIGITS, ALL_DIGITS):
        small = _rounded(thinned, digits)
        if to_markdown(small) == shown:
            return small, digits
    return thinned, ALL_DIGITS


def _rounded(value: Whole, digits: int) -> Whole:
    """The same with every float in it rounded to so many significant digits."""
    rounded: Any = value
    if isinstance(value, float):
        rounded = float(f"{value:.{digits}g}")
    elif isinstance(value, tuple):
        rounded = tuple(_rounded(item, digits) for item in value)
    elif isinstance(value, dict):
        rounded = {key: _rounded(item, digits) for key, item in value.items()}
    elif isinstance(value, Struct):
        names = value.__struct_fields__
        rounded = type(value)(**{name: _rounded(getattr(value, name), digits) for name in names})
    return rounded
