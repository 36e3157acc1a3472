"""From checkpoints to one table of what their plans are worth on this GPU.

    python -m vla_edge.bench.proof.acceptance samples/*.pth -o proof/

For each checkpoint, each step a command of its own: export and build in one, build again with the timing
cache, errors by stage, a soak, refusals of damaged plans. Then one bench of all of them, and of the stand-in,
against PyTorch; its report is in `report/`, and is printed above the table, which has the rest. Every result is
kept in the folder as soon as it is there, and a step whose result is there is not run again, so that a run which
was cut short goes on where it was.
"""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import click

from vla_edge.bench.backends.runnable import check_device
from vla_edge.bench.output.format import NOTHING
from vla_edge.bench.output.markdown import table_lines
from vla_edge.bench.output.tables.grid import Grid, Line
from vla_edge.export import images
from vla_edge.export.bundle.names import bundle_stem
from vla_edge.runtime.command.console import COMMAND_SETTINGS, run_command
from vla_edge.runtime.command.finite import FiniteFloat
from vla_edge.runtime.command.json_text import json_text
from vla_edge.runtime.errors import InputError
from vla_edge.runtime.files.atomic import write_atomically

BENCH = "bench"  # the step that is one for all checkpoints
PLAIN_CALLS = 1000  # of the soaks that only compare ways of calling

Results = dict[str, Any]


@dataclass(frozen=True)
class Step:
    """One command for one bundle.

    Attributes:
        name: of its result.
        arguments: of `python -m`.
        read: its result, from what it printed; exit code 1 still gives one.
    """

    name: str
    arguments: tuple[str, ...]
    read: Callable[[str], Any] = json.loads


def steps(checkpoint: Path, folder: Path, calls: int) -> Iterator[Step]:
    """What is run for a checkpoint, in order.

    Args:
        checkpoint: the trained policy.
        folder: for results; the bundle goes into `engines/` in it.
        calls: of the soak.
    """
    engines = folder / "engines"
    bundle = str(engines / _bundle_name(checkpoint))
    export = ("--ckpt", str(checkpoint), "--fp16", "--build", "--force", "--output", str(engines))
    soak = ("vla_edge.bench.proof.soak", bundle, "--backend", "tensorrt", "--calls")
    yield Step("export and build", ("vla_edge.export.cli", *export), lambda printed: _plan_record(bundle))
    yield Step("build again", ("vla_edge.export.build.cli", bundle, "--force", "--json"))
    yield Step("stages", ("vla_edge.export.build.cli", bundle, "--stages", "--json"))
    yield Step("soak", (*soak, str(calls)))
    yield Step("plain enqueue", (*soak, str(PLAIN_CALLS), "--no-graph"))
    yield Step("refusals", ("vla_edge.bench.proof.refusals", bundle))


def bench_step(checkpoints: Sequence[Path], folder: Path, seconds: float) -> Step:
    """The bench of all bundles, and of the stand-in; its result is what it printed.

    Args:
        checkpoints: for PyTorch's rows; one whose export failed is left out.
        folder: where `steps` put the bundles; the report goes into `report/` in it.
        seconds: for the samples of each backend.
    """
    workloads = (
        "--workload",
        "policy",
        "--workload",
        "owner-standin",
        "--images",
        str(Path(images.__file__).parent),
    )
    arguments = [str(folder / "engines"), "--device", "cuda", *workloads, "--seconds", str(seconds)]
    for checkpoint in checkpoints:
        if (folder / "engines" / _bundle_name(checkpoint)).is_dir():  # the bench refuses one without a bundle
            arguments += ["--checkpoint", str(checkpoint)]
    return Step(BENCH, ("vla_edge.bench.cli", *arguments, "--out", str(folder / "report")), str)


def _bundle_name(checkpoint: Path) -> str:
    return f"{bundle_stem(checkpoint)}-fp16"


def _plan_record(bundle: str) -> Any:
    records = sorted((Path(bundle) / "plans").glob("*.plan.json"))
    if len(records) != 1:
        raise InputError(f"{bundle} has {len(records)} plans, not one.", "Look at what the build said above.")
    return json.loads(records[0].read_bytes())


def run_steps(name: str, to_run: Iterable[Step], folder: Path) -> Results:
    """Run what has no result yet.

    Args:
        name: of what the steps are for.
        to_run: in order.
        folder: where results are kept, in a file of that name.

    Returns:
        For each step {"seconds", "exit_code", "result"}; "result" is absent where there is none.
    """
    path = folder / f"{name}.acceptance.json"
    results: Results = json.loads(path.read_bytes()) if path.is_file() else {}
    for step in to_run:
        if "result" in results.get(step.name, {}):
            continue
        click.echo(f"{name}: {step.name} ...", err=True)
        results[step.name] = _run(step)
        write_atomically(path, lambda file: file.write(json_text(results).encode()))
    return results


def _run(step: Step) -> Results:
    start = time.monotonic()
    done = subprocess.run([sys.executable, "-m", *step.arguments], stdout=subprocess.PIPE, text=True)
    outcome: Results = {"seconds": round(time.monotonic() - start, 1), "exit_code": done.returncode}
    if done.returncode in (0, 1) and done.stdout.strip():
        try:
            outcome["result"] = step.read(done.stdout)
        except (InputError, OSError, ValueError) as error:  # a step that failed may leave less than it should
            click.echo(f"{step.name}: no result: {error}", err=True)
    return outcome


