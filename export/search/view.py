"""How the outcome of a search looks: the answer first, at 80 columns."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from rich.console import Console

from vla_edge.export.screen.screen import as_text, escape, one_line, plain_table, prose, result_console, say

from .combinations import changes, plain
from .search import Outcome
from .settings_file import evidence
from .verdict import Fit

SHOWN = 8  # of the combinations that fit, or come nearest
_VALUES = 4  # of a setting that is open


def print_outcome(outcome: Outcome, written: Path | None, limited: bool = False) -> None:
    """Print the verdict and what it rests on.

    Args:
        outcome: of the search.
        written: the settings file, if there is one.
        limited: whether some episodes were left out beforehand, so that none was to be written.
    """
    console = result_console(80)
    say(console, f"[bold]{escape(headline(outcome))}[/]")
    for line in _basis(outcome):
        prose(console, f"  {escape(line)}")
    if outcome.agreement.settled:
        _settled(console, outcome)
    if outcome.agreement.open:
        _open(console, outcome)
    if outcome.verdict.kind != "found":
        _fits(console, outcome)
    console.print()
    if outcome.verdict.kind == "several" and not limited:
        for line in _which_one(outcome):
            prose(console, line)
    if written:
        path = one_line(written)
        say(
            console,
            f"{path}  written: vla-export --ckpt {one_line(outcome.checkpoint.path)} --settings {path}",
        )
    else:
        prose(console, _what_next(outcome, limited))


def headline(outcome: Outcome) -> str:
    """The verdict in a line."""
    verdict, tried = outcome.verdict, f"{len(outcome.space):,}"
    if verdict.kind == "found":
        return f"found: one of {tried} combinations gives val_mae {outcome.val_mae:.6g}"
    if verdict.kind == "none":
        return f"none fits: no one of {tried} combinations gives val_mae {outcome.val_mae:.6g}"
    if outcome.validated == "fifth":
        return f"several fit: of {verdict.count:,} of {tried} combinations a fifth may give {outcome.val_mae:.6g}"
    if outcome.is_by_chance:
        return f"several fit, as by chance: {verdict.count:,} of {tried} give val_mae {outcome.val_mae:.6g}"
    if verdict.count == 1:
        return f"one fits, not for sure: of {tried} combinations, with val_mae {outcome.val_mae:.6g}"
    return f"several fit: {verdict.count:,} of {tried} combinations give val_mae {outcome.val_mae:.6g}"


def _basis(outcome: Outcome) -> list[str]:
    verdict, best = outcome.verdict, outcome.verdict.fits[0]
    lines = [
        f"nearest {best.mae:.6f}, off by {best.distance:.1e}, over {best.protocol.in_words()}",
        f"{outcome.recordings.in_words()}, batches of {outcome.batch_size}",
    ]
    if outcome.validated == "fifth":
        return [
            *lines,
            "validated on an unknown fifth of them: that ranks, and does not decide",
            "share: of random fifths, those as far from all episodes' MAE as val_mae",
        ]
    if verdict.next_distance is not None:
        lines.append(f"the next is off by {verdict.next_distance:.1e}")
    if verdict.kind != "none":
        lines.append(f"by chance {verdict.by_chance:.2g} wrong ones would come as near as the nearest")
    if verdict.kind == "several" and outcome.agreement.largest is not None:
        lines.append(_apart(outcome))
    return lines


def _apart(outcome: Outcome) -> str:
    unit = outcome.checkpoint.family.surroundings(outcome.checkpoint.architecture, outcome.base).action.unit
    return (
        f"the {outcome.agreement.compared} nearest command up to {outcome.agreement.largest:.2g} {unit} "
        "apart on these frames"
    )


def _settled(console: Console, outcome: Outcome) -> None:
    default = plain(outcome.base)
    title = "found" if outcome.verdict.kind == "found" else "in all that fit"
    table = plain_table(("setting", title, "by default"))
    for name, value in outcome.agreement.settled.items():
        same = value == default[name]
        table.add_row(name, _value(value), "the same" if same else _value(default[name]))
    console.print()
    console.print(table)


def _open(console: Console, outcome: Outcome) -> None:
    table = plain_table(("not told apart", "values, the nearest's first"))
    for name, values in outcome.agreement.open.items():
        more = f" and {len(values) - _VALUES} more" if len(values) > _VALUES else ""
        table.add_row(name, ", ".join(map(_value, values[:_VALUES])) + more)
    console.print()
    console.print(table)


def _fits(console: Console, outcome: Outcome) -> None:
    is_fifth = outcome.validated == "fifth"
    titles = ("", "off by", "MAE", *(("share",) if is_fifth else ()), "other than the defaults")
    table = plain_table(titles, right=titles[:-1])
    for number, fit in enumerate(outcome.verdict.fits[:SHOWN], 1):
        share = (f"{fit.likelihood:.2f}",) if is_fifth and fit.likelihood is not None else ()
        table.add_row(str(number), f"{fit.distance:.1e}", f"{fit.mae:.6f}", *share, _told(outcome, fit))
    console.print()
    console.print(table)
    if left := len(outcome.verdict.fits[SHOWN:]):
        prose(console, f"and {left:,} more with --json")


def _told(outcome: Outcome, fit: Fit) -> str:
    settings = outcome.space[fit.at]
    values = plain(settings)
    told = [f"{name}={_value(values[name])}" for name in changes(outcome.base, settings)]
    return " ".join(told) or "(the defaults)"


def _which_one(outcome: Outcome) -> list[str]:
    """How somebody who has several goes on."""
    lines = ["What you know of the training: --try NAME=VALUE, which leaves fewer."]
    if outcome.validated == "fifth":
        lines.append("If you know which episodes it was validated on: those alone, --validated-on all.")
    lines.append("To export one of these whole: --take N (with --force, where a file is there);")
    lines.append("then watch it beside what was driven before it drives: vla-replay.")
    return lines


def _what_next(outcome: Outcome, limited: bool) -> str:
    if limited and outcome.verdict.kind != "none":
        return "Nothing written: val_mae is of all episodes, and --limit left some out."
    if outcome.is_by_chance:
        return "Chance explains these: nothing written."
    if outcome.verdict.kind == "none":
        return (
            "Are these all the episodes of its validation, and no others?\n"
            "Is val_mae of these weights' epoch? Another, from a log: --val-mae NUMBER\n"
            "Other values: --try NAME=VALUE,VALUE (vla-export --list-settings)"
        )
    return "No setting is the same in all that fit: nothing to write."


def _value(value: Any) -> str:
    return one_line(as_text(value).replace('"', "").replace(", ", ","))


def as_json(outcome: Outcome, written: Path | None) -> dict[str, Any]:
    """All that was found, in JSON's own types."""
    verdict, agreement = outcome.verdict, outcome.agreement
    return {
        "verdict": verdict.kind,
        "checkpoint": {
            "file": str(outcome.checkpoint.path),
            "sha256": outcome.sha256,
            "layout": outcome.checkpoint.layout,
            "weights_origin": outcome.checkpoint.weights_origin,
        },
        "val_mae": outcome.val_mae,
        "validated_on": outcome.validated,
        "batch_size": outcome.batch_size,
        "episodes": outcome.recordings.count,
        "combinations": len(outcome.space),
        "different_errors": verdict.values,
        "protocols": [protocol.in_words() for protocol in outcome.protocols],
        "fit": verdict.count,
        "expected_by_chance": verdict.by_chance,
        "next_off_by": verdict.next_distance,
        "settled": dict(agreement.settled),
        "assumed": dict(agreement.assumed),
        "open": {name: list(values) for name, values in agreement.open.items()},
        "largest_difference": agreement.largest,
        "evidence": evidence(outcome) if verdict.kind != "none" else None,
        "fits": [_fit_json(outcome, fit) for fit in verdict.fits],
        "settings_file": str(written) if written else None,
        "device": outcome.device,
        "device_mib": outcome.device_mib,
        "seconds": dict(outcome.seconds),
    }


def _fit_json(outcome: Outcome, fit: Fit) -> Mapping[str, Any]:
    return {
        "off_by": fit.distance,
        "mae": fit.mae,
        "steps": fit.protocol.steps,
        "order": fit.protocol.order or None,
        "share_of_fifths": fit.likelihood,
        "settings": plain(outcome.space[fit.at]),
    }
