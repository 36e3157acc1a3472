"""State that a policy carries is compared with PyTorch as its actions are: at export, and on the engine of a robot."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from foreign_export import export_foreign
from msgspec.structs import replace
from onnx import helper

from vla_edge.export.build.progress import Silent
from vla_edge.export.build.verify import judge, run_samples
from vla_edge.export.bundle.gates import judgements
from vla_edge.export.bundle.writer import entry
from vla_edge.export.family import Family
from vla_edge.export.inspect.bundle import inspect_bundle
from vla_edge.export.inspect.bundle_view import print_bundle
from vla_edge.export.inspect.machine import this_machine
from vla_edge.export.kosmos2.family import Kosmos2
from vla_edge.export.pipeline import ExportOptions, export_bundle
from vla_edge.runtime.bundle.bundle import Bundle, load_golden
from vla_edge.runtime.bundle.manifest import encode
from vla_edge.runtime.engines.choice import open_session
from vla_edge.runtime.errors import InputError, ParityError

Nodes = Any  # a list of NodeProto, or the repeated field of a graph
Plant = Callable[[Nodes], None]


def double(output: str, nodes: Nodes) -> None:
    """What comes back is twice what it should be."""
    node = next(node for node in nodes if output in node.output)
    node.CopyFrom(helper.make_node("Add", [node.input[0], node.input[0]], [output], name=node.name))


def swap(one: str, other: str, nodes: Nodes) -> None:
    """Each of two states comes back as the other."""
    first, second = (next(node for node in nodes if name in node.output) for name in (one, other))
    first.output[0], second.output[0] = other, one


def ignore(source: str, nodes: Nodes) -> None:
    """The state that goes in is taken for zero."""
    for node in nodes:
        node.input[:] = ["nothing" if name == source else name for name in node.input]
    nodes.insert(0, helper.make_node("Sub", [source, source], ["nothing"], name="/nothing/Sub"))


FAULTS = {
    "h_out doubled": (partial(double, "h_out"), "h_out"),
    "c_out doubled": (partial(double, "c_out"), "c_out"),
    "swapped": (partial(swap, "h_out", "c_out"), "h_out"),
    "h_in ignored": (partial(ignore, "h_in"), "h_out"),
    "c_in ignored": (partial(ignore, "c_in"), "c_out"),
}
faults = pytest.mark.parametrize(("plant", "stage"), FAULTS.values(), ids=FAULTS)


def plant_in(monkeypatch: pytest.MonkeyPatch, family: type[Family], plant: Plant) -> None:
    write = family.graph

    def graph(self: Family, request: Any) -> Any:
        written = write(self, request)
        plant(written._nodes)
        return written

    monkeypatch.setattr(family, "graph", graph)


@pytest.fixture(scope="module")
def carried(checkpoint_of: Callable[..., Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A bundle that carries its LSTM's state, two frames a call."""
    place = tmp_path_factory.mktemp("carried")
    options = ExportOptions(checkpoint_of("pure"), place, settings={"lstm": "carried"}, batch=2)
    return export_bundle(options)[0].folder


def test_state_has_gates_and_golden_values_as_other_stages(carried: Path) -> None:
    bundle = Bundle.open(carried)
    golden, manifest = load_golden(bundle), bundle.manifest
    judged = {each.gate.stage: each for each in judgements(manifest)}
    for source, target in manifest.runtime.state:
        assert judged[target].passed
        assert judged[target].measured > 0
        layers, batch, hidden = next(each.shape for each in manifest.outputs if each.name == target)
        assert golden[f"stage_{target}"].shape == (10, layers, hidden)
        assert batch == 2
        assert np.any(golden[source][1])
    assert manifest.uncompared_state == ()


@faults
def test_a_fault_in_the_state_is_seen_at_export(
    tmp_path: Path,
    checkpoint_of: Callable[..., Path],
    monkeypatch: pytest.MonkeyPatch,
    plant: Plant,
    stage: str,
) -> None:
    plant_in(monkeypatch, Kosmos2, plant)
    options = ExportOptions(checkpoint_of("pure"), tmp_path, settings={"lstm": "carried"})
    with pytest.raises(ParityError, match=rf"differs too much from .* {stage} [0-9.]+ relative, gate 0\.03"):
        export_bundle(options)
    assert list(tmp_path.iterdir()) == []


@faults
def test_a_fault_in_the_state_is_seen_on_the_engine(
    tmp_path: Path, carried: Path, plant: Plant, stage: str
) -> None:
    """What vla-build, vla-doctor and vla-deploy judge an engine by."""
    assert verified(carried).passed
    folder = Path(shutil.copytree(carried, tmp_path / "faulty"))
    model = onnx.load(folder / "model.onnx", load_external_data=False)
    plant(model.graph.node)
    (folder / "model.onnx").write_bytes(model.SerializeToString())
    verification = verified(folder)
    assert not verification.passed
    assert stage in {check.stage for check in verification.checks if not check.passed}


