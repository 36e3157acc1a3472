"""Zip archives that contradict themselves, and files that are no checkpoints whatever their name."""

from __future__ import annotations

import io
import struct
import subprocess
import sys
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from vla_edge.export.checkpoint.checkpoint import read_stored
from vla_edge.export.inspect.checkpoint import compare_weights
from vla_edge.runtime.errors import CheckpointError

WEIGHTS = struct.pack("<4f", 1, 2, 3, 4)


def saved(**content: torch.Tensor) -> bytes:
    buffer = io.BytesIO()
    torch.save({"model_state_dict": content or {"w": torch.tensor([1.0, 2, 3, 4])}}, buffer)
    return buffer.getvalue()


def problem_of(path: Path, content: bytes) -> str:
    path.write_bytes(content)
    with pytest.raises(CheckpointError) as error:
        read_stored(path)
    assert str(path) in error.value.problem
    assert error.value.hint
    return error.value.problem


def packed(change: Callable[[list[tuple[str, bytes]]], None]) -> bytes:
    """A checkpoint packed again, with changed records."""
    with zipfile.ZipFile(io.BytesIO(saved())) as archive:
        records = [(entry.filename, archive.read(entry)) for entry in archive.infolist()]
    change(records)
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        for name, content in records:
            archive.writestr(name, content)
    return buffer.getvalue()


def entry_of(data: bytes, record: str) -> int:
    """Where the directory's entry of a record starts."""
    return data.rindex(b"PK\x01\x02", 0, data.rindex(record.encode()))


def edited(record: str, at: int, value: bytes) -> bytes:
    data = bytearray(saved())
    start = entry_of(bytes(data), record) + at
    data[start : start + len(value)] = value
    return bytes(data)


@pytest.mark.filterwarnings("ignore:Duplicate name")
class TestArchivesThatContradictThemselves:
    def test_two_records_of_one_name(self, tmp_path: Path) -> None:
        content = packed(lambda records: records.append(("archive/data/0", bytes(16))))
        assert "two records are named archive/data/0" in problem_of(tmp_path / "a.pth", content)

    @pytest.mark.parametrize("second", ["archive/data.pkl", "other/data.pkl", "archive/deeper/data.pkl"])
    def test_two_pickles(self, tmp_path: Path, second: str) -> None:
        content = packed(lambda records: records.append((second, b"\x80\x02}.")))
        assert "it has 2 records named data.pkl" in problem_of(tmp_path / "a.pth", content)

    def test_records_that_overlap(self, tmp_path: Path) -> None:
        data = saved()
        other = struct.unpack_from("<L", data, entry_of(data, "archive/version") + 42)[0]
        longer = struct.pack("<2L", other, other)
        content = edited("archive/data/0", 20, longer)
        problem = problem_of(tmp_path / "a.pth", content)
        assert "records archive/data/0 and archive/version overlap" in problem

    def test_two_entries_for_the_same_bytes(self, tmp_path: Path) -> None:
        data = saved()
        place = data[entry_of(data, "archive/byteorder") + 42 :][:4]
        assert "is refused: " in problem_of(tmp_path / "a.pth", edited("archive/data/0", 42, place))

    def test_a_record_beyond_the_file(self, tmp_path: Path) -> None:
        content = edited("archive/data/0", 20, struct.pack("<2L", 1 << 30, 1 << 30))
        assert "lies beyond the end of the file" in problem_of(tmp_path / "a.pth", content)

    def test_a_record_that_reaches_into_the_directory(self, tmp_path: Path) -> None:
        data = saved()
        last = ".data/serialization_id"
        size = len(data) - data.rindex(last.encode(), 0, entry_of(data, last)) - 100
        problem = problem_of(tmp_path / "a.pth", edited(last, 20, struct.pack("<2L", size, size)))
        assert "reaches beyond the data" in problem

    def test_two_sizes_of_one_record(self, tmp_path: Path) -> None:
        content = edited("archive/data/0", 20, struct.pack("<L", 8))
        assert "record archive/data/0 has two sizes" in problem_of(tmp_path / "a.pth", content)

    def test_a_header_elsewhere_or_of_another_name(self, tmp_path: Path) -> None:
        content = edited("archive/data/0", 42, struct.pack("<L", 7))
        assert "has no header where the directory says" in problem_of(tmp_path / "a.pth", content)
        data = saved()
        other = data.replace(b"archive/data/0", b"archive/data/9", 1)
        assert "the header of record archive/data/0 says something else" in problem_of(
            tmp_path / "a.pth", other
        )

    def test_an_encrypted_record(self, tmp_path: Path) -> None:
        content = edited("archive/data/0", 8, struct.pack("<H", 0x809))
        assert "record archive/data/0 is encrypted" in problem_of(tmp_path / "a.pth", content)

    @pytest.mark.parametrize("at", [20, 42])
    def test_zip64_sizes_that_are_not_there(self, tmp_path: Path, at: int) -> None:
        content = edited("archive/data/0", at, b"\xff" * 4)
        assert "an entry lacks its zip64 sizes" in problem_of(tmp_path / "a.pth", content)

    @pytest.mark.parametrize(
        ("at", "value"), [(12, 1 << 31), (16, 1 << 31), (10, 65_000), (4, 1), (12, 0), (20, 9)]
    )
    def test_a_directory_that_is_elsewhere_or_of_another_length(
        self, tmp_path: Path, at: int, value: int
    ) -> None:
        data = bytearray(saved())
        end = data.rindex(b"PK\x05\x06")
        form = "<H" if at in (4, 10, 20) else "<L"
        struct.pack_into(form, data, end + at, value)
        assert "the directory at its end cannot be read" in problem_of(tmp_path / "a.pth", bytes(data))

    def test_bytes_after_its_end(self, tmp_path: Path) -> None:
        assert "other data follows it" in problem_of(tmp_path / "a.pth", saved() + bytes(100))


