"""Checkpoints written by hand, opcode by opcode, as an attacker would."""

from __future__ import annotations

import struct
import zipfile
from pathlib import Path


def text(value: str) -> bytes:
    raw = value.encode()
    return b"X" + struct.pack("<I", len(raw)) + raw


def integer(value: int) -> bytes:
    size = max(1, (value.bit_length() + 8) // 8)
    return b"\x8a" + bytes([size]) + value.to_bytes(size, "little", signed=True)


def name(module: str, attribute: str) -> bytes:
    return b"c" + f"{module}\n{attribute}\n".encode()


def tuple_of(*items: bytes) -> bytes:
    return b"(" + b"".join(items) + b"t"


def call(function: bytes, *args: bytes) -> bytes:
    return function + tuple_of(*args) + b"R"


def storage(key: str = "0", values: int = 4, kind: str = "FloatStorage") -> bytes:
    return tuple_of(text("storage"), name("torch", kind), text(key), text("cpu"), integer(values)) + b"Q"


def tensor(
    shape: tuple[int, ...] = (4,),
    stride: tuple[int, ...] = (1,),
    offset: int = 0,
    stored: bytes | None = None,
) -> bytes:
    """A tensor in the one storage that `write` puts into the archive: four float32."""
    sizes, steps = (tuple_of(*map(integer, numbers)) for numbers in (shape, stride))
    hooks = call(name("collections", "OrderedDict"))
    rebuild = name("torch._utils", "_rebuild_tensor_v2")
    return call(rebuild, stored or storage(), integer(offset), sizes, steps, b"\x89", hooks)


def write(path: Path, *, weight: bytes | None = None, beside: bytes = b"N", key: str = "extra") -> Path:
    """A checkpoint with one weight, and one value of any kind beside the weights."""
    weights = b"}" + text("w") + (weight or tensor()) + b"s"
    content = b"\x80\x02}(" + text("model_state_dict") + weights + text(key) + beside + b"u."
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("a/data.pkl", content)
        archive.writestr("a/byteorder", "little")
        archive.writestr("a/data/0", struct.pack("<4f", 1, 2, 3, 4))
        archive.writestr("a/version", "3\n")
    return path
