"""The TensorRT session: order of calls, errors, threads, close. Engine and GPU are fakes of host memory."""

from __future__ import annotations

import gc
import logging
import os
import threading
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from fake_tensorrt import FakeDevice, FakeTensorRt, fake_library, run_with
from plan_bundles import make_plan, small_bundle

from vla_edge.runtime.bundle.bundle import Bundle
from vla_edge.runtime.bundle.manifest import TensorSpec
from vla_edge.runtime.engines.tensorrt.plan import PlanFile, read_record
from vla_edge.runtime.engines.tensorrt.plan_names import record_path
from vla_edge.runtime.engines.tensorrt.session import TensorRtOptions, TensorRtSession
from vla_edge.runtime.errors import EngineError, ImageError, InputError
from vla_edge.runtime.files.cache_file import CacheFile


class Setup:
    """A bundle with a plan for the fake machine, and the fakes."""

    def __init__(self, folder: Path, backend: str = "tensorrt") -> None:
        self.bundle: Bundle = small_bundle(folder)
        self.log: list[str] = []
        self.device = FakeDevice(self.log)
        self.trt = FakeTensorRt(self.device, self.bundle.manifest, rtx=backend == "tensorrt-rtx")
        self.engine = self.trt.engine
        self.library = fake_library(self.trt, backend)
        self.plan = make_plan(self.bundle, backend=backend)

    def open(self, **options: Any) -> TensorRtSession:
        return TensorRtSession(
            self.bundle,
            TensorRtOptions(backend=self.library.backend, **options),
            library=self.library,
            device=self.device,
        )


@pytest.fixture
def setup(tmp_path: Path) -> Setup:
    return Setup(tmp_path / "bundle")


def test_a_plan_whose_record_was_read_is_the_one_that_runs_or_none_does(setup: Setup) -> None:
    """Though another build puts its side file, or its plan, in the place meanwhile."""
    plan = PlanFile(setup.plan, read_record(setup.plan, setup.bundle.folder), setup.bundle.folder)
    record_path(setup.plan).write_text("of another build")
    with setup.open(plan=plan) as session:
        assert session.plan is plan
    setup.plan.write_bytes(setup.plan.read_bytes()[:-1] + b"!")
    with pytest.raises(EngineError, match="was changed since it was built"):
        setup.open(plan=plan)


def test_a_run_is_one_graph_launch_and_one_wait(setup: Setup) -> None:
    with setup.open() as session:
        setup.log.clear()
        assert run_with(session, 3) == 3
        assert setup.log == ["launch graph", "synchronize"]
        assert session.identity.provider == "tensorrt-10.6.0-sm87.plan, CUDA graph"
        assert session.identity.device == "cuda:0 Fake GPU (sm87)"


def test_work_meanwhile_is_done_between_launch_and_wait(setup: Setup) -> None:
    with setup.open() as session:
        setup.log.clear()
        session.run(lambda: setup.log.append("meanwhile"))
        assert setup.log == ["launch graph", "meanwhile", "synchronize"]


def test_what_is_raised_meanwhile_comes_after_the_wait_and_the_session_goes_on(setup: Setup) -> None:
    def refuse() -> None:
        raise ImageError("no", "hint")

    with setup.open() as session:
        setup.log.clear()
        with pytest.raises(ImageError):
            session.run(refuse)
        assert setup.log == ["launch graph", "synchronize"]
        assert run_with(session, 3) == 3


def test_the_engine_runs_once_before_it_is_captured_with_both_copies(setup: Setup) -> None:
    setup.open().close()
    start = setup.log.index("copy in")
    assert setup.log[start : start + 9] == [
        "copy in", "engine", "copy out", "synchronize",
        "capture copy in", "capture engine", "capture copy out", "create graph", "launch graph",
    ]  # fmt: skip


def test_without_a_graph_every_run_queues_the_engine(setup: Setup) -> None:
    with setup.open(graph=False) as session:
        setup.log.clear()
        assert run_with(session, 5) == 5
        assert setup.log == ["copy in", "engine", "copy out", "synchronize"]
        assert session.identity.provider.endswith("enqueue (asked for)")


