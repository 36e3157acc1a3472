"""Parts of a graph, run one after another, give what the whole gives; and what cannot be cut is refused."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from known_layouts import LAYOUTS
from part_runs import run, run_chain, sample_of

from vla_edge.export.parts.choice import choose
from vla_edge.export.parts.graph import read_graph
from vla_edge.export.parts.split import owner_of, split, write_part
from vla_edge.runtime.bundle.bundle import Bundle
from vla_edge.runtime.bundle.manifest import WEIGHTS_NAME
from vla_edge.runtime.errors import InputError


def assert_parts_are_the_whole(folder: Path, scratch: Path) -> None:
    """Every number of parts: each node is in one part, and the outputs are the same bit for bit."""
    bundle = Bundle.open(folder)
    graph, inputs = read_graph(bundle), sample_of(bundle)
    whole = run(bundle.model_path, inputs)
    for count in range(1, len(graph.segments) + 1):
        cuts = choose(graph, count, None, int).boundaries
        parts = split(graph, cuts)
        assert [part.name for part in parts] == [*cuts, "actions"]
        assert sum((part.nodes for part in parts), ()) == graph.file.nodes
        have = run_chain(parts, folder / WEIGHTS_NAME, scratch / str(count), inputs)
        for name, value in whole.items():
            np.testing.assert_array_equal(have[name], value)


@pytest.mark.parametrize(("layout", "form"), LAYOUTS)
@pytest.mark.parametrize("precision", ["fp16", "fp32"])
def test_parts_give_the_whole_graphs_result_bit_for_bit(
    bundle_of: Callable[..., Path], tmp_path: Path, layout: str, form: str, precision: str
) -> None:
    assert_parts_are_the_whole(bundle_of(layout, form, precision), tmp_path)


SETTINGS = [
    ("hybrid-a", {"lstm": "carried", "features": ["text", "clip_image"]}),
    ("hybrid-a", {"features": ["image_projection", "clip_image"]}),
    ("hybrid-a", {"pooling": "last", "projection_attention": "causal"}),
    ("pure", {"lstm": "carried"}),
    ("pure", {"lstm": "window"}),
]


@pytest.mark.parametrize(("layout", "settings"), SETTINGS)
def test_settings_that_change_the_graph_change_its_parts(
    checkpoint_of: Callable[..., Path], tmp_path: Path, layout: str, settings: dict[str, object]
) -> None:
    from vla_edge.export.pipeline import ExportOptions, export_bundle

    options = ExportOptions(checkpoint_of(layout), tmp_path / "engines", settings=settings)
    assert_parts_are_the_whole(export_bundle(options)[0].folder, tmp_path)


def test_a_part_takes_only_what_it_uses(bundle_of: Callable[..., Path]) -> None:
    parts = split(graph := read_graph(Bundle.open(bundle_of("hybrid-a", "transformers"))), graph.cuts)
    inputs = {part.name: [spec.name.rpartition(".")[2] for spec in part.inputs] for part in parts}
    assert inputs == {
        "vision": ["pixel_values"],
        "text.1": ["input_ids", "image_to_text_projection/Cast_4"],
        "text": ["0/Add_2", "attention_mask"],
        "clip": ["pixel_values"],  # and not the text's output, which crosses there
        "fusion": ["pool/ReduceMax", "visual_projection/Cast_2"],
        "actions": ["feature_fusion/Cast_2"],
    }


def test_the_whole_is_the_file_as_it_stands(bundle_of: Callable[..., Path]) -> None:
    bundle = Bundle.open(bundle_of("pure"))
    (whole,) = split(read_graph(bundle), [])
    assert whole.model == bundle.model_path.read_bytes()
    assert [spec.name for spec in whole.outputs] == ["actions"]


def test_a_carried_state_comes_from_the_last_part(checkpoint_of: Callable[..., Path], tmp_path: Path) -> None:
    from vla_edge.export.pipeline import ExportOptions, export_bundle

    options = ExportOptions(checkpoint_of("pure"), tmp_path, settings={"lstm": "carried"})
    graph = read_graph(Bundle.open(export_bundle(options)[0].folder))
    *others, last = split(graph, graph.cuts)
    assert {spec.name for spec in last.outputs} == {"actions", "h_out", "c_out"}
    assert not {"h_in", "c_in"} & {spec.name for part in others for spec in part.inputs}


def test_a_tensor_has_the_part_that_makes_it(bundle_of: Callable[..., Path]) -> None:
    bundle = Bundle.open(bundle_of("hybrid-a", "transformers"))
    parts = split(read_graph(bundle), ["text", "clip"])
    owners = {stage.name: owner_of(parts, stage.tensor) for stage in bundle.manifest.stages}
    assert {stage: part and part.name for stage, part in owners.items()} == {
        "vision": "text",
        "text": "text",
        "clip": "clip",
        "fusion": "actions",
        "action": "actions",
    }
    assert owner_of(parts, "pixel_values") is None


def test_cuts_are_named_once_in_any_order_and_known(bundle_of: Callable[..., Path]) -> None:
    graph = read_graph(Bundle.open(bundle_of("pure")))
    assert split(graph, ["text", "vision"]) == split(graph, ["vision", "text"])
    with pytest.raises(InputError, match=r"has no cut 'clip'") as refused:
        split(graph, ["clip"])
    assert refused.value.hint == "It has: vision, text.1, text."
    with pytest.raises(InputError, match="'text' is named twice"):
        split(graph, ["text", "text"])


def test_the_weights_beside_a_part_are_a_link_and_no_copy(
    bundle_of: Callable[..., Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    weights = bundle_of("pure") / WEIGHTS_NAME
    parts = split(read_graph(Bundle.open(bundle_of("pure"))), ["vision", "text"])
    for part in parts:
        write_part(part, tmp_path, weights)
    assert {path.name for path in tmp_path.iterdir()} == {
        "vision.onnx",
        "text.onnx",
        "actions.onnx",
        WEIGHTS_NAME,
    }
    assert (tmp_path / WEIGHTS_NAME).samefile(weights)
    assert not (tmp_path / WEIGHTS_NAME).is_symlink()
    run(tmp_path / "vision.onnx", sample_of(Bundle.open(bundle_of("pure"))))

    def other_disk(*_: object) -> None:
        raise OSError(18, "Invalid cross-device link")

    monkeypatch.setattr(os, "link", other_disk)
    other = tmp_path / "other"
    other.mkdir()
    write_part(parts[0], other, weights)
    assert (other / WEIGHTS_NAME).is_symlink()
    assert (other / WEIGHTS_NAME).samefile(weights)


def test_other_weights_beside_a_part_are_not_taken(bundle_of: Callable[..., Path], tmp_path: Path) -> None:
    (tmp_path / WEIGHTS_NAME).write_bytes(b"other")
    (part,) = split(read_graph(Bundle.open(bundle_of("pure"))), [])
    with pytest.raises(FileExistsError):
        write_part(part, tmp_path, bundle_of("pure") / WEIGHTS_NAME)


CUTTING = """
from toy_family import JOINTS, LAYER, STEPS, ToyFamily

