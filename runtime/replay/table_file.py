"""A replay as one table in Parquet: a row a step, a column a component."""

from __future__ import annotations

from typing import IO, TYPE_CHECKING, Any, cast

from vla_edge.runtime.bundle.manifest import ActionSpec
from vla_edge.runtime.command.result_file import value_columns
from vla_edge.runtime.printable import one_line

from .lines import Line

if TYPE_CHECKING:
    import pyarrow

ROWS_AT_ONCE = 4096  # of a row group: what is in memory before it is written


class TableFile:
    """Writes lines; call `close` after the last one.

    Args:
        file: the bytes go to its buffer.
        spec: of the policy's actions.

    Raises:
        InputError: two columns would have one name.
    """

    def __init__(self, file: IO[str], spec: ActionSpec) -> None:
        from pyarrow import parquet

        self._spec = spec
        self._names = value_columns(spec.names, spec.units, ())
        self._schema = self._columns()
        self._rows: list[dict[str, Any]] = []
        self._open = True
        self._writer = parquet.ParquetWriter(cast(Any, file).buffer, self._schema, compression="zstd")

    def __call__(self, line: Line) -> None:
        self._rows.append(self._row(line))
        if len(self._rows) == ROWS_AT_ONCE:
            self._write()

    def close(self) -> None:
        """Write what is left, and the footer without which nothing can be read."""
        if self._open:
            self._open = False
            self._write()
            self._writer.close()

    def _write(self) -> None:
        import pyarrow

        if self._rows:
            self._writer.write_table(pyarrow.Table.from_pylist(self._rows, self._schema))
        self._rows = []

    def _columns(self) -> pyarrow.Schema:
        import pyarrow

        number, whether = pyarrow.float64(), pyarrow.bool_()
        columns = [("episode", pyarrow.string()), ("step", pyarrow.int64()), ("time_s", number)]
        columns.append(("instruction", pyarrow.string()))
        columns += [
            (name, number)
            for what in ("recorded", "predicted", "error", "against")
            for name in self._of(what)
        ]
        columns += [(f"normalised_error_{name}", number) for name in self._spec.names]
        columns.append(("angle_deg", number))
        columns += [(f"flips_{name}", whether) for name in self._spec.names]
        columns += [("clamped", whether), ("held", whether), ("latency_ms", number)]
        return pyarrow.schema(columns)

    def _of(self, what: str) -> list[str]:
        return [f"{what}_{name}" for name in self._names]

    def _row(self, line: Line) -> dict[str, Any]:
        step, other = line
        row: dict[str, Any] = {
            "episode": one_line(step.episode),
            "step": step.step,
            "time_s": step.time_s,
            "instruction": step.instruction and one_line(step.instruction),
            "angle_deg": step.angle_deg,
            "clamped": step.clamped,
            "held": step.held,
            "latency_ms": step.latency_ms,
        }
        values = {
            "recorded": step.recorded,
            "predicted": step.predicted,
            "error": step.error,
            "against": other,
        }
        for what, found in values.items():
            if found is not None:
                row |= zip(self._of(what), found, strict=True)
        for what, each in (("normalised_error", step.normalised_error), ("flips", step.flips)):
            if each is not None:
                row |= zip([f"{what}_{name}" for name in self._spec.names], each, strict=True)
        return row
