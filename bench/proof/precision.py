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
from vla_edge.bench.measure.parity import ActionErrors
from vla_edge.runtime.bundle.bundle import Bundle, load_golden
from vla_edge.runtime.bundle.manifest import StageError
from vla_edge.runtime.command.console import run_command, stderr_console, verbose_option
from vla_edge.runtime.command.json_text import json_text

if TYPE_CHECKING:
    from vla_edge.export.bundle.parity import Measured

EPILOG = """\b
Examples:
  python -m vla_edge.bench.proof.precision a.pth engines/a-fp16
  python -m vla_edge.bench.proof.precision a.pth engines/a-fp16 --samples 2
"""


class StageComparison(Struct, frozen=True, kw_only=True):
    """Largest errors over all samples of one stage; None for NaN or infinity, for which JSON has no words."""

    stage: str
    half_relative_l2: float | None
    half_max_abs: float | None
    graph_relative_l2: float | None
    graph_max_abs: float | None


class PrecisionReport(Struct, frozen=True, kw_only=True):
    """The errors of plain half precision and of the graph."""

    bundle: str
    weights_origin: str
    samples: int
    stages: tuple[StageComparison, ...]
    # of the action after its scale, limits not applied; null for NaN or infinity
    half_max_abs_mps: float | None
    graph_max_abs_mps: float | None


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
    return PrecisionReport(
        bundle=bundle.identity,
        weights_origin=bundle.manifest.source.weights_origin,
        samples=len(golden["names"]),
        stages=tuple(_side_by_side(*pair) for pair in zip(half.errors, graph.errors, strict=True)),
        half_max_abs_mps=_or_none(half.max_abs_mps),
        graph_max_abs_mps=_or_none(graph.max_abs_mps),
    )


def measure_half(checkpoint: Path, bundle: Bundle, golden: dict[str, np.ndarray]) -> Measured:
    """Errors of `policy.half()`, in the order of the bundle's stages.

    The policy stays mapped from the file while its half copy, two bytes a parameter, is made in memory.
    """
    import torch

    from vla_edge.export.bundle.golden import OUTPUT_OF_STAGE, torch_inputs
    from vla_edge.export.bundle.parity import Measured
    from vla_edge.export.checkpoint.checkpoint import read_checkpoint
    from vla_edge.export.kosmos2.reference import build_policy
    from vla_edge.export.kosmos2.settings import RULES
    from vla_edge.runtime.checks.batch_error import compare

    source = read_checkpoint(checkpoint, bundle.manifest.source.weights_key or None)
    policy = build_policy(source, RULES.from_manifest(bundle.manifest)).half()
    source.file.check_unchanged()
    stages = [stage.name for stage in bundle.manifest.stages]
    worst = {name: np.zeros(2) for name in stages}
    actions = ActionErrors(golden["actions"], bundle.manifest.action.scale)
    for at in range(len(golden["names"])):
        found = policy(**torch_inputs(policy, golden, at))
        for name in stages:
            wanted = golden["actions" if name == "action" else f"stage_{name}"][at]
            worst[name] = np.maximum(
                worst[name], compare(found[OUTPUT_OF_STAGE[name]].float().numpy(), wanted)
            )
        actions.add(at, found["actions"].float().numpy())
    errors = tuple(
        StageError(stage=name, relative_l2=float(worst[name][0]), max_abs=float(worst[name][1]))
        for name in stages
    )
    mps = actions.summary().max_abs_mps
    return Measured(errors, math.inf if mps is None else mps, f"torch {torch.__version__} CPU, .half()")


def render(report: PrecisionReport) -> str:
    """The report as a Markdown table."""
    over = f"errors against PyTorch FP32 over {report.samples} samples"
    rows = [
        (row.stage, row.half_relative_l2, row.half_max_abs, row.graph_relative_l2, row.graph_max_abs)
        for row in report.stages
    ]
    return "\n".join(
        [
            f"{report.bundle}: {over}; weights: {report.weights_origin}",
            "",
            "| stage  | .half() relative | .half() max abs | graph relative | graph max abs |",
            "|--------|-----------------:|----------------:|---------------:|--------------:|",
            *(
                f"| {name:<6} | {_shown(a):>16} | {_shown(b):>15} | {_shown(c):>14} | {_shown(d):>13} |"
                for name, a, b, c, d in rows
            ),
            "",
            f"action, m/s: {_shown(report.half_max_abs_mps)} with .half(), "
            f"{_shown(report.graph_max_abs_mps)} in the graph",
        ]
    )


def _side_by_side(half: StageError, graph: StageError) -> StageComparison:
    return StageComparison(
        stage=graph.stage,
        half_relative_l2=_or_none(half.relative_l2),
        half_max_abs=_or_none(half.max_abs),
        graph_relative_l2=_or_none(graph.relative_l2),
        graph_max_abs=_or_none(graph.max_abs),
    )


def _or_none(error: float) -> float | None:
    return error if math.isfinite(error) else None


def _shown(error: float | None) -> str:
    return "NaN/inf" if error is None else f"{error:.2e}"


@click.command(
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110}, epilog=EPILOG
)
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


def main() -> None:
    run_command(command)


if __name__ == "__main__":
    main()
