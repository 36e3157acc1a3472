"""A bag of ROS 2 as an episode: one topic of images, one of velocities.

The action of a frame is the last command at or before the next frame, standing still before the first one. A
message's time is its header's stamp where that is set, else when it was recorded; where only some are stamped, and by
another clock than the recorder's, stamps cannot be compared with times of recording, and none is used.
"""

from __future__ import annotations

import statistics
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
from vla_edge.runtime.episodes.kinds import BAG_SUFFIXES, Kind, kind_of_file
from vla_edge.runtime.episodes.reading import inside, reading, require_file
from vla_edge.runtime.episodes.scenarios import told_instruction
from vla_edge.runtime.errors import EpisodeError
from vla_edge.runtime.images.order import natural_order

from .bag_file import BagFile, Topic
from .messages import COMMANDS, IMAGES, frame, stamp_ns, velocities

_NAMES, _UNITS = ("linear_x", "linear_y", "angular_z"), ("m/s", "m/s", "rad/s")
_NS = 1e9
_LAST_NS = 1 << 62  # in the year 2116; the difference of two still fits 64 bits
_SAME_CLOCK_NS = 1_000_000_000  # a message that takes longer to be recorded is of no use to a robot


class _At(NamedTuple):
    """A message: when it was recorded, its stamp if any, and where it lies or what it commands."""

    log_ns: int
    stamp_ns: int | None
    file: int
    found: Any

    def time_ns(self, by_stamp: bool) -> int:
        return self.stamp_ns if by_stamp and self.stamp_ns is not None else self.log_ns


def open_bag(
    path: Path, name: str, view: str | None, commands: str | None, with_actions: bool = True
) -> Episode:
    """The episode in a bag: a file, or the folder that rosbag2 writes.

    Args:
        path: an MCAP or SQLite file, or a folder with some, which are one recording.
        name: of the episode.
        view, commands: topics; None for the only one of their kinds.
        with_actions: whether velocities are wanted, and so have to be of one topic.

    Raises:
        EpisodeError: no images, several topics to choose from, or a file that is damaged.
    """
    files = _files(path)
    scan = _Scan()
    for number, file in enumerate(files):
        with _opened(file) as bag:
            scan.add(number, bag, file)
    chosen = _chosen(scan.topics(IMAGES), view, "images", path)
    if chosen is None:
        raise EpisodeError(f"{path} has no images.", f"Known are topics of {' and '.join(IMAGES)}.")
    spoken = scan.topics(COMMANDS) if with_actions else []
    driven = _chosen(spoken, commands, "velocities", path)
    said = scan.found[driven] if driven else []
    by_stamp = _stamps_can_be_used([*scan.found[chosen], *said])
    places = sorted(scan.found[chosen], key=lambda at: at.time_ns(by_stamp))
    count = check_frame_count(len(places), path)
    stamps_ns = np.array([at.time_ns(by_stamp) for at in places], np.int64)
    actions = _actions(said, by_stamp, stamps_ns, path) if driven else None

    def read(start: int) -> Iterator[np.ndarray]:
        yield from _frames(files, places[start:], chosen, name)

    times_s = checked_times((stamps_ns - stamps_ns[0]) / _NS, path)
    return Episode(name, path, told_instruction(path.stem), count, times_s, actions, read)


class _Scan:
    """What a bag holds: where its images lie, and its commands themselves."""

    def __init__(self) -> None:
        self.found: dict[Topic, list[_At]] = {}

    def add(self, number: int, bag: BagFile, path: Path) -> None:
        for stored in bag.messages():
            topic = stored.topic
            label = f"a message of {topic.name} in {path}"
            told_ns = stamp_ns(topic.kind, stored.data, label)
            if max(abs(stored.log_ns), abs(told_ns or 0)) >= _LAST_NS:
                raise EpisodeError(f"{label} is of no possible time.", "The bag is damaged: leave it out.")
            found = stored.place if topic.kind in IMAGES else velocities(topic.kind, stored.data, label)
            mine = self.found.setdefault(topic, [])
            mine.append(_At(stored.log_ns, told_ns, number, found))
            if topic.kind in IMAGES and len(mine) > MAX_FRAMES:
                raise EpisodeError(f"{path} has more than {MAX_FRAMES} frames.", "Split the recording.")

    def topics(self, kinds: Sequence[str]) -> list[Topic]:
        return sorted(topic for topic in self.found if topic.kind in kinds)


def _files(path: Path) -> list[Path]:
    if not path.is_dir():
        return [path]
    files = sorted((each for each in path.iterdir() if each.suffix in BAG_SUFFIXES), key=natural_order)
    if not files:
        raise EpisodeError(
            f"{path} holds no {' or '.join(BAG_SUFFIXES)}.",
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
    option = "--view TOPIC" if what == "images" else "--commands TOPIC"
    if wanted is not None:
        found = next((topic for topic in topics if topic.name == wanted), None)
        if found is None:
            raise EpisodeError(
                f"{path} has no {what} on {wanted}.", f"It has them on: {listed or 'no topic'}."
            )
        return found
    if len(topics) > 1:
        raise EpisodeError(
            f"{path} has {what} on several topics: {listed}.", f"Say which one is meant: {option}."
        )
    return topics[0] if topics else None


def _stamps_can_be_used(messages: list[_At]) -> bool:
    """Whether stamps, and times of recording where there is no stamp, are by one clock."""
    apart_ns = [at.stamp_ns - at.log_ns for at in messages if at.stamp_ns is not None]
    return len(apart_ns) in (0, len(messages)) or abs(statistics.median(apart_ns)) <= _SAME_CLOCK_NS


def _actions(driven: list[_At], by_stamp: bool, stamps_ns: np.ndarray, path: Path) -> Actions:
    driven = sorted(driven, key=lambda at: at.time_ns(by_stamp))
    times_ns = np.array([at.time_ns(by_stamp) for at in driven], np.int64)
    values = np.array([(0.0, 0.0, 0.0), *(at.found for at in driven)])
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
            yield frame(topic.kind, opened[at.file].again(at.found), label)
