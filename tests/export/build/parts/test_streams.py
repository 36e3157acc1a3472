"""Side by side or in line: what was faster on this GPU is kept, and both figures are recorded."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest
from fake_tensorrt import FakeDevice
from plan_bundles import make_plan, write_bundle

from vla_edge.export.build.parts import streams
from vla_edge.export.build.parts.streams import settle_streams
from vla_edge.export.build.progress import Silent
from vla_edge.export.build.target import Target
from vla_edge.runtime.bundle.bundle import Bundle
from vla_edge.runtime.engines.tensorrt.library import Library
from vla_edge.runtime.engines.tensorrt.plan import PlanFile, read_record
from vla_edge.runtime.engines.tensorrt.record import StreamTimes
from vla_edge.runtime.errors import EngineError

TARGET = Target(Library("tensorrt", None, "10.6.0"), None, FakeDevice([]), "")  # type: ignore[arg-type]


@pytest.fixture
def bundle(tmp_path: Path) -> Bundle:
    return write_bundle(tmp_path / "bundle")


def plan_of(bundle: Bundle, *numbers: int) -> PlanFile:
    """A plan whose parts have these streams."""
    path = make_plan(bundle)
    record = read_record(path, bundle.folder)
    parts = tuple(
        msgspec.structs.replace(record.parts[0], name=f"p{at}", stream=number)
        for at, number in enumerate(numbers)
    )
    return PlanFile(path, msgspec.structs.replace(record, parts=parts), bundle.folder)


@pytest.fixture
def timed(monkeypatch: pytest.MonkeyPatch) -> tuple[dict[str, float], list[str]]:
    """Milliseconds by the session's option `streams`, and the order in which runs were timed."""
    ms: dict[str, float] = {"in line": 3.64, "recorded": 3.47}
    order: list[str] = []

    class Session:
        def __init__(self, bundle: Bundle, options: Any, **named: Any) -> None:
            self.streams = options.streams
            self.inputs = {spec.name: np.zeros(spec.shape, spec.dtype) for spec in bundle.manifest.inputs}

        def __enter__(self) -> Session:
            return self

        def __exit__(self, *_: object) -> None: ...

        def run(self) -> None:
            assert any(array.any() for array in self.inputs.values())  # a golden sample

        def run_engine_ms(self) -> float:
            order.append(self.streams)
            return ms[self.streams]

    monkeypatch.setattr(streams, "TensorRtSession", Session)
    return ms, order


@pytest.mark.parametrize(("beside_ms", "kept"), [(3.47, (0, 1, 0)), (3.64, (0, 0, 0)), (3.9, (0, 0, 0))])
def test_what_is_faster_is_kept_with_both_figures(
    bundle: Bundle, timed: tuple[dict[str, float], list[str]], beside_ms: float, kept: tuple[int, ...]
) -> None:
    timed[0]["recorded"] = beside_ms
    record = settle_streams(plan_of(bundle, 0, 1, 0), bundle, TARGET, "cuda-bindings", Silent())
    assert tuple(part.stream for part in record.parts) == kept
    assert record.streams == StreamTimes(in_line_ms=3.64, side_by_side_ms=beside_ms)


def test_both_are_timed_in_turn(bundle: Bundle, timed: tuple[dict[str, float], list[str]]) -> None:
    settle_streams(plan_of(bundle, 0, 1), bundle, TARGET, "cuda-bindings", Silent())
    changes = sum(one != other for one, other in zip(timed[1], timed[1][1:], strict=False))
    assert changes >= 10
    assert timed[1].count("in line") == timed[1].count("recorded")


def test_nothing_is_timed_where_no_two_parts_can_run_side_by_side(
    bundle: Bundle, timed: tuple[dict[str, float], list[str]]
) -> None:
    plan = plan_of(bundle, 0, 0)
    assert settle_streams(plan, bundle, TARGET, "cuda-bindings", Silent()) == plan.record
    assert not timed[1]


def test_without_a_gpu_parts_run_in_line(bundle: Bundle) -> None:
    target = Target(TARGET.library, TARGET.machine, None, "not here")
    record = settle_streams(plan_of(bundle, 0, 1), bundle, target, "cuda-bindings", Silent())
    assert [part.stream for part in record.parts] == [0, 0]
    assert record.streams is None


def test_a_plan_that_passed_is_kept_in_line_where_nothing_can_be_timed(
    bundle: Bundle, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As on a board whose memory does not hold two sessions at once."""

    class Told(Silent):
        def remark(self, text: str) -> None:
            remarks.append(text)

    def no_memory(*arguments: object, **named: object) -> None:
        raise EngineError("CUDA has no memory for another 3.4 GB.", "Free some.")

    remarks: list[str] = []
    monkeypatch.setattr(streams, "TensorRtSession", no_memory)
    record = settle_streams(plan_of(bundle, 0, 1), bundle, TARGET, "cuda-bindings", Told())
    assert [part.stream for part in record.parts] == [0, 0]
    assert record.streams is None
    (remark,) = remarks
    assert "could not be measured" in remark
    assert remark.endswith("CUDA has no memory for another 3.4 GB.")
