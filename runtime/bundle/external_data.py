"""The external data of a graph lies in the files that were checked, before any engine opens it."""

from __future__ import annotations

import math
from pathlib import Path

from vla_edge.runtime.errors import BundleError
from vla_edge.runtime.files.regular_file import read_regular, regular_size

from .onnx_wire import ExternalTensor, WireError, external_tensors

MAX_MODEL_BYTES = 64 << 20  # the graph alone: its weights are in the data file
_EXPORT_AGAIN = "The bundle was put together by hand or damaged; export it again."
# Bits of an element, by the number of TensorProto.DataType; strings cannot lie outside.
_BITS = {1: 32, 2: 8, 3: 8, 4: 16, 5: 16, 6: 32, 7: 64, 9: 8, 10: 16, 11: 64, 12: 32, 13: 64, 14: 64, 15: 128}
_BITS |= {16: 16, 17: 8, 18: 8, 19: 8, 20: 8, 21: 4, 22: 4, 23: 4, 24: 8, 25: 2, 26: 2}
# "checksum" is read by nobody; ONNX Runtime knows more of its own, which move further bytes into memory.
_KEYS = frozenset({"location", "offset", "length", "checksum"})
_MAX_DIGITS = 18
_MAX_RANK = 32


def check_external_data(path: Path, data_file: str | None, limit_bytes: int = MAX_MODEL_BYTES) -> bytes:
    """Refuse an ONNX file whose tensors refer to anything but bytes of one regular file beside it.

    Args:
        path: the ONNX file.
        data_file: the name of the one file allowed; None: any plain name in the folder of `path`.
        limit_bytes: of the ONNX file; the default suits a graph whose weights lie in the data file.

    Returns:
        The bytes that were checked, for who reads more in them.

    Raises:
        BundleError: not a regular file, not ONNX, or a location, range or length that does not hold.
    """
    try:
        model = read_regular(path, limit_bytes)
    except OSError as error:
        raise BundleError(f"{path} cannot be read: {error.strerror}.", _EXPORT_AGAIN) from error
    try:
        if len(model) > limit_bytes:
            raise WireError(f"it has more than {limit_bytes} bytes, too many for a graph")
        tensors = external_tensors(model)
        sizes: dict[str, int] = {}
        for tensor in tensors:
            location = _location(tensor, data_file)
            if location not in sizes:
                sizes[location] = _size(path.with_name(location))
            _check_range(tensor, location, sizes[location])
    except WireError as error:
        raise BundleError(f"{path} is not a graph that can be trusted: {error}.", _EXPORT_AGAIN) from error
    return model


def _location(tensor: ExternalTensor, data_file: str | None) -> str:
    unknown = tensor.entries.keys() - _KEYS
    if unknown:
        raise WireError(f"tensor {tensor.name!r} has external data with the entry {min(unknown)!r}")
    location = tensor.entries.get("location", "")
    if data_file is not None and location != data_file:
        raise WireError(f"tensor {tensor.name!r} takes its data from {location!r} instead of {data_file}")
    if location in ("", ".", "..") or any(mark in location for mark in "/\\:\0"):
        raise WireError(f"tensor {tensor.name!r} takes its data from {location!r}, not a file beside it")
    return location


def _size(path: Path) -> int:
    try:
        return regular_size(path)
    except OSError as error:
        raise WireError(f"its data file {path.name} cannot be used: {error.strerror}") from error


def byte_range(tensor: ExternalTensor) -> tuple[int, int]:
    """Offset and length of a tensor's external data; it must be as long as the shape takes.

    Raises:
        WireError: it is not, or the type, shape or numbers are none.
    """
    bits = _BITS.get(tensor.data_type)
    if bits is None:
        raise WireError(f"tensor {tensor.name!r} with external data has data type {tensor.data_type}")
    if len(tensor.dims) > _MAX_RANK:  # ahead of the product
        raise WireError(f"tensor {tensor.name!r} has {len(tensor.dims)} dimensions")
    if any(dim >= 1 << 63 for dim in tensor.dims):
        raise WireError(f"tensor {tensor.name!r} has a negative size")
    needed = -(-math.prod(tensor.dims) * bits // 8)
    offset = _number(tensor, "offset", 0)
    length = _number(tensor, "length", needed)
    if length != needed:
        raise WireError(
            f"tensor {tensor.name!r} has {length} bytes of external data, its shape takes {needed}"
        )
    return offset, length


def _check_range(tensor: ExternalTensor, location: str, size: int) -> None:
    """Within the file, and as many bytes as the shape takes."""
    offset, length = byte_range(tensor)
    if offset + length > size:
        raise WireError(
            f"tensor {tensor.name!r} takes bytes {offset} to {offset + length} of {location}, which has {size}"
        )


def _number(tensor: ExternalTensor, key: str, absent: int) -> int:
    text = tensor.entries.get(key)
    if text is None:
        return absent
    if not (text.isascii() and text.isdigit() and len(text) <= _MAX_DIGITS):
        raise WireError(f"tensor {tensor.name!r} has external data with {key} {text!r}")
    return int(text)
