"""Instructions with their token ids, as people write them on a command line."""

from __future__ import annotations

from collections.abc import Sequence

from vla_edge.runtime.bundle.manifest_checks import normal_text
from vla_edge.runtime.errors import InputError


def parse_explicit_ids(texts: Sequence[str]) -> dict[str, tuple[int, ...]]:
    """Read `--instruction-ids 'TEXT=0,64003,4,5,...'`.

    Raises:
        InputError: no "=", something that is not a list of numbers, or a text given twice.
    """
    result = {}
    for item in texts:
        text, sign, numbers = item.rpartition("=")
        try:
            ids = tuple(int(number) for number in numbers.split(","))
        except ValueError:
            ids = ()
        if not sign or not text.strip() or not ids or min(ids) < 0:
            raise InputError(
                f"--instruction-ids {item!r} is not TEXT=ID,ID,...", "Write the ids with commas between them."
            )
        key = normal_text(text)
        if key in result:
            raise InputError(f"--instruction-ids gives {key!r} twice.", "Give its ids once.")
        result[key] = ids
    return result
