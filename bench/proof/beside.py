"""Two bundles in one process, in turn: which is faster, and what memory they share.

    python -m vla_edge.bench.proof.beside whole/policy-fp16 parts/policy-fp16

Machines are shared and clocks move, so two engines are compared as a ratio of medians within each of many short
rounds, in which both run. Both are given the first golden sample of the first bundle where they take the same inputs.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack, closing
from pathlib import Path
from statistics import median
from typing import Any

import click
import numpy as np
from msgspec import Struct

from vla_edge.bench.measure.timing import summarise
from vla_edge.bench.report.types import Latency
from vla_edge.bench.watch.memory import DeviceMemory, open_reader
from vla_edge.bench.watch.nvml import open_gpu
from vla_edge.runtime.bundle.bundle import Bundle, load_golden, sample_inputs
from vla_edge.runtime.command.console import COMMAND_SETTINGS, run_command
from vla_edge.runtime.command.json_text import json_text
from vla_edge.runtime.cuda.opening import open_device
from vla_edge.runtime.engines.choice import choose_backend, open_session
from vla_edge.runtime.engines.registry import ENGINES
from vla_edge.runtime.engines.session import Session

SETTLING_CALLS = 50


class Timed(Struct, frozen=True, kw_only=True):
    """One of the two, over all rounds.

    Attributes:
        engine: what ran, and from which plan.
        load_s: until the session was open; the second to be opened finds libraries and shared parts there.
        run: host arrays in, outputs back.
        gpu: the engine alone, by the GPU's own events; None where it cannot be timed.
    """

    engine: str
    load_s: float
    run: Latency
    gpu: Latency | None


class Beside(Struct, frozen=True, kw_only=True):
    """What was found.

    Attributes:
        first, second: as they were named.
        run_ratio, gpu_ratio: second by first, the median over rounds of the ratio of medians.
        differing: outputs of the same name whose values differ in any bit; None where the inputs are not the same.
        device_mib: of this process on the GPU: "context", "first" and "second" alone, "both" at once; empty elsewhere.
    """

    first: Timed
    second: Timed
    run_ratio: float
    gpu_ratio: float | None
    differing: tuple[str, ...] | None
    device_mib: dict[str, float]


def beside(folders: tuple[Path, Path], backend: str, rounds: int, calls: int) -> Beside:
    """Time two bundles in turn.

    Args:
        folders: of the bundles.
        backend: as for `open_session`.
        rounds: how often they take turns.
        calls: of each in a round.

    Raises:
        VlaError: a bundle or engine cannot be used.
    """
    bundles = [Bundle.open(folder) for folder in folders]
    memory = _device_memory(bundles, backend)
    with ExitStack() as opened:
        sessions, loads = [], []
        for bundle in bundles:
            start = time.perf_counter()
            sessions.append(opened.enter_context(closing(open_session(bundle, backend))))
            loads.append(time.perf_counter() - start)
        same = _fill(bundles, sessions)
        runs = _in_turn([session.run for session in sessions], rounds, calls)
        differing = _differing(sessions) if same else None
        told = [getattr(session, "run_engine_ms", None) for session in sessions]
        engines = [ask for ask in told if ask is not None]
        gpus = _asked_in_turn(engines, rounds, calls) if len(engines) == len(told) else None
        timed = [
            Timed(
                engine=f"{session.identity}, {session.identity.provider}",
                load_s=loads[at],
                run=_summary(runs, at),
                gpu=_summary(gpus, at) if gpus else None,
            )
            for at, session in enumerate(sessions)
        ]
    return Beside(
        first=timed[0],
        second=timed[1],
        run_ratio=_ratio(runs),
        gpu_ratio=_ratio(gpus) if gpus else None,
        differing=differing,
        device_mib=memory,
    )


Rounds = list[tuple[list[float], list[float]]]


def _in_turn(steps: Sequence[Callable[[], object]], rounds: int, calls: int) -> Rounds:
    def timed(step: Callable[[], object]) -> float:
        start = time.perf_counter_ns()
        step()
        return (time.perf_counter_ns() - start) / 1e6

    return _asked_in_turn([lambda step=step: timed(step) for step in steps], rounds, calls)  # type: ignore[misc]


def _asked_in_turn(ask: Sequence[Callable[[], float]], rounds: int, calls: int) -> Rounds:
    """Milliseconds of each call; who begins changes from round to round."""
    for each in ask:
        for _ in range(min(SETTLING_CALLS, calls)):
            each()
    found: Rounds = []
    for at in range(rounds):
        order = (0, 1) if at % 2 == 0 else (1, 0)
        times = {each: [ask[each]() for _ in range(calls)] for each in order}
        found.append((times[0], times[1]))
    return found


def _summary(rounds: Rounds, at: int) -> Latency:
    latency = summarise([value for both in rounds for value in both[at]])
    if latency is None:
        raise ValueError("no call was timed")
    return latency


def _ratio(rounds: Rounds) -> float:
    return median(median(second) / median(first) for first, second in rounds)


def _fill(bundles: Sequence[Bundle], sessions: Sequence[Session]) -> bool:
    """Golden inputs into both; whether they are the same."""
    feeds = [_feed(bundle, 0) for bundle in bundles]
    shapes = [{name: value.shape for name, value in feed.items()} for feed in feeds]
    same = shapes[0] == shapes[1]
    for session, feed in zip(sessions, [feeds[0], feeds[0]] if same else feeds, strict=True):
        for name, value in feed.items():
            session.inputs[name][...] = value
    return same


def _feed(bundle: Bundle, at: int) -> Mapping[str, np.ndarray]:
    shapes = {spec.name: spec.shape for spec in bundle.manifest.inputs}
    states = {source for source, _ in bundle.manifest.runtime.state}
    return sample_inputs(load_golden(bundle), at, shapes, states)


def _differing(sessions: Sequence[Session]) -> tuple[str, ...]:
    first, second = (session.outputs for session in sessions)
    return tuple(name for name in first if name in second and not np.array_equal(first[name], second[name]))


def _device_memory(bundles: Sequence[Bundle], backend: str) -> dict[str, float]:
    """MiB of this process on the GPU with CUDA's context alone, then with each session and with both."""
    name = choose_backend(bundles[0]) if backend == "auto" else backend
    if "cpu" in ENGINES[name].devices:
        return {}
    with ExitStack() as opened:
        reader = open_reader(opened.enter_context(open_gpu(0)))
        if reader is None:
            return {}
        opened.enter_context(closing(open_device()))
        found = {"context": _held(reader)}
        for label, which in (("first", [0]), ("second", [1]), ("both", [0, 1])):
            with ExitStack() as sessions:
                for at in which:
                    sessions.enter_context(closing(open_session(bundles[at], backend))).run()
                found[label] = _held(reader)
        return found


def _held(reader: DeviceMemory) -> float:
    held: float | None = reader.sample(os.getpid())
    return float("nan") if held is None else held


@click.command(context_settings=COMMAND_SETTINGS)
@click.argument("first", type=click.Path(path_type=Path))
@click.argument("second", type=click.Path(path_type=Path))
@click.option("--backend", default="auto", show_default=True, help="As for Policy.load.")
@click.option("--rounds", type=click.IntRange(1), default=20, show_default=True)
@click.option("--calls", type=click.IntRange(1), default=100, show_default=True, help="Of each in a round.")
def command(first: Path, second: Path, backend: str, **options: Any) -> int:
    """Run the bundles FIRST and SECOND in turn in one process; print, as JSON, latencies, ratios and memory.

    \b
    Example:
      python -m vla_edge.bench.proof.beside whole/policy-fp16 parts/policy-fp16
    """
    click.echo(json_text(beside((first, second), backend, **options)))
    return 0


if __name__ == "__main__":
    run_command(command)
