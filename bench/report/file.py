"""A report's file: read from anywhere, bounded and with every failure named; written whole or not at all."""

from __future__ import annotations

import os
import shlex
from pathlib import Path

from vla_edge.runtime.bundle.manifest import MANIFEST_NAME
from vla_edge.runtime.errors import InputError
from vla_edge.runtime.files.atomic import write_atomically
from vla_edge.runtime.files.regular_file import read_regular
from vla_edge.runtime.printable import one_line

from .codec import decode, encode
from .types import Report

# a report of thirty backends with `MOST_SAMPLES` of every figure
LARGEST_BYTES = 256 << 20
JSON_NAME, PARTIAL_NAME = "report.json", "report.partial.json"


def read_report(path: Path) -> Report:
    """A report.

    Args:
        path: a file, or the folder that `vla-bench --out` wrote it into.

    Raises:
        InputError: no such file, not a regular one, too large to be a report, or none of this schema version.
    """
    shown = one_line(str(path))
    try:
        if path.is_dir():
            path = _in_folder(path)
        data = read_regular(Path(os.path.realpath(path)), LARGEST_BYTES)
    except (OSError, ValueError) as error:  # ValueError: a path with a zero byte
        reason = error.strerror if isinstance(error, OSError) else error
        raise InputError(
            f"cannot read the report {shown}: {reason}.", "Write one with vla-bench --out or --json."
        ) from error
    if len(data) > LARGEST_BYTES:
        raise InputError(
            f"{shown} is no bench report: it has more than {LARGEST_BYTES >> 20} MiB.", "Name another file."
        )
    return decode(data, str(path))


def _in_folder(folder: Path) -> Path:
    path = folder / JSON_NAME
    if path.exists() or path.is_symlink():
        return path
    if (folder / MANIFEST_NAME).is_file():
        raise InputError(
            f"{one_line(str(folder))} is a bundle, no report: it has no {JSON_NAME}.",
            f"Measure it with: vla-bench {shlex.quote(one_line(str(folder)))} --out report/",
        )
    if (folder / PARTIAL_NAME).is_file():
        raise InputError(
            f"{one_line(str(folder))} has no {JSON_NAME}, only the {PARTIAL_NAME} of a bench that did not end.",
            "Name that file, or run the bench again.",
        )
    raise InputError(
        f"{one_line(str(folder))} has no {JSON_NAME}.",
        "Name the folder that was given to vla-bench with --out, or the file of its --json.",
    )


def check_writable(path: Path) -> None:
    """Refuse a report path before minutes of measuring, not after.

    Raises:
        InputError: the folder is missing or cannot be written, or the path is a folder.
    """
    if path.is_dir():
        raise InputError(f"cannot write the report to {path}: it is a folder.", "Name a file.")
    if path.exists() and not path.is_file():  # it would be replaced, not written to
        raise InputError(f"cannot write the report to {path}: it is a device or a pipe.", "Name a file.")
    if not path.parent.is_dir() or not os.access(path.parent, os.W_OK):
        raise InputError(
            f"cannot write the report to {path}: no writable folder {path.parent}.", "Create it first."
        )


def write(report: Report, path: Path) -> None:
    """Write the report as a whole or not at all."""
    write_atomically(path, lambda file: file.write(encode(report)))
