"""The least time that this device could take for a step, and how far a backend is from it.

    memory_ms  = bytes that must be read and written / measured copy bandwidth
    compute_ms = operations that must be done / measured rate of matrix products
    floor      = the larger of the two

This is the roofline model (Williams, Waterman and Patterson, CACM 52(4), 2009) with measured roofs in place
of published ones, which nothing reaches. What the number is, exactly:

* It takes reading and computing as perfectly overlapped, and the whole step as one phase. A step has phases
  that are bound by one and phases bound by the other, so that a real engine stays above it.
* The copy's bandwidth counts bytes read plus bytes written. A step mostly reads. A stream that only reads
  can be faster than a copy, since the memory never turns from reading to writing: on a GPU by some percent,
  on a CPU by up to half again where stores first fetch the line that they overwrite. So the floor is what a
  copy loop reaches, not a law of the device, and a figure a little below 1 is no contradiction.
* Weights that fit into a cache are not read from memory twice. A small bundle can be far below its floor;
  the floor is meant for weights many times larger than the last-level cache.
* Every product is counted at the rate of the row's arithmetic, though FP16 rows do a few products in FP32.

The bytes are those of the row: PyTorch in FP32 reads four for each weight. So does ONNX Runtime on an x86
CPU from an FP16 graph, since it widens the weights when it loads them (in the graph that version 1.31 saves
after its optimisations all matrices are FP32).
"""

from __future__ import annotations

from typing import Literal, get_args

from vla_edge.bench.report.types import FloorDistance, Identity, Rates
from vla_edge.runtime.errors import InputError

from .work import Work

Arithmetic = Literal["fp32", "tf32", "fp16"]

_ARITHMETICS: tuple[Arithmetic, ...] = get_args(Arithmetic)


def floor_distance(work: Work, rates: Rates, precision: Arithmetic, p50_ms: float) -> FloorDistance | None:
    """Compare a measured time with the floor.

    Args:
        work: in the row's own sizes, see `row_work`.
        rates: of the device that ran it.
        precision: of the matrix products, see `arithmetic_of`.
        p50_ms: measured, milliseconds.

    Returns:
        The distance, or None where the rate of this arithmetic was not measured.
    """
    rate_tflops: float | None = getattr(rates, f"matmul_{precision}_tflops")
    if not rate_tflops or not rates.copy_gb_s:  # a rate of nothing was not measured
        return None
    memory_ms, compute_ms = work.times_ms(rates.copy_gb_s, rate_tflops)
    floor_ms = max(memory_ms, compute_ms)
    return FloorDistance(
        bytes_read=work.bytes_read,
        operations=work.operations,
        memory_ms=memory_ms,
        compute_ms=compute_ms,
        ms=floor_ms,
        times_floor=p50_ms / floor_ms,
    )


def arithmetic_of(identity: Identity, backend: str) -> Arithmetic:
    """How a row does its matrix products.

    `identity.compute` begins with it: "fp16", "fp32 (this CPU has no FP16 kernels, ...)". TF32 is an FP32 row
    whose products are rounded, which the backend's name says, too.

    Raises:
        InputError: `identity.compute` begins with nothing that is known.
    """
    first = "tf32" if "tf32" in backend.split("-") else next(iter(identity.compute.split()), "")
    for known in _ARITHMETICS:
        if first == known:
            return known
    raise InputError(
        f"{backend} computes in {identity.compute!r}, which is none of {', '.join(_ARITHMETICS)}.",
        "Let the session's identity begin `compute` with one of these.",
    )


def row_work(work: Work, identity: Identity, backend: str) -> Work:
    """The bundle's work in the sizes that a row reads.

    PyTorch holds every number in one precision. An engine reads the graph's own dtypes, unless it computes
    in FP32 from an FP16 graph: then it has widened the weights.
    """
    if identity.backend == "torch":
        return work.in_precision(2 if identity.precision == "fp16" else 4)
    widened = identity.precision == "fp16" and arithmetic_of(identity, backend) != "fp16"
    return work.in_precision(4) if widened else work
