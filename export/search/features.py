"""What the backbones give for each frame: computed once, kept on disk by content, loaded a run at a time."""

from __future__ import annotations

import hashlib
import io
import json
import time
from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from vla_edge.export.family_search import Backbones, Need
from vla_edge.runtime.errors import ResourceError
from vla_edge.runtime.files.cache_file import CacheFile

from .recordings import Recordings, digest

if TYPE_CHECKING:
    import torch

_FORMAT = 1
_HELD_BYTES = 2 << 30  # of features in memory; a run of 72 episodes at full size is 100 MB

Arrays = dict[str, np.ndarray]


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
        self, advance: Callable[[int], None], forecast: Callable[[float, int], None] = lambda s, n: None
    ) -> None:
        """Run the backbones over what is not in the cache yet. Ended early, what was run stays there.

        Args:
            advance: called after each run of an episode.
            forecast: called once, after the first episode that was computed, with the seconds that it took and
                how many may be left.
        """
        told = False
        for at in range(self.recordings.count):
            frames = self._frames(at)
            self._digests[at] = digest(frames)
            start, computed = time.perf_counter(), False
            for run in self.runs:
                if not self._is_kept(at, run):
                    self._run(at, run, frames)
                    computed = True
                advance(1)
            if computed and not told:
                forecast(time.perf_counter() - start, self.recordings.count - at - 1)
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
            if not self._has_all(arrays, run):  # removed or damaged meanwhile
                arrays = self._run(at, run, self._frames(at))
            for name, rows in collected.items():
                found = arrays[name]
                rows.append(np.concatenate([found, found[-1:].repeat(steps - len(found), axis=0)]))
        return {name: torch.from_numpy(np.stack(rows)).to(self.device) for name, rows in collected.items()}

    def _frames(self, at: int) -> list[np.ndarray]:
        return self.recordings.frames(at, 1 if self.first_only else self.recordings.used[at])

    def _digest(self, at: int) -> str:
        if at not in self._digests:
            self._digests[at] = digest(self._frames(at))
        return self._digests[at]

    def _run(self, at: int, run: str, frames: list[np.ndarray]) -> Arrays:
        names: Collection[str] = self._asked[run]
        found = self.backbones.run(frames, self.recordings.instructions[at], run, names)
        arrays = {**self._kept(at, run), **found}
        content = io.BytesIO()
        np.savez(content, **arrays)  # type: ignore[arg-type]
        file = self._file(at, run)
        file.write(content.getbuffer())
        if file.path is None or not file.path.exists():  # a log says why
            raise ResourceError(
                f"what the backbones gave cannot be kept in {self.folder}: the disk is full, or not writable.",
                "Give another folder with --cache; what is kept already stays.",
            )
        return arrays

    def _is_kept(self, at: int, run: str) -> bool:
        return self._has_all(self._kept(at, run), run)

    def _has_all(self, arrays: Mapping[str, np.ndarray], run: str) -> bool:
        return self._asked[run] <= arrays.keys()

    def _kept(self, at: int, run: str) -> Arrays:
        content = self._file(at, run).read()
        if not content:
            return {}
        # a hash stands before it, so that it is what was written here
        with np.load(io.BytesIO(content), allow_pickle=False) as arrays:
            return {name: arrays[name] for name in arrays.files}

    def _file(self, at: int, run: str) -> CacheFile:
        text = self.backbones.text_key(self.recordings.instructions[at])
        parts = [_FORMAT, self.checkpoint, self._digest(at), self.recordings.instructions[at], text, run]
        key = hashlib.sha256(json.dumps(parts).encode()).hexdigest()
        return CacheFile(self.folder / f"{key}.features", "feature cache", _made_by(self.device))


def _size(held: Iterable[Mapping[str, torch.Tensor]]) -> int:
    return sum(tensor.numel() * tensor.element_size() for each in held for tensor in each.values())


def _made_by(device: str) -> str:
    import torch

    kind = torch.device(device).type
    rounded = " in TF32" if kind == "cuda" and torch.backends.cudnn.allow_tf32 else ""
    return f"torch {torch.__version__} on {kind}{rounded}"
