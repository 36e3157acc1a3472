"""Opening a checkpoint file without trusting it: torch's zip format, or safetensors.

Nothing in a file is ever executed: torch's restricted unpickler builds tensors, plain values and the
few harmless classes listed in `_allowed_globals`, and everything else is refused by name. Tensors are
mapped into memory, not read, so opening takes milliseconds at any size.
"""

from __future__ import annotations

import argparse
import pathlib
import pickle
import struct
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from ..runtime.errors import CheckpointError

ContainerFormat = Literal["torch zip", "safetensors"]

_ZIP_MAGIC = b"PK\x03\x04"
# The first object of torch's format before 1.6: pickle protocol 2 of 0x1950a86a20f9469cfc6c.
_LEGACY_MAGIC = b"\x80\x02\x8a\x0a\x6c\xfc\x9c\x46\xf9\x20\x6a\xa8\x50\x19"
_PICKLE_MAGIC = b"\x80"
_KNOWN_STARTS = {
    b"\x89PNG": "a PNG image",
    b"\xff\xd8\xff": "a JPEG image",
    b"version https://git-lfs": "a Git LFS pointer; the file itself was not fetched (git lfs pull)",
    b"<": "a web page or XML; a download that failed often leaves one",
    b"\x1f\x8b": "a gzip archive; unpack it first",
}
_HEAD_BYTES = 32
# What torch and zipfile raise over damaged content (found by fuzzing); all mean that it cannot be read.
_DAMAGE = (
    RuntimeError,
    ValueError,
    LookupError,
    TypeError,
    AttributeError,
    AssertionError,
    ArithmeticError,
    EOFError,
    MemoryError,
    struct.error,
    zipfile.BadZipFile,
)
# Deeper nesting than any configuration has; also what ends a value that contains itself.
_DEEPEST = 20
_RESAVE = 'torch.save({"model_state_dict": model.state_dict()}, "new.pth")'


@dataclass(frozen=True)
class Container:
    """What a file holds at its top level. Tensors are memory-mapped and read-only by agreement."""

    path: Path
    size_bytes: int
    format: ContainerFormat
    content: Mapping[str, Any]


def open_container(path: Path) -> Container:
    """Open a checkpoint file.

    Raises:
        CheckpointError: the file is missing, empty, truncated, not a checkpoint, of torch's format from
            before 1.6, or holds objects that only running foreign code could build.
    """
    try:
        size_bytes = _size(path)
        with open(path, "rb") as file:
            head = file.read(_HEAD_BYTES)
    except OSError as error:
        raise CheckpointError(
            f"{path} cannot be read: {error.strerror}.", "Check the path and its permissions."
        ) from error
    if head.startswith(_ZIP_MAGIC):
        _check_zip(path, size_bytes)
        return Container(path, size_bytes, "torch zip", _torch_content(path))
    if _is_safetensors(path, head, size_bytes):
        return Container(path, size_bytes, "safetensors", _safetensors_content(path))
    raise _not_a_checkpoint(path, head, size_bytes)


