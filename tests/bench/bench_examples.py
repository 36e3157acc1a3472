"""A report with a row of every kind, made by hand."""

from __future__ import annotations

from vla_edge.bench.measure import summarise
from vla_edge.bench.report import (
    BundleReport,
    ColdStart,
    Identity,
    Machine,
    Memory,
    Options,
    Parity,
    PhaseMemory,
    Refused,
    Report,
    Row,
    Samples,
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
        "parity": Parity(calls=12, samples=10, finite=True, max_abs_mps=0.0, relative_l2=0.0),
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
            parity=Parity(calls=12, samples=10, finite=False, max_abs_mps=None, relative_l2=None),
        ),
        measured_row(
            "onnxruntime",
            tuple(1.0 + at / 1000 for at in range(101)),
            identity=widened,
            act=summarise((3.0, 3.5)),
            parity=Parity(calls=111, samples=10, finite=True, max_abs_mps=0.0042, relative_l2=0.0123),
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
        schema_version=2,
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
            device="cpu", threads=2, runs=None, seconds=8.0, warmup=None, time_limit_s=900.0, backends=()
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
