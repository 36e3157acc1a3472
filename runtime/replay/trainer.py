"""The error by which the training script ranked its policies (`val_mae`), as far as it is known.

The mean over validation batches of each batch's mean absolute error, in units of the normalised actions, so that a
last batch that is smaller counts as much as a full one. Which frames a batch's actions came from is not known: both
readings are given.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

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


def trainer_mae(pairs: Sequence[tuple[np.ndarray, np.ndarray]], batch: int = BATCH) -> TrainerMae:
    """Over episodes, in the order in which they are given.

    Args:
        pairs: of each episode the graph's outputs and the targets, both float64 [18, size].
        batch: episodes a batch.
    """
    batches = [pairs[start : start + batch] for start in range(0, len(pairs), batch)]
    every = [np.mean([np.abs(raw - targets).mean() for raw, targets in each]) for each in batches]
    first = [np.mean([np.abs(raw[:1] - targets).mean() for raw, targets in each]) for each in batches]
    return TrainerMae(float(np.mean(every)), float(np.mean(first)))
