"""Plans in parts, really built by TensorRT-RTX: chosen, reused, switched, set aside, gone on with after a failure."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path
from typing import Any

import msgspec
import onnxruntime
import pytest
from known_layouts import LAYOUTS
from packed_files import edited_bundle
from plan_builds import ADA, left_in, verified

from vla_edge.export.build import build as build_module
from vla_edge.export.build.build import RejectedPlanError, build_plan, verify_existing
from vla_edge.export.build.options import BuildOptions
from vla_edge.export.build.parts import making
from vla_edge.export.deploy.record import DeployRecord
from vla_edge.export.deploy.record import write_record as write_deployed
from vla_edge.export.deploy.root import tidy
from vla_edge.runtime.bundle.bundle import Bundle
from vla_edge.runtime.engines.tensorrt.plan import PlanFile, find_plan, open_part, read_record
from vla_edge.runtime.engines.tensorrt.plan_names import record_path
from vla_edge.runtime.engines.tensorrt.record import WHOLE, Machine, PlanRecord, encode_record
from vla_edge.runtime.errors import EngineError, InputError, ResourceError
from vla_edge.runtime.files.cache_file import CacheFile
from vla_edge.runtime.files.staging import remove_leftovers

MIB = 1 << 20
FOUR = replace(ADA, parts=4)


@pytest.fixture
def hybrid(bundle_of: Callable[..., Path], tmp_path: Path, each_part_once: None) -> Callable[[str], Bundle]:
    """Gives a bundle of that name beside the others, all of one content."""

    def make(name: str = "bundle") -> Bundle:
        folder = tmp_path / "engines" / name
        shutil.copytree(bundle_of("hybrid-a", "transformers", "fp16"), folder)
        return Bundle.open(folder)

    return make


def inodes(bundle: Bundle) -> set[int]:
    return {path.stat().st_ino for path in (bundle.folder / "plans").glob("*.part")}


def check_files(bundle: Bundle, record: PlanRecord) -> None:
    """The folder holds what the record names, whole, and nothing else."""
    files = [part.file for part in record.parts]
    assert left_in(bundle) == sorted([*files, f"{record.plan}.json"])
    version, sm = record.machine.version, record.machine.sm
    plan = find_plan(bundle, Machine(backend="tensorrt-rtx", version=version, sm=sm, gpu=None, driver=None))
    for part in plan.record.parts:
        with open_part(plan, part):
            pass


def no_builds(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The names of parts that are built from now on."""
    built, inner = list[str](), making.make

    def noted(part: Any, *arguments: Any) -> Any:
        built.append(part.name)
        return inner(part, *arguments)

    monkeypatch.setattr("vla_edge.export.build.parts.making.make", noted)
    return built


@pytest.mark.parametrize(("layout", "clip"), LAYOUTS)
def test_every_layout_builds_in_parts(
    bundle_of: Callable[..., Path], tmp_path: Path, layout: str, clip: str
) -> None:
    shutil.copytree(bundle_of(layout, clip, "fp16"), tmp_path / "bundle")
    bundle = Bundle.open(tmp_path / "bundle")
    record = build_plan(bundle, replace(ADA, parts=3)).record
    assert len(record.parts) == 3
    check_files(bundle, record)
    made = {spec.name for spec in bundle.manifest.inputs}
    for part in record.parts:
        assert {spec.name for spec in part.inputs} <= made
        made |= {spec.name for spec in part.outputs}
        assert part.key is not None
        assert part.weights_sha256 is not None
        assert part.build.predicted_mib is not None
        assert part.build.peak_host_mib > 0
        assert part.contents.source == "plan"
    assert {spec.name for spec in bundle.manifest.outputs} <= made
    assert sum(part.weights_bytes or 0 for part in record.parts) > 0.9 * sum(
        entry.size_bytes for entry in bundle.manifest.files if entry.path == "model.onnx.data"
    )


def test_one_number_is_not_another(hybrid: Callable[..., Bundle]) -> None:
    bundle = hybrid()
    assert [part.name for part in build_plan(bundle, ADA).record.parts] == [WHOLE]
    four = build_plan(bundle, FOUR)
    assert four.fresh
    assert len(four.record.parts) == 4
    assert not four.path.exists()
    check_files(bundle, four.record)
    assert not build_plan(bundle, FOUR).fresh
    assert not build_plan(bundle, ADA).fresh  # "auto" takes what is there
    one = build_plan(bundle, replace(ADA, parts=1))
    assert one.fresh
    assert one.path.is_file()
    check_files(bundle, one.record)


