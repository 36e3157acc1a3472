"""Texts from files reach terminals and logs without commands to them."""

from __future__ import annotations

import json
import logging
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner
from PIL import Image

from vla_edge.runtime.bundle.bundle import Bundle
from vla_edge.runtime.engines.session import EngineIdentity
from vla_edge.runtime.errors import BundleError
from vla_edge.runtime.printable import PrintableFormatter, one_line, printable
from vla_edge.runtime.run.cli import command

NASTY = "a\x1b]0;owned\x07\x9b2J\u202eb\r\ud800"


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("plain", "plain"),
        ("컵까지\u3000가세요 🤖", "컵까지\u3000가세요 🤖"),
        ("two\nlines\tand a tab", "two\nlines\tand a tab"),
        ("\x1b[2J", "\\x1b[2J"),
        ("\x9b2J", "\\x9b2J"),
        ("\u202eevil", "\\u202eevil"),
        ("\ud800", "\\ud800"),
        ("\x00\x7f\r", "\\x00\\x7f\\r"),
        ("\u2028", "\\u2028"),
    ],
)
def test_what_could_command_a_terminal_is_escaped(text: str, shown: str) -> None:
    assert printable(text) == shown
    shown.encode("utf-8")


def test_errors_and_logs_are_printable() -> None:
    error = BundleError(f"{NASTY} is gone.", f"Copy {NASTY}.")
    for text in (str(error), error.problem, error.hint):
        assert printable(text) == text
    record = logging.LogRecord("vla_edge", logging.WARNING, "", 1, "loaded %s", (NASTY,), None)
    assert "\x1b" not in PrintableFormatter("%(message)s").format(record)


@pytest.mark.parametrize("nasty", ["a\x1b]0;owned\x07b", "a\x9b2J\u202eb", "a\nPARITY CHECKED", "a\x7f\tb"])
def test_an_instruction_commands_no_terminal_and_forges_no_line_of_a_run(
    tiny_bundle: Path, edit_manifest: Callable[..., None], nasty: str
) -> None:
    def change(fields: dict[str, Any]) -> None:
        fields["instructions"][0]["text"] = fields["default_instruction"] = nasty

    edit_manifest(tiny_bundle, change)
    Image.new("RGB", (32, 32), (200, 100, 50)).save(tiny_bundle.parent / "frame.png")
    for arguments in ([], ["--json"], ["--instruction", "no such"]):
        done = CliRunner().invoke(
            command, [str(tiny_bundle), str(tiny_bundle.parent / "frame.png"), *arguments]
        )
        shown = done.stdout + str(done.exception)
        assert shown.replace("\n", "").isprintable()
        assert "PARITY CHECKED" not in shown.splitlines()
        if arguments == ["--json"]:
            assert json.loads(done.stdout)["instruction"] == nasty


@pytest.mark.parametrize("nasty", ["a\x1b]0;owned\x07b", "a\u202eb", "a\nPARITY CHECKED"])
def test_a_name_in_a_manifest_that_would_command_a_terminal_is_refused(
    tiny_bundle: Path, edit_manifest: Callable[..., None], nasty: str
) -> None:
    edit_manifest(tiny_bundle, lambda fields: fields.update(name=nasty))
    with pytest.raises(BundleError, match="holds characters that no name has") as raised:
        Bundle.open(tiny_bundle)
    assert printable(str(raised.value)) == str(raised.value)
    assert "PARITY CHECKED" not in str(raised.value).splitlines()


def test_a_line_of_text_stays_one_line() -> None:
    assert one_line("a\n\tb\x1b컵") == "a\\n\\tb\\x1b컵"
    named = EngineIdentity("onnxruntime", "1", "cpu", "x", "fp32", "fp32", "a\nPARITY CHECKED")
    assert str(named) == "onnxruntime 1 fp32 on cpu [a\\nPARITY CHECKED]"
