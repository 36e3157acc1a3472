"""`vla-doctor`: what would stop a policy on this machine, and what to do."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import click

from vla_edge.runtime.command.console import COMMAND_SETTINGS, run_command, verbose_option
from vla_edge.runtime.command.json_text import json_text
from vla_edge.runtime.version import VERSION

if TYPE_CHECKING:
    from .examination import Patient

STOPPED = 1


@click.command(context_settings=COMMAND_SETTINGS)
@click.argument("bundle", type=click.Path(path_type=Path), required=False)
@click.option("--clean", is_flag=True, help="Remove what killed builds and exports left, of this user only.")
@click.option("--no-samples", is_flag=True, help="Do not run BUNDLE's golden samples.")
@click.option(
    "--running",
    is_flag=True,
    help="A policy runs here: ask for no memory for another, run no golden samples.",
)
@click.option(
    "--time-limit",
    "time_limit_s",
    type=click.FloatRange(1, 86_400),
    default=300,
    show_default=True,
    metavar="SECONDS",
    help="For the golden samples.",
)
@click.option("--json", "as_json", is_flag=True, help="Print JSON instead.")
@verbose_option
@click.version_option(VERSION)
def doctor(
    bundle: Path | None, clean: bool, no_samples: bool, running: bool, time_limit_s: float, as_json: bool
) -> int:
    """Say whether this machine can run a policy, what stops it, and what to do.

    Looks at Python, JetPack, GPU, driver, engines, memory, disk, power, clocks, a desktop and what killed
    commands left, each for a few seconds at most. With BUNDLE: its files by their hashes, every plan of it
    with its parts, what running takes of the memory that is free, and its golden samples on the engine that
    a policy would get here; do that while no policy runs. Changes nothing without --clean. Needs no torch.

    What killed commands left is looked for in the current folder, its engines/ and report/, the folder for
    temporary files, and with BUNDLE around it.

    Exit codes: 0 nothing stops a policy, though there may be warnings; 1 something does; 2 no bundle there.

    \b
    Examples:
      vla-doctor
      vla-doctor engines/policy-fp16
      vla-doctor engines/policy-fp16 --no-samples
      vla-doctor --clean
      vla-doctor --json | jq -r '.findings[] | select(.verdict != "ok") | .todo'
    """
    from .examination import examine
    from .view import as_json as to_json
    from .view import print_diagnosis

    patient = replace(_patient(bundle), running=running)
    diagnosis = examine(patient, clean=clean, samples=not no_samples, time_limit_s=time_limit_s)
    if as_json:
        click.echo(json_text(to_json(diagnosis)))
    else:
        print_diagnosis(diagnosis)
    return STOPPED if diagnosis.of("stops") else 0


def _patient(path: Path | None) -> Patient:
    """The bundle that is asked for, sound or not.

    Raises:
        InputError: there is none, or there are several.
    """
    from vla_edge.runtime.bundle.bundle import Bundle, find_bundles
    from vla_edge.runtime.bundle.finding import CURRENT, deployed_links
    from vla_edge.runtime.bundle.manifest import MANIFEST_NAME
    from vla_edge.runtime.errors import BundleError, InputError

    from .examination import Patient

    if path is None:
        return Patient()
    folder = path.parent if path.name == MANIFEST_NAME and not path.is_dir() else path
    try:
        manifest = Bundle.unchecked(folder).manifest
    except BundleError:
        if (folder / MANIFEST_NAME).exists():  # damaged: the diagnosis says how
            return Patient(folder, folder.name)
        found = find_bundles(folder) if folder.is_dir() else []
        if found and CURRENT in deployed_links(folder):
            found = [folder / CURRENT, *found]  # of a robot's folder, the one that runs
        if found:
            names = " or ".join(str(each) for each in found[:5])
            raise InputError(f"{folder} is a folder of bundles.", f"Give one: {names}.") from None
        raise
    size = sum(entry.size_bytes for entry in manifest.files)
    return Patient(folder, manifest.name, size)


def main() -> None:
    run_command(doctor)


if __name__ == "__main__":
    main()
