"""From a graph to a network, by TensorRT's parser."""

from __future__ import annotations

import onnx
import pytest
from onnx import TensorProto, helper
from plan_builds import ADA, left_in
from plan_bundles import tiny_graph

from vla_edge.export.build.build import build_plan
from vla_edge.runtime.bundle.bundle import Bundle
from vla_edge.runtime.errors import BundleError, EngineError


def test_a_graph_that_the_parser_refuses_is_named_with_its_node(bundle: Bundle) -> None:
    model = tiny_graph()
    model.graph.node.append(
        helper.make_node("NoSuchOperator", ["actions"], ["strange"], name="/strange/NoSuch")
    )
    model.graph.output.append(helper.make_tensor_value_info("strange", TensorProto.FLOAT, [1, 1, 2]))
    onnx.save(model, bundle.model_path)
    with pytest.raises(EngineError) as caught:
        build_plan(bundle, ADA)
    assert f"cannot read {bundle.model_path}" in caught.value.problem
    assert "/strange/NoSuch" in caught.value.problem
    assert "NoSuchOperator" in caught.value.problem
    assert left_in(bundle) == []


def test_a_file_that_is_not_onnx_is_refused(bundle: Bundle) -> None:
    bundle.model_path.write_bytes(b"not a graph")
    with pytest.raises(BundleError, match=r"model\.onnx is not a graph that can be trusted"):
        build_plan(bundle, ADA)


@pytest.mark.parametrize("location", ["link.bin", "../secret.bin", "/dev/zero"])
def test_the_builder_does_not_see_a_graph_that_reads_elsewhere(bundle: Bundle, location: str) -> None:
    (bundle.folder.parent / "secret.bin").write_bytes(bytes(1 << 20))
    (bundle.folder / "link.bin").symlink_to("../secret.bin")
    model = onnx.load(bundle.model_path, load_external_data=False)
    for tensor in model.graph.initializer:
        for entry in tensor.external_data:
            entry.value = location if entry.key == "location" else entry.value
    bundle.model_path.write_bytes(model.SerializeToString())
    with pytest.raises(BundleError, match=f"takes its data from '{location}'"):
        build_plan(bundle, ADA)
    assert left_in(bundle) == []
