"""Small bundles, one with another head."""

from __future__ import annotations

from pathlib import Path

import pytest
from packed_files import edited_bundle, packed_file
from plan_bundles import write_bundle


@pytest.fixture(scope="session")
def first(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A bundle. Do not write to it."""
    return write_bundle(tmp_path_factory.mktemp("first") / "policy-1").folder


@pytest.fixture(scope="session")
def second(first: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same with a few weights changed. Do not write to it."""
    folder = tmp_path_factory.mktemp("second") / "policy-2"
    return edited_bundle(first, folder, [(5000, b"x" * 100)], "policy-2")


@pytest.fixture(scope="session")
def whole(first: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The first one, packed."""
    return packed_file(first, tmp_path_factory.mktemp("packed") / "policy-1.vla")


@pytest.fixture(scope="session")
def update(first: Path, second: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What the second one has and the first one lacks."""
    return packed_file(second, tmp_path_factory.mktemp("packed") / "update.vla", first)
