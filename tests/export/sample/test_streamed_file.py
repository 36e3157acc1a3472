"""A checkpoint written piece by piece: whole or not at all."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch

from vla_edge.export.sample.streamed_file import Hole, write_streamed
from vla_edge.runtime.errors import ResourceError


class TestWriting:
    def test_a_failure_leaves_nothing_behind(self, tmp_path: Path) -> None:
        def fail() -> Iterator[np.ndarray]:
            yield np.zeros(2, np.float32)
            raise KeyboardInterrupt

        with pytest.raises(KeyboardInterrupt):
            write_streamed(
                tmp_path / "x.pth", {"a": torch.empty(4)}, [Hole(16, fail)], lambda size_bytes: None
            )
        assert list(tmp_path.iterdir()) == []

    def test_a_disk_that_is_too_small_is_told_before_anything_is_written(self, tmp_path: Path) -> None:
        hole = Hole(1 << 60, lambda: iter([]))
        with pytest.raises(ResourceError, match=r"MiB free; x\.pth needs 1099511627792 MiB") as error:
            write_streamed(tmp_path / "x.pth", {}, [hole], lambda size_bytes: None)
        assert "smaller --size" in error.value.hint
        assert list(tmp_path.iterdir()) == []

    def test_holes_must_be_those_of_the_container(self, tmp_path: Path) -> None:
        hole = Hole(8, lambda: iter([np.zeros(2, np.float32)]))
        with pytest.raises(ValueError, match="pickling order"):
            write_streamed(tmp_path / "x.pth", {"a": torch.empty(4)}, [hole], lambda size_bytes: None)
