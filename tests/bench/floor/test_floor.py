"""A floor is the larger of reading and computing, in the sizes and at the rate of the row's own arithmetic."""

from __future__ import annotations

import msgspec
import pytest
from bench_examples import measured_row
from hypothesis import given
from hypothesis import strategies as st

from vla_edge.bench.floor.attach import _floor_of, _floored
from vla_edge.bench.floor.distance import arithmetic_of, floor_distance, row_work
from vla_edge.bench.floor.work import Numbers, Work
from vla_edge.bench.measure.timing import summarise
from vla_edge.bench.report.types import Identity, Rates
from vla_edge.runtime.errors import InputError

WORK = Work(
    operations=10**9,
    weights=Numbers(elements=500, size_bytes=1000),
    ends=Numbers(elements=12, size_bytes=48, fixed_bytes=16),
)
RATES = Rates(
    device="gpu",
    library="torch",
    copy_gb_s=100.0,
    matmul_fp32_tflops=1.0,
    matmul_tf32_tflops=4.0,
    matmul_fp16_tflops=8.0,
)
WIDENED = "fp32 (this CPU has no FP16 kernels, ONNX Runtime widens)"
ARM = "fp16 where ONNX Runtime has kernels for this CPU, else fp32"


def identity(backend: str, precision: str, compute: str) -> Identity:
    return Identity(
        backend=backend,
        version="1",
        device="cpu",
        provider="eager",
        precision=precision,
        compute=compute,
        bundle="policy 0123456789ab",
    )


positive = st.floats(1e-3, 1e6)
counts = st.integers(1, 10**13)
numbers = st.builds(Numbers, elements=counts, size_bytes=counts, fixed_bytes=counts)
works = st.builds(
    Work,
    operations=counts,
    weights=numbers,
    ends=numbers,
)
rates = st.builds(
    Rates,
    device=st.just("gpu"),
    library=st.just("torch"),
    copy_gb_s=positive,
    matmul_fp32_tflops=positive,
    matmul_tf32_tflops=positive,
    matmul_fp16_tflops=positive,
)
arithmetics = st.sampled_from(["fp32", "tf32", "fp16"])


def test_bytes_over_bandwidth_and_operations_over_rate_in_milliseconds() -> None:
    work = msgspec.structs.replace(
        WORK, operations=350 * 10**9, weights=Numbers(size_bytes=3_100_000_000 - 64)
    )
    found = floor_distance(work, RATES, "fp16", 62.0)
    assert found is not None
    assert found.memory_ms == pytest.approx(31.0)
    assert found.compute_ms == pytest.approx(43.75)
    assert found.ms == found.compute_ms
    assert found.times_floor == pytest.approx(62 / 43.75)


@given(works, rates, arithmetics, positive)
def test_the_floor_is_the_larger_time_and_the_distance_gives_back_what_was_measured(
    work: Work, found: Rates, precision: str, p50_ms: float
) -> None:
    distance = floor_distance(work, found, precision, p50_ms)
    assert distance.ms == max(distance.memory_ms, distance.compute_ms) > 0
    assert distance.times_floor * distance.ms == pytest.approx(p50_ms)
    assert (distance.bytes_read, distance.operations) == (work.bytes_read, work.operations)


@given(works, rates, arithmetics, st.integers(2, 100))
def test_more_work_never_lowers_the_floor_and_a_faster_device_never_raises_it(
    work: Work, found: Rates, precision: str, times: int
) -> None:
    base = floor_distance(work, found, precision, 1.0).ms
    more = msgspec.structs.replace(work, weights=sum([work.weights] * times, Numbers()))
    more = msgspec.structs.replace(more, operations=work.operations * times)
    assert floor_distance(more, found, precision, 1.0).ms >= base
    faster = msgspec.structs.replace(found, copy_gb_s=found.copy_gb_s * times)
    assert floor_distance(work, faster, precision, 1.0).ms <= base


@given(works, rates, st.integers(1, 1000))
def test_a_device_so_many_times_as_fast_at_everything_has_a_floor_so_many_times_lower(
    work: Work, found: Rates, times: int
) -> None:
    faster = msgspec.structs.replace(
        found, copy_gb_s=found.copy_gb_s * times, matmul_fp16_tflops=found.matmul_fp16_tflops * times
    )
    slow, fast = (floor_distance(work, device, "fp16", 1.0).ms for device in (found, faster))
    assert fast * times == pytest.approx(slow)


