"""A session over a plan in parts: one engine to whoever uses it, and refused for each part as a plan is."""

from __future__ import annotations

import gc
import json
import os
import threading
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import msgspec
import pytest
from fake_tensorrt import FakeDevice, FakeTensorRt, fake_library, run_with
from part_plans import fake_engines, make_parts_plan, tensor, two_streams
from plan_bundles import small_bundle
from streams import StreamsDevice

from vla_edge.runtime.engines.tensorrt.parts.chain import ChainPart
from vla_edge.runtime.engines.tensorrt.plan import read_record
from vla_edge.runtime.engines.tensorrt.plan_names import record_path
from vla_edge.runtime.engines.tensorrt.record import PlanRecord, encode_record
from vla_edge.runtime.engines.tensorrt.session import TensorRtOptions, TensorRtSession
from vla_edge.runtime.errors import EngineError, InputError

STEPS = ["import", "device", "read and verify", "deserialise", "context", "warm-up and capture"]


class Setup:
    """A bundle with a plan in four parts on two streams, and the fakes."""

    def __init__(self, folder: Path, backend: str = "tensorrt", device: FakeDevice | None = None) -> None:
        self.bundle = small_bundle(folder)
        self.parts: tuple[ChainPart, ...] = two_streams(self.bundle.manifest)
        self.device = device or FakeDevice([])
        self.trt = FakeTensorRt(self.device, self.bundle.manifest)
        self.trt.engine = None
        self.device.log.clear()
        self.engines = fake_engines(self.trt, self.device, self.parts, rtx=backend == "tensorrt-rtx")
        self.library = fake_library(self.trt, backend)
        self.plan = make_parts_plan(self.bundle, self.parts, backend=backend)

    def open(self, **options: Any) -> TensorRtSession:
        options = {"backend": self.library.backend, **options}
        return TensorRtSession(
            self.bundle, TensorRtOptions(**options), library=self.library, device=self.device
        )

    @property
    def log(self) -> list[str]:
        return self.device.log

    @property
    def record(self) -> PlanRecord:
        return read_record(self.plan, self.bundle.folder)

    def write(self, record: PlanRecord) -> None:
        record_path(self.plan).write_bytes(encode_record(record))


@pytest.fixture
def setup(tmp_path: Path) -> Setup:
    return Setup(tmp_path / "bundle")


# The fakes add up: the head gets 4 times what each tower has made of 4 times the sum before it.
def test_a_plan_in_parts_is_one_engine(setup: Setup) -> None:
    with setup.open() as session:
        assert session.identity.provider == "tensorrt-10.6.0-sm87.plan in 4 parts, CUDA graph"
        assert set(session.inputs) == {"pixel_values", "input_ids", "attention_mask"}
        assert set(session.outputs) == {"actions"}
        setup.log.clear()
        assert run_with(session, 1) == 4 * 4 * 1 + 4 * 1
        assert setup.log == ["launch graph", "synchronize"]
        assert run_with(session, 3) == 3 * run_with(session, 1)


@pytest.mark.parametrize("graph", [True, False])
@pytest.mark.parametrize("streams", ["recorded", "in line"])
def test_streams_and_graph_change_no_result(tmp_path: Path, graph: bool, streams: str) -> None:
    setup = Setup(tmp_path / "bundle", device=StreamsDevice())
    with setup.open(graph=graph, streams=streams) as session:
        assert setup.log.count("create stream") == (2 if streams == "recorded" else 1)
        assert [run_with(session, value) for value in (1, 2, 0, 5)] == [20, 40, 0, 100]
        assert session.run_engine_ms() == 1.5


def test_streams_of_another_name_are_refused() -> None:
    with pytest.raises(InputError, match="streams='both' is refused") as caught:
        TensorRtOptions(streams="both")  # type: ignore[arg-type]
    assert caught.value.hint == "Give 'recorded' or 'in line'."


def test_loading_is_timed_over_all_parts(setup: Setup) -> None:
    with setup.open() as session:
        assert list(session.load_ms) == STEPS
        assert all(value >= 0 for value in session.load_ms.values())


