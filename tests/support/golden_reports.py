"""The example report as a terminal and Markdown show it, kept in two files; `python tests/support/golden_reports.py`
writes them anew after a change of what a report shows: look at the difference before it is committed."""

from __future__ import annotations

import io
from pathlib import Path

from bench_examples import example_report
from rich.console import Console

from vla_edge.bench.output.markdown import to_markdown
from vla_edge.bench.output.terminal import print_report

_FOLDER = Path(__file__).parents[1] / "bench" / "output"
TERMINAL, MARKDOWN = _FOLDER / "golden_report.txt", _FOLDER / "golden_report.md"


def in_a_terminal() -> str:
    """On 40 columns, the narrowest that is tested."""
    file = io.StringIO()
    print_report(example_report(), Console(file=file, width=40), full=False)
    return file.getvalue()


def in_markdown() -> str:
    return to_markdown(example_report())


if __name__ == "__main__":
    TERMINAL.write_text(in_a_terminal(), encoding="utf-8", newline="\n")
    MARKDOWN.write_text(in_markdown(), encoding="utf-8", newline="\n")
