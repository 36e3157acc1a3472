"""Pictures that no watch takes for a frozen or covered camera."""

from __future__ import annotations

import io

import numpy as np
from PIL import Image


def jpeg(seed: int, width: int = 64, height: int = 48) -> bytes:
    """Noise, another one for each seed."""
    pixels = np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "JPEG")
    return file.getvalue()
