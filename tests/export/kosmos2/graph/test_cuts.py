"""Where a graph may be cut: its pieces, run one after another, give what the whole gives."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
from known_layouts import LAYOUTS
from onnx import helper

from vla_edge.runtime.bundle.bundle import Bundle, load_golden, sample_inputs
from vla_edge.runtime.bundle.manifest import TensorSpec

NARROW_BYTES = 1 << 20
Arrays = dict[str, np.ndarray]


def loaded(folder: Path, tensors: list[TensorSpec]) -> onnx.ModelProto:
    """The model with its weights, and with the dtypes and shapes that the manifest tells of its cuts."""
    model = onnx.load(folder / "model.onnx")
    known = {value.name for value in model.graph.value_info}
    for spec in tensors:
        kind = helper.np_dtype_to_tensor_dtype(np.dtype(spec.dtype))
        if spec.name not in known:
            known.add(spec.name)
            model.graph.value_info.append(helper.make_tensor_value_info(spec.name, kind, spec.shape))
    return model


def run(model: onnx.ModelProto, have: Arrays) -> Arrays:
    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    session = onnxruntime.InferenceSession(model.SerializeToString(), options, ["CPUExecutionProvider"])
    given = {value.name: have[value.name] for value in session.get_inputs()}
    names = [value.name for value in session.get_outputs()]
    return dict(zip(names, session.run(names, given), strict=True))


def sample(bundle: Bundle, at: int) -> Arrays:
    manifest = bundle.manifest
    shapes = {spec.name: spec.shape for spec in manifest.inputs}
    return sample_inputs(load_golden(bundle), at, shapes, [source for source, _ in manifest.runtime.state])


def assert_pieces_are_the_whole(folder: Path) -> None:
    bundle = Bundle.open(folder)
    manifest, inputs = bundle.manifest, sample(bundle, 1)
    model = loaded(folder, [spec for cut in manifest.cuts for spec in cut.tensors])
    extractor = onnx.utils.Extractor(model)
    borders = [*([spec.name for spec in cut.tensors] for cut in manifest.cuts), ["actions"]]
    others = [spec.name for spec in manifest.outputs if spec.name != "actions"]
    have, nodes, before = dict(inputs), 0, list[str]()
    for at, border in enumerate(borders):
        ends = border + others * (at == len(borders) - 1)
        piece = extractor.extract_model([*inputs, *before], [name for name in ends if name not in before])
        used = {name for node in piece.graph.node for name in node.input}
        for value in [value for value in piece.graph.input if value.name not in used]:
            piece.graph.input.remove(value)
        nodes += len(piece.graph.node)
        have |= run(piece, have)
        before = border
    assert nodes == len(model.graph.node)  # each is in one piece alone: nothing crosses that is not told
    for name, value in run(model, inputs).items():
        np.testing.assert_array_equal(have[name], value)


@pytest.mark.parametrize(("layout", "form"), LAYOUTS)
@pytest.mark.parametrize("precision", ["fp16", "fp32"])
def test_the_pieces_between_cuts_give_the_whole_graphs_result_bit_for_bit(
    bundle_of: Callable[..., Path], layout: str, form: str, precision: str
) -> None:
    assert_pieces_are_the_whole(bundle_of(layout, form, precision))


def test_a_carried_state_goes_into_the_last_piece(checkpoint_of: Callable[..., Path], tmp_path: Path) -> None:
    from vla_edge.export.pipeline import ExportOptions, export_bundle

    settings = {"lstm": "carried", "features": ["text", "clip_image"]}
    options = ExportOptions(checkpoint_of("hybrid-a", "transformers"), tmp_path, settings=settings)
    assert_pieces_are_the_whole(export_bundle(options)[0].folder)


def test_cuts_lie_behind_vision_between_text_layers_around_clip_and_behind_fusion(
    bundle_of: Callable[..., Path],
) -> None:
    cuts = Bundle.open(bundle_of("hybrid-a", "transformers", "fp16")).manifest.cuts
    assert [cut.name for cut in cuts] == ["vision", "text.1", "text", "clip", "fusion"]
    assert [len(cut.tensors) for cut in cuts] == [1, 1, 1, 2, 1]
    sizes = [np.prod(spec.shape) * np.dtype(spec.dtype).itemsize for cut in cuts for spec in cut.tensors]
    assert max(sizes) < NARROW_BYTES
