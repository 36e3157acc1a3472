"""The hot path: buffers bound once, then copy in, engine and copy out as one launch."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from typing import TypeVar

import numpy as np

from vla_edge.runtime.cuda.device import CudaDevice
from vla_edge.runtime.cuda.resources import Arena, Graph, Stopwatch
from vla_edge.runtime.engines.session import HostWork, nothing
from vla_edge.runtime.errors import EngineError
from vla_edge.runtime.process.exclusive_use import ExclusiveUse

from .engine_chain import EngineChain

_log = logging.getLogger("vla_edge.tensorrt")

_Resource = TypeVar("_Resource", Arena, Graph, Stopwatch)


class EngineRunner:
    """Runs the contexts of a chain, one or several, as one engine.

    Thread rule: one thread at a time; any thread may be that one. A second thread that calls while the
    first is inside gets an error, since both would write the same buffers.

    Attributes:
        inputs: page-locked NumPy arrays by tensor name, to be filled in place.
        outputs: page-locked NumPy arrays by tensor name, valid after `run`.
        mode: "CUDA graph", or "enqueue" with the reason in brackets.
    """

    def __init__(
        self,
        device: CudaDevice,
        engines: EngineChain,
        *,
        graph: bool = True,
        stream: int | None = None,
    ) -> None:
        """Bind buffers, run once to warm up, and capture.

        Args:
            device: the GPU, active in this thread.
            engines: contexts of every part, the runner's from now on: closed with it, and where this fails.
            graph: capture a CUDA graph; without one every call queues the engines' kernels anew.
            stream: handle of a CUDA stream of the caller, who keeps it until after `close`; else one is made.

        Raises:
            EngineError: CUDA or TensorRT refuse.
        """
        self._device = device
        self._engines = engines
        self._turn = ExclusiveUse(
            busy=(
                "Two threads use one session at the same time.",
                "Give each thread its own, or take turns with a lock.",
            ),
            closed=("The session is closed.", "Load the bundle again."),
        )
        self._freed = False
        self._owned = ExitStack()  # frees in the opposite order: graphs, buffers, stream, contexts
        self._owned.callback(engines.close)
        try:
            self._stream = self._own_stream() if stream is None else stream
        except BaseException:
            self._owned.close()
            raise
        self.inputs: Mapping[str, np.ndarray] = {}
        self.outputs: Mapping[str, np.ndarray] = {}
        self._graph: Graph | None = None
        self._engine_graph: Graph | None = None
        self._stopwatch: Stopwatch | None = None
        try:
            self._bind()
            self._warm_up()
            self.mode = self._capture() if graph else "enqueue (asked for)"
        except BaseException:
            self.close()
            raise

    def run(self, host_work: HostWork = nothing) -> None:
        """One call: inputs to the device, engine, outputs back; returns when they are there.

        `host_work` is called between the launch and the wait, see `Session.run`.
        """
        with self._turn:
            self._device.activate()
            self._launch()
            try:
                host_work()
            finally:
                self._device.synchronize(self._stream)

    def run_engine_ms(self) -> float:
        """Run the engine alone on what the device buffers hold, for benchmarks.

        Returns:
            GPU milliseconds from its first kernel's start to its last one's end, without copies.
        """
        with self._turn:
            self._device.activate()
            stopwatch = self._stopwatch or self._new_stopwatch()
            stopwatch.start(self._stream)
            if self._engine_graph is not None:
                self._engine_graph.launch(self._stream)
            else:
                self._queue(self._engines.enqueue)
            return stopwatch.stop_ms(self._stream)

    def retire(self) -> None:
        """Let nobody in any more. Calling it again does nothing.

        Raises:
            EngineError: `run` is at work, in another thread or, by its `host_work`, in this one.
        """
        if self._turn.closed or not self._turn.home.here:
            return
        try:
            with self._turn:
                self._turn.closed = True
        except EngineError as error:
            raise EngineError(
                "The session cannot be closed while it runs.", "Close it once its run has returned."
            ) from error

    def close(self) -> None:
        """Free graphs, buffers, stream and contexts; the engines are the caller's. Calling it again does nothing.

        Raises:
            EngineError: as `retire`; nothing is freed then.
        """
        self.retire()
        if self._freed or not self._turn.home.here:
            return
        self._freed = True
        self.inputs, self.outputs = {}, {}
        self._device.activate()
        # First, nothing may still run; and everything is freed even where one step fails.
        self._owned.callback(self._engines.settle)
        self._owned.callback(self._device.synchronize, self._stream)
        self._owned.close()

    def _bind(self) -> None:
        self._inputs = self._own(Arena(self._device, self._engines.chain.inputs))
        self._outputs = self._own(Arena(self._device, self._engines.chain.outputs))
        self.inputs, self.outputs = self._inputs.arrays, self._outputs.arrays
        self._engines.bind({**self._inputs.addresses, **self._outputs.addresses}, self._stream)

    def _own_stream(self) -> int:
        stream = self._device.create_stream()
        self._owned.callback(self._device.destroy_stream, stream)
        return stream

    def _own(self, resource: _Resource) -> _Resource:
        self._owned.callback(resource.close)
        return resource

    def _warm_up(self) -> None:
        """The first enqueue allocates and loads kernels, which a capture must not meet."""
        self._queue_call()
        self._device.synchronize(self._stream)

    def _capture(self) -> str:
        try:
            self._graph = self._own(Graph(self._device, self._stream, self._queue_call))
            # A graph is uploaded to the device when it is first launched: not in the robot's first call.
            self._graph.launch(self._stream)
            self._device.synchronize(self._stream)
        except EngineError as error:
            self._graph = None
            _log.warning("no CUDA graph, every call queues the engine anew and is slower: %s", error.problem)
            return f"enqueue (no CUDA graph: {error.problem})"
        return "CUDA graph"

    def _queue_call(self) -> None:
        self._inputs.upload(self._stream)
        self._engines.enqueue()
        self._outputs.download(self._stream)

    def _queue(self, work: Callable[[], None]) -> None:
        """Outside of a capture: what was queued on other streams before a failure must not run into the next call."""
        try:
            work()
        except BaseException:
            self._engines.settle()
            raise

    def _launch(self) -> None:
        if self._graph is not None:
            self._graph.launch(self._stream)
        else:
            self._queue(self._queue_call)

    def _new_stopwatch(self) -> Stopwatch:
        stopwatch = self._own(Stopwatch(self._device))
        if self._graph is not None:
            self._engine_graph = self._own(Graph(self._device, self._stream, self._engines.enqueue))
        # Last: after a failed capture the next call must capture again, not queue the engine unnoticed.
        self._stopwatch = stopwatch
        return stopwatch
