"""The stand-in's graph does PyTorch's arithmetic, and TensorRT builds it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import onnx
import pytest
from fake_tensorrt import FakeDevice, FakeTensorRt, fake_library

from vla_edge.bench.standin.model import Precision, Standin, golden, weight
from vla_edge.bench.standin.plan import (
    find_or_build,
    open_onnxruntime,
    open_tensorrt,
    write_graph,
)
from vla_edge.export.build import target as target_module
from vla_edge.export.build.contents import plan_contents
from vla_edge.export.build.target import Target, open_target
from vla_edge.runtime.engines.tensorrt.session import machine_of
from vla_edge.runtime.errors import EngineError

SMALL = Standin(64)
PRODUCTS = 1 + 2 * 4 + 4  # Linear, two for each layer of the RNN, the head


def run_graph(model: Path, state: np.ndarray) -> np.ndarray:
    import onnxruntime

    session = onnxruntime.InferenceSession(str(model), providers=["CPUExecutionProvider"])
    pixels = golden(SMALL)["pixels"][:1]
    return session.run(["actions"], {"pixels": pixels, "state": state})[0]


@pytest.mark.parametrize(("precision", "kind"), [("fp32", 1), ("fp16", 10)])
def test_every_parameter_is_in_the_graph_in_its_precision(
    tmp_path: Path, precision: Precision, kind: int
) -> None:
    model = onnx.load(write_graph(SMALL, precision, tmp_path))
    onnx.checker.check_model(model, full_check=True)
    weights = {tensor.name: tensor for tensor in model.graph.initializer if tensor.name in SMALL.shapes}
    assert {name: tuple(tensor.dims) for name, tensor in weights.items()} == SMALL.shapes
    assert {tensor.data_type for tensor in weights.values()} == {kind}
    assert [node.op_type for node in model.graph.node].count("Gemm") == PRODUCTS
    found = onnx.numpy_helper.to_array(weights["head.2.weight"])
    np.testing.assert_array_equal(found, weight(SMALL, "head.2.weight").astype(found.dtype))


def test_the_recurrent_matrices_really_meet_the_state(tmp_path: Path) -> None:
    """An engine cannot drop them: another state gives other actions, those of PyTorch."""
    import torch

    from vla_edge.bench.standin.module import build_module

    model = write_graph(SMALL, "fp32", tmp_path)
    state = np.random.default_rng(0).standard_normal((4, 1, SMALL.hidden)).astype(np.float32)
    module = build_module(SMALL)
    with torch.no_grad():
        features = module.embed(torch.from_numpy(golden(SMALL)["pixels"][:1]))
        expected = module.head(module.rnn(features, torch.from_numpy(state))[0])
    found = run_graph(model, state)
    np.testing.assert_allclose(found, expected.numpy(), atol=1e-5)
    assert np.abs(found - run_graph(model, np.zeros_like(state))).max() > 0.01


@pytest.mark.parametrize(("precision", "limit"), [("fp32", 1e-5), ("fp16", 3e-2)])
def test_the_graph_gives_the_actions_of_the_numpy_forward_pass(
    tmp_path: Path, precision: Precision, limit: float
) -> None:
    found = run_graph(write_graph(SMALL, precision, tmp_path), np.zeros((4, 1, SMALL.hidden), np.float32))
    np.testing.assert_allclose(found[0], golden(SMALL)["actions"][0], atol=limit)


@pytest.mark.parametrize(("precision", "dtype"), [("fp32", "float32"), ("fp16", "float16")])
def test_tensorrt_builds_it_in_the_precision_asked_for(
    tmp_path: Path, precision: Precision, dtype: str
) -> None:
    with open_target("tensorrt-rtx", 0, "cuda-bindings", 89) as target:
        plan, seconds = find_or_build(SMALL, precision, target, tmp_path)
    contents = plan_contents("tensorrt-rtx", plan)
    assert contents is not None
    assert contents.dtypes[dtype] > PRODUCTS
    assert precision == "fp16" or "float16" not in contents.dtypes
    assert seconds is not None
    assert seconds > 0
    # no weight was folded away: the recurrent ones are half of the stand-in's RNN
    item_bytes = {"fp32": 4, "fp16": 2}[precision]
    assert memoryview(plan).nbytes > 0.95 * SMALL.parameters_of() * item_bytes


def test_a_plan_is_built_once_a_run(tmp_path: Path) -> None:
    with open_target("tensorrt-rtx", 0, "cuda-bindings", 89) as target:
        plan, seconds = find_or_build(SMALL, "fp16", target, tmp_path)
        again, nothing = find_or_build(SMALL, "fp16", target, tmp_path)
        _, other_seconds = find_or_build(SMALL, "fp32", target, tmp_path)
    assert again == bytes(memoryview(plan))
    assert seconds is not None
    assert nothing is None
    assert other_seconds is not None
    assert len(list(tmp_path.iterdir())) == 2


def test_the_temporary_graph_is_gone_after_loading(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    session = open_onnxruntime(SMALL, "fp32", 1)
    assert list(tmp_path.iterdir()) == []
    session.run()
    session.close()
    with pytest.raises(EngineError, match="The session is closed"):
        session.run()


def test_a_plan_that_an_earlier_process_left_runs_from_memory_and_is_freed_whole(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With TensorRT's part played: what the real one does is tested on a GPU, see `test_standin.py`."""
    log: list[str] = []
    device = FakeDevice(log, sm=90)
    trt = FakeTensorRt(device, SimpleNamespace(inputs=SMALL.inputs, outputs=SMALL.outputs))

    @contextmanager
    def here(*_: object) -> Iterator[Target]:
        library = fake_library(trt)
        yield Target(library, machine_of(library, device), device, "")
        device.close()

    monkeypatch.setattr(target_module, "open_target", here)
    (tmp_path / "standin-fp16.plan").write_bytes(b"the plan")
    session, engine_ms, build_s = open_tensorrt(SMALL, "fp16", tmp_path)
    assert (trt.seen, build_s) == (b"the plan", None)
    assert {name: array.shape for name, array in session.inputs.items()} == {
        "pixels": (1, 1, 2352),
        "state": (4, 1, 64),
    }
    session.inputs["pixels"][...] = 1.0
    session.run()
    assert session.outputs["actions"].any()
    assert engine_ms() > 0
    assert (session.identity.precision, session.identity.provider) == (
        "fp16",
        "plan built in this run, CUDA graph",
    )
    session.close()
    assert device.live == {}
    with pytest.raises(EngineError, match="The session is closed"):
        session.run()


def test_without_tensorrt_the_session_says_how_to_get_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import sys

    monkeypatch.setitem(sys.modules, "tensorrt", None)
    with pytest.raises(EngineError, match="TensorRT"):
        open_tensorrt(SMALL, "fp16", tmp_path)
