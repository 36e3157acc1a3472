"""What this machine cannot run is refused before the first minute, in one sentence."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace

import pytest
from click.testing import CliRunner, Result

from vla_edge.bench import cli
from vla_edge.bench.backends import runnable
from vla_edge.bench.backends.runnable import check_backends, check_device
from vla_edge.bench.cli import measure
from vla_edge.bench.proof.acceptance import command as acceptance
from vla_edge.bench.report.codec import decode, encode
from vla_edge.bench.run import run_bench
from vla_edge.runtime.cuda.errors import cuda_error, no_driver
from vla_edge.runtime.errors import EngineError, InputError, MissingPackageError

GPU_ONLY = ("tensorrt", "tensorrt-rtx", "torch-tf32", "torch-fp16-graph")
REFUSALS = {
    "no driver": (no_driver(), "there is no NVIDIA driver"),
    "no device": (
        cuda_error("cuInit", "CUDA_ERROR_NO_DEVICE", "no CUDA-capable device is detected"),
        "NO_DEVICE",
    ),
    "other": (EngineError("cuInit failed: CUDA_ERROR_UNKNOWN."), "cuInit failed"),
    "old driver": (AttributeError("undefined symbol: cuGraphLaunch"), "undefined symbol"),
}


@pytest.fixture
def cuda(monkeypatch: pytest.MonkeyPatch):
    """A driver that answers, or raises this."""

    def plant(error: Exception | None) -> None:
        class Driver:
            def pci_bus_id(self, index: int) -> str:
                if error is not None:
                    raise error
                return "0000:1b:00.0"

        monkeypatch.setattr(runnable, "LibCuda", Driver)

    return plant


def bench(*arguments: object) -> Result:
    return CliRunner().invoke(measure, [str(argument) for argument in arguments], standalone_mode=False)


@pytest.mark.parametrize("case", REFUSALS)
@pytest.mark.parametrize("more", [(), ("--quick",), ("--workload", "owner-standin")])
def test_a_gpu_that_is_not_there_is_wrong_use_before_any_work(
    case: str, more: tuple[str, ...], cuda, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr("vla_edge.bench.run.describe_machine", lambda: pytest.fail("work had begun"))
    error, words = REFUSALS[case]
    cuda(error)
    done = bench(tmp_path, "--device", "cuda", "--out", tmp_path / "out", *more)
    assert isinstance(done.exception, InputError)
    assert done.exception.exit_code == 2
    assert "--device cuda cannot be used here: " in done.exception.problem
    assert words in done.exception.problem
    assert done.exception.hint
    assert not (tmp_path / "out").exists()


def test_a_gpu_that_is_chosen_by_itself_is_asked_for_as_well(cuda, monkeypatch, tmp_path: Path) -> None:
    """NVML counts a GPU that `CUDA_VISIBLE_DEVICES` hides: the bench does not silently take the CPU."""
    cuda(REFUSALS["no device"][0])
    monkeypatch.setattr(cli, "default_device", lambda: "cuda")
    assert "--device cuda cannot be used here" in str(bench(tmp_path).exception)


@pytest.mark.parametrize(
    ("driver", "gpus", "device"),
    [
        (None, 1, "cuda"),
        (None, 0, "cuda"),
        ("no device", 1, "cuda"),
        ("no driver", 0, "cpu"),
        ("other", 0, "cpu"),
    ],
)
def test_the_device_is_a_gpu_where_cuda_or_nvml_has_one(
    driver: str | None, gpus: int, device: str, cuda, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An NVML that is missing or tells nothing does not turn a bench of a GPU into one of the CPU."""
    cuda(REFUSALS[driver][0] if driver else None)
    monkeypatch.setattr("vla_edge.bench.watch.nvml.gpu_count", lambda nvml: gpus)
    monkeypatch.setattr(
        "vla_edge.bench.watch.nvml._initialised", lambda: SimpleNamespace(nvmlShutdown=lambda: None)
    )
    assert cli.default_device() == device


