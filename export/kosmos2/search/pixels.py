"""Frames as pixels, made by worker threads while the backbones are at others."""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import Executor

import numpy as np

from vla_edge.runtime.bundle.manifest import Preprocessing
from vla_edge.runtime.preprocess import Preprocessor


class PixelsAhead:
    """The pixels of some frames, on their way.

    Args:
        spec: how frames become pixels.
        frames: uint8 RGB [H, W, 3] each.
        workers: threads; Pillow leaves Python's lock alone while it resizes.
    """

    def __init__(self, spec: Preprocessing, frames: Sequence[np.ndarray], workers: Executor) -> None:
        self._out = np.empty((len(frames), 3, spec.height, spec.width), np.float32)
        preprocessor = Preprocessor(spec)
        self._made = [
            workers.submit(preprocessor, frame, out) for frame, out in zip(frames, self._out, strict=True)
        ]

    def __len__(self) -> int:
        return len(self._out)

    def result(self) -> np.ndarray:
        """float32 [F, 3, H, W].

        Raises:
            ImageError: a frame is none.
        """
        for each in self._made:
            each.result()
        return self._out
