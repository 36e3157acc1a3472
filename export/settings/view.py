"""What `vla-export --list-settings` shows: every setting, its default, what it may be, and how sure that is."""

from __future__ import annotations

import sys
from typing import Any

import msgspec

from vla_edge.export.kosmos2.settings import STANDING, PolicySettings, choices_of
from vla_edge.runtime.command.json_text import json_text

BY_LAYOUT = {
    "features": "by the layout: text; text, clip_image; vision, clip_image; vision, clip_image, clip_text",
    "final_tanh": "true for the pure policy, false for hybrids",
    "clip_activation": "gelu for open_clip's checkpoints, quick_gelu for others",
}
_EXAMPLE = (
    "Change one: --set pooling=mean. A list: --set 'action_scale=[2.0,2.0]'. Many: --settings FILE.yaml"
)


def settings_listed() -> list[dict[str, Any]]:
    """Every setting in JSON's own types: name, default, default_by_layout, choices, standing, why.

    `choices` is empty where a setting is free; `standing` is "exact", "likely" or "unknown".
    """
    defaults = msgspec.to_builtins(PolicySettings())
    listed = []
    for name, text in STANDING.items():
        head, _, why = text.partition(": ")
        listed.append(
            {
                "name": name,
                "default": defaults[name],
                "default_by_layout": BY_LAYOUT.get(name),
                "choices": list(choices_of(name)),
                "standing": head.split()[0].rstrip(","),
                "why": why or text,
            }
        )
    return listed


def print_settings(as_json: bool) -> None:
    """Print the settings: a block each, readable at any width and in any encoding, or JSON."""
    text = json_text(settings_listed()) if as_json else _as_text()
    encoding = sys.stdout.encoding or "utf-8"
    print(text.encode(encoding, errors="backslashreplace").decode(encoding))


def _as_text() -> str:
    import shutil

    from vla_edge.runtime.command.streams import plus_minus
    from vla_edge.runtime.command.wrapping import folded, in_lines

    width = min(shutil.get_terminal_size().columns, 110)

    def wrapped(label: str, text: str) -> list[str]:
        heads = (f"  {label:<9}", " " * 11)
        return [f"{heads[at > 0]}{line}" for at, line in enumerate(in_lines(text, width - len(heads[0])))]

    head = "Settings of the forward pass: what a checkpoint does not say about how it was used."
    lines = [
        folded(head, width),
        folded(f"Defaults of {', '.join(BY_LAYOUT)} depend on the layout.", width),
        "",
    ]
    for setting in settings_listed():
        default = setting["default_by_layout"] or json_text(setting["default"], indent=None)
        lines.append(setting["name"])
        lines += wrapped("default", default)
        if setting["choices"]:
            lines += wrapped("choices", ", ".join(setting["choices"]))
        lines += wrapped(setting["standing"], setting["why"].replace("+-", plus_minus()))
    return "\n".join([*lines, "", folded(_EXAMPLE, width)])
