"""Parts of plans that are there already, taken in place of being built."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import msgspec
import pytest
from packed_files import edited_bundle
from part_builds import FOUR, MIB, check_files, inodes, no_builds
from plan_builds import ADA, left_in

from vla_edge.export.build.build import RejectedPlanError, build_plan
from vla_edge.runtime.bundle.bundle import Bundle
from vla_edge.runtime.engines.tensorrt.plan import read_record
from vla_edge.runtime.engines.tensorrt.plan_names import record_path
from vla_edge.runtime.engines.tensorrt.record import WHOLE, encode_record
from vla_edge.runtime.errors import EngineError, ResourceError


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
        for part, peak in zip(plan.record.parts, (200, 131, 131), strict=True)
    )
    record_path(plan.path).write_bytes(encode_record(msgspec.structs.replace(plan.record, parts=parts)))
    folder = edited_bundle(first.folder, first.folder.with_name("other"), [(-64, os.urandom(64))], "other")
    shutil.rmtree(folder / "plans")
    built = no_builds(monkeypatch)
    build_plan(Bundle.open(folder), replace(ADA, memory_limit=140 * MIB))
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
