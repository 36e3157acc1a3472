"""What to say where no bundle is: a newcomer names the checkpoint, or its folder, where its bundle belongs."""

from __future__ import annotations

import shlex
from pathlib import Path

from vla_edge.runtime.bundle.finding import CHECKPOINT_SUFFIXES
from vla_edge.runtime.errors import InputError
from vla_edge.runtime.printable import printable

ENGINES = Path("engines")


def no_bundles(given: Path) -> InputError:
    """The error for a path that is no bundle and holds none; its hint is the vla-export line that makes one."""
    shown = printable(str(given))
    if given.is_file():
        if given.suffix.lower() in CHECKPOINT_SUFFIXES:
            return InputError(
                f"{shown} is a checkpoint; the bench takes a bundle that was exported from it.",
                _export(given),
            )
        return InputError(f"{shown} is a file; the bench takes a bundle, which is a folder.", _export())
    if not given.is_dir():
        return InputError(f"there is no folder {shown} with bundles.", _export(into=given))
    found = _checkpoints(given)
    if found:
        return InputError(f"{shown} holds checkpoints, no bundles.", _export(found[0]))
    return InputError(f"no bundle found in {shown}.", _export(into=given))


def _export(checkpoint: Path = Path("policy.pth"), into: Path = ENGINES) -> str:
    words = (
        "vla-export",
        "--ckpt",
        str(checkpoint),
        "--fp16",
        "-o",
        f"{into}/" if into == ENGINES else str(into),
    )
    return printable(f"Make one with: {shlex.join(words)}")


def _checkpoints(folder: Path) -> list[Path]:
    files = (path for path in folder.iterdir() if path.suffix.lower() in CHECKPOINT_SUFFIXES)
    return sorted(path for path in files if path.is_file())
