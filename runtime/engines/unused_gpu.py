"""Whether this machine has a GPU that a bundle without a plan leaves idle; asked of files, not of a driver."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path

from vla_edge.runtime.engines.tensorrt.plan_names import PLANS_FOLDER, backend_option

# What the kernel's drivers show: a desktop's or server's cards, a Jetson's GPU (by its generation), WSL's.
_DEVICES = ("dev/nvidia[0-9]*", "dev/nvgpu", "dev/nvhost-gpu", "usr/lib/wsl/lib/libcuda.so.1")


def has_nvidia_gpu(root: Path = Path("/"), environment: Mapping[str, str] = os.environ) -> bool:
    """Whether an NVIDIA GPU is there that CUDA may use.

    Args:
        root: of the file system.
        environment: `CUDA_VISIBLE_DEVICES` may hide all of them.
    """
    visible = environment.get("CUDA_VISIBLE_DEVICES", "0").strip()
    if not visible or visible.startswith("-"):
        return False
    return any(next(root.glob(pattern), None) is not None for pattern in _DEVICES)


def idle_gpu_warning(folder: Path, installed: Sequence[str]) -> str:
    """What to say when ONNX Runtime runs on the CPU beside a GPU.

    Args:
        folder: of the bundle.
        installed: the TensorRT backends that this Python finds, the usual one first.
    """
    rejected = sorted(path.name for path in (folder / PLANS_FOLDER).glob("*.plan.rejected"))
    why = f"its plan was rejected ({', '.join(rejected)})" if rejected else "it has no TensorRT plan"
    option = backend_option(installed[0]) if installed else ""
    hint = f"build one here: vla-build {folder}{option}"
    if not installed:
        hint = f"TensorRT is not installed for this Python; install it (README), then {hint}"
    return (
        f"{folder} runs on the CPU although this machine has an NVIDIA GPU: {why}. To use the GPU, {hint} "
        "(backend='onnxruntime', --backend onnxruntime, means the CPU without this warning.)"
    )
