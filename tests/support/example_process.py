"""Running an example as its reader does: a process of its own, by its path and arguments."""

from __future__ import annotations

import contextlib
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

EXAMPLES = Path(__file__).parents[2] / "examples"
PHOTOGRAPH = EXAMPLES.parent / "export" / "images" / "coffee.jpg"


def command_of(example: str, *arguments: object) -> list[str]:
    return [sys.executable, str(EXAMPLES / example), *map(str, arguments)]


def run_example(example: str, *arguments: object, **options: Any) -> subprocess.CompletedProcess[str]:
    """To its end; `options` are those of `subprocess.run`."""
    return subprocess.run(
        command_of(example, *arguments), capture_output=True, text=True, timeout=60, check=False, **options
    )


@contextlib.contextmanager
def started(example: str, *arguments: object) -> Iterator[subprocess.Popen[str]]:
    """While it runs; killed at the end if it still does."""
    pipe = subprocess.PIPE
    with subprocess.Popen(command_of(example, *arguments), stdin=pipe, stdout=pipe, text=True) as process:
        try:
            yield process
        finally:
            process.kill()


def lines_until(process: subprocess.Popen[str], words: str) -> list[str]:
    """What it prints, up to a line with these words."""
    assert process.stdout is not None
    lines: list[str] = []
    for line in process.stdout:
        lines.append(line.rstrip("\n"))
        if words in line:
            return lines
    raise AssertionError(f"{words!r} was not printed before the end: {lines[-10:]}")
