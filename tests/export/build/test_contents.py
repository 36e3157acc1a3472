"""What an engine is made of, counted from what TensorRT tells."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from plan_bundles import SAMPLES, write_bundle

from vla_edge.export.build.contents import engine_contents, network_contents, plan_contents
from vla_edge.export.build.network import mark_outputs, network_tensors, parse
from vla_edge.export.build.target import open_target
from vla_edge.runtime.bundle.bundle import load_golden
from vla_edge.runtime.engines.tensorrt.library import load_library
from vla_edge.runtime.errors import InputError


def test_the_inspectors_json_is_counted() -> None:
    layers = [
        {"Name": "a", "LayerType": "gemm", "Outputs": [{"Name": "x", "Format/Datatype": "Half"}]},
        {
            "Name": "b",
            "LayerType": "gemm",
            "Outputs": [{"Name": "y", "Format/Datatype": "Row major linear FP16 format"}],
        },
        {
            "Name": "c",
            "LayerType": "kgen",
            "Outputs": [{"Name": "z", "Format/Datatype": "Float"}, {"Name": "w"}],
        },
        {"Name": "d", "LayerType": "Reformat", "Outputs": [{"Name": "v", "Format/Datatype": "Int32"}]},
    ]
    (contents,) = engine_contents(json.dumps({"Layers": layers}))
    assert contents is not None
    assert contents.layers == {"gemm": 2, "Reformat": 1, "kgen": 1}
    assert contents.dtypes == {"float16": 2, "float32": 1, "int32": 1, "unknown": 1}


@pytest.mark.parametrize("text", ["{}", '{"Layers": []}', '{"Layers": ["only a name"]}'])
def test_an_engine_without_detail_counts_nothing(text: str) -> None:
    assert engine_contents(text) == (None,)


def test_a_plan_without_the_known_text_counts_nothing() -> None:
    assert plan_contents("tensorrt-rtx", b"vtrt and then something else") is None
    assert plan_contents("tensorrt", b"ftrt") is None


def test_the_parsed_network_has_the_dtypes_of_the_graph(tmp_path: Path) -> None:
    bundle = write_bundle(tmp_path / "bundle")
    library = load_library("tensorrt-rtx")
    builder = library.trt.Builder(library.logger)
    network = builder.create_network(0)
    parser = parse(library, network, bundle.model_path)
    contents = network_contents(network)
    mark_outputs(network, ["text", "actions"])
    assert {network.get_output(at).name for at in range(network.num_outputs)} == {"actions", "text"}
    with pytest.raises(InputError, match="no tensor nowhere"):
        mark_outputs(network, ["nowhere"])
    del parser
    assert contents.layers["matrix_multiply"] == 5
    assert contents.layers["normalization"] == 1
    assert set(contents.dtypes) >= {"float16", "float32"}
    with open_target("tensorrt-rtx", 0, "cuda-bindings", 89) as target:
        assert {"attended", "text", "vision", "actions"} <= network_tensors(target, bundle.model_path)
    assert len(load_golden(bundle)["names"]) == SAMPLES


def test_layers_are_counted_by_the_part_that_they_are_of() -> None:
    layers = [
        {"Name": "a [part 1]", "LayerType": "gemm"},
        {"Name": "b [part 3]", "LayerType": "kernel"},
        {"Name": "c [part 3]", "LayerType": "kernel"},
        {"Name": "d [part 999]", "LayerType": "beyond"},
    ]
    one, two, three = engine_contents(json.dumps({"Layers": layers}), 3)
    assert one is not None
    assert two is None
    assert three is not None
    assert (one.layers, three.layers) == ({"gemm": 1}, {"kernel": 2, "beyond": 1})
