"""What a newcomer reads who names a path that is no bundle."""

from __future__ import annotations

from pathlib import Path

import pytest

from vla_edge.bench.no_bundles import no_bundles


@pytest.mark.parametrize("name", ["x.pth", "x.PT", "x.safetensors", "my policy.ckpt"])
def test_a_checkpoint_is_called_one_and_named_in_the_line_that_exports_it(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Path(name).touch()
    error = no_bundles(Path(name))
    assert error.problem.startswith(f"{name} is a checkpoint;")
    quoted = f"'{name}'" if " " in name else name
    assert error.hint == f"Make one with: vla-export --ckpt {quoted} --fp16 -o engines/"


def test_a_folder_of_checkpoints_is_called_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("samples").mkdir()
    for name in ("notes.txt", "b.pth", "a.pth"):
        Path("samples", name).touch()
    error = no_bundles(Path("samples"))
    assert error.problem == "samples holds checkpoints, no bundles."
    assert error.hint == "Make one with: vla-export --ckpt samples/a.pth --fp16 -o engines/"


@pytest.mark.parametrize(
    "make", [Path.touch, Path.mkdir, lambda path: None], ids=["file", "folder", "absent"]
)
def test_what_is_neither_has_its_own_words(make, tmp_path: Path) -> None:
    path = tmp_path / "x\x1b[2J"
    make(path)
    error = no_bundles(path)
    assert "checkpoint" not in error.problem
    assert (error.problem + error.hint).isprintable()
    assert "vla-export --ckpt policy.pth --fp16 -o " in error.hint
