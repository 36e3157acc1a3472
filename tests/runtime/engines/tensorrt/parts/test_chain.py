"""A chain of parts is checked as a whole, and its events are the fewest that are safe."""

from __future__ import annotations

from dataclasses import replace

import pytest
from part_plans import random_parts, tensor

from vla_edge.runtime.bundle.manifest import TensorSpec
from vla_edge.runtime.engines.tensorrt.parts.chain import MAX_BETWEEN_BYTES, Chain, ChainPart, make_chain
from vla_edge.runtime.engines.tensorrt.parts.order import START, Step, order_of
from vla_edge.runtime.errors import EngineError

IN, MID, OUT = tensor("in"), tensor("mid"), tensor("out")
GOOD = (ChainPart("first", (IN,), (MID,)), ChainPart("second", (MID,), (OUT,)))


def chain_of(parts: tuple[ChainPart, ...], outputs: tuple[TensorSpec, ...] = (OUT,)) -> Chain:
    return make_chain(parts, (IN,), outputs, origin="a.plan", hint="Build it.")


def test_a_chain_knows_what_lies_between_its_parts() -> None:
    chain = chain_of(GOOD)
    assert chain.between == (MID,)
    assert chain_of(GOOD, (OUT, MID)).between == ()  # seen from outside, and needed inside as well


FIRST, SECOND = GOOD
REFUSED = {
    "part second needs mid float32[1, 4], which no part before makes": (SECOND, FIRST),
    "mid float32[1, 4], which no part before makes": (replace(FIRST, outputs=(tensor("other"),)), SECOND),
    "which was made as float16[1, 4]": (replace(FIRST, outputs=(tensor("mid", dtype="float16"),)), SECOND),
    "which was made as float32[4, 1]": (replace(FIRST, outputs=(tensor("mid", 4, 1),)), SECOND),
    "part third makes out, which is there already": (*GOOD, ChainPart("third", (MID,), (OUT,))),
    "part second makes in, which is there already": (FIRST, replace(SECOND, outputs=(IN, OUT))),
    "part second makes out, which is there already": (FIRST, replace(SECOND, outputs=(OUT, OUT))),
    "part second takes mid twice": (FIRST, replace(SECOND, inputs=(MID, MID))),
    "part first makes nothing": (replace(FIRST, outputs=()), SECOND),
    "no part takes the input in": (ChainPart("only", (), (OUT,)),),
    "the engine needs the output out float32[1, 4], which no part before makes": (FIRST,),
    "there are 0, of 1 to 64": (),
    "there are 65, of 1 to 64": (*GOOD * 32, FIRST),
    "part second is on stream 8, of 0 to 7": (FIRST, replace(SECOND, stream=8)),
    "part second is on stream -1": (FIRST, replace(SECOND, stream=-1)),
}


@pytest.mark.parametrize("words", REFUSED)
def test_parts_that_make_no_engine_are_refused_in_words(words: str) -> None:
    with pytest.raises(EngineError) as caught:
        chain_of(REFUSED[words])
    assert caught.value.problem.startswith("a.plan: its parts make no engine: ")
    assert words in caught.value.problem
    assert caught.value.hint == "Build it."


def test_a_side_file_cannot_ask_for_all_of_the_device() -> None:
    huge = tensor("mid", *[1 << 28] * 8)
    with pytest.raises(EngineError, match=f"take {2**226} bytes of device memory, of {MAX_BETWEEN_BYTES}"):
        chain_of((replace(FIRST, outputs=(huge,)), replace(SECOND, inputs=(huge,))))


def test_a_hundred_problems_are_told_in_a_line_or_two() -> None:
    bad = [ChainPart(f"p{at}", (tensor(f"no{at}"),), ()) for at in range(60)]
    with pytest.raises(EngineError) as caught:
        chain_of((*GOOD, *bad))
    assert "and 112 more" in caught.value.problem
    assert len(caught.value.problem) < 1000


def test_an_input_that_is_an_output_is_refused() -> None:
    with pytest.raises(EngineError, match="in is an input and an output"):
        chain_of(GOOD, (OUT, IN))


def test_in_line_nobody_waits() -> None:
    order = order_of(GOOD)
    assert order.steps == (Step(0, (), False), Step(0, (), False))
    assert not order.forks
    assert order.joins == ()


def test_a_part_beside_waits_for_the_start_and_is_waited_for_once() -> None:
    side = ChainPart("side", (IN,), (tensor("a"), tensor("b")), stream=1)
    last = ChainPart("last", (MID, tensor("a")), (OUT,))
    order = order_of((side, FIRST, last, ChainPart("again", (tensor("b"),), (tensor("c"),))))
    assert order.forks
    assert order.steps[0] == Step(1, (START,), True)
    assert [step.waits for step in order.steps[1:]] == [(), (0,), ()]
    assert order.joins == ()


def test_a_part_beside_that_needs_nothing_is_not_begun_before_the_rest() -> None:
    side = ChainPart("side", (), (tensor("a"),), stream=2)
    order = order_of((*GOOD, side))
    assert order.forks
    assert order.steps[2] == Step(2, (START,), True)


def test_a_part_beside_another_waits_for_that_one_alone() -> None:
    side = ChainPart("side", (IN,), (tensor("a"),), stream=1)
    other = ChainPart("other", (tensor("a"),), (tensor("b"),), stream=2)
    assert [step.waits for step in order_of((*GOOD, side, other)).steps] == [(), (), (START,), (2,)]


def test_a_part_beside_that_nobody_needs_is_joined_at_the_end() -> None:
    order = order_of((*GOOD, ChainPart("side", (MID,), (tensor("a"),), stream=3)))
    assert order.steps[2] == Step(3, (0,), True)
    assert order.joins == (2,)
    assert not order.forks  # what it waits for is behind the start


@pytest.mark.parametrize("seed", range(200))
def test_no_event_is_waited_for_that_was_implied(seed: int) -> None:
    parts = random_parts(seed, (IN,), (OUT,))
    order = order_of(parts)
    seen: dict[tuple[int, int], int] = {}
    for at, step in enumerate(order.steps):
        assert all(wait < at for wait in step.waits)
        for wait in step.waits:
            other = 0 if wait == START else parts[wait].stream
            assert other != step.stream
            assert wait > seen.get((step.stream, other), -2)
            seen[step.stream, other] = wait
    marked = {at for at, step in enumerate(order.steps) if step.marked}
    assert marked == {at for step in order.steps for at in step.waits if at != START} | set(order.joins)
