"""Parts that TensorRT-RTX built, run as a plan by a session on a GPU that is made of host memory: checked and timed."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from fake_tensorrt import FakeDevice, FakeEngine, FakeRuntimeConfig, FakeTensorRt, fake_library
from plan_builds import ADA, left_in, verification

from vla_edge.export.build import build as build_module
from vla_edge.export.build import verify
from vla_edge.export.build.build import RejectedPlanError, build_plan, verify_existing
from vla_edge.export.build.parts import making
from vla_edge.export.build.target import Target
from vla_edge.runtime.bundle.bundle import Bundle
from vla_edge.runtime.engines.tensorrt.library import load_library
from vla_edge.runtime.engines.tensorrt.session import TensorRtOptions, TensorRtSession, machine_of


class Gpu:
    """A library whose engines have the tensors of the parts that were built."""

    def __init__(self, bundle: Bundle) -> None:
        self.device = FakeDevice([], sm=89)
        self.trt = FakeTensorRt(self.device, bundle.manifest, rtx=True)
        self.library = fake_library(self.trt, "tensorrt-rtx", load_library("tensorrt-rtx").version)
        self.target = Target(self.library, machine_of(self.library, self.device), self.device, "")

    def know(self, path: Path, part: Any) -> None:
        tensors = SimpleNamespace(inputs=part.inputs, outputs=part.outputs)
        engines = [FakeEngine(self.device, tensors, rtx=True) for _ in range(30)]
        for engine in engines:
            engine.create_runtime_config = FakeRuntimeConfig  # two sessions at once have one each
            engine.information = '{"Layers": [{"Name": "a", "LayerType": "gemm", "Outputs": []}]}'
        self.trt.engines[path.read_bytes()] = engines


@pytest.fixture
def bundle(bundle_of: Callable[..., Path], tmp_path: Path, each_part_once: None) -> Bundle:
    shutil.copytree(bundle_of("hybrid-a", "transformers", "fp16"), tmp_path / "engines" / "policy")
    return Bundle.open(tmp_path / "engines" / "policy")


@pytest.fixture
def gpu(bundle: Bundle, monkeypatch: pytest.MonkeyPatch) -> Gpu:
    found, inner = Gpu(bundle), making.make

    @contextmanager
    def opened(*arguments: Any, **named: Any) -> Iterator[Target]:
        yield found.target

    def known(part: Any, at: int, of: int, work: Any) -> Any:
        record = inner(part, at, of, work)
        found.know(work.staging / part.file, record)
        return record

    monkeypatch.setattr(build_module, "open_target", opened)
    monkeypatch.setattr(making, "make", known)
    # what fake engines answer is wrong, of course
    monkeypatch.setattr(verify, "judge", lambda *arguments: verification(True))
    return found


def test_a_set_is_checked_timed_and_described_as_one(bundle: Bundle, gpu: Gpu) -> None:
    record = build_plan(bundle, replace(ADA, parts=4)).record
    assert record.verification.passed
    assert record.streams is not None  # CLIP's tower may run beside the rest
    assert record.streams.in_line_ms == record.streams.side_by_side_ms == 1.5
    assert all(part.stream == 0 for part in record.parts)  # it gained nothing
    assert [part.contents.layers for part in record.parts] == [{"gemm": 1}] * 4
    caches = [f"{part.file}.runtime-cache" for part in record.parts]
    assert left_in(bundle) == sorted([*(part.file for part in record.parts), *caches, f"{record.plan}.json"])


def test_a_session_runs_what_was_put_in_place(bundle: Bundle, gpu: Gpu) -> None:
    build_plan(bundle, replace(ADA, parts=3))
    options = TensorRtOptions(backend="tensorrt-rtx")
    with TensorRtSession(bundle, options, library=gpu.library, device=gpu.device) as session:
        assert "in 3 parts" in session.identity.provider
        session.run()
    assert verify_existing(bundle, ADA).record.verification.passed


def test_another_set_replaces_it_with_its_caches(bundle: Bundle, gpu: Gpu) -> None:
    build_plan(bundle, replace(ADA, parts=4))
    record = build_plan(bundle, replace(ADA, parts=2)).record
    files = [part.file for part in record.parts]
    caches = [f"{file}.runtime-cache" for file in files]
    assert left_in(bundle) == sorted([*files, *caches, f"{record.plan}.json"])


def test_a_set_that_misses_a_gate_is_kept_under_other_names(
    bundle: Bundle, gpu: Gpu, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(verify, "judge", lambda *arguments: verification(False))
    with pytest.raises(RejectedPlanError) as caught:
        build_plan(bundle, replace(ADA, parts=2))
    assert caught.value.hint.endswith(f"vla-bisect {bundle.folder} --backend tensorrt-rtx --parts 2")
    assert sum(name.endswith(".part.rejected") for name in left_in(bundle)) == 2
    assert sum(name.endswith(".json") for name in left_in(bundle)) == 1
    assert len(left_in(bundle)) == 3
