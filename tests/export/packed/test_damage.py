"""No damage and no index gives a wrong bundle: each is refused in words that name the file."""

from __future__ import annotations

import json
import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from packed_files import HEAD, files_of, joined, packed_file, split, unpacked, with_index

from vla_edge.export.packed.packed import open_packed
from vla_edge.runtime.errors import BundleError

Index = dict[str, Any]


def refused(data: bytes, place: Path, *bases: Path) -> str:
    """Why a file is refused; nothing of it may be left."""
    file = place / "case.vla"
    file.write_bytes(data)
    with pytest.raises(BundleError) as caught:
        unpacked(file, place / "out", *bases)
    assert "case.vla" in caught.value.problem
    assert caught.value.hint
    assert [path.name for path in place.iterdir()] == ["case.vla"]
    return caught.value.problem


@pytest.mark.parametrize("kind", ["whole", "update"])
def test_no_flipped_bit_gives_a_bundle(
    kind: str, whole: Path, update: Path, first: Path, tmp_path: Path
) -> None:
    data = (whole if kind == "whole" else update).read_bytes()
    rng = random.Random(kind)
    head = HEAD.size + len(split(data)[0])
    for at in [
        *range(0, HEAD.size, 5),
        *(rng.randrange(head) for _ in range(50)),
        *rng.sample(range(len(data)), 150),
    ]:
        damaged = bytearray(data)
        damaged[at] ^= 1 << rng.randrange(8)
        # with a base, equal files would be taken from there, and never read here
        refused(bytes(damaged), tmp_path, *([first] if kind == "update" else []))


def test_no_cut_gives_a_bundle(update: Path, first: Path, tmp_path: Path) -> None:
    data = update.read_bytes()
    for length in [*range(0, 100, 7), *random.Random(1).sample(range(len(data)), 60), len(data) - 1]:
        refused(data[:length], tmp_path, first)
    assert "is too long" in refused(data + b"x", tmp_path, first)


def test_what_is_no_packed_bundle_is_told(tmp_path: Path) -> None:
    assert "is not a packed bundle" in refused(b"PK\x03\x04" + bytes(1000), tmp_path)
    assert "another version" in refused(b"VLA-EDGE-PACK-9\n" + bytes(1000), tmp_path)
    assert "an index of 18446744073709551615 bytes" in refused(
        HEAD.pack(b"VLA-EDGE-PACK-1\n", (1 << 64) - 1, bytes(32)), tmp_path
    )
    for path in (tmp_path, tmp_path / "absent"):
        with pytest.raises(BundleError, match="cannot be read"), open_packed(path):
            pass


def rename(path: str) -> Callable[[Index], None]:
    return lambda index: index["files"][1].update(path=path)


def grow(index: Index) -> None:
    """A bomb: the same block a hundred thousand times."""
    file = index["files"][2]
    file["blocks"] *= 20_000
    file["size_bytes"] *= 20_000


def repeat(index: Index) -> None:
    """More references than are taken."""
    index["files"][2]["blocks"] *= 300_000


def swap(index: Index) -> None:
    files = index["files"]
    files[1]["blocks"], files[2]["blocks"] = files[2]["blocks"], files[1]["blocks"]


