"""Both copies of a bundle share its bytes, and every figure of the proof has its line."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from plan_bundles import make_plan, small_bundle

from vla_edge.bench.proof.parts import build_lines, copies, memory_lines, speed_lines, steps

LATENCY = {"p50_ms": 3.5, "p99_ms": 3.6}
RECORD = {"verification": {"samples": [{"max_abs": 0.0102}, {"max_abs": 0.009}]}, "streams": None}


def result(value: object) -> dict[str, object]:
    return {"seconds": 1.0, "exit_code": 0, "result": value}


def part(name: str, found_in: str | None = None) -> dict[str, Any]:
    build = {
        "seconds": 21.5, "peak_host_mib": 8365, "peak_gpu_mib": 3066, "peak_mib": 11431, "predicted_mib": 11000,
        "found_in": found_in,
    }  # fmt: skip
    return {"name": name, "weights_bytes": 1154 << 20, "size_bytes": 1155 << 20, "build": build}


def test_both_copies_share_the_bundles_bytes_and_have_no_plans(tmp_path: Path) -> None:
    bundle = small_bundle(tmp_path / "policy-fp16")
    make_plan(bundle)
    for _ in range(2):  # a second time nothing is left to do
        copies(bundle.folder, tmp_path / "parts")
    for kind in ("whole", "parts"):
        copy = tmp_path / "parts" / kind / "policy-fp16"
        assert not (copy / "plans").exists()
        assert (copy / "model.onnx.data").samefile(bundle.folder / "model.onnx.data")


def test_the_whole_is_built_anew_and_the_parts_may_be_found(tmp_path: Path) -> None:
    whole, parts, beside = steps("policy-fp16", 5, tmp_path, "tensorrt")
    assert whole.arguments[-4:] == (str(tmp_path / "whole/policy-fp16"), "--parts", "1", "--no-reuse")
    assert parts.arguments[-3:] == (str(tmp_path / "parts/policy-fp16"), "--parts", "5")
    assert beside.arguments[1:3] == (str(tmp_path / "whole/policy-fp16"), str(tmp_path / "parts/policy-fp16"))


def test_each_part_has_its_line_and_one_that_was_found_says_where() -> None:
    results = {
        "whole": result({"parts": [part("whole")]}),
        "parts": result({"parts": [part("vision", "hybrid-fp16"), part("actions")]}),
    }
    whole, vision, actions = build_lines(results)
    assert whole == ("whole", "1154", "11000", "8365", "3066", "11431", "21.5", "1155")
    assert vision[-1] == "from hybrid-fp16"
    assert actions[0] == "actions"


def test_speed_error_and_loading_have_a_line_each() -> None:
    streams = {"in_line_ms": 3.6, "side_by_side_ms": 3.45}
    timed = {"load_s": 1.5, "run": LATENCY, "gpu": LATENCY}
    beside = {"first": timed, "second": timed, "run_ratio": 0.93, "gpu_ratio": 0.92}
    results = {
        "whole": result(RECORD),
        "parts": result({**RECORD, "streams": streams}),
        "beside": result(beside),
    }
    assert [line[1:] for line in speed_lines("hybrid", results)] == [
        ("engine alone", "3.500 / 3.600", "3.500 / 3.600", "0.9200"),
        ("with copies", "3.500 / 3.600", "3.500 / 3.600", "0.9300"),
        ("in line, side by side", "3.600", "3.450", "0.9583"),
        ("action error", "0.0102", "0.0102", ""),
        ("load, s", "1.50", "1.50", ""),
    ]


def test_memory_of_two_is_told_beside_the_sum_of_each_alone() -> None:
    held = {"context": 500.0, "first": 3500.0, "second": 3300.0, "both": 3900.0}
    assert list(memory_lines({"together": result({"device_mib": held})})) == [
        ("first", "3000"),
        ("second", "2800"),
        ("both", "3400"),
        ("both, of the sum of each alone", "0.586"),
    ]


def test_a_step_that_failed_leaves_its_lines_out() -> None:
    failed: dict[str, Any] = {"seconds": 1.0, "exit_code": 2}
    results = {"whole": failed, "parts": failed, "beside": failed}
    assert [*build_lines(results), *speed_lines("hybrid", results), *memory_lines({})] == []
