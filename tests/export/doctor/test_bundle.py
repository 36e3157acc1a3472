"""A bundle on a machine: its files, its plans, and its golden samples run again."""

from __future__ import annotations

import json
import re
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from fake_tensorrt import FakeDevice, FakeTensorRt, fake_library
from plan_bundles import make_plan, small_bundle, write_bundle
from planted_machines import laptop, orin

from vla_edge.export.doctor.checks.bundle import check_bundle, pending_build
from vla_edge.export.doctor.checks.plans import check_plans
from vla_edge.export.doctor.checks.samples import check_samples
from vla_edge.export.doctor.finding import Finding
from vla_edge.export.doctor.machine import Library, Machine
from vla_edge.runtime.bundle.bundle import Bundle
from vla_edge.runtime.engines.tensorrt.plan_names import record_path
from vla_edge.runtime.engines.tensorrt.session import TensorRtOptions, TensorRtSession


def examined(folder: Path, machine: Machine, samples: bool = True) -> dict[str, Finding]:
    found = [*check_bundle(folder, machine)]
    if samples and all(finding.verdict == "ok" for finding in found):
        found += check_samples(folder)
    return {finding.id: finding for finding in found}


@pytest.fixture
def bundle(tmp_path: Path) -> Bundle:
    return write_bundle(tmp_path / "tiny")


@pytest.fixture
def tensorrt_is_here(monkeypatch: pytest.MonkeyPatch) -> None:
    """For whoever only asks whether the module is found, and for a GPU."""
    monkeypatch.setitem(sys.modules, "tensorrt", ModuleType("tensorrt"))
    monkeypatch.setattr("vla_edge.runtime.engines.choice.has_nvidia_gpu", lambda: True)


def edit(bundle: Bundle, **changes: Any) -> None:
    path = bundle.folder / "manifest.json"
    manifest = json.loads(path.read_text(encoding="utf-8"))
    path.write_text(json.dumps({**manifest, **changes}), encoding="utf-8")


def test_a_sound_bundle_runs_on_onnx_runtime(bundle: Bundle, tmp_path: Path) -> None:
    found = examined(bundle.folder, laptop(tmp_path))
    assert {finding.verdict for finding in found.values()} == {"ok"}
    assert found["files"].found.startswith("tiny: 3 files, 0.")
    assert found["files"].found.endswith("MiB, all as exported")
    assert found["plan"].found == "none; ONNX Runtime runs the graph on the CPU"
    assert found["samples"].found.startswith("ONNX Runtime 1.")
    assert re.search(
        r" here: action within \S+ m/s of 0\.02 m/s allowed, .+ \(8 samples\);", found["samples"].found
    )


def test_what_the_export_measured_stands_beside_what_this_engine_gives(tmp_path: Path) -> None:
    gate = {"stage": "action", "metric": "max_abs", "limit": 0.02}
    error = {"stage": "action", "relative_l2": 0.001, "max_abs": 0.0053}
    parity = {
        "reference": "PyTorch FP32 policy", "engine": "onnxruntime 1.31.1 CPU, FP16 rounding explicit", "samples": 10,
        "gates": [gate], "errors": [error], "max_abs": 0.0053,
    }  # fmt: skip
    bundle = write_bundle(tmp_path / "tiny", parity=parity)
    assert examined(bundle.folder, laptop(tmp_path))["samples"].found.endswith(
        "(8 samples); the export measured 0.0053 m/s, by onnxruntime 1.31.1 CPU, FP16 rounding explicit (10 images)"
    )


def test_a_changed_file_stops_and_nothing_of_it_is_run(bundle: Bundle, tmp_path: Path) -> None:
    data = bundle.folder / "model.onnx.data"
    data.write_bytes(bytes([data.read_bytes()[0] ^ 1]) + data.read_bytes()[1:])
    found = examined(bundle.folder, laptop(tmp_path))
    assert [*found] == ["files"]
    assert found["files"].verdict == "stops"
    assert "model.onnx.data was changed" in found["files"].found
    assert "copy it again" in found["files"].todo


