"""`vla-run`: actions for images."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from .console import run_command, stderr_console, verbose_option
from .errors import ImageError, InputError
from .frames import images_in
from .json_text import json_text
from .terminal import printable
from .version import VERSION

if TYPE_CHECKING:
    from .action import Action
    from .policy import Policy

VIDEO_SUFFIXES = frozenset({".avi", ".m4v", ".mkv", ".mov", ".mp4", ".webm"})


@click.command(context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110})
@click.argument("bundle", type=click.Path(path_type=Path))
@click.argument("images", nargs=-1, required=True, type=click.Path(exists=True, path_type=Path))
@click.option("--instruction", metavar="TEXT", help="What to do; the bundle's default if not given.")
@click.option(
    "--backend",
    type=click.Choice(["auto", "onnxruntime", "tensorrt", "tensorrt-rtx"]),
    default="auto",
    show_default=True,
    help="Engine. auto: TensorRT where the bundle has a plan, else ONNX Runtime on the CPU.",
)
@click.option("--provider", type=click.Choice(["cpu", "cuda"]), help="Device of ONNX Runtime. [default: cpu]")
@click.option(
    "--threads", type=click.IntRange(min=1), help="Threads of ONNX Runtime. [default: the usable cores]"
)
@click.option("--device", type=click.IntRange(0), help="CUDA's index of the GPU. [default: 0]")
@click.option(
    "--memory",
    type=click.Choice(["cuda-bindings", "pycuda"]),
    help="Package for TensorRT's device memory. [default: cuda-bindings]",
)
@click.option(
    "--verify",
    type=click.Choice(["full", "size"]),
    default="full",
    show_default=True,
    help="Check hashes of the bundle's files, or their sizes only.",
)
@click.option(
    "--reset-each/--sequence",
    default=True,
    show_default=True,
    help="Each image is an episode of its own, or they are successive frames of one: only then does a policy "
    "carry its state (or hold its first action) from image to image.",
)
@click.option("--strict", is_flag=True, help="Stop at the first image that cannot be used.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object a line and image.")
@verbose_option
@click.version_option(VERSION, prog_name="vla-run")
def command(
    bundle: Path,
    images: tuple[Path, ...],
    instruction: str | None,
    reset_each: bool,
    strict: bool,
    as_json: bool,
    backend: str,
    verify: str,
    provider: str | None,
    threads: int | None,
    device: int | None,
    memory: str | None,
) -> int:
    """Print the actions of the policy in BUNDLE for IMAGES.

    IMAGES are image files, or folders of them (sorted as people count: frame2 before frame10). Split a video
    into frames first: ffmpeg -i drive.mp4 frames/%05d.png

    Exit code 1 if an image could not be used, 2 for a bad bundle, instruction or option.

    \b
    Examples:
      vla-run engines/hybrid-fp16 photo.jpg
      vla-run engines/hybrid-fp16 frames/ --sequence --instruction "컵까지 가세요"
      vla-run engines/pure-fp16 frames/ --json > actions.jsonl
    """
    paths = list_images(images)
    asked = {"provider": provider, "threads": threads, "device_index": device, "memory": memory}
    options = {name: value for name, value in asked.items() if value is not None}
    with _loaded(bundle, backend, verify, options) as policy:
        results = run_images(policy, paths, instruction, reset_each=reset_each, strict=strict)
        failures = _print_json(results) if as_json else _print_table(results, policy)
    return 1 if failures else 0


def list_images(arguments: Sequence[Path]) -> list[Path]:
    """The image files that are meant, folders replaced by what they hold.

    Raises:
        InputError: a folder without images, or a video.
    """
    found: list[Path] = []
    for path in arguments:
        if path.is_dir():
            found += images_in(path)
        elif path.suffix.lower() in VIDEO_SUFFIXES:
            raise InputError(f"{path} is a video.", f"Split it into frames: ffmpeg -i {path} frames/%05d.png")
        else:
            found.append(path)
    return found


def run_images(
    policy: Policy, paths: Sequence[Path], instruction: str | None, *, reset_each: bool, strict: bool
) -> Iterator[tuple[Path, Action | ImageError]]:
    """The action for each image, or with `strict` off the reason why there is none.

    Raises:
        VlaError: whatever `Policy.act` raises, except an ImageError where `strict` is off.
    """
    for path in paths:
        if reset_each:
            policy.reset()
        try:
            yield path, policy.act(path, instruction)
        except ImageError as error:
            if strict:
                raise
            yield path, error


@contextlib.contextmanager
def _loaded(bundle: Path, backend: str, verify: str, options: dict[str, Any]) -> Iterator[Policy]:
    from .policy import Policy

    with stderr_console().status(f"checking and loading {bundle}"):
        policy = Policy.load(bundle, backend, verify, **options)  # type: ignore[arg-type]
    with policy:
        policy.warmup(1)
        yield policy


def _print_json(results: Iterator[tuple[Path, Action | ImageError]]) -> int:
    failures = 0
    for path, result in results:
        if isinstance(result, ImageError):
            failures += 1
            fields = {"error": result.problem, "mend": result.mend}
        else:
            fields = result.as_dict()
        click.echo(json_text({"image": str(path), **fields}, indent=None))
    return failures


def _print_table(results: Iterator[tuple[Path, Action | ImageError]], policy: Policy) -> int:
    """One row an image as it comes; aligned columns that read the same on a terminal and in a file."""
    from rich.console import Console
    from rich.markup import escape

    console = Console(soft_wrap=True, highlight=False)
    names = policy.manifest.action.names
    console.print(escape(f"{policy.identity}; {policy.identity.compute}"))
    heads = escape("".join(f"{f'{printable(name)} m/s':>15}" for name in names))
    console.print(f"[bold]{heads}{'clamped':>9}{'ms':>9}  image[/bold]")
    failures = 0
    for path, result in results:
        if isinstance(result, ImageError):
            failures += 1
            console.print(f"[red]error: {escape(result.problem)}[/red] {escape(result.mend)}")
            continue
        cells = "".join(f"{value:>+15.4f}" for value in result.values)
        marks = f"{'yes' if result.clamped else 'no':>9}{result.timings_ms['total']:>9.1f}"
        console.print(f"{cells}{marks}  {escape(printable(str(path)))}{' (held)' if result.held else ''}")
    return failures


def main() -> None:
    """Entry point of `vla-run`."""
    run_command(command)


if __name__ == "__main__":
    main()
