"""Whether this machine has an NVIDIA GPU; asked of files, not of a driver."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path

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
