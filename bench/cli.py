"""`vla-bench`: the command."""

from __future__ import annotations

import textwrap
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, get_args

import click
import msgspec

from vla_edge.bench.backends.load import BACKEND_NAMES
from vla_edge.bench.compare.cli import command as compare
from vla_edge.bench.options.flags import flags
from vla_edge.bench.options.options import Device, Options, Workload
from vla_edge.bench.output.render_cli import command as render
from vla_edge.bench.summary.cli import command as summary
from vla_edge.runtime.command.console import (
    COMMAND_SETTINGS,
    ExamplesFirst,
    run_command,
    stderr_console,
    verbose_option,
)
from vla_edge.runtime.command.extras import require
from vla_edge.runtime.process.cores import usable_cores
from vla_edge.runtime.process.machine import is_jetson
from vla_edge.runtime.version import VERSION

from .default_group import DefaultGroup

if TYPE_CHECKING:
    from vla_edge.bench.report.types import Report

# in lines of their own: click would break names at their hyphens
_INDENT = 2 * " "
_BACKENDS = textwrap.fill(
    ", ".join(BACKEND_NAMES), 54, initial_indent=_INDENT, subsequent_indent=_INDENT, break_on_hyphens=False
)
EPILOG = f"""\b
Backends:
{_BACKENDS}

\b
Examples:
  vla-bench
  vla-bench --quick
  vla-bench engines/ --checkpoint policy.pth --out report/
  vla-bench engines/policy-fp16 --backends onnxruntime --runs 500
  vla-bench --workload policy --workload owner-standin --out report/
  vla-bench engines/ --images drive-03/ --rate 10
  vla-bench compare before/ after/
  vla-bench render report.json --out report/
  vla-bench summary report.json --out kept.json

With --out or --json, what was measured is kept in report.partial.json until all is: Ctrl-C loses little.

Exit codes: 0 all engines right; 1 an engine is wrong, a backend or bundle failed, or nothing ran; 2 wrong
use; 130 Ctrl-C.
"""

QUICK_SECONDS = 2.0


@click.command("vla-bench", cls=ExamplesFirst, context_settings=COMMAND_SETTINGS, epilog=EPILOG)
@click.argument("engines", type=click.Path(path_type=Path), default=Path("engines"))
@click.option(
    "--checkpoint",
    "checkpoints",
    multiple=True,
    type=click.Path(path_type=Path),
    help="Checkpoint that a bundle was made from, for the PyTorch rows (repeatable). "
    "By default looked for beside the bundles, beside their folder and one up, here, and in samples/ of each; "
    "without it the same architecture is timed with random weights.",
)
@click.option(
    "--images",
    type=click.Path(path_type=Path),
    help="Folder of your own frames, in the order of their names: how far each engine's actions are "
    "from PyTorch FP32's, frame by frame.",
)
@flags(Options, choices={"backends": BACKEND_NAMES, "workloads": get_args(Workload)})
@click.option(
    "--out",
    type=click.Path(path_type=Path),
    help="Folder for report.json (every raw sample), report.csv, report.md and report.html.",
)
@click.option(
    "--json", "json_path", type=click.Path(path_type=Path), help="Write only the JSON, to this file."
)
@click.option(
    "--full", is_flag=True, help="Show all tables on a terminal too, as a pipe and --out have them."
)
@verbose_option
@click.version_option(VERSION)
def measure(
    engines: Path,
    checkpoints: tuple[Path, ...],
    images: Path | None,
    out: Path | None,
    json_path: Path | None,
    full: bool,
    **asked: Any,
) -> int:
    """Compare every bundle in ENGINES with PyTorch on this device.

    Each backend runs in a process of its own: latency of one policy step, back to back and at a fixed rate,
    speed-up, error against the golden actions, memory, energy, cold start, where the time goes, and how far
    all that is from the least this device could take. ENGINES is a bundle or a folder of bundles.

    Also `vla-bench compare A B`, `vla-bench render REPORT.json` and `vla-bench summary REPORT.json`; each has
    its own --help.
    """
    _require_packages(asked["backends"])
    from rich.console import Console

    from vla_edge.bench.backends.runnable import check_backends, check_device, check_paths
    from vla_edge.bench.measure.agreement import find_frames
    from vla_edge.bench.output.terminal import print_report
    from vla_edge.bench.output.writers import JSON_NAME, prepare_folder, write_outputs
    from vla_edge.bench.report.file import check_writable, write

    from .progress import ConsoleProgress
    from .run import has_failure, run_bench

    asked["device"] = asked["device"] or default_device()
    check_device(asked["device"])
    check_backends(asked["backends"], asked["device"])
    if json_path is not None:
        check_writable(json_path)
    if out is not None:
        prepare_folder(out)
    frames = find_frames(images) if images else ()
    check_paths((engines, *checkpoints, *frames))
    options = _options(asked, engines=str(engines), images=tuple(map(str, frames)))
    target = out / JSON_NAME if out is not None else json_path
    with _partial_report(target) as keep:
        with ConsoleProgress(stderr_console()) as progress:
            report = run_bench(options, progress, keep, checkpoints)
        # files first: whoever reads the tables may close the pipe
        if json_path is not None:
            write(report, json_path)
        written = write_outputs(report, out) if out is not None else ()
    # on the screen as it was typed; what may be passed on says nothing of the machine's folders
    typed = msgspec.structs.replace(report.options, engines=options.engines)
    print_report(msgspec.structs.replace(report, options=typed), Console(), full=full)
    for path in written:
        click.echo(path)
    return int(has_failure(report))


