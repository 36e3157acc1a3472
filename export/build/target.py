"""What a plan is built for: the GPU of this machine, or, with TensorRT-RTX, one that is not here."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from vla_edge.runtime.cuda.device import CudaDevice, MemoryName
from vla_edge.runtime.cuda.opening import open_device
from vla_edge.runtime.engines.tensorrt.library import LIBRARIES, Backend, Library, load_library
from vla_edge.runtime.engines.tensorrt.plan_names import dotted
from vla_edge.runtime.engines.tensorrt.record import Machine
from vla_edge.runtime.engines.tensorrt.session import machine_of
from vla_edge.runtime.errors import EngineError, InputError


@dataclass(frozen=True)
class Target:
    """A library and the machine that its plan will run on.

    Attributes:
        device: the GPU, open, if the plan can run here.
        absent: why it cannot, when `device` is None; a sentence.
    """

    library: Library
    machine: Machine
    device: CudaDevice | None
    absent: str

    @property
    def shares_memory(self) -> bool:
        """Whether the GPU that builds has no memory but the CPU's."""
        return self.device is not None and self.device.info.integrated


@contextmanager
def open_target(
    backend: Backend, device_index: int, memory: MemoryName, sm: int | None, *, building: bool = False
) -> Iterator[Target]:
    """Load the library and open the GPU, as far as the build needs one.

    Args:
        backend: which library.
        device_index: CUDA's index of the GPU.
        memory: implementation of device memory.
        sm: build for this compute capability instead of the GPU's own.
        building: the plan is kept and need not run here, so that without a GPU one may be named.

    Raises:
        EngineError: no TensorRT; no GPU where one is needed; a capability that TensorRT-RTX does not build for.
        InputError: `sm` with a library that builds only for the GPU that is there.
    """
    builds_for_others = LIBRARIES[backend].compiles_at_load
    if sm is not None and not builds_for_others:
        raise InputError(
            f"--sm {sm} cannot be asked of {backend}: it builds for the GPU that it runs on.",
            "Run vla-build on the target, or use --backend tensorrt-rtx.",
        )
    library = load_library(backend)
    if sm is not None:
        _check_sm(library, sm)
    try:
        device = open_device(device_index, memory)
    except EngineError as error:
        if sm is None:
            raise (_no_gpu(error) if building and builds_for_others else error) from error
        yield _elsewhere(library, sm, "")
        return
    try:
        if sm is not None and sm != device.info.sm:
            yield _elsewhere(library, sm, f" (here: {device.info})")
        else:
            if builds_for_others:
                _check_sm(library, device.info.sm)
            yield Target(library, machine_of(library, device), device, "")
    finally:
        device.close()


def _elsewhere(library: Library, sm: int, here: str) -> Target:
    machine = Machine(backend=library.backend, version=library.version, sm=sm, gpu=None, driver=None)
    return Target(library, machine, None, f"built for SM {dotted(sm)} on a machine without that GPU{here}.")


def _check_sm(library: Library, sm: int) -> None:
    known = [name for name in library.trt.ComputeCapability.__members__ if name.startswith("SM")]
    if f"SM{sm}" not in known:
        raise EngineError(
            f"TensorRT-RTX {library.version} does not build for SM {sm}.",
            f"It builds for {', '.join(name[2:] for name in known)}; for other GPUs use --backend tensorrt on them.",
        )


def _no_gpu(error: EngineError) -> EngineError:
    return EngineError(error.problem, f"{error.hint} Or name the GPU to build for, such as --sm 89.")
