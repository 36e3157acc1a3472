"""The text that a person reads."""

from __future__ import annotations

import io

import msgspec
from bench_examples import example_report, measured_row
from rich.console import Console

from vla_edge.bench.measure import summarise
from vla_edge.bench.report import Gpu
from vla_edge.bench.table import COLUMNS, machine_line, print_report

# ruff: noqa: E501
GOLDEN = """\
cpu: AMD EPYC, 2 threads; vla-edge 0.1.0, torch 2.11.0

policy-fp16: pure, 1,612,194 parameters, fp16; weights of best_simple_lstm_model.pth: sample: vla-sample 0.1.0 layout=pure size=tiny seed=0

One policy step on preprocessed input, ms

| backend      | result  | weights |  p50 |  p90 |  p99 |  max |   std |  FPS | GPU p50 | x FP32 | x FP16 |
|--------------|---------|---------|------|------|------|------|-------|------|---------|--------|--------|
| torch-fp32   | ok      | sample  | 41.0 | 41.8 | 42.0 | 42.0 |  1.41 | 24.4 |       - |   1.00 |   2.00 |
| torch-fp16   | WRONG   | sample  | 82.0 | 83.6 | 84.0 | 84.0 |  2.83 | 12.2 |       - |      - |      - |
| onnxruntime  | ok      | sample  | 1.05 | 1.09 | 1.10 | 1.10 | 0.029 |  952 |       - |  39.05 |  78.10 |
| tensorrt     | FAILED  | sample  |    - |    - |    - |    - |     - |    - |       - |      - |      - |
| tensorrt-rtx | skipped | sample  |    - |    - |    - |    - |     - |    - |       - |      - |      - |

Error against the golden actions; peak memory, MiB

| backend      | weights | computes | max m/s | relative | host anonymous | host peak | device |
|--------------|---------|----------|---------|----------|----------------|-----------|--------|
| torch-fp32   | sample  | fp32     |       0 |        0 |            418 |     1,234 |      - |
| torch-fp16   | sample  | fp16     | NaN/inf |  NaN/inf |            418 |     1,234 |      - |
| onnxruntime  | sample  | fp32     | 4.2e-03 |  1.2e-02 |            418 |     1,234 |      - |
| tensorrt     | sample  | -        |       - |        - |              - |         - |      - |
| tensorrt-rtx | sample  | -        |       - |        - |              - |         - |      - |

Policy.act from a 640x480 frame, ms; from process start to the first step, s

| backend      | weights | act p50 | act p99 | interpreter | import | load | first step | total |
|--------------|---------|---------|---------|-------------|--------|------|------------|-------|
| torch-fp32   | sample  |       - |       - |        0.25 |   4.50 | 0.12 |       0.06 |  4.94 |
| torch-fp16   | sample  |       - |       - |        0.25 |   4.50 | 0.12 |       0.06 |  4.94 |
| onnxruntime  | sample  |    3.25 |    3.50 |        0.25 |   4.50 | 0.12 |       0.06 |  4.94 |
| tensorrt     | sample  |       - |       - |           - |      - |    - |          - |     - |
| tensorrt-rtx | sample  |       - |       - |           - |      - |    - |          - |     - |

- torch-fp16 wrong: actions are NaN or infinite
- onnxruntime: a graph of fp16, computed in fp32 (widened)
- onnxruntime: still not steady after 200 warm-up calls
- tensorrt failed: killed by SIGSEGV in phase 'load'
- tensorrt-rtx skipped: a TensorRT plan needs --device cuda
- fewer than 100 runs, so p99 is little but the maximum: torch-fp32, torch-fp16

/robot/engines/torn refused: model.onnx.data is truncated
"""


def printed(report=None, **console) -> str:
    file = io.StringIO()
    print_report(report or example_report(), Console(file=file, **{"width": COLUMNS, **console}))
    return file.getvalue()


def test_a_pipe_gets_this_markdown() -> None:
    assert printed() == GOLDEN


def test_a_terminal_gets_the_same_figures() -> None:
    shown = printed(force_terminal=True, no_color=True)
    for figure in ("41.0", "1.05", "952", "39.05", "4.2e-03", "NaN/inf", "418", "1,234", "4.94"):
        assert figure in shown.split() or f"{figure}\x1b" in shown, figure


def test_every_line_with_a_figure_says_where_the_weights_are_from() -> None:
    rows = [line for line in printed().splitlines() if line.startswith("| ") and "| weights |" not in line]
    assert len(rows) == 15
    assert all("| sample  |" in line for line in rows)


def cells_of(shown: str, backend: str) -> dict[str, str]:
    """The first table's row of a backend, by the heading of each column."""
    lines = [
        [cell.strip() for cell in line.strip("|").split("|")]
        for line in shown.splitlines()
        if line[:1] == "|"
    ]
    headings = lines[0]
    return next(dict(zip(headings, line, strict=True)) for line in lines if line[0] == backend)


def test_every_figure_stands_under_its_own_heading() -> None:
    report = example_report()
    row = measured_row("torch-fp16", (8.0,) * 100, device=summarise((7.5,)), speedup_over_torch_fp32=1.5)
    bundle = msgspec.structs.replace(report.bundles[0], rows=(row,))
    assert cells_of(printed(msgspec.structs.replace(report, bundles=(bundle,))), "torch-fp16") == {
        "backend": "torch-fp16",
        "result": "ok",
        "weights": "sample",
        "p50": "8.00",
        "p90": "8.00",
        "p99": "8.00",
        "max": "8.00",
        "std": "0.000",
        "FPS": "125",
        "GPU p50": "7.50",
        "x FP32": "1.50",
        "x FP16": "-",
    }


def test_real_weights_are_called_checkpoint() -> None:
    report = example_report()
    row = measured_row("onnxruntime", (1.0, 1.0), weights_origin="checkpoint")
    bundle = msgspec.structs.replace(report.bundles[0], rows=(row,), weights_origin="checkpoint")
    shown = printed(msgspec.structs.replace(report, bundles=(bundle,)))
    assert "| checkpoint |" in shown
    assert "sample" not in shown


def test_unsteady_samples_are_pointed_out() -> None:
    report = example_report()
    row = measured_row("onnxruntime", (1.0,) * 99 + (50.0,))
    bundle = msgspec.structs.replace(report.bundles[0], rows=(row,))
    shown = printed(msgspec.structs.replace(report, bundles=(bundle,)))
    assert "- onnxruntime: samples spread by 329% of their mean; was the machine busy?" in shown


def test_the_machine_of_a_gpu_run_is_its_gpu() -> None:
    gpu = Gpu(
        index=0,
        name="NVIDIA H200",
        memory_mib=143771.0,
        compute_capability="9.0",
        driver="580.1",
        graphics_clock_mhz=1980,
        graphics_clock_max_mhz=1980,
        memory_clock_mhz=3201,
        power_limit_w=700.0,
        other_processes=0,
    )
    machine = msgspec.structs.replace(example_report().machine, gpus=(gpu,))
    assert machine_line(machine, "cuda", 2).startswith(
        "cuda: NVIDIA H200 (sm90, driver 580.1); vla-edge 0.1.0"
    )
