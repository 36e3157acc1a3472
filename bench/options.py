"""What a bench run was asked for."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from vla_edge.bench.measure.jobs import DEFAULT_WORKER

Workload = Literal["policy", "owner-standin"]


@dataclass(frozen=True)
class BenchOptions:
    """What `vla-bench` was asked for.

    Attributes:
        engines: a bundle, or a folder of bundles.
        device: where every backend runs.
        threads: of each backend on the CPU.
        runs, seconds, warmup: see `measure.Budget`.
        time_limit_s: for one backend's process, from its start to its end.
        backends: names to run; empty for all.
        checkpoints: files given by the user.
        worker: the command that runs one backend.
        workloads: "policy" for the bundles, "owner-standin" for `standin/`.
        rate_hz: of the paced loop; None for none.
        images: frames of the user's own, in order.
        quick: leave out what takes long: compilers, profiles, the device's rates.
    """

    engines: Path
    device: Literal["cpu", "cuda"]
    threads: int
    runs: int | None = None
    seconds: float = 8.0
    warmup: int | None = None
    time_limit_s: float = 900.0
    backends: tuple[str, ...] = ()
    checkpoints: tuple[Path, ...] = ()
    worker: Sequence[str] = DEFAULT_WORKER
    workloads: tuple[Workload, ...] = ("policy",)
    rate_hz: float | None = None
    images: tuple[Path, ...] = ()
    quick: bool = False
