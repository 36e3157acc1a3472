"""Seeded damage to bytes, JSON, zip archives and pickles: the same number gives the same case, for ever.

Blind bytes rarely get past a checksum or a parser's first line, so each format is also damaged in its own
terms: a JSON value is replaced by a hostile one and written again, a pickle loses, repeats or gains an
opcode, an archive gets a changed member with a right checksum.
"""

from __future__ import annotations

import copy
import io
import json
import pickletools
import random
import struct
import warnings
import zipfile
from collections.abc import Callable, Sequence
from typing import Any

_EDGES = (0, 1, 0x7F, 0x80, 0xFF, 0x7FFF, 0xFFFF, 0x7FFFFFFF, 0x80000000, 0xFFFFFFFF, 2**63 - 1, 2**64 - 1)
_TEXTS = (
    "",
    " ",
    "\0",
    "\x1b[2J",
    "../../etc/passwd",
    "/dev/zero",
    "\u202e",
    "\ud800",
    "🤖" * 40,
    "a" * 5000,
)
_NUMBERS = (-1, 0, 1, 2, 255, 2**31, 2**32, 2**63, 10**30, -(2**63), 0.5, 1e-320, 1e308, -1e308)
_WORDS = (None, True, False, float("nan"), float("inf"), float("-inf"), [], {}, [[]], {"": {}}, [0] * 300)
_DEEP = 2000


def mutate_bytes(rng: random.Random, data: bytes) -> bytes:
    """One to four blind changes: bits, runs, edge numbers, cuts, repeats."""
    result = bytearray(data)
    for _ in range(rng.randint(1, 4)):
        _change_bytes(rng, result)
    return bytes(result)


def _change_bytes(rng: random.Random, data: bytearray) -> None:
    at = rng.randrange(len(data) + 1)
    length = min(rng.choice((1, 2, 4, 8, 64, 512)), len(data))
    kind = rng.randrange(6)
    if kind == 0 and data:
        data[at % len(data)] ^= 1 << rng.randrange(8)
    elif kind == 1:
        data[at : at + length] = rng.randbytes(length)
    elif kind == 2:
        width, form = rng.choice(((1, "B"), (2, "H"), (4, "I"), (8, "Q")))
        edge = rng.choice(_EDGES) & ((1 << (8 * width)) - 1)
        data[at : at + width] = struct.pack(rng.choice("<>") + form, edge)
    elif kind == 3:
        del data[at : at + length]
    elif kind == 4:
        source = rng.randrange(len(data) + 1)
        data[at:at] = data[source : source + length]
    elif rng.random() < 0.3:
        del data[at:]


def mutate_json(rng: random.Random, text: bytes) -> bytes:
    """A JSON document with one to three hostile values, and now and then blind damage on top."""
    value = json.loads(text)
    for _ in range(rng.choice((1, 1, 1, 2, 3))):
        value = _replace_somewhere(rng, value)
    try:
        result = json.dumps(value, ensure_ascii=rng.random() < 0.5).encode("utf-8", "surrogatepass")
    except RecursionError:
        result = text
    if rng.random() < 0.02:
        result = b"[" * _DEEP * 50 + result
    return mutate_bytes(rng, result) if rng.random() < 0.1 else result


def _replace_somewhere(rng: random.Random, root: Any) -> Any:
    """Change one value, found by walking down at random: shallow ones, which decide more, are likelier."""
    if not isinstance(root, (dict, list)) or not root or rng.random() < 0.01:
        return hostile_value(rng, root)
    root = copy.copy(root)
    key = rng.choice(list(root)) if isinstance(root, dict) else rng.randrange(len(root))
    action = rng.random()
    if action < 0.03:
        del root[key]
    elif action < 0.06:
        _add(rng, root, key)
    elif isinstance(root[key], (dict, list)) and root[key] and action < 0.95:
        root[key] = _replace_somewhere(rng, root[key])
    else:
        root[key] = hostile_value(rng, root[key])
    return root


def _add(rng: random.Random, root: Any, key: Any) -> None:
    if isinstance(root, dict):
        root[rng.choice(_TEXTS)] = root[key]
    else:
        root.extend([root[key]] * rng.choice((1, 2, 100)))


