"""Execution contexts of one engine as a session wants them: configured, with or without memory of their own."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

from vla_edge.runtime.engines.tensorrt.engine import Engine
from vla_edge.runtime.errors import EngineError
from vla_edge.runtime.files.cache_file import CacheFile

_log = logging.getLogger("vla_edge.tensorrt")


class EngineContexts:
    """Makes contexts of an engine that other sessions may use as well.

    Attributes:
        engine: the engine, which outlives the contexts.
        recorder: the session's own, of its contexts: what they report is not told to another session.
    """

    def __init__(self, engine: Engine, recorder: Any, cache: Path | None = None) -> None:
        """Nothing is made yet.

        Args:
            engine: loaded.
            recorder: `trt.IErrorRecorder` of the session.
            cache: where TensorRT-RTX keeps the kernels that it compiles.
        """
        self.engine = engine
        self.recorder = recorder
        self._config: Any = None
        self._configured = False
        self._cache = RuntimeCache(cache, f"{engine.library.backend} {engine.library.version}")

    @property
    def scratch_bytes(self) -> int | None:
        """Device memory for the activations of one context, where TensorRT lets the caller give it; else None."""
        trt = self.engine.library.trt
        asked = (
            hasattr(getattr(trt, "ExecutionContextAllocationStrategy", None), "USER_MANAGED"),
            hasattr(getattr(trt, "IExecutionContext", None), "set_device_memory"),
            hasattr(self.engine.engine, "device_memory_size_v2"),
            self.config is None or hasattr(self.config, "set_execution_context_allocation_strategy"),
        )
        return int(self.engine.engine.device_memory_size_v2) if all(asked) else None

    @property
    def config(self) -> Any:
        """TensorRT-RTX's runtime configuration, made once; None for a TensorRT that has nothing to set in it."""
        if not self._configured:
            with self.engine.lock:
                self._config = self._runtime_config()
            self._configured = True
        return self._config

    def create(self, *, owns_memory: bool = True) -> Any:
        """A new `trt.IExecutionContext`, the caller's.

        Args:
            owns_memory: with memory for its activations; else `set_device_memory` must come before it runs. Only
                where `scratch_bytes` is known.

        Raises:
            EngineError: mostly for lack of device memory.
        """
        arguments = self._arguments(owns_memory)
        with self.engine.lock:  # two sessions may ask one engine
            created = self.engine.engine.create_execution_context(*arguments)
            if created is None:
                raise EngineError(
                    f"TensorRT made no execution context: {self.engine.reported()}.",
                    "Free device memory: the context needs room for the activations.",
                )
        if hasattr(created, "error_recorder"):
            created.error_recorder = self.recorder
        return created

    def save_cache(self) -> None:
        """Keep the kernels that TensorRT-RTX compiled for this GPU beside the plan."""
        self._cache.save()

    def close(self) -> None:
        """Forget cache and configuration; the contexts must be gone."""
        self._cache.close()
        self._config = None

    def _arguments(self, owns_memory: bool) -> tuple[Any, ...]:
        strategies = getattr(self.engine.library.trt, "ExecutionContextAllocationStrategy", None)
        if self.config is None:
            return () if owns_memory else (strategies.USER_MANAGED,)  # type: ignore[union-attr]
        choose = getattr(self.config, "set_execution_context_allocation_strategy", None)
        if choose is not None:
            choose(strategies.STATIC if owns_memory else strategies.USER_MANAGED)  # type: ignore[union-attr]
        return (self.config,)

    def _runtime_config(self) -> Any:
        """TensorRT-RTX compiles kernels when the context is made: all at once, and kept for the next start.

        None for a TensorRT whose runtime configuration has nothing to set.
        """
        create = getattr(self.engine.engine, "create_runtime_config", None)
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
