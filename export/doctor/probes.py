"""What only native code can tell: the driver's GPU, and whether engines' libraries load. For processes of their own."""

from __future__ import annotations

import ctypes
import re
from ctypes import byref, c_char_p, c_int, c_size_t, create_string_buffer
from pathlib import Path

from vla_edge.runtime.command.extras import is_installed
from vla_edge.runtime.cuda.libcuda import LibCuda
from vla_edge.runtime.engines.registry import ENGINES
from vla_edge.runtime.engines.tensorrt.library import load_library
from vla_edge.runtime.errors import EngineError

from .fatbins import kernels_in
from .machine import Gpu, Library

# cuda.h, CUdevice_attribute
_INTEGRATED, _MAJOR, _MINOR = 18, 75, 76
_NAME_BYTES = 256
_MIB = 1 << 20
# nvml.h, nvmlClocksEventReason*; a cap on power by software is a card's usual state under load
_SLOWDOWNS = {0x8: "hardware slowdown", 0x20: "heat", 0x40: "heat (hardware)", 0x80: "power brake"}
_KERNELS = re.compile(r"libnvinfer_builder_resource_sm(\d+)\.so")


def probe_gpu() -> Gpu:
    """Ask the driver for its first GPU, without any package and without a context on it.

    Raises:
        EngineError: no driver, no GPU, or the driver's own refusal.
    """
    try:
        cuda = ctypes.CDLL("libcuda.so.1")
    except OSError as error:
        raise EngineError("no NVIDIA driver: libcuda.so.1 cannot be loaded") from error
    version, count, device, size = c_int(), c_int(), c_int(), c_size_t()
    name = create_string_buffer(_NAME_BYTES)
    _call(cuda, "cuInit", 0)
    _call(cuda, "cuDriverGetVersion", byref(version))
    _call(cuda, "cuDeviceGetCount", byref(count))
    if count.value < 1:
        raise EngineError("the driver shows no GPU")
    _call(cuda, "cuDeviceGet", byref(device), 0)
    _call(cuda, "cuDeviceGetName", name, _NAME_BYTES, device)
    _call(cuda, "cuDeviceTotalMem_v2", byref(size), device)

    def attribute(which: int) -> int:
        value = c_int()
        _call(cuda, "cuDeviceGetAttribute", byref(value), which, device)
        return value.value

    return Gpu(
        name=name.value.decode(errors="replace"),
        sm=attribute(_MAJOR) * 10 + attribute(_MINOR),
        total_mib=size.value // _MIB,
        integrated=bool(attribute(_INTEGRATED)),
        cuda=version.value,
    )


def _call(cuda: ctypes.CDLL, name: str, *arguments: object) -> None:
    status = getattr(cuda, name)(*arguments)
    if status != 0:
        text = c_char_p()
        known = cuda.cuGetErrorName(c_int(status), byref(text)) == 0 and text.value
        words = text.value.decode(errors="replace") if known and text.value else f"code {status}"
        raise EngineError(f"the driver refuses {name}: {words}")


def probe_library(engine: str) -> Library:
    """Load an engine's library as a session would."""
    entry = ENGINES[engine]
    try:
        found = entry.load_library()
    except EngineError as error:
        return Library(problem=error.problem, hint=error.hint, installed=is_installed(entry.package))
    if engine == "tensorrt-rtx":
        return Library(version=found, kernels=_built_for())
    inside, beside = kernels_of_tensorrt()
    return Library(version=found, kernels=inside, builder_kernels=beside)


def _built_for() -> tuple[int, ...]:
    """What TensorRT-RTX says that it builds for."""
    names = load_library("tensorrt-rtx").trt.ComputeCapability.__members__
    return tuple(sorted(int(name[2:]) for name in names if name[2:].isdigit() and name.startswith("SM")))


def kernels_of_tensorrt(maps: Path = Path("/proc/self/maps")) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """What the TensorRT that this process has loaded has kernels for: in itself, and in the builder's libraries beside.

    TensorRT 10.16 has one such library for each kind of GPU, which it loads when it builds; older ones have one for
    all, which tells nothing by its name.
    """
    lines = maps.read_text().splitlines()
    loaded = {Path(line.split(maxsplit=5)[-1]) for line in lines if "/libnvinfer.so" in line}
    inside = {sm for path in loaded for sm in kernels_in(path)}
    names = [path.name for each in loaded for path in each.parent.iterdir()]
    beside = {int(found[1]) for name in names if (found := _KERNELS.match(name))}
    return tuple(sorted(inside)), tuple(sorted(beside))


def probe_slowdowns() -> tuple[str, ...]:
    """Why NVML says that the GPU's clocks are held down now; empty where nothing holds them, or nobody tells."""
    if not is_installed("pynvml"):
        return ()
    import pynvml

    pynvml.nvmlInit()
    device = pynvml.nvmlDeviceGetHandleByPciBusId(LibCuda().pci_bus_id(0).encode())
    reasons = pynvml.nvmlDeviceGetCurrentClocksThrottleReasons(device)
    return tuple(words for bit, words in _SLOWDOWNS.items() if reasons & bit)
