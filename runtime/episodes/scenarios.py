"""What a recording was to do, told by its file's name, as the training script took it."""

from __future__ import annotations

import re

LEFT = "가장 왼쪽 외곽으로 돌아 컵까지 가세요"
RIGHT = "가장 오른쪽 외곽으로 돌아 컵까지 가세요"
OTHER = "컵까지 가세요"

# One or two boxes, lying or standing, and the side to pass them on.
SCENARIOS = tuple(
    f"{boxes}box_{pose}_{side}" for boxes in (1, 2) for pose in ("vert", "hori") for side in ("left", "right")
)

_WORD = re.compile(r"[a-z0-9]+")


def instruction_of(name: str) -> str:
    """The instruction of a recording that is called so: by "left" or "right" among the words of its name."""
    words = _WORD.findall(name.lower())
    if ("left" in words) != ("right" in words):
        return LEFT if "left" in words else RIGHT
    return OTHER


def told_instruction(name: str) -> str | None:
    """As `instruction_of`, but None of a name that is no scenario's: other people's files mean nothing by "left"."""
    return instruction_of(name) if any(scenario in name.lower() for scenario in SCENARIOS) else None
