"""`vla-bench`: the command."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

import click

from vla_edge.runtime.console import run_command, stderr_console, verbose_option
from vla_edge.runtime.version import VERSION

from .backends import BACKEND_NAMES

EPILOG = """\b
Examples:
  vla-bench
  vla-bench engines/ --checkpoint best_simple_lstm_model.pth --json report.json
  vla-bench engines/policy-fp16 --backends onnxruntime --runs 500
  vla-bench engines/ --device cuda --seconds 20

\b
Exit codes: 0 all engines right; 1 an engine is wrong, or a backend or bundle failed; 2 wrong use.
"""

DEVICES = ("cpu", "cuda")


@click.command(
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110}, epilog=EPILOG
)
@click.argument("engines", type=click.Path(path_type=Path), default=Path("engines"))
@click.option(
    "--checkpoint",
    "checkpoints",
    multiple=True,
    type=click.Path(path_type=Path),
    help="Checkpoint that a bundle was made from, for the PyTorch rows (repeatable). "
    "By default looked for beside the bundles, here and in samples/.",
)
@click.option(
    "--backends",
    multiple=True,
    type=click.Choice(BACKEND_NAMES),
    help="Run only this backend (repeatable).",
)
@click.option(
    "--device", type=click.Choice(DEVICES), help="Where all backends run. Default: cuda if there is a GPU."
)
@click.option(
    "--threads", type=click.IntRange(1), help="CPU threads of each backend. Default: the physical cores."
)
@click.option("--runs", type=click.IntRange(1), help="Take exactly this many samples.")
@click.option(
    "--seconds",
    type=click.FloatRange(0, min_open=True),
    default=8.0,
    show_default=True,
    help="Time for the samples of one backend, 20 to 2000 of them.",
)
@click.option(
    "--warmup", type=click.IntRange(0), help="Calls before sampling. Default: until the times are steady."
)
@click.option(
    "--time-limit",
    "time_limit_s",
    type=click.FloatRange(0, min_open=True),
    default=900.0,
    show_default=True,
    help="Seconds after which a backend's process is killed.",
)
@click.option(
    "--json", "json_path", type=click.Path(path_type=Path), help="Write the report with every raw sample."
)
@verbose_option
@click.version_option(VERSION)
def command(
    engines: Path,
    checkpoints: tuple[Path, ...],
    backends: tuple[str, ...],
    device: Literal["cpu", "cuda"] | None,
    threads: int | None,
    runs: int | None,
    seconds: float,
    warmup: int | None,
    time_limit_s: float,
    json_path: Path | None,
) -> int:
    """Compare every bundle in ENGINES with PyTorch FP32 and FP16 on this device.

    Each backend runs in a process of its own: latency of one policy step, speed-up, error against the
    golden actions, peak memory, cold start. ENGINES is a bundle or a folder of bundles.
    """
    from rich.console import Console

    from .progress import ConsoleProgress
    from .report import check_writable, write
    from .run import BenchOptions, has_failure, run_bench
    from .table import COLUMNS, print_report

    if json_path is not None:
        check_writable(json_path)
    options = BenchOptions(
        engines=engines,
        device=device or default_device(),
        threads=threads or default_threads(),
        runs=runs,
        seconds=seconds,
        warmup=warmup,
        time_limit_s=time_limit_s,
        backends=backends,
        checkpoints=checkpoints,
    )
    with ConsoleProgress(stderr_console()) as progress:
        report = run_bench(options, progress)
    if json_path is not None:
        write(report, json_path)
    print_report(report, Console(width=COLUMNS))
    return int(has_failure(report))


def default_device() -> Literal["cpu", "cuda"]:
    """ "cuda" where NVML finds a GPU."""
    from .memory import open_nvml

    with open_nvml() as nvml:
        return "cuda" if nvml is not None and nvml.nvmlDeviceGetCount() > 0 else "cpu"


def default_threads() -> int:
    """Physical cores that this process may use: a second hardware thread gains matmuls nothing."""
    from vla_edge.runtime.sessions.onnxruntime import usable_cores

    return usable_cores()


def main() -> None:
    run_command(command)


if __name__ == "__main__":
    main()
