"""The result in a sentence, and what must not be overlooked beside it: the same on a terminal and on the page."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import msgspec

from vla_edge.bench.report.types import BASELINE, Agreement, BundleReport, Parity, Report, Row

from .facts import UNFINISHED, device_name
from .format import (
    TEXT_LIMIT,
    backend_label,
    clipped,
    error_in_words,
    known,
    significant,
    times,
)
from .remarks import Remark, real_doubts

BASELINE_DOUBT = "PyTorch's figure is in doubt"
# between these a ratio of two times is no difference worth a word
AS_FAST = (0.95, 1.05)
ALARMS_SHOWN = 12
NAMES_SHOWN = 5
# what a doubt says of the figures, in few words
_DOUBTS = {
    "spread": "its times spread widely",
    "drift": "its pace changed",
    "throttled": "the GPU lowered its clocks",
    "shared-device": "others used the GPU",
    "host-bound": "the host sets its pace",
    "leak": "its memory grew",
    "cold": "it was not yet steady",
    "busy-host": "the machine was busy",
}


def headline(report: Report) -> str:
    """The result in one sentence: of the only bundle, or of all in short."""
    if not report.bundles:
        return "No bundle was measured"
    if len(report.bundles) == 1:
        return bundle_headline(report.bundles[0])
    best = [(bundle, fastest(bundle.rows)) for bundle in report.bundles]
    right = [row for _, row in best if row is not None and row.step is not None]
    if len(right) < len(best):
        return f"{len(right)} of {len(best)} bundles have a right engine on {device_name(report)}"
    answers = listed([significant(row.step.p50_ms) for row in right if row.step])
    names = listed(list(dict.fromkeys(backend_label(row) for row in right)))
    ratios = [row.speedup_over_torch_fp32 for row in right if row.backend != BASELINE]
    gains = [f"{times(ratio)}x" for ratio in ratios if known(ratio) and ratio >= AS_FAST[1]]
    gain = f", {listed(gains)} faster than PyTorch FP32" if len(gains) == len(right) else ""
    unsure = gain and any(baseline_in_doubt(bundle.rows) for bundle in report.bundles)
    gain += f" ({BASELINE_DOUBT})" if unsure else ""
    doubt = ", with reasons to doubt it" if any(real_doubts(row) for row in right) else ""
    return f"{names} answer{'s' * (names.count(' and ') == 0)} in {answers} ms{gain}{doubt}"


def bundle_headline(bundle: BundleReport) -> str:
    """What the fastest right row gains; the doubts of it are part of the sentence."""
    row = fastest(bundle.rows)
    if row is None or row.step is None:
        wrong = [backend_label(other) for other in bundle.rows if other.status == "wrong"]
        return f"No backend is right: {listed(wrong)} wrong" if wrong else "No backend gave a result"
    sentence = f"{backend_label(row)} answers in {significant(row.step.p50_ms)} ms"
    if row.backend != BASELINE:
        sentence += _gain(row.speedup_over_torch_fp32, doubted=baseline_in_doubt(bundle.rows))
        if row.parity and known(row.parity.max_abs):
            sentence += f"; right within {error_in_words(_larger_error(row.parity, row.agreement))}"
    doubts = ", ".join(dict.fromkeys(_DOUBTS.get(doubt.kind, doubt.kind) for doubt in real_doubts(row)))
    return f"{sentence}; in doubt: {doubts}" if doubts else sentence


def _larger_error(parity: Parity, agreement: Agreement | None) -> Parity:
    """The error on golden samples, or on the user's own frames where that is larger."""
    if agreement is None or parity.max_abs is None or agreement.max_abs <= parity.max_abs:
        return parity
    return msgspec.structs.replace(parity, max_abs=agreement.max_abs)


def _gain(ratio: float | None, *, doubted: bool) -> str:
    """How a row's speed compares with PyTorch's, as a clause."""
    if not known(ratio) or ratio <= 0:
        return ""
    value, words = gain_in_words(ratio)
    factor = "" if AS_FAST[0] < ratio < AS_FAST[1] else f"{value}x "
    return f", {factor}{words}{f' ({BASELINE_DOUBT})' if doubted else ''}"


def gain_in_words(ratio: float) -> tuple[str, str]:
    """A speed over PyTorch's, above 0, as a factor of at least about 1 and what it says."""
    if AS_FAST[0] < ratio < AS_FAST[1]:
        return times(ratio), "as fast as PyTorch FP32"
    if ratio < 1:
        return times(1 / ratio), "slower than PyTorch FP32"
    return times(ratio), "faster than PyTorch FP32"


def baseline_in_doubt(rows: Iterable[Row]) -> bool:
    """Whether something speaks against the figure of PyTorch FP32, and so against every ratio to it."""
    return any(row.backend == BASELINE and bool(real_doubts(row)) for row in rows)


def fastest(rows: Sequence[Row]) -> Row | None:
    """The fastest row whose actions were compared and are right; its speed is the only one worth a headline."""
    right = [
        row
        for row in rows
        if row.status == "ok" and row.step is not None and known(row.step.p50_ms) and row.parity is not None
    ]
    return min(right, key=lambda row: row.step.p50_ms if row.step else float("inf"), default=None)


def alarms(report: Report) -> tuple[Remark, ...]:
    """What must not be overlooked below a good headline: a report that is not complete, engines that are wrong or
    failed, bundles refused.

    PyTorch in half precision may be wrong: that is a finding about `.half()`, and stands at its row.
    """
    every = [] if report.complete else [Remark("this report", "unfinished", UNFINISHED)]
    every += [
        Remark(f"{backend_label(row)} of {clipped(bundle.name)}", row.status, clipped(row.reason, TEXT_LIMIT))
        for bundle in report.bundles
        for row in bundle.rows
        if row.is_fault
    ]
    every += [
        Remark(clipped(refused.path), "refused", clipped(refused.reason, TEXT_LIMIT))
        for refused in report.refused
    ]
    left = len(every) - ALARMS_SHOWN
    more = [Remark("this report", "and more", f"{left} more of these")] if left > 0 else []
    return (*every[:ALARMS_SHOWN], *more)


def listed(words: Sequence[str]) -> str:
    """Words as a sentence lists them, the first few and how many more."""
    if len(words) > NAMES_SHOWN + 1:
        words = (*words[:NAMES_SHOWN], f"{len(words) - NAMES_SHOWN} more")
    return " and ".join(filter(None, (", ".join(words[:-1]), words[-1])))
