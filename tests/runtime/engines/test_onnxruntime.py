"""ONNX Runtime runs the bundle's own graph, on the provider asked for, or says why not."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest

from vla_edge.runtime.bundle.bundle import Bundle, load_golden
from vla_edge.runtime.engines.nvidia_gpu import has_nvidia_gpu
from vla_edge.runtime.engines.onnxruntime import (
    MAX_THREADS,
    OnnxRuntimeOptions,
    OnnxRuntimeSession,
    import_onnxruntime,
    most_threads,
)
from vla_edge.runtime.errors import BundleError, EngineError, InputError
from vla_edge.runtime.policy import Policy

Make = Callable[..., Path]


def run_sample(session: OnnxRuntimeSession, golden: dict[str, np.ndarray], at: int) -> np.ndarray:
    for name, buffer in session.inputs.items():
        buffer[...] = golden[name][at][:, None] if name == "h_in" else golden[name][at]
    session.run()
    return session.outputs["actions"]


@pytest.mark.parametrize(("precision", "tolerance"), [("fp32", 1e-6), ("fp16", 1e-3)])
@pytest.mark.parametrize("fields", [{}, {"carried": True}, {"indexed": True}, {"steps": 2}, {"batch": 3}])
def test_the_golden_samples_come_out(
    make_bundle: Make, fields: dict[str, Any], precision: str, tolerance: float
) -> None:
    bundle = Bundle.open(make_bundle(precision=precision, **fields))
    golden = load_golden(bundle)
    session = OnnxRuntimeSession(bundle)
    for at in range(len(golden["names"])):
        found = run_sample(session, golden, at)
        assert found.shape == (fields.get("batch", 1), fields.get("steps", 1), 2)
        np.testing.assert_allclose(found, np.broadcast_to(golden["actions"][at], found.shape), atol=tolerance)


@pytest.mark.parametrize("precision", ["fp16", "fp32"])
def test_prepacking_changes_no_action(make_bundle: Make, precision: str) -> None:
    bundle = Bundle.open(make_bundle(precision=precision))
    golden = load_golden(bundle)
    packed, mapped = (
        OnnxRuntimeSession(bundle, OnnxRuntimeOptions(prepack=prepack)) for prepack in (True, False)
    )
    for at in range(len(golden["names"])):
        np.testing.assert_allclose(run_sample(packed, golden, at), run_sample(mapped, golden, at), atol=1e-6)


def test_the_rows_of_a_batch_are_independent(make_bundle: Make, numpy_reference: Callable[..., Any]) -> None:
    bundle = Bundle.open(make_bundle(batch=3))
    golden = load_golden(bundle)
    session = OnnxRuntimeSession(bundle)
    for name, buffer in session.inputs.items():
        buffer[...] = golden[name][:3]
    session.run()
    np.testing.assert_allclose(session.outputs["actions"], golden["actions"][:3], atol=1e-6)


def test_a_run_reads_and_writes_the_same_buffers_every_time(pristine_bundle: Path) -> None:
    bundle = Bundle.open(pristine_bundle)
    golden = load_golden(bundle)
    session = OnnxRuntimeSession(bundle)
    arrays = {**session.inputs, **session.outputs}
    addresses = {name: array.ctypes.data for name, array in arrays.items()}
    first = run_sample(session, golden, 0).copy()
    other = run_sample(session, golden, 1).copy()
    again = run_sample(session, golden, 0)
    assert not np.array_equal(first, other)
    np.testing.assert_array_equal(first, again)
    assert {
        name: array.ctypes.data for name, array in {**session.inputs, **session.outputs}.items()
    } == addresses


def test_the_identity_tells_what_really_runs(make_bundle: Make) -> None:
    bundle = Bundle.open(make_bundle())
    identity = OnnxRuntimeSession(bundle, OnnxRuntimeOptions(threads=1)).identity
    assert identity.backend == "onnxruntime"
    assert identity.version == import_onnxruntime().__version__
    assert identity.device.startswith("cpu: ")
    assert identity.device.endswith("(1 thread)")
    assert identity.provider == "CPUExecutionProvider"
    assert (identity.precision, identity.compute) == ("fp32", "fp32")
    assert identity.bundle == bundle.identity
    assert str(identity).startswith(f"onnxruntime {identity.version} fp32 on cpu: ")


def test_the_identity_of_a_half_graph_says_how_the_cpu_computes_it(make_bundle: Make) -> None:
    identity = OnnxRuntimeSession(Bundle.open(make_bundle(precision="fp16"))).identity
    assert identity.precision == "fp16"
    assert "fp32" in identity.compute
    assert "ONNX Runtime" in identity.compute


def test_cuda_runs_on_cuda_or_not_at_all(pristine_bundle: Path, capfd: pytest.CaptureFixture[str]) -> None:
    refused, provider = None, ""
    try:
        session = OnnxRuntimeSession(Bundle.open(pristine_bundle), OnnxRuntimeOptions(provider="cuda"))
        provider = session.identity.provider
    except EngineError as error:
        refused = error
    if refused is None:
        assert provider == "CUDAExecutionProvider"
    else:
        assert "CUDA" in refused.problem
        assert "provider='cpu'" in refused.hint
        assert "pip install" in refused.hint
        assert has_nvidia_gpu() or not capfd.readouterr().err, "the error says all: no GPU here"


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"threads": 0}, "threads=0 is refused"),
        ({"provider": "gpu"}, "provider='gpu' is not known"),
        ({"device_index": -1}, "device_index=-1 is refused"),
        ({"threads": 2000}, "threads=2000 is refused"),
        ({"threads": 3_000_000_000}, "threads=3000000000 is refused"),
        ({"threads": "2"}, "threads='2' is refused"),
        ({"threads": 1.5}, "threads=1.5 is refused"),
        ({"threads": True}, "threads=True is refused"),
        ({"device_index": "0"}, "device_index='0' is refused"),
        ({"device_index": 10**30}, "Give a whole number from 0 to 1023"),
        ({"provider": []}, "provider=.* is not known"),
        ({"tf32": "x"}, "tf32='x' is refused"),
    ],
)
def test_options_out_of_range_are_refused(fields: dict[str, Any], words: str) -> None:
    with pytest.raises(InputError, match=words):
        OnnxRuntimeOptions(**fields)


def test_two_distributions_of_onnxruntime_are_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("onnxruntime", "onnxruntime_gpu"):
        folder = tmp_path / f"{name}-1.20.0.dist-info"
        folder.mkdir()
        (folder / "METADATA").write_text(
            f"Metadata-Version: 2.1\nName: {name.replace('_', '-')}\nVersion: 1.20.0\n"
        )
    monkeypatch.syspath_prepend(str(tmp_path))
    with pytest.raises(EngineError) as raised:
        import_onnxruntime()
    assert "onnxruntime and onnxruntime-gpu are both installed" in raised.value.problem
    assert "overwrite each other" in raised.value.problem
    assert "pip uninstall -y onnxruntime onnxruntime-gpu && pip install" in raised.value.hint


def test_a_missing_onnxruntime_names_the_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    with pytest.raises(EngineError) as raised:
        import_onnxruntime()
    assert raised.value.problem == "onnxruntime is not installed."
    assert raised.value.hint == "pip install 'vla-edge[onnxruntime]'"


def test_a_broken_onnxruntime_says_why(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "onnxruntime.py").write_text(
        "raise ImportError('libcublas.so.12: cannot open shared object file')"
    )
    monkeypatch.delitem(sys.modules, "onnxruntime", raising=False)
    monkeypatch.syspath_prepend(str(tmp_path))
    with pytest.raises(EngineError, match="onnxruntime cannot be imported: libcublas"):
        import_onnxruntime()


def test_a_graph_that_is_not_onnx_is_refused(tiny_bundle: Path, relist: Callable[[Path], None]) -> None:
    (tiny_bundle / "model.onnx").write_bytes(b"junk" * 50)
    relist(tiny_bundle)
    with pytest.raises(BundleError, match=r"model.onnx is not a graph that can be trusted"):
        OnnxRuntimeSession(Bundle.open(tiny_bundle))


def test_a_graph_that_onnxruntime_refuses_is_an_engine_error(
    tiny_bundle: Path, relist: Callable[[Path], None]
) -> None:
    model = onnx.load(tiny_bundle / "model.onnx", load_external_data=False)
    model.graph.node[0].op_type = "NoSuchOperator"
    (tiny_bundle / "model.onnx").write_bytes(model.SerializeToString())
    relist(tiny_bundle)
    with pytest.raises(EngineError, match=r"cannot load .*model.onnx"):
        OnnxRuntimeSession(Bundle.open(tiny_bundle))


def test_a_graph_with_other_inputs_than_the_manifest_is_refused(
    tiny_bundle: Path, edit_manifest: Callable[..., None]
) -> None:
    edit_manifest(tiny_bundle, lambda fields: fields["inputs"][0].update(shape=[1, 3, 32, 32]))
    with pytest.raises(BundleError) as raised:
        OnnxRuntimeSession(Bundle.open(tiny_bundle))
    assert "pixel_values float32 [1, 3, 16, 16]" in raised.value.problem
    assert "the manifest says" in raised.value.problem
    assert "pixel_values float32 [1, 3, 32, 32]" in raised.value.problem


def test_a_graph_with_other_outputs_than_the_manifest_is_refused(
    tiny_bundle: Path, edit_manifest: Callable[..., None]
) -> None:
    def lie(fields: dict[str, Any]) -> None:
        for told in (fields["outputs"][0], fields["stages"][-1]):  # which is the same tensor
            told.update(shape=[1, 3, 2])

    edit_manifest(tiny_bundle, lie)
    with pytest.raises(BundleError, match="has the outputs actions float32"):
        OnnxRuntimeSession(Bundle.open(tiny_bundle))


def test_a_closed_session_refuses_to_run(pristine_bundle: Path) -> None:
    session = OnnxRuntimeSession(Bundle.open(pristine_bundle))
    session.close()
    session.close()
    with pytest.raises(EngineError, match="session is closed"):
        session.run()


def test_loading_and_running_write_nothing(tiny_bundle: Path, tmp_path: Path) -> None:
    home = tmp_path / "home"
    home.mkdir()
    script = (
        "import sys\nfrom vla_edge.runtime import Policy\n"
        "with Policy.load(sys.argv[1]) as policy: policy.warmup()"
    )
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("ORT_", "XDG_"))}
    before = {path: path.stat().st_mtime_ns for path in tiny_bundle.rglob("*")}
    subprocess.run(
        [sys.executable, "-c", script, str(tiny_bundle)],
        env={**environment, "HOME": str(home)},
        cwd=home,
        check=True,
    )
    assert list(home.rglob("*")) == []
    assert {path: path.stat().st_mtime_ns for path in tiny_bundle.rglob("*")} == before


def test_a_session_times_its_nodes_only_where_that_was_asked_for(make_bundle: Make, tmp_path: Path) -> None:
    bundle = Bundle.open(make_bundle())
    plain = OnnxRuntimeSession(bundle)
    with pytest.raises(EngineError, match="keeps no times"):
        plain.end_profiling()
    timed = OnnxRuntimeSession(bundle, OnnxRuntimeOptions(profile_prefix=tmp_path / "step"))
    timed.run()
    written = timed.end_profiling()
    assert written.parent == tmp_path
    assert {event["cat"] for event in json.loads(written.read_bytes())} >= {"Session", "Node"}
    with pytest.raises(EngineError, match="keeps no times"):
        timed.end_profiling()
    timed.close()
    with pytest.raises(EngineError, match="session is closed"):
        timed.end_profiling()


def test_threads_are_any_whole_number_up_to_four_for_a_core() -> None:
    assert OnnxRuntimeOptions(threads=np.int64(2)).threads == 2
    assert OnnxRuntimeOptions(threads=most_threads()).threads == most_threads()
    assert most_threads() <= MAX_THREADS
    with pytest.raises(InputError, match=f"Give a whole number from 1 to {most_threads()}"):
        OnnxRuntimeOptions(threads=most_threads() + 1)


def test_a_node_that_fails_commands_no_terminal(
    tiny_bundle: Path, relist: Callable[[Path], None], frame: np.ndarray, capfd: pytest.CaptureFixture[str]
) -> None:
    """ONNX Runtime's own log writes names as they are, past Python's streams."""
    graph = tiny_bundle / "model.onnx"
    model = onnx.load(str(graph), load_external_data=False)
    for node in model.graph.node:
        if node.op_type == "Reshape":  # into a shape that only a run knows, and that does not fit
            node.name = "re\x1b[31m\x9b2J\u202e"
            node.input[1] = "shape"
    wrong = onnx.numpy_helper.from_array(np.array([-1, 3, 2], np.int64), "wrong_shape")
    model.graph.initializer.append(wrong)
    make = onnx.helper.make_node
    for node in (
        make("Add", ["zeros", "wrong_shape"], ["shape"]),
        make("Mul", ["long", "axis_0"], ["zeros"]),
        make("Cast", ["count"], ["long"], to=onnx.TensorProto.INT64),
        make("ReduceSum", ["attention_mask"], ["count"], keepdims=0),
    ):
        model.graph.node.insert(0, node)
    graph.write_bytes(model.SerializeToString())
    relist(tiny_bundle)
    with Policy.load(tiny_bundle) as policy, pytest.raises(EngineError) as raised:
        policy.act(frame)
    assert "re\\x1b[31m\\x9b2J\\u202e" in raised.value.problem
    printed = capfd.readouterr()
    assert printed.out + printed.err == ""
