"""The checkpoint's file while it is read: opened once, its checksums compared, its changes noticed."""

from __future__ import annotations

import hashlib
import os
import subprocess
import sys
import threading
import zipfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import torch

from vla_edge.export.checkpoint.checkpoint import read_checkpoint, read_stored
from vla_edge.export.pipeline import ExportOptions, export_bundle
from vla_edge.runtime.errors import CheckpointError

CheckpointOf = Callable[..., Path]


@pytest.fixture
def copied(tmp_path: Path, checkpoint_of: CheckpointOf) -> Path:
    path = tmp_path / "policy.pth"
    original = checkpoint_of("pure")
    path.write_bytes(original.read_bytes())
    (tmp_path / "tokenizer").symlink_to(original.parent / "tokenizer")
    return path


def flip(path: Path, record: str) -> None:
    """Flip one bit in the middle of a record."""
    with zipfile.ZipFile(path) as archive:
        entry = next(entry for entry in archive.infolist() if entry.filename.endswith(record))
    data = bytearray(path.read_bytes())
    header = entry.header_offset
    lengths = int.from_bytes(data[header + 26 : header + 28], "little") + int.from_bytes(
        data[header + 28 : header + 30], "little"
    )
    data[header + 30 + lengths + entry.file_size // 2] ^= 4
    path.write_bytes(data)


class Recorder:
    """Calls `then` once, at the first step of the stage whose title holds `stage`."""

    def __init__(self, stage: str, then: Callable[[], Any]) -> None:
        self._stage, self._then, self._done = stage, then, False

    def note(self, text: str) -> None:
        pass

    @contextmanager
    def stage(self, name: str, total: int, unit: str) -> Iterator[Callable[[int], None]]:
        def advance(amount: int) -> None:
            if self._stage in name and not self._done:
                self._done = True
                self._then()

        yield advance


def export_with(path: Path, stage: str, then: Callable[[], Any]) -> str:
    options = ExportOptions(checkpoint=path, output=path.parent / "engines")
    with pytest.raises(CheckpointError) as error:
        export_bundle(options, Recorder(stage, then))
    assert not list((path.parent / "engines").glob("*/manifest.json"))
    return error.value.problem


class TestChecksums:
    @pytest.mark.parametrize("record", ["/data/0", "/data/7", "/data/20"])
    def test_one_flipped_bit_in_a_weight_is_found(self, copied: Path, record: str) -> None:
        flip(copied, record)
        with pytest.raises(CheckpointError) as error:
            read_checkpoint(copied).sha256()
        assert f"{copied} is damaged: the checksum of 1 of its records" in error.value.problem
        assert record in error.value.problem

    def test_one_in_the_pickle_is_found_when_the_file_is_opened(self, copied: Path) -> None:
        flip(copied, "/data.pkl")
        with pytest.raises(CheckpointError, match="is damaged: the checksum of 1 of its records"):
            read_stored(copied)

    def test_a_whole_file_has_the_hash_of_its_bytes(self, copied: Path) -> None:
        read: list[int] = []
        assert read_stored(copied).sha256(read.append) == hashlib.sha256(copied.read_bytes()).hexdigest()
        assert sum(read) == copied.stat().st_size

    def test_records_across_the_pieces_that_are_read(self, tmp_path: Path) -> None:
        path = tmp_path / "a.pth"
        sizes = (1, (1 << 18) - 7, 1 << 18, 3 << 18, 5, 0, 9 << 16)
        torch.save({"model_state_dict": {str(n): torch.rand(size) for n, size in enumerate(sizes)}}, path)
        read_stored(path).sha256()
        flip(path, "/data/3")
        with pytest.raises(CheckpointError, match=r"\(a/data/3\)"):
            read_stored(path).sha256()

    def test_a_file_without_checksums_is_read(self, tmp_path: Path) -> None:
        path = tmp_path / "a.pth"
        before = torch.serialization.get_crc32_options()
        torch.serialization.set_crc32_options(False)
        try:
            torch.save({"model_state_dict": {"w": torch.rand(9)}}, path)
        finally:
            torch.serialization.set_crc32_options(before)
        assert all(record.crc32 == 0 for record in read_stored(path).records)
        read_stored(path).sha256()

    def test_a_damaged_weight_is_not_exported(self, copied: Path) -> None:
        flip(copied, "/data/7")
        assert "the checksum of 1 of its records" in export_with(copied, "", lambda: None)


def save_again(path: Path) -> None:
    """As a training run would: the same file, of the same size, with other weights."""
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    with open(path, "wb") as file:
        file.write(data)


def replace(path: Path) -> None:
    other = path.with_suffix(".new")
    other.write_bytes(path.read_bytes())
    other.rename(path)


CHANGES = {
    "saved again": save_again,
    "replaced": replace,
    "removed": lambda path: path.unlink(),
    "cut": lambda path: os.truncate(path, 100_000),
    "emptied": lambda path: os.truncate(path, 0),
}


class TestAFileThatChanges:
    @pytest.mark.parametrize("change", CHANGES.values(), ids=CHANGES)
    def test_is_noticed_when_it_is_hashed(self, copied: Path, change: Callable[[Path], None]) -> None:
        stored = read_stored(copied)
        change(copied)
        with pytest.raises(CheckpointError, match="was changed while it was being read"):
            stored.sha256()

    @pytest.mark.parametrize(
        ("stage", "change"),
        [
            ("weights", "saved again"),
            ("weights", "cut"),
            ("PyTorch", "cut"),
            ("PyTorch", "replaced"),
            ("comparing", "emptied"),
        ],
    )
    def test_is_refused_by_an_export_and_nothing_is_kept(self, copied: Path, stage: str, change: str) -> None:
        problem = export_with(copied, stage, lambda: CHANGES[change](copied))
        assert f"{copied} was changed while it was being read" in problem

    def test_that_is_cut_while_torch_reads_it_is_no_fatal_signal(self, tmp_path: Path) -> None:
        """In a process of its own, which an earlier version lost to SIGBUS."""
        program = """
import os, sys, threading, torch
from pathlib import Path
from vla_edge.export.checkpoint.checkpoint import read_stored
path = Path(sys.argv[1])
stored = read_stored(path)
weights, ones = stored.tensors["w"], torch.ones(4, 2048)
started = threading.Event()
threading.Thread(target=lambda: (started.wait(), os.truncate(path, 4096))).start()
while not stored.file._guarded.lost:
    torch.nn.functional.linear(ones, weights)
    weights.half().t().contiguous().numpy()
    started.set()
stored.file.check_unchanged()
"""
        path = tmp_path / "a.pth"
        torch.save({"model_state_dict": {"w": torch.rand(2048, 2048)}}, path)
        done = subprocess.run(
            [sys.executable, "-c", program, str(path)], capture_output=True, text=True, timeout=120
        )
        assert done.returncode == 1
        assert f"{path} was changed while it was being read" in done.stderr

    def test_other_fatal_signals_stay_fatal(self, tmp_path: Path) -> None:
        program = """
import mmap, os, sys
from pathlib import Path
from vla_edge.export.checkpoint.checkpoint import read_stored
read_stored(Path(sys.argv[1]))
with open(sys.argv[2], "r+b") as file:
    mine = mmap.mmap(file.fileno(), 0)
    file.truncate(0)
    mine[0]
"""
        torch.save({"model_state_dict": {"w": torch.rand(9)}}, tmp_path / "a.pth")
        (tmp_path / "other").write_bytes(bytes(10_000))
        done = subprocess.run(
            [sys.executable, "-c", program, str(tmp_path / "a.pth"), str(tmp_path / "other")], timeout=120
        )
        assert done.returncode == -7


def test_reading_goes_on_in_several_threads_after_the_file_was_cut(copied: Path) -> None:
    stored = read_checkpoint(copied)
    os.truncate(copied, 0)
    totals: list[float] = []

    def read() -> None:
        totals.append(sum(float(tensor.sum()) for tensor in stored.tensors.values()))

    threads = [threading.Thread(target=read) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert totals == [0, 0, 0, 0]


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float64])
def test_a_safetensors_file_may_be_cut_too(tmp_path: Path, dtype: torch.dtype) -> None:
    from safetensors.torch import save_file

    path = tmp_path / "a.safetensors"
    weights = {"w": torch.rand(300, 700).to(dtype), "empty": torch.zeros(0, 3), "one": torch.tensor(2.5)}
    save_file(weights, path, metadata={"note": "x"})
    stored = read_stored(path)
    assert all(torch.equal(stored.tensors[name], tensor) for name, tensor in weights.items())
    assert stored.sha256() == hashlib.sha256(path.read_bytes()).hexdigest()
    os.truncate(path, 100)
    stored.tensors["w"].sum()
    with pytest.raises(CheckpointError, match="was changed while it was being read"):
        stored.sha256()