def table(results: dict[str, Results]) -> str:
    """Markdown: a line for each figure, a column for each checkpoint."""
    columns = [dict(figures(found)) for found in results.values()]
    names = dict.fromkeys(name for column in columns for name in column)
    lines = (Line((name, *(column.get(name, NOTHING) for column in columns))) for name in names)
    return "\n".join(table_lines(Grid("", "", ("",), tuple(results), tuple(lines))))


def figures(results: Results) -> Iterator[tuple[str, str]]:
    """Every figure of one checkpoint that has a result, as name and text."""
    found = {name: step["result"] for name, step in results.items() if "result" in step}
    if "export and build" in found:
        yield "checkpoint to verified plan, one command, s", f"{results['export and build']['seconds']:.1f}"
        yield "of it the build: s, host memory MiB", _build(found["export and build"])
        yield _action_error(found["export and build"])
    if "build again" in found:
        yield "build with the timing cache: s, host memory MiB", _build(found["build again"])
    for stage, error in found.get("stages", {}).items():
        yield f"error of stage {stage}, relative L2", f"{error['relative_l2']:.2g}"
    if "soak" in found:
        yield from _soak_figures(found["soak"])
    if "plain enqueue" in found:
        yield "plain enqueue: act p50 / p99, ms", _latency(found["plain enqueue"]["act"])
    for fault, words in found.get("refusals", {}).items():
        yield f"plan with fault: {fault}", "refused" if words else "NOT REFUSED"


def _soak_figures(soak: Results) -> Iterator[tuple[str, str]]:
    yield "engine alone p50 / p99, ms", _latency(soak["engine"])
    yield "engine and copies p50 / p99, ms", _latency(soak["run"])
    yield "act_preprocessed p50 / p99, ms", _latency(soak["act"])
    yield "the same, pixels in place p50 / p99, ms", _latency(soak["act_in_place"])
    engine_ms = soak["engine"]["p50_ms"]
    over = [soak[name]["p50_ms"] - engine_ms for name in ("act", "act_in_place")]
    yield "over the engine, p50, ms: copied, in place", ", ".join(f"{value:.3f}" for value in over)
    yield "loading, ms", ", ".join(f"{step} {spent:.0f}" for step, spent in soak["load_ms"].items())
    yield "calls; of them differing", f"{soak['calls']}; {soak['differing']}"
    yield "growth over them, KiB: host, device", f"{soak['host_growth_kib']}, {soak['device_growth_kib']}"
    if soak["device"]:
        device = soak["device"]
        parts = ", ".join(f"{name} {mib:.0f}" for name, mib in device["parts"].items())
        told = (
            "unknown" if device[name] is None else f"{device[name]:.0f}" for name in ("context", "loaded")
        )
        yield "device memory, MiB: CUDA context, loaded", ", ".join(told)
        yield "of it", parts


def _build(record: Results) -> str:
    builds = [part["build"] for part in record["parts"]]
    seconds = sum(build["seconds"] for build in builds)
    return f"{seconds:.1f}, {max(build['peak_host_mib'] for build in builds)}"


def _action_error(record: Results) -> tuple[str, str]:
    found = record["verification"]
    unit = next((check["unit"] for check in found["checks"] if check["stage"] == "action"), "no gate")
    errors = [sample["max_abs"] for sample in found["samples"]]
    figure = "not finite" if None in errors or not errors else f"{max(errors):.3g}"
    return f"action error of the plan, {unit}", figure


def _latency(latency: Results) -> str:
    return f"{latency['p50_ms']:.3f} / {latency['p99_ms']:.3f}"


@click.command(context_settings=COMMAND_SETTINGS)
@click.argument("checkpoints", nargs=-1, required=True, type=click.Path(path_type=Path))
@click.option("-o", "--output", type=click.Path(path_type=Path), default=Path("proof"), show_default=True)
@click.option("--calls", type=click.IntRange(1), default=10_000, show_default=True, help="Of the soak.")
@click.option(
    "--seconds",
    type=FiniteFloat(0, 86_400, min_open=True),
    default=2.0,
    show_default=True,
    help="For the samples of each backend of the bench.",
)
def command(checkpoints: tuple[Path, ...], output: Path, calls: int, seconds: float) -> int:
    """Export, build, check, soak and compare CHECKPOINTS on this GPU; print the bench, then one table of the rest.

    Exit code 1 when a step failed. Run again to go on after an interruption.

    \b
    Example:
      python -m vla_edge.bench.proof.acceptance samples/*.pth -o proof/
    """
    for checkpoint in checkpoints:
        if not checkpoint.is_file():
            raise InputError(f"no checkpoint {checkpoint}.", "Write a sample with vla-sample, or name yours.")
    if len({path.stem for path in checkpoints}) < len(checkpoints):
        raise InputError("two checkpoints have the same name.", "Results are kept by name: rename one.")
    check_device("cuda")
    output.mkdir(parents=True, exist_ok=True)
    results = {path.stem: run_steps(path.stem, steps(path, output, calls), output) for path in checkpoints}
    bench = run_steps("all", (bench_step(checkpoints, output, seconds),), output)
    click.echo(bench[BENCH].get("result", ""))
    click.echo(table(results))
    results["all"] = bench
    failed = [(name, step) for name, found in results.items() for step in found if found[step]["exit_code"]]
    for name, step in failed:
        click.echo(f"{name}: {step} ended with exit code {results[name][step]['exit_code']}", err=True)
    return int(bool(failed))


if __name__ == "__main__":
    run_command(command)
