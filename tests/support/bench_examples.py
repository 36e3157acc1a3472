"""A report with a row of every kind, made by hand."""

from __future__ import annotations

import json

import msgspec
import numpy as np

from vla_edge.bench.measure.timing import summarise
from vla_edge.bench.report.codec import decode, encode
from vla_edge.bench.report.types import (
    Agreement,
    BundleReport,
    Claim,
    ColdStart,
    Doubt,
    Energy,
    FloorDistance,
    Forecast,
    Gpu,
    Growth,
    Identity,
    LayerTime,
    Machine,
    Memory,
    MemoryPart,
    Options,
    Paced,
    Parity,
    PhaseMemory,
    Prediction,
    Profile,
    PromptTime,
    Rates,
    Refused,
    Report,
    Row,
    Samples,
    StageTime,
    StandinReport,
    StandinRow,
    Warmup,
)

ORIGIN = "sample: vla-sample 0.1.0 layout=pure size=tiny seed=0"


def measured_row(backend: str, step_ms: tuple[float, ...], **changes) -> Row:
    precision = "fp32" if backend == "torch-fp32" else "fp16"
    fields = {
        "backend": backend,
        "status": "ok",
        "reason": "",
        "weights_origin": ORIGIN,
        "identity": Identity(
            backend=backend.split("-")[0],
            version="1.0",
            device="cpu",
            provider="eager",
            precision=precision,
            compute=precision,
            bundle="policy-fp16 0123456789ab",
        ),
        "step": summarise(step_ms),
        "parity": Parity(calls=12, samples=10, finite=True, unit="m/s", max_abs=0.0, relative_l2=0.0),
        "cold_start": ColdStart(
            interpreter_s=0.25, import_s=4.5, load_s=0.125, first_call_s=0.0625, total_s=4.9375
        ),
        "memory": Memory(
            host_peak_mib=1234.4,
            host_anonymous_peak_mib=417.6,
            device_peak_mib=None,
            device_method=None,
            torch_allocator_peak_mib=None,
            phases=(PhaseMemory(phase="load", host_mib=1234.4, host_anonymous_mib=417.6),),
        ),
        "warmup": Warmup(calls=10, seconds=1.0, stable=True),
        "samples": Samples(step_ms=step_ms),
    }
    return Row(**{**fields, **changes})


def example_rows() -> tuple[Row, ...]:
    widened = Identity(
        backend="onnxruntime",
        version="1.31.1",
        device="cpu",
        provider="CPUExecutionProvider",
        precision="fp16",
        compute="fp32 (widened)",
        bundle="policy-fp16 0123456789ab",
    )
    return (
        measured_row("torch-fp32", (40.0, 42.0), speedup_over_torch_fp32=1.0, speedup_over_torch_fp16=2.0),
        measured_row(
            "torch-fp16",
            (80.0, 84.0),
            status="wrong",
            reason="actions are NaN or infinite",
            parity=Parity(calls=12, samples=10, finite=False, unit="m/s", max_abs=None, relative_l2=None),
        ),
        measured_row(
            "onnxruntime",
            tuple(1.0 + at / 1000 for at in range(101)),
            identity=widened,
            act=summarise((3.0, 3.5)),
            parity=Parity(calls=111, samples=10, finite=True, unit="m/s", max_abs=0.0042, relative_l2=0.0123),
            speedup_over_torch_fp32=39.05,
            speedup_over_torch_fp16=78.1,
            warmup=Warmup(calls=200, seconds=8.0, stable=False),
        ),
        Row(
            backend="tensorrt",
            status="failed",
            reason="killed by SIGSEGV in phase 'load'",
            weights_origin=ORIGIN,
        ),
        Row(
            backend="tensorrt-rtx",
            status="skipped",
            reason="a TensorRT plan needs --device cuda",
            weights_origin=ORIGIN,
        ),
    )


