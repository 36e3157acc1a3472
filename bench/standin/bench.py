"""The stand-in, measured: every backend under both protocols."""

from __future__ import annotations

from collections.abc import Iterator
from typing import get_args

from vla_edge.bench.harness.harness import Harness
from vla_edge.bench.report.types import PROTOCOL_WORDS, Row, StandinReport
from vla_edge.runtime.engines.registry import ENGINES
from vla_edge.runtime.files.staging import scratch_folder

from .load import Protocol, standin_job
from .model import BACKENDS, GATES, WEIGHTS_ORIGIN, standin_backends
from .summary import standin_report


def bench_standin(harness: Harness) -> Iterator[StandinReport]:
    """Every backend of the stand-in, under the protocol of the published figures and under ours.

    Yields:
        What there is so far, after each row.
    """
    options = harness.options
    rows: list[tuple[Protocol, Row]] = []
    names = standin_backends(options.device, tensorrt=ENGINES["tensorrt"].is_installed())
    with scratch_folder("vla-bench") as scratch:
        for protocol in get_args(Protocol):
            for name in names:
                harness.progress.begin(f"owner-standin, {PROTOCOL_WORDS[protocol]} protocol", name)
                job = standin_job(name, protocol, options, scratch)
                row, _ = harness.run(job, WEIGHTS_ORIGIN, GATES[BACKENDS[name].precision])
                rows.append((protocol, row))
                harness.progress.end(row)
                yield standin_report(rows)
