"""What is to be built: the whole graph, or parts of it, each with its key and what it will take."""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from threading import Lock

import msgspec

from vla_edge.export.build.memory import Need, Prediction, Room, mib, warn_of_memory, weights_bytes
from vla_edge.export.build.options import BuildOptions
from vla_edge.export.build.progress import BuildProgress
from vla_edge.export.parts.choice import adopted, choose, most_parts
from vla_edge.export.parts.graph import Graph, read_graph
from vla_edge.export.parts.keys import PartKey, WeightHashes, key_of
from vla_edge.export.parts.lanes import lanes
from vla_edge.export.parts.split import PartGraph, split
from vla_edge.runtime.bundle.bundle import Bundle
from vla_edge.runtime.bundle.manifest import WEIGHTS_NAME
from vla_edge.runtime.engines.tensorrt.plan_names import part_path
from vla_edge.runtime.engines.tensorrt.record import WHOLE, Machine
from vla_edge.runtime.errors import BundleError

from .earlier import Earlier

_log = logging.getLogger(__name__)

KEY_VERSION = 1
_MIB = 1 << 20
_HASHING = "Hashing weights"
_MOST_SPLITS = 64  # of plans beside this one, that are looked at


@dataclass(frozen=True)
class Wanted:
    """One plan file to have.

    Attributes:
        name: of the part, or "whole".
        file: its name.
        graph: of the part; None for the bundle's own, as it stands.
        key: what decides its bytes; None of the whole of a graph that cannot be cut.
        weights_sha256: of its weights, or None with the key.
        weights_bytes: of its weights.
        stream: where it may run beside others.
        need: predicted for its build.
    """

    name: str
    file: str
    graph: PartGraph | None
    key: str | None
    weights_sha256: str | None
    weights_bytes: int
    stream: int
    need: Need


@dataclass(frozen=True)
class Layout:
    """What a plan is to consist of.

    Attributes:
        parts: in the order in which they run; one for the whole.
        origin: where the prediction of their memory is from.
        in_parts: the fewest parts that fit, as `--parts` counts them, where these do not and some number does.
    """

    parts: tuple[Wanted, ...]
    origin: str
    in_parts: int | None = None

    def told(self, there: Mapping[str, str]) -> Iterator[str]:
        """Of several parts, a line for each: where it is from, or what building it will take.

        Args:
            there: of those that need not be built where they are from, by their file's name.
        """
        if len(self.parts) == 1:
            return
        for part in self.parts:
            how = there.get(part.file, f"about {mib(part.need.together)} to build")
            yield f"{part.name}: {mib(part.weights_bytes)} of weights, {how}"

    def warn(self, left: Sequence[Wanted], room: Room) -> None:
        """Say where the largest of those that are left to build may not fit."""
        largest = max(left, key=lambda part: part.need.together, default=None)
        if largest is None or room.excess(largest.need) <= 0:
            return
        what = "the build" if largest.graph is None else f"the build of part {largest.name}"
        warn_of_memory(what, largest.need, room, self.origin, self.in_parts)


def layout_of(
    bundle: Bundle,
    plan: Path,
    machine: Machine,
    options: BuildOptions,
    predict: Prediction,
    room: Room,
    earlier: Earlier,
    progress: BuildProgress,
) -> Layout:
    """Choose.

    Args:
        bundle: opened with full verification. With a camera, its part is always there beside those that are chosen.
        plan: where its plan for the machine lies or will lie.
        machine: to build for.
        options: `parts`, and what keys depend on.
        predict: memory of a build.
        room: memory for it.
        earlier: plans that are here already; "auto" prefers to be cut as they are.
        progress: is told how far the weights are hashed.

    Raises:
        BundleError: the graph cannot be cut, and was asked to be.
        InputError: it cannot be cut into so many parts.
    """
    whole, auto = _whole(bundle, plan, predict), options.parts == "auto"
    try:
        cut = _Cut(bundle, whole, plan, machine, options, predict, earlier, progress)
    except BundleError as error:
        if options.parts not in ("auto", 1):
            raise
        wanted = bundle.manifest.camera or (auto and (earlier.splits or room.excess(whole.need) > 0))
        _log.log(logging.WARNING if wanted else logging.INFO, "%s It is built whole.", error.problem)
        return Layout((whole,), predict.origin)
    found = cut.reusing(earlier.splits, room) if auto else None
    if found is not None:
        return Layout(found, predict.origin)

    def excess(weights: int) -> int:
        return room.excess(predict(weights))

    choice = choose(cut.graph, options.parts, 0, excess)
    parts = cut.wanted(choice.boundaries)
    number = len(parts) - len(cut.graph.base)
    more = range(number + 1, most_parts(cut.graph) + 1) if not choice.fits else ()
    in_parts = next((number for number in more if choose(cut.graph, number, 0, excess).fits), None)
    return Layout(parts, predict.origin, in_parts)


