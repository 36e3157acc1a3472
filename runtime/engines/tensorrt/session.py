"""A bundle's plan behind the `Session` protocol, on TensorRT 10.x, 11.x or TensorRT-RTX."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from vla_edge.runtime.bundle.bundle import Bundle
from vla_edge.runtime.cuda.device import CudaDevice, MemoryName
from vla_edge.runtime.cuda.opening import open_device
from vla_edge.runtime.engines.session import (
    MAX_DEVICE_INDEX,
    EngineIdentity,
    HostWork,
    nothing,
    require_whole,
)
from vla_edge.runtime.errors import EngineError, InputError
from vla_edge.runtime.process.forked import HomeProcess

from .engine import Engine, check_tensors, tensor_specs
from .library import DEFAULT_BACKEND, Backend, Library, load_library
from .plan import Machine, PlanFile, check_record, find_plan, open_part, read_record, require_verified
from .profiler import layer_profiler
from .runner import EngineRunner

RUNTIME_CACHE_SUFFIX = ".runtime-cache"


@dataclass(frozen=True)
class TensorRtOptions:
    """How to run a plan.

    Attributes:
        backend: which library; the bundle needs a plan of it.
        device_index: CUDA's index of the GPU.
        memory: implementation of device memory, streams and graphs.
        graph: capture copy in, engine and copy out in one CUDA graph; if that fails, the session says so
            in its identity and log, and queues the engine at each call.
        stream: handle of the caller's CUDA stream (not the default stream, 0), for work that must stay
            in order with the caller's own; the caller keeps it until after `close`.
        plan: another plan than the bundle's own for this machine, such as one just built.
        allow_unverified: run a plan whose golden samples were not checked. For the check itself.
    """

    backend: Backend = DEFAULT_BACKEND
    device_index: int = 0
    memory: MemoryName = "cuda-bindings"
    graph: bool = True
    stream: int | None = None
    plan: Path | None = None
    allow_unverified: bool = False

    def __post_init__(self) -> None:
        require_whole("device_index", self.device_index, 0, MAX_DEVICE_INDEX)


class TensorRtSession:
    """See `Session`. Several may live in one process, on one GPU or several.

    Thread rule: one thread at a time, which may change between calls; two at once are refused.

    Attributes:
        identity: what really runs; `provider` names the plan and "CUDA graph" or "enqueue".
        inputs: page-locked arrays to fill in place.
        outputs: page-locked arrays, valid after `run` until the next.
        load_ms: what loading took, step by step, in milliseconds.
        plan: the plan and its record.
    """

    def __init__(
        self,
        bundle: Bundle,
        options: TensorRtOptions | None = None,
        *,
        library: Library | None = None,
        device: CudaDevice | None = None,
    ) -> None:
        """Load the bundle's plan for this machine.

        Args:
            bundle: an opened bundle.
            options: how to run it.
            library: an imported TensorRT, else `options.backend` is imported.
            device: an open GPU, which the caller closes; else one is opened and closed with the session.

        Raises:
            EngineError: no TensorRT, driver or GPU; no plan, or one of another machine or bundle, damaged,
                or not verified; TensorRT refuses it. Each says what to run.
            InputError: the stream is the default stream.
        """
        options = options or TensorRtOptions()
        if options.stream == 0:
            raise InputError(
                "The default CUDA stream cannot be captured.", "Give a stream of your own, or none."
            )
        self.load_ms: dict[str, float] = {}
        self._home = HomeProcess(self)
        self._owned = ExitStack()  # frees in the opposite order: runner, engine, device
        self._device: CudaDevice | None = None
        self._engine: Engine | None = None
        self._runner: EngineRunner | None = None
        self._library: Library | None = None
        try:
            self._load(bundle, options, library, device)
        except BaseException:
            self.close()
            raise

    @property
    def inputs(self) -> Mapping[str, np.ndarray]:
        return self._runner.inputs if self._runner else {}

    @property
    def outputs(self) -> Mapping[str, np.ndarray]:
        return self._runner.outputs if self._runner else {}

    @property
    def device(self) -> CudaDevice:
        if self._device is None:
            raise _closed()
        return self._device

    def run(self, host_work: HostWork = nothing) -> None:
        """One inference on what `inputs` holds; see `Session.run`.

        Raises:
            EngineError: CUDA or TensorRT failed, the session is closed, or two threads are in it.
        """
        if self._runner is None:
            raise _closed()
        self._runner.run(host_work)

    def run_engine_ms(self) -> float:
        """The engine alone, without copies, for benchmarks: GPU milliseconds. `outputs` is not updated.

        Raises:
            EngineError: as `run`.
        """
        if self._runner is None:
            raise _closed()
        return self._runner.run_engine_ms()

    def time_layers(self, runs: int, warmup: int = 3) -> dict[str, float]:
        """The engine under TensorRT's profiler, for benchmarks, on what `inputs` holds; `outputs` stays.

        It runs in a context and buffers of its own, queued call by call, so what `run` uses is not touched;
        meanwhile they take device memory.

        Returns:
            Mean milliseconds of each layer over `runs`, after `warmup` others, in the order of execution.

        Raises:
            EngineError: as `run`, no device memory for the context, or TensorRT reported no layer.
        """
        if self._engine is None or self._library is None:
            raise _closed()
        # made first, so that it outlives the context that reports to it
        profiler = layer_profiler(self._library.trt)
        engine, device = self._engine, self.device
        device.activate()
        context = engine.another_context()
        inputs, outputs = (tensor_specs(engine.engine, mode) for mode in ("input", "output"))
        runner = EngineRunner(device, context, inputs, outputs, graph=False, reported=engine.reported)
        try:
            for name, array in self.inputs.items():
                np.copyto(runner.inputs[name], array)
            context.profiler = profiler
            for _ in range(warmup):
                runner.run()
            profiler.total_ms.clear()
            for _ in range(runs):
                runner.run()
        finally:
            runner.close()
            del context
        if not profiler.total_ms:
            raise EngineError(
                "TensorRT's profiler reported no layer.", "Build the plan again with vla-build."
            )
        return {name: ms / runs for name, ms in profiler.total_ms.items()}

    def describe_layers(self) -> str:
        """What TensorRT's inspector tells of the engine's layers, as JSON.

        Raises:
            EngineError: the session is closed.
        """
        if self._engine is None:
            raise _closed()
        return self._engine.describe_layers()

    def device_memory_bytes(self) -> dict[str, int]:
        """Device memory by use, as far as TensorRT tells: "weights", "activations", and "io" of the session."""
        if self._engine is None or self._runner is None:
            raise _closed()
        io = sum(array.nbytes for array in (*self.inputs.values(), *self.outputs.values()))
        return {**self._engine.device_memory(), "io": io}

    def close(self) -> None:
        """Free graphs, buffers, stream, context, engine, runtime and the hold on the device, in this order.

        A forked child frees nothing: see `forked`.
        """
        if not self._home.here:
            return
        device, self._device = self._device, None
        self._runner = self._engine = None
        if device is not None:
            device.activate()
            self._owned.close()

    def __enter__(self) -> TensorRtSession:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _load(
        self, bundle: Bundle, options: TensorRtOptions, library: Library | None, device: CudaDevice | None
    ) -> None:
        with self._timed("import"):
            library = self._library = library or load_library(options.backend)
        with self._timed("device"):
            if device is None:
                device = open_device(options.device_index, options.memory)
                self._owned.callback(device.close)
            self._device = device
            device.activate()
        self.plan = _choose_plan(bundle, options, machine_of(library, device))
        self._engine = engine = self._open_engine(library)
        check_tensors(engine.engine, bundle.manifest.inputs, bundle.manifest.outputs)
        with self._timed("context"):
            engine.create_context()
        with self._timed("warm-up and capture"):
            self._runner = EngineRunner(
                device,
                engine.context,
                bundle.manifest.inputs,
                bundle.manifest.outputs,
                graph=options.graph,
                stream=options.stream,
                reported=engine.reported,
            )
        self._owned.callback(self._runner.close)
        engine.save_cache()
        self.identity = _identity(bundle, library, device, self.plan, self._runner.mode)

    def _open_engine(self, library: Library) -> Engine:
        with ExitStack() as opened:
            with self._timed("read and verify"):
                image = opened.enter_context(open_part(self.plan, self.plan.record.parts[0]))
            with self._timed("deserialise"):
                engine = Engine(
                    library,
                    image,
                    str(self.plan.path),
                    f"Free device memory if it ran out. {self.plan.hint}",
                    runtime_cache_path(self.plan.path),
                )
        self._owned.callback(engine.close)
        return engine

    @contextmanager
    def _timed(self, step: str) -> Iterator[None]:
        start = time.perf_counter()
        yield
        self.load_ms[step] = (time.perf_counter() - start) * 1e3


def runtime_cache_path(plan: Path) -> Path:
    """Where TensorRT-RTX's compiled kernels lie, beside their plan."""
    return plan.with_name(plan.name + RUNTIME_CACHE_SUFFIX)


def machine_of(library: Library, device: CudaDevice) -> Machine:
    """What a plan must have been built for to run here."""
    info = device.info
    return Machine(
        backend=library.backend, version=library.version, sm=info.sm, gpu=info.name, driver=info.driver
    )


def _choose_plan(bundle: Bundle, options: TensorRtOptions, machine: Machine) -> PlanFile:
    if options.plan is None:
        plan = find_plan(bundle, machine)
    else:
        record = read_record(options.plan, bundle.folder)
        plan = check_record(PlanFile(options.plan, record, bundle.folder), bundle, machine)
    if not options.allow_unverified:
        require_verified(plan)
    return plan


def _identity(
    bundle: Bundle, library: Library, device: CudaDevice, plan: PlanFile, mode: str
) -> EngineIdentity:
    precision = bundle.manifest.precision
    return EngineIdentity(
        backend=library.backend,
        version=library.version,
        device=str(device.info),
        provider=f"{plan.path.name}, {mode}",
        precision=precision.achieved,
        compute=precision.achieved,
        bundle=bundle.identity,
    )


def _closed() -> EngineError:
    return EngineError("The session is closed.", "Load the bundle again.")
