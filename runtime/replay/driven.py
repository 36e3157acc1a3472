"""What was driven, as the policy's own components say it."""

from __future__ import annotations

import numpy as np

from vla_edge.runtime.bundle.manifest import ActionSpec
from vla_edge.runtime.episodes.episode import Episode
from vla_edge.runtime.errors import InputError

TARGET_LIMIT = 1.0  # of normalised actions: training clipped its targets to it


def driven_of(episode: Episode, spec: ActionSpec) -> np.ndarray | None:
    """The recorded values of the policy's components, float64 [T, size]; None of a recording without actions.

    Raises:
        InputError: a component is missing, or recorded in another unit.
    """
    actions = episode.actions
    if actions is None:
        return None
    missing = [name for name in spec.names if name not in actions.names]
    if missing:
        raise InputError(
            f"{episode.path} has no action component {missing[0]!r}; it has {', '.join(actions.names)}.",
            f"The policy's are {', '.join(spec.names)}: name the recording's so.",
        )
    places = [actions.names.index(name) for name in spec.names]
    if actions.units is not None:
        for name, unit, at in zip(spec.names, spec.units, places, strict=True):
            if actions.units[at] != unit:
                raise InputError(
                    f"{episode.path} has {name} in {actions.units[at]}, the policy gives {unit}.",
                    "Convert the recording.",
                )
    return actions.values[:, places]


def normalised(values: np.ndarray, spec: ActionSpec) -> np.ndarray:
    """Commands as training took them for targets: without scale and offset, clipped to +-1; float64 [..., size]."""
    bare = (values - np.array(spec.offset)) / np.array(spec.scale)
    clipped: np.ndarray = np.clip(bare, -TARGET_LIMIT, TARGET_LIMIT)
    return clipped
