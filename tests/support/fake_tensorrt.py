"""A GPU and a TensorRT made of host memory, for the order of calls and the errors of a session.

What the real ones do is tested on a GPU (marker `gpu`); here it is our own logic that is under test.
The fake engine doubles: `actions` is the sum of the inputs, and every call is written to `Log`.
"""

from __future__ import annotations

import ctypes
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import numpy as np

from vla_edge.runtime.bundle.manifest import Manifest, TensorSpec
from vla_edge.runtime.cuda.device import DeviceInfo
from vla_edge.runtime.engines.tensorrt.library import Library
from vla_edge.runtime.engines.tensorrt.session import TensorRtSession
from vla_edge.runtime.errors import EngineError

Log = list[str]


class FakeDevice:
    """`CudaDevice` in host memory. Handles are counted; `live` holds those not freed."""

    def __init__(self, log: Log, sm: int = 87) -> None:
        self.info = DeviceInfo(0, "Fake GPU", sm, 1024, True, "CUDA 12.6")
        self.log = log
        self.live: dict[int, Any] = {}
        self.capturing: list[Callable[[], None]] | None = None
        self.capture_error: EngineError | None = None
        self.activations = 0
        self._next = 1

    def _make(self, kind: str, value: Any = None) -> int:
        handle, self._next = self._next, self._next + 1
        self.live[handle] = value
        self.log.append(f"create {kind}")
        return handle

    def _drop(self, kind: str, handle: int) -> None:
        del self.live[handle]
        self.log.append(f"destroy {kind}")

    def queue(self, work: Callable[[], None], name: str, stream: int = 0) -> None:
        self.log.append(name if self.capturing is None else f"capture {name}")
        if self.capturing is None:
            work()
        else:
            self.capturing.append(work)

    def activate(self) -> None:
        self.activations += 1

    def free_bytes(self) -> int:
        return 1 << 29

    def create_stream(self) -> int:
        return self._make("stream")

    def destroy_stream(self, stream: int) -> None:
        self._drop("stream", stream)

    def synchronize(self, stream: int) -> None:
        self.log.append("synchronize")

    def allocate(self, size_bytes: int) -> int:
        block = np.zeros(size_bytes, np.uint8)
        self.live[block.ctypes.data] = block
        return block.ctypes.data

    def free(self, address: int) -> None:
        self._drop("memory", address)

    def pin(self, host: np.ndarray) -> None:
        self.live[host.ctypes.data] = host

    def unpin(self, host: np.ndarray) -> None:
        self._drop("pin", host.ctypes.data)

    def copy_to_device(self, target: int, source: np.ndarray, stream: int) -> None:
        self.queue(
            lambda: ctypes.memmove(target, source.ctypes.data, source.nbytes) and None, "copy in", stream
        )

    def copy_to_host(self, target: np.ndarray, source: int, stream: int) -> None:
        self.queue(
            lambda: ctypes.memmove(target.ctypes.data, source, target.nbytes) and None, "copy out", stream
        )

    def begin_capture(self, stream: int) -> None:
        self.capturing = []

    def end_capture(self, stream: int) -> int:
        works, self.capturing = self.capturing, None
        if self.capture_error is not None:
            raise self.capture_error
        return self._make("graph", works)

    def abandon_capture(self, stream: int) -> None:
        self.capturing = None
        self.log.append("abandon capture")

    def launch_graph(self, graph: int, stream: int) -> None:
        self.log.append("launch graph")
        for work in self.live[graph]:
            work()

    def destroy_graph(self, graph: int) -> None:
        self._drop("graph", graph)

    def create_event(self) -> int:
        return self._make("event")

    def record_event(self, event: int, stream: int) -> None:
        self.log.append("record event")

    def wait_event(self, stream: int, event: int) -> None:
        self.log.append("wait event")

    def elapsed_ms(self, start: int, end: int) -> float:
        return 1.5

    def destroy_event(self, event: int) -> None:
        self._drop("event", event)

    def close(self) -> None:
        self.log.append("close device")


