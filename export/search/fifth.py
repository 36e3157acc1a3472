"""What can be told where a random fifth of the episodes was validated on, and nobody knows which.

The error of all episodes is then not the checkpoint's, only near it: as near as random fifths lie. Many combinations
do, so that this ranks and rarely decides.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

from vla_edge.runtime.replay.trainer import batch_weights

from .protocol import Protocol
from .scan import Scores
from .verdict import MAX_FITS, NEAREST, Fit, Verdict

SHARE = 0.2
DRAWS = 2000
LIKELY = 0.05  # of random fifths at least, or a combination does not fit
LIKELY_DEVIATIONS = 1.96  # the normal deviate that goes with it, for those that are not drawn for
SEED = 0


def judged_by_fifths(
    scores: Scores,
    protocols: Sequence[Protocol],
    val_mae: float,
    batch: int,
    errors: Callable[[int, str], np.ndarray],
) -> Verdict:
    """The verdict where the validation error is of an unknown fifth.

    Args:
        scores: of all combinations, over all episodes.
        protocols: those of the scores.
        val_mae: the checkpoint's.
        batch: episodes a batch.
        errors: the episodes' errors, float64 [E], of a combination by its position, for a kind of steps.
    """
    count = len(protocols[0].weights)
    size = max(1, round(SHARE * count))
    deviation = scores.spread * np.sqrt((1 - size / count) / size)
    with np.errstate(divide="ignore", invalid="ignore"):
        off = np.abs(scores.mae - val_mae) / deviation
    off[~np.isfinite(off)] = np.inf
    nearest = off.min(axis=1)
    order = np.argsort(nearest, kind="stable")
    weights = fifths(count, batch)
    fits, fitting = [], set(np.flatnonzero(nearest <= LIKELY_DEVIATIONS).tolist())
    for at in map(int, order[:MAX_FITS]):
        column = int(off[at].argmin())
        mae = float(scores.mae[at, column])
        share = _share(weights @ errors(at, protocols[column].steps), val_mae)
        fits.append(Fit(at, protocols[column], mae, abs(mae - val_mae), share))
        (fitting.add if share >= LIKELY else fitting.discard)(at)
    shown = [fit for fit in fits if fit.at in fitting] or fits[:NEAREST]
    others = [fit.distance for fit in fits if fit.at not in fitting]
    return Verdict(
        "several" if fitting else "none",
        tuple(sorted(shown, key=lambda fit: fit.distance)),
        frozenset(fitting),
        min(others, default=None) if fitting else None,
        # as near as random fifths lie: whatever else lies there is there by chance
        float(max(len(fitting) - 1, 0)),
        int(np.isfinite(scores.mae).sum()),
    )


def fifths(count: int, batch: int, draws: int = DRAWS) -> np.ndarray:
    """Weights of the episodes in random fifths: float64 [draws, count].

    The last fifth that a split leaves may be rounded either way, so both sizes take turns.
    """
    rng = np.random.default_rng(SEED)
    sizes = sorted({max(1, int(SHARE * count)), max(1, count - int((1 - SHARE) * count))})
    ones = np.ones(count)
    return np.stack(
        [batch_weights(ones, rng.permutation(count)[: sizes[at % len(sizes)]], batch) for at in range(draws)]
    )


def _share(drawn: np.ndarray, val_mae: float) -> float:
    """Of random fifths, those as far from their middle as the number or farther; on its side, and doubled."""
    above = float((drawn >= val_mae).mean())
    below = float((drawn <= val_mae).mean())
    return min(1.0, 2 * min(above, below))
