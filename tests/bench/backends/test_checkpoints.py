"""Finding the checkpoint that a bundle was made from."""

from __future__ import annotations

import hashlib
from pathlib import Path

import msgspec
import pytest

from vla_edge.bench.backends.checkpoints import CheckpointFinder
from vla_edge.runtime.bundle.manifest import Source
from vla_edge.runtime.errors import InputError

WEIGHTS = b"weights" * 100
NAME = "policy.pth"


def source(sha256: str | None = hashlib.sha256(WEIGHTS).hexdigest()) -> Source:
    return Source(
        file=NAME,
        size_bytes=len(WEIGHTS),
        sha256=sha256,
        epoch=1,
        val_mae=0.2,
        layout="pure",
        layout_reasons=(),
        parameters=1,
        weights_origin="checkpoint",
    )


@pytest.fixture
def bundle(tmp_path: Path, monkeypatch) -> Path:
    """A bundle folder; the current folder is another one."""
    here = tmp_path / "here"
    here.mkdir(parents=True)
    monkeypatch.chdir(here)
    folder = tmp_path / "up" / "drive" / "engines" / "policy-fp16"
    folder.mkdir(parents=True)
    return folder


def put(path: Path, data: bytes = WEIGHTS) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(data)
    return path


NEAR = ("up/drive/engines", "up/drive", "up", "here")
PLACES = (*NEAR, *(f"{place}/samples" for place in NEAR))


@pytest.mark.parametrize("place", PLACES)
def test_a_checkpoint_is_found_by_its_name(tmp_path: Path, bundle: Path, place: str) -> None:
    path = put(tmp_path / place / NAME)
    assert CheckpointFinder([]).find(bundle, source()).path == path


def test_a_bundle_named_by_a_relative_path_is_looked_around_alike(tmp_path: Path, monkeypatch) -> None:
    (tmp_path / "drive" / "engines" / "policy-fp16").mkdir(parents=True)
    path = put(tmp_path / NAME)
    monkeypatch.chdir(tmp_path / "drive" / "engines")
    assert CheckpointFinder([]).find(Path("policy-fp16"), source()).path == path


def test_the_nearest_of_several_is_taken(tmp_path: Path, bundle: Path) -> None:
    far, near = put(tmp_path / "here" / NAME), put(tmp_path / "up" / "drive" / "engines" / NAME)
    assert CheckpointFinder([]).find(bundle, source()).path == near
    near.unlink()
    assert CheckpointFinder([]).find(bundle, source()).path == far


@pytest.mark.parametrize("name", ["../escape.pth", "/etc/passwd", "a\0b", "x" * 300])
def test_a_name_out_of_a_manifest_that_is_no_file_s_name_finds_nothing(name: str, bundle: Path) -> None:
    odd = msgspec.structs.replace(source(), file=name)
    assert CheckpointFinder([]).find(bundle, odd).path is None


def test_a_given_checkpoint_may_have_another_name(tmp_path: Path, bundle: Path) -> None:
    path = put(tmp_path / "elsewhere" / "renamed.bin")
    finder = CheckpointFinder([path])
    assert finder.find(bundle, source()).path == path
    finder.refuse_unused()


def test_without_a_checkpoint_the_reason_says_which_to_pass(bundle: Path) -> None:
    found = CheckpointFinder([]).find(bundle, source())
    assert (found.path, found.note) == (None, "checkpoint not found: pass --checkpoint policy.pth")


@pytest.mark.parametrize("data", [WEIGHTS[:-1], WEIGHTS[:-1] + b"?"], ids=["size", "contents"])
def test_a_file_of_the_name_with_other_contents_is_not_taken(
    tmp_path: Path, bundle: Path, data: bytes
) -> None:
    path = put(tmp_path / "here" / NAME, data)
    found = CheckpointFinder([]).find(bundle, source())
    assert found.path is None
    assert found.note.endswith(f"({path} has other contents)")


def test_a_later_place_is_searched_when_an_earlier_file_is_another_one(tmp_path: Path, bundle: Path) -> None:
    put(tmp_path / "up" / "drive" / "engines" / NAME, b"another")
    path = put(tmp_path / "here" / "samples" / NAME)
    assert CheckpointFinder([]).find(bundle, source()).path == path


def test_a_find_by_size_alone_is_noted(tmp_path: Path, bundle: Path) -> None:
    put(tmp_path / "here" / NAME)
    assert (
        CheckpointFinder([]).find(bundle, source(sha256=None)).note
        == "policy.pth was recognised by its size only"
    )


def test_a_given_checkpoint_that_belongs_to_no_bundle_is_refused(tmp_path: Path, bundle: Path) -> None:
    path = put(tmp_path / "other.pth", b"another")
    finder = CheckpointFinder([path])
    finder.find(bundle, source())
    with pytest.raises(InputError, match=r"no bundle was exported from .*other\.pth: size or SHA-256 differ"):
        finder.refuse_unused()


def test_a_given_checkpoint_that_does_not_exist_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"no checkpoint .*missing\.pth"):
        CheckpointFinder([tmp_path / "missing.pth"])
