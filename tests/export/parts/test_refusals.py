"""No wrong slice: cuts that do not hold and graphs that could be cut wrongly are refused in words."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import msgspec
import onnx
import pytest
from hypothesis import given
from hypothesis import strategies as st
from onnx import TensorProto, helper
from part_graphs import SHAPE, PartGraphs

from vla_edge.export.parts import onnx_reading
from vla_edge.export.parts.graph import graph_of, read_graph
from vla_edge.export.parts.split import split
from vla_edge.runtime.bundle.bundle import Bundle
from vla_edge.runtime.bundle.manifest import TensorSpec
from vla_edge.runtime.errors import BundleError


def three() -> PartGraphs:
    """pixels -> one -> two -> three, where three takes one's result, too."""
    made = PartGraphs()
    one = made.segment("one", ["pixels"], 1)
    two = made.segment("two", [one], 1)
    made.segment("three", [one, two], 1)
    return made


def refused(made: PartGraphs, change: Callable[[onnx.ModelProto], Any] = lambda model: None) -> str:
    model = made.model("three.out")
    change(model)
    return refused_bytes(made, model)


def refused_bytes(made: PartGraphs, model: onnx.ModelProto) -> str:
    with pytest.raises(BundleError, match="cannot be cut into parts") as raised:
        graph_of(model.SerializeToString(), made.manifest())
    assert "export it again" in raised.value.hint
    return raised.value.problem


@pytest.mark.parametrize(
    ("cuts", "words"),
    [
        ({"a": ["one.out", "none"]}, "its cut 'a' names the tensor 'none', which no node makes"),
        ({"a": ["pixels"]}, "its cut 'a' names the tensor 'pixels', which no node makes"),
        ({"a": ["two.out"]}, "at its cut 'a' crosses 'one.out', too, which its manifest does not tell"),
        ({"a": ["one.out", "two.out", "three.out"]}, "at its cut 'a' 'one.out' does not cross"),
        ({"a": ["actions"]}, "at its cut 'a' 'actions' does not cross"),
        ({"a": ["one.out", "two.out"], "b": ["one.out"]}, "lists the cut 'a' in another order than that of the graph"),
        ({"a": ["one.out"], "b": ["one.out"]}, "the cuts 'a' and 'b' lie at one place"),
    ],
)  # fmt: skip
def test_a_cut_that_does_not_hold_is_named(cuts: dict[str, list[str]], words: str) -> None:
    made = three()
    for name, tensors in cuts.items():
        made.cut(name, *tensors)
    assert words in refused(made)


def test_what_is_not_cut_has_its_name_alone() -> None:
    made = three()
    made.cut("whole", "one.out")
    assert "a cut may not be called 'whole'" in refused(made)


def test_an_input_that_no_node_takes_is_refused_before_parts_are_built() -> None:
    """The parts would make no engine: each of its inputs is some part's."""
    made = PartGraphs()
    made.cut("one", made.segment("one", ["pixels"], 1))
    result = made.segment("two", ["one.out"], 1)
    manifest = made.manifest()
    mask = msgspec.structs.replace(manifest.inputs[0], name="mask", role="other")
    manifest = msgspec.structs.replace(manifest, inputs=(*manifest.inputs, mask))
    model = made.model(result)
    model.graph.input.append(helper.make_tensor_value_info("mask", TensorProto.FLOAT, SHAPE))
    with pytest.raises(BundleError, match="no node takes its input 'mask'"):
        graph_of(model.SerializeToString(), manifest)
    graph_of(model.SerializeToString(), msgspec.structs.replace(manifest, cuts=()))  # the whole may have one


def test_a_part_that_makes_nothing_is_refused() -> None:
    made = PartGraphs()
    two, one = made.segment("two", ["pixels"], 1), made.segment("one", ["pixels"], 1)
    made.cut("both", two, one)
    made.segment("dead", [two], 1)
    made.cut("left", one)
    model = made.model(made.segment("end", [one], 1))
    assert "nothing that is needed is made in its part 'left'" in refused_bytes(made, model)


