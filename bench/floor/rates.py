"""What this device can do: bandwidth of a copy and rates of matrix products, in a process of its own.

A floor asks for ability, not for habit: each figure is the best of several repetitions, since whatever
disturbs one only ever slows it down. For the same reason the matrices grow, and the best size counts. They
hold normal random numbers: products of zeros draw less power, and a GPU would clock higher than it ever
does at work.

    python -m vla_edge.bench.floor.rates --device cuda --threads 2

prints a `Rates` as one line of JSON. `measure_rates_apart` starts that and judges its end.
"""

from __future__ import annotations

import itertools
import logging
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from functools import partial
from typing import IO, TYPE_CHECKING, Literal

import click
import msgspec

from vla_edge.bench.backends.runnable import check_device
from vla_edge.bench.backends.torch_session import prepare_torch
from vla_edge.bench.harness.orphan import end_with_parent
from vla_edge.bench.harness.process import kill_group, signal_name, worker_environment
from vla_edge.bench.measure.jobs import Failed
from vla_edge.bench.report.types import Rates
from vla_edge.runtime.command.console import run_command
from vla_edge.runtime.process.cores import usable_cores

if TYPE_CHECKING:
    import torch

Device = Literal["cpu", "cuda"]
Time = Callable[[Callable[[], object], int], list[float]]

DEFAULT_COMMAND = (sys.executable, "-m", "vla_edge.bench.floor.rates")
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

logger = logging.getLogger(__name__)


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


def measure_rates_apart(
    device: Device,
    threads: int,
    time_limit_s: float = TIME_LIMIT_S,
    command: Sequence[str] = DEFAULT_COMMAND,
) -> Rates | Failed:
    """Measure in a fresh process, and wait for its end.

    The process leads a group of its own, of which nothing is left on return, also when the caller is
    interrupted. A crash, a hang or an answer that is none comes back as `Failed`, never as an exception.

    Args:
        device, threads: see `measure_rates`.
        time_limit_s: for the whole process.
        command: what to start; the options below are appended.
    """
    with tempfile.TemporaryFile() as out, tempfile.TemporaryFile() as errors:
        process = subprocess.Popen(
            [*command, "--device", device, "--threads", str(threads), "--until-stdin-ends"],
            stdin=subprocess.PIPE,  # held open while somebody waits
            stdout=out,
            stderr=errors,
            start_new_session=True,
            env=worker_environment(device, threads),
        )
        try:
            process.wait(timeout=time_limit_s)
            result = _answer(process.returncode, _lines(out), _lines(errors))
        except subprocess.TimeoutExpired:
            result = Failed(f"time limit of {time_limit_s:g} s reached while the rates were measured")
        finally:
            kill_group(process)
    logger.info("rates: %s", result)
    return result


def _answer(code: int, out: Sequence[str], errors: Sequence[str]) -> Rates | Failed:
    """The last line printed as `Rates`, or what went wrong."""
    # an error and its hint are two lines; above the last line of a traceback is indented code
    last = " ".join(line for line in errors[-2:] if not line.startswith(" "))
    last_words = f"; last words: {last}" if last else ""
    if code < 0:
        return Failed(f"killed by {signal_name(-code)} while the rates were measured{last_words}")
    if code > 0:
        return Failed(f"ended with exit code {code} while the rates were measured{last_words}")
    try:
        return msgspec.json.decode(out[-1] if out else "", type=Rates)
    except msgspec.DecodeError as error:
        return Failed(f"the process that measures the rates gave no answer ({error}){last_words}")


def _lines(file: IO[bytes]) -> list[str]:
    file.seek(0)
    return file.read().decode(errors="replace").strip().splitlines()


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


@click.command(context_settings={"help_option_names": ["-h", "--help"]})
@click.option("--device", type=click.Choice(["cpu", "cuda"]), default="cpu", show_default=True)
@click.option("--threads", type=click.IntRange(1), default=usable_cores, show_default="usable cores")
@click.option("--until-stdin-ends", is_flag=True, help="Give up when standard input ends: nobody waits.")
def command(device: Device, threads: int, until_stdin_ends: bool) -> None:
    """Measure copy bandwidth and matrix product rates of this device; prints one line of JSON."""
    check_device(device)
    if until_stdin_ends:
        end_with_parent()
    rates = measure_rates(device, threads)
    sys.stdout.write(msgspec.json.encode(rates).decode() + "\n")


def main() -> None:
    run_command(command)


if __name__ == "__main__":
    main()