def example_report() -> Report:
    return Report(
        schema_version=3,
        tool="vla-edge 0.1.0",
        created_utc="2026-01-01T00:00:00+00:00",
        machine=Machine(
            cpu="AMD EPYC",
            board=None,
            cores_physical=2,
            cores_usable=2,
            cpu_clock_mhz=2596.0,
            cpu_clock_max_mhz=None,
            memory_mib=24105.5,
            load_average_1min=0.25,
            gpus=(),
            os="Linux",
            python="3.11.7",
            versions={"vla-edge": "0.1.0", "torch": "2.11.0"},
        ),
        options=Options(
            device="cpu", threads=2, runs=None, seconds=8.0, warmup=None, time_limit_s=900.0, rate_hz=None
        ),
        bundles=(
            BundleReport(
                name="policy-fp16",
                path="/robot/engines/policy-fp16",
                manifest_sha256="0" * 64,
                layout="pure",
                parameters=1612194,
                precision="fp16",
                source_file="best_simple_lstm_model.pth",
                weights_origin=ORIGIN,
                frame=(480, 640),
                rows=example_rows(),
            ),
        ),
        refused=(Refused(path="/robot/engines/torn", reason="model.onnx.data is truncated"),),
    )


SHARES = {"vision": 0.42, "text": 0.44, "clip": 0.09, "lstm": 0.03, "head": 0.02}
PHASES = {"start": 0.05, "import": 0.5, "load": 0.9, "first call": 0.96, "warm-up": 0.98, "measure": 1.0}


def drawn_ms(p50_ms: float, seed: int, spread: float = 0.015, count: int = 600) -> tuple[float, ...]:
    """Samples of a skewed distribution with this median, made by hand as everything here."""
    generator = np.random.default_rng(seed)
    tail = (
        generator.exponential(spread, count) + (generator.random(count) > 0.985) * generator.random(count) / 2
    )
    return tuple(float(value) for value in p50_ms * (1 + tail - np.median(tail)))


def full_row(
    backend: str,
    precision: str,
    p50_ms: float,
    error_mps: float,
    device_mib: float,
    host_mib: float,
    **changes,
) -> Row:
    """A row with every field of a GPU run filled."""
    seed = sum(backend.encode())
    step_ms, device_ms = drawn_ms(p50_ms, seed), drawn_ms(p50_ms * 0.96, seed + 1, 0.004, 100)
    act_ms, preprocess_ms = drawn_ms(p50_ms + 1.9, seed + 2), drawn_ms(1.8, seed + 3, 0.05)
    wake_ms = drawn_ms(0.11, seed + 4, 0.3, 300)
    paced_ms = tuple(
        wake + step for wake, step in zip(wake_ms, drawn_ms(p50_ms * 1.1, seed + 5, 0.05, 300), strict=True)
    )
    floor_ms = 0.98 if precision == "fp16" else 1.96
    latency, wake = summarise(paced_ms), summarise(wake_ms)
    assert latency is not None
    assert wake is not None
    fields = {
        "identity": Identity(
            backend=backend.rpartition(":")[2].split("-")[0],
            version="10.6.0" if backend.startswith("tensorrt") else "2.11.0",
            device="cuda:0 NVIDIA H200 (sm90)",
            provider="eager",
            precision=precision,
            compute=precision,
            bundle="hybrid-fp16 0123456789ab",
        ),
        "act": summarise(act_ms),
        "device": summarise(device_ms),
        "preprocess": summarise(preprocess_ms),
        "speedup_over_torch_fp32": 30.1 / p50_ms,
        "speedup_over_torch_fp16": 21.5 / p50_ms,
        "parity": Parity(
            calls=2410, samples=10, finite=True, unit="m/s", max_abs=error_mps, relative_l2=error_mps * 0.8
        ),
        "cold_start": ColdStart(
            interpreter_s=0.06,
            import_s=host_mib / 900,
            load_s=0.74,
            first_call_s=0.12,
            total_s=0.92 + host_mib / 900,
        ),
        "memory": Memory(
            host_peak_mib=host_mib * 1.6,
            host_anonymous_peak_mib=host_mib,
            device_peak_mib=device_mib,
            device_method="nvml-process",
            torch_allocator_peak_mib=device_mib - 520 if "torch" in backend else None,
            phases=tuple(
                PhaseMemory(
                    phase=phase,
                    host_mib=host_mib * part * 1.6,
                    host_anonymous_mib=host_mib * part,
                    device_mib=device_mib * max(part - 0.4, 0) / 0.6,
                )
                for phase, part in PHASES.items()
            ),
        ),
        "samples": Samples(
            step_ms=step_ms,
            act_ms=act_ms,
            device_ms=device_ms,
            preprocess_ms=preprocess_ms,
            paced_ms=paced_ms,
            wake_ms=wake_ms,
        ),
        "paced": Paced(
            rate_hz=10.0,
            deadline_ms=100.0,
            latency=latency,
            wake=wake,
            ticks=300,
            misses=sum(value > 100 for value in paced_ms),
            longest_run_of_misses=0,
        ),
        "energy": Energy(
            joules_per_step=p50_ms * 0.41, mean_power_w=410.0, method="nvml-energy", seconds=8.02
        ),
        "growth": Growth(steps=600, host_anonymous_mib=0.25, device_mib=0.0),
        "profile": Profile(
            source="tensorrt-profiler" if backend.startswith("tensorrt") else "torch-events",
            runs=20,
            total_ms=p50_ms * 1.2,
            layers_total=411,
            stages=tuple(
                StageTime(stage=stage, ms=p50_ms * 1.2 * part, share=part) for stage, part in SHARES.items()
            ),
            layers=tuple(
                LayerTime(
                    name=f"{stage}/layers.{at}/mlp/MatMul",
                    stage=stage,
                    ms=p50_ms * 0.02 / (at + 1),
                    share=0.02 / (at + 1),
                )
                for at, stage in enumerate(("text", "vision", "clip"))
            ),
        ),
        "prompts": (
            PromptTime(tokens=16, runs=50, p50_ms=p50_ms * 0.97),
            PromptTime(tokens=64, runs=50, p50_ms=p50_ms),
        ),
        "agreement": Agreement(
            frames=60,
            reference="torch-fp32",
            unit="m/s",
            max_abs=error_mps * 1.2,
            mean_abs=error_mps * 0.5,
            errors=tuple(float(value) for value in error_mps * 1.2 * np.sin(np.linspace(0.1, 1.57, 60))),
        ),
        "floor": FloorDistance(
            bytes_read=3_277_000_000 if precision == "fp16" else 6_554_000_000,
            operations=412_000_000_000,
            memory_ms=floor_ms,
            compute_ms=0.55,
            ms=floor_ms,
            times_floor=p50_ms / floor_ms,
        ),
    }
    return measured_row(backend, step_ms, **{**fields, **changes})


