"""The measuring process: one backend of one bundle, and nothing else in memory.

    python -m vla_edge.bench.worker FD

reads a `Job` from the pipe FD, and sends `Entered` for each phase and then `Measured`, `Rated` or `Failed`
back. See `harness/process.py` for the parent.
"""

from __future__ import annotations

import importlib
import math
import os
import sys
import time
import traceback
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from multiprocessing.connection import Connection
from pathlib import Path
from threading import Thread
from types import ModuleType

import msgspec

from vla_edge.bench.backends.load import Loaded
from vla_edge.bench.backends.random_policy import UnknownArchitectureError
from vla_edge.bench.measure.agreement import Actions
from vla_edge.bench.measure.jobs import RATES, Entered, Failed, Job, Measured, Message, Rated
from vla_edge.bench.measure.pace import run_paced, summarise_paced
from vla_edge.bench.measure.parity import ActionErrors
from vla_edge.bench.measure.timing import Budget, collect, summarise, warm_up
from vla_edge.bench.measure.workload import PolicyStep
from vla_edge.bench.report.types import ColdStart, Identity, Paced, Row, Samples, Warmup
from vla_edge.bench.watch.memory import read_host
from vla_edge.bench.watch.phases import Phase
from vla_edge.runtime.errors import VlaError

Load = Callable[[Job], Loaded]
STANDIN_PREFIX = "standin"
SUMMARISED = ("step", "act", "device", "queue", "preprocess")
PREPROCESS_SHARE = 0.25  # of the budget: it varies less than a step
PROFILE_RUNS = 20
PACED_SECONDS = 3.0
PROFILE_SECONDS = 10.0  # about as long as a profile may take


def load(job: Job) -> Loaded:
    """Open the job's backend."""
    return _backends(job).load(job)


def _backends(job: Job) -> ModuleType:
    """What knows the job's backend: the bundles', or the stand-in's."""
    if job.backend.startswith(STANDIN_PREFIX):
        return importlib.import_module("vla_edge.bench.standin.load")
    return importlib.import_module("vla_edge.bench.backends.load")


def main(load_backend: Load = load) -> None:
    """Answer one job; any exception becomes the reason of a failure.

    Args:
        load_backend: opens the job's backend.
    """
    started_ns = time.monotonic_ns()
    with Connection(int(sys.argv[-1])) as pipe:
        job = msgspec.json.decode(pipe.recv_bytes(), type=Job)
        Thread(target=_end_with_parent, args=(pipe,), daemon=True).start()

        def send(message: Message) -> None:
            pipe.send_bytes(msgspec.json.encode(message))

        try:
            _answer(job, load_backend, started_ns, send)
        except VlaError as error:
            obstacle = isinstance(error, UnknownArchitectureError)
            send(Failed(f"{error.problem} {error.hint}".strip(), obstacle))
        except Exception as error:
            traceback.print_exc()
            send(Failed(f"{type(error).__name__}: {error}"))


def _end_with_parent(pipe: Connection) -> None:
    """Wait for the end of whoever asked: nobody waits for a worker then, and it would hold the device."""
    with suppress(EOFError, OSError):  # nothing more is said
        pipe.recv_bytes()
    os._exit(1)


def _answer(job: Job, load_backend: Load, started_ns: int, send: Callable[[Message], None]) -> None:
    """Send what was measured before the profile begins: whatever ends that, the figures are there."""

    def enter(phase: Phase) -> None:
        send(Entered(phase))

    if job.backend == RATES:
        from vla_edge.bench.floor.rates import measure_rates

        enter("measure")
        send(Rated(measure_rates(job.options.device, job.options.threads)))
        return
    started = _Started(job, load_backend, started_ns, enter)
    measured, profile = started.measure(), started.loaded.profile
    send(measured)
    if profile is not None and measured.profile_follows and measured.row.step:
        enter("profile")
        started.step()  # a profiler runs on what the inputs hold
        row = msgspec.structs.replace(measured.row, profile=profile(_profile_runs(measured.row.step.p50_ms)))
        send(msgspec.structs.replace(measured, row=row, profile_follows=False))
    started.loaded.close()


