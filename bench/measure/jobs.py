"""What the bench tells a worker process, and what the worker tells back.

Both are JSON messages over a pipe of their own, since libraries print to standard output. `harness/process.py` is
the parent's side, `worker.py` the child's.
"""

from __future__ import annotations

from msgspec import Struct

from vla_edge.bench.options.options import Options
from vla_edge.bench.report.types import Rates, Row
from vla_edge.bench.watch.memory import HostMemory
from vla_edge.bench.watch.phases import Phase

RATES = "rates"


class Job(Struct, frozen=True, kw_only=True):
    """What a worker is to measure.

    Attributes:
        backend: one of `backends.load.BACKEND_NAMES`, or of the stand-in; `RATES` for the device itself.
        bundle: folder of the bundle, or `standin.BUNDLE`.
        options: of the run.
        frame: height and width of the frame for `Policy.act`.
        checkpoint: for the torch backends; None for random weights.
        scratch: a private folder that the jobs of one run share; "" for none.
        spawned_ns: `time.monotonic_ns()` just before the process was started.
    """

    backend: str
    bundle: str
    options: Options
    frame: tuple[int, int]
    checkpoint: str | None = None
    scratch: str = ""
    spawned_ns: int = 0


class Entered(Struct, frozen=True, tag="entered"):
    """The worker begins a phase."""

    phase: Phase


class Measured(Struct, frozen=True, kw_only=True, tag="measured"):
    """All that a worker has measured. Sent before a profile is taken, and with it once more.

    Attributes:
        row: its figures; memory, energy and a verdict are the waiting side's to add.
        host_memory: the process's last reading of itself.
        torch_allocator_peak_mib: see `report.Memory`.
        frame_actions: on the user's frames; None for what is not finite, since JSON has no word for it.
        profile_follows: whether this is the first of the two.
    """

    row: Row
    host_memory: HostMemory | None
    torch_allocator_peak_mib: float | None
    frame_actions: tuple[tuple[tuple[float | None, ...], ...], ...]
    profile_follows: bool


class Rated(Struct, frozen=True, tag="rated"):
    """What the device can do, of a job whose backend is `RATES`."""

    rates: Rates


class Failed(Struct, frozen=True, tag="failed"):
    """Why there are no figures; an obstacle is no fault of the backend: it could not be tried."""

    reason: str
    is_obstacle: bool = False


Message = Entered | Measured | Rated | Failed
