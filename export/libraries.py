"""Importing what takes seconds."""

from __future__ import annotations

import gc
from importlib import import_module

from vla_edge.runtime.process.cores import cpu_quota, usable_cores


def import_reference() -> None:
    """Import torch, transformers' models and the policies made of them.

    Garbage collection is paused meanwhile. An import makes a million objects and drops few, so the collector
    finds little each time that it looks through them all: 4.5 s instead of 6.4 on two x86 cores.
    """
    was_enabled = gc.isenabled()
    gc.disable()
    try:
        import_module("vla_edge.export.kosmos2.reference")
        transformers = import_module("transformers")
        # transformers imports its models when they are first asked for
        _ = transformers.Kosmos2Model, transformers.CLIPModel
        if cpu_quota() is not None:  # which torch does not know: threads beyond it stop each other
            import_module("torch").set_num_threads(usable_cores())
    finally:
        if was_enabled:
            gc.enable()
