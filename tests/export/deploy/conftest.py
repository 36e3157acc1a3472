"""Three small policies as files: one whole, one as an update of it, one whole."""

from __future__ import annotations

from pathlib import Path

import pytest
from packed_files import edited_bundle, packed_file
from plan_bundles import write_bundle


@pytest.fixture(scope="session")
def files(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path, Path]:
    """Packed bundles a, b and c; b is an update since a. Do not write to them."""
    place = tmp_path_factory.mktemp("files")
    first = write_bundle(place / "a", name="policy-a").folder
    second = edited_bundle(first, place / "b", [], "policy-b")
    third = write_bundle(place / "c", seed=1, name="policy-c").folder
    return (
        packed_file(first, place / "a.vla"),
        packed_file(second, place / "b.vla", first),
        packed_file(third, place / "c.vla"),
    )