def test_a_last_part_that_makes_nothing_is_refused() -> None:
    made = PartGraphs()
    one = made.segment("one", ["pixels"], 1)
    made.cut("one", one)
    made.segment("dead", [one], 1)
    model = made.model("pixels")
    model.graph.node.insert(0, model.graph.node.pop())  # what makes the actions
    assert "nothing that is needed is made in its part 'actions'" in refused_bytes(made, model)


def test_a_name_that_is_left_out_is_no_tensor() -> None:
    made = PartGraphs()
    made.nodes.append(helper.make_node("Dropout", ["pixels"], ["one.out", ""]))
    made.cut("a", "one.out")
    made.nodes.append(helper.make_node("Clip", ["one.out", "", ""], ["two.out"]))
    graph = made.graph("two.out")
    assert graph.cuts == ("a",)


def test_a_tensor_has_one_dtype_and_shape(bundle_of: Callable[..., Path]) -> None:
    made = three()
    made.cut("a", "one.out")
    made.cut("b", "one.out", "two.out")
    manifest = made.manifest()
    first, second = manifest.cuts
    other = TensorSpec(name="one.out", dtype="float16", shape=SHAPE)
    second = msgspec.structs.replace(second, tensors=(other, second.tensors[1]))
    manifest = msgspec.structs.replace(manifest, cuts=(first, second))
    with pytest.raises(BundleError, match=r"two dtypes or shapes of 'one\.out'"):
        graph_of(made.model("three.out").SerializeToString(), manifest)


def _subgraph(model: onnx.ModelProto) -> None:
    """An If whose branch takes a tensor from outside, unseen by its node."""
    inner = onnx.GraphProto(name="inner", node=[helper.make_node("Identity", ["one.out"], ["inside"])])
    model.graph.node[1].attribute.append(onnx.AttributeProto(name="then_branch", type=5, g=inner))


def _outside_in_an_attribute(model: onnx.ModelProto) -> None:
    tensor = TensorProto(name="value", data_type=1, dims=[1], data_location=TensorProto.EXTERNAL)
    tensor.external_data.add(key="location", value="model.onnx.data")
    model.graph.node[1].attribute.append(onnx.AttributeProto(name="value", type=4, t=tensor))


def _backwards(model: onnx.ModelProto) -> None:
    nodes = list(model.graph.node)
    del model.graph.node[:]
    model.graph.node.extend(reversed(nodes))


GRAPHS: dict[str, tuple[Callable[[onnx.ModelProto], Any], str]] = {
    "subgraph": (_subgraph, "has a subgraph (If, Loop, Scan)"),
    "external attribute": (_outside_in_an_attribute, "attribute has external data"),
    "functions": (lambda m: m.functions.add(name="f"), "has functions or training information"),
    "sparse": (lambda m: m.graph.sparse_initializer.add(), "has sparse initialisers"),
    "order": (_backwards, "takes 'three.out', which nothing before it makes"),
    "made twice": (lambda m: m.graph.node.append(m.graph.node[0]), "'one.out' is made twice"),
    "over a weight": (lambda m: m.graph.node[2].output.append("one.weight"), "'one.weight' is made twice"),
    "two weights": (lambda m: m.graph.initializer.append(m.graph.initializer[0]), "two initialisers 'one.weight'"),
    "input and weight": (lambda m: m.graph.initializer.add(name="pixels"), "'pixels' is an initialiser, too"),
    "another input": (lambda m: m.graph.input.add(name="more"), "tells of other inputs: 'more'"),
    "another output": (lambda m: m.graph.output.add(name="one.out"), "tells of other outputs: 'one.out'"),
    "output by nobody": (lambda m: m.graph.output.add(name="pixels"), "its output 'pixels' is made by no node"),
    "dtype": (lambda m: setattr(m.graph.input[0].type.tensor_type, "elem_type", 10), "its input 'pixels' has not"),
    "shape": (lambda m: m.graph.output[0].type.tensor_type.shape.dim.add(dim_value=1), "its output 'actions' has not"),
    "no shape": (lambda m: m.graph.input[0].ClearField("type"), "its input 'pixels' has not the dtype or shape"),
    "no graph": (lambda m: m.ClearField("graph"), "tells of other inputs"),
}  # fmt: skip


