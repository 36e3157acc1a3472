"""A bag of ROS 2 as an episode: one topic of images, one of velocities.

The action of a frame is the last command at or before the next frame, standing still before the first one. A
message's time is its header's stamp where that is set, else when it was recorded.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from vla_edge.runtime.episodes.episode import (
    MAX_FRAMES,
    Actions,
    Episode,
    check_frame_count,
    checked_actions,
    checked_times,
)
from vla_edge.runtime.episodes.kinds import Kind, kind_of_file
from vla_edge.runtime.episodes.reading import inside, reading, require_file
from vla_edge.runtime.episodes.scenarios import told_instruction
from vla_edge.runtime.errors import EpisodeError
from vla_edge.runtime.images.order import natural_order

from .bag_file import BagFile, Topic
from .messages import COMMANDS, IMAGES, frame, stamp_ns, velocities

_NAMES, _UNITS = ("linear_x", "linear_y", "angular_z"), ("m/s", "m/s", "rad/s")
_FILE_SUFFIXES = (".mcap", ".db3")
_NS = 1e9


class _At(NamedTuple):
    """A message by its time: in which of the bag's files, and where there."""

    time_ns: int
    file: int
    place: Any


def open_bag(path: Path, name: str, camera: str | None, commands: str | None) -> Episode:
    """The episode in a bag: a file, or the folder that rosbag2 writes.

    Args:
        path: an MCAP or SQLite file, or a folder with some, which are one recording.
        name: of the episode.
        camera, commands: topics; None for the only one of their kinds.

    Raises:
        EpisodeError: no images, several topics to choose from, or a file that is damaged.
    """
    files = _files(path)
    scan = _Scan()
    for number, file in enumerate(files):
        with _opened(file) as bag:
            scan.add(number, bag, file)
    chosen = _chosen(scan.topics(IMAGES), camera, "images", path)
    if chosen is None:
        raise EpisodeError(f"{path} has no images.", f"Known are topics of {' and '.join(IMAGES)}.")
    places = sorted(scan.found[chosen], key=lambda at: at.time_ns)
    count = check_frame_count(len(places), path)
    stamps_ns = np.array([at.time_ns for at in places], np.int64)
    driven = _chosen(scan.topics(COMMANDS), commands, "velocities", path)
    actions = _actions(scan.driven[driven], stamps_ns, path) if driven else None

    def read(start: int) -> Iterator[np.ndarray]:
        yield from _frames(files, places[start:], chosen, name)

    times_s = checked_times((stamps_ns - stamps_ns[0]) / _NS, path)
    return Episode(name, path, told_instruction(path.stem), count, times_s, actions, read)


class _Scan:
    """What a bag holds: where its images lie, and all of its commands."""

    def __init__(self) -> None:
        self.found: dict[Topic, list[_At]] = {}
        self.driven: dict[Topic, list[tuple[int, tuple[float, float, float]]]] = {}

    def add(self, number: int, bag: BagFile, path: Path) -> None:
        for stored in bag.messages():
            topic = stored.topic
            label = f"a message of {topic.name} in {path}"
            told_ns = stamp_ns(topic.kind, stored.data, label)
            time_ns = stored.log_ns if told_ns is None else told_ns
            if topic.kind in IMAGES:
                self.found.setdefault(topic, []).append(_At(time_ns, number, stored.place))
            else:
                values = velocities(topic.kind, stored.data, label)
                self.driven.setdefault(topic, []).append((time_ns, values))
            if len(self.found.get(topic, ())) > MAX_FRAMES:
                raise EpisodeError(f"{path} has more than {MAX_FRAMES} frames.", "Split the recording.")

    def topics(self, kinds: Sequence[str]) -> list[Topic]:
        return sorted(topic for topic in (*self.found, *self.driven) if topic.kind in kinds)


def _files(path: Path) -> list[Path]:
    if not path.is_dir():
        return [path]
    files = sorted((each for each in path.iterdir() if each.suffix in _FILE_SUFFIXES), key=natural_order)
    if not files:
        raise EpisodeError(
            f"{path} holds no {' or '.join(_FILE_SUFFIXES)}.",
            "If its files are packed (.zstd), unpack them first: unzstd FILE.",
        )
    return [inside(path, file) for file in files]


@contextmanager
def _opened(path: Path) -> Iterator[BagFile]:
    require_file(path)
    if kind_of_file(path) is not Kind.BAG:
        raise EpisodeError(f"{path} is no bag: it begins like none.", "Copy it again, or leave it out.")
    with reading(path, "a bag"):
        bag = _file_of(path)
        try:
            yield bag
        finally:
            bag.close()


def _file_of(path: Path) -> BagFile:
    with path.open("rb") as file:
        is_sqlite = file.read(6) == b"SQLite"
    if is_sqlite:
        from .sqlite_file import SqliteFile

        return SqliteFile(path)
    from .mcap_file import McapFile

    return McapFile(path)


def _chosen(topics: list[Topic], wanted: str | None, what: str, path: Path) -> Topic | None:
    """The topic that is meant.

    Raises:
        EpisodeError: it is not there, or several are and none was named.
    """
    listed = ", ".join(topic.name for topic in topics[:10])
    if wanted is not None:
        found = next((topic for topic in topics if topic.name == wanted), None)
        if found is None:
            raise EpisodeError(
                f"{path} has no {what} on {wanted}.", f"It has them on: {listed or 'no topic'}."
            )
        return found
    if len(topics) > 1:
        raise EpisodeError(f"{path} has {what} on several topics: {listed}.", "Say which one is meant.")
    return topics[0] if topics else None


def _actions(
    driven: list[tuple[int, tuple[float, float, float]]], stamps_ns: np.ndarray, path: Path
) -> Actions:
    driven = sorted(driven, key=lambda command: command[0])
    times_ns = np.array([time_ns for time_ns, _ in driven], np.int64)
    values = np.array([(0.0, 0.0, 0.0), *(each for _, each in driven)])
    step_ns = int(np.median(np.diff(stamps_ns))) if len(stamps_ns) > 1 else 0
    until_ns = np.append(stamps_ns[1:], stamps_ns[-1] + step_ns)
    return checked_actions(values[np.searchsorted(times_ns, until_ns, side="right")], _NAMES, _UNITS, path)


def _frames(files: list[Path], places: list[_At], topic: Topic, name: str) -> Iterator[np.ndarray]:
    with ExitStack() as stack:
        opened: dict[int, BagFile] = {}
        for count, at in enumerate(places):
            if at.file not in opened:
                opened[at.file] = stack.enter_context(_opened(files[at.file]))
            label = f"image {count} of {topic.name} in {name}"
            yield frame(topic.kind, opened[at.file].again(at.place), label)
