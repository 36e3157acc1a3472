"""The stand-in as an ONNX graph, in ONNX Runtime and as a TensorRT plan built on the spot.

The graph does PyTorch's arithmetic: the zero state is an input and not a constant, so that the recurrent
matrices are read and multiplied at every call, as `nn.RNN` has cuDNN do. With a constant an engine would
drop them, 256 MiB of 1675 MiB, and be faster for doing less.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from vla_edge.runtime.bundle.manifest import TensorSpec
from vla_edge.runtime.engines.session import EngineIdentity, HostWork, nothing
from vla_edge.runtime.errors import EngineError
from vla_edge.runtime.files.atomic import write_atomically
from vla_edge.runtime.files.staging import scratch_folder
from vla_edge.runtime.version import VERSION

from .model import ACTIONS, PIXELS, STATE, Precision, Standin, weight

if TYPE_CHECKING:
    from vla_edge.export.build.target import Target
    from vla_edge.export.graph.writer import GraphWriter, Value
    from vla_edge.runtime.engines.tensorrt.runner import EngineRunner

_DTYPES: Mapping[Precision, str] = {"fp32": "float32", "fp16": "float16"}


def write_graph(standin: Standin, precision: Precision, folder: Path) -> Path:
    """Write `model.onnx` and its data file.

    Inputs: `pixels` float32 [1, 1, pixels] and `state` float32 [layers, 1, hidden]; output `actions` float32
    [1, 1, 2]. Weights and arithmetic are of `precision`; the casts are in the graph.

    Args:
        standin: which size.
        precision: "fp32" or "fp16".
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

    def linear(x: Value, matrix: str, bias: str) -> Value:
        rows = standin.shapes[matrix][0]
        return graph.node("Gemm", [x, parameter(matrix), parameter(bias)], dtype, (1, rows), transB=1)

    pixels = graph.input(PIXELS, "float32", (1, 1, standin.pixels))
    state = graph.cast(graph.input(STATE, "float32", state_spec(standin).shape), dtype)
    x = graph.cast(graph.reshape(pixels, (1, standin.pixels)), dtype)
    x = linear(x, "embed.weight", "embed.bias")
    for layer in range(standin.layers):
        new = linear(x, f"rnn.weight_ih_l{layer}", f"rnn.bias_ih_l{layer}")
        old = linear(graph.pick(state, 0, layer), f"rnn.weight_hh_l{layer}", f"rnn.bias_hh_l{layer}")
        x = graph.unary("Tanh", graph.add(new, old))
    last = len(standin.head) - 2
    for at in range(last + 1):
        x = linear(x, f"head.{2 * at}.weight", f"head.{2 * at}.bias")
        x = x if at == last else graph.unary("Relu", x)
    graph.output(ACTIONS, graph.reshape(graph.cast(x, "float32"), (1, 1, 2)))


def state_spec(standin: Standin) -> TensorSpec:
    """The graph's second input."""
    return TensorSpec(name=STATE, dtype="float32", shape=(standin.layers, 1, standin.hidden))


