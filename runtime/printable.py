"""Texts from files, such as a bundle's name, as a terminal or a log may see them."""

from __future__ import annotations

import logging
import unicodedata

IN_COMMAND = "in_command"  # attribute of a log record: its text where a command, not a program, shows it
_KEPT = "\n\t "


def printable(text: str) -> str:
    """The text with everything escaped that could command a terminal or turn its letters round.

    Control and formatting characters (an escape sequence, a bidirectional override), lone surrogates and
    code points without a character become `\\x1b`, `\\u202e` and the like; line breaks and tabs stay.
    """
    if text.isascii() and text.isprintable():
        return text
    return "".join(letter if is_harmless(letter) else _escaped(letter) for letter in text)


def one_line(text: str) -> str:
    """As `printable`, for a text that must not break its line: a name could forge the next line, or a column."""
    return printable(text).replace("\n", "\\n").replace("\t", "\\t")


def is_harmless(letter: str) -> bool:
    """Whether a terminal just shows this letter."""
    # Space separators are not printable to Python, but Korean and Japanese text has wide ones.
    return letter.isprintable() or letter in _KEPT or unicodedata.category(letter) == "Zs"


def _escaped(letter: str) -> str:
    return letter.encode("unicode_escape").decode("ascii")


class PrintableFormatter(logging.Formatter):
    """A formatter of log lines whose arguments may be texts from files."""

    def format(self, record: logging.LogRecord) -> str:
        return printable(super().format(record))
