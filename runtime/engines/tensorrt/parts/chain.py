"""Which tensor comes from where: a chain of parts, checked as a whole before any of them is deserialised."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from math import prod
from typing import Literal

import numpy as np

from vla_edge.runtime.bundle.manifest import TensorSpec
from vla_edge.runtime.engines.tensorrt.record import MAX_PARTS
from vla_edge.runtime.errors import EngineError

MAX_STREAMS = 8
MAIN_STREAM = 0
# The cuts of a full-size policy take 1.3 MiB; a side file that asks for more than this is no cut of one.
MAX_BETWEEN_BYTES = 1 << 30
_MAX_TOLD = 8  # of the problems; a hostile side file has thousands

Streams = Literal["recorded", "in line"]


@dataclass(frozen=True)
class ChainPart:
    """One part: an engine with its tensors, in the order of execution.

    Attributes:
        name: for messages.
        inputs: what it needs: inputs of the whole, or outputs of earlier parts.
        outputs: what it makes.
        stream: 0 is the main one; parts of other streams run beside it, as far as their inputs allow.
    """

    name: str
    inputs: tuple[TensorSpec, ...]
    outputs: tuple[TensorSpec, ...]
    stream: int = MAIN_STREAM


@dataclass(frozen=True)
class Chain:
    """Parts that were checked to make the outputs from the inputs.

    Attributes:
        parts: in the order of execution.
        inputs, outputs: of the whole.
        between: what one part makes, another needs, and nobody outside sees.
    """

    parts: tuple[ChainPart, ...]
    inputs: tuple[TensorSpec, ...]
    outputs: tuple[TensorSpec, ...]
    between: tuple[TensorSpec, ...]

    def in_line(self) -> Chain:
        """The same with every part on the main stream."""
        parts = tuple(replace(part, stream=MAIN_STREAM) for part in self.parts)
        return replace(self, parts=parts)


def make_chain(
    parts: Sequence[ChainPart],
    inputs: Iterable[TensorSpec],
    outputs: Iterable[TensorSpec],
    *,
    origin: str,
    hint: str,
) -> Chain:
    """Check that the parts, in this order, make the outputs from the inputs, and nothing twice.

    Args:
        parts: in the order of execution.
        inputs: of the whole; each is needed by a part.
        outputs: of the whole; each is made by a part, and may be needed by another as well.
        origin: what says so, for messages.
        hint: what to do where it is wrong.

    Raises:
        EngineError: with the problems, and the parts and tensors in them.
    """
    given, wanted = tuple(map(_plain, inputs)), tuple(map(_plain, outputs))
    problems = [*_shape_of(parts), *_flow(parts, given, wanted)]
    if not problems:
        names = {spec.name for spec in wanted}
        between = tuple(_plain(spec) for part in parts for spec in part.outputs if spec.name not in names)
        problems = _size_of(between)
    if problems:
        told = "; ".join(problems[:_MAX_TOLD])
        more = f"; and {len(problems) - _MAX_TOLD} more" if len(problems) > _MAX_TOLD else ""
        raise EngineError(f"{origin}: its parts make no engine: {told}{more}.", hint)
    return Chain(tuple(parts), given, wanted, between)


def size_bytes(spec: TensorSpec) -> int:
    """What a tensor's values take; exact for shapes of any size."""
    return prod(spec.shape) * np.dtype(spec.dtype).itemsize


def _shape_of(parts: Sequence[ChainPart]) -> list[str]:
    """Problems of the list itself."""
    problems = [] if 1 <= len(parts) <= MAX_PARTS else [f"there are {len(parts)}, of 1 to {MAX_PARTS}"]
    for part in parts:
        if not 0 <= part.stream < MAX_STREAMS:
            problems.append(f"part {part.name} is on stream {part.stream}, of 0 to {MAX_STREAMS - 1}")
        if not part.outputs:
            problems.append(f"part {part.name} makes nothing")
        problems += [f"part {part.name} takes {spec.name} twice" for spec in _twice(part.inputs)]
    return problems


def _flow(parts: Sequence[ChainPart], given: Sequence[TensorSpec], wanted: Sequence[TensorSpec]) -> list[str]:
    """Problems of the tensors: what is needed was made before, once, as it is taken."""
    problems = [f"the engine has the input {spec.name} twice" for spec in _twice(given)]
    problems += [f"the engine has the output {spec.name} twice" for spec in _twice(wanted)]
    made = {spec.name: spec for spec in given}
    taken: set[str] = set()
    for part in parts:
        for spec in part.inputs:
            taken.add(spec.name)
            problems += _mismatch(made, spec, f"part {part.name} needs")
        for spec in part.outputs:
            if spec.name in made:
                problems.append(f"part {part.name} makes {spec.name}, which is there already")
            made[spec.name] = _plain(spec)
    problems += [f"no part takes the input {spec.name}" for spec in given if spec.name not in taken]
    inputs = {spec.name for spec in given}
    for spec in wanted:
        if spec.name in inputs:
            problems.append(f"{spec.name} is an input and an output")
        problems += _mismatch(made, spec, "the engine needs the output")
    return problems


def _mismatch(made: Mapping[str, TensorSpec], spec: TensorSpec, who: str) -> list[str]:
    found = made.get(spec.name)
    if found is None:
        return [f"{who} {_words(spec)}, which no part before makes"]
    if found != _plain(spec):
        return [f"{who} {_words(spec)}, which was made as {found.dtype}{list(found.shape)}"]
    return []


def _size_of(between: Sequence[TensorSpec]) -> list[str]:
    size = sum(map(size_bytes, between))
    if size <= MAX_BETWEEN_BYTES:
        return []
    return [f"the tensors between take {size} bytes of device memory, of {MAX_BETWEEN_BYTES} at most"]


def _twice(specs: Sequence[TensorSpec]) -> list[TensorSpec]:
    seen: set[str] = set()
    # `add` gives None, so that only a name that was there before is kept
    return [spec for spec in specs if spec.name in seen or seen.add(spec.name)]  # type: ignore[func-returns-value]


def _plain(spec: TensorSpec) -> TensorSpec:
    """Without the role that a manifest's tensors have, so that equal ones compare so."""
    return TensorSpec(name=spec.name, dtype=spec.dtype, shape=spec.shape)


def _words(spec: TensorSpec) -> str:
    return f"{spec.name} {spec.dtype}{list(spec.shape)}"