def _whole(bundle: Bundle, plan: Path, predict: Prediction) -> Wanted:
    weights = weights_bytes(bundle.manifest)
    return Wanted(WHOLE, plan.name, None, None, None, weights, 0, predict(weights))


class _Cut:
    """A graph, its weights hashed, and what it gives where it is cut."""

    def __init__(
        self,
        bundle: Bundle,
        whole: Wanted,
        plan: Path,
        machine: Machine,
        options: BuildOptions,
        predict: Prediction,
        earlier: Earlier,
        progress: BuildProgress,
    ) -> None:
        self.graph: Graph = read_graph(bundle)
        self._whole = whole
        self._plan, self._machine, self._options = plan, machine, options
        self._predict, self._earlier = predict, earlier
        self._hashes = _hashed(self.graph, bundle, progress)

    def wanted(self, boundaries: tuple[str, ...]) -> tuple[Wanted, ...]:
        parts = split(self.graph, boundaries)
        if not boundaries:
            # Of a plain bundle that is what follows a camera in another, and has its key.
            found = key_of(parts[0], self._hashes)
            key = full_key(found, self._machine, self._options)
            return (replace(self._whole, key=key, weights_sha256=found.weights_sha256),)
        return tuple(self._wanted(part, lane) for part, lane in zip(parts, lanes(parts), strict=True))

    def _wanted(self, part: PartGraph, lane: int) -> Wanted:
        found = key_of(part, self._hashes)
        key = full_key(found, self._machine, self._options)
        return Wanted(
            name=part.name,
            file=part_path(self._plan, part.name, key).name,
            graph=part,
            key=key,
            weights_sha256=found.weights_sha256,
            weights_bytes=part.weights_bytes,
            stream=lane,
            need=self._predict(part.weights_bytes),
        )

    def reusing(self, splits: Sequence[tuple[str, ...]], room: Room) -> tuple[Wanted, ...] | None:
        """The split with the most weights in parts that are there, of those whose other parts can be built.

        Also that without any cut that a camera does not need: what follows one is the whole of a plain bundle.

        Returns:
            None where no part is there, or what is not there does not fit.
        """
        found = dict.fromkeys(cuts for split in splits for cuts in adopted(self.graph, split))
        best, most = None, 0
        for cuts in (*list(found)[:_MOST_SPLITS], self.graph.base):
            parts = self.wanted(cuts)
            there = [part for part in parts if part.key in self._earlier.parts]
            left = [part for part in parts if part.key not in self._earlier.parts]
            size = sum(part.weights_bytes for part in there)
            # one that is there needs no room
            if size > most and all(room.excess(part.need) <= 0 for part in left):
                best, most = parts, size
        return best


def _hashed(graph: Graph, bundle: Bundle, progress: BuildProgress) -> WeightHashes:
    """Seconds, on a board with gigabytes of weights."""
    progress.start(_HASHING, None, weights_bytes(bundle.manifest) // _MIB)
    done, turn = 0, Lock()

    def advance(size_bytes: int) -> None:
        nonlocal done
        with turn:
            done += size_bytes
        progress.step(_HASHING, done // _MIB)

    hashes = WeightHashes(graph, bundle.folder / WEIGHTS_NAME, advance)
    progress.finish(_HASHING)
    return hashes


def full_key(part: PartKey, machine: Machine, options: BuildOptions) -> str:
    """What decides a part's plan: its content, the library, the GPU, and the options of the builder."""
    of_machine = (machine.backend, machine.version, machine.sm, machine.gpu)
    of_builder = (options.level, options.aux_streams, options.workspace_mib, options.tf32)
    decides = (KEY_VERSION, part.content_sha256, of_machine, of_builder)
    return hashlib.sha256(msgspec.msgpack.encode(decides)).hexdigest()
