"""`vla-export --list-settings`: what each setting may be, for people and for programs."""

from __future__ import annotations

import json
import os
import subprocess
import sys

import pytest

from vla_edge.export.kosmos2.settings import PolicySettings


def listed(*arguments: str, **environment: str) -> str:
    command = [sys.executable, "-m", "vla_edge.export.cli", *arguments]
    done = subprocess.run(command, capture_output=True, text=True, env={**os.environ, **environment})
    assert (done.returncode, done.stderr) == (0, "")
    return done.stdout


@pytest.mark.parametrize("arguments", [("--list-settings", "--json"), ("--json", "--list-settings")])
def test_settings_are_listed_as_json_in_either_order_of_the_options(arguments: tuple[str, ...]) -> None:
    settings = {setting["name"]: setting for setting in json.loads(listed(*arguments))}
    assert set(settings) == set(PolicySettings.__struct_fields__)
    assert settings["pooling"]["choices"] == ["max", "mean", "last"]
    assert settings["features"]["choices"][0] == "text"
    assert settings["final_tanh"]["choices"] == ["true", "false"]
    assert settings["lstm_window"]["choices"] == []
    assert settings["action_scale"]["default"] == [2.0, 2.0]
    assert {setting["standing"] for setting in settings.values()} == {"exact", "likely", "unknown"}
    assert "pure policy" in settings["final_tanh"]["default_by_layout"]


@pytest.mark.parametrize("width", [40, 80, 200])
def test_the_list_fits_the_terminal_and_shows_choices(width: int) -> None:
    lines = listed("--list-settings", COLUMNS=str(width)).splitlines()
    settings = lines[3:-2]  # but for the title and the example
    assert max(map(len, settings)) <= width
    assert "  choices  max, mean, last" in lines
    assert "--set pooling=mean" in "\n".join(lines[-4:])


def test_the_list_is_printed_where_only_ascii_can_be() -> None:
    for arguments in (("--list-settings",), ("--list-settings", "--json")):
        assert listed(*arguments, PYTHONIOENCODING="ascii").isascii()
    assert (
        json.loads(listed("--list-settings", "--json", PYTHONIOENCODING="ascii"))[-1]["default"]
        == "컵까지 가세요"
    )
