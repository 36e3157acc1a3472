"""How a checkpoint says what its outputs stand for: the mean and standard deviation of the training's actions."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any

import numpy as np

from vla_edge.runtime.errors import CheckpointError
from vla_edge.runtime.printable import printable


def action_normalisation(extra: Mapping[str, Any], given: Collection[str] = ()) -> dict[str, Any]:
    """`action_mean` and `action_std`, where a checkpoint carries them, as offset and scale.

    Args:
        extra: what the checkpoint holds beside the weights; lists of numbers as lists.
        given: names of the settings that the user gives; what they replace is not looked at.

    Raises:
        CheckpointError: one of them is no array of finite numbers, a standard deviation is not above 0, or
            they are of different lengths.
    """
    found = {}
    for key, setting in (("action_std", "action_scale"), ("action_mean", "action_offset")):
        if extra.get(key) is not None and setting not in given:
            found[setting] = _finite_numbers(key, extra[key])
    scale, offset = found.get("action_scale"), found.get("action_offset")
    if scale is not None and min(scale) <= 0:
        raise CheckpointError(
            f"the checkpoint's action_std is {_shown(scale)}; a standard deviation is above 0.",
            "With 0 the robot would not move, and every error would pass. Give the m/s that an output of 1 "
            "stands for: --set action_scale=[2.0,2.0]",
        )
    if scale is not None and offset is not None and len(scale) != len(offset):
        raise CheckpointError(
            f"the checkpoint's action_std has {len(scale)} values, its action_mean {len(offset)}.",
            "Give both: --set action_scale=[2.0,2.0] --set action_offset=[0.0,0.0]",
        )
    return found


def _finite_numbers(key: str, value: Any) -> list[float]:
    try:
        array = np.asarray(value)
        numbers = array.astype(np.float64).reshape(-1) if array.dtype.kind in "iuf" else np.zeros(0)
    except (ValueError, OverflowError, RecursionError):  # lists of differing lengths, nested without end
        numbers = np.zeros(0)
    if not numbers.size or not np.isfinite(numbers).all():
        raise CheckpointError(
            f"the checkpoint's {key} is {_shown(value)}, which are no finite numbers.",
            "Save it as a list or tensor of one number for each component of the action.",
        )
    return [float(number) for number in numbers]


def _shown(value: Any) -> str:
    return printable(str(value))[:100]