def hostile_value(rng: random.Random, value: Any) -> Any:
    """A value that fits the old one's type but not its sense; one time in five one of another type.

    Most readers refuse another type at once: what a schema lets through shows what stands behind it.
    """
    if rng.random() < 0.2:
        return _nested(rng.choice((50, _DEEP // 4))) if rng.random() < 0.1 else _of_any_type(rng)
    if isinstance(value, bool) or value is None:
        return rng.choice((True, False, None))
    if isinstance(value, int):
        return rng.choice((value + 1, value - 1, -value, value * 1000, 0, 1, rng.choice(_EDGES)))
    if isinstance(value, float):
        return rng.choice((-value, value * 1e6, value / 1e6, 0.0, 1e308, -1e308, 1e-320))
    if isinstance(value, str):
        return _other_text(rng, value)
    if isinstance(value, list):
        return rng.choice((value[:1], value[1:], value[::-1], value * 2, value * 50, []))
    return {} if rng.random() < 0.3 else dict(list(value.items())[1:]) if isinstance(value, dict) else value


def _of_any_type(rng: random.Random) -> Any:
    return rng.choice(rng.choice((_TEXTS, _NUMBERS, _WORDS)))


def _other_text(rng: random.Random, text: str) -> str:
    cut = rng.randrange(len(text) + 1)
    letter = rng.choice("0af.-_/ {}'\"\x1b\0\u202e")
    if rng.random() < 0.1:
        return text[:cut] + rng.choice(_TEXTS)
    return rng.choice((text[:cut], text + text, text.swapcase(), text[:cut] + letter + text[cut + 1 :], ""))


def _nested(depth: int) -> list[Any]:
    value: list[Any] = []
    for _ in range(depth):
        value = [value]
    return value


def mutate_zip(rng: random.Random, data: bytes, change: Callable[[str, bytes], bytes]) -> bytes:
    """An archive with one member changed by `change`, its checksum right; or renamed, twice, missing, packed."""
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        members = [(entry.filename, archive.read(entry)) for entry in archive.infolist()]
    at = rng.randrange(len(members))
    name, content = members[at]
    kind, pack = rng.random(), zipfile.ZIP_STORED
    if kind < 0.75:
        members[at] = (name, change(name, content))
    elif kind < 0.8:
        members[at] = (rng.choice((name + "x", "../" + name, name.upper(), "/" + name)), content)
    elif kind < 0.85:
        members.insert(at, (name, change(name, content)))
    elif kind < 0.92:
        del members[at]
    else:
        pack = zipfile.ZIP_DEFLATED
    out = io.BytesIO()
    with warnings.catch_warnings(), zipfile.ZipFile(out, "w", pack) as archive:
        warnings.simplefilter("ignore")  # of one name twice, which is meant
        for name, content in members:
            archive.writestr(_zip_name(name), content)
    return out.getvalue()


def _zip_name(name: str) -> str:
    return name.replace("\0", "_")


def mutate_pickle(rng: random.Random, data: bytes, grafts: Sequence[bytes]) -> bytes:
    """A pickle with one to five opcodes removed, repeated, exchanged, changed inside, or grafted in."""
    try:
        starts = [at for _, _, at in pickletools.genops(data)]
    except Exception:  # not a pickle (any more): pickletools raises whatever it meets
        return mutate_bytes(rng, data)
    parts = [data[a:b] for a, b in zip(starts, [*starts[1:], len(data)], strict=True)]
    for _ in range(rng.randint(1, 5)):
        at, other = rng.randrange(len(parts)), rng.randrange(len(parts))
        kind = rng.randrange(6)
        if kind == 0 and len(parts) > 1:
            del parts[at]
        elif kind == 1:
            parts.insert(at, parts[other])
        elif kind == 2:
            parts[at], parts[other] = parts[other], parts[at]
        elif kind == 3:
            parts[at] = mutate_bytes(rng, parts[at])
        elif kind == 4:
            parts.insert(at, rng.choice(grafts))
        else:
            parts[at] = _other_number(rng, parts[at])
    return b"".join(parts)


def _other_number(rng: random.Random, part: bytes) -> bytes:
    """Another number in an opcode that carries one: sizes, offsets, memo places."""
    width = {1: 1, 2: 2, 4: 4, 8: 8}.get(len(part) - 1)
    if width is None:
        return part
    return part[:1] + (rng.choice(_EDGES) & ((1 << (8 * width)) - 1)).to_bytes(width, "little")