class FakeContext:
    """`trt.IExecutionContext`: adds up the inputs; `fails` makes the next enqueue fail.

    A profiler is told the engine's `layer_ms` at each enqueue. A run overwrites the scratch memory that it was given.
    """

    profiler: Any = None
    error_recorder: Any = None

    def __init__(self, engine: FakeEngine, owns_memory: bool = True) -> None:
        self.engine = engine
        self.owns_memory = owns_memory
        self.scratch: tuple[int, int] | None = None
        self.addresses: dict[str, int] = {}
        self.streams: set[int] = set()
        self.fails = False

    def __del__(self) -> None:
        self.engine.device.log.append("drop context")

    def set_tensor_address(self, name: str, address: int) -> bool:
        self.addresses[name] = address
        return address % 256 == 0 or isinstance(self.engine.device, FakeDevice)

    def set_device_memory(self, address: int, size: int) -> None:
        assert not self.owns_memory
        assert size >= self.engine.device_memory_size_v2
        self.scratch = (address, size)

    def execute_async_v3(self, stream: int) -> bool:
        self.streams.add(stream)
        if self.fails or not (self.owns_memory or self.scratch):
            recorder = self.error_recorder or self.engine.recorder
            recorder.report_error(1, "the fake engine was told to fail")
            return False
        self.engine.device.queue(self._compute, "engine", stream)
        if self.profiler is not None:
            for name, ms in self.engine.layer_ms:
                self.profiler.report_layer_time(name, ms)
        return True

    def _compute(self) -> None:
        if self.scratch is not None:
            ctypes.memset(self.scratch[0], 255, self.engine.device_memory_size_v2)
        total = sum(float(self._array(spec).sum()) for spec in self.engine.inputs)
        for spec in self.engine.outputs:
            self._array(spec)[...] = total

    def _array(self, spec: TensorSpec) -> np.ndarray:
        dtype = np.dtype(spec.dtype)
        size = int(np.prod(spec.shape)) * dtype.itemsize
        buffer = (ctypes.c_uint8 * size).from_address(self.addresses[spec.name])
        return np.frombuffer(buffer, dtype).reshape(spec.shape)


class FakeAllocation:
    """`trt.ExecutionContextAllocationStrategy`."""

    STATIC, USER_MANAGED = "STATIC", "USER_MANAGED"


class FakeRuntimeConfig:
    """`trt.IRuntimeConfig` of TensorRT-RTX."""

    def __init__(self) -> None:
        self.dynamic_shapes_kernel_specialization_strategy = _Strategy("LAZY")
        self.allocation = FakeAllocation.STATIC
        self.cache: FakeRuntimeCache | None = None

    def set_execution_context_allocation_strategy(self, strategy: str) -> None:
        self.allocation = strategy

    def create_runtime_cache(self) -> FakeRuntimeCache:
        return FakeRuntimeCache()

    def set_runtime_cache(self, cache: FakeRuntimeCache) -> bool:
        self.cache = cache
        return True


class FakeRuntimeCache:
    def __init__(self) -> None:
        self.data = b"kernels of this GPU"

    def deserialize(self, data: bytes) -> bool:
        return data == self.data

    def serialize(self) -> bytes:
        return self.data


class _Strategy(str):
    EAGER = "EAGER"


