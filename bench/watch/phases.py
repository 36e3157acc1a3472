"""The phases of a measuring process, in their order."""

from __future__ import annotations

from typing import Literal

Phase = Literal[
    "start",
    "import",
    "load",
    "first call",
    "warm-up",
    "measure",
    "parity",
    "act",
    "paced",
    "frames",
    "profile",
]
TIMED_PHASE: Phase = "measure"
# while latency is measured the parent keeps off the cores
QUIET_PHASES: tuple[Phase, ...] = (TIMED_PHASE, "act", "paced")
# a profile holds weights or activations twice, which no robot does
UNCOUNTED_PHASES: tuple[Phase, ...] = ("profile",)
