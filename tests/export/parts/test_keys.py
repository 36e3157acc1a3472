"""A part is known by its content: equal wherever it lies, different for any bit that a builder sees."""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Callable
from pathlib import Path

import onnx
import pytest
from onnx import numpy_helper

from vla_edge.export.parts.graph import Graph, graph_of, read_graph
from vla_edge.export.parts.keys import PartKey, WeightHashes, key_of
from vla_edge.export.parts.split import split
from vla_edge.runtime.bundle.bundle import Bundle
from vla_edge.runtime.bundle.manifest import WEIGHTS_NAME
from vla_edge.runtime.errors import BundleError

Keys = dict[str, PartKey]


def keys_of(graph: Graph, weights: Path) -> Keys:
    hashes = WeightHashes(graph, weights)
    return {part.name: key_of(part, hashes) for part in split(graph, graph.cuts)}


def keys_in(folder: Path) -> Keys:
    return keys_of(read_graph(Bundle.open(folder)), folder / WEIGHTS_NAME)


def changed(folder: Path, change: Callable[[onnx.ModelProto], None]) -> Keys:
    """Keys of the bundle's parts after its graph was changed."""
    model = onnx.load(folder / "model.onnx", load_external_data=False)
    change(model)
    return keys_of(graph_of(model.SerializeToString(), Bundle.open(folder).manifest), folder / WEIGHTS_NAME)


def different(one: Keys, other: Keys) -> set[str]:
    assert one.keys() == other.keys()
    return {name for name in one if one[name] != other[name]}


@pytest.fixture
def hybrid(bundle_of: Callable[..., Path]) -> Path:
    return bundle_of("hybrid-a", "transformers")


def test_a_pure_and_a_hybrid_policy_share_vision_and_text(
    bundle_of: Callable[..., Path], hybrid: Path
) -> None:
    pure, other = keys_in(bundle_of("pure")), keys_in(hybrid)
    shared = {name for name in pure if pure[name] == other[name]}
    assert shared == {"vision", "text.1", "text"}


def test_parts_of_another_precision_or_clip_form_have_other_keys(
    bundle_of: Callable[..., Path], hybrid: Path
) -> None:
    assert different(keys_in(hybrid), keys_in(bundle_of("hybrid-a", "transformers", "fp32"))) == set(
        keys_in(hybrid)
    )
    open_clip = keys_in(bundle_of("hybrid-a", "open_clip"))
    assert not {"vision", "text.1", "text"} & different(keys_in(hybrid), open_clip)


def test_a_new_head_on_the_same_backbones_changes_what_was_trained(hybrid: Path, tmp_path: Path) -> None:
    from dataclasses import replace

    from vla_edge.export.kosmos2.sample.samples import sample_of
    from vla_edge.export.kosmos2.sample.tokenizer import write_tokenizer
    from vla_edge.export.pipeline import ExportOptions, export_bundle
    from vla_edge.export.sample.sample import write_sample

    write_sample(tmp_path / "new.pth", replace(sample_of("hybrid-a", "transformers"), trained_seed=5))
    write_tokenizer(tmp_path / "tokenizer")
    new = export_bundle(ExportOptions(tmp_path / "new.pth", tmp_path / "engines"))[0].folder
    assert different(keys_in(hybrid), keys_in(new)) == {"fusion", "actions"}


def test_where_weights_lie_does_not_matter(hybrid: Path, tmp_path: Path) -> None:
    """A data file in which each weight lies elsewhere, in another order."""
    model = onnx.load(hybrid / "model.onnx", load_external_data=False)
    data, moved = (hybrid / WEIGHTS_NAME).read_bytes(), bytearray(b"some other file's")
    for tensor in reversed(model.graph.initializer):
        entries = {entry.key: entry for entry in tensor.external_data}
        if entries:
            start, size = int(entries["offset"].value), int(entries["length"].value)
            entries["offset"].value = str(len(moved))
            moved += data[start : start + size]
    (tmp_path / WEIGHTS_NAME).write_bytes(moved)
    graph = graph_of(model.SerializeToString(), Bundle.open(hybrid).manifest)
    assert keys_of(graph, tmp_path / WEIGHTS_NAME) == keys_in(hybrid)


def test_names_and_numbers_inside_descriptions_and_order_of_weights_do_not_matter(hybrid: Path) -> None:
    def rename(model: onnx.ModelProto) -> None:
        told = {tensor.name for cut in Bundle.open(hybrid).manifest.cuts for tensor in cut.tensors}
        told |= {value.name for value in (*model.graph.input, *model.graph.output)} | {""}

        def other(name: str) -> str:
            return name if name in told else f"x{hashlib.sha256(name.encode()).hexdigest()}"

        for node in model.graph.node:
            node.name, node.doc_string = "n" + node.name, "a description"
            node.input[:] = map(other, node.input)
            node.output[:] = map(other, node.output)
            attributes = list(reversed(node.attribute))
            del node.attribute[:]
            node.attribute.extend(attributes)
        tensors = list(reversed(model.graph.initializer))
        for tensor in tensors:
            tensor.name = other(tensor.name)
        del model.graph.initializer[:], model.graph.value_info[:]
        model.graph.initializer.extend(tensors)
        model.graph.name = model.producer_version = "another"

    assert changed(hybrid, rename) == keys_in(hybrid)


