"""Memory and disk, against what running and building need."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from vla_edge.export.build.memory import disk_needed, memory_needed
from vla_edge.runtime.engines.tensorrt.library import DEFAULT_BACKEND, Backend
from vla_edge.runtime.engines.tensorrt.record import PartRecord
from vla_edge.runtime.process.host_memory import available_memory_bytes

from ..finding import Finding, Verdict, untold
from ..machine import Machine, gib
from .gpu import without_gpu
from .running import Running

_KIB = 1024
_LITTLE_DISK_BYTES = 1 << 30
_ROOM = "Stop other programs, on a board the desktop too: sudo init 3. Is it a policy that runs? --running."
_HELPS = "sudo init 3 ends the desktop, stop other programs, add swap on fast storage, vla-build --workspace-mib 512."


@dataclass(frozen=True)
class Build:
    """A build that is still to be made.

    Attributes:
        folder: of the bundle.
        weights: their size in bytes.
        largest_part: bytes of weights of the largest part, if the graph is cut wherever it can be; None of one that
            cannot be cut.
        backend: the library that makes it.
        measured: parts that it built on this machine, by which the prediction is corrected.
    """

    folder: Path
    weights: int
    largest_part: int | None = None
    backend: Backend = DEFAULT_BACKEND
    measured: tuple[PartRecord, ...] = ()

    def memory(self, weights: int, shared: bool) -> int:
        """Bytes that building so many bytes of weights takes; see `memory_needed`."""
        return memory_needed(weights, shared, self.backend, self.measured)


def check_memory(machine: Machine, build: Build | None, running: Running | None) -> Iterator[Finding]:
    """What is free, against what running takes and what a build that is still to be made takes.

    Args:
        machine: where.
        build: that is still to be made; None where none is.
        running: what it takes; None where a policy has taken it already.
    """
    free = available_memory_bytes(swap=False, root=machine.root)
    with_swap = available_memory_bytes(root=machine.root)
    if free is None or with_swap is None:
        yield untold("memory", "memory", "/proc/meminfo does not tell")
        return
    swap = f"and {gib(with_swap - free)} of swap" if with_swap > free else "no swap"
    found = f"{gib(free)} of {gib(_total(machine))} free, {swap}"
    yield _to_run(machine, running, found, free, with_swap) if running else Finding("memory", "memory", found)
    if build is not None:
        yield _to_build(machine, build, with_swap)


def _to_run(machine: Machine, running: Running, found: str, free: int, with_swap: int) -> Finding:
    """Too little even with swap stops a policy. With swap it may load; but every page that is fetched delays a step."""
    shared = machine.shares_memory
    needed = running.host + (running.gpu if shared else 0)
    told = f"{found}; {_taken(machine, running, needed)}"
    card = machine.gpu.total_mib << 20 if machine.gpu and not shared else None
    if card is not None and running.gpu > card:
        return Finding("memory", "memory", told, "stops", "A policy that is as large needs another GPU.")
    if needed > with_swap:
        return Finding("memory", "memory", told, "stops", _ROOM)
    if needed > free:
        return Finding("memory", "memory", f"{told}: on swap it is slow", "warning", _ROOM)
    return Finding("memory", "memory", found if running.weights is None else told)


def _taken(machine: Machine, running: Running, needed: int) -> str:
    """Such as "running its plan takes about 3.9 GiB: weights 3.0 GiB, CUDA and the program 0.8 GiB"."""
    if running.weights is None:
        own = f"CUDA {gib(running.gpu)}, the program {gib(running.host)}" if running.gpu else "the program"
        return f"{running.what} takes {gib(needed)} before its weights: {own}"
    takes = f"running {running.what} takes about {gib(needed)}"
    if running.gpu and not machine.shares_memory:
        whole = f" of the GPU's {gib(machine.gpu.total_mib << 20)}" if machine.gpu else " of a GPU"
        return f"{takes}, and {gib(running.gpu)}{whole}"
    around = "CUDA and the program" if running.gpu else "the program"
    return f"{takes}: weights {gib(running.weights)}, {around} {gib(needed - running.weights)}"


def _to_build(machine: Machine, build: Build, with_swap: int) -> Finding:
    """Whether a build fits what is free, swap counted: a prediction, so never more than a warning."""
    whole = build.memory(build.weights, machine.shares_memory)
    free = f"{gib(with_swap)} free with swap"
    if whole <= with_swap:
        return _build_finding(f"a build takes about {gib(whole)}, {free}")
    found = f"a build as one plan takes about {gib(whole)}"
    part = None if build.largest_part is None else build.memory(build.largest_part, machine.shares_memory)
    if part is not None:
        found += f", in parts {gib(part)}"
        if part <= with_swap:
            return _build_finding(f"{found}, {free}: vla-build makes parts")
    return _build_finding(f"{found}, {free}", "warning", f"It may run out: {_HELPS}")


def _build_finding(found: str, verdict: Verdict = "ok", todo: str = "") -> Finding:
    return Finding("build-memory", "build", found, verdict, todo)


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
