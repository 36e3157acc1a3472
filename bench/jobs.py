"""What the bench tells a worker process, and what the worker tells back.

A job is one line of JSON on the worker's standard input; answers are JSON messages over a pipe of their
own, since libraries print to standard output. `process.py` is the parent's side, `worker.py` the child's.
"""

from __future__ import annotations

from typing import Literal

from msgspec import Struct

from .memory import HostMemory
from .report import Identity, Parity, Samples, Warmup

Phase = Literal["start", "import", "load", "first call", "warm-up", "measure", "parity", "act"]
# while latency is measured the parent keeps off the cores
QUIET_PHASES: tuple[Phase, ...] = ("measure", "act")


class Job(Struct, frozen=True, kw_only=True):
    """What a worker is to measure.

    Attributes:
        backend: "torch-fp32", "torch-fp16", "torch-fp16-graph", or the name of an engine of the bundle.
        bundle: folder of the bundle.
        checkpoint: for the torch backends.
        frame: height and width of the frame for `Policy.act`.
        runs, seconds, warmup: see `vla_edge.bench.measure.Budget`.
        spawned_ns: `time.monotonic_ns()` just before the process was started.
    """

    backend: str
    bundle: str
    checkpoint: str | None
    device: Literal["cpu", "cuda"]
    threads: int
    frame: tuple[int, int]
    runs: int | None
    seconds: float
    warmup: int | None
    spawned_ns: int = 0


class Entered(Struct, frozen=True, tag="entered"):
    """The worker begins a phase."""

    phase: Phase


class Measured(Struct, frozen=True, kw_only=True, tag="measured"):
    """All that a worker has measured."""

    identity: Identity
    samples: Samples
    warmup: Warmup
    parity: Parity
    interpreter_s: float
    import_s: float
    load_s: float
    first_call_s: float
    host_memory: HostMemory | None
    torch_allocator_peak_mib: float | None
    notes: tuple[str, ...]


class Failed(Struct, frozen=True, tag="failed"):
    """Why there are no figures."""

    reason: str


Message = Entered | Measured | Failed
