"""What a deploy can know before it unpacks gigabytes: is the engine here, is there room, is the file sound."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import cast

from vla_edge.export.build.memory import disk_needed, weights_bytes
from vla_edge.export.build.options import BuildOptions
from vla_edge.export.build.target import open_target
from vla_edge.export.packed.packed import Packed
from vla_edge.export.packed.room import require_room
from vla_edge.runtime.bundle.bundle import Bundle
from vla_edge.runtime.bundle.finding import find_bundles
from vla_edge.runtime.engines.registry import ENGINES, WITHOUT_PLANS
from vla_edge.runtime.engines.tensorrt.library import Backend
from vla_edge.runtime.engines.tensorrt.plan_names import PART_SUFFIX, PLANS_FOLDER
from vla_edge.runtime.errors import BundleError, EngineError
from vla_edge.runtime.files.staging import leftovers, target_of


def require_engine(backend: str, how: BuildOptions) -> None:
    """Refuse a deploy whose golden samples could not be run.

    Raises:
        EngineError: its library, the driver or the GPU is not here; with what goes without.
    """
    try:
        if backend == WITHOUT_PLANS:
            ENGINES[backend].load_library()
            return
        with open_target(cast(Backend, backend), how.device_index, how.memory, how.sm) as target:
            if target.device is None:
                raise EngineError(
                    f"The golden samples cannot run here: {target.absent}",
                    "Deploy on the machine that has this GPU.",
                )
    except EngineError as error:
        ways = (
            []
            if backend == WITHOUT_PLANS
            else [f"run it without TensorRT, slower: --backend {WITHOUT_PLANS}"]
        )
        ways.append("check only its hashes: --no-build")
        raise EngineError(error.problem, f"{error.hint} Or {', or '.join(ways)}.".strip()) from error


def require_disk(packed: Packed, root: Path, folder: Path, backend: str) -> None:
    """Refuse a new bundle that fits the disk, but not with its plan; where that can be known.

    Parts of plans that are here may be taken as hard links, and a run that was killed has left a part of the bundle.

    Raises:
        ResourceError: with what is needed and what is there.
    """
    links = any(root.glob(f"*/{PLANS_FOLDER}/*{PART_SUFFIX}"))
    resumed = any(target_of(path) == folder for path in leftovers(root))
    if backend != WITHOUT_PLANS and not links and not resumed:
        plan = disk_needed(weights_bytes(packed.manifest))
        require_room(root, packed.index.packed_bytes + plan, "the bundle and its plan")


def beside(packed: Packed, folder: Path) -> list[Bundle]:
    """Of the bundles beside a folder to be made the one that an update leaves blocks of; none where it is not there."""
    since = packed.index.since
    if since is None or not folder.parent.is_dir():
        return []
    for path in find_bundles(folder.parent):
        with suppress(BundleError):  # damaged: it would be of no use
            if Bundle.unchecked(path).manifest_sha256 == since.manifest_sha256:
                return [Bundle.open(path, "size")]
    return []


def read_all(packed: Packed, advance: Callable[[int], None]) -> None:
    """Hash every block of the file, of which nothing is to be unpacked.

    Raises:
        BundleError: it is damaged.
    """
    for number, block in enumerate(packed.index.blocks):
        if block.packed:
            packed.read(number)
            advance(block.size_bytes)
