"""Two reports of the same engines: what got worse, told from what only varies."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from typing import Literal, NamedTuple

import msgspec
from msgspec import Struct

from vla_edge.bench.output.remarks import real_doubts
from vla_edge.bench.report.types import Report, Row
from vla_edge.runtime.errors import InputError

from .differences import differences, workload_of
from .stats import Ratio, centred, quantile_ratio, rank_test

# a p99 of fewer is little but the maximum
TAIL_RUNS = 100
MIN_RUNS = 5
# what is compared as it was read: its name, how much of it sampling of memory and a grid of half-precision
# numbers cannot tell from nothing, and how it is written
READINGS = {
    "host_anonymous_mib": ("host memory", 16.0, ",.0f"),
    "device_mib": ("device memory", 16.0, ",.0f"),
    "error": ("action error", 1e-3, ".4f"),
}
# each step is worse than any threshold
BADNESS = {"ok": 0, "skipped": 1, "wrong": 10, "failed": 100}

Verdict = Literal["regression", "improvement", "unchanged", "unclear", "not judged", "new", "gone"]


class RowComparison(Struct, frozen=True, kw_only=True):
    """One backend in both reports.

    `p_value` is of a Mann-Whitney U test on thinned samples: how likely a difference in rank this large is
    where there is none. It says that a difference is there, not that it matters: `regressions` do that.
    """

    workload: str
    backend: str
    status_before: str | None
    status_after: str | None
    verdict: Verdict
    p50: Ratio | None = None
    p99: Ratio | None = None
    p_value: float | None = None
    # after less before; null where either was not read
    host_anonymous_mib: float | None = None
    device_mib: float | None = None
    # in `error_unit`; null too where the two reports have it in different ones
    error: float | None = None
    error_unit: str | None = None
    regressions: tuple[str, ...] = ()
    improvements: tuple[str, ...] = ()
    # what either report says against the figures that are compared here
    doubts: tuple[str, ...] = ()


class Comparison(Struct, frozen=True, kw_only=True):
    """What became of every row of two reports."""

    threshold: float
    tail_threshold: float
    warnings: tuple[str, ...]
    rows: tuple[RowComparison, ...]

    @property
    def regressed(self) -> bool:
        return any(row.regressions for row in self.rows)


Key = tuple[str, str, int]


def compare(
    before: Report, after: Report, threshold: float = 0.05, tail_threshold: float = 0.25
) -> Comparison:
    """Match rows by workload and backend, and judge each.

    A regression is: p50 or p99 whose ratio is above 1 + threshold with the whole interval; a peak of memory
    or an action error that grew by more than the threshold; a status that got worse; a row that is gone.
    Speed is judged only where both rows are ok. The same reports always give the same comparison.

    Args:
        threshold: part by which p50, memory and error may grow: 0.05 is 5 %.
        tail_threshold: part by which p99 may grow; it varies more than p50.

    Raises:
        InputError: a threshold is negative, or no number.
    """
    for name, part in (("threshold", threshold), ("tail_threshold", tail_threshold)):
        if not 0 <= part < math.inf:  # NaN would find nothing worse
            raise InputError(f"{name}={part!r} is no part of 1.", "Give 0.05 for 5 %.")
    old, new = dict(_keyed_rows(before)), dict(_keyed_rows(after))
    rows = tuple(
        _compare_rows(key, old.get(key), new.get(key), threshold, tail_threshold)
        for key in dict.fromkeys((*old, *new))
    )
    return Comparison(
        threshold=threshold,
        tail_threshold=tail_threshold,
        warnings=(*differences(before, after), *_doubts_of_rows(rows)),
        rows=rows,
    )


def _keyed_rows(report: Report) -> Iterator[tuple[Key, Row]]:
    """Every row under what it ran; of two with one name the second is number 1."""
    named = [(workload_of(bundle), row) for bundle in report.bundles for row in bundle.rows]
    if report.standin:
        named += [(f"stand-in, {item.protocol_word} protocol", item.row) for item in report.standin.rows]
    seen: dict[tuple[str, str], int] = {}
    for workload, row in named:
        count = seen.setdefault((workload, row.backend), 0)
        seen[workload, row.backend] += 1
        yield (workload, row.backend, count), row


def _compare_rows(
    key: Key, before: Row | None, after: Row | None, threshold: float, tail_threshold: float
) -> RowComparison:
    compared = RowComparison(
        workload=key[0],
        backend=key[1],
        status_before=before.status if before else None,
        status_after=after.status if after else None,
        verdict="new" if before is None else "gone",
        regressions=("the row is gone",) if before and not after and before.status != "skipped" else (),
    )
    if before is None or after is None:
        return compared
    p50 = p99 = p_value = None
    if before.status == after.status == "ok" and _can_be_judged(before, after):
        p50, p99 = _ratios(before, after)
        p_value = rank_test(_step_ms(before), _step_ms(after))
    changes = [
        *_changes_of_result(before, after, threshold),
        *_change_of_speed("p50", p50, threshold),
        *_change_of_speed("p99", p99, tail_threshold),
        *_changes_of_readings(before, after, threshold),
    ]
    worse = tuple(change.text for change in changes if change.low > 1 + change.threshold)
    better = tuple(change.text for change in changes if change.high < 1 / (1 + change.threshold))
    grown = {
        name: None if old is None or new is None else new - old
        for name, (old, new) in _readings(before, after).items()
    }
    return msgspec.structs.replace(
        compared,
        verdict="regression" if worse else "improvement" if better else _steadiness(p50, threshold),
        p50=p50,
        p99=p99,
        p_value=p_value,
        regressions=worse,
        improvements=better,
        doubts=tuple(_doubts(before, after)),
        error_unit=_unit(before, after),
        **grown,
    )


def _steadiness(p50: Ratio | None, threshold: float) -> Verdict:
    """Whether p50 is known to be as it was."""
    if p50 is None:
        return "not judged"
    low, high = p50.low or 0.0, p50.high or math.inf
    return "unchanged" if 1 / (1 + threshold) <= low and high <= 1 + threshold else "unclear"


def _doubts(before: Row, after: Row) -> Iterator[str]:
    said: dict[str, list[str]] = {}
    for when, row in (("before", before), ("after", after)):
        for doubt in real_doubts(row):
            said.setdefault(f"{doubt.kind}: {doubt.text}", []).append(when)
    yield from (f"{' and '.join(sides)}: {text}" for text, sides in said.items())


def _doubts_of_rows(rows: Sequence[RowComparison]) -> Iterator[str]:
    """A line for each row whose figures one of the reports doubts: its verdict may be that of a busy machine."""
    yield from (
        f"figures in doubt: {row.workload}, {row.backend}: {'; '.join(row.doubts)}"
        for row in rows
        if row.doubts
    )


def _can_be_judged(before: Row, after: Row) -> bool:
    series = _step_ms(before), _step_ms(after)
    return min(map(len, series)) >= MIN_RUNS and min(map(min, series)) > 0


def _ratios(before: Row, after: Row) -> tuple[Ratio, Ratio | None]:
    """Of p50 and p99; that of a summary's p99 has no interval, since a few samples have no tail."""
    old, new = _step_ms(before), _step_ms(after)
    p50 = quantile_ratio(old, new, 0.5)
    first, second = before.step, after.step
    if not first or not second or (len(old) >= first.runs and len(new) >= second.runs):
        return p50, quantile_ratio(old, new, 0.99) if min(len(old), len(new)) >= TAIL_RUNS else None
    if min(first.p50_ms, second.p50_ms, first.p99_ms, second.p99_ms) <= 0:
        return p50, None
    p50 = centred(p50, first.p50_ms, second.p50_ms)
    if min(first.runs, second.runs) < TAIL_RUNS:
        return p50, None
    ratio = second.p99_ms / first.p99_ms
    return p50, Ratio(before_ms=first.p99_ms, after_ms=second.p99_ms, ratio=ratio, low=None, high=None)


