"""A bundle's name is visible, one folder, and safe to print."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from vla_edge.export.bundle.names import bundle_stem
from vla_edge.export.pipeline import ExportOptions, export_bundle
from vla_edge.runtime.bundle.bundle import find_bundles
from vla_edge.runtime.errors import InputError


@pytest.mark.parametrize(
    ("file", "name"),
    [
        ("best.pth", "best"),
        (".best.pth", "best"),
        ("...best.epoch_4.pth", "best.epoch_4"),
        (".pth", "pth"),
        ("컵 a.pth", "컵 a"),
        ("a\x1b[31m.pth", "a_[31m"),
        ("...", "policy"),
    ],
)
def test_a_checkpoint_gives_its_bundle_a_visible_name(file: str, name: str) -> None:
    assert bundle_stem(Path("somewhere") / file) == name


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("a/b", "is a path"),
        ("/etc/x", "is a path"),
        ("..", "begins with a dot"),
        ("../up", "is a path"),
        ("a\\b", "is a path"),
        (".hidden", "begins with a dot"),
        ("", "is empty"),
        (" ", "is empty, or begins or ends with a space"),
        ("a\nb", "cannot be shown"),
        ("a\x1b[2J", "cannot be shown"),
        ("a\udcff", "cannot be shown"),
        ("컵" * 100, "at most 200 are possible"),
    ],
    ids=ascii,
)
def test_a_name_that_is_no_plain_folder_s_is_refused_before_the_work(
    tmp_path: Path, name: str, words: str
) -> None:
    options = ExportOptions(tmp_path / "not-even-there.pth", tmp_path / "out", name=name)
    with pytest.raises(InputError, match=words) as refused:
        export_bundle(options)
    assert "--name" in refused.value.hint
    assert refused.value.problem.isprintable()
    assert list(tmp_path.iterdir()) == []


def test_the_bundle_of_a_hidden_checkpoint_is_found(
    tmp_path: Path, checkpoint_of: Callable[..., Path]
) -> None:
    source = checkpoint_of("pure")
    checkpoint = shutil.copy(source, tmp_path / ".best.pth")
    shutil.copytree(source.parent / "tokenizer", tmp_path / "tokenizer")
    exported = export_bundle(ExportOptions(Path(checkpoint), tmp_path / "engines"))
    assert find_bundles(tmp_path / "engines") == [exported[0].folder] == [tmp_path / "engines" / "best-fp16"]
