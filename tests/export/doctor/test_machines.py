"""Planted machines: what the doctor finds on each, in words."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest
from planted_machines import (
    NO_ORT,
    NO_RTX,
    NO_TRT,
    ORIN_FILES,
    ORIN_GPU,
    ORT,
    by_id,
    examined,
    laptop,
    orin,
    verdicts,
)

from vla_edge.export.doctor.checks import power
from vla_edge.export.doctor.machine import Gpu, Library, Machine

H100 = Gpu(name="NVIDIA H100", sm=90, total_mib=81559, integrated=False, cuda=12040)
BLACKWELL = Gpu(name="NVIDIA GB10", sm=121, total_mib=81559, integrated=False, cuda=13000)
OLD_TRT = Library(
    problem="TensorRT 8.6.2 is too old: it cannot build strongly typed networks.",
    hint="Move to TensorRT 10.3 or later: JetPack 6.1 or later on a Jetson.",
)


@pytest.fixture(autouse=True)
def nothing_left(monkeypatch: pytest.MonkeyPatch) -> None:
    """Leftovers of this machine are its own affair."""
    monkeypatch.setattr("vla_edge.export.doctor.examination.places", lambda folder: [])


def with_libraries(**changes: Library) -> dict[str, Any]:
    names = {"onnxruntime": "onnxruntime", "tensorrt": "tensorrt", "rtx": "tensorrt-rtx"}
    healthy = {"onnxruntime": ORT, "tensorrt": NO_TRT, "tensorrt-rtx": NO_RTX}
    return {"libraries": {**healthy, **{names[name]: library for name, library in changes.items()}}}


def test_a_healthy_orin_has_nothing_to_fix(tmp_path: Path) -> None:
    findings = examined(orin(tmp_path))
    assert verdicts(findings) == {}
    assert (
        by_id(findings, "jetpack").found
        == "6.2.1+b38 (Jetson Linux 36.4.4); it brings TensorRT 10.3, CUDA 12.6"
    )
    assert by_id(findings, "gpu").found == "Orin, SM 8.7, 15.2 GiB shared with the CPU"
    assert by_id(findings, "driver").found == "CUDA 12.6"
    assert by_id(findings, "tensorrt").found == "10.3.0"
    assert by_id(findings, "power-mode").found == "MAXN"
    assert by_id(findings, "clocks").found == "306 MHz now, at most 918 MHz; it follows the load"
    assert by_id(findings, "throttling").found == "none, hottest 51 C"
    assert by_id(findings, "memory").found == "13.4 GiB of 15.2 GiB free, no swap"


def test_jetpack_6_0_with_its_tensorrt_stops_a_policy(tmp_path: Path) -> None:
    files = {
        "etc/nv_tegra_release": "# R36 (release), REVISION: 3.0, GCID: 1, BOARD: generic, EABI: aarch64",
        "var/lib/dpkg/status": "",
    }
    libraries = {"onnxruntime": NO_ORT, "tensorrt": OLD_TRT, "tensorrt-rtx": NO_RTX}
    findings = examined(orin(tmp_path, files, libraries=libraries))
    assert verdicts(findings) == {"jetpack": "warning", "tensorrt": "stops"}
    assert by_id(findings, "jetpack").found == "6.0 (Jetson Linux 36.3.0) is too old: it brings TensorRT 8.6"
    assert "Flash JetPack 6.2" in by_id(findings, "jetpack").todo
    assert "TensorRT 8.6.2 is too old" in by_id(findings, "tensorrt").found
    assert "JetPack 6.1 or later" in by_id(findings, "tensorrt").todo


def test_with_onnx_runtime_beside_it_an_old_tensorrt_is_a_warning(tmp_path: Path) -> None:
    findings = examined(orin(tmp_path, **with_libraries(tensorrt=OLD_TRT)))
    assert verdicts(findings) == {"tensorrt": "warning"}


def test_isaac_ros_s_tensorrt_has_no_kernels_for_orin(tmp_path: Path) -> None:
    libraries = with_libraries(onnxruntime=Library(problem="no"), tensorrt=Library(version="10.13.3.9"))
    finding = by_id(examined(orin(tmp_path, **libraries)), "kernels")
    assert (finding.verdict, finding.found) == ("stops", "TensorRT 10.13.3.9 has none for SM 8.7")
    assert "TensorRT of JetPack" in finding.todo
    assert "/etc/apt/preferences.d" in finding.todo


@pytest.mark.parametrize(
    ("gpu", "kernels", "beside", "verdict", "words"),
    [
        (ORIN_GPU, (), (), "ok", "TensorRT 10.16.2 does not tell for which GPUs; a build does"),
        (ORIN_GPU, (86, 87), (80, 86), "ok", "TensorRT 10.16.2 has kernels for SM 8.6, 8.7"),
        (ORIN_GPU, (), (80, 86), "ok", "has kernels for SM 8.0, 8.6"),
        # a server's library on a board, as TensorRT 10.6 for aarch64 is
        (ORIN_GPU, (75, 80, 86, 89, 90), (), "warning", "has kernels for SM 7.5, 8.0, 8.6, 8.9, 9.0, none for 8.7"),
        (ORIN_GPU, (87,), (75, 89, 90), "warning", "has kernels for SM 7.5, 8.9, 9.0, none for 8.7"),
        (H100, (75, 90), (), "ok", "has kernels for SM 7.5, 9.0"),
        (BLACKWELL, (100, 120), (), "ok", "has kernels for SM 10.0, 12.0"),
        (BLACKWELL, (80, 90), (), "warning", "none for 12.1"),
    ],
)  # fmt: skip
def test_kernels_are_told_from_files(
    tmp_path: Path, gpu: Gpu, kernels: tuple[int, ...], beside: tuple[int, ...], verdict: str, words: str
) -> None:
    library = Library(version="10.16.2", kernels=kernels, builder_kernels=beside)
    finding = by_id(examined(orin(tmp_path, gpu=gpu, **with_libraries(tensorrt=library))), "kernels")
    assert finding.verdict == verdict
    assert words in finding.found
    assert ("vla-build" in finding.todo) == (verdict == "warning")


def test_tensorrt_rtx_does_not_build_for_an_h100(tmp_path: Path) -> None:
    rtx = Library(version="1.7.1", kernels=(75, 80, 86, 89, 120))
    finding = by_id(examined(laptop(tmp_path, gpu=H100, **with_libraries(rtx=rtx))), "kernels")
    assert (finding.verdict, finding.found) == (
        "warning",
        "TensorRT-RTX 1.7.1 has kernels for SM 7.5, 8.0, 8.6, 8.9, 12.0, none for 9.0",
    )


def test_tensorrt_11_leaves_out_orin_on_jetpack_6(tmp_path: Path) -> None:
    libraries = with_libraries(tensorrt=Library(version="11.4.1"))
    assert "leaves out Orin on JetPack 6" in by_id(examined(orin(tmp_path, **libraries)), "kernels").found


def test_tensorrt_outside_of_what_is_supported_is_told(tmp_path: Path) -> None:
    finding = by_id(
        examined(orin(tmp_path, **with_libraries(tensorrt=Library(version="10.0.1")))), "tensorrt"
    )
    assert (finding.verdict, finding.found) == ("warning", "10.0.1 is older than what is supported")
    assert "10.3 or later" in finding.todo


def test_two_onnx_runtimes_overwrite_each_other(tmp_path: Path) -> None:
    packages = {"onnxruntime": "1.23.2", "onnxruntime-gpu": "1.23.0", "cuda-bindings": "12.9.4"}
    finding = by_id(examined(laptop(tmp_path, packages=packages)), "onnxruntime-pair")
    assert finding.verdict == "warning"
    assert finding.found == (
        "onnxruntime 1.23.2 and onnxruntime-gpu 1.23.0 are both installed and overwrite each other"
    )
    assert finding.todo == "pip uninstall -y onnxruntime onnxruntime-gpu && pip install onnxruntime-gpu"


@pytest.mark.parametrize(
    ("found", "cuda", "verdict", "words", "todo"),
    [
        ("13.5.0", 12060, "stops", "13.5.0 needs a driver of CUDA 13; this one has", "'cuda-bindings>=12.9.1,<13'"),
        ("13.5.0", 13020, "ok", "13.5.0", ""),
        ("12.6.2", 12060, "warning", "12.6.2 holds Python's lock", "'cuda-bindings>=12.9.1,<13'"),
        ("12.9.1", 12060, "ok", "12.9.1", ""),
        ("12.9.4.post1", 12060, "ok", "12.9.4.post1", ""),
        (None, 12060, "stops", "not installed", "'cuda-bindings>=12.9.1,<13'"),
        (None, 13000, "stops", "not installed", "'cuda-bindings>=12.9.1'"),
    ],
)  # fmt: skip
def test_cuda_bindings_fit_the_driver(
    tmp_path: Path, found: str | None, cuda: int, verdict: str, words: str, todo: str
) -> None:
    gpu = Gpu(name="Orin", sm=87, total_mib=15536, integrated=True, cuda=cuda)
    packages = {"cuda-bindings": found} if found else {}
    finding = by_id(examined(orin(tmp_path, gpu=gpu, packages=packages)), "cuda-bindings")
    assert finding.verdict == verdict
    assert words in finding.found
    assert finding.todo.endswith(todo)


def test_without_a_gpu_policies_run_on_the_cpu(tmp_path: Path) -> None:
    findings = examined(laptop(tmp_path))
    assert verdicts(findings) == {"gpu": "warning"}
    assert by_id(findings, "gpu").found == "no NVIDIA GPU: policies run on the CPU, slowly"
    assert by_id(findings, "tensorrt").found == "TensorRT is not installed, and not needed here"


def test_without_any_engine_nothing_runs(tmp_path: Path) -> None:
    findings = examined(
        laptop(tmp_path, **with_libraries(onnxruntime=Library(problem="not here.", hint="pip")))
    )
    assert verdicts(findings) == {"gpu": "warning", "onnxruntime": "stops"}


def test_a_gpu_that_does_not_answer_is_told_from_none(tmp_path: Path) -> None:
    machine = orin(tmp_path, gpu=None, gpu_problem="the driver refuses cuInit: CUDA_ERROR_NOT_INITIALIZED")
    finding = by_id(examined(machine), "gpu")
    assert finding.verdict == "stops"
    assert finding.found.endswith("does not answer: the driver refuses cuInit: CUDA_ERROR_NOT_INITIALIZED")
    assert "--runtime nvidia" in finding.todo


def test_a_board_without_its_device_is_in_a_container(tmp_path: Path) -> None:
    machine = orin(tmp_path, {"dev/nvgpu": None}, gpu=None, gpu_problem="no NVIDIA driver")
    finding = by_id(examined(machine), "gpu")
    assert finding.found == "its driver is loaded, but no device is here"
    assert "docker run --runtime nvidia" in finding.todo


def test_a_driver_that_is_too_old_for_the_wheel_is_named(tmp_path: Path) -> None:
    packages = {"tensorrt-cu13": "10.16.1", "cuda-bindings": "12.9.4"}
    machine = orin(tmp_path, {"sys/module/nvidia/version": "550.54\n"}, gpu=H100, packages=packages)
    finding = by_id(examined(machine), "driver")
    assert finding.found == "550.54, CUDA 12.4, but tensorrt-cu13 10.16.1 needs CUDA 13"
    assert "pip install tensorrt-cu12" in finding.todo
    ancient = Gpu(name="T4", sm=75, total_mib=15000, integrated=False, cuda=11040)
    assert "CUDA 11.4 is too old" in by_id(examined(laptop(tmp_path, gpu=ancient)), "driver").found


def test_another_python_does_not_see_jetpack_s_tensorrt(tmp_path: Path) -> None:
    machine = orin(tmp_path, python=(3, 12), **with_libraries())
    finding = by_id(examined(machine), "python")
    assert (finding.verdict, finding.found) == ("warning", "3.12; JetPack's TensorRT is for 3.10")
    assert "python3.10 -m venv --system-site-packages" in finding.todo


@pytest.mark.parametrize(
    ("release", "found"),
    [
        ("# R39 (release), REVISION: 2.0, GCID: 1", "7.2 (Jetson Linux 39.2.0); it brings TensorRT 10.16, CUDA 13.2"),
        ("# R40 (release), REVISION: 1.0, GCID: 1", "Jetson Linux 40.1.0; not known to this version of vla-edge"),
        ("# R35 (release), REVISION: 4.1, GCID: 1", "Jetson Linux 35.4.1 is too old"),
    ],
)  # fmt: skip
def test_jetpack_is_known_by_its_linux(tmp_path: Path, release: str, found: str) -> None:
    files = {"etc/nv_tegra_release": release, "var/lib/dpkg/status": ""}
    assert by_id(examined(orin(tmp_path, files)), "jetpack").found == found


def test_in_a_container_dpkg_tells_jetson_linux(tmp_path: Path) -> None:
    machine = orin(tmp_path, {"etc/nv_tegra_release": None})
    assert "Jetson Linux 36.4.4" in by_id(examined(machine), "jetpack").found


def test_a_jetson_that_tells_nothing_is_unknown_and_no_fault(tmp_path: Path) -> None:
    gone = ("etc/nv_tegra_release", "var/lib/dpkg/status", "var/lib/nvpmodel/status", "etc/nvpmodel.conf")
    files = dict.fromkeys(gone)
    findings = examined(orin(tmp_path, files))
    assert verdicts(findings) == {"jetpack": "unknown", "power-mode": "unknown"}
    assert by_id(findings, "jetpack").found.startswith("could not be told: ")


def test_a_removed_package_is_not_installed(tmp_path: Path) -> None:
    gone = "Package: nvidia-jetpack\nStatus: deinstall ok config-files\nVersion: 6.0\n"
    found = by_id(examined(orin(tmp_path, {"var/lib/dpkg/status": gone})), "jetpack").found
    assert found.startswith("6.1 or 6.2 (Jetson Linux 36.4.4)")


def test_a_low_power_mode_is_named_with_the_best(tmp_path: Path) -> None:
    finding = by_id(examined(orin(tmp_path, {"var/lib/nvpmodel/status": "pmode:0002\n"})), "power-mode")
    assert (finding.verdict, finding.found) == ("warning", "15W caps the clocks; this board has MAXN, too")
    assert finding.todo.startswith("sudo nvpmodel -m 0,")


def test_until_a_power_mode_is_chosen_the_default_counts(tmp_path: Path) -> None:
    found = by_id(examined(orin(tmp_path, {"var/lib/nvpmodel/status": None})), "power-mode").found
    assert found.startswith("15W caps the clocks")


@pytest.mark.parametrize(
    ("script", "said"),
    [
        ("printf 'NV Fan Mode:quiet\nNV Power Mode: 25W\n3\n'", "25W"),
        ("exec sleep 60", ""),
        ("echo NVPM ERROR: not root >&2; exit 1", ""),
    ],
)
def test_nvpmodel_is_asked_and_not_waited_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, script: str, said: str
) -> None:
    (tmp_path / "nvpmodel").write_text(f"#!/bin/sh\n{script}\n")
    (tmp_path / "nvpmodel").chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    monkeypatch.setattr(power, "_NVPMODEL_LIMIT_S", 0.3 if "sleep" in script else 20)
    assert power._ask_nvpmodel(Machine()) == said


def test_clocks_that_are_held_are_told(tmp_path: Path) -> None:
    files = {f"sys/class/devfreq/17000000.gpu/{name}_freq": "918000000" for name in ("cur", "min")}
    finding = by_id(examined(orin(tmp_path, files)), "clocks")
    assert finding.found == "918 MHz now, at most 918 MHz, held there"
    assert finding.todo == ""


def test_heat_is_told(tmp_path: Path) -> None:
    hot: dict[str, str | None] = {
        "sys/class/thermal/cooling_device1/cur_state": "1",
        "sys/class/thermal/thermal_zone1/temp": "97500\n",
        "sys/class/thermal/thermal_zone1/type": "gpu-thermal\n",
    }
    finding = by_id(examined(orin(tmp_path, hot)), "throttling")
    assert (finding.verdict, finding.found) == ("warning", "now: gpu, hottest 97 C (gpu-thermal)")
    assert finding.todo.startswith("Cool it")


def test_a_card_that_is_held_down_is_told(tmp_path: Path) -> None:
    machine = laptop(tmp_path, gpu=H100, slowdowns=("heat", "power brake"))
    assert by_id(examined(machine), "throttling").found == "now: heat, power brake"
    assert by_id(examined(laptop(tmp_path, gpu=H100)), "throttling").found == "none"


def test_a_weak_supply_is_told(tmp_path: Path) -> None:
    finding = by_id(examined(orin(tmp_path, {"sys/class/hwmon/hwmon3/oc3_event_cnt": "813"})), "throttling")
    assert finding.found == "since the start: instantaneous overcurrent 813 times"
    assert "power supply" in finding.todo


DESKTOP = {
    "proc/1200/comm": "gnome-shell\n",
    "proc/1200/status": "Name:\tgnome-shell\nRssAnon:\t  512000 kB\n",
    "proc/1100/comm": "Xorg\n",
    "proc/1100/status": "Name:\tXorg\nRssAnon:\t  100000 kB\n",
    "proc/7/comm": "python3\n",
    "proc/7/status": "RssAnon:\t 9000000 kB\n",
}


def test_a_desktop_on_a_board_is_told_with_what_it_takes(tmp_path: Path) -> None:
    finding = by_id(examined(orin(tmp_path, dict(DESKTOP))), "desktop")
    assert (finding.verdict, finding.found) == ("warning", "it takes 0.6 GiB (Xorg, gnome-shell)")
    assert finding.todo == "sudo systemctl set-default multi-user.target && sudo init 3"


def test_a_desktop_that_the_next_start_does_not_bring_needs_no_setting(tmp_path: Path) -> None:
    machine = orin(tmp_path, dict(DESKTOP))
    (tmp_path / "etc/systemd/system").mkdir(parents=True)
    (tmp_path / "etc/systemd/system/default.target").symlink_to("/lib/systemd/system/multi-user.target")
    assert by_id(examined(machine), "desktop").todo == "sudo init 3"


def test_a_desktop_beside_a_card_is_no_fault(tmp_path: Path) -> None:
    findings = examined(orin(tmp_path, dict(DESKTOP), gpu=H100))
    assert by_id(findings, "desktop").verdict == "ok"


def test_files_that_hold_nonsense_stop_no_check(tmp_path: Path) -> None:
    nonsense = dict.fromkeys(ORIN_FILES, "\x1b[31m\x00 -1 9999999999999999999999\n")
    findings = examined(orin(tmp_path, nonsense))
    assert not [finding for finding in findings if "\x1b" in finding.found + finding.todo]
    assert by_id(findings, "memory").verdict == "unknown"


def test_folders_in_the_place_of_files_stop_no_check(tmp_path: Path) -> None:
    for name in ORIN_FILES:
        (tmp_path / name).mkdir(parents=True)
    assert examined(Machine(root=tmp_path, gpu=ORIN_GPU, environment={}))
