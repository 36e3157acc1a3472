"""What a device can do is measured in a process of its own, and whatever happens there comes back in words."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from pathlib import Path

import msgspec
import numpy as np
import pytest
import torch

from vla_edge.bench.floor import rates as rates_module
from vla_edge.bench.floor.rates import measure_rates_apart
from vla_edge.bench.measure.jobs import Failed
from vla_edge.bench.report.types import Rates

LONG_S = 120.0
ANSWER = {
    "device": "cpu",
    "library": "torch",
    "copy_gb_s": 10.0,
    "matmul_fp32_tflops": 1.0,
    "matmul_tf32_tflops": None,
    "matmul_fp16_tflops": 0.1,
}


def planted(script: str) -> tuple[str, ...]:
    """A process that does what `script` says in place of measuring."""
    return (sys.executable, "-c", script)


def reason_of(script: str, time_limit_s: float = LONG_S) -> str:
    result = measure_rates_apart("cpu", 1, time_limit_s, planted(script))
    assert isinstance(result, Failed)
    return result.reason


def is_alive(pid: int) -> bool:
    try:
        stat = Path(f"/proc/{pid}/stat").read_text()
    except FileNotFoundError:
        return False
    # a killed process whose parent is gone waits to be reaped by whoever adopted it
    return stat.rsplit(")", 1)[1].split()[0] != "Z"


def wait_until(gone: int, seconds: float = 10.0) -> bool:
    end = time.monotonic() + seconds
    while is_alive(gone) and time.monotonic() < end:
        time.sleep(0.05)
    return not is_alive(gone)


@pytest.fixture(scope="module")
def rates() -> Rates:
    found = measure_rates_apart("cpu", 1, LONG_S)
    assert isinstance(found, Rates), found
    return found


def test_a_cpu_has_a_copy_bandwidth_and_rates_of_fp32_and_fp16_but_no_tf32(rates: Rates) -> None:
    assert rates.device == "cpu (1 threads)"
    assert rates.library.startswith("torch ")
    assert rates.matmul_tf32_tflops is None
    assert rates.matmul_fp16_tflops is not None
    assert rates.matmul_fp16_tflops > 0


def test_a_copy_counts_bytes_read_and_written_of_the_fastest() -> None:
    times_s = iter([9.0, *[0.5, 0.25] * rates_module.MAX_REPETITIONS])
    found = rates_module._copy_gb_s("cpu", lambda call, count: [next(times_s) for _ in range(count)])
    assert found == pytest.approx(2 * rates_module.COPY_BYTES["cpu"] / 0.25 / 1e9)


@pytest.mark.parametrize(("seconds", "side"), [(1e-6, 2048), (0.7, 256), (0.03, 512)])
def test_a_product_counts_two_operations_for_each_multiply_add_of_the_largest_that_fits(
    seconds: float, side: int
) -> None:
    """Each product takes eight times as long as that of half the side, the smallest so many seconds."""
    asked: list[int] = []

    def time_calls(call, count: int) -> list[float]:
        asked.append(call.args[0].shape[0])
        return [seconds * (asked[-1] / 256) ** 3] * count

    found = rates_module._matmul_tflops(torch.float32, "cpu", time_calls)
    assert found == pytest.approx(2 * 256**3 / seconds / 1e12)
    assert max(asked) == side


def test_numpy_does_not_copy_or_multiply_ten_times_as_fast_as_what_was_measured(rates: Rates) -> None:
    """A wide margin: the two are not measured at the same time, on a machine that may be shared."""
    source = np.ones(1 << 27, np.uint8)
    target = np.zeros_like(source)
    copies = [_seconds(lambda: np.copyto(target, source)) for _ in range(5)]
    assert 2 * source.size / min(copies) / 1e9 < 10 * rates.copy_gb_s
    a = np.random.default_rng(0).standard_normal((1024, 1024), np.float32)
    products = [_seconds(lambda: a @ a) for _ in range(5)]
    # NumPy's own threads are those of its BLAS
    cores = os.cpu_count() or 1
    assert 2 * 1024**3 / min(products) / 1e12 < 10 * cores * rates.matmul_fp32_tflops


def _seconds(call) -> float:
    begin = time.perf_counter()
    call()
    return time.perf_counter() - begin


@pytest.mark.gpu
def test_a_gpu_has_all_rates_and_half_is_faster_than_single() -> None:
    found = measure_rates_apart("cuda", 1, LONG_S)
    assert isinstance(found, Rates), found
    assert found.copy_gb_s > 20
    assert found.matmul_fp16_tflops > found.matmul_fp32_tflops


def test_an_answer_is_the_last_line_whatever_libraries_print_before_it() -> None:
    script = f"print('welcome'); print({json.dumps(ANSWER)!r})"
    assert measure_rates_apart("cpu", 1, LONG_S, planted(script)) == msgspec.convert(ANSWER, Rates)


def test_the_thread_pools_are_fixed_and_gpus_hidden_before_any_library_reads_them() -> None:
    script = "import os; raise SystemExit(repr([os.environ[n] for n in ('OMP_NUM_THREADS', 'CUDA_VISIBLE_DEVICES')]))"
    assert "['1', '']" in reason_of(script)


def test_a_crash_comes_back_with_its_last_words() -> None:
    assert (
        reason_of("import sys; print('out of memory', file=sys.stderr); sys.exit(3)")
        == "ended with exit code 3 while the rates were measured; last words: out of memory"
    )


def test_an_exception_comes_back_without_its_traceback() -> None:
    assert reason_of("raise MemoryError('2 GiB')").endswith("; last words: MemoryError: 2 GiB")


@pytest.mark.parametrize(("number", "name"), [(11, "SIGSEGV"), (34, "SIGRTMIN"), (40, "signal 40")])
def test_a_kill_comes_back_with_its_signal(number: int, name: str) -> None:
    script = f"import os; os.kill(os.getpid(), {number})"
    assert reason_of(script).startswith(f"killed by {name} while the rates were measured")


def test_a_hang_ends_at_the_time_limit() -> None:
    begin = time.monotonic()
    assert reason_of("import time; time.sleep(600)", 0.5) == (
        "time limit of 0.5 s reached while the rates were measured"
    )
    assert time.monotonic() - begin < 10


@pytest.mark.parametrize("script", ["pass", "print('hello')", "print('{\"device\": 3}')"])
def test_an_end_without_an_answer_is_said(script: str) -> None:
    assert "the process that measures the rates gave no answer" in reason_of(script)


def test_children_of_a_process_that_hangs_are_ended_with_it(tmp_path: Path) -> None:
    note = tmp_path / "child"
    script = (
        "import subprocess, time; child = subprocess.Popen(['sleep', '600']); "
        f"open({str(note)!r}, 'w').write(str(child.pid)); time.sleep(600)"
    )
    reason_of(script, 3.0)
    assert wait_until(int(note.read_text()))


def test_it_gives_up_when_whoever_waits_for_it_is_killed(tmp_path: Path) -> None:
    """The rates' own process, held at a GPU that does not answer: here, at an import that sleeps."""
    note = tmp_path / "pid"
    slow = f"import os, time; open({str(note)!r}, 'w').write(str(os.getpid())); time.sleep(600)"
    (tmp_path / "torch.py").write_text(slow)
    waiting = subprocess.Popen(
        [
            sys.executable,
            "-c",
            "from vla_edge.bench.floor.rates import measure_rates_apart; measure_rates_apart('cpu', 1)",
        ],
        env={**os.environ, "PYTHONPATH": str(tmp_path)},
    )
    try:
        end = time.monotonic() + 20
        while not (note.exists() and note.read_text()) and time.monotonic() < end:
            time.sleep(0.05)
    finally:
        waiting.kill()
        waiting.wait()
    assert wait_until(int(note.read_text()))


def test_a_gpu_that_cuda_does_not_see_is_wrong_use() -> None:
    result = subprocess.run(
        [sys.executable, "-m", "vla_edge.bench.floor.rates", "--device", "cuda"],
        env={**os.environ, "CUDA_VISIBLE_DEVICES": ""},
        capture_output=True,
        text=True,
    )
    assert result.returncode == 2
    assert "--device cuda cannot be used here" in result.stderr
    assert "--device cpu" in result.stderr
