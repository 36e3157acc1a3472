"""A sample checkpoint, from its recipe to its file."""

from __future__ import annotations

import hashlib
import zipfile
from dataclasses import replace
from pathlib import Path

import pytest

from vla_edge.export.kosmos2.sample.samples import sample_of
from vla_edge.export.sample.sample import sample_size_bytes, write_sample
from vla_edge.runtime.errors import InputError


def sha256(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def weights_of(path: Path) -> list[bytes]:
    with zipfile.ZipFile(path) as archive:
        return [archive.read(name) for name in archive.namelist() if "/data/" in name]


class TestSeeds:
    def test_the_same_seed_gives_the_same_values_and_another_seed_others(self, tmp_path: Path) -> None:
        for name, seed in (("a", 3), ("b", 3), ("c", 4)):
            (tmp_path / name).mkdir()
            write_sample(tmp_path / name / "x.pth", sample_of("pure", seed=seed))
        assert sha256(tmp_path / "a/x.pth") == sha256(tmp_path / "b/x.pth")
        assert sha256(tmp_path / "a/x.pth") != sha256(tmp_path / "c/x.pth")

    def test_another_seed_for_what_is_trained_leaves_the_backbones_as_they_are(self, tmp_path: Path) -> None:
        from vla_edge.export.checkpoint.checkpoint import read_stored

        first = sample_of("hybrid-b", "open_clip")
        write_sample(tmp_path / "first.pth", first)
        write_sample(tmp_path / "again.pth", replace(first, trained_seed=9))
        one, other = (read_stored(tmp_path / name).tensors for name in ("first.pth", "again.pth"))
        differ = {name for name in first.shapes if not one[name].equal(other[name])}
        assert differ == set(first.trained)


class TestWriting:
    def test_a_missing_folder_is_an_error(self, tmp_path: Path) -> None:
        with pytest.raises(InputError, match="absent does not exist"):
            write_sample(tmp_path / "absent" / "x.pth", sample_of("pure"))

    def test_progress_counts_every_byte(self, tmp_path: Path) -> None:
        seen: list[int] = []
        options = sample_of("hybrid-b", "open_clip")
        write_sample(tmp_path / "x.pth", options, seen.append)
        assert sum(seen) == sample_size_bytes(options)


def test_two_writers_of_one_sample_do_not_meet(tmp_path: Path) -> None:
    """The slower one's file is whole, though the faster one's appeared while it was written."""
    path, faster = tmp_path / "a.pth", tmp_path / "faster.pth"
    write_sample(faster, sample_of("pure", seed=1))
    slower = tmp_path / "slower.pth"
    write_sample(slower, sample_of("pure", seed=2))
    done: list[int] = []

    def advance(size_bytes: int) -> None:
        if not done:
            done.append(size_bytes)
            write_sample(path, sample_of("pure", seed=1))

    write_sample(path, sample_of("pure", seed=2), advance)
    assert weights_of(path) == weights_of(slower) != weights_of(faster)
    assert sorted(item.name for item in tmp_path.iterdir()) == ["a.pth", "faster.pth", "slower.pth"]
