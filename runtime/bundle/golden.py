"""Reading `golden.npz`: every size is known from the manifest before a byte of an array is read.

An archive as `np.savez` writes it: arrays in NumPy's format, stored and not compressed. NumPy's own reader
evaluates an array's header and believes the archive's sizes; here the header has one form, and dtype and
shape must be the manifest's.
"""

from __future__ import annotations

import io
import math
import os
import re
import zipfile
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO, NoReturn

from vla_edge.runtime.errors import BundleError
from vla_edge.runtime.files.regular_file import open_regular

from .manifest import Manifest

if TYPE_CHECKING:
    import numpy as np

_Shapes = dict[str, tuple[str, tuple[int, ...]]]

MAX_GOLDEN_BYTES = 1 << 30  # read whole; ten samples of a full-size policy take 20 MiB
MAX_NAME_CHARACTERS = 4096
_MAX_MEMBERS = 64
_OVERHEAD_BYTES = 64 << 10  # headers, and the archive's own table
_END = b"PK\x05\x06"
_END_BYTES = 22
_ZIP64_LOCATOR = b"PK\x06\x07"
_ZIP64_LOCATOR_BYTES = 20
_MAGIC = b"\x93NUMPY\x01\x00"
_HEADER = re.compile(
    rb"\{'descr': '([<|>=]?[A-Za-z]\d{1,9})', 'fortran_order': (True|False), "
    rb"'shape': \(((?:\d{1,12},(?: \d{1,12}(?:, \d{1,12}){0,6})?)?)\), \} *\n"
)
_MAX_HEADER_BYTES = 1024


@dataclass(frozen=True)
class _Member:
    """An array of the archive; its data begins `start` bytes into the member."""

    info: zipfile.ZipInfo
    dtype: str
    shape: tuple[int, ...]
    fortran: bool
    start: int


class _UnsoundError(ValueError):
    """A clause that says what is wrong with the archive."""


def read_golden(path: Path, manifest: Manifest) -> dict[str, np.ndarray]:
    """All arrays of a `golden.npz` that is the manifest's; see `bundle.load_golden`.

    Raises:
        BundleError: not an archive of plain arrays, or names, dtypes or shapes are not the manifest's.
    """
    try:
        with io.BufferedReader(open_regular(path)) as file:
            _check_end(file, golden_limit_bytes(manifest))
            with zipfile.ZipFile(file) as archive:
                members = _members(archive)
                _check_members(members, manifest, path)
                return {name: _read(archive, member) for name, member in members.items()}
    except BundleError:
        raise
    except OSError as error:
        raise _unreadable(path, error.strerror or str(error)) from error
    except Exception as error:  # zipfile has a dozen kinds of them for damaged archives
        raise _unreadable(path, str(error) or type(error).__name__) from error


def sample_inputs(
    golden: Mapping[str, np.ndarray], at: int, shapes: Mapping[str, Sequence[int]], states: Collection[str]
) -> dict[str, np.ndarray]:
    """One golden sample as a graph's inputs; samples are of batch 1, and repeat over the graph's batch.

    Args:
        golden: from `read_golden`.
        at: which sample.
        shapes: of the inputs, by name.
        states: names of inputs that carry state: [layers, batch, hidden], where others have the batch first.

    Returns:
        Contiguous arrays of these shapes, by name.
    """
    import numpy as np

    return {
        name: np.ascontiguousarray(
            np.broadcast_to(np.expand_dims(golden[name][at], 1 if name in states else 0), tuple(shape))
        )
        for name, shape in shapes.items()
    }


def rows(value: np.ndarray, is_state: bool) -> np.ndarray:
    """A graph's value with its batch first, a row of it as golden samples hold it.

    Args:
        value: [B, ...]; of carried state [layers, B, hidden].
        is_state: which of the two.

    Returns:
        [B, ...], or [B, layers, hidden]; a view.
    """
    import numpy as np

    return np.moveaxis(value, 1, 0) if is_state else value


def golden_limit_bytes(manifest: Manifest) -> int:
    """The largest `golden.npz` that the manifest's shapes and number of samples can fill."""
    required, optional = _golden_shapes(manifest)
    arrays = {**optional, **required}.values()
    sample_bytes = 4 * MAX_NAME_CHARACTERS
    sample_bytes += sum((1 if dtype == "uint8" else 4) * math.prod(shape) for dtype, shape in arrays)
    return min(MAX_GOLDEN_BYTES, manifest.parity.samples * sample_bytes + _OVERHEAD_BYTES)


def _unreadable(path: Path, reason: str) -> BundleError:
    return BundleError(f"{path} cannot be read: {reason}.", "Export the bundle again.")


def _check_end(file: BinaryIO, limit_bytes: int) -> None:
    """The archive's size, and that its table of members is short: zipfile holds it in memory at once."""
    size = file.seek(0, os.SEEK_END)
    if size > limit_bytes:
        raise _UnsoundError(f"it has {size} bytes, the manifest's samples take at most {limit_bytes}")
    file.seek(max(0, size - _END_BYTES - _ZIP64_LOCATOR_BYTES))
    tail = file.read(_END_BYTES + _ZIP64_LOCATOR_BYTES)
    end = tail[-_END_BYTES:]
    if not end.startswith(_END) or len(end) != _END_BYTES:
        raise _UnsoundError("it is no archive that NumPy wrote, or is truncated")
    members, table_bytes = int.from_bytes(end[10:12], "little"), int.from_bytes(end[12:16], "little")
    if members > _MAX_MEMBERS or table_bytes > _OVERHEAD_BYTES or tail.startswith(_ZIP64_LOCATOR):
        raise _UnsoundError(f"its table lists {members} members in {table_bytes} bytes")