def test_device_memory_is_told_by_use(setup: Setup) -> None:
    with setup.open() as session:
        io = sum(array.nbytes for array in (*session.inputs.values(), *session.outputs.values()))
        assert session.device_memory_bytes() == {
            "weights": 4 * 1000,  # as the side file says, where TensorRT does not
            "activations": 4096 + 4096,  # three contexts share one, the fourth is alone on its stream
            "io": io + 3 * 256,
        }


def test_layers_of_all_parts_are_told_in_order_and_by_part(setup: Setup) -> None:
    for at, engine in enumerate(setup.engines):
        engine.layer_ms = [("__myl_0", at + 1.0)]
        engine.information = json.dumps({"Layers": [{"Name": "__myl_0", "Metadata": f"m{at}"}, "plain"]})
    setup.engines[3].information = "not JSON"
    with setup.open() as session:
        session.inputs["pixel_values"].flat[0] = 3
        live = dict(setup.device.live)
        assert list(session.time_layers(runs=2, warmup=1).items()) == [
            ("__myl_0 [part 1]", 1.0),
            ("__myl_0 [part 2]", 2.0),
            ("__myl_0 [part 3]", 3.0),
            ("__myl_0 [part 4]", 4.0),
        ]
        layers = json.loads(session.describe_layers())["Layers"]
        assert layers[:3] == [
            {"Name": "__myl_0 [part 1]", "Metadata": "m0"},
            "plain [part 1]",
            {"Name": "__myl_0 [part 2]", "Metadata": "m1"},
        ]
        assert len(layers) == 6
        assert setup.device.live.keys() == live.keys()
        assert run_with(session, 1) == 20


def test_close_frees_everything_and_again_does_nothing(setup: Setup) -> None:
    session = setup.open()
    session.run_engine_ms()
    setup.engines.clear()
    setup.log.clear()
    session.close()
    gc.collect()
    assert not setup.device.live
    assert [line for line in setup.log if line.startswith("drop")] == (
        ["drop context"] * 4 + ["drop engine", "drop runtime"] * 4
    )
    session.close()
    with pytest.raises(EngineError, match="session is closed"):
        session.run()


def test_closing_while_it_runs_is_refused_and_frees_nothing(setup: Setup) -> None:
    session = setup.open()
    right = run_with(session, 3)
    with pytest.raises(EngineError, match="cannot be closed while it runs"):
        session.run(session.close)
    assert run_with(session, 3) == right
    inside, closed = threading.Event(), threading.Event()

    def work() -> None:
        inside.set()
        assert closed.wait(60)

    running = threading.Thread(target=session.run, args=(work,))
    running.start()
    assert inside.wait(60)
    with pytest.raises(EngineError, match="cannot be closed while it runs"):
        session.close()
    closed.set()
    running.join()
    assert run_with(session, 3) == right
    session.close()
    assert not setup.device.live


def no_tower(parts: list[Any]) -> list[Any]:
    return [part for part in parts if part.name != "tower"]


def other_stream(parts: list[Any]) -> list[Any]:
    return [parts[3], *parts[:3]]


def wider(parts: list[Any]) -> list[Any]:
    return [msgspec.structs.replace(parts[0], outputs=(tensor("seen", 2, 4),)), *parts[1:]]


def twice(parts: list[Any]) -> list[Any]:
    return [*parts, parts[0]]


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (no_tower, "part head needs towered float32[1, 4], which no part before makes"),
        (other_stream, "part head needs read float32[1, 4], which no part before makes"),
        (wider, "part text needs seen float32[1, 4], which was made as float32[2, 4]"),
        (twice, "part vision makes seen, which is there already"),
    ],
)
def test_a_side_file_whose_parts_make_no_engine_is_refused_before_any_is_deserialised(
    setup: Setup, change: Callable[[list[Any]], list[Any]], words: str
) -> None:
    record = setup.record
    setup.write(msgspec.structs.replace(record, parts=tuple(change(list(record.parts)))))
    with pytest.raises(EngineError) as caught:
        setup.open()
    assert words in caught.value.problem
    assert str(setup.plan) in caught.value.problem
    assert f"vla-build {setup.bundle.folder}" in caught.value.hint
    assert "deserialise" not in setup.log
    assert not setup.device.live


def truncate(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-1])


