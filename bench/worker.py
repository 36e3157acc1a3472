"""The measuring process: one backend of one bundle, and nothing else in memory.

    python -m vla_edge.bench.worker FD

reads a `Job` from standard input, and sends `Entered` for each phase and then one `Measured`, `Rated` or `Failed`
to the pipe FD. See `harness/process.py` for the parent.
"""

from __future__ import annotations

import importlib
import math
import statistics
import sys
import time
import traceback
from collections.abc import Callable, Sequence
from multiprocessing.connection import Connection
from pathlib import Path
from types import ModuleType

import msgspec

from vla_edge.bench.backends.load import Loaded
from vla_edge.bench.backends.random_policy import UnknownArchitectureError
from vla_edge.bench.harness.orphan import end_with_parent
from vla_edge.bench.measure.agreement import Actions
from vla_edge.bench.measure.jobs import RATES, Entered, Failed, Job, Measured, Message, Profiled, Rated
from vla_edge.bench.measure.pace import run_paced, summarise_paced
from vla_edge.bench.measure.parity import ActionErrors
from vla_edge.bench.measure.timing import Budget, collect, warm_up
from vla_edge.bench.measure.workload import PolicyStep
from vla_edge.bench.options.options import Options
from vla_edge.bench.report.types import Identity, Paced, Samples, Warmup
from vla_edge.bench.watch.memory import read_host
from vla_edge.bench.watch.phases import Phase
from vla_edge.runtime.errors import VlaError

Load = Callable[[Job], Loaded]
STANDIN_PREFIX = "standin"
PREPROCESS_SHARE = 0.25  # of the budget: it varies less than a step
PROFILE_RUNS = 20
PACED_SECONDS = 3.0
PROFILE_SECONDS = 10.0  # about as long as a profile may take


def load(job: Job) -> Loaded:
    """Open the job's backend.

    Raises:
        VlaError: the bundle, the checkpoint or the engine cannot be used.
    """
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
    job = msgspec.json.decode(sys.stdin.buffer.readline(), type=Job)
    end_with_parent()
    with Connection(int(sys.argv[-1]), readable=False) as answers:

        def send(message: Message) -> None:
            answers.send_bytes(msgspec.json.encode(message))

        try:
            _answer(job, load_backend, started_ns, send)
        except VlaError as error:
            obstacle = isinstance(error, UnknownArchitectureError)
            send(Failed(f"{error.problem} {error.hint}".strip(), obstacle))
        except Exception as error:
            traceback.print_exc()
            send(Failed(f"{type(error).__name__}: {error}"))


def _answer(job: Job, load_backend: Load, started_ns: int, send: Callable[[Message], None]) -> None:
    """Send what was measured before the profile begins: whatever ends that, the figures are there."""
    if job.backend == RATES:
        from vla_edge.bench.floor.rates import measure_rates

        send(Entered("measure"))
        send(Rated(measure_rates(job.options.device, job.options.threads)))
        return
    loaded, step, measured = _measure(job, load_backend, started_ns, lambda phase: send(Entered(phase)))
    send(measured)
    if measured.profile_follows:
        send(Entered("profile"))
        send(_profile(loaded, step, _profile_runs(measured.samples)))
    loaded.close()


def _measure(
    job: Job, load_backend: Load, started_ns: int, enter: Callable[[Phase], None]
) -> tuple[Loaded, PolicyStep, Measured]:
    clock = _Laps(started_ns)
    enter("import")
    _backends(job).import_libraries(job)
    import_s = clock.lap_s()
    enter("load")
    loaded = load_backend(job)
    load_s = clock.lap_s()
    golden = loaded.golden()
    step = PolicyStep(loaded.session, golden, loaded.state)
    errors = ActionErrors(golden["actions"], loaded.action_scale)
    clock.lap_s()  # the samples are the bench's, not a robot's
    enter("first call")
    step()
    first_call_s = clock.lap_s()
    budget = Budget(job.options.runs, job.options.seconds, job.options.warmup)
    warmup, samples = _sample(loaded, step, errors, budget, enter)
    paced, samples = _pace(step, job.options, samples, enter)
    step.check(errors)
    actions, notes = _run_frames(loaded, job.options.images, enter)
    measured = Measured(
        identity=msgspec.convert(loaded.session.identity, Identity, from_attributes=True),
        samples=samples,
        warmup=warmup,
        parity=errors.summary(),
        interpreter_s=(started_ns - job.spawned_ns) / 1e9,
        import_s=import_s,
        load_s=load_s,
        first_call_s=first_call_s,
        host_memory=read_host(),
        torch_allocator_peak_mib=loaded.torch_allocator_peak_mib(),
        compile_s=loaded.compile_s(),
        load_split_s=dict(loaded.load_split_s),
        # the first call and the warm-up came before
        prompts=step.prompt_times(samples.step_ms, 1 + warmup.calls),
        paced=paced,
        frame_actions=tuple(tuple(tuple(map(_finite, each)) for each in frame) for frame in actions),
        notes=(*loaded.notes, *loaded.compile_notes(), *notes),
        profile_follows=bool(loaded.profile) and not job.options.quick,
    )
    return loaded, step, measured


