"""Kernel times kept between builds. TensorRT-RTX measures none, so its configuration is faked."""

from __future__ import annotations

import logging
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from vla_edge.export.build.timing_cache import TimingCache
from vla_edge.runtime.files.cache_file import CacheFile

MADE_BY = "tensorrt 10.6.0"


class FakeConfig:
    """`IBuilderConfig` as far as caches go; `known` is the only data that it accepts."""

    def __init__(self, known: bytes = b"times") -> None:
        self.known = known
        self.cache: Any = None

    def create_timing_cache(self, data: bytes) -> Any:
        return SimpleNamespace(
            data=data, serialize=lambda: b"times", combine=lambda other, mismatch: other.data == self.known
        )

    def set_timing_cache(self, cache: Any, ignore_mismatch: bool) -> bool:
        assert ignore_mismatch is False
        if cache.data not in (b"", self.known):
            return False
        self.cache = cache
        return True

    def get_timing_cache(self) -> Any:
        return self.cache


def test_a_timing_cache_is_new_then_reused(tmp_path: Path) -> None:
    path = tmp_path / "plans" / "a.timing"
    for state in ("new", "reused"):
        cache = TimingCache(path, MADE_BY)
        cache.attach(FakeConfig())
        assert cache.state == state
        cache.save()
        assert CacheFile(path, "timing cache", MADE_BY).read() == b"times"
    assert list(path.parent.iterdir()) == [path]


def test_a_timing_cache_of_another_gpu_is_replaced(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    path = tmp_path / "a.timing"
    CacheFile(path, "timing cache", MADE_BY).write(b"another GPU's")
    cache = TimingCache(path, MADE_BY)
    cache.attach(FakeConfig())
    assert cache.state == "new"
    with caplog.at_level(logging.INFO, "vla_edge"):
        cache.save()
    assert CacheFile(path, "timing cache", MADE_BY).read() == b"times"
    assert "written anew" in caplog.text


@pytest.mark.parametrize("content", [b"times", b"vla-edge cache 1, tensorrt 10.6.0, 00\ntimes", b""])
def test_a_timing_cache_that_was_not_written_here_never_reaches_tensorrt(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, content: bytes
) -> None:
    path = tmp_path / "a.timing"
    path.write_bytes(content)
    config, given = FakeConfig(), []
    create = config.create_timing_cache
    config.create_timing_cache = lambda data: given.append(data) or create(data)  # type: ignore[method-assign]
    cache = TimingCache(path, MADE_BY)
    cache.attach(config)
    cache.save()
    assert set(given) == {b""}
    assert cache.state == "new"
    assert f"the timing cache {path} is damaged, or not of {MADE_BY}" in caplog.text
    assert CacheFile(path, "timing cache", MADE_BY).read() == b"times"


def test_no_timing_cache_touches_nothing(tmp_path: Path) -> None:
    cache = TimingCache(None, MADE_BY)
    cache.attach(FakeConfig())
    cache.save()
    assert cache.state == "none"


def test_a_timing_cache_that_cannot_be_written_is_only_a_warning(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "file").write_bytes(b"")
    cache = TimingCache(tmp_path / "file" / "a.timing", MADE_BY)
    cache.attach(FakeConfig())
    cache.save()
    assert "cannot be written" in caplog.text
