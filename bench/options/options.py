"""The options of a bench run. A field added here is an option of `vla-bench`, reaches the worker, and is reported."""

from __future__ import annotations

from typing import Annotated, Literal

from msgspec import Meta, Struct

Device = Literal["cpu", "cuda"]
Workload = Literal["policy", "owner-standin"]
MOST_SAMPLES = 100_000  # that a report holds of each figure
Seconds = Annotated[float, Meta(gt=0, le=86_400)]  # at most a day


def _help(words: str, **told: str) -> Meta:
    """The help of an option; `told` its name on the command line where that is not the field's."""
    return Meta(description=words, extra=told or None)


class Options(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What was asked for; null means the documented default, of `rate_hz` no paced loop."""

    workloads: Annotated[
        tuple[Workload, ...],
        _help(
            "What is timed (repeatable): the bundles' policies, or the random stand-in of the published figures.",
            flag="--workload",
        ),
    ] = ("policy",)
    backends: Annotated[
        tuple[str, ...],
        _help(
            "Run only this backend (repeatable), one of those below. Default: all but torch-compile "
            "(max-autotune), which compiles for minutes, and on a CPU no compiler.",
            metavar="NAME",
        ),
    ] = ()
    device: Annotated[Device, _help("Where all backends run. Default: cuda if there is a GPU.")]
    threads: Annotated[
        Annotated[int, Meta(ge=1)],
        _help("CPU threads of each backend. Default: the physical cores, within a container's quota."),
    ]
    quick: Annotated[
        bool, _help("Two seconds a backend; no compilers, profiles, paced loop or rates of the device.")
    ] = False
    runs: Annotated[
        Annotated[int, Meta(ge=1, le=MOST_SAMPLES)] | None, _help("Take exactly this many samples.")
    ] = None
    seconds: Annotated[Seconds, _help("Time for the samples of one backend, 20 to 2000 of them.")] = 8.0
    warmup: Annotated[
        Annotated[int, Meta(ge=0, le=1_000_000)] | None,
        _help("Calls before sampling. Default: until the times are steady."),
    ] = None
    rate_hz: Annotated[
        Annotated[float, Meta(ge=0, le=1000)] | None,
        _help(
            "Steps a second of the paced loop, which sleeps in between and counts deadline misses; 0 for none.",
            flag="--rate",
        ),
    ] = 10.0
    time_limit_s: Annotated[
        Seconds, _help("Seconds after which a backend's process is killed.", flag="--time-limit")
    ] = 900.0
    # the user's own frames in order: paths, in a report names only
    images: tuple[str, ...] = ()
    # a bundle or a folder of bundles, in a report without the machine's folders above it; null in older ones
    engines: str | None = None