def _finite(value: float) -> float | None:
    return value if math.isfinite(value) else None


def _sample(
    loaded: Loaded, step: PolicyStep, errors: ActionErrors, budget: Budget, enter: Callable[[Phase], None]
) -> tuple[Warmup, Samples]:
    """Warm-up, timed calls, golden samples that are left, then `Policy.act` where the backend is an engine."""
    enter("warm-up")
    warmup = warm_up(step, budget)
    enter("measure")
    step_ms = collect(step, budget)
    enter("parity")
    queue_ms = loaded.queue_ms(len(step_ms))  # before anything else is run
    device_ms = loaded.device_ms(len(step_ms))
    for _ in range(len(step) - 1 - warmup.calls - len(step_ms)):
        step()
    step.check(errors)
    act_ms: list[float] = []
    preprocess_ms: list[float] = []
    if loaded.act is not None and errors.summary().finite:
        enter("act")
        warm_up(loaded.act, budget)
        act_ms = collect(loaded.act, budget)
        if loaded.preprocess is not None:
            preprocess_ms = collect(loaded.preprocess, budget.part(PREPROCESS_SHARE))
    return warmup, Samples(
        step_ms=tuple(step_ms),
        act_ms=tuple(act_ms),
        device_ms=tuple(device_ms),
        queue_ms=tuple(queue_ms),
        preprocess_ms=tuple(preprocess_ms),
    )


def _pace(
    step: PolicyStep, options: Options, samples: Samples, enter: Callable[[Phase], None]
) -> tuple[Paced | None, Samples]:
    """The loop at a fixed rate, of the step, which every backend has."""
    rate_hz = options.rate_hz
    if not rate_hz:
        return None, samples
    enter("paced")
    ticks = max(1, round(rate_hz * min(PACED_SECONDS, options.seconds)))
    paced = run_paced(step, rate_hz, ticks)
    changed = msgspec.structs.replace(samples, paced_ms=paced.latency_ms, wake_ms=paced.wake_ms)
    return summarise_paced(paced), changed


def _run_frames(
    loaded: Loaded, images: Sequence[str], enter: Callable[[Phase], None]
) -> tuple[Actions, tuple[str, ...]]:
    """The actions, or a note: what was measured before stands."""
    if not images or loaded.frames is None:
        return [], ()
    enter("frames")
    try:
        return loaded.frames([Path(image) for image in images]), ()
    except VlaError as error:
        return [], (f"the frames gave no actions: {error.problem}",)


def _profile_runs(samples: Samples) -> int:
    """As many as tell enough, unless steps are so slow that it would take long."""
    if not samples.step_ms:
        return PROFILE_RUNS
    fitting = round(PROFILE_SECONDS * 1e3 / statistics.median(samples.step_ms))
    return min(PROFILE_RUNS, max(1, fitting))


def _profile(loaded: Loaded, step: PolicyStep, runs: int) -> Profiled:
    """Where the time goes. A profile that fails is a note."""
    if loaded.profile is None:
        return Profiled(None, ())
    try:
        step()  # a profiler runs on what the inputs hold
        return Profiled(loaded.profile(runs), ())
    except VlaError as error:
        return Profiled(None, (f"no profile: {error.problem}",))
    except Exception as error:
        traceback.print_exc()
        return Profiled(None, (f"no profile: {type(error).__name__}: {error}",))


class _Laps:
    """Seconds between calls, beginning at a time of `time.monotonic_ns`."""

    def __init__(self, start_ns: int) -> None:
        self._last_ns = start_ns

    def lap_s(self) -> float:
        now_ns = time.monotonic_ns()
        elapsed_s = (now_ns - self._last_ns) / 1e9
        self._last_ns = now_ns
        return elapsed_s


if __name__ == "__main__":
    main()