def flip(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[5] ^= 1
    path.write_bytes(data)


@pytest.mark.parametrize("at", range(4))
@pytest.mark.parametrize(
    ("fault", "words"),
    [
        (truncate, "is truncated"),
        (flip, "was changed since it was built"),
        (Path.unlink, "cannot be read: No such file or directory"),
    ],
)
def test_every_part_is_refused_as_a_plan_is(
    setup: Setup, at: int, fault: Callable[[Path], None], words: str
) -> None:
    path = setup.plan.with_name(setup.record.parts[at].file)
    fault(path)
    with pytest.raises(EngineError) as caught:
        setup.open()
    assert words in caught.value.problem
    assert path.name in caught.value.problem
    assert f"vla-build {setup.bundle.folder}" in caught.value.hint
    setup.engines.clear()
    gc.collect()
    assert not setup.device.live
    assert setup.log.count("drop runtime") == setup.log.count("create runtime")


@pytest.mark.parametrize("at", range(4))
def test_an_engine_of_other_tensors_than_its_side_file_says_is_refused(setup: Setup, at: int) -> None:
    setup.engines[at].outputs = [tensor("strange", dtype="float16")]
    with pytest.raises(EngineError) as caught:
        setup.open()
    assert f"The engine of part {setup.parts[at].name} does not fit the bundle" in caught.value.problem
    assert "strange is not in its side file" in caught.value.problem
    assert not setup.device.live


def test_two_sessions_share_the_engines_and_neither_disturbs_the_other(setup: Setup) -> None:
    with setup.open() as one:
        with setup.open() as two:
            assert setup.log.count("deserialise") == 4
            assert setup.log.count("create context") == 8
            assert [run_with(each, value) for each, value in ((one, 1), (two, 2), (one, 3))] == [20, 40, 60]
        setup.engines.clear()
        gc.collect()
        assert "drop engine" not in setup.log
        assert run_with(one, 2) == 40
    gc.collect()
    assert setup.log.count("drop engine") == 4
    assert not setup.device.live


def test_two_bundles_share_the_part_that_they_have_in_common(tmp_path: Path) -> None:
    setup, other = Setup(tmp_path / "one"), Setup(tmp_path / "two")
    other.device, other.trt, other.library = setup.device, setup.trt, setup.library
    parts = (*other.parts[:3], replace(other.parts[3], name="new-head"))
    other.plan = make_parts_plan(other.bundle, parts)
    fake_engines(setup.trt, setup.device, parts[3:])
    with setup.open() as one, other.open() as two:
        assert setup.log.count("deserialise") == 5
        assert [run_with(each, 1) for each in (one, two)] == [20, 20]


def test_a_damaged_copy_of_a_part_that_is_loaded_is_refused_all_the_same(setup: Setup) -> None:
    with setup.open():
        flip(setup.plan.with_name(setup.record.parts[1].file))
        with pytest.raises(EngineError, match="was changed since it was built"):
            setup.open()


def test_threads_that_load_at_once_load_each_engine_once(setup: Setup) -> None:
    sessions: list[TensorRtSession] = []
    start = threading.Barrier(4)

    def load() -> None:
        start.wait(5)
        sessions.append(setup.open(graph=False))

    threads = [threading.Thread(target=load) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(sessions) == 4
    assert setup.log.count("deserialise") == 4
    for session in sessions:
        session.close()
    assert not setup.device.live


def test_rtx_keeps_the_kernels_of_each_part_beside_it(tmp_path: Path) -> None:
    setup = Setup(tmp_path / "bundle", backend="tensorrt-rtx")
    with setup.open() as session:
        assert run_with(session, 1) == 20
    caches = {path.name for path in setup.plan.parent.glob("*.runtime-cache")}
    assert caches == {f"{part.file}.runtime-cache" for part in setup.record.parts}


def test_a_forked_child_is_refused_and_frees_nothing(setup: Setup) -> None:
    session = setup.open()
    setup.log.clear()
    child = os.fork()
    if child == 0:
        status = 1
        try:
            session.close()
            try:
                session.run()
            except EngineError as error:
                status = int("was forked from that" not in error.problem)
            del session
            setup.engines.clear()
            gc.collect()
            status += len(setup.log)
        finally:
            os._exit(status)
    assert os.waitpid(child, 0)[1] == 0
    assert run_with(session, 3) == 60
    session.close()