def _options(asked: dict[str, Any], **places: Any) -> Options:
    """Those asked for, with what is left to this machine, and to --quick."""
    options = Options(**{**asked, "threads": asked["threads"] or usable_cores()}, **places)
    if options.quick:
        return msgspec.structs.replace(options, seconds=min(options.seconds, QUICK_SECONDS), rate_hz=None)
    return msgspec.structs.replace(options, rate_hz=options.rate_hz or None)


@contextmanager
def _partial_report(target: Path | None) -> Iterator[Callable[[Report], None]]:
    """Keep the report so far in a file beside its target, until the target itself is there.

    Whatever ends the command before, what was measured stays; so does an older report of that name.

    Yields:
        What writes it; without a target, nothing does.
    """
    if target is None:
        yield lambda report: None
        return
    from vla_edge.bench.report.file import write

    partial = target.with_suffix(f".partial{target.suffix}")
    partial.unlink(missing_ok=True)
    try:
        yield lambda report: write(report, partial)
    except BaseException:
        if partial.exists():
            click.echo(f"what was measured so far: {partial}", err=True)
        raise
    partial.unlink(missing_ok=True)


command = DefaultGroup(measure, (compare, render, summary))


def default_device() -> Device:
    """ "cuda" where CUDA or NVML finds a GPU, and on a Jetson.

    NVML alone would not do: it may be missing, or tell nothing, where a GPU is. Nor would CUDA: a GPU that it does not
    have although NVML does is an error, and no reason to measure the CPU unasked.
    """
    from vla_edge.bench.backends.runnable import has_cuda
    from vla_edge.bench.watch.nvml import gpu_count, open_nvml

    if is_jetson() or has_cuda():
        return "cuda"
    with open_nvml() as nvml:
        return "cuda" if nvml is not None and gpu_count(nvml) > 0 else "cpu"


def _require_packages(backends: tuple[str, ...]) -> None:
    """Refuse to begin without the packages of the backends asked for, all of them by default."""
    modules = ["psutil", "onnx"]
    if not backends or any(name.startswith("torch") for name in backends):
        modules += ["torch", "transformers"]
    require("bench", *modules)


def main() -> None:
    run_command(command)


if __name__ == "__main__":
    main()
