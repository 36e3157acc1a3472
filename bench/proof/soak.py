"""Soak a bundle: many calls in a row, which must give the same bits and leave memory as it was.

    python -m vla_edge.bench.proof.soak engines/policy-fp16 --backend tensorrt --calls 10000

Three golden samples take turns, so that a stale output is seen as well. Latencies of `Policy.act` on
preprocessed pixels, of the session, and of the engine alone where it can be timed, come from 500 calls each.
Of a GPU, the memory that CUDA's own context takes is told apart from what the engine takes.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing, contextmanager
from pathlib import Path
from typing import Any, get_args

import click
import numpy as np
from msgspec import Struct

from vla_edge.bench.measure.timing import Budget, collect, summarise
from vla_edge.bench.report.types import Latency
from vla_edge.bench.report.units import BYTES_PER_MIB, KIB_PER_MIB
from vla_edge.bench.watch.memory import open_reader, read_host
from vla_edge.bench.watch.nvml import open_gpu
from vla_edge.runtime.action import Action
from vla_edge.runtime.bundle.bundle import Bundle, load_golden
from vla_edge.runtime.bundle.manifest import FRAME, PIXELS
from vla_edge.runtime.command.console import COMMAND_SETTINGS, run_command
from vla_edge.runtime.command.json_text import json_text
from vla_edge.runtime.cuda.device import CudaDevice, MemoryName
from vla_edge.runtime.cuda.opening import open_device
from vla_edge.runtime.engines.registry import ENGINES
from vla_edge.runtime.policy import Policy

SAMPLES = 3
TIMED_CALLS = 500
SETTLING_CALLS = 50


class DeviceUse(Struct, frozen=True, kw_only=True):
    """Memory of this process on the GPU, in MiB; None where the GPU does not tell.

    Attributes:
        context: once CUDA's context is there, and nothing else.
        loaded: at most, until the engine is loaded and warm.
        soaked: at most, until the last call.
        parts: what TensorRT and the session tell of `loaded`: "weights", "activations", "io".
    """

    context: float | None
    loaded: float | None
    soaked: float | None
    parts: dict[str, float]


class SoakReport(Struct, frozen=True, kw_only=True):
    """What a soak found.

    Attributes:
        load_s: `Policy.load`, every file that is read hashed.
        load_ms: its steps, where the session tells them.
        first_act_ms: the first action after it.
        act, run, engine: latencies; `engine` only where the session times it.
        act_in_place: of `act` on pixels, or a frame, that stand in the engine's own input already.
        differing: calls whose action differed in any bit from the first answer to the same sample.
        host_growth_kib, device_growth_kib: from before the first soak call to after the last.
        device: memory on the GPU; None elsewhere.
    """

    engine_identity: str
    load_s: float
    load_ms: dict[str, float]
    first_act_ms: float
    act: Latency
    act_in_place: Latency
    run: Latency
    engine: Latency | None
    calls: int
    differing: int
    host_growth_kib: int
    device_growth_kib: int | None
    device: DeviceUse | None


def soak(folder: Path, backend: str, calls: int, **options: Any) -> SoakReport:
    """Load a bundle and call it `calls` times.

    Args:
        folder: the bundle.
        backend: as for `Policy.load`.
        calls: at least one.
        options: of the engine.

    Raises:
        VlaError: the bundle or engine cannot be used.
    """
    bundle = Bundle.open(folder, "size")
    samples = load_golden(bundle)[FRAME if bundle.manifest.camera else PIXELS][:SAMPLES]
    with _watched(backend, options) as watch:
        start = time.perf_counter()
        with Policy.load(folder, backend, **options) as policy:
            loaded = time.perf_counter()
            _act_on(policy)(samples[0])
            first_act_ms = (time.perf_counter() - loaded) * 1e3
            policy.warmup()
            watch("loaded")
            latencies = _latencies(policy, samples[0])
            found = _soak(policy, samples, calls)
            return SoakReport(
                engine_identity=f"{policy.identity}, {policy.identity.provider}",
                load_s=loaded - start,
                load_ms=getattr(policy.session, "load_ms", {}),
                first_act_ms=first_act_ms,
                **latencies,
                calls=calls,
                **found,
                device=_device_use(policy, watch("soaked")),
            )


@contextmanager
def _watched(backend: str, options: dict[str, Any]) -> Iterator[Callable[[str], dict[str, float | None]]]:
    """Read the device's memory at named moments; the context is opened first, so that it is seen alone.

    Yields:
        A function that adds the reading of a moment, and returns all so far, in MiB: none without a GPU.
    """
    readings: dict[str, float | None] = {}
    index = options.get("device_index", 0)
    with ExitStack() as opened:
        memory = None
        if backend in ENGINES and "cpu" not in ENGINES[backend].devices:
            memory = open_reader(opened.enter_context(open_gpu(index)))
        if memory is not None:
            opened.enter_context(closing(open_device(index, options.get("memory", "cuda-bindings"))))

        def read(moment: str) -> dict[str, float | None]:
            if memory is not None:
                memory.sample(os.getpid())
                readings[moment] = memory.peak_mib
            return readings

        read("context")
        yield read


def _device_use(policy: Policy, readings: dict[str, float | None]) -> DeviceUse | None:
    told: Callable[[], dict[str, int]] | None = getattr(policy.session, "device_memory_bytes", None)
    if not readings or told is None:
        return None
    return DeviceUse(**readings, parts={name: size / BYTES_PER_MIB for name, size in told().items()})


def _act_on(policy: Policy) -> Callable[[np.ndarray], Action]:
    """What takes a golden sample: prepared pixels, or a camera's frame as it is."""
    return policy.act if policy.manifest.camera else policy.act_preprocessed


