"""Whether this machine can run what a bench was asked for, before the first minute is spent on it."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path

from vla_edge.bench.options.options import Device
from vla_edge.runtime.command.extras import require
from vla_edge.runtime.cuda.libcuda import LibCuda
from vla_edge.runtime.engines.registry import ENGINES
from vla_edge.runtime.errors import EngineError, InputError

from .load import TORCH_NAMES
from .torch_session import TORCH_MODES


def check_device(device: Device) -> None:
    """Refuse a GPU that CUDA does not have; the driver is asked, no context is opened.

    Raises:
        InputError: "cuda" on a machine without a driver, or whose GPUs are hidden.
    """
    if device == "cpu":
        return
    try:
        LibCuda().pci_bus_id(0)
    except EngineError as error:
        raise InputError(
            f"--device cuda cannot be used here: {_inner(error.problem)}",
            "Use --device cpu, or fix CUDA first.",
        ) from error
    except AttributeError as error:  # a libcuda too old to have a function
        raise InputError(f"--device cuda cannot be used here: {error}.", "Install a newer driver.") from error


def has_cuda() -> bool:
    """Whether CUDA has a GPU for this process."""
    try:
        check_device("cuda")
    except InputError:
        return False
    return True


def check_paths(paths: Iterable[Path]) -> None:
    """Refuse names that are no text: a job is JSON, and a report that names them would be none.

    Raises:
        InputError: a path with bytes that are no UTF-8.
    """
    for path in map(str, paths):
        shown = path.encode(errors="replace").decode()
        if shown != path:
            raise InputError(
                f"the path {shown} is no UTF-8 text.", "Rename it, or the folder that it lies in."
            )


def check_backends(names: Sequence[str], device: Device) -> None:
    """Refuse backends asked for by name that cannot run on this device or are not installed.

    Args:
        names: as given with --backends; what is run by default is chosen by what is there, and not refused.

    Raises:
        InputError: one needs a GPU, or an ONNX Runtime with its CUDA provider.
        MissingPackageError: the package of one is not installed.
    """
    for name in names:
        if device == "cpu" and needs_gpu(name):
            raise InputError(
                f"--backends {name} needs a GPU, and this bench runs on the CPU.",
                "Use --device cuda on a machine that has one, or leave that backend out.",
            )
        if name in ENGINES:
            require(name, ENGINES[name].package)
    if device == "cuda" and "onnxruntime" in names:
        _check_onnxruntime()


def needs_gpu(name: str) -> bool:
    """Whether a backend of the bench runs on no CPU."""
    return TORCH_MODES[name].needs_gpu if name in TORCH_NAMES else "cpu" not in ENGINES[name].devices


def _check_onnxruntime() -> None:
    from vla_edge.runtime.engines.onnxruntime import import_onnxruntime

    available = import_onnxruntime().get_available_providers()
    if "CUDAExecutionProvider" not in available:
        raise InputError(
            f"--backends onnxruntime cannot use --device cuda: this onnxruntime has only {', '.join(available)}.",
            "Install onnxruntime-gpu in its place, or leave that backend out.",
        )


def _inner(sentence: str) -> str:
    """A sentence within another one."""
    return sentence[:1].lower() + sentence[1:]
