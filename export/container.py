"""Opening a checkpoint file without trusting it: torch's zip format, or safetensors.

Nothing in a file is ever executed, and none of its pickle reaches torch's or NumPy's unpickling: the pickle is
followed by a machine of our own that builds plain values and inert stand-ins (`pickle_reader`,
`pickle_names`), and tensors are views of the mapped file, each checked against its record (`stored_tensors`).
Weights are mapped, not read, so opening takes milliseconds at any size.
"""

from __future__ import annotations

import os
import zlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from ..runtime.errors import CheckpointError
from .archive import LOCAL_MAGIC, RESAVE, Record, torch_records
from .checksums import damage
from .pickle_limits import UnreadablePickleError
from .pickle_names import CheckpointNames, Foreign
from .pickle_reader import read_pickle
from .plain import plain
from .printable import printable
from .source_file import SourceFile
from .stored_tensors import TensorBuilder
from .wrong_files import known_start, not_a_checkpoint

__all__ = ["Container", "ContainerFormat", "open_container", "plain", "printable"]

ContainerFormat = Literal["torch zip", "safetensors"]

# What stands beside the weights; NumPy arrays lie in it as a whole.
_MAX_PICKLE_BYTES = 128 << 20
# safetensors' own limit is 100 MB; a policy's header has 100 kB.
_MAX_HEADER_BYTES = 16 << 20
_LISTED_NAMES = 10


@dataclass(frozen=True)
class Container:
    """What a file holds at its top level. Tensors are memory-mapped and read-only by agreement.

    `records` are the parts of a torch archive with their checksums; safetensors has none.
    """

    path: Path
    size_bytes: int
    format: ContainerFormat
    content: Mapping[str, Any]
    file: SourceFile
    records: tuple[Record, ...]


def open_container(path: Path) -> Container:
    """Open a checkpoint file.

    Raises:
        CheckpointError: the file is missing, empty, truncated, not a checkpoint, of torch's format from
            before 1.6, or holds objects that only running foreign code could build.
    """
    file = SourceFile(path)
    head = file.read(0, min(file.size_bytes, 16))
    if head.startswith(LOCAL_MAGIC):
        records = torch_records(file)
        content = _torch_content(file, records)
        return Container(path, file.size_bytes, "torch zip", content, file, tuple(records.values()))
    kind = "" if _has_header(head, file.size_bytes) else known_start(file)
    if not kind and (path.suffix == ".safetensors" or _has_header(head, file.size_bytes)):
        return Container(path, file.size_bytes, "safetensors", _safetensors_content(file), file, ())
    raise not_a_checkpoint(file, kind)


def _torch_content(file: SourceFile, records: Mapping[str, Record]) -> Mapping[str, Any]:
    record = records["data.pkl"]
    if record.size_bytes > _MAX_PICKLE_BYTES:
        raise CheckpointError(
            f"{file.path} has {record.size_bytes:,} bytes beside its tensors (data.pkl); at most "
            f"{_MAX_PICKLE_BYTES:,} are read.",
            f"Save the weights alone: {RESAVE}.",
        )
    data = file.read(record.offset, record.size_bytes)
    if record.crc32 and zlib.crc32(data) != record.crc32:
        raise damage(file, [record.name])
    names = CheckpointNames(TensorBuilder(file, records))
    try:
        content = read_pickle(data, names)
    except UnreadablePickleError as error:
        if names.foreign:
            raise _refused(file.path, names.foreign) from error
        raise CheckpointError(
            f"{file.path} is damaged, or not written by torch.save: {printable(str(error))} (data.pkl).",
            "Compare its SHA-256 with the origin's and copy it again.",
        ) from error
    if names.foreign:
        raise _refused(file.path, names.foreign)
    if not isinstance(content, Mapping):
        raise CheckpointError(
            f"{file.path} holds a {kind_of(content)}, not a dictionary of tensors.", f"Save it as {RESAVE}."
        )
    return content


def kind_of(value: Any) -> str:
    """What a value from a container is, in a word."""
    if isinstance(value, Foreign):
        return printable(value.name)
    return "text" if isinstance(value, str) else type(value).__name__


def _refused(path: Path, foreign: Mapping[str, None]) -> CheckpointError:
    listed = ", ".join(printable(name)[:200] for name in sorted(foreign)[:_LISTED_NAMES])
    more = f" and {len(foreign) - _LISTED_NAMES} more" if len(foreign) > _LISTED_NAMES else ""
    return CheckpointError(
        f"{path} is refused: reading it would run code from outside, {listed}{more}. Nothing of it was run.",
        f"Have the training script save the weights alone: {RESAVE}.",
    )


def _has_header(head: bytes, size_bytes: int) -> bool:
    """Whether the file starts as safetensors does: with the length of a JSON header, and that header."""
    header_bytes = int.from_bytes(head[:8], "little")
    return head[8:9] == b"{" and 8 + header_bytes <= size_bytes


def _safetensors_content(file: SourceFile) -> Mapping[str, Any]:
    import safetensors

    header_bytes = int.from_bytes(file.read(0, min(8, file.size_bytes)), "little")
    if _MAX_HEADER_BYTES < header_bytes <= file.size_bytes:
        raise CheckpointError(
            f"{file.path} has a header of {header_bytes:,} bytes; at most {_MAX_HEADER_BYTES:,} are read.",
            "Save the weights alone, without long metadata.",
        )
    try:
        # the library opens by name: this one names the file that is open already
        with safetensors.safe_open(_same_file(file), framework="pt") as opened:
            tensors = {name: opened.get_tensor(name) for name in opened.keys()}  # noqa: SIM118 - not a mapping
            metadata = opened.metadata() or {}
    except safetensors.SafetensorError as error:
        raise CheckpointError(
            f"{file.path} is an incomplete or damaged safetensors file: {_first_line(error)}. "
            f"It has {file.size_bytes:,} bytes.",
            "Compare its size and SHA-256 with the origin's and copy it again.",
        ) from error
    file.check_unchanged()
    return {"state_dict": tensors, **metadata}


def _same_file(file: SourceFile) -> str:
    by_descriptor = f"/proc/self/fd/{file.descriptor}"
    return by_descriptor if os.path.exists(by_descriptor) else str(file.path)


def _first_line(error: Exception) -> str:
    lines = str(error).strip().splitlines()
    return printable(f"{type(error).__name__}: {lines[0]}".rstrip(".")) if lines else type(error).__name__
