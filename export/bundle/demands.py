"""What an export demands of a family, so that no output that a robot uses goes uncompared.

A family comes from a package of others: what it left out is told in words, as a mistake of that family.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np

from vla_edge.export.family import Family
from vla_edge.runtime.bundle.manifest import ACTION_STAGE
from vla_edge.runtime.bundle.manifest_checks import MAX_IO_BYTES, MAX_STAGE_BYTES
from vla_edge.runtime.errors import InputError

if TYPE_CHECKING:
    from vla_edge.export.graph.writer import GraphWriter, Value

Pairs = Sequence[tuple[str, str]]  # as `runtime.state`
ACTIONS = "actions"


def require_compared(family: Family, graph: GraphWriter, state: Pairs) -> None:
    """Refuse a graph that has not the actions and every carried output among its stages.

    Raises:
        InputError: names the family and the output.
    """
    outputs = {value.name for value in graph.outputs}
    stages = {name: value.name for name, value in graph.stages.items()}
    for name in (ACTIONS, *(target for _, target in state)):
        if name not in outputs:
            raise _mistake(
                family, f"its graph has no output {name!r}", f'Write it: graph.output("{name}", ...)'
            )
        called = ACTION_STAGE if name == ACTIONS else name
        if name not in stages.values() or (name == ACTIONS and stages.get(called) != name):
            raise _mistake(
                family,
                f"a robot would use the output {name!r} of its graph, and nothing compares it with PyTorch",
                f'Make it a stage: graph.stage("{called}", graph.output("{name}", ...))',
            )


def require_golden(
    family: Family, graph: GraphWriter, state: Pairs, golden: Mapping[str, np.ndarray]
) -> None:
    """Refuse a family whose golden samples leave an input of its graph out, or a carried state always at zero.

    Args:
        family: whose they are.
        graph: as written.
        state: inputs and outputs that carry it.
        golden: inputs of all samples, [N, ...].

    Raises:
        InputError: names the family and the input.
    """
    sources = {source for source, _ in state}
    inputs = {value.name: value for value in graph.inputs}
    for name in sources - inputs.keys():
        raise _mistake(family, f"its graph has no input {name!r}", f'Write it: graph.input("{name}", ...)')
    for value in inputs.values():
        _require_golden(family, value, value.name in sources, golden)


def require_arguments(family: Family, graph: GraphWriter, state: Pairs, given: Collection[str]) -> None:
    """Refuse a family whose reference is called without an input of its graph.

    Args:
        family: whose it is.
        graph: as written.
        state: inputs and outputs that carry it.
        given: what the reference is called with, by name.

    Raises:
        InputError: names the family and the input.
    """
    sources = {source for source, _ in state}
    for value in graph.inputs:
        if value.name not in given:
            shape = value.shape
            sizes = [shape[0], 1, *shape[2:]] if value.name in sources else [1, *shape[1:]]
            raise _mistake(
                family,
                f"its reference is called without the input {value.name!r} of its graph",
                f"reference_inputs has to give it, of one sample: {value.dtype} {sizes}",
            )


def require_size(graph: GraphWriter) -> None:
    """Refuse a graph that no manifest may describe, before minutes and gigabytes go into running it.

    Raises:
        InputError: says how many bytes a call, or its stages, take.
    """
    for what, values, most in (
        ("inputs and outputs", (*graph.inputs, *graph.outputs), MAX_IO_BYTES),
        ("stages", graph.stages.values(), MAX_STAGE_BYTES),
    ):
        if (size_bytes := _bytes_of(values)) > most:
            raise InputError(
                f"the {what} of a call would take {size_bytes} bytes, at most {most} are allowed.",
                "Give a smaller --batch, or a smaller --camera.",
            )


def _bytes_of(values: Iterable[Value]) -> int:
    return sum(math.prod(value.shape) * np.dtype(value.dtype).itemsize for value in values)


def _require_golden(family: Family, value: Value, is_state: bool, golden: Mapping[str, np.ndarray]) -> None:
    count = len(golden["names"])
    row = (value.shape[0], *value.shape[2:]) if is_state else value.shape[1:]
    wanted = (value.dtype, (count, *row))
    words = f"{value.dtype} {list(wanted[1])}, {count} samples"
    if value.name not in golden:
        raise _mistake(
            family,
            f"there are no golden values for the input {value.name!r} of its graph",
            f"golden_inputs has to give them: {words}",
        )
    found = golden[value.name]
    if (found.dtype.name, found.shape) != wanted:
        raise _mistake(
            family,
            f"its golden values for the input {value.name!r} are {found.dtype.name} {list(found.shape)}",
            f"golden_inputs has to give {words}",
        )
    if is_state and not np.any(found):
        raise _mistake(
            family,
            f"its golden values for the carried state {value.name!r} are all zero, as at a first call",
            "golden_inputs has to give others, or a fault in how the state enters is not seen",
        )


def state_stages(graph: GraphWriter, state: Pairs) -> set[str]:
    """The names of the stages that are carried state."""
    targets = {target for _, target in state}
    return {name for name, value in graph.stages.items() if value.name in targets}


def state_returned(graph: GraphWriter, state: Pairs) -> dict[str, str]:
    """The stage that comes back for each input that carries state, which `require_compared` found to be there."""
    stage_of = {value.name: name for name, value in reversed(graph.stages.items())}
    return {source: stage_of[target] for source, target in state}


def unreturned(family: Family, output: str) -> InputError:
    """The error of a reference that does not return a stage of the graph."""
    return _mistake(
        family,
        f"its reference does not return {output!r}, which its graph has as a stage",
        "The forward of what `empty` makes has to return it under that name",
    )


def _mistake(family: Family, problem: str, hint: str) -> InputError:
    return InputError(f"the family {family.name!r} cannot be exported: {problem}.", f"{hint}.")
