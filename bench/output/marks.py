"""Which files vla-bench wrote itself, and so may write over: nobody's own report.md is lost to one of ours."""

from __future__ import annotations

from pathlib import Path

from vla_edge.runtime.errors import InputError

# at the head of Markdown, where a reader does not see it, and of the page
MARKDOWN_MARK = "<!-- written by vla-bench -->"
GENERATOR = "vla-bench"
# of all forms, by the file's suffix; JSON is indented by one at its top, and names its tool early
_MARKS = {
    ".json": b'\n "tool": "vla-edge ',
    ".csv": b"created_utc,tool,device,",
    ".md": MARKDOWN_MARK.encode(),
    ".html": b'<meta name="generator" content="vla-bench">',
}
_HEAD_BYTES = 4096


def is_ours(path: Path) -> bool:
    """Whether a file has the mark of its form near its head."""
    with path.open("rb") as file:
        return _MARKS[path.suffix] in file.read(_HEAD_BYTES)


def refuse_foreign(path: Path) -> None:
    """Refuse to write over a file that vla-bench did not write; an empty one holds nothing to lose.

    Raises:
        InputError: such a file is there, or it cannot be read to tell.
    """
    hint = "Move it away, or name another place with --out."
    try:
        foreign = path.exists() and path.stat().st_size > 0 and not is_ours(path)
    except OSError as error:
        raise InputError(f"cannot tell whether vla-bench wrote {path}: {error.strerror}.", hint) from error
    if foreign:
        raise InputError(f"{path} is there already, and vla-bench did not write it.", hint)
