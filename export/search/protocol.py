"""The training script's validation error: which steps it may have been taken over, and how batches weigh.

It is the mean over batches of each batch's mean absolute error, so that a last batch that is smaller counts as much
as a full one. For any way to take it that is a weighted mean of the episodes' own errors, and the weights are all
that has to be known.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from vla_edge.runtime.replay.trainer import batch_weights

STEPS: Mapping[str, str] = {
    "all": "all steps",
    "valid": "recorded steps only",
    "first": "the first step only",
}


@dataclass(frozen=True)
class Protocol:
    """One way to take the error.

    Attributes:
        steps: "all", "valid" (without those that were filled in) or "first".
        order: of the episodes, where the last batch is smaller; "" where it makes no difference.
        weights: float64 [E], of the episodes' mean errors over these steps.
    """

    steps: str
    order: str
    weights: np.ndarray

    def in_words(self) -> str:
        return STEPS[self.steps] + (f", files {self.order}" if self.order else "")


def protocols(valid: np.ndarray, orders: Mapping[str, Sequence[int]], batch: int) -> tuple[Protocol, ...]:
    """Every way to take the error that makes a difference.

    Args:
        valid: bool [E, steps], which steps were recorded.
        orders: of the episodes, by name.
        batch: episodes a batch.
    """
    found: list[Protocol] = []
    kinds = ["all", "first"] if valid.all() else ["all", "valid", "first"]
    for kind in kinds:
        for name, order in orders.items():
            counts = valid.sum(axis=1) if kind == "valid" else np.ones(len(valid))
            weights = batch_weights(counts, order, batch)
            known = [each for each in found if each.steps == kind]
            if not any(np.allclose(each.weights, weights, rtol=0, atol=1e-15) for each in known):
                found.append(Protocol(kind, name, weights))
    alone = {kind for kind in kinds if sum(each.steps == kind for each in found) == 1}
    return tuple(Protocol(each.steps, "", each.weights) if each.steps in alone else each for each in found)


def episode_errors(distance: np.ndarray, valid: np.ndarray) -> dict[str, np.ndarray]:
    """The episodes' mean errors by kind of steps: float64 [..., E].

    Args:
        distance: mean over the components of |predicted - driven|, [..., E, steps].
        valid: bool [E, steps].
    """
    return {
        "all": distance.mean(axis=-1),
        "valid": (distance * valid).sum(axis=-1) / valid.sum(axis=-1),
        "first": distance[..., 0],
    }
