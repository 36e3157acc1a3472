"""The driver's version, as the operating system and the driver tell it."""

from __future__ import annotations

from pathlib import Path

_MODULE_VERSION = Path("/sys/module/nvidia/version")


def driver_text(cuda_version: int) -> str:
    """Such as "580.95.05 (CUDA 13.0)"; a Jetson's driver has no number of its own: "CUDA 12.6".

    Args:
        cuda_version: as cuDriverGetVersion gives it, 12060 for 12.6.
    """
    cuda = f"CUDA {cuda_version // 1000}.{cuda_version % 1000 // 10}"
    try:
        return f"{_MODULE_VERSION.read_text().strip()} ({cuda})"
    except OSError:
        return cuda