def test_a_graph_that_no_policy_feeds_stops(bundle: Bundle, tmp_path: Path) -> None:
    inputs = json.loads((bundle.folder / "manifest.json").read_text(encoding="utf-8"))["inputs"]
    edit(bundle, inputs=[{**each, "role": "other"} for each in inputs])
    found = examined(bundle.folder, laptop(tmp_path))
    assert [*found] == ["files"]
    assert found["files"].verdict == "stops"
    assert "a policy needs pixels" in found["files"].found


def test_a_manifest_that_is_damaged_stops(bundle: Bundle, tmp_path: Path) -> None:
    (bundle.folder / "manifest.json").write_text("{")
    assert "manifest.json is not JSON" in examined(bundle.folder, laptop(tmp_path))["files"].found
    assert pending_build(bundle.folder, orin(tmp_path)) is None


def test_a_family_that_is_not_installed_is_named_and_not_needed(bundle: Bundle, tmp_path: Path) -> None:
    edit(bundle, architecture={"family": "octo", "values": {}})
    found = examined(bundle.folder, laptop(tmp_path), samples=False)
    assert found["files"].verdict == "ok"
    assert found["files"].found.endswith("; its family octo is not installed here, nor needed to run it")


def test_samples_that_miss_a_gate_stop(bundle: Bundle, tmp_path: Path) -> None:
    gate = {"stage": "action", "metric": "max_abs", "limit": 1e-9}
    parity = {"reference": "", "engine": "", "samples": 8, "gates": [gate], "errors": [], "max_abs": 0}
    edit(bundle, parity=parity, action={**action(bundle), "scale": [2.5, 2.5]})
    golden_off(bundle)
    found = examined(bundle.folder, laptop(tmp_path))["samples"]
    assert found.verdict == "stops"
    assert "misses a gate: action" in found.found
    assert found.todo == f"Do not drive with it. vla-bisect {bundle.folder} finds where it goes wrong."


def action(bundle: Bundle) -> dict[str, Any]:
    manifest = json.loads((bundle.folder / "manifest.json").read_text(encoding="utf-8"))
    return dict(manifest["action"])


def golden_off(bundle: Bundle) -> None:
    """Golden actions that no engine gives, and the manifest's hash of them."""
    import hashlib

    import numpy as np

    path = bundle.folder / "golden.npz"
    with np.load(path) as stored:
        arrays = dict(stored)
    arrays["actions"] = arrays["actions"] + 0.5
    np.savez(path, **arrays)
    manifest = json.loads((bundle.folder / "manifest.json").read_text(encoding="utf-8"))
    data = path.read_bytes()
    for entry in manifest["files"]:
        if entry["path"] == "golden.npz":
            entry.update(size_bytes=len(data), sha256=hashlib.sha256(data).hexdigest())
    (bundle.folder / "manifest.json").write_text(json.dumps(manifest), encoding="utf-8")


@pytest.mark.usefixtures("tensorrt_is_here")
def test_a_plan_that_fits_is_told_and_no_build_is_pending(tmp_path: Path) -> None:
    bundle, machine = small_bundle(tmp_path / "small"), orin(tmp_path)
    assert pending_build(bundle.folder, machine) is not None
    make_plan(bundle, version="10.3.0")
    (finding,) = check_plans(bundle.folder, machine)
    assert (finding.verdict, finding.found) == (
        "ok",
        "tensorrt-10.3.0-sm87.plan (TensorRT 10.3.0, SM 8.7, 0.0 MiB) fits; checked at an unknown time",
    )
    assert pending_build(bundle.folder, machine) is None


@pytest.mark.usefixtures("tensorrt_is_here")
@pytest.mark.parametrize(
    ("plan", "words", "todo"),
    [
        ({"version": "10.7.0"}, "no plan for tensorrt 10.3.0 on SM 8.7", "vla-build "),
        ({"version": "10.3.0", "sm": 89}, "it has tensorrt-10.3.0-sm89.plan", "vla-build "),
        ({"version": "10.3.0", "passed": None}, "was never checked", "vla-build --verify "),
        ({"version": "10.3.0", "passed": False}, "missed its gates", "vla-build "),
    ],
)
def test_a_plan_of_another_machine_stops(tmp_path: Path, plan: dict[str, Any], words: str, todo: str) -> None:
    bundle = small_bundle(tmp_path / "small")
    make_plan(bundle, **plan)
    finding, *_ = check_plans(bundle.folder, orin(tmp_path))
    assert finding.verdict == "stops"
    assert words in finding.found
    assert todo in finding.todo


