"""A policy's checkpoint: which tensors it holds, where they come from, and what stands beside them."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..runtime.errors import CheckpointError
from .architecture import Architecture
from .container import Container, ContainerFormat, open_container, plain
from .layout import LISTED_KEYS, canonical_names, is_stale_buffer, recognise

if TYPE_CHECKING:
    import torch

# Where a state dict is found, in this order; a file may also be a bare one.
STATE_DICT_KEYS = ("model_state_dict", "state_dict", "model")
OPTIMIZER_KEYS = ("optimizer_state_dict", "optimizer_states", "optimizer")
# Left by DataParallel, by a LightningModule or wrapper class, and by torch.compile.
WRAPPER_PREFIXES = ("module.", "model.", "_orig_mod.")
SAMPLE_MARK = "vla_sample"

_FINITE_CHUNK_VALUES = 4 << 20


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

    @property
    def shapes(self) -> dict[str, tuple[int, ...]]:
        return {name: tuple(tensor.shape) for name, tensor in self.tensors.items()}

    @property
    def parameters(self) -> int:
        """Number of values in all tensors."""
        return sum(tensor.numel() for tensor in self.tensors.values())


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
        raise CheckpointError(f"{stored.path}: {error.problem}", error.mend) from error
    _check_floating(stored)
    known = {field.name: getattr(stored, field.name) for field in fields(stored)}
    return Checkpoint(**known, architecture=architecture, layout_reasons=reasons)


def read_stored(path: str | Path) -> StoredPolicy:
    """Open a checkpoint of any layout. No weight is read.

    Raises:
        CheckpointError: the file cannot be read safely, or holds no state dict.
    """
    container = open_container(Path(path))
    key, state_dict = _find_state_dict(container)
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
        weights_origin=f"sample: {mark}" if mark else "checkpoint",
    )


def check_finite(
    tensors: Mapping[str, torch.Tensor], progress: Callable[[int], None] = lambda size_bytes: None
) -> None:
    """Look for NaN and infinity, reading every weight once at memory bandwidth.

    Args:
        tensors: of floating point; memory-mapped ones are read in pieces, and stay droppable.
        progress: called with numbers of bytes read.

    Raises:
        CheckpointError: names the tensors (at most ten) and how many such values each has.
    """
    problems = []
    for name, tensor in tensors.items():
        nan, infinite = _count_non_finite(tensor, progress)
        if nan or infinite:
            problems.append(f"{name}: {nan} NaN and {infinite} infinite of {tensor.numel()} values")
    if problems:
        more = f"\n  ... and {len(problems) - LISTED_KEYS} more" if len(problems) > LISTED_KEYS else ""
        raise CheckpointError(
            f"{len(problems)} tensors hold values that are not finite:\n  "
            + "\n  ".join(problems[:LISTED_KEYS])
            + more,
            "Training diverged or the file is damaged: use the checkpoint of an earlier epoch, or copy it again.",
        )


def _count_non_finite(tensor: torch.Tensor, progress: Callable[[int], None]) -> tuple[int, int]:
    """Numbers of NaN and of infinite values."""
    import torch

    nan = infinite = 0
    for chunk in _chunks(tensor):
        # One pass without temporaries: a sum is finite only if all its terms are. Finite terms may still
        # add up to infinity, so only then are they looked at one by one.
        if not torch.isfinite(chunk.sum(dtype=torch.float32)):
            nan += int(chunk.isnan().sum())
            infinite += int(chunk.isinf().sum())
        progress(chunk.numel() * chunk.element_size())
    return nan, infinite


def _chunks(tensor: torch.Tensor) -> Iterator[torch.Tensor]:
    return iter(tensor.detach().reshape(-1).split(_FINITE_CHUNK_VALUES))


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
            f"{name} ({type(value).__name__})" for name, value in list(candidate.items())[:LISTED_KEYS]
        )
        raise CheckpointError(
            f"{container.path} holds no state dict: {where} {kinds or 'nothing'}.",
            'Save the weights as torch.save({"model_state_dict": model.state_dict()}, path).',
        )
    return key, candidate


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
    return kind(value) if isinstance(value, (int, float)) else None


def _summarise_optimizer(state: Any) -> OptimizerSummary | None:
    if state is None:
        return None
    tensors = list(_tensors_in(state))
    return OptimizerSummary(len(tensors), sum(tensor.numel() * tensor.element_size() for tensor in tensors))


def _tensors_in(value: Any) -> Iterator[torch.Tensor]:
    import torch

    if isinstance(value, torch.Tensor):
        yield value
    elif isinstance(value, Mapping):
        for item in value.values():
            yield from _tensors_in(item)
    elif isinstance(value, (list, tuple)):
        for item in value:
            yield from _tensors_in(item)
