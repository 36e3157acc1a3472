"""How people write a number of parts, and an amount of memory."""

from __future__ import annotations

import math
import re
from typing import Any

import click

_UNITS = {"KiB": 1 << 10, "MiB": 1 << 20, "GiB": 1 << 30, "kB": 10**3, "MB": 10**6, "GB": 10**9}
_SIZE = re.compile(rf"(\d{{1,9}}(?:\.\d{{1,9}})?) ?({'|'.join(_UNITS)})")
_MOST_PARTS = 64


class PartsType(click.ParamType):
    """ "auto", or a number from 1 up."""

    name = "parts"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        if value == "auto" or isinstance(value, int):
            return value
        if not re.fullmatch("[0-9]{1,3}", value) or not 1 <= int(value) <= _MOST_PARTS:
            self.fail(f"{value!r} is neither 'auto' nor a number from 1 to {_MOST_PARTS}.", param, ctx)
        return int(value)


class MemoryType(click.ParamType):
    """Such as "12GiB"; gives bytes."""

    name = "memory"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> int:
        if isinstance(value, int):
            return value
        found = _SIZE.fullmatch(value.strip())
        size = float(found[1]) * _UNITS[found[2]] if found else math.nan
        if not size >= 1:
            self.fail(f"{value!r} is no amount of memory, such as 12GiB or 900MiB.", param, ctx)
        return int(size)


def cutting_options(command: Any) -> Any:
    """Add --parts and --memory-limit, for the fields of `BuildOptions` of these names."""
    return _parts(_memory_limit(command))


def parts_options(command: Any) -> Any:
    """The same with --no-reuse, for the field `reuse`."""
    return _parts(_memory_limit(_no_reuse(command)))


_parts = click.option(
    "--parts",
    type=PartsType(),
    default="auto",
    show_default=True,
    metavar="auto|N",
    help="Cut the graph into N parts, built one after another; auto: what is there, else the fewest that fit this "
    "machine's memory.",
)
_memory_limit = click.option(
    "--memory-limit",
    type=MemoryType(),
    metavar="SIZE",
    help="Most memory for building a part, the GPU's too, such as 12GiB [what is free].",
)
_no_reuse = click.option(
    "--no-reuse",
    "reuse",
    is_flag=True,
    flag_value=False,
    default=True,
    help="Take no parts of plans that are in this bundle or in those beside it.",
)
