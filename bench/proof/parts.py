"""Plans in parts against plans in one piece, on this GPU: memory to build, speed, weights that two policies share.

    python -m vla_edge.bench.proof.parts engines/hybrid-fp16 engines/pure-fp16 --parts 5 --parts 4 -o parts/

Of each bundle two copies are made, of hard links without plans: one is built as a whole, the other in parts, every
build measured from outside; then both run in turn in one process, and at last the bundles in parts beside each other.
The second bundle takes from the first the parts that both have. Results are kept as they come, and a step that has
one is not run again.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator, Sequence
from pathlib import Path

import click

from vla_edge.bench.backends.runnable import check_device
from vla_edge.bench.output.markdown import table_lines
from vla_edge.bench.output.tables.grid import Grid, Line
from vla_edge.runtime.command.console import COMMAND_SETTINGS, run_command
from vla_edge.runtime.engines.tensorrt.library import DEFAULT_BACKEND, LIBRARIES
from vla_edge.runtime.engines.tensorrt.plan_names import PLANS_FOLDER
from vla_edge.runtime.errors import InputError

from .acceptance import Results, Step, run_steps

WHOLE, PARTS = "whole", "parts"
TOGETHER = "together"
_MIB = 1 << 20


def steps(name: str, count: int, folder: Path, backend: str) -> Iterator[Step]:
    """What is run for a bundle, in order.

    Args:
        name: of the bundle, of which `folder` has both copies.
        count: of parts.
        folder: for results.
        backend: which TensorRT.
    """
    whole, parts = str(folder / WHOLE / name), str(folder / PARTS / name)
    build = ("vla_edge.export.build.cli", "--backend", backend, "--json", "--ignore-memory")
    yield Step(WHOLE, (*build, whole, "--parts", "1", "--no-reuse"))
    yield Step(PARTS, (*build, parts, "--parts", str(count)))
    yield Step("beside", ("vla_edge.bench.proof.beside", whole, parts, "--backend", backend))


def copies(bundle: Path, folder: Path) -> None:
    """Both copies of a bundle, as far as they are not there.

    Raises:
        InputError: `folder` is on another disk than the bundle.
    """
    for kind in (WHOLE, PARTS):
        copy = folder / kind / bundle.name
        if copy.is_dir():
            continue
        ignore = shutil.ignore_patterns(PLANS_FOLDER)
        try:
            shutil.copytree(bundle, copy, copy_function=os.link, ignore=ignore)
        except shutil.Error as error:
            shutil.rmtree(copy)
            raise InputError(
                f"{bundle} cannot be linked into {folder}: {error.args[0][0][2]}.",
                "Give an --output on the same disk.",
            ) from error


def build_lines(results: Results) -> Iterator[tuple[str, ...]]:
    """A line for each part that was built: weights, predicted and measured memory, seconds, size."""
    for kind in (WHOLE, PARTS):
        for part in results[kind].get("result", {}).get("parts", ()):
            build = part["build"]
            if build["found_in"]:
                yield (part["name"], _mib(part["weights_bytes"]), *[""] * 5, f"from {build['found_in']}")
                continue
            memory = ("predicted_mib", "peak_host_mib", "peak_gpu_mib", "peak_mib")
            figures = (_text(build[key]) for key in memory)
            size = _mib(part["size_bytes"])
            yield (part["name"], _mib(part["weights_bytes"]), *figures, f"{build['seconds']:.1f}", size)


def speed_lines(name: str, results: Results) -> Iterator[tuple[str, ...]]:
    """Both in turn: GPU alone, with copies, and their ratio."""
    found = results["beside"].get("result")
    if not found:
        return
    for what in ("gpu", "run"):
        first, second = found["first"][what], found["second"][what]
        if first and second:
            pair = (f"{one['p50_ms']:.3f} / {one['p99_ms']:.3f}" for one in (first, second))
            yield (
                name,
                {"gpu": "engine alone", "run": "with copies"}[what],
                *pair,
                f"{found[what + '_ratio']:.4f}",
            )
    streams = results[PARTS].get("result", {}).get("streams")
    if streams:
        pair = (f"{streams[key]:.3f}" for key in ("in_line_ms", "side_by_side_ms"))
        ratio = streams["side_by_side_ms"] / streams["in_line_ms"]
        yield (name, "in line, side by side", *pair, f"{ratio:.4f}")
    errors = (_error(results[kind].get("result")) for kind in (WHOLE, PARTS))
    yield (name, "action error", *errors, "")
    loads = (f"{found[which]['load_s']:.2f}" for which in ("first", "second"))
    yield (name, "load, s", *loads, "")


def memory_lines(results: Results) -> Iterator[tuple[str, str]]:
    """Device memory of two bundles in parts, alone and at once, without CUDA's context."""
    found = results.get(TOGETHER, {}).get("result", {}).get("device_mib") or {}
    if not found:
        return
    context = found["context"]
    for which in ("first", "second", "both"):
        yield (which, f"{found[which] - context:.0f}")
    alone = found["first"] + found["second"] - 2 * context
    yield ("both, of the sum of each alone", f"{(found['both'] - context) / alone:.3f}")