def _members(archive: zipfile.ZipFile) -> dict[str, _Member]:
    """The arrays by name, their headers read."""
    members: dict[str, _Member] = {}
    for info in archive.infolist():
        name = info.filename.removesuffix(".npy")
        if name == info.filename or name in members:
            raise _UnsoundError(f"its member {info.filename!r} is no array, or listed twice")
        if info.compress_type != zipfile.ZIP_STORED or info.compress_size != info.file_size:
            raise _UnsoundError(f"its member {info.filename!r} is compressed")
        members[name] = _header(archive, info)
    return members


def _header(archive: zipfile.ZipFile, info: zipfile.ZipInfo) -> _Member:
    with archive.open(info) as file:
        start = file.read(len(_MAGIC) + 2)
        length = int.from_bytes(start[len(_MAGIC) :], "little")
        if not start.startswith(_MAGIC) or length > _MAX_HEADER_BYTES:
            raise _UnsoundError(f"its member {info.filename!r} is no array of NumPy's format 1.0")
        found = _HEADER.fullmatch(file.read(length))
    if found is None:
        raise _UnsoundError(f"its member {info.filename!r} is no array of plain numbers or text")
    shape = tuple(int(size) for size in found[3].replace(b" ", b"").split(b",") if size)
    return _Member(info, found[1].decode(), shape, found[2] == b"True", len(start) + length)


def _check_members(members: Mapping[str, _Member], manifest: Manifest, path: Path) -> None:
    import numpy as np

    required, optional = _golden_shapes(manifest)
    specs = {**optional, **required}

    def refuse(problem: str) -> NoReturn:
        raise BundleError(f"{path} does not fit its manifest: {problem}.", "Export the bundle again.")

    if missing := {"names", *required} - members.keys():
        refuse(f"it lacks {', '.join(sorted(missing))}")
    if unknown := members.keys() - specs.keys() - {"names"}:
        refuse(f"it has an unknown array {min(unknown)!r}")
    names = members["names"]
    text = re.fullmatch(r"[<=]U(\d+)", names.dtype)
    if text is None or len(names.shape) != 1 or not 0 < int(text[1]) <= MAX_NAME_CHARACTERS:
        refuse(f"names is {_dtype_name(names.dtype)} {list(names.shape)} instead of unicode [N]")
    count = names.shape[0]
    if not 0 < count <= manifest.parity.samples:
        refuse(f"it has {count} samples, parity was measured on {manifest.parity.samples}")
    for name, member in members.items():
        dtype, tail = specs.get(name, ("", ()))
        wanted = np.dtype(dtype).str if name != "names" else member.dtype
        shape = (count, *tail)
        if member.dtype != wanted or member.shape != shape:
            found = f"{_dtype_name(member.dtype)} {list(member.shape)}"
            refuse(f"{name} is {found} instead of {dtype} {list(shape)}")
        item_bytes = 4 * int(text[1]) if name == "names" else np.dtype(dtype).itemsize
        if member.info.file_size != member.start + math.prod(member.shape) * item_bytes:
            refuse(f"{name} has {member.info.file_size} bytes, which are not its shape's")


def _dtype_name(descr: str) -> str:
    """As people write a dtype, where NumPy knows it."""
    import numpy as np

    try:
        return str(np.dtype(descr))
    except (TypeError, ValueError):
        return descr


def _read(archive: zipfile.ZipFile, member: _Member) -> np.ndarray:
    """The array, read into its own memory; zipfile compares the checksum at the end."""
    import numpy as np

    array = np.empty(math.prod(member.shape), member.dtype)
    left = array.view(np.uint8)
    with archive.open(member.info) as file:
        file.read(member.start)
        while len(left) and (count := file.readinto(left)):  # type: ignore[attr-defined]
            left = left[count:]
        if len(left) or file.read(1):
            raise _UnsoundError(f"{member.info.filename} is cut short")
    if member.info.filename == "names.npy" and array.view(np.uint32).max() > 0x10FFFF:
        raise _UnsoundError("names holds what is no text")
    return array.reshape(member.shape, order="F" if member.fortran else "C")


def _golden_shapes(manifest: Manifest) -> tuple[_Shapes, _Shapes]:
    """Dtype and shape of one sample of each array: those that must be there, and those that may be."""
    optional: _Shapes = {}
    if manifest.prompt:
        length = (manifest.prompt.length,)
        optional |= dict.fromkeys(("input_ids", "token_ids", "attention_mask"), ("int32", length))
        optional["instruction_index"] = ("int32", ())
    required: _Shapes = {}
    for tensor in manifest.inputs:
        required[tensor.name] = (tensor.dtype, _of_one(tensor.shape, tensor.role == "state"))
    for output in manifest.outputs:
        if output.role != "state":
            name = "actions" if output.role == "actions" else output.name
            required[name] = (output.dtype, output.shape[1:])
    for stage in manifest.stages:
        if stage.name != "action":
            tail = _of_one(stage.shape, stage.tensor in manifest.state_outputs)
            required[f"stage_{stage.name}"] = ("float32", tail)
    return required, optional


def _of_one(shape: tuple[int, ...], is_state: bool) -> tuple[int, ...]:
    """The shape without the batch, which is the second axis of carried state, [layers, B, hidden]."""
    return (shape[0], *shape[2:]) if is_state else shape[1:]
