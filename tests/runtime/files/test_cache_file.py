"""A cache gives back what was written, or nothing and a line in the log."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from vla_edge.runtime.files.cache_file import CacheFile


def cache_at(path: Path, made_by: str = "tensorrt 10.6.0") -> CacheFile:
    return CacheFile(path, "timing cache", made_by)


@pytest.mark.parametrize("content", [b"", b"\n", b"times\n\0" * 1000])
def test_what_was_written_is_read(tmp_path: Path, content: bytes) -> None:
    cache_at(tmp_path / "plans" / "a").write(memoryview(content))
    assert cache_at(tmp_path / "plans" / "a").read() == content


def test_every_changed_byte_is_found(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    path = tmp_path / "a"
    cache_at(path).write(b"times")
    sound = path.read_bytes()
    for at in range(len(sound)):
        path.write_bytes(sound[:at] + bytes([sound[at] ^ 0x20]) + sound[at + 1 :])
        assert cache_at(path).read() == b""
    for damaged in (sound[:-1], sound + b"\0", b"times", b"x" * 5000, b""):
        path.write_bytes(damaged)
        assert cache_at(path).read() == b""
    assert "is damaged, or not of tensorrt 10.6.0" in caplog.text


def test_a_cache_of_another_version_is_not_used(tmp_path: Path) -> None:
    cache_at(tmp_path / "a", "tensorrt 10.3.0").write(b"times")
    assert cache_at(tmp_path / "a").read() == b""


def test_what_is_no_regular_file_is_not_waited_for(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "link").symlink_to("/etc/passwd")
    assert cache_at(tmp_path / "pipe").read() == b""
    assert cache_at(tmp_path / "link").read() == b""
    assert "it is not a regular file" in caplog.text
    assert "it is a symbolic link" in caplog.text


def test_no_cache_and_none_yet_are_silent(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    assert CacheFile(None, "timing cache", "").read() == b""
    assert cache_at(tmp_path / "a").read() == b""
    CacheFile(None, "timing cache", "").write(b"times")
    assert not caplog.text
