"""Telling what a file is that is no checkpoint."""

from __future__ import annotations

import json

from vla_edge.export.checkpoint.file.archive import RESAVE
from vla_edge.export.checkpoint.file.source_file import SourceFile
from vla_edge.runtime.errors import CheckpointError

# The first object of torch's format before 1.6: pickle protocol 2 of 0x1950a86a20f9469cfc6c.
_LEGACY_MAGIC = b"\x80\x02\x8a\x0a\x6c\xfc\x9c\x46\xf9\x20\x6a\xa8\x50\x19"
_PICKLE_MAGIC = b"\x80"
_KNOWN_STARTS = {
    b"\x89PNG": "a PNG image",
    b"\xff\xd8\xff": "a JPEG image",
    b"version https://git-lfs": "a Git LFS pointer; the file itself was not fetched (git lfs pull)",
    b"version https://hawser": "a Git LFS pointer; the file itself was not fetched (git lfs pull)",
    b"# xet version": "a Xet pointer; the file itself was not fetched (hf download, or git xet)",
    b"<": "a web page or XML; a download that failed often leaves one",
    b"\x1f\x8b": "a gzip archive; unpack it first",
    b"\xfd7zXZ\x00": "an xz archive; unpack it first",
    b"\x28\xb5\x2f\xfd": "a Zstandard archive; unpack it first",
    b"BZh": "a bzip2 archive; unpack it first",
    b"7z\xbc\xaf": "a 7-Zip archive; unpack it first",
    b"\x89HDF": "an HDF5 file, as Keras writes them",
    b"GGUF": "a GGUF file, as llama.cpp reads them",
    b"%PDF": "a PDF document",
    b"\x93NUMPY": "a NumPy array",
    b"\x7fELF": "a program",
    b"PK\x05\x06": "an empty zip archive",
}
_AFTER_SPACE = (b"<", b"version https://git-lfs")
_HEAD_BYTES = 512
_LARGEST_PARSED_BYTES = 64 << 10
_LARGEST_MESSAGE_BYTES = 1 << 20
_SHOWN_LETTERS = 40


def known_start(file: SourceFile) -> str:
    """What the file is, by how it starts and whatever its name, "" if that is not known."""
    head = file.read(0, min(file.size_bytes, _HEAD_BYTES))
    text = head.removeprefix(b"\xef\xbb\xbf").lstrip()
    for start, kind in _KNOWN_STARTS.items():
        if head.startswith(start) or (start in _AFTER_SPACE and text.startswith(start)):
            return kind
    if not any(head) and not any(file.read(file.size_bytes // 2, min(16, file.size_bytes // 2))):
        return "zeros; a download or copy that reserved its space and did not go on leaves them"
    letters = _letters(text)
    if letters and text[:1] in (b"{", b"[") and _is_json(file):
        return "a JSON text; a download that was refused often leaves a message in it"
    if letters and file.size_bytes <= _LARGEST_MESSAGE_BYTES:
        shown = " ".join(letters[:_SHOWN_LETTERS].split())
        return f"a text that begins with {shown!r}; a download that was refused often leaves a message in it"
    return ""


def _letters(head: bytes) -> str:
    """The head as text, "" if it is none; its last letter may be cut in two."""
    for cut in range(min(4, len(head))):
        try:
            letters = head[: len(head) - cut].decode()
        except UnicodeDecodeError:
            continue
        return letters if all(letter.isprintable() or letter in "\t\r\n" for letter in letters) else ""
    return ""


def _is_json(file: SourceFile) -> bool:
    """Larger ones are judged by their letters alone."""
    if file.size_bytes > _LARGEST_PARSED_BYTES:
        return True
    try:
        json.loads(file.read(0, file.size_bytes))
    except (ValueError, RecursionError):
        return False
    return True


def not_a_checkpoint(file: SourceFile, kind: str) -> CheckpointError:
    """The error for a file that is neither torch's zip format nor safetensors."""
    path, head = file.path, file.read(0, min(file.size_bytes, 16))
    if head.startswith(_LEGACY_MAGIC):
        return CheckpointError(
            f"{path} has torch's format from before 1.6, which cannot be memory-mapped.",
            "Re-save it once, without running anything of it: import argparse, torch; "
            "torch.serialization.add_safe_globals([argparse.Namespace]); "
            'torch.save(torch.load("old.pth", map_location="cpu", weights_only=True), "new.pth")',
        )
    if head.startswith(_PICKLE_MAGIC):
        return CheckpointError(
            f"{path} is refused: it is a bare pickle, which can run any code when read. Nothing of it was run.",
            f"Have the training script save the weights with torch: {RESAVE}.",
        )
    return CheckpointError(
        f"{path} is not a checkpoint ({file.size_bytes:,} bytes). It looks like {kind}."
        if kind
        else f"{path} is not a checkpoint ({file.size_bytes:,} bytes): the format is unknown; it starts with {head!r}.",
        "Give a file written by torch.save (.pth, .pt, .ckpt), or a .safetensors file.",
    )
