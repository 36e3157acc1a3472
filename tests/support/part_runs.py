"""Running a bundle's parts one after another in ONNX Runtime, as a plan of parts does on a device."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import onnx
import onnxruntime

from vla_edge.export.parts.split import PartGraph, write_part
from vla_edge.runtime.bundle.bundle import Bundle, load_golden, sample_inputs
from vla_edge.runtime.bundle.manifest import WEIGHTS_NAME

Arrays = dict[str, np.ndarray]


def sample_of(bundle: Bundle, at: int = 1) -> Arrays:
    """The inputs of a golden sample, by name."""
    manifest = bundle.manifest
    shapes = {spec.name: spec.shape for spec in manifest.inputs}
    return sample_inputs(load_golden(bundle), at, shapes, [source for source, _ in manifest.runtime.state])


def run(model: Path, have: Arrays) -> Arrays:
    """The outputs of a file, whose inputs are among `have`, as they stand in the graph: nothing is fused."""
    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    options.intra_op_num_threads = 1
    session = onnxruntime.InferenceSession(model, options, ["CPUExecutionProvider"])
    given = {value.name: have[value.name] for value in session.get_inputs()}
    names = [value.name for value in session.get_outputs()]
    return dict(zip(names, session.run(names, given), strict=True))


def run_chain(parts: Sequence[PartGraph], weights: Path, folder: Path, inputs: Arrays) -> Arrays:
    """All tensors that the parts give, each part checked by the package onnx and run from its own file."""
    have = dict(inputs)
    folder.mkdir()
    copy = shutil.copy(weights, folder / WEIGHTS_NAME)  # the checker refuses links, hard ones too
    for part in parts:
        path = write_part(part, folder, copy)
        onnx.checker.check_model(path, full_check=True)
        model = onnx.load(path, load_external_data=False)
        assert [value.name for value in model.graph.input] == [spec.name for spec in part.inputs]
        made = run(path, have)
        assert {name: (str(array.dtype), array.shape) for name, array in made.items()} == {
            spec.name: (spec.dtype, spec.shape) for spec in part.outputs
        }
        have |= made
    return have
