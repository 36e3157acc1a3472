"""Episodes as the training script took them: cut or filled to its number of steps, actions in its units."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice

import numpy as np

from vla_edge.runtime.bundle.manifest import ActionSpec
from vla_edge.runtime.episodes.episode import Episode
from vla_edge.runtime.episodes.episodes import Episodes
from vla_edge.runtime.errors import EpisodeError, ImageError, InputError
from vla_edge.runtime.replay.trainer import file_orders


@dataclass(frozen=True)
class Recordings:
    """Episodes to validate on.

    Attributes:
        episodes: in the order in which they were opened.
        steps: of training.
        instructions: of each.
    """

    episodes: tuple[Episode, ...]
    steps: int
    instructions: tuple[str, ...]

    @property
    def count(self) -> int:
        return len(self.episodes)

    def in_words(self) -> str:
        return f"{self.count} episode{'s' * (self.count != 1)}"

    @property
    def used(self) -> list[int]:
        """Frames of each that the training script looked at."""
        return [min(episode.frame_count, self.steps) for episode in self.episodes]

    def valid(self) -> np.ndarray:
        """Which steps were recorded, and not filled in: bool [E, steps]."""
        return np.arange(self.steps) < np.array(self.used)[:, None]

    def targets(self, action: ActionSpec, limit: float) -> np.ndarray:
        """What was driven, in normalised units, clipped to the limit: float32 [E, steps, size].

        Raises:
            InputError: an episode without one of the components.
        """
        out = np.zeros((self.count, self.steps, len(action.names)), np.float32)
        for row, episode in zip(out, self.episodes, strict=True):
            driven = _driven(episode, action.names)[: self.steps]
            row[: len(driven)] = driven
        scaled = (out - np.array(action.offset, np.float32)) / np.array(action.scale, np.float32)
        return np.clip(scaled, -limit, limit)

    def frames(self, at: int, count: int) -> list[np.ndarray]:
        """The first frames of episode `at`, uint8 RGB [H, W, 3] each."""
        return [np.ascontiguousarray(frame) for frame in islice(self.episodes[at].frames(), count)]

    def orders(self) -> dict[str, list[int]]:
        """Orders in which the training script may have met the files: positions of `episodes`, by name."""
        return file_orders(
            [episode.name for episode in self.episodes], [episode.path for episode in self.episodes]
        )


def readable(opened: Episodes) -> Iterator[Episode]:
    """The episodes whose every frame can be read, each read once more for it; the others are kept as broken ones.

    Raises:
        EpisodeError, ImageError: one is broken, and is not to be passed over.
    """
    for episode in opened:
        try:
            for _ in episode.frames():
                pass
        except (EpisodeError, ImageError) as error:
            opened.pass_over(episode.name, error)
            continue
        yield episode


def prepared(episodes: Iterable[Episode], steps: int, otherwise: str) -> Recordings:
    """Episodes to validate on.

    Args:
        episodes: opened; frames are read when their turn comes.
        steps: of training.
        otherwise: the instruction of those that have none.

    Raises:
        InputError: there is none, or one without actions.
    """
    found = tuple(episodes)
    if not found:
        raise InputError("there are no episodes.", "Give the folder of the recorded episodes.")
    if without := [episode.name for episode in found if episode.actions is None]:
        raise InputError(
            f"episode {without[0]} has no actions.", "Leave it out: nothing can be compared with it."
        )
    return Recordings(found, steps, tuple(episode.instruction or otherwise for episode in found))


def digest(frames: Sequence[np.ndarray]) -> str:
    """A hash of what frames show."""
    found = hashlib.sha256()
    for frame in frames:
        found.update(str(frame.shape).encode())
        found.update(np.ascontiguousarray(frame).data)
    return found.hexdigest()


def _driven(episode: Episode, names: Sequence[str]) -> np.ndarray:
    """The components of its actions by these names, [T, size]."""
    if episode.actions is None:
        raise InputError(f"episode {episode.name} has no actions.", "Leave it out.")
    places: Mapping[str, int] = {name: at for at, name in enumerate(episode.actions.names)}
    if missing := [name for name in names if name not in places]:
        raise InputError(
            f"{episode.path} has no action component {missing[0]!r}; it has {', '.join(places)}.",
            'Name the policy\'s components as the episodes do: --try \'action_names=["x","y"]\'',
        )
    return episode.actions.values[:, [places[name] for name in names]].astype(np.float32)
