"""What killed commands left is found with its size, and removed where that is asked for; nothing else is."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from plan_bundles import make_plan, write_bundle

from vla_edge.export.doctor.checks.leftover import find_leftovers, leftover_findings, places
from vla_edge.runtime.files.staging import OLD_SUFFIX, new_folder, staging_path


def killed(target: Path, size: int = 1 << 20, suffix: str = ".partial") -> Path:
    """A staging folder whose process is dead: nobody holds its lock."""
    folder, lock = new_folder(target, suffix=suffix)
    (folder / "half.plan").write_bytes(os.urandom(size))
    os.close(lock)
    return folder


@contextmanager
def living(target: Path) -> Iterator[Path]:
    folder, lock = new_folder(target)
    yield folder
    os.close(lock)


def test_a_killed_build_is_found_with_its_size(tmp_path: Path) -> None:
    left = killed(tmp_path / "a.plan")
    (found,) = find_leftovers([tmp_path], clean=False)
    assert found.path == str(left)
    assert found.size_bytes == pytest.approx(1 << 20, rel=0.1)
    (finding,) = leftover_findings([found])
    assert (finding.verdict, finding.found) == ("warning", f"of killed commands: {left}, 1.0 MiB")
    assert finding.todo.startswith("vla-doctor --clean removes them.")
    assert left.exists()


def test_clean_removes_the_dead_s_and_nothing_else(tmp_path: Path) -> None:
    left, file = killed(tmp_path / "a.plan"), staging_path(tmp_path / "report.json")
    file.write_text("half")
    (tmp_path / ".a.plan.partial").mkdir()  # of somebody else
    (tmp_path / "tensorrt.plan").write_text("whole")
    with living(tmp_path / "b.plan") as theirs:
        found = find_leftovers([tmp_path], clean=True)
        assert sorted(each.path for each in found) == sorted(map(str, (left, file)))
        assert all(each.removed for each in found)
        assert sorted(path.name for path in tmp_path.iterdir()) == sorted(
            [".a.plan.partial", "tensorrt.plan", theirs.name]
        )
    (finding,) = leftover_findings(found)
    assert (finding.verdict, finding.todo) == ("ok", "")
    assert finding.found.startswith("removed: ")
    assert finding.found.endswith(" and 1 more, 1.0 MiB")


def test_an_earlier_bundle_is_never_removed(tmp_path: Path) -> None:
    old = killed(tmp_path / "pure-fp16", suffix=OLD_SUFFIX)
    found = find_leftovers([tmp_path], clean=True)
    assert old.exists()
    none, finding = leftover_findings(found)
    assert none.verdict == "ok"
    assert finding.verdict == "warning"
    assert finding.todo == f"mv {old} {tmp_path / 'pure-fp16'}"
    (tmp_path / "pure-fp16").mkdir()
    *_, finding = leftover_findings(found)
    assert finding.todo == f"Delete it if {tmp_path / 'pure-fp16'} is good."


def test_what_another_user_left_is_not_ours(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    left = killed(tmp_path / "a.plan")
    monkeypatch.setattr("vla_edge.export.doctor.checks.leftover.os.geteuid", lambda: os.getuid() + 1)
    assert find_leftovers([tmp_path], clean=True) == []
    assert left.exists()


def test_a_link_out_of_a_leftover_is_not_followed(tmp_path: Path) -> None:
    precious = tmp_path / "precious"
    precious.mkdir()
    (precious / "weights").write_bytes(bytes(1 << 20))
    (tmp_path / "engines").mkdir()
    left = killed(tmp_path / "engines" / "a", size=1)
    (left / "link").symlink_to(precious)
    (found,) = find_leftovers([tmp_path / "engines"], clean=True)
    assert found.size_bytes < 1 << 20
    assert not left.exists()
    assert (precious / "weights").exists()


def test_places_are_the_bundle_s_and_the_usual(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for name in ("engines/pure-fp16/plans", "engines/other-fp16", "elsewhere/mine/plans"):
        (tmp_path / name).mkdir(parents=True)
    found = places(tmp_path / "elsewhere/mine")
    names = {str(path.relative_to(tmp_path)) for path in found if path.is_relative_to(tmp_path)}
    assert {"elsewhere/mine", "elsewhere/mine/plans", "elsewhere", ".", "engines"} <= names
    assert "engines/pure-fp16/plans" in names
    assert len(found) == len(set(found))


def test_nothing_left_is_said() -> None:
    (finding,) = leftover_findings([])
    assert (finding.verdict, finding.found) == ("ok", "none of killed commands")


def test_parts_that_no_side_file_names_are_found(tmp_path: Path) -> None:
    bundle = write_bundle(tmp_path / "bundle")
    plan = make_plan(bundle)
    left = plan.with_name(f"{plan.stem}.text.0123456789ab.part")
    left.write_bytes(bytes(1 << 20))
    (found,) = find_leftovers([plan.parent], clean=False)
    assert (found.path, found.removed) == (str(left), False)
    (found,) = find_leftovers([plan.parent], clean=True)
    assert found.removed
    assert sorted(path.name for path in plan.parent.iterdir()) == [plan.name, plan.name + ".json"]


def test_where_nothing_was_found_the_folders_are_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("tempfile.gettempdir", lambda: str(tmp_path / "tmp"))
    (tmp_path / "tmp").mkdir()
    (tmp_path / "engines" / "pure" / "plans").mkdir(parents=True)
    (finding,) = leftover_findings([], places(None))
    assert finding.found == f"none of killed commands in {tmp_path}, {tmp_path}/engines, {tmp_path}/tmp"
    assert finding.todo == "Others: run it in the folder where commands were run, or give it the bundle."
