"""Files of plans in parts in their place: switched, set aside, checked where they are, tidied."""

from __future__ import annotations

import shutil
import subprocess
import sys
from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import replace
from typing import Any

import msgspec
import pytest
from part_builds import FOUR, check_files, inodes, no_builds
from plan_builds import ADA, left_in, verified

from vla_edge.export.build import build as build_module
from vla_edge.export.build.build import RejectedPlanError, build_plan, verify_existing
from vla_edge.runtime.bundle.bundle import Bundle
from vla_edge.runtime.engines.tensorrt.plan import PlanFile, open_part, read_record
from vla_edge.runtime.engines.tensorrt.plan_names import record_path
from vla_edge.runtime.engines.tensorrt.record import encode_record
from vla_edge.runtime.errors import EngineError, InputError


def test_a_set_that_misses_a_gate_is_set_aside_and_the_one_in_use_stays(
    hybrid: Callable[..., Bundle], with_gpu: Callable[[bool], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    with_gpu(True)
    bundle = hybrid()
    good = build_plan(bundle, FOUR).record
    with_gpu(False)
    with pytest.raises(RejectedPlanError) as caught:
        build_plan(bundle, replace(ADA, parts=5))
    assert f"{good.plan}.rejected.json" in caught.value.hint
    names = left_in(bundle)
    assert {part.file for part in good.parts} <= set(names)
    assert sum(name.endswith(".part.rejected") for name in names) == 5
    with_gpu(True)
    assert not build_plan(bundle, FOUR).fresh
    # What was rejected is not taken again, but what the good plan has of it.
    built = no_builds(monkeypatch)
    again = build_plan(bundle, replace(ADA, parts=5)).record.parts
    assert built == [part.name for part in again if part.key not in {part.key for part in good.parts}]
    assert 0 < len(built) < 5


def test_a_set_in_its_place_that_misses_a_gate_is_refused_and_no_part_of_it_taken(
    hybrid: Callable[..., Bundle], with_gpu: Callable[[bool], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    with_gpu(True)
    bundle = hybrid()
    record = build_plan(bundle, FOUR).record
    assert verify_existing(bundle, ADA).record.verification.passed
    with_gpu(False)
    with pytest.raises(RejectedPlanError):
        verify_existing(bundle, ADA)
    check_files(bundle, record)
    with_gpu(True)
    built = no_builds(monkeypatch)
    assert build_plan(bundle, FOUR).fresh
    assert len(built) == 4


@pytest.mark.parametrize("passed", [True, False])
@pytest.mark.parametrize("unreadable", [True, False], ids=["old files stay", "old files go"])
def test_a_check_says_nothing_of_a_plan_that_came_meanwhile(
    hybrid: Callable[..., Bundle],
    with_gpu: Callable[[bool], None],
    monkeypatch: pytest.MonkeyPatch,
    passed: bool,
    unreadable: bool,
) -> None:
    """Where no lock keeps builds apart, as on some network file systems."""
    with_gpu(True)
    bundle = hybrid()
    path = build_plan(bundle, FOUR).path
    if unreadable:
        (path.parent / "tensorrt-rtx-1.0-sm70.plan.json").write_text("damaged")

    def while_another_builds(plan: PlanFile, *arguments: Any) -> Any:
        with_gpu(True)
        build_plan(bundle, replace(FOUR, force=True))
        return verified(passed, plan)

    monkeypatch.setattr(build_module, "_alone_in", lambda folder: nullcontext())
    monkeypatch.setattr(build_module, "verify_plan", while_another_builds)
    with pytest.raises(EngineError, match=r"\.plan was replaced while it was checked"):
        verify_existing(bundle, ADA)
    record = read_record(path, bundle.folder)
    assert record.verification.passed
    for part in record.parts:
        with open_part(PlanFile(path, record, bundle.folder), part):
            pass


def test_a_record_whose_plan_is_gone_takes_no_other_plans_place(
    hybrid: Callable[..., Bundle], with_gpu: Callable[[bool], None]
) -> None:
    """Left by two kills: one during the samples of a plan of one file, one while that folder was removed."""
    with_gpu(True)
    bundle = hybrid()
    whole = build_plan(bundle, ADA)
    stale = record_path(whole.path).read_bytes()
    record = build_plan(bundle, FOUR).record
    left = whole.path.parent / f".{whole.path.name}.vla-{'0' * 16}.resumable"
    for plan in (None, b"of another build"):
        left.mkdir()
        (left / record_path(whole.path).name).write_bytes(stale)
        if plan is not None:
            whole.path.write_bytes(plan)
        assert not build_plan(bundle, FOUR).fresh
        check_files(bundle, record)


def test_a_plan_whose_parts_do_not_make_a_whole_is_built_again(
    hybrid: Callable[..., Bundle], with_gpu: Callable[[bool], None]
) -> None:
    """As every session refuses it."""
    with_gpu(True)
    bundle = hybrid()
    path = build_plan(bundle, FOUR).path
    record = read_record(path, bundle.folder)
    record_path(path).write_bytes(encode_record(msgspec.structs.replace(record, parts=record.parts[1:])))
    again = build_plan(bundle, ADA)
    assert again.fresh
    check_files(bundle, again.record)


def test_a_link_in_a_parts_place_is_replaced_and_a_folder_in_the_plans_refused_before_building(
    hybrid: Callable[..., Bundle], monkeypatch: pytest.MonkeyPatch
) -> None:
    bundle = hybrid()
    path = bundle.folder / "plans" / build_plan(bundle, FOUR).record.plan
    files = [part.file for part in read_record(path, bundle.folder).parts]
    shutil.rmtree(path.parent)
    path.parent.mkdir()
    (path.parent / files[2]).symlink_to("nowhere")
    check_files(bundle, build_plan(bundle, FOUR).record)
    shutil.rmtree(path.parent)
    built = no_builds(monkeypatch)
    for name in (path.name, f"{path.name}.json", f"{path.name}.rejected.json"):
        (path.parent / name).mkdir(parents=True)
        with pytest.raises(InputError, match=rf"{name} is a folder, where a file of the plan"):
            build_plan(bundle, FOUR)
        (path.parent / name).rmdir()
    assert built == []


def test_forced_builds_never_write_over_parts_in_use(
    hybrid: Callable[..., Bundle], with_gpu: Callable[[bool], None]
) -> None:
    with_gpu(True)
    bundle = hybrid()
    first = build_plan(bundle, FOUR).record
    before = inodes(bundle)
    again = build_plan(bundle, replace(FOUR, force=True)).record
    assert [part.key for part in again.parts] == [part.key for part in first.parts]
    assert not before & inodes(bundle)
    check_files(bundle, again)


@pytest.mark.parametrize("moment", range(1, 7))
def test_a_kill_while_the_files_are_put_in_place_leaves_one_whole_plan(
    hybrid: Callable[..., Bundle], moment: int
) -> None:
    """Two parts and the side file are renamed, then three files of the plan before are removed."""
    bundle = hybrid()
    before = build_plan(bundle, replace(ADA, parts=3)).record
    lines = f"""
import os, pathlib
done = []
def counted(name, inner):
    def call(self, *arguments):
        if str(self if name == "unlink" else arguments[0]).endswith((".part", ".plan.json")):
            if ".resumable/" not in str(self if name == "unlink" else arguments[0]):
                done.append(name)
        if len(done) == {moment}:
            os.kill(os.getpid(), 9)
        return inner(self, *arguments)
    return call
pathlib.Path.replace = counted("replace", pathlib.Path.replace)
unlink = counted("unlink", pathlib.Path.unlink)
pathlib.Path.unlink = lambda self, missing_ok=False: unlink(self, missing_ok)
import sys
sys.argv = ["vla-build", {str(bundle.folder)!r}, "--backend", "tensorrt-rtx", "--sm", "89", "--parts", "2"]
from vla_edge.export.build.cli import main
main()
"""
    done = subprocess.run([sys.executable, "-c", lines], capture_output=True, timeout=60)
    assert done.returncode == -9, done.stderr
    record = read_record(bundle.folder / "plans" / before.plan, bundle.folder)
    assert len(record.parts) == (3 if moment <= 3 else 2)
    for part in record.parts:
        with open_part(PlanFile(bundle.folder / "plans" / before.plan, record, bundle.folder), part):
            pass
    again = build_plan(bundle, replace(ADA, parts=2))
    assert again.fresh == (moment <= 3)
    check_files(bundle, again.record)


def test_what_no_side_file_names_is_removed_by_the_next_build(hybrid: Callable[..., Bundle]) -> None:
    bundle = hybrid()
    record = build_plan(bundle, FOUR).record
    plans = bundle.folder / "plans"
    stem = record.plan.removesuffix(".plan")
    for name in (
        f"{stem}.text.0123456789ab.part",
        f"{stem}.text.0123456789ab.part.runtime-cache",
        record.plan,
    ):
        (plans / name).write_bytes(b"of a killed build")
    (plans / "kernels.timing").write_bytes(b"stays")
    assert not build_plan(bundle, FOUR).fresh
    (plans / "kernels.timing").unlink()
    check_files(bundle, record)


def test_parts_stay_where_a_side_file_cannot_be_read(hybrid: Callable[..., Bundle]) -> None:
    bundle = hybrid()
    record = build_plan(bundle, FOUR).record
    plans = bundle.folder / "plans"
    (plans / "tensorrt-rtx-1.0-sm70.plan.json").write_text("damaged")
    (plans / "tensorrt-rtx-1.0-sm70.text.0123456789ab.part").write_bytes(b"of that one")
    assert not build_plan(bundle, FOUR).fresh
    assert len(left_in(bundle)) == len(record.parts) + 3
