"""A killed run is gone on with, and nothing that it left is believed."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from packed_files import files_of, unpacked

from vla_edge.runtime.files.staging import staging_path

# Unpacks, and dies when so many blocks are done.
KILLED = """
import os, signal, sys
from pathlib import Path
from vla_edge.export.packed.packed import open_packed
from vla_edge.export.packed.unpack import unpack
file, folder, left = Path(sys.argv[1]), Path(sys.argv[2]), int(sys.argv[3])
def advance(size_bytes):
    global left
    left -= 1
    if left == 0:
        os.kill(os.getpid(), signal.SIGKILL)
with open_packed(file) as packed:
    unpack(packed, folder, (), advance)
"""


@pytest.mark.parametrize("blocks", [1, 5, 9])
def test_a_killed_run_goes_on_where_it_was(whole: Path, first: Path, tmp_path: Path, blocks: int) -> None:
    done = subprocess.run([sys.executable, "-c", KILLED, whole, tmp_path / "out", str(blocks)], check=False)
    assert done.returncode == -signal.SIGKILL
    assert not (tmp_path / "out").exists()
    origins = unpacked(whole, tmp_path / "out")
    assert origins.kept > 0
    assert origins.kept + origins.file == sum(map(len, files_of(first).values()))
    assert files_of(tmp_path / "out") == files_of(first)
    assert [path.name for path in tmp_path.iterdir()] == ["out"]


def planted(target: Path) -> Path:
    folder = staging_path(target)
    folder.mkdir()
    return folder


def test_what_a_run_left_of_another_bundle_is_written_over(
    whole: Path, first: Path, second: Path, tmp_path: Path
) -> None:
    left = planted(tmp_path / "out")
    shutil.copytree(second, left, dirs_exist_ok=True)
    (left / "strange").write_bytes(b"x")
    (left / "golden.npz").write_bytes(bytes(10_000_000))
    unpacked(whole, tmp_path / "out")
    assert files_of(tmp_path / "out") == files_of(first)


def test_links_that_were_left_are_never_written_through(whole: Path, first: Path, tmp_path: Path) -> None:
    left = planted(tmp_path / "out")
    outside = tmp_path / "outside"
    outside.write_bytes(b"mine")
    (left / "model.onnx").symlink_to(outside)
    os.link(outside, left / "golden.npz")
    (left / "manifest.json").mkdir()
    os.mkfifo(left / "model.onnx.data")
    unpacked(whole, tmp_path / "out")
    assert files_of(tmp_path / "out") == files_of(first)
    assert outside.read_bytes() == b"mine"


def test_a_living_run_is_left_alone(whole: Path, first: Path, tmp_path: Path) -> None:
    from vla_edge.runtime.files.staging import resumed_folder

    with resumed_folder(tmp_path / "out") as other:
        (other / "model.onnx").write_bytes(b"half")
        unpacked(whole, tmp_path / "out")
        assert (other / "model.onnx").read_bytes() == b"half"
    assert files_of(tmp_path / "out") == files_of(first)


def test_an_error_leaves_nothing(update: Path, tmp_path: Path) -> None:
    from vla_edge.runtime.errors import BundleError

    with pytest.raises(BundleError, match="leaves out"):
        unpacked(update, tmp_path / "out")
    assert list(tmp_path.iterdir()) == []
