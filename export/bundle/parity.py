"""Run the written file with ONNX Runtime and measure it against the golden samples, stage by stage."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper

from vla_edge.export.graph.rounding import rounded
from vla_edge.runtime.bundle.bundle import Bundle, load_golden, rows, sample_inputs
from vla_edge.runtime.bundle.external_data import check_external_data
from vla_edge.runtime.bundle.manifest import MODEL_NAME, WEIGHTS_NAME, Stage, StageError
from vla_edge.runtime.checks.batch_error import compare
from vla_edge.runtime.errors import EngineError
from vla_edge.runtime.files.atomic import staging_file
from vla_edge.runtime.process.cores import usable_cores

Pairs = Sequence[tuple[str, str]]  # as `runtime.state`


@dataclass(frozen=True)
class Measured:
    """Errors over all samples: per stage, and of any component of the action in its own unit."""

    errors: tuple[StageError, ...]
    max_abs: float
    engine: str


def measure_bundle(bundle: Bundle, golden: dict[str, np.ndarray] | None = None) -> Measured:
    """Measure a finished bundle's graph, its half precision made explicit (see `rounding`)."""
    manifest = bundle.manifest
    samples = golden if golden is not None else load_golden(bundle)
    return measure_graph(
        bundle.folder, samples, manifest.stages, manifest.runtime.state, manifest.action.scale
    )


def measure_graph(
    folder: Path,
    golden: dict[str, np.ndarray],
    stages: Sequence[Stage],
    state: Pairs,
    scale: Sequence[float],
    progress: Callable[[], None] = lambda: None,
) -> Measured:
    """Measure `folder/model.onnx` on every golden sample.

    Args:
        folder: holds the graph and its data file; a temporary graph is written beside them and removed.
        golden: inputs and references (see `golden.py`).
        stages: which tensors to compare.
        state: names of the inputs and outputs that carry it.
        scale: from graph output to a component's unit, per component.
        progress: called after each sample.

    Raises:
        BundleError: the graph takes weights from anywhere but its data file.
        EngineError: ONNX Runtime refuses it, or it has no such stages.
    """
    session = _session(folder, stages)
    shapes = {value.name: value.shape for value in session.get_inputs()}
    tensors = [stage.tensor for stage in stages]
    states = [source for source, _ in state]

    def run(at: int) -> Sequence[np.ndarray]:
        return session.run(tensors, sample_inputs(golden, at, shapes, states))

    return measure(run, golden, stages, state, scale, _engine_name(), progress)


def measure(
    run: Callable[[int], Sequence[np.ndarray]],
    golden: dict[str, np.ndarray],
    stages: Sequence[Stage],
    state: Pairs,
    scale: Sequence[float],
    engine: str,
    progress: Callable[[], None] = lambda: None,
) -> Measured:
    """Measure whatever gives the stages' values of a golden sample, in their order.

    They are float [B, ...] each, and of carried state [layers, B, hidden].
    """
    carried = {target for _, target in state}
    worst = {stage.name: (0.0, 0.0) for stage in stages}
    worst_scaled = 0.0
    for at in range(len(golden["names"])):
        for stage, found in zip(stages, run(at), strict=True):
            value = rows(found, stage.tensor in carried)
            wanted = golden["actions" if stage.name == "action" else f"stage_{stage.name}"][at]
            worst[stage.name] = _larger(worst[stage.name], compare(value, wanted))
            if stage.name == "action":
                worst_scaled = max(worst_scaled, compare(value, wanted, scale)[1])
        progress()
    errors = tuple(
        StageError(stage=stage.name, relative_l2=worst[stage.name][0], max_abs=worst[stage.name][1])
        for stage in stages
    )
    return Measured(errors, worst_scaled, engine)


def _larger(a: tuple[float, float], b: tuple[float, float]) -> tuple[float, float]:
    return max(a[0], b[0]), max(a[1], b[1])


def _session(folder: Path, stages: Sequence[Stage]) -> Any:
    """A CPU session over the explicit graph with the stages as outputs.

    Weights stay mapped in half: folding their casts to FP32 would hold twice the file in memory, and
    packing them a third time. A cast per run costs a second at full size.
    """
    from vla_edge.runtime.engines.onnxruntime import import_onnxruntime

    onnxruntime = import_onnxruntime()
    # Also of a file just written: what is published has passed its reader's check.
    check_external_data(folder / MODEL_NAME, WEIGHTS_NAME)
    model = rounded(onnx.load(folder / MODEL_NAME, load_external_data=False))
    have = {value.name for value in model.graph.output}
    for stage in stages:
        if stage.tensor not in have:
            model.graph.output.append(
                helper.make_tensor_value_info(stage.tensor, TensorProto.FLOAT, stage.shape)
            )
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4  # a failure is raised too, without escape sequences in names
    options.intra_op_num_threads = usable_cores()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_ENABLE_EXTENDED
    options.add_session_config_entry("session.disable_prepacking", "1")
    options.enable_cpu_mem_arena = False
    with staging_file(folder / MODEL_NAME) as (beside, file):
        file.write(model.SerializeToString())
        file.flush()
        try:
            return onnxruntime.InferenceSession(
                str(beside),
                options,
                providers=["CPUExecutionProvider"],
                disabled_optimizers=["ConstantFolding"],
            )
        except Exception as error:  # ONNX Runtime's exceptions share no other base
            raise EngineError(
                f"ONNX Runtime {onnxruntime.__version__} cannot load {folder / MODEL_NAME} with the stages "
                f"{', '.join(stage.tensor for stage in stages)}: {error}.",
                "Export the checkpoint again.",
            ) from error


def _engine_name() -> str:
    from vla_edge.runtime.engines.onnxruntime import import_onnxruntime

    onnxruntime = import_onnxruntime()
    return f"onnxruntime {onnxruntime.__version__} CPU, FP16 rounding explicit"