def test_one_bit_of_one_weight_changes_one_part(hybrid: Path, tmp_path: Path) -> None:
    graph = read_graph(Bundle.open(hybrid))
    weights = Path(shutil.copy(hybrid / WEIGHTS_NAME, tmp_path))
    tensor = next(t for t in graph.segments[3].initialisers if t.offset is not None and t.size_bytes > 1000)
    data = bytearray(weights.read_bytes())
    data[tensor.offset + 500] ^= 1
    weights.write_bytes(data)
    keys = keys_of(graph, weights)
    assert different(keys, keys_in(hybrid)) == {"clip"}
    assert keys["clip"].weights_sha256 != keys_in(hybrid)["clip"].weights_sha256


def _attribute(model: onnx.ModelProto) -> None:
    node = next(node for node in model.graph.node if node.op_type == "LayerNormalization")
    next(each for each in node.attribute if each.name == "epsilon").f *= 2


def _operator(model: onnx.ModelProto) -> None:
    node = next(node for node in model.graph.node if node.op_type == "Sigmoid" and "vision" in node.name)
    node.op_type = "Tanh"


def _two_inputs(model: onnx.ModelProto) -> None:
    node = next(node for node in model.graph.node if node.op_type == "Concat")
    node.input[:] = reversed(node.input)


def _constant(model: onnx.ModelProto) -> None:
    reshape = next(node for node in model.graph.node if node.op_type == "Reshape")
    tensor = next(each for each in model.graph.initializer if each.name == reshape.input[1])
    values = numpy_helper.to_array(tensor)
    tensor.CopyFrom(numpy_helper.from_array(values[::-1].copy(), tensor.name))


def _shape(model: onnx.ModelProto) -> None:
    """The same bytes read in another shape."""
    multiply = next(node for node in model.graph.node if node.op_type == "MatMul")
    tensor = next(each for each in model.graph.initializer if each.name == multiply.input[1])
    tensor.dims[:] = reversed(tensor.dims)


@pytest.mark.parametrize("change", [_attribute, _operator, _two_inputs, _constant, _shape])
def test_whatever_a_builder_sees_changes_the_key(
    hybrid: Path, change: Callable[[onnx.ModelProto], None]
) -> None:
    assert "vision" in different(changed(hybrid, change), keys_in(hybrid))


def test_versions_of_operators_change_every_key(hybrid: Path) -> None:
    def older(model: onnx.ModelProto) -> None:
        model.opset_import[0].version -= 1

    assert different(changed(hybrid, older), keys_in(hybrid)) == set(keys_in(hybrid))


def test_the_name_of_a_border_is_part_of_the_key(hybrid: Path) -> None:
    """A part is found by what it is fed and gives, so it cannot stand in for one with other names there."""
    bundle = Bundle.open(hybrid)
    name = bundle.manifest.cuts[0].tensors[0].name
    model = bundle.model_path.read_bytes().replace(name.encode(), b"B" * len(name))
    manifest = json.loads((hybrid / "manifest.json").read_bytes().replace(name.encode(), b"B" * len(name)))
    from vla_edge.runtime.bundle.manifest_file import decode

    graph = graph_of(model, decode(json.dumps(manifest).encode()))
    assert different(keys_of(graph, hybrid / WEIGHTS_NAME), keys_in(hybrid)) == {"vision", "text.1"}


def test_each_byte_of_weights_is_hashed_once(hybrid: Path) -> None:
    graph = read_graph(Bundle.open(hybrid))
    hashed: list[int] = []
    WeightHashes(graph, hybrid / WEIGHTS_NAME, hashed.append)
    assert sum(hashed) <= (hybrid / WEIGHTS_NAME).stat().st_size


def test_weights_that_are_gone_cut_short_or_a_link_are_refused(hybrid: Path, tmp_path: Path) -> None:
    graph, weights = read_graph(Bundle.open(hybrid)), tmp_path / WEIGHTS_NAME
    with pytest.raises(BundleError, match=f"{WEIGHTS_NAME} cannot be read: No such file"):
        WeightHashes(graph, weights)
    weights.write_bytes((hybrid / WEIGHTS_NAME).read_bytes()[:-1000])
    with pytest.raises(BundleError, match="is too short for the graph beside it"):
        WeightHashes(graph, weights)
    weights.unlink()
    weights.symlink_to(hybrid / WEIGHTS_NAME)
    with pytest.raises(BundleError, match="it is a symbolic link"):
        WeightHashes(graph, weights)
