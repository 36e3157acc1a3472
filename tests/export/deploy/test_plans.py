"""A deploy for TensorRT: plans that TensorRT-RTX really builds, for a GPU whose answers are made up."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from fake_tensorrt import FakeDevice
from packed_files import edited_bundle, packed_file
from plan_builds import verified as verified_as
from plan_bundles import write_bundle

from vla_edge.export.build import build as build_module
from vla_edge.export.build.build import RejectedPlanError
from vla_edge.export.build.options import BuildOptions
from vla_edge.export.build.parts import streams
from vla_edge.export.build.target import Target
from vla_edge.export.deploy import beforehand
from vla_edge.export.deploy.deploy import Deployment, DeployOptions, deploy
from vla_edge.export.packed.packed import open_packed
from vla_edge.runtime.bundle.bundle import Bundle
from vla_edge.runtime.engines.choice import choose_backend
from vla_edge.runtime.engines.tensorrt.plan import read_record
from vla_edge.runtime.engines.tensorrt.record import PlanRecord, StreamTimes
from vla_edge.runtime.errors import EngineError

pytest.importorskip("tensorrt_rtx")


@pytest.fixture
def gpu(monkeypatch: pytest.MonkeyPatch) -> Callable[[bool], list[str]]:
    """Makes the builder believe in a GPU of SM 8.9 whose samples pass or do not; tells the plans that ran."""
    inner, ran = build_module.open_target, list[str]()

    def make(passed: bool) -> list[str]:
        @contextmanager
        def target_with_gpu(backend: Any, device: int, memory: Any, sm: int | None, **named: Any) -> Any:
            with inner(backend, device, memory, 89, building=True) as target:
                yield Target(target.library, target.machine, FakeDevice([], sm=89), "")

        def verified(plan: Any, *arguments: Any) -> Any:
            ran.append(plan.path.name)
            return verified_as(passed, plan)

        for module in (build_module, beforehand):
            monkeypatch.setattr(module, "open_target", target_with_gpu)
        monkeypatch.setattr(build_module, "verify_plan", verified)
        times = StreamTimes(in_line_ms=2.0, side_by_side_ms=1.5)
        monkeypatch.setattr(streams, "_measured", lambda *arguments: times)
        return ran

    return make


def deployed(file: Path, root: Path, **building: Any) -> Deployment:
    with open_packed(file) as packed:
        return deploy(packed, root, DeployOptions("tensorrt-rtx", plan=BuildOptions(**building)))


def test_what_is_missing_is_built_and_what_is_there_is_run_again(
    gpu: Callable[[bool], list[str]], tmp_path: Path
) -> None:
    file = packed_file(write_bundle(tmp_path / "a").folder, tmp_path / "a.vla")
    ran = gpu(True)
    done = deployed(file, tmp_path / "root")
    (plan,) = (tmp_path / "root" / "current" / "plans").glob("*.plan")
    assert done.verification is not None
    assert done.verification.passed
    built = plan.stat().st_mtime_ns
    deployed(file, tmp_path / "root")
    assert ran == [plan.name, plan.name]
    assert plan.stat().st_mtime_ns == built


def test_a_plan_that_misses_its_gate_is_set_aside_and_the_current_policy_stays(
    gpu: Callable[[bool], list[str]], tmp_path: Path
) -> None:
    first = packed_file(write_bundle(tmp_path / "a", name="policy-a").folder, tmp_path / "a.vla")
    second = packed_file(write_bundle(tmp_path / "b", seed=1, name="policy-b").folder, tmp_path / "b.vla")
    gpu(True)
    deployed(first, tmp_path / "root")
    gpu(False)
    with pytest.raises(RejectedPlanError):
        deployed(second, tmp_path / "root")
    assert Bundle.open(tmp_path / "root" / "current").manifest.name == "policy-a"
    assert list((tmp_path / "root").glob("policy-b-*/plans/*.plan.rejected"))
    assert list((tmp_path / "root").rglob(".*")) == []


def test_the_current_one_again_that_misses_its_gate_keeps_its_plan_and_is_refused_until_a_check_passes(
    gpu: Callable[[bool], list[str]], tmp_path: Path
) -> None:
    root = tmp_path / "root"
    file = packed_file(write_bundle(tmp_path / "a").folder, tmp_path / "a.vla")
    gpu(True)
    deployed(file, root)
    before = sorted(path.name for path in root.rglob("*"))
    gpu(False)
    with pytest.raises(RejectedPlanError):
        deployed(file, root)
    assert sorted(path.name for path in root.rglob("*")) == before
    assert sole_record(root).verification.passed is False
    assert choose_backend(Bundle.open(root / "current")) == "tensorrt-rtx"  # which refuses it, in words
    gpu(True)
    deployed(file, root)
    assert sole_record(root).verification.passed


def test_a_plan_for_a_gpu_that_is_not_here_is_not_switched_to(tmp_path: Path) -> None:
    file = packed_file(write_bundle(tmp_path / "a").folder, tmp_path / "a.vla")
    with pytest.raises(EngineError, match=r"golden samples cannot run here: built for SM 8\.9") as caught:
        deployed(file, tmp_path / "root", sm=89)
    assert "--no-build" in caught.value.hint
    assert not (tmp_path / "root" / "current").is_symlink()
    assert not list((tmp_path / "root").rglob("*.plan"))


def test_an_update_of_the_head_builds_its_part_alone(
    gpu: Callable[[bool], list[str]], bundle_of: Callable[..., Path], tmp_path: Path
) -> None:
    gpu(True)
    before = bundle_of("hybrid-a", "transformers", "fp16")
    after = edited_bundle(before, tmp_path / "after", [(-64, bytes(range(64)))], "policy-2")
    deployed(packed_file(before, tmp_path / "all.vla"), tmp_path / "root", parts=4)
    first = sole_record(tmp_path / "root")
    deployed(packed_file(after, tmp_path / "update.vla", since=before), tmp_path / "root")
    record = sole_record(tmp_path / "root")
    assert [part.build.found_in is None for part in record.parts] == [False, False, False, True]
    assert [part.key for part in record.parts[:3]] == [part.key for part in first.parts[:3]]


def sole_record(root: Path) -> PlanRecord:
    (path,) = (root / "current" / "plans").glob("*.plan.json")
    return read_record(path.with_suffix(""), root / "current")