@pytest.mark.parametrize("kind", GRAPHS)
def test_a_graph_that_could_be_cut_wrongly_is_refused(kind: str) -> None:
    change, words = GRAPHS[kind]
    assert words in refused(three(), change)


@pytest.mark.parametrize(
    ("old", "new", "words"),
    [
        (b"one.out", b"\xff\xfe\xff\xfe\xff\xfe\xff", "a name is not UTF-8"),
        (b"one.weight", b"\xff" * 10, "name is not UTF-8"),
        (b"\x0a\x06pixels", b"\x0f\x06pixels", "wire type"),
    ],
)
def test_bytes_that_parsers_could_read_otherwise_are_refused(old: bytes, new: bytes, words: str) -> None:
    model = three().model("three.out").SerializeToString()
    assert old in model
    with pytest.raises(BundleError, match=words):
        graph_of(model.replace(old, new), three().manifest())


def test_more_nodes_than_any_policy_has_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(onnx_reading, "MOST_NODES", 3)
    assert "more than 3 nodes" in refused(three())
    monkeypatch.setattr(onnx_reading, "MOST_NODES", 4)
    graph_of(three().model("three.out").SerializeToString(), three().manifest())


def test_a_graph_whose_weights_lie_elsewhere_is_refused(
    bundle_of: Callable[..., Path], tmp_path: Path
) -> None:
    bundle = Bundle.open(bundle_of("pure"))
    data = bundle.model_path.read_bytes().replace(b"model.onnx.data", b"../../../secret")
    (tmp_path / "model.onnx").write_bytes(data)
    with pytest.raises(BundleError, match="instead of"):
        read_graph(Bundle(tmp_path, bundle.manifest, bundle.manifest_sha256))


def test_a_cut_named_as_the_last_part_leaves_that_another_name() -> None:
    made = three()
    made.cut("actions", "one.out")
    parts = split(made.graph("three.out"), ["actions"])
    assert [part.name for part in parts] == ["actions", "actions_"]


@dataclass
class Drawn:
    """A graph of nodes that take any tensors before them, and what crosses behind each."""

    made: PartGraphs
    actions: str
    crossing: list[set[str]] = field(default_factory=list)


@st.composite
def drawn_graphs(draw: st.DrawFn) -> Drawn:
    made, names, takes = PartGraphs(), ["pixels"], []
    for at in range(draw(st.integers(2, 7))):
        takes.append(draw(st.lists(st.sampled_from(names), min_size=1, max_size=3, unique=True)))
        names.append(made.segment(f"n{at}", takes[-1], 1))
    drawn = Drawn(made, names[-1])
    for at in range(1, len(takes)):
        later = {name for taken in takes[at:] for name in taken}
        drawn.crossing.append(later & set(names[1 : at + 1]))
    return drawn


@given(drawn_graphs(), st.data())
def test_a_cut_is_accepted_just_where_its_tensors_are_all_that_cross(
    drawn: Drawn, data: st.DataObject
) -> None:
    names = [f"n{at}.out" for at in range(len(drawn.crossing) + 1)]
    told = data.draw(st.sets(st.sampled_from(names), min_size=1, max_size=4))
    drawn.made.cut("cut", *sorted(told))
    places = [at + 1 for at, crossing in enumerate(drawn.crossing) if crossing == told]
    places += [len(names)] * (told == {drawn.actions})  # before the node that names the actions
    if not places:
        with pytest.raises(BundleError, match="cut 'cut'"):
            drawn.made.graph(drawn.actions)
        return
    graph = drawn.made.graph(drawn.actions)
    assert graph.places == {"cut": places[0]}
    first, second = split(graph, ["cut"])
    assert {spec.name for spec in second.inputs} - {"pixels"} == told
    for part in (first, second):
        model = onnx.load_model_from_string(part.model)
        known = {value.name for value in (*model.graph.input, *model.graph.initializer)}
        for node in model.graph.node:
            assert set(node.input) <= known
            known |= set(node.output)
        assert {value.name for value in model.graph.output} <= known
