"""One judge of errors: what is not a number within the limit misses, whoever asks."""

from __future__ import annotations

import math

import pytest

from vla_edge.bench.measure.parity import missed_gate
from vla_edge.bench.report.types import Parity as Timed
from vla_edge.export.build.verify import StageMeasure
from vla_edge.export.build.verify import judge as judge_plan
from vla_edge.export.bundle.gates import missed
from vla_edge.runtime.bundle.manifest import Gate, Parity, StageError
from vla_edge.runtime.checks.gates import judge

MPS = Gate(stage="action", metric="max_abs", limit=0.02)
RELATIVE = Gate(stage="action", metric="relative_l2", limit=0.02)
KEPT = (0.0, 1e-300, 0.01, 0.02)
MISSED = (0.020000001, 1.0, 1e308, math.inf, math.nan, -math.inf, -0.01)


def measured(gate: Gate, error: float) -> Parity:
    """Of an export with this gate, whose action has this error."""
    errors = (StageError(stage="action", relative_l2=error, max_abs=error),)
    return Parity(reference="", engine="", samples=1, gates=(gate,), errors=errors, max_abs=error)


def verdicts(gate: Gate, error: float) -> list[bool]:
    """Whether an error passes the judge, the export, the build and the bench."""
    finite = error if math.isfinite(error) else None
    exported = missed(measured(gate, error), "m/s")
    built = judge_plan([gate], ["a"], [{"action": StageMeasure(error, error)}], "engine", "m/s")
    timed = missed_gate(
        Timed(calls=1, samples=1, finite=finite is not None, unit="m/s", max_abs=finite, relative_l2=finite),
        [gate],
    )
    return [judge(gate, error, "m/s").passed, not exported, built.passed, not timed]


@pytest.mark.parametrize("gate", [MPS, RELATIVE], ids=["m/s", "relative"])
@pytest.mark.parametrize("error", [*KEPT, *MISSED])
def test_all_commands_judge_alike(gate: Gate, error: float) -> None:
    assert verdicts(gate, error) == [error in KEPT] * 4


def test_what_was_not_measured_misses() -> None:
    assert not judge(MPS, None, "m/s").passed
    other = Gate(stage="vision", metric="relative_l2", limit=1.0)
    assert missed(measured(other, 0.0), "m/s") == ["vision NaN or infinite relative, gate 1"]


def test_a_relative_error_without_a_number_is_not_within_its_gate() -> None:
    """The reference is all zeros and the action is not: finite in m/s, infinite relative."""
    parity = Timed(calls=1, samples=1, finite=True, unit="m/s", max_abs=0.001, relative_l2=None)
    assert missed_gate(parity, [MPS]) == ""
    assert missed_gate(parity, [RELATIVE]) == ("action off by NaN or infinity, 0.02 allowed")


@pytest.mark.parametrize(
    ("gate", "error", "words"),
    [
        (MPS, 0.031, "action 0.031 m/s, gate 0.02 m/s"),
        (RELATIVE, 0.5, "action 0.5 relative, gate 0.02"),
        (MPS, math.nan, "action NaN or infinite m/s, gate 0.02 m/s"),
    ],
)
def test_a_judgement_says_error_unit_and_gate(gate: Gate, error: float, words: str) -> None:
    assert str(judge(gate, error, "m/s")) == words
