"""The same frames through another bundle: how far the two policies' actions are apart."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from vla_edge.runtime.bundle.manifest import ActionSpec
from vla_edge.runtime.errors import InputError

from .steps import Step, flips_of


@dataclass(frozen=True)
class Difference:
    """How far two policies are apart on the same frames; the largest component counts, in its unit.

    Attributes:
        max, p99, mean: over all steps.
        flips: steps in which a component drives the other way.
        early, late: mean over the first and the last third of the episodes' steps: what a carried state adds up.
    """

    max: float
    p99: float
    mean: float
    flips: int
    early: float
    late: float


Other = Mapping[tuple[str, int], Step]


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


def apart(step: Step, other: Step) -> float:
    """The largest difference of a component."""
    return max(abs(mine - theirs) for mine, theirs in zip(step.predicted, other.predicted, strict=True))


def difference_of(episodes: Sequence[Sequence[Step]], other: Other) -> Difference | None:
    """Over the steps that both policies took; None where there are none.

    Args:
        episodes: the steps of each.
        other: the other policy's, by episode and step.
    """
    pairs = [
        (step, other[step.episode, step.step]) for steps in episodes for step in steps if _is_in(step, other)
    ]
    if not pairs:
        return None
    found = np.array([apart(*pair) for pair in pairs])
    lengths = {steps[0].episode: len(steps) for steps in episodes if steps}
    place = np.array([step.step / lengths[step.episode] for step, _ in pairs])
    return Difference(
        max=float(found.max()),
        p99=float(np.quantile(found, 0.99)),
        mean=float(found.mean()),
        flips=sum(any(flips_of(step.predicted, theirs.predicted)) for step, theirs in pairs),
        early=_mean(found[place < 1 / 3]),
        late=_mean(found[place >= 2 / 3]),
    )


def _is_in(step: Step, other: Other) -> bool:
    return (step.episode, step.step) in other


def _mean(values: np.ndarray) -> float:
    return float(values.mean()) if len(values) else 0.0
