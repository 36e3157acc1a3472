"""Stages are measured in an engine that is built as a plan is, and thrown away."""

from __future__ import annotations

from pathlib import Path

import pytest
from fake_tensorrt import FakeDevice
from plan_bundles import small_bundle

from vla_edge.export.build.options import BuildOptions
from vla_edge.export.build.progress import Silent
from vla_edge.export.build.stages import tapped_engine
from vla_edge.export.build.target import Target
from vla_edge.export.build.timing_cache import TimingCache
from vla_edge.runtime.engines.tensorrt.library import Library
from vla_edge.runtime.engines.tensorrt.record import Machine
from vla_edge.runtime.errors import EngineError, ResourceError


@pytest.fixture
def stages_target(monkeypatch: pytest.MonkeyPatch) -> tuple[Target, list[TimingCache]]:
    """A target whose builder only notes the timing cache that it is given."""
    given: list[TimingCache] = []

    def refuse(model: Path, target: Target, options: BuildOptions, cache: TimingCache, *_: object) -> None:
        given.append(cache)
        raise EngineError("the fake builder builds nothing.")

    monkeypatch.setattr("vla_edge.export.build.stages.build_engine", refuse)
    machine = Machine(backend="tensorrt", version="10.6.0", sm=87, gpu="Fake GPU", driver="")
    return Target(Library("tensorrt", None, "10.6.0"), machine, FakeDevice([]), ""), given


def test_stages_are_built_with_the_kernel_times_of_the_plan(
    tmp_path: Path, stages_target: tuple[Target, list[TimingCache]]
) -> None:
    (target, given), bundle = stages_target, small_bundle(tmp_path / "bundle")
    with (
        pytest.raises(EngineError, match="builds nothing"),
        tapped_engine(bundle, [], target, BuildOptions(), Silent()),
    ):
        pass
    assert [cache.path for cache in given] == [bundle.folder / "plans" / "tensorrt-10.6.0-sm87.timing"]
    assert not (bundle.folder / "plans").exists()


def test_stages_are_not_built_without_room(
    tmp_path: Path, stages_target: tuple[Target, list[TimingCache]], monkeypatch: pytest.MonkeyPatch
) -> None:
    (target, given), bundle = stages_target, small_bundle(tmp_path / "bundle")
    usage = type("Usage", (), {"free": 1 << 20})
    monkeypatch.setattr("vla_edge.export.build.memory.shutil.disk_usage", lambda path: usage)
    with (
        pytest.raises(ResourceError, match="Not enough disk"),
        tapped_engine(bundle, [], target, BuildOptions(), Silent()),
    ):
        pass
    assert not given
