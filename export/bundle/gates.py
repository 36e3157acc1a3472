"""How much error an export may have.

The action gate is set by the family, against what matters on the floor. Stage gates exist to
locate a fault, not to judge it, and are wide enough for honest half precision (2^-11 an operation,
growing with depth).
"""

from __future__ import annotations

import re
from collections.abc import Collection, Sequence

from vla_edge.export.family import GateLimits
from vla_edge.runtime.bundle.manifest import ACTION_STAGE, Gate, Manifest, Parity
from vla_edge.runtime.checks.gates import Judgement, judge
from vla_edge.runtime.errors import InputError, ParityError

# Of what is computed in FP32, and to the byte: about one byte in two hundred may be off by one.
EXACT = 1e-3


def default_gates(limits: GateLimits, stages: Sequence[str], exact: Collection[str] = ()) -> tuple[Gate, ...]:
    """A relative gate for each stage, and one for the action in the units of its components.

    `exact` are stages that half precision is no excuse for.
    """
    gates = [
        Gate(
            stage=name,
            metric="relative_l2",
            limit=min(EXACT, limits.stage) if name in exact else limits.stage,
        )
        for name in stages
        if name != ACTION_STAGE
    ]
    return (*gates, Gate(stage=ACTION_STAGE, metric="max_abs", limit=limits.action))


def override(gates: Sequence[Gate], texts: Sequence[str], unit: str) -> tuple[Gate, ...]:
    """Apply `--gate STAGE=LIMIT` texts; the action's limit is in `unit`.

    Raises:
        InputError: an unknown stage, one given twice, or a limit that is not a positive number.
    """
    given = set()
    limits = {gate.stage: gate for gate in gates}
    for text in texts:
        stage, sign, number = (part.strip() for part in text.partition("="))
        if not sign or not stage:
            raise InputError(
                f"--gate {text!r} is not STAGE=LIMIT.", f"Stages of this policy: {', '.join(limits)}."
            )
        if stage not in limits:
            raise InputError(
                f"--gate {text!r}: unknown stage {stage!r}.", f"Stages of this policy: {', '.join(limits)}."
            )
        if stage in given:
            raise InputError(f"--gate {stage} is given twice.", "Give each stage's limit once.")
        given.add(stage)
        limits[stage] = Gate(
            stage=limits[stage].stage, metric=limits[stage].metric, limit=_limit(text, number, unit)
        )
    return tuple(limits.values())


def _limit(text: str, number: str, unit: str) -> float:
    hint = f"Give a number above 0, such as action=0.02 ({unit}) or text=0.03 (relative)."
    if not re.fullmatch(r"[+-]?([0-9]+(\.[0-9]*)?|\.[0-9]+)([eE][+-]?[0-9]+)?", number):
        raise InputError(f"--gate {text!r}: {number!r} is no number.", hint)
    if not 0 < float(number) < float("inf"):
        raise InputError(f"--gate {text!r}: {number} is no limit: it must be positive and finite.", hint)
    return float(number)


class GatesMissedError(ParityError):
    """A written graph that missed its gates; `manifest` tells all errors, of a bundle that was not kept."""

    def __init__(self, problem: str, hint: str, manifest: Manifest) -> None:
        super().__init__(problem, hint)
        self.manifest = manifest


def judgements(manifest: Manifest) -> tuple[Judgement, ...]:
    """Each gate of a manifest and the number that it judges."""
    return judge_all(manifest.parity, manifest.action.unit)


def judge_all(parity: Parity, unit: str) -> tuple[Judgement, ...]:
    """Each gate in turn, that of the action in `unit`; one whose stage has no error is missed."""
    relative = {error.stage: error.relative_l2 for error in parity.errors}
    return tuple(
        judge(gate, parity.max_abs if gate.metric == "max_abs" else relative.get(gate.stage), unit)
        for gate in parity.gates
    )


def missed(parity: Parity, unit: str) -> list[str]:
    """A sentence for each gate that is missed; NaN misses every gate."""
    return [str(each) for each in judge_all(parity, unit) if not each.passed]


def require_met(manifest: Manifest) -> None:
    """Refuse a graph that misses a gate.

    Raises:
        GatesMissedError: names each.
    """
    if found := missed(manifest.parity, manifest.action.unit):
        raise GatesMissedError(
            f"{manifest.name} differs too much from the PyTorch FP32 policy: {'; '.join(found)}.",
            "This bundle was not kept. Export with --fp32 to tell precision from structure, "
            "or set another limit with --gate.",
            manifest,
        )
