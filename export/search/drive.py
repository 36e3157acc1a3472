"""What the combinations that fit have in common, and how differently a robot would drive by them."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from vla_edge.export.family_search import Alternative, Axis

from .combinations import plain_value
from .scan import Evaluator
from .verdict import Verdict

COMPARED = 50  # of the fits: each is run again


@dataclass(frozen=True)
class Agreement:
    """Of all combinations that fit.

    Attributes:
        settled: settings that were varied and are the same in all, by name, in JSON's own types.
        assumed: settings of all that were tried, other than an export's own: chosen beforehand, not found.
        open: those that are not, with all their values, the nearest fit's first.
        largest: the largest difference of a commanded component between the nearest fit and another, in the action's
            units; None where there is one fit only.
        compared: fits that were looked at for it.
    """

    settled: Mapping[str, Any]
    assumed: Mapping[str, Any]
    open: Mapping[str, tuple[Any, ...]]
    largest: float | None
    compared: int


def agreement(verdict: Verdict, space: Sequence[Any], base: Any, evaluator: Evaluator) -> Agreement:
    """What the verdict's fits agree on; of a verdict without fits, nothing."""
    varied, assumed = varying(space, base)
    if not verdict.count:
        return Agreement({}, assumed, {}, None, 0)
    ranked = [fit.at for fit in verdict.fits]
    fits = [space[at] for at in dict.fromkeys([*ranked, *sorted(verdict.fitting)])]
    values = {name: _distinct([plain_value(each, name) for each in fits]) for name in varied}
    settled = {name: found[0] for name, found in values.items() if len(found) == 1}
    axes = evaluator.search.axes(evaluator.architecture)
    settled |= {name: value for name, value in companions(axes, varied, fits).items() if name not in assumed}
    left = {name: tuple(found) for name, found in values.items() if len(found) > 1}
    compared = fits[:COMPARED]
    return Agreement(settled, assumed, left, _largest(compared, evaluator), len(compared))


def companions(axes: Sequence[Axis], varied: Collection[str], fits: Sequence[Any]) -> dict[str, Any]:
    """Settings that vary only with others, and are what all fits have: the length of a window with the window."""
    found: dict[str, Any] = {}
    for axis in axes:
        if not any(name in varied for alternative in axis for name in alternative):
            continue
        taken = [alternative for alternative in axis if any(_has(each, alternative) for each in fits)]
        for name in set.intersection(*map(set, taken)) if taken else ():
            values = _distinct([each[name] for each in taken])
            if name not in varied and len(values) == 1:
                found[name] = plain_value(fits[0], name)
    return found


def _has(settings: Any, alternative: Alternative) -> bool:
    return all(getattr(settings, name) == value for name, value in alternative.items())


def varying(space: Sequence[Any], base: Any) -> tuple[tuple[str, ...], dict[str, Any]]:
    """Settings that were tried with several values, and those of one that is not the base's."""
    varied, assumed = [], {}
    for name in base.__struct_fields__:
        values = {getattr(each, name) for each in space}
        if len(values) > 1:
            varied.append(name)
        elif values != {getattr(base, name)}:
            assumed[name] = plain_value(space[0], name)
    return tuple(varied), assumed


def _distinct(values: Sequence[Any]) -> list[Any]:
    found: list[Any] = []
    for value in values:
        if value not in found:
            found.append(value)
    return found


def _largest(fits: Sequence[Any], evaluator: Evaluator) -> float | None:
    if len(fits) < 2:
        return None
    family, arch = evaluator.family, evaluator.architecture
    first: np.ndarray | None = None
    largest = 0.0
    for settings, answer in zip(fits, evaluator.answers(fits), strict=True):
        action = family.surroundings(arch, settings).action
        limit = np.array(action.limit)
        commanded = answer.cpu().numpy() * np.array(action.scale) + np.array(action.offset)
        clipped = np.clip(commanded, -limit, limit)
        if first is None:
            first = clipped
        largest = max(largest, float(np.abs(clipped - first).max()))
    return largest
