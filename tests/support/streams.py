"""A GPU that runs what was queued in any order that streams and events allow: the worst that a real one may do."""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import dataclass

from fake_tensorrt import FakeDevice

from vla_edge.runtime.errors import EngineError


@dataclass(frozen=True)
class Work:
    """Something queued, and all that must have run before it."""

    name: str
    run: Callable[[], None]
    stream: int
    before: frozenset[Work]

    def __hash__(self) -> int:
        return id(self)

    def __eq__(self, other: object) -> bool:
        return self is other


class StreamsDevice(FakeDevice):
    """`FakeDevice` whose work waits until somebody waits for it.

    `synchronize` runs what its stream has come to, in a random order of those that are allowed, and other work only
    by chance: a missing wait or join shows as a wrong result.
    """

    def __init__(self, seed: int = 0) -> None:
        super().__init__([])
        self.random = random.Random(seed)
        self.come: dict[int, frozenset[Work]] = {}  # by stream: what runs before whatever is queued next
        self.recorded: dict[int, frozenset[Work]] = {}  # by event
        self.pending: list[Work] = []
        self.works: list[Work] = []  # all, in the order of queueing
        self.origin: int | None = None  # of the capture
        self.taken: set[int] = set()  # streams in the capture
        self.held: list[Work] = []  # in the capture

    def queue(self, work: Callable[[], None], name: str, stream: int = 0) -> None:
        queued = Work(name, work, stream, self.come.get(stream, frozenset()))
        self.come[stream] = queued.before | {queued}
        self.log.append(name if self.origin is None else f"capture {name}")
        assert self.origin is None or stream in self.taken, "work beside a capture"
        (self.pending if self.origin is None else self.held).append(queued)
        self.works.append(queued)

    def record_event(self, event: int, stream: int) -> None:
        self.recorded[event] = self.come.get(stream, frozenset())
        self.log.append("record event")

    def wait_event(self, stream: int, event: int) -> None:
        assert event in self.recorded, "an event that was never recorded holds nobody up"
        if self.origin is not None and stream not in self.taken:
            self.taken.add(stream)
            self.come[stream] = frozenset()  # a graph knows nothing of what its streams did before
        self.come[stream] = self.come.get(stream, frozenset()) | self.recorded[event]
        self.log.append("wait event")

    def synchronize(self, stream: int) -> None:
        assert self.origin is None, "a wait inside a capture"
        self._run(self.come.get(stream, frozenset()))

    def begin_capture(self, stream: int) -> None:
        self.origin, self.taken, self.held = stream, {stream}, []
        self.come[stream] = frozenset()

    def end_capture(self, stream: int) -> int:
        held, come = self.held, self.come[stream]
        self._leave()
        if self.capture_error is not None:
            raise self.capture_error
        if not set(held) <= come:
            raise EngineError("CUDA_ERROR_STREAM_CAPTURE_UNJOINED", "")
        return self._make("graph", held)

    def abandon_capture(self, stream: int) -> None:
        self._leave()

    def launch_graph(self, graph: int, stream: int) -> None:
        self.log.append("launch graph")
        before = self.come.get(stream, frozenset())
        again: dict[Work, Work] = {}
        for work in self.live[graph]:
            needs = before | {again[need] for need in work.before}
            again[work] = Work(work.name, work.run, work.stream, frozenset(needs))
        self.pending += again.values()
        self.come[stream] = before | set(again.values())

    def destroy_stream(self, stream: int) -> None:
        assert not any(work.stream == stream for work in self.pending), "a stream is destroyed under its work"
        super().destroy_stream(stream)

    def _leave(self) -> None:
        for stream in self.taken:
            self.come[stream] = frozenset()
        self.origin, self.taken = None, set()

    def _run(self, wanted: frozenset[Work]) -> None:
        """What is wanted, and by chance more, whatever the order allows."""
        todo = [work for work in self.pending if work in wanted or self.random.random() < 0.3]
        done = set[Work]()
        while todo:
            waiting = set(self.pending) - done
            ready = [work for work in todo if not work.before & waiting]
            if not ready:
                break  # what was taken by chance waits for what was not
            work = self.random.choice(ready)
            work.run()
            todo.remove(work)
            done.add(work)
        self.pending = [work for work in self.pending if work not in done]
        assert not wanted & set(self.pending)
