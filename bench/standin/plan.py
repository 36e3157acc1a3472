"""The stand-in as an ONNX graph, in ONNX Runtime and as a TensorRT plan built on the spot.

The graph does PyTorch's arithmetic: the zero state is an input and not a constant, so that the recurrent
matrices are read and multiplied at every call, as `nn.RNN` has cuDNN do. With a constant an engine would
drop them, 256 MiB of 1675 MiB, and be faster for doing less.

Neither engine's own session runs it: those take a bundle, with a camera, a prompt and instructions, of which the
stand-in has none.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from vla_edge.runtime.engines.session import EngineIdentity, HostWork, nothing
from vla_edge.runtime.errors import EngineError
from vla_edge.runtime.files.atomic import write_atomically
from vla_edge.runtime.files.staging import scratch_folder
from vla_edge.runtime.version import VERSION

from .model import ACTIONS, Precision, Standin, weight

if TYPE_CHECKING:
    from vla_edge.export.build.target import Target
    from vla_edge.export.graph.writer import GraphWriter, Value

_DTYPES: Mapping[Precision, str] = {"fp32": "float32", "fp16": "float16"}


def write_graph(standin: Standin, precision: Precision, folder: Path) -> Path:
    """Write `model.onnx` and its data file.

    Inputs: `pixels` float32 [1, 1, pixels] and `state` float32 [layers, 1, hidden]; output `actions` float32
    [1, 1, 2]. Weights and arithmetic are of `precision`; the casts are in the graph.

    Args:
        standin, precision: what to write.
        folder: an empty one, with room for the weights.

    Returns:
        The path of `model.onnx`.
    """
    import onnx

    from vla_edge.export.graph.weights import write_weights
    from vla_edge.export.graph.writer import GraphWriter

    graph = GraphWriter()
    _write_forward(graph, standin, _DTYPES[precision])
    model = graph.model(VERSION, "standin")
    write_weights(model, graph.weights, folder / "model.onnx.data", lambda size_bytes: None)
    path = folder / "model.onnx"
    onnx.save_model(model, path)
    return path


def _write_forward(graph: GraphWriter, standin: Standin, dtype: str) -> None:
    def parameter(name: str) -> Value:
        return graph.weight(
            name, dtype, standin.shapes[name], lambda: weight(standin, name).astype(dtype, copy=False)
        )

    def linear(name: str, x: Value) -> Value:
        matrix, bias = parameter(name.format("weight")), parameter(name.format("bias"))
        return graph.node("Gemm", [x, matrix, bias], dtype, (1, matrix.shape[0]), transB=1)

    pixels, state = (graph.input(spec.name, spec.dtype, spec.shape) for spec in standin.inputs)
    state = graph.cast(state, dtype)
    x = linear("embed.{}", graph.cast(graph.reshape(pixels, (1, standin.pixels)), dtype))
    for layer in range(standin.layers):
        new = linear(f"rnn.{{}}_ih_l{layer}", x)
        old = linear(f"rnn.{{}}_hh_l{layer}", graph.pick(state, 0, layer))
        x = graph.unary("Tanh", graph.add(new, old))
    for at in range(len(standin.head) - 1):
        x = linear(f"head.{2 * at}.{{}}", graph.unary("Relu", x) if at else x)
    graph.output(ACTIONS, graph.reshape(graph.cast(x, "float32"), (1, 1, 2)))


@dataclass
class StandinSession:
    """An engine with the stand-in in it; see `Session`."""

    identity: EngineIdentity
    inputs: Mapping[str, np.ndarray]
    outputs: Mapping[str, np.ndarray]
    run: Callable[..., None]
    close: Callable[[], None]


def open_onnxruntime(standin: Standin, precision: Precision, threads: int) -> StandinSession:
    """The graph in ONNX Runtime on the CPU, through a temporary folder.

    Raises:
        EngineError: ONNX Runtime is missing.
    """
    from vla_edge.runtime.engines.onnxruntime import import_onnxruntime

    ort = import_onnxruntime()
    options = ort.SessionOptions()
    options.intra_op_num_threads, options.inter_op_num_threads = threads, 1
    provider = "CPUExecutionProvider"
    with scratch_folder("standin") as folder:
        model = write_graph(standin, precision, folder)
        opened = [ort.InferenceSession(str(model), options, providers=[provider])]
    inputs, outputs = (
        {spec.name: np.zeros(spec.shape, spec.dtype) for spec in specs}
        for specs in (standin.inputs, standin.outputs)
    )

    def run(host_work: HostWork = nothing) -> None:
        if not opened:
            raise EngineError("The session is closed.", "Load the stand-in again.")
        host_work()
        np.copyto(outputs[ACTIONS], opened[0].run([ACTIONS], inputs)[0])

    device = f"cpu ({threads} threads)"
    identity = EngineIdentity(
        "onnxruntime", ort.__version__, device, provider, precision, "fp32", standin.identity
    )
    return StandinSession(identity, inputs, outputs, run, opened.clear)


def open_tensorrt(
    standin: Standin, precision: Precision, scratch: Path
) -> tuple[StandinSession, Callable[[], float], float | None]:
    """A plan for the GPU of this machine, run from memory; for `scratch` see `find_or_build`.

    Returns:
        The session, what runs its engine alone for the GPU milliseconds, and `find_or_build`'s seconds.

    Raises:
        EngineError: no TensorRT, driver or GPU, or TensorRT refuses.
    """
    from vla_edge.export.build.stages import runner_of
    from vla_edge.export.build.target import open_target

    with ExitStack() as owned:
        target = owned.enter_context(open_target("tensorrt", 0, "cuda-bindings", None))
        plan, build_s = find_or_build(standin, precision, target, scratch)
        runner = owned.enter_context(runner_of(plan, target))
        identity = EngineIdentity(
            backend=target.library.backend,
            version=target.library.version,
            device=str(target.device.info) if target.device else "",
            provider=f"plan built in this {'run' if build_s is None else 'process'}, {runner.mode}",
            precision=precision,
            compute=precision,
            bundle=standin.identity,
        )
        session = StandinSession(identity, runner.inputs, runner.outputs, runner.run, owned.pop_all().close)
        return session, runner.run_engine_ms, build_s


def find_or_build(
    standin: Standin, precision: Precision, target: Target, scratch: Path
) -> tuple[Any, float | None]:
    """The stand-in's plan: as an earlier process of the same run left it, else built, and left for later ones.

    Strongly typed, TF32 off, as for the policies.

    Args:
        standin, precision, target: what to build, with what, and for which GPU.
        scratch: a private folder of this run, whose plans nobody else wrote.

    Returns:
        The plan, which has the buffer protocol, and the seconds that the build took; None where there was none.

    Raises:
        EngineError: TensorRT refuses the graph.
    """
    from vla_edge.export.build.network import build_engine
    from vla_edge.export.build.options import BuildOptions
    from vla_edge.export.build.progress import Silent
    from vla_edge.export.build.timing_cache import TimingCache

    saved = scratch / f"standin-{precision}.plan"
    if saved.is_file():
        return saved.read_bytes(), None
    options = BuildOptions(backend=target.library.backend, timing_cache=False)
    with scratch_folder("standin") as folder:
        model = write_graph(standin, precision, folder)
        start = time.perf_counter()
        plan = build_engine(model, target, options, TimingCache(None, ""), Silent()).plan
        build_s = time.perf_counter() - start
    write_atomically(saved, lambda file: file.write(memoryview(plan)))
    return plan, build_s
