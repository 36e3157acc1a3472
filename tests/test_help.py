"""The help of every command fits a terminal of 80 columns."""

from __future__ import annotations

import re
from importlib import import_module
from pathlib import Path

import click
import pytest
from click.testing import CliRunner
from rich.cells import cell_len

ROOT = Path(__file__).parents[1]
# found by their text, so that a command that is added is tested too
SOURCES = sorted(
    path.relative_to(ROOT)
    for room in ("runtime", "export", "bench")
    for path in (ROOT / room).rglob("*.py")
    if re.search(r"^@click\.(command|group)\(", path.read_text(encoding="utf-8"), re.MULTILINE)
)
WIDTH = 78  # what click takes of 80 columns


def commands_in(source: Path) -> list[click.Command]:
    module = import_module(".".join(("vla_edge", *source.with_suffix("").parts)))
    return [value for value in vars(module).values() if isinstance(value, click.Command)]


def test_commands_are_found() -> None:
    assert len(SOURCES) >= 13


@pytest.mark.parametrize("source", SOURCES, ids=str)
def test_no_line_is_wider_than_79_columns(source: Path) -> None:
    commands = commands_in(source)
    assert commands
    for command in commands:
        shown = CliRunner().invoke(command, ["--help"], terminal_width=WIDTH)
        assert shown.exit_code == 0
        assert shown.output.startswith("Usage: ")
        assert [line for line in shown.output.splitlines() if cell_len(line) > 79] == []


@pytest.mark.parametrize("source", SOURCES, ids=str)
def test_examples_stand_before_the_options(source: Path) -> None:
    for command in commands_in(source):
        shown = CliRunner().invoke(command, ["--help"]).output
        assert 0 < shown.index("Example") < shown.index("Options:")


@pytest.mark.parametrize("source", SOURCES, ids=str)
def test_on_60_columns_only_examples_are_wider(source: Path) -> None:
    """They are commands to copy, which a line break would cut."""
    for command in commands_in(source):
        shown = CliRunner().invoke(command, ["--help"], terminal_width=60).output
        wide = [line.strip() for line in shown.splitlines() if cell_len(line) > 60]
        assert [line for line in wide if not line.startswith(("vla-", "python "))] == []
