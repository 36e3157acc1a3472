"""What `vla-export` prints when a bundle is done, or was not kept: the answer first, then its grounds."""

from __future__ import annotations

import shlex
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from vla_edge.export.bundle import gates
from vla_edge.export.families import family_of_bundle
from vla_edge.export.family import Guess
from vla_edge.export.screen import gates as gate_view
from vla_edge.export.screen.screen import (
    as_text,
    escape,
    one_line,
    plain_table,
    prose,
    result_console,
    say,
    size,
)
from vla_edge.runtime.bundle.manifest import Manifest

ACTION = "action"
_SAMPLE = "sample: "


def print_exported(folder: Path, manifest: Manifest, seconds: Mapping[str, float]) -> None:
    """A bundle that is in its place."""
    console = result_console()
    say(console, f"[bold]{escape(str(folder))}[/]  {size(sum(entry.size_bytes for entry in manifest.files))}")
    prose(console, _answer(manifest))
    if camera := manifest.camera:
        prose(console, f"takes a camera's frames as they are: {camera}")
    if manifest.source.weights_origin.startswith(_SAMPLE):
        prose(console, f"generated weights: {one_line(manifest.source.weights_origin.removeprefix(_SAMPLE))}")
    quoted = escape(shlex.quote(str(folder)))
    say(console, f"next: vla-run {quoted} {_images(manifest)}")
    say(console, f"on the robot: vla-build {quoted}\n")
    console.print(gate_view.gate_table(gates.judgements(manifest)))
    _print_guesses(console, manifest)
    spent = ", ".join(f"{name} {value:.1f}" for name, value in seconds.items())
    prose(console, f"\nseconds: {spent}", "dim")


def print_missed(manifest: Manifest) -> None:
    """All errors of a bundle that was not kept, before stderr says so in words."""
    console = result_console()
    say(console, f"[bold red]{one_line(manifest.name)}: gates missed[/]")
    console.print(gate_view.gate_table(gates.judgements(manifest)))
    console.file.flush()  # one pipe may carry both


def as_json(folder: Path | None, manifest: Manifest, seconds: Mapping[str, float]) -> dict[str, Any]:
    """One bundle for a program; `folder` is null where it was not kept, `plan` where none was built."""
    return {
        "folder": str(folder) if folder else None,
        "plan": None,
        "passed": all(judged.passed for judged in gates.judgements(manifest)),
        "seconds": dict(seconds),
        "precision": manifest.precision,
        "camera": manifest.camera,
        "parity": manifest.parity,
        "gates": gate_view.as_json(gates.judgements(manifest)),
        "guesses": {guess.name: guess.taken for guess in family_of_bundle(manifest).guesses(manifest)},
    }


def _images(manifest: Manifest) -> str:
    batch, camera = manifest.batch, manifest.camera
    size = f", {camera.width} by {camera.height}" if camera else ""
    if batch == 1:
        return f"IMAGE{f'  ({size[2:]})' if size else ''}"
    return f"FOLDER  (its images{size}, {batch} at a time)"


def _answer(manifest: Manifest) -> str:
    """How far the action is from the reference's, as its gate judges it."""
    parity = manifest.parity
    action = next((judged for judged in gates.judgements(manifest) if judged.gate.stage == ACTION), None)
    if action is None:  # of a manifest without that gate
        found = f"{parity.max_abs:.2g} {one_line(manifest.action.unit)}"
        return f"action within {found} of {one_line(parity.reference)}, no gate"
    how = "within " if action.passed else ""
    return f"action {how}{gate_view.sentence(action)}; against {one_line(parity.reference)}, {parity.samples} images"


def _print_guesses(console: Console, manifest: Manifest) -> None:
    family = family_of_bundle(manifest)
    if found := family.guesses(manifest):
        prose(console, f"\n{_count(found)} that no checkpoint settles and no gate can see:")
        console.print(guess_table(found))
        last = found[-1]
        is_value = last.otherwise in family.settings.choices(last.name)
        example = shlex.quote(f"{last.name}={last.otherwise}") if is_value else f"{last.name}=VALUE"
        prose(console, f"Change one with --set, such as --set {escape(example)}; reasons: --list-settings.")
    if others := family.likely(manifest):
        shown = ", ".join(f"{name}={as_text(value)}" for name, value in others.items())
        prose(console, f"Likely, from the training code: {escape(shown)}.")


def guess_table(found: tuple[Guess, ...]) -> Table:
    """What was taken over what else it may be, both as `--set` takes them, and what a wrong guess does."""
    table = plain_table(("taken, or", "if the guess is wrong"))
    for guess in found:
        choices = f"{one_line(f'{guess.name}={as_text(guess.taken)}')}\n  or {one_line(guess.otherwise)}"
        table.add_row(choices, one_line(guess.if_wrong))
    return table


def _count(found: tuple[Guess, ...]) -> str:
    return "1 guess" if len(found) == 1 else f"{len(found)} guesses"