def test_a_failed_capture_is_announced_and_the_session_runs_without(
    setup: Setup, caplog: pytest.LogCaptureFixture
) -> None:
    setup.device.capture_error = EngineError("capture was invalidated.", "")
    with caplog.at_level(logging.WARNING), setup.open() as session:
        assert run_with(session, 2) == 2
        assert session.identity.provider.endswith("enqueue (no CUDA graph: capture was invalidated.)")
    assert "no CUDA graph" in caplog.text


def test_the_engine_alone_runs_without_copies(setup: Setup) -> None:
    with setup.open() as session:
        assert session.run_engine_ms() == 1.5
        setup.log.clear()
        assert session.run_engine_ms() == 1.5
        assert setup.log == ["record event", "launch graph", "record event"]
        assert run_with(session, 4) == 4


def test_the_engine_alone_is_captured_again_after_a_capture_that_failed(setup: Setup) -> None:
    with setup.open() as session:
        setup.device.capture_error = EngineError("capture was invalidated.", "")
        with pytest.raises(EngineError, match="capture was invalidated"):
            session.run_engine_ms()
        setup.device.capture_error = None
        session.run_engine_ms()
        setup.log.clear()
        session.run_engine_ms()
        assert setup.log == ["record event", "launch graph", "record event"]


def test_layers_are_timed_in_a_context_of_their_own_that_is_gone_afterwards(setup: Setup) -> None:
    setup.engine.layer_ms = [("first", 0.5), ("second", 0.25), ("second", 0.25)]
    with setup.open() as session:
        session.inputs["pixel_values"].flat[0] = 3
        live = dict(setup.device.live)
        setup.log.clear()
        assert session.time_layers(runs=4, warmup=2) == {"first": 0.5, "second": 0.5}
        assert setup.log.count("engine") == 1 + 2 + 4  # the first one makes TensorRT allocate
        assert setup.log[-1] == "drop context"
        assert setup.log.count("launch graph") == 0
        assert setup.device.live.keys() == live.keys()
        setup.log.clear()
        assert run_with(session, 4) == 4
        assert setup.log == ["launch graph", "synchronize"]


def test_a_profiler_that_is_told_nothing_is_no_profile(setup: Setup) -> None:
    with setup.open() as session, pytest.raises(EngineError, match="profiler reported no layer"):
        session.time_layers(runs=1)


def test_rtx_times_layers_with_the_kernels_that_it_has_compiled(tmp_path: Path) -> None:
    setup = Setup(tmp_path / "bundle", backend="tensorrt-rtx")
    setup.engine.layer_ms = [("first", 0.5)]
    with setup.open() as session:
        cache = setup.engine.config.cache
        assert session.time_layers(runs=1) == {"first": 0.5}
        assert setup.engine.config.cache is cache


def test_a_stream_of_the_caller_is_used_and_left_alone(setup: Setup) -> None:
    stream = setup.device.create_stream()
    setup.engine.keep_context = True
    session = setup.open(stream=stream)
    assert setup.engine.last_context.streams == {stream}
    setup.engine.last_context = None
    session.close()
    assert list(setup.device.live) == [stream]


def test_the_default_stream_is_refused(setup: Setup) -> None:
    with pytest.raises(InputError, match="default CUDA stream cannot be captured"):
        setup.open(stream=0)


def test_close_frees_graph_buffers_stream_context_engine_runtime_in_this_order(setup: Setup) -> None:
    session = setup.open()
    session.run_engine_ms()
    setup.engine = None
    setup.log.clear()
    session.close()
    gc.collect()
    assert setup.log == [
        "synchronize", "destroy graph", "destroy event", "destroy event", "destroy graph",
        "destroy memory", "destroy pin", "destroy memory", "destroy pin", "destroy stream",
        "drop context", "drop engine", "drop runtime",
    ]  # fmt: skip
    assert not setup.device.live
    session.close()
    assert setup.log[-1] == "drop runtime"