@pytest.mark.parametrize("order", [b"big", b"", b"middle\x1b"])
def test_another_byte_order_is_refused_by_name(tmp_path: Path, order: bytes) -> None:
    def change(records: list[tuple[str, bytes]]) -> None:
        records[:] = [(name, order if name.endswith("byteorder") else content) for name, content in records]

    problem = problem_of(tmp_path / "a.pth", packed(change))
    assert "was written with the byte order" in problem
    assert "\x1b" not in problem


def test_an_archive_packed_again_without_compression_is_read(tmp_path: Path) -> None:
    """Its records start at any byte, and not at multiples of 64."""
    path = tmp_path / "a.pth"
    path.write_bytes(packed(lambda records: records.insert(0, ("archive/note", b"x"))))
    assert read_stored(path).tensors["w"].tolist() == [1, 2, 3, 4]


def test_a_zip64_archive_is_read(tmp_path: Path) -> None:
    path = tmp_path / "a.pth"
    with (
        zipfile.ZipFile(io.BytesIO(saved())) as source,
        zipfile.ZipFile(path, "w", allowZip64=True) as target,
    ):
        for entry in source.infolist():
            with target.open(entry.filename, "w", force_zip64=True) as record:
                record.write(source.read(entry))
    assert read_stored(path).tensors["w"].tolist() == [1, 2, 3, 4]


@pytest.mark.parametrize("dtype", [torch.complex128, torch.complex64, torch.float64, torch.float32])
@pytest.mark.parametrize("shift", range(8))
def test_values_at_any_address_are_read(tmp_path: Path, dtype: torch.dtype, shift: int) -> None:
    """torch's own functions end the process on complex numbers of 16 bytes that lie at no multiple of 16."""
    path, wanted = tmp_path / "a.pth", torch.arange(8.0).to(dtype)
    with (
        zipfile.ZipFile(io.BytesIO(saved(w=wanted, again=wanted[:1].expand(4)))) as source,
        zipfile.ZipFile(path, "w") as target,
    ):
        target.writestr("archive/padding", bytes(shift))
        for entry in source.infolist():
            target.writestr(entry.filename, source.read(entry))
    tensors = read_stored(path).tensors
    assert tensors["w"].clone().tolist() == wanted.tolist()
    assert tensors["again"].contiguous().tolist() == [0] * 4
    assert all(line.differing == 0 for line in compare_weights(tensors, tensors, tuple(tensors), 1))


class TestWrongFilesUnderAnyName:
    @pytest.mark.parametrize("name", ["a.pth", "a.ckpt", "a.safetensors", "a"])
    @pytest.mark.parametrize(
        ("content", "words"),
        [
            (b"version https://git-lfs.github.com/spec/v1\noid sha256:" + b"0" * 64, "a Git LFS pointer"),
            (b"<!DOCTYPE html><html>404", "a web page or XML"),
            (b"\n  <?xml version='1.0'?><Error>AccessDenied</Error>", "a web page or XML"),
            (b'{"error": "Repository not found", "status": 404}', "a JSON text"),
            (b'[{"message": "Unauthorized"}]', "a JSON text"),
            (b'{"vocabulary": [' + b'"word", ' * 20_000, "a JSON text"),
            (b"Access denied", "a text that begins with 'Access denied'"),
            (b"Entry not found\n", "a text that begins with 'Entry not found'"),
            ("없는 파일입니다. ".encode() * 100, "a text that begins with '없는 파일입니다."),
            (b"# xet version 0\nfilesize = 12\nhash = 'a'\n", "a Xet pointer"),
            (bytes(5000), "zeros"),
            (b"\x1f\x8b\x08" + bytes(50), "a gzip archive"),
            (b"GGUF\x03\x00\x00\x00" + bytes(50), "a GGUF file"),
        ],
    )
    def test_are_told_by_their_content(self, tmp_path: Path, name: str, content: bytes, words: str) -> None:
        problem = problem_of(tmp_path / name, content)
        assert f"It looks like {words}" in problem
        assert "damaged" not in problem

    def test_a_pipe_is_refused_and_not_waited_for(self, tmp_path: Path) -> None:
        import os

        os.mkfifo(tmp_path / "a.pth")
        with pytest.raises(CheckpointError, match="is not a file"):
            read_stored(tmp_path / "a.pth")


class TestLittleMemory:
    """In a process whose address space is limited, as by ulimit -v."""

    @pytest.mark.parametrize("mebibytes", [300, 600, 1000])
    def test_is_said_and_never_taken_for_damage(self, tmp_path: Path, mebibytes: int) -> None:
        path = tmp_path / "a.pth"
        path.write_bytes(saved(w=torch.zeros(1 << 18)))
        limit = f"ulimit -v {mebibytes << 10}; exec {sys.executable} -m vla_edge.export.inspect.cli {path}"
        done = subprocess.run(["bash", "-c", limit], capture_output=True, text=True, timeout=120)
        assert "Traceback" not in done.stderr
        assert "damaged" not in done.stderr
        assert done.returncode == 1
        assert "too little memory to load torch for reading" in done.stderr
