"""The GPU, its driver, and whether TensorRT has kernels for it."""

from __future__ import annotations

from collections.abc import Iterator

from ..finding import Finding, Verdict
from ..machine import TENSORRT_CU13, Gpu, Machine, cuda_text, dotted, numbers

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
    gpu, library = machine.gpu, machine.libraries.get("tensorrt")
    if gpu is None or library is None or library.problem:
        return
    version = numbers(library.version)
    todo = "Use the TensorRT of JetPack" if gpu.integrated else "Install another TensorRT"
    if (version[:2], gpu.sm) in _WITHOUT_KERNELS:
        known = f"TensorRT {library.version} has none for SM {dotted(gpu.sm)}"
        # it came by a pin of Isaac ROS 4.5
        pinned = f"{todo}; a pin in /etc/apt/preferences.d may hold this one."
        yield Finding("kernels", "kernels", known, without_gpu(machine), pinned)
        return
    if (version[0], gpu.sm) == _TENSORRT_11_ORIN and gpu.cuda < _CUDA_13:
        yield Finding(
            "kernels",
            "kernels",
            f"TensorRT {library.version} leaves out Orin on JetPack 6",
            without_gpu(machine),
            f"{todo}.",
        )
        return
    yield _by_files(gpu, library.version, library.kernels, f"{todo}.")


def _by_files(gpu: Gpu, version: str, kernels: tuple[int, ...], todo: str) -> Finding:
    """By the kernel libraries on disk. SM 8.7 uses those of 8.6: within a generation, older kernels run."""
    listed = ", ".join(map(dotted, kernels))
    if kernels and not any(sm // 10 == gpu.sm // 10 and sm <= gpu.sm for sm in kernels):
        found = f"TensorRT {version} lies here with those for SM {listed}, none for {dotted(gpu.sm)}"
        return Finding("kernels", "kernels", found, "warning", f"{todo} vla-build will tell.")
    how = f"for SM {listed}" if kernels else "in one library: a build tells for which GPUs"
    return Finding("kernels", "kernels", how)