def test_a_limit_chooses_parts(hybrid: Callable[..., Bundle], caplog: pytest.LogCaptureFixture) -> None:
    bundle = hybrid()
    assert len(build_plan(bundle, replace(ADA, memory_limit=200 * MIB)).record.parts) == 1
    record = build_plan(bundle, replace(ADA, memory_limit=131 * MIB, force=True)).record
    assert len(record.parts) >= 3
    small = build_plan(bundle, replace(ADA, memory_limit=1 * MIB, force=True)).record
    assert len(small.parts) > 1
    assert "may run out of memory" in caplog.text
    assert "a limit of 1 MiB" in caplog.text
    assert "more parts" not in caplog.text  # no number would fit
    caplog.clear()
    build_plan(bundle, replace(ADA, memory_limit=1 * MIB, force=True, ignore_memory=True))
    assert "limit of 1 MiB" not in caplog.text


@pytest.mark.parametrize("parts", [99, 65])
def test_too_many_parts_are_refused_with_what_can_be_had(hybrid: Callable[..., Bundle], parts: int) -> None:
    bundle = hybrid()
    with pytest.raises(InputError, match=f"cannot be cut into {parts} parts") as caught:
        build_plan(bundle, replace(ADA, parts=parts))
    assert "from 1 to" in caught.value.hint
    assert left_in(bundle) == []


def test_no_number_of_parts_is_below_one() -> None:
    with pytest.raises(InputError, match="0 parts cannot be built"):
        BuildOptions(parts=0)
    with pytest.raises(InputError, match="memory limit of 0 bytes"):
        BuildOptions(memory_limit=0)


