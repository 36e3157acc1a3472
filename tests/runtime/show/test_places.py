"""Where a drive may be shown, and what is refused before anything moves."""

from __future__ import annotations

from pathlib import Path

import pytest

from vla_edge.runtime.errors import InputError
from vla_edge.runtime.show.messages import Place
from vla_edge.runtime.show.places import place_of


@pytest.mark.parametrize(
    ("said", "where"),
    [
        ("rerun+http://laptop:9876/proxy", "rerun+http://laptop:9876/proxy"),
        ("rerun+http://laptop:9876", "rerun+http://laptop:9876/proxy"),
        ("rerun+http://[::1]:9876/", "rerun+http://[::1]:9876/proxy"),
    ],
)
def test_an_address_needs_no_path(said: str, where: str) -> None:
    assert place_of(said) == Place("address", where)


def test_a_file_is_taken_by_its_suffix(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert place_of("drive.rrd") == Place("file", str(tmp_path / "drive.rrd"))


def test_the_viewer_needs_a_screen(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DISPLAY", ":0")
    assert place_of("viewer") == Place("viewer")
    monkeypatch.delenv("DISPLAY")
    monkeypatch.delenv("WAYLAND_DISPLAY", raising=False)
    with pytest.raises(InputError, match="no screen to open the viewer on") as refused:
        place_of("viewer")
    assert "--show rerun+http://" in (refused.value.hint or "")


@pytest.mark.parametrize(
    ("said", "words"),
    [
        ("engines/policy-fp16", "engines/policy-fp16 is no place to show a drive"),
        ("http://laptop:9876", "is no address of a viewer"),
        ("rerun+http://laptop", "is no address of a viewer"),
        ("rerun+http://laptop:99999", "is no address of a viewer"),
        ("rerun+http://laptop:9876/other", "is no address of a viewer"),
        ("rerun+http://me:secret@laptop:9876", "is no address of a viewer"),
        ("nowhere/drive.rrd", "there is no folder nowhere"),
    ],
)
def test_what_is_no_place_is_refused(said: str, words: str) -> None:
    with pytest.raises(InputError, match=words.replace("+", r"\+")):
        place_of(said)
