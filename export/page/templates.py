"""Templates of pages: one style sheet for all, every value escaped, a name that is missing an error."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from vla_edge.runtime.printable import one_line

if TYPE_CHECKING:
    from jinja2 import Environment

STYLE = Path(__file__).parent / "page.css"  # a template itself: `{% include "page.css" %}`
TEXT_LIMIT = 2000


def environment(folder: Path, finalize: Callable[[Any], Any] | None = None) -> Environment:
    """What fills the templates of a folder.

    Args:
        folder: has the page's own templates.
        finalize: makes each value fit to be shown; None is `shown`.
    """
    from jinja2 import Environment, FileSystemLoader, StrictUndefined

    return Environment(
        loader=FileSystemLoader([folder, STYLE.parent]),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        finalize=finalize or shown,
    )


def shown(value: Any) -> Any:
    """No control or direction character of a name reaches the page, and no endless one; markup is markup already."""
    return one_line(value[:TEXT_LIMIT]) if type(value) is str else value
