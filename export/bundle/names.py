"""What a bundle is called: visible, one folder, and safe to print."""

from __future__ import annotations

from pathlib import Path

from vla_edge.runtime.errors import InputError

_HINT = "Give a --name such as kitchen-epoch-10: it becomes the name of one folder inside -o."


def bundle_stem(checkpoint: Path, name: str | None = None) -> str:
    """The bundle's name without its precision.

    By default the checkpoint's, without the dots that would hide it (`.best.pth` gives "best"), and with "_"
    for characters that no terminal shows.

    Args:
        checkpoint: the file.
        name: what the user asks for.

    Raises:
        InputError: the name asked for is no plain, visible name of a folder.
    """
    if name is not None:
        _refuse_unfit(name)
        return name
    shown = "".join(letter if letter.isprintable() else "_" for letter in checkpoint.stem)
    return shown.lstrip(". ") or "policy"


def _refuse_unfit(name: str) -> None:
    if not name.isprintable():
        raise InputError(f"the name {name!a} holds a character that cannot be shown.", _HINT)
    if "/" in name or "\\" in name:
        raise InputError(f"the name {name!r} is a path.", f"{_HINT} Choose the folder with -o.")
    if name != name.strip() or not name:
        raise InputError(f"the name {name!r} is empty, or begins or ends with a space.", _HINT)
    if name.startswith("."):
        raise InputError(f"the name {name!r} begins with a dot, so that the bundle would be hidden.", _HINT)
