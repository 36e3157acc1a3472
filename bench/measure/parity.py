"""How far a backend's actions are from the golden ones."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from vla_edge.bench.report.types import LARGEST_NUMBER, Parity
from vla_edge.runtime.bundle.manifest import Gate
from vla_edge.runtime.checks.gates import judge
from vla_edge.runtime.checks.relative import relative_l2


class ActionErrors:
    """The largest errors over every call of a backend, golden pass and timed calls alike.

    Args:
        reference: golden actions, float32 [N, steps, size].
        scale: from graph output to m/s, per component; the offset cancels out.
    """

    def __init__(self, reference: np.ndarray, scale: Sequence[float]) -> None:
        self._reference = reference.astype(np.float64)
        self._scale = np.asarray(scale, dtype=np.float64)
        self._max_abs_mps = np.zeros(())
        self._relative_l2 = 0.0
        self._calls = 0
        self._seen: set[int] = set()

    def add(self, sample: int, actions: np.ndarray) -> None:
        """Compare actions [batch, steps, size] with those of a golden sample; NaN stays NaN."""
        reference = self._reference[sample]
        difference = actions.astype(np.float64) - reference
        # np.maximum hands NaN on, max() would lose it
        self._max_abs_mps = np.maximum(self._max_abs_mps, np.abs(difference * self._scale).max())
        self._relative_l2 = max(self._relative_l2, *(relative_l2(row, reference) for row in actions))
        self._calls += 1
        self._seen.add(sample)

    def summary(self) -> Parity:
        finite = bool(self._max_abs_mps <= LARGEST_NUMBER)  # not so of NaN
        return Parity(
            calls=self._calls,
            samples=len(self._seen),
            finite=finite,
            max_abs_mps=float(self._max_abs_mps) if finite else None,
            relative_l2=self._relative_l2 if self._relative_l2 <= LARGEST_NUMBER else None,
        )


def missed_gate(parity: Parity, gates: Sequence[Gate]) -> str:
    """Which gate of the actions is missed, or "" where all are kept.

    A bundle without gates for its actions cannot be told right from wrong by its error, only by whether
    it is finite.
    """
    if not parity.finite:
        return "actions are NaN or infinite"
    values = {"max_abs": parity.max_abs_mps, "relative_l2": parity.relative_l2}
    for gate in gates:
        judged = judge(gate, values[gate.metric], "m/s")
        if gate.stage == "action" and not judged.passed:
            return _missed(gate, judged.measured)
    return ""


def _missed(gate: Gate, measured: float | None) -> str:
    """By how much, in the user's words: three digits where two would make an error look like what is allowed."""
    if gate.metric == "max_abs":
        form, allowed = "{} m/s", f"{gate.limit:g} m/s"
    else:
        form, allowed = "{} of its size", f"{gate.limit:g}"
    if measured is None:
        return f"action off by NaN or infinity, {allowed} allowed"
    digits = next((count for count in (2, 3, 6) if float(f"{measured:.{count}g}") > gate.limit), 17)
    return f"action off by {form.format(f'{measured:.{digits}g}')}, {allowed} allowed"
