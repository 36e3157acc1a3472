"""From what a user writes for a place to one, checked before anything moves."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from urllib.parse import urlsplit

from vla_edge.runtime.command.extras import require
from vla_edge.runtime.command.result_file import check_output
from vla_edge.runtime.errors import InputError
from vla_edge.runtime.printable import one_line

from .messages import Place

VIEWER = "viewer"
_SCHEMES = ("rerun", "rerun+http", "rerun+https")


def place_of(said: str) -> Place:
    """The place that is meant.

    Args:
        said: "viewer", a path that ends in .rrd, or `rerun+http://host:port/proxy`, its path left out or not.

    Raises:
        InputError: it is none of them, this machine has no screen, or the file cannot be written there.
        MissingPackageError: the extra [rerun] is not installed.
    """
    if said == VIEWER:
        place = _viewer()
    elif "://" in said:
        place = _address(said)
    elif said.lower().endswith(".rrd"):
        check_output(Path(said), {".rrd": None})
        place = Place("file", str(Path(said).absolute()))
    else:
        raise InputError(
            f"{one_line(said)} is no place to show a drive.",
            "Give FILE.rrd, rerun+http://HOST:9876, or --show alone, last or before another option.",
        )
    require("rerun", "rerun")
    return place


def _viewer() -> Place:
    if sys.platform.startswith("linux") and not (
        os.environ.get("DISPLAY") or os.environ.get("WAYLAND_DISPLAY")
    ):
        raise InputError(
            "this machine has no screen to open the viewer on.",
            "Give --show FILE.rrd, or run `rerun` on a machine that has one and give --show rerun+http://THAT-MACHINE:9876.",
        )
    return Place("viewer")


def _address(said: str) -> Place:
    try:
        parts = urlsplit(said)
        host, port = parts.hostname, parts.port
    except ValueError:
        host, port = None, None
    if (
        not host
        or not port
        or "@" in said
        or parts.scheme not in _SCHEMES
        or parts.path not in ("", "/", "/proxy")
    ):
        raise InputError(
            f"{one_line(said)} is no address of a viewer.", "Write it as rerun+http://HOST:9876/proxy."
        )
    return Place("address", f"{parts.scheme}://{parts.netloc}/proxy")
