"""`vla-export`: the command."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from vla_edge.export.screen.reporter import RichReporter
from vla_edge.runtime.command.console import ExamplesFirst, configure_logging, run_command
from vla_edge.runtime.command.extras import require
from vla_edge.runtime.command.json_text import json_text
from vla_edge.runtime.episodes.options import RecordingArguments, recording_options
from vla_edge.runtime.version import VERSION

if TYPE_CHECKING:
    from vla_edge.export.bundle.samples.recorded import RecordedSamples
    from vla_edge.runtime.bundle.manifest import Camera, Manifest

    from .options import ExportOptions

EPILOG = """\b
Examples:
  vla-export --ckpt best_simple_clip_lstm_model.pth --fp16
  vla-export --ckpt policy.pth --fp16 --fp32 --tokenizer ./kosmos-2
  vla-export --ckpt policy.pth --set pooling=mean --set lstm=window
  vla-export --ckpt policy.pth --instruction "go to the cup" --images frames/
  vla-export --ckpt policy.pth --episodes recordings/
  vla-export --ckpt policy.pth --camera 720x1280 --bgr
  vla-export --ckpt policy.pth --gate action=0.01
"""


@click.command(
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110},
    cls=ExamplesFirst,
    epilog=EPILOG,
)
@click.option(
    "--ckpt",
    "checkpoint",
    type=click.Path(path_type=Path),
    help="Trained checkpoint (.pth, .ckpt).  [required]",
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
    help="The policy's tokenizer: folder, tokenizer.json or hub id. Default: beside the checkpoint, else the hub's.",
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
@click.option(
    "--camera",
    metavar="HxW",
    help="Let the graph take a camera's frames as they are, height x width, such as 720x1280: resize and "
    "normalisation run in the engine. For a GPU and one camera; frames of another size are refused.",
)
@click.option("--bgr", is_flag=True, help="With --camera: its frames are BGR, as OpenCV's are.")
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
    help="Largest error: action in its unit, such as m/s; other stages relative.",
)
@click.option(
    "--images",
    type=click.Path(path_type=Path, exists=True, file_okay=False),
    help="Your own frames (eight or more) as golden samples.",
)
@click.option(
    "--episodes",
    type=click.Path(path_type=Path, exists=True),
    help="Golden samples from your recorded episodes: frames of all instructions, episodes and times, each with the "
    "instruction of its episode. A recording or a folder of them.",
)
@click.option(
    "--samples",
    type=click.IntRange(8, 250),
    help="How many, with --episodes.  [default: 10]",
)
@recording_options("--episodes", actions=False)
@click.option(
    "--weights",
    metavar="KEY",
    help="State dict to take where a checkpoint has several, such as ema_state_dict; vla-inspect lists them.",
)
@click.option(
    "--family",
    metavar="NAME",
    help="Family of policies that the checkpoint is of, where packages add some; by default all are asked.",
)
@click.option("--force", is_flag=True, help="Replace an existing bundle.")
@click.option("--ignore-memory", is_flag=True, help="Do not warn where memory may be too little.")
@click.option(
    "--build/--no-build",
    default=None,
    help="Build the TensorRT plan too. Default: where a GPU and TensorRT are there.",
)
@click.option("--json", "as_json", is_flag=True, help="Print the result as JSON.")
@click.option(
    "--list-settings",
    is_flag=True,
    help="List the settings with their choices and leave; with --json for programs.",
)
@click.option(
    "-v",
    "--verbose",
    is_flag=True,
    help="Log what is done, by the libraries too, and where an error came from.",
)
@click.version_option(VERSION)
def command(
    checkpoint: Path | None,
    fp16: bool,
    fp32: bool,
    as_json: bool,
    list_settings: bool,
    verbose: bool,
    build: bool | None,
    **rest: Any,
) -> None:
    """Export a trained policy to a bundle: ONNX graph, weights, golden samples and manifest.

    The written file is run and compared with the PyTorch FP32 policy, stage by stage. A bundle is there
    only when every gate is met; exit code 1 otherwise.
    """
    if list_settings:
        from vla_edge.export.settings.view import print_settings

        from .families import BUILT_IN, family_of

        print_settings(family_of(rest["family"] or BUILT_IN).settings, as_json)
        return
    if checkpoint is None:
        raise click.UsageError("Missing option '--ckpt'.")
    require("export", "torch", "transformers", "onnx", "onnxruntime")
    _log(verbose)
    precisions = tuple(name for name, asked in (("fp16", fp16 or not fp32), ("fp32", fp32)) if asked)
    if build:
        from .build_hook import refuse_if_impossible

        refuse_if_impossible()
    rest["camera"] = _camera(rest.pop("camera"), rest.pop("bgr"))
    rest["episodes"] = _episodes(rest)
    options = _options(checkpoint, precisions, **rest)
    shown: list[dict[str, Any]] = []
    try:
        _export(options, build, as_json, shown)
    finally:
        if as_json and shown:
            print(json_text(shown))


def _export(options: ExportOptions, build: bool | None, as_json: bool, shown: list[dict[str, Any]]) -> None:
    """Export, then build plans; what is to be printed as JSON in the end, also after a failure, is in `shown`."""
    from vla_edge.export.build.view import print_built
    from vla_edge.export.bundle.gates import GatesMissedError

    from .build_hook import build_here
    from .pipeline import export_bundle

    try:
        results = export_bundle(
            options,
            RichReporter(),
            lambda result: _show(result.folder, result.manifest, result.seconds, as_json, shown),
        )
    except GatesMissedError as error:
        _show(None, error.manifest, {}, as_json, shown)
        raise
    for at, result in enumerate(results):
        built = build_here(result.folder, build)
        if built and as_json:
            shown[at]["plan"] = str(built.path)
        elif built:
            print_built([built], result.folder)


def _camera(size: str | None, bgr: bool) -> Camera | None:
    """Whose frames the graph is to take."""
    from vla_edge.export.bundle.camera import parse_camera

    if size is None and bgr:
        raise click.UsageError("--bgr is about the frames of --camera: give both, or neither.")
    return None if size is None else parse_camera(size, bgr)


def _episodes(given: dict[str, Any]) -> RecordedSamples | None:
    """What is asked about recordings, taken out of the other options."""
    path, count = given.pop("episodes"), given.pop("samples")
    recordings: RecordingArguments = given.pop("recordings")
    if path is None:
        if alone := [*(["--samples"] if count else []), *recordings.given]:
            raise click.UsageError(f"{alone[0]} is about recordings: give them with --episodes.")
        return None
    if given["images"] is not None:
        raise click.UsageError("--images and --episodes both say where golden samples come from: give one.")
    from vla_edge.export.bundle.samples.recorded import USUAL_SAMPLES, RecordedSamples

    return RecordedSamples(path, count or USUAL_SAMPLES, recordings.choice, recordings.skip_broken)


def _options(checkpoint: Path, precisions: tuple[str, ...], **given: Any) -> Any:
    from vla_edge.export.settings.instruction_ids import parse_explicit_ids
    from vla_edge.export.settings.text import parse_options

    from .options import ExportOptions

    explicit = parse_explicit_ids(given.pop("instruction_ids"))
    settings = parse_options(given.pop("sets"))
    instructions = [*given.pop("instructions"), *explicit]
    if instructions:
        settings.setdefault("instructions", list(dict.fromkeys(instructions)))
    return ExportOptions(
        checkpoint=checkpoint, precisions=precisions, settings=settings, explicit_ids=explicit, **given
    )


def _show(
    folder: Path | None,
    manifest: Manifest,
    seconds: Mapping[str, float],
    as_json: bool,
    shown: list[dict[str, Any]],
) -> None:
    """Print a bundle, kept or not, or add it to what is printed as JSON in the end."""
    from . import export_view

    if as_json:
        shown.append(export_view.as_json(folder, manifest, seconds))
    elif folder is None:
        export_view.print_missed(manifest)
    else:
        export_view.print_exported(folder, manifest, seconds)


def _log(verbose: bool) -> None:
    """As every command logs; with -v the libraries too, which else talk a lot while they are imported."""
    import logging
    import os

    configure_logging(verbose)
    if verbose:
        logging.getLogger().setLevel(logging.INFO)
    else:
        os.environ.setdefault("TRANSFORMERS_VERBOSITY", "error")


def main() -> None:
    run_command(command)


if __name__ == "__main__":
    main()
