"""A bundle's plan behind the `Session` protocol, on TensorRT 10.x, 11.x or TensorRT-RTX."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import get_args

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

from .library import DEFAULT_BACKEND, Backend, Library, load_library
from .parts.chain import Streams
from .parts.engine_chain import EngineChain
from .parts.engines import PartEngines
from .parts.layers import describe_layers, time_layers
from .parts.loading import chain_of, checked_images
from .parts.runner import EngineRunner
from .parts.shared import engine_key
from .plan import Machine, PlanFile, check_record, find_plan, read_record, require_readable, require_verified

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
        streams: "recorded": parts that may run side by side do so where the build found that it helps;
            "in line": one behind the other, on one stream.
        plan: another plan than the bundle's own for this machine, such as one just built; with its record where
            that was read already, so that exactly this plan runs or none.
        allow_unverified: run a plan whose golden samples were not checked. For the check itself.
    """

    backend: Backend = DEFAULT_BACKEND
    device_index: int = 0
    memory: MemoryName = "cuda-bindings"
    graph: bool = True
    stream: int | None = None
    streams: Streams = "recorded"
    plan: Path | PlanFile | None = None
    allow_unverified: bool = False

    def __post_init__(self) -> None:
        require_whole("device_index", self.device_index, 0, MAX_DEVICE_INDEX)
        if self.streams not in get_args(Streams):
            names = " or ".join(map(repr, get_args(Streams)))
            raise InputError(f"streams={self.streams!r} is refused.", f"Give {names}.")


class TensorRtSession:
    """See `Session`. Several may live in one process, on one GPU or several.

    Thread rule: one thread at a time, which may change between calls; two at once are refused.

    Attributes:
        identity: what really runs; `provider` names the plan, its parts if it is cut, and "CUDA graph" or "enqueue".
        inputs: page-locked arrays to fill in place.
        outputs: page-locked arrays, valid after `run` until the next.
        load_ms: what loading took, step by step, in milliseconds; of a plan in parts, all of them: "read and verify"
            is what was waited for, since it goes on while other parts are deserialised.
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
        self._owned = ExitStack()  # frees in the opposite order: runner, engines, device
        self._device: CudaDevice | None = None
        self._engines: PartEngines | None = None
        self._chain: EngineChain | None = None
        self._runner: EngineRunner | None = None
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

        It runs in contexts and buffers of its own, queued call by call, so what `run` uses is not touched;
        meanwhile they take device memory.

        Returns:
            Mean milliseconds of each layer over `runs`, after `warmup` others, in the order of execution, of all
            parts. Layers of a plan in parts are named with their part, as "NAME [part 2]".

        Raises:
            EngineError: as `run`, no device memory for the contexts, or TensorRT reported no layer.
        """
        engines = self._loaded()
        self.device.activate()
        return time_layers(self.device, engines, self.inputs, runs, warmup)

    def describe_layers(self) -> str:
        """What TensorRT's inspector tells of the engine's layers, of all parts, as one JSON.

        Raises:
            EngineError: the session is closed.
        """
        return describe_layers(self._loaded())

    def device_memory_bytes(self) -> dict[str, int]:
        """Device memory by use, as far as TensorRT tells, or the build did.

        Returns:
            "weights" of all parts, also where another session uses them too; "activations" of this session's contexts;
            "io", its inputs and outputs and what parts hand to each other.

        Raises:
            EngineError: the session is closed.
        """
        engines = self._loaded()
        if self._chain is None:
            raise _closed()
        weights = engines.weights_bytes()
        if weights is None:
            recorded = [part.weights_bytes for part in self.plan.record.parts]
            weights = None if None in recorded else sum(filter(None, recorded))
        sizes = {} if weights is None else {"weights": weights}
        io = sum(array.nbytes for array in (*self.inputs.values(), *self.outputs.values()))
        return {**sizes, "activations": self._chain.activation_bytes, "io": io + self._chain.between_bytes}

    def close(self) -> None:
        """Free graphs, buffers, streams, contexts, engines and the hold on the device, in this order.

        An engine that another session uses stays for that one. A forked child frees nothing: see `forked`.

        Raises:
            EngineError: a run is at work, in another thread or, by its `host_work`, in this one.
        """
        if not self._home.here:
            return
        if self._runner is not None:
            self._runner.retire()
        device, self._device = self._device, None
        self._runner = self._engines = self._chain = None
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
        if options.plan is None:
            require_readable(bundle, options.backend)
        with self._timed("import"):
            library = library or load_library(options.backend)
        with self._timed("device"):
            if device is None:
                device = open_device(options.device_index, options.memory)
                self._owned.callback(device.close)
            self._device = device
            device.activate()
        self.plan = _choose_plan(bundle, options, machine_of(library, device))
        # before anything is deserialised: a side file is no less hostile than a plan
        chain = chain_of(self.plan, bundle.manifest)
        self._engines = PartEngines(library, chain)
        self._owned.callback(self._engines.close)
        self._load_parts(library, device)
        with self._timed("context"):
            in_line = options.streams == "in line"
            self._chain = EngineChain(device, self._engines, chain.in_line() if in_line else chain)
        self._owned.callback(self._chain.close)
        with self._timed("warm-up and capture"):
            self._runner = EngineRunner(device, self._chain, graph=options.graph, stream=options.stream)
        self._owned.callback(self._runner.close)
        self._engines.save_caches()
        self.identity = _identity(bundle, library, device, self.plan, self._runner.mode)

    def _load_parts(self, library: Library, device: CudaDevice) -> None:
        engines, plan = self._loaded(), self.plan
        with closing(checked_images(plan)) as images:
            for part in plan.record.parts:
                with self._timed("read and verify"):
                    image = next(images)
                with self._timed("deserialise"):
                    engines.load(
                        image,
                        origin=str(plan.file(part)),
                        hint=f"Free device memory if it ran out. {plan.hint}",
                        key=engine_key(library, device.info.index, part),
                        cache=runtime_cache_path(plan.file(part)),
                    )

    def _loaded(self) -> PartEngines:
        if self._engines is None:
            raise _closed()
        return self._engines

    @contextmanager
    def _timed(self, step: str) -> Iterator[None]:
        start = time.perf_counter()
        yield
        self.load_ms[step] = self.load_ms.get(step, 0.0) + (time.perf_counter() - start) * 1e3


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
    elif isinstance(options.plan, PlanFile):
        plan = check_record(options.plan, bundle, machine)
    else:
        record = read_record(options.plan, bundle.folder)
        plan = check_record(PlanFile(options.plan, record, bundle.folder), bundle, machine)
    if not options.allow_unverified:
        require_verified(plan)
    return plan


def _identity(
    bundle: Bundle, library: Library, device: CudaDevice, plan: PlanFile, mode: str
) -> EngineIdentity:
    precision, parts = bundle.manifest.precision, len(plan.record.parts)
    return EngineIdentity(
        backend=library.backend,
        version=library.version,
        device=str(device.info),
        provider=f"{plan.path.name}{f' in {parts} parts' if parts > 1 else ''}, {mode}",
        precision=precision.achieved,
        compute=precision.achieved,
        bundle=bundle.identity,
    )


def _closed() -> EngineError:
    return EngineError("The session is closed.", "Load the bundle again.")
