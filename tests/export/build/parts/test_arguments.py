"""A number of parts and an amount of memory, as people write them."""

from __future__ import annotations

import click
import pytest

from vla_edge.export.build.parts.arguments import MemoryType, PartsType


@pytest.mark.parametrize(
    ("text", "value"), [("auto", "auto"), ("1", 1), ("64", 64), ("05", 5), ("AUTO", "auto")]
)
def test_parts(text: str, value: object) -> None:
    assert PartsType().convert(text, None, None) == value


@pytest.mark.parametrize("text", ["0", "-1", "all", "", "1.5", "１", "9999"])
def test_no_parts(text: str) -> None:
    with pytest.raises(click.BadParameter, match="neither 'auto' nor a number of parts, such as 5"):
        PartsType().convert(text, None, None)


@pytest.mark.parametrize(
    ("text", "size"),
    [
        ("12GiB", 12 << 30),
        ("1.5 GiB", 3 << 29),
        ("900MiB", 900 << 20),
        ("12GB", 12 * 10**9),
        ("64KiB", 1 << 16),
        ("12gib", 12 << 30),
        ("12g", 12 << 30),
        ("12Gi", 12 << 30),
        ("1TiB", 1 << 40),
        ("900 mb", 900 * 10**6),
    ],
)
def test_memory(text: str, size: int) -> None:
    assert MemoryType().convert(text, None, None) == size


@pytest.mark.parametrize(
    "text", ["12", "12B", "GiB", "-1GiB", "0GiB", "nanGiB", "1e9GiB", "", "12gibs", "１GiB", "1,5GiB"]
)
def test_no_memory(text: str) -> None:
    with pytest.raises(click.BadParameter, match="no amount of memory, such as 12GiB or 900MiB"):
        MemoryType().convert(text, None, None)
