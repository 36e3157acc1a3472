"""What `vla-export --list-settings` shows: every setting, its default, what it may be, and how sure that is."""

from __future__ import annotations

import sys
from typing import Any

import msgspec

from vla_edge.runtime.command.json_text import json_text

from .rules import SettingRules

Rules = SettingRules[Any, Any]


def settings_listed(rules: Rules) -> list[dict[str, Any]]:
    """Every setting in JSON's own types: name, default, default_by_layout, choices, standing, why.

    `choices` is empty where a setting is free; `standing` is "exact", "likely" or "unknown".
    """
    defaults = msgspec.to_builtins(rules.struct())
    listed = []
    for name, text in rules.standing.items():
        head, _, why = text.partition(": ")
        listed.append(
            {
                "name": name,
                "default": defaults[name],
                "default_by_layout": rules.by_layout.get(name),
                "choices": list(rules.choices(name)),
                "standing": head.split()[0].rstrip(","),
                "why": why or text,
            }
        )
    return listed


def print_settings(rules: Rules, as_json: bool) -> None:
    """Print the settings: a block each, readable at any width and in any encoding, or JSON."""
    text = json_text(settings_listed(rules)) if as_json else _as_text(rules)
    encoding = sys.stdout.encoding or "utf-8"
    print(text.encode(encoding, errors="backslashreplace").decode(encoding))


def _as_text(rules: Rules) -> str:
    import shutil

    from vla_edge.runtime.command.streams import plus_minus
    from vla_edge.runtime.command.wrapping import folded, in_lines

    width = min(shutil.get_terminal_size().columns, 110)

    def wrapped(label: str, text: str) -> list[str]:
        heads = (f"  {label:<9}", " " * 11)
        return [f"{heads[at > 0]}{line}" for at, line in enumerate(in_lines(text, width - len(heads[0])))]

    head = "Settings of the forward pass: what a checkpoint does not say about how it was used."
    lines = [folded(head, width)]
    if rules.by_layout:
        lines.append(folded(f"Defaults of {', '.join(rules.by_layout)} depend on the layout.", width))
    lines.append("")
    for setting in settings_listed(rules):
        default = setting["default_by_layout"] or json_text(setting["default"], indent=None)
        lines.append(setting["name"])
        lines += wrapped("default", default)
        if setting["choices"]:
            lines += wrapped("choices", ", ".join(setting["choices"]))
        lines += wrapped(setting["standing"], setting["why"].replace("+-", plus_minus()))
    return "\n".join([*lines, "", folded(rules.example, width)])
