"""The kinds of reasons to stop: few and fixed, to be counted, where a reason's words hold figures."""

from __future__ import annotations

import enum

from vla_edge.runtime.errors import EngineError, ImageError, NonFiniteActionError, VlaError

from .clock_watch import ClockError
from .frame_watch import BlindError, FrozenError


class Cause(str, enum.Enum):
    """Why a robot was stopped."""

    LATE = "late"
    HANG = "hang"
    ENGINE = "engine"
    NOT_FINITE = "not finite"
    CAMERA = "camera"
    FRAME = "frame"
    FROZEN = "frozen"
    BLIND = "blind"
    STALE = "stale"
    CLOCK = "clock"
    ROBOT = "robot"
    SIGNAL = "signal"
    PARENT = "parent"
    HALT = "halt"
    OPERATOR = "operator"  # who may start it again: no fault, though latched like one
    END = "end"
    OTHER = "other"


_BY_ERROR: tuple[tuple[type[BaseException], Cause], ...] = (
    (FrozenError, Cause.FROZEN),
    (BlindError, Cause.BLIND),
    (ImageError, Cause.FRAME),
    (NonFiniteActionError, Cause.NOT_FINITE),
    (EngineError, Cause.ENGINE),
    (ClockError, Cause.CLOCK),
)


def cause_of(error: BaseException) -> Cause:
    """Of what was raised; an error of ours may say it itself, as its attribute `cause`."""
    told = error.__dict__.get("cause") if isinstance(error, VlaError) else None
    if isinstance(told, Cause):
        return told
    return next((cause for kind, cause in _BY_ERROR if issubclass(type(error), kind)), Cause.OTHER)
