"""Two reports of the same engines: what got worse, told from what only varies."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from msgspec import Struct

from vla_edge.bench.output.remarks import real_doubts
from vla_edge.bench.report.types import Report, Row
from vla_edge.runtime.errors import InputError

from .differences import differences, workload_of
from .stats import Ratio, centred, quantile_ratio, rank_test

# a p99 of fewer is little but the maximum
TAIL_RUNS = 100
MIN_RUNS = 5
# what sampling of memory and a grid of half-precision numbers cannot tell from nothing
MEMORY_FLOOR_MIB = 16.0
ERROR_FLOOR_MPS = 1e-3
# each step is worse than any threshold
BADNESS = {"ok": 0, "skipped": 1, "wrong": 10, "failed": 100}

Verdict = Literal["regression", "improvement", "unchanged", "unclear", "not judged", "new", "gone"]


@dataclass(frozen=True)
class Limits:
    """What counts as worse.

    Attributes:
        threshold: part by which p50, memory and error may grow: 0.05 is 5 %.
        tail_threshold: part by which p99 may grow; it varies more than p50.
    """

    threshold: float = 0.05
    tail_threshold: float = 0.25

    def __post_init__(self) -> None:
        for name, part in (("threshold", self.threshold), ("tail_threshold", self.tail_threshold)):
            if not 0 <= part < math.inf:  # NaN would find nothing worse
                raise InputError(f"{name}={part!r} is no part of 1.", "Give 0.05 for 5 %.")


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
    error_mps: float | None = None
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
        threshold: for p50, memory and error, as a part of 1.
        tail_threshold: for p99.
    """
    limits = Limits(threshold, tail_threshold)
    old, new = dict(_keyed_rows(before)), dict(_keyed_rows(after))
    keys = list(dict.fromkeys((*old, *new)))
    rows = tuple(_compare_rows(key, old.get(key), new.get(key), limits) for key in keys)
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
        named += [(f"stand-in, {item.protocol} protocol", item.row) for item in report.standin.rows]
    seen: dict[tuple[str, str], int] = {}
    for workload, row in named:
        count = seen.setdefault((workload, row.backend), 0)
        seen[workload, row.backend] += 1
        yield (workload, row.backend, count), row


def _compare_rows(key: Key, before: Row | None, after: Row | None, limits: Limits) -> RowComparison:
    workload, backend, _ = key
    status_before, status_after = before.status if before else None, after.status if after else None
    named: dict[str, Any] = {
        "workload": workload,
        "backend": backend,
        "status_before": status_before,
        "status_after": status_after,
    }
    if before is None:
        return RowComparison(**named, verdict="new")
    if after is None:
        lost = () if before.status == "skipped" else ("the row is gone",)
        return RowComparison(**named, verdict="gone", regressions=lost)
    speed = _Speed.of(before, after) if before.status == after.status == "ok" else _Speed()
    changes = _changes(before, after, speed)
    worse = [change.text for change in changes if change.is_worse(limits)]
    better = [change.text for change in changes if change.is_better(limits)]
    return RowComparison(
        **named,
        verdict=_verdict(worse, better, speed, limits),
        p50=speed.p50,
        p99=speed.p99,
        p_value=speed.p_value,
        host_anonymous_mib=_difference(_host(before), _host(after)),
        device_mib=_difference(_device(before), _device(after)),
        error_mps=_difference(_error(before), _error(after)),
        regressions=tuple(worse),
        improvements=tuple(better),
        doubts=tuple(_doubts(before, after)),
    )


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


@dataclass(frozen=True)
class _Speed:
    """How the latency changed; nothing of it where it is not judged."""

    p50: Ratio | None = None
    p99: Ratio | None = None
    p_value: float | None = None

    @classmethod
    def of(cls, before: Row, after: Row) -> _Speed:
        old, new = _step_ms(before), _step_ms(after)
        fewest = min(len(old), len(new))
        if fewest < MIN_RUNS or min(*old, *new) <= 0:
            return cls()
        p50, p99 = quantile_ratio(old, new, 0.5), None
        if _is_thinned(before) or _is_thinned(after):
            p50, p99 = _of_all(p50, before, after)
        elif fewest >= TAIL_RUNS:
            p99 = quantile_ratio(old, new, 0.99)
        return cls(p50=p50, p99=p99, p_value=rank_test(old, new))


def _is_thinned(row: Row) -> bool:
    """Whether the row has only some of its samples, as in a summary."""
    return row.step is not None and len(_step_ms(row)) < row.step.runs


