"""The error by which the training script ranked its policies (`val_mae`), as far as it is known.

The mean over validation batches of each batch's mean absolute error, in units of the normalised actions, so that a
last batch that is smaller counts as much as a full one. For any way to take it that is a weighted mean of the
episodes' own errors, and the weights are all that has to be known. Which frames a batch's actions came from is not
known, nor in which order the script met the files: both readings are given, and all orders.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

TRAINED_STEPS = 18  # of an episode: longer ones were cut, shorter ones filled up
BATCH = 2  # the script's default


@dataclass(frozen=True)
class TrainerMae:
    """Attributes:
    every_frame: each frame's action against that frame's step.
    first_frame: the first frame's action against all steps.
    """

    every_frame: float
    first_frame: float


def batch_weights(counts: np.ndarray, order: Sequence[int] | np.ndarray, batch: int) -> np.ndarray:
    """How much each episode's mean error weighs in the mean over batches: float64 [E], zero for those left out.

    Args:
        counts: values that an episode's mean was taken over, up to a common factor.
        order: positions of the episodes, batch after batch.
        batch: episodes a batch.
    """
    weights = np.zeros(len(counts))
    batches = [np.asarray(order[start : start + batch]) for start in range(0, len(order), batch)]
    for members in batches:
        weights[members] = counts[members] / counts[members].sum() / len(batches)
    return weights


def trainer_mae(
    pairs: Sequence[tuple[np.ndarray, np.ndarray]],
    order: Sequence[int] | None = None,
    batch: int = BATCH,
) -> TrainerMae:
    """Over episodes.

    Args:
        pairs: of each episode the graph's outputs and the targets, both float64 [18, size].
        order: positions of the episodes, batch after batch; None for as they are given.
        batch: episodes a batch.
    """
    weights = batch_weights(np.ones(len(pairs)), range(len(pairs)) if order is None else order, batch)
    every = np.array([np.abs(raw - targets).mean() for raw, targets in pairs])
    first = np.array([np.abs(raw[:1] - targets).mean() for raw, targets in pairs])
    return TrainerMae(float(weights @ every), float(weights @ first))


def file_orders(names: Sequence[str], paths: Sequence[Path]) -> dict[str, list[int]]:
    """Orders in which the training script may have met the files: positions of the episodes, by name of the order.

    Args:
        names: of the episodes.
        paths: of their files.
    """
    by_name = sorted(range(len(names)), key=lambda at: names[at])
    return {"sorted": by_name, "reversed": by_name[::-1], "listed": _as_listed(paths)}


def maes_by_order(
    pairs: Sequence[tuple[np.ndarray, np.ndarray]], orders: Mapping[str, Sequence[int]]
) -> dict[str, TrainerMae]:
    """The error in each order; those are left out that come to the same as one before them, but for rounding."""
    found: dict[str, TrainerMae] = {}
    for name, order in orders.items():
        mae = trainer_mae(pairs, order)
        if not any(
            np.isclose(mae.every_frame, other.every_frame, rtol=0, atol=1e-12) for other in found.values()
        ):
            found[name] = mae
    return found


def _as_listed(paths: Sequence[Path]) -> list[int]:
    """As the folder lists its files, which is in no order."""
    places = {
        folder / name: at
        for folder in {path.parent for path in paths}
        for at, name in enumerate(_listing(folder))
    }
    return sorted(range(len(paths)), key=lambda at: places.get(paths[at], len(places)))


def _listing(folder: Path) -> list[str]:
    """Names in a folder; none of one that may be searched but not listed, or is none."""
    try:
        return os.listdir(folder)
    except OSError:
        return []
