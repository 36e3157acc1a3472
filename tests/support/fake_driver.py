"""A libcuda.so.1 of host memory: CUDA 12.6 with one integrated GPU of compute capability 8.7."""

from __future__ import annotations

import subprocess
from pathlib import Path


def build_fake_driver(folder: Path) -> Path:
    """Compile it into a folder, for `LD_LIBRARY_PATH`; gives the folder."""
    source = Path(__file__).with_name("fake_libcuda.c")
    target = folder / "libcuda.so.1"
    command = ["gcc", "-shared", "-fPIC", "-O1", "-Wl,-soname,libcuda.so.1", "-o", target, source, "-ldl"]
    subprocess.run(command, check=True)
    return folder
