"""The safetensors format: the library reads and checks the header, and the values are views of our own map.

Format: 8 bytes for the length of a JSON header, the header, the values. It has no checksums.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from vla_edge.export.checkpoint.file.mapped_values import mapped_values
from vla_edge.export.checkpoint.file.source_file import SourceFile
from vla_edge.export.checkpoint.pickle.stored_tensors import PLAIN_DTYPES, UnreadableTensor
from vla_edge.runtime.errors import CheckpointError
from vla_edge.runtime.printable import printable

if TYPE_CHECKING:
    import torch

# safetensors' own limit is 100 MB; a policy's header has 100 kB.
_MAX_HEADER_BYTES = 16 << 20
_LENGTH_BYTES = 8


def has_header(head: bytes, size_bytes: int) -> bool:
    """Whether a file starts as safetensors does: with the length of a JSON header, and that header."""
    header_bytes = int.from_bytes(head[:_LENGTH_BYTES], "little")
    return head[8:9] == b"{" and _LENGTH_BYTES + header_bytes <= size_bytes


def safetensors_content(file: SourceFile) -> Mapping[str, Any]:
    """The tensors as "state_dict", and the metadata, which is text, beside it.

    Raises:
        CheckpointError: the file is incomplete or damaged, or its header too long.
    """
    import safetensors

    header_bytes = int.from_bytes(file.read(0, min(_LENGTH_BYTES, file.size_bytes)), "little")
    if _MAX_HEADER_BYTES < header_bytes <= file.size_bytes:
        raise CheckpointError(
            f"{file.path} has a header of {header_bytes:,} bytes; at most {_MAX_HEADER_BYTES:,} are read.",
            "Save the weights alone, without long metadata.",
        )
    try:
        # the library opens by name: this one names the file that is open already
        with safetensors.safe_open(_same_file(file), framework="pt") as opened:
            metadata = opened.metadata() or {}
            found = {name: opened.get_tensor(name) for name in opened.keys()}  # noqa: SIM118 - not a mapping
    # the library's own, and torch's for a shape whose sizes it cannot hold, or a dtype that it does not have
    except (
        safetensors.SafetensorError,
        ArithmeticError,
        AttributeError,
        LookupError,
        RuntimeError,
        TypeError,
        ValueError,
    ) as error:
        if "memory" in str(error):
            raise
        raise CheckpointError(
            f"{file.path} is an incomplete or damaged safetensors file: {_first_line(error)}. "
            f"It has {file.size_bytes:,} bytes.",
            "Compare its size and SHA-256 with the origin's and copy it again.",
        ) from error
    header = json.loads(file.read(_LENGTH_BYTES, header_bytes))
    start = _LENGTH_BYTES + header_bytes
    tensors = {name: _view(file, tensor, start, header[name]) for name, tensor in found.items()}
    file.check_unchanged()
    beside = {f"metadata.{key}" if key == "state_dict" else key: text for key, text in metadata.items()}
    return {"state_dict": tensors, **beside}


def _view(file: SourceFile, tensor: torch.Tensor, start: int, entry: Mapping[str, Any]) -> Any:
    """The same tensor in our own map, which survives that the file is cut."""
    dtype = str(tensor.dtype).removeprefix("torch.")
    if dtype not in PLAIN_DTYPES:
        return UnreadableTensor(f"a tensor of {dtype}", tuple(tensor.shape), dtype)

    if not tensor.numel():
        return tensor
    first, end = entry["data_offsets"]
    if end - first != tensor.numel() * tensor.element_size():
        raise CheckpointError(
            f"{file.path} is a damaged safetensors file: a tensor has {end - first:,} bytes for "
            f"{tensor.numel():,} values.",
            "Compare its size and SHA-256 with the origin's and copy it again.",
        )
    values = mapped_values(file.map(), tensor.dtype, tensor.numel(), start + first)
    return values.reshape(tensor.shape)


def _same_file(file: SourceFile) -> str:
    by_descriptor = f"/proc/self/fd/{file.descriptor}"
    return by_descriptor if os.path.exists(by_descriptor) else str(file.path)


def _first_line(error: Exception) -> str:
    lines = str(error).strip().splitlines()
    return printable(f"{type(error).__name__}: {lines[0]}".rstrip(".")) if lines else type(error).__name__
