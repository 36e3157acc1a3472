"""What a replay comes to: one type, from which table, JSON and exit code are made."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from vla_edge.runtime.bundle.manifest import ActionSpec, Manifest

from .against import Apart, Difference, Other, apart, difference_of
from .steps import Replayed
from .trainer import TrainerMae, file_orders, maes_by_order


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
    trainer: by the files sorted; None likewise.
    other_orders: the same with the files in another order, where the last batch is smaller and that makes a
        difference: "reversed", or "listed" as the folder has them.
    val_mae: that the checkpoint tells.
    clamped: steps whose command was limited.
    p50_ms, p99_ms: of a step's latency.
    difference: to another bundle, where one was asked for.
    """

    episodes: int
    steps: int
    errors: Errors | None
    trainer: TrainerMae | None
    other_orders: Mapping[str, TrainerMae]
    val_mae: float | None
    clamped: int
    p50_ms: float
    p99_ms: float
    difference: Difference | None


@dataclass(frozen=True, eq=False)
class Kept:
    """What a summary needs of an episode; its steps themselves are a hundred times as much.

    Attributes:
        name, path: of the episode.
        errors: float64 [N, size] of the steps that have a recorded action.
        angles_deg: float64, of those where both velocities have one.
        flips: bool [N, size].
        latency_ms: float64 [T].
        clamped: how many steps.
        trained: the graph's outputs and the targets of training, float64 [18, size] each; None without actions.
        apart: from the other policy, where one was asked for and went through this episode.
    """

    name: str
    path: Path
    errors: np.ndarray
    angles_deg: np.ndarray
    flips: np.ndarray
    latency_ms: np.ndarray
    clamped: int
    trained: tuple[np.ndarray, np.ndarray] | None
    apart: Apart | None


def kept_of(replayed: Replayed, spec: ActionSpec, other: Other | None) -> Kept:
    """An episode in a few arrays."""
    steps, size = replayed.steps, len(spec.names)
    return Kept(
        name=steps[0].episode,
        path=replayed.path,
        errors=np.array([step.error for step in steps if step.error is not None]).reshape(-1, size),
        angles_deg=np.array([step.angle_deg for step in steps if step.angle_deg is not None]),
        flips=np.array([step.flips for step in steps if step.flips is not None], bool).reshape(-1, size),
        latency_ms=np.array([step.latency_ms for step in steps]),
        clamped=sum(step.clamped for step in steps),
        trained=None if replayed.targets is None else (replayed.raw, replayed.targets),
        apart=None if other is None else apart(steps, other),
    )


def errors_of(episodes: Sequence[Kept], spec: ActionSpec) -> Errors | None:
    """Over all steps that have a recorded action; None where none has."""
    wrong = np.abs(np.concatenate([each.errors for each in episodes]))
    if not len(wrong):
        return None
    angles = np.concatenate([each.angles_deg for each in episodes])
    flips = np.concatenate([each.flips for each in episodes]).sum(axis=0)
    return Errors(
        mae=dict(zip(spec.names, wrong.mean(axis=0).tolist(), strict=True)),
        largest=float(wrong.max()),
        angle_deg=float(np.median(angles)) if len(angles) else None,
        flips=dict(zip(spec.names, flips.tolist(), strict=True)),
    )


def summarise(episodes: Sequence[Kept], manifest: Manifest) -> Summary:
    """All episodes together; at least one.

    Args:
        episodes: that were replayed.
        manifest: of the bundle.
    """
    maes = _trainer_maes(episodes)
    latency_ms = np.concatenate([each.latency_ms for each in episodes])
    return Summary(
        episodes=len(episodes),
        steps=len(latency_ms),
        errors=errors_of(episodes, manifest.action),
        trainer=maes.pop("sorted", None),
        other_orders=maes,
        val_mae=manifest.source.val_mae,
        clamped=sum(each.clamped for each in episodes),
        p50_ms=float(np.quantile(latency_ms, 0.5)),
        p99_ms=float(np.quantile(latency_ms, 0.99)),
        difference=difference_of([each.apart for each in episodes if each.apart is not None]),
    )


def _trainer_maes(episodes: Sequence[Kept]) -> dict[str, TrainerMae]:
    """By the order of the files, those without actions left out."""
    known = [(each, each.trained) for each in episodes if each.trained is not None]
    if not known:
        return {}
    orders = file_orders([each.name for each, _ in known], [each.path for each, _ in known])
    return maes_by_order([trained for _, trained in known], orders)
