"""What this device can do: bandwidth of a copy and rates of matrix products, in a process of its own.

A floor asks for ability, not for habit: each figure is the best of several repetitions, since whatever
disturbs one only ever slows it down. For the same reason the matrices grow, and the best size counts. They
hold normal random numbers: products of zeros draw less power, and a GPU would clock higher than it ever
does at work.
"""

from __future__ import annotations

import itertools
import time
from collections.abc import Callable, Sequence
from functools import partial
from typing import TYPE_CHECKING

import msgspec

from vla_edge.bench.backends.torch_session import prepare_torch
from vla_edge.bench.harness.process import DEFAULT_WORKER, run_job
from vla_edge.bench.measure.jobs import RATES, Failed, Job, Rated
from vla_edge.bench.options.options import Device, Options
from vla_edge.bench.report.types import Rates

if TYPE_CHECKING:
    import torch

Time = Callable[[Callable[[], object], int], list[float]]

TIME_LIMIT_S = 120.0  # of which most is for importing torch and starting CUDA on a cold disk
GIB = 1 << 30
# far beyond any cache: the largest last-level caches hold hundreds of megabytes
COPY_BYTES = {"cpu": GIB // 4, "cuda": GIB}
COPY_SECONDS = {"cpu": 0.8, "cuda": 0.3}
FIRST_SIDE = 256
LAST_SIDE = {"cpu": 2048, "cuda": 8192}
MATMUL_SECONDS = {"cpu": 1.2, "cuda": 0.5}
BATCH = {"cpu": 2, "cuda": 4}
MAX_REPETITIONS = 40
TF32_CAPABILITY = (8, 0)  # Ampere is the first with TF32


def measure_rates(device: Device, threads: int) -> Rates:
    """Measure in this process; it should be a fresh one.

    Args:
        device: "cpu", or "cuda" for the first GPU.
        threads: of torch on the CPU.

    Raises:
        EngineError: torch sees no GPU.
    """
    import torch

    prepare_torch(device, threads)
    time_calls = _gpu_seconds if device == "cuda" else _cpu_seconds
    with torch.inference_mode():
        copy_gb_s = _copy_gb_s(device, time_calls)
        torch.backends.cuda.matmul.allow_tf32 = False
        fp32 = _matmul_tflops(torch.float32, device, time_calls)
        fp16 = _matmul_tflops(torch.float16, device, time_calls)
        tf32 = None
        if device == "cuda" and torch.cuda.get_device_capability() >= TF32_CAPABILITY:
            torch.backends.cuda.matmul.allow_tf32 = True
            tf32 = _matmul_tflops(torch.float32, device, time_calls)
    return Rates(
        device=torch.cuda.get_device_name() if device == "cuda" else f"cpu ({threads} threads)",
        library=f"torch {torch.__version__}",
        copy_gb_s=copy_gb_s,
        matmul_fp32_tflops=fp32,
        matmul_tf32_tflops=tf32,
        matmul_fp16_tflops=fp16,
    )


def measure_rates_apart(options: Options, worker: Sequence[str] = DEFAULT_WORKER) -> Rates | Failed:
    """Measure in a fresh process of the bench's worker, and wait for its end; see `run_job`."""
    asked = msgspec.structs.replace(options, time_limit_s=TIME_LIMIT_S)
    answer = run_job(Job(backend=RATES, bundle="", options=asked, frame=(0, 0)), Rated, worker)
    return answer.rates if isinstance(answer, Rated) else answer


def _copy_gb_s(device: Device, time_calls: Time) -> float:
    """Bytes read and written a second of the best copy, in 10^9."""
    import torch

    size = COPY_BYTES[device]
    if device == "cuda":
        size = min(size, torch.cuda.mem_get_info()[0] // 4)
    source = torch.ones(size, dtype=torch.uint8, device=device)
    target = torch.zeros_like(source)  # written once, so that no page is new
    best_s = min(_repeat(lambda: target.copy_(source), device, time_calls, COPY_SECONDS[device]))
    return 2 * size / best_s / 1e9


def _matmul_tflops(dtype: torch.dtype, device: Device, time_calls: Time) -> float:
    """Operations a second of the best square product, in 10^12.

    The side doubles up to `LAST_SIDE` while the next size, eight times the work, is expected to fit
    into the time. That is what bounds FP16 on a CPU, which may be a hundred times slower than FP32 there.
    """
    import torch

    left_s, side, best = MATMUL_SECONDS[device], FIRST_SIDE, 0.0
    while True:
        a, b = (torch.randn(side, side, device=device).to(dtype) for _ in range(2))
        call = partial(torch.mm, a, b, out=torch.empty_like(a))
        # most of the time belongs to the last size, which is usually the fastest
        allowed_s = left_s if side == LAST_SIDE[device] else left_s / 8
        times_s = _repeat(call, device, time_calls, allowed_s)
        left_s -= sum(times_s)
        best = max(best, 2 * side**3 / min(times_s) / 1e12)
        if side == LAST_SIDE[device] or 8 * min(times_s) * (1 + BATCH[device]) > left_s:
            return best
        side *= 2


def _repeat(call: Callable[[], object], device: Device, time_calls: Time, seconds: float) -> list[float]:
    """Seconds of each call, until their sum or their number is reached.

    One call before is not counted, nor its time: on a GPU the first one loads its kernels.
    """
    time_calls(call, 1)
    times_s: list[float] = []
    while sum(times_s) < seconds and len(times_s) < MAX_REPETITIONS:
        times_s += time_calls(call, BATCH[device])
    return times_s


def _cpu_seconds(call: Callable[[], object], count: int) -> list[float]:
    times_s = []
    for _ in range(count):
        begin_s = time.perf_counter()
        call()
        times_s.append(time.perf_counter() - begin_s)
    return times_s


def _gpu_seconds(call: Callable[[], object], count: int) -> list[float]:
    """Between CUDA events, all calls enqueued before the first wait, so that the host is not in the figure."""
    import torch

    marks = [torch.cuda.Event(enable_timing=True) for _ in range(count + 1)]
    marks[0].record()
    for mark in marks[1:]:
        call()
        mark.record()
    marks[-1].synchronize()
    return [begin.elapsed_time(end) / 1e3 for begin, end in itertools.pairwise(marks)]
