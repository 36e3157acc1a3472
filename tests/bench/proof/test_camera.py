"""A frame's way to an action is timed in each way, all in turn."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest
from tiny_bundle import Tiny, write_bundle

from vla_edge.bench.proof.camera import (
    COPIED,
    ENGINE,
    IN_PLACE,
    PILLOW,
    PLAIN_ENGINE,
    camera,
    command,
)
from vla_edge.runtime.command.console import run_command
from vla_edge.runtime.errors import InputError

BACKEND = "onnxruntime"


@pytest.fixture
def bundles(tmp_path: Path) -> tuple[Path, Path, Path]:
    """Two with cameras, then the plain one."""
    kinds = (
        Tiny(name="wide", camera=(48, 64, "rgb")),
        Tiny(name="upright", camera=(40, 24, "bgr")),
        Tiny(name="plain"),
    )
    wide, upright, plain = (write_bundle(tmp_path / kind.name, kind) for kind in kinds)
    return wide, upright, plain


def test_every_way_of_each_camera_is_timed_as_often(bundles: tuple[Path, Path, Path]) -> None:
    *cameras, plain = bundles
    found = camera(cameras, plain, BACKEND, rounds=3, calls=4)
    assert [(each.height, each.width, each.channels) for each in found.cameras] == [
        (48, 64, "rgb"),
        (40, 24, "bgr"),
    ]
    assert not found.gpu
    for each in found.cameras:
        assert list(each.ways) == [IN_PLACE, COPIED, ENGINE, PILLOW, PLAIN_ENGINE]
        assert {way.latency.runs for way in each.ways.values()} == {12}
        assert min(way.cpu_ms for way in each.ways.values()) > 0
        assert [name for name, way in each.ways.items() if way.above_engine_ms is None] == [
            ENGINE,
            PLAIN_ENGINE,
        ]
        assert each.apart < 0.02  # the tiny graph resizes without Pillow's rounding
        assert each.unit == "m/s"


def test_the_answer_comes_first_and_says_where_it_ran(
    bundles: tuple[Path, Path, Path], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = [*map(str, bundles), "--backend", BACKEND, "--rounds", "1", "--calls", "2"]
    shown = _run(arguments, monkeypatch, capsys)
    assert shown.startswith("From a frame of 48x64 to an action: ")
    assert "no GPU here" in shown
    assert "2 calls each, in turn" in shown
    told = json.loads(_run([*arguments, "--json"], monkeypatch, capsys))
    assert [each["bundle"] for each in told["cameras"]] == ["wide", "upright"]


def test_bundles_in_another_order_are_refused(bundles: tuple[Path, Path, Path]) -> None:
    wide, upright, plain = bundles
    with pytest.raises(InputError, match="'upright' has a camera"):
        camera([wide], upright, BACKEND, 1, 1)
    with pytest.raises(InputError, match="'plain' has no camera"):
        camera([plain], plain, BACKEND, 1, 1)


def _run(arguments: list[str], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> str:
    monkeypatch.setattr(sys, "argv", ["camera", *arguments])
    with pytest.raises(SystemExit) as left:
        run_command(command)
    assert left.value.code == 0
    return capsys.readouterr().out
