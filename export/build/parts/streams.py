"""Whether parts that do not need each other are faster side by side: measured on the GPU that will run them."""

from __future__ import annotations

from dataclasses import replace
from statistics import median

import msgspec

from vla_edge.export.build.progress import BuildProgress
from vla_edge.export.build.target import Target
from vla_edge.export.build.verify import sample_inputs
from vla_edge.runtime.bundle.bundle import Bundle, load_golden
from vla_edge.runtime.cuda.device import MemoryName
from vla_edge.runtime.engines.tensorrt.plan import PlanFile
from vla_edge.runtime.engines.tensorrt.record import PlanRecord, StreamTimes
from vla_edge.runtime.engines.tensorrt.session import TensorRtOptions, TensorRtSession
from vla_edge.runtime.errors import EngineError

_WARM_UP_RUNS = 10
_ROUNDS = 10  # in turn, so that a clock that changes meets both
_RUNS = 20  # of each, in a round


def settle_streams(
    plan: PlanFile, bundle: Bundle, target: Target, memory: MemoryName, progress: BuildProgress
) -> PlanRecord:
    """The record with the streams that were faster, and what both took.

    Nothing is changed of what a step computes: the engines and their order by data are the same. Where it cannot be
    measured, as on a board without memory for two sessions at once, the parts run in line, and the user is told: a
    plan that passed its samples is not thrown away for that.
    """
    record = plan.record
    if all(part.stream == 0 for part in record.parts):
        return record
    if target.device is None:
        return in_line(record)
    try:
        times = _measured(plan, bundle, target, memory)
    except EngineError as error:
        progress.remark(
            "whether parts are faster side by side could not be measured, so they run one behind the other: "
            + error.problem
        )
        return in_line(record)
    if times.side_by_side_ms >= times.in_line_ms:
        record = in_line(record)
    return msgspec.structs.replace(record, streams=times)


def in_line(record: PlanRecord) -> PlanRecord:
    """The record with every part on the main stream."""
    parts = tuple(msgspec.structs.replace(part, stream=0) for part in record.parts)
    return msgspec.structs.replace(record, parts=parts)


def _measured(plan: PlanFile, bundle: Bundle, target: Target, memory: MemoryName) -> StreamTimes:
    options = TensorRtOptions(backend=target.library.backend, memory=memory, plan=plan, allow_unverified=True)
    feeds = sample_inputs(bundle.manifest, load_golden(bundle), 0)
    with (
        TensorRtSession(bundle, options, library=target.library, device=target.device) as beside,
        TensorRtSession(
            bundle, replace(options, streams="in line"), library=target.library, device=target.device
        ) as line,
    ):
        taken: dict[TensorRtSession, list[float]] = {line: [], beside: []}
        for session in taken:
            for name, value in feeds.items():
                session.inputs[name][...] = value
            for _ in range(_WARM_UP_RUNS):
                session.run()
        for _ in range(_ROUNDS):
            for session, series in taken.items():
                series += [session.run_engine_ms() for _ in range(_RUNS)]
        return StreamTimes(
            in_line_ms=round(median(taken[line]), 4), side_by_side_ms=round(median(taken[beside]), 4)
        )
