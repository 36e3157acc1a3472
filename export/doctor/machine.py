"""What the checks know of the machine: its files, its packages, its GPU and its engines' libraries."""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from msgspec import Struct

from vla_edge.runtime.engines.nvidia_gpu import has_nvidia_gpu
from vla_edge.runtime.printable import one_line
from vla_edge.runtime.process.machine import is_jetson

_MOST_BYTES = 64 << 10  # of a file that the system writes
_MIB_BELOW_BYTES = 100 << 20

ONNX_RUNTIMES = ("onnxruntime", "onnxruntime-gpu")
CUDA_BINDINGS = "cuda-bindings"
TENSORRT_CU13 = ("tensorrt-cu13", "tensorrt-cu13-libs")
_PACKAGES = (*ONNX_RUNTIMES, CUDA_BINDINGS, *TENSORRT_CU13)


class Gpu(Struct, frozen=True):
    """The first GPU, as the driver tells it.

    Attributes:
        name: such as "Orin".
        sm: compute capability as one number: 87 for 8.7.
        total_mib: of its memory; on a board, of the memory that it shares with the CPU.
        integrated: whether it shares that.
        cuda: the newest CUDA that the driver knows, 12060 for 12.6.
    """

    name: str
    sm: int
    total_mib: int
    integrated: bool
    cuda: int


class Library(Struct, frozen=True):
    """An engine's library: its version, or why there is none and what to do.

    Attributes:
        installed: its module is found, though it may not load.
        kernels: what kinds of GPU it has kernels for, 87 for 8.7; empty where its file does not tell.
        builder_kernels: as its builder's libraries on disk have it; empty where one is for all.
    """

    version: str = ""
    problem: str = ""
    hint: str = ""
    installed: bool = True
    kernels: tuple[int, ...] = ()
    builder_kernels: tuple[int, ...] = ()


@dataclass(frozen=True)
class Machine:
    """A machine, or a planted one.

    Attributes:
        root: where `proc`, `sys`, `etc` and `dev` are.
        python: major and minor version.
        packages: versions of the distributions that matter, by name.
        gpu: None where there is none, or it does not answer.
        gpu_problem: why; empty where there is one.
        libraries: by the engine's name; an engine whose library did not answer has a problem.
        slowdowns: why NVML says that the GPU's clocks are held down now.
        environment: of this process.
    """

    root: Path = Path("/")
    python: tuple[int, int] = sys.version_info[:2]
    packages: Mapping[str, str] = field(default_factory=dict)
    gpu: Gpu | None = None
    gpu_problem: str = "none was found"
    libraries: Mapping[str, Library] = field(default_factory=dict)
    slowdowns: tuple[str, ...] = ()
    environment: Mapping[str, str] = field(default_factory=lambda: os.environ)

    def text(self, path: str, most_bytes: int = _MOST_BYTES) -> str | None:
        """The beginning of a file below the root, without blanks around it; None where it cannot be read."""
        try:
            with (self.root / path).open("rb") as file:
                return file.read(most_bytes).decode(errors="replace").strip()
        except OSError:
            return None

    def line(self, path: str) -> str | None:
        """As `text`, as one harmless line."""
        text = self.text(path)
        return None if text is None else one_line(text)

    def number(self, path: str) -> int | None:
        """The whole number in a file; None where it holds none."""
        text = self.text(path)
        return int(text) if text is not None and text.isascii() and text.isdigit() else None

    @property
    def is_jetson(self) -> bool:
        """Whether this is a board of NVIDIA's, also from within a container."""
        return is_jetson(self.root)

    @property
    def has_gpu_files(self) -> bool:
        """Whether the kernel shows a GPU, even where the driver does not answer."""
        return has_nvidia_gpu(self.root, self.environment)

    @property
    def should_have_gpu(self) -> bool:
        """Whether a GPU is part of this machine, answering or not."""
        return self.gpu is not None or self.has_gpu_files or self.is_jetson

    @property
    def shares_memory(self) -> bool:
        """Whether CPU and GPU share one memory."""
        return self.gpu.integrated if self.gpu else self.is_jetson

    def runs(self, engine: str) -> bool:
        """Whether an engine's library can be used."""
        library = self.libraries.get(engine)
        return library is not None and not library.problem


def installed_packages() -> dict[str, str]:
    """Versions of the packages that matter, of those that are installed."""
    return {name: found for name in _PACKAGES if (found := _version(name))}


def _version(name: str) -> str:
    try:
        return version(name)
    except PackageNotFoundError:
        return ""


def numbers(text: str) -> tuple[int, ...]:
    """The leading numbers of a version: (12, 9, 1) for "12.9.1.post2"."""
    parts = []
    for part in text.split("."):
        if not part.isascii() or not part.isdigit():
            break
        parts.append(int(part))
    return tuple(parts)


def cuda_text(cuda: int) -> str:
    """12.6 for 12060."""
    return f"{cuda // 1000}.{cuda % 1000 // 10}"


def gib(size_bytes: float) -> str:
    """Such as "15.2 GiB"; what would be hardly more than none of them in MiB."""
    if 0 < size_bytes < _MIB_BELOW_BYTES:
        return f"{size_bytes / (1 << 20):.0f} MiB"
    return f"{size_bytes / (1 << 30):.1f} GiB"
