"""What `vla-build` tells the process that builds, and what that tells back.

JSON messages over a pipe of their own, since libraries print to standard output. `parent.py` is the side that waits,
`child.py` the one that builds.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import msgspec
from msgspec import Struct

from vla_edge.export.build.options import BuildOptions
from vla_edge.export.build.timing_cache import CacheState
from vla_edge.runtime.engines.tensorrt.record import Contents


class Job(Struct, frozen=True, kw_only=True):
    """One plan to build.

    Attributes:
        model: the ONNX file, its data file beside it.
        plan: where to write the plan, whole or not at all.
        options: how to build; `sm` names what for where it is not the GPU that is here.
        timing_cache: file of kernel times; None for none.
        taps: tensors to return beside the graph's outputs.
        log_level: from which on log records are sent.
        parent: number of the process that waits.
    """

    model: Path
    plan: Path
    options: BuildOptions
    timing_cache: Path | None
    taps: tuple[str, ...] = ()
    log_level: int
    parent: int


class Started(Struct, frozen=True, tag="started"):
    """A phase of the builder began, as `BuildProgress.start` is told."""

    phase: str
    parent: str | None
    steps: int


class Stepped(Struct, frozen=True, tag="stepped"):
    """A step of a phase is done."""

    phase: str
    done: int


class Finished(Struct, frozen=True, tag="finished"):
    """A phase ended."""

    phase: str


class Logged(Struct, frozen=True, tag="logged"):
    """A log record, its traceback in its text."""

    name: str
    level: int
    text: str


class Done(Struct, frozen=True, tag="done"):
    """The plan is written."""

    contents: Contents
    timing_cache: CacheState


class Refused(Struct, frozen=True, tag="refused"):
    """There is no plan: a `VlaError` by the name of its class."""

    error: str
    problem: str
    hint: str


Message = Started | Stepped | Finished | Logged | Done | Refused


def encode(message: Job | Message) -> bytes:
    # Not `msgspec.json`, which takes no names of files that are not UTF-8, here or in the words of an error.
    return json.dumps(msgspec.to_builtins(message, enc_hook=str)).encode("ascii")


def decode_job(data: bytes) -> Job:
    return msgspec.convert(_values(data), Job, dec_hook=_path)


def decode_message(data: bytes) -> Message:
    """What the other process told.

    Raises:
        msgspec.DecodeError: no message.
    """
    message: Message = msgspec.convert(_values(data), Message)
    return message


def _values(data: bytes) -> Any:
    try:
        return json.loads(data)
    except (ValueError, RecursionError) as error:
        raise msgspec.DecodeError(str(error)) from error


def _path(kind: type, value: Any) -> Any:
    return kind(value)
