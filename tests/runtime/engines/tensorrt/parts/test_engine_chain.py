"""Parts run as one engine, whatever order a GPU chooses among those that streams and events allow."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import suppress
from itertools import combinations
from types import SimpleNamespace
from typing import Any

import pytest
from fake_tensorrt import FakeContext, FakeDevice, FakeEngine, FakeTensorRt, fake_library
from part_plans import fake_engines, part_bytes, random_parts, tensor
from streams import StreamsDevice

from vla_edge.runtime.engines.tensorrt.parts.chain import Chain, ChainPart, make_chain
from vla_edge.runtime.engines.tensorrt.parts.engine_chain import EngineChain
from vla_edge.runtime.engines.tensorrt.parts.engines import PartEngines
from vla_edge.runtime.engines.tensorrt.parts.runner import EngineRunner
from vla_edge.runtime.errors import EngineError

INS, OUTS = (tensor("x", 1, 1), tensor("y", 1, 1)), (tensor("out", 1, 1),)
# Two in line beside one, which the last one needs.
FORKED = (
    ChainPart("one", (INS[0],), (tensor("a", 1, 1),)),
    ChainPart("side", (INS[1],), (tensor("b", 1, 1),), stream=1),
    ChainPart("two", (tensor("a", 1, 1),), (tensor("c", 1, 1),)),
    ChainPart("last", (tensor("c", 1, 1), tensor("b", 1, 1)), OUTS),
)
SEEDS = range(60)


class Setup:
    """Fake engines of a chain, loaded."""

    def __init__(self, parts: Sequence[ChainPart], device: FakeDevice, rtx: bool = False) -> None:
        self.device = device
        self.chain: Chain = make_chain(parts, INS, OUTS, origin="a.plan", hint="")
        nothing: Any = SimpleNamespace(inputs=(), outputs=())
        self.trt = FakeTensorRt(device, nothing, rtx)
        self.trt.engine = None
        self.fakes = fake_engines(self.trt, device, parts, rtx=rtx)
        self.engines = PartEngines(fake_library(self.trt), self.chain)

    def load(self) -> PartEngines:
        for part in self.chain.parts:
            self.engines.load(part_bytes(part.name), origin=part.name, hint="")
        return self.engines

    def runner(self, graph: bool = True) -> EngineRunner:
        return EngineRunner(self.device, EngineChain(self.device, self.load()), graph=graph)


def wanted(parts: Sequence[ChainPart], values: dict[str, float]) -> float:
    """What the fake engines, which add up, make of the inputs."""
    for part in parts:
        total = sum(values[spec.name] for spec in part.inputs)
        values = {**values, **{spec.name: total for spec in part.outputs}}
    return values["out"]


def run(runner: EngineRunner, x: float, y: float) -> float:
    runner.inputs["x"][...], runner.inputs["y"][...] = x, y
    runner.run()
    return float(runner.outputs["out"].flat[0])


@pytest.mark.parametrize("graph", [True, False])
@pytest.mark.parametrize("seed", SEEDS)
def test_every_part_waits_for_what_it_needs(seed: int, graph: bool) -> None:
    parts = random_parts(seed, INS, OUTS)
    device = StreamsDevice(seed)
    setup = Setup(parts, device)
    runner = setup.runner(graph)
    assert runner.mode == ("CUDA graph" if graph else "enqueue (asked for)")
    for x, y in ((1, 2), (5, 0), (0, 7), (3, 3)):
        assert run(runner, x, y) == wanted(parts, {"x": x, "y": y})
        runner.run_engine_ms()
    runner.close()
    setup.engines.close()
    assert not device.live


@pytest.mark.parametrize("seed", SEEDS)
def test_contexts_that_may_overlap_share_no_scratch(seed: int) -> None:
    device = StreamsDevice(seed)
    setup = Setup(random_parts(seed, INS, OUTS), device)
    runner = setup.runner(graph=False)
    run(runner, 1, 2)
    runs = [work for work in device.works if work.name == "engine"]
    for one, other in combinations(runs, 2):
        ordered = one in other.before or other in one.before
        assert ordered or not overlap(one.run.__self__.scratch, other.run.__self__.scratch)  # type: ignore[attr-defined]
    runner.close()


def overlap(one: tuple[int, int] | None, other: tuple[int, int] | None) -> bool:
    return one is not None and other is not None and one[0] < sum(other) and other[0] < sum(one)


def test_the_tests_see_a_wait_that_is_missing() -> None:
    """Of the random chains above, those with streams go wrong without events."""

    class Deaf(StreamsDevice):
        def wait_event(self, stream: int, event: int) -> None:
            pass

    wrong = 0
    for seed in SEEDS:
        parts = random_parts(seed, INS, OUTS)
        runner = Setup(parts, Deaf(seed)).runner(graph=False)
        wrong += any(run(runner, x, y) != wanted(parts, {"x": x, "y": y}) for x, y in ((1, 2), (5, 0)))
    assert wrong > len(SEEDS) / 3


def test_all_of_a_run_is_one_graph_launch() -> None:
    device = FakeDevice([])
    runner = Setup(FORKED, device).runner()
    device.log.clear()
    assert run(runner, 1, 2) == 3
    assert device.log == ["launch graph", "synchronize"]


def test_without_a_graph_the_parts_are_queued_between_the_copies() -> None:
    device = FakeDevice([])
    runner = Setup(FORKED, device).runner(graph=False)
    device.log.clear()
    assert run(runner, 1, 2) == 3
    assert device.log == [
        "copy in", "record event", "engine", "wait event", "engine", "record event", "engine", "wait event",
        "engine", "copy out", "synchronize",
    ]  # fmt: skip


def test_the_engine_alone_is_timed_with_all_of_its_streams() -> None:
    device = StreamsDevice()
    runner = Setup(FORKED, device).runner(graph=False)
    runner.run_engine_ms()
    device.log.clear()
    runner.run_engine_ms()
    assert device.log[0] == device.log[-1] == "record event"
    assert device.log.count("engine") == 4
    engines = [work for work in device.works if work.name == "engine"][-4:]
    assert set(engines) <= device.recorded[max(device.recorded)]  # the last event: the stopwatch's end


def test_one_scratch_memory_is_as_large_as_the_largest_needs() -> None:
    setup = Setup(FORKED, FakeDevice([]))
    for fake, size in zip(setup.fakes, (1000, 5000, 3000, 2000), strict=True):
        fake.device_memory_size_v2 = size
    chain = EngineChain(setup.device, setup.load())
    one, side, two, last = chain.contexts
    assert side.owns_memory  # alone on its stream
    assert one.scratch == two.scratch == last.scratch
    assert one.scratch[1] == 3000
    assert chain.activation_bytes == 3000 + 5000
    assert chain.between_bytes == 3 * 256


def test_a_context_that_needs_none_is_given_none() -> None:
    setup = Setup(FORKED, FakeDevice([]))
    for fake, size in zip(setup.fakes, (1000, 0, 0, 2000), strict=True):
        fake.device_memory_size_v2 = size
    chain = EngineChain(setup.device, setup.load())
    assert [context.scratch is not None for context in chain.contexts] == [True, False, False, True]
    assert chain.activation_bytes == 2000


def test_in_line_all_contexts_share_one_scratch_memory() -> None:
    setup = Setup(FORKED, FakeDevice([]))
    chain = EngineChain(setup.device, setup.load(), setup.chain.in_line())
    assert len({context.scratch for context in chain.contexts}) == 1
    runner = EngineRunner(setup.device, chain)
    assert setup.device.log.count("create stream") == 1
    assert "create event" not in setup.device.log
    assert run(runner, 1, 2) == 3


@pytest.mark.parametrize("lacks", ["ExecutionContextAllocationStrategy", "IExecutionContext"])
def test_where_tensorrt_takes_no_memory_contexts_own_theirs(lacks: str) -> None:
    setup = Setup(FORKED, FakeDevice([]))
    delattr(setup.trt, lacks)
    chain = EngineChain(setup.device, setup.load())
    assert all(context.owns_memory for context in chain.contexts)
    assert chain.activation_bytes == 4 * 4096


def test_rtx_is_told_by_its_configuration_who_owns_the_memory() -> None:
    setup = Setup(FORKED, FakeDevice([]), rtx=True)
    chain = EngineChain(setup.device, setup.load())
    assert [context.owns_memory for context in chain.contexts] == [False, True, False, False]
    assert all(fake.config.cache is not None for fake in setup.fakes)


def test_a_part_that_fails_is_named_and_nothing_of_it_runs_into_the_next_call() -> None:
    device = StreamsDevice()
    setup = Setup(FORKED, device)
    for fake in setup.fakes:
        fake.keep_context = True
    runner = setup.runner(graph=False)
    setup.fakes[2].last_context.fails = True  # type: ignore[union-attr]
    with pytest.raises(EngineError) as caught:
        run(runner, 1, 2)
    assert caught.value.problem == (
        "TensorRT did not run part two of the engine: the fake engine was told to fail."
    )
    assert not [work for work in device.pending if work.stream != device.works[0].stream]
    setup.fakes[2].last_context.fails = False  # type: ignore[union-attr]
    assert run(runner, 1, 2) == 3


def test_a_failed_capture_leaves_a_chain_that_runs() -> None:
    device = StreamsDevice()
    device.capture_error = EngineError("capture was invalidated.", "")
    runner = Setup(FORKED, device).runner()
    assert runner.mode == "enqueue (no CUDA graph: capture was invalidated.)"
    assert run(runner, 1, 2) == 3


STEPS = ("allocate", "pin", "create_stream", "create_event", "begin_capture", "synchronize", "record_event")


@pytest.mark.parametrize("step", STEPS)
@pytest.mark.parametrize("at", range(4))
def test_a_failure_of_cuda_at_any_step_frees_everything(step: str, at: int) -> None:
    device = FakeDevice([])
    fail_once(device, step, at)
    setup = Setup(FORKED, device)
    with suppress(EngineError):  # not every step is done four times
        setup.runner().close()
    setup.engines.close()
    assert not device.live
    assert device.log.count("drop context") == device.log.count("create context")


def fail_once(target: Any, name: str, at: int) -> None:
    works, calls = getattr(target, name), iter(range(1000))

    def maybe(*arguments: Any) -> Any:
        if next(calls) == at:
            raise EngineError("told to fail", "")
        return works(*arguments)

    setattr(target, name, maybe)


@pytest.mark.parametrize("at", range(4))
@pytest.mark.parametrize("step", ["context", "address", "run", "refused"])
def test_a_failure_of_tensorrt_in_any_part_frees_everything(
    step: str, at: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    device = FakeDevice([])
    setup = Setup(FORKED, device)
    fake: FakeEngine = setup.fakes[at]
    if step == "context":
        fake.no_context = True
    elif step == "refused":
        setup.trt.engines[part_bytes(FORKED[at].name)] = []
    else:
        refuse(monkeypatch, "execute_async_v3" if step == "run" else "set_tensor_address", fake)
    with pytest.raises((EngineError, IndexError)):
        setup.runner()
    setup.engines.close()
    assert not device.live
    assert device.log.count("drop context") == device.log.count("create context")


def refuse(monkeypatch: pytest.MonkeyPatch, name: str, of: FakeEngine) -> None:
    works: Callable[..., bool] = getattr(FakeContext, name)
    monkeypatch.setattr(
        FakeContext, name, lambda self, *given: False if self.engine is of else works(self, *given)
    )


def test_what_a_session_asks_was_told_to_its_own_contexts() -> None:
    setup = Setup(FORKED, FakeDevice([]))
    for fake in setup.fakes:
        fake.keep_context = True
    runner = setup.runner(graph=False)
    for fake in setup.fakes:
        fake.recorder.report_error(1, "an engine's own words")
    setup.fakes[3].last_context.fails = True  # type: ignore[union-attr]
    with pytest.raises(EngineError, match="of the engine: the fake engine was told to fail"):
        runner.run()