def test_there_is_no_distance_where_the_rate_was_not_measured() -> None:
    cpu = msgspec.structs.replace(RATES, matmul_tf32_tflops=None)
    assert floor_distance(WORK, cpu, "tf32", 1.0) is None


@pytest.mark.parametrize(
    ("backend", "found", "arithmetic", "float_bytes"),
    [
        ("torch-fp32", identity("torch", "fp32", "fp32"), "fp32", 4),
        ("torch-tf32", identity("torch", "fp32", "tf32"), "tf32", 4),
        ("torch-tf32", identity("torch", "fp32", "fp32"), "tf32", 4),
        ("torch-fp16", identity("torch", "fp16", "fp16"), "fp16", 2),
        ("torch-fp16-graph", identity("torch", "fp16", "fp16"), "fp16", 2),
        ("torch-compile-max", identity("torch", "fp16", "fp16"), "fp16", 2),
        ("onnxruntime", identity("onnxruntime", "fp16", WIDENED), "fp32", 4),
        ("onnxruntime", identity("onnxruntime", "fp16", ARM), "fp16", None),
        ("onnxruntime-cuda", identity("onnxruntime", "fp16", "fp16"), "fp16", None),
        ("onnxruntime", identity("onnxruntime", "fp32", "fp32"), "fp32", None),
        ("tensorrt", identity("tensorrt", "fp16", "fp16"), "fp16", None),
    ],
)
def test_a_row_computes_and_reads_as_its_identity_says(
    backend: str, found: Identity, arithmetic: str, float_bytes: int | None
) -> None:
    assert arithmetic_of(found, backend) == arithmetic
    wanted = WORK if float_bytes is None else WORK.in_precision(float_bytes)
    assert row_work(WORK, found, backend) == wanted


def test_integers_keep_their_size_in_every_precision() -> None:
    assert [WORK.in_precision(size).bytes_read for size in (2, 4)] == [512 * 2 + 16, 512 * 4 + 16]
    assert WORK.bytes_read == 1000 + 40 + 8 + 16


def test_an_arithmetic_that_is_not_known_is_refused_by_name() -> None:
    with pytest.raises(
        InputError, match="tensorrt computes in 'int8 mixed', which is none of fp32, tf32, fp16"
    ):
        arithmetic_of(identity("tensorrt", "fp16", "int8 mixed"), "tensorrt")


def test_a_row_is_measured_by_its_time_on_the_device_where_there_is_one() -> None:
    step = measured_row("torch-fp32", (40.0, 42.0))
    device = measured_row("torch-fp32", (40.0, 42.0), device=summarise((30.0, 32.0)))
    assert _floor_of(WORK, RATES, step) == floor_distance(WORK.in_precision(4), RATES, "fp32", 41.0)
    assert _floor_of(WORK, RATES, device) == floor_distance(WORK.in_precision(4), RATES, "fp32", 31.0)


def test_a_row_without_figures_has_no_floor() -> None:
    assert _floor_of(WORK, RATES, measured_row("torch-fp32", (1.0,), step=None)) is None
    assert _floor_of(WORK, RATES, measured_row("torch-fp32", (1.0,), identity=None)) is None


@pytest.mark.parametrize("compute", ["int8 by TensorRT", "", "fp8", "FP16"])
def test_a_row_whose_arithmetic_is_not_known_keeps_its_figures_and_has_no_floor(
    compute: str, caplog: pytest.LogCaptureFixture
) -> None:
    known, odd = measured_row("onnxruntime", (1.0,)), measured_row("tensorrt", (1.0,))
    odd = msgspec.structs.replace(odd, identity=identity("tensorrt", "fp16", compute))
    first, second = _floored((odd, known), WORK, RATES)
    assert (first.floor, first.step) == (None, odd.step)
    assert second.floor is not None
    assert "no floor for the row tensorrt: tensorrt computes in" in caplog.text


def test_a_rate_of_nothing_gives_no_floor() -> None:
    nothing = msgspec.structs.replace(RATES, copy_gb_s=0.0)
    assert floor_distance(WORK, nothing, "fp32", 1.0) is None
    assert floor_distance(WORK, msgspec.structs.replace(RATES, matmul_fp32_tflops=0.0), "fp32", 1.0) is None
