"""Memory and disk, against what a build of the bundle needs."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from vla_edge.export.build.memory import disk_needed, memory_needed
from vla_edge.runtime.process.host_memory import available_memory_bytes

from ..finding import Finding, untold
from ..machine import Machine, gib
from .gpu import without_gpu

_KIB = 1024
_LITTLE_DISK_BYTES = 1 << 30
_HELPS = "sudo init 3 ends the desktop, stop other programs, add swap on fast storage, vla-build --workspace-mib 512."


@dataclass(frozen=True)
class Build:
    """A build that is still to be made.

    Attributes:
        folder: of the bundle.
        weights: their size in bytes.
        largest_part: bytes of weights of the largest part, if the graph is cut wherever it can be; None of one that
            cannot be cut.
    """

    folder: Path
    weights: int
    largest_part: int | None = None


def check_memory(machine: Machine, build: Build | None) -> Iterator[Finding]:
    """What is free, swap counted, and whether a build fits it: a prediction, so never more than a warning."""
    free = available_memory_bytes(swap=False, root=machine.root)
    with_swap = available_memory_bytes(root=machine.root)
    if free is None or with_swap is None:
        yield untold("memory", "memory", "/proc/meminfo does not tell")
        return
    swap = f"and {gib(with_swap - free)} of swap" if with_swap > free else "no swap"
    found = f"{gib(free)} of {gib(_total(machine))} free, {swap}"
    if build is None:
        yield Finding("memory", "memory", found)
        return
    whole = memory_needed(build.weights, machine.shares_memory)
    if whole <= with_swap:
        yield Finding("memory", "memory", f"{found}; a build takes about {gib(whole)}")
        return
    found = f"{found}; a build as one plan takes about {gib(whole)}"
    part = None if build.largest_part is None else memory_needed(build.largest_part, machine.shares_memory)
    if part is not None:
        found += f", in parts {gib(part)}"
        if part <= with_swap:
            yield Finding("memory", "memory", f"{found}: vla-build makes parts")
            return
    yield Finding("memory", "memory", found, "warning", f"It may run out: {_HELPS}")


def _total(machine: Machine) -> int:
    for line in (machine.text("proc/meminfo") or "").splitlines():
        words = line.split()
        if words[:1] == ["MemTotal:"] and words[1].isdigit():
            return int(words[1]) * _KIB
    return 0


def check_disk(machine: Machine, folder: Path, build: Build | None) -> Iterator[Finding]:
    """Room for a plan where the bundle lies; too little is refused by `vla-build`."""
    free = shutil.disk_usage(folder).free
    needed = disk_needed(build.weights) if build else 0
    found = f"{gib(free)} free at {folder}"
    if build and free < needed:
        problem = f"{found}; a plan needs {gib(needed)}"
        yield Finding("disk", "disk", problem, without_gpu(machine), "Free some, or move the bundle.")
    elif build and not os.access(folder, os.W_OK | os.X_OK):
        problem = f"{folder} is not writable, and a plan goes there"
        yield Finding("disk", "disk", problem, without_gpu(machine), "Change its owner, or copy the bundle.")
    elif free < _LITTLE_DISK_BYTES and not build:
        yield Finding("disk", "disk", found, "warning", "Free some: bundles and plans are gigabytes.")
    else:
        yield Finding("disk", "disk", f"{found}; a plan needs {gib(needed)}" if build else found)
