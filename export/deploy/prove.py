"""Whether a bundle computes on this machine what it should: golden samples, on the engine that will run it."""

from __future__ import annotations

from contextlib import closing
from dataclasses import replace
from typing import cast

from vla_edge.export.build.build import build_plan, verify_existing
from vla_edge.export.build.options import BuildOptions
from vla_edge.export.build.progress import BuildProgress
from vla_edge.export.build.verify import judge, run_samples
from vla_edge.runtime.bundle.bundle import Bundle, load_golden
from vla_edge.runtime.engines.choice import open_session
from vla_edge.runtime.engines.registry import WITHOUT_PLANS
from vla_edge.runtime.engines.tensorrt.library import Backend
from vla_edge.runtime.engines.tensorrt.record import PlanVerification
from vla_edge.runtime.errors import ParityError


def prove(bundle: Bundle, backend: str, how: BuildOptions, progress: BuildProgress) -> PlanVerification:
    """Build the bundle's plan where it is missing, and run the golden samples.

    Args:
        bundle: opened with full verification.
        backend: "tensorrt", "tensorrt-rtx" or "onnxruntime", which needs no plan.
        how: to build, for that backend.
        progress: is told of phases and samples.

    Raises:
        ParityError: a gate was missed.
        EngineError, ResourceError: it cannot be built or run here.
    """
    if backend == WITHOUT_PLANS:
        return _on_graph(bundle, backend, progress)
    options = replace(how, backend=cast(Backend, backend))
    result = build_plan(bundle, options, progress)
    if not result.fresh:  # whatever was proven then, it runs now
        result = verify_existing(bundle, options, progress)
    return result.record.verification


def _on_graph(bundle: Bundle, backend: str, progress: BuildProgress) -> PlanVerification:
    golden, manifest = load_golden(bundle), bundle.manifest
    with closing(open_session(bundle, backend)) as session:
        measures = run_samples(session.inputs, session.outputs, session.run, golden, manifest, progress)
        engine = f"{session.identity} {session.identity.provider}"
    verification = judge(
        manifest.parity.gates, golden["names"].tolist(), measures, engine, manifest.action.unit
    )
    if not verification.passed:
        raise ParityError(
            f"The bundle differs from the PyTorch FP32 policy by more than its gates allow: {verification.note}",
            "The current policy was left as it was. Export the checkpoint again.",
        )
    return verification
