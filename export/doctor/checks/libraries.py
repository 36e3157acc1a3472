"""The engines' libraries and the packages under them."""

from __future__ import annotations

from collections.abc import Iterator

from vla_edge.runtime.engines.registry import ENGINES

from ..finding import Finding, Verdict
from ..machine import CUDA_BINDINGS, ONNX_RUNTIMES, Library, Machine, cuda_text, numbers
from .gpu import without_gpu

# Older ones hold Python's lock while the GPU works, so that a hung engine stops the watch over it, too.
_OLDEST_BINDINGS = (12, 9, 1)
_OLDEST_TENSORRT, _NEWEST_TENSORRT = (10, 3), (11,)  # as in pyproject.toml
_CUDA_13 = 13000


def check_engines(machine: Machine) -> Iterator[Finding]:
    """Every engine's library: does it load, is it recent enough.

    Where a GPU is, TensorRT is the one that counts, elsewhere ONNX Runtime.
    """
    for name, engine in ENGINES.items():
        library = machine.libraries.get(name, Library(problem=f"{engine.label} did not answer."))
        if not library.problem:
            yield _version(name, engine.label, library)
        elif library.installed or _counts(name, machine):
            yield Finding(name, engine.label, library.problem, _weight(name, machine), library.hint)
        elif name in ("onnxruntime", "tensorrt"):  # another is one of two, and not for boards
            yield Finding(name, engine.label, f"{library.problem.rstrip('.')}, and not needed here")


def _counts(name: str, machine: Machine) -> bool:
    if machine.should_have_gpu:
        return name == "tensorrt" and not machine.runs("tensorrt-rtx")
    return name == "onnxruntime"


def _weight(name: str, machine: Machine) -> Verdict:
    """How bad it is that an engine's library cannot be used."""
    if not _counts(name, machine):
        return "warning"
    return "stops" if name == "onnxruntime" else without_gpu(machine)


def _version(name: str, label: str, library: Library) -> Finding:
    if name == "tensorrt" and numbers(library.version)[:2] < _OLDEST_TENSORRT:
        todo = "Move to 10.3 or later: JetPack 6.1 or later on a Jetson, pip install tensorrt-cu12 elsewhere."
        return Finding(name, label, f"{library.version} is older than what is supported", "warning", todo)
    if name == "tensorrt" and numbers(library.version)[:1] > _NEWEST_TENSORRT:
        todo = "Update vla-edge, or take TensorRT 11."
        return Finding(name, label, f"{library.version} is newer than what was tested", "warning", todo)
    return Finding(name, label, library.version)


def check_onnxruntime_pair(machine: Machine) -> Iterator[Finding]:
    """Two distributions of one import package, which overwrite each other's files."""
    both = [name for name in ONNX_RUNTIMES if name in machine.packages]
    if len(both) < 2:
        return
    versions = " and ".join(f"{name} {machine.packages[name]}" for name in both)
    yield Finding(
        "onnxruntime-pair",
        "ONNX Runtime",
        f"{versions} are both installed and overwrite each other",
        "warning",
        f"pip uninstall -y {' '.join(both)} && pip install onnxruntime-gpu",
    )


def check_cuda_bindings(machine: Machine) -> Iterator[Finding]:
    """cuda-bindings against the driver. Nothing where no GPU is: nothing uses them."""
    gpu, found = machine.gpu, machine.packages.get(CUDA_BINDINGS)
    if gpu is None:
        return
    newer = gpu.cuda >= _CUDA_13
    fitting = "pip install 'cuda-bindings>=12.9.1'" if newer else "pip install 'cuda-bindings>=12.9.1,<13'"
    if found is None:
        yield Finding(
            CUDA_BINDINGS, CUDA_BINDINGS, "not installed; plans need it", without_gpu(machine), fitting
        )
    elif numbers(found)[:1] >= (13,) and not newer:
        problem = f"{found} needs a driver of CUDA 13; this one has {cuda_text(gpu.cuda)}"
        yield Finding(CUDA_BINDINGS, CUDA_BINDINGS, problem, without_gpu(machine), fitting)
    elif numbers(found) < _OLDEST_BINDINGS:
        problem = f"{found} holds Python's lock while the GPU works: a hung engine stops the watch, too"
        yield Finding(CUDA_BINDINGS, CUDA_BINDINGS, problem, "warning", fitting)
    else:
        yield Finding(CUDA_BINDINGS, CUDA_BINDINGS, found)
