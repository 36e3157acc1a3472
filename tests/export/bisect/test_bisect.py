"""Bisection finds the node that was broken, and only that."""

from __future__ import annotations

import json
import os
import shutil
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from click.testing import CliRunner
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx import TensorProto, helper, numpy_helper
from plan_bundles import write_bundle

from vla_edge.export.bisect.bisect import Value, first_bad, graph_values
from vla_edge.export.bisect.cli import bisect as bisect_command
from vla_edge.runtime.bundle.bundle import Bundle
from vla_edge.runtime.checks.relative import relative_l2
from vla_edge.runtime.errors import EngineError, InputError, MissingPackageError


@pytest.fixture(scope="session")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    return write_bundle(tmp_path_factory.mktemp("bisect") / "bundle")


def broken(bundle: Bundle, weight: str, factor: float, target: Path) -> Path:
    """The bundle's graph with one weight scaled, as a file of its own."""
    model = onnx.load(bundle.model_path)
    tensor = next(tensor for tensor in model.graph.initializer if tensor.name == weight)
    values = numpy_helper.to_array(tensor)
    tensor.CopyFrom(numpy_helper.from_array((values * factor).astype(values.dtype), weight))
    onnx.save(model, target)
    return target


def run(*arguments: object) -> Any:
    return CliRunner().invoke(
        bisect_command, [str(argument) for argument in arguments], standalone_mode=False
    )


@pytest.mark.parametrize(
    ("weight", "tensor"), [("out_weight", "attended"), ("head", "head_16"), ("ln_weight", "normal_32")]
)
def test_a_scaled_weight_is_found_at_its_node(
    bundle: Bundle, tmp_path: Path, weight: str, tensor: str
) -> None:
    result = run(bundle.folder, "--candidate", broken(bundle, weight, 2.0, tmp_path / "b.onnx"), "--json")
    found = json.loads(result.stdout)
    assert found["first_bad"] == tensor
    assert result.return_value == 1


def test_the_report_names_the_node(bundle: Bundle, tmp_path: Path) -> None:
    result = run(bundle.folder, "--candidate", broken(bundle, "out_weight", 2.0, tmp_path / "b.onnx"))
    assert "First bad tensor: attended, of node /attended/MatMul (MatMul), relative error" in result.stdout


def test_equal_files_have_no_bad_tensor(bundle: Bundle) -> None:
    result = run(bundle.folder, "--candidate", bundle.model_path)
    assert result.return_value == 0
    assert "No tensor differs by more than 0.01." in result.stdout
    assert not list(bundle.folder.glob(".bisect-*"))


def test_a_candidate_that_is_not_onnx_is_refused(bundle: Bundle, tmp_path: Path) -> None:
    (tmp_path / "x.onnx").write_bytes(b"\xff\xff\xff")
    result = run(bundle.folder, "--candidate", tmp_path / "x.onnx")
    assert isinstance(result.exception, InputError)
    assert "cannot be read as ONNX" in result.exception.problem


def test_a_candidate_that_is_a_pipe_is_not_waited_for(bundle: Bundle, tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "x.onnx")
    result = run(bundle.folder, "--candidate", tmp_path / "x.onnx")
    assert isinstance(result.exception, InputError)
    assert "no regular file" in result.exception.problem


def test_a_candidate_without_its_data_file_is_refused(bundle: Bundle, tmp_path: Path) -> None:
    alone = Path(shutil.copy(bundle.model_path, tmp_path / "alone.onnx"))
    result = run(bundle.folder, "--candidate", alone)
    assert isinstance(result.exception, InputError)
    assert f"{alone} is not a graph that can be trusted: its data file" in result.exception.problem
    assert "data file must lie beside it" in result.exception.hint


@pytest.mark.parametrize("location", ["../secret.bin", "/etc/passwd", "sub/weights"])
def test_a_candidate_that_reads_elsewhere_is_refused(bundle: Bundle, tmp_path: Path, location: str) -> None:
    model = onnx.load(bundle.model_path, load_external_data=False)
    for tensor in model.graph.initializer:
        for entry in tensor.external_data:
            entry.value = location if entry.key == "location" else entry.value
    (tmp_path / "b.onnx").write_bytes(model.SerializeToString())
    result = run(bundle.folder, "--candidate", tmp_path / "b.onnx")
    assert isinstance(result.exception, InputError)
    assert f"takes its data from {location!r}, not a file beside it" in result.exception.problem


@pytest.mark.parametrize("package", ["onnx", "onnxruntime"])
def test_a_missing_package_is_told_with_what_to_install(
    bundle: Bundle, monkeypatch: pytest.MonkeyPatch, package: str
) -> None:
    monkeypatch.delitem(sys.modules, "vla_edge.export.bisect.bisect")
    monkeypatch.setitem(sys.modules, package, None)
    result = run(bundle.folder, "--candidate", bundle.model_path)
    assert isinstance(result.exception, MissingPackageError)
    assert f"{package} is not installed" in result.exception.problem
    assert "pip install" in result.exception.hint


