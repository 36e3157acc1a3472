"""Tiny bundles to damage at will, and frames."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tiny_bundle import Tiny, entry_of, reference

from vla_edge.runtime.bundle import manifest as schema
from vla_edge.runtime.bundle.manifest_file import decode


@pytest.fixture
def tiny_bundle(tmp_path: Path, pristine_bundle: Path) -> Path:
    """A copy of the plain bundle, to damage at will."""
    return Path(shutil.copytree(pristine_bundle, tmp_path / "tiny"))


@pytest.fixture
def edit_manifest() -> Callable[..., None]:
    """Changes fields of a bundle's manifest (a dict) without touching any file."""

    def edit(folder: Path, change: Callable[[dict[str, Any]], object]) -> None:
        import json

        path = folder / schema.MANIFEST_NAME
        fields = json.loads(path.read_bytes())
        change(fields)
        path.write_text(json.dumps(fields, ensure_ascii=False), encoding="utf-8")

    return edit


@pytest.fixture
def relist() -> Callable[[Path], None]:
    """Lists the files as they now are, as an attacker or a careless editor would."""

    def run(folder: Path) -> None:
        import msgspec

        manifest = decode((folder / schema.MANIFEST_NAME).read_bytes())
        files = tuple(entry_of(folder, entry.path) for entry in manifest.files)
        changed = msgspec.structs.replace(manifest, files=files)
        (folder / schema.MANIFEST_NAME).write_bytes(schema.encode(changed))

    return run


@pytest.fixture
def numpy_reference() -> Callable[..., dict[str, np.ndarray]]:
    """`numpy_reference(inputs, **fields of Tiny)`: the same graph in NumPy, float32."""

    def run(inputs: dict[str, np.ndarray], **fields: Any) -> dict[str, np.ndarray]:
        return reference(Tiny(**fields), inputs)

    return run


@pytest.fixture
def frame() -> np.ndarray:
    """A camera frame with structure at every scale, uint8 [48, 64, 3]."""
    rows, columns = np.mgrid[0:48, 0:64]
    noise = np.random.default_rng(3).integers(0, 60, (48, 64, 3))
    ramp = np.stack([rows * 4, columns * 3, (rows + columns) * 2], axis=2)
    return np.clip(ramp + noise, 0, 255).astype(np.uint8)


@pytest.fixture
def dark_frame() -> np.ndarray:
    return np.zeros((48, 64, 3), np.uint8)
