"""Contexts of all parts, bound to one memory and queued as one engine."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from typing import Any

from vla_edge.runtime.cuda.device import CudaDevice
from vla_edge.runtime.cuda.resources import DeviceTensors
from vla_edge.runtime.errors import EngineError

from .chain import MAIN_STREAM, Chain, ChainPart
from .engines import PartEngines
from .order import START, order_of

# A part as it is queued: the part, its context's call, its stream, the events that it waits for, and the one
# behind it. A plain tuple, since it is unpacked in each call without a CUDA graph.
_Queued = tuple[ChainPart, Callable[[int], bool], int, tuple[int, ...], int | None]


class EngineChain:
    """One context for each part, memory for what they share, and the events between their streams.

    Contexts of one stream never run at the same time, so that they share one scratch memory, as large as the largest
    needs; other streams have another. A context that is alone on its stream, or of a TensorRT that does not take
    memory of the caller, owns its own. Each tensor between parts has a place of its own: the cuts are few and
    narrow, and nothing is overwritten that may still be read.

    Attributes:
        chain: the parts as they are queued, on their streams.
        contexts: `trt.IExecutionContext` of each part.
        between_bytes: device memory of the tensors between parts.
        activation_bytes: device memory of all contexts, as far as TensorRT tells.
    """

    def __init__(self, device: CudaDevice, engines: PartEngines, chain: Chain | None = None) -> None:
        """Make the contexts, their scratch memory and the tensors between; `bind` connects the rest.

        Args:
            device: the GPU, active in this thread.
            engines: loaded; they outlive this.
            chain: `engines.chain` with other streams, else that one.

        Raises:
            EngineError: mostly for lack of device memory.
        """
        self._device = device
        self._engines = engines
        self.chain = chain or engines.chain
        self.contexts: list[Any] = []
        self.activation_bytes = 0
        self._owned = ExitStack()  # frees in the opposite order: events, streams, tensors, contexts, scratch
        self._queue: tuple[_Queued, ...] = ()
        self._sides: dict[int, int] = {}  # handles of the side streams
        self._main = 0
        self._fork: int | None = None  # the event behind what the main stream held before
        self._joins: tuple[int, ...] = ()
        try:
            self._make_contexts()
            between = DeviceTensors(device, self.chain.between)
            self._owned.callback(between.close)
            self._between, self.between_bytes = between.addresses, between.size_bytes
        except BaseException:
            self.close()
            raise

    def bind(self, addresses: Mapping[str, int], stream: int) -> None:
        """Connect the tensors of the whole, and the streams. Once.

        Args:
            addresses: in device memory, of every input and output of the chain.
            stream: handle of the main stream; the others are made here.

        Raises:
            EngineError: CUDA or TensorRT refuse.
        """
        places = {**self._between, **addresses}
        for part, context in zip(self.chain.parts, self.contexts, strict=True):
            for spec in (*part.inputs, *part.outputs):
                if not context.set_tensor_address(spec.name, places[spec.name]):
                    raise EngineError(
                        f"TensorRT does not take a buffer for {spec.name}: {self._engines.reported()}.",
                        "Build the plan again.",
                    )
        self._plan_queue(stream)

    def enqueue(self) -> None:
        """Queue every part; what the main stream holds afterwards runs when all of them have ended.

        In a capture of the main stream the others take part in it.

        Raises:
            EngineError: CUDA or TensorRT refuse.
        """
        device = self._device
        if self._fork is not None:
            device.record_event(self._fork, self._main)
        for part, execute, stream, waits, done in self._queue:
            for event in waits:
                device.wait_event(stream, event)
            if not execute(stream):
                raise self._refused(part)
            if done is not None:
                device.record_event(done, stream)
        for event in self._joins:
            device.wait_event(self._main, event)

    def settle(self) -> None:
        """Wait for the side streams: after a failure the main one may not have been told to."""
        for stream in self._sides.values():
            self._device.synchronize(stream)

    def close(self) -> None:
        """Drop events, streams, tensors, contexts and scratch. Nothing may still run. Again it does nothing."""
        self._queue = ()
        self._sides = {}
        self._owned.close()

    def _refused(self, part: ChainPart) -> EngineError:
        what = "the engine" if len(self.contexts) == 1 else f"part {part.name} of the engine"
        return EngineError(
            f"TensorRT did not run {what}: {self._engines.reported()}.",
            "Stop; see the log, then load it again.",
        )

    def _make_contexts(self) -> None:
        """In the order of the parts; scratch first, so that it outlives the contexts that use it."""
        scratch = self._scratch()
        self._owned.callback(self.contexts.clear)
        for part, contexts in zip(self.chain.parts, self._engines.contexts, strict=True):
            shared = scratch.get(part.stream)
            if shared is None or not contexts.scratch_bytes:
                self.contexts.append(contexts.create())
                self.activation_bytes += contexts.engine.device_memory().get("activations", 0)
            else:
                context = contexts.create(owns_memory=False)
                context.set_device_memory(*shared)
                self.contexts.append(context)

    def _scratch(self) -> dict[int, tuple[int, int]]:
        """Address and size of the memory of each stream whose contexts share it."""
        sizes: dict[int, list[int]] = defaultdict(list)
        for part, contexts in zip(self.chain.parts, self._engines.contexts, strict=True):
            if needed := contexts.scratch_bytes:
                sizes[part.stream].append(needed)
        scratch = {}
        for stream, all_needed in sizes.items():
            if len(all_needed) > 1:
                size = max(all_needed)
                address = self._device.allocate(size)
                self._owned.callback(self._device.free, address)
                scratch[stream] = (address, size)
                self.activation_bytes += size
        return scratch

    def _plan_queue(self, main: int) -> None:
        order = order_of(self.chain.parts)
        self._main = main
        for number in sorted({part.stream for part in self.chain.parts} - {MAIN_STREAM}):
            self._sides[number] = self._device.create_stream()
            self._owned.callback(self._device.destroy_stream, self._sides[number])
        streams = {MAIN_STREAM: main, **self._sides}
        events = {at: self._event() for at, step in enumerate(order.steps) if step.marked}
        if order.forks:
            events[START] = self._fork = self._event()
        self._queue = tuple(
            (
                part,
                context.execute_async_v3,
                streams[step.stream],
                tuple(events[at] for at in step.waits),
                events.get(at),
            )
            for at, (part, context, step) in enumerate(
                zip(self.chain.parts, self.contexts, order.steps, strict=True)
            )
        )
        self._joins = tuple(events[at] for at in order.joins)

    def _event(self) -> int:
        event = self._device.create_event()
        self._owned.callback(self._device.destroy_event, event)
        return event
