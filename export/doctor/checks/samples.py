"""Golden samples run again on the engine that a policy gets on this machine."""

from __future__ import annotations

import shlex
from collections.abc import Iterator
from pathlib import Path

from vla_edge.export.build.progress import Silent
from vla_edge.export.build.verify import judge, run_samples
from vla_edge.runtime.bundle.bundle import Bundle, load_golden
from vla_edge.runtime.engines.choice import open_session
from vla_edge.runtime.engines.registry import ENGINES
from vla_edge.runtime.engines.tensorrt.plan_names import backend_option
from vla_edge.runtime.errors import VlaError
from vla_edge.runtime.printable import one_line

from ..finding import Finding


def check_samples(folder: Path) -> Iterator[Finding]:
    """The golden samples through the engine that a policy gets, held against the manifest's gates."""
    bundle = Bundle.open(folder, "size")
    manifest, golden = bundle.manifest, load_golden(bundle)
    try:
        session = open_session(bundle)
    except VlaError as error:
        yield Finding("samples", "samples", error.problem, "stops", error.hint)
        return
    try:
        measures = run_samples(session.inputs, session.outputs, session.run, golden, manifest, Silent())
    except VlaError as error:
        yield Finding("samples", "samples", error.problem, "stops", error.hint)
        return
    finally:
        session.close()
    identity = session.identity
    names = golden["names"].tolist()
    verification = judge(manifest.parity.gates, names, measures, str(identity), manifest.action.unit)
    engine = f"{ENGINES[identity.backend].label} {identity.version}"
    if verification.passed:
        yield Finding("samples", "samples", f"{engine}: {one_line(verification.note)}")
        return
    option = backend_option(identity.backend) if ENGINES[identity.backend].reads == "plans" else ""
    todo = f"Do not drive with it. vla-bisect {shlex.quote(str(bundle.folder))}{option} finds where it goes wrong."
    yield Finding(
        "samples", "samples", f"{engine} misses a gate: {one_line(verification.note)}", "stops", todo
    )
