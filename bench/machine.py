"""A description of the machine that a report was made on."""

from __future__ import annotations

import os
import platform
from importlib.metadata import distributions
from pathlib import Path
from typing import Any

from .memory import usable_cores
from .nvml import open_nvml
from .report import Gpu, Machine
from .units import BYTES_PER_MIB

LOOK_S = 0.3

# whose versions change the figures
LIBRARIES = (
    "vla-edge",
    "numpy",
    "onnxruntime",
    "onnxruntime-gpu",
    "open_clip_torch",
    "tensorrt",
    "tensorrt-rtx",
    "torch",
    "transformers",
)


def describe_machine() -> Machine:
    """Read CPU, board, GPUs, operating system and library versions; nothing heavy is imported."""
    import psutil

    clock = psutil.cpu_freq()
    return Machine(
        cpu=_cpu_name(),
        board=_board_name(),
        cores_physical=psutil.cpu_count(logical=False),
        cores_usable=usable_cores(),
        cpu_clock_mhz=clock.current if clock else None,
        cpu_clock_max_mhz=clock.max or None if clock else None,
        memory_mib=psutil.virtual_memory().total / BYTES_PER_MIB,
        load_average_1min=os.getloadavg()[0] if hasattr(os, "getloadavg") else None,
        gpus=_gpus(),
        os=platform.platform(),
        python=platform.python_version(),
        versions=library_versions(),
    )


def other_load() -> float:
    """Share that is busy now of the cores that this process may use, 0 to 1; looks for a moment."""
    import psutil

    busy = psutil.cpu_percent(interval=LOOK_S, percpu=True)
    ours = os.sched_getaffinity(0) if hasattr(os, "sched_getaffinity") else range(len(busy))
    used = [busy[core] for core in ours if core < len(busy)] or busy
    return sum(used) / len(used) / 100


def library_versions() -> dict[str, str]:
    """Installed versions of the libraries that matter to the figures."""
    installed = {distribution.metadata["Name"]: distribution.version for distribution in distributions()}
    return {name: installed[name] for name in LIBRARIES if name in installed}


def _cpu_name() -> str:
    """The model name; ARM kernels give none, then the architecture."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        lines = []
    names = [line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor() or platform.machine()


def _board_name() -> str | None:
    """The device tree's model, which is how a Jetson names itself."""
    try:
        return Path("/proc/device-tree/model").read_text().rstrip("\0\n") or None
    except OSError:
        return None


def _gpus() -> tuple[Gpu, ...]:
    with open_nvml() as nvml:
        if nvml is None:
            return ()
        return tuple(_gpu(nvml, index) for index in range(nvml.nvmlDeviceGetCount()))


def _gpu(nvml: Any, index: int) -> Gpu:
    handle = nvml.nvmlDeviceGetHandleByIndex(index)
    major, minor = nvml.nvmlDeviceGetCudaComputeCapability(handle)
    power_limit_mw = _reading(nvml, nvml.nvmlDeviceGetPowerManagementLimit, handle)
    return Gpu(
        index=index,
        name=nvml.nvmlDeviceGetName(handle),
        memory_mib=nvml.nvmlDeviceGetMemoryInfo(handle).total / BYTES_PER_MIB,
        compute_capability=f"{major}.{minor}",
        driver=nvml.nvmlSystemGetDriverVersion(),
        graphics_clock_mhz=_reading(nvml, nvml.nvmlDeviceGetClockInfo, handle, nvml.NVML_CLOCK_GRAPHICS),
        graphics_clock_max_mhz=_reading(
            nvml, nvml.nvmlDeviceGetMaxClockInfo, handle, nvml.NVML_CLOCK_GRAPHICS
        ),
        memory_clock_mhz=_reading(nvml, nvml.nvmlDeviceGetClockInfo, handle, nvml.NVML_CLOCK_MEM),
        power_limit_w=None if power_limit_mw is None else power_limit_mw / 1e3,
        other_processes=len(nvml.nvmlDeviceGetComputeRunningProcesses(handle)),
    )


def _reading(nvml: Any, read: Any, *arguments: Any) -> Any | None:
    """A value that some GPUs, Jetson's among them, do not report."""
    try:
        return read(*arguments)
    except nvml.NVMLError:
        return None