def test_a_sample_that_is_not_there_is_refused(bundle: Bundle) -> None:
    assert "--sample 8: the bundle has 8" in str(run(bundle.folder, "--sample", 8).exception)


def test_without_a_gpu_tensorrt_cannot_be_bisected(bundle: Bundle) -> None:
    assert isinstance(run(bundle.folder, "--backend", "tensorrt-rtx").exception, EngineError)


def test_graph_values_leave_out_integers_and_constants(bundle: Bundle) -> None:
    names = [value.name for value in graph_values(bundle.model_path)]
    assert names.index("embedded") < names.index("attended") < names.index("actions")
    assert "input_ids" not in names
    assert not any(name.startswith(("axis", "shape")) for name in names)


@settings(max_examples=60, deadline=None)
@given(count=st.integers(1, 300), data=st.data())
def test_in_a_chain_the_broken_node_is_found_in_few_rounds(count: int, data: st.DataObject) -> None:
    at = data.draw(st.integers(0, count - 1))
    values = [Value(f"v{i}", f"n{i} (Add)", (f"v{i - 1}",) if i else ()) for i in range(count)]

    def reference(names: Sequence[str]) -> Mapping[str, np.ndarray]:
        return {name: np.ones(3) for name in names}

    def candidate(names: Sequence[str]) -> Mapping[str, np.ndarray]:
        return {name: np.full(3, 1.0 + (int(name[1:]) >= at)) for name in names}

    finding = first_bad(values, reference, candidate, 0.01)
    assert finding.first_bad is not None
    assert finding.first_bad.value.name == f"v{at}"
    assert finding.rounds <= 5


def test_the_broken_branch_is_found_although_another_lies_between() -> None:
    values = [
        Value("a0", "", ()),
        Value("b0", "", ()),
        Value("a1", "", ("a0",)),
        Value("b1", "", ("b0",)),
        Value("c", "", ("a1", "b1")),
    ]
    wrong = {"a0", "a1", "c"}
    finding = first_bad(
        values,
        lambda names: {name: np.ones(1) for name in names},
        lambda names: {name: np.full(1, 2.0 if name in wrong else 1.0) for name in names},
        0.01,
    )
    assert finding.first_bad is not None
    assert finding.first_bad.value.name == "a0"


@pytest.mark.parametrize("value", [np.array([np.nan]), np.array([np.inf]), np.zeros(2)])
def test_nan_infinity_and_another_shape_are_infinitely_wrong(value: np.ndarray) -> None:
    assert relative_l2(value, np.ones(1)) == float("inf")


NO_GRAPHS = {
    "garbage": b"\xff not a graph",
    "json": b'{"irVersion": "10", "graph": ',
    "a weight file": bytes(range(256)) * 64,
}


@pytest.mark.parametrize("suffix", [".onnx", ".json", ".textproto", ".onnxtxt"])
@pytest.mark.parametrize("name", NO_GRAPHS)
def test_a_candidate_that_is_no_graph_is_refused_whatever_its_name(
    name: str, suffix: str, tmp_path: Path
) -> None:
    path = tmp_path / f"candidate{suffix}"
    path.write_bytes(NO_GRAPHS[name])
    with pytest.raises(InputError, match=f"candidate{suffix} cannot be read as ONNX"):
        graph_values(path)


@pytest.mark.parametrize("make", [os.mkfifo, Path.mkdir, lambda path: path.symlink_to("/dev/zero")])
def test_a_candidate_that_is_no_file_is_not_read(make, tmp_path: Path) -> None:
    path = tmp_path / "candidate.onnx"
    make(path)
    with pytest.raises(InputError, match="cannot be read as ONNX: no regular file"):
        graph_values(path)


@pytest.mark.parametrize(
    ("domain", "known"), [("", ()), ("", ("somebody",)), ("somebody", ("",)), ("ai.onnx.ml", ("",))]
)
def test_a_graph_of_operators_that_it_does_not_declare_is_refused(
    domain: str, known: tuple[str, ...], tmp_path: Path
) -> None:
    x, y = (helper.make_tensor_value_info(name, TensorProto.FLOAT, [4]) for name in "xy")
    node = helper.make_node("Relu", ["x"], ["y"], domain=domain)
    model = helper.make_model(helper.make_graph([node], "g", [x], [y]))
    del model.opset_import[:]
    model.opset_import.extend(helper.make_opsetid(name, 1) for name in known)
    onnx.save(model, tmp_path / "a.onnx")
    with pytest.raises(InputError, match=r"the shapes of .*a\.onnx cannot be told"):
        graph_values(tmp_path / "a.onnx")
