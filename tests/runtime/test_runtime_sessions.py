"""Which engine runs is chosen in the open, never by falling back."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

import pytest

from vla_edge.runtime.bundle import Bundle
from vla_edge.runtime.errors import EngineError, InputError
from vla_edge.runtime.sessions import open_session


def with_plan(folder: Path, name: str = "tensorrt-10.6.0-sm90.plan") -> Bundle:
    (folder / "plans").mkdir()
    (folder / "plans" / name).write_bytes(b"not really a plan")
    return Bundle.open(folder)


def test_without_plans_auto_is_onnxruntime_and_says_so(
    pristine_bundle: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.INFO, "vla_edge"):
        session = open_session(Bundle.open(pristine_bundle))
    assert session.identity.backend == "onnxruntime"
    assert "auto -> onnxruntime" in caplog.text
    assert "CPUExecutionProvider" in caplog.text


@pytest.mark.parametrize("name", ["tensorrt-10.6.0-sm90.plan", "tensorrt-rtx-1.2.0-sm89.plan", "mine.plan"])
def test_with_plans_that_cannot_run_auto_stops_instead_of_slowing_down(tiny_bundle: Path, name: str) -> None:
    with pytest.raises(EngineError) as raised:
        open_session(with_plan(tiny_bundle, name))
    assert "--backend onnxruntime" in raised.value.mend


def test_with_plans_onnxruntime_runs_when_asked_for(tiny_bundle: Path) -> None:
    assert open_session(with_plan(tiny_bundle), "onnxruntime").identity.backend == "onnxruntime"


def test_an_unknown_backend_lists_the_known_ones(pristine_bundle: Path) -> None:
    with pytest.raises(InputError) as raised:
        open_session(Bundle.open(pristine_bundle), "openvino")  # type: ignore[arg-type]
    assert raised.value.problem == "backend 'openvino' is not known."
    assert raised.value.mend == "Use one of auto, onnxruntime, tensorrt, tensorrt-rtx."


def test_an_unknown_option_lists_the_known_ones(pristine_bundle: Path) -> None:
    options: dict[str, Any] = {"thread": 2}
    with pytest.raises(InputError) as raised:
        open_session(Bundle.open(pristine_bundle), "onnxruntime", **options)
    assert raised.value.problem == "thread is no option of this engine."
    assert "threads, provider, device_index" in raised.value.mend


def test_options_reach_the_engine(pristine_bundle: Path) -> None:
    assert "(1 thread)" in open_session(Bundle.open(pristine_bundle), threads=1).identity.device