def _error(record: Results | None) -> str:
    errors = [sample["max_abs"] for sample in record["verification"]["samples"]] if record else []
    return f"{max(errors):.4f}" if errors and None not in errors else "not checked"


def _mib(size: int | None) -> str:
    return "" if size is None else f"{size / _MIB:.0f}"


def _text(value: object) -> str:
    return "" if value is None else str(value)


def _table(title: str, words: int, heads: Sequence[str], lines: Iterator[tuple[str, ...]]) -> str:
    grid = Grid("", "", tuple(heads[:words]), tuple(heads[words:]), tuple(map(Line, lines)))
    return "\n".join((f"{title}:", *table_lines(grid), ""))


@click.command(context_settings=COMMAND_SETTINGS)
@click.argument("bundles", nargs=-1, required=True, type=click.Path(path_type=Path))
@click.option("--parts", "counts", type=click.IntRange(2), multiple=True, help="For each bundle in turn [5].")
@click.option("--backend", type=click.Choice([*LIBRARIES]), default=DEFAULT_BACKEND, show_default=True)
@click.option("-o", "--output", type=click.Path(path_type=Path), default=Path("parts"), show_default=True)
def command(bundles: tuple[Path, ...], counts: tuple[int, ...], backend: str, output: Path) -> int:
    """Build BUNDLES as wholes and in parts, and compare what it takes and what it gives.

    Exit code 1 when a step failed. Run again to go on after an interruption.

    \b
    Example:
      python -m vla_edge.bench.proof.parts engines/a-fp16 --parts 5 -o parts/
    """
    if len({bundle.name for bundle in bundles}) < len(bundles):
        raise InputError("two bundles have the same name.", "Results are kept by name: rename one.")
    if len(counts) not in (0, 1, len(bundles)):
        raise InputError(f"--parts was given {len(counts)} times.", "Give it once, or once for each bundle.")
    check_device("cuda")
    numbers = counts if len(counts) > 1 else (counts or (5,)) * len(bundles)
    found = {}
    for bundle, count in zip(bundles, numbers, strict=True):
        copies(bundle.absolute(), output)
        found[bundle.name] = run_steps(bundle.name, steps(bundle.name, count, output, backend), output)
    if len(bundles) > 1:
        pair = [str(output / PARTS / bundle.name) for bundle in bundles[:2]]
        arguments = ("vla_edge.bench.proof.beside", *pair, "--backend", backend, "--rounds", "1")
        found[TOGETHER] = run_steps(TOGETHER, (Step(TOGETHER, arguments),), output)
    _show(found)
    failed = [
        (name, step)
        for name, all_steps in found.items()
        for step in all_steps
        if all_steps[step]["exit_code"]
    ]
    for name, step in failed:
        click.echo(f"{name}: {step} ended with exit code {found[name][step]['exit_code']}", err=True)
    return int(bool(failed))


def _show(found: dict[str, Results]) -> None:
    heads = ("part", "weights", "predicted", "host", "GPU", "both", "s", "plan")
    for name, results in found.items():
        if name != TOGETHER:
            click.echo(_table(f"{name}, builds, MiB", 1, heads, build_lines(results)))
    columns = ("bundle", "p50 / p99, ms", "whole", "parts", "ratio")
    named = [(name, results) for name, results in found.items() if name != TOGETHER]
    lines = (line for name, results in named for line in speed_lines(name, results))
    click.echo(_table("in turn in one process", 2, columns, lines))
    shared = memory_lines(found.get(TOGETHER, {}))
    click.echo(_table("device memory of the first two in parts, MiB", 1, ("bundles", "held"), shared))


if __name__ == "__main__":
    run_command(command)