def test_what_is_there_is_not_refused(cuda) -> None:
    cuda(None)
    check_device("cuda")
    cuda(EngineError("no driver"))
    check_device("cpu")
    check_backends(("torch-fp32", "torch-fp16", "onnxruntime", "torch-compile"), "cpu")
    check_backends((), "cpu")


@pytest.mark.parametrize("name", GPU_ONLY)
def test_a_backend_by_name_that_needs_a_gpu_is_wrong_use_on_a_cpu(name: str, tmp_path: Path) -> None:
    done = bench(tmp_path, "--device", "cpu", "--backends", "onnxruntime", "--backends", name)
    assert isinstance(done.exception, InputError)
    assert done.exception.problem == f"--backends {name} needs a GPU, and this bench runs on the CPU."


@pytest.mark.parametrize(
    ("name", "module", "extra"),
    [
        ("tensorrt", "tensorrt", "tensorrt"),
        ("tensorrt-rtx", "tensorrt_rtx", "tensorrt-rtx"),
        ("onnxruntime", "onnxruntime", "onnxruntime"),
    ],
)
def test_a_backend_whose_package_is_missing_is_named_with_its_extra(
    name: str, module: str, extra: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("vla_edge.runtime.command.extras.is_installed", lambda asked: asked != module)
    with pytest.raises(MissingPackageError, match=f"{module} is not installed here") as caught:
        check_backends((name,), "cuda")
    assert f"vla-edge[{extra}]" in caught.value.hint


def test_an_onnxruntime_without_cuda_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    only_cpu = SimpleNamespace(get_available_providers=lambda: ["CPUExecutionProvider"])
    monkeypatch.setattr("vla_edge.runtime.engines.onnxruntime.import_onnxruntime", lambda: only_cpu)
    with pytest.raises(InputError, match="this onnxruntime has only CPUExecutionProvider"):
        check_backends(("onnxruntime",), "cuda")


def test_the_acceptance_beside_it_refuses_alike(cuda, tmp_path: Path) -> None:
    cuda(REFUSALS["no driver"][0])
    checkpoint = tmp_path / "policy.pth"
    checkpoint.write_bytes(b"")
    arguments = [str(checkpoint), "-o", str(tmp_path / "out")]
    done = CliRunner().invoke(acceptance, arguments, standalone_mode=False)
    assert "--device cuda cannot be used here: there is no NVIDIA driver" in str(done.exception)
    assert not (tmp_path / "out").exists()


NO_TEXT = "fr\udcffme"  # as Python names a byte that is no UTF-8


@pytest.mark.parametrize("option", ["engines", "--checkpoint", "--images"])
def test_a_path_that_is_no_text_is_refused_before_any_work(option: str, tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setattr("vla_edge.bench.run.describe_machine", lambda: pytest.fail("work had begun"))
    path = tmp_path / NO_TEXT
    path.mkdir()
    (path / "1.png").write_bytes(b"")
    arguments = [path] if option == "engines" else [tmp_path, option, path]
    done = bench("--device", "cpu", *arguments)
    assert isinstance(done.exception, InputError)
    assert "fr?me" in done.exception.problem
    assert "is no UTF-8 text" in done.exception.problem


def test_a_bundle_whose_name_is_no_text_is_refused_and_the_others_are_measured(
    options, quiet, bundle: Path, tmp_path: Path
) -> None:
    for name in ("sound", NO_TEXT):
        (tmp_path / name).symlink_to(bundle)
    report = run_bench(options(engines=tmp_path), quiet)
    assert [entry.rows[0].status for entry in report.bundles] == ["ok"]
    assert [entry.reason for entry in report.refused] == [f"the path {tmp_path}/fr?me is no UTF-8 text."]
    back = decode(encode(report), "written")
    assert back.refused[0].path.endswith("fr?me")
