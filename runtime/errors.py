"""Errors that a user of the toolchain can meet.

Each says what is wrong with which file or value, then what to do about it. Commands print them without a
traceback and leave with `exit_code`: 1 when the thing asked for failed, 2 for wrong use or bad input.
"""

from __future__ import annotations

from .printable import printable


class VlaError(Exception):
    """Base of every error raised on purpose.

    Args:
        problem: what is wrong, naming the file or value.
        hint: what the reader can do about it; one sentence, shown after the problem.
    """

    exit_code = 1

    def __init__(self, problem: str, hint: str = "") -> None:
        # Both quote files, which may hold escape sequences for whatever terminal or log shows them.
        self.problem = printable(problem)
        self.hint = printable(hint)
        super().__init__(f"{self.problem}\n{self.hint}" if hint else self.problem)


class InputError(VlaError):
    """An argument, setting or file given by the user cannot be used."""

    exit_code = 2


class BundleError(InputError):
    """A bundle is incomplete, damaged, tampered with, or of another schema version."""


class CheckpointError(InputError):
    """A checkpoint cannot be read, is refused, or is not one of the known layouts."""


class ImageError(InputError):
    """A frame is not an RGB image."""


class EpisodeError(InputError):
    """A recording cannot be read, is damaged, or does not hold what an episode needs."""


class InstructionError(InputError):
    """The bundle does not hold the instruction asked for."""


class EngineError(VlaError):
    """An engine cannot be loaded or run on this machine."""


class NonFiniteActionError(VlaError):
    """The engine returned NaN or infinity; the robot must stop."""


class ParityError(VlaError):
    """A written or built model differs from the PyTorch FP32 policy by more than its gates allow."""


class ResourceError(VlaError):
    """Not enough disk or memory for the work ahead."""


class MissingPackageError(VlaError):
    """A package that only an extra of vla-edge brings is not installed."""
