"""Bundles with plans that TensorRT-RTX really built, and a GPU that is not here."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from fake_tensorrt import FakeDevice
from plan_builds import ADA, verifies
from plan_bundles import write_bundle

from vla_edge.export.build import build as build_module
from vla_edge.export.build.build import build_plan
from vla_edge.export.build.parts import streams
from vla_edge.export.build.target import Target
from vla_edge.runtime.bundle.bundle import Bundle
from vla_edge.runtime.engines.tensorrt.record import StreamTimes


@pytest.fixture(scope="session")
def built(tmp_path_factory: pytest.TempPathFactory) -> tuple[Bundle, Path]:
    """A bundle and its plan for SM 8.9. Do not write to it."""
    bundle = write_bundle(tmp_path_factory.mktemp("built") / "bundle")
    return bundle, build_plan(bundle, ADA).path


@pytest.fixture
def bundle(tmp_path: Path) -> Bundle:
    return write_bundle(tmp_path / "bundle")


@pytest.fixture
def with_gpu(monkeypatch: pytest.MonkeyPatch) -> Callable[[bool], None]:
    """Makes the builder believe that the target's GPU is here, and that verification passes or not."""
    inner = build_module.open_target

    def make(passed: bool) -> None:
        from contextlib import contextmanager

        @contextmanager
        def target_with_gpu(*arguments: Any, **named: Any) -> Any:
            with inner(*arguments, **named) as target:
                yield Target(target.library, target.machine, FakeDevice([], sm=89), "")

        monkeypatch.setattr(build_module, "open_target", target_with_gpu)
        monkeypatch.setattr(build_module, "verify_plan", verifies(passed))
        faster = StreamTimes(in_line_ms=2.0, side_by_side_ms=1.5)
        monkeypatch.setattr(streams, "_measured", lambda *arguments: faster)

    return make
