"""Text from a file as a terminal may see it."""

from __future__ import annotations


def printable(text: str) -> str:
    """Control characters, which could command a terminal, are escaped."""
    return "".join(
        letter if letter.isprintable() or letter == "\n" else letter.encode("unicode_escape").decode()
        for letter in text
    )