def full_rows() -> tuple[Row, ...]:
    """A GPU's rows: what PyTorch does in each way, and the engines; one is fast and wrong."""
    gate = "action off by 0.36 m/s, 0.02 m/s allowed"
    wrong = {
        "status": "wrong",
        "reason": gate,
        "speedup_over_torch_fp32": None,
        "speedup_over_torch_fp16": None,
    }
    throttled = Doubt(
        kind="throttled", text="the GPU's clock fell to 1410 of 1980 MHz while steps were timed"
    )
    host_bound = Doubt(kind="host-bound", text="the GPU was idle for 41 % of each step, waiting for the host")
    return (
        full_row("torch-fp32", "fp32", 30.1, 0.0, 8188, 1480, doubts=(host_bound,)),
        full_row("torch-tf32", "fp32", 26.4, 0.0019, 8188, 1480),
        full_row("torch-fp16", "fp16", 21.5, 0.36, 4504, 1460, **wrong),
        full_row("torch-fp16-graph", "fp16", 6.26, 0.36, 4720, 1460, **wrong),
        full_row("torch-compile", "fp16", 5.61, 0.35, 4810, 2950, compile_s=74.2, **wrong),
        full_row("onnxruntime-cuda", "fp16", 9.8, 0.0135, 5230, 620, doubts=(throttled,)),
        full_row("tensorrt", "fp16", 3.74, 0.0119, 3780, 410),
        Row(
            backend="tensorrt-rtx",
            status="failed",
            reason="killed by SIGSEGV in phase 'load'",
            weights_origin=ORIGIN,
        ),
    )


