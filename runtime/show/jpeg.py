"""Frames small enough for a viewer: JPEG, and no larger than somebody looks at."""

from __future__ import annotations

import io
from typing import Any

import numpy as np
from PIL import Image


def jpeg(frame: Any, longest_px: int, quality: int) -> bytes:
    """A frame as a JPEG.

    Args:
        frame: uint8 RGB [height, width, 3].
        longest_px: of its sides; a larger frame is shrunk.
        quality: of JPEG, up to 95.
    """
    image = Image.fromarray(np.ascontiguousarray(frame))
    image.thumbnail((longest_px, longest_px))
    out = io.BytesIO()
    image.save(out, "JPEG", quality=quality)
    return out.getvalue()