def plain(value: Any, levels: int = _DEEPEST) -> Any:
    """A value from a container as JSON could hold it: namespaces become dicts, large tensors a description.

    What is nested deeper than `levels` becomes "...".
    """
    if levels == 0:
        return "..."
    if isinstance(value, argparse.Namespace):
        value = vars(value)
    if isinstance(value, Mapping):
        return {str(key): plain(item, levels - 1) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [plain(item, levels - 1) for item in value]
    if value is None or isinstance(value, (bool, int, float, str)):
        return value
    return _plain_object(value)


def printable(text: str) -> str:
    """A text from a file as a terminal may see it: control characters, which could command it, are escaped."""
    return "".join(
        letter if letter.isprintable() or letter == "\n" else letter.encode("unicode_escape").decode()
        for letter in text
    )


def _plain_object(value: Any) -> Any:
    import numpy as np
    import torch

    if isinstance(value, torch.Tensor):
        description = f"tensor {list(value.shape)} {str(value.dtype).removeprefix('torch.')}"
        try:
            # once more, since JSON has no complex numbers
            return plain(value.tolist()) if value.numel() <= 16 else description
        except RuntimeError:  # sparse, quantised and meta tensors cannot be listed
            return description
    if isinstance(value, (np.generic, np.ndarray)):
        return plain(value.tolist()) if value.size <= 16 else f"array {list(value.shape)} {value.dtype}"
    return str(value) if isinstance(value, pathlib.PurePath) else repr(value)


def _size(path: Path) -> int:
    if not path.exists():
        raise CheckpointError(f"{path} does not exist.", "Check the path.")
    if not path.is_file():
        raise CheckpointError(
            f"{path} is not a file.", "Give the checkpoint itself, such as best_simple_lstm_model.pth."
        )
    size_bytes = path.stat().st_size
    if size_bytes == 0:
        raise CheckpointError(f"{path} is empty.", "Copy it again from where it was trained.")
    return size_bytes


def _check_zip(path: Path, size_bytes: int) -> None:
    try:
        if not zipfile.is_zipfile(path):
            raise _truncated(path, size_bytes, "failed finding central directory")
        with zipfile.ZipFile(path) as archive:
            entries = archive.infolist()
    except _DAMAGE as error:
        raise _truncated(path, size_bytes, _first_line(error)) from error
    names = [entry.filename for entry in entries]
    if not any(name.endswith("/data.pkl") for name in names):
        raise CheckpointError(
            f"{path} is a zip archive, but no torch checkpoint: it has no data.pkl.",
            "If the checkpoint is packed inside, unpack it first.",
        )
    if any(name.endswith("/constants.pkl") for name in names):
        raise CheckpointError(
            f"{path} is a TorchScript program, not a checkpoint.",
            f"Save the weights of the model that it was made from: {_RESAVE}.",
        )
    # torch would map the compressed bytes and take them for weights, without a word.
    if any(entry.compress_type != zipfile.ZIP_STORED for entry in entries):
        raise CheckpointError(
            f"{path} was packed again with compression; torch's own files are not compressed, so that they can be "
            "memory-mapped.",
            "Use the original file, or unpack this one and pack it without compression (zip -0).",
        )


def _truncated(path: Path, size_bytes: int, reason: str) -> CheckpointError:
    return CheckpointError(
        f"{path} is incomplete or damaged: the directory at its end cannot be read ({reason}). "
        f"The file has {size_bytes:,} bytes ({size_bytes / 2**20:.1f} MiB).",
        "The usual cause is a copy that was cut short. Compare the size (ls -l) and the SHA-256 (sha256sum) with "
        "those at the origin, then copy again.",
    )


def _torch_content(path: Path) -> Mapping[str, Any]:
    import torch

    with torch.serialization.safe_globals(_allowed_globals()):
        try:
            content = torch.load(path, map_location="cpu", weights_only=True, mmap=True)
        except pickle.UnpicklingError as error:
            raise _refused(path, error) from error
        except _DAMAGE as error:
            raise CheckpointError(
                f"{path} is damaged: {_first_line(error)}.",
                "Compare its SHA-256 with the origin's and copy it again.",
            ) from error
    if not isinstance(content, Mapping):
        raise CheckpointError(
            f"{path} holds a {type(content).__name__}, not a dictionary of tensors.", f"Save it as {_RESAVE}."
        )
    return content


def _allowed_globals() -> list[Any]:
    """Classes that training scripts put beside the weights; building them runs no code of the file's."""
    import _codecs

    import numpy as np

    dtypes = [type(np.dtype(kind)) for kind in ("f8", "f4", "f2", "i8", "i4", "u1", "?")]
    # NumPy 2 moved these functions; files carry the name of the version that wrote them.
    rebuild = {"scalar": np.float64(0).__reduce__()[0], "_reconstruct": np.zeros(0).__reduce__()[0]}
    arrays = [
        (function, f"numpy.{core}.multiarray.{name}")
        for name, function in rebuild.items()
        for core in ("core", "_core")
    ]
    # Scalars are written as text and encoded back when the file has pickle protocol 2, torch's default.
    paths = [pathlib.PosixPath, pathlib.PurePosixPath]
    return [
        argparse.Namespace,
        *paths,
        np.ndarray,
        np.dtype,
        *dtypes,
        *arrays,
        (_codecs.encode, "_codecs.encode"),
    ]


def _refused(path: Path, error: Exception) -> CheckpointError:
    import torch

    try:
        unsafe = sorted(map(printable, torch.serialization.get_unsafe_globals_in_checkpoint(path)))
    except (*_DAMAGE, pickle.UnpicklingError):
        unsafe = []
    if not unsafe:
        return CheckpointError(
            f"{path} is damaged: {_first_line(error)}.",
            "Compare its SHA-256 with the origin's and copy it again.",
        )
    return CheckpointError(
        f"{path} is refused: reading it would run code from outside, {', '.join(unsafe[:10])}. Nothing of it was run.",
        f"If you trust its origin, load it there and save the weights alone: {_RESAVE}.",
    )


def _first_line(error: Exception) -> str:
    lines = str(error).strip().splitlines()
    return printable(f"{type(error).__name__}: {lines[0]}".rstrip(".")) if lines else type(error).__name__


def _is_safetensors(path: Path, head: bytes, size_bytes: int) -> bool:
    """The format starts with the length of its JSON header."""
    header_bytes = int.from_bytes(head[:8], "little")
    return path.suffix == ".safetensors" or (head[8:9] == b"{" and 8 + header_bytes <= size_bytes)


def _safetensors_content(path: Path) -> Mapping[str, Any]:
    import safetensors

    try:
        with safetensors.safe_open(path, framework="pt") as file:
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 - not a mapping
            metadata = file.metadata() or {}
    except safetensors.SafetensorError as error:
        raise CheckpointError(
            f"{path} is an incomplete or damaged safetensors file: {_first_line(error)}. "
            f"It has {path.stat().st_size:,} bytes.",
            "Compare its size and SHA-256 with the origin's and copy it again.",
        ) from error
    return {"state_dict": tensors, **metadata}


def _not_a_checkpoint(path: Path, head: bytes, size_bytes: int) -> CheckpointError:
    if head.startswith(_LEGACY_MAGIC):
        return CheckpointError(
            f"{path} has torch's format from before 1.6, which cannot be memory-mapped.",
            'Re-save it once: torch.save(torch.load(path, map_location="cpu", weights_only=True), "new.pth").',
        )
    if head.startswith(_PICKLE_MAGIC):
        return CheckpointError(
            f"{path} is refused: it is a bare pickle, which can run any code when read. Nothing of it was run.",
            f"If you trust its origin, load it there and save the weights with torch: {_RESAVE}.",
        )
    kinds = (kind for start, kind in _KNOWN_STARTS.items() if head.startswith(start))
    looks = next(kinds, f"unknown; it starts with {head[:16]!r}")
    return CheckpointError(
        f"{path} is not a checkpoint ({size_bytes:,} bytes). It looks like {looks}."
        if not looks.startswith("unknown")
        else f"{path} is not a checkpoint ({size_bytes:,} bytes): the format is {looks}.",
        "Give a file written by torch.save (.pth, .pt, .ckpt), or a .safetensors file.",
    )
