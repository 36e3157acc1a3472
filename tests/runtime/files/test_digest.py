"""One hash for every part."""

from __future__ import annotations

import hashlib
from pathlib import Path

import pytest

from vla_edge.runtime.files.digest import sha256_of


@pytest.mark.parametrize("size", [0, 1, (1 << 20) - 1, 1 << 20, (1 << 20) + 1])
def test_it_is_hashlibs_sha256_and_counts_every_byte(tmp_path: Path, size: int) -> None:
    content = bytes(range(256)) * (size // 256 + 1)
    path = tmp_path / "file"
    path.write_bytes(content[:size])
    seen: list[int] = []
    assert sha256_of(path, seen.append) == hashlib.sha256(content[:size]).hexdigest()
    assert sum(seen) == size
