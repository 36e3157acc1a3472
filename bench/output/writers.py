"""Writing a report in every form into one folder."""

from __future__ import annotations

import importlib.util
import os
from pathlib import Path

from vla_edge.runtime.atomic import write_atomically
from vla_edge.runtime.errors import InputError

from ..report import Report, check_writable, write

JSON_NAME, CSV_NAME, MARKDOWN_NAME, PAGE_NAME = OUTPUT_NAMES = (
    "report.json",
    "report.csv",
    "report.md",
    "report.html",
)
PAGE_LIBRARIES = ("jinja2", "matplotlib")


def prepare_folder(folder: Path) -> None:
    """Make the folder, and refuse before minutes of measuring what would fail after them.

    Raises:
        InputError: the folder cannot be made or written, a report's name is a folder's, or a library that
            draws the page is not installed.
    """
    missing = [name for name in PAGE_LIBRARIES if importlib.util.find_spec(name) is None]
    if missing:
        raise InputError(
            f"the page needs {' and '.join(missing)}, not installed here.", "pip install 'vla-edge[bench]'"
        )
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise InputError(
            f"cannot make the folder {folder} for the reports: {error.strerror}.", "Name another with --out."
        ) from error
    if not os.access(folder, os.W_OK | os.X_OK):
        raise InputError(f"cannot write into the folder {folder}.", "Name another with --out.")
    for name in OUTPUT_NAMES:
        check_writable(folder / name)


def write_outputs(report: Report, folder: Path) -> tuple[Path, ...]:
    """Write report.json, report.csv, report.md and report.html, the raw samples first; each whole or not at all.

    Returns:
        The files written.

    Raises:
        OSError: a file cannot be written; those before it stay.
    """
    from .csv_table import to_csv
    from .markdown import to_markdown
    from .page import write_page

    write(report, folder / JSON_NAME)
    _write_text(folder / CSV_NAME, to_csv(report))
    _write_text(folder / MARKDOWN_NAME, to_markdown(report))
    write_page(report, folder / PAGE_NAME)
    return tuple(folder / name for name in OUTPUT_NAMES)


def _write_text(path: Path, text: str) -> None:
    write_atomically(path, lambda file: file.write(text.encode()))