def test_a_closed_session_says_so_and_its_arrays_stay_readable(setup: Setup) -> None:
    session = setup.open()
    assert run_with(session, 3) == 3
    kept = session.outputs["actions"]
    session.close()
    assert kept.flat[0] == 3
    assert not session.inputs
    calls = (session.run, session.run_engine_ms, session.describe_layers, session.device_memory_bytes)
    for call in (*calls, lambda: session.time_layers(1)):
        with pytest.raises(EngineError, match="session is closed"):
            call()


def test_a_failed_enqueue_gives_tensorrts_words(setup: Setup) -> None:
    setup.engine.keep_context = True
    with setup.open(graph=False) as session:
        setup.engine.last_context.fails = True
        for _ in range(2):  # the first failure's words are not told again with the second's
            with pytest.raises(EngineError) as caught:
                session.run()
            assert caught.value.problem == (
                "TensorRT did not run the engine: the fake engine was told to fail."
            )
        setup.engine.last_context = None


def test_an_engine_that_fails_its_first_run_leaves_nothing_behind(setup: Setup) -> None:
    setup.engine.create_execution_context = lambda config=None: Broken(setup.engine)  # type: ignore[method-assign]
    with pytest.raises(EngineError, match="did not run the engine"):
        setup.open()
    assert not setup.device.live


class Broken:
    def __init__(self, engine: Any) -> None:
        self.engine = engine

    def set_tensor_address(self, name: str, address: int) -> bool:
        return True

    def execute_async_v3(self, stream: int) -> bool:
        return False


def test_a_refused_plan_gives_tensorrts_words_and_the_command(setup: Setup) -> None:
    setup.trt.refuses = True
    with pytest.raises(EngineError) as caught:
        setup.open()
    assert "TensorRT 10.6.0 refuses" in caught.value.problem
    assert "Serialization assertion failed" in caught.value.problem
    assert f"vla-build {setup.bundle.folder}" in caught.value.hint
    assert not setup.device.live


def test_an_engine_of_other_tensors_is_refused_with_every_difference(setup: Setup) -> None:
    setup.engine.inputs = setup.engine.inputs[:-1]
    setup.engine.outputs = [TensorSpec(name="extra", dtype="float16", shape=(2,))]
    with pytest.raises(EngineError) as caught:
        setup.open()
    for words in ("actions is missing", "attention_mask is missing", "extra is not in the manifest"):
        assert words in caught.value.problem


def test_tensorrt_sees_the_bytes_of_the_plan(setup: Setup) -> None:
    with setup.open():
        assert setup.trt.seen == setup.plan.read_bytes()


def test_loading_is_timed_step_by_step(setup: Setup) -> None:
    with setup.open() as session:
        steps = ["import", "device", "read and verify", "deserialise", "context", "warm-up and capture"]
        assert list(session.load_ms) == steps
        assert all(value >= 0 for value in session.load_ms.values())
        assert session.device_memory_bytes()["activations"] == 4096


def test_two_threads_at_once_are_refused(setup: Setup) -> None:
    with setup.open() as session:
        inside, leave = threading.Event(), threading.Event()

        def wait(stream: int) -> None:
            inside.set()
            leave.wait(5)

        setup.device.synchronize = wait  # type: ignore[method-assign]
        other = threading.Thread(target=session.run)
        other.start()
        inside.wait(5)
        with pytest.raises(EngineError, match="Two threads use one session"):
            session.run()
        leave.set()
        other.join()
        session.run()


def test_another_thread_may_take_over(setup: Setup) -> None:
    with setup.open() as session:
        before = setup.device.activations
        results: list[float] = []
        thread = threading.Thread(target=lambda: results.append(run_with(session, 7)))
        thread.start()
        thread.join()
        assert results == [7]
        assert setup.device.activations > before  # the context was made current in that thread


