"""`vla-export`: the command."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from vla_edge.runtime.console import run_command
from vla_edge.runtime.extras import require
from vla_edge.runtime.json_text import json_text
from vla_edge.runtime.version import VERSION

from .build_hook import require_builder

if TYPE_CHECKING:
    from .pipeline import Exported

EPILOG = """\b
Examples:
  vla-export --ckpt best_simple_clip_lstm_model.pth --fp16
  vla-export --ckpt policy.pth --fp16 --fp32 -o engines/ --tokenizer ./kosmos-2
  vla-export --ckpt policy.pth --set pooling=mean --set lstm=window --set lstm_outputs=2
  vla-export --ckpt policy.pth --instruction "go to the cup" --images frames/ --gate action=0.01
"""


class RichReporter:
    """Progress bars on stderr; one line a stage where stderr is not a terminal."""

    def __init__(self) -> None:
        from rich.console import Console

        self._console = Console(stderr=True)

    def note(self, text: str) -> None:
        self._console.print(f"[dim]{text}[/dim]", highlight=False)

    @contextmanager
    def stage(self, name: str, total: int, unit: str) -> Iterator[Callable[[int], None]]:
        if not self._console.is_terminal:
            self.note(f"{name} ...")
            yield lambda advance: None
            return
        with _bar(self._console, unit) as progress:
            task = progress.add_task(name, total=total)
            yield lambda advance: progress.advance(task, advance)


@click.command(
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110}, epilog=EPILOG
)
@click.option(
    "--ckpt",
    "checkpoint",
    required=True,
    type=click.Path(path_type=Path),
    help="Trained checkpoint (.pth, .ckpt).",
)
@click.option("--fp16", is_flag=True, help="Half-precision bundle (the default).")
@click.option("--fp32", is_flag=True, help="Single-precision bundle; with --fp16, both.")
@click.option(
    "-o",
    "--output",
    type=click.Path(path_type=Path),
    default=Path("engines"),
    show_default=True,
    help="Folder for bundles.",
)
@click.option("--name", help="Name of the bundle; the checkpoint's by default.")
@click.option(
    "--tokenizer",
    help="Kosmos-2 tokenizer: folder, tokenizer.json or hub id. Default: beside the checkpoint, else the hub's.",
)
@click.option(
    "--instruction",
    "instructions",
    multiple=True,
    help="Instruction the policy can follow (repeatable); the first is the default.",
)
@click.option(
    "--instruction-ids",
    multiple=True,
    metavar="TEXT=IDS",
    help="Instruction with its full token ids, in place of a tokenizer.",
)
@click.option(
    "--keep-vocabulary",
    is_flag=True,
    help="Keep all embedding rows, so that the robot can take new instructions.",
)
@click.option(
    "--prompt-length",
    type=click.IntRange(1, 2048),
    help="Tokens in the padded prompt; by default what the longest instruction needs.",
)
@click.option("--batch", type=click.IntRange(1, 64), default=1, show_default=True, help="Frames a call.")
@click.option(
    "--set",
    "sets",
    multiple=True,
    metavar="NAME=VALUE",
    help="A setting of the forward pass, such as pooling=mean (see --list-settings).",
)
@click.option(
    "--settings",
    "settings_file",
    type=click.Path(path_type=Path, exists=True, dir_okay=False),
    help="YAML or JSON file of settings.",
)
@click.option(
    "--gate",
    "gates",
    multiple=True,
    metavar="STAGE=LIMIT",
    help="Largest error: action in m/s, other stages relative.",
)
@click.option(
    "--images",
    type=click.Path(path_type=Path, exists=True, file_okay=False),
    help="Your own frames (eight or more) as golden samples.",
)
@click.option("--force", is_flag=True, help="Replace an existing bundle.")
@click.option(
    "--build/--no-build",
    default=None,
    help="Build the TensorRT plan too. Default: where a GPU and TensorRT are there.",
)
@click.option("--json", "as_json", is_flag=True, help="Print the result as JSON.")
@click.option(
    "--list-settings",
    is_flag=True,
    is_eager=True,
    expose_value=False,
    callback=lambda ctx, _, on: _list_settings(ctx, on),
    help="List the settings and leave.",
)
@click.option("-v", "--verbose", is_flag=True, help="Show log messages of the libraries.")
@click.version_option(VERSION)
def command(
    checkpoint: Path, fp16: bool, fp32: bool, as_json: bool, verbose: bool, build: bool | None, **rest: Any
) -> None:
    """Export a trained policy to a bundle: ONNX graph, weights, golden samples and manifest.

    The written file is run and compared with the PyTorch FP32 policy, stage by stage. A bundle is there
    only when every gate is met; exit code 1 otherwise.
    """
    require("export", "torch", "transformers", "onnx", "onnxruntime", "psutil")
    if build:
        require_builder()
    _quiet_libraries(verbose)
    precisions = tuple(name for name, asked in (("fp16", fp16 or not fp32), ("fp32", fp32)) if asked)
    from .pipeline import export_bundle

    results = export_bundle(_options(checkpoint, precisions, **rest), RichReporter())
    if as_json:
        print(json_text([_as_dict(result) for result in results]))
    else:
        for result in results:
            _print(result)
    _plans(results, build)


def _options(checkpoint: Path, precisions: tuple[str, ...], **given: Any) -> Any:
    from .pipeline import ExportOptions
    from .settings import parse_options
    from .tokens import parse_explicit_ids

    explicit = parse_explicit_ids(given.pop("instruction_ids"))
    settings = parse_options(given.pop("sets"))
    instructions = [*given.pop("instructions"), *explicit]
    if instructions:
        settings.setdefault("instructions", list(dict.fromkeys(instructions)))
    return ExportOptions(
        checkpoint=checkpoint, precisions=precisions, settings=settings, explicit_ids=explicit, **given
    )


def _plans(results: list[Exported], build: bool | None) -> None:
    """Build the plan for this GPU, or say in one line how to build it on the target."""
    from .build_hook import build_here

    for result in results:
        build_here(result.folder, build)


def _list_settings(ctx: click.Context, on: bool) -> None:
    if not on or ctx.resilient_parsing:
        return
    from rich.console import Console
    from rich.table import Table

    from .settings import STANDING, PolicySettings

    table = Table("setting", "default", "standing", title="Settings of the forward pass")
    defaults = PolicySettings()
    for name in PolicySettings.__struct_fields__:
        table.add_row(name, json.dumps(getattr(defaults, name), ensure_ascii=False), STANDING[name])
    Console().print(table)
    print("features, final_tanh and clip_activation depend on the layout.")
    ctx.exit()


def _print(result: Exported) -> None:
    from rich.console import Console
    from rich.table import Table

    from .settings import assumed_settings

    manifest = result.manifest
    table = Table(
        "stage",
        "relative error",
        "max abs",
        "gate",
        title=f"{manifest.name} against {manifest.parity.reference}",
    )
    limits = {gate.stage: gate for gate in manifest.parity.gates}
    for error in manifest.parity.errors:
        gate = limits[error.stage]
        unit = " m/s" if gate.metric == "max_abs_mps" else ""
        table.add_row(
            error.stage, f"{error.relative_l2:.2e}", f"{error.max_abs:.2e}", f"{gate.limit:g}{unit}"
        )
    console = Console()
    console.print(table)
    size = sum(entry.size_bytes for entry in manifest.files) / (1 << 20)
    seconds = ", ".join(f"{name} {value:.1f}" for name, value in result.seconds.items())
    parity, origin = manifest.parity, manifest.source.weights_origin
    assumed = assumed_settings(manifest)
    if assumed:
        shown = ", ".join(
            f"{name}={json.dumps(value, ensure_ascii=False)}" for name, value in assumed.items()
        )
        print(f"assumed, as no checkpoint tells it: {shown} (--list-settings says why, --set changes it)")
    print(f"action within {parity.max_abs_mps:.2g} m/s over {parity.samples} images ({origin})")
    print(f"{result.folder}  {size:.1f} MiB; seconds: {seconds}")


def _as_dict(result: Exported) -> dict[str, Any]:
    import msgspec

    return {
        "folder": str(result.folder),
        "seconds": dict(result.seconds),
        "precision": msgspec.to_builtins(result.manifest.precision),
        "parity": msgspec.to_builtins(result.manifest.parity),
    }


def _bar(console: Any, unit: str) -> Any:
    from rich import progress

    amount = progress.DownloadColumn() if unit == "bytes" else progress.MofNCompleteColumn()
    columns = [
        progress.TextColumn("{task.description}"),
        progress.BarColumn(),
        amount,
        progress.TimeElapsedColumn(),
    ]
    return progress.Progress(*columns, console=console)


def _quiet_libraries(verbose: bool) -> None:
    """transformers and open_clip talk a lot while they are imported."""
    import logging
    import os

    if verbose:
        logging.basicConfig(level=logging.INFO)
    else:
        os.environ.setdefault("TRANSFORMERS_VERBOSITY", "error")


def main() -> None:
    run_command(command)


if __name__ == "__main__":
    main()
