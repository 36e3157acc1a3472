"""What this machine is, asked of the kernel's files."""

from __future__ import annotations

import platform
from pathlib import Path

_MOST_BYTES = 64 << 10
_COMPATIBLE = "proc/device-tree/compatible"  # names parted by zero bytes, such as "nvidia,tegra234"
_TEGRA = b"nvidia,tegra"
_RELEASE = "etc/nv_tegra_release"


def is_jetson(root: Path = Path("/")) -> bool:
    """Whether this is a board around NVIDIA's Tegra, as every Jetson is; also from within a container of NVIDIA's.

    Args:
        root: where `proc` and `etc` are; another one in tests.
    """
    try:
        with (root / _COMPATIBLE).open("rb") as file:
            named = _TEGRA in file.read(_MOST_BYTES)
    except OSError:  # a container may hide it
        named = False
    return named or (root / _RELEASE).exists()


def cpu_name(root: Path = Path("/")) -> str:
    """The processor's model; Arm kernels tell none, so the architecture stands in."""
    try:
        lines = (root / "proc/cpuinfo").read_text(errors="replace").splitlines()
    except OSError:
        lines = []
    names = (line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    return next(names, platform.processor() or platform.machine())
