"""What is finished of a build that failed or was killed: gone on from, and by whom."""

from __future__ import annotations

import os
import shutil
import signal
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from part_builds import FOUR, check_files, no_builds
from plan_builds import left_in

from vla_edge.export.build.build import build_plan
from vla_edge.export.build.parts import making
from vla_edge.export.deploy.record import DeployRecord
from vla_edge.export.deploy.record import write_record as write_deployed
from vla_edge.export.deploy.root import tidy
from vla_edge.runtime.bundle.bundle import Bundle
from vla_edge.runtime.errors import ResourceError
from vla_edge.runtime.files.cache_file import CacheFile
from vla_edge.runtime.files.staging import remove_leftovers


@pytest.mark.parametrize("how", ["error", "interrupt"])
def test_finished_parts_outlive_a_failure(
    hybrid: Callable[..., Bundle], monkeypatch: pytest.MonkeyPatch, how: str
) -> None:
    bundle, inner = hybrid(), making.make
    calls: list[str] = []

    def fails_at_the_third(part: Any, *arguments: Any) -> Any:
        calls.append(part.name)
        if len(calls) == 3:
            raise ResourceError("memory very likely ran out.") if how == "error" else KeyboardInterrupt
        return inner(part, *arguments)

    monkeypatch.setattr("vla_edge.export.build.parts.making.make", fails_at_the_third)
    with pytest.raises((ResourceError, KeyboardInterrupt)):
        build_plan(bundle, FOUR)
    (left,) = left_in(bundle)
    assert left.endswith(".resumable")
    names = [path.name for path in (bundle.folder / "plans" / left).iterdir()]
    assert len(names) == 4  # each with its note, and no graph
    assert all(name.endswith((".part", ".part.json")) for name in names)
    again = build_plan(bundle, FOUR)
    assert len(calls) == 3 + 2  # two were there
    check_files(bundle, again.record)


def fails_at_the_third(bundle: Bundle) -> Path:
    """The folder that is left of a build of which two parts were finished."""
    inner = making.make

    def make(part: Any, at: int, *arguments: Any) -> Any:
        if at == 2:
            raise ResourceError("memory very likely ran out.")
        return inner(part, at, *arguments)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(making, "make", make)
        with pytest.raises(ResourceError):
            build_plan(bundle, FOUR)
    (left,) = (bundle.folder / "plans").glob(".*")
    return left


def test_finished_parts_outlive_whatever_else_writes_there(
    hybrid: Callable[..., Bundle], monkeypatch: pytest.MonkeyPatch
) -> None:
    bundle = hybrid()
    fails_at_the_third(bundle)
    build_plan(bundle, replace(FOUR, sm=120))
    plans = bundle.folder / "plans"
    deployed = DeployRecord(
        manifest_sha256=bundle.manifest_sha256, backend="none", deployed_utc="", verification=None
    )
    write_deployed(bundle, deployed)
    CacheFile(plans / "x.runtime-cache", "runtime cache", "a library").write(b"kernels")
    remove_leftovers(plans)
    built = no_builds(monkeypatch)
    build_plan(bundle, FOUR)
    assert len(built) == 2
    assert list(plans.glob(".*")) == []


@pytest.mark.parametrize("finished", [True, False])
def test_a_deploys_clean_up_leaves_finished_parts(
    hybrid: Callable[..., Bundle], tmp_path: Path, finished: bool
) -> None:
    bundle = hybrid()
    left = fails_at_the_third(bundle)
    if not finished:
        for note in left.glob("*.json"):
            note.unlink()
    shutil.copytree(bundle.folder, tmp_path / "root" / f"a-{bundle.manifest_sha256[:12]}")
    tidy(tmp_path / "root")
    assert len(list((tmp_path / "root").rglob(".*"))) == finished


@pytest.mark.parametrize("how", ["moved", "copied", "another user's"])
def test_what_a_killed_build_left_is_gone_on_with_where_it_was_built_alone(
    hybrid: Callable[..., Bundle], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, how: str
) -> None:
    """Hidden in the folder of a stranger's bundle there may be engines with notes that fit its graph."""
    bundle = hybrid()
    fails_at_the_third(bundle)
    moved = tmp_path / "elsewhere"
    if how == "copied":
        shutil.copytree(bundle.folder, moved)  # with every time of `cp -a`
        shutil.rmtree(bundle.folder)
    else:
        bundle.folder.rename(moved)
    if how == "another user's":
        monkeypatch.setattr(os, "geteuid", lambda: 12345)
    built = no_builds(monkeypatch)
    record = build_plan(Bundle.open(moved), FOUR).record
    assert len(built) == (2 if how == "moved" else 4)
    check_files(Bundle.open(moved), record)


def test_the_first_part_leaves_nothing_when_it_fails(
    hybrid: Callable[..., Bundle], monkeypatch: pytest.MonkeyPatch
) -> None:
    def fails(*arguments: Any) -> Any:
        raise ResourceError("memory very likely ran out.")

    monkeypatch.setattr("vla_edge.export.build.parts.making.make", fails)
    bundle = hybrid()
    with pytest.raises(ResourceError):
        build_plan(bundle, FOUR)
    assert left_in(bundle) == []


def test_a_finished_part_that_was_changed_is_built_again(
    hybrid: Callable[..., Bundle], monkeypatch: pytest.MonkeyPatch
) -> None:
    bundle, inner = hybrid(), making.make

    def then_fails(part: Any, at: int, *arguments: Any) -> Any:
        if at == 2:
            raise ResourceError("memory very likely ran out.")
        return inner(part, at, *arguments)

    monkeypatch.setattr("vla_edge.export.build.parts.making.make", then_fails)
    with pytest.raises(ResourceError):
        build_plan(bundle, FOUR)
    (staging,) = (bundle.folder / "plans").glob(".*")
    first, second = sorted(staging.glob("*.part"))
    first.write_bytes(first.read_bytes()[:-1])
    second.with_name(second.name + ".json").write_text("{")
    monkeypatch.undo()
    built = no_builds(monkeypatch)
    check_files(bundle, build_plan(bundle, FOUR).record)
    assert len(built) == 4


def test_ctrl_c_during_a_part_ends_its_process_and_keeps_those_before(
    bundle_of: Callable[..., Path], tmp_path: Path
) -> None:
    from vla_edge.export.build.progress import Silent
    from vla_edge.runtime.process.interrupts import Interrupted

    class InTheThird(Silent):
        def start(self, phase: str, parent: str | None, steps: int) -> None:
            if "part 3 of 4" in phase:
                os.kill(os.getpid(), signal.SIGINT)

    shutil.copytree(bundle_of("hybrid-a", "transformers", "fp16"), tmp_path / "bundle")
    bundle = Bundle.open(tmp_path / "bundle")
    with pytest.raises(Interrupted):
        build_plan(bundle, FOUR, InTheThird())
    (left,) = (bundle.folder / "plans").iterdir()
    assert len(list(left.glob("*.part"))) == 2
    assert build_plan(bundle, FOUR).fresh
