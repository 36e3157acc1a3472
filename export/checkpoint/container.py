"""Opening a checkpoint file without trusting it: torch's zip format, or safetensors.

Nothing in a file is ever executed, and none of its pickle reaches torch's or NumPy's unpickling: the pickle is
followed by a machine of our own that builds plain values and inert stand-ins (`pickle.reader`,
`pickle.names`), and tensors are views of the mapped file, each checked against its record (`pickle.stored_tensors`).
Weights are mapped, not read, so opening takes milliseconds at any size.
"""

from __future__ import annotations

import zlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from vla_edge.export.checkpoint.file.archive import LOCAL_MAGIC, RESAVE, Record, torch_records
from vla_edge.export.checkpoint.file.checksums import damage
from vla_edge.export.checkpoint.file.source_file import SourceFile
from vla_edge.export.checkpoint.pickle.limits import PickleLimitError, UnreadablePickleError
from vla_edge.export.checkpoint.pickle.names import CheckpointNames, Foreign
from vla_edge.export.checkpoint.pickle.reader import read_pickle
from vla_edge.export.checkpoint.pickle.stored_tensors import TensorBuilder
from vla_edge.runtime.errors import CheckpointError
from vla_edge.runtime.printable import printable

from .plain import plain
from .safetensors_file import has_header, safetensors_content
from .wrong_files import known_start, not_a_checkpoint

__all__ = ["Container", "ContainerFormat", "open_container", "plain", "printable"]

ContainerFormat = Literal["torch zip", "safetensors"]

# What stands beside the weights; NumPy arrays lie in it as a whole.
_MAX_PICKLE_BYTES = 128 << 20
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
    kind = "" if has_header(head, file.size_bytes) else known_start(file)
    if not kind and (path.suffix == ".safetensors" or has_header(head, file.size_bytes)):
        return Container(path, file.size_bytes, "safetensors", safetensors_content(file), file, ())
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
        if isinstance(error, PickleLimitError):
            raise CheckpointError(
                f"{file.path} holds more than is read: {printable(str(error))} (data.pkl).",
                f"Save the weights alone: {RESAVE}.",
            ) from error
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
