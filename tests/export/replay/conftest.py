"""Tiny bundles beside each other."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from tiny_bundle import Tiny, write_bundle


@pytest.fixture
def make_bundle(tmp_path: Path) -> Callable[..., Path]:
    """Writes a bundle with fields of `Tiny` of one's choice; each of another name lies beside the others."""

    def make(**fields: Any) -> Path:
        tiny = Tiny(**fields)
        return write_bundle(tmp_path / tiny.name, tiny)

    return make
