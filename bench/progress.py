"""What is going on, on stderr: a live line on a terminal, else one line as a backend begins and ends."""

from __future__ import annotations

from typing import TYPE_CHECKING

from rich.markup import escape

from vla_edge.bench.output.tables.layout import LEAST_WIDTH, fold
from vla_edge.bench.report.types import Row
from vla_edge.bench.watch.phases import Phase
from vla_edge.runtime.printable import printable

if TYPE_CHECKING:
    from rich.console import Console


class ConsoleProgress:
    """Progress of a bench run. A context manager, so that the live line never outlives the run."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._status = console.status("looking for bundles and checkpoints")
        self._what = ""

    def __enter__(self) -> ConsoleProgress:
        if self._console.is_terminal:
            self._status.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._status.stop()

    def begin(self, bundle: str, backend: str) -> None:
        self._what = printable(f"{bundle}  {backend}")
        self._status.update(escape(self._what))

    def phase(self, phase: Phase) -> None:
        self._status.update(escape(f"{self._what}  {phase} ..."))

    def end(self, row: Row) -> None:
        figure = f"p50 {row.step.p50_ms:.3f} ms over {row.step.runs} runs" if row.step else ""
        said = ": ".join(part for part in (row.status, row.reason) if part) if row.status != "ok" else ""
        told = ", ".join(part for part in (figure, said) if part)
        line = f"{self._what}  {printable(told)}"
        wide = self._console.is_terminal
        for at, part in enumerate(fold(line, max(self._console.width - 2, LEAST_WIDTH)) if wide else [line]):
            shown = f"  {part}" if at else part
            self._console.print(shown, markup=False, highlight=False, soft_wrap=True)
