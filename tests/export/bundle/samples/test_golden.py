"""Golden samples are written only as their reader takes them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from vla_edge.export.bundle.samples.golden import save_golden
from vla_edge.runtime.errors import InputError


def test_more_samples_than_a_reader_takes_are_refused_before_they_are_written(tmp_path: Path) -> None:
    inputs = {
        "names": np.array(["a"] * 3),
        "pixel_values": np.broadcast_to(np.float32(0), (3, 3, 1 << 14, 1 << 14)),  # takes no memory
    }
    with pytest.raises(InputError, match="3 images make golden samples of 9663676428 bytes") as caught:
        save_golden(tmp_path / "golden.npz", inputs, {})
    assert "--images" in caught.value.hint
    assert not list(tmp_path.iterdir())
