"""A comparison for people: the verdict, a table, and a line for each finding."""

from __future__ import annotations

from collections.abc import Iterator

from rich.console import Console

from vla_edge.bench.output.document import Block, Words, table
from vla_edge.bench.output.format import NOTHING, clipped, formatted, status_word
from vla_edge.bench.output.tables.grid import Column, table_of
from vla_edge.bench.output.terminal import STYLES, print_blocks

from .rows import Comparison, RowComparison

_STYLES = {
    **STYLES,
    "regressed": "bold red",
    "passed": "bold",
    "regression": "bold red",
    "gone": "bold red",
    "improvement": "green",
}


def print_comparison(comparison: Comparison, console: Console) -> None:
    """Plain text where the console is not a terminal."""
    print_blocks(_document(comparison), console, _STYLES)


def _document(comparison: Comparison) -> Iterator[Block]:
    worse = sum(bool(row.regressions) for row in comparison.rows)
    verdict = f"{worse} of {len(comparison.rows)} rows regressed" if worse else "no regression"
    allowed = f"allowed: {_percent(comparison.threshold)}, for p99 {_percent(comparison.tail_threshold)}"
    doubted = sum(bool(row.doubts) for row in comparison.rows)
    doubt = f"; the figures of {doubted} row{'s' * (doubted > 1)} are in doubt" if doubted else ""
    yield Words(f"{verdict} ({allowed}){doubt}", "regressed" if worse else "passed")
    yield from table(
        table_of("comparison", _caption(comparison), comparison.rows, _WORDS, _FIGURES, kind="verdict")
    )
    for row in comparison.rows:
        doubt = " (in doubt)" if row.doubts else ""
        for kind, texts in (("REGRESSION", row.regressions), ("improvement", row.improvements)):
            for text in texts:
                yield Words(f"- {kind}{doubt}: {row.workload}, {row.backend}: {text}")


def _caption(comparison: Comparison) -> str:
    units = dict.fromkeys(clipped(row.error_unit) for row in comparison.rows if row.error_unit)
    error = ", ".join(("action error", *units))
    return f"p50 of one step, ms; memory, MiB; {error}; each after against before"


def _percent(part: float) -> str:
    return f"{100 * part:.3g}%"


def _change(ratio: float | None) -> str:
    return formatted(None if ratio is None else ratio - 1, "+.1%")


def _state(status: str | None) -> str:
    return NOTHING if status is None else status_word(status)


def _verdict(row: RowComparison) -> str:
    return row.verdict.upper() if row.regressions else row.verdict


_WORDS = (
    Column("workload", "workload", str),
    Column("backend", "backend", str),
    Column("was", "status_before", _state),
    Column("is", "status_after", _state),
    Column("verdict", "", _verdict),
)
_FIGURES = (
    Column("p50 was", "p50.before_ms"),
    Column("is", "p50.after_ms"),
    Column("change", "p50.ratio", _change),
    Column("95 % from", "p50.low", _change),
    Column("to", "p50.high", _change),
    Column("p99", "p99.ratio", _change),
    Column("U test p", "p_value", ".2g"),
    Column("host", "host_anonymous_mib", "+,.0f"),
    Column("device", "device_mib", "+,.0f"),
    Column("error", "error", "+.4f"),
)
