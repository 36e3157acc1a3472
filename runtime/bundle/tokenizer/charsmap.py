"""sentencepiece's compiled normalisation, as far as its cost can be told without running it.

Four bytes with the size of a trie (a double array of 32-bit units), the trie, then the replacements in
UTF-8, each ended by a NUL (sentencepiece, `normalizer.cc`, `DecodePrecompiledCharsMap`).
"""

from __future__ import annotations

import base64
import binascii


def longest_replacement(charsmap: str) -> int:
    """Bytes of the longest text that one match can become.

    Args:
        charsmap: base64.

    Raises:
        ValueError: not this format.
    """
    try:
        data = base64.b64decode(charsmap, validate=True)
    except binascii.Error as error:
        raise ValueError(f"its charsmap is not base64: {error}") from error
    size = int.from_bytes(data[:4], "little")
    if len(data) < 4 or size % 4 or size > len(data) - 4:
        raise ValueError("its charsmap is cut short")
    replacements = data[4 + size :]
    try:
        replacements.decode("utf-8")
    except UnicodeDecodeError as error:
        raise ValueError("its charsmap's replacements are not UTF-8") from error
    return max(map(len, replacements.split(b"\0")))
