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

from vla_edge.runtime.bundle import Bundle
from vla_edge.runtime.cli import command
from vla_edge.runtime.errors import BundleError
from vla_edge.runtime.policy import Policy
from vla_edge.runtime.terminal import PrintableFormatter, printable

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
    for text in (str(error), error.problem, error.mend):
        assert printable(text) == text
    record = logging.LogRecord("vla_edge", logging.WARNING, "", 1, "loaded %s", (NASTY,), None)
    assert "\x1b" not in PrintableFormatter("%(message)s").format(record)


@pytest.mark.parametrize("field", ["name", "component", "instruction"])
def test_a_manifest_cannot_command_the_terminal_of_a_run(
    tiny_bundle: Path, edit_manifest: Callable[..., None], field: str
) -> None:
    nasty = "a\x1b]0;owned\x07b"

    def change(fields: dict[str, Any]) -> None:
        if field == "name":
            fields["name"] = nasty
        elif field == "component":
            fields["action"]["names"][0] = nasty
        else:
            fields["instructions"][0]["text"] = fields["default_instruction"] = nasty

    edit_manifest(tiny_bundle, change)
    Image.new("RGB", (32, 32), (200, 100, 50)).save(tiny_bundle.parent / "frame.png")
    assert "\x1b" not in Bundle.open(tiny_bundle).identity
    with Policy.load(tiny_bundle) as policy:
        assert "\x1b" not in str(policy.identity)
    for arguments in ([], ["--json"], ["--instruction", "no such"]):
        done = CliRunner().invoke(
            command, [str(tiny_bundle), str(tiny_bundle.parent / "frame.png"), *arguments]
        )
        assert "\x1b" not in done.stdout + str(done.exception)
        if arguments == ["--json"]:
            assert json.loads(done.stdout)["unit"] == "m/s"