class FakeEngine:
    """`trt.ICudaEngine` with the tensors of a manifest, or of anything else with `inputs` and `outputs`."""

    device_memory_size_v2 = 4096

    def __init__(self, device: FakeDevice, manifest: Manifest | SimpleNamespace, rtx: bool = False) -> None:
        self.device = device
        self.inputs, self.outputs = list(manifest.inputs), list(manifest.outputs)
        self.context: FakeContext | None = None
        self.recorder: Any = None
        self.config = FakeRuntimeConfig()
        self.layer_ms: list[tuple[str, float]] = []
        self.information = '{"Layers": []}'
        if rtx:
            self.create_runtime_config = lambda: self.config

    def __del__(self) -> None:
        self.device.log.append("drop engine")

    @property
    def _specs(self) -> dict[str, tuple[str, TensorSpec]]:
        named = [("INPUT", spec) for spec in self.inputs] + [("OUTPUT", spec) for spec in self.outputs]
        return {spec.name: (mode, spec) for mode, spec in named}

    @property
    def num_io_tensors(self) -> int:
        return len(self._specs)

    def get_tensor_name(self, at: int) -> str:
        return list(self._specs)[at]

    def get_tensor_mode(self, name: str) -> Any:
        return SimpleNamespace(name=self._specs[name][0])

    def get_tensor_dtype(self, name: str) -> Any:
        names = {"float32": "FLOAT", "float16": "HALF", "int32": "INT32", "uint8": "UINT8"}
        return SimpleNamespace(name=names[self._specs[name][1].dtype])

    def get_tensor_shape(self, name: str) -> tuple[int, ...]:
        return self._specs[name][1].shape

    def get_tensor_location(self, name: str) -> Any:
        return SimpleNamespace(name="DEVICE")

    def create_execution_context(
        self, config: FakeRuntimeConfig | str = FakeAllocation.STATIC
    ) -> FakeContext | None:
        if self.no_context:
            self.recorder.report_error(2, "out of memory")
            return None
        strategy = config if isinstance(config, str) else config.allocation
        context = FakeContext(self, owns_memory=strategy == FakeAllocation.STATIC)
        self.device.log.append("create context")
        # The engine keeps no strong reference: the session decides when the context dies.
        self.context_id = id(context)
        self.last_context = context if self.keep_context else None
        return context

    keep_context = False
    no_context = False
    last_context: FakeContext | None = None

    def create_engine_inspector(self) -> Any:
        return SimpleNamespace(get_engine_information=lambda form: self.information)


class FakeTensorRt:
    """What a session needs of the module `tensorrt`. `seen` holds the plan it was given.

    Of plans in `engines`, each deserialisation takes one off the list; other bytes are the one `engine`.
    """

    def __init__(self, device: FakeDevice, manifest: Manifest, rtx: bool = False) -> None:
        self.seen = b""
        self.refuses = False
        self.LayerInformationFormat = SimpleNamespace(JSON=0)
        self.ExecutionContextAllocationStrategy = FakeAllocation
        self.IExecutionContext = FakeContext
        self.engines: dict[bytes, list[FakeEngine]] = {}
        outer = self
        self.ILogger = type("ILogger", (), {"__init__": lambda self: None, "Severity": _Severity})
        self.IProfiler = type("IProfiler", (), {"__init__": lambda self: None})
        self.IErrorRecorder = type("IErrorRecorder", (), {"__init__": lambda self: None})
        self.engine: FakeEngine | None = FakeEngine(device, manifest, rtx)

        class Runtime:
            error_recorder: Any = None

            def __init__(self, logger: object) -> None:
                device.log.append("create runtime")

            def __del__(self) -> None:
                device.log.append("drop runtime")

            def deserialize_cuda_engine(self, image: Any) -> FakeEngine | None:
                outer.seen = bytes(image)
                if outer.refuses:
                    self.error_recorder.report_error(3, "Serialization assertion failed")
                    return None
                device.log.append("deserialise")
                if outer.seen in outer.engines:
                    engine: FakeEngine | None = outer.engines[outer.seen].pop()
                else:
                    engine, outer.engine = outer.engine, None
                if engine is not None:
                    engine.recorder = self.error_recorder
                return engine

        self.Runtime = Runtime


class _Severity:
    INTERNAL_ERROR, ERROR, WARNING, INFO, VERBOSE = range(5)


def fake_library(trt: FakeTensorRt, backend: str = "tensorrt", version: str = "10.6.0") -> Library:
    return Library(backend, trt, version)  # type: ignore[arg-type]


def run_with(session: TensorRtSession, value: float) -> float:
    """One run on zeros but for the first pixel; the fakes add up, and this is the first number of their answer."""
    for array in session.inputs.values():
        array[...] = 0
    session.inputs["pixel_values"].flat[0] = value
    session.run()
    return float(session.outputs["actions"].flat[0])
