"""Plant a fault in a bundle's plan, and see whether the runtime refuses it in words and lives on.

    python -m vla_edge.bench.proof.refusals engines/policy-fp16

Each fault is planted in a copy of the bundle (of a plan of 3 GB, so for some seconds there must be room for
it); the bundle itself is only read. After each refusal the sound plan is loaded and run in the same process.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from functools import partial
from pathlib import Path

import click
import msgspec

from vla_edge.runtime.bundle.bundle import Bundle
from vla_edge.runtime.command.console import COMMAND_SETTINGS, run_command
from vla_edge.runtime.command.json_text import json_text
from vla_edge.runtime.engines.tensorrt.plan import PlanFile, read_record
from vla_edge.runtime.engines.tensorrt.plan_names import PLANS_FOLDER, plans_in, record_path
from vla_edge.runtime.engines.tensorrt.record import PlanRecord, encode_record
from vla_edge.runtime.engines.tensorrt.session import TensorRtSession
from vla_edge.runtime.errors import EngineError, InputError
from vla_edge.runtime.files.staging import staging_folder

CUT_BYTES = 100


def truncate(plan: Path) -> None:
    """Cut the end off, as an interrupted copy does."""
    os.truncate(plan, plan.stat().st_size - CUT_BYTES)


def flip_bit(plan: Path) -> None:
    """Change one bit in the middle."""
    with plan.open("r+b") as file:
        file.seek(plan.stat().st_size // 2)
        byte = file.read(1)[0]
        file.seek(-1, os.SEEK_CUR)
        file.write(bytes([byte ^ 1]))


def claim(plan: Path, **changes: object) -> None:
    """Let the side file name another machine, by fields of `Machine`."""
    record: PlanRecord = read_record(plan, plan.parent.parent)
    machine = msgspec.structs.replace(record.machine, **changes)
    record_path(plan).write_bytes(encode_record(msgspec.structs.replace(record, machine=machine)))


FAULTS: Mapping[str, Callable[[Path], None]] = {
    "truncated": truncate,
    "one bit flipped": flip_bit,
    "other SM": partial(claim, sm=53),
    "other TensorRT": partial(claim, version="10.0.1"),
}


@contextmanager
def planted(folder: Path, fault: Callable[[Path], None]) -> Iterator[Path]:
    """A copy of a bundle, beside it, whose plans have the fault; deleted at the end.

    Args:
        folder: the bundle; its files are shared by hard links, its plans copied.
        fault: changes one plan or its side file.

    Raises:
        InputError: the bundle has no plan.
    """
    plans = [_plan_file(folder, name) for name in plans_in(folder)]
    if not plans:
        raise InputError(f"{folder} has no plan.", f"Build one: vla-build {folder}")
    with staging_folder(folder.absolute()) as temporary:
        copy = temporary / folder.absolute().name
        ignore = shutil.ignore_patterns(PLANS_FOLDER)
        shutil.copytree(folder, copy, copy_function=os.link, ignore=ignore)
        (copy / PLANS_FOLDER).mkdir()
        for plan in plans:
            files = [plan.file(part) for part in plan.record.parts]
            for path in (*files, record_path(plan.path)):
                shutil.copyfile(path, copy / PLANS_FOLDER / path.name)
            fault(copy / PLANS_FOLDER / plan.path.name)
        yield copy


def _plan_file(folder: Path, name: str) -> PlanFile:
    path = folder / PLANS_FOLDER / name
    return PlanFile(path, read_record(path, folder), folder)


def refusals(folder: Path) -> dict[str, str]:
    """Load a copy with each fault; then the sound plan, which must still run.

    Returns:
        For each fault the words of the refusal; "" where the plan was not refused.
    """
    said: dict[str, str] = {}
    for name, fault in FAULTS.items():
        with planted(folder, fault) as copy:
            try:
                TensorRtSession(Bundle.open(copy, "size")).close()
                said[name] = ""
            except EngineError as error:
                said[name] = str(error).replace(str(copy), str(folder))
    with TensorRtSession(Bundle.open(folder, "size")) as session:
        session.run()
    return said


@click.command(context_settings=COMMAND_SETTINGS)
@click.argument("bundle", type=click.Path(path_type=Path))
def command(bundle: Path) -> int:
    """Show, as JSON, how the runtime refuses damaged copies of BUNDLE's TensorRT plan.

    Exit code 1 when one was not refused.

    \b
    Example:
      python -m vla_edge.bench.proof.refusals engines/policy-fp16
    """
    said = refusals(bundle)
    click.echo(json_text(said))
    return int(not all(said.values()))


if __name__ == "__main__":
    run_command(command)
