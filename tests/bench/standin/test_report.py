"""Memory from shapes, the claims, and the sentences beside the rows."""

from __future__ import annotations

import msgspec
import pytest

from vla_edge.bench.measure.timing import summarise
from vla_edge.bench.report.types import Identity, Memory, Row, StandinReport
from vla_edge.bench.standin.memory import SECOND, explain_memory, total_mib
from vla_edge.bench.standin.model import Precision, Standin
from vla_edge.bench.standin.summary import CLAIMED_SM, CLAIMS, standin_report

H200 = 90


def row(
    backend: str, p50_ms: float, peak_mib: float | None, device: str = "cuda:0 NVIDIA H200 (sm90)"
) -> Row:
    return Row(
        backend=backend,
        status="ok",
        reason="",
        weights_origin="random stand-in, no policy",
        identity=Identity(
            backend="torch",
            version="2.11.0",
            device=device,
            provider="eager",
            precision="fp32",
            compute="fp32",
            bundle="standin",
        ),
        step=summarise([p50_ms] * 30),
        memory=Memory(
            host_peak_mib=None,
            host_anonymous_peak_mib=None,
            device_peak_mib=None,
            device_method=None,
            torch_allocator_peak_mib=peak_mib,
            phases=(),
        ),
    )


@pytest.mark.parametrize("precision", ["fp32", "fp16"])
@pytest.mark.parametrize("claim", CLAIMS, ids=lambda claim: claim.model)
def test_the_claimed_memory_follows_from_shapes_within_a_tenth_of_a_percent(
    claim, precision: Precision
) -> None:
    claimed_mib = claim.fp32_memory_mb if precision == "fp32" else claim.fp16_memory_mb
    explained_mib = total_mib(explain_memory(precision, CLAIMED_SM, cublaslt=False))
    assert explained_mib == pytest.approx(claimed_mib, rel=1e-3)


def test_in_megabytes_of_a_million_bytes_the_claim_would_not_fit() -> None:
    as_mb = total_mib(explain_memory("fp32", CLAIMED_SM, cublaslt=False)) * 2**20 / 1e6
    assert abs(as_mb / 2163 - 1) > 0.04


def test_the_parts_are_counted_from_the_shapes() -> None:
    parts = {part.what.split(",")[0]: part.mib for part in explain_memory("fp32", H200)}
    assert parts["weights"] == 438_997_250 * 4 / 2**20
    assert parts["cuDNN's workspace"] == pytest.approx(480.125)
    assert parts["cuBLAS's workspace"] == 32
    assert parts["input"] == 150_528 * 4 / 2**20


def test_moving_holds_the_rnn_twice_but_less_than_stepping() -> None:
    """What was measured while loading, 2136.3 MiB, is known from the shapes too."""
    standin = Standin()
    held, embed, rnn = (4 * standin.parameters_of(module) / 2**20 for module in ("", "embed", "rnn"))
    assert held == pytest.approx(1674.64, abs=0.01)
    assert embed + 2 * rnn == pytest.approx(1176.01 + 2 * 480.125, abs=0.01)
    assert held < embed + 2 * rnn < total_mib(explain_memory("fp32", H200))


def test_half_precision_halves_all_but_the_workspaces_of_blas() -> None:
    single, half = (
        {part.what: part.mib for part in explain_memory(precision, H200)} for precision in ("fp32", "fp16")
    )
    same = {name for name in single if single[name] == half[name]}
    assert same == {"cuBLAS's workspace", "cuBLASLt's workspace", SECOND}
    assert all(single[name] == 2 * half[name] for name in single.keys() - same)


@pytest.fixture
def report() -> StandinReport:
    return standin_report(
        [
            ("owner", row("standin:torch-fp32", 0.80, 2190.0)),
            ("owner", row("standin:torch-fp16", 0.40, 1110.0)),
            ("bench", row("standin:tensorrt-fp32", 0.56, None)),
            ("bench", row("standin:tensorrt-fp16", 0.32, None)),
        ]
    )


def test_the_report_stands_beside_the_claims(report: StandinReport) -> None:
    assert report.parameters == 438_997_250
    assert [(claim.fp32_ms, claim.fp16_ms) for claim in report.claims] == [(2.5, 1.32), (2.5, 1.31)]
    torch_fp32, _, tensorrt_fp32, _ = report.rows
    assert torch_fp32.explained_mib == pytest.approx(2220.3, abs=0.1)
    assert sum(part.mib for part in torch_fp32.parts) == torch_fp32.explained_mib
    assert (tensorrt_fp32.explained_mib, tensorrt_fp32.parts) == (None, ())
    decoded = msgspec.json.decode(msgspec.json.encode(report), type=StandinReport)
    assert decoded == report


def test_the_explanation_says_what_was_timed_measured_and_claimed(report: StandinReport) -> None:
    text = "\n".join(report.explanation)
    assert "438,997,250 parameters" in text
    assert "none of the policies" in text
    assert "2163 MB in FP32: 1674.6 (weights) + 480.1" in text
    assert "1086 MB in FP16: 837.3 (weights) + 240.1" in text
    assert "2.29 and 1.14 ms at the 768 GB/s" in text
    assert (
        "standin:torch-fp32 (published protocol): 2190.0 MiB measured, 2220.3 MiB from shapes, -1.4 %" in text
    )
    assert (
        "FP32 to FP16 in torch, published protocol: 0.800 to 0.400 ms, 2.00 x (claimed: 1.88 and 1.92)"
        in text
    )
    assert "FP32 to FP16 in tensorrt, bench protocol: 0.560 to 0.320 ms, 1.75 x" in text


def test_a_wrong_row_has_no_speed_up() -> None:
    wrong = msgspec.structs.replace(row("standin:torch-fp16", 0.4, None), status="wrong")
    report = standin_report([("owner", row("standin:torch-fp32", 0.8, None)), ("owner", wrong)])
    assert "FP32 to FP16 in torch" not in "\n".join(report.explanation)


def test_a_cpu_row_is_not_explained() -> None:
    report = standin_report([("owner", row("standin:torch-fp32", 90.0, None, device="cpu (2 threads)"))])
    assert report.rows[0].explained_mib is None
