"""What must be known beside a row's figures: why it is not ok, reasons to doubt it, notes."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from vla_edge.bench.report.types import JUDGED_CALLS, Doubt, Row

from .format import TEXT_LIMIT, backend_label, clipped

# what a short run brings with it; all other doubts are about something odd
QUIET_DOUBTS = ("few-runs",)


@dataclass(frozen=True)
class Remark:
    """What must be known beside a row's figures.

    `kind` is the row's status where it is not ok, "doubt: ..." for a reason not to trust, or "note". A short run
    is a note.
    """

    backend: str
    kind: str
    text: str

    @property
    def grave(self) -> bool:
        """Whether the figures must not be read without it."""
        return self.kind != "note"


def real_doubts(row: Row) -> tuple[Doubt, ...]:
    """The reasons not to trust a row, without those that only say that a run was short."""
    return tuple(doubt for doubt in row.doubts if doubt.kind not in QUIET_DOUBTS)


def remarks(rows: Iterable[Row]) -> Iterator[Remark]:
    """Everything to know beside the figures, row by row: the reason of a status first, then doubts, then notes."""
    for row in rows:
        yield from row_remarks(row)


def row_remarks(row: Row) -> Iterator[Remark]:
    def remark(kind: str, text: str) -> Remark:
        return Remark(backend_label(row), kind, clipped(text, TEXT_LIMIT))

    if row.status != "ok":
        yield remark(row.status, row.reason)
    yield from (remark(f"doubt: {doubt.kind}", doubt.text) for doubt in real_doubts(row))
    told = any(doubt.kind == "cold" for doubt in row.doubts)
    if row.warmup and not row.warmup.stable and row.warmup.calls >= JUDGED_CALLS and not told:
        yield remark("doubt: warm-up", f"still not steady after {row.warmup.calls} warm-up calls")
    yield from (remark("note", doubt.text) for doubt in row.doubts if doubt.kind in QUIET_DOUBTS)
    if row.identity and row.identity.computes != row.identity.precision:
        yield remark("note", f"a graph of {row.identity.precision}, computed in {row.identity.compute}")
    yield from (remark("note", note) for note in row.notes)


def grouped(items: Iterable[Remark]) -> tuple[Remark, ...]:
    """Remarks that say the same of several backends become one that names them all."""
    names: dict[tuple[str, str], list[str]] = {}
    for item in items:
        names.setdefault((item.kind, item.text), []).append(item.backend)
    return tuple(
        Remark(", ".join(dict.fromkeys(backends)), kind, text) for (kind, text), backends in names.items()
    )
