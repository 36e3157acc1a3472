"""From the bytes of a plan to an engine whose tensors are the ones that were recorded."""

from __future__ import annotations

from collections.abc import Iterable
from threading import Lock
from typing import Any, Literal

from vla_edge.runtime.bundle.manifest import TensorSpec
from vla_edge.runtime.errors import EngineError

from .library import Library

_DTYPES: dict[str, Literal["float32", "float16", "int32", "uint8"]] = {
    "FLOAT": "float32",
    "HALF": "float16",
    "INT32": "int32",
    "UINT8": "uint8",
}


class Engine:
    """A deserialised engine. Several sessions may make contexts of it.

    Attributes:
        library: the TensorRT that runs it.
        engine: `trt.ICudaEngine`.
        recorder: collects what TensorRT reports about runtime and engine.
        lock: held while a context is made or the engine is asked, as sessions may be in different threads.
    """

    def __init__(self, library: Library, image: Any, origin: str, hint: str) -> None:
        """Deserialise; `image` may be closed afterwards.

        Args:
            library: the TensorRT that runs the plan.
            image: the plan, as anything with the buffer protocol.
            origin: where it came from, for messages.
            hint: what to do where TensorRT refuses it.

        Raises:
            EngineError: TensorRT refuses the plan, or has no memory for it.
        """
        self.library = library
        self.lock = Lock()
        self.recorder = library.error_recorder()
        self.runtime: Any = library.trt.Runtime(library.logger)
        self.runtime.error_recorder = self.recorder
        self.engine: Any = self.runtime.deserialize_cuda_engine(image)
        if self.engine is None:
            raise EngineError(f"TensorRT {library.version} refuses {origin}: {self.reported()}.", hint)

    def describe_layers(self) -> str:
        """TensorRT's inspector as JSON: a list of layers, with formats where the plan was built with detail."""
        with self.lock:
            inspector = self.engine.create_engine_inspector()
            return str(inspector.get_engine_information(self.library.trt.LayerInformationFormat.JSON))

    def device_memory(self) -> dict[str, int]:
        """Bytes of device memory by use, as far as this TensorRT tells: "weights", "activations" of a context."""
        sizes = {}
        for use, attribute in (
            ("activations", "device_memory_size_v2"),
            ("activations", "device_memory_size"),
        ):
            if use not in sizes and hasattr(self.engine, attribute):
                sizes[use] = int(getattr(self.engine, attribute))
        if hasattr(self.engine, "get_engine_stat"):
            sizes["weights"] = int(self.engine.get_engine_stat())
        return sizes

    def close(self) -> None:
        """Drop engine and runtime in this order: the one needs the other while it dies. Contexts are gone before."""
        self.engine = None
        self.runtime = None

    def reported(self) -> str:
        """What TensorRT reported since this was last asked: an old error must not explain a new failure."""
        return told_by(self.recorder) or "it gave no reason"


def told_by(recorder: Any) -> str:
    """What an error recorder was told since this was last asked of it; empty where that is nothing."""
    text = str(recorder.text())
    recorder.clear()
    return text


def check_tensors(
    engine: Any,
    inputs: Iterable[TensorSpec],
    outputs: Iterable[TensorSpec],
    *,
    who: str = "The engine",
    said_by: str = "the manifest",
) -> None:
    """Compare the engine's tensors with the inputs and outputs that were recorded: names, dtypes, shapes, place.

    Args:
        engine: `trt.ICudaEngine`.
        inputs, outputs: what they must be.
        who, said_by: the engine, and what recorded its tensors, for the message.

    Raises:
        EngineError: with every difference.
    """
    found = {
        name: _describe(engine, name) for name in map(engine.get_tensor_name, range(engine.num_io_tensors))
    }
    expected = _expected("input", inputs) | _expected("output", outputs)
    problems = [f"{name} is missing" for name in sorted(expected.keys() - found.keys())]
    problems += [f"{name} is not in {said_by}" for name in sorted(found.keys() - expected.keys())]
    problems += [
        f"{name} is {found[name]}, {said_by} says {expected[name]}"
        for name in sorted(expected.keys() & found.keys())
        if found[name] != expected[name]
    ]
    if problems:
        raise EngineError(
            f"{who} does not fit the bundle: {'; '.join(problems)}.",
            "Build the plan again with vla-build.",
        )


def tensor_specs(engine: Any, mode: Literal["input", "output"]) -> tuple[TensorSpec, ...]:
    """The engine's inputs or outputs.

    Raises:
        EngineError: one of them has a dtype that a bundle cannot hold.
    """
    names = (engine.get_tensor_name(at) for at in range(engine.num_io_tensors))
    return tuple(_spec(engine, name) for name in names if engine.get_tensor_mode(name).name.lower() == mode)


def _spec(engine: Any, name: str) -> TensorSpec:
    dtype = engine.get_tensor_dtype(name).name
    if dtype not in _DTYPES:
        raise EngineError(f"The engine's tensor {name} is {dtype}.", f"Use {', '.join(_DTYPES.values())}.")
    return TensorSpec(name=name, dtype=_DTYPES[dtype], shape=tuple(engine.get_tensor_shape(name)))


def _expected(mode: str, specs: Iterable[TensorSpec]) -> dict[str, str]:
    return {spec.name: f"{mode} {spec.dtype}{list(spec.shape)} on device" for spec in specs}


def _describe(engine: Any, name: str) -> str:
    dtype = engine.get_tensor_dtype(name).name
    return (
        f"{engine.get_tensor_mode(name).name.lower()} {_DTYPES.get(dtype, dtype)}"
        f"{list(engine.get_tensor_shape(name))} on {engine.get_tensor_location(name).name.lower()}"
    )