def full_standin() -> StandinReport:
    def row(protocol, backend: str, precision: str, p50_ms: float, weights_mib: float) -> StandinRow:
        parts = (
            MemoryPart(what="weights", mib=weights_mib),
            MemoryPart(what="flattened copy of the RNN", mib=weights_mib * 0.287),
            MemoryPart(what="workspace", mib=8.1),
        )
        explained_mib = sum(part.mib for part in parts)
        changes = {"weights_origin": "random: seed 0", "speedup_over_torch_fp32": 1.9 / p50_ms}
        timed = full_row(f"standin:{backend}", precision, p50_ms, 0.0, explained_mib + 530, 900, **changes)
        if "torch" not in backend:
            return StandinRow(protocol=protocol, row=timed, explained_mib=None)
        return StandinRow(protocol=protocol, row=timed, explained_mib=explained_mib, parts=parts)

    return StandinReport(
        parameters=438_997_250,
        rows=(
            row("owner", "torch-fp32", "fp32", 1.9, 1674.6),
            row("owner", "torch-fp16", "fp16", 1.0, 837.3),
            row("bench", "torch-fp32", "fp32", 1.9, 1674.6),
            row("bench", "tensorrt", "fp16", 0.6, 837.3),
        ),
        claims=(
            Claim(model="pure Kosmos-2", fp32_ms=2.5, fp16_ms=1.32, fp32_memory_mb=2163, fp16_memory_mb=1086),
            Claim(
                model="Kosmos-2 + CLIP", fp32_ms=2.5, fp16_ms=1.31, fp32_memory_mb=2163, fp16_memory_mb=1086
            ),
        ),
        explanation=("2163 MB are 1675 MiB of weights and a flattened copy of the RNN of 480 MiB.",),
    )


def full_report() -> Report:
    """A report with every field filled, as of a GPU; no figure in it was measured."""
    report = example_report()
    gpu = Gpu(
        index=0,
        name="NVIDIA H200",
        memory_mib=143771.0,
        compute_capability="9.0",
        driver="580.159",
        graphics_clock_mhz=1980,
        graphics_clock_max_mhz=1980,
        memory_clock_mhz=3201,
        power_limit_w=700.0,
        other_processes=0,
    )
    bundle = msgspec.structs.replace(
        report.bundles[0],
        name="hybrid-fp16",
        path="/robot/engines/hybrid-fp16",
        layout="hybrid-a",
        parameters=1_859_579_651,
        source_file="best_simple_clip_lstm_model.pth",
        rows=full_rows(),
        prompt_length=80,
    )
    published = (
        ("Jetson Orin NX 16 GB", 102.4, 50.0),
        ("Jetson AGX Orin 64 GB", 204.8, 85.0),
        ("RTX 4090", 1008.0, 165.0),
    )
    predictions = tuple(
        Prediction(
            device=name,
            memory_gb_s=gb_s,
            fp16_tflops=tflops,
            floor_ms=3277 / gb_s,
            expected_ms=3277 / gb_s * 3.82,
            source="the vendor's data sheet",
        )
        for name, gb_s, tflops in published
    )
    return msgspec.structs.replace(
        report,
        machine=msgspec.structs.replace(report.machine, gpus=(gpu,), memory_mib=1_548_000.0, cores_usable=16),
        options=msgspec.structs.replace(report.options, device="cuda", threads=16),
        bundles=(bundle,),
        rates=Rates(
            device="NVIDIA H200",
            library="torch 2.11.0",
            copy_gb_s=3350.0,
            matmul_fp32_tflops=52.1,
            matmul_tf32_tflops=410.0,
            matmul_fp16_tflops=745.0,
        ),
        forecasts=(
            Forecast(
                bundle="hybrid-fp16", bytes_read=3_277_000_000, operations=412_000_000_000, rows=predictions
            ),
        ),
        standin=full_standin(),
    )


def stretched_report(value: float) -> Report:
    """The full report with every measured figure replaced; times and sizes by no more than a report may have."""

    def stretch(item: object, key: str = "") -> object:
        if isinstance(item, dict):
            return {name: part if name == "options" else stretch(part, name) for name, part in item.items()}
        if isinstance(item, list):
            return [stretch(part, key) for part in item]
        if not isinstance(item, float):
            return item
        return min(value, 9e9) if key.endswith(("_ms", "_s", "_mib", "ms", "seconds", "mib")) else value

    return decode(json.dumps(stretch(json.loads(encode(full_report())))).encode(), "stretched")
