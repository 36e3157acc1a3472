"""The stand-in, measured: every backend under both protocols."""

from __future__ import annotations

from collections.abc import Iterator
from importlib.util import find_spec
from typing import get_args

from vla_edge.runtime.staging import scratch_folder

from ..report import Row, StandinReport
from ..rig import Rig
from .load import Protocol, standin_job
from .model import GATES, WEIGHTS_ORIGIN, parse_standin, standin_backends
from .summary import standin_report


def bench_standin(rig: Rig) -> Iterator[StandinReport]:
    """Every backend of the stand-in, under the protocol of the published figures and under ours.

    Yields:
        What there is so far, after each row.
    """
    options = rig.options
    rows: list[tuple[Protocol, Row]] = []
    names = standin_backends(options.device, tensorrt=find_spec("tensorrt") is not None)
    with scratch_folder("vla-bench") as scratch:
        for protocol in get_args(Protocol):
            for name in names:
                rig.progress.begin(f"owner-standin, {protocol}'s protocol", name)
                job = standin_job(
                    name,
                    protocol,
                    device=options.device,
                    threads=options.threads,
                    seconds=options.seconds,
                    runs=options.runs,
                    warmup=options.warmup,
                    scratch=scratch,
                )
                row, _ = rig.run(job, WEIGHTS_ORIGIN, GATES[parse_standin(name).precision])
                rows.append((protocol, row))
                rig.progress.end(row)
                yield standin_report(rows)
