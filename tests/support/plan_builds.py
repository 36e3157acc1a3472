"""The build that the tests of the builder make, and what it leaves."""

from __future__ import annotations

from typing import Any

from vla_edge.export.build.options import BuildOptions
from vla_edge.runtime.bundle.bundle import Bundle
from vla_edge.runtime.engines.tensorrt.plan import PlanFile
from vla_edge.runtime.engines.tensorrt.record import Check, Contents, PlanVerification

ADA = BuildOptions(backend="tensorrt-rtx", sm=89)


def left_in(bundle: Bundle) -> list[str]:
    folder = bundle.folder / "plans"
    return sorted(path.name for path in folder.iterdir()) if folder.is_dir() else []


def verification(passed: bool) -> PlanVerification:
    """As of a GPU that is not here."""
    check = Check(
        stage="action",
        metric="max_abs",
        unit="m/s",
        limit=0.02,
        measured=0.01 if passed else 0.5,
        passed=passed,
    )
    return PlanVerification(
        passed=passed,
        note="action 0.5 m/s, gate 0.02.",
        engine="a GPU",
        samples=(),
        checks=(check,),
        checked_utc="now",
    )


def verified(passed: bool, plan: PlanFile) -> tuple[PlanVerification, tuple[Contents | None, ...]]:
    """What `verify_plan` gives for a plan, without a GPU: its engines tell nothing."""
    return verification(passed), tuple(None for _ in plan.record.parts)


def verifies(passed: bool) -> Any:
    """Stands for `verify_plan`."""
    return lambda plan, *_: verified(passed, plan)
