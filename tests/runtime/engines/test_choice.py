"""Which engine runs is chosen in the open, never by falling back."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

import pytest
from plan_bundles import make_plan

from vla_edge.runtime.bundle.bundle import Bundle
from vla_edge.runtime.engines import nvidia_gpu
from vla_edge.runtime.engines.choice import choose_backend, open_session
from vla_edge.runtime.engines.registry import Engine
from vla_edge.runtime.errors import EngineError, InputError
from vla_edge.runtime.policy import Policy


def with_plan(folder: Path, name: str = "tensorrt-10.6.0-sm90.plan") -> Bundle:
    (folder / "plans").mkdir()
    (folder / "plans" / name).write_bytes(b"not really a plan")
    return Bundle.open(folder)


def test_without_plans_auto_is_onnxruntime_and_says_so(
    pristine_bundle: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.INFO, "vla_edge"):
        session = open_session(Bundle.open(pristine_bundle))
    assert session.identity.backend == "onnxruntime"
    assert "auto -> onnxruntime" in caplog.text
    assert "CPUExecutionProvider" in caplog.text


@pytest.mark.parametrize("name", ["tensorrt-10.6.0-sm90.plan", "tensorrt-rtx-1.2.0-sm89.plan", "mine.plan"])
def test_with_plans_that_cannot_run_auto_stops_instead_of_slowing_down(tiny_bundle: Path, name: str) -> None:
    with pytest.raises(EngineError) as raised:
        open_session(with_plan(tiny_bundle, name))
    assert "--backend onnxruntime" in raised.value.hint


def test_with_plans_onnxruntime_runs_when_asked_for(tiny_bundle: Path) -> None:
    assert open_session(with_plan(tiny_bundle), "onnxruntime").identity.backend == "onnxruntime"


def test_an_unknown_backend_lists_the_known_ones(pristine_bundle: Path) -> None:
    with pytest.raises(InputError) as raised:
        open_session(Bundle.open(pristine_bundle), "openvino")
    assert raised.value.problem == "backend 'openvino' is not known."
    assert raised.value.hint == "Use one of auto, onnxruntime, tensorrt, tensorrt-rtx."


def test_an_unknown_option_lists_the_known_ones(pristine_bundle: Path) -> None:
    options: dict[str, Any] = {"thread": 2}
    with pytest.raises(InputError) as raised:
        open_session(Bundle.open(pristine_bundle), "onnxruntime", **options)
    assert raised.value.problem == "thread is no option of this engine."
    assert "threads, provider, device_index" in raised.value.hint


def test_options_reach_the_engine(pristine_bundle: Path) -> None:
    assert "(1 thread)" in open_session(Bundle.open(pristine_bundle), threads=1).identity.device


@pytest.mark.parametrize(
    "device", ["dev/nvidia0", "dev/nvidia3", "dev/nvgpu", "dev/nvhost-gpu", "usr/lib/wsl/lib/libcuda.so.1"]
)
@pytest.mark.parametrize(("visible", "found"), [(None, True), ("0", True), ("", False), ("-1", False)])
def test_a_gpu_is_found_by_the_files_of_its_driver(
    tmp_path: Path, device: str, visible: str | None, found: bool
) -> None:
    environment = {} if visible is None else {"CUDA_VISIBLE_DEVICES": visible}
    assert not nvidia_gpu.has_nvidia_gpu(tmp_path, environment)
    path = tmp_path / device
    path.parent.mkdir(parents=True)
    path.touch()
    assert nvidia_gpu.has_nvidia_gpu(tmp_path, environment) == found


def test_a_driver_without_a_card_is_no_gpu(tmp_path: Path) -> None:
    for name in ("nvidiactl", "nvidia-uvm", "nvidia-modeset"):
        (tmp_path / "dev").mkdir(exist_ok=True)
        (tmp_path / "dev" / name).touch()
    assert not nvidia_gpu.has_nvidia_gpu(tmp_path, {})


def machine_with(monkeypatch: pytest.MonkeyPatch, *modules: str, gpu: bool = True) -> None:
    """This Python finds these TensorRTs, and the machine has a GPU or none."""
    monkeypatch.setattr(Engine, "is_installed", lambda engine: engine.package in modules)
    monkeypatch.setattr("vla_edge.runtime.engines.choice.has_nvidia_gpu", lambda: gpu)


@pytest.mark.parametrize(
    ("modules", "words"),
    [
        (["tensorrt"], "To use the GPU, build one here: vla-build {folder} ("),
        (["tensorrt", "tensorrt_rtx"], "build one here: vla-build {folder} ("),
        (["tensorrt_rtx"], "build one here: vla-build {folder} --backend tensorrt-rtx ("),
        (
            [],
            "TensorRT is not installed for this Python; install it (README), then build one here: vla-build",
        ),
    ],
)
def test_a_gpu_that_a_bundle_without_a_plan_leaves_idle_is_warned_of(
    pristine_bundle: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    modules: list[str],
    words: str,
) -> None:
    machine_with(monkeypatch, *modules)
    with Policy.load(pristine_bundle) as policy:
        assert policy.identity.backend == "onnxruntime"
    warning = next(record for record in caplog.records if record.levelno == logging.WARNING)
    assert f"{pristine_bundle} runs on the CPU although this machine has an NVIDIA GPU" in warning.message
    assert "it has no TensorRT plan" in warning.message
    assert words.format(folder=pristine_bundle) in warning.message


@pytest.mark.parametrize("gpu", [True, False])
@pytest.mark.parametrize("backend", ["tensorrt", "tensorrt-rtx"])
def test_a_bundle_whose_plans_were_all_rejected_does_not_become_a_policy_of_the_cpu(
    tiny_bundle: Path, monkeypatch: pytest.MonkeyPatch, backend: str, gpu: bool
) -> None:
    """Whoever built it wanted TensorRT, and a driver that was lost as well is no reason to slow down."""
    machine_with(monkeypatch, "tensorrt", gpu=gpu)
    with_plan(tiny_bundle, f"{backend}-10.6.0-sm90.plan.rejected")
    with pytest.raises(EngineError, match="built for TensorRT, but missed its gates") as raised:
        open_session(Bundle.open(tiny_bundle))
    assert f"{backend}-10.6.0-sm90.plan.rejected" in raised.value.problem
    option = "" if backend == "tensorrt" else " --backend tensorrt-rtx"
    assert f"vla-build {tiny_bundle}{option}. " in raised.value.hint
    assert "--backend onnxruntime" in raised.value.hint
    assert open_session(Bundle.open(tiny_bundle), "onnxruntime").identity.backend == "onnxruntime"


@pytest.mark.parametrize("case", ["no GPU", "chosen by name"])
def test_no_warning_where_nothing_was_left_unsaid(
    pristine_bundle: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, case: str
) -> None:
    machine_with(monkeypatch, "tensorrt", gpu=case != "no GPU")
    open_session(Bundle.open(pristine_bundle), "auto" if case == "no GPU" else "onnxruntime")
    assert caplog.records == []


def test_vla_run_shows_the_warning(
    pristine_bundle: Path,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    frame: Any,
    capfd: pytest.CaptureFixture[str],
) -> None:
    from PIL import Image

    from vla_edge.runtime.run import cli

    Image.fromarray(frame).save(tmp_path / "frame.png")
    machine_with(monkeypatch, "tensorrt")
    monkeypatch.setattr("sys.argv", ["vla-run", str(pristine_bundle), str(tmp_path / "frame.png")])
    root = logging.getLogger()
    monkeypatch.setattr(root, "handlers", [])  # as in a process of its own
    with pytest.raises(SystemExit) as raised:
        cli.main()
    assert raised.value.code == 0
    shown = capfd.readouterr().err
    assert shown.startswith(f"warning: {pristine_bundle} runs on the CPU")
    assert f"vla-build {pristine_bundle}" in shown
    assert "(--backend onnxruntime means the CPU without this warning.)" in shown
    assert "backend='" not in shown


def test_plans_of_a_tensorrt_that_is_missing_name_the_one_that_is_there(
    tiny_bundle: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    machine_with(monkeypatch, "tensorrt_rtx")
    with pytest.raises(EngineError, match="the TensorRT that runs them is not installed") as raised:
        open_session(with_plan(tiny_bundle))
    assert f"vla-build {tiny_bundle} --backend tensorrt-rtx" in raised.value.hint


@pytest.mark.parametrize("backend", ["tensorrt", "tensorrt-rtx"])
@pytest.mark.parametrize("modules", [[], ["tensorrt", "tensorrt_rtx"]], ids=["bare", "TensorRT"])
def test_a_plan_for_a_gpu_elsewhere_leaves_a_machine_without_one_to_onnxruntime_with_a_warning(
    tiny_bundle: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    backend: str,
    modules: list[str],
) -> None:
    machine_with(monkeypatch, *modules, gpu=False)
    plan = make_plan(Bundle.open(tiny_bundle), backend, sm=89, passed=None)
    assert open_session(Bundle.open(tiny_bundle)).identity.backend == "onnxruntime"
    (warning,) = [record.message for record in caplog.records if record.levelno == logging.WARNING]
    assert f"{tiny_bundle} runs on the CPU: its plan {plan.name} was never checked" in warning
    option = "" if backend == "tensorrt" else " --backend tensorrt-rtx"
    assert f"vla-build --verify {tiny_bundle}{option} (" in warning


@pytest.mark.parametrize("passed", [True, False, None])
def test_a_plan_that_somebody_relies_on_is_named_where_it_cannot_run(
    tiny_bundle: Path, monkeypatch: pytest.MonkeyPatch, passed: bool | None
) -> None:
    """One that was checked, also where no GPU is found; one that was not, where there is a GPU."""
    machine_with(monkeypatch, "tensorrt", gpu=passed is None)
    plan = make_plan(Bundle.open(tiny_bundle), passed=passed)
    with pytest.raises(EngineError) as raised:
        open_session(Bundle.open(tiny_bundle))
    assert plan.name in raised.value.problem
    assert "--backend onnxruntime" in raised.value.hint


def test_a_checked_plan_goes_before_one_that_nobody_checked(
    tiny_bundle: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    machine_with(monkeypatch, "tensorrt", "tensorrt_rtx")
    bundle = Bundle.open(tiny_bundle)
    make_plan(bundle, "tensorrt", passed=None)
    make_plan(bundle, "tensorrt-rtx", passed=True)
    assert choose_backend(bundle) == "tensorrt-rtx"


def test_a_broken_side_file_is_told_before_library_and_driver_are_looked_for(tiny_bundle: Path) -> None:
    bundle = with_plan(tiny_bundle)
    (bundle.folder / "plans" / "tensorrt-10.6.0-sm90.plan.json").write_bytes(b"garbage")
    with pytest.raises(EngineError, match="is not a valid side file"):
        open_session(bundle, "tensorrt")


def test_one_side_file_that_can_be_read_leaves_the_word_to_the_library(tiny_bundle: Path) -> None:
    bundle = with_plan(tiny_bundle)
    make_plan(bundle)
    with pytest.raises(EngineError) as raised:
        open_session(bundle, "tensorrt")
    assert "side file" not in raised.value.problem