def test_several_sessions_live_in_one_process(tmp_path: Path) -> None:
    setups = [Setup(tmp_path / "one"), Setup(tmp_path / "two")]
    sessions = [setup.open() for setup in setups]
    assert [run_with(session, value) for session, value in zip(sessions, (1, 2), strict=True)] == [1, 2]
    sessions[0].close()
    assert run_with(sessions[1], 3) == 3
    sessions[1].close()


def test_rtx_compiles_eagerly_and_keeps_its_kernels_beside_the_plan(tmp_path: Path) -> None:
    setup = Setup(tmp_path / "bundle", backend="tensorrt-rtx")
    config = setup.engine.config
    with setup.open():
        assert config.dynamic_shapes_kernel_specialization_strategy == "EAGER"
    assert rtx_cache(setup).read() == b"kernels of this GPU"


def rtx_cache(setup: Setup) -> CacheFile:
    path = setup.plan.with_name(setup.plan.name + ".runtime-cache")
    return CacheFile(path, "runtime cache", f"tensorrt-rtx {setup.library.version}")


def test_an_rtx_cache_of_another_gpu_is_replaced(tmp_path: Path) -> None:
    setup = Setup(tmp_path / "bundle", backend="tensorrt-rtx")
    cache = rtx_cache(setup)
    cache.write(b"kernels of another GPU")
    with setup.open():
        assert cache.read() == b"kernels of this GPU"


def test_an_rtx_cache_that_changed_is_not_given_to_tensorrt(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    setup = Setup(tmp_path / "bundle", backend="tensorrt-rtx")
    cache = rtx_cache(setup)
    cache.write(b"kernels of this GPU")
    assert cache.path is not None
    data = bytearray(cache.path.read_bytes())
    data[-1] ^= 1
    cache.path.write_bytes(data)
    with setup.open():
        assert cache.read() == b"kernels of this GPU"
    assert f"the runtime cache {cache.path} is damaged, or not of tensorrt-rtx" in caplog.text


def test_an_rtx_cache_that_cannot_be_read_costs_compile_time_and_nothing_else(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    setup = Setup(tmp_path / "bundle", backend="tensorrt-rtx")
    cache = setup.plan.with_name(setup.plan.name + ".runtime-cache")
    cache.mkdir()
    with setup.open() as session:
        assert run_with(session, 3) == 3
    assert f"the runtime cache {cache} cannot be read" in caplog.text


def test_a_good_rtx_cache_is_not_rewritten(tmp_path: Path) -> None:
    setup = Setup(tmp_path / "bundle", backend="tensorrt-rtx")
    rtx_cache(setup).write(b"kernels of this GPU")
    cache = setup.plan.with_name(setup.plan.name + ".runtime-cache")
    before = cache.stat().st_ino
    with setup.open():
        assert cache.stat().st_ino == before


@pytest.mark.parametrize("graph", [True, False])
def test_repeated_runs_make_nothing_new(setup: Setup, graph: bool) -> None:
    with setup.open(graph=graph) as session:
        run_with(session, 1)
        live = dict(setup.device.live)
        arrays = [session.inputs["pixel_values"], session.outputs["actions"]]
        results = {run_with(session, 1) for _ in range(100)}
        assert results == {1.0}
        assert setup.device.live.keys() == live.keys()
        assert session.inputs["pixel_values"] is arrays[0]
        assert np.shares_memory(session.outputs["actions"], arrays[1])


def test_a_forked_child_is_refused_and_frees_nothing(setup: Setup) -> None:
    session = setup.open()
    setup.log.clear()
    child = os.fork()
    if child == 0:  # what pytest itself would do at this process's end is none of its business
        status = 1
        try:
            session.close()
            try:
                session.run()
            except EngineError as error:
                status = int("was forked from that" not in error.problem)
            del session
            gc.collect()
            status += len(setup.log)
        finally:
            os._exit(status)
    assert os.waitpid(child, 0)[1] == 0
    assert run_with(session, 3) == 3
    session.close()
