"""The files of a plan in parts: each is checked in its turn, the next one meanwhile, and none stays open."""

from __future__ import annotations

import mmap
import threading
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import pytest
from part_plans import make_parts_plan, part_bytes, two_streams
from plan_bundles import make_plan, small_bundle

from vla_edge.runtime.bundle.bundle import Bundle
from vla_edge.runtime.engines.tensorrt.parts import loading
from vla_edge.runtime.engines.tensorrt.parts.loading import chain_of, checked_images
from vla_edge.runtime.engines.tensorrt.plan import PlanFile, open_part, read_record
from vla_edge.runtime.errors import EngineError

NAMES = ["vision", "tower", "text", "head"]


@pytest.fixture
def plan(tmp_path: Path) -> PlanFile:
    bundle = small_bundle(tmp_path / "bundle")
    return plan_file(bundle, make_parts_plan(bundle, two_streams(bundle.manifest)))


def plan_file(bundle: Bundle, path: Path) -> PlanFile:
    return PlanFile(path, read_record(path, bundle.folder), bundle.folder)


@pytest.fixture
def opened(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """What is open, by part; `open_part` itself does the work."""
    there: list[str] = []

    @contextmanager
    def watched(plan: PlanFile, part: Any) -> Iterator[mmap.mmap]:
        with open_part(plan, part) as image:
            there.append(part.name)
            try:
                yield image
            finally:
                there.remove(part.name)

    monkeypatch.setattr(loading, "open_part", watched)
    return there


def test_every_part_comes_in_its_turn_with_its_bytes(plan: PlanFile, opened: list[str]) -> None:
    assert [bytes(image) for image in checked_images(plan)] == [part_bytes(name) for name in NAMES]
    assert not opened


def test_the_next_file_is_checked_while_one_is_used(plan: PlanFile, monkeypatch: pytest.MonkeyPatch) -> None:
    checked = threading.Event()

    @contextmanager
    def watched(plan: PlanFile, part: Any) -> Iterator[mmap.mmap]:
        with open_part(plan, part) as image:
            if part.name == NAMES[1]:
                checked.set()
            yield image

    monkeypatch.setattr(loading, "open_part", watched)
    with closing(checked_images(plan)) as images:
        next(images)
        assert checked.wait(5)


def test_never_more_than_two_files_are_open(plan: PlanFile, opened: list[str]) -> None:
    for at, _ in enumerate(checked_images(plan)):
        assert set(opened) <= set(NAMES[at : at + 2])


@pytest.mark.parametrize("used", range(4))
def test_whoever_stops_early_leaves_no_file_open(plan: PlanFile, opened: list[str], used: int) -> None:
    with closing(checked_images(plan)) as images:
        for _ in range(used):
            next(images)
    assert not opened


@pytest.mark.parametrize("at", range(4))
def test_a_damaged_part_is_refused_when_its_turn_comes(plan: PlanFile, opened: list[str], at: int) -> None:
    path = plan.file(plan.record.parts[at])
    data = bytearray(path.read_bytes())
    data[-1] ^= 1
    path.write_bytes(data)
    seen: list[mmap.mmap] = []
    with pytest.raises(EngineError, match=f"{path.name} was changed since it was built"):
        seen.extend(checked_images(plan))
    assert len(seen) == at
    assert not opened


def test_a_plan_that_is_not_cut_has_the_manifests_tensors(tmp_path: Path) -> None:
    bundle = small_bundle(tmp_path / "bundle")
    plan = plan_file(bundle, make_plan(bundle))
    chain = chain_of(plan, bundle.manifest)
    assert [len(part.inputs) for part in chain.parts] == [3]
    assert chain.between == ()
    assert len(list(checked_images(plan))) == 1


def test_the_tensors_between_parts_are_the_records(plan: PlanFile, tmp_path: Path) -> None:
    chain = chain_of(plan, Bundle.open(plan.folder, "size").manifest)
    assert [spec.name for spec in chain.between] == ["seen", "towered", "read"]
    assert [part.stream for part in chain.parts] == [0, 1, 0, 0]
