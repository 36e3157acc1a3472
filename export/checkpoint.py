"""A policy's checkpoint: which tensors it holds, where they come from, and what stands beside them."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..runtime.errors import CheckpointError
from .architecture import Architecture
from .archive import Record
from .checksums import hash_and_verify
from .container import Container, ContainerFormat, open_container, plain, printable
from .layout import LISTED_KEYS, canonical_names, is_stale_buffer, recognise
from .source_file import SourceFile

if TYPE_CHECKING:
    import torch

# Where a state dict is found, in this order; a file may also be a bare one.
STATE_DICT_KEYS = ("model_state_dict", "state_dict", "model")
OPTIMIZER_KEYS = ("optimizer_state_dict", "optimizer_states", "optimizer")
# Left by DataParallel, by a LightningModule or wrapper class, and by torch.compile.
WRAPPER_PREFIXES = ("module.", "model.", "_orig_mod.")
SAMPLE_MARK = "vla_sample"
# No module is nested deeper; the tree of vla-inspect follows the dots.
MAX_NAME_PARTS = 100


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
        tensors: memory-mapped, without wrapper prefixes and stale buffers. Do not write to them.
        dropped: stale buffers that were left out.
        prefix: what was stripped from every name, such as "module.".
        args: the training script's arguments as plain values.
        extra: everything else at the top level as plain values, large tensors described.
        weights_origin: "checkpoint", or "sample: ..." for generated weights.
        file: the open file, which tells whether it was changed since.
        records: the parts of a torch archive, with their checksums.
    """

    path: Path
    size_bytes: int
    format: ContainerFormat
    container_keys: tuple[str, ...]
    state_dict_key: str
    tensors: Mapping[str, torch.Tensor]
    dropped: tuple[str, ...]
    prefix: str
    epoch: int | None
    val_mae: float | None
    args: Mapping[str, Any]
    extra: Mapping[str, Any]
    optimizer: OptimizerSummary | None
    weights_origin: str
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
    """A checkpoint whose every tensor is explained by `architecture`."""

    architecture: Architecture
    layout_reasons: tuple[str, ...]


def read_checkpoint(path: str | Path) -> Checkpoint:
    """Open a checkpoint and recognise its policy. No weight is read.

    Args:
        path: a file written by torch.save in its zip format, or a .safetensors file.

    Raises:
        CheckpointError: the file cannot be read safely, holds no state dict, its layout is unknown, keys
            are missing, left over or misshapen, or a tensor is not of floating point.
    """
    stored = read_stored(path)
    try:
        architecture, reasons = recognise(stored.shapes)
    except CheckpointError as error:
        raise CheckpointError(f"{stored.path}: {printable(error.problem)}", error.mend) from error
    _check_floating(stored)
    known = {each.name: getattr(stored, each.name) for each in fields(stored)}
    return Checkpoint(**known, architecture=architecture, layout_reasons=reasons)


def read_stored(path: str | Path) -> StoredPolicy:
    """Open a checkpoint of any layout. No weight is read.

    Raises:
        CheckpointError: the file cannot be read safely, or holds no state dict, or one whose names nest too deep.
    """
    container = open_container(Path(path))
    key, state_dict = _find_state_dict(container)
    _check_names(container.path, state_dict)
    prefix = _shared_prefix(state_dict)
    stripped = {name.removeprefix(prefix): tensor for name, tensor in state_dict.items()}
    named = {name: stripped[given] for given, name in canonical_names(stripped).items()}
    beside = {name: value for name, value in container.content.items() if key and name != key}
    args = _as_dict(beside.pop("args", {}))
    optimizer = next((beside.pop(name) for name in OPTIMIZER_KEYS if name in beside), None)
    mark = args.get(SAMPLE_MARK)
    return StoredPolicy(
        path=container.path,
        size_bytes=container.size_bytes,
        format=container.format,
        container_keys=tuple(map(str, container.content)) if key else (),
        state_dict_key=key,
        tensors={name: tensor for name, tensor in named.items() if not is_stale_buffer(name)},
        dropped=tuple(filter(is_stale_buffer, named)),
        prefix=prefix,
        epoch=_number(beside.pop("epoch", None), int),
        val_mae=_number(beside.pop("val_mae", None), float),
        args=args,
        extra=plain(beside),
        optimizer=_summarise_optimizer(optimizer),
        weights_origin=f"sample: {printable(str(mark))}" if mark else "checkpoint",
        file=container.file,
        records=container.records,
    )


def _find_state_dict(container: Container) -> tuple[str, Mapping[str, torch.Tensor]]:
    import torch

    content = container.content
    key = next((key for key in STATE_DICT_KEYS if isinstance(content.get(key), Mapping)), "")
    candidate = content[key] if key else content
    if not candidate or not all(
        isinstance(name, str) and isinstance(value, torch.Tensor) for name, value in candidate.items()
    ):
        where = (
            f"{key} holds"
            if key
            else f"it has no {', '.join(STATE_DICT_KEYS)}, and is itself no dictionary of tensors:"
        )
        kinds = ", ".join(
            f"{printable(str(name))} ({type(value).__name__})"
            for name, value in list(candidate.items())[:LISTED_KEYS]
        )
        raise CheckpointError(
            f"{container.path} holds no state dict: {where} {kinds or 'nothing'}.",
            'Save the weights as torch.save({"model_state_dict": model.state_dict()}, path).',
        )
    return key, candidate


def _check_names(path: Path, names: Iterable[str]) -> None:
    deep = next((name for name in names if name.count(".") >= MAX_NAME_PARTS), None)
    if deep is not None:
        raise CheckpointError(
            f"{path}: the tensor name {printable(deep[:40])}... has {deep.count('.') + 1} parts between dots, "
            f"at most {MAX_NAME_PARTS} are read.",
            "No model nests that deep: the file is damaged or made to do harm; take it from its origin again.",
        )


def _shared_prefix(names: Mapping[str, Any]) -> str:
    """Wrapper prefixes that all names share, outermost first."""
    prefix = ""
    while True:
        shared = (each for each in WRAPPER_PREFIXES if all(name.startswith(prefix + each) for name in names))
        found = next(shared, None)
        if found is None:
            return prefix
        prefix += found


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
    value = plain(args)
    return value if isinstance(value, dict) else {"args": value}


def _number(value: Any, kind: Callable[[Any], Any]) -> Any:
    """An epoch or error, which may have been saved as a NumPy scalar or a tensor of one value."""
    value = plain(value)
    try:
        return kind(value) if isinstance(value, (int, float)) else None
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
