"""The head of a packed bundle: what is in it, checked before a byte of a block is read.

`engines/README.md` specifies the format.
"""

from __future__ import annotations

import hashlib
import io
import struct
from collections.abc import Iterator
from typing import Annotated

import msgspec
from msgspec import Meta, Struct

from vla_edge.runtime.bundle.manifest import MANIFEST_NAME, MAX_MANIFEST_BYTES, Bytes, Name, Sha256
from vla_edge.runtime.errors import BundleError, InputError

MAX_BLOCK_BYTES = 1 << 20
MAX_INDEX_BYTES = 16 << 20  # the full-size hybrid's has 0.5 MiB
MAX_PARTS = 1 << 18  # references to blocks: tiny ones must not cost hours
MAX_FILES = 65  # as many as a manifest lists, and itself

_MAGIC = b"VLA-EDGE-PACK-"
_VERSION = b"1\n"
_HEAD = struct.Struct("<16sQ32s")
HEAD_BYTES = _HEAD.size
COPY_AGAIN = "Copy it again (rsync goes on where it stopped), or pack it again with vla-bundle pack."


class _Base(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    pass


class Block(Struct, frozen=True, array_like=True, forbid_unknown_fields=True):
    """Some bytes by their hash; `packed` tells whether they are in this file, or were left out."""

    sha256: Sha256
    size_bytes: Annotated[int, Meta(gt=0, le=MAX_BLOCK_BYTES)]
    packed: bool


class PackedFile(_Base, frozen=True):
    """A file of the bundle: its blocks, by their numbers in `Index.blocks`, in order."""

    path: Annotated[str, Meta(pattern=r"^[A-Za-z0-9_][A-Za-z0-9._-]*\Z", max_length=200)]
    size_bytes: Bytes
    sha256: Sha256
    blocks: Annotated[tuple[Annotated[int, Meta(ge=0, lt=MAX_PARTS)], ...], Meta(max_length=MAX_PARTS)]


class Since(_Base, frozen=True):
    """The bundle that the target is expected to have."""

    name: Name
    manifest_sha256: Sha256


class Index(_Base, frozen=True):
    """What a packed file holds.

    Attributes:
        name: of the bundle, as its manifest has it.
        manifest_sha256: the bundle's identity.
        since: whose blocks were left out; None in a whole one.
        blocks: every block once. Those that are packed follow the index in this order.
        files: the manifest first, then what it lists.
    """

    name: Name
    manifest_sha256: Sha256
    since: Since | None
    blocks: Annotated[tuple[Block, ...], Meta(max_length=MAX_PARTS)]
    files: Annotated[tuple[PackedFile, ...], Meta(min_length=1, max_length=MAX_FILES)]

    @property
    def packed_bytes(self) -> int:
        """Of the blocks that are in the file."""
        return sum(block.size_bytes for block in self.blocks if block.packed)

    @property
    def bundle_bytes(self) -> int:
        """Of the bundle that comes out."""
        return sum(file.size_bytes for file in self.files)


def encode_index(index: Index) -> bytes:
    """Head and index, as a packed file begins.

    Raises:
        InputError: the bundle has more blocks or files than the format takes.
    """
    data = msgspec.json.encode(index)
    try:  # types are not checked when it is made
        problem = next(_contradictions(msgspec.json.decode(data, type=Index)), None)
    except msgspec.ValidationError as error:
        problem = str(error)
    if len(data) > MAX_INDEX_BYTES:
        problem = f"its index takes {len(data)} bytes, at most {MAX_INDEX_BYTES} are possible"
    if problem:
        raise InputError(f"{index.name} cannot be packed: {problem}.", "Copy its folder instead (rsync).")
    return _HEAD.pack(_MAGIC + _VERSION, len(data), hashlib.sha256(data).digest()) + data


def read_index(file: io.FileIO, size_bytes: int, name: str) -> tuple[Index, int]:
    """The index of an open packed file, and where its first block begins.

    Args:
        file: unbuffered, at its start.
        size_bytes: of the whole file.
        name: what to call it in errors.

    Raises:
        BundleError: no packed bundle, of another version, damaged, cut short, or one that contradicts itself.
    """
    head = file.read(HEAD_BYTES)
    if len(head) < HEAD_BYTES or not head.startswith(_MAGIC):
        raise BundleError(f"{name} is not a packed bundle.", "Give a file that vla-bundle pack wrote.")
    magic, length, digest = _HEAD.unpack(head)
    if magic != _MAGIC + _VERSION:
        raise BundleError(
            f"{name} is packed in another version of the format.", "Pack it with this vla-edge."
        )
    if length > MAX_INDEX_BYTES:
        raise BundleError(f"{name} has an index of {length} bytes, at most {MAX_INDEX_BYTES}.", COPY_AGAIN)
    data = _read(file, length)
    if hashlib.sha256(data).digest() != digest:
        raise BundleError(f"{name} is damaged or cut short: its index is not what it was.", COPY_AGAIN)
    try:
        index = msgspec.json.decode(data, type=Index)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise BundleError(f"{name} has no valid index: {error}.", COPY_AGAIN) from error
    for problem in _contradictions(index):
        raise BundleError(f"{name} contradicts itself: {problem}.", COPY_AGAIN)
    wanted = HEAD_BYTES + length + index.packed_bytes
    if size_bytes != wanted:
        kind = "cut short" if size_bytes < wanted else "too long"
        raise BundleError(f"{name} is {kind}: it has {size_bytes} bytes of {wanted}.", COPY_AGAIN)
    return index, HEAD_BYTES + length


def _read(file: io.FileIO, length: int) -> bytes:
    pieces = []
    while length and (piece := file.read(length)):
        pieces.append(piece)
        length -= len(piece)
    return b"".join(pieces)


def _contradictions(index: Index) -> Iterator[str]:
    """What the types alone cannot say."""
    blocks, files = index.blocks, index.files
    parts = sum(len(file.blocks) for file in files)
    if parts > MAX_PARTS:
        yield f"it refers to {parts} blocks, at most {MAX_PARTS} are possible"
        return
    if len({block.sha256 for block in blocks}) < len(blocks):
        yield "a block is listed twice"
    if len({file.path.lower() for file in files}) < len(files) or any(
        file.path.lower() == "plans" for file in files
    ):
        yield "two files have one name, or one is called plans"
    used = {number for file in files for number in file.blocks}
    if used != set(range(len(blocks))):
        yield "its files take other blocks than it lists"
        return
    for file in files:
        if sum(blocks[number].size_bytes for number in file.blocks) != file.size_bytes:
            yield f"the blocks of {file.path} are not as long as the file"
    manifest = files[0]
    if manifest.path != MANIFEST_NAME or manifest.sha256 != index.manifest_sha256:
        yield f"its first file is not the {MANIFEST_NAME} that it names"
    if manifest.size_bytes > MAX_MANIFEST_BYTES:
        yield f"its {MANIFEST_NAME} has {manifest.size_bytes} bytes, at most {MAX_MANIFEST_BYTES}"
    if not all(blocks[number].packed for number in manifest.blocks):
        yield f"its {MANIFEST_NAME} was left out"
    if index.since is None and not all(block.packed for block in blocks):
        yield "blocks were left out, and nothing says which bundle has them"
