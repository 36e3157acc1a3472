"""What the doctor found: one thing each, how bad it is, and what to do."""

from __future__ import annotations

from typing import Literal, get_args

from msgspec import Struct

# From fine to bad. "unknown" is a check that could not be made, which is no fault of the machine.
Verdict = Literal["ok", "unknown", "warning", "stops"]
VERDICTS: tuple[Verdict, ...] = get_args(Verdict)


class Finding(Struct, frozen=True):
    """One thing that was looked at.

    Attributes:
        id: of the check, for programs; it stays the same in later versions.
        what: its name for people.
        found: what is there, one sentence or less.
        verdict: "stops" where no policy acts before it is fixed; "warning" where one does all the same.
        todo: what to do; empty where nothing is.
    """

    id: str
    what: str
    found: str
    verdict: Verdict = "ok"
    todo: str = ""


def untold(identity: str, what: str, why: str) -> Finding:
    """A check that failed itself."""
    return Finding(identity, what, f"could not be told: {why}", "unknown")
