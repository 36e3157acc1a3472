"""Where bundles are, and what to say where none is."""

from __future__ import annotations

import os
import shlex
from pathlib import Path

from vla_edge.runtime.errors import BundleError
from vla_edge.runtime.files.staging import OLD_SUFFIX, PARTIAL_SUFFIX, target_of

from .manifest import MANIFEST_NAME

CHECKPOINT_SUFFIXES = (".pth", ".pt", ".ckpt", ".bin", ".safetensors")
# The links of a robot's folder of bundles: to the one that runs, and to the one before.
CURRENT, PREVIOUS = "current", "previous"
_NAMED = 3  # of what lies in a folder
_COMPARED = 1000  # names beside a wrong one


def find_bundles(folder: str | os.PathLike[str]) -> list[Path]:
    """Every bundle in a folder: the folder itself, or those one level down, sorted by name.

    Folders that an export has not finished (named `.*` or `*.partial`) are left out, and links such as `current`
    to another one here: a bundle is found once. One that must not be looked into stays in: it may be a bundle, and
    opening it tells.

    Raises:
        BundleError: there is no such folder, or it cannot be read.
    """
    root = Path(folder)
    try:
        if not root.is_dir():
            raise BundleError(f"{root} is not a folder.", "Give a bundle, or a folder that holds bundles.")
        if _may_be_bundle(root) and not _is_unfinished(root.absolute()):
            return [root]
        real = os.path.realpath(root)
        children = [
            child
            for child in root.iterdir()
            if not _is_unfinished(child)
            and not (child.is_symlink() and os.path.dirname(os.path.realpath(child)) == real)
        ]
    except OSError as error:
        raise BundleError(f"{root} cannot be read: {error.strerror}.", "Check its permissions.") from error
    return sorted(filter(_may_be_bundle, children))


def deployed_links(folder: Path) -> dict[str, str]:
    """Which bundle of a robot's folder is "current" and which "previous": link by link the name of its folder.

    A link that leads elsewhere, or nowhere, is left out.
    """
    real = os.path.realpath(folder)
    targets = {link: os.path.realpath(folder / link) for link in (CURRENT, PREVIOUS)}
    return {
        link: os.path.basename(target)
        for link, target in targets.items()
        if (folder / link).is_symlink() and os.path.dirname(target) == real and os.path.isdir(target)
    }


def _may_be_bundle(folder: Path) -> bool:
    """Whether there is a manifest, or a folder that must not be searched for one: who opens it says so."""
    try:
        return (folder / MANIFEST_NAME).is_file()
    except OSError:
        return folder.is_dir()


def no_bundle(root: Path) -> BundleError:
    """The error for a path without a manifest; its hint names what lies there or beside it."""
    hint = "Give a folder that vla-export wrote."
    parent = root.parent
    try:
        siblings = sorted(child.name for child in parent.iterdir())
    except OSError:  # not there, or not to be listed: it would only have helped the message
        siblings = []
    earlier = [name for name in siblings if target_of(parent / name, OLD_SUFFIX) == root]
    if earlier and not root.exists():
        hint = f"An export that should replace it was killed; bring it back: mv {parent / earlier[0]} {root}"
        return BundleError(f"{root} does not exist.", hint)
    partial = [name for name in siblings if name.endswith(PARTIAL_SUFFIX) and root.name in name]
    if partial or root.name.endswith(PARTIAL_SUFFIX):
        unfinished = partial[0] if partial else root.name
        hint = f"{parent / unfinished} is left of an interrupted export: delete it and export again."
    if root.is_dir():
        return BundleError(f"{root} is not a bundle: it has no {MANIFEST_NAME}.", _lies_there(root) or hint)
    if root.is_file():
        return BundleError(f"{root} is not a folder.", _made_of(root) or hint)
    if root.exists():
        return BundleError(f"{root} is not a folder.", hint)
    return BundleError(f"{root} does not exist.", hint if partial else _meant(root, siblings) or hint)


def _meant(root: Path, siblings: list[str]) -> str:
    """The bundles beside it whose names are near, such as those that only add `-fp16`; empty where there are none."""
    from difflib import get_close_matches  # for a wrong name alone

    whole = [name for name in siblings[:_COMPARED] if not _is_unfinished(Path(name))]
    near = [name for name in whole if name.startswith(root.name)][:_NAMED]
    near += get_close_matches(root.name, whole, _NAMED)
    found = [root.parent / name for name in dict.fromkeys(near) if _may_be_bundle(root.parent / name)]
    return f"Did you mean {' or '.join(map(str, found[:_NAMED]))}?" if found else ""


def _made_of(file: Path) -> str:
    """What makes a bundle of a checkpoint or of a packed bundle; empty for any other file."""
    name = shlex.quote(str(file))
    if file.suffix.lower() in CHECKPOINT_SUFFIXES:
        return f"It looks like a checkpoint; a bundle of it: vla-export --ckpt {name}"
    if file.suffix.lower() == ".vla":
        return f"It looks like a packed bundle; on the robot: vla-bundle deploy {name} FOLDER"
    return ""


def _lies_there(folder: Path) -> str:
    """What to give in place of a folder that holds bundles or checkpoints; empty where it holds neither."""
    try:
        bundles = find_bundles(folder)
        checkpoints = sorted(path for path in folder.iterdir() if path.suffix.lower() in CHECKPOINT_SUFFIXES)
    except (BundleError, OSError):  # it would only have helped the message
        return ""
    found = bundles or checkpoints
    if not found:
        return ""
    more = f" and {len(found) - _NAMED} more" if len(found) > _NAMED else ""
    names = f"{', '.join(map(str, found[:_NAMED]))}{more}"
    if not bundles:
        export = f"vla-export --ckpt {shlex.quote(str(found[0]))}"
        return f"It holds checkpoints, to look at with vla-inspect: {names}. Export one: {export}"
    return f"Give {'the bundle' if len(found) == 1 else 'one of the bundles'} in it: {names}."


def _is_unfinished(folder: Path) -> bool:
    return folder.name.startswith(".") or folder.name.endswith(PARTIAL_SUFFIX)