class Cutting(ToyFamily):
    name = "cutting"

    def graph(self, request):
        from vla_edge.export.graph.layers import Builder
        from vla_edge.export.graph.parameters import Parameters
        from vla_edge.export.graph.writer import GraphWriter

        graph, side = GraphWriter(), request.architecture.side
        builder = Builder(graph, Parameters(request.tensors), request.precision)
        pixels = graph.input("pixel_values", "float32", (1, 3, side, side))
        flat = graph.reshape(pixels, (1, 3 * side**2))
        graph.cut("flat")
        joints = graph.cast(builder.linear(flat, [builder.params.linear(LAYER)], LAYER), "float32")
        graph.stage("action", graph.output("actions", graph.reshape(joints, (1, STEPS, len(JOINTS)))))
        return graph

FAMILY = Cutting()
"""


@pytest.mark.parametrize("family", ["toy", "cutting"])
def test_another_family_is_cut_where_it_says(
    install: Callable[..., None], toy: None, tmp_path: Path, family: str
) -> None:
    import torch

    from vla_edge.export.pipeline import ExportOptions, export_bundle

    install("cutting", "cutting_family:FAMILY", CUTTING)
    weights = {"joints.weight": torch.rand(6, 48) - 0.5, "joints.bias": torch.zeros(6)}
    torch.save({"model_state_dict": weights}, tmp_path / "toy.pth")
    options = ExportOptions(tmp_path / "toy.pth", tmp_path / "engines", family=family)
    folder = export_bundle(options)[0].folder
    assert read_graph(Bundle.open(folder)).cuts == (() if family == "toy" else ("flat",))
    assert_parts_are_the_whole(folder, tmp_path)
