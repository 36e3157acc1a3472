"""Image files written byte by byte: kinds that no library writes by default, and hostile ones."""

from __future__ import annotations

import struct
import zlib

WIDTH, HEIGHT = 64, 48


def chunk(kind: bytes, content: bytes) -> bytes:
    return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))


def png(
    bits: int, colour: int, rows: bytes, *, size: tuple[int, int] = (WIDTH, HEIGHT), extra: bytes = b""
) -> bytes:
    """`colour` as PNG numbers it: 0 grey, 2 RGB, 4 grey with alpha, 6 RGBA; `extra` are chunks before the pixels."""
    head = struct.pack(">IIBBBBB", *size, bits, colour, 0, 0, 0)
    body = chunk(b"IHDR", head) + extra + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")
    return b"\x89PNG\r\n\x1a\n" + body


def tiff(bits: int, samples: int, photometric: int, *, compression: int = 1, **tags: int) -> bytes:
    """Black. `photometric`: 1 grey, 2 RGB, 5 CMYK, 8 LAB. `tags`: orientation, tile_width, tile_height."""
    names = {"orientation": 274, "tile_width": 322, "tile_height": 323}
    pixels = bytes(WIDTH * HEIGHT * samples * bits // 8)
    if compression == 8:
        pixels = zlib.compress(pixels)
    entries = {256: WIDTH, 257: HEIGHT, 259: compression, 262: photometric, 277: samples}
    entries |= {names[name]: value for name, value in tags.items()}
    # tiles or strips: where they are, and of how many bytes
    place, length = (324, 325) if "tile_width" in tags else (273, 279)
    if place == 273:
        entries[278] = HEIGHT
    start = 8 + 2 + 12 * (len(entries) + 3) + 4
    entries |= {258: start, place: start + 2 * samples, length: len(pixels)}
    if samples == 1:
        entries[258] = bits
    listed = [
        struct.pack("<HHII", tag, 3 if tag == 258 else 4, samples if tag == 258 else 1, entries[tag])
        for tag in sorted(entries)
    ]
    head = struct.pack("<2sHIH", b"II", 42, 8, len(listed)) + b"".join(listed) + struct.pack("<I", 0)
    return head + struct.pack(f"<{samples}H", *[bits] * samples) + pixels


def run_length_bmp(width: int, height: int) -> bytes:
    data = b"\1\1\0\0" * height
    head = struct.pack("<IiiHHIIiiII", 40, width, height, 1, 8, 1, len(data), 0, 0, 256, 0)
    return b"BM" + struct.pack("<IHHI", 1078 + len(data), 0, 0, 1078) + head + bytes(1024) + data


def exif_of_many_tags(count: int) -> bytes:
    """Every tag claims the whole block: read in full they would be `count` times as much."""
    tags = b"".join(struct.pack("<HHII", tag, 1, 12 * count, 8) for tag in range(count))
    return struct.pack("<2sHIH", b"II", 42, 8, count) + tags + bytes(4)
