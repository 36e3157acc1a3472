"""Predictions follow from published figures, and say where those come from."""

from __future__ import annotations

import re
from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vla_edge.bench.floor.devices import PUBLISHED, Published, forecast
from vla_edge.bench.floor.work import Numbers, Work
from vla_edge.bench.report.types import Prediction

# the full-size pure policy in FP16, see tests/bench/floor/test_work.py
FULL = Work(
    operations=359_451_689_984,
    weights=Numbers(elements=1_538_712_070, size_bytes=3_079_907_864),
    ends=Numbers(elements=150_530, size_bytes=602_120, fixed_bytes=640),
)
# tensor cores, their highest clock in MHz, and operations of one core in a cycle (256 multiply-adds in
# Orin's GPU; Ada's 128 with FP32 accumulation), from the same makers' documents as the rates
CORES = {
    "Jetson Orin Nano 8GB": (32, 625, 512),
    "Jetson Orin Nano 8GB, Super": (32, 1020, 512),
    "Jetson Orin NX 8GB": (32, 765, 512),
    "Jetson Orin NX 16GB": (32, 918, 512),
    "Jetson AGX Orin 64GB": (64, 1300, 512),
    "GeForce RTX 4090": (512, 2520, 128),
}


def predict(
    work: Work, times: float | None, devices: Sequence[Published] = PUBLISHED
) -> tuple[Prediction, ...]:
    return forecast("policy-fp16", work, times, devices).rows


def test_every_device_has_one_row_with_its_source() -> None:
    rows = predict(FULL, None)
    names = [row.device for row in rows]
    assert len(set(names)) == len(names) == len(PUBLISHED)
    for word in ("Orin NX 16GB", "Orin NX 8GB", "Orin Nano 8GB", "AGX Orin 64GB", "Thor", "RTX 4090"):
        assert any(word in name for name in names)
    assert all("NVIDIA" in row.source for row in rows)


def test_the_sources_state_the_figures_that_are_used() -> None:
    for row in PUBLISHED:
        assert f"{row.memory_gb_s:g} GB/s" in row.source
        derived = re.search(r"derived: (?:\((\d+) - (\d+)\)|(\d+)) / (\d)", row.source)
        if derived:
            whole, accelerators, alone, divisor = (int(number or 0) for number in derived.groups())
            assert (whole - accelerators + alone) / divisor == row.fp16_tflops
        else:
            assert f"{row.fp16_tflops:g} TFLOPS dense FP16 with FP32 accumulation" in row.source


@pytest.mark.parametrize("name", CORES)
def test_a_rate_from_marketing_figures_is_that_of_the_tensor_cores_and_their_clock(name: str) -> None:
    cores, clock_mhz, operations = CORES[name]
    row = next(row for row in PUBLISHED if row.device == name)
    assert row.fp16_tflops == pytest.approx(cores * clock_mhz * operations / 1e6, rel=0.025)


def test_reading_the_full_size_policy_bounds_it_on_an_orin_nx() -> None:
    (row,) = predict(FULL, 1.5, [row for row in PUBLISHED if row.device == "Jetson Orin NX 16GB"])
    assert row.floor_ms == pytest.approx(3080.5 / 102.4, rel=1e-3)
    assert row.expected_ms == pytest.approx(1.5 * row.floor_ms)


def test_a_device_that_computes_slowly_is_bound_by_that() -> None:
    slow = Published(device="slow", memory_gb_s=1000.0, fp16_tflops=1.0, source="none")
    assert predict(FULL, None, [slow])[0].floor_ms == pytest.approx(359.45, rel=1e-4)


def test_without_an_engine_nothing_is_expected() -> None:
    assert {row.expected_ms for row in predict(FULL, None)} == {None}


@given(st.floats(0.01, 1000))
def test_what_is_expected_is_as_far_from_every_floor_as_the_engine_here(times: float) -> None:
    for row in predict(FULL, times):
        assert row.expected_ms == pytest.approx(times * row.floor_ms)


def test_a_forecast_names_the_bundle_and_its_work() -> None:
    found = forecast("policy-fp16", FULL, 2.0)
    assert (found.bundle, found.bytes_read, found.operations) == (
        "policy-fp16",
        FULL.bytes_read,
        FULL.operations,
    )
