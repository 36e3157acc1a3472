"""Where a graph may be cut; `tests/export/parts/` runs what lies between."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np

from vla_edge.runtime.bundle.bundle import Bundle

NARROW_BYTES = 1 << 20


def test_cuts_lie_behind_vision_between_text_layers_around_clip_and_behind_fusion(
    bundle_of: Callable[..., Path],
) -> None:
    cuts = Bundle.open(bundle_of("hybrid-a", "transformers", "fp16")).manifest.cuts
    assert [cut.name for cut in cuts] == ["vision", "text.1", "text", "clip", "fusion"]
    assert [len(cut.tensors) for cut in cuts] == [1, 1, 1, 2, 1]
    sizes = [np.prod(spec.shape) * np.dtype(spec.dtype).itemsize for cut in cuts for spec in cut.tensors]
    assert max(sizes) < NARROW_BYTES
