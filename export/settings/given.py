"""A settings file in its two halves: what its writer chose, and what `vla-settings` found on recorded episodes.

The found half is one mapping, `episodes`, with `settings` and `evidence`, a sentence that goes into the manifest as
the standing of each. Whatever stands beside it wins, so that a found file can be changed by hand.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from vla_edge.runtime.errors import InputError

from .text import read_settings_file

EPISODES = "episodes"
_SETTINGS, _EVIDENCE = "settings", "evidence"
_STANDINGS = ("exact: ", "likely: ")  # as every standing begins; what was found is never a guess
MAX_EVIDENCE = 1000


@dataclass(frozen=True)
class GivenSettings:
    """Settings from a file.

    Attributes:
        chosen: by whoever wrote the file.
        found: on recorded episodes; without those that are chosen, too.
        evidence: the standing of all that were found: "exact: ..." or "likely: ...".
    """

    chosen: Mapping[str, Any] = field(default_factory=dict)
    found: Mapping[str, Any] = field(default_factory=dict)
    evidence: str = ""

    @property
    def names(self) -> tuple[str, ...]:
        return (*self.found, *self.chosen)


def read_given(path: Path) -> GivenSettings:
    """Read a settings file, found settings included.

    Raises:
        InputError: as `read_settings_file`, or its `episodes` are not as `vla-settings` writes them.
    """
    chosen = read_settings_file(path)
    if EPISODES not in chosen:
        return GivenSettings(chosen)
    half = chosen.pop(EPISODES)
    settings = half.get(_SETTINGS) if isinstance(half, dict) else None
    evidence = half.get(_EVIDENCE) if isinstance(half, dict) else None
    if not isinstance(settings, dict) or not isinstance(evidence, str) or len(half) != 2:
        raise InputError(
            f"{path}: its 'episodes' are not '{_SETTINGS}' and '{_EVIDENCE}'.",
            "Leave that part as vla-settings wrote it; what stands beside it wins.",
        )
    if not evidence.startswith(_STANDINGS) or len(evidence) > MAX_EVIDENCE:
        raise InputError(
            f"{path}: the evidence of its 'episodes' is not as vla-settings writes it.",
            "Let vla-settings write the file again.",
        )
    return GivenSettings(
        chosen, {name: value for name, value in settings.items() if name not in chosen}, evidence
    )


def found_text(
    settings: Mapping[str, Any],
    evidence: str,
    remarks: str = "",
    chosen: Mapping[str, Any] | None = None,
) -> str:
    """A settings file, YAML, of what was found and what was chosen beforehand; `remarks` become comments above it."""
    import json

    lines = [f"# {line}".rstrip() for line in remarks.splitlines()]
    lines += [f"{EPISODES}:", f"  {_EVIDENCE}: {json.dumps(evidence[:MAX_EVIDENCE], ensure_ascii=False)}"]
    lines.append(f"  {_SETTINGS}:{'' if settings else ' {}'}")
    # JSON's notation of a value is YAML's too, and says each kind
    lines += [f"    {name}: {json.dumps(value, ensure_ascii=False)}" for name, value in settings.items()]
    lines += [f"{name}: {json.dumps(value, ensure_ascii=False)}" for name, value in (chosen or {}).items()]
    return "\n".join([*lines, ""])
