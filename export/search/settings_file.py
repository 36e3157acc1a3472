"""The settings file for `vla-export --settings` that a search ends in."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from vla_edge.export.settings.given import found_text
from vla_edge.runtime.errors import InputError
from vla_edge.runtime.files.atomic import write_atomically
from vla_edge.runtime.printable import one_line
from vla_edge.runtime.version import VERSION

from .combinations import plain
from .drive import companions
from .search import Outcome


def evidence(outcome: Outcome) -> str:
    """Why the settings that are settled are what they are: their standing in a manifest."""
    verdict, name = outcome.verdict, one_line(outcome.checkpoint.path.name)[:120]
    what = f"val_mae {outcome.val_mae:.6g} of {name} ({outcome.sha256[:12]})"
    count = outcome.recordings.in_words()
    chance = f"chance would bring {verdict.by_chance:.2g} as near"
    if verdict.kind == "found":
        best = verdict.fits[0]
        after = f", the next by {verdict.next_distance:.1e}" if verdict.next_distance is not None else ""
        return f"exact: gives {what} on {count}, off by {best.distance:.1e}{after}; {chance}"
    if outcome.validated == "fifth":
        what = f"may give {what} on a fifth of {count}"
    else:
        what = f"give {what} on {count}, where {chance}"
    if verdict.count == 1:
        return f"likely: the one combination of {len(outcome.space)} to {what}"
    return f"likely: the same in all {verdict.count} combinations that {what}"


def text_of(outcome: Outcome, take: int | None = None) -> str | None:
    """The file's text; None where nothing was settled, or chance explains it.

    Args:
        outcome: of the search.
        take: number of a combination among those that fit, from 1, to write whole; None writes what all have in
            common.

    Raises:
        InputError: there are not so many.
    """
    agreement, verdict = outcome.agreement, outcome.verdict
    if verdict.kind == "none" or (outcome.is_by_chance and take is None):
        return None
    settings, why = agreement.settled, evidence(outcome)
    if take is not None and verdict.kind == "several":
        settings, why = _taken(outcome, take)
    if not settings:
        return None
    remarks = [
        f"Written by vla-settings {VERSION}.",
        f"Use: vla-export --ckpt {one_line(outcome.checkpoint.path.name)} --settings THIS_FILE",
        f"{len(outcome.space)} combinations on {outcome.recordings.in_words()}; "
        f"{verdict.by_chance:.2g} wrong ones would come as near as the best by chance.",
    ]
    if left := [name for name in agreement.open if name not in settings]:
        remarks.append(f"Not settled, so not here: {', '.join(left)}.")
    return found_text(settings, why, "\n".join(remarks), agreement.assumed)


def _taken(outcome: Outcome, take: int) -> tuple[dict[str, Any], str]:
    """All settings of one of the combinations that fit, and their standing."""
    fits = outcome.verdict.fits
    if take > len(fits):
        raise InputError(f"--take {take}: {len(fits)} combinations are listed.", "Take one of them.")
    fit = fits[take - 1]
    values = plain(outcome.space[fit.at])
    names = [*outcome.agreement.settled, *outcome.agreement.open]
    axes = outcome.checkpoint.family.search().axes(outcome.checkpoint.architecture)
    beside = companions(axes, names, [outcome.space[fit.at]])
    why = f"{evidence(outcome)}; chosen: number {take}, off by {fit.distance:.1e}"
    return {name: values[name] for name in names} | beside, why.replace("the same in all", "one of", 1)


def write(path: Path, text: str, replace: bool) -> None:
    """Write the file as a whole.

    Raises:
        InputError: it is there and not to be replaced, or cannot be written.
    """
    try:
        write_atomically(path, lambda file: file.write(text.encode()), replace)
    except FileExistsError as error:
        raise InputError(f"{path} exists.", "Give another -o, or --force to replace it.") from error
    except OSError as error:
        raise InputError(
            f"{path} cannot be written: {error.strerror}.", "Give another place with -o."
        ) from error
