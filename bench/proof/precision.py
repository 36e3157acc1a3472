"""What the FP32 islands of a half-precision graph are worth, stage by stage.

    python -m vla_edge.bench.proof.precision CHECKPOINT BUNDLE

prints, against the PyTorch FP32 policy of the bundle's golden samples, the error of (a) the same policy
after a plain `.half()`, and (b) the bundle's graph with every FP16 value rounded as a GPU would (see
`vla_edge.export.graph.rounding`). One of the two is in memory at a time.
"""

from __future__ import annotations

import gc
import math
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import click
import numpy as np
from msgspec import Struct

from vla_edge.bench.backends.checkpoints import CheckpointFinder
from vla_edge.runtime.bundle.bundle import Bundle, load_golden
from vla_edge.runtime.bundle.manifest import CAMERA_STAGE
from vla_edge.runtime.command.console import (
    COMMAND_SETTINGS,
    ExamplesFirst,
    run_command,
    stderr_console,
    verbose_option,
)
from vla_edge.runtime.command.json_text import json_text

if TYPE_CHECKING:
    from vla_edge.export.bundle.parity import Measured

EPILOG = """\b
Examples:
  python -m vla_edge.bench.proof.precision a.pth engines/a-fp16
  python -m vla_edge.bench.proof.precision a.pth engines/a-fp16 --samples 2
"""


class StageComparison(Struct, frozen=True, kw_only=True):
    """Largest errors over all samples of one stage; infinity for NaN too, null in JSON."""

    stage: str
    half_relative_l2: float
    half_max_abs: float
    graph_relative_l2: float
    graph_max_abs: float


class PrecisionReport(Struct, frozen=True, kw_only=True):
    """The errors of plain half precision and of the graph."""

    bundle: str
    weights_origin: str
    samples: int
    stages: tuple[StageComparison, ...]
    # of the action after its scale, limits not applied
    unit: str
    half_max_abs: float
    graph_max_abs: float


def compare_precision(checkpoint: Path, folder: Path, samples: int | None = None) -> PrecisionReport:
    """Measure both ways on the golden samples.

    Args:
        checkpoint: the file that the bundle was made from.
        folder: of the bundle.
        samples: take only the first so many golden samples.

    Raises:
        BundleError: the bundle is damaged.
        InputError: the checkpoint is not the bundle's.
    """
    bundle = Bundle.open(folder)
    finder = CheckpointFinder([checkpoint])
    finder.find(bundle.folder, bundle.manifest.source)
    finder.refuse_unused()
    golden = {name: array[:samples] for name, array in load_golden(bundle).items()}
    from vla_edge.export.bundle.parity import measure_bundle

    half = measure_half(checkpoint, bundle, golden)
    gc.collect()  # the half copy of the policy, before the graph's weights come in
    graph = measure_bundle(bundle, golden)
    ours_of = {error.stage: error for error in graph.errors}
    stages = tuple(
        StageComparison(
            stage=plain.stage,
            half_relative_l2=plain.relative_l2,
            half_max_abs=plain.max_abs,
            graph_relative_l2=ours.relative_l2,
            graph_max_abs=ours.max_abs,
        )
        for plain in half.errors
        for ours in (ours_of[plain.stage],)
    )
    return PrecisionReport(
        bundle=bundle.identity,
        weights_origin=bundle.manifest.source.weights_origin,
        samples=len(golden["names"]),
        stages=stages,
        unit=bundle.manifest.action.unit,
        half_max_abs=half.max_abs,
        graph_max_abs=graph.max_abs,
    )


def measure_half(checkpoint: Path, bundle: Bundle, golden: dict[str, np.ndarray]) -> Measured:
    """Errors of `policy.half()`, in the order of the bundle's stages; without the camera's, of which it knows nothing.

    The policy stays mapped from the file while its half copy, two bytes a parameter, is made in memory.
    """
    import torch

    from vla_edge.export.bundle.parity import measure
    from vla_edge.export.bundle.samples.golden import Reference, output_of
    from vla_edge.export.checkpoint.checkpoint import read_checkpoint
    from vla_edge.export.families import family_of_bundle

    manifest = bundle.manifest
    family = family_of_bundle(manifest)
    settings = family.settings.from_manifest(manifest)
    source = read_checkpoint(checkpoint, manifest.source.weights_key or None, family.name)
    policy = family.reference(source.architecture, settings, source.tensors).half()
    half = Reference(family, policy, settings)
    source.file.check_unchanged()

    stages = tuple(stage for stage in manifest.stages if stage.name != CAMERA_STAGE)

    def run(at: int) -> list[np.ndarray]:
        found = half.run(golden, at)
        return [found[output_of(stage.name)].float().numpy() for stage in stages]

    engine = f"torch {torch.__version__} CPU, .half()"
    return measure(run, golden, stages, manifest.runtime.state, manifest.action.scale, engine)


def render(report: PrecisionReport) -> str:
    """The report as a Markdown table."""
    over = f"errors against PyTorch FP32 over {report.samples} samples"
    return "\n".join(
        [
            f"{report.bundle}: {over}; weights: {report.weights_origin}",
            "",
            "| stage  | .half() relative | .half() max abs | graph relative | graph max abs |",
            "|--------|-----------------:|----------------:|---------------:|--------------:|",
            *(
                f"| {row.stage:<6} | {_shown(row.half_relative_l2):>16} | {_shown(row.half_max_abs):>15} | "
                f"{_shown(row.graph_relative_l2):>14} | {_shown(row.graph_max_abs):>13} |"
                for row in report.stages
            ),
            "",
            f"action, {report.unit}: {_shown(report.half_max_abs)} with .half(), "
            f"{_shown(report.graph_max_abs)} in the graph",
        ]
    )


def _shown(error: float) -> str:
    return f"{error:.2e}" if math.isfinite(error) else "NaN/inf"


@click.command(cls=ExamplesFirst, context_settings=COMMAND_SETTINGS, epilog=EPILOG)
@click.argument("checkpoint", type=click.Path(path_type=Path))
@click.argument("bundle", type=click.Path(path_type=Path))
@click.option("--samples", type=click.IntRange(1), help="Take only the first so many golden samples.")
@click.option("--json", "as_json", is_flag=True, help="Print the result as JSON.")
@verbose_option
def command(checkpoint: Path, bundle: Path, samples: int | None, as_json: bool) -> None:
    """Compare plain .half() of a policy with its half-precision graph, stage by stage, against FP32."""
    with stderr_console().status("running .half() in PyTorch, then the graph, on every golden sample"):
        report = compare_precision(checkpoint, bundle, samples)
    sys.stdout.write((json_text(report) if as_json else render(report)) + "\n")


if __name__ == "__main__":
    run_command(command)
