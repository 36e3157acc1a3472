"""Layers of a TensorRT plan under TensorRT's own profiler."""

from __future__ import annotations

import json
import logging
from typing import TYPE_CHECKING, Any

from vla_edge.bench.report.types import Profile

from .stages import WARMUP_RUNS, Layer, Stages

if TYPE_CHECKING:
    from vla_edge.runtime.engines.tensorrt.session import TensorRtSession

_log = logging.getLogger(__name__)


def profile_plan(session: TensorRtSession, stages: Stages, runs: int) -> Profile:
    """Run the plan under TensorRT's profiler, on what the session's inputs hold.

    Kernels are timed one by one, so the total is more than the latency of a step. It may also be more
    because layers that a plan runs side by side on auxiliary streams are added up.

    Args:
        session: stays usable, its CUDA graph included.
        stages: of the policy's family.
        runs: at least 1.

    Raises:
        EngineError: CUDA or TensorRT failed.
    """
    times_ms = session.time_layers(runs, WARMUP_RUNS)
    nodes = layer_nodes(session.describe_layers())
    layers = [Layer(name, ms, nodes.get(name, "")) for name, ms in times_ms.items()]
    return stages.profile_of_layers("tensorrt-profiler", runs, layers)


def layer_nodes(information: str) -> dict[str, str]:
    """From the engine inspector's JSON: layer -> the graph's nodes in it, as "[ONNX Layer: a] [ONNX Layer: b]".

    TensorRT gives them under "Metadata" for plans built with detailed profiling verbosity, as `vla-build`
    does. Layers without are absent: a plan built otherwise lists plain names.
    """
    try:
        # not strict: TensorRT parts the nodes by control characters
        found = json.loads(information, strict=False)
    except ValueError as error:
        _log.warning("TensorRT's inspector gave no JSON, so layers are told by their names: %s", error)
        return {}
    layers = found.get("Layers") if isinstance(found, dict) else None
    return {
        str(layer.get("Name", "")): _metadata(layer)
        for layer in layers or ()
        if isinstance(layer, dict) and _metadata(layer)
    }


def _metadata(layer: dict[str, Any]) -> str:
    text = layer.get("Metadata")
    return text if isinstance(text, str) else ""
