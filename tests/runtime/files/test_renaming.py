"""A rename that must not replace anything replaces nothing, whatever the kernel knows."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from vla_edge.runtime.files import renaming
from vla_edge.runtime.files.renaming import rename_new, swap


@pytest.fixture(params=["the kernel's", "hard links", "neither"], autouse=True)
def _means(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    def unsupported(*given: object, **options: object) -> None:
        raise PermissionError(1, "Operation not permitted")

    if request.param != "the kernel's":
        monkeypatch.setattr(renaming, "_renameat2", lambda source, target, flags: False)
    if request.param == "neither":
        monkeypatch.setattr(os, "link", unsupported)


def make(path: Path, kind: str) -> int:
    if kind == "file":
        path.write_text(path.name)
    elif kind == "link":
        path.symlink_to("nowhere")
    else:
        path.mkdir()
        (path / "inside").touch()
    return path.lstat().st_ino


@pytest.mark.parametrize("source", ["file", "folder", "link"])
def test_onto_a_free_name_it_renames(tmp_path: Path, source: str) -> None:
    inode = make(tmp_path / "new", source)
    rename_new(tmp_path / "new", tmp_path / "name")
    assert (tmp_path / "name").lstat().st_ino == inode
    assert os.listdir(tmp_path) == ["name"]


@pytest.mark.parametrize("source", ["file", "folder"])
@pytest.mark.parametrize("taken", ["file", "folder", "link"])
def test_onto_a_taken_name_nothing_changes(tmp_path: Path, source: str, taken: str) -> None:
    inodes = {make(tmp_path / "new", source), make(tmp_path / "name", taken)}
    with pytest.raises(FileExistsError, match="name"):
        rename_new(tmp_path / "new", tmp_path / "name")
    assert {path.lstat().st_ino for path in tmp_path.iterdir()} == inodes


def test_what_is_not_there_is_not_renamed(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        rename_new(tmp_path / "new", tmp_path / "name")


def test_two_names_are_exchanged_or_nothing_changes(tmp_path: Path) -> None:
    one, other = make(tmp_path / "one", "folder"), make(tmp_path / "other", "link")
    done = swap(tmp_path / "one", tmp_path / "other")
    assert ((tmp_path / "one").lstat().st_ino, (tmp_path / "other").lstat().st_ino) == (
        (other, one) if done else (one, other)
    )
