"""A second family, in a distribution of its own: every command takes it, and nothing in the tree knows of it."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import torch

TOY = Path(__file__).parent / "toy"
TREE = Path(__file__).parents[2]
PHOTOGRAPH = TREE / "export" / "images" / "coffee.jpg"
MOST_LINES = 150
TIME_LIMIT_S = 300


def run(command: str, *arguments: str | Path, with_toy: bool = True) -> str:
    places = {"vla-run": "runtime.run.cli", "vla-export": "export.cli", "vla-bench": "bench.cli"}
    name = places.get(command, f"export.{command[4:]}.cli")
    environment = {key: value for key, value in os.environ.items() if key != "PYTHONPATH"}
    done = subprocess.run(
        [sys.executable, "-m", f"vla_edge.{name}", *map(str, arguments)],
        capture_output=True,
        text=True,
        timeout=TIME_LIMIT_S,
        env={**environment, **({"PYTHONPATH": str(TOY)} if with_toy else {})},
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    torch.manual_seed(0)
    weights = {"module.joints.weight": torch.randn(6, 3 * 16**2) / 16, "module.joints.bias": torch.zeros(6)}
    path = tmp_path_factory.mktemp("toy") / "arm.pth"
    torch.save({"model_state_dict": weights, "epoch": 3}, path)
    return path


@pytest.fixture(scope="module")
def bundle(checkpoint: Path) -> Path:
    out = checkpoint.parent / "engines"
    shown = run("vla-export", "--ckpt", checkpoint, "--fp16", "--no-build", "-o", out)
    assert " rad of 0.01 rad allowed" in shown
    assert "m/s" not in shown
    return out / "arm-fp16"


def test_a_checkpoint_is_recognised_among_the_families(checkpoint: Path) -> None:
    shown = run("vla-inspect", checkpoint)
    assert "toy: joints.weight reads an image of 16 x 16" in shown
    assert "own" in shown


def test_its_bundle_tells_its_units_its_steps_and_its_architecture(bundle: Path) -> None:
    shown = run("vla-inspect", bundle)
    assert "action: pan ±1.5, tilt ±1.5 rad" in shown
    assert "out: actions float32 [1, 3, 2]" in shown
    assert "m/s" not in shown
    manifest = json.loads((bundle / "manifest.json").read_text())
    assert manifest["architecture"] == {"family": "toy", "values": {"side": 16}}
    assert manifest["prompt"] is None
    assert manifest["precision"]["float32_islands"] == []


def test_a_robot_runs_it_without_the_family(bundle: Path) -> None:
    assert "pan rad  tilt rad" in run(
        "vla-run", bundle, PHOTOGRAPH, "--backend", "onnxruntime", with_toy=False
    )
    told = json.loads(
        run("vla-run", bundle, PHOTOGRAPH, "--json", "--backend", "onnxruntime", with_toy=False)
    )
    assert told["units"] == {"pan": "rad", "tilt": "rad"}
    assert [len(step) for step in told["chunk"]] == [2, 2, 2]


def test_a_robot_builds_and_inspects_it_without_the_family(bundle: Path) -> None:
    pytest.importorskip("tensorrt_rtx")
    built = run("vla-build", bundle, "--backend", "tensorrt-rtx", "--sm", "89", with_toy=False)
    assert "-sm89.plan" in built
    assert "plans: 1" in run("vla-inspect", bundle, with_toy=False)


def test_it_is_timed_beside_pytorch_with_and_without_its_checkpoint(
    bundle: Path, checkpoint: Path, tmp_path: Path
) -> None:
    backends = ("--backends", "torch-fp32", "--backends", "onnxruntime")
    rows = (*backends, "--quick", "--runs", "5", "--warmup", "1")
    shown = run("vla-bench", bundle, *rows, "--checkpoint", checkpoint, "--out", tmp_path / "report")
    assert "PyTorch FP32" in shown
    assert "ONNX Runtime FP16" in shown
    assert "error rad" in shown
    assert "m/s" not in shown + (tmp_path / "report" / "report.html").read_text(encoding="utf-8")
    alone = shutil.copytree(bundle, tmp_path / "a" / "b" / bundle.name)  # where no checkpoint is looked for
    assert re.search(r"PyTorch FP32 +ok +random", run("vla-bench", alone, *rows))


def test_all_of_it_is_short_and_the_tree_does_not_mention_it() -> None:
    files = [path for path in TOY.rglob("*") if path.is_file() and path.suffix != ".pyc"]
    lines = sum(len(path.read_text(encoding="utf-8").splitlines()) for path in files)
    assert lines < MOST_LINES
    rooms = (path for room in ("runtime", "export", "bench") for path in (TREE / room).rglob("*.py"))
    assert [path for path in rooms if "toy_family" in path.read_text(encoding="utf-8")] == []
