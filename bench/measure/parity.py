"""How far a backend's actions are from the golden ones."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from vla_edge.bench.report.types import LARGEST_NUMBER, LONGEST_WORDS, Parity
from vla_edge.runtime.bundle.manifest import Gate
from vla_edge.runtime.checks.batch_error import compare
from vla_edge.runtime.checks.gates import Judgement, judge


class ActionErrors:
    """The largest errors over every call of a backend, golden pass and timed calls alike.

    Args:
        reference: golden actions, float32 [N, steps, size].
        scale: from graph output to a component's unit, per component; the offset cancels out.
        unit: of the errors, such as "m/s".
    """

    def __init__(self, reference: np.ndarray, scale: Sequence[float], unit: str) -> None:
        self._reference = reference
        self._scale = scale
        self._unit = unit[:LONGEST_WORDS]
        self._max_abs = self._relative_l2 = 0.0
        self._calls = 0
        self._seen: set[int] = set()

    def add(self, sample: int, actions: np.ndarray) -> None:
        """Compare actions [batch, steps, size] with those of a golden sample; NaN counts as infinite."""
        relative, largest = compare(actions, self._reference[sample], self._scale)
        self._relative_l2 = max(self._relative_l2, relative)
        self._max_abs = max(self._max_abs, largest)
        self._calls += 1
        self._seen.add(sample)

    def summary(self) -> Parity:
        finite = self._max_abs <= LARGEST_NUMBER
        return Parity(
            calls=self._calls,
            samples=len(self._seen),
            finite=finite,
            unit=self._unit,
            max_abs=self._max_abs if finite else None,
            relative_l2=self._relative_l2 if self._relative_l2 <= LARGEST_NUMBER else None,
        )


def missed_gate(parity: Parity, gates: Sequence[Gate]) -> str:
    """Which gate of the actions is missed, or "" where all are kept.

    A bundle without gates for its actions cannot be told right from wrong by its error, only by whether
    it is finite.
    """
    if not parity.finite:
        return "actions are NaN or infinite"
    values = {"max_abs": parity.max_abs, "relative_l2": parity.relative_l2}
    for gate in gates:
        judged = judge(gate, values[gate.metric], parity.unit)
        if gate.stage == "action" and not judged.passed:
            return _missed(judged)
    return ""


def _missed(judged: Judgement) -> str:
    """By how much, in the user's words: three digits where two would make an error look like what is allowed."""
    limit, measured = judged.gate.limit, judged.measured
    unit = judged.suffix or " of its size"
    allowed = f"{limit:g}{judged.suffix} allowed"
    if measured is None:
        return f"action off by NaN or infinity, {allowed}"
    digits = next((count for count in (2, 3, 6) if float(f"{measured:.{count}g}") > limit), 17)
    return f"action off by {measured:.{digits}g}{unit}, {allowed}"
