"""Writing a report in every form into one folder."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import BinaryIO

from vla_edge.bench.report.codec import encode
from vla_edge.bench.report.file import JSON_NAME, check_writable
from vla_edge.bench.report.types import Report
from vla_edge.runtime.command.extras import require
from vla_edge.runtime.files.atomic import write_all_atomically
from vla_edge.runtime.files.writable import refuse_unwritable

from .marks import refuse_foreign

OUTPUT_NAMES = (JSON_NAME, "report.csv", "report.md", "report.html")


def prepare_folder(folder: Path) -> None:
    """Make the folder, and refuse before minutes of measuring what would fail after them.

    Raises:
        InputError: the folder cannot be made or written, a report's name is a folder's, or that of a
            file that vla-bench did not write.
        MissingPackageError: what makes the page is not installed.
    """
    require("bench", "jinja2")
    refuse_unwritable(folder, "name another with --out")
    folder.mkdir(parents=True, exist_ok=True)
    for name in OUTPUT_NAMES:
        check_writable(folder / name)
        refuse_foreign(folder / name)


def write_outputs(report: Report, folder: Path) -> tuple[Path, ...]:
    """Write report.json, report.csv, report.md and report.html: all of them, each whole, or none.

    Returns:
        The files written.

    Raises:
        OSError: a file cannot be written; no file has appeared or changed.
    """
    from .csv_table import to_csv
    from .markdown import to_markdown
    from .page import to_page

    texts = (make(report).encode() for make in (to_csv, to_markdown, to_page))
    paths = tuple(folder / name for name in OUTPUT_NAMES)
    contents = zip(paths, (encode(report), *texts), strict=True)
    write_all_atomically({path: partial(_write, data) for path, data in contents})
    return paths


def _write(data: bytes, file: BinaryIO) -> None:
    file.write(data)
