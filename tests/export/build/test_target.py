"""What a plan is built for, and which GPU is refused."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from types import SimpleNamespace

import pytest
from plan_builds import ADA

from vla_edge.export.build.build import build_plan, verify_existing
from vla_edge.export.build.options import BuildOptions
from vla_edge.export.build.progress import Silent
from vla_edge.export.build.stages import measure_stages
from vla_edge.export.build.target import open_target
from vla_edge.runtime.bundle.bundle import Bundle
from vla_edge.runtime.errors import EngineError, InputError


@pytest.mark.parametrize("sm", [50, 90])
def test_a_gpu_here_that_rtx_does_not_know_is_refused_as_by_its_number(
    monkeypatch: pytest.MonkeyPatch, sm: int
) -> None:
    closed: list[bool] = []
    gpu = SimpleNamespace(info=SimpleNamespace(sm=sm), close=lambda: closed.append(True))
    monkeypatch.setattr("vla_edge.export.build.target.open_device", lambda *_: gpu)
    with (
        pytest.raises(EngineError, match=f"does not build for SM {sm}") as caught,
        open_target("tensorrt-rtx", 0, "cuda-bindings", None),
    ):
        pass
    assert "use --backend tensorrt" in caught.value.hint
    assert closed


@pytest.mark.parametrize(
    ("work", "hinted"),
    [(build_plan, True), (verify_existing, False), (measure_stages, False)],
    ids=["build", "verify", "stages"],
)
def test_without_a_gpu_one_may_be_named_only_where_the_plan_is_kept(
    bundle: Bundle, monkeypatch: pytest.MonkeyPatch, work: Callable[..., object], hinted: bool
) -> None:
    def none(*_: object) -> None:
        raise EngineError("There is no NVIDIA driver on this machine.", "Install the driver.")

    monkeypatch.setattr("vla_edge.export.build.target.open_device", none)
    with pytest.raises(EngineError, match="no NVIDIA driver") as caught:
        work(bundle, BuildOptions(backend="tensorrt-rtx"), Silent())
    assert ("such as --sm 89" in caught.value.hint) == hinted


def test_a_capability_that_rtx_does_not_know_is_refused(bundle: Bundle) -> None:
    with pytest.raises(EngineError, match="does not build for SM 90") as caught:
        build_plan(bundle, replace(ADA, sm=90))
    assert "--backend tensorrt on them" in caught.value.hint


def test_tensorrt_proper_does_not_build_for_an_absent_gpu(bundle: Bundle) -> None:
    with pytest.raises(InputError, match="builds for the GPU that it runs on"):
        build_plan(bundle, BuildOptions(backend="tensorrt", sm=87))
