"""Machines made of a few files, as a Jetson's or a laptop's are documented, for the doctor's checks."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from vla_edge.export.doctor.examination import Patient, checks
from vla_edge.export.doctor.finding import Finding
from vla_edge.export.doctor.machine import Gpu, Library, Machine

ORIN_GPU = Gpu(name="Orin", sm=87, total_mib=15536, integrated=True, cuda=12060)
NO_ORT = Library(problem="ONNX Runtime is not installed.", hint="pip install onnxruntime", installed=False)
NO_TRT = Library(problem="TensorRT is not installed.", hint="install python3-libnvinfer", installed=False)
NO_RTX = Library(problem="TensorRT-RTX is not installed.", installed=False)
ORT = Library(version="1.23.2")
TRT = Library(version="10.3.0", kernels=(53, 62, 72, 87))

DPKG = """Package: nvidia-jetpack
Status: install ok installed
Version: 6.2.1+b38

Package: nvidia-l4t-core
Status: install ok installed
Version: 36.4.4-20250616085344
"""
NVPMODEL = """< PARAM TYPE=FILE NAME=CPU_ONLINE >
< POWER_MODEL ID=0 NAME=MAXN >
< POWER_MODEL ID=1 NAME=10W >
< POWER_MODEL ID=2 NAME=15W >
< POWER_MODEL ID=3 NAME=25W >
< PM_CONFIG DEFAULT=2 >
"""
ORIN_FILES = {
    "proc/device-tree/compatible": "nvidia,p3768-0000+p3767-0000\0nvidia,tegra234\0",
    "proc/meminfo": "MemTotal: 15909000 kB\nMemAvailable: 14000000 kB\nSwapTotal: 0 kB\nSwapFree: 0 kB\n",
    "dev/nvgpu": "",
    "etc/nv_tegra_release": "# R36 (release), REVISION: 4.4, GCID: 41062509, BOARD: generic, EABI: aarch64\n",
    "etc/nvpmodel.conf": NVPMODEL,
    "var/lib/nvpmodel/status": "pmode:0000\n",
    "var/lib/dpkg/status": DPKG,
    "sys/class/devfreq/17000000.gpu/cur_freq": "306000000\n",
    "sys/class/devfreq/17000000.gpu/min_freq": "306000000\n",
    "sys/class/devfreq/17000000.gpu/max_freq": "918000000\n",
    "sys/class/thermal/thermal_zone0/temp": "51250\n",
    "sys/class/thermal/cooling_device0/type": "pwm-fan\n",
    "sys/class/thermal/cooling_device0/cur_state": "3\n",
    "sys/class/thermal/cooling_device1/type": "gpu-throttle-alert\n",
    "sys/class/thermal/cooling_device1/cur_state": "0\n",
    "sys/class/hwmon/hwmon3/oc3_event_cnt": "0\n",
}


def plant(root: Path, files: dict[str, str | None]) -> None:
    """Write files below a root; None removes one."""
    for name, text in files.items():
        path = root / name
        if text is None:
            path.unlink()
            continue
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)


def orin(root: Path, files: dict[str, str | None] | None = None, **changes: Any) -> Machine:
    """An Orin NX 16 GB with JetPack 6.2 as it should be, but for what is changed."""
    plant(root, dict(ORIN_FILES))
    plant(root, files or {})
    healthy: dict[str, Any] = {
        "root": root,
        "python": (3, 10),
        "packages": {"cuda-bindings": "12.9.4"},
        "gpu": ORIN_GPU,
        "gpu_problem": "",
        "libraries": {"onnxruntime": NO_ORT, "tensorrt": TRT, "tensorrt-rtx": NO_RTX},
        "environment": {},
    }
    return Machine(**{**healthy, **changes})


def laptop(root: Path, **changes: Any) -> Machine:
    """Without a GPU, with ONNX Runtime."""
    plant(root, {"proc/meminfo": "MemTotal: 16000000 kB\nMemAvailable: 9000000 kB\nSwapFree: 0 kB\n"})
    healthy: dict[str, Any] = {
        "root": root,
        "python": (3, 12),
        "libraries": {"onnxruntime": ORT, "tensorrt": NO_TRT, "tensorrt-rtx": NO_RTX},
        "environment": {},
    }
    return Machine(**{**healthy, **changes})


def examined(machine: Machine, patient: Patient | None = None) -> list[Finding]:
    """What every check finds, made in this process."""
    asked = checks(patient or Patient(), machine, clean=False)
    return [finding for check in asked for finding in check.look().findings]


def by_id(findings: list[Finding], identity: str) -> Finding:
    """The one finding of a check."""
    (found,) = (finding for finding in findings if finding.id == identity)
    return found


def verdicts(findings: list[Finding]) -> dict[str, str]:
    """What is not fine."""
    return {finding.id: finding.verdict for finding in findings if finding.verdict != "ok"}