HOSTILE: dict[str, tuple[Callable[[Index], Any], str]] = {
    "path out": (rename("../x"), "no valid index"),
    "absolute path": (rename("/tmp/x"), "no valid index"),
    "folder": (rename("a/b"), "no valid index"),
    "new line": (rename("a\n"), "no valid index"),
    "plans": (rename("plans"), "called plans"),
    "twice": (rename("manifest.json"), "one name"),
    "another name": (rename("model2.onnx"), "list other files"),
    "no files": (lambda index: index.update(files=[]), "no valid index"),
    "no manifest": (lambda index: index["files"].reverse(), "first file is not"),
    "fewer files": (lambda index: index["files"].pop(), "other blocks than it lists"),
    "unknown block": (lambda index: index["files"][2]["blocks"].append(10**5), "other blocks than it lists"),
    "huge number": (lambda index: index["files"][2]["blocks"].append(10**30), "no valid index"),
    "negative": (lambda index: index["files"][2]["blocks"].append(-1), "no valid index"),
    "unused block": (lambda index: index["files"][2].update(blocks=[]), "other blocks than it lists"),
    "block twice": (lambda index: index["blocks"].append(index["blocks"][0]), "a block is listed twice"),
    "huge block": (lambda index: index["blocks"][5].__setitem__(1, 1 << 40), "no valid index"),
    "empty block": (lambda index: index["blocks"][5].__setitem__(1, 0), "no valid index"),
    "wrong size": (lambda index: index["files"][2].update(size_bytes=1), "not as long as the file"),
    "bomb": (grow, "list other files"),
    "many parts": (repeat, "no valid index"),
    "swapped": (swap, "not as long as the file"),
    "left out": (lambda index: index["blocks"][5].__setitem__(2, False), "nothing says which bundle"),
    "left out manifest": (
        lambda index: index["blocks"][0].__setitem__(2, False),
        "manifest.json was left out",
    ),
    "unknown field": (lambda index: index.update(extra=1), "no valid index"),
    "another identity": (lambda index: index.update(manifest_sha256="0" * 64), "first file is not"),
    "another name of the bundle": (lambda index: index.update(name="x"), "list other files"),
}


@pytest.mark.parametrize("name", HOSTILE)
def test_a_hostile_index_with_the_right_checksum_is_refused(name: str, whole: Path, tmp_path: Path) -> None:
    change, words = HOSTILE[name]
    assert words in refused(with_index(whole.read_bytes(), change), tmp_path)


@pytest.mark.parametrize("text", [b"", b"{}", b"[]", b"[" * 100_000, b"\xff", b'{"files": NaN}'])
def test_an_index_that_is_none_is_refused(text: bytes, tmp_path: Path) -> None:
    assert "no valid index" in refused(joined(text, b""), tmp_path)


def test_blocks_of_right_hashes_in_a_wrong_order_are_no_bundle(whole: Path, tmp_path: Path) -> None:
    def turn(index: Index) -> None:
        index["files"][2]["blocks"].reverse()

    assert "does not hold a sound bundle" in refused(with_index(whole.read_bytes(), turn), tmp_path)


def test_a_file_longer_than_its_manifest_allows_is_refused_before_it_is_written(
    first: Path, tmp_path: Path
) -> None:
    data = packed_file(first, tmp_path / "x.vla").read_bytes()
    (tmp_path / "x.vla").unlink()
    index, rest = split(data)
    manifest_bytes = index["files"][0]["size_bytes"]
    manifest = json.loads(rest[:manifest_bytes])
    entry = next(entry for entry in manifest["files"] if entry["path"] == "golden.npz")
    file = next(file for file in index["files"] if file["path"] == "golden.npz")
    file["blocks"] *= 2000
    file["size_bytes"] *= 2000
    entry["size_bytes"] = file["size_bytes"]
    text = json.dumps(manifest, ensure_ascii=False).encode()
    import hashlib

    digest = hashlib.sha256(text).hexdigest()
    index["files"][0] |= {"size_bytes": len(text), "sha256": digest}
    index["manifest_sha256"] = digest
    index["blocks"][0] = [digest, len(text), True]
    made = joined(json.dumps(index).encode(), text + rest[manifest_bytes:])
    assert "by its manifest at most" in refused(made, tmp_path)


def test_a_base_that_lacks_a_block_is_named_with_what_to_do(
    update: Path, second: Path, tmp_path: Path
) -> None:
    file = tmp_path / "case.vla"
    file.write_bytes(update.read_bytes())
    with pytest.raises(
        BundleError, match=r"leaves out what tiny [0-9a-f]{12} has, and \d+ blocks of that"
    ) as caught:
        unpacked(file, tmp_path / "out")
    assert "--base BUNDLE" in caught.value.hint
    unpacked(file, tmp_path / "out", second)  # any bundle that has the blocks will do
    assert files_of(tmp_path / "out") == files_of(second)
