"""What the errors of all combinations tell, and what they do not.

Thousands of combinations are tried against one number, so that some come near it by chance. How many would is told
by how densely the other errors lie around the number, and nothing is called found that chance explains.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from .protocol import Protocol
from .scan import Scores

Kind = Literal["found", "several", "none"]

TOLERANCE = 1e-4  # what another GPU, or TF32 in training, may change of an error
# The same sums in another order: batches are averaged in single precision, whose numbers near 0.2 lie 1.5e-8 apart.
ROUNDING = 1e-7
FAR = 20.0  # times as far is far off
BY_CHANCE = 0.01  # of such searches may one find a wrong combination
# Wrong combinations expected as near as the best, from which on nothing is concluded from what fits. So many searches
# whose right settings were not tried end in a file nevertheless, less those whose fits have nothing in common.
EXPLAINED = 0.05
NEIGHBOURS = 50  # by which the density of errors is told
MAX_FITS = 200
NEAREST = 10  # are told where none fits


@dataclass(frozen=True)
class Fit:
    """A combination, its protocol, and how near it comes.

    Attributes:
        at: position of the settings among those tried.
        protocol: the one by which it comes nearest.
        mae: by that protocol.
        distance: from the checkpoint's.
        likelihood: where a random fifth was validated on: the share of random fifths as far from all episodes' error
            as the checkpoint's is, or farther; None where all were.
    """

    at: int
    protocol: Protocol
    mae: float
    distance: float
    likelihood: float | None = None


@dataclass(frozen=True)
class Verdict:
    """What was found.

    Attributes:
        kind: "found", "several" or "none".
        fits: combinations that give the number, the nearest first, at most `MAX_FITS`; where there are none, the
            nearest ones.
        fitting: positions of all that give it.
        next_distance: of the nearest combination that does not fit; None where all do.
        by_chance: how many wrong ones would be expected as near as the best.
        values: different errors that were compared.
    """

    kind: Kind
    fits: tuple[Fit, ...]
    fitting: frozenset[int]
    next_distance: float | None
    by_chance: float
    values: int

    @property
    def count(self) -> int:
        """Of the combinations that fit."""
        return len(self.fitting)


def judged(
    scores: Scores,
    protocols: Sequence[Protocol],
    val_mae: float,
    tolerance: float,
    alike: Callable[[int, int], bool] = lambda one, other: False,
) -> Verdict:
    """The verdict where the validation error is of all episodes.

    Args:
        scores: of all combinations.
        protocols: those of the scores.
        val_mae: the checkpoint's.
        tolerance: beyond which nothing fits.
        alike: whether two combinations, by their positions, answer the same but for rounding; which of them comes
            nearer is then rounding, too.
    """
    distances = np.abs(scores.mae - val_mae)
    distances[~np.isfinite(distances)] = np.inf
    nearest = distances.min(axis=1)
    order = np.argsort(nearest, kind="stable")
    best = float(nearest[order[0]])
    by_chance, values = expected_by_chance(scores.mae, val_mae, max(best, 1e-12))
    stands_out = best <= tolerance and by_chance <= BY_CHANCE
    limit = min(tolerance, max(FAR * best, FAR * ROUNDING)) if stands_out else tolerance
    fitting = [int(at) for at in order if nearest[at] <= limit]
    if stands_out:
        close = [int(at) for at in order[len(fitting) : MAX_FITS] if nearest[at] <= tolerance]
        fitting += [at for at in close if alike(fitting[0], at)]
    fits = tuple(_fit(at, distances, scores, protocols) for at in (fitting or map(int, order[:NEAREST])))
    beyond = np.delete(nearest, fitting)
    kind: Kind = "none" if best > tolerance else "found" if stands_out and len(fitting) == 1 else "several"
    return Verdict(
        kind,
        fits[:MAX_FITS],
        frozenset(fitting),
        float(beyond.min()) if len(beyond) and np.isfinite(beyond.min()) else None,
        by_chance,
        values,
    )


def expected_by_chance(mae: np.ndarray, val_mae: float, within: float) -> tuple[float, int]:
    """How many wrong errors would lie within a distance of a number, by how dense they are around it.

    Args:
        mae: of all combinations and protocols.
        val_mae: the number.
        within: the distance.

    Returns:
        The expected number, and how many different errors there are.
    """
    values = np.unique(np.round(mae[np.isfinite(mae)], 9))
    others = np.sort(np.abs(values - val_mae))[1:]  # the nearest may be the right one
    near = others[: min(NEIGHBOURS, len(others))]
    if not len(near) or near[-1] == 0:
        return 0.0, len(values)
    return float(within / near[-1] * len(near)), len(values)


def _fit(at: int, distances: np.ndarray, scores: Scores, protocols: Sequence[Protocol]) -> Fit:
    column = int(distances[at].argmin())
    return Fit(at, protocols[column], float(scores.mae[at, column]), float(distances[at, column]))
