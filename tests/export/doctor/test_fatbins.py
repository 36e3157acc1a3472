"""For which GPUs a library has kernels, read from files made here as nvcc makes them, sound and damaged."""

from __future__ import annotations

import random
import struct
from pathlib import Path

import pytest

from vla_edge.export.doctor.fatbins import kernels_in

CUBIN, PTX = 2, 1


def fatbin(*entries: tuple[int, int]) -> bytes:
    """A fatbin of entries: kind and compute capability."""
    body = b"".join(
        struct.pack("<HHIQ12xI32x", kind, 0x101, 64, 24, sm) + b"machine code".ljust(24)
        for kind, sm in entries
    )
    return struct.pack("<IHHQ", 0xBA55ED50, 1, 16, len(body)) + body


def library(*sections: tuple[bytes, bytes]) -> bytes:
    """An ELF file of 64 bits with these sections and the one of their names."""
    names = b"\0" + b"".join(name + b"\0" for name, _ in sections) + b".shstrtab\0"
    parts = [*sections, (b".shstrtab", names)]
    at, headers, data = 64, [bytes(64)], b""
    for name, content in parts:
        offset = names.index(b"\0" + name + b"\0") + 1
        headers.append(struct.pack("<IIQQQQ24x", offset, 1, 0, 0, at, len(content)))
        data, at = data + content, at + len(content)
    start = b"\x7fELF\x02\x01".ljust(0x28, b"\0") + struct.pack("<Q", at)
    start = start.ljust(0x3A, b"\0") + struct.pack("<HHH", 64, len(headers), len(headers) - 1)
    return start + data + b"".join(headers)


def test_machine_code_is_counted_and_ptx_is_not(tmp_path: Path) -> None:
    one, two = fatbin((CUBIN, 86), (PTX, 120), (CUBIN, 75)), fatbin((CUBIN, 87), (CUBIN, 86))
    path = tmp_path / "libnvinfer.so"
    path.write_bytes(library((b".text", fatbin((CUBIN, 90))), (b".nv_fatbin", one + bytes(16) + two)))
    assert kernels_in(path) == (75, 86, 87)


def test_a_library_without_kernels_tells_none(tmp_path: Path) -> None:
    path = tmp_path / "lib.so"
    path.write_bytes(library((b".text", b"code")))
    assert kernels_in(path) == ()


@pytest.mark.parametrize("data", [b"\x7fELF", b"#!/bin/sh", b"\x7fELF\x02\x01" + b"\xff" * 100])
def test_what_is_no_library_tells_none(tmp_path: Path, data: bytes) -> None:
    path = tmp_path / "lib.so"
    path.write_bytes(data)
    assert kernels_in(path) == ()


def test_damage_ends_without_an_error_or_a_hang(tmp_path: Path) -> None:
    sound = library((b".nv_fatbin", fatbin((CUBIN, 86), (CUBIN, 87)) * 3))
    path, luck = tmp_path / "lib.so", random.Random(7)
    for _ in range(300):
        data = bytearray(sound)
        for _ in range(luck.randint(1, 8)):
            data[luck.randrange(len(data))] = luck.choice((0, 1, 0x7F, 0xFF, luck.randrange(256)))
        path.write_bytes(data[: luck.randint(1, len(data))] if luck.random() < 0.3 else data)
        assert isinstance(kernels_in(path), tuple)
