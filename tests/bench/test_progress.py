"""The lines of progress: wrapped between words on a terminal, whole in a file."""

from __future__ import annotations

import io

import msgspec
import pytest
from bench_examples import measured_row
from rich.console import Console

from vla_edge.bench.progress import ConsoleProgress

REASON = "action off by 0.067 m/s, 0.02 m/s allowed"


def told(reason: str, **console: object) -> list[str]:
    file = io.StringIO()
    progress = ConsoleProgress(Console(file=file, **console))  # type: ignore[arg-type]
    progress.begin("best_simple_clip_lstm_model-fp16", "torch-fp16")
    progress.end(msgspec.structs.replace(measured_row("x", (1.0, 2.0)), status="wrong", reason=reason))
    return file.getvalue().splitlines()


@pytest.mark.parametrize("width", [40, 60, 80, 100])
@pytest.mark.parametrize("reason", [REASON, "out of memory " * 20])
def test_a_long_line_is_wrapped_between_words_on_a_terminal(width: int, reason: str) -> None:
    lines = told(reason, force_terminal=True, width=width)
    assert len(lines) > 1
    assert max(map(len, lines)) <= width
    assert " ".join(" ".join(lines).split()) == " ".join(" ".join(told(reason, width=width)).split())


def test_a_line_in_a_file_stays_one() -> None:
    (line,) = told(REASON, width=80)
    assert line.endswith(f"wrong: {REASON}")
