"""Names of tensors below what training wraps around a policy: what wrappers add, and several policies in one."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from vla_edge.export.family import Parts

# Parts of a name left by DataParallel and AveragedModel, torch.compile, FSDP, activation checkpointing and Fabric.
_WRAPPERS = ("module", "_orig_mod", "_fsdp_wrapped_module", "_checkpoint_wrapped_module", "_forward_module")
# Left by a LightningModule or wrapper class in front of every name.
_OUTER = "model."
# One number each, beside the weights that were averaged: torch's AveragedModel, MMEngine, and EMA packages.
_COUNTERS = ("n_averaged", "steps", "step", "initted", "num_updates", "decay")
# Where the policy itself stands, beside an average of it: bare, or in a LightningModule or wrapper class.
_MAIN = ("", "model.", "policy.", "net.", "online_model.")


def policies_in(given: Mapping[str, Any], parts: Parts) -> dict[str, dict[str, Any]]:
    """The policies of a state dict that holds several, such as `model.*` and `ema_model.*`, by what is in front.

    The one that is trained comes first where it is known by its name. Empty where there is one policy or none.
    """
    cleaned = {name: _without_wrappers(name) for name in given if isinstance(name, str)}
    if len(set(cleaned.values())) < len(given):
        return {}
    starts = {short: _part_at(short, parts.prefixes[0]) for short in cleaned.values()}
    fronts = {short[:at] for short, at in starts.items() if at >= 0}
    if len(fronts) < 2:
        return {}
    ordered = sorted(fronts, key=lambda front: (_MAIN.index(front) if front in _MAIN else len(_MAIN), front))
    found: dict[str, dict[str, Any]] = {front: {} for front in ordered}
    for name, short in cleaned.items():
        # the longest: every name starts with nothing
        front = max((each for each in fronts if short.startswith(each)), key=len, default=None)
        if front is not None:
            found[front][short.removeprefix(front)] = given[name]
    return found


def is_trained(front: str) -> bool:
    """Whether the policy with this in front of its names is the one that is trained, and no average of it."""
    return front in _MAIN


def _part_at(name: str, largest: str) -> int:
    """Where the policy's own name starts, by its largest part; -1 where it does not."""
    if name.startswith(largest):
        return 0
    at = name.find(f".{largest}")
    return at + 1 if at >= 0 else -1


def _without_wrappers(name: str) -> str:
    return ".".join(part for part in name.split(".") if part not in _WRAPPERS)


def unwrapped(given: Mapping[str, Any], parts: Parts) -> tuple[dict[str, Any], str, tuple[str, ...]]:
    """Tensors by their names in the policy, what was stripped, and counters that were dropped."""
    counters = tuple(name for name, value in given.items() if name in _COUNTERS and _is_one_number(value))
    names = [name for name in given if name not in counters]
    short = [_without_wrappers(name) for name in names]
    if len(set(short)) < len(names):  # some are told apart by a wrapper alone: all stay as they are
        short = names
    prefix = _outer_prefix(short, parts)
    short = [name.removeprefix(prefix) for name in short]
    return dict(zip(short, (given[name] for name in names), strict=True)), _stripped(names, short), counters


def _is_one_number(value: Any) -> bool:
    return tuple(getattr(value, "shape", None) or ()) in ((), (1,))


def _outer_prefix(names: Sequence[str], parts: Parts) -> str:
    """What stands in front of every name: "model.", or whatever comes before the policy's own parts."""
    prefix = ""
    while names and all(name.startswith(f"{prefix}{_OUTER}") for name in names):
        prefix += _OUTER
    for first in names[:1]:
        before = first[: min((at for at in map(first.find, parts.prefixes) if at > 0), default=0)]
        if before.endswith(".") and all(name.startswith(before) for name in names):
            return before
    return prefix


def _stripped(names: Sequence[str], short: Sequence[str]) -> str:
    """What all names lost in front, or else the wrappers that some lost."""
    fronts = {name.removesuffix(rest) for name, rest in zip(names, short, strict=True)}
    if len(fronts) == 1:
        return fronts.pop()
    lost = (set(name.split(".")) & set(_WRAPPERS) for name in names)
    return ", ".join(f"{part}." for part in sorted(set().union(*lost)))
