"""Engines are held once for all sessions of a process, and freed with the last of them."""

from __future__ import annotations

import gc
import os
import random
import threading
from pathlib import Path
from typing import Any

import msgspec
import pytest
from fake_tensorrt import FakeDevice, FakeTensorRt, fake_library
from plan_bundles import make_plan, small_bundle, tiny_manifest

from vla_edge.runtime.engines.tensorrt.parts import shared
from vla_edge.runtime.engines.tensorrt.parts.shared import EngineLease, engine_key
from vla_edge.runtime.engines.tensorrt.plan import read_record
from vla_edge.runtime.errors import EngineError


class Loaded:
    """Stands for an engine; counts how many were loaded and closed."""

    loads, closes = 0, 0

    def __init__(self) -> None:
        type(self).loads += 1
        self.closed = False

    def close(self) -> None:
        type(self).closes += 1
        self.closed = True


@pytest.fixture
def counted() -> type[Loaded]:
    return type("Counted", (Loaded,), {})


def test_the_second_lease_has_the_engine_of_the_first_and_the_last_frees_it(counted: Any) -> None:
    leases = [EngineLease("key") for _ in range(3)]
    engines = {id(lease.take(counted)) for lease in leases}
    assert (len(engines), counted.loads) == (1, 1)
    for lease in leases:
        assert counted.closes == 0
        lease.close()
        lease.close()
    assert counted.closes == 1
    assert EngineLease("key").take(counted) is not None
    assert counted.loads == 2


def test_engines_of_other_keys_and_of_none_are_others(counted: Any) -> None:
    leases = [EngineLease(key) for key in ("a", "b", None, None)]
    assert len({id(lease.take(counted)) for lease in leases}) == 4
    for lease in leases:
        lease.close()
    assert counted.closes == 4


def test_of_two_threads_one_loads_and_the_other_waits(counted: Any) -> None:
    inside, go_on, taken = threading.Event(), threading.Event(), list[Any]()

    def load() -> Any:
        inside.set()
        assert go_on.wait(5)
        return counted()

    leases = EngineLease("key"), EngineLease("key")
    first = threading.Thread(target=lambda: taken.append(leases[0].take(load)))
    second = threading.Thread(target=lambda: taken.append(leases[1].take(counted)))
    first.start()
    assert inside.wait(5)
    second.start()
    second.join(0.05)
    assert not taken  # the second has not loaded one meanwhile
    go_on.set()
    first.join()
    second.join()
    assert counted.loads == 1
    assert taken[0] is taken[1]
    for lease in leases:
        lease.close()
    assert counted.closes == 1


def test_a_loading_that_fails_leaves_nothing_and_the_next_one_loads_anew(counted: Any) -> None:
    def fail() -> Any:
        raise EngineError("refused", "")

    lease = EngineLease("key")
    with pytest.raises(EngineError, match="refused"):
        lease.take(fail)
    assert "key" not in shared._registry.entries
    other = EngineLease("key")
    other.take(counted)
    lease.close()  # holds nothing
    assert counted.closes == 0
    other.close()
    assert counted.closes == 1


def test_a_lease_that_is_dropped_without_close_holds_nothing(counted: Any) -> None:
    lease = EngineLease("key")
    lease.take(counted)
    del lease
    gc.collect()
    assert "key" not in shared._registry.entries


def test_whatever_threads_do_no_engine_in_use_is_closed(counted: Any) -> None:
    wrong: list[str] = []

    def work(seed: int) -> None:
        rng = random.Random(seed)
        for _ in range(200):
            lease = EngineLease(f"key {rng.randrange(3)}")
            engine: Any = lease.take(counted)
            if engine.closed:
                wrong.append("a closed engine was given")
            if rng.random() < 0.5:
                os.sched_yield()
            if engine.closed:
                wrong.append("an engine was closed in use")
            lease.close()

    threads = [threading.Thread(target=work, args=(seed,)) for seed in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong
    assert counted.loads == counted.closes


def test_a_forked_child_loads_its_own_and_frees_nothing_of_its_parents(counted: Any) -> None:
    lease = EngineLease("key")
    lease.take(counted)
    held = shared._registry.lock
    held.acquire()  # as by another thread of the parent, which the child does not have
    child = os.fork()
    if child == 0:
        status = 1
        try:
            lease.close()
            own = EngineLease("key")
            own.take(counted)
            own.close()
            status = int((counted.loads, counted.closes) != (2, 1))
        finally:
            os._exit(status)
    held.release()
    assert os.waitpid(child, 0)[1] == 0
    lease.close()
    assert counted.closes == 1


def test_what_makes_an_engine_another_one(tmp_path: Path) -> None:
    bundle, device = small_bundle(tmp_path / "bundle"), FakeDevice([])
    (part,) = read_record(make_plan(bundle), bundle.folder).parts
    trt = FakeTensorRt(device, tiny_manifest([]))
    library = fake_library(trt)
    key = engine_key(library, 0, part)
    same = msgspec.structs.replace(part, name="other", file="other.part", stream=1, sha256="0" * 64)
    assert engine_key(library, 0, same) == key
    others = [
        engine_key(library, 1, part),
        engine_key(fake_library(FakeTensorRt(device, tiny_manifest([]))), 0, part),
        engine_key(library, 0, msgspec.structs.replace(part, chunk_sha256=("0" * 64,))),
        engine_key(library, 0, msgspec.structs.replace(part, size_bytes=part.size_bytes + 1)),
        engine_key(library, 0, msgspec.structs.replace(part, chunk_bytes=part.chunk_bytes + 1)),
    ]
    assert key not in others
    assert len(set(others)) == len(others)
