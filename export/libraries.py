"""torch and what is built on it: imported in seconds, explained where a GPU is full."""

from __future__ import annotations

import gc
from collections.abc import Iterator
from contextlib import contextmanager
from importlib import import_module

from vla_edge.export.family import Family
from vla_edge.runtime.errors import ResourceError
from vla_edge.runtime.process.cores import cpu_quota, usable_cores


def import_reference(family: Family) -> None:
    """Import torch and what the policies of a family are made of.

    Garbage collection is paused meanwhile. An import makes a million objects and drops few, so the collector
    finds little each time that it looks through them all: 4.5 s instead of 6.4 on two x86 cores.
    """
    was_enabled = gc.isenabled()
    gc.disable()
    try:
        torch = import_module("torch")
        family.prepare_imports()
        if cpu_quota() is not None:  # which torch does not know: threads beyond it stop each other
            torch.set_num_threads(usable_cores())
    finally:
        if was_enabled:
            gc.enable()


@contextmanager
def gpu_memory_explained(hint: str) -> Iterator[None]:
    """Say what to do where a GPU's memory ends.

    Raises:
        ResourceError: it did.
    """
    import torch

    try:
        yield
    except torch.OutOfMemoryError as error:
        raise ResourceError("PyTorch found the GPU's memory full.", hint) from error
