"""The stand-in's part of the report: rows, the published claims, and what explains both."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence

from vla_edge.bench.report.types import PROTOCOL_WORDS, Claim, Row, StandinReport, StandinRow

from .load import Protocol
from .memory import ITEM_BYTES, explain_memory, total_mib
from .model import BACKENDS, BUNDLE, Precision, Standin

CLAIMS: tuple[Claim, ...] = (
    Claim(model="pure Kosmos-2", fp32_ms=2.50, fp16_ms=1.32, fp32_memory_mb=2163, fp16_memory_mb=1086),
    Claim(
        model="Kosmos-2 + CLIP hybrid", fp32_ms=2.50, fp16_ms=1.31, fp32_memory_mb=2163, fp16_memory_mb=1086
    ),
)
CLAIMED_SPEEDUPS = "1.88 and 1.92"
# what the claims fit: an RTX A5000, whose datasheet gives 768 GB/s, and a PyTorch that gave cuBLASLt's
# workspace back
CLAIMED_GPU, CLAIMED_SM, CLAIMED_GB_S = "RTX A5000", 86, 768
ROBOT, ROBOT_GB_S = "Jetson Orin NX 16 GB", 102.4
_WHAT_IT_IS = (
    f"The claims timed a random stand-in of {Standin().parameters_of():,} parameters, Linear(150528, 2048), "
    "nn.RNN(2048, 4096, 4 layers) and a small head, at batch 1 and sequence 1: none of the policies, "
    "and nothing here says how fast a policy is."
)
_SM = re.compile(r"\(sm([0-9]{2,3})\)")
_PRECISIONS: tuple[Precision, ...] = ("fp32", "fp16")


def standin_report(rows: Sequence[tuple[Protocol, Row]]) -> StandinReport:
    """Put measured rows of the stand-in's backends, each with its protocol, beside the claims."""
    explained = tuple(_explained(protocol, row) for protocol, row in rows)
    return StandinReport(
        parameters=Standin().parameters_of(),
        rows=explained,
        claims=CLAIMS,
        explanation=(
            _WHAT_IT_IS,
            *_claimed_memory(),
            _claimed_time(),
            *_measured_memory(explained),
            *_speedups(explained),
        ),
    )


def _explained(protocol: Protocol, row: Row) -> StandinRow:
    """Only PyTorch's allocator can be explained from shapes: NVML counts the CUDA context and its kernels, too."""
    backend = BACKENDS[row.backend]
    sm = _SM.search(row.identity.device) if row.identity else None
    if backend.engine != "torch" or sm is None:
        return StandinRow(protocol=protocol, row=row, explained_mib=None)
    parts = explain_memory(backend.precision, int(sm.group(1)))
    return StandinRow(protocol=protocol, row=row, explained_mib=total_mib(parts), parts=parts)


def _claimed_memory() -> Iterator[str]:
    """One sentence for each precision, the sum beside the claim."""
    claims = (CLAIMS[0].fp32_memory_mb, CLAIMS[0].fp16_memory_mb)
    for precision, claimed in zip(_PRECISIONS, claims, strict=True):
        parts = explain_memory(precision, CLAIMED_SM, cublaslt=False)
        listed = " + ".join(f"{part.mib:.1f} ({part.what})" for part in parts)
        yield (
            f"{claimed:.0f} MB in {precision.upper()}: {listed} = {total_mib(parts):.1f} MiB, "
            f"{_off(claimed, total_mib(parts))} from the sum."
        )
    yield (
        "So the unit is MiB, torch.cuda.max_memory_allocated() / 1024**2, read while stepping; all but "
        "cuBLAS's workspace halves with the precision."
    )


def _claimed_time() -> str:
    single, half = (_reading_ms(precision, CLAIMED_GB_S) for precision in _PRECISIONS)
    robot_single, robot_half = (_reading_ms(precision, ROBOT_GB_S) for precision in _PRECISIONS)
    return (
        f"At batch 1 the time is that of reading every weight once: {single:.2f} and {half:.2f} ms at the "
        f"{CLAIMED_GB_S} GB/s of an {CLAIMED_GPU}, which the claimed 2.50 and 1.32 ms fit; on a {ROBOT} "
        f"({ROBOT_GB_S:g} GB/s) the stand-in itself needs {robot_single:.1f} and {robot_half:.1f} ms at least."
    )


def _reading_ms(precision: Precision, gb_s: float) -> float:
    return Standin().parameters_of() * ITEM_BYTES[precision] / gb_s / 1e6


def _measured_memory(rows: Sequence[StandinRow]) -> Iterator[str]:
    for item in rows:
        measured = item.row.memory.torch_allocator_peak_mib if item.row.memory else None
        if measured is not None and item.explained_mib is not None:
            yield (
                f"{item.row.backend} ({item.protocol_word} protocol): {measured:.1f} MiB measured, "
                f"{item.explained_mib:.1f} MiB from shapes, {_off(measured, item.explained_mib)} from the sum."
            )


def _off(measured: float, explained: float) -> str:
    return f"{100 * (measured / explained - 1):+.1f} %"


def _speedups(rows: Sequence[StandinRow]) -> Iterator[str]:
    """FP32 over FP16 for each engine and protocol that has both, right and timed."""
    p50_ms = {
        (item.protocol, item.row.backend): item.row.step.p50_ms
        for item in rows
        if item.row.step and item.row.status == "ok"
    }
    for protocol in dict.fromkeys(item.protocol for item in rows):
        for engine in ("torch", "tensorrt"):
            single, half = (
                p50_ms.get((protocol, f"{BUNDLE}:{engine}-{precision}")) for precision in _PRECISIONS
            )
            if single and half:
                yield (
                    f"FP32 to FP16 in {engine}, {PROTOCOL_WORDS[protocol]} protocol: {single:.3f} to {half:.3f} ms, "
                    f"{single / half:.2f} x (claimed: {CLAIMED_SPEEDUPS})."
                )
