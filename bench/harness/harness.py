"""What every row is measured with: a process of its own, watched from outside."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from vla_edge.bench.measure.jobs import Failed, Job, Measured
from vla_edge.bench.options.options import Options
from vla_edge.bench.report.types import Row
from vla_edge.bench.watch.gpu import GpuWatch
from vla_edge.bench.watch.machine import other_load
from vla_edge.bench.watch.memory import MemoryWatch, open_reader
from vla_edge.bench.watch.nvml import NvmlGpu
from vla_edge.bench.watch.phases import Phase
from vla_edge.runtime.bundle.manifest import Gate

from .process import DEFAULT_WORKER, run_job
from .rows import row_of


class Progress(Protocol):
    """Is told what happens, in this order for each row."""

    def begin(self, bundle: str, backend: str) -> None: ...

    def phase(self, phase: Phase) -> None: ...

    def end(self, row: Row) -> None: ...


@dataclass(frozen=True)
class Harness:
    """The run's options, the GPU where NVML knows one, who is told of each row, and what runs a backend."""

    options: Options
    gpu: NvmlGpu | None
    progress: Progress
    worker: Sequence[str] = DEFAULT_WORKER

    def run(
        self, job: Job, origin: str, gates: Sequence[Gate] | None, notes: Sequence[str] = ()
    ) -> tuple[Row, Measured | Failed]:
        """Run a job in a process of its own and make its row."""
        on_gpu = job.options.device == "cuda"
        memory = MemoryWatch(open_reader(self.gpu) if on_gpu else None)
        gpu = GpuWatch(self.gpu if on_gpu else None)
        load = other_load()
        watches = (memory.sample, gpu.sample)
        result = run_job(job, Measured, self.worker, watches, self.progress.phase)
        return row_of(job.backend, origin, result, gates, memory, gpu, load, notes), result
