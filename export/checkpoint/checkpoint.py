"""A policy's checkpoint: which tensors it holds, where they come from, and what stands beside them."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any

from vla_edge.export.checkpoint.file.archive import Record
from vla_edge.export.checkpoint.file.checksums import hash_and_verify
from vla_edge.export.checkpoint.file.source_file import SourceFile
from vla_edge.export.families import all_families, asking, family_of
from vla_edge.export.family import Family, Recognised
from vla_edge.runtime.errors import CheckpointError

from .container import Container, ContainerFormat, open_container, plain, printable
from .little_memory import needs_memory
from .plain import key_text
from .state_dicts import LISTED_KEYS, OPTIMIZER_KEYS, FoundWeights, find_weights
from .text_values import dictionary_in, number_in

if TYPE_CHECKING:
    import torch

SAMPLE_MARK = "vla_sample"
# A manifest keeps no longer text and no larger number.
_LONGEST_MARK = 190
_LARGEST_EPOCH = 1 << 53


@dataclass(frozen=True)
class OptimizerSummary:
    """What a training run left for its own continuation; never read beyond this."""

    tensors: int
    size_bytes: int


@dataclass(frozen=True)
class StoredPolicy:
    """A checkpoint as it is stored, whether or not its layout is known.

    Attributes:
        container_keys: the top level of the file; empty for a bare state dict.
        state_dict_key: where the tensors were; "" for a bare state dict.
        other_weights: keys of other weights of the same names, such as averaged ones, which were not taken.
        tensors: memory-mapped, without what wrappers add, stale buffers and unused tensors. Do not write to them.
        dropped: stale buffers, unused tensors and counters that were left out.
        prefix: what was stripped from the names, such as "module.".
        args: the training script's arguments as plain values.
        extra: everything else at the top level as plain values, large tensors described.
        weights_origin: "checkpoint", or "sample: ..." for generated weights.
        family: whose policy it is, or the one that it comes nearest to.
        recognised: the policy; None where no family knows it, and `problem` then says why.
        file: the open file, which tells whether it was changed since.
        records: the parts of a torch archive, with their checksums.
    """

    path: Path
    size_bytes: int
    format: ContainerFormat
    container_keys: tuple[str, ...]
    state_dict_key: str
    other_weights: tuple[str, ...]
    tensors: Mapping[str, torch.Tensor]
    dropped: tuple[str, ...]
    prefix: str
    epoch: int | None
    val_mae: float | None
    args: Mapping[str, Any]
    extra: Mapping[str, Any]
    optimizer: OptimizerSummary | None
    weights_origin: str
    family: Family
    recognised: Recognised | None
    problem: CheckpointError | None
    file: SourceFile = field(repr=False)
    records: tuple[Record, ...] = field(repr=False)

    @property
    def shapes(self) -> dict[str, tuple[int, ...]]:
        return {name: tuple(tensor.shape) for name, tensor in self.tensors.items()}

    @property
    def parameters(self) -> int:
        """Number of values in all tensors."""
        return sum(tensor.numel() for tensor in self.tensors.values())

    def sha256(self, advance: Callable[[int], None] = lambda size_bytes: None) -> str:
        """SHA-256 of the file; reads all of it, and compares the checksum of every record that has one.

        Args:
            advance: called with numbers of bytes read.

        Raises:
            CheckpointError: a checksum differs, or the file was changed since it was opened.
        """
        return hash_and_verify(self.file, self.records, advance)


@dataclass(frozen=True)
class Checkpoint(StoredPolicy):
    """A checkpoint whose every tensor is explained by its architecture."""

    recognised: Recognised

    @property
    def architecture(self) -> Any:
        """A dataclass of the family's."""
        return self.recognised.architecture

    @property
    def layout(self) -> str:
        return self.recognised.layout


def read_checkpoint(path: str | Path, weights: str | None = None, family: str | None = None) -> Checkpoint:
    """Open a checkpoint and recognise its policy. No weight is read.

    Args:
        path: a file written by torch.save in its zip format, or a .safetensors file.
        weights: key of the state dict to take, such as "ema_state_dict"; by default the usual one.
        family: name of the family to ask; by default all are.

    Raises:
        CheckpointError: the file cannot be read safely, holds no state dict, its layout is unknown, keys
            are missing, left over or misshapen, or a tensor is not of floating point; or several families know it.
        InputError: there is no such family, or one cannot be imported.
        ResourceError: too little memory.
    """
    stored = read_stored(path, weights, family)
    if stored.problem:
        raise CheckpointError(
            f"{stored.path}: {printable(stored.problem.problem)}", stored.problem.hint
        ) from stored.problem
    _check_floating(stored)
    return Checkpoint(**{each.name: getattr(stored, each.name) for each in fields(stored)})


def read_stored(path: str | Path, weights: str | None = None, family: str | None = None) -> StoredPolicy:
    """Open a checkpoint of any layout. No weight is read.

    Args:
        path, weights, family: as for `read_checkpoint`.

    Raises:
        CheckpointError: the file cannot be read safely, or holds no state dict, or one whose names nest too deep;
            or several families know it.
        InputError: there is no such family, or one cannot be imported.
        ResourceError: too little memory.
    """
    asked = (family_of(family),) if family else all_families()
    with needs_memory(f"reading {path}"):
        container = open_container(Path(path))
        stored = _read_by(asked, container, weights)
    container.file.check_unchanged()
    return stored


