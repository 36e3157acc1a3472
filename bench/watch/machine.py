"""A description of the machine that a report was made on."""

from __future__ import annotations

import os
import platform
from collections.abc import Callable
from functools import partial
from importlib.metadata import version
from pathlib import Path
from typing import Any

from vla_edge.bench.report.types import Gpu, Machine
from vla_edge.bench.report.units import BYTES_PER_MIB
from vla_edge.runtime.process.cores import allowed_cpus, usable_cores
from vla_edge.runtime.process.machine import cpu_name

from .nvml import NvmlGpu, gpu_count, open_nvml
from .telemetry import MOST_BYTES, MOST_COUNT, MOST_MHZ, MOST_W, number, reading, text, whole_number

LOOK_S = 0.3
MW_PER_W = 1000
LEAST_MHZ = 1.0  # 0 stands for unknown
MOST_CAPABILITY = 100
MODEL = Path("/proc/device-tree/model")

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

    return Machine(
        cpu=cpu_name(),
        board=_board_name(),
        cores_physical=whole_number("physical cores", lambda: psutil.cpu_count(logical=False), least=1),
        cores_usable=usable_cores(),
        cpu_clock_mhz=number("the CPU's clock", lambda: psutil.cpu_freq().current, MOST_MHZ, LEAST_MHZ),
        cpu_clock_max_mhz=number(
            "the CPU's highest clock", lambda: psutil.cpu_freq().max, MOST_MHZ, LEAST_MHZ
        ),
        memory_mib=_mib("memory", lambda: psutil.virtual_memory().total),
        load_average_1min=number("the load average", lambda: os.getloadavg()[0], MOST_COUNT),
        gpus=_gpus(),
        os=reading("the operating system", platform.platform) or "unknown",
        python=platform.python_version(),
        versions=library_versions(),
    )


def other_load() -> float | None:
    """Share that is busy now of the cores that this process may use, 0 to 1; looks for a moment.

    None where the machine does not tell.
    """
    return number("load of the cores", _busy_share, 1.0)


def _busy_share() -> float:
    import psutil

    busy = psutil.cpu_percent(interval=LOOK_S, percpu=True)
    used = [busy[cpu] for cpu in allowed_cpus() if cpu < len(busy)] or busy
    return sum(used) / len(used) / 100


def library_versions() -> dict[str, str]:
    """Installed versions of the libraries that matter to the figures."""
    found = {name: reading(f"the version of {name}", partial(version, name)) for name in LIBRARIES}
    return {name: each for name, each in found.items() if each}


def _board_name() -> str | None:
    """The device tree's model, which is how a Jetson names itself."""
    if not MODEL.exists():
        return None
    return text("the board's name", MODEL.read_bytes)


def _gpus() -> tuple[Gpu, ...]:
    with open_nvml() as nvml:
        return tuple(_gpu(nvml, index) for index in range(gpu_count(nvml))) if nvml is not None else ()


def _gpu(nvml: Any, index: int) -> Gpu:
    gpu = NvmlGpu(nvml, reading(f"GPU {index}", lambda: nvml.nvmlDeviceGetHandleByIndex(index)))
    processes = gpu.processes()

    def clock_mhz(function: str, kind: str) -> int | None:
        return whole_number(f"{function} {kind}", lambda: gpu.ask(function, getattr(nvml, kind)), MOST_MHZ)

    return Gpu(
        index=index,
        name=text("the GPU's name", lambda: gpu.ask("nvmlDeviceGetName")),
        memory_mib=_mib("the GPU's memory", lambda: gpu.ask("nvmlDeviceGetMemoryInfo").total),
        compute_capability=text("the compute capability", lambda: _capability(gpu)),
        driver=text("the driver's version", lambda: nvml.nvmlSystemGetDriverVersion()),
        graphics_clock_mhz=clock_mhz("nvmlDeviceGetClockInfo", "NVML_CLOCK_GRAPHICS"),
        graphics_clock_max_mhz=clock_mhz("nvmlDeviceGetMaxClockInfo", "NVML_CLOCK_GRAPHICS"),
        memory_clock_mhz=clock_mhz("nvmlDeviceGetClockInfo", "NVML_CLOCK_MEM"),
        power_limit_w=number(
            "the power limit", lambda: gpu.ask("nvmlDeviceGetPowerManagementLimit") / MW_PER_W, MOST_W
        ),
        other_processes=None if processes is None else len(processes),
    )


def _capability(gpu: NvmlGpu) -> str:
    major, minor = gpu.ask("nvmlDeviceGetCudaComputeCapability")
    if not (0 < int(major) < MOST_CAPABILITY and 0 <= int(minor) < MOST_CAPABILITY):
        raise ValueError(f"{major}.{minor} is absurd")
    return f"{int(major)}.{int(minor)}"


def _mib(what: str, read: Callable[[], object]) -> float | None:
    """Bytes that are read, in MiB; none at all is no answer."""
    size_bytes = number(what, read, MOST_BYTES, least=1)
    return None if size_bytes is None else size_bytes / BYTES_PER_MIB
