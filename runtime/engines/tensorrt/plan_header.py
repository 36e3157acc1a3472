"""The first bytes of a plan: which TensorRT wrote it.

NVIDIA publishes no layout. Known: bytes 24 to 27 are major, minor, patch and build of TensorRT
(an engineer's answer in NVIDIA/TensorRT issue 3073, which Autoware relies on since), and plans begin with
a tag of four letters. TensorRT-RTX 1.7 keeps the same places with the tag "vtrt" (read from plans built
here: bytes 16 to 23 are the file's size). A header that does not look so is not judged: the side file
rules, and TensorRT itself refuses what it cannot read.
"""

from __future__ import annotations

from dataclasses import dataclass

_TAGS = (b"ftrt", b"vtrt")
_VERSION_AT = 24


@dataclass(frozen=True)
class PlanHeader:
    """TensorRT's version as a plan carries it: major, minor, patch, build; each at most 255."""

    numbers: tuple[int, int, int, int]

    def is_version(self, version: str) -> bool:
        """Whether a version such as "10.6.0" or "1.7.1.116" has this major, minor and patch number.

        The build number is left out: a byte does not hold every one of them.
        """
        parts = version.split(".")[:3]
        return parts == [str(number) for number in self.numbers[: len(parts)]]

    def __str__(self) -> str:
        return ".".join(map(str, self.numbers))


def read_header(start: bytes) -> PlanHeader | None:
    """The version in the first 28 bytes of a plan, or None where the layout is not the known one."""
    if len(start) < _VERSION_AT + 4 or start[:4] not in _TAGS:
        return None
    major, minor, patch, build = start[_VERSION_AT : _VERSION_AT + 4]
    return PlanHeader((major, minor, patch, build)) if major else None
