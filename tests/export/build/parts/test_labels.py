"""Of which part a phase is."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from rich.console import Console

from vla_edge.export.build.parts.labels import Labelled
from vla_edge.export.build.progress import ShownProgress


@pytest.mark.parametrize(
    ("of", "text"),
    [(3, "text, part 2 of 3: Building\n  Timing\na remark\n"), (1, "Building\n  Timing\na remark\n")],
)
def test_outermost_phases_tell_their_part(of: int, text: str) -> None:
    with Path(os.devnull).open("w") as nowhere:
        console = Console(file=nowhere, record=True)
        with ShownProgress(console) as shown:
            labelled = Labelled(shown, "text", 1, of)
            labelled.start("Building", None, 3)
            labelled.start("Timing", "Building", 2)
            labelled.step("Timing", 1)
            labelled.finish("Timing")
            labelled.finish("Building")
            labelled.remark("a remark")
        assert console.export_text() == text