class OnnxRuntimeStandin:
    """The graph in ONNX Runtime on the CPU; see `Session`."""

    def __init__(self, standin: Standin, precision: Precision, threads: int) -> None:
        """Write the graph to a temporary folder and load it.

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
            self._session: Any = ort.InferenceSession(str(model), options, providers=[provider])
        specs = (*standin.inputs, state_spec(standin))
        self.inputs: Mapping[str, np.ndarray] = {
            spec.name: np.zeros(spec.shape, spec.dtype) for spec in specs
        }
        self.outputs: Mapping[str, np.ndarray] = {ACTIONS: np.zeros((1, 1, 2), np.float32)}
        self.identity = EngineIdentity(
            backend="onnxruntime",
            version=ort.__version__,
            device=f"cpu ({threads} threads)",
            provider=provider,
            precision=precision,
            compute="fp32",
            bundle=standin.identity,
        )

    def run(self, host_work: HostWork = nothing) -> None:
        """See `Session.run`.

        Raises:
            EngineError: the session is closed.
        """
        if self._session is None:
            raise _closed()
        host_work()
        np.copyto(self.outputs[ACTIONS], self._session.run([ACTIONS], dict(self.inputs))[0])

    def close(self) -> None:
        """See `Session.close`."""
        self._session = None


class TensorRtStandin:
    """A plan of the stand-in, built for the GPU of this machine and run from memory; see `Session`.

    Attributes:
        build_s: seconds that TensorRT took to build; None where an earlier process of the run had built it.
    """

    def __init__(self, standin: Standin, precision: Precision, scratch: Path | None = None) -> None:
        """Write the graph to a temporary folder, build, and load what was built.

        Args:
            standin: which size.
            precision: "fp32" or "fp16".
            scratch: see `find_or_build`.

        Raises:
            EngineError: no TensorRT, driver or GPU, or TensorRT refuses.
        """
        from vla_edge.export.build.target import open_target

        self._owned = ExitStack()  # frees in the opposite order: runner, engine, device
        self._runner: EngineRunner | None = None
        try:
            target = self._owned.enter_context(open_target("tensorrt", 0, "cuda-bindings", None))
            plan, self.build_s = find_or_build(standin, precision, target, scratch)
            self._load(plan, target, standin, precision)
        except BaseException:
            self.close()
            raise

    @property
    def inputs(self) -> Mapping[str, np.ndarray]:
        return self._runner.inputs if self._runner else {}

    @property
    def outputs(self) -> Mapping[str, np.ndarray]:
        return self._runner.outputs if self._runner else {}

    def run(self, host_work: HostWork = nothing) -> None:
        """See `Session.run`."""
        self._open_runner().run(host_work)

    def run_engine_ms(self) -> float:
        """GPU milliseconds of the engine alone, without copies."""
        return self._open_runner().run_engine_ms()

    def close(self) -> None:
        """See `Session.close`."""
        self._runner = None
        self._owned.close()

    def _open_runner(self) -> EngineRunner:
        if self._runner is None:
            raise _closed()
        return self._runner

    def _load(self, plan: Any, target: Target, standin: Standin, precision: Precision) -> None:
        from vla_edge.runtime.engines.tensorrt.engine import Engine, tensor_specs
        from vla_edge.runtime.engines.tensorrt.runner import EngineRunner

        library, device = target.library, target.device
        if device is None:
            raise EngineError(f"The stand-in's plan cannot run here: {target.absent}", "Run this on a GPU.")
        with memoryview(plan).cast("B") as image:
            engine = Engine(library, image, "the plan of the stand-in", "Free device memory.")
        self._owned.callback(engine.close)
        engine.create_context()
        runner = EngineRunner(
            device,
            engine.context,
            tensor_specs(engine.engine, "input"),
            tensor_specs(engine.engine, "output"),
            reported=engine.reported,
        )
        self._owned.callback(runner.close)
        self._runner = runner
        self.identity = EngineIdentity(
            backend=library.backend,
            version=library.version,
            device=str(device.info),
            provider=f"plan built in this {'run' if self.build_s is None else 'process'}, {runner.mode}",
            precision=precision,
            compute=precision,
            bundle=standin.identity,
        )


def find_or_build(
    standin: Standin, precision: Precision, target: Target, scratch: Path | None
) -> tuple[Any, float | None]:
    """The stand-in's plan: as an earlier process of the same run left it, else built, and left for later ones.

    Args:
        standin: which size.
        precision: "fp32" or "fp16".
        target: what to build with and for.
        scratch: a private folder of this run, whose plans nobody else wrote; None to keep nothing.

    Returns:
        The plan, and the seconds that the build took; None where there was none.

    Raises:
        EngineError: as `build_standin`.
    """
    saved = scratch / f"standin-{standin.scale}-{precision}.plan" if scratch else None
    if saved and saved.is_file():
        return saved.read_bytes(), None
    plan, build_s = build_standin(standin, precision, target)
    if saved:
        write_atomically(saved, lambda file: file.write(memoryview(plan)))
    return plan, build_s


def build_standin(standin: Standin, precision: Precision, target: Target) -> tuple[Any, float]:
    """Build the stand-in's plan; strongly typed, TF32 off, as for the policies.

    Args:
        standin: which size.
        precision: "fp32" or "fp16".
        target: what to build with and for.

    Returns:
        The plan, which has the buffer protocol, and the seconds that the build took.

    Raises:
        EngineError: TensorRT refuses the graph.
    """
    from vla_edge.export.build.network import build_engine
    from vla_edge.export.build.options import BuildOptions
    from vla_edge.export.build.progress import Silent
    from vla_edge.export.build.timing_cache import TimingCache

    options = BuildOptions(backend=target.library.backend, timing_cache=False)
    with scratch_folder("standin") as folder:
        model = write_graph(standin, precision, folder)
        start = time.perf_counter()
        built = build_engine(model, target, options, TimingCache(None, ""), Silent())
        return built.plan, time.perf_counter() - start


def engine_times(session: TensorRtStandin) -> Callable[[int], list[float]]:
    """As `Loaded.device_ms`: the engine run anew that many times."""
    return lambda steps: [session.run_engine_ms() for _ in range(steps)]


def _closed() -> EngineError:
    return EngineError("The session is closed.", "Load the stand-in again.")
