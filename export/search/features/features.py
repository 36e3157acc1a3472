"""What the backbones give for each frame: computed once, kept on disk by content, loaded a run at a time."""

from __future__ import annotations

import time
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import accumulate
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from vla_edge.export.family_search import Backbones, Need
from vla_edge.export.search.recordings import Recordings, digest
from vla_edge.runtime.errors import ResourceError

from .ahead import Opened, grouped, opened_ahead
from .kept import Arrays, KeptFile, computed_by

if TYPE_CHECKING:
    import torch

_HELD_BYTES = 2 << 30  # of features in memory; a run of 72 episodes at full size is 100 MB


@dataclass(frozen=True)
class Forecast:
    """How long the backbones take: seconds of an episode, and of those that are left, of which some may be kept."""

    of_one_s: float
    left_s: float
    left: int


@dataclass
class Features:
    """Outputs of the backbones for all episodes.

    Attributes:
        recordings: the episodes.
        backbones: compute them.
        checkpoint: names it: its hash and where in it the weights are.
        folder: of the cache; what stands in it is used only for the same checkpoint, frames and text.
        first_only: of each episode its first frame alone.
        device: of torch.
    """

    recordings: Recordings
    backbones: Backbones
    checkpoint: str
    folder: Path
    first_only: bool
    device: str
    _digests: dict[int, str] = field(default_factory=dict)
    _held: dict[str, dict[str, torch.Tensor]] = field(default_factory=dict)
    _asked: dict[str, set[str]] = field(default_factory=dict)

    def ask(self, needs: Iterable[Need]) -> None:
        """Say what will be loaded."""
        for need in needs:
            self._asked.setdefault(need.run, set()).add(need.name)

    @property
    def runs(self) -> tuple[str, ...]:
        return tuple(sorted(self._asked))

    def compute(
        self,
        advance: Callable[[int], None],
        forecast: Callable[[Forecast], None] = lambda told: None,
    ) -> None:
        """Run the backbones over what is not in the cache yet. Ended early, what was run stays there.

        Args:
            advance: called with numbers of runs of an episode that are done.
            forecast: called once, after the first episodes that were computed.
        """
        counts = [self._count(at) for at in range(self.recordings.count)]
        groups = grouped(self.recordings.instructions, counts, self.backbones.frames_at_once)
        told, left = False, set(range(self.recordings.count))
        for opened in opened_ahead(groups, self._open):
            self._digests |= {each.at: each.digest for each in opened}
            left -= {each.at for each in opened}
            for missing, group in self._by_missing(opened).items():
                advance((len(self.runs) - len(missing)) * len(group))
                if missing and not told:
                    self._warm_up(group)
                start = time.perf_counter()
                for _ in self._run(group, missing):
                    advance(len(group))
                if missing and not told:
                    # where some runs were there already, the others are taken to last as long
                    elapsed = (time.perf_counter() - start) * len(self.runs) / len(missing)
                    of_frame = elapsed / sum(counts[each.at] for each in group)
                    of_one = of_frame * sum(counts) / len(counts)
                    forecast(Forecast(of_one, of_frame * sum(counts[at] for at in left), len(left)))
                    told = True

    def load(self, need: Need) -> torch.Tensor:
        """An output for all episodes: [E, steps, width], the last frame repeated; or [E, 1, width] of first ones."""
        if need.run not in self._held:
            self._make_room()
            self._held[need.run] = self._load_run(need.run)
        return self._held[need.run][need.name]

    def _make_room(self) -> None:
        while self._held and _size(self._held.values()) > _HELD_BYTES // 2:
            del self._held[next(iter(self._held))]

    def _load_run(self, run: str) -> dict[str, torch.Tensor]:
        import torch

        steps = 1 if self.first_only else self.recordings.steps
        collected: dict[str, list[np.ndarray]] = {name: [] for name in self._asked[run]}
        for at in range(self.recordings.count):
            arrays = self._kept(at, run)
            if not self._has_all(arrays, run):  # removed, damaged or replaced meanwhile
                [(_, arrays)] = ((run, each[at]) for run, each in self._run([self._open(at)], [run]))
            for name, rows in collected.items():
                found = arrays[name]
                rows.append(np.concatenate([found, found[-1:].repeat(steps - len(found), axis=0)]))
        if any(len({each.shape for each in rows}) > 1 for rows in collected.values()):
            raise ResourceError(
                f"outputs of different widths are kept in {self.folder}: something else wrote there.",
                "Give another folder with --cache.",
            )
        return {name: torch.from_numpy(np.stack(rows)).to(self.device) for name, rows in collected.items()}

    def _count(self, at: int) -> int:
        return 1 if self.first_only else self.recordings.used[at]

    def _open(self, at: int) -> Opened:
        frames = self.recordings.frames(at, self._count(at))
        return Opened(at, frames, digest(frames))

    def _digest(self, at: int) -> str:
        if at not in self._digests:
            self._digests[at] = self._open(at).digest
        return self._digests[at]

    def _by_missing(self, opened: Sequence[Opened]) -> dict[tuple[str, ...], list[Opened]]:
        """The episodes by the runs that are not kept of them."""
        found: dict[tuple[str, ...], list[Opened]] = {}
        for each in opened:
            missing = tuple(run for run in self.runs if not self._has_all(self._kept(each.at, run), run))
            found.setdefault(missing, []).append(each)
        return found

    def _warm_up(self, group: Sequence[Opened]) -> None:
        """Load what a GPU is given at its first use, so that a forecast does not count it for every episode."""
        if self.device != "cpu":
            instruction = self.recordings.instructions[group[0].at]
            for _ in self.backbones.run(group[0].frames[:1], instruction, self._asked):
                pass

    def _run(self, group: Sequence[Opened], runs: Collection[str]) -> Iterator[tuple[str, dict[int, Arrays]]]:
        """Run some episodes of one instruction; yields each run when it is kept, and what it gave by episode."""
        if not runs:
            return
        frames = [frame for each in group for frame in each.frames]
        ends = list(accumulate(len(each.frames) for each in group))
        asked = {run: self._asked[run] for run in runs}
        instruction = self.recordings.instructions[group[0].at]
        for run, found in self.backbones.run(frames, instruction, asked):
            parts = {
                each.at: {name: values[end - len(each.frames) : end] for name, values in found.items()}
                for each, end in zip(group, ends, strict=True)
            }
            for at, arrays in parts.items():
                self._keep(at, run, arrays)
            yield run, parts

    def _keep(self, at: int, run: str, found: Arrays) -> None:
        if not self._file(at, run).write({**self._kept(at, run), **found}):  # a log says why
            raise ResourceError(
                f"what the backbones gave cannot be kept in {self.folder}: the disk is full, or not writable.",
                "Give another folder with --cache; what is kept already stays.",
            )

    def _has_all(self, arrays: Mapping[str, np.ndarray], run: str) -> bool:
        return self._asked[run] <= arrays.keys()

    def _kept(self, at: int, run: str) -> Arrays:
        return self._file(at, run).read()

    def _file(self, at: int, run: str) -> KeptFile:
        instruction = self.recordings.instructions[at]
        parts = (self.checkpoint, self._digest(at), instruction, self.backbones.text_key(instruction), run)
        return KeptFile.of(self.folder, parts, computed_by(self.device), self._count(at))


def _size(held: Iterable[Mapping[str, torch.Tensor]]) -> int:
    return sum(tensor.numel() * tensor.element_size() for each in held for tensor in each.values())
