"""What a checkpoint holds, as plain data: one file on its own, or two compared.

Structure needs no weights: names, shapes and dtypes are read through the memory map. Comparing weights
streams both files once, in pieces.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

from vla_edge.export.checkpoint.checkpoint import StoredPolicy
from vla_edge.export.family import Parts
from vla_edge.runtime.checks.relative import relative

from .exact_values import differences, squared_norm

if TYPE_CHECKING:
    import torch

Progress = Callable[[int], None]

_CHUNK_VALUES = 4 << 20


@dataclass(frozen=True)
class TensorLine:
    """A tensor of the tree."""

    name: str
    shape: tuple[int, ...]
    dtype: str
    size_bytes: int

    @property
    def parameters(self) -> int:
        return math.prod(self.shape)


@dataclass(frozen=True)
class Module:
    """A node of the tree: everything below one prefix, or a single tensor, which has a shape.

    `part` is "backbone" of a published model inside the policy, "own" of what its owner trained, else empty;
    `dtypes` counts parameters.
    """

    name: str
    part: str
    shape: tuple[int, ...] | None
    parameters: int
    tensors: int
    size_bytes: int
    dtypes: Mapping[str, int]
    children: tuple[Module, ...]


@dataclass(frozen=True)
class Inspection:
    """One checkpoint: what `vla-inspect` shows."""

    stored: StoredPolicy
    tree: Module

    @property
    def layout_problem(self) -> str:
        """Why the layout was not recognised; empty where it was."""
        return self.stored.problem.problem if self.stored.problem else ""


@dataclass(frozen=True)
class Structure:
    """How two checkpoints differ in names, shapes and dtypes."""

    only_in_first: tuple[str, ...]
    only_in_second: tuple[str, ...]
    changed: tuple[tuple[str, str, str], ...]  # name, then shape and dtype in each
    shared: tuple[str, ...]  # of the same shape

    @property
    def same(self) -> bool:
        return not (self.only_in_first or self.only_in_second or self.changed)


@dataclass(frozen=True)
class ModuleDifference:
    """How far the weights below one prefix are apart.

    Attributes:
        max_abs: largest |second - first|, NaN where one of the two is NaN.
        relative: ||second - first|| / ||first||; infinity where the first is all zero and the second not.
        differing: number of values that differ in their own dtype; NaN is equal to NaN of the same bits.
    """

    name: str
    parameters: int
    max_abs: float
    relative: float
    differing: int


def inspect_policy(stored: StoredPolicy) -> Inspection:
    """Describe an opened checkpoint, of known layout or not."""
    return Inspection(stored, module_tree(stored.tensors, stored.family.parts))


def module_tree(tensors: Mapping[str, torch.Tensor], parts: Parts) -> Module:
    """The modules that the names spell, with what each holds in total."""
    lines = [
        TensorLine(name, tuple(tensor.shape), dtype_name(tensor), tensor.numel() * tensor.element_size())
        for name, tensor in tensors.items()
    ]
    return _node("", lines, 0, parts)


def dtype_name(tensor: torch.Tensor) -> str:
    return str(tensor.dtype).removeprefix("torch.")


def as_json(inspection: Inspection, sha256: str | None, depth: int) -> dict[str, Any]:
    """An inspection as JSON holds it."""
    stored, recognised = inspection.stored, inspection.stored.recognised
    return {
        "file": str(stored.path),
        "size_bytes": stored.size_bytes,
        "sha256": sha256,
        "format": stored.format,
        "container_keys": stored.container_keys,
        "state_dict_key": stored.state_dict_key,
        "other_weights": stored.other_weights,
        "prefix": stored.prefix,
        "dropped_buffers": stored.dropped,
        "epoch": stored.epoch,
        "val_mae": stored.val_mae,
        "weights_origin": stored.weights_origin,
        "optimizer": asdict(stored.optimizer) if stored.optimizer else None,
        "args": stored.args,
        "extra": stored.extra,
        "family": stored.family.name if recognised else None,
        "layout": recognised.layout if recognised else None,
        "layout_reasons": recognised.reasons if recognised else (),
        "layout_problem": inspection.layout_problem or None,
        "architecture": asdict(recognised.architecture) if recognised else None,
        "parameters": stored.parameters,
        "tree": _node_json(inspection.tree, depth),
    }


def compare_structure(first: Mapping[str, torch.Tensor], second: Mapping[str, torch.Tensor]) -> Structure:
    """Names, shapes and dtypes of two state dicts against each other."""
    both = [name for name in first if name in second]
    described = [(name, _describe(first[name]), _describe(second[name])) for name in both]
    return Structure(
        only_in_first=tuple(name for name in first if name not in second),
        only_in_second=tuple(name for name in second if name not in first),
        changed=tuple(line for line in described if line[1] != line[2]),
        shared=tuple(name for name in both if first[name].shape == second[name].shape),
    )


def compare_weights(
    first: Mapping[str, torch.Tensor],
    second: Mapping[str, torch.Tensor],
    names: tuple[str, ...],
    depth: int,
    progress: Progress = lambda size_bytes: None,
) -> tuple[ModuleDifference, ...]:
    """How far weights are apart, summed up by module.

    Args:
        first: tensors by name.
        second: tensors by name; those in `names` have the same shapes.
        names: what to compare.
        depth: length of the module names to sum up by, in parts between dots.
        progress: called with numbers of bytes read, of both sides together.
    """
    sums: dict[str, _Sums] = {}
    for name in names:
        parts = name.split(".")
        module = ".".join(parts[: min(depth, max(1, len(parts) - 1))])
        _add(sums.setdefault(module, _Sums()), first[name], second[name], progress)
    return tuple(_difference(module, total) for module, total in sums.items())


@dataclass
class _Sums:
    """Running totals of one module, in float64."""

    parameters: int = 0
    differing: int = 0
    max_abs: float = 0.0
    squared_difference: float = 0.0
    squared_first: float = 0.0


def _add(total: _Sums, first: torch.Tensor, second: torch.Tensor, progress: Progress) -> None:
    total.parameters += first.numel()
    for a, b in zip(_chunks(first), _chunks(second), strict=True):
        total.squared_first += squared_norm(a)
        difference = differences(a, b)
        if difference is not None:
            total.differing += int(difference.count_nonzero())
            total.max_abs = _largest(total.max_abs, float(difference.abs().max()))
            total.squared_difference += squared_norm(difference)
        progress(a.numel() * (first.element_size() + second.element_size()))


def _largest(a: float, b: float) -> float:
    """The larger, or NaN if either is: max() would lose it."""
    return math.nan if math.isnan(a) or math.isnan(b) else max(a, b)


def _difference(name: str, total: _Sums) -> ModuleDifference:
    distance = math.sqrt(total.squared_difference)
    norm = math.sqrt(total.squared_first)
    # two that are equal may both hold NaN
    apart = relative(distance, norm) if total.differing else 0.0
    return ModuleDifference(name, total.parameters, total.max_abs, apart, total.differing)


def _chunks(tensor: torch.Tensor) -> Iterator[torch.Tensor]:
    return (chunk.contiguous() for chunk in tensor.detach().reshape(-1).split(_CHUNK_VALUES))


def _describe(tensor: torch.Tensor) -> str:
    return f"{list(tensor.shape)} {dtype_name(tensor)}"


def _node(name: str, lines: list[TensorLine], level: int, parts: Parts) -> Module:
    groups: dict[str, list[TensorLine]] = {}
    for line in lines:
        names = line.name.split(".")
        if len(names) > level:
            groups.setdefault(".".join(names[: level + 1]), []).append(line)
    dtypes: dict[str, int] = {}
    for line in lines:
        dtypes[line.dtype] = dtypes.get(line.dtype, 0) + line.parameters
    return Module(
        name=name,
        part=parts.kind_of(name) if name else "",
        shape=lines[0].shape if len(lines) == 1 and lines[0].name == name else None,
        parameters=sum(line.parameters for line in lines),
        tensors=len(lines),
        size_bytes=sum(line.size_bytes for line in lines),
        dtypes=dtypes,
        children=tuple(_node(child, group, level + 1, parts) for child, group in groups.items()),
    )


def _node_json(module: Module, depth: int) -> dict[str, Any]:
    node: dict[str, Any] = {
        "name": module.name,
        "shape": module.shape,
        "part": module.part,
        "parameters": module.parameters,
        "tensors": module.tensors,
        "size_bytes": module.size_bytes,
        "dtypes": dict(module.dtypes),
    }
    if depth > 0 and module.children:
        node["children"] = [_node_json(child, depth - 1) for child in module.children]
    return node
