"""What a device can do is measured in a process of its own, and whatever happens there comes back in words."""

from __future__ import annotations

import os
import sys
import time

import msgspec
import numpy as np
import pytest
import torch

from vla_edge.bench.floor import rates as rates_module
from vla_edge.bench.floor.rates import measure_rates_apart
from vla_edge.bench.measure.jobs import Failed
from vla_edge.bench.options.options import Options
from vla_edge.bench.report.types import Rates

CPU = Options(device="cpu", threads=1)


@pytest.fixture(scope="module")
def rates() -> Rates:
    found = measure_rates_apart(CPU)
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
    found = measure_rates_apart(Options(device="cuda", threads=1))
    assert isinstance(found, Rates), found
    assert found.copy_gb_s > 20
    assert found.matmul_fp16_tflops > found.matmul_fp32_tflops


def test_what_goes_wrong_in_the_worker_comes_back_in_words() -> None:
    script = "import sys; print('out of memory', file=sys.stderr); sys.exit(3)"
    failed = measure_rates_apart(CPU, (sys.executable, "-c", script))
    assert isinstance(failed, Failed)
    assert failed.reason.startswith("ended with exit code 3")
    assert failed.reason.endswith("last line printed: out of memory")


def test_a_hang_ends_at_a_limit_of_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rates_module, "TIME_LIMIT_S", 0.5)
    patient = msgspec.structs.replace(CPU, time_limit_s=900.0)
    failed = measure_rates_apart(patient, (sys.executable, "-c", "import time; time.sleep(600)"))
    assert failed == Failed("time limit of 0.5 s reached in phase 'start'")


def test_a_gpu_that_torch_does_not_see_is_a_reason(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    failed = measure_rates_apart(Options(device="cuda", threads=1))
    assert isinstance(failed, Failed)
    assert "PyTorch sees no GPU" in failed.reason
