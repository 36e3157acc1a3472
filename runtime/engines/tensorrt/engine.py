"""From the bytes of a plan to an execution context whose tensors are the manifest's."""

from __future__ import annotations

import logging
from collections.abc import Iterable
from pathlib import Path
from typing import Any, Literal

from vla_edge.runtime.bundle.manifest import TensorSpec
from vla_edge.runtime.errors import EngineError
from vla_edge.runtime.files.cache_file import CacheFile

from .library import Library

_log = logging.getLogger("vla_edge.tensorrt")

_DTYPES: dict[str, Literal["float32", "float16", "int32"]] = {
    "FLOAT": "float32",
    "HALF": "float16",
    "INT32": "int32",
}


class Engine:
    """A deserialised engine and its execution context.

    Attributes:
        engine: `trt.ICudaEngine`.
        context: `trt.IExecutionContext`; it owns its activation memory (the engine has one profile).
        recorder: collects what TensorRT reports about the three.
    """

    def __init__(
        self, library: Library, image: Any, origin: str, hint: str, cache: Path | None = None
    ) -> None:
        """Deserialise; `image` may be closed afterwards.

        Args:
            library: the TensorRT that runs the plan.
            image: the plan, as anything with the buffer protocol.
            origin: where it came from, for messages.
            hint: what to do where TensorRT refuses it.
            cache: where TensorRT-RTX keeps the kernels that it compiles.

        Raises:
            EngineError: TensorRT refuses the plan, or has no memory for it.
        """
        self._trt = library.trt
        self.recorder = library.error_recorder()
        self.runtime: Any = library.trt.Runtime(library.logger)
        self.runtime.error_recorder = self.recorder
        self.engine: Any = self.runtime.deserialize_cuda_engine(image)
        self.context: Any = None
        self._config: Any = None
        self._cache = RuntimeCache(cache, f"{library.backend} {library.version}")
        if self.engine is None:
            raise EngineError(f"TensorRT {library.version} refuses {origin}: {self.reported()}.", hint)

    def create_context(self) -> None:
        """Make the execution context, with a runtime configuration where TensorRT-RTX offers one.

        Raises:
            EngineError: mostly for lack of device memory.
        """
        self._config = self._runtime_config()
        self.context = self.another_context()

    def another_context(self) -> Any:
        """A context beside `context`, configured alike, with activation memory of its own; the caller's.

        Raises:
            EngineError: mostly for lack of device memory.
        """
        created = (
            self.engine.create_execution_context()
            if self._config is None
            else self.engine.create_execution_context(self._config)
        )
        if created is None:
            raise EngineError(
                f"TensorRT made no execution context: {self.reported()}.",
                "Free device memory: the context needs room for the activations.",
            )
        return created

    def describe_layers(self) -> str:
        """TensorRT's inspector as JSON: a list of layers, with formats where the plan was built with detail."""
        inspector = self.engine.create_engine_inspector()
        return str(inspector.get_engine_information(self._trt.LayerInformationFormat.JSON))

    def device_memory(self) -> dict[str, int]:
        """Bytes of device memory by use, as far as this TensorRT tells: "weights", "activations"."""
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

    def save_cache(self) -> None:
        """Keep the kernels that TensorRT-RTX compiled for this GPU beside the plan."""
        self._cache.save()

    def close(self) -> None:
        """Drop context, engine and runtime in this order: each needs the next one while it dies."""
        self._cache.close()
        self.context = None
        self._config = None
        self.engine = None
        self.runtime = None

    def reported(self) -> str:
        """What TensorRT reported since this was last asked: an old error must not explain a new failure."""
        text = str(self.recorder.text())
        self.recorder.clear()
        return text or "it gave no reason"

    def _runtime_config(self) -> Any:
        """TensorRT-RTX compiles kernels when the context is made: all at once, and kept for the next start.

        None for a TensorRT whose runtime configuration has nothing to set.
        """
        create = getattr(self.engine, "create_runtime_config", None)
        config = create() if create is not None else None
        if config is None or not hasattr(config, "create_runtime_cache"):
            return None
        self._cache.attach(config)
        if hasattr(config, "dynamic_shapes_kernel_specialization_strategy"):
            strategies = type(config.dynamic_shapes_kernel_specialization_strategy)
            config.dynamic_shapes_kernel_specialization_strategy = strategies.EAGER
        # cuda_graph_strategy stays off: the session captures one graph with the copies in it.
        return config


class RuntimeCache:
    """TensorRT-RTX's compiled kernels in a file beside the plan.

    The file is only a shortcut: TensorRT-RTX checks it against the GPU and driver, and a cache that it
    refuses, that was changed, or that cannot be written, costs compile time and nothing else.
    """

    def __init__(self, path: Path | None, made_by: str) -> None:
        self.path = path
        self._file = CacheFile(path, "runtime cache", made_by)
        self._cache: Any = None
        self._loaded = b""

    def attach(self, config: Any) -> None:
        self._cache = config.create_runtime_cache()
        data = self._file.read()
        if data and self._cache.deserialize(data):
            self._loaded = data
        elif data:
            _log.info("%s is not of this GPU, driver and version; it will be written anew", self.path)
        config.set_runtime_cache(self._cache)

    def save(self) -> None:
        if self._cache is None or self.path is None:
            return
        data = bytes(self._cache.serialize())
        if data != self._loaded:
            self._file.write(data)

    def close(self) -> None:
        self._cache = None


def check_tensors(engine: Any, inputs: Iterable[TensorSpec], outputs: Iterable[TensorSpec]) -> None:
    """Compare the engine's tensors with the manifest's inputs and outputs: names, dtypes, shapes, place.

    Raises:
        EngineError: with every difference.
    """
    found = {
        name: _describe(engine, name) for name in map(engine.get_tensor_name, range(engine.num_io_tensors))
    }
    expected = _expected("input", inputs) | _expected("output", outputs)
    problems = [f"{name} is missing" for name in sorted(expected.keys() - found.keys())]
    problems += [f"{name} is not in the manifest" for name in sorted(found.keys() - expected.keys())]
    problems += [
        f"{name} is {found[name]}, the manifest says {expected[name]}"
        for name in sorted(expected.keys() & found.keys())
        if found[name] != expected[name]
    ]
    if problems:
        raise EngineError(
            f"The engine does not fit the bundle: {'; '.join(problems)}.",
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
