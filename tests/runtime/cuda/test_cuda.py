"""Device memory, streams and graphs through the real cuda-python, on a driver library without a GPU."""

from __future__ import annotations

import os
import subprocess
import sys
import textwrap
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from fake_driver import build_fake_driver
from fake_tensorrt import FakeDevice

from vla_edge.runtime.bundle.manifest import TensorSpec
from vla_edge.runtime.cuda.bindings import import_driver
from vla_edge.runtime.cuda.device import check_index
from vla_edge.runtime.cuda.errors import cuda_error
from vla_edge.runtime.cuda.opening import open_device
from vla_edge.runtime.cuda.resources import ALIGNMENT_BYTES, Arena, Graph, Stopwatch
from vla_edge.runtime.cuda.system import driver_text
from vla_edge.runtime.errors import EngineError, InputError

SPECS = (
    TensorSpec(name="pixels", dtype="float32", shape=(1, 3, 5)),
    TensorSpec(name="ids", dtype="int32", shape=(1, 7)),
    TensorSpec(name="half", dtype="float16", shape=(3,)),
)


@pytest.fixture(scope="session")
def fake_driver(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a libcuda.so.1 of host memory."""
    return build_fake_driver(tmp_path_factory.mktemp("driver"))


@pytest.fixture
def on_fake_driver(fake_driver: Path) -> Callable[[str], str]:
    """Runs Python lines in a process that finds the fake driver; gives what they print."""

    def run(lines: str) -> str:
        start = "import ctypes, numpy as np\nfrom vla_edge.runtime.cuda.opening import open_device\n"
        start += "from vla_edge.runtime.cuda.resources import Graph, Arena, Stopwatch\n"
        start += "from vla_edge.runtime.errors import EngineError\n"
        start += "from vla_edge.runtime.bundle.manifest import TensorSpec\n"
        start += "fake = ctypes.CDLL('libcuda.so.1')\n"
        start += "kinds = (b'memory', b'pins', b'streams', b'graphs', b'events', b'contexts')\n"
        start += "live = lambda: [fake.fake_live(kind) for kind in kinds]\n"
        done = subprocess.run(
            [sys.executable, "-c", start + textwrap.dedent(lines)],
            env={**os.environ, "LD_LIBRARY_PATH": str(fake_driver)},
            capture_output=True,
            text=True,
            timeout=60,
        )
        assert done.returncode == 0, done.stderr
        return done.stdout

    return run


def test_cuda_python_copies_captures_replays_and_frees(on_fake_driver: Callable[[str], str]) -> None:
    printed = on_fake_driver("""
        device = open_device(0, "cuda-bindings")
        print(device.info, device.free_bytes() >> 30)
        stream = device.create_stream()
        arena = Arena(device, [TensorSpec(name="a", dtype="float32", shape=(2, 3))])
        def there_and_back():
            arena.upload(stream)
            arena.download(stream)
        there_and_back()
        device.synchronize(stream)
        graph = Graph(device, stream, there_and_back)
        arena.arrays["a"][...] = 4
        graph.launch(stream)
        device.synchronize(stream)
        print(arena.arrays["a"].sum())
        watch = Stopwatch(device)
        watch.start(stream)
        print(watch.stop_ms(stream), live())
        for resource in (watch, graph, arena, arena):
            resource.close()
        device.destroy_stream(stream)
        device.close()
        device.close()
        print(live())
    """)
    assert printed.splitlines() == [
        "cuda:0 Fake GPU (sm87) 512",
        "24.0",
        "1.5 [1, 1, 1, 1, 2, 1]",
        "[0, 0, 0, 0, 0, 0]",
    ]


def test_a_second_stream_joins_the_capture_by_events(on_fake_driver: Callable[[str], str]) -> None:
    printed = on_fake_driver("""
        device = open_device(0, "cuda-bindings")
        main, side = device.create_stream(), device.create_stream()
        forked, joined = device.create_event(), device.create_event()
        arena = Arena(device, [TensorSpec(name="a", dtype="float32", shape=(2, 3))])
        def work(last):
            device.record_event(forked, main)
            device.wait_event(side, forked)
            arena.upload(side)
            device.record_event(joined, side)
            last()
        graph = Graph(device, main, lambda: work(lambda: device.wait_event(main, joined)))
        graph.launch(main)
        try:
            Graph(device, main, lambda: work(lambda: None))
        except EngineError as error:
            print(error.problem)
        device.record_event(forked, main)
        device.wait_event(side, forked)
        print(live())
    """)
    unjoined, left = printed.splitlines()
    assert "cuStreamEndCapture failed: CUDA_ERROR_STREAM_CAPTURE_UNJOINED" in unjoined
    assert left == "[1, 1, 2, 1, 2, 1]"


def test_tensors_of_the_device_lie_in_one_block(on_fake_driver: Callable[[str], str]) -> None:
    printed = on_fake_driver("""
        from vla_edge.runtime.cuda.resources import DeviceTensors
        device = open_device(0, "cuda-bindings")
        none = DeviceTensors(device, [])
        two = DeviceTensors(device, [TensorSpec(name=n, dtype="float16", shape=(3,)) for n in "ab"])
        print(none.size_bytes, two.size_bytes, two.addresses["b"] - two.addresses["a"], live())
        for tensors in (none, two, two):
            tensors.close()
        print(live())
    """)
    assert printed.splitlines() == ["0 512 256 [1, 0, 0, 0, 0, 1]", "[0, 0, 0, 0, 0, 1]"]


def test_cuda_pythons_errors_carry_the_drivers_words_and_a_hint(on_fake_driver: Callable[[str], str]) -> None:
    printed = on_fake_driver("""
        device = open_device(0, "cuda-bindings")
        try:
            device.allocate(1 << 60)
        except EngineError as error:
            print(error)
        device.close()
        try:
            device.activate()
        except EngineError as error:
            print(error.problem)
    """)
    assert "CUDA's cuMemAlloc failed: CUDA_ERROR_OUT_OF_MEMORY (out of memory)." in printed
    assert "Free device memory" in printed
    assert "The CUDA device is closed." in printed


def test_a_capture_of_pageable_memory_fails_and_leaves_the_stream_usable(
    on_fake_driver: Callable[[str], str],
) -> None:
    printed = on_fake_driver("""
        device = open_device(0, "cuda-bindings")
        stream, memory = device.create_stream(), device.allocate(64)
        try:
            Graph(device, stream, lambda: device.copy_to_device(memory, np.zeros(4), stream))
        except EngineError as error:
            print(error)
        device.synchronize(stream)
        print(live())
    """)
    assert "CUDA_ERROR_STREAM_CAPTURE_UNSUPPORTED" in printed
    assert "graph=False" in printed
    assert "[1, 0, 1, 0, 0, 1]" in printed


def test_a_capture_that_cuda_invalidates_frees_no_graph_and_the_next_one_works(
    on_fake_driver: Callable[[str], str],
) -> None:
    printed = on_fake_driver("""
        device = open_device(0, "cuda-bindings")
        stream = device.create_stream()
        def allocate():
            try:
                device.allocate(64)
            except EngineError:
                pass
        for work in (lambda: device.allocate(64), allocate):
            try:
                Graph(device, stream, work)
            except EngineError as error:
                print(error.problem)
        Graph(device, stream, lambda: None).launch(stream)
        device.synchronize(stream)
        print(live())
    """)
    refused, invalidated, left = printed.splitlines()
    assert "cuMemAlloc failed: CUDA_ERROR_STREAM_CAPTURE_UNSUPPORTED" in refused
    assert "cuStreamEndCapture failed: CUDA_ERROR_STREAM_CAPTURE_INVALIDATED" in invalidated
    assert left == "[0, 0, 1, 1, 0, 1]"


def test_the_driver_library_does_the_same_for_pycuda(on_fake_driver: Callable[[str], str]) -> None:
    printed = on_fake_driver("""
        from vla_edge.runtime.cuda.bindings import BindingsDevice
        from vla_edge.runtime.cuda.libcuda import LibCuda
        lib, device = LibCuda(), BindingsDevice(0)
        stream, memory = device.create_stream(), device.allocate(64)
        host = np.zeros(16, np.float32)
        lib.call("cuMemHostRegister_v2", host.ctypes.data, host.nbytes, 0)
        lib.begin_capture(stream)
        lib.call("cuMemcpyHtoDAsync_v2", memory, host.ctypes.data, host.nbytes, stream)
        lib.call("cuMemcpyDtoHAsync_v2", host.ctypes.data, memory, host.nbytes, stream)
        graph = lib.end_capture(stream)
        host[...] = 2
        lib.call("cuGraphLaunch", graph, stream)
        lib.call("cuGraphExecDestroy", graph)
        events = lib.create_event(), lib.create_event()
        print(host.sum(), lib.elapsed_ms(*events), live())
        side = device.create_stream()
        lib.begin_capture(stream)
        for event, on, waits in ((events[0], stream, side), (events[1], side, stream)):
            lib.call("cuEventRecord", event, on)
            lib.call("cuStreamWaitEvent", waits, event, 0)
        lib.call("cuGraphExecDestroy", lib.end_capture(stream))
        lib.begin_capture(stream)
        lib.abandon_capture(stream)
        lib.abandon_capture(stream)
        try:
            lib.end_capture(stream)
        except EngineError as error:
            print(error.problem)
    """)
    assert printed.splitlines()[0] == "32.0 1.5 [1, 1, 1, 0, 2, 1]"
    assert "CUDA's cuStreamEndCapture failed: CUDA_ERROR_STREAM_CAPTURE_INVALIDATED" in printed


def test_another_thread_runs_while_cuda_python_waits_for_a_hanging_gpu(
    on_fake_driver: Callable[[str], str],
) -> None:
    printed = on_fake_driver("""
        import threading
        device = open_device(0, "cuda-bindings")
        stream = device.create_stream()
        fake.fake_hang(1)
        threading.Timer(0.01, fake.fake_hang, (0,)).start()
        device.synchronize(stream)
        print("let go by the other thread")
    """)
    assert printed == "let go by the other thread\n"


@pytest.mark.parametrize("version", ["12.6.2", "12.8.0", "12.9.0", "12.9.0.post1"])
def test_a_cuda_python_that_stops_every_thread_while_it_waits_is_refused(
    monkeypatch: pytest.MonkeyPatch, version: str
) -> None:
    monkeypatch.setattr("cuda.bindings.__version__", version)
    with pytest.raises(
        EngineError, match=f"cuda-bindings {version} is too old: it keeps Python's lock"
    ) as caught:
        import_driver()
    assert "pip install 'cuda-bindings>=12.9.1'" in caught.value.hint


@pytest.mark.parametrize("version", ["12.9.1", "12.10.0", "13.0.0", "13.1.0b1"])
def test_a_cuda_python_that_lets_threads_run_while_it_waits_is_taken(
    monkeypatch: pytest.MonkeyPatch, version: str
) -> None:
    monkeypatch.setattr("cuda.bindings.__version__", version)
    assert import_driver().__name__ == "cuda.bindings.driver"


def test_a_missing_cuda_python_is_told_with_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "cuda.bindings", None)
    with pytest.raises(EngineError, match="cuda-bindings is not installed") as caught:
        import_driver()
    assert "<13" in caught.value.hint


def test_a_machine_without_a_driver_says_so_in_our_words_alone() -> None:
    from vla_edge.runtime.cuda.errors import no_driver

    found = no_driver()
    assert found.problem == "There is no NVIDIA driver on this machine."
    assert "--gpus all" in found.hint


@pytest.mark.parametrize("raised", [RuntimeError('"cuda" is an NVIDIA driver library'), OSError("libcuda")])
def test_what_cuda_bindings_says_of_a_missing_driver_is_not_repeated(raised: Exception) -> None:
    from vla_edge.runtime.cuda.bindings import BindingsDevice

    def fail(*_: object) -> None:
        raise raised

    device = object.__new__(BindingsDevice)
    device._call = fail  # type: ignore[method-assign]
    with pytest.raises(EngineError) as caught:
        device._initialise()
    assert caught.value.problem == "There is no NVIDIA driver on this machine."


def test_an_unknown_implementation_is_refused() -> None:
    with pytest.raises(InputError, match="'cupy'"):
        open_device(0, "cupy")  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("index", "count", "words"), [(0, 0, "finds no GPU"), (2, 2, "no GPU 2"), (-1, 2, "no GPU -1")]
)
def test_a_gpu_that_is_not_there_is_refused(index: int, count: int, words: str) -> None:
    with pytest.raises(EngineError, match=words):
        check_index(index, count)


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("CUDA_ERROR_LAUNCH_FAILED", "restart the process"),
        ("CUDA_ERROR_STREAM_CAPTURE_ISOLATION", "graph=False"),
        ("CUDA_ERROR_SOMETHING_NEW", "CUresult"),
    ],
)
def test_every_error_has_a_hint(name: str, words: str) -> None:
    assert words in cuda_error("cuAny", name, "text").hint


def test_tensors_of_a_slab_are_aligned_apart_and_typed() -> None:
    device = FakeDevice([])
    arena = Arena(device, SPECS)
    assert {name: (array.dtype.name, array.shape) for name, array in arena.arrays.items()} == {
        "pixels": ("float32", (1, 3, 5)),
        "ids": ("int32", (1, 7)),
        "half": ("float16", (3,)),
    }
    base = min(arena.addresses.values())
    assert [address - base for address in arena.addresses.values()] == [
        0,
        ALIGNMENT_BYTES,
        2 * ALIGNMENT_BYTES,
    ]
    for array in arena.arrays.values():
        array[...] = 1
    assert all(np.all(array == 1) for array in arena.arrays.values())
    arena.close()
    assert not device.live


def test_a_slab_that_gets_no_device_memory_is_unpinned() -> None:
    device = FakeDevice([])

    def refuse(size_bytes: int) -> int:
        raise EngineError("no memory", "")

    device.allocate = refuse  # type: ignore[method-assign]
    with pytest.raises(EngineError, match="no memory"):
        Arena(device, SPECS)
    assert not device.live


def test_work_that_fails_inside_a_capture_ends_it() -> None:
    device = FakeDevice([])

    def fail() -> None:
        raise ValueError("in the middle")

    with pytest.raises(ValueError, match="in the middle"):
        Graph(device, 1, fail)
    assert device.log == ["abandon capture"]


def test_a_closed_graph_is_not_launched_in_silence() -> None:
    device = FakeDevice([])
    graph = Graph(device, 1, lambda: None)
    graph.close()
    with pytest.raises(EngineError, match="CUDA graph is closed"):
        graph.launch(1)


def test_a_gpu_is_found_on_its_bus_without_a_context(on_fake_driver: Callable[[str], str]) -> None:
    printed = on_fake_driver("""
        from vla_edge.runtime.cuda.libcuda import LibCuda
        print(LibCuda().pci_bus_id(0), live())
        try:
            LibCuda().pci_bus_id(1)
        except EngineError as error:
            print(error)
        """)
    found, refused = printed.splitlines()[:2]
    assert found == "0000:40:00.0 [0, 0, 0, 0, 0, 0]"
    assert "cuDeviceGet" in refused


def test_a_stopwatch_frees_its_events_once() -> None:
    device = FakeDevice([])
    watch = Stopwatch(device)
    watch.close()
    watch.close()
    assert not device.live


def test_the_drivers_version_is_told_as_cuda_counts_it() -> None:
    assert "CUDA 12.6" in driver_text(12060)
    assert "CUDA 13.0" in driver_text(13000)


@pytest.mark.gpu
@pytest.mark.parametrize("memory", ["cuda-bindings", "pycuda"])
def test_a_real_gpu_copies_captures_and_frees(memory: str) -> None:
    if memory == "pycuda":
        pytest.importorskip("pycuda")
    device = open_device(0, memory)  # type: ignore[arg-type]
    before = device.free_bytes()
    stream = device.create_stream()
    arena = Arena(device, SPECS)

    def there_and_back() -> None:
        arena.upload(stream)
        arena.download(stream)

    graph = Graph(device, stream, there_and_back)
    arena.arrays["pixels"][...] = 3
    graph.launch(stream)
    device.synchronize(stream)
    watch = Stopwatch(device)
    watch.start(stream)
    graph.launch(stream)
    assert 0 < watch.stop_ms(stream) < 100
    assert np.all(arena.arrays["pixels"] == 3)
    for resource in (watch, graph, arena):
        resource.close()
    device.destroy_stream(stream)
    assert abs(device.free_bytes() - before) < 64 << 20
    device.close()
