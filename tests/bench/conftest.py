"""A tiny bundle, a job for it, and workers with planted faults."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import pytest

from vla_edge.bench.measure.jobs import Job
from vla_edge.bench.options.options import Options

PLANTED_WORKER = Path(__file__).parents[1] / "support" / "planted_worker.py"

SHORT = Options(device="cpu", threads=1, runs=30, seconds=1.0, warmup=3, rate_hz=None, quick=True)


class Quiet:
    """Progress that remembers."""

    def __init__(self) -> None:
        self.begun: list[str] = []
        self.phases: list[str] = []

    def begin(self, bundle: str, backend: str) -> None:
        self.begun.append(backend)

    def phase(self, phase: str) -> None:
        self.phases.append(phase)

    def end(self, row: Any) -> None:
        pass


@pytest.fixture
def quiet() -> Quiet:
    return Quiet()


@pytest.fixture(scope="session")
def bundle(bundle_of: Callable[..., Path]) -> Path:
    """The pure policy in FP32: exact, so that any planted fault misses its gate. Do not write to it."""
    return bundle_of("pure", "none", "fp32")


@pytest.fixture
def job(bundle: Path) -> Job:
    """A short job on the ONNX Runtime engine."""
    return Job(
        backend="onnxruntime",
        bundle=str(bundle),
        options=SHORT,
        frame=(48, 64),
    )


@pytest.fixture
def options(bundle: Path) -> Callable[..., Options]:
    """Options of a short run on the ONNX Runtime engine."""

    def make(**changes: Any) -> Options:
        values = {"engines": bundle, "backends": ("onnxruntime",), **changes}
        values["engines"] = str(values["engines"])
        values["images"] = tuple(map(str, values.get("images", ())))
        return msgspec.structs.replace(SHORT, **values)

    return make


@pytest.fixture
def planted() -> Callable[[str], tuple[str, ...]]:
    """The command of a worker with a fault."""
    return lambda fault: (sys.executable, str(PLANTED_WORKER), fault)
