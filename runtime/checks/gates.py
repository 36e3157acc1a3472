"""Whether an error keeps its gate: one judge for the export, the build and the bench."""

from __future__ import annotations

import math
from dataclasses import dataclass

from vla_edge.runtime.bundle.manifest import Gate

RELATIVE = "relative"  # the unit of a figure that has none


@dataclass(frozen=True)
class Judgement:
    """One gate, and what was measured.

    Attributes:
        gate: of the manifest.
        measured: None where it is NaN or infinite, or was not measured.
        passed: only a finite error within the limit does.
        unit: of both figures, such as "m/s"; or "relative".
    """

    gate: Gate
    measured: float | None
    passed: bool
    unit: str

    @property
    def suffix(self) -> str:
        """What follows a figure: " m/s"; nothing after a relative one."""
        return "" if self.unit == RELATIVE else f" {self.unit}"

    def __str__(self) -> str:
        """Such as "action 0.031 m/s, gate 0.02 m/s", or "text 0.5 relative, gate 0.03"."""
        error = "NaN or infinite" if self.measured is None else f"{self.measured:.3g}"
        return f"{self.gate.stage} {error} {self.unit}, gate {self.gate.limit:g}{self.suffix}"


def judge(gate: Gate, error: float | None, unit: str) -> Judgement:
    """Hold an error against its gate; NaN, infinity and None miss every gate.

    Args:
        gate: its limit is itself within.
        error: of the gate's stage, in the gate's metric.
        unit: of the policy's actions (`ActionSpec.unit`), in which a gate of "max_abs" is.
    """
    shown = unit if gate.metric == "max_abs" else RELATIVE
    if error is None or not math.isfinite(error):
        return Judgement(gate, None, False, shown)
    return Judgement(gate, error, 0 <= error <= gate.limit, shown)
