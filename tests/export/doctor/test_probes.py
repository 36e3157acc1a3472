"""What only native code tells: a driver's GPU, and libraries, here planted ones."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest
from fake_driver import build_fake_driver

from vla_edge.export.doctor.probes import kernels_of_tensorrt, probe_library, probe_slowdowns
from vla_edge.runtime.cuda.opening import open_device

Doctor = Callable[..., dict[str, Any]]


@pytest.fixture(scope="module")
def driver(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build_fake_driver(tmp_path_factory.mktemp("driver"))


@pytest.fixture
def doctor(driver: Path, tmp_path: Path) -> Doctor:
    """Runs the command where that driver is, and a module `tensorrt` of these lines; gives its findings by id."""

    def run(tensorrt: str, *arguments: str) -> dict[str, Any]:
        (tmp_path / "tensorrt").mkdir()
        (tmp_path / "tensorrt" / "__init__.py").write_text(tensorrt)
        world = {"LD_LIBRARY_PATH": str(driver), "PYTHONPATH": str(tmp_path), "TMPDIR": str(tmp_path)}
        done = subprocess.run(
            [sys.executable, "-m", "vla_edge.export.doctor.cli", "--json", *arguments],
            env={**os.environ, **world},
            cwd=tmp_path,
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
        )
        assert done.stderr == ""
        return {finding["id"]: finding for finding in json.loads(done.stdout)["findings"]}

    return run


def test_the_driver_tells_its_gpu_without_any_package(doctor: Doctor) -> None:
    found = doctor("__version__ = '10.3.0'")
    assert found["gpu"]["found"].startswith("Fake GPU, SM 8.7, ")
    assert found["gpu"]["found"].endswith(" shared with the CPU")
    assert "CUDA 12.6" in found["driver"]["found"]
    assert found["tensorrt"]["found"] == "10.3.0"
    assert found["kernels"]["found"].startswith("TensorRT 10.3.0 does not tell for which GPUs")


def test_isaac_ros_s_tensorrt_is_found_out(doctor: Doctor) -> None:
    assert doctor("__version__ = '10.13.3'")["kernels"]["found"] == "TensorRT 10.13.3 has none for SM 8.7"


@pytest.mark.parametrize(
    ("lines", "words"),
    [
        ("__version__ = '8.6.2'", "TensorRT 8.6.2 is too old"),
        ("raise ImportError('libnvinfer.so.10: cannot open shared object file')", "cannot be loaded: libnvinfer.so.10"),
        ("import os; os.kill(os.getpid(), 11)", "cannot be loaded: its process was ended by SIGSEGV"),
        ("raise ValueError('of an odd build')", "cannot be loaded: ValueError: of an odd build"),
        ("print('words of a library'); __version__ = '10.3.0'", "10.3.0"),
    ],
)  # fmt: skip
def test_a_library_that_cannot_be_used_is_told(doctor: Doctor, lines: str, words: str) -> None:
    assert words in doctor(lines)["tensorrt"]["found"]


def test_a_library_that_is_not_there_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "tensorrt", None)
    found = probe_library("tensorrt")
    assert (found.installed, found.problem) == (False, "TensorRT is not installed.")


def test_kernel_libraries_are_looked_for_beside_the_loaded_one(tmp_path: Path) -> None:
    folder = tmp_path / "with a blank"
    folder.mkdir()
    names = (
        "libnvinfer.so.10",
        "libnvinfer_builder_resource_sm86.so.10.16.2",
        "libnvinfer_builder_resource_ptx.so.10",
    )
    for name in (*names, "libnvinfer_builder_resource_sm120.so.10.16.2"):
        (folder / name).write_text("no library")
    maps = tmp_path / "maps"
    maps.write_text(
        f"7f00-7f01 r-xp 00000000 08:01 123    {folder}/libnvinfer.so.10\n7f02-7f03 rw-p 0 00:00 0\n"
    )
    assert kernels_of_tensorrt(maps) == ((), (86, 120))


def test_nvml_s_reasons_are_told_in_words(monkeypatch: pytest.MonkeyPatch) -> None:
    nvml: Any = ModuleType("pynvml")
    nvml.nvmlInit = lambda: None
    nvml.nvmlDeviceGetHandleByPciBusId = lambda bus: bus
    nvml.nvmlDeviceGetCurrentClocksThrottleReasons = lambda device: 0x40 | 0x20 | 0x4
    monkeypatch.setitem(sys.modules, "pynvml", nvml)
    bus = SimpleNamespace(pci_bus_id=lambda index: "0000:40:00.0")
    monkeypatch.setattr("vla_edge.export.doctor.probes.LibCuda", lambda: bus)
    assert probe_slowdowns() == ("heat", "heat (hardware)")
    monkeypatch.setitem(sys.modules, "pynvml", None)
    monkeypatch.setattr("vla_edge.export.doctor.probes.is_installed", lambda name: False)
    assert probe_slowdowns() == ()


_ASK = """
from vla_edge.export.doctor.apart import Apart, Work
from vla_edge.export.doctor.probes import probe_gpu, probe_library
with Apart([Work(probe_gpu, 60), Work(lambda: probe_library("tensorrt"), 60)]) as apart:
    for answer in apart.answers():
        print(answer.decode() if isinstance(answer, bytes) else answer)
"""


@pytest.mark.gpu
def test_a_real_gpu_is_told_as_the_sessions_see_it_and_has_kernels() -> None:
    # the doctor asks forked processes: one of a process that has used CUDA itself cannot use it
    asked = subprocess.run([sys.executable, "-c", _ASK], capture_output=True, text=True, timeout=120)
    gpu, library = (json.loads(line) for line in asked.stdout.splitlines())
    device = open_device()
    device.close()
    assert (gpu["name"], gpu["sm"], gpu["integrated"]) == (
        device.info.name,
        device.info.sm,
        device.info.integrated,
    )
    assert device.info.sm in library["kernels"]