def _of_all(p50: Ratio, before: Row, after: Row) -> tuple[Ratio, Ratio | None]:
    """The ratios of p50 and p99 of all samples; p99 without an interval, since a few samples have no tail."""
    old, new = before.step, after.step
    if old is None or new is None or min(old.p50_ms, new.p50_ms, old.p99_ms, new.p99_ms) <= 0:
        return p50, None
    p50 = centred(p50, old.p50_ms, new.p50_ms)
    if min(old.runs, new.runs) < TAIL_RUNS:
        return p50, None
    ratio = new.p99_ms / old.p99_ms
    return p50, Ratio(before_ms=old.p99_ms, after_ms=new.p99_ms, ratio=ratio, low=None, high=None)


def _step_ms(row: Row) -> tuple[float, ...]:
    return row.samples.step_ms if row.samples else ()


@dataclass(frozen=True)
class _Change:
    """One thing that is not as it was.

    Attributes:
        text: from before to after.
        low, high: the interval of after over before; above 1 is worse.
        ratio: after over before.
        tail: whether the threshold of p99 holds.
    """

    text: str
    low: float
    high: float
    ratio: float
    tail: bool = False

    def is_worse(self, limits: Limits) -> bool:
        return min(self.low, self.ratio) > 1 + self._threshold(limits)

    def is_better(self, limits: Limits) -> bool:
        return max(self.high, self.ratio) < 1 / (1 + self._threshold(limits))

    def _threshold(self, limits: Limits) -> float:
        return limits.tail_threshold if self.tail else limits.threshold


def _changes(before: Row, after: Row, speed: _Speed) -> list[_Change]:
    """Everything that two rows can differ in, whether much or little."""
    changes = []
    if BADNESS[after.status] != BADNESS[before.status]:
        reason = f": {after.reason}" if after.reason else ""
        text = f"was {before.status}, is {after.status}{reason}"
        changes.append(_certain(text, BADNESS[before.status], BADNESS[after.status]))
    for name, ratio in (("p50", speed.p50), ("p99", speed.p99)):
        if ratio and ratio.low is not None and ratio.high is not None:
            text = f"{name} {_percent(ratio.ratio)} ({_percent(ratio.low)} to {_percent(ratio.high)})"
            changes.append(_Change(text, ratio.low, ratio.high, ratio.ratio, tail=name == "p99"))
    for name, old, new, floor, unit in (
        ("host memory", _host(before), _host(after), MEMORY_FLOOR_MIB, "{:,.0f} MiB"),
        ("device memory", _device(before), _device(after), MEMORY_FLOOR_MIB, "{:,.0f} MiB"),
        ("action error", _error(before), _error(after), ERROR_FLOOR_MPS, "{:.4f} m/s"),
    ):
        if old is not None and new is not None and abs(new - old) > floor:
            changes.append(_certain(f"{name} from {unit.format(old)} to {unit.format(new)}", old, new))
    if before.parity and after.parity and before.parity.finite != after.parity.finite:
        text = "actions are finite again" if after.parity.finite else "actions are no longer finite"
        changes.append(_certain(text, not before.parity.finite, not after.parity.finite))
    return changes


def _certain(text: str, before: float, after: float) -> _Change:
    """A change that was read, not sampled; from or to nothing it is beyond any threshold."""
    ratio = after / before if before else float("inf")
    return _Change(text, ratio, ratio, ratio)


def _percent(ratio: float) -> str:
    return f"{ratio - 1:+.1%}"


def _host(row: Row) -> float | None:
    """Peak of anonymous memory; not of a row that failed, since it may not have come to its peak."""
    return row.memory.host_anonymous_peak_mib if row.memory and row.status != "failed" else None


def _device(row: Row) -> float | None:
    return row.memory.device_peak_mib if row.memory and row.status != "failed" else None


def _error(row: Row) -> float | None:
    return row.parity.max_abs_mps if row.parity else None


def _difference(before: float | None, after: float | None) -> float | None:
    return None if before is None or after is None else after - before


def _verdict(worse: Sequence[str], better: Sequence[str], speed: _Speed, limits: Limits) -> Verdict:
    if worse:
        return "regression"
    if better:
        return "improvement"
    if speed.p50 is None:
        return "not judged"
    low, high = speed.p50.low or 0.0, speed.p50.high or math.inf
    within = 1 / (1 + limits.threshold) <= low and high <= 1 + limits.threshold
    return "unchanged" if within else "unclear"
