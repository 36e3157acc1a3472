"""The error of each stage inside a TensorRT engine, to find out where a plan goes wrong.

A plan returns only actions, since a value that must be returned cannot be fused away. Here the stages are
marked as outputs of a second engine, which is measured and thrown away: its errors tell where to look,
its speed means nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from typing import Any

import numpy as np

from vla_edge.export.parts.split import owner_of
from vla_edge.runtime.bundle.bundle import Bundle, load_golden
from vla_edge.runtime.cuda.device import CudaDevice
from vla_edge.runtime.cuda.opening import open_device
from vla_edge.runtime.engines.tensorrt.parts.opening import open_chain
from vla_edge.runtime.engines.tensorrt.parts.runner import EngineRunner
from vla_edge.runtime.engines.tensorrt.plan_names import plan_path
from vla_edge.runtime.errors import EngineError, InputError
from vla_edge.runtime.files.staging import staging_folder
from vla_edge.runtime.files.writable import refuse_unwritable

from .build import open_timing_cache, timing_cache_path
from .memory import check_disk, prediction, room_on, weights_bytes
from .network import build_engine, network_tensors
from .options import BuildOptions
from .parts.earlier import Earlier, find_earlier
from .parts.making import Work, make_all
from .parts.wanted import Wanted, layout_of
from .progress import BuildProgress
from .target import Target, open_target
from .verify import StageMeasure, run_samples

_TAPPED = "tapped"  # what is built for a look, and gone afterwards


def measure_stages(bundle: Bundle, options: BuildOptions, progress: BuildProgress) -> dict[str, StageMeasure]:
    """The worst error of every stage over the golden samples, in the order of the graph.

    Raises:
        EngineError: no TensorRT or GPU here, or TensorRT refuses.
    """
    manifest = bundle.manifest
    taps = [stage.tensor for stage in manifest.stages]
    with (
        open_target(options.backend, options.device_index, options.memory, options.sm) as target,
        tapped_engine(bundle, taps, target, options, progress) as runner,
    ):
        samples = run_samples(
            runner.inputs, runner.outputs, runner.run, load_golden(bundle), manifest, progress
        )
    return {
        stage.name: StageMeasure(
            max(sample[stage.name].relative_l2 for sample in samples),
            max(sample[stage.name].max_abs for sample in samples),
        )
        for stage in manifest.stages
    }


@contextmanager
def tapped_engine(
    bundle: Bundle, taps: Sequence[str], target: Target, options: BuildOptions, progress: BuildProgress
) -> Iterator[EngineRunner]:
    """Build an engine that also returns these tensors, and keep nothing of it. Several may follow each other.

    The bundle's timing cache is read and not written: this engine's kernels are not the plan's. Where the whole does
    not fit this machine's memory, or is not wanted, it is built in parts, as a plan is.

    Raises:
        EngineError: the GPU is not here, or TensorRT refuses.
        InputError: the graph has no such tensor.
        ResourceError: not enough disk or memory for a build.
    """
    device = _require_device(target)
    check_disk(bundle.folder, weights_bytes(bundle.manifest))
    machine = target.machine
    path = plan_path(bundle.folder, machine.backend, machine.version, machine.sm)
    predict = prediction(options.backend, target.shares_memory, find_earlier(bundle.folder, machine).built)
    room = room_on(target, options.memory_limit, look=not options.ignore_memory)
    layout = layout_of(bundle, path, machine, options, predict, room, Earlier(), progress)
    if not options.ignore_memory:
        layout.warn(layout.parts, room)
    # On a board this process has no context while others build: it would take of what they need.
    if len(layout.parts) == 1 and not target.shares_memory:
        cache = open_timing_cache(bundle, target, options)
        built = build_engine(bundle.model_path, target, options, cache, progress, taps)
        with runner_of(built.plan, target, graph=False) as runner:
            yield runner
        return
    with ExitStack() as held:
        refuse_unwritable(bundle.folder, "copy the bundle to where you may write")
        staging = held.enter_context(staging_folder(bundle.folder / _TAPPED))
        if target.shares_memory:
            device.close()
        cache_path = timing_cache_path(bundle, target, options)
        work = Work(bundle, target, options, cache_path, staging, progress, tuple(taps))
        _refuse_unknown(taps, layout.parts)
        plans = [staging / part.file for part in make_all(layout.parts, work, {})]
        if target.shares_memory:
            device = open_device(options.device_index, options.memory)
            held.callback(device.close)
        outputs = dict.fromkeys([*(spec.name for spec in bundle.manifest.outputs), *taps])
        chain = open_chain(target.library, device, plans, outputs=[*outputs], graph=False)
        yield held.enter_context(chain)


def _refuse_unknown(taps: Sequence[str], parts: Sequence[Wanted]) -> None:
    """Of the whole, the builder refuses them."""
    graphs = [part.graph for part in parts if part.graph is not None]
    missing = [tap for tap in taps if graphs and owner_of(graphs, tap) is None]
    if missing:
        raise InputError(f"The network has no tensor {', '.join(sorted(missing))}.", "Choose another one.")


@contextmanager
def runner_of(plan: Any, target: Target, graph: bool = True) -> Iterator[EngineRunner]:
    """Run a plan from memory.

    Args:
        plan: with the buffer protocol.
        target: what it was built for.
        graph: capture a CUDA graph.

    Raises:
        EngineError: the GPU is not here, or TensorRT refuses.
    """
    with open_chain(target.library, _require_device(target), [plan], graph=graph) as runner:
        yield runner


def _require_device(target: Target) -> CudaDevice:
    if target.device is None:
        raise EngineError(f"The engine cannot run here: {target.absent}", "Run this on the target.")
    return target.device


def tapped_runner(
    bundle: Bundle,
    feeds: Mapping[str, np.ndarray],
    target: Target,
    options: BuildOptions,
    progress: BuildProgress,
) -> tuple[Callable[[Sequence[str]], dict[str, np.ndarray]], set[str]]:
    """A callable that builds an engine returning the tensors it is asked for, and the names it knows."""

    def run(names: Sequence[str]) -> dict[str, np.ndarray]:
        with tapped_engine(bundle, names, target, options, progress) as runner:
            for name, value in feeds.items():
                runner.inputs[name][...] = value
            runner.run()
            return {name: runner.outputs[name].copy() for name in names}

    return run, network_tensors(target, bundle.model_path)