def _step_ms(row: Row) -> tuple[float, ...]:
    return row.samples.step_ms if row.samples else ()


class _Change(NamedTuple):
    """One thing that is not as it was: from before to after, and how much of it after over before is at least and at
    most; above 1 is worse."""

    text: str
    low: float
    high: float
    threshold: float


def _change_of_speed(name: str, ratio: Ratio | None, threshold: float) -> Iterator[_Change]:
    if ratio and ratio.low is not None and ratio.high is not None:
        low, value, high = (f"{part - 1:+.1%}" for part in (ratio.low, ratio.ratio, ratio.high))
        ends = min(ratio.low, ratio.ratio), max(ratio.high, ratio.ratio)
        yield _Change(f"{name} {value} ({low} to {high})", *ends, threshold)


def _changes_of_result(before: Row, after: Row, threshold: float) -> Iterator[_Change]:
    if BADNESS[after.status] != BADNESS[before.status]:
        reason = f": {after.reason}" if after.reason else ""
        text = f"was {before.status}, is {after.status}{reason}"
        yield _certain(text, BADNESS[before.status], BADNESS[after.status], threshold)


def _changes_of_readings(before: Row, after: Row, threshold: float) -> Iterator[_Change]:
    for field, (old, new) in _readings(before, after).items():
        name, floor, form = READINGS[field]
        if old is not None and new is not None and abs(new - old) > floor:
            unit = _unit(before, after) if field == "error" else "MiB"
            text = f"{name} from {old:{form}} {unit} to {new:{form}} {unit}"
            yield _certain(text, old, new, threshold)
    if before.parity and after.parity and before.parity.finite != after.parity.finite:
        text = "actions are finite again" if after.parity.finite else "actions are no longer finite"
        yield _certain(text, not before.parity.finite, not after.parity.finite, threshold)


def _certain(text: str, before: float, after: float, threshold: float) -> _Change:
    """A change that was read, not sampled; from or to nothing it is beyond any threshold."""
    ratio = after / before if before else float("inf")
    return _Change(text, ratio, ratio, threshold)


def _readings(before: Row, after: Row) -> dict[str, tuple[float | None, float | None]]:
    """What was read of both, under the names of `RowComparison`."""
    pairs = zip(_read(before), _read(after), strict=True)
    found = dict(zip(READINGS, pairs, strict=True))
    return found if _unit(before, after) else {**found, "error": (None, None)}


def _unit(before: Row, after: Row) -> str | None:
    """What the errors of both are in; None where they cannot be held against each other."""
    units = {row.parity.unit if row.parity else None for row in (before, after)}
    return units.pop() if len(units) == 1 else None


def _read(row: Row) -> tuple[float | None, ...]:
    """Peaks of memory, not of a row that failed, since it may not have come to them; and the error."""
    memory = row.memory if row.status != "failed" else None
    peaks = (memory.host_anonymous_peak_mib, memory.device_peak_mib) if memory else (None, None)
    return (*peaks, row.parity.max_abs if row.parity else None)