def test_a_second_bundle_takes_parts_of_the_first(
    hybrid: Callable[..., Bundle], with_gpu: Callable[[bool], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    with_gpu(True)
    first, second = hybrid("first"), hybrid("second")
    build_plan(first, FOUR)
    built = no_builds(monkeypatch)
    record = build_plan(second, ADA).record  # "auto": as the first is cut
    assert built == []
    assert len(record.parts) == 4
    assert {part.build.found_in for part in record.parts} == {first.manifest.name}
    assert inodes(first) == inodes(second)
    assert record.verification.passed  # as a whole, by its own golden samples
    check_files(second, record)
    third = hybrid("third")
    assert len(build_plan(third, replace(FOUR, reuse=False)).record.parts) == 4
    assert len(built) == 4
    assert not inodes(third) & inodes(first)


def test_a_new_head_on_the_same_backbones_builds_one_part(
    hybrid: Callable[..., Bundle], with_gpu: Callable[[bool], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    with_gpu(True)
    first = hybrid("first")
    parts = build_plan(first, FOUR).record.parts
    second = edited_bundle(
        first.folder, first.folder.with_name("second"), [(-64, os.urandom(64))], "second-policy"
    )
    shutil.rmtree(second / "plans")
    built = no_builds(monkeypatch)
    record = build_plan(Bundle.open(second), ADA).record
    assert built == [parts[-1].name]
    assert [part.build.found_in for part in record.parts] == [first.manifest.name] * 3 + [None]
    assert record.parts[-1].weights_sha256 != parts[-1].weights_sha256


def test_a_split_without_all_natural_borders_is_taken_where_its_parts_are_there(
    hybrid: Callable[..., Bundle], with_gpu: Callable[[bool], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    with_gpu(True)
    first, second = hybrid("first"), hybrid("second")
    build_plan(first, replace(ADA, parts=2))
    built = no_builds(monkeypatch)
    record = build_plan(second, ADA).record
    assert built == []
    assert len(record.parts) == 2


def test_a_part_that_is_there_needs_no_memory(
    hybrid: Callable[..., Bundle], with_gpu: Callable[[bool], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    with_gpu(True)
    first = hybrid("first")
    plan = build_plan(first, replace(ADA, parts=3))
    parts = tuple(
        msgspec.structs.replace(part, build=msgspec.structs.replace(part.build, peak_mib=peak))
        for part, peak in zip(plan.record.parts, (131, 92, 90), strict=True)
    )
    record_path(plan.path).write_bytes(encode_record(msgspec.structs.replace(plan.record, parts=parts)))
    folder = edited_bundle(first.folder, first.folder.with_name("other"), [(-64, os.urandom(64))], "other")
    shutil.rmtree(folder / "plans")
    built = no_builds(monkeypatch)
    build_plan(Bundle.open(folder), replace(ADA, memory_limit=100 * MIB))
    assert built == [parts[-1].name]


def test_of_another_number_of_parts_the_equal_ones_are_taken(
    hybrid: Callable[..., Bundle], with_gpu: Callable[[bool], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    with_gpu(True)
    bundle = hybrid()
    four = build_plan(bundle, FOUR).record
    built = no_builds(monkeypatch)
    five = build_plan(bundle, replace(ADA, parts=5)).record
    known = {part.key for part in four.parts}
    assert [part.name for part in five.parts if part.key not in known] == built
    assert 0 < len(built) < 5
    check_files(bundle, five)


def test_a_bad_head_bars_only_itself(
    hybrid: Callable[..., Bundle], with_gpu: Callable[[bool], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    with_gpu(True)
    first = hybrid("first")
    head = build_plan(first, FOUR).record.parts[-1]

    def with_new_head(name: str) -> Bundle:
        path = first.folder.with_name(name)
        folder = edited_bundle(first.folder, path, [(-64, os.urandom(64))], name)
        shutil.rmtree(folder / "plans")
        return Bundle.open(folder)

    built = no_builds(monkeypatch)
    bad = with_new_head("bad")
    with_gpu(False)
    with pytest.raises(RejectedPlanError) as caught:
        build_plan(bad, ADA)
    command = f"vla-build {bad.folder} --backend tensorrt-rtx --no-reuse"
    assert command in caught.value.hint
    assert command in str(caught.value)
    assert built == [head.name]
    with_gpu(True)
    build_plan(with_new_head("good"), ADA)
    assert built == [head.name] * 2
    build_plan(bad, ADA)  # and what was rejected is not taken again, here or elsewhere
    assert built == [head.name] * 3


@pytest.mark.parametrize("how", ["goes", "changes", "is no file"])
def test_a_part_that_goes_or_changes_meanwhile_is_built(
    hybrid: Callable[..., Bundle],
    with_gpu: Callable[[bool], None],
    monkeypatch: pytest.MonkeyPatch,
    how: str,
) -> None:
    """Another build, another user: at the moment at which it is linked all may be different."""
    with_gpu(True)
    first, second = hybrid("first"), hybrid("second")
    build_plan(first, FOUR)
    link = os.link

    def late(source: Path, target: Path) -> None:
        if source.suffix == ".part":
            source.unlink(missing_ok=True)
            if how == "changes":
                source.write_bytes(b"another one")
            elif how == "is no file":
                os.mkfifo(source)
        link(source, target)

    monkeypatch.setattr(os, "link", late)
    built = no_builds(monkeypatch)
    record = build_plan(second, FOUR).record
    assert len(built) == 4
    check_files(second, record)


def test_a_folder_that_is_not_to_be_entered_and_a_part_named_twice_are_passed_over(
    hybrid: Callable[..., Bundle], with_gpu: Callable[[bool], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    with_gpu(True)
    locked, twice, own = hybrid("locked"), hybrid("twice"), hybrid("own")
    path = build_plan(locked, FOUR).path
    record = read_record(path, locked.folder)
    other = twice.folder / "plans" / path.name
    other.parent.mkdir()
    parts = (record.parts[0], *record.parts)
    record_path(other).write_bytes(encode_record(msgspec.structs.replace(record, parts=parts)))
    real = os.stat

    def as_another_user(where: Any, *arguments: Any, **options: Any) -> os.stat_result:
        """These tests may run as root, who may enter anything."""
        if not isinstance(where, int) and str(path.parent) + "/" in os.fspath(where):
            raise PermissionError(13, "Permission denied", str(where))
        return real(where, *arguments, **options)

    monkeypatch.setattr(os, "stat", as_another_user)
    monkeypatch.setattr(os, "lstat", as_another_user)
    built = no_builds(monkeypatch)
    build_plan(own, ADA)
    assert built == [WHOLE]


def test_a_copy_in_place_of_a_link_needs_room(
    hybrid: Callable[..., Bundle], with_gpu: Callable[[bool], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    with_gpu(True)
    first, second = hybrid("first"), hybrid("second")
    build_plan(first, FOUR)

    def no_links(*arguments: Any) -> None:
        raise OSError(1, "Operation not permitted")

    monkeypatch.setattr(os, "link", no_links)
    monkeypatch.setattr(
        "vla_edge.export.build.memory.shutil.disk_usage", lambda path: type("Usage", (), {"free": 10})
    )
    with pytest.raises(ResourceError, match="Not enough disk"):
        build_plan(second, ADA)
    assert left_in(second) == []


def test_a_taken_part_that_cannot_be_loaded_says_how_to_do_without(
    hybrid: Callable[..., Bundle], with_gpu: Callable[[bool], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    with_gpu(True)
    first, second = hybrid("first"), hybrid("second")
    build_plan(first, FOUR)

    def refuses(*arguments: Any) -> Any:
        raise EngineError("The part text cannot be loaded.", "Build it anew.")

    monkeypatch.setattr("vla_edge.export.build.build.verify_plan", refuses)
    with pytest.raises(EngineError) as caught:
        build_plan(second, ADA)
    assert caught.value.hint.endswith(f"vla-build {second.folder} --backend tensorrt-rtx --no-reuse")
    with pytest.raises(EngineError) as caught:
        build_plan(second, replace(FOUR, reuse=False))
    assert caught.value.hint == "Build it anew."


@pytest.mark.parametrize("what", ["level", "aux_streams", "workspace_mib", "tf32"])
def test_parts_of_other_options_are_others(
    hybrid: Callable[..., Bundle],
    with_gpu: Callable[[bool], None],
    monkeypatch: pytest.MonkeyPatch,
    what: str,
) -> None:
    with_gpu(True)
    build_plan(hybrid("first"), replace(ADA, parts=2))
    built = no_builds(monkeypatch)
    other: Any = {"level": 2, "aux_streams": 1, "workspace_mib": 64, "tf32": True}[what]
    build_plan(hybrid("second"), replace(ADA, parts=2, **{what: other}))
    assert len(built) == 2


@pytest.mark.parametrize("how", ["unverified", "damaged", "rejected", "another gpu"])
def test_nothing_is_taken_from_a_plan_that_is_not_good(
    hybrid: Callable[..., Bundle],
    with_gpu: Callable[[bool], None],
    monkeypatch: pytest.MonkeyPatch,
    how: str,
) -> None:
    first, second = hybrid("first"), hybrid("second")
    if how == "rejected":
        with_gpu(False)
        with pytest.raises(RejectedPlanError):
            build_plan(first, FOUR)
        with_gpu(True)
    else:
        if how != "unverified":
            with_gpu(True)
        path = build_plan(first, FOUR).path
        with_gpu(True)
        record = read_record(path, first.folder)
        if how == "damaged":
            for part in record.parts:
                with path.with_name(part.file).open("r+b") as file:
                    file.seek(-1, os.SEEK_END)
                    file.write(b"!")
        if how == "another gpu":
            text = record_path(path).read_text()
            record_path(path).write_text(text.replace('"gpu": null', '"gpu": "Another GPU"'))
    built = no_builds(monkeypatch)
    record = build_plan(second, FOUR).record
    assert len(built) == 4
    assert all(part.build.found_in is None for part in record.parts)


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


def test_parts_compute_what_the_whole_does(hybrid: Callable[..., Bundle], tmp_path: Path) -> None:
    """The very files that were built from, run by ONNX Runtime one after the other."""
    bundle = hybrid()
    seen = tmp_path / "seen"
    seen.mkdir()
    import numpy as np

    from vla_edge.export.build.verify import sample_inputs
    from vla_edge.export.parts.graph import read_graph
    from vla_edge.export.parts.split import split, write_part
    from vla_edge.runtime.bundle.bundle import load_golden

    record = build_plan(bundle, FOUR).record
    values = dict(sample_inputs(bundle.manifest, load_golden(bundle), 0))
    wanted = onnxruntime.InferenceSession(bundle.model_path).run(None, dict(values))
    for part in split(read_graph(bundle), [part.name for part in record.parts[:-1]]):
        session = onnxruntime.InferenceSession(write_part(part, seen, bundle.folder / "model.onnx.data"))
        made = session.run(None, {spec.name: values[spec.name] for spec in part.inputs})
        values |= dict(zip([spec.name for spec in part.outputs], made, strict=True))
    outputs = [spec.name for spec in bundle.manifest.outputs]
    assert all(np.array_equal(values[name], right) for name, right in zip(outputs, wanted, strict=True))


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
