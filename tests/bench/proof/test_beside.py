"""Two engines in one process take turns, and what differs between them is found."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from vla_edge.bench.proof import beside as module
from vla_edge.bench.proof.beside import beside, command
from vla_edge.runtime.command.console import run_command

BundleOf = Callable[..., Path]


def test_a_bundle_beside_itself_gives_the_same_bits(bundle_of: BundleOf) -> None:
    folder = bundle_of("pure", "none", "fp32")
    found = beside((folder, folder), "onnxruntime", rounds=4, calls=5)
    assert found.differing == ()
    assert found.first.run.runs == found.second.run.runs == 20
    assert min(found.first.run.p50_ms, found.first.load_s, found.run_ratio) > 0
    assert (found.first.gpu, found.gpu_ratio, found.device_mib) == (None, None, {})


def test_an_output_of_another_precision_is_named(bundle_of: BundleOf) -> None:
    folders = (bundle_of("pure", "none", "fp32"), bundle_of("pure", "none", "fp16"))
    assert beside(folders, "onnxruntime", rounds=1, calls=1).differing == ("actions",)


def test_the_ratio_is_of_the_rounds_and_who_begins_takes_turns() -> None:
    asked: list[int] = []
    rounds = module._asked_in_turn([lambda: asked.append(0) or 1.0, lambda: asked.append(1) or 3.0], 2, 1)  # type: ignore[func-returns-value]
    assert module._ratio(rounds) == 3.0
    assert asked[-4:] == [0, 1, 1, 0]


def test_the_command_prints_json(
    bundle_of: BundleOf, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = str(bundle_of("pure", "none", "fp32"))
    options = ["--backend", "onnxruntime", "--rounds", "1", "--calls", "2"]
    monkeypatch.setattr(sys, "argv", ["beside", folder, folder, *options])
    with pytest.raises(SystemExit) as left:
        run_command(command)
    assert left.value.code == 0
    assert json.loads(capsys.readouterr().out)["differing"] == []
