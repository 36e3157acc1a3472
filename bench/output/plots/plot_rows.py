"""What all plots share: a row's colour, its heading, and the legend of the colours."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from vla_edge.bench.output.format import backend_label, printable
from vla_edge.bench.output.remarks import real_doubts
from vla_edge.bench.report.types import Row

from .lanes import Heading
from .svg import SERIES

BAR_PX = 13
STACK_PX = 22
ROLE_LEGEND = (("engine", "engine"), ("torch", "PyTorch"), ("wrong", "wrong: its speed is worth nothing"))


def role_of(row: Row) -> str:
    """Which colour a row has: wrong before anything else."""
    if row.status == "wrong":
        return "wrong"
    return "torch" if row.is_torch else "engine"


def heading_of(row: Row, figure: str) -> Heading:
    return Heading(printable(backend_label(row)), figure, role_of(row), bool(real_doubts(row)))


def legend_of(rows: Iterable[Row]) -> tuple[tuple[str, str], ...]:
    """The colours that these rows have, and what each says."""
    roles = {role_of(row) for row in rows}
    return tuple(entry for entry in ROLE_LEGEND if entry[0] in roles)


def series_of(names: Sequence[str]) -> dict[str, str]:
    """A colour for each name; with more names than colours they begin anew."""
    return {name: SERIES[at % len(SERIES)] for at, name in enumerate(names)}
