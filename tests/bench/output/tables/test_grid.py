"""Tables and the CSV say by a path where a report has a figure: every such path leads to one."""

from __future__ import annotations

import msgspec
import pytest
from bench_examples import full_report

from vla_edge.bench.output import csv_table
from vla_edge.bench.output.tables import other_grids, sections
from vla_edge.bench.output.tables.grid import Column, Grid, Line, held
from vla_edge.bench.output.tables.sections import Part

REPORT = full_report()
COMPILED = REPORT.bundles[0].rows[4]
FAST = msgspec.structs.replace(
    REPORT.bundles[0].rows[6], compile_s=1.0, memory=COMPILED.memory, speedup_over_torch_fp16=2.0
)


def columns(module: object) -> list[tuple[str, Column]]:
    found = [(name, value) for name, value in vars(module).items() if isinstance(value, tuple)]
    return [(name, column) for name, value in found for column in value if isinstance(column, Column)]


@pytest.mark.parametrize(("table", "column"), columns(sections))
def test_every_column_of_a_bundle_s_tables_has_a_figure(table: str, column: Column) -> None:
    assert FAST.profile is not None
    item = Part(FAST, FAST.profile.layers[0]) if table.startswith("_PART") else FAST
    assert held(item, column.path) is not None
    assert column.cell(item) != "-"


@pytest.mark.parametrize(("table", "column"), columns(other_grids))
def test_every_column_of_the_other_tables_has_a_figure(table: str, column: Column) -> None:
    assert REPORT.standin is not None
    items = {"_CLAIMS": REPORT.standin.claims[0], "_FORECAST": REPORT.forecasts[0].rows[0]}
    assert held(items.get(table, REPORT.standin.rows[0]), column.path) is not None


@pytest.mark.parametrize("path", csv_table._ROW.values())
def test_every_column_of_the_csv_has_a_figure(path: str) -> None:
    assert held(FAST, path) is not None


def test_a_figure_of_a_part_that_is_not_there_is_none() -> None:
    bare = msgspec.structs.replace(FAST, memory=None)
    assert held(bare, "memory.device_peak_mib") is None
    assert Column("device", "memory.device_peak_mib", ",.0f").cell(bare) == "-"
    with pytest.raises(AttributeError):
        held(FAST, "memory.devise_peak_mib")


def test_a_column_goes_with_its_cells() -> None:
    grid = Grid("t", "a table", ("name", "kind"), ("p50", "p99"), (Line(("a", "b", "1", "-"), "ok"),))
    left = grid.without(1).without_empty()
    assert (left.words, left.figures, left.lines) == (("name",), ("p50",), (Line(("a", "1"), "ok"),))
