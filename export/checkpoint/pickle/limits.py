"""What a pickle may use: a small file could otherwise ask for any amount of time and memory."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

MAX_STEPS = 4_000_000
# Longer text and bytes are stepped over; a stand-in keeps their length.
KEPT_BYTES = 1 << 20
# All text and bytes that are kept, and all elements that are copied, of one pickle
MAX_KEPT = 32 << 20
MAX_INTEGER_BYTES = 128
MAX_DIGITS = 300
MAX_LINE_BYTES = 4096
# A file could choose numbers and tuples that fall into one bucket of a dictionary; text is hashed with a secret.
MAX_ODD_KEYS = 10_000
MAX_KEY_INTEGER = 1 << 60
MAX_KEY_PARTS = 16
MAX_PATH_PARTS = 256


class UnreadablePickleError(ValueError):
    """The pickle is damaged, or beyond a limit."""


class PickleLimitError(UnreadablePickleError):
    """The pickle asks for more than is read; it may be whole and honest."""


@dataclass(frozen=True)
class LongText:
    """Text or bytes too long to be kept."""

    size_bytes: int


class Budget:
    """What one pickle may still use."""

    def __init__(self) -> None:
        self._kept = MAX_KEPT
        self._odd_keys = MAX_ODD_KEYS

    def spend(self, amount: int) -> None:
        """Count bytes that are kept, or elements that are copied."""
        self._kept -= amount
        if self._kept < 0:
            raise PickleLimitError(f"it builds more than {MAX_KEPT:,} bytes and elements beside the tensors")

    def key(self, key: Any) -> Any:
        """A key of a dictionary or element of a set, if hashing it is harmless."""
        if key is None or isinstance(key, (str, bytes, bool)) or _all_text(key):
            return key
        self._odd_keys -= not (isinstance(key, int) and 0 <= key <= MAX_KEPT)
        if self._odd_keys < 0:
            raise PickleLimitError(
                f"more than {MAX_ODD_KEYS:,} of its keys are neither text nor small numbers"
            )
        parts = key if type(key) is tuple else (key,)
        if len(parts) > MAX_KEY_PARTS or not all(map(_hashable, parts)):
            raise PickleLimitError("a key is neither text, nor a number, nor a short tuple of them")
        return key


def _all_text(key: Any) -> bool:
    """Such as a pair of a tokenizer's merges, of which there are many thousands."""
    return (
        type(key) is tuple
        and len(key) <= MAX_KEY_PARTS
        and all(isinstance(part, (str, bytes)) for part in key)
    )


def _hashable(part: Any) -> bool:
    if isinstance(part, (int, float)):
        return part != part or abs(part) <= MAX_KEY_INTEGER
    return part is None or isinstance(part, (str, bytes)) or getattr(part, "hashable", False)
