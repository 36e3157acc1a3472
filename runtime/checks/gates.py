"""Whether an error keeps its gate: one judge for the export, the build and the bench."""

from __future__ import annotations

import math
from dataclasses import dataclass

from vla_edge.runtime.bundle.manifest import Gate


@dataclass(frozen=True)
class Judgement:
    """One gate, and what was measured.

    Attributes:
        gate: of the manifest.
        measured: None where it is NaN or infinite, or was not measured.
        passed: only a finite error within the limit does.
    """

    gate: Gate
    measured: float | None
    passed: bool

    @property
    def unit(self) -> str:
        return "m/s" if self.gate.metric == "max_abs_mps" else "relative"

    def __str__(self) -> str:
        """Such as "action 0.031 m/s, gate 0.02 m/s", or "text 0.5 relative, gate 0.03"."""
        error = "NaN or infinite" if self.measured is None else f"{self.measured:.3g}"
        unit = " m/s" if self.unit == "m/s" else ""
        return f"{self.gate.stage} {error} {self.unit}, gate {self.gate.limit:g}{unit}"


def judge(gate: Gate, error: float | None) -> Judgement:
    """Hold an error against its gate; NaN, infinity and None miss every gate.

    Args:
        gate: its limit is itself within.
        error: of the gate's stage, in the gate's metric.
    """
    if error is None or not math.isfinite(error):
        return Judgement(gate, None, False)
    return Judgement(gate, error, 0 <= error <= gate.limit)
