"""What a replay comes to: one type, from which table, JSON and exit code are made."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from vla_edge.runtime.bundle.manifest import ActionSpec, Manifest

from .against import Difference, Other, difference_of
from .steps import Replayed, Step
from .trainer import TrainerMae, trainer_mae


@dataclass(frozen=True)
class Errors:
    """Of steps that were driven and predicted.

    Attributes:
        mae: by component, in its unit.
        largest: of any component, with its sign taken off.
        angle_deg: median, None where no two velocities could be compared.
        flips: by component, in how many steps the policy drives the other way.
    """

    mae: Mapping[str, float]
    largest: float
    angle_deg: float | None
    flips: Mapping[str, int]


@dataclass(frozen=True)
class Summary:
    """Attributes:
    episodes, steps: that were replayed.
    errors: None where no recording has actions.
    trainer: None likewise.
    val_mae: that the checkpoint tells.
    clamped: steps whose command was limited.
    p50_ms, p99_ms: of a step's latency.
    difference: to another bundle, where one was asked for.
    """

    episodes: int
    steps: int
    errors: Errors | None
    trainer: TrainerMae | None
    val_mae: float | None
    clamped: int
    p50_ms: float
    p99_ms: float
    difference: Difference | None


def errors_of(steps: Sequence[Step], spec: ActionSpec) -> Errors | None:
    """Over all steps that have a recorded action; None where none has."""
    errors = [step.error for step in steps if step.error is not None]
    if not errors:
        return None
    wrong = np.abs(np.array(errors))
    angles = [step.angle_deg for step in steps if step.angle_deg is not None]
    flips = np.array([step.flips for step in steps if step.flips is not None]).sum(axis=0)
    return Errors(
        mae=dict(zip(spec.names, wrong.mean(axis=0).tolist(), strict=True)),
        largest=float(wrong.max()),
        angle_deg=float(np.median(angles)) if angles else None,
        flips=dict(zip(spec.names, flips.tolist(), strict=True)),
    )


def summarise(replayed: Sequence[Replayed], manifest: Manifest, other: Other | None) -> Summary:
    """All episodes together; at least one.

    Args:
        replayed: in the order of their names, by which the trainer's batches are taken.
        manifest: of the bundle.
        other: another bundle's steps, where one was asked for.
    """
    steps = [step for each in replayed for step in each.steps]
    pairs = [(each.raw, each.targets) for each in replayed if each.targets is not None]
    latency = np.array([step.latency_ms for step in steps])
    return Summary(
        episodes=len(replayed),
        steps=len(steps),
        errors=errors_of(steps, manifest.action),
        trainer=trainer_mae(pairs) if pairs else None,
        val_mae=manifest.source.val_mae,
        clamped=sum(step.clamped for step in steps),
        p50_ms=float(np.quantile(latency, 0.5)),
        p99_ms=float(np.quantile(latency, 0.99)),
        difference=None if other is None else difference_of([each.steps for each in replayed], other),
    )
