"""A soak finds answers that change, and reports what it measured."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from vla_edge.bench.proof import soak as module
from vla_edge.bench.proof.soak import command, soak
from vla_edge.runtime.command.console import run_command
from vla_edge.runtime.engines.onnxruntime import OnnxRuntimeSession
from vla_edge.runtime.errors import InputError


@pytest.fixture(autouse=True)
def _few_calls(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "TIMED_CALLS", 20)
    monkeypatch.setattr(module, "SETTLING_CALLS", 2)


def test_a_sound_engine_gives_the_same_bits_at_every_call(bundle_of: Callable[..., Path]) -> None:
    report = soak(bundle_of("pure", "none", "fp32"), "onnxruntime", 30)
    assert report.differing == 0
    assert report.calls == 30
    assert report.act.runs == report.run.runs == 20
    assert min(report.act.p50_ms, report.act_in_place.p50_ms, report.run.p50_ms) > 0
    assert report.engine is None
    assert report.device_growth_kib is None
    assert "onnxruntime" in report.engine_identity


def test_an_answer_that_changes_in_one_bit_is_counted(
    bundle_of: Callable[..., Path],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    sound = OnnxRuntimeSession.run
    calls = 0

    def drifting(session: OnnxRuntimeSession, *host_work: object) -> None:
        nonlocal calls
        calls += 1
        sound(session, *host_work)
        if calls % 50 == 0:
            session.outputs["actions"].view("int32")[...] ^= 1

    monkeypatch.setattr(OnnxRuntimeSession, "run", drifting)
    folder = bundle_of("pure", "none", "fp32")
    monkeypatch.setattr(sys, "argv", ["soak", str(folder), "--backend", "onnxruntime", "--calls", "120"])
    with pytest.raises(SystemExit) as left:
        run_command(command)
    assert left.value.code == 1
    assert json.loads(capsys.readouterr().out)["differing"] >= 2


def test_auto_is_an_engine_too(bundle_of: Callable[..., Path]) -> None:
    report = soak(bundle_of("pure", "none", "fp32"), "auto", 1)
    assert "onnxruntime" in report.engine_identity
    assert report.device is None


def test_options_that_only_tensorrt_knows_are_refused_by_name(bundle_of: Callable[..., Path]) -> None:
    with pytest.raises(InputError, match="graph"):
        soak(bundle_of("pure", "none", "fp32"), "onnxruntime", 1, graph=False)
