"""The episodes of a path: opened one after another, the broken ones kept by name."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from vla_edge.runtime.errors import EpisodeError, ImageError

from .episode import Episode

Broken = EpisodeError | ImageError


@dataclass(frozen=True)
class Source:
    """An episode that is not opened yet.

    Attributes:
        name: unique among the sources of a path.
        open: opens it; raises EpisodeError or ImageError where it is broken.
    """

    name: str
    open: Callable[[], Episode]


class Episodes:
    """What `open_episodes` found. Iterating opens one episode at a time; it may be done again.

    Args:
        path: that was asked for.
        kind: of the recordings, such as "HDF5".
        sources: in order.
        skip_broken: whether an episode that cannot be read is passed over.

    Attributes:
        broken: why, by name, of the episodes that were passed over so far.
    """

    def __init__(self, path: Path, kind: str, sources: Sequence[Source], skip_broken: bool) -> None:
        self.path, self.kind = path, kind
        self._sources = tuple(sources)
        self._skip_broken = skip_broken
        self.broken: dict[str, Broken] = {}

    def __len__(self) -> int:
        """How many there are, broken ones included."""
        return len(self._sources)

    @property
    def names(self) -> tuple[str, ...]:
        """Of all, in order, broken ones included."""
        return tuple(source.name for source in self._sources)

    def __iter__(self) -> Iterator[Episode]:
        """The episodes in order.

        Raises:
            EpisodeError, ImageError: one cannot be opened, and is not to be passed over.
        """
        for source in self._sources:
            try:
                episode = source.open()
            except (EpisodeError, ImageError) as error:
                self.pass_over(source.name, error)
                continue
            yield episode

    def opened(self) -> Iterator[tuple[str, Callable[[], Episode]]]:
        """Each episode's name, and what opens it: for who goes on behind a broken one by himself."""
        for source in self._sources:
            yield source.name, source.open

    def pass_over(self, name: str, error: Broken) -> None:
        """Keep an episode among the broken ones; also for whoever meets a damaged frame in the middle of one.

        Raises:
            EpisodeError, ImageError: `error`, where nothing is to be passed over.
        """
        if not self._skip_broken:
            raise error
        self.broken[name] = error
