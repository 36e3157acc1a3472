"""Plans that lie in a bundle are told one by one, whether a policy gets one of them here or not."""

from __future__ import annotations

import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from part_plans import make_parts_plan, two_streams
from plan_bundles import make_plan, small_bundle
from planted_machines import laptop, orin

from vla_edge.export.doctor.checks.plans import check_plans
from vla_edge.export.doctor.finding import Finding
from vla_edge.runtime.bundle.bundle import Bundle
from vla_edge.runtime.engines.tensorrt.plan_names import record_path

RTX = {"backend": "tensorrt-rtx", "version": "1.7.0", "sm": 89, "passed": None}


@pytest.fixture
def bundle(tmp_path: Path) -> Bundle:
    return small_bundle(tmp_path / "small")


@pytest.fixture
def tensorrt_is_here(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "tensorrt", ModuleType("tensorrt"))
    monkeypatch.setattr("vla_edge.runtime.engines.choice.has_nvidia_gpu", lambda: True)


@pytest.fixture
def no_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("vla_edge.runtime.engines.choice.has_nvidia_gpu", lambda: False)


def on_laptop(bundle: Bundle, tmp_path: Path) -> tuple[Finding, Finding]:
    first, second = check_plans(bundle.folder, laptop(tmp_path))
    return first, second


def in_parts(bundle: Bundle, **options: Any) -> tuple[Path, Path]:
    """A plan in four parts, and the file of the second."""
    plan = make_parts_plan(bundle, two_streams(bundle.manifest), **options)
    (tower,) = plan.parent.glob("*.tower.*")
    return plan, tower


@pytest.mark.usefixtures("no_gpu")
def test_one_that_was_never_checked_is_named_beside_onnx_runtime(bundle: Bundle, tmp_path: Path) -> None:
    plan, _ = in_parts(bundle, **RTX)
    first, second = on_laptop(bundle, tmp_path)
    assert (first.verdict, first.found) == (
        "ok",
        "none that runs here; ONNX Runtime runs the graph on the CPU",
    )
    assert second.verdict == "warning"
    assert second.found == (
        f"{plan.name} (TensorRT-RTX 1.7.0, SM 8.9, 4 parts, 0.0 MiB): whole, but never checked, so not used; "
        "it needs a GPU"
    )
    assert second.todo == f"Where its GPU is: vla-build --verify {bundle.folder} --backend tensorrt-rtx"


@pytest.mark.usefixtures("no_gpu")
@pytest.mark.parametrize(
    ("damage", "words"),
    [
        (lambda path: path.write_bytes(bytes(2048)), "was changed since it was built"),
        (lambda path: path.write_bytes(b"short"), "is truncated: 5 bytes, its side file says 2048"),
        (lambda path: path.unlink(), "cannot be read: No such file or directory"),
    ],
)
def test_a_damaged_part_is_named_with_the_reason(
    bundle: Bundle, tmp_path: Path, damage: Any, words: str
) -> None:
    _, tower = in_parts(bundle, **RTX)
    damage(tower)
    _, second = on_laptop(bundle, tmp_path)
    assert second.verdict == "warning"
    assert second.found.startswith(f"not used, and damaged: {tower} {words}")
    assert second.todo == f"Build it on this machine: vla-build {bundle.folder} --backend tensorrt-rtx"


@pytest.mark.usefixtures("no_gpu")
def test_a_side_file_that_is_left_alone_is_told(bundle: Bundle, tmp_path: Path) -> None:
    plan, _ = in_parts(bundle, **RTX)
    for path in plan.parent.glob("*.part"):
        path.unlink()
    _, second = on_laptop(bundle, tmp_path)
    assert (second.id, second.verdict) == ("plan-beside", "warning")
    assert "cannot be read: No such file" in second.found


@pytest.mark.usefixtures("tensorrt_is_here")
def test_the_plan_that_a_policy_gets_is_hashed_and_stops_where_a_part_was_changed(
    bundle: Bundle, tmp_path: Path
) -> None:
    _, tower = in_parts(bundle, version="10.3.0")
    (finding,) = check_plans(bundle.folder, orin(tmp_path))
    assert finding.verdict == "ok"
    assert "4 parts" in finding.found
    tower.write_bytes(bytes(2048))
    (finding,) = check_plans(bundle.folder, orin(tmp_path))
    assert (finding.id, finding.verdict) == ("plan", "stops")
    assert finding.found.startswith(f"{tower} was changed since it was built")


@pytest.mark.usefixtures("tensorrt_is_here")
@pytest.mark.parametrize("content", [b"garbage", b"{}", b""])
def test_a_broken_side_file_is_the_cause_also_where_no_gpu_answers(
    bundle: Bundle, tmp_path: Path, content: bytes
) -> None:
    plan = make_plan(bundle, version="10.3.0")
    record_path(plan).write_bytes(content)
    for machine in (orin(tmp_path), orin(tmp_path, gpu=None, gpu_problem="the driver hangs")):
        (finding,) = check_plans(bundle.folder, machine)
        assert finding.verdict == "stops"
        assert f"{plan.name}.json is not a valid side file" in finding.found
        assert finding.todo == f"Build it on this machine: vla-build {bundle.folder}"


@pytest.mark.usefixtures("tensorrt_is_here")
def test_plans_beside_the_one_that_runs_are_told(bundle: Bundle, tmp_path: Path) -> None:
    make_plan(bundle, version="10.3.0")
    make_plan(bundle, version="10.3.0", sm=89)
    make_plan(bundle, version="10.7.0").write_bytes(b"short")
    taken, damaged, elsewhere = sorted(
        check_plans(bundle.folder, orin(tmp_path)), key=lambda each: (each.id, each.verdict != "warning")
    )
    assert (taken.id, taken.verdict) == ("plan", "ok")
    assert (damaged.verdict, elsewhere.verdict) == ("warning", "ok")
    assert "tensorrt-10.7.0-sm87.plan is truncated" in damaged.found
    assert elsewhere.found.endswith(": whole and checked; not used here; this GPU has SM 8.7")
