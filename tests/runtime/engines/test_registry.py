"""One list of engines: what is entered there is offered, chosen, looked at and opened everywhere."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from vla_edge.runtime.bundle.bundle import Bundle
from vla_edge.runtime.command.extras import EXTRA_OF
from vla_edge.runtime.engines.choice import choose_backend, open_session, unread_files
from vla_edge.runtime.engines.registry import ENGINES, Engine

# An engine of somebody else: NumPy, and the same action always.
STEADY = """
import numpy as np
from vla_edge.runtime.engines.registry import ENGINES, Engine
from vla_edge.runtime.engines.session import EngineIdentity, nothing

class SteadySession:
    def __init__(self, bundle, options):
        manifest = bundle.manifest
        self.inputs = {spec.name: np.zeros(spec.shape, spec.dtype) for spec in manifest.inputs}
        self.outputs = {spec.name: np.full(spec.shape, 0.25, spec.dtype) for spec in manifest.outputs}
        self.identity = EngineIdentity("steady", "1.0", "cpu", "none", "fp32", "fp32", bundle.identity)
    def run(self, host_work=nothing): host_work()
    def close(self): pass

ENGINES["steady"] = Engine(
    name="steady", label="Steady", package="numpy", reads="graph", devices=("cpu",),
    load_library=lambda: "1.0", open=SteadySession,
)
"""


def python(code: str, *arguments: object) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-c", STEADY + code, *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, check=False)


@pytest.fixture
def picture(tmp_path: Path, frame: object) -> Path:
    from PIL import Image

    Image.fromarray(frame).save(tmp_path / "frame.png")
    return tmp_path / "frame.png"


def test_an_engine_in_the_registry_runs_bundles(pristine_bundle: Path, picture: Path) -> None:
    run = "from vla_edge.runtime.run.cli import main; main()"
    assert "onnxruntime|tensorrt|tensorrt-rtx|steady]" in python(run, "-h").stdout
    done = python(run, pristine_bundle, picture, "--backend", "steady", "--json")
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["engine"]["backend"] == "steady"


def test_an_engine_in_the_registry_is_looked_at_and_benched(pristine_bundle: Path) -> None:
    look = "from vla_edge.export.inspect.cli import main; main()"
    assert "Steady 1.0" in python(look, pristine_bundle).stdout
    code = "from vla_edge.bench.backends.load import BACKEND_NAMES; print(BACKEND_NAMES)"
    assert "'steady'" in python(code).stdout


def test_an_engine_that_reads_plans_is_chosen_for_its_plans(
    tiny_bundle: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    opened: list[str] = []
    engine = ENGINES["tensorrt-rtx"]
    planned = Engine(
        name=engine.name,
        label=engine.label,
        package="numpy",
        reads="plans",
        devices=("cuda",),
        load_library=lambda: "1",
        open=lambda bundle, options: opened.append(bundle.manifest.name),  # type: ignore[arg-type,func-returns-value]
    )
    monkeypatch.setitem(ENGINES, "tensorrt-rtx", planned)
    monkeypatch.setattr("vla_edge.runtime.engines.choice.has_nvidia_gpu", lambda: True)
    (tiny_bundle / "plans").mkdir()
    (tiny_bundle / "plans" / "tensorrt-rtx-1.2.0-sm89.plan").touch()
    bundle = Bundle.open(tiny_bundle)
    assert choose_backend(bundle) == "tensorrt-rtx"
    with pytest.raises(AttributeError):  # what it opened is no session
        open_session(bundle)
    assert opened == [bundle.manifest.name]
    assert "model.onnx" in unread_files(bundle, "auto")


@pytest.mark.parametrize("engine", ENGINES.values(), ids=ENGINES)
def test_every_engine_says_what_installs_it(engine: Engine) -> None:
    assert EXTRA_OF[engine.package] == engine.name
