"""Stages are measured in an engine that is built as a plan is, and thrown away."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from fake_tensorrt import FakeDevice
from plan_bundles import small_bundle

from vla_edge.export.build.options import BuildOptions
from vla_edge.export.build.progress import Silent
from vla_edge.export.build.stages import tapped_engine
from vla_edge.export.build.target import Target
from vla_edge.export.build.timing_cache import TimingCache
from vla_edge.runtime.bundle.bundle import Bundle
from vla_edge.runtime.engines.tensorrt.library import Library, load_library
from vla_edge.runtime.engines.tensorrt.record import Machine
from vla_edge.runtime.errors import EngineError, InputError, ResourceError


@pytest.fixture
def stages_target(monkeypatch: pytest.MonkeyPatch) -> tuple[Target, list[TimingCache]]:
    """A target whose builder only notes the timing cache that it is given."""
    given: list[TimingCache] = []

    def refuse(model: Path, target: Target, options: BuildOptions, cache: TimingCache, *_: object) -> None:
        given.append(cache)
        raise EngineError("the fake builder builds nothing.")

    monkeypatch.setattr("vla_edge.export.build.stages.build_engine", refuse)
    machine = Machine(backend="tensorrt", version="10.6.0", sm=87, gpu="Fake GPU", driver="")
    device = FakeDevice([])
    device.info = replace(device.info, integrated=False)
    return Target(Library("tensorrt", None, "10.6.0"), machine, device, ""), given


def test_stages_are_built_with_the_kernel_times_of_the_plan(
    tmp_path: Path, stages_target: tuple[Target, list[TimingCache]]
) -> None:
    (target, given), bundle = stages_target, small_bundle(tmp_path / "bundle")
    with (
        pytest.raises(EngineError, match="builds nothing"),
        tapped_engine(bundle, [], target, BuildOptions(ignore_memory=True), Silent()),
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
        tapped_engine(bundle, [], target, BuildOptions(ignore_memory=True), Silent()),
    ):
        pass
    assert not given


@pytest.fixture
def chains(monkeypatch: pytest.MonkeyPatch) -> list[tuple[list[str], list[str], bool]]:
    """For each chain that is opened: its plans, the outputs asked for, and whether the GPU was open then."""
    opened: list[tuple[list[str], list[str], bool]] = []

    @contextmanager
    def open_chain(library: Any, device: Any, plans: Any, *, outputs: Any, graph: bool) -> Iterator[str]:
        assert all(plan.stat().st_size for plan in plans)
        opened.append(
            ([plan.name.split(".")[-3] for plan in plans], list(outputs), device.log[-1:] == ["open"])
        )
        yield "a runner"

    monkeypatch.setattr("vla_edge.export.build.stages.open_chain", open_chain)
    return opened


@pytest.fixture
def hybrid(bundle_of: Callable[..., Path], tmp_path: Path) -> Bundle:
    shutil.copytree(bundle_of("hybrid-a", "transformers", "fp16"), tmp_path / "bundle")
    return Bundle.open(tmp_path / "bundle")


def rtx(integrated: bool) -> Target:
    """As if the GPU of SM 8.9 were here."""
    library = load_library("tensorrt-rtx")
    device = FakeDevice([], sm=89)
    device.info = replace(device.info, integrated=integrated)
    machine = Machine(backend="tensorrt-rtx", version=library.version, sm=89, gpu=None, driver=None)
    return Target(library, machine, device, "")


def test_each_part_returns_the_stages_that_it_makes(
    hybrid: Bundle, chains: list[tuple[list[str], list[str], bool]]
) -> None:
    taps = [stage.tensor for stage in hybrid.manifest.stages]
    options = BuildOptions(backend="tensorrt-rtx", parts=4)
    with tapped_engine(hybrid, taps, rtx(False), options, Silent()) as runner:
        assert runner == "a runner"
    ((plans, outputs, _),) = chains
    assert len(plans) == 4
    assert outputs == list(dict.fromkeys(["actions", *taps]))
    assert not list(hybrid.folder.glob(".*"))  # nothing is kept
    assert not (hybrid.folder / "plans").exists()


def test_a_board_s_gpu_is_closed_while_stages_are_built(
    hybrid: Bundle, chains: list[tuple[list[str], list[str], bool]], monkeypatch: pytest.MonkeyPatch
) -> None:
    def open_again(index: int, memory: str) -> FakeDevice:
        device = FakeDevice(target.device.log, sm=89)
        device.log.append("open")
        return device

    target: Any = rtx(True)
    monkeypatch.setattr("vla_edge.export.build.stages.open_device", open_again)
    options = BuildOptions(backend="tensorrt-rtx", parts=2)
    with tapped_engine(hybrid, [], target, options, Silent()):
        assert target.device.log == ["close device", "open"]
    assert chains[0][2]
    assert target.device.log == ["close device", "open", "close device"]


def test_a_tensor_that_no_part_makes_is_refused(
    hybrid: Bundle, chains: list[tuple[list[str], list[str], bool]]
) -> None:
    options = BuildOptions(backend="tensorrt-rtx", parts=2)
    with (
        pytest.raises(InputError, match="The network has no tensor nowhere"),
        tapped_engine(hybrid, ["nowhere"], rtx(False), options, Silent()),
    ):
        pass
    assert not chains
