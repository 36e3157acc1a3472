"""`vla-bisect`: the first tensor that TensorRT, or another file, computes differently."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from vla_edge.export.build.parts.arguments import cutting_options
from vla_edge.runtime.command.console import COMMAND_SETTINGS, run_command, stderr_console, verbose_option
from vla_edge.runtime.command.extras import require
from vla_edge.runtime.command.finite import FiniteFloat
from vla_edge.runtime.command.json_text import json_text
from vla_edge.runtime.engines.tensorrt.library import DEFAULT_BACKEND, LIBRARIES
from vla_edge.runtime.version import VERSION

if TYPE_CHECKING:
    import numpy as np

    from vla_edge.runtime.bundle.bundle import Bundle

    from .bisect import Finding


@click.command(context_settings=COMMAND_SETTINGS)
@click.argument("bundle", type=click.Path(path_type=Path))
@click.option(
    "--candidate", type=click.Path(path_type=Path), help="Another ONNX file instead of a TensorRT engine."
)
@click.option("--backend", type=click.Choice([*LIBRARIES]), default=DEFAULT_BACKEND, show_default=True)
@click.option(
    "--device", "device_index", type=click.IntRange(0), default=0, show_default=True, help="CUDA's index."
)
@click.option("--level", type=click.IntRange(0, 5), default=3, show_default=True, help="As of vla-build.")
@cutting_options
@click.option(
    "--sample", type=click.IntRange(0), default=0, show_default=True, help="Which golden sample to feed."
)
@click.option(
    "--limit",
    type=FiniteFloat(0),
    default=0.01,
    show_default=True,
    help="Relative error beyond which a tensor counts as bad.",
)
@click.option("--json", "as_json", is_flag=True, help="Print every comparison as JSON.")
@verbose_option
@click.version_option(VERSION)
def bisect(
    bundle: Path, candidate: Path | None, sample: int, limit: float, as_json: bool, **options: Any
) -> int:
    """Find the first tensor of BUNDLE's graph where TensorRT leaves ONNX Runtime.

    Both compute one golden sample. The stages are compared first, then tensors between the last good and
    the first bad one, until a single node is left. Each round builds an engine that returns the tensors
    in question, so it takes as long as vla-build, and is cut into parts as there: --parts 5 looks for a
    fault of a plan in five. The exit code is 1 when a bad tensor was found.

    \b
    Examples:
      vla-bisect engines/hybrid-fp16
      vla-bisect engines/hybrid-fp16 --sample 3 --limit 0.002
      vla-bisect engines/hybrid-fp16 --candidate broken.onnx
    """
    require("export", "onnx", "onnxruntime")
    from vla_edge.export.build.verify import sample_inputs
    from vla_edge.runtime.bundle.bundle import Bundle, load_golden

    opened = Bundle.open(bundle)
    golden = load_golden(opened)
    if sample >= len(golden["names"]):
        raise click.UsageError(f"--sample {sample}: the bundle has {len(golden['names'])}, numbered from 0.")
    feeds = sample_inputs(opened.manifest, golden, sample)
    if candidate is None:
        finding = _against_tensorrt(opened, feeds, limit, options)
    else:
        finding = _against_file(opened, candidate, feeds, limit)
    _print(finding, limit, as_json)
    return int(finding.first_bad is not None)


def _against_file(bundle: Bundle, candidate: Path, feeds: dict[str, np.ndarray], limit: float) -> Finding:
    from .bisect import first_bad, graph_values, onnxruntime_runner

    theirs = {value.name for value in graph_values(candidate)}
    values = [value for value in graph_values(bundle.model_path) if value.name in theirs]
    if not values:
        raise click.UsageError(f"{candidate} shares no tensor names with {bundle.model_path}.")
    reference, other = (onnxruntime_runner(path, feeds) for path in (bundle.model_path, candidate))
    return first_bad(values, reference, other, limit, [stage.tensor for stage in bundle.manifest.stages])


def _against_tensorrt(
    bundle: Bundle, feeds: dict[str, np.ndarray], limit: float, options: dict[str, Any]
) -> Finding:
    from vla_edge.export.build.options import BuildOptions
    from vla_edge.export.build.progress import ShownProgress
    from vla_edge.export.build.stages import tapped_runner
    from vla_edge.export.build.target import open_target

    from .bisect import first_bad, graph_values, onnxruntime_runner

    build = BuildOptions(**options)
    start = [stage.tensor for stage in bundle.manifest.stages]
    with (
        ShownProgress(stderr_console()) as progress,
        open_target(build.backend, build.device_index, build.memory, None) as target,
    ):
        run, names = tapped_runner(bundle, feeds, target, build, progress)
        values = [value for value in graph_values(bundle.model_path) if value.name in names]
        return first_bad(values, onnxruntime_runner(bundle.model_path, feeds), run, limit, start)


def _print(finding: Finding, limit: float, as_json: bool) -> None:
    from vla_edge.runtime.printable import printable

    if as_json:
        probes = [
            {
                "tensor": probe.value.name,
                "node": probe.value.node,
                "relative_l2": probe.relative_l2,
                "bad": probe.bad,
            }
            for probe in finding.probes
        ]
        found = finding.first_bad.value.name if finding.first_bad else None
        click.echo(
            json_text({"first_bad": found, "limit": limit, "rounds": finding.rounds, "probes": probes})
        )
        return
    if finding.first_bad is None:
        click.echo(f"No tensor differs by more than {limit:g}.")
    else:
        value, error = finding.first_bad.value, finding.first_bad.relative_l2
        names = f"{printable(value.name)}, of node {printable(value.node)}"
        click.echo(f"First bad tensor: {names}, relative error {error:.3g}.")
    for probe in finding.probes:
        names = f"{printable(probe.value.name)}  {printable(probe.value.node)}"
        click.echo(f"{'BAD ' if probe.bad else 'good'} {probe.relative_l2:10.3g}  {names}")


def main() -> None:
    run_command(bisect)


if __name__ == "__main__":
    main()
