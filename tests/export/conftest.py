"""Checkpoints as files, real ones and broken ones, for the readers' tests."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

Container = dict[str, Any]


@pytest.fixture
def rewritten(tmp_path: Path, checkpoint_of: Callable[..., Path]) -> Callable[..., Path]:
    """Saves a changed copy of a tiny checkpoint: `rewritten(change)`, where `change` edits the container.

    `change` may return another object to save instead.
    """

    def write(change: Callable[[Container], Any], layout: str = "pure", name: str = "changed.pth") -> Path:
        with torch.serialization.safe_globals([argparse.Namespace]):
            container = torch.load(checkpoint_of(layout), weights_only=True)
        replacement = change(container)
        path = tmp_path / name
        torch.save(container if replacement is None else replacement, path)
        return path

    return write
