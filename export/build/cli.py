"""`vla-build`: a bundle's TensorRT plan, built and checked on the machine that will use it."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any, get_args

import click
from click.core import ParameterSource

from vla_edge.export.screen.progress import note
from vla_edge.runtime.command.console import (
    COMMAND_SETTINGS,
    print_error,
    run_command,
    stderr_console,
    verbose_option,
)
from vla_edge.runtime.command.json_text import json_text
from vla_edge.runtime.cuda.device import MemoryName
from vla_edge.runtime.engines.tensorrt.library import DEFAULT_BACKEND, LIBRARIES
from vla_edge.runtime.engines.tensorrt.plan_names import dotted
from vla_edge.runtime.errors import EngineError, ParityError
from vla_edge.runtime.version import VERSION

from .parts.arguments import bundle_folder, memory_options, parts_options

if TYPE_CHECKING:
    from vla_edge.runtime.bundle.bundle import Bundle

    from .build import BuildResult
    from .options import BuildOptions

_OF_BUILDS = (
    "level",
    "aux_streams",
    "workspace_mib",
    "tf32",
    "cache_path",
    "no_timing_cache",
    "parts",
    "memory_limit",
    "reuse",
    "ignore_memory",
    "force",
)


@click.command(context_settings=COMMAND_SETTINGS)
@click.argument("bundle", type=click.Path(path_type=Path))
@click.option("--backend", type=click.Choice([*LIBRARIES]), default=DEFAULT_BACKEND, show_default=True)
@click.option(
    "--device", "device_index", type=click.IntRange(0), default=0, show_default=True, help="CUDA's index."
)
@click.option(
    "--sm",
    "sms",
    type=click.IntRange(10),
    multiple=True,
    help="TensorRT-RTX: build for this compute capability (89 is 8.9) although that GPU is not here; repeatable.",
)
@click.option(
    "--aux-streams", type=click.IntRange(0), help="Most streams beside the main one [TensorRT's choice]."
)
@click.option("--tf32/--no-tf32", default=False, show_default=True, help="Let FP32 matmuls round to 10 bits.")
@click.option(
    "--timing-cache", "cache_path", type=click.Path(path_type=Path), help="File of kernel times [in plans/]."
)
@click.option("--no-timing-cache", is_flag=True, help="Measure every kernel anew and keep nothing.")
@click.option(
    "--memory",
    type=click.Choice(get_args(MemoryName)),
    default="cuda-bindings",
    show_default=True,
    help="Package for device memory.",
)
@parts_options
@memory_options
@click.option("--force", is_flag=True, help="Build all anew, even where a good plan is there.")
@click.option("--verify", "verify_only", is_flag=True, help="Build nothing: check the plan that is there.")
@click.option("--stages", "stages_only", is_flag=True, help="Keep nothing: measure the error of each stage.")
@click.option(
    "--json", "as_json", is_flag=True, help="Print the plan's side file (or the stages' errors) as JSON."
)
@verbose_option
@click.version_option(VERSION)
def build(bundle: Path, cache_path: Path | None, no_timing_cache: bool, as_json: bool, **options: Any) -> int:
    """Build BUNDLE's TensorRT plan for this GPU and check it against the golden samples.

    Needs TensorRT 10.3 or later (JetPack 6.1 or later), no torch. The plan and its side file go into
    BUNDLE/plans. A plan that misses the gates of the manifest is set aside (.rejected), and the exit code
    is 1; one that --verify finds to miss stays and is refused. Where a good plan is there already, nothing
    is built.

    Where memory is too little for one plan, the graph is cut: its parts are built one after another and run
    as one engine. A part that a bundle in the same folder has already, checked, is taken from there.

    \b
    Examples:
      vla-build engines/pure-fp16
      vla-build engines/pure-fp16 --memory-limit 12GiB
      vla-build engines/pure-fp16 --parts 5
      vla-build engines/pure-fp16 --level 5 --force
      vla-build engines/pure-fp16 --backend tensorrt-rtx --sm 89 --sm 120
      vla-build engines/pure-fp16 --verify
      vla-build engines/pure-fp16 --stages
    """
    verify_only, stages_only = options.pop("verify_only"), options.pop("stages_only")
    sms = options.pop("sms") or (None,)
    if verify_only and stages_only:
        raise click.UsageError("--verify and --stages exclude each other.")
    if stages_only and len(sms) > 1:
        raise click.UsageError("--stages measures one engine: give --sm once.")
    if verify_only and (without := _given_for_a_build()):
        raise click.UsageError(f"--verify builds nothing: leave out {', '.join(without)}.")
    if no_timing_cache and cache_path:
        raise click.UsageError("--timing-cache and --no-timing-cache exclude each other.")
    from vla_edge.runtime.bundle.bundle import Bundle

    from .options import BuildOptions

    bundle = bundle_folder(bundle)
    opened = Bundle.open(bundle)
    chosen = [
        BuildOptions(**options, sm=sm, timing_cache=not no_timing_cache, timing_cache_path=cache_path)
        for sm in sms
    ]
    if stages_only:
        return _stages(opened, chosen[0], as_json)
    if len(chosen) == 1:
        results, code = [_build(opened, chosen[0], verify_only, as_json)], 0
    else:
        results, code = _build_each(opened, chosen, verify_only, as_json)
    _print_results(results, bundle, as_json)
    return code


def _build_each(
    bundle: Bundle, chosen: list[BuildOptions], verify_only: bool, as_json: bool
) -> tuple[list[BuildResult], int]:
    """One after another; one that fails is told at once, and the others are built all the same."""
    results, code = [], 0
    for options in chosen:
        note(stderr_console(), f"for SM {dotted(options.sm or 0)}:")
        try:
            results.append(_build(bundle, options, verify_only, as_json))
        except (EngineError, ParityError) as error:
            print_error(error)
            code = error.exit_code
    return results, code


def _given_for_a_build() -> list[str]:
    """The options on the command line that mean nothing where nothing is built."""
    context = click.get_current_context()
    return [
        "--no-reuse" if parameter.name == "reuse" else parameter.opts[0]
        for parameter in context.command.params
        if parameter.name in _OF_BUILDS
        and context.get_parameter_source(str(parameter.name)) is ParameterSource.COMMANDLINE
    ]


def _build(bundle: Bundle, options: BuildOptions, verify_only: bool, as_json: bool) -> BuildResult:
    from .build import RejectedPlanError, build_plan, verify_existing
    from .progress import ShownProgress
    from .view import print_rejected

    work = verify_existing if verify_only else build_plan
    try:
        with ShownProgress(stderr_console()) as progress:
            return work(bundle, options, progress)
    except RejectedPlanError as error:
        if not as_json:
            print_rejected(error.record)
        raise


def _stages(bundle: Bundle, options: BuildOptions, as_json: bool) -> int:
    from .progress import ShownProgress
    from .stages import measure_stages
    from .view import print_stages

    with ShownProgress(stderr_console()) as progress:
        errors = measure_stages(bundle, options, progress)
    if as_json:
        click.echo(json_text(errors))
    else:
        print_stages(errors, bundle.manifest)
    return 0


def _print_results(results: list[BuildResult], bundle: Path, as_json: bool) -> None:
    from .view import print_built

    # --parts was heard
    idle = [name for name in _given_for_a_build() if name not in ("--parts", "--ignore-memory")]
    if as_json:
        records = [result.record for result in results]
        click.echo(json_text(records[0] if len(records) == 1 else records))
    else:
        print_built(results, bundle, idle)


def main() -> None:
    run_command(build)


if __name__ == "__main__":
    main()