@pytest.mark.usefixtures("tensorrt_is_here")
def test_plans_without_a_gpu_that_answers_stop(tmp_path: Path) -> None:
    bundle = small_bundle(tmp_path / "small")
    make_plan(bundle, version="10.3.0")
    (finding,) = check_plans(bundle.folder, orin(tmp_path, gpu=None, gpu_problem="the driver hangs"))
    assert (finding.verdict, finding.found) == (
        "stops",
        "tensorrt-10.3.0-sm87.plan (TensorRT 10.3.0, SM 8.7, 0.0 MiB): whole, but no GPU answers here: "
        "the driver hangs",
    )
    assert finding.todo.startswith("The row GPU says what to do.")


def test_a_robot_without_a_plan_is_told_to_build(tmp_path: Path) -> None:
    bundle = small_bundle(tmp_path / "small")
    (finding,) = check_plans(bundle.folder, orin(tmp_path))
    assert (finding.verdict, finding.todo) == ("stops", f"vla-build {bundle.folder}")
    libraries = {"tensorrt": Library(version="10.3.0"), "onnxruntime": Library(version="1.23")}
    (finding,) = check_plans(bundle.folder, orin(tmp_path, libraries=libraries))
    assert (finding.verdict, finding.found) == ("warning", "none: the policy runs on the CPU, slowly")


@pytest.mark.usefixtures("tensorrt_is_here")
def test_a_plan_whose_library_does_not_load_stops(tmp_path: Path) -> None:
    bundle = small_bundle(tmp_path / "small")
    make_plan(bundle)
    broken = Library(problem="TensorRT 8.6.2 is too old.", hint="Move to TensorRT 10.3.")
    finding, *_ = check_plans(bundle.folder, orin(tmp_path, libraries={"tensorrt": broken}))
    assert (finding.verdict, finding.found) == ("stops", "it cannot run: TensorRT 8.6.2 is too old.")
    assert finding.todo == "Move to TensorRT 10.3."


def test_a_machine_without_any_engine_is_told(tmp_path: Path) -> None:
    bundle = small_bundle(tmp_path / "small")
    (finding,) = check_plans(bundle.folder, laptop(tmp_path, libraries={}))
    assert (finding.verdict, finding.found) == ("stops", "none, and no engine that runs here")


def test_a_folder_with_a_blank_is_quoted_in_commands(tmp_path: Path) -> None:
    bundle = small_bundle(tmp_path / "my bundle")
    (finding,) = check_plans(bundle.folder, orin(tmp_path))
    assert finding.todo == f"vla-build '{bundle.folder}'"


def test_a_rejected_plan_is_told(tmp_path: Path) -> None:
    bundle = small_bundle(tmp_path / "small")
    plan = make_plan(bundle)
    for path in (plan, record_path(plan)):
        path.rename(path.with_name(path.name.replace(".plan", ".plan.rejected")))
    rejected, _ = check_plans(bundle.folder, laptop(tmp_path))
    assert rejected.verdict == "warning"
    assert rejected.found == "tensorrt-10.6.0-sm87.plan.rejected missed its gates and is not used"
    assert f"vla-bisect {bundle.folder}" in rejected.todo


def test_samples_run_on_a_plan_too(bundle: Bundle, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The fake engine adds its inputs up, which is not this policy."""
    make_plan(bundle)
    device = FakeDevice([])
    library = fake_library(FakeTensorRt(device, bundle.manifest))
    monkeypatch.setattr(
        "vla_edge.export.doctor.checks.samples.open_session",
        lambda opened: TensorRtSession(opened, TensorRtOptions(), library=library, device=device),
    )
    monkeypatch.setattr("vla_edge.export.doctor.checks.bundle.check_plans", lambda folder, machine: iter(()))
    found = examined(bundle.folder, orin(tmp_path))["samples"]
    assert found.verdict == "stops"
    assert found.found.startswith("TensorRT 10.6.0 misses a gate: action ")
    assert device.live == {}
