"""A bundle: its files by their hashes, and what is still to be built of it."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from importlib.metadata import entry_points
from pathlib import Path

from vla_edge.export.build.memory import weights_bytes
from vla_edge.export.build.parts.earlier import find_earlier
from vla_edge.export.families import BUILT_IN, GROUP
from vla_edge.export.parts.graph import read_graph
from vla_edge.export.screen.screen import size
from vla_edge.runtime.bundle.bundle import Bundle
from vla_edge.runtime.bundle.graph_check import check_graph
from vla_edge.runtime.errors import BundleError
from vla_edge.runtime.printable import one_line

from ..finding import Finding
from ..machine import Machine
from .plans import check_plans, fits, plan_machine, planners
from .room import Build


def pending_build(folder: Path, machine: Machine) -> Build | None:
    """The build that this machine still has to make of a bundle; None where a plan fits, or nothing can be built."""
    try:
        bundle = Bundle.unchecked(folder)
    except BundleError:  # `check_files` says so
        return None
    able = planners(machine)
    if machine.gpu is None or any(fits(bundle, machine, name) for name in able):
        return None
    build = Build(bundle.folder, weights_bytes(bundle.manifest), _largest_part(bundle))
    if not able:  # TensorRT, once it is installed
        return build
    measured = find_earlier(bundle.folder, plan_machine(machine, able[0])).built
    return replace(build, backend=able[0], measured=measured)


def _largest_part(bundle: Bundle) -> int | None:
    """Bytes of weights of the largest part where the graph is cut wherever it can be; None where it cannot."""
    try:
        segments = read_graph(bundle).segments
    except BundleError:  # `check_files` says what is damaged; what cannot be cut is built whole
        return None
    return max(segment.weights_bytes for segment in segments) if len(segments) > 1 else None


def check_bundle(folder: Path, machine: Machine) -> Iterator[Finding]:
    """Its files, and if they are sound its plans."""
    files = tuple(check_files(folder))
    yield from files
    if all(finding.verdict == "ok" for finding in files):
        yield from check_plans(folder, machine)


def check_files(folder: Path) -> Iterator[Finding]:
    """Every listed file by its hash, and whether a policy can feed its graph."""
    try:
        bundle = Bundle.open(folder)
        check_graph(bundle.manifest, batch=None)
    except BundleError as error:
        yield Finding("files", "files", error.problem, "stops", error.hint)
        return
    files = bundle.manifest.files
    total = size(sum(entry.size_bytes for entry in files))
    found = f"{one_line(bundle.manifest.name)}: {len(files)} files, {total}, all as exported"
    yield Finding("files", "files", f"{found}{_family(bundle)}")


def _family(bundle: Bundle) -> str:
    """A remark where no family here has the name of the policy's: it runs by its manifest all the same.

    Families are code of other packages, and nothing of them is imported to look at a bundle on a robot.
    """
    architecture = bundle.manifest.architecture
    name = architecture.family if architecture else BUILT_IN
    if name in (BUILT_IN, *(offer.name for offer in entry_points(group=GROUP))):
        return ""
    return f"; its family {one_line(name)} is not installed here, nor needed to run it"
