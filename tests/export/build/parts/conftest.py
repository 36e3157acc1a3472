"""Each different part is really built once; a test that builds it again gets the same file."""

from __future__ import annotations

import hashlib
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from vla_edge.export.build.parts import making
from vla_edge.export.build.process.messages import Done, Job
from vla_edge.runtime.bundle.bundle import Bundle


@pytest.fixture(scope="session")
def kept(tmp_path_factory: pytest.TempPathFactory) -> dict[str, tuple[Path, Done]]:
    return {"": (tmp_path_factory.mktemp("kept"), None)}  # type: ignore[dict-item]


@pytest.fixture
def each_part_once(monkeypatch: pytest.MonkeyPatch, kept: dict[str, tuple[Path, Done]]) -> None:
    """The generated bundles of these tests share their weights, so that a graph's own bytes tell it."""
    inner: Callable[..., Done] = making.build_apart
    folder = kept[""][0]

    def build(job: Job, *arguments: Any) -> Done:
        key = hashlib.sha256(job.model.read_bytes() + repr(job.options).encode()).hexdigest()
        if key not in kept:
            kept[key] = folder / key, inner(job, *arguments)
            shutil.copyfile(job.plan, folder / key)
        file, done = kept[key]
        shutil.copyfile(file, job.plan)
        return done

    monkeypatch.setattr(making, "build_apart", build)


@pytest.fixture
def hybrid(bundle_of: Callable[..., Path], tmp_path: Path, each_part_once: None) -> Callable[[str], Bundle]:
    """Gives a bundle of that name beside the others, all of one content."""

    def make(name: str = "bundle") -> Bundle:
        folder = tmp_path / "engines" / name
        shutil.copytree(bundle_of("hybrid-a", "transformers", "fp16"), folder)
        return Bundle.open(folder)

    return make