def _read_by(families: Sequence[Family], container: Container, weights: str | None) -> StoredPolicy:
    """As the family that recognises it reads it; where none does, as the one whose names are there most often."""
    tried = [_read_as(family, container, weights) for family in families]
    readings = [reading for reading in tried if isinstance(reading, StoredPolicy)]
    if not readings:
        raise next(error for error in tried if isinstance(error, CheckpointError))
    known = [reading for reading in readings if reading.recognised]
    if len(known) > 1:
        names = [reading.family.name for reading in known]
        raise CheckpointError(
            f"{container.path} may be a policy of several families: {', '.join(names)}.",
            f"Say which with --family, such as --family {names[0]}",
        )
    return known[0] if known else max(readings, key=_names_of_its_family)


def _read_as(family: Family, container: Container, weights: str | None) -> StoredPolicy | CheckpointError:
    """What stands in front of the names, and which weights are meant, is told by a family's own names."""
    try:
        return _describe(
            container, find_weights(container.path, container.content, weights, family.parts), family
        )
    except CheckpointError as error:
        return error


def _names_of_its_family(reading: StoredPolicy) -> int:
    return sum(name.startswith(reading.family.parts.prefixes) for name in reading.tensors)


def _recognise(family: Family, tensors: Mapping[str, torch.Tensor]) -> Recognised | CheckpointError:
    try:
        found = family.recognise({name: tuple(tensor.shape) for name, tensor in tensors.items()})
    except CheckpointError as error:
        return error
    if not isinstance(found, Recognised):
        raise TypeError(f"recognise gave {type(found).__name__} in place of Recognised")
    return found


def _describe(container: Container, found: FoundWeights, family: Family) -> StoredPolicy:
    with asking(family):
        kept, unused = family.tidy(found.tensors)
        recognised = _recognise(family, kept)
    beside = {key: value for key, value in container.content.items() if value is not found.given}
    bare = not any(f"{found.key}.".startswith(f"{key}.") for key in container.content)
    if bare:
        beside = {}
    args = _as_dict(beside.pop("args", {}))
    optimizer = next((beside.pop(name) for name in OPTIMIZER_KEYS if name in beside), None)
    mark = args.get(SAMPLE_MARK)
    mentioned = {id(other): f"{len(other)} tensors, as the weights" for other in found.others.values()}
    mentioned[id(found.given)] = "the weights"
    return StoredPolicy(
        path=container.path,
        size_bytes=container.size_bytes,
        format=container.format,
        container_keys=() if bare else tuple(map(key_text, container.content)),
        state_dict_key=found.key,
        other_weights=tuple(found.others),
        tensors=kept,
        dropped=(*unused, *found.counters),
        prefix=found.stripped,
        epoch=_number(beside.pop("epoch", None), int),
        val_mae=_number(beside.pop("val_mae", None), float),
        args=args,
        extra=plain(beside, mentioned),
        optimizer=_summarise_optimizer(optimizer),
        weights_origin=f"sample: {printable(str(mark))[:_LONGEST_MARK]}" if mark else "checkpoint",
        family=family,
        recognised=None if isinstance(recognised, CheckpointError) else recognised,
        problem=recognised if isinstance(recognised, CheckpointError) else None,
        file=container.file,
        records=container.records,
    )


def _check_floating(stored: StoredPolicy) -> None:
    import torch

    dtypes = (torch.float64, torch.float32, torch.float16, torch.bfloat16)
    wrong = [
        f"{name} ({tensor.dtype})" for name, tensor in stored.tensors.items() if tensor.dtype not in dtypes
    ]
    if wrong:
        more = f" and {len(wrong) - LISTED_KEYS} more" if len(wrong) > LISTED_KEYS else ""
        raise CheckpointError(
            f"{stored.path}: {len(wrong)} tensors are not of floating point, 16 bits or more: "
            f"{', '.join(wrong[:LISTED_KEYS])}{more}.",
            "Quantised checkpoints are not supported: give the one that they were made from.",
        )


def _as_dict(args: Any) -> dict[str, Any]:
    # once more, since text can hold JSON that is nested without end
    value = plain(dictionary_in(plain(args)))
    return value if isinstance(value, dict) else {"args": value}


def _number(value: Any, kind: Callable[[Any], Any]) -> Any:
    """An epoch or error, which may have been saved as a NumPy scalar or a tensor of one value."""
    value = number_in(plain(value))
    try:
        return kind(value) if isinstance(value, (int, float)) and abs(value) <= _LARGEST_EPOCH else None
    except (ValueError, OverflowError):  # an epoch that is NaN or infinite, an error beyond any float
        return None


def _summarise_optimizer(state: Any) -> OptimizerSummary | None:
    if state is None:
        return None
    tensors = list(_tensors_in(state))
    return OptimizerSummary(len(tensors), sum(tensor.numel() * tensor.element_size() for tensor in tensors))


def _tensors_in(state: Any) -> Iterator[torch.Tensor]:
    """All tensors, each container once: it may contain itself, and be nested to any depth."""
    import torch

    waiting, seen = [state], set[int]()
    while waiting:
        value = waiting.pop()
        if isinstance(value, torch.Tensor):
            yield value
        elif isinstance(value, (Mapping, list, tuple)) and id(value) not in seen:
            seen.add(id(value))
            waiting += value.values() if isinstance(value, Mapping) else value
