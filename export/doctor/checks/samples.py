"""Golden samples run again on the engine that a policy gets on this machine."""

from __future__ import annotations

import shlex
from collections.abc import Iterator
from pathlib import Path

from vla_edge.export.build.progress import Silent
from vla_edge.export.build.verify import ACTION, judge, run_samples
from vla_edge.export.build.view import judgements
from vla_edge.export.bundle.gates import judgements as exported
from vla_edge.export.screen import gates
from vla_edge.runtime.bundle.bundle import Bundle, load_golden
from vla_edge.runtime.bundle.manifest import Manifest
from vla_edge.runtime.engines.choice import open_session
from vla_edge.runtime.engines.registry import ENGINES
from vla_edge.runtime.engines.tensorrt.plan_names import backend_option
from vla_edge.runtime.errors import VlaError
from vla_edge.runtime.printable import one_line

from ..finding import Finding


def _at_the_export(manifest: Manifest) -> str:
    """The figure that the manifest has, and by which engine: another one, so another figure."""
    parity = manifest.parity
    action = next((each for each in exported(manifest) if each.gate.stage == ACTION), None)
    if action is None or action.measured is None:
        return ""
    return (
        f"; the export measured {gates.error(action)}, by {one_line(parity.engine)} ({parity.samples} images)"
    )


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
        action = next(each for each in judgements(verification) if each.gate.stage == ACTION)
        here = f"{engine} here: action within {gates.sentence(action)} ({len(verification.samples)} samples)"
        yield Finding("samples", "samples", f"{here}{_at_the_export(manifest)}")
        return
    option = backend_option(identity.backend) if ENGINES[identity.backend].reads == "plans" else ""
    todo = f"Do not drive with it. vla-bisect {shlex.quote(str(bundle.folder))}{option} finds where it goes wrong."
    yield Finding(
        "samples", "samples", f"{engine} misses a gate: {one_line(verification.note)}", "stops", todo
    )
