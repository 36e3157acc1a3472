"""What to say of a GPU that a bundle without a plan leaves idle."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from vla_edge.runtime.engines.tensorrt.plan_names import backend_option


def idle_gpu_warning(folder: Path, installed: Sequence[str]) -> str:
    """What to say when ONNX Runtime runs on the CPU beside a GPU.

    Args:
        folder: of the bundle.
        installed: the TensorRT backends that this Python finds, the usual one first.
    """
    option = backend_option(installed[0]) if installed else ""
    hint = f"build one here: vla-build {folder}{option}"
    if not installed:
        hint = f"TensorRT is not installed for this Python; install it (README), then {hint}"
    return (
        f"{folder} runs on the CPU although this machine has an NVIDIA GPU: it has no TensorRT plan. "
        f"To use the GPU, {hint}"
    )
