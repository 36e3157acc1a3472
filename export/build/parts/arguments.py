"""How people write a number of parts, and an amount of memory."""

from __future__ import annotations

import math
import re
from pathlib import Path
from typing import Any

import click

# Large or small letters; a letter alone is, as docker and systemd have it, a power of 1024.
_PREFIXES = "kmgt"
_SIZE = re.compile(rf"([0-9]{{1,9}}(?:\.[0-9]{{1,9}})?) ?([{_PREFIXES}])(ib?|b)?", re.IGNORECASE)


class PartsType(click.ParamType):
    """ "auto", or a number from 1 up."""

    name = "parts"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        if isinstance(value, int):
            return value
        if value.lower() == "auto":
            return "auto"
        if not re.fullmatch("[0-9]{1,3}", value) or not int(value):  # the graph says how many at most
            self.fail(f"{value!r} is neither 'auto' nor a number of parts, such as 5.", param, ctx)
        return int(value)


class MemoryType(click.ParamType):
    """Such as "12GiB"; gives bytes."""

    name = "memory"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> int:
        if isinstance(value, int):
            return value
        found = _SIZE.fullmatch(value.strip())
        size = math.nan
        if found:
            base = 1000 if (found[3] or "").lower() == "b" else 1024
            size = float(found[1]) * base ** (_PREFIXES.index(found[2].lower()) + 1)
        if not size >= 1:
            self.fail(f"{value!r} is no amount of memory, such as 12GiB or 900MiB.", param, ctx)
        return int(size)


def bundle_folder(path: Path) -> Path:
    """The bundle that is meant, where somebody gives its manifest."""
    from vla_edge.runtime.bundle.manifest import MANIFEST_NAME

    return path.parent if path.name == MANIFEST_NAME and path.is_file() else path


def memory_options(command: Any) -> Any:
    """Add what helps where memory is short, for the fields of `BuildOptions` of these names."""
    return _level(_workspace(_ignore_memory(command)))


def cutting_options(command: Any) -> Any:
    """Add --parts and --memory-limit, for the fields of `BuildOptions` of these names."""
    return _parts(_memory_limit(command))


def parts_options(command: Any) -> Any:
    """The same with --no-reuse, for the field `reuse`."""
    return _parts(_memory_limit(_no_reuse(command)))


_level = click.option(
    "--level",
    type=click.IntRange(0, 5),
    default=3,
    show_default=True,
    help="How long to search for fast kernels.",
)
_workspace = click.option(
    "--workspace-mib", type=click.IntRange(1), help="Most scratch memory of a layer [all there is]."
)
_ignore_memory = click.option(
    "--ignore-memory", is_flag=True, help="Neither look at what memory is free, nor warn."
)
_parts = click.option(
    "--parts",
    type=PartsType(),
    default="auto",
    show_default=True,
    metavar="auto|N",
    help="Cut the graph into N parts, built one after another; auto: what is there, else the fewest that fit this "
    "machine's memory. What resizes a camera's frames is one more, always.",
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
