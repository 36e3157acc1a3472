"""How far a backend's actions are from the golden ones."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from vla_edge.bench.report.types import LARGEST_NUMBER, LONGEST_WORDS, Agreement, Parity
from vla_edge.runtime.bundle.golden import rows
from vla_edge.runtime.bundle.manifest import ACTION_STAGE, Gate
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
        self._state: dict[str, float] = {}

    def add(self, sample: int, actions: np.ndarray) -> None:
        """Compare actions [batch, steps, size] with those of a golden sample; NaN counts as infinite."""
        relative, largest = compare(actions, self._reference[sample], self._scale)
        self._relative_l2 = max(self._relative_l2, relative)
        self._max_abs = max(self._max_abs, largest)
        self._calls += 1
        self._seen.add(sample)

    def add_state(self, stage: str, value: np.ndarray, reference: np.ndarray) -> None:
        """Compare carried state [layers, batch, hidden] with that of a golden sample, [layers, hidden]."""
        relative, _ = compare(rows(value, is_state=True), reference)
        self._state[stage] = max(self._state.get(stage, 0.0), relative)

    def summary(self) -> Parity:
        finite = self._max_abs <= LARGEST_NUMBER
        return Parity(
            calls=self._calls,
            samples=len(self._seen),
            finite=finite,
            unit=self._unit,
            max_abs=self._max_abs if finite else None,
            relative_l2=_finite(self._relative_l2),
            state={stage: _finite(error) for stage, error in self._state.items()},
        )


def missed_gate(parity: Parity, gates: Sequence[Gate]) -> str:
    """Which gate of the actions or of carried state is missed, or "" where all are kept.

    A bundle without gates for its actions cannot be told right from wrong by its error, only by whether
    it is finite.
    """
    if not parity.finite:
        return "actions are NaN or infinite"
    values = {"max_abs": parity.max_abs, "relative_l2": parity.relative_l2}
    for gate in gates:
        if gate.stage not in parity.state and gate.stage != ACTION_STAGE:
            continue
        error = values[gate.metric] if gate.stage == ACTION_STAGE else parity.state[gate.stage]
        judged = judge(gate, error, parity.unit)
        if not judged.passed:
            return missed_words(judged)
    return ""


def missed_on_frames(agreement: Agreement, gates: Sequence[Gate], *, carried: bool) -> str:
    """Which gate of the actions is missed on the user's own frames, or "" where all are kept.

    Args:
        agreement: with PyTorch FP32.
        gates: of the manifest; those in other metrics than the agreement's say nothing of it.
        carried: whether state goes from frame to frame, so that errors may add up.
    """
    for gate in gates:
        if gate.stage != ACTION_STAGE or gate.metric != "max_abs":
            continue
        judged = judge(gate, agreement.max_abs, agreement.unit)
        if not judged.passed:
            worst = agreement.errors.index(max(agreement.errors)) + 1
            where = f"at frame {worst} of {agreement.frames} of --images"
            drift = "; its state is carried from frame to frame, where errors add up" if carried else ""
            return f"{missed_words(judged)}, {where}{drift}"
    return ""


def missed_words(judged: Judgement) -> str:
    """By how much, in the user's words: three digits where two would make an error look like what is allowed."""
    limit, measured = judged.gate.limit, judged.measured
    unit = judged.suffix or " of its size"
    allowed = f"{limit:g}{judged.suffix} allowed"
    what = "action" if judged.gate.stage == ACTION_STAGE else f"carried state {judged.gate.stage}"
    if measured is None:
        return f"{what} off by NaN or infinity, {allowed}"
    digits = next((count for count in (2, 3, 6) if float(f"{measured:.{count}g}") > limit), 17)
    return f"{what} off by {measured:.{digits}g}{unit}, {allowed}"


def _finite(value: float) -> float | None:
    return value if value <= LARGEST_NUMBER else None