def verified(folder: Path) -> Any:
    bundle = Bundle.unchecked(folder)
    golden, manifest = load_golden(bundle), bundle.manifest
    session = open_session(bundle, "onnxruntime", threads=1)
    try:
        measures = run_samples(session.inputs, session.outputs, session.run, golden, manifest, Silent())
    finally:
        session.close()
    return judge(manifest.parity.gates, golden["names"].tolist(), measures, "", manifest.action.unit)


def test_a_bundle_from_before_runs_and_vla_inspect_says_what_was_not_compared(
    tmp_path: Path, carried: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = Path(shutil.copytree(carried, tmp_path / "before"))
    golden = {name: array for name, array in load_golden(Bundle.open(carried)).items() if "_out" not in name}
    np.savez(folder / "golden.npz", **golden)
    now = Bundle.open(carried).manifest
    parity = replace(
        now.parity,
        gates=tuple(gate for gate in now.parity.gates if "_out" not in gate.stage),
        errors=tuple(error for error in now.parity.errors if "_out" not in error.stage),
    )
    stages = tuple(stage for stage in now.stages if "_out" not in stage.name)
    files = tuple(entry(folder / file.path) for file in now.files)
    before = replace(now, stages=stages, parity=parity, files=files)
    (folder / "manifest.json").write_bytes(encode(before))
    assert Bundle.open(folder).manifest.uncompared_state == ("h_out", "c_out")
    assert {check.stage for check in verified(folder).checks} == {"action"}
    for place, is_told in ((folder, True), (carried, False)):
        print_bundle(inspect_bundle(place, this_machine()))
        told = "not compared: the carried state h_out, c_out; export it again"
        assert (told in " ".join(capsys.readouterr().out.split())) is is_told


@pytest.fixture
def export_mine(
    install: Callable[..., None], toy: None, tmp_path: Path
) -> Callable[[str], dict[str, np.ndarray]]:
    """Exports a policy of a foreign family with this body of its class."""

    def export(body: str = "") -> dict[str, np.ndarray]:
        return export_foreign(install, tmp_path, body)

    return export


def test_a_foreign_family_carries_state(export_mine: Callable[[str], dict[str, np.ndarray]]) -> None:
    golden = export_mine("")
    assert golden["stage_memory_out"].shape == (10, 1, 6)


def test_a_fault_in_its_state_is_seen(export_mine: Callable[[str], object]) -> None:
    body = "    def write_memory(self, graph, memory): super().write_memory(graph, graph.add(memory, memory))"
    with pytest.raises(ParityError, match=r"memory_out 1 relative, gate 0\.03"):
        export_mine(body)


@pytest.mark.parametrize(
    ("body", "problem", "hint"),
    [
        (
            "def write_memory(self, graph, memory): graph.output('memory_out', memory)",
            "a robot would use the output 'memory_out' of its graph, and nothing compares it with PyTorch",
            'graph.stage("memory_out"',
        ),
        (
            "def write_memory(self, graph, memory): pass",
            "its graph has no output 'memory_out'",
            'graph.output("memory_out"',
        ),
        (
            "def write_memory(self, graph, memory): "
            "super().write_memory(graph, memory); graph.stage('other', memory)",
            "its reference does not return 'other', which its graph has as a stage",
            "under that name",
        ),
        (
            "def golden_inputs(self, architecture, settings, prompts, count): return {}",
            "there are no golden values for the input 'memory' of its graph",
            "float32 [10, 1, 6], 10 samples",
        ),
        (
            "def golden_inputs(self, *given): return {'memory': super().golden_inputs(*given)['memory'][0]}",
            "its golden values for the input 'memory' are float32 [1, 6]",
            "float32 [10, 1, 6], 10 samples",
        ),
        (
            "def golden_inputs(self, *given): return {'memory': 0 * super().golden_inputs(*given)['memory']}",
            "its golden values for the carried state 'memory' are all zero",
            "golden_inputs has to give others",
        ),
        (
            "def reference_inputs(self, *given): return ToyFamily.reference_inputs(self, *given)",
            "its reference is called without the input 'memory' of its graph",
            "of one sample: float32 [1, 1, 6]",
        ),
    ],
)
def test_what_a_family_left_out_is_told_by_name(
    export_mine: Callable[[str], object], body: str, problem: str, hint: str
) -> None:
    with pytest.raises(InputError) as refused:
        export_mine(f"    {body}")
    assert refused.value.problem.startswith(f"the family 'mine' cannot be exported: {problem}")
    assert hint in refused.value.hint
