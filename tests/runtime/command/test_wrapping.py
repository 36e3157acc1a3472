"""On a terminal a message breaks between words, and nowhere else; in a pipe it is one line."""

from __future__ import annotations

import io
import logging
import os
import pty
import subprocess
import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vla_edge.runtime.command.wrapping import CommandFormatter, folded, for_terminal
from vla_edge.runtime.printable import IN_COMMAND

BUILD = "vla-build --verify engines/a-fp16 --backend tensorrt-rtx"


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("action 0.00486 m/s, gate 1e-06 m/s.", "action 0.00486 m/s, gate\n1e-06 m/s."),
        ("see /a/path/that/is/longer/than/the/line here", "see\n/a/path/that/is/longer/than/the/line\nhere"),
        (f"Check it: {BUILD}", f"Check it:\n{BUILD}"),
        (f"Check it here: {BUILD} (or not at all)", f"Check it here:\n{BUILD}\n(or not at all)"),
        ("  a list, indented, of some words", "  a list, indented, of\n  some words"),
        ("one\n\ntwo", "one\n\ntwo"),
        ("컵까지 가세요 컵까지 가세요", "컵까지 가세요 컵까지\n가세요"),
        ("short", "short"),
        ("", ""),
    ],
)
def test_words_paths_and_commands_stay_whole(text: str, shown: str) -> None:
    assert folded(text, 24) == shown


@given(st.text(alphabet="ab컵/ -:\n'()", max_size=200), st.integers(1, 40))
def test_nothing_is_lost_or_added(text: str, columns: int) -> None:
    assert folded(text, columns).split() == text.split()


@given(st.lists(st.text("abc", min_size=1, max_size=8), max_size=60), st.integers(8, 40))
def test_no_line_of_short_words_is_too_long(words: list[str], columns: int) -> None:
    assert all(len(line) <= columns for line in folded(" ".join(words), columns).split("\n"))


def test_in_a_pipe_nothing_changes() -> None:
    assert for_terminal("word " * 60, io.StringIO()) == "word " * 60


@pytest.mark.parametrize("arguments", [["--no-such-option-as-this"], ["a-folder-that-is-not-there", "."]])
def test_errors_of_a_command_are_not_cut_on_a_terminal(arguments: list[str]) -> None:
    ours, theirs = pty.openpty()
    lines = "import sys; sys.argv[0] = 'vla-run'; from vla_edge.runtime.run.cli import main; main()"
    environment = {**os.environ, "COLUMNS": "24"}
    with open(ours, "rb", buffering=0) as shown:
        done = subprocess.run(
            [sys.executable, "-c", lines, *arguments], stderr=theirs, env=environment, timeout=60, check=False
        )
        os.close(theirs)
        text = shown.read(10_000).decode()
    assert done.returncode == 2
    assert len(text.splitlines()) > 2
    assert all(len(line) <= 24 or " " not in line.strip() for line in text.splitlines())


@pytest.mark.parametrize(
    ("name", "plain", "words", "shown"),
    [
        ("vla_edge.a", True, None, "warning: say: x=1"),
        ("vla_edge.a", True, "say --x", "warning: say --x"),
        ("vla_edge.a", False, "say --x", "WARNING vla_edge.a: say --x"),
        ("transformers", True, None, "WARNING transformers: say: x=1"),
    ],
)
def test_a_command_shows_its_own_warnings_without_a_logger_and_in_its_own_words(
    name: str, plain: bool, words: str | None, shown: str
) -> None:
    record = logging.LogRecord(name, logging.WARNING, "", 1, "say: %s", ("x=1",), None)
    if words:
        setattr(record, IN_COMMAND, words)
    assert CommandFormatter(plain).format(record) == shown
    assert record.getMessage() == "say: x=1", "as other handlers see it"
