"""Tiny bundles for the examples, and running these as a reader does: each a process of its own."""

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


@pytest.fixture(scope="session")
def pristine_bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The plain bundle; not to be changed."""
    return write_bundle(tmp_path_factory.mktemp("pristine") / "tiny", Tiny())
