"""The GPU, its driver, and whether TensorRT has kernels for it."""

from __future__ import annotations

from collections.abc import Iterator

from vla_edge.runtime.engines.tensorrt.library import DEFAULT_BACKEND, LIBRARIES
from vla_edge.runtime.engines.tensorrt.plan_names import dotted

from ..finding import Finding, Verdict
from ..machine import TENSORRT_CU13, Gpu, Library, Machine, cuda_text, numbers

_MIB_PER_GIB = 1024
_CUDA_12, _CUDA_13 = 12000, 13000
# TensorRT and compute capability without kernels for it, by report; sources in docs/jetson.md.
_WITHOUT_KERNELS = {((10, 13), 87)}
_TENSORRT_11_ORIN = (11, 87)


def without_gpu(machine: Machine) -> Verdict:
    """How bad it is that the GPU cannot be used: ONNX Runtime still runs a bundle without a plan on the CPU."""
    return "warning" if machine.runs("onnxruntime") else "stops"


def check_gpu(machine: Machine) -> Iterator[Finding]:
    """The GPU."""
    gpu = machine.gpu
    if gpu is not None:
        shared = "shared with the CPU" if gpu.integrated else "of its own"
        memory = f"{gpu.total_mib / _MIB_PER_GIB:.1f} GiB {shared}"
        yield Finding("gpu", "GPU", f"{gpu.name}, SM {dotted(gpu.sm)}, {memory}")
    elif machine.has_gpu_files:
        yield Finding(
            "gpu",
            "GPU",
            f"it is there, but does not answer: {machine.gpu_problem}",
            without_gpu(machine),
            "Reboot. In a container: docker run --runtime nvidia (a board), --gpus all (a card). "
            "Not root: sudo usermod -aG video,render $USER, and log in again.",
        )
    elif machine.is_jetson or (machine.root / "proc/driver/nvidia/version").exists():
        yield Finding(
            "gpu",
            "GPU",
            "its driver is loaded, but no device is here",
            without_gpu(machine),
            "In a container: docker run --runtime nvidia (a board) or --gpus all (a card).",
        )
    else:
        yield Finding(
            "gpu",
            "GPU",
            "no NVIDIA GPU: policies run on the CPU, slowly",
            "warning",
            "For trying only; a robot needs its GPU.",
        )


def check_driver(machine: Machine) -> Iterator[Finding]:
    """The driver's CUDA, against that of the packages."""
    gpu = machine.gpu
    if gpu is None:
        return
    module = machine.line("sys/module/nvidia/version")
    found = f"{f'{module}, ' if module else ''}CUDA {cuda_text(gpu.cuda)}"
    if gpu.cuda < _CUDA_12:
        todo = "Update the driver: 525.60 or later; on a Jetson, JetPack 6.1 or later."
        yield Finding("driver", "driver", f"{found} is too old", without_gpu(machine), todo)
        return
    newer = [name for name in TENSORRT_CU13 if name in machine.packages]
    if newer and gpu.cuda < _CUDA_13:
        yield Finding(
            "driver",
            "driver",
            f"{found}, but {newer[0]} {machine.packages[newer[0]]} needs CUDA 13",
            without_gpu(machine),
            "pip install tensorrt-cu12 in its place, or update the driver to 580 or later.",
        )
        return
    yield Finding("driver", "driver", found)


def check_kernels(machine: Machine) -> Iterator[Finding]:
    """Whether the TensorRT that is here has kernels for this GPU, as far as that shows without building."""
    gpu = machine.gpu
    # the usual one first; beside it the other is not needed
    name = next((name for name in LIBRARIES if machine.runs(name)), None)
    if gpu is None or name is None:
        return
    library = machine.libraries[name]
    todo = "Use the TensorRT of JetPack." if gpu.integrated else "Install another TensorRT."
    label = f"{LIBRARIES[name].label} {library.version}"
    known = _known_to_lack(gpu, library.version) if name == DEFAULT_BACKEND else ""
    if known:
        pinned = f"{todo} A pin in /etc/apt/preferences.d may hold this one."  # as Isaac ROS 4.5 sets one
        yield Finding("kernels", "kernels", f"{label} {known}", without_gpu(machine), pinned)
    else:
        yield _by_files(gpu, label, library, todo)


def _known_to_lack(gpu: Gpu, version: str) -> str:
    found = numbers(version)
    if (found[:2], gpu.sm) in _WITHOUT_KERNELS:
        return f"has none for SM {dotted(gpu.sm)}"
    if (found[0], gpu.sm) == _TENSORRT_11_ORIN and gpu.cuda < _CUDA_13:
        return "leaves out Orin on JetPack 6"
    return ""


def _by_files(gpu: Gpu, label: str, library: Library, todo: str) -> Finding:
    """By what the library's own file holds, and by the builder's libraries beside it.

    A card runs older kernels of its own generation; a board must have its own in the library, while the builder serves
    8.7 with the libraries of 8.6.
    """
    inside, beside = library.kernels, library.builder_kernels
    fits = gpu.sm in inside if gpu.integrated else _older_fits(gpu, inside)
    for kinds, good in ((inside, fits), (beside, _older_fits(gpu, beside))):
        if kinds and not good:
            found = f"{label} has kernels for SM {_listed(kinds)}, none for {dotted(gpu.sm)}"
            return Finding(
                "kernels", "kernels", found, "warning", f"{todo} A build tells for sure: vla-build."
            )
    told = f"{label} has kernels for SM {_listed(inside or beside)}" if inside or beside else ""
    return Finding("kernels", "kernels", told or f"{label} does not tell for which GPUs; a build does")


def _older_fits(gpu: Gpu, kinds: tuple[int, ...]) -> bool:
    return any(sm // 10 == gpu.sm // 10 and sm <= gpu.sm for sm in kinds)


def _listed(kinds: tuple[int, ...]) -> str:
    return ", ".join(map(dotted, kinds))
