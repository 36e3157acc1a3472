"""Nodes of a bundle's graph under ONNX Runtime's own profiler, on the CPU.

On CUDA it would time the launch of each kernel and not the kernel: that needs a build of ONNX Runtime with
`--enable_cuda_profiling` (onnxruntime.ai, Profiling tools), which the packages are not.
"""

from __future__ import annotations

import json
from collections import defaultdict
from typing import Any

from vla_edge.bench.measure.workload import PolicyStep
from vla_edge.bench.report.types import Profile
from vla_edge.runtime.bundle.bundle import Bundle, load_golden
from vla_edge.runtime.engines.onnxruntime import OnnxRuntimeOptions, OnnxRuntimeSession
from vla_edge.runtime.errors import EngineError
from vla_edge.runtime.files.staging import scratch_folder

from .stages import WARMUP_RUNS, Layer, Stages

_KERNEL = "_kernel_time"  # the event of a node's computation; others are its waits


def profile_onnxruntime(bundle: Bundle, stages: Stages, runs: int, threads: int | None = None) -> Profile:
    """Run the graph in a session of its own, with profiling, walking through the golden samples.

    It holds the weights once more: close any other session of this bundle first.

    Args:
        bundle: an opened bundle.
        stages: of the policy's family.
        runs: at least 1.
        threads: as in `OnnxRuntimeOptions`.

    Raises:
        EngineError: ONNX Runtime is missing or fails.
        BundleError: the golden samples cannot be read.
    """
    golden = load_golden(bundle)
    state = frozenset(source for source, _ in bundle.manifest.runtime.state)
    with scratch_folder("vla-bench") as folder:
        options = OnnxRuntimeOptions(threads=threads, profile_prefix=folder / "step")
        session = OnnxRuntimeSession(bundle, options)
        try:
            step = PolicyStep(session, golden, state, bundle.manifest.actions.name)
            for _ in range(WARMUP_RUNS + runs):
                step()
            events = json.loads(session.end_profiling().read_bytes())
        finally:
            session.close()
    return stages.profile_of_layers("onnxruntime-profile", runs, _layers(events, runs))


def _layers(events: list[dict[str, Any]], runs: int) -> list[Layer]:
    """Means of each node's last `runs` calls, in the order of the first call.

    Nodes are told apart by their index: fused ones may share a name.
    """
    durations_us: dict[tuple[str, str], list[float]] = defaultdict(list)
    for event in events:
        name = str(event.get("name", ""))
        if event.get("cat") == "Node" and name.endswith(_KERNEL):
            index = str(event["args"].get("node_index", ""))
            durations_us[name.removesuffix(_KERNEL), index].append(float(event["dur"]))
    if not durations_us:
        raise EngineError("ONNX Runtime's profile holds no nodes.", "Use another version of onnxruntime.")
    return [Layer(name, sum(us[-runs:]) / len(us[-runs:]) / 1e3) for (name, _), us in durations_us.items()]
