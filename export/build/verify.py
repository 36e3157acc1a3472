"""The golden samples through a plan that was just built, on the GPU that will run it."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timezone

import numpy as np

from vla_edge.runtime.bundle.bundle import Bundle, load_golden, rows
from vla_edge.runtime.bundle.bundle import sample_inputs as bundle_samples
from vla_edge.runtime.bundle.manifest import Gate, Manifest, Metric
from vla_edge.runtime.checks.batch_error import compare
from vla_edge.runtime.checks.gates import Judgement
from vla_edge.runtime.checks.gates import judge as judge_gate
from vla_edge.runtime.cuda.device import MemoryName
from vla_edge.runtime.engines.tensorrt.plan import PlanFile
from vla_edge.runtime.engines.tensorrt.record import Check, Contents, PlanVerification, SampleError
from vla_edge.runtime.engines.tensorrt.session import TensorRtOptions, TensorRtSession

from .contents import engine_contents
from .progress import BuildProgress
from .target import Target

ACTION = "action"
_PHASE = "Checking golden samples"


@dataclass(frozen=True)
class StageMeasure:
    """The error of one stage on one sample; infinite where a value is NaN or infinite.

    Attributes:
        relative_l2: ||value - reference|| / ||reference||, of the worst row of the batch.
        max_abs: the largest difference; of the action in its components' own units, after its scale and before its
            limits.
    """

    relative_l2: float
    max_abs: float

    def of(self, metric: Metric) -> float:
        """The error in a gate's metric."""
        return self.max_abs if metric == "max_abs" else self.relative_l2


Arrays = Mapping[str, np.ndarray]
Measures = dict[str, StageMeasure]


def verify_plan(
    plan: PlanFile, bundle: Bundle, target: Target, memory: MemoryName, progress: BuildProgress
) -> tuple[PlanVerification, tuple[Contents | None, ...]]:
    """Run every golden sample through a plan.

    Returns:
        The verification for the side file, and each part's contents where the engine's inspector tells them.

    Raises:
        EngineError: the plan cannot be loaded or run.
    """
    options = TensorRtOptions(backend=target.library.backend, memory=memory, plan=plan, allow_unverified=True)
    golden = load_golden(bundle)
    with TensorRtSession(bundle, options, library=target.library, device=target.device) as session:
        measures = run_samples(
            session.inputs, session.outputs, session.run, golden, bundle.manifest, progress
        )
        contents = engine_contents(session.describe_layers(), len(plan.record.parts))
        engine = f"{session.identity} {session.identity.provider}"
    names, manifest = golden["names"].tolist(), bundle.manifest
    return judge(manifest.parity.gates, names, measures, engine, manifest.action.unit), contents


def run_samples(
    inputs: Arrays,
    outputs: Arrays,
    run: Callable[[], None],
    golden: Arrays,
    manifest: Manifest,
    progress: BuildProgress,
) -> list[Measures]:
    """Feed each golden sample to an engine and measure the stages among its outputs.

    Args:
        inputs: arrays to fill in place, by tensor name.
        outputs: arrays that `run` fills.
        run: one inference.
        golden: from `load_golden`.
        manifest: names stages and scale.
        progress: is told of each sample.

    Returns:
        For each sample, the measure of each visible stage; the action and the carried state always are.
    """
    tensors: dict[str, str] = {stage.name: stage.tensor for stage in manifest.stages}
    states = manifest.state_outputs
    visible = [name for name, tensor in tensors.items() if tensor in outputs]
    results = []
    for at in _counted(progress, len(golden["names"])):
        for name, value in sample_inputs(manifest, golden, at).items():
            inputs[name][...] = value
        run()
        results.append(
            {
                name: _measure(
                    rows(outputs[tensors[name]], tensors[name] in states),
                    _reference(golden, name, at),
                    name,
                    manifest,
                )
                for name in visible
            }
        )
    return results


def sample_inputs(manifest: Manifest, golden: Arrays, at: int) -> dict[str, np.ndarray]:
    """One golden sample as the inputs of the manifest's graph."""
    shapes = {spec.name: spec.shape for spec in manifest.inputs}
    return bundle_samples(golden, at, shapes, {source for source, _ in manifest.runtime.state})


def judge(
    gates: Sequence[Gate], names: Sequence[str], measures: Sequence[Measures], engine: str, unit: str
) -> PlanVerification:
    """Hold the worst measure of each visible stage against its gate; that of the action is in `unit`."""
    judged = [
        judge_gate(gate, _worst(gate, measures), unit)
        for gate in gates
        if all(gate.stage in measure for measure in measures)
    ]
    checks = tuple(map(check_of, judged))
    samples = tuple(
        SampleError(
            name=name,
            max_abs=_finite(measure[ACTION].max_abs),
            relative_l2=_finite(measure[ACTION].relative_l2),
        )
        for name, measure in zip(names, measures, strict=True)
    )
    passed = any(check.stage == ACTION for check in checks) and all(check.passed for check in checks)
    return PlanVerification(
        passed=passed,
        note=_note(judged, passed, len(samples)),
        engine=engine,
        samples=samples,
        checks=checks,
        checked_utc=utc_now(),
    )


def utc_now() -> str:
    """Such as "2026-11-23T15:04:05Z"."""
    return datetime.now(timezone.utc).strftime("%Y-%m-%dT%H:%M:%SZ")


def _reference(golden: Arrays, stage: str, at: int) -> np.ndarray:
    return golden["actions" if stage == ACTION else f"stage_{stage}"][at]


def _measure(value: np.ndarray, reference: np.ndarray, stage: str, manifest: Manifest) -> StageMeasure:
    return StageMeasure(*compare(value, reference, manifest.action.scale if stage == ACTION else 1.0))


def _worst(gate: Gate, measures: Sequence[Measures]) -> float:
    return max(measure[gate.stage].of(gate.metric) for measure in measures)


def check_of(judged: Judgement) -> Check:
    """As a side file keeps it."""
    gate = judged.gate
    return Check(
        stage=gate.stage,
        metric=gate.metric,
        unit=judged.unit,
        limit=gate.limit,
        measured=judged.measured,
        passed=judged.passed,
    )


def _note(judged: Sequence[Judgement], passed: bool, samples: int) -> str:
    texts = [str(each) for each in judged if each.passed == passed]
    if not texts:
        return "the manifest has no gate for the action."
    return f"{'; '.join(texts)} ({samples} samples)."


def _finite(value: float) -> float | None:
    """JSON has no infinity."""
    return value if math.isfinite(value) else None


def _counted(progress: BuildProgress, count: int) -> Iterator[int]:
    progress.start(_PHASE, None, count)
    for at in range(count):
        yield at
        progress.step(_PHASE, at + 1)
    progress.finish(_PHASE)
