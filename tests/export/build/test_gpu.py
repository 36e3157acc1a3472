"""On a GPU with TensorRT: plans are built, checked, refused, and run for long. Needs no torch."""

from __future__ import annotations

import hashlib
import json
import shutil
import threading
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from plan_bundles import write_bundle

from vla_edge.bench.proof.refusals import FAULTS, refusals
from vla_edge.export.build.build import build_plan, verify_existing
from vla_edge.export.build.options import BuildOptions
from vla_edge.export.build.progress import Silent
from vla_edge.export.build.stages import measure_stages
from vla_edge.runtime.bundle.bundle import Bundle, load_golden
from vla_edge.runtime.cuda.opening import open_device
from vla_edge.runtime.engines.tensorrt.library import load_library
from vla_edge.runtime.engines.tensorrt.plan import read_record
from vla_edge.runtime.engines.tensorrt.plan_header import read_header
from vla_edge.runtime.engines.tensorrt.plan_names import record_path
from vla_edge.runtime.engines.tensorrt.session import TensorRtOptions, TensorRtSession
from vla_edge.runtime.errors import EngineError

pytestmark = pytest.mark.gpu
CALLS = 1000


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    """A bundle with its plan for this GPU. Do not write to it."""
    bundle = write_bundle(tmp_path_factory.mktemp("gpu") / "bundle")
    build_plan(bundle)
    return bundle


def feed(session: TensorRtSession, bundle: Bundle, at: int = 0) -> np.ndarray:
    golden = load_golden(bundle)
    for name, array in session.inputs.items():
        array[...] = golden[name][at]
    session.run()
    return session.outputs["actions"].copy()


def plan_of(bundle: Bundle) -> Path:
    return next((bundle.folder / "plans").glob("*.plan"))


def test_a_built_plan_is_checked_and_described(built: Bundle) -> None:
    record = read_record(plan_of(built), built.folder)
    assert record.verification.passed
    assert len(record.verification.samples) == 8
    assert record.contents.source == "engine"
    assert record.contents.dtypes["float16"] > 0
    assert record.parts[0].build.timing_cache == "new"
    header = read_header(plan_of(built).read_bytes()[:64])
    assert header is not None
    assert header.is_version(load_library().version)


def test_the_second_build_reuses_the_timing_cache(tmp_path: Path) -> None:
    bundle = write_bundle(tmp_path / "bundle")
    build_plan(bundle)
    assert build_plan(bundle, BuildOptions(force=True)).record.parts[0].build.timing_cache == "reused"
    assert verify_existing(bundle).record.verification.passed


def test_the_stages_are_close_to_their_references(built: Bundle) -> None:
    errors = measure_stages(built, BuildOptions(), Silent())
    assert list(errors) == ["vision", "text", "action"]
    assert all(error.relative_l2 < 0.01 for error in errors.values())


@pytest.mark.parametrize("memory", ["cuda-bindings", "pycuda"])
def test_graph_and_enqueue_give_the_same_bits(built: Bundle, memory: str) -> None:
    if memory == "pycuda":
        pytest.importorskip("pycuda")
    results = []
    for graph in (True, False):
        with TensorRtSession(built, TensorRtOptions(graph=graph, memory=memory)) as session:  # type: ignore[arg-type]
            assert ("CUDA graph" if graph else "enqueue") in session.identity.provider
            results.append(feed(session, built))
            assert 0 < session.run_engine_ms() < 50
    assert np.array_equal(*results)


def test_long_runs_neither_differ_nor_grow(built: Bundle) -> None:
    with TensorRtSession(built) as session:
        first = feed(session, built)
        free = session.device.free_bytes()
        for _ in range(CALLS):
            session.run()
            assert np.array_equal(session.outputs["actions"], first)
        assert abs(session.device.free_bytes() - free) < 1 << 20


def test_two_sessions_do_not_disturb_each_other(built: Bundle) -> None:
    with TensorRtSession(built) as one, TensorRtSession(built) as two:
        wanted = [feed(one, built, 0), feed(two, built, 1)]
        assert not np.array_equal(*wanted)
        for _ in range(20):
            one.run()
            two.run()
        assert np.array_equal(one.outputs["actions"], wanted[0])
        assert np.array_equal(two.outputs["actions"], wanted[1])


def test_sessions_run_at_the_same_time_in_threads(built: Bundle) -> None:
    sessions = [TensorRtSession(built) for _ in range(3)]
    wanted = [feed(session, built, at) for at, session in enumerate(sessions)]
    wrong: list[int] = []

    def work(at: int) -> None:
        for _ in range(100):
            sessions[at].run()
            if not np.array_equal(sessions[at].outputs["actions"], wanted[at]):
                wrong.append(at)

    threads = [threading.Thread(target=work, args=(at,)) for at in range(len(sessions))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong
    for session in sessions:
        session.close()


def test_a_stream_of_the_caller_is_used(built: Bundle) -> None:
    device = open_device()
    stream = device.create_stream()
    with TensorRtSession(built) as own, TensorRtSession(built, TensorRtOptions(stream=stream)) as theirs:
        assert np.array_equal(feed(own, built), feed(theirs, built))
    device.activate()
    device.synchronize(stream)
    device.destroy_stream(stream)
    device.close()


def test_opening_and_closing_gives_the_memory_back(built: Bundle) -> None:
    device = open_device()
    TensorRtSession(built).close()
    free = device.free_bytes()
    for _ in range(5):
        TensorRtSession(built).close()
    device.activate()
    assert abs(device.free_bytes() - free) < 8 << 20
    device.close()


def test_damaged_plans_are_refused_and_the_process_lives(tmp_path: Path) -> None:
    bundle = write_bundle(tmp_path / "bundle")
    build_plan(bundle)
    said = refusals(bundle.folder)
    assert list(said) == list(FAULTS)
    assert all(said.values())


def test_a_plan_that_tensorrt_itself_refuses_is_an_error_with_its_words(
    built: Bundle, tmp_path: Path
) -> None:
    """A side file that matches a damaged plan: the last line of defence is TensorRT's own."""
    folder = tmp_path / "bundle"
    shutil.copytree(built.folder, folder)
    plan = plan_of(replace(built, folder=folder))
    data = b"what" + plan.read_bytes()[4:]
    plan.write_bytes(data)
    record = json.loads(record_path(plan).read_text())
    digest = hashlib.sha256(data).hexdigest()
    record["parts"][0].update(sha256=digest, chunk_sha256=[digest])
    record_path(plan).write_text(json.dumps(record))
    with pytest.raises(EngineError, match="refuses"):
        TensorRtSession(replace(built, folder=folder))
