"""The same frames through another bundle: how far the two policies' actions are apart."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from vla_edge.runtime.bundle.manifest import ActionSpec
from vla_edge.runtime.errors import InputError

from .steps import Step, drives_back

# Points of a drift: beyond them, several steps are taken together.
MAX_POINTS = 100

# What another policy commanded, by episode: float64 [T, size].
Other = Mapping[str, np.ndarray]


@dataclass(frozen=True)
class Drift:
    """The difference by the number of the step, over all episodes that reach it: what a carried state adds up.

    Attributes:
        steps_a_point: that are taken together, 1 where the longest episode has at most 100.
        mean, max: of each point.
    """

    steps_a_point: int
    mean: tuple[float, ...]
    max: tuple[float, ...]


@dataclass(frozen=True)
class Difference:
    """How far two policies are apart on the same frames; the largest component counts, in its unit.

    Attributes:
        max, p99, mean: over all steps.
        flips: steps in which a component drives the other way.
        early, late: mean over the first and the last third of the episodes' steps.
        drift: step by step.
    """

    max: float
    p99: float
    mean: float
    flips: int
    early: float
    late: float
    drift: Drift


@dataclass(frozen=True, eq=False)
class Apart:
    """Of one episode.

    Attributes:
        largest: of any component, float64 [T].
        flips: whether a component drives the other way, bool [T].
    """

    largest: np.ndarray
    flips: np.ndarray


def apart_in_words(value: float) -> str:
    """A difference with four digits; one that these would show as nothing, by its size: "3.8e-05"."""
    return f"{value:.4f}" if value == 0 or value >= 0.001 else f"{value:.1e}"


def require_same_action(mine: ActionSpec, theirs: ActionSpec) -> None:
    """Refuse policies whose actions cannot be compared.

    Raises:
        InputError: other components or units.
    """
    if (mine.names, mine.units) != (theirs.names, theirs.units):
        raise InputError(
            f"the two policies give other actions: {_told(mine)} and {_told(theirs)}.",
            "Give bundles of policies with the same components.",
        )


def _told(spec: ActionSpec) -> str:
    return ", ".join(f"{name} [{unit}]" for name, unit in zip(spec.names, spec.units, strict=True))


def predicted(steps: Sequence[Step]) -> np.ndarray:
    """What was commanded in an episode, float64 [T, size]."""
    return np.array([step.predicted for step in steps])


def apart(steps: Sequence[Step], other: Other) -> Apart | None:
    """An episode by both policies; None where the other one did not go through it."""
    theirs = other.get(steps[0].episode) if steps else None
    if theirs is None or len(theirs) != len(steps):
        return None
    mine = predicted(steps)
    back = np.asarray(drives_back(mine, theirs).any(axis=1))
    return Apart(np.abs(mine - theirs).max(axis=1), back)


def difference_of(episodes: Sequence[Apart]) -> Difference | None:
    """Over all steps of some episodes; None where there are none."""
    if not episodes:
        return None
    found = np.concatenate([each.largest for each in episodes])
    place = np.concatenate([np.arange(len(each.largest)) / len(each.largest) for each in episodes])
    return Difference(
        max=float(found.max()),
        p99=float(np.quantile(found, 0.99)),
        mean=float(found.mean()),
        flips=int(sum(each.flips.sum() for each in episodes)),
        early=_mean(found[place < 1 / 3]),
        late=_mean(found[place >= 2 / 3]),
        drift=_drift(found, np.concatenate([np.arange(len(each.largest)) for each in episodes])),
    )


def _drift(found: np.ndarray, number: np.ndarray) -> Drift:
    together = -(-(int(number.max()) + 1) // MAX_POINTS)
    point = number // together
    points = int(point.max()) + 1
    largest = np.zeros(points)
    np.maximum.at(largest, point, found)
    mean = np.bincount(point, found) / np.bincount(point)
    return Drift(together, tuple(mean.tolist()), tuple(largest.tolist()))


def _mean(values: np.ndarray) -> float:
    return float(values.mean()) if len(values) else 0.0
