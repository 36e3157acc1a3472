"""Where the time of a chain goes, layer by layer, for benchmarks."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

import numpy as np

from vla_edge.runtime.cuda.device import CudaDevice
from vla_edge.runtime.engines.tensorrt.profiler import layer_profiler
from vla_edge.runtime.errors import EngineError

from .engine_chain import EngineChain
from .engines import PartEngines
from .runner import EngineRunner


def time_layers(
    device: CudaDevice, engines: PartEngines, values: Mapping[str, np.ndarray], runs: int, warmup: int
) -> dict[str, float]:
    """Run the engines in line under TensorRT's profiler, in contexts and buffers that are gone afterwards.

    Args:
        device: the GPU, active in this thread.
        engines: stay as they are.
        values: of every input.
        runs: that are counted, at least 1.
        warmup: others before them.

    Returns:
        Mean milliseconds of each layer, in the order of execution.

    Raises:
        EngineError: CUDA or TensorRT failed, no device memory, or TensorRT reported no layer.
    """
    # made first, so that they outlive the contexts that report to them
    profilers = [layer_profiler(engines.library.trt) for _ in engines.contexts]
    chain = EngineChain(device, engines, engines.chain.in_line())
    runner = EngineRunner(device, chain, graph=False)
    try:
        for name, array in values.items():
            np.copyto(runner.inputs[name], array)
        for context, profiler in zip(chain.contexts, profilers, strict=True):
            context.profiler = profiler
        for _ in range(warmup):
            runner.run()
        for profiler in profilers:
            profiler.total_ms.clear()
        for _ in range(runs):
            runner.run()
    finally:
        context = None  # the last one, which would outlive its engine in an error's traceback
        runner.close()
    times = {
        _name(name, at, len(profilers)): ms / runs
        for at, profiler in enumerate(profilers)
        for name, ms in profiler.total_ms.items()
    }
    if not times:
        raise EngineError("TensorRT's profiler reported no layer.", "Build the plan again with vla-build.")
    return times


def describe_layers(engines: PartEngines) -> str:
    """What TensorRT's inspector tells of the layers of all parts, as one JSON; they are named as `time_layers` does.

    Of a plan that is not cut, TensorRT's own text. What a part tells in another form is left out.
    """
    texts = [each.engine.describe_layers() for each in engines.contexts]
    if len(texts) == 1:
        return texts[0]
    layers = [
        {**layer, "Name": _name(str(layer.get("Name", "")), at, len(texts))}
        if isinstance(layer, dict)
        else _name(str(layer), at, len(texts))
        for at, text in enumerate(texts)
        for layer in _layers(text)
    ]
    return json.dumps({"Layers": layers})


def _layers(text: str) -> list[Any]:
    try:
        # not strict: TensorRT parts the nodes of a layer by control characters
        found = json.loads(text, strict=False)
    except ValueError:
        return []
    layers = found.get("Layers") if isinstance(found, dict) else None
    return layers if isinstance(layers, list) else []


def _name(layer: str, at: int, parts: int) -> str:
    """TensorRT numbers kernels in each plan anew."""
    return layer if parts == 1 else f"{layer} [part {at + 1}]"
