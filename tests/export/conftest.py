"""Checkpoints as files, real ones and broken ones, and families of other packages."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

from vla_edge.export import families

Container = dict[str, Any]
TOY = Path(__file__).parents[1] / "families" / "toy"


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


@pytest.fixture
def install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[..., None]]:
    """Puts a distribution that offers a family on the path: `install("mine", "module:FAMILY", code)`."""

    def forget() -> None:
        families._offers.cache_clear()
        families.family_of.cache_clear()

    def put(name: str, value: str, code: str, package: str = "some-package") -> None:
        folder = tmp_path / package
        info = folder / f"{package.replace('-', '_')}.dist-info"
        info.mkdir(parents=True)
        (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {package}\nVersion: 1.0\n")
        (info / "entry_points.txt").write_text(f"[{families.GROUP}]\n{name} = {value}\n")
        (folder / f"{value.partition(':')[0]}.py").write_text(code)
        monkeypatch.syspath_prepend(str(folder))
        sys.modules.pop(value.partition(":")[0], None)
        forget()

    forget()
    yield put
    monkeypatch.undo()
    forget()


@pytest.fixture
def toy(install: Callable[..., None], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(TOY))
