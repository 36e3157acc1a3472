"""Packed bundles for tests: packing in one call, edited bundles that stay consistent, edited indices."""

from __future__ import annotations

import hashlib
import json
import shutil
import struct
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

from vla_edge.export.packed.pack import known_by, read_content, write_packed
from vla_edge.export.packed.packed import open_packed
from vla_edge.export.packed.unpack import Origins, unpack
from vla_edge.runtime.bundle.bundle import Bundle

HEAD = struct.Struct("<16sQ32s")


def packed_file(bundle: Path, output: Path, since: Path | None = None) -> Path:
    """A bundle as a file."""
    known = known_by(since) if since else None
    write_packed(read_content(Bundle.open(bundle, "size"), known), output, replace=True)
    return output


def unpacked(file: Path, folder: Path, *bases: Path) -> Origins:
    """A file as a bundle."""
    with open_packed(file) as packed:
        return unpack(packed, folder, [Bundle.open(base, "size") for base in bases])


def files_of(folder: Path) -> dict[str, bytes]:
    """Everything in a folder, by name."""
    return {path.name: path.read_bytes() for path in folder.iterdir() if path.is_file()}


def edited_bundle(bundle: Path, folder: Path, edits: Iterable[tuple[int, bytes]], name: str = "") -> Path:
    """A copy whose weights differ at some places, and whose manifest says so."""
    shutil.copytree(bundle, folder)
    weights = bytearray((folder / "model.onnx.data").read_bytes())
    for at, data in edits:
        start = at % len(weights)
        data = data[: len(weights) - start]
        weights[start : start + len(data)] = data
    (folder / "model.onnx.data").write_bytes(weights)
    manifest = json.loads((folder / "manifest.json").read_bytes())
    manifest["name"] = name or manifest["name"]
    for entry in manifest["files"]:
        if entry["path"] == "model.onnx.data":
            entry["sha256"] = hashlib.sha256(weights).hexdigest()
    (folder / "manifest.json").write_text(json.dumps(manifest, ensure_ascii=False), encoding="utf-8")
    return folder


def split(data: bytes) -> tuple[dict[str, Any], bytes]:
    """The index of a packed file, and what follows it."""
    _, length, _ = HEAD.unpack(data[: HEAD.size])
    return json.loads(data[HEAD.size : HEAD.size + length]), data[HEAD.size + length :]


def joined(index: bytes, rest: bytes) -> bytes:
    """A packed file whose head is right for this index, whatever that says."""
    return HEAD.pack(b"VLA-EDGE-PACK-1\n", len(index), hashlib.sha256(index).digest()) + index + rest


def with_index(data: bytes, change: Callable[[dict[str, Any]], None]) -> bytes:
    """A packed file with another index, whose checksum is right."""
    index, rest = split(data)
    change(index)
    return joined(json.dumps(index).encode(), rest)
