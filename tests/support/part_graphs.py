"""Graphs with cuts, made from the bytes of weights that lie between them; their data file need not exist."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import msgspec
import onnx
from onnx import TensorProto, helper
from plan_bundles import tiny_manifest

from vla_edge.export.parts.graph import Graph, graph_of
from vla_edge.runtime.bundle.manifest import Cut, Input, Manifest, Output, TensorSpec

SHAPE = (1, 1, 2)


@dataclass
class PartGraphs:
    """Collects nodes; each segment adds a weight to what it takes, and a cut may follow it."""

    nodes: list[onnx.NodeProto] = field(default_factory=list)
    weights: list[onnx.TensorProto] = field(default_factory=list)
    cuts: list[tuple[str, list[str]]] = field(default_factory=list)
    end: int = 0

    def segment(self, name: str, takes: Sequence[str], size_bytes: int) -> str:
        """Nodes of one segment, `takes` being tensors of it; gives the name of its result."""
        self.nodes.append(helper.make_node("Sum", [*takes, f"{name}.weight"], [f"{name}.out"]))
        tensor = TensorProto(name=f"{name}.weight", data_type=TensorProto.UINT8, dims=[size_bytes])
        tensor.data_location = TensorProto.EXTERNAL
        entries = {"location": "model.onnx.data", "offset": self.end, "length": size_bytes}
        for key, value in entries.items():
            tensor.external_data.add(key=key, value=str(value))
        self.end += size_bytes
        self.weights.append(tensor)
        return f"{name}.out"

    def cut(self, name: str, *tensors: str) -> None:
        self.cuts.append((name, list(tensors)))

    def model(self, actions: str) -> onnx.ModelProto:
        nodes = [*self.nodes, helper.make_node("Identity", [actions], ["actions"])]
        ends = [
            [helper.make_tensor_value_info(name, TensorProto.FLOAT, SHAPE)] for name in ("pixels", "actions")
        ]
        graph = helper.make_graph(nodes, "graph", *ends, initializer=self.weights)
        return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10)

    def manifest(self) -> Manifest:
        def spec(name: str) -> TensorSpec:
            return TensorSpec(name=name, dtype="float32", shape=SHAPE)

        return msgspec.structs.replace(
            tiny_manifest([]),
            inputs=(Input(name="pixels", dtype="float32", shape=SHAPE, role="pixels"),),
            outputs=(Output(name="actions", dtype="float32", shape=SHAPE, role="actions"),),
            cuts=tuple(Cut(name=name, tensors=tuple(map(spec, names))) for name, names in self.cuts),
        )

    def graph(self, actions: str) -> Graph:
        return graph_of(self.model(actions).SerializeToString(), self.manifest())


def policy_graph(backbone: Sequence[int], clip: Sequence[int] = (), fusion: int = 0, head: int = 1) -> Graph:
    """A policy's shape: segments of a backbone, of a branch beside it, then what is trained.

    Args:
        backbone: bytes of its segments, with a cut behind each: "b0", "b1", ..
        clip: of the branch's, "c0", "c1", ..; none of a pure policy.
        fusion: of what joins both, with the cut "fusion" behind it; a pure policy has none.
        head: of what lies behind the last cut.
    """
    made, text, image = PartGraphs(), "pixels", "pixels"
    for at, size in enumerate(backbone):
        text = made.segment(f"b{at}", [text], size)
        made.cut(f"b{at}", text)
    for at, size in enumerate(clip):
        image = made.segment(f"c{at}", [image], size)
        made.cut(f"c{at}", text, image)
    if clip:
        text = made.segment("fusion", [text, image], fusion)
        made.cut("fusion", text)
    return made.graph(made.segment("head", [text], head))