class _Started:
    """A backend from the imports to the end of its first step, as a robot starts; then all that is measured on it."""

    def __init__(self, job: Job, load_backend: Load, started_ns: int, enter: Callable[[Phase], None]) -> None:
        self._job = job
        self._enter = enter
        self._series: dict[str, Sequence[float]] = {}
        laps = _laps(started_ns)
        cold_s = {"interpreter_s": (started_ns - job.spawned_ns) / 1e9}
        enter("import")
        _backends(job).import_libraries(job)
        cold_s["import_s"] = next(laps)
        enter("load")
        self.loaded = load_backend(job)
        cold_s["load_s"] = next(laps)
        golden = self.loaded.golden()
        self.step = PolicyStep(self.loaded.session, golden, self.loaded.state, self.loaded.output)
        self._errors = ActionErrors(golden["actions"], self.loaded.action_scale, self.loaded.action_unit)
        next(laps)  # the samples are the bench's, not a robot's
        enter("first call")
        self.step()
        cold_s["first_call_s"] = next(laps)
        split_s = dict(self.loaded.load_split_s)
        self._cold_start = ColdStart(**cold_s, total_s=sum(cold_s.values()), load_split_s=split_s)

    def measure(self) -> Measured:
        """Everything but a profile."""
        loaded, series = self.loaded, self._series
        warmup = self._sample()
        paced = self._pace()
        self.step.check(self._errors)
        actions, notes = self._run_frames()
        host_memory, torch_peak_mib = read_host(), loaded.torch_allocator_peak_mib()
        row = Row(
            backend=self._job.backend,
            status="ok",
            reason="",
            weights_origin="",
            identity=msgspec.convert(loaded.session.identity, Identity, from_attributes=True),
            **{name: summarise(series.get(f"{name}_ms", ())) for name in SUMMARISED},  # type: ignore[arg-type]
            parity=self._errors.summary(),
            cold_start=self._cold_start,
            warmup=warmup,
            samples=Samples(**{name: tuple(taken) for name, taken in series.items()}),
            paced=paced,
            # the first call and the warm-up came before
            prompts=self.step.prompt_times(series["step_ms"], 1 + warmup.calls),
            compile_s=loaded.compile_s(),
            notes=(*loaded.notes, *loaded.compile_notes(), *notes),
        )
        return Measured(
            row=row,
            host_memory=host_memory,
            torch_allocator_peak_mib=torch_peak_mib,
            frame_actions=tuple(tuple(tuple(map(_finite, each)) for each in frame) for frame in actions),
            profile_follows=bool(loaded.profile) and not self._job.options.quick,
        )

    def _sample(self) -> Warmup:
        """Warm-up, timed calls, golden samples that are left, then `Policy.act` where the backend is an engine."""
        options, loaded, step, series = self._job.options, self.loaded, self.step, self._series
        budget = Budget(options.runs, options.seconds, options.warmup)
        self._enter("warm-up")
        warmup = warm_up(step, budget)
        self._enter("measure")
        series["step_ms"] = collect(step, budget)
        calls = len(series["step_ms"])
        self._enter("parity")
        series["queue_ms"] = loaded.queue_ms(calls)  # before anything else is run
        series["device_ms"] = loaded.device_ms(calls)
        for _ in range(len(step) - 1 - warmup.calls - calls):
            step()
        step.check(self._errors)
        step.check_state(self._errors, loaded.state_stages)
        if loaded.act is not None and self._errors.summary().finite:
            self._enter("act")
            warm_up(loaded.act, budget)
            series["act_ms"] = collect(loaded.act, budget)
            if loaded.preprocess is not None:
                series["preprocess_ms"] = collect(loaded.preprocess, budget.part(PREPROCESS_SHARE))
        return warmup

    def _pace(self) -> Paced | None:
        """The loop at a fixed rate, of the step, which every backend has."""
        options = self._job.options
        if not options.rate_hz:
            return None
        self._enter("paced")
        ticks = max(1, round(options.rate_hz * min(PACED_SECONDS, options.seconds)))
        paced = run_paced(self.step, options.rate_hz, ticks)
        self._series |= {"paced_ms": paced.latency_ms, "wake_ms": paced.wake_ms}
        return summarise_paced(paced)

    def _run_frames(self) -> tuple[Actions, tuple[str, ...]]:
        """The actions on the user's frames, or a note: what was measured before stands."""
        images = self._job.options.images
        if not images or self.loaded.frames is None:
            return [], ()
        self._enter("frames")
        try:
            return self.loaded.frames([Path(image) for image in images]), ()
        except VlaError as error:
            return [], (f"the frames gave no actions: {error.problem}",)


def _finite(value: float) -> float | None:
    return value if math.isfinite(value) else None


def _profile_runs(step_ms: float) -> int:
    """As many as tell enough, unless steps are so slow that it would take long."""
    return min(PROFILE_RUNS, max(1, round(PROFILE_SECONDS * 1e3 / step_ms)))


def _laps(last_ns: int) -> Iterator[float]:
    """Seconds from one call to the next, the first from a time of `time.monotonic_ns`."""
    while True:
        now_ns = time.monotonic_ns()
        yield (now_ns - last_ns) / 1e9
        last_ns = now_ns


if __name__ == "__main__":
    main()
