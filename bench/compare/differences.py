"""Why two reports may not be comparable at all: machines, libraries, weights, and samples that are missing."""

from __future__ import annotations

from collections.abc import Iterator

from vla_edge.bench.report.types import BundleReport, Report


def workload_of(bundle: BundleReport) -> str:
    """The name that a bundle's rows are compared under; batch size and camera, what a step begins with, are part."""
    batch = "" if bundle.batch == 1 else f", batch {bundle.batch}"
    height, width = bundle.frame
    return f"{bundle.name}{batch}{f', frames of {height}x{width}' if bundle.camera else ''}"


def differences(before: Report, after: Report) -> Iterator[str]:
    """Why the two reports may not be comparable at all."""
    old, new = before.machine, after.machine
    pairs: list[tuple[str, object, object]] = [
        ("CPU", old.cpu, new.cpu),
        ("board", old.board, new.board),
        ("usable cores", old.cores_usable, new.cores_usable),
        ("GPU", _gpus(before), _gpus(after)),
        ("device", before.options.device, after.options.device),
        ("threads", before.options.threads, after.options.threads),
    ]
    for name, one, other in pairs:
        if one != other:
            yield f"different {name}: {one or 'none'} before, {other or 'none'} after"
    for report, word in ((before, "before"), (after, "after")):
        if not report.complete:
            yield f"the report {word} is unfinished: rows are missing"
        if report.summarised:
            most = report.summarised.most_of_a_series
            yield (
                f"the report {word} is a summary with at most {most:,} samples of a row: p50 and p99 are those of "
                "all, but the interval of p50 is wider, the U test weaker, and p99 is not judged"
            )
    names = sorted({*old.versions, *new.versions} - {"vla-edge"})
    changed = [
        f"{name} {old.versions.get(name, 'none')} to {new.versions.get(name, 'none')}"
        for name in names
        if old.versions.get(name) != new.versions.get(name)
    ]
    if changed:
        yield f"different libraries: {', '.join(changed)}"
    yield from _bundle_differences(before, after)


def _gpus(report: Report) -> str:
    return ", ".join(
        f"{gpu.name or 'unnamed'} (driver {gpu.driver or 'unknown'})" for gpu in report.machine.gpus
    )


def _bundle_differences(before: Report, after: Report) -> Iterator[str]:
    old = {workload_of(bundle): bundle for bundle in before.bundles}
    for bundle in after.bundles:
        other = old.get(workload_of(bundle))
        if other and other.weights_origin != bundle.weights_origin:
            yield (
                f"{bundle.name}: different weights: {other.weights_origin} before, {bundle.weights_origin} after"
            )
        if other and other.parameters != bundle.parameters:
            yield f"{bundle.name}: {other.parameters:,} parameters before, {bundle.parameters:,} after"