def _latencies(policy: Policy, sample: np.ndarray) -> dict[str, Any]:
    """By their names in `SoakReport`."""
    act, own = _act_on(policy), policy.frame if policy.manifest.camera else policy.pixel_values
    engine_ms: Callable[[], float] | None = getattr(policy.session, "run_engine_ms", None)
    return {
        "act": _timed(lambda: act(sample)),
        "act_in_place": _timed(lambda: act(own)),
        "run": _timed(policy.session.run),
        "engine": summarise([engine_ms() for _ in range(SETTLING_CALLS + TIMED_CALLS)][SETTLING_CALLS:])
        if engine_ms
        else None,
    }


def _timed(step: Callable[[], object]) -> Latency | None:
    for _ in range(SETTLING_CALLS):
        step()
    return summarise(collect(step, Budget(TIMED_CALLS, 0.0, None)))


def _soak(policy: Policy, samples: np.ndarray, calls: int) -> dict[str, Any]:
    """Differing answers, and growth of memory, by their names in `SoakReport`."""
    expected = [_answer(policy, sample) for sample in samples]
    host, device = _host_kib(), _device_free_kib(policy)
    differing = sum(
        _answer(policy, samples[call % len(samples)]) != expected[call % len(samples)]
        for call in range(calls)
    )
    after = _device_free_kib(policy)
    return {
        "differing": differing,
        "device_growth_kib": device - after if device is not None and after is not None else None,
        "host_growth_kib": _host_kib() - host,
    }


def _answer(policy: Policy, sample: np.ndarray) -> tuple[float, ...]:
    """From a zero state, so that the same sample has the same answer."""
    policy.reset()
    return _act_on(policy)(sample).raw


def _host_kib() -> int:
    memory = read_host()
    return round(memory.anonymous * KIB_PER_MIB) if memory else 0


def _device_free_kib(policy: Policy) -> int | None:
    device: CudaDevice | None = getattr(policy.session, "device", None)
    return device.free_bytes() >> 10 if device is not None else None


@click.command(context_settings=COMMAND_SETTINGS)
@click.argument("bundle", type=click.Path(path_type=Path))
@click.option("--backend", default="auto", show_default=True, help="As for Policy.load.")
@click.option("--calls", type=click.IntRange(1), default=10_000, show_default=True)
@click.option("--no-graph", is_flag=True, help="TensorRT: queue the engine at every call, no CUDA graph.")
@click.option(
    "--memory", type=click.Choice(get_args(MemoryName)), help="TensorRT: package for device memory."
)
def command(bundle: Path, backend: str, calls: int, no_graph: bool, memory: str | None) -> int:
    """Call BUNDLE many times and print, as JSON, latencies, differing answers and growth of memory.

    Exit code 1 when an answer differed.

    \b
    Examples:
      python -m vla_edge.bench.proof.soak engines/policy-fp16
      python -m vla_edge.bench.proof.soak engines/policy-fp16 --calls 200
    """
    options = {**({"graph": False} if no_graph else {}), **({"memory": memory} if memory else {})}
    report = soak(bundle, backend, calls, **options)
    click.echo(json_text(report))
    return 1 if report.differing else 0


if __name__ == "__main__":
    run_command(command)
